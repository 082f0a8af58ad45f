//! What comes before the first message: whatever it is, a value obeys its limits, a refusal is short and names one parameter, and
//! a PROXY header ends where it ends.

use rollcall::domain::{Status, UserId};
use rollcall::fuzzing::query::{Answer, Beginning, MAX_COUNT, answers, beginning};
use serde_json::Value;

/// Far above every refusal there is: what a client sends must not come back to it in full.
const MAX_REFUSAL_BYTES: usize = 512;

/// # Panics
/// When something does not hold.
pub(crate) fn check(input: &[u8]) {
    let query = String::from_utf8_lossy(input);
    answers(&query).iter().for_each(check_answer);
    check_beginning(input);
}

fn check_answer((kind, answer): &Answer) {
    let value = match answer {
        Ok(None) => return,
        Ok(Some(value)) => value,
        Err(body) => return check_refusal(body),
    };
    match *kind {
        "user" => assert_eq!(UserId::parse(value).map(|user| user.to_string()).as_ref(), Ok(value)),
        "flag" => assert!(["true", "false"].contains(&value.as_str()), "{value}"),
        "format" => assert!(["native", "plain"].contains(&value.as_str()), "{value}"),
        "status" => assert!(Status::from_name(value).is_some(), "{value}"),
        "interest" => assert!(["everyone", "watch", "count", "none"].contains(&value.as_str()), "{value}"),
        "count" => assert!((1..=MAX_COUNT).contains(&value.parse::<usize>().expect("a number")), "{value}"),
        "number" => assert!(value.parse::<u64>().is_ok(), "{value}"),
        _ => panic!("{kind} is not known"),
    }
}

fn check_refusal(body: &[u8]) {
    assert!(body.len() <= MAX_REFUSAL_BYTES, "{}", String::from_utf8_lossy(body));
    let json: Value = serde_json::from_slice(body).expect("a refusal is JSON");
    assert_eq!(json["code"], "invalid_parameter");
    assert_eq!(json["success"], false);
}

/// A header is a part until its last byte. What follows it changes nothing.
fn check_beginning(bytes: &[u8]) {
    let whole = beginning(bytes);
    let Beginning::Header(n_bytes) = whole else { return };
    assert!(n_bytes <= bytes.len(), "{n_bytes} of {} bytes", bytes.len());
    assert_eq!(beginning(&bytes[..n_bytes]), whole);
    for shorter in 0..n_bytes {
        assert_eq!(beginning(&bytes[..shorter]), Beginning::Part, "{shorter} of {n_bytes} bytes");
    }
}
