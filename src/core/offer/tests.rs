use std::collections::BTreeSet;

use super::*;
use crate::api::{
    Approval, DeadMansSwitch, LabelSelector, Limits, Namespaces, OnChange, Order, People, ReasonRule, Review, RoleKind,
    Stage,
};
use crate::core::fixture::*;

/// All that an offer rests on, owned, so that a test can change one thing.
#[derive(Clone)]
struct Owned {
    request_uid: String,
    request: AccessRequestSpec,
    policy_uid: String,
    policy: AccessPolicySpec,
    role: RoleFacts,
    targets: Vec<NamespaceFacts>,
    guards: String,
}

type Change = fn(&mut Owned);

fn owned() -> Owned {
    Owned {
        request_uid: "request".into(),
        request: request_spec(),
        policy_uid: "policy".into(),
        policy: policy_spec(),
        role: role("reader"),
        targets: vec![namespace("team-a")],
        guards: "epoch".into(),
    }
}

fn digest_of(owned: &Owned) -> String {
    digest(Terms {
        request: (&owned.request_uid, &owned.request),
        policy: (&owned.policy_uid, &owned.policy),
        role: &owned.role,
        targets: &owned.targets,
        guards: &owned.guards,
    })
}

fn changed(change: Change) -> String {
    let mut terms = owned();
    change(&mut terms);
    digest_of(&terms)
}

fn all_differ(table: &[(&str, Change)]) {
    let mut seen = BTreeSet::from([digest_of(&owned())]);
    for (what, change) in table {
        assert!(seen.insert(changed(*change)), "{what} makes no difference");
    }
}

fn stage(owned: &mut Owned) -> &mut Stage {
    &mut owned.policy.approval.as_mut().unwrap().stages[0]
}

#[test]
fn an_offer_is_sixty_four_hex_characters_and_its_code_the_first_eight() {
    let digest = digest_of(&owned());
    assert!(digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()));
    assert_eq!(code(&digest), digest[..8]);
    assert_eq!(code(""), "");
}

#[test]
fn the_same_terms_are_the_same_offer() {
    assert_eq!(digest_of(&owned()), digest_of(&owned()));
}

#[test]
fn every_field_of_the_request_is_in_the_offer_but_what_was_said_on_it() {
    // A field that nobody put into the table below doesn't compile here.
    let AccessRequestSpec {
        policy: _,
        role: _,
        namespaces: _,
        namespaces_from_policy: _,
        cluster_wide: _,
        duration: _,
        start_time: _,
        extends: _,
        reason: _,
        requester: _,
        decisions: _,
    } = request_spec();
    all_differ(&[
        ("uid", |terms| terms.request_uid = "another".into()),
        ("policy", |terms| terms.request.policy = Some("standard".into())),
        ("role", |terms| terms.request.role = cluster_role("writer")),
        ("namespaces", |terms| {
            terms.request.namespaces = Some(strings(&["team-a"]))
        }),
        ("namespacesFromPolicy", |terms| {
            terms.request.namespaces_from_policy = Some(true)
        }),
        ("clusterWide", |terms| terms.request.cluster_wide = Some(true)),
        ("duration", |terms| terms.request.duration = Some(lasting("31m"))),
        ("no duration", |terms| terms.request.duration = None),
        ("startTime", |terms| terms.request.start_time = Some(written(5))),
        ("extends", |terms| terms.request.extends = Some("grant".into())),
        ("reason", |terms| terms.request.reason = Some("OPS-2".into())),
        ("requester", |terms| {
            terms.request.requester = Some(requester("carol", &["dev"]))
        }),
        ("requester's groups", |terms| {
            terms.request.requester = Some(requester("alice", &[]))
        }),
        ("requester's uid", |terms| {
            terms.request.requester.as_mut().unwrap().uid = "7".into()
        }),
    ]);
    let said: Change = |terms| terms.request.decisions = vec![approve("bob", ""), deny("carol")];
    assert_eq!(changed(said), digest_of(&owned()));
}

#[test]
fn every_field_of_the_policy_is_in_the_offer() {
    // A field that nobody put into the table below doesn't compile here.
    let AccessPolicySpec {
        requesters: _,
        roles: _,
        namespaces: _,
        cluster_wide: _,
        max_duration: _,
        default_duration: _,
        request_ttl: _,
        reason: _,
        approval: _,
        require_code: _,
        require_direct: _,
        limits: _,
        retention: _,
        dead_mans_switch: _,
        allow_persistence: _,
        on_policy_change: _,
        on_role_change: _,
        start_tolerance: _,
        max_total_duration: _,
        review: _,
    } = policy_spec();
    all_differ(&[
        ("uid", |terms| terms.policy_uid = "another".into()),
        ("requesters", |terms| terms.policy.requesters = users(&["alice"])),
        ("roles", |terms| terms.policy.roles.push(cluster_role("writer"))),
        ("namespaces", |terms| terms.policy.namespaces = None),
        ("namespaces.selector", |terms| {
            let selector = Some(LabelSelector {
                match_labels: labels(&[("team", "a")]),
                ..LabelSelector::default()
            });
            terms.policy.namespaces = Some(Namespaces {
                names: strings(&["team-a"]),
                selector,
            });
        }),
        ("clusterWide", |terms| terms.policy.cluster_wide = true),
        ("maxDuration", |terms| terms.policy.max_duration = lasting("5h")),
        ("defaultDuration", |terms| terms.policy.default_duration = None),
        ("requestTTL", |terms| terms.policy.request_ttl = Some(lasting("1h"))),
        ("reason", |terms| terms.policy.reason = Some(ReasonRule::default())),
        ("approval", |terms| terms.policy.approval = None),
        ("approval.order", |terms| {
            let approval = terms.policy.approval.take().unwrap();
            terms.policy.approval = Some(Approval {
                order: Some(Order::Parallel),
                ..approval
            });
        }),
        ("stage's name", |terms| stage(terms).name = "other".into()),
        ("stage's approvers", |terms| stage(terms).approvers = users(&["bob"])),
        ("stage's required", |terms| stage(terms).required = Some(2)),
        ("stage's timeout", |terms| stage(terms).timeout = Some(lasting("1h"))),
        ("stage's escalateTo", |terms| {
            stage(terms).escalate_to = Some(People::default())
        }),
        ("requireCode", |terms| terms.policy.require_code = true),
        ("requireDirect", |terms| terms.policy.require_direct = true),
        ("limits", |terms| terms.policy.limits = Some(Limits::default())),
        ("retention", |terms| terms.policy.retention = Some(lasting("1h"))),
        ("deadMansSwitch", |terms| {
            terms.policy.dead_mans_switch = Some(DeadMansSwitch::Required)
        }),
        ("allowPersistence", |terms| terms.policy.allow_persistence = true),
        ("onPolicyChange", |terms| {
            terms.policy.on_policy_change = Some(OnChange::Revoke)
        }),
        ("onRoleChange", |terms| {
            terms.policy.on_role_change = Some(OnChange::Keep)
        }),
        ("startTolerance", |terms| {
            terms.policy.start_tolerance = Some(lasting("1h"))
        }),
        ("maxTotalDuration", |terms| {
            terms.policy.max_total_duration = Some(lasting("1h"))
        }),
        ("review", |terms| terms.policy.review = Some(Review::default())),
    ]);
}

#[test]
fn the_role_and_each_part_of_its_rules_are_in_the_offer() {
    all_differ(&[
        ("uid", |terms| terms.role.uid = "another".into()),
        ("kind", |terms| terms.role.reference.kind = RoleKind::Role),
        ("name", |terms| terms.role.reference.name = "writer".into()),
        ("no rules", |terms| terms.role.rules.clear()),
        ("one rule more", |terms| {
            terms.role.rules.push(rule("", &["pods"], &["get"]))
        }),
        ("a verb", |terms| terms.role.rules[0].verbs.push("watch".into())),
        ("a resource", |terms| {
            terms.role.rules[0].resources = Some(strings(&["secrets"]))
        }),
        ("a group", |terms| {
            terms.role.rules[0].api_groups = Some(strings(&["apps"]))
        }),
        ("a name", |terms| {
            terms.role.rules[0].resource_names = Some(strings(&["one"]))
        }),
        ("a url", |terms| {
            terms.role.rules[0].non_resource_urls = Some(strings(&["/metrics"]))
        }),
    ]);
}

#[test]
fn the_namespaces_are_in_the_offer_by_name_and_uid_and_in_their_order() {
    all_differ(&[
        ("uid", |terms| terms.targets[0].uid = "another".into()),
        ("name", |terms| terms.targets[0].name = "team-b".into()),
        ("none", |terms| terms.targets.clear()),
        ("one more", |terms| terms.targets.push(namespace("team-b"))),
        ("in another order", |terms| terms.targets.insert(0, namespace("team-b"))),
    ]);
    let relabelled: Change = |terms| terms.targets[0].labels.clear();
    assert_eq!(
        changed(relabelled),
        digest_of(&owned()),
        "labels matter through the policy's selector, not here"
    );
}

#[test]
fn the_guards_are_in_the_offer() {
    all_differ(&[("guards", |terms| terms.guards = "another".into())]);
}

#[test]
fn uids_cannot_be_shifted_from_one_field_into_the_next() {
    let one = Owned {
        request_uid: "ab".into(),
        policy_uid: "c".into(),
        ..owned()
    };
    let other = Owned {
        request_uid: "a".into(),
        policy_uid: "bc".into(),
        ..owned()
    };
    assert_ne!(digest_of(&one), digest_of(&other));
}

#[test]
fn digests_of_rules_and_policies_tell_one_from_another() {
    let (read, write) = (rule("", &["pods"], &["get"]), rule("", &["pods"], &["update"]));
    assert_ne!(
        rules_digest(std::slice::from_ref(&read)),
        rules_digest(std::slice::from_ref(&write))
    );
    assert_ne!(rules_digest(std::slice::from_ref(&read)), rules_digest(&[]));
    assert_eq!(rules_digest(std::slice::from_ref(&read)), rules_digest(&[read]));
    let other = AccessPolicySpec {
        require_code: true,
        ..policy_spec()
    };
    assert_ne!(policy_digest(&policy_spec()), policy_digest(&other));
}
