//! The state machine of a request: from what was asked and said to an offer, a grant, an end.
//!
//! [`decide`] is total: whatever a user wrote is answered by a status. It reads its own earlier status only for what may veto (the seal, an end) or is a
//! choice made once (policy and targets, first-seen times), never as a permission.

use chrono::{DateTime, Utc};

use super::approval::{self, Effect, Outcome, Rules, Weighing};
use super::facts::{Home, NamespaceFacts, RoleFacts};
use super::identity::Account;
use super::policy::{self, Ask, Obstacle};
use super::{grant, hazard, offer};
use crate::api::condition::{self, Finding};
use crate::api::{
    AccessGrant, AccessGrantSpec, AccessPolicy, AccessRequest, AccessRequestSpec, AccessRequestStatus, DecisionEffect, DecisionOutcome, EndReason, GrantPhase,
    GrantedPolicy, GrantedRole, Offer, OnChange, OpenStage, PolicyReference, RequestPhase, RequestReference, Requester, Revokers, RoleReference, Seal, Target,
    Timeline, time,
};

/// All that the fate of a request depends on, as it was read a moment ago.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The request.
    pub request: AccessRequest,
    /// All policies.
    pub policies: Vec<AccessPolicy>,
    /// The role that is asked for, if it exists.
    pub role: Option<RoleFacts>,
    /// The namespaces that are asked for, in order, as far as they exist.
    pub targets: Vec<NamespaceFacts>,
    /// The grant that this request led to, if there is one.
    pub grant: Option<AccessGrant>,
    /// Whether a binding of a grant that is gone is still there.
    pub left_behind: bool,
    /// Where the operator lives.
    pub home: Home,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Nothing, ever: it has ended.
    Rest,
    /// Write this status, if it is another, and look again at `wake`, if nothing happens before.
    Publish {
        /// The status.
        status: Box<AccessRequestStatus>,
        /// When to look again.
        wake: Option<DateTime<Utc>>,
    },
    /// Create this grant, then decide again with it: that seals the request.
    Grant(Box<AccessGrantSpec>),
}

/// The namespaces that a request asks for: its own when it names none.
pub fn target_names(request: &AccessRequest) -> Vec<String> {
    let own = || request.metadata.namespace.clone().into_iter().collect();
    request.spec.namespaces.clone().unwrap_or_else(own)
}

/// What is to be done with a request.
pub fn decide(observed: &Observed, now: DateTime<Utc>) -> Plan {
    let draft = Draft::new(&observed.request, now);
    if draft.status.phase.is_some_and(RequestPhase::is_final) {
        return Plan::Rest;
    }
    match &draft.status.seal {
        Some(seal) => {
            let grant = observed.grant.as_ref().filter(|grant| grant.metadata.uid.as_ref() == Some(&seal.uid));
            follow(draft, grant, observed.left_behind)
        }
        None => undecided(draft, observed, now),
    }
}

/// What stands between a request and an offer, or the offer.
enum Assessment<'a> {
    /// It can't be offered any more.
    Over { reason: &'static str, message: String },
    /// It can't be offered now.
    Blocked { policy: Option<&'a AccessPolicy>, obstacle: Obstacle },
    /// It can be decided.
    Offered(Box<Offered<'a>>),
}

/// An offer and all that it rests on.
struct Offered<'a> {
    policy: &'a AccessPolicy,
    requester: &'a Requester,
    role: &'a RoleFacts,
    offer: Offer,
}

fn undecided(draft: Draft<'_>, observed: &Observed, now: DateTime<Utc>) -> Plan {
    let assessment = assess(observed);
    let policy = match &assessment {
        Assessment::Over { .. } => None,
        Assessment::Blocked { policy, .. } => *policy,
        Assessment::Offered(offered) => Some(offered.policy),
    };
    let revokers = policy.map(|policy| approval::revokers(&policy.spec)).or_else(|| draft.status.revokers.clone()).unwrap_or_default();
    let weighing = weigh(&assessment, observed, &revokers);
    let draft = draft.with_words(&weighing.effects);
    match &weighing.outcome {
        Outcome::Denied { by } => return draft.ended_by_word(RequestPhase::Denied, *by),
        Outcome::Revoked { by, by_requester: true } => return draft.ended_by_word(RequestPhase::Withdrawn, *by),
        Outcome::Revoked { by, by_requester: false } => return draft.ended_by_word(RequestPhase::Revoked, *by),
        Outcome::Waiting { .. } | Outcome::Approved { .. } => {}
    }
    if observed.request.metadata.deletion_timestamp.is_some() {
        return draft.ended(RequestPhase::Withdrawn, "RequestDeleted", "the request is being deleted");
    }
    let ttl_ends = expiry(&observed.request, policy);
    if ttl_ends <= now {
        return draft.ended(RequestPhase::Expired, "NotDecided", format!("nobody decided it before {}", time::written(ttl_ends)));
    }
    match (assessment, weighing.outcome, &observed.grant) {
        (Assessment::Over { reason, message }, _, _) => draft.ended(RequestPhase::Failed, reason, message),
        (Assessment::Offered(offered), Outcome::Approved { .. }, Some(grant)) if takes_effect(grant, &offered, now) => draft.sealed(grant, &offered),
        (_, _, Some(_)) => draft.ended(RequestPhase::Failed, "ChangedWhileGranting", "what was approved changed while it was being granted; make a new request"),
        (Assessment::Offered(offered), Outcome::Approved { by }, None) => Plan::Grant(Box::new(grant_spec(observed, &offered, &by, revokers))),
        (Assessment::Offered(offered), outcome, None) => draft.offered(&offered, &outcome, revokers, observed, ttl_ends),
        (Assessment::Blocked { policy: _, obstacle }, _, None) => draft.blocked(obstacle, revokers, ttl_ends),
    }
}

/// The moment at which an undecided request ends.
fn expiry(request: &AccessRequest, policy: Option<&AccessPolicy>) -> DateTime<Utc> {
    let ttl = chrono::Duration::from_std(policy::request_ttl(policy.map(|policy| &policy.spec))).unwrap_or(chrono::Duration::zero());
    let created = request.metadata.creation_timestamp.as_ref().and_then(time::from_kubernetes);
    created.and_then(|created| created.checked_add_signed(ttl)).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

fn weigh(assessment: &Assessment<'_>, observed: &Observed, revokers: &Revokers) -> Weighing {
    let (policy, offer) = match assessment {
        Assessment::Offered(offered) => (Some(offered.policy), Some(offered.offer.digest.as_str())),
        Assessment::Blocked { policy, obstacle: _ } => (*policy, None),
        Assessment::Over { .. } => (None, None),
    };
    let nobody = crate::api::Stage::default();
    let rules = Rules {
        requester: observed.request.spec.requester.as_ref().map(|requester| requester.username.as_str()).unwrap_or_default(),
        stage: policy.and_then(|policy| policy::stage(&policy.spec)).unwrap_or(&nobody),
        revokers,
        offer,
        require_code: policy.is_some_and(|policy| policy.spec.require_code),
        require_direct: policy.is_some_and(|policy| policy.spec.require_direct),
    };
    approval::weigh(rules, &observed.request.spec.decisions)
}

fn takes_effect(grant: &AccessGrant, offered: &Offered<'_>, now: DateTime<Utc>) -> bool {
    grant.spec.offer == offered.offer.digest && grant::due(grant, now).is_none()
}

// ---- from a request to an offer ------------------------------------------------------------------------------------

fn assess(observed: &Observed) -> Assessment<'_> {
    let Observed { request, policies, role, targets, grant: _, left_behind: _, home } = observed;
    let blocked = |policy, obstacle| Assessment::Blocked { policy, obstacle };
    let Some(requester) = &request.spec.requester else {
        return blocked(None, Obstacle::new("RequesterMissing", "nobody's name stands on it; the API server's stamp is missing: ask the cluster's admins"));
    };
    let first = unsupported(&request.spec).or_else(|| missing_target(request, targets)).or_else(|| policy::protected(home, requester, targets));
    if let Some(obstacle) = first {
        return blocked(None, obstacle);
    }
    let frozen = request.status.as_ref().map(|status| (status.policy.as_ref(), status.targets.as_slice()));
    if let Some((Some(_), frozen)) = frozen
        && let Some((_, target)) = frozen.iter().zip(targets).find(|(before, now)| before.uid != now.uid)
    {
        return Assessment::Over { reason: "TargetGone", message: format!("the namespace {:?} was replaced by another of the same name; make a new request", target.name) };
    }
    let ask = Ask { spec: &request.spec, requester, targets };
    let policy = match choose(policies, frozen.and_then(|(policy, _)| policy), ask) {
        Ok(policy) => policy,
        Err(Choice::Over(message)) => return Assessment::Over { reason: "PolicyGone", message },
        Err(Choice::Blocked(obstacle)) => return blocked(None, obstacle),
    };
    let usable = not_ready(policy)
        .or_else(|| policy::out_of_scope(&policy.spec, ask).map(|obstacle| about(policy, obstacle)))
        .or_else(|| policy::out_of_bounds(&policy.spec, &request.spec));
    if let Some(obstacle) = usable {
        return blocked(Some(policy), obstacle);
    }
    let namespace = targets.first().map(|target| target.name.as_str()).unwrap_or_default();
    if let Some(obstacle) = policy::obstacles_of_asked_role(&policy.spec, role.as_ref(), &request.spec.role, namespace).into_iter().next() {
        return blocked(Some(policy), obstacle);
    }
    match (role, policy::duration(&policy.spec, &request.spec), policy::stage(&policy.spec)) {
        (Some(role), Ok(duration), Some(_)) => {
            let offer = make_offer(request, policy, role, targets, duration.clone());
            Assessment::Offered(Box::new(Offered { policy, requester, role, offer }))
        }
        _ => blocked(Some(policy), Obstacle::new("PolicyNotReady", format!("the policy {:?} can't be used", name_of(policy)))),
    }
}

fn make_offer(request: &AccessRequest, policy: &AccessPolicy, role: &RoleFacts, targets: &[NamespaceFacts], duration: crate::api::GoDuration) -> Offer {
    let digest = offer::digest(offer::Terms {
        request: (request.metadata.uid.as_deref().unwrap_or_default(), &request.spec),
        policy: (policy.metadata.uid.as_deref().unwrap_or_default(), &policy.spec),
        role,
        targets,
    });
    Offer {
        code: offer::code(&digest),
        digest,
        duration,
        require_code: policy.spec.require_code,
        require_direct: policy.spec.require_direct,
        hazards: hazard::hazards(&role.rules).into_iter().map(|hazard| hazard.name().to_owned()).collect(),
    }
}

/// What is declared in the API and not there yet. The struct is taken apart in full: a field that nobody thought of doesn't compile.
fn unsupported(spec: &AccessRequestSpec) -> Option<Obstacle> {
    let AccessRequestSpec { policy: _, role: _, namespaces, cluster_wide, duration: _, start_time, extends, reason: _, requester: _, decisions: _ } = spec;
    let what = [
        (namespaces.as_ref().is_some_and(|names| names.len() > 1), "more than one namespace"),
        (*cluster_wide == Some(true), "clusterWide"),
        (start_time.is_some(), "startTime"),
        (extends.is_some(), "extends"),
    ];
    let (_, what) = what.into_iter().find(|(set, _)| *set)?;
    Some(Obstacle::new("NotYetSupported", format!("this version doesn't support {what} yet; make a new request without it")))
}

fn missing_target(request: &AccessRequest, targets: &[NamespaceFacts]) -> Option<Obstacle> {
    let names = target_names(request);
    if let Some(name) = names.iter().find(|name| !targets.iter().any(|target| target.name == **name)) {
        return Some(Obstacle::new("NamespaceMissing", format!("the namespace {name:?} doesn't exist")));
    }
    let terminating = targets.iter().find(|target| target.terminating)?;
    Some(Obstacle::new("NamespaceTerminating", format!("the namespace {:?} is being deleted", terminating.name)))
}

enum Choice {
    Over(String),
    Blocked(Obstacle),
}

/// The policy that a request is under: the one chosen before, the one it names, or the only one that fits.
fn choose<'a>(policies: &'a [AccessPolicy], frozen: Option<&PolicyReference>, ask: Ask<'_>) -> Result<&'a AccessPolicy, Choice> {
    if let Some(PolicyReference { name, uid }) = frozen {
        let same = policies.iter().find(|policy| policy.metadata.uid.as_ref() == Some(uid));
        return same.ok_or_else(|| Choice::Over(format!("the policy {name:?} was deleted; make a new request")));
    }
    if let Some(name) = &ask.spec.policy {
        let named = policies.iter().find(|policy| policy.metadata.name.as_ref() == Some(name));
        return named.ok_or_else(|| Choice::Blocked(Obstacle::new("PolicyNotFound", format!("there is no AccessPolicy {name:?}; kubectl get accesspolicies shows those that there are"))));
    }
    choose_unnamed(policies, ask).map_err(Choice::Blocked)
}

fn choose_unnamed<'a>(policies: &'a [AccessPolicy], ask: Ask<'_>) -> Result<&'a AccessPolicy, Obstacle> {
    // Access without approval is never chosen for somebody who didn't ask for it by name.
    let in_scope: Vec<_> = policies
        .iter()
        .filter(|policy| policy.spec.approval.as_ref().is_none_or(|approval| approval.break_glass.is_none()))
        .filter(|policy| policy::out_of_scope(&policy.spec, ask).is_none())
        .collect();
    let fitting: Vec<_> = in_scope.iter().copied().filter(|policy| policy::out_of_bounds(&policy.spec, ask.spec).is_none()).collect();
    match (fitting.as_slice(), in_scope.as_slice()) {
        ([policy], _) | ([], [policy]) => Ok(policy),
        ([], []) => Err(Obstacle::new(
            "NoPolicyFits",
            format!("no AccessPolicy lets you ask for {} there; whoever runs the cluster can add one", ask.spec.role),
        )),
        ([], several) | (several, _) => {
            let mut names: Vec<_> = several.iter().map(|policy| format!("{:?}", name_of(policy))).collect();
            names.sort_unstable();
            Err(Obstacle::new("SeveralPoliciesFit", format!("more than one AccessPolicy fits ({}); make a new request that names one in spec.policy", names.join(", "))))
        }
    }
}

/// A policy may be used only while its Ready condition says so of its present generation. That condition vetoes; what it rests on is checked here again.
fn not_ready(policy: &AccessPolicy) -> Option<Obstacle> {
    let name = name_of(policy);
    let conditions = policy.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match condition::get(conditions, condition::READY) {
        Some(ready) if ready.observed_generation != policy.metadata.generation => Some(Obstacle::new("PolicyNotReady", format!("the policy {name:?} is being checked"))),
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(Obstacle::new("PolicyNotReady", format!("the policy {name:?} is not Ready: {}", ready.message))),
        None => Some(Obstacle::new("PolicyNotReady", format!("the policy {name:?} is being checked"))),
    }
}

fn about(policy: &AccessPolicy, obstacle: Obstacle) -> Obstacle {
    Obstacle { message: format!("the policy {:?} doesn't fit: {}", name_of(policy), obstacle.message), ..obstacle }
}

fn name_of(policy: &AccessPolicy) -> &str {
    policy.metadata.name.as_deref().unwrap_or_default()
}

// ---- from an approval to a grant -----------------------------------------------------------------------------------

fn grant_spec(observed: &Observed, offered: &Offered<'_>, by: &[usize], revokers: Revokers) -> AccessGrantSpec {
    let request = &observed.request;
    let Offered { policy, requester, role, offer } = offered;
    let RoleReference { kind, name } = &role.reference;
    AccessGrantSpec {
        request: RequestReference {
            namespace: request.metadata.namespace.clone().unwrap_or_default(),
            name: request.metadata.name.clone().unwrap_or_default(),
            uid: request.metadata.uid.clone().unwrap_or_default(),
        },
        requester: (*requester).clone(),
        // A requester that can't be a subject was refused before there was an offer; the operator's bounds would refuse a nameless one.
        subject: Account::of(&requester.username).subject().unwrap_or(crate::api::GrantedSubject { kind: "User".into(), name: String::new(), namespace: None }),
        role: GrantedRole {
            kind: *kind,
            name: name.clone(),
            uid: role.uid.clone(),
            rules_digest: offer::rules_digest(&role.rules),
            on_change: policy.spec.on_role_change.unwrap_or(OnChange::Revoke),
        },
        targets: observed.targets.iter().map(offer::target).collect(),
        duration: offer.duration.clone(),
        policy: GrantedPolicy {
            name: name_of(policy).to_owned(),
            uid: policy.metadata.uid.clone().unwrap_or_default(),
            digest: offer::policy_digest(&policy.spec),
            on_change: policy.spec.on_policy_change.unwrap_or(OnChange::Keep),
        },
        offer: offer.digest.clone(),
        decisions: by.iter().filter_map(|place| request.spec.decisions.get(*place).cloned()).collect(),
        revokers,
        reason: request.spec.reason.clone(),
        hazards: offer.hazards.clone(),
        streams_may_outlive: hazard::allows_streams(&role.rules),
    }
}

// ---- a sealed request follows its grant ----------------------------------------------------------------------------

fn follow(draft: Draft<'_>, grant: Option<&AccessGrant>, left_behind: bool) -> Plan {
    let now = draft.now;
    let Some(grant) = grant else {
        return match left_behind {
            true => draft.published(Some(now + chrono::Duration::seconds(1))),
            false => draft.ended(RequestPhase::Revoked, "GrantDeleted", "its AccessGrant was deleted"),
        };
    };
    let status = grant.status.clone().unwrap_or_default();
    match (status.phase, status.end) {
        (Some(GrantPhase::Ended), end) => {
            let (reason, message) = end.map(|end| (end.reason, end.message)).unwrap_or((EndReason::GrantDeleted, "its AccessGrant ended".into()));
            draft.ended(ended_as(reason), grant::ended_reason(reason), message)
        }
        (Some(GrantPhase::Ending), end) => draft.ending(&end.map(|end| end.message).unwrap_or_default()),
        (Some(GrantPhase::Active), _) => draft.active(grant),
        (None, _) => draft.published(None),
    }
}

fn ended_as(reason: EndReason) -> RequestPhase {
    match reason {
        EndReason::Expired => RequestPhase::Expired,
        EndReason::Denied => RequestPhase::Denied,
        EndReason::RequestDeleted => RequestPhase::Withdrawn,
        EndReason::Revoked
        | EndReason::GrantDeleted
        | EndReason::Drifted
        | EndReason::RoleChanged
        | EndReason::PolicyChanged
        | EndReason::TargetGone => RequestPhase::Revoked,
        EndReason::BindFailed => RequestPhase::Failed,
    }
}

// ---- the status that says it ---------------------------------------------------------------------------------------

/// A status on its way: the earlier one, changed step by step.
struct Draft<'a> {
    request: &'a AccessRequest,
    status: AccessRequestStatus,
    now: DateTime<Utc>,
}

impl<'a> Draft<'a> {
    fn new(request: &'a AccessRequest, now: DateTime<Utc>) -> Self {
        Self { request, status: request.status.clone().unwrap_or_default(), now }
    }

    fn find(&mut self, finding: Finding) {
        condition::set(&mut self.status.conditions, finding, self.request.metadata.generation, self.now);
    }

    fn published(self, wake: Option<DateTime<Utc>>) -> Plan {
        Plan::Publish { status: Box::new(self.status), wake }
    }

    fn with_words(mut self, effects: &[Effect]) -> Self {
        let words = self.request.spec.decisions.iter().zip(effects).enumerate();
        self.status.decisions = words
            .map(|(place, (decision, Effect { counts, reason }))| DecisionOutcome {
                username: decision.username.clone(),
                verdict: decision.verdict,
                effect: if *counts { DecisionEffect::Counts } else { DecisionEffect::NoEffect },
                reason: reason.clone(),
                first_seen: self.status.decisions.get(place).map_or_else(|| time::to_kubernetes(self.now), |before| before.first_seen.clone()),
            })
            .collect();
        self
    }

    fn blocked(mut self, obstacle: Obstacle, revokers: Revokers, ttl_ends: DateTime<Utc>) -> Plan {
        let Obstacle { reason, message } = obstacle;
        self.status.phase = Some(RequestPhase::Pending);
        self.status.offer = None;
        self.status.open = vec![];
        self.status.revokers = Some(revokers);
        self.status.message = Some(message.clone());
        self.find(Finding::no(condition::ACCEPTED, reason, message));
        self.published(Some(ttl_ends))
    }

    fn offered(mut self, offered: &Offered<'_>, outcome: &Outcome, revokers: Revokers, observed: &Observed, ttl_ends: DateTime<Utc>) -> Plan {
        let Offered { policy, requester: _, role: _, offer } = offered;
        let missing = match outcome {
            Outcome::Waiting { missing } => *missing,
            Outcome::Approved { .. } | Outcome::Denied { .. } | Outcome::Revoked { .. } => 0,
        };
        let is_new = self.status.offer.as_ref().is_none_or(|before| before.digest != offer.digest);
        if is_new {
            self.status.timeline.get_or_insert_default().offered = Some(time::to_kubernetes(self.now));
        }
        self.status.phase = Some(RequestPhase::Pending);
        self.status.policy = Some(PolicyReference { name: name_of(policy).to_owned(), uid: policy.metadata.uid.clone().unwrap_or_default() });
        self.status.targets = observed.targets.iter().map(offer::target).collect::<Vec<Target>>();
        self.status.offer = Some(offer.clone());
        self.status.open = policy::stage(&policy.spec).map(|stage| open_stage(stage, missing)).into_iter().collect();
        self.status.revokers = Some(revokers);
        let message = waiting(&self.status.open, &offer.code);
        self.status.message = Some(message.clone());
        self.find(Finding::yes(condition::ACCEPTED, "Offered", format!("the policy {:?} allows it once it is approved", name_of(policy))));
        self.find(Finding::no(condition::APPROVED, "Waiting", message));
        self.published(Some(ttl_ends))
    }

    fn sealed(mut self, grant: &AccessGrant, offered: &Offered<'_>) -> Plan {
        let (Some(name), Some(uid)) = (grant.metadata.name.clone(), grant.metadata.uid.clone()) else { return self.published(None) };
        let by: Vec<_> = grant.spec.decisions.iter().map(|decision| format!("{:?}", decision.username)).collect();
        self.status.phase = Some(RequestPhase::Approved);
        self.status.offer = Some(offered.offer.clone());
        self.status.open = vec![];
        self.status.seal = Some(Seal { grant: name.clone(), uid });
        self.status.grant = Some(name);
        self.status.expires_at = Some(time::to_kubernetes(grant::deadline(grant)));
        self.status.timeline.get_or_insert_default().granted = grant.metadata.creation_timestamp.clone();
        self.status.message = Some("approved; access is being set up".into());
        self.find(Finding::yes(condition::APPROVED, "Approved", format!("approved by {}", by.join(", "))));
        self.published(None)
    }

    fn active(mut self, grant: &AccessGrant) -> Plan {
        let message = format!("access until {}", time::written(grant::deadline(grant)));
        self.status.phase = Some(RequestPhase::Active);
        self.status.message = Some(message.clone());
        self.find(Finding::yes(condition::GRANTED, "Bound", message));
        self.published(None)
    }

    fn ending(mut self, why: &str) -> Plan {
        self.status.message = Some(format!("access is to end ({why}), and something keeps the binding alive; the AccessGrant's Overdue condition says what"));
        self.published(None)
    }

    fn ended_by_word(self, phase: RequestPhase, place: usize) -> Plan {
        let word = self.request.spec.decisions.get(place);
        let who = word.map(|decision| decision.username.as_str()).unwrap_or_default();
        let comment = word.and_then(|decision| decision.comment.as_deref()).map(|comment| format!(": {comment:?}")).unwrap_or_default();
        let (reason, what) = match phase {
            RequestPhase::Denied => ("Denied", "denied"),
            RequestPhase::Withdrawn => ("Withdrawn", "withdrawn"),
            RequestPhase::Revoked
            | RequestPhase::Pending
            | RequestPhase::Approved
            | RequestPhase::Active
            | RequestPhase::Expired
            | RequestPhase::Failed => ("Revoked", "revoked"),
        };
        self.ended(phase, reason, format!("{what} by {who:?}{comment}"))
    }

    fn ended(mut self, phase: RequestPhase, reason: &'static str, message: impl Into<String>) -> Plan {
        let message = message.into();
        self.status.phase = Some(phase);
        self.status.open = vec![];
        self.status.message = Some(message.clone());
        self.status.timeline.get_or_insert(Timeline::default()).ended = Some(time::to_kubernetes(self.now));
        self.find(Finding::yes(condition::ENDED, reason, message));
        self.published(None)
    }
}

fn open_stage(stage: &crate::api::Stage, missing: i32) -> OpenStage {
    let crate::api::Stage { name, approvers, required: _, timeout: _, escalate_to: _ } = stage;
    OpenStage { stage: name.clone(), required: policy::required(stage), missing, users: approvers.usernames(), groups: approvers.groups.clone() }
}

/// Who is to act next, in one sentence.
fn waiting(open: &[OpenStage], code: &str) -> String {
    let stages: Vec<_> = open
        .iter()
        .map(|OpenStage { stage, required: _, missing, users, groups }| {
            let who = [("users", users), ("groups", groups)]
                .into_iter()
                .filter(|(_, names)| !names.is_empty())
                .map(|(what, names)| format!("{what} {}", listed(names)))
                .collect::<Vec<_>>()
                .join("; ");
            let approvals = if *missing == 1 { "1 approval".to_owned() } else { format!("{missing} approvals") };
            format!("{approvals} in stage {stage:?} ({who})")
        })
        .collect();
    format!("waits for {}; the offer's code is {code}", stages.join(" and "))
}

/// A few names in full, the rest as a number: a message stays readable however long a policy's lists are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests;
