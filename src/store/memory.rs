//! The embedded store: the default, for one process and no Redis.
//!
//! The store is a table of sockets and a [`Roster`]. It has the same seam as Redis, and delivers through the same kind
//! of channel. So the parts above cannot tell the two apart. The store lives and ends with its process. So a lease
//! never runs out, an epoch never changes, and there is nothing to sweep.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{
    Audited, Beat, BeatReply, Claim, Intent, LeaseState, Order, Outcome, PresenceStore, StoreResult, StoreWriter, Swept,
};
use crate::clock;
use crate::domain::{
    Change, OfflineReason, Position, Presence, Roster, Scope, SocketId, Timestamp, Transition, UserId,
};

/// The store of a single node. Cloning shares it.
#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Each user's sockets, and whether they are in grace.
    sockets: HashMap<UserId, HashMap<SocketId, bool>>,
    n_sockets: u64,
    roster: Roster,
    subscribers: Vec<mpsc::Sender<Transition>>,
}

/// How many transitions may wait for a subscriber. Above that the writer waits, so nothing is ever lost here.
const SUBSCRIPTION_CAPACITY: usize = 4096;

impl MemoryStore {
    /// An empty store, in an epoch of its own.
    pub fn new() -> Self {
        let store = Self::default();
        // The epoch is the time in microseconds, as in Redis, so that revisions rise from one life to the next.
        let start = clock::now().0 * 1000;
        store.lock().roster.advance_to(Position { epoch: start, revision: start });
        store
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock can only come from a failed allocation. The state is still good after it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(&self, orders: &[Order]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(orders.len());
        for order in orders {
            let (outcome, told) = {
                let mut state = self.lock();
                state.subscribers.retain(|subscriber| !subscriber.is_closed());
                let transition = state.decide(order);
                let profile_at = state.roster.get(&order.user).map(|presence| presence.updated_at);
                let outcome = Outcome::Done { position: state.roster.position(), profile_at };
                (outcome, transition.map(|transition| (transition, state.subscribers.clone())))
            };
            outcomes.push(outcome);
            // Only the one writer calls this, one call at a time. So transitions reach the channel in the order of
            // their decision.
            if let Some((transition, subscribers)) = told {
                for subscriber in subscribers {
                    // A closed subscription has nobody to tell.
                    let _ = subscriber.send(transition.clone()).await;
                }
            }
        }
        outcomes
    }
}

impl State {
    fn decide(&mut self, order: &Order) -> Option<Transition> {
        // There is only one scope. Another scope would need a state of its own.
        let Scope::Service = order.scope;
        match &order.intent {
            Intent::Join(presence) => self.join(order, presence),
            Intent::Grace => {
                if let Some(in_grace) = self.sockets.get_mut(&order.user).and_then(|s| s.get_mut(&order.socket)) {
                    *in_grace = true;
                }
                None
            }
            Intent::Leave => self.remove(order, OfflineReason::Left, |_, in_grace| in_grace),
            Intent::Remove(reason) => self.remove(order, *reason, |_, _| false),
        }
    }

    fn join(&mut self, order: &Order, presence: &Presence) -> Option<Transition> {
        let sockets = self.sockets.entry(order.user.clone()).or_default();
        if sockets.insert(order.socket, false).is_none() {
            self.n_sockets += 1;
        }
        let now = clock::now();
        let known = self.roster.get(&order.user);
        let updated_at = if presence.updated_at > Timestamp(0) || presence.profile.is_none() {
            presence.updated_at
        } else {
            // Two changes within one millisecond must still be ordered.
            now.max(Timestamp(known.map_or(0, |known| known.updated_at.0 + 1)))
        };
        let stated = Presence { profile: presence.profile.clone(), updated_at };
        let change = match known {
            None => Change::Online(stated),
            Some(_) if stated.profile.is_none() => return None,
            Some(_) => Change::Changed(stated),
        };
        self.record(order.user.clone(), change, now)
    }

    /// Removes the order's socket, and the user's other sockets that `also` picks.
    fn remove(
        &mut self,
        order: &Order,
        reason: OfflineReason,
        also: impl Fn(SocketId, bool) -> bool,
    ) -> Option<Transition> {
        let sockets = self.sockets.get_mut(&order.user)?;
        let n_before = sockets.len();
        sockets.retain(|socket, in_grace| *socket != order.socket && !also(*socket, *in_grace));
        self.n_sockets -= (n_before - sockets.len()) as u64;
        if !sockets.is_empty() {
            return None;
        }
        self.sockets.remove(&order.user);
        self.record(order.user.clone(), Change::Offline(reason), clock::now())
    }

    /// Takes the next revision, if the change changes anything.
    fn record(&mut self, user: UserId, change: Change, at: Timestamp) -> Option<Transition> {
        let change = self.roster.apply(&user, &change)?;
        let Position { epoch, revision } = self.roster.position();
        let position = Position { epoch, revision: revision + 1 };
        self.roster.advance_to(position);
        Some(Transition { position, user, change, at })
    }
}

impl PresenceStore for MemoryStore {
    fn open_writer(&self) -> BoxFuture<'_, StoreResult<Box<dyn StoreWriter>>> {
        async { Ok(Box::new(self.clone()) as Box<dyn StoreWriter>) }.boxed()
    }

    fn subscribe(&self) -> BoxFuture<'_, StoreResult<mpsc::Receiver<Transition>>> {
        async {
            let (sender, receiver) = mpsc::channel(SUBSCRIPTION_CAPACITY);
            self.lock().subscribers.push(sender);
            Ok(receiver)
        }
        .boxed()
    }

    fn snapshot(&self) -> BoxFuture<'_, StoreResult<Roster>> {
        async { Ok(self.lock().roster.clone()) }.boxed()
    }

    /// No log is kept: the snapshot is always at hand.
    fn log_after(&self, position: Position) -> BoxFuture<'_, StoreResult<Option<Vec<Transition>>>> {
        async move { Ok((self.lock().roster.position() == position).then(Vec::new)) }.boxed()
    }

    /// Nothing here expires.
    fn refresh<'a>(&'a self, _sockets: &'a [(SocketId, UserId)]) -> BoxFuture<'a, StoreResult<Vec<SocketId>>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn sweep(&self) -> BoxFuture<'_, StoreResult<Swept>> {
        async { Ok(Swept::default()) }.boxed()
    }

    /// Here a user is present exactly while the user has a socket. `State` has no other way.
    fn audit(&self) -> BoxFuture<'_, StoreResult<Audited>> {
        async { Ok(Audited::default()) }.boxed()
    }
}

impl StoreWriter for MemoryStore {
    fn beat(&mut self, _beat: Beat) -> BoxFuture<'_, StoreResult<BeatReply>> {
        async {
            let state = self.lock();
            Ok(BeatReply {
                lease: LeaseState::Renewed,
                position: state.roster.position(),
                holding: false,
                peers_asserted: true,
                n_sockets: state.n_sockets,
                now: clock::now(),
            })
        }
        .boxed()
    }

    fn drive<'a>(&'a mut self, _claim: Claim, orders: &'a [Order]) -> BoxFuture<'a, StoreResult<Vec<Outcome>>> {
        async { Ok(self.carry_out(orders).await) }.boxed()
    }

    fn sweep_self(&mut self) -> BoxFuture<'_, StoreResult<bool>> {
        async { Ok(true) }.boxed()
    }

    fn drain(&mut self, _lease: Duration) -> BoxFuture<'_, StoreResult<()>> {
        async { Ok(()) }.boxed()
    }

    fn held_sockets(&mut self) -> BoxFuture<'_, StoreResult<Vec<(SocketId, UserId)>>> {
        async {
            let state = self.lock();
            let held =
                state.sockets.iter().flat_map(|(user, sockets)| sockets.keys().map(|socket| (*socket, user.clone())));
            Ok(held.collect())
        }
        .boxed()
    }
}
