//! The checks of the fuzz targets (`fuzz/`, CONTRIBUTING.md), over their corpus and over random input: without an engine
//! that learns, but in every run of the tests.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../fuzz/checks/mod.rs"]
mod checks;

use checks::{frames, messages};

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
    fn a_random_message_is_understood_or_refused_in_few_words(
        kind in prop_oneof![
            "join_user|set_status|update_presence|user_activity|get_online_users|check_user_online|get_devices|leave|\
             subscribe|watch|unwatch|watch_count|unwatch_count|pause|resume|\
             join_room|leave_room|get_room_users|get_room_count",
            any::<String>(),
        ],
        fields in vec(("userId|userIds|roomId|rooms|presence|name|username|email|avatar|limit|cursor|ref|type", value()), 0..6),
    ) {
        let kind = serde_json::Value::from(kind);
        let fields: String = fields.iter().map(|(name, value)| format!(",\"{name}\":{value}")).collect();
        messages::check(format!("{{\"type\":{kind}{fields}}}").as_bytes());
    }
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
