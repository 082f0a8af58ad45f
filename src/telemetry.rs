//! Log lines go to stderr. So stdout has only what a person or a script reads at the start.

use std::io::IsTerminal;

use anyhow::{Context, anyhow};
use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, TelemetrySettings};

/// Starts logging for the whole process. Only `main` calls it, once.
///
/// Tests that start the app in their own process do not call it, because a process has one logger.
///
/// # Errors
/// `telemetry.log_filter` is not a filter, or the process already has a logger. The caller must give up, because a
/// service that cannot log must not look healthy.
pub fn init(settings: &TelemetrySettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log_filter)
        .with_context(|| format!("telemetry.log_filter = {:?} is not a log filter", settings.log_filter))?;
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are only for a person. In a file or a log collector they do not help.
        .with_ansi(std::io::stderr().is_terminal());
    match settings.log_format {
        LogFormat::Text => logger.try_init(),
        LogFormat::Json => logger.json().flatten_event(true).try_init(),
    }
    .map_err(|error| anyhow!(error).context("cannot start logging"))
}
