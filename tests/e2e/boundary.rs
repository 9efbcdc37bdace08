//! The boundary inside the API server: which words and which changes of requests are refused, to whom, and in what words.
//!
//! Cluster admins are held to it like everyone else. Bindings are in [`crate::reserved`], the operator's own token in [`crate::stolen_token`].

use std::collections::BTreeSet;

use curfew::api::{AccessGrant, AccessPolicy, AccessRequest, RequestPhase};
use curfew_testbed::User;
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::scene::{Scene, creates, merges, merges_status, refusal, refused};
use crate::world::{Case, cases};

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
            a_cluster_admin_writes_neither_status_nor_grants;
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
            a_cluster_admin_writes_neither_status_nor_grants;
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

/// `user` annotates the request `look` with this word, whatever the API server does with it.
async fn annotates(scene: &Scene, user: &User, word: &str) -> Result<AccessRequest, String> {
    merges(
        &scene.of(user),
        "look",
        json!({"metadata": {"annotations": {"curfew.dev/decision": word}}}),
    )
    .await
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
