//! Decisions as annotations: stamped where the API server stamps, and refused for their true reason where nothing did. `curfew-stamp-decision`, and what
//! `curfew-decisions` says of what is left over.

use serde_json::{Value, json};

use super::decisions::{adding, at, bob, carol, dave, erin, frank, grace, mallory, record};
use crate::attempt::Server::{Older, Stamping};
use crate::attempt::{Attempt, Open, Who, attempt};
use crate::states::{ACTORS, CODE, FORMER, alice, approval, merge};

pub fn attempts() -> Vec<Attempt> {
    let mut all = stamped();
    all.extend(stamped_in_the_same_write());
    all.extend(words_that_mean_nothing());
    all.extend(planted());
    all.extend(left_over());
    all.extend(not_stamped());
    all
}

fn word(word: &str) -> Value {
    json!({"metadata": {"annotations": {"curfew.dev/decision": word}}})
}

fn says(told: impl Into<String>, who: &Who, name: &str, said: &str) -> Open {
    attempt(told, who).changes(&at(name), word(said))
}

/// Each word becomes a record, all of it as it should be.
fn stamped() -> Vec<Attempt> {
    let coded = format!("approve:{CODE}");
    let robot = Who::account("approver", &["system:serviceaccounts"]);
    let as_robot = format!("lead/User:{}", robot.name());
    let words = [
        (bob(), "approve", vec!["lead/User:bob"]),
        (bob(), "deny", vec!["*/User:bob"]),
        (bob(), "revoke", vec!["*/User:bob"]),
        (bob(), &coded, vec!["lead/User:bob"]),
        (carol(), "approve", vec!["lead/Group:sre"]),
        (carol(), "deny", vec!["*/Group:sre"]),
        (dave(), "approve", vec!["lead/Group:sre", "security/Group:sec"]),
        (grace(), "approve", vec!["lead/Group:sre"]),
        (erin(), &coded, vec!["security/Group:sec"]),
        (frank(), "deny", vec!["*/User:frank"]),
        (robot, "approve", vec![&as_robot]),
        (alice(), "revoke", vec!["requester"]),
    ];
    let mut all: Vec<Attempt> = words
        .into_iter()
        .map(|(who, said, via)| {
            let verdict = match said {
                "deny" => "Deny",
                "revoke" => "Revoke",
                _ => "Approve",
            };
            let mut record = record(&who, verdict, &via);
            if said.starts_with("approve:") {
                record["code"] = json!(CODE);
            }
            says(
                format!("{said} by {} becomes a record", who.name()),
                &who,
                "offered",
                said,
            )
            .on(Stamping)
            .becomes(vec![
                ("/spec/decisions", json!([record])),
                ("/metadata/annotations", Value::Null),
            ])
        })
        .collect();
    all.extend(stamped_in_other_states());
    all
}

fn stamped_in_other_states() -> Vec<Attempt> {
    let coded = format!("approve:{CODE}");
    let nobody_in_particular = bob().without_uid().without_credential();
    let mut blank = record(&nobody_in_particular, "Approve", &["lead/User:bob"]);
    merge(&mut blank, json!({"direct": false}));
    let mut early = record(&alice(), "Revoke", &["requester"]);
    merge(&mut early, json!({"offer": ""}));
    vec![
        says(
            "under impersonation it becomes one that says so",
            &nobody_in_particular,
            "offered",
            "approve",
        )
        .on(Stamping)
        .becomes(vec![("/spec/decisions/0", blank)]),
        says(
            "taken back before there is an offer it names none",
            &alice(),
            "fresh",
            "revoke",
        )
        .on(Stamping)
        .becomes(vec![("/spec/decisions", json!([early]))]),
        says(
            "it comes after what was said before",
            &carol(),
            "said-before",
            "approve",
        )
        .on(Stamping)
        .becomes(vec![(
            "/spec/decisions",
            json!([
                approval("bob", FORMER),
                record(&carol(), "Approve", &["lead/Group:sre"])
            ]),
        )]),
        says("with the right code the policy is content", &bob(), "coded", &coded)
            .on(Stamping)
            .accepted(),
    ]
}

fn stamped_in_the_same_write() -> Vec<Attempt> {
    let also =
        |key: &str, value: &str| json!({"metadata": {"annotations": {"curfew.dev/decision": "approve", key: value}}});
    let mut commented = record(&bob(), "Approve", &["lead/User:bob"]);
    commented["comment"] = json!("seen");
    let mut forged = word("approve");
    forged["status"] = json!({
        "open": [{"stage": "lead", "required": 1, "missing": 1, "users": ["mallory"]}], "revokers": {"users": ["mallory"]},
        "offer": {"digest": FORMER, "code": "f0a3e700", "duration": "5m"},
    });
    let mut both = adding("offered", &[record(&bob(), "Approve", &["lead/User:bob"])]);
    merge(&mut both, word("approve"));
    vec![
        attempt("its comment becomes part of it", &bob())
            .changes(&at("offered"), also("curfew.dev/comment", "seen"))
            .on(Stamping)
            .becomes(vec![
                ("/spec/decisions", json!([commented])),
                ("/metadata/annotations", Value::Null),
            ]),
        attempt("other annotations stay", &bob())
            .changes(&at("offered"), also("team.example/ticket", "OPS-7"))
            .on(Stamping)
            .becomes(vec![("/metadata/annotations", json!({"team.example/ticket": "OPS-7"}))]),
        attempt("a status that comes with it lets nobody in", &mallory())
            .changes(&at("offered"), forged.clone())
            .refused("you are not among those who may approve"),
        attempt("a status that comes with it is no offer", &bob())
            .changes(&at("offered"), forged)
            .on(Stamping)
            .becomes(vec![(
                "/spec/decisions/0",
                record(&bob(), "Approve", &["lead/User:bob"]),
            )]),
        attempt("a word and a record are two", &bob())
            .changes(&at("offered"), both)
            .on(Stamping)
            .refused("one decision at a time"),
    ]
}

fn words_that_mean_nothing() -> Vec<Attempt> {
    let mean_nothing =
        "curfew.dev/decision must be approve, approve:CODE (the code of the offer), deny, revoke or review";
    let mut all = vec![];
    for said in [
        "nonsense",
        "",
        "Approve",
        "approve ",
        "approved",
        "deny:1",
        "revoke now",
        "reviewed",
        "none",
    ] {
        all.push(says(format!("{said:?} means nothing"), &bob(), "offered", said).refused(mean_nothing));
        all.push(
            says(
                format!("{said:?} means nothing on a fresh one"),
                &mallory(),
                "fresh",
                said,
            )
            .refused(mean_nothing),
        );
    }
    let comment = json!({"metadata": {"annotations": {"curfew.dev/comment": "granted for ever"}}});
    for who in [bob(), mallory(), alice()] {
        let told = format!("a comment without a word is nobody's: {}", who.name());
        all.push(
            attempt(told, &who)
                .changes(&at("offered"), comment.clone())
                .refused("curfew.dev/comment goes with a decision, in the same command: kubectl annotate"),
        );
    }
    all
}

/// Words that were there before this write, from a time without guards.
fn planted() -> Vec<Attempt> {
    let label = json!({"metadata": {"labels": {"x": "y"}}});
    let cleared = |key: &str| json!({"metadata": {"annotations": {key: null}}});
    let in_the_way = |name: &str| {
        format!(
            "words left by an earlier write are in the way. Remove them first: kubectl annotate accessrequest {name} -n team curfew.dev/decision- curfew.dev/comment-"
        )
    };
    let (over_word, over_comment) = (in_the_way("planted-word"), in_the_way("planted-comment"));
    vec![
        attempt("a planted word isn't spoken by who comes next", &bob())
            .changes(&at("planted-word"), label.clone())
            .refused(&over_word),
        attempt("a planted word isn't spoken by an outsider", &mallory())
            .changes(&at("planted-word"), label)
            .refused("you are not among those who may approve"),
        says("over a planted word none is spoken", &bob(), "planted-word", "deny").refused(&over_word),
        says(
            "over a planted comment no word is spoken",
            &bob(),
            "planted-comment",
            "approve",
        )
        .refused(&over_comment),
        says(
            "over a planted comment nothing is denied",
            &bob(),
            "planted-comment",
            "deny",
        )
        .refused(&over_comment),
        attempt("anybody takes a planted word away", &mallory())
            .changes(&at("planted-word"), cleared("curfew.dev/decision"))
            .accepted(),
        attempt("anybody takes a planted comment away", &mallory())
            .changes(&at("planted-comment"), cleared("curfew.dev/comment"))
            .accepted(),
    ]
}

/// What stamping leaves alone, or makes nothing of, is refused for its true reason.
fn left_over() -> Vec<Attempt> {
    let own = || adding("offered", &[record(&bob(), "Approve", &["lead/User:bob"])]);
    let and = |key: &str, value: &str| {
        let mut both = own();
        both["metadata"] = json!({"annotations": {key: value}});
        both
    };
    let mut all = vec![
        attempt("a record comes without a word", &bob())
            .changes(&at("offered"), and("curfew.dev/decision", "nonsense"))
            .refused(
                "decide either by the annotation curfew.dev/decision or by a record in spec.decisions, not by both",
            ),
        attempt("a record comes without a comment beside it", &bob())
            .changes(&at("offered"), and("curfew.dev/comment", "hm"))
            .refused(
                "decide either by the annotation curfew.dev/decision or by a record in spec.decisions, not by both",
            ),
        says("once granted nothing is approved", &bob(), "sealed", "approve")
            .refused("this request was granted already"),
        says("once granted nothing is denied", &bob(), "sealed", "deny").refused("this request was granted already"),
        says("what is being deleted is not decided on", &bob(), "going", "approve")
            .refused("this request is being deleted"),
        says("what has ended is not decided on", &bob(), "expired", "revoke")
            .refused("this request has ended (Expired)"),
        says("one's own request is not approved", &alice(), "offered", "approve")
            .refused("you can't approve your own request"),
        says("one's own request is not denied", &alice(), "offered", "deny").refused("you can't deny your own request"),
        says("what was said isn't said again", &bob(), "said", "approve").refused("you have said this already"),
        says("there is no room for another approval", &bob(), "full", "approve").refused("too much has been said"),
        says("the code may be wanted", &bob(), "coded", "approve")
            .refused("the policy wants the code of the offer with an approval"),
        says(
            "a credential may be wanted",
            &bob().without_credential(),
            "direct",
            "approve",
        )
        .refused("the policy wants approvals and reviews under a credential"),
        says(
            "who can act as the account that asks doesn't approve",
            &Who::person(ACTORS[0].name, &["sre"]),
            "robots",
            "approve",
        )
        .refused("this would be your own request"),
    ];
    for said in ["approve", "approve:", "approve:d1935700", "deny"] {
        all.push(
            says(format!("before there is an offer: {said}"), &bob(), "fresh", said)
                .refused("there is no offer to decide on yet. Try again in a second"),
        );
    }
    for (who, said) in [
        (mallory(), "approve"),
        (mallory(), "deny"),
        (mallory(), "revoke"),
        (frank(), "approve"),
        (erin(), "deny"),
    ] {
        let verdict = said.split(':').next().unwrap();
        all.push(
            says(format!("{said} isn't said by {}", who.name()), &who, "offered", said)
                .refused(&format!("you are not among those who may {verdict} this request now")),
        );
    }
    for code in ["00000000", "", "d193570", "d1935700 ", "approve:d1935700"] {
        all.push(
            says(format!("a wrong code is told the right one: {code:?}"), &bob(), "offered", &format!("approve:{code}")).refused(
                "the code isn't that of the offer that stands, which is d1935700. Look at the request again before you decide: kubectl get accessrequest offered -n team -o yaml",
            ),
        );
    }
    all
}

/// Where policies can't mutate, who says a word that would count is told what to use instead.
fn not_stamped() -> Vec<Attempt> {
    let coded = format!("approve:{CODE}");
    [
        (bob(), "approve"),
        (bob(), &coded),
        (bob(), "deny"),
        (bob(), "revoke"),
        (alice(), "revoke"),
    ]
    .into_iter()
    .map(|(who, said)| {
        let verdict = said.split(':').next().unwrap();
        says(
            format!("{said} by {} is told what to use", who.name()),
            &who,
            "offered",
            said,
        )
        .on(Older)
        .refused(&format!(
            "(that takes Kubernetes 1.36). Use: kubectl curfew {verdict} offered -n team"
        ))
    })
    .collect()
}
