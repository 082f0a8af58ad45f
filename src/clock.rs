//! The wall clock. It is read only here (`clippy.toml` refuses it elsewhere). So a reader of the code knows where each
//! time comes from. What nodes must agree on (leases, revisions) takes its time from the store. Intervals and deadlines
//! use tokio's clock, which cannot be set back. What they share is here too.

use std::time::{Duration, Instant};

use jiff::fmt::temporal::DateTimePrinter;

use crate::domain::Timestamp;

/// The time of this machine, in milliseconds since 1970 UTC. If the clock is set before 1970, this is 0.
#[expect(clippy::disallowed_methods, reason = "this is the place that the ban points to")]
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond().try_into().unwrap_or(0))
}

/// Writes a time as JavaScript's `toISOString` does: `2024-01-01T00:00:00.000Z`. It is UTC, and always has three
/// decimals. So all times have the same length, and sort as text. RFC 3339 ends with the year 9999. Later times are
/// written as the end of that year.
pub fn rfc3339(t: Timestamp) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
    let timestamp = i64::try_from(t.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    PRINTER.timestamp_to_string(&timestamp.unwrap_or(jiff::Timestamp::MAX))
}

/// Writes times as [`rfc3339`] does. Most times in an answer are of the same day, and a day is written once.
#[derive(Default)]
pub(crate) struct TimeWriter {
    day: Option<(u64, String)>,
}

impl TimeWriter {
    /// Appends a time.
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, t: Timestamp) {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        let (day, ms) = (t.0 / DAY_MS, t.0 % DAY_MS);
        let midnight = match &mut self.day {
            Some((known, midnight)) if *known == day => midnight,
            known => &mut known.insert((day, rfc3339(Timestamp(day * DAY_MS)))).1,
        };
        let begin = out.len();
        out.extend_from_slice(midnight.as_bytes());
        let mut put = |place: usize, n_digits: usize, mut number: u64| {
            for digit in out[begin + place..][..n_digits].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        };
        // 2024-01-01T00:00:00.000Z
        put(11, 2, ms / 3_600_000);
        put(14, 2, ms / 60_000 % 60);
        put(17, 2, ms / 1000 % 60);
        put(20, 3, ms % 1000);
    }
}

/// Reads a time as RFC 3339 writes it, with any offset. It is none for another text, and for a time before 1970.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp(timestamp.as_millisecond().try_into().ok()?))
}

/// Sleeps until `instant`. If there is none, it sleeps for ever.
///
/// # Cancel safety
/// Nothing is consumed.
pub(crate) async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

/// If a timer is late by more than this, the process was stopped or starved. What came from others meanwhile has not been
/// read.
pub(crate) const STALL: Duration = Duration::from_secs(1);

/// Whether the process stood still when the time `due` came. Then nobody else has let it pass.
pub(crate) fn stood_still(due: Instant) -> bool {
    due.elapsed() > STALL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_three_decimals_always() {
        assert_eq!(rfc3339(Timestamp(1_704_067_200_000)), "2024-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Timestamp(1_704_067_200_120)), "2024-01-01T00:00:00.120Z");
        assert_eq!(rfc3339(Timestamp(1_709_251_199_999)), "2024-02-29T23:59:59.999Z");
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_time_beyond_the_calendar_is_written_as_its_end() {
        assert!(rfc3339(Timestamp(u64::MAX)).starts_with("9999-12-30T"));
        assert_eq!(rfc3339(Timestamp(u64::MAX)).len(), "2024-01-01T00:00:00.000Z".len());
    }

    #[test]
    fn a_writer_of_times_writes_the_same() {
        let mut writer = TimeWriter::default();
        for ms in [0, 1, 1_704_067_200_120, 1_704_153_599_999, 1_704_067_200_000, 1_709_251_199_999] {
            let mut written = Vec::new();
            writer.push(&mut written, Timestamp(ms));
            assert_eq!(String::from_utf8(written).unwrap(), rfc3339(Timestamp(ms)));
        }
        let mut written = Vec::new();
        writer.push(&mut written, Timestamp(u64::MAX));
        assert_eq!(written.len(), rfc3339(Timestamp(0)).len(), "beyond the calendar");
    }

    #[test]
    fn times_are_read_back() {
        assert_eq!(parse_rfc3339("2024-01-01T01:00:00.120+01:00"), Some(Timestamp(1_704_067_200_120)));
        assert_eq!((parse_rfc3339("2024-01-01"), parse_rfc3339("1969-12-31T23:59:59Z")), (None, None));
    }

    #[test]
    fn now_is_after_this_was_written_and_does_not_run_away() {
        let (first, second) = (now(), now());
        assert!(first.0 > 1_735_689_600_000, "2025 is over: {first:?}");
        assert!(second.0 < first.0 + 60_000, "{first:?} then {second:?}");
    }
}
