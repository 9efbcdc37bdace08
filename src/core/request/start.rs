//! A request that begins later: when it may be granted, when that is too late, and what can be prepared before.

use chrono::{DateTime, Duration, OutOfRangeError, Utc};

use super::assess::Assessment;
use super::{Observed, created, expiry, offered_since, words};
use crate::api::condition;
use crate::api::{AccessPolicy, AccessRequest, AccessRequestSpec, AccessRequestStatus, RequestPhase, time};
use crate::core::approval::Outcome;
use crate::core::policy::{self, Obstacle};

/// So long before its start an access is prepared for. The anchor that it is to hang on takes a moment, seldom seconds.
const LEAD: Duration = Duration::seconds(20);

/// When access is to begin, where the request says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) at: DateTime<Utc>,
    /// From then on it can't begin any more: too late by the policy's tolerance, or over already.
    pub(super) missed: DateTime<Utc>,
}

impl Start {
    pub(super) fn of(request: &AccessRequest, policy: Option<&AccessPolicy>) -> Option<Self> {
        // A moment that can't be told has been missed.
        let never = DateTime::<Utc>::MIN_UTC;
        let at = time::from_kubernetes(request.spec.start_time.as_ref()?).unwrap_or(never);
        let later = |pause: Result<Duration, OutOfRangeError>| {
            let moment = pause.ok().and_then(|pause| at.checked_add_signed(pause));
            moment.unwrap_or(never)
        };
        let spec = policy.map(|policy| &policy.spec);
        let tolerated = later(Duration::from_std(policy::start_tolerance(spec)));
        let duration = spec.and_then(|spec| policy::duration(spec, &request.spec).ok()?.parse().ok());
        let over = duration.map_or(tolerated, |duration| later(Duration::from_std(duration)));
        Some(Self {
            at,
            missed: tolerated.min(over),
        })
    }

    /// When the request ends if nothing happens. What was approved in time waits for its start, however long that is; what must be approved anew, because
    /// what it rests on has changed, has as long for it as any new request.
    pub(super) fn ends(
        self,
        assessment: &Assessment<'_>,
        outcome: &Outcome,
        observed: &Observed,
        policy: Option<&AccessPolicy>,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let request = &observed.request;
        let undecided = match assessment {
            Assessment::Offered(offered) => {
                expiry(offered_since(request, &offered.offer.digest).unwrap_or(now), policy)
            }
            Assessment::Blocked { .. } | Assessment::Over { .. } => expiry(created(request), policy),
        };
        let was_approved = request
            .status
            .as_ref()
            .is_some_and(|status| condition::is_true(&status.conditions, condition::APPROVED));
        let is_decided = match (assessment, outcome) {
            (Assessment::Offered(_), Outcome::Approved { by }) => {
                let words = words(request, now);
                let mut seen = by
                    .iter()
                    .filter_map(|place| words.get(*place))
                    .map(|word| word.first_seen);
                seen.all(|seen| seen < undecided)
            }
            // Something is in the way for the moment. Whether the same is offered afterwards is seen then.
            (Assessment::Blocked { .. }, _) => was_approved,
            (Assessment::Offered(_) | Assessment::Over { .. }, _) => false,
        };
        if is_decided {
            self.missed
        } else {
            self.missed.min(undecided)
        }
    }

    /// That it hasn't come yet.
    pub(super) fn awaited(self) -> Obstacle {
        Obstacle::new("NotStarted", format!("access begins at {}", time::written(self.at)))
    }

    /// When it is to be looked at next while it waits: to prepare, and to begin.
    pub(super) fn next_look(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let prepared = self.at.checked_sub_signed(LEAD).unwrap_or(now);
        if now < prepared { prepared } else { self.at }
    }
}

/// The deadline of an access that was approved and begins within moments, and when that is.
pub fn prepares(request: &AccessRequest, now: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let AccessRequest {
        metadata: _,
        spec: AccessRequestSpec { start_time, .. },
        status:
            Some(AccessRequestStatus {
                phase,
                offer,
                seal: None,
                ..
            }),
    } = request
    else {
        return None;
    };
    let start = time::from_kubernetes(start_time.as_ref()?)?;
    let is_near = *phase == Some(RequestPhase::Approved) && now < start && start - LEAD <= now;
    let duration = Duration::from_std(offer.as_ref()?.duration.parse().ok()?).ok()?;
    is_near.then_some((start, start.checked_add_signed(duration)?))
}
