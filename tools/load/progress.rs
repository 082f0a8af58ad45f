//! What a person sees of a run while it goes on: on a terminal which workload runs, how far it is and what is to come;
//! without one (CI, a file) a few lines. All of it goes to stderr, for stdout is the table's.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where progress is shown.
pub(crate) enum Progress {
    /// On a terminal.
    Bars(Bars),
    /// As lines.
    Lines,
    /// Nowhere: somebody else tells of it.
    Silent,
}

/// Three parts of a terminal: what runs, how far it is, and what is to come.
pub(crate) struct Bars {
    all: MultiProgress,
    head: ProgressBar,
    to_come: ProgressBar,
}

/// Something that is counted; its bar goes when it is dropped.
pub(crate) struct Step {
    display: Display,
    count: u64,
    done: Cell<u64>,
    pace: Pace,
}

enum Display {
    Bar(ProgressBar),
    Lines(String),
    Nothing,
}

/// What lets something through now and then.
struct Pace {
    interval: Duration,
    last: Cell<Instant>,
}

/// Between two redraws: few a second, for the machine that draws is the one that is measured.
const REDRAW: Duration = Duration::from_millis(250);

/// Between two lines of a step that takes long.
const NEXT_LINE: Duration = Duration::from_secs(10);

impl Progress {
    /// Bars if stderr is a terminal that can move its cursor.
    pub(crate) fn new() -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if std::io::stderr().is_terminal() && !is_dumb { Self::Bars(Bars::new()) } else { Self::Lines }
    }

    /// Begins a part of the run; the names of those `to_come` stand below it.
    pub(crate) fn begin(&self, part: &str, to_come: &[&str]) {
        match self {
            Self::Bars(bars) => {
                let to_come =
                    if to_come.is_empty() { String::new() } else { format!("   then {}", to_come.join(", ")) };
                bars.head.set_message(format!("== {part}"));
                bars.to_come.set_message(to_come);
            }
            Self::Lines => eprintln!("== {part}"),
            Self::Silent => {}
        }
    }

    /// Says something that stays.
    pub(crate) fn say(&self, text: &str) {
        match self {
            // Bars are for looks: that they cannot be drawn is no reason to lose a measurement.
            Self::Bars(bars) => drop(bars.all.println(text.trim_end())),
            Self::Lines => eprintln!("{}", text.trim_end()),
            Self::Silent => {}
        }
    }

    /// Begins a step of `count` (users, events, …); `what` is being done.
    pub(crate) fn step(&self, what: &str, count: usize) -> Step {
        let (display, interval) = match self {
            Self::Bars(bars) => (Display::Bar(bars.step(what, count as u64)), REDRAW),
            Self::Lines => {
                eprintln!("   {what}: {count}");
                (Display::Lines(what.to_owned()), NEXT_LINE)
            }
            Self::Silent => (Display::Nothing, NEXT_LINE),
        };
        Step { display, count: count as u64, done: Cell::new(0), pace: Pace::new(interval) }
    }

    /// Does `work`, which takes `time`, and shows the seconds.
    pub(crate) async fn timed<T>(&self, what: &str, time: Duration, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let seconds = || started.elapsed().as_secs();
        self.counted(&format!("{what}, seconds"), time.as_secs() as usize, seconds, work).await
    }

    /// Does `work` as a step of `count`, and asks `n_done` now and then how far it is.
    pub(crate) async fn counted<T>(
        &self,
        what: &str,
        count: usize,
        n_done: impl Fn() -> u64,
        work: impl Future<Output = T>,
    ) -> T {
        let step = self.step(what, count);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                () = tokio::time::sleep(REDRAW) => step.reach(n_done()),
            }
        }
    }
}

impl Bars {
    fn new() -> Self {
        let target = ProgressDrawTarget::stderr_with_hz((1000 / REDRAW.as_millis()) as u8);
        let all = MultiProgress::with_draw_target(target);
        let line = |template| all.add(ProgressBar::new_spinner().with_style(style(template)));
        let (head, to_come) = (line("{wide_msg} {elapsed}"), line("{wide_msg}"));
        // Shows that the run is alive where nothing is counted.
        head.enable_steady_tick(Duration::from_secs(1));
        Self { all, head, to_come }
    }

    fn step(&self, what: &str, count: u64) -> ProgressBar {
        let bar = ProgressBar::new(count)
            .with_style(style("   {msg:42} [{bar:24}] {pos}/{len}").progress_chars("=> "))
            .with_message(what.to_owned());
        let bar = self.all.insert_after(&self.head, bar);
        bar.tick();
        bar
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // The table follows, or the reason why there is none.
        self.head.finish_and_clear();
        self.to_come.finish_and_clear();
    }
}

impl Step {
    /// So many more are done.
    pub(crate) fn advance(&self, more: usize) {
        self.reach(self.done.get() + more as u64);
    }

    /// So many are done by now. Costs nothing to call often.
    pub(crate) fn reach(&self, done: u64) {
        self.done.set(done);
        let is_time = self.pace.lets_through(Instant::now());
        match &self.display {
            // What is done may be waited for in full sight.
            Display::Bar(bar) if is_time || done == self.count => bar.set_position(done),
            Display::Lines(what) if is_time => eprintln!("   {what}: {done} of {}", self.count),
            _ => {}
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

impl Pace {
    fn new(interval: Duration) -> Self {
        Self { interval, last: Cell::new(Instant::now()) }
    }

    fn lets_through(&self, now: Instant) -> bool {
        let is_time = now.saturating_duration_since(self.last.get()) >= self.interval;
        if is_time {
            self.last.set(now);
        }
        is_time
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is one of this file's")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_calls_are_few_redraws() {
        let pace = Pace::new(REDRAW);
        let begin = pace.last.get();
        let n_let_through = (1..=10_000).filter(|ms| pace.lets_through(begin + Duration::from_millis(*ms))).count();
        assert_eq!(n_let_through, 40);
    }

    #[test]
    fn bars_can_be_made_where_there_is_no_terminal() {
        let progress = Progress::Bars(Bars::new());
        progress.begin("crowd", &["storm"]);
        let step = progress.step("opening sockets", 10);
        step.advance(4);
        step.advance(6);
        assert_eq!(step.done.get(), 10);
    }

    #[tokio::test]
    async fn timed_work_gives_its_result() {
        assert_eq!(Progress::Silent.timed("waiting", Duration::ZERO, async { 7 }).await, 7);
    }
}
