//! Tests of the order and of the gaps in what a socket hears from its hub.

use futures_util::FutureExt;

use super::*;
use crate::domain::{Interest, OfflineReason, Presence, Status, Timestamp, Told};
use crate::hub::test_sockets::{Pipe, Written};
use crate::hub::{Attention, Mark, Missed};
use crate::metrics::Registry;
use crate::replica::{Announce, Announcement};
use crate::settings::Settings;

impl Written {
    /// A socket of its own in a hub of its own.
    fn attached(fanout: &Fanout) -> (Rc<Self>, Attachment) {
        let hub = Hub::start(fanout, HubMetrics::new(&mut Registry::default()), &Settings::default().fanout);
        let socket = Rc::new(Self::default());
        (socket.clone(), hub.attach(socket, Format::Native))
    }
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn announcement(sequence: u64) -> Announcement {
    let others = Some(Told::Offline(OfflineReason::Left.into()));
    let (user, revision, at) = (user("bob"), Some(sequence), Timestamp(0));
    let n_online = 7;
    Announcement { sequence, user, others, own: None, n_online, epoch: 1, revision, catch_up: false, at }
}

#[test]
fn frames_that_show_the_view_come_before_what_happened_after_it() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        let (socket, attachment) = Written::attached(&fanout);
        // The view was read at 0. It changes before its reader listens.
        fanout.announce(&announcement(1));
        attachment.listen(Some(&user("ada")), Interest::Everyone, 0);
        attachment.send_at(0, ["welcome".into(), "list".into()]);
        let written = socket.0.borrow();
        assert!(written.starts_with(b"welcomelist") && written.len() > 100, "{}", written.escape_ascii());
    });
}

/// A change of ada's own status. Others are told of it, unless ada hides.
fn own_status(sequence: u64, is_hidden: bool) -> Announcement {
    let others = (!is_hidden).then(|| Told::StatusChanged(Presence::default()));
    Announcement { user: user("ada"), others, own: Some(Presence::default()), ..announcement(sequence) }
}

#[test]
fn a_socket_is_not_told_of_its_own_status_what_it_is_shown_and_is_told_the_rest_after_that() {
    for is_hidden in [false, true] {
        actix_rt::System::new().block_on(async {
            let fanout = Fanout::new(1 << 20);
            let (socket, attachment) = Written::attached(&fanout);
            fanout.announce(&own_status(1, is_hidden));
            // The view is read at 1.
            fanout.announce(&own_status(2, is_hidden));
            attachment.listen(Some(&user("ada")), Interest::Everyone, 1);
            attachment.send_at(1, ["welcome".into(), "list".into()]);
            // The view is read at 2, for an answer.
            fanout.announce(&own_status(3, is_hidden));
            attachment.send_at(2, ["answer".into()]);
            let written = socket.0.borrow().escape_ascii().to_string();
            let places = |what| written.match_indices(what).map(|(place, _)| place).collect::<Vec<_>>();
            let (told, answer) = (places("own_status"), places("answer"));
            assert!(written.starts_with("welcomelist"), "{written}");
            assert!(told.len() == 2 && told[0] < answer[0] && answer[0] < told[1], "{written}");
        });
    }
}

#[test]
fn whoever_begins_to_listen_or_starts_over_while_the_mailbox_overflows_starts_over_again() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(10_000);
        let (_, attachment) = Written::attached(&fanout);
        let n_events = 100;
        // The view was read at 0. The events after it do not fit into the mailbox.
        (1..=n_events).for_each(|sequence| fanout.announce(&announcement(sequence)));
        attachment.listen(Some(&user("ada")), Interest::Everyone, 0);
        assert_eq!(attachment.attention().await, Attention::Resync);
        // The socket is shown the view of that moment, and the same happens again.
        (n_events + 1..=2 * n_events).for_each(|sequence| fanout.announce(&announcement(sequence)));
        attachment.restart(Interest::Everyone, n_events, ["list".into()], Vec::new());
        assert_eq!(attachment.attention().await, Attention::Resync, "the node is not the client's slowness");
        attachment.restart(Interest::Everyone, 2 * n_events, ["list".into()], Vec::new());
        assert!(attachment.attention().now_or_never().is_none(), "nothing is missing");
    });
}

#[test]
fn a_catch_up_that_fits_is_told_and_a_larger_one_is_skipped() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(10_000);
        let (socket, attachment) = Written::attached(&fanout);
        attachment.listen(Some(&user("ada")), Interest::Everyone, 0);
        fanout.begin_catch_up();
        (1..=10).for_each(|sequence| fanout.announce(&announcement(sequence)));
        fanout.end_catch_up();
        attachment.send("after".into());
        attachment.hub.take_in();
        attachment.unblock();
        let n_bytes = socket.0.borrow().len();
        assert!(n_bytes > 1000, "{n_bytes}");
        for round in 0..3 {
            fanout.begin_catch_up();
            (11..=100).for_each(|sequence| fanout.announce(&announcement(100 * round + sequence)));
            fanout.end_catch_up();
            attachment.hub.take_in();
            assert_eq!(attachment.attention().await, Attention::Resync);
            attachment.restart(Interest::Everyone, 100 * round + 100, [], Vec::new());
        }
        assert_eq!(socket.0.borrow().len(), n_bytes, "none of it was told one by one");
    });
}

#[test]
fn a_socket_that_speaks_another_format_loses_no_frame_and_hears_only_that_format() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        let hub = Hub::start(&fanout, HubMetrics::new(&mut Registry::default()), &Settings::default().fanout);
        let socket = Rc::new(Pipe::default());
        let attachment = hub.attach(socket.clone(), Format::Socketio);
        let other = hub.attach(Rc::new(Written::default()), Format::Socketio);
        for attachment in [&attachment, &other] {
            attachment.listen(None, Interest::Everyone, 0);
        }
        fanout.announce(&announcement(1));
        hub.take_in();
        // It takes nothing. The answer has its place behind the event.
        attachment.send("answer".into());
        attachment.speak(Format::SocketioStatus);
        attachment.listen(None, Interest::Everyone, 1);
        attachment.send_at(1, ["list".into()]);
        fanout.announce(&announcement(2));
        hub.take_in();
        socket.room.set(1 << 20);
        attachment.unblock();
        let taken = socket.taken.borrow();
        assert!(taken.starts_with(b"answerlist"), "{}", taken.escape_ascii());
        let events = String::from_utf8_lossy(&taken).matches("user-status-change").count();
        assert_eq!((events, String::from_utf8_lossy(&taken).matches("user_offline").count()), (1, 0));
        assert_eq!(attachment.attention().now_or_never(), None);
    });
}

#[test]
fn an_errand_reaches_the_sockets_of_its_user_and_no_others() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        let hub = Hub::start(&fanout, HubMetrics::new(&mut Registry::default()), &Settings::default().fanout);
        let attach = |id: &str, number| {
            let attachment = hub.attach(Rc::new(Written::default()), Format::Plain);
            attachment.set_number(number);
            attachment.listen(Some(&user(id)), Interest::Everyone, 0);
            attachment
        };
        let (first, second, other) = (attach("ada", 7), attach("ada", 1 << 40), attach("bob", 9));
        let accounts = fanout.ask(&user("ada"), Inquiry::Explain).await.unwrap();
        assert!(accounts.len() == 2 && accounts.iter().all(|account| account.format == "plain"), "{accounts:?}");
        assert!(accounts[0].is_of(7) && accounts[1].is_of(1 << 40) && !accounts[0].is_of(8));
        assert!(first.attention().now_or_never().is_none(), "it only asks");

        // What is skipped does not lose the errand.
        let ada = user("ada");
        let mut asked = Box::pin(fanout.ask(&ada, Inquiry::Disconnect));
        assert!((&mut asked).now_or_never().is_none());
        hub.mailbox.skip_to(Skipped { sequence: 1, n_online: Some(0) });
        assert_eq!(asked.await.map(|accounts| accounts.len()), Some(2));
        for attachment in [&first, &second] {
            assert_eq!(attachment.attention().await, Attention::Disconnect);
            assert_eq!(attachment.dismissed().now_or_never(), Some(()));
        }
        assert_eq!(other.dismissed().now_or_never(), None);
        assert!(fanout.ask(&user("nobody"), Inquiry::Disconnect).await.unwrap().is_empty());
    });
}

#[test]
fn a_bounded_number_of_errands_waits_for_a_worker() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        // Nobody takes them out.
        let _mailbox = fanout.register();
        let ada = user("ada");
        let mut asked: Vec<_> = (0..100).map(|_| Box::pin(fanout.ask(&ada, Inquiry::Explain))).collect();
        let answers: Vec<_> = asked.iter_mut().map(FutureExt::now_or_never).collect();
        assert!(answers[0].is_none() && answers[99] == Some(None), "the first one waits, and the last one is refused");
    });
}

/// What is told of a user: online with that status, or offline.
fn told(sequence: u64, id: &str, status: Option<Status>) -> Announcement {
    let presence = status.map(|effective| Presence { effective, ..Presence::default() });
    let others = presence.map_or(Told::Offline(OfflineReason::Left.into()), Told::Online);
    Announcement { user: user(id), others: Some(others), ..announcement(sequence) }
}

fn n_told(socket: &Written) -> usize {
    socket.0.borrow().windows(11).filter(|bytes| bytes == b"\"userId\":\"b").count()
}

#[test]
fn whoever_watches_hears_of_the_watched_and_no_other_and_nothing_that_was_shown() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        let (socket, attachment) = Written::attached(&fanout);
        attachment.listen(Some(&user("ada")), Interest::Watched, 0);
        fanout.announce(&told(1, "bob", Some(Status::Online)));
        // The view is read at 1, and changes before the socket watches.
        fanout.announce(&told(2, "bob", None));
        let online = Mark::of(Some(&Presence::default()));
        attachment.watch([(user("bob"), online)], 1);
        attachment.send_at(1, ["watching".into()]);
        fanout.announce(&told(3, "bea", Some(Status::Online)));
        fanout.announce(&told(4, "bob", Some(Status::Busy)));
        attachment.send("end".into());
        attachment.hub.take_in();
        attachment.unblock();
        let written = socket.0.borrow().escape_ascii().to_string();
        assert!(written.starts_with("watching"), "{written}");
        assert_eq!((n_told(&socket), written.contains("bea")), (2, false), "{written}");
        attachment.unwatch(&[user("bob")]);
        fanout.announce(&told(5, "bob", None));
        attachment.hub.take_in();
        attachment.unblock();
        assert_eq!(n_told(&socket), 2);
    });
}

/// More events about bob than a mailbox of 10 000 bytes holds, from this sequence on.
fn overflow(fanout: &Fanout, first: u64) {
    (first..first + 100).for_each(|sequence| fanout.announce(&told(sequence, "bob", Some(Status::Online))));
}

#[test]
fn whoever_watches_is_owed_states_when_the_node_skips_events_whatever_it_asks_for_meanwhile() {
    let absent = Mark::of(None);
    let watch = |attachment: &Attachment| attachment.watch([(user("bea"), absent)], 100);
    let listen = |attachment: &Attachment| attachment.listen(None, Interest::Watched, 100);
    let pause = |attachment: &Attachment| {
        attachment.pause();
        attachment.resume();
    };
    let nothing = |_: &Attachment| ();
    for ask in [&watch as &dyn Fn(&Attachment), &listen, &pause, &nothing] {
        actix_rt::System::new().block_on(async {
            let fanout = Fanout::new(10_000);
            let (socket, attachment) = Written::attached(&fanout);
            attachment.listen(None, Interest::Watched, 0);
            attachment.watch([(user("bob"), absent), (user("bea"), absent)], 0);
            overflow(&fanout, 1);
            attachment.hub.take_in();
            ask(&attachment);
            assert_eq!(attachment.attention().await, Attention::Owed);
            let mut shown = Vec::new();
            attachment.settle_watches(100, 10, |user, told| {
                shown.push((user.clone(), told));
                told
            });
            assert!(shown.contains(&(user("bob"), absent)), "{shown:?}");
            assert!(attachment.attention().now_or_never().is_none());
            assert_eq!(n_told(&socket), 0);
        });
    }
}

#[test]
fn who_hears_everyone_starts_over_although_it_asked_not_to_watch_somebody() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(10_000);
        let (_, attachment) = Written::attached(&fanout);
        attachment.listen(Some(&user("ada")), Interest::Everyone, 0);
        attachment.unwatch(&[user("nobody")]);
        overflow(&fanout, 1);
        attachment.hub.take_in();
        assert_eq!(attachment.attention().await, Attention::Resync);
    });
}

#[test]
fn what_a_paused_watcher_missed_is_known_also_if_the_node_skipped_it() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(10_000);
        let (_, attachment) = Written::attached(&fanout);
        attachment.listen(None, Interest::Watched, 0);
        attachment.watch([(user("bob"), Mark::of(None)), (user("bea"), Mark::of(None))], 0);
        attachment.pause();
        overflow(&fanout, 1);
        let online = Presence::default();
        let now = |id: &UserId| Mark::of((*id == user("bob")).then_some(&online));
        assert_eq!(attachment.missed(100, 10, now), Missed::Changes(vec![(user("bob"), false)]));
    });
}

#[test]
fn a_paused_socket_hears_nothing_and_is_told_who_changed() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        let (socket, attachment) = Written::attached(&fanout);
        attachment.listen(Some(&user("ada")), Interest::Everyone, 0);
        fanout.announce(&told(1, "bob", Some(Status::Online)));
        attachment.pause();
        assert_eq!(n_told(&socket), 1, "what came before is told");
        fanout.announce(&told(2, "bob", None));
        fanout.announce(&told(3, "bea", Some(Status::Online)));
        fanout.announce(&told(4, "bob", Some(Status::Online)));
        attachment.hub.take_in();
        attachment.unblock();
        assert_eq!(n_told(&socket), 1);
        let nobody = |_: &UserId| Mark::of(None);
        let missed = vec![(user("bob"), true), (user("bea"), false)];
        assert_eq!(attachment.missed(4, 10, nobody), Missed::Changes(missed));
        assert_eq!(attachment.missed(4, 1, nobody), Missed::Unknown, "too many");
        attachment.listen(Some(&user("ada")), Interest::Everyone, 4);
        fanout.announce(&told(5, "bea", None));
        attachment.hub.take_in();
        attachment.unblock();
        assert_eq!(n_told(&socket), 2);
    });
}

#[test]
fn who_wants_only_the_number_is_told_it_when_it_changes() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        let (socket, attachment) = Written::attached(&fanout);
        attachment.listen(None, Interest::Count, 0);
        attachment.count(7, 0);
        fanout.announce(&Announcement { n_online: 8, ..announcement(1) });
        fanout.announce(&announcement(2));
        attachment.hub.take_in();
        assert!(attachment.hub.tell_outdated_counts().await, "the number stands");
        fanout.announce(&Announcement { n_online: 9, ..announcement(3) });
        attachment.hub.take_in();
        assert!(!attachment.hub.tell_outdated_counts().await, "it was told less than a second ago");
        assert!(socket.0.borrow().is_empty());
    });
}
