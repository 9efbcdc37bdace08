//! Reads the few objects of other people that a decision needs, as the core's facts. Always from the API server, never from a cache.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::api::{ListParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};

use super::call::{CallError, call, find};
use crate::api::{AccessPolicy, RoleKind, RoleReference};
use crate::core::facts::{NamespaceFacts, RoleFacts};

/// The role of that name, in `namespace` if it is a Role.
///
/// # Errors
/// When the read failed; that there is none is an answer.
pub async fn role(client: &Client, reference: &RoleReference, namespace: &str) -> Result<Option<RoleFacts>, CallError> {
    let name = &reference.name;
    Ok(match reference.kind {
        RoleKind::ClusterRole => {
            let roles = Api::<ClusterRole>::all(client.clone());
            find("reading the ClusterRole", roles.get(name))
                .await?
                .map(facts_of_cluster_role)
        }
        RoleKind::Role => {
            let roles = Api::<Role>::namespaced(client.clone(), namespace);
            find("reading the Role", roles.get(name)).await?.map(facts_of_role)
        }
    })
}

/// What the core needs to know of a ClusterRole.
pub fn facts_of_cluster_role(
    ClusterRole {
        metadata,
        rules,
        aggregation_rule: _,
    }: ClusterRole,
) -> RoleFacts {
    facts_of(RoleKind::ClusterRole, metadata, rules)
}

/// What the core needs to know of a Role.
pub fn facts_of_role(Role { metadata, rules }: Role) -> RoleFacts {
    facts_of(RoleKind::Role, metadata, rules)
}

fn facts_of(kind: RoleKind, metadata: ObjectMeta, rules: Option<Vec<PolicyRule>>) -> RoleFacts {
    RoleFacts {
        reference: RoleReference {
            kind,
            name: metadata.name.unwrap_or_default(),
        },
        uid: metadata.uid.unwrap_or_default(),
        rules: rules.unwrap_or_default(),
    }
}

/// The namespace of that name.
///
/// # Errors
/// When the read failed; that there is none is an answer.
pub async fn namespace(client: &Client, name: &str) -> Result<Option<NamespaceFacts>, CallError> {
    let namespaces = Api::<Namespace>::all(client.clone());
    Ok(find("reading the namespace", namespaces.get(name))
        .await?
        .map(facts_of_namespace))
}

/// What the core needs to know of a namespace.
pub fn facts_of_namespace(
    Namespace {
        metadata,
        spec: _,
        status: _,
    }: Namespace,
) -> NamespaceFacts {
    NamespaceFacts {
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        terminating: metadata.deletion_timestamp.is_some(),
    }
}

/// The policy of that name.
///
/// # Errors
/// When the read failed; that there is none is an answer.
pub async fn policy(client: &Client, name: &str) -> Result<Option<AccessPolicy>, CallError> {
    find(
        "reading the AccessPolicy",
        Api::<AccessPolicy>::all(client.clone()).get(name),
    )
    .await
}

/// All policies.
///
/// # Errors
/// When the read failed.
pub async fn policies(client: &Client) -> Result<Vec<AccessPolicy>, CallError> {
    Ok(call(
        "listing AccessPolicies",
        Api::<AccessPolicy>::all(client.clone()).list(&ListParams::default()),
    )
    .await?
    .items)
}

/// Whether the API server lets this operator bind a role.
///
/// # Errors
/// When the question had no answer.
pub async fn may_bind(client: &Client, reference: &RoleReference) -> Result<bool, CallError> {
    let resource = match reference.kind {
        RoleKind::ClusterRole => "clusterroles",
        RoleKind::Role => "roles",
    };
    let question = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some("rbac.authorization.k8s.io".into()),
                resource: Some(resource.into()),
                verb: Some("bind".into()),
                name: Some(reference.name.clone()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = call(
        "asking whether a role may be bound",
        Api::all(client.clone()).create(&PostParams::default(), &question),
    )
    .await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
