//! The commands that ask a running node. They speak HTTP with it, as any other program does, and use nothing of the service.

mod answer;
pub(crate) mod explain;
pub(crate) mod healthcheck;
mod printout;
pub(crate) mod way;
