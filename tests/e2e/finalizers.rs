//! Finalizers put on what is Curfew's, and forced off: nothing of Curfew's hangs on any, and none holds access.

use curfew::api::{AccessGrant, AccessRequest, RequestPhase};
use curfew::core::grant::name as grant_name;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use kube::api::DeleteParams;
use kube::core::ObjectMeta;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use crate::scene::{Scene, merges, refused};
use crate::tools::gone;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![Shipped []: case_51_finalizers_forced_off_what_is_going_leave_no_access]
}

async fn case_51_finalizers_forced_off_what_is_going_leave_no_access(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    let request = scene.request_now("look").await;
    has_none_of_curfews(&scene, &grant, &request).await;
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    merges(&scene.requests(), "look", held.clone()).await.unwrap();
    let put_on = merges(&scene.grants(), &grant.name_any(), held).await;
    refused(put_on, "only Curfew's operator writes AccessGrants");

    scene.requests().delete("look", &DeleteParams::default()).await.unwrap();
    let going = DeleteParams::foreground();
    scene.grants().delete(&grant.name_any(), &going).await.unwrap();
    scene.loses_access().await;
    let over = |request: &AccessRequest| {
        let phase = request.status.as_ref().and_then(|status| status.phase);
        phase.is_some_and(RequestPhase::is_final)
    };
    let going = scene.request_that("look", "it is over", over).await;
    assert!(
        going.metadata.deletion_timestamp.is_some(),
        "it is held, and has ended all the same"
    );

    let forced = json!({"metadata": {"finalizers": null}});
    merges(&scene.requests(), "look", forced).await.unwrap();
    gone(scene.requests(), "look", "it is gone").await;
    gone(scene.grants(), &grant.name_any(), "it is gone").await;
    scene.has_no_access().await;
    // The same name once more: what went leaves nothing behind that would count.
    let again = scene.asked(&scene.request("look")).await;
    assert_ne!(grant_name(&again.uid().unwrap()), grant.name_any());
    scene.has_no_access().await;
}

async fn has_none_of_curfews(scene: &Scene, grant: &AccessGrant, request: &AccessRequest) {
    let (admin, home) = (scene.cluster().admin(), scene.world.installation.namespace());
    let anchor = grant.spec.anchor.clone().unwrap().name;
    let job = Api::<Job>::namespaced(admin.client().unwrap(), home)
        .get(&anchor)
        .await
        .unwrap();
    let service = Api::<Service>::namespaced(admin.client().unwrap(), home)
        .get(&anchor)
        .await
        .unwrap();
    let binding = scene.bindings().await.remove(0);
    let all: [&ObjectMeta; 5] = [grant.meta(), request.meta(), binding.meta(), job.meta(), service.meta()];
    assert!(all.iter().all(|metadata| metadata.finalizers.is_none()), "{all:#?}");
}
