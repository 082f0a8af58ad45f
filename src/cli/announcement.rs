//! What start-up says, and what a failed one says, for a person or for a collector of logs.

use serde_json::json;

/// A node that listens.
pub(crate) struct Announcement<'a> {
    /// Its name, which lasts over restarts.
    pub(crate) name: &'a str,
    /// Its id, which does not.
    pub(crate) id: &'a str,
    /// Where it listens.
    pub(crate) url: &'a str,
    /// Which store it uses.
    pub(crate) store: &'a str,
}

impl Announcement<'_> {
    /// Three lines.
    pub(crate) fn text(&self) -> String {
        format!("{}\nstore: {}\nnode: {}\n", self.greeting(), self.store, self.id)
    }

    /// One line, as the log has them. `timestamp` is now, as RFC 3339 writes it.
    pub(crate) fn json(&self, timestamp: &str) -> String {
        let Self { name, id, url, store } = self;
        let line = json!({
            "node": name,
            "timestamp": timestamp,
            "level": "INFO",
            "message": self.greeting(),
            "url": url,
            "store": store,
            "nodeId": id,
        });
        format!("{line}\n")
    }

    fn greeting(&self) -> String {
        format!("rollcall {} listening on {}", env!("CARGO_PKG_VERSION"), self.url)
    }
}

/// What makes a node end, as one line of the log. `timestamp` is now, as RFC 3339 writes it.
pub(crate) fn failure(node: &str, error: &anyhow::Error, timestamp: &str) -> String {
    // The alternate form is the whole chain on one line, joined with ": ".
    let line = json!({"node": node, "timestamp": timestamp, "level": "ERROR", "message": format!("{error:#}")});
    format!("{line}\n")
}
