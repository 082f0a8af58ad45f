//! The broadcast log of one stream on one worker. It holds each encoded frame once, and knows where each frame begins.

use std::collections::VecDeque;

/// A run of encoded frames. [`super::streams::Streams`] bounds its size. Positions count bytes since the log began. A
/// kept position always lies between two frames. So one number says how far a socket has been served, whatever the
/// load.
#[derive(Debug, Default)]
pub(crate) struct BroadcastLog {
    /// It is none while the log is empty. Every room has a log, and nearly all of them are empty.
    kept: Option<Box<Kept>>,
    /// Position of the first byte that the log still has.
    start: u64,
    /// Sequence of the last change before the first entry. From there on no change is missing.
    start_sequence: u64,
    /// Sequence of the last change appended or skipped.
    end_sequence: u64,
}

#[derive(Debug, Default)]
struct Kept {
    bytes: VecDeque<u8>,
    entries: VecDeque<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    sequence: u64,
    /// Position after the entry's last byte.
    end: u64,
}

impl BroadcastLog {
    /// A log in which nothing has ever been.
    pub(crate) const EMPTY: Self = Self { kept: None, start: 0, start_sequence: 0, end_sequence: 0 };

    /// Appends the frame of the view's change number `sequence`. Returns where the frame begins and ends.
    pub(crate) fn append(&mut self, sequence: u64, frame: &[u8]) -> (u64, u64) {
        let begin = self.end();
        let end = begin + frame.len() as u64;
        let kept = self.kept.get_or_insert_default();
        kept.bytes.extend(frame);
        kept.entries.push_back(Entry { sequence, end });
        self.end_sequence = sequence;
        (begin, end)
    }

    /// Notes that there is nothing to tell about the change number `sequence`. No listener misses it.
    pub(crate) fn pass(&mut self, sequence: u64) {
        self.end_sequence = sequence;
    }

    /// Sequence of the oldest frame kept.
    pub(crate) fn first_sequence(&self) -> Option<u64> {
        self.entries().front().map(|entry| entry.sequence)
    }

    /// Goes on after the change number `sequence`. The changes up to there that were not appended are left out. A
    /// listener that has not seen them has a hole.
    pub(crate) fn skip_to(&mut self, sequence: u64) {
        self.end_sequence = sequence;
        self.forget_all();
    }

    /// Bytes kept.
    pub(crate) fn len_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.bytes.len())
    }

    /// Forgets everything, because every socket has read it. Gives the memory back. Positions go on.
    pub(crate) fn forget_all(&mut self) {
        self.start = self.end();
        self.start_sequence = self.end_sequence;
        self.kept = None;
    }

    /// Position of the oldest frame kept. A socket behind this position has fallen off.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Position after the newest frame.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len_bytes() as u64
    }

    /// Position of the first frame whose sequence is above `sequence`, or the end. It is none if frames above
    /// `sequence` are missing.
    pub(crate) fn position_after(&self, sequence: u64) -> Option<u64> {
        if sequence < self.start_sequence {
            return None;
        }
        match self.entries().partition_point(|entry| entry.sequence <= sequence) {
            0 => Some(self.start),
            n => Some(self.entries()[n - 1].end),
        }
    }

    /// The end of the frame that contains the byte at `position`.
    pub(crate) fn end_of_frame(&self, position: u64) -> u64 {
        let index = self.entries().partition_point(|entry| entry.end <= position);
        self.entries().get(index).map_or(self.end(), |entry| entry.end)
    }

    /// Number of frames that end after `from` and not after `to`.
    pub(crate) fn n_frames(&self, from: u64, to: u64) -> u64 {
        let up_to = |position| self.entries().partition_point(|entry| entry.end <= position);
        (up_to(to) - up_to(from)) as u64
    }

    /// The bytes from `from` on. They end at `to`, or earlier where the memory is not contiguous.
    pub(crate) fn read(&self, from: u64, to: u64) -> &[u8] {
        let Some(kept) = &self.kept else { return &[] };
        let (from, to) = ((from - self.start) as usize, (to - self.start) as usize);
        let (head, tail) = kept.bytes.as_slices();
        if from < head.len() { &head[from..to.min(head.len())] } else { &tail[from - head.len()..to - head.len()] }
    }

    /// Forgets the oldest frame.
    pub(crate) fn forget_first(&mut self) {
        let Some(kept) = &mut self.kept else { return };
        if let Some(entry) = kept.entries.pop_front() {
            kept.bytes.drain(..(entry.end - self.start) as usize);
            self.start = entry.end;
            self.start_sequence = entry.sequence;
        }
        if kept.entries.is_empty() {
            self.kept = None;
        }
    }

    fn entries(&self) -> &VecDeque<Entry> {
        const NONE: &VecDeque<Entry> = &VecDeque::new();
        self.kept.as_ref().map_or(NONE, |kept| &kept.entries)
    }
}

/// Each room has one for each format.
const _: () = assert!(size_of::<BroadcastLog>() <= 32);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(log: &BroadcastLog, mut from: u64, to: u64) -> Vec<u8> {
        let mut read = Vec::new();
        while from < to {
            let piece = log.read(from, to);
            read.extend_from_slice(piece);
            from += piece.len() as u64;
        }
        read
    }

    proptest! {
        #[test]
        fn the_log_is_the_tail_of_what_was_appended(lengths in prop::collection::vec(1..40usize, 1..200)) {
            let mut log = BroadcastLog::default();
            let mut frames: Vec<(u64, Vec<u8>)> = Vec::new();
            for (i, length) in lengths.iter().enumerate() {
                let sequence = 2 * i as u64 + 1;
                let frame = vec![i as u8; *length];
                while log.len_bytes() + frame.len() > 100 {
                    log.forget_first();
                }
                let (begin, end) = log.append(sequence, &frame);
                frames.push((begin, frame));
                prop_assert_eq!(end, log.end());
                prop_assert!(log.end() - log.start() <= 100);
                let all: Vec<u8> = frames.iter().filter(|(at, _)| *at >= log.start()).flat_map(|(_, f)| f.clone()).collect();
                prop_assert_eq!(read_all(&log, log.start(), log.end()), all);
                // The next sequence has not come, so its place is the end. The place of this sequence is its beginning.
                prop_assert_eq!(log.position_after(sequence), Some(log.end()));
                prop_assert_eq!(log.position_after(sequence - 1), Some(begin));
                if log.start() > 0 {
                    prop_assert_eq!(log.position_after(0), None, "what came first is forgotten");
                }
                prop_assert_eq!(log.end_of_frame(begin), end);
                prop_assert_eq!(log.end_of_frame(end - 1), end);
                if length % 7 == 0 {
                    log.forget_all();
                    prop_assert_eq!((log.start(), log.end(), log.len_bytes()), (end, end, 0));
                    prop_assert_eq!(log.position_after(sequence), Some(end));
                    prop_assert_eq!(log.position_after(sequence - 1), None);
                }
            }
        }
    }

    #[test]
    fn what_was_skipped_is_missing_for_whoever_has_not_seen_it() {
        let mut log = BroadcastLog::default();
        log.append(1, b"one");
        log.skip_to(5);
        let (begin, end) = log.append(6, b"six");
        assert_eq!([0, 1, 4].map(|sequence| log.position_after(sequence)), [None; 3]);
        assert_eq!((log.position_after(5), log.position_after(6)), (Some(begin), Some(end)));
    }
}
