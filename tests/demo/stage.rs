//! The stage: a control plane, the product on it, and the people of the story.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use curfew_testbed::{Cluster, InstallOptions, Installation, Kind, OperatorOptions, Options, User};
use serde_json::Value;

use crate::failure::Failure;
use crate::teller::Teller;

/// How long the API server may take to heed new admission policies; it takes a second.
const HEEDED: Duration = Duration::from_secs(30);

/// A request in somebody else's name: refused as soon as Curfew's policies are heeded.
const FORGERY: &str = r#"{"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessRequest", "metadata": {"name": "forgery", "namespace": "team-a"},
    "spec": {"role": {"kind": "ClusterRole", "name": "pod-reader"}, "requester": {"username": "somebody-else"}}}"#;
/// A request in nobody's name: let in as soon as the API server stamps it.
const UNSTAMPED: &str = r#"{"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessRequest", "metadata": {"name": "unstamped", "namespace": "team-a"},
    "spec": {"role": {"kind": "ClusterRole", "name": "pod-reader"}}}"#;
/// A binding that only the operator may make.
const RESERVED: &str = r#"{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "curfew-reserved", "namespace": "team-a"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "pod-reader"}}"#;

/// Everything that the story needs.
pub struct Stage {
    /// The control plane.
    pub cluster: Cluster,
    /// May do everything, being in the group system:masters.
    pub admin: User,
    /// Asks.
    pub alice: User,
    /// Decides.
    pub bob: User,
    /// A colleague of Alice's: may ask, and may not decide.
    pub carol: User,
    _installation: Installation,
}

impl Stage {
    /// Sets it: all that happens before the story begins.
    pub async fn set(teller: &Teller) -> Result<Self, Failure> {
        teller.line("Building the operator, unless it is built already.")?;
        let operator = operator().await?;
        teller.line(
            "Starting a Kubernetes control plane on this machine: etcd, kube-apiserver, kube-controller-manager.",
        )?;
        let mut options = Options::default();
        options.kind = Some(Kind::Embedded);
        let cluster = Cluster::start(options).await?;
        let admin = cluster.admin();
        // kubectl runs in the data directory; so examples/policy.yaml is the same file there as here.
        link(&root().join("examples"), &cluster.data_dir().join("examples"))?;

        teller.line("Installing Curfew with Helm: charts/curfew with examples/values.yaml.")?;
        let values = values(&root().join("examples/values.yaml"))?;
        let operator = OperatorOptions::new(operator).arguments(["--namespace", "curfew-system"]);
        let install = InstallOptions {
            values,
            operator: Some(operator),
            ..InstallOptions::default()
        };
        let installation = Installation::install(&cluster, install).await?;

        teller.line(
            "Applying examples/roles.yaml: the namespace team-a, a role pod-reader, and who may ask and decide.",
        )?;
        admin.kubectl(["apply", "-f", "examples/roles.yaml"]).await?.ok()?;
        settled(admin).await?;
        // There are no nodes here, so this pod stays Pending. It is there to be seen.
        admin
            .kubectl(["run", "web", "--image=nginx", "-n", "team-a"])
            .await?
            .ok()?;

        Ok(Self {
            alice: cluster.user("alice").group("developers").build().await?,
            bob: cluster.user("bob").group("sre").build().await?,
            carol: cluster.user("carol").group("developers").build().await?,
            admin: cluster.user("admin").group("system:masters").build().await?,
            cluster,
            _installation: installation,
        })
    }

    /// Says how to go on by hand.
    pub fn explain(&self, teller: &Teller) -> Result<(), Failure> {
        teller.chapter("It goes on until Ctrl-C. Try it in another terminal, in this directory")?;
        let kubectl = self.cluster.kubectl_path().parent().unwrap_or(Path::new("/"));
        teller.line(&format!("export PATH={}:$PATH", kubectl.display()))?;
        for user in [&self.alice, &self.bob, &self.carol, &self.admin] {
            teller.line(&format!(
                "export KUBECONFIG={}   # {}",
                user.kubeconfig().display(),
                user.name()
            ))?;
        }
        teller.line(
            "sed 's/look-at-pods/once-more/' examples/request.yaml | kubectl apply -f -   # a request is used once",
        )
    }

    /// Ends everything.
    pub async fn clear(self) {
        self.cluster.stop().await;
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn link(from: &Path, to: &Path) -> Result<(), Failure> {
    std::os::unix::fs::symlink(from, to).map_err(|error| Failure::File {
        path: to.display().to_string(),
        cause: error.to_string(),
    })
}

fn values(file: &Path) -> Result<Value, Failure> {
    let failure = |cause: String| Failure::File {
        path: file.display().to_string(),
        cause,
    };
    let text = std::fs::read_to_string(file).map_err(|error| failure(error.to_string()))?;
    serde_saphyr::from_str(&text).map_err(|error| failure(error.to_string()))
}

/// Builds the operator, as the demo itself was built, so that nothing is compiled twice; and says where it is.
async fn operator() -> Result<PathBuf, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = tokio::process::Command::new(cargo);
    build
        .args([
            "build",
            "--bin",
            "curfew",
            "--example",
            "demo",
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(root());
    // What `cargo run` says about this package is not for the build scripts of others, which would run again because of it.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&name);
        }
    }
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let output = build
        .stderr(Stdio::inherit())
        .output()
        .await
        .map_err(|error| Failure::Build(error.to_string()))?;
    if !output.status.success() {
        return Err(Failure::Build(format!("cargo ended with {}", output.status)));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = |line| {
        let artifact: Value = serde_json::from_str(line).ok()?;
        let is_operator = artifact.pointer("/target/name")? == "curfew";
        let path = artifact.get("executable")?.as_str()?;
        is_operator.then(|| PathBuf::from(path))
    };
    let found = messages.lines().find_map(executable);
    found.ok_or_else(|| Failure::Build("cargo named no executable".into()))
}

/// Waits until the API server heeds Curfew's admission policies.
async fn settled(admin: &User) -> Result<(), Failure> {
    let begun = Instant::now();
    while begun.elapsed() < HEEDED {
        let mut heeded = true;
        for (manifest, is_let_in) in [(FORGERY, false), (UNSTAMPED, true), (RESERVED, false)] {
            let answer = admin
                .kubectl_stdin(["create", "--dry-run=server", "-f", "-"], manifest)
                .await?;
            heeded = heeded && answer.succeeded() == is_let_in;
        }
        if heeded {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Failure::NotAsTold(format!(
        "Curfew's admission policies were to be in force within {} s",
        HEEDED.as_secs()
    )))
}
