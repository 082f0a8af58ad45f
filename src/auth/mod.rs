//! Who a client is, and what it may do (docs/adr/0012).
//!
//! A connection or a request has an `Identity`, or none as long as nobody has said who it is. `permissions` is the one table
//! of what an identity may do. Nobody else compares user ids to permit something.
//!
//! An identity comes from a credential: `tokens` checks a token with a key of `keys`, and `claims` reads what it says. The key
//! is in the settings, or `jwks` fetches it from the issuer. `api_keys` knows the keys of the application's servers.

mod api_keys;
mod claims;
mod credential;
mod fault;
mod fetch;
mod jwks;
mod keys;
mod mint;
pub(crate) mod permissions;
mod tokens;
pub(crate) mod trial;

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use self::api_keys::ApiKeys;
pub use self::api_keys::NewApiKey;
pub(crate) use self::credential::{Credential, is_key};
pub(crate) use self::fault::{Fault, Unidentified};
use self::jwks::KeyCache;
pub(crate) use self::jwks::KeyTask;
use self::keys::{KeySet, Rules};
pub use self::mint::{TokenWish, mint};
pub(crate) use self::permissions::{Refusal, Resource, Right, Rights};
use self::tokens::{Tokens, Unverified};
use crate::clock;
use crate::domain::{ProfileLimits, ProfilePatch, RoomId, Timestamp, UserId};
use crate::metrics::{AuthMetrics, TokenOutcome};
use crate::settings::{AuthMode, AuthSettings, LimitSettings, MetricsRule};

/// Who a client is, and what goes with that.
#[derive(Debug)]
pub(crate) struct Identity {
    who: Who,
    rights: Rights,
    /// The rooms that the user may enter. If this is none, `rooms.access` decides.
    rooms: Option<Box<[RoomId]>>,
    /// What the token says of the user's profile.
    stated: ProfilePatch,
    /// When the token ends.
    ends_at: Option<Timestamp>,
}

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever it says to be (`auth.mode = "trusted"`).
    Anyone,
    /// The user of a token.
    User(UserId),
    /// The application's server with the API key of this name.
    Server(Arc<str>),
}

impl Identity {
    /// A client whose word counts.
    fn anyone() -> Self {
        let stated = ProfilePatch::default();
        Self { who: Who::Anyone, rights: Rights::of(&Right::ALL), rooms: None, stated, ends_at: None }
    }

    /// Who the client is.
    pub(crate) fn who(&self) -> &Who {
        &self.who
    }

    /// Whether the client may act as this user.
    pub(crate) fn acts_as(&self, user: &UserId) -> bool {
        match &self.who {
            Who::Anyone => true,
            Who::User(own) => own == user,
            Who::Server(_) => self.has(Right::Admin),
        }
    }

    /// Whether the client has a right. [`Right::Admin`] has all others.
    pub(crate) fn has(&self, right: Right) -> bool {
        self.rights.has(right)
    }

    /// What the token says of the user's profile. The client cannot change it.
    pub(crate) fn stated(&self) -> &ProfilePatch {
        &self.stated
    }

    /// When the token ends. An API key never does.
    pub(crate) fn ends_at(&self) -> Option<Timestamp> {
        self.ends_at
    }

    fn grants(&self, room: &RoomId) -> Option<bool> {
        self.rooms.as_ref().map(|rooms| rooms.contains(room))
    }
}

/// How the clients of one node are identified.
pub(crate) struct Auth {
    /// What a client is before it has said who it is.
    newcomer: Option<Arc<Identity>>,
    metrics_rule: MetricsRule,
    api_keys: ApiKeys,
    /// How tokens are checked. It is none if none are (`auth.mode = "trusted"`).
    tokens: Option<(Tokens, KeySource)>,
    metrics: Arc<AuthMetrics>,
}

/// Where the keys of tokens come from.
enum KeySource {
    /// The settings.
    Configured(KeySet),
    /// The issuer.
    Published(KeyCache),
}

impl Auth {
    /// Reads the keys that the settings name. If they come from an issuer, a task fetches them. A token that states a profile
    /// over one of the limits is refused.
    ///
    /// # Errors
    /// A key that cannot be read, or does not go with the other settings.
    pub(crate) fn new(
        settings: &AuthSettings,
        limits: &LimitSettings,
        metrics: AuthMetrics,
    ) -> anyhow::Result<(Arc<Self>, Option<KeyTask>)> {
        let metrics = Arc::new(metrics);
        let api_keys = ApiKeys::parse(&settings.api_keys)?;
        api_keys.names().for_each(|name| metrics.has_api_key(name));
        let (source, task) = key_source(settings, &metrics)?;
        let newcomer = match settings.mode {
            AuthMode::Trusted => Some(Arc::new(Identity::anyone())),
            AuthMode::Jwt => None,
        };
        let tokens = source.map(|source| (Tokens::new(settings, profile_limits(limits)), source));
        Ok((Arc::new(Self { newcomer, metrics_rule: settings.metrics, api_keys, tokens, metrics }), task))
    }

    /// What a client is before it has said who it is. With `auth.mode = "trusted"` its word counts. All such clients share
    /// one identity.
    pub(crate) fn newcomer(&self) -> Option<Arc<Identity>> {
        self.newcomer.clone()
    }

    /// Who a client is that shows this. Where the word of clients counts, a token says nothing, but an API key does.
    ///
    /// # Errors
    /// It shows nothing that is accepted here, or the keys of the issuer cannot be had in time.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn identify(&self, credential: &Credential) -> Result<Arc<Identity>, Unidentified> {
        let identified = match &self.tokens {
            _ if credential.is_key() => self.server(credential).map_err(Unidentified::from),
            None => Ok(self.newcomer.clone().unwrap_or_else(|| Arc::new(Identity::anyone()))),
            Some((tokens, source)) => {
                let identified = self.user(tokens, source, credential).await;
                self.metrics.token(outcome_of(&identified));
                identified
            }
        };
        if let Err(unidentified) = &identified {
            debug!(reason = ?unidentified, "What a client showed is not accepted: {unidentified:?}");
        }
        identified
    }

    /// How long an identity still holds. It is none if it does not end.
    pub(crate) fn time_left(&self, identity: &Identity) -> Option<Duration> {
        let (tokens, _) = self.tokens.as_ref()?;
        tokens.time_left(identity, clock::now())
    }

    /// Whether tokens can be checked: the keys of the issuer have been fetched once.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.tokens {
            Some((_, KeySource::Published(cache))) => cache.is_loaded(),
            Some((_, KeySource::Configured(_))) | None => true,
        }
    }

    /// Whether a client may use a resource. The resource may ask further questions, about single users and rooms.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) fn check_resource(&self, caller: Option<&Identity>, resource: Resource) -> Result<(), Refusal> {
        match (resource, self.metrics_rule) {
            (Resource::Metrics, MetricsRule::Open) => Ok(()),
            _ => permissions::check_resource(caller, resource),
        }
    }

    async fn user(
        &self,
        tokens: &Tokens,
        source: &KeySource,
        credential: &Credential,
    ) -> Result<Arc<Identity>, Unidentified> {
        let token = Unverified::read(credential.expose_secret())?;
        let fetched;
        let keys = match source {
            KeySource::Configured(keys) => keys,
            KeySource::Published(cache) => {
                fetched = cache.find(token.kid()).await.map_err(Unidentified::KeysUnavailable)?;
                &*fetched
            }
        };
        Ok(Arc::new(tokens.verify(&token, keys, clock::now())?))
    }

    /// The server with this API key. Where the word of clients counts, it may read what everybody may read.
    fn server(&self, credential: &Credential) -> Result<Arc<Identity>, Fault> {
        let (name, rights) = self.api_keys.find(credential).ok_or(Fault::UnknownApiKey)?;
        self.metrics.api_key_request(&name);
        let rights = if self.newcomer.is_some() { rights.and_all_but_admin() } else { rights };
        let stated = ProfilePatch::default();
        Ok(Arc::new(Identity { who: Who::Server(name), rights, rooms: None, stated, ends_at: None }))
    }
}

/// How large a profile may be, whoever states it: a token, a client or the application's server.
pub(crate) fn profile_limits(limits: &LimitSettings) -> ProfileLimits {
    ProfileLimits { fields_bytes: limits.profile_bytes, metadata_bytes: limits.metadata_bytes }
}

fn key_source(
    settings: &AuthSettings,
    metrics: &Arc<AuthMetrics>,
) -> anyhow::Result<(Option<KeySource>, Option<KeyTask>)> {
    let rules = Rules::new(settings);
    if let Some(secret) = &settings.secret {
        let keys = KeySet::from_secret(secret.expose_secret(), &rules);
        let keys = keys.ok_or_else(|| anyhow::anyhow!("auth.algorithms has none that goes with auth.secret"))?;
        return Ok((Some(KeySource::Configured(keys)), None));
    }
    if let Some(pem) = &settings.public_key {
        let keys = KeySet::from_pem(pem.expose_secret(), &rules);
        let keys = keys.map_err(|what| anyhow::anyhow!("auth.public_key {what}"))?;
        return Ok((Some(KeySource::Configured(keys)), None));
    }
    let Some(url) = &settings.jwks_url else { return Ok((None, None)) };
    let (cache, task) = KeyCache::new(url, settings, rules, metrics.clone())?;
    Ok((Some(KeySource::Published(cache)), Some(task)))
}

fn outcome_of(identified: &Result<Arc<Identity>, Unidentified>) -> TokenOutcome {
    match identified {
        Ok(_) => TokenOutcome::Accepted,
        Err(Unidentified::Expired) => TokenOutcome::Expired,
        Err(Unidentified::Invalid(_)) => TokenOutcome::Invalid,
        Err(Unidentified::KeysUnavailable(_)) => TokenOutcome::KeysUnavailable,
    }
}
