//! What the guards' watches have shown, one compartment for each watch.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures::stream::{BoxStream, SelectAll, StreamExt, select_all};
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use super::{Source, found};
use crate::api::time;
use crate::cluster::watching::{Reconnect, all};
use crate::core::guard::{Found, GuardKind, Shipped};

type Event = watcher::Result<watcher::Event<DynamicObject>>;

/// Watches all sources; each event comes with the number of its source.
pub(super) fn open(client: &Client, sources: &[Source]) -> SelectAll<BoxStream<'static, (usize, Event)>> {
    select_all(sources.iter().enumerate().map(|(number, source)| {
        let objects = Api::<DynamicObject>::all_with(client.clone(), &source.resource);
        // RBAC by name lets in only who asks for that name.
        let which = match &source.name {
            Some(name) => all().fields(&format!("metadata.name={name}")),
            None => all(),
        };
        let events = watcher(objects, which).backoff(Reconnect::default());
        events.map(move |event| (number, event)).boxed()
    }))
}

/// What an event told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing that could be judged yet.
    Nothing,
    /// Something is another than it was.
    Change,
    /// The same, by a watch that had to begin anew.
    SeenAgain,
    /// A watch broke: what it is opened at again may be another API server, or one that begins anew.
    Broken,
}

#[derive(Clone)]
struct Kept {
    found: Found,
    touched: Option<DateTime<Utc>>,
}

struct Compartment {
    kind: GuardKind,
    /// `None`: the watch has not shown yet what there is.
    kept: Option<BTreeMap<String, Kept>>,
    /// What a watch that begins has shown so far.
    coming: BTreeMap<String, Kept>,
}

/// All that was shown.
pub(super) struct Shelf(Vec<Compartment>);

impl Shelf {
    pub(super) fn new(sources: &[Source]) -> Self {
        let empty = |source: &Source| Compartment {
            kind: source.kind,
            kept: None,
            coming: BTreeMap::new(),
        };
        Self(sources.iter().map(empty).collect())
    }

    /// Takes what the watch with this number told.
    pub(super) fn take(&mut self, number: usize, event: Event) -> Told {
        let Some(compartment) = self.0.get_mut(number) else {
            return Told::Nothing;
        };
        let again = compartment.kept.is_some();
        let told = match event {
            Ok(watcher::Event::Init) => {
                compartment.coming.clear();
                Told::Nothing
            }
            Ok(watcher::Event::InitApply(object)) => {
                compartment.coming.insert(object.name_any(), compartment.keep(&object));
                Told::Nothing
            }
            Ok(watcher::Event::InitDone) => {
                compartment.kept = Some(std::mem::take(&mut compartment.coming));
                if again { Told::SeenAgain } else { Told::Change }
            }
            Ok(watcher::Event::Apply(object)) => {
                let kept = compartment.keep(&object);
                compartment.kept.get_or_insert_default().insert(object.name_any(), kept);
                Told::Change
            }
            Ok(watcher::Event::Delete(object)) => {
                compartment.kept.get_or_insert_default().remove(&object.name_any());
                Told::Change
            }
            Err(error) => {
                tracing::warn!(kind = ?compartment.kind, %error, "the watch over the guards broke and is opened again");
                Told::Broken
            }
        };
        if self.0.iter().all(|compartment| compartment.kept.is_some()) {
            told
        } else {
            Told::Nothing
        }
    }

    /// All objects.
    pub(super) fn found(&self) -> Vec<Found> {
        self.kept().map(|kept| kept.found.clone()).collect()
    }

    /// When one of our own guards was last written by somebody, of those whose name `counts`.
    pub(super) fn touched(&self, shipped: &[Shipped], counts: impl Fn(&str) -> bool) -> Option<DateTime<Utc>> {
        let is_ours = |kept: &&Kept| {
            let mark = &kept.found.mark;
            let mut ours = shipped.iter();
            counts(&mark.name) && ours.any(|guard| guard.kind == mark.kind && guard.name == mark.name)
        };
        self.kept().filter(is_ours).filter_map(|kept| kept.touched).max()
    }

    fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.0
            .iter()
            .flat_map(|compartment| compartment.kept.iter().flat_map(BTreeMap::values))
    }
}

impl Compartment {
    fn keep(&self, object: &DynamicObject) -> Kept {
        let writes = object.managed_fields().iter().filter_map(|entry| entry.time.as_ref());
        Kept {
            found: found(self.kind, object),
            touched: writes
                .chain(&object.metadata.creation_timestamp)
                .filter_map(time::from_kubernetes)
                .max(),
        }
    }
}
