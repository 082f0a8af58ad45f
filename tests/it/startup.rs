//! Starting the binary: what it says, what it refuses, and where its settings come from.

use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::*;

/// Starts a node that must refuse: its exit status is 1, and all it says is one line, which is returned.
async fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let ended = NodeProcess::try_spawn(arguments, environment).await.err().expect("it refuses to start");
    assert_eq!((ended.status.code(), &*ended.stdout), (Some(1), ""), "{ended:?}");
    let line = ended.stderr.strip_suffix('\n').expect("a line").to_owned();
    assert!(!line.contains('\n'), "one line: {line}");
    line.strip_prefix("rollcall: ").unwrap_or_else(|| panic!("whose line is this? {line}")).to_owned()
}

/// A settings file, removed with the value.
struct SettingsFile(PathBuf);

impl SettingsFile {
    fn new(name: &str, toml: &str) -> SettingsFile {
        let name = format!("{name}-{}.toml", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, toml).expect("the file can be written");
        SettingsFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for SettingsFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn start_up_says_where_it_listens_which_store_it_uses_and_who_it_is() {
    let node = NodeProcess::spawn(&[]).await;
    let expected = format!(
        "rollcall {} listening on http://{}\nstore: embedded (one node; set REDIS_URL for many)\nnode: {}\n",
        env!("CARGO_PKG_VERSION"),
        node.addr(),
        node.node_id()
    );
    assert_eq!(node.stdout(), expected);
    assert_eq!(node.addr().ip().to_string(), "127.0.0.1");
    node.wait_ready().await;

    let node = NodeProcess::try_spawn(&["serve"], &[("REDIS_URL", "redis://:secret@127.0.0.1:1/3")]).await;
    let node = node.unwrap_or_else(|ended| panic!("{ended:?}"));
    assert!(node.stdout().contains("\nstore: redis://127.0.0.1:1/3 (prefix online)\n"), "{}", node.stdout());
    assert!(!node.stdout().contains("secret") && !node.stderr().contains("secret"), "{}", node.stderr());
}

/// What a line of a collected log has: the node, when, how bad, and what.
fn logged(line: &str) -> [String; 4] {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    ["node", "timestamp", "level", "message"]
        .map(|member| line[member].as_str().unwrap_or_else(|| panic!("no {member}: {line}")).to_owned())
}

#[tokio::test]
async fn each_line_of_a_log_in_json_is_json_and_names_the_node() {
    let mut redis = RedisServer::start().await;
    let json = ("ROLLCALL__TELEMETRY__LOG_FORMAT", "json");
    let named = ("ROLLCALL__SERVER__NAME", "berlin-1");
    let filter = ("ROLLCALL__TELEMETRY__LOG_FILTER", "debug");
    let mut node = NodeProcess::spawn(&[json, named, filter, ("REDIS_URL", &redis.url())]).await;
    node.wait_ready().await;
    node.join("ada").await.close(1000).await;
    redis.kill();
    eventually_eq(async || node.is_degraded().await, Some(true), "the node is degraded").await;
    node.sigterm();
    node.wait().await;
    let text = node.stdout() + &node.stderr();
    assert!(text.lines().count() > 10, "{text}");
    for line in text.lines() {
        assert_eq!(logged(line)[0], "berlin-1", "{line}");
    }
}

#[tokio::test]
async fn a_node_that_refuses_to_start_says_so_in_json_where_the_log_is_json() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let environment =
        [("ROLLCALL__TELEMETRY__LOG_FORMAT", "json"), ("ROLLCALL__SERVER__NAME", "berlin-1"), ("PORT", &*port)];
    let silent = [&environment[..], &[("ROLLCALL__TELEMETRY__LOG_FILTER", "off")]].concat();
    let ended = NodeProcess::try_spawn(&[], &silent).await.err().expect("it refuses to start");
    assert_eq!((ended.status.code(), &*ended.stdout), (Some(1), ""), "{ended:?}");
    let [node, _, level, message] = logged(ended.stderr.lines().last().expect("a line"));
    assert_eq!((&*node, &*level), ("berlin-1", "ERROR"), "{ended:?}");
    assert!(message.contains("in use"), "{message}");
    for line in ended.stderr.lines() {
        logged(line);
    }
}

#[tokio::test]
async fn a_redis_that_resets_each_connection_may_be_in_protected_mode() {
    // What Redis does to other machines then. Tests have only this one.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("redis://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.readable().await;
            // It is closed, and what came is unread: so it is reset.
            drop(stream);
        }
    });
    let node = NodeProcess::spawn(&[("REDIS_URL", &url)]).await;
    node.expect_log("is it in protected mode").await;
}

#[tokio::test]
async fn help_and_version_are_answered_and_nothing_is_served() {
    let said = async |argument: &str| {
        let ended = NodeProcess::try_spawn(&[argument], &[("PORT", "no number")]).await.err().expect("it ends");
        assert_eq!((ended.status.code(), &*ended.stderr), (Some(0), ""), "{argument}");
        ended.stdout
    };
    assert_eq!(said("--version").await, format!("rollcall {}\n", env!("CARGO_PKG_VERSION")));
    let help = said("--help").await;
    for word in ["serve", "healthcheck", "--config", "ROLLCALL__SECTION__KEY", "HOST, PORT, REDIS_URL and"] {
        assert!(help.contains(word), "{word} is missing in: {help}");
    }
}

#[tokio::test]
async fn an_unknown_setting_is_named() {
    let line = refusal(&[], &[("ROLLCALL__PRESENCE__GARCE_MS", "1")]).await;
    assert_eq!(line, r#"unknown setting "ROLLCALL__PRESENCE__GARCE_MS" in the environment"#);
    let file = SettingsFile::new("unknown", "[presence]\ngarce_ms = 1\n");
    let line = refusal(&["--config", file.path()], &[]).await;
    assert_eq!(line, format!(r#"unknown setting "presence.garce_ms" in {}"#, file.path()));
}

#[tokio::test]
async fn a_value_out_of_range_is_named_with_its_range_and_its_origin() {
    assert_eq!(
        refusal(&[], &[("ROLLCALL__FANOUT__LOG_BYTES", "1")]).await,
        "fanout.log_bytes = 1 is out of range 65536..=1073741824 \
         (fanout.log_bytes comes from ROLLCALL__FANOUT__LOG_BYTES in the environment)"
    );
    let line = refusal(&[], &[("PORT", "65536")]).await;
    assert!(line.starts_with("server.port = 65536 is out of range") && line.contains("PORT"), "{line}");
    let line = refusal(&[], &[("REDIS_URL", "http://:secret@localhost")]).await;
    assert!(line.starts_with("redis.url must start with redis://") && !line.contains("secret"), "{line}");
}

#[tokio::test]
async fn a_contradiction_names_both_settings() {
    let line = refusal(&[], &[("ROLLCALL__PRESENCE__GRACE_MS", "10000")]).await;
    assert!(line.starts_with("presence.grace_ms = 10000 must be less than presence.lease_ms = 10000"), "{line}");
}

#[tokio::test]
async fn a_settings_file_that_cannot_be_read_is_named() {
    let line = refusal(&["--config", "/no/such.toml"], &[]).await;
    assert!(line.starts_with("cannot read settings file /no/such.toml: "), "{line}");
    let file = SettingsFile::new("broken", "[server\n");
    let line = refusal(&["--config", file.path()], &[]).await;
    assert!(line.starts_with(&format!("settings file {}: ", file.path())), "{line}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let line = refusal(&[], &[("PORT", &port.to_string())]).await;
    assert!(line.starts_with(&format!("cannot listen on 127.0.0.1:{port} (server.host, server.port): ")), "{line}");
    assert!(line.contains("in use"), "{line}");
}

#[tokio::test]
async fn a_redis_that_refuses_the_password_is_named_without_it() {
    let redis = RedisServer::start().await;
    redis.command(&["CONFIG", "SET", "requirepass", "right"]).await;
    let address = format!("127.0.0.1:{}", redis.port());
    for login in ["", ":wrong@", "nobody:wrong@"] {
        let line = refusal(&[], &[("REDIS_URL", &format!("redis://{login}{address}"))]).await;
        assert!(line.starts_with(&format!("cannot use redis://{address}/0 (redis.url): ")), "{line}");
        assert!(!line.contains("wrong@") && !line.contains(":wrong"), "{line}");
    }
    let mut environment = test_environment();
    environment.push(("REDIS_URL".to_owned(), format!("redis://:right@{address}")));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let node = NodeProcess::spawn(&environment).await;
    node.wait_ready().await;
    let _ada = node.join("ada").await;
    assert_eq!(node.online_ids().await, ["ada"]);
}

#[tokio::test]
async fn a_node_whose_redis_is_away_starts_and_is_ready_once_it_comes() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let mut environment = test_environment();
    environment.push(("REDIS_URL".to_owned(), redis.url()));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let node = NodeProcess::spawn(&environment).await;
    assert_eq!((node.get("/readyz").await.0, node.get("/healthz").await.0), (503, 200));
    redis.restart().await;
    node.wait_ready().await;
    let _ada = node.join("ada").await;
    assert_eq!(redis.smembers("online:users:set").await, ["ada"]);
    let degraded = async || node.get("/readyz").await.1["degraded"].clone();
    eventually_eq(degraded, false, "the node is no longer degraded").await;
}

#[tokio::test]
async fn the_file_is_under_the_environment_and_that_under_the_short_names() {
    let file = SettingsFile::new("layers", "[server]\nhost = \"127.0.0.2\"\nmax_sockets = 1\n");
    let arguments = ["--config", file.path()];
    let long = ("ROLLCALL__SERVER__HOST", "127.0.0.3");
    let short = ("HOST", "127.0.0.4");
    let unset = ("HOST", "");
    for (environment, host) in
        [(&[][..], "127.0.0.2"), (&[long], "127.0.0.3"), (&[long, short], "127.0.0.4"), (&[long, unset], "127.0.0.3")]
    {
        let node = NodeProcess::try_spawn(&arguments, environment).await.unwrap_or_else(|ended| panic!("{ended:?}"));
        assert_eq!(node.addr().ip().to_string(), host);
        // What nobody overrides holds.
        let _ada = node.join("ada").await;
        assert_eq!(WsClient::try_connect(node.addr(), "/ws").await.err().expect("it is full").status, 503);
    }
}

#[tokio::test]
async fn the_healthcheck_asks_the_node_with_the_same_settings() {
    let mut node = NodeProcess::spawn(&[]).await;
    let port = node.addr().port().to_string();
    let healthcheck = async |host: &str| {
        let environment = [("PORT", port.as_str()), ("HOST", host)];
        let ended = NodeProcess::try_spawn(&["healthcheck"], &environment).await.err().expect("it ends");
        (ended.status.code(), ended.stdout, ended.stderr)
    };
    let alive = (Some(0), String::new(), String::new());
    assert_eq!(healthcheck("").await, alive);
    assert_eq!(healthcheck("0.0.0.0").await, alive);
    assert_eq!(healthcheck("localhost").await, alive);
    node.kill9();
    let (status, _, said) = healthcheck("").await;
    assert_eq!(status, Some(1));
    assert!(said.starts_with("rollcall: not listening") && said.lines().count() == 1, "{said}");
}

#[tokio::test]
async fn the_healthcheck_asks_for_readiness_if_told_to() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let mut environment = test_environment();
    environment.push(("REDIS_URL".to_owned(), redis.url()));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let node = NodeProcess::spawn(&environment).await;
    let port = node.addr().port().to_string();
    let healthcheck = async |arguments: &[&str]| {
        let arguments = [&["healthcheck"], arguments].concat();
        let ended = NodeProcess::try_spawn(&arguments, &[("PORT", &port)]).await.err().expect("it ends");
        (ended.status.code(), ended.stderr)
    };
    let yes = (Some(0), String::new());
    assert_eq!(healthcheck(&[]).await, yes, "it is alive");
    let (status, said) = healthcheck(&["--ready"]).await;
    assert_eq!((status, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with("rollcall: not ready: HTTP/1.1 503 ") && said.contains(r#""code":"not_ready""#), "{said}");
    redis.restart().await;
    node.wait_ready().await;
    assert_eq!(healthcheck(&["--ready"]).await, yes, "it is ready");
}

#[tokio::test]
async fn the_healthcheck_begins_as_the_node_expects_of_its_address() {
    for (proxies, host) in [("::1", "::1"), ("127.0.0.1", "::1"), ("127.0.0.1", "127.0.0.1"), ("::1", "127.0.0.1")] {
        let settings = [
            ("HOST", host),
            ("ROLLCALL__SERVER__PROXY_PROTOCOL", "on"),
            ("ROLLCALL__SERVER__TRUSTED_PROXIES", proxies),
        ];
        let node = NodeProcess::spawn(&settings).await;
        let port = node.addr().port().to_string();
        let environment = [&settings[..], &[("PORT", &port)]].concat();
        let ended = NodeProcess::try_spawn(&["healthcheck"], &environment).await.err().expect("it ends");
        assert_eq!((ended.status.code(), &*ended.stderr), (Some(0), ""), "{host} behind {proxies}");
    }
}
