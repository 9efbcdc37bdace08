//! Looking at break-glass access afterwards: who may, by when, and what is said of it.
//!
//! A review ends nothing and allows nothing. What is wanted is fixed with the grant, and so is told of an access whose request or policy is gone.

use chrono::{DateTime, Utc};

use super::policy::{self, Obstacle};
use super::{grant, identity, retention};
use crate::api::condition::{self, Finding};
use crate::api::{
    AccessGrant, AccessGrantSpec, AccessGrantStatus, AccessPolicySpec, AccessRequest, Decision, GoDuration,
    GrantedReview, RequestPhase, Review, Reviewers, Verdict, marks, time,
};

/// How soon access is to be reviewed when its policy doesn't say.
const DEFAULT_WITHIN: &str = "24h";

/// Why the review that a policy wants can't be had.
pub fn flaw(policy: &AccessPolicySpec) -> Option<Obstacle> {
    let Review { approvers, within } = policy.review.as_ref()?;
    let within = within.clone().unwrap_or_else(|| GoDuration::new(DEFAULT_WITHIN));
    let kept = match &policy.retention {
        Some(retention) => retention.parse().ok(),
        None => Some(retention::DEFAULT),
    };
    let approval = policy.approval.as_ref();
    let message = if !approval.is_some_and(policy::is_break_glass) {
        "review goes with approval.breakGlass: it is of access that nobody approved; take it out, or use stages with approvers alone".to_owned()
    } else if approvers.is_empty() {
        "review.approvers names nobody; add users, groups or serviceAccounts".to_owned()
    } else if within.parse().ok() > kept {
        format!("review.within {within} is longer than records are kept; make it shorter, or retention longer")
    } else {
        return None;
    };
    Some(Obstacle::new("InvalidReview", message))
}

/// The review that an access given under this policy is to have, if any.
pub fn wanted(policy: &AccessPolicySpec) -> Option<GrantedReview> {
    let Review { approvers, within } = policy.review.as_ref()?;
    let gives_unapproved = policy.approval.as_ref().is_some_and(policy::is_break_glass);
    gives_unapproved.then(|| GrantedReview {
        reviewers: Reviewers {
            users: approvers.usernames(),
            groups: approvers.groups.clone(),
        },
        within: within.clone().unwrap_or_else(|| GoDuration::new(DEFAULT_WITHIN)),
        require_direct: policy.require_direct,
    })
}

/// Whether a word is a review of this access that counts.
///
/// # Errors
/// Why it doesn't.
pub fn counts(spec: &AccessGrantSpec, word: &Decision) -> Result<(), String> {
    let Some(GrantedReview {
        reviewers: Reviewers { users, groups },
        within: _,
        require_direct,
    }) = &spec.review
    else {
        return Err("the policy wants no review of it".into());
    };
    let names_them = |entry: &String| identity::lets_in(entry, marks::VIA_REVIEW, &word.username, users, groups);
    if word.username == spec.requester.username {
        Err("nobody reviews their own access".into())
    } else if *require_direct && !word.direct {
        Err("the policy wants reviewers to present a credential of their own".into())
    } else if !word.via.iter().any(names_them) {
        Err("the policy doesn't name them as a reviewer".into())
    } else {
        Ok(())
    }
}

/// Until when an access is to be reviewed, if it is.
pub fn due(grant: &AccessGrant) -> Option<DateTime<Utc>> {
    let within = grant.spec.review.as_ref()?.within.parse().ok()?;
    grant::created(grant).checked_add_signed(chrono::Duration::from_std(within).ok()?)
}

/// What is said when access has just been given.
pub(super) fn awaited(grant: &AccessGrant) -> Option<Finding> {
    let message = format!(
        "nobody approved it, and it is to be reviewed before {}",
        time::written(due(grant)?)
    );
    Some(Finding::no(condition::REVIEWED, "Awaited", message))
}

/// The grant's status with what is to be said of its review by now. `None`: there is nothing to say, for none is wanted or no access was given.
/// `request`: the object that has the request's name now, if any.
pub fn status(grant: &AccessGrant, request: Option<&AccessRequest>, now: DateTime<Utc>) -> Option<AccessGrantStatus> {
    let mut status = grant.status.clone()?;
    condition::get(&status.conditions, condition::REVIEWED)?;
    let request = request.filter(|request| request.metadata.uid.as_ref() == Some(&grant.spec.request.uid));
    if request.is_some_and(was_never_granted) {
        condition::remove(&mut status.conditions, condition::REVIEWED);
        return Some(status);
    }
    let is_review = |word: &&Decision| word.verdict == Verdict::Review && counts(&grant.spec, word).is_ok();
    // What was said once stays said, whatever becomes of the request.
    if status.review.is_none() {
        status.review = request.and_then(|request| request.spec.decisions.iter().find(is_review).cloned());
    }
    let due = due(grant)?;
    let finding = match &status.review {
        Some(Decision { username, comment, .. }) => {
            let comment = comment.iter().map(|comment| format!(": {comment:?}"));
            let message = format!("reviewed by {username:?}{}", comment.collect::<String>());
            Finding::yes(condition::REVIEWED, "Reviewed", message)
        }
        None if now < due => awaited(grant)?,
        None => {
            let too_late = match request {
                Some(_) => "it still can be",
                None => "nobody can any more, for its request was deleted",
            };
            let message = format!("nobody reviewed it before {}; {too_late}", time::written(due));
            Finding::no(condition::REVIEWED, "Overdue", message)
        }
    };
    condition::set(&mut status.conditions, finding, grant.metadata.generation, now);
    Some(status)
}

/// Whether a request ended before it was sealed: then nothing was bound.
fn was_never_granted(request: &AccessRequest) -> bool {
    let status = request.status.as_ref();
    status.is_some_and(|status| status.seal.is_none() && status.phase.is_some_and(RequestPhase::is_final))
}

/// When time alone makes it overdue.
pub fn wake(status: &AccessGrantStatus, grant: &AccessGrant, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    due(grant).filter(|due| status.review.is_none() && now < *due)
}

/// How far a review is that is still to be done: `Awaited` or `Overdue`.
pub fn outstanding(grant: &AccessGrant) -> Option<&'static str> {
    told(grant)
        .filter(|told| told.holds == Some(false))
        .map(|told| told.reason)
}

/// What the grant's status says of its review, for its request to say too.
pub(super) fn told(grant: &AccessGrant) -> Option<Finding> {
    let conditions = &grant.status.as_ref()?.conditions;
    let told = condition::get(conditions, condition::REVIEWED)?;
    let message = told.message.clone();
    Some(match told.reason.as_str() {
        "Reviewed" => Finding::yes(condition::REVIEWED, "Reviewed", message),
        "Overdue" => Finding::no(condition::REVIEWED, "Overdue", message),
        _ => Finding::no(condition::REVIEWED, "Awaited", message),
    })
}

#[cfg(test)]
mod tests;
