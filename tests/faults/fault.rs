//! The faults, and what each of them may change. Everything that isn't written here must be as if nothing had happened.

use std::fmt;
use std::time::Duration;

use curfew::api::{EndReason, RequestPhase};

use crate::call::Call;
use crate::scenarios::{End, Fate};

/// What can befall a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// Answered with 500; it took no effect.
    ServerError,
    /// Answered with 429; it took no effect.
    Throttled,
    /// Answered with 403; it took no effect.
    Forbidden,
    /// It took effect; the connection is closed instead of an answer.
    Lost,
    /// It took effect; the answer comes after seconds, within the operator's time limit: what happens meanwhile is not in what the operator read.
    Delayed,
    /// It took effect; the answer comes after the operator's time limit for a call.
    Slow,
    /// It takes effect only after the operator's time limit for a call.
    Late,
    /// It took effect; the connection is closed in the middle of the answer.
    Cut,
    /// Answered with what the same GET was answered before, or with 404.
    Stale,
    /// A watch says that what it was to go on from is no longer known (410): all must be listed again.
    Gone,
    /// What this watch tells comes seconds late.
    Held,
    /// kill -9 before the call reaches the API server.
    KilledBefore,
    /// kill -9 after it took effect, before the answer.
    KilledAfter,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::ServerError,
        Self::Throttled,
        Self::Forbidden,
        Self::Lost,
        Self::Delayed,
        Self::Slow,
        Self::Late,
        Self::Cut,
        Self::Stale,
        Self::Gone,
        Self::Held,
        Self::KilledBefore,
        Self::KilledAfter,
    ];

    /// Whether it can befall such a call.
    pub fn befalls(self, call: &Call) -> bool {
        match self {
            Self::Stale => call.verb == "get",
            Self::Gone | Self::Held => call.verb == "watch",
            Self::Delayed | Self::Slow | Self::Late | Self::KilledBefore | Self::KilledAfter => call.verb != "watch",
            Self::ServerError | Self::Throttled | Self::Forbidden | Self::Lost | Self::Cut => true,
        }
    }

    /// By how much longer than the auditor's 2 s a binding may outlive its deadline when this befell a call of its own instance. Other instances get
    /// nothing: what is wrong with one must not delay another.
    pub fn may_delay(self) -> Duration {
        match self {
            // Tried again after the back-off, which is a second at first.
            Self::ServerError | Self::Throttled | Self::Forbidden | Self::Lost | Self::Cut | Self::Gone => {
                Duration::from_secs(1)
            }
            // So long the proxy keeps the answer. A deletion has taken effect by then; before one, nothing is read.
            Self::Delayed => Duration::from_secs(3),
            // The time limit of a call is 10 s, and then the back-off. A binding whose creation took effect so late is counted from its creation.
            Self::Slow | Self::Late => Duration::from_secs(11),
            // What comes back is an answer; there is no failure to wait after. The operator's absence is counted by the auditor.
            Self::Stale | Self::Held | Self::KilledBefore | Self::KilledAfter => Duration::ZERO,
        }
    }

    /// How many bindings a grant may have had, one after the other: they have one name. A creation that takes effect late may come after the binding was
    /// made by the next try and deleted again; nobody but the sweep can do something about it.
    pub fn bindings(self, call: &Call) -> usize {
        if self.may_bind_late(call) { 2 } else { 1 }
    }

    /// Whether a binding may be taken back before its grant says that it is bound: because another can't be made, or because the operator was told that what
    /// it rests on is gone. If it is killed before it could say why, the next one knows nothing of that, and makes it again.
    pub fn may_take_back(self, call: &Call) -> bool {
        self == Self::Stale || self == Self::Forbidden && makes_binding(call)
    }

    /// Whether a binding may be made long after the operator was told nothing of it.
    pub fn may_bind_late(self, call: &Call) -> bool {
        self == Self::Late && makes_binding(call)
    }

    /// Whether an access may end so instead of as undisturbed. Of what is allowed here nothing ends later, and nobody gets more.
    pub fn excuses(self, call: &Call, undisturbed: End, end: End) -> bool {
        let ended = |request, grant| {
            end == End {
                request: Some(request),
                grant,
            }
        };
        match (self, call.verb, call.resource.as_str()) {
            // A forbidden binding is final: nothing was bound, and the requester reads why.
            (Self::Forbidden, "create", "rolebindings" | "clusterrolebindings") => {
                ended(RequestPhase::Failed, Fate::Ended(EndReason::BindFailed))
                    // What was to be taken over from goes on, until it's revoked too.
                    || (undisturbed.grant == Fate::Ended(EndReason::Extended)
                        && ended(RequestPhase::Revoked, Fate::Ended(EndReason::Revoked)))
                    // Its grant is deleted all the same.
                    || (undisturbed.grant == Fate::Gone && ended(RequestPhase::Failed, Fate::Gone))
                    || (undisturbed.request.is_none()
                        && end.request.is_none()
                        && end.grant == Fate::Ended(EndReason::BindFailed))
            }
            // The API server says that there is no such policy: nothing is granted under it.
            (Self::Stale, "get", "accesspolicies") => ended(RequestPhase::Failed, Fate::Never),
            // It says that the request is gone, when something else was about to end the access, or seemed to, for a watch had not shown the binding yet;
            // before the seal, that is as if it had been overtaken. What is over by then can't be extended.
            (Self::Stale, "get", "accessrequests") => {
                [RequestPhase::Withdrawn, RequestPhase::Failed]
                    .into_iter()
                    .any(|phase| ended(phase, Fate::Ended(EndReason::RequestDeleted)))
                    || ended(RequestPhase::Failed, Fate::Never)
            }
            // It says that a part of the anchor is gone, when something else was about to end the access.
            (Self::Stale, "get", "jobs" | "services") => {
                ended(RequestPhase::Revoked, Fate::Ended(EndReason::AnchorBroken))
            }
            // What can't be read is taken for what was known, and a watch may not have shown yet the binding that was made a moment ago.
            (Self::Forbidden, "get", "rolebindings" | "clusterrolebindings") => {
                ended(RequestPhase::Revoked, Fate::Ended(EndReason::Drifted))
            }
            // It says that the grant is gone: the request ends as one whose grant was deleted, by another word, when there is no binding either.
            (Self::Stale, "get", "accessgrants") => {
                (end.grant == undisturbed.grant && end.request == Some(RequestPhase::Revoked))
                    || ended(RequestPhase::Revoked, Fate::Ended(EndReason::Revoked))
                    // What isn't there can't be extended.
                    || (undisturbed.grant == Fate::Ended(EndReason::Revoked) && ended(RequestPhase::Failed, Fate::Never))
            }
            // The grant of another, who waited for the same place, was made before it took effect.
            (Self::Late, "create", "accessgrants") if end.grant == Fate::Ended(EndReason::BindFailed) => {
                undisturbed.grant == Fate::Ended(EndReason::Revoked) && end.request == Some(RequestPhase::Failed)
            }
            // Its time was over when the operator knew that the seal is there, or might be, or was back: it never began.
            (
                Self::Slow | Self::Late | Self::KilledBefore | Self::KilledAfter,
                "create" | "update",
                "accessgrants" | "accessrequests/status",
            ) => ended(RequestPhase::Failed, Fate::Ended(EndReason::Expired)),
            _ => false,
        }
    }

    /// The same where the operator was killed meanwhile, for whatever other fault.
    pub fn excuses_if_killed(self, undisturbed: End, end: End) -> bool {
        match end.grant {
            // It was told that what the access rests on is gone, and had no time to say so. To the next one a binding that was recorded and is gone was
            // deleted by somebody else.
            Fate::Ended(EndReason::Drifted) => {
                self == Self::Stale && [Some(RequestPhase::Revoked), undisturbed.request].contains(&end.request)
            }
            // Its few seconds were over when it was back and knew the guards, without which nothing is sealed.
            Fate::Ended(EndReason::Expired) => end.request == Some(RequestPhase::Failed),
            Fate::Ended(_) | Fate::Never | Fate::Gone => false,
        }
    }
}

/// Whether it is a call by which access is given.
fn makes_binding(call: &Call) -> bool {
    call.verb == "create" && ["rolebindings", "clusterrolebindings"].contains(&call.resource.as_str())
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerError => "500",
            Self::Throttled => "429",
            Self::Forbidden => "403",
            Self::Lost => "answer lost",
            Self::Delayed => "delayed",
            Self::Slow => "answer late",
            Self::Late => "effect late",
            Self::Cut => "answer cut",
            Self::Stale => "stale",
            Self::Gone => "410",
            Self::Held => "held back",
            Self::KilledBefore => "killed before",
            Self::KilledAfter => "killed after",
        })
    }
}
