//! Removes what has ended once it was kept for as long as its policy says. Only the replica that grants does, and only while nothing stops it from granting:
//! whoever isn't sure what time it is removes no evidence.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use chrono::{DateTime, Utc};
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

/// Keeps an ended request, or removes it.
pub async fn request(request: &AccessRequest, context: &Context) -> Result<Again, CallError> {
    let chosen = request.status.as_ref().and_then(|status| status.policy.as_ref());
    let policy = chosen.and_then(|chosen| {
        let policy = context.known.policies.get(&ObjectRef::new(&chosen.name));
        policy.filter(|policy| policy.uid().as_ref() == Some(&chosen.uid))
    });
    let seal = request.status.as_ref().and_then(|status| status.seal.as_ref());
    let grant = seal.and_then(|seal| context.known.grant(&seal.grant));
    let until = retention::of_request(request, policy.as_ref().map(|policy| &policy.spec), grant.as_deref());
    keep(requests(request, context), request, until, context).await
}

/// Keeps the record of an ended access, or removes it.
pub async fn grant(grant: &AccessGrant, context: &Context) -> Result<Again, CallError> {
    let grants = Api::<AccessGrant>::all(context.client.clone());
    keep(grants, grant, retention::of_grant(grant), context).await
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
        if let Err(error) = &removed {
            context.metrics.trouble("request", error.kind());
            // Somebody else's conflict is everyday business.
            if !error.is_conflict() && !error.is_not_leading() {
                tracing::warn!(%error, "one that is too many is left for now");
            }
        }
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

async fn keep<K>(api: Api<K>, object: &K, until: Option<DateTime<Utc>>, context: &Context) -> Result<Again, CallError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    match until {
        Some(until) if context.now() < until => Ok(context.at(until)),
        // When that changes, everything is looked at.
        Some(_) if may_remove(context) => {
            match remove(api, object, Instant::now(), context).await {
                // It was changed meanwhile: the watch tells.
                Err(error) if error.is_conflict() => Ok(Again::OnChange),
                removed => removed.map(|()| Again::OnChange),
            }
        }
        Some(_) | None => Ok(Again::OnChange),
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
