//! The stream of a server as frames, which are counted by what they say.

use std::sync::atomic::{AtomicU64, Ordering};

use rollcall::wire::Format;

use crate::client::MASK;
use crate::support::frame::{CLOSE, FIN, PING, PONG, TEXT, append_frame, whole_frame};
use crate::tally::{Heard, Tally};

/// Whose events a client hears. The others are unexpected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hears {
    /// Those of the service.
    Service,
    /// Those of rooms.
    Rooms,
}

/// How a request ends whose answer must be told from a frame that nobody asked for. The answer ends in the same way.
pub(crate) const REFERENCE: &str = r#","ref":1}"#;

/// The stream as frames of one format, before a client who hears the events of one kind of scope.
pub(crate) struct Frames {
    format: Format,
    hears: Hears,
    /// What a client of Socket.IO says once it has connected.
    greeting: Option<String>,
    /// What has not come whole.
    rest: Vec<u8>,
}

/// What a text was.
pub(crate) enum Taken {
    /// An event. The caller counts it.
    Event,
    /// Something that has to be answered with this.
    Answer(String),
    /// Anything else. It has been counted.
    Noted,
}

impl Frames {
    /// From the beginning of the stream.
    pub(crate) fn of(format: Format, hears: Hears) -> Self {
        Self { format, hears, greeting: None, rest: Vec::new() }
    }

    /// The same for a client of Socket.IO, whose user joins as soon as it has connected.
    pub(crate) fn of_socketio(user: Option<&str>) -> Self {
        let greeting = user.map(|user| format!(r#"42["join_user","{user}"]"#));
        Self { greeting, ..Self::of(Format::Socketio, Hears::Service) }
    }

    /// Counts what has come whole; returns what is to be answered.
    pub(crate) fn take_in(&mut self, bytes: &[u8], heard: &Heard, tally: &Tally) -> Vec<u8> {
        tally.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut answers = Vec::new();
        if self.rest.is_empty() {
            let n_taken = self.count(bytes, heard, tally, &mut answers);
            self.rest.extend_from_slice(&bytes[n_taken..]);
        } else {
            self.rest.extend_from_slice(bytes);
            let n_taken = self.count(&self.rest, heard, tally, &mut answers);
            self.rest.drain(..n_taken);
        }
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        answers
    }

    /// Counts the whole frames at the beginning of `bytes`; returns how long they are.
    fn count(&self, bytes: &[u8], heard: &Heard, tally: &Tally, answers: &mut Vec<u8>) -> usize {
        let (mut at, mut n_events) = (0, 0);
        while let Some((first, payload)) = whole_frame(&bytes[at..]) {
            let (payload, end) = (&bytes[at + payload.start..at + payload.end], at + payload.end);
            at = end;
            match first & 0xF {
                TEXT => match self.take_text(payload, heard, tally) {
                    Taken::Event => n_events += 1,
                    Taken::Answer(answer) => append_frame(answers, FIN | TEXT, MASK, answer.as_bytes()),
                    Taken::Noted => {}
                },
                PING => {
                    append_frame(answers, FIN | PONG, MASK, payload);
                    both(&heard.pings, &tally.pings);
                }
                // The end of the stream follows, and is counted.
                CLOSE => {}
                _ => {
                    tally.unexpected.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if n_events > 0 {
            heard.events.fetch_add(n_events, Ordering::Release);
            tally.note_events(n_events);
        }
        at
    }

    /// Counts a text, if it is no event.
    pub(crate) fn take_text(&self, payload: &[u8], heard: &Heard, tally: &Tally) -> Taken {
        if self.is_event(payload) {
            return Taken::Event;
        }
        if self.format.is_socketio() && !payload.starts_with(b"42") {
            return self.take_packet(payload, heard, tally);
        }
        self.note(payload, heard, tally);
        Taken::Noted
    }

    /// A packet of Socket.IO that is no event.
    fn take_packet(&self, packet: &[u8], heard: &Heard, tally: &Tally) -> Taken {
        match packet {
            [b'0', b'{', ..] => return Taken::Answer("40".to_owned()),
            [b'4', b'0', ..] => {
                both(&heard.connected, &tally.established);
                heard.changed.notify_one();
                return self.greeting.clone().map_or(Taken::Noted, Taken::Answer);
            }
            b"2" => {
                both(&heard.pings, &tally.pings);
                return Taken::Answer("3".to_owned());
            }
            // It says that nothing has come.
            b"6" => {}
            _ => add(&tally.unexpected),
        }
        Taken::Noted
    }

    fn is_event(&self, payload: &[u8]) -> bool {
        let kind = payload.strip_prefix(self.begin()).unwrap_or_default();
        let kinds: &[&[u8]] = match (self.format, self.hears) {
            (Format::Native | Format::Socketio, Hears::Service) => {
                &[b"user_online\"", b"user_offline\"", b"user_changed\"", b"user_status_changed\""]
            }
            (Format::Native | Format::Socketio, Hears::Rooms) => {
                &[b"room_user_joined\"", b"room_user_left\"", b"room_user_changed\""]
            }
            (Format::Plain, _) => &[b"USER_ONLINE\"", b"USER_OFFLINE\""],
            (Format::SocketioStatus, _) => &[b"user-status-change\""],
            (Format::SocketioRoom, _) => &[b"online-count-updated\""],
        };
        kinds.iter().any(|of_event| kind.starts_with(of_event))
    }

    /// What is before the name of an event.
    fn begin(&self) -> &'static [u8] {
        if self.format.is_socketio() { br#"42[""# } else { br#"{"type":""# }
    }

    /// Takes note of a frame that is no event.
    fn note(&self, payload: &[u8], heard: &Heard, tally: &Tally) {
        let kind = payload.strip_prefix(self.begin()).unwrap_or_default();
        let kind = kind.split(|byte| *byte == b'"').next().unwrap_or_default();
        match (kind, self.hears) {
            (b"welcome", _) => {
                if self.hears == Hears::Service {
                    add_online(payload, br#""onlineCount":"#, heard, tally);
                }
                both(&heard.welcomes, &tally.welcomes);
            }
            (b"room_joined", Hears::Rooms) if payload.ends_with(REFERENCE.as_bytes()) => {
                let total = add_online(payload, br#""total":"#, heard, tally);
                heard.number.store(total, Ordering::Release);
                both(&heard.rooms_joined, &tally.rooms_joined);
            }
            // The client must forget what it knows of the room.
            (b"room_joined", Hears::Rooms) => both(&heard.resyncs, &tally.resyncs),
            (b"room_left", Hears::Rooms) if !contains(payload, br#""removed":true"#) => {
                both(&heard.rooms_left, &tally.rooms_left);
            }
            (b"room_users", Hears::Rooms) => {
                let n_users = payload.windows(USER.len()).filter(|window| *window == USER).count();
                heard.listed.fetch_add(n_users as u64, Ordering::AcqRel);
                add(&heard.pages);
            }
            (b"room_count", Hears::Rooms) | (b"online_count", Hears::Service) => {
                heard.number.store(number_after(payload, br#""onlineCount":"#), Ordering::Release);
                both(&heard.counts, &tally.counts);
            }
            (b"online_users_list", _) => both(&heard.lists, &tally.lists),
            (b"watching", _) => add(&heard.answers),
            (b"CONNECTION_ESTABLISHED", _) => add(&tally.established),
            (b"left", _) => add(&heard.lefts),
            (b"user_activity_ack", _) => add(&tally.acks),
            (b"resync" | b"RESYNC", _) => both(&heard.resyncs, &tally.resyncs),
            (b"own_status", _) => add(&heard.own_statuses),
            (b"error", _) => both(&heard.errors, &tally.unexpected),
            _ => add(&tally.unexpected),
        }
        heard.changed.notify_one();
    }
}

/// The beginning of a user in a list.
const USER: &[u8] = br#"{"id":"#;

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::AcqRel);
}

fn both(one: &AtomicU64, all: &AtomicU64) {
    add(one);
    add(all);
}

/// A socket has been told how many users are there: the number behind `name`, which is returned.
fn add_online(payload: &[u8], name: &[u8], heard: &Heard, tally: &Tally) -> u64 {
    let n_online = number_after(payload, name);
    heard.online.fetch_add(n_online, Ordering::AcqRel);
    tally.online.fetch_add(n_online, Ordering::AcqRel);
    n_online
}

fn contains(payload: &[u8], part: &[u8]) -> bool {
    payload.windows(part.len()).any(|window| window == part)
}

fn number_after(payload: &[u8], name: &[u8]) -> u64 {
    let at = payload.windows(name.len()).position(|window| window == name).map_or(payload.len(), |at| at + name.len());
    payload[at..].iter().take_while(|byte| byte.is_ascii_digit()).fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut stream = Vec::new();
        for payload in [
            r#"{"type":"welcome","userId":"a","onlineCount":42}"#.to_owned(),
            format!(r#"{{"type":"online_users_list","users":["{}"]}}"#, "x".repeat(70_000)),
            r#"{"type":"user_online","userId":"b"}"#.to_owned(),
            format!(r#"{{"type":"user_offline","userId":"{}"}}"#, "c".repeat(200)),
            r#"{"type":"user_status_changed","userId":"b","status":"away"}"#.to_owned(),
            r#"{"type":"own_status","chosen":"online","effective":"away"}"#.to_owned(),
            r#"{"type":"user_online_status","userId":"b"}"#.to_owned(),
        ] {
            append_frame(&mut stream, FIN | TEXT, None, payload.as_bytes());
        }
        stream.extend_from_slice(&[0x89, 0]);
        for piece in [1, 7, 4096, stream.len()] {
            let (mut frames, heard, tally) =
                (Frames::of(Format::Native, Hears::Service), Heard::default(), Tally::default());
            let answers: Vec<u8> =
                stream.chunks(piece).flat_map(|piece| frames.take_in(piece, &heard, &tally)).collect();
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            assert_eq!((load(&heard.events), load(&heard.lists), load(&heard.online)), (3, 1, 42));
            assert_eq!((load(&tally.events), load(&tally.unexpected)), (3, 1));
            assert_eq!((load(&heard.pings), load(&tally.pings), load(&heard.own_statuses)), (1, 1, 1));
            assert_eq!(answers, [0x8a, 0x80, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn a_client_counts_the_events_of_its_own_format_only() {
        let mut stream = Vec::new();
        for kind in ["CONNECTION_ESTABLISHED", "USER_ONLINE", "USER_OFFLINE", "USER_OFFLINE", "RESYNC", "user_online"] {
            append_frame(&mut stream, FIN | TEXT, None, format!(r#"{{"type":"{kind}","userId":"a"}}"#).as_bytes());
        }
        for (format, events, unexpected) in [(Format::Plain, 3, 1), (Format::Native, 1, 3)] {
            let tally = Tally::default();
            Frames::of(format, Hears::Service).take_in(&stream, &Heard::default(), &tally);
            let counts = [&tally.events, &tally.unexpected, &tally.established, &tally.resyncs];
            assert_eq!(counts.map(|count| count.load(Ordering::Relaxed)), [events, unexpected, 1, 1]);
        }
    }

    #[test]
    fn a_client_of_socketio_answers_packets_and_counts_events() {
        let mut stream = Vec::new();
        for payload in [
            r#"0{"sid":"a"}"#,
            r#"40{"sid":"b"}"#,
            r#"42["welcome",{"userId":"a","onlineCount":42}]"#,
            r#"42["online_users_list",{"users":[]}]"#,
            r#"42["user_online",{"userId":"b"}]"#,
            "2",
            r#"42["user_offline",{"userId":"b"}]"#,
            r#"{"type":"user_online","userId":"c"}"#,
        ] {
            append_frame(&mut stream, FIN | TEXT, None, payload.as_bytes());
        }
        let (heard, tally) = (Heard::default(), Tally::default());
        let answers = Frames::of_socketio(Some("a")).take_in(&stream, &heard, &tally);
        let mut due = Vec::new();
        for answer in ["40", r#"42["join_user","a"]"#, "3"] {
            append_frame(&mut due, FIN | TEXT, MASK, answer.as_bytes());
        }
        assert_eq!(answers, due);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((load(&heard.events), load(&heard.online), load(&heard.connected)), (2, 42, 1));
        assert_eq!((load(&tally.welcomes), load(&tally.lists), load(&tally.unexpected)), (1, 1, 1));
    }

    #[test]
    fn a_client_of_rooms_counts_their_events_and_knows_what_nobody_asked_for() {
        let mut stream = Vec::new();
        for payload in [
            r#"{"type":"welcome","userId":"a","onlineCount":42}"#,
            r#"{"type":"room_joined","roomId":"r","users":[{"id":"a"},{"id":"b"}],"total":7,"ref":1}"#,
            r#"{"type":"room_user_joined","roomId":"r","userId":"b"}"#,
            r#"{"type":"room_user_left","roomId":"r","userId":"b","reason":"left"}"#,
            r#"{"type":"room_users","roomId":"r","users":[{"id":"a"},{"id":"b"}],"total":9,"nextCursor":"b"}"#,
            r#"{"type":"room_count","roomId":"r","onlineCount":8}"#,
            r#"{"type":"room_left","roomId":"r","ref":1}"#,
            r#"{"type":"room_joined","roomId":"r","total":5}"#,
            r#"{"type":"room_left","roomId":"r","removed":true}"#,
            r#"{"type":"user_online","userId":"b"}"#,
        ] {
            append_frame(&mut stream, FIN | TEXT, None, payload.as_bytes());
        }
        let (heard, tally) = (Heard::default(), Tally::default());
        Frames::of(Format::Native, Hears::Rooms).take_in(&stream, &heard, &tally);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((load(&heard.events), load(&heard.online), load(&heard.number)), (2, 7, 8));
        assert_eq!((load(&heard.rooms_joined), load(&heard.rooms_left), load(&heard.counts)), (1, 1, 1));
        assert_eq!((load(&heard.pages), load(&heard.listed)), (1, 2));
        assert_eq!((load(&tally.resyncs), load(&tally.unexpected)), (1, 2));
    }
}
