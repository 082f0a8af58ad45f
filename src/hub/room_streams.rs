//! The streams of the rooms in which one worker has sockets.

use std::collections::{BTreeSet, HashMap};

use slab::Slab;

use super::counting::Counting;
use super::log::BroadcastLog;
use super::recent::Recent;
use super::room_logs::RoomLogs;
use super::streams::StreamKey;
use crate::domain::RoomId;
use crate::wire::Format;

/// A stream for each room in which a socket of this worker is. An event of another room costs one look.
#[derive(Default)]
pub(super) struct RoomStreams {
    by_room: HashMap<RoomId, StreamKey>,
    streams: Slab<RoomStream>,
    /// The logs that are not empty, each with the sequence of its oldest frame.
    by_age: BTreeSet<(u64, StreamKey, usize)>,
    /// Bytes in all logs.
    n_bytes: usize,
    /// The streams with events that the next flush writes.
    dirty: Vec<StreamKey>,
    /// What was taken in a moment ago, of any room.
    pub(super) recent: Recent,
}

/// One room, for the sockets of this worker. There may be very many rooms, so this is small.
pub(super) struct RoomStream {
    room: RoomId,
    /// How many sockets are in the room, whatever they hear of it.
    n_sockets: u32,
    is_dirty: bool,
    /// The sockets that hear of everyone in the room, by their keys in the hub, in no order. Each knows its place here.
    readers: Vec<u32>,
    logs: RoomLogs,
    /// It is none if no socket hears the number of users in the room.
    counting: Option<Box<Counting>>,
}

impl RoomStreams {
    /// The stream of a room, if a socket of this worker is in the room.
    pub(super) fn find(&self, room: &RoomId) -> Option<StreamKey> {
        self.by_room.get(room).copied()
    }

    /// That stream. It may be gone, and another room may have its key.
    pub(super) fn get(&self, stream: StreamKey) -> Option<&RoomStream> {
        self.streams.get(stream.slot())
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, stream: StreamKey) -> Option<&mut RoomStream> {
        self.streams.get_mut(stream.slot())
    }

    /// The log of a stream in which a socket is. If nobody reads the format there, it is empty.
    pub(super) fn log(&self, stream: StreamKey, format: Format) -> &BroadcastLog {
        static UNREAD: BroadcastLog = BroadcastLog::EMPTY;
        self.streams[stream.slot()].logs.get(format).unwrap_or(&UNREAD)
    }

    /// One more socket is in the room.
    pub(super) fn enter(&mut self, room: &RoomId) -> StreamKey {
        let stream = self.find(room).unwrap_or_else(|| {
            let stream = StreamKey::of_slot(self.streams.insert(RoomStream::new(room.clone())));
            self.by_room.insert(room.clone(), stream);
            stream
        });
        self.streams[stream.slot()].n_sockets += 1;
        stream
    }

    /// One socket less is in the room. It does not read any more. The last one takes the stream along. Returns whether it was
    /// the last one.
    pub(super) fn leave(&mut self, stream: StreamKey) -> bool {
        let room = &mut self.streams[stream.slot()];
        room.n_sockets -= 1;
        let is_gone = room.n_sockets == 0;
        if is_gone {
            let room = self.streams.remove(stream.slot());
            self.by_room.remove(&room.room);
        }
        is_gone
    }

    /// A socket reads the stream from now on. Returns its place among the readers, and whether it is the first of its format.
    pub(super) fn add_reader(&mut self, stream: StreamKey, key: u32, format: Format) -> (u32, bool) {
        let room = &mut self.streams[stream.slot()];
        let index = u32::try_from(room.readers.len()).expect("there are fewer readers than sockets");
        // Most rooms have few readers.
        if room.readers.len() < 4 {
            room.readers.reserve_exact(1);
        }
        room.readers.push(key);
        (index, room.logs.add_reader(format))
    }

    /// The reader at that place does not read any more. The last one takes its place, and is returned.
    pub(super) fn remove_reader(&mut self, stream: StreamKey, index: u32, format: Format) -> Option<u32> {
        let room = &mut self.streams[stream.slot()];
        room.readers.swap_remove(index as usize);
        if room.readers.is_empty() {
            room.readers = Vec::new();
        }
        let moved = room.readers.get(index as usize).copied();
        if let Some(log) = room.logs.remove_reader(format)
            && let Some(sequence) = log.first_sequence()
        {
            self.by_age.remove(&(sequence, stream, format.index()));
            self.n_bytes -= log.len_bytes();
        }
        moved
    }

    /// Appends a frame to a log that somebody reads. Returns where it begins and ends.
    pub(super) fn append(
        &mut self,
        stream: StreamKey,
        format: Format,
        sequence: u64,
        frame: &[u8],
    ) -> Option<(u64, u64)> {
        let room = &mut self.streams[stream.slot()];
        let log = room.logs.get_mut(format)?;
        if log.first_sequence().is_none() {
            self.by_age.insert((sequence, stream, format.index()));
        }
        let place = log.append(sequence, frame);
        self.n_bytes += frame.len();
        if !std::mem::replace(&mut room.is_dirty, true) {
            self.dirty.push(stream);
        }
        Some(place)
    }

    /// Bytes in all logs together.
    pub(super) fn len_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Sequence of the oldest frame in any log.
    pub(super) fn first_sequence(&self) -> Option<u64> {
        self.by_age.first().map(|(sequence, ..)| *sequence)
    }

    /// Forgets the oldest frame in any log.
    pub(super) fn forget_first(&mut self) {
        let Some((_, stream, format)) = self.by_age.pop_first() else { return };
        let Some(log) = self.streams[stream.slot()].logs.get_mut(Format::ALL[format]) else { return };
        let before = log.len_bytes();
        log.forget_first();
        self.n_bytes -= before - log.len_bytes();
        if let Some(sequence) = log.first_sequence() {
            self.by_age.insert((sequence, stream, format));
        }
    }

    /// Empties a log.
    pub(super) fn forget(&mut self, stream: StreamKey, format: Format) {
        let Some(log) = self.streams[stream.slot()].logs.get_mut(format) else { return };
        let Some(sequence) = log.first_sequence() else { return };
        self.by_age.remove(&(sequence, stream, format.index()));
        self.n_bytes -= log.len_bytes();
        log.forget_all();
    }

    /// The log goes on after the change number `sequence`.
    pub(super) fn begin_after(&mut self, stream: StreamKey, format: Format, sequence: u64) {
        self.forget(stream, format);
        if let Some(log) = self.streams[stream.slot()].logs.get_mut(format) {
            log.skip_to(sequence);
        }
    }

    /// Every log goes on after the change number `sequence`.
    pub(super) fn skip_to(&mut self, sequence: u64) {
        self.by_age.clear();
        self.n_bytes = 0;
        self.recent.forget_up_to(sequence);
        for log in self.streams.iter_mut().flat_map(|(_, room)| room.logs.all_mut()) {
            log.skip_to(sequence);
        }
    }

    /// Takes the streams with events that were not written.
    pub(super) fn take_dirty(&mut self) -> Vec<StreamKey> {
        let dirty = std::mem::take(&mut self.dirty);
        for stream in &dirty {
            if let Some(room) = self.streams.get_mut(stream.slot()) {
                room.is_dirty = false;
            }
        }
        dirty
    }
}

impl RoomStream {
    fn new(room: RoomId) -> Self {
        Self { room, n_sockets: 0, is_dirty: false, readers: Vec::new(), logs: RoomLogs::default(), counting: None }
    }

    /// The room.
    pub(super) fn room(&self) -> &RoomId {
        &self.room
    }

    /// Whether a flush is to come.
    pub(super) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Whether some socket reads the log of a format.
    pub(super) fn has_readers_of(&self, format: Format) -> bool {
        self.logs.get(format).is_some()
    }

    /// How many sockets read the log of a format.
    pub(super) fn n_readers_of(&self, format: Format) -> usize {
        self.logs.n_readers(format)
    }

    /// Whether a log has frames.
    pub(super) fn has_frames(&self) -> bool {
        self.logs.have_frames()
    }

    /// Nothing is told of the change number `sequence` in that format.
    pub(super) fn pass(&mut self, format: Format, sequence: u64) {
        if let Some(log) = self.logs.get_mut(format) {
            log.pass(sequence);
        }
    }

    /// The keys of up to `n` readers before the place `end`, and the place of the first of them. A walk from the end to the
    /// beginning never misses a reader.
    pub(super) fn readers_before(&self, end: usize, n: usize) -> (&[u32], usize) {
        let end = end.min(self.readers.len());
        let begin = end.saturating_sub(n);
        (&self.readers[begin..end], begin)
    }

    /// All readers.
    pub(super) fn readers(&self) -> &[u32] {
        &self.readers
    }

    /// Who hears the number of users, if somebody does.
    pub(super) fn counting_mut(&mut self) -> Option<&mut Counting> {
        self.counting.as_deref_mut()
    }

    /// Who hears the number of users, to add somebody.
    pub(super) fn counting_or_new(&mut self) -> &mut Counting {
        self.counting.get_or_insert_default()
    }

    /// The socket does not hear the number any more.
    pub(super) fn uncount(&mut self, key: usize) {
        if let Some(counting) = &mut self.counting {
            counting.remove(key);
            if counting.is_empty() {
                self.counting = None;
            }
        }
    }
}

/// 100 000 rooms with one socket each are affordable.
const _: () = assert!(size_of::<RoomStream>() <= 128);
