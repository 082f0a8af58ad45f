//! The load tool: measures the service on this machine and prints each figure beside what was meant.
//!
//!     scripts/bench --help
//!
//! It starts its own Redis, its own nodes and what they are compared with, all on loopback, and ends them by pid. Every
//! workload counts what was delivered and fails if that is not exactly what was due. CPU time and memory are read from
//! `/proc`, Redis's CPU time from `INFO cpu`. Progress goes to stderr, the table to stdout.

mod client;
mod crowd;
mod floor;
mod frames;
mod ghost;
mod hostile;
mod http;
mod ordinary;
mod plain_http;
mod polling;
mod process;
mod progress;
mod resp;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod support;
mod table;
mod tally;
mod workloads;

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand, ValueEnum};

use crate::process::Programs;
use crate::progress::Progress;
use crate::table::Row;
use crate::workloads::{HowLarge, Lab, Size, Workload};

/// Measures the service and prints each figure beside what was meant.
#[derive(Parser)]
#[command(bin_name = "scripts/bench", after_help = "docs/performance.md explains the figures and the JSON.")]
struct Cli {
    /// The release build of the service; the default is the one built with this program
    #[arg(long, global = true, value_name = "FILE")]
    server: Option<PathBuf>,
    /// The redis-server to start
    #[arg(long, global = true, value_name = "FILE", default_value = "redis-server")]
    redis_server: PathBuf,
    /// Writes the figures as JSON to this file, too
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs workloads; the same as no command, if none is named
    Run {
        /// Which, in this order; all of them unless some are named
        workloads: Vec<Workload>,
    },
    /// Opens more sockets than one process can hold, over several nodes and as many processes of this tool
    Many {
        /// Sockets in all, at most 18000 a node
        #[arg(long, value_name = "N", default_value_t = 30_000, value_parser = at_least_one())]
        sockets: usize,
        /// Nodes, each of which takes an equal share
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = at_least_one())]
        nodes: usize,
    },
    /// Measures how large rooms may become
    Sizes {
        /// Which, in this order; all of them unless some are named
        sizes: Vec<Size>,
        #[command(flatten)]
        how_large: HowLarge,
    },
    /// Is a crowd's part (started by `many`)
    #[command(hide = true)]
    Agent { addr: SocketAddr, prefix: String, first: usize, count: usize },
    /// Is a crowd of hostile clients (started by a workload)
    #[command(hide = true)]
    Hostile { addr: SocketAddr },
    /// Is the floor (started by the workloads)
    #[command(hide = true)]
    Floor { threads: usize },
    /// Is the ordinary way to the same service (started by a workload)
    #[command(hide = true)]
    Ordinary,
    /// Is the plain-text HTTP server (started by a workload)
    #[command(hide = true)]
    PlainHttp,
    /// Is a roster of a million users (started by a workload)
    #[command(hide = true)]
    Roster,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1_000_000)
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Floor { threads }) => return floor::run(threads),
        Some(Command::Ordinary) => return ordinary::run(),
        Some(Command::PlainHttp) => return plain_http::run(),
        Some(Command::Roster) => return workloads::roster(),
        _ => {}
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        tokio::select! {
            result = command(cli) => result,
            // The processes are ended when their owners are dropped.
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })
}

async fn command(cli: Cli) -> Result<()> {
    let started = Instant::now();
    let progress = Progress::new();
    // Before the minutes are spent. A run that fails leaves no figures of another.
    let create = |path: &PathBuf| File::create(path).with_context(|| format!("cannot write {}", path.display()));
    let json = cli.json.as_ref().map(create).transpose()?;
    let scratch = std::env::temp_dir().join(format!("rollcall-load-{}", std::process::id()));
    let programs = || -> Result<Programs> {
        std::fs::create_dir_all(&scratch)?;
        progress.say(&format!("== logs are in {}", scratch.display()));
        let beside = std::env::current_exe()?.ancestors().nth(2).context("a folder")?.join("rollcall");
        let server = cli.server.clone().unwrap_or(beside);
        anyhow::ensure!(server.is_file(), "{} is not there: cargo build --release", server.display());
        Ok(Programs { server, redis_server: cli.redis_server.clone(), scratch: scratch.clone() })
    };
    let rows = match cli.command.unwrap_or(Command::Run { workloads: Vec::new() }) {
        Command::Agent { addr, prefix, first, count } => return crowd::agent(addr, &prefix, first, count).await,
        Command::Hostile { addr } => return hostile::run(addr).await,
        Command::Many { sockets, nodes } => {
            workloads::beyond_one_process(programs()?, &progress, sockets, nodes).await?
        }
        Command::Sizes { sizes, how_large } => how_large.run(programs()?, &progress, &sizes).await?,
        Command::Run { workloads } => run(programs()?, &progress, &workloads).await?,
        Command::Floor { .. } | Command::Ordinary | Command::PlainHttp | Command::Roster => {
            unreachable!("these need no runtime")
        }
    };
    drop(progress);
    print!("{}", table::text(&rows));
    if let Some(mut file) = json {
        writeln!(file, "{:#}", table::json(&rows, started.elapsed())).context("cannot write the JSON")?;
    }
    eprintln!("== took {:.0} s", started.elapsed().as_secs_f64());
    std::fs::remove_dir_all(&scratch)?;
    Ok(())
}

async fn run(programs: Programs, progress: &Progress, workloads: &[Workload]) -> Result<Vec<Row>> {
    let workloads = if workloads.is_empty() { Workload::value_variants() } else { workloads };
    let values: Vec<_> = workloads.iter().filter_map(Workload::to_possible_value).collect();
    let names: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
    let lab = Lab::open(programs, progress, &names).await?;
    let mut rows = Vec::new();
    for (i, (workload, name)) in workloads.iter().zip(&names).enumerate() {
        progress.begin(&format!("{name} ({} of {})", i + 1, names.len()), &names[i + 1..]);
        let new = lab.run(*workload).await.with_context(|| format!("workload {name}"))?;
        progress.say(&table::text(&new));
        rows.extend(new);
    }
    Ok(rows)
}

#[test]
fn no_two_arguments_of_a_command_are_in_each_others_way() {
    <Cli as clap::CommandFactory>::command().debug_assert();
}
