//! Where somebody can be present.

/// Where somebody is present. A user has sockets in a scope, and is there while one of them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The whole service.
    Service,
}
