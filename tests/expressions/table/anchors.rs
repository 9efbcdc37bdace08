//! Jobs and Services in the operator's namespace: the operator makes anchors alone, nobody else makes or changes them, and nobody orphans what hangs on
//! them. `curfew-anchors`.

use serde_json::{Value, json};

use crate::attempt::{Attempt, HOME, TEAM, Who, attempt, collection, path};
use crate::states::{HELD, job, made_up, merge, owner, service, with_metadata};

const RESERVED: &str = "are Curfew's anchors: choose another name, without the label";
const ORPHANED: &str = "an anchor can't be deleted without what it owns (--cascade=orphan; of a Job, also where no propagationPolicy is given)";
/// An object of that name, as `states` makes it.
type Shape = fn(&str) -> Value;
const SHAPES: [(&str, Shape); 2] = [("Job", job), ("Service", service)];

pub fn attempts() -> Vec<Attempt> {
    let mut all = reserved();
    all.extend(deleting());
    all.extend(the_operator_deletes_and_changes());
    all.extend(tidying());
    all.extend(tidying_and_no_more());
    all.extend(what_the_operator_makes());
    all.extend(jobs_that_it_makes());
    all.extend(services_that_it_makes());
    all
}

fn labelled(object: Value) -> Value {
    with_metadata(object, json!({"labels": {"curfew.dev/anchor": "true"}}))
}

fn label(key: &str, value: Value) -> Value {
    json!({"metadata": {"labels": {key: value}}})
}

fn reserved() -> Vec<Attempt> {
    let admin = Who::admin();
    let mut all = vec![];
    for (kind, shape) in SHAPES {
        let told = |what: &str| format!("{kind}: {what}");
        let elsewhere = with_metadata(labelled(shape("curfew-until-new")), json!({"namespace": TEAM}));
        all.extend([
            attempt(told("another name is free"), &admin)
                .creates(shape("new"))
                .accepted(),
            attempt(told("another label is free"), &admin)
                .creates(with_metadata(shape("new"), json!({"labels": {"x": "y"}})))
                .accepted(),
            attempt(told("elsewhere all names are free"), &admin)
                .creates(elsewhere)
                .accepted(),
            attempt(told("the name is reserved"), &admin)
                .creates(shape("curfew-until-new"))
                .refused(RESERVED),
            attempt(told("a name that the API server makes up is reserved too"), &admin)
                .creates(made_up(shape(""), "curfew-until-"))
                .refused(RESERVED),
            attempt(told("the label is reserved"), &admin)
                .creates(labelled(shape("new")))
                .refused(RESERVED),
            attempt(told("others are free to be changed"), &admin)
                .changes(&path(&shape("plain")), label("x", json!("y")))
                .accepted(),
            attempt(told("nobody puts the label on"), &admin)
                .changes(&path(&shape("plain")), label("curfew.dev/anchor", json!("true")))
                .refused(RESERVED),
            attempt(told("nobody takes the label off"), &admin)
                .changes(&path(&shape("labelled")), label("curfew.dev/anchor", Value::Null))
                .refused(RESERVED),
            attempt(told("nobody takes all labels off"), &admin)
                .changes(&path(&shape("labelled")), json!({"metadata": {"labels": null}}))
                .refused(RESERVED),
            attempt(told("nobody changes what has the name alone"), &admin)
                .changes(&path(&shape("curfew-until-named")), label("x", json!("y")))
                .refused(RESERVED),
            attempt(told("nobody writes its status"), &admin)
                .changes(
                    &format!("{}/status", path(&shape("curfew-until-stands"))),
                    label("x", json!("y")),
                )
                .refused(RESERVED),
            attempt(told("nobody lets go of it"), &admin)
                .changes(
                    &path(&shape("curfew-until-going")),
                    json!({"metadata": {"finalizers": null}}),
                )
                .refused(RESERVED),
        ]);
    }
    all
}

fn deleting() -> Vec<Attempt> {
    let (admin, operator) = (Who::admin(), Who::operator());
    let mut all = vec![];
    for (kind, shape) in SHAPES {
        let told = |what: &str| format!("{kind}: {what}");
        let mut keeps = vec![
            json!({"propagationPolicy": "Background"}),
            json!({"propagationPolicy": "Foreground"}),
            json!({"orphanDependents": false}),
        ];
        let mut orphans = vec![
            json!({"propagationPolicy": "Orphan"}),
            json!({"orphanDependents": true}),
        ];
        // What nothing is said about: the API orphans what a Job owns.
        if kind == "Job" { &mut orphans } else { &mut keeps }.push(json!({}));
        for how in keeps {
            for name in ["curfew-until-stands", "curfew-until-named", "labelled", "plain"] {
                all.push(
                    attempt(told(&format!("anybody deletes {name} whom RBAC lets, {how}")), &admin)
                        .deletes(&path(&shape(name)), how.clone())
                        .accepted(),
                );
            }
        }
        for how in orphans {
            for name in ["curfew-until-stands", "curfew-until-named", "labelled"] {
                for who in [&admin, &operator] {
                    all.push(
                        attempt(
                            told(&format!(
                                "nobody orphans what hangs on {name}: {how} by {:?}",
                                who.name()
                            )),
                            who,
                        )
                        .deletes(&path(&shape(name)), how.clone())
                        .refused(ORPHANED),
                    );
                }
            }
            all.push(
                attempt(
                    told(&format!("nobody orphans what hangs on all of them: {how}")),
                    &admin,
                )
                .deletes(&collection(&shape("")), how.clone())
                .refused(ORPHANED),
            );
            all.push(
                attempt(told(&format!("others are orphaned at will: {how}")), &admin)
                    .deletes(&path(&shape("plain")), how)
                    .accepted(),
            );
        }
    }
    all
}

fn the_operator_deletes_and_changes() -> Vec<Attempt> {
    let operator = Who::operator();
    let mut all = vec![];
    for (kind, shape) in SHAPES {
        let told = |what: &str| format!("{kind}: {what}");
        all.extend([
            attempt(told("the operator deletes an anchor"), &operator)
                .deletes(
                    &path(&shape("curfew-until-stands")),
                    json!({"propagationPolicy": "Background"}),
                )
                .accepted(),
            attempt(told("the operator deletes no other"), &operator)
                .deletes(&path(&shape("plain")), json!({}))
                .refused("the operator may delete no Job or Service but its anchors"),
            attempt(told("the operator changes nothing"), &operator)
                .changes(&path(&shape("curfew-until-stands")), label("x", json!("y")))
                .refused("the operator may not change Jobs or Services"),
            attempt(told("the operator changes none of others"), &operator)
                .changes(&path(&shape("plain")), label("x", json!("y")))
                .refused("the operator may not change Jobs or Services"),
            attempt(told("the operator lets go of nothing"), &operator)
                .changes(
                    &path(&shape("curfew-until-going")),
                    json!({"metadata": {"finalizers": null}}),
                )
                .refused("the operator may not change Jobs or Services"),
            attempt(told("the operator changes what it likes elsewhere"), &operator)
                .creates(with_metadata(shape("new"), json!({"namespace": TEAM})))
                .accepted(),
        ]);
    }
    all
}

/// kube-controller-manager writes a Job's status, and lets go of what is being deleted.
fn tidying() -> Vec<Attempt> {
    let all_of_it: Vec<Who> = ["generic-garbage-collector", "namespace-controller", "job-controller"]
        .map(Who::controller)
        .into_iter()
        .chain([Who::controller_manager()])
        .collect();
    let let_go = [
        json!({"metadata": {"finalizers": null}}),
        json!({"metadata": {"ownerReferences": null}}),
    ];
    let mut all = vec![];
    for (kind, shape) in SHAPES {
        let at = |name: &str| path(&shape(name));
        for who in &all_of_it {
            all.push(
                attempt(format!("{kind}: its status is written by {}", who.name()), who)
                    .changes(
                        &format!("{}/status", at("curfew-until-stands")),
                        json!({"status": {"conditions": []}}),
                    )
                    .accepted(),
            );
            for change in &let_go {
                let told = format!("{kind}: what is going is let go: {change} by {}", who.name());
                all.push(
                    attempt(told, who)
                        .changes(&at("curfew-until-going"), change.clone())
                        .accepted(),
                );
            }
        }
        let other = Who::controller("replicaset-controller");
        let told = format!("{kind}: no other controller lets go");
        all.push(
            attempt(told, &other)
                .changes(&at("curfew-until-going"), let_go[0].clone())
                .refused(RESERVED),
        );
    }
    all
}

fn tidying_and_no_more() -> Vec<Attempt> {
    let collector = &Who::controller("generic-garbage-collector");
    let mut all = vec![];
    for (kind, shape) in SHAPES {
        let at = |name: &str| path(&shape(name));
        let stranger = || json!([owner("v1", "ConfigMap", "other", "other")]);
        let spec = if kind == "Job" {
            json!({"spec": {"activeDeadlineSeconds": 200_000}})
        } else {
            json!({"spec": {"selector": {"app": "x"}}})
        };
        let more = [
            ("curfew-until-stands", spec.clone()),
            ("curfew-until-going", spec),
            ("curfew-until-stands", json!({"metadata": {"labels": null}})),
            ("curfew-until-stands", label("x", json!("y"))),
            ("curfew-until-going", label("x", json!("y"))),
            (
                "curfew-until-stands",
                json!({"metadata": {"finalizers": [HELD, "attempts.example/new"]}}),
            ),
            (
                "curfew-until-stands",
                json!({"metadata": {"ownerReferences": stranger()}}),
            ),
            (
                "curfew-until-going",
                json!({"metadata": {"ownerReferences": stranger()}}),
            ),
            ("curfew-until-stands", json!({"metadata": {"ownerReferences": null}})),
        ];
        for (name, change) in more {
            let told = format!("{kind}: who tidies up does no more: {change} to {name}");
            all.push(attempt(told, collector).changes(&at(name), change).refused(RESERVED));
        }
        all.extend([
            attempt(format!("{kind}: who tidies up makes none"), collector)
                .creates(labelled(shape("curfew-until-new")))
                .refused(RESERVED),
            attempt(format!("{kind}: finalizers go while it stays"), collector)
                .changes(&at("curfew-until-stands"), json!({"metadata": {"finalizers": null}}))
                .accepted(),
        ]);
    }
    all
}

/// The operator's anchor, as it makes it.
fn anchor(shape: Shape) -> Value {
    let mut object = labelled(shape("curfew-until-new"));
    if object["kind"] == "Service" {
        merge(
            &mut object["metadata"],
            json!({"ownerReferences": [owner("batch/v1", "Job", "curfew-until-new", "0d1e")]}),
        );
    }
    object
}

fn what_the_operator_makes() -> Vec<Attempt> {
    let because = "what the operator makes must be named curfew-until-…, carry the label curfew.dev/anchor, and have no finalizer";
    let mut all = vec![];
    for (kind, shape) in SHAPES {
        let odd = [
            json!({"name": "new"}),
            json!({"name": "new", "labels": null}),
            json!({"labels": null}),
            json!({"labels": {"curfew.dev/anchor": "false"}}),
            json!({"finalizers": [HELD]}),
        ];
        all.push(
            attempt(format!("{kind}: the operator makes an anchor"), &Who::operator())
                .creates(anchor(shape))
                .accepted(),
        );
        for fields in odd {
            let told = format!("{kind}: the operator makes none with {fields}");
            all.push(
                attempt(told, &Who::operator())
                    .creates(with_metadata(anchor(shape), fields))
                    .refused(because),
            );
        }
    }
    all
}

fn makes(kind: &str, shape: Shape, fields: &Value, because: &str) -> Attempt {
    let mut object = anchor(shape);
    merge(&mut object, fields.clone());
    attempt(
        format!("{kind}: the operator makes none with {fields}"),
        &Who::operator(),
    )
    .creates(object)
    .refused(because)
}

fn jobs_that_it_makes() -> Vec<Attempt> {
    let runs_none = "a Job that the operator makes must run no pod (parallelism 0) and be deleted at its deadline";
    let nothing = "a Job that the operator makes must have nothing to run";
    let spec = |fields: Value| json!({"spec": fields});
    let pod = |fields: Value| json!({"spec": {"template": {"spec": fields}}});
    let container = |name: &str, image: &str| json!({"name": name, "image": image});
    let never = container("never", "never.invalid/run");
    let refused = [
        (spec(json!({"parallelism": 1})), runs_none),
        (spec(json!({"parallelism": null})), runs_none),
        (spec(json!({"completions": 2})), runs_none),
        (spec(json!({"completions": null})), runs_none),
        (spec(json!({"backoffLimit": 6})), runs_none),
        (spec(json!({"backoffLimit": null})), runs_none),
        (spec(json!({"ttlSecondsAfterFinished": 100})), runs_none),
        (spec(json!({"ttlSecondsAfterFinished": null})), runs_none),
        (spec(json!({"activeDeadlineSeconds": null})), runs_none),
        (spec(json!({"suspend": true})), runs_none),
        (spec(json!({"managedBy": "other.example/controller"})), runs_none),
        (
            json!({"metadata": {"ownerReferences": [owner("v1", "ConfigMap", "x", "0d1e")]}}),
            runs_none,
        ),
        (
            pod(json!({"containers": [never, container("more", "never.invalid/run")]})),
            nothing,
        ),
        (
            pod(json!({"containers": [container("never", "other.example/run")]})),
            nothing,
        ),
        (
            pod(json!({"initContainers": [container("first", "never.invalid/run")]})),
            nothing,
        ),
        (
            pod(json!({"volumes": [{"name": "secret", "secret": {"secretName": "x"}}]})),
            nothing,
        ),
        (pod(json!({"automountServiceAccountToken": true})), nothing),
        (pod(json!({"automountServiceAccountToken": null})), nothing),
    ];
    refused
        .iter()
        .map(|(fields, because)| makes("Job", job, fields, because))
        .collect()
}

fn services_that_it_makes() -> Vec<Attempt> {
    let because = "a Service that the operator makes must lead nowhere (no selector) and belong to the Job of its name";
    let spec = |fields: Value| json!({"spec": fields});
    let owners = |owners: Value| json!({"metadata": {"ownerReferences": owners}});
    let own = || owner("batch/v1", "Job", "curfew-until-new", "0d1e");
    let refused = [
        spec(json!({"type": "NodePort"})),
        spec(json!({"type": "LoadBalancer"})),
        spec(json!({"type": "ExternalName", "externalName": "other.example", "ports": null})),
        spec(json!({"selector": {"app": "x"}})),
        spec(json!({"externalIPs": ["192.0.2.9"]})),
        spec(json!({"externalName": "other.example"})),
        owners(json!(null)),
        owners(json!([own(), owner("batch/v1", "Job", "curfew-until-new", "0d1f")])),
        owners(json!([owner("batch/v1", "CronJob", "curfew-until-new", "0d1e")])),
        owners(json!([owner("other.example/v1", "Job", "curfew-until-new", "0d1e")])),
        owners(json!([owner("batch/v1", "Job", "curfew-until-other", "0d1e")])),
    ];
    let mut all: Vec<Attempt> = refused
        .iter()
        .map(|fields| makes("Service", service, fields, because))
        .collect();
    all.push(
        attempt(format!("others make what they like in {HOME}"), &Who::admin())
            .creates(with_metadata(service("new"), json!({"finalizers": [HELD]})))
            .accepted(),
    );
    all
}
