//! From polling to a WebSocket: nothing is lost, doubled or in another order. `tls.rs` has these tests, too.

use std::time::Duration;

use rollcall::settings::Settings;
use serde_json::{Value, json};

use crate::support::polling::{SEPARATOR, WEBSOCKET, event, next_text, text};
use crate::support::raw_ws::{CLOSE, FIN, PING, PONG, frame};
use crate::support::*;

async fn node_with(change: impl FnOnce(&mut Settings)) -> Node {
    let mut settings = test_settings();
    settings.limits.request_burst = 1_000_000;
    change(&mut settings);
    let pki = module_path!().contains("::tls::").then(Pki::new);
    if let Some(pki) = &pki {
        settings = encrypted(settings, &pki.issue("node"));
    }
    let node = Node::spawn(settings).await;
    node.wait_ready().await;
    node
}

/// What a client has heard of another one, and which of its own events were acknowledged. Both are numbered.
#[derive(Default)]
struct Heard {
    versions: Vec<u64>,
    acks: Vec<u64>,
}

impl Heard {
    fn take(&mut self, packet: &str) {
        if let Some(ack) = packet.strip_prefix("43") {
            self.acks.extend(ack.split('[').next().expect("a part").parse::<u64>());
        } else if let Some((name, told)) = event(packet)
            && name == "user_changed"
        {
            self.versions.push(told["user"]["name"].as_str().and_then(|name| name.parse().ok()).expect("a number"));
        }
    }
}

fn numbered(n: u64) -> String {
    format!(r#"42{n}["user_activity"]"#)
}

/// Changes the name of a user this often, as fast as the node answers.
async fn change(mut busy: WsClient, n_changes: u64) {
    for n in 0..n_changes {
        let reference = n.to_string();
        busy.send_json(json!({"type": "update_presence", "name": reference, "ref": reference})).await;
        if n % 20 == 19 {
            busy.wait_for(|frame| frame["ref"] == *reference).await;
        }
    }
}

/// So many events in each direction.
const N_EVENTS: u64 = 1000;

/// A client that goes over to a WebSocket while both sides talk. Returns what it has heard.
async fn go_over(node: &Node, user: &str, polled_before: usize) -> Heard {
    let mut ada = Polling::connect(node, &format!("userId={user}")).await;
    ada.wait_for("online_users_list").await;
    let busy = node.join(&format!("busy-of-{user}")).await;
    ada.wait_for("user_online").await;
    let talk = tokio::spawn(change(busy, N_EVENTS));
    let (mut heard, mut n_sent) = (Heard::default(), 0);
    let mut batch = |size: u64| {
        let range = n_sent..(n_sent + size).min(N_EVENTS);
        n_sent = range.end;
        range.map(numbered).collect::<Vec<_>>()
    };
    for size in 0..polled_before {
        ada.send(&batch(size as u64 + 1).join(&SEPARATOR.to_string())).await;
        heard.take(&ada.next().await);
    }
    let mut probe = ada.probe().await;
    // As the official client does: its requests end, and then it says so. It may have had a request on the way.
    ada.send(&batch(5).join(&SEPARATOR.to_string())).await;
    ada.fetch().await;
    ada.into_fetched().iter().filter(|packet| *packet != "6").for_each(|packet| heard.take(packet));
    // What it says after that comes in the same breath.
    let rest: Vec<_> = std::iter::once("5".to_owned()).chain(batch(N_EVENTS)).map(|packet| text(&packet)).collect();
    probe.send(&rest.concat()).await;
    while heard.versions.len() < N_EVENTS as usize || heard.acks.len() < N_EVENTS as usize {
        match next_text(&mut probe).await.as_str() {
            "2" => probe.send(&text("3")).await,
            packet => heard.take(packet),
        }
    }
    talk.await.expect("it changes");
    heard
}

#[tokio::test]
async fn a_thousand_events_in_each_direction_come_once_and_in_order() {
    let node = node_with(|_| ()).await;
    let all: Vec<u64> = (0..N_EVENTS).collect();
    for polled_before in [0, 1, 3] {
        let heard = go_over(&node, &format!("ada-{polled_before}"), polled_before).await;
        assert_eq!((heard.versions, heard.acks), (all.clone(), all.clone()), "{polled_before}");
    }
    let outcome = |outcome| format!("rollcall_socketio_upgrades_total{{outcome=\"{outcome}\"}}");
    assert_eq!(node.counter(&outcome("done")).await, 3);
    assert_eq!(node.counter("rollcall_socketio_polling_sockets").await, 0);
}

#[tokio::test]
async fn a_session_and_its_requests_may_be_on_other_threads() {
    let node = node_with(|settings| settings.server.workers = 4).await;
    let all: Vec<u64> = (0..N_EVENTS).collect();
    // Connections go to the workers in turn. So the requests of a session and its WebSocket come to all of them.
    for n in 0..4 {
        let heard = go_over(&node, &format!("ada-{n}"), n).await;
        assert_eq!((heard.versions, heard.acks), (all.clone(), all.clone()), "{n}");
    }
}

/// A client that polls and is in the main namespace.
async fn polling(node: &Node) -> Polling {
    let mut ada = Polling::connect(node, "userId=ada").await;
    ada.wait_for("online_users_list").await;
    ada
}

/// The session goes on polling.
async fn still_polls(client: &mut Polling) {
    client.send(&numbered(77)).await;
    while client.next().await != r#"4377[{"success":true}]"# {}
}

#[tokio::test]
async fn a_websocket_that_does_not_take_over_changes_nothing() {
    let node = node_with(|_| ()).await;
    let (mut ada, mut n_times) = (polling(&node).await, 0);
    // Gone before its question, and after the answer.
    let probe_path = format!("{WEBSOCKET}&sid={}", ada.sid());
    for bytes in [&b""[..], &text("3"), &text("5"), &text("2"), &frame(FIN | CLOSE, b""), &text(&"x".repeat(100))] {
        let mut probe = RawWs::connect(node.addr(), &probe_path).await;
        probe.send(bytes).await;
        if !bytes.is_empty() {
            probe.expect_end().await;
        }
        drop(probe);
        n_times += 1;
        given_up(&node, n_times).await;
        still_polls(&mut ada).await;
    }
    for word in ["2probe", "40", "6"] {
        let mut probe = ada.probe().await;
        probe.send(&text(word)).await;
        probe.expect_end().await;
        n_times += 1;
        given_up(&node, n_times).await;
        still_polls(&mut ada).await;
    }
    drop(ada.probe().await);
    given_up(&node, n_times + 1).await;
    still_polls(&mut ada).await;
    // And in the end one that does, although somebody pings in between.
    let mut probe = ada.probe().await;
    probe.send(&[frame(FIN | PING, b"x"), text("5"), text(&numbered(1))].concat()).await;
    assert_eq!(probe.next_frame().await.map(|frame| frame.opcode), Some(PONG));
    while next_text(&mut probe).await != r#"431[{"success":true}]"# {}
}

/// Waits until so many WebSockets were given up.
async fn given_up(node: &Node, n_times: u64) {
    const NAME: &str = "rollcall_socketio_upgrades_total{outcome=\"given_up\"}";
    eventually_eq(async || node.counter(NAME).await, n_times, "it is given up").await;
}

#[tokio::test]
async fn a_websocket_that_takes_too_long_is_closed() {
    let node = node_with(|settings| settings.socketio.upgrade_timeout = Duration::from_millis(300)).await;
    let mut ada = polling(&node).await;
    let mut probe = ada.probe().await;
    probe.expect_end().await;
    still_polls(&mut ada).await;
    assert_eq!(node.counter("rollcall_socketio_upgrades_total{outcome=\"timed_out\"}").await, 1);
}

#[tokio::test]
async fn of_two_websockets_the_second_is_refused() {
    let node = node_with(|_| ()).await;
    let ada = polling(&node).await;
    let mut probe = ada.probe().await;
    let path = format!("{WEBSOCKET}&sid={}", ada.sid());
    let refusal = WsClient::try_connect(node.addr(), &path).await.err().expect("a refusal");
    assert_eq!((refusal.status, refusal.json()), (400, json!({"code": 3, "message": "Bad request"})));
    probe.send(&[text("5"), text(&numbered(1))].concat()).await;
    while next_text(&mut probe).await != r#"431[{"success":true}]"# {}
    // And after it has taken over, there is no session of this id that polls.
    for refused in [ada.get().await, ada.post("3").await] {
        assert_eq!(refused.status, 400, "{refused:?}");
    }
    let refusal = WsClient::try_connect(node.addr(), &path).await.err().expect("a refusal");
    assert_eq!(refusal.status, 400);
    probe.send(&text(&numbered(2))).await;
    while next_text(&mut probe).await != r#"432[{"success":true}]"# {}
}

#[tokio::test]
async fn while_a_websocket_probes_a_get_does_not_wait() {
    let node = node_with(|_| ()).await;
    let ada = polling(&node).await;
    // Whether it comes before the question or after it.
    let (answer, _probe) = tokio::join!(ada.get(), ada.probe());
    assert_eq!(answer.body, "6");
    assert_eq!(ada.get().await.body, "6");
}

#[tokio::test]
async fn a_session_that_ends_takes_its_probe_with_it() {
    let node = node_with(|_| ()).await;
    let ada = polling(&node).await;
    let mut probe = ada.probe().await;
    ada.send("1").await;
    probe.expect_end().await;
    given_up(&node, 1).await;
}

#[tokio::test]
async fn what_a_client_did_not_fetch_comes_first_however_much_it_is() {
    let node = node_with(|settings| settings.socketio.poll_queue_bytes = 1_000_000).await;
    let ada = polling(&node).await;
    let busy = node.join("busy").await;
    // Nobody fetches these.
    change(busy, N_EVENTS).await;
    let mut probe = ada.probe().await;
    probe.send(&text("5")).await;
    let mut heard = Heard::default();
    while heard.versions.len() < N_EVENTS as usize {
        heard.take(&next_text(&mut probe).await);
    }
    assert_eq!(heard.versions, (0..N_EVENTS).collect::<Vec<_>>());
    // It is a WebSocket like any other now: the server's close has its code.
    let disconnected = node.request(reqwest::Method::DELETE, "/api/users/ada/sockets", &[], "").await;
    let body: Value = serde_json::from_str(&disconnected.body).expect("JSON");
    assert_eq!((disconnected.status, &body["success"]), (200, &json!(true)), "{disconnected:?}");
    assert_eq!(probe.expect_close().await.0, 4003);
}
