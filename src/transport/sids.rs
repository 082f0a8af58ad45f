//! The ids by which the requests of a client that polls find its session.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::PollingStream;
use super::pipe::Pipe;
use crate::metrics::SocketioMetrics;

/// The sockets of one process that poll.
pub(crate) struct Sids {
    pipes: Mutex<HashMap<Sid, Arc<Pipe>>>,
    /// The name of this node. Each id begins with it, so that a load balancer finds the node.
    node: String,
    n_max: usize,
    /// How much waits in a pipe (`socketio.poll_queue_bytes`).
    pipe_bytes: usize,
    metrics: Arc<SocketioMetrics>,
}

/// The id of a session. Whoever has it can read and write the session, so it is in no log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sid(Arc<str>);

/// A place among the sockets that poll. Dropping it gives the place up.
pub(super) struct SidPlace {
    sids: Arc<Sids>,
    sid: Sid,
}

impl Sid {
    /// The text, for the client alone.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Sids {
    /// No sockets yet, with room for `n_max` of them. `pipe_bytes` is `socketio.poll_queue_bytes`.
    pub(crate) fn new(node: String, n_max: usize, pipe_bytes: usize, metrics: Arc<SocketioMetrics>) -> Arc<Self> {
        Arc::new(Self { pipes: Mutex::default(), node, n_max, pipe_bytes, metrics })
    }

    /// Whether clients may poll at all.
    pub(crate) fn may_poll(&self) -> bool {
        self.n_max > 0
    }

    /// How many sockets poll, and how many may.
    pub(crate) fn fill(&self) -> (usize, usize) {
        (self.pipes().len(), self.n_max)
    }

    /// Whether there is room for another one.
    pub(crate) fn has_room(&self) -> bool {
        self.pipes().len() < self.n_max
    }

    /// The id of a session on this node. Nobody must be able to guess `secret`.
    pub(crate) fn sid(&self, secret: &str) -> Sid {
        Sid(format!("{}.{secret}", self.node).into())
    }

    /// Opens the connection of a client that polls. It is none if there is no room.
    pub(crate) fn open(self: &Arc<Self>, sid: &Sid) -> Option<PollingStream> {
        let mut pipes = self.pipes();
        if pipes.len() >= self.n_max {
            return None;
        }
        let Entry::Vacant(place) = pipes.entry(sid.clone()) else { return None };
        let pipe = place.insert(Pipe::new(self.pipe_bytes)).clone();
        self.metrics.polling(pipes.len());
        Some(PollingStream::new(pipe, SidPlace { sids: self.clone(), sid: sid.clone() }))
    }

    /// The pipe of a session, and its id. It is none if no session of this node polls with this id.
    pub(crate) fn get(&self, sid: &str) -> Option<(Sid, Arc<Pipe>)> {
        let sid = Sid(sid.into());
        let pipe = self.pipes().get(&sid).cloned()?;
        Some((sid, pipe))
    }

    /// A session does not poll any more.
    pub(crate) fn remove(&self, sid: &Sid) {
        let mut pipes = self.pipes();
        pipes.remove(sid);
        self.metrics.polling(pipes.len());
    }

    fn pipes(&self) -> MutexGuard<'_, HashMap<Sid, Arc<Pipe>>> {
        // Each change is done in one step, so what a panic leaves behind can be used.
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SidPlace {
    fn drop(&mut self) {
        self.sids.remove(&self.sid);
    }
}
