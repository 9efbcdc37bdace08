//! Many at the same moment: nothing is lost, nothing happens twice, and of two words that race one holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use curfew::api::{AccessGrant, AccessRequest, DecisionEffect, EndReason, GrantPhase, RequestPhase, Verdict};
use curfew::core::{binding, grant};
use curfew_testbed::User;
use futures::future::{join_all, try_join_all};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::scene::{Scene, merges};
use crate::tools::{eventually_within, watched};
use crate::world::{Case, cases};

/// So many calls of one test are under way at once.
pub const AT_ONCE: usize = 24;
/// How long many requests together may take.
const LIMIT: Duration = Duration::from_secs(120);

pub fn cases() -> Vec<Case> {
    cases![
        Alone [OperatorProcess, AuditLog]:
            case_42_with_the_operator_dead_three_hundred_grants_end_within_the_grace;
        Shipped []:
            case_35_sixteen_approvals_in_the_same_moment_all_count,
            case_36_approvals_too_many_make_one_grant_and_one_binding,
            case_37a_a_grant_deleted_ends_access_and_is_never_made_again,
            case_38_two_hundred_requests_approved_together_hang_on_one_anchor;
        Shipped [AuditLog]: case_37_of_an_approval_and_a_denial_one_holds;
        Lent [OperatorProcess, AuditLog]: case_37_whatever_was_stored_before_the_operator_looks_a_no_wins;
    ]
}

async fn case_35_sixteen_approvals_in_the_same_moment_all_count(scene: Scene) {
    const APPROVERS: usize = 16;
    let approvers = people(&scene, APPROVERS).await;
    let (by_name, by_group) = approvers.split_at(APPROVERS / 2);
    assert_eq!(by_group.len(), APPROVERS / 2);
    let named: Vec<_> = by_name.iter().map(User::name).collect();
    let group = format!("crowd-{}", scene.id);
    let stage = json!({"name": "all", "required": APPROVERS, "approvers": {"users": named, "groups": [group]}});
    scene
        .has_policy(&scene.policy_with(json!({"approval": {"stages": [stage]}})))
        .await;
    scene.asked(&scene.request("look")).await;

    let apis: Vec<Api<AccessRequest>> = approvers.iter().map(|approver| scene.of(approver)).collect();
    for said in join_all(apis.iter().map(|api| says(api, "look", "approve"))).await {
        said.unwrap();
    }
    let grant = scene.active("look").await;
    let everybody: BTreeSet<_> = approvers.iter().map(|approver| approver.name().to_owned()).collect();
    assert_eq!(usernames(&grant), everybody);
    assert_eq!(grant.spec.decisions.len(), APPROVERS);
    let request = scene.request_now("look").await;
    assert_eq!(request.spec.decisions.len(), APPROVERS);
    let outcomes = request.status.unwrap().decisions;
    assert!(outcomes.len() < APPROVERS || outcomes.iter().all(|outcome| outcome.effect == DecisionEffect::Counts));
    scene.has_access().await;
}

/// Each request needs two of six approvals that come at the same moment.
async fn case_36_approvals_too_many_make_one_grant_and_one_binding(scene: Scene) {
    const REQUESTS: usize = 10;
    let approvers = people(&scene, 6).await;
    let group = format!("crowd-{}", scene.id);
    let stage = json!({"name": "two", "required": 2, "approvers": {"groups": [group]}});
    scene
        .has_policy(&scene.policy_with(json!({"approval": {"stages": [stage]}})))
        .await;
    let names = ask_many(&scene, REQUESTS, json!({})).await;

    let apis: Vec<Api<AccessRequest>> = approvers.iter().map(|approver| scene.of(approver)).collect();
    let words = names
        .iter()
        .flat_map(|name| apis.iter().map(move |api| says(api, name, "approve")));
    let accepted = join_all(words).await.into_iter().filter(Result::is_ok).count();
    assert!(accepted >= 2 * REQUESTS, "{accepted} approvals were taken");

    let requests = all_that(&scene, REQUESTS, "Active", |request| {
        phase(request) == Some(RequestPhase::Active)
    })
    .await;
    assert_one_binding_each(&scene, &requests).await;
    for request in requests.values() {
        let grant = grant_of(&scene, request).await;
        let by = usernames(&grant);
        assert!(by.len() >= 2 && by.len() == grant.spec.decisions.len(), "{by:?}");
    }
}

/// Bob approves and carol denies a hundred requests, most at about the same moment; some denials come first, some just
/// when the grant is made, some after the seal.
async fn case_37_of_an_approval_and_a_denial_one_holds(scene: Scene) {
    const REQUESTS: usize = 100;
    scene.has_policy(&scene.policy()).await;
    let names = ask_many(&scene, REQUESTS, json!({})).await;
    let (bob, carol) = (
        scene.of::<AccessRequest>(&scene.bob),
        scene.of::<AccessRequest>(&scene.carol),
    );
    let races = names.iter().enumerate().map(async |(number, name)| match number % 10 {
        0 => {
            let denied = says(&carol, name, "deny").await;
            (says(&bob, name, "approve").await, denied)
        }
        8 => {
            let approved = says(&bob, name, "approve").await;
            let sealed = |request: &AccessRequest| request.status.as_ref().is_some_and(|status| status.seal.is_some());
            scene.request_that(name, "the seal", sealed).await;
            (approved, says(&carol, name, "deny").await)
        }
        9 => {
            let grant = grant::name(&scene.request_now(name).await.uid().unwrap());
            let denies_at_the_grant = async {
                let is_there = |grant: Option<&AccessGrant>| grant.is_some();
                watched(scene.grants(), &grant, "the grant", is_there).await;
                says(&carol, name, "deny").await
            };
            tokio::join!(says(&bob, name, "approve"), denies_at_the_grant)
        }
        _ => {
            let denies = async {
                tokio::time::sleep(Duration::from_millis(u64::try_from(number % 20).unwrap() * 4)).await;
                says(&carol, name, "deny").await
            };
            tokio::join!(says(&bob, name, "approve"), denies)
        }
    });
    let answers: Vec<_> = stream::iter(races).buffered(10).collect().await;

    let settled = |request: &AccessRequest| matches!(phase(request), Some(RequestPhase::Active | RequestPhase::Denied));
    let requests = all_that(&scene, REQUESTS, "Active or Denied", settled).await;
    let writes = scene.operator_writes();
    let bound: BTreeSet<_> = writes
        .iter()
        .filter(|event| event.resource == "rolebindings")
        .map(|event| event.name.clone())
        .collect();
    let (mut granted, mut denied) = (vec![], 0);
    for (name, (approved, refused)) in names.iter().zip(answers) {
        let request = &requests[name];
        let said_no = request
            .spec
            .decisions
            .iter()
            .any(|decision| decision.verdict == Verdict::Deny);
        assert_eq!(said_no, refused.is_ok(), "{name}: what was accepted is stored");
        assert_eq!(
            request.spec.decisions.len(),
            usize::from(approved.is_ok()) + usize::from(refused.is_ok()),
            "{name}"
        );
        let grant = scene
            .grants()
            .get_opt(&grant::name(&request.uid().unwrap()))
            .await
            .unwrap();
        match phase(request) {
            Some(RequestPhase::Active) => {
                assert!(!said_no, "{name} is Active, and a denial was stored before the seal");
                assert!(request.status.as_ref().unwrap().seal.is_some(), "{name}");
                granted.push(request.clone());
            }
            _ => {
                assert!(said_no, "{name} is Denied, and nobody said so");
                assert!(request.status.as_ref().unwrap().seal.is_none(), "{name}");
                denied += 1;
                // The grant may have come into being; it took no effect.
                if let Some(grant) = grant {
                    let uid = grant::GrantUid::of(&grant).unwrap();
                    assert!(!bound.contains(&binding::name(&uid)), "{name} was denied and bound");
                    let status = scene.grant_ended(&grant).await.status.unwrap();
                    assert_eq!(
                        (status.end.unwrap().reason, status.bindings.len()),
                        (EndReason::Denied, 0),
                        "{name}"
                    );
                }
            }
        }
    }
    let granted: BTreeMap<_, _> = granted
        .into_iter()
        .map(|request| (request.name_any(), request))
        .collect();
    assert_one_binding_each(&scene, &granted).await;
    assert_eq!(
        bound.len(),
        granted.len(),
        "nothing was ever bound but what is bound now"
    );
    assert!(
        denied > 0 && !granted.is_empty(),
        "{denied} denied, {} granted: no race",
        granted.len()
    );
}

/// The operator sleeps while people speak, and sees all their words at once.
async fn case_37_whatever_was_stored_before_the_operator_looks_a_no_wins(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    for name in ["yes-no", "no-yes", "yes-back", "yes"] {
        scene.asked(&scene.request(name)).await;
    }
    let operator = scene.world.installation.operator().unwrap();
    operator.pause().unwrap();
    let words = [
        (&scene.bob, "yes-no", "approve"),
        (&scene.carol, "yes-no", "deny"),
        (&scene.carol, "no-yes", "deny"),
        (&scene.bob, "no-yes", "approve"),
        (&scene.bob, "yes-back", "approve"),
        (&scene.alice, "yes-back", "revoke"),
        (&scene.bob, "yes", "approve"),
    ];
    for (who, name, word) in words {
        scene.decides(who, name, word).await.unwrap();
    }
    operator.resume().unwrap();
    let ends = [
        ("yes-no", RequestPhase::Denied),
        ("no-yes", RequestPhase::Denied),
        ("yes-back", RequestPhase::Withdrawn),
        ("yes", RequestPhase::Active),
    ];
    for (name, end) in ends {
        scene.request_in(name, end).await;
    }
    scene.has_access().await;
    let writes = scene.operator_writes();
    let made = |resource: &str| {
        writes
            .iter()
            .filter(|event| event.resource == resource && event.verb == "create")
            .count()
    };
    assert_eq!((made("accessgrants"), made("rolebindings")), (1, 1));
}

async fn case_37a_a_grant_deleted_ends_access_and_is_never_made_again(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    scene.has_access().await;
    scene
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    scene.loses_access().await;
    let request = scene.request_in("look", RequestPhase::Revoked).await;
    let message = request.status.unwrap().message.unwrap();
    assert!(message.contains("its AccessGrant was deleted"), "{message}");
    scene
        .refused(&scene.bob, "look", "approve", "this request has ended (Revoked)")
        .await;

    // Another one, granted after it, shows that the operator had every occasion.
    scene.granted(&scene.request("look-again")).await;
    assert_eq!(scene.grants().get_opt(&grant.name_any()).await.unwrap(), None);
    scene.has_access().await;
}

/// Case 58b too.
async fn case_38_two_hundred_requests_approved_together_hang_on_one_anchor(scene: Scene) {
    const REQUESTS: usize = 200;
    scene.has_policy(&scene.policy()).await;
    let names = ask_many(&scene, REQUESTS, json!({})).await;
    let bob = scene.of::<AccessRequest>(&scene.bob);
    try_join_all(names.iter().map(|name| says(&bob, name, "approve")))
        .await
        .unwrap();
    let requests = all_that(&scene, REQUESTS, "Active", |request| {
        phase(request) == Some(RequestPhase::Active)
    })
    .await;
    assert_one_binding_each(&scene, &requests).await;
    assert!(scene.alice_may().await);
    let grants = scene.grants().list(&ListParams::default()).await.unwrap().items;
    let anchors: BTreeSet<_> = grants
        .into_iter()
        .filter(|grant| grant.spec.request.namespace == scene.namespace)
        .map(|grant| grant.spec.anchor.unwrap().address_uid)
        .collect();
    // They may end in two minutes, or three on a slow day.
    assert!((1..=3).contains(&anchors.len()), "{anchors:?}");
}

/// The garbage collector deletes some ten a second: the last one is gone within half a minute after the anchor.
async fn case_42_with_the_operator_dead_three_hundred_grants_end_within_the_grace(scene: Scene) {
    const REQUESTS: usize = 300;
    const AFTER_THE_ANCHOR: i64 = 30;
    scene.has_policy(&scene.policy()).await;
    let names = ask_many(&scene, REQUESTS, json!({"duration": "50s"})).await;
    let bob = scene.of::<AccessRequest>(&scene.bob);
    try_join_all(names.iter().map(|name| says(&bob, name, "approve")))
        .await
        .unwrap();
    all_that(&scene, REQUESTS, "Active", |request| {
        phase(request) == Some(RequestPhase::Active)
    })
    .await;
    scene.world.installation.operator().unwrap().kill().unwrap();
    let grants = scene.grants().list(&ListParams::default()).await.unwrap().items;
    let ends: BTreeMap<_, _> = grants
        .iter()
        .filter_map(|grant| {
            let binding = grant.status.as_ref()?.bindings.first()?;
            Some((
                binding.name.clone(),
                (grant::deadline(grant), grant.spec.anchor.as_ref()?.ends_at.0),
            ))
        })
        .collect();
    assert_eq!(ends.len(), REQUESTS);

    eventually_within(2 * LIMIT, "kube-controller-manager ends them all", async || {
        scene.bindings().await.is_empty()
    })
    .await;
    let log = scene.cluster().audit_log().unwrap().into_iter();
    let deletes = log.filter(|event| event.verb == "delete" && event.resource == "rolebindings" && event.code == 200);
    let late: Vec<(i64, i64)> = deletes
        .filter_map(|event| {
            let (deadline, anchor_ends) = ends.get(&event.name)?;
            let gone = event.finished.as_second();
            Some((gone - deadline.timestamp(), gone - anchor_ends.as_second()))
        })
        .collect();
    assert_eq!(late.len(), REQUESTS);
    let (after_deadline, after_anchor) = late.iter().max_by_key(|(_, after_anchor)| *after_anchor).unwrap();
    println!(
        "without an operator the last of {REQUESTS} was gone {after_anchor} s after its anchor's end, {after_deadline} s after its deadline"
    );
    assert!(
        late.iter()
            .all(|(after_deadline, after_anchor)| *after_deadline >= 0 && *after_anchor <= AFTER_THE_ANCHOR),
        "seconds after the deadline, and after the anchor: {late:?}"
    );
    assert!(!scene.alice_may().await);
}

// ---- many ----------------------------------------------------------------------------------------------------------

/// Approvers of a group of their own, who may write on requests here.
async fn people(scene: &Scene, number: usize) -> Vec<User> {
    let (sre, crowd) = (format!("sre-{}", scene.id), format!("crowd-{}", scene.id));
    let built = (0..number).map(async |number| {
        let name = format!("approver-{number}-{}", scene.id);
        scene
            .world
            .cluster
            .user(&name)
            .groups([&sre, &crowd])
            .build()
            .await
            .unwrap()
    });
    join_all(built).await
}

/// Alice asks so often; there is an offer for each. Gives their names.
pub async fn ask_many(scene: &Scene, number: usize, fields: Value) -> Vec<String> {
    let alice = scene.of::<AccessRequest>(&scene.alice);
    let names: Vec<_> = (0..number).map(|number| format!("look-{number}")).collect();
    let asking = names.iter().map(async |name| {
        let request = serde_json::from_value(scene.request_with(name, fields.clone())).unwrap();
        alice.create(&PostParams::default(), &request).await
    });
    stream::iter(asking)
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    let offered = |request: &AccessRequest| request.status.as_ref().is_some_and(|status| status.offer.is_some());
    all_that(scene, number, "an offer", offered).await;
    names
}

pub async fn says(api: &Api<AccessRequest>, name: &str, word: &str) -> Result<AccessRequest, String> {
    merges(
        api,
        name,
        json!({"metadata": {"annotations": {"curfew.dev/decision": word}}}),
    )
    .await
}

/// Watches this scene's requests until so many are as they should be; gives those, by name.
pub async fn all_that(
    scene: &Scene,
    number: usize,
    what: &str,
    holds: impl Fn(&AccessRequest) -> bool,
) -> BTreeMap<String, AccessRequest> {
    let (mut found, mut others) = (BTreeMap::new(), BTreeMap::new());
    let watching = async {
        let mut changes = std::pin::pin!(watcher(scene.requests(), watcher::Config::default()).applied_objects());
        while found.len() < number {
            let request = changes.try_next().await.unwrap().unwrap();
            let name = request.name_any();
            let (into, out_of) = if holds(&request) {
                (&mut found, &mut others)
            } else {
                (&mut others, &mut found)
            };
            out_of.remove(&name);
            into.insert(name, request);
        }
    };
    if tokio::time::timeout(LIMIT, watching).await.is_err() {
        let first: Vec<_> = others.values().take(3).collect();
        panic!(
            "not within {} s: {what}; {} of {number} requests are, and not {first:#?}",
            LIMIT.as_secs(),
            found.len()
        );
    }
    found
}

/// Each of these requests has one grant of its own and one binding of that grant, and there is no other binding.
async fn assert_one_binding_each(scene: &Scene, requests: &BTreeMap<String, AccessRequest>) {
    let all = scene.grants().list(&ListParams::default()).await.unwrap().items;
    let of_scene = |grant: &&AccessGrant| grant.spec.request.namespace == scene.namespace;
    let active = |grant: &&AccessGrant| {
        grant
            .status
            .as_ref()
            .is_some_and(|status| status.phase == Some(GrantPhase::Active))
    };
    let mut wanted = BTreeSet::new();
    for grant in all.iter().filter(of_scene).filter(active) {
        let request = &requests[&grant.spec.request.name];
        assert_eq!(request.uid().as_ref(), Some(&grant.spec.request.uid));
        let bindings = &grant.status.as_ref().unwrap().bindings;
        assert_eq!(bindings.len(), 1);
        wanted.insert((bindings[0].name.clone(), bindings[0].uid.clone()));
    }
    assert_eq!(wanted.len(), requests.len(), "one grant each");
    let there: BTreeSet<_> = scene
        .bindings()
        .await
        .iter()
        .map(|binding| (binding.name_any(), binding.uid().unwrap()))
        .collect();
    assert_eq!(there, wanted);
}

fn phase(request: &AccessRequest) -> Option<RequestPhase> {
    request.status.as_ref().and_then(|status| status.phase)
}

async fn grant_of(scene: &Scene, request: &AccessRequest) -> AccessGrant {
    let name = request.status.clone().unwrap().grant.unwrap();
    watched(scene.grants(), &name, "the grant", |grant: Option<&AccessGrant>| {
        grant.is_some()
    })
    .await
    .unwrap()
}

fn usernames(grant: &AccessGrant) -> BTreeSet<String> {
    grant
        .spec
        .decisions
        .iter()
        .map(|decision| decision.username.clone())
        .collect()
}
