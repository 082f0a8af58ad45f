//! Ports that nobody else takes while their owner is away.
//!
//! The author of a test or a workload needs nothing from here: what starts a server reserves its port.

use std::collections::BTreeSet;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The ports that servers of this program own, running or killed.
static RESERVED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of 127.0.0.1 that belongs to one server until it is dropped.
///
/// A killed server comes back on its port, so the port must stay free meanwhile. Ports of the kernel's own choice (bind
/// to 0) would not: they lie in the range of outgoing connections, any of which could take the place. These lie below
/// it, and a set keeps the tests of one binary apart.
pub(crate) struct Port(u16);

impl Port {
    /// Reserves a random free port.
    ///
    /// # Panics
    /// When a thousand ports in a row are taken: then the machine is not fit to test on.
    pub(crate) fn reserve() -> Port {
        for _ in 0..1000 {
            let port = rand::random_range(12_000..32_000);
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                stop_listening(listener);
                if reserved().insert(port) {
                    return Port(port);
                }
            }
        }
        panic!("no free port between 12000 and 32000");
    }

    /// The number.
    pub(crate) fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        reserved().remove(&self.0);
    }
}

/// Closes a listener so that its port refuses connections, and can be taken, from now on.
///
/// Dropping is not enough: a child process that another test is just starting has a copy of every socket until it
/// executes its program, and a socket lives as long as its last copy. A shutdown ends it for all copies. (The standard
/// library knows `shutdown` for streams only; to the kernel both are sockets.)
pub(crate) fn stop_listening(listener: TcpListener) {
    let socket = TcpStream::from(OwnedFd::from(listener));
    // macOS says "not connected" and has no such copies: it spawns in one step.
    let _ = socket.shutdown(Shutdown::Both);
}

/// The set outlives a panic of some test: it is valid after every operation.
fn reserved() -> MutexGuard<'static, BTreeSet<u16>> {
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_reserved_port_is_given_to_nobody_else() {
    let ports: Vec<Port> = (0..200).map(|_| Port::reserve()).collect();
    let numbers: BTreeSet<u16> = ports.iter().map(Port::number).collect();
    assert_eq!(numbers.len(), ports.len());
}
