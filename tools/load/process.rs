//! The processes of a run: private, on loopback, ended by pid whatever happens, and measured from `/proc`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::Mutex;

use crate::http;
use crate::resp::Connection;
use crate::support::ports::Port;
use crate::support::process::OwnedProcess;
use crate::support::redis_server;

/// A child process; killed and reaped when dropped, and when this process is killed.
pub(crate) struct Process {
    name: String,
    process: OwnedProcess,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a command of [`OwnedProcess::command`]; what it says on stderr goes to `{scratch}/{name}.log`.
    pub(crate) fn start(name: &str, scratch: &Path, command: &mut Command) -> Result<Self> {
        Self::start_by(OwnedProcess::spawn, name, scratch, command)
    }

    fn start_by(
        spawn: fn(&mut Command) -> OwnedProcess,
        name: &str,
        scratch: &Path,
        command: &mut Command,
    ) -> Result<Self> {
        let log = File::create(scratch.join(format!("{name}.log")))?;
        let mut process = spawn(command.stdout(Stdio::piped()).stderr(log));
        let stdout = BufReader::new(process.child().stdout.take().context("stdout is piped")?);
        Ok(Self { name: name.to_owned(), process, stdout })
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line)? > 0, "{} ended; its log says why", self.name);
        Ok(line.trim_end().to_owned())
    }

    /// Writes a line to the stdin of a process of [`Programs::own_listening`].
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        use std::io::Write;
        let stdin = self.process.child().stdin.as_mut().context("it does not listen")?;
        writeln!(stdin, "{line}").with_context(|| format!("{} does not listen", self.name))
    }

    /// CPU time that it has used, user and system: the nanoseconds of its threads.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut total_ns = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
            total_ns += schedstat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).context("schedstat")?;
        }
        ensure!(total_ns > 0, "this kernel does not count the CPU time of threads (CONFIG_SCHED_INFO)");
        Ok(Duration::from_nanos(total_ns))
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> Result<u64> {
        rss_of(&self.process.id().to_string())
    }
}

/// Resident memory in bytes of `pid` (a number, or "self").
pub(crate) fn rss_of(pid: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// A private redis-server.
pub(crate) struct Redis {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Asks for its own account; one connection, for opening one costs the server as much as a join.
    connection: Mutex<Connection>,
    // Dropped before the port that it uses.
    _process: OwnedProcess,
    _port: Port,
}

impl Redis {
    /// Starts one that keeps nothing on disk.
    pub(crate) async fn start(program: &Path, scratch: &Path) -> Result<Self> {
        let port = Port::reserve();
        let process = redis_server::launch(program, port.number(), None, scratch).await.map_err(anyhow::Error::msg)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let connection = Mutex::new(Connection::open(addr).await?);
        Ok(Self { addr, connection, _process: process, _port: port })
    }

    /// CPU time of the server, by its own account.
    pub(crate) async fn cpu(&self) -> Result<Duration> {
        let info = self.connection.lock().await.info("cpu").await?;
        Ok(Duration::from_secs_f64(field(&info, "used_cpu_user:")? + field(&info, "used_cpu_sys:")?))
    }

    /// Memory of the server's data, in bytes, by its own account.
    pub(crate) async fn memory(&self) -> Result<u64> {
        let info = self.connection.lock().await.info("memory").await?;
        Ok(field(&info, "used_memory:")? as u64)
    }

    /// How many keys of single rooms the nodes under `prefix` have. It looks at every key there is.
    pub(crate) async fn n_room_keys(&self, prefix: &str) -> Result<usize> {
        self.connection.lock().await.list_length(&["KEYS", &format!("{prefix}:room:*")]).await
    }

    /// How many rooms of the nodes under `prefix` have somebody in them.
    pub(crate) async fn n_rooms(&self, prefix: &str) -> Result<u64> {
        self.connection.lock().await.number(&["SCARD", &format!("{prefix}:rooms:set")]).await
    }

    /// How many rooms the nodes under `prefix` have opened. A room that several nodes have opened counts once.
    pub(crate) async fn n_open_rooms(&self, prefix: &str) -> Result<usize> {
        let pattern = format!("{prefix}:room:*:events");
        self.connection.lock().await.list_length(&["PUBSUB", "CHANNELS", &pattern]).await
    }

    /// How many nodes under `prefix` hear what happens in each of the rooms.
    pub(crate) async fn n_hearing(&self, prefix: &str, rooms: &[String]) -> Result<Vec<u64>> {
        let channels: Vec<String> = rooms.iter().map(|room| format!("{prefix}:room:{room}:events")).collect();
        let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
        self.connection.lock().await.n_subscribers(&channels).await
    }

    /// How often the server has read from a connection: once for a whole pipeline.
    pub(crate) async fn n_reads(&self) -> Result<u64> {
        let info = self.connection.lock().await.info("stats").await?;
        Ok(field(&info, "total_reads_processed:")? as u64)
    }
}

fn field(info: &str, name: &str) -> Result<f64> {
    let value =
        info.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("INFO tells no {name}"))?;
    Ok(value.trim().parse()?)
}

/// The samples of all gauges with `room` in their names, as `/metrics` has them.
fn gauges_of_rooms(metrics: &str) -> Vec<String> {
    let families = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge"));
    let families: Vec<&str> = families.filter(|family| family.contains("room")).collect();
    let is_sample = |line: &&str| families.contains(&line.split(['{', ' ']).next().unwrap_or_default());
    metrics.lines().filter(is_sample).map(str::to_owned).collect()
}

/// How a node finds out who is gone.
#[derive(Clone, Copy)]
pub(crate) struct Pings {
    /// Between two pings of a socket.
    pub interval: Duration,
    /// A socket of which nothing is heard for so long is closed.
    pub silence: Duration,
}

/// A node under test.
pub(crate) struct Node {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Node {
    /// Starts a node on `redis` under `prefix`. `workers` is 0 for one per core. More environment wins over that of all nodes.
    pub(crate) fn start(
        programs: &Programs,
        redis: &Redis,
        prefix: &str,
        name: &str,
        workers: usize,
        pings: Pings,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let mut command = OwnedProcess::command(&programs.server);
        command
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("REDIS_URL", format!("redis://{}", redis.addr))
            .env("ROLLCALL__REDIS__PREFIX", prefix)
            .env("ROLLCALL__SERVER__WORKERS", workers.to_string())
            // As many as a process may have that can open 20 000 files.
            .env("ROLLCALL__SERVER__MAX_SOCKETS", "18200")
            .env("ROLLCALL__SERVER__MAX_HTTP_CONNECTIONS", "1300")
            // Admission is for thundering herds; here the question is what the machine can do.
            .env("ROLLCALL__LIMITS__JOINS_PER_SECOND", "1000000")
            .env("ROLLCALL__LIMITS__JOIN_QUEUE", "100000")
            // One socket plays many users here, who join and leave without a pause.
            .env("ROLLCALL__LIMITS__MESSAGES_PER_SECOND", "1000000")
            .env("ROLLCALL__LIMITS__MESSAGE_BURST", "1000000")
            .env("ROLLCALL__LIMITS__REQUEST_BURST", "1000000")
            .env("ROLLCALL__LIMITS__SOCKETS_PER_USER", "1000000")
            .env("ROLLCALL__WEBSOCKET__PING_INTERVAL_MS", pings.interval.as_millis().to_string())
            .env("ROLLCALL__WEBSOCKET__SILENCE_TIMEOUT_MS", pings.silence.as_millis().to_string())
            .envs(environment.iter().copied());
        let mut process = Process::start(name, &programs.scratch, &mut command)?;
        let line = process.line()?;
        let Some((_, addr)) = line.rsplit_once("http://") else { bail!("{name} says {line:?}") };
        Ok(Self { addr: addr.parse()?, process })
    }

    /// Waits until the node takes clients: on an empty Redis that is one lease.
    pub(crate) async fn ready(&self) -> Result<()> {
        let started = Instant::now();
        while http::get(self.addr, "/readyz").await?.status != 200 {
            ensure!(started.elapsed() < Duration::from_secs(60), "a node does not become ready");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The gauges whose names say that they are of rooms.
    pub(crate) async fn room_gauges(&self) -> Result<Vec<String>> {
        Ok(gauges_of_rooms(&http::get(self.addr, "/metrics").await?.body))
    }

    /// Waits until `count` users are online by the node's own account.
    pub(crate) async fn until_online(&self, count: usize) -> Result<()> {
        let started = Instant::now();
        let wanted = format!("\"count\":{count},");
        loop {
            let body = http::get(self.addr, "/api/online-users?countOnly=true").await?.body;
            if body.contains(&wanted) {
                return Ok(());
            }
            ensure!(started.elapsed() < Duration::from_secs(60), "{count} users should be online: {body}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What every workload starts its processes with.
pub(crate) struct Programs {
    /// The release build of the service.
    pub server: PathBuf,
    /// `redis-server`.
    pub redis_server: PathBuf,
    /// Logs of the processes.
    pub scratch: PathBuf,
}

impl Programs {
    /// This program again, as another process.
    pub(crate) fn own(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        Process::start(name, &self.scratch, OwnedProcess::command(std::env::current_exe()?).args(arguments))
    }

    /// The same, and it runs only where nothing else wants to (the highest niceness).
    pub(crate) fn own_last(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let program = std::env::current_exe()?;
        let mut command = OwnedProcess::command("nice");
        Process::start(name, &self.scratch, command.args(["-n", "19"]).arg(program).args(arguments))
    }

    /// A server of Socket.IO of the seeds' kind, on Node. The workloads treat it as a node.
    pub(crate) fn socketio_server(&self, name: &str) -> Result<Node> {
        let program = std::env::current_exe()?;
        let modules = program.ancestors().nth(3).context("a folder")?.join("socketio/node_modules");
        ensure!(modules.join("socket.io").is_dir(), "{} is empty: scripts/install-socketio", modules.display());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/load/socketio_server.mjs");
        let mut command = OwnedProcess::command("node");
        let mut process = Process::start(name, &self.scratch, command.arg(script).arg(modules))?;
        Ok(Node { addr: process.line()?.parse()?, process })
    }

    /// As [`Programs::own`], for a part that is told things on its stdin, and ends when its stdin does.
    pub(crate) fn own_listening(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        Process::start_by(OwnedProcess::spawn_listening, name, &self.scratch, command.args(arguments))
    }
}

#[test]
fn only_gauges_of_rooms_are_found() {
    let metrics = "# HELP a_room_entries Rooms.\n# TYPE a_room_entries gauge\na_room_entries 3\n\
        # TYPE a_open_rooms gauge\na_open_rooms{state=\"open\"} 2\n\
        # TYPE a_rooms counter\na_rooms_total 9\n# TYPE a_users gauge\na_users 4\n# EOF\n";
    assert_eq!(gauges_of_rooms(metrics), ["a_room_entries 3", "a_open_rooms{state=\"open\"} 2"]);
}
