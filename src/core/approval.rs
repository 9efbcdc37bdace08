//! What the words spoken on a request amount to.
//!
//! Admission attests who spoke and what let them in; whether that counts is decided here, from the policy. Nothing here reads a status.

use std::collections::BTreeSet;

use super::identity;
use super::policy::required;
use crate::api::{AccessPolicySpec, Decision, People, Revokers, Stage, Verdict, marks};

/// The rules under which words are weighed.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Who asks; they may revoke, and never approve or deny.
    pub requester: &'a str,
    /// The stage that waits.
    pub stage: &'a Stage,
    /// Who may deny and revoke: the approvers of all stages.
    pub revokers: &'a Revokers,
    /// The digest of the offer that stands; `None` while none does.
    pub offer: Option<&'a str>,
    /// Whether an approval must name the offer's code.
    pub require_code: bool,
    /// Whether an approver must have presented a credential of their own.
    pub require_direct: bool,
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
    /// So many more people must approve.
    Waiting {
        /// How many.
        missing: i32,
    },
    /// Enough people approved; these decisions (by their place), the first that were enough, carried it.
    Approved {
        /// The places, in the order of the decisions.
        by: Vec<usize>,
    },
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
}

/// Weighs all words. The first denial or revocation that counts decides, wherever the approvals stand; else the approvals of different people do.
pub fn weigh(rules: Rules<'_>, decisions: &[Decision]) -> Weighing {
    let mut people = BTreeSet::new();
    let (mut by, mut end, mut effects) = (vec![], None, vec![]);
    for (place, decision) in decisions.iter().enumerate() {
        let verdict = match decision.verdict {
            Verdict::Approve => approval(rules, decision).and_then(|reason| {
                if people.insert(decision.username.as_str()) {
                    Ok(reason)
                } else {
                    Err("this person's approval is counted already".to_owned())
                }
            }),
            Verdict::Deny => denial(rules, decision),
            Verdict::Revoke => {
                revocation(rules.requester, rules.revokers, decision).map(|_| "it ends the request".to_owned())
            }
        };
        if verdict.is_ok() {
            match decision.verdict {
                Verdict::Approve => by.push(place),
                Verdict::Deny => end = end.or(Some(Outcome::Denied { by: place })),
                Verdict::Revoke => {
                    end = end.or(Some(Outcome::Revoked {
                        by: place,
                        by_requester: speaks_as_requester(rules.requester, decision),
                    }))
                }
            }
        }
        effects.push(match verdict {
            Ok(reason) => Effect { counts: true, reason },
            Err(reason) => Effect { counts: false, reason },
        });
    }
    let required = required(rules.stage).max(1);
    let missing = required.saturating_sub(i32::try_from(by.len()).unwrap_or(i32::MAX));
    // Those that came first carry it; whoever comes later changes nothing of what was granted.
    by.truncate(usize::try_from(required).unwrap_or(usize::MAX));
    let outcome = match end {
        Some(end) => end,
        None if missing > 0 => Outcome::Waiting { missing },
        None => Outcome::Approved { by },
    };
    Weighing { outcome, effects }
}

fn approval(rules: Rules<'_>, decision: &Decision) -> Result<String, String> {
    let Decision {
        verdict: _,
        username,
        uid: _,
        via,
        comment: _,
        offer,
        code,
        direct,
    } = decision;
    let Stage {
        name,
        approvers,
        required: _,
        timeout: _,
        escalate_to: _,
    } = rules.stage;
    if username == rules.requester {
        return Err("nobody approves their own request".into());
    }
    match rules.offer {
        Some(standing) if !standing.is_empty() && standing == offer => {}
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
    if via
        .iter()
        .any(|entry| identity::lets_in(entry, name, username, &approvers.usernames(), &approvers.groups))
    {
        Ok(format!("it counts in stage {name:?}"))
    } else {
        Err(format!("the policy doesn't name them as an approver of stage {name:?}"))
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

/// Who may deny and revoke under a policy: the approvers of all its stages.
pub fn revokers(policy: &AccessPolicySpec) -> Revokers {
    let mut all = Revokers::default();
    for Stage {
        name: _,
        approvers,
        required: _,
        timeout: _,
        escalate_to,
    } in policy.approval.iter().flat_map(|approval| &approval.stages)
    {
        for people in std::iter::once(approvers).chain(escalate_to) {
            let People {
                users: _,
                groups,
                service_accounts: _,
            } = people;
            all.users.extend(people.usernames());
            all.groups.extend(groups.iter().cloned());
        }
    }
    for names in [&mut all.users, &mut all.groups] {
        names.sort_unstable();
        names.dedup();
    }
    all
}

#[cfg(test)]
mod tests;
