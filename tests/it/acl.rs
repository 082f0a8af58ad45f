//! A Redis that lets the node do only what `docs/redis.md` says it needs, or less.

use std::sync::Arc;

use rollcall::domain::{
    NodeId, OfflineReason, Presence, RoomId, Scope, Signal, SocketId, Timestamp, TypingTarget, UserId,
};
use rollcall::store::redis::RedisStore;
use rollcall::store::{Beat, Claim, Intent, Join, Order, Outcome, PresenceStore, RoomStore};
use serde_json::json;

use crate::support::*;

const DOCUMENT: &str = include_str!("../../docs/redis.md");

/// The rules that the document prints: what comes after `ACL SETUSER rollcall`.
fn documented_rules() -> Vec<&'static str> {
    let (_, rules) = DOCUMENT.split_once("    ACL SETUSER rollcall ").expect("the document prints the command");
    let (rules, _) = rules.split_once("\n\n").expect("the command ends");
    rules.split_whitespace().filter(|word| *word != "\\").collect()
}

/// Gives the user `rollcall` these rules, and `secret` as password.
async fn allow(redis: &RedisServer, rules: &[&str]) {
    let rules: Vec<_> = rules.iter().map(|rule| if rule.starts_with('>') { ">secret" } else { rule }).collect();
    redis.command(&[&["ACL", "SETUSER", "rollcall", "reset"], &rules[..]].concat()).await;
}

fn restricted_url(redis: &RedisServer) -> String {
    format!("redis://rollcall:secret@127.0.0.1:{}", redis.port())
}

#[tokio::test]
async fn the_documented_rights_are_enough_for_everything_and_none_is_refused() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    allow(&redis, &documented_rules()).await;
    let mut settings = test_settings_with_redis(&restricted_url(&redis));
    settings.presence.audit = std::time::Duration::from_millis(300);
    let near = Node::spawn(settings.clone()).await;
    near.wait_ready().await;
    let mut ada = near.join("ada").await;
    ada.send_json(json!({"type": "join_user", "userId": "ada", "userData": {"name": "Ada"}})).await;
    ada.send_json(json!({"type": "user_activity"})).await;
    // A snapshot, a transition of another node, a grace and its end, a goodbye.
    let far = Node::spawn(settings.clone()).await;
    far.wait_ready().await;
    let bob = far.join("bob").await;
    ada.wait_for(|frame| frame["type"] == "user_online" && frame["userId"] == "bob").await;
    bob.abort();
    ada.wait_for(|frame| frame["type"] == "user_offline" && frame["userId"] == "bob").await;
    let mut carol = far.join("carol").await;
    carol.send_json(json!({"type": "leave"})).await;
    ada.wait_for(|frame| frame["type"] == "user_offline" && frame["userId"] == "carol").await;
    // Questions among nodes.
    let explained = async || near.get("/api/users/ada/explain").await.1["data"]["nodes"].to_string();
    eventually(async || explained().await.matches(r#""answered":true"#).count() == 2, "both nodes answer").await;
    let answered = async || near.get("/api/nodes").await.1["data"]["nodes"].to_string();
    eventually(async || answered().await.matches(r#""answered":true"#).count() == 2, "both nodes answer").await;
    let disconnected = near.request(reqwest::Method::DELETE, "/api/users/carol/sockets", &[], "").await;
    assert_eq!(disconnected.status, 200, "{disconnected:?}");
    // A gap that the log fills.
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    let _dora = far.join("dora").await;
    ada.wait_for(|frame| frame["type"] == "user_online" && frame["userId"] == "dora").await;
    // A ghost, and what nobody of us wrote.
    redis.command(&["SADD", "online:users:set", "ghost", "no\nuser"]).await;
    redis.command(&["ZADD", "online:nodes", "1", "stray", "1", "000000000000"]).await;
    let users = async || redis.smembers("online:users:set").await;
    eventually_eq(users, ["ada", "dora"], "the audit mends").await;
    eventually_eq(async || redis.query::<u64>(&["ZCARD", "online:nodes"]).await, 2, "the sweep removes").await;
    // A new epoch, a drain and its sweep.
    redis.command(&["DEL", "online:epoch"]).await;
    far.stop().await;
    ada.wait_for(|frame| frame["type"] == "user_offline" && frame["userId"] == "dora").await;
    near.stop().await;
    let log: Vec<redis::Value> = redis.query(&["ACL", "LOG"]).await;
    assert!(log.is_empty(), "nothing was refused: {log:?}");
    assert!(!redis.info("errorstats").await.contains("NOPERM"));
}

#[tokio::test]
async fn the_documented_rights_are_enough_for_all_that_a_store_does_about_rooms() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    allow(&redis, &documented_rules()).await;
    let (node, url) = (NodeId::from_bits(7), restricted_url(&redis));
    let settings = test_settings_with_redis(&url);
    let store = RedisStore::new(node, &url, &settings.redis, &settings.presence, Arc::new(|| ())).expect("a URL");
    let (room, user) = (RoomId::parse("a:b").expect("a room id"), UserId::parse("ada").expect("a user id"));
    let socket = SocketId { node, number: 1 };
    let mut heard = store.subscribe_rooms().await.expect("a subscription");
    let mut signals = store.subscribe_room_signals().await.expect("a subscription");
    for rooms in [&mut heard.rooms, &mut signals.rooms] {
        rooms.open(std::slice::from_ref(&room)).await.expect("it may subscribe");
    }
    let mut writer = store.open_writer().await.expect("a writer");
    let beat = Beat { generation: 1, seen: 0, asserted: 0, all_asserted: 0, heard_at: Timestamp(0), waits_since: None };
    let epoch = writer.beat(beat).await.expect("a reply").position.epoch;
    let join = || Intent::Join(Join { presence: Presence::default(), idle: false, device: None, since: Timestamp(1) });
    let removed = Intent::Remove(OfflineReason::TimedOut);
    for intent in [join(), Intent::Grace, Intent::Idle(true), removed, join(), Intent::Leave, join()] {
        let scope = Scope::Room(room.clone());
        let order = Order { scope, socket, user: user.clone(), intent, active_at: Timestamp(0) };
        let outcomes = writer.drive(Claim { epoch, generation: 1 }, &[order]).await.expect("outcomes");
        assert!(matches!(outcomes[0], Outcome::Done { .. }), "{outcomes:?}");
    }
    assert_eq!(writer.held_room_entries().await.expect("entries").len(), 1);
    let signal = Signal::Typing { target: TypingTarget::Room(room.clone()), user: user.clone(), is_typing: true };
    store.signal_room(&room, &signal).await.expect("it is sent");
    store.signal_user(&user, &signal).await.expect("it is sent");
    assert!(heard.deliveries.recv().await.is_some() && signals.deliveries.recv().await.is_some());
    for rooms in [&mut heard.rooms, &mut signals.rooms] {
        rooms.close(std::slice::from_ref(&room)).await.expect("it may unsubscribe");
    }
    store.room_snapshot(&room).await.expect("a snapshot");
    store.room_page(&room, 10).await.expect("a page");
    store.rooms(0, 10).await.expect("a list");
    store.refresh_rooms(&[(room.clone(), socket, user.clone())]).await.expect("a refresh");
    store.put_room(&room).await.expect("an answer");
    store.put_member(&room, &user).await.expect("an answer");
    store.room_access(&room, &user).await.expect("an answer");
    store.delete_member(&room, &user).await.expect("an answer");
    store.delete_room(&room).await.expect("an answer");
    redis.command(&["SADD", "online:room:a%3Ab:users:set", "ghost", ""]).await;
    store.audit().await.expect("an audit");
    redis.command(&["ZADD", "online:nodes", "1", "000000000000"]).await;
    redis.command(&["HSET", "online:node:rooms:000000000000", "a:b\t000000000000.1", "ghost"]).await;
    store.sweep().await.expect("a sweep");
    let log: Vec<redis::Value> = redis.query(&["ACL", "LOG"]).await;
    assert!(log.is_empty(), "nothing was refused: {log:?}");
    assert!(!redis.info("errorstats").await.contains("NOPERM"));
}

/// The words that follow one of `prefixes` in the files of a folder.
fn words_after(folder: &str, prefixes: &[&str]) -> std::collections::BTreeSet<String> {
    let files = std::fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    let files = files.expect("the folder is there");
    let files = files.map(|file| file.expect("a file").path()).filter(|path| path.is_file());
    let texts: Vec<String> = files.map(|path| std::fs::read_to_string(path).expect("text")).collect();
    let words = prefixes.iter().flat_map(|prefix| texts.iter().flat_map(|text| text.split(*prefix).skip(1)));
    words.map(|rest| rest.split(['\'', '"']).next().unwrap_or_default().to_lowercase()).collect()
}

#[test]
fn every_command_is_among_the_documented_rights() {
    let scripts = words_after("src/store/redis/lua", &["redis.call('", "native.call('", "native_pcall('"]);
    let rust = words_after("src/store/redis", &["cmd(\""]);
    assert!(scripts.len() > 20 && rust.len() > 5, "the commands were found: {scripts:?} {rust:?}");
    assert!(scripts.contains("publish"), "prelude.lua was read: {scripts:?}");
    let rights = documented_rules();
    for command in scripts.iter().chain(&rust) {
        let is_granted =
            |right: &&str| right.strip_prefix('+').and_then(|right| right.split('|').next()) == Some(command);
        assert!(rights.iter().any(is_granted), "{command} is used, and docs/redis.md does not grant it");
    }
}

#[tokio::test]
async fn a_missing_right_refuses_the_start_with_one_line_that_names_it() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    let url = restricted_url(&redis);
    let all = documented_rules();
    let rights: Vec<&str> = all.iter().copied().filter(|rule| rule.starts_with(['+', '~', '&'])).collect();
    assert!(rights.len() > 30, "the rights were found: {rights:?}");
    for right in rights {
        let others: Vec<&str> = all.iter().copied().filter(|rule| *rule != right).collect();
        allow(&redis, &others).await;
        let refused = Node::try_spawn(test_settings_with_redis(&url)).await.err();
        let refused = refused.unwrap_or_else(|| panic!("started without {right}"));
        // Without these no script runs that could look; Redis names them itself.
        let named = match right {
            "+evalsha" | "+script|load" | "+info" => right.trim_start_matches('+'),
            "~online:*" => "~online:epoch",
            right => right,
        };
        assert!(refused.contains(named), "{right}: {refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }
    // Rights on some of the keys are not enough.
    let narrow: Vec<&str> = all.iter().map(|rule| if *rule == "~online:*" { "~online:[^n]*" } else { rule }).collect();
    allow(&redis, &narrow).await;
    let refused = Node::try_spawn(test_settings_with_redis(&url)).await.err().expect("it refuses");
    assert!(refused.contains("~online:nodes") && refused.contains("~online:node:sockets:*"), "{refused}");
}

#[tokio::test]
async fn a_right_that_is_lost_later_is_a_degraded_state_that_names_it_and_ends_with_it() {
    // One that no beat or order needs: only what happens seldom would notice.
    for (right, name) in [("&online:events", "&online:events"), ("+xrange", "+xrange")] {
        let redis = RedisServer::start().await;
        redis.begin_epoch().await;
        let all = documented_rules();
        allow(&redis, &all).await;
        let mut environment = test_environment();
        environment.push(("REDIS_URL".to_owned(), restricted_url(&redis)));
        let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let node = NodeProcess::spawn(&environment).await;
        node.wait_ready().await;
        let _ada = node.join("ada").await;
        let degraded = async || node.is_degraded().await;
        let others: Vec<&str> = all.iter().copied().filter(|rule| *rule != right).collect();
        allow(&redis, &others).await;
        eventually_eq(degraded, Some(true), &format!("the node is degraded without {right}")).await;
        node.expect_log(name).await;
        allow(&redis, &all).await;
        eventually_eq(degraded, Some(false), &format!("the node recovers with {right}")).await;
        assert_eq!(node.online_ids().await, ["ada"]);
    }
}
