//! What can be wrong with what a client shows.

use std::time::Duration;

/// Why nobody knows who a client is, although it has shown something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unidentified {
    /// It is no token and no API key that this service accepts. What is wrong is for the log alone: whoever forges tokens need
    /// not learn it.
    Invalid(Fault),
    /// The token has ended, and nothing else is wrong with it.
    Expired,
    /// The keys of the issuer cannot be had. After this time another try may help.
    KeysUnavailable(Duration),
}

/// What is wrong with a token or an API key. It has nothing of the text itself, so it may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is longer than any credential.
    TooLong,
    /// It has not the form of a token, or names an algorithm that is none.
    Malformed,
    /// It asks for an extension (`crit`), and none is understood.
    Critical,
    /// It names a key that the issuer does not show.
    UnknownKey,
    /// It is signed in a way that does not go with the key, or that `auth.algorithms` leaves out.
    Algorithm,
    /// The signature is not that of the key.
    Signature,
    /// It is of another issuer than `auth.issuer`.
    Issuer,
    /// It is not for this service (`auth.audience`).
    Audience,
    /// A claim that is needed is missing, or is not what it should be.
    Claim,
    /// Its time has not come yet.
    NotYet,
    /// Its time is over.
    Expired,
    /// It is an API key that `auth.api_keys` does not list.
    UnknownApiKey,
}

impl From<Fault> for Unidentified {
    fn from(fault: Fault) -> Self {
        if fault == Fault::Expired { Self::Expired } else { Self::Invalid(fault) }
    }
}
