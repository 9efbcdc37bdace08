//! The IPAddress on which bindings hang: nobody holds it, and nobody parts it from them. `curfew-addresses`.

use serde_json::{Value, json};

use crate::attempt::{Attempt, Who, attempt, path};
use crate::states::{HELD, address};

const HOLDS: &str = "the IPAddress of one of Curfew's anchors can't be held by a finalizer";
const ORPHANS: &str = "the IPAddress of one of Curfew's anchors can't be deleted without what it owns";
/// Addresses of nobody's anchor, as `states` makes them: of another Service, of a Service elsewhere, and of what is no Service.
const OTHERS: [&str; 3] = ["10.9.9.2", "10.9.9.3", "10.9.9.4"];

pub fn attempts() -> Vec<Attempt> {
    let admin = Who::admin();
    let at = |name: &str| path(&address(name, json!({})));
    let (of_an_anchor, held) = (at("10.9.9.1"), at("10.9.9.5"));
    let finalizers = |all: Value| json!({"metadata": {"finalizers": all}});
    let another = finalizers(json!(["attempts.example/other"]));
    let mut all = vec![
        attempt("nobody holds the address of an anchor", &admin)
            .changes(&of_an_anchor, another.clone())
            .refused(HOLDS),
        attempt("nobody holds the address of an anchor by one finalizer more", &admin)
            .changes(&held, finalizers(json!([HELD, "attempts.example/other"])))
            .refused(HOLDS),
        attempt("the address of an anchor is let go", &admin)
            .changes(&held, finalizers(Value::Null))
            .accepted(),
        attempt("the address of an anchor gets labels, held or not", &admin)
            .changes(&held, json!({"metadata": {"labels": {"x": "y"}}}))
            .accepted(),
    ];
    for how in [
        json!({"propagationPolicy": "Orphan"}),
        json!({"orphanDependents": true}),
    ] {
        let told = format!("nobody parts the address of an anchor from what hangs on it, {how}");
        all.push(attempt(told, &admin).deletes(&of_an_anchor, how).refused(ORPHANS));
    }
    for how in [
        json!({}),
        json!({"propagationPolicy": "Foreground"}),
        json!({"orphanDependents": false}),
    ] {
        let told = format!("anybody deletes the address of an anchor whom RBAC lets, {how}");
        all.push(attempt(told, &admin).deletes(&of_an_anchor, how).accepted());
    }
    for name in OTHERS {
        all.extend([
            attempt(format!("{name} is held at will"), &admin)
                .changes(&at(name), another.clone())
                .accepted(),
            attempt(format!("{name} is orphaned at will"), &admin)
                .deletes(&at(name), json!({"propagationPolicy": "Orphan"}))
                .accepted(),
        ]);
    }
    all
}
