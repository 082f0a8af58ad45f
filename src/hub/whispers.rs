//! How a hub writes frames that are of no use later. A socket gets them at once, or not at all.

use std::time::{Duration, Instant};

use super::Hub;
use super::hub::{FLUSH_CHUNK, State};
use super::mailbox::{Frames, Whisper, WhisperTo};
use crate::domain::UserId;
use crate::metrics::Sent;

/// How many frames are written in one round. The others are dropped. So whispers never hold up events for long: this many
/// take about 20 ms.
const WHISPERED_MAX: usize = 10_000;

impl Hub {
    /// Writes the whispers that wait, after the events. Returns the time that this took.
    pub(super) async fn whisper_all(&self) -> Duration {
        let (mut cost, mut sent, mut n_left) = (Duration::ZERO, Sent::default(), WHISPERED_MAX);
        let whispers = std::mem::take(&mut self.state.borrow_mut().whispers);
        for Whisper { to, frames } in &whispers {
            let (keys, except) = self.state.borrow().hearers_of(to, n_left);
            n_left -= keys.len();
            for keys in keys.chunks(FLUSH_CHUNK) {
                let started = Instant::now();
                self.state.borrow_mut().whisper(keys, except, frames, &mut sent);
                cost += started.elapsed();
                tokio::task::yield_now().await;
            }
        }
        self.metrics.sent(sent);
        cost
    }
}

impl State {
    /// The keys of the sockets that a whisper is for, at most `max`, and the user who does not get it.
    fn hearers_of<'a>(&self, to: &'a WhisperTo, max: usize) -> (Vec<u32>, Option<&'a UserId>) {
        match to {
            WhisperTo::Room { room, except } => {
                let rooms = &self.streams.rooms;
                let readers =
                    rooms.find(room).and_then(|stream| rooms.get(stream)).map_or(&[][..], |room| room.readers());
                (readers[..readers.len().min(max)].to_vec(), Some(except))
            }
            WhisperTo::User(user) => {
                let keys = self.by_user.get(user).into_iter().flatten().take(max);
                (keys.map(|key| super::audience::index(*key)).collect(), None)
            }
        }
    }

    fn whisper(&mut self, keys: &[u32], except: Option<&UserId>, frames: &Frames, sent: &mut Sent) {
        let Self { listeners, streams, .. } = self;
        for key in keys {
            // Some sockets may be gone.
            let Some(listener) = listeners.get_mut(*key as usize) else { continue };
            let is_excepted = except.is_some() && listener.user() == except;
            if let Some(frame) = frames[listener.format().index()].as_ref().filter(|_| !is_excepted) {
                listener.whisper(frame, streams, sent);
            }
        }
    }
}
