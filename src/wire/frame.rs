//! WebSocket frames from server to client (RFC 6455 §5). They are not masked. So one encoding serves every socket.

use actix_http::ws::{CloseCode, CloseReason, OpCode, Parser};
use bytes::{Bytes, BytesMut};

/// The largest header of an unmasked frame: two bytes and a 64-bit length.
const MAX_HEADER_BYTES: usize = 10;

/// A text frame.
pub fn text(payload: &[u8]) -> Bytes {
    message(payload, OpCode::Text)
}

/// A ping without a payload.
pub fn ping() -> Bytes {
    message(&[], OpCode::Ping)
}

/// The answer to a ping, with the payload of the ping.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    message(payload, OpCode::Pong)
}

/// A close frame. `reason` has 123 bytes at most, because a control frame has 125 bytes, and the code takes two of
/// them.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let mut frame = BytesMut::with_capacity(4 + reason.len());
    let reason = CloseReason { code: CloseCode::from(code), description: Some(reason.to_owned()) };
    Parser::write_close(&mut frame, Some(reason), false);
    frame.freeze()
}

fn message(payload: &[u8], opcode: OpCode) -> Bytes {
    let mut frame = BytesMut::with_capacity(MAX_HEADER_BYTES + payload.len());
    Parser::write_message(&mut frame, payload, opcode, true, false);
    frame.freeze()
}
