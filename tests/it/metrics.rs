//! What operators scrape.

use std::collections::BTreeSet;

use crate::auth::list_key;
use crate::support::*;

#[tokio::test]
async fn the_documented_metrics_are_those_that_are_scraped() {
    let mut settings = test_settings();
    list_key(&mut settings, "prometheus", &["metrics"]);
    let node = Node::spawn(settings).await;
    let scraped = node.get_raw("/metrics").await;
    assert_eq!(scraped.status, 200);
    assert!(scraped.body.ends_with("# EOF\n"));
    let family = |line: &str| line.strip_prefix("# TYPE ").map(str::to_owned);
    let scraped: BTreeSet<_> = scraped.body.lines().filter_map(family).map(|line| full_name(&line)).collect();
    let documents = include_str!("../../docs/operations.md");
    let row = |line: &str| line.strip_prefix("| `")?.split('`').next().map(str::to_owned);
    let is_metric = |name: &String| name.starts_with("rollcall_") || name.starts_with("process_");
    let documented: BTreeSet<_> = documents.lines().filter_map(row).filter(|name| is_metric(name)).collect();
    assert_eq!(scraped, documented);
}

#[tokio::test]
async fn joins_transitions_and_leaves_are_counted() {
    let cluster = Cluster::start(2).await;
    let ada = cluster[0].join("ada").await;
    let mut bob = cluster[1].join("bob").await;
    let tab = cluster[1].join("bob").await;
    tab.close(1000).await;
    ada.close(1000).await;
    bob.wait_for(|frame| frame["type"] == "user_offline").await;
    let text = cluster[1].get_raw("/metrics").await.body;
    for line in [
        "rollcall_users 1",
        "rollcall_joins_total 2",
        "rollcall_leaves_total{reason=\"left\"} 1",
        "rollcall_transitions_total{kind=\"online\"} 2",
        "rollcall_transitions_total{kind=\"offline\"} 1",
        "rollcall_offline_total{reason=\"left\"} 1",
        "rollcall_ghosts_mended_total 0",
    ] {
        assert!(text.lines().any(|scraped| scraped == line), "no `{line}` in {text}");
    }
}

/// A family's name as its main sample has it.
fn full_name(family: &str) -> String {
    match family.split_once(' ') {
        Some((name, "counter")) => format!("{name}_total"),
        Some((name, "info")) => format!("{name}_info"),
        Some((name, _)) => name.to_owned(),
        None => family.to_owned(),
    }
}
