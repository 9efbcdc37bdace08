//! Extending an access: a new request that names its grant and is approved like any other. Its own grant takes over without a gap, and leaves none double:
//! the new bindings are made first, then the old ones go.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::facts::NamespaceFacts;
use super::grant;
use super::policy::{self, Ask, Obstacle};
use crate::api::{AccessGrant, AccessPolicy, Extended, GrantPhase, time};

/// Why an access can't be extended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not any more, and never again.
    Over(Obstacle),
    /// Not as it is asked for.
    Blocked(Obstacle),
}

/// Why the access that a request names can't be extended by it. `extended`: the grant of that name, if there is one. `None`: it can, or it names none.
pub fn refusal(
    policy: &AccessPolicy,
    ask: Ask<'_>,
    extended: Option<&AccessGrant>,
    now: DateTime<Utc>,
) -> Option<Refusal> {
    let name = ask.spec.extends.as_ref()?;
    let lasts = |grant: &&AccessGrant| {
        let phase = grant.status.as_ref().and_then(|status| status.phase);
        phase == Some(GrantPhase::Active) && grant::due(grant, now).is_none()
    };
    let Some(extended) = extended.filter(lasts) else {
        return Some(Refusal::Over(Obstacle::new(
            "NothingToExtend",
            format!("there is no active AccessGrant {name:?} to extend; make a new request without extends"),
        )));
    };
    let spec = &extended.spec;
    let place = |name: &str, uid: &str| (name.to_owned(), uid.to_owned());
    let granted: BTreeSet<_> = (spec.targets.iter())
        .map(|target| place(&target.namespace, &target.uid))
        .collect();
    let asked: BTreeSet<_> = (ask.targets.iter())
        .map(|NamespaceFacts { name, uid, .. }| place(name, uid))
        .collect();
    let another = [
        (spec.requester.username != ask.requester.username, "requester"),
        (Some(&spec.policy.uid) != policy.metadata.uid.as_ref(), "policy"),
        (spec.role.reference() != ask.spec.role, "role"),
        (granted != asked, "namespaces"),
    ];
    if let Some((_, what)) = another.into_iter().find(|(differs, _)| *differs) {
        return Some(Refusal::Blocked(Obstacle::new(
            "ExtendsAnother",
            format!("the AccessGrant {name:?} has another {what}; an extension asks for the same for longer"),
        )));
    }
    if policy.spec.approval.as_ref().is_some_and(policy::is_break_glass) && policy.spec.max_total_duration.is_none() {
        return Some(Refusal::Blocked(Obstacle::new(
            "ExtensionUnbounded",
            format!(
                "under the policy {:?} nobody approves, and it has no maxTotalDuration: its accesses can't be extended",
                policy.metadata.name.as_deref().unwrap_or_default()
            ),
        )));
    }
    let latest = latest(policy, ask, extended)?;
    (latest < now).then(|| Refusal::Over(too_long(policy, &taken_over(extended))))
}

/// The last moment at which an access can be extended so that the policy allows the sum. `None`: any.
pub fn latest(policy: &AccessPolicy, ask: Ask<'_>, extended: &AccessGrant) -> Option<DateTime<Utc>> {
    let lasts = policy::duration(&policy.spec, ask.spec).ok()?.parse().ok()?;
    let end = last_end(policy, &taken_over(extended))?;
    // What can't be counted can't be had either.
    let latest = chrono::Duration::from_std(lasts).ok();
    Some(
        latest
            .and_then(|lasts| end.checked_sub_signed(lasts))
            .unwrap_or(DateTime::<Utc>::MIN_UTC),
    )
}

/// Why a grant that takes over lasts too long. `None`: it doesn't.
pub fn lasts_too_long(policy: &AccessPolicy, grant: &AccessGrant) -> Option<Obstacle> {
    let extended = grant.spec.extends.as_ref()?;
    let end = last_end(policy, extended)?;
    (end < grant::deadline(grant)).then(|| too_long(policy, extended))
}

/// When the sum of an access and its extensions must have ended, if the policy says so.
fn last_end(policy: &AccessPolicy, extended: &Extended) -> Option<DateTime<Utc>> {
    let longest = policy.spec.max_total_duration.as_ref()?;
    let longest = longest
        .parse()
        .ok()
        .and_then(|longest| chrono::Duration::from_std(longest).ok());
    let since = time::from_kubernetes(&extended.since);
    let end = since
        .zip(longest)
        .and_then(|(since, longest)| since.checked_add_signed(longest));
    Some(end.unwrap_or(DateTime::<Utc>::MIN_UTC))
}

fn too_long(policy: &AccessPolicy, extended: &Extended) -> Obstacle {
    let longest = policy.spec.max_total_duration.as_ref();
    Obstacle::new(
        "TotalTooLong",
        format!(
            "the access has lasted since {} and may last {} with all its extensions; make a new request that is shorter",
            extended.since.0,
            longest.map(|longest| longest.as_str()).unwrap_or_default()
        ),
    )
}

/// What a grant says of the one that it takes over from.
pub fn taken_over(extended: &AccessGrant) -> Extended {
    let begun = || {
        extended
            .spec
            .start_time
            .clone()
            .or(extended.metadata.creation_timestamp.clone())
    };
    let since = extended
        .spec
        .extends
        .as_ref()
        .map(|first| first.since.clone())
        .or_else(begun);
    Extended {
        name: extended.metadata.name.clone().unwrap_or_default(),
        uid: extended.metadata.uid.clone().unwrap_or_default(),
        // What has no beginning has lasted for ever.
        since: since.unwrap_or_else(|| time::to_kubernetes(DateTime::<Utc>::MIN_UTC)),
    }
}

/// Whether a grant is to take over from this one.
pub fn extends(successor: &AccessGrant, from: &AccessGrant) -> bool {
    let extended = successor.spec.extends.as_ref();
    extended.is_some_and(|extended| Some(&extended.uid) == from.metadata.uid.as_ref())
}

/// Whether a grant has taken over from this one: its bindings are there.
pub fn has_taken_over(successor: &AccessGrant, from: &AccessGrant) -> bool {
    extends(successor, from) && successor.status.as_ref().and_then(|status| status.phase) == Some(GrantPhase::Active)
}

#[cfg(test)]
mod tests;
