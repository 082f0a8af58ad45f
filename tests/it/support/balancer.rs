//! The load balancer of `deploy/`, in front of the nodes of a test.
//!
//! ```ignore
//! let balancer = Balancer::start(&[cluster[0].addr().port(), cluster[1].addr().port()]).await;
//! let ada = balancer.join("ada").await;      // everything of Endpoint, on whichever node
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::net::TcpStream;

use super::ports::Port;
use super::process::OwnedProcess;
use super::{Endpoint, eventually};

/// A HAProxy with the configuration of `deploy/haproxy.cfg`, on loopback; killed and cleaned up on Drop.
pub(crate) struct Balancer {
    endpoint: Endpoint,
    // Declared, and so dropped, before the port and the directory that it uses.
    process: OwnedProcess,
    port: Port,
    directory: PathBuf,
}

impl Balancer {
    /// Starts one in front of these ports, and returns once it listens. It asks the nodes itself whether they are ready.
    ///
    /// # Panics
    /// When it does not; its log is then in the message.
    pub(crate) async fn start(node_ports: &[u16]) -> Balancer {
        let port = Port::reserve();
        let name = format!("haproxy-{}-{}", std::process::id(), port.number());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).expect("a directory can be made");
        render(&directory, port.number(), node_ports);
        let log = fs::File::create(directory.join("log")).expect("a file can be made");
        // Debian keeps haproxy where the PATH of a normal user does not look.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let mut process = OwnedProcess::spawn(
            OwnedProcess::command("haproxy")
                .env("PATH", path)
                // As its image does: a master, which reloads, and ends its worker when it ends.
                .args(["-W", "-db", "-f"])
                .arg(directory.join("haproxy.cfg"))
                .stderr(log.try_clone().expect("a file has another handle"))
                .stdout(log),
        );
        let addr = ([127, 0, 0, 1], port.number()).into();
        let listens = async || {
            assert_eq!(process.exited(), None, "haproxy ended:\n{}", log_in(&directory));
            TcpStream::connect(addr).await.is_ok()
        };
        eventually(listens, "haproxy listens").await;
        Balancer { endpoint: Endpoint::new(addr, "haproxy".to_owned()), process, port, directory }
    }

    /// Has other nodes from now on, as after an edit of the file and a reload. Returns once it knows them.
    pub(crate) async fn reload(&mut self, node_ports: &[u16]) {
        let n_before = self.log().matches("Loading success").count();
        render(&self.directory, self.port.number(), node_ports);
        self.process.signal("USR2");
        eventually(async || self.log().matches("Loading success").count() > n_before, "haproxy has reloaded").await;
    }

    /// Waits until it has said this of a node: `is DOWN`, `is UP`. It is not said of a node that was up from the start.
    pub(crate) async fn wait_until(&self, node: &str, state: &str) {
        let said = format!("Server nodes/{node} {state}");
        eventually(async || self.log().contains(&said), &said).await;
    }

    /// Waits until every node that it has called down is up again.
    pub(crate) async fn wait_until_all_are_up(&self) {
        let is_up = async || {
            let log = self.log();
            let states = log.lines().filter_map(|line| line.split_once("Server nodes/")?.1.split_once(" is "));
            let last: BTreeMap<_, _> = states.map(|(node, state)| (node, state.starts_with("UP"))).collect();
            last.values().all(|is_up| *is_up)
        };
        eventually(is_up, "all nodes are up").await;
    }

    /// What it has written.
    pub(crate) fn log(&self) -> String {
        log_in(&self.directory)
    }
}

fn render(directory: &Path, port: u16, node_ports: &[u16]) {
    let rendered = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/render-haproxy"))
        .args([port].iter().chain(node_ports).map(u16::to_string))
        .output()
        .expect("the script runs");
    assert!(rendered.status.success(), "scripts/render-haproxy: {}", String::from_utf8_lossy(&rendered.stderr));
    fs::write(directory.join("haproxy.cfg"), rendered.stdout).expect("a file can be written");
}

fn log_in(directory: &Path) -> String {
    fs::read_to_string(directory.join("log")).unwrap_or_default()
}

impl Deref for Balancer {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- haproxy wrote:\n{}---", self.log());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
