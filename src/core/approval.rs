//! What the words spoken on a request amount to.
//!
//! Admission attests who spoke and what let them in; whether that counts is decided here, from the policy. Nothing here reads a status.

mod chain;
mod progress;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use self::progress::Progress;
pub use self::progress::{Open, TimedOut};
use super::{identity, policy};
use crate::api::{AccessPolicySpec, Approval, Decision, MOST_REVOKERS, People, Revokers, Stage, Verdict, marks};

/// The rules under which words are weighed.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Who asks; they may revoke, and never approve or deny.
    pub requester: &'a str,
    /// Whose word it takes.
    pub approval: &'a Approval,
    /// Who may deny and revoke: the approvers of all stages, or the reviewers.
    pub revokers: &'a Revokers,
    /// The offer that stands; `None` while none does.
    pub offer: Option<StandingOffer<'a>>,
    /// Whether an approval must name the offer's code.
    pub require_code: bool,
    /// Whether an approver must have presented a credential of their own.
    pub require_direct: bool,
}

/// An offer that can be approved.
#[derive(Clone, Copy, Debug)]
pub struct StandingOffer<'a> {
    /// Its digest.
    pub digest: &'a str,
    /// Since when it stands. The first stage waits from then on.
    pub since: DateTime<Utc>,
}

/// A word, and when the operator first saw it: admission has no clock.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    /// What was said.
    pub decision: &'a Decision,
    /// When it was first seen.
    pub first_seen: DateTime<Utc>,
}

/// What became of one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Whether it counts.
    pub counts: bool,
    /// Why, in one sentence.
    pub reason: String,
}

/// What all words together amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// More people must approve, in these stages.
    Waiting {
        /// The stages, in their order.
        open: Vec<Open>,
    },
    /// Enough people approved; these decisions (by their place), the first that were enough, carried it. None where it takes nobody's word.
    Approved {
        /// The places, in the order of the decisions.
        by: Vec<usize>,
    },
    /// A stage wasn't decided in time.
    TimedOut(TimedOut),
    /// Somebody who may said no. Final, wherever it stands in the list.
    Denied {
        /// The place of the denial.
        by: usize,
    },
    /// Somebody who may ended it. Final too.
    Revoked {
        /// The place of the revocation.
        by: usize,
        /// Whether it was the requester.
        by_requester: bool,
    },
}

/// The outcome, and the effect of each decision in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighing {
    /// What it amounts to.
    pub outcome: Outcome,
    /// What became of each decision.
    pub effects: Vec<Effect>,
    /// The stages that escalated, by their place, and when.
    pub escalations: Vec<(usize, DateTime<Utc>)>,
    /// When time alone makes it another.
    pub wake: Option<DateTime<Utc>>,
}

/// Weighs all words. The first denial or revocation that counts decides, wherever the approvals stand; else the approvals of different people do.
pub fn weigh(rules: Rules<'_>, words: &[Word<'_>], now: DateTime<Utc>) -> Weighing {
    let mut progress = Progress::new(rules.approval, rules.offer.map_or(now, |offer| offer.since));
    let mut people = BTreeSet::new();
    let (mut end, mut effects) = (None, vec![]);
    for (place, Word { decision, first_seen }) in words.iter().enumerate() {
        progress.pass(*first_seen);
        let heard = match decision.verdict {
            Verdict::Approve => approval(rules, decision, &progress).and_then(|may| {
                if people.insert(decision.username.as_str()) {
                    progress.approves(place, may);
                    // In which stage it counts is known when all were heard.
                    Ok(String::new())
                } else {
                    Err("this person's approval is counted already".to_owned())
                }
            }),
            Verdict::Deny => denial(rules, decision).inspect(|_| {
                end.get_or_insert(Outcome::Denied { by: place });
            }),
            Verdict::Revoke => revocation(rules.requester, rules.revokers, decision).map(|()| {
                end.get_or_insert(Outcome::Revoked {
                    by: place,
                    by_requester: speaks_as_requester(rules.requester, decision),
                });
                "it ends the request".to_owned()
            }),
            Verdict::Review => Err("no access was given that could be reviewed".to_owned()),
        };
        effects.push(heard);
    }
    progress.pass(now);
    let outcome = end.unwrap_or_else(|| outcome(rules, &progress, words.len()));
    let places = words.iter().zip(effects).enumerate();
    Weighing {
        effects: places
            .map(|(place, (word, heard))| effect(place, word.decision.verdict, heard, &progress))
            .collect(),
        wake: match &outcome {
            Outcome::Waiting { .. } => progress.next_timeout().map(|(at, _)| at),
            Outcome::Approved { .. } | Outcome::TimedOut(_) | Outcome::Denied { .. } | Outcome::Revoked { .. } => None,
        },
        outcome,
        escalations: progress.escalations(),
    }
}

/// What the approvals amount to.
fn outcome(rules: Rules<'_>, progress: &Progress<'_>, words: usize) -> Outcome {
    if let Some(timed_out) = progress.timed_out() {
        return Outcome::TimedOut(timed_out);
    }
    let counts = |place: &usize| progress.counts_in(*place).is_some();
    match rules.offer {
        None => Outcome::Waiting { open: vec![] },
        // Written out, and never by what is missing.
        Some(_) if policy::is_break_glass(rules.approval) => Outcome::Approved { by: vec![] },
        Some(_) if rules.approval.break_glass.is_none() && progress.is_met() => Outcome::Approved {
            by: (0..words).filter(counts).collect(),
        },
        Some(_) => Outcome::Waiting { open: progress.open() },
    }
}

fn effect(place: usize, verdict: Verdict, heard: Result<String, String>, progress: &Progress<'_>) -> Effect {
    let (counts, reason) = match (verdict, heard) {
        (_, Err(reason)) => (false, reason),
        (Verdict::Deny | Verdict::Revoke | Verdict::Review, Ok(reason)) => (true, reason),
        (Verdict::Approve, Ok(_)) => match progress.counts_in(place) {
            Some(stage) => (true, format!("it counts in stage {:?}", stage.name)),
            None => (false, "enough people approved without it".to_owned()),
        },
    };
    Effect { counts, reason }
}

/// The stages in which an approval may count.
fn approval(rules: Rules<'_>, decision: &Decision, progress: &Progress<'_>) -> Result<BTreeSet<usize>, String> {
    let Decision {
        verdict: _,
        username,
        uid: _,
        via: _,
        comment: _,
        offer,
        code,
        direct,
    } = decision;
    if username == rules.requester {
        return Err("nobody approves their own request".into());
    }
    match rules.offer {
        Some(standing) if !standing.digest.is_empty() && standing.digest == offer => {}
        Some(_) => return Err("what was approved has changed since; it needs a new word".into()),
        None => return Err("there is no offer that it could be for".into()),
    }
    if rules.require_code
        && code
            .as_deref()
            .is_none_or(|code| code.is_empty() || code != super::offer::code(offer))
    {
        return Err("the policy wants the offer's code with every approval".into());
    }
    if rules.require_direct && !direct {
        return Err("the policy wants approvers to present a credential of their own".into());
    }
    if progress.timed_out().is_some() {
        return Err("it came after the time that there was to decide".into());
    }
    let is_let_in = |stage: &usize| lets_in(decision, &rules.approval.stages, *stage, progress);
    let stages = 0..rules.approval.stages.len();
    if stages.clone().any(|stage| progress.is_open(stage) && is_let_in(&stage)) {
        Ok(stages
            .filter(|stage| may_count(decision, &rules.approval.stages, *stage, progress))
            .collect())
    } else {
        Err(format!(
            "the policy doesn't name them as an approver of {}",
            open_stages(&rules.approval.stages, progress)
        ))
    }
}

/// Those who may approve in a stage now: its approvers and, once it has escalated, those it escalates to.
fn approvers<'a>(stages: &'a [Stage], stage: usize, progress: &Progress<'_>) -> (&'a str, Vec<&'a People>) {
    let Some(Stage {
        name,
        approvers,
        required: _,
        timeout: _,
        escalate_to,
    }) = stages.get(stage)
    else {
        return ("", vec![]);
    };
    let escalated = escalate_to.iter().filter(|_| progress.has_escalated(stage));
    (name, std::iter::once(approvers).chain(escalated).collect())
}

/// Whether what let them speak was this stage.
fn lets_in(decision: &Decision, stages: &[Stage], stage: usize, progress: &Progress<'_>) -> bool {
    let (name, approvers) = approvers(stages, stage, progress);
    approvers.iter().any(|people| {
        let usernames = people.usernames();
        let mut entries = decision.via.iter();
        entries.any(|entry| identity::lets_in(entry, name, &decision.username, &usernames, &people.groups))
    })
}

/// Whether they are an approver of this stage, by whatever let them speak: a group that they are in is one in every stage.
fn may_count(decision: &Decision, stages: &[Stage], stage: usize, progress: &Progress<'_>) -> bool {
    let (_, approvers) = approvers(stages, stage, progress);
    approvers.iter().any(|people| identity::is_one_of(people, decision))
}

fn open_stages(stages: &[Stage], progress: &Progress<'_>) -> String {
    let open = stages.iter().enumerate().filter(|(place, _)| progress.is_open(*place));
    let names: Vec<_> = open.map(|(_, stage)| format!("{:?}", stage.name)).collect();
    match names.as_slice() {
        [] => "a stage".to_owned(),
        [name] => format!("stage {name}"),
        several => format!("stages {}", several.join(" or ")),
    }
}

fn denial(rules: Rules<'_>, decision: &Decision) -> Result<String, String> {
    if decision.username == rules.requester {
        return Err("a requester revokes; denying is for approvers".into());
    }
    if is_revoker(rules.revokers, decision) {
        Ok("it is final".into())
    } else {
        Err("the policy doesn't name them as an approver".into())
    }
}

/// Whether a revocation counts: by the requester, or by an approver of whatever stage.
///
/// # Errors
/// Why it doesn't.
pub fn revocation(requester: &str, revokers: &Revokers, decision: &Decision) -> Result<(), String> {
    if speaks_as_requester(requester, decision) || is_revoker(revokers, decision) {
        Ok(())
    } else {
        Err("neither the requester nor an approver of the policy".into())
    }
}

fn speaks_as_requester(requester: &str, decision: &Decision) -> bool {
    decision.username == requester && decision.via.iter().any(|entry| entry == marks::VIA_REQUESTER)
}

fn is_revoker(revokers: &Revokers, decision: &Decision) -> bool {
    let Revokers { users, groups } = revokers;
    decision
        .via
        .iter()
        .any(|entry| identity::lets_in(entry, marks::VIA_ANY_STAGE, &decision.username, users, groups))
}

/// Who may deny and revoke under a policy: the approvers of all its stages, or who reviews what nobody approves. As many as a request has room for; a policy
/// that names more isn't Ready.
pub fn revokers(policy: &AccessPolicySpec) -> Revokers {
    let mut all = all_revokers(policy);
    all.users.truncate(MOST_REVOKERS);
    all
}

/// All of them.
pub fn all_revokers(policy: &AccessPolicySpec) -> Revokers {
    let mut all = Revokers::default();
    let stages = policy::stages(policy).iter().flat_map(policy::everybody);
    for people in stages.chain(policy.review.iter().map(|review| &review.approvers)) {
        all.users.extend(people.usernames());
        all.groups.extend(people.groups.iter().cloned());
    }
    for names in [&mut all.users, &mut all.groups] {
        names.sort_unstable();
        names.dedup();
    }
    all
}

#[cfg(test)]
mod stages;
#[cfg(test)]
mod tests;
