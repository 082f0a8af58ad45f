//! What the users of the simulation have said, and what follows from it. It knows the promises of the service, and
//! nothing of its code.
//!
//! Of two statements the later one holds. A node dates a statement when it takes it in, by the clock of Redis as the node
//! knows it. So the model knows a date only roughly. It says which statement holds only if it is sure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// The statements of all users, and what the nodes went through.
#[derive(Default)]
pub(super) struct Model {
    statements: BTreeMap<String, Vec<Statement>>,
    nodes: BTreeMap<String, Node>,
    last_number: u64,
}

/// What a user said about one part of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// The chosen status, the words beside it, and how long it is to last.
    Status { status: String, text: Option<String>, lasts: Option<Duration> },
    /// The name in the profile.
    Name(String),
}

/// A part of what a user says. Each part has a date of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The status and the words beside it.
    Status,
    /// The name in the profile.
    Name,
}

/// What a user may have said of every part.
pub(super) const PARTS: [Part; 2] = [Part::Status, Part::Name];

/// One statement of a user on one socket.
#[derive(Debug)]
struct Statement {
    /// Its number, which the answer bears.
    number: u64,
    /// The node that it was said to.
    node: String,
    /// What was said.
    said: Said,
    sent_at: Instant,
    /// The node may date the statement this much earlier than it was sent.
    clock_error: Duration,
    /// Whether it came with a join. Who states with a join what holds already says nothing new.
    is_from_join: bool,
    /// The node has dated it by then, or never will.
    dated_by: Option<Instant>,
    /// What the node answered, once it has.
    answer: Option<Answer>,
    /// Whether the node has had an open socket of the user ever since. Then the node states it until the store knows it.
    is_kept: bool,
}

/// What a node answered to a statement.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// When it was read.
    pub(super) at: Instant,
    /// Whether others see nothing of the user, as the node says.
    pub(super) is_hidden: bool,
    /// The position that it shows, unless it says that it may be out of date.
    pub(super) position: Option<(u64, u64)>,
}

/// What a node went through.
#[derive(Default)]
struct Node {
    /// Since when it runs; none while it is stopped.
    up_since: Option<Instant>,
    /// Until when it was stopped for the last time.
    stopped_until: Option<Instant>,
    /// Whether its network is broken.
    is_cut_off: bool,
    /// When it was stopped or cut off for the last time; the end of that.
    troubled_until: Option<Instant>,
    /// The highest revision that it has shown, by epoch.
    shown: BTreeMap<u64, u64>,
}

/// What surely holds of a user, as long as nothing else is said.
#[derive(Debug)]
pub(super) struct Sure<'a> {
    /// The user.
    pub(super) user: &'a str,
    /// What the user said.
    pub(super) said: &'a Said,
    /// The node that answered.
    node: &'a str,
    /// Its answer.
    pub(super) answer: &'a Answer,
    /// Until when, if the choice ends by itself.
    pub(super) until: Option<Instant>,
    /// Whether the node that answered could state it all the time. Then other nodes cannot forget it.
    is_stated: bool,
}

/// A running node takes in within this time what waits for it. A join before it may take more than a second.
const TAKES_IN: Duration = Duration::from_secs(3);

/// A node learns the time of Redis from each beat, and a beat may take as long as `redis.call_timeout_ms`.
const CLOCK_ERROR: Duration = Duration::from_millis(1200);

/// A node that was stopped may take the answer to a beat for a fresh one. It was stopped for as long as this at most.
const CLOCK_ERROR_AFTER_STOP: Duration = Duration::from_secs(8);

/// By then, it has beaten again, even if its network was broken meanwhile.
const STOP_SHOWS: Duration = Duration::from_secs(15);

impl Model {
    /// A user says something on a socket of this node. Returns the number of the statement.
    pub(super) fn say(&mut self, user: &str, node: &str, said: Said, is_from_join: bool) -> u64 {
        self.last_number += 1;
        let sent_at = Instant::now();
        let stopped_until = self.nodes.get(node).and_then(|node| node.stopped_until);
        let is_fresh = stopped_until.is_none_or(|until| sent_at.duration_since(until) > STOP_SHOWS);
        self.statements.entry(user.to_owned()).or_default().push(Statement {
            number: self.last_number,
            node: node.to_owned(),
            said,
            sent_at,
            clock_error: if is_fresh { CLOCK_ERROR } else { CLOCK_ERROR_AFTER_STOP },
            is_from_join,
            dated_by: None,
            answer: None,
            is_kept: true,
        });
        self.last_number
    }

    /// A statement was answered. Returns what the answer must show, if the model is sure.
    pub(super) fn answered(&mut self, user: &str, number: u64, answer: Answer) -> Option<&Said> {
        let statement = self.statements.get_mut(user)?.iter_mut().find(|known| known.number == number)?;
        let at = answer.at;
        statement.dated_by.get_or_insert(at);
        statement.answer = Some(answer);
        let part = statement.said.part();
        let (holds, _) = self.winner(user, part)?;
        (holds.number == number && holds.ends().is_none_or(|end| at < end)).then_some(&holds.said)
    }

    /// A socket of the user on this node ended. `has_others` says that another socket of the user there is welcomed.
    pub(super) fn socket_ended(&mut self, user: &str, node: &str, has_others: bool) {
        let of_node = |statement: &&mut Statement| statement.node == node;
        for statement in self.statements.get_mut(user).into_iter().flatten().filter(of_node) {
            statement.is_kept &= has_others;
        }
    }

    /// A node starts.
    pub(super) fn node_starts(&mut self, node: &str) {
        self.nodes.insert(node.to_owned(), Node { up_since: Some(Instant::now()), ..Node::default() });
    }

    /// A node is stopped.
    pub(super) fn node_stops(&mut self, node: &str) {
        self.node(node).up_since = None;
    }

    /// A node that was stopped goes on.
    pub(super) fn node_goes_on(&mut self, node: &str) {
        let now = Some(Instant::now());
        let known = self.node(node);
        (known.up_since, known.stopped_until, known.troubled_until) = (now, now, now);
    }

    /// A node ends, at once or with a goodbye.
    pub(super) fn node_ends(&mut self, node: &str, at_once: bool) {
        let now = Instant::now();
        for statement in self.statements.values_mut().flatten().filter(|statement| statement.node == node) {
            statement.is_kept = false;
            if at_once {
                statement.dated_by.get_or_insert(now);
            }
        }
    }

    /// The network of a node is broken, or is mended.
    pub(super) fn network(&mut self, node: &str, is_broken: bool) {
        let known = self.node(node);
        (known.is_cut_off, known.troubled_until) = (is_broken, Some(Instant::now()));
    }

    /// Every node has beaten since it was stopped.
    pub(super) fn clocks_are_right(&mut self) {
        self.nodes.values_mut().for_each(|node| node.stopped_until = None);
    }

    /// Notes what must be dated by now.
    pub(super) fn pass(&mut self, now: Instant) {
        for statement in self.statements.values_mut().flatten().filter(|statement| statement.dated_by.is_none()) {
            let up_since = self.nodes.get(&statement.node).and_then(|node| node.up_since);
            if up_since.is_some_and(|since| now.duration_since(since.max(statement.sent_at)) > TAKES_IN) {
                statement.dated_by = Some(now);
            }
        }
    }

    /// Whether a statement waits on this socket's node, of this user.
    pub(super) fn is_waiting(&self, user: &str, node: &str) -> bool {
        let waits = |known: &Statement| known.node == node && known.dated_by.is_none();
        self.statements.get(user).is_some_and(|statements| statements.iter().any(waits))
    }

    /// Whether any statement waits on a node.
    pub(super) fn waits(&self) -> bool {
        let is_waiting = |known: &Statement| known.dated_by.is_none() && self.is_alive(&known.node);
        self.statements.values().flatten().any(is_waiting)
    }

    /// A node has shown a position.
    pub(super) fn shown(&mut self, node: &str, (epoch, revision): (u64, u64)) {
        let highest = self.node(node).shown.entry(epoch).or_default();
        *highest = revision.max(*highest);
    }

    fn is_alive(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|node| node.up_since.is_some())
    }

    fn node(&mut self, id: &str) -> &mut Node {
        self.nodes.entry(id.to_owned()).or_default()
    }

    /// What the user's status or name surely is, if everybody who knows it can say so. The inner value is none if the
    /// user never said anything.
    pub(super) fn holds(&self, user: &str, part: Part) -> Option<Option<&Said>> {
        let has_any = self.statements.get(user).is_some_and(|all| all.iter().any(|known| known.said.part() == part));
        if !has_any {
            return Some(None);
        }
        self.winner(user, part).map(|(statement, _)| Some(&statement.said))
    }

    /// Whether others may see this status and these words: the user has said so. Anybody may be online or away.
    pub(super) fn may_show(&self, user: &str, shown: &Value, words: &Value) -> bool {
        let is_plain = (shown == "online" || shown == "away") && words.is_null();
        let is_said = self.may_choose(user, shown, words);
        is_plain || is_said && shown != "invisible" || shown == "away" && self.may_choose(user, &"online".into(), words)
    }

    /// Whether the user may have chosen this status with these words. A user who never chose, and one whose choice has
    /// ended, are online.
    pub(super) fn may_choose(&self, user: &str, chosen: &Value, words: &Value) -> bool {
        let is_plain = chosen == "online" && words.is_null();
        is_plain
            || self.said(user).any(|said| match said {
                Said::Status { status, text, .. } => chosen == status && words.as_str() == text.as_deref(),
                Said::Name(_) => false,
            })
    }

    /// Whether others may see this name.
    pub(super) fn may_be_named(&self, user: &str, shown: &Value) -> bool {
        shown.is_null() || self.said(user).any(|said| matches!(said, Said::Name(name) if shown == name))
    }

    fn said(&self, user: &str) -> impl Iterator<Item = &Said> {
        self.statements.get(user).into_iter().flatten().map(|statement| &statement.said)
    }

    /// What surely holds, of each user. While Redis is away, a node holds to a hide alone from the answer on.
    pub(super) fn sure(&self) -> Vec<Sure<'_>> {
        let sure = |user, part| {
            let (statement, is_stated) = self.winner(user, part)?;
            let answer = statement.answer.as_ref()?;
            let (node, said, until) = (statement.node.as_str(), &statement.said, statement.ends());
            let holds_here = if said.hides() { answer.is_hidden } else { answer.position.is_some() };
            holds_here.then_some(Sure { user, said, node, answer, until, is_stated })
        };
        self.statements.keys().flat_map(|user| PARTS.iter().filter_map(move |part| sure(user, *part))).collect()
    }

    /// Whether this node knows it, by what the node has shown.
    pub(super) fn knows(&self, node: &str, sure: &Sure<'_>) -> bool {
        let Some((epoch, revision)) = sure.answer.position else { return node == sure.node };
        let shown = self.nodes.get(node).and_then(|node| node.shown.get(&epoch));
        node == sure.node || sure.is_stated && shown.is_some_and(|shown| *shown >= revision)
    }

    /// The statement that surely holds: it is later than all that say something else, and its node can state it. Also
    /// says whether that node was in touch with Redis since the answer.
    fn winner(&self, user: &str, part: Part) -> Option<(&Statement, bool)> {
        let of_part = || self.statements.get(user).into_iter().flatten().filter(|known| known.said.part() == part);
        let last = of_part().max_by_key(|known| known.sent_at)?;
        let answer = last.answer.as_ref()?;
        // A join that says what holds already leaves the date as it is.
        let same = || of_part().filter(|known| known.said == last.said);
        let first = if last.is_from_join { same().map(Statement::earliest).min()? } else { last.earliest() };
        // One node has one clock, and dates a statement above all that it knows. It knows its own as long as it keeps them.
        let is_before_here = |other: &Statement| {
            let is_answered = other.answer.as_ref().is_some_and(|answer| answer.at <= last.sent_at);
            other.node == last.node && is_answered && other.is_kept && !last.is_from_join
        };
        let is_before = |other: &Statement| other.dated_by.is_some_and(|by| by < first) || is_before_here(other);
        let is_sure = last.is_kept && of_part().all(|other| other.said == last.said || is_before(other));
        let is_stated = self.nodes.get(&last.node).is_some_and(|node| node.is_well_since(answer.at));
        is_sure.then_some((last, is_stated))
    }
}

impl Node {
    /// Whether it ran and could reach Redis all the time since then.
    fn is_well_since(&self, since: Instant) -> bool {
        self.up_since.is_some() && !self.is_cut_off && self.troubled_until.is_none_or(|until| until < since)
    }
}

impl Statement {
    /// The earliest date that it can have.
    fn earliest(&self) -> Instant {
        self.sent_at.checked_sub(self.clock_error).unwrap_or(self.sent_at)
    }

    /// When the choice ends by itself, at the earliest.
    fn ends(&self) -> Option<Instant> {
        match self.said {
            Said::Status { lasts: Some(lasts), .. } => Some(self.earliest() + lasts),
            _ => None,
        }
    }
}

impl Sure<'_> {
    /// Whether this node has answered.
    pub(super) fn is_of(&self, node: &str) -> bool {
        self.node == node
    }

    /// Whether this user object of the user may be shown to others. Nothing may be shown of a user who hides.
    pub(super) fn allows(&self, shown: &Value) -> bool {
        match self.said {
            Said::Status { .. } if self.said.hides() => false,
            Said::Status { status, text, .. } => {
                let may_be_away = status == "online" && shown["status"] == "away";
                (shown["status"] == **status || may_be_away) && shown["statusText"].as_str() == text.as_deref()
            }
            Said::Name(name) => shown["name"] == **name,
        }
    }
}

impl Said {
    /// Whether the user hides with this.
    pub(super) fn hides(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status == "invisible")
    }

    fn part(&self) -> Part {
        match self {
            Self::Status { .. } => Part::Status,
            Self::Name(_) => Part::Name,
        }
    }
}

#[cfg(test)]
mod tests;
