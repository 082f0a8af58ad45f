//! Which sockets are let in, and how fast.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::AddressPlace;
use crate::metrics::{AdmissionMetrics, RefusedBecause};
use crate::settings::Settings;

/// The gate of one node. After a peer has died, its clients come all at once. The gate lets them in at a rate that the
/// node and the store can bear. A few clients wait. The others are told to try again.
pub(crate) struct Admission {
    rate: DefaultDirectRateLimiter,
    clock: DefaultClock,
    max_sockets: usize,
    max_waiting: usize,
    max_unnamed: usize,
    n_sockets: AtomicUsize,
    n_waiting: AtomicUsize,
    /// The seats of those who have not said yet who they are.
    n_unnamed: AtomicUsize,
    /// The seats that are taken, by sessions and by upgrades that will become sessions.
    sessions: TaskTracker,
    /// Cancelled when the node begins to drain.
    draining: CancellationToken,
    metrics: AdmissionMetrics,
}

/// Room for one socket. Dropping the seat gives the room back. A drain waits until every seat is dropped.
///
/// It is boxed, because a session keeps it and should be small.
pub(crate) struct Seat(Box<TakenSeat>);

struct TakenSeat {
    admission: Arc<Admission>,
    /// Whether the client has said who it is.
    is_named: Cell<bool>,
    _place: AddressPlace,
    _session: TaskTrackerToken,
}

/// A place among the sockets that wait. Dropping it gives the place up.
struct Waiting<'a>(&'a AtomicUsize);

/// The joins of one second, divided by this number, may come at once. A node serves that many within one tick of the
/// fan-out anyway.
const BURST_PART: u32 = 10;

impl Admission {
    /// A gate with the limits of `server.max_sockets`, `limits.unnamed_sockets`, `limits.joins_per_second` and
    /// `limits.join_queue`. `sessions` counts the seats that are taken. `draining` says that nobody may come in any more.
    pub(crate) fn new(
        settings: &Settings,
        sessions: TaskTracker,
        draining: CancellationToken,
        metrics: AdmissionMetrics,
    ) -> Arc<Self> {
        let per_second = NonZeroU32::new(settings.limits.joins_per_second).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(per_second.get() / BURST_PART).unwrap_or(NonZeroU32::MIN);
        Arc::new(Self {
            rate: RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst)),
            clock: DefaultClock::default(),
            max_sockets: settings.server.max_sockets,
            max_waiting: settings.limits.join_queue,
            max_unnamed: settings.limits.unnamed_sockets,
            n_sockets: AtomicUsize::new(0),
            n_waiting: AtomicUsize::new(0),
            n_unnamed: AtomicUsize::new(0),
            sessions,
            draining,
            metrics,
        })
    }

    /// Lets one socket in, perhaps after a wait. It keeps its place among those of its address. The wait is bounded: at most
    /// `limits.join_queue` sockets wait, and `limits.joins_per_second` of them come in each second. A client is named if its
    /// handshake says who it is.
    ///
    /// # Errors
    /// The node is full, too many sockets wait or have not said who they are, or the node drains.
    pub(crate) async fn admit(self: &Arc<Self>, place: AddressPlace, is_named: bool) -> Result<Seat, RefusedBecause> {
        // The seat is taken before the question. So a drain that begins after the question waits for the seat.
        let seat = self.seat(place, is_named).await;
        let seat = if self.draining.is_cancelled() { Err(RefusedBecause::Draining) } else { seat };
        seat.map_err(|because| self.refuse(because))
    }

    /// Waits for what a client needs to come in, until the node drains.
    ///
    /// # Errors
    /// [`RefusedBecause::Draining`].
    pub(crate) async fn unless_draining<T>(&self, awaited: impl Future<Output = T>) -> Result<T, RefusedBecause> {
        self.draining.run_until_cancelled(awaited).await.ok_or(RefusedBecause::Draining)
    }

    /// Counts a socket that is refused, and returns what its client is told. While the node drains, that is nothing else.
    pub(crate) fn refuse(&self, because: RefusedBecause) -> RefusedBecause {
        let because = if self.draining.is_cancelled() { RefusedBecause::Draining } else { because };
        self.note_refusal(because);
        because
    }

    /// Counts a socket that was refused because of its address.
    pub(crate) fn note_refusal(&self, because: RefusedBecause) {
        self.metrics.refused(because);
    }

    async fn seat(self: &Arc<Self>, place: AddressPlace, is_named: bool) -> Result<Seat, RefusedBecause> {
        let seat = Seat::take(self, place);
        if is_named {
            seat.named();
        }
        // The seat counts itself already.
        if self.n_sockets.load(Ordering::Relaxed) > self.max_sockets {
            return Err(RefusedBecause::Full);
        }
        if !is_named && self.n_unnamed.load(Ordering::Relaxed) > self.max_unnamed {
            return Err(RefusedBecause::Busy);
        }
        let Err(not_yet) = self.rate.check() else { return Ok(seat) };
        let waiting = Waiting(&self.n_waiting);
        if self.n_waiting.fetch_add(1, Ordering::Relaxed) >= self.max_waiting {
            return Err(RefusedBecause::Busy);
        }
        let mut delay = not_yet.wait_time_from(self.clock.now());
        loop {
            self.unless_draining(tokio::time::sleep(delay)).await?;
            match self.rate.check() {
                Ok(()) => break,
                Err(not_yet) => delay = not_yet.wait_time_from(self.clock.now()),
            }
        }
        drop(waiting);
        Ok(seat)
    }
}

impl Seat {
    fn take(admission: &Arc<Admission>, place: AddressPlace) -> Self {
        admission.n_sockets.fetch_add(1, Ordering::Relaxed);
        admission.n_unnamed.fetch_add(1, Ordering::Relaxed);
        let session = admission.sessions.token();
        let is_named = Cell::new(false);
        Self(Box::new(TakenSeat { admission: admission.clone(), is_named, _place: place, _session: session }))
    }

    /// The client has said who it is. From now on it is not among the sockets of `limits.unnamed_sockets`. It does not come
    /// back there when it leaves: what it did to be named bounds it.
    pub(super) fn named(&self) {
        if !self.0.is_named.replace(true) {
            self.0.admission.n_unnamed.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.named();
        self.0.admission.n_sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
