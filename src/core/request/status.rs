//! The status that says what was decided: the earlier one, changed step by step.

use chrono::{DateTime, Utc};

use super::assess::{Offered, name_of};
use super::{Observed, Plan};
use crate::api::condition::{self, Finding};
use crate::api::{
    AccessGrant, AccessRequest, AccessRequestStatus, DecisionEffect, DecisionOutcome, OpenStage, PolicyReference, RequestPhase, Revokers, Seal, Stage, Target,
    Timeline, time,
};
use crate::core::approval::{Effect, Outcome};
use crate::core::policy::{self, Obstacle};
use crate::core::{grant, offer};

/// A status on its way: the earlier one, changed step by step.
pub(super) struct Draft<'a> {
    request: &'a AccessRequest,
    pub(super) status: AccessRequestStatus,
    pub(super) now: DateTime<Utc>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(request: &'a AccessRequest, now: DateTime<Utc>) -> Self {
        Self { request, status: request.status.clone().unwrap_or_default(), now }
    }

    fn find(&mut self, finding: Finding) {
        condition::set(&mut self.status.conditions, finding, self.request.metadata.generation, self.now);
    }

    pub(super) fn published(self, wake: Option<DateTime<Utc>>) -> Plan {
        Plan::Publish { status: Box::new(self.status), wake }
    }

    pub(super) fn with_words(mut self, effects: &[Effect]) -> Self {
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

    pub(super) fn blocked(mut self, obstacle: Obstacle, revokers: Revokers, ttl_ends: DateTime<Utc>) -> Plan {
        let Obstacle { reason, message } = obstacle;
        self.status.phase = Some(RequestPhase::Pending);
        self.status.offer = None;
        self.status.open = vec![];
        self.status.revokers = Some(revokers);
        self.status.message = Some(message.clone());
        self.find(Finding::no(condition::ACCEPTED, reason, message));
        self.published(Some(ttl_ends))
    }

    pub(super) fn offered(mut self, offered: &Offered<'_>, outcome: &Outcome, revokers: Revokers, observed: &Observed, ttl_ends: DateTime<Utc>) -> Plan {
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

    pub(super) fn sealed(mut self, grant: &AccessGrant, offered: &Offered<'_>) -> Plan {
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

    pub(super) fn active(mut self, grant: &AccessGrant) -> Plan {
        let message = format!("access until {}", time::written(grant::deadline(grant)));
        self.status.phase = Some(RequestPhase::Active);
        self.status.message = Some(message.clone());
        self.find(Finding::yes(condition::GRANTED, "Bound", message));
        self.published(None)
    }

    pub(super) fn ending(mut self, why: &str) -> Plan {
        self.status.message = Some(format!("access is to end ({why}), and something keeps the binding alive; the AccessGrant's Overdue condition says what"));
        self.published(None)
    }

    pub(super) fn ended_by_word(self, phase: RequestPhase, place: usize) -> Plan {
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

    pub(super) fn ended(mut self, phase: RequestPhase, reason: &'static str, message: impl Into<String>) -> Plan {
        let message = message.into();
        self.status.phase = Some(phase);
        self.status.open = vec![];
        self.status.message = Some(message.clone());
        self.status.timeline.get_or_insert(Timeline::default()).ended = Some(time::to_kubernetes(self.now));
        self.find(Finding::yes(condition::ENDED, reason, message));
        self.published(None)
    }
}

fn open_stage(stage: &Stage, missing: i32) -> OpenStage {
    let Stage { name, approvers, required: _, timeout: _, escalate_to: _ } = stage;
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

