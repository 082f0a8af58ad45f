//! From a token to an identity. Everything here is pure: the time is an argument.

use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, decode, decode_header};
use serde_json::Value;

use super::claims::ClaimNames;
use super::keys::KeySet;
use super::{Fault, Identity};
use crate::domain::{ProfileLimits, Timestamp};
use crate::settings::AuthSettings;

/// How tokens are read.
pub(super) struct Tokens {
    claims: ClaimNames,
    leeway: Duration,
}

/// A token whose head has been read, and nothing else. So nothing of it is believed.
pub(super) struct Unverified<'a> {
    text: &'a str,
    header: Header,
}

impl<'a> Unverified<'a> {
    /// Reads the head of a token. Keys and addresses of keys that stand there (`jwk`, `jku`, `x5c`, `x5u`) are not used.
    ///
    /// # Errors
    /// [`Fault::Malformed`] or [`Fault::Critical`].
    pub(super) fn read(text: &'a str) -> Result<Self, Fault> {
        let header = decode_header(text).map_err(|_| Fault::Malformed)?;
        // Who does not understand what is critical must refuse the token. Source: RFC 7515 §4.1.11
        if header.crit.is_some() { Err(Fault::Critical) } else { Ok(Self { text, header }) }
    }

    /// The key that the token names.
    pub(super) fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }
}

impl Tokens {
    /// Tokens as the settings describe them. What one states of a profile is within `profile_limits`.
    pub(super) fn new(settings: &AuthSettings, profile_limits: ProfileLimits) -> Self {
        Self { claims: ClaimNames::new(settings, profile_limits), leeway: settings.leeway }
    }

    /// Who a token says that the client is.
    ///
    /// # Errors
    /// [`Fault::Expired`] only if nothing else is wrong.
    pub(super) fn verify(&self, token: &Unverified<'_>, keys: &KeySet, now: Timestamp) -> Result<Identity, Fault> {
        let claims = checked_claims(token, keys)?;
        let ends_at = time(&claims, "exp")?.ok_or(Fault::Claim)?;
        let begins_at = time(&claims, "nbf")?;
        let identity = self.claims.identity(&claims, ends_at)?;
        if begins_at.is_some_and(|begins_at| now.after(self.leeway) < begins_at) {
            return Err(Fault::NotYet);
        }
        // The token ends at this time, and not after it. Source: RFC 7519 §4.1.4
        if now >= ends_at.after(self.leeway) { Err(Fault::Expired) } else { Ok(identity) }
    }

    /// How long an identity still holds: until the end of its token, and as much longer as clocks may differ. It is none if it
    /// does not end.
    pub(super) fn time_left(&self, identity: &Identity, now: Timestamp) -> Option<Duration> {
        Some(now.until(identity.ends_at()?.after(self.leeway)))
    }
}

/// The claims of a token that one of the keys has signed, and that is of the right issuer and for this service.
fn checked_claims(token: &Unverified<'_>, keys: &KeySet) -> Result<Value, Fault> {
    let candidates = keys.candidates(token.kid());
    let mut fault = if candidates.is_empty() { Fault::UnknownKey } else { Fault::Algorithm };
    for key in candidates.iter().filter(|key| key.validation.algorithms.contains(&token.header.alg)) {
        match decode::<Value>(token.text, &key.decoding, &key.validation) {
            // The library lets an audience pass that is neither a text nor a list.
            Ok(token) if key.validation.aud.is_none() && !token.claims["aud"].is_null() => return Err(Fault::Audience),
            // It takes a list of issuers for one, even an empty one.
            Ok(token) if key.validation.iss.is_some() && !token.claims["iss"].is_string() => return Err(Fault::Issuer),
            Ok(token) => return Ok(token.claims),
            Err(error) => fault = fault_of(error.kind()),
        }
        if fault != Fault::Signature {
            break;
        }
    }
    Err(fault)
}

fn fault_of(error: &ErrorKind) -> Fault {
    match error {
        ErrorKind::InvalidSignature => Fault::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => Fault::Algorithm,
        ErrorKind::InvalidIssuer => Fault::Issuer,
        ErrorKind::InvalidAudience => Fault::Audience,
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "iss" => Fault::Issuer,
            "aud" => Fault::Audience,
            _ => Fault::Claim,
        },
        ErrorKind::Json(_) => Fault::Claim,
        _ => Fault::Malformed,
    }
}

/// A claim with a time: seconds since 1970, perhaps with a fraction. Source: RFC 7519 §2, `NumericDate`
fn time(claims: &Value, name: &str) -> Result<Option<Timestamp>, Fault> {
    let Some(claim) = claims.get(name) else { return Ok(None) };
    let ms = match (claim.as_u64(), claim.as_f64()) {
        (Some(seconds), _) => seconds.saturating_mul(1000),
        (None, Some(seconds)) if seconds >= 0.0 => (seconds * 1000.0) as u64,
        _ => return Err(Fault::Claim),
    };
    Ok(Some(Timestamp(ms)))
}

#[cfg(test)]
mod tests;
