//! What the store holds of a user who is present.

use std::sync::Arc;

use super::{ChosenStatus, Devices, Profile, SocketId, Status, StatusText, Timestamp};

/// A user's data while the user is present: what was stated, and what others see of it.
///
/// The profile and the chosen status are the two parts of the *statement*. Each has a date of its own, which is 0 while
/// nobody has stated it. A part without a date beats nothing (docs/design.md, decision 12).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presence {
    /// `None`: no profile was stated, or a profile without any field.
    pub profile: Option<Profile>,
    /// When the profile was stated, by the store's clock. It is 0 if none was stated.
    pub profile_at: Timestamp,
    /// `None`: no status was chosen. The user is then as one who chose [`Status::Online`].
    pub chosen: Option<Arc<ChosenStatus>>,
    /// What others see. It is [`Status::Invisible`] for a user who is hidden.
    pub effective: Status,
    /// The kinds of device of the user's sockets.
    pub devices: Devices,
    /// When the user was last active, by the store's clock. Nodes learn it in batches, so it may be a minute old. It is 0
    /// if it is not known.
    pub active_at: Timestamp,
}

/// A socket as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSocket {
    /// Its id, which names its node.
    pub socket: SocketId,
    /// When it joined.
    pub since: Timestamp,
    /// Whether its connection broke.
    pub in_grace: bool,
    /// Whether it is idle.
    pub is_idle: bool,
    /// What its client runs on, as JSON.
    pub device: Option<String>,
}

impl Presence {
    /// Whether others must take the user for offline.
    pub fn is_hidden(&self) -> bool {
        self.effective == Status::Invisible
    }

    /// What was chosen, [`Status::Online`] if nothing was.
    pub fn chosen_status(&self) -> Status {
        self.chosen.as_ref().map_or(Status::Online, |chosen| chosen.status)
    }

    /// When the status was chosen. It is 0 if none was.
    pub fn chosen_at(&self) -> Timestamp {
        self.chosen.as_ref().map_or(Timestamp(0), |chosen| chosen.at)
    }

    /// The words beside the status.
    pub fn status_text(&self) -> Option<&StatusText> {
        self.chosen.as_ref().and_then(|chosen| chosen.text.as_ref())
    }

    /// What this says to the store that does not answer yet, as others would see it: the store decides only whether
    /// somebody who chose `online` is away.
    #[must_use]
    pub(crate) fn as_asserted(&self) -> Self {
        let effective = match (self.chosen_status(), self.effective) {
            (Status::Online, Status::Away) => Status::Away,
            (chosen, _) => chosen,
        };
        Self { effective, ..self.clone() }
    }

    /// Whether all is the same but the time of the last activity, which is no fact (docs/design.md, decision 17).
    pub(crate) fn is_same_but_for_activity(&self, other: &Self) -> bool {
        self.profile == other.profile
            && self.profile_at == other.profile_at
            && self.chosen == other.chosen
            && self.effective == other.effective
            && self.devices == other.devices
    }

    /// Whether others see the same status, and the same words beside it.
    pub(crate) fn shows_the_status_of(&self, other: &Self) -> bool {
        (self.effective, self.status_text()) == (other.effective, other.status_text())
    }

    /// Whether the user's own sockets see the same status.
    pub(crate) fn has_the_own_status_of(&self, other: &Self) -> bool {
        let expiry = |presence: &Self| presence.chosen.as_ref().and_then(|chosen| chosen.expires_at);
        (self.chosen_status(), self.effective, self.status_text(), expiry(self))
            == (other.chosen_status(), other.effective, other.status_text(), expiry(other))
    }

    /// Of each part the one with the higher date. This is what holds if `stored` may be older than `self`: the store lost
    /// its data, and nodes assert what they know in any order. Where the dates do not decide, `stored` holds.
    #[must_use]
    pub(crate) fn merged_with(&self, stored: &Self) -> Self {
        let mut merged = stored.clone();
        if self.profile_at > stored.profile_at {
            (merged.profile, merged.profile_at) = (self.profile.clone(), self.profile_at);
        }
        if self.chosen_at() > stored.chosen_at() {
            (merged.chosen, merged.effective) = (self.chosen.clone(), self.effective);
        }
        merged.active_at = self.active_at.max(stored.active_at);
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ProfileFields;

    fn chosen(status: Status, at: u64) -> Option<Arc<ChosenStatus>> {
        Some(Arc::new(ChosenStatus { status, text: None, expires_at: None, at: Timestamp(at) }))
    }

    fn profile(name: &str) -> Option<Profile> {
        let fields = ProfileFields { name: Some(name.to_owned()), ..ProfileFields::default() };
        Profile::from_fields(&fields)
    }

    #[test]
    fn each_part_is_merged_by_its_own_date() {
        let known = Presence {
            profile: profile("new"),
            profile_at: Timestamp(9),
            chosen: chosen(Status::Busy, 1),
            effective: Status::Busy,
            ..Presence::default()
        };
        let stored = Presence {
            profile: profile("old"),
            profile_at: Timestamp(5),
            chosen: chosen(Status::Invisible, 2),
            effective: Status::Invisible,
            ..Presence::default()
        };
        let merged = known.merged_with(&stored);
        assert_eq!((merged.profile, merged.profile_at), (known.profile.clone(), Timestamp(9)));
        assert!(merged.chosen == stored.chosen && merged.effective == Status::Invisible);
        let undated = Presence::default();
        assert_eq!(undated.merged_with(&stored), stored, "a part without a date beats nothing");
        assert_eq!(stored.merged_with(&undated).effective, Status::Invisible, "what is hidden stays hidden");
    }
}
