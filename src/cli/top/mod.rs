//! `rollcall top`.

mod history;
mod line;
mod screen;
mod terminal;

use std::io::{IsTerminal, stdin, stdout};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use rustix::process::Signal;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use self::history::History;
use self::line::Line;
use self::screen::{Picture, whole};
use self::terminal::Terminal;
use super::answer;
use super::colour::{Colour, Colours, is_dumb};
use super::signals::Signals;
use super::way::Way;

/// The node that is asked.
pub(crate) struct Asked {
    /// Where it is.
    pub(crate) url: String,
    /// How to get there.
    pub(crate) way: Way,
    /// The file with the API key.
    pub(crate) key_file: Option<PathBuf>,
}

/// How often the node is asked, and the screen drawn.
const EVERY: Duration = Duration::from_secs(1);

/// How many keys may wait.
const KEYS_WAITING: usize = 16;

/// A node answers within a second or two. After this time without an answer, the last line says so.
const LATE: Duration = Duration::from_secs(4);

/// How many characters a line has if it is not for a terminal.
const WIDTH_MAX: usize = 4096;

impl Asked {
    fn ask(&self) -> anyhow::Result<Value> {
        let answer = answer::get_json(&self.url, &self.way, "/api/nodes", self.key_file.as_deref())?;
        Ok(answer["data"].clone())
    }
}

/// Shows how the nodes are, every second, until `q`, Ctrl-C or a signal. Prints it once if nobody sees a screen, if the terminal has none, or if `once` asks
/// for that.
///
/// # Errors
/// The node does not answer the first question, or refuses. Or the terminal is gone.
pub(crate) async fn run(asked: Asked, once: bool) -> anyhow::Result<()> {
    let data = asked.ask()?;
    if once || !stdout().is_terminal() || !stdin().is_terminal() || is_dumb() {
        return print(&data);
    }
    let signals = Signals::listen()?;
    let url = asked.url.clone();
    let mut top = Top { url, data, history: History::default(), answered_at: Instant::now(), failure: None };
    top.history.push(&top.data, top.answered_at);
    let terminal = Terminal::take()?;
    top.show_until_end(&terminal, ask_again_and_again(asked), signals).await
}

fn print(data: &Value) -> anyhow::Result<()> {
    let colours = Colours::of_stdout();
    let lines = whole(data).into_iter().map(|line| format!("{}\n", line.painted(WIDTH_MAX, colours).trim_end()));
    Ok(super::print(&lines.collect::<String>())?)
}

struct Top {
    url: String,
    data: Value,
    history: History,
    answered_at: Instant,
    /// Why the last question has no answer.
    failure: Option<String>,
}

impl Top {
    async fn show_until_end(
        &mut self,
        terminal: &Terminal,
        mut answers: mpsc::Receiver<(Instant, anyhow::Result<Value>)>,
        mut signals: Signals,
    ) -> anyhow::Result<()> {
        let mut events = events();
        let mut stops = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.show(terminal)?;
            tokio::select! {
                _ = signals.next() => return Ok(()),
                _ = stops.recv() => terminal.stop()?,
                event = events.recv() => match event {
                    Some(event) if is_end(&event) => return Ok(()),
                    Some(event) if is_ctrl(&event, 'z') => terminal.stop()?,
                    Some(_) => {}
                    // The terminal is gone.
                    None => return Ok(()),
                },
                Some((at, answer)) = answers.recv() => self.take(at, answer),
                _ = ticks.tick() => {}
            }
        }
    }

    fn take(&mut self, at: Instant, answer: anyhow::Result<Value>) {
        match answer {
            Ok(data) => {
                self.history.push(&data, at);
                (self.data, self.answered_at, self.failure) = (data, at, None);
            }
            Err(error) => self.failure = Some(format!("{error:#}")),
        }
    }

    fn show(&self, terminal: &Terminal) -> std::io::Result<()> {
        let (width, height) = terminal.size();
        let footer = footer(&self.url, self.failure.as_deref(), self.answered_at.elapsed());
        let picture = Picture { data: &self.data, history: &self.history, footer };
        let colours = Colours::of_stdout();
        terminal.show(picture.lines(width, height).iter().map(|line| line.painted(width, colours)))
    }
}

/// What the last line says, so long after the last answer.
fn footer(url: &str, failure: Option<&str>, since: Duration) -> Line {
    let seconds = since.as_secs();
    match failure {
        Some(why) => Line::of(Colour::Red, format!("no answer for {seconds} s: {}", super::printout::clean(why))),
        None if since > LATE => Line::of(Colour::Red, format!("no answer for {seconds} s")),
        None => Line::of(Colour::Dim, format!("{url}  every second  q: quit")),
    }
}

/// Whether a key ends it: q, Escape or Ctrl-C.
fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_end = matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc);
    is_ctrl(event, 'c') || (key.kind == KeyEventKind::Press && is_end)
}

/// Whether this letter is typed with the control key.
fn is_ctrl(event: &Event, letter: char) -> bool {
    let Event::Key(key) = event else { return false };
    let is_letter = key.code == KeyCode::Char(letter) && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && is_letter
}

/// What is typed, and when the size of the terminal changes. The thread ends with the process.
fn events() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(KEYS_WAITING);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The answers to a question every second. The thread ends when nobody hears it any more.
fn ask_again_and_again(asked: Asked) -> mpsc::Receiver<(Instant, anyhow::Result<Value>)> {
    let (sender, receiver) = mpsc::channel(1);
    thread::spawn(move || {
        let mut due = Instant::now();
        loop {
            // An answer may take its second, too.
            due = (due + EVERY).max(Instant::now());
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let answer = asked.ask();
            if sender.blocking_send((Instant::now(), answer)).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_waits_for_its_answer_is_seen() {
        let shown = |failure, seconds| {
            let line = footer("http://a", failure, Duration::from_secs(seconds));
            line.painted(80, Colours::none())
        };
        assert_eq!(shown(None, 1), "http://a  every second  q: quit");
        assert_eq!(shown(None, 5), "no answer for 5 s");
        assert_eq!(shown(Some("cannot connect"), 2), "no answer for 2 s: cannot connect");
    }
}
