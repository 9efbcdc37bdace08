use super::*;
use crate::api::RoleKind;

type Change = fn(&mut Observed);

fn changed(change: Change) -> Observed {
    let mut observed = observed();
    change(&mut observed);
    observed
}

fn ready(observed: &mut Observed) -> &mut crate::api::AccessPolicyStatus {
    observed.policies[0].status.as_mut().unwrap()
}

const TABLE: &[(&str, Change)] = &[
    ("RequesterMissing", |observed| observed.request.spec.requester = None),
    ("ClusterWideNotInPolicy", |observed| {
        observed.request.spec.policy = Some("standard".into());
        observed.request.spec.cluster_wide = Some(true);
        observed.targets.clear();
    }),
    ("NamespaceMissing", |observed| observed.targets.clear()),
    ("NamespaceMissing", |observed| {
        observed.request.spec.namespaces = Some(strings(&["team-b"]))
    }),
    ("NamespaceTerminating", |observed| {
        observed.targets[0].terminating = true
    }),
    ("ProtectedSubject", |observed| {
        observed.request.spec.requester = Some(requester("system:admin", &["dev"]))
    }),
    ("ProtectedNamespace", |observed| {
        observed.home.namespace = "team-a".into()
    }),
    ("NoPolicyFits", |observed| observed.policies.clear()),
    ("PolicyNotFound", |observed| {
        observed.request.spec.policy = Some("another".into())
    }),
    ("PolicyNotReady", |observed| observed.policies[0].status = None),
    ("PolicyNotReady", |observed| ready(observed).conditions.clear()),
    ("PolicyNotReady", |observed| {
        ready(observed).conditions[0].status = "False".into()
    }),
    ("PolicyNotReady", |observed| {
        ready(observed).conditions[0].status = "Unknown".into()
    }),
    ("PolicyNotReady", |observed| {
        observed.policies[0].metadata.generation = Some(2)
    }),
    ("PolicyNotReady", |observed| observed.policies[0].spec.approval = None),
    ("DurationTooLong", |observed| {
        observed.request.spec.duration = Some(lasting("5h"))
    }),
    ("InvalidDuration", |observed| {
        observed.request.spec.duration = Some(lasting("1d"))
    }),
    ("DurationMissing", |observed| {
        observed.request.spec.duration = None;
        observed.policies[0].spec.default_duration = None;
    }),
    ("RoleMissing", |observed| observed.role = None),
    ("RoleEmpty", |observed| observed.role.as_mut().unwrap().rules.clear()),
    ("RolePlantsAccess", |observed| {
        observed.role.as_mut().unwrap().rules = vec![rule("", &["users"], &["impersonate"])];
    }),
];

#[test]
fn each_obstacle_is_told_by_its_own_reason_and_offers_nothing() {
    for (index, (reason, change)) in TABLE.iter().enumerate() {
        assert_eq!(blocked(&changed(*change)), *reason, "row {index}");
    }
}

#[test]
fn an_obstacle_that_comes_after_the_approval_keeps_it_from_being_granted() {
    for (index, (reason, change)) in TABLE.iter().enumerate() {
        let mut observed = approved();
        assert!(matches!(decide(&observed, at(2)), Plan::Grant { .. }));
        change(&mut observed);
        match decide(&observed, at(2)) {
            Plan::Publish { status, wake: _ } => assert!(status.seal.is_none(), "row {index} ({reason})"),
            other => panic!("row {index} ({reason}): {other:?}"),
        }
    }
}

#[test]
fn an_obstacle_that_goes_away_leaves_an_offer() {
    for (index, (reason, change)) in TABLE.iter().enumerate() {
        let before = stepped(changed(*change), 1);
        let after = Observed {
            request: before.request,
            ..observed()
        };
        let mut request = observed().request;
        request.status = after.request.status.clone();
        let status = published(&Observed { request, ..after }, 2);
        assert!(status.offer.is_some(), "row {index} ({reason})");
        assert!(condition::is_true(&status.conditions, condition::ACCEPTED));
    }
}

#[test]
fn what_is_said_to_be_off_is_no_obstacle() {
    let observed = changed(|observed| {
        observed.request.spec.cluster_wide = Some(false);
        observed.request.spec.namespaces = Some(strings(&["team-a"]));
    });
    assert!(published(&observed, 1).offer.is_some());
}

#[test]
fn a_role_of_the_namespace_is_looked_for_there() {
    let own = RoleReference {
        kind: RoleKind::Role,
        name: "own".into(),
    };
    let mut observed = observed();
    observed.request.spec.role = own.clone();
    observed.policies[0].spec.roles = vec![own.clone()];
    observed.role = None;
    assert_eq!(blocked(&observed), "RoleMissing");
    assert!(published(&observed, 1).message.unwrap().contains("\"team-a\""));
    observed.role = Some(RoleFacts {
        reference: own,
        ..role("own")
    });
    assert!(published(&observed, 1).offer.is_some());
}

#[test]
fn nobody_can_approve_what_is_blocked_but_approvers_may_deny_it_and_the_requester_take_it_back() {
    let blocked = changed(|observed| observed.role = None);
    let digest = offer(&observed());
    let approving = said(blocked.clone(), &[approve("bob", &digest)]);
    assert_eq!(published(&approving, 1).decisions[0].effect, DecisionEffect::NoEffect);
    assert_eq!(
        ended(&said(blocked.clone(), &[deny("bob")]), 1),
        (RequestPhase::Denied, "Denied".into())
    );
    assert_eq!(
        ended(&said(blocked, &[withdraw()]), 1),
        (RequestPhase::Withdrawn, "Withdrawn".into())
    );
}

#[test]
fn what_is_blocked_ends_too() {
    let blocked = changed(|observed| observed.role = None);
    assert_eq!(wake(&blocked, 5), Some(at(86_400)));
    assert_eq!(ended(&blocked, 86_400), (RequestPhase::Expired, "NotDecided".into()));
}

#[test]
fn what_is_blocked_before_its_first_offer_waits_as_long_as_the_policy_says_that_it_names() {
    let waiting = |name: &str, ttl: &str| {
        let mut policy = policy(name);
        policy.spec.request_ttl = Some(lasting(ttl));
        policy
    };
    for (named, seconds) in [(Some("brief"), 600), (Some("patient"), 72 * 3600), (None, 86_400)] {
        let mut observed = observed();
        observed.policies = vec![waiting("patient", "72h"), waiting("brief", "10m")];
        observed.request.spec.policy = named.map(str::to_owned);
        observed.targets.clear();
        assert_eq!(wake(&observed, 5), Some(at(seconds)), "{named:?}");
    }
}
