//! How a node ends: the drain order, written as code (docs/design.md, decision 8).

use std::net::{Shutdown, TcpListener};
use std::time::Duration;

use actix_server::ServerHandle;
use socket2::SockRef;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::node::DrainHandle;

/// What asks a node to end.
pub struct Signals {
    drain: CancellationToken,
}

/// Ends a node from within its process. Tests use it in place of a signal.
#[derive(Clone)]
pub struct Trigger(CancellationToken);

impl Signals {
    /// SIGTERM or SIGINT: the first starts the drain, the second exits at once with status 1.
    ///
    /// # Errors
    /// The process cannot listen for signals.
    pub fn install() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let drain = CancellationToken::new();
        let on_signal = drain.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if on_signal.is_cancelled() {
                    warn!("Second signal: exiting without waiting");
                    std::process::exit(1);
                }
                on_signal.cancel();
            }
        });
        Ok(Self { drain })
    }

    /// Signals that only the trigger gives.
    pub fn manual() -> (Self, Trigger) {
        let drain = CancellationToken::new();
        (Self { drain: drain.clone() }, Trigger(drain))
    }

    /// Waits for the first signal.
    pub(crate) async fn drain(&self) {
        self.drain.cancelled().await;
    }
}

impl Trigger {
    /// Starts the drain.
    pub fn drain(&self) {
        self.0.cancel();
    }
}

/// What tells the parts of a node that it ends.
#[derive(Clone, Default)]
pub(crate) struct Drain {
    /// Cancelled when the drain begins. From then on, the node accepts nobody.
    pub draining: CancellationToken,
    /// Cancelled once the store knows of the drain. Then every session says goodbye.
    pub closing: CancellationToken,
    /// The seats that are taken, by sessions and by upgrades that will become sessions.
    pub sessions: TaskTracker,
}

impl Drain {
    /// Drains the node, within `deadline` (`drain.timeout_ms`):
    ///
    /// 1. `/readyz` says 503, clients that come are sent to another node, and the kernel then refuses connections. So nobody
    ///    who is told to come back at once comes back here.
    /// 2. The writer stops. The store no longer hears what the sockets do. The node's lease now ends after the reconnect
    ///    spread and the grace. A user who comes back on another node before that was never away.
    /// 3. Every socket is closed with 1001. The close frame says when to come back.
    pub(crate) async fn run(
        self,
        server: &ServerHandle,
        listener: TcpListener,
        writer: DrainHandle,
        deadline: Duration,
    ) {
        info!(sockets = self.sessions.len(), "Draining");
        let end = Instant::now() + deadline;
        self.draining.cancel();
        let announced = async {
            server.pause().await;
            sleep(PAUSED_WITHIN.min(deadline / 5)).await;
            refuse_connections(&listener);
            writer.drain().await;
        };
        // A store that does not answer must not take all of the time, because the sockets must still be told.
        if timeout(deadline * 4 / 5, announced).await.is_err() {
            warn!("The store has not confirmed the drain in time");
        }
        self.closing.cancel();
        self.sessions.close();
        if timeout_at(end, self.sessions.wait()).await.is_err() {
            warn!(sessions = self.sessions.len(), "The drain took too long: ending with sockets open");
        }
        server.stop(false).await;
    }
}

/// The thread of the server that accepts connections hears of the pause after this time at the latest. Before that, it would take
/// the refusal for a fault, and log it. It has heard within 2 ms under a flood of connections (scripts that drained a node 25 times).
/// Connections that come meanwhile wait in the kernel, and are then reset. So this is short.
const PAUSED_WITHIN: Duration = Duration::from_millis(10);

/// Lets the kernel refuse connections. The paused server only takes none: they would wait in the kernel until the process ends,
/// and a load balancer would find no reason to ask another node.
fn refuse_connections(listener: &TcpListener) {
    // A shutdown is for the socket, and not for this handle of it.
    if let Err(error) = SockRef::from(listener).shutdown(Shutdown::Both) {
        warn!(error = %error, "Connections are not refused, but wait");
    }
}
