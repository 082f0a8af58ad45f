//! The load tool: measures the service on this machine and prints each figure beside what was meant.
//!
//!     cargo build --release && cargo run --release --example load
//!
//! It starts its own Redis, its own nodes and its own floor, all on loopback, and ends them by pid. Every workload counts
//! what was delivered and fails if that is not exactly what was due. CPU time and memory are read from `/proc`, Redis's CPU
//! time from `INFO cpu`. Progress goes to stderr, the table to stdout.

mod client;
mod crowd;
mod floor;
mod ghost;
mod http;
mod plain_http;
mod process;
mod progress;
mod resp;
mod table;
mod workloads;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

use crate::process::Programs;
use crate::progress::Progress;
use crate::table::Row;
use crate::workloads::{Lab, Workload};

/// Measures the service and prints each figure beside what was meant.
#[derive(Parser)]
struct Cli {
    /// The release build of the service; the default is the one beside this program
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// The redis-server to start
    #[arg(long, value_name = "FILE", default_value = "redis-server")]
    redis_server: PathBuf,
    /// Writes the figures as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs workloads; all of them unless some are named
    Run { workloads: Vec<Workload> },
    /// Opens more sockets than one process can hold, over several nodes; one node holds some 19 000
    Many {
        #[arg(long, default_value_t = 30_000)]
        sockets: usize,
        #[arg(long, default_value_t = 2)]
        nodes: usize,
    },
    /// Is a crowd's part (started by `many`)
    #[command(hide = true)]
    Agent { addr: SocketAddr, prefix: String, first: usize, count: usize },
    /// Is the floor (started by the workloads)
    #[command(hide = true)]
    Floor { threads: usize },
    /// Is the plain-text HTTP server (started by a workload)
    #[command(hide = true)]
    PlainHttp,
    /// Is a roster of a million users (started by a workload)
    #[command(hide = true)]
    Roster,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Floor { threads }) => return floor::run(threads),
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
        Command::Many { sockets, nodes } => {
            workloads::beyond_one_process(programs()?, &progress, sockets, nodes).await?
        }
        Command::Run { workloads } => run(programs()?, &progress, &workloads).await?,
        Command::Floor { .. } | Command::PlainHttp | Command::Roster => unreachable!("these need no runtime"),
    };
    drop(progress);
    print!("{}", table::text(&rows));
    if let Some(file) = cli.json {
        let json = serde_json::to_string_pretty(&table::json(&rows, started.elapsed()))?;
        std::fs::write(&file, json + "\n").with_context(|| format!("cannot write {}", file.display()))?;
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
