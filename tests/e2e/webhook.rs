//! Somebody else's mutating webhook: it changes what is Curfew's on its way in, and nothing is given by what it wrote. It runs in this process, with the API
//! server's own certificate.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use curfew::api::{EndReason, RequestPhase, condition};
use curfew::core::grant::name as grant_name;
use curfew_testbed::Cluster;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

use crate::scene::{Scene, creates, person, would_create};
use crate::tools::eventually;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Shipped [ComponentControl]:
            what_a_foreign_webhook_binds_to_somebody_else_is_taken_away_at_once,
            what_a_foreign_webhook_hangs_on_another_grant_is_not_made,
            a_foreign_webhook_that_adds_somebody_to_a_binding_gives_nobody_anything,
            a_foreign_webhook_that_prolongs_a_grant_prolongs_nothing,
            a_foreign_webhook_that_says_who_asks_is_not_believed;
    ]
}

async fn what_a_foreign_webhook_binds_to_somebody_else_is_taken_away_at_once(scene: Scene) {
    let somebody_else = json!({"op": "replace", "path": "/subjects/0/name", "value": scene.mallory.name()});
    let webhook = Webhook::registered(&scene, "rbac.authorization.k8s.io", "rolebindings", somebody_else).await;
    let end = nothing_is_given(&scene).await;
    assert!(end.contains("is not as Curfew makes it"), "{end}");
    webhook.goes(&scene).await;
}

/// With an owner that lives on, neither the deadline nor the sweep would take it away.
async fn what_a_foreign_webhook_hangs_on_another_grant_is_not_made(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let other = scene.granted(&scene.request("other")).await;
    scene.said(&scene.alice, "other", "revoke").await;
    let other = scene.grant_ended(&other).await;
    let owner = json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "name": other.name_any(), "uid": other.uid()});
    let hangs_on_it = json!({"op": "replace", "path": "/metadata/ownerReferences/0", "value": owner});
    let webhook = Webhook::registered(&scene, "rbac.authorization.k8s.io", "rolebindings", hangs_on_it).await;
    let end = nothing_is_given(&scene).await;
    assert!(end.contains("can't be bound"), "{end}");
    webhook.goes(&scene).await;
}

async fn a_foreign_webhook_that_adds_somebody_to_a_binding_gives_nobody_anything(scene: Scene) {
    let mallory = person(scene.mallory.name());
    let one_more = json!({"op": "add", "path": "/subjects/-", "value": mallory});
    let webhook = Webhook::registered(&scene, "rbac.authorization.k8s.io", "rolebindings", one_more).await;
    let end = nothing_is_given(&scene).await;
    assert!(end.contains("can't be bound"), "{end}");
    webhook.goes(&scene).await;
}

async fn a_foreign_webhook_that_prolongs_a_grant_prolongs_nothing(scene: Scene) {
    let longer = json!({"op": "replace", "path": "/spec/duration", "value": "900h"});
    let webhook = Webhook::registered(&scene, "curfew.dev", "accessgrants", longer).await;
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    scene.said(&scene.bob, "look", "approve").await;
    let request = scene.request_in("look", RequestPhase::Failed).await;
    let status = request.status.clone().unwrap();
    let ended = condition::get(&status.conditions, condition::ENDED).unwrap();
    assert_eq!((status.seal, ended.reason.as_str()), (None, "ChangedWhileGranting"));
    let name = grant_name(&request.uid().unwrap());
    let grant = scene.grants().get(&name).await.unwrap();
    assert_eq!(grant.spec.duration.as_str(), "900h", "it was changed");
    assert_eq!(scene.grant_ended(&grant).await.status.unwrap().bindings, []);
    scene.has_no_access().await;
    webhook.goes(&scene).await;
}

async fn a_foreign_webhook_that_says_who_asks_is_not_believed(scene: Scene) {
    let alice = scene.identity(&scene.alice).await;
    let as_alice = json!({"op": "add", "path": "/spec/requester", "value": alice});
    let webhook = Webhook::registered(&scene, "curfew.dev", "accessrequests", as_alice).await;
    let refusal = scene
        .asks(&scene.mallory, &scene.request("look"))
        .await
        .refused()
        .unwrap();
    assert!(
        refusal.contains("ValidatingAdmissionPolicy 'curfew-requests'"),
        "{refusal}"
    );
    webhook.goes(&scene).await;
}

/// Alice asks and bob approves, and the access ends before it began: why.
async fn nothing_is_given(scene: &Scene) -> String {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    scene.said(&scene.bob, "look", "approve").await;
    let request = scene.request_in("look", RequestPhase::Failed).await;
    // Nobody's: whoever was bound for a moment isn't any more.
    scene.has_no_access().await;
    let grant = scene
        .grants()
        .get(&request.status.unwrap().grant.unwrap())
        .await
        .unwrap();
    let end = grant.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::BindFailed);
    end.message
}

/// A webhook that does the same to everything of its kind that concerns one scene.
struct Webhook {
    name: String,
    asked: Arc<AtomicUsize>,
}

impl Webhook {
    /// One that is in force.
    async fn registered(scene: &Scene, group: &str, resource: &str, patch: Value) -> Self {
        let asked = Arc::default();
        let at = serve(scene.cluster(), patch, Arc::clone(&asked)).await;
        let authority = std::fs::read(scene.cluster().data_dir().join("ca.crt")).unwrap();
        let name = format!("foreign-{}", scene.id);
        // A grant belongs to no namespace; its request does.
        let here = format!(
            "(has(object.metadata.namespace) ? object.metadata.namespace : object.spec.request.namespace) == '{}'",
            scene.namespace
        );
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": name},
            "webhooks": [{
                "name": "foreign.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
                "clientConfig": {"url": format!("https://{at}/"), "caBundle": ByteString(authority)},
                "rules": [{"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE"], "resources": [resource], "scope": "*"}],
                "matchConditions": [{"name": "here", "expression": here}],
            }],
        });
        creates(scene.cluster().admin(), &configuration).await.unwrap();
        let webhook = Self { name, asked };
        webhook.is_in_force(scene, resource).await;
        webhook
    }

    /// A moment after it was registered it is asked.
    async fn is_in_force(&self, scene: &Scene, resource: &str) {
        let somebody = person("somebody");
        let probe = match resource {
            "rolebindings" => scene.binding("probe", ("Role", "reader"), somebody),
            "accessrequests" => scene.request("probe"),
            _ => json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "metadata": {"name": "probe"},
                "spec": {"request": {"namespace": scene.namespace}}}),
        };
        eventually("the webhook is asked", async || {
            let _ = would_create(scene.cluster().admin(), &probe).await;
            self.asked.load(Ordering::SeqCst) > 0
        })
        .await;
    }

    /// Taken away again.
    async fn goes(self, scene: &Scene) {
        let admin = scene.cluster().admin();
        let gone = admin
            .kubectl(["delete", "mutatingwebhookconfiguration", &self.name])
            .await
            .unwrap();
        gone.ok().unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Answers every review with this patch, and counts them; where.
async fn serve(cluster: &Cluster, patch: Value, asked: Arc<AtomicUsize>) -> SocketAddr {
    let tls = TlsAcceptor::from(Arc::new(credentials(cluster.data_dir())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(tls.clone(), connection, patch.clone(), Arc::clone(&asked)));
        }
    });
    at
}

fn credentials(folder: &Path) -> ServerConfig {
    let certificates = CertificateDer::pem_file_iter(folder.join("server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates.map(Result::unwrap).collect(), key)
        .unwrap()
}

async fn answer(tls: TlsAcceptor, connection: TcpStream, patch: Value, asked: Arc<AtomicUsize>) {
    let Ok(connection) = tls.accept(connection).await else {
        return;
    };
    let reviewed = service_fn(
        async |request: Request<Incoming>| -> hyper::Result<Response<Full<Bytes>>> {
            let body = request.into_body().collect().await?.to_bytes();
            let review: Value = serde_json::from_slice(&body).unwrap_or_default();
            asked.fetch_add(1, Ordering::SeqCst);
            let patch = ByteString(json!([patch]).to_string().into_bytes());
            let response =
                json!({"uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch", "patch": patch});
            let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
            Ok(Response::new(Full::from(review.to_string())))
        },
    );
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(connection), reviewed)
        .await;
}
