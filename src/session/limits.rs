//! How much work one socket, or one address, may give.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::{NoOpMiddleware, StateInformationMiddleware};
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};

use super::close::End;
use crate::settings::LimitSettings;
use crate::wire::message::Request;

/// The rate of costly requests.
pub(crate) struct RequestRate(SocketRate);

/// A rate of what single sockets do. It is the same for every socket of the process. Each session keeps what its socket has
/// used ([`Used`]).
///
/// What is over the limit is not carried out, but it counts. A client that waits as told is served again. A client that does
/// not wait is refused as many times as the burst allows. Then it is closed.
pub(crate) struct SocketRate {
    rate: RateLimiter<Used, InTheUser, DefaultClock, StateInformationMiddleware>,
    burst: u32,
    interval: Duration,
}

/// A rate of what all clients of one address do together. What is over the limit does not count: others of the same
/// address should not have to pay for it.
pub(super) struct AddressRate {
    rate: RateLimiter<Used, InTheUser, DefaultClock>,
    clock: DefaultClock,
}

/// What somebody has used of a rate, as a time in 8 bytes. Nothing else is kept. While nothing is done, nothing is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Used(Cell<u64>);

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is carried out.
    Granted,
    /// It is refused. After this time, one more request is granted.
    Refused(Duration),
}

/// Tells governor to keep what was used in the key itself.
struct InTheUser;

impl RequestRate {
    /// A rate with the limits `limits.requests_per_second` and `limits.request_burst`.
    pub(crate) fn new(limits: &LimitSettings) -> Self {
        Self(SocketRate::new(limits.requests_per_second, limits.request_burst))
    }

    /// Whether a request of a socket is carried out.
    ///
    /// # Errors
    /// [`End::TooManyRequests`] if the client goes on although it was refused many times.
    pub(crate) fn check(&self, used: &Used, request: &Request) -> Result<Verdict, End> {
        if is_costly(request) { self.check_costly(used) } else { Ok(Verdict::Granted) }
    }

    /// Whether a costly request of a socket is carried out.
    ///
    /// # Errors
    /// As [`RequestRate::check`].
    pub(crate) fn check_costly(&self, used: &Used) -> Result<Verdict, End> {
        self.0.check(used)
    }
}

impl SocketRate {
    /// The rate of messages and pings: `limits.messages_per_second` and `limits.message_burst`.
    pub(crate) fn of_messages(limits: &LimitSettings) -> Self {
        Self::new(limits.messages_per_second, limits.message_burst)
    }

    fn new(per_second: u32, burst: u32) -> Self {
        // The first half is granted. The second half is refused.
        let quota = quota(per_second, burst.saturating_mul(2));
        // The limiter has to begin with some middleware of governor. `with_middleware` replaces it below.
        let rate = RateLimiter::<_, _, _, NoOpMiddleware>::new(quota, InTheUser, DefaultClock::default());
        Self { rate: rate.with_middleware(), burst, interval: quota.replenish_interval() }
    }

    /// Whether one more thing is carried out.
    ///
    /// # Errors
    /// [`End::TooManyRequests`] if the client goes on although it was refused many times.
    pub(crate) fn check(&self, used: &Used) -> Result<Verdict, End> {
        let after = self.rate.check_key(used).map_err(|_| End::TooManyRequests)?.remaining_burst_capacity();
        if after >= self.burst {
            return Ok(Verdict::Granted);
        }
        Ok(Verdict::Refused(self.interval * (self.burst + 1 - after)))
    }
}

impl AddressRate {
    /// How many seconds' worth may be used at once.
    pub(super) const BURST_SECONDS: u32 = 10;

    /// A rate of so many a second. It is none if any number is allowed.
    pub(super) fn new(per_second: u32) -> Option<Self> {
        let quota = quota(per_second, per_second.saturating_mul(Self::BURST_SECONDS));
        let clock = DefaultClock::default();
        (per_second > 0).then(|| Self { rate: RateLimiter::new(quota, InTheUser, clock.clone()), clock })
    }

    /// Whether one more thing is carried out.
    ///
    /// # Errors
    /// It is not. After this time, one more is.
    pub(super) fn check(&self, used: &Used) -> Result<(), Duration> {
        self.rate.check_key(used).map_err(|not_yet| not_yet.wait_time_from(self.clock.now()))
    }
}

fn quota(per_second: u32, burst: u32) -> Quota {
    let or_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(or_one(per_second)).allow_burst(or_one(burst))
}

/// Whether a request gives work to every node, or makes this node send much. A check and a heartbeat cost about as much
/// as a ping. A heartbeat must never be refused.
fn is_costly(request: &Request) -> bool {
    match request {
        Request::Authenticate { .. }
        | Request::Join { .. }
        | Request::SetStatus(_)
        | Request::Update(_)
        | Request::Activity { idle: true }
        | Request::Devices
        | Request::Leave
        | Request::List { .. }
        | Request::Subscribe { .. }
        | Request::Watch { .. }
        | Request::Unwatch { .. }
        | Request::WatchCount
        | Request::UnwatchCount
        | Request::Pause
        | Request::Resume
        | Request::JoinRoom { .. }
        | Request::EnterRoom { .. }
        | Request::LeaveRoom { .. }
        | Request::RoomUsers { .. }
        | Request::RoomCount { .. } => true,
        // Typing has a limit of its own (`typing.rs`).
        Request::Activity { idle: false } | Request::Check { .. } | Request::Typing { .. } => false,
    }
}

impl StateStore for InTheUser {
    type Key = Used;

    fn measure_and_replace<T, F, E>(&self, used: &Used, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // 0 is the earliest time: nothing was used.
        let (outcome, until) = measure(Some(Nanos::new(used.0.get())))?;
        used.0.set(until.as_u64());
        Ok(outcome)
    }
}

/// governor wants a hash of every key. This key is never looked up.
impl Hash for Used {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u32, burst: u32) -> RequestRate {
        let mut limits = crate::settings::Settings::default().limits;
        (limits.requests_per_second, limits.request_burst) = (per_second, burst);
        RequestRate::new(&limits)
    }

    #[test]
    fn a_burst_is_granted_then_as_many_are_refused_then_the_socket_ends() {
        // At one request a second, no request becomes free while the test runs.
        let (limit, used) = (limit(1, 3), Used::default());
        let ask = |request: &Request| limit.check(&used, request);
        for _ in 0..3 {
            assert_eq!(ask(&Request::Leave), Ok(Verdict::Granted));
        }
        for n_refused in 1..=3 {
            let Ok(Verdict::Refused(delay)) = ask(&Request::Leave) else { panic!("{n_refused} is not refused") };
            assert_eq!(delay, Duration::from_secs(1 + n_refused));
        }
        assert_eq!(ask(&Request::Leave), Err(End::TooManyRequests));
        assert_eq!(ask(&Request::Activity { idle: false }), Ok(Verdict::Granted), "a heartbeat is never refused");
    }

    #[test]
    fn who_waits_as_told_goes_on() {
        let (limit, used) = (limit(1000, 1), Used::default());
        loop {
            if let Ok(Verdict::Refused(delay)) = limit.check(&used, &Request::Leave) {
                std::thread::sleep(delay);
                assert_eq!(limit.check(&used, &Request::Leave), Ok(Verdict::Granted));
                return;
            }
        }
    }

    #[test]
    fn an_address_is_refused_after_ten_seconds_worth_and_what_was_refused_does_not_count() {
        let (rate, used) = (AddressRate::new(2).unwrap(), Used::default());
        for _ in 0..2 * AddressRate::BURST_SECONDS {
            assert_eq!(rate.check(&used), Ok(()));
        }
        for _ in 0..100 {
            let delay = rate.check(&used).unwrap_err();
            assert!(delay <= Duration::from_millis(500), "{delay:?}");
        }
        assert!(AddressRate::new(0).is_none());
    }

    #[test]
    fn it_costs_a_socket_eight_bytes() {
        assert_eq!(size_of::<Used>(), 8);
    }
}
