//! A secret in a file. It is never shown: neither is it an argument, which other users of the machine can see.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

/// A file with a token, for a task.
pub(super) struct TokenFile {
    path: PathBuf,
    /// A read that was not over in time. The next one waits for it, too: so a pipe into which nobody writes takes one thread, not
    /// one for each try.
    reading: Mutex<Option<JoinHandle<anyhow::Result<String>>>>,
}

impl TokenFile {
    /// The file at `path`.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, reading: Mutex::default() }
    }

    /// The token that is in the file now.
    ///
    /// # Errors
    /// The file cannot be read by then, or has something else.
    ///
    /// # Cancel safety
    /// The next call has the token that this one would have had.
    pub(super) async fn read_by(&self, deadline: Instant) -> anyhow::Result<String> {
        let mut reading = self.reading.lock().await;
        let task = reading.get_or_insert_with(|| {
            let path = self.path.clone();
            spawn_blocking(move || secret_in(&path, "a token"))
        });
        let read = timeout_at(deadline, task).await;
        let read = read.map_err(|_| anyhow!("cannot read {}: nothing comes", self.path.display()))?;
        *reading = None;
        read?
    }
}

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
