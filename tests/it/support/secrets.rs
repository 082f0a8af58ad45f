//! A run with secrets in the settings of every node, at debug level. `scripts/test --secrets` looks for them in all that was
//! written. In an ordinary run, nothing here does anything.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use rollcall::settings::Settings;
use tracing_subscriber::EnvFilter;

/// What must not be in any output. `scripts/test` knows it, too.
const MARKER: &str = "s3cr3t-7f1c90aa";

/// The folder for what nodes write. It is none in an ordinary run.
fn folder() -> Option<PathBuf> {
    std::env::var_os("ROLLCALL_TEST_SECRETS").map(PathBuf::from)
}

/// Puts a password into settings whose URL of Redis has none. Redis takes any password of a user who needs none.
pub(super) fn put_into(settings: &mut Settings, url: &str) {
    if folder().is_some() && !url.contains('@') {
        settings.redis.username = Some("default".to_owned());
        settings.redis.password = Some(MARKER.parse().expect("any text"));
    }
}

/// Lets the nodes in threads log.
pub(super) fn listen() {
    static LOGGING: Once = Once::new();
    let Some(folder) = folder() else { return };
    LOGGING.call_once(|| {
        let file = std::fs::File::create(new_file(&folder)).expect("a log can be created");
        let logger = tracing_subscriber::fmt().with_env_filter(EnvFilter::new("debug")).with_ansi(false);
        logger.with_writer(Mutex::new(file)).init();
    });
}

/// The variables that do the same for a process.
pub(super) fn environment(given: &[(&str, &str)]) -> Vec<(&'static str, &'static str)> {
    if folder().is_none() {
        return Vec::new();
    }
    let is_given = |name: &str| given.iter().any(|(known, _)| *known == name);
    let is_open = |(name, url): &(&str, &str)| *name == "REDIS_URL" && url.starts_with("redis") && !url.contains('@');
    let has_redis = given.iter().any(is_open);
    let mut variables = vec![("ROLLCALL__TELEMETRY__LOG_FILTER", "debug")];
    if has_redis && !is_given("ROLLCALL__REDIS__USERNAME") {
        variables.extend([("ROLLCALL__REDIS__USERNAME", "default"), ("REDIS_PASSWORD", MARKER)]);
    }
    variables.retain(|(name, _)| !is_given(name));
    variables
}

/// Keeps what a process has written.
pub(super) fn keep(text: &str) {
    if let Some(folder) = folder() {
        std::fs::write(new_file(&folder), text).expect("what was written can be kept");
    }
}

fn new_file(folder: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("{}-{number}.log", std::process::id()))
}
