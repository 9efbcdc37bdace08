//! What the watches have shown and what is read are of two minds, for one of them is older: nothing is done by one alone, and it is read again until they agree.

use super::ends::{ends_within, run_so_long};
use super::*;

/// Once a second, in so many.
fn is_read_each_second(server: &Server, end: &str, seconds: u64) {
    let read = server.seconds_of(&Method::GET, end);
    let missing: Vec<_> = (0..seconds).filter(|second| !read.contains(second)).collect();
    // Once more at the start, for each watch that begins is a reason to look.
    assert!(
        missing.is_empty() && read.len() < 3 * usize::try_from(seconds).unwrap(),
        "{end}: {read:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stray_binding_in_whose_place_another_is_read_is_read_again_and_the_other_left_alone() {
    let orphan = binding(&grant("g", -3600..3600));
    let mut foreign = orphan.clone();
    foreign["metadata"]["uid"] = "another".into();
    foreign["metadata"].as_object_mut().unwrap().remove("labels");
    let mut server = Server::with(vec![Thing::new("rolebindings", orphan)]);
    server.newer = Some(foreign);
    assert!(ends_within(5, &server).await.is_empty());
    is_read_each_second(&server, &binding_of("g"), 5);
}

#[tokio::test(start_paused = true)]
async fn a_binding_whose_grant_no_watch_has_shown_yet_is_read_again_and_left_alone() {
    let held = grant("g", -3600..3600);
    let mut server = Server::with(vec![Thing::new("rolebindings", binding(&held))]);
    server.newer = Some(held);
    assert!(ends_within(5, &server).await.is_empty());
    is_read_each_second(&server, "/accessgrants/g", 5);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_shown_as_over_and_read_as_not_is_read_again_and_ends_no_access() {
    let held = grant("g", -7200..3600);
    let [mut request, role, namespace] = grounds("g");
    let standing = request.1.clone();
    request.1["status"]["phase"] = "Revoked".into();
    let mut server = Server::with(vec![
        Thing::new("rolebindings", binding(&held)),
        Thing::new("accessgrants", held),
        request,
        role,
        namespace,
    ]);
    server.newer = Some(standing);
    assert!(ends_within(5, &server).await.is_empty());
    is_read_each_second(&server, "/accessrequests/look", 5);
}

/// What it knows of the request is older than what is stored.
#[tokio::test(start_paused = true)]
async fn what_could_not_be_said_of_a_request_that_is_another_by_now_is_decided_on_what_it_is_now() {
    let [request, role, namespace] = grounds("g");
    let mut newer = request.1.clone();
    newer["metadata"]["resourceVersion"] = "2".into();
    let over = ended(grant("g", -7200..3600));
    let mut server = Server::with(vec![Thing::new("accessgrants", over), request, role, namespace]);
    (server.lease, server.echoes, server.newer) = (Some(Arc::default()), true, Some(newer));
    run_so_long(1, &server).await;
    let tries = server.seconds_of(&Method::PUT, "/accessrequests/look/status");
    let read = server.seconds_of(&Method::GET, "/accessrequests/look");
    // That conflict, and the one that is decided again.
    assert_eq!((tries, read), (vec![0, 0], vec![0]));
}

/// Whether a request whose grant has ended says so within half a minute, where reading its binding comes to this.
async fn says_that_it_is_over(reading: fn(&Method, &str) -> Fate) -> bool {
    let [mut request, role, namespace] = grounds("g");
    request.1["status"]["targets"] = json!([{"namespace": "team", "uid": "n"}]);
    let over = ended(grant("g", -7200..3600));
    let mut server = Server::with(vec![Thing::new("accessgrants", over), request, role, namespace]);
    (server.lease, server.echoes, server.fate) = (Some(Arc::default()), true, reading);
    run_so_long(30, &server).await;
    !server
        .seconds_of(&Method::PUT, "/accessrequests/look/status")
        .is_empty()
}

#[tokio::test(start_paused = true)]
async fn that_its_bindings_may_not_be_read_keeps_no_request_open_and_that_nobody_answers_does() {
    assert!(says_that_it_is_over(|_, _| Fate::Answered).await);
    let may_not = says_that_it_is_over(|_, path| match path.ends_with(&binding_of("g")) {
        true => Fate::Refused,
        false => Fate::Answered,
    });
    assert!(may_not.await);
    let no_answer = says_that_it_is_over(|_, path| match path.ends_with(&binding_of("g")) {
        true => Fate::Lost,
        false => Fate::Answered,
    });
    assert!(!no_answer.await);
}
