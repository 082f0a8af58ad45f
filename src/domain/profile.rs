//! The application's data about a user.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::nesting;

/// The application's data about a user (name, username, email, avatar, metadata), kept as its encoded JSON members.
///
/// A profile is parsed, checked and encoded once, where it comes in. After that, every list, event and key is a
/// concatenation (docs/adr/0004). Two profiles are equal if their canonical encodings are equal.
#[derive(Clone, PartialEq, Eq)]
pub struct Profile(Arc<str>);

/// The fields of a [`Profile`], in their canonical order. Unknown fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProfileFields {
    /// Display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Login or handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// E-mail address; not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// URL or path of a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// What else the application wants to be known. Its members are sorted by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// Some fields of a profile: `None` leaves a field as it is, `Some(None)` takes it away.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProfilePatch {
    /// Display name.
    pub name: Option<Option<String>>,
    /// Login or handle.
    pub username: Option<Option<String>>,
    /// E-mail address.
    pub email: Option<Option<String>>,
    /// URL or path of a picture.
    pub avatar: Option<Option<String>>,
    /// What else the application wants to be known.
    pub metadata: Option<Option<Map<String, Value>>>,
}

impl ProfilePatch {
    /// Whether it changes no field.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The fields of a profile after the patch.
    pub fn applied_to(self, profile: Option<&Profile>) -> ProfileFields {
        let fields = profile.map(Profile::fields).unwrap_or_default();
        ProfileFields {
            name: self.name.unwrap_or(fields.name),
            username: self.username.unwrap_or(fields.username),
            email: self.email.unwrap_or(fields.email),
            avatar: self.avatar.unwrap_or(fields.avatar),
            metadata: self.metadata.unwrap_or(fields.metadata),
        }
    }
}

/// How large a profile may be, in bytes of JSON.
#[derive(Debug, Clone, Copy)]
pub struct ProfileLimits {
    /// All fields but the metadata (`limits.profile_bytes`).
    pub fields_bytes: usize,
    /// The metadata (`limits.metadata_bytes`).
    pub metadata_bytes: usize,
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
    /// The encoded metadata is over the limit.
    #[error("`metadata` must be at most {max_bytes} bytes of JSON")]
    MetadataTooLong {
        /// The limit (`limits.metadata_bytes`).
        max_bytes: usize,
    },
    /// The metadata has objects and arrays within one another, more than 32 levels.
    #[error("`metadata` must have at most {} levels of objects and arrays", nesting::MAX)]
    MetadataTooDeep,
}

impl Profile {
    /// Encodes `fields`; `None` if no field is set.
    ///
    /// # Errors
    /// [`ProfileError`] if the encoding is over a limit.
    pub fn within(fields: &ProfileFields, limits: ProfileLimits) -> Result<Option<Self>, ProfileError> {
        if fields.metadata.as_ref().is_some_and(nesting::is_too_deep) {
            return Err(ProfileError::MetadataTooDeep);
        }
        let metadata_bytes = fields.metadata.as_ref().map_or(0, |metadata| encode(metadata).len());
        if metadata_bytes > limits.metadata_bytes {
            return Err(ProfileError::MetadataTooLong { max_bytes: limits.metadata_bytes });
        }
        let profile = Self::from_fields(fields);
        let n_bytes = profile.as_ref().map_or(0, |profile| profile.members().len());
        if n_bytes > limits.fields_bytes + metadata_bytes {
            return Err(ProfileError::TooLong { max_bytes: limits.fields_bytes });
        }
        Ok(profile)
    }

    /// Encodes `fields`, however large they are; `None` if no field is set.
    pub fn from_fields(fields: &ProfileFields) -> Option<Self> {
        let object = encode(fields);
        let members = &object[1..object.len() - 1];
        (!members.is_empty()).then(|| Self(members.into()))
    }

    /// The fields that were encoded.
    pub(crate) fn fields(&self) -> ProfileFields {
        serde_json::from_str(&format!("{{{}}}", self.0)).expect("a profile is made from its fields")
    }

    /// What a client that shows one text of a user shows, as an encoded JSON string: the username, or else the name.
    pub(crate) fn shown_name(&self) -> Option<&str> {
        let (name, rest) = first_member(&self.0, "\"name\":");
        let (username, _) = first_member(rest, "\"username\":");
        username.or(name)
    }

    /// The name for people.
    pub(crate) fn name(&self) -> Option<String> {
        self.fields().name
    }

    /// The login or handle.
    pub(crate) fn username(&self) -> Option<String> {
        self.fields().username
    }

    /// The encoded members without the braces: `"name":"John Doe","username":"johndoe"`. Never empty.
    pub fn members(&self) -> &str {
        &self.0
    }
}

/// The encoded string that comes after `head`, if `members` begin with that, and the members after it.
fn first_member<'a>(members: &'a str, head: &str) -> (Option<&'a str>, &'a str) {
    let Some(value) = members.strip_prefix(head) else { return (None, members) };
    let mut is_escaped = false;
    let ends = |byte: u8| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    };
    let n_inside = value.bytes().skip(1).position(ends).unwrap_or_default();
    let (value, rest) = value.split_at(n_inside + 2);
    (Some(value), rest.strip_prefix(',').unwrap_or(rest))
}

fn encode(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and JSON values always encode")
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Profile({{{}}})", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: ProfileLimits = ProfileLimits { fields_bytes: 30, metadata_bytes: 20 };

    fn fields(json: &str) -> ProfileFields {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_profile_is_its_canonical_members() {
        let fields =
            fields(r#"{ "avatar":"/a.png", "metadata":{"z":[1,{}],"a":null}, "other":1, "name":"Zo\u00eb \"Z\"" }"#);
        let profile = Profile::from_fields(&fields).unwrap();
        let members = r#""name":"Zoë \"Z\"","avatar":"/a.png","metadata":{"a":null,"z":[1,{}]}"#;
        assert_eq!(profile.members(), members);
        assert_eq!(profile.fields(), fields);
    }

    proptest! {
        #[test]
        fn the_shown_name_is_the_username_or_else_the_name(
            name in prop::option::of("[a\"\\\\,:\\PC]{0,6}"),
            username in prop::option::of("[a\"\\\\,:\\PC]{0,6}"),
            email in prop::option::of("[a\"]{0,3}"),
        ) {
            let shown = username.clone().or(name.clone());
            let fields = ProfileFields { name, username, email, ..ProfileFields::default() };
            let profile = Profile::from_fields(&fields);
            let found = profile.as_ref().and_then(Profile::shown_name);
            prop_assert_eq!(found.map(|text| serde_json::from_str::<String>(text).unwrap()), shown);
        }
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let profile = Profile::from_fields(&fields(r#"{"name":"Ann","email":"a@b","metadata":{"a":1}}"#));
        let patch =
            ProfilePatch { name: Some(Some("Bea".to_owned())), metadata: Some(None), ..ProfilePatch::default() };
        assert_eq!(patch.applied_to(profile.as_ref()), fields(r#"{"name":"Bea","email":"a@b"}"#));
        assert_eq!(ProfilePatch::default().applied_to(None), ProfileFields::default());
    }

    #[test]
    fn no_field_is_no_profile_and_too_much_is_an_error() {
        let within = |json| Profile::within(&fields(json), LIMITS);
        assert_eq!(within("{}"), Ok(None));
        assert!(within(r#"{"name":"x","metadata":{"a":"0123456789"}}"#).is_ok_and(|profile| profile.is_some()));
        let name = format!(r#"{{"name":"{}"}}"#, "x".repeat(30));
        assert_eq!(within(&name), Err(ProfileError::TooLong { max_bytes: 30 }));
        let metadata = r#"{"metadata":{"a":"0123456789012345"}}"#;
        assert_eq!(within(metadata), Err(ProfileError::MetadataTooLong { max_bytes: 20 }));
        let deep = format!(r#"{{"metadata":{{"a":{}{}}}}}"#, "[".repeat(nesting::MAX), "]".repeat(nesting::MAX));
        assert_eq!(within(&deep), Err(ProfileError::MetadataTooDeep));
    }
}
