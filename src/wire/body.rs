//! Reads the bodies of HTTP requests. Each is a JSON object. Members that nobody knows are ignored.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::fields::{Fault, TEXT_FIELDS, invalid, optional_status, patch, present, required};
use super::json::user_id;
use super::message::ErrorCode;
use crate::domain::{IdError, ProfilePatch, SaidStatus, UserId};

/// Why a body is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadBody {
    /// What is wrong, for programs.
    pub code: ErrorCode,
    /// What is wrong, for people.
    pub message: String,
}

/// A user of whom a client asks, as the client wrote it. It may be no id: [`AskedUser::id`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedUser<'a>(Cow<'a, str>);

/// What the application's server states about a user.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PresenceChange {
    /// What becomes of the profile.
    pub(crate) profile: ProfilePatch,
    /// The status. If there is none, it stays as it is.
    pub(crate) status: Option<SaidStatus>,
}

impl AskedUser<'_> {
    /// The text, which may be no id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id.
    ///
    /// # Errors
    /// [`IdError`] if it is none.
    pub fn id(&self) -> Result<UserId, IdError> {
        UserId::parse(&self.0)
    }
}

/// Reads `{"userIds":[…]}`, with `max` users at most. Each is a string or a whole number.
///
/// Whether a string is an id is left to [`AskedUser::id`]: a user who is found has one.
///
/// # Errors
/// [`BadBody`].
pub fn user_ids(body: &[u8], max: usize) -> Result<Vec<AskedUser<'_>>, BadBody> {
    // Almost every body is read here, at once. What is wrong with another body is found out below.
    if let Ok(Many { user_ids }) = serde_json::from_slice(body) {
        return if user_ids.len() > max { Err(too_many(max).into()) } else { Ok(user_ids) };
    }
    read(body, |fields| {
        let Value::Array(values) = required(fields, "userIds")? else {
            return Err(invalid("userIds", "must be an array"));
        };
        if values.len() > max {
            return Err(too_many(max));
        }
        let user = |(place, value): (usize, &Value)| match user_id(value) {
            Ok(user) => Ok(AskedUser(Cow::Owned(user.as_str().to_owned()))),
            Err(what) => Err(invalid_place(place, &what)),
        };
        values.iter().enumerate().map(user).collect()
    })
}

/// Says that the user at `place` (from 0) of `userIds` has no id.
pub(crate) fn bad_id(place: usize, what: IdError) -> BadBody {
    invalid_place(place, &what.to_string()).into()
}

/// Reads `{"userId":…}`. It is none if the object has no such member.
///
/// # Errors
/// [`BadBody`].
pub(crate) fn own_user(body: &[u8]) -> Result<Option<UserId>, BadBody> {
    read(body, |fields| present(fields, "userId").map(user_id).transpose().map_err(|what| invalid("userId", &what)))
}

/// Reads what the application's server states about a user: `{"name"?,…,"metadata"?,"status"?,"statusText"?,
/// "expiresAt"?|"expiresInMs"?}`.
///
/// # Errors
/// [`BadBody`]. One of these members is needed.
pub(crate) fn presence_change(body: &[u8]) -> Result<PresenceChange, BadBody> {
    read(body, |fields| {
        let change = PresenceChange { profile: patch(fields)?, status: optional_status(fields, false)? };
        if change.profile.is_empty() && change.status.is_none() {
            let names = TEXT_FIELDS.join("`, `");
            return Err((ErrorCode::MissingField, format!("one of `{names}`, `metadata` and `status` is needed")));
        }
        Ok(change)
    })
}

fn read<T>(body: &[u8], take: impl FnOnce(&Map<String, Value>) -> Result<T, Fault>) -> Result<T, BadBody> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| BadBody { code: ErrorCode::InvalidJson, message: format!("the body is not JSON: {error}") })?;
    let Value::Object(fields) = value else {
        return Err(BadBody { code: ErrorCode::NotAnObject, message: "the body must be a JSON object".to_owned() });
    };
    Ok(take(&fields)?)
}

fn too_many(max: usize) -> Fault {
    invalid("userIds", &format!("must have at most {max} users"))
}

fn invalid_place(place: usize, what: &str) -> Fault {
    invalid(&format!("userIds[{place}]"), what)
}

impl<'a> From<&'a UserId> for AskedUser<'a> {
    fn from(user: &'a UserId) -> Self {
        Self(Cow::Borrowed(user.as_str()))
    }
}

impl From<Fault> for BadBody {
    fn from((code, message): Fault) -> Self {
        Self { code, message }
    }
}

/// `{"userIds":[…]}`, read without copies.
#[derive(Deserialize)]
struct Many<'a> {
    #[serde(borrow, rename = "userIds")]
    user_ids: Vec<AskedUser<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for AskedUser<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct User;

        impl<'de> Visitor<'de> for User {
            type Value = AskedUser<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a whole number")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(AskedUser(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(AskedUser(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(AskedUser(Cow::Owned(number.to_string())))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(AskedUser(Cow::Owned(number.to_string())))
            }
        }

        deserializer.deserialize_any(User)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Status;

    fn asked(body: &str) -> Result<Vec<String>, (ErrorCode, String)> {
        let users = user_ids(body.as_bytes(), 3).map_err(|bad| (bad.code, bad.message))?;
        Ok(users.iter().map(|user| user.as_str().to_owned()).collect())
    }

    #[test]
    fn users_are_strings_or_whole_numbers_in_their_order() {
        assert_eq!(asked(r#"{"userIds":["b",7,"a\"\u00e9"]}"#).unwrap(), ["b", "7", "a\"é"]);
        assert_eq!(
            asked(r#"{"other":1,"userIds":[-7,18446744073709551615,"b"]}"#).unwrap(),
            ["-7", "18446744073709551615", "b"]
        );
        assert_eq!(asked(r#"{"userIds":[]}"#).unwrap(), [""; 0]);
        // As in every JSON object here, the last member of a name holds.
        assert_eq!(asked(r#"{"userIds":["a"],"userIds":["b"]}"#).unwrap(), ["b"]);
    }

    #[test]
    fn a_bad_body_says_what_is_wrong_and_where() {
        let long = format!(r#"{{"userIds":[5.5,"{}"]}}"#, "x".repeat(129));
        for (body, code, what) in [
            ("", ErrorCode::InvalidJson, "not JSON"),
            (r#"{"userIds":["a"]"#, ErrorCode::InvalidJson, "not JSON"),
            (r#"{"userIds":["a"]} x"#, ErrorCode::InvalidJson, "not JSON"),
            ("[]", ErrorCode::NotAnObject, "a JSON object"),
            ("{}", ErrorCode::MissingField, "`userIds`"),
            (r#"{"userIds":null}"#, ErrorCode::MissingField, "`userIds`"),
            (r#"{"userIds":"a"}"#, ErrorCode::InvalidField, "`userIds` must be an array"),
            (r#"{"userIds":["a","b","c","d"]}"#, ErrorCode::InvalidField, "at most 3"),
            (r#"{"userIds":["a",null,"b","c"]}"#, ErrorCode::InvalidField, "at most 3"),
            (r#"{"userIds":["a",null]}"#, ErrorCode::InvalidField, "`userIds[1]` must be a string or a whole number"),
            (r#"{"userIds":["a",true]}"#, ErrorCode::InvalidField, "`userIds[1]`"),
            (r#"{"userIds":[1.0]}"#, ErrorCode::InvalidField, "`userIds[0]`"),
            (&long, ErrorCode::InvalidField, "`userIds[0]`"),
        ] {
            let (found, message) = asked(body).unwrap_err();
            assert!(found == code && message.contains(what), "{body}: {found:?} {message}");
        }
    }

    #[test]
    fn what_is_no_id_is_told_when_it_is_asked() {
        let users = user_ids(br#"{"userIds":["","a\nb","ok"]}"#, 3).unwrap();
        let ids: Vec<_> = users.iter().map(AskedUser::id).collect();
        assert_eq!(ids, [Err(IdError::Empty), Err(IdError::ControlCharacter), Ok(UserId::parse("ok").unwrap())]);
        assert_eq!(bad_id(1, IdError::Empty).message, "`userIds[1]` must not be empty");
    }

    #[test]
    fn a_change_takes_away_leaves_and_sets() {
        let change = presence_change(br#"{"name":null,"metadata":{"a":1},"status":"dnd","statusText":"x"}"#).unwrap();
        assert_eq!((change.profile.name, change.profile.email), (Some(None), None));
        let status = change.status.unwrap();
        assert_eq!((status.status, status.text.unwrap().as_str()), (Status::Dnd, "x"));
        for (body, code) in [
            ("{}", ErrorCode::MissingField),
            (r#"{"status":null,"other":1}"#, ErrorCode::MissingField),
            (r#"{"name":5}"#, ErrorCode::InvalidField),
            (r#"{"name":"a","statusText":"x"}"#, ErrorCode::InvalidField),
            (r#"{"status":"asleep"}"#, ErrorCode::InvalidField),
            (r#"{"status":"busy","expiresInMs":1,"expiresAt":"2026-01-31T12:00:00Z"}"#, ErrorCode::InvalidField),
        ] {
            assert_eq!(presence_change(body.as_bytes()).unwrap_err().code, code, "{body}");
        }
    }

    #[test]
    fn a_body_may_name_the_caller() {
        assert_eq!(own_user(br#"{"userId":42}"#), Ok(Some(UserId::parse("42").unwrap())));
        assert_eq!((own_user(b"{}"), own_user(br#"{"userId":null}"#)), (Ok(None), Ok(None)));
        assert_eq!(own_user(br#"{"userId":""}"#).unwrap_err().code, ErrorCode::InvalidField);
    }

    proptest! {
        /// The quick way and the thorough way read the same.
        #[test]
        fn both_ways_agree(ids in prop::collection::vec("\\PC{1,8}|[0-9]{1,5}", 0..3), as_number: bool) {
            let values: Vec<Value> = ids
                .iter()
                .map(|id| match id.parse::<u64>() {
                    Ok(number) if as_number => Value::from(number),
                    _ => Value::from(id.as_str()),
                })
                .collect();
            let quick = serde_json::json!({"userIds": values}).to_string();
            // A second member of the name is for the thorough way.
            let thorough = quick.replacen('{', r#"{"userIds":[],"#, 1);
            prop_assert_eq!(asked(&quick), asked(&thorough));
        }

        #[test]
        fn no_body_makes_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (user_ids(&body, 3), own_user(&body), presence_change(&body));
        }
    }
}
