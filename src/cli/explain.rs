//! `rollcall explain USER`.

use std::io::Write;

use anyhow::{Context, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::answer::{self, Answer};
use super::printout;

/// Asks the node at `url` why the user is, or is not, online. Prints the answer, as JSON or for a person.
///
/// # Errors
/// The node does not answer, or refuses.
pub(crate) fn run(url: &str, user: &str, as_json: bool) -> anyhow::Result<()> {
    let path = format!("/api/users/{}/explain", utf8_percent_encode(user, NON_ALPHANUMERIC));
    let Answer { status, body } = answer::get(url, &path)?;
    let answer: Value =
        serde_json::from_str(&body).with_context(|| format!("{url} answered {status}, and no JSON: not a node"))?;
    if status != 200 {
        bail!("{url} answered {status}: {}", printout::clean(answer["message"].as_str().unwrap_or("no message")));
    }
    let text = if as_json { format!("{answer:#}\n") } else { printout::of(&answer) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
