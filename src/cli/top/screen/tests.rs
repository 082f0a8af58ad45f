use serde_json::json;

use super::super::super::colour::Colours;
use super::*;

/// An answer with so many nodes and transitions.
fn answer(n_nodes: usize, n_transitions: usize) -> Value {
    let node = |n: usize| {
        json!({"nodeId": format!("node-id-{n}"), "name": format!("node{n}"), "version": "0.1.0", "uptimeMs": 9460,
            "degraded": false, "sockets": n, "answered": n != 1, "drained": n == 2, "leaseExpired": false, "leaseEndsInMs": 8900})
    };
    let types = ["online", "status_changed", "changed", "offline"];
    let transition = |n: usize| {
        json!({"at": "2026-11-27T02:31:43.277Z", "type": types[n % types.len()],
            "userId": format!("user{n}"), "name": "John Doe", "status": "busy", "statusText": "in a call", "reason": "left",
            "revision": 1, "catchUp": false})
    };
    json!({
        "here": {"nodeId": "node-id-0", "name": "node0", "version": "0.1.0", "uptimeMs": 9460, "ready": true, "draining": false,
            "sockets": 40, "formats": {"native": 38, "plain": 2, "socketio": 0}, "users": 12, "openRooms": 3, "holding": false,
            "limits": {"sockets": {"used": 40, "max": 15000}, "httpConnections": {"used": 3, "max": 4096},
                "pollingSockets": {"used": 0, "max": 1500}},
            "counters": {"joins": 40, "leaves": 0, "transitions": 14, "frames": 99, "requests": 5}, "epoch": 1, "revision": 2},
        "store": {"kind": "redis", "answered": true, "epoch": 1, "revision": 2, "time": "2026-11-27T02:31:44.274Z"},
        "nodes": (0..n_nodes).map(node).collect::<Vec<_>>(),
        "transitions": (0..n_transitions).map(transition).collect::<Vec<_>>(),
    })
}

fn painted(lines: &[Line], width: usize) -> Vec<String> {
    lines.iter().map(|line| line.painted(width, Colours::none()).trim_end().to_owned()).collect()
}

fn screen(data: &Value, width: usize, height: usize) -> Vec<String> {
    let footer = Line::plain("the last line");
    painted(&Picture { data, history: &History::default(), footer }.lines(width, height), width)
}

#[test]
fn an_ordinary_screen_shows_all_parts() {
    let lines = screen(&answer(3, 50), 80, 24);
    assert_eq!(lines.len(), 24);
    assert_eq!(lines[0], "node0 (node-id-0)  rollcall 0.1.0  up 9.4 s  ready");
    assert_eq!(lines[1], "12 users online  40 sockets here (38 native, 2 plain)  3 rooms followed");
    assert_eq!(lines[2], "limits:  sockets 40 of 15000  http connections 3 of 4096  polling 0 of 1500");
    assert_eq!(lines[4], "joins/s            -");
    assert!(lines[10].contains("lease"), "{lines:?}");
    assert_eq!(lines[11], "> node0  node-id-0  0.1.0    0        ok         ends in 8.9 s  9.4 s");
    assert_eq!(lines[15], "  newest");
    assert_eq!(lines[16], "  02:31:43  + user0                John Doe             busy \"in a call\"");
    assert!(lines[19].ends_with("left"), "{lines:?}");
    assert_eq!(lines[23], "the last line");
}

#[test]
fn no_line_is_wider_and_no_screen_higher_than_there_is_room() {
    for (width, height) in [(0, 0), (1, 1), (20, 5), (80, 24), (120, 40), (500, 200)] {
        for data in [answer(0, 0), answer(1, 1), answer(100, 50), json!({})] {
            let lines = screen(&data, width, height);
            assert_eq!(lines.len(), height.max(1), "{width}x{height}");
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}x{height}: {lines:?}");
        }
    }
}

#[test]
fn nodes_that_do_not_fit_are_counted() {
    let lines = screen(&answer(100, 50), 80, 24);
    assert_eq!(lines.iter().filter(|line| line.contains("ends in")).count(), 3, "{lines:?}");
    assert!(lines.contains(&"  and 97 more".to_owned()), "{lines:?}");
}

#[test]
fn what_is_wrong_is_said_in_the_first_line() {
    let mut data = answer(3, 0);
    data["store"]["answered"] = json!(false);
    data["here"]["degraded"] = json!(true);
    data["here"]["asOf"] = json!("2026-11-27T02:31:40.000Z");
    let lines = screen(&data, 120, 24);
    assert!(lines[0].ends_with("may be out of date since 02:31:40, redis does not answer"), "{lines:?}");
    assert!(lines[12].contains("  no answer  ") && lines[13].contains("  shut down  "), "{lines:?}");
}

#[test]
fn once_has_all_nodes_and_no_rates() {
    let lines = painted(&whole(&answer(40, 50)), 200);
    assert!(
        lines.contains(&"since its start: joins 40  leaves 0  transitions 14  frames 99  requests 5".to_owned()),
        "{lines:?}"
    );
    assert_eq!(lines.iter().filter(|line| line.contains("ends in")).count(), 40);
    assert_eq!(lines.iter().filter(|line| line.contains("John Doe")).count(), 50);
}

#[test]
fn a_text_of_a_client_moves_nothing_on_the_terminal() {
    let mut data = answer(1, 1);
    for member in ["userId", "name", "statusText"] {
        data["transitions"][0][member] = json!("\u{1b}[2J\nx\u{202e}");
    }
    let lines = painted(&whole(&data), 500);
    assert!(!lines.iter().any(|line| line.contains(|c: char| c.is_control() || c == '\u{202e}')), "{lines:?}");
}
