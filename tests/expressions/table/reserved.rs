//! Everybody else's hands on bindings: off those that are Curfew's. `curfew-reserved`.

use serde_json::{Value, json};

use crate::attempt::{Attempt, Open, Who, attempt, path};
use crate::states::{binding, made_up, owner, user, with_metadata};

const RESERVED: &str = "are reserved for Curfew: choose another name";
const AT_ONCE: &str = "is deleted at once or not at all";

pub fn attempts() -> Vec<Attempt> {
    let mut all = names_and_labels();
    all.extend(changing());
    all.extend(tidying());
    all
}

fn changes(told: impl Into<String>, who: &Who, name: &str, change: Value) -> Open {
    attempt(told, who).changes(&path(&binding(name)), change)
}

fn deletes(told: impl Into<String>, who: &Who, name: &str, how: &Value) -> Open {
    attempt(told, who).deletes(&path(&binding(name)), how.clone())
}

fn everywhere(name: &str) -> Value {
    let mut all = binding(name);
    all["kind"] = json!("ClusterRoleBinding");
    all["metadata"].as_object_mut().unwrap().remove("namespace");
    all["roleRef"]["kind"] = json!("ClusterRole");
    all
}

/// A binding of which nothing is there that could be another than before.
fn for_nobody(name: &str) -> Value {
    let mut binding = binding(name);
    binding.as_object_mut().unwrap().remove("subjects");
    binding
}

fn names_and_labels() -> Vec<Attempt> {
    let admin = Who::admin();
    let labelled =
        |object: Value, value: &str| with_metadata(object, json!({"labels": {"curfew.dev/grant-uid": value}}));
    vec![
        attempt("a binding of another name is free", &admin)
            .creates(binding("new"))
            .accepted(),
        attempt("a name that only looks like it is free", &admin)
            .creates(binding("my-curfew-x"))
            .accepted(),
        attempt("another label is free", &admin)
            .creates(with_metadata(binding("new"), json!({"labels": {"x": "y"}})))
            .accepted(),
        attempt("the name is reserved", &admin)
            .creates(binding("curfew-new"))
            .refused(RESERVED),
        attempt("a name that the API server makes up is reserved too", &admin)
            .creates(made_up(binding(""), "curfew-"))
            .refused(RESERVED),
        attempt("another one is free", &admin)
            .creates(made_up(binding(""), "other-"))
            .accepted(),
        attempt("the label is reserved", &admin)
            .creates(labelled(binding("new"), "x"))
            .refused(RESERVED),
        attempt("the empty label is reserved", &admin)
            .creates(labelled(binding("new"), ""))
            .refused(RESERVED),
        attempt("the name is reserved everywhere", &admin)
            .creates(everywhere("curfew-new"))
            .refused(RESERVED),
        attempt("the label is reserved everywhere", &admin)
            .creates(labelled(everywhere("new"), "x"))
            .refused(RESERVED),
        attempt("another name is free everywhere", &admin)
            .creates(everywhere("new"))
            .accepted(),
    ]
}

fn changing() -> Vec<Attempt> {
    let admin = Who::admin();
    let label = |key: &str, value: Value| json!({"metadata": {"labels": {key: value}}});
    let mut all = vec![
        changes("other bindings are free", &admin, "plain", label("x", json!("y"))).accepted(),
        changes(
            "nobody puts the label on",
            &admin,
            "plain",
            label("curfew.dev/grant-uid", json!("x")),
        )
        .refused(RESERVED),
        changes(
            "nobody takes the label off",
            &admin,
            "labelled",
            label("curfew.dev/grant-uid", Value::Null),
        )
        .refused(RESERVED),
        changes(
            "nobody takes all labels off",
            &admin,
            "labelled",
            json!({"metadata": {"labels": null}}),
        )
        .refused(RESERVED),
        changes(
            "nobody changes what has the name alone",
            &admin,
            "curfew-named",
            label("x", json!("y")),
        )
        .refused(RESERVED),
    ];
    all.extend(deleting());
    let holds = [
        json!({"metadata": {"finalizers": ["attempts.example/held", "attempts.example/again"]}}),
        json!({"metadata": {"ownerReferences": null}}),
        json!({"metadata": {"annotations": null}}),
        json!({"subjects": [user("mallory")]}),
    ];
    for change in holds {
        for who in [
            Who::admin(),
            Who::controller("generic-garbage-collector"),
            Who::account("curfew", &["system:masters"]),
        ] {
            let told = format!("nobody changes one of Curfew's: {change} by {:?}", who.name());
            all.push(changes(told, &who, "curfew-stands", change.clone()).refused(RESERVED));
        }
    }
    all
}

/// At once, or not at all.
fn deleting() -> Vec<Attempt> {
    let collector = Who::controller("generic-garbage-collector");
    let mut all = vec![];
    let of_curfew = ["curfew-named", "labelled", "curfew-stands"];
    for how in [
        json!({}),
        json!({"propagationPolicy": "Background"}),
        json!({"orphanDependents": false}),
    ] {
        for name in of_curfew {
            let told = format!("anybody deletes {name} whom RBAC lets, {how}");
            all.push(deletes(told, &Who::admin(), name, &how).accepted());
        }
    }
    for how in [
        json!({"propagationPolicy": "Foreground"}),
        json!({"propagationPolicy": "Orphan"}),
        json!({"orphanDependents": true}),
    ] {
        for who in [Who::admin(), Who::controller("job-controller")] {
            for name in of_curfew {
                let told = format!(
                    "nobody deletes {name} so that it waits for others, {how} by {:?}",
                    who.name()
                );
                all.push(deletes(told, &who, name, &how).refused(AT_ONCE));
            }
        }
        for who in [&collector, &Who::controller_manager()] {
            let told = format!("who collects does it as it must, {how} by {:?}", who.name());
            all.push(deletes(told, who, "curfew-stands", &how).accepted());
        }
        let told = format!("other bindings are deleted at will, {how}");
        all.push(deletes(told, &Who::admin(), "plain", &how).accepted());
    }
    all
}

/// kube-controller-manager lets go of what is being deleted, and does nothing else to it.
fn tidying() -> Vec<Attempt> {
    let lets_go = [
        json!({"metadata": {"finalizers": null}}),
        json!({"metadata": {"ownerReferences": null}}),
    ];
    let tidy = ["generic-garbage-collector", "namespace-controller"].map(Who::controller);
    let mut all = vec![];
    for change in &lets_go {
        for who in tidy.iter().chain([&Who::controller_manager()]) {
            let told = format!("who tidies up lets go: {change} by {}", who.name());
            all.push(changes(told, who, "curfew-going", change.clone()).accepted());
        }
        for who in [Who::admin(), Who::controller("job-controller")] {
            let told = format!("nobody else lets go: {change} by {:?}", who.name());
            all.push(changes(told, &who, "curfew-going", change.clone()).refused(RESERVED));
        }
    }
    let collector = &tidy[0];
    let more = [
        json!({"subjects": [user("mallory")]}),
        json!({"subjects": null}),
        json!({"metadata": {"labels": {"x": "y"}}}),
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"annotations": {"curfew.dev/deadline": "2099-01-01T00:00:00Z"}}}),
        json!({"metadata": {"annotations": null}}),
        json!({"metadata": {"ownerReferences": [owner("v1", "Namespace", "other", "other")]}}),
    ];
    for change in more {
        let told = format!("who tidies up does no more: {change}");
        all.push(changes(told, collector, "curfew-going", change).refused(RESERVED));
    }
    all.extend([
        changes(
            "nothing new holds what is going",
            collector,
            "curfew-going",
            json!({"metadata": {"finalizers": ["attempts.example/new"]}}),
        )
        .refused("no new finalizers can be added if the object is being deleted"),
        changes(
            "who tidies up lets go only of what is going",
            collector,
            "curfew-stands",
            json!({"metadata": {"finalizers": null}}),
        )
        .refused(RESERVED),
        attempt("who tidies up makes none for nobody", collector)
            .creates(for_nobody("curfew-new"))
            .refused(RESERVED),
        attempt("who tidies up makes none", collector)
            .creates(binding("curfew-new"))
            .refused(RESERVED),
    ]);
    all
}
