//! What only the operator writes: the status of everything, and grants. `curfew-status`. What of it the operator removes. `curfew-evidence`.

use serde_json::{Value, json};

use crate::attempt::{Attempt, Who, attempt, path};
use crate::states::{grant, policy, request, unnamed, with_metadata};

const ONLY: &str = "only Curfew's operator writes AccessGrants and the status of its objects";

pub fn attempts() -> Vec<Attempt> {
    let mut all = vec![];
    let of_request = path(&request("fresh", json!({})));
    let (of_policy, of_grant) = (path(&policy("stands")), path(&grant("stands")));
    let phase = |phase: &str| json!({"status": {"phase": phase}});
    let ready = json!({"status": {"conditions": [
        {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2030-01-01T00:00:00Z"},
    ]}});
    let writes = [
        (of_request, phase("Denied")),
        (of_policy, ready),
        (of_grant.clone(), phase("Ended")),
    ];
    let people = [
        Who::admin(),
        Who::person("alice", &["dev"]),
        Who::account("curfew", &["system:masters"]),
        Who::controller("generic-garbage-collector"),
        Who::controller_manager(),
    ];
    for (path, status) in &writes {
        let path = format!("{path}/status");
        all.push(
            attempt(format!("the operator writes {path}"), &Who::operator())
                .changes(&path, status.clone())
                .accepted(),
        );
        for who in &people {
            let told = format!("nobody else writes {path}: {:?}", who.name());
            all.push(attempt(told, who).changes(&path, status.clone()).refused(ONLY));
        }
    }
    let label = json!({"metadata": {"labels": {"x": "y"}}});
    all.push(
        attempt("the operator makes grants", &Who::operator())
            .creates(grant("new"))
            .accepted(),
    );
    for who in people {
        all.push(
            attempt(format!("nobody else makes grants: {:?}", who.name()), &who)
                .creates(grant("new"))
                .refused(ONLY),
        );
        let told = format!("nobody else changes grants: {:?}", who.name());
        all.push(attempt(told, &who).changes(&of_grant, label.clone()).refused(ONLY));
    }
    all.extend(tidying());
    all.extend(removing());
    all
}

/// The operator removes what has ended. Whoever else may delete anything is RBAC's matter.
fn removing() -> Vec<Attempt> {
    let of_request = |name: &str| path(&unnamed(name));
    let of_grant = |name: &str| path(&grant(name));
    let removable = [
        of_request("denied"),
        of_request("withdrawn"),
        of_request("revoked"),
        of_request("expired"),
        of_request("failed"),
        of_grant("ended"),
    ];
    let standing = [
        of_request("fresh"),
        of_request("offered"),
        of_request("sealed"),
        of_grant("stands"),
        of_grant("active"),
        of_grant("ending"),
    ];
    let by = |who: &Who, at: &str| attempt(format!("{} deletes {at}", who.name()), who).deletes(at, json!({}));
    let removed = removable.iter().map(|at| by(&Who::operator(), at).accepted());
    let kept = standing
        .iter()
        .map(|at| by(&Who::operator(), at).refused("the operator removes only what has ended"));
    let by_others = standing.iter().map(|at| by(&Who::admin(), at).accepted());
    removed.chain(kept).chain(by_others).collect()
}

/// The garbage collector lets go of a grant that is being deleted.
fn tidying() -> Vec<Attempt> {
    let going = path(&grant("going"));
    let lets_go = json!({"metadata": {"finalizers": ["attempts.example/second"]}});
    let collector = Who::controller("generic-garbage-collector");
    let mut all = vec![];
    for who in [collector.clone(), Who::controller_manager()] {
        let told = format!("who collects garbage lets go of a grant: {}", who.name());
        all.push(attempt(told, &who).changes(&going, lets_go.clone()).accepted());
    }
    for who in [
        Who::admin(),
        Who::controller("job-controller"),
        Who::controller("namespace-controller"),
    ] {
        let told = format!("nobody else lets go of a grant: {:?}", who.name());
        all.push(attempt(told, &who).changes(&going, lets_go.clone()).refused(ONLY));
    }
    let status: Value = json!({"status": {"phase": "Ended"}});
    all.extend([
        attempt("who collects garbage writes no status of what is going", &collector)
            .changes(&format!("{going}/status"), status)
            .refused(ONLY),
        attempt("who collects garbage changes no grant that is going", &collector)
            .changes(&going, json!({"spec": {"duration": "8h"}}))
            .refused("a grant can't be changed"),
        attempt("who collects garbage holds no grant that stays", &collector)
            .changes(
                &path(&grant("stands")),
                json!({"metadata": {"finalizers": ["attempts.example/held"]}}),
            )
            .refused(ONLY),
        attempt("who collects garbage makes no grant that is going", &collector)
            .creates(with_metadata(
                grant("new"),
                json!({"finalizers": ["attempts.example/held"]}),
            ))
            .refused(ONLY),
        attempt("anybody deletes a grant whom RBAC lets", &Who::admin())
            .deletes(&path(&grant("stands")), json!({}))
            .accepted(),
    ]);
    all
}
