//! What a policy means: whether it can be used at all, and whether a request fits it.
//!
//! Every flaw and every misfit is reported, not only the first: whoever repairs a policy wants to do it once.

use std::time::Duration;

use chrono::{DateTime, Utc};
use regex::Regex;

use super::facts::{Home, NamespaceFacts, RoleFacts};
use super::hazard::{self, Hazard};
use super::identity;
use super::request::targets::is_cluster_wide;
use super::review;
use crate::api::condition::{self, Finding};
use crate::api::{
    AccessPolicy, AccessPolicySpec, AccessPolicyStatus, AccessRequestSpec, Approval, DeadMansSwitch, GoDuration,
    InvalidDuration, Limits, Namespaces, Order, People, ReasonRule, Requester, RoleKind, RoleReference, Stage,
};

/// So many approvals a request has room for, says the admission policy `curfew-decisions`: the rest is kept for denials and revocations.
const MOST_APPROVALS: i64 = 48;
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

/// Everything that keeps a policy from being used. Empty: it is Ready.
pub fn flaws(spec: &AccessPolicySpec, roles: &[PolicyRole]) -> Vec<Obstacle> {
    let mut flaws = flaws_of_scope(spec);
    flaws.extend(flaws_of_durations(spec));
    flaws.extend(flaws_of_approval(spec.approval.as_ref()));
    flaws.extend(spec.reason.as_ref().and_then(|rule| pattern(rule).err()));
    flaws.extend(spec.limits.as_ref().and_then(flaw_of_limits));
    flaws.extend(review::flaw(spec));
    flaws.extend(roles.iter().flat_map(|role| flaws_of_role(role, spec)));
    flaws
}

/// The hazards of all roles that a policy names, for its `Hazardous` condition.
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
    let hazards: Vec<_> = hazards(roles)
        .into_iter()
        .map(|(role, hazards)| {
            format!(
                "{role}: {}",
                hazards.into_iter().map(Hazard::name).collect::<Vec<_>>().join(", ")
            )
        })
        .collect();
    let hazardous = match hazards.is_empty() {
        true => Finding::no(
            condition::HAZARDOUS,
            "NothingFound",
            "no role of this policy is known to allow more than its rules show at first sight",
        ),
        false => Finding::yes(condition::HAZARDOUS, "RolesAllowMore", hazards.join("; ")),
    };
    for finding in [ready, hazardous] {
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

fn flaws_of_approval(approval: Option<&Approval>) -> Vec<Obstacle> {
    let missing = || {
        vec![Obstacle::new(
            "ApprovalMissing",
            "approval names no stages, and what is missing never means granted; add approval.stages with approvers",
        )]
    };
    let Some(Approval {
        order: _,
        stages,
        break_glass,
    }) = approval
    else {
        return missing();
    };
    match (stages.is_empty(), break_glass) {
        (true, None) => missing(),
        (false, Some(_)) => vec![Obstacle::new(
            "ApprovalAmbiguous",
            "approval has both stages and breakGlass; keep one of the two",
        )],
        (true, Some(_)) => vec![],
        (false, None) => flaws_of_chain(stages),
    }
}

fn flaws_of_chain(stages: &[Stage]) -> Vec<Obstacle> {
    let mut flaws: Vec<_> = stages.iter().filter_map(flaw_of_stage).collect();
    let mut names: Vec<_> = stages.iter().map(|stage| &stage.name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair.first() == pair.last()) {
        let name = twice.first().map(|name| name.as_str()).unwrap_or_default();
        flaws.push(Obstacle::new(
            "StageNamedTwice",
            format!("two stages are named {name:?}; a word must say which stage it was spoken in, so give each a name of its own"),
        ));
    }
    if flaws.is_empty() {
        flaws.extend(too_many(stages).or_else(|| never_met(stages)));
    }
    flaws
}

/// Why a chain can never be met: a request can't hold so many approvals.
fn too_many(stages: &[Stage]) -> Option<Obstacle> {
    let required: i64 = stages.iter().map(|stage| i64::from(required(stage))).sum();
    (required > MOST_APPROVALS).then(|| {
        let message =
            format!("the stages require {required} approvals together, and a request has room for {MOST_APPROVALS}");
        Obstacle::new("NeverMet", message)
    })
}

/// Why a chain can never be met: it requires more different people than it names, and no group that could have more.
fn never_met(stages: &[Stage]) -> Option<Obstacle> {
    // Whoever is in a group counts as one of as many as are needed.
    let names_no_group = |stage: &&Stage| everybody(stage).all(|people| people.groups.is_empty());
    let closed: Vec<&Stage> = stages.iter().filter(names_no_group).collect();
    let sets = (1_u64..1 << closed.len().min(MOST_STAGES)).map(|choice| {
        let chosen = closed
            .iter()
            .enumerate()
            .filter(move |(place, _)| choice & (1 << place) != 0);
        chosen.map(|(_, stage)| *stage).collect::<Vec<_>>()
    });
    // As many people as are required for each set of stages: then all can be met at once (Hall's theorem). The smallest set that fails says most.
    let mut failing: Vec<_> = sets
        .filter_map(|stages| {
            let required: i64 = stages.iter().map(|stage| i64::from(required(stage))).sum();
            let people = stages.iter().flat_map(|stage| everybody(stage));
            let mut people: Vec<_> = people.flat_map(People::usernames).collect();
            people.sort_unstable();
            people.dedup();
            let named = i64::try_from(people.len()).unwrap_or(i64::MAX);
            (named < required).then_some((stages, required, named))
        })
        .collect();
    failing.sort_by_key(|(stages, _, _)| stages.len());
    let (stages, required, named) = failing.into_iter().next()?;
    let names: Vec<_> = stages.iter().map(|stage| format!("{:?}", stage.name)).collect();
    let which = match names.as_slice() {
        [name] => format!("stage {name} requires {required} approvals and names"),
        several => format!(
            "stages {} require {required} different people and name",
            several.join(" and ")
        ),
    };
    Some(Obstacle::new(
        "NeverMet",
        format!("{which} {named} people and no group; one person counts once in the whole chain"),
    ))
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

fn flaw_of_stage(stage: &Stage) -> Option<Obstacle> {
    let Stage {
        name,
        approvers,
        required: _,
        timeout,
        escalate_to,
    } = stage;
    let required = required(stage);
    if approvers.is_empty() {
        return Some(Obstacle::new(
            "NobodyApproves",
            format!("stage {name:?} names no approvers"),
        ));
    }
    if required < 1 {
        return Some(Obstacle::new(
            "NobodyApproves",
            format!("stage {name:?} requires {required} approvals; at least 1 is needed"),
        ));
    }
    if let Some(invalid) = timeout.as_ref().and_then(|timeout| timeout.parse().err()) {
        return Some(Obstacle::new(
            "InvalidDuration",
            format!("timeout of stage {name:?}: {invalid}"),
        ));
    }
    match (escalate_to, timeout) {
        (Some(people), _) if people.is_empty() => Some(Obstacle::new(
            "NobodyApproves",
            format!(
                "stage {name:?} escalates to nobody; add users, groups or serviceAccounts to escalateTo, or take it out"
            ),
        )),
        (Some(_), None) => Some(Obstacle::new(
            "TimeoutMissing",
            format!("stage {name:?} says whom it escalates to and not when; add a timeout"),
        )),
        (Some(_), Some(_)) | (None, _) => None,
    }
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

fn flaws_of_role(role: &PolicyRole, spec: &AccessPolicySpec) -> Vec<Obstacle> {
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

/// What a reason must be like. Whoever breaks the glass says why.
fn reason_rule(policy: &AccessPolicySpec) -> ReasonRule {
    let rule = policy.reason.clone().unwrap_or_default();
    ReasonRule {
        required: rule.required || policy.approval.as_ref().is_some_and(is_break_glass),
        ..rule
    }
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
fn pattern(rule: &ReasonRule) -> Result<Option<Regex>, Obstacle> {
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

#[cfg(test)]
mod tests;
