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
        enable_raw_mode()?;
        let terminal = Self(());
        execute!(stdout(), EnterAlternateScreen, Hide, DisableLineWrap)?;
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
        let mut out = stdout().lock();
        queue!(out, BeginSynchronizedUpdate)?;
        for (row, line) in (0..u16::MAX).zip(lines) {
            queue!(out, MoveTo(0, row), Print(line), Clear(ClearType::UntilNewLine))?;
        }
        queue!(out, EndSynchronizedUpdate)?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // A terminal that is gone needs nothing.
    let _ = execute!(stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}
