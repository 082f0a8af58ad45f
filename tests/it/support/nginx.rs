//! The load balancer of `deploy/`, in front of the nodes of a test.
//!
//! ```ignore
//! let balancer = Nginx::start(&[cluster[0].addr().port(), cluster[1].addr().port()]).await;
//! let ada = balancer.join("ada").await;      // everything of Endpoint, on whichever node
//! ```

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::net::TcpStream;

use super::ports::Port;
use super::process::OwnedProcess;
use super::{Endpoint, eventually};

/// An nginx with the configuration of `deploy/nginx.conf`, on loopback; killed and cleaned up on Drop.
pub(crate) struct Nginx {
    endpoint: Endpoint,
    // Declared, and so dropped, before the port and the directory that it uses.
    _process: OwnedProcess,
    _port: Port,
    directory: PathBuf,
}

impl Nginx {
    /// Starts one in front of these ports, and returns once it listens.
    ///
    /// # Panics
    /// When it does not; its log is then in the message.
    pub(crate) async fn start(node_ports: &[u16]) -> Nginx {
        let port = Port::reserve();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let name = format!("nginx-{}-{}", std::process::id(), port.number());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let rendered = Command::new(root.join("scripts/render-nginx"))
            .arg(&directory)
            .args([port.number()].iter().chain(node_ports).map(u16::to_string))
            .output()
            .expect("the script runs");
        assert!(rendered.status.success(), "scripts/render-nginx: {}", String::from_utf8_lossy(&rendered.stderr));

        // Debian keeps nginx where the PATH of a normal user does not look.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let mut process = OwnedProcess::spawn(
            OwnedProcess::command("nginx")
                .env("PATH", path)
                .arg("-p")
                .arg(&directory)
                .arg("-c")
                .arg(directory.join("nginx.conf"))
                // One process: killing a master would leave its workers behind.
                .args(["-g", "master_process off;"]),
        );
        let addr = ([127, 0, 0, 1], port.number()).into();
        let listens = async || {
            assert_eq!(process.exited(), None, "nginx ended:\n{}", log_in(&directory));
            TcpStream::connect(addr).await.is_ok()
        };
        eventually(listens, "nginx listens").await;
        Nginx { endpoint: Endpoint::new(addr, "nginx".to_owned()), _process: process, _port: port, directory }
    }
}

fn log_in(directory: &Path) -> String {
    fs::read_to_string(directory.join("error.log")).unwrap_or_default()
}

impl Deref for Nginx {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- nginx wrote:\n{}---", log_in(&self.directory));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
