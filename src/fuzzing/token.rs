//! Tokens, their claims, and sets of keys.

use crate::auth::trial;
use crate::domain::{Timestamp, UserId};

/// Whether a text is taken for a token, although nobody has signed it.
pub fn is_forged(text: &str) -> bool {
    trial::is_forged(text)
}

/// The user of a signed token with these claims, and when the token ends, if it is accepted at a time in ms.
pub fn accepted(claims: &[u8], now_ms: u64) -> Option<(UserId, Timestamp)> {
    trial::accepted(claims, now_ms)
}

/// Whether a text is a set of keys of which one can be used.
pub fn is_key_set(text: &[u8]) -> bool {
    trial::is_key_set(text)
}
