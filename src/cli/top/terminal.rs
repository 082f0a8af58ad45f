//! The terminal while the whole screen is ours. It is given back however the command ends.

use std::io::{Write, stdout};
use std::panic;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::Print;
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate,
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use rustix::process::{Signal, getpid, kill_process};

use crate::cli::own_status::OwnStatus;

/// The whole screen. Dropping it gives the terminal back.
pub(super) struct Terminal(());

impl Terminal {
    /// Takes the screen. Lines do not wrap on it: a wide character at the end of a line would push all others down.
    ///
    /// # Errors
    /// This is no terminal that can do it.
    pub(super) fn take() -> std::io::Result<Self> {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            hook(info);
        }));
        let terminal = Self(());
        begin()?;
        Ok(terminal)
    }

    /// Columns and rows. A terminal that does not say it has 80 and 24.
    pub(super) fn size(&self) -> (usize, usize) {
        let (columns, rows) = size().unwrap_or_default();
        let or = |n: u16, usual: usize| if n == 0 { usual } else { usize::from(n) };
        (or(columns, 80), or(rows, 24))
    }

    /// Puts these lines on the screen.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn show(&self, lines: impl IntoIterator<Item = String>) -> std::io::Result<()> {
        draw(&mut stdout().lock(), lines)
    }

    /// Stops the process, as Ctrl-Z does, with the terminal given back meanwhile. Returns when the process goes on. It does not stop
    /// if no shell is there to let it go on.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn stop(&self) -> std::io::Result<()> {
        if OwnStatus::read().leads_its_session() {
            return Ok(());
        }
        give_back();
        // SIGTSTP is ours, and stops nothing.
        kill_process(getpid(), Signal::STOP)?;
        begin()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn begin() -> std::io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, Hide, DisableLineWrap)
}

/// Each line of the screen is erased before it is written: behind a line as wide as the screen, the cursor stands on its last
/// character.
fn draw(out: &mut impl Write, lines: impl IntoIterator<Item = String>) -> std::io::Result<()> {
    queue!(out, BeginSynchronizedUpdate)?;
    for (row, line) in (0..u16::MAX).zip(lines) {
        queue!(out, MoveTo(0, row), Clear(ClearType::CurrentLine), Print(line))?;
    }
    queue!(out, EndSynchronizedUpdate)?;
    out.flush()
}

fn give_back() {
    // A terminal that is gone needs nothing.
    let _ = execute!(stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_erased_behind_a_line() {
        let mut out = Vec::new();
        draw(&mut out, ["as wide as the screen".to_owned()]).unwrap();
        let out = String::from_utf8(out).unwrap();
        let behind = out.split_once("as wide as the screen").unwrap().1;
        assert_eq!(behind, "\u{1b}[?2026l");
    }
}
