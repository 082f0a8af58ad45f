//! Redis loses its data, or goes back in time: every node asserts what it holds, and nobody hears a goodbye that was
//! none.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::*;

/// The default beat, after which the data must be back, and a lease of three of it.
fn with_default_beat(settings: &mut rollcall::settings::Settings) {
    settings.presence.beat = Duration::from_secs(2);
    settings.presence.lease = Duration::from_secs(6);
}

/// A cluster of three, a crowd, and a user who will leave while departures are held: when that is told, the hold is over
/// and everything else that was held is told with it.
struct Story {
    cluster: Cluster,
    crowd: Vec<WsClient>,
    watches: Vec<Listener>,
    marker: WsClient,
    everybody: Vec<String>,
}

impl Story {
    async fn begin(n_users: usize) -> Story {
        let cluster = Cluster::start_with(3, with_default_beat).await;
        let crowd = crowd(&addrs(&cluster), "user", n_users).await;
        let marker = cluster[0].join("marker").await;
        let mut watches = Vec::new();
        for (number, node) in cluster.nodes.iter().enumerate() {
            watches.push(Listener::join(node.addr(), &format!("watch-{number}")).await);
        }
        let n_everybody = n_users + 4;
        for watch in &watches {
            eventually_eq(async || watch.online().len(), n_everybody, "every listener knows everybody").await;
        }
        let everybody = watches[0].online();
        Story { cluster, crowd, watches, marker, everybody }
    }

    /// Waits until every key of every user is there. The watchers have two sockets' worth of keys like everybody else.
    async fn wait_until_all_keys_are_back(&self, since: Instant, what: &str) {
        let redis = &self.cluster.redis;
        let n = self.everybody.len();
        let counts = async || {
            [
                redis.smembers("online:users:set").await.len(),
                redis.keys("online:user:socket:*").await.len(),
                redis.keys("online:socket:user:*").await.len(),
                redis.keys("online:presence:*").await.len(),
            ]
        };
        eventually_eq(counts, [n; 4], "all keys are back").await;
        eprintln!("{what}: all keys of {n} users back {:?} later", since.elapsed());
        assert_eq!(redis.smembers("online:users:set").await, self.everybody);
    }

    /// Nobody but the marker was or is told offline, now that the hold is over; and everybody is still listed.
    async fn end(mut self) {
        self.marker.send_json(json!({"type": "leave"})).await;
        for watch in &self.watches {
            let told = async || watch.events("user_offline").len();
            eventually_eq_within(2 * DEADLINE, told, 1, "the marker's departure is told after the hold").await;
            watch.fence().await;
            let told = watch.events("user_offline");
            assert!(told.len() == 1 && told[0].is("user_offline", "marker"), "{told:?}");
            assert_eq!(watch.events("user_online").iter().filter(|e| e.is("user_online", "marker")).count(), 0);
            watch.assert_sound();
        }
        for client in &mut self.crowd {
            let told = client.fence().await;
            let offline: Vec<_> = told.iter().filter(|frame| frame["type"] == "user_offline").collect();
            assert_eq!(offline.len(), 1, "{offline:?}");
            assert_eq!(offline[0]["userId"], "marker");
        }
        self.everybody.retain(|user| user != "marker");
        for node in &self.cluster.nodes {
            assert_eq!(node.online_ids().await, self.everybody);
        }
        assert_eq!(self.cluster.redis.smembers("online:users:set").await, self.everybody);
    }
}

#[tokio::test]
async fn after_a_flushall_all_keys_come_back_and_nobody_hears_a_goodbye() {
    let story = Story::begin(500).await;
    let flushed_at = Instant::now();
    story.cluster.redis.command(&["FLUSHALL"]).await;
    story.wait_until_all_keys_are_back(flushed_at, "FLUSHALL").await;
    story.end().await;
}

#[tokio::test]
async fn after_a_redis_was_killed_and_came_back_empty_nobody_hears_a_goodbye() {
    let mut story = Story::begin(60).await;
    story.cluster.redis.kill();
    for node in &story.cluster.nodes {
        wait_until_degraded(node, true).await;
    }
    story.cluster.redis.restart().await;
    let back_at = Instant::now();
    story.wait_until_all_keys_are_back(back_at, "Redis killed and restarted empty").await;
    story.end().await;
}

#[tokio::test]
async fn a_flushall_is_survived_again_while_departures_are_held() {
    let story = Story::begin(30).await;
    for _ in 0..3 {
        let flushed_at = Instant::now();
        story.cluster.redis.command(&["FLUSHALL"]).await;
        story.wait_until_all_keys_are_back(flushed_at, "FLUSHALL in a row").await;
    }
    story.end().await;
}

#[tokio::test]
async fn after_a_restart_from_an_old_rdb_the_present_is_asserted_and_the_past_is_forgotten() {
    let mut story = Story::begin(30).await;
    let mut ghost = story.cluster[1].join("ghost").await;
    let mut forgotten = story.cluster.add().await;
    let _lost = story.cluster[forgotten].join("lost-node-user").await;
    story.cluster.redis.save_rdb().await;

    // What the saved data does not know: these left, and this one came.
    ghost.send_json(json!({"type": "leave"})).await;
    story.cluster.remove(forgotten).stop().await;
    forgotten = 0;
    let fresh = story.cluster[forgotten].join("fresh").await;
    for watch in &story.watches {
        watch.wait_for("user_offline", "ghost").await;
        watch.wait_for("user_offline", "lost-node-user").await;
        watch.wait_for("user_online", "fresh").await;
        watch.heard().events.clear();
    }
    story.cluster.redis.restart_from_rdb().await;
    story.everybody.push("fresh".to_owned());
    story.everybody.sort();
    let online = async || story.cluster.redis.smembers("online:users:set").await;
    eventually_eq_within(2 * DEADLINE, online, story.everybody.clone(), "Redis holds the present").await;
    for watch in &story.watches {
        eventually_eq(async || watch.online(), story.everybody.clone(), "so does every listener").await;
        let about_the_living = |event: &listener::Event| {
            let user = event.frame["userId"].as_str().unwrap_or_default();
            user != "ghost" && user != "lost-node-user"
        };
        let told: Vec<_> = watch.heard().events.iter().filter(|e| about_the_living(e)).cloned().collect();
        assert!(told.is_empty(), "nothing happened to those who stayed: {told:?}");
        watch.assert_sound();
    }
    for node in &story.cluster.nodes {
        assert_eq!(node.online_ids().await, story.everybody);
    }
    drop(fresh);
}

#[tokio::test]
async fn a_profile_survives_the_loss_of_all_data() {
    let cluster = Cluster::start(2).await;
    let mut ada = cluster[0].ws("/ws").await;
    ada.send_json(json!({"type": "join_user", "userId": "ada", "name": "Ada"})).await;
    ada.expect_type("welcome").await;
    let stored = async || cluster.redis.get("online:presence:ada").await;
    let before = stored().await;
    assert!(before.as_deref().is_some_and(|json| json.contains(r#""name":"Ada""#)), "{before:?}");
    cluster.redis.command(&["FLUSHALL"]).await;
    eventually_eq(stored, before, "the profile is back, with its date").await;
}

#[tokio::test]
async fn a_hold_does_not_end_while_redis_is_away() {
    const LEASE: Duration = Duration::from_secs(2);
    let behind = Behind::start(2, |settings| settings.presence.lease = LEASE).await;
    let [near, far] = &behind.nodes[..] else { unreachable!("there are two") };
    let watch = Listener::join(near.addr(), "watch").await;
    let _bob = far.join("bob").await;
    watch.wait_for("user_online", "bob").await;
    // Redis loses its data while the node of bob cannot say that he is there.
    behind.proxies[1].cut().await;
    behind.redis.command(&["FLUSHALL"]).await;
    eventually_eq(async || behind.redis.smembers("online:users:set").await, ["watch"], "the near node asserts").await;
    // No connection ends: the subscription goes on, and is silent.
    behind.proxies[0].freeze();
    wait_until_degraded(near, true).await;
    pass(2 * LEASE).await;
    watch.fence().await;
    assert_eq!(watch.events("user_offline").len(), 0, "nothing is known of bob");
    behind.proxies[1].restore().await;
    behind.proxies[0].thaw();
    let everybody = async || behind.redis.smembers("online:users:set").await;
    eventually_eq(everybody, ["bob", "watch"], "both nodes assert").await;
    wait_until_degraded(near, false).await;
    let marker = near.join("marker").await;
    marker.close(1000).await;
    eventually_within(3 * DEADLINE, async || !watch.events("user_offline").is_empty(), "the hold ends").await;
    let told: Vec<String> = watch.events("user_offline").iter().map(Listener::whom).collect();
    assert_eq!(told, ["marker"]);
    watch.assert_sound();
}

#[tokio::test]
async fn a_profile_that_a_snapshot_missed_is_told_when_it_is_asserted_again() {
    let mut cluster = Cluster::start(1).await;
    let mut ada = cluster[0].ws("/ws").await;
    ada.send_json(json!({"type": "join_user", "userId": "ada", "name": "Ada"})).await;
    ada.expect_type("welcome").await;
    cluster.redis.command(&["DEL", "online:presence:ada"]).await;
    let late = cluster.add().await;
    let watch = Listener::join(cluster[late].addr(), "watch").await;
    ada.send_json(json!({"type": "user_activity"})).await;
    assert_eq!(watch.wait_for("user_changed", "ada").await.frame["user"]["name"], "Ada");
    let listed = cluster[late].get("/api/online-users").await.1;
    assert_eq!(listed["data"][0]["name"], "Ada", "{listed}");
}

#[tokio::test]
async fn a_profile_survives_the_loss_of_all_data_if_a_socket_without_one_is_asserted_first() {
    let behind = Behind::start(2, |_| ()).await;
    let [near, far] = &behind.nodes[..] else { unreachable!("there are two") };
    // This tab states no profile, and its node never hears of the other's.
    behind.proxies[0].deafen_subscriptions();
    let _plain = near.join("ada").await;
    let mut named = far.ws("/ws").await;
    named.send_json(json!({"type": "join_user", "userId": "ada", "name": "Ada"})).await;
    named.expect_type("welcome").await;
    behind.proxies[1].cut().await;
    wait_until_degraded(far, true).await;
    behind.redis.command(&["FLUSHALL"]).await;
    eventually_eq(async || behind.redis.smembers("online:users:set").await, ["ada"], "the plain tab is asserted").await;
    behind.proxies[1].restore().await;
    behind.proxies[0].thaw();
    for node in [near, far] {
        let name = async || node.get("/api/online-users").await.1["data"][0]["name"].clone();
        eventually_eq(name, "Ada", "the profile is back").await;
    }
}
