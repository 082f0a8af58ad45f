//! A private `redis-server`: how it is started, and when it may be used.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisResult};
use tokio::time::Instant;

use super::DEADLINE;
use super::process::OwnedProcess;

/// The name of the RDB file, which is read at the start if it is there, and written only at the command `SAVE`.
pub(crate) const RDB: &str = "dump.rdb";

/// Starts a server on a port of 127.0.0.1, with `directory` for its RDB file and its log. Returns once it answers, or
/// says why it does not, with the log.
///
/// # Panics
/// When the log cannot be created.
pub(crate) async fn launch(program: impl AsRef<OsStr>, port: u16, directory: &Path) -> Result<OwnedProcess, String> {
    let path = directory.join("redis.log");
    let log = File::create(&path).expect("the log file can be created");
    let errors = log.try_clone().expect("the log file can be shared");
    let mut process = OwnedProcess::spawn(
        OwnedProcess::command(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dbfilename", RDB])
            // So that a new primary sends its data at once: by default it waits five seconds for more replicas to come.
            .args(["--repl-diskless-sync-delay", "0"])
            .arg("--dir")
            .arg(directory)
            .stdout(log)
            .stderr(errors),
    );
    let started = Instant::now();
    // The pid is compared because another server on our port would answer just as well, while ours ends in the
    // background.
    while pid_that_answers(port).await != Some(process.id()) {
        let ended = process.exited();
        if ended.is_some() || started.elapsed() >= DEADLINE {
            let log = fs::read_to_string(&path).unwrap_or_default();
            return Err(format!("redis-server does not answer (ended: {ended:?}):\n{log}"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(process)
}

/// A connection to a server of 127.0.0.1. The connecting and every reply may take as long as `patience`.
pub(crate) async fn connect(port: u16, patience: Duration) -> RedisResult<MultiplexedConnection> {
    let deadlines =
        AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(Some(patience));
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
    client.get_multiplexed_async_connection_with_config(&deadlines).await
}

/// The command whose name and arguments are given as separate strings.
pub(crate) fn command_of(arguments: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(arguments);
    command
}

/// The process id of the server that answers on the port, if one does. While it loads its data, it answers with errors.
async fn pid_that_answers(port: u16) -> Option<u32> {
    let mut connection = connect(port, DEADLINE).await.ok()?;
    command_of(&["PING"]).query_async::<()>(&mut connection).await.ok()?;
    let info: String = command_of(&["INFO", "server"]).query_async(&mut connection).await.ok()?;
    info.lines().find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok())
}
