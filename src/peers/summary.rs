//! An explanation in a few sentences, for a person in a hurry.

use std::fmt::Write;
use std::time::Duration;

use super::explanation::{Explanation, Lease, NodeAccount, SocketState, StoreAccount};
use crate::clock;
use crate::domain::{Change, OfflineReason, Presence, Status, Timestamp};

/// How a user is, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Others see the user.
    Online,
    /// The user is there. Others see the user as offline.
    Hidden,
    /// The user is not there.
    Offline,
    /// The store does not answer.
    Unknown,
}

impl Finding {
    /// The name, for programs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Hidden => "hidden",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }
}

impl Explanation {
    /// How the user is, by the store.
    pub(crate) fn finding(&self) -> Finding {
        match &self.stored {
            None => Finding::Unknown,
            Some(StoreAccount { is_present: false, .. }) => Finding::Offline,
            Some(StoreAccount { presence: Some(presence), .. }) if presence.is_hidden() => Finding::Hidden,
            Some(_) => Finding::Online,
        }
    }

    /// The explanation in a few sentences.
    pub(crate) fn summary(&self) -> String {
        let mut summary = match &self.stored {
            None => self.without_the_store(),
            Some(stored) if !stored.is_present => absence(stored),
            Some(stored) => self.presence(stored),
        };
        if self.stored.is_some() {
            self.tell_unconfirmed(&mut summary);
            self.tell_silent_nodes(&mut summary);
            self.tell_view(&mut summary);
        }
        summary
    }

    /// What is known without the store: what this node tells, and which sockets it has.
    fn without_the_store(&self) -> String {
        let n_sockets = counted(self.sockets.len(), "socket");
        let shown = match &self.view.presence {
            Some(presence) if presence.is_hidden() => "This node has the user as hidden",
            Some(_) => "This node shows the user as online",
            None => "This node does not show the user",
        };
        let as_of = self.view.degraded.map(|as_of| format!(", as of {}", clock::rfc3339(as_of))).unwrap_or_default();
        format!(
            "Unknown: the store does not answer. {shown}{as_of}. It has {n_sockets} of the user. Other nodes may have \
             more, and could not be asked."
        )
    }

    /// How the user is there.
    fn presence(&self, stored: &StoreAccount) -> String {
        let held = self.sockets.iter().filter(|story| story.held.is_some());
        let states: Vec<SocketState> = held.map(|story| story.state).collect();
        if states.is_empty() {
            return "Online by mistake: the store holds no socket of the user. The next audits find and mend it."
                .to_owned();
        }
        let n_nodes = self.nodes.iter().filter(|node| self.holds(node)).count();
        let mut told = format!(
            "{}: {} on {}",
            headline(stored.presence.as_ref()),
            counted(states.len(), "socket"),
            counted(n_nodes, "node")
        );
        let n_idle = states.iter().filter(|state| **state == SocketState::Idle).count();
        let n_grace = states.iter().filter(|state| **state == SocketState::Grace).count();
        let parts: Vec<String> = [part(n_idle, states.len(), "idle"), part(n_grace, states.len(), "in grace")]
            .into_iter()
            .flatten()
            .collect();
        if !parts.is_empty() {
            let _ = write!(told, "; {}", parts.join(", "));
        }
        told.push('.');
        if n_grace == states.len() {
            told.push_str(" If nobody comes back within the grace, the user goes offline.");
        }
        told
    }

    /// Whether the store holds a socket of the node.
    fn holds(&self, node: &NodeAccount) -> bool {
        self.sockets.iter().any(|story| story.held.is_some() && story.socket.node == node.node)
    }

    fn tell_unconfirmed(&self, summary: &mut String) {
        let n_unconfirmed = self.sockets.iter().filter(|story| story.state == SocketState::Unconfirmed).count();
        if n_unconfirmed > 0 {
            let _ = write!(summary, " {} not in the store yet.", are(n_unconfirmed, "socket"));
        }
    }

    fn tell_silent_nodes(&self, summary: &mut String) {
        for node in self.nodes.iter().filter(|node| !node.has_answered && node.n_sockets > 0) {
            let (sockets, go) = if node.n_sockets == 1 { ("its socket", "goes") } else { ("its sockets", "go") };
            let _ = write!(summary, " Node {} does not answer", node.node);
            let _ = match node.lease {
                Some(Lease::Lives(rest)) => {
                    write!(summary, ". Unless it beats, its lease ends in {}, and {sockets} {go}.", seconds(rest))
                }
                Some(Lease::Ended(ago)) => {
                    write!(summary, ". Its lease ended {} ago, so {sockets} {go} at the next sweep.", seconds(ago))
                }
                Some(Lease::BeingSwept) => write!(summary, ", and is being swept: {sockets} {go}."),
                None => write!(summary, ", and has no lease: the next audits take {sockets} out."),
            };
        }
    }

    /// Says where this node tells something else than the store.
    fn tell_view(&self, summary: &mut String) {
        let view = &self.view;
        let shown = view.presence.as_ref();
        let told = match (self.finding(), shown) {
            (Finding::Online, None) => "This node does not show the user yet.",
            (Finding::Online, Some(shown)) if shown.is_hidden() => "This node still has the user as hidden.",
            (Finding::Hidden, Some(shown)) if !shown.is_hidden() => "This node still shows the user.",
            (Finding::Offline, Some(_)) if view.held.is_some() => {
                "This node still has the user: it holds departures until every node has said who is there."
            }
            (Finding::Offline, Some(_)) if view.is_provisional => {
                "This node has the user for now: it has a socket that the store does not have."
            }
            (Finding::Offline, Some(_)) => "This node still has the user.",
            _ => "",
        };
        if !told.is_empty() {
            let _ = write!(summary, " {told}");
        }
        if let Some(as_of) = view.degraded {
            let _ = write!(summary, " This node may be out of date since {}.", clock::rfc3339(as_of));
        }
    }
}

/// Why the user is not there.
fn absence(stored: &StoreAccount) -> String {
    let last = stored.transitions.first();
    let seen = |at: Timestamp| clock::rfc3339(at);
    match (last.map(|last| (&last.change, last.at)), stored.last_seen) {
        (Some((Change::Offline(departure), at)), _) => {
            format!("Offline since {}: {}.", seen(at), because(departure.reason))
        }
        (_, Some(last_seen)) => format!("Offline. Last seen {}.", seen(last_seen.seen_at)),
        (_, None) => "Offline. The store remembers nothing of this user.".to_owned(),
    }
}

fn because(reason: OfflineReason) -> &'static str {
    match reason {
        OfflineReason::Left => "the client said goodbye, or the server disconnected it",
        OfflineReason::ConnectionLost => "the connection was lost, and nobody came back within the grace",
        OfflineReason::TimedOut => "the client was silent for too long, and nobody came back within the grace",
        OfflineReason::NodeLost => "the node was lost",
        OfflineReason::NodeDrained => "the node was shut down, and the user did not come back elsewhere",
        OfflineReason::Unknown => "nobody noted why",
    }
}

/// What others see, and why.
fn headline(presence: Option<&Presence>) -> String {
    let Some(presence) = presence else { return "Online, without readable data".to_owned() };
    match (presence.effective, presence.chosen_status()) {
        (Status::Online, _) => "Online".to_owned(),
        (Status::Away, Status::Online) => "Online as away, because nobody is active".to_owned(),
        (Status::Invisible, _) => "Hidden from others, because the user chose to be invisible".to_owned(),
        (effective, _) => format!("Online as {}, because the user chose so", effective.as_str()),
    }
}

/// `1 idle` of several, `all idle`, or nothing. One socket is `it is idle`.
fn part(n: usize, of: usize, what: &str) -> Option<String> {
    match (n, of) {
        (0, _) => None,
        (1, 1) => Some(format!("it is {what}")),
        (n, of) if n == of => Some(format!("all are {what}")),
        (n, _) => Some(format!("{n} {} {what}", if n == 1 { "is" } else { "are" })),
    }
}

/// `1 socket`, `2 sockets`.
fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// `1 socket is`, `2 sockets are`.
fn are(n: usize, what: &str) -> String {
    format!("{} {}", counted(n, what), if n == 1 { "is" } else { "are" })
}

/// `1.2 s`.
fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{
        ChosenStatus, Departure, HeldSocket, LastSeen, NodeAnswer, NodeId, Position, SocketAccount, SocketId,
        Transition, UserId,
    };
    use crate::replica::ViewAccount;
    use crate::store::Examination;

    const NOW: Timestamp = Timestamp(1_704_067_200_000);

    fn node(bits: u64) -> NodeId {
        NodeId::from_bits(bits)
    }

    fn user() -> UserId {
        UserId::parse("ada").unwrap()
    }

    /// A socket of a node in the store: in grace or not, idle or not.
    fn held(bits: u64, in_grace: bool, is_idle: bool) -> HeldSocket {
        let socket = SocketId { node: node(bits), number: 1 };
        HeldSocket { socket, since: Timestamp(NOW.0 - 5000), in_grace, is_idle, device: None }
    }

    fn present(status: Status, sockets: Vec<HeldSocket>) -> Examination {
        let chosen = (status != Status::Away)
            .then(|| Arc::new(ChosenStatus { status, text: None, expires_at: None, at: Timestamp(1) }));
        let presence = Presence { chosen, effective: status, ..Presence::default() };
        Examination { now: NOW, presence: Some(presence), is_present: true, sockets, ..Examination::default() }
    }

    fn view(presence: Option<Presence>) -> ViewAccount {
        let position = Position::default();
        ViewAccount { presence, is_provisional: false, held: None, is_holding: false, position, degraded: None }
    }

    /// The summary if every node that is concerned answers, and this node tells what the store says.
    fn summary(examined: Examination) -> String {
        let answers = examined.sockets.iter().map(|held| (held.socket.node, Some(NodeAnswer::default()))).collect();
        let shown = view(examined.presence.clone());
        Explanation::new(&user(), node(1), Some(examined), answers, shown).summary()
    }

    #[test]
    fn who_is_there_is_told_with_the_sockets() {
        let online = |sockets| summary(present(Status::Online, sockets));
        assert_eq!(online(vec![held(1, false, false)]), "Online: 1 socket on 1 node.");
        assert_eq!(
            online(vec![held(1, false, false), held(2, false, true), held(3, true, false)]),
            "Online: 3 sockets on 3 nodes; 1 is idle, 1 is in grace."
        );
        assert_eq!(
            online(vec![held(1, true, false)]),
            "Online: 1 socket on 1 node; it is in grace. If nobody comes back within the grace, the user goes offline."
        );
        assert_eq!(
            summary(present(Status::Away, vec![held(1, false, true), held(2, false, true)])),
            "Online as away, because nobody is active: 2 sockets on 2 nodes; all are idle."
        );
        assert_eq!(
            summary(present(Status::Dnd, vec![held(1, false, true)])),
            "Online as dnd, because the user chose so: 1 socket on 1 node; it is idle."
        );
        assert_eq!(
            summary(present(Status::Invisible, vec![held(1, false, false)])),
            "Hidden from others, because the user chose to be invisible: 1 socket on 1 node."
        );
        assert!(online(Vec::new()).starts_with("Online by mistake"));
    }

    #[test]
    fn who_is_not_there_is_told_with_the_reason_as_far_as_it_is_known() {
        let absent = Examination { now: NOW, ..Examination::default() };
        assert_eq!(summary(absent.clone()), "Offline. The store remembers nothing of this user.");
        let last_seen = Some(LastSeen { seen_at: NOW, active_at: None });
        let seen = Examination { last_seen, ..absent };
        assert_eq!(summary(seen.clone()), "Offline. Last seen 2024-01-01T00:00:00.000Z.");
        let change = Change::Offline(Departure::from(OfflineReason::NodeLost));
        let transition = Transition { position: Position::default(), user: user(), change, at: NOW };
        let gone = Examination { transitions: vec![transition], ..seen };
        assert_eq!(summary(gone), "Offline since 2024-01-01T00:00:00.000Z: the node was lost.");
    }

    #[test]
    fn a_node_that_does_not_answer_is_named_with_its_lease() {
        let told = |end: Option<u64>| {
            let mut examined = present(Status::Online, vec![held(2, false, false)]);
            examined.leases = end.map(|end| (node(2), Timestamp(end))).into_iter().collect();
            let shown = view(examined.presence.clone());
            let answers = vec![(node(1), Some(NodeAnswer::default())), (node(2), None)];
            let summary = Explanation::new(&user(), node(1), Some(examined), answers, shown).summary();
            summary.strip_prefix("Online: 1 socket on 1 node. ").unwrap().to_owned()
        };
        let silent = format!("Node {} does not answer", node(2));
        let ends = format!("{silent}. Unless it beats, its lease ends in 1.5 s, and its socket goes.");
        assert_eq!(told(Some(NOW.0 + 1500)), ends);
        let ended = format!("{silent}. Its lease ended 0.5 s ago, so its socket goes at the next sweep.");
        assert_eq!(told(Some(NOW.0 - 500)), ended);
        assert_eq!(told(Some(0)), format!("{silent}, and is being swept: its socket goes."));
        assert_eq!(told(None), format!("{silent}, and has no lease: the next audits take its socket out."));
    }

    #[test]
    fn without_the_store_nobody_is_offline() {
        let account = SocketAccount { state: "wanted, confirmed".to_owned(), ..SocketAccount::unknown(1) };
        for presence in [None, Some(Presence::default())] {
            let degraded = ViewAccount { degraded: Some(NOW), ..view(presence) };
            let answers = vec![(node(1), Some(NodeAnswer { sockets: vec![account.clone()], ..NodeAnswer::default() }))];
            let explanation = Explanation::new(&user(), node(1), None, answers, degraded);
            let summary = explanation.summary();
            assert_eq!(explanation.finding(), Finding::Unknown);
            assert_eq!(explanation.sockets[0].state, SocketState::Active);
            assert!(summary.starts_with("Unknown: the store does not answer."), "{summary}");
            assert!(!summary.to_lowercase().contains("offline"), "{summary}");
            assert!(summary.contains("as of 2024-01-01T00:00:00.000Z. It has 1 socket of the user."), "{summary}");
        }
    }

    #[test]
    fn a_difference_between_the_store_and_this_node_is_told() {
        let told = |examined: Examination, view| {
            let answers = vec![(node(1), Some(NodeAnswer::default()))];
            Explanation::new(&user(), node(1), Some(examined), answers, view).summary()
        };
        let online = || present(Status::Online, vec![held(1, false, false)]);
        assert!(told(online(), view(None)).ends_with(" This node does not show the user yet."));
        let hidden = Presence { effective: Status::Invisible, ..Presence::default() };
        assert!(told(online(), view(Some(hidden))).ends_with(" This node still has the user as hidden."));
        let absent = || Examination { now: NOW, ..Examination::default() };
        let mut shown = view(Some(Presence::default()));
        assert!(told(absent(), shown.clone()).ends_with(" This node still has the user."));
        shown.is_provisional = true;
        assert!(told(absent(), shown.clone()).contains("This node has the user for now"));
        shown.held = Some(OfflineReason::Left);
        assert!(told(absent(), shown).contains("it holds departures"));
    }
}
