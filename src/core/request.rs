//! The state machine of a request: from what was asked and said to an offer, a grant, an end.
//!
//! [`decide`] is total: whatever a user wrote is answered by a status. It reads its own earlier status only for what may veto (the seal, an end) or is a
//! choice made once (policy and targets, first-seen times), never as a permission.

mod assess;
mod start;
mod status;
pub mod targets;

use chrono::{DateTime, Duration, Utc};

use self::assess::{Assessment, Offered, assess, name_of, policy_of};
use self::start::Start;
pub use self::start::prepares;
use self::status::Draft;
use super::approval::{self, Outcome, Rules, StandingOffer, Weighing, Word};
use super::facts::{Brake, Home, NamespaceFacts, RoleFacts};
use super::guard::Standing;
use super::limits::{self, Others};
use super::policy::Obstacle;
use super::{anchor, extension, grant, hazard, offer, policy, review};
use crate::api::{
    AccessGrant, AccessGrantSpec, AccessPolicy, AccessRequest, AccessRequestStatus, Approval, DeadMansSwitch,
    EndReason, GrantPhase, GrantedPolicy, GrantedRole, OnChange, RequestPhase, RequestReference, Revokers,
    RoleReference, Timeline, time,
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
    /// The namespaces that are asked for ([`targets::asked`]), in order, as far as they exist.
    pub targets: Vec<NamespaceFacts>,
    /// What else its requester has; needed where a policy limits that ([`Others::matter`]).
    pub others: Others,
    /// The grant of the name that this request is to extend, if it names one and there is one.
    pub extended: Option<AccessGrant>,
    /// The grant that this request led to, if there is one.
    pub grant: Option<AccessGrant>,
    /// Whether a binding of a grant that is gone or has ended is still there, or may be.
    pub left_behind: bool,
    /// Where the operator lives.
    pub home: Home,
    /// Why nothing may be granted now, if so.
    pub brake: Option<Brake>,
    /// How the guards stand that attest who spoke.
    pub guards: Standing,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Nothing, ever: it has ended, and nothing is left to tell.
    Rest,
    /// Write this status, if it is another, and look again at `wake`, if nothing happens before.
    Publish {
        /// The status.
        status: Box<AccessRequestStatus>,
        /// When to look again.
        wake: Option<DateTime<Utc>>,
    },
    /// Find an anchor, create this grant with it, then decide again with the grant: that seals the request.
    Grant {
        /// All of it but the anchor.
        spec: Box<AccessGrantSpec>,
        /// Whether it may be created without one.
        dead_mans_switch: DeadMansSwitch,
    },
}

/// What is to be done with a request.
pub fn decide(observed: &Observed, now: DateTime<Utc>) -> Plan {
    let draft = Draft::new(&observed.request, now);
    let is_over = draft.status.phase.is_some_and(RequestPhase::is_final);
    let Some(seal) = &draft.status.seal else {
        return if is_over {
            Plan::Rest
        } else {
            undecided(draft, observed, now)
        };
    };
    let grant = observed.grant.as_ref();
    let grant = grant.filter(|grant| grant.metadata.uid.as_ref() == Some(&seal.uid));
    match (is_over, grant) {
        (false, grant) => follow(draft, grant, observed.left_behind),
        // Of access that nobody approved there is something to tell after its end too.
        (true, Some(grant)) if grant.spec.review.is_some() => {
            draft.with_later_words(&grant.spec).with_review(grant).published(None)
        }
        (true, _) => Plan::Rest,
    }
}

fn undecided(draft: Draft<'_>, observed: &Observed, now: DateTime<Utc>) -> Plan {
    let assessment = assess(observed, now);
    let policy = assessment.policy().or_else(|| policy_of(observed));
    let revokers = policy
        .map(|policy| approval::revokers(&policy.spec))
        .unwrap_or_default();
    let weighing = weigh(&assessment, policy, observed, &revokers, now);
    // Until the guards were seen it isn't known which words are about the offer that stands. What was said of them stays, and only an end is told.
    let unseen = observed.guards.epoch.is_none();
    let is_final = matches!(weighing.outcome, Outcome::Denied { .. } | Outcome::Revoked { .. });
    let draft = if unseen && !is_final {
        draft
    } else {
        draft
            .with_words(weighing.effects)
            .with_escalations(policy, &weighing.escalations)
    };
    match &weighing.outcome {
        Outcome::Denied { by } => return draft.ended_by_word(RequestPhase::Denied, *by),
        Outcome::Revoked { by, by_requester: true } => return draft.ended_by_word(RequestPhase::Withdrawn, *by),
        Outcome::Revoked {
            by,
            by_requester: false,
        } => return draft.ended_by_word(RequestPhase::Revoked, *by),
        Outcome::Waiting { .. } | Outcome::Approved { .. } | Outcome::TimedOut(_) => {}
    }
    if observed.request.metadata.deletion_timestamp.is_some() {
        return draft.ended(
            RequestPhase::Withdrawn,
            "RequestDeleted",
            "the request is being deleted",
        );
    }
    let start = Start::of(&observed.request, policy);
    let ends = match start {
        Some(start) => start.ends(&assessment, &weighing.outcome, observed, policy, now),
        None => expiry(created(&observed.request), policy),
    };
    let wake = [weighing.wake, assessment.latest(observed), Some(ends)];
    let wake = wake.into_iter().flatten().min().unwrap_or(ends);
    match (assessment, weighing.outcome) {
        (Assessment::Over { reason, message }, _) => draft.ended(RequestPhase::Failed, reason, message),
        (Assessment::Offered(offered), Outcome::TimedOut(timed_out)) if !unseen && timed_out.at < ends => {
            draft.timed_out(&offered, timed_out)
        }
        _ if ends <= now => match start {
            Some(start) if start.missed <= now => draft.missed_its_start(start),
            _ => draft.not_decided(ends),
        },
        _ if unseen => draft.published(Some(ends)),
        (Assessment::Offered(offered), _) if !observed.guards.in_force && draft.is_new(&offered) => {
            draft.blocked(not_in_force(observed), revokers, ends)
        }
        (Assessment::Offered(offered), Outcome::Approved { by }) => {
            if let Some(start) = start.filter(|start| now < start.at) {
                return draft.held(
                    &offered,
                    revokers,
                    &observed.targets,
                    start.awaited(),
                    start.next_look(now),
                );
            }
            if let Some(Brake { reason, message }) = stopped(observed) {
                let brake = Obstacle::new(reason, format!("nothing is granted at present: {message}"));
                return draft.held(&offered, revokers, &observed.targets, brake, ends);
            }
            let spec = grant_spec(observed, &offered, &by, revokers.clone());
            let too_many = limits::too_many_active(offered.policy, &observed.others.active, spec.extends.as_ref());
            match (&observed.grant, too_many) {
                (None, Some(too_many)) => draft.held(&offered, revokers, &observed.targets, too_many, ends),
                (None, None) => Plan::Grant {
                    spec: Box::new(spec),
                    dead_mans_switch: policy::dead_mans_switch(&offered.policy.spec),
                },
                // Another was made at the same moment.
                (Some(_), Some(Obstacle { reason, message })) => draft.gives_way(reason, &message),
                (Some(grant), None) => match extension::lasts_too_long(offered.policy, grant) {
                    Some(Obstacle { reason, message }) => draft.ended(RequestPhase::Failed, reason, message),
                    None if is_as_decided(grant, spec, &offered) && grant::due(grant, now).is_none() => {
                        draft.sealed(grant, &offered, revokers, &observed.targets)
                    }
                    None => draft.overtaken(),
                },
            }
        }
        _ if observed.grant.is_some() => draft.overtaken(),
        (Assessment::Offered(offered), outcome) => draft.offered(&offered, &outcome, revokers, &observed.targets, wake),
        (Assessment::Blocked { policy: _, obstacle }, _) => draft.blocked(obstacle, revokers, ends),
    }
}

/// Whether a grant that is there is what would be created now. Which anchor it hangs on was found out after the decision; it must serve the grant's deadline.
fn is_as_decided(grant: &AccessGrant, decided: AccessGrantSpec, offered: &Offered<'_>) -> bool {
    let AccessGrantSpec { anchor, no_anchor, .. } = &grant.spec;
    let serves = match anchor {
        Some(anchor) => anchor::serves(anchor, grant::deadline(grant)),
        None => policy::dead_mans_switch(&offered.policy.spec) == DeadMansSwitch::BestEffort,
    };
    serves
        && grant.spec
            == AccessGrantSpec {
                anchor: anchor.clone(),
                no_anchor: no_anchor.clone(),
                ..decided
            }
}

/// Why nothing may be granted now, if so.
fn stopped(observed: &Observed) -> Option<Brake> {
    let unproven = || Brake {
        reason: "GuardsUnknown",
        message: "the guards that attest who speaks changed a moment ago and are being tried out".to_owned(),
    };
    let by_guards = || (!observed.guards.in_force).then(unproven);
    observed.brake.clone().or_else(by_guards)
}

/// A new offer waits until the guards are known to be in force: a word about it that was spoken earlier could be anybody's.
fn not_in_force(observed: &Observed) -> Obstacle {
    let (reason, why) = stopped(observed)
        .map(|Brake { reason, message }| (reason, message))
        .unwrap_or_default();
    Obstacle::new(reason, format!("nothing is offered or granted at present: {why}"))
}

/// The moment at which a request ends that nobody decided, when it waits since then.
fn expiry(since: DateTime<Utc>, policy: Option<&AccessPolicy>) -> DateTime<Utc> {
    let ttl = Duration::from_std(policy::request_ttl(policy.map(|policy| &policy.spec))).unwrap_or(Duration::zero());
    since.checked_add_signed(ttl).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

fn created(request: &AccessRequest) -> DateTime<Utc> {
    time::created(&request.metadata)
}

fn weigh(
    assessment: &Assessment<'_>,
    policy: Option<&AccessPolicy>,
    observed: &Observed,
    revokers: &Revokers,
    now: DateTime<Utc>,
) -> Weighing {
    let request = &observed.request;
    let offer = match assessment {
        Assessment::Offered(offered) => Some(StandingOffer {
            digest: &offered.offer.digest,
            since: offered_since(request, &offered.offer.digest).unwrap_or(now),
        }),
        Assessment::Blocked { .. } | Assessment::Over { .. } => None,
    };
    let nobody = Approval::default();
    let rules = Rules {
        requester: request.username().unwrap_or_default(),
        approval: policy
            .and_then(|policy| policy.spec.approval.as_ref())
            .unwrap_or(&nobody),
        revokers,
        offer,
        require_code: policy.is_some_and(|policy| policy.spec.require_code),
        require_direct: policy.is_some_and(|policy| policy.spec.require_direct),
    };
    approval::weigh(rules, &words(request, now), now)
}

/// What was said, and when each word was first seen: now, unless that is written down already.
fn words(request: &AccessRequest, now: DateTime<Utc>) -> Vec<Word<'_>> {
    let seen = request.status.iter().flat_map(|status| &status.decisions);
    let mut seen = seen.map(|outcome| time::from_kubernetes(&outcome.first_seen));
    let decisions = request.spec.decisions.iter();
    decisions
        .map(|decision| Word {
            decision,
            first_seen: seen.next().flatten().unwrap_or(now),
        })
        .collect()
}

/// Since when this offer stands, if it is the last that was made.
fn offered_since(request: &AccessRequest, digest: &str) -> Option<DateTime<Utc>> {
    let Timeline { offered, offer, .. } = request.status.as_ref()?.timeline.as_ref()?;
    let offered = offered.as_ref().filter(|_| offer.as_deref() == Some(digest))?;
    time::from_kubernetes(offered)
}

fn grant_spec(observed: &Observed, offered: &Offered<'_>, by: &[usize], revokers: Revokers) -> AccessGrantSpec {
    let request = &observed.request;
    let Offered {
        policy,
        requester,
        subject,
        role,
        offer,
    } = offered;
    let RoleReference { kind, name } = &role.reference;
    AccessGrantSpec {
        request: RequestReference {
            namespace: request.metadata.namespace.clone().unwrap_or_default(),
            name: request.metadata.name.clone().unwrap_or_default(),
            uid: request.metadata.uid.clone().unwrap_or_default(),
        },
        requester: (*requester).clone(),
        subject: subject.clone(),
        role: GrantedRole {
            kind: *kind,
            name: name.clone(),
            uid: role.uid.clone(),
            rules_digest: offer::rules_digest(&role.rules),
            on_change: policy.spec.on_role_change.unwrap_or(OnChange::Revoke),
        },
        targets: observed.targets.iter().map(offer::target).collect(),
        cluster_wide: targets::is_cluster_wide(&request.spec),
        duration: offer.duration.clone(),
        start_time: request.spec.start_time.clone(),
        policy: GrantedPolicy {
            name: name_of(policy).to_owned(),
            uid: policy.metadata.uid.clone().unwrap_or_default(),
            digest: offer::policy_digest(&policy.spec),
            on_change: policy.spec.on_policy_change.unwrap_or(OnChange::Keep),
        },
        offer: offer.digest.clone(),
        decisions: by
            .iter()
            .filter_map(|place| request.spec.decisions.get(*place).cloned())
            .collect(),
        break_glass: policy.spec.approval.as_ref().is_some_and(policy::is_break_glass),
        review: review::wanted(&policy.spec),
        revokers,
        reason: request.spec.reason.clone(),
        retention: policy.spec.retention.clone(),
        extends: (request.spec.extends.as_ref()).and(observed.extended.as_ref().map(extension::taken_over)),
        anchor: None,
        no_anchor: None,
        hazards: offer.hazards.clone(),
        streams_may_outlive: hazard::allows_streams(&role.rules),
    }
}

fn follow(draft: Draft<'_>, grant: Option<&AccessGrant>, left_behind: bool) -> Plan {
    let again = draft.now + Duration::seconds(1);
    let Some(grant) = grant else {
        return match left_behind {
            true => draft.published(Some(again)),
            false => draft.ended(RequestPhase::Revoked, "GrantDeleted", "its AccessGrant was deleted"),
        };
    };
    let draft = draft.with_later_words(&grant.spec).with_review(grant);
    if left_behind {
        return draft.outlasted(again);
    }
    let status = grant.status.clone().unwrap_or_default();
    match (status.phase, status.end) {
        (Some(GrantPhase::Ended), end) => {
            let (reason, message) = end
                .map(|end| (end.reason, end.message))
                .unwrap_or((EndReason::GrantDeleted, "its AccessGrant ended".into()));
            draft.ended(ended_as(reason), grant::ended_reason(reason), message)
        }
        (Some(GrantPhase::Ending), end) => draft.ending(&end.map(|end| end.message).unwrap_or_default()),
        (Some(GrantPhase::Active), _) => draft.active(grant),
        (None, _) => draft.published(None),
    }
}

fn ended_as(reason: EndReason) -> RequestPhase {
    match reason {
        EndReason::Expired | EndReason::Extended => RequestPhase::Expired,
        EndReason::Denied => RequestPhase::Denied,
        EndReason::RequestDeleted => RequestPhase::Withdrawn,
        EndReason::Revoked
        | EndReason::GrantDeleted
        | EndReason::Drifted
        | EndReason::RoleChanged
        | EndReason::PolicyChanged
        | EndReason::AnchorBroken
        | EndReason::NotAsRequested
        | EndReason::Uninstalled
        | EndReason::TargetGone => RequestPhase::Revoked,
        EndReason::BindFailed => RequestPhase::Failed,
    }
}

#[cfg(test)]
mod tests;
