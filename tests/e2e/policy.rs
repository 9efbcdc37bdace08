//! What a policy allows and what it can't: nothing is granted by what is missing, misspelt, empty or not there yet, and each refusal says why.

use curfew::api::condition;
use curfew::api::{AccessRequest, DecisionEffect, RequestPhase};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use crate::scene::{Scene, creates, name, readiness, refused, would_create};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            case_32b_what_is_missing_misspelt_or_empty_in_a_policy_grants_nothing,
            a_reason_is_asked_for_as_the_policy_says_and_with_its_hint,
            a_request_that_nobody_decides_in_time_ends_and_takes_no_approval,
            a_policy_that_requires_the_code_takes_no_approval_without_it,
            a_duration_that_is_left_out_is_the_policys_default,
            every_message_says_what_is_the_case_and_who_is_to_act_next;
    ]
}

async fn case_32b_what_is_missing_misspelt_or_empty_in_a_policy_grants_nothing(scene: Scene) {
    let sre = format!("sre-{}", scene.id);
    let stage = |fields: Value| {
        let mut stage = json!({"name": "lead", "approvers": {"groups": [sre]}});
        stage
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({"approval": {"stages": [stage]}})
    };
    let misspelt = json!({"approval": null, "aproval": {"stages": [{"name": "lead", "approvers": {"groups": [sre]}}]}});
    let kubectl = scene
        .apply(scene.cluster().admin(), &scene.policy_with(misspelt.clone()))
        .await
        .refused()
        .unwrap();
    assert!(kubectl.contains("unknown field \"spec.aproval\""), "{kubectl}");

    let policies: Vec<_> = [
        (misspelt, "ApprovalMissing", "what is missing never means granted"),
        (json!({"approval": null}), "ApprovalMissing", "add approval.stages"),
        (json!({"approval": {}}), "ApprovalMissing", "add approval.stages"),
        (
            json!({"approval": {"stages": []}}),
            "ApprovalMissing",
            "add approval.stages",
        ),
        (
            stage(json!({"approvers": {}})),
            "NobodyApproves",
            "stage \"lead\" names no approvers",
        ),
        (
            stage(json!({"approvers": {"user": ["bob"]}})),
            "NobodyApproves",
            "stage \"lead\" names no approvers",
        ),
        (
            stage(json!({"approvers": {"users": ["bob", "bob"]}, "required": 2})),
            "NeverMet",
            "requires 2 approvals and names 1",
        ),
        (
            json!({"namespaces": {"selector": {}}}),
            "EmptySelector",
            "selects nothing",
        ),
        (
            json!({"namespaces": {"selector": {"matchLabel": {"scene": scene.id}}}}),
            "EmptySelector",
            "selects nothing",
        ),
        (
            json!({"namespaces": {"names": [scene.namespace], "selector": {}}}),
            "EmptySelector",
            "selects nothing",
        ),
        (
            json!({"namespaces": {"selector": {"matchExpressions": [{"key": "scene", "operator": "In"}]}}}),
            "InvalidSelector",
            "take at least one",
        ),
        (json!({"namespaces": {}}), "NothingMatches", "add names or a selector"),
        (json!({"namespaces": null}), "NothingMatches", "add names or a selector"),
        (json!({"requesters": {}}), "NothingMatches", "requesters names nobody"),
        (
            json!({"defaultDuration": "2h"}),
            "InvalidDuration",
            "defaultDuration 2h is longer than maxDuration 1h",
        ),
        (json!({"reason": {"pattern": "("}}), "InvalidPattern", "reason.pattern"),
    ]
    .into_iter()
    .enumerate()
    .map(|(which, (fields, reason, says))| (another(&scene, which, fields), reason, says))
    .collect();
    grant_nothing(&scene, &policies).await;

    // What the schema knows to be wrong is not even stored.
    for fields in [
        stage(json!({"approvers": null, "aprovers": {"groups": [sre]}})),
        stage(json!({"required": 0})),
        json!({"roles": []}),
        json!({"roles": [{"kind": "Role", "name": "read*"}]}),
        json!({"maxDuration": null}),
        json!({"maxDuration": "1d"}),
    ] {
        let policy = another(&scene, 99, fields);
        would_create(scene.cluster().admin(), &policy)
            .await
            .map(|stored| panic!("stored: {stored:?}"))
            .unwrap_or_else(|refusal| {
                assert!(refusal.contains("is invalid"), "{refusal}");
            });
    }
}

async fn a_reason_is_asked_for_as_the_policy_says_and_with_its_hint(scene: Scene) {
    let rule = json!({"pattern": "^OPS-[0-9]+$", "hint": "a ticket number such as OPS-1234"});
    scene.has_policy(&scene.policy_with(json!({"reason": rule}))).await;
    for (request, given, reason) in [
        ("none", Value::Null, "ReasonMissing"),
        ("empty", json!(""), "ReasonMissing"),
        ("blank", json!("  "), "ReasonMissing"),
        ("other", json!("because"), "ReasonMismatch"),
        ("nearly", json!("OPS-12x"), "ReasonMismatch"),
        ("two-lines", json!("OPS-12\nOPS"), "ReasonMismatch"),
    ] {
        creates(&scene.alice, &scene.request_with(request, json!({"reason": given})))
            .await
            .unwrap();
        let message = scene.request_blocked_by(request, reason).await;
        assert!(
            message.contains("; expected is a ticket number such as OPS-1234; make a new request"),
            "{message}"
        );
    }
    scene.has_no_access().await;
    let grant = scene
        .quickly_granted(&scene.request_with("ticket", json!({"reason": "OPS-1234"})))
        .await;
    assert_eq!(grant.spec.reason.as_deref(), Some("OPS-1234"));

    scene
        .has_policy(&scene.policy_with(json!({"reason": {"required": true}})))
        .await;
    creates(&scene.alice, &scene.request_with("required", json!({"reason": null})))
        .await
        .unwrap();
    assert_eq!(
        scene.request_blocked_by("required", "ReasonMissing").await,
        "the policy requires a reason; make a new request with one"
    );
}

async fn a_request_that_nobody_decides_in_time_ends_and_takes_no_approval(scene: Scene) {
    scene.has_policy(&scene.policy_with(json!({"requestTTL": "2s"}))).await;
    creates(&scene.alice, &scene.request("look")).await.unwrap();
    let expired = scene.request_in("look", RequestPhase::Expired).await;
    let status = expired.status.unwrap();
    let lived = status
        .timeline
        .unwrap()
        .ended
        .unwrap()
        .0
        .duration_since(expired.metadata.creation_timestamp.unwrap().0);
    assert!(lived.as_secs() >= 2, "it ended after {lived:?}");
    assert!(status.message.unwrap().starts_with("nobody decided it before 20"));
    assert_eq!(
        condition::get(&status.conditions, condition::ENDED).unwrap().reason,
        "NotDecided"
    );
    scene
        .refused(
            &scene.bob,
            "look",
            "approve",
            "this request has ended (Expired): nothing can be decided on it any more. Make a new one",
        )
        .await;
    scene.has_no_access().await;
}

async fn a_policy_that_requires_the_code_takes_no_approval_without_it(scene: Scene) {
    scene.has_policy(&scene.policy_with(json!({"requireCode": true}))).await;
    let request = scene.quickly_asked(&scene.request("look")).await;
    let offer = request.status.unwrap().offer.unwrap();
    assert!(offer.require_code && offer.digest.starts_with(&offer.code) && offer.code.len() == 8);
    let command = format!("curfew.dev/decision=approve:{}", offer.code);
    scene.refused(&scene.bob, "look", "approve", &command).await;
    for wrong in ["approve:", "approve:00000000", "approve:none", "approve:CODE"] {
        refused(
            scene.decides(&scene.bob, "look", wrong).await,
            "the code isn't that of the offer that stands",
        );
    }
    scene.has_no_access().await;
    scene
        .said(&scene.bob, "look", format!("approve:{}", offer.code).as_str())
        .await;
    let grant = scene.active("look").await;
    assert_eq!(grant.spec.decisions[0].code, Some(offer.code));
    let decided = scene.request_now("look").await.status.unwrap().decisions;
    assert_eq!(decided[0].effect, DecisionEffect::Counts);
}

async fn a_duration_that_is_left_out_is_the_policys_default(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let unsaid = |name: &str| scene.request_with(name, json!({"duration": null}));
    creates(&scene.alice, &unsaid("without")).await.unwrap();
    let message = scene.request_blocked_by("without", "DurationMissing").await;
    assert!(
        message.contains("make a new request with a duration of at most 1h"),
        "{message}"
    );
    scene
        .has_policy(&scene.policy_with(json!({"defaultDuration": "1m30s"})))
        .await;
    let offered = scene
        .request_that("without", "an offer", |request| {
            request.status.as_ref().is_some_and(|status| status.offer.is_some())
        })
        .await;
    assert_eq!(offered.status.unwrap().offer.unwrap().duration.as_str(), "1m30s");
    scene.decides(&scene.bob, "without", "approve").await.unwrap();
    let grant = scene.active("without").await;
    assert_eq!(grant.spec.duration.as_str(), "1m30s");
    let lasts = curfew::core::grant::deadline(&grant) - curfew::core::grant::created(&grant);
    assert_eq!(lasts.num_seconds(), 90);
}

async fn every_message_says_what_is_the_case_and_who_is_to_act_next(scene: Scene) {
    let two = json!({"approval": {"stages": [{"name": "lead", "required": 2, "approvers": {"users": ["zoe"], "groups": [format!("sre-{}", scene.id)]}}]}});
    scene.has_policy(&scene.policy_with(two)).await;
    let message = |request: &AccessRequest| request.status.as_ref().unwrap().message.clone().unwrap();
    let sre = format!("sre-{}", scene.id);

    let pending = scene.quickly_asked(&scene.request("look")).await;
    let code = pending.status.as_ref().unwrap().offer.as_ref().unwrap().code.clone();
    let waits = |for_whom: &str| {
        format!("waits for {for_whom} in stage \"lead\" (users \"zoe\"; groups {sre:?}); the offer's code is {code}")
    };
    assert_eq!(message(&pending), waits("2 approvals"));
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    let half = scene
        .request_that("look", "a word weighed", |request| {
            !request.status.as_ref().unwrap().decisions.is_empty()
        })
        .await;
    assert_eq!(message(&half), waits("1 approval"));
    scene.decides(&scene.carol, "look", "approve").await.unwrap();
    let active = scene.request_in("look", RequestPhase::Active).await;
    let until = active.status.as_ref().unwrap().expires_at.as_ref().unwrap().0;
    assert_eq!(message(&active), format!("access until {until}"));
    scene.decides(&scene.alice, "look", "revoke").await.unwrap();
    let given_back = scene.request_in("look", RequestPhase::Revoked).await;
    assert_eq!(message(&given_back), format!("revoked by {:?}", scene.alice.name()));

    scene.quickly_asked(&scene.request("denied")).await;
    let no = crate::scene::Word {
        word: "deny",
        comment: Some("not on a Friday"),
    };
    scene.decides(&scene.bob, "denied", no).await.unwrap();
    let denied = scene.request_in("denied", RequestPhase::Denied).await;
    assert_eq!(
        message(&denied),
        format!("denied by {:?}: \"not on a Friday\"", scene.bob.name())
    );

    scene.quickly_asked(&scene.request("withdrawn")).await;
    scene.decides(&scene.alice, "withdrawn", "revoke").await.unwrap();
    let withdrawn = scene.request_in("withdrawn", RequestPhase::Withdrawn).await;
    assert_eq!(message(&withdrawn), format!("withdrawn by {:?}", scene.alice.name()));

    // What is blocked names who can change it, or what to ask for instead.
    let policy = name(&scene.policy()).to_owned();
    for (request, fields, reason, says) in [
        (
            "no-policy",
            json!({"policy": "nowhere"}),
            "PolicyNotFound",
            "kubectl get accesspolicies",
        ),
        (
            "no-fit",
            json!({"namespaces": ["default"]}),
            "NoPolicyFits",
            "whoever runs the cluster can add one",
        ),
        (
            "too-long",
            json!({"duration": "2h"}),
            "DurationTooLong",
            "make a new request with at most 1h",
        ),
        (
            "no-duration",
            json!({"duration": null}),
            "DurationMissing",
            "make a new request with a duration of at most 1h",
        ),
        (
            "no-role",
            json!({"policy": policy, "role": {"kind": "Role", "name": "writes-requests"}}),
            "RoleNotInPolicy",
            "its roles don't include",
        ),
        (
            "nowhere",
            json!({"policy": policy, "namespaces": ["nowhere"]}),
            "NamespaceMissing",
            "the namespace \"nowhere\" doesn't exist",
        ),
    ] {
        creates(&scene.alice, &scene.request_with(request, fields))
            .await
            .unwrap();
        let blocked = scene.request_blocked_by(request, reason).await;
        assert!(blocked.contains(says), "{blocked}");
        assert_eq!(
            message(&scene.request_now(request).await),
            blocked,
            "the message and the condition say the same"
        );
    }
}

// ---- helpers ----

/// A policy of this scene under another name.
pub fn another(scene: &Scene, which: usize, fields: Value) -> Value {
    let mut policy = scene.policy_with(fields);
    policy["metadata"]["name"] = json!(format!("policy-{}-{which}", scene.id));
    policy
}

pub fn list(items: impl IntoIterator<Item = Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items.into_iter().collect::<Vec<_>>()}).to_string()
}

pub fn accepted(request: &AccessRequest) -> Option<&Condition> {
    condition::get(&request.status.as_ref()?.conditions, condition::ACCEPTED)
}

/// Each of these policies is not Ready, for this reason and with these words; a request that names it is told so, and nobody can approve it.
pub async fn grant_nothing(scene: &Scene, policies: &[(Value, &str, &str)]) {
    // As of a client that doesn't check: what the API server doesn't know is then dropped without a word.
    let all = list(policies.iter().map(|(policy, ..)| policy.clone()));
    let applied = scene
        .cluster()
        .admin()
        .kubectl_stdin(["apply", "--validate=false", "-f", "-"], &all)
        .await
        .unwrap();
    applied.ok().unwrap_or_else(|error| panic!("{error}"));
    for (policy, reason, says) in policies {
        let (found, message) = readiness(&scene.policy_looked_at(name(policy)).await);
        assert_eq!(found, *reason, "{policy}: {message}");
        assert!(message.contains(says), "{reason}: {message}");
    }
    let under = |(policy, ..): &(Value, &str, &str)| scene.request_with(name(policy), json!({"policy": name(policy)}));
    let asked = scene
        .alice
        .kubectl_stdin(["apply", "-f", "-"], &list(policies.iter().map(under)))
        .await
        .unwrap();
    asked.ok().unwrap_or_else(|error| panic!("{error}"));
    for (policy, _, says) in policies {
        let looked_at = scene
            .request_that(name(policy), "a request that was looked at", |request| {
                accepted(request).is_some()
            })
            .await;
        let accepted = accepted(&looked_at).unwrap();
        assert_eq!(
            (
                accepted.status.as_str(),
                looked_at.status.as_ref().unwrap().offer.as_ref()
            ),
            ("False", None)
        );
        if !["NotARequester", "NamespaceNotInPolicy"].contains(&accepted.reason.as_str()) {
            assert_eq!(accepted.reason, "PolicyNotReady");
            assert!(
                accepted.message.contains(name(policy)) && accepted.message.contains(says),
                "{}",
                accepted.message
            );
        }
        refused(
            scene.decides(&scene.bob, name(policy), "approve").await,
            "there is no offer to decide on yet",
        );
    }
    scene.has_no_access().await;
}
