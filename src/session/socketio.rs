//! What Socket.IO adds to a session: its own connection inside that of the WebSocket.

use std::time::Duration;

use rand::RngExt;

use super::Session;
use super::close::End;
use super::identity::NotIdentified;
use super::limits::Verdict;
use super::requests::Later;
use crate::auth::Who;
use crate::domain::Interest;
use crate::wire::Format;
use crate::wire::message::{BadRequest, ClientMessage, ErrorCode, RequestLimits, Token};
use crate::wire::reader::Incoming;
use crate::wire::socketio;
use crate::wire::socketio::packet::{self, Packet};

/// How far the client of a Socket.IO session has come. A session of another format stays at the begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not entered the main namespace.
    #[default]
    Opened,
    /// It is in the main namespace.
    Connected,
    /// It has said something there. That has chosen its tongue.
    Speaking,
}

/// Random characters of a session's id. 26 characters of 32 have 130 bits.
const SID_CHARACTERS: usize = 26;

/// An id that nobody can guess. It says nothing of the socket.
pub(crate) fn new_sid() -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut random = rand::rng();
    (0..SID_CHARACTERS).map(|_| char::from(DIGITS[random.random_range(0..DIGITS.len())])).collect()
}

impl Session {
    /// Deals with a text of a client that speaks Socket.IO.
    ///
    /// # Errors
    /// The client breaks the protocol, or says goodbye.
    pub(super) fn on_packet(&mut self, text: &str, limits: RequestLimits) -> Result<Option<Later>, End> {
        // The binaries of an event come before anything else.
        if self.n_attachments > 0 {
            return Err(End::ProtocolError);
        }
        match (Packet::read(text).map_err(|_| End::ProtocolError)?, self.phase) {
            (Packet::Pong, _) => Ok(None),
            (Packet::Ack { n_attachments }, _) => {
                self.n_attachments = n_attachments;
                Ok(None)
            }
            (Packet::Close | Packet::Disconnect { namespace: packet::MAIN }, _) => Err(End::Goodbye),
            (Packet::Connect { namespace: packet::MAIN, auth }, Phase::Opened) => {
                match auth.token() {
                    Ok(token) => return Ok(self.on_connect(token)),
                    Err((code, message)) => self.refuse_connection(code, &message, None),
                }
                Ok(None)
            }
            (Packet::Connect { namespace, .. }, _) if namespace != packet::MAIN => {
                self.attachment.send(socketio::refused(namespace, "Invalid namespace", None));
                Ok(None)
            }
            (Packet::Event(event), Phase::Connected | Phase::Speaking) if event.n_attachments > 0 => {
                self.n_attachments = event.n_attachments;
                let message = "binary attachments are not spoken here; send text";
                self.refuse(ErrorCode::BinaryNotSupported, message, event.ack);
                Ok(None)
            }
            (Packet::Event(event), Phase::Connected | Phase::Speaking) => {
                let (tongue, joins) = (event.tongue(), event.joins());
                self.on_request(tongue, joins, event.request(limits))
            }
            _ => Err(End::ProtocolError),
        }
    }

    /// `joins` says whether the client wants to say who it is, even if the request is wrong.
    fn on_request(
        &mut self,
        tongue: Format,
        joins: bool,
        request: Result<ClientMessage, BadRequest>,
    ) -> Result<Option<Later>, End> {
        let unknown = [ErrorCode::UnknownType, ErrorCode::NotAvailable];
        let is_known = !request.as_ref().is_err_and(|bad| unknown.contains(&bad.code));
        if self.phase == Phase::Connected && is_known {
            self.speak(tongue);
        }
        match request {
            Ok(message) => self.answer(message),
            Err(BadRequest { code, message, reference }) => {
                if joins {
                    self.refuse_join(code, &message, None, reference.as_deref());
                } else {
                    self.refuse(code, &message, reference.as_deref());
                }
                Ok(None)
            }
        }
    }

    /// The client enters the main namespace. If its token has to be checked first, that is returned. Where the client's word
    /// counts, a token is not read.
    fn on_connect(&mut self, token: Option<Token>) -> Option<Later> {
        match (token, &self.identity) {
            (Some(token), None) => return Some(Later::Connect { token }),
            (Some(_), Some(identity)) if *identity.who() != Who::Anyone => {
                self.refuse_connection(ErrorCode::InvalidField, "a token came with the handshake already", None);
            }
            _ => self.connect(),
        }
        None
    }

    /// A message is not read, because there are too many. But its binaries come, too.
    ///
    /// # Errors
    /// As [`Session::on_packet`] and [`Session::on_attachment`].
    pub(super) fn pass_over(&mut self, incoming: &Incoming) -> Result<(), End> {
        match incoming {
            Incoming::Binary => self.on_attachment(),
            Incoming::Text(_) if self.n_attachments > 0 => Err(End::ProtocolError),
            Incoming::Text(text) => {
                self.n_attachments = Packet::n_attachments(text);
                Ok(())
            }
            Incoming::Ping(_) | Incoming::Pong | Incoming::Close(_) => Ok(()),
        }
    }

    /// A binary message has come. It belongs to an event that was refused, or to an acknowledgement.
    ///
    /// # Errors
    /// It belongs to none.
    pub(super) fn on_attachment(&mut self) -> Result<(), End> {
        self.n_attachments = self.n_attachments.checked_sub(1).ok_or(End::ProtocolError)?;
        Ok(())
    }

    /// Lets the client into the main namespace, if its token is accepted. If not, it is told why, and may show another one.
    ///
    /// # Errors
    /// The client asks too often, or the session ends meanwhile.
    pub(super) async fn connect_with(&mut self, token: Token) -> Result<(), End> {
        if let Verdict::Refused(delay) = self.services.requests.check_costly(&self.used_requests)? {
            self.services.metrics.too_many_requests();
            self.refuse_connection(ErrorCode::RateLimited, "too many requests; wait", Some(delay));
            return Ok(());
        }
        let shown = match self.identify(Some(token)).await? {
            Ok(identity) => self.identified(None, identity),
            Err(not_identified) => Err(not_identified),
        };
        match shown {
            Ok((identity, _)) => {
                self.take_identity(Some(identity));
                self.connect();
            }
            Err(NotIdentified { code, message, retry_after, .. }) => self.refuse_connection(code, message, retry_after),
        }
        Ok(())
    }

    fn refuse_connection(&self, code: ErrorCode, message: &str, retry_after: Option<Duration>) {
        self.attachment.send(socketio::refused(packet::MAIN, message, Some((code, retry_after))));
    }

    /// The first event that means something chooses how the client is spoken to.
    fn speak(&mut self, tongue: Format) {
        self.phase = Phase::Speaking;
        if tongue == self.format {
            return;
        }
        self.format = tongue;
        self.attachment.speak(tongue);
        // The URL may have made the user join. Then the client has heard of others in other words.
        if self.registration.is_some() {
            self.listen_anew();
        }
    }

    /// Shows who is online, and goes on from there.
    fn listen_anew(&mut self) {
        if self.format == Format::SocketioRoom {
            self.interest = Interest::Nobody;
        }
        let (sequence, n_online, list) = {
            let view = self.services.replica.view();
            let list = self.list_of_everyone(&view, self.standing(&view));
            (view.sequence(), view.roster().len(), list)
        };
        let list = self.listen(sequence, n_online, list);
        self.attachment.send_at(sequence, list);
    }

    /// Whether the client speaks Socket.IO, and has not entered the main namespace. Its URL may have made its user join.
    pub(super) fn has_to_connect(&self) -> bool {
        self.format.is_socketio() && self.phase == Phase::Opened
    }

    fn connect(&mut self) {
        self.phase = Phase::Connected;
        if self.registration.is_some() {
            self.heartbeat.joined();
        } else {
            // Applications connect before their user has logged in.
            self.heartbeat.await_join();
        }
        self.attachment.send(socketio::connected(&new_sid()));
    }
}
