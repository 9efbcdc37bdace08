//! The controllers, real and whole, on an API server in memory and in virtual time: schedules of people, faults and admins by a seed, and what must hold.
//!
//! A schedule is the same each time, to the letter. See docs/testing.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on fails"
)]

mod apiserver;
mod auditor;
mod chance;
mod contract;
mod guards;
mod kube_controllers;
mod people;
mod places;
mod replica;
mod scenes;
mod schedule;
mod weather;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use libtest_mimic::{Arguments, Failed, Trial};

use self::scenes::Scene;
use self::schedule::{Outcome, play, play_scene};

/// A quarter of what a schedule costs is memory, asked for and given back: this one takes half as long as the usual one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// So many schedules in CI.
const USUAL: u64 = 10_000;
/// One in so many schedules is played twice: it must be the same.
const TWICE: u64 = 100;
/// So many failures are told of; who looks for more begins after them.
const TOLD: usize = 5;

/// The contract tests on both API servers, and the schedules.
#[derive(Debug, Parser)]
struct Options {
    /// Plays this schedule alone, and tells all that happens in it.
    #[arg(long)]
    seed: Option<u64>,
    /// How many schedules to play.
    #[arg(long, default_value_t = USUAL, env = "CURFEW_SCHEDULES")]
    schedules: u64,
    /// The first one's seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Plays them in this build, however slow it is.
    #[arg(long)]
    here: bool,
    /// What each test runner understands.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    others: Vec<String>,
}

fn main() -> ExitCode {
    let Options {
        seed,
        schedules,
        from,
        here,
        others,
    } = Options::parse();
    if let Some(seed) = seed {
        return alone(seed);
    }
    let arguments = Arguments::from_iter([env!("CARGO_CRATE_NAME").to_owned()].into_iter().chain(others));
    let in_memory = contract::all()
        .into_iter()
        .map(|(name, play)| Trial::test(format!("in memory::{name}"), move || places::in_memory(play)));
    let on_a_real_one = contract::all().into_iter().map(|(name, play)| {
        Trial::test(format!("on a real one::{name}"), move || places::on_a_real_one(play))
            .with_ignored_flag(!places::has_a_real_one())
    });
    let scenes = scenes::all().map(|scene| Trial::test(format!("scene::{}", scene.name), move || staged(&scene)));
    let played = Trial::test(format!("{schedules} schedules"), move || {
        if here {
            many(from, schedules)
        } else {
            optimised(from, schedules)
        }
    });
    let trials = in_memory.chain(on_a_real_one).chain(scenes).chain([played]).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    places::stop();
    conclusion.exit_code()
}

fn alone(seed: u64) -> ExitCode {
    if let Ok(filter) = std::env::var("CURFEW_LOG_LEVEL") {
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .without_time()
            .with_ansi(false);
        log.init();
    }
    let outcome = play(seed, true);
    outcome.told.iter().for_each(|line| println!("{line}"));
    println!("{}", told(&outcome));
    if outcome.wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn staged(scene: &Scene) -> Result<(), Failed> {
    let outcome = play_scene(scene);
    if outcome.wrong.is_empty() {
        return Ok(());
    }
    Err([outcome.told.join("\n"), told(&outcome)].join("\n").into())
}

/// What came of all schedules so far.
#[derive(Default)]
struct Sum {
    played: u64,
    granted: u64,
    bound: u64,
    ended: u64,
    refused: u64,
    removed: u64,
    calls: u64,
    lasted: Duration,
    faults: BTreeMap<&'static str, u64>,
    failed: Vec<(u64, String)>,
}

/// Plays them in an optimised build, ten times as fast, and shows what it says.
fn optimised(from: u64, schedules: u64) -> Result<(), Failed> {
    println!("simulator: building the controllers optimised (some minutes on 2 cores, once for each change) …");
    let trial = format!("{schedules} schedules");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "test",
            "--locked",
            "--quiet",
            "--profile",
            "simulation",
            "--test",
            "simulator",
            "--",
        ])
        .args([
            "--here",
            "--from",
            &from.to_string(),
            "--schedules",
            &schedules.to_string(),
            "--",
            "--exact",
            &trial,
        ])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the optimised build says why ({status})").into())
    }
}

fn many(from: u64, schedules: u64) -> Result<(), Failed> {
    let (next, sum, begun) = (AtomicU64::new(from), Mutex::new(Sum::default()), Instant::now());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + schedules
                        || sum.lock().unwrap_or_else(PoisonError::into_inner).failed.len() >= TOLD
                    {
                        return;
                    }
                    let outcome = played(seed);
                    sum.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome);
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.tell(begun.elapsed());
    match sum.failed.first() {
        Some((seed, _)) => Err(format!("to see it again: cargo test --test simulator -- --seed {seed}").into()),
        None if sum.is_about_something() => Ok(()),
        None => Err("next to nothing happened".into()),
    }
}

/// Plays a schedule, and some of them twice. Whatever panics is wrong.
fn played(seed: u64) -> Outcome {
    let mut outcome = play(seed, false);
    if seed.is_multiple_of(TWICE) && play(seed, false).trace != outcome.trace {
        outcome.wrong.push("played again, it was another".into());
    }
    outcome
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        let Outcome {
            seed,
            wrong,
            trace: _,
            told: _,
            seen,
            faults,
            calls,
            lasted,
        } = outcome;
        self.played += 1;
        self.granted += seen.granted;
        self.bound += seen.bound;
        self.ended += seen.ended;
        self.refused += seen.refused_requests;
        self.removed += seen.removed;
        self.calls += calls;
        self.lasted += *lasted;
        for (fault, times) in faults {
            *self.faults.entry(fault).or_default() += times;
        }
        if !wrong.is_empty() {
            println!("{}", told(outcome));
            self.failed.push((*seed, wrong.join("; ")));
        }
    }

    /// A simulation in which next to nothing is granted shows nothing.
    fn is_about_something(&self) -> bool {
        self.granted >= self.played && self.bound >= self.played && self.ended >= self.played
    }

    fn tell(&self, took: Duration) {
        let Self {
            played,
            granted,
            bound,
            ended,
            refused,
            removed,
            calls,
            lasted,
            faults,
            failed: _,
        } = self;
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let rate = *played as f64 / took.as_secs_f64();
        println!(
            "{played} schedules in {} s, {rate:.0} a second; {} hours of virtual time, {calls} calls",
            took.as_secs(),
            lasted.as_secs() / 3600
        );
        println!(
            "{granted} grants, {bound} bindings, {ended} ended; {refused} requests that came to nothing; {removed} records kept long enough; faults: {faults:?}"
        );
    }
}

fn told(outcome: &Outcome) -> String {
    let Outcome {
        seed,
        wrong,
        trace,
        seen,
        ..
    } = outcome;
    format!(
        "seed {seed}, trace {trace:016x}, {seen:?}: {}",
        if wrong.is_empty() {
            "all well".into()
        } else {
            wrong.join("; ")
        }
    )
}
