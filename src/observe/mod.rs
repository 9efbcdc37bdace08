//! What Curfew tells about itself: events on requests, metrics, health. Nothing here changes anything else.
//!
//! No user-supplied text becomes a label or a metric's name.

pub mod announce;
pub mod health;
pub mod metrics;
