//! What a token says of its user. The settings name the claims.

use serde_json::Value;

use super::{Fault, Identity, Right, Rights, Who};
use crate::domain::{Profile, ProfileLimits, ProfilePatch, RoomId, Timestamp, UserId};
use crate::settings::AuthSettings;
use crate::wire::json::{room_id, user_id};

/// Where each thing stands in a token. A name that begins with `/` is a path through nested claims (RFC 6901).
#[derive(Debug, Clone)]
pub(super) struct ClaimNames {
    user: String,
    scopes: Option<String>,
    rooms: Option<String>,
    name: Option<String>,
    username: Option<String>,
    email: Option<String>,
    avatar: Option<String>,
    metadata: Option<String>,
    default_rights: Rights,
    profile_limits: ProfileLimits,
}

impl ClaimNames {
    /// The names of the settings `auth.claim_*`. A profile that a token states is within `profile_limits`.
    pub(super) fn new(settings: &AuthSettings, profile_limits: ProfileLimits) -> Self {
        let default_rights =
            settings.default_scopes.iter().filter_map(|name| Right::from_name(name)).collect::<Vec<_>>();
        Self {
            user: settings.claim_user.clone(),
            scopes: settings.claim_scopes.clone(),
            rooms: settings.claim_rooms.clone(),
            name: settings.claim_name.clone(),
            username: settings.claim_username.clone(),
            email: settings.claim_email.clone(),
            avatar: settings.claim_avatar.clone(),
            metadata: settings.claim_metadata.clone(),
            default_rights: Rights::of(&default_rights),
            profile_limits,
        }
    }

    /// Who the claims say that the client is, until `ends_at`.
    ///
    /// # Errors
    /// [`Fault::Claim`]: there is no user, or the user, the scopes or the rooms are not what they should be. What decides what
    /// somebody may do is never guessed. Or the profile is over a limit, so nobody could join with it.
    pub(super) fn identity(&self, claims: &Value, ends_at: Timestamp) -> Result<Identity, Fault> {
        Ok(Identity {
            who: Who::User(self.user(claims)?),
            rights: self.rights(claims)?,
            rooms: self.rooms(claims)?,
            stated: self.stated(claims)?,
            ends_at: Some(ends_at),
        })
    }

    fn user(&self, claims: &Value) -> Result<UserId, Fault> {
        let claim = find(claims, &self.user).ok_or(Fault::Claim)?;
        user_id(claim).map_err(|_| Fault::Claim)
    }

    /// The scopes: a text with spaces between them (RFC 8693 §4.2), or a list. Those that are not ours are for others.
    fn rights(&self, claims: &Value) -> Result<Rights, Fault> {
        let Some(scopes) = self.scopes.as_deref().and_then(|name| find(claims, name)) else {
            return Ok(self.default_rights);
        };
        let names: Vec<&str> = match scopes {
            Value::String(text) => text.split(' ').collect(),
            Value::Array(list) => list.iter().map(Value::as_str).collect::<Option<_>>().ok_or(Fault::Claim)?,
            _ => return Err(Fault::Claim),
        };
        // The metrics are for API keys alone.
        let rights = names.into_iter().filter_map(Right::from_name).filter(|right| *right != Right::Metrics);
        Ok(Rights::of(&rights.collect::<Vec<_>>()))
    }

    fn rooms(&self, claims: &Value) -> Result<Option<Box<[RoomId]>>, Fault> {
        let Some(rooms) = self.rooms.as_deref().and_then(|name| find(claims, name)) else { return Ok(None) };
        let rooms = rooms.as_array().ok_or(Fault::Claim)?.iter().map(room_id).collect::<Result<_, _>>();
        rooms.map(Some).map_err(|_| Fault::Claim)
    }

    /// What the token states of the profile. A claim that is of another kind states nothing: some issuers write `false` for an
    /// address that is missing, and nobody should be locked out for that.
    fn stated(&self, claims: &Value) -> Result<ProfilePatch, Fault> {
        let claim = |name: &Option<String>| find(claims, name.as_deref()?);
        let text = |name| claim(name).and_then(Value::as_str).map(|text| Some(text.to_owned()));
        let stated = ProfilePatch {
            name: text(&self.name),
            username: text(&self.username),
            email: text(&self.email),
            avatar: text(&self.avatar),
            metadata: claim(&self.metadata).and_then(Value::as_object).map(|object| Some(object.clone())),
        };
        let profile = Profile::within(&stated.clone().applied_to(None), self.profile_limits);
        profile.map(|_| stated).map_err(|_| Fault::Claim)
    }
}

/// The claim of this name.
fn find<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::Settings;

    const END: Timestamp = Timestamp(1);

    fn names(change: impl FnOnce(&mut AuthSettings)) -> ClaimNames {
        let mut settings = Settings::default().auth;
        change(&mut settings);
        ClaimNames::new(&settings, ProfileLimits { fields_bytes: 100, metadata_bytes: 50 })
    }

    fn identity(claims: Value) -> Result<Identity, Fault> {
        names(|_| ()).identity(&claims, END)
    }

    fn user_of(identity: &Identity) -> &str {
        let Who::User(user) = identity.who() else { panic!("{:?}", identity.who()) };
        user.as_str()
    }

    #[test]
    fn a_user_is_a_text_or_a_whole_number() {
        for (claim, user) in [(json!("42"), "42"), (json!(42), "42"), (json!("a:b{}*%"), "a:b{}*%")] {
            let identity = identity(json!({ "sub": claim })).unwrap();
            assert_eq!(user_of(&identity), user);
        }
        for claim in
            [json!(""), json!(4.5), json!(true), json!(null), json!(["a"]), json!("a\nb"), json!("x".repeat(129))]
        {
            assert_eq!(identity(json!({ "sub": claim })).unwrap_err(), Fault::Claim, "{claim}");
        }
        assert_eq!(identity(json!({})).unwrap_err(), Fault::Claim);
    }

    #[test]
    fn scopes_are_a_text_or_a_list_and_those_of_others_are_not_ours() {
        let rights = |scope: Value| identity(json!({"sub": "a", "scope": scope})).map(|identity| identity.rights);
        let both = Ok(Rights::of(&[Right::Read, Right::Observe]));
        assert_eq!(rights(json!("openid presence:read  observe")), both);
        assert_eq!(rights(json!(["presence:read", "observe", "profile"])), both);
        assert_eq!(rights(json!("")), Ok(Rights::default()));
        assert_eq!(rights(json!("PRESENCE:READ metrics")), Ok(Rights::default()));
        for bad in [json!(null), json!(7), json!({"a": 1}), json!(["observe", 7])] {
            assert_eq!(rights(bad.clone()), Err(Fault::Claim), "{bad}");
        }
        let defaults = identity(json!({"sub": "a"})).unwrap().rights;
        assert_eq!(defaults, Rights::of(&[Right::Read, Right::Write, Right::Invisible]));
    }

    #[test]
    fn rooms_decide_only_if_they_are_there() {
        let room = |id: &str| RoomId::parse(id).unwrap();
        let without = identity(json!({"sub": "a"})).unwrap();
        assert!(without.grants(&room("any")).is_none());
        let with = identity(json!({"sub": "a", "rooms": ["general", 7]})).unwrap();
        assert_eq!(["general", "7", "other"].map(|id| with.grants(&room(id))), [true, true, false].map(Some));
        let nowhere = identity(json!({"sub": "a", "rooms": []})).unwrap();
        assert_eq!(nowhere.grants(&room("general")), Some(false));
        for bad in [json!(null), json!("general"), json!([true]), json!({"general": true})] {
            assert_eq!(identity(json!({"sub": "a", "rooms": bad})).unwrap_err(), Fault::Claim, "{bad}");
        }
    }

    #[test]
    fn a_claim_of_another_kind_states_nothing_of_the_profile() {
        let claims = json!({"sub": "a", "name": "Ada", "email": false, "picture": null, "preferred_username": 7});
        let stated = identity(claims).unwrap().stated;
        assert_eq!(stated, ProfilePatch { name: Some(Some("Ada".to_owned())), ..ProfilePatch::default() });
    }

    #[test]
    fn a_profile_that_is_over_a_limit_is_refused() {
        let names = names(|settings| settings.claim_metadata = Some("extra".to_owned()));
        let identity = |claims: Value| names.identity(&claims, END).map(|identity| identity.stated.is_empty());
        let nested = (0..40).fold(json!({}), |inner, _| json!({ "": inner }));
        assert_eq!(identity(json!({"sub": "a", "name": "x".repeat(70), "extra": {"a": "x".repeat(40)}})), Ok(false));
        for claims in [
            json!({"sub": "a", "name": "x".repeat(100)}),
            json!({"sub": "a", "name": "x".repeat(50), "picture": "y".repeat(50)}),
            json!({"sub": "a", "extra": {"a": "x".repeat(50)}}),
            json!({"sub": "a", "extra": nested}),
        ] {
            assert_eq!(identity(claims.clone()), Err(Fault::Claim), "{claims}");
        }
    }

    #[test]
    fn a_name_with_a_slash_is_a_path() {
        let names = names(|settings| {
            settings.claim_user = "/user/id".to_owned();
            settings.claim_scopes = Some("/realm/a~1b".to_owned());
            settings.claim_metadata = Some("extra".to_owned());
        });
        let claims =
            json!({"user": {"id": "ada"}, "realm": {"a/b": ["observe"]}, "extra": {"team": "blue"}, "sub": "other"});
        let identity = names.identity(&claims, END).unwrap();
        assert_eq!((user_of(&identity), identity.rights), ("ada", Rights::of(&[Right::Observe])));
        assert_eq!(identity.stated.metadata.unwrap().unwrap()["team"], "blue");
    }
}
