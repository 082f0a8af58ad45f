//! What the identification of clients counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{Counters, Registry};
use crate::domain::Timestamp;

/// The metrics of tokens, of their keys, and of API keys.
pub(crate) struct AuthMetrics {
    tokens: Counters,
    key_fetches: Counters,
    keys_fetched: Gauge,
    api_key_requests: Family<ApiKeyLabel, Counter>,
}

/// The name of an API key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiKeyLabel {
    key: String,
}

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenOutcome {
    /// It was accepted.
    Accepted,
    /// It has ended.
    Expired,
    /// It is none of ours.
    Invalid,
    /// No key could be had.
    KeysUnavailable,
}

impl TokenOutcome {
    const ALL: [Self; 4] = [Self::Accepted, Self::Expired, Self::Invalid, Self::KeysUnavailable];

    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }
}

impl AuthMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let outcomes = TokenOutcome::ALL.map(TokenOutcome::as_str);
        Self {
            tokens: registry.counters(
                "tokens",
                "Tokens that clients showed, by what became of them",
                "outcome",
                outcomes,
            ),
            key_fetches: registry.counters(
                "key_fetches",
                "Times this node asked the issuer for its keys, by result",
                "result",
                ["fetched", "failed"],
            ),
            keys_fetched: registry
                .time("keys_fetched_timestamp", "Unix time at which the keys of the issuer were last fetched, or 0"),
            api_key_requests: registry.add(
                "api_key_requests",
                "HTTP requests with an API key, by the name of the key",
                Family::default(),
            ),
        }
    }

    /// A token was looked at.
    pub(crate) fn token(&self, outcome: TokenOutcome) {
        self.tokens.count(outcome.as_str());
    }

    /// The keys of the issuer were fetched at this time.
    pub(crate) fn keys_fetched(&self, at: Timestamp) {
        self.key_fetches.count("fetched");
        self.keys_fetched.set(at.0 as i64 / 1000);
    }

    /// The keys of the issuer could not be fetched.
    pub(crate) fn key_fetch_failed(&self) {
        self.key_fetches.count("failed");
    }

    /// There is an API key of this name. So its counter is there from the start.
    pub(crate) fn has_api_key(&self, name: &str) {
        drop(self.api_key_requests.get_or_create(&ApiKeyLabel { key: name.to_owned() }));
    }

    /// A request came with the API key of this name.
    pub(crate) fn api_key_request(&self, name: &str) {
        self.api_key_requests.get_or_create(&ApiKeyLabel { key: name.to_owned() }).inc();
    }
}
