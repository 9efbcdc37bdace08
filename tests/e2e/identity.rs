//! Who spoke: nobody asks in another's name, or writes what only the operator writes, and names are what the API server takes them for.

use curfew::api::{AccessRequest, RequestPhase, Verdict};
use curfew_testbed::User;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::decisions::{is_offered, offered, two_must_approve, writes};
use crate::scene::{Scene, Word, creates, merges, merges_status, refused};
use crate::service_accounts::bind;
use crate::world::{Case, cases_on_both};

pub fn cases() -> Vec<Case> {
    cases_on_both![
        a_record_says_who_spoke_about_what_and_how,
        case_15_no_request_is_born_in_anothers_name,
        case_15_no_request_is_born_decided_or_granted,
        case_19_write_access_to_requests_approves_nothing,
        case_20_names_are_compared_byte_for_byte,
        case_20_kubernetes_own_accounts_are_given_nothing,
        case_20_a_comment_is_kept_to_the_letter,
        case_21_nobody_writes_status_but_the_operator,
        case_22_nobody_makes_or_edits_a_grant,
    ]
}

async fn a_record_says_who_spoke_about_what_and_how(scene: Scene) {
    scene.has_policy(&two_must_approve(&scene)).await;
    let offer = offered(&scene, "look").await;
    let word = format!("approve:{}", offer.code);
    scene
        .said(
            &scene.bob,
            "look",
            Word {
                word: &word,
                comment: Some("seen"),
            },
        )
        .await;
    let said = scene.request_now("look").await.spec.decisions;
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].verdict, Verdict::Approve);
    assert_eq!(
        (said[0].username.as_str(), said[0].uid.as_str()),
        (scene.bob.name(), format!("uid-bob-{}", scene.id).as_str())
    );
    assert_eq!(said[0].via, [format!("lead/Group:sre-{}", scene.id)]);
    assert_eq!(
        (said[0].offer.as_str(), said[0].code.as_deref()),
        (offer.digest.as_str(), Some(offer.code.as_str()))
    );
    assert_eq!((said[0].comment.as_deref(), said[0].direct), (Some("seen"), true));
    let annotations = scene.request_now("look").await.annotations().clone();
    assert!(
        !annotations.keys().any(|key| key.starts_with("curfew.dev/")),
        "{annotations:?}"
    );
}

async fn case_15_no_request_is_born_in_anothers_name(scene: Scene) {
    let (alice, bob) = (scene.identity(&scene.alice).await, scene.identity(&scene.bob).await);
    let with = |field: &str, value: Value| {
        let mut identity = alice.clone();
        identity[field] = value;
        identity
    };
    let mut groups = alice["groups"].as_array().unwrap().clone();
    groups.push(json!(format!("sre-{}", scene.id)));
    let others = [
        bob,
        with("username", json!(scene.alice.name().to_uppercase())),
        with("uid", json!("")),
        with("uid", json!(format!("uid-bob-{}", scene.id))),
        with("groups", json!(groups)),
        with("groups", json!([])),
    ];
    for requester in others {
        let request = scene.request_with("look", json!({"requester": requester}));
        refused(creates(&scene.alice, &request).await, "spec.requester must be you");
    }
    let in_her_name = scene.request_with("look", json!({"requester": alice}));
    for other in [&scene.mallory, scene.cluster().admin()] {
        refused(creates(other, &in_her_name).await, "spec.requester must be you");
    }
    if scene.world.stamps() {
        creates(&scene.alice, &scene.request("look")).await.unwrap();
        let stamped = serde_json::to_value(scene.request_now("look").await.spec.requester).unwrap();
        assert_eq!(stamped, alice);
    } else {
        refused(
            creates(&scene.alice, &scene.request("look")).await,
            "kubectl curfew request",
        );
    }
}

async fn case_15_no_request_is_born_decided_or_granted(scene: Scene) {
    let alice = scene.identity(&scene.alice).await;
    let word = |user: &User| json!({"verdict": "Approve", "username": user.name(), "via": [format!("lead/User:{}", user.name())]});
    for user in [&scene.alice, &scene.bob] {
        let request = scene.request_with("look", json!({"requester": alice, "decisions": [word(user)]}));
        refused(creates(&scene.alice, &request).await, "spec.decisions must be empty");
    }
    for (annotation, value) in [("curfew.dev/decision", "approve"), ("curfew.dev/comment", "I agree")] {
        let mut request = scene.request_with("look", json!({"requester": alice}));
        request["metadata"]["annotations"] = json!({annotation: value});
        refused(
            creates(&scene.alice, &request).await,
            "a new request can't carry the annotations",
        );
    }
    let mut request = scene.request_with("look", json!({"requester": alice}));
    request["status"] = json!({
        "phase": "Active", "grant": "mine", "seal": {"grant": "mine", "uid": "mine"},
        "offer": {"digest": "mine", "code": "mine", "duration": "5m"},
        "open": [{"stage": "lead", "required": 1, "missing": 1, "users": [scene.mallory.name()]}],
    });
    let stored = creates(&scene.alice, &request).await.unwrap();
    assert_eq!(stored.data.get("status"), None);
    scene.has_policy(&scene.policy()).await;
    let status = scene.request_that("look", "an offer", is_offered).await.status.unwrap();
    assert_eq!(
        (status.phase, status.seal, status.grant),
        (Some(RequestPhase::Pending), None, None)
    );
    scene.has_no_access().await;
}

async fn case_19_write_access_to_requests_approves_nothing(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    for word in ["approve", "deny", "revoke"] {
        refused(
            scene.decides(&scene.mallory, "look", word).await,
            "you are not among those who may",
        );
    }
    // Not by saying that something lets them in, either.
    let own = scene.record(&scene.mallory, "look", "approve", None).await;
    let bob = scene.bob.name();
    for via in [
        format!("lead/Group:sre-{}", scene.id),
        format!("lead/User:{bob}"),
        "requester".into(),
        "*/Group:outsiders".into(),
    ] {
        let mut record = own.clone();
        record["via"] = json!([via]);
        refused(
            writes(&scene, &scene.mallory, "look", &record).await,
            "you are not among those who may",
        );
    }
    // And whoever may, says by what and about what, truly.
    let own = scene.record(&scene.bob, "look", "approve", None).await;
    let lies = [
        ("via", json!([format!("lead/User:{bob}")]), "via must say exactly"),
        (
            "via",
            json!([format!("other/Group:sre-{}", scene.id)]),
            "via must say exactly",
        ),
        ("direct", json!(false), "direct must say"),
        ("offer", json!(""), "the offer is another by now"),
        ("offer", json!("another"), "the offer is another by now"),
        ("code", json!("00000000"), "the code isn't that of the offer"),
    ];
    for (field, value, because) in lies {
        let mut record = own.clone();
        record[field] = value;
        refused(writes(&scene, &scene.bob, "look", &record).await, because);
    }
    assert!(scene.request_now("look").await.spec.decisions.is_empty());
    scene.has_no_access().await;
}

async fn case_20_names_are_compared_byte_for_byte(scene: Scene) {
    let (alice, bob) = (scene.alice.name(), scene.bob.name());
    let mut policy = scene.policy();
    policy["spec"]["approval"]["stages"][0]["approvers"] =
        json!({"users": [bob], "groups": [format!("sre-{}", scene.id)]});
    scene.has_policy(&policy).await;
    scene.asked(&scene.request("look")).await;
    for name in [
        bob.to_uppercase(),
        format!("{bob} "),
        format!(" {bob}"),
        bob.replace('o', "о"),
    ] {
        let other = scene
            .cluster()
            .user(&name)
            .group(&format!("SRE-{}", scene.id))
            .group(&format!("sre-{} ", scene.id))
            .build()
            .await
            .unwrap();
        bind(
            &scene,
            "deciders",
            ("ClusterRole", "curfew-approver"),
            &other,
            ("patch", "accessrequests.curfew.dev"),
        )
        .await;
        refused(
            scene.decides(&other, "look", "approve").await,
            "you are not among those who may approve",
        );
    }
    for (number, name) in [alice.to_uppercase(), format!("{alice} "), format!(" {alice}")]
        .into_iter()
        .enumerate()
    {
        let other = scene
            .cluster()
            .user(&name)
            .group(&format!("dev-{}", scene.id))
            .build()
            .await
            .unwrap();
        let request = format!("other-{number}");
        scene.asks(&other, &scene.request(&request)).await.ok().unwrap();
        scene.request_blocked_by(&request, "NoPolicyFits").await;
    }
    scene.has_no_access().await;
}

async fn case_20_kubernetes_own_accounts_are_given_nothing(scene: Scene) {
    let name = format!("system:somebody-{}", scene.id);
    let somebody = scene
        .cluster()
        .user(&name)
        .group(&format!("dev-{}", scene.id))
        .build()
        .await
        .unwrap();
    scene
        .has_policy(&scene.policy_with(json!({"requesters": {"users": [name]}})))
        .await;
    scene.asks(&somebody, &scene.request("look")).await.ok().unwrap();
    scene.request_blocked_by("look", "ProtectedSubject").await;
    refused(
        scene.decides(&scene.bob, "look", "approve").await,
        "there is no offer to decide on yet",
    );
    // A service account is named as one, or not at all.
    let disguised = json!({"requesters": {"users": [format!("system:serviceaccount:{}:robot", scene.namespace)]}});
    let mut policy = scene.policy_with(disguised);
    policy["metadata"]["name"] = json!(format!("disguised-{}", scene.id));
    refused(
        creates(scene.cluster().admin(), &policy).await,
        "service accounts are named under serviceAccounts",
    );
}

async fn case_20_a_comment_is_kept_to_the_letter(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    let comment =
        "it's \"fine\"\\n\n\", \"verdict\": \"Deny\", \"x\": \"\r\t' + 'x' {{.}} $(id) `id` %s \u{1F98A} \u{202E}<b>";
    scene
        .said(
            &scene.bob,
            "look",
            Word {
                word: "approve",
                comment: Some(comment),
            },
        )
        .await;
    let grant = scene.active("look").await;
    let request = scene.request_now("look").await;
    for decisions in [request.spec.decisions, grant.spec.decisions] {
        assert_eq!(decisions.len(), 1);
        assert_eq!(
            (decisions[0].verdict, decisions[0].username.as_str()),
            (Verdict::Approve, scene.bob.name())
        );
        assert_eq!(decisions[0].comment.as_deref(), Some(comment));
    }
    scene.asked(&scene.request("again")).await;
    let long = "x".repeat(1025);
    refused(
        scene
            .decides(
                &scene.bob,
                "again",
                Word {
                    word: "approve",
                    comment: Some(&long),
                },
            )
            .await,
        "Too long",
    );
}

async fn case_21_nobody_writes_status_but_the_operator(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let before = scene.asked(&scene.request("look")).await.status;
    let open = json!({"status": {"open": [{"stage": "lead", "required": 1, "missing": 1, "users": [scene.mallory.name(), scene.alice.name()]}]}});
    refused(
        merges_status(&scene.of::<AccessRequest>(&scene.alice), "look", open.clone()).await,
        "cannot patch resource \"accessrequests/status\"",
    );
    for user in [&scene.mallory, scene.cluster().admin()] {
        for status in [
            open.clone(),
            json!({"status": {"phase": "Denied"}}),
            json!({"status": null}),
        ] {
            refused(
                merges_status(&scene.of::<AccessRequest>(user), "look", status).await,
                "only Curfew's operator writes",
            );
        }
    }
    assert_eq!(scene.request_now("look").await.status, before);
    refused(
        scene.decides(&scene.mallory, "look", "approve").await,
        "you are not among those who may approve",
    );
}

async fn case_22_nobody_makes_or_edits_a_grant(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    let (name, grants) = (grant.name_any(), scene.grants());

    let mut another = serde_json::to_value(&grant).unwrap();
    another["metadata"] = json!({"name": format!("another-{}", scene.id)});
    refused(
        creates(scene.cluster().admin(), &another).await,
        "only Curfew's operator writes AccessGrants",
    );

    let edits = [
        (json!({"spec": {"duration": "8h"}}), "a grant can't be changed"),
        (
            json!({"spec": {"subject": {"kind": "User", "name": scene.mallory.name()}}}),
            "a grant can't be changed",
        ),
        (
            json!({"spec": {"revokers": {"users": [scene.mallory.name()], "groups": []}}}),
            "a grant can't be changed",
        ),
        (json!({"spec": {"reason": null}}), "a grant can't be changed"),
        (
            json!({"metadata": {"labels": {"x": "y"}}}),
            "only Curfew's operator writes AccessGrants",
        ),
        (
            json!({"metadata": {"finalizers": ["e2e.example/held"]}}),
            "only Curfew's operator writes AccessGrants",
        ),
    ];
    for (edit, because) in edits {
        refused(merges(&grants, &name, edit).await, because);
    }
    let ended = json!({"status": {"phase": "Ended", "end": {"reason": "Revoked", "message": "by hand"}}});
    refused(
        merges_status(&grants, &name, ended).await,
        "only Curfew's operator writes AccessGrants",
    );
    assert_eq!(grants.get(&name).await.unwrap().spec, grant.spec);
    scene.has_access().await;
}
