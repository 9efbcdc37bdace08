//! The core as a replica asks it, and each question only once. Objects have numbers here: the same object has always the same one, so that a state of the
//! search is a handful of numbers.

use std::collections::HashMap;

use chrono::{DateTime, Duration, Utc};
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

use super::model::{Binding, Number, Stored};
use super::{Flaw, Scene};
use crate::api::{AccessGrant, AccessGrantSpec, AccessRequest, Decision, RequestPhase, Verdict};
use crate::core::fixture::*;
use crate::core::grant::{self, Why};
use crate::core::invariants::{World, unfinished, violated, violated_by};
use crate::core::request;

/// The moments that there are, in seconds. A grant of the first is past its deadline at the second, for the sweep too.
pub const MOMENTS: [i64; 2] = [10, 1812];
/// People and what they may say, in any order. Alice asks, and may take it back.
pub const WORDS: [(&str, Verdict); 7] = [
    ("bob", Verdict::Approve),
    ("bob", Verdict::Deny),
    ("bob", Verdict::Revoke),
    ("carol", Verdict::Approve),
    ("carol", Verdict::Deny),
    ("carol", Verdict::Revoke),
    ("alice", Verdict::Revoke),
];

/// What is to be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnRequest {
    Nothing,
    /// Create the grant with this spec.
    Grant(Number),
    /// Write this.
    Write(Number),
}

/// What is to be done with a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGrant {
    Nothing,
    Bind,
    End(Number),
}

/// Objects by their numbers.
struct Kept<T> {
    all: Vec<T>,
    numbers: HashMap<String, Number>,
}

impl<T> Kept<T> {
    fn new() -> Self {
        Self {
            all: vec![],
            numbers: HashMap::new(),
        }
    }

    fn keep(&mut self, one: T, written: String) -> Number {
        let next = Number::try_from(self.all.len()).unwrap();
        *self.numbers.entry(written).or_insert_with(|| {
            self.all.push(one);
            next
        })
    }

    fn get(&self, number: Number) -> &T {
        &self.all[usize::from(number)]
    }
}

/// All that matters of a request that isn't the newest any more.
#[derive(PartialEq, Eq, Hash)]
struct OldRequest {
    creates: Option<OnRequest>,
    sealed: bool,
    ended: bool,
    revoked: bool,
}

/// What was asked already.
#[derive(Default)]
struct Answers {
    on_request: HashMap<(Number, Option<Number>, bool, u8), OnRequest>,
    on_grant: HashMap<(Number, Number, Option<Binding>, u8), OnGrant>,
    due: HashMap<(Number, u8), Option<Number>>,
    ended: HashMap<(Number, Number, u8), Number>,
    ending: HashMap<(Number, Number, u8), Number>,
    active: HashMap<(Number, Binding, u8), Number>,
    said: HashMap<(Number, usize), Option<Number>>,
    old_requests: HashMap<OldRequest, Number>,
    old_grants: HashMap<String, Number>,
    held: HashMap<(Stored, u8), Option<String>>,
    led: HashMap<(Stored, Stored, u8), Option<String>>,
    rested: HashMap<(Stored, u8), Option<String>>,
}

/// The core, and all objects that there were so far.
pub struct Asked {
    scene: Scene,
    requests: Kept<AccessRequest>,
    grants: Kept<AccessGrant>,
    specs: Kept<AccessGrantSpec>,
    whys: Kept<Why>,
    answers: Answers,
}

fn moment(now: u8) -> DateTime<Utc> {
    at(MOMENTS[usize::from(now)])
}

impl Asked {
    pub fn new(scene: Scene) -> Self {
        Self {
            scene,
            requests: Kept::new(),
            grants: Kept::new(),
            specs: Kept::new(),
            whys: Kept::new(),
            answers: Answers::default(),
        }
    }

    /// Alice's request, before anybody looked at it.
    pub fn first_request(&mut self) -> Number {
        self.keep_request(observed().request)
    }

    fn keep_request(&mut self, request: AccessRequest) -> Number {
        let written = timeless(&request);
        self.requests.keep(request, written)
    }

    fn keep_grant(&mut self, grant: AccessGrant) -> Number {
        let written = timeless(&grant);
        self.grants.keep(grant, written)
    }

    fn keep_why(&mut self, why: Why) -> Number {
        let written = format!("{why:?}");
        self.whys.keep(why, written)
    }

    pub fn request(&self, request: Number) -> &AccessRequest {
        self.requests.get(request)
    }

    pub fn grant(&self, grant: Number) -> &AccessGrant {
        self.grants.get(grant)
    }

    // ---- what a replica asks -------------------------------------------------------------------------------------------

    fn about_request(&self, request: Number, grant: Option<Number>) -> request::Observed {
        let mut seen = observed();
        seen.policies = self.policies();
        seen.request = self.request(request).clone();
        seen.grant = grant.map(|grant| self.grant(grant).clone());
        if self.scene.flaw == Flaw::DeafToDenials {
            seen.request.spec.decisions.retain(|word| word.verdict != Verdict::Deny);
        }
        seen
    }

    pub fn on_request(&mut self, request: Number, grant: Option<Number>, left_behind: bool, now: u8) -> OnRequest {
        if let Some(known) = self.answers.on_request.get(&(request, grant, left_behind, now)) {
            return *known;
        }
        let mut seen = self.about_request(request, grant);
        seen.left_behind = left_behind;
        let answer = match request::decide(&seen, moment(now)) {
            request::Plan::Rest => OnRequest::Nothing,
            request::Plan::Publish { status, wake: _ } if seen.request.status.as_ref() == Some(&*status) => {
                OnRequest::Nothing
            }
            request::Plan::Publish { status, wake: _ } => OnRequest::Write(self.keep_request(AccessRequest {
                status: Some(*status),
                ..self.request(request).clone()
            })),
            request::Plan::Grant { spec, .. } => {
                let written = serde_json::to_string(&*spec).unwrap();
                OnRequest::Grant(self.specs.keep(*spec, written))
            }
        };
        self.answers
            .on_request
            .insert((request, grant, left_behind, now), answer);
        answer
    }

    pub fn due(&mut self, grant: Number, now: u8) -> Option<Number> {
        if let Some(known) = self.answers.due.get(&(grant, now)) {
            return *known;
        }
        let why = grant::due(self.grant(grant), moment(now)).map(|why| self.keep_why(why));
        self.answers.due.insert((grant, now), why);
        why
    }

    pub fn on_grant(&mut self, grant: Number, request: Number, binding: Option<Binding>, now: u8) -> OnGrant {
        if let Some(known) = self.answers.on_grant.get(&(grant, request, binding, now)) {
            return *known;
        }
        let binding_seen = binding.map(|binding| self.binding(grant, binding));
        let seen = grant::Observed {
            successor: None,
            grant: self.grant(grant).clone(),
            request: Some(self.request(request).clone()),
            role: Some(role("reader")),
            policy: self.policies().pop(),
            targets: vec![grant::TargetSeen {
                namespace: Some(namespace("team-a")),
                binding: binding_seen,
            }],
            anchor: anchor_of(self.grant(grant)),
        };
        let answer = match grant::decide(&seen) {
            grant::Plan::AwaitSeal if self.scene.flaw == Flaw::BindsBeforeTheSeal => OnGrant::Bind,
            grant::Plan::AwaitSeal | grant::Plan::Hold => OnGrant::Nothing,
            grant::Plan::Bind(_) => OnGrant::Bind,
            grant::Plan::End(why) => OnGrant::End(self.keep_why(why)),
        };
        self.answers.on_grant.insert((grant, request, binding, now), answer);
        answer
    }

    /// A request like this one to whoever sees it when it isn't the newest any more. Nothing can be written over it; all that matters of it is whether a
    /// grant would be created by it, and whether one would be bound or ended.
    pub fn old_request(&mut self, request: Number) -> Number {
        let creates = self.on_request(request, None, false, 0);
        let seen = self.request(request);
        let status = seen.status.clone().unwrap_or_default();
        let like = OldRequest {
            creates: Some(creates).filter(|plan| matches!(plan, OnRequest::Grant(_))),
            sealed: status.seal.is_some(),
            ended: status.phase.is_some_and(RequestPhase::is_final),
            revoked: seen.spec.decisions.iter().any(|word| word.verdict == Verdict::Revoke),
        };
        *self.answers.old_requests.entry(like).or_insert(request)
    }

    /// The same for a grant: what matters is where it stands, why it ends, and what was recorded.
    pub fn old_grant(&mut self, grant: Number) -> Number {
        let seen = self.grant(grant);
        let status = seen.status.clone().unwrap_or_default();
        let end = status.end.map(|end| (end.reason, end.message));
        let like = format!(
            "{:?} {:?} {end:?} {:?}",
            grant::created(seen),
            status.phase,
            status.bindings
        );
        *self.answers.old_grants.entry(like).or_insert(grant)
    }

    pub fn is_sealed(&self, request: Number) -> bool {
        let status = self.request(request).status.as_ref();
        status.is_some_and(|status| status.seal.is_some())
    }

    // ---- what is written -----------------------------------------------------------------------------------------------

    /// The grant of this spec, created now, as the API server stores it.
    pub fn created(&mut self, spec: Number, now: u8) -> Number {
        // On an anchor that serves it, however long the call was under way.
        let spec = hung(self.specs.get(spec).clone(), moment(now));
        let metadata = ObjectMeta {
            creation_timestamp: Some(written(MOMENTS[usize::from(now)])),
            ..metadata(&grant::name(&spec.request.uid))
        };
        self.keep_grant(AccessGrant {
            metadata,
            spec,
            status: None,
        })
    }

    pub fn ended(&mut self, grant: Number, why: Number, now: u8) -> Number {
        if let Some(known) = self.answers.ended.get(&(grant, why, now)) {
            return *known;
        }
        let mut next = self.grant(grant).clone();
        next.status = Some(grant::ended(&next, self.whys.get(why).clone(), moment(now)));
        let next = self.keep_grant(next);
        self.answers.ended.insert((grant, why, now), next);
        next
    }

    pub fn ending(&mut self, grant: Number, why: Number, now: u8) -> Number {
        if let Some(known) = self.answers.ending.get(&(grant, why, now)) {
            return *known;
        }
        let mut next = self.grant(grant).clone();
        let status = grant::ending(&next, self.whys.get(why).clone(), "refused", moment(now));
        next.status = Some(status);
        let next = self.keep_grant(next);
        self.answers.ending.insert((grant, why, now), next);
        next
    }

    pub fn active(&mut self, grant: Number, binding: Binding, now: u8) -> Number {
        if let Some(known) = self.answers.active.get(&(grant, binding, now)) {
            return *known;
        }
        let made = record(&self.binding(grant, binding));
        let mut next = self.grant(grant).clone();
        next.status = Some(grant::active(&next, vec![made], moment(now)));
        let next = self.keep_grant(next);
        self.answers.active.insert((grant, binding, now), next);
        next
    }

    /// A status put over whatever is stored: what nobody may ever do.
    pub fn put_over(&mut self, stored: Number, next: Number) -> Number {
        let status = self.request(next).status.clone();
        self.keep_request(AccessRequest {
            status,
            ..self.request(stored).clone()
        })
    }

    /// The request with one word more, if admission takes it.
    pub fn said(&mut self, request: Number, word: usize) -> Option<Number> {
        if let Some(known) = self.answers.said.get(&(request, word)) {
            return *known;
        }
        let (who, verdict) = WORDS[word];
        let mut next = self.request(request).clone();
        let taken = self.admitted(&next, who, verdict).map(|word| {
            next.spec.decisions.push(word);
            self.keep_request(next)
        });
        self.answers.said.insert((request, word), taken);
        taken
    }

    /// What admission makes of a word: what the chart's policies say, as far as it matters here.
    fn admitted(&self, request: &AccessRequest, who: &str, verdict: Verdict) -> Option<Decision> {
        let said = &request.spec.decisions;
        let status = request.status.as_ref()?;
        let offer = &status.offer.as_ref()?.digest;
        let is_over = status.phase.is_some_and(RequestPhase::is_final);
        let is_repeated = said.iter().any(|word| word.username == who && word.verdict == verdict);
        if is_over || is_repeated || said.len() >= self.scene.words {
            return None;
        }
        // Bob and carol have the same rights: who of them speaks first makes no difference.
        if said.is_empty() && who == "carol" {
            return None;
        }
        let is_taken = match verdict {
            Verdict::Approve => !status.open.is_empty(),
            Verdict::Deny => status.seal.is_none(),
            Verdict::Revoke => true,
            Verdict::Review => false,
        };
        let word = match (verdict, who) {
            (Verdict::Revoke, "alice") => withdraw(),
            (Verdict::Approve, who) => approve(who, offer),
            (Verdict::Deny, who) => deny(who),
            (Verdict::Revoke, who) => revoke(who),
            // Nobody says it here: it changes nothing.
            (Verdict::Review, _) => return None,
        };
        is_taken.then_some(word)
    }

    /// A binding of a grant as the API server stores it.
    fn binding(&self, grant: Number, binding: Binding) -> RoleBinding {
        let mut stored = stored_binding(self.grant(grant));
        stored.metadata.uid = Some(uid_of(binding));
        stored
    }

    /// The binding that a grant's status names.
    pub fn recorded(&self, grant: Number) -> Option<Binding> {
        let status = self.grant(grant).status.as_ref()?;
        let uid = &status.bindings.first()?.uid;
        (0..Binding::MAX).find(|binding| uid_of(*binding) == *uid)
    }

    /// Whether what is stored doesn't call for a binding any more: it is past the deadline, said to be ending, or revoked.
    pub fn is_over(&self, request: Number, grant: Number, now: u8) -> bool {
        let grant = self.grant(grant);
        let ends = grant.status.as_ref().is_some_and(|status| status.end.is_some());
        let mut words = self.request(request).spec.decisions.iter();
        ends || self.is_past(grant, now) || words.any(|word| word.verdict == Verdict::Revoke)
    }

    fn is_past(&self, grant: &AccessGrant, now: u8) -> bool {
        grant::deadline(grant) <= moment(now)
    }

    /// Whether the deadline of a grant has come.
    pub fn past_deadline(&self, grant: Number, now: u8) -> bool {
        self.is_past(self.grant(grant), now)
    }

    /// Whether a marked binding may not live, by this grant.
    pub fn to_sweep(&self, grant: Option<Number>, now: u8) -> bool {
        let grant = grant.map(|grant| self.grant(grant));
        crate::core::binding::sweep(grant, &in_namespace("team-a"), moment(now)) == crate::core::binding::Sweep::Remove
    }

    // ---- what must hold ------------------------------------------------------------------------------------------------

    fn policies(&self) -> Vec<crate::api::AccessPolicy> {
        let mut policy = policy("standard");
        let stages = policy
            .spec
            .approval
            .iter_mut()
            .flat_map(|approval| &mut approval.stages);
        stages.for_each(|stage| stage.required = Some(self.scene.required));
        vec![policy]
    }

    fn world(&self, stored: Stored, now: u8) -> World {
        let binding = stored.grant.zip(stored.binding);
        World {
            now: moment(now),
            requests: vec![self.request(stored.request).clone()],
            grants: stored.grant.iter().map(|grant| self.grant(*grant).clone()).collect(),
            bindings: binding
                .map(|(grant, binding)| self.binding(grant, binding))
                .into_iter()
                .collect(),
            policies: self.policies(),
        }
    }

    /// What doesn't hold of what is stored. When access is gone depends on who is quick, which nobody is here: that is asked at rest.
    pub fn wrong(&mut self, stored: Stored, now: u8) -> Option<String> {
        if let Some(known) = self.answers.held.get(&(stored, now)) {
            return known.clone();
        }
        let answer = violated(&self.world(stored, now), Duration::days(1)).into_iter().next();
        self.answers.held.insert((stored, now), answer.clone());
        answer
    }

    /// What doesn't hold of a step. A binding that was under way when its access was over counts for no lie of a grant: nobody can know of it. Nor for one of
    /// a request, if it came after that was decided.
    pub fn wrong_step(&mut self, before: Stored, after: Stored, now: u8) -> Option<String> {
        if before == after {
            return None;
        }
        if let Some(known) = self.answers.led.get(&(before, after, now)) {
            return known.clone();
        }
        let is_of_request = before.request != after.request;
        let known = |stored: Stored| Stored {
            binding: (stored.binding).filter(|_| !stored.late || is_of_request && !before.missed),
            ..stored
        };
        let (was, is) = (self.world(known(before), now), self.world(known(after), now));
        let answer = violated_by(&was, &is).into_iter().next();
        self.answers.led.insert((before, after, now), answer.clone());
        answer
    }

    /// What isn't over, or wasn't given, although nothing is left to do.
    pub fn wrong_at_rest(&mut self, stored: Stored, now: u8) -> Option<String> {
        if let Some(known) = self.answers.rested.get(&(stored, now)) {
            return known.clone();
        }
        let phase = self
            .request(stored.request)
            .status
            .as_ref()
            .and_then(|status| status.phase);
        let waits = matches!(phase, None | Some(RequestPhase::Approved));
        let stuck = || waits.then(|| "it waits for nobody, and nothing happens".to_owned());
        let left = unfinished(&self.world(stored, now)).into_iter().next();
        let answer = left.or_else(stuck);
        self.answers.rested.insert((stored, now), answer.clone());
        answer
    }
}

/// An object without the times at which its status was written: nothing is decided by them here, and they would make two of what is one.
fn timeless(object: &impl Serialize) -> String {
    let mut object = serde_json::to_value(object).unwrap();
    forget(&mut object["status"]);
    object.to_string()
}

fn forget(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for time in ["firstSeen", "lastTransitionTime", "offered", "ended", "at"] {
                fields.remove(time);
            }
            fields.values_mut().for_each(forget);
        }
        Value::Array(all) => all.iter_mut().for_each(forget),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn uid_of(binding: Binding) -> String {
    format!("uid-of-binding-{binding}")
}
