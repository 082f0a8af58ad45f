//! What goes wrong around the commands for a terminal: readers, disks, tokens, signals.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::shared::process::OwnedProcess;
use crate::support::*;
use crate::terminal::{ENTER, LEAVE, OnTerminal, start, url};

fn command(arguments: &[&str]) -> Command {
    let mut command = OwnedProcess::command(env!("CARGO_BIN_EXE_rollcall"));
    command.args(arguments);
    command
}

const SIGHUP: u32 = 1;
const SIGTERM: u32 = 15;

/// Whether a process does this with a signal: `SigCgt` is that it hears it, `SigIgn` that it ignores it.
fn does(pid: u32, what: &str, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let mask = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).expect("Linux says it");
    u64::from_str_radix(mask.trim(), 16).expect("a mask") >> (signal - 1) & 1 == 1
}

fn full_disk() -> Stdio {
    Stdio::from(File::options().write(true).open("/dev/full").expect("Linux has it"))
}

#[tokio::test]
async fn watch_ends_as_soon_as_nobody_reads_it() {
    let node = Node::start_with(|_| ()).await;
    let mut watching = OwnedProcess::spawn(command(&["watch", &url(&node)]).stdout(Stdio::piped()));
    drop(watching.child().stdout.take());
    eventually(async || watching.exited().is_some_and(|status| status.success()), "no event is needed").await;
}

#[tokio::test]
async fn a_signal_ends_watch_while_its_reader_stands_still() {
    let node = Node::start_with(|_| ()).await;
    let (reader, mut out) = UnixStream::pair().expect("a pair");
    out.set_nonblocking(true).expect("it can wait");
    while out.write(&[b'x'; 4096]).is_ok() {}
    out.set_nonblocking(false).expect("it can wait");
    let arguments = ["watch", &url(&node), "--as", "watcher", "--room", "kitchen"];
    let mut watching = OwnedProcess::spawn(command(&arguments).stdout(OwnedFd::from(out)));
    eventually_eq(async || node.room_ids("kitchen").await, ["watcher"], "it is in the room").await;
    let frames =
        async || node.get("/api/nodes").await.1["data"]["here"]["counters"]["frames"].as_u64().expect("a number");
    let before = frames().await;
    let ada = start(&["join", "--url"], &node, &["--user", "ada", "--room", "kitchen"]);
    ada.expect("joined").await;
    // Ada is told two things: `welcome` and `room_joined`. The third is for the watcher.
    eventually(async || frames().await >= before + 3, "the watcher is told").await;
    watching.signal("TERM");
    assert!(watching.wait().await.success());
    eventually_eq(async || node.room_ids("kitchen").await, ["ada"], "it has said goodbye").await;
    drop(reader);
}

#[tokio::test]
async fn complaints_that_cannot_be_written_end_nothing() {
    let mut refused = OwnedProcess::spawn(command(&["watch", "http://127.0.0.1:1"]).stderr(full_disk()));
    assert_eq!(refused.wait().await.code(), Some(1));
    let mut node = NodeProcess::spawn(&[]).await;
    let port = node.addr().port().to_string();
    let arguments = ["join", "--url", &url(&node), "--user", "42"];
    let mut holding = OwnedProcess::spawn(command(&arguments).stdout(Stdio::null()).stderr(full_disk()));
    eventually_eq(async || node.online_ids().await, ["42"], "the user is there").await;
    node.sigterm();
    node.wait().await;
    let node = NodeProcess::spawn(&[("PORT", &port)]).await;
    eventually_eq(async || node.online_ids().await, ["42"], "the user comes back").await;
    holding.signal("TERM");
    assert!(holding.wait().await.success());
}

#[tokio::test]
async fn a_token_that_is_just_being_written_is_waited_for() {
    let node = Node::start_with(with_secret).await;
    let path = std::env::temp_dir().join(format!("rollcall-token-{}", std::process::id()));
    let short = token(json!({"sub": "ada", "exp": seconds_from_now(2.0), "scope": "presence:write"}));
    std::fs::write(&path, short).expect("a file");
    let arguments = ["--user", "ada", "--token-file", path.to_str().expect("a path in UTF-8")];
    let mut holding = start(&["join", "--url"], &node, &arguments);
    holding.expect("joined").await;
    std::fs::write(&path, "").expect("a file");
    holding.expect_complaint("must have a token, and nothing else): trying again").await;
    std::fs::write(&path, token_of("ada", "presence:write")).expect("a file");
    holding.expect_complaint("connected again").await;
    holding.signal("TERM");
    assert!(holding.wait().await.success());
    std::fs::remove_file(&path).expect("the file is ours");
}

#[tokio::test]
async fn what_cannot_be_had_for_a_while_takes_nobody_offline() {
    let node = Node::start_with(|settings| {
        (settings.presence.grace, settings.presence.lease) = (Duration::from_secs(60), Duration::from_secs(120));
        settings.limits.request_burst = 2;
    })
    .await;
    let mut ada = node.join("ada").await;
    // It joins, and asks for fifty of these users at a time.
    let users: Vec<_> = (0..101).map(|n| format!("--user={n}")).collect();
    let arguments: Vec<_> =
        ["--as", "42", "--room", "lobby"].into_iter().chain(users.iter().map(|text| &**text)).collect();
    let mut watching = start(&["watch"], &node, &arguments);
    let n_tries = || watching.stderr().matches("trying again in").count();
    eventually(async || n_tries() >= 2, "it tries again and again").await;
    let _bob = node.join("bob").await;
    let told = ada.collect_until(|frame| frame["userId"] == "bob").await;
    let told: Vec<_> = told.iter().map(|frame| (frame["type"].as_str(), frame["userId"].as_str())).collect();
    assert_eq!(told, ["42", "bob"].map(|user| (Some("user_online"), Some(user))));
    watching.signal("TERM");
    assert!(watching.wait().await.success());
}

#[tokio::test]
async fn watch_may_name_as_many_users_and_rooms_as_a_socket_may_have() {
    let id = |n: usize| format!("{n:\"<128}");
    let node = Node::start_with(|_| ()).await;
    // In JSON, no id is longer.
    let named = |option: &str, n: usize| (0..n).flat_map(|n| [option.to_owned(), id(n)]).collect::<Vec<_>>();
    let (users, rooms) = (named("--user", 1000), named("--room", 50));
    let arguments: Vec<_> =
        ["--as", "watcher"].into_iter().chain(users.iter().chain(&rooms).map(|text| &**text)).collect();
    let watching = start(&["watch"], &node, &arguments);
    let user = id(999);
    let heard = async || {
        node.join(&user).await.close(1000).await;
        watching.stdout().contains(&user)
    };
    eventually(heard, "the last user is heard of").await;
    eventually_eq(async || node.room_ids(&id(49)).await, ["watcher"], "the last room is, too").await;
    assert_eq!(watching.stderr(), "");
}

#[tokio::test]
async fn a_signal_is_heard_while_nobody_writes_the_token() {
    let path = std::env::temp_dir().join(format!("rollcall-pipe-{}", std::process::id()));
    assert!(Command::new("mkfifo").arg(&path).status().expect("`mkfifo` runs").success());
    let arguments = ["watch", "http://127.0.0.1:1", "--token-file", path.to_str().expect("a path in UTF-8")];
    let mut watching = OwnedProcess::spawn(&mut command(&arguments));
    eventually(async || does(watching.id(), "SigCgt", SIGTERM), "it hears signals").await;
    watching.signal("TERM");
    assert!(watching.wait().await.success());
    std::fs::remove_file(&path).expect("the file is ours");
}

#[tokio::test]
async fn nohup_keeps_a_command_alive() {
    let node = Node::start_with(|_| ()).await;
    let program = env!("CARGO_BIN_EXE_rollcall");
    let mut command = OwnedProcess::command("sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh", program, "join", "--url", &url(&node), "--user", "42"]);
    let mut holding = OwnedProcess::spawn(command.stdout(Stdio::null()));
    eventually_eq(async || node.online_ids().await, ["42"], "the user is there").await;
    assert!(does(holding.id(), "SigIgn", SIGHUP));
    holding.signal("TERM");
    assert!(holding.wait().await.success());
}

#[tokio::test]
async fn top_gives_the_terminal_back_while_it_is_stopped() {
    let node = Node::start_with(|_| ()).await;
    for stop in ["\u{1a}", "TSTP"] {
        let mut top = OnTerminal::top(&node, &[]);
        top.expect("q: quit").await;
        let pid = top.child.id().to_string();
        let send =
            |signal: &str| Command::new("kill").args(["-s", signal, &pid]).status().expect("`kill` runs").success();
        match stop {
            "TSTP" => assert!(send("TSTP")),
            key => top.type_in(key.as_bytes()),
        }
        let state = async || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
            stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next())
        };
        eventually_eq(state, Some('T'), "it is stopped").await;
        top.expect(LEAVE).await;
        assert!(send("CONT"));
        eventually(async || top.shown().matches(ENTER).count() == 2, "it takes the terminal again").await;
        top.type_in(b"q");
        top.until_ended().await;
        eventually(async || top.shown().matches(LEAVE).count() == 2, "it gives the terminal back").await;
    }
}

#[tokio::test]
async fn top_goes_on_where_no_shell_could_let_it_go_on() {
    let node = Node::start_with(|_| ()).await;
    let mut setsid = Command::new("setsid");
    setsid.arg(env!("CARGO_BIN_EXE_rollcall"));
    let mut top = OnTerminal::top_of(setsid, &node, &[]);
    top.expect("q: quit").await;
    top.type_in(b"\x1aq");
    top.until_ended().await;
    top.expect(LEAVE).await;
    assert_eq!(top.shown().matches(LEAVE).count(), 1, "{:?}", top.shown());
}

#[tokio::test]
async fn a_terminal_without_a_screen_gets_plain_lines() {
    let node = Node::start_with(|_| ()).await;
    let _ada = node.join("ada").await;
    let mut top = OnTerminal::top(&node, &[("TERM", "dumb")]);
    top.until_ended().await;
    top.expect("since its start").await;
    assert!(!top.shown().contains('\u{1b}'), "{:?}", top.shown());
}
