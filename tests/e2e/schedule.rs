//! Access that begins later: approved before, given at its start and never before, ended as long after it as was asked.

use curfew::api::{EndReason, RequestPhase, condition, time};
use curfew::core::grant::deadline;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::scene::Scene;
use crate::signs::now;
use crate::tools::eventually;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            case_05_what_was_approved_early_begins_at_its_start_and_no_sooner,
            case_06_a_start_that_nobody_approved_in_time_is_never_made_up_for,
            a_start_is_told_with_its_time_zone_and_cant_be_changed;
        Lent [OperatorProcess]: case_06_a_start_that_was_missed_because_nothing_ran_is_never_made_up_for;
    ]
}

/// In so many seconds, in whole ones.
fn after(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().timestamp() + seconds).unwrap()
}

async fn case_05_what_was_approved_early_begins_at_its_start_and_no_sooner(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let start = after(20);
    for (name, duration) in [("later", "47m"), ("brief", "40s")] {
        let request = scene.request_with(name, json!({"startTime": start.to_string(), "duration": duration}));
        scene.asked(&request).await;
        scene.said(&scene.bob, name, "approve").await;
    }
    let waiting = scene.request_in("later", RequestPhase::Approved).await.status.unwrap();
    assert_eq!(waiting.seal, None);
    assert!(condition::is_true(&waiting.conditions, condition::APPROVED));
    let granted = condition::get(&waiting.conditions, condition::GRANTED).unwrap();
    assert_eq!(
        (granted.status.as_str(), granted.reason.as_str()),
        ("False", "NotStarted")
    );
    assert!(granted.message.contains(&start.to_string()), "{}", granted.message);
    scene.has_no_access().await;

    let expired = scene.request_in("brief", RequestPhase::Expired).await.status.unwrap();
    let brief = expired
        .grant
        .clone()
        .unwrap_or_else(|| panic!("never given: {expired:#?}"));
    let ended = scene.grants().get(&brief).await.unwrap();
    let end = ended.status.clone().unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Expired);

    let later = scene.active("later").await;
    let anchor = &later.spec.anchor.as_ref().unwrap().name;
    let jobs = scene.at_home::<Job>();
    let made = jobs.get(anchor).await.unwrap().metadata.creation_timestamp.unwrap().0;
    assert!(
        made < start,
        "what ends it was made at {made}, before it was needed at {start}"
    );
    let binding = scene.bindings().await.remove(0);
    let bound = binding.metadata.creation_timestamp.unwrap().0;
    assert!(bound >= start, "bound at {bound}, and begins at {start}");
    for (grant, seconds) in [(later, 47 * 60), (ended, 40)] {
        assert_eq!(
            time::to_kubernetes(deadline(&grant)).0,
            start + SignedDuration::from_secs(seconds),
            "however long it took"
        );
    }
}

async fn case_06_a_start_that_nobody_approved_in_time_is_never_made_up_for(scene: Scene) {
    scene
        .has_policy(&scene.policy_with(json!({"startTolerance": "2s"})))
        .await;
    let request = scene.request_with("missed", json!({"startTime": after(3).to_string()}));
    scene.asks(&scene.alice, &request).await.ok().unwrap();
    let ended = scene.request_in("missed", RequestPhase::Expired).await.status.unwrap();
    assert_eq!(
        condition::get(&ended.conditions, condition::ENDED).unwrap().reason,
        "StartMissed"
    );
    scene
        .refused(&scene.bob, "missed", "approve", "this request has ended (Expired)")
        .await;
    // Long past when it was asked for.
    let past = scene.request_with("past", json!({"startTime": "2001-01-01T00:00:00Z"}));
    scene.asks(&scene.alice, &past).await.ok().unwrap();
    scene.request_in("past", RequestPhase::Expired).await;
    scene.has_no_access().await;
}

async fn case_06_a_start_that_was_missed_because_nothing_ran_is_never_made_up_for(scene: Scene) {
    scene
        .has_policy(&scene.policy_with(json!({"startTolerance": "1s"})))
        .await;
    let start = after(20);
    scene
        .asked(&scene.request_with("missed", json!({"startTime": start.to_string()})))
        .await;
    scene.said(&scene.bob, "missed", "approve").await;
    scene.request_in("missed", RequestPhase::Approved).await;
    let operator = scene.world.installation.operator().unwrap();
    operator.kill().unwrap();
    eventually("its start has passed", async || {
        now().timestamp() > start.as_second() + 1
    })
    .await;
    operator.start().await.unwrap();
    let ended = scene.request_in("missed", RequestPhase::Expired).await.status.unwrap();
    assert_eq!(
        condition::get(&ended.conditions, condition::ENDED).unwrap().reason,
        "StartMissed"
    );
    assert_eq!(ended.grant, None);
    scene.has_no_access().await;
}

async fn a_start_is_told_with_its_time_zone_and_cant_be_changed(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let start = after(3_600);
    let zoned = start.to_zoned(k8s_openapi::jiff::tz::TimeZone::fixed(k8s_openapi::jiff::tz::offset(1)));
    let there = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    let asked = scene
        .asked(&scene.request_with("zoned", json!({"startTime": there})))
        .await;
    assert_eq!(asked.spec.start_time.unwrap().0, start);
    scene.said(&scene.bob, "zoned", "approve").await;
    scene.request_in("zoned", RequestPhase::Approved).await;
    for (patch, why) in [
        (
            json!({"spec": {"startTime": after(60).to_string()}}),
            "startTime can't be changed",
        ),
        (json!({"spec": {"startTime": null}}), "startTime can't be changed"),
    ] {
        let patched = scene
            .kubectl(
                scene.cluster().admin(),
                &[
                    "patch",
                    "accessrequest",
                    "zoned",
                    "--type=merge",
                    "-p",
                    &patch.to_string(),
                ],
            )
            .await;
        let refusal = patched.refused().unwrap();
        assert!(refusal.contains(why), "{refusal}");
    }
    let wrong = scene.request_with("wrong", json!({"startTime": "tomorrow at ten"}));
    let refusal = scene.asks(&scene.alice, &wrong).await.refused().unwrap();
    assert!(refusal.contains("startTime"), "{refusal}");
}
