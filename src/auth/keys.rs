//! The keys that tokens are checked with, and what each key permits.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use aws_lc_rs::signature::RsaParameters;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Validation};
use serde_json::Value;

use crate::settings::AuthSettings;

/// What the settings ask of every token.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// The algorithms that are accepted. None named means all that fit the key.
    algorithms: Vec<Algorithm>,
    issuer: Option<String>,
    audience: Vec<String>,
}

/// A key, with what a token must be that it has signed.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) decoding: DecodingKey,
    /// It is made of the key and of the settings. A token has no say in it.
    pub(super) validation: Validation,
}

/// The keys of the issuer.
pub(super) enum KeySet {
    /// The one key that the settings have. It is meant, whatever key a token names.
    Configured(Box<Key>),
    /// What the issuer shows.
    Published {
        /// The keys with a name. Keys for different algorithms may share one.
        named: HashMap<String, Vec<Key>>,
        /// The keys for tokens that name none.
        unnamed: Vec<Key>,
    },
}

/// Most keys of an issuer. A token without a key's name may be checked with each of them.
const KEYS_MAX: usize = 64;

const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// Bytes of a point on P-256 and on P-384, uncompressed. Source: SEC 1 §2.3.3
const P256_POINT: usize = 65;
const P384_POINT: usize = 97;
/// Bytes of a key of Ed25519. Source: RFC 8032 §5.1.5
const ED25519_KEY: usize = 32;
/// Bits of a key of RSA. The library checks no signature of a shorter key (RFC 7518 §3.3), or of a longer one.
const RSA_BITS: RangeInclusive<u32> = 2048..=8192;

impl Rules {
    /// The rules of these settings, whose algorithms have been validated.
    pub(super) fn new(settings: &AuthSettings) -> Self {
        Self {
            algorithms: settings.algorithms.iter().filter_map(|name| Algorithm::from_str(name).ok()).collect(),
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
        }
    }

    /// A key with the algorithms that fit it. It is none if `auth.algorithms` leaves out all of them.
    fn key(&self, decoding: DecodingKey, fitting: &[Algorithm]) -> Option<Key> {
        let is_accepted = |algorithm: &Algorithm| self.algorithms.is_empty() || self.algorithms.contains(algorithm);
        let algorithms: Vec<_> = fitting.iter().copied().filter(is_accepted).collect();
        let mut validation = Validation::new(*algorithms.first()?);
        validation.algorithms = algorithms;
        // `tokens.rs` looks at the times, in milliseconds, and after all else.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        let mut required = vec!["exp"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if !self.audience.is_empty() {
            validation.set_audience(&self.audience);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Some(Key { decoding, validation })
    }

    /// A public key of an issuer. It is none if it does not sign tokens, or in no way that is accepted here. A secret is never
    /// accepted: what everybody can fetch is none.
    fn key_of(&self, jwk: &Jwk) -> Option<Key> {
        let common = &jwk.common;
        let is_for_signatures = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
        let verifies =
            common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !is_for_signatures || !verifies {
            return None;
        }
        let fitting: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &RSA,
            AlgorithmParameters::EllipticCurve(key) => of_curve(&key.curve),
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            _ => &[],
        };
        let is_named =
            |algorithm: &Algorithm| common.key_algorithm.is_none_or(|own| own == KeyAlgorithm::from(*algorithm));
        let fitting: Vec<_> = fitting.iter().copied().filter(is_named).collect();
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        if !has_right_length(&decoding, &fitting) {
            return None;
        }
        self.key(decoding, &fitting)
    }
}

impl KeySet {
    /// The secret of the settings.
    pub(super) fn from_secret(secret: &str, rules: &Rules) -> Option<Self> {
        let key = rules.key(DecodingKey::from_secret(secret.as_bytes()), &HMAC)?;
        Some(Self::Configured(Box::new(key)))
    }

    /// The public key of the settings, as PEM.
    ///
    /// # Errors
    /// The rest of a sentence that begins with the name of the setting. It never quotes the text: a private key may be there by
    /// mistake.
    pub(super) fn from_pem(pem: &str, rules: &Rules) -> Result<Self, &'static str> {
        if pem.contains("PRIVATE KEY") {
            return Err("is a private key: it must be the public one");
        }
        let bytes = pem.as_bytes();
        if !pem.contains("PUBLIC KEY") {
            return Err("must be a public key as PEM (-----BEGIN PUBLIC KEY-----)");
        }
        // A key of another kind is refused by each of them.
        let (decoding, fitting): (_, &[Algorithm]) = if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
            let point = key.try_get_as_bytes().map_or(0, <[u8]>::len);
            let fitting: &[Algorithm] = match point {
                P256_POINT => &[Algorithm::ES256],
                P384_POINT => &[Algorithm::ES384],
                _ => return Err("must be on the curve P-256 or P-384"),
            };
            (key, fitting)
        } else if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
            (key, &[Algorithm::EdDSA])
        } else if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
            if !has_right_length(&key, &RSA) {
                return Err("must have 2048 to 8192 bits if it is a key of RSA");
            }
            (key, &RSA)
        } else {
            return Err("must be a key of RSA, P-256, P-384 or Ed25519, as PEM");
        };
        let key = rules.key(decoding, fitting).ok_or("does not go with auth.algorithms")?;
        Ok(Self::Configured(Box::new(key)))
    }

    /// The keys that an issuer shows (RFC 7517). A key that cannot be used here is left out.
    ///
    /// # Errors
    /// What is wrong with the set as a whole.
    pub(super) fn from_jwks(text: &[u8], rules: &Rules) -> Result<Self, &'static str> {
        let set: Value = serde_json::from_slice(text).map_err(|_| "is not JSON")?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("has no keys")?;
        if keys.len() > KEYS_MAX {
            return Err("has too many keys");
        }
        let (mut named, mut unnamed) = (HashMap::<String, Vec<Key>>::new(), Vec::new());
        for jwk in keys.iter().filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok()) {
            let Some(key) = rules.key_of(&jwk) else { continue };
            match jwk.common.key_id {
                Some(kid) => named.entry(kid).or_default().push(key),
                None => unnamed.push(key),
            }
        }
        // If there is one key, a token need not name it.
        if unnamed.is_empty() && named.values().map(Vec::len).sum::<usize>() == 1 {
            unnamed.extend(named.values().flatten().cloned());
        }
        if named.is_empty() && unnamed.is_empty() {
            return Err("has no key that can be used here");
        }
        Ok(Self::Published { named, unnamed })
    }

    /// The keys that may have signed a token that names this key, or none.
    pub(super) fn candidates(&self, kid: Option<&str>) -> &[Key] {
        match (self, kid) {
            (Self::Configured(key), _) => std::slice::from_ref(key),
            (Self::Published { named, .. }, Some(kid)) => named.get(kid).map_or(&[], Vec::as_slice),
            (Self::Published { unnamed, .. }, None) => unnamed,
        }
    }
}

fn of_curve(curve: &EllipticCurve) -> &'static [Algorithm] {
    match curve {
        EllipticCurve::P256 => &[Algorithm::ES256],
        EllipticCurve::P384 => &[Algorithm::ES384],
        _ => &[],
    }
}

/// Whether a key is as long as its curve says, or, with RSA, as long as the library wants it.
fn has_right_length(key: &DecodingKey, fitting: &[Algorithm]) -> bool {
    let length = key.try_get_as_bytes().map_or(0, <[u8]>::len);
    fitting.iter().all(|algorithm| match algorithm {
        Algorithm::ES256 => length == P256_POINT,
        Algorithm::ES384 => length == P384_POINT,
        Algorithm::EdDSA => length == ED25519_KEY,
        _ => rsa_bits(key).is_some_and(|bits| RSA_BITS.contains(&bits)),
    })
}

/// Bits of the modulus of an RSA key. It is none if the key cannot be read.
fn rsa_bits(key: &DecodingKey) -> Option<u32> {
    match key.kind() {
        DecodingKeyKind::SecretOrDer(der) => RsaParameters::public_modulus_len(der).ok(),
        // A zero before the number is no valid form, and the library refuses it. Source: RFC 7518 §6.3.1.1
        DecodingKeyKind::RsaModulusExponent { n, .. } => {
            let first = n.first().filter(|first| **first != 0)?;
            Some(u32::try_from(n.len()).ok()?.checked_mul(8)? - first.leading_zeros())
        }
    }
}
