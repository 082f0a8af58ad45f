//! What a session answers about rooms.

use bytes::Bytes;

use super::Session;
use super::requests::{ANSWERS_RETRY, Later};
use super::rooms::STORE_AWAY;
use crate::domain::{RoomId, RosterPage, Timestamp, UserId};
use crate::replica::ViewGuard;
use crate::rooms::Unseen;
use crate::wire::message::{ErrorCode, Message};

/// A question about a room.
pub(super) struct RoomQuestion {
    /// The room.
    pub(super) room: RoomId,
    /// What is asked.
    pub(super) what: AskedOfRoom,
    /// The client's mark for the request.
    pub(super) reference: Option<String>,
}

/// What is asked of a room.
pub(super) enum AskedOfRoom {
    /// Who is in it: up to `limit` users after `cursor`.
    Users { limit: usize, cursor: Option<UserId> },
    /// How many users are in it.
    Count,
}

impl Session {
    /// Whether the client may ask about rooms. Where members are registered, it must say who it is.
    pub(super) fn may_ask_of_rooms(&self) -> bool {
        self.registration.is_some() || self.is_subscribed && self.services.rooms.are_open()
    }

    /// Answers from the view, if the socket is in the room. Otherwise the question takes time, and is returned.
    pub(super) fn ask_of_room(&self, question: RoomQuestion) -> Option<Later> {
        let room = &question.room;
        let (sequence, n_online, answer) = {
            let view = self.services.replica.view();
            let Some(known) = view.rooms().known(room).filter(|_| self.is_in_room(room)) else {
                drop(view);
                return Some(Later::LookIntoRoom(question));
            };
            let page = |limit, cursor: Option<&UserId>| known.page(view.roster(), cursor, limit);
            let behind_since = view.rooms().behind_since(room);
            (view.sequence(), known.len(), self.answer_about_room(&view, &question, known.len(), page, behind_since))
        };
        if let Some(answer) = answer {
            self.attachment.send_in_room(room, sequence, answer);
            self.attachment.show_room_count(room, n_online);
        }
        None
    }

    /// Answers about a room in which the socket may not be.
    pub(super) async fn look_into_room(&self, question: RoomQuestion) {
        let RoomQuestion { room, reference, .. } = &question;
        let reference = reference.as_deref();
        let rooms = &self.services.rooms;
        // Who is in the room has been let in.
        if let Some(user) = self.user().filter(|_| !self.is_in_room(room)).cloned()
            && let Err(refusal) = self.admit(room, &user).await
        {
            return self.refuse_room(room, refusal, reference);
        }
        let look = match rooms.look(room).await {
            Ok(look) => look,
            Err(unseen) => return self.refuse_look(room, unseen, reference),
        };
        let answered = {
            let view = self.services.replica.view();
            look.at(&view).map(|sight| {
                let page = |limit, cursor: Option<&UserId>| sight.page(cursor, limit);
                let (n_online, unanswered_since) = (sight.count(), look.unanswered_since);
                (view.sequence(), n_online, self.answer_about_room(&view, &question, n_online, page, unanswered_since))
            })
        };
        match answered {
            Ok((sequence, n_online, Some(answer))) => {
                self.attachment.send_at(sequence, [answer]);
                self.attachment.show_room_count(room, n_online);
            }
            Ok((_, _, None)) => {}
            Err(unseen) => self.refuse_look(room, unseen, reference),
        }
    }

    /// The answer to a question about a room that shows `total` users. It is none if the client was told to wait.
    fn answer_about_room<'a>(
        &self,
        view: &ViewGuard<'_>,
        RoomQuestion { room, what, reference }: &RoomQuestion,
        total: usize,
        page: impl FnOnce(usize, Option<&UserId>) -> RosterPage<'a>,
        unanswered_since: Option<Timestamp>,
    ) -> Option<Bytes> {
        let reference = reference.as_deref();
        let mut standing = self.standing(view);
        standing.degraded = standing.degraded.or(unanswered_since);
        match what {
            AskedOfRoom::Count => {
                let count = Message::RoomCount { room, n_online: total, standing: Some(standing) };
                self.format.encode(&count, reference)
            }
            AskedOfRoom::Users { limit, cursor } => {
                let page = page(*limit, cursor.as_ref()).within(self.services.limits.page_bytes);
                let users = Message::RoomUsers { room, page: &page, total, standing };
                self.hold_large(self.format.encode(&users, reference)?, reference)
            }
        }
    }

    fn refuse_look(&self, room: &RoomId, unseen: Unseen, reference: Option<&str>) {
        match unseen {
            Unseen::Unavailable => self.refuse_in(room, ErrorCode::StoreUnavailable, STORE_AWAY, reference),
            Unseen::TooMany => self.refuse_for_now("too many rooms are being read; wait", ANSWERS_RETRY, reference),
        }
    }
}
