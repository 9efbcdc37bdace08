//! What has ended is kept as long as its policy says, with the whole story, and then removed; nothing else is.

use curfew::api::{AccessRequest, RequestPhase, time};
use curfew::core::retention;
use curfew_testbed::AuditEvent;
use futures::{StreamExt, TryStreamExt, stream};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

use crate::scene::{Scene, creates, person};
use crate::simultaneous::{AT_ONCE, all_that, ask_many, says};
use crate::tools::gone;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped [AuditLog]: what_has_ended_is_removed_when_it_was_kept_long_enough_and_what_lasts_stays;
        Shipped []:
            what_is_kept_for_days_is_removed_when_its_policy_says_sooner,
            what_was_kept_under_a_policy_that_is_gone_is_not_removed_by_another_of_its_name,
            a_stolen_operator_token_removes_nothing_that_has_not_ended;
        // So many at once keep an operator busy for seconds, and others count on theirs.
        Lent []: of_a_requesters_ended_requests_five_hundred_are_kept_and_those_are_the_latest;
    ]
}

async fn what_has_ended_is_removed_when_it_was_kept_long_enough_and_what_lasts_stays(scene: Scene) {
    scene.has_policy(&scene.policy_with(json!({"retention": "30s"}))).await;
    let lasts = scene.granted(&scene.request("lasts")).await;
    scene.asked(&scene.request("waits")).await;
    scene.asked(&scene.request("denied")).await;
    scene.said(&scene.bob, "denied", "deny").await;
    let denied = scene.request_in("denied", RequestPhase::Denied).await;
    let brief = scene
        .granted(&scene.request_with("brief", json!({"duration": "6s"})))
        .await;
    let ended = scene.grant_ended(&brief).await;
    let over = scene.request_in("brief", RequestPhase::Expired).await;

    request_is_gone(&scene, "denied").await;
    request_is_gone(&scene, "brief").await;
    gone(scene.grants(), &brief.name_any(), "the grant is removed").await;
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

/// What it is kept for is its own policy's matter; 30 days where that is gone.
async fn what_was_kept_under_a_policy_that_is_gone_is_not_removed_by_another_of_its_name(scene: Scene) {
    let policy = scene.policy_with(json!({"retention": "1s"}));
    scene.has_policy(&scene.policy()).await;
    for name in ["of-the-former", "of-the-new"] {
        scene.asked(&scene.request(name)).await;
        scene.said(&scene.bob, name, "deny").await;
        scene.request_in(name, RequestPhase::Denied).await;
        let of_that = policy["metadata"]["name"].as_str().unwrap();
        if name == "of-the-former" {
            scene
                .policies()
                .delete(of_that, &DeleteParams::default())
                .await
                .unwrap();
            gone(scene.policies(), of_that, "the policy is gone").await;
            scene.has_policy(&policy).await;
        }
    }
    request_is_gone(&scene, "of-the-new").await;
    scene.request_now("of-the-former").await;
}

async fn of_a_requesters_ended_requests_five_hundred_are_kept_and_those_are_the_latest(scene: Scene) {
    let team = json!({"requesters": {"users": [scene.alice.name(), scene.bob.name()]}});
    scene.has_policy(&scene.policy_with(team)).await;
    let of_another = scene.binding("another", ("ClusterRole", "curfew-requester"), person(scene.bob.name()));
    creates(scene.cluster().admin(), &of_another).await.unwrap();
    scene.asks(&scene.bob, &scene.request("of-another")).await.ok().unwrap();
    scene
        .request_that("of-another", "an offer", |request| {
            request.status.as_ref().is_some_and(|status| status.offer.is_some())
        })
        .await;
    scene.said(&scene.bob, "of-another", "revoke").await;
    let lasts = scene.granted(&scene.request("lasts")).await;
    let withdrawn = |request: &AccessRequest| {
        request
            .status
            .as_ref()
            .is_some_and(|status| status.phase == Some(RequestPhase::Withdrawn))
    };
    scene.request_in("of-another", RequestPhase::Withdrawn).await;
    scene.asked(&scene.request("earlier-0")).await;
    scene.said(&scene.alice, "earlier-0", "revoke").await;
    scene.request_in("earlier-0", RequestPhase::Withdrawn).await;
    let had = scene.granted(&scene.request("earlier-1")).await;
    scene.said(&scene.alice, "earlier-1", "revoke").await;
    scene.grant_ended(&had).await;
    scene.request_in("earlier-1", RequestPhase::Revoked).await;

    let names = ask_many(&scene, retention::MOST_REQUESTS, json!({})).await;
    let alice = scene.of::<AccessRequest>(&scene.alice);
    let withdrawing = names.iter().map(|name| says(&alice, name, "revoke"));
    stream::iter(withdrawing)
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    for earlier in ["earlier-0", "earlier-1"] {
        request_is_gone(&scene, earlier).await;
    }
    let kept = all_that(&scene, retention::MOST_REQUESTS + 1, "withdrawn", withdrawn).await;
    assert!(names.iter().all(|name| kept.contains_key(name)) && kept.contains_key("of-another"));
    scene.has_access().await;
    for grant in [had, lasts] {
        assert_eq!(scene.grants().get(&grant.name_any()).await.unwrap().spec, grant.spec);
    }
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

pub async fn request_is_gone(scene: &Scene, name: &str) {
    gone(scene.requests(), name, "the request is removed").await;
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
