//! Checks what a node needs of its surroundings, before a person finds it out at night. Each check says what to do.

use std::fmt::Display;
use std::sync::Arc;

use crate::clock;
use crate::domain::{NodeId, Timestamp};
use crate::settings::{AuthMode, Settings};
use crate::store::redis::{RedisStore, ServerFacts};
use crate::store::{StoreError, StoreResult};
use crate::transport::files;

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in one or two words.
    pub about: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and what to do about it.
    pub what: String,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// The service works, and may not one day.
    Doubtful,
    /// The service does not work so, or loses what it knows.
    Bad,
}

/// The oldest Redis whose commands are all there. Source: docs/redis.md
const REDIS_VERSION_MIN: (u32, u32) = (7, 0);

/// Clocks that differ by more than this make times wrong that people see, and the lag that is measured.
const CLOCKS_DIFFER_MS: u64 = 1000;

/// Above this part of its memory, or of its clients, Redis is nearly full.
const NEARLY_FULL: f64 = 0.8;

/// About how many connections a node has to Redis besides those of its pool: the writer, and the subscriptions.
const CONNECTIONS_BESIDES: u64 = 8;

/// Looks at all. It changes nothing.
pub async fn examine(settings: &Settings, n_workers: usize, backlog: u32) -> Vec<Finding> {
    let mut findings = match &settings.redis.url {
        Some(url) => examine_redis(settings, url.expose_secret()).await,
        None => vec![good("store", "embedded: this node is alone, and forgets everything when it ends")],
    };
    findings.push(examine_files(settings, n_workers));
    findings.push(examine_backlog(backlog));
    findings.push(examine_identity(settings));
    findings
}

async fn examine_redis(settings: &Settings, url: &str) -> Vec<Finding> {
    let began = clock::now();
    let facts = match ask_redis(settings, url).await {
        Ok(facts) => facts,
        Err(error) => return vec![refusal(&error)],
    };
    let mut findings = examine_facts(&facts, settings.redis.pool_size as u64 + CONNECTIONS_BESIDES);
    findings.push(compare_clocks(facts.now, began, clock::now()));
    findings
}

async fn ask_redis(settings: &Settings, url: &str) -> StoreResult<ServerFacts> {
    let node = NodeId::from_bits(rand::random());
    let store = RedisStore::new(node, url, &settings.redis, &settings.presence, Arc::new(|| ()))?;
    store.examine_server().await
}

fn refusal(error: &StoreError) -> Finding {
    let remedy = match error {
        StoreError::Misconfigured(_) => "correct the login, the certificates or the rights of the user (docs/redis.md)",
        _ => {
            "check REDIS_URL (address, database, rediss:// for a Redis with TLS), the certificates, the network, and whether Redis runs"
        }
    };
    bad("redis", format!("{error}: {remedy}"))
}

fn examine_facts(facts: &ServerFacts, connections: u64) -> Vec<Finding> {
    vec![
        examine_version(&facts.version),
        match facts.is_cluster {
            false => good("cluster", "no Redis Cluster"),
            true => bad("cluster", "this is a Redis Cluster: use one Redis, for Rollcall's keys belong together"),
        },
        match facts.eviction.as_str() {
            "noeviction" => good("eviction", "noeviction"),
            other => bad(
                "eviction",
                format!(
                    "{other}: a full Redis would delete single keys, and nobody is told: set maxmemory-policy noeviction"
                ),
            ),
        },
        examine_memory(facts.memory),
        match &facts.write_refusal {
            None => good("writes", "are taken"),
            Some(error) => bad(
                "writes",
                format!(
                    "{error}: no node is ready like this: look at min-replicas-to-write and the replicas, the disk, and the memory"
                ),
            ),
        },
        match (facts.could_save, facts.has_append_only_file) {
            (false, _) => bad("persistence", "the last save failed: free the disk, or Redis refuses to write"),
            (true, true) => good("persistence", "with an append-only file"),
            (true, false) => {
                good("persistence", "without an append-only file: a restart forgets `last-seen` and rooms' members")
            }
        },
        examine_clients(facts.clients, connections),
    ]
}

fn examine_version(version: &str) -> Finding {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if (major, minor) >= REDIS_VERSION_MIN {
        good("redis", format!("{version}: a primary that grants all rights"))
    } else {
        bad("redis", format!("{version} is too old: use 7.0 or later"))
    }
}

fn examine_memory((used, max): (u64, u64)) -> Finding {
    let used_is = format!("{} in use", megabytes(used));
    match max {
        0 => doubtful("memory", format!("{used_is}, without a bound: set maxmemory, and alert below it")),
        max if used as f64 > NEARLY_FULL * max as f64 => {
            bad("memory", format!("{used_is} of {}: raise maxmemory, or a full Redis refuses to write", megabytes(max)))
        }
        max => good("memory", format!("{used_is} of {}", megabytes(max))),
    }
}

fn examine_clients((connected, max): (u64, u64), connections: u64) -> Finding {
    if max > 0 && (connected + connections) as f64 > NEARLY_FULL * max as f64 {
        doubtful("clients", format!("{connected} of {max}, and a node has about {connections}: raise maxclients"))
    } else {
        good("clients", format!("{connected} of {max}, and a node has about {connections}"))
    }
}

/// The store was asked between two times of this machine.
fn compare_clocks(store: Timestamp, began: Timestamp, ended: Timestamp) -> Finding {
    let apart_ms = began.0.saturating_sub(store.0).max(store.0.saturating_sub(ended.0));
    let what = format!("{apart_ms} ms apart from the clock of Redis");
    if apart_ms > CLOCKS_DIFFER_MS {
        doubtful("clock", format!("{what}: set both by NTP; leases do not depend on it, but times and tokens do"))
    } else {
        good("clock", what)
    }
}

fn examine_files(settings: &Settings, n_workers: usize) -> Finding {
    let needed = files::needed(settings, n_workers);
    match files::hard_limit() {
        Ok(limit) if limit < needed => doubtful(
            "open files",
            format!(
                "{limit} are allowed, and {needed} are needed for server.max_sockets: raise LimitNOFILE or `ulimit -Hn`"
            ),
        ),
        Ok(limit) => good("open files", format!("{limit} are allowed, and {needed} are needed")),
        Err(error) => doubtful("open files", format!("the limit cannot be read: {error}")),
    }
}

fn examine_backlog(backlog: u32) -> Finding {
    const PATH: &str = "/proc/sys/net/core/somaxconn";
    let allowed = std::fs::read_to_string(PATH).ok().and_then(|text| text.trim().parse::<u32>().ok());
    match allowed {
        Some(allowed) if allowed < backlog => doubtful(
            "backlog",
            format!(
                "the kernel keeps {allowed} new connections: with less than {backlog}, a crowd that comes back at once is refused: sysctl -w net.core.somaxconn={backlog}"
            ),
        ),
        Some(allowed) => good("backlog", format!("the kernel keeps {allowed} new connections")),
        None => doubtful("backlog", format!("{PATH} cannot be read")),
    }
}

fn examine_identity(settings: &Settings) -> Finding {
    let is_local = matches!(settings.server.host.as_str(), "127.0.0.1" | "::1" | "localhost");
    match settings.auth.mode {
        AuthMode::Jwt => good("identity", "clients show tokens"),
        AuthMode::Trusted if is_local => good("identity", "clients are believed, and come from this machine alone"),
        AuthMode::Trusted => doubtful(
            "identity",
            "every client that reaches the port is believed who it is: set auth.mode = \"jwt\", or let only a service in that authenticates",
        ),
    }
}

fn megabytes(n_bytes: u64) -> String {
    format!("{} MB", n_bytes.div_ceil(1_000_000))
}

fn good(about: &'static str, what: impl Display) -> Finding {
    Finding { about, verdict: Verdict::Good, what: what.to_string() }
}

fn doubtful(about: &'static str, what: impl Display) -> Finding {
    Finding { about, verdict: Verdict::Doubtful, what: what.to_string() }
}

fn bad(about: &'static str, what: impl Display) -> Finding {
    Finding { about, verdict: Verdict::Bad, what: what.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> ServerFacts {
        ServerFacts {
            version: "7.2.4".to_owned(),
            is_cluster: false,
            eviction: "noeviction".to_owned(),
            memory: (1_000_000, 100_000_000),
            could_save: true,
            has_append_only_file: true,
            write_refusal: None,
            clients: (10, 10_000),
            now: Timestamp(5000),
        }
    }

    fn verdict(about: &str, facts: &ServerFacts) -> Verdict {
        let findings = examine_facts(facts, 20);
        findings.iter().find(|finding| finding.about == about).unwrap_or_else(|| panic!("{findings:?}")).verdict
    }

    #[test]
    fn each_fault_is_found() {
        assert!(examine_facts(&facts(), 20).iter().all(|finding| finding.verdict == Verdict::Good));
        let with = |change: fn(&mut ServerFacts)| {
            let mut facts = facts();
            change(&mut facts);
            facts
        };
        for (about, faulty, expected) in [
            ("redis", with(|facts| facts.version = "6.2.14".to_owned()), Verdict::Bad),
            ("cluster", with(|facts| facts.is_cluster = true), Verdict::Bad),
            ("eviction", with(|facts| facts.eviction = "allkeys-lru".to_owned()), Verdict::Bad),
            ("memory", with(|facts| facts.memory = (90_000_000, 100_000_000)), Verdict::Bad),
            ("memory", with(|facts| facts.memory.1 = 0), Verdict::Doubtful),
            ("persistence", with(|facts| facts.could_save = false), Verdict::Bad),
            ("writes", with(|facts| facts.write_refusal = Some("NOREPLICAS".to_owned())), Verdict::Bad),
            ("clients", with(|facts| facts.clients = (90, 100)), Verdict::Doubtful),
        ] {
            assert_eq!(verdict(about, &faulty), expected, "{about}");
        }
    }

    #[test]
    fn clocks_are_compared_with_the_time_that_the_question_took() {
        let verdict =
            |store, began, ended| compare_clocks(Timestamp(store), Timestamp(began), Timestamp(ended)).verdict;
        assert_eq!(verdict(5000, 4000, 9000), Verdict::Good);
        assert_eq!(verdict(5000, 6001, 6002), Verdict::Doubtful);
        assert_eq!(verdict(5000, 1000, 3999), Verdict::Doubtful);
    }
}
