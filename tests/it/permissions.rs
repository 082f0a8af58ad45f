//! The table of permissions, over real sockets and HTTP. `docs/security.md` prints it, one row for each row here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use reqwest::Method;
use rollcall::settings::RoomRule;
use serde_json::{Value, json};

use crate::auth::{ask, list_key, secret_node};
use crate::support::*;

/// All that a user may be allowed.
const ALL: &str = "presence:read presence:write presence:invisible observe";

/// A request that is refused with some claims, and one that is carried out with others.
struct Row {
    name: &'static str,
    is_joined: bool,
    /// The claims, the request, and the code of its refusal. It is none if the request needs no right.
    refused: Option<(Value, Value, &'static str)>,
    allowed: (Value, Value),
}

fn scopes(scopes: &str) -> Value {
    json!({"sub": "me", "scope": scopes})
}

/// Everything, in the room `granted` alone.
fn narrow() -> Value {
    json!({"sub": "me", "scope": ALL, "rooms": ["granted"], "name": "Me"})
}

/// A row about one right: the same request with and without it.
fn needs(name: &'static str, is_joined: bool, right: &str, request: Value) -> Row {
    let without = ALL.replace(right, "");
    let refused = Some((scopes(&without), request.clone(), "forbidden"));
    // For others the right alone is enough, besides what there must be to get so far.
    Row { name, is_joined, refused, allowed: (scopes(ALL), request) }
}

/// A row about something that needs no right.
fn free(name: &'static str, request: Value) -> Row {
    Row { name, is_joined: true, refused: None, allowed: (scopes(""), request) }
}

fn rows() -> Vec<Row> {
    let room = |kind: &str, room: &str| json!({"type": kind, "roomId": room});
    let join = |field: &str, value: &str| json!({"type": "join_user", field: value});
    let with_presence = |mut request: Value, presence: &str| {
        request["presence"] = presence.into();
        request
    };
    vec![
        needs("join", false, "presence:write", json!({"type": "join_user"})),
        Row {
            name: "join_as_another_user",
            is_joined: false,
            refused: Some((scopes(ALL), join("userId", "other"), "other_user")),
            allowed: (scopes(ALL), join("userId", "me")),
        },
        needs("join_hidden", false, "presence:invisible", join("status", "invisible")),
        Row {
            name: "join_and_hear",
            is_joined: false,
            refused: Some((scopes("presence:write"), join("presence", "everyone"), "forbidden")),
            allowed: (scopes("presence:write"), join("presence", "none")),
        },
        needs("enter_room", true, "presence:write", room("join_room", "granted")),
        Row {
            name: "enter_room_and_hear",
            is_joined: true,
            refused: Some((scopes("presence:write"), room("join_room", "granted"), "forbidden")),
            allowed: (scopes("presence:write"), with_presence(room("join_room", "granted"), "none")),
        },
        Row {
            name: "enter_room_of_token",
            is_joined: true,
            refused: Some((narrow(), room("join_room", "other"), "forbidden")),
            allowed: (narrow(), room("join_room", "granted")),
        },
        free("leave_room", room("leave_room", "granted")),
        free("leave", json!({"type": "leave"})),
        needs("choose_status", true, "presence:write", json!({"type": "set_status", "status": "busy"})),
        needs("hide", true, "presence:invisible", json!({"type": "set_status", "status": "invisible"})),
        needs("change_profile", true, "presence:write", json!({"type": "update_presence", "email": "a@b"})),
        Row {
            name: "change_what_token_states",
            is_joined: true,
            refused: Some((narrow(), json!({"type": "update_presence", "name": "Eve"}), "forbidden")),
            allowed: (narrow(), json!({"type": "update_presence", "email": "a@b"})),
        },
        needs("be_active", true, "presence:write", json!({"type": "user_activity"})),
        needs("type_in_room", true, "presence:write", room("typing_start", "granted")),
        needs("type_to_user", true, "presence:write", json!({"type": "typing_start", "toUserId": "other"})),
        needs("see_own_devices", true, "presence:write", json!({"type": "get_devices"})),
        needs("list", true, "presence:read", json!({"type": "get_online_users"})),
        needs("check", false, "presence:read", json!({"type": "check_user_online", "userId": "other"})),
        needs("watch", true, "presence:read", json!({"type": "watch", "userIds": ["other"]})),
        needs("watch_count", true, "presence:read", json!({"type": "watch_count"})),
        needs("resume", true, "presence:read", json!({"type": "resume"})),
        free("hear_less", json!({"type": "unwatch", "userIds": ["other"]})),
        free("hear_no_count", json!({"type": "unwatch_count"})),
        free("pause", json!({"type": "pause"})),
        needs("subscribe", true, "presence:read", json!({"type": "subscribe", "presence": "everyone"})),
        needs("listen_unseen", false, "observe", json!({"type": "subscribe", "presence": "everyone"})),
        needs("see_room", true, "presence:read", room("get_room_users", "granted")),
        Row {
            name: "see_room_of_token",
            is_joined: true,
            refused: Some((narrow(), room("get_room_users", "other"), "forbidden")),
            allowed: (narrow(), room("get_room_users", "granted")),
        },
        needs("see_room_unseen", false, "observe", room("get_room_users", "granted")),
        needs("count_room", true, "presence:read", room("get_room_count", "granted")),
    ]
}

#[tokio::test]
async fn each_row_of_sockets_holds() {
    let node = secret_node().await;
    for row in rows() {
        if let Some((claims, request, code)) = row.refused {
            let mut client = client(&node, row.is_joined, &claims).await;
            let answer = client.ask(request.clone()).await;
            assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{}: {request}", row.name);
            assert_eq!(answer["roomId"], request["roomId"], "{}: {answer}", row.name);
        }
        let (claims, request) = row.allowed;
        let mut client = client(&node, row.is_joined, &claims).await;
        let answer = client.ask(request.clone()).await;
        let code = answer["code"].as_str().unwrap_or_default();
        let is_allowed = !["forbidden", "other_user", "unauthenticated"].contains(&code);
        assert!(is_allowed, "{}: {request} with {claims}: {answer}", row.name);
        // Nobody may do any of this.
        let answer = node.ws("/ws").await.ask(request).await;
        assert_eq!(answer["code"], "unauthenticated", "{}: {answer}", row.name);
    }
}

/// A socket of somebody with these claims. If it has joined, it was with all rights and into the room of the token.
async fn client(node: &Endpoint, is_joined: bool, claims: &Value) -> WsClient {
    let first = if is_joined { scopes(ALL) } else { claims.clone() };
    let mut client = node.ws(&format!("/ws?token={}", token(first))).await;
    if is_joined {
        client.ask(json!({"type": "join_user", "rooms": ["granted"], "presence": "none"})).await;
        client.wait_for(|frame| frame["type"] == "room_joined").await;
        let known = client.ask(json!({"type": "authenticate", "token": token(claims.clone())})).await;
        assert_eq!(known["type"], "authentication_success", "{known}");
    }
    client
}

#[tokio::test]
async fn the_rooms_of_a_join_are_asked_about_one_by_one() {
    let node = secret_node().await;
    let mut client = node.ws(&format!("/ws?token={}", token(narrow()))).await;
    client.send_json(json!({"type": "join_user", "rooms": ["other", "granted"]})).await;
    let refused = client.wait_for(|frame| frame["type"] == "error").await;
    assert_eq!((&refused["code"], &refused["roomId"]), (&json!("forbidden"), &json!("other")));
    let joined = client.wait_for(|frame| frame["type"] == "room_joined").await;
    assert_eq!(joined["roomId"], "granted");
    // Who may not read hears nothing of a room, and so enters none in this way.
    let mut client = node.ws(&format!("/ws?token={}", token(scopes("presence:write")))).await;
    client.send_json(json!({"type": "join_user", "rooms": ["granted"]})).await;
    let welcome = client.expect_type("welcome").await;
    assert_eq!(welcome.get("onlineCount"), None);
    let refused = client.expect_type("error").await;
    assert_eq!((&refused["code"], &refused["roomId"]), (&json!("forbidden"), &json!("granted")));
}

#[tokio::test]
async fn a_token_that_names_rooms_needs_no_register() {
    let node = Node::start_with(|settings| {
        with_secret(settings);
        settings.rooms.access = RoomRule::Registered;
    })
    .await;
    let online = "/api/chatroom/granted/online-users";
    let mut named = node.ws(&format!("/ws?token={}", token(narrow()))).await;
    named.send_json(json!({"type": "join_user", "rooms": ["granted"]})).await;
    named.wait_for(|frame| frame["type"] == "room_joined").await;
    let answer = ask(&node, Method::GET, online, &token(narrow())).await;
    let shown: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((answer.status, &shown["data"]["onlineCount"]), (200, &json!(1)));
    // About a token that names no rooms, the register decides.
    let mut other = node.ws(&format!("/ws?token={}", token(scopes(ALL)))).await;
    other.ask(json!({"type": "join_user"})).await;
    for kind in ["join_room", "get_room_users", "get_room_count"] {
        assert_eq!(other.ask(json!({"type": kind, "roomId": "granted"})).await["code"], "room_not_found", "{kind}");
    }
    assert_eq!(ask(&node, Method::GET, online, &token(scopes(ALL))).await.status, 404);
}

/// Who asks over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// A user with these scopes.
    User(&'static str),
    /// The user whose token names the room `granted` alone.
    Narrow,
    /// A server whose key has this scope.
    Server(&'static str),
}

/// Those who are refused, each with the code, and those who are not.
type Askers = (&'static [(Asker, &'static str)], &'static [Asker]);

/// A request over HTTP, who is refused and how, and who is not.
struct HttpRow {
    name: &'static str,
    method: Method,
    path: &'static str,
    body: &'static str,
    refused: &'static [(Asker, &'static str)],
    allowed: &'static [Asker],
}

const WITHOUT_READ: &str = "presence:write presence:invisible observe";
const WITHOUT_WRITE: &str = "presence:read presence:invisible observe";
const READERS: &[Asker] = &[Asker::User("presence:read"), Asker::Server("presence:read"), Asker::Server("admin")];
const NO_READERS: &[(Asker, &str)] =
    &[(Asker::User(WITHOUT_READ), "forbidden"), (Asker::Server("metrics"), "forbidden")];
const WRITERS: &[Asker] = &[Asker::User("presence:write"), Asker::Server("admin")];
const NO_WRITERS: &[(Asker, &str)] =
    &[(Asker::User(WITHOUT_WRITE), "forbidden"), (Asker::Server("presence:write"), "forbidden")];
const ADMINS: &[Asker] = &[Asker::User("admin"), Asker::Server("admin")];
const NO_ADMINS: &[(Asker, &str)] = &[(Asker::User(ALL), "forbidden"), (Asker::Server("presence:read"), "forbidden")];

fn http_rows() -> Vec<HttpRow> {
    let row =
        |name, method, path, body, (refused, allowed): Askers| HttpRow { name, method, path, body, refused, allowed };
    let (read, admin) = ((NO_READERS, READERS), (NO_ADMINS, ADMINS));
    let (get, put) = (Method::GET, Method::PUT);
    vec![
        row("http_online_users", get.clone(), "/api/online-users", "", read),
        row("http_statuses", get.clone(), "/api/user-status/online", "", read),
        row("http_status_count", get.clone(), "/api/user-status/online/count", "", read),
        row("http_status", get.clone(), "/api/user-status/other", "", read),
        row("http_batch", Method::POST, "/api/user-status/batch", r#"{"userIds":["other"]}"#, read),
        row("http_last_seen", put.clone(), "/api/user-status/last-seen", r#"{"userId":"me"}"#, (NO_WRITERS, WRITERS)),
        row(
            "http_last_seen_of_another",
            put.clone(),
            "/api/user-status/last-seen",
            r#"{"userId":"other"}"#,
            (&[(Asker::User(ALL), "other_user"), (Asker::User("admin"), "other_user")], &[Asker::Server("admin")]),
        ),
        row("http_room", get.clone(), "/api/chatroom/granted/online-users", "", read),
        row(
            "http_room_as_another",
            get.clone(),
            "/api/chatroom/granted/online-users?userId=other",
            "",
            (
                &[(Asker::User(ALL), "other_user"), (Asker::Server("presence:read"), "forbidden")],
                &[Asker::Server("admin")],
            ),
        ),
        row(
            "http_room_of_token",
            get.clone(),
            "/api/chatroom/other/online-users",
            "",
            (&[(Asker::Narrow, "forbidden")], &[Asker::User(ALL)]),
        ),
        row("http_state", put.clone(), "/api/users/me/presence", r#"{"status":"busy"}"#, admin),
        row("http_query", Method::POST, "/api/users/query", r#"{"userIds":["other"]}"#, admin),
        row("http_explain", get.clone(), "/api/users/me/explain", "", admin),
        row("http_disconnect", Method::DELETE, "/api/users/me/sockets", "", admin),
        row("http_rooms", get.clone(), "/api/rooms", "", admin),
        row("http_register_room", put.clone(), "/api/rooms/a", "", admin),
        row("http_remove_room", Method::DELETE, "/api/rooms/a", "", admin),
        row("http_register_member", put, "/api/rooms/a/members/me", "", admin),
        row("http_remove_member", Method::DELETE, "/api/rooms/a/members/me", "", admin),
        row("http_nodes", get.clone(), "/api/nodes", "", admin),
        row(
            "http_metrics",
            get,
            "/metrics",
            "",
            (
                &[(Asker::User("admin"), "forbidden"), (Asker::Server("presence:read"), "forbidden")],
                &[Asker::Server("metrics"), Asker::Server("admin")],
            ),
        ),
    ]
}

#[tokio::test]
async fn each_row_of_http_holds() {
    let mut settings = test_settings();
    with_secret(&mut settings);
    let scopes_of_keys = ["presence:read", "presence:write", "metrics", "admin"];
    let keys: Vec<_> = scopes_of_keys
        .iter()
        .map(|scope| (*scope, list_key(&mut settings, &scope.replace(':', "-"), &[scope])))
        .collect();
    let node = Node::start_with(|fresh| *fresh = settings).await;
    let shown = |asker: Asker| match asker {
        Asker::User(granted) => token(scopes(granted)),
        Asker::Narrow => token(narrow()),
        Asker::Server(scope) => keys.iter().find(|(known, _)| *known == scope).expect("a key").1.clone(),
    };
    for row in http_rows() {
        let ask = async |shown: Option<String>| {
            let bearer = format!("Bearer {}", shown.clone().unwrap_or_default());
            let mut lines = vec![("content-type", "application/json")];
            if shown.is_some() {
                lines.push(("authorization", &bearer));
            }
            let answer = node.request(row.method.clone(), row.path, &lines, row.body).await;
            let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            (answer.status, body["code"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(ask(None).await, (401, "token_missing".to_owned()), "{}", row.name);
        for (asker, code) in row.refused {
            assert_eq!(ask(Some(shown(*asker))).await, (403, (*code).to_owned()), "{}: {asker:?}", row.name);
        }
        for asker in row.allowed {
            let (status, code) = ask(Some(shown(*asker))).await;
            assert!(![401, 403].contains(&status), "{}: {asker:?}: {status} {code}", row.name);
        }
    }
}

#[tokio::test]
async fn no_documented_resource_is_open_by_mistake() {
    const OPEN: [&str; 9] = [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/docs",
        "/docs/docs.css",
        "/docs/docs.js",
        "/ws",
        // Its files are as in the repository. What the page shows, it asks for like any other client.
        "/",
        "/page/{file}",
    ];
    // As at `/ws`, a session may begin there before the client shows who it is.
    const SOCKETIO: [&str; 2] = ["/socket.io/", "/api/socketio/"];
    let node = secret_node().await;
    let document = Document::read("docs/openapi.json");
    for (path, methods) in document.at("/paths").as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let answer = node.request(method.clone(), &path.replace(['{', '}'], ""), &[], "").await;
            let is_open = OPEN.contains(&path.as_str()) || SOCKETIO.contains(&path.as_str());
            assert_eq!(answer.status == 401, !is_open, "{method} {path}: {answer:?}");
        }
    }
    // A resource that is not there is no secret. A method that is not there is only for those who may come in.
    assert_eq!(node.get_raw("/api/nothing").await.status, 404);
    assert_eq!(node.request(Method::PATCH, "/api/rooms", &[], "").await.status, 401);
    assert_eq!(ask(&node, Method::PATCH, "/api/rooms", &token(scopes("admin"))).await.status, 405);
}

#[test]
fn the_documented_permissions_are_those_that_are_tried() {
    let text = document();
    let begin = text.find("## Permissions").expect("the permissions");
    let section = &text[begin..begin + text[begin + 1..].find("\n## ").expect("a next section")];
    let name = |line: &str| line.strip_prefix("| `")?.split('`').next().map(str::to_owned);
    let documented: BTreeSet<_> = section.lines().filter_map(name).collect();
    let names = rows().into_iter().map(|row| row.name).chain(http_rows().into_iter().map(|row| row.name));
    assert_eq!(documented, names.map(str::to_owned).collect());
}

/// A row of an attack ends with the names of its tests: `file::test`. Unit tests are in `src/`, as `file::tests::test`.
#[test]
fn each_documented_attack_has_its_test_and_each_test_of_attacks_is_documented() {
    let (text, mut documented) = (document(), BTreeSet::new());
    for line in text.lines().filter(|line| line.starts_with("| ") && line.ends_with("` |")) {
        let cell = line.trim_end_matches("` |").rsplit("| `").next().expect("a last cell");
        for test in cell.split("`, `") {
            let Some((file, name)) = test.rsplit_once("::") else { continue };
            let file = match file.strip_suffix("::tests") {
                Some(file) => format!("src/{file}"),
                None => format!("tests/it/{file}"),
            };
            let path = format!("{}/{}.rs", env!("CARGO_MANIFEST_DIR"), file.replace("::", "/"));
            let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(source.contains(&format!("fn {name}(")), "{path} has no test {name}");
            documented.insert(test.to_owned());
        }
    }
    let source = include_str!("auth/attacks.rs");
    for test in source.split("#[tokio::test]\nasync fn ").skip(2) {
        let name = test.split('(').next().expect("a name");
        assert!(documented.contains(&format!("auth::attacks::{name}")), "{name} is not documented");
    }
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
