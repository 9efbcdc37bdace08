//! What the API server refuses the operator, by somebody's admission policy or by an outage: nothing is granted, and everything due is revoked.

use curfew::api::{AccessGrant, EndReason, RequestPhase, condition, time};
use curfew::core::grant::deadline;
use curfew_testbed::AuditEvent;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::anchor_overdue::until_a_minute_begins;
use crate::scene::Scene;
use crate::signs::{assert_on_time, binding_of, deletion_is_logged, metric_is, tries};
use crate::tools::{eventually, gone, watched};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Lent [AuditLog]:
            case_44_while_no_status_can_be_written_access_ends_on_time_and_nothing_is_granted;
        Lent [OperatorProcess, AuditLog]:
            case_45_a_binding_that_cant_be_deleted_is_tried_on_and_told_of_and_delays_no_other;
    ]
}

const OUTAGE: &str = "an outage";

async fn case_44_while_no_status_can_be_written_access_ends_on_time_and_nothing_is_granted(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("pending")).await;
    let brief = scene
        .granted(&scene.request_with("brief", json!({"duration": "25s"})))
        .await;
    let rule = json!({"apiGroups": ["curfew.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
        "resources": ["accessgrants/status", "accessrequests/status"]});
    refuses(&scene, rule, "true").await;
    let as_operator = scene.world.installation.operator_user().await.unwrap();
    let grants = Api::<AccessGrant>::all(as_operator.client().unwrap());
    eventually("no status can be written", async || {
        let answer = grants.replace_status(&brief.name_any(), &dry_run(), &brief).await;
        answer.is_err_and(|error| error.to_string().contains(OUTAGE))
    })
    .await;

    scene.said(&scene.bob, "pending", "approve").await;
    let binding = binding_of(&brief);
    gone(scene.role_bindings(), &binding, "the binding goes").await;
    deletion_is_logged(&scene, &brief).await;
    assert_on_time(&scene, &brief);
    eventually("a seal is refused", async || {
        let seals = tries(&scene, "update", "accessrequests");
        seals
            .iter()
            .any(|event| event.name == "pending" && event.subresource == "status" && event.code == 422)
    })
    .await;
    assert_eq!(scene.bindings().await, [], "neither kept nor granted");
    assert_eq!(scene.request_now("pending").await.status.unwrap().seal, None);

    lets_go(&scene).await;
    let ended = scene.grant_ended(&brief).await;
    assert_eq!(ended.status.unwrap().end.unwrap().reason, EndReason::Expired);
    scene.request_in("brief", RequestPhase::Expired).await;
    scene.active("pending").await;
}

async fn case_45_a_binding_that_cant_be_deleted_is_tried_on_and_told_of_and_delays_no_other(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let lasts = |seconds: i64| json!({"duration": format!("{seconds}s")});
    let seconds = until_a_minute_begins(25);
    let stuck = scene.granted(&scene.request_with("stuck", lasts(seconds))).await;
    let other = scene.granted(&scene.request_with("other", lasts(seconds + 5))).await;
    let binding = binding_of(&stuck);
    let operator = scene.world.installation.operator().unwrap();
    let rule = json!({"apiGroups": ["rbac.authorization.k8s.io"], "apiVersions": ["*"], "operations": ["DELETE"], "resources": ["rolebindings"]});
    refuses(&scene, rule, &format!("request.name == '{binding}'")).await;
    let as_operator = scene.world.installation.operator_user().await.unwrap();
    let bindings = Api::<RoleBinding>::namespaced(as_operator.client().unwrap(), &scene.namespace);
    let params = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    eventually("the binding can't be deleted", async || {
        let answer = bindings.delete(&binding, &params).await;
        answer.is_err_and(|error| error.to_string().contains(OUTAGE))
    })
    .await;

    let grant = watched(
        scene.grants(),
        &stuck.name_any(),
        "it is overdue",
        |grant: Option<&AccessGrant>| {
            let status = grant.and_then(|grant| grant.status.as_ref());
            status.is_some_and(|status| condition::is_true(&status.conditions, condition::OVERDUE))
        },
    )
    .await
    .unwrap();
    let conditions = grant.status.unwrap().conditions;
    let message = &condition::get(&conditions, condition::OVERDUE).unwrap().message;
    assert!(message.contains(OUTAGE), "{message}");
    metric_is(operator, "curfew_overdue_bindings", |number| number == 1.0).await;
    scene.grant_ended(&other).await;
    assert_on_time(&scene, &other);
    eventually("it is tried on", async || refused_deletes(&scene, &stuck).len() >= 14).await;
    assert!(scene.role_bindings().get_opt(&binding).await.unwrap().is_some());

    lets_go(&scene).await;
    let ended = scene.grant_ended(&stuck).await;
    assert_eq!(ended.status.unwrap().end.unwrap().reason, EndReason::Expired);
    scene.request_in("stuck", RequestPhase::Expired).await;
    scene.has_no_access().await;
    metric_is(operator, "curfew_overdue_bindings", |number| number == 0.0).await;
    // From one try to the next it waits longer: an outage isn't made worse.
    let at: Vec<_> = refused_deletes(&scene, &stuck)
        .iter()
        .map(|event| event.received)
        .collect();
    let (first, half, last) = (at[0], at[at.len() / 2], at[at.len() - 1]);
    assert!(half.duration_since(first) < last.duration_since(half), "{at:#?}");
}

// ---- what is refused -----------------------------------------------------------------------------------------------

/// The operator's writes that `rule` matches, and of which `condition` is true, are refused.
async fn refuses(scene: &Scene, rule: Value, condition: &str) {
    let operator = format!(
        "request.userInfo.username == 'system:serviceaccount:{}:curfew'",
        scene.world.installation.namespace()
    );
    let (admin, group) = (scene.cluster().admin(), "admissionregistration.k8s.io/v1");
    let policy = json!({
        "apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "outage"},
        "spec": {
            "failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
            "matchConditions": [{"name": "operator", "expression": operator}, {"name": "which", "expression": condition}],
            "validations": [{"expression": "false", "message": OUTAGE}],
        },
    });
    let binding = json!({
        "apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "outage"},
        "spec": {"policyName": "outage", "validationActions": ["Deny"]},
    });
    for object in [policy, binding] {
        scene.apply(admin, &object).await.ok().unwrap();
    }
}

async fn lets_go(scene: &Scene) {
    let kinds = "validatingadmissionpolicybindings/outage,validatingadmissionpolicies/outage";
    for name in kinds.split(',') {
        scene
            .kubectl(scene.cluster().admin(), &["delete", name])
            .await
            .ok()
            .unwrap();
    }
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

/// The tries to end a grant that were refused, from its deadline on.
fn refused_deletes(scene: &Scene, grant: &AccessGrant) -> Vec<AuditEvent> {
    let (binding, deadline) = (binding_of(grant), time::to_kubernetes(deadline(grant)).0);
    let mut deletes = tries(scene, "delete", "rolebindings");
    deletes.retain(|event| event.name == binding && event.code == 422 && event.received >= deadline);
    deletes
}
