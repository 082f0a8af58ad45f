//! Where and how requests are taken, and which proxies stand before the node.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::{duration_ms, none_if_empty};

/// Where and how requests are taken.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// IP address or host name to listen on.
    pub host: String,
    /// TCP port. 0 takes a free port.
    pub port: u16,
    /// The name of this node. Empty is the name of the machine.
    pub name: String,
    /// Worker threads. 0 means one for each core.
    pub workers: usize,
    /// Most sockets of this process. Each socket is an open file, and open files are often limited.
    pub max_sockets: usize,
    /// Most HTTP connections of this process, besides the sockets.
    pub max_http_connections: usize,
    /// How long a client may take for a piece of an HTTP answer.
    #[serde(rename = "write_timeout_ms", with = "duration_ms")]
    pub write_timeout: Duration,
    /// How long an HTTP connection may stay without a further answer.
    #[serde(rename = "request_timeout_ms", with = "duration_ms")]
    pub request_timeout: Duration,
    /// Whether there is a page for people at `/`.
    pub page: bool,
    /// Exact origins of web pages that may read presence, or `*` alone for all.
    pub cors_allowed_origins: Vec<String>,
    /// Proxies before this node: networks like `10.0.0.0/8`, or single addresses.
    pub trusted_proxies: Vec<String>,
    /// Whether connections from trusted proxies begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// PEM file with the certificate of this node. `None` means no TLS. Tied to `tls_key_path`.
    #[serde(deserialize_with = "none_if_empty")]
    pub tls_certificate_path: Option<PathBuf>,
    /// PEM file with the key of the certificate. Tied to `tls_certificate_path`.
    #[serde(deserialize_with = "none_if_empty")]
    pub tls_key_path: Option<PathBuf>,
    /// How often the two files are looked at.
    #[serde(rename = "tls_reload_ms", with = "duration_ms")]
    pub tls_reload: Duration,
}

/// Longest name of a node, in bytes.
const NAME_BYTES_MAX: usize = 32;

impl ServerSettings {
    /// The name of this node. It lasts over restarts. If it is not set, it is that of the machine, as far as a name may have its
    /// characters.
    pub fn node_name(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let machine = kernel.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
        let name: String =
            machine.trim().chars().take(NAME_BYTES_MAX).map(|c| if is_of_name(c) { c } else { '-' }).collect();
        if name.is_empty() { "node".to_owned() } else { name }
    }

    /// Whether the name can be one, or is not set.
    pub(super) fn has_good_name(&self) -> bool {
        self.name.len() <= NAME_BYTES_MAX && self.name.chars().all(is_of_name)
    }

    /// Whether every web page may read presence.
    pub(crate) fn allows_any_origin(&self) -> bool {
        self.cors_allowed_origins.iter().any(|allowed| allowed == "*")
    }

    /// Whether web pages of this origin may.
    pub(crate) fn allows_origin(&self, origin: &str) -> bool {
        self.allows_any_origin() || self.cors_allowed_origins.iter().any(|allowed| allowed == origin)
    }

    /// Whether a connection from this address begins with a PROXY header.
    pub fn expects_proxy_header_of(&self, ip: IpAddr) -> bool {
        self.proxy_protocol == ProxyProtocol::On && TrustedProxies::new(self).contains(ip)
    }

    /// The networks of `server.trusted_proxies`.
    ///
    /// # Errors
    /// The first text that is neither a network nor an address, or that is everybody.
    pub(super) fn trusted_networks(&self) -> Result<Vec<IpNet>, &str> {
        let network = |text: &String| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok();
        let networks = self.trusted_proxies.iter().map(|text| match network(text) {
            Some(network) if network.prefix_len() > 0 && !is_mapped(&network) => Ok(network),
            _ => Err(text.as_str()),
        });
        networks.collect()
    }
}

/// Whether a character may be in the name of a node. A load balancer compares it as it is in a URL.
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Whether these are IPv4 addresses, written as IPv6 (`::ffff:10.0.0.0/104`). Clients have them in the other form.
fn is_mapped(network: &IpNet) -> bool {
    matches!(network.addr(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// Whether connections begin with a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ProxyProtocol {
    /// They never do.
    Off,
    /// Those from trusted proxies do, and only those.
    On,
}

impl TryFrom<String> for ProxyProtocol {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            _ => Err("must be \"off\" or \"on\""),
        }
    }
}

/// The proxies before this node (`server.trusted_proxies`). Anybody can write a PROXY header or `X-Forwarded-For`. So only
/// these are believed.
pub(crate) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Those that the settings name. The settings were validated, so each of them is a network.
    pub(crate) fn new(settings: &ServerSettings) -> Self {
        Self(settings.trusted_networks().unwrap_or_default())
    }

    /// Whether a proxy has this address.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_name_that_a_url_can_have() {
        let mut settings = crate::settings::Settings::default().server;
        let name = settings.node_name();
        settings.name.clone_from(&name);
        assert!(!name.is_empty() && settings.has_good_name(), "{name}");
        for (name, is_good) in
            [("node1", true), ("a-b_C", true), ("a.b", false), ("ë", false), (&"x".repeat(33), false)]
        {
            settings.name = name.to_owned();
            assert_eq!((settings.node_name().as_str(), settings.has_good_name()), (name, is_good));
        }
    }

    #[test]
    fn a_mapped_address_is_the_address_that_it_stands_for() {
        let mut settings = crate::settings::Settings::default().server;
        settings.trusted_proxies = vec!["10.0.0.0/8".to_owned(), "2001:db8::1".to_owned()];
        let proxies = TrustedProxies::new(&settings);
        for (ip, is_trusted) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("11.1.2.3", false),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
        ] {
            assert_eq!(proxies.contains(ip.parse().unwrap()), is_trusted, "{ip}");
        }
    }
}
