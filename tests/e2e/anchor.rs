//! The dead man's switch: access ends without the operator, and whatever is done to an anchor ends access sooner, never later.

use std::time::Duration;

use curfew::api::{AccessGrant, AccessRequest, EndReason, RequestPhase, condition, time};
use curfew::core::grant::{deadline, has_ended};
use curfew_testbed::{Component, User};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::scene::Scene;
use crate::tools::{eventually, eventually_within};
use crate::world::{Case, cases};

/// An anchor ends what hangs on it a minute and a few seconds after the deadline at the latest; the rest is kube-controller-manager's own time.
const GRACE: Duration = Duration::from_secs(65 + 30);

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            case_58_nobody_but_curfew_makes_or_changes_an_anchor_and_nobody_orphans_one,
            case_58_an_anchor_deleted_by_hand_ends_what_hangs_on_it_at_once,
            case_58_the_operators_token_makes_no_job_that_runs_and_no_service_that_leads_anywhere;
        Older []: grants_hang_on_an_anchor_on_1_34_too;
        Lent [OperatorProcess, AuditLog]: case_42_with_the_operator_gone_for_good_access_ends_within_the_grace;
        Alone [OperatorProcess, AuditLog]:
            case_58_an_anchor_changed_while_its_guard_is_away_ends_its_grants,
            an_anchor_on_which_nothing_hangs_is_taken_away;
        Alone [OperatorProcess, ComponentControl]:
            without_kube_controller_manager_only_best_effort_is_granted_and_says_so;
    ]
}

fn jobs(scene: &Scene, user: &User) -> Api<Job> {
    Api::namespaced(user.client().unwrap(), scene.world.installation.namespace())
}

fn services(scene: &Scene, user: &User) -> Api<Service> {
    Api::namespaced(user.client().unwrap(), scene.world.installation.namespace())
}

fn merge(patch: Value) -> Patch<Value> {
    Patch::Merge(patch)
}

/// As a JSON merge patch (RFC 7386) does it.
fn patched(object: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *object = patch;
        return;
    };
    for (field, value) in patch {
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(&field)),
            value => patched(&mut object[&field], value),
        }
    }
}

fn anchor(grant: &AccessGrant) -> String {
    grant.spec.anchor.as_ref().expect("it hangs on an anchor").name.clone()
}

async fn case_42_with_the_operator_gone_for_good_access_ends_within_the_grace(scene: Scene) {
    scene.has_policy(&scene.policy_with(json!({"clusterWide": true}))).await;
    let other = scene
        .granted(&scene.request_with("long", json!({"duration": "1h"})))
        .await;
    // Long enough that no slow machine ends them before the operator is killed.
    let brief = Duration::from_secs(30);
    let short = json!({"duration": format!("{}s", brief.as_secs())});
    scene
        .granted(&scene.wide_request("short-and-wide", short.clone()))
        .await;
    let grant = scene.granted(&scene.request_with("short", short)).await;
    assert!(condition::is_true(
        &grant.status.as_ref().unwrap().conditions,
        condition::DEAD_MANS_SWITCH
    ));
    scene.world.installation.operator().unwrap().kill().unwrap();

    let binding = grant.status.as_ref().unwrap().bindings[0].name.clone();
    let gone = async || scene.role_bindings().get_opt(&binding).await.unwrap().is_none();
    eventually_within(brief + GRACE, "kube-controller-manager ends it", gone).await;
    let gone = async || scene.wide_bindings().await.is_empty();
    eventually_within(brief + GRACE, "and what holds in the whole cluster", gone).await;
    let deletes: Vec<_> = scene
        .cluster()
        .audit_log()
        .unwrap()
        .into_iter()
        .filter(|event| event.verb == "delete" && event.name == binding)
        .collect();
    assert_eq!(deletes.len(), 1, "{deletes:#?}");
    assert!(
        deletes[0].user.username.ends_with("generic-garbage-collector"),
        "{:?}",
        deletes[0].user
    );
    let anchor_ends = grant.spec.anchor.as_ref().unwrap().ends_at.0;
    let promised = anchor_ends.as_second() - deadline(&grant).timestamp();
    assert!((0..=65).contains(&promised), "the grace is {promised} s");
    let late = deletes[0].finished.as_second() - deadline(&grant).timestamp();
    assert!(late >= 0, "{late} s: never sooner than the deadline");
    // What ends later is untouched, and so is the other's access.
    assert_eq!(scene.bindings().await.len(), 1);
    assert!(scene.alice_may().await);
    assert_ne!(anchor(&grant), anchor(&other));
    let address = Api::<IPAddress>::all(scene.cluster().admin().client().unwrap());
    let of = |grant: &AccessGrant| grant.spec.anchor.clone().unwrap().address;
    assert!(address.get_opt(&of(&grant)).await.unwrap().is_none());
    assert!(address.get_opt(&of(&other)).await.unwrap().is_some());
}

async fn grants_hang_on_an_anchor_on_1_34_too(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    let binding = scene.bindings().await.remove(0);
    let owner = &binding.metadata.owner_references.unwrap()[0];
    let anchor = grant.spec.anchor.unwrap();
    assert_eq!((owner.kind.as_str(), &owner.name), ("IPAddress", &anchor.address));
    assert_eq!(owner.uid, anchor.address_uid);
}

// ---- foreign hands -------------------------------------------------------------------------------------------------

async fn case_58_nobody_but_curfew_makes_or_changes_an_anchor_and_nobody_orphans_one(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    let (name, admin) = (anchor(&grant), scene.cluster().admin());
    let (jobs, services) = (jobs(&scene, admin), services(&scene, admin));
    let changes = [
        json!({"spec": {"suspend": true}}),
        json!({"spec": {"activeDeadlineSeconds": 100_000}}),
        json!({"spec": {"ttlSecondsAfterFinished": null}}),
        json!({"metadata": {"finalizers": ["example.com/hold"]}}),
        json!({"metadata": {"labels": {"curfew.dev/anchor": null}}}),
    ];
    for change in changes {
        let error = jobs
            .patch(&name, &PatchParams::default(), &merge(change.clone()))
            .await
            .expect_err(&change.to_string());
        assert!(error.to_string().contains("are Curfew's anchors"), "{change}: {error}");
    }
    for change in [
        json!({"metadata": {"ownerReferences": null}}),
        json!({"metadata": {"finalizers": ["example.com/hold"]}}),
        json!({"spec": {"type": "NodePort"}}),
    ] {
        let error = services
            .patch(&name, &PatchParams::default(), &merge(change.clone()))
            .await
            .expect_err(&change.to_string());
        assert!(error.to_string().contains("are Curfew's anchors"), "{change}: {error}");
    }
    let status = json!({"status": {"conditions": [{"type": "Hold", "status": "True"}]}});
    let error = jobs
        .patch_status(&name, &PatchParams::default(), &merge(status))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("are Curfew's anchors"), "{error}");
    let orphan = DeleteParams::orphan();
    // The API orphans what a Job owns when nothing is said.
    for how in [&orphan, &DeleteParams::default()] {
        let error = jobs.delete(&name, how).await.expect_err("orphaned");
        assert!(error.to_string().contains("--cascade=orphan"), "{error}");
    }
    let error = services.delete(&name, &orphan).await.expect_err("orphaned");
    assert!(error.to_string().contains("--cascade=orphan"), "{error}");
    let addresses = Api::<IPAddress>::all(admin.client().unwrap());
    let address = grant.spec.anchor.clone().unwrap().address;
    let error = addresses.delete(&address, &orphan).await.expect_err("orphaned");
    assert!(error.to_string().contains("--cascade=orphan"), "{error}");
    let held = merge(json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    let held = addresses.patch(&address, &PatchParams::default(), &held).await;
    let error = held.expect_err("held");
    assert!(error.to_string().contains("can't be held by a finalizer"), "{error}");
    let squatting = json!({"metadata": {"name": "curfew-until-20400101t0000z"}, "spec": {"ports": [{"port": 9}]}});
    let error = services
        .create(&PostParams::default(), &serde_json::from_value(squatting).unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("are Curfew's anchors"), "{error}");
    scene.has_access().await;
}

async fn case_58_an_anchor_deleted_by_hand_ends_what_hangs_on_it_at_once(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    // An odd duration: no other test's access hangs on the anchor of that minute.
    for (name, duration) in [("job", "48m"), ("service", "49m")] {
        let grant = scene
            .granted(&scene.request_with(name, json!({"duration": duration})))
            .await;
        let (anchor, admin) = (anchor(&grant), scene.cluster().admin());
        let gone = match name {
            "job" => jobs(&scene, admin)
                .delete(&anchor, &DeleteParams::background())
                .await
                .map(drop),
            _ => services(&scene, admin)
                .delete(&anchor, &DeleteParams::default())
                .await
                .map(drop),
        };
        gone.unwrap();
        let ended = scene.grant_ended(&grant).await;
        let reason = ended.status.unwrap().end.unwrap().reason;
        // Who is quicker: the operator, or the garbage collector.
        assert!(
            matches!(reason, EndReason::AnchorBroken | EndReason::Drifted),
            "{reason:?}"
        );
        scene.has_no_access().await;
        scene.request_in(name, RequestPhase::Revoked).await;
    }
}

async fn case_58_the_operators_token_makes_no_job_that_runs_and_no_service_that_leads_anywhere(scene: Scene) {
    let operator = scene.world.installation.operator_user().await.unwrap();
    let (jobs, services) = (jobs(&scene, &operator), services(&scene, &operator));
    let until =
        curfew::core::anchor::Until::serving(chrono::DateTime::from_timestamp(4_000_000_000, 0).unwrap()).unwrap();
    let now = chrono::DateTime::from_timestamp(3_999_999_000, 0).unwrap();
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let job = serde_json::to_value(curfew::core::anchor::job(until, now)).unwrap();
    let as_made = serde_json::from_value(job.clone()).unwrap();
    jobs.create(&dry_run, &as_made).await.expect("as the operator makes it");
    for (change, because) in [
        (json!({"spec": {"parallelism": 1}}), "run no pod"),
        (json!({"spec": {"ttlSecondsAfterFinished": 100}}), "run no pod"),
        (json!({"spec": {"activeDeadlineSeconds": null}}), "run no pod"),
        (json!({"spec": {"suspend": true}}), "run no pod"),
        (json!({"metadata": {"name": "another"}}), "must be named"),
        (
            json!({"metadata": {"finalizers": ["example.com/hold"]}}),
            "must be named",
        ),
        (json!({"metadata": {"labels": null}}), "must be named"),
        (
            json!({"spec": {"template": {"spec": {"volumes": [{"name": "x", "emptyDir": {}}]}}}}),
            "nothing to run",
        ),
        (
            json!({"spec": {"template": {"spec": {"automountServiceAccountToken": true}}}}),
            "nothing to run",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"name": "never", "image": "busybox"}]}}}}),
            "nothing to run",
        ),
    ] {
        let mut other = job.clone();
        patched(&mut other, change.clone());
        let error = jobs
            .create(&dry_run, &serde_json::from_value(other).unwrap())
            .await
            .expect_err(&change.to_string());
        assert!(error.to_string().contains(because), "{change}: {error}");
    }
    let service = serde_json::to_value(curfew::core::anchor::service(until, "some-uid")).unwrap();
    services
        .create(&dry_run, &serde_json::from_value(service.clone()).unwrap())
        .await
        .expect("as the operator makes it");
    for change in [
        json!({"spec": {"selector": {"app": "x"}}}),
        json!({"spec": {"externalIPs": ["192.0.2.1"]}}),
        json!({"spec": {"type": "LoadBalancer"}}),
        json!({"metadata": {"ownerReferences": null}}),
    ] {
        let mut other = service.clone();
        patched(&mut other, change.clone());
        let error = services
            .create(&dry_run, &serde_json::from_value(other).unwrap())
            .await
            .expect_err(&change.to_string());
        assert!(error.to_string().contains("must lead nowhere"), "{change}: {error}");
    }
}

/// One grant for each way, each on an anchor of its own.
async fn case_58_an_anchor_changed_while_its_guard_is_away_ends_its_grants(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let admin = scene.cluster().admin();
    let (jobs, services) = (jobs(&scene, admin), services(&scene, admin));
    let ways = ["suspended", "extended", "held", "orphaned", "addressless"];
    let mut grants = vec![];
    for (number, way) in ways.iter().enumerate() {
        let duration = format!("{}m", 10 * (number + 1));
        grants.push(
            scene
                .granted(&scene.request_with(way, json!({"duration": duration})))
                .await,
        );
    }
    scene.world.remove_guard("curfew-anchors").await;
    let probe = json!({"metadata": {"labels": {"probe": "x"}}});
    eventually("the guard is gone", async || {
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        jobs.patch(&anchor(&grants[0]), &params, &merge(probe.clone()))
            .await
            .is_ok()
    })
    .await;
    for (way, grant) in ways.iter().zip(&grants) {
        let (name, params) = (anchor(grant), PatchParams::default());
        let done = match *way {
            "suspended" => jobs
                .patch(&name, &params, &merge(json!({"spec": {"suspend": true}})))
                .await
                .map(drop),
            "extended" => {
                let longer = json!({"spec": {"activeDeadlineSeconds": 100_000}});
                jobs.patch(&name, &params, &merge(longer)).await.map(drop)
            }
            "held" => {
                let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
                jobs.patch(&name, &params, &merge(held)).await.map(drop)
            }
            "orphaned" => {
                let orphaned = json!({"metadata": {"ownerReferences": null}});
                services.patch(&name, &params, &merge(orphaned)).await.map(drop)
            }
            _ => {
                let address = grant.spec.anchor.clone().unwrap().address;
                Api::<IPAddress>::all(admin.client().unwrap())
                    .delete(&address, &DeleteParams::default())
                    .await
                    .map(drop)
            }
        };
        done.unwrap_or_else(|error| panic!("{way}: {error}"));
        let ended = scene.grant_ended(grant).await;
        let end = ended.status.unwrap().end.unwrap();
        let expected = if *way == "addressless" {
            EndReason::Drifted
        } else {
            EndReason::AnchorBroken
        };
        assert_eq!(end.reason, expected, "{way}: {}", end.message);
        assert!(
            time::from_kubernetes(&end.at.unwrap()).unwrap() < deadline(grant),
            "{way}"
        );
    }
    scene.has_no_access().await;
}

// ---- upkeep --------------------------------------------------------------------------------------------------------

async fn an_anchor_on_which_nothing_hangs_is_taken_away(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let stays = scene
        .granted(&scene.request_with("stays", json!({"duration": "50m"})))
        .await;
    let goes = scene
        .granted(&scene.request_with("goes", json!({"duration": "30m"})))
        .await;
    scene.said(&scene.bob, "goes", "revoke").await;
    scene.grant_ended(&goes).await;
    let jobs = jobs(&scene, scene.cluster().admin());
    let limit = Duration::from_secs(240);
    eventually_within(limit, "the idle anchor is taken away", async || {
        jobs.get_opt(&anchor(&goes)).await.unwrap().is_none()
    })
    .await;
    eventually("its Service goes too", async || {
        let services = services(&scene, scene.cluster().admin());
        services.get_opt(&anchor(&goes)).await.unwrap().is_none()
    })
    .await;
    assert!(jobs.get_opt(&anchor(&stays)).await.unwrap().is_some());
    scene.has_access().await;
}

fn waits_for_an_anchor(request: &AccessRequest) -> bool {
    let status = request.status.clone().unwrap_or_default();
    condition::get(&status.conditions, condition::GRANTED).is_some_and(|granted| granted.reason == "NoAnchor")
}

async fn without_kube_controller_manager_only_best_effort_is_granted_and_says_so(scene: Scene) {
    let cluster = scene.cluster();
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("strict")).await;
    cluster.stop_component(Component::ControllerManager).unwrap();
    scene.said(&scene.bob, "strict", "approve").await;
    let waiting = scene
        .request_that("strict", "it says why it waits", waits_for_an_anchor)
        .await;
    let message = waiting.status.unwrap().message.unwrap();
    assert!(message.contains("kube-controller-manager doesn't begin"), "{message}");
    assert!(
        scene
            .grants()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    scene.has_no_access().await;

    // The same policy, loosened: the offer is another now, and is approved again.
    scene
        .has_policy(&scene.policy_with(json!({"deadMansSwitch": "BestEffort"})))
        .await;
    scene
        .request_that("strict", "another offer", |request| {
            request.status.as_ref().is_some_and(|status| !status.open.is_empty())
        })
        .await;
    scene.said(&scene.bob, "strict", "approve").await;
    let grant = scene.active("strict").await;
    let status = grant.status.clone().unwrap();
    let switch = condition::get(&status.conditions, condition::DEAD_MANS_SWITCH).unwrap();
    assert_eq!((switch.status.as_str(), switch.reason.as_str()), ("False", "NoAnchor"));
    assert!(grant.spec.anchor.is_none() && grant.spec.no_anchor.is_some());
    scene.said(&scene.bob, "strict", "revoke").await;
    scene.grant_ended(&grant).await;

    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("later")).await;
    scene.said(&scene.bob, "later", "approve").await;
    scene
        .request_that("later", "it says why it waits", waits_for_an_anchor)
        .await;
    cluster.start_component(Component::ControllerManager).await.unwrap();
    let grant = scene.active("later").await;
    assert!(grant.spec.anchor.is_some() && !has_ended(&grant));
}
