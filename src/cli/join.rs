//! `rollcall join`.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{ExitCode, ExitStatus};
use std::rc::Rc;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::destination::Destination;
use super::printout::clean;
use super::reconnect::{Role, Step, stay};
use super::say;
use super::signals::{End, Signals};
use super::watch::refused;

/// Who is there, and for how long.
#[derive(clap::Args)]
pub(crate) struct Presence {
    /// The user who is online meanwhile
    #[arg(long, value_name = "ID")]
    user: String,
    /// The name that others see
    #[arg(long)]
    name: Option<String>,
    /// online, away, busy, dnd or invisible
    #[arg(long)]
    status: Option<String>,
    /// Words beside the status
    #[arg(long, value_name = "TEXT", requires = "status")]
    status_text: Option<String>,
    /// A room that the user enters; may be repeated
    #[arg(long = "room", value_name = "ID")]
    rooms: Vec<String>,
    /// Run this while the user is online, and end with its status
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Holds a presence until SIGINT or SIGTERM, or until the command has ended. Prints `joined` as soon as others can see it.
///
/// # Errors
/// The node cannot be reached, refuses, or says that the client must not come back. Or the command cannot be started.
pub(crate) async fn run(destination: &Destination, presence: Presence) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let command = presence.command.clone();
    let joined = Rc::new(Notify::new());
    let mut holder =
        Holder { presence, joined: joined.clone(), is_in: false, is_announced: false, awaited: BTreeSet::new() };
    let (has_begun, outcome) = (Cell::new(false), Cell::new(None));
    let mut stop = pin!(async {
        tokio::select! {
            _ = signals.next() => return,
            () = joined.notified(), if !command.is_empty() => {}
        }
        has_begun.set(true);
        outcome.set(Some(run_command(&command, &mut signals).await));
    });
    let held = stay(destination, &mut holder, stop.as_mut()).await;
    if command.is_empty() {
        return held.map(|()| ExitCode::SUCCESS);
    }
    match held {
        Err(error) if has_begun.get() => {
            say(format_args!("the user is not online any more, and the command goes on: {error:#}"));
            stop.await;
        }
        held => held?,
    }
    // There is no outcome if a signal came before the user was there.
    outcome.take().map_or(Ok(ExitCode::FAILURE), |ended| ended.map(exit_code))
}

/// Runs a command to its end. It gets the signals that would end this one. SIGINT comes to both from the terminal.
async fn run_command(command: &[String], signals: &mut Signals) -> anyhow::Result<ExitStatus> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut child = Command::new(program).args(arguments).spawn().with_context(|| format!("cannot run {program}"))?;
    loop {
        tokio::select! {
            ended = child.wait() => return Ok(ended?),
            end = signals.next() => match end {
                End::Interrupted => {}
                End::Terminated => pass_on(&child, Signal::TERM),
                End::HungUp => pass_on(&child, Signal::HUP),
            },
        }
    }
}

fn pass_on(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) {
        // It has ended if this fails.
        let _ = kill_process(pid, signal);
    }
}

/// As a shell says it: a command that a signal ended has 128 and the number of the signal.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

struct Holder {
    presence: Presence,
    /// Told as soon as others can see the user.
    joined: Rc<Notify>,
    is_in: bool,
    is_announced: bool,
    /// The rooms in which the user is not yet.
    awaited: BTreeSet<String>,
}

impl Role for Holder {
    fn requests(&self) -> Vec<Value> {
        let Presence { user, name, status, status_text, rooms, command: _ } = &self.presence;
        // A member that is null counts as absent.
        vec![
            json!({"type": "join_user", "ref": 0, "userId": user, "name": name, "status": status, "statusText": status_text,
            "presence": "none", "rooms": rooms}),
        ]
    }

    fn begin(&mut self) {
        self.is_in = false;
        self.awaited = self.presence.rooms.iter().cloned().collect();
    }

    fn hear(&mut self, message: &Value, _: &str) -> Step {
        match message["type"].as_str() {
            Some("error") => return refused(message),
            Some("welcome") => {
                self.is_in = true;
                if message["degraded"] == true {
                    say("the node cannot tell the other nodes now");
                }
            }
            Some("room_joined") => _ = message["roomId"].as_str().map(|room| self.awaited.remove(room)),
            Some("room_left") => say(format_args!(
                "the application's server has made the user leave the room {}",
                clean(message["roomId"].as_str().unwrap_or_default())
            )),
            _ => {}
        }
        if !self.is_settled() || self.is_announced {
            return Step::On;
        }
        self.is_announced = true;
        self.joined.notify_one();
        // Whoever does not read it any more may still want the user to be there.
        let _ = super::print("joined\n");
        Step::On
    }

    fn is_settled(&self) -> bool {
        self.is_in && self.awaited.is_empty()
    }
}
