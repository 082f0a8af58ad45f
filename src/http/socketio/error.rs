//! The errors of Engine.IO, letter for letter. Source: `Server.errorMessages` of engine.io 6.6

use actix_web::body::BoxBody;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};

use crate::http::{ApiError, json};
use crate::transport::PollRefused;
use crate::wire::json::Object;

/// Why a request to Engine.IO is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The client breaks the rules of Engine.IO.
    #[error("{}", .0.message())]
    Engine(EngineError),
    /// What is refused to every socket and every request.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// An error of Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EngineError {
    /// There is no such transport.
    TransportUnknown,
    /// No session of this node polls with this id.
    SessionUnknown,
    /// A session begins with GET.
    BadMethod,
    /// The request is not what it should be, or comes at the wrong time.
    BadRequest,
    /// Pages of this origin may not connect.
    Forbidden,
    /// The client speaks another version of Engine.IO.
    VersionUnknown,
}

impl EngineError {
    const ALL: [Self; 6] = [
        Self::TransportUnknown,
        Self::SessionUnknown,
        Self::BadMethod,
        Self::BadRequest,
        Self::Forbidden,
        Self::VersionUnknown,
    ];

    /// The codes of all of them.
    pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(Self::code)
    }

    /// Its number, as text.
    pub(super) fn code(self) -> &'static str {
        ["0", "1", "2", "3", "4", "5"][self as usize]
    }

    fn message(self) -> &'static str {
        match self {
            Self::TransportUnknown => "Transport unknown",
            Self::SessionUnknown => "Session ID unknown",
            Self::BadMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::Forbidden => "Forbidden",
            Self::VersionUnknown => "Unsupported protocol version",
        }
    }

    fn body(self) -> Vec<u8> {
        let mut body = Object::new(160);
        body.number("code", self as u64).string("message", self.message());
        if self == Self::VersionUnknown {
            body.string("hint", "this service speaks Engine.IO 4: use socket.io-client 3 or 4");
        }
        body.finish()
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<PollRefused> for Refusal {
    fn from(refused: PollRefused) -> Self {
        Self::Engine(match refused {
            PollRefused::Overlap | PollRefused::Upgraded => EngineError::BadRequest,
            PollRefused::Gone => EngineError::SessionUnknown,
        })
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Engine(EngineError::Forbidden) => StatusCode::FORBIDDEN,
            Self::Engine(_) => StatusCode::BAD_REQUEST,
            Self::Api(error) => error.status_code(),
        }
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        match self {
            Self::Engine(error) => HttpResponse::build(self.status_code())
                .insert_header(json())
                .insert_header((header::CACHE_CONTROL, "no-store"))
                .body(error.body()),
            Self::Api(error) => error.error_response(),
        }
    }
}
