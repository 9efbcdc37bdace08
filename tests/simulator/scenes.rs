//! What long runs of schedules have found, made sure to happen: a seed leads elsewhere as soon as the operator makes one call more.

use std::time::Duration;

use crate::apiserver::{Fate, Kind, Verb, Who};
use crate::weather::Fault;

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

pub fn all() -> [Scene; 3] {
    let refused = Fate {
        refused: Some(403),
        ..Fate::default()
    };
    let broken = Fate {
        refused: Some(500),
        ..Fate::default()
    };
    let lost = Fate {
        lost: true,
        ..Fate::default()
    };
    let late = Fate {
        there: Duration::from_secs(5),
        ..Fate::default()
    };
    [
        Scene {
            name: "what ended for it could not be bound is not bound later, when nobody heard that it ended",
            replicas: 1,
            faults: vec![
                (LEADER, Verb::Watch, Kind::AccessGrant, Fate::default()),
                (LEADER, Verb::Watch, Kind::AccessGrant, late),
                (LEADER, Verb::Create, Kind::RoleBinding, refused),
                (LEADER, Verb::ReplaceStatus, Kind::AccessGrant, lost),
            ],
            duration: "20s",
            phase: "Failed",
            bindings: 0,
        },
        Scene {
            name: "what can not be bound for a minute is not tried for ever",
            replicas: 1,
            faults: vec![(LEADER, Verb::Create, Kind::RoleBinding, broken); 200],
            duration: "5m",
            phase: "Failed",
            bindings: 0,
        },
        Scene {
            name: "a replica that may not read a request and was not shown it does not take it for deleted",
            replicas: 2,
            faults: vec![
                (FOLLOWER, Verb::Watch, Kind::AccessRequest, late),
                (FOLLOWER, Verb::Get, Kind::AccessRequest, refused),
            ],
            duration: "20s",
            phase: "Expired",
            bindings: 1,
        },
    ]
}
