//! `cargo demo`: Curfew's story on a real control plane, each line a real kubectl command and its real answer.
//!
//! It starts the embedded control plane of the testbed, installs the chart, and runs the operator. Whatever doesn't
//! happen as told ends it with exit code 1.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit;
mod failure;
mod stage;
mod story;
mod teller;

use std::process::ExitCode;

use failure::Failure;
use stage::Stage;
use teller::Teller;

const HELP: &str = "\
cargo demo [--keep]

Tells Curfew's story on a real control plane on this machine: access that is asked for, approved, used and over; and
access that is denied. Takes less than a minute; the first time, the control plane is built (about 7 minutes on 2 cores).
Needs Rust, and Go 1.26 or later for the control plane. Nothing is left behind.

  --keep   goes on until Ctrl-C afterwards, and prints kubeconfigs for everybody in the story
  --help   prints this
";

enum Wish {
    Tell { keep: bool },
    Help,
}

fn main() -> ExitCode {
    let keep = match wish(std::env::args().skip(1)) {
        Ok(Wish::Tell { keep }) => keep,
        Ok(Wish::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(unknown) => {
            eprintln!("{unknown:?} is no option of the demo: it takes --keep or --help, or nothing.");
            return ExitCode::from(2);
        }
    };
    let told = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)
        .and_then(|runtime| runtime.block_on(tell(keep)));
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\ndemo: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What is wanted; or the argument that means nothing. A `--` of its own means nothing either, and is harmless.
fn wish(arguments: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut keep = false;
    for argument in arguments {
        match argument.as_str() {
            "--" => {}
            "--keep" => keep = true,
            "--help" | "-h" => return Ok(Wish::Help),
            _ => return Err(argument),
        }
    }
    Ok(Wish::Tell { keep })
}

async fn tell(keep: bool) -> Result<(), Failure> {
    let mut interrupts =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map_err(Failure::Runtime)?;
    let teller = Teller::new();
    let told = async {
        let stage = Stage::set(&teller).await?;
        story::tell(&stage, &teller).await?;
        if keep {
            stage.explain(&teller)?;
            std::future::pending::<()>().await;
        }
        stage.clear().await;
        Ok(())
    };
    tokio::select! {
        told = told => told,
        // What was started ends with this process, whatever way that is.
        _ = interrupts.recv() => Ok(()),
    }
}
