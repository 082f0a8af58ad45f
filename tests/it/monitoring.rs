//! What `deploy/prometheus` and `deploy/grafana` show of a service to which things happen, with the real Prometheus.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use rollcall::settings::{AuthMode, MetricsRule, ProxyProtocol, Settings};

use crate::slow_consumer::{CHANGES, flood, node_with_slow_client};
use crate::support::shared::http::upgrade_request;
use crate::support::*;

/// Its cause needs a node of its own. `deploy/prometheus/tests.yml` says how many are too many.
const SLOW_CONSUMERS: &str = "RollcallSlowConsumers";

/// Its cause takes minutes. `deploy/prometheus/tests.yml` has it.
const RESTARTS: &str = "RollcallRestarts";

/// All alerts of the rules, in their order.
fn alerts() -> Vec<String> {
    let name = |line: &str| line.trim().strip_prefix("- alert: ").map(str::to_owned);
    deployed("prometheus/rules.yml").lines().filter_map(name).collect()
}

#[test]
fn each_alert_is_documented_and_each_documented_alert_is_there() {
    let documents = include_str!("../../docs/operations.md");
    let row = |line: &str| line.strip_prefix("| [Rollcall")?.split(']').next().map(|name| format!("Rollcall{name}"));
    let documented: Vec<_> = documents.lines().filter_map(row).collect();
    assert_eq!(documented, alerts());
    let runbook = include_str!("../../docs/runbook.md");
    for alert in alerts() {
        assert!(runbook.contains(&format!("\n## {alert}\n")), "no section: {alert}");
        let link = format!("runbook_url: docs/runbook.md#{}", alert.to_lowercase());
        assert!(deployed("prometheus/rules.yml").contains(&link), "no link: {link}");
    }
}

/// A node that has a place for one socket, and one for each address.
async fn small_node() -> Node {
    let mut settings = test_settings();
    settings.server.max_sockets = 1;
    settings.server.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
    settings.limits.sockets_per_address = 1;
    Node::spawn(settings).await
}

/// A node whose trusted proxy must send a PROXY header, and that lets in few at a time. The proxy is not where we come from.
async fn strict_node() -> Node {
    let mut settings = test_settings();
    settings.server.trusted_proxies = vec!["127.0.0.2/32".parse().expect("a network")];
    settings.server.proxy_protocol = ProxyProtocol::On;
    (settings.limits.joins_per_second, settings.limits.join_queue) = (1, 1);
    Node::spawn(settings).await
}

/// A node with a certificate that ends soon, and whose issuer of tokens does not answer. It is never ready.
async fn node_without_keys(issued: &Issued) -> Node {
    let mut settings: Settings = encrypted(test_settings(), issued);
    settings.server.tls_reload = Duration::from_millis(200);
    settings.auth.mode = AuthMode::Jwt;
    settings.auth.metrics = MetricsRule::Open;
    settings.auth.jwks_url = Some("http://127.0.0.1:1/keys".to_owned());
    Node::spawn(settings).await
}

/// Asks for a WebSocket on behalf of a client at this address. What comes of it does not matter.
async fn knock(node: &Node, address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(node.addr()).await.expect("the kernel takes it");
    let named = format!("\r\nX-Forwarded-For: {address}\r\n\r\n");
    let head = upgrade_request("/ws?userId=ada").replace("\r\n\r\n", &named);
    stream.write_all(head.as_bytes()).await.expect("it is read");
    let _ = timeout(DEADLINE, stream.read(&mut [0; 12])).await.expect("an answer in time");
    stream
}

/// A connection of the trusted proxy without its header.
async fn forget_the_header(strict: &Node) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.2:0".parse().expect("an address")).expect("loopback");
    let mut stream = socket.connect(strict.addr()).await.expect("the kernel takes it");
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let _ = timeout(DEADLINE, stream.read(&mut [0; 16])).await;
}

/// A node of a service, with fast audits.
async fn spawn_node(redis_url: &str) -> NodeProcess {
    let mut environment = test_environment();
    environment.push(("REDIS_URL".to_owned(), redis_url.to_owned()));
    environment.push(("ROLLCALL__PRESENCE__AUDIT_MS".to_owned(), "1000".to_owned()));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let node = NodeProcess::spawn(&environment).await;
    node.wait_ready().await;
    node
}

#[tokio::test]
async fn each_alert_fires_for_its_cause_and_each_panel_has_data() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let proxy = ChaosProxy::start(redis.port()).await;
    let (cut_off, mut paused) = (spawn_node(&proxy.url()).await, spawn_node(&redis.url()).await);
    let mut killed = spawn_node(&redis.url()).await;
    let (small, strict) = (small_node().await, strict_node().await);
    let pki = Pki::new();
    let issued = pki.issue_until("node", 2000);
    let without_keys = node_without_keys(&issued).await;
    let plain = [cut_off.addr(), paused.addr(), killed.addr(), small.addr(), strict.addr()];
    let prometheus = Prometheus::start(&plain, &[without_keys.listens_on()]).await;
    let is_scraped = async || prometheus.has_data("count(rollcall_ready) == 6").await;
    eventually_within(3 * DEADLINE, is_scraped, "all nodes are scraped").await;

    let _first = knock(&small, "203.0.113.1").await;
    for _ in 0..100 {
        knock(&small, "203.0.113.1").await;
        knock(&small, "203.0.113.2").await;
    }
    join_all((0..12).map(|_| knock(&strict, "203.0.113.1"))).await;
    forget_the_header(&strict).await;
    fs::write(&issued.key, "rubbish").expect("a file can be written");
    redis.command(&["SADD", "online:users:set", "ghost", "no\nuser"]).await;
    killed.kill9();
    let _bob = cut_off.join("bob").await;
    proxy.cut().await;
    let mut crowd = Vec::new();
    for n in 0..20 {
        crowd.push(paused.join(&format!("user-{n}")).await);
    }
    let by_these =
        ["RollcallNodeDown", "RollcallNotReady", "RollcallDegraded", "RollcallHolding", "RollcallNodesDisagree"];
    prometheus.wait_for_alerts(&by_these).await;
    paused.expect_log(&format!("Swept node {}", cut_off.node_id())).await;
    proxy.restore().await;
    eventually_eq_within(3 * DEADLINE, async || cut_off.is_degraded().await, Some(false), "Redis is back").await;
    // What happens meanwhile is heard late, and the worker is late, too.
    paused.sigstop();
    for n in 0..20 {
        drop(cut_off.join(&format!("late-{n}")).await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    paused.sigcont();

    let alerts = alerts();
    let expected: Vec<_> =
        alerts.iter().map(String::as_str).filter(|name| ![SLOW_CONSUMERS, RESTARTS].contains(name)).collect();
    prometheus.wait_for_alerts(&expected).await;
    for query in panel_queries() {
        assert!(prometheus.has_data(&query).await, "a panel shows nothing: {query}");
    }
}

#[tokio::test]
async fn clients_that_do_not_read_fire_their_alert() {
    let (node, mut busy, mut slow) = node_with_slow_client().await;
    let prometheus = Prometheus::start(&[node.addr()], &[]).await;
    let is_scraped = async || prometheus.has_data("rollcall_slow_consumers_total == 0").await;
    eventually_within(3 * DEADLINE, is_scraped, "the node is scraped").await;
    flood(&mut busy, 0..CHANGES).await;
    slow.wait_for_type("resync").await;
    flood(&mut busy, CHANGES..2 * CHANGES).await;
    assert_eq!(slow.expect_close().await.0, 4008);
    prometheus.wait_for_alerts(&[SLOW_CONSUMERS]).await;
}

/// All queries of the board, with what Grafana puts in.
fn panel_queries() -> Vec<String> {
    let board: Value = serde_json::from_str(&deployed("grafana/dashboards/rollcall.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<_> =
        targets.map(|target| target["expr"].as_str().expect("a query").replace("$__rate_interval", "1m")).collect();
    assert!(queries.len() > 10, "{queries:?}");
    queries
}
