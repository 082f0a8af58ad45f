//! What a socket's client runs on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::nesting;

/// What the client of one socket says that it runs on: a small JSON object with a `kind`.
///
/// Like a profile, it is checked and encoded once, where it comes in.
#[derive(Clone, PartialEq, Eq)]
pub struct Device(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    kind: Box<str>,
    json: Box<str>,
}

/// Why an object is no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The encoded object is over [`Device::MAX_BYTES`].
    #[error("must be at most {} bytes of JSON", Device::MAX_BYTES)]
    TooLong,
    /// It has objects and arrays within one another, more than 32 levels.
    #[error("must have at most {} levels of objects and arrays", nesting::MAX)]
    TooDeep,
    /// There is no kind, or it is not of the form that [`Device::parse`] names.
    #[error("must have a `kind` of 1 to {} characters of a-z, A-Z, 0-9, '-', '_'", Device::MAX_KIND)]
    Kind,
}

impl Device {
    /// Longest encoding in bytes. It is kept with each socket.
    pub const MAX_BYTES: usize = 256;

    /// Longest kind in characters. Every node keeps the kinds of all users.
    pub const MAX_KIND: usize = 16;

    /// Takes an object. Its `kind` is 1 to [`Device::MAX_KIND`] characters of `a-zA-Z0-9_-`. All other members are the
    /// client's own.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn parse(object: &Map<String, Value>) -> Result<Self, DeviceError> {
        let kind = object.get("kind").and_then(Value::as_str).filter(|kind| is_kind(kind)).ok_or(DeviceError::Kind)?;
        if nesting::is_too_deep(object) {
            return Err(DeviceError::TooDeep);
        }
        let json = serde_json::to_string(object).expect("a JSON object always encodes");
        if json.len() > Self::MAX_BYTES {
            return Err(DeviceError::TooLong);
        }
        Ok(Self(Arc::new(Parts { kind: kind.into(), json: json.into() })))
    }

    /// What the device is: `mobile`, `web`, or another word of the application.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The encoded object.
    pub fn json(&self) -> &str {
        &self.0.json
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.json())
    }
}

/// As a string that holds the encoded object.
impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.json())
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = String::deserialize(deserializer)?;
        let object: Map<String, Value> = serde_json::from_str(&json).map_err(de::Error::custom)?;
        Self::parse(&object).map_err(de::Error::custom)
    }
}

fn is_kind(text: &str) -> bool {
    (1..=Device::MAX_KIND).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// How many sockets of a user have a device of each kind. A socket without a device does not count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Devices(Option<Arc<BTreeMap<Box<str>, u32>>>);

impl Devices {
    /// The kinds, in order, each with its number of sockets.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().flat_map(|kinds| kinds.iter().map(|(kind, n_sockets)| (&**kind, *n_sockets)))
    }

    /// Whether no socket has a device.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl<'a> FromIterator<(&'a str, u32)> for Devices {
    /// Adds up the numbers of each kind. What is no kind is left out.
    fn from_iter<I: IntoIterator<Item = (&'a str, u32)>>(kinds: I) -> Self {
        let mut counted: BTreeMap<Box<str>, u32> = BTreeMap::new();
        for (kind, n_sockets) in kinds {
            if is_kind(kind) && n_sockets > 0 {
                *counted.entry(kind.into()).or_default() += n_sockets;
            }
        }
        Self((!counted.is_empty()).then(|| Arc::new(counted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Device, DeviceError> {
        Device::parse(serde_json::from_str::<Value>(json).unwrap().as_object().unwrap())
    }

    #[test]
    fn a_device_is_small_and_has_a_kind() {
        let device = parse(r#"{"name":"Ann's \"phone\"","kind":"mobile"}"#).unwrap();
        assert_eq!((device.kind(), device.json()), ("mobile", r#"{"kind":"mobile","name":"Ann's \"phone\""}"#));
        for bad in [r#"{}"#, r#"{"kind":5}"#, r#"{"kind":""}"#, r#"{"kind":"a\"b"}"#, r#"{"kind":"12345678901234567"}"#]
        {
            assert_eq!(parse(bad), Err(DeviceError::Kind), "{bad}");
        }
        let text = serde_json::to_string(&device).unwrap();
        assert_eq!(serde_json::from_str::<Device>(&text).unwrap(), device);
        assert!(serde_json::from_str::<Device>(r#""{}""#).is_err());
        let long = format!(r#"{{"kind":"web","name":"{}"}}"#, "x".repeat(256));
        assert_eq!(parse(&long), Err(DeviceError::TooLong));
    }

    #[test]
    fn devices_are_counted_by_kind() {
        let devices: Devices =
            [("web", 1), ("mobile", 1), ("web", 2), ("no kind", 1), ("none", 0)].into_iter().collect();
        assert_eq!(devices.iter().collect::<Vec<_>>(), [("mobile", 1), ("web", 3)]);
        assert!(Devices::default().is_empty());
    }
}
