//! Removes what has ended once it was kept for as long as its policy says. Only the replica that grants does, and only while nothing stops it from granting:
//! whoever isn't sure what time it is removes no evidence.

use std::collections::{BTreeSet, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::channel::mpsc;
use futures::{StreamExt, stream};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::rounds::Again;
use super::{Context, RETRY};
use crate::api::{AccessGrant, AccessRequest};
use crate::cluster::call::{CallError, only_this};
use crate::core::retention;

/// So many that end together are looked at together.
const TOGETHER: usize = 256;
/// So many are removed at once: there are other things to tell meanwhile.
const AT_ONCE: usize = 4;

/// What can't be removed is called for again after so long.
const LATER: Duration = Duration::from_secs(10);

/// What was kept long enough, in a queue of its own: whoever looks at it looks at what gives access too, and waits for no removal.
#[derive(Debug)]
pub struct Outlived {
    /// And when it was called for.
    queue: mpsc::UnboundedSender<(Kept, Instant)>,
    queued: Mutex<HashSet<Kept>>,
}

/// What is kept for its time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// A request.
    Request(ObjectRef<AccessRequest>),
    /// The record of an access.
    Grant(ObjectRef<AccessGrant>),
}

impl Outlived {
    /// Nothing yet, and where it will come out.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<(Kept, Instant)>) {
        let ((queue, removals), queued) = (mpsc::unbounded(), Mutex::default());
        (Self { queue, queued }, removals)
    }

    fn queued<T>(&self, with: impl FnOnce(&mut HashSet<Kept>) -> T) -> T {
        with(&mut self.queued.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Each is in the queue once, however often it is looked at meanwhile.
    fn remove(&self, kept: Kept) {
        if self.queued(|queued| queued.insert(kept.clone())) {
            // Nobody is left to do it if the controllers have ended.
            let _ = self.queue.unbounded_send((kept, Instant::now()));
        }
    }
}

/// Removes what was kept long enough, whenever a look has found it so.
pub async fn outlived(queue: mpsc::UnboundedReceiver<(Kept, Instant)>, context: Arc<Context>) -> &'static str {
    queue
        .for_each_concurrent(AT_ONCE, async |(kept, since)| {
            let removed = remove_if_due(&kept, since, &context).await;
            tell(&removed, "what was kept long enough is left for now", &context);
            if removed.is_err() {
                // Where one is refused, many are.
                tokio::time::sleep(RETRY).await;
            }
            context.outlived.queued(|queued| queued.remove(&kept));
        })
        .await;
    "retention"
}

/// It has waited: its policy may say by now that it is kept for longer.
async fn remove_if_due(kept: &Kept, since: Instant, context: &Context) -> Result<(), CallError> {
    // If not, everything is looked at when that changes.
    let is_due =
        |until: Option<DateTime<Utc>>| may_remove(context) && until.is_some_and(|until| until <= context.now());
    match kept {
        Kept::Request(of) => {
            let known = context
                .known
                .request(of.namespace.as_deref().unwrap_or_default(), &of.name);
            match known.filter(|request| is_due(end_of_request(request, context))) {
                Some(request) => remove(requests(&request, context), request.as_ref(), since, context).await,
                None => Ok(()),
            }
        }
        Kept::Grant(of) => {
            let known = context.known.grant(&of.name);
            match known.filter(|grant| is_due(retention::of_grant(grant))) {
                Some(grant) => remove(Api::all(context.client.clone()), grant.as_ref(), since, context).await,
                None => Ok(()),
            }
        }
    }
}

/// Keeps an ended request, or has it removed.
pub fn request(request: &AccessRequest, context: &Context) -> Again {
    let kept = Kept::Request(ObjectRef::from_obj(request));
    keep(kept, end_of_request(request, context), context)
}

/// Until when an ended request is kept.
fn end_of_request(request: &AccessRequest, context: &Context) -> Option<DateTime<Utc>> {
    let chosen = request.status.as_ref().and_then(|status| status.policy.as_ref());
    let policy = chosen.and_then(|chosen| {
        let policy = context.known.policies.get(&ObjectRef::new(&chosen.name));
        policy.filter(|policy| policy.uid().as_ref() == Some(&chosen.uid))
    });
    let seal = request.status.as_ref().and_then(|status| status.seal.as_ref());
    let grant = seal.and_then(|seal| context.known.grant(&seal.grant));
    retention::of_request(request, policy.as_ref().map(|policy| &policy.spec), grant.as_deref())
}

/// Keeps the record of an ended access, or has it removed.
pub fn grant(grant: &AccessGrant, context: &Context) -> Again {
    keep(
        Kept::Grant(ObjectRef::from_obj(grant)),
        retention::of_grant(grant),
        context,
    )
}

/// Removes what requesters have too many of, whenever requests of theirs have `ended`. Not in the look at any of them: that has others to look after.
pub async fn no_surplus(mut ended: UnboundedReceiver<String>, context: Arc<Context>) -> &'static str {
    let (mut brakes, mut beginnings) = (context.brakes.changes(), context.leadership.beginnings());
    let mut requesters = vec![];
    while ended.recv_many(&mut requesters, TOGETHER).await > 0 {
        while !may_remove(&context) {
            let _ = futures::future::select(pin!(brakes.changed()), pin!(beginnings.changed())).await;
        }
        // Of however many that ended together, once.
        let each: BTreeSet<String> = requesters.drain(..).collect();
        for requester in each {
            if !no_surplus_of(&requester, &context).await {
                tokio::time::sleep(RETRY).await;
                let _ = context.ended.send(requester);
            }
            // There is nothing else that it would wait for if there is no surplus.
            tokio::task::yield_now().await;
        }
    }
    "surplus"
}

/// Whether none is left.
async fn no_surplus_of(requester: &str, context: &Context) -> bool {
    let known = context.known.requests.state().into_iter();
    let known: Vec<_> = known
        .map(|request| context.known.written_requests.of(request))
        .collect();
    let surplus: Vec<AccessRequest> = retention::surplus(requester, known.iter().map(Arc::as_ref))
        .into_iter()
        .cloned()
        .collect();
    let since = Instant::now();
    let removals = surplus.into_iter().map(async |surplus: AccessRequest| {
        let removed = remove(requests(&surplus, context), &surplus, since, context).await;
        tell(&removed, "one that is too many is left for now", context);
        removed.is_ok()
    });
    let removed: Vec<bool> = stream::iter(removals).buffered(AT_ONCE).collect().await;
    removed.into_iter().all(|removed| removed)
}

/// Whoever isn't sure what time it is removes no evidence, nor does a replica that doesn't grant.
fn may_remove(context: &Context) -> bool {
    context.leadership.leads() && context.brakes.pulled().is_none() && !context.uninstalling
}

fn requests(request: &AccessRequest, context: &Context) -> Api<AccessRequest> {
    Api::namespaced(context.client.clone(), &request.namespace().unwrap_or_default())
}

fn keep(kept: Kept, until: Option<DateTime<Utc>>, context: &Context) -> Again {
    match until {
        Some(until) if context.now() < until => context.at(until),
        Some(_) if may_remove(context) => {
            context.outlived.remove(kept);
            Again::After(LATER)
        }
        // When that changes, everything is looked at.
        Some(_) | None => Again::OnChange,
    }
}

fn tell(removed: &Result<(), CallError>, what: &'static str, context: &Context) {
    if let Err(error) = removed {
        context.metrics.trouble("retention", error.kind());
        // Somebody else's conflict is everyday business.
        if !error.is_conflict() && !error.is_not_leading() {
            tracing::warn!(%error, "{what}");
        }
    }
}

/// Removes exactly this object, as it was seen. That has waited since then.
async fn remove<K>(api: Api<K>, object: &K, since: Instant, context: &Context) -> Result<(), CallError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let _turn = context.precedence.telling_since(since).await;
    let only_this = only_this(object.uid(), object.resource_version());
    let removed = context
        .leadership
        .granting(
            "removing what was kept long enough",
            api.delete(&object.name_any(), &only_this),
        )
        .await;
    match removed {
        Err(error) if error.is_not_found() => Ok(()),
        removed => {
            removed?;
            tracing::info!(object = %ObjectRef::from_obj(object), "it has ended, was kept long enough or is one too many, and is removed");
            Ok(())
        }
    }
}
