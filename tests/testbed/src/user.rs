//! Somebody with a credential and a kubeconfig of their own.
//!
//! Must never impersonate: what a user may do is to be found out with the user's own credential.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::{Api, PostParams};

use crate::certificates::Subject;
use crate::kubectl::{self, Answer, Tools};
use crate::{Cluster, Error, Result};

/// So often kubectl is run when it doesn't get through.
const TRIES: usize = 6;

/// Somebody who can talk to the cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct User {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    kubeconfig: PathBuf,
    config: kube::Config,
    tools: Arc<Tools>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("kubeconfig", &self.kubeconfig)
            .finish_non_exhaustive()
    }
}

impl User {
    pub(crate) fn new(name: &str, kubeconfig: PathBuf, config: kube::Config, tools: Arc<Tools>) -> Self {
        Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                kubeconfig,
                config,
                tools,
            }),
        }
    }

    /// The user name, as the API server sees it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// A kubeconfig that holds this user's credential, and nobody else's.
    pub fn kubeconfig(&self) -> &Path {
        &self.inner.kubeconfig
    }

    /// Runs kubectl as this user. An error means that it could not be run; see [`Answer`] for what it said.
    pub async fn kubectl<I>(&self, arguments: I) -> Result<Answer>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.run(arguments, None).await
    }

    /// Runs kubectl with something on its standard input, for `apply -f -`.
    pub async fn kubectl_stdin<I>(&self, arguments: I, stdin: &str) -> Result<Answer>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.run(arguments, Some(stdin)).await
    }

    /// Runs any program with this user's kubeconfig in `KUBECONFIG`, and nothing else of the caller's environment
    /// but PATH: a kubectl plugin, say.
    pub async fn run_program<I>(&self, program: &Path, arguments: I) -> Result<Answer>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let arguments: Vec<OsString> = arguments
            .into_iter()
            .map(|argument| argument.as_ref().to_owned())
            .collect();
        let shown = kubectl::shown(&program.display().to_string(), &arguments);
        let mut command = self.inner.tools.command(program.as_os_str(), &self.inner.kubeconfig);
        command.args(&arguments);
        kubectl::run(&self.inner.tools.watchdog, command, shown, None).await
    }

    async fn run<I>(&self, arguments: I, stdin: Option<&str>) -> Result<Answer>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let arguments: Vec<OsString> = arguments
            .into_iter()
            .map(|argument| argument.as_ref().to_owned())
            .collect();
        let shown = format!("{} (as {})", kubectl::shown("kubectl", &arguments), self.inner.name);
        let tools = &self.inner.tools;
        let mut tries = 0;
        loop {
            let mut command = tools.command(tools.kubectl.as_os_str(), &self.inner.kubeconfig);
            command.arg("--kubeconfig").arg(&self.inner.kubeconfig).args(&arguments);
            let answer = kubectl::run(&tools.watchdog, command, shown.clone(), stdin).await?;
            tries += 1;
            // kubectl waits 10 s for a handshake, and a machine with much else to do may take longer. Nothing was sent then.
            if tries == TRIES || !answer.stderr.contains("TLS handshake timeout") {
                return Ok(answer);
            }
        }
    }

    /// A client with connections of its own, in the async runtime it is called in. It does not retry.
    pub fn client(&self) -> Result<kube::Client> {
        kube::Client::try_from(self.inner.config.clone())
            .map_err(Error::api(format!("make a client for {}", self.inner.name)))
    }

    pub(crate) fn config(&self) -> &kube::Config {
        &self.inner.config
    }

    /// Whether the API server would let this user do it. The resource is written as kubectl writes it: `pods`,
    /// `pods/log`, `rolebindings.rbac.authorization.k8s.io`; without a namespace the question is about all of them.
    pub async fn can(&self, verb: &str, resource: &str, namespace: Option<&str>) -> Result<bool> {
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (resource, None),
        };
        let (resource, group) = match resource.split_once('.') {
            Some((resource, group)) => (resource, Some(group.to_owned())),
            None => (resource, None),
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource,
                    group,
                    namespace: namespace.map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = Api::all(self.client()?)
            .create(&PostParams::default(), &review)
            .await
            .map_err(Error::api(format!("ask what {} may do", self.inner.name)))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

/// Makes a user. See [`Cluster::user`].
#[derive(Debug)]
#[must_use]
pub struct UserBuilder<'a> {
    cluster: &'a Cluster,
    subject: Subject,
    valid_for: Duration,
}

impl<'a> UserBuilder<'a> {
    pub(crate) fn new(cluster: &'a Cluster, name: &str) -> Self {
        let subject = Subject {
            name: name.to_owned(),
            ..Subject::default()
        };
        Self {
            cluster,
            subject,
            valid_for: Duration::from_secs(24 * 3600),
        }
    }

    /// The uid that the API server is to see. On an existing cluster there is no way to have one.
    pub fn uid(mut self, uid: &str) -> Self {
        self.subject.uid = Some(uid.to_owned());
        self
    }

    /// One more group.
    pub fn group(mut self, group: &str) -> Self {
        self.subject.groups.push(group.to_owned());
        self
    }

    /// More groups.
    pub fn groups<I>(mut self, groups: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.subject.groups.extend(groups.into_iter().map(Into::into));
        self
    }

    /// How long the certificate is accepted (24 h unless said), rounded down to a second. An existing cluster signs
    /// none for less than 10 minutes.
    pub fn valid_for(mut self, duration: Duration) -> Self {
        self.valid_for = duration;
        self
    }

    /// Makes the user. Nothing is created in the cluster but, on an existing one, a certificate request.
    pub async fn build(self) -> Result<User> {
        self.cluster.make_user(&self.subject, self.valid_for).await
    }
}
