//! How long what has ended is kept, with the whole story in its status. Nothing that hasn't ended is ever removed.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::api::condition;
use crate::api::{AccessGrant, AccessPolicySpec, AccessRequest, GoDuration, GrantPhase, RequestPhase, time};

/// How long it is kept when its policy says nothing, or there is none: 30 days.
pub const DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
/// So many ended requests of one requester are kept at most, whatever else is said; their grants are kept as long as ever.
pub const MOST_REQUESTS: usize = 500;

/// When an ended request is to be removed: so long after its end as its policy says; one that is still to be reviewed not before the record of its access,
/// its `grant`, if that is there. `None`: it hasn't ended.
pub fn of_request(
    request: &AccessRequest,
    policy: Option<&AccessPolicySpec>,
    grant: Option<&AccessGrant>,
) -> Option<DateTime<Utc>> {
    let until = kept(ended(request)?, policy.and_then(|policy| policy.retention.as_ref()))?;
    match grant.filter(|_| is_to_be_reviewed(request)) {
        Some(grant) => Some(of_grant(grant)?.max(until)),
        None => Some(until),
    }
}

fn is_to_be_reviewed(request: &AccessRequest) -> bool {
    let status = request.status.as_ref();
    let reviewed = status.and_then(|status| condition::get(&status.conditions, condition::REVIEWED));
    reviewed.is_some_and(|reviewed| reviewed.status != "True")
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

/// Those of a requester's ended requests that are too many: the ones that ended first. What is still to be reviewed is none of them: nobody pushes it out.
pub fn surplus<'a>(requester: &str, requests: impl IntoIterator<Item = &'a AccessRequest>) -> Vec<&'a AccessRequest> {
    let theirs = requests
        .into_iter()
        .filter(|request| request.username() == Some(requester));
    let mut over: Vec<_> = theirs
        .filter(|request| !is_to_be_reviewed(request))
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
    use crate::api::condition::Finding;
    use crate::api::{AccessGrantStatus, End, EndReason};
    use crate::core::fixture::*;
    use crate::core::grant;

    fn over(seconds: i64) -> AccessRequest {
        let mut request = stepped(said(stepped(observed(), 0), &[deny("bob")]), seconds).request;
        request.metadata.uid = Some(format!("uid-{seconds:05}"));
        request
    }

    #[test]
    fn an_ended_request_is_kept_as_long_as_its_policy_says_or_thirty_days() {
        let mut spec = policy_spec();
        assert_eq!(of_request(&over(5), Some(&spec), None), Some(at(5 + 30 * 24 * 3600)));
        assert_eq!(of_request(&over(5), None, None), Some(at(5 + 30 * 24 * 3600)));
        spec.retention = Some(lasting("1h"));
        assert_eq!(of_request(&over(5), Some(&spec), None), Some(at(3605)));
        spec.retention = Some(lasting("1d"));
        assert_eq!(
            of_request(&over(5), Some(&spec), None),
            None,
            "what means nothing removes nothing"
        );
    }

    #[test]
    fn what_is_still_to_be_reviewed_is_kept_as_long_as_its_grant_and_pushed_out_by_nothing() {
        let spec = AccessPolicySpec {
            retention: Some(lasting("1s")),
            ..policy_spec()
        };
        let mut grant = bound().grant;
        let end = grant::due(&grant, at(1800)).unwrap();
        grant.status = Some(grant::ended(&grant, end, at(1800)));
        let mut request = over(5);
        let reviewed = |request: &mut AccessRequest, finding| {
            let status = request.status.as_mut().unwrap();
            condition::set(&mut status.conditions, finding, None, at(6));
        };
        reviewed(&mut request, Finding::no(condition::REVIEWED, "Awaited", "soon"));
        let until = of_grant(&grant).unwrap();
        assert_eq!(of_request(&request, Some(&spec), Some(&grant)), Some(until));
        assert_eq!(
            of_request(&request, Some(&spec), None),
            Some(at(6)),
            "its grant is gone"
        );
        grant.spec.retention = Some(lasting("1s"));
        assert_eq!(
            of_request(&request, None, Some(&grant)),
            of_request(&request, None, None)
        );
        let most = i64::try_from(MOST_REQUESTS).unwrap();
        let mut all: Vec<_> = (6..most + 7).map(over).collect();
        all.push(request.clone());
        let pushed_out = |all: &[AccessRequest]| -> Vec<_> {
            let surplus = surplus("alice", all).into_iter();
            surplus.map(|request| request.metadata.uid.clone().unwrap()).collect()
        };
        assert_eq!(pushed_out(&all), ["uid-00006"]);
        reviewed(&mut request, Finding::yes(condition::REVIEWED, "Reviewed", "well"));
        assert_eq!(of_request(&request, Some(&spec), Some(&grant)), Some(at(6)));
        all.push(request);
        all.remove(all.len() - 2);
        assert_eq!(pushed_out(&all), ["uid-00005", "uid-00006"]);
    }

    #[test]
    fn nothing_that_has_not_ended_is_ever_removed() {
        let spec = AccessPolicySpec {
            retention: Some(lasting("1s")),
            ..policy_spec()
        };
        for request in [observed(), stepped(observed(), 0), approved(), sealed()].map(|observed| observed.request) {
            assert_eq!(of_request(&request, Some(&spec), None), None, "{request:?}");
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
