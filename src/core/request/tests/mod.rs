mod attacks;
mod choosing;
mod life;
mod obstacles;

mod properties;
mod stages;
mod start;
mod targets;

use super::*;
use crate::api::condition;
use crate::api::{DecisionEffect, OpenStage, PolicyReference, Seal, Target};
use crate::core::fixture::*;

/// The reason of the `Accepted` condition when nothing can be offered.
fn blocked(observed: &Observed) -> String {
    let status = published(observed, 5);
    assert_eq!(status.phase, Some(RequestPhase::Pending), "{:?}", status.message);
    assert!(
        status.offer.is_none() && status.open.is_empty(),
        "what is blocked can't be approved"
    );
    let accepted = condition::get(&status.conditions, condition::ACCEPTED).unwrap();
    assert_eq!(accepted.status, "False");
    assert_eq!(Some(&accepted.message), status.message.as_ref());
    accepted.reason.clone()
}

/// The phase and the reason with which a request ends.
fn ended(observed: &Observed, seconds: i64) -> (RequestPhase, String) {
    let status = published(observed, seconds);
    let ended = condition::get(&status.conditions, condition::ENDED).expect("it ended");
    assert!(status.open.is_empty(), "nobody is asked any more");
    assert_eq!(status.timeline.unwrap().ended, Some(written(seconds)));
    (status.phase.unwrap(), ended.reason.clone())
}

fn wake(observed: &Observed, seconds: i64) -> Option<DateTime<Utc>> {
    match decide(observed, at(seconds)) {
        Plan::Publish { status: _, wake } => wake,
        other => panic!("nothing published: {other:?}"),
    }
}
