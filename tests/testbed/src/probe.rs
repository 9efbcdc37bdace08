//! Asking a server whether it is ready.
//!
//! Must not retry for ever: who asks says how long, and hears at once of a process that ended.

use std::time::{Duration, Instant};

use crate::process::{self, Process};
use crate::{Error, Result};

/// Between two attempts: short against the seconds that a start takes.
const INTERVAL: Duration = Duration::from_millis(30);
/// One attempt may take so long.
const ATTEMPT: Duration = Duration::from_secs(30);

/// Gets `path` once; the error is what was wrong.
pub(crate) async fn get(config: &kube::Config, path: &str) -> Result<String, String> {
    let client = kube::Client::try_from(config.clone()).map_err(|error| error.to_string())?;
    get_with(&client, path).await
}

/// The same with a client that is kept.
async fn get_with(client: &kube::Client, path: &str) -> Result<String, String> {
    let request = kube::core::Request::new("")
        .get(path.trim_start_matches('/'), &kube::api::GetParams::default())
        .map_err(|error| error.to_string())?;
    match tokio::time::timeout(ATTEMPT, client.request_text(request)).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no answer within {} s", ATTEMPT.as_secs())),
    }
}

/// Waits until `path` is answered with success.
pub(crate) async fn wait(
    what: &str,
    config: &kube::Config,
    path: &str,
    limit: Duration,
    process: impl Fn() -> Result<()>,
    log: &std::path::Path,
) -> Result<()> {
    let client = kube::Client::try_from(config.clone()).map_err(Error::api("make a client"))?;
    until(what, limit, log, process, async || {
        get_with(&client, path).await.map(|_| ())
    })
    .await
}

/// Waits until `attempt` succeeds, `process` says that all is over, or the limit is reached.
pub(crate) async fn until<T>(
    what: &str,
    limit: Duration,
    log: &std::path::Path,
    process: impl Fn() -> Result<()>,
    mut attempt: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        process()?;
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= limit => {
                return Err(Error::NotReady {
                    what: what.to_owned(),
                    seconds: limit.as_secs(),
                    last,
                    log: log.to_path_buf(),
                    tail: process::tail(log),
                });
            }
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Whether a process that may be missing still runs, as an error if not.
pub(crate) fn alive(slot: &std::sync::Mutex<Option<Process>>) -> Result<()> {
    let mut slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    slot.as_mut().map_or(Ok(()), Process::check)
}
