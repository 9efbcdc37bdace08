//! Rights that were taken from the operator: what it can't do it says, and it does it when it may again.

use curfew::api::{AccessGrant, AccessRequest, EndReason, GrantPhase, RequestPhase, condition};
use curfew::core::grant::name as grant_name;
use curfew_testbed::User;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::anchor_overdue::{GRACE, until_the_minute_ends};
use crate::scene::{Scene, merges, readiness};
use crate::signs::{assert_on_time, binding_of, deletion_of, is_not_ready, metric, metric_is, tries};
use crate::tools::{eventually, eventually_within, watched};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Lent [OperatorProcess, AuditLog]:
            what_the_operator_may_not_delete_its_anchor_ends_or_it_when_it_may_again,
            begun_anew_without_a_right_it_says_what_it_misses_and_grants_nothing,
            what_is_approved_while_no_grant_may_be_made_says_so_and_is_granted_when_one_may_again,
            a_policy_says_when_its_role_may_no_longer_be_bound_and_when_it_may_again,
    ]
}

async fn what_the_operator_may_not_delete_its_anchor_ends_or_it_when_it_may_again(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let revoked = scene.granted(&scene.request("revoked")).await;
    let expires = scene
        .granted(&scene.request_with("expires", json!({"duration": until_the_minute_ends(25)})))
        .await;
    let operator = scene.world.installation.operator().unwrap();
    let rights = Rights::of(&scene).await;
    rights.lose("rolebindings.rbac.authorization.k8s.io", &["delete"]).await;

    let overdue = is_overdue(&scene, &expires).await;
    assert!(overdue.contains("is forbidden"), "{overdue}");
    let binding = binding_of(&expires);
    eventually_within(GRACE, "its anchor ends it", async || {
        scene.role_bindings().get_opt(&binding).await.unwrap().is_none()
    })
    .await;
    let by = deletion_of(&scene, &expires).user.username;
    assert!(by.ends_with("generic-garbage-collector"), "{by}");
    assert_ended(&scene, &expires, EndReason::Expired).await;
    metric_is(operator, "curfew_overdue_bindings", |number| number == 0.0).await;

    scene.said(&scene.alice, "revoked", "revoke").await;
    is_overdue(&scene, &revoked).await;
    // Said of this one, whose anchor has its time yet: the other's may come at any moment.
    metric_is(operator, "curfew_overdue_bindings", |number| number == 1.0).await;
    let forbidden = r#"curfew_reconcile_errors_total{controller="grant",kind="forbidden"}"#;
    assert!(metric(operator, forbidden).await.is_some_and(|times| times > 0.0));
    let request = scene.request_now("revoked").await.status.unwrap();
    assert_eq!(request.phase, Some(RequestPhase::Active));
    scene.has_access().await;
    rights.get_back().await;
    assert_ended(&scene, &revoked, EndReason::Revoked).await;
    scene.has_no_access().await;
    metric_is(operator, "curfew_overdue_bindings", |number| number == 0.0).await;
}

/// It misses the grants, then all else that it reads, then the guards.
async fn begun_anew_without_a_right_it_says_what_it_misses_and_grants_nothing(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let operator = scene.world.installation.operator().unwrap();
    let rights = Rights::of(&scene).await;
    let reading = &["get", "list", "watch"];

    let (short, pending) = asked_and_granted(&scene, "no-grants").await;
    operator.stop().await.unwrap();
    rights.lose("accessgrants.curfew.dev", reading).await;
    operator.spawn().unwrap();
    is_not_ready(operator, &["it has not seen yet all of AccessGrant"]).await;
    grants_nothing(&scene, &pending).await;
    let forbidden = r#"curfew_reconcile_errors_total{controller="sweep",kind="forbidden"}"#;
    metric_is(operator, forbidden, |times| times > 0.0).await;
    assert!(
        scene
            .role_bindings()
            .get_opt(&binding_of(&short))
            .await
            .unwrap()
            .is_some()
    );
    rights.get_back().await;
    granted_when_it_may_again(&scene, &pending).await;
    assert_ended(&scene, &short, EndReason::Expired).await;

    let (short, pending) = asked_and_granted(&scene, "nothing-else").await;
    operator.stop().await.unwrap();
    let others = [
        "accessrequests.curfew.dev",
        "accesspolicies.curfew.dev",
        "namespaces",
        "roles.rbac.authorization.k8s.io",
    ];
    for resource in others {
        rights.lose(resource, reading).await;
    }
    operator.spawn().unwrap();
    is_not_ready(operator, &["AccessPolicy, AccessRequest, Namespace, Role"]).await;
    grants_nothing(&scene, &pending).await;
    assert_ended(&scene, &short, EndReason::Expired).await;
    assert_on_time(&scene, &short);
    rights.get_back().await;
    granted_when_it_may_again(&scene, &pending).await;

    let (short, pending) = asked_and_granted(&scene, "no-guards").await;
    operator.stop().await.unwrap();
    rights
        .lose("validatingadmissionpolicies.admissionregistration.k8s.io", reading)
        .await;
    operator.spawn().unwrap();
    is_not_ready(operator, &["the guards that attest who speaks can't be watched"]).await;
    let stopped = r#"curfew_granting_stopped{by="guards"}"#;
    assert_eq!(metric(operator, stopped).await, Some(1.0));
    grants_nothing(&scene, &pending).await;
    assert_ended(&scene, &short, EndReason::Expired).await;
    assert_on_time(&scene, &short);
    rights.get_back().await;
    granted_when_it_may_again(&scene, &pending).await;
}

/// As when grantableRoles are changed, which starts no operator anew.
async fn a_policy_says_when_its_role_may_no_longer_be_bound_and_when_it_may_again(scene: Scene) {
    let role = json!({"kind": "ClusterRole", "name": "e2e-reader"});
    let policy = scene.has_policy(&scene.policy_with(json!({"roles": [role]}))).await;
    assert_eq!(readiness(&policy).0, "Ready");
    let rights = Rights::of(&scene).await;
    // For a moment the API server may answer as before, and the policy is looked at again only when a role is changed again, or much later.
    let says = async |reason: &str| {
        let mut times = 0;
        eventually("the policy says so", async || {
            times += 1;
            let touched = json!({"metadata": {"annotations": {"e2e.example/touched": times.to_string()}}});
            merges(&rights.roles, "curfew:operator", touched).await.unwrap();
            readiness(&scene.policies().get(&policy.name_any()).await.unwrap()).0 == reason
        })
        .await;
    };
    rights.lose("clusterroles.rbac.authorization.k8s.io", &["bind"]).await;
    says("RoleNotGrantable").await;
    rights.get_back().await;
    says("Ready").await;
}

async fn what_is_approved_while_no_grant_may_be_made_says_so_and_is_granted_when_one_may_again(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let rights = Rights::of(&scene).await;
    scene.asked(&scene.request("look")).await;
    rights.lose("accessgrants.curfew.dev", &["create"]).await;
    scene.said(&scene.bob, "look", "approve").await;
    let says = |request: &AccessRequest| {
        let conditions = request.status.clone().unwrap_or_default().conditions;
        let is_so = |kind: &str, status: &str, reason: &str| {
            let found = condition::get(&conditions, kind);
            found.is_some_and(|found| (found.status.as_str(), found.reason.as_str()) == (status, reason))
        };
        is_so(condition::APPROVED, "True", "Approved") && is_so(condition::GRANTED, "False", "GrantRefused")
    };
    let waiting = scene
        .request_that("look", "it says that its grant is refused", says)
        .await;
    let message = waiting.status.unwrap().message.unwrap();
    assert!(message.contains("accessgrants.curfew.dev is forbidden"), "{message}");
    rights.get_back().await;
    scene.active("look").await;
    scene.said(&scene.alice, "look", "revoke").await;
    scene.loses_access().await;
}

// ---- what happens then ---------------------------------------------------------------------------------------------

/// A short access that was granted, and another request that waits for its approval.
async fn asked_and_granted(scene: &Scene, name: &str) -> (AccessGrant, AccessRequest) {
    let pending = scene.asked(&scene.request(name)).await;
    let short = scene
        .granted(&scene.request_with(&format!("{name}-short"), json!({"duration": "20s"})))
        .await;
    (short, pending)
}

async fn grants_nothing(scene: &Scene, pending: &AccessRequest) {
    scene.said(&scene.bob, &pending.name_any(), "approve").await;
    let grant = grant_name(&pending.uid().unwrap());
    assert_eq!(scene.grants().get_opt(&grant).await.unwrap(), None);
}

async fn granted_when_it_may_again(scene: &Scene, pending: &AccessRequest) {
    scene
        .world
        .installation
        .operator()
        .unwrap()
        .wait_until_ready()
        .await
        .unwrap();
    scene.active(&pending.name_any()).await;
    let made = tries(scene, "create", "accessgrants");
    let of_it = made
        .iter()
        .filter(|event| event.name == grant_name(&pending.uid().unwrap()));
    assert_eq!(of_it.count(), 1, "it was not tried before");
    scene.said(&scene.alice, &pending.name_any(), "revoke").await;
    scene.loses_access().await;
}

/// Waits until the grant is Ending and says that it is overdue, and gives its message.
async fn is_overdue(scene: &Scene, grant: &AccessGrant) -> String {
    let overdue = |grant: &AccessGrant| {
        let status = grant.status.clone().unwrap_or_default();
        let condition = condition::get(&status.conditions, condition::OVERDUE).cloned();
        condition.filter(|overdue| {
            status.phase == Some(GrantPhase::Ending)
                && (overdue.status.as_str(), overdue.reason.as_str()) == ("True", "BindingNotDeleted")
        })
    };
    let seen = watched(
        scene.grants(),
        &grant.name_any(),
        "it is overdue",
        |grant: Option<&AccessGrant>| grant.and_then(overdue).is_some(),
    )
    .await;
    overdue(&seen.unwrap()).unwrap().message
}

async fn assert_ended(scene: &Scene, grant: &AccessGrant, reason: EndReason) {
    let end = scene.grant_ended(grant).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, reason, "{}", end.message);
}

// ---- rights --------------------------------------------------------------------------------------------------------

/// The operator's rights in the whole cluster.
struct Rights {
    roles: Api<ClusterRole>,
    shipped: Value,
    operator: User,
}

impl Rights {
    async fn of(scene: &Scene) -> Self {
        let roles = Api::<ClusterRole>::all(scene.cluster().admin().client().unwrap());
        Self {
            shipped: serde_json::to_value(roles.get("curfew:operator").await.unwrap().rules).unwrap(),
            operator: scene.world.installation.operator_user().await.unwrap(),
            roles,
        }
    }

    /// Not these verbs of `resource.group` any more.
    async fn lose(&self, resource: &str, verbs: &[&str]) {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let now = self.roles.get("curfew:operator").await.unwrap().rules.unwrap();
        let rules: Vec<Value> = now
            .iter()
            .flat_map(|rule| without(&json!(rule), plural, group, verbs))
            .collect();
        merges(&self.roles, "curfew:operator", json!({"rules": rules}))
            .await
            .unwrap();
        eventually(&format!("the operator lost {verbs:?} of {resource}"), async || {
            !self.operator.can(verbs[0], resource, None).await.unwrap()
        })
        .await;
    }

    async fn get_back(&self) {
        merges(&self.roles, "curfew:operator", json!({"rules": self.shipped}))
            .await
            .unwrap();
    }
}

/// What is left of a rule: one for its other resources as it was, and one for this with its other verbs.
fn without(rule: &Value, resource: &str, group: &str, verbs: &[&str]) -> Vec<Value> {
    let has = |key: &str, wanted: &str| rule[key].as_array().into_iter().flatten().any(|found| found == wanted);
    if !has("apiGroups", group) || !has("resources", resource) {
        return vec![rule.clone()];
    }
    let others = |key: &str, not: &[&str]| -> Vec<Value> {
        let all = rule[key].as_array().unwrap().iter();
        all.filter(|found| !not.contains(&found.as_str().unwrap()))
            .cloned()
            .collect()
    };
    let (mut rest, mut left) = (rule.clone(), rule.clone());
    rest["resources"] = json!(others("resources", &[resource]));
    (left["resources"], left["verbs"]) = (json!([resource]), json!(others("verbs", verbs)));
    let says_something = |rule: &Value| ["resources", "verbs"].iter().all(|key| rule[*key] != json!([]));
    [rest, left].into_iter().filter(says_something).collect()
}
