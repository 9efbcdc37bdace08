//! A call to the API server: what it is, whose it is, and how it is counted. Knows nothing of faults.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use chrono::NaiveDateTime;
use hyper::http::request::Parts;
use hyper::{Method, Uri};
use serde_json::Value;

use crate::history::now;

/// Whose calls those are that belong to no instance: lists and watches, anchors of a minute that many share.
pub const SHARED: &str = "shared";

/// The second namespace of an instance is called like the first, and this.
pub const SECOND: &str = "-b";

/// The instance to which a namespace belongs.
pub fn instance_of(namespace: &str) -> &str {
    namespace.strip_suffix(SECOND).unwrap_or(namespace)
}

/// The namespace of the request that is written on a binding.
pub fn namespace_written_on(annotations: &BTreeMap<String, String>) -> String {
    let request = annotations.get("curfew.dev/request").map(String::as_str);
    let (namespace, _) = request.and_then(|request| request.split_once('/')).unwrap_or_default();
    namespace.to_owned()
}

/// Under which name a fault at a shared call is known: there can be one at each.
pub fn owner_of_shared(call: &Call) -> String {
    format!("{SHARED}: {call}")
}

/// What is asked of the API server, without saying of which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// The resource's plural, with its subresource: `accessgrants/status`.
    pub resource: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)
    }
}

/// A call, and the object that it is about.
#[derive(Debug)]
pub struct Asked {
    pub call: Call,
    namespace: Option<String>,
    name: Option<String>,
    body: Value,
}

impl Asked {
    /// What this HTTP request asks.
    pub fn of(parts: &Parts, body: &[u8]) -> Self {
        let body = serde_json::from_slice(body).unwrap_or(Value::Null);
        let (namespace, resource, name) = place(&parts.uri);
        let query = parts.uri.query().unwrap_or_default();
        let verb = match parts.method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ if query.contains("watch=true") => "watch",
            _ if name.is_some() => "get",
            _ => "list",
        };
        let written = body["metadata"]["name"].as_str().map(str::to_owned);
        Self {
            call: Call { verb, resource },
            namespace,
            name: name.or(written),
            body,
        }
    }
}

/// Namespace, resource with subresource, and name.
fn place(uri: &Uri) -> (Option<String>, String, Option<String>) {
    let mut path: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    match path.first() {
        Some(&"api") => drop(path.drain(..2.min(path.len()))),
        Some(&"apis") => drop(path.drain(..3.min(path.len()))),
        _ => {}
    }
    let owned = |text: Option<&&str>| text.map(|text| (*text).to_owned());
    let namespace = match path.as_slice() {
        ["namespaces", namespace, _, ..] => {
            let namespace = (*namespace).to_owned();
            path.drain(..2);
            Some(namespace)
        }
        _ => None,
    };
    let mut resource = path.first().copied().unwrap_or("something").to_owned();
    if let Some(subresource) = path.get(2) {
        resource = format!("{resource}/{subresource}");
    }
    (namespace, resource, owned(path.get(1)))
}

/// The names by which an instance's calls are known.
#[derive(Clone, Debug)]
pub struct Names {
    /// The instance: also the name of its namespace and of its policy.
    pub instance: String,
    /// The name of its role, which is nobody else's while it lives.
    pub role: String,
    /// How long its access lasts, if nobody else's ends within a minute of it: then its anchor is its own.
    pub alone_for: Option<Duration>,
}

/// Whose call is whose, and how often each was made.
#[derive(Debug, Default)]
pub struct Book {
    instances: HashMap<String, Names>,
    roles: HashMap<String, String>,
    grants: HashMap<String, String>,
    cluster_bindings: HashMap<String, String>,
    anchors: HashMap<String, String>,
    addresses: HashMap<String, String>,
    counts: HashMap<String, BTreeMap<Call, usize>>,
}

impl Book {
    /// From now on an instance's calls are known as such.
    pub fn open(&mut self, names: Names) {
        self.roles.insert(names.role.clone(), names.instance.clone());
        self.instances.insert(names.instance.clone(), names);
    }

    /// Whose call this is, and the how manieth of its kind.
    pub fn count(&mut self, asked: &Asked) -> (String, usize) {
        let owner = self.owner(asked).unwrap_or_else(|| SHARED.to_owned());
        let count = self
            .counts
            .entry(owner.clone())
            .or_default()
            .entry(asked.call.clone())
            .or_default();
        *count += 1;
        (owner, *count)
    }

    /// What was counted for an instance.
    pub fn counted(&self, instance: &str) -> BTreeMap<Call, usize> {
        self.counts.get(instance).cloned().unwrap_or_default()
    }

    /// A Service was answered with: its cluster IP is its anchor's.
    pub fn learn(&mut self, asked: &Asked, answer: &[u8]) {
        if asked.call.resource != "services" {
            return;
        }
        let Ok(service) = serde_json::from_slice::<Value>(answer) else {
            return;
        };
        let owner = asked.name.as_ref().and_then(|name| self.anchors.get(name));
        if let (Some(address), Some(owner)) = (service["spec"]["clusterIP"].as_str(), owner) {
            self.addresses.insert(address.to_owned(), owner.clone());
        }
    }

    fn owner(&mut self, asked: &Asked) -> Option<String> {
        let Asked {
            call,
            namespace,
            name,
            body,
        } = asked;
        let instance = |namespace: &str| Some(self.instances.get(instance_of(namespace))?.instance.clone());
        if let Some(instance) = namespace.as_deref().and_then(instance) {
            return Some(instance);
        }
        let name = name.as_deref();
        match call.resource.split('/').next()? {
            "namespaces" | "accesspolicies" => instance(name?),
            "clusterroles" => self.roles.get(name?).cloned(),
            "selfsubjectaccessreviews" => self
                .roles
                .get(body["spec"]["resourceAttributes"]["name"].as_str()?)
                .cloned(),
            "accessgrants" => {
                if let Some(namespace) = body["spec"]["request"]["namespace"].as_str() {
                    self.grants.insert(name?.to_owned(), namespace.to_owned());
                }
                self.grants.get(name?).cloned()
            }
            "clusterrolebindings" => {
                let annotations = serde_json::from_value(body["metadata"]["annotations"].clone()).unwrap_or_default();
                if let Some(owner) = instance(&namespace_written_on(&annotations)) {
                    self.cluster_bindings.insert(name?.to_owned(), owner);
                }
                self.cluster_bindings.get(name?).cloned()
            }
            "jobs" | "services" => self.owner_of_anchor(name?),
            "ipaddresses" => self.addresses.get(name?).cloned(),
            _ => None,
        }
    }

    /// An anchor is named by the minute at which it ends; the deadlines of those that have one of their own are minutes apart.
    fn owner_of_anchor(&mut self, name: &str) -> Option<String> {
        if let Some(owner) = self.anchors.get(name) {
            return Some(owner.clone());
        }
        let written = name.strip_prefix("curfew-until-")?;
        let ends = NaiveDateTime::parse_from_str(written, "%Y%m%dt%H%Mz").ok()?.and_utc();
        let left = (ends - now()).num_seconds();
        let is_its = |names: &&Names| {
            names
                .alone_for
                .is_some_and(|lasts| (left - 35 - lasts.as_secs().cast_signed()).abs() <= 75)
        };
        let owner = self.instances.values().find(is_its)?.instance.clone();
        self.anchors.insert(name.to_owned(), owner.clone());
        Some(owner)
    }
}

/// Tried in `main`, for a target with a harness of its own has no unit tests.
pub fn calls_are_told_apart() {
    let asked = |method: Method, uri: &str, body: &str| {
        let (parts, ()) = hyper::Request::builder()
            .method(method)
            .uri(uri)
            .body(())
            .unwrap()
            .into_parts();
        Asked::of(&parts, body.as_bytes())
    };
    let mut book = Book::default();
    book.open(Names {
        instance: "fault-1".into(),
        role: "reader-7".into(),
        alone_for: None,
    });
    let grant = r#"{"metadata":{"name":"grant-1"},"spec":{"request":{"namespace":"fault-1"}}}"#;
    let review = r#"{"spec":{"resourceAttributes":{"name":"reader-7"}}}"#;
    let binding = r#"{"metadata":{"name":"curfew-1"}}"#;
    let told = [
        (
            Method::GET,
            "/api/v1/namespaces/fault-1",
            "",
            "get namespaces",
            "fault-1",
        ),
        (
            Method::POST,
            "/apis/rbac.authorization.k8s.io/v1/namespaces/fault-1/rolebindings?",
            binding,
            "create rolebindings",
            "fault-1",
        ),
        (
            Method::GET,
            "/apis/curfew.dev/v1alpha1/accessgrants/grant-1",
            "",
            "get accessgrants",
            SHARED,
        ),
        (
            Method::POST,
            "/apis/curfew.dev/v1alpha1/accessgrants?",
            grant,
            "create accessgrants",
            "fault-1",
        ),
        (
            Method::PUT,
            "/apis/curfew.dev/v1alpha1/accessgrants/grant-1/status?",
            grant,
            "update accessgrants/status",
            "fault-1",
        ),
        (
            Method::PUT,
            "/apis/curfew.dev/v1alpha1/accesspolicies/fault-1/status?",
            "",
            "update accesspolicies/status",
            "fault-1",
        ),
        (
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews?",
            review,
            "create selfsubjectaccessreviews",
            "fault-1",
        ),
        (
            Method::GET,
            "/apis/curfew.dev/v1alpha1/accessgrants?&watch=true&timeoutSeconds=290",
            "",
            "watch accessgrants",
            SHARED,
        ),
        (
            Method::GET,
            "/api/v1/namespaces?&limit=500",
            "",
            "list namespaces",
            SHARED,
        ),
        (
            Method::GET,
            "/apis/batch/v1/namespaces/curfew-system/jobs/curfew-until-20300101t0000z",
            "",
            "get jobs",
            SHARED,
        ),
    ];
    for (method, uri, body, call, owner) in told {
        let asked = asked(method, uri, body);
        assert_eq!(asked.call.to_string(), call, "{uri}");
        assert_eq!(book.count(&asked).0, owner, "{uri}");
    }
    assert_eq!(book.counted("fault-1").len(), 6);
}
