//! Who a client is: tokens, their keys, and API keys.

mod api_keys;
mod attacks;
mod commands;
mod expiry;
mod jwks;
mod places;

use reqwest::Method;
use rollcall::auth::NewApiKey;
use rollcall::settings::Settings;
use serde_json::{Value, json};

use crate::support::*;

/// What a browser's handshake has.
const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A node that takes tokens with the secret of the tests.
pub(crate) async fn secret_node() -> Node {
    Node::start_with(with_secret).await
}

/// A new API key, which the settings then list.
pub(crate) fn list_key(settings: &mut Settings, name: &str, scopes: &[&str]) -> String {
    let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let NewApiKey { key, entry } = NewApiKey::generate(name, &scopes).expect("a key");
    settings.auth.api_keys.push(entry.parse().expect("a text"));
    key
}

/// A handshake with these header lines, and what the node answers.
pub(crate) async fn handshake(node: &Endpoint, path: &str, lines: &[(&str, &str)]) -> HttpAnswer {
    let lines: Vec<_> = HANDSHAKE.iter().chain(lines).copied().collect();
    node.request(Method::GET, path, &lines, "").await
}

/// The status and the code of an answer.
fn code_of(answer: &HttpAnswer) -> (u16, String) {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    (answer.status, body["code"].as_str().unwrap_or_default().to_owned())
}

/// Asks over HTTP with this token or key.
pub(crate) async fn ask(node: &Endpoint, method: Method, path: &str, shown: &str) -> HttpAnswer {
    let authorization = format!("Bearer {shown}");
    node.request(method, path, &[("authorization", &authorization)], "").await
}

/// Who is online, for a client with this token or key.
pub(crate) async fn online(node: &Endpoint, shown: &str) -> Vec<String> {
    let answer = ask(node, Method::GET, "/api/online-users", shown).await;
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    let users = body["data"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    users.iter().map(|user| user["id"].as_str().expect("an id").to_owned()).collect()
}

/// Says who the client is.
async fn authenticate(client: &mut WsClient, token: &str) -> Value {
    client.ask(json!({"type": "authenticate", "token": token})).await
}

/// A socket that has joined as the user of this token, and has read how others are.
async fn join_with(node: &Endpoint, user: &str, token: &str) -> WsClient {
    let mut client = node.ws(&format!("/ws?userId={user}&token={token}")).await;
    client.expect_type("welcome").await;
    client.expect_type("online_users_list").await;
    client
}
