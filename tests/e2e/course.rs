//! The main course: nothing before approval, access after it, nothing after the deadline.

use std::time::Duration;

use curfew::api::{AccessGrant, EndReason, RequestPhase, time};
use curfew::core::grant::deadline;
use curfew_testbed::AuditEvent;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use crate::scene::{Scene, creates, refused, would_create};
use crate::signs::{MARGIN, assert_soon_after_deadline};
use crate::tools::eventually;
use crate::world::{Case, cases};

/// What a duration that makes no sense is answered with.
const ALLOWED: &str = "must be a duration such as 90s, 30m or 1h30m: whole numbers of h, m and s, from 1s to 8760h";

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            case_01_nothing_before_approval,
            case_01_nothing_while_one_of_two_approvals_is_missing,
            case_02_approval_gives_access_to_the_requester_alone,
            case_03_access_is_gone_at_its_deadline_and_everything_says_so,
            case_04_the_clock_starts_at_granting,
            case_07_a_request_that_nobody_decides_expires,
            case_08_durations_that_make_no_sense_are_refused_with_what_is_allowed,
            case_08_a_duration_over_the_maximum_is_answered_with_the_maximum;
        Shipped [AuditLog]: case_09_two_seconds_are_two_seconds;
        Older []:
            case_02_approval_gives_access_to_the_requester_alone,
            case_03_access_is_gone_at_its_deadline_and_everything_says_so;
    ]
}

async fn case_01_nothing_before_approval(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    scene.has_no_access().await;
}

async fn case_01_nothing_while_one_of_two_approvals_is_missing(scene: Scene) {
    let approvers = json!({"groups": [format!("sre-{}", scene.id)]});
    let stage = json!({"name": "lead", "approvers": approvers, "required": 2});
    scene
        .has_policy(&scene.policy_with(json!({"approval": {"stages": [stage]}})))
        .await;
    scene.asked(&scene.request("look")).await;
    scene.said(&scene.bob, "look", "approve").await;
    let status = scene.weighed("look").await.status.unwrap();
    assert_eq!((status.phase, status.open[0].missing), (Some(RequestPhase::Pending), 1));
    assert_eq!(status.grant, None);
    scene.has_no_access().await;
    scene.said(&scene.carol, "look", "approve").await;
    assert_eq!(scene.active("look").await.spec.decisions.len(), 2);
    scene.has_access().await;
}

async fn case_02_approval_gives_access_to_the_requester_alone(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    scene.has_access().await;
    assert!(!scene.kubectl(&scene.bob, &["get", "configmaps"]).await.succeeded());
    let binding = scene.bindings().await.remove(0);
    let subjects = binding.subjects.unwrap();
    assert_eq!(subjects.len(), 1);
    assert_eq!(
        (subjects[0].kind.as_str(), subjects[0].name.as_str()),
        ("User", scene.alice.name())
    );
    assert_eq!(
        (binding.role_ref.kind.as_str(), binding.role_ref.name.as_str()),
        ("Role", "reader")
    );
    assert_eq!(
        binding.metadata.annotations.unwrap()["curfew.dev/deadline"],
        time::written(deadline(&grant))
    );
}

async fn case_03_access_is_gone_at_its_deadline_and_everything_says_so(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene
        .granted(&scene.request_with("look", json!({"duration": "20s"})))
        .await;
    scene.has_access().await;
    let request = scene.request_in("look", RequestPhase::Expired).await;
    scene.has_no_access().await;
    let ended = scene.grant_ended(&grant).await;
    let end = ended.status.clone().unwrap().end.unwrap();
    assert_eq!((end.reason, deadline(&ended)), (EndReason::Expired, deadline(&grant)));
    assert_soon_after_deadline(&grant, end.at.unwrap().0);
    let status = request.status.unwrap();
    assert_eq!(status.expires_at, Some(time::to_kubernetes(deadline(&grant))));
    told(&scene, "look", &["Offered", "Approved", "Bound", "DeadlineReached"]).await;
}

async fn case_04_the_clock_starts_at_granting(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let asked = scene
        .asked(&scene.request_with("look", json!({"duration": "3s"})))
        .await;
    // Longer than the whole duration that was asked for.
    tokio::time::sleep(Duration::from_secs(4)).await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    let request = scene.request_in("look", RequestPhase::Expired).await;
    let status = request.status.unwrap();
    let grant = scene.grants().get(&status.grant.unwrap()).await.unwrap();
    let length = SignedDuration::from_secs(3);
    let (asked, granted) = (
        asked.creation_timestamp().unwrap().0,
        grant.creation_timestamp().unwrap().0,
    );
    assert!(
        granted.duration_since(asked) > length,
        "granted {granted}, asked {asked}"
    );
    assert_eq!(deadline_of(&grant), granted + length);
    assert_eq!(status.timeline.unwrap().granted.unwrap().0, granted);
    let ended = grant.status.unwrap();
    assert_eq!(ended.bindings.len(), 1, "it was bound");
    assert!(ended.end.unwrap().at.unwrap().0.duration_since(granted) >= length);
}

async fn case_07_a_request_that_nobody_decides_expires(scene: Scene) {
    scene.has_policy(&scene.policy_with(json!({"requestTTL": "3s"}))).await;
    scene.asks(&scene.alice, &scene.request("look")).await.ok().unwrap();
    let request = scene.request_in("look", RequestPhase::Expired).await;
    let ended = request.status.clone().unwrap().timeline.unwrap().ended.unwrap().0;
    assert!(ended.duration_since(request.creation_timestamp().unwrap().0) >= SignedDuration::from_secs(3));
    assert!(request.status.unwrap().message.unwrap().contains("nobody decided it"));
    scene
        .refused(&scene.bob, "look", "approve", "this request has ended (Expired)")
        .await;
    scene.has_no_access().await;
}

async fn case_08_durations_that_make_no_sense_are_refused_with_what_is_allowed(scene: Scene) {
    for nonsense in ["0s", "-1h", "9999999h", "1h1", "1d", ""] {
        let request = scene.request_with("look", json!({"duration": nonsense}));
        refused(creates(&scene.alice, &request).await, ALLOWED);
        let policy = scene.policy_with(json!({"maxDuration": nonsense}));
        refused(would_create(scene.cluster().admin(), &policy).await, ALLOWED);
    }
    let said = scene
        .asks(&scene.alice, &scene.request_with("look", json!({"duration": "1d"})))
        .await;
    assert!(said.refused().unwrap().contains(ALLOWED), "kubectl shows it");
    assert_eq!(
        scene.requests().list(&ListParams::default()).await.unwrap().items.len(),
        0
    );
}

async fn case_08_a_duration_over_the_maximum_is_answered_with_the_maximum(scene: Scene) {
    scene
        .has_policy(&scene.policy_with(json!({"maxDuration": "1h30m"})))
        .await;
    for (name, duration) in [("a-second", "1h30m1s"), ("far", "8760h")] {
        creates(&scene.alice, &scene.request_with(name, json!({"duration": duration})))
            .await
            .unwrap();
        let message = scene.request_blocked_by(name, "DurationTooLong").await;
        assert!(
            message.contains(duration) && message.contains("at most 1h30m"),
            "{message}"
        );
        scene
            .refused(&scene.bob, name, "approve", "there is no offer to decide on")
            .await;
    }
    creates(&scene.alice, &scene.request_with("none", json!({"duration": null})))
        .await
        .unwrap();
    let message = scene.request_blocked_by("none", "DurationMissing").await;
    assert!(message.contains("at most 1h30m"), "{message}");
    let longest = scene
        .asked(&scene.request_with("longest", json!({"duration": "90m"})))
        .await;
    assert_eq!(longest.status.unwrap().offer.unwrap().duration.as_str(), "90m");
    scene.has_no_access().await;
}

/// Alice tries all the time, and the API server's own clock tells when she was let in.
async fn case_09_two_seconds_are_two_seconds(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene
        .asked(&scene.request_with("look", json!({"duration": "2s"})))
        .await;
    let approves = async { scene.decides(&scene.bob, "look", "approve").await.unwrap() };
    tokio::join!(uses_it_as_long_as_it_lasts(&scene), approves);
    let request = scene.request_in("look", RequestPhase::Expired).await;
    let grant = scene
        .grants()
        .get(&request.status.unwrap().grant.unwrap())
        .await
        .unwrap();

    let log = scene.cluster().audit_log().unwrap();
    let by_alice = |event: &&AuditEvent| event.user.username == scene.alice.name() && event.resource == "configmaps";
    let last = log
        .iter()
        .filter(by_alice)
        .filter(|event| event.code == 200)
        .map(|event| event.received)
        .max();
    let approved = log.iter().find(|event| {
        event.user.username == scene.bob.name() && event.verb == "patch" && event.namespace == scene.namespace
    });
    let approved = approved.unwrap().received;
    let gone = scene
        .operator_writes()
        .into_iter()
        .find(|event| event.verb == "delete")
        .unwrap();
    assert_soon_after_deadline(&grant, gone.received);
    assert_soon_after_deadline(&grant, gone.finished);
    let last = last.unwrap();
    assert!(
        last.duration_since(deadline_of(&grant)) <= MARGIN,
        "alice was let in at {last}"
    );
    let lasted = gone.finished.duration_since(approved);
    assert!(
        lasted >= SignedDuration::from_secs(1),
        "at most a second sooner than asked, and not {lasted}"
    );
}

async fn uses_it_as_long_as_it_lasts(scene: &Scene) {
    let configmaps = scene.of::<ConfigMap>(&scene.alice);
    let mut had = false;
    eventually("alice was let in, and then no longer", async || {
        let may = match configmaps.list(&ListParams::default()).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 403 => false,
            Err(error) => panic!("no answer: {error}"),
        };
        had |= may;
        had && !may
    })
    .await;
}

fn deadline_of(grant: &AccessGrant) -> Timestamp {
    time::to_kubernetes(deadline(grant)).0
}

/// Waits until events on a request have told of each of these steps, which they do beside all else, so perhaps a little later. The reasons of all of them.
pub async fn told(scene: &Scene, request: &str, steps: &[&str]) -> Vec<String> {
    let mut reasons = vec![];
    eventually("an event of each step", async || {
        reasons = events(scene, request).await;
        steps.iter().all(|step| reasons.iter().any(|reason| reason == step))
    })
    .await;
    reasons
}

/// The reasons of all events on a request.
async fn events(scene: &Scene, request: &str) -> Vec<String> {
    let all = scene
        .of::<Event>(scene.cluster().admin())
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    let about = |event: &Event| {
        event.regarding.as_ref().is_some_and(|regarding| {
            regarding.kind.as_deref() == Some("AccessRequest") && regarding.name.as_deref() == Some(request)
        })
    };
    all.into_iter().filter(about).filter_map(|event| event.reason).collect()
}
