//! The end of an installation: waits until nothing of Curfew gives access any more, and says so.
//!
//! It ends nothing itself. The controllers of its process do, as in any replica, except that every grant is due; and its process holds the Lease, so that
//! no other grants meanwhile.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::api::{AccessGrant, AccessRequest, RequestPhase, marks};
use crate::cluster::bindings::in_one_form;
use crate::cluster::call::{CallError, call};
use crate::cluster::lease::Leadership;
use crate::cluster::read::all_defined;
use crate::core::binding::marked;
use crate::core::facts::Home;
use crate::core::grant::has_ended;
use crate::core::lease::VALID;

/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(500);
/// So much longer than the one before it may grant is waited: for what it had sent and the API server had not yet done.
const IN_FLIGHT: Duration = Duration::from_secs(2);
/// So many of what is left are named.
const NAMED: usize = 10;

/// Waits until every access has ended.
///
/// # Errors
/// One sentence that names what is left when `limit` was reached.
pub async fn nothing_left(
    client: Client,
    home: Home,
    leadership: Arc<Leadership>,
    limit: Duration,
) -> Result<(), String> {
    let mut left = vec!["everything: it was not looked at yet".to_owned()];
    let waiting = async {
        while !leadership.leads() {
            tokio::time::sleep(PAUSE).await;
        }
        tracing::info!("nothing is granted any more; every access is ended");
        // The replica that granted until now may not know yet.
        tokio::time::sleep(VALID + IN_FLIGHT).await;
        loop {
            match remaining(&client, &home).await {
                Ok(found) if found.is_empty() && leadership.leads() => return,
                Ok(found) if found.is_empty() => {
                    left = vec!["nothing that is known, but the Lease was lost, and somebody may grant".to_owned()];
                }
                Ok(found) => left = found,
                Err(error) => tracing::warn!(%error, "it can't be seen what is left; tried again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    if tokio::time::timeout(limit, waiting).await.is_ok() {
        tracing::info!("nothing of Curfew gives access any more");
        return Ok(());
    }
    let more = left.len().saturating_sub(NAMED);
    left.truncate(NAMED);
    let others = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Err(format!(
        "not everything ended within {} s; left are {}{others}. The operator's log says what holds it; try again, or delete these by hand",
        limit.as_secs(),
        left.join(", ")
    ))
}

/// What is left, by kind and name: bindings that give access, grants and requests that don't say that they ended, anchors.
async fn remaining(client: &Client, home: &Home) -> Result<Vec<String>, CallError> {
    let all = ListParams::default();
    let bindings = Api::<RoleBinding>::all(client.clone());
    let cluster_wide = Api::<ClusterRoleBinding>::all(client.clone());
    let jobs = Api::<Job>::namespaced(client.clone(), &home.namespace);
    let (of_grants, of_anchors) = (all.clone().labels(marks::GRANT_UID), all.labels(marks::ANCHOR));
    let (bindings, cluster_wide, grants, requests, jobs) = futures::try_join!(
        call("listing RoleBindings", bindings.list(&of_grants)),
        call("listing ClusterRoleBindings", cluster_wide.list(&of_grants)),
        all_defined::<AccessGrant>(client, "listing AccessGrants"),
        all_defined::<AccessRequest>(client, "listing AccessRequests"),
        call("listing the anchors' Jobs", jobs.list(&of_anchors)),
    )?;
    let bindings = bindings.items.into_iter().filter(|binding| marked(binding).is_some());
    let bindings = bindings.map(|binding| named("RoleBinding", &binding));
    let cluster_wide = cluster_wide.items.into_iter();
    let cluster_wide = cluster_wide.filter(|binding| marked(&in_one_form(binding)).is_some());
    let bindings = bindings.chain(cluster_wide.map(|binding| named("ClusterRoleBinding", &binding)));
    // Where the definition of grants is gone no request follows one, and what is left of anchors goes at its end by itself.
    let Some(grants) = grants else {
        return Ok(bindings.collect());
    };
    let grants = grants.into_iter().filter(|grant| !has_ended(grant));
    let grants = grants.map(|grant| named("AccessGrant", &grant));
    let requests = requests.unwrap_or_default().into_iter().filter(follows);
    let requests = requests.map(|request| named("AccessRequest", &request));
    let jobs = jobs.items.into_iter().map(|job| named("Job", &job));
    Ok(bindings.chain(grants).chain(requests).chain(jobs).collect())
}

/// Whether a request was granted and doesn't say yet that it ended.
fn follows(request: &AccessRequest) -> bool {
    let status = request.status.as_ref();
    status.is_some_and(|status| status.seal.is_some() && !status.phase.is_some_and(RequestPhase::is_final))
}

fn named(kind: &str, object: &impl ResourceExt) -> String {
    match object.namespace() {
        Some(namespace) => format!("{kind} {namespace}/{}", object.name_any()),
        None => format!("{kind} {}", object.name_any()),
    }
}
