//! The controllers: each observes, asks the core what is to be done, does it, and publishes what came of it.
//!
//! No rule of the product stands here. The order of writes does: grant, seal, binding; and delete before saying that it ended.

mod anchor;
mod binding;
mod give;
mod grant;
mod keep;
mod known;
mod overdue;
mod policy;
mod request;
mod rounds;
mod sweep;
mod trigger;
mod turns;
pub mod uninstall;
mod watch;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::channel::mpsc::UnboundedReceiver;
use futures::future::{BoxFuture, Future};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;
use tracing::Instrument;

use self::keep::Outlived;
use self::known::Known;
use self::overdue::{Overdue, sweep_of_the_start};
use self::rounds::{Again, rounds};
use self::trigger::Desks;
use self::turns::Turns;
use self::watch::{Kind, Watch};
use self::watches::{Queues, Watches};
use crate::api::AccessGrant;
use crate::cluster::bindings::{Bindings, in_one_form};
use crate::cluster::brakes::Brakes;
use crate::cluster::call::{CallError, LIMIT};
use crate::cluster::clock::Clock;
use crate::cluster::guards::Guards;
use crate::cluster::lease::{Election, Leadership};
use crate::cluster::precedence::Precedence;
use crate::cluster::read::Reads;
use crate::core::facts::Home;
use crate::observe::announce::Announcer;
use crate::observe::health::Health;
use crate::observe::metrics::{Metrics, Stuck};

/// How long to wait after a failed reconcile. Watches bring most changes sooner.
const RETRY: Duration = Duration::from_secs(1);
/// A look consists of a few calls, each with its own limit. One that takes longer than this waits for what won't come; whatever it had begun can be begun
/// again.
const LONGEST_LOOK: Duration = Duration::from_secs(45);
/// What is far away is looked at now and then: this machine's clocks may run slower than the API server's. It costs no call, except of policies.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Less than so much is no leap: a server tells its time in whole seconds.
const LEAP: chrono::Duration = chrono::Duration::milliseconds(1500);

/// What every reconcile has at hand.
pub struct Context {
    client: Client,
    clock: Clock,
    home: Home,
    announcer: Announcer,
    metrics: Arc<Metrics>,
    known: Known,
    reads: Reads,
    bindings: Bindings,
    precedence: Arc<Precedence>,
    brakes: Arc<Brakes>,
    leadership: Arc<Leadership>,
    uninstalling: bool,
    guards: Arc<Guards>,
    turns: Turns,
    /// Whose ended requests may be too many.
    ended: UnboundedSender<String>,
    outlived: Outlived,
    overdue: Overdue,
    desks: Arc<Desks>,
}

impl Context {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Whether what is sealed may be bound now, and by this replica.
    fn may_bind(&self) -> bool {
        self.brakes.pulled().is_none() && self.leadership.leads()
    }

    /// So many bindings of this are to be gone and are still there. What is gone itself, whoever took it away meanwhile, is overdue no more.
    fn tells_overdue(&self, of: Stuck, bindings: usize) {
        let bindings = if self.known.has(&of) { bindings } else { 0 };
        self.metrics.overdue(of, bindings);
    }

    /// What is gone, whoever took it away, is neither overdue nor to be reviewed any more.
    fn forgets_what_is_gone(&self) {
        self.metrics.overdue_only(|stuck| self.known.has(stuck));
        self.metrics.unreviewed_only(|grant| self.known.grant(grant).is_some());
    }

    /// Look again at this moment, unless something happens before.
    fn at(&self, moment: DateTime<Utc>) -> Again {
        let pause = (moment - self.now()).to_std().unwrap_or(Duration::ZERO);
        Again::After(pause.min(LONGEST_PAUSE))
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
    let watches = Watches::open(&client, &home);
    let (desks, queues) = watches.desks(home.clone());
    let precedence = Arc::new(Precedence::default());
    let guards = Arc::new(Guards::new(client.clone(), Arc::clone(&brakes), clock.clone()));
    let (ended, surplus) = mpsc::unbounded_channel();
    let (outlived, removals) = Outlived::new();
    let context = Arc::new(Context {
        announcer: Announcer::new(client.clone(), Arc::clone(&precedence)),
        reads: Reads::new(client.clone()),
        bindings: Bindings::new(client.clone()),
        known: watches.known(&client, &home),
        precedence,
        brakes: Arc::clone(&brakes),
        leadership: Arc::clone(&leadership),
        uninstalling,
        guards: Arc::clone(&guards),
        turns: Turns::default(),
        ended,
        outlived,
        overdue: Overdue::default(),
        desks: Arc::clone(&desks),
        client,
        clock,
        home,
        metrics,
    });
    let working = controllers(&watches, queues, &context, &stop);
    // These don't end by themselves, and go on until what was begun is finished: it may need them.
    let told = watches.told(&desks, &health, &context);
    let others = [
        Arc::clone(&guards).watch().boxed(),
        released(brakes, guards, Arc::clone(&desks)).boxed(),
        leading(leadership.beginnings(), Arc::clone(&desks)).boxed(),
        leaps(context.clock.clone(), move || desks.all()).boxed(),
        keep::no_surplus(surplus, Arc::clone(&context)).boxed(),
        keep::outlived(removals, Arc::clone(&context)).boxed(),
        election.run().boxed(),
        sweep_of_the_start(Arc::clone(&context), || health.swept()).boxed(),
    ];
    until_over(working, told.into_iter().chain(others).collect(), stop).await;
    // It isn't renewed any more when it is given up.
    election.give_up().await;
}

/// Until the controllers have ended, or what attends to them has, which must not happen; once told to stop, no longer than [`LIMIT`].
async fn until_over(
    working: Vec<BoxFuture<'static, &'static str>>,
    mut attending: FuturesUnordered<BoxFuture<'_, &'static str>>,
    stop: impl Future<Output = ()>,
) {
    let overdue = stop.then(|()| tokio::time::sleep(LIMIT));
    tokio::select! {
        biased;
        () = together(working) => {}
        Some(ended) = attending.next() => tracing::error!(ended, "what must not end has ended"),
        () = overdue => tracing::warn!("what was begun is not finished in time and is left"),
    }
}

/// All controllers.
fn controllers(
    watches: &Watches,
    queues: Queues,
    context: &Arc<Context>,
    stop: &(impl Future<Output = ()> + Clone + Send + 'static),
) -> Vec<BoxFuture<'static, &'static str>> {
    let Queues {
        requests,
        grants,
        policies,
        bindings,
        cluster_bindings,
        anchors,
    } = queues;
    vec![
        controller(&watches.requests, requests, request::reconcile, retry, context, stop),
        controller(&watches.grants, grants, grant::reconcile, retry_grant, context, stop),
        controller(
            &watches.policies,
            policies,
            policy::reconcile,
            // After a conflict too: nothing is read again, and the watch brings the newer one sooner.
            |_, _, _| Again::After(RETRY),
            context,
            stop,
        ),
        controller(
            &watches.bindings,
            bindings,
            sweep::reconcile,
            retry_sweep,
            context,
            stop,
        ),
        controller(
            &watches.cluster_bindings,
            cluster_bindings,
            sweep::reconcile_cluster_wide,
            |binding, error, context| retry_sweep(&in_one_form(binding), error, context),
            context,
            stop,
        ),
        controller(&watches.jobs, anchors, anchor::reconcile, retry, context, stop),
    ]
}

/// Whenever a brake is pulled or released, or the guards are others, everything is looked at: what waited may go on, and what waits is to say why.
async fn released(brakes: Arc<Brakes>, guards: Arc<Guards>, desks: Arc<Desks>) -> &'static str {
    let (mut of_brakes, mut of_guards) = (brakes.changes(), guards.changes());
    loop {
        let changed = tokio::select! {
            biased;
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

/// Appointments are kept by a monotonic clock, which stands still while the machine sleeps, and knows nothing of a server whose clock is set forth.
/// It is also slowed while a machine's clock that is ahead is being set right. Whenever time has got ahead of it, at once or little by little, everything is to be
/// looked at.
async fn leaps(clock: Clock, look_at_all: impl Fn()) -> &'static str {
    let (mut begun, mut then) = (Instant::now(), clock.now());
    loop {
        tokio::time::sleep(RETRY).await;
        let (passed, now) = (begun.elapsed(), clock.now());
        let leapt = (now - then) - chrono::Duration::from_std(passed).unwrap_or(chrono::Duration::MAX);
        if leapt > LEAP {
            tracing::warn!(seconds = leapt.num_seconds(), "time has leapt ahead");
            look_at_all();
        }
        // Counted from where it was behind most.
        if leapt > LEAP || leapt < chrono::Duration::zero() {
            (begun, then) = (Instant::now(), now);
        }
    }
}

/// A controller of what `watch` has shown, that looks at what comes from `queue`. What fails is looked at again.
fn controller<K: Kind, F: Future<Output = Result<Again, CallError>> + Send + 'static>(
    watch: &Watch<K>,
    queue: UnboundedReceiver<ObjectRef<K>>,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Send + 'static,
    retry: impl Fn(&K, &CallError, &Context) -> Again + Copy + Send + 'static,
    context: &Arc<Context>,
    stop: &(impl Future<Output = ()> + Clone + Send + 'static),
) -> BoxFuture<'static, &'static str> {
    let (store, context, stop) = (watch.store.clone(), Arc::clone(context), stop.clone());
    let look = move |object: Arc<K>| {
        let context = Arc::clone(&context);
        let span = tracing::info_span!("looking at", object = %ObjectRef::from_obj(object.as_ref()));
        let looked = reconcile(Arc::clone(&object), Arc::clone(&context));
        let look = tokio::time::timeout(LONGEST_LOOK, looked).map(move |looked| match looked {
            Ok(Ok(again)) => again,
            Ok(Err(error)) => failed(object.as_ref(), &error, retry, &context),
            Err(_) => {
                context.metrics.trouble(label::<K>(), "timeout");
                tracing::warn!(controller = label::<K>(), "a look took too long and is begun anew");
                Again::After(Duration::ZERO)
            }
        });
        look.instrument(span)
    };
    let name = label::<K>();
    rounds(store, watch.shown.clone(), queue, look, stop)
        .map(move |()| name)
        .boxed()
}

/// Says that a look failed, and when to look again.
fn failed<K: Kind>(
    object: &K,
    error: &CallError,
    retry: impl Fn(&K, &CallError, &Context) -> Again,
    context: &Context,
) -> Again {
    context.metrics.trouble(label::<K>(), error.kind());
    // Somebody else's conflict is everyday business.
    if error.is_conflict() || error.is_not_leading() {
        tracing::debug!(controller = label::<K>(), %error, "decided again");
    } else {
        tracing::warn!(
            controller = label::<K>(),
            error = chain(error),
            "something failed and is tried again"
        );
    }
    retry(object, error, context)
}

/// Until one controller ends, and then until the others have finished what they had begun.
async fn together(running: Vec<BoxFuture<'static, &'static str>>) {
    let mut running: FuturesUnordered<_> = running.into_iter().collect();
    let first = running.next().await;
    tracing::info!(
        controller = first,
        "a controller has ended; the others finish what they have begun"
    );
    let others = running.for_each(async |_name| {});
    if tokio::time::timeout(LIMIT, others).await.is_err() {
        tracing::warn!("what was begun is not finished in time and is left");
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut said: Vec<String> = causes.map(ToString::to_string).collect();
    said.dedup_by(|later, earlier| earlier.ends_with(later.as_str()));
    said.join(": ")
}

fn retry<K>(_: &K, error: &CallError, _: &Context) -> Again {
    Again::After(if error.is_conflict() { Duration::ZERO } else { RETRY })
}

/// A grant is looked at again at its deadline at the latest, whatever else fails.
fn retry_grant(grant: &AccessGrant, error: &CallError, context: &Context) -> Again {
    let until_deadline = (crate::core::grant::deadline(grant) - context.now()).to_std();
    Again::After(if error.is_conflict() {
        Duration::ZERO
    } else {
        RETRY.min(until_deadline.unwrap_or(RETRY))
    })
}

/// What the grant's own controller can't delete either is tried on no more often than there: an outage isn't to be made worse.
fn retry_sweep(binding: &RoleBinding, _: &CallError, context: &Context) -> Again {
    let known = context.known.explaining(binding);
    let pause = known.map(|grant| crate::core::grant::retry_after(&grant, context.now()));
    Again::After(pause.unwrap_or(RETRY).max(RETRY))
}

/// A controller's name, for logs and metrics.
fn label<K: Kind>() -> &'static str {
    match K::kind(&()).as_ref() {
        "AccessRequest" => "request",
        "AccessGrant" => "grant",
        "AccessPolicy" => "policy",
        "RoleBinding" | "ClusterRoleBinding" => "sweep",
        "Job" => "anchor",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
