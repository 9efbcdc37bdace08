//! The operator's own token in other hands: what a thief can do with it is bounded, and becomes nobody's access.

use curfew::api::{AccessRequest, DecisionEffect, RequestPhase, Seal, condition};
use curfew::core::grant::name as grant_name;
use curfew_testbed::User;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::scene::{Scene, VERBS, creates, merges, merges_status, person, refusal, refused, would_create};
use crate::signs::tries;
use crate::tools::{eventually, gone};
use crate::world::{Case, cases};

/// What a refusal says when it was RBAC that refused.
const RBAC: &str = "cannot ";

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            a_stolen_operator_token_makes_bindings_of_one_shape_only,
            a_stolen_operator_token_changes_no_binding_and_deletes_no_foreign_one,
            a_stolen_operator_token_decides_nothing,
            a_stolen_operator_token_has_few_rights;
        Older []:
            a_stolen_operator_token_makes_bindings_of_one_shape_only,
            a_stolen_operator_token_changes_no_binding_and_deletes_no_foreign_one,
            a_stolen_operator_token_decides_nothing;
        Lent [OperatorProcess, AuditLog]: what_a_thief_of_the_token_leaves_behind_gives_nobody_access;
        Lent [OperatorProcess]: what_a_thief_of_the_token_leaves_behind_that_no_reader_takes_hides_no_access_and_no_word;
        Alone []:
            a_forged_status_lets_nobody_approve_and_planted_words_are_nobodys;
    ]
}

/// What the operator itself makes, for a grant that doesn't exist.
pub fn its_binding(scene: &Scene) -> Value {
    let mut binding = binding_for(scene, ("g", "0d1e"), &scene.alice);
    binding["metadata"]["finalizers"] = json!([]);
    binding
}

/// With the marks of the grant of this name and uid.
fn binding_for(scene: &Scene, (grant, uid): (&str, &str), who: &User) -> Value {
    let mut binding = scene.binding(&format!("curfew-{uid}"), ("Role", "reader"), person(who.name()));
    binding["metadata"]["labels"] = json!({"curfew.dev/grant-uid": uid});
    binding["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "name": grant, "uid": uid}]);
    binding
}

fn account(namespace: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": "robot", "namespace": namespace})
}

async fn a_stolen_operator_token_makes_bindings_of_one_shape_only(scene: Scene) {
    let thief = scene.world.installation.operator_user().await.unwrap();
    let home = scene.world.installation.namespace();
    let with = |path: &str, value: Value| {
        let mut binding = its_binding(&scene);
        *binding.pointer_mut(path).unwrap() = value;
        binding
    };
    // What is refused below is refused for what is changed in it.
    would_create(&thief, &its_binding(&scene)).await.unwrap();
    would_create(&thief, &with("/subjects", json!([account(&scene.namespace)])))
        .await
        .unwrap();

    let group = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "sre"});
    let (alice, bob) = (person(scene.alice.name()), person(scene.bob.name()));
    let subjects = "the operator may bind one User (not system:) or one ServiceAccount";
    let (one_subject, one_owner) = (
        "must have exactly one subject",
        "must have exactly one owner, an anchor's IPAddress or the AccessGrant on its label",
    );
    let owner = its_binding(&scene)["metadata"]["ownerReferences"][0].clone();
    let mut second = owner.clone();
    second["uid"] = json!("0d1f");
    let of_kind = |kind: &str, api_version: &str| {
        let mut owner = owner.clone();
        (owner["kind"], owner["apiVersion"]) = (json!(kind), json!(api_version));
        json!([owner])
    };
    let not_here = "the operator may not bind in kube-* namespaces nor in its own";
    let label = "must carry the label curfew.dev/grant-uid";
    let role = |kind, name| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    let not_held = "is attempting to grant RBAC permissions not currently held";
    let shapes = [
        ("/subjects", json!([person("system:admin")]), subjects),
        (
            "/subjects",
            json!([person("system:serviceaccount:default:robot")]),
            subjects,
        ),
        ("/subjects", json!([group]), subjects),
        ("/subjects", json!([account("kube-system")]), subjects),
        ("/subjects", json!([account(home)]), subjects),
        ("/subjects", json!([alice, bob]), one_subject),
        ("/subjects", json!([alice, alice]), one_subject),
        ("/subjects", json!([]), one_subject),
        ("/subjects", json!(null), one_subject),
        ("/metadata/labels", json!(null), label),
        ("/metadata/labels", json!({"curfew.dev/grant-uid": ""}), label),
        (
            "/metadata/finalizers",
            json!(["example.com/held"]),
            "must have no finalizer",
        ),
        ("/metadata/ownerReferences", json!([]), one_owner),
        ("/metadata/ownerReferences", json!([owner, second]), one_owner),
        ("/metadata/ownerReferences", of_kind("Namespace", "v1"), one_owner),
        (
            "/metadata/ownerReferences",
            of_kind("AccessGrant", "other.example/v1"),
            one_owner,
        ),
        ("/metadata/name", json!("no-prefix"), "whose name begins with curfew-"),
        ("/metadata/namespace", json!("kube-system"), not_here),
        ("/metadata/namespace", json!("kube-public"), not_here),
        ("/metadata/namespace", json!(home), not_here),
        // Not what is in a binding but whether the operator may bind it is RBAC's matter.
        ("/roleRef/name", json!("not-listed"), not_held),
        ("/roleRef", role("ClusterRole", "e2e-not-grantable"), not_held),
        // All of which it holds itself: Kubernetes lets it bind that.
        (
            "/roleRef",
            role("ClusterRole", "curfew:operator"),
            "the operator may only bind what it was given the right to bind",
        ),
        // Listed under the other kind.
        ("/roleRef", role("ClusterRole", "reader"), not_held),
        ("/roleRef", role("Role", "e2e-reader"), not_held),
        ("/roleRef", role("ClusterRole", "cluster-admin"), not_held),
    ];
    for (path, value, because) in shapes {
        let binding = with(path, value.clone());
        match would_create(&thief, &binding).await {
            Ok(_) => panic!("{path} {value}: not refused"),
            // RBAC says that a role doesn't exist where it can't even look whether its rules are held.
            Err(refusal) => assert!(
                refusal.contains(because) || (because.contains("RBAC") && refusal.contains("not found")),
                "{path} {value}: {refusal}"
            ),
        }
    }
    let mut everywhere = its_binding(&scene);
    everywhere["kind"] = json!("ClusterRoleBinding");
    everywhere["metadata"].as_object_mut().unwrap().remove("namespace");
    everywhere["roleRef"] =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "e2e-reader"});
    if scene.world.stamps() {
        // The chart's value clusterWide is set there. What is bounded in a namespace is bounded everywhere.
        would_create(&thief, &everywhere).await.unwrap();
        let mut for_all = everywhere.clone();
        for_all["subjects"][0] =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"});
        refused(would_create(&thief, &for_all).await, "never a Group");
        everywhere["roleRef"]["name"] = json!("cluster-admin");
        refused(would_create(&thief, &everywhere).await, not_held);
    } else {
        refused(
            would_create(&thief, &everywhere).await,
            "cannot create resource \"clusterrolebindings\"",
        );
    }
    // It ends what it gave, whoever holds it, also where it gives no more.
    for verb in ["delete", "patch"] {
        for kind in ["rolebindings", "clusterrolebindings"] {
            let kind = format!("{kind}.rbac.authorization.k8s.io");
            assert!(thief.can(verb, &kind, None).await.unwrap(), "{verb} {kind}");
        }
    }
    let bindings = Api::<ClusterRoleBinding>::all(thief.client().unwrap());
    let answer = bindings
        .delete("curfew:operator", &DeleteParams::default().dry_run())
        .await
        .map_err(refusal);
    refused(
        answer,
        "the operator may only touch bindings whose name begins with curfew-",
    );
}

async fn a_stolen_operator_token_changes_no_binding_and_deletes_no_foreign_one(scene: Scene) {
    let thief = scene.world.installation.operator_user().await.unwrap();
    scene.has_policy(&scene.policy()).await;
    scene.granted(&scene.request("look")).await;
    let binding = scene.bindings().await.remove(0);
    let bindings = scene.of::<RoleBinding>(&thief);
    let changes = [
        json!({"subjects": [person(scene.mallory.name())]}),
        json!({"metadata": {"annotations": {"curfew.dev/deadline": "2099-01-01T00:00:00Z"}}}),
        json!({"metadata": {"labels": {"curfew.dev/grant-uid": null}}}),
        json!({"metadata": {"ownerReferences": []}}),
        json!({"metadata": {"finalizers": ["e2e.example/held"]}}),
    ];
    for change in changes {
        refused(
            merges(&bindings, &binding.name_any(), change).await,
            "the operator may not change a binding",
        );
    }
    // RBAC leaves finalizers and owners to whoever may update; this guard doesn't.
    let hold = json!({"metadata": {"finalizers": ["e2e.example/held"]}});
    refused(
        merges(&bindings, "requesters", hold).await,
        "the operator may only touch bindings whose name begins with curfew-",
    );
    let deleted = bindings
        .delete("requesters", &DeleteParams::default())
        .await
        .map_err(refusal);
    refused(
        deleted,
        "the operator may only touch bindings whose name begins with curfew-",
    );
    assert_eq!(scene.bindings().await, [binding]);
    scene.has_access().await;
}

/// A grant to mallory for a request of alice's, with its seal, while the operator looks away: endless, for it is to begin in the far future.
async fn what_a_thief_of_the_token_leaves_behind_gives_nobody_access(scene: Scene) {
    let thief = scene.world.installation.operator_user().await.unwrap();
    scene.has_policy(&scene.policy()).await;
    let granted = scene.granted(&scene.request("look")).await;
    let mut pending = scene.asked(&scene.request("pending")).await;
    let operator = scene.world.installation.operator().unwrap();
    operator.pause().unwrap();
    let name = grant_name(&pending.uid().unwrap());
    let mut spec = serde_json::to_value(&granted.spec).unwrap();
    let reference = json!({"namespace": scene.namespace, "name": "pending", "uid": pending.uid()});
    for (field, forged) in [
        ("request", reference),
        ("subject", json!({"kind": "User", "name": scene.mallory.name()})),
        ("startTime", json!("2998-01-01T00:00:00Z")),
        ("decisions", json!([])),
        ("breakGlass", json!(true)),
        ("anchor", Value::Null),
        ("noAnchor", json!("none can be had")),
    ] {
        spec[field] = forged;
    }
    let forged =
        json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "metadata": {"name": name}, "spec": spec});
    let forged = creates(&thief, &forged).await.unwrap();
    let status = pending.status.as_mut().unwrap();
    status.phase = Some(RequestPhase::Approved);
    status.seal = Some(Seal {
        grant: name,
        uid: forged.uid().unwrap(),
    });
    let requests = scene.of::<AccessRequest>(&thief);
    let sealed = requests
        .replace_status("pending", &PostParams::default(), &pending)
        .await;
    sealed.unwrap();
    operator.resume().unwrap();

    let ended = scene.request_in("pending", RequestPhase::Revoked).await;
    let ended = condition::get(&ended.status.unwrap().conditions, condition::ENDED).cloned();
    assert_eq!(ended.unwrap().reason, "NotAsRequested");
    scene.has_access().await;
    let made = tries(&scene, "create", "rolebindings");
    assert!(
        made.iter()
            .all(|event| event.name != format!("curfew-{}", forged.uid().unwrap()))
    );
}

async fn what_a_thief_of_the_token_leaves_behind_that_no_reader_takes_hides_no_access_and_no_word(scene: Scene) {
    let thief = scene.world.installation.operator_user().await.unwrap();
    scene.has_policy(&scene.policy()).await;
    let granted = scene.granted(&scene.request("look")).await;
    let never = json!("9999-12-31T23:59:59Z");
    // Each for mallory, and none with a seal: one begins on a day that no time has, one's request has no name, and one is for a place that there can't
    // be, too.
    for (name, field, forged) in [
        ("never", "startTime", never.clone()),
        (
            "nameless",
            "request",
            json!({"namespace": scene.namespace, "name": "", "uid": "u"}),
        ),
        (
            "unsealed",
            "targets",
            json!([granted.spec.targets[0], {"namespace": "x/y", "uid": "u"}]),
        ),
    ] {
        let mut spec = serde_json::to_value(&granted.spec).unwrap();
        spec["subject"] = json!({"kind": "User", "name": scene.mallory.name()});
        (spec["anchor"], spec["noAnchor"]) = (Value::Null, json!("none can be had"));
        spec[field] = forged;
        let name = format!("{name}-{}", scene.id);
        let forged = json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "metadata": {"name": name}, "spec": spec});
        let uid = creates(&thief, &forged).await.unwrap().uid().unwrap();
        let mut bound = binding_for(&scene, (&name, &uid), &scene.mallory);
        bound["metadata"]["annotations"] = json!({"curfew.dev/grant": name});
        creates(&thief, &bound).await.unwrap();
        let bindings = Api::<RoleBinding>::namespaced(scene.cluster().admin().client().unwrap(), &scene.namespace);
        gone(bindings, &format!("curfew-{uid}"), "what the thief bound is gone").await;
    }

    let operator = scene.world.installation.operator().unwrap();
    operator.kill().unwrap();
    let requests = scene.of::<AccessRequest>(&thief);
    let mut unread = serde_json::to_value(scene.request_now("look").await).unwrap();
    unread["status"]["expiresAt"] = never.clone();
    unread["status"]["decisions"][0]["firstSeen"] = never;
    let unread = json!({"status": unread["status"]});
    merges_status(&requests, "look", unread).await.unwrap();
    operator.start().await.unwrap();
    scene.has_access().await;
    scene.said(&scene.alice, "look", "revoke").await;
    scene.grant_ended(&granted).await;
    scene.has_no_access().await;
}

async fn a_stolen_operator_token_decides_nothing(scene: Scene) {
    let thief = scene.world.installation.operator_user().await.unwrap();
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    let theirs = scene.request_with("forged", json!({"requester": scene.identity(&scene.alice).await}));
    // The right is there for trials of the guard, and the guard refuses whatever is made of it.
    let asks_for_nothing = "the operator of Curfew asks for nothing";
    refused(creates(&thief, &theirs).await, asks_for_nothing);
    let own = scene.request_with("own", json!({"requester": scene.identity(&thief).await}));
    for request in [own, scene.request("unnamed")] {
        refused(creates(&thief, &request).await, asks_for_nothing);
    }
    let bobs = scene.record(&scene.bob, "look", "approve", None).await;
    let requests = scene.of::<AccessRequest>(&thief);
    refused(
        merges(&requests, "look", json!({"spec": {"decisions": [bobs]}})).await,
        RBAC,
    );
    refused(
        merges(
            &requests,
            "look",
            json!({"metadata": {"annotations": {"curfew.dev/decision": "approve"}}}),
        )
        .await,
        RBAC,
    );
    // Status it may write; nothing else gets in that way.
    let smuggled = json!({"spec": {"decisions": [bobs]}, "metadata": {"annotations": {"curfew.dev/decision": "approve"}, "labels": {"x": "y"}}});
    merges_status(&requests, "look", smuggled).await.unwrap();
    let request = scene.request_now("look").await;
    assert!(
        request.spec.decisions.is_empty()
            && request.labels().is_empty()
            && !request.annotations().contains_key("curfew.dev/decision")
    );
    let secrets = Api::<Secret>::namespaced(thief.client().unwrap(), "kube-system")
        .list(&ListParams::default())
        .await
        .map_err(refusal);
    refused(secrets, "cannot list resource \"secrets\"");
    scene.has_no_access().await;
}

async fn a_stolen_operator_token_has_few_rights(scene: Scene) {
    let thief = scene.world.installation.operator_user().await.unwrap();
    let writing = ["create", "update", "patch", "delete", "deletecollection"];
    // It deletes what has ended, and nothing else: that is admission's matter.
    let changing = ["update", "patch", "deletecollection"];
    let rights: [(&[&str], &str); 20] = [
        (&VERBS, "secrets"),
        (&VERBS, "pods"),
        (&["create"], "pods/exec"),
        (&["create"], "serviceaccounts/token"),
        (&["impersonate"], "users"),
        (&["impersonate"], "groups"),
        (&["impersonate"], "serviceaccounts"),
        (&["bind", "escalate"], "roles.rbac.authorization.k8s.io"),
        (&["bind", "escalate"], "clusterroles.rbac.authorization.k8s.io"),
        (&writing, "roles.rbac.authorization.k8s.io"),
        (&writing, "clusterroles.rbac.authorization.k8s.io"),
        (&["deletecollection"], "clusterrolebindings.rbac.authorization.k8s.io"),
        (&["deletecollection"], "rolebindings.rbac.authorization.k8s.io"),
        (&writing, "namespaces"),
        (&writing, "accesspolicies.curfew.dev"),
        (&changing, "accessrequests.curfew.dev"),
        (&changing, "accessgrants.curfew.dev"),
        (&writing, "validatingadmissionpolicies.admissionregistration.k8s.io"),
        (
            &writing,
            "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        ),
        (&writing, "customresourcedefinitions.apiextensions.k8s.io"),
    ];
    for (verbs, resource) in rights {
        for verb in verbs {
            assert!(
                !thief.can(verb, resource, Some(&scene.namespace)).await.unwrap(),
                "the operator may {verb} {resource}"
            );
        }
    }
    assert!(
        thief.can("create", "accessgrants.curfew.dev", None).await.unwrap(),
        "the question was put right"
    );
}

// ---- what it could forge ----

/// With the operator's token a status can be forged, and with a guard away words be planted. Neither becomes anybody's access.
async fn a_forged_status_lets_nobody_approve_and_planted_words_are_nobodys(scene: Scene) {
    let operator = scene.world.installation.operator().unwrap();
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    operator.pause().unwrap();
    let open =
        json!({"status": {"open": [{"stage": "lead", "required": 1, "missing": 1, "users": [scene.mallory.name()]}]}});
    let thief = scene.world.installation.operator_user().await.unwrap();
    merges_status(&scene.of::<AccessRequest>(&thief), "look", open)
        .await
        .unwrap();
    scene.decides(&scene.mallory, "look", "approve").await.unwrap();
    operator.resume().unwrap();
    let status = scene.weighed("look").await.status.unwrap();
    assert_eq!(status.decisions[0].effect, DecisionEffect::NoEffect);
    assert_eq!(status.open[0].missing, 1);
    let standing = status.offer.unwrap().digest;
    scene.has_no_access().await;

    let admin = scene.cluster().admin();
    let bindings = [
        "get",
        "validatingadmissionpolicybinding",
        "curfew-decisions",
        "-o",
        "json",
    ];
    let guard: Value = serde_json::from_str(&admin.kubectl(bindings).await.unwrap().ok().unwrap()).unwrap();
    scene.world.remove_guard("curfew-decisions").await;
    let plant = json!({"metadata": {"annotations": {"curfew.dev/comment": "granted for ever"}}});
    let requests = scene.of::<AccessRequest>(&scene.mallory);
    eventually("the guard is gone", async || {
        merges(&requests, "look", plant.clone()).await.is_ok()
    })
    .await;
    let binding = json!({
        "apiVersion": guard["apiVersion"], "kind": guard["kind"], "spec": guard["spec"],
        "metadata": {"name": guard["metadata"]["name"], "labels": guard["metadata"]["labels"]},
    });
    creates(admin, &binding).await.unwrap();
    let probe = json!({"metadata": {"annotations": {"curfew.dev/decision": "nonsense"}}});
    let dry = kube::api::PatchParams {
        dry_run: true,
        ..kube::api::PatchParams::default()
    };
    eventually("the guard is back", async || {
        requests
            .patch("look", &dry, &kube::api::Patch::Merge(&probe))
            .await
            .is_err()
    })
    .await;
    // It is another guard by now, so there is another offer, once it was tried out.
    let offered = |request: &AccessRequest| {
        let offer = request.status.as_ref().and_then(|status| status.offer.as_ref());
        offer.is_some_and(|offer| offer.digest != standing)
    };
    scene.request_that("look", "another offer", offered).await;
    refused(
        scene.decides(&scene.bob, "look", "approve").await,
        "words left by an earlier write are in the way",
    );
    let cleared = json!({"metadata": {"annotations": {"curfew.dev/comment": null}}});
    merges(&scene.of::<AccessRequest>(&scene.bob), "look", cleared)
        .await
        .unwrap();
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    let decisions = scene.active("look").await.spec.decisions;
    assert_eq!(decisions.len(), 1);
    assert_eq!(
        (decisions[0].username.as_str(), decisions[0].comment.as_deref()),
        (scene.bob.name(), None)
    );
}
