use super::*;

#[test]
fn a_sealed_grant_is_bound_and_a_bound_one_held() {
    let observed = grant_observed();
    assert_eq!(decide(&observed), Plan::Bind(observed.grant.spec.places()));
    assert_eq!(decide(&bound()), Plan::Hold);
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
fn a_binding_that_is_there_but_not_recorded_is_recorded_and_not_merely_held() {
    let mut observed = grant_observed();
    observed.targets[0].binding = Some(stored_binding(&observed.grant));
    assert_eq!(decide(&observed), Plan::Bind(observed.grant.spec.places()));
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
