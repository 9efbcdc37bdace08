//! A fault at every call: a proxy between operator and API server lets a fault befall each call of an undisturbed run in turn, and the world must settle to
//! the same end, with an auditor watching. One cluster of its own; `docs/testing.md` says how to try all of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on fails; with a harness of its own clippy doesn't see that these are tests"
)]

mod asked;
mod auditor;
mod call;
mod fault;
mod history;
mod instance;
mod invariants;
mod patient;
mod proxy;
mod scenarios;
mod sweep;
mod world;

use std::process::ExitCode;
use std::sync::LazyLock;

use curfew_testbed::Kind;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::sweep::{Extent, Outcome, Tried, USUAL};
use crate::world::World;

/// So large a share of the fault points may not be reached, because their call isn't made every time.
const MISSED: f64 = 0.1;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let elsewhere = Kind::from_env().unwrap_or_else(|error| panic!("{error}")) != Kind::Embedded;
    let swept = |name: &str, holds: fn(&Outcome) -> Vec<String>| {
        Trial::test(name, move || none(&holds(&OUTCOME))).with_ignored_flag(elsewhere)
    };
    let trials = vec![
        Trial::test("calls_are_told_apart", || {
            call::calls_are_told_apart();
            Ok(())
        }),
        swept("undisturbed_each_scenario_ends_as_it_should", |outcome| {
            wrong(&outcome.undisturbed)
        }),
        swept(
            "after_a_fault_at_any_call_each_scenario_ends_as_if_undisturbed",
            |outcome| wrong(&outcome.tried),
        ),
        swept("the_invariants_held_throughout", |outcome| outcome.findings.clone()),
        swept("nearly_every_fault_point_was_reached", |outcome| {
            let missed: Vec<String> = outcome
                .tried
                .iter()
                .filter(|tried| !tried.reached)
                .map(|tried| tried.told.clone())
                .collect();
            #[allow(clippy::cast_precision_loss)]
            let share = missed.len() as f64 / outcome.tried.len() as f64;
            if outcome.tried.is_empty() {
                vec!["none was tried".to_owned()]
            } else if share > MISSED {
                missed
            } else {
                vec![]
            }
        }),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn none(wrong: &[String]) -> Result<(), Failed> {
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}

fn wrong(tried: &[Tried]) -> Vec<String> {
    tried
        .iter()
        .filter_map(|tried| Some(format!("{}, {}", tried.told, tried.wrong.as_ref()?)))
        .collect()
}

/// The one sweep that all of these look at.
static OUTCOME: LazyLock<Outcome> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::start().await;
        let outcome = sweep::sweep(&world, seed(), extent()).await;
        println!("{}", outcome.told());
        world.patient.failures(|failures| {
            failures
                .iter()
                .for_each(|failure| println!("the operator didn't start: {failure}"))
        });
        world.cluster.stop().await;
        outcome
    })
});

fn extent() -> Extent {
    match std::env::var("CURFEW_FAULTS").as_deref() {
        Err(_) => USUAL,
        Ok("all") => Extent::Part { which: 1, of: 1 },
        Ok(text) => part(text)
            .or_else(|| text.parse().ok().map(Extent::Some))
            .unwrap_or_else(|| Extent::Like(text.to_owned())),
    }
}

/// `2/9` is the second of nine parts.
fn part(text: &str) -> Option<Extent> {
    let (which, of) = text.split_once('/')?;
    let (which, of) = (which.parse().ok()?, of.parse().ok()?);
    (1..=of).contains(&which).then_some(Extent::Part { which, of })
}

/// The same points every time, unless somebody looks for more: what fails is then the change's doing, not chance's.
fn seed() -> u64 {
    match std::env::var("CURFEW_FAULTS_SEED") {
        Ok(seed) => seed.parse().expect("CURFEW_FAULTS_SEED is a number"),
        Err(_) => 1,
    }
}
