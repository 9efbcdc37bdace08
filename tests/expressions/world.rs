//! A control plane with Curfew's definitions, admission policies and rights on it, and the states of `states`. No operator runs.

use std::time::{Duration, Instant};

use curfew_testbed::{Cluster, InstallOptions, Installation, Options};
use futures::{StreamExt, stream};
use kube::Client;
use serde_json::{Value, json};

use crate::attempt::{Attempt, HOME, Server, Who, ask, collection};
use crate::states;
use crate::table::{MATTERS, about};

/// How long the API server may take to heed new guards.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
/// So many attempts at once.
const AT_ONCE: usize = 8;

pub struct World {
    pub server: Server,
    pub cluster: Cluster,
    pub installation: Installation,
    pub admin: Client,
}

impl World {
    pub async fn start(server: Server) -> Self {
        let options = match server {
            Server::Stamping => Options::default(),
            Server::Older => Options::emulating("1.34"),
        };
        let cluster = Cluster::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        let admin = cluster.admin().client().unwrap();
        define(&admin).await;
        states::make(&admin).await;
        let options = InstallOptions {
            values: json!({
                "grantableRoles": [
                    {"kind": "Role", "name": "reader"}, {"kind": "ClusterRole", "name": "reader"},
                    {"kind": "Role", "name": "of-one"}, {"kind": "ClusterRole", "name": "of-all"},
                ],
                "clusterWide": true,
            }),
            namespace: HOME.to_owned(),
            ..InstallOptions::default()
        };
        let installation = Installation::install(&cluster, options)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let world = Self {
            server,
            cluster,
            installation,
            admin,
        };
        world.wait_for_guards().await;
        world
    }

    /// Every attempt that came out otherwise than it should.
    pub async fn otherwise(&self, attempts: &[Attempt]) -> Vec<String> {
        let tried = self.here(attempts).map(|attempt| attempt.comes_out(&self.admin));
        let tried = stream::iter(tried).buffer_unordered(AT_ONCE);
        tried.filter_map(async |outcome| outcome.err()).collect().await
    }

    /// How one of them comes out otherwise than it should, if one does. It must do so twice: what is noticed by chance isn't noticed.
    pub async fn first_otherwise(&self, attempts: &[Attempt]) -> Option<String> {
        let tried = self.here(attempts).map(async |attempt| {
            attempt.comes_out(&self.admin).await.err()?;
            attempt.comes_out(&self.admin).await.err()
        });
        let tried = stream::iter(tried).buffer_unordered(AT_ONCE);
        let mut wrong = std::pin::pin!(tried.filter_map(async |wrong| wrong));
        wrong.next().await
    }

    fn here<'a>(&'a self, attempts: &'a [Attempt]) -> impl Iterator<Item = &'a Attempt> {
        attempts.iter().filter(|attempt| attempt.is_on(self.server))
    }

    /// A new admission policy takes about a second until the API server heeds it. All are in force once everything comes out that needs one; what never does
    /// is told by whoever tries it next.
    async fn wait_for_guards(&self) {
        let mut waiting: Vec<Attempt> = MATTERS
            .into_iter()
            .flat_map(about)
            .filter(|attempt| attempt.is_on(self.server) && attempt.needs_a_guard())
            .collect();
        let begun = Instant::now();
        while !waiting.is_empty() && begun.elapsed() < LIMIT {
            let mut still = vec![];
            for attempt in waiting {
                if attempt.comes_out(&self.admin).await.is_err() {
                    still.push(attempt);
                }
            }
            waiting = still;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Curfew's own kinds, before Helm finds that they are there; returns once they are served.
async fn define(admin: &Client) {
    for definition in curfew::api::definitions() {
        let mut definition = serde_json::to_value(definition).unwrap();
        definition["apiVersion"] = json!("apiextensions.k8s.io/v1");
        definition["kind"] = json!("CustomResourceDefinition");
        let made = ask(
            admin,
            &Who::admin(),
            &hyper::Method::POST,
            &collection(&definition),
            "application/json",
            &definition,
        )
        .await;
        made.unwrap_or_else(|refusal| panic!("{refusal}"));
    }
    for plural in ["accesspolicies", "accessrequests", "accessgrants"] {
        let path = format!("/apis/curfew.dev/v1alpha1/{plural}");
        let served = ask(
            admin,
            &Who::admin(),
            &hyper::Method::GET,
            &path,
            "application/json",
            &Value::Null,
        )
        .await;
        served.unwrap_or_else(|refusal| panic!("{refusal}"));
    }
}
