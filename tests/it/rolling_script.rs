//! `scripts/rolling-restart` with commands that fail or hang. With real nodes it runs in `faults/balanced_restart.rs`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::support::*;

/// Files of one run: `$FILES` in its commands.
struct Script {
    files: PathBuf,
}

impl Script {
    fn new(test: &str) -> Script {
        let files = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rolling-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&files).expect("a folder");
        Script { files }
    }

    /// The status, what it said last, and which nodes it restarted.
    async fn run(&self, restart: &str, ready: &str, nodes: &[&str]) -> (Option<i32>, String, Vec<String>) {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rolling-restart"));
        let restart = format!(r#"echo "$1" >> "$FILES/restarted"; {restart}"#);
        command.args(["--restart", &restart, "--ready", ready, "--pause", "0", "--patience", "2"]).args(nodes);
        command.env("FILES", &self.files).kill_on_drop(true);
        let ended = tokio::time::timeout(6 * DEADLINE, command.output()).await.expect("it ends").expect("it runs");
        let said = String::from_utf8_lossy(&ended.stderr).lines().last().unwrap_or_default().to_owned();
        let restarted = std::fs::read_to_string(self.files.join("restarted")).unwrap_or_default();
        (ended.status.code(), said, restarted.lines().map(str::to_owned).collect())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.files);
    }
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_not_waited_for_for_ever() {
    let script = Script::new("silent");
    let (status, said, restarted) = script.run("true", "echo asked; sleep 1000", &["a", "b"]).await;
    assert_eq!((status, restarted), (Some(1), vec![]));
    let expected = "a is not ready, so no node was restarted. It said: asked; no answer within 2 s";
    assert!(said.ends_with(expected), "{said}");

    let silent_later = r#"[[ ! -e "$FILES/restarted" ]] || sleep 1000"#;
    let (status, said, restarted) = script.run("true", silent_later, &["a", "b"]).await;
    assert_eq!((status, restarted), (Some(1), vec!["a".to_owned()]));
    assert!(said.contains("a is not ready, 2 s after its restart. Stopped here"), "{said}");
    assert!(said.ends_with("It said: no answer within 2 s"), "{said}");
}

#[tokio::test]
async fn no_node_is_restarted_while_another_one_is_not_ready() {
    let script = Script::new("third");
    let third_fails = r#"[[ $1 != c || ! -e "$FILES/restarted" ]] || { echo gone; false; }"#;
    let (status, said, restarted) = script.run("true", third_fails, &["a", "b", "c"]).await;
    assert_eq!((status, restarted), (Some(1), vec!["a".to_owned()]));
    let expected = "c is not ready, so b was not restarted. Stopped here; ready again before: a. It said: gone";
    assert!(said.ends_with(expected), "{said}");
}

#[tokio::test]
async fn a_restart_that_fails_stops_the_rest_and_names_may_have_spaces() {
    let script = Script::new("fails");
    let (status, said, restarted) = script.run(r#"[[ $1 != b ]]"#, "true", &["node a", "b", "c"]).await;
    assert_eq!((status, restarted), (Some(1), vec!["node a".to_owned(), "b".to_owned()]));
    assert!(said.ends_with("b was not restarted. Stopped here; ready again before: node a."), "{said}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_a_node_is_restarted() {
    let script = Script::new("usage");
    for (options, nodes) in
        [("--patience 08", "a"), ("--patience 0", "a"), ("--pause x", "a"), ("--what 1", "a"), ("", "")]
    {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rolling-restart"));
        command.args(["--restart", r#"echo "$1" >> "$FILES/restarted""#, "--ready", "true"]);
        command.args(options.split_whitespace()).arg(nodes).env("FILES", &script.files).kill_on_drop(true);
        let ended = tokio::time::timeout(6 * DEADLINE, command.output()).await.expect("it ends").expect("it runs");
        assert_eq!(ended.status.code(), Some(2), "{options} {nodes:?}");
        assert!(!script.files.join("restarted").exists(), "{options} {nodes:?}");
    }
}

#[tokio::test]
async fn the_compose_file_is_found_from_any_folder() {
    let script = Script::new("folder");
    let compose = script.files.join("docker-compose");
    std::fs::write(&compose, "#!/bin/sh\npwd >> \"$FILES/folders\"\n").expect("a program");
    std::fs::set_permissions(&compose, std::fs::Permissions::from_mode(0o755)).expect("it may run");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("scripts/rolling-restart"));
    let path = format!("{}:{}", script.files.display(), std::env::var("PATH").expect("there is one"));
    command.args(["--pause", "0", "node2"]).current_dir("/").env("PATH", path).env("FILES", &script.files);
    let ended = tokio::time::timeout(6 * DEADLINE, command.kill_on_drop(true).output()).await.expect("it ends");
    assert!(ended.expect("it runs").status.success());
    let folders = std::fs::read_to_string(script.files.join("folders")).expect("it was called");
    assert_eq!(folders.lines().collect::<Vec<_>>(), [root.to_str().expect("UTF-8"); 3], "asked, restarted, asked");
}
