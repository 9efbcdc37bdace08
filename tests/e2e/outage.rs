//! The API server away, or the operator stopped, across deadlines: what is overdue ends as soon as they are back.

use std::path::Path;

use axum::http::Request;
use curfew::api::{AccessRequest, EndReason, RequestPhase, time};
use curfew::core::grant::deadline;
use curfew_testbed::{AuditEvent, Cluster, Component};
use futures::future::try_join_all;
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use k8s_openapi::jiff::SignedDuration;
use kube::api::ListParams;
use kube::client::Body;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::scene::Scene;
use crate::signs::{after_deadline, binding_of, deletion_of, leads, now, passes, tries};
use crate::simultaneous::{all_that, ask_many, says};
use crate::tools::eventually;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []: the_operators_calls_wait_behind_those_of_no_tenants_service_account;
        Lent [OperatorProcess, ComponentControl, AuditLog]:
            with_the_api_server_away_across_a_deadline_access_ends_as_it_comes_back;
        Alone [OperatorProcess, ComponentControl, AuditLog]:
            paused_across_the_deadlines_of_two_hundred_grants_it_ends_them_together_as_it_goes_on,
            what_a_restored_backup_of_etcd_brings_back_ends_at_the_deadline_that_it_always_had;
    ]
}

/// So long after the API server or the operator is back all that is overdue may take.
const SOON: SignedDuration = SignedDuration::from_secs(30);

/// Whatever anybody runs in the cluster would be served before it.
async fn the_operators_calls_wait_behind_those_of_no_tenants_service_account(scene: Scene) {
    let schemas = Api::<FlowSchema>::all(scene.cluster().admin().client().unwrap());
    let own = schemas.get("curfew").await.unwrap().uid();
    let operator = scene
        .world
        .installation
        .operator_user()
        .await
        .unwrap()
        .client()
        .unwrap();
    eventually("its calls are told apart", async || {
        let version = Request::get("/version").body(Body::empty()).unwrap();
        let answer = operator.send(version).await.unwrap();
        let by = answer.headers().get("x-kubernetes-pf-flowschema-uid");
        by.and_then(|by| by.to_str().ok().map(str::to_owned)) == own
    })
    .await;
}

/// kube-controller-manager is away, so that nobody else ends anything.
async fn with_the_api_server_away_across_a_deadline_access_ends_as_it_comes_back(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let pending = scene.asked(&scene.request("pending")).await;
    let grant = scene
        .granted(&scene.request_with("short", json!({"duration": "6s"})))
        .await;
    let cluster = scene.cluster();
    cluster.stop_component(Component::ControllerManager).unwrap();
    cluster.stop_component(Component::ApiServer).unwrap();
    passes(&grant).await;
    let back = time::to_kubernetes(now()).0;
    cluster.start_component(Component::ApiServer).await.unwrap();

    let end = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Expired);
    let gone = deletion_of(&scene, &grant);
    assert!(gone.user.username.ends_with(":curfew"), "{:?}", gone.user);
    assert!(gone.received >= time::to_kubernetes(deadline(&grant)).0);
    let took = gone.finished.duration_since(back);
    println!("the API server was away across a deadline: gone {took} after its start");
    assert!(took <= SOON, "{took}");

    scene.loses_access().await;
    cluster.start_component(Component::ControllerManager).await.unwrap();
    // It says that it is ready before it serves what was defined in it.
    eventually("bob is heard again", async || {
        scene.says(&scene.bob, &pending.name_any(), "approve").await.succeeded()
    })
    .await;
    scene.active(&pending.name_any()).await;
}

async fn paused_across_the_deadlines_of_two_hundred_grants_it_ends_them_together_as_it_goes_on(scene: Scene) {
    const REQUESTS: usize = 200;
    scene.has_policy(&scene.policy()).await;
    let names = ask_many(&scene, REQUESTS, json!({"duration": "100s"})).await;
    let bob = scene.of::<AccessRequest>(&scene.bob);
    try_join_all(names.iter().map(|name| says(&bob, name, "approve")))
        .await
        .unwrap();
    let was_granted = |request: &AccessRequest| {
        let phase = request.status.as_ref().and_then(|status| status.phase);
        phase.is_some_and(|phase| phase == RequestPhase::Active || phase.is_final())
    };
    all_that(&scene, REQUESTS, "granted", was_granted).await;
    let operator = scene.world.installation.operator().unwrap();
    scene.cluster().stop_component(Component::ControllerManager).unwrap();
    operator.pause().unwrap();
    let grants = scene.grants().list(&ListParams::default()).await.unwrap().items;
    let overdue = scene.bindings().await.len();
    assert!(
        overdue > REQUESTS / 2,
        "{overdue} are left: the machine is too slow for this"
    );
    passes(grants.iter().max_by_key(|grant| deadline(grant)).unwrap()).await;
    assert_eq!(scene.bindings().await.len(), overdue, "nobody has ended anything");

    let resumed = time::to_kubernetes(now()).0;
    operator.resume().unwrap();
    assert!(!leads(operator).await, "it was away for longer than its Lease");
    eventually("no binding is left", async || scene.bindings().await.is_empty()).await;
    let deletes = || -> Vec<AuditEvent> {
        let all = tries(&scene, "delete", "rolebindings").into_iter();
        all.filter(|event| event.received >= resumed && event.code == 200)
            .collect()
    };
    // A binding is gone a moment before the API server has answered and noted it.
    eventually("all deletions are noted", async || deletes().len() >= overdue).await;
    let deletes = deletes();
    assert_eq!(deletes.len(), overdue, "each was deleted once");
    let took = deletes
        .iter()
        .map(|event| event.finished)
        .max()
        .unwrap()
        .duration_since(resumed);
    println!("{overdue} grants were due at once: all gone after {took}");
    assert!(took <= SOON, "{took}");
    assert!(
        grants
            .iter()
            .all(|grant| after_deadline(grant, resumed) >= SignedDuration::ZERO)
    );
}

async fn what_a_restored_backup_of_etcd_brings_back_ends_at_the_deadline_that_it_always_had(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let revoked = scene.granted(&scene.request("revoked")).await;
    let over = scene
        .granted(&scene.request_with("over", json!({"duration": "30s"})))
        .await;
    let cluster = scene.cluster();
    let (store, backup) = (cluster.data_dir().join("etcd"), cluster.data_dir().join("etcd-backup"));
    without_etcd(cluster, || copied(&store, &backup)).await;
    eventually("alice is heard again", async || {
        scene.says(&scene.alice, "revoked", "revoke").await.succeeded()
    })
    .await;
    scene.grant_ended(&revoked).await;
    scene.grant_ended(&over).await;
    scene.has_no_access().await;

    let operator = scene.world.installation.operator().unwrap();
    operator.stop().await.unwrap();
    cluster.stop_component(Component::ControllerManager).unwrap();
    without_etcd(cluster, || {
        std::fs::remove_dir_all(&store).unwrap();
        copied(&backup, &store);
    })
    .await;
    assert_eq!(
        scene.bindings().await.len(),
        2,
        "both are back, and nobody has ended anything"
    );
    operator.start().await.unwrap();

    let left = scene.bindings().await;
    let names: Vec<_> = left.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, [binding_of(&revoked)], "when it is ready, what was due is gone");
    let end = scene.grant_ended(&over).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Expired);
    let lasts = scene.active("revoked").await;
    assert_eq!(
        deadline(&lasts),
        deadline(&revoked),
        "that it was revoked since nobody knows"
    );
    cluster.start_component(Component::ControllerManager).await.unwrap();
}

/// Stops etcd, and whoever needs it, while something is done to what it has stored.
async fn without_etcd(cluster: &Cluster, done: impl FnOnce()) {
    cluster.stop_component(Component::ApiServer).unwrap();
    cluster.stop_component(Component::Etcd).unwrap();
    done();
    cluster.start_component(Component::Etcd).await.unwrap();
    cluster.start_component(Component::ApiServer).await.unwrap();
}

/// Copies a folder with all that is in it.
fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copied(&entry.path(), &there);
        } else {
            std::fs::copy(entry.path(), there).unwrap();
        }
    }
}
