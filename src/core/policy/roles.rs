//! Whether a role may be given away under a policy: that it is there, that the operator may bind it, and what its holder could make of it.

use super::Obstacle;
use crate::api::condition::{self, Finding};
use crate::api::{AccessPolicySpec, RoleKind, RoleReference};
use crate::core::facts::RoleFacts;
use crate::core::hazard::{self, Hazard};

/// What the operator found out about one role that a policy names.
#[derive(Clone, Debug, PartialEq)]
pub enum RoleFinding {
    /// A ClusterRole that exists.
    Found(RoleFacts),
    /// A ClusterRole that doesn't.
    Missing(RoleReference),
    /// A Role: which one is meant depends on the namespace, so it is looked at with each request.
    PerNamespace(RoleReference),
}

/// One role of a policy, and whether the operator may bind it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyRole {
    /// What was found.
    pub finding: RoleFinding,
    /// Whether the API server lets the operator bind it.
    pub bindable: bool,
}

/// What a policy's `Hazardous` condition says.
pub fn hazardous(roles: &[PolicyRole]) -> Finding {
    let hazards = hazards(roles).into_iter().map(|(role, hazards)| {
        let names: Vec<_> = hazards.into_iter().map(Hazard::name).collect();
        format!("{role}: {}", names.join(", "))
    });
    let hazards: Vec<_> = hazards.collect();
    if hazards.is_empty() {
        return Finding::no(
            condition::HAZARDOUS,
            "NothingFound",
            "no role of this policy is known to allow more than its rules show at first sight",
        );
    }
    Finding::yes(condition::HAZARDOUS, "RolesAllowMore", hazards.join("; "))
}

fn hazards(roles: &[PolicyRole]) -> Vec<(&RoleReference, Vec<Hazard>)> {
    roles
        .iter()
        .filter_map(|PolicyRole { finding, bindable: _ }| match finding {
            RoleFinding::Found(RoleFacts {
                reference,
                uid: _,
                rules,
            }) => Some((reference, hazard::hazards(rules).into_iter().collect::<Vec<_>>())),
            RoleFinding::Missing(_) | RoleFinding::PerNamespace(_) => None,
        })
        .filter(|(_, hazards)| !hazards.is_empty())
        .collect()
}

/// What keeps a role that a policy names from being given away under it, as far as is known before anybody asks.
pub fn flaws(role: &PolicyRole, spec: &AccessPolicySpec) -> Vec<Obstacle> {
    let PolicyRole { finding, bindable } = role;
    let (reference, mut flaws) = match finding {
        RoleFinding::Missing(reference) => return vec![missing_role(reference)],
        RoleFinding::PerNamespace(reference) => (reference, vec![]),
        RoleFinding::Found(facts) => (&facts.reference, obstacles_of_role(facts, spec)),
    };
    if !bindable {
        flaws.push(Obstacle::new(
            "RoleNotGrantable",
            format!(
                "the operator may not bind {reference}; a cluster admin can add it to grantableRoles of the Helm chart"
            ),
        ));
    }
    flaws
}

fn missing_role(reference: &RoleReference) -> Obstacle {
    Obstacle::new(
        "RoleMissing",
        format!("{reference} doesn't exist; whoever looks after roles can create it"),
    )
}

/// What keeps a role from being given to anybody under a policy, whatever the request.
fn obstacles_of_role(role: &RoleFacts, policy: &AccessPolicySpec) -> Vec<Obstacle> {
    let RoleFacts {
        reference,
        uid: _,
        rules,
    } = role;
    if rules.is_empty() {
        return vec![Obstacle::new(
            "RoleEmpty",
            format!(
                "{reference} has no rules; it would give access later, when somebody adds some. Whoever looks after roles can give it rules"
            ),
        )];
    }
    let hazards = hazard::hazards(rules).into_iter();
    let mut planting: Vec<_> = hazards
        // The whole cluster has every service account, Kubernetes' own among them, and every secret.
        .filter(|hazard| policy.cluster_wide || hazard.plants_access())
        .map(Hazard::name)
        .collect();
    // And all that Kubernetes and Curfew need for ending anything: leases, priorities, addresses.
    if policy.cluster_wide && planting.is_empty() && !hazard::only_reads(rules) {
        planting.push("it does more than read");
    }
    if planting.is_empty() || policy.allow_persistence {
        return vec![];
    }
    vec![Obstacle::new(
        "RolePlantsAccess",
        format!(
            "with {reference}{} a holder can plant access that no deadline ends ({}); take another role, or write allowPersistence: true",
            if policy.cluster_wide {
                " in the whole cluster"
            } else {
                ""
            },
            planting.join(", ")
        ),
    )]
}

/// What is wrong with a request's role in its target namespaces.
pub fn obstacles_of_asked_role(
    policy: &AccessPolicySpec,
    role: Option<&RoleFacts>,
    asked: &RoleReference,
    namespace: &str,
) -> Vec<Obstacle> {
    match role {
        Some(role) => obstacles_of_role(role, policy),
        None => vec![match asked.kind {
            RoleKind::ClusterRole => missing_role(asked),
            RoleKind::Role => Obstacle::new(
                "RoleMissing",
                format!(
                    "{asked} doesn't exist in namespace {namespace:?}; whoever looks after roles there can create it"
                ),
            ),
        }],
    }
}
