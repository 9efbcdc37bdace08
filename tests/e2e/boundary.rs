//! The boundary inside the API server: what is refused, to whom, and in what words.
//!
//! Cluster admins are held to it like everyone else, and so is whoever got hold of the operator's own token.

use std::collections::BTreeSet;

use curfew::api::{AccessGrant, AccessPolicy, AccessRequest, DecisionEffect, EndReason, RequestPhase};
use curfew_testbed::User;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::scene::{Scene, creates, merges, merges_status, refusal, refused, would_create};
use crate::tools::{eventually, watched};
use crate::world::{Case, cases};

/// What a refusal says when it was RBAC that refused.
const RBAC: &str = "cannot ";
const RESERVED: &str = "are reserved for Curfew: choose another name";

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            words_that_mean_nothing_are_refused_with_those_that_mean_something,
            a_wrong_code_is_refused_and_the_right_one_named,
            one_write_holds_one_word,
            other_annotations_may_come_with_a_decision,
            the_status_in_a_clients_put_counts_for_nothing,
            nothing_is_decided_before_there_is_an_offer,
            once_granted_only_a_revocation_is_taken,
            decisions_are_never_changed_removed_or_reordered,
            case_26_no_field_of_a_request_changes_nor_is_set_or_unset_later,
            a_cluster_admin_writes_neither_status_nor_grants,
            a_stolen_operator_token_makes_bindings_of_one_shape_only,
            a_stolen_operator_token_changes_no_binding_and_deletes_no_foreign_one,
            a_stolen_operator_token_decides_nothing,
            a_stolen_operator_token_has_few_rights,
            reserved_names_and_labels_are_refused_to_everyone_else,
            deleting_a_reserved_binding_is_allowed_and_ends_access,
            kubectl_create_rolebinding_is_told_what_to_do,
            case_58a_nobody_holds_a_managed_binding_by_a_finalizer_or_a_second_owner,
            an_active_grant_doesnt_wedge_the_deletion_of_its_namespace,
            a_grant_deleted_in_the_foreground_ends,
            a_grant_deleted_with_orphans_ends_all_the_same;
        Older []:
            without_stamping_plain_annotate_is_refused_with_the_command_to_use,
            words_that_mean_nothing_are_refused_with_those_that_mean_something,
            a_wrong_code_is_refused_and_the_right_one_named,
            one_write_holds_one_word,
            the_status_in_a_clients_put_counts_for_nothing,
            nothing_is_decided_before_there_is_an_offer,
            once_granted_only_a_revocation_is_taken,
            decisions_are_never_changed_removed_or_reordered,
            case_26_no_field_of_a_request_changes_nor_is_set_or_unset_later,
            a_cluster_admin_writes_neither_status_nor_grants,
            a_stolen_operator_token_makes_bindings_of_one_shape_only,
            a_stolen_operator_token_changes_no_binding_and_deletes_no_foreign_one,
            a_stolen_operator_token_decides_nothing,
            reserved_names_and_labels_are_refused_to_everyone_else,
            case_58a_nobody_holds_a_managed_binding_by_a_finalizer_or_a_second_owner,
            a_grant_deleted_in_the_foreground_ends;
        Alone []:
            a_forged_status_lets_nobody_approve_and_planted_words_are_nobodys;
    ]
}

// ---- words ----

async fn without_stamping_plain_annotate_is_refused_with_the_command_to_use(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    for (user, word) in [
        (&scene.bob, "approve"),
        (&scene.bob, "deny"),
        (&scene.bob, "revoke"),
        (&scene.alice, "revoke"),
    ] {
        let annotation = format!("curfew.dev/decision={word}");
        let refusal = scene
            .kubectl(user, &["annotate", "accessrequest", "look", &annotation])
            .await
            .refused()
            .unwrap();
        let instead = format!("Use: kubectl curfew {word} look -n {}", scene.namespace);
        assert!(
            refusal.contains("that takes Kubernetes 1.36") && refusal.contains(&instead),
            "{refusal}"
        );
    }
    let request = scene.request_now("look").await;
    assert!(
        request.annotations().keys().all(|key| !key.starts_with("curfew.dev/")) && request.spec.decisions.is_empty()
    );
    scene.has_no_access().await;
}

async fn words_that_mean_nothing_are_refused_with_those_that_mean_something(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    let allowed = "curfew.dev/decision must be approve, approve:CODE (the code of the offer), deny, revoke or review";
    for word in [
        "nonsense",
        "",
        "Approve",
        "APPROVE",
        "approve ",
        " approve",
        "approved",
        "deny:1",
        "revoke now",
        "approve,deny",
    ] {
        refused(annotates(&scene, &scene.bob, word).await, allowed);
    }
    refused(annotates(&scene, &scene.mallory, "nonsense").await, allowed);
    let answer = scene
        .kubectl(
            &scene.bob,
            &["annotate", "accessrequest", "look", "curfew.dev/decision=nonsense"],
        )
        .await;
    let refusal = answer.refused().unwrap();
    assert!(refusal.contains(allowed), "{refusal}");
    assert!(scene.request_now("look").await.spec.decisions.is_empty());
}

async fn a_wrong_code_is_refused_and_the_right_one_named(scene: Scene) {
    scene.has_policy(&scene.policy_with(json!({"requireCode": true}))).await;
    let offer = scene.asked(&scene.request("look")).await.status.unwrap().offer.unwrap();
    let which = format!("which is {}", offer.code);
    for wrong in [
        "00000000",
        "",
        &offer.digest,
        &offer.code[..7],
        &format!("{} ", offer.code),
        &format!("approve:{}", offer.code),
    ] {
        refused(annotates(&scene, &scene.bob, &format!("approve:{wrong}")).await, &which);
    }
    // Who leaves it out is told what to type.
    refused(
        annotates(&scene, &scene.bob, "approve").await,
        &format!("look -n {} curfew.dev/decision=approve:{}", scene.namespace, offer.code),
    );
    scene
        .decides(&scene.bob, "look", format!("approve:{}", offer.code).as_str())
        .await
        .unwrap();
    assert_eq!(scene.active("look").await.spec.decisions[0].code, Some(offer.code));
}

async fn one_write_holds_one_word(scene: Scene) {
    let mut policy = scene.policy();
    policy["spec"]["approval"]["stages"][0]["required"] = json!(2);
    scene.has_policy(&policy).await;
    scene.asked(&scene.request("look")).await;
    let record = scene.record(&scene.bob, "look", "approve", None).await;
    let denial = scene.record(&scene.bob, "look", "deny", None).await;
    let requests = scene.of::<AccessRequest>(&scene.bob);
    let two = scene.decisions_and("look", &[record.clone(), denial]).await;
    refused(
        merges(&requests, "look", json!({"spec": {"decisions": two}})).await,
        "one decision at a time",
    );

    let one = scene.decisions_and("look", &[record]).await;
    for (word, because) in [
        (
            "approve",
            if scene.world.stamps() {
                "one decision at a time"
            } else {
                "not by both"
            },
        ),
        ("nonsense", "not by both"),
    ] {
        let both = json!({"metadata": {"annotations": {"curfew.dev/decision": word}}, "spec": {"decisions": one}});
        refused(merges(&requests, "look", both).await, because);
    }
    let comment = json!({"metadata": {"annotations": {"curfew.dev/comment": "hm"}}, "spec": {"decisions": one}});
    refused(merges(&requests, "look", comment).await, "not by both");
    assert!(scene.request_now("look").await.spec.decisions.is_empty());
}

async fn other_annotations_may_come_with_a_decision(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    let all = [
        "curfew.dev/comment=all is well",
        "curfew.dev/decision=approve",
        "team.example/ticket=OPS-7",
    ];
    scene
        .kubectl(
            &scene.bob,
            &[["annotate", "accessrequest", "look"].as_slice(), &all].concat(),
        )
        .await
        .ok()
        .unwrap();
    let decision = scene.active("look").await.spec.decisions.remove(0);
    assert_eq!(
        (decision.username.as_str(), decision.comment.as_deref()),
        (scene.bob.name(), Some("all is well"))
    );
    let kept = scene.request_now("look").await.annotations().clone();
    assert_eq!(kept["team.example/ticket"], "OPS-7");
    assert!(
        !kept.contains_key("curfew.dev/decision") && !kept.contains_key("curfew.dev/comment"),
        "{kept:?}"
    );
}

async fn the_status_in_a_clients_put_counts_for_nothing(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let before = scene.asked(&scene.request("look")).await;
    let record = scene.record(&scene.mallory, "look", "approve", None).await;
    let requests = scene.of::<AccessRequest>(&scene.mallory);
    // A client's own status, which lets mallory in, with each way to decide.
    let forged = async |change: &dyn Fn(&mut AccessRequest)| loop {
        let mut request = requests.get("look").await.unwrap();
        let status = request.status.as_mut().unwrap();
        status.open[0].users = vec![scene.mallory.name().to_owned()];
        status.revokers.as_mut().unwrap().users = vec![scene.mallory.name().to_owned()];
        change(&mut request);
        match requests.replace("look", &PostParams::default(), &request).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            answer => return answer.map_err(refusal),
        }
    };
    let annotated = forged(&|request| {
        drop(
            request
                .annotations_mut()
                .insert("curfew.dev/decision".into(), "approve".into()),
        )
    })
    .await;
    refused(annotated, "you are not among those who may approve");
    let recorded = forged(&|request| {
        request
            .spec
            .decisions
            .push(serde_json::from_value(record.clone()).unwrap())
    })
    .await;
    refused(recorded, "you are not among those who may approve");
    // What else is in the PUT is taken, the status isn't.
    let labelled = forged(&|request| drop(request.labels_mut().insert("x".into(), "y".into())))
        .await
        .unwrap();
    assert_eq!(
        (labelled.labels()["x"].as_str(), &labelled.status),
        ("y", &before.status)
    );
    scene.has_no_access().await;
}

async fn nothing_is_decided_before_there_is_an_offer(scene: Scene) {
    scene.asks(&scene.alice, &scene.request("early")).await.ok().unwrap();
    for word in ["approve", "approve:", "approve:00000000", "deny"] {
        refused(
            scene.decides(&scene.bob, "early", word).await,
            "there is no offer to decide on yet. Try again in a second",
        );
    }
    scene.request_blocked_by("early", "NoPolicyFits").await;
    refused(
        scene.decides(&scene.bob, "early", "approve").await,
        "there is no offer to decide on yet",
    );
    refused(
        scene.decides(&scene.mallory, "early", "revoke").await,
        "you are not among those who may revoke",
    );
    // Taking it back needs no offer.
    scene.decides(&scene.alice, "early", "revoke").await.unwrap();
    scene.request_in("early", RequestPhase::Withdrawn).await;
}

async fn once_granted_only_a_revocation_is_taken(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    let code = scene.request_now("look").await.status.unwrap().offer.unwrap().code;
    for (user, word) in [
        (&scene.carol, "approve"),
        (&scene.carol, format!("approve:{code}").as_str()),
        (&scene.carol, "deny"),
        (&scene.bob, "deny"),
    ] {
        let because = "this request was granted already: all that can be said now is curfew.dev/decision=revoke";
        refused(scene.decides(user, "look", word).await, because);
    }
    scene.has_access().await;
    scene.decides(&scene.carol, "look", "revoke").await.unwrap();
    scene.grant_ended(&grant).await;
    let because = "this request has ended (Revoked): nothing can be decided on it any more";
    scene.request_in("look", RequestPhase::Revoked).await;
    for word in ["approve", "deny", "revoke"] {
        refused(scene.decides(&scene.carol, "look", word).await, because);
    }
    scene.has_no_access().await;
}

// ---- what never changes ----

async fn decisions_are_never_changed_removed_or_reordered(scene: Scene) {
    let mut policy = scene.policy();
    policy["spec"]["approval"]["stages"][0]["required"] = json!(3);
    scene.has_policy(&policy).await;
    scene.asked(&scene.request("look")).await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    scene.decides(&scene.carol, "look", "approve").await.unwrap();
    let stored = scene.decisions_and("look", &[]).await;
    let (first, second) = (stored[0].clone(), stored[1].clone());
    let changed = |field: &str, value: Value| {
        let mut record = first.clone();
        record[field] = value;
        json!([record, second])
    };
    let lists = [
        Value::Null,
        json!([]),
        json!([first]),
        json!([second]),
        json!([second, first]),
        json!([first, first]),
        json!([second, first, second]),
        changed("verdict", json!("Deny")),
        changed("username", json!(scene.mallory.name())),
        changed("uid", json!("another")),
        changed("via", json!(["lead/User:x"])),
        changed("comment", json!("I didn't say this")),
        changed("offer", json!("another")),
        changed("code", json!("another")),
        changed("direct", json!(false)),
    ];
    for list in lists {
        for user in [&scene.bob, scene.cluster().admin()] {
            let patch = json!({"spec": {"decisions": list}});
            refused(
                merges(&scene.of::<AccessRequest>(user), "look", patch).await,
                "decisions are only ever added at the end",
            );
        }
    }
    assert_eq!(scene.decisions_and("look", &[]).await, stored);
}

/// Case 27 too: a field that isn't set can't be set later. The table is checked against the schema, so that a new field is thought of.
async fn case_26_no_field_of_a_request_changes_nor_is_set_or_unset_later(scene: Scene) {
    let requester = scene.identity(&scene.alice).await;
    let optional = [
        ("policy", json!("one"), json!("another")),
        ("namespaces", json!(["a", "b"]), json!(["a"])),
        ("namespacesFromPolicy", json!(false), json!(true)),
        ("clusterWide", json!(false), json!(true)),
        ("duration", json!("60m"), json!("1h")),
        (
            "startTime",
            json!("2030-01-01T00:00:00Z"),
            json!("2030-01-01T00:00:01Z"),
        ),
        ("extends", json!("one"), json!("another")),
        ("reason", json!("one"), json!("")),
    ];
    let bare = json!({"requester": requester, "duration": null, "reason": null});
    let mut full = json!({"requester": requester});
    optional
        .iter()
        .for_each(|(field, value, _)| full[*field] = value.clone());
    creates(&scene.alice, &scene.request_with("bare", bare)).await.unwrap();
    // An extension begins at once.
    let mut later = full.clone();
    later["extends"].take();
    full["startTime"].take();
    creates(&scene.alice, &scene.request_with("full", full)).await.unwrap();
    creates(&scene.alice, &scene.request_with("later", later))
        .await
        .unwrap();

    let requests = scene.requests();
    for (field, value, other) in &optional {
        let because = format!("{field} can't be changed");
        let has_it = if *field == "startTime" { "later" } else { "full" };
        for change in [other, &Value::Null] {
            refused(
                merges(&requests, has_it, json!({"spec": {*field: change}})).await,
                &because,
            );
        }
        refused(
            merges(&requests, "bare", json!({"spec": {*field: value}})).await,
            &because,
        );
    }
    let mut groups = requester["groups"].as_array().unwrap().clone();
    groups.reverse();
    let always_set = [
        ("role", json!({"name": "other"}), "role can't be changed"),
        ("role", json!({"kind": "ClusterRole"}), "role can't be changed"),
        ("role", json!(null), "spec.role: Required value"),
        (
            "requester",
            json!({"username": scene.mallory.name()}),
            "requester can't be changed",
        ),
        ("requester", json!({"uid": "another"}), "requester can't be changed"),
        ("requester", json!({"uid": null}), "requester can't be changed"),
        ("requester", json!({"groups": groups}), "requester can't be changed"),
        ("requester", json!({"groups": null}), "requester can't be changed"),
        ("requester", json!(null), "requester can't be changed"),
    ];
    for name in ["bare", "full"] {
        for (field, value, because) in &always_set {
            refused(merges(&requests, name, json!({"spec": {*field: value}})).await, because);
        }
    }
    let tried: BTreeSet<&str> = optional
        .iter()
        .map(|(field, ..)| *field)
        .chain(["role", "requester", "decisions"])
        .collect();
    assert_eq!(tried, fields_of_a_request().iter().map(String::as_str).collect());
    // What isn't spec is free.
    merges(
        &scene.of::<AccessRequest>(&scene.alice),
        "bare",
        json!({"metadata": {"labels": {"x": "y"}}}),
    )
    .await
    .unwrap();
}

fn fields_of_a_request() -> Vec<String> {
    let [_, definition, _] = curfew::api::definitions();
    let schema = definition.spec.versions[0]
        .schema
        .clone()
        .unwrap()
        .open_api_v3_schema
        .unwrap();
    schema.properties.unwrap()["spec"]
        .properties
        .clone()
        .unwrap()
        .into_keys()
        .collect()
}

async fn a_cluster_admin_writes_neither_status_nor_grants(scene: Scene) {
    let because = "only Curfew's operator writes AccessGrants and the status of its objects";
    let policy = scene.has_policy(&scene.policy()).await;
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2030-01-01T00:00:00Z"}]}});
    for status in [ready, json!({"status": null})] {
        refused(
            merges_status::<AccessPolicy>(&scene.policies(), &policy.name_any(), status).await,
            because,
        );
    }
    let grant = scene.granted(&scene.request("look")).await;
    for status in [
        json!({"status": {"phase": "Ended"}}),
        json!({"status": {"bindings": []}}),
        json!({"status": null}),
    ] {
        refused(
            merges_status::<AccessGrant>(&scene.grants(), &grant.name_any(), status).await,
            because,
        );
    }
    refused(
        merges_status(&scene.requests(), "look", json!({"status": {"seal": null}})).await,
        because,
    );
    let mut another = serde_json::to_value(&grant).unwrap();
    another["metadata"] = json!({"name": format!("by-hand-{}", scene.id)});
    refused(creates(scene.cluster().admin(), &another).await, because);
    scene.has_access().await;
}

// ---- the operator's token in other hands ----

/// What the operator itself makes, for a grant that doesn't exist.
fn its_binding(scene: &Scene) -> Value {
    let mut binding = scene.binding("curfew-0d1e", ("Role", "reader"), person(scene.alice.name()));
    binding["metadata"]["labels"] = json!({"curfew.dev/grant-uid": "0d1e"});
    binding["metadata"]["finalizers"] = json!([]);
    binding["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "name": "g", "uid": "0d1e"}]);
    binding
}

fn person(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
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
        (
            "/roleRef/name",
            json!("not-listed"),
            "is attempting to grant RBAC permissions not currently held",
        ),
        (
            "/roleRef",
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "e2e-not-grantable"}),
            "is attempting to grant RBAC permissions not currently held",
        ),
        // Listed under the other kind.
        (
            "/roleRef",
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"}),
            "is attempting to grant RBAC permissions not currently held",
        ),
        (
            "/roleRef",
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "e2e-reader"}),
            "is attempting to grant RBAC permissions not currently held",
        ),
        (
            "/roleRef",
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}),
            "is attempting to grant RBAC permissions not currently held",
        ),
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
        refused(
            would_create(&thief, &everywhere).await,
            "is attempting to grant RBAC permissions not currently held",
        );
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
    let everything = [
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
    ];
    let writing = ["create", "update", "patch", "delete", "deletecollection"];
    // It deletes what has ended, and nothing else: that is admission's matter.
    let changing = ["update", "patch", "deletecollection"];
    let rights: [(&[&str], &str); 20] = [
        (&everything, "secrets"),
        (&everything, "pods"),
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

// ---- reserved names and labels ----

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
    let namespaces = Api::<Namespace>::all(scene.cluster().admin().client().unwrap());
    namespaces
        .delete(&scene.namespace, &DeleteParams::default())
        .await
        .unwrap();
    watched(
        namespaces,
        &scene.namespace,
        "the namespace is gone",
        |namespace: Option<&Namespace>| namespace.is_none(),
    )
    .await;
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
    watched(
        scene.grants(),
        &grant.name_any(),
        "the grant is gone",
        |grant: Option<&AccessGrant>| grant.is_none(),
    )
    .await;
    scene.loses_access().await;
    scene.request_in("look", RequestPhase::Revoked).await;
}

// ---- what holds even then ----

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
    let weighed = |request: &AccessRequest| {
        request
            .status
            .as_ref()
            .is_some_and(|status| status.decisions.len() == 1)
    };
    let status = scene
        .request_that("look", "the word was weighed", weighed)
        .await
        .status
        .unwrap();
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

/// `user` annotates the request `look` with this word, whatever the API server does with it.
async fn annotates(scene: &Scene, user: &User, word: &str) -> Result<AccessRequest, String> {
    merges(
        &scene.of(user),
        "look",
        json!({"metadata": {"annotations": {"curfew.dev/decision": word}}}),
    )
    .await
}
