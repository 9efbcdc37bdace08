//! What talks to Kubernetes: each call with a limit on its time, deletes with preconditions, the clock.
//!
//! Nothing here decides anything; errors say what was tried, and never carry a token.

pub mod anchor;
pub mod bindings;
pub mod brakes;
pub mod call;
pub mod clock;
pub mod connection;
pub mod guards;
pub mod lease;
pub mod legible;
pub mod newest;
pub mod precedence;
pub mod read;
pub mod revoke;
pub mod together;
pub mod watching;
