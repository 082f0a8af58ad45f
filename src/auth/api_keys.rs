//! The API keys of the application's servers. The settings have their hashes alone.

use std::sync::Arc;

use anyhow::{bail, ensure};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use super::credential::{Credential, KEY_PREFIX};
use super::{Right, Rights};
use crate::settings::Secret;

/// The keys that are accepted.
pub(super) struct ApiKeys(Vec<ApiKey>);

/// One key.
struct ApiKey {
    name: Arc<str>,
    rights: Rights,
    hash: [u8; HASH_BYTES],
}

/// Bytes of a SHA-256. A key has as many random bytes, so one round of a fast hash is enough.
const HASH_BYTES: usize = 32;

const NAME_BYTES_MAX: usize = 32;

/// So many keys may have one name: the old one and the new one, while they are changed.
const KEYS_A_NAME: usize = 2;

impl ApiKeys {
    /// Reads `auth.api_keys`: each is `NAME:SCOPES:SHA256`, with `+` between scopes.
    ///
    /// # Errors
    /// One is not of this form. The error says which by its place, and never quotes it: a key itself may be there by mistake.
    pub(super) fn parse(entries: &[Secret]) -> anyhow::Result<Self> {
        let mut keys: Vec<ApiKey> = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let place = index + 1;
            let Some(key) = parse(entry.expose_secret()) else {
                bail!("auth.api_keys: entry {place} must be NAME:SCOPES:SHA256, as `rollcall api-key` prints it");
            };
            let n_same = keys.iter().filter(|other| other.name == key.name).count();
            ensure!(n_same < KEYS_A_NAME, "auth.api_keys: entry {place} has the same name as {n_same} others");
            let is_new = keys.iter().all(|other| other.hash != key.hash);
            ensure!(is_new, "auth.api_keys: entry {place} has the same hash as another one");
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// The names of the keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|key| &key.name)
    }

    /// The name and the rights of a key. It is compared with all keys, and each comparison takes the same time. So the time of
    /// the answer tells nothing.
    pub(super) fn find(&self, shown: &Credential) -> Option<(Arc<str>, Rights)> {
        let hash = digest(&SHA256, shown.expose_secret().as_bytes());
        let mut found = None;
        for key in &self.0 {
            if verify_slices_are_equal(&key.hash, hash.as_ref()).is_ok() {
                found = Some(key);
            }
        }
        found.map(|key| (key.name.clone(), key.rights))
    }
}

fn parse(entry: &str) -> Option<ApiKey> {
    // A scope has a colon, too.
    let (name, rest) = entry.split_once(':')?;
    let (scopes, hash) = rest.rsplit_once(':')?;
    if !is_name(name) {
        return None;
    }
    let rights: Vec<Right> = scopes.split('+').map(Right::from_name).collect::<Option<_>>()?;
    Some(ApiKey { name: name.into(), rights: Rights::of(&rights), hash: from_hex(hash)? })
}

/// A name is safe as a label of a metric, and in a log.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

fn from_hex(text: &str) -> Option<[u8; HASH_BYTES]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes = text.as_bytes();
    if bytes.len() != 2 * HASH_BYTES {
        return None;
    }
    let mut hash = [0; HASH_BYTES];
    for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new API key, for `rollcall api-key`.
pub struct NewApiKey {
    /// The key. It is shown once, and kept nowhere.
    pub key: String,
    /// Its entry for `auth.api_keys`.
    pub entry: String,
}

impl NewApiKey {
    /// Makes a key with this name and these scopes.
    ///
    /// # Errors
    /// The name or a scope is none, or the system has no randomness.
    pub fn generate(name: &str, scopes: &[String]) -> anyhow::Result<Self> {
        ensure!(is_name(name), "a name has 1 to {NAME_BYTES_MAX} characters of a-z, 0-9 and -");
        ensure!(!scopes.is_empty(), "a key without a scope may do nothing");
        for scope in scopes {
            let names = Right::ALL.map(Right::as_str).join(", ");
            ensure!(Right::from_name(scope).is_some(), "{scope:?} is no scope: the scopes are {names}");
        }
        let mut random = [0; HASH_BYTES];
        if aws_lc_rs::rand::fill(&mut random).is_err() {
            bail!("the system has no randomness");
        }
        let key = format!("{KEY_PREFIX}{}", to_hex(&random));
        let hash = to_hex(digest(&SHA256, key.as_bytes()).as_ref());
        Ok(Self { key, entry: format!("{name}:{}:{hash}", scopes.join("+")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(entries: &[&str]) -> Result<ApiKeys, String> {
        let entries: Vec<Secret> = entries.iter().map(|entry| entry.parse().unwrap()).collect();
        ApiKeys::parse(&entries).map_err(|error| error.to_string())
    }

    fn generate(name: &str, scopes: &[&str]) -> NewApiKey {
        NewApiKey::generate(name, &scopes.iter().map(|scope| (*scope).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_new_key_is_found_by_its_entry() {
        let (old, new) = (generate("backend", &["admin"]), generate("backend", &["presence:read", "metrics"]));
        let keys = keys(&[&old.entry, &new.entry]).unwrap();
        let find = |text: &str| keys.find(&Credential::new(text.into()).unwrap());
        assert_eq!(find(&old.key), Some(("backend".into(), Rights::of(&[Right::Admin]))));
        assert_eq!(find(&new.key), Some(("backend".into(), Rights::of(&[Right::Read, Right::Metrics]))));
        for wrong in [&old.key[..old.key.len() - 1], &old.entry, "rck_", ""] {
            assert_eq!(find(wrong), None);
        }
    }

    #[test]
    fn an_entry_that_is_none_is_refused_and_not_quoted() {
        let NewApiKey { key, entry } = generate("a", &["admin"]);
        let hash = entry.rsplit_once(':').unwrap().1;
        for bad in [
            String::new(),
            key.clone(),
            format!("a:{hash}"),
            format!("a::{hash}"),
            format!(":admin:{hash}"),
            format!("A:admin:{hash}"),
            format!("{}:admin:{hash}", "a".repeat(33)),
            format!("a:root:{hash}"),
            format!("a:admin+:{hash}"),
            format!("a:admin:{}", &hash[1..]),
            format!("a:admin:{}g", &hash[1..]),
            format!("a:admin:{key}"),
        ] {
            let error = keys(&["ok:metrics:".to_owned() + &"0".repeat(64), bad.clone()].each_ref().map(String::as_str));
            let error = error.err().unwrap_or_else(|| panic!("{bad} is accepted"));
            assert!(error.starts_with("auth.api_keys: entry 2 must be"), "{error}");
            assert!(!error.contains(&key) && !error.contains(hash), "{error}");
        }
    }

    #[test]
    fn a_name_stands_twice_at_most_and_a_hash_once() {
        let entries = [(); 3].map(|()| generate("a", &["admin"]).entry);
        let entries = entries.each_ref().map(String::as_str);
        assert!(keys(&entries[..2]).is_ok());
        assert!(keys(&entries).err().unwrap().contains("the same name"));
        let other_name = format!("b{}", &entries[0][1..]);
        assert!(keys(&[entries[0], &other_name]).err().unwrap().contains("the same hash"));
    }

    #[test]
    fn a_key_is_made_only_of_what_can_be_read_again() {
        assert!(NewApiKey::generate("Back end", &["admin".to_owned()]).is_err());
        assert!(NewApiKey::generate("backend", &[]).is_err());
        assert!(NewApiKey::generate("backend", &["root".to_owned()]).is_err());
        let key = generate("backend", &["admin"]).key;
        assert!(Credential::new(key.as_str().into()).unwrap().is_key());
    }
}
