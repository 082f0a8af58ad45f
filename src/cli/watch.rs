//! `rollcall watch`.

use std::collections::BTreeSet;

use anyhow::anyhow;
use serde_json::{Value, json};

use super::colour::{Colour, Colours};
use super::destination::Destination;
use super::event::{Names, is_event};
use super::printout::clean;
use super::reconnect::{Role, Step, stay};
use super::signals::Signals;
use super::{reader, say};

/// What is watched.
#[derive(clap::Args)]
pub(crate) struct Watched {
    /// A user to hear of, and of no others; may be repeated [default: everyone]
    #[arg(long = "user", value_name = "ID")]
    users: Vec<String>,
    /// A room to hear of, besides; may be repeated. Only who is in a room hears of it, so it needs --as
    #[arg(long = "room", value_name = "ID", requires = "user_here")]
    rooms: Vec<String>,
    /// Be online as this user meanwhile, for --room
    #[arg(long = "as", value_name = "ID", id = "user_here", requires = "rooms")]
    own: Option<String>,
    /// Print each event as it came, one a line
    #[arg(long)]
    json: bool,
}

/// How many users one request names. So many fit into the 16 KiB that a node reads by default, whatever their ids are. And a
/// thousand users take 20 of the 60 requests that a node carries out at once.
const USERS_A_REQUEST: usize = 50;

/// Prints events, until SIGINT, SIGTERM, or until nobody reads them.
///
/// # Errors
/// The node cannot be reached, refuses, or says that the client must not come back.
pub(crate) async fn run(destination: &Destination, watched: Watched) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let mut watcher = Watcher {
        watched,
        colours: Colours::of_stdout(),
        names: Names::default(),
        awaited: BTreeSet::new(),
        awaited_rooms: BTreeSet::new(),
        was_connected: false,
    };
    let stop = async {
        tokio::select! {
            _ = signals.next() => {}
            () = reader::gone() => {}
        }
    };
    stay(destination, &mut watcher, stop).await
}

struct Watcher {
    watched: Watched,
    colours: Colours,
    names: Names,
    /// The references of the requests that are not answered yet.
    awaited: BTreeSet<u64>,
    /// The rooms in which the user is not yet.
    awaited_rooms: BTreeSet<String>,
    was_connected: bool,
}

impl Role for Watcher {
    fn requests(&self) -> Vec<Value> {
        let Watched { users, rooms, own, json: _ } = &self.watched;
        let interest = match (users.is_empty(), own) {
            (false, _) => "watch",
            (true, None) => "everyone",
            (true, Some(_)) => "none",
        };
        let first = match own {
            None => json!({"type": "subscribe", "presence": interest}),
            Some(own) => json!({"type": "join_user", "userId": own, "presence": interest, "rooms": rooms}),
        };
        let watches = users.chunks(USERS_A_REQUEST).map(|users| json!({"type": "watch", "userIds": users}));
        let mut requests: Vec<_> = [first].into_iter().chain(watches).collect();
        requests.iter_mut().zip(0..).for_each(|(request, number)| request["ref"] = Value::from(number));
        requests
    }

    fn begin(&mut self) {
        self.awaited = (0..self.requests().len() as u64).collect();
        self.awaited_rooms = self.watched.rooms.iter().cloned().collect();
        if self.was_connected {
            say("what happened meanwhile is not shown");
        }
        self.was_connected = true;
    }

    fn hear(&mut self, message: &Value, text: &str) -> Step {
        if let Some(answered) = message["ref"].as_u64() {
            self.awaited.remove(&answered);
        }
        let kind = message["type"].as_str();
        if kind == Some("error") {
            return refused(message);
        }
        self.names.learn(&message["users"]);
        match kind {
            Some("room_joined") => _ = message["roomId"].as_str().map(|room| self.awaited_rooms.remove(room)),
            Some("resync") => say("some events were missed"),
            Some("room_left") => say(format_args!(
                "the application's server has made {} leave the room {}",
                clean(self.watched.own.as_deref().unwrap_or_default()),
                clean(message["roomId"].as_str().unwrap_or_default())
            )),
            _ => {}
        }
        if !is_event(message) {
            return Step::On;
        }
        let line = match self.watched.json {
            true => Some(one_line(text)),
            false => self.names.line(message, |sign| self.colours.paint(colour(sign), &sign.to_string())),
        };
        line.map_or(Step::On, Step::Print)
    }

    fn is_settled(&self) -> bool {
        self.awaited.is_empty() && self.awaited_rooms.is_empty()
    }
}

/// What an error in answer to one of our requests means.
pub(super) fn refused(message: &Value) -> Step {
    let said = clean(message["message"].as_str().unwrap_or("no message"));
    let room = message["roomId"].as_str().map(|room| format!(" (room {})", clean(room))).unwrap_or_default();
    match message["code"].as_str() {
        Some("store_unavailable" | "keys_unavailable" | "rate_limited") => Step::Again(format!("{said}{room}")),
        Some("unauthenticated") => Step::Over(Err(anyhow!("the node refuses: {said} (--token-file)"))),
        _ => Step::Over(Err(anyhow!("the node refuses: {said}{room}"))),
    }
}

/// Between tokens, JSON may have ends of lines.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn colour(sign: char) -> Colour {
    match sign {
        '+' => Colour::Green,
        '-' => Colour::Red,
        _ => Colour::Yellow,
    }
}
