//! What presence is, without any machinery: identities, profiles, transitions and the roster.
//!
//! Everything here is pure and synchronous: no actix, no Redis, no tokio and no reading of clocks, so that it can be tested
//! with nothing but values. Time comes in as a [`Timestamp`].

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
