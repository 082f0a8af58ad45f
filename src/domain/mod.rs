//! What presence is, without any machinery: identities, profiles, transitions and the roster.
//!
//! Everything here is pure and synchronous. It uses no actix, no Redis and no tokio, and reads no clock. So tests need
//! only values. Time comes in as a [`Timestamp`].

pub mod id;
pub mod roster;
pub mod scope;
pub mod transition;
pub mod user;

pub use id::{IdError, NodeId, SocketId, UserId};
pub use roster::{Roster, RosterPage};
pub use scope::Scope;
pub use transition::{Change, OfflineReason, Position, Transition};
pub use user::{Presence, Profile, ProfileError, Timestamp};
