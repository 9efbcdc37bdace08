//! What an attacker with a forged status or grant, or a careless admin, would try on the core.

use super::*;
use crate::api::{LabelSelector, Limits};

type Change = fn(&mut Observed);

fn granting() -> Observed {
    let mut observed = approved();
    observed.grant = Some(granted(&observed, 2));
    observed
}

#[test]
fn a_grant_that_is_there_already_is_sealed_only_if_all_of_it_is_what_was_approved() {
    let forgeries: &[fn(&mut AccessGrantSpec)] = &[
        |grant| grant.subject.name = "mallory".into(),
        |grant| grant.subject.kind = "Group".into(),
        |grant| grant.role.name = "cluster-admin".into(),
        |grant| grant.role.uid = "another".into(),
        |grant| grant.role.rules_digest = "another".into(),
        |grant| grant.role.on_change = OnChange::Keep,
        |grant| grant.duration = lasting("8760h"),
        |grant| grant.targets[0].namespace = "kube-system".into(),
        |grant| grant.request.uid = "another".into(),
        |grant| grant.requester.username = "mallory".into(),
        |grant| grant.policy.on_change = OnChange::Revoke,
        |grant| grant.policy.uid = "another".into(),
        |grant| grant.revokers.users.clear(),
        |grant| grant.decisions = vec![approve("dave", &grant.offer)],
        |grant| grant.decisions.clear(),
        |grant| grant.reason = Some("another".into()),
    ];
    let mut sealed = vec![];
    for (index, forge) in forgeries.iter().enumerate() {
        let mut observed = granting();
        forge(&mut observed.grant.as_mut().unwrap().spec);
        if published(&observed, 3).seal.is_some() {
            sealed.push(index);
        }
    }
    assert_eq!(sealed, [0; 0], "these forgeries were sealed");
}

#[test]
fn a_ready_condition_permits_nothing_that_the_policy_itself_forbids() {
    let flaws: &[Change] = &[
        |observed| observed.policies[0].spec.limits = Some(Limits::default()),
        |observed| {
            observed.policies[0].spec.limits = Some(Limits {
                active_per_requester: None,
                pending_per_requester: Some(-1),
            })
        },
        |observed| observed.policies[0].spec.approval.as_mut().unwrap().stages[0].required = Some(0),
        |observed| {
            observed.policies[0].spec.approval.as_mut().unwrap().stages[0].escalate_to = Some(users(&["mallory"]))
        },
        |observed| observed.policies[0].spec.namespaces.as_mut().unwrap().selector = Some(LabelSelector::default()),
    ];
    let mut offered = vec![];
    for (index, flaw) in flaws.iter().enumerate() {
        let mut observed = observed();
        flaw(&mut observed);
        if published(&observed, 1).offer.is_some() {
            offered.push(index);
        }
    }
    assert_eq!(
        offered, [0; 0],
        "these flawed policies were offered because their status said Ready"
    );
}

#[test]
fn a_policy_that_is_being_deleted_offers_nothing_whatever_holds_it() {
    let mut observed = approved();
    observed.policies[0].metadata.deletion_timestamp = Some(written(2));
    assert!(!matches!(decide(&observed, at(3)), Plan::Grant { .. }));
}

#[test]
fn a_request_waits_as_long_as_its_frozen_policy_says_also_while_something_else_is_in_the_way() {
    let mut patient = observed();
    patient.policies[0].spec.request_ttl = Some(lasting("72h"));
    let mut patient = stepped(patient, 1);
    patient.targets[0].terminating = true;
    assert_eq!(wake(&patient, 5), Some(at(72 * 3600)));
    let mut brief = observed();
    brief.policies[0].spec.request_ttl = Some(lasting("10m"));
    let mut brief = stepped(brief, 1);
    brief.targets.clear();
    assert_eq!(wake(&brief, 5), Some(at(600)));
}

#[test]
fn a_request_whose_policy_is_gone_says_so_and_not_that_nobody_decided_it() {
    let mut patient = observed();
    patient.policies[0].spec.request_ttl = Some(lasting("72h"));
    let mut patient = stepped(patient, 1);
    patient.policies.clear();
    assert_eq!(ended(&patient, 30 * 3600).1, "PolicyGone");
}

#[test]
fn a_revocation_of_active_access_is_answered_like_every_other_word() {
    let status = published(&said(sealed(), &[revoke("mallory"), revoke("carol")]), 7);
    let effects: Vec<_> = status.decisions.iter().map(|decision| decision.effect).collect();
    assert_eq!(
        effects,
        [DecisionEffect::Counts, DecisionEffect::NoEffect, DecisionEffect::Counts]
    );
    assert_eq!(status.decisions[2].first_seen, written(7));
}

#[test]
fn sealing_says_all_that_an_offer_says_so_that_it_can_be_revoked_and_followed() {
    // The status was lost, or the last one written said that something was in the way.
    let mut observed = granting();
    observed.request.status = None;
    let status = published(&observed, 3);
    assert!(status.seal.is_some());
    assert_eq!(
        status.revokers,
        Some(approval::revokers(&policy_spec())),
        "or nobody but the requester may revoke"
    );
    assert_eq!(
        status.targets.len(),
        1,
        "or a binding that is left behind is not looked for"
    );
    assert!(status.policy.is_some() && condition::is_true(&status.conditions, condition::ACCEPTED));
}

#[test]
fn no_condition_goes_on_saying_what_is_no_longer_so() {
    let says =
        |status: AccessRequestStatus, kind| condition::get(&status.conditions, kind).map(|found| found.message.clone());
    let mut blocked = stepped(observed(), 1);
    blocked.role = None;
    let approved = says(published(&blocked, 2), condition::APPROVED).unwrap_or_default();
    assert!(
        !approved.contains("waits for"),
        "blocked, and Approved says: {approved}"
    );
    let denied = says(
        published(&said(stepped(observed(), 1), &[deny("bob")]), 2),
        condition::APPROVED,
    )
    .unwrap_or_default();
    assert!(!denied.contains("waits for"), "denied, and Approved says: {denied}");
}

#[test]
fn a_request_for_no_namespace_is_offered_nothing() {
    let mut observed = observed();
    observed.request.spec.namespaces = Some(vec![]);
    observed.targets.clear();
    assert!(published(&observed, 1).offer.is_none());
}

#[test]
fn a_frozen_policy_is_never_another_than_the_request_names() {
    let mut observed = observed();
    observed.request.spec.policy = Some("standard".into());
    observed.policies.push(policy("weak"));
    let mut observed = stepped(observed, 1);
    let weak = PolicyReference {
        name: "weak".into(),
        uid: "uid-of-weak".into(),
    };
    observed.request.status.as_mut().unwrap().policy = Some(weak);
    assert_ne!(
        published(&observed, 2)
            .offer
            .map(|_| published(&observed, 2).policy.unwrap().name),
        Some("weak".into())
    );
}

#[test]
fn who_may_deny_is_never_read_from_the_status() {
    let mut observed = stepped(observed(), 1);
    observed.targets[0].terminating = true;
    observed
        .request
        .status
        .as_mut()
        .unwrap()
        .revokers
        .as_mut()
        .unwrap()
        .users
        .push("mallory".into());
    assert_eq!(
        published(&said(observed, &[deny("mallory")]), 2).phase,
        Some(RequestPhase::Pending)
    );
}
