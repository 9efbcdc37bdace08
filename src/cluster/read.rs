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
    let facts = |metadata: ObjectMeta, rules: Option<Vec<PolicyRule>>| RoleFacts {
        reference: reference.clone(),
        uid: metadata.uid.unwrap_or_default(),
        rules: rules.unwrap_or_default(),
    };
    let name = &reference.name;
    Ok(match reference.kind {
        RoleKind::ClusterRole => {
            let found = find(
                "reading the ClusterRole",
                Api::<ClusterRole>::all(client.clone()).get(name),
            )
            .await?;
            found.map(
                |ClusterRole {
                     metadata,
                     rules,
                     aggregation_rule: _,
                 }| facts(metadata, rules),
            )
        }
        RoleKind::Role => {
            let found = find(
                "reading the Role",
                Api::<Role>::namespaced(client.clone(), namespace).get(name),
            )
            .await?;
            found.map(|Role { metadata, rules }| facts(metadata, rules))
        }
    })
}

/// The namespace of that name.
///
/// # Errors
/// When the read failed; that there is none is an answer.
pub async fn namespace(client: &Client, name: &str) -> Result<Option<NamespaceFacts>, CallError> {
    let found = find("reading the namespace", Api::<Namespace>::all(client.clone()).get(name)).await?;
    Ok(found.map(
        |Namespace {
             metadata,
             spec: _,
             status: _,
         }| NamespaceFacts {
            name: name.to_owned(),
            uid: metadata.uid.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            terminating: metadata.deletion_timestamp.is_some(),
        },
    ))
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
