//! Waiting for a condition, and for nothing else.
//!
//! ```ignore
//! eventually(async || redis.keys("online:*").await.is_empty(), "no key is left").await;
//! eventually_eq(async || node.online_ids().await, ["42"], "the node lists 42").await;
//! ```
//!
//! That something does *not* happen cannot be waited for: see [`super::WsClient::fence`].

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::DEADLINE;

/// Between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until the condition holds; panics with `what` after [`DEADLINE`].
pub(crate) async fn eventually(condition: impl AsyncFnMut() -> bool, what: &str) {
    eventually_within(DEADLINE, condition, what).await;
}

/// [`eventually`] with another deadline, for what is promised late, such as a sweep after a lease.
pub(crate) async fn eventually_within(deadline: Duration, condition: impl AsyncFnMut() -> bool, what: &str) {
    eventually_eq_within(deadline, condition, true, what).await;
}

/// Waits until a value equals the expected one; panics with `what` and the last value after [`DEADLINE`].
pub(crate) async fn eventually_eq<T, E>(value: impl AsyncFnMut() -> T, expected: E, what: &str)
where
    T: PartialEq<E> + Debug,
    E: Debug,
{
    eventually_eq_within(DEADLINE, value, expected, what).await;
}

/// [`eventually_eq`] with another deadline.
pub(crate) async fn eventually_eq_within<T, E>(
    deadline: Duration,
    mut value: impl AsyncFnMut() -> T,
    expected: E,
    what: &str,
) where
    T: PartialEq<E> + Debug,
    E: Debug,
{
    let started = Instant::now();
    loop {
        let last = value().await;
        if last == expected {
            return;
        }
        if started.elapsed() >= deadline {
            panic!("not within {deadline:?}: {what}\n expected: {expected:?}\n     last: {last:?}");
        }
        sleep(INTERVAL).await;
    }
}

#[tokio::test]
async fn what_becomes_true_is_waited_for() {
    let mut looks = 0;
    eventually(
        async || {
            looks += 1;
            looks == 3
        },
        "the third look",
    )
    .await;
}

#[tokio::test]
#[should_panic(expected = "not within 20ms: never\n expected: true\n     last: false")]
async fn a_condition_that_never_holds_fails_with_its_name() {
    crate::support::eventually_within(Duration::from_millis(20), async || false, "never").await;
}

#[tokio::test]
#[should_panic(expected = "not within 20ms: three\n expected: 3\n     last: 2")]
async fn what_never_comes_true_fails_with_the_last_value() {
    crate::support::eventually_eq_within(Duration::from_millis(20), async || 2, 3, "three").await;
}
