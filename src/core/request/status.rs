//! The status that says what was decided: the earlier one, changed step by step.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::assess::{Offered, name_of};
use super::start::Start;
use super::{Plan, offered_since};
use crate::api::condition::{self, Finding};
use crate::api::{
    AccessGrant, AccessGrantSpec, AccessPolicy, AccessRequest, AccessRequestStatus, Decision, DecisionEffect,
    DecisionOutcome, Escalation, OpenStage, PolicyReference, RequestPhase, Revokers, Seal, Stage, Timeline, Verdict,
    time,
};
use crate::core::approval::{self, Effect, Open, Outcome, TimedOut};
use crate::core::facts::NamespaceFacts;
use crate::core::policy::{self, Obstacle};
use crate::core::{grant, offer, review};

/// A status on its way: the earlier one, changed step by step.
pub(super) struct Draft<'a> {
    request: &'a AccessRequest,
    pub(super) status: AccessRequestStatus,
    pub(super) now: DateTime<Utc>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(request: &'a AccessRequest, now: DateTime<Utc>) -> Self {
        Self {
            request,
            status: request.status.clone().unwrap_or_default(),
            now,
        }
    }

    fn find(&mut self, finding: Finding) {
        condition::set(
            &mut self.status.conditions,
            finding,
            self.request.metadata.generation,
            self.now,
        );
    }

    pub(super) fn published(self, wake: Option<DateTime<Utc>>) -> Plan {
        Plan::Publish {
            status: Box::new(self.status),
            wake,
        }
    }

    /// Whether this is another offer than the one that stands, if one does.
    pub(super) fn is_new(&self, offered: &Offered<'_>) -> bool {
        self.status
            .offer
            .as_ref()
            .is_none_or(|standing| standing.digest != offered.offer.digest)
    }

    /// What became of each word.
    pub(super) fn with_words(mut self, effects: Vec<Effect>) -> Self {
        let before = std::mem::take(&mut self.status.decisions);
        let words = self.request.spec.decisions.iter().zip(effects).enumerate();
        let now = time::to_kubernetes(self.now);
        self.status.decisions = words
            .map(|(place, (decision, effect))| {
                let first_seen = before
                    .get(place)
                    .map_or_else(|| now.clone(), |before| before.first_seen.clone());
                outcome(decision, effect, first_seen)
            })
            .collect();
        self
    }

    /// Which stages of the policy have escalated, and when.
    pub(super) fn with_escalations(
        mut self,
        policy: Option<&AccessPolicy>,
        escalations: &[(usize, DateTime<Utc>)],
    ) -> Self {
        let stages = policy.map_or(&[][..], |policy| policy::stages(&policy.spec));
        let escalated = escalations
            .iter()
            .filter_map(|(place, at)| Some((stages.get(*place)?, *at)));
        let all: Vec<_> = escalated
            .map(|(stage, at)| Escalation {
                stage: stage.name.clone(),
                at: time::to_kubernetes(at),
            })
            .collect();
        if all.is_empty() {
            condition::remove(&mut self.status.conditions, condition::ESCALATED);
        } else {
            let each: Vec<_> = all
                .iter()
                .map(|Escalation { stage, at }| format!("stage {stage:?} at {}", at.0))
                .collect();
            let message = format!(
                "not decided in time, and open to more approvers since: {}",
                each.join(", ")
            );
            self.find(Finding::yes(condition::ESCALATED, "StageTimedOut", message));
        }
        if !all.is_empty() || self.status.timeline.is_some() {
            self.status.timeline.get_or_insert_default().escalations = all;
        }
        self
    }

    /// Whether the access was reviewed, as its grant says.
    pub(super) fn with_review(mut self, grant: &AccessGrant) -> Self {
        if let Some(told) = review::told(grant) {
            self.find(told);
        }
        self
    }

    /// What became of the words spoken after the seal, when only a revocation or a review counts. What was said of the earlier ones stays.
    pub(super) fn with_later_words(mut self, granted: &AccessGrantSpec) -> Self {
        let now = time::to_kubernetes(self.now);
        for decision in self.request.spec.decisions.iter().skip(self.status.decisions.len()) {
            let heard = match decision.verdict {
                Verdict::Revoke => approval::revocation(&granted.requester.username, &granted.revokers, decision)
                    .map(|()| "it ends the access"),
                Verdict::Review => review::counts(granted, decision).map(|()| "it reviews the access"),
                Verdict::Approve | Verdict::Deny => Err("access was granted before; it can only be revoked".to_owned()),
            };
            let effect = match heard {
                Ok(reason) => Effect {
                    counts: true,
                    reason: reason.to_owned(),
                },
                Err(reason) => Effect { counts: false, reason },
            };
            self.status.decisions.push(outcome(decision, effect, now.clone()));
        }
        self
    }

    pub(super) fn blocked(mut self, obstacle: Obstacle, revokers: Revokers, ttl_ends: DateTime<Utc>) -> Plan {
        let Obstacle { reason, message } = obstacle;
        self.status.phase = Some(RequestPhase::Pending);
        self.status.offer = None;
        self.status.open = vec![];
        self.status.revokers = Some(revokers);
        self.status.message = Some(message.clone());
        self.find(Finding::no(condition::ACCEPTED, reason, message));
        self.not_approved("NotOffered", "there is no offer to approve");
        self.published(Some(ttl_ends))
    }

    pub(super) fn offered(
        mut self,
        offered: &Offered<'_>,
        outcome: &Outcome,
        revokers: Revokers,
        targets: &[NamespaceFacts],
        wake: DateTime<Utc>,
    ) -> Plan {
        self.offer(offered, revokers, targets);
        self.status.phase = Some(RequestPhase::Pending);
        self.status.open = match outcome {
            Outcome::Waiting { open } => open_stages(policy::stages(&offered.policy.spec), open),
            Outcome::Approved { .. } | Outcome::TimedOut(_) | Outcome::Denied { .. } | Outcome::Revoked { .. } => {
                vec![]
            }
        };
        let mut message = waiting(&self.status.open, &offered.offer.code);
        let mut said = self.request.spec.decisions.iter();
        if said.any(|word| word.verdict == Verdict::Approve && word.offer != offered.offer.digest) {
            message = format!("the offer is a new one, because what it rests on has changed; it {message}");
        }
        self.status.message = Some(message.clone());
        self.find(Finding::no(condition::APPROVED, "Waiting", message));
        self.published(Some(wake))
    }

    /// It was approved, and something holds it up.
    pub(super) fn held(
        mut self,
        offered: &Offered<'_>,
        revokers: Revokers,
        targets: &[NamespaceFacts],
        by: Obstacle,
        wake: DateTime<Utc>,
    ) -> Plan {
        let Obstacle { reason, message } = by;
        self.offer(offered, revokers, targets);
        self.status.phase = Some(RequestPhase::Approved);
        self.status.open = vec![];
        let message = format!("approved; {message}");
        self.status.message = Some(message.clone());
        self.find(Finding::yes(
            condition::APPROVED,
            "Approved",
            "approved by enough people",
        ));
        self.find(Finding::no(condition::GRANTED, reason, message));
        self.published(Some(wake))
    }

    /// All that an offer says, and with it the choice of policy and namespaces.
    fn offer(&mut self, offered: &Offered<'_>, revokers: Revokers, targets: &[NamespaceFacts]) {
        let Offered {
            policy,
            requester: _,
            subject: _,
            role: _,
            offer,
        } = offered;
        if offered_since(self.request, &offer.digest).is_none() {
            let timeline = self.status.timeline.get_or_insert_default();
            timeline.offered = Some(time::to_kubernetes(self.now));
            timeline.offer = Some(offer.digest.clone());
        }
        self.status.policy = Some(PolicyReference {
            name: name_of(policy).to_owned(),
            uid: policy.metadata.uid.clone().unwrap_or_default(),
        });
        self.status.targets = targets.iter().map(offer::target).collect();
        self.status.offer = Some(offer.clone());
        self.status.revokers = Some(revokers);
        self.find(Finding::yes(
            condition::ACCEPTED,
            "Offered",
            format!("the policy {:?} allows it once it is approved", name_of(policy)),
        ));
    }

    pub(super) fn sealed(
        mut self,
        grant: &AccessGrant,
        offered: &Offered<'_>,
        revokers: Revokers,
        targets: &[NamespaceFacts],
    ) -> Plan {
        let (Some(name), Some(uid)) = (grant.metadata.name.clone(), grant.metadata.uid.clone()) else {
            return self.published(None);
        };
        let by: Vec<_> = grant
            .spec
            .decisions
            .iter()
            .map(|decision| format!("{:?}", decision.username))
            .collect();
        self.offer(offered, revokers, targets);
        self.status.phase = Some(RequestPhase::Approved);
        self.status.open = vec![];
        self.status.seal = Some(Seal {
            grant: name.clone(),
            uid,
        });
        self.status.grant = Some(name);
        self.status.expires_at = Some(time::to_kubernetes(grant::deadline(grant)));
        self.status.timeline.get_or_insert_default().granted = grant.metadata.creation_timestamp.clone();
        self.status.message = Some("approved; access is being set up".into());
        self.status.reviewers = grant.spec.review.as_ref().map(|review| review.reviewers.clone());
        if grant.spec.break_glass {
            let who = &grant.spec.requester.username;
            let why = grant.spec.reason.as_deref().unwrap_or_default();
            self.find(Finding::yes(
                condition::BREAK_GLASS,
                "NobodyApproved",
                format!(
                    "{who:?} has access without anybody's approval, as the policy allows; the reason given is {why:?}"
                ),
            ));
        }
        let carried = match by.as_slice() {
            [] => "the policy takes nobody's approval".to_owned(),
            some => format!("approved by {}", some.join(", ")),
        };
        self.find(Finding::yes(condition::APPROVED, "Approved", carried));
        self.published(None)
    }

    /// There is a grant, and it is not what would be granted now, or its time is over.
    pub(super) fn overtaken(self) -> Plan {
        let message =
            "what was approved changed while it was being granted, or its time was over by then; make a new request";
        self.ended(RequestPhase::Failed, "ChangedWhileGranting", message)
    }

    /// There is a grant, and another of the same requester that was made at the same moment.
    pub(super) fn gives_way(self, reason: &'static str, why: &str) -> Plan {
        let message = format!("two accesses were about to be given at the same moment: {why}; make a new request then");
        self.ended(RequestPhase::Failed, reason, message)
    }

    pub(super) fn active(mut self, grant: &AccessGrant) -> Plan {
        let message = format!("access until {}", time::written(grant::deadline(grant)));
        self.status.phase = Some(RequestPhase::Active);
        self.status.message = Some(message.clone());
        self.find(Finding::yes(condition::GRANTED, "Bound", message));
        self.published(None)
    }

    /// Nobody approved it before its start had passed for too long, or nothing ran.
    pub(super) fn missed_its_start(self, start: Start) -> Plan {
        let message = format!(
            "access was to begin at {}, and did not before {}",
            time::written(start.at),
            time::written(start.missed)
        );
        self.ended(RequestPhase::Expired, "StartMissed", message)
    }

    /// Nobody decided it for as long as its policy waits.
    pub(super) fn not_decided(self, before: DateTime<Utc>) -> Plan {
        let message = format!("nobody decided it before {}", time::written(before));
        self.ended(RequestPhase::Expired, "NotDecided", message)
    }

    /// A stage wasn't decided in time, and escalates to nobody.
    pub(super) fn timed_out(self, offered: &Offered<'_>, TimedOut { stage, at }: TimedOut) -> Plan {
        let timed_out = policy::stages(&offered.policy.spec).get(stage);
        let name = timed_out.map(|stage| stage.name.as_str()).unwrap_or_default();
        let message = format!("stage {name:?} was not decided before {}", time::written(at));
        self.ended(RequestPhase::Expired, "StageTimedOut", message)
    }

    pub(super) fn ending(mut self, why: &str) -> Plan {
        self.status.message = Some(format!(
            "access is to end ({why}), and something keeps the binding alive; the AccessGrant's Overdue condition says what"
        ));
        self.published(None)
    }

    /// Its grant has ended, and a binding is still there. The grant says nothing more.
    pub(super) fn outlasted(mut self, again: DateTime<Utc>) -> Plan {
        self.status.message =
            Some("access has ended, and a binding of it is still there, which is being deleted".to_owned());
        self.published(Some(again))
    }

    pub(super) fn ended_by_word(self, phase: RequestPhase, place: usize) -> Plan {
        let word = self.request.spec.decisions.get(place);
        let who = word.map(|decision| decision.username.as_str()).unwrap_or_default();
        let comment = word
            .and_then(|decision| decision.comment.as_deref())
            .map(|comment| format!(": {comment:?}"))
            .unwrap_or_default();
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

    pub(super) fn ended(mut self, phase: RequestPhase, reason: &'static str, message: impl Into<String>) -> Plan {
        let message = message.into();
        self.status.phase = Some(phase);
        self.status.open = vec![];
        self.status.message = Some(message.clone());
        self.status.timeline.get_or_insert(Timeline::default()).ended = Some(time::to_kubernetes(self.now));
        self.find(Finding::yes(condition::ENDED, reason, message));
        self.not_approved("Ended", "it ended without enough approvals");
        self.published(None)
    }

    /// Approved, unless it was: then that stays said.
    fn not_approved(&mut self, reason: &'static str, message: &str) {
        if !condition::is_true(&self.status.conditions, condition::APPROVED) {
            self.find(Finding::no(condition::APPROVED, reason, message));
        }
    }
}

fn outcome(decision: &Decision, Effect { counts, reason }: Effect, first_seen: Time) -> DecisionOutcome {
    DecisionOutcome {
        username: decision.username.clone(),
        verdict: decision.verdict,
        effect: if counts {
            DecisionEffect::Counts
        } else {
            DecisionEffect::NoEffect
        },
        reason,
        first_seen,
    }
}

fn open_stages(stages: &[Stage], open: &[Open]) -> Vec<OpenStage> {
    let open = open.iter();
    open.filter_map(|open| Some(open_stage(stages.get(open.stage)?, open)))
        .collect()
}

fn open_stage(stage: &Stage, open: &Open) -> OpenStage {
    let Stage {
        name,
        approvers,
        required: _,
        timeout: _,
        escalate_to,
    } = stage;
    let Open {
        stage: _,
        missing,
        since,
        until,
        escalated,
    } = open;
    let (mut users, mut groups) = (approvers.usernames(), approvers.groups.clone());
    if let Some(more) = escalate_to.as_ref().filter(|_| escalated.is_some()) {
        users.extend(more.usernames());
        groups.extend(more.groups.iter().cloned());
    }
    OpenStage {
        stage: name.clone(),
        required: policy::required(stage),
        missing: i32::try_from(*missing).unwrap_or(i32::MAX),
        since: Some(time::to_kubernetes(*since)),
        until: until.map(time::to_kubernetes),
        escalated: escalated.map(time::to_kubernetes),
        users: once(users),
        groups: once(groups),
    }
}

/// Each name once, in the order of their first.
fn once(names: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}

/// Who is to act next, in one sentence.
fn waiting(open: &[OpenStage], code: &str) -> String {
    let (waiting, freeing): (Vec<_>, Vec<_>) = open.iter().partition(|stage| stage.missing > 0);
    let stages: Vec<_> = waiting.into_iter().map(awaited).collect();
    let freeing: Vec<_> = freeing.iter().map(|stage| format!("{:?}", stage.stage)).collect();
    let freeing = match freeing.as_slice() {
        [] => String::new(),
        some => format!(
            " (another approval in {} would free one that counts there already)",
            some.join(" or ")
        ),
    };
    format!(
        "waits for {}{freeing}; the offer's code is {code}",
        stages.join(" and ")
    )
}

fn awaited(open: &OpenStage) -> String {
    let OpenStage {
        stage,
        required: _,
        missing,
        since: _,
        until,
        escalated,
        users,
        groups,
    } = open;
    let who = [("users", users), ("groups", groups)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what} {}", listed(names)))
        .collect::<Vec<_>>()
        .join("; ");
    let approvals = match missing {
        1 => "1 approval".to_owned(),
        several => format!("{several} approvals"),
    };
    let until = match (until, escalated) {
        (Some(until), _) => format!(" until {}", until.0),
        (None, Some(since)) => format!(", escalated since {}", since.0),
        (None, None) => String::new(),
    };
    format!("{approvals} in stage {stage:?} ({who}){until}")
}

/// A few names in full, the rest as a number: a message stays readable however long a policy's lists are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}
