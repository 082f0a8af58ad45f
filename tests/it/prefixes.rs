//! Several services on one Redis, told apart by their prefixes alone.

use crate::support::*;

#[tokio::test]
async fn a_prefix_under_which_the_users_of_another_service_would_write_is_refused() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    for prefix in ["app:presence", "app:last-seen:eu", "app:user"] {
        let environment = [("REDIS_URL", &*url), ("ROLLCALL__REDIS__PREFIX", prefix)];
        let ended = NodeProcess::try_spawn(&[], &environment).await.err().expect("it refuses to start");
        let begin = format!("rollcall: redis.prefix = {prefix:?} must be without the word of a key after a \":\"");
        assert!(ended.stderr.starts_with(&begin) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    }
    assert_eq!(redis.keys("*").await, NOBODY);
}

#[tokio::test]
async fn services_with_nested_prefixes_do_not_meet_whatever_their_users_are_called() {
    let redis = RedisServer::start().await;
    let mut services = Vec::new();
    for prefix in ["app", "app:eu", "presence", "app2"] {
        let mut settings = test_settings_with_redis(&redis.url());
        settings.redis.prefix = prefix.to_owned();
        let node = Node::spawn(settings).await;
        node.wait_ready().await;
        services.push(node);
    }
    let mut users = ["eu:users:set", "users:set", "eu:log", "ada"];
    let mut clients = Vec::new();
    for node in &services {
        for user in users {
            clients.push(node.join(user).await);
        }
    }
    users.sort_unstable();
    for node in &services {
        assert_eq!(node.online_ids().await, users);
    }
    drop(clients.split_off(4));
    for node in &services[1..] {
        eventually_eq(async || node.online_ids().await, NOBODY, "they are gone here").await;
    }
    assert_eq!(services[0].online_ids().await, users, "and nobody else's are");
}
