//! What a policy means: what its fields say when they say nothing, whether it can be used at all, and whether a request fits it.
//!
//! Every flaw and every misfit is reported, not only the first: whoever repairs a policy wants to do it once.

use std::time::Duration;

use chrono::{DateTime, Utc};

pub use self::fit::{Ask, duration, offers_namespace, out_of_bounds, out_of_scope, protected};
pub use self::roles::{PolicyRole, RoleFinding, obstacles_of_asked_role};
use super::{approval, review};
use crate::api::condition::{self, Finding};
use crate::api::{
    AccessPolicy, AccessPolicySpec, AccessPolicyStatus, Approval, DeadMansSwitch, GoDuration, InvalidDuration, Limits,
    MOST_REVOKERS, Namespaces, Order, People, RoleKind, Stage,
};

mod chain;
mod fit;
mod roles;

/// So many stages there are at most, says the schema.
pub const MOST_STAGES: usize = 8;
/// How long a request may wait when its policy says nothing.
pub const DEFAULT_REQUEST_TTL: Duration = Duration::from_secs(24 * 3600);

/// How late a request with a start time may begin when its policy says nothing.
pub const DEFAULT_START_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Something that stands in the way: the reason of a condition and its sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// One CamelCase word.
    pub reason: &'static str,
    /// One sentence, and who could change it.
    pub message: String,
}

impl Obstacle {
    /// An obstacle.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Everything that keeps a policy from being used. Empty: it is Ready.
pub fn flaws(spec: &AccessPolicySpec, roles: &[PolicyRole]) -> Vec<Obstacle> {
    let mut flaws = flaws_of_scope(spec);
    flaws.extend(flaws_of_durations(spec));
    flaws.extend(chain::flaws(spec.approval.as_ref()));
    flaws.extend(flaw_of_people(spec));
    flaws.extend(spec.reason.as_ref().and_then(|rule| fit::pattern(rule).err()));
    flaws.extend(spec.limits.as_ref().and_then(flaw_of_limits));
    flaws.extend(review::flaw(spec));
    flaws.extend(roles.iter().flat_map(|role| roles::flaws(role, spec)));
    flaws
}

/// What a policy's status says of it. `wide`: whether the operator may bind in the whole cluster.
pub fn status(policy: &AccessPolicy, roles: &[PolicyRole], wide: bool, now: DateTime<Utc>) -> AccessPolicyStatus {
    let mut status = policy.status.clone().unwrap_or_default();
    let generation = policy.metadata.generation;
    let mut flaws = flaws(&policy.spec, roles);
    if policy.spec.cluster_wide && !wide {
        let message = "the operator may not create ClusterRoleBindings; a cluster admin can set clusterWide in the values of the Helm chart";
        flaws.push(Obstacle::new("ClusterWideNotGrantable", message));
    }
    let ready = match flaws.first() {
        None => Finding::yes(condition::READY, "Ready", "requests can be granted under this policy"),
        Some(first) => {
            let all: Vec<_> = flaws.iter().map(|flaw| flaw.message.as_str()).collect();
            Finding::no(condition::READY, first.reason, all.join("; "))
        }
    };
    for finding in [ready, roles::hazardous(roles)] {
        condition::set(&mut status.conditions, finding, generation, now);
    }
    status.observed_generation = generation;
    status
}

/// Whether access must end without the operator too: yes, unless the policy says otherwise.
pub fn dead_mans_switch(spec: &AccessPolicySpec) -> DeadMansSwitch {
    spec.dead_mans_switch.unwrap_or(DeadMansSwitch::Required)
}

fn flaws_of_scope(spec: &AccessPolicySpec) -> Vec<Obstacle> {
    let mut flaws = vec![];
    if spec.requesters.is_empty() {
        flaws.push(Obstacle::new(
            "NothingMatches",
            "requesters names nobody; add users, groups or serviceAccounts",
        ));
    }
    if spec.roles.is_empty() {
        flaws.push(Obstacle::new("NothingMatches", "roles names no role"));
    }
    match &spec.namespaces {
        None if spec.cluster_wide && spec.roles.iter().all(|role| role.kind == RoleKind::Role) => {
            flaws.push(Obstacle::new(
                "NothingMatches",
                "roles names Roles alone, which belong to a namespace, and there are no namespaces; add a ClusterRole, or namespaces",
            ));
        }
        None if spec.cluster_wide => {}
        None => flaws.push(Obstacle::new(
            "NothingMatches",
            "namespaces is missing; add names or a selector",
        )),
        Some(Namespaces { names, selector }) => match selector {
            Some(selector) if selector.is_empty() => {
                flaws.push(Obstacle::new("EmptySelector", "namespaces.selector says nothing, which selects nothing; add matchLabels or matchExpressions, or take it out"));
            }
            Some(selector) => flaws.extend(
                selector
                    .flaw()
                    .map(|flaw| Obstacle::new("InvalidSelector", format!("namespaces.selector: {flaw}"))),
            ),
            None if names.is_empty() => flaws.push(Obstacle::new(
                "NothingMatches",
                "namespaces is empty; add names or a selector",
            )),
            None => {}
        },
    }
    flaws
}

fn flaws_of_durations(spec: &AccessPolicySpec) -> Vec<Obstacle> {
    let parse = |field: &str, duration: &GoDuration| {
        duration
            .parse()
            .map_err(|invalid: InvalidDuration| Obstacle::new("InvalidDuration", format!("{field}: {invalid}")))
    };
    let mut flaws = vec![];
    let longest = parse("maxDuration", &spec.max_duration)
        .map_err(|flaw| flaws.push(flaw))
        .ok();
    for (field, duration) in [
        ("requestTTL", &spec.request_ttl),
        ("startTolerance", &spec.start_tolerance),
        ("retention", &spec.retention),
        ("maxTotalDuration", &spec.max_total_duration),
        (
            "review.within",
            &spec.review.as_ref().and_then(|review| review.within.clone()),
        ),
    ] {
        flaws.extend(duration.iter().filter_map(|duration| parse(field, duration).err()));
    }
    if let Some(default) = &spec.default_duration {
        match parse("defaultDuration", default) {
            Err(flaw) => flaws.push(flaw),
            Ok(length) if longest.is_some_and(|longest| length > longest) => flaws.push(Obstacle::new(
                "InvalidDuration",
                format!(
                    "defaultDuration {default} is longer than maxDuration {}",
                    spec.max_duration
                ),
            )),
            Ok(_) => {}
        }
    }
    flaws
}

/// Groups can't be too many.
fn flaw_of_people(spec: &AccessPolicySpec) -> Option<Obstacle> {
    let count = approval::all_revokers(spec).users.len();
    let message =
        format!("{count} users and service accounts may decide, and at most {MOST_REVOKERS} can; name groups");
    (count > MOST_REVOKERS).then(|| Obstacle::new("TooManyApprovers", message))
}

/// Whoever may ever approve in a stage: its approvers, and those it escalates to.
pub fn everybody(stage: &Stage) -> impl Iterator<Item = &People> {
    let Stage {
        name: _,
        approvers,
        required: _,
        timeout: _,
        escalate_to,
    } = stage;
    std::iter::once(approvers).chain(escalate_to)
}

/// The stages of a policy.
pub fn stages(spec: &AccessPolicySpec) -> &[Stage] {
    spec.approval.as_ref().map_or(&[], |approval| &approval.stages)
}

/// How many different people a stage requires.
pub fn required(stage: &Stage) -> i32 {
    stage.required.unwrap_or(1)
}

/// How long a stage may wait, if it says so.
pub fn timeout(stage: &Stage) -> Option<chrono::Duration> {
    chrono::Duration::from_std(stage.timeout.as_ref()?.parse().ok()?).ok()
}

/// How stages follow each other: one after the other, unless the policy says otherwise.
pub fn order(approval: &Approval) -> Order {
    approval.order.unwrap_or(Order::Sequential)
}

/// A misspelt field is pruned by the API server, and what is missing must never mean that there is no limit.
fn flaw_of_limits(limits: &Limits) -> Option<Obstacle> {
    let Limits {
        active_per_requester,
        pending_per_requester,
    } = limits;
    (active_per_requester.is_none() && pending_per_requester.is_none()).then(|| {
        Obstacle::new(
            "NothingLimited",
            "limits says nothing; add activePerRequester or pendingPerRequester, or take it out",
        )
    })
}

/// How long a request may wait for its decision.
pub fn request_ttl(policy: Option<&AccessPolicySpec>) -> Duration {
    policy
        .and_then(|policy| policy.request_ttl.as_ref())
        .and_then(|ttl| ttl.parse().ok())
        .unwrap_or(DEFAULT_REQUEST_TTL)
}

/// How late a request with a start time may begin.
pub fn start_tolerance(policy: Option<&AccessPolicySpec>) -> Duration {
    policy
        .and_then(|policy| policy.start_tolerance.as_ref())
        .and_then(|tolerance| tolerance.parse().ok())
        .unwrap_or(DEFAULT_START_TOLERANCE)
}

/// Whether a policy grants at once and without anybody's word: where that is written out, and nothing else.
pub fn is_break_glass(approval: &Approval) -> bool {
    let Approval {
        order: _,
        stages,
        break_glass,
    } = approval;
    stages.is_empty() && break_glass.is_some()
}

#[cfg(test)]
mod tests;
