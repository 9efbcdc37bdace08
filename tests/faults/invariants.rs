//! What must hold, as the product itself states it (`core::invariants`), asked of every moment of an instance. The auditor next door asks the same in words
//! of its own; here it is seen that both mean the same.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use curfew::api::{AccessGrant, AccessRequest};
use curfew::core::invariants::{World, unfinished, violated, violated_by};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Resource;

use crate::history::{Pages, Version};

/// How late a binding may be is the auditor's matter: it knows who was away.
const LONG: TimeDelta = TimeDelta::days(365);

/// What didn't hold at some moment of an instance, and what wasn't finished at the last one.
pub fn violated_throughout(pages: &Pages, id: &str) -> Vec<String> {
    let mut moments: BTreeMap<u64, Moment> = BTreeMap::new();
    for version in pages.requests.get(id).into_iter().flatten() {
        moments.insert(version.revision, Moment::Request(version));
    }
    for version in pages.grants.get(id).into_iter().flatten() {
        moments.insert(version.revision, Moment::Grant(version));
    }
    for version in pages.bindings.get(id).into_iter().flatten() {
        moments.insert(version.revision, Moment::Binding(version));
    }
    let mut world = World {
        now: DateTime::<Utc>::MIN_UTC,
        requests: vec![],
        grants: vec![],
        bindings: vec![],
        // Which policies there were is in no history; what they would show is asked by the auditor.
        policies: vec![],
    };
    let mut found = vec![];
    for moment in moments.values() {
        let before = world.clone();
        moment.happens(&mut world);
        found.extend(violated(&world, LONG));
        found.extend(violated_by(&before, &world));
    }
    found.extend(unfinished(&world));
    found.dedup();
    found
}

enum Moment<'a> {
    Request(&'a Version<AccessRequest>),
    Grant(&'a Version<AccessGrant>),
    Binding(&'a Version<RoleBinding>),
}

impl Moment<'_> {
    fn happens(&self, world: &mut World) {
        world.now = match self {
            Self::Request(version) => store(&mut world.requests, version),
            Self::Grant(version) => store(&mut world.grants, version),
            Self::Binding(version) => store(&mut world.bindings, version),
        };
    }
}

fn store<K: Resource + Clone>(all: &mut Vec<K>, version: &Version<K>) -> DateTime<Utc> {
    let Version {
        at,
        revision: _,
        gone,
        object,
    } = version;
    all.retain(|found| found.meta().uid != object.meta().uid);
    if !gone {
        all.push(object.clone());
    }
    *at
}
