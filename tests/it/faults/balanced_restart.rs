//! A rolling restart by `scripts/rolling-restart`, behind the load balancer of `deploy/`, under sockets and reads.
//!
//! A larger run, with the figures of each round:
//!
//! ```text
//! ROLLCALL_RESTART_USERS=300 ROLLCALL_RESTART_ROUNDS=10 cargo test --test it balanced_restart -- --nocapture
//! ```

use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// Three nodes that keep their names and ports when they restart, and the balancer before them.
struct Fleet {
    // Declared, and so dropped, before what they use.
    balancer: Balancer,
    nodes: Vec<NodeProcess>,
    ports: Vec<Port>,
    redis: RedisServer,
}

impl Fleet {
    async fn start() -> Fleet {
        let redis = RedisServer::start().await;
        redis.begin_epoch().await;
        let ports: Vec<_> = (0..3).map(|_| Port::reserve()).collect();
        let mut nodes = Vec::new();
        for (n, port) in ports.iter().enumerate() {
            nodes.push(start_node(n, port, &redis.url()).await);
            nodes[n].wait_ready().await;
        }
        let balancer = Balancer::start(&ports.iter().map(Port::number).collect::<Vec<_>>()).await;
        Fleet { balancer, nodes, ports, redis }
    }

    /// Runs the script. A node starts anew with the Redis that `redis_of` says.
    async fn roll(&mut self, redis_of: impl Fn(usize) -> String, options: &[&str]) -> Output {
        let control = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let control_port = control.local_addr().expect("an address").port();
        // The script's own commands are for containers. These ask this test to restart a node, and ask the node itself.
        let restart = format!(
            r#"exec 3<> /dev/tcp/127.0.0.1/{control_port}; echo "$1" >&3; read -r answer <&3; [[ $answer == started ]]"#
        );
        let ports = self.ports.iter().enumerate();
        let cases: String = ports.map(|(n, port)| format!("node{}) PORT={};; ", n + 1, port.number())).collect();
        let rollcall = env!("CARGO_BIN_EXE_rollcall");
        let ready = format!(r#"case $1 in {cases} esac; PORT=$PORT HOST= exec "{rollcall}" healthcheck --ready"#);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rolling-restart");
        let mut command = tokio::process::Command::new(script);
        command.args(["--restart", &restart, "--ready", &ready]).args(options).args(["node1", "node2", "node3"]);
        let ended = command.kill_on_drop(true).output();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                output = &mut ended => return output.expect("the script runs"),
                asked = control.accept() => {
                    let mut asked = BufReader::new(asked.expect("a connection").0);
                    let mut name = String::new();
                    asked.read_line(&mut name).await.expect("a name");
                    let n = ["node1", "node2", "node3"].iter().position(|node| *node == name.trim()).expect("a node");
                    self.restart(n, &redis_of(n)).await;
                    asked.write_all(b"started\n").await.expect("the script reads");
                }
            }
        }
    }

    async fn restart(&mut self, n: usize, redis: &str) {
        self.nodes[n].sigterm();
        assert!(self.nodes[n].wait().await.success(), "{}", self.nodes[n].stderr());
        self.nodes[n] = start_node(n, &self.ports[n], redis).await;
    }

    /// The sockets of each node.
    async fn spread(&self) -> Vec<u64> {
        let mut sockets = Vec::new();
        for node in &self.nodes {
            sockets.push(node.counter("rollcall_sockets").await);
        }
        sockets
    }
}

async fn start_node(n: usize, port: &Port, redis: &str) -> NodeProcess {
    let (name, port) = (format!("node{}", n + 1), port.number().to_string());
    let mut environment = test_environment();
    let own = [
        ("REDIS_URL", redis),
        ("PORT", &port),
        ("ROLLCALL__SERVER__NAME", &name),
        ("ROLLCALL__DRAIN__RECONNECT_SPREAD_MS", "2000"),
        // Time for the debug handshakes on a busy machine.
        ("ROLLCALL__PRESENCE__GRACE_MS", "4500"),
        ("ROLLCALL__PRESENCE__LEASE_MS", "7000"),
    ];
    environment.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    NodeProcess::spawn(&environment).await
}

/// What clients and readers go through.
#[derive(Default)]
struct Record {
    n_here: usize,
    n_closed: usize,
    n_reads: usize,
    wrong: Vec<String>,
}

type Shared = Arc<Mutex<Record>>;

fn lock(record: &Shared) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client that comes back when and because the close frame says so.
async fn obey(addr: SocketAddr, user: String, record: Shared) {
    loop {
        let listener = match Listener::connect(addr, &user).await {
            Ok(listener) => listener,
            Err(error) => {
                lock(&record).wrong.push(format!("{user} could not connect: {error}"));
                continue;
            }
        };
        lock(&record).n_here += 1;
        while listener.is_open() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let heard = listener.heard().end.clone().expect("it has ended");
        let (told, unsound) = (listener.events("user_offline"), listener.heard().wrong.clone());
        let close: serde_json::Value = serde_json::from_str(&heard.1).unwrap_or_default();
        let after_ms = close["reconnectAfterMs"].as_u64();
        {
            let mut record = lock(&record);
            record.n_here -= 1;
            record.n_closed += 1;
            record.wrong.extend(unsound);
            record.wrong.extend(told.iter().filter(|e| e.frame["userId"] != "marker").map(|e| e.frame.to_string()));
            if heard.0 != 1001 || after_ms.is_none() {
                record.wrong.push(format!("{user} was closed with {heard:?}"));
            }
        }
        tokio::time::sleep(Duration::from_millis(after_ms.unwrap_or_default())).await;
    }
}

/// Two readers ask who is online, 25 times a second each.
fn readers(addr: SocketAddr, record: &Shared) -> impl Iterator<Item = JoinHandle<()>> {
    let record = record.clone();
    (0..2).map(move |_| tokio::spawn(read(addr, record.clone())))
}

async fn read(addr: SocketAddr, record: Shared) {
    let http = reqwest::Client::builder().timeout(DEADLINE).no_proxy().build().expect("an HTTP client");
    // What could not be asked in time is asked as soon as it can be.
    let mut turns = tokio::time::interval(Duration::from_millis(40));
    loop {
        turns.tick().await;
        let answer = http.get(format!("http://{addr}/api/online-users?countOnly=true")).send().await;
        {
            let mut record = lock(&record);
            record.n_reads += 1;
            match answer {
                Ok(answer) if answer.status() == 200 => {}
                answer => record.wrong.push(format!("a read: {answer:?}")),
            }
        }
    }
}

/// Starts as many clients, and waits until all are here.
async fn clients(addr: SocketAddr, users: std::ops::Range<usize>, record: &Shared) -> Vec<JoinHandle<()>> {
    let (n_before, n_more) = (lock(record).n_here, users.len());
    let clients = users.map(|n| tokio::spawn(obey(addr, format!("user-{n}"), record.clone()))).collect();
    everybody_is_here(record, n_before + n_more).await;
    clients
}

async fn everybody_is_here(record: &Shared, n_users: usize) {
    let here = async || lock(record).n_here;
    eventually_eq_within(3 * DEADLINE, here, n_users, "everybody is here").await;
}

#[tokio::test]
async fn a_rolling_restart_behind_the_balancer_is_not_heard_and_fails_no_read() {
    let n_users = number_from_env("ROLLCALL_RESTART_USERS", 60) as usize;
    let n_rounds = number_from_env("ROLLCALL_RESTART_ROUNDS", 1) as usize;
    let mut fleet = Fleet::start().await;
    let (addr, record) = (fleet.balancer.addr(), Shared::default());
    let mut tasks = clients(addr, 0..n_users, &record).await;
    tasks.extend(readers(addr, &record));
    println!("users {n_users}, sockets at first {:?}", fleet.spread().await);

    for round in 1..=n_rounds {
        let (redis, n_reads, began) = (fleet.redis.url(), lock(&record).n_reads, tokio::time::Instant::now());
        let drained: Vec<_> = fleet.nodes.iter().map(|node| node.node_id().to_owned()).collect();
        let rolled = fleet.roll(|_| redis.clone(), &["--pause", "3"]).await;
        assert!(rolled.status.success(), "{}", String::from_utf8_lossy(&rolled.stderr));
        everybody_is_here(&record, n_users).await;
        for node in &drained {
            let known = async || fleet.redis.query::<Option<f64>>(&["ZSCORE", "online:nodes", node]).await;
            eventually_eq_within(2 * DEADLINE, known, None, "the drained node is swept").await;
        }
        let reads = (lock(&record).n_reads - n_reads) as f64 / began.elapsed().as_secs_f64();
        let (spread, wrong) = (fleet.spread().await, lock(&record).wrong.clone());
        println!("round {round}: sockets {spread:?}, {reads:.0} reads a second, wrong {wrong:?}");
    }
    // Whatever the sweeps told lies before this.
    let mut watches = Vec::new();
    for (n, node) in fleet.nodes.iter().enumerate() {
        watches.push(Listener::join(node.addr(), &format!("watch-{n}")).await);
        assert_eq!(watches[n].online().len(), n_users + n + 1, "everybody is online");
    }
    let mut marker = fleet.nodes[0].join("marker").await;
    marker.send_json(serde_json::json!({"type": "leave"})).await;
    for watch in &watches {
        watch.wait_for("user_offline", "marker").await;
        watch.assert_sound();
    }
    assert_eq!(lock(&record).wrong, NOBODY, "nobody was told of a departure, and no read failed");
    for reason in ["node_drained", "node_lost", "connection_lost", "timed_out"] {
        assert_eq!(logged_offline(&fleet.redis, reason).await, NOBODY, "and there was none");
    }
    assert!(lock(&record).n_closed >= n_users * n_rounds, "everybody was moved at least once a round");

    // No node starves: as many clients as there are already come, and each node has its share.
    drop((watches, marker));
    fleet.balancer.wait_until_all_are_up().await;
    tasks.extend(clients(addr, n_users..2 * n_users, &record).await);
    let gone = async || fleet.spread().await.iter().sum::<u64>();
    eventually_eq(gone, 2 * n_users as u64, "the watches are gone").await;
    let (spread, share) = (fleet.spread().await, 2 * n_users as u64 / 3);
    println!("twice as many: {spread:?}");
    assert!(spread.iter().all(|n| n.abs_diff(share) * 5 <= share), "{spread:?}");
    tasks.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_rolling_restart_stops_at_the_first_node_that_does_not_come_back() {
    const N_USERS: usize = 12;
    let mut fleet = Fleet::start().await;
    let (addr, record) = (fleet.balancer.addr(), Shared::default());
    let mut tasks = clients(addr, 0..N_USERS, &record).await;
    tasks.extend(readers(addr, &record));
    let before: Vec<_> = fleet.nodes.iter().map(|node| node.node_id().to_owned()).collect();
    let (redis, nobody) = (fleet.redis.url(), Port::reserve());
    let redis_of = |n| if n == 1 { format!("redis://127.0.0.1:{}", nobody.number()) } else { redis.clone() };
    let rolled = fleet.roll(redis_of, &["--pause", "1", "--patience", "5"]).await;
    let said = String::from_utf8_lossy(&rolled.stderr);
    assert_eq!(rolled.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("rolling-restart: node2 is not ready, 5 s after its restart."), "{said}");
    assert!(last.contains("ready again before: node1.") && last.contains(r#""code":"not_ready""#), "{said}");
    assert!(fleet.nodes[0].node_id() != before[0] && fleet.nodes[2].node_id() == before[2], "{said}");
    // The others serve, and nobody hears of it.
    everybody_is_here(&record, N_USERS).await;
    assert_eq!(fleet.nodes[1].counter("rollcall_sockets").await, 0);
    let known = async || fleet.redis.query::<Option<f64>>(&["ZSCORE", "online:nodes", &before[1]]).await;
    eventually_eq_within(2 * DEADLINE, known, None, "the drained node is swept").await;
    assert_eq!(lock(&record).wrong, NOBODY);
    assert_eq!(logged_offline(&fleet.redis, "node_drained").await, NOBODY);

    // A second try does not begin: it would take away a node that serves.
    let rolled = fleet.roll(redis_of, &[]).await;
    let said = String::from_utf8_lossy(&rolled.stderr);
    assert_eq!(rolled.status.code(), Some(1), "{said}");
    assert!(said.starts_with("rolling-restart: node2 is not ready, so no node was restarted."), "{said}");
    assert_eq!(fleet.nodes[2].node_id(), before[2]);
    tasks.iter().for_each(JoinHandle::abort);
}
