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
