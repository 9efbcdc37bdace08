//! The auditor: looks at what was, by a history of its own and the API server's audit log, and says what ought not to have been.
//!
//! It shares no code with what it judges: of the product it knows the types that users write and read, and the marks on bindings, which it spells itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use curfew::api::{AccessGrant, AccessRequest, GrantPhase, Verdict};
use curfew_testbed::AuditEvent;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{Resource, ResourceExt};

use crate::history::{Pages, Version};
use crate::instance::{Bystanders, is_managed};
use crate::invariants::violated_throughout;
use crate::patient::Outage;

/// So long after its deadline a binding may be there, while the operator and the API server answer. Of this the operator needs a few milliseconds; the rest
/// is for a machine that does other things too. For an operator that was away it counts from its readiness: before that it can't know what is due.
const MARGIN: Duration = Duration::from_secs(2);

/// Between what was done and what is told of it lies no more than this.
const SOON: Duration = Duration::from_secs(1);

/// What the auditor is told of an instance, by those who played it.
pub struct Subject {
    pub id: String,
    /// For messages: scenario and fault.
    pub told: String,
    pub lasts: Duration,
    /// So many approvals are needed, and these may give them.
    pub approvals: usize,
    pub approvers: &'static [&'static str],
    pub requester: String,
    pub role: (&'static str, String),
    /// By how much more than the margin the fault may delay an end.
    pub may_delay: Duration,
    /// In so many namespaces it is asked for.
    pub namespaces: usize,
    /// Whether no two accesses may be there at once.
    pub one_at_a_time: bool,
    /// So many bindings of one name a grant may have had in each.
    pub bindings: usize,
    /// Whether one more is no wonder where the operator was killed when it had deleted one.
    pub may_take_back: bool,
    /// Whether the API server may make a binding long after the operator was told nothing of it: perhaps just when it is said that none is left.
    pub binding_may_come_late: bool,
    pub before: Bystanders,
    pub after: Bystanders,
}

/// What the auditor looks at.
pub struct Evidence<'a> {
    pub pages: &'a Pages,
    pub log: &'a [AuditEvent],
    pub outages: &'a [Outage],
    /// What the operator wrote about an instance.
    pub said_of: &'a dyn Fn(&str) -> String,
    /// The operator's user name and namespace.
    pub operator: &'a str,
    pub namespace: &'a str,
}

/// How the invariants say so.
const ENDED_WHILE_BOUND: &str = "says that it has ended while the binding";

type Findings = Vec<String>;

/// Everything that ought not to have been. I1 to I6 of the design.
pub fn audit(evidence: &Evidence, subjects: &[Subject]) -> Findings {
    let mut findings: Findings = evidence
        .pages
        .gaps
        .iter()
        .map(|gap| format!("the history has a gap: {gap}"))
        .collect();
    for subject in subjects {
        let about = Life::of(evidence.pages, &subject.id);
        let mut found = vec![];
        found.extend(one_of_each(subject, &about, evidence));
        found.extend(at_once(subject, &about));
        for binding in &about.bindings {
            found.extend(traces(subject, &about, binding));
            found.extend(in_time(subject, &about, binding, evidence));
        }
        for grant in &about.grants {
            found.extend(ended_truly(subject, &about, grant, evidence));
        }
        let violated = violated_throughout(evidence.pages, &subject.id).into_iter();
        // That it went as soon as it came is seen above.
        found.extend(violated.filter(|what| !(subject.binding_may_come_late && what.contains(ENDED_WHILE_BOUND))));
        if subject.before != subject.after {
            found.push(format!(
                "bystanders were touched: {:?} became {:?}",
                subject.before, subject.after
            ));
        }
        if let Some(about) = (!found.is_empty()).then(|| (evidence.said_of)(&subject.id)) {
            let found = found.join("; ");
            findings.push(format!("{}, {}: {found}\n{about}", subject.id, subject.told));
        }
    }
    findings.extend(evidence.log.iter().filter_map(|event| strayed(evidence, event)));
    findings
}

/// All versions of an object.
type History<'a, K> = Vec<&'a Version<K>>;

/// What was seen of one instance.
struct Life<'a> {
    requests: Vec<History<'a, AccessRequest>>,
    grants: Vec<History<'a, AccessGrant>>,
    bindings: Vec<History<'a, RoleBinding>>,
}

impl<'a> Life<'a> {
    fn of(pages: &'a Pages, id: &str) -> Self {
        Self {
            requests: apart(pages.requests.get(id)),
            grants: apart(pages.grants.get(id)),
            bindings: apart(pages.bindings.get(id))
                .into_iter()
                .filter(|versions| is_managed(&versions[0].object))
                .collect(),
        }
    }

    fn grant(&self, uid: &str) -> Option<&History<'a, AccessGrant>> {
        self.grants.iter().find(|versions| uid_of(versions) == uid)
    }

    /// The request of a grant.
    fn request(&self, grant: &History<AccessGrant>) -> Option<&History<'a, AccessRequest>> {
        self.requests
            .iter()
            .find(|versions| uid_of(versions) == grant[0].object.spec.request.uid)
    }
}

fn apart<K: Resource>(versions: Option<&Vec<Version<K>>>) -> Vec<History<'_, K>> {
    let mut by_uid: BTreeMap<String, History<K>> = BTreeMap::new();
    for version in versions.into_iter().flatten() {
        by_uid
            .entry(version.object.meta().uid.clone().unwrap_or_default())
            .or_default()
            .push(version);
    }
    by_uid.into_values().collect()
}

fn uid_of<K: Resource>(versions: &History<K>) -> String {
    versions[0].object.meta().uid.clone().unwrap_or_default()
}

/// The version that is its deletion.
fn deletion<'a, K>(versions: &History<'a, K>) -> Option<&'a Version<K>> {
    versions.last().copied().filter(|version| version.gone)
}

/// A request leads to one grant, a grant to one binding.
fn one_of_each(subject: &Subject, life: &Life, evidence: &Evidence) -> Findings {
    let mut findings = vec![];
    for request in &life.requests {
        let uid = uid_of(request);
        let grants = life
            .grants
            .iter()
            .filter(|grant| grant[0].object.spec.request.uid == uid)
            .count();
        if grants > 1 {
            findings.push(format!("{grants} grants of one request"));
        }
    }
    for grant in &life.grants {
        let uid = uid_of(grant);
        let mut bindings: Vec<_> = life
            .bindings
            .iter()
            .filter(|binding| grant_uid(&binding[0].object) == uid)
            .map(|binding| (binding[0].at, deletion(binding).map(|gone| gone.at)))
            .collect();
        bindings.sort();
        let mut allowed = subject.bindings * subject.namespaces;
        // The last is followed by none.
        if let (true, Some((_last, before))) = (subject.may_take_back, bindings.split_last()) {
            let killed_then = |(_, gone): &&(_, _)| was_killed_then(*gone, evidence.outages);
            allowed += before.iter().filter(killed_then).count();
        }
        if bindings.len() > allowed {
            let number = bindings.len();
            findings.push(format!("{number} bindings of one grant, made and gone at {bindings:?}"));
        }
    }
    findings
}

/// Whether the operator was killed before it could tell of that.
fn was_killed_then(gone: Option<DateTime<Utc>>, outages: &[Outage]) -> bool {
    let is_then = |outage: &Outage, gone| (outage.from - SOON..outage.from + SOON).contains(&gone);
    gone.is_some_and(|gone| outages.iter().any(|outage| is_then(outage, gone)))
}

/// A limit holds at every moment.
fn at_once(subject: &Subject, life: &Life) -> Findings {
    let begun_before_its_end = |one: &History<RoleBinding>, other: &History<RoleBinding>| {
        let until = deletion(one).map_or(u64::MAX, |deletion| deletion.revision);
        (one[0].revision..until).contains(&other[0].revision)
    };
    let mut findings = vec![];
    for one in life.bindings.iter().filter(|_| subject.one_at_a_time) {
        let others = life
            .bindings
            .iter()
            .filter(|other| grant_uid(&other[0].object) != grant_uid(&one[0].object));
        let too_many = others.filter(|other| begun_before_its_end(one, other));
        findings.extend(too_many.map(|other| {
            format!(
                "{} was bound while {} was",
                other[0].object.name_any(),
                one[0].object.name_any()
            )
        }));
    }
    findings
}

fn grant_uid(binding: &RoleBinding) -> String {
    binding
        .labels()
        .get("curfew.dev/grant-uid")
        .cloned()
        .unwrap_or_default()
}

/// A binding rests on a sealed grant with enough eligible approvals of one offer, and gives what was asked to who asked.
fn traces(subject: &Subject, life: &Life, binding: &History<RoleBinding>) -> Findings {
    let (made, object) = (binding[0].revision, &binding[0].object);
    let Some(grant) = life.grant(&grant_uid(object)) else {
        return vec!["a binding of no grant".to_owned()];
    };
    let Some(request) = life.request(grant) else {
        return vec!["a binding of no request".to_owned()];
    };
    let mut findings = vec![];
    let uid = uid_of(grant);
    let sealed = request.iter().find(|version| {
        let seal = version.object.status.as_ref().and_then(|status| status.seal.as_ref());
        seal.is_some_and(|seal| seal.uid == uid)
    });
    match sealed {
        Some(sealed) if grant[0].revision < sealed.revision && sealed.revision < made => {
            findings.extend(approved(subject, &grant[0].object, &sealed.object));
        }
        Some(sealed) => findings.push(format!(
            "grant at {}, seal at {}, binding at {made}: not in this order",
            grant[0].revision, sealed.revision
        )),
        None => findings.push("a binding without a seal".to_owned()),
    }
    let subjects = object.subjects.clone().unwrap_or_default();
    if subjects.len() != 1 || subjects[0].name != subject.requester || subjects[0].kind != "User" {
        findings.push(format!("a binding for {subjects:?}"));
    }
    if (object.role_ref.kind.as_str(), &object.role_ref.name) != (subject.role.0, &subject.role.1) {
        findings.push(format!("a binding to {:?}", object.role_ref));
    }
    findings
}

/// When it was sealed, enough had approved the very offer that was granted, and nobody had denied.
fn approved(subject: &Subject, grant: &AccessGrant, request: &AccessRequest) -> Findings {
    let decisions = &request.spec.decisions;
    let by: BTreeSet<&str> = decisions
        .iter()
        .filter(|decision| decision.verdict == Verdict::Approve && decision.offer == grant.spec.offer)
        .map(|decision| decision.username.as_str())
        .filter(|name| subject.approvers.contains(name) && *name != subject.requester.as_str())
        .collect();
    let mut findings = vec![];
    if by.len() < subject.approvals {
        findings.push(format!("granted on the word of {by:?} alone"));
    }
    if decisions.iter().any(|decision| decision.verdict == Verdict::Deny) {
        findings.push("sealed although a denial was stored".to_owned());
    }
    findings
}

/// A binding says its deadline, and is gone by then.
fn in_time(subject: &Subject, life: &Life, binding: &History<RoleBinding>, evidence: &Evidence) -> Findings {
    let object = &binding[0].object;
    let Some(deadline) = life
        .grant(&grant_uid(object))
        .and_then(|grant| deadline(subject, &grant[0].object))
    else {
        return vec![];
    };
    let mut findings = vec![];
    let made = object.creation_timestamp().and_then(|made| moment(made.0));
    if made.is_some_and(|made| made < deadline - subject.lasts) {
        findings.push(format!("its binding was made at {made:?}, before its start"));
    }
    let written = object
        .annotations()
        .get("curfew.dev/deadline")
        .cloned()
        .unwrap_or_default();
    if written != deadline.to_rfc3339_opts(SecondsFormat::Secs, true) {
        findings.push(format!("its binding says {written}, the deadline is {deadline}"));
    }
    let Some(gone) = deletion(binding).map(|deletion| gone_at(deletion, evidence.log)) else {
        findings.push("a binding that never ended".to_owned());
        return findings;
    };
    let allowed = allowed(deadline.max(binding[0].at) + subject.may_delay, evidence.outages);
    if gone > allowed {
        findings.push(format!(
            "its binding lived until {gone}: the deadline is {deadline}, it was made at {}, and by {allowed} it had to be gone",
            binding[0].at
        ));
    }
    findings
}

/// When it was gone: when the API server answered to its deletion, or when the watch told of it.
fn gone_at(deletion: &Version<RoleBinding>, log: &[AuditEvent]) -> DateTime<Utc> {
    let (namespace, name) = (
        deletion.object.namespace().unwrap_or_default(),
        deletion.object.name_any(),
    );
    let resource = if namespace.is_empty() {
        "clusterrolebindings"
    } else {
        "rolebindings"
    };
    let mut answered = log
        .iter()
        .filter(|event| event.resource == resource && event.verb == "delete" && event.code == 200)
        .filter(|event| event.namespace == namespace && event.name == name)
        .filter_map(|event| moment(event.finished));
    answered
        .next_back()
        .map_or(deletion.at, |answered| answered.min(deletion.at))
}

/// Until when something due then may take: the margin, and, where the operator was away in this time, the margin from its readiness on.
fn allowed(due: DateTime<Utc>, outages: &[Outage]) -> DateTime<Utc> {
    let mut allowed = due + MARGIN;
    for outage in outages {
        match outage.until {
            Some(until) if outage.from <= allowed && until + MARGIN > allowed => allowed = until + MARGIN,
            None if outage.from <= allowed => return DateTime::<Utc>::MAX_UTC,
            _ => {}
        }
    }
    allowed
}

/// Its creation, or its start, plus what was asked for, to the second.
fn deadline(subject: &Subject, grant: &AccessGrant) -> Option<DateTime<Utc>> {
    let begins = grant
        .spec
        .start_time
        .as_ref()
        .or(grant.metadata.creation_timestamp.as_ref());
    Some(moment(begins?.0)? + subject.lasts)
}

fn moment(at: k8s_openapi::jiff::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.as_second(), u32::try_from(at.subsec_nanosecond()).ok()?)
}

/// A grant ends; it says so only when no binding is left; and no status ever said another deadline than its own.
fn ended_truly(subject: &Subject, life: &Life, grant: &History<AccessGrant>, evidence: &Evidence) -> Findings {
    let mut findings = vec![];
    let is_ended = |version: &Version<AccessGrant>| {
        version.object.status.as_ref().and_then(|status| status.phase) == Some(GrantPhase::Ended)
    };
    let ended = grant.iter().find(|version| is_ended(version));
    if ended.is_none() && deletion(grant).is_none() {
        findings.push("a grant that never ended".to_owned());
    }
    let uid = uid_of(grant);
    for binding in life
        .bindings
        .iter()
        .filter(|binding| grant_uid(&binding[0].object) == uid)
    {
        let Some(ended) = ended else { continue };
        if deletion(binding).is_some_and(|deletion| deletion.revision < ended.revision) {
            continue;
        }
        // What came only after that, or just then, can't be known to whoever said it; it goes as it came.
        let came_late = subject.binding_may_come_late || binding[0].revision > ended.revision;
        let gone = deletion(binding).map(|deletion| gone_at(deletion, evidence.log));
        let went_as_it_came = gone.is_some_and(|gone| gone <= allowed(binding[0].at, evidence.outages));
        if !(came_late && went_as_it_came) {
            findings.push(format!(
                "a grant that said Ended at {} while a binding of it stood, made at {} and gone at {gone:?}",
                ended.at, binding[0].at
            ));
        }
    }
    let Some(deadline) = deadline(subject, &grant[0].object) else {
        return findings;
    };
    let said = grant
        .iter()
        .filter_map(|version| version.object.status.as_ref()?.expires_at.as_ref());
    let request = life.request(grant).into_iter().flatten();
    let said_by_request = request.filter_map(|version| version.object.status.as_ref()?.expires_at.as_ref());
    for said in said.chain(said_by_request).filter_map(|said| moment(said.0)) {
        if said != deadline {
            findings.push(format!("a status said {said}, the deadline is {deadline}"));
        }
    }
    findings
}

/// What the operator did and should not have touched.
fn strayed(evidence: &Evidence, event: &AuditEvent) -> Option<String> {
    let writes = ["create", "update", "patch", "delete", "deletecollection"];
    if event.actor().username != evidence.operator || !writes.contains(&event.verb.as_str()) || event.code >= 400 {
        return None;
    }
    let own_namespace = event.namespace == evidence.namespace;
    let anchor = own_namespace && (event.name.starts_with("curfew-until-") || event.verb == "create");
    let is_its = match (event.resource.as_str(), event.subresource.as_str()) {
        ("accessrequests" | "accesspolicies" | "accessgrants", "status")
        | ("selfsubjectaccessreviews" | "selfsubjectreviews", "")
        | ("events", "") => true,
        // That what it deletes has ended is seen by the ends of the scenarios.
        ("accessgrants", "") => ["create", "delete"].contains(&event.verb.as_str()),
        ("accessrequests", "") => event.verb == "delete",
        ("rolebindings" | "clusterrolebindings", "") => {
            event.name.starts_with("curfew-") || event.verb == "create" && written_name(event).starts_with("curfew-")
        }
        ("jobs" | "services", "") => anchor,
        ("leases", "") => own_namespace,
        _ => event.uri.contains("dryRun=All"),
    };
    (!is_its).then(|| format!("the operator did this: {} {}", event.verb, event.uri))
}

fn written_name(event: &AuditEvent) -> &str {
    event
        .request
        .as_ref()
        .and_then(|sent| sent["metadata"]["name"].as_str())
        .unwrap_or_default()
}
