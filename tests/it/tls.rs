//! TLS of the listener. The tests of `conformance.rs`, `slow_consumer.rs` and `socketio_upgrade.rs` run here again, over TLS.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::raw_ws::{CLOSE, FIN, PING, frame};
use crate::support::shared::http::upgrade_request;
use crate::support::*;

#[path = "conformance.rs"]
#[expect(clippy::duplicate_mod, reason = "these tests run twice, and see from where they run")]
mod conformance;
#[path = "slow_consumer.rs"]
#[expect(clippy::duplicate_mod, reason = "these tests run twice, and see from where they run")]
mod slow_consumer;
#[path = "socketio_upgrade.rs"]
#[expect(clippy::duplicate_mod, reason = "these tests run twice, and see from where they run")]
mod socketio_upgrade;

/// A node that encrypts, and looks at its files all the time.
async fn encrypted_node(issued: &Issued) -> Node {
    let mut settings = encrypted(test_settings(), issued);
    settings.server.tls_reload = Duration::from_millis(100);
    let node = Node::spawn(settings).await;
    node.wait_ready().await;
    node
}

/// The certificate that a new connection is shown.
async fn shown(addr: SocketAddr, pki: &Pki) -> Vec<u8> {
    let stream = connect_tls(addr, &pki.ca()).await.expect("a handshake");
    stream.get_ref().1.peer_certificates().expect("a chain")[0].to_vec()
}

#[tokio::test]
async fn http_and_sockets_are_served_and_the_end_of_the_certificate_is_told() {
    let pki = Pki::new();
    let node = encrypted_node(&pki.issue("first")).await;
    let mut ada = node.join("ada").await;
    let bob = node.join("bob").await;
    ada.wait_for(|frame| frame["type"] == "user_online" && frame["userId"] == "bob").await;
    assert_eq!(node.online_ids().await, ["ada", "bob"]);
    bob.close(1000).await;
    ada.wait_for(|frame| frame["type"] == "user_offline" && frame["userId"] == "bob").await;
    // 2099-01-02
    assert_eq!(node.counter("rollcall_certificate_ends_timestamp_seconds").await, 4_070_995_200);
    // Nothing but HTTP/1.1 is offered.
    let stream = connect_tls(node.listens_on(), &pki.ca()).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), None, "the client asked for none");
    // Another authority is not trusted by its clients.
    assert!(connect_tls(node.listens_on(), &Pki::new().ca()).await.is_err());
}

#[tokio::test]
async fn a_changed_certificate_is_for_new_connections_and_old_sockets_live() {
    let pki = Pki::new();
    let (issued, next) = (pki.issue("first"), pki.issue_until("next", 2098));
    let (first, second) = (issued.der(), next.der());
    let node = encrypted_node(&issued).await;
    let mut ada = node.join("ada").await;
    assert_eq!(shown(node.listens_on(), &pki).await, first);
    issued.replace_by(&next);
    eventually_eq(async || shown(node.listens_on(), &pki).await, second, "new connections see it").await;
    assert_eq!(ada.fence().await, NOTHING);
    let _bob = node.join("bob").await;
    ada.wait_for(|frame| frame["type"] == "user_online" && frame["userId"] == "bob").await;
    assert_eq!(reloads(&node, "loaded").await, 1);
    assert_eq!(node.counter("rollcall_certificate_ends_timestamp_seconds").await, 4_039_459_200);
}

#[tokio::test]
async fn half_of_a_new_pair_and_rubbish_change_nothing_until_the_rest_is_there() {
    let pki = Pki::new();
    let (issued, next) = (pki.issue("first"), pki.issue("next"));
    let (first, second) = (issued.der(), next.der());
    let node = encrypted_node(&issued).await;
    std::fs::rename(&next.certificate, &issued.certificate).expect("a file can be renamed");
    eventually_eq(async || reloads(&node, "failed").await, 1, "the pair does not fit").await;
    assert_eq!(shown(node.listens_on(), &pki).await, first);
    std::fs::write(&issued.key, "rubbish").expect("a file can be written");
    eventually_eq(async || reloads(&node, "failed").await, 2, "that is no key").await;
    std::fs::remove_file(&issued.key).expect("a file can be removed");
    eventually_eq(async || reloads(&node, "failed").await, 3, "there is no key").await;
    assert_eq!(shown(node.listens_on(), &pki).await, first);
    std::fs::rename(&next.key, &issued.key).expect("a file can be renamed");
    eventually_eq(async || shown(node.listens_on(), &pki).await, second.clone(), "the pair is whole").await;
    let chain = std::fs::read_to_string(&issued.certificate).expect("a file");
    let broken = format!("{chain}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    std::fs::write(&issued.certificate, broken).expect("a file can be written");
    eventually_eq(async || reloads(&node, "failed").await, 4, "the second certificate is none").await;
    assert_eq!(shown(node.listens_on(), &pki).await, second);
    assert_eq!(reloads(&node, "loaded").await, 1);
}

async fn reloads(node: &Endpoint, result: &str) -> u64 {
    node.counter(&format!("rollcall_certificate_reloads_total{{result=\"{result}\"}}")).await
}

#[tokio::test]
async fn files_that_cannot_be_used_refuse_the_start_in_one_line() {
    let pki = Pki::new();
    let (issued, other) = (pki.issue("first"), pki.issue("other"));
    let missing = Issued { key: "/no/such.key".into(), ..issued.clone() };
    let swapped = Issued { certificate: issued.key.clone(), key: issued.key.clone() };
    let foreign = Issued { key: other.key, ..issued };
    for (files, words) in [
        (missing, "cannot read /no/such.key (server.tls_key_path): No such file"),
        (swapped, "has no certificate in PEM (server.tls_certificate_path)"),
        (foreign, "cannot be used together (server.tls_certificate_path, server.tls_key_path)"),
    ] {
        let refused = Node::try_spawn(encrypted(test_settings(), &files)).await.err().expect("it refuses to start");
        assert!(refused.contains(words) && refused.lines().count() == 1, "{refused}");
    }
}

/// Reads until the server ends the connection, in whatever way.
async fn rest_of(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("the server ends the connection");
    bytes
}

#[tokio::test]
async fn who_does_not_speak_tls_is_cut_off_without_http_and_counted() {
    let pki = Pki::new();
    let node = encrypted_node(&pki.issue("first")).await;
    let failed = async || node.counter("rollcall_limited_total{limit=\"tls_handshake\"}").await;
    let mut plain = TcpStream::connect(node.listens_on()).await.expect("it listens");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it is read");
    let answer = rest_of(plain).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    assert_eq!(failed().await, 1);
    // Who says nothing at all holds a place for as long as a handshake may take, and others are served meanwhile.
    let silent = TcpStream::connect(node.listens_on()).await.expect("it listens");
    assert_eq!(node.get("/healthz").await.0, 200);
    assert_eq!(rest_of(silent).await, [0; 0]);
    assert_eq!(failed().await, 2);
}

#[tokio::test]
async fn above_the_limit_of_connections_the_end_comes_without_a_handshake() {
    let pki = Pki::new();
    let mut settings = encrypted(test_settings(), &pki.issue("first"));
    settings.server.max_http_connections = 1;
    let node = Node::spawn(settings).await;
    node.wait_ready().await;
    let _held = node.open_http().await;
    let refused = TcpStream::connect(node.listens_on()).await.expect("the kernel takes it");
    assert_eq!(rest_of(refused).await, [0; 0]);
}

#[tokio::test]
async fn what_comes_right_behind_the_handshake_is_read_and_the_end_is_said() {
    let pki = Pki::new();
    let node = encrypted_node(&pki.issue("first")).await;
    let mut stream = connect_tls(node.listens_on(), &pki.ca()).await.expect("a handshake");
    // Three records in one write.
    let bye = frame(FIN | CLOSE, &1000_u16.to_be_bytes());
    for piece in [upgrade_request("/ws").as_bytes(), &frame(FIN | PING, b"early"), &bye] {
        std::io::Write::write_all(&mut stream.get_mut().1.writer(), piece).expect("it is encrypted");
    }
    stream.flush().await.expect("it is written");
    let mut answer = Vec::new();
    // An end that nobody has said is an error here (`UnexpectedEof`).
    let read = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the node ends the connection");
    read.expect("the node says the end");
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{answer:?}");
    assert!(answer.windows(5).any(|window| window == b"early"), "the ping is answered: {answer:?}");
    assert_eq!(answer[answer.len() - 2..], 1000_u16.to_be_bytes(), "the close frame is answered");
}

#[tokio::test]
async fn a_broken_record_ends_the_socket_and_nothing_else() {
    let pki = Pki::new();
    let node = encrypted_node(&pki.issue("first")).await;
    let mut watch = node.join("watch").await;
    let mut stream = connect_tls(node.listens_on(), &pki.ca()).await.expect("a handshake");
    stream.write_all(upgrade_request("/ws?userId=ada").as_bytes()).await.expect("it is read");
    watch.wait_for(|frame| frame["type"] == "user_online" && frame["userId"] == "ada").await;
    let (mut tcp, _) = stream.into_inner();
    tcp.write_all(b"\x17\x03\x03\x00\x20this was never encrypted by us!!").await.expect("it is read");
    rest_of(tcp).await;
    watch.wait_for(|frame| frame["type"] == "user_offline" && frame["userId"] == "ada").await;
    assert_eq!(watch.fence().await, NOTHING);
}

#[tokio::test]
async fn the_command_line_reaches_a_node_that_encrypts_and_trusts_its_certificate_alone() {
    let pki = Pki::new();
    let (issued, other) = (pki.issue("first"), pki.issue("other"));
    let path = |path: &std::path::Path| path.to_str().expect("a path in UTF-8").to_owned();
    let files = |issued: &Issued| {
        let certificate = ("ROLLCALL__SERVER__TLS_CERTIFICATE_PATH", path(&issued.certificate));
        [certificate, ("ROLLCALL__SERVER__TLS_KEY_PATH", path(&issued.key))]
    };
    let environment = files(&issued);
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let node = NodeProcess::spawn(&environment).await;
    assert!(node.stdout().contains(&format!(" listening on https://{}\n", node.listens_on())), "{}", node.stdout());
    node.wait_ready().await;
    let _ada = node.join("ada").await;

    let port = node.listens_on().port().to_string();
    let run = async |arguments: &[&str], issued: &Issued| {
        let environment = [&files(issued)[..], &[("PORT", port.clone())]].concat();
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        NodeProcess::try_spawn(arguments, &environment).await.err().expect("it ends")
    };
    let healthy = run(&["healthcheck"], &issued).await;
    assert!(healthy.status.success(), "{healthy:?}");
    // The file may be newer than what the node uses.
    assert!(run(&["healthcheck"], &other).await.status.success());
    let explained = run(&["explain", "ada"], &issued).await;
    assert!(explained.status.success() && explained.stdout.contains("Online: 1 socket"), "{explained:?}");
    let refused = run(&["explain", "ada"], &other).await;
    assert!(!refused.status.success() && refused.stderr.contains("certificate"), "{refused:?}");
    let shown = run(&["top", "--once"], &issued).await;
    assert!(shown.status.success() && shown.stdout.contains("+ ada"), "{shown:?}");
    let join = ["join", "--user", "bob", "--", "true"];
    let joined = run(&join, &issued).await;
    assert!(joined.status.success() && joined.stdout == "joined\n", "{joined:?}");
    let refused = run(&join, &other).await;
    assert!(!refused.status.success() && refused.stderr.contains("certificate"), "{refused:?}");
    // From another machine, an authority says who the node is.
    let ca = pki.ca().to_str().expect("a path in UTF-8").to_owned();
    let by_name = format!("https://localhost:{port}");
    let join = ["join", "--url", &by_name, "--user", "bob", "--", "true"];
    let joined = NodeProcess::try_spawn(&join, &[("SSL_CERT_FILE", &ca)]).await.err().expect("it ends");
    assert!(joined.status.success() && joined.stdout == "joined\n", "{joined:?}");
}
