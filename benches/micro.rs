//! Micro-benchmarks of what the service does most: the roster, the wire, the list and the broadcast logs.
//!
//!     cargo bench --bench micro [part of a name]
//!
//! They tell whether a change made one of these slower; what a node carries is measured by `scripts/bench`.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use rollcall::domain::{
    Change, Interest, OfflineReason, Position, Presence, Profile, ProfileFields, ProfileLimits, RoomId, RoomTold,
    Roster, Timestamp, Told, UserId,
};
use rollcall::hub::{Fanout, Hub, Outbound, ShownRoom};
use rollcall::metrics::{HubMetrics, Registry};
use rollcall::replica::{Announce, Announcement, RoomAnnouncement};
use rollcall::settings::{FanoutSettings, Settings};
use rollcall::wire::Format;
use rollcall::wire::message::{Event, Message, RequestLimits, Standing};
use rollcall::wire::{frame, json};

fn main() {
    divan::main();
}

const LIMITS: RequestLimits =
    RequestLimits { profile: PROFILE_LIMITS, page_max: 10_000, watches_max: 1000, rooms_max: 50 };

const PROFILE_LIMITS: ProfileLimits = ProfileLimits { fields_bytes: 2048, metadata_bytes: 2048 };

const STANDING: Standing = Standing { position: Position { epoch: 1, revision: 2 }, degraded: None };

fn user(n: usize) -> UserId {
    UserId::parse(&format!("user-{n:07}")).expect("a valid id")
}

fn presence(with_profile: bool) -> Presence {
    let fields = ProfileFields {
        name: Some("John Doe".to_owned()),
        username: Some("johndoe".to_owned()),
        email: Some("john@example.com".to_owned()),
        avatar: Some("/uploads/profiles/user123.jpg".to_owned()),
        metadata: None,
    };
    let profile = Profile::from_fields(&fields).filter(|_| with_profile);
    Presence { profile, profile_at: Timestamp(1), ..Presence::default() }
}

fn roster(n_users: usize, with_profile: bool) -> Roster {
    (0..n_users).map(|n| (user(n), presence(with_profile))).collect()
}

/// A user comes to a roster and goes again.
#[divan::bench(args = [1_000, 100_000, 1_000_000])]
fn roster_online_offline(bencher: Bencher<'_, '_>, n_users: usize) {
    let mut roster = roster(n_users, false);
    let (online, offline) = (Change::Online(presence(false)), Change::Offline(OfflineReason::Left.into()));
    let mut n = 0;
    bencher.counter(ItemsCount::new(2_usize)).bench_local(|| {
        // In no order, and never one who is there.
        n = (n + 7919) % n_users;
        let user = UserId::parse(&format!("user-{n:07}x")).expect("a valid id");
        black_box(roster.apply(&user, &online));
        black_box(roster.apply(&user, &offline));
    });
}

/// What a node does after a gap that the log does not cover: everybody compared with everybody.
#[divan::bench(args = [1_000, 100_000])]
fn roster_diff(bencher: Bencher<'_, '_>, n_users: usize) {
    let (ours, theirs) = (roster(n_users, true), roster(n_users, true));
    bencher.counter(ItemsCount::new(n_users)).bench_local(|| ours.diff(black_box(&theirs)));
}

/// A thousand users from the middle of a roster.
#[divan::bench(args = [10_000, 1_000_000])]
fn roster_page(bencher: Bencher<'_, '_>, n_users: usize) {
    let roster = roster(n_users, false);
    let cursor = user(n_users / 2);
    bencher
        .counter(ItemsCount::new(1000_usize))
        .bench_local(|| roster.page(Some(black_box(&cursor)), 1000, None).users.len());
}

/// The body of a list of a thousand, as HTTP and WebSocket both make it.
#[divan::bench(args = [false, true])]
fn list_of_1000(bencher: Bencher<'_, '_>, with_profile: bool) {
    let roster = roster(100_000, with_profile);
    let body = || {
        let page = roster.page(None, 1000, None);
        let mut out = Vec::with_capacity(json::list_capacity(1000));
        json::push_users(&mut out, page.users);
        out
    };
    let n_bytes = body().len();
    bencher.counter(BytesCount::new(n_bytes)).bench_local(body);
}

/// The frame `online_users_list` of a thousand.
#[divan::bench]
fn list_frame_of_1000(bencher: Bencher<'_, '_>) {
    const N_USERS: usize = 100_000;
    let roster = roster(N_USERS, false);
    bencher.bench_local(|| {
        let page = roster.page(None, 1000, None);
        Format::Native.encode(&Message::List { page: &page, total: N_USERS, standing: STANDING }, None)
    });
}

/// One event, encoded once for all who hear it.
#[divan::bench(args = [false, true])]
fn encode_event(bencher: Bencher<'_, '_>, with_profile: bool) {
    let (user, told) = (user(1), Told::Online(presence(with_profile)));
    let event = Event {
        user: &user,
        what: &told,
        epoch: 1,
        revision: Some(1_795_312_345_678_901),
        catch_up: false,
        at: Timestamp(1),
    };
    bencher.bench_local(|| Format::Native.encode(&Message::Event(*black_box(&event)), None));
}

/// A payload of the length of an event, as a frame.
#[divan::bench]
fn encode_frame(bencher: Bencher<'_, '_>) {
    let payload = [b'x'; 180];
    bencher.bench_local(|| frame::text(black_box(&payload)));
}

/// What clients send.
#[divan::bench(args = [
    r#"{"type":"user_activity"}"#,
    r#"{"type":"join_user","userId":"42"}"#,
    r#"{"type":"join_user","userId":42,"name":"John Doe","username":"johndoe","email":"john@example.com","ref":"r1"}"#,
    r#"{"type":"get_online_users","limit":100,"cursor":"41"}"#,
    r#"{"type":"dance"}"#,
])]
fn parse(text: &str) -> bool {
    Format::Native.parse(black_box(text), LIMITS).is_ok()
}

/// A socket that takes everything.
struct Sink;

impl Outbound for Sink {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(black_box(bytes).len())
    }
}

/// A hundred events: encoded, put into the mailbox, appended to the log, and written in one piece to one socket that is
/// then at the end of the log.
#[divan::bench]
fn hundred_events_through_the_log(bencher: Bencher<'_, '_>) {
    const N_EVENTS: u64 = 100;
    actix_rt::System::new().block_on(async {
        let fanout = Fanout::new(rollcall::settings::Settings::default().fanout.log_bytes);
        let metrics = HubMetrics::new(&mut Registry::default());
        let hub = Hub::start(&fanout, metrics, &Settings::default().fanout);
        let attachment = hub.attach(Rc::new(Sink), Format::Native);
        attachment.listen(Some(&user(0)), Interest::Everyone, 0);
        let mut announcement = Announcement {
            sequence: 0,
            user: user(1),
            others: Some(Told::Online(presence(false))),
            own: None,
            n_online: 1,
            epoch: 1,
            revision: Some(1),
            catch_up: false,
            at: Timestamp(1),
        };
        bencher.counter(ItemsCount::new(N_EVENTS)).bench_local(|| {
            for _ in 0..N_EVENTS {
                announcement.sequence += 1;
                fanout.announce(&announcement);
            }
            // A frame for this socket alone comes after them, so they are taken in and written first.
            attachment.send_at(announcement.sequence, [frame::ping()]);
        });
    });
}

/// A socket that takes everything, and counts it together with others.
struct CountingSink(Rc<Cell<usize>>);

impl Outbound for CountingSink {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set(self.0.get() + black_box(bytes).len());
        Ok(bytes.len())
    }
}

/// A storm into one room of four thousand: so many events are encoded, appended, and written in one piece to each socket. The
/// items are deliveries.
#[divan::bench(args = [1, 25])]
fn events_into_a_room_of_4000(bencher: Bencher<'_, '_>, n_events: u64) {
    const N_SOCKETS: usize = 4000;
    let room = RoomId::parse("a").expect("a valid id");
    let (told, at) = (RoomTold::Joined(presence(false)), Timestamp(1));
    let mut event = RoomAnnouncement { sequence: 0, room: room.clone(), user: user(1), told, n_online: 1, at };
    let message = Message::RoomEvent { room: &event.room, user: &event.user, what: &event.told, at };
    let n_bytes = Format::Native.encode(&message, None).map_or(0, |frame| frame.len()) * n_events as usize * N_SOCKETS;
    let (system, taken) = (actix_rt::System::new(), Rc::new(Cell::new(0)));
    let fanout = Fanout::new(Settings::default().fanout.log_bytes);
    let sockets: Vec<_> = system.block_on(async {
        // Without rests, the time is that of the work.
        let settings = FanoutSettings { max_tick: Duration::ZERO, ..Settings::default().fanout };
        let hub = Hub::start(&fanout, HubMetrics::new(&mut Registry::default()), &settings);
        let attach = |_| {
            let attachment = hub.attach(Rc::new(CountingSink(taken.clone())), Format::Native);
            let interest = Interest::Everyone;
            attachment
                .hear_room(ShownRoom { room: room.clone(), interest, n_online: 1, frame: None, is_whole: false }, 0);
            attachment
        };
        (0..N_SOCKETS).map(attach).collect()
    });
    bencher.counter(ItemsCount::new(N_SOCKETS * n_events as usize)).bench_local(|| {
        taken.set(0);
        for _ in 0..n_events {
            event.sequence += 1;
            fanout.announce_room(&event);
        }
        system.block_on(async {
            while taken.get() < n_bytes {
                tokio::task::yield_now().await;
            }
        });
    });
    drop(sockets);
}
