//! What a client says of its user's typing, and how often it may.

use std::time::{Duration, Instant};

use super::Session;
use crate::domain::{RoomId, TypingTarget};
use crate::typing::TYPING_ENDS_AFTER;
use crate::wire::message::{ErrorCode, Message};

impl Session {
    /// The user types, or has stopped. Those whom it concerns are told. The client never learns who they are.
    pub(super) fn type_to(&mut self, target: TypingTarget, is_typing: bool, reference: Option<&str>) {
        let Some(joined) = &self.registration else { return };
        if let TypingTarget::Room(room) = &target
            && !joined.is_in_room(room)
        {
            return self.refuse_in(room, ErrorCode::NotInRoom, "this socket is not in the room", reference);
        }
        if target == TypingTarget::User(joined.user().clone()) {
            // The user knows it.
            return self.acknowledge_typing(reference);
        }
        let rate = self.typing.get_or_insert_default();
        let said = if is_typing { rate.begin(&target, Instant::now()) } else { rate.end(&target) };
        match said {
            Said::Told => self.services.typing.say(joined.user(), target, is_typing),
            Said::Known => {}
            Said::Refused(delay) => {
                self.services.metrics.too_many_requests();
                return self.refuse_for_now("typing too often; wait", delay, reference);
            }
        }
        self.acknowledge_typing(reference);
    }

    fn acknowledge_typing(&self, reference: Option<&str>) {
        if reference.is_some() {
            self.say(&Message::TypingAck, reference);
        }
    }

    /// The socket leaves a room, so its user types there no more.
    pub(super) fn stop_typing_in(&mut self, room: &RoomId) {
        self.stop_typing(|target| *target == TypingTarget::Room(room.clone()));
    }

    /// The user hides, or the socket leaves the service.
    pub(super) fn stop_all_typing(&mut self) {
        self.stop_typing(|_| true);
    }

    fn stop_typing(&mut self, is_meant: impl Fn(&TypingTarget) -> bool) {
        let (Some(joined), Some(rate)) = (&self.registration, &mut self.typing) else { return };
        for target in rate.end_all(is_meant) {
            self.services.typing.say(joined.user(), target, false);
        }
    }
}

/// What a client has said of typing lately, for each target.
#[derive(Default)]
pub(super) struct TypingRate(Vec<Typed>);

/// The last time that the client said that its user types.
struct Typed {
    target: TypingTarget,
    at: Instant,
    /// Whether the client has not said since that the user has stopped.
    is_typing: bool,
}

/// What becomes of what the client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// The target is told.
    Told,
    /// The target knows it.
    Known,
    /// It is refused. After this time it is not.
    Refused(Duration),
}

/// A target is told once in this time at most that the user types. Source: docs/design.md, decision 19.
const INTERVAL: Duration = Duration::from_secs(1);

/// To how many targets a client may type at once: more than a person does.
const TARGETS_MAX: usize = 8;

impl TypingRate {
    /// The user types.
    fn begin(&mut self, target: &TypingTarget, now: Instant) -> Said {
        let lasts = |typed: &Typed| if typed.is_typing { TYPING_ENDS_AFTER } else { INTERVAL };
        self.0.retain(|typed| now.saturating_duration_since(typed.at) < lasts(typed));
        let n_targets = self.0.len();
        let Some(typed) = self.0.iter_mut().find(|typed| typed.target == *target) else {
            if n_targets == TARGETS_MAX {
                let lefts = self.0.iter().map(|typed| (typed.at + lasts(typed)).saturating_duration_since(now));
                return Said::Refused(lefts.min().unwrap_or(INTERVAL));
            }
            self.0.push(Typed { target: target.clone(), at: now, is_typing: true });
            return Said::Told;
        };
        let passed = now.saturating_duration_since(typed.at);
        match INTERVAL.checked_sub(passed).filter(|left| !left.is_zero()) {
            Some(_) if typed.is_typing => Said::Known,
            Some(left) => Said::Refused(left),
            None => {
                (typed.at, typed.is_typing) = (now, true);
                Said::Told
            }
        }
    }

    /// The user has stopped everywhere where that is meant. Returns the targets that know otherwise.
    fn end_all(&mut self, is_meant: impl Fn(&TypingTarget) -> bool) -> Vec<TypingTarget> {
        let ended = self.0.iter_mut().filter(|typed| typed.is_typing && is_meant(&typed.target));
        let ended = ended.map(|typed| {
            typed.is_typing = false;
            typed.target.clone()
        });
        ended.collect()
    }

    /// The user has stopped.
    fn end(&mut self, target: &TypingTarget) -> Said {
        match self.0.iter_mut().find(|typed| typed.target == *target && typed.is_typing) {
            Some(typed) => {
                typed.is_typing = false;
                Said::Told
            }
            None => Said::Known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;

    fn target(id: &str) -> TypingTarget {
        TypingTarget::User(UserId::parse(id).unwrap())
    }

    #[test]
    fn a_target_is_told_once_a_second() {
        let (mut rate, start) = (TypingRate::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(rate.end(&target("a")), Said::Known, "nobody typed");
        assert_eq!(rate.begin(&target("a"), at(0)), Said::Told);
        assert_eq!(rate.begin(&target("b"), at(0)), Said::Told, "another target");
        assert_eq!(rate.begin(&target("a"), at(999)), Said::Known);
        assert_eq!(rate.begin(&target("a"), at(1000)), Said::Told, "it goes on");
        assert_eq!(rate.end(&target("a")), Said::Told);
        assert_eq!(rate.end(&target("a")), Said::Known);
        let left = Duration::from_millis(600);
        assert_eq!(rate.begin(&target("a"), at(1400)), Said::Refused(left));
        assert_eq!(rate.begin(&target("a"), at(2000)), Said::Told);
    }

    #[test]
    fn what_is_kept_is_bounded_and_ends() {
        let (mut rate, now) = (TypingRate::default(), Instant::now());
        for n in 0..TARGETS_MAX {
            assert_eq!(rate.begin(&target(&n.to_string()), now), Said::Told);
        }
        let later = now + Duration::from_secs(1);
        assert_eq!(rate.begin(&target("more"), later), Said::Refused(TYPING_ENDS_AFTER - Duration::from_secs(1)));
        assert_eq!(rate.end_all(|other| *other == target("3")), [target("3")]);
        assert_eq!(rate.end_all(|other| *other == target("3")), []);
        assert_eq!(rate.begin(&target("more"), now), Said::Refused(INTERVAL), "one has stopped");
        assert_eq!(rate.begin(&target("more"), now + TYPING_ENDS_AFTER), Said::Told);
        assert_eq!(rate.0.len(), 1);
    }
}
