use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::api::{AccessGrantStatus, GrantPhase, RequestPhase, Seal, condition};
use crate::core::fixture::*;
use crate::core::request::{Observed, Plan, decide};

fn limited(pending: Option<i32>, active: Option<i32>) -> AccessPolicy {
    let mut policy = policy("standard");
    policy.spec.limits = Some(Limits {
        active_per_requester: active,
        pending_per_requester: pending,
    });
    policy
}

fn under_limits(pending: Option<i32>, active: Option<i32>) -> Observed {
    Observed {
        policies: vec![limited(pending, active)],
        ..observed()
    }
}

/// Another request of alice's, offered, so many seconds older or younger.
fn another(name: &str, seconds: i64) -> AccessRequest {
    let mut other = stepped(observed(), 1).request;
    other.metadata = ObjectMeta {
        namespace: Some("team-a".into()),
        creation_timestamp: Some(written(seconds)),
        ..metadata(name)
    };
    other
}

fn grant_of(name: &str) -> AccessGrant {
    let mut asked = approved();
    asked.request.metadata = ObjectMeta {
        namespace: Some("team-a".into()),
        ..metadata(name)
    };
    let digest = offer(&asked);
    asked.request.spec.decisions = vec![approve("bob", &digest)];
    granted(&asked, 2)
}

fn accepted(observed: &Observed) -> String {
    let status = published(observed, 5);
    let accepted = condition::get(&status.conditions, condition::ACCEPTED).unwrap().clone();
    accepted.reason
}

fn with_others(mut observed: Observed, requests: &[AccessRequest], grants: &[AccessGrant]) -> Observed {
    observed.others = Others::of(&observed.request, requests, grants);
    observed
}

#[test]
fn a_request_beyond_those_that_wait_is_offered_when_one_of_them_no_longer_does() {
    let waiting = another("older", -10);
    let second = with_others(under_limits(Some(1), None), std::slice::from_ref(&waiting), &[]);
    let blocked = published(&second, 5);
    assert_eq!((accepted(&second).as_str(), blocked.offer), ("TooManyPending", None));
    let message = blocked.message.unwrap();
    assert!(
        message.contains("team-a/older") && message.contains("1 at a time"),
        "{message}"
    );

    let two_may = with_others(under_limits(Some(2), None), std::slice::from_ref(&waiting), &[]);
    assert_eq!(accepted(&two_may), "Offered");
    let mut decided = waiting.clone();
    decided.status.as_mut().unwrap().phase = Some(RequestPhase::Denied);
    let mut sealed = waiting.clone();
    sealed.status.as_mut().unwrap().seal = Some(Seal {
        grant: "g".into(),
        uid: "u".into(),
    });
    let mut unoffered = waiting.clone();
    unoffered.status.as_mut().unwrap().offer = None;
    let mut of_another = waiting.clone();
    of_another.spec.requester = Some(requester("alice2", &["dev"]));
    let mut under_another = waiting.clone();
    under_another.status.as_mut().unwrap().policy.as_mut().unwrap().uid = "other".into();
    let mut going = waiting;
    going.metadata.deletion_timestamp = Some(written(1));
    for other in [decided, sealed, unoffered, of_another, under_another, going] {
        let second = with_others(under_limits(Some(1), None), std::slice::from_ref(&other), &[]);
        assert_eq!(accepted(&second), "Offered", "{other:?}");
    }
}

#[test]
fn who_waits_is_told_for_how_many_and_for_which_of_them_a_few() {
    for (number, told) in [
        (
            1,
            "you have 1 request undecided under the policy \"standard\", which takes 1 at a time (team-a/look-0)",
        ),
        (
            3,
            "you have 3 requests undecided under the policy \"standard\", which takes 1 at a time (team-a/look-0, team-a/look-1, team-a/look-2)",
        ),
        (4, "(team-a/look-0, team-a/look-1, team-a/look-2 and others)"),
    ] {
        let waiting: Vec<_> = (0..number)
            .map(|number| another(&format!("look-{number}"), -10))
            .collect();
        let blocked = published(&with_others(under_limits(Some(1), None), &waiting, &[]), 5);
        let message = blocked.message.unwrap();
        assert!(message.contains(told), "{message}");
    }
}

#[test]
fn others_are_looked_for_only_where_a_policy_limits_them() {
    assert!(!Others::matter(&policy("standard")));
    assert!(Others::matter(&limited(Some(1), None)));
}

#[test]
fn a_request_never_waits_for_itself() {
    let observed = stepped(under_limits(Some(1), Some(1)), 1);
    let itself = observed.request.clone();
    assert_eq!(accepted(&with_others(observed, &[itself], &[])), "Offered");
}

#[test]
fn however_many_are_offered_at_one_moment_as_many_as_may_stay_and_they_are_the_oldest() {
    for (limit, ages) in [
        (1, vec![0, 0]),
        (1, vec![3, 1, 2]),
        (2, vec![0, 0, 0, -1]),
        (3, vec![1, 2]),
    ] {
        let offered: Vec<_> = ages
            .iter()
            .enumerate()
            .map(|(place, age)| another(&format!("look-{place}"), *age))
            .collect();
        let stays = |request: &AccessRequest| {
            let mut observed = under_limits(Some(limit), None);
            observed.request = request.clone();
            accepted(&with_others(observed, &offered, &[])) == "Offered"
        };
        let (mut stay, mut go): (Vec<_>, Vec<_>) = offered.iter().partition(|request| stays(request));
        let created = |request: &&AccessRequest| request.metadata.creation_timestamp.clone().unwrap().0;
        stay.sort_by_key(created);
        go.sort_by_key(created);
        assert_eq!(
            stay.len(),
            ages.len().min(usize::try_from(limit).unwrap()),
            "{limit} of {ages:?}"
        );
        if let (Some(last), Some(first)) = (stay.last(), go.first()) {
            assert!(created(last) <= created(first), "{limit} of {ages:?}");
        }
    }
}

#[test]
fn what_is_approved_beyond_the_limit_waits_until_another_ends() {
    let mut asked = approved();
    asked.policies = vec![limited(None, Some(1))];
    let digest = offer(&asked);
    asked.request.spec.decisions = vec![approve("bob", &digest)];
    let another = grant_of("older");
    let waits = with_others(asked.clone(), &[], std::slice::from_ref(&another));
    let status = published(&waits, 5);
    let granted = condition::get(&status.conditions, condition::GRANTED).unwrap();
    assert_eq!(
        (granted.status.as_str(), granted.reason.as_str()),
        ("False", "TooManyActive")
    );
    assert!(granted.message.contains("grant-uid-of-older"), "{}", granted.message);
    assert_eq!(status.phase, Some(RequestPhase::Approved));

    let mut ended = another.clone();
    ended.status = Some(AccessGrantStatus {
        phase: Some(GrantPhase::Ended),
        ..AccessGrantStatus::default()
    });
    let mut of_another = another.clone();
    of_another.spec.requester.username = "alice2".into();
    let mut under_another = another;
    under_another.spec.policy.uid = "other".into();
    for other in [ended, of_another, under_another] {
        let now = with_others(asked.clone(), &[], std::slice::from_ref(&other));
        assert!(matches!(decide(&now, at(5)), Plan::Grant { .. }), "{other:?}");
    }
}

#[test]
fn of_two_grants_made_at_one_moment_the_one_that_sees_the_other_is_never_sealed() {
    let mut asked = approved();
    asked.policies = vec![limited(None, Some(1))];
    let digest = offer(&asked);
    asked.request.spec.decisions = vec![approve("bob", &digest)];
    asked.grant = Some(granted(&asked, 5));
    let own = asked.grant.clone().unwrap();
    let alone = with_others(asked.clone(), &[], std::slice::from_ref(&own));
    assert!(published(&alone, 5).seal.is_some(), "it doesn't give way to itself");

    let gives_way = published(&with_others(asked, &[], &[own, grant_of("other")]), 5);
    assert_eq!((gives_way.seal, gives_way.phase), (None, Some(RequestPhase::Failed)));
    let ended = condition::get(&gives_way.conditions, condition::ENDED).unwrap();
    assert_eq!(ended.reason, "TooManyActive");
}

#[test]
fn a_requester_is_told_by_a_digest_that_a_label_can_hold() {
    let digest = requester_digest("system:serviceaccount:ci:bot");
    assert_eq!(digest.len(), 32);
    assert!(digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
    assert_ne!(digest, requester_digest("system:serviceaccount:ci:bob"));
}
