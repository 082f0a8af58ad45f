//! The official client of Socket.IO, unmodified, in Node (`tests/socketio/driver.mjs`).
//!
//! ```ignore
//! let js = Js::start();
//! let mut ada = js.page(&node, "default", "s2", json!("ada")).await;     // the lines of a page of S2
//! ada.until_shown(json!({"online": ["ada"]})).await;
//! assert_eq!(ada.ask(json!(["user_activity"])).await, json!({"success": true}));
//! ```
//!
//! Every wait has a deadline of [`DEADLINE`], and fails with what the client has said.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::process::OwnedProcess;
use super::{DEADLINE, Endpoint};

/// How the official client may connect: a WebSocket alone, polling alone, and its default, which begins with polling.
pub(crate) const WAYS: [&str; 3] = ["websocket", "polling", "default"];

/// A process of Node, with any number of clients in it.
pub(crate) struct Js {
    commands: Arc<Mutex<ChildStdin>>,
    clients: Arc<Mutex<HashMap<u64, mpsc::UnboundedSender<Value>>>>,
    n_clients: AtomicU64,
    _process: OwnedProcess,
}

/// One client.
pub(crate) struct JsClient {
    id: u64,
    commands: Arc<Mutex<ChildStdin>>,
    lines: mpsc::UnboundedReceiver<Value>,
    /// What it has said, and how much of that was waited for.
    said: Vec<Value>,
    n_read: usize,
    n_asked: u64,
}

impl Js {
    /// Starts one.
    ///
    /// # Panics
    /// When the client is not installed.
    pub(crate) fn start() -> Js {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory");
        let modules = target.join("socketio/node_modules");
        let is_installed = modules.join("socket.io-client").is_dir();
        assert!(is_installed, "no socket.io-client in {}: scripts/test installs it", modules.display());
        let mut command = Command::new("node");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/socketio/driver.mjs")).arg(modules);
        let mut process = OwnedProcess::spawn_listening(command.stdout(Stdio::piped()));
        let commands = process.child().stdin.take().expect("its input is left to the owner");
        let stdout = process.child().stdout.take().expect("a pipe was asked for");
        let clients: Arc<Mutex<HashMap<u64, mpsc::UnboundedSender<Value>>>> = Arc::default();
        let senders = clients.clone();
        // Ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
                let senders = senders.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(sender) = line["id"].as_u64().and_then(|id| senders.get(&id)) {
                    // A client that a test has dropped is not listened to.
                    let _ = sender.send(line);
                }
            }
        });
        let commands = Arc::new(Mutex::new(commands));
        Js { commands, clients, n_clients: AtomicU64::new(0), _process: process }
    }

    /// A client that connects in one of [`WAYS`], with these options besides.
    pub(crate) fn open(&self, node: &Endpoint, way: &str, options: Value) -> JsClient {
        self.begin(node, way, options, json!({}))
    }

    /// A client that connects to this namespace.
    pub(crate) fn open_in(&self, node: &Endpoint, namespace: &str) -> JsClient {
        self.begin(node, "default", json!({}), json!({"url": namespace}))
    }

    /// The same, once it has connected.
    pub(crate) async fn connect(&self, node: &Endpoint, way: &str) -> JsClient {
        let mut client = self.open(node, way, json!({}));
        client.wait_for("connect").await;
        client
    }

    /// A page of a seed (`tests/socketio/pages.mjs`), once it has connected. `me` is its user.
    pub(crate) async fn page(&self, node: &Endpoint, way: &str, page: &str, me: Value) -> JsClient {
        let mut client = self.begin(node, way, json!({}), json!({"page": page, "me": me}));
        client.wait_for("connect").await;
        client
    }

    fn begin(&self, node: &Endpoint, way: &str, mut options: Value, mut command: Value) -> JsClient {
        let id = self.n_clients.fetch_add(1, Ordering::Relaxed);
        let (sender, lines) = mpsc::unbounded_channel();
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        if way != "default" {
            options["transports"] = json!([way]);
        }
        command["url"] = format!("http://{}{}", node.addr(), command["url"].as_str().unwrap_or_default()).into();
        (command["do"], command["options"]) = ("open".into(), options);
        let client = JsClient { id, commands: self.commands.clone(), lines, said: Vec::new(), n_read: 0, n_asked: 0 };
        client.command(command);
        client
    }
}

impl JsClient {
    /// Sends an event: its name and its arguments.
    pub(crate) fn emit(&self, event: Value) {
        self.command(json!({"do": "emit", "event": event}));
    }

    /// Sends an event with a callback, and returns what the callback is called with.
    pub(crate) async fn ask(&mut self, event: Value) -> Value {
        let number = self.emit_with_callback(event);
        let ack = self.wait_until("ack", |line| line["ack"] == number).await;
        assert_eq!(ack["arguments"].as_array().map(Vec::len), Some(1), "{ack}");
        ack["arguments"][0].clone()
    }

    /// Sends an event with a callback, and returns the number of its `ack`.
    pub(crate) fn emit_with_callback(&mut self, event: Value) -> u64 {
        self.n_asked += 1;
        self.command(json!({"do": "emit", "event": event, "ack": self.n_asked}));
        self.n_asked
    }

    /// `socket.connect()`.
    pub(crate) fn come_back(&self) {
        self.command(json!({"do": "connect"}));
    }

    /// `socket.disconnect()`.
    pub(crate) fn disconnect(&self) {
        self.command(json!({"do": "disconnect"}));
    }

    /// The next line that says `what`. Those before it are skipped.
    pub(crate) async fn wait_for(&mut self, what: &str) -> Value {
        self.wait_until(what, |_| true).await
    }

    /// The next line that says `what`, and for which `matches` holds. Those before it are skipped.
    pub(crate) async fn wait_until(&mut self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            while let Some(line) = self.said.get(self.n_read) {
                self.n_read += 1;
                if line["what"] == what && matches(line) {
                    return line.clone();
                }
            }
            self.receive(deadline, what).await;
        }
    }

    /// The argument of the next event of this name.
    pub(crate) async fn hear(&mut self, name: &str) -> Value {
        self.hear_until(name, |_| true).await
    }

    /// The argument of the next event of this name for which `matches` holds.
    pub(crate) async fn hear_until(&mut self, name: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let is_it = |line: &Value| line["name"] == name && matches(&line["arguments"][0]);
        self.wait_until("event", is_it).await["arguments"][0].clone()
    }

    /// Waits until the page shows this, whatever was read before.
    pub(crate) async fn until_shown(&mut self, state: Value) {
        let deadline = Instant::now() + DEADLINE;
        let what = format!("the page to show {state}");
        while self.said.iter().rfind(|line| line["what"] == "shows").is_none_or(|line| line["state"] != state) {
            self.receive(deadline, &what).await;
        }
    }

    /// Waits until the client has gone over to a WebSocket, if it connects by default. Otherwise it stays with what it has.
    pub(crate) async fn until_settled(&mut self, way: &str) {
        let deadline = Instant::now() + DEADLINE;
        let changes = |line: &Value| line["what"] == "transport";
        while way == "default" && !self.said.iter().any(changes) {
            self.receive(deadline, "the WebSocket").await;
        }
        let last = self.said.iter().rev().find_map(|line| line["transport"].as_str());
        let due = if way == "polling" { "polling" } else { "websocket" };
        assert_eq!(last, Some(due), "{:#?}", self.said);
    }

    /// The arguments of the events of this name, from the begin until now.
    pub(crate) fn heard(&self, name: &str) -> Vec<Value> {
        let events = self.said.iter().filter(|line| line["what"] == "event" && line["name"] == name);
        events.map(|line| line["arguments"][0].clone()).collect()
    }

    /// What has happened to the connection, from the begin until now.
    pub(crate) fn connections(&self) -> Vec<&str> {
        let whats = self.said.iter().filter_map(|line| line["what"].as_str());
        whats.filter(|what| ["connect", "disconnect", "connect_error"].contains(what)).collect()
    }

    /// The numbers of the callbacks that were called, in their order.
    pub(crate) fn acks(&self) -> Vec<u64> {
        self.said.iter().filter_map(|line| line["ack"].as_u64()).collect()
    }

    async fn receive(&mut self, deadline: Instant, wanted: &str) {
        match timeout_at(deadline, self.lines.recv()).await {
            Ok(Some(line)) => self.said.push(line),
            Ok(None) => panic!("waited for {wanted}, and Node has ended; {:#?}", self.said),
            Err(_) => panic!("waited for {wanted} for {DEADLINE:?}; the client said {:#?}", self.said),
        }
    }

    fn command(&self, mut command: Value) {
        command["id"] = self.id.into();
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(commands, "{command}").expect("Node reads");
    }
}
