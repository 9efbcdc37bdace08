//! Which objects are to be looked at again when another one changes. A trigger too many costs a few reads; one too few costs the promise.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};

use crate::api::{AccessGrant, AccessPolicy, AccessRequest, RequestPhase, RoleKind};
use crate::core::grant::{GrantUid, has_ended, name as grant_name};
use crate::core::{binding, request::target_names};

type Requests = Store<AccessRequest>;
type Grants = Store<AccessGrant>;

/// Undecided requests of which this is true.
fn undecided(store: &Requests, concerned: impl Fn(&AccessRequest) -> bool) -> Vec<ObjectRef<AccessRequest>> {
    let is_undecided = |request: &AccessRequest| {
        request
            .status
            .as_ref()
            .is_none_or(|status| status.seal.is_none() && !status.phase.is_some_and(RequestPhase::is_final))
    };
    let found = store.state_filter(|request| is_undecided(request) && concerned(request));
    found
        .iter()
        .map(|request| ObjectRef::from_obj(request.as_ref()))
        .collect()
}

/// Grants in force of which this is true.
fn in_force(store: &Grants, concerned: impl Fn(&AccessGrant) -> bool) -> Vec<ObjectRef<AccessGrant>> {
    let found = store.state_filter(|grant| !has_ended(grant) && concerned(grant));
    found.iter().map(|grant| ObjectRef::from_obj(grant.as_ref())).collect()
}

/// Requests under the policy, and all that are under none yet: it may be the one that fits, or the second one.
pub fn requests_of_policy(store: Requests) -> impl Fn(AccessPolicy) -> Vec<ObjectRef<AccessRequest>> {
    move |policy| {
        let name = policy.name_any();
        undecided(&store, |request| {
            match request.status.as_ref().and_then(|status| status.policy.as_ref()) {
                Some(chosen) => chosen.name == name,
                None => request.spec.policy.as_ref().is_none_or(|named| *named == name),
            }
        })
    }
}

pub fn request_of_grant(grant: AccessGrant) -> Option<ObjectRef<AccessRequest>> {
    Some(ObjectRef::new(&grant.spec.request.name).within(&grant.spec.request.namespace))
}

pub fn requests_of_cluster_role(store: Requests) -> impl Fn(ClusterRole) -> Vec<ObjectRef<AccessRequest>> {
    move |role| {
        undecided(&store, |request| {
            request.spec.role.kind == RoleKind::ClusterRole
                && Some(&request.spec.role.name) == role.metadata.name.as_ref()
        })
    }
}

pub fn requests_of_role(store: Requests) -> impl Fn(Role) -> Vec<ObjectRef<AccessRequest>> {
    move |role| {
        undecided(&store, |request| {
            request.spec.role.kind == RoleKind::Role && Some(&request.spec.role.name) == role.metadata.name.as_ref()
        })
    }
}

pub fn requests_of_namespace(store: Requests) -> impl Fn(Namespace) -> Vec<ObjectRef<AccessRequest>> {
    move |namespace| undecided(&store, |request| target_names(request).contains(&namespace.name_any()))
}

pub fn grant_of_request(request: AccessRequest) -> Option<ObjectRef<AccessGrant>> {
    request.uid().map(|uid| ObjectRef::new(&grant_name(&uid)))
}

/// By the binding's name, which alone nobody can change.
pub fn grant_of_binding(store: Grants) -> impl Fn(RoleBinding) -> Vec<ObjectRef<AccessGrant>> {
    move |found| {
        in_force(&store, |grant| {
            GrantUid::of(grant).is_some_and(|uid| binding::name(&uid) == found.name_any())
        })
    }
}

pub fn grants_of_policy(store: Grants) -> impl Fn(AccessPolicy) -> Vec<ObjectRef<AccessGrant>> {
    move |policy| in_force(&store, |grant| grant.spec.policy.name == policy.name_any())
}

pub fn grants_of_cluster_role(store: Grants) -> impl Fn(ClusterRole) -> Vec<ObjectRef<AccessGrant>> {
    move |role| {
        in_force(&store, |grant| {
            grant.spec.role.kind == RoleKind::ClusterRole && grant.spec.role.name == role.name_any()
        })
    }
}

pub fn grants_of_role(store: Grants) -> impl Fn(Role) -> Vec<ObjectRef<AccessGrant>> {
    move |role| {
        in_force(&store, |grant| {
            grant.spec.role.kind == RoleKind::Role && grant.spec.role.name == role.name_any()
        })
    }
}

pub fn grants_of_namespace(store: Grants) -> impl Fn(Namespace) -> Vec<ObjectRef<AccessGrant>> {
    move |namespace| {
        in_force(&store, |grant| {
            grant
                .spec
                .targets
                .iter()
                .any(|target| target.namespace == namespace.name_any())
        })
    }
}

/// Policies that name the role, and with any change of a ClusterRole those whose roles the operator could not bind: that right stands in a ClusterRole too.
pub fn policies_of_cluster_role(store: Store<AccessPolicy>) -> impl Fn(ClusterRole) -> Vec<ObjectRef<AccessPolicy>> {
    move |role| {
        let is_named = |policy: &AccessPolicy| {
            policy
                .spec
                .roles
                .iter()
                .any(|named| named.kind == RoleKind::ClusterRole && named.name == role.name_any())
        };
        let gives_bind = role
            .rules
            .iter()
            .flatten()
            .any(|rule| rule.verbs.iter().any(|verb| verb == "bind"));
        let found = store.state_filter(|policy| gives_bind || is_named(policy));
        found
            .iter()
            .map(|policy| ObjectRef::from_obj(policy.as_ref()))
            .collect()
    }
}

pub fn bindings_of_grant(grant: AccessGrant) -> Vec<ObjectRef<RoleBinding>> {
    let Some(uid) = GrantUid::of(&grant) else { return vec![] };
    grant
        .spec
        .targets
        .iter()
        .map(|target| ObjectRef::new(&binding::name(&uid)).within(&target.namespace))
        .collect()
}
