//! A command of `rollcall` that runs for a while.

use std::process::{ExitStatus, Stdio};

use super::eventually;
use super::node::Captured;
use super::process::OwnedProcess;

/// A command, with pipes in place of a terminal. Dropping it kills it.
pub(crate) struct RunningCommand {
    process: OwnedProcess,
    stdout: Captured,
    stderr: Captured,
}

impl RunningCommand {
    /// Starts `rollcall` with these arguments and this environment.
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> RunningCommand {
        let mut command = OwnedProcess::command(env!("CARGO_BIN_EXE_rollcall"));
        command.args(arguments).envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = OwnedProcess::spawn(&mut command);
        let stdout = process.child().stdout.take().expect("a pipe was asked for");
        let stderr = process.child().stderr.take().expect("a pipe was asked for");
        RunningCommand { process, stdout: Captured::drain(stdout, |_| ()), stderr: Captured::drain(stderr, |_| ()) }
    }

    /// Waits until this is in what it has written to its standard output.
    ///
    /// # Panics
    /// When it is not there within [`super::DEADLINE`].
    pub(crate) async fn expect(&self, text: &str) {
        eventually(async || self.stdout().contains(text), &format!("{text:?} is printed: {:?}", self.stderr())).await;
    }

    /// The same for its standard error.
    pub(crate) async fn expect_complaint(&self, text: &str) {
        eventually(async || self.stderr().contains(text), &format!("{text:?} is said")).await;
    }

    /// What it has written to its standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to its standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Sends a signal by its name without `SIG`.
    pub(crate) fn signal(&mut self, signal: &str) {
        self.process.signal(signal);
    }

    /// Waits until it has ended. All that it wrote can be read then.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let status = self.process.wait().await;
        self.stdout.finish();
        self.stderr.finish();
        status
    }
}
