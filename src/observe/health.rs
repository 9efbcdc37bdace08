//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::metrics::Metrics;

/// Whether the operator is at work.
#[derive(Debug, Default)]
pub struct Health {
    watching: AtomicBool,
    stopping: AtomicBool,
}

impl Health {
    /// All watches have delivered what there is.
    pub fn watching(&self) {
        self.watching.store(true, Ordering::Relaxed);
    }

    /// It has been told to end.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether it is ready, or why not.
    ///
    /// # Errors
    /// The reason, one sentence.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.stopping.load(Ordering::Relaxed) {
            Err("it is ending")
        } else if self.watching.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("it has not seen all policies, requests, grants and bindings yet")
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
