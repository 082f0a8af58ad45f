//! What the command line makes and shows: tokens, API keys, and a key for `explain`.

use std::path::PathBuf;

use super::{code_of, online};
use crate::support::*;

/// Runs a command to its end: its status, its output and what it says besides.
async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let ended = NodeProcess::try_spawn(arguments, environment).await.err().expect("it ends");
    (ended.status.code(), ended.stdout, ended.stderr)
}

const JWT: [(&str, &str); 2] = [("ROLLCALL__AUTH__MODE", "jwt"), ("ROLLCALL__AUTH__SECRET", SECRET)];

#[tokio::test]
async fn a_token_of_the_command_line_is_accepted_by_a_node_with_the_same_settings() {
    let issuer = ("ROLLCALL__AUTH__ISSUER", "https://issuer");
    let audience = ("ROLLCALL__AUTH__AUDIENCE", "rollcall,chat");
    let user = ("ROLLCALL__AUTH__CLAIM_USER", "/user/id");
    let environment: Vec<_> = JWT.into_iter().chain([issuer, audience, user]).collect();
    let node = NodeProcess::spawn(&environment).await;
    node.wait_ready().await;
    let (status, token, said) = run(&["token", "--user", "42", "--room", "general"], &environment).await;
    assert_eq!((status, &*said), (Some(0), ""));
    let mut client = node.ws(&format!("/?token={}", token.trim_end())).await;
    assert_eq!(client.next_json().await["userId"], 42);
    assert_eq!(online(&node, token.trim_end()).await, ["42"]);
    let arguments = ["token", "--user", "42", "--scope", "presence:write", "--expires-in", "60"];
    let (_, narrow, _) = run(&arguments, &environment).await;
    let answer = super::ask(&node, reqwest::Method::GET, "/api/online-users", narrow.trim_end()).await;
    assert_eq!(code_of(&answer), (403, "forbidden".to_owned()));
}

#[tokio::test]
async fn a_token_is_made_only_of_a_secret_and_of_what_there_is() {
    let refusal = async |arguments: &[&str], environment: &[(&str, &str)]| {
        let (status, output, said) = run(arguments, environment).await;
        assert_eq!((status, &*output), (Some(1), ""), "{said}");
        said
    };
    let said = refusal(&["token", "--user", "42"], &[]).await;
    assert!(said.contains("auth.secret"), "{said}");
    let said = refusal(&["token", "--user", ""], &JWT).await;
    assert!(said.contains("the user"), "{said}");
    let said = refusal(&["token", "--user", "42", "--name", &"x".repeat(3000)], &JWT).await;
    assert!(said.contains("the name: the profile must be at most"), "{said}");
    let said = refusal(&["token", "--user", "42", "--scope", "root"], &JWT).await;
    assert!(said.contains("\"root\" is no scope") && !said.contains(SECRET), "{said}");
}

/// A file with a key, removed with the value.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(name: &str, key: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::write(&path, key).expect("the file can be written");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn explain_shows_a_key_from_a_file() {
    let (status, key, said) = run(&["api-key", "--name", "backend", "--scope", "admin"], &[]).await;
    assert_eq!(status, Some(0));
    let entry = said.lines().last().expect("the entry");
    assert!(entry.starts_with("backend:admin:") && !said.contains(key.trim_end()), "{said}");
    let environment: Vec<_> = JWT.into_iter().chain([("ROLLCALL__AUTH__API_KEYS", entry)]).collect();
    let node = NodeProcess::spawn(&environment).await;
    node.wait_ready().await;
    let url = format!("http://{}", node.addr());
    let arguments = ["explain", "ada", "--url", &*url];

    // A variable that is empty counts as unset.
    for environment in [&[][..], &[("ROLLCALL_KEY_FILE", "")]] {
        let (status, _, said) = run(&arguments, environment).await;
        assert_eq!(status, Some(1));
        assert!(said.contains("answered 401: a token is needed"), "{said}");
    }
    let file = KeyFile::new("explain-key", &key);
    let with_file: Vec<_> = arguments.into_iter().chain(["--key-file", file.path()]).collect();
    let (status, explained, said) = run(&with_file, &[]).await;
    assert_eq!((status, &*said), (Some(0), ""));
    assert!(explained.contains("ada"), "{explained}");
    let (status, ..) = run(&arguments, &[("ROLLCALL_KEY_FILE", file.path())]).await;
    assert_eq!(status, Some(0));
    let empty = KeyFile::new("explain-no-key", "\n");
    let (status, _, said) = run(&arguments, &[("ROLLCALL_KEY_FILE", empty.path())]).await;
    assert_eq!(status, Some(1));
    assert!(said.contains("must have an API key"), "{said}");
}
