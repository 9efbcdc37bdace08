//! Guards that stand as they were shipped and aren't in force, and one that goes when everything was decided already.

use curfew::api::{AccessRequest, EndReason, RequestPhase, condition};
use curfew_testbed::Component;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::scene::{Scene, creates, would_create};
use crate::signs::{assert_on_time, is_not_ready, metric, metric_is};
use crate::tools::{eventually, watched};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        InTurn [OperatorProcess, AuditLog]:
            a_guard_that_goes_between_the_seal_and_the_binding_holds_the_binding_back;
        Alone [OperatorProcess, ComponentControl, AuditLog]:
            a_guard_that_stands_as_shipped_and_lets_through_stops_granting,
    ]
}

const STOPPED: &str = r#"curfew_granting_stopped{by="guards"}"#;

/// An API server that begins anew without the plugin by which policies are heeded: they are stored as ever. An operator that was there before tries them out
/// again, and one that begins then tries them out first.
async fn a_guard_that_stands_as_shipped_and_lets_through_stops_granting(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("pending")).await;
    let grant = scene
        .granted(&scene.request_with("short", json!({"duration": "35s"})))
        .await;
    let (cluster, operator) = (scene.cluster(), scene.world.installation.operator().unwrap());
    let without = ["--disable-admission-plugins=ValidatingAdmissionPolicy"];
    cluster.stop_component(Component::ApiServer).unwrap();
    cluster
        .start_component_with(Component::ApiServer, &without)
        .await
        .unwrap();
    let says_so = ["\"curfew-requests\" is not in force: it let", "helm upgrade"];
    is_not_ready(operator, &says_so).await;
    assert_eq!(metric(operator, STOPPED).await, Some(1.0));
    operator.stop().await.unwrap();
    operator.spawn().unwrap();
    is_not_ready(operator, &says_so).await;
    assert_eq!(metric(operator, STOPPED).await, Some(1.0));
    scene.said(&scene.bob, "pending", "approve").await;
    let says = |request: &AccessRequest| granted(request).as_deref() == Some("GuardNotInForce");
    scene.request_that("pending", "it says why it waits", says).await;

    let end = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Expired);
    assert_on_time(&scene, &grant);
    scene.has_no_access().await;
    cluster.stop_component(Component::ApiServer).unwrap();
    cluster.start_component(Component::ApiServer).await.unwrap();
    scene.active("pending").await;
}

/// Somebody's policy refuses the binding in a way that may pass, so the seal is written and the binding is still to come.
async fn a_guard_that_goes_between_the_seal_and_the_binding_holds_the_binding_back(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    let (operator, admin) = (scene.world.installation.operator().unwrap(), scene.cluster().admin());
    for object in too_large(&scene) {
        creates(admin, &object).await.unwrap();
    }
    eventually("no binding can be made here", async || {
        let probe = scene.binding("probe", ("Role", "reader"), json!({"kind": "User", "name": "x"}));
        would_create(admin, &probe)
            .await
            .is_err_and(|refusal| refusal.contains("too large"))
    })
    .await;
    scene.said(&scene.bob, "look", "approve").await;
    scene.request_in("look", RequestPhase::Approved).await;
    let refused = r#"curfew_reconcile_errors_total{controller="grant",kind="refused"}"#;
    metric_is(operator, refused, |times| times > 0.0).await;

    scene.world.remove_guard("curfew-reserved").await;
    is_not_ready(operator, &["curfew-reserved", "is missing"]).await;
    assert_eq!(metric(operator, STOPPED).await, Some(1.0));
    scene
        .kubectl(admin, &["delete", "validatingadmissionpolicybinding", "too-large"])
        .await
        .ok()
        .unwrap();
    let probe = scene.binding("probe", ("Role", "reader"), json!({"kind": "User", "name": "x"}));
    eventually("bindings can be made here again", async || {
        would_create(admin, &probe).await.is_ok()
    })
    .await;
    // A binding is tried every second, and the Lease is renewed every five.
    for _ in 0..2 {
        the_lease_is_renewed(&scene).await;
    }
    let waiting = scene.request_now("look").await.status.unwrap();
    assert_eq!(waiting.phase, Some(RequestPhase::Approved));
    scene.has_no_access().await;

    scene.world.put_guards_back().await;
    scene.active("look").await;
    scene.has_access().await;
    let made = scene.operator_writes().into_iter();
    let made = made.filter(|event| event.verb == "create" && event.resource == "rolebindings" && event.code == 201);
    assert_eq!(made.count(), 1);
}

async fn the_lease_is_renewed(scene: &Scene) {
    let leases = scene.at_home::<Lease>();
    let before = leases.get("curfew").await.unwrap().resource_version();
    let renewed = |lease: Option<&Lease>| lease.is_some_and(|lease| lease.resource_version() != before);
    watched(leases, "curfew", "it is renewed", renewed).await;
}

/// No RoleBinding can be made in the scene's namespace: 413, as an API server says it of what is too large.
fn too_large(scene: &Scene) -> [Value; 2] {
    let group = "admissionregistration.k8s.io/v1";
    let (metadata, here) = (
        json!({"name": "too-large"}),
        json!({"kubernetes.io/metadata.name": scene.namespace}),
    );
    let rule = json!({"apiGroups": ["rbac.authorization.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["rolebindings"]});
    [
        json!({
            "apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": metadata,
            "spec": {
                "matchConstraints": {"resourceRules": [rule], "namespaceSelector": {"matchLabels": here}},
                "validations": [{"expression": "false", "message": "too large", "reason": "RequestEntityTooLarge"}],
            },
        }),
        json!({
            "apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata,
            "spec": {"policyName": "too-large", "validationActions": ["Deny"]},
        }),
    ]
}

/// The reason of the Granted condition.
fn granted(request: &AccessRequest) -> Option<String> {
    let conditions = &request.status.as_ref()?.conditions;
    Some(condition::get(conditions, condition::GRANTED)?.reason.clone())
}
