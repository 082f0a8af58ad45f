//! What clients of Socket.IO that poll give and get: payloads on one side, WebSocket frames on the other.

use std::time::Duration;

use crate::http::socketio::read_payload;
use crate::transport::Pipe;

/// The frames that a body stands for, and whether the client is done with them. It is none if the body is refused.
pub fn frames_of(body: &[u8]) -> Option<(Vec<u8>, bool)> {
    let given = read_payload(body).ok()?;
    Some((given.frames, given.says_close))
}

/// What a client gets of these frames of a server, payload by payload. They are written `n_bytes` at a time into a pipe of
/// `max_bytes`, and fetched when no more goes in.
pub fn payloads_of(frames: &[u8], n_bytes: usize, max_bytes: usize) -> Vec<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (pipe, mut payloads, mut rest) = (Pipe::new(max_bytes), Vec::new(), frames);
        while !rest.is_empty() {
            match pipe.try_write(&rest[..n_bytes.clamp(1, rest.len())]) {
                Ok(n_taken) => rest = &rest[n_taken..],
                Err(_) => match pipe.poll(Duration::ZERO).await {
                    Ok(payload) => payloads.push(payload),
                    Err(_) => return payloads,
                },
            }
        }
        while let Ok(payload) = pipe.poll(Duration::ZERO).await
            && payload != b"6"
        {
            payloads.push(payload);
        }
        payloads
    })
}
