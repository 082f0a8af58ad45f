//! What a session does for the rooms of its socket.

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::sync::oneshot;

use super::identity::words;
use super::join::Join;
use super::requests::SHORT_PAGE_BYTES;
use super::{Services, Session};
use crate::auth::permissions::{self, Entry};
use crate::auth::{self, Right};
use crate::clock;
use crate::domain::{Interest, RoomId, RosterPage, Said, Timestamp, UserId};
use crate::hub::ShownRoom;
use crate::node::{Arrival, EnteredAt, Registration, TooManyRooms};
use crate::replica::ViewGuard;
use crate::rooms::Denied;
use crate::wire::Format;
use crate::wire::message::{ErrorCode, Message, Standing};

/// The rooms that a socket enters with the service.
#[derive(Default)]
pub(super) struct Entering {
    /// The rooms that the store is asked for.
    asked: Vec<Asked>,
    /// The rooms that are refused.
    refused: Vec<(RoomId, Refusal)>,
}

/// A room that a socket enters.
struct Asked {
    room: RoomId,
    /// What the store answers.
    confirmed: oneshot::Receiver<EnteredAt>,
    /// Whether the socket was in the room before the request.
    was_in: bool,
}

/// Why a socket does not enter a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The user may not.
    Denied(Denied),
    /// The client's token does not let it in.
    Forbidden(auth::Refusal),
    /// The socket is in as many rooms as it may be in.
    TooMany,
}

/// How many rooms of one join are looked up at the same time. The pool of connections is for everybody (`redis.pool_size`).
const LOOKUPS_AT_ONCE: usize = 4;

/// How a room is shown.
struct Show<'a> {
    room: &'a RoomId,
    interest: Interest,
    /// If the store has not confirmed that the socket is in the room, when it was asked.
    unconfirmed_since: Option<Timestamp>,
    /// About the most bytes of a page.
    max_bytes: usize,
    reference: Option<&'a str>,
}

/// Rooms that one enters and leaves.
impl Session {
    /// Puts the socket into a room, and shows the room. If the socket is in it already, it may hear something else of it from
    /// now on.
    pub(super) async fn join_room(&mut self, room: &RoomId, interest: Interest, reference: Option<&str>) {
        let Some(joined) = &self.registration else { return };
        let user = joined.user();
        let replica = &self.services.replica;
        if let Err(refusal) = self.admit(room, user).await {
            return self.refuse_room(room, refusal, reference);
        }
        let asked_at = clock::now();
        let Asked { confirmed, was_in, .. } = match self.ask_for(joined, room) {
            Ok(asked) => asked,
            Err(refusal) => return self.refuse_room(room, refusal, reference),
        };
        let is_confirmed = replica.enter_room(room, user, confirmed).await;
        // The user may have been taken out of the register before the socket was in the room. Then nobody has removed it.
        if !was_in && let Err(refusal) = self.admit(room, user).await {
            self.withdraw_from(room);
            return self.refuse_room(room, refusal, reference);
        }
        let unconfirmed_since = (!is_confirmed).then_some(asked_at);
        let max_bytes = self.services.limits.page_bytes;
        self.show_room(&Show { room, interest, unconfirmed_since, max_bytes, reference });
    }

    /// Makes the user present, or states something new about the user. Then it puts the socket into a room. The room is the
    /// answer. If the user cannot be present, or what is stated is refused, that is said instead.
    pub(super) async fn enter_room(&mut self, user: UserId, said: Said, room: &RoomId, reference: Option<String>) {
        let is_taken = if self.registration.is_some() {
            self.state_anew(&user, said, reference.as_deref()).await
        } else {
            let arrival = Arrival { said, ..Arrival::default() };
            let (interest, reference) = (Some(Interest::Nobody), reference.clone());
            self.join(Join { user, arrival, interest, reference, is_welcomed: false }).await;
            self.registration.is_some()
        };
        if is_taken {
            self.join_room(room, Interest::Everyone, reference.as_deref()).await;
        }
    }

    /// Takes the socket out of a room.
    pub(super) fn leave_room(&mut self, room: &RoomId, reference: Option<&str>) {
        self.tell_removed();
        if self.is_in_room(room) {
            self.stop_typing_in(room);
            self.withdraw_from(room);
            self.say(&Message::RoomLeft { room, is_removed: false }, reference);
        } else {
            self.refuse_in(room, ErrorCode::NotInRoom, "this socket is not in the room", reference);
        }
    }

    /// Splits the rooms of a join into those that the user may enter, and the others.
    pub(super) async fn admit_each(&self, user: &UserId, rooms: Vec<RoomId>) -> (Vec<RoomId>, Entering) {
        let (mut allowed, mut entering) = (Vec::new(), Entering::default());
        if !self.may_read() {
            // Of a room that is entered with the service, the client hears everything.
            let refusal = Refusal::Forbidden(auth::Refusal::Forbidden(Right::Read));
            entering.refused.extend(rooms.into_iter().map(|room| (room, refusal)));
            return (allowed, entering);
        }
        let admitted = self.admit_all(&rooms, user).await;
        for (room, admitted) in rooms.into_iter().zip(admitted) {
            match admitted {
                Ok(()) => allowed.push(room),
                Err(refusal) => entering.refused.push((room, refusal)),
            }
        }
        (allowed, entering)
    }

    async fn admit_all(&self, rooms: &[RoomId], user: &UserId) -> Vec<Result<(), Refusal>> {
        let admitted = rooms.iter().map(|room| self.admit(room, user));
        stream::iter(admitted).buffered(LOOKUPS_AT_ONCE).collect().await
    }

    /// Lets the user into a room, if the client's token names it. If the token names no rooms, `rooms.access` decides.
    pub(super) async fn admit(&self, room: &RoomId, user: &UserId) -> Result<(), Refusal> {
        match permissions::may_enter(self.identity.as_deref(), room).map_err(Refusal::Forbidden)? {
            Entry::Granted => Ok(()),
            Entry::ByRule => self.services.rooms.admit(room, user).await.map_err(Refusal::Denied),
        }
    }

    /// Asks for the rooms that were inserted together with the socket. It was in none of them before.
    pub(super) fn ask_for_first(&self, rooms: Vec<RoomId>, entering: &mut Entering) {
        self.ask_for_each(rooms, entering);
        entering.asked.iter_mut().for_each(|asked| asked.was_in = false);
    }

    /// Asks for these rooms. The socket has joined before.
    pub(super) fn ask_for_each(&self, rooms: Vec<RoomId>, entering: &mut Entering) {
        let Some(joined) = &self.registration else { return };
        for room in rooms {
            match self.ask_for(joined, &room) {
                Ok(asked) => entering.asked.push(asked),
                Err(refusal) => entering.refused.push((room, refusal)),
            }
        }
    }

    /// Shows the rooms that the socket enters with the service, and says which it does not enter.
    pub(super) async fn enter_each(&self, user: &UserId, Entering { asked, mut refused }: Entering) {
        let Services { replica, limits, .. } = &*self.services;
        let asked_at = clock::now();
        let entering = asked.into_iter().map(|Asked { room, confirmed, was_in }| async move {
            let is_confirmed = replica.enter_room(&room, user, confirmed).await;
            (room, was_in, (!is_confirmed).then_some(asked_at))
        });
        let entered = join_all(entering).await;
        // As in `join_room`.
        let fresh: Vec<_> = entered.iter().filter(|(_, was_in, _)| !was_in).map(|(room, ..)| room.clone()).collect();
        let admitted = self.admit_all(&fresh, user).await;
        for (room, refusal) in fresh.into_iter().zip(admitted).filter_map(|(room, it)| Some((room, it.err()?))) {
            self.withdraw_from(&room);
            refused.push((room, refusal));
        }
        for (room, refusal) in &refused {
            self.refuse_room(room, *refusal, None);
        }
        // All rooms of one request together are about as large as a page.
        let max_bytes = limits.page_bytes / entered.len().max(1);
        for (room, _, unconfirmed_since) in entered {
            if !refused.iter().any(|(other, _)| *other == room) {
                let interest = Interest::Everyone;
                self.show_room(&Show { room: &room, interest, unconfirmed_since, max_bytes, reference: None });
            }
        }
    }

    /// Says which rooms the server made the user leave.
    pub(super) fn tell_removed(&self) {
        for room in self.attachment.take_removed() {
            self.say(&Message::RoomLeft { room: &room, is_removed: true }, None);
        }
    }

    fn ask_for(&self, joined: &Registration, room: &RoomId) -> Result<Asked, Refusal> {
        let was_in = joined.is_in_room(room);
        let max = self.services.limits.rooms_per_socket;
        let confirmed = joined.join_room(max, room).map_err(|TooManyRooms| Refusal::TooMany)?;
        Ok(Asked { room: room.clone(), confirmed, was_in })
    }

    fn withdraw_from(&self, room: &RoomId) {
        if let Some(registration) = &self.registration {
            registration.leave_room(room);
        }
        self.attachment.leave_room(room);
    }

    pub(super) fn is_in_room(&self, room: &RoomId) -> bool {
        self.registration.as_ref().is_some_and(|joined| joined.is_in_room(room))
    }

    fn hears_room(&self, room: &RoomId) -> bool {
        self.attachment.rooms().iter().any(|(heard, _)| heard == room)
    }

    pub(super) fn refuse_room(&self, room: &RoomId, refusal: Refusal, reference: Option<&str>) {
        let (code, message) = match refusal {
            Refusal::TooMany => {
                let message = format!("a socket can be in {} rooms", self.services.limits.rooms_per_socket);
                return self.refuse_in(room, ErrorCode::TooManyRooms, &message, reference);
            }
            Refusal::Forbidden(refusal) => words(refusal),
            Refusal::Denied(Denied::NoSuchRoom) => (ErrorCode::RoomNotFound, "Chat room not found"),
            Refusal::Denied(Denied::NotMember) => (ErrorCode::NotAMember, "Not a member of this chat room"),
            Refusal::Denied(Denied::Unavailable) => (ErrorCode::StoreUnavailable, STORE_AWAY),
        };
        self.refuse_in(room, code, message, reference);
    }

    pub(super) fn refuse_in(&self, room: &RoomId, code: ErrorCode, message: &str, reference: Option<&str>) {
        self.say(&Message::Error { code, message, retry_after: None, room: Some(room) }, reference);
    }
}

/// What is said if the store does not answer and is needed.
pub(super) const STORE_AWAY: &str = "the store cannot be reached; try again";

/// How rooms are shown to the socket.
impl Session {
    /// Shows a room. From there on the socket hears of it.
    fn show_room(&self, show: &Show<'_>) {
        let room = show.room;
        // The removal from an earlier stay is told before this one begins.
        self.tell_removed();
        if !self.is_in_room(room) {
            // The server made the user leave while the socket entered.
            self.attachment.leave_room(room);
            return self.say(&Message::RoomLeft { room, is_removed: true }, show.reference);
        }
        let (sequence, shown) = {
            let view = self.services.replica.view();
            (view.sequence(), self.shown(&view, show))
        };
        self.attachment.hear_room(shown, sequence);
        if !self.is_in_room(room) {
            // The server made the user leave before the hub knew that this socket hears of the room.
            self.tell_removed();
            if self.hears_room(room) {
                self.attachment.leave_room(room);
                self.say(&Message::RoomLeft { room, is_removed: true }, None);
            }
        }
    }

    /// Every room of the socket as it is now, for a client that starts over.
    pub(super) fn all_rooms(&self, view: &ViewGuard<'_>) -> Vec<ShownRoom> {
        self.each_room(view, |_, _| true)
    }

    /// Every room of a paused socket, for a client that goes on. Those that have told something meanwhile are shown again. If
    /// the number of users is another one where the client hears that, the hub tells it.
    pub(super) fn missed_rooms(&self, view: &ViewGuard<'_>) -> Vec<ShownRoom> {
        let Some(paused_at) = self.attachment.paused_at() else { return Vec::new() };
        let has_told = |room: &RoomId| view.rooms().get(room).is_none_or(|known| known.last_told() > paused_at);
        self.each_room(view, |room, interest| interest == Interest::Everyone && has_told(room))
    }

    /// Every room of the socket. Those for which `is_shown` holds are shown as they are now. All of them together are about as
    /// large as a page.
    fn each_room(&self, view: &ViewGuard<'_>, is_shown: impl Fn(&RoomId, Interest) -> bool) -> Vec<ShownRoom> {
        let rooms = self.attachment.rooms();
        let max_bytes = self.services.limits.page_bytes / rooms.len().max(1);
        let shown = rooms.iter().map(|(room, interest)| {
            let show = Show { room, interest: *interest, unconfirmed_since: None, max_bytes, reference: None };
            if is_shown(room, *interest) { self.shown(view, &show) } else { unchanged(view, &show) }
        });
        shown.collect()
    }

    /// The socket hears of these rooms from `sequence` on, at which they were shown.
    pub(super) fn hear_rooms(&self, rooms: Vec<ShownRoom>, sequence: u64) {
        rooms.into_iter().for_each(|room| self.attachment.hear_room(room, sequence));
    }

    /// A room as it is now. Nobody asked for its size. So the page is short if too many answers wait for their clients. A client
    /// that is told the whole room each time gets no part of it, but the number alone.
    fn shown(&self, view: &ViewGuard<'_>, show: &Show<'_>) -> ShownRoom {
        let Show { room, interest, unconfirmed_since, max_bytes, reference } = *show;
        let known = view.rooms().get(room);
        let n_online = known.map_or(0, |known| known.len());
        let standing = self.standing_in(view, room, unconfirmed_since);
        let page = |limit, max_bytes| {
            let none = RosterPage { users: Vec::new(), next_cursor: None };
            known.map_or(none, |known| known.page(view.roster(), None, limit)).within(max_bytes)
        };
        let frame = |page: Option<&RosterPage<'_>>| {
            let total = self.may_read().then_some(n_online);
            self.format.encode(&Message::RoomJoined { room, page, total, standing }, reference)
        };
        let hold = |frame| self.services.answers.hold(frame);
        let page_default = self.services.limits.page_default;
        let (frame, is_whole) = match interest {
            Interest::Everyone if self.format == Format::SocketioRoom => {
                let is_listed = n_online <= self.services.socketio.room_list_below;
                let whole = is_listed.then(|| page(n_online, max_bytes)).filter(|page| page.next_cursor.is_none());
                let whole = whole.and_then(|whole| frame(Some(&whole))).and_then(hold);
                let is_whole = whole.is_some() || !is_listed;
                (whole.or_else(|| frame(None)), is_whole)
            }
            Interest::Everyone => {
                let held = frame(Some(&page(page_default, max_bytes))).and_then(hold);
                let frame = held.or_else(|| frame(Some(&page(page_default, max_bytes.min(SHORT_PAGE_BYTES)))));
                (frame, false)
            }
            Interest::Watched | Interest::Count | Interest::Nobody => (frame(None), false),
        };
        ShownRoom { room: room.clone(), interest, n_online, frame, is_whole }
    }

    /// How far a client can trust what is said of a room. Before the node has read who is in the room, it does not know.
    fn standing_in(&self, view: &ViewGuard<'_>, room: &RoomId, unconfirmed_since: Option<Timestamp>) -> Standing {
        let mut standing = self.standing(view);
        let is_known = view.rooms().get(room).is_some_and(|known| known.is_known());
        let unknown_since = (!is_known).then(clock::now);
        let behind_since = view.rooms().behind_since(room);
        standing.degraded = standing.degraded.or(unconfirmed_since).or(unknown_since).or(behind_since);
        standing
    }
}

/// A room that the client knows, except for the number of users.
fn unchanged(view: &ViewGuard<'_>, show: &Show<'_>) -> ShownRoom {
    let n_online = view.rooms().get(show.room).map_or(0, |known| known.len());
    ShownRoom { room: show.room.clone(), interest: show.interest, n_online, frame: None, is_whole: false }
}
