//! What values are allowed, and what must hold between them.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::{ProxyProtocol, Settings, SettingsError};

impl Settings {
    /// Checks each value's range and the relations between values.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`] for the first complaint: give up and show it.
    pub(crate) fn validate(&self) -> Result<(), SettingsError> {
        for (name, value, range) in self.ranges() {
            if !range.contains(&value) {
                let (least, most) = range.into_inner();
                return Err(SettingsError::invalid(
                    &[name],
                    format!("{name} = {value} is out of range {least}..={most}"),
                ));
            }
        }
        self.validate_texts()?;
        self.validate_proxies()?;
        self.auth.validate()?;
        self.validate_tls()?;
        self.validate_login()?;
        for (holds, left, words, right) in self.relations() {
            if !holds {
                let side: Vec<_> = left.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                let names: Vec<_> = left.iter().chain([&right]).map(|(name, _)| *name).collect();
                let problem = format!("{} must be {words} {} = {}", side.join(" plus "), right.0, right.1);
                return Err(SettingsError::invalid(&names, problem));
            }
        }
        Ok(())
    }

    /// Every number and its range; a test compares them with `config/default.toml`.
    pub(super) fn ranges(&self) -> [(&'static str, u64, RangeInclusive<u64>); 67] {
        let Self { server, auth, redis, presence, rooms, websocket, socketio, limits, fanout, drain, telemetry } = self;
        [
            ("server.port", server.port.into(), 0..=65_535),
            ("server.workers", server.workers as u64, 0..=1024),
            ("server.max_sockets", server.max_sockets as u64, 1..=1_000_000),
            ("server.max_http_connections", server.max_http_connections as u64, 1..=1_000_000),
            ("server.write_timeout_ms", ms(server.write_timeout), 10..=600_000),
            ("server.request_timeout_ms", ms(server.request_timeout), 10..=600_000),
            ("server.tls_reload_ms", ms(server.tls_reload), 100..=86_400_000),
            ("auth.jwks_refresh_ms", ms(auth.jwks_refresh), 1000..=86_400_000),
            ("auth.jwks_min_interval_ms", ms(auth.jwks_min_interval), 100..=3_600_000),
            ("auth.jwks_timeout_ms", ms(auth.jwks_timeout), 50..=60_000),
            ("auth.leeway_ms", ms(auth.leeway), 0..=600_000),
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
            ("presence.last_seen_min_ms", ms(presence.last_seen_min), 0..=86_400_000),
            ("presence.audit_ms", ms(presence.audit), 100..=86_400_000),
            ("presence.idle_ms", ms(presence.idle), 0..=86_400_000),
            ("presence.active_every_ms", ms(presence.active_every), 100..=86_400_000),
            ("rooms.linger_ms", ms(rooms.linger), 0..=3_600_000),
            ("websocket.ping_interval_ms", ms(websocket.ping_interval), 50..=300_000),
            ("websocket.silence_timeout_ms", ms(websocket.silence_timeout), 101..=900_000),
            ("websocket.join_timeout_ms", ms(websocket.join_timeout), 50..=300_000),
            ("websocket.max_frame_bytes", websocket.max_frame_bytes as u64, 256..=1_048_576),
            ("socketio.join_timeout_ms", ms(socketio.join_timeout), 50..=3_600_000),
            ("socketio.list_below", socketio.list_below as u64, 0..=10_000),
            ("socketio.room_list_below", socketio.room_list_below as u64, 0..=10_000),
            ("socketio.max_payload_bytes", socketio.max_payload_bytes as u64, 256..=1_048_576),
            ("socketio.poll_queue_bytes", socketio.poll_queue_bytes as u64, 4096..=16_777_216),
            ("socketio.max_polling", socketio.max_polling as u64, 0..=500_000),
            ("socketio.upgrade_timeout_ms", ms(socketio.upgrade_timeout), 100..=60_000),
            ("limits.profile_bytes", limits.profile_bytes as u64, 64..=65_536),
            ("limits.metadata_bytes", limits.metadata_bytes as u64, 2..=65_536),
            ("limits.page_default", limits.page_default as u64, 1..=100_000),
            ("limits.page_max", limits.page_max as u64, 1..=100_000),
            ("limits.page_bytes", limits.page_bytes as u64, 4096..=67_108_864),
            ("limits.answers_bytes", limits.answers_bytes as u64, 65_536..=68_719_476_736),
            ("limits.bodies_bytes", limits.bodies_bytes as u64, 1_048_576..=68_719_476_736),
            ("limits.messages_per_second", limits.messages_per_second.into(), 1..=1_000_000),
            ("limits.message_burst", limits.message_burst.into(), 1..=1_000_000),
            ("limits.requests_per_second", limits.requests_per_second.into(), 1..=1_000_000),
            ("limits.request_burst", limits.request_burst.into(), 1..=1_000_000),
            ("limits.sockets_per_user", limits.sockets_per_user as u64, 1..=1_000_000),
            ("limits.rooms_per_socket", limits.rooms_per_socket as u64, 1..=10_000),
            ("limits.watches_per_socket", limits.watches_per_socket as u64, 1..=100_000),
            ("limits.watches", limits.watches as u64, 1..=100_000_000),
            ("limits.joins_per_second", limits.joins_per_second.into(), 1..=1_000_000),
            ("limits.join_queue", limits.join_queue as u64, 1..=100_000),
            ("limits.sockets_per_address", limits.sockets_per_address as u64, 0..=1_000_000),
            ("limits.upgrades_per_address", limits.upgrades_per_address.into(), 0..=1_000_000),
            ("limits.http_requests_per_address", limits.http_requests_per_address.into(), 0..=1_000_000),
            ("limits.unnamed_sockets", limits.unnamed_sockets as u64, 1..=1_000_000),
            ("limits.head_bytes", limits.head_bytes as u64, 1024..=131_072),
            ("fanout.max_tick_ms", ms(fanout.max_tick), 0..=1000),
            ("fanout.log_bytes", fanout.log_bytes as u64, 65_536..=1_073_741_824),
            ("fanout.resync_interval_ms", ms(fanout.resync_interval), 10..=3_600_000),
            ("drain.reconnect_spread_ms", ms(drain.reconnect_spread), 0..=600_000),
            ("drain.timeout_ms", ms(drain.timeout), 10..=600_000),
            ("telemetry.totals_ms", ms(telemetry.totals), 100..=86_400_000),
        ]
    }

    /// What must hold between numbers. The words fit between the two sides of an error message.
    fn relations(&self) -> [(bool, Vec<Named>, &'static str, Named); 12] {
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
        let page_bytes = ("limits.page_bytes", self.limits.page_bytes as u64);
        let watches_per_socket = ("limits.watches_per_socket", self.limits.watches_per_socket as u64);
        let watches = ("limits.watches", self.limits.watches as u64);
        let request_burst = ("limits.request_burst", self.limits.request_burst.into());
        let message_burst = ("limits.message_burst", self.limits.message_burst.into());
        let refresh = ("auth.jwks_refresh_ms", ms(self.auth.jwks_refresh));
        let min_interval = ("auth.jwks_min_interval_ms", ms(self.auth.jwks_min_interval));
        let fetch = ("auth.jwks_timeout_ms", ms(self.auth.jwks_timeout));
        let answers_bytes = ("limits.answers_bytes", self.limits.answers_bytes as u64);
        [
            (lease.1 >= 3 * beat.1, vec![lease], "at least 3 times", beat),
            (call_timeout.1 * 2 <= lease.1, vec![call_timeout], "at most half of", lease),
            (grace.1 < lease.1, vec![grace], "less than", lease),
            (spread.1 + grace.1 <= lease.1, vec![spread, grace], "at most", lease),
            (user_ttl.1 >= 4 * lease.1, vec![user_ttl], "at least 4 times", lease),
            (silence.1 > 2 * ping.1, vec![silence], "more than 2 times", ping),
            (page_default.1 <= page_max.1, vec![page_default], "at most", page_max),
            (request_burst.1 <= message_burst.1, vec![request_burst], "at most", message_burst),
            (min_interval.1 <= refresh.1, vec![min_interval], "at most", refresh),
            (fetch.1 < min_interval.1, vec![fetch], "less than", min_interval),
            (watches_per_socket.1 <= watches.1, vec![watches_per_socket], "at most", watches),
            (answers_bytes.1 >= 4 * page_bytes.1, vec![answers_bytes], "at least 4 times", page_bytes),
        ]
    }

    fn validate_texts(&self) -> Result<(), SettingsError> {
        let require = |holds: bool, name, value: &dyn fmt::Debug, words: &str| {
            if holds {
                Ok(())
            } else {
                Err(SettingsError::invalid(&[name], format!("{name} = {value:?} must be {words}")))
            }
        };
        let host = &self.server.host;
        let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
        require(is_host, "server.host", host, "an IP address or a host name")?;

        let name = &self.server.name;
        require(self.server.has_good_name(), "server.name", name, "empty, or 1 to 32 bytes of A-Z a-z 0-9 _ -")?;

        let paths = &self.socketio.paths;
        let words = "paths like \"/socket.io\", without a slash at the end, and none of a resource";
        require(self.socketio.has_good_paths(), "socketio.paths", paths, words)?;

        let origins = &self.server.cors_allowed_origins;
        let are_origins = origins.iter().all(|origin| is_origin(origin)) || *origins == ["*"];
        let words = "[\"*\"] alone or origins as browsers send them, like \"https://chat.example.com\"";
        require(are_origins, "server.cors_allowed_origins", origins, words)?;

        let prefix = &self.redis.prefix;
        let is_prefix = (1..=64).contains(&prefix.len())
            && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
            && !prefix.ends_with(':');
        require(is_prefix, "redis.prefix", prefix, "1 to 64 bytes of A-Z a-z 0-9 _ . : - without a \":\" at the end")?;
        let is_apart = prefix.split(':').skip(1).all(|part| !KEY_WORDS.contains(&part));
        let words = format!("without the word of a key after a \":\", which are {}", KEY_WORDS.join(", "));
        require(is_apart, "redis.prefix", prefix, &words)?;

        let filter = &self.telemetry.log_filter;
        let words = "a level, or levels by module like \"info,rollcall::store=debug\"";
        require(EnvFilter::try_new(filter).is_ok(), "telemetry.log_filter", filter, words)
    }

    fn validate_proxies(&self) -> Result<(), SettingsError> {
        const PROXIES: &str = "server.trusted_proxies";
        let networks = self.server.trusted_networks().map_err(|text| {
            let problem = format!("{PROXIES} has {text:?}: it may have networks like \"10.0.0.0/8\", without \"/0\"");
            SettingsError::invalid(&[PROXIES], problem)
        })?;
        if self.server.proxy_protocol == ProxyProtocol::On && networks.is_empty() {
            let problem =
                format!("server.proxy_protocol = \"on\" needs {PROXIES}: nobody is trusted to send the header");
            return Err(SettingsError::invalid(&["server.proxy_protocol", PROXIES], problem));
        }
        Ok(())
    }

    fn validate_tls(&self) -> Result<(), SettingsError> {
        let Self { server, redis, .. } = self;
        for (certificate, key) in [
            (
                ("server.tls_certificate_path", &server.tls_certificate_path),
                ("server.tls_key_path", &server.tls_key_path),
            ),
            (("redis.tls_certificate_path", &redis.tls_certificate_path), ("redis.tls_key_path", &redis.tls_key_path)),
        ] {
            if certificate.1.is_some() != key.1.is_some() {
                let problem = format!("{} and {} must be set together", certificate.0, key.0);
                return Err(SettingsError::invalid(&[certificate.0, key.0], problem));
            }
        }
        let is_tls = redis.url.as_ref().is_some_and(|url| url.is_tls());
        match redis.tls_files().first() {
            Some(name) if !is_tls => {
                let problem = format!("{name} needs a redis.url that begins with rediss://");
                Err(SettingsError::invalid(&[name, "redis.url"], problem))
            }
            _ => Ok(()),
        }
    }

    fn validate_login(&self) -> Result<(), SettingsError> {
        let redis = &self.redis;
        let names = [("redis.username", redis.username.is_some()), ("redis.password", redis.password.is_some())];
        match names.iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) if redis.url.as_ref().is_some_and(|url| url.has_login()) => {
                let problem = format!("{name} must be empty, because redis.url has a user or a password");
                Err(SettingsError::invalid(&[name, "redis.url"], problem))
            }
            _ => Ok(()),
        }
    }
}

/// The words that the names of keys begin with after the prefix. No part of a prefix after a `:` may be one of them. Otherwise
/// the user `users:set` of the service `app` would have the key `app:presence:users:set`. That key is also the set of all users
/// of a service with the prefix `app:presence`.
pub(crate) const KEY_WORDS: [&str; 17] = [
    "audit",
    "epoch",
    "events",
    "last-seen",
    "log",
    "node",
    "nodes",
    "presence",
    "registered",
    "revision",
    "room",
    "rooms",
    "signals",
    "socket",
    "sweep",
    "user",
    "users",
];

/// A setting and its value, for an error message.
type Named = (&'static str, u64);

/// `scheme://host[:port]` and nothing else, in lower case. CORS compares bytes, so anything more would never match.
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
