//! Secrets in files of their own, as containers have them.

use std::path::Path;

use super::SettingsError;

/// The settings that are never shown. Only they may come from files: `ROLLCALL__REDIS__PASSWORD_FILE` names the file with
/// `redis.password`.
pub(super) const SECRET_KEYS: [&str; 5] =
    ["auth.api_keys", "auth.public_key", "auth.secret", "redis.password", "redis.url"];

/// What a variable's name ends in if the variable names a file.
pub(super) const FILE_SUFFIX: &str = "_FILE";

/// Reads the secret that the file of `variable` has. One line end at the end does not belong to it, because editors and
/// `echo` add one.
///
/// # Errors
/// The file cannot be read, or has nothing in it. No error quotes what it has.
pub(super) fn read_secret(variable: &str, path: &Path) -> Result<String, SettingsError> {
    let mut text = std::fs::read_to_string(path).map_err(|source| SettingsError::UnreadableSecret {
        variable: variable.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let ending = ["\r\n", "\n"].into_iter().find(|ending| text.ends_with(ending));
    text.truncate(text.len() - ending.map_or(0, str::len));
    if text.is_empty() {
        return Err(SettingsError::EmptySecret { variable: variable.to_owned(), path: path.to_owned() });
    }
    Ok(text)
}
