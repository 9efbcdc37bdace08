//! Reviews of access that nobody approved: after it was given and after its end too, by those who are to, and never of one's own. `curfew-stamp-decision` and
//! `curfew-decisions`.

use serde_json::json;

use super::decisions::{adding, at, bob, carol, erin, frank, mallory, record};
use crate::attempt::Server::{Older, Stamping};
use crate::attempt::{Attempt, Open, Who, attempt};
use crate::states::{ACTORS, alice, merge};

pub fn attempts() -> Vec<Attempt> {
    let mut all = who_may();
    all.extend(nobody_else_may());
    all.extend(when());
    all.extend(as_words());
    all
}

/// Who reviews, and may neither deny nor revoke.
fn heidi() -> Who {
    Who::person("heidi", &["audit"])
}

fn reviews(told: impl Into<String>, who: &Who, name: &str, entry: &str) -> Open {
    let record = record(who, "Review", &[entry]);
    attempt(told, who).changes(&at(name), adding(name, &[record]))
}

fn who_may() -> Vec<Attempt> {
    let robot = Who::account("approver", &["system:serviceaccounts"]);
    let as_robot = format!("review/User:{}", robot.name());
    let mut all = vec![];
    for (who, entry) in [
        (bob(), "review/User:bob"),
        (carol(), "review/Group:sre"),
        (heidi(), "review/Group:audit"),
        (robot, as_robot.as_str()),
    ] {
        for name in ["unreviewed", "unreviewed-over"] {
            let told = format!("a review by {} of {name}", who.name());
            all.push(reviews(told, &who, name, entry).accepted());
        }
    }
    all
}

fn nobody_else_may() -> Vec<Attempt> {
    let mut all = vec![];
    // Erin is a revoker's colleague; frank may revoke and isn't among the reviewers.
    for (who, entry) in [
        (mallory(), "review/User:bob"),
        (mallory(), "review/Group:sre"),
        (frank(), "*/User:frank"),
        (frank(), "review/User:frank"),
        (erin(), "review/Group:sec"),
        (Who::account("deployer", &["sre"]), "review/Group:sre"),
    ] {
        let told = format!("no review by {} as {entry}", who.name());
        all.push(
            reviews(told, &who, "unreviewed", entry).refused("you are not among those who may review this request now"),
        );
    }
    for entry in ["*/User:bob", "lead/User:bob", "review/Group:sre", "requester"] {
        let told = format!("a review says what lets its speaker in, not {entry}");
        all.push(reviews(told, &bob(), "unreviewed", entry).refused("via must say exactly what lets you decide"));
    }
    all.push(
        reviews(
            "nobody reviews their own access",
            &alice(),
            "unreviewed",
            "review/User:alice",
        )
        .refused("you can't review your own request; someone else must"),
    );
    for actor in ACTORS.iter().filter(|actor| actor.only.is_none()) {
        let who = Who::person(actor.name, &["sre"]);
        let told = format!("who {} doesn't review the account's access", actor.name);
        all.push(
            reviews(told, &who, "unreviewed-robots", "review/Group:sre").refused("so this would be your own request"),
        );
    }
    all.push(
        reviews(
            "who can't act as the account does",
            &carol(),
            "unreviewed-robots",
            "review/Group:sre",
        )
        .accepted(),
    );
    all
}

fn when() -> Vec<Attempt> {
    let mut all = vec![];
    for name in ["fresh", "offered", "sealed", "denied", "expired"] {
        let told = format!("there is nothing to review: {name}");
        all.push(reviews(told, &bob(), name, "review/User:bob").refused("there is nothing to review"));
    }
    let secondhand = bob().without_credential();
    let mut indirect = record(&secondhand, "Review", &["review/User:bob"]);
    merge(&mut indirect, json!({"direct": false}));
    all.extend([
        reviews(
            "what was reviewed isn't reviewed again by the same",
            &bob(),
            "reviewed",
            "review/User:bob",
        )
        .refused("you have said this already"),
        reviews("another may look too", &carol(), "reviewed", "review/Group:sre").accepted(),
        reviews(
            "there is no room for a 49th word",
            &bob(),
            "unreviewed-full",
            "review/User:bob",
        )
        .refused("too much has been said on this request for one more approval or review"),
        attempt("a revocation has room then", &bob())
            .changes(
                &at("unreviewed-full"),
                adding("unreviewed-full", &[record(&bob(), "Revoke", &["*/User:bob"])]),
            )
            .accepted(),
        attempt(
            "a policy may want reviewers to have a credential of their own",
            &secondhand,
        )
        .changes(&at("unreviewed-direct"), adding("unreviewed-direct", &[indirect]))
        .refused("the policy wants approvals and reviews under a credential of your own"),
        reviews("with one it is content", &bob(), "unreviewed-direct", "review/User:bob").accepted(),
        attempt("after the end nothing else is said", &bob())
            .changes(
                &at("unreviewed-over"),
                adding("unreviewed-over", &[record(&bob(), "Revoke", &["*/User:bob"])]),
            )
            .refused("this request has ended (Expired)"),
    ]);
    all
}

fn as_words() -> Vec<Attempt> {
    let review =
        json!({"metadata": {"annotations": {"curfew.dev/decision": "review", "curfew.dev/comment": "it was needed"}}});
    let says = |told: &str, who: &Who, name: &str| attempt(told, who).changes(&at(name), review.clone());
    let mut by_group = record(&heidi(), "Review", &["review/Group:audit"]);
    by_group["comment"] = json!("it was needed");
    let mut stamped = record(&bob(), "Review", &["review/User:bob"]);
    stamped["comment"] = json!("it was needed");
    vec![
        says("a review is stamped", &bob(), "unreviewed", ).on(Stamping).becomes(vec![("/spec/decisions/0", stamped.clone())]),
        says("after the end too", &bob(), "unreviewed-over").on(Stamping).becomes(vec![("/spec/decisions/0", stamped)]),
        says("by a group alone too", &heidi(), "unreviewed")
            .on(Stamping)
            .becomes(vec![("/spec/decisions/0", by_group)]),
        says("an outsider's review is refused", &mallory(), "unreviewed").refused("you are not among those who may review this request now. To see who is: kubectl get accessrequest unreviewed -n team -o yaml, status.reviewers"),
        says("there is nothing to review before access was given", &bob(), "offered").refused("there is nothing to review"),
        says("one's own access isn't reviewed", &alice(), "unreviewed").refused("you can't review your own request"),
        says("where nothing stamps it is told what to use", &bob(), "unreviewed").on(Older).refused("(that takes Kubernetes 1.36). Use: kubectl curfew review unreviewed -n team"),
    ]
}
