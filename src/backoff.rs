//! Delays between tries, and how often a failure that lasts is logged.

use std::time::{Duration, Instant};

use rand::RngExt;

/// The delays of a retry loop. The first try again comes at once. Then the delays double, up to a cap.
///
/// Half of each delay is fixed and half is random ("equal jitter"). The random half spreads nodes that failed together. The
/// fixed half bounds the rate: once the delays have grown to the cap, a node tries at most twice in that time. With full
/// jitter a delay can be nearly zero, so a node could try several times in a row. Full jitter spreads a crowd better, but
/// nodes are few.
/// Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Debug)]
pub(crate) struct Backoff {
    max: Duration,
    n_failures: u32,
}

/// The longest first delay.
const FIRST: Duration = Duration::from_millis(50);

impl Backoff {
    /// Delays of at most `max`.
    pub(crate) fn new(max: Duration) -> Self {
        Self { max, n_failures: 0 }
    }

    /// Whether the last try was good, so that this failure is the first.
    pub(crate) fn is_first(&self) -> bool {
        self.n_failures == 0
    }

    /// Says that a try was good.
    pub(crate) fn reset(&mut self) {
        self.n_failures = 0;
    }

    /// Waits before the next try.
    pub(crate) async fn wait(&mut self) {
        let delay = self.next();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    /// The delay before the next try, for a caller that does something else meanwhile.
    pub(crate) fn next(&mut self) -> Duration {
        let n_failures = self.n_failures;
        self.n_failures = n_failures.saturating_add(1);
        if n_failures == 0 {
            return Duration::ZERO;
        }
        let ceiling = FIRST.saturating_mul(1 << (n_failures - 1).min(16)).min(self.max);
        ceiling.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

/// Says when a failure that lasts gets a line in the log: once a minute. The caller writes the first line, when the
/// failure begins.
#[derive(Debug, Default)]
pub(crate) struct Reminder {
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    logged: Instant,
}

/// This is often enough for a reader of the log to see the failure. It is seldom enough that a long outage does not
/// fill the log.
const REMIND_EVERY: Duration = Duration::from_secs(60);

impl Reminder {
    /// Says that something failed, again or for the first time. If a line should be logged, returns for how many
    /// seconds it has been failing.
    pub(crate) fn failed(&mut self) -> Option<u64> {
        self.failed_at(Instant::now())
    }

    /// Says that it works.
    pub(crate) fn reset(&mut self) {
        self.failing = None;
    }

    fn failed_at(&mut self, now: Instant) -> Option<u64> {
        let failing = self.failing.get_or_insert(Failing { since: now, logged: now });
        if now.duration_since(failing.logged) < REMIND_EVERY {
            return None;
        }
        failing.logged = now;
        Some(now.duration_since(failing.since).as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_lasts_is_logged_once_a_minute_until_it_is_over() {
        let mut reminder = Reminder::default();
        let begin = Instant::now();
        let mut logged = Vec::new();
        for tenths in 0..=1800 {
            logged.extend(reminder.failed_at(begin + Duration::from_millis(100 * tenths)));
        }
        assert_eq!(logged, [60, 120, 180]);
        reminder.reset();
        assert_eq!(reminder.failed_at(begin + Duration::from_secs(300)), None);
        assert_eq!(reminder.failed_at(begin + Duration::from_secs(360)), Some(60));
    }

    #[test]
    fn delays_grow_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        assert!(backoff.next().is_zero());
        let delays: Vec<_> = (0..40).map(|_| backoff.next()).collect();
        assert!(delays[0] <= FIRST && delays[0] >= FIRST / 2);
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(1)));
        assert!(delays[39] >= Duration::from_millis(500));
        backoff.reset();
        assert!(backoff.next().is_zero());
    }
}
