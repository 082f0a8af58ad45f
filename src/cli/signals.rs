//! The signals that end a command in order.

use tokio::signal::unix::{Signal, SignalKind, signal};

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
    hang_up: Signal,
}

impl Signals {
    /// Listens from now on. The signals do not end the process any more.
    ///
    /// # Errors
    /// The system refuses it.
    pub(super) fn listen() -> std::io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        let (terminate, hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
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
            _ = self.hang_up.recv() => End::HungUp,
        }
    }
}
