//! The kinds of objects that the API server in memory knows: those that Curfew reads or writes, and no others.

use super::Key;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Namespace,
    Service,
    Job,
    IpAddress,
    Lease,
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
    AccessPolicy,
    AccessRequest,
    AccessGrant,
    ValidatingPolicy,
    ValidatingBinding,
    MutatingPolicy,
    MutatingBinding,
    Definition,
    Event,
}

/// What there is to know of a kind.
pub struct Facts {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub name: &'static str,
    pub namespaced: bool,
    /// Whether its status is written apart from the rest.
    pub has_status: bool,
    /// Whether `metadata.generation` counts the changes of its spec.
    pub counts: bool,
}

const GUARDS: &str = "admissionregistration.k8s.io";
const CURFEW: &str = "curfew.dev";
const RBAC: &str = "rbac.authorization.k8s.io";

impl Kind {
    pub const ALL: [Self; 18] = [
        Self::Namespace,
        Self::Service,
        Self::Job,
        Self::IpAddress,
        Self::Lease,
        Self::Role,
        Self::ClusterRole,
        Self::RoleBinding,
        Self::ClusterRoleBinding,
        Self::AccessPolicy,
        Self::AccessRequest,
        Self::AccessGrant,
        Self::ValidatingPolicy,
        Self::ValidatingBinding,
        Self::MutatingPolicy,
        Self::MutatingBinding,
        Self::Definition,
        Self::Event,
    ];

    pub fn facts(self) -> Facts {
        let cluster = |group, version, plural, name| Facts {
            group,
            version,
            plural,
            name,
            namespaced: false,
            has_status: false,
            counts: false,
        };
        let namespaced = |group, version, plural, name| Facts {
            namespaced: true,
            ..cluster(group, version, plural, name)
        };
        let custom = |facts| Facts {
            has_status: true,
            counts: true,
            ..facts
        };
        let guard = |plural, name| Facts {
            counts: true,
            ..cluster(GUARDS, "v1", plural, name)
        };
        match self {
            Self::Namespace => cluster("", "v1", "namespaces", "Namespace"),
            Self::Service => namespaced("", "v1", "services", "Service"),
            Self::Job => custom(namespaced("batch", "v1", "jobs", "Job")),
            Self::IpAddress => cluster("networking.k8s.io", "v1", "ipaddresses", "IPAddress"),
            Self::Lease => namespaced("coordination.k8s.io", "v1", "leases", "Lease"),
            Self::Role => namespaced(RBAC, "v1", "roles", "Role"),
            Self::ClusterRole => cluster(RBAC, "v1", "clusterroles", "ClusterRole"),
            Self::RoleBinding => namespaced(RBAC, "v1", "rolebindings", "RoleBinding"),
            Self::ClusterRoleBinding => cluster(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding"),
            Self::AccessPolicy => custom(cluster(CURFEW, "v1alpha1", "accesspolicies", "AccessPolicy")),
            Self::AccessRequest => custom(namespaced(CURFEW, "v1alpha1", "accessrequests", "AccessRequest")),
            Self::AccessGrant => custom(cluster(CURFEW, "v1alpha1", "accessgrants", "AccessGrant")),
            Self::ValidatingPolicy => guard("validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
            Self::ValidatingBinding => guard("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"),
            Self::MutatingPolicy => guard("mutatingadmissionpolicies", "MutatingAdmissionPolicy"),
            Self::MutatingBinding => guard("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding"),
            Self::Definition => custom(cluster(
                "apiextensions.k8s.io",
                "v1",
                "customresourcedefinitions",
                "CustomResourceDefinition",
            )),
            Self::Event => namespaced("events.k8s.io", "v1", "events", "Event"),
        }
    }

    /// Whether it gives a role to somebody.
    pub fn is_binding(self) -> bool {
        matches!(self, Self::RoleBinding | Self::ClusterRoleBinding)
    }

    /// What defines it, of one that isn't Kubernetes' own.
    pub fn definition(self) -> Option<Key> {
        let Facts { group, plural, .. } = self.facts();
        (group == CURFEW).then(|| Key::new(Self::Definition, "", &format!("{plural}.{group}")))
    }

    /// The kind that a path names.
    pub fn named(group: &str, version: &str, plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            let facts = kind.facts();
            (facts.group, facts.version, facts.plural) == (group, version, plural)
        })
    }

    /// The kind with this `kind` field.
    pub fn called(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.facts().name == name)
    }

    pub fn api_version(self) -> String {
        let Facts { group, version, .. } = self.facts();
        if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        }
    }
}
