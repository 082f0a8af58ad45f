//! What a session does when its client asks for something.

use std::time::Duration;

use bytes::Bytes;

use super::close::End;
use super::limits::Verdict;
use super::{Services, Session};
use crate::clock;
use crate::domain::{OfflineReason, Profile, Timestamp, UserId};
use crate::node::Registration;
use crate::replica::View;
use crate::wire::message::{BadRequest, ClientMessage, ErrorCode, Message, Request, RequestLimits, Standing};

/// A join that may be carried out. It comes from a `join_user`, or from the URL.
pub(super) struct Join {
    pub(super) user: UserId,
    pub(super) profile: Option<Profile>,
    pub(super) reference: Option<String>,
}

/// About the size of a socket's first page while too many answers wait for their clients.
const SHORT_PAGE_BYTES: usize = 8 * 1024;

/// If a page was refused because too many answers wait, the client may ask again after this time.
const ANSWERS_RETRY: Duration = Duration::from_secs(1);

impl Session {
    /// Answers a text. A join takes time, so it is returned instead.
    pub(super) fn on_text(&mut self, text: &str) -> Result<Option<Join>, End> {
        let limits = &self.services.limits;
        let limits = RequestLimits { profile_bytes: limits.profile_bytes, page_max: limits.page_max };
        match self.format.parse(text, limits) {
            Ok(message) => self.answer(message),
            Err(BadRequest { code, message, reference }) => {
                self.refuse(code, &message, reference.as_deref());
                Ok(None)
            }
        }
    }

    fn answer(&mut self, message: ClientMessage) -> Result<Option<Join>, End> {
        let reference = message.reference.as_deref();
        if let Verdict::Refused(delay) = self.services.requests.check(&self.used, &message.request)? {
            self.services.metrics.too_many_requests();
            self.refuse_for_now("too many requests; wait", delay, reference);
            return Ok(None);
        }
        match (message.request, &self.registration) {
            (Request::Join { user, .. }, Some(joined)) if *joined.user() != user => {
                let what = format!("this socket has joined as {:?}; `leave` first", joined.user().as_str());
                self.refuse(ErrorCode::AlreadyJoined, &what, reference);
            }
            (Request::Join { user, profile }, _) => {
                return Ok(Some(Join { user, profile, reference: message.reference }));
            }
            (Request::Check { user }, _) => self.tell_status(&user, reference),
            (Request::List { limit, cursor }, Some(_)) => {
                let limit = limit.unwrap_or(self.services.limits.page_default);
                self.show_page(cursor.as_ref(), limit, reference);
            }
            (Request::Activity, Some(joined)) => {
                joined.heard();
                if reference.is_some() {
                    self.say(&Message::ActivityAck, reference);
                }
            }
            (Request::Leave, Some(_)) => self.leave(reference),
            (Request::List { .. } | Request::Activity | Request::Leave, None) => {
                self.refuse(ErrorCode::NotJoined, "`join_user` first", reference);
            }
        }
        Ok(None)
    }

    /// Makes the user present, or states their profile anew.
    pub(super) async fn join(&mut self, join: Join) {
        match &self.registration {
            None => self.come(join).await,
            Some(_) => self.state_profile(join).await,
        }
    }

    /// Makes the user present. Then it shows the user who else is present.
    async fn come(&mut self, Join { user, profile, reference }: Join) {
        let Services { table, replica, .. } = &*self.services;
        let known = replica.view().roster().get(&user).cloned();
        let max_sockets = self.services.limits.sockets_per_user;
        let Some((registration, confirmed)) = table.insert_within(max_sockets, &user, profile, known) else {
            self.services.metrics.too_many_sockets();
            let message = format!("{:?} has {max_sockets} sockets on this node", user.as_str());
            self.refuse(ErrorCode::TooManySockets, &message, reference.as_deref());
            return;
        };
        // If the session is cancelled or panics after this, the registration is dropped. That puts the socket in grace.
        self.registration = Some(registration);
        self.services.metrics.joined();
        self.heartbeat.joined();
        replica.arrived(&user, &table.presence(&user).unwrap_or_default());
        let asked_at = clock::now();
        let reflected = replica.reflects(async { confirmed.await.ok() }).await;
        if !reflected {
            // A client sees its own join, even if the store has not confirmed it.
            replica.arrived_unconfirmed(&user, &table.presence(&user).unwrap_or_default());
        }
        self.show(&user, (!reflected).then_some(asked_at), reference.as_deref());
    }

    /// A further `join_user` of the same user states the profile anew.
    async fn state_profile(&mut self, Join { user, profile, reference }: Join) {
        let Some(registration) = &self.registration else { return };
        let confirmed = registration.state_profile(profile);
        let asked_at = clock::now();
        let reflected = self.services.replica.reflects(async { confirmed.await.ok() }).await;
        self.show(&user, (!reflected).then_some(asked_at), reference.as_deref());
    }

    /// Sends `welcome` and the first page. The socket listens from there on. If `unconfirmed_since` is set, the store
    /// has not confirmed the join. So what is shown may be out of date.
    fn show(&mut self, user: &UserId, unconfirmed_since: Option<Timestamp>, reference: Option<&str>) {
        let Some(socket) = self.registration.as_ref().map(Registration::socket) else { return };
        let (sequence, frames) = {
            let view = self.services.replica.view();
            let mut standing = self.standing(&view);
            standing.degraded = standing.degraded.or(unconfirmed_since);
            let welcome = Message::Welcome { user, socket, n_online: view.roster().len(), standing };
            (view.sequence(), [self.format.encode(&welcome, reference), self.first_page(&view, standing)])
        };
        self.attachment.listen(user, sequence);
        self.attachment.send_at(sequence, frames.into_iter().flatten());
    }

    /// The socket missed events. The client is told to forget everything, and gets a fresh first page.
    pub(super) fn resync(&mut self) {
        let Some(user) = self.registration.as_ref().map(|joined| joined.user().clone()) else { return };
        let (sequence, list) = {
            let view = self.services.replica.view();
            (view.sequence(), self.first_page(&view, self.standing(&view)))
        };
        let frames = [self.format.encode(&Message::Resync, None), list];
        self.attachment.restart(&user, sequence, frames.into_iter().flatten());
    }

    /// The answer to `get_online_users`.
    fn show_page(&mut self, cursor: Option<&UserId>, limit: usize, reference: Option<&str>) {
        let (sequence, list) = {
            let view = self.services.replica.view();
            let page = view.roster().page(cursor, limit, None).within(self.services.limits.page_bytes);
            let list = Message::List { page: &page, total: view.roster().len(), standing: self.standing(&view) };
            (view.sequence(), self.format.encode(&list, reference))
        };
        let Some(list) = list else { return };
        match self.services.answers.hold(list) {
            Some(list) => self.attachment.send_at(sequence, [list]),
            None => self.refuse_for_now("too many clients have not read their answers; wait", ANSWERS_RETRY, reference),
        }
    }

    /// The list that the client gets without a request. It cannot be refused. So it is short if too many answers wait.
    fn first_page(&self, view: &View, standing: Standing) -> Option<Bytes> {
        let limits = &self.services.limits;
        let list = |max_bytes| {
            let page = view.roster().page(None, limits.page_default, None).within(max_bytes);
            self.format.encode(&Message::List { page: &page, total: view.roster().len(), standing }, None)
        };
        self.services.answers.hold(list(limits.page_bytes)?).or_else(|| list(SHORT_PAGE_BYTES))
    }

    fn tell_status(&self, user: &UserId, reference: Option<&str>) {
        let (sequence, frame) = {
            let view = self.services.replica.view();
            let presence = view.roster().get(user);
            let status = Message::Status { user, presence, standing: self.standing(&view) };
            (view.sequence(), self.format.encode(&status, reference))
        };
        self.attachment.send_at(sequence, frame);
    }

    fn leave(&mut self, reference: Option<&str>) {
        let Some(registration) = self.registration.take() else { return };
        self.attachment.mute();
        self.say(&Message::Left { user: registration.user() }, reference);
        registration.leave();
        self.services.metrics.left(OfflineReason::Left);
        self.heartbeat.left();
    }

    fn standing(&self, view: &View) -> Standing {
        Standing { position: view.position(), degraded: self.services.replica.degraded_since(view) }
    }

    /// Says that a request is not carried out.
    pub(super) fn refuse(&self, code: ErrorCode, message: &str, reference: Option<&str>) {
        self.say(&Message::Error { code, message, retry_after: None }, reference);
    }

    /// Says that a request is not carried out before `delay` is over.
    fn refuse_for_now(&self, message: &str, delay: Duration, reference: Option<&str>) {
        let retry_after = Some(delay);
        self.say(&Message::Error { code: ErrorCode::RateLimited, message, retry_after }, reference);
    }

    /// Tells this socket alone. If its format has no words for the message, nothing is sent.
    fn say(&self, message: &Message<'_>, reference: Option<&str>) {
        if let Some(frame) = self.format.encode(message, reference) {
            self.attachment.send(frame);
        }
    }
}
