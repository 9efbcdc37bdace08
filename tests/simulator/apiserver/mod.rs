//! An API server in memory: as much of Kubernetes' HTTP API as Curfew uses, on a store of its own, in virtual time.
//!
//! Where it differs from a real one it is wrong: both pass the same contract tests (`contract.rs`). It has no authentication and no RBAC. What refuses,
//! delays or breaks calls, and who is told of changes, are its [`Surroundings`].

mod http;
mod kinds;
mod store;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

pub use self::http::OPERATOR;
pub use self::kinds::Kind;
pub use self::store::{Change, Deleted, Key, Object, Only, Refusal, Store, refusal, written};

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// A replica of the operator, by its number.
    Replica(usize),
    /// Anybody else.
    Another,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Replace,
    ReplaceStatus,
    Patch,
    Delete,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    pub who: Who,
    pub verb: Verb,
    /// For lists without a name.
    pub key: Key,
    pub dry_run: bool,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fate {
    /// So long it is under way before it takes effect.
    pub there: Duration,
    /// It is refused before it takes effect.
    pub refused: Option<u16>,
    /// So long the answer is under way.
    pub back: Duration,
    /// The connection breaks instead of the answer.
    pub lost: bool,
}

/// What becomes of what a watch is to tell next.
#[derive(Clone, Copy, Debug)]
pub enum Telling {
    After(Duration),
    /// Never: the watch stays open, and silent.
    Never,
    /// The watch breaks.
    Broken,
}

/// What is around the API server.
pub trait Surroundings: Send + Sync {
    fn fate(&self, call: &Call) -> Fate;
    fn telling(&self, who: Who, about: Kind) -> Telling;
    /// Whether admission lets an object be written.
    fn admits(&self, store: &Store, call: &Call, object: &Value) -> Result<(), Refusal>;
    /// Something was stored, by a call that was under way for so long before it took effect.
    fn changed(&self, who: Who, change: &Change, under_way: Duration, now: DateTime<Utc>);
    /// A call was answered, or wasn't.
    fn answered(&self, call: &Call, code: u16);
}

/// Server time: from a moment on, as fast as virtual time, but where it leaps.
pub struct Time {
    begun: Instant,
    base: Mutex<DateTime<Utc>>,
}

impl Time {
    pub fn from(base: DateTime<Utc>) -> Self {
        Self {
            begun: Instant::now(),
            base: Mutex::new(base),
        }
    }

    pub fn now(&self) -> DateTime<Utc> {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) + self.begun.elapsed()
    }

    /// It is set forth by so much.
    pub fn leaps(&self, ahead: TimeDelta) {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) += ahead;
    }
}

pub struct Server {
    store: Mutex<Store>,
    /// Tells that something of a kind was stored. Not by a `watch`, which wakes in another order each time.
    news: BTreeMap<Kind, Notify>,
    cut_off: Mutex<BTreeSet<Who>>,
    reached: Notify,
    time: Arc<Time>,
    around: Arc<dyn Surroundings>,
}

impl Server {
    pub fn new(time: Arc<Time>, around: Arc<dyn Surroundings>) -> Arc<Self> {
        Arc::new(Self {
            store: Mutex::default(),
            news: Kind::ALL.into_iter().map(|kind| (kind, Notify::new())).collect(),
            cut_off: Mutex::default(),
            reached: Notify::new(),
            time,
            around,
        })
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.time.now()
    }

    /// Its clock is set forth by so much.
    pub fn leaps(&self, ahead: TimeDelta) {
        self.time.leaps(ahead);
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are such objects at all: there are none of Curfew's kinds without their definition.
    fn serves(&self, kind: Kind) -> bool {
        let Some(definition) = kind.definition() else {
            return true;
        };
        self.look(|store| store.get(&definition).is_some())
    }

    /// Looks at what is stored.
    pub fn look<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.store())
    }

    /// Does something to what is stored, and tells of what has changed.
    pub fn act<T>(&self, who: Who, act: impl FnOnce(&mut Store, DateTime<Utc>) -> T) -> T {
        self.act_late(who, Duration::ZERO, act)
    }

    fn act_late<T>(&self, who: Who, under_way: Duration, act: impl FnOnce(&mut Store, DateTime<Utc>) -> T) -> T {
        let now = self.now();
        let mut store = self.store();
        let before = store.version();
        let done = act(&mut store, now);
        let changes = store.since(before).to_vec();
        drop(store);
        for change in &changes {
            self.around.changed(who, change, under_way, now);
        }
        let mut kinds: Vec<Kind> = changes.iter().map(|change| change.key.kind).collect();
        kinds.dedup();
        kinds
            .iter()
            .filter_map(|kind| self.news.get(kind))
            .for_each(Notify::notify_waiters);
        done
    }

    /// Returns when something of a kind is stored.
    pub fn news(&self, kind: Kind) -> Notified<'_> {
        self.news[&kind].notified()
    }

    /// From now on this one reaches the API server, or doesn't.
    pub fn cut_off(&self, who: Who, is_cut_off: bool) {
        let mut all = self.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        if is_cut_off {
            all.insert(who);
        } else {
            all.remove(&who);
        }
        drop(all);
        self.reached.notify_waiters();
    }

    /// Returns at once if this one reaches the API server. Else when it does again, with `false`: what was under way is lost.
    async fn reaches(&self, who: Who) -> bool {
        let mut is_reached = true;
        loop {
            let mut reached = std::pin::pin!(self.reached.notified());
            reached.as_mut().enable();
            if !self
                .cut_off
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&who)
            {
                return is_reached;
            }
            is_reached = false;
            reached.await;
        }
    }

    /// Carries out one call that writes or reads an object, when it has been under way for so long.
    fn carry_out(&self, call: &Call, under_way: Duration, body: Value) -> Result<Object, Refusal> {
        let key = &call.key;
        if call.verb == Verb::Create {
            let admitted = self.around.admits(&self.store(), call, &body);
            admitted?;
            if call.dry_run {
                return Ok(Object::new(body));
            }
        }
        self.act_late(call.who, under_way, |store, now| match call.verb {
            Verb::Get => store.find(key),
            Verb::Create => store.create(key, body, now),
            Verb::Replace => store.replace(key, body),
            Verb::ReplaceStatus => store.replace_status(key, &body),
            Verb::Patch => {
                let mut next = store.find(key)?.as_ref().clone();
                json_patch::merge(&mut next, &body);
                store.patch(key, next)
            }
            Verb::Delete => {
                let text = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
                let only = Only {
                    uid: text("uid"),
                    version: text("resourceVersion"),
                };
                Ok(match store.delete(key, &only, now)? {
                    Deleted::Lingers(object) => object,
                    Deleted::Gone(object) => Object::new(success(key, &object)),
                })
            }
            Verb::List | Verb::Watch => Err(refusal(405, "MethodNotAllowed", "not a call about one object")),
        })
    }
}

/// What is answered when an object is gone.
fn success(key: &Key, object: &Value) -> Value {
    let details = json!({"name": key.name, "uid": object["metadata"]["uid"]});
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
