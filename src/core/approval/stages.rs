//! Tests of chains: stages one after the other and side by side, their timeouts and escalations; and a second, naive model of the same rules.

use proptest::prelude::*;

use super::tests::{OFFER, heard, rules};
use super::*;
use crate::api::{BreakGlass, Order};
use crate::core::fixture::*;

fn stage(name: &str, approvers: People) -> Stage {
    Stage {
        name: name.into(),
        approvers,
        ..Stage::default()
    }
}

/// A stage that times out after so many seconds, and escalates to these users, if to any.
fn timed(name: &str, approver: &str, seconds: u64, escalate_to: &[&str]) -> Stage {
    Stage {
        timeout: Some(lasting(&format!("{seconds}s"))),
        escalate_to: (!escalate_to.is_empty()).then(|| users(escalate_to)),
        ..stage(name, users(&[approver]))
    }
}

fn chain(order: Order, stages: Vec<Stage>) -> Approval {
    Approval {
        order: Some(order),
        stages,
        break_glass: None,
    }
}

/// An approval in a stage, by name.
fn yes(username: &str, stages: &[&str]) -> Decision {
    let via: Vec<_> = stages.iter().map(|stage| format!("{stage}/User:{username}")).collect();
    let via: Vec<_> = via.iter().map(String::as_str).collect();
    word(Verdict::Approve, username, &via, OFFER)
}

/// What words, each first seen at such a second, amount to at such a second. The offer stands since second 0.
fn weighed(approval: &Approval, words: &[(Decision, i64)], now: i64) -> Weighing {
    let policy = AccessPolicySpec {
        approval: Some(approval.clone()),
        ..policy_spec()
    };
    let all = revokers(&policy);
    let words: Vec<_> = words
        .iter()
        .map(|(decision, seconds)| heard(decision, *seconds))
        .collect();
    weigh(rules(approval, &all), &words, at(now))
}

/// Which stages wait, and for how many.
fn open(weighing: &Weighing) -> Vec<(usize, usize)> {
    match &weighing.outcome {
        Outcome::Waiting { open } => open.iter().map(|open| (open.stage, open.missing)).collect(),
        other => panic!("{other:?}"),
    }
}

fn lead_then_security() -> Approval {
    let stages = vec![
        stage("lead", users(&["bob", "carol"])),
        stage("security", users(&["carol", "dave"])),
    ];
    chain(Order::Sequential, stages)
}

#[test]
fn case_59_a_stage_opens_when_the_one_before_it_is_met_and_no_word_counts_in_it_before() {
    let approval = lead_then_security();
    let early = weighed(&approval, &[(yes("dave", &["security"]), 1)], 1);
    assert_eq!(open(&early), [(0, 1)]);
    assert!(!early.effects[0].counts, "{:?}", early.effects);
    let one = weighed(&approval, &[(yes("bob", &["lead"]), 1)], 2);
    assert_eq!(open(&one), [(1, 1)]);
    let Outcome::Waiting { open } = &one.outcome else {
        panic!("{one:?}")
    };
    assert_eq!(open[0].since, at(1), "it waits since the first was met");
    let both = weighed(
        &approval,
        &[(yes("bob", &["lead"]), 1), (yes("dave", &["security"]), 2)],
        2,
    );
    assert_eq!(both.outcome, Outcome::Approved { by: vec![0, 1] });
}

#[test]
fn case_60_one_person_in_both_stages_counts_once() {
    let approval = lead_then_security();
    let words = [(yes("carol", &["lead"]), 1), (yes("carol", &["security"]), 2)];
    let twice = weighed(&approval, &words, 3);
    assert!(matches!(twice.outcome, Outcome::Waiting { .. }), "{twice:?}");
    assert_eq!(twice.effects.iter().filter(|effect| effect.counts).count(), 1);
}

#[test]
fn who_counts_in_the_first_stage_is_freed_for_the_second_by_somebody_elses_approval_there() {
    let stages = vec![
        stage("lead", users(&["bob", "carol"])),
        stage("security", users(&["carol"])),
    ];
    let approval = chain(Order::Sequential, stages);
    let stuck = [(yes("carol", &["lead"]), 1)];
    assert_eq!(open(&weighed(&approval, &stuck, 1)), [(0, 0), (1, 1)]);
    let freed = [stuck[0].clone(), (yes("bob", &["lead"]), 2)];
    let weighing = weighed(&approval, &freed, 2);
    assert_eq!(weighing.outcome, Outcome::Approved { by: vec![0, 1] });
    assert!(
        weighing.effects[0].reason.contains("security"),
        "{:?}",
        weighing.effects
    );
}

#[test]
fn a_group_that_let_somebody_in_counts_in_every_stage_that_names_it() {
    let sre = || People {
        groups: strings(&["sre"]),
        ..People::default()
    };
    let stages = vec![
        stage(
            "lead",
            People {
                users: strings(&["bob"]),
                ..sre()
            },
        ),
        stage("security", sre()),
    ];
    let approval = chain(Order::Sequential, stages);
    let erin = word(Verdict::Approve, "erin", &["lead/Group:sre"], OFFER);
    let weighing = weighed(&approval, &[(erin, 1), (yes("bob", &["lead"]), 2)], 2);
    assert_eq!(weighing.outcome, Outcome::Approved { by: vec![0, 1] });
}

#[test]
fn case_61_a_stage_that_times_out_opens_once_to_those_it_escalates_to_and_its_approvers_stay() {
    let approval = chain(Order::Sequential, vec![timed("lead", "bob", 60, &["eve"])]);
    let early = weighed(&approval, &[(yes("eve", &["lead"]), 59)], 59);
    assert_eq!((early.wake, early.effects[0].counts), (Some(at(60)), false));
    for (who, seen) in [("eve", 60), ("bob", 61), ("bob", 10_000)] {
        let late = weighed(&approval, &[(yes(who, &["lead"]), seen)], seen);
        assert_eq!(late.outcome, Outcome::Approved { by: vec![0] }, "{who}");
        assert_eq!(
            late.escalations,
            [(0, at(60))],
            "at its true moment, whenever it is seen"
        );
    }
    let waiting = weighed(&approval, &[], 10_000);
    assert_eq!((open(&waiting), waiting.wake), (vec![(0, 1)], None), "once");
    let in_time = weighed(&approval, &[(yes("bob", &["lead"]), 59)], 10_000);
    assert!(in_time.escalations.is_empty());
}

#[test]
fn a_stage_that_times_out_and_escalates_to_nobody_ends_it_and_a_word_seen_later_is_late() {
    let approval = chain(Order::Sequential, vec![timed("lead", "bob", 60, &[])]);
    let over = Outcome::TimedOut(TimedOut { stage: 0, at: at(60) });
    assert_eq!(weighed(&approval, &[], 60).outcome, over);
    let late = weighed(&approval, &[(yes("bob", &["lead"]), 60)], 61);
    assert_eq!(late.outcome, over);
    assert!(late.effects[0].reason.contains("after the time"), "{:?}", late.effects);
    let in_time = weighed(&approval, &[(yes("bob", &["lead"]), 59)], 10_000);
    assert_eq!(in_time.outcome, Outcome::Approved { by: vec![0] });
}

#[test]
fn the_second_stages_time_counts_from_when_it_opens() {
    let stages = vec![timed("lead", "bob", 60, &[]), timed("security", "dave", 60, &["eve"])];
    let words = [(yes("bob", &["lead"]), 50)];
    let weighing = weighed(&chain(Order::Sequential, stages), &words, 200);
    assert_eq!(weighing.escalations, [(1, at(110))]);
}

#[test]
fn case_62_any_approvers_denial_ends_the_chain_at_any_time() {
    let approval = lead_then_security();
    let denial = word(Verdict::Deny, "dave", &["*/User:dave"], OFFER);
    let words = [(denial, 1), (yes("bob", &["lead"]), 2)];
    assert_eq!(weighed(&approval, &words, 2).outcome, Outcome::Denied { by: 0 });
}

#[test]
fn case_64_stages_side_by_side_are_all_open_and_may_be_met_in_any_order() {
    let approval = Approval {
        order: Some(Order::Parallel),
        ..lead_then_security()
    };
    assert_eq!(open(&weighed(&approval, &[], 1)), [(0, 1), (1, 1)]);
    let words = [(yes("dave", &["security"]), 1)];
    assert_eq!(open(&weighed(&approval, &words, 1)), [(0, 1)]);
    let words = [(yes("carol", &["lead", "security"]), 1), (yes("bob", &["lead"]), 2)];
    assert_eq!(
        weighed(&approval, &words, 2).outcome,
        Outcome::Approved { by: vec![0, 1] }
    );
}

#[test]
fn break_glass_takes_nobodys_word_and_only_where_it_is_written_out() {
    let broken = Approval {
        break_glass: Some(BreakGlass::default()),
        ..Approval::default()
    };
    assert_eq!(weighed(&broken, &[], 1).outcome, Outcome::Approved { by: vec![] });
    assert_eq!(
        weighed(&Approval::default(), &[], 1).outcome,
        Outcome::Waiting { open: vec![] }
    );
    let both = Approval {
        break_glass: Some(BreakGlass::default()),
        ..lead_then_security()
    };
    assert!(matches!(weighed(&both, &[], 1).outcome, Outcome::Waiting { .. }));
}

// ---- a second model of the rules: slow, and without a thought for how they are carried out ------------------------------------

/// A person's approval: who, first seen when.
type Spoken = (usize, i64);

const NAMES: [&str; 5] = ["p0", "p1", "p2", "p3", "p4"];

/// A stage of the naive model: its people, those it escalates to, how many, and its timeout.
#[derive(Clone, Debug)]
struct Plain {
    people: Vec<usize>,
    escalate_to: Vec<usize>,
    required: usize,
    timeout: Option<i64>,
}

/// Whether different people of these, each standing where they may, meet the first so many stages: tried out one by one.
fn meets(people: &[Vec<usize>], stages: &[Plain], which: &[usize]) -> bool {
    fn seat(people: &[Vec<usize>], mut left: Vec<usize>) -> bool {
        if left.iter().all(|left| *left == 0) {
            return true;
        }
        let Some((first, others)) = people.split_first() else {
            return false;
        };
        let may_here = first
            .iter()
            .filter(|stage| left.get(**stage).is_some_and(|left| *left > 0));
        for stage in may_here.copied().collect::<Vec<_>>() {
            left[stage] -= 1;
            if seat(others, left.clone()) {
                return true;
            }
            left[stage] += 1;
        }
        seat(others, left)
    }
    let wanted = |stage| {
        if which.contains(&stage) {
            stages[stage].required
        } else {
            0
        }
    };
    seat(people, (0..stages.len()).map(wanted).collect())
}

/// Whether it is approved by then, by the rules as a person would tell them. Stages one after the other.
fn naively(stages: &[Plain], spoken: &[Spoken], now: i64) -> Option<bool> {
    let (mut people, mut heard, mut since) = (vec![], vec![], vec![0]);
    let mut escalated = vec![false; stages.len()];
    let mut words = spoken.iter().peekable();
    for second in 0..=now {
        // What times out does so before anybody is heard in the same second.
        let met = (0..=stages.len())
            .rev()
            .find(|end| meets(&people, stages, &(0..*end).collect::<Vec<_>>()))
            .unwrap();
        if met == stages.len() {
            return Some(true);
        }
        if let Some(timeout) = stages[met].timeout
            && !escalated[met]
            && second - since[met] >= timeout
        {
            if stages[met].escalate_to.is_empty() {
                return Some(false);
            }
            escalated[met] = true;
        }
        while let Some((who, _)) = words.next_if(|(_, seen)| *seen <= second) {
            let met = since.len() - 1;
            let may: Vec<usize> = (0..stages.len())
                .filter(|stage| {
                    let Plain {
                        people, escalate_to, ..
                    } = &stages[*stage];
                    people.contains(who) || (escalated[*stage] && escalate_to.contains(who))
                })
                .collect();
            if !heard.contains(who) && may.iter().any(|stage| *stage <= met) {
                heard.push(*who);
                people.push(may);
            }
            while since.len() < stages.len() && meets(&people, stages, &(0..since.len()).collect::<Vec<_>>()) {
                since.push(second);
            }
        }
    }
    let all: Vec<_> = (0..stages.len()).collect();
    meets(&people, stages, &all).then_some(true)
}

fn plain() -> impl Strategy<Value = Plain> {
    let some = prop::collection::vec(0_usize..NAMES.len(), 1..4);
    let more = prop::collection::vec(0_usize..NAMES.len(), 0..3);
    (some, more, 1_usize..3, prop::option::of(1_i64..8)).prop_map(|(people, escalate_to, required, timeout)| Plain {
        people,
        escalate_to: if timeout.is_some() { escalate_to } else { vec![] },
        required,
        timeout,
    })
}

fn written_out(stages: &[Plain]) -> Approval {
    let people = |places: &[usize]| users(&places.iter().map(|place| NAMES[*place]).collect::<Vec<_>>());
    let stages = stages.iter().enumerate().map(|(place, plain)| Stage {
        name: format!("s{place}"),
        approvers: people(&plain.people),
        required: Some(i32::try_from(plain.required).unwrap()),
        timeout: plain.timeout.map(|seconds| lasting(&format!("{seconds}s"))),
        escalate_to: (!plain.escalate_to.is_empty()).then(|| people(&plain.escalate_to)),
    });
    chain(Order::Sequential, stages.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_chain_comes_to_what_a_naive_reading_of_its_rules_says(
        stages in prop::collection::vec(plain(), 1..4),
        people in prop::collection::vec((0_usize..NAMES.len(), 0_i64..4), 0..6),
        after in 0_i64..6,
    ) {
        let mut second = 0;
        let spoken: Vec<Spoken> = people.iter().map(|(who, pause)| { second += pause; (*who, second) }).collect();
        let now = second + after;
        let every: Vec<String> = (0..stages.len()).map(|place| format!("s{place}")).collect();
        let every: Vec<&str> = every.iter().map(String::as_str).collect();
        let words: Vec<_> = spoken.iter().map(|(who, seen)| (yes(NAMES[*who], &every), *seen)).collect();
        let outcome = match weighed(&written_out(&stages), &words, now).outcome {
            Outcome::Approved { .. } => Some(true),
            Outcome::TimedOut(_) => Some(false),
            Outcome::Waiting { .. } => None,
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(outcome, naively(&stages, &spoken, now));
    }
}
