//! A process whose clock is wrong: it grants nothing and says why, and every access ends on time by the API server's clock.

use curfew::api::{AccessRequest, EndReason, condition};
use curfew::core::grant::name as grant_name;
use curfew_testbed::OperatorOptions;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use serde_json::json;

use crate::scene::Scene;
use crate::signs::{MARGIN, after_deadline, deletion_of, is_not_ready, leads, metric, metric_is};
use crate::tools::eventually;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Lent [OperatorProcess, WrongClock, AuditLog]:
            a_clock_that_is_ahead_or_behind_stops_granting_and_moves_no_end,
    ]
}

/// Behind by less than a minute: before that, the API server's certificate isn't valid yet.
const WRONG: [(&str, i64); 2] = [("ahead", 3600), ("behind", -45)];

/// The API server tells its time in whole seconds: so much sooner an access may end.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

async fn a_clock_that_is_ahead_or_behind_stops_granting_and_moves_no_end(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let right = scene.world.installation.operator().unwrap();
    for (way, seconds) in WRONG {
        let pending = scene.asked(&scene.request(way)).await;
        let short = scene
            .granted(&scene.request_with(&format!("{way}-short"), json!({"duration": "25s"})))
            .await;
        right.stop().await.unwrap();
        let options = OperatorOptions::new(env!("CARGO_BIN_EXE_curfew"))
            .arguments(["--namespace", scene.world.installation.namespace()])
            .clock_ahead(seconds);
        let wrong = scene.world.installation.spawn_operator(options).await.unwrap();
        is_not_ready(
            &wrong,
            &["access goes on ending on time", "clock and the API server's differ"],
        )
        .await;
        eventually("it holds the Lease", async || leads(&wrong).await).await;
        scene.said(&scene.bob, way, "approve").await;
        scene
            .request_that(way, "it says why it waits", waits_for_the_clock)
            .await;

        let end = scene.grant_ended(&short).await.status.unwrap().end.unwrap();
        assert_eq!(end.reason, EndReason::Expired);
        let late = after_deadline(&short, deletion_of(&scene, &short).finished);
        assert!(late >= -SECOND && late <= MARGIN, "{late} after its deadline");
        scene.has_no_access().await;
        #[allow(clippy::cast_precision_loss)]
        let off_by = |skew: f64| (skew - seconds as f64).abs() < 3.0;
        metric_is(&wrong, "curfew_clock_skew_seconds", off_by).await;
        assert_eq!(
            metric(&wrong, r#"curfew_granting_stopped{by="clock"}"#).await,
            Some(1.0)
        );
        let grant = grant_name(&pending.uid().unwrap());
        assert_eq!(scene.grants().get_opt(&grant).await.unwrap(), None);

        wrong.stop().await.unwrap();
        right.start().await.unwrap();
        scene.active(way).await;
        scene.said(&scene.alice, way, "revoke").await;
        scene.loses_access().await;
    }
}

fn waits_for_the_clock(request: &AccessRequest) -> bool {
    let status = request.status.clone().unwrap_or_default();
    condition::get(&status.conditions, condition::GRANTED)
        .is_some_and(|granted| (granted.status.as_str(), granted.reason.as_str()) == ("False", "ClockSkew"))
}
