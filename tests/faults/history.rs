//! Every version of every request, grant and binding, as an admin's own watches have shown them. It knows nothing of what ought to be.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use curfew::api::{AccessGrant, AccessRequest};
use curfew::cluster::bindings::in_one_form;
use futures::TryStreamExt;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::call::{instance_of, namespace_written_on};

/// Now, by the clock that the API server has too.
#[allow(
    clippy::disallowed_methods,
    reason = "the sweep's own clock; nothing of the product is told by it"
)]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// One version of an object.
#[derive(Clone, Debug)]
pub struct Version<K> {
    /// When the watch showed it.
    pub at: DateTime<Utc>,
    /// The place in the order of all writes to the cluster.
    pub revision: u64,
    /// Whether this is its deletion.
    pub gone: bool,
    /// What it was like.
    pub object: K,
}

/// Versions, in order, by what they are filed under.
pub type File<K> = HashMap<String, Vec<Version<K>>>;

/// All that was seen: filed by instance, which is a namespace or two, grants and ClusterRoleBindings by that of their request. Bindings of both kinds have
/// one form: one without a namespace is a ClusterRoleBinding.
#[derive(Default)]
pub struct Pages {
    pub requests: File<AccessRequest>,
    pub grants: File<AccessGrant>,
    pub bindings: File<RoleBinding>,
    /// Watches that broke so that versions may be missing.
    pub gaps: Vec<String>,
}

/// The history. Cheap to clone.
#[derive(Clone)]
pub struct History {
    pages: Arc<Mutex<Pages>>,
    changes: Arc<watch::Sender<()>>,
}

impl History {
    /// Begins to watch; whatever happens from now on is in it.
    pub async fn begin(client: &Client) -> Self {
        let history = Self {
            pages: Arc::default(),
            changes: Arc::new(watch::Sender::new(())),
        };
        let of_namespace = |namespace: Option<String>| instance_of(&namespace.unwrap_or_default()).to_owned();
        history
            .follow(Api::<AccessRequest>::all(client.clone()), move |pages, version| {
                file(&mut pages.requests, of_namespace(version.object.namespace()), version)
            })
            .await;
        history
            .follow(Api::<AccessGrant>::all(client.clone()), |pages, version| {
                file(
                    &mut pages.grants,
                    version.object.spec.request.namespace.clone(),
                    version,
                )
            })
            .await;
        history
            .follow(Api::<RoleBinding>::all(client.clone()), move |pages, version| {
                file(&mut pages.bindings, of_namespace(version.object.namespace()), version)
            })
            .await;
        history
            .follow(Api::<ClusterRoleBinding>::all(client.clone()), |pages, version| {
                let under = namespace_written_on(version.object.annotations());
                let version = Version {
                    object: in_one_form(&version.object),
                    at: version.at,
                    revision: version.revision,
                    gone: version.gone,
                };
                file(&mut pages.bindings, instance_of(&under).to_owned(), version)
            })
            .await;
        history
    }

    async fn follow<K>(&self, api: Api<K>, keep: impl Fn(&mut Pages, Version<K>) + Send + Sync + 'static)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        // A kind that was made known just now is not served at once.
        let mut list = api.list(&ListParams::default()).await;
        while list.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            list = api.list(&ListParams::default()).await;
        }
        let mut revision = list.unwrap().metadata.resource_version.unwrap();
        let history = self.clone();
        tokio::spawn(async move {
            loop {
                // Ends every few minutes, and goes on where it was.
                if let Err(error) = history.watch(&api, &mut revision, &keep).await {
                    let gap = format!("{}: {error}", K::kind(&()));
                    history.look(|pages| pages.gaps.push(gap));
                    return;
                }
            }
        });
    }

    async fn watch<K>(
        &self,
        api: &Api<K>,
        revision: &mut String,
        keep: &(impl Fn(&mut Pages, Version<K>) + Sync),
    ) -> kube::Result<()>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let mut events = std::pin::pin!(api.watch(&WatchParams::default(), revision).await?);
        while let Some(event) = events.try_next().await? {
            let (object, gone) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Bookmark(mark) => {
                    *revision = mark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            };
            *revision = object.resource_version().unwrap();
            let version = Version {
                at: now(),
                revision: revision.parse().unwrap(),
                gone,
                object,
            };
            self.look(|pages| keep(pages, version));
            self.changes.send_replace(());
        }
        Ok(())
    }

    /// Looks at what was seen so far.
    pub fn look<T>(&self, look: impl FnOnce(&mut Pages) -> T) -> T {
        look(&mut self.pages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until `found` finds something.
    pub async fn until<T>(&self, limit: Duration, found: impl Fn(&Pages) -> Option<T>) -> Option<T> {
        let mut changes = self.changes.subscribe();
        let waiting = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = self.look(|pages| found(pages)) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(limit, waiting).await.ok()
    }
}

fn file<K>(into: &mut File<K>, under: String, version: Version<K>) {
    into.entry(under).or_default().push(version);
}

/// The last version of each object in a file, those that are gone left out.
pub fn living<'a, K: Resource>(file: &'a File<K>, under: &str) -> Vec<&'a Version<K>> {
    let mut last: HashMap<String, &Version<K>> = HashMap::new();
    for version in file.get(under).into_iter().flatten() {
        last.insert(version.object.meta().uid.clone().unwrap_or_default(), version);
    }
    last.into_values().filter(|version| !version.gone).collect()
}
