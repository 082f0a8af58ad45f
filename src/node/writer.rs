//! The one task that brings the store to what the node wants.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Link, Table};
use crate::backoff::{Backoff, Reminder};
use crate::clock;
use crate::domain::Timestamp;
use crate::metrics::WriterMetrics;
use crate::settings::{PresenceSettings, RedisSettings};
use crate::store::{
    Beat, BeatReply, Claim, LeaseState, Outcome, PresenceStore, Refusal, StoreError, StoreResult, StoreWriter,
};

/// The most orders in one pipeline. With so many orders, a round trip costs little beside them. But they are few enough
/// for the store to answer in a few milliseconds. So a beat never waits long behind them.
const BATCH: usize = 256;

/// Brings the store to the state of the [`Table`]. It has one ordered connection and at most one order in flight for
/// each entry. When an outcome is unknown, it sends the current wish again.
///
/// It also beats, on the same connection. A beat returns the numbers of sockets and of entries in rooms that the store holds.
/// No order is under way beside the beat, so the writer can compare these numbers exactly.
pub struct Writer {
    store: Arc<dyn PresenceStore>,
    table: Arc<Table>,
    link: watch::Sender<Link>,
    metrics: WriterMetrics,
    beat_every: Duration,
    backoff: Backoff,
    reminder: Reminder,
    /// The epoch that the node believes in, and the generation of the connection.
    claim: Claim,
    /// The store's clock at the last reply on this connection. It is 0 before the first reply.
    heard_at: Timestamp,
    cut_off: CutOff,
    /// How long the node has waited for its peers. Only time in which the store answered counts.
    waited: Duration,
    /// The shortest time that a node waits. A peer that started during the outage is not known before it has connected.
    wait_at_least: Duration,
    n_beats: u64,
    n_mismatches: u32,
    n_room_mismatches: u32,
    /// Whether the epoch was held at the last beat.
    was_holding: bool,
    /// The store's clock at the last reply.
    as_of: Timestamp,
    /// The largest jump of the store's clock after which the keys are surely still there.
    max_jump: Duration,
}

/// Whether the node was out of the store's reach. If it was, its departures wait until its peers have asserted their
/// users (docs/design.md, decision 21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CutOff {
    No,
    /// The store has not answered since then.
    Still,
    /// The store answered again at this time, by the store's clock.
    Until(Timestamp),
}

/// If orders are refused, the writer beats. This many beats in a row may fail to help. After that, the stored data
/// makes no sense, and the writer opens a new connection. The delay before each new connection grows, so the writer
/// asks less often.
const MAX_REFUSALS: u32 = 3;

/// The highest generation. Generations are whole numbers that Lua counts exactly.
const MAX_GENERATION: u64 = 1 << 52;

/// The longest time that a node waits for its peers. Only time in which the store answers counts. A peer that never
/// asserts must not keep departed users online for ever.
const WAIT_AT_MOST: Duration = Duration::from_secs(60);

/// The writer divides the life of a user's keys by this number. If the store's clock jumps by more than the result, the
/// node asserts everything anew. The refresher extends all keys in each quarter of their life.
const MAX_JUMP_PART: u32 = 4;

/// How the end of the process tells the writer to stop.
pub struct DrainHandle {
    stop: CancellationToken,
    done: oneshot::Receiver<()>,
}

impl DrainHandle {
    /// Stops the writer. The node asserts nothing after that. The lease ends after the spread and the grace. A user who
    /// comes back on another node before the lease ends was never away.
    ///
    /// This function ends when the store has confirmed the drain, or cannot confirm it.
    pub(crate) async fn drain(self) {
        self.stop.cancel();
        // An error says that the writer has ended already.
        let _ = self.done.await;
    }
}

impl Writer {
    /// A writer for `table`. The receiver follows the node's standing with the store.
    pub fn new(
        store: Arc<dyn PresenceStore>,
        table: Arc<Table>,
        metrics: WriterMetrics,
        presence: &PresenceSettings,
        redis: &RedisSettings,
    ) -> (Self, watch::Receiver<Link>) {
        let (link, receiver) = watch::channel(Link::Starting);
        let writer = Self {
            store,
            table,
            link,
            metrics,
            beat_every: presence.beat,
            backoff: Backoff::new(redis.backoff_max),
            reminder: Reminder::default(),
            claim: Claim { epoch: 0, generation: 0 },
            heard_at: Timestamp(0),
            cut_off: CutOff::No,
            waited: Duration::ZERO,
            wait_at_least: (presence.beat * 2).max(redis.connect_timeout + redis.backoff_max),
            n_beats: 0,
            n_mismatches: 0,
            n_room_mismatches: 0,
            was_holding: false,
            as_of: clock::now(),
            max_jump: presence.user_ttl / MAX_JUMP_PART,
        };
        (writer, receiver)
    }

    /// The task, and the handle that ends it. `drain_lease` is the length of the lease after a drain.
    pub fn into_task(mut self, drain_lease: Duration) -> (DrainHandle, impl Future<Output = ()> + Send) {
        let stop = CancellationToken::new();
        let (done, on_done) = oneshot::channel();
        let handle = DrainHandle { stop: stop.clone(), done: on_done };
        let task = async move {
            self.run(&stop, drain_lease).await;
            // Nobody may be waiting.
            let _ = done.send(());
        };
        (handle, task)
    }

    async fn run(&mut self, stop: &CancellationToken, drain_lease: Duration) {
        loop {
            let connected = tokio::select! {
                connected = self.connect() => connected,
                () = stop.cancelled() => return self.drain_unconnected(drain_lease).await,
            };
            let served = match connected {
                Ok(mut writer) => self.serve(&mut *writer, stop, drain_lease).await,
                Err(error) => Err(error),
            };
            let Err(error) = served else { return };
            self.report(&error);
            // No other code ends the graces while the store is away.
            self.table.end_due_graces(Instant::now());
            tokio::select! {
                () = self.backoff.wait() => {}
                () = stop.cancelled() => return self.drain_unconnected(drain_lease).await,
            }
        }
    }

    /// Announces the drain while a connection is being replaced. If the store is known to be away, nobody waits for it:
    /// the lease ends by itself.
    async fn drain_unconnected(&self, lease: Duration) {
        if matches!(*self.link.borrow(), Link::Down { .. }) {
            return;
        }
        let drained = async { self.store.open_writer().await?.drain(lease).await };
        if let Err(error) = drained.await {
            warn!(error = %error, "Could not announce the drain, so the lease ends by itself");
        }
    }

    /// Opens a connection, takes the lease under a new generation and asserts the sockets that are wanted. Their rooms may
    /// follow later.
    async fn connect(&mut self) -> StoreResult<Box<dyn StoreWriter>> {
        self.claim.generation += 1;
        self.heard_at = Timestamp(0);
        if let CutOff::Until(_) = self.cut_off {
            // The store was out of reach again meanwhile. What peers said before that does not count.
            self.cut_off = CutOff::Still;
        }
        self.table.begin_assertion();
        let mut writer = self.store.open_writer().await?;
        self.beat(&mut *writer).await?;
        let reply = loop {
            self.drive_all(&mut *writer).await?;
            let reply = self.beat(&mut *writer).await?;
            if self.table.has_asserted() {
                break reply;
            }
        };
        self.publish_link(reply);
        self.backoff.reset();
        self.reminder.reset();
        Ok(writer)
    }

    /// Drives the store over one connection. Returns when it is told to stop. Fails when the connection fails.
    async fn serve(
        &mut self,
        writer: &mut dyn StoreWriter,
        stop: &CancellationToken,
        drain_lease: Duration,
    ) -> StoreResult<()> {
        let mut beats = interval(self.beat_every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats.reset();
        let mut grace_end = self.table.end_due_graces(Instant::now());
        let mut is_behind = false;
        loop {
            tokio::select! {
                // A beat goes before the orders that are left over.
                biased;
                () = stop.cancelled() => {
                    if let Err(error) = writer.drain(drain_lease).await {
                        warn!(error = %error, "Could not announce the drain, so the lease ends by itself");
                    }
                    return Ok(());
                }
                _ = beats.tick() => {
                    let reply = self.beat(writer).await?;
                    self.drive_all(writer).await?;
                    self.publish_link(reply);
                }
                () = self.table.changed() => {}
                () = clock::sleep_until(grace_end) => {}
                () = std::future::ready(()), if is_behind => {}
            }
            grace_end = self.table.end_due_graces(Instant::now());
            is_behind = !self.drive_all(writer).await?;
        }
    }

    /// Sends orders until none is left. It stops earlier if the next beat would be late. Returns whether none was left.
    async fn drive_all(&mut self, writer: &mut dyn StoreWriter) -> StoreResult<bool> {
        let started = Instant::now();
        let mut n_refused = 0;
        while started.elapsed() < self.beat_every / 2 {
            let orders = self.table.take_orders(BATCH);
            if orders.is_empty() {
                return Ok(true);
            }
            let outcomes = match writer.drive(self.claim, &orders).await {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    for order in &orders {
                        self.table.settle(order, None);
                    }
                    return Err(error);
                }
            };
            let mut refused = None;
            for (order, outcome) in orders.iter().zip(outcomes) {
                if let Outcome::Refused(refusal) = outcome {
                    refused = Some(refusal);
                }
                self.table.settle(order, Some(outcome));
            }
            if refused.is_some() {
                // The refused orders are still to be asserted.
                self.table.begin_assertion();
                n_refused += 1;
            }
            if n_refused > MAX_REFUSALS {
                return Err(StoreError::Unreachable("orders are refused although the beats are answered".to_owned()));
            }
            match refused {
                None => {}
                // Another connection claims to be a newer one of this node: the writer takes over again. Node ids are
                // never used twice, so somebody has written that claim by hand. Doubling the generation exceeds any
                // number that was written.
                Some(Refusal::OldGeneration) => {
                    self.claim.generation = self.claim.generation.saturating_mul(2).min(MAX_GENERATION);
                    return Err(StoreError::Unreachable("a newer connection of this node has taken over".to_owned()));
                }
                Some(Refusal::ForeignEpoch | Refusal::NoLease) => {
                    debug!(refusal = ?refused, "The store refused an order");
                    self.beat(writer).await?;
                }
            }
        }
        Ok(false)
    }

    /// Beats, and does what the reply asks for. It goes on until the node holds a lease, and the store accepts orders
    /// under that lease.
    async fn beat(&mut self, writer: &mut dyn StoreWriter) -> StoreResult<BeatReply> {
        let mut is_fenced = false;
        for _ in 0..=MAX_REFUSALS {
            let started = Instant::now();
            let reply = writer.beat(self.next_beat()).await?;
            self.metrics.beat_answered(started.elapsed(), clock::now());
            let is_first = self.claim.epoch == 0;
            if !is_first && self.as_of.until(reply.now) > self.max_jump {
                warn!("Keys may have expired while the store was away or its clock jumped: asserting all sockets");
                self.table.forget_confirmations();
                self.count_as_cut_off();
            }
            self.follow_peers(&reply);
            (self.heard_at, self.as_of) = (reply.now, reply.now);
            self.table.set_store_time(reply.now);
            if std::mem::replace(&mut self.was_holding, reply.holding) && !reply.holding {
                self.table.restate_idle_marks();
            }
            let is_new_epoch = reply.position.epoch != self.claim.epoch;
            if is_new_epoch {
                if !is_first {
                    let epoch = reply.position.epoch;
                    warn!(epoch, "A new epoch has begun: Redis was restarted, or lost its data: asserting all sockets");
                    self.table.begin_epoch(reply.position);
                }
                self.claim.epoch = reply.position.epoch;
            }
            match reply.lease {
                LeaseState::Renewed => {
                    self.compare_counts(writer, &reply).await?;
                    return Ok(reply);
                }
                LeaseState::Granted => {
                    if !is_first {
                        // With a new epoch, all leases are new. A fence was counted when it was found.
                        if !is_new_epoch && !is_fenced {
                            self.metrics.fenced();
                        }
                        warn!("The lease had ended: asserting all sockets under a new one");
                        self.table.forget_confirmations();
                    }
                    return Ok(reply);
                }
                LeaseState::Fenced => {
                    warn!("The lease had ended and peers have begun to sweep this node: finishing the sweep");
                    self.metrics.fenced();
                    is_fenced = true;
                    while !writer.sweep_self().await? {}
                }
            }
        }
        Err(StoreError::Unreachable("the lease is refused although this node was swept".to_owned()))
    }

    fn next_beat(&self) -> Beat {
        let (has_asserted, has_asserted_all) = (self.table.has_asserted(), self.table.has_asserted_all());
        Beat {
            generation: self.claim.generation,
            seen: self.table.seen(),
            asserted: if has_asserted { self.claim.epoch } else { 0 },
            all_asserted: if has_asserted_all { self.claim.epoch } else { 0 },
            heard_at: self.heard_at,
            waits_since: match self.cut_off {
                CutOff::Until(since) => Some(since),
                CutOff::No | CutOff::Still => None,
            },
        }
    }

    fn count_as_cut_off(&mut self) {
        if self.cut_off == CutOff::No {
            self.waited = Duration::ZERO;
        }
        self.cut_off = CutOff::Still;
        self.table.defer_departures();
    }

    /// After an outage the store must hear who is here before it hears who left. So the node waits with its departures
    /// until every peer has asserted its sockets. Departures from rooms, and the view, wait until every peer has asserted its
    /// entries in rooms as well.
    fn follow_peers(&mut self, reply: &BeatReply) {
        let CutOff::Until(since) = self.cut_off else {
            if self.cut_off == CutOff::Still {
                self.cut_off = CutOff::Until(reply.now);
            }
            return;
        };
        if self.heard_at > Timestamp(0) {
            self.waited += self.heard_at.until(reply.now);
        }
        let (is_early, is_late) = (since.until(reply.now) < self.wait_at_least, self.waited >= WAIT_AT_MOST);
        if is_late || reply.peers_asserted && !is_early {
            self.table.release_departures();
        }
        if is_late || reply.peers_all_asserted && !is_early {
            self.cut_off = CutOff::No;
            self.table.release_room_departures();
        } else if reply.now < since {
            // The store's clock was set back. The times that peers report went back with it.
            self.cut_off = CutOff::Until(reply.now);
        }
    }

    /// Compares what the table holds with what the store counts. If two counts in a row differ while nothing is in flight,
    /// the difference is real.
    async fn compare_counts(&mut self, writer: &mut dyn StoreWriter, reply: &BeatReply) -> StoreResult<()> {
        if differs_again(self.table.confirmed_range(), reply.n_sockets, &mut self.n_mismatches) {
            let n_different = self.table.reconcile(&writer.held_sockets().await?);
            warn!(n_different, "The store held other sockets for this node than it should: reconciling");
            self.metrics.reconciled();
        }
        if differs_again(self.table.confirmed_room_range(), reply.n_room_entries, &mut self.n_room_mismatches) {
            let n_different = self.table.reconcile_rooms(&writer.held_room_entries().await?);
            warn!(n_different, "The store held other entries in rooms for this node than it should: reconciling");
            self.metrics.reconciled_rooms();
        }
        Ok(())
    }

    fn publish_link(&mut self, reply: BeatReply) {
        self.n_beats += 1;
        // The store may name users who left before it hears of users who are here.
        let holding = reply.holding || self.cut_off != CutOff::No;
        let link = Link::Up { position: reply.position, holding, n_beats: self.n_beats };
        if !matches!(self.link.send_replace(link), Link::Up { .. }) {
            info!(epoch = reply.position.epoch, revision = reply.position.revision, "The store answers");
        }
    }

    /// Reports a failure. After a good connection, the first failure gets one quick new try. After that the link counts
    /// as down.
    fn report(&mut self, error: &StoreError) {
        self.metrics.store_error();
        // The cause that broke the connection may have kept peers away, too.
        self.count_as_cut_off();
        if !self.backoff.is_first() && !matches!(*self.link.borrow(), Link::Down { .. }) {
            warn!(error = %error, "The store does not answer; arrivals are provisional and departures wait");
            self.link.send_replace(Link::Down { as_of: self.as_of });
        }
        if let Some(seconds) = self.reminder.failed() {
            warn!(error = %error, "For {seconds} s the store has not answered");
        }
    }
}

/// Whether a count is not as expected for the second time in a row.
fn differs_again(expected: Option<RangeInclusive<u64>>, count: u64, n_mismatches: &mut u32) -> bool {
    *n_mismatches = if expected.is_some_and(|range| !range.contains(&count)) { *n_mismatches + 1 } else { 0 };
    let is_real = *n_mismatches >= 2;
    if is_real {
        *n_mismatches = 0;
    }
    is_real
}
