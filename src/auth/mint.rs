//! Tokens that this program makes itself, to try things out (`rollcall token`).

use std::time::Duration;

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value, json};

use super::keys::Rules;
use super::{KeySet, Right, profile_limits};
use crate::clock;
use crate::domain::{Profile, ProfileFields, RoomId, UserId};
use crate::settings::Settings;

/// What a token should say.
#[derive(Debug, Clone)]
pub struct TokenWish {
    /// The user.
    pub user: String,
    /// The scopes. None means that the token has none, and `auth.default_scopes` hold.
    pub scopes: Vec<String>,
    /// The rooms that the user may enter. None means that the token names none.
    pub rooms: Vec<String>,
    /// The name that the token states.
    pub name: Option<String>,
    /// How long it holds.
    pub lifetime: Duration,
}

/// A token that a node with these settings accepts.
///
/// # Errors
/// There is no `auth.secret`: only the issuer has the private key of the others. Or the user, a scope or a room is none, or the name is too
/// long.
pub fn mint(settings: &Settings, wish: &TokenWish) -> anyhow::Result<String> {
    let auth = &settings.auth;
    let secret = auth.secret.as_ref().context("a token can be made only with auth.mode = \"jwt\" and auth.secret")?;
    let secret = secret.expose_secret();
    let keys = KeySet::from_secret(secret, &Rules::new(auth)).context("auth.algorithms has none for a secret")?;
    let algorithms = &keys.candidates(None)[0].validation.algorithms;
    let mut claims = Value::Object(Map::new());
    let mut put = |name: &str, value: Value| put(&mut claims, name, value);
    put(&auth.claim_user, UserId::parse(&wish.user).context("the user")?.as_str().into());
    if !wish.scopes.is_empty() {
        for scope in &wish.scopes {
            Right::from_name(scope).with_context(|| format!("{scope:?} is no scope"))?;
        }
        let name = auth.claim_scopes.as_deref().context("auth.claim_scopes is empty")?;
        put(name, wish.scopes.join(" ").into());
    }
    if !wish.rooms.is_empty() {
        for room in &wish.rooms {
            RoomId::parse(room).with_context(|| format!("the room {room:?}"))?;
        }
        put(auth.claim_rooms.as_deref().context("auth.claim_rooms is empty")?, json!(wish.rooms));
    }
    if let Some(name) = &wish.name {
        let profile = ProfileFields { name: Some(name.clone()), ..ProfileFields::default() };
        Profile::within(&profile, profile_limits(&settings.limits)).context("the name")?;
        put(auth.claim_name.as_deref().context("auth.claim_name is empty")?, json!(name));
    }
    let now = clock::now();
    put("iat", json!(now.0 / 1000));
    put("exp", json!(now.after(wish.lifetime).0 / 1000));
    if let Some(issuer) = &auth.issuer {
        put("iss", json!(issuer));
    }
    if let Some(audience) = auth.audience.first() {
        put("aud", json!(audience));
    }
    let algorithm = algorithms.first().copied().unwrap_or(Algorithm::HS256);
    encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret.as_bytes())).context("cannot sign")
}

/// Puts a claim where it is looked for: a name that begins with `/` is a path through objects.
fn put(claims: &mut Value, name: &str, value: Value) {
    let parts: Vec<String> = match name.strip_prefix('/') {
        Some(path) => path.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect(),
        None => vec![name.to_owned()],
    };
    // An index of an object that is not there puts it there.
    let place = parts.iter().fold(claims, |place, part| {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        &mut place[part.as_str()]
    });
    *place = value;
}
