//! What was overdue when this replica began: it says that it is ready only after it has tried once to end all of it.
//!
//! Nothing is ended here; what a grant's or a binding's controller tries is noted. What resists is tried on by them, and keeps nobody waiting.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Context;

/// What is overdue may also go without having been tried, by somebody else's hand: so it is looked at again so often.
const AGAIN: Duration = Duration::from_millis(100);

/// What has been tried since this replica began, by uid.
#[derive(Debug)]
pub struct Overdue {
    /// `None`: that is over.
    tried: Mutex<Option<HashSet<String>>>,
    news: Notify,
}

impl Default for Overdue {
    fn default() -> Self {
        Self {
            tried: Mutex::new(Some(HashSet::new())),
            news: Notify::new(),
        }
    }
}

impl Overdue {
    /// It was tried to end the grant or binding of this uid, whatever came of it.
    pub fn tried(&self, uid: Option<String>) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tried) = tried.as_mut() {
            tried.extend(uid);
            self.news.notify_one();
        }
    }

    fn has_tried(&self, uid: &String) -> bool {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.as_ref().is_none_or(|tried| tried.contains(uid))
    }
}

/// Calls `done` when all has been tried that the watches show as overdue, and never ends by itself.
pub async fn sweep_of_the_start(context: Arc<Context>, done: impl Fn()) -> &'static str {
    let (known, overdue) = (&context.known, &context.overdue);
    let [bindings, cluster_wide] = &known.all_bindings;
    futures::join!(known.all_grants.all(), bindings.all(), cluster_wide.all());
    while !known.overdue(context.now()).iter().all(|uid| overdue.has_tried(uid)) {
        let _ = tokio::time::timeout(AGAIN, overdue.news.notified()).await;
    }
    *overdue.tried.lock().unwrap_or_else(PoisonError::into_inner) = None;
    done();
    std::future::pending().await
}
