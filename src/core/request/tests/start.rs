//! Requests that begin later, and requests for several namespaces.

use super::*;

/// A request that is to begin after so many seconds.
fn scheduled(seconds: i64) -> Observed {
    let mut observed = observed();
    observed.request.spec.start_time = Some(written(seconds));
    observed
}

/// The same, approved right after it was offered.
fn approved_early(seconds: i64) -> Observed {
    let offered = stepped(scheduled(seconds), 1);
    let digest = offer(&offered);
    said(offered, &[approve("bob", &digest)])
}

#[test]
fn case_05_what_was_approved_before_its_start_waits_for_it_and_ends_as_long_after_it_as_was_asked() {
    let observed = approved_early(3_600);
    let status = published(&observed, 2);
    assert_eq!((status.phase, &status.seal), (Some(RequestPhase::Approved), &None));
    assert!(condition::is_true(&status.conditions, condition::APPROVED));
    assert_eq!(
        condition::get(&status.conditions, condition::GRANTED).unwrap().reason,
        "NotStarted"
    );
    let waiting = stepped(observed, 2);
    assert_eq!(wake(&waiting, 2), Some(at(3_580)), "its anchor is made before");
    assert_eq!(wake(&waiting, 3_580), Some(at(3_600)));
    assert_eq!(prepares(&waiting.request, at(3_579)), None);
    assert_eq!(
        prepares(&waiting.request, at(3_580)),
        Some((at(3_600), at(3_600 + 1_800)))
    );
    assert_eq!(prepares(&waiting.request, at(3_600)), None, "it begins now");
    let mut unapproved = waiting.request.clone();
    unapproved.status.as_mut().unwrap().phase = Some(RequestPhase::Pending);
    assert_eq!(prepares(&unapproved, at(3_580)), None);
    let Plan::Grant { spec, .. } = decide(&waiting, at(3_600)) else {
        panic!("it is granted at its start")
    };
    assert_eq!(grant::deadline_if_created(&spec, at(3_700)), Some(at(3_600 + 1_800)));
}

#[test]
fn case_06_a_start_that_was_missed_by_more_than_is_tolerated_is_never_made_up_for() {
    let approved = approved_early(3_600);
    assert!(matches!(decide(&approved, at(3_899)), Plan::Grant { .. }));
    let over = (RequestPhase::Expired, "StartMissed".into());
    assert_eq!(ended(&approved, 3_900), over, "nothing ran");
    assert_eq!(ended(&stepped(scheduled(3_600), 1), 3_900), over, "nobody approved");
    let mut brief = approved_early(3_600);
    brief.policies[0].spec.start_tolerance = Some(lasting("2h"));
    let digest = offer(&stepped(brief.clone(), 2));
    brief = said(stepped(brief, 2), &[approve("carol", &digest)]);
    assert!(matches!(decide(&brief, at(3_600 + 1_799)), Plan::Grant { .. }));
    assert_eq!(ended(&brief, 3_600 + 1_800), over, "nothing is left of it");
}

#[test]
fn a_request_that_was_approved_in_time_waits_for_its_start_beyond_its_time_to_be_decided() {
    let week = 7 * 86_400;
    let waiting = stepped(approved_early(week), 2);
    assert_eq!(
        published(&waiting, 2 * 86_400).phase,
        Some(RequestPhase::Approved),
        "its policy waits a day for a decision"
    );
    assert_eq!(
        ended(&stepped(scheduled(week), 1), 86_401),
        (RequestPhase::Expired, "NotDecided".into())
    );
    // What stands in the way for a moment doesn't end it; what was changed is to be approved anew, within a day.
    let mut blocked = waiting.clone();
    blocked.role = None;
    let blocked = stepped(blocked, 2 * 86_400);
    assert_eq!(
        blocked.request.status.as_ref().unwrap().phase,
        Some(RequestPhase::Pending)
    );
    let mut changed = waiting.clone();
    changed.policies[0].spec.max_duration = lasting("3h");
    let changed = stepped(changed, 2 * 86_400);
    assert_eq!(wake(&changed, 2 * 86_400), Some(at(3 * 86_400)));
    let mut back = blocked;
    back.role = waiting.role.clone();
    assert_eq!(published(&back, 2 * 86_400 + 5).phase, Some(RequestPhase::Approved));
}

#[test]
fn an_approval_that_came_too_late_starts_nothing() {
    let late = approved_early(7 * 86_400);
    assert_eq!(
        ended(&late, 86_401),
        (RequestPhase::Expired, "NotDecided".into()),
        "seen only then"
    );
}

#[test]
fn before_its_start_it_can_be_denied_and_withdrawn() {
    let waiting = stepped(approved_early(3_600), 2);
    let denied = said(waiting.clone(), &[deny("carol")]);
    assert_eq!(ended(&denied, 10).0, RequestPhase::Denied);
    assert_eq!(ended(&said(waiting, &[withdraw()]), 10).0, RequestPhase::Withdrawn);
}
