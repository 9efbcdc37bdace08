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
    pub faults: Vec<Fault>,
    /// The phase in which the request ends.
    pub phase: &'static str,
    /// So many bindings are made for it.
    pub bindings: u64,
}

const LEADER: Who = Who::Replica(0);
const FOLLOWER: Who = Who::Replica(1);

pub fn all() -> [Scene; 2] {
    let refused = Fate {
        refused: Some(403),
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
            phase: "Expired",
            bindings: 1,
        },
    ]
}
