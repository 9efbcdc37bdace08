//! What has ended is kept as long as its policy says, with the whole story, and then removed; nothing else is.

use curfew::api::{AccessGrant, AccessRequest, RequestPhase, time};
use curfew::core::retention;
use curfew_testbed::AuditEvent;
use kube::ResourceExt;
use serde_json::json;

use crate::scene::Scene;
use crate::tools::watched;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped [AuditLog]: what_has_ended_is_removed_when_it_was_kept_long_enough_and_what_lasts_stays;
        Shipped []:
            what_is_kept_for_days_is_removed_when_its_policy_says_sooner,
            a_stolen_operator_token_removes_nothing_that_has_not_ended;
    ]
}

async fn what_has_ended_is_removed_when_it_was_kept_long_enough_and_what_lasts_stays(scene: Scene) {
    scene.has_policy(&scene.policy_with(json!({"retention": "15s"}))).await;
    let lasts = scene.granted(&scene.request("lasts")).await;
    scene.asked(&scene.request("waits")).await;
    let brief = scene
        .granted(&scene.request_with("brief", json!({"duration": "6s"})))
        .await;
    scene.asked(&scene.request("denied")).await;
    scene.said(&scene.bob, "denied", "deny").await;
    let denied = scene.request_in("denied", RequestPhase::Denied).await;
    let ended = scene.grant_ended(&brief).await;
    let over = scene.request_in("brief", RequestPhase::Expired).await;

    request_is_gone(&scene, "denied").await;
    request_is_gone(&scene, "brief").await;
    watched(
        scene.grants(),
        &brief.name_any(),
        "the grant is removed",
        |grant: Option<&AccessGrant>| grant.is_none(),
    )
    .await;
    let policy = scene
        .policies()
        .get(&format!("policy-{}", scene.id))
        .await
        .unwrap()
        .spec;
    let removals = [
        (denied.name_any(), retention::of_request(&denied, Some(&policy), None)),
        (over.name_any(), retention::of_request(&over, Some(&policy), None)),
        (ended.name_any(), retention::of_grant(&ended)),
    ];
    for (name, kept_until) in removals {
        let (event, kept_until) = (removal(&scene, &name), time::to_kubernetes(kept_until.unwrap()).0);
        assert!(event.user.username.ends_with(":curfew"), "{:?}", event.user);
        assert!(event.received >= kept_until, "{name} went at {}", event.received);
    }
    scene.has_access().await;
    assert_eq!(scene.grants().get(&lasts.name_any()).await.unwrap().spec, lasts.spec);
    scene.request_now("waits").await;
}

async fn what_is_kept_for_days_is_removed_when_its_policy_says_sooner(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("denied")).await;
    scene.said(&scene.bob, "denied", "deny").await;
    scene.request_in("denied", RequestPhase::Denied).await;
    scene.has_policy(&scene.policy_with(json!({"retention": "1s"}))).await;
    request_is_gone(&scene, "denied").await;
}

async fn a_stolen_operator_token_removes_nothing_that_has_not_ended(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("lasts")).await;
    let thief = scene.world.installation.operator_user().await.unwrap();
    for what in ["accessrequest/lasts", &format!("accessgrant/{}", grant.name_any())] {
        let refusal = scene.kubectl(&thief, &["delete", what]).await.refused().unwrap();
        assert!(refusal.contains("removes only what has ended"), "{refusal}");
    }
    scene.has_access().await;
}

async fn request_is_gone(scene: &Scene, name: &str) {
    watched(
        scene.requests(),
        name,
        "the request is removed",
        |request: Option<&AccessRequest>| request.is_none(),
    )
    .await;
}

/// The deletion of a request or a grant of that name.
fn removal(scene: &Scene, name: &str) -> AuditEvent {
    let log = scene.cluster().audit_log().unwrap().into_iter();
    let mut removals = log.filter(|event| {
        event.verb == "delete"
            && event.name == name
            && event.group == "curfew.dev"
            && (event.namespace == scene.namespace || event.namespace.is_empty())
    });
    removals.next().unwrap_or_else(|| panic!("nobody deleted {name}"))
}
