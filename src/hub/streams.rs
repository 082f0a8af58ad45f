//! The broadcast logs of one worker, one for each stream.

use super::log::BroadcastLog;
use super::mailbox::EncodedEvent;
use crate::wire::Format;

/// A log for each format ([`Format::index`]), in the one scope that exists. One bound holds for all logs together. The
/// oldest frame goes first, whichever log it is in.
pub(super) struct Streams {
    logs: [BroadcastLog; Format::ALL.len()],
    /// How many sockets of this worker read each log. A log that no socket reads stays empty.
    n_readers: [usize; Format::ALL.len()],
    capacity_bytes: usize,
}

/// Where an event begins and ends in each log ([`Format::index`]). It is not in a log that nobody reads.
pub(super) type Places = [Option<(u64, u64)>; Format::ALL.len()];

impl Streams {
    /// Logs that keep the last `capacity_bytes` (`fanout.log_bytes`) of frames.
    pub(super) fn new(capacity_bytes: usize) -> Self {
        Self { logs: Default::default(), n_readers: Default::default(), capacity_bytes }
    }

    /// One more socket of this worker reads the log of a format. It begins after the events that were taken in before.
    pub(super) fn add_reader(&mut self, format: Format) {
        self.n_readers[format.index()] += 1;
    }

    /// One socket less reads the log of a format.
    pub(super) fn remove_reader(&mut self, format: Format) {
        self.n_readers[format.index()] -= 1;
    }

    /// The log of a format.
    pub(super) fn log(&self, format: Format) -> &BroadcastLog {
        &self.logs[format.index()]
    }

    /// Appends an event to the logs in use. Returns where the event begins and ends in each log.
    pub(super) fn append(&mut self, event: &EncodedEvent) -> Places {
        let sequence = event.seen.sequence;
        std::array::from_fn(|index| {
            if self.n_readers[index] == 0 {
                self.logs[index].skip_to(sequence);
                return None;
            }
            let Some(frame) = &event.frames[index] else {
                self.logs[index].pass(sequence);
                return None;
            };
            self.make_room(frame.len());
            Some(self.logs[index].append(sequence, frame))
        })
    }

    /// Goes on after the change number `sequence`, in every log.
    pub(super) fn skip_to(&mut self, sequence: u64) {
        self.logs.iter_mut().for_each(|log| log.skip_to(sequence));
    }

    /// Empties every log that is larger than `n_bytes`, if `is_read` says that all sockets have read it.
    pub(super) fn forget_read(&mut self, n_bytes: usize, is_read: impl Fn(Format, &BroadcastLog) -> bool) {
        for format in Format::ALL {
            let log = &mut self.logs[format.index()];
            if log.len_bytes() > n_bytes && is_read(format, log) {
                log.forget_all();
            }
        }
    }

    fn make_room(&mut self, n_bytes: usize) {
        while self.logs.iter().map(BroadcastLog::len_bytes).sum::<usize>() + n_bytes > self.capacity_bytes {
            let oldest = self.logs.iter_mut().filter_map(|log| log.first_sequence().map(|sequence| (sequence, log)));
            match oldest.min_by_key(|(sequence, _)| *sequence) {
                Some((_, log)) => log.forget_first(),
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::UserId;
    use crate::hub::mailbox::{Frames, Seen};

    fn event(sequence: u64, lengths: [usize; 2]) -> EncodedEvent {
        let frames = lengths.map(|length| (length > 0).then(|| Bytes::from(vec![0; length])));
        let (seen, user) = (Seen { sequence, n_online: 0 }, UserId::parse("a").unwrap());
        EncodedEvent { seen, user, sight: None, frames, own: Frames::default() }
    }

    #[test]
    fn all_logs_of_a_worker_share_one_bound_and_the_oldest_goes_first() {
        let mut streams = Streams::new(100);
        Format::ALL.into_iter().for_each(|format| streams.add_reader(format));
        for sequence in 1..=10 {
            streams.append(&event(sequence, [20, 10]));
            let total: usize = Format::ALL.iter().map(|format| streams.log(*format).len_bytes()).sum();
            assert!(total <= 100, "{total}");
        }
        let first = Format::ALL.map(|format| streams.log(format).first_sequence().unwrap());
        assert!(first[0].abs_diff(first[1]) <= 1 && first[0] > 5, "{first:?}");
    }

    #[test]
    fn a_log_that_nobody_reads_stays_empty_and_misses_nothing() {
        let mut streams = Streams::new(100);
        streams.add_reader(Format::Native);
        streams.append(&event(1, [10, 10]));
        assert_eq!(streams.log(Format::Plain).len_bytes(), 0);
        assert_eq!(streams.log(Format::Plain).position_after(0), None, "the first is not there");
        streams.add_reader(Format::Plain);
        // The format has no words for the second event.
        streams.append(&event(2, [10, 0]));
        streams.append(&event(3, [10, 10]));
        let plain = streams.log(Format::Plain);
        assert_eq!(plain.position_after(1), plain.position_after(2));
        assert_eq!(plain.position_after(3), Some(plain.end()));
    }
}
