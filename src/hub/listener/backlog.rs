//! What one socket gets besides the logs, and what it does not get of them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::hub::streams::StreamKey;

/// The differences between the logs and what a socket gets.
#[derive(Default)]
pub(super) struct Backlog {
    /// The ranges of the service's log that the socket does not get: events about its own user.
    skips: VecDeque<(u64, u64)>,
    /// Frames for this socket alone, in order.
    private: VecDeque<Private>,
    private_bytes: usize,
}

/// A frame for one socket alone.
pub(super) struct Private {
    /// The place of the frame in a stream. The frame comes before the first event at that place or above. It is none if the
    /// frame belongs to no stream.
    pub(super) place: Option<(StreamKey, u64)>,
    /// The change of the views that the frame tells. It is 0 if the frame tells none.
    pub(super) sequence: u64,
    pub(super) frame: Bytes,
}

impl Backlog {
    /// Adds a frame at the end.
    pub(super) fn put(&mut self, private: Private) {
        self.private_bytes += private.frame.len();
        self.private.push_back(private);
    }

    /// Adds a frame that shows the views at the change number `sequence`. Frames that tell later changes come after it.
    pub(super) fn put_before_later(&mut self, sequence: u64, private: Private) {
        let n_later = self.private.iter().rev().take_while(|private| private.sequence > sequence).count();
        self.private_bytes += private.frame.len();
        self.private.insert(self.private.len() - n_later, private);
    }

    /// Adds the rest of a frame that was begun. It comes next.
    pub(super) fn put_rest(&mut self, rest: Bytes) {
        self.private_bytes += rest.len();
        self.private.push_front(Private { place: None, sequence: 0, frame: rest });
    }

    /// The next frame for this socket alone.
    pub(super) fn first(&self) -> Option<&Private> {
        self.private.front()
    }

    /// The place of the first frame that belongs to the stream. The stream is not read beyond it.
    pub(super) fn first_place_in(&self, stream: StreamKey) -> Option<u64> {
        self.private
            .iter()
            .filter_map(|private| private.place)
            .find(|(of, _)| *of == stream)
            .map(|(_, position)| position)
    }

    /// So many bytes of the next frame were written. Returns whether that was the rest of it.
    pub(super) fn advance(&mut self, n_bytes: usize) -> bool {
        self.private_bytes -= n_bytes;
        let Some(private) = self.private.front_mut() else { return false };
        private.frame.advance(n_bytes);
        let is_whole = private.frame.is_empty();
        if is_whole {
            self.private.pop_front();
        }
        is_whole
    }

    /// The socket does not read the stream any more. What belonged to it waits for nothing.
    pub(super) fn release_from(&mut self, stream: StreamKey) {
        for private in self.private.iter_mut().filter(|private| private.place.is_some_and(|(of, _)| of == stream)) {
            private.place = None;
        }
    }

    /// Whether no frame for this socket alone waits.
    pub(super) fn has_no_private(&self) -> bool {
        self.private.is_empty()
    }

    /// Bytes that wait for this socket alone.
    pub(super) fn private_bytes(&self) -> usize {
        self.private_bytes
    }

    /// Whether the socket gets the logs as they are.
    pub(super) fn is_empty(&self) -> bool {
        self.skips.is_empty() && self.private.is_empty()
    }

    /// Leaves out a range of the service's log, which starts at `log_start`.
    pub(super) fn skip(&mut self, begin: u64, end: u64, log_start: u64) {
        while self.skips.front().is_some_and(|(_, end)| *end <= log_start) {
            self.skips.pop_front();
        }
        match self.skips.back_mut() {
            Some((_, last)) if *last == begin => *last = end,
            _ => self.skips.push_back((begin, end)),
        }
    }

    /// The socket reads the service's log from `position` on.
    pub(super) fn forget_skips_up_to(&mut self, position: u64) {
        self.skips.retain(|(_, end)| *end > position);
    }

    /// The socket does not read the service's log from where it was.
    pub(super) fn forget_skips(&mut self) {
        self.skips.clear();
    }

    /// The next bytes of the service's log that the socket gets, if it is at `position` and may read up to `to`. Returns where
    /// they begin and end.
    pub(super) fn next_run(&mut self, mut position: u64, mut to: u64) -> (u64, u64) {
        while let Some((begin, end)) = self.skips.front().copied() {
            if end <= position {
                self.skips.pop_front();
            } else if begin <= position {
                position = end;
            } else {
                to = to.min(begin);
                break;
            }
        }
        (position, to)
    }
}
