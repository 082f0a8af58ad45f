//! What a user chose to be, and what others see of it.

use std::fmt;
use std::sync::Arc;

use super::Timestamp;

/// What a user chose to be, or what others see of a user.
///
/// The two may differ: a user who chose [`Status::Online`] is [`Status::Away`] to others while all sockets of the user
/// are idle. Nobody sees [`Status::Invisible`] of another: such a user is offline to them (docs/design.md, decision 13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Status {
    /// There. This is what a user is who never chose.
    #[default]
    Online,
    /// Not at the device.
    Away,
    /// There, and occupied.
    Busy,
    /// There, and not to be disturbed.
    Dnd,
    /// Not there, as far as others know.
    Invisible,
}

impl Status {
    /// Every status, for metrics and documentation.
    pub const ALL: [Self; 5] = [Self::Online, Self::Away, Self::Busy, Self::Dnd, Self::Invisible];

    /// The statuses that somebody can see of another.
    pub const VISIBLE: [Self; 4] = [Self::Online, Self::Away, Self::Busy, Self::Dnd];

    /// The name of the status on the wire and in Redis.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Dnd => "dnd",
            Self::Invisible => "invisible",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// The words that a user puts beside a status: 1 to [`StatusText::MAX_CHARS`] characters without control characters.
#[derive(Clone, PartialEq, Eq)]
pub struct StatusText(Arc<str>);

impl StatusText {
    /// Longest text in characters (Unicode scalar values). Every listener gets it, so it is kept short.
    pub const MAX_CHARS: usize = 128;

    /// Parses a text. An empty text is none.
    ///
    /// # Errors
    /// [`StatusTextError`] if the text is too long or has a control character.
    pub fn parse(text: &str) -> Result<Option<Self>, StatusTextError> {
        if text.chars().any(char::is_control) {
            return Err(StatusTextError::ControlCharacter);
        }
        if text.chars().nth(Self::MAX_CHARS).is_some() {
            return Err(StatusTextError::TooLong);
        }
        Ok((!text.is_empty()).then(|| Self(text.into())))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StatusText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatusText({:?})", &*self.0)
    }
}

/// Why a text cannot stand beside a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatusTextError {
    /// Over [`StatusText::MAX_CHARS`].
    #[error("must be at most {} characters", StatusText::MAX_CHARS)]
    TooLong,
    /// A line break, a NUL or the like.
    #[error("must not contain control characters")]
    ControlCharacter,
}

/// A status as it was chosen: by the user, or by the application's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenStatus {
    /// What was chosen.
    pub status: Status,
    /// The words beside it.
    pub text: Option<StatusText>,
    /// When the choice ends, by the store's clock. After that the user is as one who chose [`Status::Online`].
    pub expires_at: Option<Timestamp>,
    /// When it was chosen, by the store's clock. Of two choices the later one holds.
    pub at: Timestamp,
}

impl ChosenStatus {
    /// Whether the choice has ended at `now`.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether both say the same, whenever they said it.
    pub fn says_the_same(&self, other: &Self) -> bool {
        (self.status, &self.text, self.expires_at) == (other.status, &other.text, other.expires_at)
    }

    /// What the choice becomes when it has ended: [`Status::Online`]. It keeps its date. So an older choice does not come
    /// back. The user may have made a newer choice before the end. That choice holds, even if the store hears of it late.
    #[must_use]
    pub fn expired(&self) -> Self {
        Self { status: Status::Online, text: None, expires_at: None, at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_short_and_printable() {
        let parsed = |text: &str| StatusText::parse(text).map(|text| text.map(|text| text.as_str().to_owned()));
        assert_eq!(parsed(""), Ok(None));
        assert_eq!(parsed("in a \"meeting\" 🎧"), Ok(Some("in a \"meeting\" 🎧".to_owned())));
        assert_eq!(parsed("a\nb"), Err(StatusTextError::ControlCharacter));
        assert!(parsed(&"\u{301}".repeat(128)).is_ok());
        assert_eq!(parsed(&"\u{301}".repeat(129)), Err(StatusTextError::TooLong));
    }

    #[test]
    fn an_expired_choice_is_online_and_keeps_its_date() {
        let choice = ChosenStatus {
            status: Status::Dnd,
            text: StatusText::parse("x").unwrap(),
            expires_at: Some(Timestamp(20)),
            at: Timestamp(10),
        };
        assert!(!choice.has_expired(Timestamp(19)) && choice.has_expired(Timestamp(20)));
        let expired = choice.expired();
        assert_eq!((expired.status, expired.at, expired.expires_at), (Status::Online, Timestamp(10), None));
    }

    #[test]
    fn names_are_read_back() {
        for status in Status::ALL {
            assert_eq!(Status::from_name(status.as_str()), Some(status));
        }
        assert_eq!(Status::from_name("Online"), None);
    }
}
