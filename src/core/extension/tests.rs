use super::*;
use crate::api::{Approval, BreakGlass, EndReason, RequestPhase, condition};
use crate::core::fixture::*;
use crate::core::grant::Why;
use crate::core::limits::Others;
use crate::core::policy::flaws;
use crate::core::request::{self, Observed, Plan, decide};

/// Alice's access of half an hour as it stands, and her request to extend it by as much, made a quarter of an hour later.
fn extending() -> Observed {
    let old = bound();
    let mut observed = observed();
    observed.request.metadata.name = Some("longer".into());
    observed.request.metadata.uid = Some("uid-of-longer".into());
    observed.request.metadata.creation_timestamp = Some(written(900));
    observed.request.spec.extends = old.grant.metadata.name.clone();
    observed.extended = Some(old.grant);
    observed
}

fn changed(change: impl FnOnce(&mut Observed)) -> Observed {
    let mut observed = extending();
    change(&mut observed);
    observed
}

/// Why it isn't offered at this moment.
fn blocked(observed: &Observed, seconds: i64) -> String {
    let status = published(observed, seconds);
    assert_eq!(status.offer, None);
    condition::get(&status.conditions, condition::ACCEPTED)
        .unwrap()
        .reason
        .clone()
}

/// Why it has ended at this moment.
fn over(observed: &Observed, seconds: i64) -> String {
    let status = published(observed, seconds);
    assert_eq!(status.phase, Some(RequestPhase::Failed));
    condition::get(&status.conditions, condition::ENDED)
        .unwrap()
        .reason
        .clone()
}

/// Offered, and approved by bob.
fn approved_extension(observed: Observed) -> Observed {
    let offered = stepped(observed, 900);
    let digest = offered.request.status.as_ref().unwrap().offer.clone().unwrap().digest;
    said(offered, &[approve("bob", &digest)])
}

fn of_at_most(longest: &str) -> Observed {
    changed(|observed| observed.policies[0].spec.max_total_duration = Some(lasting(longest)))
}

#[test]
fn an_extension_is_offered_approved_and_granted_like_any_other_and_says_what_it_takes_over() {
    let asked = approved_extension(extending());
    let old = asked.extended.clone().unwrap();
    let Plan::Grant { spec, .. } = decide(&asked, at(901)) else {
        panic!("it is granted")
    };
    let extends = spec.extends.clone().unwrap();
    assert_eq!(Some(&extends.name), old.metadata.name.as_ref());
    assert_eq!(Some(&extends.uid), old.metadata.uid.as_ref());
    assert_eq!(extends.since, written(0));
    let not_extending = decide(&approved(), at(2));
    assert!(matches!(not_extending, Plan::Grant { spec, .. } if spec.extends.is_none()));
}

#[test]
fn only_the_same_is_extended() {
    type Change = fn(&mut AccessGrant);
    let table: [(&str, Change); 5] = [
        ("requester", |old| old.spec.requester.username = "carol".into()),
        ("policy", |old| old.spec.policy.uid = "another".into()),
        ("role", |old| old.spec.role.name = "writer".into()),
        ("namespaces", |old| old.spec.targets[0].namespace = "team-b".into()),
        ("namespaces", |old| old.spec.targets[0].uid = "another".into()),
    ];
    for (what, change) in table {
        let observed = changed(|observed| change(observed.extended.as_mut().unwrap()));
        assert_eq!(blocked(&observed, 900), "ExtendsAnother");
        let message = published(&observed, 900).message.unwrap();
        assert!(message.contains(&format!("another {what}")), "{message}");
    }
}

#[test]
fn only_what_is_active_is_extended() {
    let table: [fn(&mut Observed); 4] = [
        |observed| observed.extended = None,
        |observed| observed.extended.as_mut().unwrap().status = None,
        |observed| observed.extended.as_mut().unwrap().status.as_mut().unwrap().phase = Some(GrantPhase::Ending),
        |observed| observed.extended.as_mut().unwrap().metadata.deletion_timestamp = Some(written(899)),
    ];
    for change in table {
        assert_eq!(over(&changed(change), 900), "NothingToExtend");
    }
    assert!(published(&extending(), 1799).offer.is_some());
    assert_eq!(over(&extending(), 1800), "NothingToExtend", "its deadline is reached");
}

#[test]
fn the_sum_is_no_longer_than_the_policy_allows() {
    // From 0 to 930 + 1800.
    let limit = format!("{}s", 930 + 1800);
    let asked = of_at_most(&limit);
    assert!(published(&asked, 930).offer.is_some());
    assert_eq!(over(&asked, 931), "TotalTooLong");
    let approved = approved_extension(asked.clone());
    assert!(matches!(decide(&approved, at(930)), Plan::Grant { .. }));
    assert_eq!(over(&approved, 931), "TotalTooLong");
    let Plan::Publish { wake, .. } = request::decide(&stepped(asked, 900), at(900)) else {
        panic!("it waits")
    };
    assert_eq!(
        wake,
        Some(at(930) + chrono::Duration::milliseconds(1)),
        "it is looked at when it becomes too long"
    );

    // What was created a second later than it was decided is never sealed.
    let mut late = approved;
    late.grant = Some(granted(&late, 930));
    assert!(published(&late, 930).seal.is_some());
    late.grant.as_mut().unwrap().metadata.creation_timestamp = Some(written(931));
    let status = published(&late, 930);
    assert_eq!((status.seal, status.phase), (None, Some(RequestPhase::Failed)));
}

#[test]
fn an_extension_of_an_extension_counts_from_the_first() {
    let observed = changed(|observed| {
        observed.policies[0].spec.max_total_duration = Some(lasting("1h"));
        let old = observed.extended.as_mut().unwrap();
        old.spec.extends = Some(Extended {
            name: "grant-first".into(),
            uid: "uid-of-first".into(),
            since: written(-1000),
        });
    });
    // From -1000 to 800 + 1800.
    assert!(published(&observed, 800).offer.is_some());
    assert_eq!(over(&observed, 801), "TotalTooLong");
    let since = taken_over(observed.extended.as_ref().unwrap()).since;
    assert_eq!(since, written(-1000));
}

#[test]
fn what_began_at_its_start_time_counts_from_there() {
    let mut old = bound().grant;
    old.spec.start_time = Some(written(60));
    assert_eq!(taken_over(&old).since, written(60));
    old.metadata.creation_timestamp = None;
    old.spec.start_time = None;
    assert_eq!(taken_over(&old).since, time::to_kubernetes(DateTime::<Utc>::MIN_UTC));
}

#[test]
fn break_glass_is_extended_only_where_the_policy_bounds_the_sum() {
    let glass = |observed: &mut Observed| {
        observed.policies[0].spec.approval = Some(Approval {
            break_glass: Some(BreakGlass {}),
            ..Approval::default()
        });
        observed.request.spec.policy = observed.policies[0].metadata.name.clone();
    };
    assert_eq!(blocked(&changed(glass), 900), "ExtensionUnbounded");
    let bounded = changed(|observed| {
        glass(observed);
        observed.policies[0].spec.max_total_duration = Some(lasting("2h"));
    });
    assert!(matches!(decide(&bounded, at(900)), Plan::Grant { .. }));
}

#[test]
fn the_access_that_is_extended_is_not_another_one() {
    let mut asked = changed(|observed| {
        observed.policies[0].spec.limits = Some(crate::api::Limits {
            active_per_requester: Some(1),
            pending_per_requester: None,
        });
    });
    asked = approved_extension(asked);
    let old = asked.extended.clone().unwrap();
    asked.others = Others::of(&asked.request, [], [&old]);
    assert!(matches!(decide(&asked, at(901)), Plan::Grant { .. }));
    let mut third = old.clone();
    third.metadata.name = Some("grant-third".into());
    asked.others = Others::of(&asked.request, [], [&old, &third]);
    assert_eq!(published(&asked, 901).phase, Some(RequestPhase::Approved), "it waits");
}

#[test]
fn the_old_access_ends_when_the_new_one_is_there_and_not_before() {
    let mut old = bound();
    let mut new = old.grant.clone();
    new.metadata.uid = Some("uid-of-new".into());
    new.spec.extends = Some(taken_over(&old.grant));
    let ends = |old: &grant::Observed| match grant::decide(old) {
        grant::Plan::End(Why { reason, message: _ }) => Some(reason),
        _ => None,
    };
    for (phase, end) in [
        (None, None),
        (Some(GrantPhase::Active), Some(EndReason::Extended)),
        (Some(GrantPhase::Ending), None),
        (Some(GrantPhase::Ended), None),
    ] {
        new.status.as_mut().unwrap().phase = phase;
        old.successor = Some(new.clone());
        assert_eq!(ends(&old), end, "{phase:?}");
    }
    new.status.as_mut().unwrap().phase = Some(GrantPhase::Active);
    new.spec.extends.as_mut().unwrap().uid = "another".into();
    old.successor = Some(new.clone());
    assert_eq!(ends(&old), None, "it extends another");
    new.spec.extends = None;
    old.successor = Some(new);
    assert_eq!(ends(&old), None, "it extends nothing");
}

#[test]
fn a_longest_sum_that_means_nothing_makes_a_policy_not_ready_and_allows_nothing() {
    let mut spec = policy_spec();
    spec.max_total_duration = Some(lasting("1d"));
    assert_eq!(flaws(&spec, &[])[0].reason, "InvalidDuration");
    let mut observed = extending();
    observed.policies[0].spec = spec;
    assert_eq!(blocked(&observed, 900), "PolicyNotReady");
}
