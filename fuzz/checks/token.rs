//! Tokens: no text is one by chance, claims that are accepted obey the rules, and a set of keys is read or refused.

use rollcall::fuzzing::token;
use serde_json::Value;

/// The time at which claims are tried, in ms.
const NOW_MS: u64 = 1_800_000_000_000;

/// How far clocks may differ, in ms. Source: config/default.toml, auth.leeway_ms
const LEEWAY_MS: u64 = 10_000;

/// # Panics
/// When something does not hold.
pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    assert!(!token::is_forged(&text), "{text}");
    if token::is_key_set(input) {
        let set: Value = serde_json::from_slice(input).expect("a set of keys is JSON");
        assert!(set["keys"].as_array().is_some_and(|keys| (1..=64).contains(&keys.len())), "{set}");
    }
    let Ok(claims) = serde_json::from_slice::<Value>(input) else { return };
    let Some((user, ends_at)) = token::accepted(input, NOW_MS) else { return };
    let id = user.as_str();
    assert!((1..=128).contains(&id.len()) && !id.contains(char::is_control), "{id:?}");
    assert!(
        claims["sub"] == id
            || claims["sub"].as_i64().is_some_and(|number| number.to_string() == id)
            || claims["sub"].as_u64().is_some_and(|number| number.to_string() == id),
        "{claims} is {id:?}"
    );
    assert!(claims["exp"].is_number() && ends_at.0.saturating_add(LEEWAY_MS) > NOW_MS, "{claims} ends at {ends_at:?}");
    assert!(claims.get("aud").is_none_or(Value::is_null), "{claims} is for somebody else");
}
