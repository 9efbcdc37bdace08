//! How long what has ended is kept, with the whole story in its status. Nothing that hasn't ended is ever removed.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::api::{AccessGrant, AccessPolicySpec, AccessRequest, GoDuration, GrantPhase, RequestPhase, time};

/// How long it is kept when its policy says nothing, or there is none: 30 days.
pub const DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
/// So many ended requests of one requester are kept at most, whatever else is said; their grants are kept as long as ever.
pub const MOST_REQUESTS: usize = 500;

/// When an ended request is to be removed: so long after its end as its policy says. `None`: it hasn't ended.
pub fn of_request(request: &AccessRequest, policy: Option<&AccessPolicySpec>) -> Option<DateTime<Utc>> {
    kept(ended(request)?, policy.and_then(|policy| policy.retention.as_ref()))
}

/// When the record of an ended access is to be removed: so long after its end as its policy said when it was granted. `None`: it hasn't ended.
pub fn of_grant(grant: &AccessGrant) -> Option<DateTime<Utc>> {
    let status = grant
        .status
        .as_ref()
        .filter(|status| status.phase == Some(GrantPhase::Ended))?;
    let ended = status.end.as_ref()?.at.as_ref().and_then(time::from_kubernetes)?;
    kept(ended, grant.spec.retention.as_ref())
}

/// Those of a requester's ended requests that are too many: the ones that ended first.
pub fn surplus<'a>(requester: &str, requests: impl IntoIterator<Item = &'a AccessRequest>) -> Vec<&'a AccessRequest> {
    let theirs = requests
        .into_iter()
        .filter(|request| request.username() == Some(requester));
    let mut over: Vec<_> = theirs
        .filter_map(|request| Some((ended(request)?, request.metadata.uid.as_deref(), request)))
        .collect();
    over.sort_by_key(|(ended, uid, _)| (*ended, *uid));
    let too_many = over.len().saturating_sub(MOST_REQUESTS);
    over.into_iter().take(too_many).map(|(_, _, request)| request).collect()
}

fn ended(request: &AccessRequest) -> Option<DateTime<Utc>> {
    let status = request
        .status
        .as_ref()
        .filter(|status| status.phase.is_some_and(RequestPhase::is_final))?;
    let timeline = status.timeline.as_ref()?;
    timeline.ended.as_ref().and_then(time::from_kubernetes)
}

/// One that means nothing, which can't be stored, removes nothing.
fn kept(ended: DateTime<Utc>, retention: Option<&GoDuration>) -> Option<DateTime<Utc>> {
    let retention = match retention {
        Some(retention) => retention.parse().ok()?,
        None => DEFAULT,
    };
    ended.checked_add_signed(chrono::Duration::from_std(retention).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AccessGrantStatus, End, EndReason};
    use crate::core::fixture::*;

    fn over(seconds: i64) -> AccessRequest {
        let mut request = stepped(said(stepped(observed(), 0), &[deny("bob")]), seconds).request;
        request.metadata.uid = Some(format!("uid-{seconds:05}"));
        request
    }

    #[test]
    fn an_ended_request_is_kept_as_long_as_its_policy_says_or_thirty_days() {
        let mut spec = policy_spec();
        assert_eq!(of_request(&over(5), Some(&spec)), Some(at(5 + 30 * 24 * 3600)));
        assert_eq!(of_request(&over(5), None), Some(at(5 + 30 * 24 * 3600)));
        spec.retention = Some(lasting("1h"));
        assert_eq!(of_request(&over(5), Some(&spec)), Some(at(3605)));
        spec.retention = Some(lasting("1d"));
        assert_eq!(
            of_request(&over(5), Some(&spec)),
            None,
            "what means nothing removes nothing"
        );
    }

    #[test]
    fn nothing_that_has_not_ended_is_ever_removed() {
        let spec = AccessPolicySpec {
            retention: Some(lasting("1s")),
            ..policy_spec()
        };
        for request in [observed(), stepped(observed(), 0), approved(), sealed()].map(|observed| observed.request) {
            assert_eq!(of_request(&request, Some(&spec)), None, "{request:?}");
        }
        let mut grant = bound().grant;
        grant.spec.retention = Some(lasting("1s"));
        assert_eq!(of_grant(&grant), None);
        let end = End {
            reason: EndReason::Expired,
            message: String::new(),
            at: Some(written(1800)),
        };
        let status = |phase| AccessGrantStatus {
            phase: Some(phase),
            end: Some(end.clone()),
            ..AccessGrantStatus::default()
        };
        grant.status = Some(status(GrantPhase::Ending));
        assert_eq!(of_grant(&grant), None, "something keeps its binding alive");
        grant.status = Some(status(GrantPhase::Ended));
        assert_eq!(of_grant(&grant), Some(at(1801)));
        grant.spec.retention = None;
        assert_eq!(of_grant(&grant), Some(at(1800 + 30 * 24 * 3600)));
    }

    #[test]
    fn of_a_requesters_ended_requests_the_oldest_beyond_the_bound_are_too_many() {
        let most = i64::try_from(MOST_REQUESTS).unwrap();
        let mut all: Vec<_> = (1..=most).rev().map(over).collect();
        all.push(stepped(observed(), 0).request);
        let mut of_another = over(0);
        of_another.spec.requester = Some(requester("alice2", &["dev"]));
        all.push(of_another);
        assert_eq!(surplus("alice", &all), Vec::<&AccessRequest>::new());
        all.extend([over(most + 1), over(most + 2)]);
        let uids: Vec<_> = surplus("alice", &all)
            .into_iter()
            .map(|request| request.metadata.uid.clone().unwrap())
            .collect();
        assert_eq!(uids, ["uid-00001", "uid-00002"]);
    }
}
