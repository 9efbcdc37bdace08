use super::*;
use crate::api::{Approval, BreakGlass, EndReason, RequestPhase};
use crate::core::fixture::*;
use crate::core::grant::Why;
use crate::core::request::Plan;
use crate::core::{approval, request};

fn reviewed_policy() -> AccessPolicySpec {
    let approvers = crate::api::People {
        users: strings(&["dave"]),
        groups: strings(&["audit"]),
        service_accounts: vec![],
    };
    AccessPolicySpec {
        approval: Some(Approval {
            break_glass: Some(BreakGlass {}),
            ..Approval::default()
        }),
        review: Some(Review {
            approvers,
            within: Some(lasting("2h")),
        }),
        ..policy_spec()
    }
}

fn review(username: &str) -> Decision {
    let mut word = word(Verdict::Review, username, &[&format!("review/User:{username}")], "");
    word.comment = Some("it was needed".into());
    word
}

/// Alice has broken the glass at second 0 and is bound; her request is as it was sealed.
fn broken() -> (request::Observed, AccessGrant) {
    let mut observed = stepped(observed(), 0);
    observed.policies[0].spec = reviewed_policy();
    observed.request.spec.policy = observed.policies[0].metadata.name.clone();
    let mut grant = granted(&observed, 0);
    observed.grant = Some(grant.clone());
    let mut observed = stepped(observed, 0);
    let binding = stored_binding(&grant);
    grant.status = Some(grant::active(&grant, vec![record(&binding)], at(1)));
    observed.grant = Some(grant.clone());
    (observed, grant)
}

/// The same after the grant said what there was to say at this moment.
fn told_at(mut observed: request::Observed, seconds: i64) -> request::Observed {
    let grant = observed.grant.as_mut().unwrap();
    grant.status = status(grant, Some(&observed.request), at(seconds));
    observed
}

fn reason(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> (String, String) {
    let reviewed = condition::get(conditions, condition::REVIEWED).unwrap();
    (reviewed.status.clone(), reviewed.reason.clone())
}

fn of_grant(observed: &request::Observed) -> (String, String) {
    reason(&observed.grant.as_ref().unwrap().status.as_ref().unwrap().conditions)
}

fn said_of(holds: &str, reason: &str) -> (String, String) {
    (holds.into(), reason.into())
}

#[test]
fn what_nobody_approved_awaits_a_review_is_overdue_when_none_comes_and_reviewed_when_one_does() {
    let (observed, grant) = broken();
    assert_eq!(of_grant(&observed), said_of("False", "Awaited"));
    assert_eq!(outstanding(&grant), Some("Awaited"));
    assert_eq!(due(&grant), Some(at(7200)));
    let told = status(&grant, Some(&observed.request), at(7199)).unwrap();
    assert_eq!(reason(&told.conditions), said_of("False", "Awaited"));
    assert_eq!(wake(&told, &grant, at(7199)), Some(at(7200)));

    let overdue = told_at(observed.clone(), 7200);
    assert_eq!(of_grant(&overdue), said_of("False", "Overdue"));
    assert_eq!(outstanding(overdue.grant.as_ref().unwrap()), Some("Overdue"));
    let told = overdue.grant.as_ref().unwrap().status.clone().unwrap();
    assert_eq!(wake(&told, &grant, at(7200)), None);

    for before in [observed, overdue] {
        let reviewed = told_at(said(before, &[review("dave")]), 7201);
        assert_eq!(of_grant(&reviewed), said_of("True", "Reviewed"));
        let grant = reviewed.grant.as_ref().unwrap();
        assert_eq!(outstanding(grant), None);
        let status = grant.status.clone().unwrap();
        assert_eq!(status.review, Some(review("dave")));
        let message = &condition::get(&status.conditions, condition::REVIEWED).unwrap().message;
        assert_eq!(message, r#"reviewed by "dave": "it was needed""#);
        assert_eq!(wake(&status, grant, at(100)), None);
    }
}

#[test]
fn a_request_says_of_its_review_what_its_grant_says_after_its_end_too() {
    let (observed, _) = broken();
    let reviewers = observed.request.status.as_ref().unwrap().reviewers.clone().unwrap();
    assert_eq!(
        (reviewers.users, reviewers.groups),
        (strings(&["dave"]), strings(&["audit"]))
    );
    let active = published(&observed, 1);
    assert_eq!(active.phase, Some(RequestPhase::Active));
    assert_eq!(reason(&active.conditions), said_of("False", "Awaited"));

    let mut over = stepped(observed, 1);
    let grant = over.grant.as_mut().unwrap();
    let expired = grant::due(grant, at(1800)).unwrap();
    grant.status = Some(grant::ended(grant, expired, at(1800)));
    let over = stepped(over, 1801);
    assert_eq!(over.request.status.as_ref().unwrap().phase, Some(RequestPhase::Expired));
    assert_eq!(
        reason(&over.request.status.as_ref().unwrap().conditions),
        said_of("False", "Awaited")
    );

    let ended = over.request.status.clone().unwrap().timeline.unwrap().ended;
    let reviewed = stepped(told_at(said(over, &[review("dave"), review("mallory")]), 2000), 2001);
    let status = reviewed.request.status.clone().unwrap();
    assert_eq!(reason(&status.conditions), said_of("True", "Reviewed"));
    assert_eq!(
        status.phase,
        Some(RequestPhase::Expired),
        "the end stays as it was told"
    );
    assert_eq!(status.timeline.unwrap().ended, ended);
    let heard: Vec<_> = status.decisions.iter().map(|heard| heard.reason.as_str()).collect();
    assert_eq!(
        heard,
        ["it reviews the access", "the policy doesn't name them as a reviewer"]
    );
    assert_eq!(
        published(&reviewed, 3000),
        reviewed.request.status.unwrap(),
        "it is told once"
    );
}

#[test]
fn an_ended_request_that_needs_no_review_is_never_told_of_again() {
    let mut observed = bound_request();
    let grant = observed.grant.as_mut().unwrap();
    grant.status = Some(grant::ended(grant, grant::due(grant, at(1800)).unwrap(), at(1800)));
    let mut over = said(stepped(observed, 1800), &[review("bob")]);
    assert_eq!(request::decide(&over, at(1801)), Plan::Rest);
    over.grant = None;
    assert_eq!(request::decide(&over, at(1801)), Plan::Rest);
    let (observed, _) = broken();
    let mut over = stepped(said(observed, &[withdraw()]), 2);
    over.request.status.as_mut().unwrap().phase = Some(RequestPhase::Revoked);
    over.grant = None;
    assert_eq!(request::decide(&over, at(3)), Plan::Rest, "its grant is gone");
}

/// Alice's request of the fixture, sealed, with the grant bound.
fn bound_request() -> request::Observed {
    let mut observed = sealed();
    let grant = observed.grant.as_mut().unwrap();
    let binding = stored_binding(grant);
    grant.status = Some(grant::active(grant, vec![record(&binding)], at(1)));
    observed
}

#[test]
fn only_a_reviewer_reviews_and_never_their_own_access() {
    let (observed, grant) = broken();
    let by_group = word(Verdict::Review, "erin", &["review/Group:audit"], "");
    assert_eq!(counts(&grant.spec, &review("dave")), Ok(()));
    assert_eq!(counts(&grant.spec, &by_group), Ok(()));
    let not_theirs = [
        review("bob"),
        review("alice"),
        word(Verdict::Review, "alice", &["review/Group:audit"], ""),
        word(Verdict::Review, "dave", &["review/User:alice"], ""),
        word(Verdict::Review, "dave", &["lead/User:dave"], ""),
        word(Verdict::Review, "dave", &["*/User:dave"], ""),
        word(
            Verdict::Review,
            "system:serviceaccount:ci:bot",
            &["review/Group:audit"],
            "",
        ),
        // What else they may say is no review.
        word(Verdict::Revoke, "dave", &["review/User:dave"], ""),
        word(Verdict::Deny, "dave", &["review/User:dave"], ""),
        word(Verdict::Approve, "dave", &["review/User:dave"], ""),
    ];
    for word in not_theirs {
        let told = told_at(said(observed.clone(), std::slice::from_ref(&word)), 5);
        assert_eq!(of_grant(&told), said_of("False", "Awaited"), "{word:?}");
    }
    let mut direct = grant.clone();
    direct.spec.review.as_mut().unwrap().require_direct = true;
    assert!(counts(&direct.spec, &review("dave")).is_err());
    let presented = Decision {
        direct: true,
        ..review("dave")
    };
    assert_eq!(counts(&direct.spec, &presented), Ok(()));
    direct.spec.review = None;
    assert!(counts(&direct.spec, &presented).is_err(), "none is wanted");
}

#[test]
fn a_review_of_what_was_not_given_counts_for_nothing() {
    let offered = stepped(observed(), 0);
    let status = published(&said(offered, &[review("bob")]), 1);
    assert_eq!(status.phase, Some(RequestPhase::Pending));
    assert_eq!(status.decisions[0].reason, "no access was given that could be reviewed");

    let (observed, mut grant) = broken();
    let failed = Why {
        reason: EndReason::BindFailed,
        message: "it can't be bound".into(),
    };
    let revoked = Why {
        reason: EndReason::Revoked,
        ..failed.clone()
    };
    // What was bound in one place of two was given for a moment.
    for why in [failed.clone(), revoked.clone()] {
        let status = Some(grant::ended(&grant, why, at(5)));
        assert!(
            told(&AccessGrant {
                status,
                ..grant.clone()
            })
            .is_some()
        );
    }
    // It was bound, and ended before anybody could say so.
    grant.status = None;
    let unsaid = grant::ended(&grant, revoked, at(5));
    assert_eq!(reason(&unsaid.conditions), said_of("False", "Awaited"));
    assert!(condition::is_true(&unsaid.conditions, condition::BREAK_GLASS));
    // It wasn't: the request ended before its seal.
    let ended = AccessGrant {
        status: Some(unsaid),
        ..grant.clone()
    };
    let mut unsealed = observed.request.clone();
    let of_request = unsealed.status.as_mut().unwrap();
    (of_request.seal, of_request.phase) = (None, Some(RequestPhase::Withdrawn));
    let told = super::status(&ended, Some(&unsealed), at(6)).unwrap();
    assert!(condition::get(&told.conditions, condition::REVIEWED).is_none());
    grant.status = Some(grant::ended(&grant, failed, at(5)));
    assert_eq!(super::status(&grant, Some(&observed.request), at(6)), None);
    grant.status = None;
    assert_eq!(super::status(&grant, Some(&observed.request), at(6)), None);
}

#[test]
fn a_review_outlives_its_request_and_is_not_taken_from_another_of_the_same_name() {
    let (observed, _) = broken();
    let mut gone = told_at(said(observed.clone(), &[review("dave")]), 5);
    let grant = gone.grant.as_mut().unwrap();
    let later = status(grant, None, at(9000)).unwrap();
    assert_eq!(reason(&later.conditions), said_of("True", "Reviewed"));

    let unreviewed = observed.grant.clone().unwrap();
    let later = status(&unreviewed, None, at(9000)).unwrap();
    let message = &condition::get(&later.conditions, condition::REVIEWED).unwrap().message;
    assert!(
        message.ends_with("nobody can any more, for its request was deleted"),
        "{message}"
    );
    let mut another = said(observed, &[review("dave")]).request;
    another.metadata.uid = Some("another".into());
    let later = status(&unreviewed, Some(&another), at(9000)).unwrap();
    assert_eq!(reason(&later.conditions), said_of("False", "Overdue"));
}

#[test]
fn a_policy_that_wants_a_review_that_cant_be_had_is_not_ready() {
    assert_eq!(flaw(&reviewed_policy()), None);
    assert_eq!(flaw(&policy_spec()), None);
    let changed = |change: fn(&mut AccessPolicySpec)| {
        let mut spec = reviewed_policy();
        change(&mut spec);
        flaw(&spec).map(|flaw| flaw.message)
    };
    assert!(
        changed(|spec| spec.approval = policy_spec().approval)
            .unwrap()
            .contains("breakGlass")
    );
    assert!(
        changed(|spec| spec.review.as_mut().unwrap().approvers = users(&[]))
            .unwrap()
            .contains("nobody")
    );
    assert!(
        changed(|spec| spec.retention = Some(lasting("1h59m")))
            .unwrap()
            .contains("retention")
    );
    assert_eq!(changed(|spec| spec.retention = Some(lasting("2h"))), None);
    assert!(changed(|spec| spec.review.as_mut().unwrap().within = Some(lasting("721h"))).is_some());
    assert!(
        changed(|spec| {
            spec.review.as_mut().unwrap().within = None;
            spec.retention = Some(lasting("23h59m"));
        })
        .is_some()
    );
    assert_eq!(changed(|spec| spec.review.as_mut().unwrap().within = None), None);
    let nonsense = crate::core::policy::flaws(
        &AccessPolicySpec {
            review: Some(Review {
                within: Some(lasting("soon")),
                ..reviewed_policy().review.unwrap()
            }),
            ..reviewed_policy()
        },
        &[],
    );
    assert_eq!(nonsense[0].reason, "InvalidDuration");
}

#[test]
fn who_reviews_may_revoke_too_and_a_day_is_the_time_that_there_is() {
    let revokers = approval::revokers(&reviewed_policy());
    assert_eq!(
        (revokers.users, revokers.groups),
        (strings(&["dave"]), strings(&["audit"]))
    );
    let mut spec = reviewed_policy();
    spec.review.as_mut().unwrap().within = None;
    assert_eq!(wanted(&spec).unwrap().within, lasting("24h"));
    spec.require_direct = true;
    assert!(wanted(&spec).unwrap().require_direct);
    spec.approval = policy_spec().approval;
    assert_eq!(wanted(&spec), None, "what was approved needs none");
}
