//! Who may say who a client is.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::settings::ServerSettings;

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
