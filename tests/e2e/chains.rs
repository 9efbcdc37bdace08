//! Chains of approval: stages one after the other and side by side, what times out, and who may speak when.

use std::time::Duration;

use curfew::api::{AccessRequest, OpenStage, RequestPhase, Verdict, condition};
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::course::told;
use crate::scene::Scene;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            case_59_the_second_stage_waits_for_the_first,
            case_60_one_person_in_both_stages_counts_once,
            case_60_who_counts_in_the_first_stage_is_freed_for_the_second_by_another_approval,
            case_61_a_stage_that_times_out_opens_to_more_approvers_once_and_says_since_when,
            case_61_a_stage_that_times_out_and_escalates_to_nobody_ends_the_request,
            case_62_a_denial_by_an_approver_of_a_later_stage_ends_the_chain,
            case_64_stages_side_by_side_may_be_met_in_any_order,
            a_chain_that_can_never_be_met_is_refused_or_never_ready_and_says_why;
        Lent [OperatorProcess]:
            case_63_an_operator_that_begins_anew_in_mid_stage_goes_on_where_it_was,
            case_63_a_stage_that_timed_out_while_nothing_ran_has_escalated_at_its_true_moment;
    ]
}

/// A stage that this scene's users decide.
fn stage(name: &str, users: &[&str]) -> Value {
    json!({"name": name, "approvers": {"users": users}})
}

/// Bob leads; then it is carol's turn.
async fn has_chain(scene: &Scene, order: &str) {
    let stages = [
        stage("lead", &[scene.bob.name()]),
        stage("security", &[scene.carol.name()]),
    ];
    let approval = json!({"approval": {"order": order, "stages": stages}});
    scene.has_policy(&scene.policy_with(approval)).await;
}

fn open(request: &AccessRequest) -> Vec<OpenStage> {
    request
        .status
        .as_ref()
        .map(|status| status.open.clone())
        .unwrap_or_default()
}

fn waits_in(request: &AccessRequest, stages: &[&str]) -> bool {
    let open = open(request);
    let waiting = open.iter().filter(|open| open.missing > 0);
    waiting.map(|open| open.stage.as_str()).eq(stages.iter().copied())
}

/// Waits until this stage alone waits.
async fn waiting_in(scene: &Scene, request: &str, stage: &str) -> AccessRequest {
    scene
        .request_that(request, &format!("stage {stage} waits"), |request| {
            waits_in(request, &[stage])
        })
        .await
}

/// Waits until its first open stage has escalated.
async fn has_escalated(scene: &Scene, request: &str) -> AccessRequest {
    let is_open_to_more = |request: &AccessRequest| open(request).first().is_some_and(|open| open.escalated.is_some());
    scene.request_that(request, "escalated", is_open_to_more).await
}

async fn case_59_the_second_stage_waits_for_the_first(scene: Scene) {
    has_chain(&scene, "Sequential").await;
    let asked = scene.asked(&scene.request("look")).await;
    assert!(waits_in(&asked, &["lead"]), "{:?}", asked.status);
    scene
        .refused(
            &scene.carol,
            "look",
            "approve",
            "you are not among those who may approve",
        )
        .await;
    scene.said(&scene.bob, "look", "approve").await;
    let second = waiting_in(&scene, "look", "security").await;
    let status = second.status.unwrap();
    let message = status.message.unwrap();
    assert!(
        message.contains("1 approval in stage \"security\"") && message.contains(scene.carol.name()),
        "{message}"
    );
    scene.has_no_access().await;
    scene.said(&scene.carol, "look", "approve").await;
    let grant = scene.active("look").await;
    let by: Vec<_> = grant.spec.decisions.iter().map(|word| word.username.as_str()).collect();
    assert_eq!(by, [scene.bob.name(), scene.carol.name()]);
    scene.has_access().await;
}

async fn case_60_one_person_in_both_stages_counts_once(scene: Scene) {
    let group = json!({"name": "lead", "approvers": {"groups": [format!("sre-{}", scene.id)]}});
    let second = json!({"name": "security", "approvers": {"users": [scene.bob.name(), scene.carol.name()]}});
    scene
        .has_policy(&scene.policy_with(json!({"approval": {"stages": [group, second]}})))
        .await;
    scene.asked(&scene.request("look")).await;
    scene.said(&scene.bob, "look", "approve").await;
    waiting_in(&scene, "look", "security").await;
    scene
        .refused(&scene.bob, "look", "approve", "you have said this already")
        .await;
    scene.has_no_access().await;
    scene.said(&scene.carol, "look", "approve").await;
    scene.active("look").await;
}

async fn case_60_who_counts_in_the_first_stage_is_freed_for_the_second_by_another_approval(scene: Scene) {
    let stages = [
        stage("lead", &[scene.bob.name(), scene.carol.name()]),
        stage("security", &[scene.bob.name()]),
    ];
    scene
        .has_policy(&scene.policy_with(json!({"approval": {"stages": stages}})))
        .await;
    scene.asked(&scene.request("look")).await;
    scene.said(&scene.bob, "look", "approve").await;
    let stuck = waiting_in(&scene, "look", "security").await;
    let message = stuck.status.unwrap().message.unwrap();
    assert!(message.contains("another approval in \"lead\" would free"), "{message}");
    scene.said(&scene.carol, "look", "approve").await;
    scene.active("look").await;
}

async fn case_61_a_stage_that_times_out_opens_to_more_approvers_once_and_says_since_when(scene: Scene) {
    let mut lead = stage("lead", &[scene.bob.name()]);
    lead["timeout"] = json!("20s");
    lead["escalateTo"] = json!({"users": [scene.carol.name()]});
    scene
        .has_policy(&scene.policy_with(json!({"approval": {"stages": [lead]}})))
        .await;
    let asked = scene.asked(&scene.request("look")).await;
    let waiting = open(&asked).remove(0);
    let until = waiting.until.unwrap();
    assert_eq!(
        until.0.duration_since(waiting.since.unwrap().0),
        SignedDuration::from_secs(20),
        "says until when"
    );
    scene
        .refused(
            &scene.carol,
            "look",
            "approve",
            "you are not among those who may approve",
        )
        .await;
    let escalated = has_escalated(&scene, "look").await;
    let status = escalated.status.clone().unwrap();
    assert_eq!(open(&escalated)[0].escalated, Some(until.clone()));
    assert_eq!(open(&escalated)[0].until, None, "once");
    assert_eq!(status.timeline.unwrap().escalations[0].at, until);
    assert!(condition::is_true(&status.conditions, condition::ESCALATED));
    scene.said(&scene.carol, "look", "approve").await;
    scene.active("look").await;
    let reasons = told(&scene, "look", &["StageTimedOut", "Bound"]).await;
    assert_eq!(
        reasons.iter().filter(|reason| *reason == "StageTimedOut").count(),
        1,
        "{reasons:?}"
    );
    // The first approvers go on being able to.
    scene.asked(&scene.request("again")).await;
    has_escalated(&scene, "again").await;
    scene.said(&scene.bob, "again", "approve").await;
    scene.active("again").await;
}

async fn case_61_a_stage_that_times_out_and_escalates_to_nobody_ends_the_request(scene: Scene) {
    let mut lead = stage("lead", &[scene.bob.name()]);
    lead["timeout"] = json!("2s");
    scene
        .has_policy(&scene.policy_with(json!({"approval": {"stages": [lead]}})))
        .await;
    scene.asked(&scene.request("look")).await;
    let ended = scene.request_in("look", RequestPhase::Expired).await.status.unwrap();
    let why = condition::get(&ended.conditions, condition::ENDED).unwrap();
    assert_eq!(why.reason, "StageTimedOut");
    assert!(
        why.message.contains("stage \"lead\" was not decided before"),
        "{}",
        why.message
    );
    scene
        .refused(&scene.bob, "look", "approve", "this request has ended (Expired)")
        .await;
    scene.has_no_access().await;
}

async fn case_62_a_denial_by_an_approver_of_a_later_stage_ends_the_chain(scene: Scene) {
    has_chain(&scene, "Sequential").await;
    scene.asked(&scene.request("look")).await;
    scene.said(&scene.carol, "look", "deny").await;
    scene.request_in("look", RequestPhase::Denied).await;
    scene
        .refused(&scene.bob, "look", "approve", "this request has ended (Denied)")
        .await;
    scene.has_no_access().await;
}

async fn case_64_stages_side_by_side_may_be_met_in_any_order(scene: Scene) {
    has_chain(&scene, "Parallel").await;
    let asked = scene.asked(&scene.request("look")).await;
    assert!(waits_in(&asked, &["lead", "security"]), "{:?}", asked.status);
    scene.said(&scene.carol, "look", "approve").await;
    waiting_in(&scene, "look", "lead").await;
    scene.has_no_access().await;
    scene.said(&scene.bob, "look", "approve").await;
    scene.active("look").await;
    scene.has_access().await;
}

async fn a_chain_that_can_never_be_met_is_refused_or_never_ready_and_says_why(scene: Scene) {
    let chain = |stages: &[Value]| scene.policy_with(json!({"approval": {"stages": stages}}));
    let alone = [
        stage("lead", &[scene.bob.name()]),
        stage("security", &[scene.bob.name()]),
    ];
    let policy = scene.has_policy(&chain(&alone)).await;
    let ready = policy.status.unwrap().conditions;
    let ready = condition::get(&ready, condition::READY).unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "NeverMet"));
    assert!(ready.message.contains("\"lead\" and \"security\""), "{}", ready.message);

    let twice = [stage("lead", &["x"]), stage("lead", &["y"])];
    let mut nowhere = stage("lead", &["x"]);
    nowhere["escalateTo"] = json!({"users": ["y"]});
    for (stages, why) in [
        (&twice[..], "each stage needs a name of its own"),
        (&[nowhere][..], "escalateTo goes with a timeout"),
    ] {
        let refusal = scene
            .apply(scene.cluster().admin(), &chain(stages))
            .await
            .refused()
            .unwrap();
        assert!(refusal.contains(why), "{refusal}");
    }
}

async fn case_63_an_operator_that_begins_anew_in_mid_stage_goes_on_where_it_was(scene: Scene) {
    has_chain(&scene, "Sequential").await;
    scene.asked(&scene.request("look")).await;
    scene.said(&scene.bob, "look", "approve").await;
    let before = waiting_in(&scene, "look", "security").await;
    let operator = scene.world.installation.operator().unwrap();
    operator.kill().unwrap();
    scene.said(&scene.carol, "look", "approve").await;
    operator.start().await.unwrap();
    let grant = scene.active("look").await;
    assert_eq!(grant.spec.decisions.len(), 2);
    let seen = scene.request_now("look").await.status.unwrap().decisions;
    assert_eq!(
        seen[0],
        before.status.unwrap().decisions[0],
        "what was seen before was seen when it was seen"
    );
    assert!(seen.iter().all(|word| word.verdict == Verdict::Approve));
}

async fn case_63_a_stage_that_timed_out_while_nothing_ran_has_escalated_at_its_true_moment(scene: Scene) {
    let mut lead = stage("lead", &[scene.bob.name()]);
    lead["timeout"] = json!("3s");
    lead["escalateTo"] = json!({"users": [scene.carol.name()]});
    scene
        .has_policy(&scene.policy_with(json!({"approval": {"stages": [lead]}})))
        .await;
    let asked = scene.asked(&scene.request("look")).await;
    let waiting = &open(&asked)[0];
    let until = waiting.until.clone().or(waiting.escalated.clone()).unwrap();
    let operator = scene.world.installation.operator().unwrap();
    operator.kill().unwrap();
    // Nothing can be watched while nothing runs.
    tokio::time::sleep(Duration::from_secs(5)).await;
    operator.start().await.unwrap();
    let escalated = has_escalated(&scene, "look").await;
    assert_eq!(open(&escalated)[0].escalated, Some(until), "{}", escalated.name_any());
    scene.said(&scene.carol, "look", "approve").await;
    scene.active("look").await;
}
