//! How much one requester may have at once under one policy: requests that wait, and accesses.
//!
//! Of two requests that are offered at the same moment the younger gives way. Of two grants that are made at the same moment whoever sees the other does:
//! both giving way is better than both passing. What others there are is found out by whoever asks; before a grant, and after it was made, afresh.

use chrono::{DateTime, Utc};

use super::offer;
use super::policy::Obstacle;
use crate::api::{AccessGrant, AccessPolicy, AccessRequest, AccessRequestStatus, Extended, Limits, time};

/// A requester, as a label's value can hold it: user names can't be one.
pub fn requester_digest(username: &str) -> String {
    const LENGTH: usize = 32;
    offer::sha256(&username).chars().take(LENGTH).collect()
}

/// What else a requester has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Others {
    /// Requests that are offered, and neither granted nor over.
    pub waiting: Vec<Waiting>,
    /// Grants that haven't ended.
    pub active: Vec<Active>,
}

/// A request that is offered, and neither granted nor over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    name: String,
    age: Age,
    /// The uid of its policy.
    under: String,
}

/// Who goes first among those that are offered: the older. Within a second, which is all that the API server tells, somebody must.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    created: DateTime<Utc>,
    uid: String,
}

/// A grant that hasn't ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    name: String,
    /// The uid of its policy.
    under: String,
}

impl Others {
    /// Whether a policy says how much one requester may have, so that this matters.
    pub fn matter(policy: &AccessPolicy) -> bool {
        policy.spec.limits.is_some()
    }

    /// What else the requester of `request` has, among all that there is.
    pub fn of<'a>(
        request: &AccessRequest,
        requests: impl IntoIterator<Item = &'a AccessRequest>,
        grants: impl IntoIterator<Item = &'a AccessGrant>,
    ) -> Self {
        let requests = requests.into_iter();
        let waiting = requests
            .filter(|other| other.username() == request.username() && other.metadata.uid != request.metadata.uid)
            .filter_map(Waiting::of);
        Self {
            waiting: waiting.collect(),
            active: Self::active(request, grants),
        }
    }

    /// The grants of the requester of `request` that haven't ended, but for its own.
    pub fn active<'a>(request: &AccessRequest, grants: impl IntoIterator<Item = &'a AccessGrant>) -> Vec<Active> {
        let grants = grants.into_iter();
        let of_others = grants.filter(|grant| {
            Some(grant.spec.requester.username.as_str()) == request.username()
                && Some(&grant.spec.request.uid) != request.metadata.uid.as_ref()
        });
        of_others
            .filter(|grant| !super::grant::has_ended(grant))
            .map(|grant| Active {
                name: grant.metadata.name.clone().unwrap_or_default(),
                under: grant.spec.policy.uid.clone(),
            })
            .collect()
    }
}

impl Waiting {
    fn of(request: &AccessRequest) -> Option<Self> {
        let status = request.status.as_ref().filter(|status| is_offered(status))?;
        let is_going = request.metadata.deletion_timestamp.is_some();
        (!is_going).then(|| Self {
            name: format!(
                "{}/{}",
                request.metadata.namespace.as_deref().unwrap_or_default(),
                request.metadata.name.as_deref().unwrap_or_default()
            ),
            age: Age::of(request),
            under: status
                .policy
                .as_ref()
                .map(|policy| policy.uid.clone())
                .unwrap_or_default(),
        })
    }
}

fn is_offered(status: &AccessRequestStatus) -> bool {
    status.offer.is_some() && status.is_undecided()
}

impl Age {
    fn of(request: &AccessRequest) -> Self {
        let created = request.metadata.creation_timestamp.as_ref();
        Self {
            created: created
                .and_then(time::from_kubernetes)
                .unwrap_or(DateTime::<Utc>::MAX_UTC),
            uid: request.metadata.uid.clone().unwrap_or_default(),
        }
    }
}

/// Why a request has to wait for others of its requester to be decided. `None`: it needn't.
pub fn too_many_waiting(policy: &AccessPolicy, request: &AccessRequest, others: &Others) -> Option<Obstacle> {
    let limit = limit(policy, |limits| limits.pending_per_requester)?;
    let own = request
        .status
        .as_ref()
        .filter(|status| is_offered(status))
        .map(|_| Age::of(request));
    // What isn't offered yet comes after all that are.
    let is_before = |other: &&Waiting| {
        policy.metadata.uid.as_ref() == Some(&other.under) && own.as_ref().is_none_or(|own| other.age < *own)
    };
    let before: Vec<_> = others.waiting.iter().filter(is_before).collect();
    (before.len() >= limit).then(|| {
        Obstacle::new(
            "TooManyPending",
            format!(
                "you have {} undecided under the policy {:?}, which takes {limit} at a time ({}); it goes on when one of them is decided or withdrawn",
                requests(before.len()),
                policy.metadata.name.as_deref().unwrap_or_default(),
                some(before.iter().map(|other| other.name.as_str())),
            ),
        )
    })
}

/// Why access can't be given while others of its requester last. The one that it takes over from isn't another. `None`: it can.
pub fn too_many_active(policy: &AccessPolicy, others: &[Active], extends: Option<&Extended>) -> Option<Obstacle> {
    let limit = limit(policy, |limits| limits.active_per_requester)?;
    let under: Vec<_> = others
        .iter()
        .filter(|other| policy.metadata.uid.as_ref() == Some(&other.under))
        .filter(|other| extends.is_none_or(|extended| extended.name != other.name))
        .collect();
    (under.len() >= limit).then(|| {
        Obstacle::new(
            "TooManyActive",
            format!(
                "its requester has access under the policy {:?} already, which gives {limit} at a time ({}); it is granted when one of them ends",
                policy.metadata.name.as_deref().unwrap_or_default(),
                some(under.iter().map(|other| other.name.as_str())),
            ),
        )
    })
}

fn limit(policy: &AccessPolicy, which: impl Fn(&Limits) -> Option<i32>) -> Option<usize> {
    // What the schema refuses, less than one, is none at all.
    policy
        .spec
        .limits
        .as_ref()
        .and_then(which)
        .map(|limit| usize::try_from(limit).unwrap_or_default())
}

fn requests(number: usize) -> String {
    match number {
        1 => "1 request".to_owned(),
        several => format!("{several} requests"),
    }
}

/// A few names, and that there are more.
fn some<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    let more = names.len() > SHOWN;
    names.truncate(SHOWN);
    format!("{}{}", names.join(", "), if more { " and others" } else { "" })
}

#[cfg(test)]
mod tests;
