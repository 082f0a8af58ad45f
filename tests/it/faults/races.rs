//! Races between outages, holds, nodes and users, played by hand. Each of them once told what was not so.

use std::time::Instant;

use super::*;

fn patient(settings: &mut rollcall::settings::Settings) {
    settings.presence.lease = Duration::from_secs(20);
    settings.presence.user_ttl = Duration::from_secs(3600);
}

fn departures(watch: &Listener, user: &str) -> usize {
    watch.events("user_offline").iter().filter(|e| e.is("user_offline", user)).count()
}

fn story(watch: &Listener, user: &str) -> Vec<String> {
    watch.heard().events.iter().filter(|e| e.frame["userId"] == *user).map(|e| e.frame.to_string()).collect()
}

/// A goodbye is sent as Redis freezes, and carried out after the frost. The user came back elsewhere seconds before.
#[tokio::test]
async fn a_goodbye_that_freezes_in_redis_does_not_end_who_came_back_meanwhile() {
    let mut cluster = Cluster::start_with(2, patient).await;
    let watches =
        [Listener::join(cluster[0].addr(), "watch-0").await, Listener::join(cluster[1].addr(), "watch-1").await];
    let mut olds = Vec::new();
    for n in 0..5 {
        olds.push(cluster[0].join(&format!("ada-{n}")).await);
    }
    watches[1].wait_for("user_online", "ada-4").await;
    cluster.redis.pause();
    for old in olds {
        old.close(1000).await;
    }
    for node in &cluster.nodes {
        wait_until_degraded(node, true).await;
    }
    pass(Duration::from_secs(3)).await;
    let mut news = Vec::new();
    for n in 0..5 {
        news.push(cluster[1].join(&format!("ada-{n}")).await);
    }
    pass(Duration::from_secs(1)).await;
    cluster.redis.resume();
    for node in &cluster.nodes {
        wait_until_degraded(node, false).await;
    }
    pass(Duration::from_secs(3)).await;
    for watch in &watches {
        for n in 0..5 {
            let user = format!("ada-{n}");
            assert_eq!(departures(watch, &user), 0, "{}: {:#?}", watch.user(), story(watch, &user));
        }
    }
    drop(news);
}

/// A paused node is swept. When it wakes, its listeners must not hear that its own users went.
#[tokio::test]
async fn a_woken_node_tells_no_departure_of_its_own_sockets() {
    let count = 300;
    let mut cluster = Cluster::processes(2).await;
    let own = Listener::join(cluster[0].addr(), "own").await;
    let watch = Listener::join(cluster[1].addr(), "watch").await;
    let crowd = crowd(&[cluster[0].addr()], "victim", count).await;
    eventually_eq_within(3 * DEADLINE, async || watch.online().len(), count + 2, "all known").await;
    cluster[0].sigstop();
    eventually_eq_within(3 * DEADLINE, async || watch.online(), ["watch"], "elsewhere they are offline").await;
    pass(Duration::from_secs(1)).await;
    cluster[0].sigcont();
    eventually_eq_within(3 * DEADLINE, async || watch.online().len(), count + 2, "back").await;
    own.fence().await;
    pass(Duration::from_secs(2)).await;
    let wrong: Vec<_> = own.events("user_offline").iter().map(|e| e.frame.to_string()).collect();
    assert_eq!(wrong.len(), 0, "of {count}: {:#?}", wrong.first());
    assert_eq!(own.online().len(), count + 2);
    own.assert_sound();
    watch.assert_sound();
    drop(crowd);
}

/// Each way. Two round trips and a beat are more than half a lease of three beats.
const SLOW: Duration = Duration::from_millis(150);

fn tight(settings: &mut rollcall::settings::Settings) {
    settings.presence.lease = Duration::from_secs(3);
    settings.presence.beat = Duration::from_millis(1000);
    settings.redis.call_timeout = Duration::from_millis(1500);
}

async fn stream(addr: SocketAddr, until: Instant) {
    let mut n = 0;
    while Instant::now() < until {
        let mut some = Vec::new();
        for _ in 0..3 {
            n += 1;
            some.push(WsClient::connect(addr, &format!("/ws?userId=s-{n}")).await);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(some);
    }
}

/// The shortest lease that settings allow (three beats), a slow Redis and a stream of joins: beats come late.
#[tokio::test]
async fn a_lone_survivor_with_slow_beats_sweeps_its_dead_peer() {
    let behind = Behind::start(2, tight).await;
    let watch = Listener::join(behind.nodes[0].addr(), "watch").await;
    let ada = behind.nodes[1].join("ada").await;
    watch.wait_for("user_online", "ada").await;
    behind.proxies[0].set_delay(SLOW);
    let load = tokio::spawn(stream(behind.nodes[0].addr(), Instant::now() + Duration::from_secs(40)));
    pass(Duration::from_secs(2)).await;
    behind.proxies[1].cut().await;
    eventually_within(3 * DEADLINE, async || departures(&watch, "ada") == 1, "the dead peer's user is told to be gone")
        .await;
    load.abort();
    drop(ada);
}

/// The same with a hold.
#[tokio::test]
async fn a_hold_ends_although_beats_are_slow() {
    let behind = Behind::start(1, tight).await;
    let watch = Listener::join(behind.nodes[0].addr(), "watch").await;
    behind.proxies[0].set_delay(SLOW);
    let load = tokio::spawn(stream(behind.nodes[0].addr(), Instant::now() + Duration::from_secs(90)));
    pass(Duration::from_secs(1)).await;
    behind.redis.command(&["FLUSHALL"]).await;
    let hold = async || behind.redis.hgetall("online:epoch").await.remove("holdUntil");
    eventually(async || hold().await.is_some_and(|until| until != "0"), "a hold begins").await;
    eventually_within(3 * DEADLINE, async || hold().await.as_deref() == Some("0"), "the hold ends").await;
    load.abort();
    drop(watch);
}

/// Garbage among the nodes, far ahead, while departures wait.
#[tokio::test]
async fn garbage_among_the_nodes_delays_departures_by_a_sweep_at_most() {
    let behind = Behind::start(2, |_| ()).await;
    let watch = Listener::join(behind.nodes[0].addr(), "watch").await;
    let ada = behind.nodes[0].join("ada").await;
    watch.wait_for("user_online", "ada").await;
    behind.cut().await;
    for node in &behind.nodes {
        wait_until_degraded(node, true).await;
    }
    ada.close(1000).await;
    behind.redis.command(&["ZADD", "online:nodes", "+inf", "not a node", "99999999999999999999", "node:x"]).await;
    behind.redis.command(&["ZADD", "online:nodes:asserted", "+inf", "not a node", "-5", "node:x"]).await;
    behind.restore().await;
    eventually_within(3 * DEADLINE, async || departures(&watch, "ada") == 1, "ada's departure is told").await;
    watch.assert_sound();
}

/// `FLUSHALL` while departures wait for a peer; one user roams, one leaves.
#[tokio::test]
async fn data_lost_while_departures_wait_is_survived() {
    let behind = Behind::start(3, |_| ()).await;
    let mut watches = Vec::new();
    for (n, node) in behind.nodes.iter().enumerate() {
        watches.push(Listener::join(node.addr(), &format!("watch-{n}")).await);
    }
    let leaves = behind.nodes[0].join("leaves").await;
    let roams = behind.nodes[0].join("roams").await;
    let three =
        [behind.nodes[0].join("three").await, behind.nodes[1].join("three").await, behind.nodes[2].join("three").await];
    for watch in &watches {
        watch.wait_for("user_online", "three").await;
    }
    behind.cut().await;
    for node in &behind.nodes {
        wait_until_degraded(node, true).await;
    }
    leaves.close(1000).await;
    roams.close(1001).await;
    let _roamed = behind.nodes[1].join("roams").await;
    let [first, _second, _third] = three;
    first.close(1000).await;
    pass(Duration::from_millis(1000)).await;
    behind.proxies[0].restore().await;
    wait_until_degraded(&behind.nodes[0], false).await;
    behind.redis.command(&["FLUSHALL"]).await;
    pass(Duration::from_millis(1500)).await;
    behind.proxies[1].restore().await;
    behind.proxies[2].restore().await;
    let everybody = ["roams", "three", "watch-0", "watch-1", "watch-2"];
    for watch in &watches {
        eventually_eq_within(3 * DEADLINE, async || watch.online(), everybody, "the listeners agree").await;
    }
    pass(Duration::from_secs(4)).await;
    for watch in &watches {
        assert_eq!(watch.online(), everybody);
        assert_eq!(watch.events("user_offline").len(), 1, "{:?}", watch.events("user_offline"));
        watch.assert_sound();
    }
    assert_eq!(behind.redis.smembers("online:users:set").await, everybody);
}

/// A node drains while its departures wait.
#[tokio::test]
async fn a_node_that_drains_while_departures_wait_tells_them() {
    let mut behind = Behind::start(2, |_| ()).await;
    let watch = Listener::join(behind.nodes[1].addr(), "watch").await;
    let leaves = behind.nodes[0].join("leaves").await;
    let stays = Listener::join(behind.nodes[0].addr(), "stays").await;
    watch.wait_for("user_online", "stays").await;
    behind.cut().await;
    for node in &behind.nodes {
        wait_until_degraded(node, true).await;
    }
    leaves.close(1000).await;
    behind.proxies[0].restore().await;
    wait_until_degraded(&behind.nodes[0], false).await;
    behind.nodes[0].drain();
    pass(Duration::from_secs(1)).await;
    behind.proxies[1].restore().await;
    for user in ["leaves", "stays"] {
        watch.wait_for("user_offline", user).await;
    }
    watch.assert_sound();
    drop(stays);
}

/// Redis does not know a node that started during the outage.
#[tokio::test]
async fn a_lone_survivor_waits_for_a_node_that_started_during_the_outage() {
    let behind = Behind::start(1, patient).await;
    let watch = Listener::join(behind.nodes[0].addr(), "watch-0").await;
    let mut told = Vec::new();
    for round in 0..2 {
        let user = format!("ada-{round}");
        let old = behind.nodes[0].join(&user).await;
        watch.wait_for("user_online", &user).await;
        behind.cut().await;
        wait_until_degraded(&behind.nodes[0], true).await;
        let proxy = ChaosProxy::start(behind.redis.port()).await;
        proxy.cut().await;
        let mut settings = test_settings_with_redis(&proxy.url());
        patient(&mut settings);
        let fresh = Node::spawn(settings).await;
        pass(Duration::from_secs(1)).await;
        old.close(1001).await;
        pass(Duration::from_millis(1500)).await;
        // The new node first. The user comes to it as soon as it lets clients in.
        proxy.restore().await;
        fresh.wait_until_it_serves().await;
        let new = fresh.join(&user).await;
        behind.restore().await;
        wait_until_degraded(&behind.nodes[0], false).await;
        fresh.wait_ready().await;
        pass(Duration::from_secs(2)).await;
        told.push(departures(&watch, &user));
        new.close(1000).await;
        fresh.stop().await;
    }
    let wrong = told.iter().position(|n| *n > 0).unwrap_or_default();
    assert_eq!(told, [0; 2], "{:#?}", story(&watch, &format!("ada-{wrong}")));
}

/// The data is lost, and within the hold the network as well; a user roams.
#[tokio::test]
async fn an_outage_during_a_hold_is_survived() {
    let behind = Behind::start(2, |_| ()).await;
    let watches = [
        Listener::join(behind.nodes[0].addr(), "watch-0").await,
        Listener::join(behind.nodes[1].addr(), "watch-1").await,
    ];
    let roams = behind.nodes[0].join("roams").await;
    let leaves = behind.nodes[0].join("leaves").await;
    for watch in &watches {
        watch.wait_for("user_online", "leaves").await;
    }
    behind.redis.command(&["FLUSHALL"]).await;
    pass(Duration::from_millis(1000)).await;
    behind.cut().await;
    for node in &behind.nodes {
        wait_until_degraded(node, true).await;
    }
    roams.close(1000).await;
    leaves.close(1000).await;
    let _new = behind.nodes[1].join("roams").await;
    pass(Duration::from_secs(4)).await;
    behind.proxies[0].restore().await;
    wait_until_degraded(&behind.nodes[0], false).await;
    pass(Duration::from_millis(1500)).await;
    behind.proxies[1].restore().await;
    wait_until_degraded(&behind.nodes[1], false).await;
    for watch in &watches {
        watch.wait_for("user_offline", "leaves").await;
    }
    pass(Duration::from_secs(4)).await;
    for watch in &watches {
        assert_eq!(departures(watch, "roams"), 0, "{}: {:#?}", watch.user(), story(watch, "roams"));
        assert_eq!(watch.online(), ["roams", "watch-0", "watch-1"]);
        watch.assert_sound();
    }
}

/// An outage shorter than a beat: the idle node that the user left does not notice it, the node that they came to does.
#[tokio::test]
async fn an_outage_that_the_old_node_does_not_notice_is_no_departure() {
    let behind = Behind::start(2, |settings| {
        patient(settings);
        settings.presence.beat = Duration::from_secs(2);
        settings.presence.grace = Duration::from_millis(1600);
    })
    .await;
    let [near, far] = &behind.nodes[..] else { unreachable!("there are two") };
    let watch = Listener::join(near.addr(), "watch-0").await;
    let mut told = Vec::new();
    for round in 0..2 {
        let user = format!("ada-{round}");
        let old = near.join(&user).await;
        watch.wait_for("user_online", &user).await;
        let lease = async || behind.redis.query::<f64>(&["ZSCORE", "online:nodes", near.node_id()]).await;
        let before = lease().await;
        eventually(async || lease().await > before, "the old node beats").await;
        let left_at = Instant::now();
        old.close(1001).await;
        pass(Duration::from_millis(100)).await;
        behind.cut().await;
        let new = far.ws(&format!("/ws?userId={user}")).await;
        pass(Duration::from_millis(1450).saturating_sub(left_at.elapsed())).await;
        behind.restore().await;
        for node in &behind.nodes {
            wait_until_degraded(node, false).await;
        }
        pass(Duration::from_secs(3)).await;
        told.push(departures(&watch, &user));
        new.close(1000).await;
        pass(Duration::from_secs(1)).await;
    }
    assert_eq!(told, [0; 2]);
}
