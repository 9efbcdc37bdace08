//! The sweep: deletes bindings that bear Curfew's marks and that no grant explains.
//!
//! It knows bindings by themselves, without their grants, and takes none for ours that bears not all the marks. Before it deletes, it reads afresh.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::{Api, ResourceExt};

use super::Context;
use super::binding::record;
use super::rounds::Again;
use crate::api::AccessGrant;
use crate::cluster::bindings::in_one_form;
use crate::cluster::call::{CallError, find_named};
use crate::cluster::revoke::{Revoked, revoke};
use crate::core::binding::{Sweep, grant_name, marked, sweep};
use crate::core::grant::{GrantUid, has_ended};
use crate::observe::metrics::Stuck;

/// So long a binding is left to its grant, once it is the sweep's turn.
const FOR_ITS_GRANT: Duration = Duration::from_secs(1);

/// Looks at one ClusterRoleBinding, as at any binding.
///
/// # Errors
/// When a call failed; the binding is then looked at again.
pub async fn reconcile_cluster_wide(
    binding: Arc<ClusterRoleBinding>,
    context: Arc<Context>,
) -> Result<Again, CallError> {
    reconcile(Arc::new(in_one_form(&binding)), context).await
}

/// Looks at one binding.
///
/// # Errors
/// When a call failed; the binding is then looked at again.
pub async fn reconcile(binding: Arc<RoleBinding>, context: Arc<Context>) -> Result<Again, CallError> {
    let Some(uid) = marked(&binding) else {
        return Ok(Again::OnChange);
    };
    let known = context.known.explaining(&binding);
    if let Sweep::Keep { until } = sweep(known.as_deref(), &binding, context.now()) {
        return Ok(context.at(until));
    }
    // What has a grant is that grant's to end. Where it is just doing so, reading it all afresh would only hold it up. One that has ended ends nothing any more.
    if known.is_some_and(|grant| !has_ended(&grant)) {
        context.precedence.after_what_goes_first(FOR_ITS_GRANT).await;
        if !context.known.is_there(&binding) {
            return Ok(Again::OnChange);
        }
    }
    let done = look_afresh(&binding, &uid, &context).await;
    context.overdue.tried(binding.uid());
    done
}

/// Reads what the watches have shown as unexplained, and deletes it if it is.
async fn look_afresh(binding: &RoleBinding, uid: &GrantUid, context: &Context) -> Result<Again, CallError> {
    let (namespace, name) = (binding.namespace(), binding.name_any());
    let (grant, binding) = futures::try_join!(
        explaining(binding, uid, context),
        context.bindings.find(namespace.as_deref(), &name)
    )?;
    // Where what was read differs from what the watches show, one of them is older; if it is what was read, no watch tells, and it is read again.
    let Some(binding) = binding.filter(|found| marked(found).as_ref() == Some(uid)) else {
        return Ok(Again::After(super::RETRY));
    };
    match sweep(grant.as_ref(), &binding, context.now()) {
        Sweep::Keep { until } => Ok(context.at(until.min(context.now() + super::RETRY))),
        Sweep::Remove => remove(&binding, context).await,
    }
}

/// The grant of that uid, read afresh: by the name that is written on the binding, or by which it is known. Where what was read and what is known aren't of one
/// mind, all are read. A right that was taken away holds up nothing: then what is known counts, once all was shown.
async fn explaining(
    binding: &RoleBinding,
    uid: &GrantUid,
    context: &Context,
) -> Result<Option<AccessGrant>, CallError> {
    let grants = Api::<AccessGrant>::all(context.client.clone());
    let is_it = |found: &AccessGrant| GrantUid::of(found).as_ref() == Some(uid);
    let known = context.known.grant_of(uid);
    let mut names: Vec<_> = grant_name(binding)
        .into_iter()
        .chain(known.as_ref().map(|known| known.name_any()))
        .collect();
    names.dedup();
    let is_whole = context.known.all_grants.has_all();
    for name in names {
        match find_named("reading the AccessGrant", &grants, &name).await {
            Ok(found) => {
                if let Some(found) = found.filter(is_it) {
                    return Ok(Some(found));
                }
            }
            Err(error) if error.is_final() && is_whole => return Ok(known.map(|known| known.as_ref().clone())),
            Err(error) => return Err(error),
        }
    }
    if known.is_none() && is_whole {
        return Ok(None);
    }
    Ok(context.reads.grants().await?.into_iter().find(is_it))
}

async fn remove(binding: &RoleBinding, context: &Context) -> Result<Again, CallError> {
    let (name, namespace) = (binding.name_any(), binding.namespace());
    tracing::warn!(
        binding = name,
        namespace,
        "no grant explains this binding; it is deleted"
    );
    let revoked = revoke(&context.client, &record(binding)).await;
    let is_gone = matches!(revoked, Ok(Revoked::Gone | Revoked::Replaced));
    // What has a grant is told of by that grant, until it has ended.
    let is_told = context
        .known
        .explaining(binding)
        .is_some_and(|grant| !has_ended(&grant));
    context.tells_overdue(Stuck::binding(binding), usize::from(!is_gone && !is_told));
    match revoked? {
        // Another of its name is told of like this one.
        Revoked::Gone | Revoked::Replaced => {
            context.metrics.swept();
            Ok(Again::OnChange)
        }
        Revoked::Lingers => Ok(Again::After(super::RETRY)),
    }
}
