//! How a socket joins, and what it is shown then.

use bytes::Bytes;

use super::{Services, Session};
use crate::clock;
use crate::domain::{Interest, Position, Presence, Profile, ProfileError, Said, Timestamp, UserId};
use crate::node::Arrival;
use crate::replica::View;
use crate::wire::Format;
use crate::wire::message::{ErrorCode, Event, Message, Standing};

/// A join that may be carried out. It comes from a `join_user`, or from the URL.
pub(super) struct Join {
    /// The user.
    pub(super) user: UserId,
    /// What the client says of the user and of itself.
    pub(super) arrival: Arrival,
    /// What the client wants to hear of others, if it says so.
    pub(super) interest: Option<Interest>,
    /// The client's mark for the request.
    pub(super) reference: Option<String>,
    /// Whether the welcome is the answer. Otherwise something else is, which follows.
    pub(super) is_welcomed: bool,
}

impl Session {
    /// Makes the user present, or states something new about the user. What the client's token states of the user lies over
    /// what the client says.
    pub(super) async fn join(&mut self, mut join: Join) {
        if let Err(error) = self.state_as_the_token(&join.user, &mut join.arrival.said) {
            return self.refuse_join(ErrorCode::InvalidField, &error.to_string(), None, join.reference.as_deref());
        }
        if !self.may_read() {
            self.interest = Interest::Nobody;
        }
        match &self.registration {
            None => self.come(join).await,
            Some(_) => self.join_again(join).await,
        }
    }

    /// States something new about the user of a socket that has joined, if the client says something. If that is refused, the
    /// client has been told so, and the answer is no.
    pub(super) async fn state_anew(&self, user: &UserId, mut said: Said, reference: Option<&str>) -> bool {
        if said == Said::default() {
            return true;
        }
        if let Err(error) = self.state_as_the_token(user, &mut said) {
            self.refuse(ErrorCode::InvalidField, &error.to_string(), reference);
            return false;
        }
        self.tell_the_store(said).await;
        true
    }

    /// If the client says nothing of the profile, what is known of it stays beside what the token states.
    fn state_as_the_token(&self, user: &UserId, said: &mut Said) -> Result<(), ProfileError> {
        let Some(identity) = self.identity.as_ref().filter(|identity| !identity.stated().is_empty()) else {
            return Ok(());
        };
        let known = match &said.profile {
            Some(profile) => profile.clone(),
            None => self.own_presence(&self.services.replica.view(), user).profile,
        };
        let fields = identity.stated().clone().applied_to(known.as_ref());
        said.profile = Some(Profile::within(&fields, self.profile_limits())?);
        Ok(())
    }

    /// Makes the user present. Then it shows the user who else is present.
    async fn come(&mut self, Join { user, mut arrival, interest, reference, is_welcomed }: Join) {
        let (rooms, mut entering) = self.admit_each(&user, std::mem::take(&mut arrival.rooms)).await;
        // The rooms are inserted together with the socket. So the writer takes them together.
        arrival.rooms.clone_from(&rooms);
        let Services { table, replica, .. } = &*self.services;
        let known = replica.last_known(&user);
        let max_sockets = self.services.limits.sockets_per_user;
        let Some((registration, confirmed)) = table.insert_within(max_sockets, &user, arrival, known) else {
            self.services.metrics.too_many_sockets();
            let message = format!("{:?} has {max_sockets} sockets on this node", user.as_str());
            self.refuse_join(ErrorCode::TooManySockets, &message, None, reference.as_deref());
            return;
        };
        // If the session is cancelled or panics after this, the registration is dropped. That puts the socket in grace.
        self.registration = Some(registration);
        self.ask_for_first(rooms, &mut entering);
        self.attachment.begin_as(&user);
        if let Some(interest) = interest {
            self.interest = interest;
            self.attachment.uncount();
        }
        self.services.metrics.joined();
        self.named();
        let Services { table, replica, .. } = &*self.services;
        let presence = table.presence(&user).unwrap_or_default();
        replica.arrived(&user, &presence);
        replica.stated(&user, &presence);
        let asked_at = clock::now();
        let reflected = replica.reflects(async { confirmed.await.ok() }).await;
        if !reflected && table.wants(&user) {
            // A client sees its own join, even if the store has not confirmed it.
            replica.arrived_unconfirmed(&user, &table.presence(&user).unwrap_or_default());
        }
        let reference = reference.as_deref().filter(|_| is_welcomed);
        self.show(&user, (!reflected).then_some(asked_at), reference);
        self.enter_each(&user, entering).await;
    }

    /// A further `join_user` of the same user states something new, and enters further rooms. The device stays: it belongs to
    /// the socket.
    async fn join_again(&mut self, Join { user, arrival, interest, reference, .. }: Join) {
        self.take_interest(interest);
        let asked_at = clock::now();
        let (rooms, mut entering) = self.admit_each(&user, arrival.rooms).await;
        self.ask_for_each(rooms, &mut entering);
        let reflected = self.tell_the_store(arrival.said).await;
        self.show(&user, (!reflected).then_some(asked_at), reference.as_deref());
        self.enter_each(&user, entering).await;
    }

    /// States something about the user. Returns whether the view reflects it.
    pub(super) async fn tell_the_store(&self, said: Said) -> bool {
        let Some(registration) = &self.registration else { return false };
        let Services { table, replica, .. } = &*self.services;
        let confirmed = registration.say(said);
        replica.stated(registration.user(), &table.presence(registration.user()).unwrap_or_default());
        let reflected = replica.reflects(async { confirmed.await.ok() }).await;
        if !reflected && let Some(presence) = table.presence(registration.user()) {
            replica.stated_unconfirmed(registration.user(), &presence);
        }
        reflected
    }

    /// Sends `welcome`, and the first page if the client wants to hear of everyone. The socket listens from there on. If
    /// `unconfirmed_since` is set, the store has not confirmed the join. So what is shown may be out of date.
    fn show(&mut self, user: &UserId, unconfirmed_since: Option<Timestamp>, reference: Option<&str>) {
        let Some(joined) = &self.registration else { return };
        let socket = joined.socket();
        let (sequence, n_online, welcome, list, rooms) = {
            let view = self.services.replica.view();
            let mut standing = self.standing(&view);
            standing.degraded = standing.degraded.or(unconfirmed_since);
            let own = self.own_presence(&view, user);
            let n_online = view.roster().len();
            let shown_n_online = self.may_read().then_some(n_online);
            let welcome = Message::Welcome { user, socket, n_online: shown_n_online, own: &own, standing };
            let welcome = self.format.encode(&welcome, reference);
            (view.sequence(), n_online, welcome, self.list_of_everyone(&view, standing), self.missed_rooms(&view))
        };
        self.attachment.set_number(socket.number);
        let list = self.listen(sequence, n_online, list);
        self.attachment.send_at(sequence, [welcome, list].into_iter().flatten());
        self.hear_rooms(rooms, sequence);
        // The server may have closed the sockets of the user before the hub knew that this is one of them.
        if !joined.is_wanted() {
            self.attachment.dismiss();
        }
    }

    /// The socket missed events. The client is told to forget everything. It gets a fresh first page, if it hears of everyone,
    /// and each of its rooms.
    pub(super) fn resync(&mut self) {
        self.tell_removed();
        let (sequence, list, own, rooms) = {
            let view = self.services.replica.view();
            let standing = self.standing(&view);
            let list = self.list_of_everyone(&view, standing);
            (view.sequence(), list, self.own_status(&view, standing), self.all_rooms(&view))
        };
        let is_whole = list.as_ref().is_some_and(|list| list.is_whole);
        let frames = [self.format.encode(&Message::Resync, None), list.map(|list| list.frame), own];
        self.attachment.restart(self.interest, sequence, frames.into_iter().flatten(), rooms);
        if is_whole {
            self.attachment.shown_list(sequence);
        }
    }

    /// The status of the socket's own user, for a client that may have missed a change of it. Clients of S1 are told it as a
    /// change, for they know no answer of this kind.
    pub(super) fn own_status(&self, view: &View, standing: Standing) -> Option<Bytes> {
        let user = self.user()?;
        let own = self.own_presence(view, user);
        let Position { epoch, revision } = view.position();
        let message = match self.format {
            Format::SocketioStatus => {
                let (revision, at) = (Some(revision), clock::now());
                Message::OwnEvent(Event { user, what: &own, epoch, revision, catch_up: true, at })
            }
            Format::Native | Format::Plain | Format::Socketio | Format::SocketioRoom => {
                Message::OwnStatus { own: &own, standing }
            }
        };
        self.format.encode(&message, None)
    }

    /// The data of the socket's own user. Of a part that the view cannot have yet, this is what the node asserts.
    pub(super) fn own_presence(&self, view: &View, user: &UserId) -> Presence {
        let asserted = self.services.table.presence(user).unwrap_or_default().as_asserted();
        view.roster().get_even_hidden(user).map_or_else(|| asserted.clone(), |told| asserted.merged_with(told))
    }
}
