//! A secret in a file. It is never shown: neither is it an argument, which other users of the machine can see.

use std::path::Path;

use anyhow::{Context, ensure};

/// The secret in a file, without the end of its line. `what` it is, is for people.
///
/// # Errors
/// The file cannot be read, or has something else.
pub(super) fn secret_in(path: &Path, what: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let secret = text.trim();
    let is_plain = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(is_plain, "{} must have {what}, and nothing else", path.display());
    Ok(secret.to_owned())
}
