//! What a hub tells a session, and others, about a socket.

use std::time::Duration;

/// What a session has to do for its socket; see [`crate::hub::Attachment::attention`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attention {
    /// The socket takes no more bytes. Wait until it does, then flush.
    Blocked,
    /// The server made the user leave rooms. Take them, and tell the client.
    Removed,
    /// The socket fell off a log, and its own frames have been written. Start it over, and tell it where.
    Resync,
    /// The client may have to be told other states of users that it watches. All that waited for it has been written.
    Owed,
    /// The socket fell off a log again too soon. Close it.
    TooSlow,
    /// The socket is broken.
    Broken,
    /// The server closes the sockets of this user.
    Disconnect,
    /// The node drains: say goodbye.
    Drain,
}

/// What a hub says of one of its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListenerAccount {
    /// The low bits of the socket's number ([`ListenerAccount::is_of`]).
    pub(super) number: u32,
    /// The name of the format that the socket speaks.
    pub(crate) format: &'static str,
    /// How long ago the last frame came.
    pub(crate) heard_ago: Duration,
    /// Whether the socket takes no more bytes: its client does not read.
    pub(crate) is_blocked: bool,
}

impl ListenerAccount {
    /// Whether this is about the user's socket of that number on this node.
    pub(crate) fn is_of(&self, number: u64) -> bool {
        self.number == super::low_bits(number)
    }
}
