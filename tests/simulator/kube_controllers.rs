//! As much of kube-controller-manager as anchors and namespaces need: it starts Jobs, ends them at their deadline, collects what has no owner any more, and
//! empties namespaces. Each a little late, as the real one is.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use curfew::core::lease::Moment;
use futures::future::select_all;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;

use crate::apiserver::{Deleted, Key, Kind, Only, Server, Store, Who, written};
use crate::chance::Chance;

/// Within so much it does what is to be done.
pub const LAG: Duration = Duration::from_millis(900);

/// Of what it must know. Leases and events are written all the time, and matter to none of this.
const WATCHED: [Kind; 8] = [
    Kind::Namespace,
    Kind::Service,
    Kind::Job,
    Kind::IpAddress,
    Kind::RoleBinding,
    Kind::ClusterRoleBinding,
    Kind::AccessRequest,
    Kind::AccessGrant,
];

/// How kube-controller-manager is.
#[derive(Clone, Copy, Default)]
pub struct State {
    /// It does nothing.
    pub stalls: bool,
    /// How far its clock is ahead.
    pub ahead: TimeDelta,
}

impl State {
    /// Sets right what of it is over. Gives whether that changes anything.
    pub fn sets_right(&mut self, goes_on: bool, is_right: bool) -> bool {
        let before = (self.stalls, self.ahead);
        self.stalls &= !goes_on;
        if is_right {
            self.ahead = TimeDelta::zero();
        }
        before != (self.stalls, self.ahead)
    }
}

/// Works for ever, but while it stalls.
pub async fn work(server: Arc<Server>, mut state: Receiver<State>, mut chance: Chance) {
    let mut seen = 0;
    loop {
        // The sender lives as long as the schedule does.
        let _ = state.wait_for(|state| !state.stalls).await;
        let ahead = state.borrow_and_update().ahead;
        let mut news: Vec<_> = WATCHED.map(|kind| Box::pin(server.news(kind))).into_iter().collect();
        news.iter_mut().for_each(|news| {
            news.as_mut().enable();
        });
        let due = server.look(|store| {
            let is_news = store.since(seen).iter().any(|change| concerns(&change.key));
            seen = store.version();
            let next = next_end(store);
            (is_news || next.is_some_and(|next| next <= server.now() + ahead), next)
        });
        if due.0 {
            tokio::time::sleep(chance.up_to(LAG)).await;
            let _ = state.wait_for(|state| !state.stalls).await;
            server.act(Who::Another, |store, now| round(store, now, ahead));
            continue;
        }
        let until: Moment = due
            .1
            .and_then(|next| (next - server.now() - ahead).to_std().ok())
            .unwrap_or(Duration::from_secs(3600));
        tokio::select! {
            biased;
            _ = select_all(news) => {}
            _ = state.changed() => {}
            () = tokio::time::sleep(until) => {}
        }
    }
}

fn concerns(key: &Key) -> bool {
    WATCHED.contains(&key.kind)
}

fn jobs(store: &Store) -> Vec<(Key, Value)> {
    store
        .all(Kind::Job, "")
        .map(|(key, job)| (key.clone(), job.as_ref().clone()))
        .collect()
}

/// When a Job's time is up.
fn end(job: &Value) -> Option<DateTime<Utc>> {
    let started: DateTime<Utc> = job["status"]["startTime"].as_str()?.parse().ok()?;
    started.checked_add_signed(TimeDelta::try_seconds(job["spec"]["activeDeadlineSeconds"].as_i64()?)?)
}

fn next_end(store: &Store) -> Option<DateTime<Utc>> {
    store.all(Kind::Job, "").filter_map(|(_, job)| end(job)).min()
}

/// Does all that is to be done now, by a clock that is so far ahead.
fn round(store: &mut Store, now: DateTime<Utc>, ahead: TimeDelta) {
    for (key, job) in jobs(store) {
        if job["spec"]["suspend"] == true {
            continue;
        }
        if job["status"]["startTime"].is_null() {
            let _ = store.edit_status(&key, json!({"startTime": written(now + ahead)}));
        } else if end(&job).is_some_and(|end| end <= now + ahead) {
            let _ = store.delete(&key, &Only::default(), now);
        }
    }
    collect(store, now);
    empty_namespaces(store, now);
}

/// What had owners, and has none of them any more, goes.
fn collect(store: &mut Store, now: DateTime<Utc>) {
    loop {
        let owned = [
            Kind::Service,
            Kind::RoleBinding,
            Kind::ClusterRoleBinding,
            Kind::AccessGrant,
        ];
        let orphans: Vec<Key> = owned
            .into_iter()
            .flat_map(|kind| store.all(kind, ""))
            .filter(|(key, object)| object["metadata"]["deletionTimestamp"].is_null() && is_orphan(store, key, object))
            .map(|(key, _)| key.clone())
            .collect();
        let mut gone = false;
        for orphan in orphans {
            gone |= matches!(store.delete(&orphan, &Only::default(), now), Ok(Deleted::Gone(_)));
        }
        if !gone {
            return;
        }
    }
}

fn is_orphan(store: &Store, key: &Key, object: &Value) -> bool {
    let Some(owners) = object["metadata"]["ownerReferences"]
        .as_array()
        .filter(|owners| !owners.is_empty())
    else {
        return false;
    };
    !owners.iter().any(|owner| {
        let kind = owner["kind"].as_str().and_then(Kind::called);
        let found = kind.and_then(|kind| store.get(&Key::new(kind, &key.namespace, owner["name"].as_str()?)));
        found.is_some_and(|found| found["metadata"]["uid"] == owner["uid"])
    })
}

fn empty_namespaces(store: &mut Store, now: DateTime<Utc>) {
    let going = |(key, namespace): (&Key, &crate::apiserver::Object)| {
        (!namespace["metadata"]["deletionTimestamp"].is_null()).then(|| key.clone())
    };
    let going: Vec<Key> = store.all(Kind::Namespace, "").filter_map(going).collect();
    for namespace in going {
        for key in contents(store, &namespace) {
            let _ = store.delete(&key, &Only::default(), now);
        }
        if contents(store, &namespace).is_empty() {
            store.finish(&namespace);
        }
    }
}

fn contents(store: &Store, namespace: &Key) -> Vec<Key> {
    let all = store.everything().map(|(key, _)| key);
    all.filter(|key| key.namespace == namespace.name).cloned().collect()
}
