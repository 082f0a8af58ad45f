//! Turns of a connection on its worker.
//!
//! actix-http reads 128 KiB ahead of its answers. When so much waits, the next answer may not be there yet, or it cannot be written.
//! Then actix-http asks for its next turn at once, again and again (`read_available` in its `h1/dispatcher.rs`, 3.20). So one client
//! that sends many requests and reads nothing would keep a processor busy. Here such a connection gets its turns a few milliseconds apart.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use actix_http::Protocol;
use actix_http::error::DispatchError;
use actix_service::{Service, ServiceFactory, apply_fn_factory};
use futures_util::task::AtomicWaker;
use tokio::time::{Sleep, sleep};

use super::Connection;

/// A connection that HTTP takes over, and where it comes from.
pub(crate) type Opened = (Connection, Protocol, Option<SocketAddr>);

/// How many bytes a connection has moved, in both directions. Only a change of it matters.
#[derive(Clone, Default)]
pub(super) struct Moved(Rc<Cell<usize>>);

/// A connection, from its first turn to its end.
struct Turns<F> {
    connection: Pin<Box<F>>,
    asking: Arc<Asking>,
    /// The same, as the connection has it.
    waker: Waker,
    moved: Moved,
    /// What had moved in the last turn.
    last_moved: usize,
    /// The turns in a row in which nothing has moved, and after which the connection has asked for another one at once.
    n_idle: u32,
    rest: Pin<Box<Sleep>>,
}

/// Tells whether a connection asks for its next turn while it has one.
struct Asking {
    state: AtomicU8,
    task: AtomicWaker,
}

const WAITING: u8 = 0;
const HAS_TURN: u8 = 1;
const HAS_ASKED: u8 = 2;

/// A connection may ask for so many turns in a row without moving a byte. A body that its handler reads piece by piece is such
/// a case.
const IDLE_TURNS: u32 = 16;

/// The time between two turns after that. If something moves, or an answer is there, the connection has a turn before.
const REST: Duration = Duration::from_millis(5);

/// The same service, with connections that cannot take turns for nothing.
pub(crate) fn in_turns<H>(
    http: H,
) -> impl ServiceFactory<Opened, Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    H: ServiceFactory<Opened, Config = (), Response = (), Error = DispatchError, InitError = ()>,
{
    apply_fn_factory(http, |opened: Opened, http: &H::Service| {
        let moved = opened.0.moved();
        Turns::new(moved, http.call(opened))
    })
}

impl Moved {
    /// So many bytes have moved.
    pub(super) fn add(&self, n_bytes: usize) {
        self.0.set(self.0.get().wrapping_add(n_bytes));
    }
}

impl<F> Turns<F> {
    fn new(moved: Moved, connection: F) -> Self {
        let asking = Arc::new(Asking { state: AtomicU8::new(WAITING), task: AtomicWaker::new() });
        Self {
            connection: Box::pin(connection),
            waker: asking.clone().into(),
            asking,
            last_moved: 0,
            moved,
            n_idle: 0,
            rest: Box::pin(sleep(Duration::ZERO)),
        }
    }
}

impl<F: Future> Future for Turns<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        this.asking.begin(context.waker());
        let polled = this.connection.as_mut().poll(&mut Context::from_waker(&this.waker));
        let asks_at_once = this.asking.end();
        let moved = this.moved.0.get();
        let is_idle = asks_at_once && moved == this.last_moved;
        this.last_moved = moved;
        this.n_idle = if is_idle { this.n_idle + 1 } else { 0 };
        if polled.is_ready() || !asks_at_once {
            return polled;
        }
        if this.n_idle > IDLE_TURNS {
            this.n_idle = IDLE_TURNS;
            this.rest.as_mut().reset(tokio::time::Instant::now() + REST);
            if this.rest.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Asking {
    /// The connection has a turn, which this task gives.
    fn begin(&self, task: &Waker) {
        self.task.register(task);
        self.state.store(HAS_TURN, Ordering::Release);
    }

    /// The turn is over. Returns whether the connection has asked for another one meanwhile.
    fn end(&self) -> bool {
        self.state.swap(WAITING, Ordering::AcqRel) == HAS_ASKED
    }
}

impl Wake for Asking {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In one step, so that no call falls between a turn and its end.
        let state = self.state.compare_exchange(HAS_TURN, HAS_ASKED, Ordering::AcqRel, Ordering::Acquire);
        if state == Err(WAITING) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// A connection that asks for another turn in each, and ends after so many.
    fn restless(moved: &Moved, n_turns: &Cell<u32>, max_turns: u32, n_bytes: usize) -> impl Future<Output = ()> {
        let connection = poll_fn(move |context: &mut Context<'_>| {
            n_turns.set(n_turns.get() + 1);
            moved.add(n_bytes);
            context.waker().wake_by_ref();
            if n_turns.get() < max_turns { Poll::Pending } else { Poll::Ready(()) }
        });
        Turns::new(moved.clone(), connection)
    }

    #[tokio::test]
    async fn a_connection_that_moves_nothing_rests() {
        let (moved, n_turns) = (Moved::default(), Cell::new(0));
        let turns = restless(&moved, &n_turns, u32::MAX, 0);
        assert!(tokio::time::timeout(20 * REST, turns).await.is_err());
        assert!(n_turns.get() <= IDLE_TURNS + 22, "{}", n_turns.get());
    }

    #[tokio::test]
    async fn a_connection_that_moves_something_has_its_turns_at_once() {
        let (moved, n_turns) = (Moved::default(), Cell::new(0));
        // With rests, these turns would take more than a minute.
        let turns = restless(&moved, &n_turns, 20_000, 1);
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), turns).await, Ok(()));
    }

    #[tokio::test]
    async fn a_resting_connection_has_a_turn_when_somebody_else_asks_for_one() {
        let (wake, woken) = tokio::sync::oneshot::channel();
        let mut woken = Box::pin(woken);
        let connection = poll_fn(|context: &mut Context<'_>| {
            context.waker().wake_by_ref();
            woken.as_mut().poll(context)
        });
        let turns = Turns::new(Moved::default(), connection);
        let tell = async {
            sleep(Duration::from_millis(50)).await;
            wake.send(()).unwrap();
        };
        assert_eq!(tokio::join!(turns, tell).0, Ok(()));
    }
}
