//! One request for several namespaces: all of them or none, and the end in all of them together.

use curfew::api::{AccessGrant, AccessRequest, EndReason, RequestPhase};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::scene::{Scene, creates, person, would_create};
use crate::tools::eventually;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            case_65_several_namespaces_are_given_together_and_end_together,
            case_48_a_namespace_that_is_missing_holds_up_the_others_until_it_is_there,
            case_48_where_one_namespace_refuses_the_binding_no_other_keeps_it,
            what_happens_to_the_access_in_one_namespace_ends_it_in_all,
            a_role_of_one_namespace_is_not_asked_for_in_several,
            all_that_a_policy_selects_are_fixed_with_the_first_offer;
    ]
}

impl Scene {
    /// Another namespace of this scene.
    fn second(&self) -> String {
        format!("{}-b", self.namespace)
    }

    async fn has_second(&self) {
        let labels = json!({"scene": self.second()});
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.second(), "labels": labels}});
        creates(self.cluster().admin(), &namespace).await.unwrap();
    }

    /// A policy for both namespaces.
    async fn has_policy_for_both(&self) {
        let namespaces = json!({"namespaces": {"names": [self.namespace, self.second()]}});
        self.has_policy(&self.policy_with(namespaces)).await;
    }

    /// A request for `e2e-reader` in both namespaces.
    fn request_for_both(&self, name: &str) -> Value {
        let role = json!({"kind": "ClusterRole", "name": "e2e-reader"});
        self.request_with(
            name,
            json!({"role": role, "namespaces": [self.namespace, self.second()]}),
        )
    }

    async fn alice_may_in(&self, namespace: &str) -> bool {
        let answer = self
            .alice
            .kubectl(["get", "configmaps", "--namespace", namespace])
            .await;
        answer.unwrap().succeeded()
    }

    /// In which of the two namespaces there is a binding of Curfew's.
    async fn bound(&self) -> Vec<String> {
        let all = Api::<RoleBinding>::all(self.cluster().admin().client().unwrap())
            .list(&ListParams::default())
            .await
            .unwrap();
        let ours = all
            .items
            .into_iter()
            .filter(|binding| binding.name_any().starts_with("curfew-"));
        let here = ours.filter_map(|binding| binding.namespace());
        let mut here: Vec<_> = here
            .filter(|namespace| [&self.namespace, &self.second()].contains(&namespace))
            .collect();
        here.sort_unstable();
        here
    }

    async fn has_none(&self) {
        eventually("no binding is left in either namespace", async || {
            self.bound().await.is_empty()
        })
        .await;
        assert!(!self.alice_may_in(&self.namespace).await);
        assert!(!self.alice_may_in(&self.second()).await);
    }
}

async fn granted_in_both(scene: &Scene, request: &Value) -> AccessGrant {
    let grant = scene.granted(request).await;
    assert_eq!(scene.bound().await, [scene.namespace.clone(), scene.second()]);
    for namespace in [&scene.namespace, &scene.second()] {
        assert!(scene.alice_may_in(namespace).await, "{namespace}");
    }
    grant
}

fn message(request: &AccessRequest) -> String {
    request
        .status
        .as_ref()
        .and_then(|status| status.message.clone())
        .unwrap_or_default()
}

async fn case_65_several_namespaces_are_given_together_and_end_together(scene: Scene) {
    scene.has_second().await;
    scene.has_policy_for_both().await;
    let mut request = scene.request_for_both("both");
    request["spec"]["duration"] = json!("20s");
    let grant = granted_in_both(&scene, &request).await;
    let status = grant.status.as_ref().unwrap();
    assert_eq!(status.bindings.len(), 2);
    let ended = scene.grant_ended(&grant).await;
    assert_eq!(ended.status.unwrap().end.unwrap().reason, EndReason::Expired);
    scene.has_none().await;
    scene.request_in("both", RequestPhase::Expired).await;
}

async fn case_48_a_namespace_that_is_missing_holds_up_the_others_until_it_is_there(scene: Scene) {
    scene.has_policy_for_both().await;
    scene
        .asks(&scene.alice, &scene.request_for_both("both"))
        .await
        .ok()
        .unwrap();
    let why = scene.request_blocked_by("both", "NamespaceMissing").await;
    assert!(why.contains(&format!("{:?} doesn't exist", scene.second())), "{why}");
    scene
        .refused(&scene.bob, "both", "approve", "there is no offer to decide on yet")
        .await;
    assert_eq!(scene.bound().await, [""; 0]);
    scene.has_second().await;
    scene
        .request_that("both", "an offer", |request| {
            request.status.as_ref().is_some_and(|status| status.offer.is_some())
        })
        .await;
    scene.said(&scene.bob, "both", "approve").await;
    scene.active("both").await;
    assert_eq!(scene.bound().await, [scene.namespace.clone(), scene.second()]);
}

async fn case_48_where_one_namespace_refuses_the_binding_no_other_keeps_it(scene: Scene) {
    scene.has_second().await;
    scene.has_policy_for_both().await;
    let name = format!("no-bindings-{}", scene.id);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"scene": scene.second()}},
                "resourceRules": [{"apiGroups": ["rbac.authorization.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["rolebindings"]}],
            },
            "validations": [{"expression": "false", "message": "no bindings here", "reason": "Forbidden"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    creates(scene.cluster().admin(), &policy).await.unwrap();
    creates(scene.cluster().admin(), &binding).await.unwrap();
    let mut tried = scene.binding("tried", ("ClusterRole", "e2e-reader"), person("x"));
    tried["metadata"]["namespace"] = json!(scene.second());
    eventually("no binding may be made there", async || {
        would_create(scene.cluster().admin(), &tried).await.is_err()
    })
    .await;

    scene.asked(&scene.request_for_both("both")).await;
    scene.said(&scene.bob, "both", "approve").await;
    let failed = scene.request_in("both", RequestPhase::Failed).await;
    let why = message(&failed);
    assert!(
        why.contains(&scene.second()) && why.contains("an admission policy"),
        "{why}"
    );
    scene.has_none().await;
    let grant = scene
        .grants()
        .get(&failed.status.unwrap().grant.unwrap())
        .await
        .unwrap();
    assert_eq!(
        scene.grant_ended(&grant).await.status.unwrap().end.unwrap().reason,
        EndReason::BindFailed
    );
}

async fn what_happens_to_the_access_in_one_namespace_ends_it_in_all(scene: Scene) {
    scene.has_second().await;
    scene.has_policy_for_both().await;
    let grant = granted_in_both(&scene, &scene.request_for_both("drifted")).await;
    let there = Api::<RoleBinding>::namespaced(scene.cluster().admin().client().unwrap(), &scene.second());
    let binding = &grant.status.as_ref().unwrap().bindings[1];
    there.delete(&binding.name, &DeleteParams::default()).await.unwrap();
    let ended = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    assert_eq!(ended.reason, EndReason::Drifted);
    scene.has_none().await;

    let grant = granted_in_both(&scene, &scene.request_for_both("gone")).await;
    let namespaces = Api::<Namespace>::all(scene.cluster().admin().client().unwrap());
    namespaces
        .delete(&scene.second(), &DeleteParams::default())
        .await
        .unwrap();
    scene.grant_ended(&grant).await;
    scene.has_none().await;
}

async fn a_role_of_one_namespace_is_not_asked_for_in_several(scene: Scene) {
    scene.has_second().await;
    scene.has_policy_for_both().await;
    let both = json!([scene.namespace, scene.second()]);
    let request = scene.request_with("role", json!({"namespaces": both}));
    scene.asks(&scene.alice, &request).await.ok().unwrap();
    let why = scene.request_blocked_by("role", "RoleOfOneNamespace").await;
    assert!(why.contains("make a new request for a ClusterRole"), "{why}");
    let twice = scene.request_with("twice", json!({"namespaces": [scene.namespace, scene.namespace]}));
    let refusal = scene.asks(&scene.alice, &twice).await.refused().unwrap();
    assert!(refusal.contains("each namespace is named once"), "{refusal}");
}

async fn all_that_a_policy_selects_are_fixed_with_the_first_offer(scene: Scene) {
    let marked = format!("of-{}", scene.id);
    let third = format!("{}-c", scene.namespace);
    let labelled = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"e2e": marked}}});
    let admin = scene.cluster().admin();
    let policy = scene.policy_with(json!({"namespaces": {"selector": {"matchLabels": {"e2e": marked}}}}));
    scene.has_policy(&policy).await;
    let fields = json!({
        "role": {"kind": "ClusterRole", "name": "e2e-reader"}, "namespacesFromPolicy": true, "policy": policy["metadata"]["name"],
    });
    scene
        .asks(&scene.alice, &scene.request_with("all", fields.clone()))
        .await
        .ok()
        .unwrap();
    let message = scene.request_blocked_by("all", "NamespaceMissing").await;
    assert!(message.contains("no namespace that it lets in"), "{message}");

    let label = format!("e2e={marked}");
    let first = ["label", "namespace", &scene.namespace, &label];
    creates(admin, &labelled(&scene.second())).await.unwrap();
    scene.kubectl(admin, &first).await.ok().unwrap();
    scene.asked(&scene.request_with("both", fields)).await;
    creates(admin, &labelled(&third)).await.unwrap();
    scene.said(&scene.bob, "both", "approve").await;
    scene.active("both").await;
    assert_eq!(scene.bound().await, [scene.namespace.clone(), scene.second()]);
    let targets = scene.request_now("both").await.status.unwrap().targets;
    let names: Vec<_> = targets.iter().map(|target| target.namespace.as_str()).collect();
    assert_eq!(names, [scene.namespace.as_str(), &scene.second()]);
    scene.said(&scene.alice, "both", "revoke").await;
    scene.has_none().await;
}
