//! How the application's server makes users leave a room, on all nodes.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::{Disconnected, Disconnection, Peers};
use crate::domain::{Inquiry, NodeId, RoomId, UserId};
use crate::store::{Examination, RoomPage};

/// What became of a call to make everybody leave a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Emptied {
    /// How many users were made to leave.
    pub(crate) n_users: usize,
    /// Whether every node has confirmed it, and the store had nobody in the room after that.
    pub(crate) is_complete: bool,
}

/// How long it may take to empty a room. What is not done by then may be asked for again. A request may take longer
/// (`server.request_timeout_ms`).
const EMPTY_WITHIN: Duration = Duration::from_secs(20);

/// Users who are made to leave at the same time. A node answers twice as many questions at once.
const USERS_AT_ONCE: usize = 16;

/// How long the writers of the nodes have to take those who left out of the store, before it is read again. The time doubles
/// while nobody leaves.
const WRITERS_PAUSE: Duration = Duration::from_millis(50);

/// After so many reads in a row in which nobody has left, the others are waited for no more. With the pauses before them, that
/// takes a second and a half.
const READS_IN_VAIN: u32 = 5;

/// What has been done to empty a room.
#[derive(Default)]
struct Progress {
    /// The users whom the nodes were asked to remove. Nobody is removed twice: who is there again has come back.
    asked: HashSet<UserId>,
    /// The nodes that did not answer. They are not waited for again.
    silent: HashSet<NodeId>,
}

/// How long those who have not left yet are waited for. After an outage departures wait, the node of a user may be dead, and a
/// user may have come back.
struct Patience {
    fewest: u64,
    n_reads_in_vain: u32,
}

impl Peers {
    /// Makes a user leave a room, with all sockets, on all nodes. Those in grace go along.
    pub(crate) async fn remove_from_room(&self, user: &UserId, room: &RoomId) -> Disconnection {
        let examined = self.examine(user).await;
        let nodes = self.concerned(examined.as_ref());
        let removed = self.remove(user, room, &nodes).await;
        if examined.is_none() {
            return Disconnection::OnlyHere;
        }
        Disconnection::Everywhere(removed.into_iter().filter(|node| node.n_sockets > 0 || !node.is_confirmed).collect())
    }

    /// Makes everybody leave a room. Whoever comes meanwhile may stay.
    pub(crate) async fn empty_room(&self, room: &RoomId) -> Emptied {
        let mut emptied = Emptied::default();
        // What was done by then counts.
        let _ = timeout(EMPTY_WITHIN, self.empty_page_by_page(room, &mut emptied)).await;
        emptied
    }

    async fn empty_page_by_page(&self, room: &RoomId, emptied: &mut Emptied) {
        let (mut progress, mut patience) = (Progress::default(), Patience::default());
        loop {
            let page = match self.store.room_page(room, RoomPage::MOST).await {
                Ok(page) => page,
                Err(error) => return debug!(error = %error, "Could not read who is in a room"),
            };
            if page.n_members == 0 {
                emptied.is_complete = progress.silent.is_empty();
                return;
            }
            let n_members = page.n_members;
            let fresh = progress.take_fresh(page);
            if !self.remove_all(&fresh, room, &mut progress.silent, emptied).await {
                return;
            }
            let Some(pause) = patience.next_pause(!fresh.is_empty(), n_members) else { return };
            sleep(pause).await;
        }
    }

    /// Makes these users leave. Returns whether the store says which nodes there are.
    async fn remove_all(
        &self,
        users: &[UserId],
        room: &RoomId,
        silent: &mut HashSet<NodeId>,
        emptied: &mut Emptied,
    ) -> bool {
        let Some(first) = users.first() else { return true };
        let Some(examined) = self.examine(first).await else { return false };
        let mut nodes = self.all_nodes(&examined);
        for users in users.chunks(USERS_AT_ONCE) {
            nodes.retain(|node| !silent.contains(node));
            let removed = join_all(users.iter().map(|user| self.remove(user, room, &nodes))).await;
            silent.extend(removed.iter().flatten().filter(|node| !node.is_confirmed).map(|node| node.node));
            emptied.n_users += removed.iter().filter(|nodes| nodes.iter().any(|node| node.n_sockets > 0)).count();
        }
        true
    }

    /// Every node that may have users whom the store has in a room, or will have there. A node whose lease has ended may come
    /// back with them, until it is swept.
    fn all_nodes(&self, examined: &Examination) -> Vec<NodeId> {
        let leases = examined.leases.iter().map(|(node, _)| *node);
        let nodes: BTreeSet<NodeId> = self.concerned(Some(examined)).into_iter().chain(leases).collect();
        nodes.into_iter().collect()
    }

    async fn remove(&self, user: &UserId, room: &RoomId, nodes: &[NodeId]) -> Vec<Disconnected> {
        let inquiry = Inquiry::RemoveFromRoom { room: room.clone() };
        let answers = self.ask(user, &inquiry, nodes).await;
        let outcome = answers.into_iter().map(|(node, answer)| Disconnected {
            node,
            n_sockets: answer.as_ref().map_or(0, |answer| answer.sockets.len()),
            is_confirmed: answer.is_some(),
        });
        outcome.collect()
    }
}

impl Progress {
    /// The members of the page whom nobody was asked to remove yet. They count as asked from now on.
    fn take_fresh(&mut self, page: RoomPage) -> Vec<UserId> {
        let members = page.members.into_iter().map(|(user, _)| user);
        members.filter(|user| self.asked.insert(user.clone())).collect()
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self { fewest: u64::MAX, n_reads_in_vain: 0 }
    }
}

impl Patience {
    /// How long to wait before the room is read again. It had `n_members`. If it is none, nobody waits any more.
    fn next_pause(&mut self, has_removed: bool, n_members: u64) -> Option<Duration> {
        let is_in_vain = !has_removed && n_members >= self.fewest;
        self.n_reads_in_vain = if is_in_vain { self.n_reads_in_vain + 1 } else { 0 };
        self.fewest = self.fewest.min(n_members);
        (self.n_reads_in_vain < READS_IN_VAIN).then(|| WRITERS_PAUSE * (1 << self.n_reads_in_vain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reads of a room after everybody was asked for, and how long they take together.
    fn reads(mut n_members: impl FnMut() -> u64) -> (u64, Duration) {
        let mut patience = Patience::default();
        let mut pauses = vec![patience.next_pause(true, n_members()).unwrap()];
        pauses.extend(std::iter::from_fn(|| patience.next_pause(false, n_members())));
        (pauses.len() as u64, pauses.iter().sum())
    }

    #[test]
    fn whoever_does_not_leave_is_waited_for_for_a_while() {
        assert_eq!(reads(|| 3), (u64::from(READS_IN_VAIN), Duration::from_millis(1550)));
    }

    #[test]
    fn while_the_room_empties_it_is_read_on() {
        let mut members = (1..=1000).rev();
        let (n_reads, lasting) = reads(|| members.next().unwrap_or(1));
        assert_eq!(n_reads, 1000 + u64::from(READS_IN_VAIN) - 1);
        assert_eq!(lasting, WRITERS_PAUSE * 999 + Duration::from_millis(1550));
    }

    #[test]
    fn a_room_with_a_crowd_that_comes_and_goes_is_not_read_for_ever() {
        let mut n_members = 0;
        let (n_reads, _) = reads(|| {
            n_members = (n_members + 7) % 20;
            n_members
        });
        assert!(n_reads <= 20 * u64::from(READS_IN_VAIN), "{n_reads}");
    }
}
