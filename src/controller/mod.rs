//! The controllers: each observes, asks the core what is to be done, does it, and publishes what came of it.
//!
//! No rule of the product stands here. The order of writes does: grant, seal, binding; and delete before saying that it ended.

mod binding;
mod grant;
mod policy;
mod request;
mod sweep;
mod trigger;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::{BoxFuture, Future, join_all, select_all};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, reflector, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::api::{AccessGrant, AccessPolicy, AccessRequest, marks};
use crate::cluster::backoff::Reconnect;
use crate::cluster::call::{CallError, LIMIT};
use crate::cluster::clock::Clock;
use crate::cluster::newest::Newest;
use crate::core::facts::Home;
use crate::observe::announce::Announcer;
use crate::observe::health::Health;
use crate::observe::metrics::Metrics;

type Failure = kube::runtime::controller::Error<CallError, watcher::Error>;

/// How many objects of one kind are worked on at once.
const CONCURRENCY: u16 = 32;
/// How long to wait after a failed reconcile. Watches bring most changes sooner.
const RETRY: Duration = Duration::from_secs(1);

/// What every reconcile has at hand.
pub struct Context {
    client: Client,
    clock: Clock,
    home: Home,
    announcer: Announcer,
    metrics: Arc<Metrics>,
    grants: Store<AccessGrant>,
    written_requests: Newest<AccessRequest>,
    written_grants: Newest<AccessGrant>,
}

impl Context {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The newest version known of the grant of that name.
    fn grant(&self, name: &str) -> Option<Arc<AccessGrant>> {
        self.grants
            .get(&ObjectRef::new(name))
            .map(|grant| self.written_grants.of(grant))
    }

    /// Look again at this moment, unless something happens before.
    fn at(&self, moment: DateTime<Utc>) -> Action {
        Action::requeue((moment - self.now()).to_std().unwrap_or(Duration::ZERO))
    }
}

/// What the operator is made of besides its controllers.
pub struct Parts {
    /// The way to the API server.
    pub client: Client,
    /// The time.
    pub clock: Clock,
    /// Where the operator lives.
    pub home: Home,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// How it is.
    pub health: Arc<Health>,
}

/// Runs all controllers until `stop` is done and what was begun is finished. A controller that ends by itself ends them all.
pub async fn run(parts: Parts, stop: impl Future<Output = ()> + Clone + Send + Sync + 'static) {
    let Parts {
        client,
        clock,
        home,
        metrics,
        health,
    } = parts;
    let all = watcher::Config::default;
    let marked = watcher::Config::default().labels(marks::GRANT_UID);

    let (requests, requests_seen) = controller(Api::<AccessRequest>::all(client.clone()), all());
    let (grants, grants_seen) = controller(Api::<AccessGrant>::all(client.clone()), all());
    let (policies, policies_seen) = controller(Api::<AccessPolicy>::all(client.clone()), all());
    let (bindings, bindings_seen) = controller(Api::<RoleBinding>::all(client.clone()), marked.clone());
    let (request_store, grant_store, policy_store) = (requests.store(), grants.store(), policies.store());

    let context = Arc::new(Context {
        announcer: Announcer::new(client.clone()),
        client: client.clone(),
        clock,
        home,
        metrics,
        grants: grant_store.clone(),
        written_requests: Newest::default(),
        written_grants: Newest::default(),
    });

    let requests = requests
        .watches(
            Api::<AccessPolicy>::all(client.clone()),
            all(),
            trigger::requests_of_policy(request_store.clone()),
        )
        .watches(
            Api::<AccessGrant>::all(client.clone()),
            all(),
            trigger::request_of_grant,
        )
        .watches(
            Api::<ClusterRole>::all(client.clone()),
            all(),
            trigger::requests_of_cluster_role(request_store.clone()),
        )
        .watches(
            Api::<Role>::all(client.clone()),
            all(),
            trigger::requests_of_role(request_store.clone()),
        )
        .watches(
            Api::<Namespace>::all(client.clone()),
            all(),
            trigger::requests_of_namespace(request_store.clone()),
        )
        .graceful_shutdown_on(stop.clone())
        .run(request::reconcile, retry, Arc::clone(&context));
    let grants = grants
        .watches(
            Api::<AccessRequest>::all(client.clone()),
            all(),
            trigger::grant_of_request,
        )
        .watches(
            Api::<RoleBinding>::all(client.clone()),
            marked,
            trigger::grant_of_binding(grant_store.clone()),
        )
        .watches(
            Api::<AccessPolicy>::all(client.clone()),
            all(),
            trigger::grants_of_policy(grant_store.clone()),
        )
        .watches(
            Api::<ClusterRole>::all(client.clone()),
            all(),
            trigger::grants_of_cluster_role(grant_store.clone()),
        )
        .watches(
            Api::<Role>::all(client.clone()),
            all(),
            trigger::grants_of_role(grant_store.clone()),
        )
        .watches(
            Api::<Namespace>::all(client.clone()),
            all(),
            trigger::grants_of_namespace(grant_store.clone()),
        )
        .graceful_shutdown_on(stop.clone())
        .run(grant::reconcile, retry_grant, Arc::clone(&context));
    let policies = policies
        .watches(
            Api::<ClusterRole>::all(client.clone()),
            all(),
            trigger::policies_of_cluster_role(policy_store.clone()),
        )
        .graceful_shutdown_on(stop.clone())
        .run(policy::reconcile, retry, Arc::clone(&context));
    let sweep = bindings
        .watches(Api::<AccessGrant>::all(client), all(), trigger::bindings_of_grant)
        .graceful_shutdown_on(stop.clone())
        .run(sweep::reconcile, retry, context);

    let running: Vec<BoxFuture<'static, &'static str>> = vec![
        drain("request", requests).boxed(),
        drain("grant", grants).boxed(),
        drain("policy", policies).boxed(),
        drain("sweep", sweep).boxed(),
    ];
    tokio::spawn(async move {
        if futures::try_join!(requests_seen, grants_seen, policies_seen, bindings_seen).is_ok() {
            tracing::info!("all watches have delivered what there is");
            health.watching();
        }
    });
    // A controller that never saw its objects waits for them even when it is told to end.
    let overdue = stop.then(|()| tokio::time::sleep(LIMIT));
    tokio::select! {
        () = together(running) => {}
        () = overdue => tracing::warn!("what was begun is not finished in time and is left"),
    }
}

/// Until one controller ends, and then until the others have finished what they had begun.
async fn together(running: Vec<BoxFuture<'static, &'static str>>) {
    let (first, _, others) = select_all(running).await;
    tracing::info!(
        controller = first,
        "a controller has ended; the others finish what they have begun"
    );
    if tokio::time::timeout(LIMIT, join_all(others)).await.is_err() {
        tracing::warn!("what was begun is not finished in time and is left");
    }
}

/// A controller, and the moment at which its watch has delivered all that there is.
///
/// The store has a `wait_until_ready` of its own, but wakes only one of those who wait, and the controller waits too.
fn controller<K>(api: Api<K>, config: watcher::Config) -> (Controller<K>, oneshot::Receiver<()>)
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let (seen, all_seen) = oneshot::channel();
    let mut seen = Some(seen);
    let objects = reflector(writer, watcher(api, config))
        .backoff(Reconnect::default())
        .inspect_ok(move |event| {
            if matches!(event, watcher::Event::InitDone)
                && let Some(seen) = seen.take()
            {
                // Nobody waits any more only when the operator ends.
                let _ = seen.send(());
            }
        });
    let controller = Controller::for_stream(objects.touched_objects(), store);
    (
        controller
            .with_config(Config::default().concurrency(CONCURRENCY))
            .trigger_backoff(Reconnect::default()),
        all_seen,
    )
}

/// Runs one controller to its end. Errors were counted and are tried again by the controller; they are only said here.
async fn drain<T: Debug>(name: &'static str, results: impl Stream<Item = Result<T, Failure>>) -> &'static str {
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        match result {
            // Somebody else's conflict is everyday business, and so is a trigger for what isn't there (yet, or any more).
            Ok(_) | Err(Failure::ObjectNotFound(_)) => {}
            Err(Failure::ReconcilerFailed(error, _)) if error.is_conflict() => {
                tracing::debug!(controller = name, %error, "decided again")
            }
            Err(error) => {
                tracing::warn!(controller = name, error = %chain(&error), "something failed and is tried again")
            }
        }
    }
    name
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut said: Vec<String> = causes.map(ToString::to_string).collect();
    said.dedup_by(|later, earlier| earlier.ends_with(later.as_str()));
    said.join(": ")
}

fn retry<K: kube::Resource<DynamicType = ()>>(_: Arc<K>, error: &CallError, context: Arc<Context>) -> Action {
    context.metrics.trouble(kind_label::<K>(), error.kind());
    if error.is_conflict() {
        Action::requeue(Duration::ZERO)
    } else {
        Action::requeue(RETRY)
    }
}

/// A grant is looked at again at its deadline at the latest, whatever else fails.
fn retry_grant(grant: Arc<AccessGrant>, error: &CallError, context: Arc<Context>) -> Action {
    context.metrics.trouble("grant", error.kind());
    let until_deadline = (crate::core::grant::deadline(&grant) - context.now())
        .to_std()
        .unwrap_or(RETRY);
    Action::requeue(if error.is_conflict() {
        Duration::ZERO
    } else {
        RETRY.min(until_deadline)
    })
}

fn kind_label<K: kube::Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()).as_ref() {
        "AccessRequest" => "request",
        "AccessPolicy" => "policy",
        "RoleBinding" => "sweep",
        _ => "other",
    }
}
