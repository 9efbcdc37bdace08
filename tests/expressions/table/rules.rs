//! What the definitions themselves refuse, whatever admission policies there are: durations that are none, names that are none, and changes of what was
//! asked, said and granted.

use serde_json::{Value, json};

use super::decisions::{at, bob, record};
use crate::attempt::{Attempt, Who, attempt, path};
use crate::states::{CODE, DIGEST, FORMER, alice, approval, grant, merge, policy, request};

const DURATION: &str = "must be a duration such as 90s, 30m or 1h30m: whole numbers of h, m and s, from 1s to 8760h";
const ACCOUNTS: &str = "service accounts are named under serviceAccounts";
const ROLE: &str = "a role is named in full; there are no wildcards";
/// Each is refused by another part of the rule.
const NO_DURATIONS: [&str; 6] = ["1h1", "1.5h", "-1h", "0s", "8761h", "1d"];
const DURATIONS: [&str; 4] = ["1s", "8760h", "90s", "1h30m"];

pub fn of_requests() -> Vec<Attempt> {
    let mut all = what_is_asked();
    all.extend(nothing_changes());
    all.extend(decisions_are_added_alone());
    for text in NO_DURATIONS {
        let status = json!({"status": {"offer": {"digest": DIGEST, "code": CODE, "duration": text}}});
        all.push(
            attempt(format!("no offer is for {text}"), &Who::operator())
                .changes(&format!("{}/status", at("fresh")), status)
                .refused(DURATION),
        );
    }
    all
}

fn what_is_asked() -> Vec<Attempt> {
    let asks = |told: String, fields: Value| attempt(told, &alice()).creates(request("new", fields));
    let mut all: Vec<Attempt> = NO_DURATIONS
        .iter()
        .map(|text| asks(format!("nobody asks for {text}"), json!({"duration": text})).refused(DURATION))
        .collect();
    all.extend(
        DURATIONS
            .iter()
            .map(|text| asks(format!("one may ask for {text}"), json!({"duration": text})).accepted()),
    );
    for name in ["*", "read*"] {
        all.push(
            asks(
                format!("nobody asks for the role {name}"),
                json!({"role": {"name": name}}),
            )
            .refused(ROLE),
        );
    }
    all.push(asks("one may ask for no duration".into(), json!({"duration": null})).accepted());
    all.push(
        asks(
            "one may ask for two namespaces".into(),
            json!({"namespaces": ["a", "b"]}),
        )
        .accepted(),
    );
    for names in [json!(["a", "a"]), json!(["a", "b", "a"])] {
        all.push(
            asks(format!("nobody asks for {names}"), json!({"namespaces": names}))
                .refused("each namespace is named once"),
        );
    }
    all.extend(what_goes_together());
    all
}

fn what_goes_together() -> Vec<Attempt> {
    let together = "namespacesFromPolicy goes with policy, and without namespaces";
    let alone = "clusterWide goes without namespaces and namespacesFromPolicy";
    let later = "2030-01-01T00:00:00Z";
    let asks =
        |fields: Value| attempt(format!("somebody asks with {fields}"), &alice()).creates(request("new", fields));
    vec![
        asks(json!({"extends": "one", "startTime": later})).refused("extends goes without startTime"),
        asks(json!({"extends": "one"})).accepted(),
        asks(json!({"startTime": later})).accepted(),
        asks(json!({"startTime": "9998-12-31T23:59:59Z"})).accepted(),
        asks(json!({"startTime": "9999-01-01T00:00:00Z"})).refused("startTime must be before the year 9999"),
        asks(json!({"startTime": "2030-01-01T00:00:00ZTrubbish"})).refused("startTime"),
        asks(json!({"clusterWide": true})).accepted(),
        asks(json!({"clusterWide": true, "namespacesFromPolicy": false})).accepted(),
        asks(json!({"clusterWide": false, "namespaces": ["a"]})).accepted(),
        asks(json!({"clusterWide": true, "namespaces": ["a"]})).refused(alone),
        asks(json!({"clusterWide": true, "namespacesFromPolicy": true, "policy": "one"})).refused(alone),
        asks(json!({"clusterWide": false, "namespacesFromPolicy": true, "policy": "one"})).accepted(),
        asks(json!({"namespacesFromPolicy": true, "policy": "one"})).accepted(),
        asks(json!({"namespacesFromPolicy": true})).refused(together),
        asks(json!({"namespacesFromPolicy": true, "policy": "one", "namespaces": ["a"]})).refused(together),
        asks(json!({"namespacesFromPolicy": false, "namespaces": ["a"]})).accepted(),
    ]
}

fn nothing_changes() -> Vec<Attempt> {
    let changes = |name: &str, field: &str, value: &Value| {
        attempt(format!("{field} of {name} doesn't become {value}"), &Who::admin())
            .changes(&at(name), json!({"spec": {field: value}}))
            .refused(&format!("{field} can't be changed"))
    };
    let optional = [
        ("policy", json!("one"), json!("another")),
        ("namespaces", json!(["a", "b"]), json!(["a"])),
        ("namespacesFromPolicy", json!(false), json!(true)),
        ("clusterWide", json!(false), json!(true)),
        ("duration", json!("60m"), json!("1h")),
        (
            "startTime",
            json!("2030-01-01T00:00:00Z"),
            json!("2030-01-01T00:00:01Z"),
        ),
        ("extends", json!("one"), json!("another")),
        ("reason", json!("one"), json!("")),
    ];
    let mut all = vec![];
    for (field, value, other) in &optional {
        let has_it = if *field == "startTime" { "later" } else { "filled" };
        all.push(changes(has_it, field, other));
        all.push(changes(has_it, field, &Value::Null));
        all.push(changes("bare", field, value));
    }
    let requester = [
        json!({"username": "mallory"}),
        json!({"uid": "another"}),
        json!({"groups": ["sre"]}),
        Value::Null,
    ];
    for (field, value) in requester.iter().map(|value| ("requester", value)).chain([
        ("role", &json!({"name": "other"})),
        ("role", &json!({"kind": "ClusterRole"})),
    ]) {
        all.push(changes("filled", field, value));
    }
    all.push(changes("nobodys", "requester", &alice().identity()));
    for name in ["filled", "later", "bare", "nobodys"] {
        let told = format!("what isn't asked is free: {name}");
        all.push(
            attempt(told, &Who::admin())
                .changes(&at(name), json!({"metadata": {"labels": {"x": "y"}}}))
                .accepted(),
        );
    }
    all
}

fn decisions_are_added_alone() -> Vec<Attempt> {
    let (first, second) = (approval("bob", DIGEST), approval("carol", DIGEST));
    let changed = |fields: Value| {
        let mut record = first.clone();
        merge(&mut record, fields);
        json!([record, second])
    };
    let denial = record(&bob(), "Deny", &["*/User:bob"]);
    let lists = [
        Value::Null,
        json!([]),
        json!([first]),
        json!([second]),
        json!([second, first]),
        json!([first, first]),
        json!([second, first, denial]),
        changed(json!({"verdict": "Deny"})),
        changed(json!({"username": "mallory"})),
        changed(json!({"comment": "I didn't say this"})),
        changed(json!({"offer": FORMER})),
    ];
    let mut all: Vec<Attempt> = lists
        .into_iter()
        .map(|list| {
            attempt(format!("what was said doesn't become {list}"), &bob())
                .changes(&at("two-said"), json!({"spec": {"decisions": list}}))
                .refused("Invalid value: decisions are only ever added at the end")
        })
        .collect();
    all.push(
        attempt("what was said may be added to", &bob())
            .changes(&at("two-said"), json!({"spec": {"decisions": [first, second, denial]}}))
            .accepted(),
    );
    all
}

pub fn of_records() -> Vec<Attempt> {
    let mut all = policies();
    all.extend(chains());
    all.extend(durations_of_grants());
    all.extend(words_or_none());
    all.extend(somewhere());
    let edits = [
        json!({"duration": "8h"}),
        json!({"subject": {"name": "mallory"}}),
        json!({"revokers": {"users": ["mallory"]}}),
        json!({"reason": "another"}),
    ];
    for edit in edits {
        for who in [Who::operator(), Who::admin()] {
            let told = format!("no grant is changed: {edit} by {:?}", who.name());
            all.push(
                attempt(told, &who)
                    .changes(&path(&grant("stands")), json!({"spec": edit}))
                    .refused("a grant can't be changed"),
            );
        }
    }
    let label = json!({"metadata": {"labels": {"x": "y"}}});
    all.push(
        attempt("a grant may be labelled", &Who::operator())
            .changes(&path(&grant("stands")), label)
            .accepted(),
    );
    all
}

fn durations_of_grants() -> Vec<Attempt> {
    let makes = |told: String, fields: Value| {
        let mut object = grant("new");
        merge(&mut object["spec"], fields);
        attempt(told, &Who::operator()).creates(object)
    };
    let places: [Place; 3] = [
        ("duration", |text| json!({"duration": text})),
        ("retention", |text| json!({"retention": text})),
        (
            "review.within",
            |text| json!({"review": {"reviewers": {}, "within": text}}),
        ),
    ];
    let mut all = vec![];
    for (place, spec) in places {
        let none = NO_DURATIONS.iter();
        all.extend(none.map(|text| makes(format!("a grant's {place} is not {text}"), spec(text)).refused(DURATION)));
        let some = DURATIONS.iter();
        all.extend(some.map(|text| makes(format!("a grant's {place} may be {text}"), spec(text)).accepted()));
    }
    all
}

/// A grant is for namespaces, or for the whole cluster.
fn somewhere() -> Vec<Attempt> {
    let makes = |told: &str, fields: Value| {
        let mut object = grant("new");
        merge(&mut object["spec"], fields);
        attempt(told, &Who::operator()).creates(object)
    };
    let why = "a grant is for namespaces, or for the whole cluster";
    vec![
        makes("a grant is for a namespace", json!({"clusterWide": false})).accepted(),
        makes(
            "a grant is for the whole cluster",
            json!({"targets": null, "clusterWide": true}),
        )
        .accepted(),
        makes(
            "a grant for the whole cluster may say that it has no namespaces",
            json!({"targets": [], "clusterWide": true}),
        )
        .accepted(),
        makes("no grant is for nothing", json!({"targets": null})).refused(why),
        makes("no grant is for no namespace", json!({"targets": []})).refused(why),
        makes(
            "no grant is for nothing, whatever it says",
            json!({"targets": null, "clusterWide": false}),
        )
        .refused(why),
        makes("no grant is for both", json!({"clusterWide": true})).refused(why),
    ]
}

/// A grant rests on words, or its policy takes none.
fn words_or_none() -> Vec<Attempt> {
    let makes = |told: &str, decisions: Value, break_glass: Value| {
        let mut object = grant("new");
        object["spec"]["decisions"] = decisions;
        merge(&mut object["spec"], json!({"breakGlass": break_glass}));
        attempt(told, &Who::operator()).creates(object)
    };
    let words = || json!([approval("bob", DIGEST)]);
    let why = "a grant rests on decisions, or is break-glass";
    vec![
        makes("a grant rests on words", words(), json!(false)).accepted(),
        makes("a grant that is break-glass rests on none", json!([]), json!(true)).accepted(),
        makes("no grant rests on nothing", json!([]), Value::Null).refused(why),
        makes("no grant rests on nothing, whatever it says", json!([]), json!(false)).refused(why),
        makes("no grant is both", words(), json!(true)).refused(why),
    ]
}

/// What a policy may say of its stages.
fn chains() -> Vec<Attempt> {
    let writes = |told: &str, approval: Value| {
        let mut object = policy("new");
        object["spec"]["approval"] = approval;
        attempt(told, &Who::admin()).creates(object)
    };
    let stage = |name: &str| json!({"name": name, "approvers": {"groups": ["sre"]}});
    let with = |fields: Value| {
        let mut stage = stage("lead");
        merge(&mut stage, fields);
        json!({"stages": [stage]})
    };
    let once = "each stage needs a name of its own";
    vec![
        writes("a policy takes no approval", json!({"breakGlass": {}})).accepted(),
        writes(
            "a policy has two stages",
            json!({"stages": [stage("lead"), stage("security")]}),
        )
        .accepted(),
        writes(
            "no two stages have one name",
            json!({"stages": [stage("lead"), stage("lead")]}),
        )
        .refused(once),
        writes(
            "no two stages of three have one name",
            json!({"stages": [stage("lead"), stage("security"), stage("lead")]}),
        )
        .refused(once),
        writes(
            "a stage escalates",
            with(json!({"timeout": "1h", "escalateTo": {"users": ["eve"]}})),
        )
        .accepted(),
        writes("a stage times out", with(json!({"timeout": "1h"}))).accepted(),
        writes(
            "no stage escalates at no time",
            with(json!({"escalateTo": {"users": ["eve"]}})),
        )
        .refused("escalateTo goes with a timeout: it says when"),
    ]
}

/// A policy's spec, with this text at one of its places.
type Place = (&'static str, fn(&str) -> Value);

fn policies() -> Vec<Attempt> {
    let writes = |told: String, fields: Value| {
        let mut object = policy("new");
        merge(&mut object["spec"], fields);
        attempt(told, &Who::admin()).creates(object)
    };
    let durations: [Place; 8] = [
        ("maxDuration", |text| json!({"maxDuration": text})),
        ("defaultDuration", |text| json!({"defaultDuration": text})),
        ("maxTotalDuration", |text| json!({"maxTotalDuration": text})),
        ("requestTTL", |text| json!({"requestTTL": text})),
        ("retention", |text| json!({"retention": text})),
        ("startTolerance", |text| json!({"startTolerance": text})),
        (
            "review.within",
            |text| json!({"review": {"approvers": {"groups": ["sre"]}, "within": text}}),
        ),
        (
            "timeout",
            |text| json!({"approval": {"stages": [{"name": "lead", "approvers": {"groups": ["sre"]}, "timeout": text}]}}),
        ),
    ];
    let people: [Place; 4] = [
        ("requesters", |name| json!({"requesters": {"users": ["alice", name]}})),
        (
            "approvers",
            |name| json!({"approval": {"stages": [{"name": "lead", "approvers": {"users": ["bob", name]}}]}}),
        ),
        ("escalateTo", |name| {
            let stage = json!({"name": "lead", "approvers": {"groups": ["sre"]}, "timeout": "1h", "escalateTo": {"users": ["bob", name]}});
            json!({"approval": {"stages": [stage]}})
        }),
        (
            "review",
            |name| json!({"review": {"approvers": {"users": ["bob", name]}}}),
        ),
    ];
    let mut all = vec![];
    for (place, spec) in durations {
        all.extend(
            NO_DURATIONS
                .iter()
                .map(|text| writes(format!("{place} is not {text}"), spec(text)).refused(DURATION)),
        );
        all.extend(
            DURATIONS
                .iter()
                .map(|text| writes(format!("{place} may be {text}"), spec(text)).accepted()),
        );
    }
    for (place, spec) in people {
        let robot = "system:serviceaccount:team:robot";
        all.push(writes(format!("{place}: a service account is no user"), spec(robot)).refused(ACCOUNTS));
        all.push(
            writes(
                format!("{place}: a component may be a user"),
                spec("system:kube-scheduler"),
            )
            .accepted(),
        );
    }
    for name in ["*", "read*"] {
        let roles = json!({"roles": [{"kind": "Role", "name": "reader"}, {"kind": "Role", "name": name}]});
        all.push(writes(format!("no policy is about the role {name}"), roles).refused(ROLE));
    }
    all
}
