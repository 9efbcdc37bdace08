//! The handle on a cluster, of whatever kind, and what can be done with each kind.
//!
//! Must not know how a kind of cluster is started: that is in the module of its name.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde_json::Value;

use crate::audit::{self, AuditEvent};
use crate::certificates::{Authority, Subject};
use crate::embedded::{Component, Embedded};
use crate::existing::Existing;
use crate::kind::KindCluster;
use crate::kubeconfig::{self, Endpoint};
use crate::kubectl::Tools;
use crate::watchdog::Watchdog;
use crate::{Error, Result, User, UserBuilder, embedded, existing, kind};

/// The kinds of cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// etcd, kube-apiserver and kube-controller-manager as local processes; no nodes, so no pod runs.
    Embedded,
    /// A kind cluster of its own.
    Kind,
    /// The current kube context.
    Existing,
}

impl Kind {
    /// What `CURFEW_TESTBED` says; embedded where it says nothing.
    pub fn from_env() -> Result<Self> {
        match std::env::var_os("CURFEW_TESTBED") {
            None => Ok(Self::Embedded),
            Some(value) => Self::parse(&value.to_string_lossy()),
        }
    }

    /// Whether clusters of this kind can do it: known before one is started.
    pub fn can(self, capability: Capability) -> bool {
        possible(self, capability).is_ok()
    }

    fn parse(value: &str) -> Result<Self> {
        match value {
            "" | "embedded" => Ok(Self::Embedded),
            "kind" => Ok(Self::Kind),
            "existing" => Ok(Self::Existing),
            other => Err(Error::UnknownKind(other.to_owned())),
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Kind => "kind",
            Self::Existing => "existing",
        })
    }
}

/// What not every kind of cluster can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// [`Cluster::audit_log`].
    AuditLog,
    /// [`UserBuilder::uid`], and certificates of less than 10 minutes.
    CertificateUids,
    /// The operator as a local process: [`crate::Operator`].
    OperatorProcess,
    /// [`crate::OperatorOptions::clock_ahead`].
    WrongClock,
    /// [`Cluster::stop_component`].
    ComponentControl,
    /// [`Options::emulated_version`].
    EmulatedVersions,
    /// Pods run.
    Pods,
}

impl std::fmt::Display for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AuditLog => "audit log within reach",
            Self::CertificateUids => "users with a uid, or for less than 10 minutes",
            Self::OperatorProcess => "operator as a local process",
            Self::WrongClock => "operator whose clock can be wrong",
            Self::ComponentControl => "control plane that can be stopped in parts",
            Self::EmulatedVersions => "choice of Kubernetes version",
            Self::Pods => "nodes on which pods run",
        })
    }
}

/// What cluster to start.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Serve the APIs of an older minor version, such as `1.34`.
    pub emulated_version: Option<String>,
    /// The kind; [`Kind::from_env`] unless given.
    pub kind: Option<Kind>,
}

impl Options {
    /// The APIs of an older minor version, such as `1.34`. Only an embedded cluster can.
    pub fn emulating(version: &str) -> Self {
        Self {
            emulated_version: Some(version.to_owned()),
            ..Self::default()
        }
    }
}

/// A running cluster. Cheap to clone, and safe to keep in a `static` across tests; it ends with [`Cluster::stop`], with
/// its last handle (users count), or with this process, whichever comes first.
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    backend: Backend,
    endpoint: Endpoint,
    authority: Option<Authority>,
    admin: User,
    tools: Arc<Tools>,
    files: AtomicUsize,
}

/// What is particular to a kind.
#[derive(Debug)]
pub(crate) enum Backend {
    Embedded(Box<Embedded>),
    Kind(KindCluster),
    Existing(Existing),
}

/// A cluster that was just started.
pub(crate) struct Started {
    pub backend: Backend,
    pub endpoint: Endpoint,
    pub authority: Option<Authority>,
    pub admin: User,
    pub tools: Arc<Tools>,
}

impl Cluster {
    /// Starts a cluster, or connects to the existing one.
    pub async fn start(options: Options) -> Result<Self> {
        let kind = options.kind.map_or_else(Kind::from_env, Ok)?;
        if options.emulated_version.is_some() {
            possible(kind, Capability::EmulatedVersions)?;
        }
        let started = match kind {
            Kind::Embedded => embedded::start(&options).await?,
            Kind::Kind => kind::start().await?,
            Kind::Existing => existing::start().await?,
        };
        let Started {
            backend,
            endpoint,
            authority,
            admin,
            tools,
        } = started;
        Ok(Self {
            inner: Arc::new(Inner {
                backend,
                endpoint,
                authority,
                admin,
                tools,
                files: AtomicUsize::new(0),
            }),
        })
    }

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        self.inner.tools.kind
    }

    /// The API server's address.
    pub fn server(&self) -> &str {
        self.inner.endpoint.server()
    }

    /// Somebody who may do everything: a member of `system:masters`, or the user of the existing context.
    pub fn admin(&self) -> &User {
        &self.inner.admin
    }

    /// Somebody new, with a client certificate.
    pub fn user(&self, name: &str) -> UserBuilder<'_> {
        UserBuilder::new(self, name)
    }

    /// A service account as a user, with a real token from the API server (for 10 minutes at least). It must exist.
    pub async fn service_account_user(&self, namespace: &str, name: &str, valid_for: Duration) -> Result<User> {
        let user_name = format!("system:serviceaccount:{namespace}:{name}");
        let seconds = i64::try_from(valid_for.as_secs()).unwrap_or(i64::MAX);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(seconds),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin().client()?, namespace);
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .map_err(Error::api(format!("get a token for {user_name}")))?;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        self.user_with(&user_name, &kubeconfig::token_user(&token)).await
    }

    /// What the API server wrote down of every request, in the order in which they ended.
    pub fn audit_log(&self) -> Result<Vec<AuditEvent>> {
        match &self.inner.backend {
            Backend::Embedded(embedded) => audit::parse(&embedded.audit_log()?),
            Backend::Kind(kind) => audit::parse(&kind.audit_log()?),
            Backend::Existing(_) => Err(lacking(Kind::Existing, Capability::AuditLog)),
        }
    }

    /// Where logs, kubeconfigs and everything else of this cluster are. It is removed at the end, unless
    /// `CURFEW_TESTBED_KEEP=1`.
    pub fn data_dir(&self) -> &Path {
        self.inner.tools.watchdog.data_dir()
    }

    /// The real kubectl.
    pub fn kubectl_path(&self) -> &Path {
        &self.inner.tools.kubectl
    }

    /// The real Helm.
    pub fn helm_path(&self) -> &Path {
        &self.inner.tools.helm
    }

    /// Helm as the admin, ready to be run, for example through [`tokio::process::Command`].
    pub fn helm<I>(&self, arguments: I) -> Command
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let tools = &self.inner.tools;
        let mut command = tools.command(tools.helm.as_os_str(), self.admin().kubeconfig());
        command.args(arguments);
        command
    }

    /// Ends everything that was started, and removes the data directory. Other handles are of no use after that.
    pub async fn stop(&self) {
        let watchdog = Arc::clone(&self.inner.tools.watchdog);
        let _ = tokio::task::spawn_blocking(move || watchdog.end()).await;
    }

    /// Kills (SIGKILL) one part of an embedded control plane, and returns when it is gone.
    pub fn stop_component(&self, component: Component) -> Result<()> {
        self.embedded()?.stop(component)
    }

    /// Starts it again, on the same port. Returns when the API server is ready, if it and etcd run.
    pub async fn start_component(&self, component: Component) -> Result<()> {
        self.start_component_with(component, &[]).await
    }

    /// The same, this once with more arguments.
    pub async fn start_component_with(&self, component: Component, arguments: &[&str]) -> Result<()> {
        self.embedded()?.start(component, arguments).await
    }

    /// Upgrades a cluster that serves the APIs of an older minor version: the API server and the controllers begin anew with all that their binaries can.
    pub async fn upgrade(&self) -> Result<()> {
        self.embedded()?.upgrade().await
    }

    /// The process id of a part of an embedded control plane, while it runs.
    pub fn component_pid(&self, component: Component) -> Result<Option<u32>> {
        Ok(self.embedded()?.pid(component))
    }

    fn embedded(&self) -> Result<&Embedded> {
        match &self.inner.backend {
            Backend::Embedded(embedded) => Ok(embedded),
            Backend::Kind(_) | Backend::Existing(_) => Err(lacking(self.kind(), Capability::ComponentControl)),
        }
    }

    /// Why this cluster cannot do something, or `None` if it can: `if let Some(why) = cluster.lacks(…) { eprintln!(…); return; }`.
    pub fn lacks(&self, capability: Capability) -> Option<Error> {
        possible(self.kind(), capability).err()
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.inner.backend
    }

    pub(crate) fn watchdog(&self) -> &Arc<Watchdog> {
        &self.inner.tools.watchdog
    }

    /// A number that no other file of this cluster has.
    pub(crate) fn number(&self) -> usize {
        self.inner.files.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) async fn make_user(&self, subject: &Subject, valid_for: Duration) -> Result<User> {
        let pair = match &self.inner.authority {
            Some(authority) => authority.client(subject, valid_for)?,
            None => {
                if subject.uid.is_some() {
                    possible(self.kind(), Capability::CertificateUids)?;
                }
                existing::certificate(self.admin(), subject, valid_for).await?
            }
        };
        self.user_with(&subject.name, &kubeconfig::certificate_user(&pair))
            .await
    }

    async fn user_with(&self, name: &str, credential: &Value) -> Result<User> {
        let slug: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(40)
            .collect();
        let file = format!("{:04}-{slug}.kubeconfig", self.number());
        user_in(&self.inner.tools, &self.inner.endpoint, &file, name, credential).await
    }
}

/// A user whose kubeconfig is `users/<file>` of the data directory.
pub(crate) async fn user_in(
    tools: &Arc<Tools>,
    endpoint: &Endpoint,
    file: &str,
    name: &str,
    credential: &Value,
) -> Result<User> {
    let users = tools.watchdog.data_dir().join("users");
    std::fs::create_dir_all(&users).map_err(Error::file("make", &users))?;
    let path = users.join(file);
    let value = kubeconfig::kubeconfig(endpoint, name, credential);
    kubeconfig::write_private(&path, value.to_string().as_bytes())?;
    let config = kubeconfig::client_config(&value).await?;
    Ok(User::new(name, path, config, Arc::clone(tools)))
}

/// Which kind can do what.
fn possible(kind: Kind, capability: Capability) -> Result<()> {
    let able = match capability {
        Capability::AuditLog | Capability::CertificateUids => kind != Kind::Existing,
        Capability::OperatorProcess | Capability::ComponentControl | Capability::EmulatedVersions => {
            kind == Kind::Embedded
        }
        Capability::WrongClock => kind == Kind::Embedded && cfg!(target_os = "linux"),
        Capability::Pods => kind != Kind::Embedded,
    };
    if able { Ok(()) } else { Err(lacking(kind, capability)) }
}

pub(crate) fn lacking(kind: Kind, capability: Capability) -> Error {
    let instead = match capability {
        Capability::AuditLog | Capability::CertificateUids => "run this with CURFEW_TESTBED=embedded or kind",
        Capability::OperatorProcess | Capability::ComponentControl | Capability::EmulatedVersions => {
            "run this with CURFEW_TESTBED=embedded"
        }
        Capability::WrongClock => "run this with CURFEW_TESTBED=embedded, on Linux",
        Capability::Pods => "run this with CURFEW_TESTBED=kind or existing",
    };
    Error::Lacking {
        kind,
        capability,
        instead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_spelt_in_full() {
        assert_eq!(Kind::parse("kind").unwrap(), Kind::Kind);
        assert_eq!(Kind::parse("").unwrap(), Kind::Embedded);
        let message = Kind::parse("minikube").unwrap_err().to_string();
        assert!(
            message.contains("minikube") && message.contains("embedded, kind or existing"),
            "{message}"
        );
    }

    #[test]
    fn what_is_lacking_says_what_to_do() {
        let error = possible(Kind::Kind, Capability::ComponentControl).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a cluster of kind kind has no control plane that can be stopped in parts: run this with CURFEW_TESTBED=embedded"
        );
        assert!(possible(Kind::Embedded, Capability::AuditLog).is_ok());
    }
}
