//! Access in the whole cluster: only where chart, policy and request all say so, and ended as strictly as any other.

use curfew::api::{AccessGrant, EndReason, RequestPhase};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::scene::{Scene, creates, merge, readiness};
use crate::tools::eventually;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            access_in_the_whole_cluster_holds_in_every_namespace_until_it_ends,
            what_the_policy_doesnt_give_in_the_whole_cluster_isnt_given,
            in_the_whole_cluster_roles_plant_access_that_dont_in_a_namespace,
            a_cluster_role_binding_that_somebody_deletes_ends_its_grant,
            a_cluster_role_binding_that_no_grant_explains_is_swept;
        Older []: where_the_chart_doesnt_say_so_nothing_is_given_in_the_whole_cluster;
    ]
}

impl Scene {
    /// A policy under which alice may have `e2e-reader` in the whole cluster, and nothing in a namespace.
    pub fn wide_policy(&self) -> Value {
        let reader = json!([{"kind": "ClusterRole", "name": "e2e-reader"}]);
        self.policy_with(json!({"clusterWide": true, "namespaces": null, "roles": reader}))
    }

    /// A request for the whole cluster, with these fields besides.
    pub fn wide_request(&self, name: &str, fields: Value) -> Value {
        let mut request = self.request_with(
            name,
            json!({"clusterWide": true, "role": {"kind": "ClusterRole", "name": "e2e-reader"}}),
        );
        merge(&mut request["spec"], fields);
        request
    }

    /// The ClusterRoleBindings that this scene's requests led to.
    pub async fn wide_bindings(&self) -> Vec<ClusterRoleBinding> {
        let all = Api::<ClusterRoleBinding>::all(self.cluster().admin().client().unwrap());
        let ours = format!("{}/", self.namespace);
        let is_ours = |binding: &ClusterRoleBinding| {
            let request = binding.annotations().get("curfew.dev/request");
            request.is_some_and(|request| request.starts_with(&ours))
        };
        let found = all.list(&ListParams::default()).await.unwrap().items;
        found.into_iter().filter(is_ours).collect()
    }

    async fn alice_may_everywhere(&self) -> bool {
        self.alice.can("list", "configmaps", Some("kube-public")).await.unwrap()
    }

    async fn widely_granted(&self, name: &str) -> AccessGrant {
        self.granted(&self.wide_request(name, json!({}))).await
    }

    async fn has_nothing_everywhere(&self) {
        eventually("nothing is left in the whole cluster", async || {
            !self.alice_may_everywhere().await && self.wide_bindings().await.is_empty()
        })
        .await;
    }
}

async fn access_in_the_whole_cluster_holds_in_every_namespace_until_it_ends(scene: Scene) {
    scene.has_policy(&scene.wide_policy()).await;
    let grant = scene.widely_granted("wide").await;
    assert!(grant.spec.cluster_wide && grant.spec.targets.is_empty());
    let [binding] = scene.wide_bindings().await.try_into().unwrap();
    let recorded = &grant.status.as_ref().unwrap().bindings[0];
    assert_eq!((&recorded.namespace, &recorded.uid), (&None, &binding.uid().unwrap()));
    let owner = &binding.metadata.owner_references.as_ref().unwrap()[0];
    let anchor = grant.spec.anchor.as_ref().unwrap();
    assert_eq!((owner.kind.as_str(), &owner.uid), ("IPAddress", &anchor.address_uid));
    assert!(scene.bindings().await.is_empty(), "no RoleBinding");
    eventually("alice may everywhere", async || scene.alice_may_everywhere().await).await;
    assert!(!scene.alice.can("delete", "configmaps", None).await.unwrap());

    let longer = json!({"extends": grant.name_any(), "duration": "3s"});
    let extended = scene.granted(&scene.wide_request("longer", longer)).await;
    assert_eq!(
        scene.grant_ended(&grant).await.status.unwrap().end.unwrap().reason,
        EndReason::Extended
    );
    scene.grant_ended(&extended).await;
    scene.request_in("longer", RequestPhase::Expired).await;
    scene.has_nothing_everywhere().await;
    let again = scene.widely_granted("again").await;
    scene.said(&scene.bob, "again", "revoke").await;
    assert_eq!(
        scene.grant_ended(&again).await.status.unwrap().end.unwrap().reason,
        EndReason::Revoked
    );
    scene.has_nothing_everywhere().await;
}

async fn what_the_policy_doesnt_give_in_the_whole_cluster_isnt_given(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let named = |name: &str, fields: Value| {
        let mut request = scene.wide_request(name, fields);
        request["spec"]["policy"] = json!(format!("policy-{}", scene.id));
        request
    };
    scene.asks(&scene.alice, &named("wide", json!({}))).await.ok().unwrap();
    scene.request_blocked_by("wide", "ClusterWideNotInPolicy").await;
    let of_one_namespace = json!({"role": {"kind": "Role", "name": "reader"}});
    scene
        .asks(&scene.alice, &named("role", of_one_namespace))
        .await
        .ok()
        .unwrap();
    scene.request_blocked_by("role", "RoleOfOneNamespace").await;
    let both = named("both", json!({"namespaces": [scene.namespace]}));
    let refusal = scene.asks(&scene.alice, &both).await.refused().unwrap();
    assert!(refusal.contains("clusterWide goes without namespaces"), "{refusal}");
    scene.has_no_access().await;

    // And what it gives in the whole cluster it doesn't give in one namespace.
    let mut wide = scene.wide_policy();
    wide["metadata"]["name"] = json!(format!("wide-{}", scene.id));
    scene.has_policy(&wide).await;
    let narrow = json!({"clusterWide": null, "policy": format!("wide-{}", scene.id)});
    scene
        .asks(&scene.alice, &scene.wide_request("narrow", narrow))
        .await
        .ok()
        .unwrap();
    scene.request_blocked_by("narrow", "NamespaceNotInPolicy").await;
    scene.has_nothing_everywhere().await;
}

async fn in_the_whole_cluster_roles_plant_access_that_dont_in_a_namespace(scene: Scene) {
    let mut policy = scene.wide_policy();
    policy["spec"]["roles"] = json!([{"kind": "ClusterRole", "name": "e2e-debugger"}]);
    let looked_at = scene.has_policy(&policy).await;
    let (reason, message) = readiness(&looked_at);
    assert_eq!(reason, "RolePlantsAccess");
    assert!(
        message.contains("in the whole cluster") && message.contains("EntersPods"),
        "{message}"
    );
}

async fn a_cluster_role_binding_that_somebody_deletes_ends_its_grant(scene: Scene) {
    scene.has_policy(&scene.wide_policy()).await;
    let grant = scene.widely_granted("wide").await;
    let [binding] = scene.wide_bindings().await.try_into().unwrap();
    let all = Api::<ClusterRoleBinding>::all(scene.cluster().admin().client().unwrap());
    all.delete(&binding.name_any(), &DeleteParams::default()).await.unwrap();
    assert_eq!(
        scene.grant_ended(&grant).await.status.unwrap().end.unwrap().reason,
        EndReason::Drifted
    );
    scene.request_in("wide", RequestPhase::Revoked).await;
    scene.has_nothing_everywhere().await;
}

/// Its grant is deleted while nobody looks after it: only what is written on it tells whose it was.
async fn a_cluster_role_binding_that_no_grant_explains_is_swept(scene: Scene) {
    scene.has_policy(&scene.wide_policy()).await;
    let grant = scene.widely_granted("wide").await;
    scene
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    scene.has_nothing_everywhere().await;
    scene.request_in("wide", RequestPhase::Revoked).await;
}

async fn where_the_chart_doesnt_say_so_nothing_is_given_in_the_whole_cluster(scene: Scene) {
    let looked_at = scene.has_policy(&scene.wide_policy()).await;
    let (reason, message) = readiness(&looked_at);
    assert_eq!(reason, "ClusterWideNotGrantable", "{message}");
    let mut request = scene.wide_request("wide", json!({}));
    request["spec"]["requester"] = scene.identity(&scene.alice).await;
    creates(&scene.alice, &request).await.unwrap();
    scene.request_blocked_by("wide", "PolicyNotReady").await;
    scene.has_nothing_everywhere().await;
}
