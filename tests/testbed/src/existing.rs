//! The cluster of the current kube context.
//!
//! Must leave nothing behind but the product's CRDs (removing those would remove other people's objects too) and
//! certificate requests, which the cluster itself removes after an hour.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::binaries::{self, Tool};
use crate::certificates::{self, Pair, Subject};
use crate::cluster::{Backend, Started};
use crate::kubeconfig::{self, Endpoint, write_private};
use crate::kubectl::{self, Tools};
use crate::watchdog::Watchdog;
use crate::{Error, Kind, Result, User};

/// A cluster that was there before.
#[derive(Debug)]
pub(crate) struct Existing;

/// Connects to it.
pub(crate) async fn start() -> Result<Started> {
    let binaries = tokio::task::spawn_blocking(|| binaries::ensure(&[Tool::Kubectl, Tool::Helm]))
        .await
        .map_err(Error::parse("the build of kubectl and helm"))??;
    let watchdog = Arc::new(Watchdog::start()?);
    let tools = Arc::new(Tools {
        kubectl: binaries.path(Tool::Kubectl),
        helm: binaries.path(Tool::Helm),
        kind: Kind::Existing,
        watchdog: Arc::clone(&watchdog),
    });

    let mut arguments: Vec<OsString> = ["config", "view", "--minify", "--flatten", "--raw", "-o", "json"]
        .map(OsString::from)
        .to_vec();
    if let Some(context) = std::env::var_os("CURFEW_CONTEXT") {
        arguments.extend([OsString::from("--context"), context]);
    }
    // With the caller's own KUBECONFIG and HOME: this is the one place that reads them.
    let mut command = watchdog.command(&tools.kubectl);
    command.args(&arguments);
    let view = kubectl::run(&watchdog, command, kubectl::shown("kubectl", &arguments), None)
        .await?
        .ok()?;
    let view: Value = serde_json::from_str(&view).map_err(Error::parse("the current kubeconfig"))?;
    let part = |pointer: &str| {
        view.pointer(pointer).cloned().ok_or_else(|| Error::Parse {
            what: "the current kubeconfig".to_owned(),
            detail: "it has no current context; choose one with CURFEW_CONTEXT".to_owned(),
        })
    };
    let endpoint = Endpoint(part("/clusters/0/cluster")?);
    let name = part("/users/0/name")?.as_str().unwrap_or_default().to_owned();
    let value = kubeconfig::kubeconfig(&endpoint, &name, &part("/users/0/user")?);
    let path = watchdog.data_dir().join("admin.kubeconfig");
    write_private(&path, value.to_string().as_bytes())?;
    let config = kubeconfig::client_config(&value).await?;
    let admin = User::new(&name, path, config, Arc::clone(&tools));
    Ok(Started {
        backend: Backend::Existing(Existing),
        endpoint,
        authority: None,
        admin,
        tools,
    })
}

/// A client certificate through the certificates API.
pub(crate) async fn certificate(admin: &User, subject: &Subject, valid_for: Duration) -> Result<Pair> {
    let failed = |doing: &str| Error::api(format!("{doing} the certificate request for {}", subject.name));
    let pair = certificates::request(subject)?;
    let requests: Api<CertificateSigningRequest> = Api::all(admin.client()?);
    let request = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("curfew-testbed-".to_owned()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pair.certificate.clone().into_bytes()),
            signer_name: "kubernetes.io/kube-apiserver-client".to_owned(),
            usages: Some(vec!["client auth".to_owned(), "digital signature".to_owned()]),
            expiration_seconds: Some(i32::try_from(valid_for.as_secs()).unwrap_or(i32::MAX)),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    };
    let created = requests
        .create(&PostParams::default(), &request)
        .await
        .map_err(failed("create"))?;
    let name = created.metadata.name.unwrap_or_default();
    let approved = CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some("CurfewTestbed".to_owned()),
        ..CertificateSigningRequestCondition::default()
    };
    let patch = json!({"status": {"conditions": [approved]}});
    requests
        .patch_approval(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(failed("approve"))?;
    let start = Instant::now();
    loop {
        let request = requests.get(&name).await.map_err(failed("read"))?;
        if let Some(ByteString(issued)) = request.status.and_then(|status| status.certificate) {
            let certificate = String::from_utf8_lossy(&issued).into_owned();
            return Ok(Pair {
                certificate,
                key: pair.key,
            });
        }
        if start.elapsed() > Duration::from_secs(30) {
            return Err(Error::NotIssued(subject.name.clone()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
