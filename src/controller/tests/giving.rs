//! That access is given by who may give it while they may, and is told of soon.

use chrono::SecondsFormat;

use super::*;
use crate::cluster::anchor;
use crate::cluster::brakes::Puller;
use crate::core::anchor::Until;
use crate::core::facts::Brake;
use crate::core::offer::rules_digest;

/// A grant that is sealed and not bound yet, where this replica leads. What it writes is stored.
fn sealed() -> Server {
    let mut sealed = grant("g", 0..3600);
    sealed.as_object_mut().unwrap().remove("status");
    sealed["spec"]["role"]["rulesDigest"] = rules_digest(&[]).into();
    let mut things = vec![Thing::new("accessgrants", sealed)];
    things.extend(grounds("g"));
    let mut server = Server::with(things);
    (server.lease, server.echoes) = (Some(Arc::default()), true);
    // Whether there are guards it asks for ten seconds.
    server.fate = |_, path| match path.ends_with("/selfsubjectreviews") {
        true => Fate::Lost,
        false => Fate::Answered,
    };
    server
}

const BINDINGS: &str = "/namespaces/team/rolebindings";

/// A guard goes, and the brake is on again, while the grant is being read for the last time.
#[tokio::test(start_paused = true)]
async fn nothing_is_bound_once_a_brake_is_on_even_if_it_was_off_when_that_began() {
    for (goes, expected) in [(false, 1), (true, 0)] {
        let server = sealed();
        let mut operator = begun(&server);
        operator.runs(Duration::from_secs(1)).await;
        let answers = server.answers.available_permits();
        server.answers.forget_permits(answers);
        operator.brakes.release(Puller::Guards);
        operator.runs(Duration::from_secs(1)).await;
        assert!(!server.seconds_of(&Method::GET, "/accessgrants/g").is_empty());
        if goes {
            let (reason, message) = ("GuardGone", "a guard went".to_owned());
            operator.brakes.pull(Puller::Guards, Brake { reason, message });
        }
        server.answers.add_permits(answers);
        operator.runs(Duration::from_secs(1)).await;
        assert_eq!(server.seconds_of(&Method::POST, BINDINGS).len(), expected);
    }
}

/// Nobody looks whether it is to end until it is told that it was given; and another access is being ended, which takes its time.
#[tokio::test(start_paused = true)]
async fn that_access_was_given_is_told_within_a_second_whatever_else_is_under_way() {
    let mut server = sealed();
    server.things.push(Thing::new("accessgrants", grant("h", -7200..-3600)));
    let mut operator = begun(&server);
    operator.runs(Duration::from_secs(1)).await;
    operator.brakes.release(Puller::Guards);
    operator.runs(Duration::from_secs(4)).await;
    let bound = server.seconds_of(&Method::POST, BINDINGS);
    let told = server.seconds_of(&Method::PUT, "/accessgrants/g/status");
    assert_eq!((bound, told), (vec![1], vec![2]));
}

/// It begins in ten seconds. Anchors that others need now come first.
#[tokio::test(start_paused = true)]
async fn no_anchor_is_made_ahead_where_half_of_all_are_there() {
    for (there, is_made) in [(0, true), (anchor::LIMIT / 2, false)] {
        let [mut request, role, namespace] = grounds("g");
        let begins = start() + chrono::Duration::seconds(10);
        request.1["spec"]["startTime"] = begins.to_rfc3339_opts(SecondsFormat::Secs, true).into();
        let offer = json!({"digest": "f", "code": "f", "duration": "1h"});
        request.1["status"] = json!({"phase": "Approved", "offer": offer});
        let mut things = vec![request, role, namespace];
        things.extend((0..there).map(|hours| {
            let until = Until::serving(start() + chrono::Duration::hours(2 + i64::try_from(hours).unwrap())).unwrap();
            let metadata =
                json!({"name": until.name(), "namespace": "curfew-system", "uid": "j", "resourceVersion": "1"});
            Thing::new("jobs", json!({"metadata": metadata, "spec": {"template": {}}}))
        }));
        let mut server = sealed();
        server.things = things;
        run_for(A_WHILE, &mut begun(&server).running).await;
        let made = server.seconds_of(&Method::POST, "/namespaces/curfew-system/jobs");
        assert_eq!(!made.is_empty(), is_made, "{there} are there: {made:?}");
    }
}
