//! Who the client of a session is, and what it may ask for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Session;
use super::close::End;
use super::join::Join;
use crate::auth::permissions::{self, Place};
use crate::auth::{Credential, Fault, Identity, Refusal, Right, Unidentified, Who};
use crate::domain::{RoomId, TypingTarget, UserId};
use crate::node::Arrival;
use crate::wire::Joins;
use crate::wire::message::{ErrorCode, Message, Request, Token};

impl Session {
    /// Whether the client may make the request. If it may not, it has been told so.
    pub(super) fn may(&self, request: &Request, reference: Option<&str>) -> bool {
        let room = room_of(request);
        let place = Place {
            is_joined: self.registration.is_some(),
            is_in_room: room.is_some_and(|room| self.is_in_room(room)),
        };
        match permissions::check_request(self.identity.as_deref(), request, place) {
            Ok(()) => true,
            Err(refusal) => {
                if request.joins() {
                    self.refuse_join_as(refusal, reference);
                } else {
                    let (code, message) = words(refusal);
                    self.say(&Message::Error { code, message, retry_after: None, room }, reference);
                }
                false
            }
        }
    }

    /// The user that the client joins as. If it may join as nobody, it has been told so.
    pub(super) fn user_to_join(&self, named: Option<UserId>, reference: Option<&str>) -> Option<UserId> {
        match permissions::user_for(self.identity.as_deref(), named) {
            Ok(Some(user)) => return Some(user),
            Ok(None) => self.refuse_join(ErrorCode::MissingField, "`userId` is missing", None, reference),
            Err(refusal) => self.refuse_join_as(refusal, reference),
        }
        None
    }

    /// Says why the user does not become present, and when another try may help. A client that joins by saying who it is waits
    /// for the answer to that.
    pub(super) fn refuse_join(
        &self,
        code: ErrorCode,
        message: &str,
        retry_after: Option<Duration>,
        reference: Option<&str>,
    ) {
        let refusal = match self.format.joins() {
            Joins::ByAuthenticating => Message::NotAuthenticated { code, message, retry_after },
            Joins::ByRequest | Joins::AfterAuthenticating => Message::Error { code, message, retry_after, room: None },
        };
        self.say(&refusal, reference);
    }

    fn refuse_join_as(&self, refusal: Refusal, reference: Option<&str>) {
        let (code, message) = words(refusal);
        self.refuse_join(code, message, None, reference);
    }

    /// Whether a client that names nobody in its URL may stay, because a message can still make it join.
    pub(super) fn can_still_join(&self) -> bool {
        self.format.joins() != Joins::AfterAuthenticating || self.identity.is_none()
    }

    /// How a session ends whose client has not joined in time.
    pub(super) fn end_without_join(&self) -> End {
        self.services.metrics.not_joined();
        // A page connects with Socket.IO before its user has logged in. So it has to come back by itself.
        if self.identity.is_some() || self.format.is_socketio() { End::NotJoined } else { End::Unauthenticated }
    }

    /// Who the client is from now on. What it has asked for before stays: it leaves no room, and hears what it has heard.
    pub(super) fn take_identity(&mut self, identity: Option<Arc<Identity>>) {
        let left = identity.as_ref().and_then(|identity| self.services.auth.time_left(identity));
        self.heartbeat.set_expiry(left.and_then(|left| Instant::now().checked_add(left)));
        self.identity = identity;
    }

    /// Whether the client may know who is present.
    pub(super) fn may_read(&self) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.has(Right::Read))
    }

    /// The client says who it is, or says so again before its token ends. In a format that has no request to join, it joins.
    /// Where its word counts, nothing else changes.
    ///
    /// # Errors
    /// [`End::Unauthenticated`]: what the client shows is not accepted.
    pub(super) async fn authenticate(
        &mut self,
        named: Option<UserId>,
        token: Option<Token>,
        reference: Option<&str>,
    ) -> Result<(), End> {
        let shown = match self.identify(token).await? {
            Ok(identity) => self.identified(named, identity),
            Err(not_identified) => Err(not_identified),
        };
        let (identity, user) = match shown {
            Ok(identified) => identified,
            Err(NotIdentified { code, message, retry_after, may_stay }) => {
                self.say(&Message::NotAuthenticated { code, message, retry_after }, reference);
                return if may_stay { Ok(()) } else { Err(End::Unauthenticated) };
            }
        };
        let ends_at = identity.ends_at();
        self.take_identity(Some(identity));
        let joins = self.format.joins();
        let is_joined = self.registration.is_some();
        if joins != Joins::ByAuthenticating || is_joined {
            let n_online = self.may_read().then(|| self.services.replica.view().roster().len());
            self.say(&Message::Authenticated { user: &user, n_online, ends_at }, reference);
        }
        if joins != Joins::ByRequest && !is_joined {
            let reference = reference.filter(|_| joins == Joins::ByAuthenticating).map(str::to_owned);
            self.join(Join { user, arrival: Arrival::default(), interest: None, reference, is_welcomed: true }).await;
        }
        Ok(())
    }

    /// Who the client shows to be. The keys of the issuer may have to be fetched for that.
    ///
    /// # Errors
    /// The session ends meanwhile.
    pub(super) async fn identify(&mut self, token: Option<Token>) -> Result<Result<Arc<Identity>, NotIdentified>, End> {
        // A client that joins by saying who it is says so again, although its handshake has shown it.
        let needs_no_token = self.format.joins() == Joins::ByAuthenticating && !self.heartbeat.has_expired();
        let is_known = token.is_none() && needs_no_token;
        if let Some(known) = self.identity.as_ref().filter(|identity| is_known || *identity.who() == Who::Anyone) {
            return Ok(Ok(known.clone()));
        }
        let Some(token) = token else { return Ok(Err(NotIdentified::missing("`token` is missing"))) };
        let Ok(credential) = Credential::try_from(token) else {
            return Ok(Err(Unidentified::Invalid(Fault::TooLong).into()));
        };
        let auth = self.services.auth.clone();
        let identified = self.alive_until(async move { auth.identify(&credential).await }).await?;
        Ok(identified.map_err(NotIdentified::from))
    }

    /// Which user the client shows to be.
    pub(super) fn identified(
        &self,
        named: Option<UserId>,
        identity: Arc<Identity>,
    ) -> Result<(Arc<Identity>, UserId), NotIdentified> {
        // Whose word counts may say something else.
        let may_stay = *identity.who() == Who::Anyone;
        let refuse = |refusal| NotIdentified { may_stay, ..NotIdentified::refused(refusal) };
        let user = permissions::user_for(Some(&identity), named).map_err(refuse)?;
        let user = match (user, identity.who()) {
            (_, Who::Server(_)) => return Err(refuse(Refusal::Forbidden(Right::Write))),
            (None, _) => return Err(NotIdentified::missing("`userId` is missing")),
            (Some(user), _) => user,
        };
        if self.user().is_some_and(|own| *own != user) {
            return Err(refuse(Refusal::OtherUser));
        }
        if self.format.joins() != Joins::ByRequest && !identity.has(Right::Write) {
            return Err(refuse(Refusal::Forbidden(Right::Write)));
        }
        Ok((identity, user))
    }
}

/// Why a client is not identified, as it is told.
pub(super) struct NotIdentified {
    pub(super) code: ErrorCode,
    pub(super) message: &'static str,
    /// After this time, another try may help.
    pub(super) retry_after: Option<Duration>,
    /// Whether its connection goes on.
    may_stay: bool,
}

impl NotIdentified {
    /// The request lacks something. Nothing was shown that could be wrong.
    fn missing(message: &'static str) -> Self {
        Self { code: ErrorCode::MissingField, message, retry_after: None, may_stay: true }
    }

    fn refused(refusal: Refusal) -> Self {
        let (code, message) = words(refusal);
        Self { code, message, retry_after: None, may_stay: false }
    }
}

impl From<Unidentified> for NotIdentified {
    fn from(unidentified: Unidentified) -> Self {
        let (code, message, retry_after) = match unidentified {
            Unidentified::Invalid(_) => (ErrorCode::TokenInvalid, "the token is not valid here", None),
            Unidentified::Expired => (ErrorCode::TokenExpired, "the token has expired", None),
            Unidentified::KeysUnavailable(delay) => {
                (ErrorCode::KeysUnavailable, "no token can be checked at the moment; try again", Some(delay))
            }
        };
        Self { code, message, retry_after, may_stay: retry_after.is_some() }
    }
}

/// The room that a request is about.
fn room_of(request: &Request) -> Option<&RoomId> {
    match request {
        Request::JoinRoom { room, .. }
        | Request::EnterRoom { room, .. }
        | Request::RoomUsers { room, .. }
        | Request::RoomCount { room }
        | Request::Typing { target: TypingTarget::Room(room), .. } => Some(room),
        _ => None,
    }
}

pub(super) fn words(refusal: Refusal) -> (ErrorCode, &'static str) {
    match refusal {
        Refusal::Unauthenticated => (ErrorCode::Unauthenticated, "`authenticate` first"),
        Refusal::Forbidden(Right::Read) => (ErrorCode::Forbidden, "this needs the scope presence:read"),
        Refusal::Forbidden(Right::Write) => (ErrorCode::Forbidden, "this needs the scope presence:write"),
        Refusal::Forbidden(Right::Invisible) => (ErrorCode::Forbidden, "this needs the scope presence:invisible"),
        Refusal::Forbidden(Right::Observe) => (ErrorCode::Forbidden, "this needs the scope observe"),
        Refusal::Forbidden(Right::Admin) => (ErrorCode::Forbidden, "this needs the scope admin"),
        Refusal::Forbidden(Right::Metrics) => (ErrorCode::Forbidden, "this needs the scope metrics"),
        Refusal::OtherUser => (ErrorCode::OtherUser, "this is not the user of the token"),
        Refusal::NotGranted => (ErrorCode::Forbidden, "the token does not name this room"),
        Refusal::Stated => (ErrorCode::Forbidden, "the token states this, so it cannot be changed"),
    }
}
