//! The table: what was measured, beside what was meant.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// A number with its unit.
#[derive(Clone, Copy)]
pub(crate) struct Measure(pub f64, pub &'static str);

/// What a row is held to.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// The measure is at most this.
    AtMost(f64),
    /// The measure is at least this.
    AtLeast(f64),
    /// The measure is at most this many times what it stands beside.
    RatioAtMost(f64),
    /// It is there to be looked at.
    None,
}

/// One workload's result.
pub(crate) struct Row {
    /// What was done.
    pub workload: String,
    /// What it came to.
    pub measured: Measure,
    /// What it is compared with, measured in the same run: the figure and its name.
    pub beside: Option<(f64, &'static str)>,
    /// What was meant.
    pub target: Target,
    /// What else is to be known: how much was done and checked.
    pub note: String,
}

impl Row {
    /// The measure as a multiple of what it stands beside, else of the target.
    fn ratio(&self) -> Option<f64> {
        match (self.beside, self.target) {
            (Some((beside, _)), _) => Some(self.measured.0 / beside),
            (None, Target::AtMost(target) | Target::AtLeast(target)) => Some(self.measured.0 / target),
            (None, _) => None,
        }
    }

    fn is_met(&self) -> Option<bool> {
        let ratio = self.ratio().unwrap_or(f64::NAN);
        match self.target {
            Target::AtMost(target) => Some(self.measured.0 <= target),
            Target::AtLeast(target) => Some(self.measured.0 >= target),
            Target::RatioAtMost(target) => Some(ratio <= target),
            Target::None => None,
        }
    }

    fn target(&self) -> String {
        let (unit, name) = (self.measured.1, self.beside.map_or("", |(_, name)| name));
        match self.target {
            Target::AtMost(target) => format!("<= {} {unit}", figure(target)),
            Target::AtLeast(target) => format!(">= {} {unit}", figure(target)),
            Target::RatioAtMost(target) => format!("<= {target} x {name}"),
            Target::None => String::new(),
        }
    }

    fn cells(&self) -> [String; 7] {
        let measured = format!("{} {}", figure(self.measured.0), self.measured.1);
        let beside = self.beside.map_or(String::new(), |(value, name)| format!("{name} {}", figure(value)));
        let verdict = match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let ratio = self.ratio().map_or(String::new(), |ratio| format!("{ratio:.2}"));
        [self.workload.clone(), measured, beside, ratio, self.target(), verdict.to_owned(), self.note.clone()]
    }

    fn json(&self) -> Value {
        json!({
            "workload": self.workload,
            "measured": self.measured.0,
            "unit": self.measured.1,
            "beside": self.beside.map(|(value, name)| json!({ "name": name, "measured": value })),
            "ratio": self.ratio(),
            "target": self.target(),
            "met": self.is_met(),
            "note": self.note,
        })
    }
}

/// All rows as a table for people.
pub(crate) fn text(rows: &[Row]) -> String {
    let head = ["workload", "measured", "in the same run", "ratio", "target", "", "checked"].map(str::to_owned);
    let cells: Vec<[String; 7]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let widths: [usize; 7] = std::array::from_fn(|i| cells.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let mut out = String::new();
    for row in &cells {
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a string cannot fail.
            let _ = write!(out, "{cell:width$}  ");
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

/// All rows for programs.
pub(crate) fn json(rows: &[Row], took: Duration) -> Value {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    json!({ "tookSeconds": took.as_secs_f64(), "rows": rows })
}

/// Three figures that mean something.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0..0.1 => format!("{value:.3}"),
        0.1..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Microseconds.
pub(crate) fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The value below which `part` of the sorted `times` lie.
pub(crate) fn quantile(times: &[Duration], part: f64) -> Duration {
    let index = (times.len() as f64 * part) as usize;
    times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
