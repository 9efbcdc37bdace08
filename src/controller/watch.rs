//! One watch for each kind, whose changes go to all who must look at something because of them.
//!
//! A trigger is sent after the store has what it is about, so whoever is triggered finds at least that in the store. After a watch was interrupted, what
//! happened meanwhile is in no event: then everything is looked at.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::stream::{BoxStream, StreamExt};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::api::marks;
use crate::cluster::watching::Reconnect;

/// What can be watched.
pub trait Kind: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Kind for K {}

/// One kind, being watched.
pub struct Watch<K: Kind> {
    /// What there is, as far as the watch has shown it.
    pub store: Store<K>,
    /// Whether it has shown all that there is.
    pub shown: Shown,
    says: Says,
    events: BoxStream<'static, watcher::Result<watcher::Event<K>>>,
}

/// Whether a watch has shown all that there is, once. The store's own way to tell wakes only the last of those who wait for it; this one wakes all, and who
/// has waited longer first.
#[derive(Clone)]
pub struct Shown(Arc<Showing>);

struct Showing {
    has_all: AtomicBool,
    /// Never has a permit, and is closed when there is nothing more to wait for.
    waiting: Semaphore,
}

impl Shown {
    /// Returns when it has, or when it never will because the process ends.
    pub async fn all(&self) {
        let _ = self.0.waiting.acquire().await;
    }

    /// Whether it has.
    pub fn has_all(&self) -> bool {
        self.0.has_all.load(Ordering::SeqCst)
    }
}

/// Says so.
struct Says(Shown);

impl Says {
    fn shown(&self) {
        self.0.0.has_all.store(true, Ordering::SeqCst);
        self.0.0.waiting.close();
    }
}

impl Drop for Says {
    fn drop(&mut self) {
        self.0.0.waiting.close();
    }
}

fn showing() -> (Says, Shown) {
    let shown = Shown(Arc::new(Showing {
        has_all: AtomicBool::new(false),
        waiting: Semaphore::new(0),
    }));
    (Says(shown.clone()), shown)
}

/// What a watch tells.
pub enum Change<K> {
    /// This object was made, changed or deleted.
    One(K),
    /// Anything may have happened.
    All,
}

impl<K: Kind> Watch<K> {
    /// Watches all objects of a kind that `config` selects.
    pub fn open(api: Api<K>, config: watcher::Config) -> Self {
        let (store, writer) = reflector::store();
        let events = reflector(writer, watcher(api, config).modify(forgets))
            .backoff(Reconnect::default())
            .boxed();
        let (says, shown) = showing();
        Self {
            store,
            shown,
            says,
            events,
        }
    }

    /// Tells `look` of every change, and never ends by itself.
    pub async fn tell(self, look: impl Fn(Change<K>)) -> &'static str {
        let Self {
            store: _,
            shown: _,
            says,
            mut events,
        } = self;
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::Delete(object)) => look(Change::One(object)),
                Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                Ok(watcher::Event::InitDone) => {
                    says.shown();
                    look(Change::All);
                }
                Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "a watch broke and is opened again"),
            }
        }
        "watch"
    }
}

/// Forgets what nobody asks for and others may have made large: the store keeps all that there is, for as long as it is there.
fn forgets<K: Kind>(object: &mut K) {
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.retain(|name, _| name.starts_with(marks::DOMAIN));
    }
}

/// Where it is said which objects are to be looked at.
pub struct Desk<K: Resource>(UnboundedSender<ObjectRef<K>>)
where
    K::DynamicType: Eq + std::hash::Hash;

impl<K: Kind> Clone for Desk<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A desk, and what comes from it. It is emptied at once by a controller that keeps each object once, so it stays short.
pub fn desk<K: Kind>() -> (Desk<K>, UnboundedReceiver<ObjectRef<K>>) {
    let (sender, receiver) = unbounded();
    (Desk(sender), receiver)
}

impl<K: Kind> Desk<K> {
    /// These are to be looked at.
    pub fn look(&self, at: impl IntoIterator<Item = ObjectRef<K>>) {
        for object in at {
            // The controller is gone only when the operator ends.
            let _ = self.0.unbounded_send(object);
        }
    }

    /// This one is.
    pub fn look_at(&self, object: &K) {
        self.look([ObjectRef::from_obj(object)]);
    }

    /// Those of which this is true, by their names: a store has them in another order each time, and what happens is to be the same each time.
    pub fn look_at_those(&self, store: &Store<K>, concerned: impl Fn(&K) -> bool) {
        let mut found = store.state_filter(|object| concerned(object));
        found.sort_by_cached_key(|object| (object.namespace(), object.name_any()));
        self.look(found.iter().map(|object| ObjectRef::from_obj(object.as_ref())));
    }

    /// All that there are.
    pub fn look_at_all(&self, store: &Store<K>) {
        self.look_at_those(store, |_| true);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::stream::FuturesUnordered;
    use serde_json::json;

    use super::*;
    use crate::api::AccessRequest;

    #[test]
    fn of_what_anybody_may_write_on_an_object_only_curfews_own_marks_are_kept() {
        let metadata = |others: serde_json::Value| {
            let mut metadata = json!({"name": "fix", "annotations": {marks::DECISION: "approve"}});
            metadata
                .as_object_mut()
                .unwrap()
                .extend(others.as_object().cloned().unwrap());
            metadata
        };
        let request = |metadata: serde_json::Value| -> AccessRequest {
            serde_json::from_value(json!({"metadata": metadata, "spec": {"role": {"kind": "Role", "name": "viewer"}}}))
                .unwrap()
        };
        let annotations = json!({marks::DECISION: "approve", "example.org/large": "x".repeat(1000)});
        let mut found = request(metadata(json!({"annotations": annotations})));
        forgets(&mut found);
        assert_eq!(json!(found), json!(request(metadata(json!({})))));
    }

    #[tokio::test]
    async fn all_who_wait_for_what_there_is_are_woken() {
        let (says, shown) = showing();
        let mut waiting: FuturesUnordered<_> = (0..3).map(|_| shown.all()).collect();
        assert!(waiting.next().now_or_never().is_none());
        says.shown();
        for _ in 0..3 {
            waiting.next().await;
        }
    }

    #[test]
    fn nobody_waits_for_a_watch_that_is_gone() {
        let (says, shown) = showing();
        drop(says);
        assert!(shown.all().now_or_never().is_some() && !shown.has_all());
    }
}
