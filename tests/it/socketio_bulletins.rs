//! Lists that are told again to clients of Socket.IO: they agree with the events around them, and come seldom.

use std::collections::BTreeSet;
use std::time::Instant;

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
