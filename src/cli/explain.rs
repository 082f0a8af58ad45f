//! `rollcall explain USER`.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::answer::{self, Answer};
use super::printout;
use super::way::Way;

/// Asks the node at `url` why the user is, or is not, online. Shows the API key in `key_file`, if there is one. Prints the answer,
/// as JSON or for a person.
///
/// # Errors
/// The file cannot be read, or the node does not answer, or refuses.
pub(crate) fn run(url: &str, way: Way, user: &str, key_file: Option<&Path>, as_json: bool) -> anyhow::Result<()> {
    let answer = ask(url, way, user, key_file)?;
    let text = if as_json { format!("{answer:#}\n") } else { printout::of(&answer) };
    Ok(super::print(&text)?)
}

/// Asks the node at `url` about a user. Shows the API key in `key_file`, if there is one.
///
/// # Errors
/// As [`run`].
pub(super) fn ask(url: &str, way: Way, user: &str, key_file: Option<&Path>) -> anyhow::Result<Value> {
    let key = key_file.map(key_in).transpose()?;
    let path = format!("/api/users/{}/explain", utf8_percent_encode(user, NON_ALPHANUMERIC));
    let Answer { status, body } = answer::get(url, way, &path, key.as_deref())?;
    let answer: Value =
        serde_json::from_str(&body).with_context(|| format!("{url} answered {status}, and no JSON: not a node"))?;
    if status != 200 {
        bail!("{url} answered {status}: {}", printout::clean(answer["message"].as_str().unwrap_or("no message")));
    }
    Ok(answer)
}

/// The key in a file, without the end of its line. It is never shown: neither is it an argument, which other users of the machine
/// can see.
fn key_in(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let key = text.trim();
    let is_plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(is_plain, "{} must have an API key, and nothing else", path.display());
    Ok(key.to_owned())
}
