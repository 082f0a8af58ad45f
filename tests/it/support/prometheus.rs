//! The Prometheus of `deploy/`, which scrapes the nodes of a test.
//!
//! ```ignore
//! let prometheus = Prometheus::start(&[node.addr()], &[]).await;
//! prometheus.wait_for_alerts(&["RollcallNodeDown"]).await;
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::ports::Port;
use super::process::OwnedProcess;
use super::{DEADLINE, eventually_eq_within, eventually_within};

/// A Prometheus with the rules of `deploy/`, killed and cleaned up on Drop.
pub(crate) struct Prometheus {
    port: Port,
    directory: PathBuf,
    process: OwnedProcess,
}

impl Prometheus {
    /// Scrapes these each second. Every alert fires at once.
    pub(crate) async fn start(plain: &[SocketAddr], encrypted: &[SocketAddr]) -> Prometheus {
        let port = Port::reserve();
        let name = format!("prometheus-{}-{}", std::process::id(), port.number());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).expect("a directory can be made");
        let rules: String = deployed("prometheus/rules.yml")
            .lines()
            .filter(|line| !line.trim_start().starts_with("for: "))
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(directory.join("rules.yml"), rules).expect("a file can be written");
        fs::write(directory.join("prometheus.yml"), configuration(plain, encrypted).to_string()).expect("a file");
        let log = fs::File::create(directory.join("log")).expect("a file can be made");
        let mut process = OwnedProcess::spawn(
            OwnedProcess::command("prometheus")
                .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
                .stderr(log.try_clone().expect("a file has another handle"))
                .stdout(log),
        );
        let url = format!("http://127.0.0.1:{}/-/ready", port.number());
        let log = directory.join("log");
        let is_ready = async || {
            assert_eq!(process.exited(), None, "{}", fs::read_to_string(&log).unwrap_or_default());
            reqwest::get(&url).await.is_ok_and(|answer| answer.status() == 200)
        };
        eventually_within(3 * DEADLINE, is_ready, "Prometheus is ready").await;
        Prometheus { port, directory, process }
    }

    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.port.number());
        let url = reqwest::Url::parse_with_params(&url, parameters).expect("a URL");
        let body = reqwest::get(url).await.expect("Prometheus answers").text().await.expect("a body");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// The names of the alerts that have fired until now.
    async fn has_fired(&self) -> BTreeSet<String> {
        let query = "count by (alertname) (max_over_time(ALERTS{alertstate=\"firing\"}[1h]))";
        let answer = self.ask("query", &[("query", query)]).await;
        let fired = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}"));
        fired.iter().filter_map(|series| series["metric"]["alertname"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until these have fired, at any time.
    pub(crate) async fn wait_for_alerts(&self, names: &[&str]) {
        let missing = async || {
            let fired = self.has_fired().await;
            names.iter().filter(|name| !fired.contains(**name)).map(|name| (*name).to_owned()).collect::<Vec<_>>()
        };
        eventually_eq_within(4 * DEADLINE, missing, Vec::<String>::new(), "these alerts have fired").await;
    }

    /// Whether a query has data.
    pub(crate) async fn has_data(&self, query: &str) -> bool {
        let answer = self.ask("query", &[("query", query)]).await;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().is_some_and(|result| !result.is_empty())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// The text of a file of `deploy/`.
pub(crate) fn deployed(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// JSON is YAML, too.
fn configuration(plain: &[SocketAddr], encrypted: &[SocketAddr]) -> Value {
    let targets = |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": "rollcall", "static_configs": [{"targets": targets(plain)}]},
            {"job_name": "encrypted", "scheme": "https", "tls_config": {"insecure_skip_verify": true},
             "static_configs": [{"targets": targets(encrypted)}]},
        ],
    })
}
