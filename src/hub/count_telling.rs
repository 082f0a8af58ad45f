//! How a hub tells its sockets how many users are online, in the service or in a room.

use std::rc::Rc;

use super::Hub;
use super::counting::{COUNT_INTERVAL, Counting, Told};
use super::hub::{FLUSH_CHUNK, State};
use super::streams::StreamKey;
use crate::metrics::Sent;
use crate::wire::Format;
use crate::wire::message::Message;

impl Hub {
    /// Tells the sockets that want to know a number of users that number, whenever it changes.
    pub(super) async fn tell_counts(self: Rc<Self>) {
        loop {
            self.count_changed.notified().await;
            loop {
                let are_all_told = self.tell_outdated_counts().await;
                tokio::time::sleep(COUNT_INTERVAL).await;
                if are_all_told {
                    break;
                }
            }
        }
    }

    /// Tells each number that has changed to the sockets that were told another one, unless a socket must wait. Returns whether
    /// none must.
    pub(super) async fn tell_outdated_counts(&self) -> bool {
        let due = std::mem::take(&mut self.state.borrow_mut().counts_due);
        let mut are_all_told = true;
        for stream in due {
            if !self.tell_outdated_count(stream).await {
                self.state.borrow_mut().counts_due.insert(stream);
                are_all_told = false;
            }
        }
        are_all_told
    }

    async fn tell_outdated_count(&self, stream: StreamKey) -> bool {
        let outdated = self.state.borrow_mut().counting_of(stream).map_or(Vec::new(), |counting| counting.outdated());
        let mut are_all_told = true;
        for keys in outdated.chunks(FLUSH_CHUNK) {
            are_all_told &= self.tell_count(stream, keys);
            tokio::task::yield_now().await;
        }
        are_all_told
    }

    fn tell_count(&self, stream: StreamKey, keys: &[usize]) -> bool {
        let state = &mut *self.state.borrow_mut();
        let frames = state.count_frames(stream);
        let (mut sent, mut are_all_told) = (Sent::default(), true);
        for key in keys {
            let Some(listener) = state.listeners.get(*key).filter(|listener| !listener.is_paused()) else { continue };
            let takes_bytes = listener.takes_bytes();
            let Some(counting) = state.counting_of(stream) else { break };
            let told = if takes_bytes { counting.tell(*key, self.time()) } else { Told::Later };
            are_all_told &= told != Told::Later;
            if told == Told::Now {
                let listener = &mut state.listeners[*key];
                if let Some(frame) = &frames[listener.format().index()] {
                    listener.send(state.streams.service(listener.format()).end(), frame.clone());
                }
                listener.flush(&state.streams, None, &mut sent);
            }
        }
        self.metrics.sent(sent);
        are_all_told
    }
}

impl State {
    /// Who hears how many users are in the service, or in a room.
    pub(super) fn counting_of(&mut self, stream: StreamKey) -> Option<&mut Counting> {
        if stream == StreamKey::SERVICE {
            return Some(&mut self.counting);
        }
        self.streams.rooms.get_mut(stream)?.counting_mut()
    }

    /// The number, in each format.
    fn count_frames(&mut self, stream: StreamKey) -> super::mailbox::Frames {
        let n_online = self.counting_of(stream).map_or(0, |counting| counting.n_online());
        let message = match self.streams.rooms.get(stream) {
            Some(room) => Message::RoomCount { room: room.room(), n_online, standing: None },
            None => Message::Count { n_online, standing: None },
        };
        Format::ALL.map(|format| format.encode(&message, None))
    }
}
