//! One watch for each kind, whose changes go to all who must look at something because of them.
//!
//! A trigger is sent after the store has what it is about, so whoever is triggered finds at least that in the store. After a watch was interrupted, what
//! happened meanwhile is in no event: then everything is looked at.

use std::fmt::Debug;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::stream::{BoxStream, StreamExt};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

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
    says: watch::Sender<bool>,
    events: BoxStream<'static, watcher::Result<watcher::Event<K>>>,
}

/// Whether a watch has shown all that there is, once. The store's own way to tell wakes only the last of those who wait for it.
#[derive(Clone)]
pub struct Shown(watch::Receiver<bool>);

impl Shown {
    /// Returns when it has, or when it never will because the process ends.
    pub async fn all(&self) {
        let _ = self.0.clone().wait_for(|shown| *shown).await;
    }

    /// Whether it has.
    pub fn has_all(&self) -> bool {
        *self.0.borrow()
    }
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
        let events = reflector(writer, watcher(api, config))
            .backoff(Reconnect::default())
            .boxed();
        let (says, shown) = watch::channel(false);
        Self {
            store,
            shown: Shown(shown),
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
                    says.send_replace(true);
                    look(Change::All);
                }
                Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "a watch broke and is opened again"),
            }
        }
        "watch"
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

    /// All that there are.
    pub fn look_at_all(&self, store: &Store<K>) {
        self.look(store.state().iter().map(|object| ObjectRef::from_obj(object.as_ref())));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::stream::FuturesUnordered;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_for_what_there_is_are_woken() {
        let (says, shown) = watch::channel(false);
        let shown = Shown(shown);
        let mut waiting: FuturesUnordered<_> = (0..3).map(|_| shown.all()).collect();
        assert!(waiting.next().now_or_never().is_none());
        says.send_replace(true);
        for _ in 0..3 {
            waiting.next().await;
        }
    }

    #[test]
    fn nobody_waits_for_a_watch_that_is_gone() {
        let (says, shown) = watch::channel(false);
        drop(says);
        assert!(Shown(shown).all().now_or_never().is_some());
    }
}
