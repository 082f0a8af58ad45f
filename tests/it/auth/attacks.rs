//! What somebody tries who has no right to it. `docs/security.md` lists these tests, each with what it is about.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value, json};

use super::{ask, authenticate, code_of, handshake, join_with, online, secret_node};
use crate::support::*;

/// Base64 as tokens have it. Source: RFC 4648 §5
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(DIGITS[(bits >> (18 - 6 * place)) as usize & 63] as char);
        }
    }
    text
}

/// A token of these texts, whatever they are, that is rightly signed with [`SECRET`].
fn signed(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message.as_bytes());
    format!("{message}.{}", base64(signature.as_ref()))
}

const HS256: &str = r#"{"alg":"HS256"}"#;
const CLAIMS: &str = r#"{"sub":"ada","exp":4000000000}"#;

/// What the node says of a token in each place: over HTTP, in a handshake, and in a message.
async fn said_of(node: &Endpoint, token: &str) -> [String; 3] {
    let http = code_of(&ask(node, Method::GET, "/api/online-users", token).await);
    let upgrade = code_of(&handshake(node, &format!("/ws?token={}", percent_encoded(token)), &[]).await);
    let mut client = node.ws("/ws").await;
    let answer = authenticate(&mut client, token).await;
    assert_eq!(http.0 == 401, upgrade.0 == 401, "{token}");
    let message = answer["code"].as_str().unwrap_or_default().to_owned();
    [http.1, upgrade.1, message]
}

/// Tries a token in each place.
async fn expect_refusal(node: &Endpoint, token: &str, code: &str) {
    assert_eq!(said_of(node, token).await, [code; 3], "{token}");
}

#[tokio::test]
async fn the_tokens_of_these_tests_are_good_until_something_is_wrong_with_them() {
    let node = secret_node().await;
    assert_eq!(said_of(&node, &signed(HS256, CLAIMS)).await, [""; 3]);
}

#[tokio::test]
async fn a_forged_token_is_refused() {
    let node = secret_node().await;
    let good = signed(HS256, CLAIMS);
    let other = encode(
        &Header::new(Algorithm::HS256),
        &json!({"sub": "ada", "exp": 4_000_000_000_u64}),
        &EncodingKey::from_secret(b"guessed"),
    );
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let (header, _) = head.split_once('.').expect("three parts");
    let swapped = format!("{header}.{}.{signature}", base64(br#"{"sub":"eve","exp":4000000000}"#));
    for token in [other.expect("a token"), swapped, head.to_owned(), format!("{head}."), format!("{good}.")] {
        expect_refusal(&node, &token, "token_invalid").await;
    }
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused() {
    let node = secret_node().await;
    for algorithm in ["none", "None", "NONE", "nOnE", ""] {
        let head =
            format!("{}.{}", base64(json!({"alg": algorithm}).to_string().as_bytes()), base64(CLAIMS.as_bytes()));
        expect_refusal(&node, &format!("{head}."), "token_invalid").await;
    }
    let no_algorithm = signed(r#"{"typ":"JWT"}"#, CLAIMS);
    expect_refusal(&node, &no_algorithm, "token_invalid").await;
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let key = SigningKey::new("key", algorithm);
        let issuer = Issuer::start(&[&key]).await;
        let from_issuer = Node::start_with(|settings| issuer.configure(settings)).await;
        let from_settings = Node::start_with(|settings| {
            settings.auth.mode = rollcall::settings::AuthMode::Jwt;
            settings.auth.public_key = Some(key.public_pem.parse().expect("a text"));
        })
        .await;
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("key".to_owned());
        let claims = json!({"sub": "ada", "exp": 4_000_000_000_u64});
        for secret in [key.public_pem.clone(), key.public_pem.trim().to_owned(), key.jwk().to_string()] {
            let confused = encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token");
            expect_refusal(&from_issuer, &confused, "token_invalid").await;
            expect_refusal(&from_settings, &confused, "token_invalid").await;
        }
        let good = key.sign(claims);
        assert_eq!(said_of(&from_issuer, &good).await, [""; 3]);
        assert_eq!(said_of(&from_settings, &good).await, [""; 3]);
    }
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let node = secret_node().await;
    for exp in [seconds_from_now(-1.0), json!(0), json!(1.5)] {
        expect_refusal(&node, &token(json!({"sub": "ada", "exp": exp})), "token_expired").await;
    }
    for exp in [json!(null), json!("4000000000"), json!(-1), json!(1e300), json!([4_000_000_000_u64])] {
        expect_refusal(&node, &signed(HS256, &json!({"sub": "ada", "exp": exp}).to_string()), "token_invalid").await;
    }
    expect_refusal(&node, &signed(HS256, r#"{"sub":"ada"}"#), "token_invalid").await;
}

#[tokio::test]
async fn a_token_before_its_time_is_refused() {
    let node = secret_node().await;
    expect_refusal(&node, &token(json!({"sub": "ada", "nbf": seconds_from_now(60.0)})), "token_invalid").await;
    assert_eq!(said_of(&node, &token(json!({"sub": "ada", "nbf": seconds_from_now(-1.0)}))).await, [""; 3]);
}

#[tokio::test]
async fn a_token_for_another_service_is_refused() {
    let node = Node::start_with(|settings| {
        with_secret(settings);
        settings.auth.audience = vec!["rollcall".to_owned()];
        settings.auth.issuer = Some("https://issuer".to_owned());
    })
    .await;
    let good = json!({"sub": "ada", "aud": "rollcall", "iss": "https://issuer"});
    assert_eq!(said_of(&node, &token(good.clone())).await, [""; 3]);
    for (name, value) in [
        ("aud", json!("other")),
        ("aud", json!(["other"])),
        ("aud", json!([])),
        ("aud", json!(null)),
        ("aud", json!({"rollcall": true})),
        ("iss", json!("https://issuer.evil.example")),
        ("iss", json!(null)),
        ("iss", json!(["https://issuer"])),
        ("iss", json!([])),
        ("iss", json!("HTTPS://ISSUER")),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        expect_refusal(&node, &token(claims), "token_invalid").await;
    }
    // Who is not the audience of a token must refuse it, also if no audience is set.
    let node = secret_node().await;
    expect_refusal(&node, &token(json!({"sub": "ada", "aud": "other"})), "token_invalid").await;
}

#[tokio::test]
async fn a_token_that_brings_its_own_key_is_refused() {
    let (ours, forger) = (SigningKey::es256("ours"), SigningKey::es256("forger"));
    let (issuer, evil) = (Issuer::start(&[&ours]).await, Issuer::start(&[&forger]).await);
    let node = Node::start_with(|settings| issuer.configure(settings)).await;
    for (kid, own_key) in [("ours", false), ("forger", false), ("ours", true)] {
        let token = forger.sign_with(json!({"sub": "ada", "iss": evil.url()}), |header| {
            header.kid = Some(kid.to_owned());
            (header.jku, header.x5u) = (Some(evil.url()), Some(evil.url()));
            header.jwk = own_key.then(|| serde_json::from_value(forger.jwk()).expect("a JWK"));
        });
        expect_refusal(&node, &token, "token_invalid").await;
    }
    assert_eq!(evil.n_requests(), 0, "the node asks nobody whom a token names");
}

#[tokio::test]
async fn the_name_of_a_key_is_only_looked_up() {
    let key = SigningKey::es256("known");
    let issuer = Issuer::start(&[&key]).await;
    let node = Node::start_with(|settings| issuer.configure(settings)).await;
    for kid in ["", "../../../../dev/null", "known' OR '1'='1", "http://127.0.0.1/", "__proto__", "known\0", "KNOWN"] {
        let token = key.sign_with(json!({"sub": "ada"}), |header| header.kid = Some(kid.to_owned()));
        expect_refusal(&node, &token, "token_invalid").await;
    }
}

#[tokio::test]
async fn an_extension_that_is_critical_is_refused() {
    let node = secret_node().await;
    for header in [r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, r#"{"alg":"HS256","crit":[]}"#] {
        expect_refusal(&node, &signed(header, CLAIMS), "token_invalid").await;
    }
}

#[tokio::test]
async fn claims_that_are_not_what_they_should_be_are_refused() {
    let node = secret_node().await;
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    for claims in [
        "",
        "null",
        "[]",
        "7",
        r#"{"exp":4000000000}"#,
        r#"{"sub":null,"exp":4000000000}"#,
        r#"{"sub":{"a":1},"exp":4000000000}"#,
        r#"{"sub":"","exp":4000000000}"#,
        r#"{"sub":"a\u0000b","exp":4000000000}"#,
        r#"{"sub":"a\nb","exp":4000000000}"#,
        r#"{"sub":"ada","exp":4000000000,"scope":{"admin":true}}"#,
        r#"{"sub":"ada","exp":4000000000,"rooms":"*"}"#,
        r#"{"sub":"ada","exp":99999999999999999999999}"#,
        // An object with two members of one name is read by others in other ways.
        r#"{"sub":"ada","exp":4000000000,"exp":4000000000}"#,
        r#"{"sub":"eve","sub":"ada","exp":4000000000}"#,
        &format!(r#"{{"sub":"ada","exp":4000000000,"deep":{deep}}}"#),
        // Nobody could join with such a profile.
        &format!(r#"{{"sub":"ada","exp":4000000000,"name":"{}"}}"#, "x".repeat(3000)),
    ] {
        expect_refusal(&node, &signed(HS256, claims), "token_invalid").await;
    }
}

#[tokio::test]
async fn a_user_cannot_act_as_another_in_any_request() {
    let node = secret_node().await;
    let mut watch = join_with(&node, "watch", &token(json!({"sub": "watch"}))).await;
    let mut bob = join_with(&node, "bob", &token(json!({"sub": "bob"}))).await;
    watch.expect_type("user_online").await;
    let eve_token = token(json!({"sub": "eve"}));
    let mut eve = join_with(&node, "eve", &eve_token).await;
    watch.expect_type("user_online").await;
    bob.fence().await;
    // Every request, with every member that could name somebody else.
    let other = json!({"userId": "bob", "user": "bob", "id": "bob", "sub": "bob", "from": "bob", "asUserId": "bob"});
    for kind in [
        "join_user",
        "join_room",
        "leave_room",
        "typing_start",
        "typing_stop",
        "set_status",
        "update_presence",
        "user_activity",
        "user_online",
        "get_devices",
        "subscribe",
        "watch",
        "unwatch",
        "pause",
        "resume",
        "leave",
    ] {
        let mut request = other.clone();
        for (name, value) in [
            ("type", json!(kind)),
            ("roomId", json!("general")),
            ("status", json!("busy")),
            ("name", json!("Spoofed")),
            ("presence", json!("none")),
            ("userIds", json!([])),
        ] {
            request[name] = value;
        }
        eve.ask(request).await;
    }
    for (method, path) in [
        (Method::PUT, "/api/user-status/last-seen?userId=bob"),
        (Method::GET, "/api/chatroom/general/online-users?userId=bob"),
    ] {
        assert_eq!(code_of(&ask(&node, method, path, &eve_token).await), (403, "other_user".to_owned()), "{path}");
    }
    assert_eq!(handshake(&node, &format!("/ws?userId=bob&token={eve_token}"), &[]).await.status, 403);
    let told = watch.fence().await;
    assert!(told.iter().all(|frame| frame["userId"] == "eve"), "{told:?}");
    let told = bob.fence().await;
    assert!(told.iter().all(|frame| frame["userId"] == "eve"), "nothing happened to bob: {told:?}");
    assert_eq!(bob.ask(json!({"type": "get_devices"})).await["devices"].as_array().expect("devices").len(), 1);
}

#[tokio::test]
async fn a_refusal_tells_nothing_of_others() {
    let node = secret_node().await;
    let mut bob = join_with(&node, "bob", &token(json!({"sub": "bob"}))).await;
    bob.ask(json!({"type": "set_status", "status": "invisible"})).await;
    let _carol = join_with(&node, "carol", &token(json!({"sub": "carol"}))).await;
    let writer = token_of("eve", "presence:write");
    let mut eve = node.ws(&format!("/ws?token={writer}")).await;
    let mut answers = Vec::new();
    // Hidden, online, and never seen.
    for user in ["bob", "carol", "nobody"] {
        let path = format!("/api/user-status/{user}");
        let mut answer = eve.ask(json!({"type": "check_user_online", "userId": user})).await;
        answer["http"] = json!(code_of(&ask(&node, Method::GET, &path, &writer).await));
        answers.push(answer);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let welcome = eve.ask(json!({"type": "join_user"})).await;
    assert_eq!(welcome["type"], "welcome");
    assert_eq!(welcome.get("onlineCount"), None, "who may not read is not told how many there are");
    let subscribed = eve.ask(json!({"type": "subscribe", "presence": "none"})).await;
    assert_eq!(subscribed.get("onlineCount"), None, "{subscribed}");
    let joined = eve.ask(json!({"type": "join_room", "roomId": "general", "presence": "none"})).await;
    assert_eq!((&joined["type"], joined.get("total")), (&json!("room_joined"), None), "{joined}");
}

#[tokio::test]
async fn a_page_of_another_origin_gets_nothing_even_with_a_good_token() {
    let node = Node::start_with(|settings| {
        with_secret(settings);
        settings.server.cors_allowed_origins = vec!["https://chat.example.com".to_owned()];
    })
    .await;
    let good = token(json!({"sub": "ada"}));
    let bearer = format!("Bearer {good}");
    for origin in
        ["https://evil.example.com", "null", "https://chat.example.com.evil.example", "http://chat.example.com"]
    {
        let socket = handshake(&node, &format!("/ws?userId=ada&token={good}"), &[("origin", origin)]).await;
        assert_eq!(code_of(&socket), (403, "origin_not_allowed".to_owned()), "{origin}");
        let lines = [("origin", origin), ("authorization", &*bearer)];
        let read = node.request(Method::GET, "/api/online-users", &lines, "").await;
        assert_eq!(read.headers.get("access-control-allow-origin"), None, "{origin}");
    }
    let lines = [("origin", "https://chat.example.com"), ("authorization", "Bearer x")];
    let refused = node.request(Method::GET, "/api/online-users", &lines, "").await;
    assert_eq!(refused.status, 401);
    let allowed = refused.headers.get("access-control-allow-origin").and_then(|origin| origin.to_str().ok());
    assert_eq!(allowed, Some("https://chat.example.com"), "an own page can read why it was refused");
    // The origin is asked first, so a page of another one does not learn whether its token is good.
    let socket = handshake(&node, "/ws?token=x", &[("origin", "https://evil.example.com")]).await;
    assert_eq!(code_of(&socket), (403, "origin_not_allowed".to_owned()));
}

#[tokio::test]
async fn strange_ids_are_users_like_others() {
    let node = secret_node().await;
    let reader = token(json!({"sub": "reader"}));
    let mut strange: Vec<String> =
        ["{}", "*", "%", "%00", "%s", "__proto__", "constructor", "a:b", "\u{202e}evil", "a\u{2028}b"]
            .map(str::to_owned)
            .to_vec();
    strange.push("\u{10FFFF}".repeat(32));
    for user in &strange {
        let mut client = node.ws(&format!("/ws?token={}", token(json!({"sub": user})))).await;
        let welcome = client.ask(json!({"type": "join_user"})).await;
        assert_eq!((&welcome["type"], &welcome["userId"]), (&json!("welcome"), &json!(user)));
        assert_eq!(online(&node, &reader).await, [user.as_str()]);
        client.close(1000).await;
        eventually_eq(async || online(&node, &reader).await, NOBODY, "the user is gone").await;
    }
    for user in ["a\0b", "a\nb", "a\u{7f}b", "", &"x".repeat(10_000)] {
        let refused = ask(&node, Method::GET, "/api/online-users", &token(json!({"sub": user}))).await;
        assert_eq!(code_of(&refused), (401, "token_invalid".to_owned()), "{user:?}");
    }
}

#[test]
fn base64_is_that_of_tokens() {
    let mut encoded = String::new();
    for text in ["", "f", "fo", "foo", "\u{3f}\u{3e}\u{ff}"] {
        let _ = write!(encoded, "{} ", base64(text.as_bytes()));
    }
    assert_eq!(encoded, " Zg Zm8 Zm9v Pz7Dvw ");
    let _: Value = json!(null);
}
