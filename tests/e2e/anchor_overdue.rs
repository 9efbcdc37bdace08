//! An anchor that isn't taken away in time: access ended all the same. Where kube-controller-manager didn't do its part no anchor is trusted any more.

use std::time::Duration;

use curfew::api::{AccessRequest, condition};
use curfew::core::anchor;
use curfew::core::grant::name as grant_name;
use curfew_testbed::Component;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::SignedDuration;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::scene::Scene;
use crate::signs::{assert_on_time, metric_is, now, tries};
use crate::tools::eventually_within;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            who_holds_the_job_of_an_anchor_from_elsewhere_stops_no_granting;
        Alone [OperatorProcess, ComponentControl, AuditLog]:
            an_anchor_that_isnt_taken_away_in_time_is_the_last_that_is_trusted,
    ]
}

/// An anchor ends what hangs on it a minute and a few seconds after the deadline at the latest; the rest is kube-controller-manager's own time.
pub const GRACE: Duration = Duration::from_secs(65 + 30);
/// The rest of two minutes, and twice [`anchor::GRACE`].
const LIMIT: Duration = Duration::from_secs(120 + 60);

async fn an_anchor_that_isnt_taken_away_in_time_is_the_last_that_is_trusted(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let later = scene.asked(&scene.request("later")).await;
    let grant = scene
        .granted(&scene.request_with("short", json!({"duration": until_the_minute_ends(8)})))
        .await;
    scene.cluster().stop_component(Component::ControllerManager).unwrap();
    scene.grant_ended(&grant).await;
    assert_on_time(&scene, &grant);

    let hung = grant.spec.anchor.unwrap();
    is_taken_away(&scene.at_home::<Job>(), &hung.name).await;
    let deletes = tries(&scene, "delete", "jobs");
    let deleted = deletes.iter().find(|event| event.name == hung.name).unwrap();
    let after = deleted.received.duration_since(hung.ends_at.0);
    assert!(
        after >= SignedDuration::from_secs(2 * anchor::GRACE.num_seconds()),
        "{after} after its end"
    );
    let stale = r#"curfew_reconcile_errors_total{controller="anchor",kind="stale"}"#;
    metric_is(scene.world.installation.operator().unwrap(), stale, |times| times > 0.0).await;

    // What was wrong may be right again, and nobody knows.
    scene
        .cluster()
        .start_component(Component::ControllerManager)
        .await
        .unwrap();
    scene.said(&scene.bob, "later", "approve").await;
    let says = |request: &AccessRequest| {
        let conditions = request.status.clone().unwrap_or_default().conditions;
        let granted = condition::get(&conditions, condition::GRANTED);
        granted.is_some_and(|granted| granted.reason == "NoAnchor" && granted.message.contains(&hung.name))
    };
    let waiting = scene
        .request_that("later", "it says which anchor wasn't taken away", says)
        .await;
    let message = waiting.status.unwrap().message.unwrap();
    assert!(message.contains("didn't take"), "{message}");
    let none = scene
        .grants()
        .get_opt(&grant_name(&later.uid().unwrap()))
        .await
        .unwrap();
    assert_eq!(none, None);
    scene.has_no_access().await;
}

/// Whoever sees a grant sees its Job's uid.
async fn who_holds_the_job_of_an_anchor_from_elsewhere_stops_no_granting(scene: Scene) {
    scene.namespace_admin().await;
    scene.has_policy(&scene.policy()).await;
    let short = json!({"duration": until_the_minute_ends(8)});
    let grant = scene.granted(&scene.request_with("short", short)).await;
    let hung = grant.spec.anchor.clone().unwrap();
    scene
        .mallory_holds(("batch/v1", "Job"), &hung.name, &hung.job_uid)
        .await;
    scene.grant_ended(&grant).await;
    let jobs = scene.at_home::<Job>();
    let is_held = async || {
        let job = jobs.get_opt(&hung.name).await.unwrap();
        job.is_none_or(|job| job.metadata.deletion_timestamp.is_some())
    };
    eventually_within(LIMIT, "kube-controller-manager begins to take it away", is_held).await;
    assert!(jobs.get_opt(&hung.name).await.unwrap().is_some(), "it is held");
    is_taken_away(&jobs, &hung.name).await;
    scene.granted(&scene.request("later")).await;
}

async fn is_taken_away(jobs: &Api<Job>, anchor: &str) {
    let is_gone = async || jobs.get_opt(anchor).await.unwrap().is_none();
    eventually_within(LIMIT, "the operator takes it away itself", is_gone).await;
}

/// A duration of so many seconds or more, with which an access that is granted soon ends in time for the anchor of a minute's end, with seconds to spare for a slow
/// machine: one more minute, and the anchor would be idle before it is overdue.
pub fn until_the_minute_ends(at_least: i64) -> String {
    const FOR_THE_ANCHOR: i64 = 20;
    let left = 60 - now().timestamp() % 60;
    let lasts = left - FOR_THE_ANCHOR;
    format!("{}s", if lasts < at_least { lasts + 60 } else { lasts })
}

/// So many seconds or more, with which an access that is granted soon ends when a minute has just begun: its anchor leaves it the rest of that.
pub fn until_a_minute_begins(at_least: i64) -> i64 {
    const BEGUN: i64 = 3;
    let lasts = 60 - now().timestamp() % 60 + BEGUN;
    if lasts < at_least { lasts + 60 } else { lasts }
}
