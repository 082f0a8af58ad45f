//! Redis over TLS: whom the node trusts, what it shows, how it logs in, and what becomes of it when Redis dies.

use std::path::Path;
use std::sync::Arc;

use rollcall::settings::Settings;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::*;

/// The settings of a node whose Redis, or a proxy before it, listens at this port.
fn settings(port: u16, pki: &Pki, shown: Option<&Issued>) -> Settings {
    let mut settings = test_settings_with_redis(&format!("rediss://127.0.0.1:{port}"));
    settings.redis.tls_ca_path = Some(pki.ca());
    settings.redis.tls_certificate_path = shown.map(|issued| issued.certificate.clone());
    settings.redis.tls_key_path = shown.map(|issued| issued.key.clone());
    settings
}

/// The same for a process.
fn environment(url: &str, ca: &Path, shown: Option<&Issued>) -> Vec<(String, String)> {
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let mut environment = test_environment();
    environment.push(("REDIS_URL".to_owned(), url.to_owned()));
    environment.push(("ROLLCALL__REDIS__TLS_CA_PATH".to_owned(), path(ca)));
    if let Some(Issued { certificate, key }) = shown {
        environment.push(("ROLLCALL__REDIS__TLS_CERTIFICATE_PATH".to_owned(), path(certificate)));
        environment.push(("ROLLCALL__REDIS__TLS_KEY_PATH".to_owned(), path(key)));
    }
    environment
}

async fn spawn(environment: &[(String, String)]) -> NodeProcess {
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    NodeProcess::spawn(&environment).await
}

#[tokio::test]
async fn a_node_shows_its_certificate_and_logs_in_with_a_password_from_a_file() {
    let pki = Pki::new();
    let redis = RedisServer::start_tls(&pki, true).await;
    redis.begin_epoch().await;
    redis.command(&["ACL", "SETUSER", "rollcall", "on", ">p@ss/w#rd", "~*", "&*", "+@all"]).await;
    redis.command(&["ACL", "SETUSER", "default", "-@all", "+acl", "+smembers", "+ping"]).await;
    let password = pki.ca().with_file_name("password");
    std::fs::write(&password, "p@ss/w#rd\n").expect("a file can be written");
    let mut environment = environment(&redis.url(), &pki.ca(), Some(&pki.issue("node")));
    environment.push(("ROLLCALL__REDIS__USERNAME".to_owned(), "rollcall".to_owned()));
    environment.push(("REDIS_PASSWORD_FILE".to_owned(), password.to_str().expect("a path in UTF-8").to_owned()));
    let node = spawn(&environment).await;
    node.wait_ready().await;
    let store = format!("store: {}/0 (prefix online)", redis.url());
    assert!(node.stdout().contains(&store) && store.contains("rediss://"), "{}", node.stdout());
    let other = spawn(&environment).await;
    other.wait_ready().await;
    let mut ada = node.join("ada").await;
    let _bob = other.join("bob").await;
    ada.wait_for(|frame| frame["type"] == "user_online" && frame["userId"] == "bob").await;
    assert_eq!(redis.smembers("online:users:set").await, ["ada", "bob"]);
    assert!(!(node.stdout() + &node.stderr()).contains("p@ss"), "{}", node.stderr());
}

#[tokio::test]
async fn a_node_that_redis_and_it_do_not_trust_is_not_ready_and_says_why() {
    let (pki, other) = (Pki::new(), Pki::new());
    let redis = RedisServer::start_tls(&pki, true).await;
    let plain = RedisServer::start().await;
    let ended = expired_server(&pki).await;
    let url = |port: u16| format!("rediss://127.0.0.1:{port}");
    let node = pki.issue("node");
    for (what, port, ca, shown, reason) in [
        ("another authority", redis.port(), other.ca(), Some(&node), "UnknownIssuer"),
        ("no certificate", redis.port(), pki.ca(), None, "CertificateRequired"),
        ("a foreign certificate", redis.port(), pki.ca(), Some(&other.issue("foreign")), "UnknownCA"),
        ("an old certificate", redis.port(), pki.ca(), Some(&pki.issue_until("old", 2001)), "CertificateExpired"),
        ("a server with an old certificate", ended, pki.ca(), None, "certificate expired"),
        // Redis waits for the rest of what it takes for a command.
        ("a server without TLS", plain.port(), pki.ca(), None, "timed out"),
    ] {
        let node = spawn(&environment(&url(port), &ca, shown)).await;
        let says = |text: String| text.to_lowercase().contains(&reason.to_lowercase());
        eventually(async || says(node.stderr()), &format!("{what}: the node says {reason}")).await;
        assert_eq!(node.get("/readyz").await.0, 503, "{what}");
        assert_eq!(node.get("/healthz").await.0, 200, "{what}");
    }
}

/// The port of a server whose certificate has ended. It never gets to speak.
async fn expired_server(pki: &Pki) -> u16 {
    let Issued { certificate, key } = pki.issue_until("ended", 2001);
    let chain = CertificateDer::pem_file_iter(certificate).expect("a file").map(|one| one.expect("a certificate"));
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("the versions of the library").with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain.collect(), key).expect("a pair")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let _ = acceptor.accept(tcp).await;
        }
    });
    port
}

#[tokio::test]
async fn a_file_that_has_not_what_it_should_refuses_the_start_in_one_line() {
    let pki = Pki::new();
    let redis = RedisServer::start_tls(&pki, false).await;
    let node = pki.issue("node");
    let refusal = async |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings(redis.port(), &pki, Some(&node));
        change(&mut settings);
        let refused = Node::try_spawn(settings).await.err().expect("it refuses to start");
        assert_eq!(refused.lines().count(), 1, "{refused}");
        refused
    };
    let missing = refusal(&|settings| settings.redis.tls_ca_path = Some("/no/such.pem".into())).await;
    assert!(missing.contains("redis.tls_ca_path: /no/such.pem cannot be read: No such file"), "{missing}");
    let swapped = refusal(&|settings| settings.redis.tls_ca_path = Some(node.key.clone())).await;
    assert!(swapped.contains("redis.tls_ca_path: ") && swapped.contains("has no certificate in PEM"), "{swapped}");
    let swapped = refusal(&|settings| settings.redis.tls_key_path = Some(node.certificate.clone())).await;
    assert!(swapped.contains("redis.tls_key_path: ") && swapped.contains("has no private key in PEM"), "{swapped}");
    let broken = pki.ca().with_file_name("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").expect("it can be written");
    refusal(&|settings| settings.redis.tls_ca_path = Some(broken.clone())).await;
}

#[tokio::test]
async fn a_wrong_password_refuses_the_start_and_is_not_shown() {
    let pki = Pki::new();
    let redis = RedisServer::start_tls(&pki, false).await;
    redis.command(&["ACL", "SETUSER", "rollcall", "on", ">right", "~*", "&*", "+@all"]).await;
    let mut settings = settings(redis.port(), &pki, None);
    settings.redis.username = Some("rollcall".to_owned());
    settings.redis.password = Some("s3cret".parse().expect("any text"));
    let refused = Node::try_spawn(settings).await.err().expect("it refuses to start");
    assert!(refused.contains("authentication failed") && !refused.contains("s3cret"), "{refused}");
}

/// Two nodes behind a proxy before a Redis with TLS.
struct Behind {
    // Declared, and so dropped, before what they use.
    nodes: Vec<Node>,
    proxy: ChaosProxy,
    redis: RedisServer,
    pki: Pki,
}

impl Behind {
    async fn start() -> Behind {
        let pki = Pki::new();
        let redis = RedisServer::start_tls(&pki, true).await;
        redis.begin_epoch().await;
        let proxy = ChaosProxy::start(redis.port()).await;
        let shown = pki.issue("node");
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let node = Node::spawn(settings(proxy.port(), &pki, Some(&shown))).await;
            node.wait_ready().await;
            nodes.push(node);
        }
        Behind { nodes, proxy, redis, pki }
    }

    async fn wait_until_degraded(&self, is_degraded: bool) {
        for node in &self.nodes {
            let said = async || node.is_degraded().await;
            eventually_eq_within(3 * DEADLINE, said, Some(is_degraded), "both nodes say so").await;
        }
    }

    /// What happens at one node is heard at the other.
    async fn assert_both_work(&self, user: &str) {
        let mut watch = self.nodes[0].join(&format!("watch-{user}")).await;
        let joined = self.nodes[1].join(user).await;
        watch.wait_for(|frame| frame["type"] == "user_online" && frame["userId"] == user).await;
        joined.close(1000).await;
        watch.wait_for(|frame| frame["type"] == "user_offline" && frame["userId"] == user).await;
        watch.close(1000).await;
    }
}

#[tokio::test]
async fn a_redis_that_dies_and_comes_back_empty_is_found_again() {
    let mut behind = Behind::start().await;
    let _ada = behind.nodes[0].join("ada").await;
    behind.redis.kill();
    behind.wait_until_degraded(true).await;
    behind.redis.restart().await;
    behind.wait_until_degraded(false).await;
    let asserted = async || behind.redis.smembers("online:users:set").await;
    eventually_eq(asserted, ["ada"], "the user is asserted again").await;
    behind.assert_both_work("bob").await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_any_more_is_given_up() {
    let behind = Behind::start().await;
    behind.proxy.freeze();
    behind.wait_until_degraded(true).await;
    behind.proxy.thaw();
    behind.wait_until_degraded(false).await;
    behind.assert_both_work("ada").await;
}

#[tokio::test]
async fn another_redis_is_followed_when_the_address_leads_there() {
    let behind = Behind::start().await;
    let new = RedisServer::start_tls(&behind.pki, true).await;
    new.replicate(&behind.redis).await;
    let _ada = behind.nodes[0].join("ada").await;
    eventually_eq(async || new.smembers("online:users:set").await, ["ada"], "the replica has ada").await;
    new.promote().await;
    behind.proxy.switch(new.port());
    let bob = behind.nodes[1].join("bob").await;
    let moved = async || new.smembers("online:users:set").await;
    eventually_eq_within(3 * DEADLINE, moved, ["ada", "bob"], "both are with the new server").await;
    behind.wait_until_degraded(false).await;
    behind.assert_both_work("carol").await;
    bob.close(1000).await;
}
