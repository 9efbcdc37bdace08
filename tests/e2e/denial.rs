//! No means no: a denial, a revocation and a withdrawal are final, whoever speaks before or after.

use curfew::api::{EndReason, RequestPhase};
use curfew::core::grant;
use kube::ResourceExt;
use serde_json::json;

use crate::scene::{Scene, Word};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped [AuditLog]: case_10_a_denied_request_never_writes_to_rbac;
        Shipped []:
            case_11_nothing_is_decided_after_a_denial,
            case_11_a_denial_stands_against_an_approval_that_came_first,
            case_12_an_approver_ends_access_at_once,
            case_12_the_requester_gives_access_back,
            case_12_access_is_revoked_by_revoking_and_by_nobody_else,
            case_13_the_requester_withdraws_and_an_outsider_does_not,
            case_13_a_request_that_was_never_offered_can_be_withdrawn,
            case_13_nobody_who_asks_or_approves_may_delete_requests;
        Older []: case_11_nothing_is_decided_after_a_denial, case_12_an_approver_ends_access_at_once;
    ]
}

async fn case_10_a_denied_request_never_writes_to_rbac(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let asked = scene.asked(&scene.request("look")).await;
    scene
        .said(
            &scene.bob,
            "look",
            Word {
                word: "deny",
                comment: Some("not today"),
            },
        )
        .await;
    let denied = scene.request_in("look", RequestPhase::Denied).await;
    let message = denied.status.unwrap().message.unwrap();
    assert!(
        message.contains(scene.bob.name()) && message.contains("not today"),
        "{message}"
    );
    assert_eq!(rbac_writes(&scene), [""; 0]);
    let name = grant::name(&asked.uid().unwrap());
    assert_eq!(scene.grants().get_opt(&name).await.unwrap(), None);
    scene.has_no_access().await;

    let grant = scene.granted(&scene.request("look-again")).await;
    scene.said(&scene.bob, "look-again", "revoke").await;
    scene.grant_ended(&grant).await;
    let mut writes = rbac_writes(&scene);
    // On a slow machine the sweep tries it too.
    writes.dedup();
    assert_eq!(writes, ["create", "delete"], "what is granted shows in the same log");
}

fn rbac_writes(scene: &Scene) -> Vec<String> {
    let writes = scene.operator_writes().into_iter();
    writes
        .filter(|event| event.group == "rbac.authorization.k8s.io")
        .map(|event| event.verb)
        .collect()
}

async fn case_11_nothing_is_decided_after_a_denial(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    scene.said(&scene.bob, "look", "deny").await;
    scene.request_in("look", RequestPhase::Denied).await;
    for word in ["approve", "deny", "revoke"] {
        scene
            .refused(&scene.carol, "look", word, "this request has ended (Denied)")
            .await;
    }
    scene
        .refused(&scene.bob, "look", "approve", "this request has ended (Denied)")
        .await;
    scene
        .refused(&scene.alice, "look", "revoke", "this request has ended (Denied)")
        .await;
    let request = scene.request_now("look").await;
    assert_eq!(request.spec.decisions.len(), 1);
    assert_eq!(request.status.unwrap().phase, Some(RequestPhase::Denied));
    scene.has_no_access().await;
}

async fn case_11_a_denial_stands_against_an_approval_that_came_first(scene: Scene) {
    let approvers = json!({"groups": [format!("sre-{}", scene.id)]});
    let stage = json!({"name": "lead", "approvers": approvers, "required": 2});
    scene
        .has_policy(&scene.policy_with(json!({"approval": {"stages": [stage]}})))
        .await;
    scene.asked(&scene.request("look")).await;
    scene.said(&scene.bob, "look", "approve").await;
    scene.said(&scene.carol, "look", "deny").await;
    let request = scene.request_in("look", RequestPhase::Denied).await;
    assert_eq!(request.status.unwrap().grant, None);
    scene.has_no_access().await;
}

async fn case_12_an_approver_ends_access_at_once(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    scene.has_access().await;
    let word = Word {
        word: "revoke",
        comment: Some("the incident is over"),
    };
    scene.said(&scene.carol, "look", word).await;
    scene.loses_access().await;
    let end = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Revoked);
    assert!(end.message.contains(scene.carol.name()), "{}", end.message);
    let request = scene.request_in("look", RequestPhase::Revoked).await;
    assert_eq!(
        request.spec.decisions[1].comment.as_deref(),
        Some("the incident is over")
    );
    scene.has_no_access().await;
}

async fn case_12_the_requester_gives_access_back(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    scene.has_access().await;
    scene.said(&scene.alice, "look", "revoke").await;
    scene.loses_access().await;
    let end = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Revoked);
    assert!(end.message.contains(scene.alice.name()), "{}", end.message);
    scene.request_in("look", RequestPhase::Revoked).await;
}

async fn case_12_access_is_revoked_by_revoking_and_by_nobody_else(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.granted(&scene.request("look")).await;
    let granted = "this request was granted already";
    scene.refused(&scene.carol, "look", "deny", granted).await;
    scene.refused(&scene.carol, "look", "approve", granted).await;
    scene
        .refused(
            &scene.mallory,
            "look",
            "revoke",
            "you are not among those who may revoke this",
        )
        .await;
    assert_eq!(scene.request_now("look").await.spec.decisions.len(), 1);
    scene.has_access().await;
}

async fn case_13_the_requester_withdraws_and_an_outsider_does_not(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let asked = scene.asked(&scene.request("look")).await;
    scene
        .refused(
            &scene.mallory,
            "look",
            "revoke",
            "you are not among those who may revoke this",
        )
        .await;
    scene
        .refused(&scene.alice, "look", "deny", "curfew.dev/decision=revoke")
        .await;
    scene.said(&scene.alice, "look", "revoke").await;
    let request = scene.request_in("look", RequestPhase::Withdrawn).await;
    assert_eq!(request.spec.decisions.len(), 1);
    scene
        .refused(&scene.bob, "look", "approve", "this request has ended (Withdrawn)")
        .await;
    assert_eq!(
        scene
            .grants()
            .get_opt(&grant::name(&asked.uid().unwrap()))
            .await
            .unwrap(),
        None
    );
    scene.has_no_access().await;
}

async fn case_13_a_request_that_was_never_offered_can_be_withdrawn(scene: Scene) {
    scene.asks(&scene.alice, &scene.request("look")).await.ok().unwrap();
    scene.request_blocked_by("look", "NoPolicyFits").await;
    scene.said(&scene.alice, "look", "revoke").await;
    scene.request_in("look", RequestPhase::Withdrawn).await;
}

async fn case_13_nobody_who_asks_or_approves_may_delete_requests(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    for user in [&scene.alice, &scene.bob] {
        for object in [["accessrequest", "look"], ["accessgrant", &grant.name_any()]] {
            let answer = scene.kubectl(user, &["delete", object[0], object[1]]).await;
            let refusal = answer.refused().unwrap();
            assert!(refusal.contains("cannot delete resource"), "{refusal}");
        }
        let answer = scene.kubectl(user, &["delete", "accessrequests", "--all"]).await;
        assert!(answer.refused().unwrap().contains("forbidden"), "all at once neither");
    }
    scene.has_access().await;
}
