//! The channels between nodes. Whatever is accepted obeys the rules of the service, and can be told to clients. Whatever is refused
//! gets a short complaint of one line.

use rollcall::domain::{Change, Profile, ProfileFields, Roster, Said, Timestamp, Transition};
use rollcall::fuzzing::bus;
use rollcall::wire::Format;
use rollcall::wire::message::{Message, Standing};
use serde_json::Value;

/// Numbers that JavaScript and Lua count exactly are below this. Source: docs/redis.md
const COUNT_END: u64 = 1 << 53;

/// Far above every complaint there is.
const MAX_COMPLAINT_BYTES: usize = 2500;

/// The first byte says how long the name of the channel is.
///
/// # Panics
/// When something does not hold.
pub(crate) fn check(input: &[u8]) {
    let Some((length, rest)) = input.split_first() else { return };
    let (channel, message) = rest.split_at(usize::from(*length).min(rest.len()));
    match bus::transition(message) {
        Some(transition) => check_transition(&transition),
        None => check_complaint(message),
    }
    if let Some(transition) = bus::room_transition(channel, message) {
        assert!(transition.position.birth < COUNT_END && transition.position.revision < COUNT_END, "{transition:?}");
    }
    if let Some(signal) = bus::signal(message) {
        let again = bus::signal(bus::signal_json(&signal).as_bytes());
        assert_eq!(again.as_ref(), Some(&signal), "what is said again means the same");
    }
}

fn check_transition(transition: &Transition) {
    assert!(transition.position.revision < COUNT_END, "{transition:?}");
    let (Change::Online(presence) | Change::Changed(presence)) = &transition.change else { return };
    // A statement about this user is later than all that is known.
    let profile = Profile::from_fields(&ProfileFields { name: Some("new".to_owned()), ..ProfileFields::default() });
    let said = Said { profile: Some(profile), ..Said::default() };
    let stated = said.dated(presence, Timestamp(1));
    assert!(stated.profile.is_none_or(|(_, at)| at >= presence.profile_at));
    // Clients get a list that is JSON.
    let roster: Roster = [(transition.user.clone(), presence.clone())].into_iter().collect();
    let page = roster.page(None, 10, None);
    let standing = Standing { position: transition.position, degraded: None };
    for format in Format::ALL {
        let message = Message::List { page: &page, total: 1, standing };
        let Some(frame) = format.encode(&message, None) else { continue };
        let header = match frame[1] {
            0..126 => 2,
            126 => 4,
            _ => 10,
        };
        let payload = &frame[header..];
        let list = payload.strip_prefix(b"42").filter(|_| format.is_socketio()).unwrap_or(payload);
        let list: Value = serde_json::from_slice(list).expect("a list is JSON");
        assert!(list.to_string().contains(&Value::from(transition.user.as_str()).to_string()) || page.users.is_empty());
    }
}

fn check_complaint(message: &[u8]) {
    let complaint = bus::complaint(message).expect("what is refused has a reason");
    assert!(complaint.len() <= MAX_COMPLAINT_BYTES, "{} bytes: {complaint}", complaint.len());
    assert!(!complaint.contains(|c: char| c.is_control() || c == '\u{202e}' || c == '\u{2028}'), "{complaint:?}");
}
