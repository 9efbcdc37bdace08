//! Whose word counts, and about what: theirs whom the policy names, once, not about themselves, and about what was offered.

use curfew::api::{AccessGrant, AccessRequest, DecisionEffect, Offer, RequestPhase};
use curfew_testbed::User;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::scene::{Scene, merges, readiness, refused};
use crate::tools::gone;
use crate::world::{Case, cases_on_both};

pub fn cases() -> Vec<Case> {
    cases_on_both![
        case_16_nobody_records_a_decision_in_anothers_name,
        case_17_a_person_counts_once,
        case_18_nobody_decides_on_their_own_request,
        case_18b_whoever_approved_can_change_their_mind,
        case_18b_a_new_offer_needs_a_new_word,
        case_18c_approvals_never_crowd_out_a_denial,
        case_18d_nothing_is_decided_on_a_request_that_is_being_deleted,
        case_22a_no_comment_is_planted_for_anothers_decision,
        case_22b_an_old_code_is_refused_and_a_word_without_one_goes_to_the_new_offer,
        case_22c_a_policy_can_demand_a_credential_of_the_approvers_own,
    ]
}

async fn case_16_nobody_records_a_decision_in_anothers_name(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    let carols = scene.record(&scene.carol, "look", "approve", None).await;
    for other in [&scene.alice, &scene.bob, &scene.mallory, scene.cluster().admin()] {
        refused(
            writes(&scene, other, "look", &carols).await,
            "only be recorded in your own name",
        );
    }
    let own = scene.record(&scene.bob, "look", "approve", None).await;
    let uid = format!("uid-carol-{}", scene.id);
    for (field, value) in [
        ("uid", uid.as_str()),
        ("uid", ""),
        ("username", &scene.bob.name().to_uppercase()),
    ] {
        let mut record = own.clone();
        record[field] = json!(value);
        refused(
            writes(&scene, &scene.bob, "look", &record).await,
            "only be recorded in your own name",
        );
    }
    assert!(scene.request_now("look").await.spec.decisions.is_empty());
    scene.has_no_access().await;
}

async fn case_17_a_person_counts_once(scene: Scene) {
    scene.has_policy(&two_must_approve(&scene)).await;
    let offer = offered(&scene, "look").await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    let coded = format!("approve:{}", offer.code);
    for again in ["approve", &coded] {
        refused(
            scene.decides(&scene.bob, "look", again).await,
            "you have said this already",
        );
    }
    let record = scene.record(&scene.bob, "look", "approve", Some("once more")).await;
    refused(
        writes(&scene, &scene.bob, "look", &record).await,
        "you have said this already",
    );
    let status = scene
        .request_that("look", "the word was seen", |request| seen(request) == 1)
        .await
        .status
        .unwrap();
    assert_eq!((status.phase, status.open[0].missing), (Some(RequestPhase::Pending), 1));
    scene.has_no_access().await;
    scene.decides(&scene.carol, "look", "approve").await.unwrap();
    assert_eq!(
        speakers(&scene.active("look").await),
        [scene.bob.name(), scene.carol.name()]
    );
}

async fn case_18_nobody_decides_on_their_own_request(scene: Scene) {
    let approvers = json!({"users": [scene.alice.name()], "groups": [format!("dev-{}", scene.id)]});
    scene
        .has_policy(&scene.policy_with(json!({"approval": {"stages": [{"name": "lead", "approvers": approvers}]}})))
        .await;
    let offer = offered(&scene, "look").await;
    for word in ["approve", &format!("approve:{}", offer.code)] {
        refused(
            scene.decides(&scene.alice, "look", word).await,
            "you can't approve your own request",
        );
    }
    refused(
        scene.decides(&scene.alice, "look", "deny").await,
        "you can't deny your own request",
    );
    assert!(scene.request_now("look").await.spec.decisions.is_empty());
    scene.has_no_access().await;
    scene.decides(&scene.alice, "look", "revoke").await.unwrap();
    scene.request_in("look", RequestPhase::Withdrawn).await;
}

async fn case_18b_whoever_approved_can_change_their_mind(scene: Scene) {
    scene.has_policy(&two_must_approve(&scene)).await;
    for (name, word, phase) in [
        ("denied", "deny", RequestPhase::Denied),
        ("revoked", "revoke", RequestPhase::Revoked),
    ] {
        scene.asked(&scene.request(name)).await;
        scene.decides(&scene.bob, name, "approve").await.unwrap();
        scene.decides(&scene.bob, name, word).await.unwrap();
        scene.request_in(name, phase).await;
        refused(
            scene.decides(&scene.carol, name, "approve").await,
            &format!("this request has ended ({phase:?})"),
        );
    }
    scene.has_no_access().await;
}

async fn case_18b_a_new_offer_needs_a_new_word(scene: Scene) {
    scene.has_policy(&two_must_approve(&scene)).await;
    let old = offered(&scene, "look").await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    scene.has_policy(&lasting(two_must_approve(&scene), "2h")).await;
    let new = offered_anew(&scene, "look", &old).await;
    scene.decides(&scene.carol, "look", "approve").await.unwrap();
    let status = scene
        .request_that("look", "both words were seen", |request| seen(request) == 2)
        .await
        .status
        .unwrap();
    let effects: Vec<_> = status.decisions.iter().map(|outcome| outcome.effect).collect();
    assert_eq!(effects, [DecisionEffect::NoEffect, DecisionEffect::Counts]);
    assert!(
        status.decisions[0].reason.contains("changed since"),
        "{}",
        status.decisions[0].reason
    );
    scene.has_no_access().await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    let grant = scene.active("look").await;
    assert_eq!(speakers(&grant), [scene.carol.name(), scene.bob.name()]);
    assert!(
        grant.spec.decisions.iter().all(|decision| decision.offer == new.digest),
        "{:?}",
        grant.spec.decisions
    );
}

async fn case_18c_approvals_never_crowd_out_a_denial(scene: Scene) {
    let mut policy = scene.policy();
    policy["spec"]["approval"]["stages"][0]["required"] = json!(16);
    scene.has_policy(&policy).await;
    let mut offer = offered(&scene, "look").await;
    let mut approvers = vec![];
    for number in 0..15 {
        approvers.push(approver(&scene, &format!("approver{number}-{}", scene.id)).await);
    }
    // Fifteen of sixteen, three times over, and three more: all that approvals may fill.
    for (round, speakers) in [15, 15, 15, 3].into_iter().enumerate() {
        if round > 0 {
            scene
                .has_policy(&lasting(policy.clone(), &format!("{}h", round + 1)))
                .await;
            offer = offered_anew(&scene, "look", &offer).await;
        }
        for approver in &approvers[..speakers] {
            scene.decides(approver, "look", "approve").await.unwrap();
        }
    }
    refused(
        scene.decides(&scene.bob, "look", "approve").await,
        "too much has been said",
    );
    scene.decides(&scene.carol, "look", "deny").await.unwrap();
    let request = scene.request_in("look", RequestPhase::Denied).await;
    assert_eq!(request.spec.decisions.len(), 49);
    scene.has_no_access().await;
}

async fn case_18d_nothing_is_decided_on_a_request_that_is_being_deleted(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    let requests = scene.requests();
    merges(
        &requests,
        "look",
        json!({"metadata": {"finalizers": ["e2e.example/held"]}}),
    )
    .await
    .unwrap();
    requests.delete("look", &DeleteParams::default()).await.unwrap();
    for (user, word) in [
        (&scene.bob, "approve"),
        (&scene.bob, "deny"),
        (&scene.bob, "revoke"),
        (&scene.alice, "revoke"),
    ] {
        refused(scene.decides(user, "look", word).await, "this request is being deleted");
    }
    scene.request_in("look", RequestPhase::Withdrawn).await;
    scene.has_no_access().await;
    merges(&requests, "look", json!({"metadata": {"finalizers": null}}))
        .await
        .unwrap();
    gone(requests, "look", "the request is gone").await;
}

async fn case_22a_no_comment_is_planted_for_anothers_decision(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    for user in [&scene.mallory, &scene.alice, &scene.bob, scene.cluster().admin()] {
        let planted = json!({"metadata": {"annotations": {"curfew.dev/comment": "granted for ever"}}});
        refused(
            merges(&scene.of::<AccessRequest>(user), "look", planted).await,
            "curfew.dev/comment goes with a decision",
        );
    }
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    assert_eq!(scene.active("look").await.spec.decisions[0].comment, None);
}

async fn case_22b_an_old_code_is_refused_and_a_word_without_one_goes_to_the_new_offer(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let seen = [offered(&scene, "with-code").await, offered(&scene, "without").await];
    scene.has_policy(&lasting(scene.policy(), "2h")).await;
    let new = [
        offered_anew(&scene, "with-code", &seen[0]).await,
        offered_anew(&scene, "without", &seen[1]).await,
    ];
    assert_ne!(seen[0].code, new[0].code);
    let which = format!("which is {}", new[0].code);
    refused(
        scene
            .decides(&scene.bob, "with-code", format!("approve:{}", seen[0].code).as_str())
            .await,
        &which,
    );
    scene
        .decides(&scene.bob, "with-code", format!("approve:{}", new[0].code).as_str())
        .await
        .unwrap();
    scene.decides(&scene.bob, "without", "approve").await.unwrap();
    for (name, offer, code) in [("with-code", &new[0], Some(&new[0].code)), ("without", &new[1], None)] {
        let grant = scene.active(name).await;
        assert_eq!(grant.spec.offer, offer.digest);
        let decision = &grant.spec.decisions[0];
        assert_eq!((&decision.offer, decision.code.as_ref()), (&offer.digest, code));
    }
}

async fn case_22c_a_policy_can_demand_a_credential_of_the_approvers_own(scene: Scene) {
    scene
        .has_policy(&scene.policy_with(json!({"requireDirect": true})))
        .await;
    scene.asked(&scene.request("strict")).await;
    let refusal = approves_as_bob(&scene, "strict", false).await.unwrap_err();
    assert!(
        refusal.contains("a credential of your own, not impersonation"),
        "{refusal}"
    );
    let refusal = approves_as_bob(&scene, "strict", true).await.unwrap_err();
    assert!(refusal.contains("direct must say"), "{refusal}");
    scene.has_no_access().await;
    scene.decides(&scene.bob, "strict", "approve").await.unwrap();
    assert!(scene.active("strict").await.spec.decisions[0].direct);

    // Where it isn't demanded, such a word counts, and is shown for what it is.
    assert_eq!(readiness(&scene.has_policy(&scene.policy()).await).0, "Ready");
    scene.asked(&scene.request("loose")).await;
    approves_as_bob(&scene, "loose", false).await.unwrap();
    let decision = scene.active("loose").await.spec.decisions.remove(0);
    assert_eq!(
        (decision.username.as_str(), decision.uid.as_str(), decision.direct),
        (scene.bob.name(), "", false)
    );
}

// ---- helpers ----

/// The admin approves as bob by impersonation; `claims` that it was bob's own credential, in a record written by hand.
async fn approves_as_bob(scene: &Scene, name: &str, claims: bool) -> Result<(), String> {
    let group = format!("sre-{}", scene.id);
    let mut arguments = vec!["--as", scene.bob.name(), "--as-group", &group];
    let patch;
    if scene.world.stamps() && !claims {
        arguments.extend(["annotate", "accessrequest", name, "curfew.dev/decision=approve"]);
    } else {
        let mut record = scene.record(&scene.bob, name, "approve", None).await;
        record["uid"] = json!("");
        record["direct"] = json!(claims);
        patch = json!({"spec": {"decisions": [record]}}).to_string();
        arguments.extend(["patch", "accessrequest", name, "--type=merge", "-p", &patch]);
    }
    let answer = scene.kubectl(scene.cluster().admin(), &arguments).await;
    if answer.succeeded() { Ok(()) } else { Err(answer.stderr) }
}

pub fn two_must_approve(scene: &Scene) -> Value {
    let mut policy = scene.policy();
    policy["spec"]["approval"]["stages"][0]["required"] = json!(2);
    policy
}

/// The policy with another longest duration: what was offered under it is offered anew.
fn lasting(mut policy: Value, longest: &str) -> Value {
    policy["spec"]["maxDuration"] = json!(longest);
    policy
}

/// Waits for another offer than this one.
async fn offered_anew(scene: &Scene, name: &str, before: &Offer) -> Offer {
    let is_new = |request: &AccessRequest| offer(request).is_some_and(|offer| offer.digest != before.digest);
    offer(&scene.request_that(name, "another offer", is_new).await).unwrap()
}

/// Alice asks, and this is offered.
pub async fn offered(scene: &Scene, name: &str) -> Offer {
    offer(&scene.asked(&scene.request(name)).await).unwrap()
}

pub fn is_offered(request: &AccessRequest) -> bool {
    offer(request).is_some()
}

fn offer(request: &AccessRequest) -> Option<Offer> {
    request.status.as_ref().and_then(|status| status.offer.clone())
}

/// How many decisions the operator has looked at.
fn seen(request: &AccessRequest) -> usize {
    request.status.as_ref().map_or(0, |status| status.decisions.len())
}

fn speakers(grant: &AccessGrant) -> Vec<&str> {
    grant
        .spec
        .decisions
        .iter()
        .map(|decision| decision.username.as_str())
        .collect()
}

/// `user` writes this record at the end of a request's decisions, by hand.
pub async fn writes(scene: &Scene, user: &User, name: &str, record: &Value) -> Result<AccessRequest, String> {
    let decisions = scene.decisions_and(name, std::slice::from_ref(record)).await;
    merges(&scene.of(user), name, json!({"spec": {"decisions": decisions}})).await
}

/// One more of bob's group.
pub async fn approver(scene: &Scene, name: &str) -> User {
    scene
        .cluster()
        .user(name)
        .uid(&format!("uid-{name}"))
        .group(&format!("sre-{}", scene.id))
        .build()
        .await
        .unwrap()
}
