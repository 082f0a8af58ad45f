//! `docs/openapi.json` says what the service says over HTTP: no resource, status or error less, and none more.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use rollcall::settings::{RoomRule, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

/// An answer: the operation, the status, and the error's code or nothing.
type Answered = (String, u16, String);

/// The document, and the answers that were seen.
struct Api {
    document: Document,
    seen: BTreeSet<Answered>,
}

/// Answers that are provoked elsewhere, because a place of its own is needed for them.
const ELSEWHERE: [(&str, u16, &str); 4] = [
    // tests/it/http.rs, a_draining_node_is_not_ready_and_sends_clients_to_another
    ("isReady", 503, "draining"),
    ("openWebSocket", 504, "draining"),
    // src/rooms/reads.rs, above_the_bounds_reads_are_refused_or_not_kept
    ("listRoomUsers", 503, "too_many_room_reads"),
    // Every test with a WebSocket.
    ("openWebSocket", 101, ""),
];

/// The tag of what clients of Socket.IO ask.
const SOCKETIO: &str = "Socket.IO";

/// This comes before a request is read. So every operation has it.
const NO_ROOM: &str = "too_many_connections";

impl Api {
    fn read() -> Api {
        Api { document: Document::read("docs/openapi.json"), seen: BTreeSet::new() }
    }

    /// The paths, each with its methods in lower case and their operations. Those of Socket.IO have a test of their own: their
    /// errors are numbers.
    fn operations(&self) -> Vec<(&str, &str, &Value)> {
        let mut operations = self.all_operations();
        operations.retain(|(_, _, operation)| operation["tags"][0] != SOCKETIO);
        operations
    }

    fn all_operations(&self) -> Vec<(&str, &str, &Value)> {
        let paths = self.document.at("/paths").as_object().expect("paths").iter();
        let operations = paths.flat_map(|(path, methods)| {
            methods.as_object().expect("methods").iter().map(move |(method, one)| (path.as_str(), method.as_str(), one))
        });
        operations.collect()
    }

    /// The operation of a request.
    fn operation(&self, method: &str, path: &str) -> &Value {
        let path = path.split('?').next().unwrap_or_default();
        let fits = |template: &str| {
            let (parts, template): (Vec<_>, Vec<_>) = (path.split('/').collect(), template.split('/').collect());
            let fits = |(part, template): (&&str, &&str)| part == template || template.starts_with('{');
            parts.len() == template.len() && parts.iter().zip(&template).all(fits)
        };
        let mut found: Vec<_> = self.all_operations();
        found.retain(|(template, known, _)| known.eq_ignore_ascii_case(method) && fits(template));
        // A path without a name in braces comes first.
        found.sort_by_key(|(template, ..)| template.contains('{'));
        found.first().unwrap_or_else(|| panic!("{method} {path} is not documented")).2
    }

    /// Checks an answer against the document.
    fn check(&mut self, method: &str, path: &str, status: u16, headers: &[(String, String)], body: &str) {
        let operation = self.operation(method, path);
        let what = format!("{method} {path}: {status} {body:.200}");
        let response =
            operation["responses"].get(status.to_string()).unwrap_or_else(|| panic!("{what} is not documented"));
        let response = self.document.resolve(response);
        for name in response["headers"].as_object().into_iter().flat_map(serde_json::Map::keys) {
            let is_there = headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
            assert!(is_there, "{what}: no {name} in {headers:?}");
        }
        let code = match response["content"].as_object() {
            None => {
                assert_eq!(body, "", "{what}");
                String::new()
            }
            Some(content) => {
                let told = headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.as_str());
                let media = told.and_then(|told| told.split(';').next()).unwrap_or_default();
                let described = content.get(media).unwrap_or_else(|| panic!("{what}: {media:?} is not documented"));
                let body = if media == "application/json" {
                    serde_json::from_str(body).unwrap_or_else(|error| panic!("{what}: {error}"))
                } else {
                    Value::from(body)
                };
                assert_eq!(self.document.violations(&described["schema"], &body), NO_VIOLATIONS, "{what}");
                body["code"].as_str().unwrap_or_default().to_owned()
            }
        };
        let id = operation["operationId"].as_str().expect("an id").to_owned();
        self.seen.insert((id, status, code));
    }

    /// Makes a request and checks the answer. A GET is made as HEAD as well.
    async fn ask(&mut self, node: &Endpoint, method: Method, path: &str, body: &str) -> u16 {
        let headers: &[_] = if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
        self.ask_with(node, method, path, headers, body).await
    }

    async fn ask_with(
        &mut self,
        node: &Endpoint,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> u16 {
        let methods = if method == Method::GET { vec![Method::HEAD, method] } else { vec![method] };
        let mut status = 0;
        for method in methods {
            let answer = node.request(method.clone(), path, headers, body).await;
            let headers = answer.headers.iter();
            let headers =
                headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
            self.check(method.as_str(), path, answer.status, &headers.collect::<Vec<_>>(), &answer.body);
            status = answer.status;
        }
        status
    }

    async fn refused_websocket(&mut self, node: &Endpoint, path: &str) {
        let refusal = WsClient::try_connect(node.addr(), path).await.err().expect("a refusal");
        self.check("GET", path, refusal.status, &refusal.headers, &refusal.body);
    }

    /// Announces a body of this size, and sends nothing of it. A node answers before it has read a body that is too large,
    /// and ends the connection. A client that is still sending may then not see the answer.
    async fn announce(&mut self, node: &Endpoint, method: &str, path: &str, n_bytes: usize) -> u16 {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json", node.addr());
        let head = format!("{head}\r\nContent-Length: {n_bytes}\r\nConnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
        stream.write_all(head.as_bytes()).await.expect("it is read");
        let mut answer = String::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
        read.expect("an answer in time").expect("the connection ends");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
        let (first, rest) = head.split_once("\r\n").expect("headers");
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let headers = rest.lines().filter_map(|line| line.split_once(": "));
        let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.check(method, path, status, &headers, body);
        status
    }

    /// Every answer that the document has, apart from [`NO_ROOM`]. HEAD has no codes.
    fn documented(&self) -> BTreeSet<Answered> {
        let mut documented = BTreeSet::new();
        for (_, method, operation) in self.operations() {
            let id = operation["operationId"].as_str().expect("an id");
            for (status, response) in operation["responses"].as_object().expect("responses") {
                let content = &self.document.resolve(response)["content"]["application/json"];
                let code = &content["schema"]["properties"]["code"];
                let codes: Vec<_> = match (code.get("const"), code.get("enum")) {
                    (Some(code), _) => vec![code.as_str().expect("a code")],
                    (None, Some(codes)) => codes.as_array().expect("codes").iter().filter_map(Value::as_str).collect(),
                    (None, None) => vec![""],
                };
                if status == "503" && method != "head" {
                    assert!(codes.contains(&NO_ROOM), "{id} may be refused before it is read");
                }
                let codes = codes.iter().filter(|code| **code != NO_ROOM);
                documented
                    .extend(codes.map(|code| (id.to_owned(), status.parse().expect("a status"), (*code).to_owned())));
            }
        }
        documented
    }
}

/// The files of the server, each with the scope in which it registers resources.
fn sources(under: &Path, scope: &'static str) -> Vec<(&'static str, String)> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(under).expect("the folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            let name = entry.file_name().expect("a folder has a name");
            let scopes = [("users", "/api/users"), ("rooms", "/api/rooms")];
            let scope = scopes.into_iter().find(|(folder, _)| name == *folder).map_or(scope, |(_, scope)| scope);
            sources.extend(self::sources(&entry, scope));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            sources.push((scope, fs::read_to_string(&entry).expect("the file")));
        }
    }
    sources
}

#[test]
fn every_resource_is_documented_and_no_other() {
    let functions = [
        ("readable", &["get", "head"][..]),
        ("postable", &["post"]),
        ("puttable", &["put"]),
        ("deletable", &["delete"]),
        ("registrable", &["put", "delete"]),
    ];
    let mut registered = BTreeSet::new();
    for (scope, source) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http"), "") {
        // A long call has its path on a line of its own.
        let source: String = source.split_whitespace().collect();
        for (function, methods) in functions {
            for call in source.split(&format!("{function}(\"")).skip(1) {
                let path = format!("{scope}{}", call.split_once('"').expect("a text ends").0);
                registered.extend(methods.iter().map(|method| (path.clone(), (*method).to_owned())));
            }
        }
    }
    let api = Api::read();
    let documented = api.operations().into_iter().map(|(path, method, _)| (path.to_owned(), method.to_owned()));
    assert_eq!(documented.collect::<BTreeSet<_>>(), registered);
}

#[test]
fn every_error_is_documented() {
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/error.rs")).expect("the file");
    let codes = source.split_once("fn code(").expect("the codes").1.split_once("\n    }\n").expect("their end").0;
    let codes: BTreeSet<_> = codes.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let api = Api::read();
    let documented: BTreeSet<_> = api.documented().into_iter().map(|(_, _, code)| code).collect();
    let description = api.document.at("/info/description").as_str().expect("a text");
    for code in &codes {
        let is_there = documented.contains(code) || code == NO_ROOM || description.contains(&format!("`{code}`"));
        assert!(is_there, "{code} is not documented");
    }
}

#[test]
fn the_document_is_of_this_version_and_its_examples_fit() {
    let api = Api::read();
    assert_eq!(api.document.at("/info/version"), env!("CARGO_PKG_VERSION"));
    let check = |content: &Value, what: &str| {
        for described in content.as_object().into_iter().flat_map(serde_json::Map::values) {
            if let Some(example) = described.get("example") {
                assert_eq!(api.document.violations(&described["schema"], example), NO_VIOLATIONS, "{what}");
            }
        }
    };
    for (path, method, operation) in api.operations() {
        check(&operation["requestBody"]["content"], &format!("the body of {method} {path}"));
        for (status, response) in operation["responses"].as_object().expect("responses") {
            check(&api.document.resolve(response)["content"], &format!("{method} {path} {status}"));
        }
    }
}

/// What every node answers.
async fn ordinary_answers(api: &mut Api, node: &Endpoint) {
    for (path, status) in [
        ("/api/online-users?limit=1&countOnly=false", 200),
        ("/api/online-users?countOnly=true&excludeUserId=ada", 200),
        ("/api/online-users?limit=0", 400),
        ("/api/user-status/online?limit=1", 200),
        ("/api/user-status/online?status=busy&cursor=a", 200),
        ("/api/user-status/online?status=invisible", 400),
        ("/api/user-status/online/count", 200),
        ("/api/user-status/ada", 200),
        ("/api/user-status/went", 200),
        ("/api/user-status/nobody", 404),
        ("/api/user-status/%ff", 400),
        ("/api/users/ada/explain", 200),
        ("/api/users/went/explain", 200),
        ("/api/users/%ff/explain", 400),
        ("/api/chatroom/lobby/online-users?userId=ada&limit=1", 200),
        ("/api/chatroom/nobody/online-users", 200),
        ("/api/chatroom/lobby/online-users?limit=0", 400),
        ("/api/rooms?limit=1", 200),
        ("/api/rooms?cursor=x", 400),
        ("/api/nodes", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/openapi.json", 200),
        ("/docs", 200),
        ("/docs/docs.css", 200),
        ("/docs/docs.js", 200),
        ("/", 200),
        ("/page/page.js", 200),
        ("/page/page.css", 200),
        ("/page/icon.svg", 200),
        ("/page/nothing", 404),
        ("/ws", 426),
    ] {
        assert_eq!(api.ask(node, Method::GET, path, "").await, status, "{path}");
    }
    for path in ["/openapi.json", "/docs", "/docs/docs.css", "/docs/docs.js", "/", "/page/page.js"] {
        let known = [("if-none-match", "*")];
        assert_eq!(api.ask_with(node, Method::GET, path, &known, "").await, 304, "{path}");
    }
    for path in ["/api/user-status/batch", "/api/users/query"] {
        for (body, status) in [
            (r#"{"userIds":["ada",7,"went","hidden"]}"#, 200),
            ("{", 400),
            ("[]", 400),
            ("{}", 400),
            (r#"{"userIds":1}"#, 400),
            ("", 415),
        ] {
            assert_eq!(api.ask(node, Method::POST, path, body).await, status, "{path} {body}");
        }
    }
    for (path, body, status) in [
        ("/api/user-status/last-seen?userId=ada", "", 200),
        ("/api/user-status/last-seen", r#"{"userId":"nobody"}"#, 404),
        ("/api/user-status/last-seen?userId=%ff", "", 400),
        ("/api/user-status/last-seen", "{", 400),
        ("/api/user-status/last-seen", "[]", 400),
        ("/api/user-status/last-seen", "{}", 400),
        ("/api/user-status/last-seen", r#"{"userId":true}"#, 400),
        ("/api/users/ada/presence", r#"{"email":"a@b","status":"dnd","statusText":"x","expiresInMs":60000}"#, 200),
        ("/api/users/hidden/presence", r#"{"metadata":{"a":[1]}}"#, 200),
        ("/api/users/nobody/presence", r#"{"name":"x"}"#, 404),
        ("/api/users/%ff/presence", r#"{"name":"x"}"#, 400),
        ("/api/users/ada/presence", "{", 400),
        ("/api/users/ada/presence", "[]", 400),
        ("/api/users/ada/presence", "{}", 400),
        ("/api/users/ada/presence", r#"{"name":5}"#, 400),
        ("/api/users/ada/presence", "", 415),
    ] {
        assert_eq!(api.ask(node, Method::PUT, path, body).await, status, "{path} {body}");
    }
    let text = [("content-type", "text/plain")];
    assert_eq!(api.ask_with(node, Method::PUT, "/api/user-status/last-seen", &text, "x").await, 415);
    let page = [("origin", "https://chat.example.com"), ("content-type", "application/json")];
    assert_eq!(api.ask_with(node, Method::PUT, "/api/users/ada/presence", &page, "{}").await, 403);
    assert_eq!(api.ask_with(node, Method::POST, "/api/users/query", &page, "{}").await, 403);
    let page = [("origin", "https://chat.example.com")];
    assert_eq!(api.ask_with(node, Method::GET, "/api/users/ada/explain", &page, "").await, 403);
    assert_eq!(api.ask_with(node, Method::DELETE, "/api/users/ada/sockets", &page, "").await, 403);
    assert_eq!(api.ask_with(node, Method::GET, "/api/rooms", &page, "").await, 403);
    assert_eq!(api.ask_with(node, Method::GET, "/api/nodes", &page, "").await, 403);
    for (method, path) in [
        (Method::PUT, "/api/rooms/lobby"),
        (Method::PUT, "/api/rooms/lobby/members/ada"),
        (Method::DELETE, "/api/rooms/lobby/members/ada"),
        (Method::DELETE, "/api/rooms/lobby"),
    ] {
        assert_eq!(api.ask_with(node, method.clone(), path, &page, "").await, 403, "{method} {path}");
        assert_eq!(api.ask(node, method.clone(), path, "").await, 200, "{method} {path}");
        let bad = path.replace("lobby", "%ff");
        assert_eq!(api.ask(node, method.clone(), &bad, "").await, 400, "{method} {bad}");
    }
    assert_eq!(api.ask(node, Method::PUT, "/api/rooms/unknown/members/ada", "").await, 404);
    for (user, status) in [("nobody", 200), ("hidden", 200), ("%ff", 400)] {
        let path = format!("/api/users/{user}/sockets");
        assert_eq!(api.ask(node, Method::DELETE, &path, "").await, status, "{path}");
    }
    for path in ["/ws?format=x", "/ws?userId=%ff"] {
        api.refused_websocket(node, path).await;
    }
}

/// Bodies that are too large for each operation.
async fn large_bodies(api: &mut Api, node: &Endpoint) {
    let operations: Vec<_> =
        api.operations().iter().map(|(path, method, _)| ((*path).to_owned(), (*method).to_owned())).collect();
    for (path, method) in operations {
        let path = path.replace("{userId}", "ada").replace("{roomId}", "lobby").replace("{file}", "page.js");
        let method = method.to_uppercase();
        assert_eq!(api.announce(node, &method, &path, 768 * 1024 + 1).await, 413, "{method} {path}");
    }
}

/// A node with limits that are reached at once.
async fn narrow_answers(api: &mut Api) {
    let node = Node::start_with(|settings| {
        settings.server.max_sockets = 3;
        settings.server.page = false;
        settings.websocket.max_frame_bytes = 1_048_576;
        settings.limits.profile_bytes = 65_536;
        settings.limits.rooms_per_socket = 500;
        settings.limits.page_bytes = 16_384;
        settings.limits.answers_bytes = 65_536;
        settings.limits.bodies_bytes = 1_048_576;
    })
    .await;
    assert_eq!(api.ask(&node, Method::GET, "/", "").await, 404);
    let mut sockets = Vec::new();
    // One is large, and one is in many rooms.
    let rooms: Vec<String> = (0..450).map(|n| format!("{n:0>128}")).collect();
    for request in [
        json!({"type": "join_user", "userId": "ada", "username": "x".repeat(65_500), "rooms": ["large"]}),
        json!({"type": "join_user", "userId": "bob", "rooms": rooms}),
        json!({"type": "join_user", "userId": "cyd", "name": "x".repeat(65_500)}),
    ] {
        let mut socket = node.ws("/ws").await;
        socket.send_json(request).await;
        socket.expect_type("welcome").await;
        sockets.push(socket);
    }
    let list = async || node.get("/api/rooms").await.1["code"].clone();
    eventually_eq(list, "too_many_answers", "the list of rooms is large").await;
    // One user alone is more than all answers may have.
    for path in
        ["/api/online-users", "/api/user-status/online", "/api/chatroom/large/online-users", "/api/rooms", "/api/nodes"]
    {
        assert_eq!(api.ask(&node, Method::GET, path, "").await, 503, "{path}");
    }
    let both = r#"{"userIds":["ada","bob"]}"#;
    for path in ["/api/user-status/batch", "/api/users/query"] {
        assert_eq!(api.ask(&node, Method::POST, path, both).await, 503, "{path}");
    }
    api.refused_websocket(&node, "/ws?userId=ada").await;

    let large = format!("{}{both}", " ".repeat(200_000));
    // If the third body comes too early, one of the two may be refused instead. Then two others begin.
    let mut unfinished = Vec::new();
    let third = async || {
        let path = "/api/users/query";
        unfinished = vec![node.unfinished_post(path, 520_000).await, node.unfinished_post(path, 520_000).await];
        let headers = [("content-type", "application/json")];
        let answer = node.request(Method::POST, "/api/user-status/batch", &headers, &large).await;
        answer.body.contains("too_many_bodies")
    };
    eventually(third, "the bodies are being read").await;
    for (method, path) in [
        (Method::POST, "/api/user-status/batch"),
        (Method::POST, "/api/users/query"),
        (Method::PUT, "/api/user-status/last-seen"),
        (Method::PUT, "/api/users/ada/presence"),
    ] {
        assert_eq!(api.ask(&node, method, path, &large).await, 503, "{path}");
    }
}

/// A node on which members of rooms are registered.
async fn answers_about_registered_rooms(api: &mut Api) {
    let node = Node::start_with(|settings| settings.rooms.access = RoomRule::Registered).await;
    for path in ["/api/rooms/lobby", "/api/rooms/lobby/members/ada"] {
        assert_eq!(api.ask(&node, Method::PUT, path, "").await, 200, "{path}");
    }
    for (path, status) in [
        ("/api/chatroom/lobby/online-users?userId=ada", 200),
        ("/api/chatroom/lobby/online-users?userId=eve", 403),
        ("/api/chatroom/unknown/online-users?userId=ada", 404),
        ("/api/chatroom/lobby/online-users", 400),
    ] {
        assert_eq!(api.ask(&node, Method::GET, path, "").await, status, "{path}");
    }
}

/// A node that lets one socket in a second, and pages of one origin.
async fn narrow_entrance(api: &mut Api) {
    let node = Node::start_with(|settings| {
        (settings.limits.joins_per_second, settings.limits.join_queue) = (1, 1);
        settings.server.cors_allowed_origins = vec!["https://chat.example.com".to_owned()];
    })
    .await;
    let page = [
        ("origin", "https://evil.example.com"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = node.request(Method::GET, "/ws", &page, "").await;
    let headers =
        answer.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
    api.check("GET", "/ws", answer.status, &headers.collect::<Vec<_>>(), &answer.body);
    // More come at once than are let in and may wait.
    let come = (0..6).map(|_| WsClient::try_connect(node.addr(), "/ws?userId=ada"));
    let refused: Vec<_> = futures_util::future::join_all(come).await.into_iter().filter_map(Result::err).collect();
    for refusal in refused {
        api.check("GET", "/ws", refusal.status, &refusal.headers, &refusal.body);
    }
}

/// A node that identifies its clients.
async fn answers_to_tokens(api: &mut Api) {
    let node = Node::start_with(with_secret).await;
    let operations: Vec<_> = api
        .operations()
        .iter()
        .map(|(path, method, operation)| {
            let is_guarded = operation["responses"].get("401").is_some();
            ((*path).to_owned(), (*method).to_owned(), is_guarded)
        })
        .collect();
    let guarded =
        operations.into_iter().filter(|(path, method, is_guarded)| *is_guarded && path != "/ws" && method != "head");
    let expired = token(json!({"sub": "ada", "exp": 1}));
    let nothing = token_of("ada", "");
    for (path, method, _) in guarded {
        let method: Method = method.to_uppercase().parse().expect("a method");
        let path = path.replace("{userId}", "ada").replace("{roomId}", "lobby");
        for (shown, status) in [("", 401), ("x", 401), (&*expired, 401), (&*nothing, 403)] {
            let bearer = format!("Bearer {shown}");
            let lines: &[_] = if shown.is_empty() { &[] } else { &[("authorization", &*bearer)] };
            assert_eq!(api.ask_with(&node, method.clone(), &path, lines, "").await, status, "{method} {path} {shown}");
        }
    }
    let bearer = format!("Bearer {}", token_of("ada", "presence:read presence:write"));
    let lines = [("authorization", &*bearer)];
    let (note, list) = ("/api/user-status/last-seen?userId=eve", "/api/chatroom/lobby/online-users?userId=eve");
    assert_eq!(api.ask_with(&node, Method::PUT, note, &lines, "").await, 403);
    assert_eq!(api.ask_with(&node, Method::GET, list, &lines, "").await, 403);
    for path in [
        "/ws?userId=ada&status=busy".to_owned(),
        "/ws?token=x".to_owned(),
        format!("/ws?token={expired}"),
        format!("/ws?userId=ada&token={nothing}"),
        format!("/ws?userId=eve&token={}", token_of("ada", "presence:write")),
    ] {
        api.refused_websocket(&node, &path).await;
    }
}

/// A node whose Redis goes away, and one that never had it.
async fn answers_without_redis(api: &mut Api) {
    let mut cluster =
        Cluster::start_with(1, |settings| settings.presence.active_every = Duration::from_millis(100)).await;
    let _ada = cluster[0].join("ada").await;
    cluster.redis.kill();
    let node = &cluster[0];
    eventually_eq(async || node.get("/readyz").await.1["degraded"].clone(), true, "the node has noticed").await;
    let note = async || node.request(Method::PUT, "/api/user-status/last-seen?userId=ada", &[], "").await.status;
    eventually_eq(note, 503, "a note is due").await;
    for (method, path, body, status) in [
        (Method::GET, "/readyz", "", 200),
        (Method::GET, "/api/online-users", "", 200),
        (Method::GET, "/api/user-status/online", "", 200),
        (Method::GET, "/api/user-status/online/count", "", 200),
        (Method::GET, "/api/user-status/ada", "", 200),
        (Method::GET, "/api/user-status/nobody", "", 200),
        (Method::POST, "/api/user-status/batch", r#"{"userIds":["ada","nobody"]}"#, 200),
        (Method::POST, "/api/users/query", r#"{"userIds":["ada","nobody"]}"#, 200),
        (Method::PUT, "/api/user-status/last-seen?userId=ada", "", 503),
        (Method::PUT, "/api/users/ada/presence", r#"{"status":"busy"}"#, 503),
        (Method::GET, "/api/users/ada/explain", "", 200),
        (Method::DELETE, "/api/users/nobody/sockets", "", 503),
        (Method::GET, "/api/chatroom/other/online-users", "", 503),
        (Method::GET, "/api/rooms", "", 503),
        (Method::GET, "/api/nodes", "", 200),
        (Method::PUT, "/api/rooms/lobby", "", 503),
        (Method::DELETE, "/api/rooms/lobby", "", 503),
        (Method::PUT, "/api/rooms/lobby/members/ada", "", 503),
        (Method::DELETE, "/api/rooms/lobby/members/ada", "", 503),
    ] {
        assert_eq!(api.ask(node, method, path, body).await, status, "{path}");
    }
    let fresh = Node::spawn(test_settings_with_redis(&cluster.redis.url())).await;
    assert_eq!(api.ask(&fresh, Method::GET, "/readyz", "").await, 503);
    let both = r#"{"userIds":["ada","nobody"]}"#;
    for (method, path, body) in [
        (Method::GET, "/api/online-users", ""),
        (Method::GET, "/api/user-status/online", ""),
        (Method::GET, "/api/user-status/online/count", ""),
        (Method::GET, "/api/user-status/ada", ""),
        (Method::POST, "/api/user-status/batch", both),
        (Method::POST, "/api/users/query", both),
        (Method::GET, "/api/chatroom/lobby/online-users", ""),
    ] {
        assert_eq!(api.ask(&fresh, method, path, body).await, 504, "{path}");
    }
    api.refused_websocket(&fresh, "/ws?userId=ada").await;
    // An empty Redis: the node waits for others, who may be about to say who is online.
    let empty = RedisServer::start().await;
    let mut settings = test_settings_with_redis(&empty.url());
    settings.presence.lease = Duration::from_secs(60);
    let waiting = Node::spawn(settings).await;
    waiting.wait_until_it_serves().await;
    assert_eq!(api.ask(&waiting, Method::GET, "/readyz", "").await, 503);
}

#[tokio::test]
async fn every_documented_answer_is_given_and_is_as_documented() {
    let mut api = Api::read();
    for place in Place::each(|_| ()).await {
        let join = |user: &str, status: &str| json!({"type": "join_user", "userId": user, "name": "N", "status": status, "device": {"kind": "web"}});
        let mut sockets = Vec::new();
        for (user, status) in [("ada", "busy"), ("7", "online"), ("hidden", "invisible"), ("went", "online")] {
            let mut socket = place.node(0).ws("/ws").await;
            socket.send_json(join(user, status)).await;
            socket.expect_type("welcome").await;
            sockets.push(socket);
        }
        sockets[0].send_json(json!({"type": "join_room", "roomId": "lobby", "ref": "r"})).await;
        sockets[0].wait_for(|frame| frame["ref"] == "r").await;
        eventually_eq(async || place.node(0).room_ids("lobby").await, ["ada"], "the room shows one user").await;
        sockets.pop().expect("the last one").close(1000).await;
        let node = place.node(0);
        eventually_eq(async || node.online_ids().await, ["7", "ada"], "one has gone").await;
        ordinary_answers(&mut api, node).await;
        large_bodies(&mut api, node).await;
    }
    narrow_answers(&mut api).await;
    answers_about_registered_rooms(&mut api).await;
    narrow_entrance(&mut api).await;
    answers_to_tokens(&mut api).await;
    answers_without_redis(&mut api).await;

    let mut expected = api.documented();
    for (id, status, code) in ELSEWHERE {
        assert!(expected.remove(&(id.to_owned(), status, code.to_owned())), "{id} {status} {code} is not documented");
    }
    let expected: BTreeSet<_> = expected.into_iter().filter(|(id, ..)| !id.ends_with("Head")).collect();
    let seen: BTreeSet<_> = api.seen.iter().filter(|(id, ..)| !id.ends_with("Head")).cloned().collect();
    assert_eq!(seen, expected, "what was seen, and what is documented");
}

#[tokio::test]
async fn requests_of_socketio_are_answered_as_documented() {
    let node = Node::start_with(|settings| settings.server.cors_allowed_origins = Vec::new()).await;
    let mut api = Api::read();
    let documented = api.all_operations();
    let documented = documented.iter().filter(|(_, _, operation)| operation["tags"][0] == SOCKETIO);
    let documented: BTreeSet<_> = documented.map(|(path, method, _)| format!("{method} {path}")).collect();
    let paths = &Settings::default().socketio.paths;
    let expected: BTreeSet<_> =
        paths.iter().flat_map(|path| [format!("get {path}/"), format!("post {path}/")]).collect();
    assert_eq!(documented, expected);
    for path in paths {
        let polling = format!("{path}/?EIO=4&transport=polling");
        let other = format!("{polling}&sid={}", Polling::open(&node, "").await.sid());
        let session = format!("{polling}&sid={}", Polling::open(&node, "").await.sid());
        let large = "3".repeat(65_537);
        let page = [("origin", "https://evil.example")];
        let none: &[(&str, &str)] = &[];
        for (method, path, headers, body, status) in [
            (Method::GET, &polling, &page[..], "", 403),
            (Method::GET, &format!("{path}/?EIO=3"), none, "", 400),
            (Method::POST, &polling, none, "40", 400),
            (Method::POST, &other, none, &large, 413),
            (Method::POST, &session, none, "40", 200),
            (Method::GET, &session, none, "", 200),
            (Method::POST, &session, none, "x", 400),
        ] {
            let answer = node.request(method.clone(), path, headers, body).await;
            assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
            api.check(method.as_str(), path, answer.status, &headers_of(&answer), &answer.body);
        }
    }
    let node = Node::start_with(|settings| settings.socketio.max_polling = 1).await;
    let _place = Polling::open(&node, "").await;
    let path = format!("{}/?EIO=4&transport=polling", paths[0]);
    let answer = node.get_raw(&path).await;
    assert_eq!(answer.status, 503);
    api.check("GET", &path, 503, &headers_of(&answer), &answer.body);
    let mut redis = RedisServer::start().await;
    redis.kill();
    let lost = Node::spawn(test_settings_with_redis(&redis.url())).await;
    let answer = lost.get_raw(&path).await;
    assert_eq!(answer.status, 504);
    api.check("GET", &path, 504, &headers_of(&answer), &answer.body);
}

fn headers_of(answer: &HttpAnswer) -> Vec<(String, String)> {
    let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    answer.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

#[tokio::test]
async fn a_refused_connection_is_told_as_documented() {
    let node = Node::start_with(|settings| settings.server.max_http_connections = 1).await;
    let _open = node.open_http().await;
    let mut refused = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    let mut answer = String::new();
    let read = tokio::time::timeout(DEADLINE, refused.read_to_string(&mut answer)).await.expect("it is told in time");
    read.expect("an orderly end");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("retry-after: 1"), "{head}");
    let api = Api::read();
    let schema = api.document.at("/components/responses/NoRoom/content/application~1json/schema");
    assert_eq!(api.document.violations(schema, &serde_json::from_str(body).expect("JSON")), NO_VIOLATIONS);
}

#[tokio::test]
async fn the_page_runs_its_own_script_alone() {
    let node = Node::start_with(|_| ()).await;
    let page = node.get_raw("/docs").await;
    let policy = page.headers["content-security-policy"].to_str().expect("a text").to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for text in [&page.body, &node.get_raw("/docs/docs.js").await.body, &node.get_raw("/docs/docs.css").await.body] {
        assert!(!text.contains("://") && !text.contains("innerHTML"), "{text}");
    }
    // What the page names is there.
    let sources = ["href=\"", "src=\""].map(|before| page.body.split(before).skip(1)).into_iter().flatten();
    for source in sources.map(|rest| rest.split_once('"').expect("a text ends").0) {
        assert_eq!(node.get_raw(&format!("/{source}")).await.status, 200, "{source}");
    }
}
