//! What a client hears of others: whom it watches, and when it pauses.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::Session;
use super::requests::FirstPage;
use crate::clock;
use crate::domain::{Interest, LastSeen, OfflineReason, Presence, Told, UserId};
use crate::hub::{Mark, Missed, ShownRoom};
use crate::replica::View;
use crate::wire::message::{ErrorCode, Event, Message, MissedChange, Standing, WatchedUser};

/// How often the store is asked when users were last seen, for one request.
const LOOKUPS_MAX: usize = 3;

/// How many states a client is told in one turn of its session.
const OWED_CHUNK: usize = 64;

/// What becomes of a client that resumes.
enum CatchUp {
    /// The frames show what it has missed, as the view has it at `sequence`.
    Shown { sequence: u64, frames: [Option<Bytes>; 2], rooms: Vec<ShownRoom> },
    /// Too many answers wait for their clients. It has been told so, and stays paused.
    Refused,
    /// It has missed too much, or it is not known what.
    StartOver,
}

impl Session {
    /// Whether the client hears of others. It has joined, or has subscribed.
    pub(super) fn listens(&self) -> bool {
        self.registration.is_some() || self.is_subscribed
    }

    /// The user of the socket, if it has joined.
    pub(super) fn user(&self) -> Option<&UserId> {
        self.registration.as_ref().map(|joined| joined.user())
    }

    /// The client says what it wants to hear of others, if it does.
    pub(super) fn take_interest(&mut self, interest: Option<Interest>) {
        if let Some(interest) = interest {
            self.interest = interest;
            self.attachment.uncount();
        }
    }

    /// The first page, for a client that hears of everyone.
    pub(super) fn list_of_everyone(&self, view: &View, standing: Standing) -> Option<FirstPage> {
        if self.interest == Interest::Everyone { self.first_page(view, standing) } else { None }
    }

    /// The socket listens from `sequence` on, at which the caller has just read the view. The client is told there that
    /// `n_online` users are online, and perhaps the list. Returns the frame of that.
    pub(super) fn listen(&self, sequence: u64, n_online: usize, list: Option<FirstPage>) -> Option<Bytes> {
        self.attachment.listen(self.user(), self.interest, sequence);
        if self.interest == Interest::Count {
            self.attachment.count(n_online, sequence);
        } else {
            self.attachment.show_count(n_online);
        }
        let FirstPage { frame, is_whole } = list?;
        if is_whole {
            self.attachment.shown_list(sequence);
        }
        Some(frame)
    }

    /// The client wants to hear of others from now on, or of others than before.
    pub(super) fn subscribe(&mut self, interest: Interest, reference: Option<&str>) {
        self.take_interest(Some(interest));
        self.is_subscribed = true;
        self.named();
        let (sequence, n_online, subscribed, list, own, rooms) = {
            let view = self.services.replica.view();
            let (standing, n_online) = (self.standing(&view), view.roster().len());
            let shown_n_online = self.may_read().then_some(n_online);
            let subscribed = Message::Subscribed { interest, n_online: shown_n_online, standing };
            let subscribed = self.format.encode(&subscribed, reference);
            let list = self.list_of_everyone(&view, standing);
            // The client may have missed a change of its own status.
            let own = self.own_status(&view, standing);
            (view.sequence(), n_online, subscribed, list, own, self.missed_rooms(&view))
        };
        let list = self.listen(sequence, n_online, list);
        self.attachment.send_at(sequence, [subscribed, list, own].into_iter().flatten());
        self.hear_rooms(rooms, sequence);
    }

    /// The client wants to hear of these users, and of nobody else. It is shown how they are.
    pub(super) async fn watch(&mut self, users: &[UserId], reference: Option<&str>) {
        if self.refuses_watches(users, reference) {
            return;
        }
        let last_seen = self.last_seen_of_absent(users).await;
        // Other sockets may have begun to watch meanwhile.
        if self.refuses_watches(users, reference) {
            return;
        }
        let (sequence, frame, marks) = {
            let view = self.services.replica.view();
            let watched = |user| {
                let presence = view.roster().get(user);
                let last_seen = presence.is_none().then(|| last_seen.get(user).copied()).flatten();
                WatchedUser { user, presence, last_seen }
            };
            let watched: Vec<_> = users.iter().map(watched).collect();
            let watching = Message::Watching { users: &watched, standing: self.standing(&view) };
            let marks: Vec<_> = watched.iter().map(|watched| Mark::of(watched.presence)).collect();
            (view.sequence(), self.format.encode(&watching, reference), marks)
        };
        let Some(frame) = frame else { return };
        let Some(frame) = self.hold_large(frame, reference) else { return };
        self.interest = Interest::Watched;
        self.attachment.watch(users.iter().cloned().zip(marks), sequence);
        self.attachment.send_at(sequence, [frame]);
    }

    /// Says that the socket cannot watch these users as well, if it cannot.
    fn refuses_watches(&self, users: &[UserId], reference: Option<&str>) -> bool {
        let limits = &self.services.limits;
        let (n_watched, n_new) = self.attachment.n_watched_and_new(users);
        let message = if n_watched + n_new > limits.watches_per_socket {
            format!("a socket can watch {} users", limits.watches_per_socket)
        } else if self.attachment.n_watches_of_all() + n_new > limits.watches {
            "this node cannot watch more users".to_owned()
        } else {
            return false;
        };
        self.refuse(ErrorCode::TooManyWatches, &message, reference);
        true
    }

    /// When those of the users who are not online were last seen, as far as that is known. Somebody may go while the store
    /// is asked about others.
    async fn last_seen_of_absent(&self, users: &[UserId]) -> HashMap<UserId, LastSeen> {
        let (mut known, mut asked) = (HashMap::new(), HashSet::new());
        for _ in 0..LOOKUPS_MAX {
            let absent: Vec<UserId> = {
                let view = self.services.replica.view();
                let is_absent = |user: &&UserId| !view.roster().contains(user) && !asked.contains(*user);
                users.iter().filter(is_absent).cloned().collect()
            };
            if absent.is_empty() {
                break;
            }
            let last_seen = self.services.replica.last_seen(&absent).await.unwrap_or_default();
            asked.extend(absent.iter().cloned());
            known.extend(absent.into_iter().zip(last_seen).filter_map(|(user, seen)| Some((user, seen?))));
        }
        known
    }

    /// The client does not want to hear of these users any more.
    pub(super) fn unwatch(&mut self, users: &[UserId], reference: Option<&str>) {
        self.attachment.unwatch(users);
        self.say(&Message::Unwatched { users }, reference);
    }

    /// The client wants to hear how many users are online.
    pub(super) fn watch_count(&mut self, reference: Option<&str>) {
        let (sequence, n_online, frame) = {
            let view = self.services.replica.view();
            let (standing, n_online) = (Some(self.standing(&view)), view.roster().len());
            (view.sequence(), n_online, self.format.encode(&Message::Count { n_online, standing }, reference))
        };
        self.attachment.count(n_online, sequence);
        self.attachment.send_at(sequence, frame);
    }

    /// The client does not want to hear any more how many users are online.
    pub(super) fn unwatch_count(&mut self, reference: Option<&str>) {
        if self.interest == Interest::Count {
            self.interest = Interest::Nobody;
        }
        self.attachment.uncount();
        self.say(&Message::CountUnwatched, reference);
    }

    /// The client hears nothing until it resumes.
    pub(super) fn pause(&mut self, reference: Option<&str>) {
        self.attachment.pause();
        self.say(&Message::Paused, reference);
    }

    /// The client is told what it missed, and hears again.
    pub(super) fn resume(&mut self, reference: Option<&str>) {
        if !self.attachment.is_paused() {
            let standing = self.standing(&self.services.replica.view());
            self.say(&Message::Resumed { changes: &[], standing }, reference);
            return;
        }
        match self.catch_up(reference) {
            CatchUp::Shown { sequence, frames, rooms } => {
                // If the number of users is another one now, the hub tells it.
                self.attachment.listen(self.user(), self.interest, sequence);
                self.attachment.send_at(sequence, frames.into_iter().flatten());
                self.hear_rooms(rooms, sequence);
            }
            CatchUp::Refused => {}
            CatchUp::StartOver => {
                // The answer comes first: a client may wait for it.
                let standing = self.standing(&self.services.replica.view());
                self.say(&Message::Resumed { changes: &[], standing }, reference);
                self.attachment.resume_with_hole();
            }
        }
    }

    /// Shows a paused client what it has missed.
    fn catch_up(&self, reference: Option<&str>) -> CatchUp {
        let view = self.services.replica.view();
        let limits = &self.services.limits;
        let now = |user: &UserId| Mark::of(view.roster().get(user));
        let Missed::Changes(users) = self.attachment.missed(view.sequence(), limits.page_default, now) else {
            return CatchUp::StartOver;
        };
        let changes: Vec<_> = users
            .iter()
            .map(|(user, was_online)| MissedChange { user, was_online: *was_online, presence: view.roster().get(user) })
            // A client does not hear of its own user, nor of somebody who came and went.
            .filter(|missed| Some(missed.user) != self.user() && (missed.was_online || missed.presence.is_some()))
            .collect();
        let standing = self.standing(&view);
        let resumed = self.format.encode(&Message::Resumed { changes: &changes, standing }, reference);
        let Some(resumed) = resumed.and_then(|resumed| self.hold_large(resumed, reference)) else {
            return CatchUp::Refused;
        };
        self.attachment.settle_watches(view.sequence(), usize::MAX, |user, _| now(user));
        let frames = [Some(resumed), self.own_status(&view, standing)];
        CatchUp::Shown { sequence: view.sequence(), frames, rooms: self.missed_rooms(&view) }
    }

    /// Tells some of the states that could not be told when they changed.
    pub(super) fn tell_owed_states(&mut self) {
        let (sequence, frames) = {
            let view = self.services.replica.view();
            let mut frames = Vec::new();
            self.attachment.settle_watches(view.sequence(), OWED_CHUNK, |user, told| {
                let presence = view.roster().get(user);
                let mark = Mark::of(presence);
                if mark != told && self.user() != Some(user) {
                    frames.extend(self.event_that_fills_a_gap(&view, user, presence, told, mark));
                }
                mark
            });
            (view.sequence(), frames)
        };
        self.attachment.send_at(sequence, frames);
    }

    /// What a client has to be told that knows the user as `told` says. The user is as `mark` says.
    fn event_that_fills_a_gap(
        &self,
        view: &View,
        user: &UserId,
        presence: Option<&Presence>,
        told: Mark,
        mark: Mark,
    ) -> Option<Bytes> {
        let what = match presence {
            None => Told::Offline(OfflineReason::Unknown.into()),
            Some(presence) if !told.is_online() => Told::Online(presence.clone()),
            Some(presence) if mark.has_other_status(told) => Told::StatusChanged(presence.clone()),
            Some(presence) => Told::ProfileChanged(presence.clone()),
        };
        let position = view.position();
        let (epoch, revision, at) = (position.epoch, Some(position.revision), clock::now());
        let event = Event { user, what: &what, epoch, revision, catch_up: true, at };
        self.format.encode(&Message::Event(event), None)
    }
}
