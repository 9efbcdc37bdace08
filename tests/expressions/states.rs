//! The states in which things are tried: requests, grants, bindings and anchors as they can be found.
//!
//! They are made before any guard is there, so that there can be what a guard would refuse: words that somebody planted, a request in nobody's name.

use hyper::Method;
use kube::Client;
use serde_json::{Value, json};

use crate::attempt::{HOME, TEAM, Who, ask, collection, path};

/// The offer that stands on all that are offered.
pub const DIGEST: &str = "d1935700000000000000000000000000000000000000000000000000000000ff";
pub const CODE: &str = "d1935700";
/// One that stood before.
pub const FORMER: &str = "f0a3e700000000000000000000000000000000000000000000000000000000ff";

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
/// A finalizer of nobody in particular.
pub const HELD: &str = "attempts.example/held";

/// Alice, who asks.
pub fn alice() -> Who {
    Who::person("alice", &["dev"])
}

/// A request as alice makes it, but for her name on it.
pub fn unnamed(name: &str) -> Value {
    json!({
        "apiVersion": "curfew.dev/v1alpha1", "kind": "AccessRequest", "metadata": {"name": name, "namespace": TEAM},
        "spec": {"role": {"kind": "Role", "name": "reader"}, "duration": "5m", "reason": "a test"},
    })
}

/// The same with these fields in its spec (`null` takes one out).
pub fn request(name: &str, fields: Value) -> Value {
    let mut request = unnamed(name);
    request["spec"]["requester"] = alice().identity();
    merge(&mut request["spec"], fields);
    request
}

/// What the operator writes on a request that waits for decisions, with these fields besides.
fn offered(fields: Value) -> Value {
    let robot = Who::account("approver", &[]);
    let mut status = json!({
        "phase": "Pending",
        "offer": {"digest": DIGEST, "code": CODE, "duration": "5m"},
        "open": [
            {"stage": "lead", "required": 2, "missing": 2, "users": ["bob", "alice", robot.name()], "groups": ["sre", "ops"]},
            {"stage": "security", "required": 1, "missing": 1, "groups": ["sec"]},
        ],
        "revokers": {"users": ["bob", "frank", robot.name()], "groups": ["sre", "ops"]},
    });
    merge(&mut status, fields);
    status
}

/// Somebody's approval of that offer, by the group `sre`.
pub fn approval(name: &str, offer: &str) -> Value {
    json!({"verdict": "Approve", "username": name, "uid": format!("uid-{name}"), "via": ["lead/Group:sre"], "offer": offer, "direct": true})
}

/// So many approvals of an earlier offer.
pub fn approvals(count: usize) -> Value {
    (0..count)
        .map(|number| approval(&format!("approver-{number}"), FORMER))
        .collect()
}

/// So many labels.
pub fn labels(count: usize) -> Value {
    let all = (0..count).map(|number| (format!("label-{number}"), json!("x")));
    Value::Object(all.collect())
}

/// Requests on which the operator has said nothing yet: their name, and their spec's particulars.
fn fresh() -> Vec<(&'static str, Value)> {
    let filled = json!({
        "policy": "one", "namespaces": ["a", "b"], "namespacesFromPolicy": false, "clusterWide": false, "duration": "60m", "extends": "one", "reason": "one",
    });
    vec![
        ("fresh", json!({})),
        ("filled", filled),
        ("later", json!({"startTime": "2030-01-01T00:00:00Z"})),
        ("bare", json!({"duration": null, "reason": null})),
    ]
}

/// Requests on which there is an offer: their name, and what is particular in their spec and status.
fn undecided() -> Vec<(&'static str, Value, Value)> {
    let robot = Who::account("robot", &["system:serviceaccounts"]).identity();
    let asked = |name: &'static str, spec: Value| (name, spec, json!({}));
    let said = |name: &'static str, decisions: Value| asked(name, json!({"decisions": decisions}));
    let stands = |name: &'static str, status: Value| (name, json!({}), status);
    // Access that nobody approved, and that is to be reviewed.
    let approver = Who::account("approver", &[]);
    let given = |name: &'static str, spec: Value, fields: Value| {
        let mut status = json!({"phase": "Active", "seal": {"grant": "g", "uid": "u"}, "reviewers": {"users": ["bob", "alice", approver.name()], "groups": ["sre", "audit"]}});
        merge(&mut status, fields);
        (name, spec, status)
    };
    let review = json!({"verdict": "Review", "username": "bob", "uid": "uid-bob", "via": ["review/User:bob"], "offer": DIGEST, "direct": true});
    vec![
        given("unreviewed", json!({}), json!({})),
        given("unreviewed-over", json!({}), json!({"phase": "Expired"})),
        given("unreviewed-full", json!({"decisions": approvals(48)}), json!({})),
        given(
            "unreviewed-direct",
            json!({}),
            json!({"offer": {"requireDirect": true}}),
        ),
        given("unreviewed-robots", json!({"requester": robot}), json!({})),
        given("reviewed", json!({"decisions": [review]}), json!({})),
        stands("offered", json!({})),
        stands("coded", json!({"offer": {"requireCode": true}})),
        stands("direct", json!({"offer": {"requireDirect": true}})),
        said("said", json!([approval("bob", DIGEST)])),
        said("said-before", json!([approval("bob", FORMER)])),
        said("two-said", json!([approval("bob", DIGEST), approval("carol", DIGEST)])),
        said("nearly-full", approvals(47)),
        said("full", approvals(48)),
        stands("sealed", json!({"phase": "Active", "seal": {"grant": "g", "uid": "u"}})),
        stands("going", json!({})),
        stands("stuffed", json!({})),
        stands("owned", json!({})),
        stands("planted-word", json!({})),
        stands("planted-comment", json!({})),
        asked("robots", json!({"requester": robot})),
        asked("nobodys", json!({"requester": null})),
        stands("denied", json!({"phase": "Denied"})),
        stands("withdrawn", json!({"phase": "Withdrawn"})),
        stands("revoked", json!({"phase": "Revoked"})),
        stands("expired", json!({"phase": "Expired"})),
        stands("failed", json!({"phase": "Failed"})),
    ]
}

/// What had been said on the request of that name.
pub fn said_on(name: &str) -> Value {
    let said = undecided().into_iter().find(|(other, ..)| *other == name);
    said.and_then(|(_, spec, _)| spec.get("decisions").cloned())
        .unwrap_or_else(|| json!([]))
}

/// A grant, as the operator makes it.
pub fn grant(name: &str) -> Value {
    json!({
        "apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "metadata": {"name": name},
        "spec": {
            "request": {"namespace": TEAM, "name": "x", "uid": "x"}, "requester": {"username": "alice"}, "subject": {"kind": "User", "name": "alice"},
            "role": {"kind": "Role", "name": "reader", "uid": "x", "rulesDigest": "x", "onChange": "Revoke"}, "targets": [{"namespace": TEAM, "uid": "x"}],
            "duration": "1h", "policy": {"name": "x", "uid": "x", "digest": "x", "onChange": "Keep"}, "offer": DIGEST,
            "decisions": [approval("bob", DIGEST)], "revokers": {},
        },
    })
}

/// A policy, as an admin makes it.
pub fn policy(name: &str) -> Value {
    json!({
        "apiVersion": "curfew.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": name},
        "spec": {
            "requesters": {"users": ["alice"]}, "roles": [{"kind": "Role", "name": "reader"}], "namespaces": {"names": [TEAM]}, "maxDuration": "1h",
            "approval": {"stages": [{"name": "lead", "approvers": {"groups": ["sre"]}}]},
        },
    })
}

/// A binding of anybody's.
pub fn binding(name: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": TEAM},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}, "subjects": [user("alice")],
    })
}

/// A subject.
pub fn user(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

/// An owner of this kind. Where the object stays, it must be there, or the garbage collector takes the object away.
pub fn owner(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid})
}

/// A Job of this shape never runs a pod.
pub fn job(name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": HOME},
        "spec": {
            "parallelism": 0, "completions": 1, "backoffLimit": 0, "activeDeadlineSeconds": 100_000, "ttlSecondsAfterFinished": 0,
            "template": {"spec": {
                "containers": [{"name": "never", "image": "never.invalid/run"}], "restartPolicy": "Never", "automountServiceAccountToken": false,
            }},
        },
    })
}

/// A Service that leads nowhere.
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": HOME},
        "spec": {"type": "ClusterIP", "ports": [{"port": 9}]},
    })
}

/// The same object with this in its metadata.
pub fn with_metadata(mut object: Value, fields: Value) -> Value {
    merge(&mut object["metadata"], fields);
    object
}

/// The same object under a name that the API server makes up.
pub fn made_up(object: Value, begins: &str) -> Value {
    with_metadata(object, json!({"name": null, "generateName": begins}))
}

/// Puts `fields` in place, deeply; `null` takes one out.
pub fn merge(object: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else {
        *object = fields;
        return;
    };
    for (key, value) in fields {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(&key);
        } else if value.is_object() && object[&key].is_object() {
            merge(&mut object[&key], value);
        } else {
            object[key] = value;
        }
    }
}

// ---- making them ---------------------------------------------------------------------------------------------------

/// Makes all of them, while no guard is in the way. Curfew's kinds must be served.
pub async fn make(client: &Client) {
    let made = async |object: Value| create(client, object).await;
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let team = made(namespace(TEAM)).await;
    let home = made(namespace(HOME)).await;
    for object in rights() {
        made(object).await;
    }
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    make_requests(client, &uid(&team)).await;
    make_grants(client).await;
    for object in addresses() {
        made(object).await;
    }
    for object in bindings(&uid(&team)).into_iter().chain(anchors(&uid(&home))) {
        made(object.clone()).await;
        if object["metadata"]["name"].as_str().unwrap().ends_with("going") {
            delete(client, &path(&object)).await;
        }
    }
}

async fn make_requests(client: &Client, team: &str) {
    for (name, fields) in fresh() {
        create(client, request(name, fields)).await;
    }
    for (name, fields, status) in undecided() {
        let made = create(client, request(name, fields)).await;
        let status = json!({"status": offered(status)});
        change(client, &format!("{}/status", path(&made)), status).await;
    }
    let at = |name: &str| path(&unnamed(name));
    for (name, key, value) in [
        ("planted-word", "decision", "approve"),
        ("planted-comment", "comment", "granted for ever"),
    ] {
        let annotations = json!({format!("curfew.dev/{key}"): value});
        change(client, &at(name), json!({"metadata": {"annotations": annotations}})).await;
    }
    change(client, &at("stuffed"), json!({"metadata": {"labels": labels(65)}})).await;
    let owners = json!([owner("v1", "Namespace", TEAM, team)]);
    change(client, &at("owned"), json!({"metadata": {"ownerReferences": owners}})).await;
    change(client, &at("going"), json!({"metadata": {"finalizers": [HELD]}})).await;
    delete(client, &at("going")).await;
}

async fn make_grants(client: &Client) {
    create(client, policy("stands")).await;
    create(client, grant("stands")).await;
    for (name, phase) in [("active", "Active"), ("ending", "Ending"), ("ended", "Ended")] {
        let made = create(client, grant(name)).await;
        let status = json!({"status": {"phase": phase}});
        change(client, &format!("{}/status", path(&made)), status).await;
    }
    let held = json!({"finalizers": [HELD, "attempts.example/second"]});
    let going = create(client, with_metadata(grant("going"), held)).await;
    delete(client, &path(&going)).await;
}

/// People may write whatever is Curfew's, so that it's admission that refuses. A few may act as the service account that asks.
fn rights() -> Vec<Value> {
    let rbac = "rbac.authorization.k8s.io/v1";
    let named = |kind: &str, name: &str| match kind {
        "Role" => json!({"name": name, "namespace": TEAM}),
        _ => json!({"name": name}),
    };
    let role = |kind: &str, name: &str, rules: Value| json!({"apiVersion": rbac, "kind": kind, "metadata": named(kind, name), "rules": rules});
    let bound = |kind: &str, name: &str, subject: Value| {
        json!({
            "apiVersion": rbac, "kind": format!("{kind}Binding"), "metadata": named(kind, name), "subjects": [subject],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        })
    };
    let everybody = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"});
    let mut all = vec![
        role(
            "ClusterRole",
            "attempts",
            json!([{"apiGroups": ["curfew.dev"], "resources": ["*"], "verbs": ["get", "create", "update", "patch"]}]),
        ),
        bound("ClusterRole", "attempts", everybody),
        role(
            "Role",
            "reader",
            json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]),
        ),
    ];
    for actor in ACTORS {
        let mut rule = json!({"apiGroups": [actor.group], "resources": [actor.resource], "verbs": [actor.verb]});
        if let Some(only) = actor.only {
            rule["resourceNames"] = json!([only]);
        }
        all.push(role("Role", actor.name, json!([rule])));
        all.push(bound("Role", actor.name, user(actor.name)));
    }
    all
}

/// An approver who may act as service accounts of [`TEAM`], or as one of them alone.
pub struct Actor {
    pub name: &'static str,
    group: &'static str,
    pub resource: &'static str,
    pub verb: &'static str,
    pub only: Option<&'static str>,
}

const fn actor(name: &'static str, right: [&'static str; 3], only: Option<&'static str>) -> Actor {
    let [group, resource, verb] = right;
    Actor {
        name,
        group,
        resource,
        verb,
        only,
    }
}

const IMPERSONATE: [&str; 3] = ["", "serviceaccounts", "impersonate"];
const NARROWLY: [&str; 3] = ["authentication.k8s.io", "serviceaccounts", "impersonate:serviceaccount"];
const MINT: [&str; 3] = ["", "serviceaccounts/token", "create"];
const PLANT: [&str; 3] = ["", "secrets", "create"];

pub const ACTORS: [Actor; 27] = [
    actor("impersonates", IMPERSONATE, None),
    actor("impersonates-narrowly", NARROWLY, None),
    actor("mints", MINT, None),
    actor("plants-secrets", PLANT, None),
    actor("reads-secrets", ["", "secrets", "get"], None),
    actor("lists-secrets", ["", "secrets", "list"], None),
    actor("watches-secrets", ["", "secrets", "watch"], None),
    actor(
        "binds-roles",
        ["rbac.authorization.k8s.io", "rolebindings", "create"],
        None,
    ),
    actor(
        "binds-more",
        ["rbac.authorization.k8s.io", "rolebindings", "update"],
        None,
    ),
    actor(
        "adds-to-bindings",
        ["rbac.authorization.k8s.io", "rolebindings", "patch"],
        None,
    ),
    actor(
        "binds-everywhere",
        ["rbac.authorization.k8s.io", "clusterrolebindings", "create"],
        None,
    ),
    actor("attaches-to-pods-by-get", ["", "pods/attach", "get"], None),
    actor("runs-pods", ["", "pods", "create"], None),
    actor("enters-pods", ["", "pods/exec", "create"], None),
    actor("enters-pods-by-get", ["", "pods/exec", "get"], None),
    actor("attaches-to-pods", ["", "pods/attach", "create"], None),
    actor("adds-to-pods", ["", "pods/ephemeralcontainers", "patch"], None),
    actor(
        "replicates-pods-as-ever",
        ["", "replicationcontrollers", "create"],
        None,
    ),
    actor("deploys", ["apps", "deployments", "create"], None),
    actor("deploys-with-state", ["apps", "statefulsets", "create"], None),
    actor("deploys-everywhere", ["apps", "daemonsets", "create"], None),
    actor("replicates-pods", ["apps", "replicasets", "create"], None),
    actor("runs-jobs", ["batch", "jobs", "create"], None),
    actor("plans-jobs", ["batch", "cronjobs", "create"], None),
    actor("impersonates-another", IMPERSONATE, Some("another")),
    actor("impersonates-another-narrowly", NARROWLY, Some("another")),
    actor("mints-for-another", MINT, Some("another")),
];

/// Bindings by name, by label, and of nobody; those that end in `going` are being deleted, and held.
fn bindings(team: &str) -> Vec<Value> {
    let owners = json!([owner("v1", "Namespace", TEAM, team)]);
    let own = json!({
        "labels": {"curfew.dev/grant-uid": "x"}, "annotations": {"curfew.dev/deadline": "2030-01-01T00:00:00Z"}, "finalizers": [HELD],
        "ownerReferences": owners,
    });
    // From before the operator was held to one person or account.
    let mut odd = binding("curfew-odd-going");
    odd["subjects"] = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "sre"}, user("alice")]);
    vec![
        binding("plain"),
        binding("curfew-named"),
        with_metadata(binding("labelled"), json!({"labels": {"curfew.dev/grant-uid": "x"}})),
        with_metadata(binding("curfew-stands"), own.clone()),
        with_metadata(binding("curfew-going"), own.clone()),
        with_metadata(odd, own.clone()),
        with_metadata(binding("foreign-going"), json!({"finalizers": [HELD]})),
    ]
}

/// Jobs and Services by name, by label, and of nobody; those that end in `going` are being deleted, and held.
fn anchors(home: &str) -> Vec<Value> {
    let labelled = json!({"labels": {"curfew.dev/anchor": "true"}});
    let owners = json!([owner("v1", "Namespace", HOME, home)]);
    let held = json!({"labels": {"curfew.dev/anchor": "true"}, "finalizers": [HELD], "ownerReferences": owners});
    [job, service]
        .into_iter()
        .flat_map(|shape: fn(&str) -> Value| {
            [
                shape("plain"),
                shape("curfew-until-named"),
                with_metadata(shape("labelled"), labelled.clone()),
                with_metadata(shape("curfew-until-stands"), held.clone()),
                with_metadata(shape("curfew-until-going"), held.clone()),
            ]
        })
        .collect()
}

/// An IPAddress, said to be of whatever this is.
pub fn address(name: &str, parent: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": name}, "spec": {"parentRef": parent}})
}

/// Addresses of anchors, one of them held, and of others. None is in the cluster's own range.
fn addresses() -> Vec<Value> {
    let of = |resource: &str, namespace: &str, name: &str| json!({"resource": resource, "namespace": namespace, "name": name});
    vec![
        address("10.9.9.1", of("services", HOME, "curfew-until-stands")),
        address("10.9.9.2", of("services", HOME, "plain")),
        address("10.9.9.3", of("services", TEAM, "curfew-until-stands")),
        address("10.9.9.4", of("others", HOME, "curfew-until-stands")),
        with_metadata(
            address("10.9.9.5", of("services", HOME, "curfew-until-stands")),
            json!({"finalizers": [HELD]}),
        ),
    ]
}

async fn create(client: &Client, object: Value) -> Value {
    let answer = ask(
        client,
        &Who::admin(),
        &Method::POST,
        &collection(&object),
        JSON,
        &object,
    )
    .await;
    answer.unwrap_or_else(|refusal| panic!("{object}: {refusal}"))
}

async fn change(client: &Client, path: &str, change: Value) {
    let answer = ask(client, &Who::admin(), &Method::PATCH, path, MERGE, &change).await;
    answer.unwrap_or_else(|refusal| panic!("{path}: {refusal}"));
}

async fn delete(client: &Client, path: &str) {
    let answer = ask(client, &Who::admin(), &Method::DELETE, path, JSON, &Value::Null).await;
    answer.unwrap_or_else(|refusal| panic!("{path}: {refusal}"));
}
