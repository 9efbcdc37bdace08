//! Who spoke: nobody asks or decides in another's name, and nobody's word counts but theirs whom the policy names.

use curfew::api::{AccessGrant, AccessRequest, DecisionEffect, Offer, RequestPhase, Verdict};
use curfew_testbed::User;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::scene::{Scene, Word, creates, merges, merges_status, person, readiness, refused};
use crate::tools::{eventually, gone};
use crate::world::{Case, cases};

/// Each promise with the annotation, and again where the API server doesn't stamp.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => { cases![Shipped []: $($name),+; Older []: $($name),+] };
}

pub fn cases() -> Vec<Case> {
    on_both![
        a_record_says_who_spoke_about_what_and_how,
        case_15_no_request_is_born_in_anothers_name,
        case_15_no_request_is_born_decided_or_granted,
        case_16_nobody_records_a_decision_in_anothers_name,
        case_17_a_person_counts_once,
        case_18_nobody_decides_on_their_own_request,
        case_18a_nobody_approves_for_a_service_account_that_they_can_act_as,
        case_18b_whoever_approved_can_change_their_mind,
        case_18b_a_new_offer_needs_a_new_word,
        case_18c_approvals_never_crowd_out_a_denial,
        case_18d_nothing_is_decided_on_a_request_that_is_being_deleted,
        case_19_write_access_to_requests_approves_nothing,
        case_20_names_are_compared_byte_for_byte,
        case_20_kubernetes_own_accounts_are_given_nothing,
        case_20_a_comment_is_kept_to_the_letter,
        case_21_nobody_writes_status_but_the_operator,
        case_22_nobody_makes_or_edits_a_grant,
        case_22a_no_comment_is_planted_for_anothers_decision,
        case_22b_an_old_code_is_refused_and_a_word_without_one_goes_to_the_new_offer,
        case_22c_a_policy_can_demand_a_credential_of_the_approvers_own,
        a_service_account_that_is_named_asks_and_is_bound_as_such,
        a_service_account_never_asks_by_its_groups,
        a_service_account_approves_only_where_it_is_named,
    ]
}

// ---- what is recorded ----

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

// ---- asking ----

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

// ---- deciding ----

async fn case_16_nobody_records_a_decision_in_anothers_name(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    let carols = scene.record(&scene.carol, "look", "approve", None).await;
    for other in [&scene.alice, &scene.bob, &scene.mallory, scene.cluster().admin()] {
        refused(
            writes(&scene, other, "look", &carols).await,
            "only be recorded in your own name",
        );
    }
    let own = scene.record(&scene.bob, "look", "approve", None).await;
    let uid = format!("uid-carol-{}", scene.id);
    for (field, value) in [
        ("uid", uid.as_str()),
        ("uid", ""),
        ("username", &scene.bob.name().to_uppercase()),
    ] {
        let mut record = own.clone();
        record[field] = json!(value);
        refused(
            writes(&scene, &scene.bob, "look", &record).await,
            "only be recorded in your own name",
        );
    }
    assert!(scene.request_now("look").await.spec.decisions.is_empty());
    scene.has_no_access().await;
}

async fn case_17_a_person_counts_once(scene: Scene) {
    scene.has_policy(&two_must_approve(&scene)).await;
    let offer = offered(&scene, "look").await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    let coded = format!("approve:{}", offer.code);
    for again in ["approve", &coded] {
        refused(
            scene.decides(&scene.bob, "look", again).await,
            "you have said this already",
        );
    }
    let record = scene.record(&scene.bob, "look", "approve", Some("once more")).await;
    refused(
        writes(&scene, &scene.bob, "look", &record).await,
        "you have said this already",
    );
    let status = scene
        .request_that("look", "the word was seen", |request| seen(request) == 1)
        .await
        .status
        .unwrap();
    assert_eq!((status.phase, status.open[0].missing), (Some(RequestPhase::Pending), 1));
    scene.has_no_access().await;
    scene.decides(&scene.carol, "look", "approve").await.unwrap();
    assert_eq!(
        speakers(&scene.active("look").await),
        [scene.bob.name(), scene.carol.name()]
    );
}

async fn case_18_nobody_decides_on_their_own_request(scene: Scene) {
    let approvers = json!({"users": [scene.alice.name()], "groups": [format!("dev-{}", scene.id)]});
    scene
        .has_policy(&scene.policy_with(json!({"approval": {"stages": [{"name": "lead", "approvers": approvers}]}})))
        .await;
    let offer = offered(&scene, "look").await;
    for word in ["approve", &format!("approve:{}", offer.code)] {
        refused(
            scene.decides(&scene.alice, "look", word).await,
            "you can't approve your own request",
        );
    }
    refused(
        scene.decides(&scene.alice, "look", "deny").await,
        "you can't deny your own request",
    );
    assert!(scene.request_now("look").await.spec.decisions.is_empty());
    scene.has_no_access().await;
    scene.decides(&scene.alice, "look", "revoke").await.unwrap();
    scene.request_in("look", RequestPhase::Withdrawn).await;
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

async fn case_18b_whoever_approved_can_change_their_mind(scene: Scene) {
    scene.has_policy(&two_must_approve(&scene)).await;
    for (name, word, phase) in [
        ("denied", "deny", RequestPhase::Denied),
        ("revoked", "revoke", RequestPhase::Revoked),
    ] {
        scene.asked(&scene.request(name)).await;
        scene.decides(&scene.bob, name, "approve").await.unwrap();
        scene.decides(&scene.bob, name, word).await.unwrap();
        scene.request_in(name, phase).await;
        refused(
            scene.decides(&scene.carol, name, "approve").await,
            &format!("this request has ended ({phase:?})"),
        );
    }
    scene.has_no_access().await;
}

async fn case_18b_a_new_offer_needs_a_new_word(scene: Scene) {
    scene.has_policy(&two_must_approve(&scene)).await;
    let old = offered(&scene, "look").await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    scene.has_policy(&lasting(two_must_approve(&scene), "2h")).await;
    let new = offered_anew(&scene, "look", &old).await;
    scene.decides(&scene.carol, "look", "approve").await.unwrap();
    let status = scene
        .request_that("look", "both words were seen", |request| seen(request) == 2)
        .await
        .status
        .unwrap();
    let effects: Vec<_> = status.decisions.iter().map(|outcome| outcome.effect).collect();
    assert_eq!(effects, [DecisionEffect::NoEffect, DecisionEffect::Counts]);
    assert!(
        status.decisions[0].reason.contains("changed since"),
        "{}",
        status.decisions[0].reason
    );
    scene.has_no_access().await;
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    let grant = scene.active("look").await;
    assert_eq!(speakers(&grant), [scene.carol.name(), scene.bob.name()]);
    assert!(
        grant.spec.decisions.iter().all(|decision| decision.offer == new.digest),
        "{:?}",
        grant.spec.decisions
    );
}

async fn case_18c_approvals_never_crowd_out_a_denial(scene: Scene) {
    let mut policy = scene.policy();
    policy["spec"]["approval"]["stages"][0]["required"] = json!(16);
    scene.has_policy(&policy).await;
    let mut offer = offered(&scene, "look").await;
    let mut approvers = vec![];
    for number in 0..15 {
        approvers.push(approver(&scene, &format!("approver{number}-{}", scene.id)).await);
    }
    // Fifteen of sixteen, three times over, and three more: all that approvals may fill.
    for (round, speakers) in [15, 15, 15, 3].into_iter().enumerate() {
        if round > 0 {
            scene
                .has_policy(&lasting(policy.clone(), &format!("{}h", round + 1)))
                .await;
            offer = offered_anew(&scene, "look", &offer).await;
        }
        for approver in &approvers[..speakers] {
            scene.decides(approver, "look", "approve").await.unwrap();
        }
    }
    refused(
        scene.decides(&scene.bob, "look", "approve").await,
        "too much has been said",
    );
    scene.decides(&scene.carol, "look", "deny").await.unwrap();
    let request = scene.request_in("look", RequestPhase::Denied).await;
    assert_eq!(request.spec.decisions.len(), 49);
    scene.has_no_access().await;
}

async fn case_18d_nothing_is_decided_on_a_request_that_is_being_deleted(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    let requests = scene.requests();
    merges(
        &requests,
        "look",
        json!({"metadata": {"finalizers": ["e2e.example/held"]}}),
    )
    .await
    .unwrap();
    requests.delete("look", &DeleteParams::default()).await.unwrap();
    for (user, word) in [
        (&scene.bob, "approve"),
        (&scene.bob, "deny"),
        (&scene.bob, "revoke"),
        (&scene.alice, "revoke"),
    ] {
        refused(scene.decides(user, "look", word).await, "this request is being deleted");
    }
    scene.request_in("look", RequestPhase::Withdrawn).await;
    scene.has_no_access().await;
    merges(&requests, "look", json!({"metadata": {"finalizers": null}}))
        .await
        .unwrap();
    gone(requests, "look", "the request is gone").await;
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

// ---- what only the operator writes ----

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

async fn case_22a_no_comment_is_planted_for_anothers_decision(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    for user in [&scene.mallory, &scene.alice, &scene.bob, scene.cluster().admin()] {
        let planted = json!({"metadata": {"annotations": {"curfew.dev/comment": "granted for ever"}}});
        refused(
            merges(&scene.of::<AccessRequest>(user), "look", planted).await,
            "curfew.dev/comment goes with a decision",
        );
    }
    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    assert_eq!(scene.active("look").await.spec.decisions[0].comment, None);
}

// ---- looking, then approving ----

async fn case_22b_an_old_code_is_refused_and_a_word_without_one_goes_to_the_new_offer(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let seen = [offered(&scene, "with-code").await, offered(&scene, "without").await];
    scene.has_policy(&lasting(scene.policy(), "2h")).await;
    let new = [
        offered_anew(&scene, "with-code", &seen[0]).await,
        offered_anew(&scene, "without", &seen[1]).await,
    ];
    assert_ne!(seen[0].code, new[0].code);
    let which = format!("which is {}", new[0].code);
    refused(
        scene
            .decides(&scene.bob, "with-code", format!("approve:{}", seen[0].code).as_str())
            .await,
        &which,
    );
    scene
        .decides(&scene.bob, "with-code", format!("approve:{}", new[0].code).as_str())
        .await
        .unwrap();
    scene.decides(&scene.bob, "without", "approve").await.unwrap();
    for (name, offer, code) in [("with-code", &new[0], Some(&new[0].code)), ("without", &new[1], None)] {
        let grant = scene.active(name).await;
        assert_eq!(grant.spec.offer, offer.digest);
        let decision = &grant.spec.decisions[0];
        assert_eq!((&decision.offer, decision.code.as_ref()), (&offer.digest, code));
    }
}

async fn case_22c_a_policy_can_demand_a_credential_of_the_approvers_own(scene: Scene) {
    scene
        .has_policy(&scene.policy_with(json!({"requireDirect": true})))
        .await;
    scene.asked(&scene.request("strict")).await;
    let refusal = approves_as_bob(&scene, "strict", false).await.unwrap_err();
    assert!(
        refusal.contains("a credential of your own, not impersonation"),
        "{refusal}"
    );
    let refusal = approves_as_bob(&scene, "strict", true).await.unwrap_err();
    assert!(refusal.contains("direct must say"), "{refusal}");
    scene.has_no_access().await;
    scene.decides(&scene.bob, "strict", "approve").await.unwrap();
    assert!(scene.active("strict").await.spec.decisions[0].direct);

    // Where it isn't demanded, such a word counts, and is shown for what it is.
    assert_eq!(readiness(&scene.has_policy(&scene.policy()).await).0, "Ready");
    scene.asked(&scene.request("loose")).await;
    approves_as_bob(&scene, "loose", false).await.unwrap();
    let decision = scene.active("loose").await.spec.decisions.remove(0);
    assert_eq!(
        (decision.username.as_str(), decision.uid.as_str(), decision.direct),
        (scene.bob.name(), "", false)
    );
}

/// The admin approves as bob by impersonation; `claims` that it was bob's own credential, in a record written by hand.
async fn approves_as_bob(scene: &Scene, name: &str, claims: bool) -> Result<(), String> {
    let group = format!("sre-{}", scene.id);
    let mut arguments = vec!["--as", scene.bob.name(), "--as-group", &group];
    let patch;
    if scene.world.stamps() && !claims {
        arguments.extend(["annotate", "accessrequest", name, "curfew.dev/decision=approve"]);
    } else {
        let mut record = scene.record(&scene.bob, name, "approve", None).await;
        record["uid"] = json!("");
        record["direct"] = json!(claims);
        patch = json!({"spec": {"decisions": [record]}}).to_string();
        arguments.extend(["patch", "accessrequest", name, "--type=merge", "-p", &patch]);
    }
    let answer = scene.kubectl(scene.cluster().admin(), &arguments).await;
    if answer.succeeded() { Ok(()) } else { Err(answer.stderr) }
}

// ---- service accounts ----

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

fn two_must_approve(scene: &Scene) -> Value {
    let mut policy = scene.policy();
    policy["spec"]["approval"]["stages"][0]["required"] = json!(2);
    policy
}

/// The policy with another longest duration: what was offered under it is offered anew.
fn lasting(mut policy: Value, longest: &str) -> Value {
    policy["spec"]["maxDuration"] = json!(longest);
    policy
}

/// Waits for another offer than this one.
async fn offered_anew(scene: &Scene, name: &str, before: &Offer) -> Offer {
    let is_new = |request: &AccessRequest| offer(request).is_some_and(|offer| offer.digest != before.digest);
    offer(&scene.request_that(name, "another offer", is_new).await).unwrap()
}

/// Alice asks, and this is offered.
async fn offered(scene: &Scene, name: &str) -> Offer {
    offer(&scene.asked(&scene.request(name)).await).unwrap()
}

fn is_offered(request: &AccessRequest) -> bool {
    offer(request).is_some()
}

fn offer(request: &AccessRequest) -> Option<Offer> {
    request.status.as_ref().and_then(|status| status.offer.clone())
}

/// How many decisions the operator has looked at.
fn seen(request: &AccessRequest) -> usize {
    request.status.as_ref().map_or(0, |status| status.decisions.len())
}

fn speakers(grant: &AccessGrant) -> Vec<&str> {
    grant
        .spec
        .decisions
        .iter()
        .map(|decision| decision.username.as_str())
        .collect()
}

/// `user` writes this record at the end of a request's decisions, by hand.
async fn writes(scene: &Scene, user: &User, name: &str, record: &Value) -> Result<AccessRequest, String> {
    let decisions = scene.decisions_and(name, std::slice::from_ref(record)).await;
    merges(&scene.of(user), name, json!({"spec": {"decisions": decisions}})).await
}

/// One more of bob's group.
async fn approver(scene: &Scene, name: &str) -> User {
    scene
        .cluster()
        .user(name)
        .uid(&format!("uid-{name}"))
        .group(&format!("sre-{}", scene.id))
        .build()
        .await
        .unwrap()
}

/// Gives `user` a role in this scene's namespace, and waits until the API server knows.
async fn bind(scene: &Scene, name: &str, role: (&str, &str), user: &User, (verb, resource): (&str, &str)) {
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
