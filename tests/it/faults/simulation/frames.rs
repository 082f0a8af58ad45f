//! What must be true of each frame when it comes, and of each list when it is asked for.

use serde_json::Value;

use super::listener::Event;
use super::model::{Answer, Said, Sure};
use super::*;

/// A frame that a socket has heard.
struct Frame {
    user: String,
    node: String,
    event: Event,
}

/// How much the checks had to look at.
#[derive(Default)]
pub(super) struct Looks {
    /// The answers to statements.
    n_answers: usize,
    /// The answers of which the model was sure what they must say.
    n_sure_answers: usize,
    /// The frames and lists of nodes that knew something for sure, once for each such fact.
    n_sure: usize,
    /// Those of which it was that somebody hides.
    n_hidden: usize,
    /// The frames about rooms.
    n_of_rooms: usize,
}

impl Looks {
    /// A long run in which the model was hardly ever sure, in which nobody hid, or in which no room told anything, has
    /// shown nothing.
    pub(super) fn assert_enough(&self) {
        let is_long = self.n_answers > 50;
        let is_enough = 3 * self.n_sure_answers > self.n_answers && self.n_hidden > 0;
        assert!(!is_long || is_enough && self.n_of_rooms > 0, "{self}");
    }
}

impl std::fmt::Display for Looks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Looks { n_answers, n_sure_answers, n_sure, n_hidden, n_of_rooms } = self;
        write!(
            f,
            "{n_sure_answers} of {n_answers} answers were sure; {n_sure} looks, {n_hidden} for somebody who hid; "
        )?;
        write!(f, "{n_of_rooms} frames about rooms")
    }
}

impl Simulation {
    /// Takes in what the sockets have heard. Nothing may be shown that nobody said. Nobody may be shown who hides. No
    /// socket may have ended that neither its client nor the death of its node has ended.
    pub(super) fn listen(&mut self) {
        self.model.pass(Instant::now());
        self.speak_after_welcome();
        let mut frames = Vec::new();
        for socket in &mut self.sockets {
            socket.listener.assert_sound();
            frames.extend(socket.new_frames());
        }
        frames.sort_by_key(|frame| frame.event.at);
        for frame in &frames {
            self.take_answer(frame);
        }
        self.looks.n_of_rooms += frames.iter().filter(|frame| frame.event.frame.get("roomId").is_some()).count();
        let clocks = (Instant::now(), rollcall::clock::now().0);
        for frame in &frames {
            if let Some(position) = position(&frame.event.frame) {
                self.model.shown(&frame.node, position);
            }
            self.assert_nothing_is_made_up(frame);
            self.assert_what_is_sure(frame, clocks);
        }
    }

    /// An answer says what was said, if nothing was said later.
    fn take_answer(&mut self, Frame { user, event, .. }: &Frame) {
        let frame = &event.frame;
        let number = match &frame["ref"] {
            Value::Null if frame["type"] == "welcome" => frame["stated"].as_u64(),
            reference => reference.as_u64(),
        };
        let Some(number) = number else { return };
        let is_hidden = frame["chosen"] == "invisible" && frame["effective"] == "invisible";
        let position = position(frame).filter(|_| frame["degraded"].is_null());
        let sure = self.model.answered(user, number, Answer { at: event.at, is_hidden, position });
        let is_right = match sure {
            Some(Said::Status { status, text, .. }) => {
                let may_be_away = status == "online" && frame["effective"] == "away";
                let is_effective = frame["effective"] == **status || may_be_away;
                is_effective && frame["chosen"] == **status && frame["statusText"].as_str() == text.as_deref()
            }
            // The store may have the name, and the node may not have heard of it. Then the answer may be out of date.
            Some(Said::Name(name)) => frame["user"]["name"] == **name || frame["degraded"] == true,
            None => true,
        };
        assert!(is_right, "{user} said {sure:?}, {number}, and the answer is {frame}");
        self.looks.n_answers += 1;
        self.looks.n_sure_answers += usize::from(sure.is_some());
    }

    /// Each user is shown with a status, words and a name that this user has said.
    fn assert_nothing_is_made_up(&self, Frame { user, event, .. }: &Frame) {
        let frame = &event.frame;
        for shown in listed(frame).chain(frame.get("user")) {
            let whom = shown["id"].as_str().expect("a user has an id");
            let (status, words) = (&shown["status"], &shown["statusText"]);
            // The answer to a change of the name shows its own user, who may hide.
            let is_own = frame["type"] == "presence_updated" && self.model.may_choose(whom, status, words);
            let is_said = is_own || self.model.may_show(whom, status, words);
            let is_said = is_said && self.model.may_be_named(whom, &shown["name"]);
            assert!(is_said, "nobody said what {user} is shown of {whom}: {frame}");
        }
        if frame.get("chosen").is_some() {
            let is_said = self.model.may_choose(user, &frame["chosen"], &frame["statusText"]);
            assert!(is_said, "{user} never chose that: {frame}");
        }
    }

    fn assert_what_is_sure(&mut self, frame: &Frame, clocks: (Instant, u64)) {
        let Frame { user, node, event } = frame;
        // What a node tells of a room has no position. It need not come in order with what it tells of the service.
        let is_of_room = event.frame.get("roomId").is_some();
        let knows = |sure: &Sure<'_>| if is_of_room { sure.is_of(node) } else { self.model.knows(node, sure) };
        for sure in self.model.sure().iter().filter(|sure| knows(sure)) {
            self.looks.look_for(sure);
            let is_wrong = is_later(event, sure, clocks) && shown(&event.frame, sure.user).any(|of| !sure.allows(of));
            assert!(!is_wrong, "{sure:?}, and {user} is shown on {node}: {}", event.frame);
        }
    }

    /// Asks a node for its list. A user who hides is not in it, and others are as they said.
    pub(super) async fn look_at_a_list(&mut self) {
        let Some(index) = self.some_node_that_is_up() else { return };
        let process = &self.nodes[index].process;
        let sure = self.model.sure().into_iter().filter(|sure| self.model.knows(process.node_id(), sure));
        let sure: Vec<Sure<'_>> = sure.collect();
        let (_, list) = process.get("/api/online-users").await;
        let now = Instant::now();
        for sure in &sure {
            self.looks.look_for(sure);
            let is_over = sure.until.is_some_and(|until| until <= now);
            let mut listed = list["data"].as_array().into_iter().flatten().filter(|listed| listed["id"] == sure.user);
            let is_wrong = !is_over && listed.any(|listed| !sure.allows(listed));
            assert!(!is_wrong, "{sure:?}, and the list on node {index} is {list}");
        }
    }
}

impl Looks {
    fn look_for(&mut self, sure: &Sure<'_>) {
        self.n_sure += 1;
        self.n_hidden += usize::from(sure.said.hides());
    }
}

impl Socket {
    /// The frames that were not looked at yet. The welcome of a socket that came with a statement says which one.
    fn new_frames(&mut self) -> Vec<Frame> {
        let heard = self.listener.heard();
        let (n_events, n_answers) = self.n_looked_at;
        self.n_looked_at = (heard.events.len(), heard.answers.len());
        let new = heard.events[n_events..].iter().chain(&heard.answers[n_answers..]).cloned();
        let frame = |mut event: Event| {
            if let (Some(stated), true) = (self.stated, event.frame["type"] == "welcome") {
                event.frame["stated"] = stated.into();
            }
            Frame { user: self.listener.user().to_owned(), node: self.node.clone(), event }
        };
        new.map(frame).collect()
    }
}

/// The user objects of this user in an event or a list.
fn shown<'a>(frame: &'a Value, user: &'a str) -> impl Iterator<Item = &'a Value> {
    let of_event = frame.get("user").filter(|_| frame["userId"] == user && frame["type"] != "user_online_status");
    of_event.into_iter().chain(listed(frame).filter(move |listed| listed["id"] == user))
}

/// The user objects of a list, or of the states of watched users.
fn listed(frame: &Value) -> impl Iterator<Item = &Value> {
    let is_state = frame["type"] == "watching";
    let entries = frame["users"].as_array().into_iter().flatten();
    entries.filter_map(move |entry| if is_state { entry.get("user") } else { Some(entry) })
}

/// Whether a frame was made after the answer, and before the choice ends. `clocks` is one moment by two clocks: the
/// frames have the second.
fn is_later(Event { at, frame }: &Event, sure: &Sure<'_>, (now, now_ms): (Instant, u64)) -> bool {
    if sure.until.is_some_and(|until| until <= *at) {
        return false;
    }
    let age_ms = u64::try_from(now.duration_since(sure.answer.at).as_millis()).expect("it is short");
    // The clock of the frames has milliseconds.
    let answered_ms = now_ms - age_ms + 2;
    let told_at = frame["timestamp"].as_str().and_then(rollcall::clock::parse_rfc3339);
    let is_event = frame.get("userId").is_some();
    let is_after = match (position(frame), sure.answer.position) {
        (Some((epoch, revision)), Some((known_epoch, known_revision))) => {
            // The epochs are the revisions at which they began.
            let is_same = epoch == known_epoch && !is_event && revision == known_revision;
            is_same || epoch > known_epoch || epoch == known_epoch && revision > known_revision
        }
        _ => false,
    };
    is_after || told_at.is_some_and(|told_at| told_at.0 > answered_ms)
}

fn position(frame: &Value) -> Option<(u64, u64)> {
    Some((frame["epoch"].as_u64()?, frame["revision"].as_u64()?))
}
