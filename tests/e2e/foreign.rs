//! Foreign hands on Curfew's bindings: they are kept off by a guard, and where that guard is gone, whatever they do ends the access and nothing else.
//!
//! Mallory is an admin of the namespace here, with all that Kubernetes' own role `admin` allows.

use curfew::api::{AccessGrant, AccessRequest, EndReason, GrantPhase, RequestPhase, condition, time};
use curfew::cluster::read::Reads;
use curfew::core::facts::Home;
use curfew::core::grant::name as grant_name;
use curfew::core::guard::Standing;
use curfew::core::limits::Others;
use curfew::core::request::{self, Observed, Plan};
use curfew_testbed::Component;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::scene::{Scene, creates, merges, person, refused};
use crate::tools::{eventually, gone, watched};
use crate::world::{Case, Setting, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            a_namespace_admin_can_not_touch_a_binding_but_only_delete_it,
            case_55_a_binding_that_the_namespace_admin_deletes_is_not_made_again,
            a_grant_that_is_deleted_takes_its_binding_along_however_it_is_deleted,
            a_namespace_that_is_deleted_with_its_request_ends_the_grant_and_is_not_held_up;
        InTurn []:
            case_54_subjects_added_to_a_binding_end_its_grant_and_all_lose_access,
            case_55_a_binding_that_is_replaced_ends_its_grant_and_the_foreign_one_stays,
            case_56_labels_annotations_or_owners_changed_on_a_binding_end_its_grant,
            case_57_a_foreign_binding_that_looks_a_little_like_ours_stays,
            case_58a_what_would_hold_a_binding_is_taken_off_and_its_grant_ends,
            a_binding_that_is_deleted_so_that_it_waits_for_others_ends_all_the_same,
            a_grant_that_is_deleted_takes_its_binding_along_however_it_is_deleted;
        Alone [OperatorProcess, ComponentControl]:
            case_53_a_foreign_binding_that_has_our_name_already_is_neither_used_nor_deleted,
            what_was_done_to_bindings_while_the_operator_was_away_is_dealt_with_when_it_returns;
    ]
}

/// The name of a grant's bindings.
fn binding_name(grant: &AccessGrant) -> String {
    format!("curfew-{}", grant.uid().unwrap())
}

/// A binding for carol, under this name, as somebody else would make it.
fn foreign(scene: &Scene, name: &str) -> Value {
    scene.binding(name, ("Role", "reader"), person(scene.carol.name()))
}

/// What of a binding's metadata makes it Curfew's.
fn marks(uid: &str) -> Value {
    let owner =
        json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "name": "grant-of-nothing", "uid": uid});
    json!({"labels": {"curfew.dev/grant-uid": uid}, "ownerReferences": [owner]})
}

fn with_metadata(mut object: Value, metadata: Value) -> Value {
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .extend(metadata.as_object().unwrap().clone());
    object
}

async fn lists_configmaps(scene: &Scene, who: &curfew_testbed::User) -> bool {
    scene
        .of::<ConfigMap>(who)
        .list(&kube::api::ListParams::default())
        .await
        .is_ok()
}

/// An owner that exists, so that nobody collects what it owns.
async fn shelf(scene: &Scene) -> Value {
    let shelf =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shelf", "namespace": scene.namespace}});
    let shelf = creates(scene.cluster().admin(), &shelf).await.unwrap();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "shelf", "uid": shelf.uid()})
}

/// Changes that mallory makes to a binding, each with what the grant's end says of it.
fn changes(scene: &Scene, grant: &AccessGrant, shelf: &Value) -> Vec<(&'static str, Value, &'static str)> {
    let (alice, carol, mallory) = (
        person(scene.alice.name()),
        person(scene.carol.name()),
        person(scene.mallory.name()),
    );
    let own = json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "name": grant.name_any(), "uid": grant.uid()});
    vec![
        (
            "subject-added",
            json!({"subjects": [alice, carol, mallory]}),
            "its subjects were changed",
        ),
        (
            "subject-exchanged",
            json!({"subjects": [carol]}),
            "its subjects were changed",
        ),
        ("no-subject", json!({"subjects": null}), "its subjects were changed"),
        (
            "labels-stripped",
            json!({"metadata": {"labels": null}}),
            "its labels or annotations were changed",
        ),
        (
            "label-changed",
            json!({"metadata": {"labels": {"curfew.dev/grant-uid": "another"}}}),
            "its labels or annotations were changed",
        ),
        (
            "deadline-moved",
            json!({"metadata": {"annotations": {"curfew.dev/deadline": "2099-01-01T00:00:00Z"}}}),
            "its labels or annotations were changed",
        ),
        (
            "annotations-stripped",
            json!({"metadata": {"annotations": null}}),
            "its labels or annotations were changed",
        ),
        (
            "owner-stripped",
            json!({"metadata": {"ownerReferences": null}}),
            "its owners were changed",
        ),
        (
            "unrecognisable",
            json!({"metadata": {"labels": null, "annotations": null, "ownerReferences": null}}),
            "its labels or annotations were changed",
        ),
        (
            "only-the-label-left",
            json!({"metadata": {"annotations": null, "ownerReferences": null}, "subjects": [alice, carol]}),
            "its subjects were changed",
        ),
        (
            "second-owner",
            json!({"metadata": {"ownerReferences": [own, shelf]}}),
            "its owners were changed",
        ),
        (
            "another-owner",
            json!({"metadata": {"ownerReferences": [shelf]}}),
            "its owners were changed",
        ),
        (
            "finalizer",
            json!({"metadata": {"finalizers": ["example.com/hold"]}}),
            "somebody put a finalizer on it",
        ),
        (
            "finalizer-and-all",
            json!({"metadata": {"finalizers": ["example.com/hold"], "labels": null, "annotations": null, "ownerReferences": [shelf]}, "subjects": [carol]}),
            "its subjects were changed",
        ),
    ]
}

async fn a_namespace_admin_can_not_touch_a_binding_but_only_delete_it(scene: Scene) {
    scene.namespace_admin().await;
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    let (name, bindings) = (binding_name(&grant), scene.of::<RoleBinding>(&scene.mallory));
    let reserved = "are reserved for Curfew";
    for (_, change, _) in changes(&scene, &grant, &shelf(&scene).await) {
        refused(merges(&bindings, &name, change).await, reserved);
    }
    let uid = grant.uid().unwrap();
    for squatting in [
        foreign(&scene, "curfew-something"),
        with_metadata(foreign(&scene, "something"), marks(&uid)),
        with_metadata(
            foreign(&scene, "curfew-00000000-0000-0000-0000-000000000000"),
            marks("00000000-0000-0000-0000-000000000000"),
        ),
    ] {
        refused(creates(&scene.mallory, &squatting).await, reserved);
        refused(creates(scene.cluster().admin(), &squatting).await, reserved);
    }
    // A binding of their own can't be made to look like Curfew's.
    creates(&scene.mallory, &foreign(&scene, "something")).await.unwrap();
    refused(
        merges(
            &bindings,
            "something",
            json!({"metadata": {"labels": {"curfew.dev/grant-uid": uid}}}),
        )
        .await,
        reserved,
    );
    let label = scene
        .kubectl(
            &scene.mallory,
            &["label", "rolebinding", &name, "curfew.dev/grant-uid-"],
        )
        .await;
    assert!(label.refused().unwrap().contains(reserved));
    scene.has_access().await;
    assert_eq!(
        scene
            .grants()
            .get(&grant.name_any())
            .await
            .unwrap()
            .status
            .unwrap()
            .phase,
        Some(GrantPhase::Active)
    );

    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    scene.grant_ended(&grant).await;
    scene.has_no_access().await;
}

async fn case_55_a_binding_that_the_namespace_admin_deletes_is_not_made_again(scene: Scene) {
    scene.namespace_admin().await;
    scene.has_policy(&scene.policy()).await;
    let grant = scene.quickly_granted(&scene.request("look")).await;
    let (name, bindings) = (binding_name(&grant), scene.of::<RoleBinding>(&scene.mallory));
    // It would be held by whatever names it as its owner, also where no operator runs.
    for way in [DeleteParams::foreground(), DeleteParams::orphan()] {
        let error = bindings.delete(&name, &way).await.expect_err("held");
        assert!(error.to_string().contains("at once or not at all"), "{error}");
        scene.has_access().await;
    }
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    is_drifted(&scene, &grant, "look").await;
    scene.has_no_access().await;
}

async fn a_binding_that_is_deleted_so_that_it_waits_for_others_ends_all_the_same(scene: Scene) {
    scene.namespace_admin().await;
    scene.has_policy(&scene.policy()).await;
    let ways = [
        ("foreground", DeleteParams::foreground()),
        ("orphan", DeleteParams::orphan()),
    ];
    let mut all = vec![];
    for (request, way) in ways {
        all.push((request, way, scene.quickly_granted(&scene.request(request)).await));
    }
    unreserved(&scene).await;
    let bindings = scene.of::<RoleBinding>(&scene.mallory);
    for (request, way, grant) in all {
        let name = binding_name(&grant);
        let uid = bindings.get(&name).await.unwrap().uid().unwrap();
        scene
            .mallory_holds(("rbac.authorization.k8s.io/v1", "RoleBinding"), &name, &uid)
            .await;
        bindings.delete(&name, &way).await.unwrap();
        is_drifted(&scene, &grant, request).await;
    }
    scene.has_no_access().await;
}

/// The grant ends because its binding was deleted, and the request says so.
async fn is_drifted(scene: &Scene, grant: &AccessGrant, request: &str) {
    let end = scene.grant_ended(grant).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Drifted);
    assert!(end.message.contains("deleted"), "{}", end.message);
    let ended = scene.request_in(request, RequestPhase::Revoked).await;
    assert_eq!(ended.status.unwrap().message, Some(end.message));
}

/// What admins do with grants: `kubectl delete accessgrant`, with each way to treat what the grant owns.
async fn a_grant_that_is_deleted_takes_its_binding_along_however_it_is_deleted(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let ways = ["background", "foreground", "orphan"];
    let mut all = vec![];
    for number in 0..4 {
        for way in ways {
            let request = format!("{way}-{number}");
            all.push((way, scene.quickly_granted(&scene.request(&request)).await, request));
        }
    }
    assert_eq!(scene.bindings().await.len(), all.len());
    if scene.world.setting == Setting::InTurn {
        unreserved(&scene).await;
    }
    for way in ways {
        let of_this_way = all.iter().filter(|(its, ..)| *its == way);
        let mut delete = vec![
            "delete".to_owned(),
            "accessgrant".to_owned(),
            format!("--cascade={way}"),
            "--wait=false".to_owned(),
        ];
        delete.extend(of_this_way.map(|(_, grant, _)| grant.name_any()));
        scene
            .cluster()
            .admin()
            .kubectl(delete)
            .await
            .unwrap()
            .ok()
            .unwrap_or_else(|error| panic!("{error}"));
    }
    for (_, grant, request) in &all {
        gone(scene.grants(), &grant.name_any(), "no grant any more").await;
        let ended = scene.request_in(request, RequestPhase::Revoked).await;
        assert_eq!(
            condition::get(&ended.status.unwrap().conditions, condition::ENDED)
                .unwrap()
                .reason,
            "GrantDeleted"
        );
        let gone = scene
            .role_bindings()
            .get_opt(&binding_name(grant))
            .await
            .unwrap()
            .is_none();
        assert!(gone, "{request} said that it ended, and its binding is there");
    }
    scene.has_no_access().await;
}

async fn a_namespace_that_is_deleted_with_its_request_ends_the_grant_and_is_not_held_up(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.quickly_granted(&scene.request("look")).await;
    let namespaces = scene.deletes_its_namespace().await;
    let end = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    // Which of these is seen first is the namespace controller's matter.
    assert!(
        [EndReason::TargetGone, EndReason::RequestDeleted, EndReason::Drifted].contains(&end.reason),
        "{end:?}"
    );
    eventually("the namespace is gone", async || {
        namespaces.get_opt(&scene.namespace).await.unwrap().is_none()
    })
    .await;
    assert!(!lists_configmaps(&scene, &scene.alice).await);
}

/// Takes the guard away that reserves Curfew's bindings: what is under it must hold without it. Nothing is granted after that.
async fn unreserved(scene: &Scene) {
    scene.world.remove_guard("curfew-reserved").await;
}

/// Each of these changes ends the grant of the binding that it was made to, says what was done, and leaves nobody with access.
async fn each_ends_its_grant(scene: &Scene, which: &[&str]) {
    scene.namespace_admin().await;
    scene.has_policy(&scene.policy()).await;
    let bindings = scene.of::<RoleBinding>(&scene.mallory);
    let shelf = shelf(scene).await;
    let mut granted = vec![];
    for request in which {
        granted.push((request, scene.quickly_granted(&scene.request(request)).await));
    }
    unreserved(scene).await;
    for (request, grant) in granted {
        let (_, change, says) = changes(scene, &grant, &shelf)
            .into_iter()
            .find(|(its, ..)| its == request)
            .unwrap();
        merges(&bindings, &binding_name(&grant), change).await.unwrap();
        let end = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
        assert_eq!(end.reason, EndReason::Drifted, "{request}");
        assert!(end.message.ends_with(says), "{request}: {}", end.message);
        let request = scene.request_in(request, RequestPhase::Revoked).await;
        assert_eq!(request.status.unwrap().message, Some(end.message));
        let left = scene.role_bindings().get_opt(&binding_name(&grant)).await.unwrap();
        assert_eq!(left, None, "the binding is there");
        assert!(!lists_configmaps(scene, &scene.carol).await, "carol has access");
    }
    scene.has_no_access().await;
    let log = scene.cluster().audit_log().unwrap();
    let all_gone = scene.operator_writes();
    for changed in log.iter().filter(|event| {
        (event.verb.as_str(), &event.namespace) == ("patch", &scene.namespace)
            && (event.resource.as_str(), event.user.username.as_str()) == ("rolebindings", scene.mallory.name())
    }) {
        let of_it = all_gone
            .iter()
            .filter(|event| event.name == changed.name && event.verb != "create");
        let gone = of_it.map(|event| event.finished).max().unwrap();
        let took = gone.duration_since(changed.finished);
        assert!(took.as_secs_f64() < 2.0, "{}: it took {took:?}", changed.name);
    }
}

async fn case_54_subjects_added_to_a_binding_end_its_grant_and_all_lose_access(scene: Scene) {
    each_ends_its_grant(&scene, &["subject-added", "subject-exchanged", "no-subject"]).await;
}

async fn case_56_labels_annotations_or_owners_changed_on_a_binding_end_its_grant(scene: Scene) {
    let labels = [
        "labels-stripped",
        "label-changed",
        "deadline-moved",
        "annotations-stripped",
    ];
    let owners = ["owner-stripped", "unrecognisable", "only-the-label-left"];
    each_ends_its_grant(&scene, &[labels.as_slice(), &owners].concat()).await;
}

async fn case_58a_what_would_hold_a_binding_is_taken_off_and_its_grant_ends(scene: Scene) {
    each_ends_its_grant(
        &scene,
        &["second-owner", "another-owner", "finalizer", "finalizer-and-all"],
    )
    .await;
}

async fn case_55_a_binding_that_is_replaced_ends_its_grant_and_the_foreign_one_stays(scene: Scene) {
    scene.namespace_admin().await;
    scene.has_policy(&scene.policy()).await;
    let grant = scene.quickly_granted(&scene.request("look")).await;
    let (name, bindings) = (binding_name(&grant), scene.of::<RoleBinding>(&scene.mallory));
    unreserved(&scene).await;
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    let placed = creates(&scene.mallory, &foreign(&scene, &name)).await.unwrap();
    let end = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Drifted);
    assert!(!scene.alice_may().await);
    assert_eq!(scene.role_bindings().get(&name).await.unwrap().uid(), placed.uid());
    assert!(
        lists_configmaps(&scene, &scene.carol).await,
        "the foreign binding does what it did"
    );
}

async fn case_57_a_foreign_binding_that_looks_a_little_like_ours_stays(scene: Scene) {
    scene.namespace_admin().await;
    scene.has_policy(&scene.policy()).await;
    let grant = scene.quickly_granted(&scene.request("look")).await;
    unreserved(&scene).await;
    let (live, nobodys) = (grant.uid().unwrap(), "22222222-2222-2222-2222-222222222222");
    let owned_otherwise = shelf(&scene).await;
    let own_grant =
        json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "name": grant.name_any(), "uid": live});
    let label = |uid: &str| json!({"curfew.dev/grant-uid": uid});
    let lookalikes = [
        with_metadata(foreign(&scene, "labelled"), json!({"labels": label(nobodys)})),
        with_metadata(
            foreign(&scene, "labelled-and-owned"),
            json!({"labels": label(&live), "ownerReferences": [own_grant]}),
        ),
        with_metadata(foreign(&scene, "curfew-named"), json!({"labels": label(nobodys)})),
        with_metadata(
            foreign(&scene, &format!("curfew-{nobodys}")),
            json!({"labels": label(nobodys)}),
        ),
        with_metadata(
            foreign(&scene, "curfew-33333333-3333-3333-3333-333333333333"),
            json!({"labels": label("33333333-3333-3333-3333-333333333333"), "ownerReferences": [owned_otherwise]}),
        ),
        with_metadata(
            foreign(&scene, "curfew-44444444-4444-4444-4444-444444444444"),
            json!({"ownerReferences": [own_grant]}),
        ),
    ];
    let mut stay = vec![];
    for binding in &lookalikes {
        stay.push(creates(&scene.mallory, binding).await.unwrap());
    }
    // With all the marks, and no grant that explains it, it goes. By then the others were looked at too.
    let uid = "55555555-5555-5555-5555-555555555555";
    creates(
        &scene.mallory,
        &with_metadata(foreign(&scene, &format!("curfew-{uid}")), marks(uid)),
    )
    .await
    .unwrap();
    eventually("the binding that bears all marks is gone", async || {
        scene
            .role_bindings()
            .get_opt(&format!("curfew-{uid}"))
            .await
            .unwrap()
            .is_none()
    })
    .await;

    scene.decides(&scene.alice, "look", "revoke").await.unwrap();
    scene.grant_ended(&grant).await;
    assert!(!scene.alice_may().await);
    for binding in stay {
        let found = scene.role_bindings().get_opt(&binding.name_any()).await.unwrap();
        let (name, uid) = (binding.name_any(), binding.uid());
        assert!(
            found.is_some_and(|found| found.uid() == uid && found.metadata.deletion_timestamp.is_none()),
            "{name} is not as it was"
        );
    }
}

/// What the operator would do next with a request, done as the operator: the grant and the seal, and nothing after it.
async fn granted_and_then_stopped(scene: &Scene, name: &str) -> AccessGrant {
    let reads = Reads::new(scene.cluster().admin().client().unwrap());
    let request = scene.request_now(name).await;
    let role = reads.role(&request.spec.role, &scene.namespace).await.unwrap();
    let target = reads.namespace(&scene.namespace).await.unwrap();
    let now = time::from_kubernetes(request.metadata.creation_timestamp.as_ref().unwrap()).unwrap();
    let mut observed = Observed {
        policies: reads.policies().await.unwrap(),
        role,
        targets: target.into_iter().collect(),
        others: Others::default(),
        extended: None,
        grant: None,
        left_behind: false,
        home: Home {
            namespace: scene.world.installation.namespace().into(),
        },
        brake: None,
        guards: Standing {
            epoch: Some(scene.world.epoch().await),
            since: Some(now),
            in_force: true,
        },
        request,
    };
    let plan = request::decide(&observed, now);
    let Plan::Grant { spec, .. } = plan else {
        panic!("not to be granted: {plan:?}")
    };
    let grant = AccessGrant::new(&grant_name(&observed.request.uid().unwrap()), *spec);
    let operator = scene.world.installation.operator_user().await.unwrap();
    let grant: AccessGrant = Api::all(operator.client().unwrap())
        .create(&PostParams::default(), &grant)
        .await
        .unwrap();
    observed.grant = Some(grant.clone());
    let Plan::Publish { status, wake: _ } = request::decide(&observed, now) else {
        panic!("not to be sealed")
    };
    assert!(status.seal.is_some(), "{status:?}");
    let sealed = AccessRequest {
        status: Some(*status),
        ..observed.request
    };
    let requests = scene.of::<AccessRequest>(&operator);
    requests
        .replace_status(name, &PostParams::default(), &sealed)
        .await
        .unwrap();
    grant
}

async fn case_53_a_foreign_binding_that_has_our_name_already_is_neither_used_nor_deleted(scene: Scene) {
    let operator = scene.world.installation.operator().unwrap();
    scene.namespace_admin().await;
    // Its grants are made here by hand, without an anchor.
    scene
        .has_policy(&scene.policy_with(json!({"deadMansSwitch": "BestEffort"})))
        .await;
    for request in ["look", "same"] {
        scene.quickly_asked(&scene.request(request)).await;
    }
    operator.stop().await.unwrap();
    let (mut granted, mut placed) = (vec![], vec![]);
    for request in ["look", "same"] {
        scene.decides(&scene.bob, request, "approve").await.unwrap();
        granted.push((request, granted_and_then_stopped(&scene, request).await));
    }
    unreserved(&scene).await;
    for (request, grant) in granted {
        // One is for somebody else; the other is for alice herself, so that it would serve, and has no deadline on it.
        let subject = if request == "look" { &scene.carol } else { &scene.alice };
        let binding = scene.binding(&binding_name(&grant), ("Role", "reader"), person(subject.name()));
        placed.push((request, grant, creates(&scene.mallory, &binding).await.unwrap()));
    }
    operator.spawn().unwrap();
    scene.world.put_guards_back().await;
    for (request, grant, binding) in placed {
        let ended = scene.grant_ended(&grant).await;
        let status = ended.status.unwrap();
        assert_eq!(
            (status.end.as_ref().unwrap().reason, status.bindings.as_slice()),
            (EndReason::BindFailed, [].as_slice())
        );
        let failed = scene.request_in(request, RequestPhase::Failed).await;
        let message = failed.status.unwrap().message.unwrap();
        assert!(
            message.contains(&scene.namespace) && message.contains("was there already"),
            "{message}"
        );
        assert_eq!(
            scene.role_bindings().get(&binding.name_any()).await.unwrap().uid(),
            binding.uid()
        );
    }
}

async fn what_was_done_to_bindings_while_the_operator_was_away_is_dealt_with_when_it_returns(scene: Scene) {
    let (operator, admin) = (scene.world.installation.operator().unwrap(), scene.cluster().admin());
    scene.namespace_admin().await;
    scene.has_policy(&scene.policy()).await;

    // A grant that was deleted, so that none explains its binding.
    let orphaned = scene.quickly_granted(&scene.request("orphaned")).await;
    operator.stop().await.unwrap();
    scene
        .grants()
        .delete(&orphaned.name_any(), &DeleteParams::orphan())
        .await
        .unwrap();
    operator.start().await.unwrap();
    gone(scene.grants(), &orphaned.name_any(), "no grant any more").await;
    scene.has_no_access().await;

    // What a foreign finalizer holds and the operator can't take off still gives access, and nothing says otherwise.
    let held = scene.quickly_granted(&scene.request("held")).await;
    unreserved(&scene).await;
    let roles: Api<ClusterRole> = Api::all(admin.client().unwrap());
    let full = roles.get("curfew:operator").await.unwrap().rules.unwrap();
    let mut crippled = full.clone();
    for rule in &mut crippled {
        if rule
            .resources
            .iter()
            .flatten()
            .any(|resource| resource == "rolebindings")
        {
            rule.verbs.retain(|verb| verb != "patch");
        }
    }
    merges(&roles, "curfew:operator", json!({"rules": crippled}))
        .await
        .unwrap();
    let bindings = scene.of::<RoleBinding>(&scene.mallory);
    merges(
        &bindings,
        &binding_name(&held),
        json!({"metadata": {"finalizers": ["example.com/hold"]}}),
    )
    .await
    .unwrap();
    let ending = |grant: Option<&AccessGrant>| {
        grant.is_some_and(|grant| grant.status.as_ref().unwrap().phase == Some(GrantPhase::Ending))
    };
    let stuck = watched(scene.grants(), &held.name_any(), "a grant that can't end", ending)
        .await
        .unwrap()
        .status
        .unwrap();
    assert!(condition::is_true(&stuck.conditions, condition::OVERDUE));
    let told = scene.request_that("held", "a request that says so", |request| {
        request
            .status
            .as_ref()
            .unwrap()
            .message
            .as_ref()
            .is_some_and(|message| message.contains("keeps the binding alive"))
    });
    assert_eq!(told.await.status.unwrap().phase, Some(RequestPhase::Active));
    scene.has_access().await;
    assert!(scene.bindings().await[0].metadata.deletion_timestamp.is_some());
    merges(&roles, "curfew:operator", json!({"rules": full})).await.unwrap();
    let end = scene.grant_ended(&held).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Drifted);
    scene.has_no_access().await;

    // A finalizer put on while nobody looked, and a deadline that passed: ended as soon as somebody looks.
    scene.world.put_guards_back().await;
    let replaced = scene.quickly_granted(&scene.request("replaced")).await;
    let late = scene
        .quickly_granted(&scene.request_with("late", json!({"duration": "20s"})))
        .await;
    operator.stop().await.unwrap();
    unreserved(&scene).await;
    merges(
        &bindings,
        &binding_name(&late),
        json!({"metadata": {"finalizers": ["example.com/hold"]}}),
    )
    .await
    .unwrap();
    let name = binding_name(&replaced);
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    let foreign_one = creates(&scene.mallory, &foreign(&scene, &name)).await.unwrap();
    let deadline = curfew::core::grant::deadline(&late);
    eventually("the deadline passed", async || {
        curfew::cluster::clock::Clock::system().now() > deadline
    })
    .await;
    // And with nobody to collect what has lost its owner, the operator itself removes what no grant explains.
    scene.cluster().stop_component(Component::ControllerManager).unwrap();
    let uid = "55555555-5555-5555-5555-555555555555";
    creates(
        &scene.mallory,
        &with_metadata(foreign(&scene, &format!("curfew-{uid}")), marks(uid)),
    )
    .await
    .unwrap();
    // A guard is away, so it is not ready and grants nothing. It ends all the same.
    operator.spawn().unwrap();
    assert_eq!(
        scene.grant_ended(&late).await.status.unwrap().end.unwrap().reason,
        EndReason::Expired
    );
    let end = scene.grant_ended(&replaced).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Drifted);
    assert!(
        end.message.contains("is not Curfew's and was left alone"),
        "{}",
        end.message
    );
    eventually("what no grant explains is gone", async || {
        scene.bindings().await.len() == 1
    })
    .await;
    assert_eq!(scene.bindings().await[0].uid(), foreign_one.uid());
    assert!(!scene.alice_may().await);
}
