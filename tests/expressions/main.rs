//! Each expression of the admission policies, and each rule of the definitions, is there because something would come out otherwise without it.
//!
//! A table of attempts says what the API server makes of what people, controllers and a thief of the operator's token try. It is tried as things are; and,
//! when somebody asks for it, again and again with one expression taken away or turned around, each of which must be noticed. `docs/testing.md` says how.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on fails; with a harness of its own clippy doesn't see that these are tests"
)]

mod attempt;
mod cel;
mod credentials;
mod mutant;
mod scrutiny;
mod states;
mod survivors;
mod table;
mod world;

use std::process::ExitCode;
use std::sync::LazyLock;

use curfew_testbed::Kind;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::attempt::Server;
use crate::scrutiny::scrutinise;
use crate::table::{MATTERS, about};
use crate::world::World;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let elsewhere = Kind::from_env().unwrap_or_else(|error| panic!("{error}")) != Kind::Embedded;
    let wanted = std::env::var("CURFEW_EXPRESSIONS").ok();
    let scrutiny = Trial::test("no_expression_can_be_another_without_being_noticed", {
        let wanted = wanted.clone().unwrap_or_default();
        move || is_noticed(&wanted)
    });
    let trials = vec![
        Trial::test("expressions_are_taken_apart", || {
            cel::expressions_are_taken_apart();
            Ok(())
        }),
        Trial::test("every_attempt_comes_out_as_it_should", || {
            on(Server::Stamping, async |world| come_out(world).await)
        })
        .with_ignored_flag(elsewhere),
        Trial::test("every_attempt_comes_out_as_it_should (on 1.34)", || {
            on(Server::Older, async |world| come_out(world).await)
        })
        .with_ignored_flag(elsewhere),
        Trial::test("with_credentials_of_their_own_everybody_comes_to_the_same", || {
            on(Server::Stamping, async |world| {
                let mut wrong = credentials::by_certificate(world).await;
                wrong.extend(credentials::by_the_operators_token(world).await);
                wrong
            })
        })
        .with_ignored_flag(elsewhere),
        Trial::test("each_survivor_is_a_mutant_still", || {
            on(Server::Stamping, async |world| {
                survivors::strangers(&scrutiny::guards(world).await)
            })
        })
        .with_ignored_flag(elsewhere),
        scrutiny.with_ignored_flag(elsewhere || wanted.is_none()),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
});

static STAMPING: OnceCell<World> = OnceCell::const_new();
static OLDER: OnceCell<World> = OnceCell::const_new();

/// What is found wrong on a cluster as it is shipped. Nothing is changed there, so all of these share it.
fn on(server: Server, find: impl AsyncFnOnce(&World) -> Vec<String>) -> Result<(), Failed> {
    RUNTIME.block_on(async {
        let shared = match server {
            Server::Stamping => &STAMPING,
            Server::Older => &OLDER,
        };
        none(&find(shared.get_or_init(|| World::start(server)).await).await)
    })
}

async fn come_out(world: &World) -> Vec<String> {
    let mut wrong = vec![];
    for matter in MATTERS {
        wrong.extend(world.otherwise(&about(matter)).await);
    }
    wrong
}

/// Every mutant that is wanted: `all`, or those in whose names this stands.
fn is_noticed(wanted: &str) -> Result<(), Failed> {
    let is_wanted = |id: &str| wanted == "all" || id.contains(wanted);
    let scrutiny = RUNTIME.block_on(async {
        let world = World::start(Server::Stamping).await;
        let mut scrutiny = scrutinise(&world, is_wanted).await;
        world.cluster.stop().await;
        // Some of it is there for older API servers.
        let survivors: Vec<String> = scrutiny.survivors().into_iter().map(str::to_owned).collect();
        if !survivors.is_empty() {
            let world = World::start(Server::Older).await;
            let survived = |id: &str| survivors.iter().any(|survivor| survivor == id);
            scrutiny.corrected_by(scrutinise(&world, survived).await);
            world.cluster.stop().await;
        }
        scrutiny
    });
    println!("{scrutiny}");
    let mut wrong = scrutiny.spoilt.clone();
    wrong.extend(survivors::differences(&scrutiny, is_wanted));
    none(&wrong)
}

fn none(wrong: &[String]) -> Result<(), Failed> {
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}
