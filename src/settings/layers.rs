//! Defaults, file and environment. A later layer wins over an earlier one. This file also knows which layer set each
//! value.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use config::{Config, ConfigError, File, FileFormat, Source, Value, ValueKind};

use super::files::{FILE_SUFFIX, SECRET_KEYS, read_secret};
use super::{Settings, SettingsError};

/// The first layer, and the reference: unit, range and reason of every key.
pub(crate) const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Names that platforms for services use. They win over the long names, because they are set for each process.
pub(super) const SHORT_NAMES: [(&str, &str); 4] = [
    ("HOST", "server.host"),
    ("PORT", "server.port"),
    ("REDIS_URL", "redis.url"),
    ("REDIS_PASSWORD", "redis.password"),
];

/// Where variables are, for an error message.
const ENVIRONMENT: &str = "the environment";

/// The values by their names in `config/default.toml` (`presence.lease_ms`). If a value is not a default, its source is
/// here too.
///
/// config-rs parses and deserializes, but we merge. config-rs would take `true` for 1, and round 80.5. It would look
/// for `x.toml` when it is told to read `x`. And it would forget which variable a value came from.
pub(crate) struct Layers {
    pub(super) values: BTreeMap<String, Value>,
    set_by: BTreeMap<String, String>,
}

impl Layers {
    pub(crate) fn defaults() -> Self {
        let table = File::from_str(DEFAULTS, FileFormat::Toml).collect().expect("config/default.toml is TOML");
        Self { values: flatten(Value::from(table)).into_iter().collect(), set_by: BTreeMap::new() }
    }

    pub(crate) fn add_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        let table = File::from_str(&text, FileFormat::Toml).collect().map_err(|error| {
            // A TOML error draws an excerpt with bars. It is left out: the error is one line, and the excerpt may have
            // a password.
            let text = error.to_string();
            let lines: Vec<_> = text.lines().filter(|line| !line.contains('|')).collect();
            SettingsError::Syntax { path: path.to_owned(), problem: lines.join(": ") }
        })?;
        let origin = path.display().to_string();
        flatten(Value::from(table)).into_iter().try_for_each(|(key, value)| self.set(&key, value, &key, &origin))
    }

    pub(crate) fn add_environment(&mut self, environment: &HashMap<String, String>) -> Result<(), SettingsError> {
        let long_name = |key: &str| format!("ROLLCALL__{}", key.to_uppercase().replace('.', "__"));
        let keys: Vec<String> = self.values.keys().cloned().collect();
        let mut known: BTreeSet<String> = keys.iter().map(|key| long_name(key)).collect();
        known.extend(SECRET_KEYS.map(|key| long_name(key) + FILE_SUFFIX));
        // The first complaint should not depend on a hash.
        let unknown = environment.keys().filter(|name| name.starts_with("ROLLCALL__") && !known.contains(*name)).min();
        if let Some(name) = unknown {
            return Err(SettingsError::Unknown { name: name.clone(), origin: ENVIRONMENT.to_owned() });
        }
        for key in SECRET_KEYS {
            let short = SHORT_NAMES.into_iter().filter(|(_, of)| *of == key).map(|(name, _)| name.to_owned());
            exclude_files(&[long_name(key)].into_iter().chain(short).collect::<Vec<_>>(), environment)?;
        }
        keys.iter().try_for_each(|key| self.set_variable(key, &long_name(key), environment))?;
        SHORT_NAMES.into_iter().try_for_each(|(name, key)| self.set_variable(key, name, environment))
    }

    /// Takes a value from a variable, or from the file that a second variable names. An empty variable counts as unset.
    fn set_variable(
        &mut self,
        key: &str,
        name: &str,
        environment: &HashMap<String, String>,
    ) -> Result<(), SettingsError> {
        let file_name = format!("{name}{FILE_SUFFIX}");
        let path = text_of(&file_name, environment).filter(|_| SECRET_KEYS.contains(&key));
        match (text_of(name, environment), path) {
            (Some(text), _) => self.set_text(key, text, ',', name),
            (None, Some(path)) => self.set_text(key, &read_secret(&file_name, path.as_ref())?, '\n', &file_name),
            (None, None) => Ok(()),
        }
    }

    /// Reads a text as the type of the default: a number, `true` or `false`, text, or a list with `separator` between its parts.
    fn set_text(&mut self, key: &str, text: &str, separator: char, variable: &str) -> Result<(), SettingsError> {
        let kind = match self.values.get(key).map(|default| &default.kind) {
            Some(ValueKind::I64(_)) => text.parse().map_or_else(|_| text.into(), ValueKind::I64),
            Some(ValueKind::Boolean(_)) => text.parse().map_or_else(|_| text.into(), ValueKind::Boolean),
            Some(ValueKind::Array(_)) => text.split(separator).map(str::trim).collect::<Vec<_>>().into(),
            _ => text.into(),
        };
        self.set(key, Value::new(None, kind), variable, ENVIRONMENT)
    }

    /// Puts one value over the default. The default also says which type the value must have. `name` is the setting as
    /// its `place` spells it.
    pub(super) fn set(&mut self, key: &str, value: Value, name: &str, place: &str) -> Result<(), SettingsError> {
        let Some(default) = self.values.get(key) else {
            let is_section = |known: &String| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
            // This is a section in which all keys are commented out.
            if matches!(value.kind, ValueKind::Table(_)) && self.values.keys().any(is_section) {
                return Ok(());
            }
            return Err(SettingsError::Unknown { name: name.to_owned(), origin: place.to_owned() });
        };
        let is_string = |value: &Value| matches!(value.kind, ValueKind::String(_));
        let mismatch = match (&default.kind, &value.kind) {
            (ValueKind::I64(_), ValueKind::I64(_))
            | (ValueKind::Boolean(_), ValueKind::Boolean(_))
            | (ValueKind::String(_), ValueKind::String(_)) => None,
            (ValueKind::Array(_), ValueKind::Array(items)) if items.iter().all(is_string) => None,
            (ValueKind::I64(_), _) => Some("an integer"),
            (ValueKind::Boolean(_), _) => Some("true or false"),
            (ValueKind::Array(_), _) => Some("a list of strings"),
            _ => Some("a string"),
        };
        let origin = if name == key { place.to_owned() } else { format!("{name} in {place}") };
        self.set_by.insert(key.to_owned(), origin);
        if let Some(expected) = mismatch {
            let problem = format!("{key} must be {expected}, not {}", describe(key, &value.kind));
            return Err(self.say_who_set(SettingsError::invalid(&[key], problem)));
        }
        self.values.insert(key.to_owned(), value);
        Ok(())
    }

    pub(crate) fn deserialize(&self) -> Result<Settings, SettingsError> {
        let mut values = self.values.iter();
        let builder =
            values.try_fold(Config::builder(), |builder, (key, value)| builder.set_override(key, value.clone()));
        builder.and_then(|builder| builder.build()?.try_deserialize()).map_err(|error| match error {
            ConfigError::At { error, key: Some(key), .. } => SettingsError::invalid(&[&key], format!("{key} {error}")),
            // The types were right. So the size or the sign does not fit.
            ConfigError::Type { expected, key: Some(key), .. } => {
                let value = self.values.get(&key).map_or_else(String::new, |value| describe(&key, &value.kind));
                SettingsError::invalid(&[&key], format!("{key} = {value} is out of range: it must be {expected}"))
            }
            other => SettingsError::invalid(&[], other.to_string()),
        })
    }

    pub(crate) fn say_who_set(&self, mut error: SettingsError) -> SettingsError {
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
    // Tables are hashed. The first complaint should not depend on that.
    leaves.sort_by(|(one, _), (other, _)| one.cmp(other));
    leaves
}

/// The value of a setting for an error message. The content of a list or a table is left out, because it may be a mistyped URL
/// with a password. Nothing of a secret is shown.
fn describe(key: &str, kind: &ValueKind) -> String {
    match kind {
        ValueKind::Table(_) => "a section".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::String(_) if SECRET_KEYS.contains(&key) => "a string".to_owned(),
        ValueKind::Boolean(_) if SECRET_KEYS.contains(&key) => "a boolean".to_owned(),
        _ if SECRET_KEYS.contains(&key) => "a number".to_owned(),
        ValueKind::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

/// The text of a variable. An empty one counts as unset.
fn text_of<'a>(name: &str, environment: &'a HashMap<String, String>) -> Option<&'a String> {
    environment.get(name).filter(|text| !text.is_empty())
}

/// A secret that is in a variable and in a file is a mistake. Each of the two may have any of its names.
fn exclude_files(names: &[String], environment: &HashMap<String, String>) -> Result<(), SettingsError> {
    let first_set = |suffix: &str| {
        let mut names = names.iter().map(|name| format!("{name}{suffix}"));
        names.find(|name| text_of(name, environment).is_some())
    };
    match (first_set(""), first_set(FILE_SUFFIX)) {
        (Some(value), Some(file)) => {
            let problem = format!("{value} and {file} exclude each other: set one of them");
            Err(SettingsError::invalid(&[], problem))
        }
        _ => Ok(()),
    }
}
