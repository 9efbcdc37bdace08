//! Where a policy gives access: in namespaces that it names and that are there, and never in those of Kubernetes or of Curfew.

use curfew::api::{EndReason, RequestPhase};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::scene::{Scene, creates, merges, name, readiness, refused};
use crate::tools::eventually;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            only_namespaces_that_the_policy_names_and_that_exist_are_offered,
            a_selector_lets_a_namespace_in_while_its_labels_match,
            nothing_is_granted_in_namespaces_of_kubernetes_or_of_curfew;
    ]
}

async fn only_namespaces_that_the_policy_names_and_that_exist_are_offered(scene: Scene) {
    let later = format!("later-{}", scene.id);
    let policy = scene.policy_with(json!({"namespaces": {"names": [scene.namespace, later]}}));
    scene.has_policy(&policy).await;
    creates(
        &scene.alice,
        &scene.request_with("unnamed", json!({"namespaces": ["default"]})),
    )
    .await
    .unwrap();
    scene.request_blocked_by("unnamed", "NoPolicyFits").await;
    creates(
        &scene.alice,
        &scene.request_with("outside", json!({"namespaces": ["default"], "policy": name(&policy)})),
    )
    .await
    .unwrap();
    let message = scene.request_blocked_by("outside", "NamespaceNotInPolicy").await;
    assert!(
        message.contains("its namespaces don't include \"default\""),
        "{message}"
    );

    creates(
        &scene.alice,
        &scene.request_with("later", json!({"namespaces": [later]})),
    )
    .await
    .unwrap();
    let message = scene.request_blocked_by("later", "NamespaceMissing").await;
    assert!(
        message.contains(&format!("the namespace {later:?} doesn't exist")),
        "{message}"
    );
    let admin = scene.cluster().admin();
    creates(admin, &namespace(&later, json!({}))).await.unwrap();
    let message = scene.request_blocked_by("later", "RoleMissing").await;
    assert!(message.contains(&format!("in namespace {later:?}")), "{message}");
    let mut role = scene.role(
        "reader",
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]),
    );
    role["metadata"]["namespace"] = json!(later);
    creates(admin, &role).await.unwrap();
    scene
        .request_that("later", "an offer", |request| {
            request.status.as_ref().is_some_and(|status| status.offer.is_some())
        })
        .await;
    scene.decides(&scene.bob, "later", "approve").await.unwrap();
    let grant = scene.active("later").await;
    assert!(scene.alice.can("list", "configmaps", Some(&later)).await.unwrap());
    scene.has_no_access().await;

    // Gone under way: the grant ends, and nothing of Curfew's is in the way of the namespace's end.
    let namespaces: Api<Namespace> = Api::all(admin.client().unwrap());
    namespaces.delete(&later, &DeleteParams::default()).await.unwrap();
    let end = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::TargetGone);
    let request = scene.request_in("later", RequestPhase::Revoked).await;
    assert_eq!(
        request.status.unwrap().message,
        Some(format!("the namespace {later:?} is gone or going"))
    );
    eventually("the namespace is gone", async || {
        namespaces.get_opt(&later).await.unwrap().is_none()
    })
    .await;
}

async fn a_selector_lets_a_namespace_in_while_its_labels_match(scene: Scene) {
    let selector = json!({"matchLabels": {"scene": scene.id}, "matchExpressions": [{"key": "access", "operator": "In", "values": ["jit", "open"]}]});
    let policy = scene.policy_with(json!({"namespaces": {"selector": selector}}));
    assert_eq!(readiness(&scene.has_policy(&policy).await).0, "Ready");
    let namespaces: Api<Namespace> = Api::all(scene.cluster().admin().client().unwrap());
    let label = async |value: Value| {
        merges(
            &namespaces,
            &scene.namespace,
            json!({"metadata": {"labels": {"access": value}}}),
        )
        .await
        .unwrap()
    };

    creates(
        &scene.alice,
        &scene.request_with("look", json!({"policy": name(&policy)})),
    )
    .await
    .unwrap();
    scene.request_blocked_by("look", "NamespaceNotInPolicy").await;
    for (matching, other) in [("jit", json!("closed")), ("open", Value::Null)] {
        label(json!(matching)).await;
        scene
            .request_that("look", "an offer", |request| {
                request.status.as_ref().is_some_and(|status| status.offer.is_some())
            })
            .await;
        label(other).await;
        scene.request_blocked_by("look", "NamespaceNotInPolicy").await;
        refused(
            scene.decides(&scene.bob, "look", "approve").await,
            "there is no offer to decide on yet",
        );
    }
    scene.has_no_access().await;
    label(json!("jit")).await;
    scene
        .request_that("look", "an offer", |request| {
            request.status.as_ref().is_some_and(|status| status.offer.is_some())
        })
        .await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    scene.active("look").await;
    scene.has_access().await;
}

async fn nothing_is_granted_in_namespaces_of_kubernetes_or_of_curfew(scene: Scene) {
    let protected = ["kube-system", "kube-public", scene.world.installation.namespace()];
    let role = json!({"kind": "ClusterRole", "name": "e2e-reader"});
    scene
        .has_policy(&scene.policy_with(json!({"namespaces": {"names": protected}})))
        .await;
    for target in protected {
        creates(
            &scene.alice,
            &scene.request_with(target, json!({"namespaces": [target], "role": role})),
        )
        .await
        .unwrap();
        let message = scene.request_blocked_by(target, "ProtectedNamespace").await;
        assert!(
            message.contains(&format!("never granted in namespace {target:?}")),
            "{message}"
        );
        refused(
            scene.decides(&scene.bob, target, "approve").await,
            "there is no offer to decide on yet",
        );
        assert!(!scene.alice.can("list", "configmaps", Some(target)).await.unwrap());
    }
}

// ---- helpers ----

fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}
