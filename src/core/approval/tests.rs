use super::*;
use crate::api::ServiceAccountReference;
use crate::core::fixture::*;

pub(super) const OFFER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What these words amount to under the fixture's policy, its stage changed.
fn weighed(change: impl Fn(&mut Rules<'_>), required: i32, words: &[Decision]) -> Weighing {
    let policy = policy_spec();
    let mut approval = policy.approval.clone().unwrap();
    approval.stages[0].required = Some(required);
    let all = revokers(&policy);
    let mut rules = rules(&approval, &all);
    change(&mut rules);
    let words: Vec<_> = words.iter().map(|decision| heard(decision, 1)).collect();
    weigh(rules, &words, at(1))
}

/// Alice asks; the offer stands since the beginning.
pub(super) fn rules<'a>(approval: &'a Approval, revokers: &'a Revokers) -> Rules<'a> {
    Rules {
        requester: "alice",
        approval,
        revokers,
        offer: Some(StandingOffer {
            digest: OFFER,
            since: at(0),
        }),
        require_code: false,
        require_direct: false,
    }
}

pub(super) fn heard(decision: &Decision, seconds: i64) -> Word<'_> {
    Word {
        decision,
        first_seen: at(seconds),
    }
}

/// Waiting for so many in the fixture's stage.
fn waiting(missing: usize) -> Outcome {
    Outcome::Waiting {
        open: vec![Open {
            stage: 0,
            missing,
            since: at(0),
            until: None,
            escalated: None,
        }],
    }
}

fn outcome(required: i32, words: &[Decision]) -> Outcome {
    weighed(|_| {}, required, words).outcome
}

fn by_group(username: &str, group: &str) -> Decision {
    word(Verdict::Approve, username, &[&format!("lead/Group:{group}")], OFFER)
}

#[test]
fn enough_different_people_carry_it_and_are_named_in_their_places() {
    let words = [
        approve("bob", OFFER),
        approve("mallory", OFFER),
        by_group("erin", "sre"),
    ];
    assert_eq!(
        outcome(1, &words),
        Outcome::Approved { by: vec![0] },
        "the first that are enough"
    );
    assert_eq!(outcome(2, &words), Outcome::Approved { by: vec![0, 2] });
    assert_eq!(outcome(3, &words), waiting(1));
    assert_eq!(outcome(3, &[]), waiting(3));
}

#[test]
fn nobody_is_enough_for_nothing() {
    for required in [0, -1, i32::MIN] {
        assert_eq!(outcome(required, &[]), waiting(1));
    }
    assert_eq!(
        outcome(i32::MAX, &[approve("bob", OFFER)]),
        waiting(usize::try_from(i32::MAX).unwrap() - 1)
    );
}

#[test]
fn one_person_counts_once_however_they_are_let_in() {
    let words = [
        approve("bob", OFFER),
        approve("bob", OFFER),
        by_group("bob", "sre"),
        word(Verdict::Approve, "bob", &["lead/Group:sre", "lead/User:bob"], OFFER),
    ];
    let weighing = weighed(|_| {}, 2, &words);
    assert_eq!(weighing.outcome, waiting(1));
    assert_eq!(
        weighing.effects.iter().map(|effect| effect.counts).collect::<Vec<_>>(),
        [true, false, false, false]
    );
    assert!(weighing.effects[1].reason.contains("already"));
}

#[test]
fn a_word_that_did_not_count_does_not_use_up_the_persons_voice() {
    let words = [approve("bob", "older"), approve("bob", OFFER)];
    assert_eq!(outcome(1, &words), Outcome::Approved { by: vec![1] });
}

#[test]
fn an_approval_that_does_not_count_says_why() {
    let account = "system:serviceaccount:ci:bot";
    let table = [
        ("nobody approves their own request", approve("alice", OFFER)),
        ("nobody approves their own request", by_group("alice", "sre")),
        ("has changed since", approve("bob", "another")),
        ("has changed since", approve("bob", "")),
        ("has changed since", approve("bob", &OFFER[..8])),
        ("doesn't name them", approve("mallory", OFFER)),
        (
            "doesn't name them",
            word(Verdict::Approve, "mallory", &["lead/User:bob"], OFFER),
        ),
        (
            "doesn't name them",
            word(Verdict::Approve, "bob", &["other/User:bob"], OFFER),
        ),
        (
            "doesn't name them",
            word(Verdict::Approve, "bob", &["*/User:bob"], OFFER),
        ),
        (
            "doesn't name them",
            word(Verdict::Approve, "bob", &["requester"], OFFER),
        ),
        ("doesn't name them", word(Verdict::Approve, "bob", &["User:bob"], OFFER)),
        ("doesn't name them", word(Verdict::Approve, "bob", &[], OFFER)),
        (
            "doesn't name them",
            word(Verdict::Approve, "Bob", &["lead/User:Bob"], OFFER),
        ),
        ("doesn't name them", by_group("mallory", "dev")),
        ("doesn't name them", by_group(account, "sre")),
        ("doesn't name them", approve(account, OFFER)),
    ];
    for (why, decision) in table {
        let weighing = weighed(|_| {}, 1, std::slice::from_ref(&decision));
        assert_eq!(weighing.outcome, waiting(1), "{decision:?}");
        assert!(
            weighing.effects[0].reason.contains(why),
            "{decision:?}: {}",
            weighing.effects[0].reason
        );
    }
}

#[test]
fn a_service_account_approves_where_it_is_named() {
    let account = ServiceAccountReference {
        namespace: "ci".into(),
        name: "approver".into(),
    }
    .username();
    assert_eq!(
        outcome(1, &[approve(&account, OFFER)]),
        Outcome::Approved { by: vec![0] }
    );
}

#[test]
fn without_an_offer_nothing_is_approved_and_an_empty_one_is_none() {
    for (offer, said) in [(None, OFFER), (None, ""), (Some(""), "")] {
        let stands = |digest| StandingOffer { digest, since: at(0) };
        let weighing = weighed(|rules| rules.offer = offer.map(stands), 1, &[approve("bob", said)]);
        assert!(
            matches!(weighing.outcome, Outcome::Waiting { .. }),
            "{offer:?} {said:?}"
        );
    }
}

#[test]
fn a_required_code_must_be_the_offers() {
    for (code, counts) in [
        (None, false),
        (Some(""), false),
        (Some("01234568"), false),
        (Some("01234567"), true),
    ] {
        let decision = Decision {
            code: code.map(str::to_owned),
            ..approve("bob", OFFER)
        };
        let weighing = weighed(|rules| rules.require_code = true, 1, &[decision]);
        assert_eq!(weighing.effects[0].counts, counts, "{code:?}");
    }
}

#[test]
fn a_credential_of_their_own_is_asked_for_where_the_policy_wants_it() {
    for direct in [false, true] {
        let decision = Decision {
            direct,
            ..approve("bob", OFFER)
        };
        let weighing = weighed(|rules| rules.require_direct = true, 1, &[decision]);
        assert_eq!(weighing.effects[0].counts, direct);
    }
}

#[test]
fn an_approver_may_deny_at_any_time_and_it_is_final() {
    let denials = [
        deny("bob"),
        word(Verdict::Deny, "erin", &["*/Group:sre"], ""),
        word(Verdict::Deny, "bob", &["*/Group:none", "*/User:bob"], "an older offer"),
    ];
    for denial in denials {
        let before = [denial.clone(), approve("carol", OFFER), approve("bob", OFFER)];
        assert_eq!(outcome(1, &before), Outcome::Denied { by: 0 });
        let after = [approve("carol", OFFER), approve("bob", OFFER), denial];
        assert_eq!(outcome(1, &after), Outcome::Denied { by: 2 });
        assert_eq!(
            weighed(|rules| rules.offer = None, 1, &after).outcome,
            Outcome::Denied { by: 2 }
        );
    }
}

#[test]
fn who_is_no_approver_denies_and_revokes_nothing() {
    let table = [
        word(Verdict::Deny, "mallory", &["*/User:mallory"], OFFER),
        word(Verdict::Deny, "mallory", &["*/User:bob"], OFFER),
        word(Verdict::Deny, "mallory", &["*/Group:dev"], OFFER),
        word(Verdict::Deny, "bob", &["lead/User:bob"], OFFER),
        word(Verdict::Deny, "alice", &["requester"], OFFER),
        word(Verdict::Revoke, "mallory", &["requester"], OFFER),
        word(Verdict::Revoke, "mallory", &["*/User:bob"], OFFER),
        word(Verdict::Revoke, "alice", &["*/User:alice"], OFFER),
        word(Verdict::Revoke, "system:serviceaccount:ci:bot", &["*/Group:sre"], OFFER),
    ];
    for decision in table {
        let weighing = weighed(|_| {}, 1, &[decision.clone(), approve("bob", OFFER)]);
        assert_eq!(weighing.outcome, Outcome::Approved { by: vec![1] }, "{decision:?}");
        assert!(!weighing.effects[0].counts);
    }
}

#[test]
fn a_requester_who_is_an_approver_too_neither_approves_nor_denies_their_own_request() {
    for (username, via) in [("bob", "User:bob"), ("erin", "Group:sre")] {
        let denial = word(Verdict::Deny, username, &[&format!("*/{via}")], OFFER);
        let approval = word(Verdict::Approve, username, &[&format!("lead/{via}")], OFFER);
        let weighing = weighed(|rules| rules.requester = username, 1, &[denial, approval]);
        assert_eq!(weighing.outcome, waiting(1), "{username}");
        assert!(
            weighing.effects[0].reason.contains("requester revokes"),
            "{}",
            weighing.effects[0].reason
        );
    }
}

#[test]
fn a_revocation_ends_it_and_tells_whether_it_was_the_requester() {
    let ends = |decision| outcome(1, &[approve("carol", OFFER), decision]);
    assert_eq!(
        ends(withdraw()),
        Outcome::Revoked {
            by: 1,
            by_requester: true
        }
    );
    assert_eq!(
        ends(revoke("carol")),
        Outcome::Revoked {
            by: 1,
            by_requester: false
        }
    );
    assert_eq!(
        ends(word(Verdict::Revoke, "erin", &["*/Group:sre"], "")),
        Outcome::Revoked {
            by: 1,
            by_requester: false
        }
    );
}

#[test]
fn the_first_word_that_ends_it_is_the_one_that_ended_it() {
    assert_eq!(outcome(1, &[deny("bob"), withdraw()]), Outcome::Denied { by: 0 });
    assert_eq!(
        outcome(1, &[withdraw(), deny("bob")]),
        Outcome::Revoked {
            by: 0,
            by_requester: true
        }
    );
    assert_eq!(
        outcome(1, &[deny("mallory"), deny("carol"), deny("bob")]),
        Outcome::Denied { by: 1 }
    );
}

#[test]
fn sixteen_approvals_do_not_outweigh_one_denial() {
    let mut words: Vec<_> = (0..16).map(|index| by_group(&format!("sre-{index}"), "sre")).collect();
    assert_eq!(outcome(16, &words), Outcome::Approved { by: (0..16).collect() });
    words.push(deny("bob"));
    assert_eq!(outcome(16, &words), Outcome::Denied { by: 16 });
}

#[test]
fn there_is_one_effect_for_each_word() {
    let words = [
        approve("bob", OFFER),
        deny("mallory"),
        withdraw(),
        deny("bob"),
        approve("carol", "older"),
    ];
    let effects = weighed(|_| {}, 1, &words).effects;
    assert_eq!(
        effects.iter().map(|effect| effect.counts).collect::<Vec<_>>(),
        [true, false, true, true, false]
    );
}

#[test]
fn the_approvers_of_all_stages_and_escalations_may_deny_and_revoke() {
    let mut policy = policy_spec();
    let escalate_to = Some(People {
        groups: strings(&["managers", "sre"]),
        ..users(&["eve"])
    });
    let second = Stage {
        name: "second".into(),
        approvers: users(&["dave", "bob"]),
        escalate_to,
        ..Stage::default()
    };
    policy.approval.as_mut().unwrap().stages.push(second);
    let all = revokers(&policy);
    assert_eq!(
        all.users,
        ["bob", "carol", "dave", "eve", "system:serviceaccount:ci:approver"]
    );
    assert_eq!(all.groups, ["managers", "sre"]);
    policy.approval = None;
    assert_eq!(revokers(&policy), Revokers::default());
}

#[test]
fn whoever_is_no_approver_is_told_of_which_stages() {
    use crate::api::{Order, Stage};
    let stage = |name: &str| Stage {
        name: name.into(),
        approvers: users(&["bob"]),
        ..Stage::default()
    };
    let told = |order, stages: &[&str]| {
        let approval = Approval {
            order: Some(order),
            stages: stages.iter().map(|name| stage(name)).collect(),
            ..Approval::default()
        };
        let all = Revokers::default();
        let mallory = approve("mallory", OFFER);
        let weighing = weigh(rules(&approval, &all), &[heard(&mallory, 1)], at(1));
        let Effect { counts, reason } = weighing.effects.into_iter().next().unwrap();
        assert!(!counts);
        reason
    };
    for (order, stages, ending) in [
        (Order::Sequential, &["lead"][..], "an approver of stage \"lead\""),
        (
            Order::Sequential,
            &["lead", "security"],
            "an approver of stage \"lead\"",
        ),
        (
            Order::Parallel,
            &["lead", "security"],
            "an approver of stages \"lead\" or \"security\"",
        ),
    ] {
        let reason = told(order, stages);
        assert!(reason.ends_with(ending), "{reason}");
    }
}
