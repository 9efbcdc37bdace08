//! How much one requester may have at once: what is beyond waits and says for what, also when all is asked and approved in one moment.

use std::collections::BTreeMap;

use curfew::api::{AccessRequest, RequestPhase, condition, marks};
use curfew::core::limits::requester_digest;
use futures::future::{join_all, try_join_all};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use crate::lease::twin_of;
use crate::scene::Scene;
use crate::simultaneous::{ask_many, says};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            a_request_too_many_is_offered_when_another_was_decided,
            an_access_too_many_is_given_when_another_ends,
            limits_that_say_nothing_make_a_policy_not_ready;
        Shipped [AuditLog]: of_eight_approved_in_one_moment_two_are_active_at_a_time_and_all_in_turn;
        Lent [OperatorProcess, AuditLog]: two_that_grant_at_once_never_pass_a_limit_of_one;
    ]
}

async fn a_request_too_many_is_offered_when_another_was_decided(scene: Scene) {
    scene
        .has_policy(&scene.policy_with(json!({"limits": {"pendingPerRequester": 1}})))
        .await;
    scene.asked(&scene.request("first")).await;
    scene.asks(&scene.alice, &scene.request("second")).await.ok().unwrap();
    let message = scene.request_blocked_by("second", "TooManyPending").await;
    assert!(message.contains(&format!("{}/first", scene.namespace)), "{message}");
    scene
        .refused(&scene.bob, "second", "approve", "there is no offer")
        .await;
    scene.said(&scene.alice, "first", "revoke").await;
    scene
        .request_that("second", "an offer", |request| {
            request.status.as_ref().is_some_and(|status| status.offer.is_some())
        })
        .await;
    scene.said(&scene.bob, "second", "approve").await;
    scene.active("second").await;
    // What is active doesn't wait any more.
    scene.asked(&scene.request("third")).await;
}

async fn an_access_too_many_is_given_when_another_ends(scene: Scene) {
    scene
        .has_policy(&scene.policy_with(json!({"limits": {"activePerRequester": 1}})))
        .await;
    let first = scene.granted(&scene.request("first")).await;
    assert_eq!(
        first.labels().get(marks::REQUESTER),
        Some(&requester_digest(scene.alice.name()))
    );
    scene.asked(&scene.request("second")).await;
    scene.said(&scene.bob, "second", "approve").await;
    let waits = scene.request_in("second", RequestPhase::Approved).await.status.unwrap();
    let granted = condition::get(&waits.conditions, condition::GRANTED).unwrap();
    assert_eq!(
        (granted.status.as_str(), granted.reason.as_str()),
        ("False", "TooManyActive")
    );
    assert!(granted.message.contains(&first.name_any()), "{}", granted.message);
    assert_eq!(scene.bindings().await.len(), 1);
    scene.said(&scene.alice, "first", "revoke").await;
    scene.active("second").await;
}

async fn limits_that_say_nothing_make_a_policy_not_ready(scene: Scene) {
    // What is left when its one field was misspelt.
    let policy = scene.has_policy(&scene.policy_with(json!({"limits": {}}))).await;
    let conditions = policy.status.unwrap().conditions;
    assert_eq!(
        condition::get(&conditions, condition::READY).unwrap().reason,
        "NothingLimited"
    );
}

async fn of_eight_approved_in_one_moment_two_are_active_at_a_time_and_all_in_turn(scene: Scene) {
    const REQUESTS: usize = 8;
    scene
        .has_policy(&scene.policy_with(json!({"limits": {"activePerRequester": 2}})))
        .await;
    let names = ask_many(&scene, REQUESTS, json!({"duration": "3s"})).await;
    let bob = scene.of::<AccessRequest>(&scene.bob);
    try_join_all(names.iter().map(|name| says(&bob, name, "approve")))
        .await
        .unwrap();
    let all = names.iter().map(|name| scene.request_in(name, RequestPhase::Expired));
    let ended = join_all(all).await;
    assert!(
        ended
            .iter()
            .all(|request| request.status.as_ref().unwrap().seal.is_some())
    );
    assert!(most_bound_at_once(&scene) <= 2);
}

/// Each replica is the leader to itself, and one after another is approved: whoever sees that the other gave access too gives way.
async fn two_that_grant_at_once_never_pass_a_limit_of_one(scene: Scene) {
    const REQUESTS: usize = 12;
    scene
        .has_policy(&scene.policy_with(json!({"limits": {"activePerRequester": 1}})))
        .await;
    let _twin = twin_of(&scene, scene.world.installation.operator().unwrap()).await;
    let names = ask_many(&scene, REQUESTS, json!({"duration": "2s"})).await;
    let bob = scene.of::<AccessRequest>(&scene.bob);
    try_join_all(names.iter().map(|name| says(&bob, name, "approve")))
        .await
        .unwrap();
    let over = |request: &AccessRequest| {
        let phase = request.status.as_ref().and_then(|status| status.phase);
        phase.is_some_and(RequestPhase::is_final)
    };
    let all = names.iter().map(|name| scene.request_that(name, "over", over));
    let ended = join_all(all).await;
    let granted = ended
        .iter()
        .filter(|request| request.status.as_ref().unwrap().seal.is_some());
    assert!(granted.count() > 0, "some were granted: {ended:#?}");
    assert_eq!(most_bound_at_once(&scene), 1);
}

/// How many bindings of a scene there were at one moment at most, by the API server's own record: a binding counts from its creation until its deletion was
/// asked for.
fn most_bound_at_once(scene: &Scene) -> usize {
    let mut changes: BTreeMap<(Timestamp, i32), i32> = BTreeMap::new();
    for event in scene.operator_writes() {
        let (moment, change) = match (event.resource.as_str(), event.verb.as_str(), event.code) {
            ("rolebindings", "create", 201) => (event.finished, 1),
            ("rolebindings", "delete", 200) => (event.received, -1),
            _ => continue,
        };
        *changes.entry((moment, change)).or_default() += change;
    }
    let mut bound = 0;
    let at_once = changes.values().map(|change| {
        bound += change;
        bound
    });
    usize::try_from(at_once.max().unwrap_or_default()).unwrap()
}
