//! Query parameters, with errors that name the parameter.

use std::borrow::Cow;
use std::str::Utf8Error;

use percent_encoding::percent_decode;

use super::ApiError;
use crate::domain::{Interest, Status, UserId};
use crate::wire::Format;

/// The parameters of a request: each name with its value, or with the reason why the value is no text. Unknown
/// parameters are ignored. A parameter that is given twice is an error if it is asked for, because nobody knows which
/// value is meant. A value that is not UTF-8 is also an error, because different bytes would become the same text.
pub(crate) struct Parameters<'a>(Vec<(Cow<'a, [u8]>, Value<'a>)>);

/// A value, or why it is no text.
type Value<'a> = Result<Cow<'a, str>, Utf8Error>;

impl<'a> Parameters<'a> {
    /// Parses a query string. A part without `=` is a name with an empty value.
    pub(crate) fn parse(query: &'a str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), text(decode(value)))
                })
                .collect(),
        )
    }

    /// A user id. An empty id counts as absent.
    pub(crate) fn user(&self, name: &str) -> Result<Option<UserId>, ApiError> {
        let Some(text) = self.get(name)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        UserId::parse(text).map(Some).map_err(|error| invalid(name, error.to_string()))
    }

    /// `true` or `false`. A flag that is absent is false.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(invalid(name, "must be true or false".to_owned())),
        }
    }

    /// A format that clients speak.
    pub(crate) fn format(&self, name: &str) -> Result<Option<Format>, ApiError> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        Format::from_name(text).map(Some).ok_or_else(|| invalid(name, "must be native or plain".to_owned()))
    }

    /// One of these statuses.
    pub(crate) fn status(&self, name: &str, allowed: &[Status]) -> Result<Option<Status>, ApiError> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        let status = Status::from_name(text).filter(|status| allowed.contains(status));
        let names = || allowed.iter().map(|status| status.as_str()).collect::<Vec<_>>().join(", ");
        status.map(Some).ok_or_else(|| invalid(name, format!("must be one of {}", names())))
    }

    /// What a client wants to hear of others.
    pub(crate) fn interest(&self, name: &str) -> Result<Option<Interest>, ApiError> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        let names = || Interest::ALL.map(Interest::as_str).join(", ");
        let interest = Interest::from_name(text).ok_or_else(|| invalid(name, format!("must be one of {}", names())));
        interest.map(Some)
    }

    /// A whole number from 1 to `max`.
    pub(crate) fn count(&self, name: &str, max: usize) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        match text.parse() {
            Ok(count) if (1..=max).contains(&count) => Ok(Some(count)),
            _ => Err(invalid(name, format!("must be a whole number from 1 to {max}"))),
        }
    }

    /// A whole number, however large.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| invalid(name, "must be a whole number".to_owned()))
    }

    /// Every text of this name. One is none if its bytes are no text.
    pub(crate) fn texts(&self, name: &str) -> impl Iterator<Item = Option<&str>> {
        let values = self.0.iter().filter(|(key, _)| **key == *name.as_bytes());
        values.map(|(_, value)| value.as_deref().ok())
    }

    fn get(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(key, _)| **key == *name.as_bytes()).map(|(_, value)| value);
        let first = values.next();
        match (first, values.next()) {
            (_, Some(_)) => Err(invalid(name, "must be given once".to_owned())),
            (None, None) => Ok(None),
            (Some(Ok(value)), None) => Ok(Some(value)),
            (Some(Err(_)), None) => Err(invalid(name, "must be UTF-8".to_owned())),
        }
    }
}

/// The bytes that a part of a query string stands for. `+` is a space, and `%` begins a byte in hexadecimal.
fn decode(part: &str) -> Cow<'_, [u8]> {
    if part.contains('+') {
        let spaced = part.replace('+', " ");
        return Cow::Owned(percent_decode(spaced.as_bytes()).collect());
    }
    percent_decode(part.as_bytes()).into()
}

fn text(bytes: Cow<'_, [u8]>) -> Value<'_> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|error| error.utf8_error()),
    }
}

fn invalid(name: &str, what: String) -> ApiError {
    ApiError::InvalidParameter { name: name.to_owned(), what }
}
