//! What a stranger will try, each on a real API server, with the product installed from its chart and real kubectl.
//!
//! One file a behaviour; the tests' names are the promises. [`scene::Scene`] gives each test people, a namespace and a policy of its own; [`world::World`]
//! is the cluster that they share. `CURFEW_TESTBED=embedded|kind|existing` chooses it; tests that need what a cluster lacks are counted as ignored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on fails; with a harness of its own clippy doesn't see that these are tests"
)]

mod anchor;
mod anchor_overdue;
mod anchor_refused;
mod boundary;
mod break_glass;
mod chains;
mod clocks;
mod cluster_wide;
mod content;
mod course;
mod credentials;
mod decisions;
mod denial;
mod ending;
mod examples;
mod extension;
mod finalizers;
mod foreign;
mod guards;
mod guards_in_force;
mod identity;
mod kubectl;
mod lease;
mod limits;
mod line;
mod lost_rights;
mod namespaces;
mod outage;
mod places;
mod policy;
mod refusal;
mod replicas;
mod reserved;
mod retention;
mod roles;
mod scene;
mod schedule;
mod service_accounts;
mod signs;
mod simultaneous;
mod stolen_token;
mod tools;
mod tutorial;
mod uninstall;
mod webhook;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// So many tests run at once: most of their time they wait.
const AT_ONCE: usize = 8;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let cases = [
        // What waits longest begins first.
        uninstall::cases(),
        anchor_overdue::cases(),
        simultaneous::cases(),
        outage::cases(),
        anchor::cases(),
        anchor_refused::cases(),
        boundary::cases(),
        break_glass::cases(),
        chains::cases(),
        clocks::cases(),
        cluster_wide::cases(),
        content::cases(),
        course::cases(),
        credentials::cases(),
        decisions::cases(),
        denial::cases(),
        ending::cases(),
        examples::cases(),
        extension::cases(),
        finalizers::cases(),
        foreign::cases(),
        guards::cases(),
        guards_in_force::cases(),
        identity::cases(),
        kubectl::cases(),
        lease::cases(),
        limits::cases(),
        lost_rights::cases(),
        namespaces::cases(),
        places::cases(),
        policy::cases(),
        refusal::cases(),
        replicas::cases(),
        reserved::cases(),
        retention::cases(),
        roles::cases(),
        schedule::cases(),
        service_accounts::cases(),
        stolen_token::cases(),
        tutorial::cases(),
        webhook::cases(),
    ];
    let trials: Vec<Trial> = cases.into_iter().flatten().map(world::Case::trial).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    world::end();
    conclusion.exit_code()
}
