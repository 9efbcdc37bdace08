//! Against an API server of a few lines, because a real one doesn't lag when it is asked to.

use std::sync::Mutex;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use kube::runtime::watcher;
use serde_json::{Value, json};

use super::*;

const DECISIONS: &str = "curfew-decisions";

/// What stands in the API server, whatever a watch has shown.
type Stored = Arc<Mutex<Vec<Mark>>>;

fn json_of(value: &Value) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string())
}

fn metadata(mark: &Mark) -> Value {
    let metadata = json!({"name": mark.name, "uid": mark.uid, "generation": mark.generation});
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata})
}

fn api_server(stored: &Stored) -> Router {
    let one = |kind: GuardKind| {
        let stored = Arc::clone(stored);
        get(async move |Path(name): Path<String>| {
            let stored = stored.lock().unwrap();
            let found = stored.iter().find(|mark| mark.kind == kind && mark.name == name);
            found.map_or_else(
                || none().into_response(),
                |mark| json_of(&metadata(mark)).into_response(),
            )
        })
    };
    Router::new()
        .route(
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{name}",
            one(GuardKind::ValidatingAdmissionPolicy),
        )
        .route(
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/{name}",
            one(GuardKind::ValidatingAdmissionPolicyBinding),
        )
        .route(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}",
            one(GuardKind::CustomResourceDefinition),
        )
}

fn none() -> impl IntoResponse {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "", "reason": "NotFound", "code": 404});
    (StatusCode::NOT_FOUND, json_of(&status))
}

/// Guards that the watches have shown and that were tried out, and the same in the API server.
fn proven() -> (Guards, Stored) {
    let shipped = Arc::new(guard::shipped("operator", true).unwrap());
    let mut marks: Vec<Mark> = shipped
        .iter()
        .map(|guard| Mark {
            kind: guard.kind,
            name: guard.name.clone(),
            uid: "uid".into(),
            generation: 1,
        })
        .collect();
    marks.sort_unstable();
    let stored = Stored::new(Mutex::new(marks.clone()));
    let client = Client::new(api_server(&stored), "default");
    let guards = Guards::new(client, Arc::default(), Clock::system());
    guards.show(Seen::new(shipped, marks, DateTime::UNIX_EPOCH));
    guards.brakes.release(Puller::Guards);
    (guards, stored)
}

#[tokio::test]
async fn guards_as_the_watches_have_shown_them_are_in_force() {
    let (guards, stored) = proven();
    let standing = guards.standing();
    assert!(standing.epoch.is_some() && standing.in_force);
    assert_eq!(guards.afresh().await.unwrap(), standing);
    // Somebody else's policies are no part of it.
    let mut foreign = stored.lock().unwrap()[0].clone();
    foreign.name = "somebody-elses".into();
    stored.lock().unwrap().push(foreign);
    assert_eq!(guards.afresh().await.unwrap(), standing);
}

#[tokio::test]
async fn a_guard_that_was_changed_and_put_back_is_another_one_before_any_watch_shows_it() {
    let change = |which: fn(&Mark) -> bool, change: fn(&mut Mark)| {
        let (guards, stored) = proven();
        stored
            .lock()
            .unwrap()
            .iter_mut()
            .filter(|mark| which(mark))
            .for_each(change);
        guards
    };
    for guards in [
        change(
            |mark| mark.name == "curfew-requests" && mark.kind == GuardKind::ValidatingAdmissionPolicy,
            |mark| mark.generation += 2,
        ),
        change(
            |mark| mark.name == "curfew-requests" && mark.kind == GuardKind::ValidatingAdmissionPolicyBinding,
            |mark| mark.uid = "another".into(),
        ),
        change(
            |mark| mark.name == DECISIONS && mark.kind == GuardKind::ValidatingAdmissionPolicy,
            |mark| mark.generation += 2,
        ),
        change(
            |mark| mark.name == DECISIONS && mark.kind == GuardKind::ValidatingAdmissionPolicyBinding,
            |mark| mark.uid = "another".into(),
        ),
        change(|mark| mark.name == requests_definition(), |mark| mark.generation += 2),
        change(|mark| mark.name == DECISIONS, |mark| mark.name = "away".into()),
    ] {
        let now = guards.afresh().await.unwrap();
        assert_ne!(now.epoch, guards.standing().epoch);
        assert!(!now.in_force, "nobody has tried it");
        assert!(guards.standing().in_force, "the watches have shown nothing of it");
    }
}

#[tokio::test]
async fn nothing_is_in_force_before_it_was_seen_or_while_the_brake_is_on_or_when_it_cannot_be_read() {
    let (guards, stored) = proven();
    guards.brakes.pull(Puller::Guards, unknown("are being tried out"));
    assert!(!guards.afresh().await.unwrap().in_force && !guards.standing().in_force);
    assert!(guards.standing().epoch.is_some());

    let broken = Router::new().fallback(async || StatusCode::INTERNAL_SERVER_ERROR);
    let nowhere = Guards::new(Client::new(broken, "default"), Arc::default(), Clock::system());
    assert!(nowhere.brakes.is_pulled(Puller::Guards));
    assert_eq!(nowhere.standing(), Standing::UNSEEN);
    assert_eq!(nowhere.afresh().await.unwrap(), Standing::UNSEEN);
    nowhere.show(guards.seen.borrow().clone().unwrap());
    assert!(nowhere.afresh().await.is_err());
    drop(stored);
}

/// How the guards refuse what they are tried with.
const REQUESTS: (u16, &str) = (
    422,
    "x is forbidden: ValidatingAdmissionPolicy 'curfew-requests' with binding 'curfew-requests' denied request: no",
);
const BOUNDS: (u16, &str) = (
    422,
    "x is forbidden: ValidatingAdmissionPolicy 'curfew-operator-bounds' with binding 'curfew-operator-bounds' denied request: no",
);

/// An API server that answers so to the trial of a request and of a binding.
fn tries(request: (u16, &'static str), binding: (u16, &'static str)) -> Client {
    let answers = |(code, message): (u16, &'static str)| {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": "Forbidden", "code": code});
        post(move |sent: String| async move {
            let answer = if code < 300 {
                serde_json::from_str(&sent).unwrap()
            } else {
                status
            };
            (StatusCode::from_u16(code).unwrap(), json_of(&answer))
        })
    };
    let server = Router::new()
        .route(
            "/apis/curfew.dev/v1alpha1/namespaces/default/accessrequests",
            answers(request),
        )
        .route(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
            answers(binding),
        );
    Client::new(server, "default")
}

#[tokio::test]
async fn a_trial_succeeds_only_when_the_guards_themselves_refuse() {
    assert_eq!(try_out(&tries(REQUESTS, BOUNDS)).await, Ok(()));
    let rbac = (403, "User \"x\" cannot create resource \"accessrequests\"");
    for (request, binding, named) in [
        ((201, ""), BOUNDS, "\"curfew-requests\" is not in force"),
        (REQUESTS, (201, ""), "\"curfew-operator-bounds\" is not in force"),
        (rbac, BOUNDS, "\"curfew-requests\" is in force is not known"),
        (REQUESTS, rbac, "\"curfew-operator-bounds\" is in force is not known"),
        (REQUESTS, (500, "a webhook is down"), "a webhook is down"),
        (BOUNDS, REQUESTS, "\"curfew-requests\""),
        ((201, ""), (201, ""), "\"curfew-requests\" is not in force"),
        (
            (500, "a webhook is down"),
            (201, ""),
            "\"curfew-operator-bounds\" is not in force",
        ),
        (
            (201, ""),
            (500, "a webhook is down"),
            "\"curfew-requests\" is not in force",
        ),
    ] {
        let unproven = try_out(&tries(request, binding)).await.unwrap_err();
        assert!(unproven.why.contains(named), "{}", unproven.why);
        assert_eq!(unproven.is_let_through, unproven.why.contains("is not in force"));
    }
}

/// Not all can be tried, and those that can't take as long.
#[tokio::test(start_paused = true)]
async fn a_guard_that_was_put_back_is_tried_only_when_the_api_server_has_had_time_to_heed_it() {
    let (proven, _) = proven();
    let guards = Guards {
        client: tries(REQUESTS, BOUNDS),
        ..proven
    };
    let begun = tokio::time::Instant::now();
    guards.prove(guards.settles(&Shelf::new(&[]), &[])).await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
}

/// An operator that begins doesn't know what was there before; those of the guards that can't be tried may have come a moment ago.
#[tokio::test]
async fn at_the_start_guards_that_have_stood_there_for_long_are_tried_at_once_and_new_ones_are_not() {
    let now: chrono::DateTime<chrono::Utc> = "2027-01-15T08:00:00Z".parse().unwrap();
    let shipped = guard::shipped("operator", true).unwrap();
    for (age, settles) in [(1, 3), (3600, 0)] {
        let guards = Guards::new(tries(REQUESTS, BOUNDS), Arc::default(), Clock::new(move || now));
        let mut shelf = Shelf::new(&sources(None));
        let created = now - chrono::Duration::seconds(age);
        let policy =
            serde_json::from_value(json!({"metadata": {"name": DECISIONS, "creationTimestamp": created.to_rfc3339()}}));
        shelf.take(0, Ok(watcher::Event::Apply(policy.unwrap())));
        assert_eq!(guards.settles(&shelf, &shipped), Duration::from_secs(settles), "{age}");
    }
}

/// The definition lets nobody change who asks; somebody may have taken that out and put it back before this operator began.
#[test]
fn who_asks_is_attested_by_what_was_written_last_of_the_policy_its_binding_and_the_definition() {
    let now: chrono::DateTime<chrono::Utc> = "2027-01-15T08:00:00Z".parse().unwrap();
    let shipped = guard::shipped("operator", true).unwrap();
    for (name, counts) in [
        ("curfew-requests", true),
        ("accessrequests.curfew.dev", true),
        (DECISIONS, false),
    ] {
        let sources = sources(None);
        let mut shelf = Shelf::new(&sources);
        for source in 0..sources.len() {
            let guard = json!({"metadata": {"name": name, "creationTimestamp": now.to_rfc3339()}});
            shelf.take(
                source,
                Ok(watcher::Event::Apply(serde_json::from_value(guard).unwrap())),
            );
        }
        let touched = shelf.touched(&shipped, attests_requesters);
        assert_eq!(touched.is_some(), counts, "{name}");
    }
}

/// Guards that were in force, while they are tried again and answered so.
async fn tried_again(request: (u16, &'static str), binding: (u16, &'static str)) -> Option<Brake> {
    let (proven, _) = proven();
    let guards = Guards {
        client: tries(request, binding),
        ..proven
    };
    let _ = tokio::time::timeout(Duration::from_secs(3600), guards.prove_again(None)).await;
    guards.brakes.pulled()
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_was_in_force_stops_granting_when_it_lets_through_and_not_when_something_else_refuses() {
    assert_eq!(tried_again(REQUESTS, BOUNDS).await, None);
    assert_eq!(tried_again((500, "a webhook is down"), BOUNDS).await, None);
    let down = (500, "a webhook is down");
    for (request, binding) in [((201, ""), BOUNDS), (REQUESTS, (201, "")), (down, (201, ""))] {
        let pulled = tried_again(request, binding).await.unwrap();
        assert_eq!(pulled.reason, "GuardNotInForce");
    }
}

/// Until then nobody knows whether it will pass.
#[tokio::test(start_paused = true)]
async fn guards_that_something_else_refuses_in_place_of_are_not_in_force_once_that_takes_ten_seconds_and_it_is_said_what_it_is()
 {
    let (proven, _) = proven();
    let guards = Guards {
        client: tries((500, "a webhook is down"), BOUNDS),
        ..proven
    };
    let proving = async |seconds| {
        let limit = Duration::from_secs(seconds);
        assert!(tokio::time::timeout(limit, guards.prove(Duration::ZERO)).await.is_err());
        guards.brakes.pulled()
    };
    assert_eq!(proving(9).await, None);
    let pulled = proving(20).await.unwrap();
    assert_eq!(pulled.reason, "GuardNotInForce");
    assert!(pulled.message.contains("a webhook is down"), "{}", pulled.message);
}

/// Of a foreign one, too, in whatever version.
#[tokio::test]
async fn stamping_policies_are_found_in_whatever_version_they_are_served() {
    for version in STAMPING {
        let kinds = json!({"kind": "APIResourceList", "groupVersion": format!("{GROUP}/{version}"), "resources": [
            {"name": "mutatingadmissionpolicies", "singularName": "", "namespaced": false, "kind": "MutatingAdmissionPolicy", "verbs": ["list"]},
        ]});
        let served = json!({"groupVersion": format!("{GROUP}/{version}"), "version": version});
        let groups = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [
            {"name": GROUP, "versions": [served], "preferredVersion": served},
        ]});
        let server = Router::new()
            .route("/apis", get(async move || json_of(&groups)))
            .route(&format!("/apis/{GROUP}/{version}"), get(async move || json_of(&kinds)));
        let guards = Guards::new(Client::new(server, "default"), Arc::default(), Clock::system());
        assert_eq!(guards.stamping().await.unwrap(), Some(version));
    }
    assert_eq!(STAMPING, ["v1", "v1beta1", "v1alpha1"]);
}

#[tokio::test]
async fn who_asks_is_attested_since_the_guard_was_written_and_what_is_seen_to_change_has_changed_just_now() {
    let (guards, _) = proven();
    let seen = guards.seen.borrow().as_ref().map(|seen| seen.marks.clone());
    let mut marks = seen.unwrap();
    let before = guards.clock.now().trunc_subsecs(0);
    let long_ago = before - chrono::Duration::hours(1);
    assert_eq!(guards.since(&marks, Some(long_ago)), long_ago + SETTLES);
    assert!(guards.since(&marks, None) >= before + SETTLES, "it isn't there");
    marks[0].generation += 1;
    assert!(guards.since(&marks, Some(long_ago)) >= before + SETTLES);
}
