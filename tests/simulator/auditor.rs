//! Looks at everything that is stored, at the moment at which it is stored, and at what should have happened meanwhile.
//!
//! What must hold stands in `core::invariants`; here is only how much delay is forgiven: none that nothing explains. It asks the controllers nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use curfew::api::{AccessRequest, Decision};
use curfew::core::binding;
use curfew::core::grant::{self, GrantUid};
use curfew::core::invariants::{World, touched, unfinished, violated, violated_by};
use kube::Resource;
use serde::de::DeserializeOwned;

use crate::apiserver::{Change, Kind, Object, Who};

/// A replica that nothing hinders has ended what is due after so long.
const PROMPT: TimeDelta = TimeDelta::seconds(2);
/// So long after its deadline kube-controller-manager has taken a binding away by itself, if nothing hinders it: a minute, the anchor's margins, and a bit.
const GRACE: TimeDelta = TimeDelta::seconds(78);
/// What isn't finished so long after all is well will never be.
const SETTLED: TimeDelta = TimeDelta::seconds(45);

pub struct Auditor {
    world: World,
    /// Until when each replica may be late, through no fault of its own.
    hindered: BTreeMap<Who, DateTime<Utc>>,
    /// Until when kube-controller-manager may be.
    kube_hindered: DateTime<Utc>,
    /// When somebody last did something, or something went wrong.
    unsettled: DateTime<Utc>,
    /// Since when something isn't finished.
    open: BTreeMap<String, DateTime<Utc>>,
    /// Words that nobody attested.
    planted: Vec<(String, Decision)>,
    /// What was wrong.
    wrong: Vec<String>,
    pub seen: Seen,
}

/// What happened, so that a simulation in which nothing does is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub granted: u64,
    pub bound: u64,
    pub ended: u64,
    pub refused_requests: u64,
}

impl Auditor {
    pub fn new(now: DateTime<Utc>) -> Self {
        Self {
            world: World {
                now,
                requests: vec![],
                grants: vec![],
                bindings: vec![],
                policies: vec![],
            },
            hindered: BTreeMap::new(),
            kube_hindered: now,
            unsettled: now,
            open: BTreeMap::new(),
            planted: vec![],
            wrong: vec![],
            seen: Seen::default(),
        }
    }

    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    pub fn is_wrong(&mut self, what: Option<String>) {
        self.wrong.extend(what);
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    /// This replica may be late until then.
    pub fn hinders(&mut self, who: Who, until: DateTime<Utc>) {
        let known = self.hindered.entry(who).or_insert(until);
        *known = until.max(*known);
    }

    /// This replica is hindered no longer than until then, whatever was before.
    pub fn hinders_only(&mut self, who: Who, until: DateTime<Utc>) {
        self.hindered.insert(who, until);
    }

    pub fn hinders_kube(&mut self, until: DateTime<Utc>) {
        self.kube_hindered = self.kube_hindered.max(until);
    }

    /// Nothing needs to be finished before then.
    pub fn unsettles(&mut self, until: DateTime<Utc>) {
        self.unsettled = self.unsettled.max(until);
    }

    /// A word was written that no guard attested.
    pub fn planted(&mut self, request: &str, word: Decision) {
        self.planted.push((request.to_owned(), word));
    }

    /// Something was stored.
    pub fn changed(&mut self, who: Who, change: &Change, now: DateTime<Utc>) {
        let world = &mut self.world;
        let before = match change.key.kind {
            Kind::AccessRequest | Kind::AccessGrant | Kind::RoleBinding | Kind::AccessPolicy => world.clone(),
            _ => return,
        };
        world.now = now;
        match change.key.kind {
            Kind::AccessRequest => store(&mut world.requests, change),
            Kind::AccessGrant => store(&mut world.grants, change),
            Kind::RoleBinding => store(&mut world.bindings, change),
            _ => store(&mut world.policies, change),
        }
        self.count(&before);
        let mut wrong = violated(&self.world, TimeDelta::days(3650));
        wrong.extend(violated_by(&before, &self.world));
        if matches!(who, Who::Replica(_)) {
            wrong.extend(touched(&before, &self.world));
        }
        wrong.extend(self.rests_on_planted(&before));
        self.wrong.extend(wrong.into_iter().map(|wrong| format!("{who:?}: {wrong}")));
        self.look(now);
    }

    fn count(&mut self, before: &World) {
        let more = |is: usize, was: usize| u64::try_from(is.saturating_sub(was)).unwrap_or_default();
        self.seen.granted += more(self.world.grants.len(), before.grants.len());
        self.seen.bound += more(self.world.bindings.len(), before.bindings.len());
        let ended = |world: &World| world.grants.iter().filter(|grant| grant::has_ended(grant)).count();
        self.seen.ended += more(ended(&self.world), ended(before));
        let over = |world: &World| world.requests.iter().filter(|request| is_refused(request)).count();
        self.seen.refused_requests += more(over(&self.world), over(before));
    }

    /// That no grant is sealed that rests on a word which nobody attested.
    fn rests_on_planted(&self, before: &World) -> Option<String> {
        self.world.requests.iter().find_map(|request| {
            let seal = request.status.as_ref()?.seal.as_ref()?;
            let was = before.requests.iter().find(|was| was.metadata.uid == request.metadata.uid);
            if was.and_then(|was| was.status.as_ref()).is_some_and(|was| was.seal.is_some()) {
                return None;
            }
            let grant = self.world.grants.iter().find(|grant| GrantUid::of(grant) == Some(GrantUid::new(&seal.uid)))?;
            let uid = request.metadata.uid.as_deref()?;
            let planted = self.planted.iter().find(|(about, word)| about == uid && grant.spec.decisions.contains(word));
            planted.map(|(_, word)| format!("I2: a word of {:?} counted that no guard attested", word.username))
        })
    }

    /// Looks at what should have happened by now.
    pub fn look(&mut self, now: DateTime<Utc>) {
        self.world.now = now;
        let late = self.late(now);
        self.wrong.extend(late);
        let open = unfinished(&self.world);
        self.open.retain(|what, _| open.contains(what));
        for what in open {
            let since = *self.open.entry(what.clone()).or_insert(now);
            if now - since.max(self.unsettled) > SETTLED {
                self.wrong.push(format!("not finished for {} s: {what}", (now - since).num_seconds()));
            }
        }
    }

    fn late(&self, now: DateTime<Utc>) -> Option<String> {
        let soonest = self.hindered.values().min().copied().unwrap_or(DateTime::<Utc>::MAX_UTC);
        self.world.bindings.iter().find_map(|found| {
            let uid = binding::marked(found)?;
            let grant = self.world.grants.iter().find(|grant| GrantUid::of(grant).as_ref() == Some(&uid))?;
            let deadline = grant::deadline(grant);
            let name = found.metadata.name.as_deref().unwrap_or_default();
            if now - deadline.max(soonest) > PROMPT {
                return Some(format!("I1: the binding {name} stands at {now}, and nothing hinders that it ends at {deadline}"));
            }
            let owners = found.metadata.owner_references.iter().flatten();
            let hangs = owners.into_iter().any(|owner| owner.kind == "IPAddress") && found.metadata.finalizers.is_none();
            (hangs && now - deadline.max(self.kube_hindered) > GRACE)
                .then(|| format!("I1: the binding {name} stands at {now}, and its anchor should have ended it: {deadline}"))
        })
    }
}

fn is_refused(request: &AccessRequest) -> bool {
    let status = request.status.as_ref();
    status.is_some_and(|status| status.seal.is_none() && status.phase.is_some_and(curfew::api::RequestPhase::is_final))
}

fn store<K: Resource + DeserializeOwned>(all: &mut Vec<K>, change: &Change) {
    let is_it = |found: &K| {
        found.meta().name.as_ref() == Some(&change.key.name)
            && found.meta().namespace.as_deref().unwrap_or_default() == change.key.namespace
    };
    all.retain(|found| !is_it(found));
    all.extend(change.after.as_ref().map(typed));
}

pub fn typed<K: DeserializeOwned>(object: &Object) -> K {
    serde_json::from_value(object.as_ref().clone()).unwrap()
}

/// As a difference of moments.
pub fn delta(length: Duration) -> TimeDelta {
    TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX)
}
