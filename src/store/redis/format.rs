//! Reads the JSON and the replies that the scripts write. `docs/redis.md` documents their form.

use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::{
    Change, ChosenStatus, Departure, Devices, HeldSocket, LastSeen, OfflineReason, Position, Presence, Profile,
    ProfileFields, RoomChange, RoomId, RoomPosition, RoomTransition, Scope, Signal, SocketId, Status, StatusText,
    Timestamp, Transition, UserId,
};
use crate::store::{
    BeatReply, Dates, Intent, Join, LeaseState, Order, Outcome, Refusal, StatementOutcome, StoreError, StoreResult,
};

/// A transition as `announce` in `lua/prelude.lua` publishes and logs it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventJson<'a> {
    epoch: u64,
    revision: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    user_id: String,
    #[serde(borrow)]
    user: Option<PresenceJson<'a>>,
    reason: Option<&'a str>,
    active_at: Option<u64>,
    at: u64,
}

/// A transition of a room as `announce_in_room` in `lua/room.lua` publishes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoomEventJson<'a> {
    birth: u64,
    revision: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    user_id: String,
    reason: Option<&'a str>,
    at: u64,
}

/// A user's data as `lua/presence.lua` writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PresenceJson<'a> {
    // The fields of `ProfileFields`. They are named here again, because serde's `flatten` reads everything twice.
    name: Option<String>,
    username: Option<String>,
    email: Option<String>,
    avatar: Option<String>,
    metadata: Option<Map<String, Value>>,
    status: &'a str,
    status_text: Option<String>,
    chosen: Option<ChosenJson>,
    devices: Option<Map<String, Value>>,
    active_at: u64,
    updated_at: u64,
}

/// The chosen status in the data of a user.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChosenJson {
    status: String,
    at: u64,
    expires_at: Option<u64>,
}

impl PresenceJson<'_> {
    /// Returns none if a member has a value that no script writes.
    fn into_presence(self) -> Option<Presence> {
        // The node that accepted the profile has checked it. The limits of that node may have been others.
        let text = self.status_text.map(|text| StatusText::parse(&text)).transpose().ok()?.flatten();
        let chosen = match self.chosen {
            Some(chosen) => Some(Arc::new(ChosenStatus {
                status: Status::from_name(&chosen.status)?,
                text,
                expires_at: chosen.expires_at.map(Timestamp),
                at: Timestamp(chosen.at),
            })),
            None => None,
        };
        let count = |n_sockets: &Value| n_sockets.as_u64().and_then(|n_sockets| u32::try_from(n_sockets).ok());
        let devices = self.devices.iter().flatten();
        let devices = devices.map(|(kind, n_sockets)| (kind.as_str(), count(n_sockets).unwrap_or(0)));
        let Self { name, username, email, avatar, metadata, .. } = self;
        let fields = ProfileFields { name, username, email, avatar, metadata };
        Some(Presence {
            profile: Profile::from_fields(&fields),
            profile_at: Timestamp(self.updated_at),
            chosen,
            effective: Status::from_name(self.status)?,
            devices: devices.collect::<Devices>(),
            active_at: Timestamp(self.active_at),
        })
    }
}

/// When a user was last seen, as `remember` in `lua/presence.lua` writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LastSeenJson {
    last_seen: u64,
    last_active: Option<u64>,
}

/// The entry of a socket in its user's hash, as `lua/join.lua` writes it.
#[derive(Deserialize)]
struct EntryJson {
    grace: u8,
    idle: u8,
    since: u64,
    device: Option<Map<String, Value>>,
}

/// The last argument of `lua/join.lua`.
#[derive(Serialize)]
struct SeldomThere<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen: Option<ChosenArgument<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    idle: bool,
    effective: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
}

/// A chosen status as an argument of a script.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChosenArgument<'a> {
    status: &'static str,
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

impl<'a> From<&'a ChosenStatus> for ChosenArgument<'a> {
    fn from(chosen: &'a ChosenStatus) -> Self {
        Self {
            status: chosen.status.as_str(),
            at: chosen.at.0,
            text: chosen.text.as_ref().map(StatusText::as_str),
            expires_at: chosen.expires_at.map(|end| end.0),
        }
    }
}

/// Writes the last argument of `lua/join.lua`. It is empty for a join that says nothing but who is there.
pub(super) fn seldom_there(join: &Join) -> String {
    let Join { presence, idle, device, since: _ } = join;
    if presence.chosen.is_none() && !idle && device.is_none() {
        return String::new();
    }
    let more = SeldomThere {
        chosen: presence.chosen.as_deref().map(ChosenArgument::from),
        idle: *idle,
        effective: presence.effective.as_str(),
        kind: device.as_ref().map(|device| device.kind()),
        device: device.as_ref().map(|device| device.json()),
    };
    encode(&more)
}

/// Writes a chosen status as an argument of a script. It is empty if none is stated.
pub(super) fn choice(chosen: Option<&ChosenStatus>) -> String {
    chosen.map_or_else(String::new, |chosen| encode(&ChosenArgument::from(chosen)))
}

/// Writes a signal.
pub(super) fn signal_json(signal: &Signal) -> String {
    encode(signal)
}

/// No node sends a longer signal. Signals wait in memory for the node that reads them, so a longer one is not read.
const SIGNAL_BYTES_MAX: usize = 256 * 1024;

/// Reads a signal.
pub(super) fn signal(json: &[u8]) -> StoreResult<Signal> {
    if json.len() > SIGNAL_BYTES_MAX {
        return Err(StoreError::Malformed(format!("signal of {} bytes", json.len())));
    }
    serde_json::from_slice(json).map_err(|error| malformed("signal", &error))
}

/// Reads when a user was last seen.
pub(super) fn last_seen(json: &[u8]) -> StoreResult<LastSeen> {
    let seen: LastSeenJson = serde_json::from_slice(json).map_err(|error| malformed("last seen", &error))?;
    Ok(LastSeen { seen_at: Timestamp(seen.last_seen), active_at: seen.last_active.map(Timestamp) })
}

/// Reads the entry of a socket. Returns none if the entry does not have the form that nodes write.
pub(super) fn held_socket(socket: &[u8], entry: &[u8]) -> Option<HeldSocket> {
    let entry: EntryJson = serde_json::from_slice(entry).ok()?;
    let device = entry.device.map(|device| encode(&device));
    let (in_grace, is_idle) = (entry.grace == 1, entry.idle == 1);
    Some(HeldSocket { socket: parsed(socket)?, since: Timestamp(entry.since), in_grace, is_idle, device })
}

fn encode(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what nodes say always encodes")
}

/// Every revision is below this number, so that JavaScript and Lua count exactly (docs/design.md, decision 4).
const REVISION_END: u64 = 1 << 53;

/// Reads a published or logged transition.
pub(super) fn transition(json: &[u8]) -> StoreResult<Transition> {
    let event: EventJson<'_> = serde_json::from_slice(json).map_err(|error| malformed("transition", &error))?;
    if event.revision >= REVISION_END {
        return Err(StoreError::Malformed(format!("revision {}", event.revision)));
    }
    let presence = event.user.and_then(PresenceJson::into_presence);
    let change = match (event.kind, presence, event.reason.and_then(OfflineReason::from_name)) {
        ("online", Some(presence), _) => Change::Online(presence),
        ("changed", Some(presence), _) => Change::Changed(presence),
        ("offline", None, Some(reason)) => {
            let (seen_at, active_at) = (Some(Timestamp(event.at)), event.active_at.map(Timestamp));
            Change::Offline(Departure { reason, seen_at, active_at })
        }
        _ => return Err(StoreError::Malformed(format!("transition {}", shown(json)))),
    };
    Ok(Transition {
        position: Position { epoch: event.epoch, revision: event.revision },
        user: user_id(&event.user_id)?,
        change,
        at: Timestamp(event.at),
    })
}

/// Reads a published transition of a room.
pub(super) fn room_transition(room: RoomId, json: &[u8]) -> StoreResult<RoomTransition> {
    let event: RoomEventJson<'_> =
        serde_json::from_slice(json).map_err(|error| malformed("transition of a room", &error))?;
    let change = match (event.kind, event.reason.and_then(OfflineReason::from_name)) {
        ("entered", None) => RoomChange::Entered,
        ("left", Some(reason)) => RoomChange::Left(reason),
        _ => return Err(StoreError::Malformed(format!("transition of a room {}", shown(json)))),
    };
    Ok(RoomTransition {
        room,
        position: counted(RoomPosition { birth: event.birth, revision: event.revision })?,
        user: user_id(&event.user_id)?,
        change,
        at: Timestamp(event.at),
    })
}

/// The position, if it is one that Lua counts exactly.
fn counted(position: RoomPosition) -> StoreResult<RoomPosition> {
    let RoomPosition { birth, revision } = position;
    if birth >= REVISION_END || revision >= REVISION_END {
        return Err(StoreError::Malformed(format!("position {birth}.{revision} of a room")));
    }
    Ok(position)
}

/// Reads `birth` and `revision` of a room's head. Nobody is in a room without a head.
pub(super) fn room_position(head: &[Option<Vec<u8>>; 2]) -> StoreResult<RoomPosition> {
    let [birth, revision] = head;
    let (Some(birth), Some(revision)) = (birth, revision) else { return Ok(RoomPosition::default()) };
    match (parsed(birth), parsed(revision)) {
        (Some(birth), Some(revision)) => counted(RoomPosition { birth, revision }),
        _ => Err(StoreError::Malformed("head of a room".to_owned())),
    }
}

/// Reads a text of two ids with a tab between: of a room, and of a socket or a user there. No id has a tab in it.
fn in_room(text: &[u8]) -> Option<(RoomId, &str)> {
    let (room, rest) = std::str::from_utf8(text).ok()?.split_once('\t')?;
    Some((RoomId::parse(room).ok()?, rest))
}

/// Reads an entry of a node in a room. Returns `None` if no node can have written it.
pub(super) fn room_entry(field: &[u8]) -> Option<(RoomId, SocketId)> {
    let (room, socket) = in_room(field)?;
    Some((room, socket.parse().ok()?))
}

/// Writes a member of a room as a suspect of an audit.
pub(super) fn member_text(room: &RoomId, user: &UserId) -> String {
    format!("{room}\t{user}")
}

/// Reads what [`member_text`] writes.
pub(super) fn room_member(text: &[u8]) -> Option<(RoomId, UserId)> {
    let (room, user) = in_room(text)?;
    Some((room, UserId::parse(user).ok()?))
}

/// The room that a member of the set of rooms names. It is `None` if no node can have written it.
pub(super) fn known_room(bytes: &[u8]) -> Option<RoomId> {
    RoomId::parse(std::str::from_utf8(bytes).ok()?).ok()
}

/// Reads a user's stored data.
pub(super) fn presence(json: &[u8]) -> StoreResult<Presence> {
    let presence: PresenceJson<'_> = serde_json::from_slice(json).map_err(|error| malformed("presence", &error))?;
    presence.into_presence().ok_or_else(|| StoreError::Malformed("presence".to_owned()))
}

/// Reads a user id out of the store.
pub(super) fn user_id(text: &str) -> StoreResult<UserId> {
    UserId::parse(text).map_err(|error| StoreError::Malformed(format!("user id {text:?} {error}")))
}

/// Reads a member or a field. Returns `None` if it does not have the form that nodes write.
pub(super) fn parsed<T: FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// The user that a member or a value names. It is `None` if no node can have written it.
pub(super) fn known_user(bytes: &[u8]) -> Option<UserId> {
    UserId::parse(std::str::from_utf8(bytes).ok()?).ok()
}

/// The reply of `state.lua`.
pub(super) fn statement_outcome(reply: &[String]) -> StoreResult<StatementOutcome> {
    let position = |epoch: &String, revision: &String| match (epoch.parse(), revision.parse()) {
        (Ok(epoch), Ok(revision)) => Ok(Position { epoch, revision }),
        _ => Err(StoreError::Malformed(format!("statement {reply:?}"))),
    };
    match reply {
        [code, epoch, revision] if code == "OK" => position(epoch, revision).map(StatementOutcome::Done),
        [code, epoch, revision] if code == "STALE" => position(epoch, revision).map(StatementOutcome::Stale),
        [code] if code == "ABSENT" => Ok(StatementOutcome::NotPresent),
        [code] if code == "EPOCH" => Err(StoreError::EpochChanged),
        _ => Err(StoreError::Malformed(format!("statement {reply:?}"))),
    }
}

/// Reads the reply to an order.
pub(super) fn outcome(epoch: u64, order: &Order, reply: &[String]) -> StoreResult<Outcome> {
    match reply {
        [code] if code == "EPOCH" => return Ok(Outcome::Refused(Refusal::ForeignEpoch)),
        [code] if code == "GENERATION" => return Ok(Outcome::Refused(Refusal::OldGeneration)),
        [code] if code == "LEASE" => return Ok(Outcome::Refused(Refusal::NoLease)),
        [ok, ..] if ok == "OK" => {}
        _ => return Err(StoreError::Malformed(format!("outcome {reply:?}"))),
    }
    let (mut dates, mut user_remains, mut room) = (Dates::default(), false, None);
    match (&order.scope, &order.intent, &reply[1..]) {
        (Scope::Service, Intent::Join(_), [_, profile_at, chosen_at]) => {
            let (profile_at, chosen_at) = (Timestamp(number(profile_at)?), Timestamp(number(chosen_at)?));
            (dates, user_remains) = (Dates { profile_at, chosen_at }, true);
        }
        (Scope::Service, Intent::Leave | Intent::Remove(_), [_, remains]) => user_remains = remains == "1",
        (Scope::Service, Intent::Idle(_) | Intent::Grace, [_]) => {}
        (Scope::Room(_), _, [_, birth, revision, remains]) => {
            user_remains = remains == "1";
            if !birth.is_empty() {
                room = Some(RoomPosition { birth: number(birth)?, revision: number(revision)? });
            }
        }
        _ => return Err(StoreError::Malformed(format!("outcome {reply:?}"))),
    }
    let position = Position { epoch, revision: number(&reply[1])? };
    Ok(Outcome::Done { position, dates, user_remains, room })
}

/// Reads the reply of beat.
pub(super) fn beat_reply(reply: &[String]) -> StoreResult<BeatReply> {
    let [state, epoch, revision, holding, asserted, all_asserted, now_ms, n_sockets, n_room_entries] = reply else {
        return Err(StoreError::Malformed(format!("beat {reply:?}")));
    };
    let lease = match state.as_str() {
        "RENEWED" => LeaseState::Renewed,
        "GRANTED" => LeaseState::Granted,
        "FENCED" => LeaseState::Fenced,
        _ => return Err(StoreError::Malformed(format!("beat {reply:?}"))),
    };
    Ok(BeatReply {
        lease,
        position: Position { epoch: number(epoch)?, revision: number(revision)? },
        holding: holding == "1",
        peers_asserted: asserted == "1",
        peers_all_asserted: all_asserted == "1",
        n_sockets: number(n_sockets)?,
        n_room_entries: number(n_room_entries)?,
        now: Timestamp(number(now_ms)?),
    })
}

/// Reads the store's position. It comes from `run_id` and `epoch` of the epoch's hash, from the revision, and from the
/// answer to `INFO server`.
pub(super) fn head(epoch: &[Option<Vec<u8>>; 2], revision: Option<&[u8]>, server: &str) -> StoreResult<Position> {
    let [run_id, id] = epoch;
    // If these are missing, no node has beaten since the data was lost. Soon a node will beat.
    let revision = revision.and_then(parsed::<u64>).filter(|revision| *revision < REVISION_END);
    let (Some(epoch), Some(revision)) = (id.as_deref().and_then(parsed::<u64>), revision) else {
        return Err(StoreError::EpochChanged);
    };
    // If they are of an earlier life of the server, it came back with old data. Old data says nothing about the
    // present.
    let server_id = server.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::trim);
    if run_id.as_deref() != server_id.map(str::as_bytes) {
        return Err(StoreError::EpochChanged);
    }
    Ok(Position { epoch, revision })
}

/// Reads the reply of `TIME`: seconds and microseconds.
pub(super) fn timestamp((seconds, micros): (u64, u64)) -> Timestamp {
    Timestamp(seconds * 1000 + micros / 1000)
}

fn number(text: &str) -> StoreResult<u64> {
    text.parse().map_err(|_| StoreError::Malformed(format!("number {text:?}")))
}

fn malformed(what: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Malformed(format!("{what}: {}", shown(error.to_string().as_bytes())))
}

/// The beginning of what somebody else has written, for a log line. It is on one line, and whatever could turn the line around
/// is escaped.
fn shown(text: &[u8]) -> String {
    const SHOWN_BYTES: usize = 200;
    let begin = String::from_utf8_lossy(&text[..text.len().min(SHOWN_BYTES)]);
    begin.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Device, NodeId};

    #[test]
    fn a_published_transition_is_read_back() {
        let json = r#"{"epoch":7,"revision":9,"type":"online","userId":"a\/b","user":{"id":"a\/b","name":"A","status":"online","activeAt":6,"updatedAt":5},"at":6}"#;
        let read = transition(json.as_bytes()).unwrap();
        assert_eq!(read.position, Position { epoch: 7, revision: 9 });
        assert_eq!(read.user.as_str(), "a/b");
        let Change::Online(presence) = read.change else { panic!("{read:?}") };
        assert_eq!((presence.profile.unwrap().members(), presence.profile_at), (r#""name":"A""#, Timestamp(5)));
        let json = r#"{"epoch":7,"revision":9,"type":"offline","userId":"a","reason":"left","activeAt":3,"at":6}"#;
        let departure =
            Departure { reason: OfflineReason::Left, seen_at: Some(Timestamp(6)), active_at: Some(Timestamp(3)) };
        assert_eq!(transition(json.as_bytes()).unwrap().change, Change::Offline(departure));
    }

    #[test]
    fn a_statement_is_read_back() {
        let json = r#"{"id":"a","metadata":{"b":[],"a":{}},"status":"away","statusText":"\"x\"","chosen":{"status":"online","at":4,"expiresAt":9},"devices":{"web":2},"profileBytes":28,"activeAt":6,"updatedAt":5}"#;
        let read = presence(json.as_bytes()).unwrap();
        assert_eq!(read.profile.as_ref().unwrap().members(), r#""metadata":{"a":{},"b":[]}"#);
        let chosen = read.chosen.as_ref().unwrap();
        assert_eq!((chosen.status, chosen.expires_at, chosen.at), (Status::Online, Some(Timestamp(9)), Timestamp(4)));
        assert_eq!((read.effective, read.status_text().unwrap().as_str()), (Status::Away, "\"x\""));
        assert_eq!(read.devices.iter().collect::<Vec<_>>(), [("web", 2)]);
    }

    #[test]
    fn a_join_that_says_nothing_seldom_is_short() {
        let mut join = Join { presence: Presence::default(), idle: false, device: None, since: Timestamp(0) };
        assert_eq!(seldom_there(&join), "");
        let object = serde_json::from_str::<Map<String, Value>>(r#"{"kind":"web","os":"\"x\""}"#).unwrap();
        (join.idle, join.device) = (true, Some(Device::parse(&object).unwrap()));
        let json =
            r#"{"idle":true,"effective":"online","kind":"web","device":"{\"kind\":\"web\",\"os\":\"\\\"x\\\"\"}"}"#;
        assert_eq!(seldom_there(&join), json);
    }

    #[test]
    fn a_complaint_is_one_short_line_whatever_was_written() {
        let long = "\u{202e}x\n".repeat(1000);
        for json in [
            format!(r#"{{"type":{}}}"#, serde_json::to_string(&long).unwrap()),
            format!(
                r#"{{"epoch":1,"revision":2,"type":{},"userId":"a","at":1}}"#,
                serde_json::to_string(&long).unwrap()
            ),
            long.clone(),
        ] {
            for error in [transition(json.as_bytes()).unwrap_err(), signal(json.as_bytes()).unwrap_err()] {
                let line = error.to_string();
                assert!(line.len() < 2000 && !line.contains(['\n', '\u{202e}']), "{line}");
            }
        }
    }

    #[test]
    fn what_no_script_writes_is_malformed() {
        for json in [
            "",
            "{}",
            r#"{"epoch":1,"revision":2,"type":"offline","userId":"a","reason":"bored","at":1}"#,
            r#"{"epoch":1,"revision":9007199254740992,"type":"offline","userId":"a","reason":"left","at":1}"#,
            r#"{"epoch":1,"revision":2,"type":"online","userId":"a","user":{"status":"x","activeAt":1,"updatedAt":1},"at":1}"#,
        ] {
            assert!(matches!(transition(json.as_bytes()), Err(StoreError::Malformed(_))), "{json}");
        }
        assert!(presence(br#"{"name":5,"status":"online","activeAt":1,"updatedAt":1}"#).is_err());
        assert_eq!((known_user(b""), known_user(b"\xff"), parsed::<SocketId>(b"a")), (None, None, None));
        let socket = SocketId { node: NodeId::from_bits(1), number: 1 };
        let user = UserId::parse("a").unwrap();
        let order = |scope| Order { scope, socket, user: user.clone(), intent: Intent::Grace, active_at: Timestamp(0) };
        let room = RoomId::parse("r").unwrap();
        for reply in [&["NO"][..], &["OK"], &["OK", "x"], &["OK", "1", "2"]] {
            let reply: Vec<String> = reply.iter().map(|part| (*part).to_owned()).collect();
            assert!(outcome(1, &order(Scope::Service), &reply).is_err(), "{reply:?}");
            assert!(outcome(1, &order(Scope::Room(room.clone())), &reply).is_err(), "{reply:?}");
        }
        let too_far = r#"{"birth":9007199254740992,"revision":2,"type":"entered","userId":"a","at":1}"#;
        for json in [r#"{"birth":1,"revision":2,"type":"left","userId":"a","at":1}"#, too_far, "{}"] {
            assert!(room_transition(room.clone(), json.as_bytes()).is_err(), "{json}");
        }
        assert!(room_position(&[Some(b"1".to_vec()), Some(b"x".to_vec())]).is_err());
        assert!(room_position(&[Some(b"1".to_vec()), Some(b"18446744073709551615".to_vec())]).is_err());
        assert_eq!((known_room(b"a\tb"), room_entry(b"a\tb"), room_member(b"a")), (None, None, None));
        assert!(beat_reply(&[]).is_err());
        assert!(signal(br#"{"type":"active"}"#).is_err());
        let long = format!(r#"{{"type":"echo","number":1{}}}"#, " ".repeat(SIGNAL_BYTES_MAX));
        assert!(signal(long.as_bytes()).is_err());
    }
}
