//! Waiting for what will come, and nothing else. Limits are generous: tests assert order and outcome, not speed.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// How long anything may take that is bound to happen.
pub const LIMIT: Duration = Duration::from_secs(120);
/// How often to ask where there is nothing to watch: an answer of authorisation, a metric, a log.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until `true_now` answers yes. For what can't be watched.
pub async fn eventually(what: &str, true_now: impl AsyncFnMut() -> bool) {
    eventually_within(LIMIT, what, true_now).await;
}

/// The same for what takes its time.
pub async fn eventually_within(limit: Duration, what: &str, mut true_now: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !true_now().await {
        assert!(begun.elapsed() < limit, "not within {} s: {what}", limit.as_secs());
        tokio::time::sleep(PAUSE).await;
    }
}

/// Watches until there is no object of that name.
pub async fn gone<K>(api: Api<K>, name: &str, what: &str)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watched(api, name, what, |object: Option<&K>| object.is_none()).await;
}

/// Watches an object until `condition` holds (also of `None`: the object isn't there), and gives the object as it then was.
pub async fn watched<K>(api: Api<K>, name: &str, what: &str, condition: impl Condition<K>) -> Option<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let holds = |object: Option<&K>| condition.matches_object(object);
    // A watch may break, and a kind whose definition was changed isn't served for a moment.
    let unbroken = async {
        loop {
            match await_condition(api.clone(), name, holds).await {
                Ok(object) => return object,
                Err(error) => eprintln!("watching for {what}: {error}; tried again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(LIMIT, unbroken).await {
        Ok(object) => object,
        Err(_) => panic!(
            "not within {} s: {what}; it is now {:#?}",
            LIMIT.as_secs(),
            api.get_opt(name).await
        ),
    }
}
