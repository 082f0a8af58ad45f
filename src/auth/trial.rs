//! What the fuzz targets try of this module (`src/fuzzing/token.rs`).

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::Value;

use super::keys::{KeySet, Rules};
use super::tokens::{Tokens, Unverified};
use super::{Who, profile_limits};
use crate::domain::{Timestamp, UserId};
use crate::settings::Settings;

const SECRET: &str = "a secret that the fuzzer cannot guess";

/// Whether a text is a token of somebody who does not know the secret.
pub(crate) fn is_forged(text: &str) -> bool {
    user_of(text, Timestamp(0)).is_some()
}

/// The user of a token with these claims at this time, in ms, if it is accepted. Also the time at which the token ends.
pub(crate) fn accepted(claims: &[u8], now_ms: u64) -> Option<(UserId, Timestamp)> {
    let claims: Value = serde_json::from_slice(claims).ok()?;
    let token = encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).ok()?;
    user_of(&token, Timestamp(now_ms))
}

/// Whether a text is a set of keys that can be used.
pub(crate) fn is_key_set(text: &[u8]) -> bool {
    KeySet::from_jwks(text, &Rules::new(&Settings::default().auth)).is_ok()
}

fn user_of(text: &str, now: Timestamp) -> Option<(UserId, Timestamp)> {
    let Settings { auth, limits, .. } = Settings::default();
    let keys = KeySet::from_secret(SECRET, &Rules::new(&auth))?;
    let identity =
        Tokens::new(&auth, profile_limits(&limits)).verify(&Unverified::read(text).ok()?, &keys, now).ok()?;
    match identity.who() {
        Who::User(user) => Some((user.clone(), identity.ends_at()?)),
        Who::Anyone | Who::Server(_) => None,
    }
}
