//! Decides when a worker tells its events: at once, or after a rest. In a rest more events come to share the write.

use std::time::{Duration, Instant};

/// How long a worker may tell events one by one before it rests between two rounds (docs/design.md, decision 20).
///
/// A write costs nearly the same for one event as for ten. So in a stream of events a rest is worth its delay. With
/// pauses between the events a rest is not worth it, because no other event would share the write. The credit tells the
/// two cases apart. Telling events spends the credit. Time in which no event waits earns it. So events with pauses are
/// told at once, and a stream is in debt.
#[derive(Debug)]
pub(super) struct Credit {
    /// The credit, in ns. It is negative in debt.
    balance_ns: i64,
    /// The time at which the last round was over, and how long the round took.
    last_round: Option<(Instant, Duration)>,
    max_rest: Duration,
}

/// The highest credit, and the deepest debt. Source: simulated, docs/design.md, decision 20.
const LIMIT: Duration = Duration::from_millis(50);

/// Time without events earns this many times its own length.
const EARNED_PARTS: u32 = 2;

/// In debt, a rest is this many times as long as the round before it. After a round of 1 ms, events gather for 4 ms. So
/// fan-out takes a fifth of a worker's time, while the rest is below its maximum.
const REST_PARTS: u32 = 4;

impl Credit {
    /// Full credit. `max_rest` is `fanout.max_tick`.
    pub(super) fn new(max_rest: Duration) -> Self {
        Self { balance_ns: nanos(LIMIT), last_round: None, max_rest }
    }

    /// No event waited for this long.
    pub(super) fn earn(&mut self, idle: Duration) {
        self.balance_ns = self.balance_ns.saturating_add(nanos(idle * EARNED_PARTS)).min(nanos(LIMIT));
    }

    /// An event waits. Returns the time until which the worker must rest before it tells the event. None says that the
    /// worker tells it at once.
    pub(super) fn rest_until(&self) -> Option<Instant> {
        let (over_at, cost) = self.last_round.filter(|_| self.balance_ns < 0)?;
        Some(over_at + (cost * REST_PARTS).min(self.max_rest))
    }

    /// A round took this long, and is over now.
    pub(super) fn spend(&mut self, cost: Duration, now: Instant) {
        self.balance_ns = self.balance_ns.saturating_sub(nanos(cost)).max(-nanos(LIMIT));
        self.last_round = Some((now, cost));
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_REST: Duration = Duration::from_millis(50);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Plays events that come `apart` from each other, for a second. Each round costs `cost`. Returns how many rounds
    /// were told at once, and how many events each round told on average.
    fn play(apart: Duration, cost: Duration) -> (usize, f64) {
        let start = Instant::now();
        let mut credit = Credit::new(MAX_REST);
        let (mut now, mut n_told, mut n_rounds, mut n_at_once) = (start, 0u32, 0usize, 0usize);
        while now < start + ms(1000) {
            // The first event that is not told yet.
            let due = start + apart * n_told;
            credit.earn(due.saturating_duration_since(now));
            now = now.max(due);
            match credit.rest_until() {
                Some(until) if until > now => now = until,
                _ => n_at_once += 1,
            }
            n_told = (now.duration_since(start).as_nanos() / apart.as_nanos()) as u32 + 1;
            now += cost;
            credit.spend(cost, now);
            n_rounds += 1;
        }
        (n_at_once, f64::from(n_told) / n_rounds as f64)
    }

    #[test]
    fn events_with_pauses_between_them_are_told_at_once() {
        for (apart, cost) in [(10, 6), (200, 50)] {
            let (n_at_once, shared) = play(ms(apart), ms(cost));
            assert_eq!(shared, 1.0);
            assert!(n_at_once as u64 >= 1000 / apart, "{n_at_once}");
        }
    }

    #[test]
    fn in_a_stream_without_pauses_many_events_share_a_round() {
        let (n_at_once, shared) = play(ms(1), ms(5));
        assert!(n_at_once < 20 && shared > 15.0, "{n_at_once} {shared}");
    }

    #[test]
    fn the_rest_is_bounded_and_paid_off_by_a_pause() {
        let mut credit = Credit::new(MAX_REST);
        let now = Instant::now();
        assert_eq!(credit.rest_until(), None);
        credit.spend(ms(500), now);
        assert_eq!(credit.rest_until(), Some(now + MAX_REST));
        credit.earn(ms(24));
        assert!(credit.rest_until().is_some());
        credit.earn(ms(1));
        assert_eq!(credit.rest_until(), None);
    }
}
