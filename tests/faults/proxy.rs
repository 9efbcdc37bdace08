//! The proxy between the operator and the API server. It passes everything on, the operator's token included, and lets one fault befall one call of an
//! instance. It must not know what the operator ought to do.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HOST};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::ConfigExt;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::call::{Asked, Book, Call, Names, SHARED, owner_of_shared};
use crate::fault::Fault;
use crate::patient::Patient;

/// The operator gives a call up after 10 s; what is to come too late comes after so long.
const TOO_LATE: Duration = Duration::from_millis(10_600);
/// So long an answer is kept that still comes in time.
const DELAY: Duration = Duration::from_secs(3);
/// So long a watch that is held back tells nothing.
const HELD: Duration = Duration::from_secs(6);

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Send =
    dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, io::Result<Response<Incoming>>> + std::marker::Send + Sync;

/// One call of one instance, and what is to befall it.
#[derive(Clone, Debug)]
pub struct Armed {
    pub call: Call,
    pub nth: usize,
    pub fault: Fault,
}

/// How far a fault has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// Its call wasn't made yet.
    NotYet,
    /// It is under way: an effect is still to come.
    UnderWay,
    /// It happened.
    Over,
}

/// Between the operator and the API server. Cheap to clone.
#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    upstream: Uri,
    send: Box<Send>,
    patient: OnceLock<Patient>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    book: Book,
    armed: HashMap<String, (Armed, Came)>,
    answers: HashMap<String, Answer>,
    held: HashMap<String, Instant>,
}

/// A whole answer.
#[derive(Clone)]
struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Proxy {
    /// To the API server that `config` names; only its address and its certificate authority are used.
    pub async fn start(config: &kube::Config) -> Self {
        let mut way = kube::Config::new(config.cluster_url.clone());
        way.root_cert = config.root_cert.clone();
        let client = Client::builder(TokioExecutor::new()).build(way.rustls_https_connector().unwrap());
        let send = move |request| {
            client
                .request(request)
                .map(|answer| answer.map_err(io::Error::other))
                .boxed()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap(),
            upstream: config.cluster_url.clone(),
            send: Box::new(send),
            patient: OnceLock::new(),
            state: Mutex::default(),
        }));
        tokio::spawn(proxy.clone().serve(listener));
        proxy
    }

    /// Its address, for a kubeconfig.
    pub fn server(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// Whom to kill.
    pub fn attach(&self, patient: Patient) {
        assert!(self.0.patient.set(patient).is_ok(), "there is one operator");
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An instance begins.
    pub fn open(&self, names: Names) {
        self.state(|state| state.book.open(names));
    }

    /// From now on this befalls a call of an instance, which is counted as in the undisturbed run. Once.
    pub fn arm(&self, instance: &str, armed: Armed) {
        self.state(|state| state.armed.insert(instance.to_owned(), (armed, Came::NotYet)));
    }

    /// From now on these befall the next calls of their kind that belong to no instance. Once.
    pub fn arm_shared(&self, armed: impl Iterator<Item = Armed>) {
        self.state(|state| {
            for armed in armed {
                let mut came = Came::NotYet;
                if armed.fault == Fault::Held {
                    state.held.insert(armed.call.resource.clone(), Instant::now() + HELD);
                    came = Came::Over;
                }
                state.armed.insert(owner_of_shared(&armed.call), (armed, came));
            }
        });
    }

    /// How far an instance's fault has come.
    pub fn came(&self, instance: &str) -> Came {
        self.state(|state| state.armed.get(instance).map_or(Came::Over, |(_, came)| *came))
    }

    /// The calls that were made for an instance, and how often.
    pub fn counted(&self, instance: &str) -> BTreeMap<Call, usize> {
        self.state(|state| state.book.counted(instance))
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            tokio::spawn(self.clone().converse(stream));
        }
    }

    async fn converse(self, stream: TcpStream) {
        let answer = service_fn(|request| self.answer(request));
        // That a connection is broken is what this proxy is for.
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answer)
            .await;
    }

    async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let asked = Asked::of(&parts, &body);
        match self.note(&asked) {
            Some((owner, fault)) => {
                let proxy = self.clone();
                // A task of its own: the operator may have given up by the time that it takes effect.
                let befalls = tokio::spawn(async move {
                    let answer = proxy.befallen(fault, parts, body, &asked).await;
                    proxy.set(&owner, Came::Over);
                    answer
                });
                befalls.await.map_err(io::Error::other)?
            }
            None => self.pass(parts, body, &asked).await,
        }
    }

    /// Counts the call; the instance and the fault, if one is to befall it.
    fn note(&self, asked: &Asked) -> Option<(String, Fault)> {
        self.state(|state| {
            let (mut owner, nth) = state.book.count(asked);
            let is_shared = owner == SHARED;
            if is_shared {
                owner = owner_of_shared(&asked.call);
            }
            let (armed, came) = state.armed.get_mut(&owner)?;
            let is_it = *came == Came::NotYet && armed.call == asked.call && (is_shared || armed.nth == nth);
            is_it.then(|| {
                *came = Came::UnderWay;
                (owner, armed.fault)
            })
        })
    }

    fn set(&self, owner: &str, now: Came) {
        self.state(|state| {
            if let Some((_, came)) = state.armed.get_mut(owner) {
                *came = now;
            }
        });
    }

    async fn befallen(&self, fault: Fault, parts: Parts, body: Bytes, asked: &Asked) -> io::Result<Response<Body>> {
        match fault {
            Fault::ServerError => Ok(refusal(500, "InternalError", "the sweep says 500")),
            Fault::Throttled => Ok(refusal(429, "TooManyRequests", "the sweep says 429")),
            Fault::Forbidden => Ok(refusal(403, "Forbidden", "the sweep says 403")),
            Fault::Stale => Ok(self.earlier(&parts)),
            Fault::Gone => Ok(too_old()),
            Fault::Lost => {
                self.forward(parts, body).await?;
                Err(io::Error::other("the answer is lost"))
            }
            Fault::Delayed => {
                let answer = self.pass(parts, body, asked).await;
                tokio::time::sleep(DELAY).await;
                answer
            }
            Fault::Slow => {
                let answer = self.pass(parts, body, asked).await;
                tokio::time::sleep(TOO_LATE).await;
                answer
            }
            Fault::Late => {
                tokio::time::sleep(TOO_LATE).await;
                self.pass(parts, body, asked).await
            }
            Fault::Cut => {
                let answer = self.forward(parts, body).await?;
                Ok(self.cut(answer, asked).await)
            }
            Fault::KilledBefore => {
                self.kill();
                Err(io::Error::other("killed before"))
            }
            Fault::KilledAfter => {
                self.pass(parts, body, asked).await?;
                self.kill();
                Err(io::Error::other("killed after"))
            }
            Fault::Held => self.pass(parts, body, asked).await,
        }
    }

    fn kill(&self) {
        self.0.patient.get().unwrap().kill_and_start();
    }

    /// Passes the call on, and the answer back.
    async fn pass(&self, parts: Parts, body: Bytes, asked: &Asked) -> io::Result<Response<Body>> {
        let uri = parts.uri.to_string();
        let answer = self.forward(parts, body).await?;
        if asked.call.verb == "watch" {
            return Ok(self.stream(answer, asked.call.resource.clone()));
        }
        let answer = Answer::read(answer).await?;
        self.state(|state| {
            state.book.learn(asked, &answer.body);
            if asked.call.verb == "get" {
                state.answers.insert(uri, answer.clone());
            }
        });
        Ok(answer.whole())
    }

    async fn forward(&self, mut parts: Parts, body: Bytes) -> io::Result<Response<Incoming>> {
        let mut uri = self.0.upstream.clone().into_parts();
        uri.path_and_query = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from_parts(uri).map_err(io::Error::other)?;
        for header in [HOST, CONNECTION, ACCEPT_ENCODING] {
            parts.headers.remove(header);
        }
        (self.0.send)(Request::from_parts(parts, Full::new(body))).await
    }

    /// What the same GET was answered before.
    fn earlier(&self, parts: &Parts) -> Response<Body> {
        match self.state(|state| state.answers.get(&parts.uri.to_string()).cloned()) {
            Some(answer) => answer.whole(),
            None => refusal(404, "NotFound", "it was not there earlier"),
        }
    }

    /// A watch: told as it comes, or, while it is held back, later.
    fn stream(&self, answer: Response<Incoming>, resource: String) -> Response<Body> {
        let (proxy, (parts, body)) = (self.clone(), answer.into_parts());
        let frames = BodyStream::new(body).then(move |frame| {
            let until = proxy.state(|state| state.held.get(&resource).copied());
            async move {
                if let Some(until) = until {
                    tokio::time::sleep_until(until).await;
                }
                frame.map_err(io::Error::other)
            }
        });
        Response::from_parts(parts, StreamBody::new(frames).boxed_unsync())
    }

    /// Half an answer, and then the connection is closed. A watch is closed before its first event is whole.
    async fn cut(&self, answer: Response<Incoming>, asked: &Asked) -> Response<Body> {
        let (parts, body) = answer.into_parts();
        let broken = || Err(io::Error::other("cut"));
        let half = match asked.call.verb {
            "watch" => stream::once(async { Ok(Frame::data(Bytes::from_static(b"{\"type\":\"MOD"))) }).boxed(),
            _ => {
                let whole = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let half = whole.slice(..whole.len() / 2);
                stream::once(async { Ok(Frame::data(half)) }).boxed()
            }
        };
        // The first half is to be on its way before the connection is closed.
        let end = stream::once(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            broken()
        });
        Response::from_parts(parts, StreamBody::new(half.chain(end)).boxed_unsync())
    }
}

impl Answer {
    async fn read(answer: Response<Incoming>) -> io::Result<Self> {
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Self { status, body })
    }

    fn whole(self) -> Response<Body> {
        let never = |never: Infallible| match never {};
        let mut answer = Response::new(Full::new(self.body).map_err(never).boxed_unsync());
        *answer.status_mut() = self.status;
        let json = "application/json".parse().unwrap();
        answer.headers_mut().insert(CONTENT_TYPE, json);
        answer
    }
}

/// As an API server says it: it answers the watch, and this is the first that the watch tells.
fn too_old() -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "too old resource version", "reason": "Expired", "code": 410,
    });
    let answer = Answer {
        status: StatusCode::OK,
        body: Bytes::from(format!("{}\n", json!({"type": "ERROR", "object": status}))),
    };
    answer.whole()
}

fn refusal(code: u16, reason: &str, message: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code,
    });
    let answer = Answer {
        status: StatusCode::from_u16(code).unwrap(),
        body: Bytes::from(status.to_string()),
    };
    answer.whole()
}
