//! A request always has room for a word, and for what the operator says: its metadata is bounded, and nobody can fill it up. `curfew-requests` when it is made,
//! `curfew-decisions` afterwards.

use serde_json::{Map, Value, json};

use super::decisions::{at, carol};
use crate::attempt::{Attempt, Who, attempt};
use crate::states::{DIGEST, alice, approval, labels, owner, request, with_metadata};

const BECAUSE: &str =
    "a request can have at most 64 labels, 64 annotations of 32768 characters in all, 16 finalizers and 16 owners";

const OWNED: &str = "only who may delete this request may give it one";

pub fn attempts() -> Vec<Attempt> {
    let mut all = vec![];
    for (fields, is_let_in) in metadata() {
        let told = |what: &str| format!("{what} {}", abridged(&fields));
        let made = attempt(told("a request is made with"), &alice());
        let made = made.creates(with_metadata(request("new", json!({})), fields.clone()));
        // Owners are given by those who may delete it.
        let changed = attempt(told("a request gets"), &Who::admin());
        let changed = changed.changes(&at("offered"), json!({"metadata": fields}));
        for attempt in [made, changed] {
            all.push(if is_let_in {
                attempt.accepted()
            } else {
                attempt.refused(BECAUSE)
            });
        }
    }
    let owners = |owners: Value| json!({"metadata": {"ownerReferences": owners}});
    let absent = owner("v1", "ConfigMap", "absent", "0d1e");
    all.extend([
        attempt(
            "nobody who may not delete a request gives it an owner, which may not be there",
            &carol(),
        )
        .changes(&at("offered"), owners(json!([absent])))
        .refused(OWNED),
        attempt("nor is an owner made another", &carol())
            .changes(&at("owned"), owners(json!([absent])))
            .refused(OWNED),
        attempt("what has an owner is written on all the same", &carol())
            .changes(&at("owned"), json!({"metadata": {"labels": {"more": "x"}}}))
            .accepted(),
        attempt("and loses it", &carol())
            .changes(&at("owned"), owners(json!([])))
            .accepted(),
    ]);
    all.extend([
        attempt("what was stuffed before is decided on all the same", &carol())
            .changes(
                &at("stuffed"),
                json!({"spec": {"decisions": [approval("carol", DIGEST)]}}),
            )
            .accepted(),
        attempt("what was stuffed before is stuffed no further", &alice())
            .changes(&at("stuffed"), json!({"metadata": {"labels": {"more": "x"}}}))
            .refused(BECAUSE),
        attempt("nor is anything else written on it", &alice())
            .changes(&at("stuffed"), json!({"metadata": {"annotations": {"more": "x"}}}))
            .refused(BECAUSE),
    ]);
    all
}

/// What there is besides, and whether that is let in.
fn metadata() -> Vec<(Value, bool)> {
    let finalizers = |count: usize| {
        let all = (0..count).map(|number| format!("attempts.example/{number}"));
        json!({"finalizers": all.collect::<Vec<_>>()})
    };
    let owner = |number: usize, name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": format!("uid-{number}")});
    let owners = |count: usize, name: &str| {
        let all = (0..count).map(|number| owner(number, name));
        json!({"ownerReferences": all.collect::<Vec<_>>()})
    };
    vec![
        (json!({"labels": labels(64)}), true),
        (json!({"labels": labels(65)}), false),
        (json!({"annotations": labels(64)}), true),
        (json!({"annotations": labels(65)}), false),
        (json!({"annotations": {"four": "x".repeat(32_764)}}), true),
        (json!({"annotations": {"four": "x".repeat(32_765)}}), false),
        (finalizers(16), true),
        (finalizers(17), false),
        (owners(16, "x"), true),
        (owners(17, "x"), false),
        (owners(1, &"x".repeat(1000)), true),
        (owners(1, &"x".repeat(1024)), false),
    ]
}

/// How it is called: how many of what, and how long that is.
fn abridged(fields: &Value) -> String {
    let fields = fields.as_object().map(Map::iter).into_iter().flatten();
    let told = fields.map(|(field, value)| {
        let count = value
            .as_array()
            .map_or_else(|| value.as_object().map_or(0, Map::len), Vec::len);
        format!("{count} {field} of {} bytes", value.to_string().len())
    });
    told.collect()
}
