//! Reads the few objects of other people that a decision needs, as the core's facts. Always from the API server, never from a cache.

use std::fmt::Debug;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client, CustomResourceExt, Resource};
use serde::de::DeserializeOwned;

use super::call::{CallError, call, find, find_named};
use super::together::Together;
use crate::api::{AccessGrant, AccessPolicy, RoleKind, RoleReference, marks};
use crate::core::facts::{NamespaceFacts, RoleFacts};
use crate::core::limits::requester_digest;

/// All objects of a kind of Curfew's own, in all namespaces. `None` when the kind isn't served any more because its definition is gone: then there are none, and no
/// more can come.
///
/// # Errors
/// When the read failed, or the kind isn't served although its definition is there.
pub async fn all_defined<K>(client: &Client, what: &'static str) -> Result<Option<Vec<K>>, CallError>
where
    K: CustomResourceExt + Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let refused = match call(what, Api::<K>::all(client.clone()).list(&ListParams::default())).await {
        Ok(all) => return Ok(Some(all.items)),
        Err(error) if error.is_not_found() => error,
        Err(error) => return Err(error),
    };
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    match find("reading a definition", definitions.get_metadata(K::crd_name())).await? {
        None => Ok(None),
        Some(_) => Err(refused),
    }
}

/// Reads for many who need the same at the same time; each call begins after all who share it have asked.
pub struct Reads {
    client: Client,
    roles: Together<(RoleReference, String), Option<RoleFacts>>,
    namespaces: Together<String, Option<NamespaceFacts>>,
    policies: Together<String, Option<AccessPolicy>>,
    all_policies: Together<(), Vec<AccessPolicy>>,
}

impl Reads {
    /// Reads by way of `client`.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            roles: Together::default(),
            namespaces: Together::default(),
            policies: Together::default(),
            all_policies: Together::default(),
        }
    }

    /// The role of that name, in `namespace` if it is a Role.
    ///
    /// # Errors
    /// When the read failed; that there is none is an answer.
    pub async fn role(&self, reference: &RoleReference, namespace: &str) -> Result<Option<RoleFacts>, CallError> {
        let name = reference.name.clone();
        match reference.kind {
            RoleKind::ClusterRole => {
                let roles = Api::<ClusterRole>::all(self.client.clone());
                let read = async move {
                    Ok(find_named("reading the ClusterRole", &roles, &name)
                        .await?
                        .map(facts_of_cluster_role))
                };
                self.roles.ask((reference.clone(), String::new()), read).await
            }
            // A Role is one namespace's: where several are asked for, or the whole cluster, none is meant, nor found.
            RoleKind::Role => {
                let roles = Api::<Role>::namespaced(self.client.clone(), namespace);
                let read = async move { Ok(find_named("reading the Role", &roles, &name).await?.map(facts_of_role)) };
                self.roles.ask((reference.clone(), namespace.to_owned()), read).await
            }
        }
    }

    /// The namespace of that name.
    ///
    /// # Errors
    /// When the read failed; that there is none is an answer.
    pub async fn namespace(&self, name: &str) -> Result<Option<NamespaceFacts>, CallError> {
        let (namespaces, about) = (Api::<Namespace>::all(self.client.clone()), name.to_owned());
        let read = async move {
            Ok(find_named("reading the namespace", &namespaces, &about)
                .await?
                .map(facts_of_namespace))
        };
        self.namespaces.ask(name.to_owned(), read).await
    }

    /// All namespaces.
    ///
    /// # Errors
    /// When the read failed.
    pub async fn namespaces(&self) -> Result<Vec<NamespaceFacts>, CallError> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let all = call("listing namespaces", namespaces.list(&ListParams::default())).await?;
        Ok(all.items.into_iter().map(facts_of_namespace).collect())
    }

    /// The policy of that name.
    ///
    /// # Errors
    /// When the read failed; that there is none is an answer.
    pub async fn policy(&self, name: &str) -> Result<Option<AccessPolicy>, CallError> {
        let (policies, about) = (Api::<AccessPolicy>::all(self.client.clone()), name.to_owned());
        let read = async move { find_named("reading the AccessPolicy", &policies, &about).await };
        self.policies.ask(name.to_owned(), read).await
    }

    /// All policies.
    ///
    /// # Errors
    /// When the read failed.
    pub async fn policies(&self) -> Result<Vec<AccessPolicy>, CallError> {
        let policies = Api::<AccessPolicy>::all(self.client.clone());
        let read = async move {
            let all = call("listing AccessPolicies", policies.list(&ListParams::default())).await?;
            Ok(all.items)
        };
        self.all_policies.ask((), read).await
    }

    /// All grants. Also when their kind isn't served any more because its definition is gone: then there are none, and no more can come.
    ///
    /// # Errors
    /// When the read failed, or the kind isn't served although its definition is there.
    pub async fn grants(&self) -> Result<Vec<AccessGrant>, CallError> {
        let all = all_defined(&self.client, "listing AccessGrants").await?;
        Ok(all.unwrap_or_default())
    }

    /// The grants of one requester.
    ///
    /// # Errors
    /// When the read failed.
    pub async fn grants_of(&self, requester: &str) -> Result<Vec<AccessGrant>, CallError> {
        let grants = Api::<AccessGrant>::all(self.client.clone());
        let theirs = ListParams::default().labels(&format!("{}={}", marks::REQUESTER, requester_digest(requester)));
        let all = call("listing a requester's AccessGrants", grants.list(&theirs)).await?;
        Ok(all.items)
    }

    /// Whether the API server lets this operator bind a role.
    ///
    /// # Errors
    /// When the question had no answer.
    pub async fn may_bind(&self, reference: &RoleReference) -> Result<bool, CallError> {
        let resource = match reference.kind {
            RoleKind::ClusterRole => "clusterroles",
            RoleKind::Role => "roles",
        };
        let name = Some(reference.name.clone());
        self.may("bind", resource, name, "asking whether a role may be bound")
            .await
    }

    /// Whether the API server lets this operator bind anything in the whole cluster.
    ///
    /// # Errors
    /// When the question had no answer.
    pub async fn may_bind_cluster_wide(&self) -> Result<bool, CallError> {
        let what = "asking whether a ClusterRoleBinding may be created";
        self.may("create", "clusterrolebindings", None, what).await
    }

    async fn may(
        &self,
        verb: &str,
        resource: &str,
        name: Option<String>,
        what: &'static str,
    ) -> Result<bool, CallError> {
        let question = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some("rbac.authorization.k8s.io".into()),
                    resource: Some(resource.into()),
                    verb: Some(verb.into()),
                    name,
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let (questions, parameters) = (Api::all(self.client.clone()), PostParams::default());
        let answer = call(what, questions.create(&parameters, &question)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use axum::Router;

    use super::*;
    use crate::api::BoundBinding;
    use crate::cluster::bindings::Bindings;
    use crate::cluster::revoke::{Revoked, revoke};

    /// A watch of all ClusterRoles, say, would hold up whoever asks for ten seconds.
    #[tokio::test]
    async fn what_can_not_be_anythings_name_is_not_asked_for() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let server = Router::new().fallback(async move || {
            count.fetch_add(1, Relaxed);
        });
        let reads = Reads::new(Client::new(server, "default"));
        let role = |kind, name: &str| RoleReference {
            kind,
            name: name.into(),
        };
        let cluster_role = role(RoleKind::ClusterRole, "?watch=true&x=1");
        assert_eq!(reads.role(&cluster_role, "team").await.unwrap(), None);
        for (name, namespace) in [("?", "team"), ("reader", "team/secrets?"), ("..", "team")] {
            let role = role(RoleKind::Role, name);
            assert_eq!(reads.role(&role, namespace).await.unwrap(), None);
        }
        assert_eq!(reads.namespace("team/../../nodes").await.unwrap(), None);
        assert_eq!(reads.policy("?limit=1").await.unwrap(), None);
        for namespace in ["", "x/y", "?"] {
            let (bindings, namespace) = (Bindings::new(reads.client.clone()), Some(namespace.to_owned()));
            assert_eq!(bindings.find(namespace.as_deref(), "b").await.unwrap(), None);
            let recorded = BoundBinding {
                namespace,
                name: "b".into(),
                uid: "u".into(),
            };
            assert_eq!(revoke(&reads.client, &recorded).await.unwrap(), Revoked::Gone);
        }
        assert_eq!(asked.load(Relaxed), 0);
    }
}
