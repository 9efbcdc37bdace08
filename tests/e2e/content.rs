//! What is granted is what was approved, to the letter: a request can't change, and when anything else does that the offer rests on, earlier words are void.

use curfew::api::{AccessRequest, DecisionEffect, EndReason, GrantPhase, RequestPhase, condition};
use k8s_openapi::api::rbac::v1::Role;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::scene::{Scene, creates, merges, name, refused};
use crate::tools::watched;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            case_26_a_spec_is_not_edited_after_the_first_of_two_approvals,
            case_27_a_field_that_was_left_out_is_not_set_later,
            case_28_a_request_made_again_under_the_same_name_starts_without_a_word,
            case_29_a_policy_changed_while_pending_makes_earlier_words_void,
            case_29_a_request_that_fits_its_policy_no_longer_says_why_until_it_fits_again,
            case_29_a_policy_deleted_while_pending_ends_its_requests,
            case_30_of_two_policies_that_fit_neither_is_chosen,
            case_31_a_role_that_grows_between_two_approvals_makes_the_first_void,
            case_32_a_role_replaced_during_a_grant_ends_it,
            case_32_a_role_deleted_during_a_grant_ends_it_whatever_the_policy_says,
            case_32a_a_role_that_grows_during_a_grant_ends_it_unless_the_policy_keeps_it;
    ]
}

/// The scene's policy, with two approvals instead of one.
fn two_approvals(scene: &Scene) -> Value {
    let stage = json!({"name": "lead", "required": 2, "approvers": {"groups": [format!("sre-{}", scene.id)]}});
    scene.policy_with(json!({"approval": {"stages": [stage]}}))
}

fn rules(resources: &[&str]) -> Value {
    json!([{"apiGroups": [""], "resources": resources, "verbs": ["get", "list"]}])
}

async fn edits(
    scene: &Scene,
    user: &curfew_testbed::User,
    request: &str,
    field: &str,
    value: &Value,
) -> Result<AccessRequest, String> {
    merges(&scene.of(user), request, json!({"spec": {field: value}})).await
}

fn digest(request: &AccessRequest) -> Option<&str> {
    Some(request.status.as_ref()?.offer.as_ref()?.digest.as_str())
}

/// How many more approvals a request waits for.
fn missing(request: &AccessRequest) -> i32 {
    request.status.as_ref().unwrap().open[0].missing
}

/// Waits for another offer than that of `before`.
async fn offered_anew(scene: &Scene, before: &AccessRequest) -> AccessRequest {
    let is_new = |request: &AccessRequest| digest(request).is_some_and(|now| Some(now) != digest(before));
    scene
        .request_that(before.metadata.name.as_deref().unwrap(), "another offer", is_new)
        .await
}

/// Waits until so many words were weighed.
async fn weighed(scene: &Scene, request: &str, words: usize) -> AccessRequest {
    scene
        .request_that(request, "every word weighed", |request| {
            request
                .status
                .as_ref()
                .is_some_and(|status| status.decisions.len() == words)
        })
        .await
}

/// The word in this place doesn't count, and the request says why.
fn is_void(request: &AccessRequest, place: usize) {
    let outcome = &request.status.as_ref().unwrap().decisions[place];
    assert_eq!(outcome.effect, DecisionEffect::NoEffect);
    assert_eq!(
        outcome.reason,
        "what was approved has changed since; it needs a new word"
    );
}

async fn case_26_a_spec_is_not_edited_after_the_first_of_two_approvals(scene: Scene) {
    let policy = two_approvals(&scene);
    scene.has_policy(&policy).await;
    scene
        .asked(&scene.request_with(
            "look",
            json!({"policy": name(&policy), "namespaces": [scene.namespace]}),
        ))
        .await;
    scene.said(&scene.bob, "look", "approve").await;
    let admin = scene.cluster().admin();
    for (field, values) in [
        ("policy", [json!("another"), Value::Null]),
        (
            "role",
            [
                json!({"kind": "Role", "name": "writes-requests"}),
                json!({"kind": "ClusterRole", "name": "reader"}),
            ],
        ),
        ("namespaces", [json!(["default"]), Value::Null]),
        ("duration", [json!("1h"), Value::Null]),
        ("reason", [json!("another"), Value::Null]),
        (
            "requester",
            [
                json!({"username": scene.mallory.name(), "uid": "", "groups": []}),
                Value::Null,
            ],
        ),
    ] {
        for value in &values {
            for user in [&scene.alice, &scene.mallory, admin] {
                refused(
                    edits(&scene, user, "look", field, value).await,
                    &format!("{field} can't be changed"),
                );
            }
        }
    }
    let larger = scene.request_with(
        "look",
        json!({"policy": name(&policy), "namespaces": [scene.namespace], "duration": "50m"}),
    );
    let refusal = scene.asks(&scene.alice, &larger).await.refused().unwrap();
    assert!(
        refusal.contains("duration can't be changed; make a new request"),
        "{refusal}"
    );
    scene.has_no_access().await;

    scene.said(&scene.carol, "look", "approve").await;
    let grant = scene.active("look").await;
    assert_eq!(
        (grant.spec.duration.as_str(), grant.spec.role.name.as_str()),
        ("5m", "reader")
    );
    assert_eq!(grant.spec.decisions.len(), 2);
}

async fn case_27_a_field_that_was_left_out_is_not_set_later(scene: Scene) {
    let mut policy = two_approvals(&scene);
    policy["spec"]["defaultDuration"] = json!("5m");
    scene.has_policy(&policy).await;
    scene
        .quickly_asked(&scene.request_with("look", json!({"duration": null, "reason": null})))
        .await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    for (field, value) in [
        ("policy", json!(name(&policy))),
        ("namespaces", json!([scene.namespace])),
        ("namespacesFromPolicy", json!(false)),
        ("clusterWide", json!(true)),
        ("clusterWide", json!(false)),
        ("duration", json!("1h")),
        ("startTime", json!("2030-01-01T00:00:00Z")),
        ("extends", json!("another")),
        ("reason", json!("a better one")),
    ] {
        for user in [&scene.alice, &scene.mallory] {
            refused(
                edits(&scene, user, "look", field, &value).await,
                &format!("{field} can't be changed; make a new request"),
            );
        }
    }
    scene.decides(&scene.carol, "look", "approve").await.unwrap();
    assert_eq!(scene.active("look").await.spec.duration.as_str(), "5m");
}

async fn case_28_a_request_made_again_under_the_same_name_starts_without_a_word(scene: Scene) {
    scene.has_policy(&two_approvals(&scene)).await;
    let first = scene.quickly_asked(&scene.request("look")).await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    assert_eq!(missing(&weighed(&scene, "look", 1).await), 1);
    scene.requests().delete("look", &DeleteParams::default()).await.unwrap();

    let second = scene
        .quickly_asked(&scene.request_with("look", json!({"duration": "1h"})))
        .await;
    assert_ne!(digest(&first), digest(&second));
    assert_eq!((second.spec.decisions.len(), missing(&second)), (0, 2));
    scene.decides(&scene.carol, "look", "approve").await.unwrap();
    assert_eq!(missing(&weighed(&scene, "look", 1).await), 1);
    scene.has_no_access().await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    assert_eq!(scene.active("look").await.spec.duration.as_str(), "1h");
}

async fn case_29_a_policy_changed_while_pending_makes_earlier_words_void(scene: Scene) {
    let with_longest = |longest: &str| {
        let mut policy = two_approvals(&scene);
        policy["spec"]["maxDuration"] = json!(longest);
        policy
    };
    scene.has_policy(&with_longest("1h")).await;
    let first = scene.quickly_asked(&scene.request("look")).await;
    scene.said(&scene.bob, "look", "approve").await;

    scene.has_policy(&with_longest("2h")).await;
    let widened = offered_anew(&scene, &first).await;
    is_void(&widened, 0);
    assert_eq!(missing(&widened), 2);
    let message = widened.status.as_ref().unwrap().message.as_deref().unwrap();
    assert!(
        message.contains(&widened.status.as_ref().unwrap().offer.as_ref().unwrap().code),
        "{message}"
    );
    let old = format!("approve:{}", first.status.unwrap().offer.unwrap().code);
    scene
        .refused(
            &scene.carol,
            "look",
            old.as_str(),
            "the code isn't that of the offer that stands",
        )
        .await;
    scene.said(&scene.carol, "look", "approve").await;
    assert_eq!(missing(&weighed(&scene, "look", 2).await), 1);
    scene.has_no_access().await;

    scene.has_policy(&with_longest("30m")).await;
    let narrowed = offered_anew(&scene, &widened).await;
    is_void(&narrowed, 0);
    is_void(&narrowed, 1);
    scene.said(&scene.bob, "look", "approve").await;
    assert_eq!(missing(&weighed(&scene, "look", 3).await), 1);
    scene.said(&scene.carol, "look", "approve").await;
    let grant = scene.active("look").await;
    assert_eq!(Some(grant.spec.offer.as_str()), digest(&narrowed));
    assert_eq!(grant.spec.decisions.len(), 2, "only those of the last offer carry it");
}

async fn case_29_a_request_that_fits_its_policy_no_longer_says_why_until_it_fits_again(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.quickly_asked(&scene.request("look")).await;
    for (change, reason, says) in [
        (
            json!({"maxDuration": "1m"}),
            "DurationTooLong",
            "make a new request with at most 1m",
        ),
        (
            json!({"requesters": {"users": [scene.bob.name()]}}),
            "NotARequester",
            "its requesters don't include you",
        ),
        (
            json!({"roles": [{"kind": "ClusterRole", "name": "e2e-reader"}]}),
            "RoleNotInPolicy",
            "its roles don't include Role \"reader\"",
        ),
        (
            json!({"namespaces": {"names": ["default"]}}),
            "NamespaceNotInPolicy",
            scene.namespace.as_str(),
        ),
        (
            json!({"reason": {"pattern": "^OPS-[0-9]+$"}}),
            "ReasonMismatch",
            "^OPS-[0-9]+$",
        ),
    ] {
        scene.has_policy(&scene.policy_with(change)).await;
        // Not before the policy was looked at: until then it is not Ready either.
        let says_so = |request: &AccessRequest| {
            let conditions = request.status.clone().unwrap_or_default().conditions;
            condition::get(&conditions, condition::ACCEPTED)
                .is_some_and(|accepted| accepted.reason == reason && accepted.message.contains(says))
        };
        scene.request_that("look", &format!("{reason}: {says}"), says_so).await;
        refused(
            scene.decides(&scene.bob, "look", "approve").await,
            "there is no offer to decide on yet",
        );
    }
    scene.has_no_access().await;
    scene.has_policy(&scene.policy_with(json!({"maxDuration": "6m"}))).await;
    scene
        .request_that("look", "an offer", |request| digest(request).is_some())
        .await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    scene.active("look").await;
}

async fn case_29_a_policy_deleted_while_pending_ends_its_requests(scene: Scene) {
    let policy = scene.policy();
    scene.has_policy(&policy).await;
    scene.quickly_asked(&scene.request("look")).await;
    scene
        .policies()
        .delete(name(&policy), &DeleteParams::default())
        .await
        .unwrap();
    let ended = scene.request_in("look", RequestPhase::Failed).await;
    let message = ended.status.unwrap().message.unwrap();
    assert_eq!(
        message,
        format!("the policy {:?} was deleted; make a new request", name(&policy))
    );

    scene.has_policy(&policy).await;
    refused(
        scene.decides(&scene.bob, "look", "approve").await,
        "this request has ended (Failed)",
    );
    scene.has_no_access().await;
}

async fn case_30_of_two_policies_that_fit_neither_is_chosen(scene: Scene) {
    let (first, mut second) = (scene.policy(), scene.policy_with(json!({"maxDuration": "30m"})));
    second["metadata"]["name"] = json!(format!("second-{}", scene.id));
    scene.has_policy(&first).await;
    scene.has_policy(&second).await;
    creates(&scene.alice, &scene.request("unnamed")).await.unwrap();
    let message = scene.request_blocked_by("unnamed", "SeveralPoliciesFit").await;
    assert!(
        message.contains(name(&first)) && message.contains(name(&second)) && message.contains("spec.policy"),
        "{message}"
    );
    scene
        .refused(&scene.bob, "unnamed", "approve", "there is no offer to decide on yet")
        .await;
    scene.has_no_access().await;

    let grant = scene
        .quickly_granted(&scene.request_with("named", json!({"policy": name(&second)})))
        .await;
    assert_eq!(grant.spec.policy.name, name(&second));
    scene.has_access().await;

    scene
        .policies()
        .delete(name(&second), &DeleteParams::default())
        .await
        .unwrap();
    let offered = scene
        .request_that("unnamed", "an offer, now that one policy fits", |request| {
            digest(request).is_some()
        })
        .await;
    assert_eq!(offered.status.unwrap().policy.unwrap().name, name(&first));
}

async fn case_31_a_role_that_grows_between_two_approvals_makes_the_first_void(scene: Scene) {
    scene.has_policy(&two_approvals(&scene)).await;
    let first = scene.quickly_asked(&scene.request("look")).await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    scene
        .apply(
            scene.cluster().admin(),
            &scene.role("reader", rules(&["configmaps", "secrets"])),
        )
        .await
        .ok()
        .unwrap();

    let grown = offered_anew(&scene, &first).await;
    is_void(&grown, 0);
    assert_eq!(
        grown.status.as_ref().unwrap().offer.as_ref().unwrap().hazards,
        ["ReadsSecrets"]
    );
    scene.said(&scene.carol, "look", "approve").await;
    assert_eq!(missing(&weighed(&scene, "look", 2).await), 1);
    scene.has_no_access().await;
    scene.said(&scene.bob, "look", "approve").await;
    let grant = scene.active("look").await;
    assert_eq!(Some(grant.spec.offer.as_str()), digest(&grown));
    assert_eq!(grant.spec.hazards, ["ReadsSecrets"]);
}

async fn case_32_a_role_replaced_during_a_grant_ends_it(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.quickly_granted(&scene.request("look")).await;
    scene.has_access().await;
    let roles = scene.of::<Role>(scene.cluster().admin());
    roles.delete("reader", &DeleteParams::default()).await.unwrap();
    creates(scene.cluster().admin(), &scene.role("reader", rules(&["configmaps"])))
        .await
        .unwrap();
    let end = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::RoleChanged);
    assert!(end.message.starts_with("Role \"reader\" was "), "{}", end.message);
    scene.has_no_access().await;
    let ended = scene.request_in("look", RequestPhase::Revoked).await;
    assert_eq!(ended.status.unwrap().message, Some(end.message));
}

async fn case_32_a_role_deleted_during_a_grant_ends_it_whatever_the_policy_says(scene: Scene) {
    scene
        .has_policy(&scene.policy_with(json!({"onRoleChange": "Keep"})))
        .await;
    let grant = scene.quickly_granted(&scene.request("look")).await;
    scene
        .of::<Role>(scene.cluster().admin())
        .delete("reader", &DeleteParams::default())
        .await
        .unwrap();
    let end = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    assert_eq!(
        (end.reason, end.message.as_str()),
        (EndReason::RoleChanged, "Role \"reader\" was deleted")
    );
    scene.has_no_access().await;
}

async fn case_32a_a_role_that_grows_during_a_grant_ends_it_unless_the_policy_keeps_it(scene: Scene) {
    let (strict, mut keeping) = (scene.policy(), scene.policy_with(json!({"onRoleChange": "Keep"})));
    keeping["metadata"]["name"] = json!(format!("keeping-{}", scene.id));
    scene.has_policy(&strict).await;
    scene.has_policy(&keeping).await;
    let kept = scene
        .quickly_granted(&scene.request_with("kept", json!({"policy": name(&keeping)})))
        .await;
    let ended = scene
        .quickly_granted(&scene.request_with("ended", json!({"policy": name(&strict)})))
        .await;
    assert_eq!(scene.bindings().await.len(), 2);

    scene
        .apply(
            scene.cluster().admin(),
            &scene.role("reader", rules(&["configmaps", "secrets"])),
        )
        .await
        .ok()
        .unwrap();
    let end = scene.grant_ended(&ended).await.status.unwrap().end.unwrap();
    assert_eq!(
        (end.reason, end.message.as_str()),
        (
            EndReason::RoleChanged,
            "Role \"reader\" has other rules than were approved"
        )
    );
    scene.request_in("ended", RequestPhase::Revoked).await;
    // The operator has seen the change by now, and the other grant stands, with what the role has become.
    scene.has_access().await;
    assert!(
        scene
            .alice
            .can("list", "secrets", Some(&scene.namespace))
            .await
            .unwrap()
    );
    let stands = |grant: Option<&curfew::api::AccessGrant>| {
        grant.is_some_and(|grant| grant.status.as_ref().unwrap().phase == Some(GrantPhase::Active))
    };
    watched(
        scene.grants(),
        kept.metadata.name.as_deref().unwrap(),
        "the kept grant stands",
        stands,
    )
    .await;
}
