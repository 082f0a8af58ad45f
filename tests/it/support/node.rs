//! Nodes, in a thread or as a process of their own.
//!
//! ```ignore
//! let node = Node::spawn(test_settings()).await;              // fast, and the test sees its panics
//! let mut process = NodeProcess::spawn(&[("REDIS_URL", &redis.url())]).await;   // can be killed and stopped
//! node.wait_ready().await;
//! assert_eq!(node.online_ids().await, ["42"]);
//! process.kill9();
//! node.stop().await;                                          // a graceful drain
//! ```
//!
//! Both take a port of the kernel's choice, and both have everything of [`Endpoint`].

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::ops::Deref;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use rollcall::app::App;
use rollcall::domain::NodeId;
use rollcall::settings::Settings;
use rollcall::shutdown::{Signals, Trigger};
use rollcall::store::PresenceStore;

use super::process::OwnedProcess;
use super::staged_store::StagedStore;
use super::{DEADLINE, Endpoint, Tunnel, eventually, secrets, test_settings};

/// A node in this process, on a thread with an actix system of its own.
///
/// Drop starts the drain and does not wait for it: Redis or the proxy of the test may be gone already.
pub(crate) struct Node {
    endpoint: Endpoint,
    /// The way in, if the node encrypts.
    _tunnel: Option<Tunnel>,
    trigger: Option<Trigger>,
    ended: oneshot::Receiver<Result<(), String>>,
}

impl Node {
    /// A ready node with the embedded store and [`test_settings`], some of them changed.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Node {
        let mut settings = test_settings();
        change(&mut settings);
        let node = Node::spawn(settings).await;
        node.wait_ready().await;
        node
    }

    /// The same on a [`StagedStore`].
    pub(crate) async fn start_staged(change: impl FnOnce(&mut Settings)) -> (Node, StagedStore) {
        let mut settings = test_settings();
        change(&mut settings);
        let store = StagedStore::new(&settings.presence);
        let node = Node::spawn_on(settings, Arc::new(store.clone())).await;
        node.wait_ready().await;
        (node, store)
    }

    /// Starts a node; it listens, and may not be ready yet ([`Endpoint::wait_ready`]).
    ///
    /// # Panics
    /// When it refuses to start; [`Node::try_spawn`] expects that.
    pub(crate) async fn spawn(settings: Settings) -> Node {
        Node::try_spawn(settings).await.unwrap_or_else(|error| panic!("the node does not start: {error}"))
    }

    /// Starts a node, or says why it refused.
    pub(crate) async fn try_spawn(settings: Settings) -> Result<Node, String> {
        Node::launch(settings, None).await
    }

    /// Starts a node on a store of the test's own, which may do what no real one does.
    ///
    /// # Panics
    /// When it refuses to start.
    pub(crate) async fn spawn_on(settings: Settings, store: Arc<dyn PresenceStore>) -> Node {
        let started = Node::launch(settings, Some(store)).await;
        started.unwrap_or_else(|error| panic!("the node does not start: {error}"))
    }

    async fn launch(settings: Settings, store: Option<Arc<dyn PresenceStore>>) -> Result<Node, String> {
        secrets::listen();
        let (started, has_started) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let certificate = settings.server.tls_certificate_path.clone();
        std::thread::Builder::new()
            .name("node".to_owned())
            .spawn(move || {
                let outcome = actix_rt::System::new().block_on(run(settings, store, started));
                let _ = end.send(outcome);
            })
            .expect("a thread can be started");
        let started = timeout(DEADLINE, has_started).await.expect("the node starts or refuses in time");
        let (mut endpoint, trigger) = started.unwrap_or_else(|_| Err("its thread panicked, see above".to_owned()))?;
        let tunnel = match certificate {
            Some(certificate) => Some(Tunnel::start(endpoint.addr(), &certificate).await),
            None => None,
        };
        if let Some(tunnel) = &tunnel {
            endpoint.lead_through(tunnel.addr());
        }
        Ok(Node { endpoint, _tunnel: tunnel, trigger: Some(trigger), ended })
    }

    /// Drains the node as SIGTERM does, and returns when it has ended.
    ///
    /// # Panics
    /// When the node fails, or does not end within three times [`DEADLINE`].
    pub(crate) async fn stop(mut self) {
        self.drain();
        let ended = timeout(3 * DEADLINE, &mut self.ended).await.expect("the node ends in time");
        ended.expect("the node's thread does not panic").expect("the node ends without an error");
    }

    /// Waits until the node has ended by itself, and returns its error.
    ///
    /// # Panics
    /// When it does not end within three times [`DEADLINE`], or ends without an error.
    pub(crate) async fn failure(mut self) -> String {
        let ended = timeout(3 * DEADLINE, &mut self.ended).await.expect("the node ends in time");
        ended.expect("the node's thread does not panic").expect_err("the node ends with an error")
    }

    /// Starts the drain and returns at once, for a test that watches it; [`Node::stop`] then waits for its end.
    pub(crate) fn drain(&mut self) {
        // Once: a second signal means "exit at once".
        if let Some(trigger) = self.trigger.take() {
            trigger.drain();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.drain();
    }
}

impl Deref for Node {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// What a node's thread reports once the node listens, or why it does not.
type Started = Result<(Endpoint, Trigger), String>;

/// Builds and runs the app on the current thread.
async fn run(
    settings: Settings,
    store: Option<Arc<dyn PresenceStore>>,
    started: oneshot::Sender<Started>,
) -> Result<(), String> {
    let built = match store {
        Some(store) => App::with_store(settings, NodeId::from_bits(rand::random()), store),
        None => App::build(settings).await,
    };
    let app = match built {
        Ok(app) => app,
        Err(error) => {
            let _ = started.send(Err(format!("{error:#}")));
            return Ok(());
        }
    };
    let (signals, trigger) = Signals::manual();
    let endpoint = Endpoint::new(app.addr(), app.node_id().to_string());
    let _ = started.send(Ok((endpoint, trigger)));
    app.run(signals).await.map_err(|error| format!("{error:#}"))
}

/// A node as a process: the real binary with real signals. Killed by its pid on Drop; its logs are printed when the
/// test panics.
pub(crate) struct NodeProcess {
    endpoint: Endpoint,
    /// The way in, if the node encrypts.
    _tunnel: Option<Tunnel>,
    process: OwnedProcess,
    stdout: Captured,
    stderr: Captured,
}

/// A process that ended before it listened.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote to its standard output.
    pub(crate) stdout: String,
    /// What it wrote to its standard error.
    pub(crate) stderr: String,
}

impl NodeProcess {
    /// Starts `rollcall` with `PORT=0` and this environment (which may override it), and nothing of the test's own.
    ///
    /// # Panics
    /// When it ends instead of listening; [`NodeProcess::try_spawn`] expects that.
    pub(crate) async fn spawn(environment: &[(&str, &str)]) -> NodeProcess {
        match NodeProcess::try_spawn(&[], environment).await {
            Ok(process) => process,
            Err(ended) => panic!("the node ended ({}):\n{}{}", ended.status, ended.stdout, ended.stderr),
        }
    }

    /// The same as [`NodeProcess::spawn`], with this limit of open files.
    pub(crate) async fn spawn_with_files(n_files: u64, environment: &[(&str, &str)]) -> NodeProcess {
        match NodeProcess::try_spawn_with_files(n_files, environment).await {
            Ok(process) => process,
            Err(ended) => panic!("the node ended ({}):\n{}{}", ended.status, ended.stdout, ended.stderr),
        }
    }

    /// The same, or says how it ended.
    pub(crate) async fn try_spawn_with_files(n_files: u64, environment: &[(&str, &str)]) -> Result<NodeProcess, Ended> {
        let mut command = OwnedProcess::command("prlimit");
        command.arg(format!("--nofile={n_files}")).arg(env!("CARGO_BIN_EXE_rollcall"));
        NodeProcess::launch(command, environment).await
    }

    /// Starts `rollcall` with these arguments and this environment, or says how it ended.
    pub(crate) async fn try_spawn(arguments: &[&str], environment: &[(&str, &str)]) -> Result<NodeProcess, Ended> {
        let mut command = OwnedProcess::command(env!("CARGO_BIN_EXE_rollcall"));
        command.args(arguments);
        NodeProcess::launch(command, environment).await
    }

    async fn launch(mut command: Command, environment: &[(&str, &str)]) -> Result<NodeProcess, Ended> {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ROLLCALL__") || ["HOST", "PORT", "REDIS_URL", "REDIS_PASSWORD"].contains(&&*text) {
                command.env_remove(&name);
            }
        }
        command.env("PORT", "0").envs(environment.iter().copied());
        command.envs(secrets::environment(environment));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = OwnedProcess::spawn(&mut command);
        let (announce, announced) = oneshot::channel();
        let stdout = process.child().stdout.take().expect("a pipe was asked for");
        let stderr = process.child().stderr.take().expect("a pipe was asked for");
        let stdout = Captured::drain(stdout, Announcement::reader(announce));
        let stderr = Captured::drain(stderr, |_| ());

        let announced = timeout(DEADLINE, announced).await;
        match announced {
            Ok(Ok((addr, node_id))) => {
                let mut endpoint = Endpoint::new(addr, node_id);
                let certificate =
                    environment.iter().find(|(name, _)| *name == "ROLLCALL__SERVER__TLS_CERTIFICATE_PATH");
                let tunnel = match certificate {
                    Some((_, path)) => Some(Tunnel::start(addr, path.as_ref()).await),
                    None => None,
                };
                if let Some(tunnel) = &tunnel {
                    endpoint.lead_through(tunnel.addr());
                }
                Ok(NodeProcess { endpoint, _tunnel: tunnel, process, stdout, stderr })
            }
            // The end of its standard output: it has ended, or is about to.
            Ok(Err(_)) => {
                let status = process.wait().await;
                let ended = Ended { status, stdout: stdout.whole(), stderr: stderr.whole() };
                secrets::keep(&(ended.stdout.clone() + &ended.stderr));
                Err(ended)
            }
            Err(_) => panic!("the node does not say where it listens:\n{}{}", stdout.text(), stderr.text()),
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The processor time that the process has used, user and system.
    pub(crate) fn cpu_time(&self) -> Duration {
        let mut total_ns = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs") {
            let path = task.expect("a thread").path().join("schedstat");
            let schedstat = std::fs::read_to_string(path).expect("a kernel that counts the time of threads");
            total_ns += schedstat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).expect("nanoseconds");
        }
        Duration::from_nanos(total_ns)
    }

    /// How many files the process has open.
    pub(crate) fn n_open_files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        files.count()
    }

    /// Kills the process with SIGKILL and reaps it.
    pub(crate) fn kill9(&mut self) {
        self.process.kill();
    }

    /// Asks for a drain; [`NodeProcess::wait`] sees its end.
    pub(crate) fn sigterm(&mut self) {
        self.process.signal("TERM");
    }

    /// Sends any other signal by its name without `SIG`.
    pub(crate) fn signal(&mut self, signal: &str) {
        self.process.signal(signal);
    }

    /// Stops the process, as a long pause of the machine does; returns once it has stopped.
    pub(crate) fn sigstop(&mut self) {
        self.process.freeze();
    }

    /// Lets a stopped process go on.
    pub(crate) fn sigcont(&mut self) {
        self.process.thaw();
    }

    /// Waits until the process has ended. All that it wrote can be read then.
    ///
    /// # Panics
    /// When it does not within three times [`DEADLINE`].
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let status = self.process.wait().await;
        self.stdout.finish();
        self.stderr.finish();
        status
    }

    /// Waits until this text is in the log. What a process has written is read a moment later.
    ///
    /// # Panics
    /// When it is not there within [`DEADLINE`].
    pub(crate) async fn expect_log(&self, text: &str) {
        eventually(async || self.stderr().contains(text), &format!("the log says {text}")).await;
    }

    /// What the process has written to its standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What the process has written to its standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }
}

impl Deref for NodeProcess {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        secrets::keep(&(self.stdout() + &self.stderr()));
        if std::thread::panicking() {
            eprintln!("--- node {} at {} wrote:\n{}{}---", self.node_id(), self.addr(), self.stdout(), self.stderr());
        }
    }
}

/// What start-up prints: where the node listens and who it is.
struct Announcement {
    announce: Option<oneshot::Sender<(SocketAddr, String)>>,
    addr: Option<SocketAddr>,
}

impl Announcement {
    /// A reader of lines that announces the node as soon as it has seen both.
    fn reader(announce: oneshot::Sender<(SocketAddr, String)>) -> impl FnMut(&str) + Send {
        let mut announcement = Announcement { announce: Some(announce), addr: None };
        move |line| announcement.read(line)
    }

    fn read(&mut self, line: &str) {
        // Where the log is JSON, this is one line of it.
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(line) {
            let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
            self.read_text(&text("message"));
            return self.read_text(&format!("node: {}", text("nodeId")));
        }
        self.read_text(line);
    }

    fn read_text(&mut self, line: &str) {
        let begin = concat!("rollcall ", env!("CARGO_PKG_VERSION"), " listening on http");
        let url = line.strip_prefix(begin).map(|rest| rest.strip_prefix('s').unwrap_or(rest));
        if let Some(addr) = url.and_then(|rest| rest.strip_prefix("://")) {
            self.addr = Some(addr.trim().parse().unwrap_or_else(|error| panic!("{error} in `{line}`")));
        }
        if let Some(node_id) = line.strip_prefix("node: ")
            && let Some(addr) = self.addr
            && let Some(announce) = self.announce.take()
        {
            let _ = announce.send((addr, node_id.trim().to_owned()));
        }
    }
}

/// A pipe that is read to its end on a thread, so that the process never blocks on it.
pub(super) struct Captured {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    /// Collects everything and shows every line to `seen`.
    pub(super) fn drain(pipe: impl Read + Send + 'static, mut seen: impl FnMut(&str) + Send + 'static) -> Captured {
        let text = Arc::new(Mutex::new(String::new()));
        let collected = text.clone();
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let written = String::from_utf8_lossy(&line).into_owned();
                collected.lock().unwrap_or_else(PoisonError::into_inner).push_str(&written);
                seen(written.trim_end());
                line.clear();
            }
        });
        Captured { text, reader: Some(reader) }
    }

    /// What has come so far.
    pub(super) fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads on to the end, of a process that has ended.
    pub(super) fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    /// Everything, of a process that has ended.
    fn whole(mut self) -> String {
        self.finish();
        self.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::support::{NOTHING, test_settings};

    #[tokio::test]
    async fn a_node_in_a_thread_serves_until_it_is_stopped() {
        let mut node = Node::spawn(test_settings()).await;
        node.wait_ready().await;
        let mut ada = node.join("ada").await;
        assert_eq!(node.online_ids().await, ["ada"]);
        let answer = node.get_raw("/api/online-users?limit=1").await;
        assert_eq!(answer.headers["content-type"], "application/json", "{answer:?}");
        let addr = node.addr();
        node.drain();
        assert_eq!(ada.expect_close().await.0, 1001);
        node.stop().await;
        eventually(async || tokio::net::TcpStream::connect(addr).await.is_err(), "nobody listens any more").await;
    }

    #[tokio::test]
    async fn a_node_process_serves_until_a_signal_ends_it() {
        let mut node = NodeProcess::spawn(&[]).await;
        node.wait_ready().await;
        let mut ada = node.join("ada").await;
        node.sigstop();
        node.sigcont();
        assert_eq!(ada.fence().await, NOTHING);
        assert!(node.stdout().contains(node.node_id()), "start-up prints the id: {}", node.stdout());
        node.sigterm();
        assert_eq!(ada.expect_close().await.0, 1001);
        assert!(node.wait().await.success(), "{}", node.stderr());

        let mut node = NodeProcess::spawn(&[]).await;
        node.signal("INT");
        assert!(node.wait().await.success(), "{}", node.stderr());

        let mut node = NodeProcess::spawn(&[]).await;
        node.kill9();
        assert_eq!(node.wait().await.code(), None, "ended by a signal");
    }

    #[tokio::test]
    async fn a_node_process_that_refuses_to_start_is_returned_with_its_words() {
        let ended = NodeProcess::try_spawn(&["--no-such-option"], &[]).await.err().expect("it refuses");
        assert!(!ended.status.success());
        assert!(ended.stderr.contains("--no-such-option"), "{ended:?}");
    }
}
