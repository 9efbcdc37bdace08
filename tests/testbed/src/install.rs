//! Installing the product as its users do: from the chart, with the real Helm.
//!
//! On a cluster with nodes the operator is the chart's own pod, from an image built here. Without nodes the chart is
//! installed with no replicas, and the operator runs as a local process with the chart's service account. Must never
//! add rights, objects or settings that the chart does not have.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Backend, lacking};
use crate::kubeconfig::{changed, write_private};
use crate::operator::{Operator, OperatorOptions};
use crate::{Answer, Capability, Cluster, Error, Result, User, kind, kubectl};

/// How long Helm may take until the operator's pod is ready.
const HELM_TIMEOUT: &str = "3m";
/// A token for the operator that no test outlives.
const TOKEN: Duration = Duration::from_secs(24 * 3600);

/// What to install.
#[derive(Clone, Debug)]
pub struct InstallOptions {
    /// The chart; `charts/curfew` of this repository unless said.
    pub chart: PathBuf,
    /// The release's name; also the name of its service account.
    pub release: String,
    /// The namespace, created if it is missing.
    pub namespace: String,
    /// Values for the chart, as in a values file.
    pub values: Value,
    /// How the operator runs where it is a local process; without it none is started there.
    pub operator: Option<OperatorOptions>,
}

impl Default for InstallOptions {
    fn default() -> Self {
        Self {
            chart: kind::root().join("charts/curfew"),
            release: "curfew".to_owned(),
            namespace: "curfew-system".to_owned(),
            values: json!({}),
            operator: None,
        }
    }
}

/// An installed product.
#[derive(Debug)]
pub struct Installation {
    cluster: Cluster,
    options: InstallOptions,
    operator: Option<Operator>,
}

impl Installation {
    /// Installs the chart, and starts the operator and waits until it is ready.
    pub async fn install(cluster: &Cluster, options: InstallOptions) -> Result<Self> {
        let mut values = options.values.clone();
        match cluster.backend() {
            Backend::Embedded(_) => overlay(&mut values, json!({"replicaCount": 0})),
            Backend::Kind(kind_cluster) => {
                kind_cluster.load_image().await?;
                let (repository, tag) = kind::IMAGE;
                overlay(&mut values, image(repository, tag, "Never"));
            }
            Backend::Existing(_) => {
                let image_name = std::env::var("CURFEW_IMAGE").map_err(|_| Error::Missing {
                    program: "an image of the product (CURFEW_IMAGE)",
                    hint: "push one that the cluster can pull and set CURFEW_IMAGE=repository:tag",
                })?;
                let (repository, tag) = image_name.rsplit_once(':').unwrap_or((&image_name, ""));
                overlay(&mut values, image(repository, tag, "IfNotPresent"));
                let helm = cluster.helm_path().display().to_string();
                let kubeconfig = cluster.admin().kubeconfig().display().to_string();
                let namespace = ["--namespace", &options.namespace, "--kubeconfig", &kubeconfig];
                let uninstall = [
                    &[helm.as_str(), "uninstall", &options.release, "--wait"],
                    namespace.as_slice(),
                ]
                .concat();
                cluster.watchdog().at_end(uninstall)?;
            }
        }
        let mut installation = Self {
            cluster: cluster.clone(),
            options,
            operator: None,
        };
        installation.helm("install", &values).await?;
        if cluster.lacks(Capability::OperatorProcess).is_none() && installation.options.operator.is_some() {
            installation.operator = Some(installation.start_operator().await?);
        }
        Ok(installation)
    }

    /// `helm upgrade` with these values instead of the former ones. A local operator goes on as it is.
    pub async fn upgrade(&mut self, values: Value) -> Result<()> {
        let mut all = values.clone();
        match self.cluster.backend() {
            Backend::Embedded(_) => overlay(&mut all, json!({"replicaCount": 0})),
            Backend::Kind(_) => overlay(&mut all, image(kind::IMAGE.0, kind::IMAGE.1, "Never")),
            Backend::Existing(_) => {
                let image_name = std::env::var("CURFEW_IMAGE").unwrap_or_default();
                let (repository, tag) = image_name.rsplit_once(':').unwrap_or((&image_name, ""));
                overlay(&mut all, image(repository, tag, "IfNotPresent"));
            }
        }
        self.options.values = values;
        self.helm("upgrade", &all).await
    }

    /// What the chart does before `helm uninstall` deletes anything. No pods run where the operator is a local process: there the hook's command is run as
    /// one too, as the operator's service account. Gives what it said; `None` if the chart has no such hook.
    pub async fn run_pre_delete_hook(&self) -> Result<Option<Answer>> {
        let (options, binary) = (&self.options, self.operator()?.binary());
        let namespace = ["--namespace", &options.namespace];
        let command = self
            .cluster
            .helm(["get", "hooks", &options.release].into_iter().chain(namespace));
        let hooks = kubectl::run(self.cluster.watchdog(), command, "helm get hooks".into(), None)
            .await?
            .ok()?;
        if hooks.trim().is_empty() {
            return Ok(None);
        }
        let read = ["create", "--dry-run=client", "--output", "json", "--filename", "-"];
        let job = self.cluster.admin().kubectl_stdin(read, &hooks).await?.ok()?;
        let job: Value = serde_json::from_str(&job).unwrap_or_default();
        if job["metadata"]["annotations"]["helm.sh/hook"] != "pre-delete" {
            return Ok(None);
        }
        let arguments = job["spec"]["template"]["spec"]["containers"][0]["args"].clone();
        let mut arguments: Vec<String> = serde_json::from_value(arguments).unwrap_or_default();
        arguments.extend(namespace.map(str::to_owned));
        let user = self.operator_user().await?;
        Ok(Some(user.run_program(&binary, arguments).await?))
    }

    /// `helm uninstall`. A local operator is killed before, and hooks aren't run: see [`Self::run_pre_delete_hook`].
    pub async fn uninstall(&self) -> Result<()> {
        if let Some(operator) = &self.operator
            && operator.pid().is_some()
        {
            operator.kill()?;
        }
        let options = &self.options;
        let mut command = self.cluster.helm([
            "uninstall",
            &options.release,
            "--namespace",
            &options.namespace,
            "--wait",
        ]);
        if self.operator.is_some() {
            command.arg("--no-hooks");
        }
        kubectl::run(
            self.cluster.watchdog(),
            command,
            format!("helm uninstall {}", options.release),
            None,
        )
        .await?
        .ok()?;
        Ok(())
    }

    /// The operator, where it is a local process ([`Capability::OperatorProcess`]).
    pub fn operator(&self) -> Result<&Operator> {
        self.operator.as_ref().ok_or_else(|| self.no_operator())
    }

    /// One more replica of the operator as a local process, ready.
    pub async fn start_operator(&self) -> Result<Operator> {
        self.launch(None, true).await
    }

    /// One more, run otherwise, and not waited for.
    pub async fn spawn_operator(&self, options: OperatorOptions) -> Result<Operator> {
        self.launch(Some(options), false).await
    }

    /// The operator's service account as a user: what a thief of its token could do.
    pub async fn operator_user(&self) -> Result<User> {
        self.cluster
            .service_account_user(&self.options.namespace, &self.options.release, TOKEN)
            .await
    }

    /// Where it is installed.
    pub fn namespace(&self) -> &str {
        &self.options.namespace
    }

    /// On which cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    async fn launch(&self, options: Option<OperatorOptions>, wait: bool) -> Result<Operator> {
        if let Some(error) = self.cluster.lacks(Capability::OperatorProcess) {
            return Err(error);
        }
        let options = options
            .or_else(|| self.options.operator.clone())
            .ok_or_else(|| self.no_operator())?;
        let user = self.operator_user().await?;
        let number = self.cluster.number();
        let kubeconfig = match (options.server.as_deref(), options.token_file.as_deref()) {
            (None, None) => user.kubeconfig().to_path_buf(),
            (server, token_file) => {
                let path = self.cluster.data_dir().join(format!("operator-{number}.kubeconfig"));
                changed(user.kubeconfig(), server, token_file, &path)?;
                path
            }
        };
        Operator::run(self.cluster.watchdog(), options, &kubeconfig, number, wait).await
    }

    fn no_operator(&self) -> Error {
        match self.cluster.backend() {
            Backend::Embedded(_) => Error::State {
                name: "the operator".to_owned(),
                state: "not configured",
                hint: "give InstallOptions::operator",
            },
            Backend::Kind(_) | Backend::Existing(_) => lacking(self.cluster.kind(), Capability::OperatorProcess),
        }
    }

    async fn helm(&self, verb: &str, values: &Value) -> Result<()> {
        let options = &self.options;
        let number = self.cluster.number();
        let file = self.cluster.data_dir().join(format!("values-{number}.json"));
        write_private(&file, values.to_string().as_bytes())?;
        let mut command = self.cluster.helm([verb, &options.release]);
        command
            .arg(&options.chart)
            .arg("--values")
            .arg(&file)
            .args(["--namespace", &options.namespace]);
        command.args(["--wait", "--timeout", HELM_TIMEOUT]);
        if verb == "install" {
            command.arg("--create-namespace");
        }
        let shown = format!(
            "helm {verb} {} {} --values {values}",
            options.release,
            options.chart.display()
        );
        kubectl::run(self.cluster.watchdog(), command, shown, None)
            .await?
            .ok()?;
        Ok(())
    }
}

fn image(repository: &str, tag: &str, pull_policy: &str) -> Value {
    json!({"image": {"repository": repository, "tag": tag, "pullPolicy": pull_policy}})
}

/// Puts `over` into `values`, deeply.
fn overlay(values: &mut Value, over: Value) {
    match (values, over) {
        (Value::Object(values), Value::Object(over)) => {
            for (key, value) in over {
                overlay(values.entry(key).or_insert(Value::Null), value);
            }
        }
        (values, over) => *values = over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_overlaid_deeply() {
        let mut values = json!({"image": {"tag": "1", "other": true}, "x": 1});
        overlay(&mut values, image("r", "2", "Never"));
        overlay(&mut values, json!({"replicaCount": 0}));
        assert_eq!(
            values,
            json!({"image": {"repository": "r", "tag": "2", "pullPolicy": "Never", "other": true}, "x": 1, "replicaCount": 0})
        );
    }
}
