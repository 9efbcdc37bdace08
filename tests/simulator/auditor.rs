//! Looks at everything that is stored, at the moment at which it is stored, and at what should have happened meanwhile.
//!
//! What must hold stands in `core::invariants`; here is only how much delay is forgiven: none that nothing explains. It asks the controllers nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use curfew::api::{AccessGrant, AccessRequest, Decision, marks};
use curfew::core::binding;
use curfew::core::grant::{self, GrantUid};
use curfew::core::invariants::{World, sealed_beyond_a_limit, touched, unfinished, violated, violated_by};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Resource;
use serde::de::DeserializeOwned;

use crate::apiserver::{Change, Key, Kind, Object, Who};

/// From what a replica read to what it did about it: the time limit of a call, and a bit.
const UNDER_WAY: TimeDelta = TimeDelta::seconds(12);
/// From what a replica read to what it then sent: what was made since it couldn't know.
const ON_ITS_WAY: TimeDelta = TimeDelta::milliseconds(100);
/// A replica that nothing hinders has ended what is due after so long.
const PROMPT: TimeDelta = TimeDelta::seconds(2);
/// So long after its deadline kube-controller-manager has taken a binding away by itself, if nothing hinders it: a minute, the anchor's margins, and a bit.
const GRACE: TimeDelta = TimeDelta::seconds(78);
/// What isn't finished so long after all is well will never be.
const SETTLED: TimeDelta = TimeDelta::seconds(45);

/// How often it is looked what isn't finished.
const SOMETIMES: TimeDelta = TimeDelta::seconds(2);
/// Longer than any schedule: how late a binding may be is this module's own matter.
const LONG: TimeDelta = TimeDelta::days(3650);

pub struct Auditor {
    world: World,
    looked: DateTime<Utc>,
    /// Until when each replica may be late, through no fault of its own.
    hindered: BTreeMap<Who, DateTime<Utc>>,
    /// Until when kube-controller-manager may be.
    kube_hindered: DateTime<Utc>,
    /// When somebody last did something, or something went wrong.
    unsettled: DateTime<Utc>,
    /// Since when something isn't finished.
    open: BTreeMap<String, DateTime<Utc>>,
    /// The uids of what replicas made, who that was, and when.
    made: BTreeMap<String, (Who, DateTime<Utc>)>,
    /// Bindings that bore all of Curfew's marks, by uid, and until when.
    marked: BTreeMap<String, DateTime<Utc>>,
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
    /// Requests and grants that were kept long enough.
    pub removed: u64,
}

impl Seen {
    fn count(&mut self, before: &World, after: &World) {
        let more = |is: usize, was: usize| u64::try_from(is.saturating_sub(was)).unwrap_or_default();
        self.granted += more(after.grants.len(), before.grants.len());
        self.bound += more(after.bindings.len(), before.bindings.len());
        let ended = |world: &World| world.grants.iter().filter(|grant| grant::has_ended(grant)).count();
        self.ended += more(ended(after), ended(before));
        let refused = |world: &World| world.requests.iter().filter(|request| is_refused(request)).count();
        self.refused_requests += more(refused(after), refused(before));
    }
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
            looked: now,
            hindered: BTreeMap::new(),
            kube_hindered: now,
            unsettled: now,
            open: BTreeMap::new(),
            made: BTreeMap::new(),
            marked: BTreeMap::new(),
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

    pub fn hinders_kube(&mut self, until: DateTime<Utc>) {
        self.kube_hindered = self.kube_hindered.max(until);
    }

    /// The server's clock is set forth: whoever may be late may be so for as long as before.
    pub fn leaps(&mut self, ahead: TimeDelta) {
        let Self {
            world: _,
            looked: _,
            hindered,
            kube_hindered,
            unsettled,
            open,
            made,
            marked,
            planted: _,
            wrong: _,
            seen: _,
        } = self;
        let shifted = hindered
            .values_mut()
            .chain(open.values_mut())
            .chain(marked.values_mut());
        let shifted = shifted.chain(made.values_mut().map(|(_, at)| at));
        shifted
            .chain([kube_hindered, unsettled])
            .for_each(|moment| *moment += ahead);
    }

    /// Nothing needs to be finished before then.
    pub fn unsettles(&mut self, until: DateTime<Utc>) {
        self.unsettled = self.unsettled.max(until);
    }

    /// A word was written that no guard attested.
    pub fn planted(&mut self, request: &str, word: Decision) {
        self.planted.push((request.to_owned(), word));
    }

    /// Something was stored, by a call that was under way for so long. What must hold is looked at where it happened: of everything, [`Self::holds_of_all`].
    pub fn changed(&mut self, who: Who, change: &Change, under_way: TimeDelta, now: DateTime<Utc>) {
        let kind = change.key.kind;
        if !kind.is_binding() && !matches!(kind, Kind::AccessRequest | Kind::AccessGrant | Kind::AccessPolicy) {
            return;
        }
        let request = self.about(change);
        let before = self.part(request.as_deref(), change);
        self.world.now = now;
        match kind {
            Kind::AccessRequest => store(&mut self.world.requests, change, typed),
            Kind::AccessGrant => store(&mut self.world.grants, change, typed),
            kind if kind.is_binding() => store(&mut self.world.bindings, change, binding_of),
            _ => store(&mut self.world.policies, change, typed),
        }
        let mut after = self.part(request.as_deref(), change);
        let read = now - under_way - ON_ITS_WAY;
        after.bindings.retain(|found| !self.was_not_there_yet(who, found, read));
        self.seen.count(&before, &after);
        let mut wrong = violated(&after, LONG);
        wrong.extend(violated_by(&before, &after));
        wrong.extend(self.is_beyond_a_limit(&before, &after));
        self.bore_marks(change, now);
        if matches!(who, Who::Replica(_))
            && !self.is_made_by_a_replica(who, change, now)
            && !self.bore_marks_just_now(change, now)
        {
            wrong.extend(touched(&before, &after));
        }
        if matches!(who, Who::Replica(_)) {
            wrong.extend(self.is_removed_too_soon(change));
        }
        wrong.extend(self.rests_on_planted(&before, &after));
        self.wrong
            .extend(wrong.into_iter().map(|wrong| format!("{who:?}: {wrong}")));
        self.late(now);
    }

    /// Whether a replica can't have read of this binding, then or before: another's call has made it since.
    fn was_not_there_yet(&self, who: Who, binding: &RoleBinding, read: DateTime<Utc>) -> bool {
        let made = binding.metadata.uid.as_ref().and_then(|uid| self.made.get(uid));
        made.is_some_and(|(by, at)| *by != who && *at > read)
    }

    /// Until when a binding bore all of Curfew's marks, whoever wrote them.
    fn bore_marks(&mut self, change: &Change, now: DateTime<Utc>) {
        let binding = change.before.as_ref().filter(|_| change.key.kind.is_binding());
        if let Some(binding) = binding
            && binding::marked(&binding_of(binding)).is_some()
            && let Some(uid) = binding["metadata"]["uid"].as_str()
        {
            self.marked.insert(uid.to_owned(), now);
        }
    }

    /// Whether a binding bore all marks a moment ago, when a replica may have read it: what it then deletes by its uid was Curfew's to delete.
    fn bore_marks_just_now(&self, change: &Change, now: DateTime<Utc>) -> bool {
        let uid = change
            .before
            .as_ref()
            .and_then(|before| before["metadata"]["uid"].as_str());
        let until = uid.and_then(|uid| self.marked.get(uid));
        until.is_some_and(|until| now - *until <= UNDER_WAY)
    }

    /// Whether a binding is one that a replica made: it stays Curfew's when nothing says so any more, its marks taken off and its grant deleted.
    fn is_made_by_a_replica(&mut self, who: Who, change: &Change, now: DateTime<Utc>) -> bool {
        let uid = |object: &Object| object["metadata"]["uid"].as_str().map(str::to_owned);
        match (&change.before, &change.after) {
            (None, Some(made)) => {
                self.made.extend(uid(made).map(|uid| (uid, (who, now))));
                true
            }
            (Some(before), _) => uid(before).is_some_and(|uid| self.made.contains_key(&uid)),
            (None, None) => false,
        }
    }

    /// The uid of the request that a change is about.
    fn about(&self, change: &Change) -> Option<String> {
        let object = change.after.as_ref().or(change.before.as_ref())?;
        let uid = match change.key.kind {
            Kind::AccessRequest => object["metadata"]["uid"].as_str(),
            Kind::AccessGrant => object["spec"]["request"]["uid"].as_str(),
            kind if kind.is_binding() => {
                let uid = object["metadata"]["uid"].as_str();
                let marked = object["metadata"]["labels"][marks::GRANT_UID].as_str();
                let is_its = |grant: &&AccessGrant| {
                    let mut recorded = grant.status.iter().flat_map(|status| &status.bindings);
                    recorded.any(|binding| Some(binding.uid.as_str()) == uid) || grant.metadata.uid.as_deref() == marked
                };
                self.world
                    .grants
                    .iter()
                    .find(is_its)
                    .map(|grant| grant.spec.request.uid.as_str())
            }
            _ => None,
        };
        uid.map(str::to_owned)
    }

    /// The part of the world that belongs to a request, with all policies, and the binding that is changing. What is left of a grant that is gone belongs to
    /// it by its seal.
    fn part(&self, request: Option<&str>, change: &Change) -> World {
        let World {
            now,
            requests,
            grants,
            bindings,
            policies,
        } = &self.world;
        let grants: Vec<_> = grants
            .iter()
            .filter(|grant| Some(grant.spec.request.uid.as_str()) == request)
            .cloned()
            .collect();
        let requests: Vec<_> = requests
            .iter()
            .filter(|found| found.metadata.uid.as_deref() == request)
            .cloned()
            .collect();
        let seals = requests
            .iter()
            .filter_map(|request| request.status.as_ref()?.seal.as_ref());
        let of_seals = seals.map(|seal| GrantUid::new(&seal.uid));
        let its: Vec<_> = grants.iter().filter_map(GrantUid::of).chain(of_seals).collect();
        let belongs = |found: &&RoleBinding| {
            let uid = found.metadata.uid.as_ref();
            let mut recorded = grants
                .iter()
                .flat_map(|grant| &grant.status)
                .flat_map(|status| &status.bindings);
            (change.key.kind.is_binding() && is_it(*found, change))
                || recorded.any(|binding| Some(&binding.uid) == uid)
                || binding::marked(found).is_some_and(|uid| its.contains(&uid))
        };
        World {
            now: *now,
            requests,
            bindings: bindings.iter().filter(belongs).cloned().collect(),
            policies: policies.clone(),
            grants,
        }
    }

    /// All that must hold of everything at once.
    pub fn holds_of_all(&mut self) {
        self.wrong.extend(violated(&self.world, LONG));
    }

    /// What a replica deletes of requests and grants has ended.
    fn is_removed_too_soon(&mut self, change: &Change) -> Option<String> {
        let (before, Key { kind, name, .. }) = (change.before.as_ref()?, &change.key);
        let is_going = |object: &Object| !object["metadata"]["deletionTimestamp"].is_null();
        let ended = match kind {
            Kind::AccessRequest => &before["status"]["timeline"]["ended"],
            Kind::AccessGrant => &before["status"]["end"]["at"],
            _ => return None,
        };
        if is_going(before) || change.after.as_ref().is_some_and(|after| !is_going(after)) {
            return None;
        }
        self.seen.removed += 1;
        ended
            .is_null()
            .then(|| format!("I5: {kind:?} {name} was removed, and has not ended"))
    }

    /// Whether a request that was just sealed gave more at once than its policy allows. That is a matter of all that there is.
    fn is_beyond_a_limit(&self, before: &World, after: &World) -> Option<String> {
        let has_seal = |request: &&AccessRequest| request.status.as_ref().is_some_and(|status| status.seal.is_some());
        if before.requests.iter().any(|request| has_seal(&request)) {
            return None;
        }
        let sealed = after.requests.iter().find(has_seal)?;
        sealed_beyond_a_limit(&self.world, sealed)
    }

    /// That no grant is sealed that rests on a word which nobody attested.
    fn rests_on_planted(&self, before: &World, after: &World) -> Option<String> {
        after.requests.iter().find_map(|request| {
            let seal = request.status.as_ref()?.seal.as_ref()?;
            let was = before
                .requests
                .iter()
                .find(|was| was.metadata.uid == request.metadata.uid);
            if was
                .and_then(|was| was.status.as_ref())
                .is_some_and(|was| was.seal.is_some())
            {
                return None;
            }
            let grant = after
                .grants
                .iter()
                .find(|grant| GrantUid::of(grant) == Some(GrantUid::new(&seal.uid)))?;
            let uid = request.metadata.uid.as_deref()?;
            let planted = self
                .planted
                .iter()
                .find(|(about, word)| about == uid && grant.spec.decisions.contains(word));
            planted.map(|(_, word)| format!("I2: a word of {:?} counted that no guard attested", word.username))
        })
    }

    /// Looks at what should have happened by now.
    pub fn look(&mut self, now: DateTime<Utc>) {
        self.world.now = now;
        self.late(now);
        if now - self.looked < SOMETIMES {
            return;
        }
        self.looked = now;
        let open = unfinished(&self.world);
        self.open.retain(|what, _| open.contains(what));
        for what in open {
            let since = *self.open.entry(what.clone()).or_insert(now);
            if now - since.max(self.unsettled) > SETTLED {
                self.wrong
                    .push(format!("not finished for {} s: {what}", (now - since).num_seconds()));
            }
        }
    }

    fn late(&mut self, now: DateTime<Utc>) {
        let late = self.is_late(now);
        self.wrong.extend(late);
    }

    fn is_late(&self, now: DateTime<Utc>) -> Option<String> {
        let soonest = self
            .hindered
            .values()
            .min()
            .copied()
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        self.world.bindings.iter().find_map(|found| {
            let uid = binding::marked(found)?;
            let grant = self
                .world
                .grants
                .iter()
                .find(|grant| GrantUid::of(grant).as_ref() == Some(&uid))?;
            let deadline = grant::deadline(grant);
            let name = found.metadata.name.as_deref().unwrap_or_default();
            if now - deadline.max(soonest) > PROMPT {
                return Some(format!(
                    "I1: the binding {name} stands at {now}, and nothing hinders that it ends at {deadline}"
                ));
            }
            let owners = found.metadata.owner_references.iter().flatten();
            let hangs =
                owners.into_iter().any(|owner| owner.kind == "IPAddress") && found.metadata.finalizers.is_none();
            (hangs && now - deadline.max(self.kube_hindered) > GRACE).then(|| {
                format!("I1: the binding {name} stands at {now}, and its anchor should have ended it: {deadline}")
            })
        })
    }
}

fn is_refused(request: &AccessRequest) -> bool {
    let status = request.status.as_ref();
    status.is_some_and(|status| status.seal.is_none() && status.phase.is_some_and(curfew::api::RequestPhase::is_final))
}

fn is_it<K: Resource>(found: &K, change: &Change) -> bool {
    found.meta().name.as_ref() == Some(&change.key.name)
        && found.meta().namespace.as_deref().unwrap_or_default() == change.key.namespace
}

fn store<K: Resource>(all: &mut Vec<K>, change: &Change, typed: impl FnOnce(&Object) -> K) {
    all.retain(|found| !is_it(found, change));
    all.extend(change.after.as_ref().map(typed));
}

/// A binding of either kind, in the core's form.
pub fn binding_of(object: &Object) -> RoleBinding {
    let mut object = object.as_ref().clone();
    object["kind"] = "RoleBinding".into();
    serde_json::from_value(object).unwrap()
}

pub fn typed<K: DeserializeOwned>(object: &Object) -> K {
    serde_json::from_value(object.as_ref().clone()).unwrap()
}

/// As a difference of moments.
pub fn delta(length: Duration) -> TimeDelta {
    TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX)
}
