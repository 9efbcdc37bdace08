//! What long runs of schedules have found, or would hardly ever, made sure to happen: a seed leads elsewhere as soon as the operator makes one call more.

use std::time::Duration;

use crate::apiserver::{Fate, Kind, Verb, Who};
use crate::people::People;
use crate::weather::Fault;

type Change = fn(&mut People<'_>);

/// One access, asked for, approved and over, while these things go wrong.
#[derive(Clone)]
pub struct Scene {
    pub name: &'static str,
    /// The first of them grants.
    pub replicas: usize,
    /// More of one kind may be planned than come.
    pub faults: Vec<Fault>,
    /// How long the access is to last.
    pub duration: &'static str,
    /// What somebody changes just before the access is approved.
    pub changes: Option<Change>,
    /// The phase in which the request ends.
    pub phase: &'static str,
    /// So many bindings are made for it.
    pub bindings: u64,
}

impl Scene {
    /// Whether of each kind of fault at least one has come, when these are left.
    pub fn has_come(&self, left: &[Fault]) -> bool {
        let of_kind = |faults: &[Fault], (who, verb, about, _): &Fault| {
            let is_it = |fault: &&Fault| (&fault.0, &fault.1, &fault.2) == (who, verb, about);
            faults.iter().filter(is_it).count()
        };
        self.faults
            .iter()
            .all(|fault| of_kind(left, fault) < of_kind(&self.faults, fault))
    }
}

const LEADER: Who = Who::Replica(0);
const FOLLOWER: Who = Who::Replica(1);

pub fn all() -> [Scene; 7] {
    let well = Fate::default();
    let refused = Fate {
        refused: Some(403),
        ..well
    };
    let broken = Fate {
        refused: Some(500),
        ..well
    };
    let lost = Fate { lost: true, ..well };
    let late_by = |seconds| Fate {
        there: Duration::from_secs(seconds),
        ..well
    };
    let late = late_by(5);
    let scene = Scene {
        name: "",
        replicas: 1,
        faults: vec![],
        duration: "20s",
        changes: None,
        phase: "Expired",
        bindings: 1,
    };
    [
        Scene {
            name: "what ended for it could not be bound is not bound later, when nobody heard that it ended",
            faults: vec![
                (LEADER, Verb::Watch, Kind::AccessGrant, well),
                (LEADER, Verb::Watch, Kind::AccessGrant, late),
                (LEADER, Verb::Create, Kind::RoleBinding, refused),
                (LEADER, Verb::ReplaceStatus, Kind::AccessGrant, lost),
            ],
            phase: "Failed",
            bindings: 0,
            ..scene.clone()
        },
        Scene {
            name: "what can not be bound for a minute is not tried for ever",
            faults: vec![(LEADER, Verb::Create, Kind::RoleBinding, broken); 200],
            duration: "5m",
            phase: "Failed",
            bindings: 0,
            ..scene.clone()
        },
        Scene {
            name: "a replica that may not read a request and was not shown it does not take it for deleted",
            replicas: 2,
            faults: vec![
                (FOLLOWER, Verb::Watch, Kind::AccessRequest, late),
                (FOLLOWER, Verb::Get, Kind::AccessRequest, refused),
            ],
            ..scene.clone()
        },
        // The binding comes to be three seconds after the end, and it takes five to delete it; before that the request is looked at.
        Scene {
            name: "a request does not say that it ended while a binding is there that was not when its grant ended",
            faults: vec![
                (LEADER, Verb::Create, Kind::RoleBinding, late_by(8)),
                (LEADER, Verb::Get, Kind::AccessGrant, well),
                (LEADER, Verb::Get, Kind::AccessGrant, late),
                (LEADER, Verb::Delete, Kind::RoleBinding, late),
            ],
            duration: "5s",
            ..scene.clone()
        },
        // It is offered anew, and nobody approves that.
        Scene {
            name: "what was approved before the role grew is not granted, although no watch has shown that it grew",
            faults: vec![
                (LEADER, Verb::Watch, Kind::ClusterRole, well),
                (LEADER, Verb::Watch, Kind::ClusterRole, late),
            ],
            changes: Some(|people| people.grows_last()),
            bindings: 0,
            ..scene.clone()
        },
        Scene {
            name: "what a policy no longer allows is not granted, although no watch has shown that it was changed",
            // It is made, said to be Ready, and changed.
            faults: vec![
                (LEADER, Verb::Watch, Kind::AccessPolicy, well),
                (LEADER, Verb::Watch, Kind::AccessPolicy, well),
                (LEADER, Verb::Watch, Kind::AccessPolicy, late),
            ],
            changes: Some(|people| people.narrows_last()),
            bindings: 0,
            ..scene.clone()
        },
        Scene {
            name: "nothing is granted in a namespace that lost its label, although no watch has shown that it did",
            faults: vec![
                (LEADER, Verb::Watch, Kind::Namespace, well),
                (LEADER, Verb::Watch, Kind::Namespace, late),
            ],
            changes: Some(|people| people.takes_label_of_last()),
            bindings: 0,
            ..scene
        },
    ]
}
