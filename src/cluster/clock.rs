//! The one place that reads the time, and compares it with the API server's, whose clock deadlines rest on. Everything else is told it.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::http::{HeaderMap, Request, Response, header};
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::brakes::{Brakes, Puller};
use crate::core::clock::{ServerClock, TOLERANCE, seconds};
use crate::core::facts::Brake;

/// Tells the time. Tests tell another.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[allow(clippy::disallowed_methods, reason = "this is that one place")]
    pub fn system() -> Self {
        Self(Arc::new(Utc::now))
    }

    /// A clock that tells what `tell` says.
    pub fn new(tell: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Now.
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }
}

/// The machine's clock next to the API server's. A layer of the client: it hears every answer, and asks nothing itself.
#[derive(Clone)]
pub struct Clocks(Arc<Inner>);

struct Inner {
    own: Clock,
    epoch: Instant,
    server: Mutex<ServerClock>,
    brakes: Arc<Brakes>,
}

impl Clocks {
    /// Of a machine whose clock is `own`. While the two differ too much, the brake is pulled.
    pub fn new(own: Clock, brakes: Arc<Brakes>) -> Self {
        Self(Arc::new(Inner {
            own,
            epoch: Instant::now(),
            server: Mutex::default(),
            brakes,
        }))
    }

    /// The clock that ends go by: the machine's, as far as the server's allows.
    pub fn corrected(&self) -> Clock {
        let this = self.clone();
        Clock::new(move || {
            let Inner { own, epoch, server, .. } = &*this.0;
            let server = server.lock().unwrap_or_else(PoisonError::into_inner);
            server.now(own.now(), epoch.elapsed())
        })
    }

    /// How many seconds the machine's clock is ahead of the server's, or behind it, beyond what can't be known.
    pub fn skew(&self) -> f64 {
        let Inner { own, epoch, server, .. } = &*self.0;
        let server = server.lock().unwrap_or_else(PoisonError::into_inner);
        seconds(server.skew(own.now(), epoch.elapsed()))
    }

    /// Takes note of an answer's `Date`. One that can't be read says nothing.
    fn heard(&self, headers: &HeaderMap, sent: Instant) {
        let Some(date) = headers.get(header::DATE).and_then(|date| date.to_str().ok()) else {
            return;
        };
        let Ok(date) = DateTime::parse_from_rfc2822(date) else {
            return;
        };
        let Inner {
            own,
            epoch,
            server,
            brakes,
        } = &*self.0;
        let skew = {
            let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
            server.heard(date.to_utc(), sent.duration_since(*epoch), epoch.elapsed());
            server.skew(own.now(), epoch.elapsed())
        };
        if skew.abs() > TOLERANCE {
            // To the letter the same while it lasts: a brake that says something else is news to everybody.
            brakes.pull(Puller::Clock, too_far_apart());
        } else {
            brakes.release(Puller::Clock);
        }
    }
}

fn too_far_apart() -> Brake {
    Brake {
        reason: "ClockSkew",
        message: format!(
            "the operator's clock and the API server's differ by more than {} s, or the API server's was set back; the cluster's admins can set them right \
             (curfew_clock_skew_seconds tells how far apart they are), and restart the operator if the API server's was wrong",
            TOLERANCE.num_seconds()
        ),
    }
}

impl<S> Layer<S> for Clocks {
    type Service = Heard<S>;

    fn layer(&self, inner: S) -> Heard<S> {
        Heard {
            clocks: self.clone(),
            inner,
        }
    }
}

/// A client whose answers are heard.
#[derive(Clone)]
pub struct Heard<S> {
    clocks: Clocks,
    inner: S,
}

impl<S, Asked, Answered> Service<Request<Asked>> for Heard<S>
where
    S: Service<Request<Asked>, Response = Response<Answered>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Asked>) -> Self::Future {
        let (clocks, sent) = (self.clocks.clone(), Instant::now());
        let answering = self.inner.call(request);
        Box::pin(async move {
            let answer = answering.await?;
            clocks.heard(answer.headers(), sent);
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use kube::Client;
    use kube::client::{Body, ClientBuilder};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    /// A client of a server whose clock is right, and a machine whose clock is off by as much as is said there.
    fn world() -> (Client, Clocks, Arc<AtomicI64>, Arc<Brakes>) {
        let (epoch, off, brakes) = (Instant::now(), Arc::new(AtomicI64::new(0)), Arc::new(Brakes::default()));
        let right = move || DateTime::from_timestamp(NOW, 0).unwrap() + epoch.elapsed();
        let own = Arc::clone(&off);
        let own = Clock::new(move || right() + chrono::TimeDelta::seconds(own.load(Ordering::SeqCst)));
        let clocks = Clocks::new(own, Arc::clone(&brakes));
        let server = tower::service_fn(move |_: Request<Body>| async move {
            let answer =
                Response::builder().header(header::DATE, right().format("%a, %d %b %Y %H:%M:%S GMT").to_string());
            Ok::<_, tower::BoxError>(answer.body(Body::from(b"{}".to_vec())).unwrap())
        });
        let client = ClientBuilder::new(server, "default").with_layer(&clocks).build();
        (client, clocks, off, brakes)
    }

    async fn ask(client: &Client) {
        client
            .request_text(Request::get("/version").body(vec![]).unwrap())
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_off_stops_granting_until_it_is_right_and_moves_no_end() {
        for wrong in [3600, -3600] {
            let (client, clocks, off, brakes) = world();
            ask(&client).await;
            assert_eq!(brakes.pulled(), None);
            off.store(wrong, Ordering::SeqCst);
            tokio::time::advance(Duration::from_secs(60)).await;
            let now = clocks.corrected().now().timestamp() - NOW;
            assert!((59..=61).contains(&now), "{now}");
            ask(&client).await;
            assert_eq!(brakes.pulled().unwrap().reason, "ClockSkew");
            assert!((clocks.skew() - wrong as f64).abs() < 2.0, "{}", clocks.skew());
            off.store(0, Ordering::SeqCst);
            ask(&client).await;
            assert_eq!(brakes.pulled(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_difference_stops_nothing() {
        let (client, clocks, off, brakes) = world();
        off.store(3, Ordering::SeqCst);
        ask(&client).await;
        assert_eq!(brakes.pulled(), None);
        assert!(clocks.skew() > 1.0);
    }
}
