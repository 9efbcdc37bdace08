//! Makes a binding, and takes for success only one that is exactly as it was asked for.

use k8s_openapi::api::rbac::v1::RoleBinding;

use super::Context;
use crate::api::{AccessGrant, BoundBinding, Place};
use crate::cluster::call::CallError;
use crate::core::binding::{desired, drift, is_of_grant};
use crate::core::grant::GrantUid;

/// How making a binding went.
pub enum Bound {
    /// It is there, as it was asked for.
    Made(BoundBinding),
    /// It can't be made. Something of ours may be there all the same, and is to be taken away.
    Failed {
        /// What is there and ours.
        left: Option<BoundBinding>,
        /// Why, in one sentence.
        message: String,
    },
}

/// Makes the binding that `grant` is to have there.
///
/// # Errors
/// When it is not known whether it was made, or trying again may help.
pub async fn bind(context: &Context, grant: &AccessGrant, uid: &GrantUid, place: &Place) -> Result<Bound, CallError> {
    let wanted = desired(grant, uid, place);
    let name = wanted.metadata.name.clone().unwrap_or_default();
    let creating = context.bindings.create(&wanted);
    let created = context.leadership.granting("creating the binding", creating).await;
    let (found, is_made) = match created {
        Ok(made) => (made, true),
        Err(error) if error.is_already_exists() => match context.bindings.find(place.namespace(), &name).await? {
            Some(found) => (found, false),
            None => return Err(error),
        },
        Err(error) if error.is_final() => {
            return Ok(Bound::Failed {
                left: None,
                message: refusal(grant, place, &error),
            });
        }
        Err(error) => return Err(error),
    };
    let record = record(&found);
    Ok(match drift(&wanted, &found) {
        None => Bound::Made(record),
        // What was made just now is ours, whatever somebody's webhook made of its marks.
        Some(how) if is_made || is_of_grant(uid, &[], &found) => Bound::Failed {
            left: Some(record),
            message: format!("the binding {place} is not as Curfew makes it: {how}"),
        },
        Some(_) => Bound::Failed {
            left: None,
            message: format!(
                "the binding {place} was there already, is not Curfew's and was left alone; make a new request"
            ),
        },
    })
}

/// A binding as a grant's status names it.
pub fn record(binding: &RoleBinding) -> BoundBinding {
    let metadata = binding.metadata.clone();
    BoundBinding {
        namespace: metadata.namespace,
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
    }
}

/// Why a binding can't be made, and who could change that. What it says itself about missing rights is long and lists rules; it goes to the log.
pub fn refusal(grant: &AccessGrant, place: &Place, error: &CallError) -> String {
    tracing::warn!(%error, "a binding can't be made");
    let (kind, name) = (grant.spec.role.kind, &grant.spec.role.name);
    match error.kind() {
        "forbidden" => format!(
            "the API server doesn't let the operator bind {kind:?} {name:?} {place}: it isn't among grantableRoles of the Helm chart{}, \
             which a cluster admin can change, or an admission policy or a terminating namespace forbids it",
            match place {
                Place::Namespace(_) => "",
                Place::Cluster => ", or clusterWide isn't set there",
            }
        ),
        _ => format!("{kind:?} {name:?} can't be bound {place}; the operator's log has the API server's answer"),
    }
}
