//! Somebody else's MutatingAdmissionPolicies that change what Curfew's guards and its core rely on, after the stamp and before the check.
//!
//! Selectors and conditions are not evaluated: what might match counts. Only rules that name resources can exclude.

use serde_json::Value;

use super::{Found, GuardKind, Shipped};
use crate::core::facts::Brake;

/// What nobody else may mutate, by API group, with the version in which it is written.
const OURS: [(&str, &str, &[&str]); 2] = [
    (
        "curfew.dev",
        "v1alpha1",
        &[
            "accessrequests",
            "accessrequests/status",
            "accessgrants",
            "accessgrants/status",
            "accesspolicies",
            "accesspolicies/status",
        ],
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        &["rolebindings", "clusterrolebindings"],
    ),
];
/// The operations in which something can be mutated.
const OPERATIONS: [&str; 2] = ["CREATE", "UPDATE"];

/// One brake for each foreign policy that is bound and may match what is ours.
pub fn overtaken<'a>(shipped: &'a [Shipped], found: &'a [Found]) -> impl Iterator<Item = Brake> + 'a {
    let of_kind = |kind| found.iter().filter(move |found| found.mark.kind == kind);
    let is_ours = |policy: &Found| {
        shipped
            .iter()
            .any(|guard| guard.kind == policy.mark.kind && guard.name == policy.mark.name)
    };
    of_kind(GuardKind::MutatingAdmissionPolicy)
        .filter(move |policy| !is_ours(policy))
        .filter_map(move |policy| {
            let name = &policy.mark.name;
            let resource = of_kind(GuardKind::MutatingAdmissionPolicyBinding)
                .filter(|binding| part(&binding.spec, "policyName") == name.as_str())
                .find_map(|binding| {
                    let narrowed = part(&binding.spec, "matchResources");
                    mutated(part(&policy.spec, "matchConstraints"), narrowed)
                })?;
            Some(Brake {
                reason: "GuardOvertaken",
                message: format!(
                    "the MutatingAdmissionPolicy {name:?}, which is not Curfew's, may change {resource}; a cluster admin must exclude them there \
                     (excludeResourceRules) or remove it"
                ),
            })
        })
}

/// The first of our resources that a policy with these constraints, bound by a binding with these, may change.
fn mutated(constraints: &Value, narrowed: &Value) -> Option<String> {
    OURS.iter().find_map(|(group, version, resources)| {
        let hit = resources.iter().find(|resource| {
            OPERATIONS.iter().any(|operation| {
                let asked = Asked {
                    group,
                    version,
                    resource,
                    operation,
                };
                asked.is_matched(constraints) && asked.is_matched(narrowed)
            })
        })?;
        Some(format!("{hit} of {group}"))
    })
}

struct Asked<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
    operation: &'a str,
}

impl Asked<'_> {
    /// Constraints without rules match everything: so it is with a binding that narrows nothing.
    fn is_matched(&self, constraints: &Value) -> bool {
        let rules = |key: &str| part(constraints, key).as_array().into_iter().flatten();
        let mut included = rules("resourceRules").peekable();
        (included.peek().is_none() || included.any(|rule| self.may_be_in(rule)))
            && !rules("excludeResourceRules").any(|rule| self.is_surely_in(rule))
    }

    /// Whatever version a rule names, by `matchPolicy: Equivalent` it may mean ours too; and a resource name may be one of ours.
    fn may_be_in(&self, rule: &Value) -> bool {
        has(rule, "apiGroups", self.group) && has(rule, "operations", self.operation) && self.is_resource_of(rule)
    }

    fn is_surely_in(&self, rule: &Value) -> bool {
        let is_absent = |key: &str| part(rule, key).as_array().is_none_or(Vec::is_empty);
        self.may_be_in(rule)
            && has(rule, "apiVersions", self.version)
            && is_absent("resourceNames")
            && matches!(part(rule, "scope").as_str(), None | Some("*"))
    }

    /// `*` is every resource, `*/*` every subresource too, `a/*` those of one, `*/status` one of all.
    fn is_resource_of(&self, rule: &Value) -> bool {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        part(rule, "resources")
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .any(|named| {
                let (first, second) = named.split_once('/').unwrap_or((named, ""));
                (first == "*" || first == resource) && (second == "*" || second == subresource)
            })
    }
}

/// What isn't there is nothing.
fn part<'a>(value: &'a Value, key: &str) -> &'a Value {
    value.get(key).unwrap_or(&Value::Null)
}

fn has(rule: &Value, key: &str, wanted: &str) -> bool {
    part(rule, key)
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .any(|named| named == "*" || named == wanted)
}
