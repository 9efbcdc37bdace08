//! One request for several namespaces: those that it names, or those of its policy.

use super::super::targets::{Asked, MOST, asked, of_policy};
use super::*;
use crate::api::{LabelSelector, Namespaces, Place, RoleKind};

type Change = fn(&mut Observed);

fn named(names: &[&str]) -> Asked {
    Asked::Named(strings(names))
}

#[test]
fn a_request_asks_for_its_own_namespace_unless_it_names_one() {
    assert_eq!(asked(&observed().request), named(&["team-a"]));
    assert_eq!(asked(&asking_for(&["team-b"]).request), named(&["team-b"]));
}

#[test]
fn what_becomes_of_a_namespace_matters_to_those_who_may_get_access_there_and_a_role_is_looked_for_in_the_first() {
    let (several, of_policy) = (named(&["team-a", "team-b"]), Asked::OfPolicy("standard".into()));
    for (asked, matters) in [
        (&several, [true, true, false]),
        (&of_policy, [true; 3]),
        (&Asked::Cluster, [false; 3]),
    ] {
        assert_eq!(
            ["team-a", "team-b", "team-c"].map(|name| asked.may_include(name)),
            matters,
            "{asked:?}"
        );
    }
    assert_eq!(
        [several.first(), of_policy.first(), Asked::Cluster.first()],
        ["team-a", "", ""]
    );
}

/// A request for these namespaces, which are there and in the policy.
fn asking_for(names: &[&str]) -> Observed {
    let mut observed = observed();
    observed.request.spec.namespaces = Some(strings(names));
    observed.policies[0].spec.namespaces.as_mut().unwrap().names = strings(names);
    observed.targets = names.iter().map(|name| namespace(name)).collect();
    observed
}

#[test]
fn several_namespaces_are_offered_and_granted_together() {
    let offered = stepped(asking_for(&["team-a", "team-b", "team-c"]), 1);
    let digest = offer(&offered);
    let status = offered.request.status.as_ref().unwrap();
    let names: Vec<_> = status.targets.iter().map(|target| target.namespace.as_str()).collect();
    assert_eq!(names, ["team-a", "team-b", "team-c"]);
    let Plan::Grant { spec, .. } = decide(&said(offered, &[approve("bob", &digest)]), at(2)) else {
        panic!("it is granted")
    };
    assert_eq!(spec.targets.len(), 3);
}

#[test]
fn one_namespace_that_is_missing_going_or_not_in_the_policy_holds_up_all() {
    let table: [(&str, Change); 4] = [
        ("NamespaceMissing", |observed| drop(observed.targets.remove(1))),
        ("NamespaceTerminating", |observed| {
            observed.targets[1].terminating = true
        }),
        ("NamespaceNotInPolicy", |observed| {
            observed.request.spec.policy = observed.policies[0].metadata.name.clone();
            observed.policies[0].spec.namespaces.as_mut().unwrap().names.truncate(1);
        }),
        ("RoleOfOneNamespace", |observed| {
            observed.request.spec.role = RoleReference {
                kind: RoleKind::Role,
                name: "reader".into(),
            };
        }),
    ];
    for (reason, change) in table {
        let mut observed = asking_for(&["team-a", "team-b"]);
        change(&mut observed);
        assert_eq!(blocked(&observed), reason);
    }
}

#[test]
fn a_namespace_that_is_named_twice_is_one() {
    assert_eq!(asked(&asking_for(&["team-a", "team-a"]).request), named(&["team-a"]));
}

#[test]
fn one_of_several_namespaces_that_was_replaced_ends_the_request() {
    let mut observed = stepped(asking_for(&["team-a", "team-b"]), 1);
    observed.targets[1].uid = "another".into();
    assert_eq!(ended(&observed, 2), (RequestPhase::Failed, "TargetGone".into()));
}

// ---- those of its policy -------------------------------------------------------------------------------------------

/// A request for all namespaces of its policy, which are these at present.
fn asking_for_those_of_the_policy(names: &[&str]) -> Observed {
    let mut observed = asking_for(names);
    observed.request.spec.namespaces = None;
    observed.request.spec.policy = observed.policies[0].metadata.name.clone();
    observed.request.spec.namespaces_from_policy = Some(true);
    observed
}

#[test]
fn the_namespaces_of_a_policy_are_fixed_with_the_first_offer() {
    let asking = asking_for_those_of_the_policy(&["team-a", "team-b"]);
    assert_eq!(asked(&asking.request), Asked::OfPolicy("standard".into()));
    let offered = stepped(asking, 1);
    assert_eq!(asked(&offered.request), named(&["team-a", "team-b"]));
    let digest = offer(&offered);
    let Plan::Grant { spec, .. } = decide(&said(offered.clone(), &[approve("bob", &digest)]), at(2)) else {
        panic!("it is granted")
    };
    assert_eq!(spec.targets.len(), 2);

    // One that is let in later isn't among them; one that is let in no longer holds up the others.
    let mut narrowed = offered;
    narrowed.policies[0].spec.namespaces.as_mut().unwrap().names = strings(&["team-a", "team-c"]);
    assert_eq!(blocked(&narrowed), "NamespaceNotInPolicy");
    assert_eq!(asked(&narrowed.request), named(&["team-a", "team-b"]));
}

#[test]
fn a_policy_that_lets_in_no_namespace_or_too_many_offers_nothing_in_them() {
    assert_eq!(blocked(&asking_for_those_of_the_policy(&[])), "NamespaceMissing");
    let names: Vec<String> = (0..=MOST).map(|number| format!("team-{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let too_many = asking_for_those_of_the_policy(&names);
    assert_eq!(blocked(&too_many), "TooManyNamespaces");
    let message = published(&too_many, 1).message.unwrap();
    assert!(message.contains("33") && message.contains("32"), "{message}");
    let as_many_as_may_be = asking_for_those_of_the_policy(&names[1..]);
    assert!(published(&as_many_as_may_be, 1).offer.is_some());
}

#[test]
fn a_role_of_one_namespace_is_not_asked_for_in_those_of_a_policy_however_many_they_are() {
    let mut observed = asking_for_those_of_the_policy(&["team-a"]);
    observed.request.spec.role.kind = RoleKind::Role;
    assert_eq!(blocked(&observed), "RoleOfOneNamespace");
    let frozen = stepped(asking_for_those_of_the_policy(&["team-a"]), 1);
    let mut frozen = frozen;
    frozen.request.spec.role.kind = RoleKind::Role;
    assert_eq!(blocked(&frozen), "RoleOfOneNamespace");
}

#[test]
fn without_its_policy_there_is_nothing_to_ask_for() {
    let mut observed = asking_for_those_of_the_policy(&["team-a"]);
    observed.request.spec.policy = None;
    assert_eq!(asked(&observed.request), named(&[]), "the schema refuses it");
    assert_eq!(blocked(&observed), "NamespaceMissing");
    let mut gone = asking_for_those_of_the_policy(&[]);
    gone.policies.clear();
    assert_eq!(blocked(&gone), "PolicyNotFound");
}

#[test]
fn the_namespaces_of_a_policy_are_those_that_it_lets_in_and_that_can_be_had_by_name() {
    let mut spec = policy_spec();
    spec.namespaces = Some(Namespaces {
        names: strings(&["named", "going", "kube-system", "curfew-system", "missing"]),
        selector: Some(LabelSelector {
            match_labels: labels(&[("team", "a")]),
            ..LabelSelector::default()
        }),
    });
    let unlabelled = |name: &str| NamespaceFacts {
        labels: labels(&[]),
        ..namespace(name)
    };
    let all = [
        namespace("selected"),
        unlabelled("another"),
        unlabelled("named"),
        unlabelled("kube-system"),
        namespace("curfew-system"),
        NamespaceFacts {
            terminating: true,
            ..namespace("going")
        },
    ];
    let found = of_policy(&spec, &observed().home, all);
    let names: Vec<_> = found.iter().map(|namespace| namespace.name.as_str()).collect();
    assert_eq!(names, ["named", "selected"]);
}

#[test]
fn a_request_for_the_whole_cluster_leads_to_a_grant_for_it_and_for_no_namespace() {
    let mut observed = observed();
    observed.policies[0].spec.cluster_wide = true;
    observed.request.spec.cluster_wide = Some(true);
    observed.targets.clear();
    let offered = stepped(observed, 1);
    assert_eq!(asked(&offered.request), Asked::Cluster);
    assert!(offered.request.status.as_ref().unwrap().targets.is_empty());
    let digest = offer(&offered);
    let mut approved = said(offered, &[approve("bob", &digest)]);
    let spec = granted(&approved, 2).spec;
    assert!(spec.cluster_wide && spec.targets.is_empty());
    assert_eq!(spec.places(), [Place::Cluster]);
    // What becomes of a namespace is nothing to it.
    assert!(!asked(&approved.request).may_include("team-a"));
    // A Role is one namespace's.
    approved.request.spec.role.kind = RoleKind::Role;
    assert_eq!(blocked(&approved), "RoleOfOneNamespace");
}
