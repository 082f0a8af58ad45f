//! How a session ends. For each reason, one table says the close code, and what becomes of the user's presence.
//! `docs/protocol.md` shows the table to clients.

use std::time::Duration;

use rand::RngExt;

use super::Session;
use crate::domain::OfflineReason;
use crate::wire::frame;
use crate::wire::reader::Incoming;

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client sent a close frame. The frame had this code, or none.
    ClosedByClient(Option<u16>),
    /// A client of Socket.IO said goodbye with a packet. A close frame may follow.
    Goodbye,
    /// The stream ended or failed without a close frame.
    Broken,
    /// The client broke RFC 6455.
    ProtocolError,
    /// A text message was not UTF-8.
    InvalidUtf8,
    /// A message was over `websocket.max_frame_bytes`.
    TooLarge,
    /// Nothing was heard for `websocket.silence_timeout_ms`.
    Silent,
    /// There was no `join_user` within `websocket.join_timeout_ms`.
    NotJoined,
    /// The client fell off the broadcast log twice within `fanout.resync_interval_ms`.
    TooSlow,
    /// The client went on asking although it was told to wait (`limits.requests_per_second`).
    TooManyRequests,
    /// The node drains.
    Drained,
    /// The application's server closes the sockets of the user.
    Disconnected,
    /// The client has not shown who it is, or what it showed is not accepted.
    Unauthenticated,
    /// The client's token has ended.
    TokenExpired,
}

impl End {
    /// Whether the client is not to come back by itself.
    pub(crate) fn is_for_good(self) -> bool {
        match self {
            Self::Disconnected | Self::Unauthenticated => true,
            Self::ClosedByClient(_)
            | Self::Goodbye
            | Self::Broken
            | Self::ProtocolError
            | Self::InvalidUtf8
            | Self::TooLarge
            | Self::Silent
            | Self::NotJoined
            | Self::TooSlow
            | Self::TooManyRequests
            | Self::Drained
            | Self::TokenExpired => false,
        }
    }
}

/// How long the peer may take to read our close frame and to answer it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);

const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const INVALID_PAYLOAD: u16 = 1007;
const POLICY_VIOLATION: u16 = 1008;
const TOO_LARGE: u16 = 1009;
/// Codes from 4000 on are the application's own (RFC 6455 §7.4.2).
const SILENT: u16 = 4001;
const DISCONNECTED: u16 = 4003;
const TOO_SLOW: u16 = 4008;
const TOO_MANY_REQUESTS: u16 = 4029;
const UNAUTHORIZED: u16 = 4401;
const TOKEN_EXPIRED: u16 = 4402;

/// What an end means for the wire and for the presence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Goodbye {
    /// Code and reason of our close frame. It is none if nobody is there to read it.
    pub frame: Option<(u16, String)>,
    /// What the session waits for after its close frame.
    pub awaits: Awaits,
    /// If this is none, the user said goodbye. Otherwise the socket stays for the grace, and then goes with this
    /// reason.
    pub loss: Option<OfflineReason>,
}

/// What still has to come from the peer before the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// Nothing. The peer's close frame came before ours, or the peer is gone.
    Nothing,
    /// The peer's own close frame.
    Reply,
    /// The end of the peer's stream. What comes before the end does not count any more (RFC 6455 §7.1.7).
    End,
}

impl Goodbye {
    /// The table. A drained client is told to come back within `spread`.
    pub(crate) fn of(end: &End, spread: Duration) -> Self {
        let lost = Some(OfflineReason::ConnectionLost);
        let closing = |code, reason: &str, awaits, loss| Self { frame: Some((code, reason.to_owned())), awaits, loss };
        let ours = |code, reason: &str, loss| closing(code, reason, Awaits::Reply, loss);
        let failing = |code, reason: &str| closing(code, reason, Awaits::End, lost);
        match *end {
            // With 1000, or without a code (1005), the page closed the socket on purpose.
            End::ClosedByClient(code @ (None | Some(NORMAL))) => Self::reply(code, None),
            // A browser sends 1001 on a reload. The user may be back in a second.
            End::ClosedByClient(code) => Self::reply(code, lost),
            End::Goodbye => ours(NORMAL, "", None),
            End::Broken => Self { frame: None, awaits: Awaits::Nothing, loss: lost },
            End::ProtocolError => failing(PROTOCOL_ERROR, "Protocol error"),
            End::InvalidUtf8 => failing(INVALID_PAYLOAD, "Text is not UTF-8"),
            End::TooLarge => failing(TOO_LARGE, "Message too large"),
            End::Silent => ours(SILENT, "Silent for too long", Some(OfflineReason::TimedOut)),
            End::NotJoined => ours(POLICY_VIOLATION, "User ID required", lost),
            // The user is gone at once, as if the client had said goodbye.
            End::Disconnected => ours(DISCONNECTED, "Disconnected by the server", None),
            End::TooSlow => ours(TOO_SLOW, "Too slow", lost),
            End::TooManyRequests => ours(TOO_MANY_REQUESTS, "Too many requests", lost),
            End::Unauthenticated => ours(UNAUTHORIZED, "Unauthorized", lost),
            // Within the grace, the client can come back with a new token. Then nobody has noticed.
            End::TokenExpired => ours(TOKEN_EXPIRED, "Token expired", lost),
            End::Drained => {
                let delay_ms = rand::rng().random_range(0..=spread.as_millis());
                ours(GOING_AWAY, &format!(r#"{{"reconnectAfterMs":{delay_ms}}}"#), lost)
            }
        }
    }

    /// The answer to the client's close frame has the same code.
    fn reply(code: Option<u16>, loss: Option<OfflineReason>) -> Self {
        Self { frame: Some((code.unwrap_or(NORMAL), String::new())), awaits: Awaits::Nothing, loss }
    }
}

impl Session {
    /// Says goodbye on the wire and to the store.
    pub(super) async fn close(mut self, end: End) {
        let goodbye = Goodbye::of(&end, self.services.reconnect_spread);
        match end {
            End::TooSlow => self.services.metrics.slow_consumer(),
            End::TooLarge => self.services.metrics.too_large(),
            _ => {}
        }
        if let Some(registration) = self.registration.take() {
            self.services.metrics.left(goodbye.loss.unwrap_or(OfflineReason::Left));
            match goodbye.loss {
                None => registration.leave(),
                Some(reason) => registration.lose(reason),
            }
        }
        self.attachment.mute();
        let Some((code, reason)) = goodbye.frame else { return };
        if let Some(farewell) = self.format.farewell().filter(|_| end.is_for_good()) {
            self.attachment.send(farewell);
        }
        self.attachment.send(frame::close(code, &reason));
        // The peer's own close frame, or the end of its stream, says that it has read our close frame. If we closed the
        // connection earlier, a reset could come before the peer has read the frame.
        let handshake = async {
            while !self.attachment.is_drained() {
                if self.stream.writable().await.is_err() {
                    return;
                }
                self.attachment.unblock();
            }
            let is_answered = match goodbye.awaits {
                Awaits::Nothing => true,
                Awaits::Reply => self.close_is_answered().await,
                Awaits::End => false,
            };
            if !is_answered {
                // The peer sees the end, too. So it does not have to wait for us.
                self.stream.shutdown_write();
                self.inbound.discard().await;
            }
        };
        // A peer that does not answer is gone.
        let _ = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await;
    }

    /// Waits for the peer's close frame or the end of its stream. Returns false if the peer breaks the protocol before
    /// that.
    async fn close_is_answered(&mut self) -> bool {
        loop {
            match self.inbound.next().await {
                Ok(Incoming::Close(_)) | Err(End::Broken) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clients_own_word_or_the_servers_is_a_departure_without_grace() {
        let loss = |end| Goodbye::of(&end, Duration::ZERO).loss;
        assert_eq!(loss(End::ClosedByClient(None)), None);
        assert_eq!(loss(End::ClosedByClient(Some(1000))), None);
        assert_eq!(loss(End::Disconnected), None);
        assert_eq!(loss(End::Goodbye), None);
        assert_eq!(loss(End::ClosedByClient(Some(1001))), Some(OfflineReason::ConnectionLost));
        assert_eq!(loss(End::Broken), Some(OfflineReason::ConnectionLost));
        assert_eq!(loss(End::Silent), Some(OfflineReason::TimedOut));
        assert_eq!(loss(End::Unauthenticated), Some(OfflineReason::ConnectionLost));
        assert_eq!(loss(End::TokenExpired), Some(OfflineReason::ConnectionLost));
    }

    #[test]
    fn a_drain_says_when_to_come_back() {
        let (code, reason) = Goodbye::of(&End::Drained, Duration::from_millis(5)).frame.unwrap();
        let reason: serde_json::Value = serde_json::from_str(&reason).unwrap();
        assert_eq!(code, 1001);
        assert!(reason["reconnectAfterMs"].as_u64().unwrap() <= 5);
    }
}
