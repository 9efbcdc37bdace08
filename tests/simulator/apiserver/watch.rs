//! Watches: what has changed since a version, in order, until the time is up. A label that comes or goes is told as an object that does.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::unfold;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::BoxError;

use super::http::with_field;
use super::{Change, Key, Object, Server, Telling, Who};

/// Which objects are asked for.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// A label that must be there, and the value that it must have, if one is named.
    label: Option<(String, Option<String>)>,
    name: Option<String>,
}

impl Selector {
    /// As it stands in a query: one label, perhaps with its value, and `metadata.name=`. `None`: it asks for more than this knows.
    pub fn new(labels: Option<String>, fields: Option<String>) -> Option<Self> {
        let label = labels
            .filter(|labels| !labels.is_empty())
            .map(|label| match label.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (label, None),
            });
        let is_known = |text: &str| !text.contains([',', '=', '!', ' ']);
        if let Some((name, value)) = &label
            && !(is_known(name) && value.as_deref().is_none_or(is_known))
        {
            return None;
        }
        let name = match fields.filter(|fields| !fields.is_empty()) {
            Some(fields) => Some(fields.strip_prefix("metadata.name=")?.to_owned()),
            None => None,
        };
        Some(Self { label, name })
    }

    pub fn selects(&self, object: &Value) -> bool {
        let Self { label, name } = self;
        let metadata = &object["metadata"];
        let has = |(label, value): &(String, Option<String>)| match (metadata["labels"].get(label), value) {
            (Some(found), Some(value)) => found == value.as_str(),
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        };
        label.as_ref().is_none_or(has) && name.as_ref().is_none_or(|name| metadata["name"] == name.as_str())
    }
}

pub struct Watching {
    server: Arc<Server>,
    key: Key,
    who: Who,
    selector: Selector,
    /// All up to this version was told.
    told: u64,
    until: Instant,
    ended: bool,
}

impl Watching {
    pub fn begin(server: Arc<Server>, key: Key, who: Who, selector: Selector, from: u64, seconds: u64) -> Self {
        Self {
            server,
            key,
            who,
            selector,
            told: from,
            until: Instant::now() + Duration::from_secs(seconds),
            ended: false,
        }
    }

    pub fn body(self) -> UnsyncBoxBody<Bytes, BoxError> {
        let lines = unfold(self, |mut watching| async move {
            let line = watching.next().await?;
            Some((line, watching))
        });
        StreamBody::new(lines.map(|line| line.map(|line| Frame::data(Bytes::from(line))))).boxed_unsync()
    }

    /// The next line; `None` when the time is up.
    async fn next(&mut self) -> Option<Result<String, BoxError>> {
        if self.ended {
            return None;
        }
        let next = tokio::time::timeout_at(self.until, self.next_event()).await.ok()?;
        self.ended = next.as_ref().is_err() || next.as_ref().is_ok_and(|line| line.contains(r#""ERROR""#));
        Some(next)
    }

    async fn next_event(&mut self) -> Result<String, BoxError> {
        if self.told < self.server.look(|store| store.compacted()) {
            return Ok(line("ERROR", &gone(self.told)));
        }
        let server = Arc::clone(&self.server);
        loop {
            let mut news = std::pin::pin!(server.news(self.key.kind));
            news.as_mut().enable();
            if let Some(line) = self.look() {
                match self.server.around.telling(self.who, self.key.kind) {
                    Telling::After(lag) => tokio::time::sleep(lag).await,
                    Telling::Never => std::future::pending().await,
                    Telling::Broken => return Err("the connection was cut".into()),
                }
                if !self.server.reaches(self.who).await {
                    return Err("the connection was cut".into());
                }
                return Ok(line);
            }
            news.await;
        }
    }

    /// The next of what has changed and concerns this watch.
    fn look(&mut self) -> Option<String> {
        let (server, told) = (Arc::clone(&self.server), self.told);
        server.look(|store| {
            store.since(told).iter().find_map(|change| {
                self.told = change.version;
                self.event(change)
            })
        })
    }

    fn event(&self, change: &Change) -> Option<String> {
        let Change {
            version,
            key,
            before,
            after,
        } = change;
        let in_namespace = self.key.namespace.is_empty() || key.namespace == self.key.namespace;
        if key.kind != self.key.kind || !in_namespace {
            return None;
        }
        let selected = |object: &Option<Object>| object.clone().filter(|object| self.selector.selects(object));
        match (selected(before), selected(after)) {
            (None, None) => None,
            (None, Some(is)) => Some(line("ADDED", &is)),
            (Some(_), Some(is)) => Some(line("MODIFIED", &is)),
            (Some(was), None) => {
                let mut last = was.as_ref().clone();
                last["metadata"]["resourceVersion"] = version.to_string().into();
                Some(line("DELETED", &last))
            }
        }
    }
}

fn line(type_: &str, object: &Value) -> String {
    let line = with_field(&json!({"type": type_}), "object", &object.to_string());
    line + "\n"
}

fn gone(version: u64) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
        "message": format!("too old resource version: {version}"),
    })
}
