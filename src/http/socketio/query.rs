//! What the URL of a request to Engine.IO says.

use super::error::EngineError;
use crate::http::query::Parameters;

/// The part of a URL that Engine.IO reads.
pub(super) struct Asked {
    version: Option<String>,
    transport: Option<String>,
    /// The id of the session. It is none if the request begins one.
    pub(super) sid: Option<String>,
}

/// How packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Polling,
    Websocket,
}

impl Asked {
    /// Reads the query of a URL.
    pub(super) fn read(query: &str) -> Self {
        let parameters = Parameters::parse(query);
        Self {
            version: only(&parameters, "EIO"),
            transport: only(&parameters, "transport"),
            sid: only(&parameters, "sid"),
        }
    }

    /// The transport that the client asks for.
    ///
    /// # Errors
    /// It speaks another version of Engine.IO, or there is no such transport.
    pub(super) fn transport(&self) -> Result<Transport, EngineError> {
        if self.version.as_deref() != Some("4") {
            return Err(EngineError::VersionUnknown);
        }
        match self.transport.as_deref() {
            Some("polling") => Ok(Transport::Polling),
            Some("websocket") => Ok(Transport::Websocket),
            _ => Err(EngineError::TransportUnknown),
        }
    }
}

/// The only text of a name. If there are several, or if it is no text, it is one that means nothing.
fn only(parameters: &Parameters<'_>, name: &str) -> Option<String> {
    let mut texts = parameters.texts(name);
    let first = texts.next()?;
    let is_only = texts.next().is_none();
    Some(first.filter(|_| is_only).unwrap_or_default().to_owned())
}
