//! Who is in which room while everybody walks from room to room, and how many events are due to each: known beforehand, so
//! that one event too few or too many is found.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Nodes that the rooms are on.
pub(super) const N_NODES: usize = 3;

/// Rooms, and the users in each.
pub(super) const N_ROOMS: usize = 1000;
pub(super) const N_MEMBERS: usize = 10;

/// Rooms of a chain.
const N_LINKS: usize = 4;

/// Chains. In each, one user moves at a time.
pub(super) const N_CHAINS: usize = N_ROOMS / N_LINKS;

/// Moves in each chain, after which everybody has moved once.
pub(super) const N_STEPS: usize = N_LINKS * N_MEMBERS + 1;

/// All who walk.
pub(super) const N_WALKERS: usize = N_CHAINS * N_STEPS;

/// A socket that is in one room at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Walker {
    /// Its node.
    pub node: usize,
    /// Its number there.
    pub socket: usize,
}

/// A ring of rooms. One of them has a user more than the others. From there, whoever has been there longest goes to the next
/// room. So each event reaches exactly [`N_MEMBERS`] sockets, and everybody gets their turn.
pub(super) struct Chain {
    /// The number of the first room.
    first: usize,
    /// Those in each room, in the order in which they entered.
    rooms: Vec<VecDeque<Walker>>,
    /// How many events each must have heard by now.
    due: BTreeMap<Walker, u64>,
    n_told: u64,
}

/// All chains, before the first step. A third of them is on one node, a third on two, and a third on all.
pub(super) fn chains() -> Vec<Chain> {
    let mut n_sockets = [0; N_NODES];
    (0..N_CHAINS).map(|i| Chain::new(i, &mut n_sockets)).collect()
}

/// On how many nodes they are.
pub(super) fn n_nodes_of(walkers: &[Walker]) -> u64 {
    walkers.iter().map(|walker| walker.node).collect::<BTreeSet<_>>().len() as u64
}

impl Chain {
    /// Takes the next sockets of its nodes.
    fn new(number: usize, n_sockets: &mut [usize; N_NODES]) -> Self {
        let n_nodes = 1 + number % N_NODES;
        let mut rooms = vec![VecDeque::new(); N_LINKS];
        for i in 0..N_STEPS {
            let node = (number / N_NODES + i % n_nodes) % N_NODES;
            // The last is the one too many, in the first room.
            rooms[i % (N_STEPS - 1) / N_MEMBERS].push_back(Walker { node, socket: n_sockets[node] });
            n_sockets[node] += 1;
        }
        let due = rooms.iter().flatten().map(|walker| (*walker, 0)).collect();
        Self { first: number * N_LINKS, rooms, due, n_told: 0 }
    }

    /// Takes note of how many events each has heard until now.
    pub(super) fn begin(&mut self, n_events: impl Fn(Walker) -> u64) {
        self.due.iter_mut().for_each(|(walker, due)| *due = n_events(*walker));
    }

    /// Who leaves the room from which somebody goes in this step, and the name of the room.
    pub(super) fn leave(&mut self, n_step: usize) -> (Walker, String) {
        let link = n_step % N_LINKS;
        let walker = self.rooms[link].pop_front().expect("a room has more than one user");
        self.tell(link);
        (walker, self.name(link))
    }

    /// Whoever left in this step enters the next room, whose name this returns.
    pub(super) fn enter(&mut self, n_step: usize, walker: Walker) -> String {
        let link = (n_step + 1) % N_LINKS;
        self.tell(link);
        self.rooms[link].push_back(walker);
        self.name(link)
    }

    /// The rooms, and who is in them.
    pub(super) fn rooms(&self) -> Vec<(String, Vec<Walker>)> {
        let members = self.rooms.iter().map(|room| room.iter().copied().collect());
        (0..N_LINKS).map(|link| self.name(link)).zip(members).collect()
    }

    /// How many events each must have heard by now.
    pub(super) fn due(&self) -> impl Iterator<Item = (Walker, u64)> {
        self.due.iter().map(|(walker, due)| (*walker, *due))
    }

    /// How many events the sockets of one node must have heard by now.
    pub(super) fn due_on(&self, node: usize) -> u64 {
        self.due().filter(|(walker, _)| walker.node == node).map(|(_, due)| due).sum()
    }

    /// How many sockets it has on a node.
    pub(super) fn n_walkers_on(&self, node: usize) -> usize {
        self.due.keys().filter(|walker| walker.node == node).count()
    }

    /// Deliveries of all steps.
    pub(super) fn n_told(&self) -> u64 {
        self.n_told
    }

    /// All who are in a room hear an event.
    fn tell(&mut self, link: usize) {
        for walker in &self.rooms[link] {
            *self.due.get_mut(walker).expect("it is one of this chain") += 1;
        }
        self.n_told += self.rooms[link].len() as u64;
    }

    fn name(&self, link: usize) -> String {
        format!("room{:04}", self.first + link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_is_somebody_and_every_room_has_its_members() {
        let chains = chains();
        for node in 0..N_NODES {
            let walkers = chains.iter().flat_map(Chain::due).map(|(walker, _)| walker);
            let sockets: BTreeSet<_> =
                walkers.filter(|walker| walker.node == node).map(|walker| walker.socket).collect();
            let n_sockets = chains.iter().map(|chain| chain.n_walkers_on(node)).sum();
            assert!(sockets.into_iter().eq(0..n_sockets));
        }
        let rooms: Vec<_> = chains.iter().flat_map(Chain::rooms).collect();
        assert_eq!(rooms.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), N_ROOMS);
        let n_full = rooms.iter().filter(|(_, walkers)| walkers.len() == N_MEMBERS + 1).count();
        let n_rest = rooms.iter().filter(|(_, walkers)| walkers.len() == N_MEMBERS).count();
        assert_eq!((n_full, n_rest), (N_CHAINS, N_ROOMS - N_CHAINS));
    }

    #[test]
    fn everybody_moves_once_each_event_reaches_ten_and_no_node_closes_a_room() {
        for mut chain in chains() {
            let nodes =
                |chain: &Chain| chain.rooms().iter().map(|(_, walkers)| n_nodes_of(walkers)).collect::<Vec<_>>();
            let before = nodes(&chain);
            let mut moved = BTreeSet::new();
            for n_step in 0..N_STEPS {
                let (walker, _) = chain.leave(n_step);
                assert_eq!(nodes(&chain), before);
                chain.enter(n_step, walker);
                assert_eq!(nodes(&chain), before);
                assert!(moved.insert(walker), "{walker:?} moves again");
            }
            assert_eq!(moved.len(), N_STEPS);
            assert_eq!(chain.n_told(), (2 * N_STEPS * N_MEMBERS) as u64);
            assert_eq!(chain.due().map(|(_, due)| due).sum::<u64>(), chain.n_told());
            assert_eq!((0..N_NODES).map(|node| chain.due_on(node)).sum::<u64>(), chain.n_told());
        }
    }
}
