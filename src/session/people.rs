//! What a session does when its client states something about its user, or asks about another.

use std::time::Duration;

use super::close::End;
use super::limits::Verdict;
use super::requests::Later;
use super::{Services, Session};
use crate::auth::profile_limits;
use crate::clock;
use crate::domain::{
    LastSeen, Presence, Profile, ProfileError, ProfileLimits, ProfilePatch, Said, SaidStatus, Timestamp, UserId,
};
use crate::replica::Stated;
use crate::wire::message::{ErrorCode, Message};

/// How long the store is asked to take a change of the profile. After that, the change is asserted with the socket.
const UPDATE_WITHIN: Duration = Duration::from_secs(1);

impl Session {
    /// How large a profile may be.
    pub(super) fn profile_limits(&self) -> ProfileLimits {
        profile_limits(&self.services.limits)
    }

    /// Changes some fields of the profile, and answers with what holds then. Another socket of the user, on any node, may
    /// change other fields at the same time. While the store is out of reach, the change holds here.
    pub(super) async fn update(&mut self, patch: ProfilePatch, reference: Option<String>) {
        let Services { table, replica, .. } = &*self.services;
        let Some(joined) = &self.registration else { return };
        joined.acted();
        let limits = self.profile_limits();
        let patched = |known: &Presence| -> Result<Said, ProfileError> {
            let profile = Profile::within(&patch.clone().applied_to(known.profile.as_ref()), limits)?;
            Ok(Said { profile: Some(profile), status: None })
        };
        let asked_at = clock::now();
        let is_reachable = replica.view().degraded().is_none();
        let stated =
            if is_reachable { replica.state(joined.user(), patched, UPDATE_WITHIN).await } else { Stated::Unknown };
        let stated = match stated {
            Stated::Done { is_reflected, .. } => {
                // The other nodes must learn of the activity. The statement does not tell them.
                replica.note_activity(joined.user()).await;
                Ok(is_reflected)
            }
            Stated::Refused(error) => Err(error),
            Stated::NotPresent | Stated::Unknown => match patched(&table.presence(joined.user()).unwrap_or_default()) {
                Ok(said) => Ok(self.tell_the_store(said).await),
                Err(error) => Err(error),
            },
        };
        match stated {
            Ok(reflected) => self.show_own(true, (!reflected).then_some(asked_at), reference.as_deref()),
            Err(error) => self.refuse(ErrorCode::InvalidField, &error.to_string(), reference.as_deref()),
        }
    }

    /// Chooses a status, and answers with what holds then.
    pub(super) async fn choose(&mut self, status: SaidStatus, reference: Option<String>) {
        let asked_at = clock::now();
        let reflected = self.tell_the_store(Said { status: Some(status), ..Said::default() }).await;
        self.show_own(false, (!reflected).then_some(asked_at), reference.as_deref());
    }

    /// Answers with the user's profile, or else with the user's status. If `unconfirmed_since` is set, the store has not
    /// confirmed it.
    fn show_own(&self, shows_profile: bool, unconfirmed_since: Option<Timestamp>, reference: Option<&str>) {
        let Some(user) = self.user() else { return };
        let (sequence, frame) = {
            let view = self.services.replica.view();
            let mut standing = self.standing(&view);
            standing.degraded = standing.degraded.or(unconfirmed_since);
            let own = self.own_presence(&view, user);
            let answer = if shows_profile {
                Message::Updated { user, own: &own, standing }
            } else {
                Message::OwnStatus { own: &own, standing }
            };
            (view.sequence(), self.format.encode(&answer, reference))
        };
        self.attachment.send_at(sequence, frame);
    }

    /// Answers whether a user is online. If the user is not, the store is asked when the user was last seen. That takes
    /// time, and counts as a costly request.
    pub(super) fn check(&mut self, user: UserId, reference: Option<String>) -> Result<Option<Later>, End> {
        if self.services.replica.view().roster().contains(&user) {
            self.tell_status(&user, None, reference.as_deref());
            return Ok(None);
        }
        match self.services.requests.check_costly(&self.used_requests)? {
            Verdict::Granted => Ok(Some(Later::Recall { user, reference })),
            Verdict::Refused(delay) => {
                self.services.metrics.too_many_requests();
                self.refuse_for_now("too many requests; wait", delay, reference.as_deref());
                Ok(None)
            }
        }
    }

    /// Answers when a user was last seen.
    pub(super) async fn recall(&mut self, user: &UserId, reference: Option<&str>) {
        let last_seen = self.services.replica.last_seen(std::slice::from_ref(user)).await;
        let last_seen = last_seen.and_then(|seen| seen.into_iter().next().flatten());
        self.tell_status(user, last_seen, reference);
    }

    /// Answers which sockets the user has, and what they run on.
    pub(super) async fn show_devices(&mut self, reference: Option<&str>) {
        let Some(joined) = &self.registration else { return };
        let own = joined.socket();
        let Some(sockets) = self.services.replica.sockets_of(joined.user()).await else {
            let what = "the store cannot be reached; try again";
            self.refuse(ErrorCode::StoreUnavailable, what, reference);
            return;
        };
        let (sequence, frame) = {
            let view = self.services.replica.view();
            let devices = Message::Devices { sockets: &sockets, own, standing: self.standing(&view) };
            (view.sequence(), self.format.encode(&devices, reference))
        };
        let Some(frame) = frame else { return };
        self.send_large(sequence, frame, reference);
    }

    fn tell_status(&self, user: &UserId, last_seen: Option<LastSeen>, reference: Option<&str>) {
        let (sequence, frame) = {
            let view = self.services.replica.view();
            let presence = view.roster().get(user);
            let status = Message::Status { user, presence, last_seen, standing: self.standing(&view) };
            (view.sequence(), self.format.encode(&status, reference))
        };
        self.attachment.send_at(sequence, frame);
    }
}
