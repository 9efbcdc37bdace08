//! Curfew goes, and leaves no access behind and nothing stuck.

use curfew::api::{AccessRequest, EndReason, RequestPhase};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::scene::Scene;
use crate::tools::{eventually_within, watched};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Alone [OperatorProcess]:
            case_52_an_uninstallation_ends_every_access_first_and_leaves_nothing_stuck,
            case_52_with_the_operator_dead_an_uninstallation_ends_every_access_all_the_same,
            an_uninstallation_that_cant_end_an_access_fails_and_names_it,
    ]
}

async fn case_52_an_uninstallation_ends_every_access_first_and_leaves_nothing_stuck(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let active = scene.granted(&scene.request("active")).await;
    scene.asked(&scene.request("pending")).await;
    let installation = &scene.world.installation;

    let said = installation
        .run_pre_delete_hook()
        .await
        .unwrap()
        .expect("the chart has a hook");
    let said = said.ok().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(said, "", "what is to be read by people goes to standard error");
    let ended = scene.grant_ended(&active).await;
    assert_eq!(ended.status.unwrap().end.unwrap().reason, EndReason::Uninstalled);
    let request = scene.request_now("active").await.status.unwrap();
    assert_eq!(request.phase, Some(RequestPhase::Revoked));
    assert_eq!(request.message.as_deref(), Some("Curfew was uninstalled"));
    scene.has_no_access().await;

    // The operator still runs, and grants nothing any more.
    scene.said(&scene.bob, "pending", "approve").await;
    let requests = scene.requests();
    let before = scene.grants().list(&ListParams::default()).await.unwrap().items.len();
    installation.uninstall().await.unwrap();
    assert_eq!(
        scene.grants().list(&ListParams::default()).await.unwrap().items.len(),
        before
    );
    assert!(scene.bindings().await.is_empty());

    // The objects stay as evidence, and nothing holds them or their namespace.
    requests.delete("active", &DeleteParams::default()).await.unwrap();
    let gone = |request: Option<&AccessRequest>| request.is_none();
    watched(requests, "active", "a deleted request is gone", gone).await;
    let namespaces = Api::<Namespace>::all(scene.cluster().admin().client().unwrap());
    for namespace in [scene.namespace.as_str(), installation.namespace()] {
        namespaces.delete(namespace, &DeleteParams::default()).await.unwrap();
        let gone = |namespace: Option<&Namespace>| namespace.is_none();
        watched(namespaces.clone(), namespace, "a deleted namespace is gone", gone).await;
    }
}

async fn case_52_with_the_operator_dead_an_uninstallation_ends_every_access_all_the_same(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let active = scene.granted(&scene.request("active")).await;
    let installation = &scene.world.installation;
    installation.operator().unwrap().kill().unwrap();
    let said = installation
        .run_pre_delete_hook()
        .await
        .unwrap()
        .expect("the chart has a hook");
    said.ok().unwrap_or_else(|error| panic!("{error}"));
    let ended = scene.grant_ended(&active).await;
    assert_eq!(ended.status.unwrap().end.unwrap().reason, EndReason::Uninstalled);
    scene.has_no_access().await;
    let jobs = Api::<Job>::namespaced(scene.cluster().admin().client().unwrap(), installation.namespace());
    let left = jobs.list(&ListParams::default()).await.unwrap().items;
    assert!(
        left.is_empty(),
        "{:?}",
        left.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
    );
    // Installed again, somebody grants: whoever begins anew isn't kept from it for long.
    installation.operator().unwrap().start().await.unwrap();
    scene.asked(&scene.request("again")).await;
    scene.said(&scene.bob, "again", "approve").await;
    scene.active("again").await;
}

async fn an_uninstallation_that_cant_end_an_access_fails_and_names_it(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let active = scene.granted(&scene.request("active")).await;
    let installation = &scene.world.installation;
    let roles: Api<k8s_openapi::api::rbac::v1::ClusterRole> = Api::all(scene.cluster().admin().client().unwrap());
    let mut rules = roles.get("curfew:operator").await.unwrap().rules.unwrap();
    for rule in &mut rules {
        rule.verbs.retain(|verb| verb != "delete");
    }
    crate::scene::merges(&roles, "curfew:operator", json!({"rules": rules}))
        .await
        .unwrap();
    let operator = installation.operator_user().await.unwrap();
    eventually_within(
        crate::tools::LIMIT,
        "the operator may no longer delete bindings",
        async || {
            !operator
                .can("delete", "rolebindings", Some(&scene.namespace))
                .await
                .unwrap()
        },
    )
    .await;
    let arguments = ["uninstall", "--timeout", "30", "--namespace", installation.namespace()];
    let answer = operator
        .run_program(std::path::Path::new(env!("CARGO_BIN_EXE_curfew")), arguments)
        .await
        .unwrap();
    let said = answer.refused().unwrap();
    assert!(said.contains("not everything ended within 30 s"), "{said}");
    assert!(said.contains(&active.name_any()), "{said}");
    scene.has_access().await;
}
