//! What a session does when its client asks for something.

use std::time::Duration;

use bytes::Bytes;

use super::Session;
use super::close::End;
use super::join::Join;
use super::limits::Verdict;
use super::room_questions::{AskedOfRoom, RoomQuestion};
use crate::domain::{Interest, OfflineReason, ProfilePatch, RoomId, Said, SaidStatus, Status, UserId};
use crate::node::Arrival;
use crate::replica::View;
use crate::settings::LimitSettings;
use crate::wire::message::{BadRequest, ClientMessage, ErrorCode, Message, Request, RequestLimits, Standing, Token};

/// A request that takes time.
pub(super) enum Later {
    /// To find out who the client is.
    Authenticate {
        /// The user that the client names.
        user: Option<UserId>,
        /// What shows it.
        token: Option<Token>,
        /// The client's mark for the request.
        reference: Option<String>,
    },
    /// To let a client of Socket.IO into the main namespace, which shows this.
    Connect {
        /// What shows who it is.
        token: Token,
    },
    /// See [`Join`].
    Join(Join),
    /// To choose a status.
    Choose {
        /// The status.
        status: SaidStatus,
        /// The client's mark for the request.
        reference: Option<String>,
    },
    /// To change some fields of the profile.
    Update {
        /// The fields.
        patch: ProfilePatch,
        /// The client's mark for the request.
        reference: Option<String>,
    },
    /// To say which sockets the user has.
    Devices {
        /// The client's mark for the request.
        reference: Option<String>,
    },
    /// To hear of these users, and of nobody else.
    Watch {
        /// The users.
        users: Vec<UserId>,
        /// The client's mark for the request.
        reference: Option<String>,
    },
    /// To be in a room, or to hear something else of it.
    JoinRoom {
        /// The room.
        room: RoomId,
        /// What the client wants to hear of it.
        interest: Interest,
        /// The client's mark for the request.
        reference: Option<String>,
    },
    /// To be present and in a room at once.
    EnterRoom {
        /// The user.
        user: UserId,
        /// What the client says of the user.
        said: Said,
        /// The room.
        room: RoomId,
        /// The client's mark for the request.
        reference: Option<String>,
    },
    /// To say who is in a room in which the socket may not be.
    LookIntoRoom(RoomQuestion),
    /// To say when a user who is not online was last seen.
    Recall {
        /// The user.
        user: UserId,
        /// The client's mark for the request.
        reference: Option<String>,
    },
}

/// The list that a client gets when it begins to hear of everyone.
pub(super) struct FirstPage {
    /// The list.
    pub(super) frame: Bytes,
    /// Whether everyone is in it.
    pub(super) is_whole: bool,
}

/// About the size of a socket's first page while too many answers wait for their clients.
pub(super) const SHORT_PAGE_BYTES: usize = 8 * 1024;

/// If a page was refused because too many answers wait, the client may ask again after this time.
pub(super) const ANSWERS_RETRY: Duration = Duration::from_secs(1);

impl Session {
    /// Answers a text. A request that takes time is returned instead.
    pub(super) fn on_text(&mut self, text: &str) -> Result<Option<Later>, End> {
        let LimitSettings { page_max, watches_per_socket, rooms_per_socket, .. } = self.services.limits;
        let limits = RequestLimits {
            profile: self.profile_limits(),
            page_max,
            watches_max: watches_per_socket,
            rooms_max: rooms_per_socket,
        };
        if self.format.is_socketio() {
            return self.on_packet(text, limits);
        }
        match self.format.parse(text, limits) {
            Ok(message) => self.answer(message),
            Err(BadRequest { code, message, reference }) => {
                self.refuse(code, &message, reference.as_deref());
                Ok(None)
            }
        }
    }

    pub(super) fn answer(&mut self, message: ClientMessage) -> Result<Option<Later>, End> {
        let ClientMessage { request, reference } = message;
        if self.heartbeat.has_expired() && !matches!(request, Request::Authenticate { .. }) {
            return Err(End::TokenExpired);
        }
        if let Verdict::Refused(delay) = self.services.requests.check(&self.used_requests, &request)? {
            self.services.metrics.too_many_requests();
            self.refuse_too_many(&request, delay, reference.as_deref());
            return Ok(None);
        }
        if !self.may(&request, reference.as_deref()) {
            return Ok(None);
        }
        match (request, &self.registration) {
            (Request::Authenticate { user, token }, _) => {
                return Ok(Some(Later::Authenticate { user, token, reference }));
            }
            (Request::Join { user, said, device, interest, rooms }, _) => {
                let Some(user) = self.user_to_join(user, reference.as_deref()) else { return Ok(None) };
                if self.is_another(&user, reference.as_deref()) {
                    return Ok(None);
                }
                let arrival = Arrival { said, device, rooms };
                return Ok(Some(Later::Join(Join { user, arrival, interest, reference, is_welcomed: true })));
            }
            (Request::EnterRoom { user, said, room }, _) => {
                let Some(user) = self.user_to_join(user, reference.as_deref()) else { return Ok(None) };
                if self.is_another(&user, reference.as_deref()) {
                    return Ok(None);
                }
                return Ok(Some(Later::EnterRoom { user, said, room, reference }));
            }
            (Request::SetStatus(status), Some(_)) => {
                if status.status == Status::Invisible {
                    self.stop_all_typing();
                }
                return Ok(Some(Later::Choose { status, reference }));
            }
            (Request::Update(patch), Some(_)) => return Ok(Some(Later::Update { patch, reference })),
            (Request::Devices, Some(_)) => return Ok(Some(Later::Devices { reference })),
            (Request::Check { user }, _) => return self.check(user, reference),
            (Request::Subscribe { interest }, _) => self.subscribe(interest, reference.as_deref()),
            (Request::List { limit, cursor }, _) if self.listens() => {
                let limit = limit.unwrap_or(self.services.limits.page_default);
                self.show_page(cursor.as_ref(), limit, reference.as_deref());
            }
            (Request::Activity { idle }, Some(joined)) => {
                if idle {
                    joined.idle()
                } else {
                    joined.heard()
                }
                if reference.is_some() {
                    self.say(&Message::ActivityAck, reference.as_deref());
                }
            }
            (Request::Leave, Some(_)) => self.leave(reference.as_deref()),
            (Request::Watch { users }, _) if self.listens() => return Ok(Some(Later::Watch { users, reference })),
            (Request::Unwatch { users }, _) if self.listens() => self.unwatch(&users, reference.as_deref()),
            (Request::WatchCount, _) if self.listens() => self.watch_count(reference.as_deref()),
            (Request::UnwatchCount, _) if self.listens() => self.unwatch_count(reference.as_deref()),
            (Request::JoinRoom { room, interest }, Some(_)) => {
                return Ok(Some(Later::JoinRoom { room, interest, reference }));
            }
            (Request::Typing { target, is_typing }, Some(_)) => {
                self.type_to(target, is_typing, reference.as_deref());
            }
            (Request::LeaveRoom { room }, Some(_)) => self.leave_room(&room, reference.as_deref()),
            (Request::RoomUsers { room, limit, cursor }, _) if self.may_ask_of_rooms() => {
                let limit = limit.unwrap_or(self.services.limits.page_default);
                let what = AskedOfRoom::Users { limit, cursor };
                return Ok(self.ask_of_room(RoomQuestion { room, what, reference }));
            }
            (Request::RoomCount { room }, _) if self.may_ask_of_rooms() => {
                return Ok(self.ask_of_room(RoomQuestion { room, what: AskedOfRoom::Count, reference }));
            }
            (Request::Pause, _) if self.listens() => self.pause(reference.as_deref()),
            (Request::Resume, _) if self.listens() => self.resume(reference.as_deref()),
            (
                Request::List { .. }
                | Request::Watch { .. }
                | Request::Unwatch { .. }
                | Request::WatchCount
                | Request::UnwatchCount
                | Request::Pause
                | Request::Resume,
                _,
            ) => self.refuse(ErrorCode::NotJoined, "`join_user` or `subscribe` first", reference.as_deref()),
            (Request::RoomUsers { .. } | Request::RoomCount { .. }, _) if self.services.rooms.are_open() => {
                self.refuse(ErrorCode::NotJoined, "`join_user` or `subscribe` first", reference.as_deref());
            }
            (Request::RoomUsers { .. } | Request::RoomCount { .. }, _) => {
                self.refuse(ErrorCode::NotJoined, "`join_user` first", reference.as_deref());
            }
            (
                Request::Devices
                | Request::JoinRoom { .. }
                | Request::LeaveRoom { .. }
                | Request::Typing { .. }
                | Request::Activity { .. }
                | Request::Leave
                | Request::SetStatus(_)
                | Request::Update(_),
                None,
            ) => self.refuse(ErrorCode::NotJoined, "`join_user` first", reference.as_deref()),
        }
        Ok(None)
    }

    /// Carries out a request that takes time.
    ///
    /// # Errors
    /// The client has not shown who it is.
    pub(super) async fn answer_later(&mut self, later: Later) -> Result<(), End> {
        match later {
            Later::Authenticate { user, token, reference } => {
                self.authenticate(user, token, reference.as_deref()).await?;
            }
            Later::Connect { token } => self.connect_with(token).await?,
            Later::Join(join) => self.join(join).await,
            Later::Choose { status, reference } => self.choose(status, reference).await,
            Later::Update { patch, reference } => self.update(patch, reference).await,
            Later::Devices { reference } => self.show_devices(reference.as_deref()).await,
            Later::JoinRoom { room, interest, reference } => {
                self.join_room(&room, interest, reference.as_deref()).await;
            }
            Later::EnterRoom { user, said, room, reference } => self.enter_room(user, said, &room, reference).await,
            Later::LookIntoRoom(question) => self.look_into_room(question).await,
            Later::Watch { users, reference } => self.watch(&users, reference.as_deref()).await,
            Later::Recall { user, reference } => self.recall(&user, reference.as_deref()).await,
        }
        Ok(())
    }

    /// Whether the socket has joined as somebody else than `user`. Then the client has been told so.
    fn is_another(&self, user: &UserId, reference: Option<&str>) -> bool {
        let Some(own) = self.user().filter(|own| *own != user) else { return false };
        let what = format!("this socket has joined as {:?}; `leave` first", own.as_str());
        self.refuse_join(ErrorCode::AlreadyJoined, &what, None, reference);
        true
    }

    /// Says that the client makes too many costly requests, and how long to wait.
    fn refuse_too_many(&self, request: &Request, delay: Duration, reference: Option<&str>) {
        let message = "too many requests; wait";
        if request.joins() {
            self.refuse_join(ErrorCode::RateLimited, message, Some(delay), reference);
        } else {
            self.refuse_for_now(message, delay, reference);
        }
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
        self.send_large(sequence, list, reference);
    }

    /// Sends an answer that may be large. If too many of these wait for their clients, it is refused.
    pub(super) fn send_large(&mut self, sequence: u64, answer: Bytes, reference: Option<&str>) {
        if let Some(answer) = self.hold_large(answer, reference) {
            self.attachment.send_at(sequence, [answer]);
        }
    }

    /// Counts an answer that may be large. If too many of these wait for their clients, the request is refused.
    pub(super) fn hold_large(&self, answer: Bytes, reference: Option<&str>) -> Option<Bytes> {
        let held = self.services.answers.hold(answer);
        if held.is_none() {
            self.refuse_for_now("too many clients have not read their answers; wait", ANSWERS_RETRY, reference);
        }
        held
    }

    /// The list that the client gets without a request. It cannot be refused. So it is short if too many answers wait.
    pub(super) fn first_page(&self, view: &View, standing: Standing) -> Option<FirstPage> {
        let limits = &self.services.limits;
        let list = |max_bytes| {
            let page = view.roster().page(None, limits.page_default, None).within(max_bytes);
            let list = Message::List { page: &page, total: view.roster().len(), standing };
            Some(FirstPage { frame: self.format.encode(&list, None)?, is_whole: page.next_cursor.is_none() })
        };
        let FirstPage { frame, is_whole } = list(limits.page_bytes)?;
        let held = self.services.answers.hold(frame).map(|frame| FirstPage { frame, is_whole });
        held.or_else(|| list(SHORT_PAGE_BYTES))
    }

    fn leave(&mut self, reference: Option<&str>) {
        self.stop_all_typing();
        let Some(registration) = self.registration.take() else { return };
        self.attachment.mute();
        self.say(&Message::Left { user: registration.user() }, reference);
        registration.leave();
        self.services.metrics.left(OfflineReason::Left);
        self.is_subscribed = false;
        self.heartbeat.await_join();
    }

    pub(super) fn standing(&self, view: &View) -> Standing {
        Standing { position: view.position(), degraded: self.services.replica.degraded_since(view) }
    }

    /// Says that a request is not carried out.
    pub(super) fn refuse(&self, code: ErrorCode, message: &str, reference: Option<&str>) {
        self.say(&Message::Error { code, message, retry_after: None, room: None }, reference);
    }

    /// Says that a request is not carried out before `delay` is over.
    pub(super) fn refuse_for_now(&self, message: &str, delay: Duration, reference: Option<&str>) {
        let retry_after = Some(delay);
        self.say(&Message::Error { code: ErrorCode::RateLimited, message, retry_after, room: None }, reference);
    }

    /// Tells this socket alone. If its format has no words for the message, nothing is sent.
    pub(super) fn say(&self, message: &Message<'_>, reference: Option<&str>) {
        if let Some(frame) = self.format.encode(message, reference) {
            self.attachment.send(frame);
        }
    }
}
