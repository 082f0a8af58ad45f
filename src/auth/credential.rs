//! What a client shows to say who it is.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::wire::message::Token;

/// A token or an API key, as a client sent it. `Debug` hides it.
#[derive(Clone)]
pub(crate) struct Credential(SecretString);

/// A text that is too long for a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// The longest credential. Nothing of a longer one is decoded. A token with some rooms and a profile has about 1 KiB.
const MAX_BYTES: usize = 8192;

/// What an API key begins with. So a key that was put where it should not be is found, and no token is taken for one.
pub(super) const KEY_PREFIX: &str = "rck_";

impl Credential {
    /// A credential of this text.
    ///
    /// # Errors
    /// [`TooLong`].
    pub(crate) fn new(text: SecretString) -> Result<Self, TooLong> {
        if text.expose_secret().len() > MAX_BYTES { Err(TooLong) } else { Ok(Self(text)) }
    }

    /// Whether it is an API key, and no token.
    pub(crate) fn is_key(&self) -> bool {
        is_key(self.0.expose_secret())
    }

    /// The text. It is for the check alone, never for a log or an error.
    pub(super) fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Whether a text is an API key, and no token.
pub(crate) fn is_key(text: &str) -> bool {
    text.starts_with(KEY_PREFIX)
}

impl TryFrom<Token> for Credential {
    type Error = TooLong;

    fn try_from(token: Token) -> Result<Self, TooLong> {
        Self::new(token.into_secret())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_bounded_and_hidden() {
        let longest = Credential::new("x".repeat(MAX_BYTES).into()).unwrap();
        assert_eq!(longest.expose_secret().len(), MAX_BYTES);
        assert_eq!(Credential::try_from(Token::new(&"x".repeat(MAX_BYTES + 1))).unwrap_err(), TooLong);
        assert_eq!(format!("{longest:?}"), "Credential(hidden)");
    }

    #[test]
    fn an_api_key_is_no_token() {
        assert!(is_key("rck_x"));
        assert!(!is_key("eyJ.rck_.x") && !is_key(""));
    }
}
