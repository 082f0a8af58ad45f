//! Clients of Socket.IO.

use std::time::Duration;

use serde::Deserialize;

use super::duration_ms;

/// Where clients of Socket.IO connect, and what they may use. The rest is as for every socket (`websocket`, `limits`).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketioSettings {
    /// Where they connect, without a slash at the end. None means that there is no Socket.IO.
    pub paths: Vec<String>,
    /// How long a client may stay in the main namespace without saying who it is.
    #[serde(rename = "join_timeout_ms", with = "duration_ms")]
    pub join_timeout: Duration,
    /// With fewer users online than this, clients are told the list again when it changes. Zero means never.
    pub list_below: usize,
    /// With no more users in a room than this, the room's count comes with its users.
    pub room_list_below: usize,
    /// Largest body of a POST. If [`super::WebsocketSettings::max_frame_bytes`] is more, that holds.
    pub max_payload_bytes: usize,
    /// How much waits for the next GET of a client.
    pub poll_queue_bytes: usize,
    /// Most sockets that poll. Half of [`super::ServerSettings::max_http_connections`] holds if that is less.
    pub max_polling: usize,
    /// How long a client may take to go from polling to a WebSocket.
    #[serde(rename = "upgrade_timeout_ms", with = "duration_ms")]
    pub upgrade_timeout: Duration,
}

/// The paths of our own resources. A path of Socket.IO must not hide one of them.
const TAKEN: [&str; 13] = [
    "/ws",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/page",
    "/api/online-users",
    "/api/user-status",
    "/api/chatroom",
    "/api/users",
    "/api/rooms",
    "/api/nodes",
];

impl SocketioSettings {
    /// Whether clients of Socket.IO connect at this path. The official client puts a slash at its end.
    pub(crate) fn has_path(&self, path: &str) -> bool {
        let path = path.strip_suffix('/').unwrap_or(path);
        self.paths.iter().any(|known| known == path)
    }

    /// Most sockets that may poll with so many HTTP connections. Each keeps two of them now and then, so more would leave none to
    /// others.
    pub(crate) fn max_polling_within(&self, max_http_connections: usize) -> usize {
        self.max_polling.min(max_http_connections / 2)
    }

    /// Largest body of a POST with messages of so many bytes. A body has room for one of them in any case.
    pub(crate) fn max_payload_with(&self, max_frame_bytes: usize) -> usize {
        self.max_payload_bytes.max(max_frame_bytes)
    }

    /// Whether each path can be one.
    pub(super) fn has_good_paths(&self) -> bool {
        self.paths.iter().all(|path| is_good(path))
    }
}

fn is_good(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte);
    let is_taken = |taken: &str| path.strip_prefix(taken).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path.len() > 1
        && path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains("//")
        && path.bytes().all(is_plain)
        && !TAKEN.into_iter().any(is_taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_hides_no_resource() {
        for path in ["/socket.io", "/api/socketio", "/a/b-c_d~", "/wss"] {
            assert!(is_good(path), "{path}");
        }
        for path in [
            "",
            "/",
            "socket.io",
            "/socket.io/",
            "//a",
            "/a//b",
            "/a?b",
            "/{a}",
            "/ws",
            "/ws/x",
            "/api/users",
            "/page",
            "/api/nodes",
        ] {
            assert!(!is_good(path), "{path}");
        }
    }

    #[test]
    fn a_slash_at_the_end_does_not_matter() {
        let settings = crate::settings::Settings::default().socketio;
        for (path, is_there) in [
            ("/socket.io", true),
            ("/socket.io/", true),
            ("/api/socketio/", true),
            ("/socket.io//", false),
            ("/socket.io/socket.io.js", false),
            ("/", false),
        ] {
            assert_eq!(settings.has_path(path), is_there, "{path}");
        }
    }
}
