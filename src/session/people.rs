//! What a session does when its client states something about its user, or asks about another.

use super::Session;
use super::close::End;
use super::limits::Verdict;
use super::requests::Later;
use crate::domain::{LastSeen, Profile, ProfileError, ProfileLimits, ProfilePatch, Said, UserId};
use crate::wire::message::{ErrorCode, Message};

impl Session {
    /// How large a profile may be.
    pub(super) fn profile_limits(&self) -> ProfileLimits {
        let limits = &self.services.limits;
        ProfileLimits { fields_bytes: limits.profile_bytes, metadata_bytes: limits.metadata_bytes }
    }

    /// The user's profile after a patch.
    pub(super) fn patched_profile(&self, user: &UserId, patch: ProfilePatch) -> Result<Option<Profile>, ProfileError> {
        let known = self.services.table.presence(user).and_then(|presence| presence.profile);
        Profile::within(&patch.applied_to(known.as_ref()), self.profile_limits())
    }

    /// States something about the user, and answers with what holds then.
    pub(super) async fn state(&mut self, said: Said, shows_profile: bool, reference: Option<String>) {
        let asked_at = crate::clock::now();
        let reflected = self.tell_the_store(said).await;
        let Some(user) = self.registration.as_ref().map(|joined| joined.user().clone()) else { return };
        let (sequence, frame) = {
            let view = self.services.replica.view();
            let mut standing = self.standing(&view);
            standing.degraded = standing.degraded.or((!reflected).then_some(asked_at));
            let own = self.own_presence(&view, &user);
            let answer = if shows_profile {
                Message::Updated { user: &user, own: &own, standing }
            } else {
                Message::OwnStatus { own: &own, standing }
            };
            (view.sequence(), self.format.encode(&answer, reference.as_deref()))
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
        match self.services.requests.check_costly(&self.used)? {
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
