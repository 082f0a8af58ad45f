//! The broadcast logs of one worker, one for each stream.

use super::log::BroadcastLog;
use super::mailbox::{EncodedEvent, EncodedRoomEvent};
use super::room_streams::RoomStreams;
use crate::wire::Format;

/// A stream is what is told in one scope: the service, or one room. It has a log for each format ([`Format::index`]). One
/// bound holds for all logs together. The oldest frame goes first, whichever log it is in.
pub(super) struct Streams {
    /// The logs of the service.
    logs: [BroadcastLog; Format::ALL.len()],
    /// How many sockets of this worker read each of them. A log that no socket reads stays empty.
    n_readers: [usize; Format::ALL.len()],
    pub(super) rooms: RoomStreams,
    capacity_bytes: usize,
}

/// Names a stream of one worker. The key of a room is given to another room when no socket is in the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StreamKey(u32);

/// Where an event begins and ends in each log of the service ([`Format::index`]). It is not in a log that nobody reads.
pub(super) type Places = [Option<(u64, u64)>; Format::ALL.len()];

impl StreamKey {
    /// The stream of the service.
    pub(super) const SERVICE: Self = Self(u32::MAX);

    /// The key of a room's stream, by its slot.
    pub(super) fn of_slot(slot: usize) -> Self {
        Self(u32::try_from(slot).expect("a worker has fewer rooms than sockets times limits.rooms_per_socket"))
    }

    /// The slot of a room's stream.
    pub(super) fn slot(self) -> usize {
        self.0 as usize
    }
}

impl Streams {
    /// Logs that keep the last `capacity_bytes` (`fanout.log_bytes`) of frames.
    pub(super) fn new(capacity_bytes: usize) -> Self {
        let (logs, n_readers, rooms) = Default::default();
        Self { logs, n_readers, rooms, capacity_bytes }
    }

    /// One more socket of this worker reads the service's log of a format. It begins after the events that were taken in
    /// before.
    pub(super) fn add_reader(&mut self, format: Format) {
        self.n_readers[format.index()] += 1;
    }

    /// One socket less reads the service's log of a format.
    pub(super) fn remove_reader(&mut self, format: Format) {
        self.n_readers[format.index()] -= 1;
    }

    /// The service's log of a format.
    pub(super) fn service(&self, format: Format) -> &BroadcastLog {
        &self.logs[format.index()]
    }

    /// The log of a format in the service, or in a room in which a socket is.
    pub(super) fn log(&self, stream: StreamKey, format: Format) -> &BroadcastLog {
        if stream == StreamKey::SERVICE { self.service(format) } else { self.rooms.log(stream, format) }
    }

    /// Appends an event of the service to the logs in use. Returns where the event begins and ends in each log.
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

    /// Appends an event of a room to the logs in use. Returns the stream, if some socket is to be told another number of users.
    pub(super) fn append_to_room(&mut self, event: &EncodedRoomEvent) -> Option<StreamKey> {
        let stream = self.rooms.find(&event.room)?;
        for format in Format::ALL {
            self.append_in_format(stream, format, event);
        }
        let counting = self.rooms.get_mut(stream)?.counting_mut()?;
        counting.take(event.n_online, event.sequence).then_some(stream)
    }

    fn append_in_format(&mut self, stream: StreamKey, format: Format, event: &EncodedRoomEvent) {
        let Some(room) = self.rooms.get_mut(stream) else { return };
        if !room.has_readers_of(format) {
            return;
        }
        match &event.frames[format.index()] {
            Some(frame) => {
                self.make_room(frame.len());
                self.rooms.append(stream, format, event.sequence, frame);
            }
            None => room.pass(format, event.sequence),
        }
    }

    /// Appends a list that shows the view at `sequence` to a log, if somebody reads that. What was told up to there is in the
    /// log. Returns where the list begins and ends.
    pub(super) fn append_bulletin(
        &mut self,
        stream: StreamKey,
        format: Format,
        sequence: u64,
        frame: &[u8],
    ) -> Option<(u64, u64)> {
        if self.n_readers(stream, format) == 0 {
            return None;
        }
        self.make_room(frame.len());
        if stream == StreamKey::SERVICE {
            Some(self.logs[format.index()].append(sequence, frame))
        } else {
            self.rooms.append(stream, format, sequence, frame)
        }
    }

    /// How many sockets read the log.
    pub(super) fn n_readers(&self, stream: StreamKey, format: Format) -> usize {
        if stream == StreamKey::SERVICE {
            return self.n_readers[format.index()];
        }
        self.rooms.get(stream).map_or(0, |room| room.n_readers_of(format))
    }

    /// Most bytes in all logs together.
    pub(super) fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
    }

    /// A socket reads the stream of a room from now on. Returns its place among the readers.
    pub(super) fn add_room_reader(&mut self, stream: StreamKey, key: u32, format: Format) -> u32 {
        let (index, is_first) = self.rooms.add_reader(stream, key, format);
        if is_first {
            self.begin_log(stream, format);
        }
        index
    }

    /// The log has been empty, because nobody read it. It gets what was taken in since the hub's own task ran last.
    fn begin_log(&mut self, stream: StreamKey, format: Format) {
        self.rooms.begin_after(stream, format, self.rooms.recent.since());
        let Some(room) = self.rooms.get(stream) else { return };
        let missed: Vec<_> = self.rooms.recent.of(room.room()).cloned().collect();
        for event in missed {
            self.append_in_format(stream, format, &event);
        }
    }

    /// Goes on after the change number `sequence`, in every log.
    pub(super) fn skip_to(&mut self, sequence: u64) {
        self.logs.iter_mut().for_each(|log| log.skip_to(sequence));
        self.rooms.skip_to(sequence);
    }

    /// Empties every log of the service that is larger than `n_bytes`, if `is_read` says that all sockets have read it.
    pub(super) fn forget_read(&mut self, n_bytes: usize, is_read: impl Fn(Format, &BroadcastLog) -> bool) {
        for format in Format::ALL {
            let log = &mut self.logs[format.index()];
            if log.len_bytes() > n_bytes && is_read(format, log) {
                log.forget_all();
            }
        }
    }

    fn make_room(&mut self, n_bytes: usize) {
        while self.len_bytes() + n_bytes > self.capacity_bytes {
            let of_service =
                self.logs.iter_mut().filter_map(|log| log.first_sequence().map(|sequence| (sequence, log)));
            let oldest = of_service.min_by_key(|(sequence, _)| *sequence);
            match (oldest, self.rooms.first_sequence()) {
                (Some((sequence, log)), of_rooms) if of_rooms.is_none_or(|of_rooms| sequence < of_rooms) => {
                    log.forget_first();
                }
                (_, Some(_)) => self.rooms.forget_first(),
                (_, None) => return,
            }
        }
    }

    /// Bytes in all logs together.
    pub(super) fn len_bytes(&self) -> usize {
        self.logs.iter().map(BroadcastLog::len_bytes).sum::<usize>() + self.rooms.len_bytes()
    }

    /// The service's native log, to fill it.
    #[cfg(test)]
    pub(super) fn native(&mut self) -> &mut BroadcastLog {
        &mut self.logs[Format::Native.index()]
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::UserId;
    use crate::hub::mailbox::{Frames, Seen};

    /// An event with frames of these lengths, in the first formats.
    fn event(sequence: u64, lengths: [usize; 2]) -> EncodedEvent {
        let mut frames = Frames::default();
        for (frame, length) in frames.iter_mut().zip(lengths) {
            *frame = (length > 0).then(|| Bytes::from(vec![0; length]));
        }
        let (seen, user) = (Seen { sequence, n_online: 0 }, UserId::parse("a").unwrap());
        EncodedEvent { seen, user, sight: None, frames, own: Frames::default() }
    }

    #[test]
    fn all_logs_of_a_worker_share_one_bound_and_the_oldest_goes_first() {
        let mut streams = Streams::new(100);
        let formats = [Format::Native, Format::Plain];
        formats.into_iter().for_each(|format| streams.add_reader(format));
        for sequence in 1..=10 {
            streams.append(&event(sequence, [20, 10]));
            let total: usize = formats.iter().map(|format| streams.service(*format).len_bytes()).sum();
            assert!(total <= 100, "{total}");
        }
        let first = formats.map(|format| streams.service(format).first_sequence().unwrap());
        assert!(first[0].abs_diff(first[1]) <= 1 && first[0] > 5, "{first:?}");
    }

    #[test]
    fn a_log_that_nobody_reads_stays_empty_and_misses_nothing() {
        let mut streams = Streams::new(100);
        streams.add_reader(Format::Native);
        streams.append(&event(1, [10, 10]));
        assert_eq!(streams.service(Format::Plain).len_bytes(), 0);
        assert_eq!(streams.service(Format::Plain).position_after(0), None, "the first is not there");
        streams.add_reader(Format::Plain);
        // The format has no words for the second event.
        streams.append(&event(2, [10, 0]));
        streams.append(&event(3, [10, 10]));
        let plain = streams.service(Format::Plain);
        assert_eq!(plain.position_after(1), plain.position_after(2));
        assert_eq!(plain.position_after(3), Some(plain.end()));
    }
}
