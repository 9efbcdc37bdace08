//! The one place that reads the time. Everything else is told it.

use std::sync::Arc;

use chrono::{DateTime, Utc};

/// Tells the time. Tests tell another.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[allow(clippy::disallowed_methods, reason = "this is that one place")]
    pub fn system() -> Self {
        Self(Arc::new(Utc::now))
    }

    /// A clock that tells what `tell` says.
    pub fn new(tell: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Now.
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }
}
