use super::*;
use crate::api::{
    BreakGlass, LabelSelector, Limits, People, ReasonRule, RoleReference, SelectorOperator, SelectorRequirement,
};
use crate::core::facts::RoleFacts;
use crate::core::fixture::*;

type Change<T> = fn(&mut T);

pub(super) fn changed(change: Change<AccessPolicySpec>) -> AccessPolicySpec {
    let mut spec = policy_spec();
    change(&mut spec);
    spec
}

fn found(facts: RoleFacts) -> PolicyRole {
    PolicyRole {
        finding: RoleFinding::Found(facts),
        bindable: true,
    }
}

fn reasons(spec: &AccessPolicySpec, roles: &[PolicyRole]) -> Vec<&'static str> {
    flaws(spec, roles).into_iter().map(|flaw| flaw.reason).collect()
}

fn stage_of(spec: &mut AccessPolicySpec) -> &mut Stage {
    &mut spec.approval.as_mut().unwrap().stages[0]
}

fn of_two(names: &[&str]) -> Stage {
    Stage {
        name: "lead".into(),
        approvers: users(names),
        required: Some(2),
        ..Stage::default()
    }
}

fn select(spec: &mut AccessPolicySpec, selector: LabelSelector) {
    spec.namespaces.as_mut().unwrap().selector = Some(selector);
}

#[test]
fn a_policy_that_says_all_that_it_must_has_no_flaw() {
    assert_eq!(flaws(&policy_spec(), &[found(role("reader"))]), []);
}

#[test]
fn each_flaw_is_told_by_its_own_reason_and_alone() {
    let table: &[(&str, Change<AccessPolicySpec>)] = &[
        ("NothingMatches", |spec| spec.requesters = People::default()),
        ("NothingMatches", |spec| spec.roles.clear()),
        ("NothingMatches", |spec| spec.namespaces = None),
        ("NothingMatches", |spec| spec.namespaces = Some(Namespaces::default())),
        ("EmptySelector", |spec| select(spec, LabelSelector::default())),
        ("InvalidSelector", |spec| {
            let values = vec![];
            let requirement = SelectorRequirement {
                key: "team".into(),
                operator: SelectorOperator::In,
                values,
            };
            select(
                spec,
                LabelSelector {
                    match_expressions: vec![requirement],
                    ..LabelSelector::default()
                },
            );
        }),
        ("InvalidDuration", |spec| spec.max_duration = lasting("0s")),
        ("InvalidDuration", |spec| spec.default_duration = Some(lasting("1d"))),
        ("InvalidDuration", |spec| spec.default_duration = Some(lasting("4h1s"))),
        ("InvalidDuration", |spec| spec.request_ttl = Some(lasting("8761h"))),
        ("InvalidDuration", |spec| spec.retention = Some(lasting("30d"))),
        ("ApprovalMissing", |spec| spec.approval = None),
        ("ApprovalMissing", |spec| spec.approval = Some(Approval::default())),
        ("NobodyApproves", |spec| stage_of(spec).approvers = People::default()),
        ("NobodyApproves", |spec| stage_of(spec).required = Some(0)),
        ("NobodyApproves", |spec| stage_of(spec).required = Some(-1)),
        ("NeverMet", |spec| *stage_of(spec) = of_two(&["bob"])),
        ("NeverMet", |spec| *stage_of(spec) = of_two(&["bob", "bob"])),
        ("NothingLimited", |spec| spec.limits = Some(Limits::default())),
        ("InvalidPattern", |spec| {
            spec.reason = Some(ReasonRule {
                pattern: Some("(".into()),
                ..ReasonRule::default()
            })
        }),
    ];
    for (index, (reason, change)) in table.iter().enumerate() {
        assert_eq!(reasons(&changed(*change), &[]), [*reason], "row {index}");
    }
}

#[test]
fn a_default_duration_may_be_as_long_as_the_longest() {
    let spec = changed(|spec| spec.default_duration = Some(lasting("4h")));
    assert_eq!(reasons(&spec, &[]), [""; 0]);
}

#[test]
fn a_policy_for_the_whole_cluster_needs_no_namespaces_and_an_operator_that_may_bind_there() {
    let mut policy = policy("standard");
    policy.spec.namespaces = None;
    assert_eq!(reasons(&policy.spec, &[]), ["NothingMatches"]);
    policy.spec.cluster_wide = true;
    assert_eq!(reasons(&policy.spec, &[]), [""; 0]);
    let kinds =
        |policy: &mut crate::api::AccessPolicy, kind| policy.spec.roles.iter_mut().for_each(|role| role.kind = kind);
    kinds(&mut policy, RoleKind::Role);
    assert_eq!(
        reasons(&policy.spec, &[]),
        ["NothingMatches"],
        "a Role has its namespace"
    );
    kinds(&mut policy, RoleKind::ClusterRole);
    let ready = |wide| {
        let status = status(&policy, &[], wide, at(5));
        let ready = condition::get(&status.conditions, condition::READY).unwrap().clone();
        (ready.status, ready.reason)
    };
    assert_eq!(ready(true), ("True".into(), "Ready".into()));
    assert_eq!(ready(false), ("False".into(), "ClusterWideNotGrantable".into()));
    policy.spec.cluster_wide = false;
    policy.spec.namespaces = policy_spec().namespaces;
    let status = status(&policy, &[], false, at(5));
    assert!(
        condition::is_true(&status.conditions, condition::READY),
        "it isn't asked"
    );
}

#[test]
fn in_the_whole_cluster_every_hazard_plants_access() {
    let mut enters = role("reader");
    enters.rules.push(rule("", &["pods/exec"], &["create"]));
    let roles = [found(enters)];
    let wide = changed(|spec| spec.cluster_wide = true);
    assert_eq!(reasons(&changed(|_| {}), &roles), [""; 0]);
    assert_eq!(reasons(&wide, &roles), ["RolePlantsAccess"]);
    assert_eq!(
        reasons(&wide, &[found(role("reader"))]),
        [""; 0],
        "reading ConfigMaps is none"
    );
    let written_out = AccessPolicySpec {
        allow_persistence: true,
        ..wide
    };
    assert_eq!(reasons(&written_out, &roles), [""; 0]);
}

#[test]
fn stages_and_break_glass_together_are_ambiguous() {
    let spec = changed(|spec| spec.approval.as_mut().unwrap().break_glass = Some(BreakGlass {}));
    assert_eq!(reasons(&spec, &[]), ["ApprovalAmbiguous"]);
}

/// A chain of these stages.
fn chain(stages: Vec<Stage>) -> AccessPolicySpec {
    let mut spec = policy_spec();
    spec.approval.as_mut().unwrap().stages = stages;
    spec
}

fn named(name: &str, approvers: &[&str], required: i32) -> Stage {
    Stage {
        name: name.into(),
        required: Some(required),
        approvers: users(approvers),
        ..Stage::default()
    }
}

#[test]
fn a_chain_that_its_people_can_never_meet_says_in_which_stages() {
    let one_too_few = chain(vec![named("lead", &["bob"], 1), named("security", &["bob"], 1)]);
    let flaws = flaws(&one_too_few, &[]);
    assert_eq!(flaws[0].reason, "NeverMet");
    assert!(
        flaws[0].message.contains("\"lead\" and \"security\""),
        "{}",
        flaws[0].message
    );
    let others = || named("others", &["dave", "erin", "frank"], 1);
    let hidden = chain(vec![
        others(),
        named("lead", &["bob", "carol"], 2),
        named("security", &["carol"], 1),
    ]);
    assert_eq!(reasons(&hidden, &[]), ["NeverMet"]);
    for enough in [
        vec![named("lead", &["bob"], 1), named("security", &["bob", "carol"], 1)],
        vec![
            named("lead", &["bob"], 1),
            Stage {
                timeout: Some(lasting("1h")),
                escalate_to: Some(users(&["carol"])),
                ..named("security", &["bob"], 1)
            },
        ],
        vec![
            named("lead", &["bob"], 1),
            Stage {
                approvers: People {
                    groups: strings(&["sre"]),
                    ..users(&["bob"])
                },
                ..named("security", &[], 16)
            },
        ],
    ] {
        assert_eq!(reasons(&chain(enough.clone()), &[]), [""; 0], "{enough:?}");
    }
}

#[test]
fn a_chain_that_requires_more_approvals_than_a_request_holds_is_never_met() {
    let of = |required: i32, place: usize| Stage {
        approvers: People {
            groups: strings(&["sre"]),
            ..People::default()
        },
        ..named(&format!("stage-{place}"), &[], required)
    };
    let three = |required| (0..3).map(|place| of(required, place)).collect::<Vec<_>>();
    assert_eq!(reasons(&chain(three(16)), &[]), [""; 0]);
    let too_many = chain([three(16), vec![of(1, 3)]].concat());
    assert_eq!(reasons(&too_many, &[]), ["NeverMet"]);
    assert!(flaws(&too_many, &[])[0].message.contains("49 approvals together"));
}

#[test]
fn more_people_than_a_request_has_room_for_are_to_be_named_as_a_group() {
    let of_many = |last: i32| {
        let names: Vec<String> = (0..1024 + last).map(|number| format!("approver-{number}")).collect();
        let stages = names.chunks(128).enumerate().map(|(number, names)| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            named(&format!("stage-{number}"), &names, 1)
        });
        reasons(&chain(stages.collect()), &[])
    };
    assert_eq!(of_many(0), [""; 0]);
    assert_eq!(of_many(1), ["TooManyApprovers"]);
}

#[test]
fn what_is_wrong_with_a_stage_is_named() {
    let table: [(&str, &str, Stage); 4] = [
        ("StageNamedTwice", "\"lead\"", named("lead", &["dave"], 1)),
        (
            "InvalidDuration",
            "timeout",
            Stage {
                timeout: Some(lasting("0s")),
                ..named("second", &["dave"], 1)
            },
        ),
        (
            "TimeoutMissing",
            "second",
            Stage {
                escalate_to: Some(users(&["eve"])),
                ..named("second", &["dave"], 1)
            },
        ),
        (
            "NobodyApproves",
            "escalates to nobody",
            Stage {
                timeout: Some(lasting("1h")),
                escalate_to: Some(People::default()),
                ..named("second", &["dave"], 1)
            },
        ),
    ];
    for (reason, what, second) in table {
        let flaws = flaws(&chain(vec![named("lead", &["bob"], 1), second]), &[]);
        assert_eq!(flaws.iter().map(|flaw| flaw.reason).collect::<Vec<_>>(), [reason]);
        assert!(flaws[0].message.contains(what), "{}", flaws[0].message);
    }
}

#[test]
fn a_group_can_always_be_large_enough() {
    let spec = changed(|spec| stage_of(spec).required = Some(16));
    assert_eq!(reasons(&spec, &[]), [""; 0]);
}

#[test]
fn a_service_account_is_one_of_those_who_can_meet_a_stage() {
    let spec = changed(|spec| {
        let stage = stage_of(spec);
        stage.required = Some(3);
        stage.approvers.groups.clear();
    });
    assert_eq!(reasons(&spec, &[]), [""; 0]);
}

#[test]
fn each_obstacle_that_a_role_is_keeps_the_policy_from_being_ready() {
    let with = |rules| {
        found(RoleFacts {
            rules,
            ..role("reader")
        })
    };
    let own = RoleReference {
        kind: RoleKind::Role,
        name: "own".into(),
    };
    let binds = || vec![rule("rbac.authorization.k8s.io", &["rolebindings"], &["create"])];
    let table = [
        (
            vec!["RoleMissing"],
            PolicyRole {
                finding: RoleFinding::Missing(cluster_role("reader")),
                bindable: true,
            },
        ),
        (
            vec!["RoleMissing"],
            PolicyRole {
                finding: RoleFinding::Missing(cluster_role("reader")),
                bindable: false,
            },
        ),
        (vec!["RoleEmpty"], with(vec![])),
        (vec!["RolePlantsAccess"], with(binds())),
        (
            vec!["RoleNotGrantable"],
            PolicyRole {
                bindable: false,
                ..found(role("reader"))
            },
        ),
        (
            vec!["RolePlantsAccess", "RoleNotGrantable"],
            PolicyRole {
                bindable: false,
                ..with(binds())
            },
        ),
        (
            vec![],
            PolicyRole {
                finding: RoleFinding::PerNamespace(own.clone()),
                bindable: true,
            },
        ),
        (
            vec!["RoleNotGrantable"],
            PolicyRole {
                finding: RoleFinding::PerNamespace(own),
                bindable: false,
            },
        ),
    ];
    for (expected, role) in table {
        assert_eq!(
            reasons(&policy_spec(), std::slice::from_ref(&role)),
            expected,
            "{role:?}"
        );
    }
}

#[test]
fn a_role_that_plants_access_passes_only_where_that_is_written_out() {
    let planting = found(RoleFacts {
        rules: vec![rule("", &["serviceaccounts/token"], &["create"])],
        ..role("reader")
    });
    let spec = changed(|spec| spec.allow_persistence = true);
    assert_eq!(reasons(&spec, std::slice::from_ref(&planting)), [""; 0]);
    let message = &flaws(&policy_spec(), &[planting])[0].message;
    assert!(
        message.contains("MintsTokens") && message.contains("allowPersistence"),
        "{message}"
    );
}

#[test]
fn an_empty_role_is_refused_even_where_planting_is_allowed() {
    let spec = changed(|spec| spec.allow_persistence = true);
    assert_eq!(
        reasons(
            &spec,
            &[found(RoleFacts {
                rules: vec![],
                ..role("reader")
            })]
        ),
        ["RoleEmpty"]
    );
}

#[test]
fn the_ready_condition_tells_every_flaw_at_once() {
    let mut policy = policy("standard");
    policy.spec = changed(|spec| {
        spec.approval = None;
        spec.requesters = People::default();
        spec.max_duration = lasting("soon");
    });
    policy.metadata.generation = Some(2);
    let status = status(
        &policy,
        &[PolicyRole {
            bindable: false,
            ..found(role("reader"))
        }],
        false,
        at(5),
    );
    let ready = condition::get(&status.conditions, condition::READY).unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "NothingMatches")
    );
    assert_eq!(
        (ready.observed_generation, status.observed_generation),
        (Some(2), Some(2))
    );
    for part in [
        "requesters names nobody",
        "\"soon\"",
        "approval names no stages",
        "grantableRoles",
    ] {
        assert!(ready.message.contains(part), "{part} is missing in: {}", ready.message);
    }
}

#[test]
fn hazards_mark_a_policy_and_do_not_keep_it_from_being_ready() {
    let enters = found(RoleFacts {
        rules: vec![rule("", &["pods/exec"], &["create"])],
        ..role("reader")
    });
    let marked = status(&policy("standard"), &[enters], false, at(5)).conditions;
    assert!(condition::is_true(&marked, condition::READY));
    assert!(
        condition::get(&marked, condition::HAZARDOUS)
            .unwrap()
            .message
            .contains("EntersPods")
    );
    let harmless = status(&policy("standard"), &[found(role("reader"))], false, at(5)).conditions;
    assert!(condition::is_true(&harmless, condition::READY) && !condition::is_true(&harmless, condition::HAZARDOUS));
}

#[test]
fn a_request_waits_a_day_unless_its_policy_says_otherwise() {
    let ttl = |text| AccessPolicySpec {
        request_ttl: Some(lasting(text)),
        ..policy_spec()
    };
    assert_eq!(request_ttl(None), Duration::from_secs(86400));
    assert_eq!(request_ttl(Some(&policy_spec())), Duration::from_secs(86400));
    assert_eq!(request_ttl(Some(&ttl("10m"))), Duration::from_secs(600));
    assert_eq!(request_ttl(Some(&ttl("never"))), Duration::from_secs(86400));
}

#[test]
fn the_role_that_is_asked_for_must_exist_and_be_harmless_at_that_moment() {
    let own = RoleReference {
        kind: RoleKind::Role,
        name: "own".into(),
    };
    fn of(role: Option<&RoleFacts>, asked: &RoleReference) -> Vec<Obstacle> {
        obstacles_of_asked_role(&policy_spec(), role, asked, "team-a")
    }
    assert_eq!(of(Some(&role("reader")), &cluster_role("reader")), []);
    let missing = of(None, &own);
    assert!(
        missing[0].reason == "RoleMissing" && missing[0].message.contains("team-a"),
        "{missing:?}"
    );
    assert_eq!(of(None, &cluster_role("reader"))[0].reason, "RoleMissing");
    assert_eq!(
        of(
            Some(&RoleFacts {
                rules: vec![],
                ..role("reader")
            }),
            &own
        )[0]
        .reason,
        "RoleEmpty"
    );
}
