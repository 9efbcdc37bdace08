//! Which objects are to be looked at again when another one changes. A trigger too many costs little; one too few costs the promise.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};

use super::watch::{Change, Desk, Kind};
use crate::api::{AccessGrant, AccessPolicy, AccessRequest, AccessRequestStatus, RoleKind, RoleReference};
use crate::core::binding;
use crate::core::facts::Home;
use crate::core::grant::{GrantUid, has_ended, name as grant_name};
use crate::core::limits::Others;
use crate::core::request::targets::asked;

/// The desks of all controllers, and what each of them has.
pub struct Desks {
    pub requests: (Desk<AccessRequest>, Store<AccessRequest>),
    pub grants: (Desk<AccessGrant>, Store<AccessGrant>),
    pub policies: (Desk<AccessPolicy>, Store<AccessPolicy>),
    pub bindings: (Desk<RoleBinding>, Store<RoleBinding>),
    pub cluster_bindings: (Desk<ClusterRoleBinding>, Store<ClusterRoleBinding>),
    pub anchors: (Desk<Job>, Store<Job>),
    pub home: Home,
}

impl Desks {
    /// A request: itself, and its grant, also the one that it is said to have led to; when it waits no longer, others of its requester that do.
    pub fn request(&self, change: Change<AccessRequest>) {
        let Change::One(request) = change else {
            return self.all();
        };
        self.requests.0.look_at(&request);
        if let Some(requester) = request.username()
            && (!is_undecided(&request) || is_gone(&request, &self.requests.1))
        {
            self.waiting_of(requester);
        }
        let sealed = request.status.as_ref().and_then(|status| status.seal.as_ref());
        let named = request.uid().map(|uid| grant_name(&uid));
        let grants = named.into_iter().chain(sealed.map(|seal| seal.grant.clone()));
        self.grants.0.look(grants.map(|grant| ObjectRef::new(&grant)));
    }

    /// A grant: itself, its request, its bindings, its anchor; when it has ended, others of its requester that wait for that.
    pub fn grant(&self, change: Change<AccessGrant>) {
        let Change::One(grant) = change else { return self.all() };
        self.grants.0.look_at(&grant);
        if has_ended(&grant) || is_gone(&grant, &self.grants.1) {
            self.waiting_of(&grant.spec.requester.username);
        }
        let request = &grant.spec.request;
        self.requests
            .0
            .look([ObjectRef::new(&request.name).within(&request.namespace)]);
        // What takes over ends what it extends; what has ended is extended no more.
        self.grants
            .0
            .look(grant.spec.extends.iter().map(|extended| ObjectRef::new(&extended.name)));
        let name = grant.name_any();
        self.undecided(|request| request.spec.extends.as_ref() == Some(&name));
        if let Some(anchor) = &grant.spec.anchor {
            self.anchors
                .0
                .look([ObjectRef::new(&anchor.name).within(&self.home.namespace)]);
        }
        if let Some(name) = GrantUid::of(&grant).map(|uid| binding::name(&uid)) {
            for place in grant.spec.places() {
                match place.namespace() {
                    Some(namespace) => self.bindings.0.look([ObjectRef::new(&name).within(namespace)]),
                    None => self.cluster_bindings.0.look([ObjectRef::new(&name)]),
                }
            }
        }
    }

    /// An anchor's Job: itself, and what hangs on it.
    pub fn job(&self, change: Change<Job>) {
        let Change::One(job) = change else { return self.all() };
        self.anchors.0.look_at(&job);
        self.hanging_on(&job.name_any());
    }

    /// An anchor's Service: what hangs on it.
    pub fn service(&self, change: Change<Service>) {
        let Change::One(service) = change else {
            return self.all();
        };
        self.hanging_on(&service.name_any());
    }

    fn hanging_on(&self, name: &str) {
        self.in_force(|grant| grant.spec.anchor.as_ref().is_some_and(|anchor| anchor.name == name));
    }

    /// A policy: itself; requests under it, ended ones too, for it says how long they are kept; all that are under none yet, for it may be the one that
    /// fits, or the second one; its grants.
    pub fn policy(&self, change: Change<AccessPolicy>) {
        let Change::One(policy) = change else { return self.all() };
        let name = policy.name_any();
        self.policies.0.look_at(&policy);
        let (desk, store) = &self.requests;
        desk.look_at_those(store, |request| {
            match request.status.as_ref().and_then(|status| status.policy.as_ref()) {
                Some(chosen) => chosen.name == name,
                None => is_undecided(request) && request.spec.policy.as_ref().is_none_or(|named| *named == name),
            }
        });
        self.in_force(|grant| grant.spec.policy.name == name);
    }

    /// A binding: itself, and its grant, by the binding's name, which alone nobody can change.
    pub fn binding(&self, change: Change<RoleBinding>) {
        let Change::One(found) = change else { return self.all() };
        self.bindings.0.look_at(&found);
        self.bound_as(&found.name_any());
    }

    /// The same of a ClusterRoleBinding.
    pub fn cluster_binding(&self, change: Change<ClusterRoleBinding>) {
        let Change::One(found) = change else { return self.all() };
        self.cluster_bindings.0.look_at(&found);
        self.bound_as(&found.name_any());
    }

    fn bound_as(&self, name: &str) {
        self.in_force(|grant| GrantUid::of(grant).is_some_and(|uid| binding::name(&uid) == name));
    }

    /// A ClusterRole: whoever names it; and policies, when it is about what may be bound: that right stands in a ClusterRole too.
    pub fn cluster_role(&self, change: Change<ClusterRole>) {
        let Change::One(role) = change else { return self.all() };
        let named = RoleReference {
            kind: RoleKind::ClusterRole,
            name: role.name_any(),
        };
        let mut rules = role.rules.iter().flatten();
        let gives_bind = rules.any(|rule| {
            let everywhere = |resource: &String| resource == "clusterrolebindings" || resource == "*";
            rule.verbs.iter().any(|verb| verb == "bind" || verb == "*")
                || rule.resources.iter().flatten().any(everywhere)
        });
        let (desk, store) = &self.policies;
        desk.look_at_those(store, |policy| gives_bind || policy.spec.roles.contains(&named));
        self.role_named(&named);
    }

    /// A Role: whoever names it, in whatever namespace.
    pub fn role(&self, change: Change<Role>) {
        let Change::One(role) = change else { return self.all() };
        self.role_named(&RoleReference {
            kind: RoleKind::Role,
            name: role.name_any(),
        });
    }

    /// A namespace: what is asked for or granted in it.
    pub fn namespace(&self, change: Change<Namespace>) {
        let Change::One(namespace) = change else {
            return self.all();
        };
        let name = namespace.name_any();
        self.undecided(|request| asked(request).may_include(&name));
        self.in_force(|grant| grant.spec.targets.iter().any(|target| target.namespace == name));
    }

    fn role_named(&self, named: &RoleReference) {
        self.undecided(|request| request.spec.role == *named);
        self.in_force(|grant| grant.spec.role.kind == named.kind && grant.spec.role.name == named.name);
    }

    /// Undecided requests of one requester, where any policy limits how much one may have.
    fn waiting_of(&self, requester: &str) {
        if self.policies.1.state().iter().any(|policy| Others::matter(policy)) {
            self.undecided(|request| request.username() == Some(requester));
        }
    }

    /// Undecided requests of which this is true.
    fn undecided(&self, concerned: impl Fn(&AccessRequest) -> bool) {
        let (desk, store) = &self.requests;
        desk.look_at_those(store, |request| is_undecided(request) && concerned(request));
    }

    /// Grants in force of which this is true.
    fn in_force(&self, concerned: impl Fn(&AccessGrant) -> bool) {
        let (desk, store) = &self.grants;
        desk.look_at_those(store, |grant| !has_ended(grant) && concerned(grant));
    }

    /// Everything.
    pub fn all(&self) {
        let Self {
            requests,
            grants,
            policies,
            bindings,
            cluster_bindings,
            anchors,
            home: _,
        } = self;
        requests.0.look_at_all(&requests.1);
        grants.0.look_at_all(&grants.1);
        policies.0.look_at_all(&policies.1);
        bindings.0.look_at_all(&bindings.1);
        cluster_bindings.0.look_at_all(&cluster_bindings.1);
        anchors.0.look_at_all(&anchors.1);
    }
}

fn is_undecided(request: &AccessRequest) -> bool {
    request.status.as_ref().is_none_or(AccessRequestStatus::is_undecided)
}

/// Whether what changed is not there any more.
pub fn is_gone<K: Kind>(object: &K, store: &Store<K>) -> bool {
    store.get(&ObjectRef::from_obj(object)).is_none()
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc::UnboundedReceiver;
    use kube::runtime::reflector::store;
    use kube::runtime::watcher::Event;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::super::watch::desk;
    use super::*;
    use crate::core::fixture::{grant_observed, policy_spec};

    type Told<K> = UnboundedReceiver<ObjectRef<K>>;
    type Interrupted = (&'static str, fn(&Desks));

    /// A desk with one object, and what comes from it.
    fn one<K: Kind + DeserializeOwned>(others: &Value) -> ((Desk<K>, Store<K>), Told<K>) {
        let (store, mut writer) = store();
        let mut object = json!({"metadata": {"name": "one", "namespace": "team", "uid": "u"}});
        object
            .as_object_mut()
            .unwrap()
            .extend(others.as_object().cloned().unwrap());
        writer.apply_watcher_event(&Event::Apply(serde_json::from_value(object).unwrap()));
        let (desk, told) = desk();
        ((desk, store), told)
    }

    fn was_told<K: Kind>(told: &mut Told<K>) -> bool {
        std::iter::from_fn(|| told.try_recv().ok()).count() == 1
    }

    /// What comes from all desks.
    struct Heard {
        requests: Told<AccessRequest>,
        grants: Told<AccessGrant>,
        policies: Told<AccessPolicy>,
        bindings: Told<RoleBinding>,
        cluster_bindings: Told<ClusterRoleBinding>,
        anchors: Told<Job>,
    }

    /// All desks, with one object each; the request is undecided, and one policy limits how many a requester may have.
    fn desks() -> (Desks, Heard) {
        let role_ref = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"});
        let role = json!({"kind": "Role", "name": "reader"});
        let grant = serde_json::to_value(grant_observed().grant.spec).unwrap();
        let mut policy = serde_json::to_value(policy_spec()).unwrap();
        policy["limits"] = json!({"pendingPerRequester": 1});
        let requester = json!({"username": "alice"});
        let (requests, of_requests) = one(&json!({"spec": {"role": role, "requester": requester}}));
        let (grants, of_grants) = one(&json!({"spec": grant}));
        let (policies, of_policies) = one(&json!({"spec": policy}));
        let (bindings, of_bindings) = one(&json!({"roleRef": role_ref}));
        let (cluster_bindings, of_cluster_bindings) = one(&json!({"roleRef": role_ref}));
        let (anchors, of_anchors) = one(&json!({}));
        let heard = Heard {
            requests: of_requests,
            grants: of_grants,
            policies: of_policies,
            bindings: of_bindings,
            cluster_bindings: of_cluster_bindings,
            anchors: of_anchors,
        };
        let desks = Desks {
            requests,
            grants,
            policies,
            bindings,
            cluster_bindings,
            anchors,
            home: Home {
                namespace: "curfew-system".into(),
            },
        };
        (desks, heard)
    }

    /// While a watch was interrupted anything may have happened, of whatever kind.
    #[test]
    fn after_any_interruption_all_is_looked_at() {
        let (desks, mut heard) = desks();
        let interrupted: [Interrupted; 10] = [
            ("requests", |desks| desks.request(Change::All)),
            ("grants", |desks| desks.grant(Change::All)),
            ("policies", |desks| desks.policy(Change::All)),
            ("bindings", |desks| desks.binding(Change::All)),
            ("cluster bindings", |desks| desks.cluster_binding(Change::All)),
            ("cluster roles", |desks| desks.cluster_role(Change::All)),
            ("roles", |desks| desks.role(Change::All)),
            ("namespaces", |desks| desks.namespace(Change::All)),
            ("jobs", |desks| desks.job(Change::All)),
            ("services", |desks| desks.service(Change::All)),
        ];
        for (kind, is_interrupted) in interrupted {
            is_interrupted(&desks);
            let told = [
                was_told(&mut heard.requests),
                was_told(&mut heard.grants),
                was_told(&mut heard.policies),
                was_told(&mut heard.bindings),
                was_told(&mut heard.cluster_bindings),
                was_told(&mut heard.anchors),
            ];
            assert_eq!(told, [true; 6], "the watch of {kind}");
        }
    }

    #[test]
    fn a_policy_is_looked_at_when_a_cluster_role_comes_that_it_names_and_not_for_any_other() {
        let (desks, mut heard) = desks();
        for (name, is_named) in [("reader", true), ("writer", false)] {
            let role = json!({"metadata": {"name": name}, "rules": []});
            desks.cluster_role(Change::One(serde_json::from_value(role).unwrap()));
            assert_eq!(was_told(&mut heard.policies), is_named, "{name}");
        }
    }

    #[test]
    fn when_a_request_that_waits_is_deleted_another_of_its_requester_is_looked_at() {
        let (desks, mut heard) = desks();
        for (requester, is_looked_at) in [("alice", true), ("bob", false)] {
            let gone = json!({
                "metadata": {"name": "gone", "namespace": "team", "uid": "g"},
                "spec": {"role": {"kind": "Role", "name": "reader"}, "requester": {"username": requester}},
            });
            desks.request(Change::One(serde_json::from_value(gone).unwrap()));
            let looked_at: Vec<_> = std::iter::from_fn(|| heard.requests.try_recv().ok()).collect();
            let other = ObjectRef::new("one").within("team");
            assert_eq!(looked_at.contains(&other), is_looked_at, "{requester}: {looked_at:?}");
        }
    }
}
