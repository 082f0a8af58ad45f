//! Child processes that never outlive who started them, however that ends: a test, or the load tool.
//!
//! The author of a test or a workload needs nothing from here: servers and nodes are built on it.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::DEADLINE;

/// A running child process, killed by its own pid and reaped on Drop, also when the owner panics.
///
/// Drop does not run when the owner's process itself is killed (a CI timeout). So a *guard* stands beside each child: it
/// waits for the end of a pipe whose other end only this process holds, and then kills the child.
pub(crate) struct OwnedProcess {
    name: String,
    child: Child,
    /// A line on it dismisses the guard; its end without a line is the guard's alarm. None: the program is its own guard.
    guard: Option<ChildStdin>,
}

/// What a child runs first: the same process starts its guard and then becomes the program, so that there is no moment
/// without a guard. Ctrl-C reaches the whole process group; the guard outlives it, for a stopped child does not hear
/// it.
const GUARDED: &str = r#"
    exec 3<&0
    (trap "" INT TERM HUP; read -r _ <&3 || kill -KILL $$) </dev/null >/dev/null 2>&1 &
    exec "$@" 3<&- </dev/null
"#;

impl OwnedProcess {
    /// The command that runs a program under guard; add arguments, environment and outputs, then
    /// [`OwnedProcess::spawn`] it. The program's standard input is empty.
    pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", GUARDED, "guarded"]).arg(program);
        command
    }

    /// Starts a command of [`OwnedProcess::command`]; take its other pipes, if it has some, with
    /// [`OwnedProcess::child`]. A program that cannot be executed ends with the status 127 and says so on its standard
    /// error.
    pub(crate) fn spawn(command: &mut Command) -> OwnedProcess {
        let name = command.get_args().nth(3).unwrap_or_default().to_string_lossy().into_owned();
        let mut child = command.stdin(Stdio::piped()).spawn().expect("`sh` runs");
        let guard = child.stdin.take();
        OwnedProcess { name, child, guard }
    }

    /// Starts a program that needs no guard, because it ends when its standard input does. That input is left to the owner,
    /// in [`OwnedProcess::child`].
    pub(crate) fn spawn_listening(command: &mut Command) -> OwnedProcess {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::piped()).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        OwnedProcess { name, child, guard: None }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child, to take its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The status of the process if it has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("a child can be waited for");
        if status.is_some() {
            // The pid is free for others from here on, so nobody may kill it any more.
            self.dismiss_guard();
        }
        status
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    /// When it has not after three times [`DEADLINE`]: a drain may take its time, but not that long.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let started = tokio::time::Instant::now();
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(started.elapsed() < 3 * DEADLINE, "`{}` (pid {}) does not end", self.name, self.id());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a signal by its name without `SIG`, for example `TERM`.
    ///
    /// # Panics
    /// When the process has ended: its pid may belong to somebody else by now.
    pub(crate) fn signal(&mut self, signal: &str) {
        if let Some(status) = self.exited() {
            panic!("no SIG{signal} to `{}`, it has ended: {status}", self.name);
        }
        let pid = self.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().expect("`kill` runs");
        assert!(sent.success(), "kill -s {signal} {pid}: {sent}");
    }

    /// Sends SIGSTOP, and returns once no thread of the process runs any more.
    pub(crate) fn freeze(&mut self) {
        self.signal("STOP");
        // The signal is only posted when `kill` returns: the process could still answer a request that the test sends
        // next. (Without /proc there is nothing to ask, and nothing to wait for.)
        while std::path::Path::new("/proc/self/stat").exists() && !self.is_stopped() {
            if let Some(status) = self.exited() {
                panic!("`{}` ended instead of stopping: {status}", self.name);
            }
            std::thread::yield_now();
        }
    }

    /// Sends SIGCONT.
    pub(crate) fn thaw(&mut self) {
        self.signal("CONT");
    }

    /// Sends SIGKILL and reaps the process; returns at once for one that has ended.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        self.dismiss_guard();
        // An error says that it has ended, which is what is wanted.
        let _ = self.child.kill();
        self.child.wait().expect("a killed child can be reaped")
    }

    /// Whether every thread is in the state `T` (stopped).
    fn is_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.id())) else { return false };
        threads.flatten().all(|thread| {
            // "pid (name) state …": the name may hold spaces and parentheses, so the state follows the last one.
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Sends the guard away.
    fn dismiss_guard(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            // It may be gone already: then there is nobody to dismiss.
            let _ = guard.write_all(b"\n");
        }
    }
}

impl Drop for OwnedProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_dropped_process_is_gone() {
    let process = OwnedProcess::spawn(OwnedProcess::command("sleep").arg("1000"));
    let pid = process.id().to_string();
    drop(process);
    let found = Command::new("kill").args(["-0", &pid]).stderr(Stdio::null()).status().expect("`kill` runs");
    assert!(!found.success(), "process {pid} is still there");
}

#[test]
fn a_program_that_listens_is_told_and_ends_with_its_input() {
    let mut process = OwnedProcess::spawn_listening(Command::new("cat").stdout(Stdio::piped()));
    let mut stdin = process.child().stdin.take().expect("its input is left to the owner");
    stdin.write_all(b"told").expect("it listens");
    drop(stdin);
    let stdout = process.child().stdout.take().expect("a pipe was asked for");
    assert_eq!(std::io::read_to_string(stdout).expect("its words can be read"), "told");
    assert!(process.child.wait().expect("it ends by itself").success());
}

#[test]
fn the_guard_kills_what_a_killed_test_binary_leaves_behind() {
    let mut process = OwnedProcess::spawn(OwnedProcess::command("sleep").arg("1000"));
    // The kernel closes the pipe of a killed process: here the test does it.
    drop(process.guard.take());
    let status = process.child.wait().expect("the child can be waited for");
    assert_eq!(status.code(), None, "ended by a signal: {status}");
}

#[tokio::test]
async fn a_program_that_is_not_there_says_so() {
    let mut process = OwnedProcess::spawn(OwnedProcess::command("/no/such/program").stderr(Stdio::piped()));
    let mut stderr = process.child().stderr.take().expect("a pipe was asked for");
    assert_eq!(process.wait().await.code(), Some(127));
    let said = std::io::read_to_string(&mut stderr).expect("its words can be read");
    assert!(said.contains("/no/such/program"), "{said}");
}
