use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use super::*;
use crate::api::{Requester, Revokers, RoleKind};
use crate::core::fixture::*;

type Change = fn(&mut Observed);

fn decided(mut observed: Observed, change: Change) -> Plan {
    change(&mut observed);
    decide(&observed)
}

fn ends(observed: Observed, change: Change) -> Option<EndReason> {
    match decided(observed, change) {
        Plan::End(Why { reason, message }) => {
            assert!(!message.is_empty());
            Some(reason)
        }
        Plan::AwaitSeal | Plan::Bind(_) | Plan::Hold => None,
    }
}

fn say(observed: &mut Observed, word: crate::api::Decision) {
    observed.request.as_mut().unwrap().spec.decisions.push(word);
}

fn status(observed: &mut Observed) -> &mut crate::api::AccessRequestStatus {
    observed.request.as_mut().unwrap().status.as_mut().unwrap()
}

fn unsealed(mut observed: Observed, phase: Option<RequestPhase>) -> Observed {
    status(&mut observed).seal = None;
    status(&mut observed).phase = phase;
    observed
}

fn found(observed: &mut Observed) -> &mut RoleBinding {
    observed.targets[0].binding.as_mut().unwrap()
}

fn revoking_on_change() -> Observed {
    let mut observed = bound();
    observed.grant.spec.policy.on_change = OnChange::Revoke;
    observed
}

fn keeping_on_role_change() -> Observed {
    let mut observed = bound();
    observed.grant.spec.role.on_change = OnChange::Keep;
    observed
}

// ---- the deadline --------------------------------------------------------------------------------------------------

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

// ---- waiting for the seal ------------------------------------------------------------------------------------------

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

// ---- binding and holding -------------------------------------------------------------------------------------------

#[test]
fn a_sealed_grant_is_bound_and_a_bound_one_held() {
    let observed = grant_observed();
    assert_eq!(decide(&observed), Plan::Bind(observed.grant.spec.places()));
    assert_eq!(decide(&bound()), Plan::Hold);
}

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
fn a_recorded_binding_that_is_not_as_it_was_made_ends_the_grant_as_drifted() {
    let table: &[Change] = &[
        |observed| observed.targets[0].binding = None,
        |observed| found(observed).metadata.uid = Some("made-again".into()),
        |observed| found(observed).subjects = None,
        |observed| found(observed).role_ref.name = "admin".into(),
        |observed| found(observed).metadata.labels = None,
        |observed| found(observed).metadata.owner_references = None,
        |observed| found(observed).metadata.finalizers = Some(strings(&["theirs/hold"])),
        |observed| found(observed).metadata.deletion_timestamp = Some(written(5)),
        |observed| observed.grant.status.as_mut().unwrap().bindings.clear(),
    ];
    for (index, change) in table.iter().enumerate() {
        assert_eq!(ends(bound(), *change), Some(EndReason::Drifted), "row {index}");
    }
}

#[test]
fn what_is_there_before_anything_was_recorded_must_be_exactly_as_asked_for() {
    let foreign: Change = |observed| {
        let mut binding = stored_binding(&observed.grant);
        binding.subjects.as_mut().unwrap()[0].name = "mallory".into();
        observed.targets[0].binding = Some(binding);
    };
    assert_eq!(ends(grant_observed(), foreign), Some(EndReason::BindFailed));
    let own: Change = |observed| observed.targets[0].binding = Some(stored_binding(&observed.grant));
    assert_eq!(
        ends(grant_observed(), own),
        None,
        "an operator that stopped before it could record it made it"
    );
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
fn a_grant_that_was_given_without_an_anchor_does_not_end_for_want_of_one() {
    let mut observed = grant_observed();
    observed.grant.spec.anchor = None;
    observed.anchor = Default::default();
    assert!(matches!(decide(&observed), Plan::Bind(_)));
}

// ---- the statuses --------------------------------------------------------------------------------------------------

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

#[test]
fn a_request_leads_to_one_grant_name_and_only_one() {
    assert_eq!(name("1"), name("1"));
    assert_ne!(name("1"), name("2"));
}

// ---- for all grants ------------------------------------------------------------------------------------------------

type Forgery = fn(&mut AccessGrantStatus, i64);

/// What a status may say, whoever wrote it, short of why the grant is to end.
const SAYINGS: &[Forgery] = &[
    |status, _| status.phase = None,
    |status, _| status.phase = Some(GrantPhase::Active),
    |status, _| status.phase = Some(GrantPhase::Ending),
    |status, _| status.phase = Some(GrantPhase::Ended),
    |status, _| status.bindings.clear(),
    |status, _| status.conditions.clear(),
    |status, _| status.expires_at = None,
    |status, seconds| status.expires_at = Some(written(seconds)),
    |status, seconds| {
        let finding = Finding::yes(condition::OVERDUE, "BindingNotDeleted", "stuck");
        condition::set(&mut status.conditions, finding, None, at(seconds));
    },
];

const MISHAPS: &[Change] = &[
    |observed| observed.grant.metadata = Default::default(),
    |observed| observed.grant.spec.targets.clear(),
    |observed| observed.grant.spec.duration = lasting(""),
    |observed| observed.grant.status = None,
    |observed| observed.grant.status = Some(AccessGrantStatus::default()),
    |observed| observed.request = None,
    |observed| observed.request.iter_mut().for_each(|request| request.status = None),
    |observed| {
        observed
            .request
            .iter_mut()
            .for_each(|request| request.metadata = Default::default())
    },
    |observed| {
        observed
            .request
            .iter_mut()
            .for_each(|request| request.spec.decisions = vec![withdraw(), deny("bob")])
    },
    |observed| observed.role = None,
    |observed| observed.role.iter_mut().for_each(|role| role.rules.clear()),
    |observed| observed.policy = None,
    |observed| observed.targets.clear(),
    |observed| observed.targets.iter_mut().for_each(|target| target.namespace = None),
    |observed| observed.targets.iter_mut().for_each(|target| target.binding = None),
    |observed| {
        observed
            .targets
            .iter_mut()
            .for_each(|target| target.binding = Some(RoleBinding::default()))
    },
    |observed| observed.targets.extend(observed.targets.clone()),
];

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(1800),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_grant_is_due_from_its_deadline_on_and_not_before_whatever_its_status_says(
        created in -1_000_000i64..1_000_000,
        minutes in 1i64..99_999,
        sayings in prop::collection::vec((select(SAYINGS), -9_999_999i64..9_999_999), 0..6),
        offset in prop_oneof![-3i64..3, -9_999_999i64..9_999_999],
    ) {
        let mut grant = bound().grant;
        grant.metadata.creation_timestamp = Some(written(created));
        grant.spec.duration = lasting(&format!("{minutes}m"));
        for (say, seconds) in sayings {
            say(grant.status.as_mut().unwrap(), seconds);
        }
        let ends = created + minutes * 60;
        let why = due(&grant, at(ends + offset)).map(|why| why.reason);
        // Or its creation is still to come.
        let is_due = offset >= 0 || ends + offset < created - 60;
        prop_assert_eq!(why, is_due.then_some(EndReason::Expired));
    }

    #[test]
    fn there_is_an_answer_to_everything_and_a_binding_is_only_made_under_the_grants_own_seal(
        is_bound in any::<bool>(),
        mishaps in prop::collection::vec(select(MISHAPS), 0..6),
        now in prop_oneof![-9_999i64..9_999, Just(250_000_000_000)],
    ) {
        let mut observed = if is_bound { bound() } else { grant_observed() };
        mishaps.into_iter().for_each(|mishap| mishap(&mut observed));
        let plan = decide(&observed);
        _ = (due(&observed.grant, at(now)), retry_after(&observed.grant, at(now)), binding::sweep(Some(&observed.grant), &in_namespace("team-a"), at(now)));
        if let Plan::Bind(_) | Plan::Hold = plan {
            let request = observed.request.unwrap();
            prop_assert_eq!(request.status.unwrap().seal.map(|seal| seal.uid), observed.grant.metadata.uid);
            prop_assert_eq!(request.metadata.uid, Some(observed.grant.spec.request.uid));
            prop_assert!(observed.role.is_some());
        }
    }
}

// ---- what the core owes still --------------------------------------------------------------------------------------

#[test]
fn a_binding_that_is_there_but_not_recorded_is_recorded_and_not_merely_held() {
    let mut observed = grant_observed();
    observed.targets[0].binding = Some(stored_binding(&observed.grant));
    assert_eq!(decide(&observed), Plan::Bind(observed.grant.spec.places()));
}

#[test]
fn a_target_that_was_not_looked_at_is_not_held_as_if_all_were_well() {
    assert_ne!(decided(bound(), |observed| observed.targets.clear()), Plan::Hold);
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

/// Alice's grant for the whole cluster, before anything is bound.
fn cluster_wide() -> Observed {
    let mut observed = grant_observed();
    observed.grant.spec.targets.clear();
    observed.grant.spec.cluster_wide = true;
    observed.request.as_mut().unwrap().spec.cluster_wide = Some(true);
    observed.targets[0].namespace = None;
    observed
}

#[test]
fn a_grant_for_the_whole_cluster_is_bound_once_and_held_by_its_one_binding() {
    let mut observed = cluster_wide();
    assert_eq!(decide(&observed), Plan::Bind(vec![Place::Cluster]));
    let binding = stored_binding(&observed.grant);
    assert_eq!(binding.metadata.namespace, None);
    observed.grant.status = Some(active(&observed.grant, vec![record(&binding)], at(1)));
    observed.targets[0].binding = Some(binding);
    assert_eq!(decide(&observed), Plan::Hold);
    let mut gone = observed.clone();
    gone.targets[0].binding = None;
    assert!(matches!(
        decide(&gone),
        Plan::End(Why {
            reason: EndReason::Drifted,
            ..
        })
    ));
    // Where nobody looked there is none.
    observed.targets.clear();
    assert!(matches!(
        decide(&observed),
        Plan::End(Why {
            reason: EndReason::Drifted,
            ..
        })
    ));
}

#[test]
fn what_was_recorded_in_a_namespace_is_not_what_holds_everywhere() {
    let mut observed = cluster_wide();
    let binding = stored_binding(&observed.grant);
    let mut elsewhere = record(&binding);
    elsewhere.namespace = Some("team-a".into());
    observed.grant.status = Some(active(&observed.grant, vec![elsewhere], at(1)));
    observed.targets[0].binding = Some(binding);
    assert!(matches!(
        decide(&observed),
        Plan::End(Why {
            reason: EndReason::Drifted,
            ..
        })
    ));
}
