//! Curfew's names and labels are reserved: nobody else makes, changes or holds what bears them; to delete it at once is RBAC's matter alone, and in nothing's way.

use curfew::api::{EndReason, RequestPhase};
use curfew_testbed::User;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::scene::{Scene, creates, merges, person, refused, would_create};
use crate::stolen_token::its_binding;
use crate::tools::{eventually, gone};
use crate::world::{Case, cases};

const RESERVED: &str = "are reserved for Curfew: choose another name";

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            reserved_names_and_labels_are_refused_to_everyone_else,
            deleting_a_reserved_binding_is_allowed_and_ends_access,
            kubectl_create_rolebinding_is_told_what_to_do,
            case_58a_nobody_holds_a_managed_binding_by_a_finalizer_or_a_second_owner,
            an_active_grant_doesnt_wedge_the_deletion_of_its_namespace,
            a_grant_deleted_in_the_foreground_ends,
            a_grant_deleted_with_orphans_ends_all_the_same;
        Older []:
            reserved_names_and_labels_are_refused_to_everyone_else,
            case_58a_nobody_holds_a_managed_binding_by_a_finalizer_or_a_second_owner,
            a_grant_deleted_in_the_foreground_ends;
    ]
}

/// Somebody who may do anything with the bindings of this scene's namespace, and bind what is grantable in it.
async fn warden(scene: &Scene) -> User {
    let name = format!("warden-{}", scene.id);
    let warden = scene.cluster().user(&name).build().await.unwrap();
    let admin = scene.cluster().admin();
    let rules =
        json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings", "roles"], "verbs": ["*"]}]);
    creates(admin, &scene.role("warden", rules)).await.unwrap();
    creates(admin, &scene.binding("wardens", ("Role", "warden"), person(&name)))
        .await
        .unwrap();
    let bindings = "rolebindings.rbac.authorization.k8s.io";
    eventually("the right is there", async || {
        warden.can("update", bindings, Some(&scene.namespace)).await.unwrap()
    })
    .await;
    warden
}

async fn reserved_names_and_labels_are_refused_to_everyone_else(scene: Scene) {
    let (warden, admin) = (warden(&scene).await, scene.cluster().admin());
    let named = scene.binding("curfew-x", ("Role", "reader"), person("x"));
    let mut labelled = scene.binding("x", ("Role", "reader"), person("x"));
    labelled["metadata"]["labels"] = json!({"curfew.dev/grant-uid": "x"});
    let plain = scene.binding("plain", ("Role", "reader"), person("x"));
    creates(&warden, &plain).await.unwrap();
    for user in [&warden, admin] {
        refused(creates(user, &named).await, RESERVED);
        refused(creates(user, &labelled).await, RESERVED);
        refused(creates(user, &its_binding(&scene)).await, RESERVED);
        for value in ["x", ""] {
            let label = json!({"metadata": {"labels": {"curfew.dev/grant-uid": value}}});
            refused(merges(&scene.of::<RoleBinding>(user), "plain", label).await, RESERVED);
        }
    }
    for (name, labels) in [
        ("curfew-x".to_owned(), json!({})),
        (format!("x-{}", scene.id), json!({"curfew.dev/grant-uid": "x"})),
    ] {
        let everywhere = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name, "labels": labels},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "e2e-reader"}, "subjects": [person("x")],
        });
        refused(creates(admin, &everywhere).await, RESERVED);
    }
    // Names that only look like it are free.
    for name in ["curfew", "my-curfew-x", "xcurfew-"] {
        would_create(
            &warden,
            &scene.binding(&name.replace("xcurfew-", "xcurfew-x"), ("Role", "reader"), person("x")),
        )
        .await
        .unwrap();
    }
}

async fn deleting_a_reserved_binding_is_allowed_and_ends_access(scene: Scene) {
    let warden = warden(&scene).await;
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    let binding = scene.bindings().await.remove(0).name_any();
    scene
        .of::<RoleBinding>(&warden)
        .delete(&binding, &DeleteParams::default())
        .await
        .unwrap();
    let ended = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    assert_eq!(ended.reason, EndReason::Drifted);
    scene.has_no_access().await;
}

async fn kubectl_create_rolebinding_is_told_what_to_do(scene: Scene) {
    let arguments = [
        "create",
        "rolebinding",
        "curfew-requesters",
        "--clusterrole=curfew-requester",
        "--group=dev",
    ];
    let refusal = scene
        .kubectl(scene.cluster().admin(), &arguments)
        .await
        .refused()
        .unwrap();
    assert!(refusal.contains("choose another name, without the label"), "{refusal}");
    let arguments = [
        "create",
        "rolebinding",
        "requesters-of-curfew",
        "--clusterrole=curfew-requester",
        "--group=dev",
    ];
    scene.kubectl(scene.cluster().admin(), &arguments).await.ok().unwrap();
}

async fn case_58a_nobody_holds_a_managed_binding_by_a_finalizer_or_a_second_owner(scene: Scene) {
    let warden = warden(&scene).await;
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    let binding = scene.bindings().await.remove(0);
    let own = serde_json::to_value(&binding.metadata.owner_references.as_ref().unwrap()[0]).unwrap();
    let namespaces = Api::<Namespace>::all(scene.cluster().admin().client().unwrap());
    let uid = namespaces.get(&scene.namespace).await.unwrap().metadata.uid;
    let second = json!({"apiVersion": "v1", "kind": "Namespace", "name": scene.namespace, "uid": uid});
    let changes = [
        json!({"metadata": {"finalizers": ["e2e.example/held"]}}),
        json!({"metadata": {"ownerReferences": [own, second]}}),
        json!({"metadata": {"ownerReferences": [second]}}),
        json!({"metadata": {"ownerReferences": null}}),
        json!({"metadata": {"labels": {"curfew.dev/grant-uid": null}}}),
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"annotations": {"curfew.dev/deadline": "2099-01-01T00:00:00Z"}}}),
        json!({"subjects": [person(scene.alice.name()), person(scene.mallory.name())]}),
    ];
    for user in [&warden, scene.cluster().admin()] {
        for change in &changes {
            refused(
                merges(&scene.of::<RoleBinding>(user), &binding.name_any(), change.clone()).await,
                RESERVED,
            );
        }
    }
    assert_eq!(scene.bindings().await, [binding]);
    scene.decides(&scene.bob, "look", "revoke").await.unwrap();
    scene.grant_ended(&grant).await;
    scene.has_no_access().await;
}

// ---- deletion isn't in the way of anything ----

async fn an_active_grant_doesnt_wedge_the_deletion_of_its_namespace(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    let namespaces = scene.deletes_its_namespace().await;
    gone(namespaces, &scene.namespace, "the namespace is gone").await;
    // The evidence isn't in the namespace.
    assert_eq!(scene.grant_ended(&grant).await.spec, grant.spec);
    scene.has_no_access().await;
}

async fn a_grant_deleted_in_the_foreground_ends(scene: Scene) {
    deleted_grant_ends(scene, DeleteParams::foreground()).await;
}

async fn a_grant_deleted_with_orphans_ends_all_the_same(scene: Scene) {
    deleted_grant_ends(scene, DeleteParams::orphan()).await;
}

async fn deleted_grant_ends(scene: Scene, how: DeleteParams) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    scene.grants().delete(&grant.name_any(), &how).await.unwrap();
    gone(scene.grants(), &grant.name_any(), "the grant is gone").await;
    scene.loses_access().await;
    scene.request_in("look", RequestPhase::Revoked).await;
}
