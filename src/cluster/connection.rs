//! How the API server is spoken to: what bounds a connection, and what each call and each answer passes. In a test as in the operator.

use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::{Method, Request, Response};
use futures::future::BoxFuture;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::time::timeout;
use tower::{BoxError, Layer, Service};

use super::call::AT_LAST;
use super::clock::Clocks;
use super::legible::Legible;
use super::watching::LONGEST_SILENCE;

/// How long it may take until the answer to a read begins. Whoever opens a watch, or lists for one, has no limit but this.
const ANSWERED: Duration = Duration::from_secs(12);

/// Bounds what a connection may do. Failed calls are not repeated underneath: when to try again is the controllers' matter.
pub fn bounded(config: Config) -> Config {
    bounded_by(LONGEST_SILENCE, config)
}

fn bounded_by(silence: Duration, mut config: Config) -> Config {
    config.default_retry = false;
    // A connection on which nothing comes any more is closed, whatever waits for it.
    config.read_timeout = Some(silence);
    config.reset_reader_on_write = true;
    config
}

/// A client whose answers begin in time, tell the time, and can be read.
pub fn client<S, Answer>(connection: ClientBuilder<S>, clocks: &Clocks) -> Client
where
    S: Service<Request<Body>, Response = Response<Answer>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    Answer: HttpBody<Data = Bytes> + Send + 'static,
    Answer::Error: Into<BoxError>,
{
    connection
        .with_layer(clocks)
        .with_layer(&Answered)
        .with_layer(&Legible)
        .build()
}

/// What bounds how long it is waited for answers to begin: on a connection that died unnoticed none ever would.
#[derive(Clone, Copy, Debug)]
struct Answered;

impl<S> Layer<S> for Answered {
    type Service = InTime<S>;

    fn layer(&self, inner: S) -> InTime<S> {
        InTime(inner)
    }
}

/// A client whose answers begin in time.
#[derive(Clone, Debug)]
struct InTime<S>(S);

impl<S, Asked, Answer> Service<Request<Asked>> for InTime<S>
where
    S: Service<Request<Asked>, Response = Answer>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Asked>) -> Self::Future {
        let limit = match *request.method() {
            Method::GET => ANSWERED,
            // Whoever writes has a limit of their own, as short as they like.
            _ => AT_LAST,
        };
        let answering = self.0.call(request);
        Box::pin(async move { timeout(limit, answering).await?.map_err(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::StreamExt;
    use k8s_openapi::api::core::v1::Namespace;
    use kube::Api;
    use kube::api::ListParams;
    use kube::runtime::watcher;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::cluster::brakes::Brakes;
    use crate::cluster::clock::Clock;

    /// As many lists as there may be: each begins, and stops.
    #[tokio::test]
    async fn an_answer_that_stops_in_the_middle_is_waited_for_no_longer_than_a_silence_lasts() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let begins = async {
            let mut held = vec![];
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                assert!(connection.read(&mut [0; 4096]).await.unwrap() > 0);
                let head =
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"kind\":";
                connection.write_all(head).await.unwrap();
                held.push(connection);
            }
        };
        let config = Config::new(address.parse().unwrap());
        let lists = async |config: Config| {
            let namespaces = Api::<Namespace>::all(Client::try_from(config).unwrap());
            namespaces.list(&ListParams::default()).await
        };
        let stopped = async {
            let short = lists(bounded_by(Duration::from_millis(100), config.clone())).await;
            assert!(short.is_err(), "{short:?}");
            // Whoever has a minute still waits.
            let long = timeout(Duration::from_millis(300), lists(bounded(config.clone()))).await;
            assert!(long.is_err(), "{long:?}");
        };
        tokio::select! {
            () = begins => {}
            ended = timeout(Duration::from_secs(60), stopped) => ended.expect("it isn't waited for for ever"),
        }
        assert_eq!(bounded(config).read_timeout, Some(LONGEST_SILENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_opened_on_a_dead_connection_is_opened_again() {
        let dead = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<axum::body::Body>, BoxError>>()
        });
        let clocks = Clocks::new(Clock::system(), Arc::new(Brakes::default()));
        let client = client(ClientBuilder::new(dead, "default"), &clocks);
        let begun = Instant::now();
        let mut events = watcher(Api::<Namespace>::all(client), watcher::Config::default()).boxed();
        for times in 1..3 {
            while let Some(Ok(_)) = events.next().await {}
            assert_eq!(begun.elapsed().as_secs(), times * ANSWERED.as_secs());
        }
    }
}
