//! The operator's bindings: of one shape, never changed, and no others deleted. `curfew-operator-bounds`.

use serde_json::{Value, json};

use crate::attempt::{Attempt, HOME, Open, TEAM, Who, attempt, collection, path};
use crate::states::{binding, owner, user, with_metadata};

const NAME: &str = "the operator may only touch bindings whose name begins with curfew-";

pub fn attempts() -> Vec<Attempt> {
    let mut all = what_it_makes();
    all.extend(what_it_changes());
    all.extend(what_it_deletes());
    all
}

fn anchored() -> Value {
    owner("networking.k8s.io/v1", "IPAddress", "10.0.0.9", "0d1e")
}

fn by_grant() -> Value {
    owner("curfew.dev/v1alpha1", "AccessGrant", "g", "new")
}

/// As the operator makes it.
fn its_own() -> Value {
    with_metadata(
        binding("curfew-new"),
        json!({"labels": {"curfew.dev/grant-uid": "new"}, "ownerReferences": [anchored()], "finalizers": []}),
    )
}

fn makes(told: impl Into<String>, object: Value) -> Open {
    attempt(told, &Who::operator()).creates(object)
}

fn account(namespace: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": "robot", "namespace": namespace})
}

/// What it makes none with, each because of one thing.
fn odd() -> Vec<(&'static str, Value, &'static str)> {
    let group = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "sre"});
    let by_grant = by_grant();
    let (label, one_subject, one_owner) = (
        "must carry the label curfew.dev/grant-uid",
        "must have exactly one subject",
        "must have exactly one owner, an anchor's IPAddress or the AccessGrant on its label",
    );
    let name = "must be called curfew- and the uid on its label";
    let subjects = "the operator may bind one User (not system:) or one ServiceAccount";
    let places = "the operator may not bind in kube-* namespaces nor in its own";
    vec![
        (
            "/metadata/finalizers",
            json!(["example.com/held"]),
            "must have no finalizer",
        ),
        ("/metadata/name", json!("new"), NAME),
        ("/metadata/name", json!("curfew-another"), name),
        ("/metadata/labels", json!({"curfew.dev/grant-uid": "another"}), name),
        ("/metadata/labels", Value::Null, label),
        ("/metadata/labels", json!({"curfew.dev/grant-uid": ""}), label),
        ("/metadata/namespace", json!("kube-system"), places),
        ("/metadata/namespace", json!("kube-public"), places),
        ("/metadata/namespace", json!(HOME), places),
        ("/subjects", json!([]), one_subject),
        ("/subjects", Value::Null, one_subject),
        ("/subjects", json!([user("alice"), user("bob")]), one_subject),
        ("/subjects", json!([group]), subjects),
        ("/subjects", json!([user("system:admin")]), subjects),
        (
            "/subjects",
            json!([user(&format!("system:serviceaccount:{TEAM}:robot"))]),
            subjects,
        ),
        ("/subjects", json!([account("kube-system")]), subjects),
        ("/subjects", json!([account(HOME)]), subjects),
        ("/metadata/ownerReferences", json!([]), one_owner),
        ("/metadata/ownerReferences", json!([anchored(), by_grant]), one_owner),
        (
            "/metadata/ownerReferences",
            json!([owner("v1", "Namespace", TEAM, "0d1e")]),
            one_owner,
        ),
        (
            "/metadata/ownerReferences",
            json!([owner("networking.k8s.io/v1", "Ingress", "x", "0d1e")]),
            one_owner,
        ),
        (
            "/metadata/ownerReferences",
            json!([owner("other.example/v1", "IPAddress", "x", "0d1e")]),
            one_owner,
        ),
        (
            "/metadata/ownerReferences",
            json!([owner("curfew.dev/v1alpha1", "AccessPolicy", "x", "new")]),
            one_owner,
        ),
        (
            "/metadata/ownerReferences",
            json!([owner("curfew.dev/v1alpha1", "AccessGrant", "h", "another")]),
            one_owner,
        ),
        (
            "/metadata/ownerReferences",
            json!([owner("other.example/v1", "AccessGrant", "x", "new")]),
            one_owner,
        ),
    ]
}

fn what_it_makes() -> Vec<Attempt> {
    let with = |pointer: &str, value: &Value| {
        let mut object = its_own();
        *object.pointer_mut(pointer).unwrap() = value.clone();
        object
    };
    let fine = [
        ("/subjects", json!([user("alice")])),
        ("/subjects", json!([account(TEAM)])),
        ("/metadata/ownerReferences", json!([anchored()])),
        ("/metadata/ownerReferences", json!([by_grant()])),
        ("/metadata/finalizers", Value::Null),
    ];
    let mut all: Vec<Attempt> = fine
        .iter()
        .map(|(pointer, value)| {
            makes(
                format!("the operator makes one with {pointer} {value}"),
                with(pointer, value),
            )
            .accepted()
        })
        .collect();
    all.extend(odd().iter().map(|(pointer, value, because)| {
        makes(
            format!("the operator makes none with {pointer} {value}"),
            with(pointer, value),
        )
        .refused(because)
    }));
    all.push(makes("the operator makes one that holds everywhere", everywhere(its_own())).accepted());
    let everywhere = odd()
        .into_iter()
        .filter(|(pointer, ..)| *pointer != "/metadata/namespace");
    all.extend(everywhere.map(|(pointer, value, because)| {
        let told = format!("the operator makes none that holds everywhere with {pointer} {value}");
        makes(told, self::everywhere(with(pointer, &value))).refused(because)
    }));
    all.extend(which_roles_it_binds());
    all
}

/// It holds all of its own role, which is all that Kubernetes itself asks for.
fn which_roles_it_binds() -> Vec<Attempt> {
    let mut all = vec![];
    for (kind, name, is_grantable) in [
        ("Role", "reader", true),
        ("Role", "of-one", true),
        ("ClusterRole", "of-all", true),
        ("ClusterRole", "curfew:operator", false),
    ] {
        let mut bound = its_own();
        bound["roleRef"]["kind"] = json!(kind);
        bound["roleRef"]["name"] = json!(name);
        let mut places = vec![bound.clone()];
        if kind == "ClusterRole" {
            places.push(everywhere(bound));
        }
        for bound in places {
            let told = format!("the operator binds {kind} {name} by a {}", bound["kind"]);
            let binds = attempt(told, &Who::operator_by_rbac()).creates(bound);
            all.push(match is_grantable {
                true => binds.accepted(),
                false => binds.refused("the operator may only bind what it was given the right to bind"),
            });
        }
    }
    all
}

fn everywhere(mut binding: Value) -> Value {
    binding["kind"] = json!("ClusterRoleBinding");
    binding["metadata"].as_object_mut().unwrap().remove("namespace");
    binding["roleRef"]["kind"] = json!("ClusterRole");
    binding
}

fn what_it_changes() -> Vec<Attempt> {
    let operator = Who::operator();
    let changes = |told: String, name: &str, change: &Value| {
        attempt(told, &operator).changes(&path(&binding(name)), change.clone())
    };
    let let_go = [
        json!({"metadata": {"finalizers": null}}),
        json!({"metadata": {"ownerReferences": null}}),
    ];
    let more = [
        json!({"subjects": [user("mallory")]}),
        json!({"subjects": null}),
        json!({"metadata": {"labels": {"x": "y"}}}),
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"annotations": {"curfew.dev/deadline": "2099-01-01T00:00:00Z"}}}),
        json!({"metadata": {"annotations": null}}),
        json!({"metadata": {"ownerReferences": [anchored()]}}),
    ];
    let mut all = vec![];
    for change in let_go.iter().chain(&more) {
        all.push(
            changes(
                format!("the operator changes no binding: {change}"),
                "curfew-stands",
                change,
            )
            .refused("the operator may not change a binding, except one that is being deleted"),
        );
        all.push(
            changes(
                format!("the operator changes nobody else's: {change}"),
                "foreign-going",
                change,
            )
            .refused(NAME),
        );
    }
    for change in &let_go {
        for name in ["curfew-going", "curfew-odd-going"] {
            let told = format!("the operator lets go of what is going: {change} of {name}");
            all.push(changes(told, name, change).accepted());
        }
    }
    for change in &more {
        all.push(
            changes(
                format!("the operator does no more to it: {change}"),
                "curfew-going",
                change,
            )
            .refused("the operator may only take finalizers and owners off a binding that is being deleted"),
        );
    }
    let held = json!({"metadata": {"finalizers": ["attempts.example/new"]}});
    all.extend([
        changes("nothing new holds what is going".to_owned(), "curfew-going", &held)
            .refused("no new finalizers can be added if the object is being deleted"),
    ]);
    all
}

fn what_it_deletes() -> Vec<Attempt> {
    let operator = Who::operator();
    vec![
        attempt("the operator deletes its own", &operator)
            .deletes(&path(&binding("curfew-stands")), json!({}))
            .accepted(),
        attempt("the operator deletes nobody else's", &operator)
            .deletes(&path(&binding("plain")), json!({}))
            .refused(NAME),
        attempt("the operator deletes nobody else's, whatever it is labelled", &operator)
            .deletes(&path(&binding("labelled")), json!({}))
            .refused(NAME),
        attempt("the operator doesn't delete all at once", &operator)
            .deletes(&collection(&binding("")), json!({}))
            .refused(NAME),
        attempt("the operator deletes nobody else's that holds everywhere", &operator)
            .deletes(
                "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/curfew:operator",
                json!({}),
            )
            .refused(NAME),
        attempt(
            "everybody else is free to make what the operator may not",
            &Who::admin(),
        )
        .creates(with_metadata(binding("new"), json!({"namespace": "kube-public"})))
        .accepted(),
    ]
}
