use super::*;

const OPERATOR_NAME: &str = "system:serviceaccount:curfew-system:curfew";

fn all() -> Vec<Shipped> {
    shipped(OPERATOR_NAME, true).unwrap()
}

/// The guards as an API server of 1.37 gives them back: with what it fills in.
fn stored() -> Vec<Found> {
    let stored = |(number, Shipped { kind, name, mut spec }): (usize, Shipped)| {
        match kind {
            GuardKind::ValidatingAdmissionPolicy | GuardKind::MutatingAdmissionPolicy => {
                spec["matchConstraints"]["namespaceSelector"] = json!({});
                spec["matchConstraints"]["objectSelector"] = json!({});
                spec["matchConstraints"]["matchPolicy"] = json!("Equivalent");
                spec["failurePolicy"] = json!("Fail");
            }
            GuardKind::ValidatingAdmissionPolicyBinding | GuardKind::MutatingAdmissionPolicyBinding => {}
            GuardKind::CustomResourceDefinition => {
                spec["conversion"] = json!({"strategy": "None"});
                spec["names"]["listKind"] = json!(format!("{}List", spec["names"]["kind"].as_str().unwrap()));
            }
        }
        Found {
            mark: Mark {
                kind,
                name,
                uid: format!("uid-{number}"),
                generation: 1,
            },
            spec,
            terminating: false,
        }
    };
    all().into_iter().enumerate().map(stored).collect()
}

fn of<'a>(found: &'a mut [Found], kind: GuardKind, name: &str) -> &'a mut Found {
    found
        .iter_mut()
        .find(|found| found.mark.kind == kind && found.mark.name == name)
        .unwrap()
}

fn policy<'a>(found: &'a mut [Found], name: &str) -> &'a mut Value {
    &mut of(found, GuardKind::ValidatingAdmissionPolicy, name).spec
}

/// The reason and the message with which granting stops.
fn stops(change: impl Fn(&mut Vec<Found>)) -> (&'static str, String) {
    let mut found = stored();
    change(&mut found);
    let Brake { reason, message } = flaw(&all(), &found).expect("nothing is found wrong");
    (reason, message)
}

fn foreign(constraints: Value, narrowed: Value) -> [Found; 2] {
    let found = |kind, spec| Found {
        mark: Mark {
            kind,
            name: "labels-everything".into(),
            uid: "foreign".into(),
            generation: 1,
        },
        spec,
        terminating: false,
    };
    [
        found(
            GuardKind::MutatingAdmissionPolicy,
            json!({"matchConstraints": constraints}),
        ),
        found(
            GuardKind::MutatingAdmissionPolicyBinding,
            json!({"policyName": "labels-everything", "matchResources": narrowed}),
        ),
    ]
}

fn rules(group: &str, resources: &[&str], operations: &[&str]) -> Value {
    json!([{"apiGroups": [group], "apiVersions": ["*"], "resources": resources, "operations": operations}])
}

fn is_overtaken(constraints: Value, narrowed: Value) -> bool {
    let mut found = stored();
    found.extend(foreign(constraints, narrowed));
    match flaw(&all(), &found) {
        None => false,
        Some(brake) => {
            assert_eq!(brake.reason, "GuardOvertaken", "{brake:?}");
            assert!(brake.message.contains("\"labels-everything\""), "{brake:?}");
            true
        }
    }
}

#[test]
fn every_guard_of_the_chart_is_known_with_its_binding() {
    let all = all();
    let names = |kind| {
        let of_kind = all.iter().filter(move |guard| guard.kind == kind);
        of_kind.map(|guard| guard.name.as_str()).collect::<Vec<_>>()
    };
    let checking = names(GuardKind::ValidatingAdmissionPolicy);
    assert!(
        [
            "curfew-decisions",
            "curfew-evidence",
            "curfew-operator-bounds",
            "curfew-requests",
            "curfew-reserved",
            "curfew-status"
        ]
        .iter()
        .all(|name| checking.contains(name)),
        "{checking:?}"
    );
    assert_eq!(names(GuardKind::ValidatingAdmissionPolicyBinding), checking);
    let stamping = names(GuardKind::MutatingAdmissionPolicy);
    assert_eq!(stamping, ["curfew-stamp-decision", "curfew-stamp-requester"]);
    assert_eq!(names(GuardKind::MutatingAdmissionPolicyBinding), stamping);
    assert_eq!(names(GuardKind::CustomResourceDefinition), definition_names());
    assert!(
        !serde_json::to_string(&all.iter().map(|guard| &guard.spec).collect::<Vec<_>>())
            .unwrap()
            .contains(OPERATOR)
    );
}

#[test]
fn guards_as_shipped_are_right_whatever_the_api_server_fills_in() {
    assert_eq!(flaw(&all(), &stored()), None);
    let mut bare = stored();
    for (found, shipped) in bare.iter_mut().zip(all()) {
        found.spec = shipped.spec;
    }
    assert_eq!(flaw(&all(), &bare), None);
}

#[test]
fn stamping_policies_are_wanted_only_where_the_api_server_has_them() {
    let without_stamps = |found: &Found| {
        !matches!(
            found.mark.kind,
            GuardKind::MutatingAdmissionPolicy | GuardKind::MutatingAdmissionPolicyBinding
        )
    };
    let found: Vec<_> = stored().into_iter().filter(without_stamps).collect();
    assert_eq!(flaw(&shipped(OPERATOR_NAME, false).unwrap(), &found), None);
    assert_eq!(flaw(&all(), &found).unwrap().reason, "GuardMissing");
}

#[test]
fn a_guard_that_is_missing_or_going_stops_granting_and_is_named() {
    for number in 0..stored().len() {
        let name = stored()[number].mark.name.clone();
        for (reason, message) in [
            stops(|found| drop(found.remove(number))),
            stops(|found| found[number].terminating = true),
        ] {
            assert_eq!(reason, "GuardMissing");
            assert!(message.contains(&format!("{name:?}")), "{message}");
        }
    }
}

#[test]
fn whatever_differs_in_a_guard_stops_granting_and_says_where() {
    type Change = fn(&mut Vec<Found>);
    let table: [(Change, &str); 12] = [
        (
            |found| {
                policy(found, "curfew-decisions")["matchConditions"] =
                    json!([{"name": "not-eve", "expression": "request.userInfo.username != 'eve'"}])
            },
            "spec.matchConditions",
        ),
        (
            |found| {
                let conditions = &mut policy(found, "curfew-reserved")["matchConditions"];
                conditions
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": "not-eve", "expression": "request.userInfo.username != 'eve'"}));
            },
            "spec.matchConditions",
        ),
        (
            |found| policy(found, "curfew-decisions")["validations"][1]["expression"] = json!("true"),
            "spec.validations[1].expression",
        ),
        (
            |found| {
                drop(
                    policy(found, "curfew-requests")["validations"]
                        .as_array_mut()
                        .unwrap()
                        .pop(),
                )
            },
            "spec.validations",
        ),
        (
            |found| policy(found, "curfew-status")["failurePolicy"] = json!("Ignore"),
            "spec.failurePolicy",
        ),
        (
            |found| {
                policy(found, "curfew-status")["matchConstraints"]["namespaceSelector"] =
                    json!({"matchLabels": {"a": "b"}})
            },
            "spec.matchConstraints.namespaceSelector",
        ),
        (
            |found| policy(found, "curfew-status")["matchConstraints"]["excludeResourceRules"] = json!([{}]),
            "spec.matchConstraints.excludeResourceRules",
        ),
        (
            |found| policy(found, "curfew-status")["paramKind"] = json!({"kind": "X"}),
            "spec.paramKind",
        ),
        (
            |found| {
                of(found, GuardKind::ValidatingAdmissionPolicyBinding, "curfew-decisions").spec["validationActions"] =
                    json!(["Audit"])
            },
            "spec.validationActions[0]",
        ),
        (
            |found| {
                of(found, GuardKind::ValidatingAdmissionPolicyBinding, "curfew-decisions").spec["matchResources"] =
                    json!({"namespaceSelector": {"matchLabels": {"a": "b"}}})
            },
            "spec.matchResources",
        ),
        (
            |found| {
                of(found, GuardKind::MutatingAdmissionPolicy, "curfew-stamp-decision").spec["somethingNew"] =
                    json!(true)
            },
            "spec.somethingNew",
        ),
        (
            |found| {
                let spec = &mut of(found, GuardKind::CustomResourceDefinition, "accessrequests.curfew.dev").spec;
                drop(
                    spec["versions"][0]["schema"]["openAPIV3Schema"]
                        .as_object_mut()
                        .unwrap()
                        .remove("x-kubernetes-validations"),
                );
                drop(
                    spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
                        .as_object_mut()
                        .unwrap()
                        .remove("x-kubernetes-validations"),
                );
            },
            "x-kubernetes-validations",
        ),
    ];
    for (change, place) in table {
        let (reason, message) = stops(change);
        assert_eq!(reason, "GuardChanged", "{message}");
        assert!(
            message.contains(place) && message.contains(" differs"),
            "{place}: {message}"
        );
    }
}

#[test]
fn guards_made_for_another_operator_are_not_ours() {
    let others = shipped("system:serviceaccount:elsewhere:curfew", true).unwrap();
    let brake = flaw(&others, &stored()).unwrap();
    assert_eq!(brake.reason, "GuardChanged");
    assert!(brake.message.contains("more like this"), "{}", brake.message);
}

#[test]
fn somebody_elses_policy_that_may_change_what_is_ours_stops_granting() {
    let ours = || json!({"resourceRules": rules("curfew.dev", &["accessrequests"], &["CREATE"])});
    assert!(is_overtaken(ours(), Value::Null));
    for (group, resource) in [
        ("*", "*/*"),
        ("curfew.dev", "*/status"),
        ("*", "*"),
        ("curfew.dev", "accessgrants/*"),
        ("rbac.authorization.k8s.io", "rolebindings"),
    ] {
        let constraints = json!({"resourceRules": rules(group, &[resource], &["*"])});
        assert!(is_overtaken(constraints, json!({})), "{group} {resource}");
    }
    // A selector or a resource name may match; nobody evaluates it.
    let mut narrowed = ours();
    narrowed["namespaceSelector"] = json!({"matchLabels": {"a": "b"}});
    narrowed["resourceRules"][0]["resourceNames"] = json!(["x"]);
    assert!(is_overtaken(narrowed, Value::Null));
    assert!(is_overtaken(ours(), ours()));
}

#[test]
fn somebody_elses_policy_about_other_things_or_bound_to_nothing_is_nobodys_matter() {
    let about =
        |group, resources: &[&str], operations: &[&str]| json!({"resourceRules": rules(group, resources, operations)});
    let ours = || about("*", &["*/*"], &["*"]);
    assert!(!is_overtaken(about("apps", &["deployments"], &["*"]), Value::Null));
    assert!(!is_overtaken(
        about("curfew.dev", &["accessrequests"], &["DELETE"]),
        Value::Null
    ));
    assert!(!is_overtaken(
        about("rbac.authorization.k8s.io", &["roles"], &["*"]),
        Value::Null
    ));
    assert!(
        !is_overtaken(ours(), about("apps", &["*"], &["*"])),
        "the binding narrows it"
    );

    let all_but_ours = json!({
        "resourceRules": rules("*", &["*/*"], &["*"]),
        "excludeResourceRules": [rules("curfew.dev", &["*/*"], &["*"])[0], rules("rbac.authorization.k8s.io", &["*"], &["CREATE", "UPDATE"])[0]],
    });
    assert!(!is_overtaken(all_but_ours.clone(), Value::Null));
    let mut only_some = all_but_ours;
    only_some["excludeResourceRules"][0]["resourceNames"] = json!(["x"]);
    assert!(
        is_overtaken(only_some, Value::Null),
        "what excludes one name excludes nothing"
    );

    let mut found = stored();
    found.extend(foreign(ours(), Value::Null).into_iter().take(1));
    assert_eq!(flaw(&all(), &found), None, "a policy without a binding does nothing");
}

#[test]
fn the_epoch_is_another_after_every_change_of_a_guard_and_whenever_one_is_away_or_came_back() {
    let marks: Vec<Mark> = own(&all(), stored().into_iter().map(|found| found.mark));
    let before = epoch(&marks);
    let mut seen = BTreeSet::from([before.clone()]);
    for number in 0..marks.len() {
        let mut changed = marks.clone();
        changed[number].generation += 1;
        assert!(seen.insert(epoch(&changed)));
        let mut replaced = marks.clone();
        replaced[number].uid = "another".into();
        assert!(seen.insert(epoch(&replaced)));
        let mut away = marks.clone();
        away.remove(number);
        assert!(seen.insert(epoch(&away)));
    }
    assert_eq!(
        epoch(&marks.iter().rev().cloned().collect::<Vec<_>>()),
        before,
        "in whatever order"
    );
}

#[test]
fn only_own_guards_are_in_the_epoch() {
    let mut found = stored();
    let count = found.len();
    found.extend(foreign(Value::Null, Value::Null));
    assert_eq!(own(&all(), found.into_iter().map(|found| found.mark)).len(), count);
}

#[test]
fn only_the_guards_own_refusal_proves_it() {
    let guard = "curfew-requests";
    let is_proof = |message: &str| is_refusal_of(guard, message);
    assert!(is_proof(
        "accessrequests.curfew.dev \"x\" is forbidden: ValidatingAdmissionPolicy 'curfew-requests' with binding 'curfew-requests' denied request: no"
    ));
    for other in [
        "accessrequests.curfew.dev is forbidden: User \"x\" cannot create resource",
        "x is forbidden: ValidatingAdmissionPolicy 'curfew-requests' with binding 'another' denied request: no",
        "x is forbidden: ValidatingAdmissionPolicy 'curfew-reserved' with binding 'curfew-reserved' denied request: no",
    ] {
        assert!(!is_proof(other), "{other}");
    }
}

/// The guard that is shipped as the one, found as the other.
fn found_as(kind: GuardKind, shipped: Value, found: Value) -> Option<Brake> {
    let shipped = Shipped {
        kind,
        name: "a-guard".into(),
        spec: shipped,
    };
    let found = Found {
        mark: Mark {
            kind,
            name: "a-guard".into(),
            uid: "uid".into(),
            generation: 1,
        },
        spec: found,
        terminating: false,
    };
    flaw(&[shipped], &[found])
}

#[test]
fn only_what_the_api_server_itself_fills_in_is_no_difference() {
    let policy = GuardKind::ValidatingAdmissionPolicy;
    let rules = |fields: Value| json!({"matchConstraints": {"resourceRules": [fields]}});
    for (filled, other) in [
        (json!({"failurePolicy": "Fail"}), json!({"failurePolicy": "Ignore"})),
        (json!({"matchPolicy": "Equivalent"}), json!({"matchPolicy": "Exact"})),
        (rules(json!({"scope": "*"})), rules(json!({"scope": "Namespaced"}))),
        (
            json!({"objectSelector": {}}),
            json!({"objectSelector": {"matchLabels": {"a": "b"}}}),
        ),
        (json!({"variables": []}), json!({"variables": [{"name": "x"}]})),
        (json!({"paramKind": null}), json!({"paramKind": {"kind": "ConfigMap"}})),
    ] {
        let bare = if filled.get("matchConstraints").is_some() {
            rules(json!({}))
        } else {
            json!({})
        };
        assert_eq!(found_as(policy, bare.clone(), filled.clone()), None, "{filled}");
        assert_eq!(
            found_as(policy, bare, other.clone()).unwrap().reason,
            "GuardChanged",
            "{other}"
        );
    }
    let definition = GuardKind::CustomResourceDefinition;
    let named = |fields: Value| {
        let mut names = json!({"kind": "Thing", "plural": "things"});
        let more = fields.as_object().unwrap().clone();
        names.as_object_mut().unwrap().extend(more);
        json!({"names": names})
    };
    let with = |fields: Value| {
        let mut spec = named(json!({}));
        spec.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        spec
    };
    for (filled, other) in [
        (
            named(json!({"singular": "thing"})),
            named(json!({"singular": "another"})),
        ),
        (
            named(json!({"listKind": "ThingList"})),
            named(json!({"listKind": "Another"})),
        ),
        (named(json!({"shortNames": []})), named(json!({"shortNames": ["t"]}))),
        (
            with(json!({"preserveUnknownFields": false})),
            with(json!({"preserveUnknownFields": true})),
        ),
        (
            with(json!({"conversion": {"strategy": "None"}})),
            with(json!({"conversion": {"strategy": "Webhook"}})),
        ),
    ] {
        assert_eq!(found_as(definition, named(json!({})), filled.clone()), None, "{filled}");
        let changed = found_as(definition, named(json!({})), other.clone()).unwrap();
        assert_eq!(changed.reason, "GuardChanged", "{other}");
    }
}

#[test]
fn whoever_is_told_of_a_wrong_guard_is_told_what_repairs_it() {
    let told = |kind, found: Value| found_as(kind, json!({}), found).unwrap().message;
    let undo = "undo that, or delete it and run helm upgrade";
    let apply = "apply the CustomResourceDefinitions";
    let message = told(GuardKind::ValidatingAdmissionPolicy, json!({"variables": [1]}));
    assert!(message.contains(undo) && !message.contains(apply), "{message}");
    let message = told(GuardKind::CustomResourceDefinition, json!({"scope": "Cluster"}));
    assert!(message.contains(apply) && !message.contains("helm"), "{message}");
    let (_, missing) = stops(|found| found.retain(|found| found.mark.name != "curfew-status"));
    assert!(missing.contains("must run helm upgrade"), "{missing}");
}
