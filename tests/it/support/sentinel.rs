//! Redis Sentinels, which watch a primary and promote its replica when it dies.
//!
//! ```ignore
//! let sentinels = Sentinels::start(&primary, &replica).await;
//! primary.pause();
//! eventually_eq(async || sentinels.primary().await, replica.port(), "the replica is promoted").await;
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ports::Port;
use super::process::OwnedProcess;
use super::shared::redis_server;
use super::{DEADLINE, RedisServer, eventually};

/// Three `redis-sentinel` processes, of which two have to agree; killed and cleaned up on Drop.
pub(crate) struct Sentinels {
    // Declared, and so dropped, before the ports and directories that they use.
    processes: Vec<OwnedProcess>,
    ports: Vec<Port>,
    directory: PathBuf,
}

const COUNT: usize = 3;

impl Sentinels {
    /// Starts them; returns once each knows `replica` and the two others, so that a failover can begin.
    ///
    /// # Panics
    /// When they do not come up.
    pub(crate) async fn start(primary: &RedisServer, replica: &RedisServer) -> Sentinels {
        let ports: Vec<Port> = (0..COUNT).map(|_| Port::reserve()).collect();
        let name = format!("sentinels-{}-{}", std::process::id(), ports[0].number());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).expect("a temporary directory can be created");
        let processes = ports.iter().map(|port| launch(&directory, port.number(), primary.port())).collect();
        let sentinels = Sentinels { processes, ports, directory };
        let known = format!(",address=127.0.0.1:{},slaves=1,sentinels={COUNT}", primary.port());
        for port in &sentinels.ports {
            let knows = async || info(port.number()).await.is_some_and(|info| info.contains(&known));
            let what = format!("the sentinel knows its peers and {}", replica.port());
            super::eventually_within(3 * DEADLINE, knows, &what).await;
        }
        sentinels
    }

    /// The port of the server that is the primary, as two of them say it at least.
    pub(crate) async fn primary(&self) -> u16 {
        let mut found = None;
        let agreed = async || {
            let mut said = Vec::new();
            for port in &self.ports {
                said.extend(primary_by(port.number()).await);
            }
            said.sort_unstable();
            found = said.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
            found.is_some()
        };
        eventually(agreed, "two sentinels name the same primary").await;
        found.expect("it was found")
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        self.processes.clear();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Starts one. It keeps what it learns in its configuration file.
fn launch(directory: &Path, port: u16, primary_port: u16) -> OwnedProcess {
    let configuration = directory.join(format!("{port}.conf"));
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor rollcall 127.0.0.1 {primary_port} 2\n\
         sentinel down-after-milliseconds rollcall 1000\nsentinel failover-timeout rollcall 5000\n",
        directory.display()
    );
    fs::write(&configuration, text).expect("the configuration can be written");
    let log = fs::File::create(directory.join(format!("{port}.log"))).expect("the log file can be created");
    OwnedProcess::spawn(OwnedProcess::command("redis-sentinel").arg(configuration).stdout(log))
}

async fn info(port: u16) -> Option<String> {
    ask(port, &["INFO", "sentinel"]).await
}

async fn primary_by(port: u16) -> Option<u16> {
    let address: (String, u16) = ask(port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "rollcall"]).await?;
    Some(address.1)
}

/// One command to one of them; `None` if it does not answer.
async fn ask<T: redis::FromRedisValue>(port: u16, arguments: &[&str]) -> Option<T> {
    let mut connection = redis_server::connect(port, None, Duration::from_secs(1)).await.ok()?;
    redis_server::command_of(arguments).query_async(&mut connection).await.ok()
}
