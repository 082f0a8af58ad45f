//! Typed settings. Each section is a small struct. So each part gets only the settings that it needs.
//!
//! `config/default.toml` is the reference (unit, range and reason of every key) and the first layer; [`Settings::load`]
//! puts a file and the environment over it. A `Duration` called `lease` here is the integer `lease_ms` there. Error
//! messages use the names of that file.

mod auth;
mod authority;
mod check;
mod files;
mod layers;
mod redis_url;
mod secret;
mod server;
mod socketio;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub use self::auth::{AuthMode, AuthSettings, MetricsRule};
pub(crate) use self::authority::names_loopback;
#[cfg(test)]
pub(crate) use self::check::KEY_WORDS;
use self::layers::Layers;
pub use self::redis_url::{RedisUrl, RedisUrlError};
pub use self::secret::Secret;
pub(crate) use self::server::TrustedProxies;
pub use self::server::{ProxyProtocol, ServerSettings};
pub use self::socketio::SocketioSettings;

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field's type says it")]
pub struct Settings {
    pub server: ServerSettings,
    pub auth: AuthSettings,
    pub redis: RedisSettings,
    pub presence: PresenceSettings,
    pub rooms: RoomSettings,
    pub websocket: WebsocketSettings,
    /// Clients of Socket.IO.
    pub socketio: SocketioSettings,
    pub limits: LimitSettings,
    pub fanout: FanoutSettings,
    pub drain: DrainSettings,
    pub telemetry: TelemetrySettings,
}

/// The shared store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    /// `None` is the embedded store.
    #[serde(deserialize_with = "none_if_empty")]
    pub url: Option<RedisUrl>,
    /// The Redis user. `None` is the default user, or the one in the URL.
    #[serde(deserialize_with = "none_if_empty")]
    pub username: Option<String>,
    /// The password of the user. `None` is the one in the URL, if there is one.
    #[serde(deserialize_with = "none_if_empty")]
    pub password: Option<Secret>,
    /// PEM file with the root certificates for Redis. `None` means those of the system.
    #[serde(deserialize_with = "none_if_empty")]
    pub tls_ca_path: Option<PathBuf>,
    /// PEM file with the certificate that this node shows to Redis. Tied to `tls_key_path`.
    #[serde(deserialize_with = "none_if_empty")]
    pub tls_certificate_path: Option<PathBuf>,
    /// PEM file with the key of that certificate. Tied to `tls_certificate_path`.
    #[serde(deserialize_with = "none_if_empty")]
    pub tls_key_path: Option<PathBuf>,
    /// What every key and channel begins with, without the colon that follows.
    pub prefix: String,
    /// Deadline to connect and log in.
    #[serde(rename = "connect_timeout_ms", with = "duration_ms")]
    pub connect_timeout: Duration,
    /// Deadline of each call. Tied to [`PresenceSettings::lease`].
    #[serde(rename = "call_timeout_ms", with = "duration_ms")]
    pub call_timeout: Duration,
    /// Cap of the jittered delay between attempts to reconnect.
    #[serde(rename = "backoff_max_ms", with = "duration_ms")]
    pub backoff_max: Duration,
    /// Pooled connections for what is occasional.
    pub pool_size: usize,
}

impl RedisSettings {
    /// The settings that name a file for TLS.
    pub(crate) fn tls_files(&self) -> Vec<&'static str> {
        let all = [
            ("redis.tls_ca_path", &self.tls_ca_path),
            ("redis.tls_certificate_path", &self.tls_certificate_path),
            ("redis.tls_key_path", &self.tls_key_path),
        ];
        all.into_iter().filter(|(_, path)| path.is_some()).map(|(name, _)| name).collect()
    }
}

/// When somebody counts as present.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresenceSettings {
    /// Lifetime of a user's keys in Redis. Tied to `lease`.
    #[serde(rename = "user_ttl_ms", with = "duration_ms")]
    pub user_ttl: Duration,
    /// How long a broken socket still counts. Tied to `lease` and [`DrainSettings::reconnect_spread`].
    #[serde(rename = "grace_ms", with = "duration_ms")]
    pub grace: Duration,
    /// How long a node's sockets count without a beat. Tied to all its neighbours here and to
    /// [`RedisSettings::call_timeout`].
    #[serde(rename = "lease_ms", with = "duration_ms")]
    pub lease: Duration,
    /// How often a node renews its lease. Tied to `lease`.
    #[serde(rename = "beat_ms", with = "duration_ms")]
    pub beat: Duration,
    /// How often a node looks for expired peers.
    #[serde(rename = "sweep_ms", with = "duration_ms")]
    pub sweep: Duration,
    /// Sockets removed by one sweep script.
    pub sweep_batch: usize,
    /// Transitions kept in the log.
    pub log_length: usize,
    /// How long "last seen" is remembered.
    #[serde(rename = "last_seen_ttl_ms", with = "duration_ms")]
    pub last_seen_ttl: Duration,
    /// How long a socket must have been there for "last seen" to be written.
    #[serde(rename = "last_seen_min_ms", with = "duration_ms")]
    pub last_seen_min: Duration,
    /// How often a node checks Redis against the nodes that exist.
    #[serde(rename = "audit_ms", with = "duration_ms")]
    pub audit: Duration,
    /// After which time without `user_activity` a socket is idle. Zero turns this off.
    #[serde(rename = "idle_ms", with = "duration_ms")]
    pub idle: Duration,
    /// How often the store is told that a user is active.
    #[serde(rename = "active_every_ms", with = "duration_ms")]
    pub active_every: Duration,
}

impl PresenceSettings {
    /// How often a node extends the keys of all its sockets: in each quarter of their life. Each audit interval has one,
    /// too: the audit gives an owner no more than one interval to find what is missing.
    pub(crate) fn refresh_all(&self) -> Duration {
        (self.user_ttl / 4).min(self.audit)
    }

    /// How often a node compares its open rooms with the store. Between two of these comparisons, every node has extended all
    /// its keys, and has written again what was missing.
    pub fn compare_rooms(&self) -> Duration {
        self.refresh_all() + 2 * self.beat
    }

    /// How often a node looks whether its subscription to signals still delivers. Nobody waits for signals, so it may be seldom.
    pub(crate) fn echo(&self) -> Duration {
        self.beat * 5
    }

    /// How long a node gathers heartbeats. `user_activity` has to show within 2 s. A socket becomes idle up to three
    /// rounds late, so four rounds are no longer than the time for that.
    pub(crate) fn round(&self) -> Duration {
        const GATHER: Duration = Duration::from_secs(1);
        let idle = if self.idle.is_zero() { GATHER } else { self.idle / 4 };
        const LEAST: Duration = Duration::from_millis(20);
        GATHER.min(self.refresh_all() / 4).min(idle).min(self.active_every).max(LEAST)
    }
}

/// What a node keeps of rooms, and who may enter one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomSettings {
    /// Who may enter a room, and ask who is in it.
    pub access: RoomRule,
    /// How long a node follows a room after the last of its sockets has left it.
    #[serde(rename = "linger_ms", with = "duration_ms")]
    pub linger: Duration,
}

/// Who may enter a room, and ask who is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum RoomRule {
    /// Everybody, and any id names a room.
    Open,
    /// The members that the application's server has registered, in the rooms that it has registered.
    Registered,
}

impl TryFrom<String> for RoomRule {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "open" => Ok(Self::Open),
            "registered" => Ok(Self::Registered),
            _ => Err("must be \"open\" or \"registered\""),
        }
    }
}

/// One socket's patience.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebsocketSettings {
    /// How often a socket is pinged. Tied to `silence_timeout`.
    #[serde(rename = "ping_interval_ms", with = "duration_ms")]
    pub ping_interval: Duration,
    /// How long a socket may be silent. Tied to `ping_interval`.
    #[serde(rename = "silence_timeout_ms", with = "duration_ms")]
    pub silence_timeout: Duration,
    /// How long a socket may stay without saying who it is.
    #[serde(rename = "join_timeout_ms", with = "duration_ms")]
    pub join_timeout: Duration,
    /// Largest frame accepted.
    pub max_frame_bytes: usize,
}

/// How much is accepted and answered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Largest profile of a user without its metadata, as JSON.
    pub profile_bytes: usize,
    /// Largest metadata of a user, as JSON.
    pub metadata_bytes: usize,
    /// Users in a page of the list, unless the request gives another number. Tied to `page_max`.
    pub page_default: usize,
    /// Most users in a page. Tied to `page_default`.
    pub page_max: usize,
    /// About the largest page, as JSON. Tied to `answers_bytes`.
    pub page_bytes: usize,
    /// Bytes of pages that wait for clients to read them. Tied to `page_bytes`.
    pub answers_bytes: usize,
    /// Bytes of HTTP bodies that are being read.
    pub bodies_bytes: usize,
    /// Messages and pings that a socket may send a second.
    pub messages_per_second: u32,
    /// Messages and pings that a socket may send at once. Tied to `request_burst`.
    pub message_burst: u32,
    /// Costly requests that a socket may make a second.
    pub requests_per_second: u32,
    /// Costly requests that a socket may make at once. Tied to `message_burst`.
    pub request_burst: u32,
    /// Sockets that a user may have on one node.
    pub sockets_per_user: usize,
    /// Rooms that a socket may be in.
    pub rooms_per_socket: usize,
    /// Users that a socket may watch. Tied to `watches`.
    pub watches_per_socket: usize,
    /// Users that all sockets of the node may watch together. Tied to `watches_per_socket`.
    pub watches: usize,
    /// New sockets admitted a second, on the whole node.
    pub joins_per_second: u32,
    /// New sockets that may wait for admission.
    pub join_queue: usize,
    /// Sockets that one address may have. Zero means any number.
    pub sockets_per_address: usize,
    /// Handshakes that one address may try a second. Zero means any number.
    pub upgrades_per_address: u32,
    /// HTTP requests that one address may make a second. Zero means any number.
    pub http_requests_per_address: u32,
    /// Sockets whose client has not said yet who it is.
    pub unnamed_sockets: usize,
    /// Largest head of an HTTP request.
    pub head_bytes: usize,
}

/// How events reach listeners.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FanoutSettings {
    /// Longest time that events are gathered into one write.
    #[serde(rename = "max_tick_ms", with = "duration_ms")]
    pub max_tick: Duration,
    /// Size of each worker's broadcast log.
    pub log_bytes: usize,
    /// Least time between two resyncs of a socket.
    #[serde(rename = "resync_interval_ms", with = "duration_ms")]
    pub resync_interval: Duration,
}

/// How the process ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainSettings {
    /// Time over which clients are asked to come back. Tied to [`PresenceSettings::grace`] and
    /// [`PresenceSettings::lease`].
    #[serde(rename = "reconnect_spread_ms", with = "duration_ms")]
    pub reconnect_spread: Duration,
    /// Deadline of the whole drain.
    #[serde(rename = "timeout_ms", with = "duration_ms")]
    pub timeout: Duration,
}

/// What is logged, and how.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// A level, or levels by module, as `tracing_subscriber`'s `EnvFilter` reads it.
    pub log_filter: String,
    /// The form of a log line.
    pub log_format: LogFormat,
    /// How often the totals of this node are logged.
    #[serde(rename = "totals_ms", with = "duration_ms")]
    pub totals: Duration,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

impl TryFrom<String> for LogFormat {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be \"text\" or \"json\""),
        }
    }
}

/// Why the service refuses to start. Each is one line that names the setting as the user wrote it.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file given is not there or not readable text.
    #[error("cannot read settings file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file that a variable names is not there or not readable text.
    #[error("cannot read {} ({variable} in the environment)", path.display())]
    UnreadableSecret {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file that a variable names has nothing in it.
    #[error("{} is empty ({variable} in the environment)", path.display())]
    EmptySecret {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
    },
    /// The file given is not TOML.
    #[error("settings file {}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// No setting has this name. Most likely it is a typing error, and the intended setting is not in force.
    #[error("unknown setting {name:?} in {origin}")]
    Unknown {
        /// The key or the variable.
        name: String,
        /// The file, or the environment.
        origin: String,
    },
    /// A value of the wrong type or out of range, or values that contradict each other.
    #[error("{problem}{set_by}")]
    Invalid {
        /// The settings concerned.
        names: Vec<String>,
        /// The complaint. It names all of them.
        problem: String,
        /// Where each setting that is not a default was set, in brackets. It is empty if that is unknown.
        set_by: String,
    },
}

impl SettingsError {
    /// A complaint about `names`. A caller that knows the sources adds them.
    fn invalid(names: &[&str], problem: String) -> Self {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Self::Invalid { names, problem, set_by: String::new() }
    }
}

impl Default for Settings {
    /// The embedded `config/default.toml` alone.
    fn default() -> Self {
        Layers::defaults().deserialize().expect("config/default.toml is complete and well typed: see the tests here")
    }
}

impl Settings {
    /// Reads all layers (defaults, `file`, `ROLLCALL__SECTION__KEY`, short names) and checks the result. A later layer
    /// wins. A secret may be in a file, which a variable with `_FILE` at its end names (`REDIS_PASSWORD_FILE`).
    ///
    /// The environment is an argument, so that tests need not change that of the process. An empty variable counts as
    /// unset, because a container gets one from `${REDIS_URL:-}`. `ROLLCALL_X` with one underscore is not ours.
    /// Kubernetes sets such names for a service called `rollcall`.
    ///
    /// # Errors
    /// Any [`SettingsError`]. Give up and show it.
    pub fn load(file: Option<&Path>, environment: HashMap<String, String>) -> Result<Self, SettingsError> {
        let mut layers = Layers::defaults();
        if let Some(path) = file {
            layers.add_file(path)?;
        }
        layers.add_environment(&environment)?;
        let checked = layers.deserialize().and_then(|settings| settings.validate().map(|()| settings));
        checked.map_err(|error| layers.say_who_set(error))
    }
}

/// The value that a text stands for. It is none if the text is empty.
fn none_if_empty<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(serde::de::Error::custom) }
}

/// A `Duration` as the integer milliseconds of a key that ends in `_ms`.
mod duration_ms {
    use super::{Deserialize, Deserializer, Duration};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests;
