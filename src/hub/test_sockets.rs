//! Sockets for the tests of the hub.

use std::cell::{Cell, RefCell};
use std::io;

use super::Outbound;

/// A socket that takes everything.
#[derive(Default)]
pub(super) struct Written(pub(super) RefCell<Vec<u8>>);

/// A kernel buffer: takes as much as it has room for.
#[derive(Default)]
pub(super) struct Pipe {
    pub(super) room: Cell<usize>,
    pub(super) taken: RefCell<Vec<u8>>,
}

/// A transport that takes everything. While it is slow, it holds that back.
#[derive(Default)]
pub(super) struct Holding {
    pub(super) is_slow: Cell<bool>,
    pub(super) n_held: Cell<usize>,
}

impl Outbound for Holding {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.n_held.set(self.n_held.get() + bytes.len());
        Ok(bytes.len())
    }

    fn try_flush(&self) -> io::Result<()> {
        if self.is_slow.get() && self.n_held.get() > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.n_held.set(0);
        Ok(())
    }
}

impl Outbound for Written {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Outbound for Pipe {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let n_bytes = bytes.len().min(self.room.get());
        if n_bytes == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room.set(self.room.get() - n_bytes);
        self.taken.borrow_mut().extend_from_slice(&bytes[..n_bytes]);
        Ok(n_bytes)
    }
}
