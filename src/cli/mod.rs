//! What the command line says, and the commands that ask a running node or hear it. They speak HTTP and WebSocket with it, as any
//! other program does, and use nothing of the service.

pub(crate) mod announcement;
mod answer;
mod authority;
mod colour;
mod columns;
pub(crate) mod destination;
pub(crate) mod doctor;
mod event;
pub(crate) mod explain;
pub(crate) mod healthcheck;
pub(crate) mod join;
mod own_status;
mod printout;
mod reader;
mod reconnect;
mod secret_file;
mod signals;
mod socket;
pub(crate) mod top;
pub(crate) mod watch;
pub(crate) mod way;

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Says something to a person, on stderr. If that cannot be written, the command goes on all the same.
pub(crate) fn say(what: impl Display) {
    let _ = writeln!(io::stderr().lock(), "rollcall: {what}");
}

/// Prints a whole answer. Who reads may stop before its end, as `head` does: that is no error.
///
/// # Errors
/// The answer cannot be written.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
