//! Removes what has ended once it was kept for as long as its policy says. Only the replica that grants does, and only while nothing stops it from granting:
//! whoever isn't sure what time it is removes no evidence.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use kube::api::{DeleteParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::Context;
use super::rounds::Again;
use crate::api::{AccessGrant, AccessRequest};
use crate::cluster::call::CallError;
use crate::core::retention;

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

/// Removes what the requester of a request that has just ended has too many of.
pub async fn no_surplus(ended: &AccessRequest, context: &Context) -> Result<(), CallError> {
    let Some(requester) = ended.username() else {
        return Ok(());
    };
    let known = context.known.requests.state().into_iter();
    let known: Vec<_> = known
        .map(|request| context.known.written_requests.of(request))
        .collect();
    for surplus in retention::surplus(requester, known.iter().map(Arc::as_ref)) {
        remove(requests(surplus, context), surplus, context).await?;
    }
    Ok(())
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
        Some(_) if context.leadership.leads() && context.brakes.pulled().is_none() && !context.uninstalling => {
            remove(api, object, context).await?;
            Ok(Again::OnChange)
        }
        Some(_) | None => Ok(Again::OnChange),
    }
}

/// Removes exactly this object, as it was seen.
async fn remove<K>(api: Api<K>, object: &K, context: &Context) -> Result<(), CallError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let _turn = context.precedence.telling().await;
    let only_this = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: object.resource_version(),
        }),
        ..DeleteParams::default()
    };
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
            tracing::info!(object = %ObjectRef::from_obj(object), "it was kept long enough, and is removed");
            Ok(())
        }
    }
}
