//! Credentials that end in the middle of something: an approver's, and the operator's own.

use std::collections::BTreeSet;
use std::time::Duration;

use curfew::api::EndReason;
use curfew_testbed::OperatorOptions;
use k8s_openapi::api::authentication::v1::{
    BoundObjectReference, TokenRequest, TokenRequestSpec, TokenReview, TokenReviewSpec,
};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::scene::Scene;
use crate::signs::{deletion_of, leads};
use crate::tools::{eventually, eventually_within};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []: case_24_an_approver_whose_credential_has_expired_changes_nothing_and_approves_with_a_fresh_one;
        Lent [OperatorProcess, AuditLog]: case_25_the_operators_token_renewed_in_the_middle_of_a_grant_delays_no_end;
    ]
}

async fn case_24_an_approver_whose_credential_has_expired_changes_nothing_and_approves_with_a_fresh_one(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    let dave = || scene.cluster().user("dave").group(&format!("sre-{}", scene.id));
    let old = dave().valid_for(Duration::from_secs(3)).build().await.unwrap();
    eventually("dave's certificate has expired", async || {
        let answer = scene.kubectl(&old, &["get", "accessrequest", "look"]).await;
        answer.refused().is_ok_and(|why| why.contains("Unauthorized"))
    })
    .await;
    let before = scene.request_now("look").await;
    let refusal = scene.says(&old, "look", "approve").await.refused().unwrap();
    assert!(refusal.contains("Unauthorized"), "{refusal}");
    assert_eq!(scene.request_now("look").await, before);
    scene.said(&dave().build().await.unwrap(), "look", "approve").await;
    scene.active("look").await;
    scene.has_access().await;
}

async fn case_25_the_operators_token_renewed_in_the_middle_of_a_grant_delays_no_end(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let (former, renewed) = (Token::new(&scene, "former").await, Token::new(&scene, "renewed").await);
    let file = scene.cluster().data_dir().join(format!("token-{}", scene.id));
    std::fs::write(&file, &former.token).unwrap();
    let installation = &scene.world.installation;
    installation.operator().unwrap().stop().await.unwrap();
    let options = OperatorOptions::new(env!("CARGO_BIN_EXE_curfew"))
        .arguments(["--namespace", installation.namespace()])
        .token_file(&file);
    let operator = installation.spawn_operator(options).await.unwrap();
    operator.wait_until_ready().await.unwrap();
    let grant = scene.granted(&scene.request("look")).await;
    let used = credentials(&scene, operator.name());

    std::fs::write(&file, &renewed.token).unwrap();
    eventually_within(
        Duration::from_secs(120),
        "the operator has read the renewed one",
        async || credentials(&scene, operator.name()).len() > used.len(),
    )
    .await;
    former.ends(&scene).await;

    scene.said(&scene.alice, "look", "revoke").await;
    let ended = scene.grant_ended(&grant).await;
    assert_eq!(ended.status.unwrap().end.unwrap().reason, EndReason::Revoked);
    let gone = deletion_of(&scene, &grant);
    assert!(gone.user_agent.contains(operator.name()), "{}", gone.user_agent);
    scene.has_no_access().await;
    assert!(leads(&operator).await, "it has kept its Lease");
    scene.granted(&scene.request("again")).await;
}

/// A token of the operator's service account that ends with a Secret.
struct Token {
    secret: String,
    token: String,
}

impl Token {
    async fn new(scene: &Scene, name: &str) -> Self {
        let secret = json!({"metadata": {"name": format!("{name}-{}", scene.id)}});
        let secret = Self::secrets(scene)
            .create(&PostParams::default(), &serde_json::from_value(secret).unwrap())
            .await
            .unwrap();
        let request = TokenRequest {
            spec: TokenRequestSpec {
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Secret".into()),
                    name: Some(secret.name_any()),
                    uid: secret.uid(),
                }),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let namespace = scene.world.installation.namespace();
        let accounts = Api::<ServiceAccount>::namespaced(scene.cluster().admin().client().unwrap(), namespace);
        let made = accounts
            .create_token_request("curfew", &PostParams::default(), &request)
            .await
            .unwrap();
        Self {
            secret: secret.name_any(),
            token: made.status.unwrap().token,
        }
    }

    /// From now on the API server takes it no more.
    async fn ends(&self, scene: &Scene) {
        Self::secrets(scene)
            .delete(&self.secret, &DeleteParams::default())
            .await
            .unwrap();
        let reviews = Api::<TokenReview>::all(scene.cluster().admin().client().unwrap());
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(self.token.clone()),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        eventually("the former token is refused", async || {
            let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
            answer.status.unwrap().authenticated != Some(true)
        })
        .await;
    }

    fn secrets(scene: &Scene) -> Api<Secret> {
        let namespace = scene.world.installation.namespace();
        Api::namespaced(scene.cluster().admin().client().unwrap(), namespace)
    }
}

/// The ids of the credentials that a replica has presented.
fn credentials(scene: &Scene, replica: &str) -> BTreeSet<String> {
    let log = scene.cluster().audit_log().unwrap().into_iter();
    log.filter(|event| event.user_agent.contains(&format!("({replica})")))
        .flat_map(|event| {
            event
                .user
                .extra
                .get("authentication.kubernetes.io/credential-id")
                .cloned()
        })
        .flatten()
        .collect()
}
