//! That impersonation tells the truth: with credentials of their own everybody comes to the same as in their name by the cluster admin.

use std::collections::BTreeMap;

use curfew_testbed::User;
use futures::{StreamExt, stream};
use kube::Client;

use crate::attempt::{Attempt, OPERATOR, Who};
use crate::table::{MATTERS, about};
use crate::world::World;

/// So many attempts at once.
const AT_ONCE: usize = 8;
/// What a refusal says when it was RBAC that refused.
const RBAC: [&str; 2] = [
    "\" cannot ",
    "is attempting to grant RBAC permissions not currently held",
];
/// So many attempts at least RBAC must leave to admission, or nothing was found out.
const LEFT: usize = 20;

/// Every attempt of somebody who can have a certificate that says all of them: the name, the uid and the groups.
pub async fn by_certificate(world: &World) -> Vec<String> {
    let mut clients = BTreeMap::new();
    let mut tried = vec![];
    for attempt in MATTERS
        .into_iter()
        .flat_map(about)
        .filter(|attempt| attempt.is_on(world.server))
    {
        let who = attempt.who().clone();
        if !who.can_have_a_certificate() {
            continue;
        }
        let key = format!("{who:?}");
        if !clients.contains_key(&key) {
            clients.insert(key.clone(), certified(world, &who).await);
        }
        tried.push((attempt, clients[&key].clone()));
    }
    assert!(tried.len() > LEFT, "only {} attempts", tried.len());
    otherwise(tried).await
}

/// Every attempt of the operator, by a token of its own, and with its own rights: what those leave to admission comes out as it should.
pub async fn by_the_operators_token(world: &World) -> Vec<String> {
    let client = world.installation.operator_user().await.unwrap().client().unwrap();
    let its_own = MATTERS
        .into_iter()
        .flat_map(about)
        .filter(|attempt| attempt.who().name() == OPERATOR);
    let tried: Vec<(Attempt, Client)> = its_own.map(|attempt| (attempt, client.clone())).collect();
    let count = tried.len();
    let (by_rbac, wrong): (Vec<String>, Vec<String>) = otherwise(tried)
        .await
        .into_iter()
        .partition(|how| RBAC.iter().any(|words| how.contains(words)));
    assert!(
        count - by_rbac.len() > LEFT,
        "RBAC refused {} of {count}",
        by_rbac.len()
    );
    wrong
}

async fn certified(world: &World, who: &Who) -> Client {
    let user: User = world
        .cluster
        .user(who.name())
        .uid(who.uid())
        .groups(who.groups().iter().cloned())
        .build()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    user.client().unwrap()
}

async fn otherwise(tried: Vec<(Attempt, Client)>) -> Vec<String> {
    stream::iter(tried)
        .map(async |(attempt, client)| attempt.comes_out_for(&client).await.err())
        .buffer_unordered(AT_ONCE)
        .filter_map(async |wrong| wrong)
        .collect()
        .await
}
