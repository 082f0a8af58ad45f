//! A client's knowledge, as its frames give it, is compared with a hub with rooms.
//!
//! A socket takes any number of bytes at any time, and its client asks for anything. The model holds each frame against the
//! history of all events: in each stream the order holds, nothing comes twice, and nothing is lost unless the client is told to
//! start over.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::domain::{Interest, OfflineReason, RoomId, RoomTold, Timestamp, Told};
use crate::hub::test_sockets::{Pipe, Written};
use crate::hub::{Attention, Missed, ShownRoom};
use crate::metrics::Registry;
use crate::replica::{Announce, Announcement, RoomAnnouncement};
use crate::settings::Settings;
use crate::wire::frame;
use crate::wire::message::Message;

/// Where an event happens: in the service, or in the room of that number.
type Scope = Option<usize>;

const N_ROOMS: usize = 3;

/// What the logs hold: about a dozen events.
const LOG_BYTES: usize = 2_000;

#[derive(Debug, Clone)]
enum Step {
    Events {
        scope: Scope,
        n: usize,
    },
    /// The client enters a room, or hears something else of it. Events come between the reading of the views and that.
    Hear {
        room: usize,
        interest: Interest,
        late: Late,
    },
    Leave {
        room: usize,
    },
    /// The client asks for a page of a room, or of the service.
    Page {
        scope: Scope,
        late: Late,
    },
    /// An answer that shows nothing.
    Answer,
    Subscribe {
        everyone: bool,
        late: Late,
    },
    Pause,
    Resume {
        late: Late,
    },
    /// The client takes so many bytes more.
    Room(usize),
    /// The task of the hub runs.
    Turn,
    /// A catch-up that is too large.
    Skip,
    /// Somebody types in a room.
    Whisper {
        room: usize,
    },
    /// A list is told to all who read the scope.
    Bulletin {
        scope: Scope,
    },
}

/// What happens after the views were read.
#[derive(Debug, Clone)]
struct Late {
    scopes: Vec<Scope>,
    /// Whether the hub takes it in at once.
    is_taken_in: bool,
}

fn scope() -> impl Strategy<Value = Scope> {
    prop::option::weighted(0.7, 0..N_ROOMS)
}

fn late() -> impl Strategy<Value = Late> {
    (prop::collection::vec(scope(), 0..4), any::<bool>()).prop_map(|(scopes, is_taken_in)| Late { scopes, is_taken_in })
}

fn step() -> impl Strategy<Value = Step> {
    let interest = prop_oneof![4 => Just(Interest::Everyone), 1 => Just(Interest::Count), 1 => Just(Interest::Nobody)];
    prop_oneof![
        6 => (scope(), 1..6usize).prop_map(|(scope, n)| Step::Events { scope, n }),
        4 => (0..N_ROOMS, interest, late()).prop_map(|(room, interest, late)| Step::Hear { room, interest, late }),
        1 => (0..N_ROOMS).prop_map(|room| Step::Leave { room }),
        3 => (scope(), late()).prop_map(|(scope, late)| Step::Page { scope, late }),
        1 => Just(Step::Answer),
        1 => (any::<bool>(), late()).prop_map(|(everyone, late)| Step::Subscribe { everyone, late }),
        1 => Just(Step::Pause),
        2 => late().prop_map(|late| Step::Resume { late }),
        5 => (0..1500usize).prop_map(Step::Room),
        4 => Just(Step::Turn),
        1 => Just(Step::Skip),
        1 => (0..N_ROOMS).prop_map(|room| Step::Whisper { room }),
        3 => scope().prop_map(|scope| Step::Bulletin { scope }),
    ]
}

/// What the client knows. It believes only frames.
#[derive(Default)]
struct Client {
    n_parsed: usize,
    /// The change up to which it knows each scope that it hears.
    known: BTreeMap<Scope, u64>,
    /// It was shown something of these that needs events that it does not have. They must be shown to it before it hears more.
    outdated: BTreeSet<Scope>,
    n_answers: u64,
}

impl Client {
    fn read(&mut self, taken: &[u8], history: &[(u64, Scope)]) {
        while let Some((text, n_bytes)) = first_frame(&taken[self.n_parsed..]) {
            self.n_parsed += n_bytes;
            self.hear(&text, history);
        }
    }

    fn hear(&mut self, text: &str, history: &[(u64, Scope)]) {
        let words: Vec<&str> = text.split(' ').collect();
        let scope = |word: &str| word.parse().ok();
        match *words {
            ["resync"] => (self.known, self.outdated) = Default::default(),
            ["shown", of, at] => {
                self.known.insert(scope(of), at.parse().unwrap());
                self.outdated.remove(&scope(of));
            }
            ["left", of] => {
                self.known.remove(&scope(of));
                self.outdated.remove(&scope(of));
            }
            ["page", of, at] => self.compare(scope(of), at.parse().unwrap(), history),
            ["bulletin", of, at] => self.check_bulletin(scope(of), at.parse().unwrap(), history),
            ["answer", n] => {
                assert_eq!(n.parse(), Ok(self.n_answers), "answers come in order");
                self.n_answers += 1;
            }
            _ if text.contains("count") => {}
            _ if text.contains("typing") => {
                let scope = member(text, "roomId").map(|room| room.parse().unwrap());
                assert!(self.known.contains_key(&scope), "{text}, but the client does not hear {scope:?}");
            }
            _ => self.hear_event(text, history),
        }
    }

    fn hear_event(&mut self, text: &str, history: &[(u64, Scope)]) {
        let sequence: u64 = member(text, "userId").unwrap().parse().unwrap();
        let scope = member(text, "roomId").map(|room| room.parse().unwrap());
        assert!(!self.outdated.contains(&scope), "{text} comes although something before it is missing");
        let known =
            self.known.get_mut(&scope).unwrap_or_else(|| panic!("{text}, but the client does not hear {scope:?}"));
        let next = history.iter().find(|(at, of)| *of == scope && *at > *known).map(|(at, _)| *at);
        assert_eq!(next, Some(sequence), "{text}, and {known} was before that in {scope:?}");
        *known = sequence;
    }

    /// A bulletin shows the scope after the change number `at`. The client knows all up to there, and nothing after it.
    fn check_bulletin(&self, scope: Scope, at: u64, history: &[(u64, Scope)]) {
        assert!(
            !self.outdated.contains(&scope),
            "a bulletin of {scope:?} comes although something before it is missing"
        );
        let known = *self.known.get(&scope).unwrap_or_else(|| panic!("the client does not hear {scope:?}"));
        assert!(known <= at, "{scope:?}: {known} came before the bulletin at {at}");
        let missed = history.iter().find(|(other, of)| *of == scope && *other > known && *other <= at);
        assert_eq!(missed, None, "the bulletin of {scope:?} at {at} shows what has not been told");
    }

    /// A page shows the scope after the change number `at`.
    fn compare(&mut self, scope: Scope, at: u64, history: &[(u64, Scope)]) {
        let Some(known) = self.known.get(&scope) else { return };
        assert!(*known <= at, "{scope:?}: {known} came before the page at {at}");
        if history.iter().any(|(other, of)| *of == scope && *other > *known && *other <= at) {
            self.outdated.insert(scope);
        }
    }
}

/// The text of the first frame, and how many bytes the frame takes. It is none if the frame is not whole.
fn first_frame(bytes: &[u8]) -> Option<(String, usize)> {
    let (begin, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        length => (2, usize::from(length)),
    };
    assert_eq!(bytes[0], 0x81, "a frame begins here");
    let text = bytes.get(begin..begin + length)?;
    Some((String::from_utf8(text.to_vec()).unwrap(), begin + length))
}

fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("\"{name}\":\""))?;
    rest.split('"').next()
}

/// A node with a hub, and a session that does what sessions do.
struct World {
    fanout: Fanout,
    hub: Rc<Hub>,
    pipe: Rc<Pipe>,
    format: Format,
    attachment: Attachment,
    /// A socket in the same rooms, which speaks another format, and reads everything at once.
    other: Attachment,
    client: Client,
    history: Vec<(u64, Scope)>,
    sequence: u64,
    interest: Interest,
    n_answers: u64,
}

impl World {
    fn new(format: Format, other: Format) -> Self {
        let fanout = Fanout::new(6_000);
        let settings =
            FanoutSettings { log_bytes: LOG_BYTES, resync_interval: Duration::ZERO, ..Settings::default().fanout };
        let hub = Hub::start(&fanout, HubMetrics::new(&mut Registry::default()), &settings);
        let pipe = Rc::new(Pipe::default());
        let attachment = hub.attach(pipe.clone(), format);
        let other = hub.attach(Rc::new(Written::default()), other);
        let (client, history, interest) = (Client::default(), Vec::new(), Interest::Everyone);
        let (sequence, n_answers) = (0, 0);
        let mut world =
            Self { fanout, hub, pipe, format, attachment, other, client, history, sequence, interest, n_answers };
        world.subscribe(true, &Late { scopes: Vec::new(), is_taken_in: false });
        world
    }

    fn event(&mut self, scope: Scope) {
        self.sequence += 1;
        let (sequence, at) = (self.sequence, Timestamp(0));
        self.history.push((sequence, scope));
        let user = UserId::parse(&sequence.to_string()).unwrap();
        match scope {
            None => {
                let others = Some(Told::Offline(OfflineReason::Left.into()));
                let (own, n_online, revision) = (None, sequence as usize, Some(sequence));
                let (epoch, catch_up) = (1, false);
                let event = Announcement { sequence, user, others, own, n_online, epoch, revision, catch_up, at };
                self.fanout.announce(&event);
            }
            Some(number) => {
                let (told, n_online) = (RoomTold::Left(OfflineReason::Left), sequence as usize);
                self.fanout.announce_room(&RoomAnnouncement { sequence, room: room(number), user, told, n_online, at });
            }
        }
    }

    /// Reads the views. Returns the sequence. Then the rest of `late` happens.
    fn look(&mut self, late: &Late) -> u64 {
        let sequence = self.sequence;
        late.scopes.iter().for_each(|scope| self.event(*scope));
        if late.is_taken_in {
            self.hub.take_in();
        }
        sequence
    }

    fn subscribe(&mut self, everyone: bool, late: &Late) {
        if self.attachment.is_paused() {
            return;
        }
        self.interest = if everyone { Interest::Everyone } else { Interest::Nobody };
        let sequence = self.look(late);
        self.attachment.listen(None, self.interest, sequence);
        self.attachment.send_at(sequence, [self.shown_service(sequence)]);
    }

    fn shown_service(&self, sequence: u64) -> Bytes {
        if self.interest == Interest::Everyone { shown(None, sequence) } else { text("left service") }
    }

    fn shown_room(number: usize, interest: Interest, sequence: u64) -> ShownRoom {
        let frame = if interest == Interest::Everyone { shown(Some(number), sequence) } else { left(number) };
        ShownRoom { room: room(number), interest, n_online: sequence as usize, frame: Some(frame), is_whole: true }
    }

    fn rooms_to_show(attachment: &Attachment, sequence: u64) -> Vec<ShownRoom> {
        let rooms = attachment.rooms().into_iter();
        rooms.map(|(room, interest)| Self::shown_room(room.as_str().parse().unwrap(), interest, sequence)).collect()
    }

    fn page(&mut self, scope: Scope, late: &Late) {
        let sequence = self.look(late);
        match scope {
            None => self.attachment.send_at(sequence, [text(&format!("page service {sequence}"))]),
            Some(number) => {
                let page = text(&format!("page {number} {sequence}"));
                self.attachment.send_in_room(&room(number), sequence, page);
            }
        }
    }

    fn whisper(&self, number: usize) {
        let (room, user) = (room(number), UserId::parse("bob").unwrap());
        let typing = Message::Typing { room: Some(&room), user: &user, is_typing: true };
        self.fanout.whisper_room(&room, &user, &typing);
    }

    /// See `bulletins.rs`. What was announced until now is in the logs.
    fn bulletin(&self, scope: Scope) {
        self.hub.take_in();
        let state = &mut *self.hub.state.borrow_mut();
        let (stream, name) = match scope {
            None => (Some(StreamKey::SERVICE), "service".to_owned()),
            Some(number) => (state.streams.rooms.find(&room(number)), number.to_string()),
        };
        let Some(stream) = stream else { return };
        let frame = text(&format!("bulletin {name} {}", self.sequence));
        state.streams.append_bulletin(stream, self.format, self.sequence, &frame);
    }

    fn leave(&self, number: usize) {
        self.attachment.leave_room(&room(number));
        self.attachment.send(left(number));
    }

    fn resume(&mut self, late: &Late) {
        let Some(paused_at) = self.attachment.paused_at() else { return };
        let sequence = self.look(late);
        let watches = |_: &UserId| unreachable!("it watches nobody");
        if self.attachment.missed(sequence, 1000, watches) == Missed::Unknown {
            self.attachment.resume_with_hole();
            return;
        }
        self.attachment.listen(None, self.interest, sequence);
        self.attachment.send_at(sequence, [self.shown_service(sequence)]);
        let told_since = |number| {
            let mut since = self.history.iter().filter(|(at, _)| *at > paused_at && *at <= sequence);
            since.any(|(_, of)| *of == Some(number))
        };
        for mut shown in Self::rooms_to_show(&self.attachment, sequence) {
            if !told_since(shown.room.as_str().parse().unwrap()) {
                shown.frame = None;
            }
            self.attachment.hear_room(shown, sequence);
        }
    }

    /// What the session does when it is asked to.
    fn attend(&mut self) -> bool {
        if self.other.attention().now_or_never() == Some(Attention::Resync) {
            let rooms = Self::rooms_to_show(&self.other, self.sequence);
            self.other.restart(Interest::Nobody, self.sequence, [], rooms);
        }
        let attention = self.attachment.attention().now_or_never();
        if attention != Some(Attention::Resync) {
            assert!(matches!(attention, None | Some(Attention::Blocked)), "{attention:?}");
            return false;
        }
        let sequence = self.sequence;
        let mut frames = vec![text("resync")];
        frames.extend((self.interest == Interest::Everyone).then(|| shown(None, sequence)));
        self.attachment.restart(self.interest, sequence, frames, Self::rooms_to_show(&self.attachment, sequence));
        true
    }

    async fn turn(&self) {
        self.hub.take_in_between_turns();
        self.hub.flush_all().await;
        self.hub.whisper_all().await;
        self.hub.forget_what_all_have_read();
        while self.hub.resync_some() {}
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Events { scope, n } => (0..*n).for_each(|_| self.event(*scope)),
            Step::Hear { room, interest, late } => {
                let sequence = self.look(late);
                for attachment in [&self.attachment, &self.other] {
                    attachment.hear_room(Self::shown_room(*room, *interest, sequence), sequence);
                }
            }
            Step::Leave { room: number } => {
                self.leave(*number);
                self.other.leave_room(&room(*number));
            }
            Step::Page { scope, late } => self.page(*scope, late),
            Step::Answer => {
                self.attachment.send(text(&format!("answer {}", self.n_answers)));
                self.n_answers += 1;
            }
            Step::Subscribe { everyone, late } => self.subscribe(*everyone, late),
            Step::Pause => self.attachment.pause(),
            Step::Resume { late } => self.resume(late),
            Step::Room(n_bytes) => {
                self.pipe.room.set(*n_bytes);
                self.attachment.unblock();
            }
            Step::Turn => self.turn().await,
            Step::Whisper { room: number } => self.whisper(*number),
            Step::Bulletin { scope } => self.bulletin(*scope),
            Step::Skip => {
                self.fanout.begin_catch_up();
                (0..20usize).for_each(|n| self.event((n % 4).checked_sub(1)));
                self.fanout.end_catch_up();
            }
        }
        self.attend();
        assert!(self.hub.state.borrow().streams.len_bytes() <= LOG_BYTES);
        self.client.read(&self.pipe.taken.borrow(), &self.history);
    }

    /// The client reads everything, and goes on if it is paused.
    async fn settle(&mut self) {
        self.pipe.room.set(usize::MAX);
        self.attachment.unblock();
        self.resume(&Late { scopes: Vec::new(), is_taken_in: false });
        loop {
            self.turn().await;
            if !self.attend() {
                break;
            }
        }
        self.client.read(&self.pipe.taken.borrow(), &self.history);
    }

    fn check(&self) {
        assert!(self.client.outdated.is_empty() && self.attachment.is_drained());
        assert_eq!(self.client.n_answers, self.n_answers);
        let everyone = |interest| interest == Interest::Everyone;
        let rooms = self.attachment.rooms().into_iter().filter(|(_, interest)| everyone(*interest));
        let mut heard: Vec<Scope> = rooms.map(|(room, _)| Some(room.as_str().parse().unwrap())).collect();
        heard.extend(everyone(self.interest).then_some(None));
        heard.sort_unstable();
        assert_eq!(self.client.known.keys().copied().collect::<Vec<_>>(), heard);
        for (scope, known) in &self.client.known {
            let missed = self.history.iter().find(|(at, of)| of == scope && at > known);
            assert_eq!(missed, None, "{scope:?} at {known}");
        }
        let state = self.hub.state.borrow();
        assert_eq!(state.streams.rooms.len_bytes(), 0, "what all have read is forgotten");
        assert_eq!(state.streams.rooms.first_sequence(), None);
    }
}

fn room(number: usize) -> RoomId {
    RoomId::parse(&number.to_string()).unwrap()
}

fn text(text: &str) -> Bytes {
    frame::text(text.as_bytes())
}

fn shown(scope: Scope, sequence: u64) -> Bytes {
    let scope = scope.map_or("service".to_owned(), |number| number.to_string());
    text(&format!("shown {scope} {sequence}"))
}

fn left(number: usize) -> Bytes {
    text(&format!("left {number}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn a_client_knows_of_each_room_and_of_the_service_what_is_so(
        formats in prop::sample::subsequence(vec![Format::Native, Format::Socketio, Format::Native], 2),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        actix_rt::System::new().block_on(async {
            let mut world = World::new(formats[0], formats[1]);
            for step in &steps {
                world.step(step).await;
            }
            world.settle().await;
            world.check();
        });
    }
}
