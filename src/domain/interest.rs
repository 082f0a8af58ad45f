//! What a client wants to hear of other users.

/// Whom a client wants to hear of. The cost of an event follows this: it touches only the clients that want to hear of it
/// (docs/design.md, decision 16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interest {
    /// Of everybody.
    #[default]
    Everyone,
    /// Of the users that the client watches, and of nobody else.
    Watched,
    /// Only how many users are online.
    Count,
    /// Of nobody.
    Nobody,
}

impl Interest {
    /// Every interest, in the order in which errors name them.
    pub(crate) const ALL: [Self; 4] = [Self::Everyone, Self::Watched, Self::Count, Self::Nobody];

    /// What a client can want to hear of a room, in the order in which errors name it.
    pub(crate) const OF_ROOMS: [Self; 3] = [Self::Everyone, Self::Count, Self::Nobody];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::Watched => "watch",
            Self::Count => "count",
            Self::Nobody => "none",
        }
    }

    /// The interest of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|interest| interest.as_str() == name)
    }
}
