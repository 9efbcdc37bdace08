//! The main course: nothing before approval, access after it, nothing after the deadline.

use curfew::api::time;

use crate::scene::Scene;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []: case_01_nothing_before_approval, case_02_approval_gives_access_to_the_requester_alone;
        Older []: case_02_approval_gives_access_to_the_requester_alone;
    ]
}

async fn case_01_nothing_before_approval(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    scene.has_no_access().await;
}

async fn case_02_approval_gives_access_to_the_requester_alone(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    scene.has_access().await;
    assert!(!scene.kubectl(&scene.bob, &["get", "configmaps"]).await.succeeded());
    let binding = scene.bindings().await.remove(0);
    let subjects = binding.subjects.unwrap();
    assert_eq!(subjects.len(), 1);
    assert_eq!((subjects[0].kind.as_str(), subjects[0].name.as_str()), ("User", scene.alice.name()));
    assert_eq!((binding.role_ref.kind.as_str(), binding.role_ref.name.as_str()), ("Role", "reader"));
    let deadline = time::written(curfew::core::grant::deadline(&grant));
    assert_eq!(binding.metadata.annotations.unwrap()["curfew.dev/deadline"], deadline);
}
