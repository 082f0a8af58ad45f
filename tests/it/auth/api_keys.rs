//! The keys of the application's servers.

use reqwest::Method;
use serde_json::json;

use super::{ask, code_of, handshake, list_key, online};
use crate::support::*;

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn two_keys_of_one_name_hold_until_one_is_taken_out() {
    let mut settings = test_settings();
    with_secret(&mut settings);
    let old = list_key(&mut settings, "backend", &["admin"]);
    let new = list_key(&mut settings, "backend", &["admin"]);
    let node = Node::spawn(settings.clone()).await;
    node.wait_ready().await;
    for key in [&old, &new] {
        assert_eq!(ask(&node, Method::PUT, "/api/rooms/general", key).await.status, 200);
    }
    let metrics = ask(&node, Method::GET, "/metrics", &new).await.body;
    let counted = "rollcall_api_key_requests_total{key=\"backend\"} 3";
    assert!(metrics.lines().any(|line| line == counted), "no `{counted}` in {metrics}");
    node.stop().await;

    settings.auth.api_keys.remove(0);
    let node = Node::start_with(|fresh| *fresh = settings).await;
    assert_eq!(code_of(&ask(&node, Method::GET, "/api/rooms", &old).await), refused(401, "token_invalid"));
    assert_eq!(ask(&node, Method::GET, "/api/rooms", &new).await.status, 200);
}

#[tokio::test]
async fn the_metrics_have_a_scope_of_their_own() {
    let mut settings = test_settings();
    with_secret(&mut settings);
    let prometheus = list_key(&mut settings, "prometheus", &["metrics"]);
    let reader = list_key(&mut settings, "reader", &["presence:read"]);
    let node = Node::start_with(|fresh| *fresh = settings.clone()).await;
    assert_eq!(code_of(&node.get_raw("/metrics").await), refused(401, "token_missing"));
    assert_eq!(code_of(&ask(&node, Method::GET, "/metrics", "rck_forged").await), refused(401, "token_invalid"));
    assert_eq!(code_of(&ask(&node, Method::GET, "/metrics", &reader).await), refused(403, "forbidden"));
    assert_eq!(
        code_of(&ask(&node, Method::GET, "/metrics", &token_of("ada", "admin")).await),
        refused(403, "forbidden")
    );
    assert_eq!(ask(&node, Method::GET, "/metrics", &prometheus).await.status, 200);
    assert_eq!(code_of(&ask(&node, Method::GET, "/api/online-users", &prometheus).await), refused(403, "forbidden"));
    assert_eq!(online(&node, &reader).await, NOBODY);

    settings.auth.metrics = rollcall::settings::MetricsRule::Open;
    let open = Node::start_with(|fresh| *fresh = settings).await;
    assert_eq!(open.get_raw("/metrics").await.status, 200);
    assert_eq!(open.get_raw("/api/online-users").await.status, 401, "only the metrics are open");
}

#[tokio::test]
async fn a_server_has_no_socket() {
    let mut settings = test_settings();
    with_secret(&mut settings);
    let key = list_key(&mut settings, "backend", &["admin"]);
    let node = Node::start_with(|fresh| *fresh = settings).await;
    let answer = handshake(&node, &format!("/ws?userId=ada&token={key}"), &[]).await;
    assert_eq!(code_of(&answer), refused(403, "forbidden"));
    let mut client = node.ws("/ws").await;
    let answer = client.ask(json!({"type": "authenticate", "token": key})).await;
    assert_eq!((&answer["type"], &answer["code"]), (&json!("authentication_error"), &json!("forbidden")), "{answer}");
    assert_eq!(client.expect_close().await.0, 4401);
}

#[tokio::test]
async fn where_the_word_of_clients_counts_a_key_opens_the_server_api_from_elsewhere() {
    let mut settings = test_settings();
    let admin = list_key(&mut settings, "backend", &["admin"]);
    let reader = list_key(&mut settings, "reader", &["presence:read"]);
    let node = Node::start_with(|fresh| *fresh = settings).await;
    // A page on this machine passes for somebody elsewhere.
    let page = ("origin", "http://localhost:3000");
    let list = async |lines: &[(&str, &str)]| code_of(&node.request(Method::GET, "/api/rooms", lines, "").await);
    let bearer = |key: &str| format!("Bearer {key}");
    assert_eq!(list(&[]).await.0, 200, "a program on this machine needs none");
    assert_eq!(list(&[page]).await, refused(403, "loopback_only"));
    assert_eq!(list(&[page, ("authorization", &bearer(&admin))]).await.0, 200);
    assert_eq!(list(&[page, ("authorization", &bearer(&reader))]).await, refused(403, "forbidden"));
    // A wrong key never counts as none.
    assert_eq!(list(&[("authorization", "Bearer rck_wrong")]).await, refused(401, "token_invalid"));
    assert_eq!(list(&[("authorization", &bearer(&reader))]).await, refused(403, "forbidden"));
    // A key is not worse off than no key.
    assert_eq!(online(&node, &reader).await, NOBODY);
    assert_eq!(ask(&node, Method::GET, "/metrics", &reader).await.status, 200);
    // It has no socket here either.
    let key = format!("Bearer {admin}");
    assert_eq!(
        code_of(&handshake(&node, "/ws?userId=ada", &[("authorization", &key)]).await),
        refused(403, "forbidden")
    );
    assert_eq!(code_of(&handshake(&node, "/ws?token=rck_wrong", &[]).await), refused(401, "token_invalid"));
}

#[tokio::test]
async fn the_log_says_which_server_did_what() {
    let mut settings = test_settings();
    let key = list_key(&mut settings, "backend", &["admin"]);
    let entry = rollcall::auth::NewApiKey::generate("other", &["admin".to_owned()]).expect("a key").entry;
    let own = {
        // The entry is hidden in the settings, so the environment gets it from a fresh key.
        let fresh = rollcall::auth::NewApiKey::generate("backend", &["admin".to_owned()]).expect("a key");
        (fresh.key, format!("{entry},{}", fresh.entry))
    };
    drop(key);
    let node = NodeProcess::spawn(&[("ROLLCALL__AUTH__API_KEYS", &own.1)]).await;
    node.wait_ready().await;
    assert_eq!(ask(&node, Method::DELETE, "/api/users/a%0Ab/sockets", &own.0).await.status, 400);
    assert_eq!(ask(&node, Method::DELETE, "/api/users/ada/sockets", &own.0).await.status, 200);
    let line = "backend: DELETE \"/api/users/ada/sockets\" 200";
    node.expect_log(line).await;
    let log = node.stderr();
    assert!(log.contains("caller=\"backend\"") && !log.contains(&own.0), "{log}");
    assert!(log.contains("backend: DELETE \"/api/users/a%0Ab/sockets\" 400"), "{log}");
}

#[tokio::test]
async fn an_entry_that_is_none_is_refused_without_being_shown() {
    let key = rollcall::auth::NewApiKey::generate("backend", &["admin".to_owned()]).expect("a key").key;
    let ended = NodeProcess::try_spawn(&[], &[("ROLLCALL__AUTH__API_KEYS", &key)]).await.err().expect("it refuses");
    assert!(
        ended.stderr.starts_with("rollcall: auth.api_keys: entry 1 must be NAME:SCOPES:SHA256"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains(&key), "{}", ended.stderr);
}
