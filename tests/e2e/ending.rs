//! Whatever happens to what a grant rests on, it ends as it should, on time, and the story stays.

use std::time::Duration;

use curfew::api::{AccessGrant, AccessRequest, EndReason, RequestPhase, Verdict, condition, time};
use curfew::core::grant::{deadline, name as grant_name};
use curfew_testbed::{AuditEvent, Component, User};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::scene::{Scene, Word, merges};
use crate::signs::{assert_soon_after_deadline, metric, passes};
use crate::tools::{eventually, gone};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            case_39_of_two_grants_that_overlap_the_end_of_one_leaves_the_other_alive,
            case_46_a_policy_deleted_during_a_grant_ends_it_only_where_the_policy_says_so,
            case_46_a_policy_changed_during_a_grant_ends_it_where_the_policy_says_so,
            case_46_a_role_deleted_during_a_grant_ends_it_whatever_the_policy_says,
            case_49_a_namespace_deleted_during_a_grant_leaves_the_story,
            case_49_a_namespace_made_again_under_its_name_is_another_one,
            case_50_a_request_deleted_during_its_grant_ends_it_and_the_grant_tells_the_story,
            case_50_a_finalizer_on_a_deleted_request_holds_no_access,
            case_69_after_the_end_the_objects_say_who_what_when_and_by_whose_word;
        Shipped [AuditLog]: case_65_a_whole_life_is_nine_writes_in_the_order_that_is_promised;
        Alone []:
            rights_that_were_taken_from_the_operator_hold_up_no_end,
            with_the_definition_of_grants_deleted_no_access_is_left,
            with_the_definition_of_requests_deleted_no_access_is_left;
        Lent [OperatorProcess]: what_alice_says_of_what_she_wrote_hides_no_revocation_and_no_deletion;
        Lent [OperatorProcess, AuditLog]:
            case_41_stopped_across_a_deadline_everything_overdue_is_gone_before_it_says_that_it_is_ready,
            case_43_killed_in_mid_grant_the_deadline_is_the_same_and_nothing_is_granted_again;
        Alone [OperatorProcess, AuditLog]:
            case_67_metrics_tell_of_the_end_and_nothing_but_the_lease_is_asked_for_while_nothing_changes;
    ]
}

/// A request that cannot be read as it is: the API server keeps what a writer says of who wrote which field and when, up to the end of the year 9999 and however
/// many fields within fields.
async fn what_alice_says_of_what_she_wrote_hides_no_revocation_and_no_deletion(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let admin = scene.cluster().admin();
    for (name, is_restarted, end) in [
        ("revoked", false, EndReason::Revoked),
        ("revoked-after-a-restart", true, EndReason::Revoked),
        ("deleted", false, EndReason::RequestDeleted),
    ] {
        let grant = scene.granted(&scene.request(name)).await;
        writes_what_cannot_be_read(&scene, name).await;
        if is_restarted {
            let operator = scene.world.installation.operator().unwrap();
            operator.stop().await.unwrap();
            operator.start().await.unwrap();
        }
        let (deletes, revokes) = (
            format!("delete accessrequest {name}"),
            format!("annotate accessrequest {name} curfew.dev/decision=revoke"),
        );
        match end {
            EndReason::Revoked => says(&scene, &scene.bob, &revokes).await,
            _ => says(&scene, admin, &deletes).await,
        };
        let ended = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
        assert_eq!(ended.reason, end);
        scene.loses_access().await;
        if end == EndReason::Revoked {
            let phase = format!("get accessrequest {name} --output jsonpath={{.status.phase}}");
            eventually("the request says so", async || {
                says(&scene, &scene.alice, &phase).await == "Revoked"
            })
            .await;
            says(&scene, admin, &deletes).await;
        }
    }
}

async fn writes_what_cannot_be_read(scene: &Scene, name: &str) {
    let time = "9999-12-31T23:59:59Z";
    let deep = (0..200).fold(json!({}), |within, _| json!({"f:deeper": within}));
    let entry = json!({
        "manager": "x", "operation": "Update", "apiVersion": "curfew.dev/v1alpha1", "time": time,
        "fieldsType": "FieldsV1", "fieldsV1": deep,
    });
    let patch = json!({"metadata": {"managedFields": [entry]}});
    let patches = format!("patch accessrequest {name} --type=merge --patch {patch}");
    says(scene, &scene.alice, &patches).await;
    let shows = format!("get accessrequest {name} --show-managed-fields --output json");
    let shown = says(scene, scene.cluster().admin(), &shows).await;
    assert!(
        shown.contains(time) && shown.matches("f:deeper").count() == 200,
        "{shown}"
    );
}

/// By kubectl: what the tests' own client can't read either.
async fn says(scene: &Scene, user: &User, command: &str) -> String {
    let words: Vec<_> = command.split(' ').collect();
    scene.kubectl(user, &words).await.ok().unwrap()
}

async fn case_39_of_two_grants_that_overlap_the_end_of_one_leaves_the_other_alive(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let long = scene.granted(&scene.request("long")).await;
    let brief = scene
        .granted(&scene.request_with("brief", json!({"duration": "3s"})))
        .await;
    scene.grant_ended(&brief).await;
    scene.request_in("brief", RequestPhase::Expired).await;
    scene.has_access().await;
    let left = scene.bindings().await.remove(0);
    assert_eq!(
        left.metadata.labels.unwrap()["curfew.dev/grant-uid"],
        long.uid().unwrap()
    );
    scene.said(&scene.alice, "long", "revoke").await;
    scene.loses_access().await;
}

/// The policy that keeps its grants is deleted first: when the other's grant has ended, the operator knows of both.
async fn case_46_a_policy_deleted_during_a_grant_ends_it_only_where_the_policy_says_so(scene: Scene) {
    let [keeps, revokes] = ["keeps", "revokes"].map(|kind| format!("{kind}-{}", scene.id));
    for (name, fields) in [(&keeps, json!({})), (&revokes, json!({"onPolicyChange": "Revoke"}))] {
        let mut policy = scene.policy_with(fields);
        policy["metadata"]["name"] = json!(name);
        scene.has_policy(&policy).await;
    }
    let kept = scene
        .granted(&scene.request_with("kept", json!({"policy": keeps, "duration": "30s"})))
        .await;
    let revoked = scene
        .granted(&scene.request_with("revoked", json!({"policy": revokes})))
        .await;
    assert_eq!(scene.bindings().await.len(), 2);
    for policy in [&keeps, &revokes] {
        scene.policies().delete(policy, &DeleteParams::default()).await.unwrap();
    }
    assert_ended(
        &scene,
        "revoked",
        &revoked,
        (RequestPhase::Revoked, EndReason::PolicyChanged),
    )
    .await;
    scene.has_access().await;
    assert_ended(&scene, "kept", &kept, (RequestPhase::Expired, EndReason::Expired)).await;
    scene.has_no_access().await;
}

async fn case_46_a_policy_changed_during_a_grant_ends_it_where_the_policy_says_so(scene: Scene) {
    scene
        .has_policy(&scene.policy_with(json!({"onPolicyChange": "Revoke"})))
        .await;
    let grant = scene.granted(&scene.request("look")).await;
    scene.has_access().await;
    let policy = scene.policy();
    let labelled = json!({"metadata": {"labels": {"touched": "yes"}}});
    merges(
        &scene.policies(),
        policy["metadata"]["name"].as_str().unwrap(),
        labelled,
    )
    .await
    .unwrap();
    scene.has_access().await;
    scene
        .has_policy(&scene.policy_with(json!({"onPolicyChange": "Revoke", "maxDuration": "2h"})))
        .await;
    assert_ended(
        &scene,
        "look",
        &grant,
        (RequestPhase::Revoked, EndReason::PolicyChanged),
    )
    .await;
    scene.has_no_access().await;
}

async fn case_46_a_role_deleted_during_a_grant_ends_it_whatever_the_policy_says(scene: Scene) {
    scene
        .has_policy(&scene.policy_with(json!({"onRoleChange": "Keep"})))
        .await;
    let grant = scene.granted(&scene.request("look")).await;
    scene.has_access().await;
    let roles = scene.of::<Role>(scene.cluster().admin());
    roles.delete("reader", &DeleteParams::default()).await.unwrap();
    let message = assert_ended(&scene, "look", &grant, (RequestPhase::Revoked, EndReason::RoleChanged)).await;
    assert!(message.contains(r#"Role "reader" was deleted"#), "{message}");

    // The binding is gone, not merely without effect: the role comes back and alice doesn't.
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
    scene
        .apply(scene.cluster().admin(), &scene.role("reader", rules))
        .await
        .ok()
        .unwrap();
    scene.has_no_access().await;
}

async fn case_49_a_namespace_deleted_during_a_grant_leaves_the_story(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    let namespaces = scene.deletes_its_namespace().await;
    let ended = scene.grant_ended(&grant).await;
    let reason = ended.status.clone().unwrap().end.unwrap().reason;
    assert!(
        matches!(reason, EndReason::TargetGone | EndReason::RequestDeleted),
        "{reason:?}"
    );
    scene.loses_access().await;
    assert_tells_the_story(&scene, &grant, &ended);
    gone(namespaces, &scene.namespace, "nothing holds the namespace").await;
    assert_eq!(scene.grants().get(&grant.name_any()).await.unwrap().spec, grant.spec);
}

/// The request stands in another namespace, and so outlives the one that it asks for.
async fn case_49_a_namespace_made_again_under_its_name_is_another_one(scene: Scene) {
    let target = format!("target-{}", scene.id);
    let admin = scene.cluster().admin();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": target}});
    scene.apply(admin, &namespace).await.ok().unwrap();
    scene
        .has_policy(&scene.policy_with(json!({"namespaces": {"names": [target]}})))
        .await;
    let there = json!({"namespaces": [target], "role": {"kind": "ClusterRole", "name": "e2e-reader"}});
    let grant = scene.granted(&scene.request_with("granted", there.clone())).await;
    scene.asked(&scene.request_with("pending", there)).await;
    scene
        .kubectl(admin, &["delete", "namespace", &target])
        .await
        .ok()
        .unwrap();
    scene.apply(admin, &namespace).await.ok().unwrap();

    let ended = scene.grant_ended(&grant).await;
    assert_eq!(ended.status.unwrap().end.unwrap().reason, EndReason::TargetGone);
    let failed = scene.request_in("pending", RequestPhase::Failed).await;
    let message = failed.status.unwrap().message.unwrap();
    assert!(message.contains("was replaced by another"), "{message}");
    let bindings = Api::<RoleBinding>::namespaced(admin.client().unwrap(), &target);
    assert_eq!(bindings.list(&ListParams::default()).await.unwrap().items, []);
}

async fn case_50_a_request_deleted_during_its_grant_ends_it_and_the_grant_tells_the_story(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    scene.has_access().await;
    scene
        .kubectl(&scene.mallory, &["delete", "accessrequest", "look"])
        .await
        .ok()
        .unwrap();
    scene.loses_access().await;
    let ended = scene.grant_ended(&grant).await;
    assert_eq!(
        ended.status.clone().unwrap().end.unwrap().reason,
        EndReason::RequestDeleted
    );
    assert_tells_the_story(&scene, &grant, &ended);
    let message = ended.status.unwrap().end.unwrap().message;
    assert!(message.contains(&format!("{}/look", scene.namespace)), "{message}");
}

async fn case_50_a_finalizer_on_a_deleted_request_holds_no_access(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("active")).await;
    scene.asked(&scene.request("pending")).await;
    let requests = scene.of::<AccessRequest>(&scene.mallory);
    for name in ["active", "pending"] {
        merges(
            &requests,
            name,
            json!({"metadata": {"finalizers": ["example.com/held"]}}),
        )
        .await
        .unwrap();
        scene.requests().delete(name, &DeleteParams::default()).await.unwrap();
    }
    scene.loses_access().await;
    assert_ended(
        &scene,
        "active",
        &grant,
        (RequestPhase::Withdrawn, EndReason::RequestDeleted),
    )
    .await;
    let pending = scene.request_in("pending", RequestPhase::Withdrawn).await;
    assert!(pending.metadata.deletion_timestamp.is_some(), "it is held");
    scene
        .refused(
            &scene.bob,
            "pending",
            "approve",
            "nothing can be decided on it any more",
        )
        .await;
    for name in ["active", "pending"] {
        merges(&requests, name, json!({"metadata": {"finalizers": null}}))
            .await
            .unwrap();
        gone(scene.requests(), name, "nothing else holds it").await;
    }
    assert_eq!(
        scene
            .grants()
            .get_opt(&grant_name(&pending.uid().unwrap()))
            .await
            .unwrap(),
        None
    );
}

async fn case_69_after_the_end_the_objects_say_who_what_when_and_by_whose_word(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene
        .asked(&scene.request_with("look", json!({"reason": "ticket 7", "duration": "4s"})))
        .await;
    scene
        .said(
            &scene.bob,
            "look",
            Word {
                word: "approve",
                comment: Some("go ahead"),
            },
        )
        .await;
    let request = scene.request_in("look", RequestPhase::Expired).await;
    let status = request.status.clone().unwrap();
    let grant = scene.grants().get(status.grant.as_ref().unwrap()).await.unwrap();
    assert_tells_the_story(&scene, &grant, &grant);
    assert_eq!(grant.spec.reason.as_deref(), Some("ticket 7"));
    assert_eq!(grant.spec.decisions[0].comment.as_deref(), Some("go ahead"));
    let end = grant.status.clone().unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Expired);
    assert!(
        end.message.contains(&time::written(deadline(&grant))),
        "{}",
        end.message
    );

    assert_eq!(request.spec.requester.as_ref(), Some(&grant.spec.requester));
    assert_eq!(request.spec.decisions, grant.spec.decisions);
    assert_eq!(status.expires_at, Some(time::to_kubernetes(deadline(&grant))));
    let timeline = status.timeline.unwrap();
    let [offered, granted, ended] = [timeline.offered, timeline.granted, timeline.ended].map(|at| at.unwrap().0);
    assert_eq!(granted, grant.creation_timestamp().unwrap().0);
    assert!(offered <= granted && granted < ended, "{offered}, {granted}, {ended}");
    for step in [
        condition::ACCEPTED,
        condition::APPROVED,
        condition::GRANTED,
        condition::ENDED,
    ] {
        assert_eq!(
            condition::get(&status.conditions, step).map(|step| step.status.as_str()),
            Some("True"),
            "{step}"
        );
    }
    let approved = condition::get(&status.conditions, condition::APPROVED).unwrap();
    assert!(approved.message.contains(scene.bob.name()), "{}", approved.message);
}

/// Grant, seal, bind; delete, and only then say so. Nothing is written twice, and nothing is refused.
async fn case_65_a_whole_life_is_nine_writes_in_the_order_that_is_promised(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene
        .granted(&scene.request_with("look", json!({"duration": "4s"})))
        .await;
    scene.request_in("look", RequestPhase::Expired).await;
    let writes = scene.operator_writes();
    let refused: Vec<_> = writes.iter().filter(|event| event.code >= 300).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let steps: Vec<_> = writes.iter().map(told).collect();
    let expected = [
        "update accessrequests/status Pending",
        "create accessgrants",
        "update accessrequests/status Approved",
        "create rolebindings",
        "update accessgrants/status Active",
        "update accessrequests/status Active",
        "delete rolebindings",
        "update accessgrants/status Ended",
        "update accessrequests/status Expired",
    ];
    assert_eq!(steps, expected);
}

/// A write in a few words.
fn told(event: &AuditEvent) -> String {
    let phase = event.request.as_ref().and_then(|sent| sent["status"]["phase"].as_str());
    let resource = match event.subresource.as_str() {
        "" => event.resource.clone(),
        subresource => format!("{}/{subresource}", event.resource),
    };
    [Some(event.verb.as_str()), Some(&resource), phase]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

/// All but the right to delete bindings and to say so. What it watches already goes on being shown.
async fn rights_that_were_taken_from_the_operator_hold_up_no_end(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let short = scene
        .granted(&scene.request_with("short", json!({"duration": "20s"})))
        .await;
    let long = scene.granted(&scene.request("long")).await;
    let roles = Api::<ClusterRole>::all(scene.cluster().admin().client().unwrap());
    let few = json!({"rules": [
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["delete"]},
        {"apiGroups": ["curfew.dev"], "resources": ["accessgrants/status"], "verbs": ["update"]},
    ]});
    merges(&roles, "curfew:operator", few).await.unwrap();
    let operator = scene.world.installation.operator_user().await.unwrap();
    eventually("the operator may no longer read", async || {
        !operator.can("get", "accessrequests.curfew.dev", None).await.unwrap()
    })
    .await;
    scene.said(&scene.bob, "long", "revoke").await;
    for (grant, reason) in [(&long, EndReason::Revoked), (&short, EndReason::Expired)] {
        let ended = scene.grant_ended(grant).await;
        assert_eq!(ended.status.unwrap().end.unwrap().reason, reason);
    }
    scene.has_no_access().await;
}

async fn with_the_definition_of_grants_deleted_no_access_is_left(scene: Scene) {
    no_access_is_left_without(&scene, "accessgrants.curfew.dev").await;
}

async fn with_the_definition_of_requests_deleted_no_access_is_left(scene: Scene) {
    no_access_is_left_without(&scene, "accessrequests.curfew.dev").await;
}

async fn no_access_is_left_without(scene: &Scene, definition: &str) {
    scene.has_policy(&scene.policy()).await;
    scene.granted(&scene.request("look")).await;
    let definitions = Api::<CustomResourceDefinition>::all(scene.cluster().admin().client().unwrap());
    definitions.delete(definition, &DeleteParams::default()).await.unwrap();
    scene.loses_access().await;
    eventually("no binding is left", async || scene.bindings().await.is_empty()).await;
}

/// kube-controller-manager is away, so that nobody else ends anything. One grant's deadline comes while nothing runs, the other is deleted meanwhile.
async fn case_41_stopped_across_a_deadline_everything_overdue_is_gone_before_it_says_that_it_is_ready(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let expires = scene
        .granted(&scene.request_with("expires", json!({"duration": "30s"})))
        .await;
    let orphaned = scene.granted(&scene.request("orphaned")).await;
    let operator = scene.world.installation.operator().unwrap();
    scene.cluster().stop_component(Component::ControllerManager).unwrap();
    operator.stop().await.unwrap();
    scene
        .grants()
        .delete(&orphaned.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    passes(&expires).await;
    assert_eq!(scene.bindings().await.len(), 2, "nobody has ended anything");

    operator.start().await.unwrap();
    scene.has_no_access().await;
    assert_ended(&scene, "expires", &expires, (RequestPhase::Expired, EndReason::Expired)).await;
    scene.request_in("orphaned", RequestPhase::Revoked).await;
    let cluster = scene.cluster();
    cluster.start_component(Component::ControllerManager).await.unwrap();
}

/// One grant lives through it, the deadline of another comes while nothing runs, a third was deleted before.
async fn case_43_killed_in_mid_grant_the_deadline_is_the_same_and_nothing_is_granted_again(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let deleted = scene.granted(&scene.request("deleted")).await;
    scene
        .grants()
        .delete(&deleted.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    scene.request_in("deleted", RequestPhase::Revoked).await;
    let lives = scene
        .granted(&scene.request_with("lives", json!({"duration": "45s"})))
        .await;
    let binding = scene.bindings().await.remove(0);
    let short = scene
        .granted(&scene.request_with("short", json!({"duration": "4s"})))
        .await;

    let operator = scene.world.installation.operator().unwrap();
    operator.kill().unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    operator.start().await.unwrap();

    assert_ended(&scene, "short", &short, (RequestPhase::Expired, EndReason::Expired)).await;
    scene.has_access().await;
    assert_eq!(scene.bindings().await, [binding]);
    let now = scene.grants().get(&lives.name_any()).await.unwrap();
    assert_eq!((deadline(&now), &now.spec), (deadline(&lives), &lives.spec));
    let request = scene.request_now("lives").await.status.unwrap();
    assert_eq!(request.expires_at, Some(time::to_kubernetes(deadline(&lives))));
    assert_ended(&scene, "lives", &lives, (RequestPhase::Expired, EndReason::Expired)).await;
    scene.has_no_access().await;
    assert_soon_after_deadline(&lives, end_of(&scene, &lives).await);

    assert_eq!(scene.grants().get_opt(&deleted.name_any()).await.unwrap(), None);
    assert_eq!(
        scene.request_now("deleted").await.status.unwrap().phase,
        Some(RequestPhase::Revoked)
    );
    let made = scene
        .operator_writes()
        .into_iter()
        .filter(|event| event.resource == "rolebindings" && event.verb == "create");
    assert_eq!(made.count(), 3, "each was bound once");
}

async fn case_67_metrics_tell_of_the_end_and_nothing_but_the_lease_is_asked_for_while_nothing_changes(scene: Scene) {
    let operator = scene.world.installation.operator().unwrap();
    scene.has_policy(&scene.policy()).await;
    scene
        .granted(&scene.request_with("short", json!({"duration": "4s"})))
        .await;
    scene.granted(&scene.request("long")).await;
    scene.granted(&scene.request("revoked")).await;
    scene.said(&scene.alice, "revoked", "revoke").await;
    scene.asked(&scene.request("pending")).await;
    scene.request_in("short", RequestPhase::Expired).await;
    scene.request_in("revoked", RequestPhase::Revoked).await;
    let expected = [
        (r#"curfew_grants_total"#, "3"),
        (r#"curfew_bind_delay_seconds_count"#, "3"),
        (r#"curfew_grants_ended_total{reason="Expired"}"#, "1"),
        (r#"curfew_grants_ended_total{reason="Revoked"}"#, "1"),
        (r#"curfew_requests_ended_total{phase="Expired"}"#, "1"),
        // How late is said of what was to end at a moment.
        (r#"curfew_revoke_lag_seconds_count"#, "1"),
        (r#"curfew_overdue_bindings"#, "0.0"),
        (r#"curfew_swept_bindings_total"#, "0"),
    ];
    eventually("the metrics tell of it", async || {
        let text = operator.get("/metrics").await.unwrap();
        expected
            .iter()
            .all(|(name, value)| text.lines().any(|line| line == format!("{name} {value}")))
    })
    .await;

    assert!(
        metric(operator, "curfew_anchors")
            .await
            .is_some_and(|anchors| anchors >= 1.0)
    );

    let calls = || {
        let log = scene.cluster().audit_log().unwrap().into_iter();
        let by_operator = log.filter(|event| {
            event.user.username.ends_with(":curfew") && event.verb != "watch" && event.resource != "leases"
        });
        by_operator
            .map(|event| format!("{} {}", event.verb, event.uri))
            .collect::<Vec<_>>()
    };
    // What is under way comes to its end: events, and what watches bring.
    let mut before = calls().len();
    eventually("a second without a call", async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = calls().len();
        std::mem::replace(&mut before, now) == now
    })
    .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let since = calls().split_off(before);
    assert!(since.is_empty(), "{since:#?}");
}

// ---- what is the case after an end --------------------------------------------------------------------------------

/// Waits for this end of a request and its grant. Gives the grant's message.
async fn assert_ended(scene: &Scene, request: &str, grant: &AccessGrant, as_what: (RequestPhase, EndReason)) -> String {
    let end = scene.grant_ended(grant).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, as_what.1, "{}", end.message);
    scene.request_in(request, as_what.0).await;
    let uid = grant.uid().unwrap();
    assert!(
        scene
            .bindings()
            .await
            .iter()
            .all(|binding| !binding.name_any().ends_with(&uid)),
        "its binding is gone"
    );
    end.message
}

async fn end_of(scene: &Scene, grant: &AccessGrant) -> k8s_openapi::jiff::Timestamp {
    scene
        .grant_ended(grant)
        .await
        .status
        .unwrap()
        .end
        .unwrap()
        .at
        .unwrap()
        .0
}

/// Who asked for what, under which policy, for how long, by whose word, and that it is over: as it was granted.
fn assert_tells_the_story(scene: &Scene, granted: &AccessGrant, ended: &AccessGrant) {
    assert_eq!((ended.uid(), &ended.spec), (granted.uid(), &granted.spec));
    let spec = &ended.spec;
    assert_eq!(
        (spec.requester.username.as_str(), spec.subject.name.as_str()),
        (scene.alice.name(), scene.alice.name())
    );
    assert_eq!(
        (spec.request.namespace.as_str(), spec.role.name.as_str()),
        (scene.namespace.as_str(), "reader")
    );
    assert_eq!(spec.policy.name, scene.policy()["metadata"]["name"].as_str().unwrap());
    assert_eq!(spec.targets[0].namespace, scene.namespace);
    let words: Vec<_> = spec
        .decisions
        .iter()
        .map(|decision| (decision.verdict, decision.username.as_str()))
        .collect();
    assert_eq!(words, [(Verdict::Approve, scene.bob.name())]);
    let status = ended.status.as_ref().unwrap();
    assert_eq!(status.bindings.len(), 1);
    assert!(status.end.as_ref().unwrap().at.is_some());
    let of = |kind| condition::get(&status.conditions, kind).map(|condition| condition.status.as_str());
    assert_eq!(
        (of(condition::BOUND), of(condition::ENDED)),
        (Some("False"), Some("True"))
    );
}
