//! `rollcall doctor`.

use std::path::Path;

use anyhow::ensure;
use serde_json::Value;

use super::explain;
use super::way::Way;

/// One line of the answer.
pub(crate) struct Line {
    /// `ok`, `warn` or `bad`.
    pub(crate) verdict: &'static str,
    /// What was looked at.
    pub(crate) about: &'static str,
    /// What was found.
    pub(crate) what: String,
}

/// Prints a line for each check.
///
/// # Errors
/// Something is bad.
pub(crate) fn run(lines: &[Line]) -> anyhow::Result<()> {
    let row =
        |Line { verdict, about, what }: &Line| format!("{verdict:<5} {about:<12} {}\n", super::printout::clean(what));
    super::print(&lines.iter().map(row).collect::<String>())?;
    let n_bad = lines.iter().filter(|line| line.verdict == "bad").count();
    ensure!(n_bad == 0, "{n_bad} of {} checks failed", lines.len());
    Ok(())
}

/// Which versions the nodes run, as the node at `url` hears. Any user will do to ask about.
pub(crate) fn versions(url: &str, way: Way, key_file: Option<&Path>, own: &str) -> Line {
    let about = "nodes";
    match explain::ask(url, way, "rollcall-doctor", key_file) {
        Ok(answer) => {
            let (verdict, what) = compare(&answer["data"]["nodes"], own);
            Line { verdict, about, what }
        }
        Err(error) => Line { verdict: "warn", about, what: format!("no node tells which versions run: {error:#}") },
    }
}

fn compare(nodes: &Value, own: &str) -> (&'static str, String) {
    let nodes = nodes.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |node: &Value, name: &str| node[name].as_str().unwrap_or("of an unknown version").to_owned();
    let silent: Vec<_> =
        nodes.iter().filter(|node| node["answered"] != true).map(|node| text(node, "nodeId")).collect();
    let other: Vec<_> = nodes
        .iter()
        .filter(|node| node["answered"] == true && node["version"] != own)
        .map(|node| format!("{} is {}", text(node, "nodeId"), text(node, "version")))
        .collect();
    if !silent.is_empty() {
        return (
            "warn",
            format!(
                "no answer from {}: dead, cut off or just shut down; their sockets go when the lease ends",
                silent.join(", ")
            ),
        );
    }
    if !other.is_empty() {
        return (
            "warn",
            format!("this program is {own}, and {}: finish the update, or roll it back", other.join(", ")),
        );
    }
    ("ok", format!("{} run {own}, and answer", nodes.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn another_version_and_a_silent_node_are_said() {
        let node =
            |id: &str, version: &str, answered: bool| json!({"nodeId": id, "version": version, "answered": answered});
        assert_eq!(compare(&json!([node("a", "1.0.0", true)]), "1.0.0").0, "ok");
        let (verdict, what) = compare(&json!([node("a", "1.0.0", true), node("b", "0.9.0", true)]), "1.0.0");
        assert!(verdict == "warn" && what.contains("b is 0.9.0"), "{what}");
        let (verdict, what) = compare(&json!([node("a", "1.0.0", true), node("b", "", false)]), "1.0.0");
        assert!(verdict == "warn" && what.contains("no answer from b"), "{what}");
    }
}
