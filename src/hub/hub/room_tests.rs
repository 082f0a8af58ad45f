//! Tests of what a socket hears of its rooms.

use bytes::Bytes;
use futures_util::FutureExt;

use super::*;
use crate::domain::{Interest, OfflineReason, RoomId, RoomTold, Timestamp};
use crate::hub::test_sockets::Written;
use crate::hub::{Attention, ShownRoom};
use crate::metrics::Registry;
use crate::replica::{Announce, RoomAnnouncement};
use crate::settings::Settings;
use crate::wire::message::Message;

impl Written {
    fn n(&self, what: &str) -> usize {
        self.0.borrow().windows(what.len()).filter(|bytes| *bytes == what.as_bytes()).count()
    }
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

fn announcement(sequence: u64, id: &str, n_online: usize) -> RoomAnnouncement {
    let (told, at) = (RoomTold::Left(OfflineReason::Left), Timestamp(0));
    RoomAnnouncement { sequence, room: room(id), user: user("bob"), told, n_online, at }
}

fn shown(id: &str, interest: Interest, n_online: usize, frame: Option<&'static str>) -> ShownRoom {
    ShownRoom { room: room(id), interest, n_online, frame: frame.map(Bytes::from), is_whole: false }
}

/// A hub, and a function that gives it one more socket of ada.
fn hub(fanout: &Fanout) -> (Rc<Hub>, impl Fn() -> (Rc<Written>, Attachment)) {
    let hub = Hub::start(fanout, HubMetrics::new(&mut Registry::default()), &Settings::default().fanout);
    let attached = hub.clone();
    let attach = move || {
        let socket = Rc::new(Written::default());
        let attachment = attached.attach(socket.clone(), Format::Native);
        attachment.listen(Some(&user("ada")), Interest::Nobody, 0);
        (socket, attachment)
    };
    (hub, attach)
}

#[test]
fn only_those_in_the_room_who_want_it_hear_of_it() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        let (hub, attach) = hub(&fanout);
        let interests = [Interest::Everyone, Interest::Count, Interest::Nobody];
        let sockets = interests.map(|interest| {
            let (socket, attachment) = attach();
            attachment.hear_room(shown("a", interest, 3, Some("shown")), 0);
            (socket, attachment)
        });
        fanout.announce_room(&announcement(1, "a", 2));
        fanout.announce_room(&announcement(2, "b", 2));
        hub.take_in();
        hub.flush_all().await;
        assert_eq!(sockets.each_ref().map(|(socket, _)| socket.n("room_user_left")), [1, 0, 0]);
        assert_eq!(sockets.each_ref().map(|(socket, _)| socket.n("shown")), [1; 3]);
        assert_eq!(sockets[2].1.rooms(), [(room("a"), Interest::Nobody)]);
        // The own socket hears of its own user, and one that left hears nothing.
        sockets[0].1.leave_room(&room("a"));
        fanout.announce_room(&announcement(3, "a", 1));
        hub.take_in();
        hub.flush_all().await;
        assert_eq!(sockets[0].0.n("room_user_left"), 1);
        assert!(sockets[0].1.rooms().is_empty());
    });
}

#[test]
fn a_number_is_told_once_a_second_and_not_to_a_paused_socket() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        let (hub, attach) = hub(&fanout);
        let ((first, counts), (second, paused)) = (attach(), attach());
        counts.hear_room(shown("a", Interest::Count, 3, Some("shown")), 0);
        paused.hear_room(shown("a", Interest::Count, 3, Some("shown")), 0);
        paused.pause();
        // The number is another one since the view was read, and stands then.
        fanout.announce_room(&announcement(1, "a", 2));
        fanout.announce_room(&announcement(2, "a", 3));
        hub.take_in();
        assert!(hub.tell_outdated_counts().await, "the number stands");
        fanout.announce_room(&announcement(3, "a", 4));
        hub.take_in();
        assert!(!hub.tell_outdated_counts().await, "it was told less than a second ago");
        assert_eq!(first.n("room_count"), 0);
        // The hub tells the number when a second has passed.
        while first.n("room_count") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            hub.tell_outdated_counts().await;
        }
        assert!(hub.tell_outdated_counts().await && hub.state.borrow().counts_due.is_empty());
        assert_eq!((first.n("\"onlineCount\":4"), second.n("room_count")), (1, 0));
        // Whoever goes on and is shown nothing is told.
        paused.listen(Some(&user("ada")), Interest::Nobody, 3);
        paused.hear_room(shown("a", Interest::Count, 4, None), 3);
        assert!(hub.tell_outdated_counts().await);
        assert_eq!(second.n("\"onlineCount\":4"), 1);
        // The store answered something else than what the node knows. So the node tells that again.
        counts.show_room_count(&room("a"), 5);
        while first.n("room_count") == 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            hub.tell_outdated_counts().await;
        }
        assert_eq!((first.n("\"onlineCount\":4"), second.n("room_count")), (2, 1));
    });
}

#[test]
fn a_user_whom_the_server_removes_is_out_of_the_room_and_its_sessions_are_told() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        let (hub, attach) = hub(&fanout);
        let ((socket, removed), (_, elsewhere)) = (attach(), attach());
        removed.hear_room(shown("a", Interest::Everyone, 3, None), 0);
        removed.hear_room(shown("b", Interest::Everyone, 3, None), 0);
        elsewhere.hear_room(shown("b", Interest::Everyone, 3, None), 0);
        let inquiry = Inquiry::RemoveFromRoom { room: room("a") };
        let accounts = fanout.ask(&user("ada"), inquiry.clone()).await.unwrap();
        assert_eq!(accounts.len(), 1, "the other socket was not in it");
        assert_eq!(removed.attention().await, Attention::Removed);
        assert_eq!(removed.take_removed(), [room("a")]);
        assert!(removed.attention().now_or_never().is_none() && elsewhere.attention().now_or_never().is_none());
        assert_eq!(removed.rooms(), [(room("b"), Interest::Everyone)]);
        fanout.announce_room(&announcement(1, "a", 2));
        hub.take_in();
        hub.flush_all().await;
        assert!(socket.0.borrow().is_empty());
        assert!(fanout.ask(&user("ada"), inquiry).await.unwrap().is_empty());
    });
}

#[test]
fn whoever_joins_as_another_user_or_leaves_is_in_no_room() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        let (hub, attach) = hub(&fanout);
        let (_, attachment) = attach();
        let hear = || attachment.hear_room(shown("a", Interest::Everyone, 3, None), 0);
        hear();
        attachment.listen(Some(&user("ada")), Interest::Everyone, 0);
        assert_eq!(attachment.rooms().len(), 1, "it is the same user");
        attachment.begin_as(&user("eve"));
        assert!(attachment.rooms().is_empty());
        hear();
        attachment.mute();
        assert!(attachment.rooms().is_empty());
        hear();
        drop(attachment);
        assert_eq!(hub.state.borrow().streams.rooms.find(&room("a")), None);
    });
}

#[test]
fn whoever_hears_only_rooms_starts_over_when_the_node_skips_events() {
    for interest in [Interest::Everyone, Interest::Count] {
        actix_rt::System::new().block_on(async {
            let fanout = Fanout::new(10_000);
            let (hub, attach) = hub(&fanout);
            let ((socket, attachment), (_, other)) = (attach(), attach());
            attachment.hear_room(shown("a", interest, 3, None), 0);
            other.hear_room(shown("a", Interest::Nobody, 3, None), 0);
            (1..=100).for_each(|sequence| fanout.announce_room(&announcement(sequence, "a", 2)));
            hub.take_in();
            // What the client asks for meanwhile does not hide that it misses events.
            attachment.listen(Some(&user("ada")), Interest::Watched, 100);
            assert_eq!(attachment.attention().await, Attention::Resync);
            attachment.restart(Interest::Nobody, 100, ["resync".into()], vec![shown("a", interest, 2, Some("room"))]);
            assert_eq!(*socket.0.borrow(), b"resyncroom");
            for attachment in [&attachment, &other] {
                assert!(attachment.attention().now_or_never().is_none());
            }
        });
    }
}

#[test]
fn a_whisper_reaches_those_in_the_room_for_whom_nothing_waits() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        let (hub, attach) = hub(&fanout);
        let ((reads, first), (counts, second), (pauses, third)) = (attach(), attach(), attach());
        first.hear_room(shown("a", Interest::Everyone, 3, None), 0);
        second.hear_room(shown("a", Interest::Count, 3, None), 0);
        third.hear_room(shown("a", Interest::Everyone, 3, None), 0);
        third.pause();
        let (a, bob, ada) = (room("a"), user("bob"), user("ada"));
        let typing = Message::Typing { room: Some(&a), user: &bob, is_typing: true };
        fanout.whisper_room(&a, &bob, &typing);
        fanout.whisper_room(&a, &ada, &typing);
        fanout.whisper_room(&room("b"), &bob, &typing);
        hub.take_in();
        hub.whisper_all().await;
        assert_eq!([&reads, &counts, &pauses].map(|socket| socket.n("typing")), [1, 0, 0]);
        fanout.whisper_user(&ada, &typing);
        (0..WHISPERS_MAX).for_each(|_| fanout.whisper_user(&bob, &typing));
        hub.take_in();
        assert_eq!(hub.state.borrow().whispers.len(), WHISPERS_MAX, "what is too much is dropped");
        hub.whisper_all().await;
        assert_eq!([&reads, &counts, &pauses].map(|socket| socket.n("\"isTyping\"")), [2, 1, 0]);
    });
}
