//! The policy controller: says whether a policy can be used, or everything that stands in the way. Only the replica that grants
//! says so.

use std::sync::Arc;

use futures::future::try_join_all;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::rounds::Again;
use super::{Context, LONGEST_PAUSE};
use crate::api::{AccessPolicy, AccessPolicyStatus, RoleKind, RoleReference};
use crate::cluster::call::CallError;
use crate::core::policy::{PolicyRole, RoleFinding, status};

/// Looks at one policy.
///
/// # Errors
/// When a call failed; the policy is then looked at again.
pub async fn reconcile(policy: Arc<AccessPolicy>, context: Arc<Context>) -> Result<Again, CallError> {
    // When this replica begins to grant, it looks at all of them.
    if !context.leadership.leads() {
        return Ok(Again::OnChange);
    }
    // All of them may be looked at in one moment, and access may be ending.
    let _turn = context.precedence.telling().await;
    let roles = try_join_all(policy.spec.roles.iter().map(|role| look_at(role, &context)));
    let wide = async {
        match policy.spec.cluster_wide {
            true => context.reads.may_bind_cluster_wide().await,
            false => Ok(false),
        }
    };
    let (roles, wide) = futures::try_join!(roles, wide)?;
    publish(&context, &policy, status(&policy, &roles, wide, context.now())).await?;
    // For a moment after a role was changed the API server may answer as if it hadn't been, and nothing tells of that.
    Ok(Again::After(LONGEST_PAUSE))
}

async fn look_at(reference: &RoleReference, context: &Context) -> Result<PolicyRole, CallError> {
    let found = async {
        match reference.kind {
            RoleKind::Role => Ok(RoleFinding::PerNamespace(reference.clone())),
            RoleKind::ClusterRole => Ok(match context.reads.role(reference, "").await? {
                Some(facts) => RoleFinding::Found(facts),
                None => RoleFinding::Missing(reference.clone()),
            }),
        }
    };
    let (finding, bindable) = futures::try_join!(found, context.reads.may_bind(reference))?;
    Ok(PolicyRole { finding, bindable })
}

async fn publish(context: &Context, policy: &AccessPolicy, status: AccessPolicyStatus) -> Result<(), CallError> {
    if policy.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let policies = Api::<AccessPolicy>::all(context.client.clone());
    let next = AccessPolicy {
        status: Some(status),
        ..policy.clone()
    };
    let written = context
        .leadership
        .granting(
            "writing the AccessPolicy's status",
            policies.replace_status(&policy.name_any(), &PostParams::default(), &next),
        )
        .await;
    match written {
        Err(error) if error.is_not_found() => Ok(()),
        written => written.map(drop),
    }
}
