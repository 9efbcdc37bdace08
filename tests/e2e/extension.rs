//! Extending an access: approved anew, it goes on without a gap and is never double, for as long as the policy allows.

use curfew::api::{AccessGrant, EndReason, RequestPhase, condition};
use curfew::core::grant::deadline;
use kube::ResourceExt;
use serde_json::json;

use crate::scene::Scene;
use crate::signs::binding_of;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped [AuditLog]: an_extension_takes_over_without_a_gap_and_leaves_none_double;
        Shipped []:
            an_extension_that_is_denied_leaves_the_access_as_it_was,
            what_has_ended_or_is_anothers_is_not_extended,
            the_sum_is_no_longer_than_the_policy_allows,
            an_access_under_a_limit_of_one_is_extended_all_the_same;
    ]
}

impl Scene {
    /// A request to extend this access by five minutes.
    fn extends(&self, name: &str, grant: &AccessGrant) -> serde_json::Value {
        self.request_with(name, json!({"extends": grant.name_any(), "duration": "5m"}))
    }
}

async fn an_extension_takes_over_without_a_gap_and_leaves_none_double(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let old = scene
        .granted(&scene.request_with("old", json!({"duration": "60s"})))
        .await;
    let request = scene.asked(&scene.extends("new", &old)).await;
    assert_eq!(
        scene.bindings().await.len(),
        1,
        "nothing is given before it is approved"
    );
    scene.said(&scene.bob, &request.name_any(), "approve").await;
    let new = scene.active("new").await;
    let ended = scene.grant_ended(&old).await.status.unwrap().end.unwrap();
    assert_eq!(ended.reason, EndReason::Extended, "{}", ended.message);
    assert!(ended.message.contains(&new.name_any()), "{}", ended.message);
    let over = scene.request_in("old", RequestPhase::Expired).await.status.unwrap();
    assert_eq!(
        condition::get(&over.conditions, condition::ENDED).unwrap().reason,
        "Extended"
    );

    let left: Vec<_> = scene.bindings().await.iter().map(ResourceExt::name_any).collect();
    assert_eq!(left, [binding_of(&new)]);
    assert!(deadline(&new) > deadline(&old));
    assert_ne!(new.spec.anchor, old.spec.anchor, "it hangs on an anchor of its own");
    let extends = new.spec.extends.clone().unwrap();
    assert_eq!(Some(extends.uid), old.uid());
    assert_eq!(Some(extends.since), old.metadata.creation_timestamp);
    let changes: Vec<_> = scene
        .operator_writes()
        .into_iter()
        .filter(|event| event.resource == "rolebindings" && event.code < 300)
        .map(|event| {
            let name = event.request.map(|sent| sent["metadata"]["name"].clone());
            let name = name
                .filter(|name| name.is_string())
                .unwrap_or_else(|| event.name.into());
            (event.verb, name)
        })
        .collect();
    let [old, new] = [&old, &new].map(|grant| json!(binding_of(grant)));
    let expected = [("create", old.clone()), ("create", new), ("delete", old)];
    assert_eq!(changes, expected.map(|(verb, name)| (verb.to_owned(), name)));
    scene.has_access().await;
    scene.said(&scene.alice, "new", "revoke").await;
    scene.loses_access().await;
}

async fn an_extension_that_is_denied_leaves_the_access_as_it_was(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let old = scene.granted(&scene.request("old")).await;
    scene.asked(&scene.extends("new", &old)).await;
    scene.said(&scene.bob, "new", "deny").await;
    scene.request_in("new", RequestPhase::Denied).await;
    scene.has_access().await;
    assert_eq!(scene.grants().get(&old.name_any()).await.unwrap().status, old.status);
}

async fn what_has_ended_or_is_anothers_is_not_extended(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let old = scene.granted(&scene.request("old")).await;
    let another = scene.request_with(
        "another",
        json!({"extends": old.name_any(), "role": {"kind": "ClusterRole", "name": "e2e-reader"}}),
    );
    scene.asks(&scene.alice, &another).await.ok().unwrap();
    let message = scene.request_blocked_by("another", "ExtendsAnother").await;
    assert!(message.contains("another role"), "{message}");
    // It is over while its extension waits for its approval.
    scene.asked(&scene.extends("late", &old)).await;
    scene.said(&scene.alice, "old", "revoke").await;
    let failed = scene.request_in("late", RequestPhase::Failed).await.status.unwrap();
    assert_eq!(
        condition::get(&failed.conditions, condition::ENDED).unwrap().reason,
        "NothingToExtend"
    );
    scene
        .asks(&scene.alice, &scene.extends("later", &old))
        .await
        .ok()
        .unwrap();
    scene.request_in("later", RequestPhase::Failed).await;
    scene.has_no_access().await;
}

async fn the_sum_is_no_longer_than_the_policy_allows(scene: Scene) {
    scene
        .has_policy(&scene.policy_with(json!({"maxTotalDuration": "6m"})))
        .await;
    let old = scene.granted(&scene.request("old")).await;
    let too_long = scene.request_with("too-long", json!({"extends": old.name_any(), "duration": "7m"}));
    scene.asks(&scene.alice, &too_long).await.ok().unwrap();
    let failed = scene.request_in("too-long", RequestPhase::Failed).await.status.unwrap();
    let message = failed.message.unwrap();
    assert!(message.contains("may last 6m with all its extensions"), "{message}");
    let fits = scene.request_with("fits", json!({"extends": old.name_any(), "duration": "5m"}));
    scene.granted(&fits).await;
    scene.grant_ended(&old).await;
}

async fn an_access_under_a_limit_of_one_is_extended_all_the_same(scene: Scene) {
    scene
        .has_policy(&scene.policy_with(json!({"limits": {"activePerRequester": 1}})))
        .await;
    let old = scene.granted(&scene.request("old")).await;
    scene.granted(&scene.extends("new", &old)).await;
    scene.grant_ended(&old).await;
    assert_eq!(scene.bindings().await.len(), 1);
}
