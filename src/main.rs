//! The command line: wiring only. What it starts is [`rollcall::app::App`], which tests start too.

mod cli;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use rollcall::app::App;
use rollcall::settings::{ServerSettings, Settings};
use rollcall::{shutdown, telemetry};

/// A presence service: who is online, right now.
#[derive(Parser)]
#[command(version, disable_help_subcommand = true)]
#[command(after_help = "Settings come from built-in defaults, then FILE, then ROLLCALL__SECTION__KEY \
(ROLLCALL__PRESENCE__GRACE_MS=5000),\nthen HOST, PORT and REDIS_URL. config/default.toml lists and explains them all.")]
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
    Healthcheck,
    /// Ask a node why a user is, or is not, online
    Explain {
        /// The user's id
        user: String,
        /// The node to ask. It answers only programs on its own machine [default: the node with the same settings]
        #[arg(long, value_name = "http://HOST:PORT")]
        url: Option<String>,
        /// Print the answer as the node gives it
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let Cli { config, command } = Cli::parse();
    let result = match command.unwrap_or(Command::Serve) {
        Command::Serve => serve(config),
        Command::Healthcheck => healthcheck(config),
        Command::Explain { user, url, json } => explain(config, url, &user, json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The alternate form is the whole chain on one line, joined with ": ".
            eprintln!("rollcall: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Option<PathBuf>) -> anyhow::Result<()> {
    let settings = Settings::load(config.as_deref(), environment())?;
    telemetry::init(&settings.telemetry)?;
    actix_rt::System::new().block_on(async {
        let app = App::build(settings).await?;
        // This comes before the announcement, because a reader of the announcement may send a signal at once.
        let signals = shutdown::Signals::install().context("cannot listen for signals")?;
        announce(&app);
        app.run(signals).await
    })
}

/// Asks `/healthz` of the node that runs with the same settings. It uses no HTTP client, because only one line of the
/// answer matters. The image has no other tool for this.
fn healthcheck(config: Option<PathBuf>) -> anyhow::Result<()> {
    const DEADLINE: Duration = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address(config)?, DEADLINE).context("not listening")?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status)?;
    anyhow::ensure!(status.starts_with("HTTP/1.1 200 "), "not alive: {}", status.trim_end());
    Ok(())
}

fn explain(config: Option<PathBuf>, url: Option<String>, user: &str, as_json: bool) -> anyhow::Result<()> {
    let url = match url {
        Some(url) => url,
        None => format!("http://{}", address(config)?),
    };
    cli::explain::run(&url, user, as_json)
}

/// Where the node listens that runs with the same settings.
fn address(config: Option<PathBuf>) -> anyhow::Result<SocketAddr> {
    let ServerSettings { host, port, .. } = Settings::load(config.as_deref(), environment())?.server;
    let address = (host.as_str(), port).to_socket_addrs()?.next().context("server.host has no address")?;
    let ip = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    Ok(SocketAddr::new(ip, port))
}

/// Tells a person where to look. A script may wait for the first line: then requests are served.
fn announce(app: &App) {
    let lines = format!(
        "rollcall {} listening on http://{}\nstore: {}\nnode: {}\n",
        env!("CARGO_PKG_VERSION"),
        app.addr(),
        app.store_name(),
        app.node_id(),
    );
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
