//! The command line: wiring only. What it starts is [`rollcall::app::App`], which tests start too.

mod cli;

use std::collections::HashMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use rollcall::app::{self, App};
use rollcall::auth::{self, NewApiKey, TokenWish};
use rollcall::doctor::{Finding, Verdict};
use rollcall::settings::{LogFormat, ServerSettings, Settings};
use rollcall::{clock, shutdown, telemetry};

use self::cli::announcement::{self, Announcement};
use self::cli::destination::Destination;
use self::cli::doctor::Line;
use self::cli::healthcheck::Question;
use self::cli::join::Presence;
use self::cli::top::Asked;
use self::cli::watch::Watched;
use self::cli::way::{Trust, Way};

/// A presence service: who is online, right now.
#[derive(Parser)]
#[command(version, disable_help_subcommand = true)]
#[command(after_help = "Settings come from built-in defaults, then FILE, then ROLLCALL__SECTION__KEY \
(ROLLCALL__PRESENCE__GRACE_MS=5000),\nthen HOST, PORT, REDIS_URL and REDIS_PASSWORD. A secret may be in a file (REDIS_PASSWORD_FILE).
config/default.toml lists and explains them all.")]
struct Cli {
    /// Settings to change from their defaults, as TOML
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve presence until SIGTERM or SIGINT (the default)
    Serve,
    /// Ask the node on this machine whether it is alive: status 0 if so (for a container's health check)
    Healthcheck {
        /// Ask whether it is ready: whether it knows who is online, so that clients may be sent to it
        #[arg(long)]
        ready: bool,
    },
    /// Check Redis, the clock, the limits of this machine and the other nodes: status 0 if nothing is bad
    Doctor {
        #[command(flatten)]
        node: AskedNode,
    },
    /// Ask a node why a user is, or is not, online
    Explain {
        /// The user's id
        user: String,
        #[command(flatten)]
        node: AskedNode,
        /// Print the answer as the node gives it
        #[arg(long)]
        json: bool,
    },
    /// Print who comes, changes and goes, a line for each event
    Watch {
        /// The node to hear, or the load balancer: http://, https://, ws:// or wss:// [default: the node with the same settings]
        #[arg(value_name = "URL")]
        url: Option<String>,
        #[command(flatten)]
        watched: Watched,
        #[command(flatten)]
        token: Token,
    },
    /// Be online until SIGINT or SIGTERM, or while a command runs: for scripts. The first line says that others can see it
    Join {
        /// Where to connect to, as for `watch` [default: the node with the same settings]
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        #[command(flatten)]
        presence: Presence,
        #[command(flatten)]
        token: Token,
    },
    /// Show the nodes, their sockets and rates, and who comes and goes, every second
    Top {
        #[command(flatten)]
        node: AskedNode,
        /// Print it once, without rates. Where there is no terminal, that happens anyway
        #[arg(long)]
        once: bool,
    },
    /// Print a token of a user, signed with auth.secret: for development, not for a service
    Token {
        /// The user's id
        #[arg(long, value_name = "ID")]
        user: String,
        /// A scope, such as presence:read; may be repeated [default: those of auth.default_scopes]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// A room that the user may enter; may be repeated [default: all]
        #[arg(long = "room", value_name = "ROOM")]
        rooms: Vec<String>,
        /// The name that the token states
        #[arg(long)]
        name: Option<String>,
        /// How long the token holds
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        expires_in: u64,
    },
    /// Print a new API key, and its entry for auth.api_keys
    ApiKey {
        /// The name of the key in logs and metrics: a-z, 0-9 and -
        #[arg(long)]
        name: String,
        /// A scope, such as admin; may be repeated
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<String>,
    },
}

/// Which node is asked.
#[derive(clap::Args)]
struct AskedNode {
    /// The node to ask. Without a key, it answers only programs on its own machine [default: the node with the same
    /// settings]
    #[arg(long, value_name = "http(s)://HOST:PORT")]
    url: Option<String>,
    /// A file with an API key of the scope admin [default: the file that ROLLCALL_KEY_FILE names]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// What a client shows.
#[derive(clap::Args)]
struct Token {
    /// A file with a token, for auth.mode = "jwt" [default: the file that ROLLCALL_TOKEN_FILE names]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Cli { config, command } = Cli::parse();
    let result = match command.unwrap_or(Command::Serve) {
        Command::Serve => return serve(config),
        Command::Join { url, presence, token } => return join(config, url, presence, token).unwrap_or_else(fail),
        Command::Watch { url, watched, token } => watch(config, url, watched, token),
        Command::Top { node, once } => top(config, node, once),
        Command::Healthcheck { ready } => healthcheck(config, if ready { Question::Ready } else { Question::Alive }),
        Command::Doctor { node } => doctor(config, node),
        Command::Explain { user, node, json } => explain(config, node, &user, json),
        Command::Token { user, scopes, rooms, name, expires_in } => {
            let lifetime = Duration::from_secs(expires_in);
            token(config, &TokenWish { user, scopes, rooms, name, lifetime })
        }
        Command::ApiKey { name, scopes } => api_key(&name, &scopes),
    };
    result.map_or_else(fail, |()| ExitCode::SUCCESS)
}

fn fail(error: anyhow::Error) -> ExitCode {
    // The alternate form is the whole chain on one line, joined with ": ".
    cli::say(format_args!("{error:#}"));
    ExitCode::FAILURE
}

/// What makes it end is said in the format of the log, and whatever `telemetry.log_filter` leaves out.
fn serve(config: Option<PathBuf>) -> ExitCode {
    let start_log = || {
        let settings = Settings::load(config.as_deref(), environment())?;
        telemetry::init(&settings.telemetry, &settings.server.node_name())?;
        Ok(settings)
    };
    let settings = match start_log() {
        Ok(settings) => settings,
        Err(error) => return fail(error),
    };
    let (name, format) = (settings.server.node_name(), settings.telemetry.log_format);
    match (run(settings), format) {
        (Ok(()), _) => ExitCode::SUCCESS,
        (Err(error), LogFormat::Text) => fail(error),
        (Err(error), LogFormat::Json) => {
            let line = announcement::failure(&name, &error, &clock::rfc3339(clock::now()));
            // If it cannot be written, the status says enough.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> anyhow::Result<()> {
    let (name, format) = (settings.server.node_name(), settings.telemetry.log_format);
    actix_rt::System::new().block_on(async {
        let app = App::build(settings).await?;
        // This comes before the announcement, because a reader of the announcement may send a signal at once.
        let signals = shutdown::Signals::install().context("cannot listen for signals")?;
        announce(&app, &name, format);
        app.run(signals).await
    })
}

/// Asks the node that runs with the same settings.
fn healthcheck(config: Option<PathBuf>, question: Question) -> anyhow::Result<()> {
    let server = server_settings(config)?;
    let trust = server.tls_certificate_path.is_some().then_some(Trust::Anybody);
    cli::healthcheck::run(address(&server)?, &way(server, trust), question)
}

/// The way to a node with these settings.
fn way(server: ServerSettings, trust: Option<Trust>) -> Way {
    Way { trust, proxies: Some(Arc::new(move |ip| server.expects_proxy_header_of(ip))) }
}

/// Looks at everything from here, and asks a node which versions run.
fn doctor(config: Option<PathBuf>, node: AskedNode) -> anyhow::Result<()> {
    let settings = Settings::load(config.as_deref(), environment())?;
    let findings = actix_rt::System::new().block_on(app::examine(&settings));
    let lines = findings.into_iter().map(|Finding { about, verdict, what }| {
        let verdict = match verdict {
            Verdict::Good => "ok",
            Verdict::Doubtful => "warn",
            Verdict::Bad => "bad",
        };
        Line { verdict, about, what }
    });
    let mut lines: Vec<_> = lines.collect();
    let (url, way, key_file) = asked(settings.server, node)?;
    lines.push(cli::doctor::versions(&url, way, key_file.as_deref(), env!("CARGO_PKG_VERSION")));
    cli::doctor::run(&lines)
}

fn explain(config: Option<PathBuf>, node: AskedNode, user: &str, as_json: bool) -> anyhow::Result<()> {
    let (url, way, key_file) = asked(server_settings(config)?, node)?;
    cli::explain::run(&url, way, user, key_file.as_deref(), as_json)
}

fn watch(config: Option<PathBuf>, url: Option<String>, watched: Watched, token: Token) -> anyhow::Result<()> {
    let destination = destination(config, url, token)?;
    as_client(cli::watch::run(&destination, watched))
}

fn join(config: Option<PathBuf>, url: Option<String>, presence: Presence, token: Token) -> anyhow::Result<ExitCode> {
    let destination = destination(config, url, token)?;
    as_client(cli::join::run(&destination, presence))
}

fn top(config: Option<PathBuf>, node: AskedNode, once: bool) -> anyhow::Result<()> {
    let server = server_settings(config)?;
    let trust = Trust::OrAuthority(server.tls_certificate_path.clone());
    let (url, way, key_file) = asked(server, node)?;
    let way = Way { trust: Some(trust), ..way };
    as_client(cli::top::run(Asked { url, way, key_file }, once))
}

/// Where a client connects to. Without a URL, that is the node with the same settings.
fn destination(config: Option<PathBuf>, url: Option<String>, token: Token) -> anyhow::Result<Destination> {
    let server = server_settings(config)?;
    let url = url.map_or_else(|| own_url(&server), Ok)?;
    let trust = Trust::OrAuthority(server.tls_certificate_path.clone());
    let token_file = token.token_file.or_else(|| file_of_environment("ROLLCALL_TOKEN_FILE"));
    Destination::parse(&url, way(server, Some(trust)), token_file)
}

/// Runs a client. What still waits when it is over is left alone: a reader who stands still, or a name service.
fn as_client<T>(client: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(client);
    runtime.shutdown_background();
    result
}

/// Where the asked node is, the way to it, and the file with the key.
fn asked(server: ServerSettings, node: AskedNode) -> anyhow::Result<(String, Way, Option<PathBuf>)> {
    let url = node.url.map_or_else(|| own_url(&server), Ok)?;
    let trust = server.tls_certificate_path.clone().map(Trust::Only);
    Ok((url, way(server, trust), node.key_file.or_else(|| file_of_environment("ROLLCALL_KEY_FILE"))))
}

/// Where the node listens that runs with these settings, for a client.
fn own_url(server: &ServerSettings) -> anyhow::Result<String> {
    let scheme = if server.tls_certificate_path.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{}", address(server)?))
}

/// The file that a variable names. An empty variable counts as unset, as it does for settings.
fn file_of_environment(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn token(config: Option<PathBuf>, wish: &TokenWish) -> anyhow::Result<()> {
    let settings = Settings::load(config.as_deref(), environment())?;
    let token = auth::mint(&settings, wish)?;
    Ok(writeln!(std::io::stdout().lock(), "{token}")?)
}

/// The key goes to stdout, so that it can be written to a file. What a person needs besides goes to stderr.
fn api_key(name: &str, scopes: &[String]) -> anyhow::Result<()> {
    let NewApiKey { key, entry } = NewApiKey::generate(name, scopes)?;
    writeln!(
        std::io::stderr().lock(),
        "Keep the key: it cannot be shown again. The service needs only its entry in auth.api_keys:\n{entry}"
    )?;
    Ok(writeln!(std::io::stdout().lock(), "{key}")?)
}

fn server_settings(config: Option<PathBuf>) -> anyhow::Result<ServerSettings> {
    Ok(Settings::load(config.as_deref(), environment())?.server)
}

/// Where the node listens that runs with these settings.
fn address(server: &ServerSettings) -> anyhow::Result<SocketAddr> {
    let address =
        (server.host.as_str(), server.port).to_socket_addrs()?.next().context("server.host has no address")?;
    let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    Ok(SocketAddr::new(ip, server.port))
}

/// Tells a person where to look. A script may wait for the first line: then requests are served. Where the log is JSON, this is,
/// too: a collector reads both.
fn announce(app: &App, name: &str, format: LogFormat) {
    let (url, store, id) = (app.url(), app.store_name(), app.node_id().to_string());
    let announcement = Announcement { name, id: &id, url: &url, store: &store };
    let lines = match format {
        LogFormat::Text => announcement.text(),
        LogFormat::Json => announcement.json(&clock::rfc3339(clock::now())),
    };
    let mut stdout = std::io::stdout().lock();
    // If nobody reads it (a closed pipe), the node serves all the same.
    let _ = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
}

/// The process's environment as text. `std::env::vars` would panic on a variable that is not Unicode, even if that
/// variable is not ours.
fn environment() -> HashMap<String, String> {
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}
