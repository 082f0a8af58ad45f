//! The answer to `explain`, printed for a person.

use std::fmt::Write;
use std::ops::RangeInclusive;

use serde_json::Value;

use super::columns;

/// Prints the whole answer. A member that this version does not know is left out.
pub(super) fn of(answer: &Value) -> String {
    let data = &answer["data"];
    let now = data["store"]["time"].as_str().or(answer["timestamp"].as_str()).unwrap_or_default();
    let mut out = format!("{}\n", text(&data["summary"]));
    push_user(&mut out, data, now);
    push_sockets(&mut out, data);
    push_nodes(&mut out, data);
    push_transitions(&mut out, data, now);
    push_here(&mut out, data, now);
    out
}

/// Characters that nobody sees, or that change the order in which others are seen.
const TRICKY: [RangeInclusive<char>; 14] = [
    '\u{ad}'..='\u{ad}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff9}'..='\u{fffb}',
    '\u{e0000}'..='\u{e0fff}',
];

/// A text with everything visible that could play tricks on a terminal or on a reader. Clients choose many of these texts.
pub(super) fn clean(text: &str) -> String {
    let is_tricky = |c: char| c.is_control() || TRICKY.iter().any(|tricky| tricky.contains(&c));
    text.chars().map(|c| if is_tricky(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// The words of a client between quotation marks.
pub(super) fn quoted(words: &str) -> String {
    format!("\"{}\"", clean(&words.replace('\\', r"\\").replace('"', r#"\""#)))
}

fn push_user(out: &mut String, data: &Value, now: &str) {
    let mut rows = vec![["user".to_owned(), text(&data["userId"])]];
    let mut add = |name: &str, value: Option<String>| rows.extend(value.map(|value| [name.to_owned(), value]));
    add("status", data["status"].as_str().map(clean));
    add("chosen", choice(&data["chosen"], now));
    add("name", data["user"]["name"].as_str().map(clean));
    add("last active", moment(&data["lastActive"], now));
    add("last seen", moment(&data["lastSeen"], now));
    let devices = data["devices"].as_object().filter(|devices| !devices.is_empty());
    add("devices", devices.map(|kinds| list(kinds.iter().map(|(kind, n)| format!("{n} {}", clean(kind))))));
    push_table(out, &[], rows);
}

fn choice(chosen: &Value, now: &str) -> Option<String> {
    let mut choice = clean(chosen["status"].as_str()?);
    if let Some(words) = chosen["statusText"].as_str() {
        let _ = write!(choice, ", {}", quoted(words));
    }
    if let Some(at) = moment(&chosen["at"], now) {
        let _ = write!(choice, ", said {at}");
    }
    if let Some(end) = chosen["expiresAt"].as_str() {
        let _ = write!(choice, ", until {}", clean(end));
    }
    Some(choice)
}

fn push_sockets(out: &mut String, data: &Value) {
    let sockets = data["sockets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = sockets.iter().map(|socket| {
        let state = match (socket["state"].as_str(), socket["graceLeftMs"].as_u64()) {
            (Some("grace"), Some(left)) => format!("in grace for {}", duration(left)),
            (Some("grace"), None) => "in grace".to_owned(),
            (Some("unconfirmed"), _) => "not in the store".to_owned(),
            _ => text(&socket["state"]),
        };
        let device = socket.get("device").map_or_else(|| "-".to_owned(), |device| clean(&device.to_string()));
        [
            text(&socket["socketId"]),
            state,
            ago(&socket["ageMs"]),
            ago(&socket["heardMsAgo"]),
            ago(&socket["activeMsAgo"]),
            text(&socket["format"]),
            text(&socket["account"]),
            device,
        ]
    });
    let head = ["socket", "state", "joined", "last frame", "last active", "format", "its node says", "device"];
    push_table(out, &head, rows.collect());
}

fn push_nodes(out: &mut String, data: &Value) {
    let nodes = data["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = nodes.iter().map(|node| {
        let here = if node["nodeId"] == data["here"]["nodeId"] { " (asked)" } else { "" };
        let answered = if node["answered"] == true { "yes" } else { "no" };
        [text(&node["nodeId"]) + here, node["sockets"].to_string(), lease(node), answered.to_owned()]
    });
    push_table(out, &["node", "sockets", "lease", "answered"], rows.collect());
}

fn push_transitions(out: &mut String, data: &Value, now: &str) {
    let transitions = data["transitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = transitions.iter().map(|transition| {
        let detail = transition["reason"].as_str().or(transition["status"].as_str()).unwrap_or("-");
        let ms_ago = transition["at"].as_str().and_then(|at| ms_between(at, now));
        let ago = ms_ago.map_or_else(|| "-".to_owned(), |ms| format!("{} ago", duration(ms)));
        [text(&transition["at"]), ago, text(&transition["type"]), clean(detail)]
    });
    push_table(out, &["transition", "", "type", "reason or status"], rows.collect());
}

fn push_here(out: &mut String, data: &Value, now: &str) {
    let (here, store) = (&data["here"], &data["store"]);
    let mut shows = text(&here["nodeId"]);
    shows.push_str(match here["shows"].as_str() {
        Some("visible") => " shows the user as online",
        Some("hidden") => " has the user, and hides the user from others",
        _ => " does not show the user",
    });
    if here["provisional"] == true {
        shows.push_str("; provisional: the store has not confirmed it");
    }
    if let Some(reason) = here["held"].as_str() {
        let _ = write!(shows, "; holds a departure ({})", clean(reason));
    }
    if here["holding"] == true {
        shows.push_str("; tells no departures yet");
    }
    let mut rows = vec![["asked".to_owned(), shows]];
    let revision = |of: &Value| of["revision"].to_string();
    rows.push(match store["answered"].as_bool() {
        Some(true) => ["revision".to_owned(), format!("{} here, {} in the store", revision(here), revision(store))],
        _ => ["store".to_owned(), "does not answer".to_owned()],
    });
    if let Some(as_of) = moment(&here["asOf"], now) {
        rows.push(["degraded".to_owned(), format!("what it tells was surely right {as_of}")]);
    }
    push_table(out, &[], rows);
}

/// Adds a table with an empty line before it. Nothing is added for a table without rows.
fn push_table<const N: usize>(out: &mut String, head: &[&str], rows: Vec<[String; N]>) {
    if rows.is_empty() {
        return;
    }
    let head: Vec<Vec<String>> =
        if head.is_empty() { Vec::new() } else { vec![head.iter().map(|name| (*name).to_owned()).collect()] };
    let rows: Vec<Vec<String>> = head.into_iter().chain(rows.into_iter().map(Vec::from)).collect();
    let width = |column: usize| rows.iter().map(|row| columns::width(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    out.push('\n');
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{}  ", columns::pad(cell, *width));
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// How the lease of a node is.
pub(super) fn lease(node: &Value) -> String {
    match (node["leaseEndsInMs"].as_u64(), node["leaseExpiredMsAgo"].as_u64()) {
        (Some(rest), _) => format!("ends in {}", duration(rest)),
        (_, Some(ago)) => format!("ended {} ago", duration(ago)),
        _ if node["beingSwept"] == true => "ended: is being swept".to_owned(),
        _ => "-".to_owned(),
    }
}

/// A text, or `-` if there is none.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".to_owned(), clean)
}

/// `2.3 s ago`, or `-` if there is no number.
fn ago(ms: &Value) -> String {
    ms.as_u64().map_or_else(|| "-".to_owned(), |ms| format!("{} ago", duration(ms)))
}

/// A time, and how long ago it was at `now`. It is none if there is no time.
fn moment(time: &Value, now: &str) -> Option<String> {
    let time = clean(time.as_str()?);
    Some(match ms_between(&time, now) {
        Some(ms_ago) => format!("{} ago ({time})", duration(ms_ago)),
        None => time,
    })
}

/// The ms from a time to a later one.
fn ms_between(earlier: &str, later: &str) -> Option<u64> {
    let ms = |text: &str| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    u64::try_from(ms(later)? - ms(earlier)?).ok()
}

/// A duration of so many ms, with as many digits as a person wants.
pub(super) fn duration(ms: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match ms / 1000 {
        0..10 => format!("{}.{} s", ms / 1000, ms / 100 % 10),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds if seconds < 2 * HOUR => format!("{} min", seconds / MINUTE),
        seconds if seconds < 2 * DAY => format!("{} h", seconds / HOUR),
        seconds => format!("{} days", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_sees_is_shown() {
        let shown = clean("a\u{1b}\u{61c}\u{feff}\u{2060}\u{ad}\u{e0041}é日");
        assert_eq!(shown, r"a\u{1b}\u{61c}\u{feff}\u{2060}\u{ad}\u{e0041}é日");
        assert_eq!(quoted("a \"b\" \\ \u{1b}"), r#""a \"b\" \\ \u{1b}""#);
    }

    #[test]
    fn durations_are_short() {
        let durations = [0, 950, 9_999, 10_000, 119_999, 120_000, 7_199_000, 7_200_000, 172_800_000].map(duration);
        assert_eq!(durations, ["0.0 s", "0.9 s", "9.9 s", "10 s", "119 s", "2 min", "119 min", "2 h", "2 days"]);
    }

    #[test]
    fn a_text_of_a_client_moves_nothing_on_the_terminal() {
        assert_eq!(clean("Zoë\u{1b}[2J\r\u{202e}x"), r"Zoë\u{1b}[2J\u{d}\u{202e}x");
        let printed =
            of(&json!({"data": {"summary": "a\u{1b}b", "user": {"name": "a\nb"}, "chosen": {"status": "\u{7}"}}}));
        assert!(!printed.contains(|c: char| c.is_control() && c != '\n'), "{printed:?}");
        assert!(printed.contains(r"a\u{a}b"), "{printed:?}");
    }

    #[test]
    fn a_lease_ends_or_has_ended() {
        for (node, words) in [
            (json!({"leaseEndsInMs": 11_000}), "ends in 11 s"),
            (json!({"leaseExpiredMsAgo": 500}), "ended 0.5 s ago"),
            (json!({"beingSwept": true}), "ended: is being swept"),
            (json!({}), "-"),
        ] {
            assert_eq!(lease(&node), words);
        }
    }

    #[test]
    fn an_answer_without_anything_is_printed() {
        assert!(of(&json!({})).starts_with("-\n"));
    }
}
