//! A user with sockets on this node.

use crate::domain::{Presence, Profile, Timestamp};

/// The data that this node asserts of a user, and the user's sockets here.
pub(super) struct LocalUser {
    /// The data.
    pub(super) presence: Presence,
    /// Whether a client stated the profile and the store has not dated it yet.
    pub(super) stated: bool,
    /// The numbers of the user's sockets here.
    pub(super) sockets: Vec<u64>,
}

impl LocalUser {
    /// A user without sockets. `known` is the data that the replica has.
    pub(super) fn new(known: Option<Presence>) -> Self {
        Self { presence: known.unwrap_or_default(), stated: false, sockets: Vec::with_capacity(1) }
    }

    /// What a join asserts. A profile that the store has not dated is new to the store.
    pub(super) fn to_assert(&self) -> Presence {
        let mut presence = self.presence.clone();
        if self.stated {
            presence.updated_at = Timestamp(0);
        }
        presence
    }

    /// Takes over the profile that a client stated, if it says something new.
    pub(super) fn state(&mut self, stated: Option<Profile>) {
        if stated.is_some() && stated != self.presence.profile {
            self.presence.profile = stated;
            self.stated = true;
        }
    }

    /// If the profile is newer, this node asserts it from now on.
    pub(super) fn learn(&mut self, presence: &Presence) {
        if !self.stated && presence.updated_at > self.presence.updated_at && presence.profile.is_some() {
            self.presence = presence.clone();
        }
    }

    /// The store has dated the profile that a join carried.
    pub(super) fn date_profile(&mut self, sent: &Presence, updated_at: Timestamp) {
        if self.stated && sent.profile.is_some() && sent.profile == self.presence.profile {
            self.presence.updated_at = updated_at;
            self.stated = false;
        }
    }
}
