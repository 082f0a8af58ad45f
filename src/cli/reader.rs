//! Who reads what a command prints.

use std::io::{self, ErrorKind, Write, stdout};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// Prints a line. This may take as long as the reader likes. Says whether there is a reader.
///
/// # Errors
/// The line cannot be written.
///
/// # Cancel safety
/// The line may be written, in whole or in part, as long as the process lives.
pub(super) async fn print(line: String) -> io::Result<bool> {
    let write = move || {
        let mut out = stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush())
    };
    match spawn_blocking(write).await.map_err(io::Error::other)? {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

/// Waits until nobody reads any more: the other end of the pipe is closed. Of a file, that is never so. The thread ends with the
/// process.
pub(super) async fn gone() {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        let out = stdout();
        // Without wishes, only the end is told.
        while poll(&mut [PollFd::new(&out, PollFlags::empty())], None) == Err(Errno::INTR) {}
        // Who waited may have ended.
        let _ = sender.send(());
    });
    // The sender is dropped only after it has sent.
    let _ = receiver.await;
}
