//! The checks of the fuzz targets (`fuzz/`, CONTRIBUTING.md), over their corpus and over random input: without an engine
//! that learns, but in every run of the tests.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../fuzz/checks/mod.rs"]
mod checks;

use checks::{bus, frames, keys, messages, packets, payloads, query, token};

/// The inputs that are kept for a target. A panic of the check names the file, for it comes last in the output.
fn each_of_corpus(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = fs::read_dir(&folder).expect("the corpus").map(|file| file.expect("a file").path()).collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        println!("{}", file.display());
        check(&fs::read(&file).expect("a readable file"));
    }
}

#[test]
fn the_corpus_of_frames_is_read_as_the_rfc_says() {
    each_of_corpus("frames", frames::check);
}

#[test]
fn the_corpus_of_messages_is_understood_or_refused_in_few_words() {
    each_of_corpus("messages", messages::check);
}

#[test]
fn the_corpus_of_the_bus_is_understood_or_refused_in_few_words() {
    each_of_corpus("bus", bus::check);
}

#[test]
fn the_corpus_of_keys_is_understood_or_left_out() {
    each_of_corpus("keys", keys::check);
}

#[test]
fn the_corpus_of_packets_is_understood_or_refused_in_few_words() {
    each_of_corpus("packets", packets::check);
}

#[test]
fn the_corpus_of_payloads_is_given_and_got_as_it_is() {
    each_of_corpus("payloads", payloads::check);
}

#[test]
fn the_corpus_of_queries_is_read_within_its_limits() {
    each_of_corpus("query", query::check);
}

#[test]
fn the_corpus_of_tokens_is_refused_or_obeys_the_rules() {
    each_of_corpus("token", token::check);
}

/// An input of two texts, for the bus and the keys: the first byte is the length of the first.
fn two_texts(one: &str, other: &str) -> Vec<u8> {
    let one = &one.as_bytes()[..one.len().min(255)];
    [&[one.len() as u8], one, other.as_bytes()].concat()
}

/// The start of a frame: the first byte as it should be or at random, the second with the mask bit or at random.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A]),
        1 => any::<u8>(),
    ];
    let length = prop_oneof![
        8 => (0..126_u8).prop_map(|length| vec![0x80 | length]),
        2 => any::<[u8; 2]>().prop_map(|[high, low]| vec![0xFE, high & 1, low]),
        1 => any::<u16>().prop_map(|length| [&[0xFF][..], &u64::from(length).to_be_bytes()].concat()),
        1 => any::<u8>().prop_map(|second| vec![second]),
    ];
    (first, length, any::<[u8; 4]>(), vec(any::<u8>(), 0..300)).prop_map(|(first, length, mask, mut payload)| {
        // As long as the header says, if it says so in seven bits: so that most frames are whole and the next is found.
        if let [short] = length[..] {
            payload.resize(usize::from(short & 0x7F), b'a');
        }
        [&[first][..], &length, &mask, &payload].concat()
    })
}

proptest! {
    #[test]
    fn random_frames_are_read_as_the_rfc_says(choice: u8, piece: u8, frames in vec(frame(), 0..8)) {
        frames::check(&[&[choice & !1, piece][..], &frames.concat()].concat());
    }

    #[test]
    fn well_formed_messages_are_read_as_they_were_meant(choice: u8, piece: u8, script in vec(any::<u8>(), 0..60)) {
        frames::check(&[&[choice | 1, piece][..], &script].concat());
    }

    #[test]
    fn a_random_message_between_nodes_is_understood_or_refused_in_few_words(
        channel in "online:room:[a-z%A3:]{0,12}:(events|signals)",
        kind in "online|changed|offline|entered|left|active|question|answer|typing|echo|\\PC{0,6}",
        fields in vec(
            ("epoch|revision|birth|userId|user|reason|at|activeAt|users|from|number|inquiry|sockets|room|to|isTyping", value()),
            0..8,
        ),
    ) {
        let kind = serde_json::Value::from(kind);
        let fields: String = fields.iter().map(|(name, value)| format!(",\"{name}\":{value}")).collect();
        bus::check(&two_texts(&channel, &format!("{{\"type\":{kind}{fields}}}")));
    }

    #[test]
    fn random_ids_and_values_are_understood_or_left_out(one in id_or_value(), other in id_or_value()) {
        keys::check(&two_texts(&one, &other));
    }

    #[test]
    fn random_packets_are_understood_or_refused_in_few_words(
        choice: u8,
        name in "join_user|authenticate|join-room|leave-room|ping|typing-start|join-chat-session|set_status|watch|\\PC{0,8}",
        arguments in vec(prop_oneof![value(), (member(), value()).prop_map(|(name, value)| serde_json::json!({name: value}))], 0..6),
        rubbish in "[0-9/,\\[\"-]{0,6}\\PC{0,8}",
    ) {
        let arguments: String = arguments.iter().map(|argument| format!(",{argument}")).collect();
        let name = serde_json::Value::from(name).to_string();
        packets::check(&[&[choice][..], &name.as_bytes()[1..], arguments.as_bytes(), b"]"].concat());
        packets::check(&[&[choice][..], rubbish.as_bytes()].concat());
    }

    #[test]
    fn random_payloads_are_given_and_got_as_they_are(
        cuts: [u8; 2],
        packets in vec(prop_oneof![4 => "[0-6b](41|42|\\[|\\PC){0,40}", 1 => "\\PC{0,300}", 1 => Just("1".to_owned()), 1 => Just("41".to_owned())], 0..12),
    ) {
        payloads::check(&[&cuts[..], packets.join("\x1e").as_bytes()].concat());
    }

    #[test]
    fn a_random_query_is_read_within_its_limits(
        parts in vec(("userId|status|presence|format|limit|countOnly|offset|[a-z]{0,3}", "[ -~]{0,8}|[0-9]{0,20}|\\PC{0,140}"), 0..8),
    ) {
        let parts: Vec<_> = parts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        query::check(parts.join("&").as_bytes());
    }

    #[test]
    fn a_random_proxy_header_ends_where_it_ends(
        start in prop_oneof![
            Just(b"PROXY TCP4 ".to_vec()),
            Just(b"PROXY UNKNOWN".to_vec()),
            Just(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec()),
            Just(b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x30".to_vec()),
            Just(b"\r\n\r\n\0\r\nQUIT\n".to_vec()),
        ],
        rest in prop_oneof![
            "[0-9]{1,3}(\\.[0-9]{1,2}){3} 10\\.0\\.0\\.1 [0-9]{1,4} 80\r\n.{0,9}".prop_map(String::into_bytes),
            vec(any::<u8>(), 0..80),
        ],
    ) {
        query::check(&[start, rest].concat());
    }

    #[test]
    fn a_random_message_is_understood_or_refused_in_few_words(
        kind in prop_oneof![
            "authenticate|join_user|set_status|update_presence|user_activity|get_online_users|check_user_online|get_devices|leave|\
             subscribe|watch|unwatch|watch_count|unwatch_count|pause|resume|\
             join_room|leave_room|get_room_users|get_room_count",
            any::<String>(),
        ],
        fields in vec(("userId|userIds|roomId|rooms|presence|name|username|email|avatar|limit|cursor|ref|token|type", value()), 0..6),
    ) {
        let kind = serde_json::Value::from(kind);
        let fields: String = fields.iter().map(|(name, value)| format!(",\"{name}\":{value}")).collect();
        messages::check(format!("{{\"type\":{kind}{fields}}}").as_bytes());
    }
}

proptest! {
    #[test]
    fn random_claims_are_refused_or_obey_the_rules(
        claims in vec(("sub|exp|nbf|aud|iss|scope|rooms|name|keys", value()), 0..8),
        user in "[a-z]{1,3}",
        exp in prop_oneof![any::<u64>(), 1_799_999_980..1_800_000_010_u64],
    ) {
        let claims: String = claims.iter().map(|(name, value)| format!(",\"{name}\":{value}")).collect();
        token::check(format!("{{\"sub\":{user:?},\"exp\":{exp}{claims}}}").as_bytes());
    }
}

/// Texts that look like parts of keys, like ids, or like the values of keys.
fn id_or_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "(a|:|%|3A|25|user:socket:|:users:set|:head|\t|000000000000\\.1|ë){1,5}",
        any::<String>(),
        r#"\{"(lastSeen|grace|status)":([0-9]{1,20}|"online"|null)(,"(idle|since|updatedAt|activeAt)":[0-9]{1,20}){0,3}\}"#,
    ]
}

/// A member that events of Socket.IO have.
fn member() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["userId", "roomId", "chatSessionId", "token", "username", "presence"])
}

/// A JSON value of the kinds that fields have, and others.
fn value() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        any::<String>().prop_map(Into::into),
        "[a-zø\u{0}\\\\\"]{0,200}".prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<bool>().prop_map(Into::into),
        Just(serde_json::Value::Null),
        Just(serde_json::json!([{}])),
    ]
}
