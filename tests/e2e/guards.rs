//! Guards that are away, changed or overtaken: nothing is granted by a word that could be anybody's, everybody is told why, and access goes on ending on time.

use curfew::api::{AccessRequest, DecisionEffect, EndReason, RequestPhase};
use curfew::core::retention;
use curfew_testbed::Operator;
use serde_json::{Value, json};

use crate::retention::request_is_gone;
use crate::scene::{Scene, creates, merges};
use crate::signs::{assert_on_time, not_ready, now};
use crate::tools::eventually;
use crate::world::{Case, cases};

const POLICY: &str = "validatingadmissionpolicy";
const BINDING: &str = "validatingadmissionpolicybinding";

pub fn cases() -> Vec<Case> {
    cases![
        InTurn []:
            case_22d_a_word_forged_while_a_guard_was_away_for_a_moment_does_not_count,
            case_22d_it_does_not_count_either_when_the_operator_saw_nothing_of_it,
            a_request_forged_while_a_guard_was_away_breaks_no_glass,
            case_22e_a_guard_that_exempts_one_person_stops_granting_to_everyone,
            case_23_without_a_guard_nothing_is_granted_and_access_ends_all_the_same,
            case_23_a_guard_that_only_audits_is_none,
            a_foreign_policy_that_may_change_requests_stops_granting_until_it_goes,
            without_the_rules_of_a_definition_nothing_is_granted,
            while_a_guard_is_away_nothing_is_removed_however_long_it_was_kept,
            a_word_outlives_a_restart_labels_on_guards_and_an_upgrade_that_leaves_them_as_they_are;
        Older []: where_the_api_server_has_no_stamping_policies_none_are_missed;
        OlderAlone [OperatorProcess, ComponentControl, AuditLog]:
            upgraded_to_a_version_with_stamping_policies_nothing_is_granted_until_the_chart_is_upgraded_too;
    ]
}

fn operator(scene: &Scene) -> &'static Operator {
    scene.world.installation.operator().unwrap()
}

/// Readiness, the metric and the brake's sentence all say that nothing is granted, and why.
async fn granting_stops(scene: &Scene, because: &[&str]) {
    eventually("readiness says why nothing is granted", async || {
        let why = not_ready(operator(scene)).await;
        because.iter().all(|word| why.contains(word))
    })
    .await;
    let metrics = operator(scene).get("/metrics").await.unwrap();
    let stopped = metrics
        .lines()
        .find(|line| line.starts_with("curfew_granting_stopped") && line.contains("guards"));
    assert!(stopped.is_some_and(|line| line.ends_with(" 1")), "{stopped:?}");
}

/// The request's message says all of this.
async fn is_told(scene: &Scene, name: &str, words: &[&str]) -> AccessRequest {
    let told = |request: &AccessRequest| {
        let message = request.status.as_ref().and_then(|status| status.message.clone());
        message.is_some_and(|message| words.iter().all(|word| message.contains(word)))
    };
    scene
        .request_that(name, &format!("a message with {words:?}"), told)
        .await
}

/// As admin, whatever it takes.
async fn admin(scene: &Scene, arguments: &[&str]) {
    let answer = scene
        .cluster()
        .admin()
        .kubectl(arguments.iter().copied())
        .await
        .unwrap();
    answer.ok().unwrap_or_else(|error| panic!("{error}"));
}

async fn patch(scene: &Scene, kind: &str, name: &str, patch: Value) {
    admin(scene, &["patch", kind, name, "--type=merge", "-p", &patch.to_string()]).await;
}

/// Mallory writes bob's approval of the offer that stood before, as soon as the API server lets her.
async fn is_forged(scene: &Scene, name: &str, word: &Value) {
    let requests = scene.of::<AccessRequest>(&scene.mallory);
    eventually("the API server takes a forged word", async || {
        let words = scene.decisions_and(name, std::slice::from_ref(word)).await;
        merges(&requests, name, json!({"spec": {"decisions": words}}))
            .await
            .is_ok()
    })
    .await;
}

fn digest(request: &AccessRequest) -> Option<String> {
    let offer = request.status.as_ref()?.offer.as_ref()?;
    Some(offer.digest.clone())
}

/// A new offer stands, the request says that it is one, and the forged word has no effect. Bob's own word then has.
async fn only_a_new_word_counts(scene: &Scene, name: &str, before: Option<String>) {
    let renewed = |request: &AccessRequest| digest(request).is_some_and(|now| Some(now) != before);
    let request = scene.request_that(name, "a new offer", renewed).await;
    let status = request.status.unwrap();
    let message = status.message.unwrap();
    assert!(message.contains("the offer is a new one"), "{message}");
    assert_eq!(status.phase, Some(RequestPhase::Pending));
    assert_eq!(status.decisions[0].effect, DecisionEffect::NoEffect);
    assert_eq!(status.open[0].missing, 1, "nobody has approved it");
    scene.has_no_access().await;
    operator(scene).wait_until_ready().await.unwrap();
    scene.said(&scene.bob, name, "approve").await;
    let grant = scene.active(name).await;
    assert_eq!(grant.spec.decisions.len(), 1);
    assert_eq!(grant.spec.decisions[0].offer, grant.spec.offer);
}

async fn case_22d_a_word_forged_while_a_guard_was_away_for_a_moment_does_not_count(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let request = scene.asked(&scene.request("look")).await;
    let word = scene.record(&scene.bob, "look", "approve", None).await;
    let guard = scene
        .world
        .guard("ValidatingAdmissionPolicyBinding", "curfew-decisions");
    admin(&scene, &["delete", BINDING, "curfew-decisions"]).await;
    is_forged(&scene, "look", &word).await;
    creates(scene.cluster().admin(), &guard).await.unwrap();
    only_a_new_word_counts(&scene, "look", digest(&request)).await;
}

async fn case_22d_it_does_not_count_either_when_the_operator_saw_nothing_of_it(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    for (name, way) in [("held-up", "paused"), ("away", "stopped")] {
        let request = scene.asked(&scene.request(name)).await;
        let word = scene.record(&scene.bob, name, "approve", None).await;
        let guard = scene
            .world
            .guard("ValidatingAdmissionPolicyBinding", "curfew-decisions");
        match way {
            "paused" => operator(&scene).pause().unwrap(),
            _ => operator(&scene).stop().await.unwrap(),
        }
        admin(&scene, &["delete", BINDING, "curfew-decisions"]).await;
        is_forged(&scene, name, &word).await;
        creates(scene.cluster().admin(), &guard).await.unwrap();
        match way {
            "paused" => operator(&scene).resume().unwrap(),
            _ => operator(&scene).spawn().unwrap(),
        }
        only_a_new_word_counts(&scene, name, digest(&request)).await;
        scene.said(&scene.alice, name, "revoke").await;
        scene.loses_access().await;
    }
}

/// Mallory asks in alice's name. Nobody would approve, and see that.
async fn a_request_forged_while_a_guard_was_away_breaks_no_glass(scene: Scene) {
    scene.has_glass_to_break().await;
    let mut forged = scene.emergency("forged");
    forged["spec"]["requester"] = scene.identity(&scene.alice).await;
    let guard = scene.world.guard("ValidatingAdmissionPolicyBinding", "curfew-requests");
    admin(&scene, &["delete", BINDING, "curfew-requests"]).await;
    eventually("the API server takes a forged request", async || {
        creates(&scene.mallory, &forged).await.is_ok()
    })
    .await;
    creates(scene.cluster().admin(), &guard).await.unwrap();
    let why = scene.request_blocked_by("forged", "NotAttested").await;
    assert!(why.contains("make a new request"), "{why}");
    operator(&scene).wait_until_ready().await.unwrap();
    scene.has_no_access().await;
    scene.asks(&scene.alice, &scene.emergency("now")).await.ok().unwrap();
    scene.active("now").await;
    scene.request_blocked_by("forged", "NotAttested").await;
    assert_eq!(scene.bindings().await.len(), 1, "of alice's own request");
}

async fn case_22e_a_guard_that_exempts_one_person_stops_granting_to_everyone(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let request = scene.asked(&scene.request("look")).await;
    let word = scene.record(&scene.bob, "look", "approve", None).await;
    let expression = format!("request.userInfo.username != '{}'", scene.mallory.name());
    let conditions = json!([{"name": "not-for-her", "expression": expression}]);
    patch(
        &scene,
        POLICY,
        "curfew-decisions",
        json!({"spec": {"matchConditions": conditions}}),
    )
    .await;
    let why = ["\"curfew-decisions\" is not as it is shipped", "spec.matchConditions"];
    granting_stops(&scene, &["nothing is granted", "curfew-decisions", why[1]]).await;
    is_told(&scene, "look", &why).await;
    is_forged(&scene, "look", &word).await;
    let status = scene.weighed("look").await.status.unwrap();
    assert_eq!(status.decisions[0].effect, DecisionEffect::NoEffect);
    assert_eq!(status.seal, None);
    scene.has_no_access().await;
    patch(
        &scene,
        POLICY,
        "curfew-decisions",
        json!({"spec": {"matchConditions": null}}),
    )
    .await;
    only_a_new_word_counts(&scene, "look", digest(&request)).await;
}

/// Two accesses of alice's: one ends at its deadline and the other is revoked, both while nothing is granted. A third was asked for and is forged.
async fn nothing_is_granted_and_access_ends(scene: Scene, because: &[&str], break_guard: impl AsyncFnOnce(&Scene)) {
    scene.has_policy(&scene.policy()).await;
    let request = scene.asked(&scene.request("look")).await;
    let word = scene.record(&scene.bob, "look", "approve", None).await;
    let revoked = scene.granted(&scene.request("revoked")).await;
    let brief = scene
        .granted(&scene.request_with("brief", json!({"duration": "8s"})))
        .await;
    break_guard(&scene).await;
    granting_stops(&scene, because).await;
    is_told(
        &scene,
        "look",
        &["nothing is offered or granted at present", "curfew-decisions"],
    )
    .await;
    is_forged(&scene, "look", &word).await;

    let end = scene.grant_ended(&brief).await.status.unwrap();
    assert_eq!(end.end.unwrap().reason, EndReason::Expired);
    scene.said(&scene.alice, "revoked", "revoke").await;
    let end = scene.grant_ended(&revoked).await.status.unwrap();
    assert_eq!(end.end.unwrap().reason, EndReason::Revoked);
    scene.has_no_access().await;
    assert!(
        not_ready(operator(&scene)).await.contains(because[0]),
        "it was back before the end"
    );
    assert_eq!(scene.request_now("look").await.status.unwrap().seal, None);

    scene.world.put_guards_back().await;
    only_a_new_word_counts(&scene, "look", digest(&request)).await;
}

async fn case_23_without_a_guard_nothing_is_granted_and_access_ends_all_the_same(scene: Scene) {
    let because = ["ValidatingAdmissionPolicy", "curfew-decisions", "is missing"];
    nothing_is_granted_and_access_ends(scene, &because, async |scene: &Scene| {
        admin(scene, &["delete", POLICY, "curfew-decisions"]).await;
    })
    .await;
}

async fn case_23_a_guard_that_only_audits_is_none(scene: Scene) {
    let because = [
        "ValidatingAdmissionPolicyBinding",
        "curfew-decisions",
        "spec.validationActions",
    ];
    nothing_is_granted_and_access_ends(scene, &because, async |scene: &Scene| {
        let audits = json!({"spec": {"validationActions": ["Audit"]}});
        patch(scene, BINDING, "curfew-decisions", audits).await;
    })
    .await;
}

async fn a_foreign_policy_that_may_change_requests_stops_granting_until_it_goes(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let request = scene.asked(&scene.request("look")).await;
    let metadata = json!({"name": "e2e-foreign", "labels": {"e2e": "foreign"}});
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": metadata,
        "spec": {
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["*"]}]},
            "matchConditions": [{"name": "never", "expression": "false"}],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'test', path: '/metadata/name', value: object.metadata.name}]"}}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": metadata,
        "spec": {"policyName": "e2e-foreign"},
    });
    let root = scene.cluster().admin();
    creates(root, &policy).await.unwrap();
    creates(root, &binding).await.unwrap();
    granting_stops(&scene, &["e2e-foreign", "accessrequests of curfew.dev"]).await;
    // Words are what they were, so the offer is too; it is only not carried out.
    scene.said(&scene.bob, "look", "approve").await;
    let waits = is_told(
        &scene,
        "look",
        &["approved; nothing is granted at present", "e2e-foreign"],
    )
    .await;
    assert_eq!(digest(&waits), digest(&request));
    scene.has_no_access().await;
    admin(&scene, &["delete", "mutatingadmissionpolicybinding", "e2e-foreign"]).await;
    scene.active("look").await;
    scene.has_access().await;
}

async fn without_the_rules_of_a_definition_nothing_is_granted(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let request = scene.asked(&scene.request("look")).await;
    let name = "accessrequests.curfew.dev";
    let mut definition = scene.world.guard("CustomResourceDefinition", name);
    let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let rules = spec.as_object_mut().unwrap().remove("x-kubernetes-validations");
    assert!(rules.is_some(), "there are rules to take away");
    let versions = json!({"spec": {"versions": definition["spec"]["versions"]}});
    patch(&scene, "customresourcedefinition", name, versions).await;
    granting_stops(&scene, &[name, "x-kubernetes-validations"]).await;
    let told = is_told(&scene, "look", &[name, "nothing is offered or granted at present"]).await;
    assert_eq!(digest(&told), None);
    scene.world.put_guards_back().await;
    let renewed = |now: &AccessRequest| digest(now).is_some_and(|now| Some(now) != digest(&request));
    scene.request_that("look", "a new offer", renewed).await;
    scene.said(&scene.bob, "look", "approve").await;
    scene.active("look").await;
}

/// By the time the second one was kept long enough, the first one would be gone.
async fn while_a_guard_is_away_nothing_is_removed_however_long_it_was_kept(scene: Scene) {
    let policy = scene.has_policy(&scene.policy_with(json!({"retention": "2s"}))).await;
    for name in ["first", "second"] {
        scene.asked(&scene.request(name)).await;
    }
    admin(&scene, &["delete", BINDING, "curfew-decisions"]).await;
    granting_stops(&scene, &["curfew-decisions", "is missing"]).await;
    for name in ["first", "second"] {
        scene.said(&scene.alice, name, "revoke").await;
        let over = scene.request_in(name, RequestPhase::Withdrawn).await;
        let kept_until = retention::of_request(&over, Some(&policy.spec), None).unwrap();
        eventually("it was kept long enough", async || kept_until <= now()).await;
    }
    scene.request_now("first").await;
    scene.world.put_guards_back().await;
    for name in ["first", "second"] {
        request_is_gone(&scene, name).await;
    }
}

async fn where_the_api_server_has_no_stamping_policies_none_are_missed(scene: Scene) {
    let served = [
        "api-resources",
        "--api-group=admissionregistration.k8s.io",
        "-o",
        "name",
    ];
    let served = scene.cluster().admin().kubectl(served).await.unwrap().ok().unwrap();
    assert!(!served.contains("mutatingadmissionpolicies"), "{served}");
    operator(&scene).wait_until_ready().await.unwrap();
    scene.has_policy(&scene.policy()).await;
    scene.granted(&scene.request("look")).await;
    scene.has_access().await;
}

async fn upgraded_to_a_version_with_stamping_policies_nothing_is_granted_until_the_chart_is_upgraded_too(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let request = scene.asked(&scene.request("look")).await;
    let brief = scene
        .granted(&scene.request_with("brief", json!({"duration": "40s"})))
        .await;
    scene.cluster().upgrade().await.unwrap();
    granting_stops(&scene, &["MutatingAdmissionPolicy", "is missing"]).await;
    scene.said(&scene.bob, "look", "approve").await;
    is_told(
        &scene,
        "look",
        &["nothing is granted at present", "MutatingAdmissionPolicy"],
    )
    .await;
    let end = scene.grant_ended(&brief).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Expired);
    assert_on_time(&scene, &brief);

    // The chart has other guards there, so that what was approved under the former is offered anew.
    upgrade_chart(&scene, &[]);
    only_a_new_word_counts(&scene, "look", digest(&request)).await;
}

/// `helm upgrade` to the chart as it is. Tests may have written guards by other means, and Helm would leave the fields to those.
fn upgrade_chart(scene: &Scene, more: &[&str]) {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/curfew");
    let namespace = scene.world.installation.namespace();
    let upgrade = [
        "upgrade",
        "curfew",
        chart,
        "--namespace",
        namespace,
        "--reuse-values",
        "--force-conflicts",
    ];
    let upgraded = scene.cluster().helm(upgrade.iter().chain(more)).output().unwrap();
    let said = String::from_utf8_lossy(&upgraded.stderr);
    assert!(upgraded.status.success(), "{said}");
}

async fn a_word_outlives_a_restart_labels_on_guards_and_an_upgrade_that_leaves_them_as_they_are(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let request = scene.asked(&scene.request("look")).await;
    operator(&scene).stop().await.unwrap();
    admin(
        &scene,
        &["label", POLICY, "curfew-decisions", "e2e=touched", "--overwrite"],
    )
    .await;
    admin(
        &scene,
        &["annotate", BINDING, "curfew-decisions", "e2e=touched", "--overwrite"],
    )
    .await;
    upgrade_chart(&scene, &["--set", "logLevel=debug"]);
    scene.said(&scene.bob, "look", "approve").await;
    operator(&scene).start().await.unwrap();
    let grant = scene.active("look").await;
    assert_eq!(Some(grant.spec.offer), digest(&request));
    let written = scene.request_now("look").await;
    assert_eq!(
        written.status.unwrap().timeline.unwrap().offered,
        request.status.unwrap().timeline.unwrap().offered
    );
}
