//! The broadcast logs of one room on one worker: one for each format that is read there.

use super::log::BroadcastLog;
use crate::wire::Format;

/// The logs of the formats that somebody reads, and nothing for the others. There may be very many rooms, and in most of them
/// all speak one format. So the log of the first format is here, and only further ones cost an allocation.
#[derive(Debug, Default)]
pub(super) struct RoomLogs {
    first: FormatLog,
    #[expect(clippy::box_collection, reason = "the vector alone would make each room 16 bytes larger")]
    others: Option<Box<Vec<FormatLog>>>,
}

/// The log of one format, while somebody reads it.
#[derive(Debug)]
struct FormatLog {
    format: Format,
    n_readers: u32,
    log: BroadcastLog,
}

impl Default for FormatLog {
    fn default() -> Self {
        Self { format: Format::Native, n_readers: 0, log: BroadcastLog::default() }
    }
}

impl RoomLogs {
    /// The log of a format that somebody reads.
    pub(super) fn get(&self, format: Format) -> Option<&BroadcastLog> {
        self.read().find(|log| log.format == format).map(|log| &log.log)
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, format: Format) -> Option<&mut BroadcastLog> {
        self.read_mut().find(|log| log.format == format).map(|log| &mut log.log)
    }

    /// How many sockets read a format.
    pub(super) fn n_readers(&self, format: Format) -> usize {
        self.read().find(|log| log.format == format).map_or(0, |log| log.n_readers as usize)
    }

    /// One socket more reads a format. Returns whether it is the first. Then the log is empty and new: nobody knows a position
    /// in it.
    pub(super) fn add_reader(&mut self, format: Format) -> bool {
        if let Some(log) = self.read_mut().find(|log| log.format == format) {
            log.n_readers += 1;
            return false;
        }
        let log = FormatLog { format, n_readers: 1, log: BroadcastLog::default() };
        if self.first.n_readers == 0 {
            self.first = log;
        } else {
            self.others.get_or_insert_default().push(log);
        }
        true
    }

    /// One socket less reads a format. The last one takes the log along. What was in the log is returned.
    pub(super) fn remove_reader(&mut self, format: Format) -> Option<BroadcastLog> {
        let log = self.read_mut().find(|log| log.format == format)?;
        log.n_readers -= 1;
        if log.n_readers > 0 {
            return None;
        }
        let log = std::mem::take(&mut log.log);
        if let Some(others) = &mut self.others {
            others.retain(|log| log.n_readers > 0);
            if others.is_empty() {
                self.others = None;
            }
        }
        Some(log)
    }

    /// The logs that somebody reads.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut BroadcastLog> {
        self.read_mut().map(|log| &mut log.log)
    }

    /// Whether a log has frames.
    pub(super) fn have_frames(&self) -> bool {
        self.read().any(|log| log.log.len_bytes() > 0)
    }

    fn read(&self) -> impl Iterator<Item = &FormatLog> {
        let others = self.others.iter().flat_map(|others| others.iter());
        std::iter::once(&self.first).chain(others).filter(|log| log.n_readers > 0)
    }

    fn read_mut(&mut self) -> impl Iterator<Item = &mut FormatLog> {
        let others = self.others.iter_mut().flat_map(|others| others.iter_mut());
        std::iter::once(&mut self.first).chain(others).filter(|log| log.n_readers > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_there_while_its_format_is_read() {
        let mut logs = RoomLogs::default();
        assert!(Format::ALL.iter().all(|format| logs.get(*format).is_none()));
        for (n, format) in Format::ALL.into_iter().enumerate() {
            assert!(logs.add_reader(format) && !logs.add_reader(format));
            logs.get_mut(format).unwrap().append(n as u64 + 1, b"frame");
        }
        assert_eq!(logs.all_mut().count(), Format::ALL.len());
        // The first one goes, and comes back in its place.
        let first = Format::ALL[0];
        assert!(logs.remove_reader(first).is_none());
        assert_eq!(logs.remove_reader(first).unwrap().first_sequence(), Some(1));
        assert!(logs.get(first).is_none() && logs.add_reader(first));
        assert_eq!(logs.get(first).unwrap().len_bytes(), 0, "it is new");
        for format in &Format::ALL[1..] {
            assert_eq!(logs.get(*format).unwrap().len_bytes(), 5);
            assert!(logs.remove_reader(*format).is_none() && logs.remove_reader(*format).is_some());
        }
        assert!(logs.others.is_none() && !logs.have_frames());
    }
}
