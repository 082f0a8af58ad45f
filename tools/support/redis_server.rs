//! A private `redis-server`: how it is started, and when it may be used.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ClientTlsConfig, Cmd, RedisResult, TlsCertificates};
use tokio::time::Instant;

use super::DEADLINE;
use super::process::OwnedProcess;

/// The name of the RDB file, which is read at the start if it is there, and written only at the command `SAVE`.
pub(crate) const RDB: &str = "dump.rdb";

/// The files of a server that encrypts. Its clients show the same certificate as the server, if it asks for one.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    /// The certificate of the authority that both trust.
    pub(crate) ca: PathBuf,
    /// The certificate.
    pub(crate) certificate: PathBuf,
    /// The key of the certificate.
    pub(crate) key: PathBuf,
    /// Whether a client must show a certificate.
    pub(crate) asks_clients: bool,
}

/// Starts a server on a port of 127.0.0.1, with `directory` for its RDB file and its log. Returns once it answers, or
/// says why it does not, with the log.
///
/// # Panics
/// When the log cannot be created.
pub(crate) async fn launch(
    program: impl AsRef<OsStr>,
    port: u16,
    tls: Option<&Tls>,
    directory: &Path,
) -> Result<OwnedProcess, String> {
    let path = directory.join("redis.log");
    let log = File::create(&path).expect("the log file can be created");
    let errors = log.try_clone().expect("the log file can be shared");
    let mut process = OwnedProcess::spawn(
        OwnedProcess::command(program)
            .args(listening_arguments(port, tls))
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
    while pid_that_answers(port, tls).await != Some(process.id()) {
        let ended = process.exited();
        if ended.is_some() || started.elapsed() >= DEADLINE {
            let log = fs::read_to_string(&path).unwrap_or_default();
            return Err(format!("redis-server does not answer (ended: {ended:?}):\n{log}"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(process)
}

fn listening_arguments(port: u16, tls: Option<&Tls>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["--bind", "127.0.0.1"].map(Into::into).into();
    let port = port.to_string();
    let Some(tls) = tls else {
        arguments.extend(["--port", &port].map(Into::into));
        return arguments;
    };
    arguments.extend(["--port", "0", "--tls-port", &port, "--tls-replication", "yes"].map(Into::into));
    arguments.extend(["--tls-auth-clients", if tls.asks_clients { "yes" } else { "no" }].map(Into::into));
    for (name, path) in
        [("--tls-ca-cert-file", &tls.ca), ("--tls-cert-file", &tls.certificate), ("--tls-key-file", &tls.key)]
    {
        arguments.extend([name.into(), path.into()]);
    }
    arguments
}

/// A client of a server of 127.0.0.1.
fn client(port: u16, tls: Option<&Tls>) -> RedisResult<redis::Client> {
    let Some(tls) = tls else { return redis::Client::open(format!("redis://127.0.0.1:{port}")) };
    let client_tls =
        Some(ClientTlsConfig { client_cert: fs::read(&tls.certificate)?, client_key: fs::read(&tls.key)? });
    let certificates = TlsCertificates { client_tls, root_cert: Some(fs::read(&tls.ca)?) };
    redis::Client::build_with_tls(format!("rediss://127.0.0.1:{port}"), certificates)
}

/// A connection to a server of 127.0.0.1. The connecting and every reply may take as long as `patience`.
pub(crate) async fn connect(port: u16, tls: Option<&Tls>, patience: Duration) -> RedisResult<MultiplexedConnection> {
    let deadlines =
        AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(Some(patience));
    client(port, tls)?.get_multiplexed_async_connection_with_config(&deadlines).await
}

/// The command whose name and arguments are given as separate strings.
pub(crate) fn command_of(arguments: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(arguments);
    command
}

/// The process id of the server that answers on the port, if one does. While it loads its data, it answers with errors.
async fn pid_that_answers(port: u16, tls: Option<&Tls>) -> Option<u32> {
    let mut connection = connect(port, tls, DEADLINE).await.ok()?;
    command_of(&["PING"]).query_async::<()>(&mut connection).await.ok()?;
    let info: String = command_of(&["INFO", "server"]).query_async(&mut connection).await.ok()?;
    info.lines().find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok())
}
