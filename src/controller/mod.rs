//! The controllers: each observes, asks the core what is to be done, does it, and publishes what came of it.
//!
//! No rule of the product stands here. The order of writes does: grant, seal, binding; and delete before saying that it ended.

mod anchor;
mod binding;
mod give;
mod grant;
mod known;
mod overdue;
mod policy;
mod request;
mod sweep;
mod trigger;
pub mod uninstall;
mod watch;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::channel::mpsc::UnboundedReceiver;
use futures::future::{BoxFuture, Future, join_all, select_all};
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client};
use tokio::sync::watch::Receiver;

use self::known::Known;
use self::overdue::{Overdue, sweep_of_the_start};
use self::trigger::Desks;
use self::watch::{Change, Kind, Watch, desk};
use crate::api::{AccessGrant, AccessPolicy, AccessRequest, marks};
use crate::cluster::anchor::Anchors;
use crate::cluster::brakes::Brakes;
use crate::cluster::call::{CallError, LIMIT};
use crate::cluster::clock::Clock;
use crate::cluster::guards::Guards;
use crate::cluster::lease::{Election, Leadership};
use crate::cluster::newest::Newest;
use crate::cluster::precedence::Precedence;
use crate::cluster::read::Reads;
use crate::core::facts::Home;
use crate::observe::announce::Announcer;
use crate::observe::health::Health;
use crate::observe::metrics::Metrics;

type Failure = kube::runtime::controller::Error<CallError, watcher::Error>;

/// How many objects of one kind are worked on at once. Most of them wait for their turn; ends don't.
const CONCURRENCY: u16 = 256;
/// How long to wait after a failed reconcile. Watches bring most changes sooner.
const RETRY: Duration = Duration::from_secs(1);

/// What every reconcile has at hand.
pub struct Context {
    client: Client,
    clock: Clock,
    home: Home,
    announcer: Announcer,
    metrics: Arc<Metrics>,
    known: Known,
    reads: Reads,
    precedence: Arc<Precedence>,
    brakes: Arc<Brakes>,
    leadership: Arc<Leadership>,
    uninstalling: bool,
    guards: Arc<Guards>,
    overdue: Overdue,
    desks: Arc<Desks>,
}

impl Context {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
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
    /// What stops granting.
    pub brakes: Arc<Brakes>,
    /// Whether it is this replica that grants.
    pub leadership: Arc<Leadership>,
    /// Whether all access is to end, because Curfew is being uninstalled.
    pub uninstalling: bool,
}

/// Runs all controllers until `stop` is done and what was begun is finished. A controller or watch that ends by itself ends them all.
pub async fn run(parts: Parts, stop: impl Future<Output = ()> + Clone + Send + Sync + 'static) {
    let Parts {
        client,
        clock,
        home,
        metrics,
        health,
        brakes,
        leadership,
        uninstalling,
    } = parts;
    let leases = Api::<Lease>::namespaced(client.clone(), &home.namespace);
    let mut election = Election::new(&leadership, leases, clock.clone());
    let all = watcher::Config::default;
    let requests = Watch::open(Api::<AccessRequest>::all(client.clone()), all());
    let grants = Watch::open(Api::<AccessGrant>::all(client.clone()), all());
    let policies = Watch::open(Api::<AccessPolicy>::all(client.clone()), all());
    let bindings = Watch::open(Api::<RoleBinding>::all(client.clone()), all().labels(marks::GRANT_UID));
    let cluster_roles = Watch::open(Api::<ClusterRole>::all(client.clone()), all());
    let roles = Watch::open(Api::<Role>::all(client.clone()), all());
    let namespaces = Watch::open(Api::<Namespace>::all(client.clone()), all());

    // Anchors are few, and all in one namespace.
    let of_anchors = || all().labels(marks::ANCHOR);
    let jobs = Watch::open(Api::<Job>::namespaced(client.clone(), &home.namespace), of_anchors());
    let services = Watch::open(
        Api::<Service>::namespaced(client.clone(), &home.namespace),
        of_anchors(),
    );

    let (to_requests, request_queue) = desk();
    let (to_grants, grant_queue) = desk();
    let (to_policies, policy_queue) = desk();
    let (to_bindings, binding_queue) = desk();
    let (to_anchors, anchor_queue) = desk();
    let desks = Arc::new(Desks {
        requests: (to_requests, requests.store.clone()),
        grants: (to_grants, grants.store.clone()),
        policies: (to_policies, policies.store.clone()),
        bindings: (to_bindings, bindings.store.clone()),
        anchors: (to_anchors, jobs.store.clone()),
        home: home.clone(),
    });
    let precedence = Arc::new(Precedence::default());
    let guards = Arc::new(Guards::new(client.clone(), Arc::clone(&brakes), clock.clone()));
    let context = Arc::new(Context {
        announcer: Announcer::new(client.clone(), Arc::clone(&precedence)),
        reads: Reads::new(client.clone()),
        precedence,
        brakes: Arc::clone(&brakes),
        leadership: Arc::clone(&leadership),
        uninstalling,
        guards: Arc::clone(&guards),
        overdue: Overdue::default(),
        desks: Arc::clone(&desks),
        known: Known {
            anchors: Anchors::new(
                client.clone(),
                home.namespace.clone(),
                jobs.store.clone(),
                services.store.clone(),
            ),
            requests: requests.store.clone(),
            grants: grants.store.clone(),
            policies: policies.store.clone(),
            bindings: bindings.store.clone(),
            cluster_roles: cluster_roles.store.clone(),
            roles: roles.store.clone(),
            namespaces: namespaces.store.clone(),
            written_requests: Newest::default(),
            written_grants: Newest::default(),
        },
        client,
        clock,
        home,
        metrics,
    });

    let request_controller = controller(requests.store.clone(), request_queue, stop.clone());
    let grant_controller = controller(grants.store.clone(), grant_queue, stop.clone());
    let policy_controller = controller(policies.store.clone(), policy_queue, stop.clone());
    let sweep_controller = controller(bindings.store.clone(), binding_queue, stop.clone());
    let anchor_controller = controller(jobs.store.clone(), anchor_queue, stop.clone());
    let working: Vec<BoxFuture<'static, &'static str>> = vec![
        drain(
            "request",
            request_controller.run(request::reconcile, retry, Arc::clone(&context)),
        )
        .boxed(),
        drain(
            "grant",
            grant_controller.run(grant::reconcile, retry_grant, Arc::clone(&context)),
        )
        .boxed(),
        drain(
            "policy",
            policy_controller.run(policy::reconcile, retry, Arc::clone(&context)),
        )
        .boxed(),
        drain(
            "sweep",
            sweep_controller.run(sweep::reconcile, retry, Arc::clone(&context)),
        )
        .boxed(),
        drain(
            "anchor",
            anchor_controller.run(anchor::reconcile, retry, Arc::clone(&context)),
        )
        .boxed(),
    ];
    let (anchors, metrics) = (jobs.store.clone(), Arc::clone(&context.metrics));
    // These don't end by themselves, and go on until what was begun is finished: it may need them.
    let attending: Vec<BoxFuture<'_, &'static str>> = vec![
        told(requests, &desks, &health, Desks::request),
        told(grants, &desks, &health, Desks::grant),
        told(policies, &desks, &health, Desks::policy),
        told(bindings, &desks, &health, Desks::binding),
        told(cluster_roles, &desks, &health, Desks::cluster_role),
        told(roles, &desks, &health, Desks::role),
        told(namespaces, &desks, &health, Desks::namespace),
        told(jobs, &desks, &health, move |desks, change| {
            metrics.anchors(anchors.len());
            desks.job(change);
        }),
        told(services, &desks, &health, Desks::service),
        Arc::clone(&guards).watch().boxed(),
        released(brakes, guards, Arc::clone(&desks)).boxed(),
        leading(leadership.beginnings(), desks).boxed(),
        election.run().boxed(),
        sweep_of_the_start(Arc::clone(&context), || health.swept()).boxed(),
    ];

    // A controller that never saw its objects waits for them even when it is told to end; then hardly anything has begun.
    let overdue = stop.then(|()| tokio::time::sleep(if health.has_seen_all() { LIMIT } else { RETRY }));
    tokio::select! {
        () = together(working) => {}
        (ended, _, _) = select_all(attending) => tracing::error!(ended, "what must not end has ended"),
        () = overdue => tracing::warn!("what was begun is not finished in time and is left"),
    }
    election.give_up().await;
}

/// A watch whose changes go to the desks. The operator is ready when all watches have shown what there is.
fn told<K: Kind>(
    watch: Watch<K>,
    desks: &Arc<Desks>,
    health: &Arc<Health>,
    look: impl Fn(&Desks, Change<K>) + Send + 'static,
) -> BoxFuture<'static, &'static str> {
    let (desks, seen) = (Arc::clone(desks), health.expects(K::kind(&()).into_owned()));
    watch
        .tell(move |change| {
            if matches!(change, Change::All) {
                seen();
            }
            look(&desks, change);
        })
        .boxed()
}

/// Whenever a brake is pulled or released, or the guards are others, everything is looked at: what waited may go on, and what waits is to say why.
async fn released(brakes: Arc<Brakes>, guards: Arc<Guards>, desks: Arc<Desks>) -> &'static str {
    let (mut of_brakes, mut of_guards) = (brakes.changes(), guards.changes());
    loop {
        let changed = tokio::select! {
            changed = of_brakes.changed() => changed.is_ok(),
            changed = of_guards.changed() => changed.is_ok(),
        };
        if !changed {
            return "brakes";
        }
        desks.all();
    }
}

/// Whenever this replica begins to grant, everything is looked at: what the one before it has left, and what was asked for meanwhile.
async fn leading(mut beginnings: Receiver<u64>, desks: Arc<Desks>) -> &'static str {
    while beginnings.changed().await.is_ok() {
        desks.all();
    }
    "leadership"
}

/// A controller of what is in `store`, that looks at what comes from `queue`.
fn controller<K: Kind>(
    store: Store<K>,
    queue: UnboundedReceiver<ObjectRef<K>>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> Controller<K> {
    Controller::for_stream(futures::stream::pending(), store)
        .reconcile_on(queue)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop)
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

/// Runs one controller to its end. Errors were counted and are tried again by the controller; they are only said here.
async fn drain<T: Debug>(name: &'static str, results: impl Stream<Item = Result<T, Failure>>) -> &'static str {
    let mut results = std::pin::pin!(results);
    while let Some(result) = results.next().await {
        match result {
            // Somebody else's conflict is everyday business, and so is a trigger for what isn't there (yet, or any more).
            Ok(_) | Err(Failure::ObjectNotFound(_)) => {}
            Err(Failure::ReconcilerFailed(error, _)) if error.is_conflict() || error.is_not_leading() => {
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
        "Job" => "anchor",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
