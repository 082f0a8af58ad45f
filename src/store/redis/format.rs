//! Reads the JSON and the replies that the scripts write. `docs/redis.md` documents their form.

use std::str::FromStr;

use serde::Deserialize;

use crate::domain::user::ProfileFields;
use crate::domain::{Change, OfflineReason, Position, Presence, Profile, Timestamp, Transition, UserId};
use crate::store::{BeatReply, LeaseState, Outcome, Refusal, StoreError, StoreResult};

/// A transition as `announce` in `lua/prelude.lua` publishes and logs it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventJson<'a> {
    epoch: u64,
    revision: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    user_id: String,
    user: Option<PresenceJson>,
    reason: Option<&'a str>,
    at: u64,
}

/// A user's data as `join.lua` writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PresenceJson {
    #[serde(flatten)]
    fields: ProfileFields,
    updated_at: u64,
}

impl PresenceJson {
    fn into_presence(self) -> Presence {
        // The node that accepted the profile has checked it. The limits of that node may have been others.
        let profile = Profile::from_fields(&self.fields, usize::MAX).ok().flatten();
        Presence { profile, updated_at: Timestamp(self.updated_at) }
    }
}

/// Every revision is below this number, so that JavaScript and Lua count exactly (docs/design.md, decision 4).
const REVISION_END: u64 = 1 << 53;

/// Reads a published or logged transition.
pub(super) fn transition(json: &[u8]) -> StoreResult<Transition> {
    let event: EventJson<'_> = serde_json::from_slice(json).map_err(|error| malformed("transition", &error))?;
    if event.revision >= REVISION_END {
        return Err(StoreError::Malformed(format!("revision {}", event.revision)));
    }
    let presence = event.user.map(PresenceJson::into_presence);
    let change = match (event.kind, presence, event.reason.and_then(OfflineReason::from_name)) {
        ("online", Some(presence), _) => Change::Online(presence),
        ("changed", Some(presence), _) => Change::Changed(presence),
        ("offline", None, Some(reason)) => Change::Offline(reason),
        _ => return Err(StoreError::Malformed(format!("transition {}", String::from_utf8_lossy(json)))),
    };
    Ok(Transition {
        position: Position { epoch: event.epoch, revision: event.revision },
        user: user_id(&event.user_id)?,
        change,
        at: Timestamp(event.at),
    })
}

/// Reads a user's stored data.
pub(super) fn presence(json: &[u8]) -> StoreResult<Presence> {
    let presence: PresenceJson = serde_json::from_slice(json).map_err(|error| malformed("presence", &error))?;
    Ok(presence.into_presence())
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

/// Reads the reply of join, grace, leave or remove.
pub(super) fn outcome(epoch: u64, reply: &[String]) -> StoreResult<Outcome> {
    match reply {
        [ok, revision, rest @ ..] if ok == "OK" => Ok(Outcome::Done {
            position: Position { epoch, revision: number(revision)? },
            profile_at: rest.first().map(|date| number(date)).transpose()?.map(Timestamp),
        }),
        [code] if code == "EPOCH" => Ok(Outcome::Refused(Refusal::ForeignEpoch)),
        [code] if code == "GENERATION" => Ok(Outcome::Refused(Refusal::OldGeneration)),
        [code] if code == "LEASE" => Ok(Outcome::Refused(Refusal::NoLease)),
        _ => Err(StoreError::Malformed(format!("outcome {reply:?}"))),
    }
}

/// Reads the reply of beat.
pub(super) fn beat_reply(reply: &[String]) -> StoreResult<BeatReply> {
    let [state, epoch, revision, holding, peers_asserted, now_ms, n_sockets] = reply else {
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
        peers_asserted: peers_asserted == "1",
        n_sockets: number(n_sockets)?,
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
    StoreError::Malformed(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SocketId;

    #[test]
    fn a_published_transition_is_read_back() {
        let json = r#"{"epoch":7,"revision":9,"type":"online","userId":"a\/b","user":{"id":"a\/b","name":"A","status":"online","updatedAt":5},"at":6}"#;
        let read = transition(json.as_bytes()).unwrap();
        assert_eq!(read.position, Position { epoch: 7, revision: 9 });
        assert_eq!(read.user.as_str(), "a/b");
        let Change::Online(presence) = read.change else { panic!("{read:?}") };
        assert_eq!((presence.profile.unwrap().members(), presence.updated_at), (r#""name":"A""#, Timestamp(5)));
    }

    #[test]
    fn what_no_script_writes_is_malformed() {
        for json in [
            "",
            "{}",
            r#"{"epoch":1,"revision":2,"type":"offline","userId":"a","reason":"bored","at":1}"#,
            r#"{"epoch":1,"revision":9007199254740992,"type":"offline","userId":"a","reason":"left","at":1}"#,
        ] {
            assert!(matches!(transition(json.as_bytes()), Err(StoreError::Malformed(_))), "{json}");
        }
        assert!(presence(br#"{"name":5,"updatedAt":1}"#).is_err());
        assert_eq!((known_user(b""), known_user(b"\xff"), parsed::<SocketId>(b"a")), (None, None, None));
        assert!(outcome(1, &["NO".to_owned()]).is_err());
        assert!(beat_reply(&[]).is_err());
    }
}
