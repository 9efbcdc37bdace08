use super::*;

#[test]
fn nothing_is_bound_before_the_seal() {
    for phase in [
        None,
        Some(RequestPhase::Pending),
        Some(RequestPhase::Approved),
        Some(RequestPhase::Active),
    ] {
        assert_eq!(decide(&unsealed(grant_observed(), phase)), Plan::AwaitSeal, "{phase:?}");
    }
    assert_eq!(
        decided(grant_observed(), |observed| observed.request.as_mut().unwrap().status =
            None),
        Plan::AwaitSeal
    );
}

#[test]
fn the_seal_of_another_grant_is_none() {
    let other: Change = |observed| status(observed).seal.as_mut().unwrap().uid = "another".into();
    assert_eq!(decided(grant_observed(), other), Plan::AwaitSeal);
    let unstored: Change = |observed| observed.grant.metadata.uid = None;
    assert_eq!(decided(grant_observed(), unstored), Plan::AwaitSeal);
}

#[test]
fn a_grant_whose_request_ended_before_the_seal_ends_as_the_request_did() {
    for (phase, reason) in [
        (RequestPhase::Denied, EndReason::Denied),
        (RequestPhase::Withdrawn, EndReason::Revoked),
        (RequestPhase::Revoked, EndReason::Revoked),
        (RequestPhase::Expired, EndReason::Expired),
        (RequestPhase::Failed, EndReason::BindFailed),
    ] {
        assert_eq!(
            ends(unsealed(grant_observed(), Some(phase)), |_| {}),
            Some(reason),
            "{phase:?}"
        );
    }
}

#[test]
fn words_of_those_who_may_not_end_nothing() {
    let table: &[Change] = &[
        |observed| say(observed, revoke("mallory")),
        |observed| say(observed, word(Verdict::Revoke, "mallory", &["requester"], "")),
        |observed| say(observed, word(Verdict::Revoke, "mallory", &["*/User:bob"], "")),
        |observed| say(observed, word(Verdict::Revoke, "alice", &["*/User:alice"], "")),
        |observed| say(observed, deny("bob")),
        |observed| say(observed, approve("carol", "")),
    ];
    for (index, change) in table.iter().enumerate() {
        assert_eq!(decided(bound(), *change), Plan::Hold, "row {index}");
    }
}

#[test]
fn who_may_revoke_is_what_the_grant_says_and_nothing_later() {
    let narrowed: Change = |observed| {
        observed.grant.spec.revokers = Revokers {
            users: strings(&["dave"]),
            groups: vec![],
        };
        status(observed).revokers = Some(Revokers {
            users: strings(&["carol"]),
            groups: vec![],
        });
        say(observed, revoke("carol"));
    };
    assert_eq!(decided(bound(), narrowed), Plan::Hold);
    let renamed: Change = |observed| {
        observed.request.as_mut().unwrap().spec.requester = Some(Requester {
            username: "zoe".into(),
            uid: String::new(),
            groups: vec![],
        });
        say(observed, withdraw());
    };
    assert_eq!(ends(bound(), renamed), Some(EndReason::Revoked));
}

#[test]
fn a_revocation_comes_before_every_other_reason() {
    let all: Change = |observed| {
        say(observed, withdraw());
        observed.role = None;
        observed.targets[0] = TargetSeen {
            namespace: None,
            binding: None,
        };
    };
    assert_eq!(ends(bound(), all), Some(EndReason::Revoked));
}

#[test]
fn a_grant_whose_request_says_that_it_is_over_ends_whatever_else_is_well() {
    for phase in [RequestPhase::Revoked, RequestPhase::Failed, RequestPhase::Expired] {
        let mut observed = bound();
        status(&mut observed).phase = Some(phase);
        assert_eq!(ends(observed, |_| ()), Some(EndReason::Revoked), "{phase:?}");
    }
    assert_eq!(
        ends(bound(), |observed| status(observed).phase = Some(RequestPhase::Active)),
        None
    );
}

fn asked(observed: &mut Observed) -> &mut crate::api::AccessRequestSpec {
    &mut observed.request.as_mut().unwrap().spec
}

/// Sealed it is, by who could write a grant could write a status too.
#[test]
fn a_grant_that_says_otherwise_than_its_request_ends() {
    let otherwise: [Change; 19] = [
        |observed| observed.grant.spec.requester.groups.push("admins".into()),
        |observed| observed.grant.spec.subject.name = "mallory".into(),
        |observed| observed.grant.spec.role.name = "writer".into(),
        |observed| observed.grant.spec.role.kind = RoleKind::Role,
        |observed| observed.grant.spec.targets[0].namespace = "team-b".into(),
        |observed| observed.grant.spec.targets.clear(),
        |observed| observed.grant.spec.cluster_wide = true,
        |observed| asked(observed).cluster_wide = Some(true),
        |observed| {
            asked(observed).namespaces_from_policy = Some(true);
            asked(observed).policy = Some(observed.grant.spec.policy.name.clone());
            status(observed).targets.clear();
        },
        |observed| observed.grant.spec.start_time = Some(written(0)),
        // Long before it begins.
        |observed| {
            observed.grant.spec.start_time = Some(written(61));
            asked(observed).start_time = Some(written(61));
        },
        |observed| asked(observed).extends = Some("another".into()),
        |observed| observed.grant.spec.decisions[0].username = "mallory".into(),
        |observed| observed.grant.spec.decisions.clear(),
        |observed| observed.grant.spec.offer = "another".into(),
        |observed| {
            observed.grant.spec.decisions[0].verdict = Verdict::Deny;
            asked(observed).decisions = observed.grant.spec.decisions.clone();
        },
        |observed| asked(observed).duration = Some(lasting("2m")),
        |observed| observed.grant.spec.break_glass = true,
        |observed| asked(observed).policy = Some("another".into()),
    ];
    for (number, change) in otherwise.into_iter().enumerate() {
        assert_eq!(ends(bound(), change), Some(EndReason::NotAsRequested), "{number}");
    }
    let as_asked: [Change; 4] = [
        |observed| say(observed, approve("carol", "f")),
        |observed| asked(observed).duration = None,
        |observed| asked(observed).policy = Some(observed.grant.spec.policy.name.clone()),
        |observed| {
            observed.grant.spec.start_time = Some(written(60));
            asked(observed).start_time = Some(written(60));
        },
    ];
    for (number, change) in as_asked.into_iter().enumerate() {
        assert_ne!(ends(bound(), change), Some(EndReason::NotAsRequested), "{number}");
    }
}
