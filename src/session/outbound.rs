//! A socket's stream, written by the hub.

use std::io;

use crate::hub::Outbound;
use crate::transport::Stream;

impl Outbound for Stream {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Stream::try_write(self, bytes)
    }

    fn try_flush(&self) -> io::Result<()> {
        Stream::try_flush(self)
    }
}
