//! What is known of a user besides their presence.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, by the clock of the store. That is Redis `TIME`. With the embedded store it is
/// the node's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time from this to `later`. It is zero if `later` is earlier, which happens between two clocks.
    pub(crate) fn until(self, later: Timestamp) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// A user's presence data, as every list and event shows it: the profile, and the time of its last change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presence {
    /// `None` says that only the id is known.
    pub profile: Option<Profile>,
    /// When the profile was last changed, by the store's clock. The later of two versions wins (docs/design.md,
    /// decision 3).
    pub updated_at: Timestamp,
}

/// The application's data about a user (name, username, email, avatar), kept as its encoded JSON members.
///
/// A profile is parsed, checked and encoded once, where it comes in. After that, every list, event and key is a
/// concatenation (docs/adr/0004). Two profiles are equal if their canonical encodings are equal.
#[derive(Clone, PartialEq, Eq)]
pub struct Profile(Arc<str>);

/// The fields of a [`Profile`], in their canonical order. All are strings. Unknown fields are ignored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ProfileFields {
    /// Display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Login or handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// E-mail address. It is not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// URL or path of a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
}

/// Why fields are not a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The encoded fields are over the limit.
    #[error("the profile must be at most {max_bytes} bytes of JSON")]
    TooLong {
        /// The limit (`limits.profile_bytes`).
        max_bytes: usize,
    },
}

impl Profile {
    /// Encodes `fields`. Returns `None` if no field is set.
    ///
    /// # Errors
    /// [`ProfileError::TooLong`] if the encoding is over `max_bytes`.
    pub fn from_fields(fields: &ProfileFields, max_bytes: usize) -> Result<Option<Self>, ProfileError> {
        let object = serde_json::to_string(fields).expect("strings always encode");
        let members = &object[1..object.len() - 1];
        if members.len() > max_bytes {
            return Err(ProfileError::TooLong { max_bytes });
        }
        Ok((!members.is_empty()).then(|| Self(members.into())))
    }

    /// The encoded members without the braces: `"name":"John Doe","username":"johndoe"`. Never empty.
    pub fn members(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Profile({{{}}})", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_its_canonical_members() {
        let fields: ProfileFields =
            serde_json::from_str(r#"{ "avatar":"/a.png", "other":1, "name":"Zo\u00eb \"Z\"" }"#).unwrap();
        let profile = Profile::from_fields(&fields, 2048).unwrap().unwrap();
        assert_eq!(profile.members(), r#""name":"Zoë \"Z\"","avatar":"/a.png""#);
    }

    #[test]
    fn no_field_is_no_profile_and_too_much_is_an_error() {
        assert_eq!(Profile::from_fields(&ProfileFields::default(), 10), Ok(None));
        let fields = ProfileFields { name: Some("x".repeat(10)), ..ProfileFields::default() };
        assert_eq!(Profile::from_fields(&fields, 10), Err(ProfileError::TooLong { max_bytes: 10 }));
    }
}
