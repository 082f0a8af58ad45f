//! The signals that end a command in order.

use std::future::pending;

use rustix::process::Signal as Name;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::own_status::OwnStatus;

/// Which signal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// SIGINT, which a terminal sends to all programs in front of it.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// SIGHUP: the terminal is gone.
    HungUp,
}

/// Listens for signals.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// It is none if the process began with SIGHUP ignored, as `nohup` does: then the command outlives its terminal.
    hang_up: Option<Signal>,
}

impl Signals {
    /// Listens from now on. The signals do not end the process any more.
    ///
    /// # Errors
    /// The system refuses it.
    pub(super) fn listen() -> std::io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let hang_up = if is_ignored(Name::HUP) { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { interrupt, terminate, hang_up })
    }

    /// The next signal.
    ///
    /// # Cancel safety
    /// A signal stays for the next call.
    pub(super) async fn next(&mut self) -> End {
        tokio::select! {
            _ = self.interrupt.recv() => End::Interrupted,
            _ = self.terminate.recv() => End::Terminated,
            () = hung_up(self.hang_up.as_mut()) => End::HungUp,
        }
    }
}

async fn hung_up(hang_up: Option<&mut Signal>) {
    match hang_up {
        Some(hang_up) => _ = hang_up.recv().await,
        None => pending().await,
    }
}

/// Whether this process ignores a signal. Where the system does not say it, that counts as no.
fn is_ignored(signal: Name) -> bool {
    let status = OwnStatus::read();
    let ignored = status.get("SigIgn").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or_default();
    ignored >> (signal.as_raw() - 1) & 1 == 1
}
