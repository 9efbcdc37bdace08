//! Makes every answer legible: leaves out of objects who wrote which of their fields (`metadata.managedFields`), before anything is read.
//!
//! Whoever may write an object may write that too, and the API server keeps what no reader takes: moments in the year 9999, or 10000 in another time zone, where
//! the type of all times ends a day sooner; fields within fields within fields, deeper than JSON is read. One such object is broken to whoever reads it, and so is
//! a list that holds it: a watch would skip it, and with it a revocation, or never begin. Nothing is decided by it, but for when a guard was last written.

use std::collections::BTreeMap;
use std::mem;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use futures::future::{BoxFuture, ready};
use futures::{Stream, StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use memchr::{memmem, memrchr};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tower::{BoxError, Layer, Service};

/// Where it stands who wrote what.
const FIELD: &str = "managedFields";
/// The guards, of which it counts when they were written: policies and definitions.
const GUARDS: [&str; 2] = ["/apis/admissionregistration.k8s.io/", "/apis/apiextensions.k8s.io/"];

/// What makes a client's answers legible.
#[derive(Clone, Copy, Debug)]
pub struct Legible;

/// What is left of who wrote what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// The moments that can be read.
    Moments,
}

impl<S> Layer<S> for Legible {
    type Service = Reading<S>;

    fn layer(&self, inner: S) -> Reading<S> {
        Reading(inner)
    }
}

/// A client whose answers are legible.
#[derive(Clone, Debug)]
pub struct Reading<S>(S);

impl<S, Asked, Answered> Service<Request<Asked>> for Reading<S>
where
    S: Service<Request<Asked>, Response = Response<Answered>>,
    S::Future: Send + 'static,
    Answered: HttpBody<Data = Bytes> + Send + 'static,
    Answered::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Asked>) -> Self::Future {
        let left = left(request.uri().path());
        let answering = self.0.call(request);
        Box::pin(async move {
            let answer = answering.await?;
            Ok(answer.map(|body| Body::from_stream(legible(Body::new(body).into_data_stream(), left))))
        })
    }
}

fn left(path: &str) -> Left {
    match GUARDS.iter().any(|guards| path.contains(guards)) {
        true => Left::Moments,
        false => Left::Nothing,
    }
}

/// The same, line by line: a watch tells one event in each, and any other answer is one.
fn legible<E>(pieces: impl Stream<Item = Result<Bytes, E>>, left: Left) -> impl Stream<Item = Result<Bytes, E>> {
    let pieces = pieces.map(Some).chain(stream::once(ready(None)));
    let lines = pieces.scan(vec![], move |begun: &mut Vec<u8>, piece| {
        ready(Some(match piece {
            Some(Ok(piece)) => Ok(lines(&whole_lines(begun, piece), left)),
            Some(Err(error)) => Err(error),
            None => Ok(lines(&mem::take(begun).into(), left)),
        }))
    });
    lines.filter(|lines| ready(!lines.as_ref().is_ok_and(Bytes::is_empty)))
}

/// The lines that are whole with this piece. What comes after the last of them is kept.
fn whole_lines(begun: &mut Vec<u8>, mut piece: Bytes) -> Bytes {
    let Some(end) = memrchr(b'\n', &piece) else {
        begun.extend_from_slice(&piece);
        return Bytes::new();
    };
    let rest = piece.split_off(end + 1);
    let whole = if begun.is_empty() {
        piece
    } else {
        begun.extend_from_slice(&piece);
        mem::take(begun).into()
    };
    begun.extend_from_slice(&rest);
    whole
}

fn lines(lines: &Bytes, left: Left) -> Bytes {
    if memmem::find(lines, FIELD.as_bytes()).is_none() {
        return lines.clone();
    }
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    let lines = lines.map(|line| told(line, left).map_or_else(|_| line.to_vec(), String::into_bytes));
    lines.collect::<Vec<_>>().concat().into()
}

/// Some fields of JSON, each as it was written. However deep it goes, nothing is read in it.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// A line without who wrote what: an object, an event about one, or a list of them.
fn told(line: &[u8], left: Left) -> serde_json::Result<String> {
    let mut told: Fields<'_> = serde_json::from_slice(line)?;
    let event = told.get("object").map(|object| bare(object, left)).transpose()?;
    told.extend(event.iter().map(|object| ("object".to_owned(), object.as_ref())));
    let items: Option<Vec<&RawValue>> = match told.get("items") {
        Some(items) => serde_json::from_str(items.get())?,
        None => None,
    };
    let items = items.into_iter().flatten().map(|item| bare(item, left));
    let items = items.collect::<serde_json::Result<Vec<_>>>()?;
    let items = told.contains_key("items").then(|| to_raw_value(&items)).transpose()?;
    told.extend(items.iter().map(|items| ("items".to_owned(), items.as_ref())));
    let told = to_raw_value(&told)?;
    Ok(format!("{}\n", bare(&told, left)?.get()))
}

/// An object without who wrote what.
fn bare(object: &RawValue, left: Left) -> serde_json::Result<Box<RawValue>> {
    let mut fields: Fields<'_> = serde_json::from_str(object.get())?;
    let Some(metadata) = fields.get("metadata") else {
        return Ok(object.to_owned());
    };
    let mut metadata: Fields<'_> = serde_json::from_str(metadata.get())?;
    let written = metadata.remove(FIELD);
    let moments = match (left, written) {
        (Left::Moments, Some(written)) => Some(moments(written)?),
        (Left::Moments, None) | (Left::Nothing, _) => None,
    };
    metadata.extend(moments.iter().map(|moments| (FIELD.to_owned(), moments.as_ref())));
    let metadata = to_raw_value(&metadata)?;
    fields.insert("metadata".to_owned(), metadata.as_ref());
    to_raw_value(&fields)
}

/// Only when something was written.
fn moments(written: &RawValue) -> serde_json::Result<Box<RawValue>> {
    let entries: Vec<Fields<'_>> = serde_json::from_str(written.get())?;
    let moments = entries.iter().filter_map(|entry| {
        let time: Value = serde_json::from_str(entry.get("time")?.get()).ok()?;
        Time::deserialize(&time).ok()?;
        Some(json!({ "time": time }))
    });
    to_raw_value(&moments.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, TryStreamExt};

    use super::*;

    fn object(written: &Value) -> Value {
        json!({"metadata": {"name": "x", "managedFields": written}, "spec": {"managedFields": "mine", "n": 1.0}})
    }

    fn entries(time: &str) -> Value {
        json!([{"manager": "m", "time": time, "fieldsV1": {"f:spec": {}}}, {"manager": "n", "time": "2026-11-24T22:00:00Z"}])
    }

    fn read(pieces: &[&str], left: Left) -> String {
        let pieces = pieces.iter();
        let pieces = stream::iter(pieces.map(|piece| Ok::<_, BoxError>(Bytes::from((*piece).to_owned()))));
        let read: Vec<Bytes> = legible(pieces, left).try_collect().now_or_never().unwrap().unwrap();
        String::from_utf8(read.concat()).unwrap()
    }

    /// What is answered about objects: one, an event, a list.
    const ANSWERS: [fn(Value) -> Value; 3] = [
        |object| object,
        |object| json!({"type": "MODIFIED", "object": object}),
        |object| json!({"kind": "List", "metadata": {"resourceVersion": "7"}, "items": [object, {"metadata": {}}]}),
    ];

    #[test]
    fn what_says_nothing_of_who_wrote_it_is_passed_on_to_the_letter() {
        let event = r#"{ "type": "MODIFIED",  "object": {"metadata":{"name":"x"}}}"#;
        for text in [
            event,
            &format!("{event}\n{event}\n"),
            "",
            "no JSON",
            "no managedFields",
            "[1]",
        ] {
            for left in [Left::Nothing, Left::Moments] {
                assert_eq!(read(&[text], left), text);
            }
        }
    }

    #[test]
    fn who_wrote_an_object_is_not_told_and_all_the_rest_is() {
        let mut expected = object(&json!([]));
        expected["metadata"].as_object_mut().unwrap().remove("managedFields");
        for answer in ANSWERS {
            let found = answer(object(&entries("2026-11-24T22:00:00Z"))).to_string();
            let read: Value = serde_json::from_str(&read(&[&found], Left::Nothing)).unwrap();
            assert_eq!(read, answer(expected.clone()));
        }
    }

    #[test]
    fn of_a_guard_it_is_told_when_it_was_written_where_that_can_be_read() {
        for time in ["9999-12-31T23:59:59Z", "10000-01-01T00:59:59Z", "-001-12-31T23:00:00Z"] {
            assert!(Time::deserialize(json!(time)).is_err(), "{time}");
            for answer in ANSWERS {
                let read = read(&[&answer(object(&entries(time))).to_string()], Left::Moments);
                let expected = answer(object(&json!([{"time": "2026-11-24T22:00:00Z"}])));
                assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), expected);
            }
        }
    }

    #[test]
    fn all_that_is_compared_with_what_was_shipped_is_a_guard() {
        for (path, expected) in [
            (
                "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
                Left::Moments,
            ),
            (
                "/behind/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings",
                Left::Moments,
            ),
            (
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/accessgrants.curfew.dev",
                Left::Moments,
            ),
            ("/apis/curfew.dev/v1alpha1/accessrequests", Left::Nothing),
            ("/apis/rbac.authorization.k8s.io/v1/roles", Left::Nothing),
        ] {
            assert_eq!(left(path), expected, "{path}");
        }
    }

    #[test]
    fn fields_deeper_than_json_is_read_hide_nothing() {
        let deep = format!("{}1{}", r#"{"f:a":"#.repeat(5000), "}".repeat(5000));
        for answer in ANSWERS {
            for left in [Left::Nothing, Left::Moments] {
                let found = answer(object(&json!([{"manager": "m", "fieldsV1": "DEEP"}]))).to_string();
                let found = found.replace(r#""DEEP""#, &deep);
                assert!(serde_json::from_str::<Value>(&found).is_err());
                assert!(serde_json::from_str::<Value>(&read(&[&found], left)).is_ok());
            }
        }
    }

    #[test]
    fn a_watch_is_passed_on_as_soon_as_a_line_is_whole_wherever_it_is_cut() {
        let event = |name: &str| {
            let object = object(&entries("2026-11-24T22:00:00Z"));
            format!("{}\n", json!({"type": name, "object": object}))
        };
        let text = format!("{}{}{}", event("ADDED"), event("MODIFIED"), event("DELETED"));
        let whole = read(&[&text], Left::Nothing);
        assert_eq!(whole.lines().count(), 3);
        for cut in 0..text.len() {
            let (one, other) = text.split_at(cut);
            assert_eq!(read(&[one, other], Left::Nothing), whole, "cut at {cut}");
        }
        let mut begun = vec![];
        let first = event("ADDED");
        assert_eq!(whole_lines(&mut begun, Bytes::from(format!("{first}{{"))), first);
        assert_eq!(begun, b"{");
    }
}
