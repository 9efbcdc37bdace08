//! How the operator begins and ends, against an API server that answers when it is told to. Time is the test's.

mod ends;
mod giving;
mod server;
mod two_minds;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use self::server::{Fate, Server, Thing, binding, binding_of, cluster_wide, ended, grant, grounds, is_list, start};
use super::*;
use crate::cluster::clock::Clocks;

/// A grant that is overdue, and a binding that no grant explains.
fn overdue() -> Server {
    Server::with(vec![
        Thing::new("accessgrants", grant("g", -7200..-3600)),
        Thing::new("rolebindings", binding(&grant("gone", -7200..3600))),
    ])
}

fn parts(server: &Server) -> Parts {
    let (brakes, leadership) = (Arc::new(Brakes::default()), Arc::new(Leadership::new("replica".into())));
    let begun = Instant::now();
    Parts {
        client: server.client(),
        clock: Clock::new(move || start() + begun.elapsed()),
        home: Home {
            namespace: "curfew-system".into(),
        },
        metrics: Arc::new(Metrics::new(
            Arc::clone(&brakes),
            Arc::clone(&leadership),
            Clocks::new(Clock::system(), Arc::clone(&brakes)),
        )),
        health: Arc::new(Health::new(Arc::clone(&brakes))),
        brakes,
        leadership,
        uninstalling: false,
    }
}

/// An operator that has begun, and what it says of itself.
struct Begun {
    running: BoxFuture<'static, ()>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    brakes: Arc<Brakes>,
}

fn begun(server: &Server) -> Begun {
    let parts = parts(server);
    Begun {
        health: Arc::clone(&parts.health),
        metrics: Arc::clone(&parts.metrics),
        brakes: Arc::clone(&parts.brakes),
        running: run(parts, std::future::pending().shared()).boxed(),
    }
}

impl Begun {
    async fn runs(&mut self, span: Duration) {
        run_for(span, &mut self.running).await;
    }

    fn tells(&self, expected: &str) {
        let text = self.metrics.text().unwrap();
        assert!(text.lines().any(|line| line == expected), "{text}");
    }
}

/// Runs the operator for so long.
async fn run_for(span: Duration, running: &mut BoxFuture<'static, ()>) {
    tokio::select! {
        () = running => panic!("it ended by itself"),
        () = sleep(span) => {}
    }
}

const A_WHILE: Duration = Duration::from_secs(4);
const NOT_TRIED: &str = "it has not tried yet to end all that is overdue";
/// There are no guards here, so that nothing would be granted; that is another matter.
const NO_GUARDS: &str = "nothing is granted, access goes on ending on time";

#[tokio::test(start_paused = true)]
async fn case_41_it_is_ready_only_when_it_has_tried_to_end_every_overdue_grant_and_every_unexplained_binding() {
    let server = overdue();
    let mut operator = begun(&server);
    operator.runs(A_WHILE).await;
    assert_eq!(operator.health.ready().unwrap_err(), NOT_TRIED);
    server.deletes.add_permits(1);
    operator.runs(Duration::from_secs(1)).await;
    assert_eq!(operator.health.ready().unwrap_err(), NOT_TRIED, "one of two");
    server.deletes.add_permits(1);
    operator.runs(Duration::from_secs(1)).await;
    assert!(operator.health.ready().unwrap_err().starts_with(NO_GUARDS));
    operator.tells("curfew_swept_bindings_total 1");
}

#[tokio::test(start_paused = true)]
async fn case_41_nor_is_it_ready_before_it_has_tried_to_end_an_unexplained_access_to_the_whole_cluster() {
    let orphan = cluster_wide(binding(&grant("gone", -7200..3600)));
    let server = Server::with(vec![Thing::new("clusterrolebindings", orphan)]);
    let mut operator = begun(&server);
    operator.runs(A_WHILE).await;
    assert_eq!(operator.health.ready().unwrap_err(), NOT_TRIED);
    server.deletes.add_permits(1);
    operator.runs(Duration::from_secs(1)).await;
    assert!(operator.health.ready().unwrap_err().starts_with(NO_GUARDS));
}

#[tokio::test(start_paused = true)]
async fn case_41_what_resists_is_tried_on_and_does_not_keep_it_from_being_ready() {
    let mut server = overdue();
    server.verdict = StatusCode::INTERNAL_SERVER_ERROR;
    let mut operator = begun(&server);
    operator.runs(A_WHILE).await;
    assert_eq!(operator.health.ready().unwrap_err(), NOT_TRIED);
    server.deletes.add_permits(2);
    operator.runs(Duration::from_secs(1)).await;
    assert!(operator.health.ready().unwrap_err().starts_with(NO_GUARDS));
    // The grant's, and the one that no grant explains.
    operator.tells("curfew_overdue_bindings 2.0");
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_is_there_although_its_grant_has_ended_is_told_of_as_overdue() {
    let over = ended(grant("g", -7200..-3600));
    let mut server = Server::with(vec![
        Thing::new("rolebindings", binding(&over)),
        Thing::new("accessgrants", over),
    ]);
    server.verdict = StatusCode::INTERNAL_SERVER_ERROR;
    server.deletes.add_permits(1);
    let mut operator = begun(&server);
    operator.runs(A_WHILE).await;
    operator.tells("curfew_overdue_bindings 1.0");
}

/// Its watch lags, and what it would say before it ends the access is a conflict.
#[tokio::test(start_paused = true)]
async fn an_uninstallation_takes_back_no_end_that_it_has_not_seen() {
    let held = grant("g", -7200..3600);
    let mut over = ended(held.clone());
    over["metadata"]["resourceVersion"] = "2".into();
    let mut server = Server::with(vec![Thing::new("accessgrants", held)]);
    (server.newer, server.written) = (Some(over), StatusCode::CONFLICT);
    server.deletes.add_permits(1);
    let parts = Parts {
        uninstalling: true,
        ..parts(&server)
    };
    run_for(A_WHILE, &mut run(parts, std::future::pending().shared()).boxed()).await;
    assert!(!server.seconds_of(&Method::PUT, "/status").is_empty());
    assert!(server.seconds_of(&Method::DELETE, &binding_of("g")).is_empty());
}

/// It can't renew it any more, and somebody else may grant.
#[tokio::test(start_paused = true)]
async fn an_uninstallation_that_lost_the_lease_does_not_say_that_nothing_is_left() {
    let mut server = Server::with(vec![]);
    server.lease = Some(Arc::default());
    let parts = parts(&server);
    let leadership = Arc::new(Leadership::uninstalling("this"));
    let leases = Api::<Lease>::namespaced(server.client(), "curfew-system");
    let mut election = Election::new(&leadership, leases, parts.clock);
    tokio::select! {
        _ = election.run() => {}
        () = sleep(Duration::from_secs(1)) => {}
    }
    assert!(leadership.leads());
    let limit = Duration::from_secs(60);
    let said = uninstall::nothing_left(server.client(), parts.home, leadership.clone(), limit).await;
    let why = said.unwrap_err();
    assert!(why.contains("the Lease was lost"), "{why}");
}

/// A machine that slept, or a server whose clock was set forth.
#[tokio::test(start_paused = true)]
async fn when_time_leaps_everything_is_looked_at_once_and_not_while_it_only_passes() {
    let begun = Instant::now();
    let (leapt, looks) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let leaps_of_clock = Arc::clone(&leapt);
    let clock = Clock::new(move || start() + begun.elapsed() + chrono::Duration::seconds(leaps_of_clock.load(Relaxed)));
    let looked = Arc::clone(&looks);
    let mut watching = leaps(clock, move || {
        looked.fetch_add(1, Relaxed);
    })
    .map(drop)
    .boxed();
    for (leap, expected) in [(0, 0), (60, 1), (-60, 1), (2, 2)] {
        leapt.fetch_add(leap, Relaxed);
        run_for(10 * A_WHILE, &mut watching).await;
        assert_eq!(looks.load(Relaxed), expected, "after {leap} s");
    }
}

/// While a clock that is ahead is set right little by little, the machine's monotonic one runs too slow.
#[tokio::test(start_paused = true)]
async fn when_time_gets_ahead_little_by_little_everything_is_looked_at_too() {
    let (begun, looks) = (Instant::now(), Arc::new(AtomicI64::new(0)));
    let clock = Clock::new(move || start() + begun.elapsed() + begun.elapsed() / 12);
    let looked = Arc::clone(&looks);
    let watching = leaps(clock, move || {
        looked.fetch_add(1, Relaxed);
    });
    run_for(Duration::from_secs(120), &mut watching.map(drop).boxed()).await;
    // By ten seconds in all.
    assert!((4..=6).contains(&looks.load(Relaxed)), "{looks:?}");
}

/// The operator, and what tells it to end when it gets a permit.
fn running_until_told(server: &Server) -> (BoxFuture<'static, ()>, Arc<Semaphore>) {
    let stop = Arc::new(Semaphore::new(0));
    let stopped = Arc::clone(&stop);
    let told = async move { drop(stopped.acquire().await.unwrap()) }.boxed().shared();
    (run(parts(server), told).boxed(), stop)
}

/// Virtual time passes only when everybody waits.
#[tokio::test(start_paused = true)]
async fn told_to_end_it_waits_for_what_was_begun_and_for_nothing_else() {
    for (begins, lasts) in [(true, Duration::from_secs(3)), (false, Duration::ZERO)] {
        let server = overdue();
        let (mut running, stop) = running_until_told(&server);
        if !begins {
            server.deletes.add_permits(100);
        }
        run_for(A_WHILE, &mut running).await;
        let told = Instant::now();
        stop.add_permits(1);
        let deletes = Arc::clone(&server.deletes);
        tokio::join!(running, async move {
            sleep(lasts).await;
            deletes.add_permits(100);
        });
        let took = told.elapsed();
        assert!(took >= lasts && took < lasts + Duration::from_secs(1), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn told_to_end_before_it_has_seen_anything_it_does_not_wait_for_that() {
    let server = overdue();
    server.answers.forget_permits(Semaphore::MAX_PERMITS);
    let (mut running, stop) = running_until_told(&server);
    run_for(A_WHILE, &mut running).await;
    let told = Instant::now();
    stop.add_permits(1);
    running.await;
    assert!(told.elapsed() <= Duration::from_secs(2), "{:?}", told.elapsed());
}

#[tokio::test(start_paused = true)]
async fn when_a_controller_or_what_attends_to_it_ends_by_itself_all_is_over() {
    let goes_on = || std::future::pending().boxed();
    let ends = || async { "it" }.boxed();
    for (working, attending, takes) in [
        (vec![goes_on()], goes_on(), None),
        (vec![goes_on()], ends(), Some(Duration::ZERO)),
        (vec![ends()], goes_on(), Some(Duration::ZERO)),
        (vec![ends(), goes_on()], goes_on(), Some(LIMIT)),
    ] {
        let begun = Instant::now();
        let over = until_over(working, [attending].into_iter().collect(), std::future::pending());
        let is_over = tokio::time::timeout(10 * LIMIT, over).await.is_ok();
        assert_eq!(
            is_over.then(|| begun.elapsed().as_secs()),
            takes.map(|takes| takes.as_secs())
        );
    }
}
