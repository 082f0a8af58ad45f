//! Which web pages may connect.

use reqwest::Method;

use crate::support::*;

#[tokio::test]
async fn a_page_of_a_foreign_origin_may_not_open_a_websocket() {
    let mut settings = test_settings();
    settings.server.cors_allowed_origins = vec!["https://chat.example.com".to_owned()];
    let node = Node::spawn(settings).await;
    let handshake = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let connect = async |origin: &str| {
        let headers: Vec<_> = handshake.into_iter().chain([("origin", origin)]).collect();
        node.request(Method::GET, "/ws?userId=ada", &headers, "").await
    };
    let refused = connect("https://evil.example.com").await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains(r#""code":"origin_not_allowed""#), "{}", refused.body);
    assert_eq!(connect("https://chat.example.com").await.status, 101);
    // A program that is no browser says no origin.
    node.join("bob").await;
}

#[tokio::test]
async fn a_page_that_is_named_may_send_a_token_and_read_why_it_was_refused() {
    let origin = "https://chat.example.com";
    let mut settings = test_settings();
    settings.server.cors_allowed_origins = vec![origin.to_owned()];
    let node = Node::spawn(settings).await;
    let headers = [("origin", origin), ("authorization", "Bearer x")];
    let answer = node.request(Method::GET, "/api/online-users", &headers, "").await;
    assert_eq!(answer.headers["access-control-allow-origin"], origin);
    assert_eq!(answer.headers["access-control-allow-credentials"], "true");
    let exposed = answer.headers["access-control-expose-headers"].to_str().expect("a text").to_lowercase();
    let mut exposed: Vec<_> = exposed.split(", ").collect();
    exposed.sort_unstable();
    assert_eq!(exposed, ["retry-after", "www-authenticate"]);
    let preflight = [
        ("origin", origin),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization"),
    ];
    let preflight = node.request(Method::OPTIONS, "/api/online-users", &preflight, "").await;
    assert_eq!(preflight.headers["access-control-allow-credentials"], "true");

    let open = Node::spawn(test_settings()).await;
    let answer = open.request(Method::GET, "/api/online-users", &headers, "").await;
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert!(!answer.headers.contains_key("access-control-allow-credentials"), "{answer:?}");
}
