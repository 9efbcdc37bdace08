//! Where a request asks for access: in its own namespace, in those that it names, in those of its policy at the moment of the first offer, or in the whole
//! cluster.

use std::collections::BTreeSet;

use crate::api::{AccessPolicySpec, AccessRequest, AccessRequestSpec};
use crate::core::facts::{Home, NamespaceFacts};
use crate::core::policy;

/// So many there are at most, says the schema.
pub const MOST: usize = 32;

/// Where a request asks for access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// These, each once.
    Named(Vec<String>),
    /// All of the policy of that name.
    OfPolicy(String),
    /// The whole cluster.
    Cluster,
}

/// Where a request asks for access. The namespaces of a policy are fixed with the first offer, and known by name from then on.
pub fn asked(request: &AccessRequest) -> Asked {
    let spec = &request.spec;
    if is_cluster_wide(spec) {
        return Asked::Cluster;
    }
    if spec.namespaces_from_policy != Some(true) {
        let own = || request.metadata.namespace.clone().into_iter().collect();
        return Asked::Named(once(spec.namespaces.clone().unwrap_or_else(own)));
    }
    let fixed = request.status.iter().flat_map(|status| &status.targets);
    let fixed: Vec<_> = fixed.map(|target| target.namespace.clone()).collect();
    match &spec.policy {
        Some(policy) if fixed.is_empty() => Asked::OfPolicy(policy.clone()),
        Some(_) => Asked::Named(once(fixed)),
        // The schema demands a policy; without one it asks for nothing.
        None => Asked::Named(vec![]),
    }
}

/// Whether a request is for the whole cluster.
pub fn is_cluster_wide(spec: &AccessRequestSpec) -> bool {
    spec.cluster_wide == Some(true)
}

impl Asked {
    /// Whether this may be one of them.
    pub fn may_include(&self, namespace: &str) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|name| name == namespace),
            Self::OfPolicy(_) => true,
            // What becomes of a namespace changes nothing.
            Self::Cluster => false,
        }
    }

    /// Where a Role is looked for.
    pub fn first(&self) -> &str {
        match self {
            Self::Named(names) => names.first().map(String::as_str).unwrap_or_default(),
            Self::OfPolicy(_) | Self::Cluster => "",
        }
    }
}

/// A policy's namespaces, of all that there are: without those that are going and those in which nothing is ever granted, by name.
pub fn of_policy(
    policy: &AccessPolicySpec,
    home: &Home,
    all: impl IntoIterator<Item = NamespaceFacts>,
) -> Vec<NamespaceFacts> {
    let offered = all
        .into_iter()
        .filter(|namespace| policy::offers_namespace(policy, namespace));
    let mut found: Vec<_> = offered
        .filter(|namespace| !namespace.terminating && !home.protects(&namespace.name))
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn once(mut names: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}
