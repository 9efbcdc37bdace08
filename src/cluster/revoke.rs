//! Takes a binding away. Only ever by DELETE with a uid, which works even when the operator's other rights are gone.
//!
//! A binding that is merely being deleted still gives access, so it counts as alive until it is gone; what others hold it with is taken off.

use std::fmt::Debug;

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::call::{CallError, call_for_good, find, only_this};
use crate::api::BoundBinding;

/// A RoleBinding or a ClusterRoleBinding.
trait Binding: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static {}

impl Binding for RoleBinding {}
impl Binding for ClusterRoleBinding {}

/// What became of a binding that was to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// It is gone.
    Gone,
    /// It is gone, and another of its name is there.
    Replaced,
    /// It is being deleted and still there: it still gives access.
    Lingers,
}

/// Deletes exactly this binding, the one with this uid, and takes off what would hold it.
///
/// # Errors
/// When the API server couldn't be asked, or refused.
pub async fn revoke(client: &Client, binding: &BoundBinding) -> Result<Revoked, CallError> {
    let BoundBinding { namespace, name, uid } = binding;
    match namespace {
        Some(namespace) => delete(Api::<RoleBinding>::namespaced(client.clone(), namespace), name, uid).await,
        None => delete(Api::<ClusterRoleBinding>::all(client.clone()), name, uid).await,
    }
}

async fn delete<K: Binding>(bindings: Api<K>, name: &str, uid: &str) -> Result<Revoked, CallError> {
    let (there, its_name, only_this) = (bindings.clone(), name.to_owned(), only_this(Some(uid.to_owned()), None));
    let deleting = async move { there.delete(&its_name, &only_this).await };
    match call_for_good("deleting the binding", deleting).await {
        Ok(answer) => match answer.left() {
            None => Ok(Revoked::Gone),
            Some(lingering) if is_this(&lingering, uid) => release(&bindings, name, lingering).await,
            Some(_) => Ok(Revoked::Replaced),
        },
        Err(error) if error.is_not_found() => Ok(Revoked::Gone),
        // The uid is another.
        Err(error) if error.is_conflict() => match find("reading the binding", bindings.get(name)).await? {
            Some(found) if is_this(&found, uid) => Ok(Revoked::Lingers),
            Some(_) => Ok(Revoked::Replaced),
            None => Ok(Revoked::Gone),
        },
        // Who has lost the right to delete is refused also when it is gone: its anchor takes it away, or somebody.
        Err(error) if error.is_final() => match find("reading the binding", bindings.get(name)).await {
            Ok(found) if !found.as_ref().is_some_and(|found| is_this(found, uid)) => Ok(Revoked::Gone),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn is_this(found: &impl Binding, uid: &str) -> bool {
    found.meta().uid.as_deref() == Some(uid)
}

/// Takes all finalizers off a binding that is being deleted, provided that nobody changed it in between.
async fn release<K: Binding>(bindings: &Api<K>, name: &str, lingering: K) -> Result<Revoked, CallError> {
    let metadata = lingering.meta();
    if metadata.finalizers.as_ref().is_none_or(Vec::is_empty) {
        return Ok(Revoked::Gone);
    }
    let without = json!({ "metadata": { "uid": metadata.uid, "resourceVersion": metadata.resource_version, "finalizers": null } });
    let (there, its_name) = (bindings.clone(), name.to_owned());
    let releasing = async move {
        let without = Patch::Merge(without);
        there.patch(&its_name, &PatchParams::default(), &without).await
    };
    match call_for_good("taking finalizers off the binding", releasing).await {
        Ok(_) => Ok(Revoked::Gone),
        Err(error) if error.is_not_found() => Ok(Revoked::Gone),
        Err(error) if error.is_conflict() => Ok(Revoked::Lingers),
        Err(error) => Err(error),
    }
}
