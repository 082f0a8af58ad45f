//! `rollcall doctor`: what it finds, and what it says to do.

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::support::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rollcall");

/// Runs it with these variables. Returns whether nothing is bad, and what it printed.
async fn doctor(environment: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(PROGRAM);
    command.arg("doctor").envs(environment.iter().copied());
    printed_by(command).await
}

async fn printed_by(mut command: Command) -> (bool, String) {
    command.kill_on_drop(true);
    let output = tokio::time::timeout(3 * DEADLINE, command.output()).await.expect("it ends").expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), printed)
}

/// The line about something.
#[track_caller]
fn line<'a>(printed: &'a str, about: &str) -> &'a str {
    let is_about = |line: &&str| line.get(6..).is_some_and(|rest| rest.starts_with(about));
    printed.lines().find(is_about).unwrap_or_else(|| panic!("nothing about {about}:\n{printed}"))
}

/// A port that leads to `port`. Of what comes back, `old` becomes `new`, which is as long: so a server is not what it is.
async fn disguised(port: u16, old: &'static str, new: &'static str) -> u16 {
    assert_eq!(old.len(), new.len(), "lengths in the answers stay true");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let own_port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.expect("the server listens");
            let ((mut from_client, to_client), (from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
            tokio::spawn(disguise(from_server, to_client, old.as_bytes(), new.as_bytes()));
        }
    });
    own_port
}

async fn disguise(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, old: &[u8], new: &[u8]) {
    let mut held = Vec::new();
    while let Ok(1..) = from.read_buf(&mut held).await {
        while let Some(at) = held.windows(old.len()).position(|part| part == old) {
            held[at..at + old.len()].copy_from_slice(new);
        }
        // What may be the beginning of `old` waits for the rest.
        let n_waiting = (1..old.len()).rev().find(|n| held.ends_with(&old[..*n])).unwrap_or(0);
        let n_ready = held.len() - n_waiting;
        if to.write_all(&held[..n_ready]).await.is_err() {
            return;
        }
        held.drain(..n_ready);
    }
}

#[tokio::test]
async fn an_old_redis_another_clock_and_another_version_of_a_node_are_named() {
    let redis = RedisServer::start().await;
    let version = redis.info("server").await.contains("redis_version:7").then_some("redis_version:7");
    let old = disguised(redis.port(), version.unwrap_or("redis_version:9"), "redis_version:6").await;
    let (is_sound, printed) = doctor(&[("REDIS_URL", &format!("redis://127.0.0.1:{old}")), ("PORT", "1")]).await;
    let about = line(&printed, "redis");
    assert!(!is_sound && about.starts_with("bad  ") && about.contains("use 7.0 or later"), "{printed}");

    // The seconds of `TIME` have ten digits. They begin with 1 until the year 2033.
    let ahead = disguised(redis.port(), "$10\r\n1", "$10\r\n2").await;
    let (is_sound, printed) = doctor(&[("REDIS_URL", &format!("redis://127.0.0.1:{ahead}")), ("PORT", "1")]).await;
    let about = line(&printed, "clock");
    assert!(is_sound && about.starts_with("warn ") && about.contains("set both by NTP"), "{printed}");

    let node = NodeProcess::spawn(&[]).await;
    const OWN: &str = concat!("\"version\":\"", env!("CARGO_PKG_VERSION"));
    const OTHER: &str = "\"version\":\"9.9.9";
    let other = disguised(node.addr().port(), OWN, OTHER).await.to_string();
    let (is_sound, printed) = doctor(&[("PORT", &other)]).await;
    let about = line(&printed, "nodes");
    assert!(is_sound && about.starts_with("warn ") && about.contains("is 9.9.9: finish the update"), "{printed}");
}

#[tokio::test]
async fn a_sound_service_is_found_sound_and_each_fault_of_redis_is_named() {
    let redis = RedisServer::start().await;
    redis.begin_epoch().await;
    redis.command(&["CONFIG", "SET", "maxmemory", "100mb"]).await;
    let url = redis.url();
    let mut environment = test_environment();
    environment.push(("REDIS_URL".to_owned(), url.clone()));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let (one, other) = (NodeProcess::spawn(&environment).await, NodeProcess::spawn(&environment).await);
    one.wait_ready().await;
    other.wait_ready().await;
    let port = one.addr().port().to_string();
    let here = [("REDIS_URL", url.as_str()), ("PORT", port.as_str())];

    let (is_sound, printed) = doctor(&here).await;
    assert!(is_sound, "{printed}");
    assert!(!printed.lines().any(|line| line.starts_with("bad")), "{printed}");
    assert!(
        line(&printed, "redis").starts_with("ok ") && line(&printed, "eviction").contains("noeviction"),
        "{printed}"
    );
    assert!(
        line(&printed, "clock").contains(" ms apart") && line(&printed, "memory").contains("of 105 MB"),
        "{printed}"
    );
    let nodes = format!("2 run {}, and answer", env!("CARGO_PKG_VERSION"));
    assert!(line(&printed, "nodes").contains(&nodes), "{printed}");

    redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let (is_sound, printed) = doctor(&here).await;
    assert!(!is_sound && printed.contains("checks failed"), "{printed}");
    assert!(line(&printed, "eviction").starts_with("bad  "), "{printed}");
    assert!(line(&printed, "memory").starts_with("warn "), "{printed}");
}

#[tokio::test]
async fn each_line_about_redis_says_what_is_wrong_and_what_to_do() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let here = [("REDIS_URL", url.as_str()), ("PORT", "1")];
    let (is_sound, printed) = doctor(&here).await;
    assert!(is_sound, "nothing is bad: {printed}");
    assert!(line(&printed, "persistence").contains("without an append-only file"), "{printed}");

    redis.command(&["CONFIG", "SET", "appendonly", "yes"]).await;
    // As much as is in use, so nearly all of it.
    let in_use = redis.info("memory").await;
    let in_use = in_use.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("INFO has it").trim();
    redis.command(&["CONFIG", "SET", "maxmemory", in_use]).await;
    // Fewer than this service needs. The server keeps 32 more files for itself.
    redis.command(&["CONFIG", "SET", "maxclients", "10"]).await;
    let (is_sound, printed) = doctor(&here).await;
    assert!(!is_sound, "{printed}");
    let memory = line(&printed, "memory");
    assert!(memory.starts_with("bad  ") && memory.contains("raise maxmemory"), "{printed}");
    let clients = line(&printed, "clients");
    assert!(clients.starts_with("warn ") && clients.contains("raise maxclients"), "{printed}");
    assert!(line(&printed, "persistence").contains("with an append-only file"), "{printed}");

    redis.break_saving().await;
    let (is_sound, printed) = doctor(&here).await;
    let persistence = line(&printed, "persistence");
    assert!(!is_sound && persistence.starts_with("bad  ") && persistence.contains("free the disk"), "{printed}");
}

#[tokio::test]
async fn a_replica_and_a_frozen_redis_are_bad() {
    let (primary, mut replica) = (RedisServer::start().await, RedisServer::start().await);
    replica.replicate(&primary).await;
    let url = replica.url();
    let here = [("REDIS_URL", url.as_str()), ("PORT", "1")];
    let (is_sound, printed) = doctor(&here).await;
    let about = line(&printed, "redis");
    assert!(!is_sound && about.starts_with("bad  ") && about.contains("the server is no primary"), "{printed}");

    replica.pause();
    let (is_sound, printed) = doctor(&here).await;
    let about = line(&printed, "redis");
    assert!(!is_sound && about.starts_with("bad  ") && about.contains("no answer"), "{printed}");
    replica.resume();
}

#[tokio::test]
async fn a_redis_that_cannot_be_used_is_bad_and_the_line_says_why() {
    let (is_sound, printed) = doctor(&[("REDIS_URL", "redis://127.0.0.1:1"), ("PORT", "1")]).await;
    assert!(!is_sound, "{printed}");
    let redis_line = line(&printed, "redis");
    assert!(redis_line.starts_with("bad  ") && redis_line.contains("check REDIS_URL"), "{printed}");
    assert!(line(&printed, "nodes").contains("no node tells which versions run"), "{printed}");

    let redis = RedisServer::start().await;
    redis.command(&["ACL", "SETUSER", "narrow", "on", ">secret", "~online:*", "&*", "+@all", "-zadd"]).await;
    let url = redis.url().replace("redis://", "redis://narrow:secret@");
    let (is_sound, printed) = doctor(&[("REDIS_URL", &url), ("PORT", "1")]).await;
    assert!(!is_sound && line(&printed, "redis").contains("+zadd"), "{printed}");
    assert!(!printed.contains("secret"), "{printed}");
    let wrong = url.replace("secret", "wrong");
    let (is_sound, printed) = doctor(&[("REDIS_URL", &wrong), ("PORT", "1")]).await;
    assert!(!is_sound && line(&printed, "redis").contains("correct the login"), "{printed}");
}

#[tokio::test]
async fn without_redis_the_machine_is_looked_at() {
    let node = NodeProcess::spawn(&[]).await;
    let port = node.addr().port().to_string();
    let environment = [("PORT", port.as_str()), ("ROLLCALL__SERVER__MAX_SOCKETS", "1000000"), ("HOST", "0.0.0.0")];
    let (is_sound, printed) = doctor(&environment).await;
    assert!(is_sound, "{printed}");
    assert!(line(&printed, "store").contains("embedded"), "{printed}");
    let files = line(&printed, "open files");
    assert!(files.contains("are needed") && (files.starts_with("ok ") || files.contains("LimitNOFILE")), "{printed}");
    assert!(line(&printed, "identity").starts_with("warn "), "{printed}");
    line(&printed, "backlog");

    // With few files, as on many machines.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 1000; exec \"$0\" doctor", PROGRAM]).env("PORT", &port);
    let (is_sound, printed) = printed_by(command).await;
    assert!(is_sound, "{printed}");
    let files = line(&printed, "open files");
    assert!(files.starts_with("warn  open files   1000 are allowed") && files.contains("LimitNOFILE"), "{printed}");
    assert!(line(&printed, "identity").starts_with("ok "), "{printed}");
}

#[tokio::test]
async fn what_is_printed_may_be_read_in_part() {
    let mut command = Command::new("bash");
    command.args(["-c", "set -o pipefail; \"$0\" doctor | true; echo \"${PIPESTATUS[0]}\"", PROGRAM]).env("PORT", "1");
    let (_, printed) = printed_by(command).await;
    assert_eq!(printed, "0\n", "nothing is bad, and nobody reads on");
}
