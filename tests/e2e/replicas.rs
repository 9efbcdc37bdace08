//! Several replicas: one grants, all end access, and nothing is granted twice or not at all because one of them is gone.

use std::time::Duration;

use curfew::api::RequestPhase;
use curfew::core::grant::name as grant_name;
use curfew_testbed::{AuditEvent, Operator, OperatorOptions};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::line::Line;
use crate::scene::{Scene, merges};
use crate::signs::{assert_on_time, assert_soon_after_deadline, leads, not_ready};
use crate::tools::{eventually, watched};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Lent [OperatorProcess, AuditLog]:
            case_40_the_leader_killed_between_approval_and_binding_another_grants_and_grants_once,
            case_40_a_leader_paused_across_its_lease_grants_nothing_more_when_it_goes_on,
            case_40_while_the_leader_is_paused_the_other_replica_ends_access_on_time,
            case_40_while_the_leader_is_cut_off_the_other_replica_grants_and_ends_access_on_time;
        Lent [OperatorProcess]:
            a_lease_that_a_stranger_holds_stops_granting_and_never_an_end,
            a_lease_that_can_no_longer_be_renewed_stops_granting_and_never_an_end,
            a_leader_that_is_told_to_end_gives_the_lease_up_and_the_next_one_grants;
    ]
}

async fn case_40_the_leader_killed_between_approval_and_binding_another_grants_and_grants_once(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let first = scene.world.installation.operator().unwrap();
    let second = scene.world.installation.start_operator().await.unwrap();
    scene.asked(&scene.request("look")).await;
    first.pause().unwrap();
    scene.said(&scene.bob, "look", "approve").await;
    first.kill().unwrap();

    scene.active("look").await;
    scene.has_access().await;
    let granting = granting_writes(&scene);
    let steps: Vec<_> = granting
        .iter()
        .map(|event| (agent(event), event.resource.as_str(), event.code))
        .collect();
    assert_eq!(
        steps,
        [
            (second.name(), "accessgrants", 201),
            (second.name(), "rolebindings", 201)
        ]
    );

    // What was killed comes back as a follower.
    first.start().await.unwrap();
    assert_eq!((leads(first).await, leads(&second).await), (false, true));
}

async fn case_40_a_leader_paused_across_its_lease_grants_nothing_more_when_it_goes_on(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let first = scene.world.installation.operator().unwrap();
    let second = scene.world.installation.start_operator().await.unwrap();
    assert_eq!((leads(first).await, leads(&second).await), (true, false));
    scene.granted(&scene.request("before")).await;
    for name in ["during", "after"] {
        scene.asked(&scene.request(name)).await;
    }
    assert!(granting_writes(&scene).iter().all(|event| agent(event) == first.name()));

    first.pause().unwrap();
    scene.said(&scene.bob, "during", "approve").await;
    let lease = held_by(&scene, second.name()).await;
    let taken = lease.spec.unwrap().acquire_time.unwrap().0;
    scene.active("during").await;
    first.resume().unwrap();
    assert!(!leads(first).await, "its first answer after it went on");
    scene.said(&scene.bob, "after", "approve").await;
    scene.active("after").await;
    scene.has_policy(&scene.policy_with(json!({"maxDuration": "2h"}))).await;

    let later = by_since(scene.operator_writes(), first, taken);
    assert!(
        later.is_empty(),
        "the first wrote after the second took over: {later:#?}"
    );
    assert_eq!(scene.bindings().await.len(), 3, "each was bound once");
    assert_eq!((leads(first).await, leads(&second).await), (false, true));
}

async fn case_40_while_the_leader_is_paused_the_other_replica_ends_access_on_time(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let first = scene.world.installation.operator().unwrap();
    let second = scene.world.installation.start_operator().await.unwrap();
    let revoked = scene.granted(&scene.request("revoked")).await;
    let expires = scene
        .granted(&scene.request_with("expires", json!({"duration": "6s"})))
        .await;
    first.pause().unwrap();
    scene.said(&scene.alice, "revoked", "revoke").await;
    for grant in [&revoked, &expires] {
        scene.grant_ended(grant).await;
    }
    scene.has_no_access().await;
    let deletes: Vec<_> = scene
        .operator_writes()
        .into_iter()
        .filter(|event| event.verb == "delete")
        .collect();
    assert!(
        deletes.iter().all(|event| agent(event) == second.name()),
        "{deletes:#?}"
    );
    assert_soon_after_deadline(&expires, deletes.last().unwrap().finished);
    assert!(!leads(&second).await, "it needed no Lease for that");
    first.resume().unwrap();
    scene.request_in("revoked", RequestPhase::Revoked).await;
    scene.request_in("expires", RequestPhase::Expired).await;
}

async fn case_40_while_the_leader_is_cut_off_the_other_replica_grants_and_ends_access_on_time(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let installation = &scene.world.installation;
    let line = Line::to(scene.cluster()).await;
    let options = OperatorOptions::new(env!("CARGO_BIN_EXE_curfew"))
        .arguments(["--namespace", installation.namespace()])
        .server(line.server());
    let far = installation.spawn_operator(options).await.unwrap();
    let near = installation.operator().unwrap();
    near.stop().await.unwrap();
    eventually("the one at the end of the line grants", async || leads(&far).await).await;
    near.start().await.unwrap();
    let expires = scene
        .granted(&scene.request_with("expires", json!({"duration": "25s"})))
        .await;
    for name in ["during", "after"] {
        scene.asked(&scene.request(name)).await;
    }
    assert!(granting_writes(&scene).iter().all(|event| agent(event) == far.name()));

    line.cut();
    scene.said(&scene.bob, "during", "approve").await;
    scene.grant_ended(&expires).await;
    assert_on_time(&scene, &expires);
    let lease = held_by(&scene, near.name()).await;
    let taken = lease.spec.unwrap().acquire_time.unwrap().0;
    scene.active("during").await;
    assert!(!leads(&far).await, "it can't know that it still holds the Lease");
    assert_eq!(not_ready(&far).await, "", "whoever restarts it doesn't mend the line");

    line.mend();
    eventually("it is heard of again", async || {
        let log = scene.cluster().audit_log().unwrap();
        log.iter()
            .any(|event| agent(event) == far.name() && event.received > taken && event.code == 200)
    })
    .await;
    scene.said(&scene.bob, "after", "approve").await;
    scene.active("after").await;
    let by_far = by_since(granting_writes(&scene), &far, taken);
    assert!(by_far.is_empty(), "it granted after the other took over: {by_far:#?}");
    assert_eq!(scene.bindings().await.len(), 2, "each was bound once");
    assert_eq!((leads(&far).await, leads(near).await), (false, true));
}

async fn a_lease_that_a_stranger_holds_stops_granting_and_never_an_end(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let operator = scene.world.installation.operator().unwrap();
    let short = scene
        .granted(&scene.request_with("short", json!({"duration": "25s"})))
        .await;
    let pending = scene.asked(&scene.request("pending")).await;

    let leases = scene.at_home::<Lease>();
    let stranger = tokio::spawn(async move {
        for renewal in 100.. {
            let spec = json!({"holderIdentity": "stranger", "leaseTransitions": renewal});
            merges(&leases, "curfew", json!({"spec": spec})).await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    });
    eventually("the operator sees that it doesn't grant", async || {
        !leads(operator).await
    })
    .await;
    scene.said(&scene.bob, "pending", "approve").await;
    scene.grant_ended(&short).await;
    scene.has_no_access().await;
    let grant = grant_name(&pending.uid().unwrap());
    assert_eq!(scene.grants().get_opt(&grant).await.unwrap(), None);
    assert!(operator.get("/readyz").await.is_ok(), "it is at work: it ends access");

    stranger.abort();
    scene.active("pending").await;
    scene.has_access().await;
    scene.request_in("short", RequestPhase::Expired).await;
}

async fn a_lease_that_can_no_longer_be_renewed_stops_granting_and_never_an_end(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let operator = scene.world.installation.operator().unwrap();
    let short = scene
        .granted(&scene.request_with("short", json!({"duration": "20s"})))
        .await;
    let pending = scene.asked(&scene.request("pending")).await;

    let rights = scene.at_home::<RoleBinding>();
    let mut right = rights.get("curfew:operator").await.unwrap();
    rights
        .delete("curfew:operator", &DeleteParams::default())
        .await
        .unwrap();
    eventually("the operator no longer grants", async || !leads(operator).await).await;
    assert_eq!(
        holder(&scene.at_home::<Lease>().get("curfew").await.unwrap()),
        Some(operator.name())
    );
    scene.said(&scene.bob, "pending", "approve").await;
    scene.grant_ended(&short).await;
    scene.has_no_access().await;
    let grant = grant_name(&pending.uid().unwrap());
    assert_eq!(scene.grants().get_opt(&grant).await.unwrap(), None);

    right.metadata.resource_version = None;
    right.metadata.uid = None;
    rights.create(&PostParams::default(), &right).await.unwrap();
    scene.active("pending").await;
}

async fn a_leader_that_is_told_to_end_gives_the_lease_up_and_the_next_one_grants(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let first = scene.world.installation.operator().unwrap();
    let second = scene.world.installation.start_operator().await.unwrap();
    scene.asked(&scene.request("look")).await;
    let given_up = watched(
        scene.at_home::<Lease>(),
        "curfew",
        "it was given up",
        |lease: Option<&Lease>| lease.is_some_and(|lease| holder(lease).is_none()),
    );
    let (_, stopped) = tokio::join!(given_up, first.stop());
    stopped.unwrap();
    let log = first.log();
    let place = |line: &str| log.find(line).unwrap_or_else(|| panic!("{line:?} isn't in {log}"));
    assert!(
        place("told to end") < place("the Lease is given up") && place("the Lease is given up") < place("curfew ends"),
        "{log}"
    );
    assert!(!log.contains("is left"), "{log}");
    scene.said(&scene.bob, "look", "approve").await;
    scene.active("look").await;
    assert!(leads(&second).await);
}

// ---- who grants ----------------------------------------------------------------------------------------------------

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

async fn held_by(scene: &Scene, who: &str) -> Lease {
    watched(
        scene.at_home::<Lease>(),
        "curfew",
        "another holder",
        |lease: Option<&Lease>| lease.is_some_and(|lease| holder(lease) == Some(who)),
    )
    .await
    .unwrap()
}

/// The grants and bindings that the operators tried to make, in order.
fn granting_writes(scene: &Scene) -> Vec<AuditEvent> {
    let writes = scene.operator_writes().into_iter();
    writes
        .filter(|event| event.verb == "create" && ["accessgrants", "rolebindings"].contains(&event.resource.as_str()))
        .collect()
}

/// What one replica has done of this since then.
fn by_since(events: Vec<AuditEvent>, who: &Operator, since: Timestamp) -> Vec<String> {
    let its = events.into_iter();
    let its = its.filter(|event| event.received >= since && agent(event) == who.name());
    its.map(|event| format!("{} {} {}", event.verb, event.uri, event.code))
        .collect()
}

/// Which replica it was, by its user agent: `curfew/0.1.0 (operator-3)`.
fn agent(event: &AuditEvent) -> &str {
    let named = event.user_agent.split_once('(').map_or("", |(_, named)| named);
    named.trim_end_matches(')')
}
