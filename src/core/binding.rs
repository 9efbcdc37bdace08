//! The binding that gives access: what it is called, what it looks like, whether one found is ours, and whether it is still as it was made.
//!
//! RoleBindings and ClusterRoleBindings say the same in the same fields, and have one form here: a RoleBinding without a namespace is a ClusterRoleBinding.
//!
//! A binding describes itself: deadline, grant and request are written on it, so that whoever finds it alone knows when it must be gone.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use super::anchor;
use super::grant::{self, GrantUid};
use crate::api::{AccessGrant, AccessGrantSpec, BoundBinding, GrantedSubject, Place, marks, time};

const RBAC: &str = "rbac.authorization.k8s.io";

/// How long after its deadline a binding is removed by the sweep, should the grant's own timer not have done it.
pub const SWEEP_DELAY: chrono::Duration = chrono::Duration::seconds(1);

/// The name of a grant's bindings, the same everywhere.
pub fn name(grant: &GrantUid) -> String {
    format!("{}{grant}", marks::BINDING_PREFIX)
}

/// The binding that `grant` is to have there.
pub fn desired(grant: &AccessGrant, uid: &GrantUid, place: &Place) -> RoleBinding {
    let AccessGrantSpec {
        request, subject, role, ..
    } = &grant.spec;
    let GrantedSubject {
        kind,
        name: subject_name,
        namespace,
    } = subject;
    let grant_name = grant.metadata.name.clone().unwrap_or_default();
    RoleBinding {
        metadata: ObjectMeta {
            name: Some(name(uid)),
            namespace: place.namespace().map(ToOwned::to_owned),
            labels: Some(BTreeMap::from([
                (marks::GRANT_UID.to_owned(), uid.to_string()),
                ("app.kubernetes.io/managed-by".to_owned(), "curfew".to_owned()),
            ])),
            annotations: Some(BTreeMap::from([
                (marks::GRANT.to_owned(), grant_name.clone()),
                (marks::DEADLINE.to_owned(), time::written(grant::deadline(grant))),
                (
                    marks::REQUEST.to_owned(),
                    format!("{}/{}", request.namespace, request.name),
                ),
            ])),
            owner_references: Some(vec![match &grant.spec.anchor {
                Some(anchor) => anchor::owner_of_bindings(anchor),
                None => grant_as_owner(grant_name, uid),
            }]),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: RBAC.into(),
            kind: format!("{:?}", role.kind),
            name: role.name.clone(),
        },
        subjects: Some(vec![Subject {
            api_group: (kind == "User").then(|| RBAC.into()),
            kind: kind.clone(),
            name: subject_name.clone(),
            namespace: namespace.clone(),
        }]),
    }
}

/// A binding without an anchor hangs on its grant: with the grant deleted, the garbage collector takes it away, operator or not.
fn grant_as_owner(grant_name: String, uid: &GrantUid) -> OwnerReference {
    OwnerReference {
        api_version: AccessGrant::api_version(&()).into_owned(),
        kind: AccessGrant::kind(&()).into_owned(),
        name: grant_name,
        uid: uid.to_string(),
        ..OwnerReference::default()
    }
}

/// How `found` differs from what was made, in one phrase. `None`: it is as it was made.
pub fn drift(desired: &RoleBinding, found: &RoleBinding) -> Option<&'static str> {
    let normal = |subjects: &Option<Vec<Subject>>| -> Vec<(String, String, String)> {
        let subjects = subjects.iter().flatten();
        subjects
            .map(
                |Subject {
                     api_group: _,
                     kind,
                     name,
                     namespace,
                 }| (kind.clone(), name.clone(), namespace.clone().unwrap_or_default()),
            )
            .collect()
    };
    let has = |ours: &Option<BTreeMap<String, String>>, theirs: &Option<BTreeMap<String, String>>| {
        ours.iter()
            .flatten()
            .all(|(key, value)| theirs.as_ref().and_then(|theirs| theirs.get(key)) == Some(value))
    };
    if normal(&desired.subjects) != normal(&found.subjects) {
        Some("its subjects were changed")
    } else if desired.role_ref != found.role_ref {
        Some("its role was changed")
    } else if !has(&desired.metadata.labels, &found.metadata.labels)
        || !has(&desired.metadata.annotations, &found.metadata.annotations)
    {
        Some("its labels or annotations were changed")
    } else if desired.metadata.owner_references != found.metadata.owner_references {
        Some("its owners were changed")
    } else if found.metadata.deletion_timestamp.is_some() {
        Some("somebody deleted it")
    } else if found
        .metadata
        .finalizers
        .as_ref()
        .is_some_and(|finalizers| !finalizers.is_empty())
    {
        Some("somebody put a finalizer on it")
    } else {
        None
    }
}

/// Whether `found` is a binding of this grant, and so to be deleted with it: it has the name, and either was recorded when it was made (whatever became of
/// it since), or bears the grant's marks. Anything else is somebody else's and stays.
pub fn is_of_grant(uid: &GrantUid, recorded: &[BoundBinding], found: &RoleBinding) -> bool {
    let was_recorded = recorded.iter().any(|BoundBinding { namespace, name, uid }| {
        found.metadata.namespace == *namespace
            && found.metadata.name.as_ref() == Some(name)
            && found.metadata.uid.as_ref() == Some(uid)
    });
    found.metadata.name == Some(name(uid)) && (was_recorded || marked(found).as_ref() == Some(uid))
}

/// The grant whose marks a binding bears in full: the derived name, the label, and as its one owner an anchor's IPAddress, or the grant.
pub fn marked(found: &RoleBinding) -> Option<GrantUid> {
    let uid = GrantUid::new(found.metadata.labels.as_ref()?.get(marks::GRANT_UID)?);
    let [owner] = found.metadata.owner_references.as_deref()? else {
        return None;
    };
    let owned_by_grant = owner.uid == uid.to_string()
        && owner.kind == AccessGrant::kind(&())
        && owner.api_version == AccessGrant::api_version(&());
    let owned_by_anchor = owner.kind == "IPAddress" && owner.api_version == "networking.k8s.io/v1";
    (found.metadata.name == Some(name(&uid)) && (owned_by_grant || owned_by_anchor)).then_some(uid)
}

/// The name of the grant that is written on a binding. Somebody may have taken it off.
pub fn grant_name(found: &RoleBinding) -> Option<String> {
    found.metadata.annotations.as_ref()?.get(marks::GRANT).cloned()
}

/// What is to be done with a binding that bears our marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Its grant stands; look again at this moment.
    Keep {
        /// The deadline and a little.
        until: DateTime<Utc>,
    },
    /// No grant explains it (any more).
    Remove,
}

/// Whether a marked binding may live: only while its grant is there, is for its namespace or for the whole cluster as it is, has not ended, and is not past
/// its deadline. The grant's own timer comes first.
pub fn sweep(grant: Option<&AccessGrant>, found: &RoleBinding, now: DateTime<Utc>) -> Sweep {
    let is_there = |place: &Place| place.namespace() == found.metadata.namespace.as_deref();
    let Some(grant) = grant.filter(|grant| grant.spec.places().iter().any(is_there)) else {
        return Sweep::Remove;
    };
    let until = grant::deadline(grant) + SWEEP_DELAY;
    if grant::has_ended(grant) || until <= now {
        Sweep::Remove
    } else {
        Sweep::Keep { until }
    }
}

#[cfg(test)]
mod tests;
