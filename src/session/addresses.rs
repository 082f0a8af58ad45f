//! What one address may do: how many sockets it has, and how often it comes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::limits::{AddressRate, Used};
use crate::metrics::{AddressMetrics, RefusedBecause};
use crate::settings::{Settings, TrustedProxies};

/// What the addresses of this node's clients have used of their limits.
pub(crate) struct Addresses {
    /// Who may say which address a client has.
    proxies: TrustedProxies,
    max_head_bytes: usize,
    /// Zero means any number.
    max_sockets: usize,
    upgrades: Option<AddressRate>,
    requests: Option<AddressRate>,
    table: Mutex<Table>,
    has_warned: AtomicBool,
    metrics: AddressMetrics,
}

/// A socket's place among those of its address. Dropping it gives the place up. A socket that is exempt takes none.
pub(crate) struct AddressPlace(Option<(Arc<Addresses>, AddressKey)>);

/// Whose limits are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum AddressKey {
    V4(Ipv4Addr),
    /// The first 64 bits. A household gets as many addresses as it likes below them.
    V6(u64),
    /// All who come while the table is full.
    Others,
}

/// What is known of each address. Its hasher has a seed, because clients choose their addresses.
struct Table {
    addresses: HashMap<AddressKey, PerAddress>,
    swept_at: Instant,
}

struct PerAddress {
    n_sockets: usize,
    upgrades: Used,
    requests: Used,
    last_came: Instant,
}

/// Most addresses in the table. They take about 6 MB.
const MAX_ADDRESSES: usize = 65_536;

/// How often at most a full table is searched for addresses that it can forget. A search takes about a millisecond.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// After this time, an address has nothing used any more.
const MEMORY: Duration = Duration::from_secs(AddressRate::BURST_SECONDS as u64);

impl Addresses {
    /// No address has come yet. The limits are `limits.sockets_per_address`, `limits.upgrades_per_address`,
    /// `limits.http_requests_per_address` and `limits.head_bytes`.
    pub(crate) fn new(settings: &Settings, metrics: AddressMetrics) -> Arc<Self> {
        let limits = &settings.limits;
        Arc::new(Self {
            proxies: TrustedProxies::new(&settings.server),
            max_head_bytes: limits.head_bytes,
            max_sockets: limits.sockets_per_address,
            upgrades: AddressRate::new(limits.upgrades_per_address),
            requests: AddressRate::new(limits.http_requests_per_address),
            table: Mutex::new(Table { addresses: HashMap::new(), swept_at: Instant::now() }),
            has_warned: AtomicBool::new(false),
            metrics,
        })
    }

    /// Whether any limit is counted by address.
    pub(crate) fn are_bounded(&self) -> bool {
        self.max_sockets > 0 || self.upgrades.is_some() || self.requests.is_some()
    }

    /// Who may say which address a client has.
    pub(crate) fn proxies(&self) -> &TrustedProxies {
        &self.proxies
    }

    /// Whether the head of a request has this size. If not, the error is the limit.
    ///
    /// # Errors
    /// The head has more bytes than `limits.head_bytes`, which is returned.
    pub(crate) fn admit_head(&self, n_bytes: usize) -> Result<(), usize> {
        if n_bytes <= self.max_head_bytes {
            return Ok(());
        }
        self.metrics.head_too_large();
        Err(self.max_head_bytes)
    }

    /// Lets a socket of this address in. Without an address it is exempt.
    ///
    /// # Errors
    /// The address has too many sockets, or comes too often.
    pub(crate) fn enter(self: &Arc<Self>, from: Option<IpAddr>) -> Result<AddressPlace, RefusedBecause> {
        let Some(ip) = from.filter(|_| self.max_sockets > 0 || self.upgrades.is_some()) else {
            return Ok(AddressPlace(None));
        };
        let mut table = self.table();
        let (key, address) = table.entry(AddressKey::of(ip));
        if let Some(upgrades) = &self.upgrades {
            upgrades.check(&address.upgrades).map_err(RefusedBecause::AddressBusy)?;
        }
        if self.max_sockets > 0 && address.n_sockets >= self.max_sockets {
            return Err(RefusedBecause::AddressFull);
        }
        address.n_sockets += 1;
        drop(table);
        Ok(AddressPlace(Some((self.clone(), key))))
    }

    /// Lets a request of this address pass. Without an address it is exempt.
    ///
    /// # Errors
    /// The address asks too often. After this time, one more request passes.
    pub(crate) fn ask(&self, from: Option<IpAddr>) -> Result<(), Duration> {
        let (Some(ip), Some(requests)) = (from, &self.requests) else { return Ok(()) };
        let passed = requests.check(&self.table().entry(AddressKey::of(ip)).1.requests);
        if passed.is_err() {
            self.metrics.too_many_requests();
        }
        passed
    }

    /// Somebody who is no trusted proxy names a client. If it is a load balancer, all its clients count as one. So this is
    /// said, once.
    pub(crate) fn note_unnamed_proxy(&self, ip: IpAddr) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %ip,
                "A request from {ip} has an X-Forwarded-For, which is not believed. If a load balancer is there, name it in \
                 server.trusted_proxies. Otherwise all its clients share the limits of one address.",
            );
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Each change is done in one step, so what a panic leaves behind can be used.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AddressKey {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => Self::V6((u128::from(ip) >> 64) as u64),
        }
    }
}

impl Table {
    /// What is known of an address, which comes now. If there is no room for it, it counts among the others.
    fn entry(&mut self, key: AddressKey) -> (AddressKey, &mut PerAddress) {
        let now = Instant::now();
        let key = if self.has_room_for(&key, now) { key } else { AddressKey::Others };
        let address = self.addresses.entry(key).or_insert_with(|| PerAddress {
            n_sockets: 0,
            upgrades: Used::default(),
            requests: Used::default(),
            last_came: now,
        });
        address.last_came = now;
        (key, address)
    }

    fn has_room_for(&mut self, key: &AddressKey, now: Instant) -> bool {
        if self.addresses.len() < MAX_ADDRESSES || self.addresses.contains_key(key) {
            return true;
        }
        if now.duration_since(self.swept_at) >= SWEEP_INTERVAL {
            self.swept_at = now;
            self.addresses.retain(|_, address| {
                address.n_sockets > 0 || now.saturating_duration_since(address.last_came) < MEMORY
            });
        }
        self.addresses.len() < MAX_ADDRESSES
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let Some((addresses, key)) = &self.0 else { return };
        if let Some(address) = addresses.table().addresses.get_mut(key) {
            address.n_sockets -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;

    fn addresses(change: impl FnOnce(&mut Settings)) -> Arc<Addresses> {
        let mut settings = Settings::default();
        change(&mut settings);
        Addresses::new(&settings, AddressMetrics::new(&mut Registry::default()))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_ipv6_address_counts_with_its_neighbours_and_a_mapped_one_as_ipv4() {
        let addresses = addresses(|settings| settings.limits.sockets_per_address = 1);
        for (first, same, other) in [
            ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
            ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ] {
            let place = addresses.enter(ip(first)).ok().unwrap();
            assert_eq!(addresses.enter(ip(same)).err(), Some(RefusedBecause::AddressFull), "{same}");
            assert!(addresses.enter(ip(other)).is_ok(), "{other}");
            drop(place);
            assert!(addresses.enter(ip(same)).is_ok(), "{same}");
        }
    }

    #[test]
    fn those_who_come_to_a_full_table_share_one_place() {
        let addresses = addresses(|settings| settings.limits.sockets_per_address = 1);
        let at = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let places: Vec<_> = (0..MAX_ADDRESSES as u32).map(|n| addresses.enter(at(n)).ok().unwrap()).collect();
        let _first = addresses.enter(at(1 << 24)).ok().unwrap();
        assert_eq!(addresses.enter(at(1 << 25)).err(), Some(RefusedBecause::AddressFull));
        assert_eq!(addresses.enter(at(1)).err(), Some(RefusedBecause::AddressFull), "who was there is still known");
        assert_eq!(addresses.table().addresses.len(), MAX_ADDRESSES + 1);

        drop(places);
        let mut table = addresses.table();
        let long_ago = Instant::now().checked_sub(2 * MEMORY).unwrap();
        table.swept_at = long_ago;
        table.addresses.values_mut().for_each(|address| address.last_came = long_ago);
        drop(table);
        assert!(addresses.enter(at(1 << 25)).is_ok(), "those who have gone are forgotten");
        assert_eq!(addresses.table().addresses.len(), 2);
    }

    #[test]
    fn nothing_is_kept_without_a_limit() {
        let addresses = addresses(|_| ());
        let _place = addresses.enter(ip("192.0.2.1")).ok().unwrap();
        assert_eq!(addresses.ask(ip("192.0.2.1")), Ok(()));
        assert!(!addresses.are_bounded() && addresses.table().addresses.is_empty());
    }
}
