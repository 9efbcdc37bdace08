//! Stages that wait: until they escalate, or end the request.

use super::*;
use crate::api::{AccessRequestStatus, Stage};

/// A request whose one stage may wait for a minute, offered at this moment.
fn timing_out(seconds: i64) -> Observed {
    let mut observed = observed();
    observed.policies[0].spec.approval.as_mut().unwrap().stages[0].timeout = Some(lasting("1m"));
    stepped(observed, seconds)
}

/// The same, and the request itself may wait for so long.
fn with_ttl(ttl: &str, offered: i64) -> Observed {
    let mut observed = observed();
    let spec = &mut observed.policies[0].spec;
    spec.approval.as_mut().unwrap().stages[0].timeout = Some(lasting("1m"));
    spec.request_ttl = Some(lasting(ttl));
    stepped(observed, offered)
}

#[test]
fn a_stage_that_is_not_decided_in_time_and_escalates_to_nobody_ends_the_request() {
    let waiting = timing_out(1);
    assert_eq!(wake(&waiting, 1), Some(at(61)));
    assert_eq!(published(&waiting, 60).phase, Some(RequestPhase::Pending));
    for seconds in [61, 3_600] {
        let timed_out = ended(&waiting, seconds);
        assert_eq!(timed_out, (RequestPhase::Expired, "StageTimedOut".into()));
    }
    let message = published(&waiting, 61).message.unwrap();
    assert!(
        message.contains("\"lead\"") && message.contains(&time::written(at(61))),
        "{message}"
    );
}

#[test]
fn whichever_time_is_over_first_is_the_one_that_is_told() {
    let not_decided = (RequestPhase::Expired, "NotDecided".to_owned());
    assert_eq!(ended(&with_ttl("30s", 1), 100), not_decided);
    assert_eq!(ended(&with_ttl("60s", 0), 100), not_decided, "at the same moment");
    assert_eq!(ended(&with_ttl("60s", 1), 100), not_decided);
    let timed_out = (RequestPhase::Expired, "StageTimedOut".to_owned());
    assert_eq!(ended(&with_ttl("61s", 0), 100), timed_out);
}

#[test]
fn before_the_guards_were_seen_no_stage_times_out_but_the_request_ends_in_its_time() {
    let mut unseen = with_ttl("10m", 1);
    unseen.guards.epoch = None;
    let status = published(&unseen, 100);
    assert_eq!(Some(&status), unseen.request.status.as_ref(), "nothing of it changes");
    assert_eq!(ended(&unseen, 600), (RequestPhase::Expired, "NotDecided".into()));
}

/// A request whose one stage was open to eve too a minute after it was offered.
fn escalated() -> Observed {
    let mut escalating = observed();
    let stage = &mut escalating.policies[0].spec.approval.as_mut().unwrap().stages[0];
    stage.timeout = Some(lasting("1m"));
    stage.escalate_to = Some(users(&["eve"]));
    stepped(stepped(escalating, 1), 61)
}

#[test]
fn an_escalation_of_a_stage_that_is_no_more_is_told_no_more() {
    let mut other = escalated();
    let told = |status: &AccessRequestStatus| status.timeline.as_ref().map(|timeline| timeline.escalations.len());
    assert_eq!(told(other.request.status.as_ref().unwrap()), Some(1));
    let stage = &mut other.policies[0].spec.approval.as_mut().unwrap().stages[0];
    (stage.timeout, stage.escalate_to) = (None, None);
    let now = published(&other, 70);
    assert_eq!(told(&now), Some(0));
    assert_eq!(condition::get(&now.conditions, condition::ESCALATED), None);
}

#[test]
fn what_was_never_offered_has_no_timeline_to_tell() {
    let mut blocked = observed();
    blocked.role = None;
    assert_eq!(published(&blocked, 1).timeline, None);
}

#[test]
fn who_waits_for_the_second_stage_is_told_of_no_new_offer_and_of_a_new_one_when_there_is() {
    let mut chain = observed();
    let stages = &mut chain.policies[0].spec.approval.as_mut().unwrap().stages;
    stages.push(Stage {
        name: "second".into(),
        approvers: users(&["carol", "eve"]),
        ..Stage::default()
    });
    let digest = offer(&chain);
    let once = said(stepped(chain, 1), &[approve("bob", &digest)]);
    let message = published(&once, 2).message.unwrap();
    assert!(
        message.starts_with("waits for 1 approval in stage \"second\""),
        "{message}"
    );
    let mut anew = stepped(once, 2);
    anew.role.as_mut().unwrap().rules.push(rule("", &["secrets"], &["get"]));
    let message = published(&anew, 3).message.unwrap();
    assert!(message.starts_with("the offer is a new one"), "{message}");
}

#[test]
fn who_could_free_somebody_for_the_stage_that_waits_is_told() {
    let mut chain = observed();
    let approval = chain.policies[0].spec.approval.as_mut().unwrap();
    let stage = |name: &str, names: &[&str]| Stage {
        name: name.into(),
        approvers: users(names),
        ..Stage::default()
    };
    approval.stages = vec![stage("lead", &["bob", "carol"]), stage("security", &["bob"])];
    let digest = offer(&chain);
    let once = said(stepped(chain, 1), &[approve("bob", &digest)]);
    let message = published(&once, 2).message.unwrap();
    assert!(
        message.contains("1 approval in stage \"security\"")
            && message.contains("another approval in \"lead\" would free one"),
        "{message}"
    );
}

#[test]
fn what_was_in_the_way_for_a_moment_begins_no_stage_anew() {
    let escalated = escalated();
    let digest = offer(&escalated);
    assert!(escalated.request.status.as_ref().unwrap().open[0].escalated.is_some());
    let mut blocked = escalated.clone();
    blocked.role = None;
    let mut back = stepped(blocked, 70);
    back.role = escalated.role.clone();
    let again = stepped(back, 80);
    let open = &again.request.status.as_ref().unwrap().open[0];
    assert_eq!((&open.since, &open.escalated), (&Some(written(1)), &Some(written(61))));
    assert!(matches!(
        decide(&said(again, &[approve("eve", &digest)]), at(81)),
        Plan::Grant { .. }
    ));
}
