//! `/healthz`, `/readyz` and `/metrics`, to anybody in the cluster: nobody who connects may take what the operator needs to end access.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::metrics::Metrics;
use crate::cluster::brakes::Brakes;

/// So many connections are open at once; the next one takes the place of the oldest.
const AT_ONCE: usize = 256;
/// So long a connection may take to ask for something.
const ASKS: Duration = Duration::from_secs(5);
/// So many bytes of a question are kept.
const LONGEST: usize = 16 * 1024;
/// So long a connection is open at most, whatever is asked and however slowly the answer is read.
const OPEN: Duration = Duration::from_secs(60);
/// Between two tries where none can be accepted.
const PAUSE: Duration = Duration::from_secs(1);

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
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Arc<Metrics>) -> Infallible {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state((health, metrics));
    let mut open = VecDeque::<AbortHandle>::new();
    loop {
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) if is_its_own(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted for /readyz and /metrics");
                sleep(PAUSE).await;
                continue;
            }
        };
        open.retain(|other| !other.is_finished());
        if open.len() == AT_ONCE
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(ASKS)
            .max_buf_size(LONGEST)
            .serve_connection(TokioIo::new(connection), TowerToHyperService::new(router.clone()));
        open.push_back(tokio::spawn(timeout(OPEN, serving)).abort_handle());
    }
}

/// Whether a connection broke before it was accepted, which says nothing of the next one.
fn is_its_own(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::Instant;

    use super::*;
    use crate::cluster::clock::{Clock, Clocks};
    use crate::cluster::lease::Leadership;

    const LIMIT: Duration = Duration::from_secs(60);

    /// What it answers to this, until it closes the connection.
    async fn answer(to: SocketAddr, question: &str) -> String {
        let mut connection = TcpStream::connect(to).await.unwrap();
        connection.write_all(question.as_bytes()).await.unwrap();
        let mut answer = vec![];
        // It may be reset by what was not read any more.
        let _ = connection.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    /// Many of them would be all the memory that there is.
    #[tokio::test]
    async fn whoever_asks_for_nothing_or_without_end_is_left_and_holds_up_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let brakes = Arc::new(Brakes::default());
        let clocks = Clocks::new(Clock::system(), Arc::clone(&brakes));
        let leadership = Arc::new(Leadership::new("replica".into()));
        let metrics = Arc::new(Metrics::new(Arc::clone(&brakes), leadership, clocks));
        tokio::spawn(serve(listener, Arc::new(Health::new(brakes)), metrics));
        let begun = Instant::now();
        for question in ["", "GET /hea"] {
            let answered = timeout(LIMIT, answer(to, question)).await;
            assert!(!answered.expect("it is closed").contains("200 OK"));
        }
        // Of its own accord the server would wait for half a minute each time.
        assert!(begun.elapsed() < 2 * (ASKS + Duration::from_secs(20)));
        let (begins, length) = ("GET /healthz HTTP/1.1\r\nA: ", LONGEST);
        let endless = format!("{begins}{}", "x".repeat(length - begins.len()));
        let answered = timeout(LIMIT, answer(to, &endless)).await.unwrap();
        assert!(answered.starts_with("HTTP/1.1 431"), "{answered}");

        let mut silent = vec![];
        for _ in 0..=AT_ONCE {
            silent.push(TcpStream::connect(to).await.unwrap());
        }
        let asked = answer(to, "GET /healthz HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n");
        assert!(timeout(LIMIT, asked).await.unwrap().ends_with("ok\n"));
        // Sooner than for want of a question.
        let oldest = timeout(ASKS / 2, silent[0].read_u8()).await;
        assert!(oldest.expect("its place is taken").is_err());
    }
}
