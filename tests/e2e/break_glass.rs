//! Access without anybody's approval: only where it is written out, named and given a reason for, and never quietly.

use curfew::api::{AccessGrant, EndReason, RequestPhase, Verdict, condition};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::retention::request_is_gone;
use crate::scene::{Scene, Word};
use crate::signs::metric_is;
use crate::tools::{eventually, watched};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            break_glass_gives_access_at_once_and_says_so_everywhere,
            break_glass_takes_a_reason_and_is_never_chosen_for_somebody,
            access_that_nobody_reviewed_in_time_stands_out_until_somebody_does,
            access_whose_request_is_gone_stays_unreviewed,
            what_nobody_has_reviewed_is_kept_whatever_its_policy_says_by_now,
            who_reviews_may_revoke,
            access_that_nobody_approved_is_reviewed_after_its_end_by_somebody_else;
        Older []:
            access_that_nobody_approved_is_reviewed_after_its_end_by_somebody_else,
            break_glass_gives_access_at_once_and_says_so_everywhere;
        Lent [OperatorProcess]: the_metrics_count_what_nobody_has_reviewed;
    ]
}

impl Scene {
    /// A policy that grants at once.
    pub async fn has_glass_to_break(&self) {
        // Merged into nothing of the usual approval.
        let mut policy = self.policy();
        policy["spec"]["approval"] = json!({"breakGlass": {}});
        self.has_policy(&policy).await;
    }

    /// Bob looks at it afterwards.
    fn reviewed_glass(&self, within: &str) -> Value {
        let mut policy = self.policy();
        policy["spec"]["approval"] = json!({"breakGlass": {}});
        policy["spec"]["review"] = json!({"approvers": {"users": [self.bob.name()]}, "within": within});
        policy
    }

    async fn has_reviewed_glass(&self, within: &str) {
        self.has_policy(&self.reviewed_glass(within)).await;
    }

    /// Breaks the glass, and has access.
    async fn broken(&self, name: &str) -> AccessGrant {
        self.asks(&self.alice, &self.emergency(name)).await.ok().unwrap();
        self.active(name).await
    }

    /// Waits until request and grant both say this of the review, and gives what they say.
    async fn review_is(&self, grant: &AccessGrant, reason: &str) -> String {
        let says = |conditions: &[Condition]| {
            condition::get(conditions, condition::REVIEWED).is_some_and(|reviewed| reviewed.reason == reason)
        };
        let name = &grant.spec.request.name;
        self.request_that(name, reason, |request| {
            request.status.as_ref().is_some_and(|status| says(&status.conditions))
        })
        .await;
        self.grant_says(grant, reason).await
    }

    /// Waits until an event of type Warning tells of this.
    async fn is_warned_of(&self, reason: &str) {
        let is_it =
            |event: &Event| event.reason.as_deref() == Some(reason) && event.type_.as_deref() == Some("Warning");
        eventually("an event warns of it", async || {
            let events = self.of::<Event>(self.cluster().admin());
            let all = events.list(&ListParams::default()).await.unwrap().items;
            all.iter().any(is_it)
        })
        .await;
    }

    async fn grant_says(&self, grant: &AccessGrant, reason: &str) -> String {
        let reviewed = |grant: &AccessGrant| {
            let conditions = &grant.status.as_ref()?.conditions;
            condition::get(conditions, condition::REVIEWED).cloned()
        };
        watched(
            self.grants(),
            &grant.name_any(),
            reason,
            |grant: Option<&AccessGrant>| {
                grant
                    .and_then(reviewed)
                    .is_some_and(|reviewed| reviewed.reason == reason)
            },
        )
        .await
        .unwrap();
        let grant = self.grants().get(&grant.name_any()).await.unwrap();
        reviewed(&grant).unwrap().message
    }

    /// A request to break the glass.
    pub fn emergency(&self, name: &str) -> Value {
        let policy = format!("policy-{}", self.id);
        self.request_with(name, json!({"policy": policy, "reason": "INC-7 \"all\" is down"}))
    }
}

async fn break_glass_gives_access_at_once_and_says_so_everywhere(scene: Scene) {
    scene.has_glass_to_break().await;
    scene.asks(&scene.alice, &scene.emergency("now")).await.ok().unwrap();
    let grant = scene.active("now").await;
    scene.has_access().await;
    assert!(grant.spec.break_glass && grant.spec.decisions.is_empty());
    assert_eq!(grant.spec.reason.as_deref(), Some("INC-7 \"all\" is down"));
    let request = scene.request_now("now").await.status.unwrap();
    for conditions in [&request.conditions, &grant.status.as_ref().unwrap().conditions] {
        assert!(condition::is_true(conditions, condition::BREAK_GLASS), "{conditions:?}");
    }
    let said = condition::get(&request.conditions, condition::BREAK_GLASS).unwrap();
    assert!(
        said.message.contains(scene.alice.name()) && said.message.contains("INC-7"),
        "{}",
        said.message
    );
    scene.is_warned_of("NobodyApproved").await;
    let listed = scene
        .kubectl(scene.cluster().admin(), &["get", "accessgrants"])
        .await
        .ok()
        .unwrap();
    let line = listed.lines().find(|line| line.starts_with(&grant.name_any())).unwrap();
    assert!(
        listed.lines().next().unwrap().contains("BREAKGLASS") && line.contains("true"),
        "{listed}"
    );

    scene.said(&scene.alice, "now", "revoke").await;
    scene.loses_access().await;
    scene.asks(&scene.alice, &scene.emergency("again")).await.ok().unwrap();
    let again = scene.active("again").await;
    scene
        .requests()
        .delete("again", &DeleteParams::default())
        .await
        .unwrap();
    let end = scene.grant_ended(&again).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::RequestDeleted);
    scene.has_no_access().await;
}

async fn break_glass_takes_a_reason_and_is_never_chosen_for_somebody(scene: Scene) {
    scene.has_glass_to_break().await;
    let mut silent = scene.emergency("silent");
    silent["spec"]["reason"] = json!(" ");
    scene.asks(&scene.alice, &silent).await.ok().unwrap();
    let why = scene.request_blocked_by("silent", "ReasonMissing").await;
    assert!(why.contains("requires a reason"), "{why}");
    let mut unnamed = scene.emergency("unnamed");
    unnamed["spec"].as_object_mut().unwrap().remove("policy");
    scene.asks(&scene.alice, &unnamed).await.ok().unwrap();
    scene.request_blocked_by("unnamed", "NoPolicyFits").await;
    let mallorys = scene.emergency("mallorys");
    scene.asks(&scene.mallory, &mallorys).await.ok().unwrap();
    scene.request_blocked_by("mallorys", "NotARequester").await;
    scene.has_no_access().await;
}

async fn access_that_nobody_approved_is_reviewed_after_its_end_by_somebody_else(scene: Scene) {
    scene.has_reviewed_glass("1h").await;
    let grant = scene.broken("now").await;
    scene.review_is(&grant, "Awaited").await;
    let listed = scene
        .kubectl(&scene.alice, &["get", "accessrequests"])
        .await
        .ok()
        .unwrap();
    let (head, line) = (listed.lines().next().unwrap(), listed.lines().nth(1).unwrap());
    assert!(head.contains("REVIEW") && line.contains("Awaited"), "{listed}");

    scene
        .refused(&scene.alice, "now", "review", "you can't review your own request")
        .await;
    scene
        .refused(&scene.carol, "now", "review", "you are not among those who may review")
        .await;
    scene.said(&scene.alice, "now", "revoke").await;
    scene.loses_access().await;
    scene.request_in("now", RequestPhase::Revoked).await;
    scene
        .refused(&scene.bob, "now", "revoke", "this request has ended (Revoked)")
        .await;
    let word = Word {
        word: "review",
        comment: Some("the shop was down"),
    };
    scene.said(&scene.bob, "now", word).await;
    let message = scene.review_is(&grant, "Reviewed").await;
    assert_eq!(
        message,
        format!("reviewed by {:?}: \"the shop was down\"", scene.bob.name())
    );
    let review = scene
        .grants()
        .get(&grant.name_any())
        .await
        .unwrap()
        .status
        .unwrap()
        .review
        .unwrap();
    assert_eq!(
        (review.verdict, review.username.as_str()),
        (Verdict::Review, scene.bob.name())
    );
    let request = scene.request_now("now").await.status.unwrap();
    assert_eq!(request.phase, Some(RequestPhase::Revoked), "its end stays as it was");
    assert_eq!(request.decisions.last().unwrap().reason, "it reviews the access");
    scene
        .refused(&scene.bob, "now", "review", "you have said this already")
        .await;
    scene.has_no_access().await;
}

async fn the_metrics_count_what_nobody_has_reviewed(scene: Scene) {
    scene.has_reviewed_glass("1h").await;
    let operator = scene.world.installation.operator().unwrap();
    let count = async |awaited: usize| {
        let line = format!("curfew_break_glass_unreviewed{{state=\"Awaited\"}} {awaited}\n");
        eventually(&line, async || operator.get("/metrics").await.unwrap().contains(&line)).await;
    };
    let grants = [scene.broken("one").await, scene.broken("two").await];
    count(2).await;
    metric_is(operator, "curfew_break_glass_grants_total", |number| number == 2.0).await;
    scene.said(&scene.bob, "one", "review").await;
    count(1).await;
    scene
        .grants()
        .delete(&grants[1].name_any(), &DeleteParams::default())
        .await
        .unwrap();
    count(0).await;
}

async fn access_that_nobody_reviewed_in_time_stands_out_until_somebody_does(scene: Scene) {
    scene.has_reviewed_glass("2s").await;
    let grant = scene.broken("now").await;
    let message = scene.review_is(&grant, "Overdue").await;
    assert!(
        message.contains("nobody reviewed it before") && message.ends_with("it still can be"),
        "{message}"
    );
    scene.is_warned_of("Overdue").await;
    scene.has_access().await;
    scene.said(&scene.bob, "now", "review").await;
    scene.review_is(&grant, "Reviewed").await;
    scene.has_access().await;
}

/// Nobody hides what they did by deleting their request.
async fn access_whose_request_is_gone_stays_unreviewed(scene: Scene) {
    scene.has_reviewed_glass("6s").await;
    let grant = scene.broken("now").await;
    scene.requests().delete("now", &DeleteParams::default()).await.unwrap();
    scene.grant_ended(&grant).await;
    let message = scene.grant_says(&grant, "Overdue").await;
    assert!(
        message.ends_with("nobody can any more, for its request was deleted"),
        "{message}"
    );
}

/// Nobody hides what they did by keeping nothing. When what ended last is removed, what ended first was to go sooner.
async fn what_nobody_has_reviewed_is_kept_whatever_its_policy_says_by_now(scene: Scene) {
    scene.has_reviewed_glass("1s").await;
    for name in ["unseen", "seen"] {
        scene.broken(name).await;
        scene.said(&scene.alice, name, "revoke").await;
        scene.request_in(name, RequestPhase::Revoked).await;
    }
    let mut policy = scene.reviewed_glass("1s");
    policy["spec"]["retention"] = json!("1s");
    scene.has_policy(&policy).await;
    for name in ["seen", "unseen"] {
        scene.said(&scene.bob, name, "review").await;
        request_is_gone(&scene, name).await;
    }
}

async fn who_reviews_may_revoke(scene: Scene) {
    scene.has_reviewed_glass("1h").await;
    let grant = scene.broken("now").await;
    scene.said(&scene.bob, "now", "revoke").await;
    scene.loses_access().await;
    let ended = scene.grant_ended(&grant).await.status.unwrap();
    assert_eq!(ended.end.unwrap().reason, EndReason::Revoked);
    scene.review_is(&grant, "Awaited").await;
}
