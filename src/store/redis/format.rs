//! The JSON and the replies that the scripts write, read back. The shapes are documented in `docs/redis.md`.

use std::collections::HashMap;

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
        // What is stored was checked by the node that accepted it, whose limits may have been others.
        let profile = Profile::from_fields(&self.fields, usize::MAX).ok().flatten();
        Presence { profile, updated_at: Timestamp(self.updated_at) }
    }
}

/// Reads a published or logged transition.
pub fn transition(json: &str) -> StoreResult<Transition> {
    let event: EventJson<'_> = serde_json::from_str(json).map_err(|error| malformed("transition", &error))?;
    let presence = event.user.map(PresenceJson::into_presence);
    let change = match (event.kind, presence, event.reason.and_then(OfflineReason::from_name)) {
        ("online", Some(presence), _) => Change::Online(presence),
        ("changed", Some(presence), _) => Change::Changed(presence),
        ("offline", None, Some(reason)) => Change::Offline(reason),
        _ => return Err(StoreError::Malformed(format!("transition {json}"))),
    };
    Ok(Transition {
        position: Position { epoch: event.epoch, revision: event.revision },
        user: user_id(&event.user_id)?,
        change,
        at: Timestamp(event.at),
    })
}

/// Reads a user's stored data; missing or unreadable data leaves a user without a profile, who is present all the same.
pub fn presence(json: Option<&str>) -> Presence {
    json.and_then(|json| serde_json::from_str::<PresenceJson>(json).ok())
        .map(PresenceJson::into_presence)
        .unwrap_or_default()
}

/// Reads a user id out of the store.
pub fn user_id(text: &str) -> StoreResult<UserId> {
    UserId::parse(text).map_err(|error| StoreError::Malformed(format!("user id {text:?} {error}")))
}

/// Reads the reply of join, grace, leave or remove.
pub fn outcome(epoch: u64, reply: &[String]) -> StoreResult<Outcome> {
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
pub fn beat_reply(reply: &[String]) -> StoreResult<BeatReply> {
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

/// Reads where the store is from the `epoch` hash and the revision; `server` is the answer to `INFO server`.
pub fn head(epoch: &HashMap<String, String>, revision: Option<&str>, server: &str) -> StoreResult<Position> {
    // Without these no node has beaten since the data was lost; soon one will have.
    let (Some(id), Some(revision)) = (epoch.get("epoch"), revision) else {
        return Err(StoreError::EpochChanged);
    };
    // Nor with those of an earlier life of the server: it came back with old data, which says nothing of the present.
    let run_id = server.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::trim);
    if epoch.get("run_id").map(String::as_str) != run_id {
        return Err(StoreError::EpochChanged);
    }
    Ok(Position { epoch: number(id)?, revision: number(revision)? })
}

/// Reads the reply of `TIME`: seconds and microseconds.
pub fn timestamp((seconds, micros): (u64, u64)) -> Timestamp {
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

    #[test]
    fn a_published_transition_is_read_back() {
        let json = r#"{"epoch":7,"revision":9,"type":"online","userId":"a\/b","user":{"id":"a\/b","name":"A","status":"online","updatedAt":5},"at":6}"#;
        let read = transition(json).unwrap();
        assert_eq!(read.position, Position { epoch: 7, revision: 9 });
        assert_eq!(read.user.as_str(), "a/b");
        let Change::Online(presence) = read.change else { panic!("{read:?}") };
        assert_eq!((presence.profile.unwrap().members(), presence.updated_at), (r#""name":"A""#, Timestamp(5)));
    }

    #[test]
    fn what_no_script_writes_is_malformed() {
        for json in ["", "{}", r#"{"epoch":1,"revision":2,"type":"offline","userId":"a","reason":"bored","at":1}"#] {
            assert!(matches!(transition(json), Err(StoreError::Malformed(_))), "{json}");
        }
        assert!(outcome(1, &["NO".to_owned()]).is_err());
        assert!(beat_reply(&[]).is_err());
    }
}
