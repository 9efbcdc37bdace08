//! Conditions: their types, and how one is set. Which reasons each may have stands in the [catalogue].

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{catalogue, time};

/// AccessPolicy: requests can be granted under it.
pub const READY: &str = "Ready";
/// AccessPolicy: its roles allow more than their rules show at first sight.
pub const HAZARDOUS: &str = "Hazardous";
/// AccessRequest: there is an offer to decide on.
pub const ACCEPTED: &str = "Accepted";
/// AccessRequest: enough people approved.
pub const APPROVED: &str = "Approved";
/// AccessRequest, AccessGrant: access was granted without anybody's approval.
pub const BREAK_GLASS: &str = "BreakGlass";
/// AccessRequest, AccessGrant: somebody has looked at access that was granted without approval.
pub const REVIEWED: &str = "Reviewed";
/// AccessRequest: a stage wasn't decided in time and opened to more approvers.
pub const ESCALATED: &str = "Escalated";
/// AccessRequest: access was granted (and may have ended since; see [`ENDED`]).
pub const GRANTED: &str = "Granted";
/// AccessRequest, AccessGrant: it is over.
pub const ENDED: &str = "Ended";
/// AccessGrant: every binding was made.
pub const BOUND: &str = "Bound";
/// AccessGrant: access would end even without the operator.
pub const DEAD_MANS_SWITCH: &str = "DeadMansSwitch";
/// AccessGrant: the role allows streams that Kubernetes doesn't cut when access ends.
pub const STREAMS_MAY_OUTLIVE: &str = "StreamsMayOutlive";
/// AccessGrant: it is to end, and something keeps a binding alive.
pub const OVERDUE: &str = "Overdue";

/// A condition before it has a time: what is the case, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The condition's type, one of this module's constants.
    pub kind: &'static str,
    /// Whether it holds; `None` is Unknown.
    pub holds: Option<bool>,
    /// The reason, one CamelCase word.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
}

impl Finding {
    /// It holds.
    pub fn yes(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            holds: Some(true),
            reason,
            message: message.into(),
        }
    }

    /// It doesn't hold.
    pub fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            holds: Some(false),
            reason,
            message: message.into(),
        }
    }
}

/// Puts `finding` among `conditions`. The transition time moves only when the status does, so that nothing is written when nothing changed.
pub fn set(conditions: &mut Vec<Condition>, finding: Finding, generation: Option<i64>, now: DateTime<Utc>) {
    let Finding {
        kind,
        holds,
        reason,
        message,
    } = finding;
    debug_assert!(
        holds.is_none_or(|holds| catalogue::knows(kind, holds, reason)),
        "{kind} {holds:?} {reason} is not in the catalogue"
    );
    let status = match holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let before = conditions
        .iter()
        .position(|condition| condition.type_ == kind)
        .map(|index| conditions.remove(index));
    let last_transition_time = match before {
        Some(before) if before.status == status => before.last_transition_time,
        _ => time::to_kubernetes(now),
    };
    conditions.push(Condition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: generation,
        last_transition_time,
    });
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}

/// The condition of this type, if there is one.
pub fn get<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Takes the condition of this type away.
pub fn remove(conditions: &mut Vec<Condition>, kind: &str) {
    conditions.retain(|condition| condition.type_ != kind);
}

/// Whether the condition of this type is True.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    get(conditions, kind).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let mut conditions = vec![];
        set(&mut conditions, Finding::no(READY, "RoleMissing", "a"), Some(1), at(1));
        set(&mut conditions, Finding::no(READY, "RoleEmpty", "b"), Some(2), at(2));
        assert_eq!(conditions[0].last_transition_time, time::to_kubernetes(at(1)));
        assert_eq!(conditions[0].reason, "RoleEmpty");
        set(&mut conditions, Finding::yes(READY, "Ready", "c"), Some(2), at(3));
        assert_eq!(conditions[0].last_transition_time, time::to_kubernetes(at(3)));
        assert_eq!(conditions.len(), 1);
    }
}
