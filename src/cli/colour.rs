//! Colours, if somebody sees them.

use std::io::IsTerminal;

/// Whether there are colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Colours(bool);

/// A colour, or another way to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

/// Whether the terminal can do nothing but print lines.
pub(super) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

impl Colours {
    /// Colours if stdout is a terminal that has some, and `NO_COLOR` is not set (<https://no-color.org>).
    pub(super) fn of_stdout() -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(std::io::stdout().is_terminal() && !is_dumb() && !is_unwanted)
    }

    /// No colours.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(false)
    }

    /// The text in a colour.
    pub(super) fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Plain => return text.to_owned(),
            Colour::Bold => "1",
            Colour::Dim => "2",
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Yellow => "33",
        };
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
