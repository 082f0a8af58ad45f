//! One line of the screen, in pieces of one colour.

use super::super::colour::{Colour, Colours};
use super::super::columns::{cut, width};

/// A line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<(Colour, String)>);

impl Line {
    /// A line without colours.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self::default().and(Colour::Plain, text)
    }

    /// A line in one colour.
    pub(super) fn of(colour: Colour, text: impl Into<String>) -> Self {
        Self::default().and(colour, text)
    }

    /// The line, and this behind it.
    pub(super) fn and(mut self, colour: Colour, text: impl Into<String>) -> Self {
        self.0.push((colour, text.into()));
        self
    }

    /// How many columns the line takes.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| width(text)).sum()
    }

    /// The line, as wide as the screen at most. If something is left out, it ends with `…`.
    pub(super) fn painted(&self, width_max: usize, colours: Colours) -> String {
        let is_cut = self.width() > width_max;
        let mut rest = width_max - usize::from(is_cut && width_max > 0);
        let mut out = String::new();
        for (colour, text) in &self.0 {
            let shown = cut(text, rest);
            // Behind a wide character that has no room, there is none for others.
            rest = if shown.len() < text.len() { 0 } else { rest - width(shown) };
            if !shown.is_empty() {
                out.push_str(&colours.paint(*colour, shown));
            }
        }
        if is_cut && width_max > 0 {
            out.push('…');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_wide_ends_with_a_mark() {
        let painted = |line: &Line, width| line.painted(width, Colours::none());
        let line = Line::plain("日本").and(Colour::Red, "ab");
        assert_eq!(line.width(), 6);
        let expected =
            [(0, ""), (1, "…"), (2, "…"), (3, "日…"), (4, "日…"), (5, "日本…"), (6, "日本ab"), (9, "日本ab")];
        for (width, expected) in expected {
            assert_eq!(painted(&line, width), expected, "{width}");
        }
    }
}
