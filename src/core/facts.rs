//! What the core needs to know of other people's objects, and nothing more.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::api::RoleReference;

/// Where the operator itself lives, and what it therefore never touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The operator's own namespace.
    pub namespace: String,
}

impl Home {
    /// Whether nobody is ever granted anything in `namespace`, nor a service account that lives there anything anywhere: Kubernetes' own namespaces
    /// and the operator's. An admission policy confines the operator to the same.
    pub fn protects(&self, namespace: &str) -> bool {
        namespace.starts_with("kube-") || namespace == self.namespace
    }
}

/// A role that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleFacts {
    /// Its kind and name.
    pub reference: RoleReference,
    /// Its uid.
    pub uid: String,
    /// Its rules, in their order.
    pub rules: Vec<PolicyRule>,
}

/// A namespace that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// Why nothing may be granted now, although it was approved. It never delays an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brake {
    /// One CamelCase word, of the catalogue.
    pub reason: &'static str,
    /// One sentence: what is the case, and who can change it.
    pub message: String,
}
