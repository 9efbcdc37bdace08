//! Just-in-time access for Kubernetes that always ends on time.
//!
//! - [`api`]: what users write and read.
//! - [`core`]: every decision, pure.
//! - [`controller`]: observe, decide, apply, publish.
//! - [`cluster`]: what talks to Kubernetes.
//! - [`observe`]: metrics and events.

pub mod api;
pub mod cluster;
pub mod controller;
pub mod core;
pub mod observe;
