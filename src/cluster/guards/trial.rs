//! Tries out whether guards are in force, by writes that they forbid even to the operator. All are dry-runs: what is let through is not stored.
//!
//! Only those can be tried that the operator has a right to run into: a refusal by RBAC says nothing of a guard. The others are known by their specs, and
//! are given the same time to come into force.

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{AccessRequest, AccessRequestSpec, Decision, Requester, RoleKind, RoleReference, Verdict, marks};
use crate::cluster::call::{CallError, call};
use crate::core::guard::is_refusal_of;

/// A namespace that every cluster has.
const NAMESPACE: &str = "default";
/// The name of what is never stored.
const NAME: &str = "curfew-probe";
/// The ClusterRole that the chart binds to the operator. Whoever holds all of a role may bind it, so RBAC lets this through.
const OWN_ROLE: &str = "curfew:operator";

/// What was not refused as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unproven {
    /// In one sentence.
    pub why: String,
    /// Whether it was let through. If not, something else refused it, and the guard may be in force.
    pub is_let_through: bool,
}

/// Tries all that can be tried.
///
/// # Errors
/// What was not refused as it should be: what was let through before what isn't known.
pub(super) async fn try_out(client: &Client) -> Result<(), Unproven> {
    let requests = Api::<AccessRequest>::namespaced(client.clone(), NAMESPACE);
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), NAMESPACE);
    let (request, binding) = (in_anothers_name(), for_a_system_user());
    let (asking, binding) = futures::join!(dry_run(&requests, &request), dry_run(&bindings, &binding));
    let tried = [
        is_refused("curfew-requests", "a request in another's name", asking),
        is_refused("curfew-operator-bounds", "a binding for a system: user", binding),
    ];
    let unproven = tried.into_iter().filter_map(Result::err);
    match unproven.min_by_key(|unproven| !unproven.is_let_through) {
        Some(unproven) => Err(unproven),
        None => Ok(()),
    }
}

async fn dry_run<K>(api: &Api<K>, object: &K) -> Result<K, CallError>
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    call("trying out a guard", api.create(&parameters, object)).await
}

fn is_refused<K>(guard: &str, what: &str, answer: Result<K, CallError>) -> Result<(), Unproven> {
    match answer {
        Ok(_) => Err(Unproven {
            why: format!("the guard {guard:?} is not in force: it let {what} through, by dry-run"),
            is_let_through: true,
        }),
        Err(CallError::Refused { what: _, status }) if is_refusal_of(guard, &status.message) => Ok(()),
        Err(error) => Err(Unproven {
            why: format!(
                "whether the guard {guard:?} is in force is not known, because something else refused {what}, by dry-run ({error})"
            ),
            is_let_through: false,
        }),
    }
}

/// A request that says to be somebody else's, and that is born with a decision.
fn in_anothers_name() -> AccessRequest {
    let mut request = AccessRequest::new(
        NAME,
        AccessRequestSpec {
            policy: None,
            role: RoleReference {
                kind: RoleKind::Role,
                name: NAME.into(),
            },
            namespaces: None,
            namespaces_from_policy: None,
            cluster_wide: None,
            duration: None,
            start_time: None,
            extends: None,
            reason: None,
            requester: Some(Requester {
                username: NAME.into(),
                uid: String::new(),
                groups: vec![],
            }),
            decisions: vec![Decision {
                verdict: Verdict::Approve,
                username: NAME.into(),
                uid: String::new(),
                via: vec![format!("{NAME}/User:{NAME}")],
                comment: None,
                offer: NAME.into(),
                code: None,
                direct: false,
            }],
        },
    );
    request.metadata.namespace = Some(NAMESPACE.into());
    request
}

/// As the operator makes them in all but its subject, its role and its owner.
fn for_a_system_user() -> RoleBinding {
    RoleBinding {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(NAMESPACE.into()),
            labels: Some([(marks::GRANT_UID.to_owned(), NAME.to_owned())].into()),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "ClusterRole".into(),
            name: OWN_ROLE.into(),
        },
        subjects: Some(vec![Subject {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "User".into(),
            name: format!("system:{NAME}"),
            namespace: None,
        }]),
    }
}
