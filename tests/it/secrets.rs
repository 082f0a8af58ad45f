//! What is secret is in nothing that a node says, and what clients choose never makes two lines of one in the log.

use reqwest::Method;
use rollcall::auth::NewApiKey;
use serde_json::{Value, json};

use crate::auth::{ask, handshake};
use crate::support::shared::http::upgrade_request;
use crate::support::*;

/// Secrets of the settings, and what a client shows.
const PASSWORD: &str = "pass-6b1d0c52";
const TOKEN: &str = "tok-0f9e33aa";
const KEY: &str = "rck_4c5d6e7f";

/// What a node has said in any way.
#[derive(Default)]
struct Said(Vec<String>);

impl Said {
    async fn ask(&mut self, node: &Endpoint, method: Method, path: &str, body: &str) {
        let bearers = [format!("Bearer {TOKEN}"), format!("Bearer {KEY}"), format!("Basic {PASSWORD}")];
        for bearer in &bearers {
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            self.add(&node.request(method.clone(), path, &headers, body).await);
        }
    }

    fn add(&mut self, answer: &HttpAnswer) {
        self.0.push(format!("{:?} {}", answer.headers, answer.body));
    }

    fn assert_none_of(&self, secrets: &[&str]) {
        for secret in secrets {
            let told = self.0.iter().find(|text| text.contains(secret));
            assert!(told.is_none(), "{secret} is in: {}", told.map_or("", String::as_str));
        }
    }
}

/// The lines of a PEM file that are secret.
fn key_lines(issued: &Issued) -> Vec<String> {
    let pem = std::fs::read_to_string(&issued.key).expect("a key");
    pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned).collect()
}

#[tokio::test]
async fn no_secret_is_in_anything_that_a_node_says() {
    for format in ["text", "json"] {
        let pki = Pki::new();
        let mut redis = RedisServer::start_tls(&pki, true).await;
        redis.begin_epoch().await;
        let rights = ["ACL", "SETUSER", "rollcall", "on", &format!(">{PASSWORD}"), "~*", "&*", "+@all"];
        redis.command(&rights).await;
        let (shown, served) = (pki.issue("shown"), pki.issue("served"));
        let password = pki.ca().with_file_name("password");
        std::fs::write(&password, PASSWORD).expect("a file can be written");
        let path = |path: &std::path::Path| path.to_str().expect("a path in UTF-8").to_owned();
        let mut environment = test_environment();
        environment.extend(
            [
                ("REDIS_URL", redis.url()),
                ("ROLLCALL__REDIS__USERNAME", "rollcall".to_owned()),
                ("REDIS_PASSWORD_FILE", path(&password)),
                ("ROLLCALL__REDIS__TLS_CA_PATH", path(&pki.ca())),
                ("ROLLCALL__REDIS__TLS_CERTIFICATE_PATH", path(&shown.certificate)),
                ("ROLLCALL__REDIS__TLS_KEY_PATH", path(&shown.key)),
                ("ROLLCALL__SERVER__TLS_CERTIFICATE_PATH", path(&served.certificate)),
                ("ROLLCALL__SERVER__TLS_KEY_PATH", path(&served.key)),
                ("ROLLCALL__SERVER__TLS_RELOAD_MS", "100".to_owned()),
                ("ROLLCALL__TELEMETRY__LOG_FILTER", "debug".to_owned()),
                ("ROLLCALL__TELEMETRY__LOG_FORMAT", format.to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let borrowed: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut node = NodeProcess::spawn(&borrowed).await;
        assert!(node.stdout().contains(" listening on https://"), "{}", node.stdout());
        node.wait_ready().await;
        let mut said = Said::default();

        let mut ada = node.join("ada").await;
        for request in [
            json!({"type": "authenticate", "userId": "ada", "token": TOKEN}),
            json!({"type": "authenticate", "token": TOKEN}),
            json!({"type": "authenticate", "userId": "ada", "token": 5, "ref": "x"}),
        ] {
            ada.send_json(request).await;
        }
        ada.send_text(&format!("{{\"type\":\"authenticate\",\"token\":\"{TOKEN}")).await;
        said.0.extend(ada.fence().await.iter().map(Value::to_string));
        let query = format!("/ws?userId=bob&token={TOKEN}");
        said.0.extend(node.ws(&query).await.fence().await.iter().map(Value::to_string));
        said.0.push(refusal(&node, &format!("/ws?userId=&token={TOKEN}")).await);
        said.0.push(refusal(&node, &format!("/ws?token={TOKEN}&token={KEY}")).await);
        for path in ["/api/online-users", "/api/users/ada/explain", "/metrics", "/readyz", "/openapi.json", "/nowhere"]
        {
            said.ask(&node, Method::GET, path, "").await;
            said.ask(&node, Method::GET, &format!("{path}?token={TOKEN}"), "").await;
        }
        said.ask(&node, Method::PUT, "/api/users/ada/presence", "{").await;
        said.ask(&node, Method::POST, "/api/user-status/batch", "[]").await;

        redis.kill();
        eventually_eq_within(3 * DEADLINE, async || node.is_degraded().await, Some(true), "Redis is away").await;
        std::fs::write(&served.key, "rubbish").expect("a file can be written");
        let failed = async || node.counter("rollcall_certificate_reloads_total{result=\"failed\"}").await;
        eventually_eq(failed, 1, "the new key is looked at").await;
        redis.restart().await;
        // It has forgotten the user, so the login fails.
        node.expect_log("authentication failed").await;
        redis.command(&rights).await;
        eventually_eq_within(3 * DEADLINE, async || node.is_degraded().await, Some(false), "Redis is back").await;
        said.ask(&node, Method::GET, "/api/users/ada/explain", "").await;
        node.sigterm();
        ada.expect_close().await;
        node.wait().await;

        said.0.extend([node.stdout(), node.stderr()]);
        assert!(node.stderr().contains("DEBUG"), "the log is detailed: {}", node.stderr());
        said.assert_none_of(&[PASSWORD, TOKEN, KEY]);
        let keys = key_lines(&shown);
        said.assert_none_of(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn no_token_and_no_key_is_in_anything_that_a_node_says() {
    for format in ["text", "json"] {
        let NewApiKey { key, entry } = NewApiKey::generate("backend", &["admin".to_owned()]).expect("a key");
        let folder = Pki::new();
        let secret = folder.ca().with_file_name("secret");
        std::fs::write(&secret, SECRET).expect("a file can be written");
        let mut node = NodeProcess::spawn(&[
            ("ROLLCALL__AUTH__MODE", "jwt"),
            ("ROLLCALL__AUTH__SECRET_FILE", secret.to_str().expect("a path in UTF-8")),
            ("ROLLCALL__AUTH__API_KEYS", &entry),
            ("ROLLCALL__TELEMETRY__LOG_FILTER", "debug"),
            ("ROLLCALL__TELEMETRY__LOG_FORMAT", format),
        ])
        .await;
        node.wait_ready().await;
        let good = token_of("ada", "presence:read presence:write");
        let expired = token(json!({"sub": "ada", "exp": 1}));
        // It has the form of a token, so that its signature is looked at.
        let forged = format!("{}{}", parts(&good).0, parts(&token_of("eve", "")).1);
        let shown = [good, expired, forged, key.clone(), format!("{key}0")];
        let mut said = Said::default();
        for credential in &shown {
            let bearer = format!("Bearer {credential}");
            for path in ["/api/online-users", "/api/users/ada/explain", "/api/rooms", "/metrics", "/nowhere"] {
                said.add(&ask(&node, Method::GET, path, credential).await);
            }
            said.0.push(refusal(&node, &format!("/ws?userId=eve&token={credential}")).await);
            let subprotocol = format!("rollcall, {credential}");
            for line in [("authorization", &bearer), ("sec-websocket-protocol", &subprotocol)] {
                said.add(&handshake(&node, "/ws", &[(line.0, line.1)]).await);
            }
            let mut client = node.ws("/ws").await;
            said.0.push(client.ask(json!({"type": "authenticate", "token": credential})).await.to_string());
            let mut plain = node.ws("/").await;
            // It is not JSON, so the answer may say what is wrong with the text. The next one is the credential's.
            plain.send_text(&format!("{{\"type\":\"AUTHENTICATE\",\"token\":\"{credential}")).await;
            plain.send_json(json!({"type": "AUTHENTICATE", "token": credential})).await;
            said.0.extend([plain.next_json().await, plain.next_json().await].iter().map(Value::to_string));
        }
        let answer = ask(&node, Method::PUT, "/api/rooms/general", &key).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        said.add(&answer);
        node.sigterm();
        node.wait().await;

        said.0.extend([node.stdout(), node.stderr()]);
        for reason in ["Expired", "Invalid(Signature)", "Invalid(UnknownApiKey)"] {
            let line = format!("What a client showed is not accepted: {reason}");
            assert!(node.stderr().contains(&line), "the log says why: {}", node.stderr());
        }
        // The third part of a token is what nobody can make up. The entry ends with the hash of the key.
        let signatures = shown[..3].iter().map(|token| &parts(token).1[1..]);
        let hash = entry.rsplit_once(':').expect("a hash").1;
        said.assert_none_of(&signatures.chain([SECRET, &key, hash]).collect::<Vec<_>>());
    }
}

/// What is signed of a token, and the rest, which begins with a dot.
fn parts(token: &str) -> (&str, &str) {
    token.split_at(token.rfind('.').expect("a token"))
}

/// What a node answers to a handshake that it refuses, or the head of its answer.
async fn refusal(node: &Endpoint, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(node.addr()).await.expect("it listens");
    stream.write_all(upgrade_request(path).as_bytes()).await.expect("it is read");
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(DEADLINE, stream.read(&mut answer)).await.expect("an answer in time");
    answer.truncate(read.expect("an answer"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Ids that could break a line, turn it around, or be taken for something else. Each is a valid id.
const IDS: [&str; 8] = [
    "a\u{202e}b",
    "a\u{2028}b\u{2029}c",
    "\u{2066}iso\u{2069}",
    "{} {user} %s %d %n",
    "*",
    "\"quoted\" 'text' \\",
    "__proto__",
    "a%0d%0aINFO x",
];

/// Characters that no log line may have.
fn turns_or_breaks(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || c.is_control() && c != '\n'
}

#[tokio::test]
async fn one_event_is_one_line_in_the_log_whatever_an_id_is() {
    for format in ["text", "json"] {
        let redis = RedisServer::start().await;
        redis.begin_epoch().await;
        let mut environment = test_environment();
        environment.extend(
            [
                ("REDIS_URL", redis.url()),
                ("ROLLCALL__PRESENCE__AUDIT_MS", "300".to_owned()),
                ("ROLLCALL__TELEMETRY__LOG_FILTER", "debug".to_owned()),
                ("ROLLCALL__TELEMETRY__LOG_FORMAT", format.to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let borrowed: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut node = NodeProcess::spawn(&borrowed).await;
        node.wait_ready().await;
        let mut sockets = Vec::new();
        for id in IDS {
            let request = json!({"userId": id, "name": id, "rooms": [id], "statusText": id, "status": "away"});
            sockets.push(node.join_as(request).await);
            node.get_raw(&format!("/api/users/{}/explain", percent_encoded(id))).await;
            // A ghost, a value that nobody of us wrote, and messages that are none.
            redis.command(&["SADD", "online:users:set", &format!("ghost {id}")]).await;
            redis.command(&["SET", &format!("online:presence:ghost {id}"), &format!("\u{1b}[31m\n{id}")]).await;
            redis.command(&["PUBLISH", "online:events", &format!("{{\"type\":\"\n{id}\"}}")]).await;
            redis.command(&["PUBLISH", &format!("online:room:{id}:events"), &format!("\n{id}")]).await;
        }
        let users = async || redis.smembers("online:users:set").await.len();
        eventually_eq_within(3 * DEADLINE, users, IDS.len(), "all ghosts are gone").await;
        let mended = async || node.counter("rollcall_ghosts_mended_total").await;
        eventually_eq_within(3 * DEADLINE, mended, IDS.len() as u64, "all ghosts are counted").await;
        node.sigterm();
        assert!(node.wait().await.success());

        let log = node.stderr();
        assert_eq!(log.matches("was online without a living socket").count(), IDS.len(), "{log}");
        assert!(log.contains("Left out what is not ours"), "{log}");
        assert!(!log.contains(turns_or_breaks), "{log:?}");
        for line in log.lines() {
            match format {
                "json" => drop(serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))),
                _ => assert!(line.starts_with("20") && line.contains("rollcall") || line.contains("actix"), "{line}"),
            }
        }
    }
}
