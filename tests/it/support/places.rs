//! Where a test of what clients see runs: on the embedded store, and on three nodes over Redis.

use std::ops::Deref;

use rollcall::settings::Settings;

use super::{Cluster, Endpoint, Node};

/// One or three nodes that serve the same users.
pub(crate) enum Place {
    /// The embedded store.
    Embedded(Node),
    /// Three nodes, one Redis.
    Cluster(Box<Cluster<Node>>),
}

impl Place {
    /// Both, with these settings changed.
    pub(crate) async fn each(change: impl Fn(&mut Settings)) -> [Place; 2] {
        let embedded = Node::start_with(&change).await;
        [Place::Embedded(embedded), Place::Cluster(Box::new(Cluster::start_with(3, &change).await))]
    }

    /// A node. There are as many numbers as one likes: they count on from the first node after the last.
    pub(crate) fn node(&self, number: usize) -> &Endpoint {
        match self {
            Self::Embedded(node) => node.deref(),
            Self::Cluster(cluster) => cluster[number % 3].deref(),
        }
    }
}
