//! Makes every answer legible: takes out of objects the moments at which somebody wrote a field, where they are beyond what this process can read.
//!
//! Whoever may write an object may say in its `metadata.managedFields` that they did in the year 9999, or 10000 in another time zone, and the API server keeps
//! that. The type that all times are read into ends one day sooner, and takes the whole object for broken: a watch would skip it, and with it a revocation, or
//! its deletion. Nothing is decided by those moments.

use std::mem;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use futures::future::{BoxFuture, ready};
use futures::{Stream, StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use memchr::{memmem, memrchr};
use serde::Deserialize;
use serde_json::Value;
use tower::{BoxError, Layer, Service};

/// How a moment begins that somebody wrote something. In what people write, a quotation mark has a backslash before it.
const BEGINS: &[u8] = br#""time":""#;
/// How the API server writes a moment; `0` stands for any digit.
const MOMENT: &[u8] = br#"0000-00-00T00:00:00Z""#;
/// The first year of which not all can be read.
const TOO_FAR: &[u8] = b"9999";

/// What makes a client's answers legible.
#[derive(Clone, Copy, Debug)]
pub struct Legible;

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
        let answering = self.0.call(request);
        Box::pin(async move {
            let answer = answering.await?;
            Ok(answer.map(|body| Body::from_stream(legible(Body::new(body).into_data_stream()))))
        })
    }
}

/// The same, line by line: a watch tells one event in each, and any other answer is one.
fn legible<E>(pieces: impl Stream<Item = Result<Bytes, E>>) -> impl Stream<Item = Result<Bytes, E>> {
    let pieces = pieces.map(Some).chain(stream::once(ready(None)));
    let lines = pieces.scan(vec![], |begun: &mut Vec<u8>, piece| {
        ready(Some(match piece {
            Some(Ok(piece)) => Ok(whole_lines(begun, piece)),
            Some(Err(error)) => Err(error),
            None => Ok(mended(mem::take(begun).into())),
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
    mended(whole)
}

fn mended(lines: Bytes) -> Bytes {
    let is_legible = |at: usize| lines.get(at + BEGINS.len()..).is_some_and(is_legible);
    if memmem::find_iter(&lines, BEGINS).all(is_legible) {
        return lines;
    }
    let lines = lines.split_inclusive(|byte| *byte == b'\n').map(mended_line);
    lines.collect::<Vec<_>>().concat().into()
}

/// Whether a moment that is written at the beginning of `text` can be read. Of those of the last years it isn't said, though some can.
fn is_legible(text: &[u8]) -> bool {
    let is_alike = |(is, like): (&u8, &u8)| is == like || (*like == b'0' && is.is_ascii_digit());
    text.len() >= MOMENT.len() && text.iter().zip(MOMENT).all(is_alike) && text < TOO_FAR
}

fn mended_line(line: &[u8]) -> Vec<u8> {
    let Ok(mut answer) = serde_json::from_slice::<Value>(line) else {
        return line.to_vec();
    };
    mend(&mut answer);
    if let Some(object) = answer.get_mut("object") {
        mend(object);
    }
    let items = answer.get_mut("items").and_then(Value::as_array_mut);
    items.into_iter().flatten().for_each(mend);
    format!("{answer}\n").into_bytes()
}

fn mend(object: &mut Value) {
    let entries = object.pointer_mut("/metadata/managedFields");
    for entry in entries.and_then(Value::as_array_mut).into_iter().flatten() {
        let is_legible = entry.get("time").is_none_or(|time| Time::deserialize(time).is_ok());
        if let Some(entry) = entry.as_object_mut().filter(|_| !is_legible) {
            entry.remove("time");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, TryStreamExt};
    use serde_json::json;

    use super::*;

    fn object(time: &str) -> Value {
        json!({"metadata": {"name": "x", "managedFields": [{"manager": "m", "time": time}, {"manager": "n", "time": "2026-11-24T22:00:00Z"}]}})
    }

    fn read(pieces: &[&str]) -> String {
        let pieces = stream::iter(
            pieces
                .iter()
                .map(|piece| Ok::<_, BoxError>(Bytes::from((*piece).to_owned()))),
        );
        let read: Vec<Bytes> = legible(pieces).try_collect().now_or_never().unwrap().unwrap();
        String::from_utf8(read.concat()).unwrap()
    }

    #[test]
    fn what_can_be_read_is_passed_on_to_the_letter() {
        let event =
            json!({"type": "MODIFIED", "object": object("9998-12-31T23:59:59Z"), "reason": "a \"time\":\"9999"})
                .to_string();
        for text in [
            event.clone(),
            format!("{event}\n{event}\n"),
            String::new(),
            "no JSON".into(),
        ] {
            assert_eq!(read(&[&text]), text);
        }
    }

    #[test]
    fn a_moment_that_cannot_be_read_is_not_told_and_all_the_rest_is() {
        for time in ["9999-12-31T23:59:59Z", "10000-01-01T00:59:59Z", "-001-12-31T23:00:00Z"] {
            assert!(Time::deserialize(json!(time)).is_err(), "{time}");
            let mut expected = object(time);
            expected["metadata"]["managedFields"][0]
                .as_object_mut()
                .unwrap()
                .remove("time");
            let wrapped: [fn(Value) -> Value; 3] = [
                |object| object,
                |object| json!({"type": "MODIFIED", "object": object}),
                |object| json!({"items": [object, {"metadata": {}}]}),
            ];
            for wrapped in wrapped {
                let read: Value = serde_json::from_str(&read(&[&wrapped(object(time)).to_string()])).unwrap();
                assert_eq!(read, wrapped(expected.clone()));
            }
        }
    }

    #[test]
    fn a_watch_is_passed_on_as_soon_as_a_line_is_whole_wherever_it_is_cut() {
        let event = |time: &str| format!("{}\n", json!({"type": "MODIFIED", "object": object(time)}));
        let (first, second) = (event("9999-12-31T23:59:59Z"), event("2026-11-24T22:00:00Z"));
        let text = format!("{first}{second}{first}");
        let whole = read(&[&text]);
        assert_eq!(whole.lines().count(), 3);
        assert!(!whole.contains("9999") && whole.contains(&second));
        for cut in 0..text.len() {
            let (one, other) = text.split_at(cut);
            assert_eq!(read(&[one, other]), whole, "cut at {cut}");
        }
        let mut begun = vec![];
        let told = whole_lines(&mut begun, Bytes::from(format!("{first}{{")));
        assert_eq!(
            (told.iter().filter(|byte| **byte == b'\n').count(), begun.as_slice()),
            (1, b"{".as_slice())
        );
    }
}
