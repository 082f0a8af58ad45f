//! Users who change nodes while Redis is away: after it, first who is here, then who left (docs/design.md, decision 21).

use super::*;

const GRACE: Duration = Duration::from_millis(700);

/// Two nodes, a listener on each.
struct Roaming {
    watches: [Listener; 2],
    behind: Behind,
}

impl Roaming {
    async fn begin() -> Roaming {
        // Nobody is swept for being cut off as long as these tests take.
        let behind = Behind::start(2, |settings| {
            settings.presence.grace = GRACE;
            settings.presence.lease = Duration::from_secs(20);
            settings.presence.user_ttl = Duration::from_secs(3600);
        })
        .await;
        let watches = [
            Listener::join(behind.nodes[0].addr(), "watch-0").await,
            Listener::join(behind.nodes[1].addr(), "watch-1").await,
        ];
        Roaming { watches, behind }
    }

    async fn cut(&self) {
        self.behind.cut().await;
        for node in &self.behind.nodes {
            wait_until_degraded(node, true).await;
        }
    }

    /// Mends the network of the first node, and, once that is well, the second's.
    async fn restore_one_after_the_other(&self) {
        for (node, proxy) in self.behind.nodes.iter().zip(&self.behind.proxies) {
            proxy.restore().await;
            wait_until_degraded(node, false).await;
        }
    }

    /// Everybody believes in these users, beside the two who watch, and heard of these departures once.
    async fn expect(&self, online: &[&str], departed: &[&str]) {
        let mut everybody: Vec<&str> = online.iter().copied().chain(["watch-0", "watch-1"]).collect();
        everybody.sort_unstable();
        let redis = &self.behind.redis;
        eventually_eq_within(
            3 * DEADLINE,
            async || redis.smembers("online:users:set").await,
            everybody.clone(),
            "Redis",
        )
        .await;
        for (watch, node) in self.watches.iter().zip(&self.behind.nodes) {
            eventually_eq_within(3 * DEADLINE, async || watch.online(), everybody.clone(), "the listener").await;
            eventually_eq(async || node.online_ids().await, everybody.clone(), "the node").await;
        }
        // Whatever was still to be told lies before this.
        let marker = self.behind.nodes[0].join("marker").await;
        marker.close(1000).await;
        for watch in &self.watches {
            watch.wait_for("user_offline", "marker").await;
            let mut told: Vec<String> = watch.events("user_offline").iter().map(Listener::whom).collect();
            told.retain(|user| user != "marker");
            told.sort_unstable();
            assert_eq!(told, departed, "{} heard these departures", watch.user());
            watch.assert_sound();
        }
    }
}

#[tokio::test]
async fn whoever_changes_nodes_during_an_outage_is_not_told_to_be_offline() {
    let roaming = Roaming::begin().await;
    let [near, far] = &roaming.behind.nodes[..] else { unreachable!("there are two") };
    let users = ["ada", "bob", "carol", "dora"];
    let mut sockets = Vec::new();
    for user in users {
        sockets.push(near.join(user).await);
    }
    roaming.watches[1].wait_for("user_online", "dora").await;
    roaming.cut().await;
    let mut back = Vec::new();
    for (user, socket) in users.iter().zip(sockets) {
        socket.abort();
        back.push(far.join(user).await);
    }
    pass(2 * GRACE).await;
    // The node that they left is the first to reach Redis.
    roaming.restore_one_after_the_other().await;
    let sockets = async || roaming.behind.redis.keys("online:socket:user:*").await.len();
    eventually_eq_within(3 * DEADLINE, sockets, users.len() + 2, "the sockets that broke are gone").await;
    roaming.expect(&users, &[]).await;
}

#[tokio::test]
async fn whoever_leaves_during_an_outage_is_told_once_everywhere() {
    let roaming = Roaming::begin().await;
    let [near, far] = &roaming.behind.nodes[..] else { unreachable!("there are two") };
    let (says_goodbye, breaks) = (near.join("ada").await, near.join("bob").await);
    let (stays, elsewhere) = (near.join("carol").await, far.join("dora").await);
    roaming.watches[0].wait_for("user_online", "dora").await;
    roaming.watches[1].wait_for("user_online", "carol").await;
    roaming.cut().await;
    says_goodbye.close(1000).await;
    breaks.abort();
    elsewhere.close(1000).await;
    pass(2 * GRACE).await;
    roaming.restore_one_after_the_other().await;
    roaming.expect(&["carol"], &["ada", "bob", "dora"]).await;
    let reason = |user| {
        roaming.watches[0].events("user_offline").iter().find(|e| e.is("user_offline", user)).unwrap().frame["reason"]
            .clone()
    };
    assert_eq!(
        (reason("ada"), reason("bob"), reason("dora")),
        ("left".into(), "connection_lost".into(), "left".into())
    );
    drop(stays);
}

#[tokio::test]
async fn a_tab_that_is_closed_during_an_outage_takes_no_other_along() {
    let roaming = Roaming::begin().await;
    let [near, far] = &roaming.behind.nodes[..] else { unreachable!("there are two") };
    let (ada, _adas_other) = (near.join("ada").await, near.join("ada").await);
    let (bob, _bobs_other) = (near.join("bob").await, far.join("bob").await);
    // Carol's other socket breaks as well, and she comes back: her late goodbye must not end that.
    let (carol, carols_other) = (near.join("carol").await, far.join("carol").await);
    roaming.watches[1].wait_for("user_online", "carol").await;
    roaming.cut().await;
    for tab in [ada, bob, carol] {
        tab.close(1000).await;
    }
    carols_other.close(1001).await;
    let _carols_new = far.join("carol").await;
    roaming.behind.restore().await;
    for node in &roaming.behind.nodes {
        wait_until_degraded(node, false).await;
    }
    let sockets = async || roaming.behind.redis.keys("online:socket:user:*").await.len();
    eventually_eq_within(3 * DEADLINE, sockets, 5, "the closed tabs are gone").await;
    roaming.expect(&["ada", "bob", "carol"], &[]).await;
}

#[tokio::test]
async fn a_node_that_is_alone_tells_departures_soon_after_an_outage() {
    let behind = Behind::start(1, |_| ()).await;
    let watch = Listener::join(behind.nodes[0].addr(), "watch").await;
    let ada = behind.nodes[0].join("ada").await;
    watch.wait_for("user_online", "ada").await;
    behind.cut().await;
    wait_until_degraded(&behind.nodes[0], true).await;
    ada.close(1000).await;
    behind.restore().await;
    assert_eq!(watch.wait_for("user_offline", "ada").await.frame["reason"], "left");
    watch.assert_sound();
}

#[tokio::test]
async fn a_peer_that_never_comes_back_is_waited_for_until_it_is_swept() {
    let mut behind = Behind::start(2, |_| ()).await;
    let watch = Listener::join(behind.nodes[0].addr(), "watch").await;
    let ada = behind.nodes[0].join("ada").await;
    let bob = behind.nodes[1].join("bob").await;
    watch.wait_for("user_online", "bob").await;
    behind.cut().await;
    for node in &behind.nodes {
        wait_until_degraded(node, true).await;
    }
    ada.close(1000).await;
    behind.proxies[0].restore().await;
    for user in ["bob", "ada"] {
        watch.wait_for("user_offline", user).await;
    }
    watch.assert_sound();
    drop(bob);
    behind.nodes.pop();
}
