//! Tests of the order and of the gaps in what a socket hears from its hub.

use std::io;

use futures_util::FutureExt;

use super::*;
use crate::domain::{Change, OfflineReason, Timestamp};
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
    let change = Change::Offline(OfflineReason::Left);
    let (revision, at) = (Some(sequence), Timestamp(0));
    Announcement { sequence, user: user("bob"), change, epoch: 1, revision, catch_up: false, at }
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
