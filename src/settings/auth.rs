//! Who says who a client is, and how that is checked.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::authority::{host_of, names_loopback};
use super::{Secret, SettingsError, duration_ms, none_if_empty};

/// The algorithms that sign with a secret.
const SECRET_ALGORITHMS: [&str; 3] = ["HS256", "HS384", "HS512"];

/// The algorithms that sign with a private key.
const KEY_ALGORITHMS: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// What a token without scopes may be allowed.
const DEFAULT_SCOPES: [&str; 4] = ["presence:read", "presence:write", "presence:invisible", "observe"];

/// The shortest secret. Source: RFC 7518 §3.2
const MIN_SECRET_BYTES: usize = 32;

/// Who says who a client is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSettings {
    /// The client itself, or a token.
    pub mode: AuthMode,
    /// Secret of the tokens, if they are signed with one. One of `secret`, `public_key` and `jwks_url` is set in
    /// [`AuthMode::Jwt`], and none in [`AuthMode::Trusted`].
    #[serde(deserialize_with = "none_if_empty")]
    pub secret: Option<Secret>,
    /// Public key of the issuer, as PEM. It is hidden, because a private key may be here by mistake.
    #[serde(deserialize_with = "none_if_empty")]
    pub public_key: Option<Secret>,
    /// Where the issuer shows its keys.
    #[serde(deserialize_with = "none_if_empty")]
    pub jwks_url: Option<String>,
    /// PEM file with the root certificates for `jwks_url`. `None` means those of the system.
    #[serde(deserialize_with = "none_if_empty")]
    pub jwks_ca_path: Option<PathBuf>,
    /// How often the keys are fetched. Tied to `jwks_min_interval`.
    #[serde(rename = "jwks_refresh_ms", with = "duration_ms")]
    pub jwks_refresh: Duration,
    /// Least time between two fetches that tokens cause. Tied to `jwks_refresh` and `jwks_timeout`.
    #[serde(rename = "jwks_min_interval_ms", with = "duration_ms")]
    pub jwks_min_interval: Duration,
    /// Deadline of one fetch. Tied to `jwks_min_interval`.
    #[serde(rename = "jwks_timeout_ms", with = "duration_ms")]
    pub jwks_timeout: Duration,
    /// Algorithms that are accepted. None named means all that fit the key.
    pub algorithms: Vec<String>,
    /// Who must have issued a token. `None` means anybody with the key.
    #[serde(deserialize_with = "none_if_empty")]
    pub issuer: Option<String>,
    /// For whom a token must be: one of these.
    pub audience: Vec<String>,
    /// How far clocks may differ.
    #[serde(rename = "leeway_ms", with = "duration_ms")]
    pub leeway: Duration,
    /// What a token without scopes may do.
    pub default_scopes: Vec<String>,
    /// The claim with the user id.
    pub claim_user: String,
    /// The claim with the scopes. `None` means that it is not read.
    #[serde(deserialize_with = "none_if_empty")]
    pub claim_scopes: Option<String>,
    /// The claim with the rooms that the user may enter. `None` means that it is not read.
    #[serde(deserialize_with = "none_if_empty")]
    pub claim_rooms: Option<String>,
    /// The claim with the name. `None` means that it is not read.
    #[serde(deserialize_with = "none_if_empty")]
    pub claim_name: Option<String>,
    /// The claim with the username. `None` means that it is not read.
    #[serde(deserialize_with = "none_if_empty")]
    pub claim_username: Option<String>,
    /// The claim with the e-mail address. `None` means that it is not read.
    #[serde(deserialize_with = "none_if_empty")]
    pub claim_email: Option<String>,
    /// The claim with the avatar. `None` means that it is not read.
    #[serde(deserialize_with = "none_if_empty")]
    pub claim_avatar: Option<String>,
    /// The claim with the metadata. `None` means that it is not read.
    #[serde(deserialize_with = "none_if_empty")]
    pub claim_metadata: Option<String>,
    /// API keys, each as `NAME:SCOPES:SHA256`. They are hidden, because a key itself may be here by mistake.
    pub api_keys: Vec<Secret>,
    /// Who may read the metrics in [`AuthMode::Jwt`].
    pub metrics: MetricsRule,
}

impl AuthSettings {
    /// Checks what one setting says alone, and what they say together. Whether a key can be read is found out by who reads it.
    pub(super) fn validate(&self) -> Result<(), SettingsError> {
        self.validate_source()?;
        self.validate_algorithms()?;
        if self.jwks_url.as_ref().is_some_and(|url| !is_safe_url(url)) {
            // There may be a password in it.
            let problem =
                "auth.jwks_url must begin with https://, or with http:// on this machine, and have no login".to_owned();
            return Err(SettingsError::invalid(&["auth.jwks_url"], problem));
        }
        if let Some(scope) = self.default_scopes.iter().find(|scope| !DEFAULT_SCOPES.contains(&scope.as_str())) {
            let problem = format!("auth.default_scopes has {scope:?}: it may have {}", DEFAULT_SCOPES.join(", "));
            return Err(SettingsError::invalid(&["auth.default_scopes"], problem));
        }
        if self.claim_user.is_empty() {
            return Err(SettingsError::invalid(&["auth.claim_user"], "auth.claim_user must not be empty".to_owned()));
        }
        Ok(())
    }

    /// The settings that say how tokens are checked, if they are set.
    fn sources(&self) -> Vec<&'static str> {
        let all = [
            ("auth.secret", self.secret.is_some()),
            ("auth.public_key", self.public_key.is_some()),
            ("auth.jwks_url", self.jwks_url.is_some()),
        ];
        all.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect()
    }

    fn validate_source(&self) -> Result<(), SettingsError> {
        const MODE: &str = "auth.mode";
        let refuse = |names: &[&str], problem: String| Err(SettingsError::invalid(names, problem));
        match (self.mode, &self.sources()[..]) {
            (AuthMode::Trusted, []) => Ok(()),
            (AuthMode::Trusted, [name, ..]) => {
                refuse(&[MODE, name], format!("auth.mode = \"trusted\" checks no token, so {name} must be empty"))
            }
            (AuthMode::Jwt, []) => {
                let problem = "auth.mode = \"jwt\" needs one of auth.secret, auth.public_key and auth.jwks_url";
                refuse(&[MODE], problem.to_owned())
            }
            (AuthMode::Jwt, [one, other, ..]) => refuse(&[one, other], format!("{one} and {other} exclude each other")),
            (AuthMode::Jwt, [_]) => match &self.secret {
                Some(secret) if secret.expose_secret().len() < MIN_SECRET_BYTES => {
                    refuse(&["auth.secret"], format!("auth.secret must have at least {MIN_SECRET_BYTES} bytes"))
                }
                _ => Ok(()),
            },
        }
    }

    fn validate_algorithms(&self) -> Result<(), SettingsError> {
        for algorithm in &self.algorithms {
            let is_for_secrets = SECRET_ALGORITHMS.contains(&algorithm.as_str());
            if !is_for_secrets && !KEY_ALGORITHMS.contains(&algorithm.as_str()) {
                let all = SECRET_ALGORITHMS.iter().chain(&KEY_ALGORITHMS).copied().collect::<Vec<_>>().join(", ");
                let problem = format!("auth.algorithms has {algorithm:?}: it may have {all}");
                return Err(SettingsError::invalid(&["auth.algorithms"], problem));
            }
            if let Some(source) = self.sources().first()
                && is_for_secrets != self.secret.is_some()
            {
                let problem = format!("auth.algorithms has {algorithm:?}, which does not go with {source}");
                return Err(SettingsError::invalid(&["auth.algorithms", source], problem));
            }
        }
        Ok(())
    }
}

/// Whether nobody on the way can answer instead: the connection is encrypted, or does not leave this machine. A URL with a
/// login is none of these, because a secret in it would be shown with the settings.
fn is_safe_url(url: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_graphic() && c != '\\';
    let Some((scheme, rest)) = url.split_once("://").filter(|_| url.chars().all(is_plain)) else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return false;
    }
    match scheme {
        "https" => !host_of(authority).is_empty(),
        "http" => names_loopback(authority),
        _ => false,
    }
}

/// Who says who a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum AuthMode {
    /// The client itself.
    Trusted,
    /// A signed token.
    Jwt,
}

impl TryFrom<String> for AuthMode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "trusted" => Ok(Self::Trusted),
            "jwt" => Ok(Self::Jwt),
            _ => Err("must be \"trusted\" or \"jwt\""),
        }
    }
}

/// Who may read the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum MetricsRule {
    /// Who has an API key for that.
    Key,
    /// Everybody.
    Open,
}

impl TryFrom<String> for MetricsRule {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "key" => Ok(Self::Key),
            "open" => Ok(Self::Open),
            _ => Err("must be \"key\" or \"open\""),
        }
    }
}
