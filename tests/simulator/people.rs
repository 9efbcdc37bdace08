//! Whom a schedule has: people who ask and decide, as far as the guards let them, and admins who delete and change things. Each thing they do is one call
//! here, by chance, and says what it was.

use chrono::{SecondsFormat, TimeDelta};
use curfew::api::{AccessGrant, AccessRequest, Decision, OpenStage, RequestPhase, Verdict, marks};
use curfew::core::binding;
use curfew::core::lease::UNINSTALLING;
use serde_json::{Value, json};

use crate::apiserver::{Key, Kind, Object, Only, Server, Store, Who};
use crate::auditor::{binding_of, typed};
use crate::chance::Chance;
use crate::replica::HOME;
use crate::weather::Weather;

pub const NAMESPACES: [&str; 2] = ["team-a", "team-b"];
const REQUESTERS: [&str; 2] = ["alice", "erin"];
const APPROVERS: [&str; 3] = ["bob", "carol", "dave"];
const POLICIES: [&str; 2] = ["standard", "strict"];

/// The people of one schedule, with all that they need to act.
pub struct People<'a> {
    pub server: &'a Server,
    pub weather: &'a Weather,
    pub chance: Chance,
    asked: usize,
}

impl<'a> People<'a> {
    /// With everything there that a cluster has on which Curfew was installed.
    pub fn new(server: &'a Server, weather: &'a Weather, chance: Chance) -> Self {
        let mut people = Self {
            server,
            weather,
            chance,
            asked: 0,
        };
        people.make(Kind::Namespace, "", HOME, json!({}));
        people.make(Kind::Namespace, "", "default", json!({}));
        for (key, object) in weather.guards.all() {
            people.make(key.kind, "", &key.name, object.clone());
        }
        people.make(Kind::ClusterRole, "", "reader", rules(&["get"]));
        for namespace in NAMESPACES {
            people.make(Kind::Namespace, "", namespace, json!({}));
            people.make(Kind::Role, namespace, "viewer", rules(&["get", "list"]));
            people.make(Kind::RoleBinding, namespace, "somebody-elses", foreign());
        }
        people.make(Kind::ClusterRoleBinding, "", "somebody-elses", foreign());
        people.make_policies();
        people
    }

    fn make_policies(&mut self) {
        for policy in POLICIES {
            let spec = self.policy(policy == "strict");
            self.make(Kind::AccessPolicy, "", policy, json!({"spec": spec}));
        }
        let mut emergency = self.policy(false);
        emergency["approval"] = json!({"breakGlass": {}});
        // Sometimes longer than records are kept: then the policy isn't Ready.
        if self.chance.in_thousand(600) {
            let within = format!("{}s", self.chance.between(1, 60));
            emergency["review"] = json!({"approvers": {"users": [APPROVERS[0]]}, "within": within});
        }
        self.make(Kind::AccessPolicy, "", "emergency", json!({"spec": emergency}));
    }

    pub fn make(&mut self, kind: Kind, namespace: &str, name: &str, object: Value) {
        let mut object = object;
        object["metadata"]["name"] = name.into();
        let key = Key::new(kind, namespace, name);
        // It may be there already, or its namespace may be going.
        let _ = self.act(|store, now| store.create(&key, object, now));
    }

    fn act<T>(&self, act: impl FnOnce(&mut Store, chrono::DateTime<chrono::Utc>) -> T) -> T {
        self.server.act(Who::Another, act)
    }

    fn policy(&mut self, strict: bool) -> Value {
        let seconds = self.chance.between(5, 60);
        let sometimes = |yes: bool, one: &str, other: &str| json!(if yes { one } else { other });
        let limits = self.chance.in_thousand(300).then(|| {
            let pending = self.chance.in_thousand(300).then(|| self.chance.between(1, 3));
            json!({"activePerRequester": self.chance.between(1, 3), "pendingPerRequester": pending})
        });
        let mut policy = json!({
            "requesters": {"users": REQUESTERS},
            "roles": [{"kind": "ClusterRole", "name": "reader"}, {"kind": "Role", "name": "viewer"}],
            "namespaces": {"names": NAMESPACES}, "clusterWide": self.chance.in_thousand(500),
            "maxDuration": "10m", "defaultDuration": format!("{seconds}s"), "requestTTL": format!("{}s", self.chance.between(30, 150)),
            "approval": if strict { self.chain() } else { json!({"stages": [{"name": "lead", "approvers": {"users": APPROVERS}}]}) },
            "startTolerance": format!("{}s", self.chance.between(1, 60)),
            "deadMansSwitch": sometimes(self.chance.in_thousand(300), "BestEffort", "Required"),
            "onPolicyChange": sometimes(self.chance.in_thousand(500), "Revoke", "Keep"),
            "onRoleChange": sometimes(self.chance.in_thousand(800), "Revoke", "Keep"),
        });
        if let Some(limits) = limits {
            policy["limits"] = limits;
        }
        if self.chance.in_thousand(300) {
            policy["maxTotalDuration"] = format!("{}s", self.chance.between(20, 200)).into();
        }
        if self.chance.in_thousand(300) {
            policy["retention"] = format!("{}s", self.chance.between(1, 120)).into();
        }
        policy
    }

    /// Two people, in one stage or in two.
    fn chain(&mut self) -> Value {
        if self.chance.in_thousand(300) {
            return json!({"stages": [{"name": "lead", "approvers": {"users": APPROVERS}, "required": 2}]});
        }
        let [bob, carol, dave] = APPROVERS;
        let mut stages = [
            json!({"name": "lead", "approvers": {"users": [bob, carol]}}),
            json!({"name": "security", "approvers": {"users": [carol, dave]}}),
        ];
        for stage in &mut stages {
            if self.chance.in_thousand(400) {
                stage["timeout"] = format!("{}s", self.chance.between(5, 60)).into();
                if self.chance.in_thousand(700) {
                    stage["escalateTo"] = json!({"users": APPROVERS});
                }
            }
        }
        let order = if self.chance.in_thousand(500) {
            "Parallel"
        } else {
            "Sequential"
        };
        json!({"order": order, "stages": stages})
    }

    // ---- people who ask and decide -------------------------------------------------------------------------------------

    pub fn asks(&mut self) -> String {
        self.asked += 1;
        if self.chance.in_thousand(200)
            && let Some(told) = self.asks_for_longer()
        {
            return told;
        }
        let (name, namespace) = (format!("fix-{}", self.asked), NAMESPACES[self.chance.below(2)]);
        let who = REQUESTERS[self.chance.below(2)];
        let role = if self.chance.in_thousand(500) {
            ("ClusterRole", "reader")
        } else {
            ("Role", "viewer")
        };
        let mut spec = json!({
            "role": {"kind": role.0, "name": role.1}, "policy": POLICIES[self.chance.below(2)],
            "requester": {"username": who, "uid": "", "groups": []},
        });
        if self.chance.in_thousand(100) {
            spec["policy"] = "emergency".into();
            spec["reason"] = "it burns".into();
        }
        if self.chance.in_thousand(700) {
            spec["duration"] = format!("{}s", self.chance.between(3, 90)).into();
        }
        if role.0 == "ClusterRole" && self.chance.in_thousand(500) {
            if self.chance.in_thousand(200) {
                spec["clusterWide"] = true.into();
            } else if self.chance.in_thousand(300) {
                spec["namespacesFromPolicy"] = true.into();
            } else {
                spec["namespaces"] = json!(NAMESPACES);
            }
        }
        if self.chance.in_thousand(200) {
            let begins =
                self.act(|_, now| now) + TimeDelta::seconds(i64::try_from(self.chance.between(1, 60)).unwrap());
            spec["startTime"] = begins.to_rfc3339_opts(SecondsFormat::Secs, true).into();
        }
        self.make(Kind::AccessRequest, namespace, &name, json!({"spec": spec}));
        format!("{who} asks: {namespace}/{name}")
    }

    /// Somebody asks to extend some access, theirs or not, over or not.
    fn asks_for_longer(&mut self) -> Option<String> {
        let key = self.some(Kind::AccessGrant)?;
        let grant: AccessGrant = typed(&self.server.look(|store| store.get(&key))?);
        let who = if self.chance.in_thousand(900) {
            grant.spec.requester.username.clone()
        } else {
            REQUESTERS[self.chance.below(2)].to_owned()
        };
        let namespaces: Vec<_> = grant
            .spec
            .targets
            .iter()
            .map(|target| target.namespace.clone())
            .collect();
        let (name, namespace) = (format!("fix-{}", self.asked), grant.spec.request.namespace.clone());
        let mut spec = json!({
            "role": grant.spec.role.reference(), "policy": grant.spec.policy.name, "reason": "it takes longer",
            "requester": {"username": who, "uid": "", "groups": []}, "duration": format!("{}s", self.chance.between(3, 90)),
            "extends": key.name,
        });
        if grant.spec.cluster_wide {
            spec["clusterWide"] = true.into();
        } else {
            spec["namespaces"] = json!(namespaces);
        }
        self.make(Kind::AccessRequest, &namespace, &name, json!({"spec": spec}));
        Some(format!(
            "{who} asks for longer: {namespace}/{name} extends {}",
            key.name
        ))
    }

    /// Somebody says something on some request, if the guards let them.
    pub fn speaks(&mut self) -> String {
        let who = if self.chance.in_thousand(900) {
            APPROVERS[self.chance.below(3)]
        } else {
            REQUESTERS[self.chance.below(2)]
        };
        let verdict = match self.chance.below(20) {
            0 | 1 => Verdict::Deny,
            2 | 3 => Verdict::Revoke,
            4 | 5 => Verdict::Review,
            _ => Verdict::Approve,
        };
        let Some(key) = self.some(Kind::AccessRequest) else {
            return "nobody to decide on".into();
        };
        let said = self.says(&key, who, verdict);
        format!(
            "{who} says {verdict:?} on {}{}",
            key.name,
            if said { "" } else { ", and is refused" }
        )
    }

    /// Everybody who may approves some request.
    pub fn approve(&mut self) -> String {
        let Some(key) = self.some(Kind::AccessRequest) else {
            return "nobody to approve".into();
        };
        for who in APPROVERS {
            self.says(&key, who, Verdict::Approve);
        }
        format!("all approve {}", key.name)
    }

    pub fn says(&mut self, key: &Key, who: &str, verdict: Verdict) -> bool {
        let (guards, mut planted) = (self.weather.guards, None);
        let said = self.act(|store, _| {
            let found = store.get(key)?;
            let request: AccessRequest = typed(&found);
            let attested = guards.attest(store);
            let word = word(&request, who, verdict)?;
            let mut next = found.as_ref().clone();
            let words: Vec<Decision> = [request.spec.decisions, vec![word.clone()]].concat();
            next["spec"]["decisions"] = serde_json::to_value(words).ok()?;
            store.replace(key, next).ok()?;
            planted = (!attested).then(|| (request.metadata.uid.unwrap_or_default(), word));
            Some(())
        });
        if let Some((request, word)) = planted {
            self.weather.state().auditor.planted(&request, word);
        }
        said.is_some()
    }

    /// Whoever can while a guard is away puts words into other people's mouths. While they are in force, nobody can.
    pub fn forges(&mut self) -> String {
        if self.server.look(|store| self.weather.guards.attest(store)) {
            return "nobody can forge".into();
        }
        let Some(key) = self.some(Kind::AccessRequest) else {
            return "nothing to forge".into();
        };
        for who in APPROVERS {
            self.says(&key, who, Verdict::Approve);
        }
        format!("words are forged on {}", key.name)
    }

    // ---- admins -------------------------------------------------------------------------------------------------------

    fn all(&self, kind: Kind) -> Vec<Key> {
        self.server
            .look(|store| store.all(kind, "").map(|(key, _)| key.clone()).collect())
    }

    fn some(&mut self, kind: Kind) -> Option<Key> {
        let all = self.all(kind);
        self.chance.one_of(&all).cloned()
    }

    fn some_binding(&mut self) -> Option<Key> {
        let is_ours = |(key, object): (&Key, &Object)| {
            (!object["metadata"]["labels"][marks::GRANT_UID].is_null()).then(|| key.clone())
        };
        let all: Vec<Key> = self.server.look(|store| {
            let cluster_wide = store.all(Kind::ClusterRoleBinding, "");
            let all = store.all(Kind::RoleBinding, "").chain(cluster_wide);
            all.filter_map(is_ours).collect()
        });
        self.chance.one_of(&all).cloned()
    }

    fn deletes(&self, key: &Key) -> String {
        let _ = self.act(|store, now| store.delete(key, &Only::default(), now));
        format!("{:?} {}/{} is deleted", key.kind, key.namespace, key.name)
    }

    fn edits(&self, key: &Key, edit: impl FnOnce(&mut Value)) -> String {
        let _ = self.act(|store, _| store.edit(key, edit));
        format!("{:?} {}/{} is changed", key.kind, key.namespace, key.name)
    }

    /// An admin does something to what Curfew rests on.
    pub fn meddle(&mut self) -> String {
        let kinds = [
            Kind::AccessRequest,
            Kind::AccessGrant,
            Kind::Job,
            Kind::Service,
            Kind::IpAddress,
            Kind::Lease,
        ];
        match self.chance.below(14) {
            number @ 0..6 => match self.some(kinds[number]) {
                Some(key) => self.deletes(&key),
                None => format!("there is no {:?} to delete", kinds[number]),
            },
            6 => self.some_binding().map_or_else(String::new, |key| self.deletes(&key)),
            7 => self.some_binding().map_or_else(String::new, |key| {
                self.edits(&key, |binding| {
                    binding["metadata"]["finalizers"] = json!(["example.com/hold"])
                })
            }),
            8 => self.some_binding().map_or_else(String::new, |key| {
                self.edits(&key, |binding| binding["metadata"]["labels"] = json!({}))
            }),
            9 => self.plants(),
            10 => self.changes_role(),
            11 => self.changes_policy(),
            12 => self.takes_lease(),
            _ => self.holds_request(),
        }
    }

    /// A binding with all of Curfew's marks that no grant explains.
    fn plants(&mut self) -> String {
        let namespace = NAMESPACES[self.chance.below(2)];
        let uid = format!("11111111-1111-4111-8111-{:012x}", self.chance.between(1, 1 << 40));
        let mut binding = foreign();
        binding["metadata"]["labels"] = json!({marks::GRANT_UID: uid});
        binding["metadata"]["annotations"] =
            json!({marks::GRANT: "nothing", marks::DEADLINE: "2090-01-01T00:00:00Z", marks::REQUEST: "team-a/nothing"});
        // It hangs on somebody's anchor, or on a grant that never was, so that the garbage collector is after it too.
        let address = self
            .some(Kind::IpAddress)
            .and_then(|key| self.server.look(|store| store.get(&key)));
        binding["metadata"]["ownerReferences"] = match address {
            Some(address) => json!([{"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
                "name": address["metadata"]["name"], "uid": address["metadata"]["uid"]}]),
            None => {
                json!([{"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "name": "nothing", "uid": uid}])
            }
        };
        let name = format!("{}{uid}", marks::BINDING_PREFIX);
        if self.chance.in_thousand(200) {
            self.make(Kind::ClusterRoleBinding, "", &name, binding);
            return format!("a ClusterRoleBinding is planted: {name}");
        }
        self.make(Kind::RoleBinding, namespace, &name, binding);
        format!("a binding is planted: {namespace}/{name}")
    }

    fn changes_role(&mut self) -> String {
        let namespace = NAMESPACES[self.chance.below(2)];
        let key = [
            Key::new(Kind::ClusterRole, "", "reader"),
            Key::new(Kind::Role, namespace, "viewer"),
        ][self.chance.below(2)]
        .clone();
        if self.chance.in_thousand(300) {
            self.deletes(&key);
            self.make(key.kind, &key.namespace, &key.name, rules(&["get"]));
            return format!("{} is made anew", key.name);
        }
        let verbs = [["get"].as_slice(), &["get", "list"], &["get", "list", "watch"]][self.chance.below(3)];
        self.edits(&key, |role| role["rules"] = rules(verbs)["rules"].take())
    }

    fn changes_policy(&mut self) -> String {
        let name = POLICIES[self.chance.below(2)];
        let key = Key::new(Kind::AccessPolicy, "", name);
        let spec = self.policy(name == "strict");
        if self.chance.in_thousand(300) {
            self.deletes(&key);
            self.make(key.kind, "", name, json!({"spec": spec}));
            return format!("the policy {name} is made anew");
        }
        self.edits(&key, |policy| policy["spec"] = spec)
    }

    fn takes_lease(&mut self) -> String {
        let Some(key) = self.some(Kind::Lease) else {
            return "there is no Lease".into();
        };
        let holder = if self.chance.in_thousand(500) {
            json!("somebody")
        } else {
            Value::Null
        };
        self.edits(&key, |lease| lease["spec"]["holderIdentity"] = holder)
    }

    /// A request is deleted, and a finalizer holds it; or the finalizers that hold one are taken off.
    fn holds_request(&mut self) -> String {
        let Some(key) = self.some(Kind::AccessRequest) else {
            return "there is no request".into();
        };
        let held = self.server.look(|store| {
            store
                .get(&key)
                .is_some_and(|request| !request["metadata"]["finalizers"].is_null())
        });
        if held {
            return self.edits(&key, |request| request["metadata"]["finalizers"] = Value::Null);
        }
        self.edits(&key, |request| {
            request["metadata"]["finalizers"] = json!(["example.com/hold"])
        });
        self.deletes(&key)
    }

    /// A guard goes, or says something else.
    pub fn breaks_guard(&mut self) -> String {
        let guards = self.weather.guards.all();
        let (key, _) = &guards[self.chance.below(guards.len())];
        if key.kind != Kind::Definition && self.chance.in_thousand(500) {
            return self.deletes(key);
        }
        let more = self.chance.between(1, 1 << 30);
        self.edits(key, |guard| {
            guard["spec"]["matchConstraints"] = json!({"excluded": more})
        })
    }

    /// All guards are as they are shipped again.
    pub fn restores_guards(&mut self) -> String {
        for (key, shipped) in self.weather.guards.all() {
            let is_as_shipped = self.act(|store, _| store.get(key).map(|found| found["spec"] == shipped["spec"]));
            match is_as_shipped {
                Some(true) => {}
                Some(false) => drop(self.edits(key, |guard| guard["spec"] = shipped["spec"].clone())),
                None => self.make(key.kind, "", &key.name, shipped.clone()),
            }
        }
        "the guards are restored".into()
    }

    /// A definition goes, and all that it defines with it.
    pub fn deletes_definition(&mut self) -> String {
        let kind = [Kind::AccessPolicy, Kind::AccessRequest, Kind::AccessGrant][self.chance.below(3)];
        for key in self.all(kind) {
            self.edits(&key, |object| object["metadata"]["finalizers"] = Value::Null);
            self.deletes(&key);
        }
        kind.definition().map_or_else(String::new, |key| self.deletes(&key))
    }

    pub fn restores_definitions(&mut self) -> String {
        self.restores_guards();
        self.make_policies();
        "the definitions are there".into()
    }

    /// A namespace goes; it is made again later.
    pub fn deletes_namespace(&mut self) -> String {
        let name = NAMESPACES[self.chance.below(2)];
        self.deletes(&Key::new(Kind::Namespace, "", name))
    }

    pub fn restores_namespaces(&mut self) -> String {
        for namespace in NAMESPACES {
            self.make(Kind::Namespace, "", namespace, json!({}));
            self.make(Kind::Role, namespace, "viewer", rules(&["get", "list"]));
        }
        "the namespaces are there".into()
    }

    /// A role and a policy that nobody has touched.
    pub fn prepares_last(&mut self) {
        self.restores_namespaces();
        self.edits(&Key::new(Kind::Namespace, "", "team-a"), |team| {
            team["metadata"]["labels"] = json!({"last": "yes"})
        });
        self.make(Kind::ClusterRole, "", "last", rules(&["get"]));
        let spec = json!({
            "requesters": {"users": ["zoe"]}, "roles": [{"kind": "ClusterRole", "name": "last"}],
            "namespaces": {"selector": {"matchLabels": {"last": "yes"}}},
            "maxDuration": "5m", "approval": {"stages": [{"name": "lead", "approvers": {"users": ["bob"]}}]}, "deadMansSwitch": "BestEffort",
            "requestTTL": "40s",
        });
        self.make(Kind::AccessPolicy, "", "last", json!({"spec": spec}));
    }

    /// That role gives more.
    pub fn grows_last(&mut self) {
        let role = Key::new(Kind::ClusterRole, "", "last");
        self.edits(&role, |role| role["rules"] = rules(&["get", "list"])["rules"].take());
    }

    /// That policy is for somebody else.
    pub fn narrows_last(&mut self) {
        let policy = Key::new(Kind::AccessPolicy, "", "last");
        self.edits(&policy, |policy| {
            policy["spec"]["requesters"] = json!({"users": ["yves"]})
        });
    }

    /// That policy's namespace is it no more.
    pub fn takes_label_of_last(&mut self) {
        let team = Key::new(Kind::Namespace, "", "team-a");
        self.edits(&team, |team| team["metadata"]["labels"] = Value::Null);
    }

    pub fn asks_last(&mut self, name: &str, duration: &str) -> Key {
        let request = Key::new(Kind::AccessRequest, "team-a", name);
        let spec = json!({
            "role": {"kind": "ClusterRole", "name": "last"}, "policy": "last", "duration": duration,
            "requester": {"username": "zoe", "uid": "", "groups": []},
        });
        self.make(request.kind, &request.namespace, name, json!({"spec": spec}));
        request
    }

    /// The Lease isn't left to an uninstallation that nobody goes on with.
    pub fn frees_lease(&mut self) {
        if let Some(key) = self.some(Kind::Lease) {
            self.edits(&key, |lease| {
                let is_kept = |holder: &str| !holder.starts_with(UNINSTALLING);
                if !lease["spec"]["holderIdentity"].as_str().is_none_or(is_kept) {
                    lease["spec"]["holderIdentity"] = Value::Null;
                }
            });
        }
    }

    /// Nothing of other people's holds anything any more.
    pub fn lets_go(&mut self) {
        let is_others = |key: &Key, object: &Object| match key.kind {
            Kind::AccessRequest => true,
            // What bears all of Curfew's marks is Curfew's to let go.
            kind if kind.is_binding() => binding::marked(&binding_of(object)).is_none(),
            _ => false,
        };
        let held: Vec<Key> = self.server.look(|store| {
            let all = store.everything();
            let held =
                all.filter(|(key, object)| !object["metadata"]["finalizers"].is_null() && is_others(key, object));
            held.map(|(key, _)| key.clone()).collect()
        });
        for key in held {
            self.edits(&key, |object| object["metadata"]["finalizers"] = Value::Null);
        }
    }
}

/// A word as admission lets it be stored. `None`: it doesn't.
fn word(request: &AccessRequest, who: &str, verdict: Verdict) -> Option<Decision> {
    let status = request.status.clone().unwrap_or_default();
    let requester = request
        .spec
        .requester
        .as_ref()
        .map(|requester| requester.username.as_str());
    let is_over = status.phase.is_some_and(RequestPhase::is_final) && verdict != Verdict::Review
        || request.metadata.deletion_timestamp.is_some();
    let is_own = verdict != Verdict::Revoke && requester == Some(who);
    let is_too_late = matches!(verdict, Verdict::Approve | Verdict::Deny) && status.seal.is_some();
    if is_over || is_own || is_too_late {
        return None;
    }
    let offer = status.offer.map(|offer| offer.digest).unwrap_or_default();
    let revokers = status.revokers.unwrap_or_default();
    let reviewers = status.reviewers.unwrap_or_default();
    let is = |name: &String| name == who;
    let via: Vec<String> = match verdict {
        Verdict::Revoke if requester == Some(who) => vec![marks::VIA_REQUESTER.to_owned()],
        Verdict::Approve => {
            let open = status
                .open
                .iter()
                .filter(|OpenStage { users, .. }| users.iter().any(is));
            open.map(|OpenStage { stage, .. }| format!("{stage}/User:{who}"))
                .collect()
        }
        Verdict::Deny | Verdict::Revoke => {
            let lets_in = revokers.users.iter().find(|name| is(name));
            let entry = lets_in.map(|who| format!("{}/User:{who}", marks::VIA_ANY_STAGE));
            entry.into_iter().collect()
        }
        Verdict::Review => {
            let lets_in = reviewers.users.iter().find(|name| is(name));
            let entry = lets_in.map(|who| format!("{}/User:{who}", marks::VIA_REVIEW));
            entry.into_iter().collect()
        }
    };
    let is_about_nothing = verdict != Verdict::Revoke && offer.is_empty();
    let mut before = request.spec.decisions.iter();
    let is_repeated = before.any(|said| said.username == who && said.verdict == verdict && said.offer == offer);
    (!via.is_empty() && !is_about_nothing && !is_repeated).then(|| Decision {
        verdict,
        username: who.to_owned(),
        uid: String::new(),
        via,
        comment: None,
        offer,
        code: None,
        direct: false,
    })
}

fn rules(verbs: &[&str]) -> Value {
    json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]})
}

fn foreign() -> Value {
    json!({
        "metadata": {},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "frank"}],
    })
}
