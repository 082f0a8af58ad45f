//! `rollcall explain USER`.

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::answer;
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
    let path = format!("/api/users/{}/explain", utf8_percent_encode(user, NON_ALPHANUMERIC));
    answer::get_json(url, &way, &path, key_file)
}
