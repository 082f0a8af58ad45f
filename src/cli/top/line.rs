//! One line of the screen, in pieces of one colour.

use super::super::colour::{Colour, Colours};

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

    /// How many characters the line has.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// The line, as wide as the screen at most. If something is left out, it ends with `…`.
    pub(super) fn painted(&self, width: usize, colours: Colours) -> String {
        let is_cut = self.len() > width;
        let mut rest = width - usize::from(is_cut && width > 0);
        let mut out = String::new();
        for (colour, text) in &self.0 {
            let shown: String = text.chars().take(rest).collect();
            rest -= shown.chars().count();
            if !shown.is_empty() {
                out.push_str(&colours.paint(*colour, &shown));
            }
        }
        if is_cut && width > 0 {
            out.push('…');
        }
        out
    }
}
