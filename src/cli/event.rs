//! An event as one line, for a person.

use std::collections::HashMap;
use std::mem;

use serde_json::Value;

use super::columns::pad;
use super::printout::{clean, quoted, text};

/// The names of users. An event that somebody went has no name, so the last one is remembered.
#[derive(Default)]
pub(super) struct Names {
    newest: HashMap<String, String>,
    /// Those that were the newest before.
    older: HashMap<String, String>,
}

/// How many of the newest names are remembered at least. Twice as many are remembered at most. Of others, a departure shows no name.
const NAMES_MAX: usize = 65_536;

/// Whether a message is an event: nobody has asked for it, and it says that something happened.
pub(super) fn is_event(message: &Value) -> bool {
    let types = [
        "user_online",
        "user_offline",
        "user_changed",
        "user_status_changed",
        "room_user_joined",
        "room_user_left",
        "room_user_changed",
        "room_left",
        "typing",
        "resync",
    ];
    message["type"].as_str().is_some_and(|name| types.contains(&name)) && message.get("ref").is_none()
}

impl Names {
    /// Takes note of the users in a list.
    pub(super) fn learn(&mut self, users: &Value) {
        for user in users.as_array().into_iter().flatten() {
            // The answer to `watch` has the user object inside.
            self.note(user["id"].as_str(), user);
            self.note(user["userId"].as_str(), &user["user"]);
        }
    }

    /// Takes note of a user's name, or that the user has none. Without the user, nothing is known.
    fn note(&mut self, id: Option<&str>, user: &Value) {
        let (Some(id), Some(user)) = (id, user.as_object()) else { return };
        self.forget(id);
        let Some(name) = user.get("name").and_then(Value::as_str) else { return };
        if self.newest.len() == NAMES_MAX {
            self.older = mem::take(&mut self.newest);
        }
        self.newest.insert(id.to_owned(), clean(name));
    }

    fn forget(&mut self, id: &str) {
        self.newest.remove(id);
        self.older.remove(id);
    }

    fn name(&self, id: &str) -> &str {
        self.newest.get(id).or_else(|| self.older.get(id)).map_or("-", String::as_str)
    }

    /// The line of an event: time, sign, id, name, and what happened. It is none if a person need not know. `sign` may colour the
    /// sign.
    pub(super) fn line(&mut self, event: &Value, sign: impl Fn(char) -> String) -> Option<String> {
        let (mark, what) = match event["type"].as_str()? {
            "user_online" => ('+', status(&event["user"])),
            "user_changed" => ('~', "profile".to_owned()),
            "user_status_changed" => ('~', status(&event["user"])),
            "user_offline" => ('-', text(&event["reason"])),
            "room_user_joined" => ('+', in_room(event, &status(&event["user"]))),
            "room_user_changed" => ('~', in_room(event, &status(&event["user"]))),
            "room_user_left" => ('-', in_room(event, &text(&event["reason"]))),
            _ => return None,
        };
        let id = event["userId"].as_str()?;
        self.note(Some(id), &event["user"]);
        let name = pad(self.name(id), 20);
        if event["type"] == "user_offline" {
            self.forget(id);
        }
        let provisional = if event["provisional"] == true { " (not confirmed yet)" } else { "" };
        let (time, id) = (time(&event["timestamp"]), pad(&clean(id), 16));
        Some(format!("{time}  {} {id} {name} {what}{provisional}", sign(mark)))
    }
}

/// A time to the second.
fn time(value: &Value) -> String {
    let time = text(value);
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time,
    }
}

/// A status, with the words beside it.
pub(super) fn status(user: &Value) -> String {
    match user["statusText"].as_str() {
        Some(words) => format!("{} {}", text(&user["status"]), quoted(words)),
        None => text(&user["status"]),
    }
}

fn in_room(event: &Value, what: &str) -> String {
    format!("{}: {what}", text(&event["roomId"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The line of an event, without what is only there to align.
    fn line(names: &mut Names, event: &Value) -> Option<String> {
        let line = names.line(event, |sign| sign.to_string())?;
        Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn who_goes_has_the_name_with_which_they_came() {
        let mut names = Names::default();
        names.learn(&json!([{"id": "7", "name": "Ida", "status": "online"}, {"userId": "8", "user": {"name": "Bob"}}]));
        let at = "2026-11-25T20:17:58.623Z";
        let online = json!({"type": "user_online", "userId": "42", "user": {"name": "Ada", "status": "busy", "statusText": "in a call"}, "timestamp": at});
        assert_eq!(line(&mut names, &online).unwrap(), "2026-11-25T20:17:58Z + 42 Ada busy \"in a call\"");
        let offline = |id: &str| json!({"type": "user_offline", "userId": id, "reason": "left", "timestamp": at});
        for (id, name) in [("42", "Ada"), ("7", "Ida"), ("8", "Bob"), ("42", "-"), ("9", "-")] {
            let expected = format!("2026-11-25T20:17:58Z - {id} {name} left");
            assert_eq!(line(&mut names, &offline(id)).unwrap(), expected);
        }
        let left =
            json!({"type": "room_user_left", "roomId": "kitchen", "userId": "9", "reason": "left", "timestamp": at});
        assert_eq!(line(&mut names, &left).unwrap(), "2026-11-25T20:17:58Z - 9 - kitchen: left");
    }

    #[test]
    fn who_has_no_name_any_more_is_not_called_by_the_old_one() {
        let mut names = Names::default();
        names.learn(&json!([{"id": "42", "name": "Ada"}]));
        let changed = json!({"type": "user_changed", "userId": "42", "user": {"id": "42"}, "timestamp": "t"});
        assert_eq!(line(&mut names, &changed).unwrap(), "t ~ 42 - profile");
        let offline = json!({"type": "user_offline", "userId": "42", "reason": "left", "timestamp": "t"});
        assert_eq!(line(&mut names, &offline).unwrap(), "t - 42 - left");
    }

    #[test]
    fn the_newest_names_are_remembered_however_many_there_were() {
        let mut names = Names::default();
        let event = |kind: &str, user: usize| {
            json!({"type": kind, "roomId": "r", "userId": user.to_string(),
            "user": (kind == "room_user_joined").then(|| json!({"name": "Ada"})), "reason": "left", "timestamp": "t"})
        };
        let n_users = 2 * NAMES_MAX + 1;
        for user in 0..n_users {
            assert_eq!(line(&mut names, &event("room_user_joined", user)).unwrap(), format!("t + {user} Ada r: -"));
        }
        for user in [n_users - NAMES_MAX, n_users - 1] {
            assert_eq!(line(&mut names, &event("room_user_left", user)).unwrap(), format!("t - {user} Ada r: left"));
        }
        assert!(names.newest.len() + names.older.len() <= 2 * NAMES_MAX);
    }

    #[test]
    fn a_text_of_a_client_stays_on_its_line() {
        let mut names = Names::default();
        let evil = "a\u{1b}[2J\nb\u{202e}";
        let event = json!({"type": "user_online", "userId": evil, "timestamp": evil,
            "user": {"name": evil, "status": evil, "statusText": evil}});
        let line = names.line(&event, |sign| sign.to_string()).unwrap();
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
    }

    #[test]
    fn answers_are_no_events() {
        for (message, expected) in [
            (json!({"type": "user_online"}), true),
            (json!({"type": "resync"}), true),
            (json!({"type": "online_users_list"}), false),
            (json!({"type": "room_left", "ref": 1}), false),
            (json!({}), false),
        ] {
            assert_eq!(is_event(&message), expected, "{message}");
        }
        assert_eq!(Names::default().line(&json!({"type": "typing", "userId": "a"}), |sign| sign.to_string()), None);
    }
}
