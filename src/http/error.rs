//! The only map from errors to status codes.

use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, ResponseError};

use super::json;
use super::readiness::Unready;
use crate::auth::{Refusal, Unidentified};
use crate::metrics::RefusedBecause;
use crate::rooms::{Denied, Unavailable, Unseen};
use crate::wire::body::BadBody;
use crate::wire::json::Object;

/// An error as a client sees it: `{"success":false,"message":"…","code":"…"}`. Clients branch on the code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// A query parameter, or a part of the path, is not what it should be.
    #[error("`{name}` {what}")]
    InvalidParameter {
        /// The parameter.
        name: String,
        /// The rest of a sentence that begins with the name.
        what: String,
    },
    /// A body is not what it should be.
    #[error("{}", .0.message)]
    BadBody(BadBody),
    /// A body is not said to be JSON.
    #[error("the body must be JSON, not compressed, with `Content-Type: application/json`")]
    UnsupportedMediaType,
    /// A request to `/ws` is not a WebSocket handshake.
    #[error("a WebSocket handshake is expected here: {0}")]
    NotAWebSocketHandshake(String),
    /// The web page that asks is not among `server.cors_allowed_origins`.
    #[error("pages of this origin may not connect here")]
    OriginNotAllowed,
    /// Nothing is here.
    #[error("there is no such resource")]
    NotFound,
    /// Nobody has seen the user.
    #[error("User not found")]
    UserNotFound,
    /// What was asked needs a user who is online.
    #[error("the user is not online")]
    UserNotOnline,
    /// The room is not registered.
    #[error("Chat room not found")]
    RoomNotFound,
    /// The user is no registered member of the room.
    #[error("Not a member of this chat room")]
    NotAMember,
    /// The resource has other methods.
    #[error("only {} allowed here", allowed.words())]
    MethodNotAllowed {
        /// The methods that it has.
        allowed: Methods,
    },
    /// The request needs a token or a key, and has none.
    #[error("a token is needed here: `Authorization: Bearer …`")]
    TokenMissing,
    /// The token, or the key, is not accepted.
    #[error("the token is not valid here")]
    TokenInvalid,
    /// The token has ended.
    #[error("the token has expired")]
    TokenExpired,
    /// The request has several tokens.
    #[error("there must be one token, in one place")]
    SeveralTokens,
    /// The token, or the key, does not allow this.
    #[error("the token does not allow this: {0}")]
    Forbidden(&'static str),
    /// The request names another user than the token.
    #[error("this is not the user of the token")]
    OtherUser,
    /// No token can be checked.
    #[error("the keys of the issuer cannot be had, so no token can be checked; try again")]
    KeysUnavailable,
    /// The address has too many sockets (`limits.sockets_per_address`).
    #[error("too many sockets come from this address; close one, or try again")]
    TooManySockets,
    /// The address comes too often (`limits.upgrades_per_address`, `limits.http_requests_per_address`).
    #[error("too many requests come from this address; wait")]
    RateLimited {
        /// After this time, one more request is answered.
        retry_after: Duration,
    },
    /// The head of the request is too large (`limits.head_bytes`).
    #[error("the head of the request must be at most {max_bytes} bytes")]
    HeadTooLarge {
        /// The limit.
        max_bytes: usize,
    },
    /// The resource is for programs on this machine.
    #[error("only programs on the machine of this node may ask this, and no web pages")]
    LoopbackOnly,
    /// The body is too large.
    #[error("the body must be at most {max_bytes} bytes")]
    PayloadTooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// The node should get no clients.
    #[error("{0}")]
    Unready(Unready),
    /// The node should get no clients, and got one. The status is its own (docs/adr/0015): it tells a load balancer, which
    /// does not read bodies, that the next node may serve. A node that says 503 has too much to do, and so has the next.
    #[error("{0}; ask another")]
    AskAnother(Unready),
    /// The store does not answer.
    #[error("the store cannot be reached: {0}")]
    StoreUnavailable(&'static str),
    /// More sockets come than the node lets in at once.
    #[error("too many sockets are joining this node at once; try again")]
    Busy,
    /// Too many large answers wait for their clients (`limits.answers_bytes`).
    #[error("too many clients have not read their answers; try again")]
    TooManyAnswers,
    /// Too many bodies are being read (`limits.bodies_bytes`).
    #[error("too many large requests are being read; try again")]
    TooManyBodies,
    /// Too many rooms are being read from the store.
    #[error("too many rooms are being read; try again")]
    TooManyRoomReads,
    /// The node has no room for another HTTP connection (`server.max_http_connections`).
    #[error("this node has no room for another connection; try again")]
    TooManyConnections,
    /// The node has no room for another socket (`server.max_sockets`).
    #[error("this node has no room for another socket; try again")]
    Full,
}

/// The methods that a resource has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Methods {
    /// GET and HEAD.
    Read,
    /// DELETE.
    Delete,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PUT and DELETE.
    PutOrDelete,
    /// GET and POST.
    GetOrPost,
}

impl Methods {
    /// As the header `Allow` has it.
    fn allow(self) -> &'static str {
        match self {
            Self::Read => "GET, HEAD",
            Self::Delete => "DELETE",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::PutOrDelete => "PUT, DELETE",
            Self::GetOrPost => "GET, POST",
        }
    }

    /// The subject and the verb of a sentence.
    fn words(self) -> &'static str {
        match self {
            Self::Read => "GET and HEAD are",
            Self::Delete => "DELETE is",
            Self::Post => "POST is",
            Self::Put => "PUT is",
            Self::PutOrDelete => "PUT and DELETE are",
            Self::GetOrPost => "GET and POST are",
        }
    }
}

impl From<RefusedBecause> for ApiError {
    fn from(because: RefusedBecause) -> Self {
        match because {
            RefusedBecause::Full => Self::Full,
            RefusedBecause::Busy => Self::Busy,
            RefusedBecause::Draining => Self::AskAnother(Unready::Draining),
            RefusedBecause::NotReady => Self::AskAnother(Unready::NotReady),
            RefusedBecause::AddressFull => Self::TooManySockets,
            RefusedBecause::AddressBusy(retry_after) => Self::RateLimited { retry_after },
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthenticated => Self::TokenMissing,
            Refusal::Forbidden(right) => Self::Forbidden(right.as_str()),
            Refusal::OtherUser => Self::OtherUser,
            Refusal::NotGranted => Self::Forbidden("this room"),
            Refusal::Stated => Self::Forbidden("what it states"),
        }
    }
}

impl From<Unidentified> for ApiError {
    fn from(unidentified: Unidentified) -> Self {
        match unidentified {
            Unidentified::Invalid(_) => Self::TokenInvalid,
            Unidentified::Expired => Self::TokenExpired,
            Unidentified::KeysUnavailable(_) => Self::KeysUnavailable,
        }
    }
}

impl From<BadBody> for ApiError {
    fn from(bad: BadBody) -> Self {
        Self::BadBody(bad)
    }
}

impl From<Unavailable> for ApiError {
    fn from(Unavailable: Unavailable) -> Self {
        Self::StoreUnavailable("what was asked for may have happened; try again")
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NoSuchRoom => Self::RoomNotFound,
            Denied::NotMember => Self::NotAMember,
            Denied::Unavailable => Self::StoreUnavailable("nobody knows who may ask; try again"),
        }
    }
}

impl From<Unseen> for ApiError {
    fn from(unseen: Unseen) -> Self {
        match unseen {
            Unseen::TooMany => Self::TooManyRoomReads,
            Unseen::Unavailable => Self::StoreUnavailable("nobody knows who is in the room; try again"),
        }
    }
}

impl ApiError {
    /// The error's name for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::InvalidParameter { .. } => "invalid_parameter",
            Self::BadBody(bad) => bad.code.as_str(),
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::NotAWebSocketHandshake(_) => "not_a_websocket_handshake",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::LoopbackOnly => "loopback_only",
            Self::TokenMissing => "token_missing",
            Self::TokenInvalid => "token_invalid",
            Self::TokenExpired => "token_expired",
            Self::SeveralTokens => "several_tokens",
            Self::Forbidden(_) => "forbidden",
            Self::OtherUser => "other_user",
            Self::KeysUnavailable => "keys_unavailable",
            Self::TooManySockets => "too_many_sockets",
            Self::RateLimited { .. } => "rate_limited",
            Self::HeadTooLarge { .. } => "head_too_large",
            Self::NotFound => "not_found",
            Self::UserNotFound => "user_not_found",
            Self::UserNotOnline => "user_not_online",
            Self::RoomNotFound => "room_not_found",
            Self::NotAMember => "not_a_member",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::PayloadTooLarge { .. } => "payload_too_large",
            Self::Unready(why) | Self::AskAnother(why) => why.code(),
            Self::StoreUnavailable(_) => "store_unavailable",
            Self::Busy => "busy",
            Self::TooManyAnswers => "too_many_answers",
            Self::TooManyBodies => "too_many_bodies",
            Self::TooManyRoomReads => "too_many_room_reads",
            Self::TooManyConnections => "too_many_connections",
            Self::Full => "full",
        }
    }

    /// The whole body.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = Object::new(128);
        body.boolean("success", false).string("message", &self.to_string()).string("code", self.code());
        body.finish()
    }

    /// The seconds after which a client may try again. It is none if another try does not help.
    fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Self::Unready(_)
            | Self::AskAnother(_)
            | Self::StoreUnavailable(_)
            | Self::Busy
            | Self::TooManyAnswers
            | Self::TooManyBodies
            | Self::TooManyRoomReads
            | Self::TooManyConnections
            | Self::KeysUnavailable
            | Self::TooManySockets
            | Self::Full => Some(1),
            // Rounded up. So a client that waits for this time is never too early.
            Self::RateLimited { retry_after } => Some(retry_after.as_millis().div_ceil(1000).max(1) as u32),
            Self::InvalidParameter { .. }
            | Self::BadBody(_)
            | Self::UnsupportedMediaType
            | Self::NotAWebSocketHandshake(_)
            | Self::OriginNotAllowed
            | Self::TokenMissing
            | Self::TokenInvalid
            | Self::TokenExpired
            | Self::SeveralTokens
            | Self::Forbidden(_)
            | Self::OtherUser
            | Self::HeadTooLarge { .. }
            | Self::LoopbackOnly
            | Self::NotFound
            | Self::UserNotFound
            | Self::UserNotOnline
            | Self::RoomNotFound
            | Self::NotAMember
            | Self::MethodNotAllowed { .. }
            | Self::PayloadTooLarge { .. } => None,
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::InvalidParameter { .. } | Self::BadBody(_) | Self::SeveralTokens => StatusCode::BAD_REQUEST,
            Self::TokenMissing | Self::TokenInvalid | Self::TokenExpired => StatusCode::UNAUTHORIZED,
            Self::TooManySockets | Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAWebSocketHandshake(_) => StatusCode::UPGRADE_REQUIRED,
            Self::OriginNotAllowed | Self::LoopbackOnly | Self::NotAMember | Self::Forbidden(_) | Self::OtherUser => {
                StatusCode::FORBIDDEN
            }
            Self::NotFound | Self::UserNotFound | Self::UserNotOnline | Self::RoomNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::PayloadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::AskAnother(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Unready(_)
            | Self::StoreUnavailable(_)
            | Self::Busy
            | Self::TooManyAnswers
            | Self::TooManyBodies
            | Self::TooManyRoomReads
            | Self::TooManyConnections
            | Self::KeysUnavailable
            | Self::Full => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.retry_after_seconds() {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        match self {
            Self::TokenMissing => _ = response.insert_header((header::WWW_AUTHENTICATE, "Bearer")),
            Self::TokenInvalid | Self::TokenExpired => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""));
            }
            Self::Forbidden(_) => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer error=\"insufficient_scope\""));
            }
            Self::MethodNotAllowed { allowed } => {
                response.insert_header((header::ALLOW, allowed.allow()));
            }
            Self::NotAWebSocketHandshake(_) => {
                response.insert_header((header::UPGRADE, "websocket"));
                response.insert_header((header::SEC_WEBSOCKET_VERSION, "13"));
            }
            _ => {}
        }
        response.insert_header(json()).body(self.body())
    }
}
