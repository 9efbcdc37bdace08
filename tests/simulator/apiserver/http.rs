//! The API server's HTTP: from a request to a call, from what came of it to an answer.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Request, Response, StatusCode, header};
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use kube::client::Body;
use serde_json::{Value, json};
use tower::BoxError;

use super::watch::{Selector, Watching};
use super::{Call, Fate, Key, Kind, Refusal, Server, Verb, Who, refusal};

pub type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// What a request asks for.
enum Asked {
    Call(Call),
    /// All of a kind, or to be told of it.
    Many {
        call: Call,
        selector: Selector,
        from: Option<u64>,
        seconds: u64,
    },
    /// What is answered without looking at what is stored.
    Known(Value),
}

impl Server {
    /// One who calls over HTTP, as a service for kube's client.
    pub fn connection(
        self: &Arc<Self>,
        who: Who,
    ) -> impl tower::Service<
        Request<Body>,
        Response = Answer,
        Error = BoxError,
        Future = BoxFuture<'static, Result<Answer, BoxError>>,
    > + Clone
    + Send
    + 'static {
        let server = Arc::clone(self);
        tower::service_fn(move |request| Arc::clone(&server).serve(who, request).boxed())
    }

    async fn serve(self: Arc<Self>, who: Who, request: Request<Body>) -> Result<Answer, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let body: Value = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body)?
        };
        let only_metadata = parts.headers.get(header::ACCEPT).is_some_and(|accepted| {
            accepted
                .to_str()
                .is_ok_and(|accepted| accepted.contains("as=PartialObjectMetadata;"))
        });
        match asked(who, &parts.method, &parts.uri, &body) {
            Err(refused) => Ok(self.answer(Err(refused))),
            Ok(Asked::Call(call) | Asked::Many { call, .. }) if !self.serves(call.key.kind) => {
                self.pass(call, move |_, _| Err(unknown(parts.uri.path()))).await
            }
            Ok(Asked::Known(known)) => {
                let call = Call {
                    who,
                    verb: Verb::Get,
                    key: Key::new(Kind::Event, "", ""),
                    dry_run: true,
                };
                self.pass(call, move |_, _| Ok(known.to_string())).await
            }
            Ok(Asked::Call(call)) => {
                let about = call.clone();
                self.pass(call, move |server, under_way| {
                    let done = server.carry_out(&about, under_way, body)?;
                    Ok(if only_metadata {
                        metadata_of(&done).to_string()
                    } else {
                        done.to_string()
                    })
                })
                .await
            }
            Ok(Asked::Many {
                call,
                selector,
                from: None,
                seconds: _,
            }) => {
                let key = call.key.clone();
                self.pass(call, move |server, _| Ok(server.list(&key, &selector))).await
            }
            Ok(Asked::Many {
                call,
                selector,
                from: Some(from),
                seconds,
            }) => self.watch(call, selector, from, seconds).await,
        }
    }

    /// Lets a call go the way that is its fate. What was sent takes effect, whether or not anybody waits for the answer.
    async fn pass(
        self: Arc<Self>,
        call: Call,
        effect: impl FnOnce(&Self, Duration) -> Result<String, Refusal> + Send + 'static,
    ) -> Result<Answer, BoxError> {
        let Fate {
            there,
            refused,
            back,
            lost,
        } = self.around.fate(&call);
        if !self.reaches(call.who).await {
            return Err("the connection was cut".into());
        }
        let (server, who) = (Arc::clone(&self), call.who);
        let done = tokio::spawn(async move {
            tokio::time::sleep(there).await;
            let done = match refused {
                Some(code) => Err(busy(code)),
                None => effect(&server, there),
            };
            server
                .around
                .answered(&call, done.as_ref().map_or_else(|refused| refused.code, |_| 200));
            done
        })
        .await?;
        tokio::time::sleep(back).await;
        if lost || !self.reaches(who).await {
            return Err("the connection was cut".into());
        }
        Ok(self.answer(done))
    }

    fn list(&self, key: &Key, selector: &Selector) -> String {
        self.look(|store| {
            let found = store.all(key.kind, &key.namespace).map(|(_, object)| object);
            let items: Vec<String> = found
                .filter(|object| selector.selects(object))
                .map(|object| object.to_string())
                .collect();
            let head = json!({
                "apiVersion": key.kind.api_version(), "kind": format!("{}List", key.kind.facts().name),
                "metadata": {"resourceVersion": store.version().to_string()},
            });
            with_field(&head, "items", &format!("[{}]", items.join(",")))
        })
    }

    async fn watch(
        self: Arc<Self>,
        call: Call,
        selector: Selector,
        from: u64,
        seconds: u64,
    ) -> Result<Answer, BoxError> {
        let Fate {
            there,
            refused,
            back,
            lost,
        } = self.around.fate(&call);
        tokio::time::sleep(there + back).await;
        if lost || !self.reaches(call.who).await {
            return Err("the connection was cut".into());
        }
        self.around.answered(&call, refused.unwrap_or(200));
        if let Some(code) = refused {
            return Ok(self.answer(Err(busy(code))));
        }
        let watching = Watching::begin(Arc::clone(&self), call.key, call.who, selector, from, seconds);
        Ok(self.dated(StatusCode::OK, watching.body()))
    }

    fn answer(&self, done: Result<String, Refusal>) -> Answer {
        let (code, body) = match done {
            Ok(body) => (StatusCode::OK, body),
            Err(Refusal { code, reason, message }) => (
                StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": message, "reason": reason, "code": code,
                })
                .to_string(),
            ),
        };
        self.dated(code, Full::from(body).map_err(Into::into).boxed_unsync())
    }

    fn dated(&self, code: StatusCode, body: UnsyncBoxBody<Bytes, BoxError>) -> Answer {
        let mut answer = Response::new(body);
        *answer.status_mut() = code;
        let date = self.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let headers = answer.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        headers.extend(date.parse().ok().map(|date| (header::DATE, date)));
        answer
    }
}

/// An object as text, with one more field. Large values are written once, and never copied.
pub fn with_field(object: &Value, name: &str, text: &str) -> String {
    let object = object.to_string();
    format!("{},\"{name}\":{text}}}", object.strip_suffix('}').unwrap_or_default())
}

/// The refusal of a fault, with the `reason` by which Kubernetes names the code.
fn busy(code: u16) -> Refusal {
    let reason = match code {
        403 => "Forbidden",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    refusal(code, reason, "the API server has other things to do")
}

fn metadata_of(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}

fn asked(who: Who, method: &Method, uri: &axum::http::Uri, body: &Value) -> Result<Asked, Refusal> {
    let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["apis"] => return Ok(Asked::Known(groups())),
        ["apis", group, version] => return Ok(Asked::Known(resources(group, version))),
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(unknown(uri.path())),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (plural, name, part) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, part] => (*plural, *name, *part),
        _ => return Err(unknown(uri.path())),
    };
    if let Some(review) = review(plural, body) {
        return Ok(Asked::Known(review));
    }
    let kind = Kind::named(group, version, plural).ok_or_else(|| unknown(uri.path()))?;
    let query = |name: &str| {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        pairs
            .into_iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let call = |verb, name: &str| Call {
        who,
        verb,
        key: Key::new(kind, namespace, name),
        dry_run: query("dryRun").is_some(),
    };
    if name.is_empty() && method == Method::GET {
        let watches = query("watch").is_some_and(|watch| watch == "true" || watch == "1");
        let number = |name| query(name).and_then(|text| text.parse().ok());
        return Ok(Asked::Many {
            call: call(if watches { Verb::Watch } else { Verb::List }, ""),
            selector: Selector::new(query("labelSelector"), query("fieldSelector"))
                .ok_or_else(|| unknown(uri.path()))?,
            from: watches.then(|| number("resourceVersion").unwrap_or_default()),
            seconds: number("timeoutSeconds").unwrap_or(1800),
        });
    }
    let verb = match (method, part) {
        (&Method::GET, "") => Verb::Get,
        (&Method::POST, "") if name.is_empty() => Verb::Create,
        (&Method::PUT, "") => Verb::Replace,
        (&Method::PUT, "status") => Verb::ReplaceStatus,
        (&Method::PATCH, "") => Verb::Patch,
        (&Method::DELETE, "") => Verb::Delete,
        _ => return Err(unknown(uri.path())),
    };
    let name = if verb == Verb::Create {
        body["metadata"]["name"].as_str().unwrap_or_default()
    } else {
        name
    };
    Ok(Asked::Call(call(verb, name)))
}

fn unknown(path: &str) -> Refusal {
    refusal(
        404,
        "NotFound",
        format!("the server could not find the requested resource ({path})"),
    )
}

/// Who the caller is, and what they may: everything.
fn review(plural: &str, body: &Value) -> Option<Value> {
    let mut review = body.clone();
    review["status"] = match plural {
        "selfsubjectreviews" => json!({"userInfo": {"username": OPERATOR}}),
        "selfsubjectaccessreviews" => json!({"allowed": true}),
        _ => return None,
    };
    Some(review)
}

/// The user name of whoever asks.
pub const OPERATOR: &str = "system:serviceaccount:curfew-system:curfew";

fn groups() -> Value {
    let mut groups: Vec<&str> = Kind::ALL
        .map(|kind| kind.facts().group)
        .into_iter()
        .filter(|group| !group.is_empty())
        .collect();
    groups.sort_unstable();
    groups.dedup();
    let group = |name: &str| {
        let version = if name == "curfew.dev" { "v1alpha1" } else { "v1" };
        let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
        json!({"name": name, "versions": [version], "preferredVersion": version})
    };
    let groups: Vec<Value> = groups.into_iter().map(group).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resources(group: &str, version: &str) -> Value {
    let facts = Kind::ALL.map(Kind::facts).into_iter();
    let resources: Vec<Value> = facts
        .filter(|facts| facts.group == group)
        .map(|facts| json!({"name": facts.plural, "singularName": "", "namespaced": facts.namespaced, "kind": facts.name, "verbs": ["get"]}))
        .collect();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{version}"), "resources": resources})
}
