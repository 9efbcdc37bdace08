//! That access ends in time, whatever an API server does meanwhile.

use chrono::SecondsFormat;

use super::*;
use crate::cluster::brakes::Puller;
use crate::core::offer::rules_digest;

/// When, in so many seconds, it was tried to delete the binding of the grant `g`.
pub async fn ends_within(seconds: u64, server: &Server) -> Vec<u64> {
    run_so_long(seconds, server).await;
    server.seconds_of(&Method::DELETE, &binding_of("g"))
}

pub async fn run_so_long(seconds: u64, server: &Server) {
    begun(server).runs(Duration::from_secs(seconds)).await;
}

/// Its binding is missing, which is looked at afresh.
#[tokio::test(start_paused = true)]
async fn reads_that_are_never_answered_hold_up_no_end() {
    let mut things = vec![Thing::new("accessgrants", grant("g", -3600..3))];
    things.extend(grounds("g"));
    let mut server = Server::with(things);
    server.fate = |method, path| match *method == Method::GET && !is_list(path) {
        true => Fate::Lost,
        false => Fate::Answered,
    };
    assert_eq!(ends_within(8, &server).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_not_be_read_is_gone_only_to_a_grant_that_is_not_young_and_where_all_is_known() {
    let not_read: fn(&Method, &str) -> Fate = |_, path| match path.ends_with("/accessrequests/look") {
        true => Fate::Refused,
        false => Fate::Answered,
    };
    let not_listed_either: fn(&Method, &str) -> Fate = |_, path| match path.contains("/accessrequests") {
        true => Fate::Refused,
        false => Fate::Answered,
    };
    for (age, fate, is_gone) in [
        (7200, not_read, true),
        (5, not_read, false),
        (7200, not_listed_either, false),
    ] {
        let mut server = Server::with(vec![Thing::new("accessgrants", grant("g", -age..3600))]);
        server.fate = fate;
        let ends = ends_within(60, &server).await;
        assert_eq!(!ends.is_empty(), is_gone, "{age} s old: {ends:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_is_not_answered_is_repeated_after_ten_seconds() {
    let server = Server::with(vec![Thing::new("accessgrants", grant("g", -3600..0))]);
    assert_eq!(ends_within(13, &server).await, [0, 10]);
}

/// A second after the deadline it is the sweep's turn, which leaves another to the grant's own end, that is under way.
#[tokio::test(start_paused = true)]
async fn where_a_grants_own_end_hangs_the_sweep_ends_its_access() {
    let held = grant("g", -3600..3);
    let mut things = vec![
        Thing::new("rolebindings", binding(&held)),
        Thing::new("accessgrants", held),
    ];
    things.extend(grounds("g"));
    assert_eq!(ends_within(8, &Server::with(things)).await, [3, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_no_grant_explains_is_deleted_wherever_it_gives_access_and_whenever_it_comes() {
    let orphan = binding(&grant("g", -3600..3600));
    for (kind, orphan) in [
        ("rolebindings", orphan.clone()),
        ("clusterrolebindings", cluster_wide(orphan)),
    ] {
        for comes in [0, 2] {
            let server = Server::with(vec![Thing(kind, orphan.clone(), Duration::from_secs(comes))]);
            server.deletes.add_permits(1);
            // More than once at the start, for it stays: each watch that begins is a reason to look.
            assert_eq!(ends_within(4, &server).await.first(), Some(&comes), "{kind}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_request_ends_its_access_whatever_else_can_not_be_read() {
    let held = grant("g", -7200..3600);
    let [_request, role, namespace] = grounds("g");
    let mut server = Server::with(vec![
        Thing::new("rolebindings", binding(&held)),
        Thing::new("accessgrants", held),
        role,
        namespace,
    ]);
    server.fate = |_, path| match path.ends_with("/roles/reader") {
        true => Fate::Lost,
        false => Fate::Answered,
    };
    // At once, and when that had no answer.
    assert_eq!(ends_within(15, &server).await, [0, 10]);
}

/// Who had the operator's token may have written that.
#[tokio::test(start_paused = true)]
async fn names_that_would_be_another_call_or_none_hold_up_no_end() {
    for name in ["", "?watch=true", "..", "look/status"] {
        let mut forged = grant("g", -7200..3600);
        forged["spec"]["request"]["name"] = name.into();
        assert_eq!(ends_of(forged).await, [0], "as the request's name: {name:?}");
        let mut forged = grant("g", -7200..3600);
        forged["spec"]["request"]["namespace"] = name.into();
        assert_eq!(ends_of(forged).await, [0], "as the request's namespace: {name:?}");
        let mut forged = grant("g", -7200..-3600);
        forged["status"]["bindings"][0]["name"] = name.into();
        assert_eq!(ends_of(forged).await, [0], "as the binding's name: {name:?}");
    }
}

/// Where whatever isn't one object is never answered.
async fn ends_of(forged: serde_json::Value) -> Vec<u64> {
    let mut server = Server::with(vec![Thing::new("accessgrants", forged)]);
    server.fate = |_, path| match path.ends_with('/') || path.ends_with("/look/status") {
        true => Fate::Lost,
        false => Fate::Answered,
    };
    ends_within(4, &server).await
}

/// Such as the last day of the year 9999, which the API server keeps.
#[tokio::test(start_paused = true)]
async fn a_moment_that_can_not_be_read_hides_no_access_from_its_end() {
    let never = serde_json::Value::from("9999-12-31T23:59:59Z");
    let mut forged = grant("f", -3600..99_999);
    forged["spec"]["startTime"] = never.clone();
    let mut due = grant("g", -3600..0);
    due["status"]["expiresAt"] = never.clone();
    due["status"]["conditions"] =
        json!([{"type": "Bound", "status": "True", "reason": "Bound", "message": "", "lastTransitionTime": never}]);
    let server = Server::with([forged, due].map(|grant| Thing::new("accessgrants", grant)).into());
    assert_eq!(ends_within(4, &server).await, [0]);
    assert_eq!(server.seconds_of(&Method::DELETE, &binding_of("f")), [0]);
}

/// The operator seals before it binds.
#[tokio::test(start_paused = true)]
async fn what_is_bound_and_was_never_sealed_ends_and_what_is_sealed_by_now_does_not() {
    for (is_sealed_by_now, expected) in [(false, vec![0]), (true, vec![])] {
        let mut held = grant("g", -7200..3600);
        if !is_sealed_by_now {
            let elsewhere = json!({"namespace": "x/y", "uid": "u"});
            held["spec"]["targets"].as_array_mut().unwrap().push(elsewhere);
        }
        let [mut request, role, namespace] = grounds("g");
        let sealed = request.1.clone();
        request.1["status"] = json!({"phase": "Pending"});
        let mut server = Server::with(vec![
            Thing::new("rolebindings", binding(&held)),
            Thing::new("accessgrants", held),
            request,
            role,
            namespace,
        ]);
        server.newer = is_sealed_by_now.then_some(sealed);
        // As an API server does, which takes that for another kind.
        server.fate = |_, path| match path.contains("x/y") {
            true => Fate::Refused,
            false => Fate::Answered,
        };
        assert_eq!(ends_within(4, &server).await, expected);
    }
}

/// More than are looked at at once.
#[tokio::test(start_paused = true)]
async fn records_that_can_not_be_removed_hold_up_no_end() {
    let record = |number| {
        let mut over = ended(grant(&format!("over{number}"), -7200..-3600));
        over["spec"]["retention"] = "1s".into();
        Thing::new("accessgrants", over)
    };
    let mut things: Vec<_> = (0..300).map(record).collect();
    things.push(Thing::new("accessgrants", grant("g", -3600..5)));
    let server = leading(things);
    let mut operator = begun(&server);
    operator.runs(Duration::from_secs(1)).await;
    operator.brakes.release(Puller::Guards);
    operator.runs(Duration::from_secs(8)).await;
    assert_eq!(server.seconds_of(&Method::DELETE, &binding_of("g")), [5]);
    assert!(!removals(300, &server).is_empty(), "none was tried");
}

/// Of two deletes one is answered; that its grant has ended is told when it has waited long enough for the other.
#[tokio::test(start_paused = true)]
async fn what_only_tells_waits_while_access_is_being_taken_away() {
    let overdue = |name| Thing::new("accessgrants", grant(name, -7200..-3600));
    let server = Server::with(vec![overdue("g"), overdue("h")]);
    server.deletes.add_permits(1);
    run_so_long(8, &server).await;
    assert_eq!(server.seconds_of(&Method::PUT, "/status"), [1]);
}

/// Its policy was wrong for two seconds. What was begun then is not answered; what waits behind it is kept.
#[tokio::test(start_paused = true)]
async fn what_is_to_be_kept_for_longer_when_its_turn_to_be_removed_comes_is_kept() {
    let ended = start().to_rfc3339_opts(SecondsFormat::Secs, true);
    let request = |number| {
        json!({
            "apiVersion": "curfew.dev/v1alpha1", "kind": "AccessRequest",
            "metadata": {"name": format!("over{number}"), "namespace": "team", "uid": format!("u{number}"), "resourceVersion": "1"},
            "spec": {"role": {"kind": "Role", "name": "reader"}, "requester": {"username": "alice"}},
            "status": {"phase": "Denied", "policy": {"name": "p", "uid": "p"}, "timeline": {"ended": ended}},
        })
    };
    let policy = |version: &str, retention: &str| {
        let spec = json!({"requesters": {}, "roles": [], "maxDuration": "1h", "retention": retention});
        json!({"metadata": {"name": "p", "uid": "p", "resourceVersion": version}, "spec": spec})
    };
    let mut things: Vec<_> = (0..20)
        .map(|number| Thing::new("accessrequests", request(number)))
        .collect();
    things.push(Thing::new("accesspolicies", policy("1", "1s")));
    things.push(Thing("accesspolicies", policy("2", "1h"), Duration::from_secs(3)));
    let server = leading(things);
    let mut operator = begun(&server);
    for span in [1.0, 9.5, 4.5] {
        operator.runs(Duration::from_secs_f64(span)).await;
        operator.brakes.release(Puller::Guards);
    }
    assert_eq!(removals(20, &server), [1; 4]);
}

/// Of one requester, of whom one more ends just now. No more than a few are tried at once, and a second later again.
#[tokio::test(start_paused = true)]
async fn requests_that_are_too_many_and_can_not_be_removed_are_tried_once_a_second() {
    let ended = start() - chrono::Duration::hours(1);
    let ended = ended.to_rfc3339_opts(SecondsFormat::Secs, true);
    let over = |number: usize| {
        json!({
            "apiVersion": "curfew.dev/v1alpha1", "kind": "AccessRequest",
            "metadata": {"name": format!("over{number}"), "namespace": "team", "uid": format!("u{number}"), "resourceVersion": "1"},
            "spec": {"role": {"kind": "Role", "name": "reader"}, "requester": {"username": "alice"}},
            "status": {"phase": "Denied", "timeline": {"ended": ended}},
        })
    };
    let mut things: Vec<_> = (0..501)
        .map(|number| Thing::new("accessrequests", over(number)))
        .collect();
    let [mut request, role, namespace] = grounds("g");
    request.1["spec"]["decisions"] =
        json!([{"verdict": "Revoke", "username": "alice", "via": ["requester"], "offer": ""}]);
    request.1["status"] = json!({"phase": "Pending"});
    things.extend([request, role, namespace]);
    let mut server = Server::with(things);
    (server.lease, server.echoes, server.verdict) = (Some(Arc::default()), true, StatusCode::INTERNAL_SERVER_ERROR);
    server.deletes.add_permits(1000);
    let mut operator = begun(&server);
    for _ in 0..20 {
        operator.runs(Duration::from_millis(500)).await;
        operator.brakes.release(Puller::Guards);
    }
    let tried = removals(501, &server);
    assert!((5..50).contains(&tried.len()), "{tried:?}");
    let text = operator.metrics.text().unwrap();
    assert!(
        text.contains("controller=\"retention\",kind=\"server_error\""),
        "{text}"
    );
}

/// When it was tried to remove any of so many.
fn removals(of: usize, server: &Server) -> Vec<u64> {
    let tried = (0..of).flat_map(|number| server.seconds_of(&Method::DELETE, &format!("/over{number}")));
    tried.collect()
}

/// Where a replica leads. Whether there are guards it asks for ten seconds, and then anew.
pub fn leading(things: Vec<Thing>) -> Server {
    let mut server = Server::with(things);
    server.lease = Some(Arc::default());
    server.fate = |method, path| match path.ends_with("/selfsubjectreviews") || *method == Method::GET && !is_list(path)
    {
        true => Fate::Lost,
        false => Fate::Answered,
    };
    server
}

/// It loses a second in a thousand.
#[tokio::test(start_paused = true)]
async fn on_a_machine_whose_time_runs_too_slow_a_long_access_ends_on_time_all_the_same() {
    let long = grant("g", 0..7200);
    let mut things = vec![
        Thing::new("rolebindings", binding(&long)),
        Thing::new("accessgrants", long),
    ];
    things.extend(grounds("g"));
    let server = Server::with(things);
    let begun = Instant::now();
    let parts = Parts {
        clock: Clock::new(move || start() + begun.elapsed() * 1001 / 1000),
        ..parts(&server)
    };
    let mut running = run(parts, std::future::pending().shared()).boxed();
    run_for(Duration::from_secs(7300), &mut running).await;
    let ends = server.seconds_of(&Method::DELETE, &binding_of("g"));
    assert!((7192..=7193).contains(&ends[0]), "{ends:?}");
}

/// A webhook in one namespace hangs, say.
#[tokio::test(start_paused = true)]
async fn deletes_that_are_never_answered_hold_up_no_other_end() {
    let names: Vec<String> = (0..100).map(|number| format!("hangs-{number}")).collect();
    let mut things: Vec<_> = (names.iter())
        .map(|name| Thing::new("accessgrants", grant(name, -7200..-3600)))
        .collect();
    let held = grant("g", -3600..3);
    things.push(Thing::new("rolebindings", binding(&held)));
    things.push(Thing::new("accessgrants", held));
    things.extend(grounds("g"));
    assert_eq!(ends_within(4, &Server::with(things)).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn a_binding_is_explained_by_its_own_grant_and_not_by_the_one_that_it_names() {
    let mut orphan = binding(&grant("g", -3600..3600));
    orphan["metadata"]["annotations"]["curfew.dev/grant"] = "h".into();
    let mut things = vec![
        Thing::new("rolebindings", orphan),
        Thing::new("accessgrants", grant("h", -3600..3600)),
    ];
    things.extend(grounds("h"));
    assert_eq!(ends_within(4, &Server::with(things)).await.first(), Some(&0));
}

/// Its delete takes effect, and is answered when the watch has long told.
#[tokio::test(start_paused = true)]
async fn what_is_gone_meanwhile_is_overdue_no_more() {
    let mut server = overdue();
    server.goes = Some(Duration::from_secs(5));
    let mut operator = begun(&server);
    operator.runs(Duration::from_secs(30)).await;
    assert!(!server.seconds_of(&Method::DELETE, &binding_of("g")).is_empty());
    operator.tells("curfew_overdue_bindings 0.0");
}

/// What was refused to this replica another may have done, or its anchor.
#[tokio::test(start_paused = true)]
async fn what_another_replica_ended_or_somebody_took_away_is_overdue_no_more() {
    const LATER: Duration = Duration::from_secs(5);
    let late = grant("g", -7200..-3600);
    let mut over = ended(late.clone());
    over["metadata"]["resourceVersion"] = "2".into();
    let orphan = binding(&grant("gone", -7200..3600));
    for (things, goes) in [
        (
            vec![Thing::new("accessgrants", late), Thing("accessgrants", over, LATER)],
            None,
        ),
        (vec![Thing::new("rolebindings", orphan.clone())], Some(LATER)),
        (
            vec![Thing::new("clusterrolebindings", cluster_wide(orphan))],
            Some(LATER),
        ),
    ] {
        let mut server = Server::with(things);
        (server.verdict, server.goes) = (StatusCode::INTERNAL_SERVER_ERROR, goes);
        server.deletes.add_permits(1000);
        let mut operator = begun(&server);
        operator.runs(Duration::from_secs(4)).await;
        operator.tells("curfew_overdue_bindings 1.0");
        operator.runs(Duration::from_secs(4)).await;
        operator.tells("curfew_overdue_bindings 0.0");
    }
}

/// A finalizer, and somebody writes whenever the operator would take it off.
#[tokio::test(start_paused = true)]
async fn what_goes_on_being_held_is_overdue_and_tried_on_whether_or_not_a_grant_explains_it() {
    let held = grant("g", -7200..-3600);
    let bound = binding(&held);
    for thing in [
        Thing::new("accessgrants", held),
        Thing::new("rolebindings", bound.clone()),
    ] {
        let kind = thing.0;
        let mut server = Server::with(vec![thing]);
        let mut lingers = bound.clone();
        lingers["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
        lingers["metadata"]["finalizers"] = json!(["example.com/held"]);
        server.lingers = Some(lingers);
        server.deletes.add_permits(1000);
        let mut operator = begun(&server);
        operator.runs(Duration::from_secs(60)).await;
        operator.tells("curfew_overdue_bindings 1.0");
        let tries = server.seconds_of(&Method::DELETE, &binding_of("g"));
        assert!(
            tries.iter().filter(|second| **second > 10).count() > 2,
            "{kind}: {tries:?}"
        );
    }
}

/// A grant for two namespaces that no status tells of yet, 30 s old, and what it rests on. It is bound in so many of them.
fn sealed_for_two(bound: usize) -> Server {
    let mut of_two = grant("g", -30..3600);
    of_two["spec"]["role"]["kind"] = "ClusterRole".into();
    of_two["spec"]["role"]["rulesDigest"] = rules_digest(&[]).into();
    let targets = of_two["spec"]["targets"].as_array_mut().unwrap();
    targets.push(json!({"namespace": "other", "uid": "m"}));
    let here = binding(&of_two);
    let mut there = here.clone();
    there["metadata"]["namespace"] = "other".into();
    of_two.as_object_mut().unwrap().remove("status");
    let [mut request, Thing(_, mut role, _), namespace] = grounds("g");
    request.1["spec"]["role"]["kind"] = "ClusterRole".into();
    request.1["spec"]["namespaces"] = json!(["team", "other"]);
    role["metadata"].as_object_mut().unwrap().remove("namespace");
    let other = json!({"metadata": {"name": "other", "uid": "m", "resourceVersion": "1"}});
    let mut things = vec![
        Thing::new("accessgrants", of_two),
        Thing::new("clusterroles", role),
        Thing::new("namespaces", other),
        namespace,
        request,
    ];
    let bindings = [here, there].into_iter().take(bound);
    things.extend(bindings.map(|binding| Thing::new("rolebindings", binding)));
    Server::with(things)
}

/// No replica may bind, nor record what is bound: none leads.
#[tokio::test(start_paused = true)]
async fn what_is_bound_in_one_of_two_namespaces_and_can_not_be_in_the_other_ends_after_a_minute() {
    for (bound, first) in [(0, None), (1, Some(30)), (2, None)] {
        let ends = ends_within(60, &sealed_for_two(bound)).await;
        assert_eq!(ends.first().copied(), first, "bound in {bound}: {ends:?}");
    }
}

/// Nothing else stops it: whether there are guards isn't answered, and meanwhile they are taken to be there.
#[tokio::test(start_paused = true)]
async fn what_is_bound_in_one_of_two_namespaces_ends_after_a_minute_also_where_only_the_lease_is_wanting() {
    let mut server = sealed_for_two(1);
    let of_two = server.things.iter_mut().find(|Thing(kind, ..)| *kind == "accessgrants");
    // Ten seconds, and ten more, are when the brake is on again for a moment.
    of_two.unwrap().1["metadata"]["creationTimestamp"] = "2027-01-15T07:59:25Z".into();
    server.fate = |_, path| match path.ends_with("/selfsubjectreviews") {
        true => Fate::Lost,
        false => Fate::Answered,
    };
    let mut operator = begun(&server);
    for _ in 0..120 {
        operator.brakes.release(Puller::Guards);
        operator.runs(Duration::from_millis(300)).await;
    }
    let ends = server.seconds_of(&Method::DELETE, &binding_of("g"));
    assert_eq!(ends.first(), Some(&25), "{ends:?}");
}

/// Another replica waited until it might bind, and began with the first just now.
#[tokio::test(start_paused = true)]
async fn what_was_sealed_long_ago_and_is_bound_in_one_place_just_now_is_given_its_minute() {
    let mut server = sealed_for_two(1);
    let bound = server.things.iter_mut().find(|Thing(kind, ..)| *kind == "rolebindings");
    bound.unwrap().1["metadata"]["creationTimestamp"] = "2027-01-15T08:00:00Z".into();
    assert_eq!(ends_within(70, &server).await.first(), Some(&60));
}

/// Whoever has the operator's token may write any name on it.
#[tokio::test(start_paused = true)]
async fn a_binding_on_which_stands_a_name_that_would_be_another_call_is_swept_all_the_same() {
    let mut orphan = binding(&grant("g", -3600..3600));
    orphan["metadata"]["annotations"]["curfew.dev/grant"] = "?watch=true".into();
    let mut server = Server::with(vec![Thing::new("rolebindings", orphan)]);
    server.fate = |_, path| match path.ends_with("/accessgrants/") {
        true => Fate::Lost,
        false => Fate::Answered,
    };
    assert_eq!(ends_within(4, &server).await.first(), Some(&0));
}

#[tokio::test(start_paused = true)]
async fn where_one_namespace_hangs_access_to_the_others_ends_all_the_same() {
    let mut of_two = grant("g", -7200..-3600);
    let more = |all: &mut serde_json::Value, one| all.as_array_mut().unwrap().push(one);
    more(
        &mut of_two["spec"]["targets"],
        json!({"namespace": "other", "uid": "m"}),
    );
    let there = json!({"namespace": "other", "name": "curfew-uid-of-g", "uid": "binding-there"});
    more(&mut of_two["status"]["bindings"], there);
    let mut server = Server::with(vec![Thing::new("accessgrants", of_two)]);
    server.fate = |_, path| match path.contains("/namespaces/team/") {
        true => Fate::Lost,
        false => Fate::Answered,
    };
    run_so_long(4, &server).await;
    let there = format!("/other/role{}", binding_of("g"));
    assert_eq!(server.seconds_of(&Method::DELETE, &there), [0]);
}

#[tokio::test(start_paused = true)]
async fn how_late_an_access_ended_is_measured_from_its_deadline() {
    let server = Server::with(vec![Thing::new("accessgrants", grant("g", -7200..-3600))]);
    server.deletes.add_permits(100);
    let mut operator = begun(&server);
    operator.runs(Duration::from_secs(3)).await;
    let text = operator.metrics.text().unwrap();
    let sum = text
        .lines()
        .find_map(|line| line.strip_prefix("curfew_revoke_lag_seconds_sum "));
    let sum: f64 = sum.unwrap().parse().unwrap();
    assert!(sum >= 3600.0, "{sum}");
}
