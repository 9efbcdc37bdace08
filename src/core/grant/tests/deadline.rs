use super::*;

#[test]
fn the_deadline_is_the_creation_plus_the_duration_whatever_the_status_says() {
    let mut grant = bound().grant;
    assert_eq!(deadline(&grant), at(1800));
    grant.status.as_mut().unwrap().expires_at = Some(written(999_999));
    assert_eq!(deadline(&grant), at(1800));
    grant.status = None;
    assert_eq!((deadline(&grant), created(&grant)), (at(1800), at(0)));
}

#[test]
fn a_grant_whose_deadline_makes_no_sense_was_due_long_ago() {
    let table: &[fn(&mut AccessGrant)] = &[
        |grant| grant.metadata.creation_timestamp = None,
        |grant| grant.spec.duration = lasting("for ever"),
        |grant| grant.spec.duration = lasting("0s"),
        |grant| grant.spec.duration = lasting("99999h"),
    ];
    for (index, change) in table.iter().enumerate() {
        let mut grant = bound().grant;
        change(&mut grant);
        assert_eq!(
            due(&grant, at(0)).map(|why| why.reason),
            Some(EndReason::Expired),
            "row {index}"
        );
    }
}

#[test]
fn a_grant_is_due_from_its_deadline_on_and_not_a_second_before() {
    let grant = bound().grant;
    for (seconds, expected) in [
        (0, None),
        (1799, None),
        (1800, Some(EndReason::Expired)),
        (9_999_999, Some(EndReason::Expired)),
    ] {
        assert_eq!(due(&grant, at(seconds)).map(|why| why.reason), expected, "{seconds}");
    }
}

/// Whoever begins anew knows nothing of a clock that was set back but by what it had written.
#[test]
fn a_grant_that_was_made_in_the_future_is_due_at_once() {
    let grant = bound().grant;
    assert_eq!(due(&grant, at(-60)), None);
    let why = due(&grant, at(-61)).unwrap();
    assert_eq!(why.reason, EndReason::Expired);
    assert!(why.message.contains("was set back"), "{}", why.message);
}

#[test]
fn a_grant_that_is_being_deleted_is_due_at_once() {
    let mut grant = bound().grant;
    grant.metadata.deletion_timestamp = Some(written(5));
    assert_eq!(due(&grant, at(6)).map(|why| why.reason), Some(EndReason::GrantDeleted));
}

#[test]
fn what_was_to_end_once_ends_for_the_same_reason_after_a_restart() {
    let mut grant = bound().grant;
    let why = Why::new(EndReason::Drifted, "its subjects were changed");
    grant.status = Some(ending(&grant, why.clone(), "the API server didn't answer", at(7)));
    assert_eq!(due(&grant, at(8)), Some(why.clone()));
    assert_eq!(due(&grant, at(99_999)), Some(why));
}

#[test]
fn a_request_leads_to_one_grant_name_and_only_one() {
    assert_eq!(name("1"), name("1"));
    assert_ne!(name("1"), name("2"));
}
