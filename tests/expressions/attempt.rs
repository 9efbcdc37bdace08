//! An attempt: who tries what, and what must come of it. Pure data, but for the trying.
//!
//! Everything is tried by dry-run, on states that were there before: so attempts change nothing, and disturb neither each other nor the next round of them.
//! Who tries it is impersonated by the cluster admin. Must not know of policies or rules: an attempt says what the API server answers, not why.

use std::time::Duration;

use hyper::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

/// Where the operator is installed, and as whom it speaks.
pub const HOME: &str = "curfew-system";
pub const OPERATOR: &str = "system:serviceaccount:curfew-system:curfew";
/// Where everything else is.
pub const TEAM: &str = "team";

/// What an API server answers that is busy, or about to serve a definition anew.
const PASSING: [u16; 5] = [404, 409, 429, 503, 504];
/// So often it is asked again then.
const PATIENCE: usize = 300;
const PAUSE: Duration = Duration::from_millis(100);

/// Somebody, as admission sees them. Without a name: whoever has the client.
#[derive(Clone, Debug, Default)]
pub struct Who {
    name: String,
    uid: String,
    groups: Vec<String>,
    /// Whether there is a credential id, as with a client certificate of one's own.
    credential: bool,
}

impl Who {
    /// Somebody with a client certificate of their own.
    pub fn person(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            credential: true,
        }
    }

    /// A cluster admin, who has the client.
    pub fn admin() -> Self {
        Self::default()
    }

    /// A service account of [`TEAM`], with these groups too.
    pub fn account(name: &str, groups: &[&str]) -> Self {
        Self::person(&format!("system:serviceaccount:{TEAM}:{name}"), groups)
    }

    /// The operator, or who has its token, and RBAC in nobody's way: what is refused to it then, admission refuses.
    pub fn operator() -> Self {
        Self::person(OPERATOR, &["system:masters"])
    }

    /// The operator with the rights that the chart gives it.
    pub fn operator_by_rbac() -> Self {
        Self::person(OPERATOR, &["system:serviceaccounts"])
    }

    /// One of kube-controller-manager's controllers.
    pub fn controller(name: &str) -> Self {
        Self::person(
            &format!("system:serviceaccount:kube-system:{name}"),
            &["system:masters"],
        )
    }

    /// kube-controller-manager where its controllers have no accounts of their own.
    pub fn controller_manager() -> Self {
        Self::person("system:kube-controller-manager", &["system:masters"])
    }

    /// The same under impersonation, or by an authenticator that gives no credential id.
    pub fn without_credential(mut self) -> Self {
        self.credential = false;
        self
    }

    pub fn without_uid(mut self) -> Self {
        self.uid.clear();
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn uid(&self) -> &str {
        &self.uid
    }

    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// As it stands in `spec.requester`.
    pub fn identity(&self) -> Value {
        let groups: Vec<&str> = self
            .groups
            .iter()
            .map(String::as_str)
            .chain(["system:authenticated"])
            .collect();
        json!({"username": self.name, "uid": self.uid, "groups": groups})
    }

    /// Whether a certificate can say all that there is to be said of them.
    pub fn can_have_a_certificate(&self) -> bool {
        self.credential && !self.name.is_empty() && !self.uid.is_empty()
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        if self.name.is_empty() {
            return vec![];
        }
        let mut headers = vec![("Impersonate-User", self.name.clone())];
        if !self.uid.is_empty() {
            headers.push(("Impersonate-Uid", self.uid.clone()));
        }
        headers.extend(self.groups.iter().map(|group| ("Impersonate-Group", group.clone())));
        if self.credential {
            let key = "Impersonate-Extra-authentication.kubernetes.io%2Fcredential-id";
            headers.push((key, "X509SHA256=0123".to_owned()));
        }
        headers
    }

    fn told(&self) -> &str {
        if self.name.is_empty() {
            "a cluster admin"
        } else {
            &self.name
        }
    }
}

/// What is tried: a request to the API server.
#[derive(Clone, Debug)]
struct Deed {
    method: Method,
    path: String,
    content: &'static str,
    body: Value,
}

/// What must come of it.
#[derive(Clone, Debug)]
enum Outcome {
    /// It is accepted, and at each pointer of what is answered stands this; `null` where nothing does.
    Accepted(Vec<(&'static str, Value)>),
    /// It is refused, in words of which this is a part.
    Refused(String),
}

/// On which API servers it comes out so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Where policies can mutate: from 1.36 on.
    Stamping,
    /// Where they can't.
    Older,
}

/// Who does what, and what comes of it.
#[derive(Clone, Debug)]
pub struct Attempt {
    name: String,
    only_on: Option<Server>,
    who: Who,
    deed: Deed,
    outcome: Outcome,
}

/// An attempt of which it isn't said yet what comes of it.
pub struct Open {
    name: String,
    only_on: Option<Server>,
    who: Who,
    deed: Deed,
}

/// Who tries, before it is said what.
pub struct By {
    name: String,
    who: Who,
}

/// Begins an attempt; the name says what is tried or promised.
pub fn attempt(name: impl Into<String>, who: &Who) -> By {
    By {
        name: name.into(),
        who: who.clone(),
    }
}

impl By {
    fn does(self, method: Method, path: String, content: &'static str, body: Value) -> Open {
        Open {
            name: self.name,
            only_on: None,
            who: self.who,
            deed: Deed {
                method,
                path,
                content,
                body,
            },
        }
    }

    /// Creates an object of any kind that is known here.
    pub fn creates(self, object: Value) -> Open {
        let path = format!("{}?dryRun=All", collection(&object));
        self.does(Method::POST, path, "application/json", object)
    }

    /// Merges a change into what is at `path`, such as `/api/v1/namespaces/x/services/y/status`.
    pub fn changes(self, path: &str, change: Value) -> Open {
        let path = format!("{path}?dryRun=All");
        self.does(Method::PATCH, path, "application/merge-patch+json", change)
    }

    /// Deletes what is at `path`, with further options of the deletion.
    pub fn deletes(self, path: &str, options: Value) -> Open {
        let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]});
        for (key, value) in options.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.does(Method::DELETE, path.to_owned(), "application/json", body)
    }
}

impl Open {
    /// It comes out so only on such API servers.
    pub fn on(mut self, server: Server) -> Self {
        self.only_on = Some(server);
        self
    }

    pub fn accepted(self) -> Attempt {
        self.comes_to(Outcome::Accepted(vec![]))
    }

    /// It is accepted, and this is what then stands there.
    pub fn becomes(self, parts: Vec<(&'static str, Value)>) -> Attempt {
        self.comes_to(Outcome::Accepted(parts))
    }

    pub fn refused(self, because: &str) -> Attempt {
        self.comes_to(Outcome::Refused(because.to_owned()))
    }

    fn comes_to(self, outcome: Outcome) -> Attempt {
        Attempt {
            name: self.name,
            only_on: self.only_on,
            who: self.who,
            deed: self.deed,
            outcome,
        }
    }
}

impl Attempt {
    pub fn is_on(&self, server: Server) -> bool {
        self.only_on.is_none_or(|only| only == server)
    }

    /// Whether it comes out otherwise where nothing guards.
    pub fn needs_a_guard(&self) -> bool {
        match &self.outcome {
            Outcome::Refused(_) => true,
            Outcome::Accepted(parts) => !parts.is_empty(),
        }
    }

    /// As whom it is tried.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// Tries it in somebody's name, by a cluster admin's client. The error says how it came out, if not as it should.
    pub async fn comes_out(&self, admin: &Client) -> Result<(), String> {
        self.tried(admin, &self.who).await
    }

    /// Tries it by a client of that somebody's own.
    pub async fn comes_out_for(&self, own: &Client) -> Result<(), String> {
        self.tried(own, &Who::default()).await
    }

    async fn tried(&self, client: &Client, who: &Who) -> Result<(), String> {
        let Deed {
            method,
            path,
            content,
            body,
        } = &self.deed;
        let answer = ask(client, who, method, path, content, body).await;
        let wrong = |how: String| Err(format!("{} ({}): {how}", self.name, self.who.told()));
        match (&self.outcome, answer) {
            (Outcome::Refused(because), Ok(_)) => wrong(format!("accepted, not refused as {because:?}")),
            (Outcome::Refused(because), Err(refusal)) if refusal.contains(because) => Ok(()),
            (Outcome::Refused(because), Err(refusal)) => wrong(format!("refused, not as {because:?} but: {refusal}")),
            (Outcome::Accepted(_), Err(refusal)) => wrong(format!("refused: {refusal}")),
            (Outcome::Accepted(parts), Ok(object)) => {
                let differs = parts
                    .iter()
                    .find(|(pointer, value)| object.pointer(pointer).unwrap_or(&Value::Null) != value);
                match differs {
                    None => Ok(()),
                    Some((pointer, _)) => wrong(format!(
                        "{pointer} is {}",
                        object.pointer(pointer).unwrap_or(&Value::Null)
                    )),
                }
            }
        }
    }
}

/// Asks the API server for something, as somebody. The error is its refusal.
pub async fn ask(
    client: &Client,
    who: &Who,
    method: &Method,
    path: &str,
    content: &str,
    body: &Value,
) -> Result<Value, String> {
    let mut last = String::new();
    for _ in 0..PATIENCE {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", content);
        for (name, value) in who.headers() {
            request = request.header(name, value);
        }
        let body = if body.is_null() {
            vec![]
        } else {
            body.to_string().into_bytes()
        };
        match client.request::<Value>(request.body(body).unwrap()).await {
            Ok(answer) => return Ok(answer),
            Err(kube::Error::Api(status)) if !PASSING.contains(&status.code) => return Err(status.message),
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("{method} {path} ({}): {last}", who.told());
}

/// Where objects such as this one are made.
pub fn collection(object: &Value) -> String {
    let (plural, namespaced) = match object["kind"].as_str().unwrap_or_default() {
        "AccessRequest" => ("accessrequests", true),
        "AccessPolicy" => ("accesspolicies", false),
        "AccessGrant" => ("accessgrants", false),
        "Role" => ("roles", true),
        "RoleBinding" => ("rolebindings", true),
        "ClusterRole" => ("clusterroles", false),
        "ClusterRoleBinding" => ("clusterrolebindings", false),
        "Job" => ("jobs", true),
        "Service" => ("services", true),
        "IPAddress" => ("ipaddresses", false),
        "ServiceAccount" => ("serviceaccounts", true),
        "Namespace" => ("namespaces", false),
        "CustomResourceDefinition" => ("customresourcedefinitions", false),
        "ValidatingAdmissionPolicy" => ("validatingadmissionpolicies", false),
        "MutatingAdmissionPolicy" => ("mutatingadmissionpolicies", false),
        other => panic!("no path is known for {other:?}"),
    };
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = if version.contains('/') { "apis" } else { "api" };
    match object["metadata"]["namespace"].as_str().filter(|_| namespaced) {
        Some(namespace) => format!("/{group}/{version}/namespaces/{namespace}/{plural}"),
        None => format!("/{group}/{version}/{plural}"),
    }
}

/// Where this object is.
pub fn path(object: &Value) -> String {
    format!(
        "{}/{}",
        collection(object),
        object["metadata"]["name"].as_str().unwrap_or_default()
    )
}
