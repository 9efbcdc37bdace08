//! Every decision that Curfew takes, as pure functions: no client, no async, no clock, no randomness.
//!
//! Time enters as an argument. User mistakes are findings, not errors: every function here is total.
//! [`request::decide`] and [`grant::decide`] are the two state machines; the other modules are the rules they rest on.

pub mod anchor;
pub mod approval;
pub mod binding;
pub mod clock;
#[cfg(test)]
mod explore;
pub mod extension;
pub mod facts;
#[cfg(test)]
pub(crate) mod fixture;
pub mod grant;
pub mod guard;
pub mod hazard;
pub mod identity;
pub mod invariants;
pub mod lease;
pub mod limits;
pub mod offer;
pub mod policy;
pub mod request;
pub mod retention;
pub mod review;
