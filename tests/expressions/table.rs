//! The attempts, by what they are about. Each says what the API server makes of it, and is there because some expression needs it.
//!
//! Must not hold how anything is tried: `attempt` does.

mod addresses;
mod anchors;
mod bounds;
mod decisions;
mod records;
mod requests;
mod reserved;
mod reviews;
mod room;
mod rules;
mod words;

use crate::attempt::Attempt;

/// What an attempt is about. Different matters can be tried at the same time, also while a guard of one of them is another than it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matter {
    /// Requests, and what is said on them.
    Requests,
    /// RoleBindings and ClusterRoleBindings.
    Bindings,
    /// The Jobs and Services in the operator's namespace, and the addresses of these.
    Anchors,
    /// Policies, grants, and the status of everything.
    Records,
}

pub const MATTERS: [Matter; 4] = [Matter::Requests, Matter::Bindings, Matter::Anchors, Matter::Records];

/// All of them.
pub fn about(matter: Matter) -> Vec<Attempt> {
    let tables = match matter {
        Matter::Requests => vec![
            requests::attempts(),
            decisions::attempts(),
            words::attempts(),
            reviews::attempts(),
            room::attempts(),
            rules::of_requests(),
        ],
        Matter::Bindings => vec![reserved::attempts(), bounds::attempts()],
        Matter::Anchors => vec![anchors::attempts(), addresses::attempts()],
        Matter::Records => vec![records::attempts(), rules::of_records()],
    };
    tables.into_iter().flatten().collect()
}
