//! What the command line says, and the commands that ask a running node. They speak HTTP with it, as any other program does, and use
//! nothing of the service.

pub(crate) mod announcement;
mod answer;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod healthcheck;
mod printout;
pub(crate) mod way;
