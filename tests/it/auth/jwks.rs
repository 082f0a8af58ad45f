//! Keys that come from an issuer: rotated, missing, late, and never there.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{ask, authenticate, code_of, join_with, online};
use crate::support::shared::http::upgrade_request;
use crate::support::*;

async fn status(node: &Endpoint, token: &str) -> (u16, String) {
    code_of(&ask(node, Method::GET, "/api/online-users", token).await)
}

const OK: (u16, String) = (200, String::new());

fn invalid() -> (u16, String) {
    (401, "token_invalid".to_owned())
}

fn unavailable() -> (u16, String) {
    (503, "keys_unavailable".to_owned())
}

#[tokio::test]
async fn keys_of_every_kind_are_taken_from_the_issuer() {
    let kinds = [
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
        Algorithm::RS256,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
    ];
    let keys: Vec<_> = kinds.iter().map(|kind| SigningKey::new(&format!("{kind:?}"), *kind)).collect();
    let issuer = Issuer::start(&keys.iter().collect::<Vec<_>>()).await;
    let node = Node::start_with(|settings| issuer.configure(settings)).await;
    for (kind, key) in kinds.iter().zip(&keys) {
        assert_eq!(status(&node, &key.sign(json!({"sub": "ada"}))).await, OK, "{kind:?}");
    }
    // A key stands for its own algorithm.
    let other = keys[3].sign_with(json!({"sub": "ada"}), |header| header.alg = Algorithm::PS256);
    assert_eq!(status(&node, &other).await, invalid());
    assert_eq!(issuer.n_requests(), 1);
}

#[tokio::test]
async fn keys_rotate_and_the_issuer_dies_without_anybody_noticing() {
    let (first, second) = (SigningKey::es256("first"), SigningKey::es256("second"));
    let issuer = Issuer::start(&[&first]).await;
    let node = Node::start_with(|settings| issuer.configure(settings)).await;
    let mut ada = join_with(&node, "ada", &first.sign(json!({"sub": "ada"}))).await;
    issuer.rotate(&[&first, &second]);
    // The first client with the new key makes the node ask, and waits for it.
    let welcomed = async || status(&node, &second.sign(json!({"sub": "bob"}))).await;
    eventually_eq(welcomed, OK, "the node has the new key").await;
    issuer.die();
    for key in [&first, &second] {
        assert_eq!(status(&node, &key.sign(json!({"sub": "bob"}))).await, OK);
    }
    assert_eq!(authenticate(&mut ada, &second.sign(json!({"sub": "ada"}))).await["type"], "authentication_success");
    assert_eq!(node.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_key_that_the_issuer_takes_back_is_gone() {
    let (first, second) = (SigningKey::es256("first"), SigningKey::es256("second"));
    let issuer = Issuer::start(&[&first]).await;
    let node = Node::start_with(|settings| issuer.configure(settings)).await;
    assert_eq!(status(&node, &first.sign(json!({"sub": "ada"}))).await, OK);
    issuer.rotate(&[&second]);
    let welcomed = async || status(&node, &second.sign(json!({"sub": "ada"}))).await;
    eventually_eq(welcomed, OK, "the node has the new key").await;
    assert_eq!(status(&node, &first.sign(json!({"sub": "ada"}))).await, invalid());
}

#[tokio::test]
async fn the_keys_are_fetched_from_time_to_time_without_a_client() {
    let (first, second) = (SigningKey::es256("first"), SigningKey::es256("second"));
    let issuer = Issuer::start(&[&first]).await;
    let node = Node::start_with(|settings| {
        issuer.configure(settings);
        settings.auth.jwks_refresh = Duration::from_millis(1000);
    })
    .await;
    issuer.rotate(&[&second]);
    let revoked = async || status(&node, &first.sign(json!({"sub": "ada"}))).await;
    eventually_eq(revoked, invalid(), "the node has noticed").await;
}

#[tokio::test]
async fn forged_names_of_keys_cost_the_issuer_next_to_nothing() {
    let key = SigningKey::es256("known");
    let issuer = Issuer::start(&[&key]).await;
    let node = Node::start_with(|settings| {
        issuer.configure(settings);
        settings.auth.jwks_min_interval = Duration::from_secs(3600);
        settings.auth.jwks_refresh = Duration::from_secs(7200);
    })
    .await;
    let forger = SigningKey::es256("forged");
    for number in 0..1000 {
        let forged = forger.sign_with(json!({"sub": "ada"}), |header| header.kid = Some(format!("forged-{number}")));
        assert_eq!(status(&node, &forged).await, invalid());
    }
    assert_eq!(issuer.n_requests(), 1);
    assert_eq!(status(&node, &key.sign(json!({"sub": "ada"}))).await, OK);
}

#[tokio::test]
async fn a_node_without_keys_is_not_ready_and_lets_nobody_in() {
    let key = SigningKey::es256("late");
    let issuer = Issuer::start(&[&key]).await;
    issuer.set_mood(Mood::Refuses(500, String::new()));
    let mut settings = test_settings();
    issuer.configure(&mut settings);
    settings.auth.secret = None;
    let node = Node::spawn(settings).await;
    let token = key.sign(json!({"sub": "ada"}));
    eventually(async || issuer.n_requests() > 0, "the node asks").await;
    let (ready, body) = node.get("/readyz").await;
    assert_eq!((ready, &body["code"]), (503, &json!("not_ready")));
    assert_eq!(node.get("/healthz").await.0, 200, "a restart would not help");
    assert_eq!(status(&node, &token).await, unavailable());
    let refusal = WsClient::try_connect(node.addr(), &format!("/ws?token={token}")).await.err().expect("a refusal");
    assert_eq!((refusal.status, refusal.header("retry-after")), (503, Some("1")));
    let mut client = node.ws("/ws").await;
    let answer = authenticate(&mut client, &token).await;
    assert_eq!((&answer["code"], answer["retryAfterMs"].is_u64()), (&json!("keys_unavailable"), true), "{answer}");
    issuer.set_mood(Mood::Good);
    node.wait_ready().await;
    // The socket is still there, and tries again.
    assert_eq!(authenticate(&mut client, &token).await["type"], "authentication_success");
    assert_eq!(online(&node, &token).await, NOBODY);
}

#[tokio::test]
async fn whatever_the_issuer_does_the_known_keys_go_on() {
    let (key, unknown) = (SigningKey::es256("known"), SigningKey::es256("unknown"));
    let issuer = Issuer::start(&[&key]).await;
    let elsewhere = Issuer::start(&[&unknown]).await;
    let node = Node::start_with(|settings| {
        issuer.configure(settings);
        settings.auth.jwks_timeout = Duration::from_millis(200);
        settings.auth.jwks_min_interval = Duration::from_millis(300);
    })
    .await;
    let moved = format!("Location: {}\r\n", elsewhere.url());
    for mood in [
        Mood::Silent,
        Mood::Drips,
        Mood::Endless,
        Mood::Refuses(302, moved.clone()),
        Mood::Refuses(307, moved),
        Mood::Refuses(404, String::new()),
        Mood::Says("not JSON".to_owned()),
        Mood::Says(json!({"keys": []}).to_string()),
        Mood::Says(json!({"keys": [{"kty": "oct", "kid": "unknown", "k": "c2VjcmV0"}]}).to_string()),
        // A key of 1024 bits, which can be used nowhere.
        Mood::Says(
            json!({"keys": [{"kty": "RSA", "kid": "unknown", "n": "_".repeat(170) + "8", "e": "AQAB"}]}).to_string(),
        ),
        Mood::Says(json!({"keys": vec![unknown.jwk(); 65]}).to_string()),
        Mood::Says(" ".repeat(300 * 1024)),
    ] {
        issuer.set_mood(mood.clone());
        let asked = issuer.n_requests();
        // The unknown key makes the node ask. An answer that is none leaves it open whether the key is one.
        let refused = async || {
            assert_ne!(status(&node, &unknown.sign(json!({"sub": "eve"}))).await, OK, "{mood:?}");
            issuer.n_requests() > asked
        };
        eventually(refused, &format!("the node asks while the issuer is {mood:?}")).await;
        assert_eq!(status(&node, &key.sign(json!({"sub": "ada"}))).await, OK, "{mood:?}");
    }
    assert_eq!(elsewhere.n_requests(), 0, "the node goes nowhere else");
}

#[tokio::test]
async fn a_public_key_from_the_settings_needs_no_issuer() {
    for algorithm in [Algorithm::RS256, Algorithm::ES384, Algorithm::EdDSA] {
        let key = SigningKey::new("any", algorithm);
        let node = Node::start_with(|settings| {
            settings.auth.mode = rollcall::settings::AuthMode::Jwt;
            settings.auth.public_key = Some(key.public_pem.parse().expect("a text"));
        })
        .await;
        assert_eq!(status(&node, &key.sign(json!({"sub": "ada"}))).await, OK);
        assert_eq!(status(&node, &SigningKey::new("any", algorithm).sign(json!({"sub": "ada"}))).await, invalid());
    }
}

/// A node whose issuer never answers. Each client that shows a token waits longer than a test does.
async fn node_that_waits(issuer: &Issuer, join_timeout: Duration) -> Node {
    issuer.set_mood(Mood::Silent);
    let mut settings = test_settings();
    issuer.configure(&mut settings);
    settings.auth.jwks_timeout = Duration::from_secs(60);
    settings.auth.jwks_min_interval = Duration::from_secs(61);
    settings.websocket.join_timeout = join_timeout;
    Node::spawn(settings).await
}

#[tokio::test]
async fn a_client_that_waits_for_the_issuer_is_closed_in_time_all_the_same() {
    let key = SigningKey::es256("first");
    let issuer = Issuer::start(&[&key]).await;
    let show = json!({"type": "authenticate", "token": key.sign(json!({"sub": "ada"}))});
    let node = node_that_waits(&issuer, Duration::from_millis(300)).await;
    let mut late = node.ws("/ws").await;
    late.send_json(show.clone()).await;
    assert_eq!(late.expect_close().await.0, 4401);
    let mut node = node_that_waits(&issuer, Duration::from_secs(60)).await;
    let mut patient = node.ws("/ws").await;
    patient.send_json(show).await;
    // One that shows its token in the handshake. The node has taken the connection before.
    let mut early = node.open_http().await;
    let handshake = upgrade_request(&format!("/ws?token={}", key.sign(json!({"sub": "ada"}))));
    early.write_all(handshake.as_bytes()).await.expect("the kernel takes it");
    node.drain();
    assert_eq!(patient.expect_close().await.0, 1001);
    let mut answers = String::new();
    let read = timeout(DEADLINE, early.read_to_string(&mut answers)).await;
    read.expect("an end in time").expect("the connection ends in order");
    assert!(answers.contains("HTTP/1.1 504 ") && answers.contains(r#""code":"draining""#), "{answers}");
}
