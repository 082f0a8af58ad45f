//! `rollcall doctor`: what it finds, and what it says to do.

use tokio::process::Command;

use crate::support::*;

/// Runs it with these variables. Returns whether nothing is bad, and what it printed.
async fn doctor(environment: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.arg("doctor").envs(environment.iter().copied()).kill_on_drop(true);
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
}
