//! What a node has said in the last minutes: from counters to rates.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The counters that are shown, each with what it is called.
pub(super) const COUNTERS: [(&str, &str); 5] = [
    ("joins", "joins/s"),
    ("leaves", "leaves/s"),
    ("transitions", "changes/s"),
    ("frames", "frames/s"),
    ("requests", "requests/s"),
];

/// How many rates of each counter are kept. No screen is wider.
const KEPT: usize = 500;

/// The rates of the last answers.
#[derive(Default)]
pub(super) struct History {
    last: Option<(Instant, String, [u64; COUNTERS.len()])>,
    rates: [VecDeque<f64>; COUNTERS.len()],
}

impl History {
    /// Takes an answer in. If another node has answered, or the same one anew, the rates begin anew.
    pub(super) fn push(&mut self, data: &Value, at: Instant) {
        let here = &data["here"];
        let node = here["nodeId"].as_str().unwrap_or_default().to_owned();
        let counts = COUNTERS.map(|(name, _)| here["counters"][name].as_u64().unwrap_or_default());
        if let Some((before, _, old)) = self.last.take().filter(|(_, known, _)| *known == node) {
            let seconds = at.saturating_duration_since(before).max(Duration::from_millis(1)).as_secs_f64();
            for ((rates, new), old) in self.rates.iter_mut().zip(counts).zip(old) {
                if rates.len() == KEPT {
                    rates.pop_front();
                }
                rates.push_back(new.saturating_sub(old) as f64 / seconds);
            }
        } else {
            self.rates = Default::default();
        }
        self.last = Some((at, node, counts));
    }

    /// The last rate of a counter. It is none before the second answer.
    pub(super) fn rate(&self, counter: usize) -> Option<f64> {
        self.rates[counter].back().copied()
    }

    /// The last rates of a counter as a row of bars, the newest at the right. The highest of them is a whole bar.
    pub(super) fn bars(&self, counter: usize, width: usize) -> String {
        const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let rates = &self.rates[counter];
        let shown = rates.iter().skip(rates.len().saturating_sub(width));
        let highest = shown.clone().copied().fold(0.0, f64::max);
        // A rate that is not 0 is seen.
        let bar = |rate: &f64| if *rate > 0.0 { ((rate / highest * 8.0).ceil() as usize).clamp(1, 8) } else { 0 };
        shown.map(|rate| BARS[bar(rate)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(node: &str, joins: u64) -> Value {
        json!({"here": {"nodeId": node, "counters": {"joins": joins}}})
    }

    #[test]
    fn a_rate_is_what_a_counter_has_risen_in_the_time_between() {
        let (mut history, begin) = (History::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        history.push(&answer("a", 10), at(0));
        assert_eq!((history.rate(0), history.bars(0, 9)), (None, String::new()));
        history.push(&answer("a", 30), at(2));
        assert_eq!((history.rate(0), history.rate(1)), (Some(10.0), Some(0.0)));
        history.push(&answer("a", 35), at(3));
        history.push(&answer("a", 35), at(4));
        assert_eq!((history.bars(0, 9), history.bars(0, 2)), ("█▄ ".to_owned(), "█ ".to_owned()));
        // After a restart, the counters begin anew.
        history.push(&answer("b", 3), at(5));
        assert_eq!(history.rate(0), None);
    }
}
