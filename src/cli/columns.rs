//! How much room a text takes on a terminal. Chinese, Japanese and Korean characters, and emoji, are two columns wide. Accents are none.

use unicode_width::UnicodeWidthChar;

/// How many columns a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

/// The text, with spaces behind it up to this width.
pub(super) fn pad(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

/// The beginning of a text, as wide as this at most.
pub(super) fn cut(text: &str, to: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, c)| {
        taken += width_of(*c);
        taken > to
    });
    end.map_or(text, |(at, _)| &text[..at])
}

fn width_of(c: char) -> usize {
    c.width().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_take_two_columns_and_accents_none() {
        assert_eq!((width("Ada"), width("日本"), width("e\u{301}"), width("")), (3, 4, 1, 0));
        assert_eq!((pad("日本", 6), pad("日本", 3)), ("日本  ".to_owned(), "日本".to_owned()));
        assert_eq!(
            (cut("日本", 3), cut("日本", 4), cut("e\u{301}x", 1), cut("Ada", 0)),
            ("日", "日本", "e\u{301}", "")
        );
    }
}
