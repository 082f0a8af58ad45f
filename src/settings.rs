//! Typed settings: one small struct per concern, so that each part is handed the piece it needs and no more.
//!
//! `config/default.toml` is the reference (unit, range and reason of every key) and the first layer; [`Settings::load`]
//! puts a file and the environment over it. A `Duration` called `lease` here is the integer `lease_ms` there, and error
//! messages use the names of that file.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use config::{Config, ConfigError, File, FileFormat, Source, Value, ValueKind};
use serde::{Deserialize, Deserializer};
use tracing_subscriber::EnvFilter;

const DEFAULTS: &str = include_str!("../config/default.toml");

/// Names from the platforms that services are deployed on; they win over the long names, for they are set per process.
const SHORT_NAMES: [(&str, &str); 3] = [("HOST", "server.host"), ("PORT", "server.port"), ("REDIS_URL", "redis.url")];

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field's type says it")]
pub struct Settings {
    pub server: ServerSettings,
    pub redis: RedisSettings,
    pub presence: PresenceSettings,
    pub websocket: WebsocketSettings,
    pub limits: LimitSettings,
    pub fanout: FanoutSettings,
    pub drain: DrainSettings,
    pub telemetry: TelemetrySettings,
}

/// Where and how requests are taken.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// IP address or host name to listen on.
    pub host: String,
    /// TCP port; 0 takes a free one.
    pub port: u16,
    /// Worker threads; 0 is one per core.
    pub workers: usize,
    /// Most sockets of this process: each is an open file, and those are often capped.
    pub max_sockets: usize,
    /// Exact origins of web pages that may read presence, or `*` alone for all.
    pub cors_allowed_origins: Vec<String>,
}

/// The shared store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    /// `None` is the embedded store.
    #[serde(deserialize_with = "none_if_empty")]
    pub url: Option<RedisUrl>,
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
    /// How often a node checks Redis against the nodes that exist.
    #[serde(rename = "audit_ms", with = "duration_ms")]
    pub audit: Duration,
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
    /// Largest profile of a user, as JSON.
    pub profile_bytes: usize,
    /// Users in a page of the list, unless asked. Tied to `page_max`.
    pub page_default: usize,
    /// Most users in a page. Tied to `page_default`.
    pub page_max: usize,
    /// New sockets admitted a second, on the whole node.
    pub joins_per_second: u32,
    /// New sockets that may wait for admission.
    pub join_queue: usize,
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
    /// A level, or levels by module, as [`EnvFilter`] reads it.
    pub log_filter: String,
    /// The form of a log line.
    pub log_format: LogFormat,
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

/// Where Redis is and how to log in. Written out, by `Debug` or `Display`, it is `redis://host:port/db`: no user, no
/// password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    secret: String,
    shown: String,
}

impl RedisUrl {
    /// The URL as given, with the password: for the Redis driver alone, never for a log or an error.
    pub fn expose_secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({})", self.shown)
    }
}

/// What is wrong with a Redis URL. It never quotes the URL: a password with a stray `/` can sit anywhere in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RedisUrlError(&'static str);

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        if text.starts_with("rediss://") {
            return Err(RedisUrlError("must start with redis://: TLS (rediss://) is not supported"));
        }
        let rest = text.strip_prefix("redis://").ok_or(RedisUrlError("must start with redis://"))?;
        if rest.contains(|c: char| c.is_whitespace() || c.is_control() || "?#\\".contains(c)) {
            return Err(RedisUrlError("must not contain spaces, ?, # or \\ (percent-encode them in a password)"));
        }
        let (authority, db) = rest.split_once('/').unwrap_or((rest, ""));
        let address = authority.rsplit_once('@').map_or(authority, |(_login, address)| address);
        // A colon inside the brackets of an IPv6 address does not begin a port.
        let (host, port) = match address.rfind(':') {
            Some(colon) if !address[colon..].contains(']') => (&address[..colon], &address[colon + 1..]),
            _ => (address, "6379"),
        };
        let port: u16 = port.parse().map_err(|_| RedisUrlError("must have a port number from 1 to 65535"))?;
        let db: u32 = if db.is_empty() { Ok(0) } else { db.parse() }.map_err(|_| {
            RedisUrlError(
                "must end in a database number, as in redis://:password@host:6379/0 (percent-encode / in a password)",
            )
        })?;
        if host.is_empty() || port == 0 {
            return Err(RedisUrlError("must name a host and a port, as in redis://:password@host:6379/0"));
        }
        Ok(Self { secret: text.to_owned(), shown: format!("redis://{host}:{port}/{db}") })
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
    /// The file given is not TOML.
    #[error("settings file {}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// Nothing has this name: most likely a typing error, and the intended setting is not in force.
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
        /// The complaint, naming all of them.
        problem: String,
        /// Where those that are not defaults were set, in brackets; empty if unknown.
        set_by: String,
    },
}

impl Default for Settings {
    /// The embedded `config/default.toml` alone.
    fn default() -> Self {
        Layers::defaults().deserialize().expect("config/default.toml is complete and well typed: see the tests here")
    }
}

impl Settings {
    /// Reads all layers (defaults, `file`, `ROLLCALL__SECTION__KEY`, short names; the later wins) and checks the
    /// result.
    ///
    /// The environment is handed in, so that tests need not change the process's own. An empty variable counts as
    /// unset: that is what a container gets from `${REDIS_URL:-}`. `ROLLCALL_X` with one underscore is not ours:
    /// Kubernetes sets such names for a service called `rollcall`.
    ///
    /// # Errors
    /// Any [`SettingsError`]: give up and show it.
    pub fn load(file: Option<&Path>, environment: HashMap<String, String>) -> Result<Self, SettingsError> {
        let mut layers = Layers::defaults();
        if let Some(path) = file {
            layers.add_file(path)?;
        }
        layers.add_environment(&environment)?;
        let checked = layers.deserialize().and_then(|settings| settings.validate().map(|()| settings));
        checked.map_err(|error| layers.say_who_set(error))
    }

    /// Checks each value's range and the relations between values.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`] for the first complaint: give up and show it.
    pub fn validate(&self) -> Result<(), SettingsError> {
        for (name, value, range) in self.ranges() {
            if !range.contains(&value) {
                let (least, most) = range.into_inner();
                return Err(invalid(&[name], format!("{name} = {value} is out of range {least}..={most}")));
            }
        }
        self.validate_texts()?;
        for (holds, left, words, right) in self.relations() {
            if !holds {
                let side: Vec<_> = left.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                let names: Vec<_> = left.iter().chain([&right]).map(|(name, _)| *name).collect();
                let problem = format!("{} must be {words} {} = {}", side.join(" plus "), right.0, right.1);
                return Err(invalid(&names, problem));
            }
        }
        Ok(())
    }

    /// Every number and its range; a test compares them with `config/default.toml`.
    fn ranges(&self) -> [(&'static str, u64, RangeInclusive<u64>); 30] {
        let Self { server, redis, presence, websocket, limits, fanout, drain, telemetry: _ } = self;
        [
            ("server.port", server.port.into(), 0..=65_535),
            ("server.workers", server.workers as u64, 0..=1024),
            ("server.max_sockets", server.max_sockets as u64, 1..=1_000_000),
            ("redis.connect_timeout_ms", ms(redis.connect_timeout), 10..=60_000),
            ("redis.call_timeout_ms", ms(redis.call_timeout), 10..=60_000),
            ("redis.backoff_max_ms", ms(redis.backoff_max), 10..=60_000),
            ("redis.pool_size", redis.pool_size as u64, 1..=256),
            ("presence.user_ttl_ms", ms(presence.user_ttl), 1000..=604_800_000),
            ("presence.grace_ms", ms(presence.grace), 0..=600_000),
            ("presence.lease_ms", ms(presence.lease), 100..=600_000),
            ("presence.beat_ms", ms(presence.beat), 10..=200_000),
            ("presence.sweep_ms", ms(presence.sweep), 10..=60_000),
            ("presence.sweep_batch", presence.sweep_batch as u64, 1..=10_000),
            ("presence.log_length", presence.log_length as u64, 1..=10_000_000),
            ("presence.last_seen_ttl_ms", ms(presence.last_seen_ttl), 1000..=31_536_000_000),
            ("presence.audit_ms", ms(presence.audit), 100..=86_400_000),
            ("websocket.ping_interval_ms", ms(websocket.ping_interval), 50..=300_000),
            ("websocket.silence_timeout_ms", ms(websocket.silence_timeout), 101..=900_000),
            ("websocket.join_timeout_ms", ms(websocket.join_timeout), 50..=300_000),
            ("websocket.max_frame_bytes", websocket.max_frame_bytes as u64, 256..=1_048_576),
            ("limits.profile_bytes", limits.profile_bytes as u64, 64..=65_536),
            ("limits.page_default", limits.page_default as u64, 1..=100_000),
            ("limits.page_max", limits.page_max as u64, 1..=100_000),
            ("limits.joins_per_second", limits.joins_per_second.into(), 1..=1_000_000),
            ("limits.join_queue", limits.join_queue as u64, 1..=100_000),
            ("fanout.max_tick_ms", ms(fanout.max_tick), 0..=1000),
            ("fanout.log_bytes", fanout.log_bytes as u64, 65_536..=1_073_741_824),
            ("fanout.resync_interval_ms", ms(fanout.resync_interval), 10..=3_600_000),
            ("drain.reconnect_spread_ms", ms(drain.reconnect_spread), 0..=600_000),
            ("drain.timeout_ms", ms(drain.timeout), 10..=600_000),
        ]
    }

    /// What must hold between numbers, in words that fit between the two sides of an error message.
    fn relations(&self) -> [(bool, Vec<Named>, &'static str, Named); 7] {
        let lease = ("presence.lease_ms", ms(self.presence.lease));
        let beat = ("presence.beat_ms", ms(self.presence.beat));
        let grace = ("presence.grace_ms", ms(self.presence.grace));
        let user_ttl = ("presence.user_ttl_ms", ms(self.presence.user_ttl));
        let call_timeout = ("redis.call_timeout_ms", ms(self.redis.call_timeout));
        let spread = ("drain.reconnect_spread_ms", ms(self.drain.reconnect_spread));
        let ping = ("websocket.ping_interval_ms", ms(self.websocket.ping_interval));
        let silence = ("websocket.silence_timeout_ms", ms(self.websocket.silence_timeout));
        let page_default = ("limits.page_default", self.limits.page_default as u64);
        let page_max = ("limits.page_max", self.limits.page_max as u64);
        [
            (lease.1 >= 3 * beat.1, vec![lease], "at least 3 times", beat),
            (call_timeout.1 * 2 <= lease.1, vec![call_timeout], "at most half of", lease),
            (grace.1 < lease.1, vec![grace], "less than", lease),
            (spread.1 + grace.1 <= lease.1, vec![spread, grace], "at most", lease),
            (user_ttl.1 >= 4 * lease.1, vec![user_ttl], "at least 4 times", lease),
            (silence.1 > 2 * ping.1, vec![silence], "more than 2 times", ping),
            (page_default.1 <= page_max.1, vec![page_default], "at most", page_max),
        ]
    }

    fn validate_texts(&self) -> Result<(), SettingsError> {
        let require = |holds: bool, name, value: &dyn fmt::Debug, words: &str| {
            if holds { Ok(()) } else { Err(invalid(&[name], format!("{name} = {value:?} must be {words}"))) }
        };
        let host = &self.server.host;
        let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
        require(is_host, "server.host", host, "an IP address or a host name")?;

        let origins = &self.server.cors_allowed_origins;
        let are_origins = origins.iter().all(|origin| is_origin(origin)) || *origins == ["*"];
        let words = "[\"*\"] alone or origins as browsers send them, like \"https://chat.example.com\"";
        require(are_origins, "server.cors_allowed_origins", origins, words)?;

        let prefix = &self.redis.prefix;
        let is_prefix = (1..=64).contains(&prefix.len())
            && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
            && !prefix.ends_with(':');
        require(is_prefix, "redis.prefix", prefix, "1 to 64 bytes of A-Z a-z 0-9 _ . : - without a \":\" at the end")?;

        let filter = &self.telemetry.log_filter;
        let words = "a level, or levels by module like \"info,rollcall::store=debug\"";
        require(EnvFilter::try_new(filter).is_ok(), "telemetry.log_filter", filter, words)
    }
}

/// A setting and its value, for an error message.
type Named = (&'static str, u64);

/// `scheme://host[:port]` and nothing else, in lower case: CORS compares bytes, so anything more would never match.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    let is_authority = !authority.is_empty()
        && authority.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b));
    is_scheme && is_authority
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn invalid(names: &[&str], problem: String) -> SettingsError {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    SettingsError::Invalid { names, problem, set_by: String::new() }
}

/// The values by their names in `config/default.toml` (`presence.lease_ms`), and who set those that are not defaults.
///
/// config-rs parses and deserializes, but merging is ours: it would take `true` for 1 and round 80.5, look for `x.toml`
/// when told to read `x`, and forget which variable a value came from.
struct Layers {
    values: BTreeMap<String, Value>,
    set_by: BTreeMap<String, String>,
}

impl Layers {
    fn defaults() -> Self {
        let table = File::from_str(DEFAULTS, FileFormat::Toml).collect().expect("config/default.toml is TOML");
        Self { values: flatten(Value::from(table)).into_iter().collect(), set_by: BTreeMap::new() }
    }

    fn add_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        let table = File::from_str(&text, FileFormat::Toml).collect().map_err(|error| {
            // Without the excerpt that TOML errors draw with bars: one line, and the excerpt may hold a password.
            let text = error.to_string();
            let lines: Vec<_> = text.lines().filter(|line| !line.contains('|')).collect();
            SettingsError::Syntax { path: path.to_owned(), problem: lines.join(": ") }
        })?;
        let origin = path.display().to_string();
        flatten(Value::from(table)).into_iter().try_for_each(|(key, value)| self.set(&key, value, &key, &origin))
    }

    fn add_environment(&mut self, environment: &HashMap<String, String>) -> Result<(), SettingsError> {
        let keys = self.values.keys().cloned();
        let long_names: BTreeMap<String, String> =
            keys.map(|key| (format!("ROLLCALL__{}", key.to_uppercase().replace('.', "__")), key)).collect();
        let mut ours: Vec<_> = environment.iter().filter(|(name, _)| name.starts_with("ROLLCALL__")).collect();
        // The first complaint should not depend on a hash.
        ours.sort();
        for (name, text) in ours {
            let key = long_names.get(name).map_or("", String::as_str);
            self.set_text(key, text, name)?;
        }
        SHORT_NAMES
            .into_iter()
            .try_for_each(|(name, key)| environment.get(name).map_or(Ok(()), |text| self.set_text(key, text, name)))
    }

    /// Takes text for what the default is: a number, a list with commas, or text.
    fn set_text(&mut self, key: &str, text: &str, variable: &str) -> Result<(), SettingsError> {
        let kind = match self.values.get(key).map(|default| &default.kind) {
            Some(_) if text.is_empty() => return Ok(()),
            Some(ValueKind::I64(_)) => text.parse().map_or_else(|_| text.into(), ValueKind::I64),
            Some(ValueKind::Array(_)) => text.split(',').map(str::trim).collect::<Vec<_>>().into(),
            _ => text.into(),
        };
        self.set(key, Value::new(None, kind), variable, "the environment")
    }

    /// Puts one value over the default, which also says what type it must have. `name` is the setting as its `place`
    /// spells it.
    fn set(&mut self, key: &str, value: Value, name: &str, place: &str) -> Result<(), SettingsError> {
        let Some(default) = self.values.get(key) else {
            let is_section = |known: &String| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
            // A section with all its keys commented out.
            if matches!(value.kind, ValueKind::Table(_)) && self.values.keys().any(is_section) {
                return Ok(());
            }
            return Err(SettingsError::Unknown { name: name.to_owned(), origin: place.to_owned() });
        };
        let is_string = |value: &Value| matches!(value.kind, ValueKind::String(_));
        let mismatch = match (&default.kind, &value.kind) {
            (ValueKind::I64(_), ValueKind::I64(_)) | (ValueKind::String(_), ValueKind::String(_)) => None,
            (ValueKind::Array(_), ValueKind::Array(items)) if items.iter().all(is_string) => None,
            (ValueKind::I64(_), _) => Some("an integer"),
            (ValueKind::Array(_), _) => Some("a list of strings"),
            _ => Some("a string"),
        };
        let origin = if name == key { place.to_owned() } else { format!("{name} in {place}") };
        self.set_by.insert(key.to_owned(), origin);
        if let Some(expected) = mismatch {
            let problem = format!("{key} must be {expected}, not {}", describe(&value.kind));
            return Err(self.say_who_set(invalid(&[key], problem)));
        }
        self.values.insert(key.to_owned(), value);
        Ok(())
    }

    fn deserialize(&self) -> Result<Settings, SettingsError> {
        let mut values = self.values.iter();
        let builder =
            values.try_fold(Config::builder(), |builder, (key, value)| builder.set_override(key, value.clone()));
        builder.and_then(|builder| builder.build()?.try_deserialize()).map_err(|error| match error {
            ConfigError::At { error, key: Some(key), .. } => invalid(&[&key], format!("{key} {error}")),
            // The types were right, so that what does not fit is the size or the sign.
            ConfigError::Type { expected, key: Some(key), .. } => {
                let value = self.values.get(&key).map_or_else(String::new, |value| describe(&value.kind));
                invalid(&[&key], format!("{key} = {value} is out of range: it must be {expected}"))
            }
            other => invalid(&[], other.to_string()),
        })
    }

    fn say_who_set(&self, mut error: SettingsError) -> SettingsError {
        if let SettingsError::Invalid { names, set_by, .. } = &mut error {
            let origins = names.iter().filter_map(|name| Some(format!("{name} comes from {}", self.set_by.get(name)?)));
            let origins: Vec<_> = origins.collect();
            if !origins.is_empty() {
                *set_by = format!(" ({})", origins.join(", "));
            }
        }
        error
    }
}

/// The leaves of a tree of tables, with dots in their names.
fn flatten(tree: Value) -> Vec<(String, Value)> {
    let mut leaves = Vec::new();
    let mut pending = vec![(String::new(), tree)];
    while let Some((path, value)) = pending.pop() {
        match value.kind {
            ValueKind::Table(table) if path.is_empty() || !table.is_empty() => {
                let dot = if path.is_empty() { "" } else { "." };
                pending.extend(table.into_iter().map(|(key, child)| (format!("{path}{dot}{key}"), child)));
            }
            kind => leaves.push((path, Value::new(None, kind))),
        }
    }
    // Tables are hashed; the first complaint should not depend on that.
    leaves.sort_by(|(one, _), (other, _)| one.cmp(other));
    leaves
}

/// A value for an error message. What is in a list or a table stays unsaid: it may be a mistyped URL with a password.
fn describe(kind: &ValueKind) -> String {
    match kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Table(_) => "a section".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    }
}

fn none_if_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RedisUrl>, D::Error> {
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
mod tests {
    use super::*;

    fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rollcall-settings-{}-{number}.toml", std::process::id()));
        std::fs::write(&path, toml).unwrap();
        let environment = environment.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        let result = Settings::load(Some(&path), environment);
        std::fs::remove_file(&path).unwrap();
        result.map_err(|error| {
            let line = error.to_string().replace(&path.display().to_string(), "FILE");
            assert!(!line.contains('\n'), "not one line: {line}");
            line
        })
    }

    #[test]
    fn the_defaults_are_valid_and_those_of_the_design() {
        let settings = load("", &[]).unwrap();
        assert_eq!((settings.server.host.as_str(), settings.server.port), ("127.0.0.1", 8080));
        assert_eq!(settings.redis.url, None);
        assert_eq!(settings.presence.lease, Duration::from_secs(10));
        assert_eq!(settings.presence.last_seen_ttl, Duration::from_hours(30 * 24));
        assert_eq!(settings.telemetry.log_format, LogFormat::Text);
        assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
    }

    #[test]
    fn every_key_of_the_default_file_is_read_and_explained() {
        let unchanged = format!("{:?}", Settings::default());
        for (key, value) in Layers::defaults().values {
            let other = match (key.as_str(), &value.kind) {
                (_, ValueKind::I64(number)) => ValueKind::I64(number + 1),
                ("redis.url", _) => "redis://elsewhere".into(),
                ("telemetry.log_format", _) => "json".into(),
                (_, ValueKind::Array(_)) => vec!["https://a.example"].into(),
                _ => "another".into(),
            };
            let mut layers = Layers::defaults();
            layers.set(&key, Value::new(None, other), &key, "a test").unwrap();
            assert_ne!(format!("{:?}", layers.deserialize().unwrap()), unchanged, "{key} is not read");

            let name = key.split_once('.').unwrap().1;
            let before = DEFAULTS.split(&format!("\n{name} = ")).next().unwrap();
            assert!(before.lines().next_back().unwrap().starts_with("# "), "{key} has no comment");
        }
    }

    #[test]
    fn the_ranges_that_the_default_file_tells_are_those_that_are_checked() {
        let mut numbers = Layers::defaults().values;
        for (name, _, range) in Settings::default().ranges() {
            assert!(numbers.remove(name).is_some(), "{name} is not in the file");
            let (section, key) = name.split_once('.').unwrap();
            let section = DEFAULTS.split(&format!("[{section}]\n")).nth(1).unwrap();
            let comment = section.split(&format!("\n{key} = ")).next().unwrap().rsplit("\n\n").next().unwrap();
            let text = format!("Range {}..={}", range.start(), range.end());
            assert!(comment.replace("\n# ", " ").contains(&text), "{name}: {text} is not in: {comment}");

            let beyond = load(&format!("{name} = {}", range.end() + 1), &[]).unwrap_err();
            assert!(beyond.starts_with(&format!("{name} = ")) && beyond.contains("out of range"), "{beyond}");
            assert!(beyond.ends_with(&format!("({name} comes from FILE)")), "{beyond}");
            let negative = load(&format!("{name} = -1"), &[]).unwrap_err();
            assert!(negative.starts_with(&format!("{name} = -1 is out of range")), "{negative}");
        }
        numbers.retain(|_, value| matches!(value.kind, ValueKind::I64(_)));
        assert!(numbers.is_empty(), "no range: {numbers:?}");
    }

    #[test]
    fn each_contradiction_names_both_settings_and_who_set_them() {
        for (toml, line) in [
            ("presence.beat_ms = 4000", "presence.lease_ms = 10000 must be at least 3 times presence.beat_ms = 4000"),
            (
                "redis.call_timeout_ms = 5001",
                "redis.call_timeout_ms = 5001 must be at most half of presence.lease_ms = 10000",
            ),
            ("presence.grace_ms = 10000", "presence.grace_ms = 10000 must be less than presence.lease_ms = 10000"),
            (
                "drain.reconnect_spread_ms = 7001",
                "drain.reconnect_spread_ms = 7001 plus presence.grace_ms = 3000 \
                 must be at most presence.lease_ms = 10000",
            ),
            (
                "presence.user_ttl_ms = 39999",
                "presence.user_ttl_ms = 39999 must be at least 4 times presence.lease_ms = 10000",
            ),
            (
                "websocket.silence_timeout_ms = 50000",
                "websocket.silence_timeout_ms = 50000 must be more than 2 times websocket.ping_interval_ms = 25000",
            ),
            ("limits.page_default = 10001", "limits.page_default = 10001 must be at most limits.page_max = 10000"),
        ] {
            let name = toml.split_once(' ').unwrap().0;
            assert_eq!(load(toml, &[]).unwrap_err(), format!("{line} ({name} comes from FILE)"));
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_that_names_setting_and_source() {
        for (toml, environment, line) in [
            ("[server]\nprot = 1", ("", ""), "unknown setting \"server.prot\" in FILE"),
            ("[servers]", ("", ""), "unknown setting \"servers\" in FILE"),
            ("server = 1", ("", ""), "unknown setting \"server\" in FILE"),
            ("[server.port]\na = 1", ("", ""), "unknown setting \"server.port.a\" in FILE"),
            ("", ("ROLLCALL__X__Y", "1"), "unknown setting \"ROLLCALL__X__Y\" in the environment"),
            ("", ("ROLLCALL__SERVER", ""), "unknown setting \"ROLLCALL__SERVER\" in the environment"),
            ("server.port = true", ("", ""), "server.port must be an integer, not true (server.port comes from FILE)"),
            ("server.port = 80.5", ("", ""), "server.port must be an integer, not 80.5 (server.port comes from FILE)"),
            ("redis.url = ['pw']", ("", ""), "redis.url must be a string, not a list (redis.url comes from FILE)"),
            (
                "",
                ("PORT", "x"),
                "server.port must be an integer, not \"x\" (server.port comes from PORT in the environment)",
            ),
            (
                "telemetry.log_format = 'xml'",
                ("", ""),
                "telemetry.log_format must be \"text\" or \"json\" (telemetry.log_format comes from FILE)",
            ),
            (
                "",
                ("REDIS_URL", "rediss://:pw@h"),
                "redis.url must start with redis://: TLS (rediss://) is not supported \
                 (redis.url comes from REDIS_URL in the environment)",
            ),
            (
                "redis.url = 'pw",
                ("", ""),
                "settings file FILE: TOML parse error at line 1, column 16: \
                 invalid literal string, expected `'`",
            ),
        ] {
            assert_eq!(load(toml, &[environment]).unwrap_err(), line);
        }
        for toml in [
            "server.host = ''",
            "server.host = 'http://a'",
            "server.cors_allowed_origins = ['*', 'https://a.example']",
            "server.cors_allowed_origins = ['https://a.example/']",
            "server.cors_allowed_origins = ['https://A.example']",
            "server.cors_allowed_origins = ['a.example']",
            "redis.prefix = ''",
            "redis.prefix = 'a:'",
            "redis.prefix = 'a b'",
            "telemetry.log_filter = 'rollcall=loud'",
        ] {
            let (name, value) = toml.split_once(" = ").unwrap();
            let value = value.replace('\'', "\"");
            let line = load(toml, &[]).unwrap_err();
            assert!(line.starts_with(&format!("{name} = {value} must be ")), "{line}");
        }
        let missing = Settings::load(Some(Path::new("/no/such.toml")), HashMap::new()).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read settings file /no/such.toml");
    }

    #[test]
    fn later_layers_win() {
        let toml = "[server]\nhost = 'file'\nport = 1\nworkers = 1\n[presence]\n[redis]\nurl = 'redis://file'";
        let long = [("ROLLCALL__SERVER__HOST", "long"), ("ROLLCALL__SERVER__PORT", "2"), ("ROLLCALL__REDIS__URL", "")];
        let short =
            [("PORT", "3"), ("HOST", ""), ("REDIS_URL", "redis://:pw@short:1/2"), ("ROLLCALL_PORT", "tcp://k8s")];
        let of_file = load(toml, &[]).unwrap();
        assert_eq!((of_file.server.host.as_str(), of_file.server.port, of_file.server.workers), ("file", 1, 1));
        assert_eq!(of_file.server.max_sockets, Settings::default().server.max_sockets);
        let of_long = load(toml, &long).unwrap();
        assert_eq!((of_long.server.host.as_str(), of_long.server.port, of_long.server.workers), ("long", 2, 1));
        assert_eq!(of_long.redis.url.unwrap().expose_secret(), "redis://file", "an empty variable is unset");
        let of_short = load(toml, &[long.as_slice(), short.as_slice()].concat()).unwrap();
        assert_eq!((of_short.server.host.as_str(), of_short.server.port, of_short.server.workers), ("long", 3, 1));
        assert_eq!(of_short.redis.url.unwrap().expose_secret(), "redis://:pw@short:1/2");
        let list = load("", &[("ROLLCALL__SERVER__CORS_ALLOWED_ORIGINS", "https://a.example, app://b:1")]).unwrap();
        assert_eq!(list.server.cors_allowed_origins, ["https://a.example", "app://b:1"]);
    }

    #[test]
    fn a_redis_url_shows_where_but_never_the_password() {
        for (text, shown) in [
            ("redis://host", "redis://host:6379/0"),
            ("redis://:s3cret@host:7000/2", "redis://host:7000/2"),
            ("redis://user:s3cr@et@10.0.0.1/", "redis://10.0.0.1:6379/0"),
            ("redis://:s3cret@[::1]", "redis://[::1]:6379/0"),
            ("redis://:s3cret@[::1]:7000", "redis://[::1]:7000/0"),
        ] {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.expose_secret()), (shown, text));
            let settings = load("", &[("REDIS_URL", text)]).unwrap();
            assert!(!format!("{settings:?}").contains("s3cr"), "{settings:?}");
        }
        for text in [
            "s3cret",
            "rediss://:s3cret@h",
            "redis://",
            "redis://:s3/cret@h",
            "redis://:s3#cret@h",
            "redis://:s3cret@h:0",
            "redis://:s3cret@h:x",
            "redis://:s3cret@h/x",
            "redis://:s3cret@h/0?db=1",
            "redis://h s3cret",
            "unix:///s3cret",
        ] {
            let line = load("", &[("REDIS_URL", text)]).unwrap_err();
            assert!(line.starts_with("redis.url must ") && !line.contains("s3") && !line.contains("cret"), "{line}");
        }
    }
}
