//! How a socket is written what waits for it: the logs that it reads, and the frames for it alone.
//!
//! The rest of a frame that was begun precedes everything. The frames for the socket alone have one order. Such a frame may
//! have a place in a stream: it is due when the socket has got there. A stream is held up only by a frame that belongs to it.
//! There is no order between two streams.

use std::io;

use bytes::Bytes;

use super::{Hole, Listener};
use crate::hub::log::BroadcastLog;
use crate::hub::streams::{StreamKey, Streams};
use crate::metrics::Sent;

/// Bytes of a log that can be written in one piece.
struct Run {
    stream: StreamKey,
    from: u64,
    to: u64,
}

impl Listener {
    /// Writes what can be written without waiting, and counts it in `sent`. If `only` names a stream, the caller knows of no
    /// news in another one.
    pub(crate) fn flush(&mut self, streams: &Streams, only: Option<StreamKey>, sent: &mut Sent) {
        // A frame for this socket alone may have held up other streams.
        let only = only.filter(|_| self.backlog.is_none());
        while !self.blocked && !self.broken {
            if self.misses_bytes(streams, only) {
                self.fall_off();
            }
            if let Some(frame) = self.due_frame() {
                let written = self.outbound.try_write(frame);
                self.advance_private(written, sent);
            } else if let Some(Run { stream, from, to }) = self.next_run(streams, only) {
                if from == to {
                    continue;
                }
                let log = streams.log(stream, self.format);
                let written = self.outbound.try_write(log.read(from, to));
                self.advance_log(written, stream, log, sent);
            } else {
                if self.is_flushed() {
                    self.lagged = false;
                    if self.owes_states() {
                        self.wake();
                    }
                }
                return;
            }
        }
    }

    /// Writes a frame that is of no use later. It is dropped if something else waits for the socket, or if the socket takes
    /// no bytes.
    pub(in crate::hub) fn whisper(&mut self, frame: &Bytes, streams: &Streams, sent: &mut Sent) {
        if self.is_paused || !self.takes_bytes() || self.hole != Hole::No || !self.is_drained() {
            return;
        }
        let written = self.outbound.try_write(frame);
        let Some(n_bytes) = self.check(written, sent) else { return };
        if n_bytes == frame.len() {
            sent.n_frames += 1;
            self.is_flushed();
        } else {
            self.backlog.get_or_insert_default().put_rest(frame.slice(n_bytes..));
            self.flush(streams, None, sent);
        }
    }

    /// Whether the log has bytes that were not written to the socket, or has forgotten such bytes.
    pub(in crate::hub) fn is_behind(&self, stream: StreamKey, log: &BroadcastLog) -> bool {
        self.position_in(stream).is_some_and(|position| position < log.end())
    }

    /// Whether this holds for a log that the socket reads.
    pub(in crate::hub) fn is_behind_in_any(&self, streams: &Streams) -> bool {
        self.read_streams().any(|stream| self.is_behind(stream, streams.log(stream, self.format)))
    }

    /// How far the socket has read a stream. It is none if it does not read the stream, or waits to start over.
    fn position_in(&self, stream: StreamKey) -> Option<u64> {
        if self.hole != Hole::No {
            return None;
        }
        if stream == StreamKey::SERVICE {
            return self.hears_everyone.then_some(self.position);
        }
        self.place_in(stream).filter(|place| place.reads).map(|place| place.position)
    }

    fn set_position_in(&mut self, stream: StreamKey, position: u64) {
        if stream == StreamKey::SERVICE {
            self.position = position;
        } else if let Some(place) = self.place_in_mut(stream) {
            place.position = position;
        }
    }

    /// The socket knows what is in a log from `begin` to `end`. It does not get that, if it has got everything before it.
    pub(in crate::hub) fn pass_over(&mut self, stream: StreamKey, begin: u64, end: u64) {
        if self.position_in(stream) == Some(begin) {
            self.set_position_in(stream, end);
        }
    }

    /// The streams that the socket may read.
    fn read_streams(&self) -> impl Iterator<Item = StreamKey> {
        std::iter::once(StreamKey::SERVICE)
            .chain(self.places().iter().filter(|place| place.reads).map(|place| place.stream))
    }

    /// Whether a log has forgotten bytes that the socket has not got.
    fn misses_bytes(&self, streams: &Streams, only: Option<StreamKey>) -> bool {
        let misses = |stream| {
            self.position_in(stream).is_some_and(|position| position < streams.log(stream, self.format).start())
        };
        match only {
            Some(stream) => misses(stream),
            None => self.read_streams().any(misses),
        }
    }

    /// The next frame for this socket alone, if the socket has got to its place.
    fn due_frame(&self) -> Option<&Bytes> {
        let private = self.backlog.as_ref()?.first()?;
        let waits = private
            .place
            .is_some_and(|(stream, place)| self.position_in(stream).is_some_and(|position| position < place));
        (!waits).then_some(&private.frame)
    }

    /// The next bytes of a log that can be written in one piece. Each time there are some, the position moves on.
    fn next_run(&mut self, streams: &Streams, only: Option<StreamKey>) -> Option<Run> {
        if let Some(stream) = only {
            return self.run_in(streams, stream);
        }
        if let Some(run) = self.run_in(streams, StreamKey::SERVICE) {
            return Some(run);
        }
        (0..self.places().len()).find_map(|n| {
            let place = self.places()[n];
            if place.reads { self.run_in(streams, place.stream) } else { None }
        })
    }

    /// Returns the next bytes of one log. They stop at the place of a frame for this socket alone. There are none if the
    /// position only moves over ranges to be left out.
    fn run_in(&mut self, streams: &Streams, stream: StreamKey) -> Option<Run> {
        let position = self.position_in(stream)?;
        let end = streams.log(stream, self.format).end();
        if position == end {
            return None;
        }
        let (from, to) = self.bounded_run(stream, position, end);
        if from != position {
            self.set_position_in(stream, from);
        }
        (position < to).then_some(Run { stream, from, to })
    }

    fn bounded_run(&mut self, stream: StreamKey, position: u64, end: u64) -> (u64, u64) {
        let Some(backlog) = &mut self.backlog else { return (position, end) };
        let (from, to) = if stream == StreamKey::SERVICE { backlog.next_run(position, end) } else { (position, end) };
        let to = backlog.first_place_in(stream).map_or(to, |place| to.min(place)).max(from);
        self.release_backlog();
        (from, to)
    }

    fn advance_private(&mut self, written: io::Result<usize>, sent: &mut Sent) {
        let Some(n_bytes) = self.check(written, sent) else { return };
        let Some(backlog) = &mut self.backlog else { return };
        sent.n_frames += u64::from(backlog.advance(n_bytes));
        self.release_backlog();
    }

    pub(super) fn release_backlog(&mut self) {
        if self.backlog.as_ref().is_some_and(|backlog| backlog.is_empty()) {
            self.backlog = None;
        }
    }

    fn advance_log(&mut self, written: io::Result<usize>, stream: StreamKey, log: &BroadcastLog, sent: &mut Sent) {
        let Some(n_bytes) = self.check(written, sent) else { return };
        let Some(begin) = self.position_in(stream) else { return };
        let mut position = begin + n_bytes as u64;
        sent.n_frames += log.n_frames(begin, position);
        let end = log.end_of_frame(position - 1);
        if end > position {
            // A frame was begun. Its rest must come next, even if the log forgets it.
            let mut rest = Vec::with_capacity((end - position) as usize);
            while position < end {
                let piece = log.read(position, end);
                rest.extend_from_slice(piece);
                position += piece.len() as u64;
            }
            self.backlog.get_or_insert_default().put_rest(rest.into());
        }
        self.set_position_in(stream, position);
    }

    /// Whether the transport holds nothing back. If it does, the session waits until the socket takes bytes again.
    fn is_flushed(&mut self) -> bool {
        match self.outbound.try_flush() {
            Ok(()) => return true,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                self.blocked = true;
                self.lagged = true;
            }
            Err(_) => self.broken = true,
        }
        self.wake();
        false
    }

    /// The bytes written, if any.
    fn check(&mut self, written: io::Result<usize>, sent: &mut Sent) -> Option<usize> {
        sent.n_writes += 1;
        match written {
            Ok(n_bytes) if n_bytes > 0 => {
                sent.n_bytes += n_bytes as u64;
                return Some(n_bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = true;
                self.lagged = true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return None,
            Ok(_) | Err(_) => self.broken = true,
        }
        self.wake();
        None
    }
}
