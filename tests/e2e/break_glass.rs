//! Access without anybody's approval: only where it is written out, named and given a reason for, and never quietly.

use curfew::api::{EndReason, condition};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::scene::Scene;
use crate::tools::eventually;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            break_glass_gives_access_at_once_and_says_so_everywhere,
            break_glass_takes_a_reason_and_is_never_chosen_for_somebody;
        Older []: break_glass_gives_access_at_once_and_says_so_everywhere;
    ]
}

impl Scene {
    async fn has_glass_to_break(&self) {
        // Merged into nothing of the usual approval.
        let mut policy = self.policy();
        policy["spec"]["approval"] = json!({"breakGlass": {}});
        self.has_policy(&policy).await;
    }

    fn emergency(&self, name: &str) -> Value {
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
    eventually("an event warns of it", async || {
        let events = scene.of::<Event>(scene.cluster().admin());
        let all = events.list(&ListParams::default()).await.unwrap().items;
        all.iter()
            .any(|event| event.reason.as_deref() == Some("NobodyApproved") && event.type_.as_deref() == Some("Warning"))
    })
    .await;
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
