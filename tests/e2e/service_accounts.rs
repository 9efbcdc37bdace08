//! Service accounts that ask and approve, and those who can act as one.

use curfew::api::RequestPhase;
use curfew_testbed::User;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::decisions::{approver, is_offered};
use crate::scene::{Scene, creates, person, refused};
use crate::tools::eventually;
use crate::world::{Case, cases_on_both};

pub fn cases() -> Vec<Case> {
    cases_on_both![
        case_18a_nobody_approves_for_a_service_account_that_they_can_act_as,
        a_service_account_that_is_named_asks_and_is_bound_as_such,
        a_service_account_never_asks_by_its_groups,
        a_service_account_approves_only_where_it_is_named,
    ]
}

async fn case_18a_nobody_approves_for_a_service_account_that_they_can_act_as(scene: Scene) {
    let robot = service_account(&scene, "robot", "curfew-requester").await;
    let requesters = json!({"serviceAccounts": [{"namespace": scene.namespace, "name": "robot"}]});
    scene
        .has_policy(&scene.policy_with(json!({"requesters": requesters})))
        .await;
    asked_by(&scene, &robot, &scene.request("look")).await;

    let rights = [
        ("", "serviceaccounts", "impersonate", "mint its tokens"),
        ("", "serviceaccounts/token", "create", "mint its tokens"),
        (
            "authentication.k8s.io",
            "serviceaccounts",
            "impersonate:serviceaccount",
            "create secrets with its tokens",
        ),
        ("", "secrets", "create", "create secrets with its tokens"),
    ];
    for (number, (group, resource, verb, because)) in rights.into_iter().enumerate() {
        let actor = approver(&scene, &format!("actor{number}-{}", scene.id)).await;
        let role = format!("acts-{number}");
        let rules = json!([{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]);
        creates(scene.cluster().admin(), &scene.role(&role, rules))
            .await
            .unwrap();
        bind(
            &scene,
            &role,
            ("Role", &role),
            &actor,
            (verb, &qualified(group, resource)),
        )
        .await;
        refused(scene.decides(&actor, "look", "approve").await, because);
    }
    let editor = approver(&scene, &format!("editor-{}", scene.id)).await;
    bind(
        &scene,
        "editors",
        ("ClusterRole", "edit"),
        &editor,
        ("impersonate", "serviceaccounts"),
    )
    .await;
    refused(
        scene.decides(&editor, "look", "approve").await,
        "this would be your own request",
    );
    assert!(scene.request_now("look").await.spec.decisions.is_empty());

    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    assert_eq!(scene.active("look").await.spec.subject.kind, "ServiceAccount");
    // What gives nothing is left to everyone.
    asked_by(&scene, &robot, &scene.request("again")).await;
    scene.decides(&editor, "again", "deny").await.unwrap();
    scene.request_in("again", RequestPhase::Denied).await;
}

async fn a_service_account_that_is_named_asks_and_is_bound_as_such(scene: Scene) {
    let robot = service_account(&scene, "robot", "curfew-requester").await;
    let requesters = json!({"serviceAccounts": [{"namespace": scene.namespace, "name": "robot"}]});
    scene
        .has_policy(&scene.policy_with(json!({"requesters": requesters})))
        .await;
    asked_by(&scene, &robot, &scene.request("look")).await;
    let reads = async || scene.of::<ConfigMap>(&robot).list(&ListParams::default()).await.is_ok();
    assert!(!reads().await);
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    scene.active("look").await;
    assert!(reads().await);
    let subjects = scene.bindings().await.remove(0).subjects.unwrap();
    assert_eq!(subjects.len(), 1);
    assert_eq!(
        (subjects[0].kind.as_str(), subjects[0].name.as_str()),
        ("ServiceAccount", "robot")
    );
    assert_eq!(subjects[0].namespace.as_ref(), Some(&scene.namespace));
    // It gives the access back itself.
    scene.decides(&robot, "look", "revoke").await.unwrap();
    eventually("the service account has no access any more", async || !reads().await).await;
}

async fn a_service_account_never_asks_by_its_groups(scene: Scene) {
    let robot = service_account(&scene, "robot", "curfew-requester").await;
    let groups = [
        "system:authenticated".into(),
        "system:serviceaccounts".into(),
        format!("system:serviceaccounts:{}", scene.namespace),
    ];
    let another = json!([{"namespace": scene.namespace, "name": "another"}, {"namespace": "default", "name": "robot"}]);
    scene
        .has_policy(&scene.policy_with(json!({"requesters": {"groups": groups, "serviceAccounts": another}})))
        .await;
    scene.asks(&robot, &scene.request("look")).await.ok().unwrap();
    scene.request_blocked_by("look", "NoPolicyFits").await;
    // The same group does let a person in.
    scene.asked(&scene.request("hers")).await;
}

async fn a_service_account_approves_only_where_it_is_named(scene: Scene) {
    let approver = service_account(&scene, "approver", "curfew-approver").await;
    let other = service_account(&scene, "other", "curfew-approver").await;
    let approvers = json!({
        "groups": ["system:authenticated", "system:serviceaccounts", format!("system:serviceaccounts:{}", scene.namespace)],
        "serviceAccounts": [{"namespace": scene.namespace, "name": "approver"}],
    });
    scene
        .has_policy(&scene.policy_with(json!({"approval": {"stages": [{"name": "lead", "approvers": approvers}]}})))
        .await;
    scene.asked(&scene.request("look")).await;
    for word in ["approve", "deny", "revoke"] {
        refused(
            scene.decides(&other, "look", word).await,
            "you are not among those who may",
        );
    }
    scene.decides(&approver, "look", "approve").await.unwrap();
    let via = scene.active("look").await.spec.decisions.remove(0).via;
    assert_eq!(
        via,
        [format!("lead/User:system:serviceaccount:{}:approver", scene.namespace)]
    );
}

// ---- helpers ----

/// Gives `user` a role in this scene's namespace, and waits until the API server knows.
pub async fn bind(scene: &Scene, name: &str, role: (&str, &str), user: &User, (verb, resource): (&str, &str)) {
    let mut binding = scene.binding(name, role, person(user.name()));
    binding["metadata"] = json!({"generateName": format!("{name}-"), "namespace": scene.namespace});
    creates(scene.cluster().admin(), &binding).await.unwrap();
    eventually("the right is there", async || {
        user.can(verb, resource, Some(&scene.namespace)).await.unwrap()
    })
    .await;
}

/// A resource as [`User::can`] takes it.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

/// A service account of this scene's namespace with one of the shipped roles.
async fn service_account(scene: &Scene, name: &str, role: &str) -> User {
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": scene.namespace}});
    creates(scene.cluster().admin(), &account).await.unwrap();
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": scene.namespace});
    creates(
        scene.cluster().admin(),
        &scene.binding(&format!("of-{name}"), ("ClusterRole", role), subject),
    )
    .await
    .unwrap();
    let user = scene
        .cluster()
        .service_account_user(&scene.namespace, name, std::time::Duration::from_secs(3600))
        .await
        .unwrap();
    eventually("the right is there", async || {
        user.can("patch", "accessrequests.curfew.dev", Some(&scene.namespace))
            .await
            .unwrap()
    })
    .await;
    user
}

/// `user` asks, and there is an offer.
async fn asked_by(scene: &Scene, user: &User, request: &Value) {
    scene
        .asks(user, request)
        .await
        .ok()
        .unwrap_or_else(|error| panic!("{error}"));
    scene
        .request_that(crate::scene::name(request), "an offer", is_offered)
        .await;
}
