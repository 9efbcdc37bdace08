use super::*;

#[test]
fn an_active_grant_says_until_when_and_what_it_does_not_promise() {
    let mut grant = bound().grant;
    let status = grant.status.clone().unwrap();
    assert_eq!(
        (status.phase, status.expires_at),
        (Some(GrantPhase::Active), Some(written(1800)))
    );
    assert!(condition::is_true(&status.conditions, condition::BOUND));
    assert!(condition::is_true(&status.conditions, condition::DEAD_MANS_SWITCH));
    assert!(condition::get(&status.conditions, condition::STREAMS_MAY_OUTLIVE).is_none());
    grant.spec.anchor = None;
    grant.spec.no_anchor = Some("no cluster IP is left".into());
    let without = active(&grant, vec![], at(1));
    let switch = condition::get(&without.conditions, condition::DEAD_MANS_SWITCH).unwrap();
    assert_eq!(switch.status, "False");
    assert!(switch.message.contains("no cluster IP is left"), "{}", switch.message);
    grant.spec.streams_may_outlive = true;
    assert!(condition::is_true(
        &active(&grant, vec![], at(1)).conditions,
        condition::STREAMS_MAY_OUTLIVE
    ));
}

#[test]
fn an_ending_grant_says_what_holds_it_and_an_ended_one_that_it_is_over() {
    let mut grant = bound().grant;
    let why = Why::new(EndReason::Expired, "the deadline is reached");
    grant.status = Some(ending(&grant, why.clone(), "forbidden", at(1801)));
    let status = grant.status.clone().unwrap();
    assert_eq!((status.phase, status.end.unwrap().at), (Some(GrantPhase::Ending), None));
    assert_eq!(
        condition::get(&status.conditions, condition::OVERDUE).unwrap().message,
        "forbidden"
    );
    assert!(!has_ended(&grant));
    grant.status = Some(ended(&grant, why, at(1803)));
    let status = grant.status.clone().unwrap();
    assert_eq!(status.end.unwrap().at, Some(written(1803)));
    assert!(has_ended(&grant) && condition::get(&status.conditions, condition::OVERDUE).is_none());
    assert!(!condition::is_true(&status.conditions, condition::BOUND));
    assert_eq!(
        condition::get(&status.conditions, condition::ENDED).unwrap().reason,
        "DeadlineReached"
    );
    assert_eq!(status.bindings.len(), 1, "the evidence stays");
}

/// Or the grant would be looked at again at once, because of what was written.
#[test]
fn of_an_access_that_can_not_be_ended_nothing_is_said_anew_where_only_numbers_differ() {
    let mut grant = bound().grant;
    let mut say = |what: &str| {
        let why = Why::new(EndReason::Expired, "the deadline is reached");
        let status = ending(&grant, why, what, at(1801));
        let said = condition::get(&status.conditions, condition::OVERDUE)
            .unwrap()
            .message
            .clone();
        grant.status = Some(status);
        said
    };
    let first = say("failed calling webhook: read tcp 10.0.0.5:40522->10.0.0.9:443: reset");
    let again = say("failed calling webhook: read tcp 10.0.0.5:40588->10.0.0.9:443: reset");
    assert_eq!(again, first);
    assert_eq!(say("forbidden"), "forbidden");
}

#[test]
fn every_reason_to_end_has_its_own_word() {
    use EndReason::*;
    let all = [
        Expired,
        Revoked,
        Denied,
        RequestDeleted,
        GrantDeleted,
        Drifted,
        RoleChanged,
        PolicyChanged,
        TargetGone,
        BindFailed,
        AnchorBroken,
        Uninstalled,
    ];
    let words: std::collections::BTreeSet<_> = all.into_iter().map(ended_reason).collect();
    assert_eq!(words.len(), all.len());
}

#[test]
fn a_stuck_binding_is_tried_again_soon_and_then_less_often() {
    let mut grant = bound().grant;
    assert_eq!(retry_after(&grant, at(0)), Duration::from_millis(250));
    grant.status = Some(ending(
        &grant,
        Why::new(EndReason::Expired, "due"),
        "forbidden",
        at(1800),
    ));
    for (seconds, expected) in [(1790, 250), (1800, 250), (1804, 1000), (1840, 10_000), (9_999, 15_000)] {
        assert_eq!(
            retry_after(&grant, at(seconds)),
            Duration::from_millis(expected),
            "{seconds}"
        );
    }
}
