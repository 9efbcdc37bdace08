//! An API server that answers when it is told to, and what there may be in it.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, Uri};
use chrono::{DateTime, SecondsFormat, Utc};
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::api::AccessGrant;
use crate::core::binding::desired;
use crate::core::grant::{self, GrantUid};

/// What the operator watches.
const KINDS: [&str; 10] = [
    "accessgrants",
    "accessrequests",
    "accesspolicies",
    "rolebindings",
    "clusterrolebindings",
    "clusterroles",
    "roles",
    "namespaces",
    "jobs",
    "services",
];

/// No test needs so many calls.
const MOST: usize = 20_000;

/// When a test begins.
pub fn start() -> DateTime<Utc> {
    "2027-01-15T08:00:00Z".parse().unwrap()
}

/// An object of a kind, there from so long after the start on.
#[derive(Clone)]
pub struct Thing(pub &'static str, pub Value, pub Duration);

impl Thing {
    /// There from the start on.
    pub fn new(kind: &'static str, object: Value) -> Self {
        Self(kind, object, Duration::ZERO)
    }
}

/// What becomes of a call.
pub enum Fate {
    Answered,
    /// 403.
    Refused,
    /// There is never an answer.
    Lost,
}

/// An API server. Nothing that is written to it changes what there is.
#[derive(Clone)]
pub struct Server {
    pub things: Vec<Thing>,
    /// So many calls are answered; the others wait.
    pub answers: Arc<Semaphore>,
    /// So many deletes are; the others wait.
    pub deletes: Arc<Semaphore>,
    /// What a delete is answered with.
    pub verdict: StatusCode,
    /// What a delete is answered with where it succeeds, if not in a word. Nobody takes a finalizer off it.
    pub lingers: Option<Value>,
    /// What a write is answered with.
    pub written: StatusCode,
    /// Whether a write is answered as if it had been stored.
    pub echoes: bool,
    /// What is there by now of an object that lists and watches show as it was.
    pub newer: Option<Value>,
    /// When all of it goes, after the start, if it does.
    pub goes: Option<Duration>,
    /// The one Lease, where there may be one: the only thing that is as it was written.
    pub lease: Option<Arc<Mutex<Value>>>,
    /// By method and path.
    pub fate: fn(&Method, &str) -> Fate,
    begun: Instant,
    /// When what was asked of it.
    calls: Arc<Mutex<Vec<(Duration, Method, String)>>>,
}

impl Server {
    pub fn with(things: Vec<Thing>) -> Self {
        Self {
            things,
            answers: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            deletes: Arc::new(Semaphore::new(0)),
            verdict: StatusCode::OK,
            lingers: None,
            written: StatusCode::NOT_FOUND,
            echoes: false,
            newer: None,
            goes: None,
            lease: None,
            fate: |_, _| Fate::Answered,
            begun: Instant::now(),
            calls: Arc::default(),
        }
    }

    pub fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            let (parts, body) = request.into_parts();
            async move {
                let body = body.collect().await?.to_bytes();
                let answer = match server.lease.as_ref().filter(|_| parts.uri.path().contains("/leases")) {
                    Some(lease) => of_lease(lease, &body),
                    None => server.answer(&parts.method, &parts.uri, &body).await,
                };
                Ok::<_, tower::BoxError>(answer)
            }
        });
        Client::new(service, "default")
    }

    /// At which seconds there were calls of this method whose path ends so.
    pub fn seconds_of(&self, method: &Method, end: &str) -> Vec<u64> {
        let calls = self.calls.lock().unwrap();
        let such = calls.iter().filter(|(_, of, path)| of == method && path.ends_with(end));
        such.map(|(when, ..)| when.as_secs()).collect()
    }

    async fn answer(&self, method: &Method, uri: &Uri, body: &[u8]) -> Response<Body> {
        let path = uri.path();
        let call = (self.begun.elapsed(), method.clone(), path.to_owned());
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(call);
            calls.len()
        };
        // Where nothing waits no time passes.
        assert!(number < MOST, "it is asked without a pause");
        let _answer = self.answers.acquire().await.unwrap();
        match (self.fate)(method, path) {
            Fate::Answered => {}
            Fate::Refused => return status(StatusCode::FORBIDDEN),
            Fate::Lost => return std::future::pending().await,
        }
        match *method {
            Method::GET => self.read(path, uri.query().unwrap_or_default()),
            Method::DELETE => {
                self.deletes.acquire().await.unwrap().forget();
                match &self.lingers {
                    Some(lingers) => response(lingers),
                    None => status(self.verdict),
                }
            }
            Method::PATCH if self.lingers.is_some() => status(StatusCode::CONFLICT),
            Method::PUT | Method::POST if self.echoes => self.store(body),
            Method::PUT => status(self.written),
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    /// Answers with what was written, as if it had been stored, unless what there is by now is another version.
    fn store(&self, body: &[u8]) -> Response<Body> {
        let mut stored: Value = serde_json::from_slice(body).unwrap();
        let is_older = |newer: &Value| {
            let [newer, written] = [&newer["metadata"], &stored["metadata"]];
            newer["name"] == written["name"] && newer["resourceVersion"] != written["resourceVersion"]
        };
        if self.newer.as_ref().is_some_and(is_older) {
            return status(StatusCode::CONFLICT);
        }
        let metadata = stored["metadata"].as_object_mut().unwrap();
        metadata.entry("uid").or_insert_with(|| "made-just-now".into());
        response(&stored)
    }

    fn read(&self, path: &str, query: &str) -> Response<Body> {
        let mut parts = path.rsplit('/');
        let (last, above) = (parts.next().unwrap(), parts.next().unwrap());
        if !is_list(path) {
            let mut all = self.newer.iter().chain(self.there(above));
            let place = path
                .split_once("/namespaces/")
                .and_then(|(_, place)| place.split('/').next());
            let is_there = |object: &Value| {
                let namespace = object["metadata"]["namespace"].as_str();
                namespace.is_none() || namespace == place
            };
            let found = all.find(|object| object["metadata"]["name"] == last && is_there(object));
            return found.map_or_else(|| status(StatusCode::NOT_FOUND), response);
        }
        if query.contains("watch=") {
            return self.watch(last);
        }
        let (version, items) = (json!({"resourceVersion": "1"}), self.there(last).collect::<Vec<_>>());
        response(&json!({"kind": "List", "apiVersion": "v1", "metadata": version, "items": items}))
    }

    fn there<'a>(&'a self, of: &'a str) -> impl Iterator<Item = &'a Value> {
        let now = self.begun.elapsed();
        let there = self
            .things
            .iter()
            .filter(move |_| self.goes.is_none_or(|goes| now < goes));
        let there = there.filter(move |Thing(kind, _, from)| *kind == of && *from <= now);
        there.map(|Thing(_, object, _)| object)
    }

    /// Tells of what comes and goes, and never ends.
    fn watch(&self, of: &str) -> Response<Body> {
        let (begun, now) = (self.begun, self.begun.elapsed());
        let coming = self
            .things
            .iter()
            .filter(|Thing(kind, _, from)| *kind == of && *from > now);
        let coming = coming.map(|Thing(_, object, from)| ("ADDED", object.clone(), *from));
        let going = self.things.iter().filter(|Thing(kind, ..)| *kind == of);
        let going = going.filter_map(|Thing(_, object, _)| Some(("DELETED", object.clone(), self.goes?)));
        let told: Vec<_> = coming.chain(going).filter(|(_, _, at)| *at > now).collect();
        let told = stream::iter(told).then(move |(what, object, at)| async move {
            sleep_until(begun + at).await;
            Ok::<_, tower::BoxError>(format!("{}\n", json!({"type": what, "object": object})))
        });
        Response::new(Body::from_stream(told.chain(stream::pending())))
    }
}

/// Reads the Lease, or writes it, if it is still what it was read as.
fn of_lease(lease: &Mutex<Value>, body: &[u8]) -> Response<Body> {
    let mut lease = lease.lock().unwrap();
    if let Ok(written) = serde_json::from_slice(body) {
        let written: Value = written;
        if written["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
            return status(StatusCode::CONFLICT);
        }
        let version = lease["metadata"]["resourceVersion"].as_str().unwrap_or("0");
        let version = version.parse::<u64>().unwrap() + 1;
        *lease = written;
        lease["metadata"]["resourceVersion"] = version.to_string().into();
    }
    match lease.is_null() {
        true => status(StatusCode::NOT_FOUND),
        false => response(&lease),
    }
}

/// Whether a path is that of all objects of a kind, be it in one namespace.
pub fn is_list(path: &str) -> bool {
    KINDS.iter().any(|kind| path.ends_with(&format!("/{kind}")))
}

fn response(body: &Value) -> Response<Body> {
    Response::new(Body::from(body.to_string()))
}

fn status(code: StatusCode) -> Response<Body> {
    let said = if code.is_success() { "Success" } else { "Failure" };
    let reason = code.canonical_reason().unwrap_or_default().replace(' ', "");
    let mut response = response(&json!({
        "kind": "Status", "apiVersion": "v1", "status": said, "reason": reason, "message": "so it is",
        "code": code.as_u16(),
    }));
    *response.status_mut() = code;
    response
}

// ---- what there may be ---------------------------------------------------------------------------------------------

fn uid_of(name: &str) -> String {
    format!("uid-of-{name}")
}

/// The end of the path of a grant's binding, of whichever kind.
pub fn binding_of(grant: &str) -> String {
    format!("bindings/curfew-{}", uid_of(grant))
}

/// A grant that is bound, from its creation until its deadline, in seconds after the start.
pub fn grant(name: &str, lasts: Range<i64>) -> Value {
    let (uid, created) = (uid_of(name), start() + chrono::Duration::seconds(lasts.start));
    let bound = json!({"namespace": "team", "name": format!("curfew-{uid}"), "uid": format!("binding-of-{name}")});
    json!({
        "apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant",
        "metadata": {
            "name": name, "uid": uid, "resourceVersion": "1",
            "creationTimestamp": created.to_rfc3339_opts(SecondsFormat::Secs, true),
        },
        "spec": {
            "request": {"namespace": "team", "name": "look", "uid": "r"}, "requester": {"username": "alice"},
            "subject": {"kind": "User", "name": "alice"},
            "role": {"kind": "Role", "name": "reader", "uid": "o", "rulesDigest": "d", "onChange": "Keep"},
            "targets": [{"namespace": "team", "uid": "n"}], "duration": format!("{}s", lasts.end - lasts.start),
            "policy": {"name": "p", "uid": "p", "digest": "d", "onChange": "Keep"}, "offer": "f",
            "decisions": [{"verdict": "Approve", "username": "bob", "via": ["lead/User:bob"], "offer": "f"}], "revokers": {},
        },
        "status": {"phase": "Active", "bindings": [bound]},
    })
}

/// The same grant, over.
pub fn ended(mut over: Value) -> Value {
    let grant: AccessGrant = serde_json::from_value(over.clone()).unwrap();
    over["status"] = serde_json::to_value(grant::ended(&grant, grant::uninstalled(), start())).unwrap();
    over
}

/// A grant's binding, as it was made.
pub fn binding(grant: &Value) -> Value {
    let grant: AccessGrant = serde_json::from_value(grant.clone()).unwrap();
    let made = desired(&grant, &GrantUid::of(&grant).unwrap(), &grant.spec.places()[0]);
    let mut made = serde_json::to_value(made).unwrap();
    made["metadata"]["uid"] = json!(grant.status.unwrap().bindings[0].uid);
    made["metadata"]["resourceVersion"] = json!("1");
    made
}

/// The same for the whole cluster.
pub fn cluster_wide(mut binding: Value) -> Value {
    binding["kind"] = json!("ClusterRoleBinding");
    binding["metadata"].as_object_mut().unwrap().remove("namespace");
    binding
}

/// What a grant rests on: its request, its role and its namespace.
pub fn grounds(grant: &str) -> [Thing; 3] {
    let request = json!({
        "apiVersion": "curfew.dev/v1alpha1", "kind": "AccessRequest",
        "metadata": {"name": "look", "namespace": "team", "uid": "r", "resourceVersion": "1"},
        "spec": {
            "role": {"kind": "Role", "name": "reader"}, "requester": {"username": "alice"},
            "decisions": [{"verdict": "Approve", "username": "bob", "via": ["lead/User:bob"], "offer": "f"}],
        },
        "status": {"phase": "Active", "seal": {"grant": grant, "uid": uid_of(grant)}},
    });
    let role = json!({"metadata": {"name": "reader", "namespace": "team", "uid": "o", "resourceVersion": "1"}});
    let namespace = json!({"metadata": {"name": "team", "uid": "n", "resourceVersion": "1"}});
    [
        Thing::new("accessrequests", request),
        Thing::new("roles", role),
        Thing::new("namespaces", namespace),
    ]
}
