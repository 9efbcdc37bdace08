//! A kind cluster of its own: `kind create cluster`, with `kind-config.yaml` of the repository's root.
//!
//! Must never write to anybody's own kubeconfig. Users get certificates from the cluster's own CA, whose key is read
//! out of the node, so that they are the same as in an embedded cluster.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::binaries::{self, Tool};
use crate::certificates::{self, Authority, Subject};
use crate::cluster::{self, Backend, Started};
use crate::kubeconfig::{self, Endpoint};
use crate::kubectl::{self, Tools};
use crate::watchdog::Watchdog;
use crate::{Error, Kind, Result};

/// The image that is built here and loaded into the node.
pub(crate) const IMAGE: (&str, &str) = ("curfew", "testbed");
const AUDIT_LOG: &str = "/var/log/kubernetes/audit.log";
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A running kind cluster.
#[derive(Debug)]
pub(crate) struct KindCluster {
    name: String,
    watchdog: Arc<Watchdog>,
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Creates one.
pub(crate) async fn start() -> Result<Started> {
    for (program, hint) in [
        (
            "kind",
            "install kind and docker, or run with CURFEW_TESTBED=embedded, which needs neither",
        ),
        (
            "docker",
            "install docker, or run with CURFEW_TESTBED=embedded, which needs no container engine",
        ),
    ] {
        present(program, hint)?;
    }
    let binaries = tokio::task::spawn_blocking(|| binaries::ensure(&[Tool::Kubectl, Tool::Helm]))
        .await
        .map_err(Error::parse("the build of kubectl and helm"))??;
    let watchdog = Arc::new(Watchdog::start()?);
    let dir = watchdog.data_dir().to_path_buf();
    std::fs::create_dir_all(dir.join("home")).map_err(Error::file("make", dir.join("home")))?;
    let tools = Arc::new(Tools {
        kubectl: binaries.path(Tool::Kubectl),
        helm: binaries.path(Tool::Helm),
        kind: Kind::Kind,
        watchdog: Arc::clone(&watchdog),
    });
    let name = cluster_name(&dir);
    let kubeconfig = dir.join("kind.kubeconfig").display().to_string();
    let cluster = KindCluster {
        name: name.clone(),
        watchdog: Arc::clone(&watchdog),
    };

    watchdog.at_end([
        "kind",
        "delete",
        "cluster",
        "--name",
        &name,
        "--kubeconfig",
        &kubeconfig,
    ])?;
    eprintln!("curfew-testbed: creating the kind cluster {name} …");
    let mut arguments = vec!["create", "cluster", "--name", &name, "--config", "kind-config.yaml"];
    arguments.extend(["--kubeconfig", &kubeconfig, "--wait", "180s"]);
    let image = std::env::var("KIND_NODE_IMAGE").ok().filter(|image| !image.is_empty());
    if let Some(image) = &image {
        arguments.extend(["--image", image]);
    }
    cluster.run("kind", &arguments, &root()).await?;

    let node = cluster.node();
    let read = async |file: &str| cluster.run("docker", &["exec", &node, "cat", file], &dir).await;
    let ca = read("/etc/kubernetes/pki/ca.crt").await?;
    let authority = Authority::from_pem(&ca, &read("/etc/kubernetes/pki/ca.key").await?)?;
    let view = [
        "config",
        "view",
        "--raw",
        "-o",
        "jsonpath={.clusters[0].cluster.server}",
        "--kubeconfig",
        &kubeconfig,
    ];
    let server = cluster.run(&tools.kubectl.display().to_string(), &view, &dir).await?;
    let endpoint = Endpoint::new(server.trim(), &ca);
    let subject = Subject {
        name: "testbed-admin".to_owned(),
        groups: vec!["system:masters".to_owned()],
        uid: None,
    };
    let credential = kubeconfig::certificate_user(&authority.client(&subject, certificates::TEN_YEARS)?);
    let admin = cluster::user_in(&tools, &endpoint, "admin.kubeconfig", &subject.name, &credential).await?;
    Ok(Started {
        backend: Backend::Kind(cluster),
        endpoint,
        authority: Some(authority),
        admin,
        tools,
    })
}

impl KindCluster {
    fn node(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    /// What the API server wrote so far.
    pub(crate) fn audit_log(&self) -> Result<String> {
        let output = Command::new("docker")
            .args(["exec", &self.node(), "cat", AUDIT_LOG])
            .output()
            .map_err(Error::file("run", "docker"))?;
        if !output.status.success() {
            return Err(Error::Failed {
                command: format!("docker exec {} cat {AUDIT_LOG}", self.node()),
                status: output.status.to_string(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Builds the product's image from the source tree, and loads it into the node.
    pub(crate) async fn load_image(&self) -> Result<()> {
        let root = root();
        let image = format!("{}:{}", IMAGE.0, IMAGE.1);
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        // A directory of its own: the flags differ, and mixing them would build everything again and again.
        let target = target.join("testbed-image");
        eprintln!("curfew-testbed: building the image {image} …");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = self.watchdog.command(cargo);
        command
            .args([
                "build",
                "--release",
                "--target",
                TARGET,
                "--bin",
                "curfew",
                "--target-dir",
            ])
            .arg(&target)
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .current_dir(&root);
        kubectl::run(
            &self.watchdog,
            command,
            "cargo build --release --bin curfew".to_owned(),
            None,
        )
        .await?
        .ok()?;
        let context = self.watchdog.data_dir().join("image");
        let binary = target.join(TARGET).join("release/curfew");
        std::fs::create_dir_all(&context).map_err(Error::file("make", &context))?;
        std::fs::copy(&binary, context.join("curfew")).map_err(Error::file("copy", binary))?;
        let dockerfile = root.join("Dockerfile").display().to_string();
        let directory = context.display().to_string();
        self.run(
            "docker",
            &["build", "--file", &dockerfile, "--tag", &image, &directory],
            &root,
        )
        .await?;
        self.run("kind", &["load", "docker-image", &image, "--name", &self.name], &root)
            .await?;
        Ok(())
    }

    /// Runs a program with our own environment (the container engine's settings are there), and says what it printed.
    async fn run(&self, program: &str, arguments: &[&str], dir: &Path) -> Result<String> {
        let words: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let mut command = self.watchdog.command(program);
        command.args(&words).current_dir(dir).env_remove("KUBECONFIG");
        kubectl::run(&self.watchdog, command, kubectl::shown(program, &words), None)
            .await?
            .ok()
    }
}

/// The cluster's name: the data directory's, which is unique on this machine, in letters that kind accepts.
fn cluster_name(data_dir: &Path) -> String {
    let unique: String = data_dir
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .skip("curfewtestbed".len())
        .collect();
    format!("curfew-testbed-{}-{unique}", std::process::id())
}

fn present(program: &'static str, hint: &'static str) -> Result<()> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|dir| dir.join(program).is_file());
    if found {
        Ok(())
    } else {
        Err(Error::Missing { program, hint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_kind_accepts() {
        let name = cluster_name(Path::new("/tmp/curfew-testbed-AbC1"));
        assert!(name.starts_with("curfew-testbed-") && name.ends_with("-abc1"), "{name}");
    }
}
