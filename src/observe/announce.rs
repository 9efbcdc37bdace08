//! Events: what a change of a request's status is worth telling.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::api::condition;
use crate::api::{AccessRequest, AccessRequestStatus, RequestPhase};
use crate::cluster::call::call;
use crate::cluster::precedence::Precedence;

/// An event holds at most so many bytes of text.
const NOTE_LIMIT: usize = 1024;

/// So many events may wait to be written; what comes when more do is only logged.
const WAITING: usize = 4096;

/// Takes events to be written, one after the other and in the background: nothing waits for them, and they wait for everything.
#[derive(Clone)]
pub struct Announcer(mpsc::Sender<(Instant, ObjectReference, Announcement)>);

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Whether somebody ought to look.
    pub warning: bool,
    /// One CamelCase word, of a condition's catalogue.
    pub reason: String,
    /// One sentence.
    pub note: String,
}

impl Announcer {
    /// Writes events through `client`, for as long as this lives.
    pub fn new(client: Client, precedence: Arc<Precedence>) -> Self {
        let (sender, mut waiting) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let recorder = Recorder::new(client, Reporter::from("curfew"));
            while let Some((since, about, announcement)) = waiting.recv().await {
                let _turn = precedence.telling_since(since).await;
                write(&recorder, &about, announcement).await;
            }
        });
        Self(sender)
    }

    /// Events on a request, to be written. One that can't be is logged and forgotten: the status has it all.
    pub fn announce(&self, request: &AccessRequest, announcements: Vec<Announcement>) {
        let about = request.object_ref(&());
        for announcement in announcements {
            if self.0.try_send((Instant::now(), about.clone(), announcement)).is_err() {
                tracing::warn!("too many events wait to be written; one is dropped");
            }
        }
    }
}

async fn write(recorder: &Recorder, about: &ObjectReference, Announcement { warning, reason, note }: Announcement) {
    let event = Event {
        type_: if warning { EventType::Warning } else { EventType::Normal },
        reason,
        note: Some(shortened(&note)),
        action: "Decide".into(),
        secondary: None,
    };
    if let Err(error) = call("writing an event", recorder.publish(&event, about)).await {
        tracing::warn!(%error, "an event could not be written");
    }
}

fn shortened(note: &str) -> String {
    note.char_indices()
        .take_while(|(at, character)| at + character.len_utf8() <= NOTE_LIMIT)
        .map(|(_, character)| character)
        .collect()
}

/// What is worth telling of a change from one status to the next.
pub fn announcements(before: &AccessRequestStatus, after: &AccessRequestStatus) -> Vec<Announcement> {
    let mut told = vec![];
    for (kind, warns) in [
        (condition::ACCEPTED, false),
        (condition::APPROVED, false),
        (condition::BREAK_GLASS, false),
        (condition::REVIEWED, false),
        (condition::ESCALATED, false),
        (condition::GRANTED, false),
        (condition::ENDED, true),
    ] {
        let (old, new) = (
            condition::get(&before.conditions, kind),
            condition::get(&after.conditions, kind),
        );
        let Some(new) = new else { continue };
        let is_news = old.is_none_or(|old| old.status != new.status || old.reason != new.reason)
            || (kind == condition::ACCEPTED && before.offer.is_some() && changed_offer(before, after))
            // One stage more.
            || (kind == condition::ESCALATED && old.is_some_and(|old| old.message != new.message));
        // That it waits for approval is said by the offer already.
        let is_noise = kind == condition::APPROVED && new.status != "True";
        if is_news && !is_noise {
            let warning = (warns && after.phase == Some(RequestPhase::Failed))
                || kind == condition::BREAK_GLASS
                || (kind == condition::REVIEWED && new.reason == "Overdue")
                || (kind == condition::ACCEPTED && new.status != "True");
            told.push(Announcement {
                warning,
                reason: new.reason.clone(),
                note: new.message.clone(),
            });
        }
    }
    told
}

fn changed_offer(before: &AccessRequestStatus, after: &AccessRequestStatus) -> bool {
    before.offer.as_ref().map(|offer| &offer.digest) != after.offer.as_ref().map(|offer| &offer.digest)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::Router;
    use axum::http::header::CONTENT_TYPE;

    use super::*;

    /// The API server would refuse it otherwise.
    #[tokio::test]
    async fn what_is_too_long_for_an_event_is_told_as_far_as_there_is_room() {
        let written = Arc::new(Mutex::new(String::new()));
        let writes = Arc::clone(&written);
        let server = Router::new().fallback(async move |event: String| {
            writes.lock().unwrap().clone_from(&event);
            ([(CONTENT_TYPE, "application/json")], event)
        });
        let recorder = Recorder::new(Client::new(server, "default"), Reporter::from("curfew"));
        let note = "é".repeat(NOTE_LIMIT);
        let too_long = Announcement {
            warning: true,
            reason: "NobodyApproved".into(),
            note: note.clone(),
        };
        write(&recorder, &ObjectReference::default(), too_long).await;
        let event: serde_json::Value = serde_json::from_str(&written.lock().unwrap()).unwrap();
        let told = event["note"].as_str().unwrap();
        assert!(note.starts_with(told) && told.len() == NOTE_LIMIT, "{told}");
    }

    fn status(phase: RequestPhase, conditions: &[(&str, &str, &str)]) -> AccessRequestStatus {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status, reason)| {
                serde_json::json!({
                    "type": kind, "status": status, "reason": reason, "message": "so it is",
                    "lastTransitionTime": "2027-01-15T08:00:00Z",
                })
            })
            .collect();
        serde_json::from_value(serde_json::json!({"phase": phase, "conditions": conditions})).unwrap()
    }

    /// In the order in which a request goes through them.
    #[test]
    fn each_step_is_told_once_and_as_a_warning_where_somebody_should_look() {
        let offered = status(
            RequestPhase::Pending,
            &[("Accepted", "True", "Offered"), ("Approved", "False", "Waiting")],
        );
        let approved = status(
            RequestPhase::Approved,
            &[("Accepted", "True", "Offered"), ("Approved", "True", "Approved")],
        );
        let blocked = status(RequestPhase::Pending, &[("Accepted", "False", "NoPolicy")]);
        let ended = |phase, reason| {
            let steps = [("Accepted", "True", "Offered"), ("Approved", "False", "Waiting")];
            status(phase, &[&steps[..], &[("Ended", "True", reason)]].concat())
        };
        let glass = status(RequestPhase::Active, &[("BreakGlass", "True", "Broken")]);
        let reviewed = |reason| status(RequestPhase::Expired, &[("Reviewed", "False", reason)]);
        let new = AccessRequestStatus::default();
        for (before, after, expected) in [
            (&new, &offered, &[("Offered", false)][..]),
            (&new, &blocked, &[("NoPolicy", true)]),
            (&blocked, &offered, &[("Offered", false)]),
            (&offered, &approved, &[("Approved", false)]),
            (&offered, &offered, &[]),
            (
                &offered,
                &ended(RequestPhase::Expired, "Undecided"),
                &[("Undecided", false)],
            ),
            (
                &offered,
                &ended(RequestPhase::Failed, "BindFailed"),
                &[("BindFailed", true)],
            ),
            (&new, &glass, &[("Broken", true)]),
            (&new, &reviewed("Waiting"), &[("Waiting", false)]),
            (&reviewed("Waiting"), &reviewed("Overdue"), &[("Overdue", true)]),
        ] {
            let told = announcements(before, after);
            let told: Vec<_> = told.iter().map(|told| (told.reason.as_str(), told.warning)).collect();
            assert_eq!(told, expected, "from {before:?} to {after:?}");
        }
    }
}
