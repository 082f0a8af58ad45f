//! Which nodes get clients, and what a client sees of those that should not.

use std::collections::BTreeSet;
use std::net::TcpListener;

use socket2::{Domain, Socket, Type};

use super::*;

/// A cluster's node that looks for Redis where there is none.
async fn lost_node(name: &str) -> NodeProcess {
    let nobody = Port::reserve();
    let mut environment = test_environment();
    environment.push(("REDIS_URL".to_owned(), format!("redis://127.0.0.1:{}", nobody.number())));
    environment.push(("ROLLCALL__SERVER__NAME".to_owned(), name.to_owned()));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    NodeProcess::spawn(&environment).await
}

fn ports_of(cluster: &Cluster<NodeProcess>) -> Vec<u16> {
    cluster.nodes.iter().map(|node| node.addr().port()).collect()
}

/// Opens 12 sockets, and returns the nodes that serve them.
async fn serving(balancer: &Balancer) -> BTreeSet<String> {
    let mut clients = Vec::new();
    for n in 0..12 {
        clients.push(join(balancer, &format!("user-{n}")).await);
    }
    clients.into_iter().map(|(_, node)| node).collect()
}

fn ids(cluster: &Cluster<NodeProcess>) -> BTreeSet<String> {
    cluster.nodes.iter().map(|node| node.node_id().to_owned()).collect()
}

#[tokio::test]
async fn a_node_that_never_reached_redis_gets_no_client_and_no_read() {
    let cluster = Cluster::processes(2).await;
    let lost = lost_node("node3").await;
    let balancer = Balancer::start(&[&ports_of(&cluster)[..], &[lost.addr().port()]].concat()).await;
    // From its first moment on: before it has asked the nodes, and after that.
    for is_asked in [false, true] {
        if is_asked {
            balancer.wait_until("node3", "is DOWN").await;
        }
        let _ada = balancer.join("ada").await;
        for node in &cluster.nodes {
            let known = async || node.online_ids().await.contains(&"ada".to_owned());
            eventually(known, "each node has heard of ada").await;
        }
        for _ in 0..9 {
            assert!(balancer.online_ids().await.contains(&"ada".to_owned()));
        }
        assert_eq!(serving(&balancer).await, ids(&cluster));
        for _ in 0..4 {
            assert!(!Polling::connect(&balancer, "").await.sid().starts_with("node3."));
            let _client = SioWs::connect(&balancer, "").await;
        }
    }
}

#[tokio::test]
async fn a_node_that_does_not_know_who_is_online_is_passed_over() {
    // It calls itself ready, so that the balancer asks it.
    let not_ready = r#"{"success":false,"message":"ask another","code":"not_ready"}"#;
    let knows_nothing = scripted_node(|_| Some(http_answer("504 Gateway Timeout", not_ready))).await;
    let cluster = Cluster::processes(1).await;
    let balancer = Balancer::start(&[knows_nothing, cluster[0].addr().port()]).await;
    let _ada = balancer.join("ada").await;
    for _ in 0..6 {
        assert_eq!(balancer.online_ids().await, ["ada"]);
    }
    assert_eq!(serving(&balancer).await, ids(&cluster));

    // If there is no other, its words are passed on. The status is the same as that of the others who say "later".
    let alone = Balancer::start(&[knows_nothing]).await;
    let (status, body) = alone.get("/api/online-users").await;
    assert_eq!((status, &body["code"]), (503, &json!("not_ready")));
    let refusal = WsClient::try_connect(alone.addr(), "/ws?userId=ada").await.err().expect("a refusal");
    assert_eq!((refusal.status, &refusal.json()["code"]), (503, &json!("not_ready")));
}

#[tokio::test]
async fn a_node_with_too_much_to_do_is_believed() {
    let busy = r#"{"success":false,"message":"try again","code":"busy"}"#;
    let busy = scripted_node(|_| Some(http_answer("503 Service Unavailable", busy))).await;
    let other = scripted_node(|_| Some(http_answer("503 Service Unavailable", r#"{"code":"other"}"#))).await;
    let balancer = Balancer::start(&[busy, other]).await;
    let mut codes = BTreeSet::new();
    for n in 0..6 {
        let refusal = WsClient::try_connect(balancer.addr(), &format!("/ws?userId={n}")).await.err();
        let refusal = refusal.expect("a refusal");
        assert_eq!(refusal.status, 503);
        codes.insert(refusal.json()["code"].as_str().expect("a code").to_owned());
    }
    // Each said it to its own clients. Had the other been asked as well, nobody would have heard the first.
    assert_eq!(codes, BTreeSet::from(["busy", "other"].map(str::to_owned)));
}

#[tokio::test]
async fn a_node_that_waits_for_the_others_gets_clients() {
    // Redis is empty. So each node waits for a lease, and tells clients that it may be wrong.
    let redis = RedisServer::start().await;
    let url = redis.url();
    let lease = [("ROLLCALL__PRESENCE__LEASE_MS", "120000"), ("REDIS_URL", &url)];
    let node = NodeProcess::spawn(&lease).await;
    eventually_eq(async || node.get("/readyz").await.1["code"].clone(), "held", "the node waits").await;
    assert_eq!(node.get("/readyz").await.0, 503);
    let balancer = Balancer::start(&[node.addr().port()]).await;
    let mut ada = balancer.ws("/ws?userId=ada").await;
    assert_eq!(ada.expect_type("welcome").await["degraded"], true);
    let (status, list) = balancer.get("/api/online-users").await;
    assert_eq!((status, &list["count"], &list["degraded"]), (200, &json!(1), &json!(true)));
}

#[tokio::test]
async fn a_paused_node_gets_no_client_and_keeps_nobody_waiting_for_an_error() {
    let (mut cluster, balancer) = balanced().await;
    let paused = cluster[0].node_id().to_owned();
    cluster[0].sigstop();
    // Some of these ask it first.
    for _ in 0..9 {
        assert_eq!(balancer.get("/api/online-users").await.0, 200);
    }
    balancer.wait_until("node1", "is DOWN").await;
    assert!(!serving(&balancer).await.contains(&paused));
    cluster[0].sigcont();
    balancer.wait_until("node1", "is UP").await;
    assert_eq!(serving(&balancer).await, ids(&cluster));
}

/// A port at which a connection is neither taken nor refused, as at a machine whose network is cut.
fn cut_off_node() -> (TcpListener, Vec<Socket>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&address.into()).expect("a port");
    socket.listen(0).expect("it listens");
    let listener = TcpListener::from(socket);
    // The kernel takes one connection ahead of the program, and drops what asks for another.
    let address = listener.local_addr().expect("an address").into();
    let waiting = (0..4).map(|_| {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        client.set_nonblocking(true).expect("a socket");
        let _ = client.connect(&address);
        client
    });
    let waiting = waiting.collect();
    (listener, waiting)
}

#[tokio::test]
async fn a_node_that_is_cut_off_gets_no_client_and_keeps_nobody_waiting_for_an_error() {
    let cluster = Cluster::processes(2).await;
    let (cut_off, _waiting) = cut_off_node();
    let port = cut_off.local_addr().expect("an address").port();
    let balancer = Balancer::start(&[&[port][..], &ports_of(&cluster)[..]].concat()).await;
    for _ in 0..9 {
        assert_eq!(balancer.get("/api/online-users").await.0, 200);
    }
    balancer.wait_until("node1", "is DOWN").await;
    assert_eq!(serving(&balancer).await, ids(&cluster));
}
