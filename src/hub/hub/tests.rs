//! Tests of the order and of the gaps in what a socket hears from its hub.

use std::io;

use futures_util::FutureExt;

use super::*;
use crate::domain::{OfflineReason, Presence, Timestamp, Told};
use crate::metrics::Registry;
use crate::replica::{Announce, Announcement};
use crate::settings::Settings;

/// A socket that takes everything.
#[derive(Default)]
struct Written(RefCell<Vec<u8>>);

impl Outbound for Written {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

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
    Announcement { sequence, user, others, own: None, epoch: 1, revision, catch_up: false, at }
}

#[test]
fn frames_that_show_the_view_come_before_what_happened_after_it() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(1 << 20);
        let (socket, attachment) = Written::attached(&fanout);
        // The view was read at 0. It changes before its reader listens.
        fanout.announce(&announcement(1));
        attachment.listen(&user("ada"), 0);
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
            attachment.listen(&user("ada"), 1);
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
        attachment.listen(&user("ada"), 0);
        assert_eq!(attachment.attention().await, Attention::Resync);
        // The socket is shown the view of that moment, and the same happens again.
        (n_events + 1..=2 * n_events).for_each(|sequence| fanout.announce(&announcement(sequence)));
        attachment.restart(&user("ada"), n_events, ["list".into()]);
        assert_eq!(attachment.attention().await, Attention::Resync, "the node is not the client's slowness");
        attachment.restart(&user("ada"), 2 * n_events, ["list".into()]);
        assert!(attachment.attention().now_or_never().is_none(), "nothing is missing");
    });
}

#[test]
fn a_catch_up_that_fits_is_told_and_a_larger_one_is_skipped() {
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(10_000);
        let (socket, attachment) = Written::attached(&fanout);
        attachment.listen(&user("ada"), 0);
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
            attachment.restart(&user("ada"), 100 * round + 100, []);
        }
        assert_eq!(socket.0.borrow().len(), n_bytes, "none of it was told one by one");
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
            attachment.listen(&user(id), 0);
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
        hub.mailbox.skip_to(1);
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
