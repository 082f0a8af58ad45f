//! Log lines go to stderr. So stdout has only what a person or a script reads at the start. Each line names the node.

use std::fmt;
use std::io::IsTerminal;

use anyhow::{Context, anyhow};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, format};
use tracing_subscriber::registry::LookupSpan;

use crate::settings::{LogFormat, TelemetrySettings};

/// What is not logged unless the setting says otherwise. actix-http logs each request that is no HTTP as an error. So whoever
/// reaches the port could fill the log, and wake somebody.
const SILENCED: &str = "actix_http=off";

/// Starts logging for the whole process. Only `main` calls it, once. `node` is the name of the node (`server.name`).
///
/// Tests that start the app in their own process do not call it, because a process has one logger.
///
/// # Errors
/// `telemetry.log_filter` is not a filter, or the process already has a logger. The caller must give up, because a
/// service that cannot log must not look healthy.
pub fn init(settings: &TelemetrySettings, node: &str) -> anyhow::Result<()> {
    let filter = filter(&settings.log_filter)?;
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are only for a person. In a file or a log collector they do not help.
        .with_ansi(std::io::stderr().is_terminal());
    let node = node.to_owned();
    match settings.log_format {
        LogFormat::Text => logger.with_timer(NamedTime(node)).try_init(),
        LogFormat::Json => {
            let lines = format().json().flatten_event(true);
            logger.json().event_format(NamedJson { node, lines }).try_init()
        }
    }
    .map_err(|error| anyhow!(error).context("cannot start logging"))
}

/// What is logged. By itself, an empty filter lets errors through, but behind another one it lets nothing through.
fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    let levels = if text.split(',').all(str::is_empty) { "error" } else { text };
    EnvFilter::try_new(format!("{SILENCED},{levels}"))
        .with_context(|| format!("telemetry.log_filter = {text:?} is not a log filter"))
}

/// The time of a line of text, and the node.
struct NamedTime(String);

impl FormatTime for NamedTime {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(out)?;
        write!(out, " {}", self.0)
    }
}

/// A JSON object: `node`, and the members that a line has anyway.
struct NamedJson {
    node: String,
    lines: format::Format<format::Json>,
}

impl<S, N> FormatEvent<S, N> for NamedJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.lines.format_event(context, Writer::new(&mut line), event)?;
        // The name of a node needs no escape (`server.name`).
        write!(out, "{{\"node\":\"{}\",", self.node)?;
        out.write_str(line.strip_prefix('{').unwrap_or(&line))
    }
}

#[cfg(test)]
mod tests {
    use tracing::level_filters::LevelFilter;

    use super::*;

    #[test]
    fn an_empty_filter_lets_errors_through() {
        for (text, expected) in [
            ("", LevelFilter::ERROR),
            (",", LevelFilter::ERROR),
            ("warn", LevelFilter::WARN),
            ("off", LevelFilter::OFF),
            ("rollcall::store=debug", LevelFilter::DEBUG),
        ] {
            let filter = filter(text).unwrap();
            assert_eq!(filter.max_level_hint(), Some(expected), "{text:?}");
            assert!(filter.to_string().contains(SILENCED), "{filter}");
        }
    }
}
