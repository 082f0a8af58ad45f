//! What a store holds of nodes.

use crate::domain::{NodeId, Position, Timestamp};

/// The nodes that a store knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldNodes {
    /// The store's position.
    pub position: Position,
    /// The store's clock.
    pub now: Timestamp,
    /// The nodes, in the order of their ids. The embedded store names none: it serves one node, and gives no lease.
    pub nodes: Vec<HeldNode>,
}

/// One node as a store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldNode {
    /// Its id.
    pub node: NodeId,
    /// The end of its lease. It is 0 while a sweep takes the node's sockets out.
    pub lease_end: Timestamp,
    /// Whether the node was shut down. Its sockets stay until the lease ends.
    pub is_drained: bool,
    /// How many sockets the store holds for it. It is none if that cannot be read.
    pub n_sockets: Option<u64>,
}
