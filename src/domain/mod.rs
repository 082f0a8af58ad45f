//! What presence is, without any machinery: identities, profiles, statuses, transitions and the roster.
//!
//! Everything here is pure and synchronous. It uses no actix, no Redis and no tokio, and reads no clock. So tests need
//! only values. Time comes in as a [`Timestamp`].

pub mod device;
pub mod id;
pub mod interest;
mod nesting;
pub mod presence;
pub mod profile;
pub mod room;
pub mod roster;
pub mod scope;
pub mod signal;
pub mod statement;
pub mod status;
pub mod time;
pub mod transition;

pub use device::{Device, DeviceError, Devices};
pub use id::{IdError, NodeId, RoomId, SocketId, UserId};
pub use interest::Interest;
pub use presence::{HeldSocket, Presence};
pub use profile::{Profile, ProfileError, ProfileFields, ProfileLimits, ProfilePatch};
pub use room::{RoomChange, RoomPosition, RoomRoster, RoomTold, RoomTransition};
pub use roster::{Effect, Roster, RosterPage, Told};
pub use scope::Scope;
pub use signal::{Inquiry, NodeAnswer, SelfAccount, Signal, SocketAccount, TypingTarget};
pub use statement::{Expiry, Said, SaidStatus, Statement};
pub use status::{ChosenStatus, Status, StatusText, StatusTextError};
pub use time::Timestamp;
pub use transition::{Change, Departure, LastSeen, OfflineReason, Position, Transition};
