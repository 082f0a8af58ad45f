//! A large answer that the HTTP machinery gets piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

/// An answer that is copied into the connection's buffer as the client takes it. As one body it would be copied at
/// once. Then the answer would be in memory twice. `Answers` would stop counting it while all of it still waits for the
/// client.
pub(crate) struct Pieces(pub Bytes);

/// The size of a piece. The connection's buffer holds about as much anyway.
const PIECE_BYTES: usize = 32 * 1024;

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let rest = &mut self.get_mut().0;
        if rest.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(rest.split_to(rest.len().min(PIECE_BYTES)))))
    }
}
