//! Which roles a policy offers: those that it names, that are there, that say something, and that the operator may bind.

use curfew::api::AccessPolicy;
use curfew::api::condition;
use k8s_openapi::api::rbac::v1::Role;
use serde_json::json;

use crate::policy::another;
use crate::scene::{Scene, creates, merges, name, person, readiness, refused, would_create};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            case_33_a_role_that_is_missing_or_empty_is_not_offered,
            case_33a_a_role_that_plants_access_needs_a_policy_that_says_so,
            case_34_a_role_that_the_policy_does_not_name_is_not_offered,
            case_34_a_role_that_the_operator_may_not_bind_makes_the_policy_not_ready;
    ]
}

async fn case_33_a_role_that_is_missing_or_empty_is_not_offered(scene: Scene) {
    let cluster_role =
        |name: &str| json!({"roles": [{"kind": "Role", "name": "other"}, {"kind": "ClusterRole", "name": name}]});
    let policies = [
        (
            another(&scene, 0, cluster_role("e2e-missing")),
            "RoleMissing",
            "ClusterRole \"e2e-missing\" doesn't exist",
        ),
        (
            another(&scene, 1, cluster_role("e2e-empty")),
            "RoleEmpty",
            "ClusterRole \"e2e-empty\" has no rules",
        ),
    ];
    for (policy, reason, says) in &policies {
        let (found, message) = readiness(&scene.has_policy(policy).await);
        assert_eq!(found, *reason);
        assert!(message.contains(says), "{message}");
        creates(
            &scene.alice,
            &scene.request_with(
                name(policy),
                json!({"policy": name(policy), "role": policy["spec"]["roles"][1]}),
            ),
        )
        .await
        .unwrap();
        let message = scene.request_blocked_by(name(policy), "PolicyNotReady").await;
        assert!(message.contains(says), "{message}");
    }

    // A Role is looked for in the namespace that is asked for, with each request.
    let (admin, roles) = (scene.cluster().admin(), scene.of::<Role>(scene.cluster().admin()));
    scene
        .has_policy(&scene.policy_with(json!({"roles": [{"kind": "Role", "name": "other"}]})))
        .await;
    creates(
        &scene.alice,
        &scene.request_with(
            "look",
            json!({"policy": name(&scene.policy()), "role": {"kind": "Role", "name": "other"}}),
        ),
    )
    .await
    .unwrap();
    let message = scene.request_blocked_by("look", "RoleMissing").await;
    assert!(
        message.contains(&format!(
            "Role \"other\" doesn't exist in namespace {:?}",
            scene.namespace
        )),
        "{message}"
    );
    creates(admin, &scene.role("other", json!([]))).await.unwrap();
    scene.request_blocked_by("look", "RoleEmpty").await;
    refused(
        scene.decides(&scene.bob, "look", "approve").await,
        "there is no offer to decide on yet",
    );
    scene.has_no_access().await;
    merges(
        &roles,
        "other",
        json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "get"]}]}),
    )
    .await
    .unwrap();
    scene
        .request_that("look", "an offer", |request| {
            request.status.as_ref().is_some_and(|status| status.offer.is_some())
        })
        .await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    scene.active("look").await;
    scene.has_access().await;
}

async fn case_33a_a_role_that_plants_access_needs_a_policy_that_says_so(scene: Scene) {
    let role = json!({"kind": "ClusterRole", "name": "e2e-planter"});
    let hazardous = |policy: &AccessPolicy| {
        let conditions = policy.status.clone().unwrap().conditions;
        condition::get(&conditions, condition::HAZARDOUS)
            .map(|hazardous| (hazardous.status.clone(), hazardous.message.clone()))
            .unwrap()
    };
    let marked = ("True".to_owned(), "ClusterRole \"e2e-planter\": WritesRbac".to_owned());
    let strict = scene.has_policy(&scene.policy_with(json!({"roles": [role]}))).await;
    let (reason, message) = readiness(&strict);
    assert_eq!(reason, "RolePlantsAccess");
    assert!(
        message.contains("WritesRbac") && message.contains("allowPersistence: true"),
        "{message}"
    );
    assert_eq!(hazardous(&strict), marked);
    creates(&scene.alice, &scene.request_with("plant", json!({"role": role})))
        .await
        .unwrap();
    scene.request_blocked_by("plant", "PolicyNotReady").await;
    refused(
        scene.decides(&scene.bob, "plant", "approve").await,
        "there is no offer to decide on yet",
    );
    scene.has_no_access().await;

    let allowing = scene
        .has_policy(&scene.policy_with(json!({"roles": [role], "allowPersistence": true})))
        .await;
    assert_eq!(readiness(&allowing).0, "Ready");
    assert_eq!(hazardous(&allowing), marked);
    let offered = scene
        .request_that("plant", "an offer", |request| {
            request.status.as_ref().is_some_and(|status| status.offer.is_some())
        })
        .await;
    assert_eq!(offered.status.unwrap().offer.unwrap().hazards, ["WritesRbac"]);
    scene.decides(&scene.bob, "plant", "approve").await.unwrap();
    assert_eq!(scene.active("plant").await.spec.hazards, ["WritesRbac"]);

    // A Role that comes to plant access is found with the request.
    scene.has_policy(&scene.policy()).await;
    scene.quickly_asked(&scene.request("look")).await;
    let planting = json!({"rules": [{"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]}]});
    merges(&scene.of::<Role>(scene.cluster().admin()), "reader", planting)
        .await
        .unwrap();
    let message = scene.request_blocked_by("look", "RolePlantsAccess").await;
    assert!(message.contains("MintsTokens"), "{message}");
}

async fn case_34_a_role_that_the_policy_does_not_name_is_not_offered(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let outside = json!({"kind": "Role", "name": "writes-requests"});
    // The kind is part of the name.
    let other_kind = json!({"kind": "ClusterRole", "name": "reader"});
    for (which, role) in [outside, other_kind].into_iter().enumerate() {
        let (unnamed, named) = (format!("unnamed-{which}"), format!("named-{which}"));
        creates(&scene.alice, &scene.request_with(&unnamed, json!({"role": role})))
            .await
            .unwrap();
        let message = scene.request_blocked_by(&unnamed, "NoPolicyFits").await;
        assert!(message.contains("whoever runs the cluster can add one"), "{message}");
        creates(
            &scene.alice,
            &scene.request_with(&named, json!({"role": role, "policy": name(&scene.policy())})),
        )
        .await
        .unwrap();
        let message = scene.request_blocked_by(&named, "RoleNotInPolicy").await;
        assert!(
            message.contains(name(&scene.policy())) && message.contains(role["name"].as_str().unwrap()),
            "{message}"
        );
        refused(
            scene.decides(&scene.bob, &named, "approve").await,
            "there is no offer to decide on yet",
        );
    }
    scene.has_no_access().await;
}

async fn case_34_a_role_that_the_operator_may_not_bind_makes_the_policy_not_ready(scene: Scene) {
    let role = json!({"kind": "ClusterRole", "name": "e2e-not-grantable"});
    let (reason, message) = readiness(&scene.has_policy(&scene.policy_with(json!({"roles": [role]}))).await);
    assert_eq!(reason, "RoleNotGrantable");
    assert!(
        message.contains("\"e2e-not-grantable\"") && message.contains("grantableRoles"),
        "{message}"
    );
    creates(&scene.alice, &scene.request_with("look", json!({"role": role})))
        .await
        .unwrap();
    let message = scene.request_blocked_by("look", "PolicyNotReady").await;
    assert!(
        message.contains("a cluster admin can add it to grantableRoles"),
        "{message}"
    );
    scene.has_no_access().await;

    // It isn't the operator's word alone: its own token gets no such binding out of the API server, and one of a grantable role it does.
    let operator = scene.world.installation.operator_user().await.unwrap();
    let binding = |role: &str| {
        let mut binding = scene.binding("curfew-probe", ("ClusterRole", role), person(scene.alice.name()));
        binding["metadata"]["labels"] = json!({"curfew.dev/grant-uid": "probe"});
        binding["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "name": "probe", "uid": "probe"}]);
        binding
    };
    would_create(&operator, &binding("e2e-reader")).await.unwrap();
    refused(
        would_create(&operator, &binding("e2e-not-grantable")).await,
        "attempting to grant RBAC permissions not currently held",
    );
}
