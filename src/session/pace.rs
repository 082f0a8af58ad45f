//! How a busy worker hears heartbeats: many in one turn.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::sync::Notify;

/// Reads by load, not by a fixed delay (docs/adr/0007). A worker that wakes for each heartbeat spends more on waking than on
/// the heartbeat; so while many come and the thread has time to spare, it rests for a moment before it looks at its sockets
/// again. What has come meanwhile is read in one turn. An idle worker hears at once, and one that is busy does not rest: there,
/// messages gather by themselves.
///
/// Heartbeats are what nobody waits for: `user_activity` without `ref`, and the answers to pings. Only they make a worker rest,
/// but all that it does waits meanwhile.
pub struct Pace {
    n_heard: Cell<u64>,
    /// When the heartbeats of the current window began to be counted, and from which on.
    window: Cell<(Instant, u64)>,
    /// How long to rest at the present rate.
    rest: Cell<Duration>,
    is_fast: Notify,
}

/// How many heartbeats a rest is to gather.
const AIM: u32 = 10;

/// The longest rest.
const MAX_REST: Duration = Duration::from_millis(2);

/// Heartbeats that are worth a rest, which costs a wake-up of its own.
const WORTH_RESTING: u64 = 4;

/// The rate is taken from so many heartbeats at a time. They come fast if they take no longer than this: then the longest rest
/// is worth it.
const WINDOW_HEARTBEATS: u32 = 40;
const WINDOW: Duration = Duration::from_millis(20);

/// How busy a worker's thread has been since it was last looked at.
struct Load {
    metrics: RuntimeMetrics,
    at: Instant,
    busy: Duration,
    /// Rested since then; the runtime counts that as busy.
    rested: Duration,
}

impl Pace {
    /// Starts to pace the current worker thread.
    pub fn start() -> Rc<Self> {
        let window = Cell::new((Instant::now(), 0));
        let pace = Rc::new(Self { n_heard: Cell::new(0), window, rest: Cell::default(), is_fast: Notify::new() });
        actix_rt::spawn(pace.clone().run());
        pace
    }

    /// A heartbeat was heard.
    pub fn heard(&self) {
        let n_heard = self.n_heard.get() + 1;
        self.n_heard.set(n_heard);
        let (from, n_before) = self.window.get();
        if n_heard - n_before >= WINDOW_HEARTBEATS.into() {
            let now = Instant::now();
            self.window.set((now, n_heard));
            if let Some(rest) = rest_after(now - from) {
                self.rest.set(rest);
                self.is_fast.notify_one();
            }
        }
    }

    async fn run(self: Rc<Self>) {
        let mut load = Load::new();
        loop {
            self.is_fast.notified().await;
            while load.leaves_time() {
                let n_before = self.n_heard.get();
                load.rest(self.rest.get());
                // Resumed when every socket that was found ready has had its turn.
                tokio::task::yield_now().await;
                if self.n_heard.get() - n_before < WORTH_RESTING {
                    break;
                }
            }
        }
    }
}

/// How long to rest when the heartbeats of a window took so long; none if they came slowly.
fn rest_after(took: Duration) -> Option<Duration> {
    (took <= WINDOW).then(|| (took * AIM / WINDOW_HEARTBEATS).min(MAX_REST))
}

impl Load {
    fn new() -> Self {
        let metrics = Handle::current().metrics();
        Self { busy: metrics.worker_total_busy_duration(0), metrics, at: Instant::now(), rested: Duration::ZERO }
    }

    /// Whether at least half of the time was not needed, or it is too soon to tell.
    fn leaves_time(&mut self) -> bool {
        let elapsed = self.at.elapsed();
        if elapsed < WINDOW {
            return true;
        }
        let busy = self.metrics.worker_total_busy_duration(0);
        let worked = busy.saturating_sub(self.busy).saturating_sub(self.rested);
        (self.at, self.busy, self.rested) = (Instant::now(), busy, Duration::ZERO);
        worked < elapsed / 2
    }

    fn rest(&mut self, time: Duration) {
        let from = Instant::now();
        std::thread::sleep(time);
        self.rested += from.elapsed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_gathers_ten_heartbeats_and_is_bounded() {
        assert_eq!(rest_after(Duration::from_millis(4)), Some(Duration::from_millis(1)));
        assert_eq!(rest_after(WINDOW), Some(MAX_REST));
        assert_eq!(rest_after(WINDOW + Duration::from_nanos(1)), None);
    }

    #[test]
    fn heartbeats_that_come_fast_are_all_heard() {
        actix_rt::System::new().block_on(async {
            let pace = Pace::start();
            let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
            let reader = actix_rt::spawn({
                let pace = pace.clone();
                async move {
                    let mut n_heard = 0;
                    while receiver.recv().await.is_some() {
                        pace.heard();
                        n_heard += 1;
                    }
                    n_heard
                }
            });
            let writer = std::thread::spawn(move || {
                for i in 0..2000 {
                    sender.send(i).unwrap();
                    if i % 20 == 0 {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
            });
            assert_eq!(reader.await.unwrap(), 2000);
            writer.join().unwrap();
        });
    }
}
