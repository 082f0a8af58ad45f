//! Query parameters, with errors that name the parameter.

use std::borrow::Cow;

use super::ApiError;
use crate::domain::UserId;

/// The parameters of a request. Unknown ones are ignored; of one given twice, which counts would be a guess, so it is an
/// error when it is asked for.
pub struct Parameters<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Parameters<'a> {
    /// Parses a query string. Every text is one: what is no `name=value` is a name without a value, and what is not UTF-8 is
    /// replaced (U+FFFD).
    pub fn parse(query: &'a str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).collect())
    }

    /// A user id; absent if empty.
    pub fn user(&self, name: &str) -> Result<Option<UserId>, ApiError> {
        let Some(text) = self.get(name)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        UserId::parse(text).map(Some).map_err(|error| invalid(name, error.to_string()))
    }

    /// `true` or `false`; false if absent.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(invalid(name, "must be true or false".to_owned())),
        }
    }

    /// A whole number from 1 to `max`.
    pub fn count(&self, name: &str, max: usize) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        match text.parse() {
            Ok(count) if (1..=max).contains(&count) => Ok(Some(count)),
            _ => Err(invalid(name, format!("must be a whole number from 1 to {max}"))),
        }
    }

    fn get(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(invalid(name, "must be given once".to_owned())),
        }
    }
}

fn invalid(name: &str, what: String) -> ApiError {
    ApiError::InvalidParameter { name: name.to_owned(), what }
}
