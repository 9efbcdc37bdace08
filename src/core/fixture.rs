//! A small cluster for the core's tests: alice asks for `ClusterRole "reader"` in `team-a`; bob, carol, the service account `ci/approver` and the
//! group `sre` may approve, and one of them is enough. Every object's uid is `uid-of-` and its name. Tests change what they are about.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::anchor::Until;
use super::facts::{Home, NamespaceFacts, RoleFacts};
use super::grant::{self, GrantUid};
use super::guard::Standing;
use super::limits::Others;
use super::{anchor, binding, request};
use crate::api::condition::{self, Finding};
use crate::api::{
    AccessGrant, AccessGrantSpec, AccessPolicy, AccessPolicySpec, AccessPolicyStatus, AccessRequest, AccessRequestSpec,
    AccessRequestStatus, Approval, BoundBinding, Decision, GoDuration, GrantAnchor, Namespaces, People, Requester,
    RoleKind, RoleReference, ServiceAccountReference, Stage, Verdict, marks, time,
};

/// So many seconds after the beginning, which is when every request and grant is created.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

/// The same as the API server writes it.
pub fn written(seconds: i64) -> Time {
    time::to_kubernetes(at(seconds))
}

/// A duration.
pub fn lasting(text: &str) -> GoDuration {
    GoDuration::new(text)
}

/// Texts as an object holds them.
pub fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Labels as an object holds them.
pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// People by their user names.
pub fn users(names: &[&str]) -> People {
    People {
        users: strings(names),
        ..People::default()
    }
}

/// One stage in which one approval of these people is enough.
pub fn approved_by(approvers: People) -> Approval {
    Approval {
        stages: vec![Stage {
            name: "lead".into(),
            approvers,
            ..Stage::default()
        }],
        ..Approval::default()
    }
}

/// An object's metadata, stored.
pub fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        uid: Some(format!("uid-of-{name}")),
        generation: Some(1),
        creation_timestamp: Some(written(0)),
        ..ObjectMeta::default()
    }
}

/// A rule on resources.
pub fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(strings(&[group])),
        resources: Some(strings(resources)),
        verbs: strings(verbs),
        ..PolicyRule::default()
    }
}

/// A ClusterRole by name.
pub fn cluster_role(name: &str) -> RoleReference {
    RoleReference {
        kind: RoleKind::ClusterRole,
        name: name.into(),
    }
}

/// A ClusterRole that reads ConfigMaps.
pub fn role(name: &str) -> RoleFacts {
    RoleFacts {
        reference: cluster_role(name),
        uid: format!("uid-of-{name}"),
        rules: vec![rule("", &["configmaps"], &["get", "list"])],
    }
}

/// A namespace with the label `team: a`.
pub fn namespace(name: &str) -> NamespaceFacts {
    NamespaceFacts {
        name: name.into(),
        uid: format!("uid-of-{name}"),
        labels: labels(&[("team", "a")]),
        terminating: false,
    }
}

/// A policy without a flaw.
pub fn policy_spec() -> AccessPolicySpec {
    AccessPolicySpec {
        requesters: People {
            groups: strings(&["dev"]),
            ..users(&["alice"])
        },
        roles: vec![cluster_role("reader")],
        namespaces: Some(Namespaces {
            names: strings(&["team-a"]),
            selector: None,
        }),
        cluster_wide: false,
        max_duration: lasting("4h"),
        default_duration: Some(lasting("1h")),
        request_ttl: None,
        reason: None,
        approval: Some(approved_by(People {
            users: strings(&["bob", "carol"]),
            groups: strings(&["sre"]),
            service_accounts: vec![ServiceAccountReference {
                namespace: "ci".into(),
                name: "approver".into(),
            }],
        })),
        require_code: false,
        require_direct: false,
        limits: None,
        retention: None,
        dead_mans_switch: None,
        allow_persistence: false,
        on_policy_change: None,
        on_role_change: None,
        start_tolerance: None,
        max_total_duration: None,
        review: None,
    }
}

/// A policy that is Ready.
pub fn policy(name: &str) -> AccessPolicy {
    let mut conditions = vec![];
    condition::set(
        &mut conditions,
        Finding::yes(condition::READY, "Ready", "it can be used"),
        Some(1),
        at(0),
    );
    AccessPolicy {
        metadata: ObjectMeta {
            creation_timestamp: Some(written(-3600)),
            ..metadata(name)
        },
        spec: policy_spec(),
        status: Some(AccessPolicyStatus {
            observed_generation: Some(1),
            conditions,
        }),
    }
}

/// Who asks.
pub fn requester(username: &str, groups: &[&str]) -> Requester {
    Requester {
        username: username.into(),
        uid: String::new(),
        groups: strings(groups),
    }
}

/// What alice asks for: half an hour.
pub fn request_spec() -> AccessRequestSpec {
    AccessRequestSpec {
        policy: None,
        role: cluster_role("reader"),
        namespaces: None,
        namespaces_from_policy: None,
        cluster_wide: None,
        duration: Some(lasting("30m")),
        start_time: None,
        extends: None,
        reason: Some("OPS-1".into()),
        requester: Some(requester("alice", &["dev"])),
        decisions: vec![],
    }
}

/// Alice's request as the operator sees it for the first time.
pub fn observed() -> request::Observed {
    request::Observed {
        request: AccessRequest {
            metadata: ObjectMeta {
                namespace: Some("team-a".into()),
                ..metadata("fix")
            },
            spec: request_spec(),
            status: None,
        },
        policies: vec![policy("standard")],
        role: Some(role("reader")),
        targets: vec![namespace("team-a")],
        others: Others::default(),
        extended: None,
        grant: None,
        left_behind: false,
        home: Home {
            namespace: "curfew-system".into(),
        },
        brake: None,
        guards: Standing {
            epoch: Some("epoch".into()),
            since: Some(at(-3600)),
            in_force: true,
        },
    }
}

/// The status that the operator would write, if it would write one.
pub fn published(observed: &request::Observed, seconds: i64) -> AccessRequestStatus {
    match request::decide(observed, at(seconds)) {
        request::Plan::Publish { status, wake: _ } => *status,
        other => panic!("nothing to publish: {other:?}"),
    }
}

/// The same request after that status was written.
pub fn stepped(mut observed: request::Observed, seconds: i64) -> request::Observed {
    observed.request.status = Some(published(&observed, seconds));
    observed
}

/// The digest that approvers are asked to agree to.
pub fn offer(observed: &request::Observed) -> String {
    let mut unspoken = observed.clone();
    unspoken.request.spec.decisions.clear();
    published(&unspoken, 0).offer.expect("an offer").digest
}

/// One word as the API server records it.
pub fn word(verdict: Verdict, username: &str, via: &[&str], offer: &str) -> Decision {
    Decision {
        verdict,
        username: username.into(),
        uid: String::new(),
        via: strings(via),
        comment: None,
        offer: offer.into(),
        code: None,
        direct: false,
    }
}

/// An approval in the stage `lead`, by name.
pub fn approve(username: &str, offer: &str) -> Decision {
    word(Verdict::Approve, username, &[&format!("lead/User:{username}")], offer)
}

/// A denial, by name.
pub fn deny(username: &str) -> Decision {
    word(Verdict::Deny, username, &[&format!("*/User:{username}")], "")
}

/// A revocation by an approver, by name.
pub fn revoke(username: &str) -> Decision {
    word(Verdict::Revoke, username, &[&format!("*/User:{username}")], "")
}

/// The requester takes it back.
pub fn withdraw() -> Decision {
    word(Verdict::Revoke, "alice", &[marks::VIA_REQUESTER], "")
}

/// The same request with these words on it.
pub fn said(mut observed: request::Observed, words: &[Decision]) -> request::Observed {
    observed.request.spec.decisions.extend_from_slice(words);
    observed
}

/// Alice's request, offered and approved by bob, before the operator looks again.
pub fn approved() -> request::Observed {
    let offered = stepped(observed(), 1);
    let digest = offer(&offered);
    said(offered, &[approve("bob", &digest)])
}

/// The grant to which an approved request leads, stored.
pub fn granted(observed: &request::Observed, seconds: i64) -> AccessGrant {
    match request::decide(observed, at(seconds)) {
        request::Plan::Grant { spec, .. } => {
            let name = grant::name(&spec.request.uid);
            let metadata = ObjectMeta {
                creation_timestamp: Some(written(seconds)),
                ..metadata(&name)
            };
            AccessGrant {
                metadata,
                spec: hung(*spec, at(seconds)),
                status: None,
            }
        }
        other => panic!("not granted: {other:?}"),
    }
}

/// Alice's request, granted at the beginning and sealed, before anything is bound.
pub fn sealed() -> request::Observed {
    let mut observed = approved();
    observed.grant = Some(granted(&observed, 0));
    stepped(observed, 0)
}

/// What the grant controller sees of it: everything as it should be, and nothing bound.
pub fn grant_observed() -> grant::Observed {
    let request::Observed {
        request,
        policies,
        role,
        targets,
        others: _,
        extended: _,
        grant,
        left_behind: _,
        home: _,
        brake: _,
        guards: _,
    } = sealed();
    let seen = |namespace| grant::TargetSeen {
        namespace: Some(namespace),
        binding: None,
    };
    grant::Observed {
        grant: grant.unwrap(),
        request: Some(request),
        role,
        policy: policies.into_iter().next(),
        targets: targets.into_iter().map(seen).collect(),
        anchor: anchor_seen(),
        successor: None,
    }
}

/// The same, hung on the anchor that serves it when it is created now.
pub fn hung(spec: AccessGrantSpec, now: DateTime<Utc>) -> AccessGrantSpec {
    let until = grant::deadline_if_created(&spec, now).and_then(Until::serving);
    AccessGrantSpec {
        anchor: Some(anchor_until(until.unwrap())),
        ..spec
    }
}

/// The anchor on which alice's access hangs that is granted in the first minute.
pub fn anchor() -> GrantAnchor {
    anchor_until(first_until())
}

/// The anchor that ends then.
pub fn anchor_until(until: Until) -> GrantAnchor {
    GrantAnchor {
        name: until.name(),
        job_uid: "uid-of-the-job".into(),
        address: "10.0.0.7".into(),
        address_uid: "uid-of-the-address".into(),
        ends_at: time::to_kubernetes(until.moment()),
    }
}

fn first_until() -> Until {
    Until::serving(at(30 * 60)).unwrap()
}

/// The same as the API server stores it, armed at the beginning.
pub fn anchor_seen() -> anchor::Seen {
    seen_until(first_until())
}

/// The anchor of this grant, armed at the beginning.
pub fn anchor_of(grant: &AccessGrant) -> anchor::Seen {
    let hung_on = grant.spec.anchor.as_ref();
    seen_until(hung_on.and_then(|anchor| Until::named(&anchor.name)).unwrap())
}

fn seen_until(until: Until) -> anchor::Seen {
    let stored = |metadata: &mut ObjectMeta, uid: &str| {
        metadata.namespace = Some("curfew-system".into());
        metadata.uid = Some(uid.into());
        metadata.creation_timestamp = Some(written(0));
    };
    let mut job = anchor::job(until, at(0));
    stored(&mut job.metadata, "uid-of-the-job");
    job.status.get_or_insert_default().start_time = Some(written(0));
    let mut service = anchor::service(until, "uid-of-the-job");
    stored(&mut service.metadata, "uid-of-the-service");
    service.spec.get_or_insert_default().cluster_ip = Some("10.0.0.7".into());
    anchor::Seen {
        job: Some(job),
        service: Some(service),
    }
}

/// The binding of a grant as the API server stores it.
pub fn stored_binding(grant: &AccessGrant) -> RoleBinding {
    let uid = GrantUid::of(grant).unwrap();
    let mut binding = binding::desired(grant, &uid, &grant.spec.places()[0]);
    binding.metadata.uid = Some("uid-of-the-binding".into());
    binding.metadata.creation_timestamp = Some(written(1));
    binding
}

/// Any binding of this namespace.
pub fn in_namespace(name: &str) -> RoleBinding {
    let mut binding = RoleBinding::default();
    binding.metadata.namespace = Some(name.into());
    binding
}

/// A binding as a grant's status records it.
pub fn record(binding: &RoleBinding) -> BoundBinding {
    let ObjectMeta {
        namespace, name, uid, ..
    } = binding.metadata.clone();
    BoundBinding {
        namespace,
        name: name.unwrap(),
        uid: uid.unwrap(),
    }
}

/// The same once it is bound and recorded.
pub fn bound() -> grant::Observed {
    let mut observed = grant_observed();
    let binding = stored_binding(&observed.grant);
    observed.grant.status = Some(grant::active(&observed.grant, vec![record(&binding)], at(1)));
    observed.targets[0].binding = Some(binding);
    observed
}
