//! The newest version of an object that this process knows: the watch's, or what it wrote itself and the watch hasn't shown yet.
//!
//! Without it a reconcile that follows a write at once would decide on what was there before the write. Forgetting an entry is always safe: the writes
//! that matter carry a resourceVersion or a uid.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::call::{CallError, find};

/// More than so many objects written and not yet seen again means that they never will be: then all are forgotten.
const LIMIT: usize = 10_000;

/// What this process wrote lately, by uid.
#[derive(Debug)]
pub struct Newest<K>(Mutex<HashMap<String, Arc<K>>>);

impl<K> Default for Newest<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Resource> Newest<K> {
    /// Remembers what the API server answered.
    pub fn wrote(&self, object: K) -> Arc<K> {
        let object = Arc::new(object);
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() >= LIMIT {
            written.clear();
        }
        if let Some(uid) = object.uid() {
            written.insert(uid, Arc::clone(&object));
        }
        object
    }

    /// Reads an object again, which is known from here on as it is now, without waiting for the watch. `None`: it isn't there any more.
    ///
    /// # Errors
    /// When the read failed.
    pub async fn read_again(&self, what: &'static str, api: &Api<K>, known: &K) -> Result<Option<Arc<K>>, CallError>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let found = find(what, api.get(&known.name_any())).await?;
        let found = found.filter(|found| found.uid() == known.uid());
        Ok(found.map(|found| self.wrote(found)))
    }

    /// The newer of `watched` and what was written.
    pub fn of(&self, watched: Arc<K>) -> Arc<K> {
        let Some(uid) = watched.uid() else { return watched };
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match written.get(&uid) {
            Some(own) if version(own.as_ref()) > version(watched.as_ref()) => Arc::clone(own),
            Some(_) => {
                written.remove(&uid);
                watched
            }
            None => watched,
        }
    }
}

/// Resource versions of one kind are integers that grow. One that isn't counts as the oldest: then what the watch shows is taken.
fn version(object: &impl Resource) -> Option<u128> {
    object.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn version_of(number: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.uid = Some("u".into());
        object.metadata.resource_version = Some(number.into());
        object
    }

    #[test]
    fn what_was_written_counts_until_the_watch_has_it_too() {
        let newest = Newest::default();
        let version = |watched| newest.of(Arc::new(version_of(watched))).resource_version().unwrap();
        assert_eq!(version("9"), "9");
        newest.wrote(version_of("10"));
        assert_eq!(version("9"), "10");
        assert_eq!(version("10"), "10");
        assert_eq!(version("9"), "9", "seen again, and so forgotten");
        newest.wrote(version_of("10"));
        assert_eq!(version("11"), "11");
    }
}
