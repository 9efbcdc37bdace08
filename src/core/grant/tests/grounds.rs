use super::*;

#[test]
fn each_thing_that_a_grant_rests_on_ends_it_when_it_goes() {
    let table: &[(EndReason, Change)] = &[
        (EndReason::RequestDeleted, |observed| observed.request = None),
        (EndReason::RequestDeleted, |observed| {
            observed.request.as_mut().unwrap().metadata.uid = Some("made-again".into());
        }),
        (EndReason::RequestDeleted, |observed| {
            observed.request.as_mut().unwrap().metadata.deletion_timestamp = Some(written(5));
        }),
        (EndReason::TargetGone, |observed| observed.targets[0].namespace = None),
        (EndReason::TargetGone, |observed| {
            observed.targets[0].namespace.as_mut().unwrap().terminating = true
        }),
        (EndReason::TargetGone, |observed| {
            observed.targets[0].namespace.as_mut().unwrap().uid = "made-again".into();
        }),
        (EndReason::RoleChanged, |observed| observed.role = None),
        (EndReason::RoleChanged, |observed| {
            observed.role.as_mut().unwrap().uid = "made-again".into()
        }),
        (EndReason::RoleChanged, |observed| {
            observed
                .role
                .as_mut()
                .unwrap()
                .rules
                .push(rule("", &["secrets"], &["get"]));
        }),
        (EndReason::AnchorBroken, |observed| observed.anchor.job = None),
        (EndReason::AnchorBroken, |observed| observed.anchor.service = None),
        (EndReason::AnchorBroken, |observed| {
            let job = observed.anchor.job.as_mut().unwrap();
            job.spec.as_mut().unwrap().suspend = Some(true);
        }),
        (EndReason::Revoked, |observed| say(observed, withdraw())),
        (EndReason::Revoked, |observed| say(observed, revoke("carol"))),
        (EndReason::Revoked, |observed| {
            say(observed, word(Verdict::Revoke, "erin", &["*/Group:sre"], ""))
        }),
    ];
    for (index, (reason, change)) in table.iter().enumerate() {
        assert_eq!(ends(bound(), *change), Some(*reason), "row {index}, bound");
        assert_eq!(
            ends(grant_observed(), *change),
            Some(*reason),
            "row {index}, not bound yet"
        );
    }
}

#[test]
fn what_changed_around_a_role_is_forgiven_only_where_the_policy_says_so_and_never_its_deletion() {
    let grown: Change = |observed| observed.role.as_mut().unwrap().rules.clear();
    let replaced: Change = |observed| observed.role.as_mut().unwrap().uid = "made-again".into();
    let deleted: Change = |observed| observed.role = None;
    assert_eq!(decided(keeping_on_role_change(), grown), Plan::Hold);
    assert_eq!(decided(keeping_on_role_change(), replaced), Plan::Hold);
    assert_eq!(ends(keeping_on_role_change(), deleted), Some(EndReason::RoleChanged));
}

#[test]
fn a_changed_policy_ends_its_grants_only_where_it_says_so() {
    let table: &[Change] = &[
        |observed| observed.policy = None,
        |observed| observed.policy.as_mut().unwrap().metadata.uid = Some("made-again".into()),
        |observed| observed.policy.as_mut().unwrap().spec.max_duration = lasting("5h"),
    ];
    for (index, change) in table.iter().enumerate() {
        assert_eq!(decided(bound(), *change), Plan::Hold, "row {index}");
        assert_eq!(
            ends(revoking_on_change(), *change),
            Some(EndReason::PolicyChanged),
            "row {index}"
        );
    }
    let looked_at: Change = |observed| observed.policy.as_mut().unwrap().status = None;
    assert_eq!(
        decided(revoking_on_change(), looked_at),
        Plan::Hold,
        "its status is no change"
    );
}

#[test]
fn a_role_that_grew_before_the_first_binding_ends_the_grant_whatever_the_policy_forgives_later() {
    let mut observed = grant_observed();
    observed.grant.spec.role.on_change = OnChange::Keep;
    let grown: Change = |observed| {
        observed
            .role
            .as_mut()
            .unwrap()
            .rules
            .push(rule("", &["secrets"], &["get"]))
    };
    assert_eq!(ends(observed, grown), Some(EndReason::RoleChanged));
}

#[test]
fn a_policy_that_is_being_deleted_counts_as_deleted_whatever_holds_it() {
    let held: Change = |observed| observed.policy.as_mut().unwrap().metadata.deletion_timestamp = Some(written(5));
    assert_eq!(ends(revoking_on_change(), held), Some(EndReason::PolicyChanged));
}

#[test]
fn a_grant_that_was_given_without_an_anchor_does_not_end_for_want_of_one() {
    let mut observed = grant_observed();
    observed.grant.spec.anchor = None;
    observed.anchor = Default::default();
    assert!(matches!(decide(&observed), Plan::Bind(_)));
}

#[test]
fn a_target_that_was_not_looked_at_is_not_held_as_if_all_were_well() {
    assert_ne!(decided(bound(), |observed| observed.targets.clear()), Plan::Hold);
}
