//! How the application's server makes users leave a room, on all nodes.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::{Disconnected, Disconnection, Peers};
use crate::domain::{Inquiry, NodeId, RoomId, UserId};
use crate::store::RoomPage;

/// What became of a call to make everybody leave a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Emptied {
    /// How many users were made to leave.
    pub(crate) n_users: usize,
    /// Whether that is everybody, and every node has confirmed it.
    pub(crate) is_complete: bool,
}

/// How long it may take to empty a room. What is not done by then may be asked for again. A request may take longer
/// (`server.request_timeout_ms`).
const EMPTY_WITHIN: Duration = Duration::from_secs(20);

/// Users who are made to leave at the same time. A node answers twice as many questions at once.
const USERS_AT_ONCE: usize = 16;

/// How long the writers of the nodes have to take those who left out of the store, before it is read again.
const WRITERS_PAUSE: Duration = Duration::from_millis(50);

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
        let (mut asked, mut silent) = (HashSet::new(), HashSet::new());
        loop {
            let page = match self.store.room_page(room, RoomPage::MOST).await {
                Ok(page) => page,
                Err(error) => return debug!(error = %error, "Could not read who is in a room: {error}"),
            };
            let has_more = page.has_more();
            let members: Vec<UserId> = page.members.into_iter().map(|(user, _)| user).collect();
            let fresh: Vec<UserId> = members.into_iter().filter(|user| asked.insert(user.clone())).collect();
            if fresh.is_empty() && !has_more {
                emptied.is_complete = silent.is_empty();
                return;
            }
            if !self.remove_all(&fresh, room, &mut silent, emptied).await {
                return;
            }
            sleep(WRITERS_PAUSE).await;
        }
    }

    /// Makes these users leave. A node that did not answer is not waited for again. Returns whether the store says which
    /// nodes there are.
    async fn remove_all(
        &self,
        users: &[UserId],
        room: &RoomId,
        silent: &mut HashSet<NodeId>,
        emptied: &mut Emptied,
    ) -> bool {
        let Some(first) = users.first() else { return true };
        let Some(examined) = self.examine(first).await else { return false };
        let mut nodes = self.concerned(Some(&examined));
        for users in users.chunks(USERS_AT_ONCE) {
            nodes.retain(|node| !silent.contains(node));
            let removed = join_all(users.iter().map(|user| self.remove(user, room, &nodes))).await;
            silent.extend(removed.iter().flatten().filter(|node| !node.is_confirmed).map(|node| node.node));
            emptied.n_users += users.len();
        }
        true
    }

    async fn remove(&self, user: &UserId, room: &RoomId, nodes: &[NodeId]) -> Vec<Disconnected> {
        let inquiry = Inquiry::RemoveFromRoom { room: room.clone() };
        let answers = self.ask(user, &inquiry, nodes).await;
        let outcome = answers.into_iter().map(|(node, answer)| Disconnected {
            node,
            n_sockets: answer.as_ref().map_or(0, Vec::len),
            is_confirmed: answer.is_some(),
        });
        outcome.collect()
    }
}
