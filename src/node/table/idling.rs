//! The sockets that may become idle.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::settings::PresenceSettings;

/// The sockets whose clients say `user_activity`, each with a time at which it may have become idle.
///
/// Time is counted in *ticks* since the table began. A tick is as long as a round of heartbeats should be. A tick takes 4
/// bytes of a socket's memory, an [`Instant`] takes 16.
///
/// Invariant: a socket is here once if it has a tick of its last activity, and not at all if that is 0 (test:
/// `a_store_ends_up_as_clients_said_whatever_is_lost`).
pub(super) struct Idling {
    began: Instant,
    tick: Duration,
    /// After how many ticks without `user_activity` a socket is idle. It is none if that is turned off.
    after: Option<u32>,
    /// The sockets, by the tick at which to look at them.
    due: BTreeMap<u32, Vec<u64>>,
    /// Number of sockets here, with those that are forgotten.
    n_sockets: usize,
}

/// How many forgotten sockets may stay here. The number is large, so that the table seldom looks through them.
pub(super) const IDLING_SLACK: usize = 1024;

impl Idling {
    /// No sockets.
    pub(super) fn new(presence: &PresenceSettings) -> Self {
        let tick = presence.round();
        let after = Some(presence.idle).filter(|idle| !idle.is_zero());
        Self {
            began: Instant::now(),
            tick,
            after: after.map(|after| n_ticks(after.as_nanos().div_ceil(tick.as_nanos()))),
            due: BTreeMap::new(),
            n_sockets: 0,
        }
    }

    /// The socket was active at `now`, and its activity before that was at tick `before`, or 0. Returns the tick to
    /// remember: the first one that begins after `now`. So no socket becomes idle too early. It is 0 if no socket becomes
    /// idle by itself.
    pub(super) fn active(&mut self, number: u64, before: u32, now: Instant) -> u32 {
        let Some(after) = self.after else { return 0 };
        let tick = self.tick_of(now).saturating_add(1);
        if before == 0 {
            self.put(number, tick.saturating_add(after));
        }
        tick
    }

    /// Takes out the sockets that may have become idle by `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<u64> {
        let (tick, mut due) = (self.tick_of(now), Vec::new());
        while let Some(first) = self.due.first_entry()
            && *first.key() <= tick
        {
            due.append(&mut first.remove());
        }
        self.n_sockets -= due.len();
        due
    }

    /// Whether a socket that was taken out is idle at `now`. If it is not, it is put back. `active_at` is the tick of its
    /// last activity.
    pub(super) fn is_idle(&mut self, number: u64, active_at: u32, now: Instant) -> bool {
        let idle_at = active_at.saturating_add(self.after.unwrap_or(u32::MAX));
        let is_idle = idle_at <= self.tick_of(now);
        if !is_idle {
            self.put(number, idle_at);
        }
        is_idle
    }

    /// How long ago the activity at tick `active_at` was, to the tick. It is none if there was none.
    pub(super) fn silence(&self, active_at: u32, now: Instant) -> Option<Duration> {
        (active_at > 0).then(|| now.saturating_duration_since(self.began + self.tick * (active_at - 1)))
    }

    /// Forgotten sockets stay here until they are due. They must not add up. `n_known` is the number of the sockets that
    /// are not forgotten.
    pub(super) fn drop_forgotten(&mut self, n_known: usize, is_known: impl Fn(u64) -> bool) {
        if self.n_sockets > 2 * n_known + IDLING_SLACK {
            self.due.retain(|_, numbers| {
                numbers.retain(|number| is_known(*number));
                !numbers.is_empty()
            });
            self.n_sockets = self.due.values().map(Vec::len).sum();
        }
    }

    /// Number of sockets here, with those that are forgotten.
    #[cfg(test)]
    pub(super) fn n_sockets(&self) -> usize {
        self.n_sockets
    }

    /// How often a socket is here.
    #[cfg(test)]
    pub(super) fn count(&self, number: u64) -> usize {
        self.due.values().flatten().filter(|other| **other == number).count()
    }

    fn put(&mut self, number: u64, due: u32) {
        self.due.entry(due).or_default().push(number);
        self.n_sockets += 1;
    }

    fn tick_of(&self, now: Instant) -> u32 {
        n_ticks(now.saturating_duration_since(self.began).as_nanos() / self.tick.as_nanos())
    }
}

fn n_ticks(count: u128) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
