//! The state machine of a grant: bind, hold, end.
//!
//! **The rule for a deadline is [`deadline`], and stands nowhere else.** What must end by itself is decided by [`due`] from the grant alone, before
//! anything is read that could fail.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::api::rbac::v1::RoleBinding;

use super::facts::{NamespaceFacts, RoleFacts};
use super::identity::Account;
use super::request::targets::{self, Asked};
use super::{anchor, approval, binding, extension, offer, review};
use crate::api::condition::{self, Finding};
use crate::api::{
    AccessGrant, AccessGrantSpec, AccessGrantStatus, AccessPolicy, AccessRequest, BoundBinding, Decision, End,
    EndReason, GrantAnchor, GrantPhase, GrantedPolicy, GrantedRole, OnChange, Place, RequestPhase, RequestReference,
    Target, Verdict, time,
};

/// The uid of an AccessGrant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantUid(String);

impl GrantUid {
    /// A uid as the API server wrote it.
    pub fn new(uid: impl Into<String>) -> Self {
        Self(uid.into())
    }

    /// The uid of a grant that the API server has stored. `None` for one that it hasn't.
    pub fn of(grant: &AccessGrant) -> Option<Self> {
        grant.metadata.uid.clone().map(Self)
    }
}

impl std::fmt::Display for GrantUid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of the one grant that a request can ever lead to.
pub fn name(request_uid: &str) -> String {
    format!("grant-{request_uid}")
}

/// The moment at which access must be gone: the AccessGrant's creation, as the API server wrote it, or its start time, plus its duration.
///
/// A grant without a creation time or with a duration that means nothing (neither can be stored) was due long ago.
pub fn deadline(grant: &AccessGrant) -> DateTime<Utc> {
    let created = grant
        .metadata
        .creation_timestamp
        .as_ref()
        .and_then(time::from_kubernetes);
    created
        .and_then(|created| deadline_if_created(&grant.spec, created))
        .unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// The same for a grant that would be created then.
pub fn deadline_if_created(spec: &AccessGrantSpec, created: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let duration = chrono::Duration::from_std(spec.duration.parse().ok()?).ok()?;
    let begins = match &spec.start_time {
        Some(start) => time::from_kubernetes(start)?,
        None => created,
    };
    begins.checked_add_signed(duration)
}

/// The moment of granting, by the API server's clock.
pub fn created(grant: &AccessGrant) -> DateTime<Utc> {
    time::created(&grant.metadata)
}

/// So far may two clocks differ that are right.
const CLOCKS_DIFFER: chrono::Duration = chrono::Duration::minutes(1);

/// Whether every binding of the grant is gone and its status says so.
pub fn has_ended(grant: &AccessGrant) -> bool {
    grant.status.as_ref().and_then(|status| status.phase) == Some(GrantPhase::Ended)
}

/// Whether its bindings were made and recorded.
fn is_bound(grant: &AccessGrant) -> bool {
    grant.status.as_ref().is_some_and(|status| status.phase.is_some())
}

/// Why a grant is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// In one word.
    pub reason: EndReason,
    /// In one sentence.
    pub message: String,
}

impl Why {
    fn new(reason: EndReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Why the grant must end, as far as it alone can tell. Comes first in every reconcile, and needs nothing that can fail.
pub fn due(grant: &AccessGrant, now: DateTime<Utc>) -> Option<Why> {
    if let Some(End { reason, message, at: _ }) = grant.status.as_ref().and_then(|status| status.end.as_ref()) {
        return Some(Why::new(*reason, message.clone()));
    }
    let (deadline, created) = (deadline(grant), created(grant));
    if deadline <= now {
        return Some(Why::new(
            EndReason::Expired,
            format!("the deadline {} is reached", time::written(deadline)),
        ));
    }
    // The API server's clock was ahead when it wrote that, and was set right, or it isn't the one by which ends go here: by this deadline access would last longer
    // than was granted.
    if created > now + CLOCKS_DIFFER {
        let message = format!(
            "it was made at {}, and it is only {}: the API server's clock was set back, or two clocks differ by more than a minute",
            time::written(created),
            time::written(now)
        );
        return Some(Why::new(EndReason::Expired, message));
    }
    grant
        .metadata
        .deletion_timestamp
        .is_some()
        .then(|| Why::new(EndReason::GrantDeleted, "the AccessGrant is being deleted"))
}

/// Why every grant ends when Curfew goes.
pub fn uninstalled() -> Why {
    Why::new(EndReason::Uninstalled, "Curfew was uninstalled")
}

/// Why a grant ends whose binding is there and whose seal isn't: the operator seals before it binds.
pub fn never_sealed_yet_bound() -> Why {
    Why::new(
        EndReason::NotAsRequested,
        "it is bound, and its request doesn't say that it was granted; the operator makes none like that",
    )
}

/// All that the fate of a grant depends on, as it was read a moment ago.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The grant.
    pub grant: AccessGrant,
    /// The object that has the request's name now, if any.
    pub request: Option<AccessRequest>,
    /// The role that has the granted role's name now, if any.
    pub role: Option<RoleFacts>,
    /// The policy that has the granted policy's name now, if any.
    pub policy: Option<AccessPolicy>,
    /// For each place, in order: the namespace that has its name now, and the binding that has ours.
    pub targets: Vec<TargetSeen>,
    /// Its anchor as it is now, if it has one.
    pub anchor: anchor::Seen,
    /// The grant that extends this one, if there is one.
    pub successor: Option<AccessGrant>,
}

/// One place as it is now.
#[derive(Clone, Debug)]
pub struct TargetSeen {
    /// The namespace of that name, if any; none for the whole cluster.
    pub namespace: Option<NamespaceFacts>,
    /// The binding that has the grant's binding name there, if any.
    pub binding: Option<RoleBinding>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// The request isn't sealed yet: whether it will be is the request's matter.
    AwaitSeal,
    /// Make a binding in each of these places; the others have theirs.
    Bind(Vec<Place>),
    /// Every binding is there as it was made.
    Hold,
    /// Delete every binding, then say why.
    End(Why),
}

/// What is to be done with a grant that isn't due by itself.
pub fn decide(observed: &Observed) -> Plan {
    let Observed {
        grant,
        request,
        role,
        policy,
        targets,
        anchor,
        successor,
    } = observed;
    if let Some(plan) = by_request(grant, request.as_ref()) {
        return plan;
    }
    let why = target_gone(&grant.spec.places(), targets)
        .or_else(|| role_changed(&grant.spec.role, role.as_ref(), is_bound(grant)))
        .or_else(|| policy_changed(&grant.spec.policy, policy.as_ref()))
        .or_else(|| anchor_broken(grant.spec.anchor.as_ref(), anchor))
        .or_else(|| taken_over(grant, successor.as_ref()));
    match why {
        Some(why) => Plan::End(why),
        None => bindings(grant, targets),
    }
}

/// What the request alone decides, whatever else there is: that it is gone, not sealed yet, over, or revoked.
pub fn by_request(grant: &AccessGrant, request: Option<&AccessRequest>) -> Option<Plan> {
    let request = match standing_request(&grant.spec.request, request) {
        Ok(request) => request,
        Err(why) => return Some(Plan::End(why)),
    };
    if !is_sealed(grant, request) {
        return Some(match request.status.as_ref().and_then(|status| status.phase) {
            Some(phase) if phase.is_final() => Plan::End(never_sealed(phase)),
            _ => Plan::AwaitSeal,
        });
    }
    let why = request_over(request)
        .or_else(|| revoked(&grant.spec, request))
        .or_else(|| not_as_requested(grant, request))?;
    Some(Plan::End(why))
}

/// Whether the request bears the seal of this grant. Before it does, nothing else matters.
pub fn is_sealed(grant: &AccessGrant, request: &AccessRequest) -> bool {
    let seal = request.status.as_ref().and_then(|status| status.seal.as_ref());
    seal.is_some_and(|seal| Some(&seal.uid) == grant.metadata.uid.as_ref())
}

fn standing_request<'a>(
    reference: &RequestReference,
    request: Option<&'a AccessRequest>,
) -> Result<&'a AccessRequest, Why> {
    match request {
        Some(request)
            if request.metadata.uid.as_ref() == Some(&reference.uid)
                && request.metadata.deletion_timestamp.is_none() =>
        {
            Ok(request)
        }
        _ => Err(Why::new(
            EndReason::RequestDeleted,
            format!("the request {}/{} was deleted", reference.namespace, reference.name),
        )),
    }
}

fn never_sealed(phase: RequestPhase) -> Why {
    let reason = match phase {
        RequestPhase::Denied => EndReason::Denied,
        RequestPhase::Withdrawn | RequestPhase::Revoked => EndReason::Revoked,
        RequestPhase::Expired => EndReason::Expired,
        RequestPhase::Pending | RequestPhase::Approved | RequestPhase::Active | RequestPhase::Failed => {
            EndReason::BindFailed
        }
    };
    Why::new(
        reason,
        format!("the request ended as {phase:?} before the grant took effect"),
    )
}

/// A request says that it has ended only after its grant. Should it have said so before, misled by an answer that was not true, access must not outlive it.
fn request_over(request: &AccessRequest) -> Option<Why> {
    let phase = request.status.as_ref()?.phase.filter(|phase| phase.is_final())?;
    let message = format!("the request ended as {phase:?}");
    Some(Why::new(EndReason::Revoked, message))
}

fn revoked(spec: &AccessGrantSpec, request: &AccessRequest) -> Option<Why> {
    let revocation = request.spec.decisions.iter().find(|decision| {
        decision.verdict == Verdict::Revoke
            && approval::revocation(&spec.requester.username, &spec.revokers, decision).is_ok()
    })?;
    Some(Why::new(
        EndReason::Revoked,
        format!("revoked by {:?}", revocation.username),
    ))
}

/// What the operator makes of a request is true of the request for ever, for neither changes. Who had the operator's token may have left another, and nobody
/// but them would know.
fn not_as_requested(grant: &AccessGrant, request: &AccessRequest) -> Option<Why> {
    let (given, asked) = (&grant.spec, &request.spec);
    let names: BTreeSet<String> = given.targets.iter().map(|target| target.namespace.clone()).collect();
    let is_asked_for = match targets::asked(request) {
        Asked::Cluster => given.cluster_wide,
        Asked::Named(asked) => !given.cluster_wide && names == asked.into_iter().collect(),
        Asked::OfPolicy(_) => false,
    };
    // The two clocks may differ a little.
    let soonest = given.start_time.as_ref().and_then(time::from_kubernetes);
    let is_too_soon = soonest.is_some_and(|soonest| created(grant) + CLOCKS_DIFFER < soonest);
    let subject = Account::of(&given.requester.username).subject();
    let extended = given.extends.as_ref().map(|extended| &extended.name);
    let is_approval = |said: &Decision| {
        (said.verdict, &said.offer) == (Verdict::Approve, &given.offer) && asked.decisions.contains(said)
    };
    let differs = [
        ("its requester", Some(&given.requester) != asked.requester.as_ref()),
        ("its subject", subject.as_ref() != Some(&given.subject)),
        ("its role", given.role.reference() != asked.role),
        ("where it holds", !is_asked_for),
        ("its start", given.start_time != asked.start_time || is_too_soon),
        ("its duration", is_another(asked.duration.as_ref(), &given.duration)),
        ("what it extends", extended != asked.extends.as_ref()),
        ("who approved it", !given.decisions.iter().all(is_approval)),
        ("that nobody did", given.decisions.is_empty() != given.break_glass),
        ("its policy", is_another(asked.policy.as_ref(), &given.policy.name)),
    ];
    let (what, _) = differs.into_iter().find(|(_, differs)| *differs)?;
    let message = format!("{what} is not as in the request; the operator makes none like that");
    Some(Why::new(EndReason::NotAsRequested, message))
}

/// What is asked for is given; what isn't, is the policy's matter.
fn is_another<T: PartialEq>(asked: Option<&T>, given: &T) -> bool {
    asked.is_some_and(|asked| asked != given)
}

fn target_gone(places: &[Place], seen: &[TargetSeen]) -> Option<Why> {
    let gone = places.iter().enumerate().find_map(|(number, place)| {
        let Place::Namespace(Target { namespace: name, uid }) = place else {
            // The cluster stays.
            return None;
        };
        // One that wasn't looked at is not one that is well.
        let seen = seen.get(number);
        let now = seen.and_then(|TargetSeen { namespace, binding: _ }| namespace.as_ref());
        now.is_none_or(|now| now.uid != *uid || now.terminating).then_some(name)
    })?;
    Some(Why::new(
        EndReason::TargetGone,
        format!("the namespace {gone:?} is gone or going"),
    ))
}

/// What the policy forgives is a change of what was given, never of what was approved: before it is bound, every change counts.
fn role_changed(granted: &GrantedRole, now: Option<&RoleFacts>, is_bound: bool) -> Option<Why> {
    let GrantedRole {
        kind,
        name,
        uid,
        rules_digest,
        on_change,
    } = granted;
    let on_change = if is_bound { *on_change } else { OnChange::Revoke };
    let change = match (now, on_change) {
        (None, OnChange::Revoke | OnChange::Keep) => "was deleted",
        (Some(_), OnChange::Keep) => return None,
        (Some(now), OnChange::Revoke) if now.uid != *uid => "was replaced by another of the same name",
        (Some(now), OnChange::Revoke) if offer::rules_digest(&now.rules) != *rules_digest => {
            "has other rules than were approved"
        }
        (Some(_), OnChange::Revoke) => return None,
    };
    Some(Why::new(EndReason::RoleChanged, format!("{kind:?} {name:?} {change}")))
}

fn policy_changed(granted: &GrantedPolicy, now: Option<&AccessPolicy>) -> Option<Why> {
    let GrantedPolicy {
        name,
        uid,
        digest,
        on_change,
    } = granted;
    match on_change {
        OnChange::Keep => None,
        OnChange::Revoke => {
            let same = now.is_some_and(|now| {
                now.metadata.deletion_timestamp.is_none()
                    && now.metadata.uid.as_ref() == Some(uid)
                    && offer::policy_digest(&now.spec) == *digest
            });
            (!same).then(|| {
                Why::new(
                    EndReason::PolicyChanged,
                    format!("the policy {name:?} was changed or deleted, and says that this ends its grants"),
                )
            })
        }
    }
}

/// Access that only the operator would end, where something else was to, is not what was granted.
fn anchor_broken(granted: Option<&GrantAnchor>, seen: &anchor::Seen) -> Option<Why> {
    let anchor = granted?;
    let how = anchor::broken(anchor, seen)?;
    Some(Why::new(
        EndReason::AnchorBroken,
        format!("its dead man's switch {} is broken: {how}", anchor.name),
    ))
}

fn taken_over(grant: &AccessGrant, successor: Option<&AccessGrant>) -> Option<Why> {
    let successor = successor.filter(|successor| extension::has_taken_over(successor, grant))?;
    let name = successor.metadata.name.as_deref().unwrap_or_default();
    let until = time::written(deadline(successor));
    Some(Why::new(
        EndReason::Extended,
        format!("it was extended: {name} has taken over, until {until}"),
    ))
}

/// What the bindings as they are now call for. One that was recorded must be there as it was made; one that wasn't may be there already.
fn bindings(grant: &AccessGrant, seen: &[TargetSeen]) -> Plan {
    let Some(uid) = GrantUid::of(grant) else {
        return Plan::AwaitSeal;
    };
    let status = grant.status.clone().unwrap_or_default();
    let was_bound = is_bound(grant);
    let mut missing = vec![];
    for (number, place) in grant.spec.places().into_iter().enumerate() {
        // Where nobody looked there is none.
        let found = seen.get(number);
        let found = found.and_then(|TargetSeen { namespace: _, binding }| binding.as_ref());
        let desired = binding::desired(grant, &uid, &place);
        let called = format!("the binding {place}");
        match found {
            None if was_bound => {
                return Plan::End(Why::new(
                    EndReason::Drifted,
                    format!("{called} was deleted by somebody else"),
                ));
            }
            None => missing.push(place),
            Some(found) if was_bound && !is_recorded(&status.bindings, &place, found) => {
                return Plan::End(Why::new(
                    EndReason::Drifted,
                    format!(
                        "{called} was replaced by another of the same name, which is not Curfew's and was left alone"
                    ),
                ));
            }
            Some(found) => {
                if let Some(how) = binding::drift(&desired, found) {
                    let reason = if was_bound {
                        EndReason::Drifted
                    } else {
                        EndReason::BindFailed
                    };
                    return Plan::End(Why::new(reason, format!("{called} is not as Curfew makes it: {how}")));
                }
                // Made by an operator that stopped before it could say so: making it again finds it.
                if !was_bound {
                    missing.push(place);
                }
            }
        }
    }
    if missing.is_empty() {
        Plan::Hold
    } else {
        Plan::Bind(missing)
    }
}

// ---- the status that says it ---------------------------------------------------------------------------------------

/// The status of a grant whose bindings were made.
pub fn active(grant: &AccessGrant, made: Vec<BoundBinding>, now: DateTime<Utc>) -> AccessGrantStatus {
    let mut status = grant.status.clone().unwrap_or_default();
    status.phase = Some(GrantPhase::Active);
    status.bindings = made;
    status.expires_at = Some(time::to_kubernetes(deadline(grant)));
    let mut find = |finding| condition::set(&mut status.conditions, finding, grant.metadata.generation, now);
    find(Finding::yes(
        condition::BOUND,
        "Bound",
        format!("access until {}", time::written(deadline(grant))),
    ));
    find(dead_mans_switch(&grant.spec));
    unapproved(grant).into_iter().for_each(&mut find);
    if grant.spec.streams_may_outlive {
        let message = "the role allows streams (watch, followed logs, exec, port-forward); Kubernetes doesn't cut those that are open when access ends";
        find(Finding::yes(
            condition::STREAMS_MAY_OUTLIVE,
            "RoleAllowsStreams",
            message,
        ));
    }
    status
}

/// What is to be said of access that nobody approved.
fn unapproved(grant: &AccessGrant) -> Vec<Finding> {
    let message = "granted at once and without anybody's approval, as its policy allows";
    let broken = Finding::yes(condition::BREAK_GLASS, "NobodyApproved", message);
    let broken = grant.spec.break_glass.then_some(broken);
    broken.into_iter().chain(review::awaited(grant)).collect()
}

fn dead_mans_switch(spec: &AccessGrantSpec) -> Finding {
    match &spec.anchor {
        Some(GrantAnchor { name, ends_at, .. }) => Finding::yes(
            condition::DEAD_MANS_SWITCH,
            "Armed",
            format!(
                "without the operator too access ends by {}: kube-controller-manager deletes {name}, and the binding with it",
                time::from_kubernetes(ends_at).map(time::written).unwrap_or_default()
            ),
        ),
        None => Finding::no(
            condition::DEAD_MANS_SWITCH,
            "NoAnchor",
            format!(
                "the operator alone ends this access: {}",
                spec.no_anchor.as_deref().unwrap_or("no anchor could be had")
            ),
        ),
    }
}

/// The status of a grant that is to end for a reason that nobody else could see: before its bindings go, so that everybody gives the same.
pub fn to_end(grant: &AccessGrant, why: Why) -> AccessGrantStatus {
    let Why { reason, message } = why;
    AccessGrantStatus {
        end: Some(End {
            reason,
            message,
            at: None,
        }),
        ..grant.status.clone().unwrap_or_default()
    }
}

/// The status of a grant that is to end, while something keeps a binding alive.
pub fn ending(grant: &AccessGrant, why: Why, stuck: &str, now: DateTime<Utc>) -> AccessGrantStatus {
    let mut status = to_end(grant, why);
    status.phase = Some(GrantPhase::Ending);
    // What is written is a reason to look again, so what says the same isn't written.
    let said = condition::get(&status.conditions, condition::OVERDUE).map(|overdue| overdue.message.clone());
    let stuck = said
        .filter(|said| is_alike(said, stuck))
        .unwrap_or_else(|| stuck.to_owned());
    condition::set(
        &mut status.conditions,
        Finding::yes(condition::OVERDUE, "BindingNotDeleted", stuck),
        grant.metadata.generation,
        now,
    );
    status
}

/// Whether two sentences differ in nothing but numbers: a port, a time, the number of a call are others each time.
fn is_alike(one: &str, other: &str) -> bool {
    let without = |said: &str| {
        let words = said.split_whitespace().map(str::to_owned);
        words
            .filter(|word| !word.contains(|letter: char| letter.is_ascii_digit()))
            .collect::<Vec<_>>()
    };
    without(one) == without(other)
}

/// The status of a grant whose bindings are all gone.
pub fn ended(grant: &AccessGrant, why: Why, now: DateTime<Utc>) -> AccessGrantStatus {
    let mut status = grant.status.clone().unwrap_or_default();
    let Why { reason, message } = why;
    status.phase = Some(GrantPhase::Ended);
    status.end = Some(End {
        reason,
        message: message.clone(),
        at: Some(time::to_kubernetes(now)),
    });
    let generation = grant.metadata.generation;
    let mut find = |finding| condition::set(&mut status.conditions, finding, generation, now);
    find(Finding::no(condition::BOUND, "Ended", "every binding is gone"));
    find(Finding::yes(condition::ENDED, ended_reason(reason), message));
    condition::remove(&mut status.conditions, condition::OVERDUE);
    if reason == EndReason::BindFailed && status.bindings.is_empty() {
        // There is nothing to look at where nothing was given.
        condition::remove(&mut status.conditions, condition::REVIEWED);
    } else if condition::get(&status.conditions, condition::REVIEWED).is_none() {
        // It may have been bound, and ended before anybody could say so.
        for finding in unapproved(grant) {
            condition::set(&mut status.conditions, finding, generation, now);
        }
    }
    status
}

/// The reason of an `Ended` condition.
pub fn ended_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Expired => "DeadlineReached",
        EndReason::Revoked => "Revoked",
        EndReason::Denied => "Denied",
        EndReason::RequestDeleted => "RequestDeleted",
        EndReason::GrantDeleted => "GrantDeleted",
        EndReason::Drifted => "BindingDrifted",
        EndReason::RoleChanged => "RoleChanged",
        EndReason::PolicyChanged => "PolicyChanged",
        EndReason::TargetGone => "TargetGone",
        EndReason::BindFailed => "BindFailed",
        EndReason::AnchorBroken => "AnchorBroken",
        EndReason::NotAsRequested => "NotAsRequested",
        EndReason::Extended => "Extended",
        EndReason::Uninstalled => "Uninstalled",
    }
}

/// How long to wait before the next try to delete a binding: a quarter of the time that it has been stuck, from a quarter of a second to fifteen.
pub fn retry_after(grant: &AccessGrant, now: DateTime<Utc>) -> Duration {
    let stuck_since = grant
        .status
        .as_ref()
        .and_then(|status| condition::get(&status.conditions, condition::OVERDUE))
        .and_then(|overdue| time::from_kubernetes(&overdue.last_transition_time));
    let stuck_for = stuck_since
        .and_then(|since| (now - since).to_std().ok())
        .unwrap_or_default();
    (stuck_for / 4).clamp(Duration::from_millis(250), Duration::from_secs(15))
}

fn is_recorded(recorded: &[BoundBinding], place: &Place, found: &RoleBinding) -> bool {
    recorded.iter().any(
        |BoundBinding {
             namespace,
             name: _,
             uid,
         }| namespace.as_deref() == place.namespace() && Some(uid) == found.metadata.uid.as_ref(),
    )
}

#[cfg(test)]
mod tests;
