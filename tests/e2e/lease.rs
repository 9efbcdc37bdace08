//! Whatever befalls the Lease, each access is given once and ends on time.

use std::collections::BTreeMap;

use curfew_testbed::{Operator, OperatorOptions};
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use serde_json::json;

use crate::scene::{Scene, merges};
use crate::signs::{assert_on_time, leads};
use crate::tools::eventually;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Lent [OperatorProcess, AuditLog]:
            deleted_or_cleared_the_lease_is_held_again_and_each_access_is_given_once,
            two_processes_with_one_identity_give_each_access_once;
    ]
}

async fn deleted_or_cleared_the_lease_is_held_again_and_each_access_is_given_once(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let first = scene.world.installation.operator().unwrap();
    let second = scene.world.installation.start_operator().await.unwrap();
    let leases = scene.at_home::<Lease>();
    for way in ["deleted", "cleared"] {
        scene.asked(&scene.request(way)).await;
        let short = scene
            .granted(&scene.request_with(&format!("{way}-short"), json!({"duration": "15s"})))
            .await;
        match way {
            "deleted" => drop(leases.delete("curfew", &DeleteParams::default()).await.unwrap()),
            _ => drop(
                merges(&leases, "curfew", json!({"spec": {"holderIdentity": null}}))
                    .await
                    .unwrap(),
            ),
        }
        scene.said(&scene.bob, way, "approve").await;
        scene.active(way).await;
        scene.grant_ended(&short).await;
        assert_on_time(&scene, &short);
        one_grants(&[first, &second]).await;
    }
    assert_given_once(&scene, 4).await;
}

async fn two_processes_with_one_identity_give_each_access_once(scene: Scene) {
    const REQUESTS: usize = 12;
    scene.has_policy(&scene.policy()).await;
    let first = scene.world.installation.operator().unwrap();
    let twin = twin_of(&scene, first).await;

    let names: Vec<_> = (0..REQUESTS).map(|number| format!("look-{number}")).collect();
    let requests = names
        .iter()
        .map(|name| scene.request_with(name, json!({"duration": "30s"})));
    join_all(requests.map(async |request| scene.quickly_granted(&request).await)).await;
    assert!(leads(first).await && leads(&twin).await, "they still do");
    assert_given_once(&scene, REQUESTS).await;
    for name in &names {
        let grant = scene.request_now(name).await.status.unwrap().grant.unwrap();
        let grant = scene.grants().get(&grant).await.unwrap();
        scene.grant_ended(&grant).await;
        assert_on_time(&scene, &grant);
    }
    scene.has_no_access().await;
}

/// Another process with the identity of this one: both believe that they grant.
pub async fn twin_of(scene: &Scene, first: &Operator) -> Operator {
    let options = OperatorOptions::new(env!("CARGO_BIN_EXE_curfew"))
        .arguments(["--namespace", scene.world.installation.namespace()])
        .identity(first.name());
    let twin = scene.world.installation.spawn_operator(options).await.unwrap();
    twin.wait_until_ready().await.unwrap();
    eventually("both believe that they grant", async || {
        leads(first).await && leads(&twin).await
    })
    .await;
    twin
}

/// One of them does, and the others know that they don't.
async fn one_grants(replicas: &[&Operator]) {
    eventually("one grants", async || {
        let leading = join_all(replicas.iter().map(|replica| leads(replica))).await;
        leading.into_iter().filter(|leads| *leads).count() == 1
    })
    .await;
}

/// So many grants were made, each for another request, and one binding for each.
async fn assert_given_once(scene: &Scene, number: usize) {
    let made = scene.operator_writes().into_iter();
    let made = made.filter(|event| event.verb == "create" && event.code == 201);
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for event in made {
        let name = event.response.unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
        *counts.entry((event.resource, name)).or_default() += 1;
    }
    assert!(counts.values().all(|times| *times == 1), "{counts:#?}");
    for resource in ["accessgrants", "rolebindings"] {
        let of_it = counts.keys().filter(|(made, _)| made == resource).count();
        assert_eq!(of_it, number, "{resource}: {counts:#?}");
    }
}
