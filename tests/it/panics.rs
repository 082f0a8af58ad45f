//! A task of the main thread that panics: the node ends, and tells its clients to go elsewhere first.
//!
//! The store is what all these tasks call, so a store that panics in one of its methods lets one of them panic.

use std::time::Duration;

use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn a_task_that_panics_ends_the_node_and_sends_its_clients_elsewhere() {
    let tasks = [
        ("beat", "writer"),
        ("subscribe", "replica"),
        ("snapshot", "replica"),
        ("sweep", "sweeper"),
        ("audit", "auditor"),
        ("refresh", "refresher"),
    ];
    for (method, task) in tasks {
        let audit = Duration::from_millis(200);
        let (node, store) = Node::start_staged(|settings| settings.presence.audit = audit).await;
        let mut ada = node.join("ada").await;
        store.panic_in(method);
        ada.send_json(json!({"type": "user_activity"})).await;
        let (code, reason) = ada.expect_close().await;
        assert_eq!(code, 1001, "{task}: {reason}");
        assert!(reason.contains("reconnectAfterMs"), "{task}: {reason}");
        let error = node.failure().await;
        assert!(error.starts_with(&format!("the {task} panicked: ")), "{error}");
        assert!(error.contains("as the test wants it"), "{error}");
    }
}
