//! What this node knows of users whom somebody asks about.

use std::collections::HashMap;

use super::{ApiError, Reads};
use crate::clock;
use crate::domain::{LastSeen, Presence, Roster, Timestamp, UserId};
use crate::wire::body::{self, AskedUser};
use crate::wire::status::{Seen, StatusWriter};

/// Whom the asker may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Those who are not hidden.
    Visible,
    /// Everybody. Only the application's server may.
    EvenHidden,
}

/// What an answer about users says besides.
#[derive(Debug)]
pub(super) struct LookedUp {
    /// How many of the users are not online, and nothing else is known of them.
    pub(super) n_unknown: usize,
    /// If the answer may be out of date, or is not complete, this is the last time at which it was right.
    pub(super) degraded: Option<Timestamp>,
}

/// What was found of one user before the store was asked.
enum Found {
    Online(Presence),
    /// The place of the user among those whom the store is asked about.
    Absent(usize),
}

/// Appends what is known of each of the users, in their order, with commas between them. Who is online is answered from
/// memory. About all others together, the store is asked once.
///
/// A hidden user is not online for those who may not see hidden users. So an answer about such a user comes in the same
/// way as an answer about somebody who is offline.
///
/// # Errors
/// A user whom nobody knows has no valid id.
pub(super) async fn push_users(
    out: &mut Vec<u8>,
    asked: &[AskedUser<'_>],
    sight: Sight,
    reads: &Reads,
) -> Result<LookedUp, ApiError> {
    let now = clock::now();
    let mut writer = Writer { out, sight, statuses: StatusWriter::new(now), n_written: 0, n_unknown: 0 };
    let (found, absent) = {
        let view = reads.replica.view();
        let known: Vec<_> = asked.iter().map(|user| sight.find(view.roster(), user.as_str())).collect();
        if known.iter().all(Option::is_some) {
            for (user, presence) in asked.iter().zip(known.into_iter().flatten()) {
                writer.push(user, Seen::Online(presence));
            }
            return Ok(LookedUp { n_unknown: 0, degraded: reads.replica.degraded_since(&view) });
        }
        sort_out(asked, &known)?
    };
    let last_seen = reads.replica.last_seen(&absent).await;
    let view = reads.replica.view();
    for (user, found) in asked.iter().zip(&found) {
        writer.push(
            user,
            match found {
                Found::Online(presence) => Seen::Online(presence),
                Found::Absent(place) => match sight.find(view.roster(), user.as_str()) {
                    // The user has come meanwhile.
                    Some(presence) => Seen::Online(presence),
                    None => seen_before(last_seen.as_deref(), *place),
                },
            },
        );
    }
    let degraded = reads.replica.degraded_since(&view).or_else(|| last_seen.is_none().then_some(now));
    Ok(LookedUp { n_unknown: writer.n_unknown, degraded })
}

/// Takes over what was found. Returns with it who was not found, each of them once.
fn sort_out(asked: &[AskedUser<'_>], known: &[Option<&Presence>]) -> Result<(Vec<Found>, Vec<UserId>), ApiError> {
    let (mut absent, mut places) = (Vec::new(), HashMap::new());
    let mut found = Vec::with_capacity(asked.len());
    for (place, (user, presence)) in asked.iter().zip(known).enumerate() {
        found.push(match presence {
            Some(presence) => Found::Online((*presence).clone()),
            None => Found::Absent(match places.get(user.as_str()) {
                Some(place) => *place,
                None => {
                    absent.push(user.id().map_err(|what| body::bad_id(place, what))?);
                    places.insert(user.as_str(), absent.len() - 1);
                    absent.len() - 1
                }
            }),
        });
    }
    Ok((found, absent))
}

fn seen_before(last_seen: Option<&[Option<LastSeen>]>, place: usize) -> Seen<'static> {
    last_seen.and_then(|last_seen| last_seen[place]).map_or(Seen::Unknown, Seen::Before)
}

impl Sight {
    fn find<'a>(self, roster: &'a Roster, id: &str) -> Option<&'a Presence> {
        match self {
            Self::Visible => roster.get(id),
            Self::EvenHidden => roster.get_even_hidden(id),
        }
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    sight: Sight,
    statuses: StatusWriter,
    n_written: usize,
    n_unknown: usize,
}

impl Writer<'_> {
    fn push(&mut self, user: &AskedUser<'_>, seen: Seen<'_>) {
        if self.n_written > 0 {
            self.out.push(b',');
        }
        self.n_written += 1;
        self.n_unknown += usize::from(matches!(seen, Seen::Unknown));
        match self.sight {
            Sight::Visible => self.statuses.push(self.out, user.as_str(), seen),
            Sight::EvenHidden => self.statuses.push_even_hidden(self.out, user.as_str(), seen),
        }
    }
}
