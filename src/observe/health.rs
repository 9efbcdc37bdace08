//! `/healthz`, `/readyz` and `/metrics`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::metrics::Metrics;
use crate::cluster::brakes::Brakes;

/// Whether the operator is at work.
#[derive(Debug)]
pub struct Health {
    brakes: Arc<Brakes>,
    /// The kinds whose watches have not shown yet what there is; `None` before any watch was opened.
    awaited: Mutex<Option<BTreeSet<String>>>,
    /// Whether all has been tried that was overdue when it began.
    swept: AtomicBool,
    stopping: AtomicBool,
}

impl Health {
    /// Of an operator that hasn't begun. It isn't ready while a brake is pulled either: whoever watches pods is to see that nothing is granted.
    pub fn new(brakes: Arc<Brakes>) -> Self {
        Self {
            brakes,
            awaited: Mutex::default(),
            swept: AtomicBool::default(),
            stopping: AtomicBool::default(),
        }
    }

    /// A watch was opened: the operator is ready only when what is given here was called.
    pub fn expects(self: &Arc<Self>, kind: String) -> impl Fn() + Send + use<> {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.get_or_insert_default().insert(kind.clone());
        let this = Arc::clone(self);
        move || this.shown(&kind)
    }

    fn shown(&self, kind: &str) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(awaited) = awaited.as_mut()
            && awaited.remove(kind)
            && awaited.is_empty()
        {
            tracing::info!("all watches have shown what there is");
        }
    }

    /// It has tried once to end all that was overdue when it began.
    pub fn swept(&self) {
        self.swept.store(true, Ordering::Relaxed);
        tracing::info!("it has been tried to end all that was overdue");
    }

    /// It has been told to end.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether it is ready, or why not.
    ///
    /// # Errors
    /// The reason, one sentence.
    pub fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err("it is ending".to_owned());
        }
        match self.awaited.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(awaited) if awaited.is_empty() && !self.swept.load(Ordering::Relaxed) => {
                Err("it has not tried yet to end all that is overdue".to_owned())
            }
            Some(awaited) if awaited.is_empty() => match self.brakes.pulled() {
                None => Ok(()),
                Some(brake) => Err(format!(
                    "nothing is granted, access goes on ending on time: {}",
                    brake.message
                )),
            },
            Some(awaited) => Err(format!(
                "it has not seen yet all of {}",
                awaited.iter().cloned().collect::<Vec<_>>().join(", ")
            )),
            None => Err("it has just begun".to_owned()),
        }
    }
}

/// Serves until the process ends.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state((health, metrics));
    axum::serve(listener, router).await
}

async fn readyz(State((health, _)): State<(Arc<Health>, Arc<Metrics>)>) -> impl IntoResponse {
    match health.ready() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics_text(State((_, metrics)): State<(Arc<Health>, Arc<Metrics>)>) -> impl IntoResponse {
    match metrics.text() {
        Ok(text) => (
            StatusCode::OK,
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        ),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            "metrics could not be written\n".to_owned(),
        ),
    }
}
