//! The embedded control plane: etcd, kube-apiserver and kube-controller-manager as local processes.
//!
//! Real and unmodified, with the admission plugins, controllers and authorisation that they come with. Must not relax
//! anything that the product's security rests on; what is set here makes it start fast and leave traces.
//!
//! etcd listens on a Unix socket in the data directory, which is for this user alone, so nobody else can reach it, and
//! two clusters can never meet. The one TCP port is the API server's, on loopback.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};

use crate::binaries::{self, Binaries, Tool};
use crate::certificates::{self, Authority, Subject};
use crate::cluster::{self, Backend, Started};
use crate::kubeconfig::{self, Endpoint, write_private};
use crate::kubectl::Tools;
use crate::process::{Process, Program};
use crate::watchdog::Watchdog;
use crate::{Error, Kind, Options, Result, ports, probe};

const AUDIT_POLICY: &str = include_str!("../audit-policy.yaml");
/// A start takes 3 s on an idle machine; this is for one that is not.
const READY: Duration = Duration::from_secs(120);
/// How often a start is tried again because somebody else took the port.
const PORT_ATTEMPTS: usize = 5;
/// Names under which the API server is called.
const SERVER_NAMES: [&str; 6] = [
    "127.0.0.1",
    "localhost",
    "10.0.0.1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
];

/// The service accounts under which the controllers run. kube-controller-manager makes them itself, at 20 requests a
/// second (three for each), one controller after the other; where they exist already it starts 4 s sooner. Its rate
/// is left as it is, because it bounds how fast things are collected at a deadline. A name too few costs a moment.
const CONTROLLERS: [&str; 38] = [
    "attachdetach-controller",
    "certificate-controller",
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemon-set-controller",
    "deployment-controller",
    "device-taint-eviction-controller",
    "disruption-controller",
    "endpoint-controller",
    "endpointslice-controller",
    "endpointslicemirroring-controller",
    "ephemeral-volume-controller",
    "expand-controller",
    "generic-garbage-collector",
    "horizontal-pod-autoscaler",
    "job-controller",
    "kube-apiserver-serving-clustertrustbundle-publisher",
    "legacy-service-account-token-cleaner",
    "namespace-controller",
    "node-controller",
    "persistent-volume-binder",
    "pod-garbage-collector",
    "podcertificaterequestcleaner",
    "pv-protection-controller",
    "pvc-protection-controller",
    "replicaset-controller",
    "replication-controller",
    "resource-claim-controller",
    "resourcequota-controller",
    "root-ca-cert-publisher",
    "service-account-controller",
    "service-cidrs-controller",
    "statefulset-controller",
    "storage-version-migrator-controller",
    "ttl-after-finished-controller",
    "ttl-controller",
    "validatingadmissionpolicy-status-controller",
    "volumeattributesclass-protection-controller",
];

/// A part of the embedded control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The store. What was written before it is killed is there when it returns.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers, garbage collection and Jobs among them.
    ControllerManager,
}

impl Component {
    fn tool(self) -> Tool {
        match self {
            Self::Etcd => Tool::Etcd,
            Self::ApiServer => Tool::ApiServer,
            Self::ControllerManager => Tool::ControllerManager,
        }
    }
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.tool().name())
    }
}

/// The running control plane.
#[derive(Debug)]
pub(crate) struct Embedded {
    watchdog: Arc<Watchdog>,
    etcd: Part,
    api_server: Part,
    controller_manager: Part,
    /// What makes the control plane serve the APIs of an older version, until it is upgraded.
    emulation: Mutex<Option<String>>,
    admin: Box<AdminConfig>,
}

struct AdminConfig(kube::Config);

impl std::fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminConfig")
    }
}

#[derive(Debug)]
struct Part {
    program: Program,
    process: Mutex<Option<Process>>,
}

/// Starts one.
pub(crate) async fn start(options: &Options) -> Result<Started> {
    let binaries = tokio::task::spawn_blocking(|| binaries::ensure(&binaries::ALL))
        .await
        .map_err(Error::parse("the build of the control plane"))??;
    let watchdog = Arc::new(Watchdog::start()?);
    let dir = watchdog.data_dir().to_path_buf();
    fs::create_dir_all(dir.join("home")).map_err(Error::file("make", dir.join("home")))?;
    let tools = Arc::new(Tools {
        kubectl: binaries.path(Tool::Kubectl),
        helm: binaries.path(Tool::Helm),
        kind: Kind::Embedded,
        watchdog: Arc::clone(&watchdog),
    });
    let authority = write_files(&dir)?;
    let admin_subject = Subject {
        name: "testbed-admin".to_owned(),
        groups: vec!["system:masters".to_owned()],
        uid: None,
    };
    let admin_credential = kubeconfig::certificate_user(&authority.client(&admin_subject, certificates::TEN_YEARS)?);
    let manager_subject = Subject {
        name: "system:kube-controller-manager".to_owned(),
        ..Subject::default()
    };
    let manager_credential =
        kubeconfig::certificate_user(&authority.client(&manager_subject, certificates::TEN_YEARS)?);

    let mut lost = 0;
    loop {
        let port = ports::free()?;
        let endpoint = Endpoint::new(&format!("https://127.0.0.1:{port}"), authority.certificate_pem());
        let admin = cluster::user_in(
            &tools,
            &endpoint,
            "admin.kubeconfig",
            &admin_subject.name,
            &admin_credential,
        )
        .await?;
        let manager = kubeconfig::kubeconfig(&endpoint, &manager_subject.name, &manager_credential);
        write_private(
            &dir.join("kube-controller-manager.kubeconfig"),
            manager.to_string().as_bytes(),
        )?;

        let embedded = Embedded {
            etcd: Part::new(Component::Etcd, &binaries, &dir, etcd_arguments(&dir)),
            api_server: Part::new(Component::ApiServer, &binaries, &dir, api_server_arguments(&dir, port)),
            controller_manager: Part::new(
                Component::ControllerManager,
                &binaries,
                &dir,
                controller_manager_arguments(&dir),
            ),
            emulation: Mutex::new(emulation(options)),
            admin: Box::new(AdminConfig(admin.config().clone())),
            watchdog: Arc::clone(&watchdog),
        };
        match embedded.start_all().await {
            Ok(()) => {
                let backend = Backend::Embedded(Box::new(embedded));
                return Ok(Started {
                    backend,
                    endpoint,
                    authority: Some(authority),
                    admin,
                    tools,
                });
            }
            Err(Error::Ended { tail, .. }) if tail.contains("address already in use") && lost < PORT_ATTEMPTS => {
                lost += 1;
                drop(embedded);
                let _ = fs::remove_dir_all(dir.join("etcd"));
                let _ = fs::remove_file(dir.join("kube-apiserver.log"));
            }
            Err(error) => return Err(error),
        }
    }
}

impl Part {
    fn new(component: Component, binaries: &Binaries, dir: &Path, arguments: Vec<String>) -> Self {
        let name = component.to_string();
        let program = Program {
            binary: binaries.path(component.tool()),
            arguments: arguments.into_iter().map(OsString::from).collect(),
            environment: vec![
                ("HOME".into(), dir.join("home").into()),
                ("PATH".into(), "/usr/bin:/bin".into()),
                // Control planes of tests live for minutes: they may take some memory more for a seventh of the work less.
                ("GOGC".into(), "400".into()),
            ],
            log: dir.join(format!("{name}.log")),
            name,
        };
        Self {
            program,
            process: Mutex::new(None),
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, watchdog: &Arc<Watchdog>, arguments: &[&str]) -> Result<()> {
        let mut program = self.program.clone();
        program.arguments.extend(arguments.iter().map(OsString::from));
        let mut slot = self.slot();
        if slot.as_mut().is_some_and(|process| process.ended().is_none()) {
            return Err(Error::State {
                name: self.program.name.clone(),
                state: "running",
                hint: "stop it first",
            });
        }
        *slot = Some(Process::spawn(watchdog, &program)?);
        Ok(())
    }

    fn runs(&self) -> bool {
        self.slot().as_mut().is_some_and(|process| process.ended().is_none())
    }
}

impl Embedded {
    fn part(&self, component: Component) -> &Part {
        match component {
            Component::Etcd => &self.etcd,
            Component::ApiServer => &self.api_server,
            Component::ControllerManager => &self.controller_manager,
        }
    }

    async fn start_all(&self) -> Result<()> {
        self.start(Component::Etcd, &[]).await?;
        self.spawn(Component::ApiServer, &[])?;
        self.make_controller_accounts().await?;
        self.wait_for_api_server().await?;
        self.start(Component::ControllerManager, &[]).await?;
        self.wait_for_controllers().await
    }

    pub(crate) async fn start(&self, component: Component, arguments: &[&str]) -> Result<()> {
        remove_leftovers(component, self.watchdog.data_dir());
        self.spawn(component, arguments)?;
        if component == Component::Etcd {
            self.wait_for_etcd().await?;
        }
        if component != Component::ControllerManager && self.etcd.runs() && self.api_server.slot().is_some() {
            self.wait_for_api_server().await?;
        }
        Ok(())
    }

    fn spawn(&self, component: Component, arguments: &[&str]) -> Result<()> {
        let emulation = self.emulation.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let emulation = emulation.filter(|_| component != Component::Etcd);
        let arguments: Vec<&str> = arguments.iter().copied().chain(emulation.as_deref()).collect();
        self.part(component).spawn(&self.watchdog, &arguments)
    }

    /// Serves all that its binaries can from now on, as after an upgrade.
    pub(crate) async fn upgrade(&self) -> Result<()> {
        for component in [Component::ControllerManager, Component::ApiServer] {
            self.stop(component)?;
        }
        self.emulation.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.start(Component::ApiServer, &[]).await?;
        self.start(Component::ControllerManager, &[]).await
    }

    pub(crate) fn stop(&self, component: Component) -> Result<()> {
        match self.part(component).slot().take() {
            Some(process) => process.kill().map(|_| ()),
            None => Err(Error::State {
                name: component.to_string(),
                state: "stopped",
                hint: "start it first",
            }),
        }
    }

    pub(crate) fn pid(&self, component: Component) -> Option<u32> {
        let part = self.part(component);
        part.runs().then(|| part.slot().as_ref().map(Process::pid)).flatten()
    }

    pub(crate) fn audit_log(&self) -> Result<String> {
        let path = audit_log_path(self.watchdog.data_dir());
        let bytes = fs::read(&path).map_err(Error::file("read", path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn wait_for_etcd(&self) -> Result<()> {
        let socket = etcd_socket(self.watchdog.data_dir());
        let part = &self.etcd;
        probe::until(
            "etcd",
            READY,
            &part.program.log,
            || probe::alive(&part.process),
            async || {
                UnixStream::connect(&socket)
                    .map(|_| ())
                    .map_err(|error| error.to_string())
            },
        )
        .await
    }

    /// Makes the controllers' service accounts as soon as the API server takes them, before it calls itself ready.
    async fn make_controller_accounts(&self) -> Result<()> {
        let client = kube::Client::try_from(self.admin.0.clone()).map_err(Error::api("make a client"))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "kube-system");
        let part = &self.api_server;
        probe::until(
            "kube-apiserver",
            READY,
            &part.program.log,
            || probe::alive(&part.process),
            async || {
                let mut all = tokio::task::JoinSet::new();
                for name in CONTROLLERS {
                    let accounts = accounts.clone();
                    all.spawn(async move {
                        let account = ServiceAccount {
                            metadata: ObjectMeta {
                                name: Some(name.to_owned()),
                                ..ObjectMeta::default()
                            },
                            ..ServiceAccount::default()
                        };
                        match accounts.create(&PostParams::default(), &account).await {
                            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                            other => other.map(|_| ()).map_err(|error| error.to_string()),
                        }
                    });
                }
                while let Some(result) = all.join_next().await {
                    result.map_err(|error| error.to_string())??;
                }
                Ok(())
            },
        )
        .await
    }

    async fn wait_for_api_server(&self) -> Result<()> {
        let part = &self.api_server;
        probe::wait(
            "kube-apiserver",
            &self.admin.0,
            "readyz",
            READY,
            || probe::alive(&part.process),
            &part.program.log,
        )
        .await
    }

    /// Until what every cluster has is there: service accounts, the CA for pods, and rules in the aggregated roles.
    async fn wait_for_controllers(&self) -> Result<()> {
        let client = kube::Client::try_from(self.admin.0.clone()).map_err(Error::api("make a client"))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
        let roles: Api<ClusterRole> = Api::all(client);
        let part = &self.controller_manager;
        let name = "kube-controller-manager";
        probe::until(
            name,
            READY,
            &part.program.log,
            || probe::alive(&part.process),
            async || {
                accounts.get("default").await.map_err(|error| error.to_string())?;
                maps.get("kube-root-ca.crt").await.map_err(|error| error.to_string())?;
                for role in ["view", "edit", "admin"] {
                    let role = roles.get(role).await.map_err(|error| error.to_string())?;
                    if role.rules.is_none_or(|rules| rules.is_empty()) {
                        return Err("the aggregated roles have no rules yet".to_owned());
                    }
                }
                Ok(())
            },
        )
        .await
    }
}

/// Removes what a component that was killed may have left in the way.
fn remove_leftovers(component: Component, dir: &Path) {
    if component == Component::Etcd {
        for socket in [etcd_socket(dir), dir.join("peer.sock")] {
            let _ = fs::remove_file(socket);
        }
    }
}

fn etcd_socket(dir: &Path) -> PathBuf {
    dir.join("etcd.sock")
}

fn audit_log_path(dir: &Path) -> PathBuf {
    dir.join("audit.log")
}

fn write_files(dir: &Path) -> Result<Authority> {
    let (authority, issuer) = Authority::new("curfew-testbed")?;
    let serving = certificates::serving(&issuer, &SERVER_NAMES)?;
    let (accounts_key, accounts_public_key) = certificates::signing_key()?;
    let files: [(&str, &str); 7] = [
        ("ca.crt", authority.certificate_pem()),
        ("ca.key", &authority.key_pem()),
        ("server.crt", &serving.certificate),
        ("server.key", &serving.key),
        ("service-accounts.key", &accounts_key),
        ("service-accounts.pub", &accounts_public_key),
        ("audit-policy.yaml", AUDIT_POLICY),
    ];
    for (name, content) in files {
        write_private(&dir.join(name), content.as_bytes())?;
    }
    Ok(authority)
}

fn etcd_arguments(dir: &Path) -> Vec<String> {
    let client = format!("unix://{}", etcd_socket(dir).display());
    let peer = format!("unix://{}", dir.join("peer.sock").display());
    vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(), // survives SIGKILL, not a power cut
        "--log-level=warn".to_owned(),
    ]
}

fn api_server_arguments(dir: &Path, port: u16) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    vec![
        format!("--etcd-servers=unix://{}", etcd_socket(dir).display()),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        // Nothing is reached at this address (it is one for documentation): it goes into the endpoints of the
        // `kubernetes` Service, which are not written. Without it, machines without a default route are refused.
        "--advertise-address=192.0.2.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        "--authorization-mode=RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", file("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", file("service-accounts.key")),
        format!("--audit-policy-file={}", file("audit-policy.yaml")),
        format!("--audit-log-path={}", audit_log_path(dir).display()),
        // An event is in the file before its request is over, and a request that cannot be written down fails.
        "--audit-log-mode=blocking-strict".to_owned(),
        "--audit-log-maxsize=0".to_owned(), // never rotated: one file holds everything
        // Tests and benchmarks send bursts that a production server would queue (400 and 200 by default): what is to
        // be seen is the product's doing, not the server's fairness.
        "--max-requests-inflight=3000".to_owned(),
        "--max-mutating-requests-inflight=1000".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

fn controller_manager_arguments(dir: &Path) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    vec![
        format!("--kubeconfig={}", file("kube-controller-manager.kubeconfig")),
        "--secure-port=0".to_owned(), // serves nothing, so it needs no port
        "--leader-elect=false".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", file("service-accounts.key")),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--cluster-signing-cert-file={}", file("ca.crt")),
        format!("--cluster-signing-key-file={}", file("ca.key")),
        "--profiling=false".to_owned(),
    ]
}

fn emulation(options: &Options) -> Option<String> {
    options
        .emulated_version
        .as_ref()
        .map(|version| format!("--emulated-version={version}"))
}
