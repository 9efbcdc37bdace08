use super::*;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

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
