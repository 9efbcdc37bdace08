//! Whether a request fits a policy: who asks, for what, where, for how long and why.

use regex::Regex;

use super::{Obstacle, is_break_glass};
use crate::api::{AccessPolicySpec, AccessRequestSpec, GoDuration, Namespaces, ReasonRule, Requester};
use crate::core::facts::{Home, NamespaceFacts};
use crate::core::identity;
use crate::core::request::targets::is_cluster_wide;

/// What a request asks for, with all defaults resolved but the duration.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The request's spec.
    pub spec: &'a AccessRequestSpec,
    /// Who asks.
    pub requester: &'a Requester,
    /// The namespaces that access is asked for.
    pub targets: &'a [NamespaceFacts],
}

/// Why a request doesn't fit a policy because of who asks, for what, or where. `None`: it does.
pub fn out_of_scope(policy: &AccessPolicySpec, ask: Ask<'_>) -> Option<Obstacle> {
    let Ask {
        spec,
        requester,
        targets,
    } = ask;
    if !identity::includes(&policy.requesters, requester) {
        return Some(Obstacle::new(
            "NotARequester",
            "its requesters don't include you; whoever runs the cluster can change that, or make a new request under another policy",
        ));
    }
    if !policy.roles.contains(&spec.role) {
        return Some(Obstacle::new(
            "RoleNotInPolicy",
            format!(
                "its roles don't include {}; make a new request for another role or under another policy",
                spec.role
            ),
        ));
    }
    if is_cluster_wide(spec) && !policy.cluster_wide {
        let message =
            "it gives nothing in the whole cluster; make a new request for namespaces, or under another policy";
        return Some(Obstacle::new("ClusterWideNotInPolicy", message));
    }
    let outside = targets.iter().find(|target| !offers_namespace(policy, target))?;
    Some(Obstacle::new(
        "NamespaceNotInPolicy",
        format!(
            "its namespaces don't include {:?}; make a new request for another namespace or under another policy",
            outside.name
        ),
    ))
}

/// Whether a policy lets a namespace in.
pub fn offers_namespace(policy: &AccessPolicySpec, namespace: &NamespaceFacts) -> bool {
    policy
        .namespaces
        .as_ref()
        .is_some_and(|Namespaces { names, selector }| {
            names.contains(&namespace.name)
                || selector
                    .as_ref()
                    .is_some_and(|selector| selector.selects(&namespace.labels))
        })
}

/// Why a request that is in a policy's scope can't be had as it is: its duration, its reason. `None`: it can.
pub fn out_of_bounds(policy: &AccessPolicySpec, spec: &AccessRequestSpec) -> Option<Obstacle> {
    duration(policy, spec)
        .err()
        .or_else(|| flaw_of_reason(&reason_rule(policy), spec.reason.as_deref()))
}

/// How long access will last: what the request says, or the policy's default; never more than the policy's maximum.
///
/// # Errors
/// The obstacle, when there is no such duration.
pub fn duration<'a>(policy: &'a AccessPolicySpec, spec: &'a AccessRequestSpec) -> Result<&'a GoDuration, Obstacle> {
    let Some(asked) = spec.duration.as_ref().or(policy.default_duration.as_ref()) else {
        return Err(Obstacle::new(
            "DurationMissing",
            format!(
                "the policy has no default duration; make a new request with a duration of at most {}",
                policy.max_duration
            ),
        ));
    };
    let parse = |duration: &GoDuration| {
        duration
            .parse()
            .map_err(|invalid| Obstacle::new("InvalidDuration", invalid.to_string()))
    };
    if parse(asked)? > parse(&policy.max_duration)? {
        return Err(Obstacle::new(
            "DurationTooLong",
            format!(
                "a duration of {asked} is longer than the policy allows; make a new request with at most {}",
                policy.max_duration
            ),
        ));
    }
    Ok(asked)
}

/// What a reason must be like. Whoever breaks the glass says why.
fn reason_rule(policy: &AccessPolicySpec) -> ReasonRule {
    let rule = policy.reason.clone().unwrap_or_default();
    ReasonRule {
        required: rule.required || policy.approval.as_ref().is_some_and(is_break_glass),
        ..rule
    }
}

fn flaw_of_reason(rule: &ReasonRule, reason: Option<&str>) -> Option<Obstacle> {
    let ReasonRule {
        required,
        pattern: _,
        hint,
    } = rule;
    let expected = hint
        .as_ref()
        .map(|hint| format!("; expected is {hint}"))
        .unwrap_or_default();
    let pattern = match pattern(rule) {
        Ok(pattern) => pattern,
        Err(flaw) => return Some(flaw),
    };
    let given = reason.map(str::trim).filter(|reason| !reason.is_empty());
    match (given, pattern) {
        (None, pattern) if *required || pattern.is_some() => Some(Obstacle::new(
            "ReasonMissing",
            format!("the policy requires a reason{expected}; make a new request with one"),
        )),
        (Some(given), Some(pattern)) if !pattern.is_match(given) => Some(Obstacle::new(
            "ReasonMismatch",
            format!(
                "the reason doesn't match the policy's pattern {:?}{expected}; make a new request",
                pattern.as_str()
            ),
        )),
        _ => None,
    }
}

/// A policy's pattern, compiled; matching takes linear time, and the compiled size is bounded by the library's default.
pub fn pattern(rule: &ReasonRule) -> Result<Option<Regex>, Obstacle> {
    rule.pattern.as_deref().map(Regex::new).transpose().map_err(|error| {
        let cause = error.to_string();
        let last = cause.lines().last().unwrap_or_default();
        Obstacle::new(
            "InvalidPattern",
            format!("reason.pattern is no regular expression: {last}"),
        )
    })
}

/// Why nobody is ever granted anything here, or this account anything anywhere. `None`: nothing protects it.
pub fn protected(home: &Home, requester: &Requester, targets: &[NamespaceFacts]) -> Option<Obstacle> {
    match identity::Account::of(&requester.username) {
        identity::Account::User(_) => {}
        identity::Account::System => {
            return Some(Obstacle::new(
                "ProtectedSubject",
                "access is never granted to Kubernetes' own accounts (system:…)",
            ));
        }
        identity::Account::ServiceAccount(account) if home.protects(&account.namespace) => {
            return Some(Obstacle::new(
                "ProtectedSubject",
                format!(
                    "access is never granted to service accounts of namespace {:?}",
                    account.namespace
                ),
            ));
        }
        identity::Account::ServiceAccount(_) => {}
    }
    targets.iter().find(|target| home.protects(&target.name)).map(|target| {
        Obstacle::new(
            "ProtectedNamespace",
            format!(
                "access is never granted in namespace {:?}: it belongs to Kubernetes or to Curfew itself",
                target.name
            ),
        )
    })
}

#[cfg(test)]
mod tests;
