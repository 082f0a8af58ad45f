//! The times at which a session acts without a message from its client.

use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::clock::stood_still;
use crate::settings::WebsocketSettings;

/// A time that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// Ping the client.
    Ping,
    /// Nothing was heard for too long.
    Silent,
    /// The client has not joined in time.
    NotJoined,
    /// The client's token has ended.
    Expired,
}

/// The clocks of a session: the next ping, the silence, and its deadlines.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    settings: Rc<WebsocketSettings>,
    next_ping: Instant,
    last_heard: Instant,
    /// Most sockets have none for most of their life. So they cost 8 bytes.
    deadlines: Option<Box<Deadlines>>,
    /// It is set to the first of all times, or to an earlier time. A message from the client makes a time later.
    /// The timer is not set anew for that.
    timer: Pin<Box<Sleep>>,
}

/// When the client must have done something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Deadlines {
    /// The time by which it must have joined. It is none once the client has joined.
    join_by: Option<Instant>,
    /// The time at which its token ends. It is none if there is no token.
    expires_at: Option<Instant>,
}

impl Heartbeat {
    /// Starts the clocks.
    pub(crate) fn new(settings: Rc<WebsocketSettings>) -> Self {
        let now = Instant::now();
        let first = settings.ping_interval.min(settings.join_timeout);
        Self {
            next_ping: now + settings.ping_interval,
            last_heard: now,
            deadlines: Some(Box::new(Deadlines { join_by: Some(now + settings.join_timeout), expires_at: None })),
            timer: Box::pin(tokio::time::sleep_until((now + first).into())),
            settings,
        }
    }

    /// The client sent something. Returns the time of it.
    pub(crate) fn heard(&mut self) -> Instant {
        self.last_heard = Instant::now();
        self.last_heard
    }

    /// The client has joined.
    pub(crate) fn joined(&mut self) {
        self.change(|deadlines| deadlines.join_by = None);
    }

    /// The client's token ends at this time, or it has none.
    pub(crate) fn set_expiry(&mut self, expires_at: Option<Instant>) {
        self.change(|deadlines| deadlines.expires_at = expires_at);
        self.set_timer();
    }

    /// A client that has not joined yet has this much time from now on, instead of that of its settings.
    pub(crate) fn join_within(&mut self, timeout: Duration) {
        let join_by = Instant::now() + timeout;
        self.change(|deadlines| deadlines.join_by = deadlines.join_by.map(|_| join_by));
        self.set_timer();
    }

    /// Whether the client's token has ended.
    pub(crate) fn has_expired(&self) -> bool {
        self.deadlines().expires_at.is_some_and(|time| time <= Instant::now())
    }

    /// The client may join from now on, as a new one may. It has left, or it could not join before.
    pub(crate) fn await_join(&mut self) {
        let join_by = Some(Instant::now() + self.settings.join_timeout);
        self.change(|deadlines| deadlines.join_by = join_by);
        self.set_timer();
    }

    /// Waits until the next of the times has come.
    ///
    /// # Cancel safety
    /// A time that has come is not lost. The next call returns it.
    pub(crate) async fn alarm(&mut self) -> Alarm {
        let next = loop {
            self.timer.as_mut().await;
            let next = self.next();
            if next <= Instant::now() {
                break next;
            }
            self.set_timer();
        };
        let now = Instant::now();
        let is_over = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        // A process that stood still must not make a token last longer.
        if self.has_expired() {
            return Alarm::Expired;
        }
        // What the client said meanwhile has not been read. So it does not count as silent. It gets a ping, and all times begin
        // anew.
        if stood_still(next) {
            self.heard();
            let join_by = now + self.settings.join_timeout;
            self.change(|deadlines| deadlines.join_by = deadlines.join_by.map(|_| join_by));
            self.next_ping = now + self.settings.ping_interval;
            return Alarm::Ping;
        }
        if is_over(self.deadlines().join_by) {
            Alarm::NotJoined
        } else if self.silent_at() <= now {
            Alarm::Silent
        } else {
            self.next_ping = now + self.settings.ping_interval;
            Alarm::Ping
        }
    }

    fn set_timer(&mut self) {
        let next = self.next();
        self.timer.as_mut().reset(next.into());
    }

    /// The first of the times.
    fn next(&self) -> Instant {
        let Deadlines { join_by, expires_at } = self.deadlines();
        let times = [Some(self.silent_at()), join_by, expires_at];
        times.into_iter().flatten().fold(self.next_ping, Instant::min)
    }

    fn deadlines(&self) -> Deadlines {
        self.deadlines.as_deref().copied().unwrap_or_default()
    }

    fn change(&mut self, change: impl FnOnce(&mut Deadlines)) {
        let mut deadlines = self.deadlines();
        change(&mut deadlines);
        if deadlines == Deadlines::default() {
            self.deadlines = None;
        } else {
            **self.deadlines.get_or_insert_default() = deadlines;
        }
    }

    fn silent_at(&self) -> Instant {
        self.last_heard + self.settings.silence_timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::STALL;

    fn settings(ping_ms: u64, silence_ms: u64, join_ms: u64) -> Rc<WebsocketSettings> {
        let mut settings = crate::settings::Settings::default().websocket;
        settings.ping_interval = Duration::from_millis(ping_ms);
        settings.silence_timeout = Duration::from_millis(silence_ms);
        settings.join_timeout = Duration::from_millis(join_ms);
        Rc::new(settings)
    }

    #[tokio::test]
    async fn pings_go_on_until_the_silence_is_too_long() {
        let mut heartbeat = Heartbeat::new(settings(10, 35, 10_000));
        heartbeat.joined();
        let mut alarms = Vec::new();
        while alarms.last() != Some(&Alarm::Silent) {
            alarms.push(heartbeat.alarm().await);
        }
        assert!(alarms.len() > 1 && alarms[..alarms.len() - 1].iter().all(|alarm| *alarm == Alarm::Ping), "{alarms:?}");
    }

    #[test]
    fn a_time_that_passed_while_the_process_stood_still_is_not_the_clients() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for settings in [settings(10, 35, 10_000), settings(10_000, 30_000, 10)] {
            let mut heartbeat = runtime.block_on(async { Heartbeat::new(settings) });
            std::thread::sleep(STALL + Duration::from_millis(50));
            assert_eq!(runtime.block_on(heartbeat.alarm()), Alarm::Ping);
            assert_ne!(runtime.block_on(heartbeat.alarm()), Alarm::Silent);
        }
    }

    #[test]
    fn a_token_ends_also_while_the_process_stands_still() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut heartbeat = runtime.block_on(async { Heartbeat::new(settings(10_000, 30_000, 10_000)) });
        heartbeat.joined();
        runtime.block_on(async { heartbeat.set_expiry(Some(Instant::now() + Duration::from_millis(10))) });
        std::thread::sleep(STALL + Duration::from_millis(50));
        assert_eq!(runtime.block_on(heartbeat.alarm()), Alarm::Expired);
    }

    #[tokio::test]
    async fn a_token_that_is_prolonged_does_not_end() {
        let mut heartbeat = Heartbeat::new(settings(20, 30_000, 10_000));
        heartbeat.joined();
        heartbeat.set_expiry(Some(Instant::now() + Duration::from_millis(5)));
        heartbeat.set_expiry(Some(Instant::now() + Duration::from_secs(100)));
        assert_eq!(heartbeat.alarm().await, Alarm::Ping);
        heartbeat.set_expiry(None);
        assert!(heartbeat.deadlines.is_none(), "a socket without deadlines pays for none");
    }

    #[tokio::test]
    async fn who_leaves_has_to_join_again_in_time() {
        let mut heartbeat = Heartbeat::new(settings(10_000, 30_000, 10));
        assert_eq!(heartbeat.alarm().await, Alarm::NotJoined);
        heartbeat.joined();
        heartbeat.await_join();
        assert_eq!(heartbeat.alarm().await, Alarm::NotJoined);
    }
}
