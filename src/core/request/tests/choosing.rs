use super::*;
use crate::api::{Approval, BreakGlass, MOST_REVOKERS, ReasonRule};

type Change = fn(&mut AccessPolicy);

fn with_policies(policies: Vec<AccessPolicy>) -> Observed {
    Observed { policies, ..observed() }
}

fn changed(name: &str, change: impl Fn(&mut AccessPolicy)) -> AccessPolicy {
    let mut policy = policy(name);
    change(&mut policy);
    policy
}

fn break_glass(name: &str) -> AccessPolicy {
    changed(name, |policy| {
        policy.spec.approval = Some(Approval {
            break_glass: Some(BreakGlass {}),
            ..Approval::default()
        });
    })
}

fn naming(mut observed: Observed, name: &str) -> Observed {
    observed.request.spec.policy = Some(name.into());
    observed
}

fn chosen(observed: &Observed) -> Option<String> {
    published(observed, 1).policy.map(|policy| policy.name)
}

#[test]
fn the_only_policy_that_fits_is_chosen() {
    let elsewhere = changed("elsewhere", |policy| {
        policy.spec.namespaces.as_mut().unwrap().names = strings(&["team-b"])
    });
    let others = changed("others", |policy| policy.spec.requesters = users(&["zoe"]));
    let roles = changed("roles", |policy| policy.spec.roles = vec![cluster_role("writer")]);
    let observed = with_policies(vec![elsewhere, others, policy("standard"), roles]);
    assert_eq!(chosen(&observed).as_deref(), Some("standard"));
}

#[test]
fn two_that_fit_are_both_named_and_neither_is_chosen() {
    let observed = with_policies(vec![policy("zulu"), policy("alpha")]);
    assert_eq!(blocked(&observed), "SeveralPoliciesFit");
    let status = published(&observed, 1);
    assert!(status.message.unwrap().contains("\"alpha\", \"zulu\"") && status.policy.is_none());
}

#[test]
fn with_two_that_fit_a_request_takes_the_one_it_names() {
    let observed = with_policies(vec![policy("zulu"), policy("alpha")]);
    assert_eq!(chosen(&naming(observed.clone(), "zulu")).as_deref(), Some("zulu"));
    assert_eq!(blocked(&naming(observed, "ZULU")), "PolicyNotFound");
}

#[test]
fn where_none_fits_the_request_says_so_and_waits() {
    assert_eq!(blocked(&with_policies(vec![])), "NoPolicyFits");
    let others = changed("others", |policy| policy.spec.requesters = users(&["zoe"]));
    assert_eq!(blocked(&with_policies(vec![others])), "NoPolicyFits");
}

#[test]
fn break_glass_is_never_chosen_for_a_request_that_names_no_policy() {
    assert_eq!(blocked(&with_policies(vec![break_glass("emergency")])), "NoPolicyFits");
    let both = with_policies(vec![break_glass("emergency"), policy("standard")]);
    assert_eq!(chosen(&both).as_deref(), Some("standard"));
}

#[test]
fn break_glass_that_is_named_is_granted_at_once_with_a_reason_and_says_so() {
    let mut observed = naming(with_policies(vec![break_glass("emergency")]), "emergency");
    let reason = observed.request.spec.reason.take();
    assert_eq!(blocked(&observed), "ReasonMissing");
    observed.request.spec.reason = Some("  ".into());
    assert_eq!(blocked(&observed), "ReasonMissing");
    observed.request.spec.reason = reason.or_else(|| Some("everything burns".into()));
    let Plan::Grant { spec, .. } = decide(&observed, at(1)) else {
        panic!("it is granted at once")
    };
    assert!(spec.break_glass && spec.decisions.is_empty());
    observed.guards.in_force = false;
    assert!(
        !matches!(decide(&observed, at(1)), Plan::Grant { .. }),
        "a guard is away"
    );
}

/// Its status could not be written otherwise.
#[test]
fn under_a_policy_that_names_too_many_a_request_says_so_and_names_as_many_as_it_has_room_for() {
    let names: Vec<String> = (0..=MOST_REVOKERS).map(|number| format!("approver-{number}")).collect();
    let crowded = changed("crowded", |policy| {
        let stages = &mut policy.spec.approval.as_mut().unwrap().stages;
        stages[0].approvers.users.clone_from(&names);
    });
    let observed = with_policies(vec![crowded]);
    assert_eq!(blocked(&observed), "PolicyNotReady");
    assert_eq!(published(&observed, 1).revokers.unwrap().users.len(), MOST_REVOKERS);
}

/// In somebody else's name, perhaps. Where somebody approves, they look who asks.
#[test]
fn a_request_that_was_made_before_the_guards_were_heeded_breaks_no_glass() {
    let created = 0;
    let since = |policies, since: Option<i64>| {
        let mut observed = with_policies(policies);
        observed.request.metadata.creation_timestamp = Some(written(created));
        observed.request.spec.reason = Some("everything burns".into());
        observed.guards.since = since.map(at);
        observed
    };
    let glass = |heeded| naming(since(vec![break_glass("emergency")], heeded), "emergency");
    assert_eq!(blocked(&glass(Some(created + 1))), "NotAttested");
    assert_eq!(blocked(&glass(None)), "NotAttested");
    assert!(matches!(decide(&glass(Some(created)), at(1)), Plan::Grant { .. }));
    let approved = since(vec![policy("standard")], Some(created + 1));
    assert_eq!(chosen(&approved).as_deref(), Some("standard"));
}

#[test]
fn a_policy_that_has_both_stages_and_break_glass_grants_nothing() {
    let ambiguous = changed("standard", |policy| {
        policy.spec.approval.as_mut().unwrap().break_glass = Some(BreakGlass {});
    });
    assert_eq!(
        blocked(&naming(with_policies(vec![ambiguous]), "standard")),
        "PolicyNotReady"
    );
}

#[test]
fn the_only_one_in_scope_is_chosen_and_tells_what_is_out_of_bounds() {
    let short = changed("short", |policy| policy.spec.max_duration = lasting("10m"));
    let observed = with_policies(vec![short.clone()]);
    assert_eq!(blocked(&observed), "DurationTooLong");
    assert!(published(&observed, 1).message.unwrap().contains("10m"));
    let strict = changed("strict", |policy| {
        policy.spec.reason = Some(ReasonRule {
            pattern: Some("^INC".into()),
            ..ReasonRule::default()
        });
    });
    assert_eq!(blocked(&with_policies(vec![strict.clone()])), "ReasonMismatch");
    assert_eq!(blocked(&with_policies(vec![strict, short])), "SeveralPoliciesFit");
}

#[test]
fn of_two_in_scope_the_one_whose_bounds_are_kept_is_chosen() {
    let short = changed("short", |policy| policy.spec.max_duration = lasting("10m"));
    assert_eq!(
        chosen(&with_policies(vec![short, policy("standard")])).as_deref(),
        Some("standard")
    );
}

#[test]
fn a_named_policy_that_does_not_fit_says_how() {
    let table: &[(&str, Change)] = &[
        ("NotARequester", |policy| policy.spec.requesters = users(&["zoe"])),
        ("RoleNotInPolicy", |policy| {
            policy.spec.roles = vec![cluster_role("writer")]
        }),
        ("NamespaceNotInPolicy", |policy| policy.spec.namespaces = None),
    ];
    for (reason, change) in table {
        let observed = naming(with_policies(vec![changed("standard", *change)]), "standard");
        assert_eq!(blocked(&observed), *reason);
        assert!(
            published(&observed, 1).message.unwrap().contains("\"standard\""),
            "{reason}"
        );
    }
}

#[test]
fn the_policy_is_frozen_with_the_first_offer() {
    let mut observed = stepped(observed(), 1);
    observed.policies.push(policy("another"));
    assert_eq!(
        chosen(&observed).as_deref(),
        Some("standard"),
        "one that fits later changes nothing"
    );
    observed.policies.remove(0);
    assert_eq!(
        ended(&observed, 2),
        (RequestPhase::Failed, "PolicyGone".into()),
        "nor does it take its place"
    );
}

#[test]
fn a_policy_made_again_under_the_same_name_is_another() {
    let mut observed = stepped(observed(), 1);
    observed.policies[0].metadata.uid = Some("made-again".into());
    assert_eq!(ended(&observed, 2), (RequestPhase::Failed, "PolicyGone".into()));
}

#[test]
fn nothing_is_frozen_while_there_is_no_offer() {
    let waiting = stepped(with_policies(vec![]), 1);
    let observed = Observed {
        policies: vec![policy("later")],
        ..waiting
    };
    assert_eq!(chosen(&observed).as_deref(), Some("later"));
}

#[test]
fn a_frozen_policy_that_no_longer_fits_blocks_and_one_that_fits_again_offers_anew() {
    let mut narrowed = stepped(observed(), 1);
    narrowed.policies[0].spec.requesters = users(&["zoe"]);
    assert_eq!(blocked(&narrowed), "NotARequester");
    let mut widened = stepped(narrowed, 2);
    widened.policies[0] = policy("standard");
    assert!(published(&widened, 3).offer.is_some());
}
