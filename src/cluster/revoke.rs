//! Takes a binding away. Only ever by DELETE with a uid, which works even when the operator's other rights are gone.
//!
//! A binding that is merely being deleted still gives access, so it counts as alive until it is gone; what others hold it with is taken off.

use std::fmt::Debug;

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::call::{CallError, call_for_good, find, is_place, only_this};
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
    // In a namespace that there can't be is nothing, whoever has written its name.
    if !is_place(&bindings) {
        return Ok(Revoked::Gone);
    }
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
    if !is_held(&lingering) {
        return Ok(Revoked::Gone);
    }
    let without = json!({ "metadata": { "uid": metadata.uid, "resourceVersion": metadata.resource_version, "finalizers": null } });
    let (there, its_name) = (bindings.clone(), name.to_owned());
    let releasing = async move {
        let without = Patch::Merge(without);
        there.patch(&its_name, &PatchParams::default(), &without).await
    };
    match call_for_good("taking finalizers off the binding", releasing).await {
        // A webhook may have put them on again.
        Ok(left) if is_held(&left) => Ok(Revoked::Lingers),
        Ok(_) => Ok(Revoked::Gone),
        Err(error) if error.is_not_found() => Ok(Revoked::Gone),
        Err(error) if error.is_conflict() => Ok(Revoked::Lingers),
        Err(error) => Err(error),
    }
}

fn is_held(found: &impl Binding) -> bool {
    found.meta().finalizers.as_ref().is_some_and(|held| !held.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{Method, Response};
    use kube::client::ClientBuilder;
    use serde_json::Value;
    use tokio::time::sleep;

    use super::*;
    use crate::cluster::brakes::Brakes;
    use crate::cluster::clock::{Clock, Clocks};
    use crate::cluster::connection::client;

    /// As the operator's, to an API server that answers so.
    fn answered<A>(answer: impl Fn(Method) -> A + Clone + Send + 'static) -> Client
    where
        A: Future<Output = Value> + Send + 'static,
    {
        let server = tower::service_fn(move |request: axum::http::Request<kube::client::Body>| {
            let answer = answer(request.method().clone());
            async move { Ok::<_, tower::BoxError>(Response::new(Body::from(answer.await.to_string()))) }
        });
        let clocks = Clocks::new(Clock::system(), Arc::new(Brakes::default()));
        client(ClientBuilder::new(server, "default"), &clocks)
    }

    fn the_binding() -> BoundBinding {
        BoundBinding {
            namespace: Some("team".into()),
            name: "curfew-x".into(),
            uid: "u".into(),
        }
    }

    fn held_by(finalizers: &[&str]) -> Value {
        let metadata = json!({
            "name": "curfew-x", "namespace": "team", "uid": "u", "deletionTimestamp": "2027-01-15T08:00:00Z", "finalizers": finalizers,
        });
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"});
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": role})
    }

    /// It may be passed over, and hangs for as long as the API server lets it.
    #[tokio::test(start_paused = true)]
    async fn a_deletion_that_hangs_at_a_webhook_is_not_called_back_when_it_is_not_waited_for_any_more() {
        let gone = Arc::new(AtomicBool::new(false));
        let is_gone = Arc::clone(&gone);
        let client = answered(move |_| {
            let gone = Arc::clone(&gone);
            async move {
                sleep(Duration::from_secs(34)).await;
                gone.store(true, Relaxed);
                json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})
            }
        });
        let begun = tokio::time::Instant::now();
        let error = revoke(&client, &the_binding()).await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed().as_secs()), ("timeout", 10));
        sleep(Duration::from_secs(50)).await;
        assert!(is_gone.load(Relaxed));
    }

    #[tokio::test]
    async fn a_binding_is_gone_only_when_nothing_holds_it_any_more() {
        for (left, becomes) in [
            (&[][..], Revoked::Gone),
            (&["another.example/held"][..], Revoked::Lingers),
        ] {
            let client = answered(move |method| async move {
                match method {
                    Method::DELETE => held_by(&["some.example/held", "another.example/held"]),
                    _ => held_by(left),
                }
            });
            assert_eq!(revoke(&client, &the_binding()).await.unwrap(), becomes);
        }
    }
}
