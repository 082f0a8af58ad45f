//! What nodes tell one another besides transitions.

use serde::{Deserialize, Serialize};

use super::{Device, NodeId, RoomId, Timestamp, UserId};

/// A message between nodes. It is no fact: it is never stored and never numbered, and it comes once at most
/// (docs/design.md, decision 17).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Signal {
    /// These users were active.
    Active {
        /// Each user with the time, by the store's clock.
        users: Vec<(UserId, Timestamp)>,
    },
    /// A node asks this node something about a user.
    Question {
        /// Who asks, and gets the answer.
        from: NodeId,
        /// The number that the asker gave the question.
        number: u64,
        /// Whom the question is about.
        user: UserId,
        /// What is asked.
        inquiry: Inquiry,
    },
    /// A node asks this node about itself.
    NodeQuestion {
        /// Who asks, and gets the answer.
        from: NodeId,
        /// The number that the asker gave the question.
        number: u64,
    },
    /// A node answers a question of this node.
    Answer {
        /// Who answers.
        from: NodeId,
        /// The number of the question.
        number: u64,
        /// The answer.
        #[serde(flatten)]
        answer: NodeAnswer,
    },
    /// A user began to type, or stopped.
    Typing {
        /// Who is told.
        #[serde(flatten)]
        target: TypingTarget,
        /// Who types.
        user: UserId,
        /// Whether the user types now.
        is_typing: bool,
    },
    /// A node signals itself, to learn whether it hears its signals.
    Echo {
        /// Tells one echo from another.
        number: u64,
    },
}

/// What a node can ask another about a user. The answer names the sockets that it concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inquiry {
    /// Which sockets the node has, and how they are.
    Explain,
    /// To close all sockets of the user.
    Disconnect,
    /// To take all sockets of the user out of a room.
    RemoveFromRoom {
        /// The room.
        room: RoomId,
    },
}

/// What a node answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAnswer {
    /// The version that the node runs. A version that does not say so is empty.
    #[serde(default)]
    pub version: String,
    /// The sockets that the answer concerns.
    pub sockets: Vec<SocketAccount>,
    /// What the node says about itself, if that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub itself: Option<SelfAccount>,
}

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SelfAccount {
    /// Its name, which lasts over restarts (`server.name`).
    pub name: String,
    /// How long it has run, in ms.
    pub uptime_ms: u64,
    /// Whether what it tells may be out of date.
    pub is_degraded: bool,
}

/// What a node says about one of its sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SocketAccount {
    /// The socket's number on its node.
    pub number: u64,
    /// What the node wants of the socket and what the store has confirmed, in words for a person.
    pub state: String,
    /// Whether the node takes the socket for idle.
    pub is_idle: bool,
    /// What the client runs on.
    pub device: Option<Device>,
    /// The wire format that the client speaks. It is empty if no worker has the socket: its connection has ended, or it
    /// is still joining.
    pub format: String,
    /// How long ago the last frame came, in ms. It is none if no worker has the socket.
    pub heard_ms_ago: Option<u64>,
    /// How long ago the user was last active on this socket, in ms, to about a second. It is none if the client never
    /// said so, or if the socket has become idle since.
    pub active_ms_ago: Option<u64>,
    /// How much longer the grace lasts, in ms, if the socket is in grace.
    pub grace_left_ms: Option<u64>,
}

impl NodeAnswer {
    /// An answer of a node that runs this version, about nothing.
    pub(crate) fn of_this_version() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), ..Self::default() }
    }
}

impl SocketAccount {
    /// A socket of which nothing is known but its number.
    pub(crate) fn unknown(number: u64) -> Self {
        Self {
            number,
            state: String::new(),
            is_idle: false,
            device: None,
            format: String::new(),
            heard_ms_ago: None,
            active_ms_ago: None,
            grace_left_ms: None,
        }
    }
}

/// Who is told that a user types.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypingTarget {
    /// Those in a room.
    Room(RoomId),
    /// The sockets of one user.
    #[serde(rename = "to")]
    User(UserId),
}
