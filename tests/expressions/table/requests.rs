//! Making a request: in one's own name, and with nothing said on it yet. `curfew-requests` and `curfew-stamp-requester`.

use serde_json::{Value, json};

use crate::attempt::Server::{Older, Stamping};
use crate::attempt::{Attempt, Who, attempt};
use crate::states::{alice, approval, made_up, request, unnamed, with_metadata};

pub fn attempts() -> Vec<Attempt> {
    let (alice, bob) = (alice(), Who::person("bob", &["sre"]));
    let in_her_name = || request("new", json!({}));
    let mut all = vec![
        attempt("who asks in their own name is let in", &alice)
            .creates(in_her_name())
            .becomes(vec![("/spec/requester", alice.identity())]),
        attempt("who leaves out who asks is filled in", &alice)
            .creates(unnamed("new"))
            .on(Stamping)
            .becomes(vec![("/spec/requester", alice.identity())]),
        attempt("so is who leaves the name to the API server", &alice)
            .creates(made_up(unnamed(""), "look-"))
            .on(Stamping)
            .becomes(vec![("/spec/requester", alice.identity())]),
        attempt("an explicit null is as good as absent", &alice)
            .creates(nullified(unnamed("new")))
            .on(Stamping)
            .becomes(vec![("/spec/requester", alice.identity())]),
        attempt("whoever has no uid is filled in without", &alice.clone().without_uid())
            .creates(unnamed("new"))
            .on(Stamping)
            .becomes(vec![("/spec/requester", alice.clone().without_uid().identity())]),
        attempt("whoever has no uid asks in their own name", &alice.clone().without_uid())
            .creates(request("new", json!({"requester": alice.clone().without_uid().identity()})))
            .accepted(),
        attempt("a request without a spec is told of that", &alice)
            .creates(json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessRequest", "metadata": {"name": "new", "namespace": "team"}}))
            .refused("spec: Required value"),
        attempt("in nobody's name nobody asks", &alice)
            .creates(unnamed("new"))
            .on(Older)
            .refused("spec.requester is missing, and this API server doesn't fill it in"),
        attempt("an explicit null is in nobody's name", &alice)
            .creates(nullified(unnamed("new")))
            .on(Older)
            .refused("spec.requester is missing, and this API server doesn't fill it in"),
        attempt("nobody asks in another's name, not an admin either", &Who::admin())
            .creates(in_her_name())
            .refused("spec.requester must be you"),
        attempt("nobody asks in another's name", &bob)
            .creates(in_her_name())
            .refused("spec.requester must be you"),
    ];
    let lies = [
        ("username", json!("bob")),
        ("username", json!("Alice")),
        ("uid", json!("uid-bob")),
        ("uid", json!("")),
        ("groups", json!(["dev", "sre", "system:authenticated"])),
        ("groups", json!([])),
    ];
    for (field, value) in lies {
        let name = format!("a requester's {field} is no other than it is: {value}");
        let lie = request("new", json!({"requester": {field: value}}));
        all.push(attempt(name, &alice).creates(lie).refused("spec.requester must be you"));
    }
    all.extend(born_with_nothing_said(&alice));
    all.extend(the_operator_asks_for_nothing());
    all
}

fn nullified(mut request: Value) -> Value {
    request["spec"]["requester"] = Value::Null;
    request
}

fn born_with_nothing_said(alice: &Who) -> Vec<Attempt> {
    let annotated = |key: &str| with_metadata(request("new", json!({})), json!({"annotations": {key: "approve"}}));
    let born = |decisions: Value| request("new", json!({"decisions": decisions}));
    vec![
        attempt("no request is born approved", alice)
            .creates(born(json!([approval("bob", "")])))
            .refused("spec.decisions must be empty"),
        attempt("an empty list of decisions is empty", alice)
            .creates(born(json!([])))
            .accepted(),
        attempt("no word is planted at birth", alice)
            .creates(annotated("curfew.dev/decision"))
            .refused("a new request can't carry the annotations"),
        attempt("no comment is planted at birth", alice)
            .creates(annotated("curfew.dev/comment"))
            .refused("a new request can't carry the annotations"),
        attempt("other annotations are free at birth", alice)
            .creates(annotated("team.example/ticket"))
            .accepted(),
    ]
}

fn the_operator_asks_for_nothing() -> Vec<Attempt> {
    let (operator, nothing) = (Who::operator(), "the operator of Curfew asks for nothing");
    vec![
        attempt("the operator asks for nothing in its own name", &operator)
            .creates(request("new", json!({"requester": operator.identity()})))
            .refused(nothing),
        attempt("the operator asks for nothing in nobody's name", &operator)
            .creates(unnamed("new"))
            .refused(nothing),
        attempt("the operator asks for nothing in another's name", &operator)
            .creates(request("new", json!({})))
            .refused(nothing),
    ]
}
