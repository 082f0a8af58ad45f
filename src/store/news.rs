//! How transitions of rooms reach a receiver that may be slow: the same in every store.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::RoomNews;
use crate::domain::RoomTransition;

/// How many transitions of all open rooms may wait for the receiver of one subscription. Above that they are lost: a
/// subscriber of rooms may be about to read a room, and must not stop the writer.
pub(super) const NEWS_MAX: usize = 16_384;

/// Delivers transitions of rooms to a receiver that may be slow. One task at a time may use it.
pub(super) struct NewsSender {
    sender: mpsc::Sender<RoomNews>,
    /// Whether [`RoomNews::Lost`] stands last in the channel.
    has_lost: AtomicBool,
}

impl NewsSender {
    /// For the receiver of `sender`. Nothing else may send there.
    pub(super) fn new(sender: mpsc::Sender<RoomNews>) -> Self {
        Self { sender, has_lost: AtomicBool::new(false) }
    }

    /// Whether nobody receives any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Delivers a transition, or drops it and says so. The last place in the channel is kept for saying so: nobody else
    /// sends, so a place that is free stays free. What is dropped while [`RoomNews::Lost`] waits was published before
    /// somebody reads that.
    pub(super) fn deliver(&self, transition: RoomTransition) {
        let news = if self.sender.capacity() > 1 {
            self.has_lost.store(false, Ordering::Relaxed);
            RoomNews::Transition(transition)
        } else if self.has_lost.swap(true, Ordering::Relaxed) {
            return;
        } else {
            RoomNews::Lost
        };
        // A closed subscription has nobody to tell.
        let _ = self.sender.try_send(news);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{RoomChange, RoomId, RoomPosition, Timestamp, UserId};

    fn transition(revision: u64) -> RoomTransition {
        let (room, user) = (RoomId::parse("r").unwrap(), UserId::parse("u").unwrap());
        let position = RoomPosition { birth: 1, revision };
        RoomTransition { room, position, user, change: RoomChange::Entered, at: Timestamp(0) }
    }

    /// The revision of what is received next. It is 0 for a loss, and none if nothing waits.
    fn next(receiver: &mut mpsc::Receiver<RoomNews>) -> Option<u64> {
        receiver.try_recv().ok().map(|news| match news {
            RoomNews::Transition(transition) => transition.position.revision,
            RoomNews::Lost => 0,
        })
    }

    #[test]
    fn a_loss_is_told_once_and_where_it_was() {
        let (sender, mut receiver) = mpsc::channel(3);
        let news = NewsSender::new(sender);
        (1..=5).for_each(|revision| news.deliver(transition(revision)));
        assert_eq!(next(&mut receiver), Some(1));
        // The loss is still to be read, so what comes now is a part of it.
        news.deliver(transition(6));
        assert_eq!([next(&mut receiver), next(&mut receiver), next(&mut receiver)], [Some(2), Some(0), None]);
        (7..=9).for_each(|revision| news.deliver(transition(revision)));
        assert_eq!([next(&mut receiver), next(&mut receiver), next(&mut receiver)], [Some(7), Some(8), Some(0)]);
        assert!(!news.is_closed());
        drop(receiver);
        assert!(news.is_closed());
        news.deliver(transition(10));
    }
}
