//! Decisions as records at the end of `spec.decisions`, written by hand as the plugin writes them: each is its speaker's own, about the offer that stands.
//! `curfew-decisions`, on every API server.

use serde_json::{Value, json};

use crate::attempt::{Attempt, Open, TEAM, Who, attempt, path};
use crate::states::{ACTORS, CODE, DIGEST, FORMER, alice, merge, said_on, unnamed};

pub fn attempts() -> Vec<Attempt> {
    let mut all = who_may_speak();
    all.extend(nobody_else_may());
    all.extend(records_are_true());
    all.extend(with_less_to_say_of_oneself());
    all.extend(too_late_or_too_soon());
    all.extend(on_ones_own_request());
    all.extend(said_once());
    all.extend(what_the_policy_demands());
    all.extend(for_a_service_account());
    all.extend(what_is_no_decision());
    all
}

pub fn bob() -> Who {
    Who::person("bob", &["sre"])
}

pub fn carol() -> Who {
    Who::person("carol", &["sre"])
}

/// In two stages at once.
pub fn dave() -> Who {
    Who::person("dave", &["sre", "sec"])
}

/// In the second stage alone, and not among those who may revoke.
pub fn erin() -> Who {
    Who::person("erin", &["sec"])
}

/// Who may deny and revoke, and not approve now.
pub fn frank() -> Who {
    Who::person("frank", &["finance"])
}

pub fn mallory() -> Who {
    Who::person("mallory", &["outsiders"])
}

/// In two groups that both open the same door.
pub fn grace() -> Who {
    Who::person("grace", &["ops", "sre"])
}

/// Where a request is.
pub fn at(name: &str) -> String {
    path(&unnamed(name))
}

/// What `who` says on an offer, as the plugin writes it.
pub fn record(who: &Who, verdict: &str, via: &[&str]) -> Value {
    json!({"verdict": verdict, "username": who.name(), "uid": who.uid(), "via": via, "offer": DIGEST, "direct": true})
}

/// The same with these fields; `null` takes one out.
fn with(mut record: Value, fields: Value) -> Value {
    merge(&mut record, fields);
    record
}

/// The write by which these records come to the end of what was said on that request.
pub fn adding(name: &str, records: &[Value]) -> Value {
    let mut decisions = said_on(name);
    decisions.as_array_mut().unwrap().extend(records.iter().cloned());
    json!({"spec": {"decisions": decisions}})
}

fn speaks(told: impl Into<String>, who: &Who, name: &str, record: &Value) -> Open {
    attempt(told, who).changes(&at(name), adding(name, std::slice::from_ref(record)))
}

fn who_may_speak() -> Vec<Attempt> {
    let robot = Who::account("approver", &["system:serviceaccounts"]);
    let as_robot = format!("/User:{}", robot.name());
    let (lead, any) = (format!("lead{as_robot}"), format!("*{as_robot}"));
    let may = [
        (bob(), "Approve", vec!["lead/User:bob"]),
        (bob(), "Deny", vec!["*/User:bob"]),
        (bob(), "Revoke", vec!["*/User:bob"]),
        (carol(), "Approve", vec!["lead/Group:sre"]),
        (carol(), "Deny", vec!["*/Group:sre"]),
        (carol(), "Revoke", vec!["*/Group:sre"]),
        (dave(), "Approve", vec!["lead/Group:sre", "security/Group:sec"]),
        (dave(), "Deny", vec!["*/Group:sre"]),
        (grace(), "Approve", vec!["lead/Group:sre"]),
        (erin(), "Approve", vec!["security/Group:sec"]),
        (frank(), "Deny", vec!["*/User:frank"]),
        (alice(), "Revoke", vec!["requester"]),
        (robot.clone(), "Approve", vec![&lead]),
        (robot.clone(), "Deny", vec![&any]),
    ];
    may.iter()
        .map(|(who, verdict, via)| {
            let record = record(who, verdict, via);
            let told = format!("{verdict} is said by whom it is left to: {}", who.name());
            speaks(told, who, "offered", &record).becomes(vec![("/spec/decisions/0", record.clone())])
        })
        .collect()
}

fn nobody_else_may() -> Vec<Attempt> {
    let machine = Who::account("machine", &["sre"]);
    let may_not = [
        (mallory(), "Approve", "lead/User:mallory"),
        (mallory(), "Deny", "*/User:mallory"),
        (mallory(), "Revoke", "requester"),
        (frank(), "Approve", "*/User:frank"),
        (erin(), "Deny", "security/Group:sec"),
        (erin(), "Revoke", "security/Group:sec"),
        (machine.clone(), "Approve", "lead/Group:sre"),
        (machine, "Deny", "*/Group:sre"),
        (Who::person("root", &["system:masters"]), "Approve", "lead/Group:sre"),
    ];
    let mut all: Vec<Attempt> = may_not
        .iter()
        .map(|(who, verdict, via)| {
            let list = if *verdict == "Approve" { "status.open" } else { "status.revokers" };
            let because = format!(
                "you are not among those who may {} this request now. To see who is: kubectl get accessrequest offered -n {TEAM} -o yaml, {list}",
                verdict.to_lowercase()
            );
            let told = format!("{verdict} isn't said by whom it isn't left to: {}", who.name());
            speaks(told, who, "offered", &record(who, verdict, &[via])).refused(&because)
        })
        .collect();
    all.push(
        speaks(
            "where nobody is named, nobody denies",
            &bob(),
            "fresh",
            &with(record(&bob(), "Revoke", &["*/User:bob"]), json!({"offer": ""})),
        )
        .refused("you are not among those who may revoke"),
    );
    all
}

fn records_are_true() -> Vec<Attempt> {
    let own = || record(&bob(), "Approve", &["lead/User:bob"]);
    let (name, via, direct) = (
        "only be recorded in your own name",
        "via must say exactly",
        "direct must say whether",
    );
    let (offer, code) = (
        "the offer is another by now",
        "the code isn't that of the offer that stands, which is d1935700. Look",
    );
    let lies = [
        (json!({"username": "carol"}), name),
        (json!({"username": "Bob"}), name),
        (json!({"uid": "uid-carol"}), name),
        (json!({"uid": null}), name),
        (json!({"via": ["lead/Group:sre"]}), via),
        (json!({"via": ["lead/User:bob", "security/Group:sec"]}), via),
        (json!({"via": ["*/User:bob"]}), via),
        (json!({"direct": false}), direct),
        (json!({"direct": null}), direct),
        (json!({"offer": FORMER}), offer),
        (json!({"offer": null}), offer),
        (json!({"code": "00000000"}), code),
        (json!({"code": ""}), code),
    ];
    let mut all: Vec<Attempt> = lies
        .iter()
        .map(|(lie, because)| {
            speaks(
                format!("a record is true: {lie}"),
                &bob(),
                "offered",
                &with(own(), lie.clone()),
            )
            .refused(because)
        })
        .collect();
    all.extend([
        speaks(
            "a record may name the code",
            &bob(),
            "offered",
            &with(own(), json!({"code": CODE})),
        )
        .accepted(),
        speaks(
            "a revocation's code is right too",
            &bob(),
            "offered",
            &with(record(&bob(), "Revoke", &["*/User:bob"]), json!({"code": "00000000"})),
        )
        .refused(code),
        speaks(
            "no code is right where there is no offer",
            &alice(),
            "fresh",
            &with(
                record(&alice(), "Revoke", &["requester"]),
                json!({"offer": "", "code": ""}),
            ),
        )
        .refused("the code isn't that of the offer that stands, which is none"),
    ]);
    all
}

fn with_less_to_say_of_oneself() -> Vec<Attempt> {
    let own = || record(&bob(), "Approve", &["lead/User:bob"]);
    let (nameless, secondhand) = (bob().without_uid(), bob().without_credential());
    vec![
        speaks("whoever has no uid records none", &nameless, "offered", &own())
            .refused("only be recorded in your own name"),
        speaks(
            "without a uid one speaks without",
            &nameless,
            "offered",
            &with(own(), json!({"uid": null})),
        )
        .accepted(),
        speaks("under impersonation nobody is direct", &secondhand, "offered", &own())
            .refused("direct must say whether"),
        speaks(
            "under impersonation a record says so",
            &secondhand,
            "offered",
            &with(own(), json!({"direct": false})),
        )
        .accepted(),
        speaks(
            "under impersonation a record may say nothing of it",
            &secondhand,
            "offered",
            &with(own(), json!({"direct": null})),
        )
        .accepted(),
    ]
}

fn too_late_or_too_soon() -> Vec<Attempt> {
    let words = || {
        [
            (bob(), record(&bob(), "Approve", &["lead/User:bob"])),
            (bob(), record(&bob(), "Deny", &["*/User:bob"])),
            (bob(), record(&bob(), "Revoke", &["*/User:bob"])),
            (alice(), record(&alice(), "Revoke", &["requester"])),
        ]
    };
    let mut all = vec![];
    for (who, record) in words() {
        let told = format!("{} by {}", record["verdict"].as_str().unwrap(), who.name());
        let gives_back = record["verdict"] == "Revoke";
        all.push(
            speaks(
                format!("too late, for it is being deleted: {told}"),
                &who,
                "going",
                &record,
            )
            .refused("this request is being deleted"),
        );
        for phase in ["Denied", "Withdrawn", "Revoked", "Expired", "Failed"] {
            let because =
                format!("this request has ended ({phase}): nothing can be decided on it any more. Make a new one");
            all.push(
                speaks(
                    format!("too late, for it is {phase}: {told}"),
                    &who,
                    &phase.to_lowercase(),
                    &record,
                )
                .refused(&because),
            );
        }
        let granted = speaks(format!("once granted: {told}"), &who, "sealed", &record);
        all.push(if gives_back {
            granted.accepted()
        } else {
            granted.refused("this request was granted already")
        });
        if !gives_back {
            all.push(
                speaks(format!("before there is an offer: {told}"), &who, "fresh", &with(record, json!({"offer": null})))
                    .refused("there is no offer to decide on yet. Try again in a second; kubectl get accessrequest fresh -n team -o wide"),
            );
        }
    }
    let early = with(record(&alice(), "Revoke", &["requester"]), json!({"offer": null}));
    all.push(
        speaks(
            "before there is an offer a request can be taken back",
            &alice(),
            "fresh",
            &early,
        )
        .accepted(),
    );
    all
}

fn on_ones_own_request() -> Vec<Attempt> {
    let (approves, denies) = (
        record(&alice(), "Approve", &["lead/User:alice"]),
        record(&alice(), "Deny", &["*/User:alice"]),
    );
    let unasked = record(&bob(), "Approve", &["lead/User:bob"]);
    let robot = Who::account("robot", &["system:serviceaccounts"]);
    vec![
        speaks("nobody approves their own request", &alice(), "offered", &approves)
            .refused("you can't approve your own request; someone else must"),
        speaks("nobody denies their own request", &alice(), "offered", &denies).refused(
            "you can't deny your own request. To take it back: kubectl annotate accessrequest offered -n team curfew.dev/decision=revoke",
        ),
        speaks("a request in nobody's name is nobody's own", &bob(), "nobodys", &unasked).accepted(),
        speaks("a service account takes its request back", &robot, "robots", &record(&robot, "Revoke", &["requester"])).accepted(),
        speaks("a service account doesn't approve its request", &robot, "robots", &record(&robot, "Approve", &["lead/Group:sre"]))
            .refused("you can't approve your own request"),
    ]
}

fn said_once() -> Vec<Attempt> {
    let approves = |who: &Who, via: &str| record(who, "Approve", &[via]);
    let (by_name, by_group) = ("lead/User:bob", "lead/Group:sre");
    vec![
        speaks(
            "what was said isn't said again",
            &bob(),
            "said",
            &approves(&bob(), by_name),
        )
        .refused("you have said this already"),
        speaks(
            "it is said by somebody else",
            &carol(),
            "said",
            &approves(&carol(), by_group),
        )
        .accepted(),
        speaks(
            "who approved may deny",
            &bob(),
            "said",
            &record(&bob(), "Deny", &["*/User:bob"]),
        )
        .accepted(),
        speaks(
            "another offer needs another word",
            &bob(),
            "said-before",
            &approves(&bob(), by_name),
        )
        .accepted(),
        speaks(
            "there is room for a 48th approval",
            &bob(),
            "nearly-full",
            &approves(&bob(), by_name),
        )
        .accepted(),
        speaks(
            "there is no room for a 49th",
            &bob(),
            "full",
            &approves(&bob(), by_name),
        )
        .refused("too much has been said"),
        speaks(
            "there is room for a denial then",
            &bob(),
            "full",
            &record(&bob(), "Deny", &["*/User:bob"]),
        )
        .accepted(),
        attempt("one write holds one word", &bob())
            .changes(
                &at("offered"),
                adding(
                    "offered",
                    &[approves(&bob(), by_name), record(&bob(), "Deny", &["*/User:bob"])],
                ),
            )
            .refused("one decision at a time"),
    ]
}

fn what_the_policy_demands() -> Vec<Attempt> {
    let own = |verdict: &str| {
        record(
            &bob(),
            verdict,
            &[if verdict == "Approve" {
                "lead/User:bob"
            } else {
                "*/User:bob"
            }],
        )
    };
    let secondhand = bob().without_credential();
    let indirect = |verdict: &str| with(own(verdict), json!({"direct": false}));
    vec![
        speaks("a policy may want the code", &bob(), "coded", &own("Approve")).refused(
            "the policy wants the code of the offer with an approval. Look at the request, then: kubectl annotate accessrequest coded -n team curfew.dev/decision=approve:d1935700",
        ),
        speaks("with the code it is content", &bob(), "coded", &with(own("Approve"), json!({"code": CODE}))).accepted(),
        speaks("a denial needs no code", &bob(), "coded", &own("Deny")).accepted(),
        speaks("a policy may want a credential of one's own", &secondhand, "direct", &indirect("Approve"))
            .refused("the policy wants approvals and reviews under a credential of your own"),
        speaks("with one it is content", &bob(), "direct", &own("Approve")).accepted(),
        speaks("a denial needs none", &secondhand, "direct", &indirect("Deny")).accepted(),
        speaks("a revocation needs none", &secondhand, "direct", &indirect("Revoke")).accepted(),
        attempt("what is no decision needs none", &secondhand)
            .changes(&at("direct"), json!({"metadata": {"labels": {"x": "y"}}}))
            .accepted(),
    ]
}

fn for_a_service_account() -> Vec<Attempt> {
    let mut all = vec![
        speaks(
            "who can't act as the account that asks approves for it",
            &carol(),
            "robots",
            &record(&carol(), "Approve", &["lead/Group:sre"]),
        )
        .accepted(),
    ];
    for actor in ACTORS {
        let who = Who::person(actor.name, &["sre"]);
        let told = |what: &str| format!("who {} {what}", actor.name);
        let (approves, denies) = (
            record(&who, "Approve", &["lead/Group:sre"]),
            record(&who, "Deny", &["*/Group:sre"]),
        );
        let for_it = speaks(told("approves for the account that asks"), &who, "robots", &approves);
        all.push(match (actor.only, actor.resource, actor.verb) {
            (Some(_), ..) => for_it.accepted(),
            (None, _, "impersonate") | (None, "serviceaccounts/token", _) => {
                for_it.refused("you may impersonate the service account that asks, or mint its tokens")
            }
            (None, "serviceaccounts", _) | (None, "secrets", "create") => {
                for_it.refused("you may impersonate the service account that asks, or create secrets with its tokens")
            }
            _ => {
                for_it.refused("you may read secrets, run pods or bind roles where the service account that asks lives")
            }
        });
        all.push(speaks(told("denies it"), &who, "robots", &denies).accepted());
        let revokes = record(&who, "Revoke", &["*/Group:sre"]);
        all.push(speaks(told("revokes it"), &who, "robots", &revokes).accepted());
        let label = json!({"metadata": {"labels": {"x": "y"}}});
        all.push(
            attempt(told("labels it"), &who)
                .changes(&at("robots"), label)
                .accepted(),
        );
        all.push(speaks(told("approves for a person"), &who, "offered", &approves).accepted());
    }
    all
}

/// Most updates say nothing, and are nobody's matter.
fn what_is_no_decision() -> Vec<Attempt> {
    let labels = json!({"metadata": {"labels": {"x": "y"}, "annotations": {"team.example/ticket": "OPS-7"}}});
    let states = [
        "fresh", "offered", "coded", "direct", "said", "full", "sealed", "going", "denied", "expired", "robots",
        "nobodys",
    ];
    let mut all = vec![];
    for name in states {
        for who in [mallory(), alice(), bob()] {
            let told = format!("a label is no decision: {name} by {}", who.name());
            all.push(attempt(told, &who).changes(&at(name), labels.clone()).accepted());
        }
    }
    all
}
