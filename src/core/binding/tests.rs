use super::*;
use crate::api::GrantPhase;
use crate::core::fixture::*;

type Change = fn(&mut RoleBinding);

fn uid() -> GrantUid {
    GrantUid::of(&grant_observed().grant).unwrap()
}

fn stored() -> RoleBinding {
    stored_binding(&grant_observed().grant)
}

fn changed(change: Change) -> RoleBinding {
    let mut binding = stored();
    change(&mut binding);
    binding
}

fn other_owner() -> OwnerReference {
    OwnerReference {
        uid: "another".into(),
        ..grant_as_owner("another".into(), &uid())
    }
}

#[test]
fn a_binding_without_an_anchor_hangs_on_its_grant() {
    let mut grant = grant_observed().grant;
    grant.spec.anchor = None;
    let owners = stored_binding(&grant).metadata.owner_references.unwrap();
    let OwnerReference {
        api_version,
        kind,
        name,
        uid: owner,
        controller,
        block_owner_deletion,
    } = &owners[0];
    assert_eq!(
        (api_version.as_str(), kind.as_str()),
        ("curfew.dev/v1alpha1", "AccessGrant")
    );
    assert_eq!(
        (name, owner),
        (grant.metadata.name.as_ref().unwrap(), &uid().to_string())
    );
    assert_eq!((owners.len(), controller, block_owner_deletion), (1, &None, &None));
}

#[test]
fn a_binding_gives_one_role_to_one_user_in_one_namespace_and_says_until_when() {
    let RoleBinding {
        metadata,
        role_ref,
        subjects,
    } = stored();
    assert_eq!(metadata.name, Some(format!("curfew-{}", uid())));
    assert_eq!(metadata.namespace.as_deref(), Some("team-a"));
    assert_eq!(metadata.labels.unwrap()[marks::GRANT_UID], uid().to_string());
    let annotations = metadata.annotations.unwrap();
    assert_eq!(annotations[marks::DEADLINE], "2027-01-15T08:30:00Z");
    assert_eq!(annotations[marks::GRANT], "grant-uid-of-fix");
    assert_eq!(annotations[marks::REQUEST], "team-a/fix");
    assert_eq!(
        (role_ref.kind.as_str(), role_ref.name.as_str()),
        ("ClusterRole", "reader")
    );
    let alice = Subject {
        api_group: Some(RBAC.into()),
        kind: "User".into(),
        name: "alice".into(),
        namespace: None,
    };
    assert_eq!(subjects, Some(vec![alice]));
}

#[test]
fn a_service_account_is_bound_as_one() {
    let mut grant = grant_observed().grant;
    let (name, namespace) = ("bot".to_owned(), Some("ci".to_owned()));
    grant.spec.subject = GrantedSubject {
        kind: "ServiceAccount".into(),
        name,
        namespace,
    };
    let subjects = desired(&grant, &uid(), &grant.spec.places()[0]).subjects.unwrap();
    let Subject {
        api_group,
        kind,
        name,
        namespace,
    } = &subjects[0];
    assert_eq!(
        (api_group, kind.as_str(), name.as_str()),
        (&None, "ServiceAccount", "bot")
    );
    assert_eq!(namespace.as_deref(), Some("ci"));
}

#[test]
fn what_the_api_server_adds_is_no_drift() {
    let harmless: &[Change] = &[
        |_| {},
        |binding| binding.metadata.resource_version = Some("7".into()),
        |binding| binding.metadata.finalizers = Some(vec![]),
        |binding| {
            _ = binding
                .metadata
                .labels
                .as_mut()
                .unwrap()
                .insert("theirs".into(), "x".into())
        },
        |binding| {
            _ = binding
                .metadata
                .annotations
                .as_mut()
                .unwrap()
                .insert("theirs".into(), "x".into())
        },
    ];
    for (index, change) in harmless.iter().enumerate() {
        assert_eq!(drift(&stored(), &changed(*change)), None, "row {index}");
    }
}

#[test]
fn every_other_change_is_drift_and_is_named() {
    let table: &[(&str, Change)] = &[
        ("subjects", |binding| binding.subjects = None),
        ("subjects", |binding| binding.subjects = Some(vec![])),
        ("subjects", |binding| {
            binding.subjects.as_mut().unwrap()[0].name = "mallory".into()
        }),
        ("subjects", |binding| {
            binding.subjects.as_mut().unwrap()[0].kind = "Group".into()
        }),
        ("subjects", |binding| {
            binding.subjects.as_mut().unwrap()[0].namespace = Some("ci".into())
        }),
        ("subjects", |binding| {
            let subjects = binding.subjects.as_mut().unwrap();
            subjects.push(subjects[0].clone());
        }),
        ("role", |binding| binding.role_ref.name = "admin".into()),
        ("role", |binding| binding.role_ref.kind = "Role".into()),
        ("labels", |binding| binding.metadata.labels = None),
        ("labels", |binding| {
            _ = binding.metadata.labels.as_mut().unwrap().remove(marks::GRANT_UID)
        }),
        ("labels", |binding| {
            let labels = binding.metadata.labels.as_mut().unwrap();
            labels.insert(marks::GRANT_UID.into(), "another".into());
        }),
        ("annotations", |binding| binding.metadata.annotations = None),
        ("annotations", |binding| {
            let annotations = binding.metadata.annotations.as_mut().unwrap();
            annotations.insert(marks::DEADLINE.into(), "2099-01-01T00:00:00Z".into());
        }),
        ("owners", |binding| binding.metadata.owner_references = None),
        ("owners", |binding| {
            binding.metadata.owner_references.as_mut().unwrap().push(other_owner())
        }),
        ("owners", |binding| {
            binding.metadata.owner_references = Some(vec![other_owner()])
        }),
        ("finalizer", |binding| {
            binding.metadata.finalizers = Some(strings(&["theirs/hold"]))
        }),
        ("deleted", |binding| {
            binding.metadata.deletion_timestamp = Some(written(5))
        }),
    ];
    for (index, (what, change)) in table.iter().enumerate() {
        let how = drift(&stored(), &changed(*change)).unwrap_or_default();
        assert!(how.contains(what), "row {index}: {how:?} doesn't speak of {what}");
    }
}

#[test]
fn a_binding_is_marked_as_ours_only_by_all_marks_together() {
    assert_eq!(marked(&stored()), Some(uid()));
    let table: &[Change] = &[
        |binding| binding.metadata.name = Some("curfew-another".into()),
        |binding| binding.metadata.name = Some("admins".into()),
        |binding| binding.metadata.labels = None,
        |binding| {
            _ = binding
                .metadata
                .labels
                .as_mut()
                .unwrap()
                .insert(marks::GRANT_UID.into(), "another".into())
        },
        |binding| binding.metadata.owner_references = None,
        |binding| binding.metadata.owner_references = Some(vec![]),
        |binding| binding.metadata.owner_references.as_mut().unwrap().push(other_owner()),
        |binding| binding.metadata.owner_references = Some(vec![other_owner()]),
        |binding| binding.metadata.owner_references.as_mut().unwrap()[0].kind = "ConfigMap".into(),
        |binding| binding.metadata.owner_references.as_mut().unwrap()[0].api_version = "curfew.dev/v2".into(),
    ];
    for (index, change) in table.iter().enumerate() {
        assert_eq!(marked(&changed(*change)), None, "row {index}");
    }
}

#[test]
fn a_recorded_binding_is_its_grants_whatever_became_of_it() {
    let stripped = changed(|binding| {
        binding.metadata.labels = None;
        binding.metadata.owner_references = None;
    });
    assert!(is_of_grant(&uid(), &[record(&stored())], &stripped));
    assert!(!is_of_grant(&uid(), &[], &stripped), "nothing says that it is ours");
    assert!(is_of_grant(&uid(), &[], &stored()), "its marks say so");
}

#[test]
fn a_binding_of_somebody_else_is_not_the_grants() {
    let replaced = changed(|binding| {
        binding.metadata.uid = Some("another".into());
        binding.metadata.labels = None;
    });
    assert!(!is_of_grant(&uid(), &[record(&stored())], &replaced));
    let elsewhere = changed(|binding| {
        binding.metadata.namespace = Some("team-b".into());
        binding.metadata.labels = None;
    });
    assert!(!is_of_grant(&uid(), &[record(&stored())], &elsewhere));
    let renamed = changed(|binding| binding.metadata.name = Some("admins".into()));
    assert!(
        !is_of_grant(&uid(), &[record(&renamed)], &renamed),
        "only the derived name is ever ours"
    );
    assert!(!is_of_grant(&GrantUid::new("another"), &[], &stored()));
}

#[test]
fn a_binding_hangs_on_its_anchor_and_without_one_on_its_grant() {
    let [owner] = &stored().metadata.owner_references.unwrap()[..] else {
        panic!("not exactly one owner");
    };
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("IPAddress", "10.0.0.7"));
    assert_eq!(owner.uid, "uid-of-the-address");
    let mut grant = grant_observed().grant;
    grant.spec.anchor = None;
    let [owner] = &stored_binding(&grant).metadata.owner_references.unwrap()[..] else {
        panic!("not exactly one owner");
    };
    assert_eq!(
        (owner.kind.as_str(), owner.uid.clone()),
        ("AccessGrant", uid().to_string())
    );
    assert_eq!(marked(&stored_binding(&grant)), Some(uid()));
}

#[test]
fn the_grants_name_is_written_on_a_binding() {
    assert_eq!(grant_name(&stored()).as_deref(), Some("grant-uid-of-fix"));
    assert_eq!(
        grant_name(&changed(|binding| binding.metadata.annotations = None)),
        None
    );
}

#[test]
fn the_sweep_keeps_a_binding_until_just_after_its_deadline_and_only_while_its_grant_stands() {
    let grant = bound().grant;
    let until = at(1800) + SWEEP_DELAY;
    assert_eq!(
        sweep(Some(&grant), &in_namespace("team-a"), at(0)),
        Sweep::Keep { until }
    );
    assert_eq!(
        sweep(Some(&grant), &in_namespace("team-a"), at(1800)),
        Sweep::Keep { until },
        "the grant's own timer comes first"
    );
    assert_eq!(sweep(Some(&grant), &in_namespace("team-a"), until), Sweep::Remove);
    assert_eq!(sweep(None, &in_namespace("team-a"), at(0)), Sweep::Remove);
    assert_eq!(
        sweep(Some(&grant), &in_namespace("team-b"), at(0)),
        Sweep::Remove,
        "it is for another namespace"
    );
    let mut ended = grant.clone();
    ended.status.as_mut().unwrap().phase = Some(GrantPhase::Ended);
    assert_eq!(sweep(Some(&ended), &in_namespace("team-a"), at(0)), Sweep::Remove);
    let mut promising = grant;
    promising.status.as_mut().unwrap().expires_at = Some(written(1_000_000));
    assert_eq!(
        sweep(Some(&promising), &in_namespace("team-a"), until),
        Sweep::Remove,
        "the status moves no deadline"
    );
}

#[test]
fn a_grant_for_the_whole_cluster_explains_what_holds_everywhere_and_nothing_in_a_namespace() {
    let mut grant = bound().grant;
    grant.spec.targets.clear();
    grant.spec.cluster_wide = true;
    let [place] = &grant.spec.places()[..] else {
        panic!("one place");
    };
    let made = desired(&grant, &uid(), place);
    assert_eq!(made.metadata.namespace, None);
    let mut as_stored = made.clone();
    as_stored.metadata.uid = Some("uid-of-the-binding".into());
    assert_eq!(marked(&as_stored), Some(uid()));
    assert_eq!(drift(&made, &as_stored), None);
    let until = grant::deadline(&grant) + SWEEP_DELAY;
    assert_eq!(sweep(Some(&grant), &made, at(0)), Sweep::Keep { until });
    assert_eq!(sweep(Some(&grant), &in_namespace("team-a"), at(0)), Sweep::Remove);
    assert_eq!(sweep(Some(&bound().grant), &made, at(0)), Sweep::Remove);
}
