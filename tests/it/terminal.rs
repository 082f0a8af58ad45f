//! The commands for a terminal: `rollcall watch`, `rollcall join` and `rollcall top`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};

use crate::auth::secret_node;
use crate::support::*;

pub(crate) fn url(node: &Endpoint) -> String {
    format!("http://{}", node.addr())
}

/// Starts a command with a node's URL behind `before`, and these arguments.
pub(crate) fn start(before: &[&str], node: &Endpoint, arguments: &[&str]) -> RunningCommand {
    let url = url(node);
    RunningCommand::start(&[before, &[&*url], arguments].concat(), &[])
}

/// Each line without what is only there to align, and without its time.
fn lines(command: &RunningCommand) -> Vec<String> {
    let one = |line: &str| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    command.stdout().lines().map(one).collect()
}

/// Lets this user come and go until the command has heard of it.
async fn until_heard(node: &Endpoint, watching: &RunningCommand, user: &str) {
    until_heard_at(node, watching, user, &format!("/ws?userId={user}")).await;
}

async fn until_heard_at(node: &Endpoint, watching: &RunningCommand, user: &str, path: &str) {
    let heard = async || {
        let mut client = node.ws(path).await;
        client.expect_type("welcome").await;
        client.close(1000).await;
        watching.stdout().contains(user)
    };
    eventually(heard, &format!("{user} is heard: {}", watching.stderr())).await;
}

#[tokio::test]
async fn watch_prints_a_line_for_each_event() {
    let node = Node::start_with(|_| ()).await;
    let mut watching = start(&["watch"], &node, &[]);
    until_heard(&node, &watching, "first").await;
    let mut ada = node.ws("/ws").await;
    ada.send_json(json!({"type": "join_user", "userId": "ada", "name": "Ada\u{1b}[2J"})).await;
    ada.expect_type("welcome").await;
    ada.send_json(json!({"type": "set_status", "status": "busy", "text": "in a call"})).await;
    ada.send_json(json!({"type": "update_presence", "email": "a@b"})).await;
    ada.close(1000).await;
    watching.expect("left").await;
    eventually(async || watching.stdout().matches("ada").count() == 4, "all is printed").await;
    let told: Vec<_> = lines(&watching).into_iter().filter(|line| line.contains("ada")).collect();
    let name = r"Ada\u{1b}[2J";
    let expected = ["+ ada NAME online", "~ ada NAME busy \"in a call\"", "~ ada NAME profile", "- ada NAME left"];
    assert_eq!(told, expected.map(|line| line.replace("NAME", name)));
    assert!(watching.stdout().starts_with("20") && !watching.stdout().contains('\u{1b}'), "{:?}", watching.stdout());
    watching.signal("INT");
    assert!(watching.wait().await.success());
    assert_eq!(watching.stderr(), "");
}

#[tokio::test]
async fn watch_hears_of_single_users_as_they_come() {
    let node = Node::start_with(|_| ()).await;
    let watching = start(&["watch"], &node, &["--json", "--user", "ada", "--user", "bob"]);
    until_heard(&node, &watching, "ada").await;
    node.join("carol").await.close(1000).await;
    let _bob = node.join("bob").await;
    watching.expect("bob").await;
    let events: Vec<Value> = watching.stdout().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(events.iter().all(|event| event["userId"] != "carol" && event["type"].is_string()), "{events:?}");
    assert!(events.last().is_some_and(|event| event["type"] == "user_online" && event["epoch"].is_u64()), "{events:?}");
}

#[tokio::test]
async fn watch_is_in_a_room_to_hear_of_it() {
    let node = Node::start_with(|_| ()).await;
    let mut watching = start(&["watch"], &node, &["--room", "kitchen", "--as", "watcher"]);
    eventually_eq(async || node.room_ids("kitchen").await, ["watcher"], "it is in the room").await;
    let mut holding = start(&["join", "--url"], &node, &["--user", "ada", "--room", "kitchen"]);
    watching.expect("kitchen: online").await;
    holding.signal("TERM");
    assert!(holding.wait().await.success());
    watching.expect("kitchen: left").await;
    assert_eq!(lines(&watching), ["+ ada - kitchen: online", "- ada - kitchen: left"]);
    watching.signal("TERM");
    watching.wait().await;
    eventually_eq(async || node.online_ids().await, NOBODY, "who has said goodbye is gone at once").await;
    // Without being anybody, nobody is in a room.
    let mut refused = start(&["watch"], &node, &["--room", "kitchen"]);
    assert_eq!(refused.wait().await.code(), Some(2));
    assert!(refused.stderr().contains("--as"), "{}", refused.stderr());
}

#[tokio::test]
async fn watch_connects_again_when_a_node_is_there_again() {
    let mut node = NodeProcess::spawn(&[]).await;
    let port = node.addr().port().to_string();
    let watching = start(&["watch"], &node, &[]);
    until_heard(&node, &watching, "before").await;
    node.kill9();
    watching.expect_complaint("trying again in").await;
    let node = NodeProcess::spawn(&[("PORT", &port)]).await;
    watching.expect_complaint("connected again").await;
    until_heard(&node, &watching, "after").await;
    assert!(watching.stderr().contains("what happened meanwhile is not shown"), "{}", watching.stderr());
}

#[tokio::test]
async fn what_does_not_help_to_try_again_ends_with_a_sentence() {
    let node = secret_node().await;
    let mut unknown = start(&["watch"], &node, &[]);
    assert_eq!(unknown.wait().await.code(), Some(1));
    assert!(unknown.stderr().contains("(--token-file)"), "{}", unknown.stderr());
    let folder = std::env::temp_dir().join(format!("rollcall-terminal-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let wrong = file("wrong", "x");
    let mut refused = start(&["watch"], &node, &["--token-file", &wrong]);
    assert_eq!(refused.wait().await.code(), Some(1));
    assert!(refused.stderr().contains("the node answered 401"), "{}", refused.stderr());
    let few = file("few", &token_of("ada", "presence:read"));
    let mut forbidden = start(&["watch"], &node, &["--token-file", &few]);
    assert_eq!(forbidden.wait().await.code(), Some(1));
    assert!(forbidden.stderr().contains("observe"), "{}", forbidden.stderr());

    // A token in a file may watch, and another may be somebody.
    let watcher = file("watcher", &token_of("watcher", "presence:read observe"));
    let user = file("user", &(token_of("ada", "presence:write") + "\n"));
    let watching = start(&["watch"], &node, &["--token-file", &watcher]);
    let probe = token_of("probe", "presence:write");
    until_heard_at(&node, &watching, "probe", &format!("/ws?userId=probe&token={probe}")).await;
    let arguments = ["join", "--user", "ada", "--url", &url(&node)];
    let mut holding = RunningCommand::start(&arguments, &[("ROLLCALL_TOKEN_FILE", &user)]);
    holding.expect("joined").await;
    watching.expect("ada").await;
    // The application's server wants the user away.
    let admin = token_of("backend", "admin");
    let bearer = format!("Bearer {admin}");
    let path = "/api/users/ada/sockets";
    let asked = node.request(reqwest::Method::DELETE, path, &[("authorization", &bearer)], "").await;
    assert_eq!(asked.status, 200, "{asked:?}");
    assert_eq!(holding.wait().await.code(), Some(1));
    assert!(holding.stderr().contains("closed with 4003"), "{}", holding.stderr());
    std::fs::remove_dir_all(&folder).expect("the folder is ours");

    let mut nobody = RunningCommand::start(&["watch", "http://127.0.0.1:1"], &[]);
    assert_eq!(nobody.wait().await.code(), Some(1));
    assert!(nobody.stderr().starts_with("rollcall: cannot connect to http://127.0.0.1:1: "), "{}", nobody.stderr());
}

#[tokio::test]
async fn join_says_that_others_can_see_it_and_holds_it() {
    let cluster = Cluster::start(2).await;
    let arguments = ["--user", "42", "--name", "John", "--status", "busy", "--status-text", "x", "--room", "kitchen"];
    let mut holding = start(&["join", "--url"], &cluster[0], &arguments);
    holding.expect("joined\n").await;
    assert_eq!(cluster[0].online_ids().await, ["42"]);
    let status = async || cluster[1].get("/api/user-status/42").await.1["data"]["user"].clone();
    let user = json!({"id": "42", "name": "John", "status": "busy", "statusText": "x"});
    eventually_eq(status, user, "the other node shows it").await;
    assert_eq!(cluster[0].room_ids("kitchen").await, ["42"]);
    holding.signal("INT");
    assert!(holding.wait().await.success());
    assert_eq!((holding.stdout(), holding.stderr()), ("joined\n".to_owned(), String::new()));
    let last = async || cluster[0].get("/api/nodes").await.1["data"]["transitions"][0]["reason"].clone();
    eventually_eq(last, json!("left"), "it was a goodbye").await;
}

#[tokio::test]
async fn join_runs_a_command_while_the_user_is_there_and_ends_with_its_status() {
    let node = Node::start_with(|_| ()).await;
    let online = format!("curl -s {}/api/online-users; exit 7", url(&node));
    let mut running = start(&["join", "--url"], &node, &["--user", "42", "--", "sh", "-c", &online]);
    assert_eq!(running.wait().await.code(), Some(7));
    assert!(running.stdout().starts_with("joined\n{\"success\":true,\"data\":[{\"id\":\"42\""), "{}", running.stdout());
    eventually_eq(async || node.online_ids().await, NOBODY, "the user has gone with the command").await;

    // A signal goes to the command, which may end as it likes.
    let script = "trap 'echo told; exit 3' TERM; echo begun; while :; do sleep 0.05; done";
    let mut running = start(&["join", "--url"], &node, &["--user", "42", "--", "sh", "-c", script]);
    running.expect("begun").await;
    running.signal("TERM");
    assert_eq!(running.wait().await.code(), Some(3));
    assert!(running.stdout().ends_with("told\n"), "{}", running.stdout());

    let mut missing = start(&["join", "--url"], &node, &["--user", "42", "--", "/no/such/program"]);
    assert_eq!(missing.wait().await.code(), Some(1));
    assert!(missing.stderr().contains("cannot run /no/such/program"), "{}", missing.stderr());
}

#[tokio::test]
async fn join_comes_back_when_its_node_is_there_again() {
    let mut node = NodeProcess::spawn(&[]).await;
    let port = node.addr().port().to_string();
    let mut holding = start(&["join", "--url"], &node, &["--user", "42", "--name", "John"]);
    holding.expect("joined").await;
    node.sigterm();
    node.wait().await;
    let node = NodeProcess::spawn(&[("PORT", &port)]).await;
    eventually_eq(async || node.online_ids().await, ["42"], "it has come back by itself").await;
    holding.signal("TERM");
    assert!(holding.wait().await.success());
    assert_eq!(holding.stdout(), "joined\n", "it is said once");
}

#[tokio::test]
async fn top_prints_once_where_there_is_no_terminal() {
    let cluster = Cluster::start(2).await;
    let _ada = cluster[1].join("ada").await;
    let shown = async || {
        let mut top = start(&["top", "--url"], &cluster[0], &[]);
        assert!(top.wait().await.success(), "{}", top.stderr());
        top.stdout()
    };
    eventually(async || shown().await.contains("+ ada"), "the node has heard of it").await;
    let shown = shown().await;
    assert!(shown.starts_with(&format!("node1 ({})", cluster[0].node_id())), "{shown}");
    assert!(shown.contains("1 user online") && shown.contains(cluster[1].node_id()), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

/// `rollcall top` on a terminal of 80 columns and 24 rows.
pub(crate) struct OnTerminal {
    terminal: OwnedFd,
    pub(crate) child: Child,
    shown: Arc<Mutex<String>>,
}

impl OnTerminal {
    pub(crate) fn top(node: &Endpoint, environment: &[(&str, &str)]) -> OnTerminal {
        OnTerminal::top_of(Command::new(env!("CARGO_BIN_EXE_rollcall")), node, environment)
    }

    /// The command is `rollcall`, or what runs it, without the arguments of `top`.
    pub(crate) fn top_of(mut command: Command, node: &Endpoint, environment: &[(&str, &str)]) -> OnTerminal {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("it is ours");
        let path = ptsname(&terminal, Vec::new()).expect("it has a name").into_string().expect("in UTF-8");
        let ours = File::options().read(true).write(true).open(path).expect("it can be opened");
        tcsetwinsize(&ours, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).expect("it has a size");
        let stdio = || Stdio::from(ours.try_clone().expect("another handle"));
        command
            .args(["top", "--url", &url(node)])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .envs(environment.iter().copied());
        // It ends when its terminal does.
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().expect("it starts");
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut reader, seen) = (File::from(terminal.try_clone().expect("another handle")), shown.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n_bytes @ 1..) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..n_bytes]);
                seen.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        OnTerminal { terminal, child, shown }
    }

    pub(crate) fn shown(&self) -> String {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) async fn expect(&self, text: &str) {
        eventually(async || self.shown().contains(text), &format!("{text:?} is shown")).await;
    }

    pub(crate) fn type_in(&self, keys: &[u8]) {
        File::from(self.terminal.try_clone().expect("another handle")).write_all(keys).expect("it is a terminal");
    }

    pub(crate) async fn until_ended(&mut self) {
        let child = &mut self.child;
        eventually(async || child.try_wait().expect("a child").is_some_and(|status| status.success()), "it ends").await;
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // An error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) const ENTER: &str = "\u{1b}[?1049h";
pub(crate) const LEAVE: &str = "\u{1b}[?1049l";

#[tokio::test]
async fn top_gives_the_terminal_back_however_it_ends() {
    let node = Node::start_with(|_| ()).await;
    let _ada = node.join("ada").await;
    for end in ["q", "\u{3}", "TERM"] {
        let mut top = OnTerminal::top(&node, &[]);
        top.expect(ENTER).await;
        top.expect("ada").await;
        // A second picture has rates.
        top.expect(&format!("{:<10} {:>9}", "leaves/s", "0.0")).await;
        assert!(!top.shown().contains(LEAVE));
        match end {
            "TERM" => {
                let pid = top.child.id().to_string();
                assert!(Command::new("kill").args(["-s", end, &pid]).status().expect("`kill` runs").success());
            }
            keys => top.type_in(keys.as_bytes()),
        }
        top.until_ended().await;
        top.expect(LEAVE).await;
        top.expect("\u{1b}[?25h").await;
    }
}

#[tokio::test]
async fn top_has_colours_unless_nobody_wants_them() {
    let node = Node::start_with(|_| ()).await;
    let _ada = node.join("ada").await;
    let green = "\u{1b}[32mready";
    let coloured = OnTerminal::top(&node, &[]);
    coloured.expect(green).await;
    coloured.expect("q: quit").await;
    let plain = OnTerminal::top(&node, &[("NO_COLOR", "1")]);
    plain.expect("ada").await;
    plain.expect("q: quit").await;
    for colour in ["\u{1b}[32m", "\u{1b}[1m", "\u{1b}[2m"] {
        assert!(coloured.shown().contains(colour) && !plain.shown().contains(colour), "{:?}", plain.shown());
    }
}

#[tokio::test]
async fn top_says_since_when_a_node_does_not_answer() {
    let mut node = NodeProcess::spawn(&[]).await;
    let top = OnTerminal::top(&node, &[]);
    top.expect("q: quit").await;
    node.kill9();
    top.expect("no answer for").await;
}
