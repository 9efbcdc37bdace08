//! Curfew goes, and leaves no access behind and nothing stuck.

use curfew::api::{AccessRequest, EndReason, RequestPhase, condition};
use curfew::core::grant::deadline;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::anchor_overdue::{GRACE, until_the_minute_ends};
use crate::anchor_refused::Home;
use crate::scene::Scene;
use crate::signs::{binding_of, is_not_ready, leads, now};
use crate::tools::{eventually, eventually_within, gone, watched};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Alone [OperatorProcess]:
            case_52_an_uninstallation_ends_every_access_first_and_leaves_nothing_stuck,
            case_52_with_the_operator_dead_an_uninstallation_ends_every_access_all_the_same,
            an_uninstallation_that_cant_end_an_access_fails_and_names_it,
            with_the_definition_of_grants_away_when_an_operator_begins_no_access_is_left,
            with_the_operators_namespace_deleted_no_access_is_left,
            uninstalled_without_ending_access_it_ends_with_its_anchor_or_with_its_grant,
    ]
}

async fn case_52_an_uninstallation_ends_every_access_first_and_leaves_nothing_stuck(scene: Scene) {
    scene.has_policy(&scene.policy_with(json!({"clusterWide": true}))).await;
    let active = scene.granted(&scene.request("active")).await;
    let wide = scene.granted(&scene.wide_request("wide", json!({}))).await;
    for name in ["pending", "hasty"] {
        scene.asked(&scene.request(name)).await;
    }
    let installation = &scene.world.installation;

    let (said, ()) = tokio::join!(installation.run_pre_delete_hook(), approved_meanwhile(&scene, "hasty"));
    let said = said.unwrap().expect("the chart has a hook");
    let said = said.ok().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(said, "", "what is to be read by people goes to standard error");
    for grant in [&active, &wide] {
        let ended = scene.grant_ended(grant).await;
        assert_eq!(ended.status.unwrap().end.unwrap().reason, EndReason::Uninstalled);
    }
    assert!(scene.wide_bindings().await.is_empty());
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
    gone(requests, "active", "a deleted request is gone").await;
    let namespaces = Api::<Namespace>::all(scene.cluster().admin().client().unwrap());
    for namespace in [scene.namespace.as_str(), installation.namespace()] {
        namespaces.delete(namespace, &DeleteParams::default()).await.unwrap();
        gone(namespaces.clone(), namespace, "a deleted namespace is gone").await;
    }
}

/// Bob approves while every access is being ended, and the request says why it isn't granted.
async fn approved_meanwhile(scene: &Scene, name: &str) {
    let leases = scene.at_home::<Lease>();
    let is_taken = |lease: Option<&Lease>| {
        let holder = lease.and_then(holder);
        holder.is_some_and(|holder| holder.starts_with("uninstalling-"))
    };
    watched(leases, "curfew", "it was taken to end everything", is_taken).await;
    let operator = scene.world.installation.operator().unwrap();
    eventually("who granted until then knows", async || !leads(operator).await).await;
    scene.decides(&scene.bob, name, "approve").await.unwrap();
    let says = |request: &AccessRequest| {
        let conditions = request.status.clone().unwrap_or_default().conditions;
        condition::get(&conditions, condition::GRANTED).is_some_and(|granted| granted.reason == "Uninstalling")
    };
    scene
        .request_that(name, "it says that Curfew is being uninstalled", says)
        .await;
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
    scene.has_policy(&scene.policy_with(json!({"clusterWide": true}))).await;
    let active = scene.granted(&scene.request("active")).await;
    let wide = scene.granted(&scene.wide_request("wide", json!({}))).await;
    let installation = &scene.world.installation;
    let roles: Api<k8s_openapi::api::rbac::v1::ClusterRole> = Api::all(scene.cluster().admin().client().unwrap());
    let mut rules = roles.get("curfew:operator").await.unwrap().rules.unwrap();
    for rule in &mut rules {
        rule.verbs.retain(|verb| verb != "delete");
    }
    rules.retain(|rule| !rule.verbs.is_empty());
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
    let uninstalls = async |seconds: &str| {
        let arguments = [
            "uninstall",
            "--timeout",
            seconds,
            "--namespace",
            installation.namespace(),
        ];
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_curfew"));
        let answer = operator.run_program(program, arguments).await.unwrap();
        assert_eq!(answer.code, Some(1));
        answer.refused().unwrap()
    };
    let said = uninstalls("30").await;
    assert!(said.contains("not everything ended within 30 s"), "{said}");
    let anchor = &active.spec.anchor.as_ref().unwrap().name;
    for left in [
        format!(" RoleBinding {}/{}", scene.namespace, binding_of(&active)),
        format!(" ClusterRoleBinding {}", binding_of(&wide)),
        format!(" AccessGrant {}", active.name_any()),
        format!(" AccessRequest {}/active", scene.namespace),
        format!(" Job {}/{anchor}", installation.namespace()),
    ] {
        assert!(said.contains(&left), "{left:?} in {said}");
    }
    scene.has_access().await;

    // Its pod is evicted, say.
    let leases = Api::<Lease>::namespaced(scene.cluster().admin().client().unwrap(), installation.namespace());
    let before = holder(&leases.get("curfew").await.unwrap());
    let evicts = async {
        let is_taken = |lease: Option<&Lease>| lease.map(holder).is_some_and(|holder| holder != before);
        watched(leases.clone(), "curfew", "another took it to end everything", is_taken).await;
        let programs = format!("uninstall --timeout 240 --namespace {}", installation.namespace());
        let told = tokio::process::Command::new("pkill").args(["-f", &programs]).status();
        assert!(told.await.unwrap().success());
    };
    let (said, ()) = tokio::join!(uninstalls("240"), evicts);
    assert!(
        said.contains("it was told to end before everything had ended"),
        "{said}"
    );
    scene.has_access().await;
}

fn holder(lease: &Lease) -> Option<String> {
    lease.spec.as_ref()?.holder_identity.clone()
}

async fn with_the_definition_of_grants_away_when_an_operator_begins_no_access_is_left(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.granted(&scene.request("active")).await;
    let operator = scene.world.installation.operator().unwrap();
    operator.stop().await.unwrap();
    let definitions = Api::<CustomResourceDefinition>::all(scene.cluster().admin().client().unwrap());
    let name = "accessgrants.curfew.dev";
    definitions.delete(name, &DeleteParams::default()).await.unwrap();
    gone(definitions, name, "the definition goes").await;
    scene.has_access().await;
    operator.spawn().unwrap();
    is_not_ready(operator, &["it has not seen yet all of AccessGrant"]).await;
    scene.loses_access().await;

    // Nothing is left, and an uninstallation isn't kept from seeing that.
    let said = scene.world.installation.run_pre_delete_hook().await.unwrap();
    said.expect("the chart has a hook")
        .ok()
        .unwrap_or_else(|error| panic!("{error}"));
}

async fn with_the_operators_namespace_deleted_no_access_is_left(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.granted(&scene.request("active")).await;
    scene.world.installation.operator().unwrap().kill().unwrap();
    let namespaces = Api::<Namespace>::all(scene.cluster().admin().client().unwrap());
    let home = scene.world.installation.namespace();
    namespaces.delete(home, &DeleteParams::default()).await.unwrap();
    scene.loses_access().await;
    gone(namespaces, home, "nothing holds the namespace").await;
}

/// One access hangs on an anchor, the other on none, because there was a quota.
async fn uninstalled_without_ending_access_it_ends_with_its_anchor_or_with_its_grant(scene: Scene) {
    let (cluster, installation) = (scene.cluster(), &scene.world.installation);
    scene
        .has_policy(&scene.policy_with(json!({"deadMansSwitch": "BestEffort"})))
        .await;
    let home = Home::of(&scene).await;
    home.has_a_quota("jobs", "count/jobs.batch=0").await;
    let bare = scene
        .granted(&scene.request_with("bare", json!({"duration": "45s"})))
        .await;
    assert_eq!(bare.spec.anchor, None);
    home.as_admin(&["delete", "quota", "none"]).await;
    scene.has_policy(&scene.policy()).await;
    let anchored = scene
        .granted(&scene.request_with("anchored", json!({"duration": until_the_minute_ends(40)})))
        .await;
    assert!(anchored.spec.anchor.is_some());

    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/curfew");
    let namespace = installation.namespace();
    let leave = [
        "upgrade",
        "curfew",
        chart,
        "--namespace",
        namespace,
        "--reuse-values",
        "--set",
        "endAccessOnUninstall=false",
    ];
    let left = cluster.helm(leave).output().unwrap();
    assert!(left.status.success(), "{}", String::from_utf8_lossy(&left.stderr));
    assert!(
        installation.run_pre_delete_hook().await.unwrap().is_none(),
        "there is no hook then"
    );
    installation.uninstall().await.unwrap();
    assert_eq!(scene.bindings().await.len(), 2, "access stays");

    let binding = binding_of(&anchored);
    eventually_within(2 * GRACE, "its anchor ends it", async || {
        scene.role_bindings().get_opt(&binding).await.unwrap().is_none()
    })
    .await;
    assert!(now() > deadline(&bare), "the other is overdue too");
    scene.has_access().await;
    let grants = scene.grants();
    grants.delete(&bare.name_any(), &DeleteParams::default()).await.unwrap();
    scene.loses_access().await;
}
