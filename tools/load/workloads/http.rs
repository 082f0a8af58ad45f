//! Reads over HTTP.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{HTTP_PREFIX, Lab};
use crate::ghost::Ghost;
use crate::http::{get, get_request, hammer, post_request};
use crate::plain_http::PlainHttp;
use crate::process::Process;
use crate::table::{Measure, Row, Target, us};

/// Kept-alive connections: enough that the worker finds the next request waiting.
const N_CONNECTIONS: usize = 64;

/// Users online when the first page is read.
const N_USERS: usize = 100_000;

/// `countOnly` and the plain-text handler take turns, one worker each.
pub(super) async fn count_only(lab: &Lab<'_>) -> Result<Vec<Row>> {
    const TURN: Duration = Duration::from_millis(1500);
    const N_TURNS: usize = 4;
    let plain = PlainHttp::start(&lab.programs)?;
    let (mut ours, mut theirs) = (Load::default(), Load::default());
    let (plaintext, count_only) = (get_request("/plaintext"), get_request("/api/online-users?countOnly=true"));
    let turns = async {
        for _ in 0..N_TURNS {
            let is_right = |body: &[u8]| body == b"Hello, World!";
            theirs.add(&plain.process, hammer(plain.addr, &plaintext, N_CONNECTIONS, TURN, is_right)).await?;
            let is_right = |body: &[u8]| body.starts_with(br#"{"success":true,"count":"#);
            ours.add(&lab.http.process, hammer(lab.http.addr, &count_only, N_CONNECTIONS, TURN, is_right)).await?;
        }
        anyhow::Ok(())
    };
    lab.progress.timed("asking by turns", TURN * 2 * N_TURNS as u32, turns).await?;
    let seconds = (TURN * N_TURNS as u32).as_secs_f64();
    Ok(vec![Row {
        workload: "countOnly over kept-alive HTTP, one core, CPU each".to_owned(),
        measured: Measure(ours.each(), "us"),
        beside: Some((theirs.each(), "plain text")),
        target: Target::RatioAtMost(1.1),
        note: format!(
            "{} right answers; {:.0}/s, plain text {:.0}/s",
            ours.n_answers,
            ours.n_answers as f64 / seconds,
            theirs.n_answers as f64 / seconds
        ),
    }])
}

/// The first 1 000 of many, without and with profiles.
pub(super) async fn first_page(lab: &Lab<'_>) -> Result<Vec<Row>> {
    const N_PROFILES: usize = 2000;
    const TURN: Duration = Duration::from_secs(3);
    let mut ghost = Ghost::start(&lab.redis, HTTP_PREFIX)?;
    let step = lab.progress.step("joining a node without sockets", N_USERS);
    // By the bytes of their ids those with a profile come last.
    ghost.join("bare", N_USERS - N_PROFILES, false).await?;
    step.advance(N_USERS - N_PROFILES);
    ghost.join("profile", N_PROFILES, true).await?;
    lab.http.until_online(N_USERS).await?;
    drop(step);

    let mut rows = Vec::new();
    for (what, path, target) in [
        ("without profiles", "/api/online-users", Target::AtMost(100.0)),
        ("with profiles", "/api/online-users?cursor=c", Target::None),
    ] {
        let body = get(lab.http.addr, path).await?.body;
        let request = get_request(path);
        let page: serde_json::Value = serde_json::from_str(&body)?;
        let n_users = page["data"].as_array().map_or(0, Vec::len);
        ensure!((n_users, page["count"].as_u64()) == (1000, Some(N_USERS as u64)), "a page of {n_users} users");
        let mut load = Load::default();
        let is_right = |body: &[u8]| body.len() > 30_000 && body.starts_with(br#"{"success":true,"data":[{"#);
        let asking = load.add(&lab.http.process, hammer(lab.http.addr, &request, 8, TURN, is_right));
        lab.progress.timed(&format!("asking for pages {what}"), TURN, asking).await?;
        rows.push(Row {
            workload: format!("page of 1 000 of {N_USERS} users {what}, CPU each"),
            measured: Measure(load.each(), "us"),
            beside: None,
            target,
            note: format!("{} pages of {:.0} KiB", load.n_answers, body.len() as f64 / 1024.0),
        });
    }
    ghost.leave();
    lab.http.until_online(0).await?;
    Ok(rows)
}

/// 1 000 users in one question, all of them online.
pub(super) async fn batch(lab: &Lab<'_>) -> Result<Vec<Row>> {
    const N_ASKED: usize = 1000;
    const TURN: Duration = Duration::from_secs(3);
    let mut ghost = Ghost::start(&lab.redis, HTTP_PREFIX)?;
    ghost.join("asked", N_ASKED, false).await?;
    lab.http.until_online(N_ASKED).await?;

    let ids: Vec<_> = (0..N_ASKED).map(|i| format!("asked{i:06}")).collect();
    let body = serde_json::json!({ "userIds": ids }).to_string();
    let request = post_request("/api/user-status/batch", &body);
    let mut load = Load::default();
    let is_right = |body: &[u8]| {
        let n_online = body.windows(16).filter(|bytes| bytes == br#""isOnline":true,"#).count();
        body.starts_with(br#"{"success":true,"#) && n_online == N_ASKED
    };
    let asking = load.add(&lab.http.process, hammer(lab.http.addr, &request, 8, TURN, is_right));
    lab.progress.timed("asking about 1 000 users", TURN, asking).await?;
    ghost.leave();
    lab.http.until_online(0).await?;
    Ok(vec![Row {
        workload: format!("batch of {N_ASKED} online users over HTTP, CPU each"),
        measured: Measure(load.each(), "us"),
        beside: None,
        target: Target::AtMost(200.0),
        note: format!("{} answers, each with {N_ASKED} users online", load.n_answers),
    }])
}

/// CPU time over answers.
#[derive(Default)]
struct Load {
    cpu: Duration,
    n_answers: u64,
}

impl Load {
    async fn add(&mut self, process: &Process, answers: impl Future<Output = Result<u64>>) -> Result<()> {
        let from = process.cpu()?;
        self.n_answers += answers.await?;
        self.cpu += process.cpu()? - from;
        Ok(())
    }

    fn each(&self) -> f64 {
        us(self.cpu) / self.n_answers as f64
    }
}
