//! The tasks of a node's main thread. The node cannot do without any of them.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinError, JoinSet};

/// Runs the tasks, and notices when one has ended. A process without its writer or its replica still answers, but its
/// answers get old. Dropping this aborts all tasks.
#[derive(Default)]
pub(crate) struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

/// A task that ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskFailure {
    /// It panicked, with this message.
    #[error("the {0} panicked: {1}")]
    Panicked(&'static str, String),
    /// It returned.
    #[error("the {0} ended by itself")]
    Ended(&'static str),
}

impl Tasks {
    /// Starts a task. `name` is for the log.
    pub(crate) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits until a task has ended.
    ///
    /// # Cancel safety
    /// This call may be dropped and made again.
    pub(crate) async fn failure(&mut self) -> TaskFailure {
        match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => TaskFailure::Ended(self.name_of(id)),
            Some(Err(error)) => TaskFailure::Panicked(self.name_of(error.id()), message_of(error)),
            None => std::future::pending().await,
        }
    }

    fn name_of(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("unknown task")
    }
}

/// What a task said when it panicked.
fn message_of(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return "it was aborted".to_owned() };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}
