//! Lists that are told again to clients of Socket.IO: they agree with the events around them, and come seldom.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::polling::event;
use crate::support::*;

/// What a client believes, which hears events and lists.
#[derive(Default)]
struct Believer {
    online: BTreeSet<String>,
    /// What the last list said.
    listed: BTreeSet<String>,
    n_lists: u64,
}

impl Believer {
    /// Takes in an event of the client that is `own`. A list must say what the events before it have said.
    fn hear(&mut self, name: &str, argument: &Value) {
        let user = || argument["userId"].as_str().expect("an id").to_owned();
        match name {
            "user_online" => assert!(self.online.insert(user()), "came twice: {argument}"),
            "user_offline" => assert!(self.online.remove(&user()), "went, and was not there: {argument}"),
            "online_users_list" => {
                let users = argument["users"].as_array().expect("users").iter();
                let listed: BTreeSet<_> = users.map(|user| user["id"].as_str().expect("an id").to_owned()).collect();
                if self.n_lists > 0 {
                    assert_eq!(listed, self.online, "the list is not what the events say");
                }
                assert_eq!(argument["total"], listed.len());
                (self.online, self.listed, self.n_lists) = (listed.clone(), listed, self.n_lists + 1);
            }
            "resync" => panic!("nothing was missed"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_list_stands_between_the_events_before_and_after_it_and_comes_once_a_second_at_most() {
    for place in Place::each(|_| ()).await {
        let began = Instant::now();
        let mut listeners = Vec::new();
        for number in 0..3 {
            let mut listener = SioWs::connect(place.node(number), "").await;
            listener.emit(json!(["join_user", format!("listener-{number}")])).await;
            listeners.push((listener, Believer::default()));
        }
        let mut others = Vec::new();
        for n in 0..60_usize {
            others.push(place.node(n).join(&format!("user-{n}")).await);
            if n % 3 == 2 {
                others.swap_remove(n % others.len()).close(1000).await;
            }
        }
        let _last = place.node(1).join("last").await;
        for (listener, believer) in &mut listeners {
            // Those who are left, three listeners, and the last one. The list after the last event has them, too.
            while believer.listed.len() != others.len() + 4 || believer.listed != believer.online {
                if let Some((name, argument)) = event(&listener.next().await) {
                    believer.hear(&name, &argument);
                }
            }
            // One with the welcome, one at the first change, and one for each second.
            let n_seconds = began.elapsed().as_secs();
            assert!(believer.n_lists <= n_seconds + 3, "{} lists in {n_seconds} s", believer.n_lists);
        }
    }
}

#[tokio::test]
async fn every_room_is_told_its_own_members_in_the_end() {
    for place in Place::each(|_| ()).await {
        let mut listeners = Vec::new();
        for number in 0..3 {
            let mut listener = SioWs::connect(place.node(number), "").await;
            let room = format!("room-{}", number % 2);
            assert_eq!(
                listener.ask(json!(["join-room", {"roomId": room, "userId": format!("listener-{number}")}])).await["success"],
                true
            );
            listeners.push((listener, room));
        }
        let mut members = Vec::new();
        for n in 0..12_usize {
            let mut member = place.node(n).join(&format!("user-{n}")).await;
            member.join_room(&format!("room-{}", n % 2)).await;
            members.push(member);
        }
        // Of each room, one leaves the room, and one the service.
        for (n, member) in members.iter_mut().take(2).enumerate() {
            member.ask(json!({"type": "leave_room", "roomId": format!("room-{n}")})).await;
        }
        members.swap_remove(2).close(1000).await;
        members.swap_remove(3).close(1000).await;
        for (listener, room) in &mut listeners {
            let mut expected: BTreeSet<_> = match room.as_str() {
                "room-0" => ["listener-0", "listener-2"].into_iter().map(str::to_owned).collect(),
                _ => [String::from("listener-1")].into(),
            };
            let parity = usize::from(room == "room-1");
            expected.extend((0..12).filter(|n| n % 2 == parity).map(|n| format!("user-{n}")));
            for gone in ["user-0", "user-1", "user-2", "user-3"] {
                expected.remove(gone);
            }
            let told = |update: &Value| -> BTreeSet<String> {
                assert_eq!(update["roomId"], **room, "of another room");
                let users = update["onlineUsers"].as_array().expect("users").iter();
                let users: BTreeSet<_> = users.map(|user| user["userId"].as_str().expect("an id").to_owned()).collect();
                assert_eq!(update["onlineCount"], users.len());
                users
            };
            listener.wait_until("online-count-updated", |update| told(update) == expected).await;
        }
    }
}

/// The lists of one name until `is_last` holds for one.
async fn lists_until(client: &mut SioWs, name: &str, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut lists = Vec::new();
    while !lists.last().is_some_and(&is_last) {
        lists.push(client.wait_for(name).await);
    }
    lists
}

#[tokio::test]
async fn who_just_joined_gets_the_list_once() {
    let node = Node::start_with(|_| ()).await;
    let mut listeners: Vec<SioWs> = Vec::new();
    for n in 1..=4 {
        let mut listener = SioWs::connect(&node, "").await;
        listener.emit(json!(["join_user", format!("listener-{n}")])).await;
        let first = listener.wait_for("online_users_list").await;
        assert_eq!(first["total"], n);
        listeners.push(listener);
        // The others are told, and so is who comes later.
        for (earlier, listener) in listeners[..n - 1].iter_mut().enumerate() {
            let totals: Vec<_> = lists_until(listener, "online_users_list", |list| list["total"] == n).await;
            assert_eq!(totals.len(), 1, "{earlier}: {totals:?}");
        }
    }
    let mut in_room: Vec<SioWs> = Vec::new();
    for n in 1..=4 {
        let mut listener = SioWs::connect(&node, "").await;
        listener.emit(json!(["join-room", {"roomId": "r", "userId": format!("member-{n}")}])).await;
        assert_eq!(listener.wait_for("online-count-updated").await["onlineCount"], n);
        in_room.push(listener);
        for (earlier, listener) in in_room[..n - 1].iter_mut().enumerate() {
            let totals: Vec<_> = lists_until(listener, "online-count-updated", |list| list["onlineCount"] == n).await;
            assert_eq!(totals.len(), 1, "{earlier}: {totals:?}");
        }
    }
}

#[tokio::test]
async fn a_list_does_not_wait_because_another_one_was_told() {
    let node = Node::start_with(|_| ()).await;
    let mut ada = SioWs::connect(&node, "").await;
    for round in 0.. {
        let room = |name: &str| format!("{name}-{round}");
        let (often, seldom) = (room("often"), room("seldom"));
        for room in [&often, &seldom] {
            assert_eq!(ada.ask(json!(["join-room", {"roomId": room, "userId": "ada"}])).await["success"], true);
        }
        let mut bob = node.join("bob").await;
        let began = Instant::now();
        bob.join_room(&often).await;
        let is_of_both = |update: &Value| update["roomId"] == *often && update["onlineCount"] == 2;
        ada.wait_until("online-count-updated", is_of_both).await;
        // The list of this room has been told just now. So it waits, but that of the other room does not.
        bob.ask(json!({"type": "leave_room", "roomId": often})).await;
        bob.join_room(&seldom).await;
        let next = ada.wait_for("online-count-updated").await;
        // If this took longer than a list waits, it says nothing.
        if began.elapsed() < Duration::from_secs(1) {
            assert_eq!((&next["roomId"], &next["onlineCount"]), (&json!(seldom), &json!(2)));
            return;
        }
        for room in [&often, &seldom] {
            ada.ask(json!(["leave-room", room])).await;
        }
        bob.close(1000).await;
        assert!(round < 20, "the list of a room comes late each time");
    }
}

/// Three clients join one after the other. The last one is shown only a part. It gets the list when that has rested.
async fn last_gets_all_of(name: &str, users: &str, request: impl Fn(usize) -> Value) {
    for round in 0.. {
        let node =
            Node::start_with(|settings| (settings.limits.page_default, settings.limits.page_bytes) = (2, 4096)).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(SioWs::connect(&node, "").await);
        }
        clients[0].emit(request(0)).await;
        clients[0].wait_for(name).await;
        let began = Instant::now();
        clients[1].emit(request(1)).await;
        // Now the list rests.
        clients[0].wait_until(name, |list| list[users].as_array().map(Vec::len) == Some(2)).await;
        clients[2].emit(request(2)).await;
        let shown = clients[2].wait_for(name).await;
        assert_ne!(shown[users].as_array().map(Vec::len), Some(3), "it is too long: {shown}");
        // If this took longer than a list rests, it says nothing.
        if began.elapsed() < Duration::from_secs(1) {
            clients[2].wait_until(name, |list| list[users].as_array().map(Vec::len) == Some(3)).await;
            return;
        }
        assert!(round < 20, "the list of three comes late each time");
    }
}

#[tokio::test]
async fn who_was_shown_only_a_part_gets_the_list() {
    // A page has no room for three such names.
    let name = "x".repeat(1500);
    last_gets_all_of(
        "online_users_list",
        "users",
        |n| json!(["join_user", {"userId": format!("user-{n}"), "name": name}]),
    )
    .await;
    last_gets_all_of(
        "online-count-updated",
        "onlineUsers",
        |n| json!(["join-room", {"roomId": "r", "userId": format!("user-{n}"), "name": name}]),
    )
    .await;
}
