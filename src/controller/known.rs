//! What the watches have shown, in the form that the core takes.
//!
//! What is known here is enough to see that there is nothing to do, and to carry out what was decided afresh when the request was sealed, once the grant
//! itself was read again. Before anything is granted or ended, whatever it rests on is read afresh and decided again; but for a request that isn't sealed
//! yet: all that is decided on it is written at the version that was decided on, so that a newer one is a conflict.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};

use super::watch::Shown;
use crate::api::{AccessGrant, AccessPolicy, AccessRequest, Place, RequestPhase, RoleKind, RoleReference};
use crate::cluster::anchor::Anchors;
use crate::cluster::bindings::in_one_form;
use crate::cluster::newest::Newest;
use crate::cluster::read;
use crate::core::binding;
use crate::core::extension;
use crate::core::facts::{Brake, Home, NamespaceFacts, RoleFacts};
use crate::core::grant::{self, GrantUid, TargetSeen};
use crate::core::guard::Standing;
use crate::core::limits::Others;
use crate::core::request;
use crate::core::request::targets::{self, Asked, asked};
use crate::observe::metrics::Stuck;

/// All stores, and what was written and isn't in them yet.
pub struct Known {
    pub requests: Store<AccessRequest>,
    pub grants: Store<AccessGrant>,
    pub policies: Store<AccessPolicy>,
    pub bindings: Store<RoleBinding>,
    pub cluster_bindings: Store<ClusterRoleBinding>,
    pub all_grants: Shown,
    /// Of both kinds.
    pub all_bindings: [Shown; 2],
    /// Of every watch.
    pub shown: Vec<Shown>,
    pub cluster_roles: Store<ClusterRole>,
    pub roles: Store<Role>,
    pub namespaces: Store<Namespace>,
    pub anchors: Anchors,
    pub written_requests: Newest<AccessRequest>,
    pub written_grants: Newest<AccessGrant>,
}

impl Known {
    /// Whether all that there is was shown: before that, what isn't known may be there all the same.
    pub fn is_whole(&self) -> bool {
        self.shown.iter().all(Shown::has_all)
    }

    /// The newest version known of the grant of that name.
    pub fn grant(&self, name: &str) -> Option<Arc<AccessGrant>> {
        self.grants
            .get(&ObjectRef::new(name))
            .map(|grant| self.written_grants.of(grant))
    }

    /// The newest version known of the grant of that uid, whatever it is called.
    pub fn grant_of(&self, uid: &GrantUid) -> Option<Arc<AccessGrant>> {
        let found = self.grants.find(|grant| GrantUid::of(grant).as_ref() == Some(uid))?;
        Some(self.written_grants.of(found))
    }

    /// Whether that grant is known not to be there.
    pub fn lacks(&self, name: &str, uid: &str) -> bool {
        self.all_grants.has_all() && self.grant(name).is_none_or(|known| known.uid().as_deref() != Some(uid))
    }

    /// The newest version known of the request of that name.
    pub fn request(&self, namespace: &str, name: &str) -> Option<Arc<AccessRequest>> {
        let found = self.requests.get(&ObjectRef::new(name).within(namespace));
        found.map(|request| self.written_requests.of(request))
    }

    /// All that is known about a request.
    pub fn about_request(
        &self,
        request: &AccessRequest,
        home: &Home,
        brake: Option<Brake>,
        guards: Standing,
    ) -> request::Observed {
        let asked = asked(request);
        let mut policies = self.policies.state();
        // A list that is read is in this order too.
        policies.sort_by_cached_key(|policy| policy.name_any());
        let has_ended = request
            .status
            .as_ref()
            .and_then(|status| status.phase)
            .is_some_and(RequestPhase::is_final);
        let is_limited = !has_ended && policies.iter().any(|policy| Others::matter(policy));
        request::Observed {
            request: request.clone(),
            others: if is_limited {
                self.others(request)
            } else {
                Others::default()
            },
            policies: policies.iter().map(|policy| policy.as_ref().clone()).collect(),
            extended: (request.spec.extends.as_ref())
                .and_then(|name| self.grant(name))
                .map(|grant| grant.as_ref().clone()),
            role: self.role(&request.spec.role, asked.first()),
            targets: self.targets(&asked, home),
            grant: self
                .grant(&grant::name(&request.uid().unwrap_or_default()))
                .map(|grant| grant.as_ref().clone()),
            left_behind: false,
            home: home.clone(),
            brake,
            guards,
        }
    }

    fn targets(&self, asked: &Asked, home: &Home) -> Vec<NamespaceFacts> {
        match asked {
            Asked::Cluster => vec![],
            Asked::Named(names) => names.iter().filter_map(|name| self.namespace(name)).collect(),
            Asked::OfPolicy(name) => {
                let policy = self.policies.get(&ObjectRef::new(name));
                let all = self.namespaces.state().into_iter();
                let all = all.map(|namespace| read::facts_of_namespace(namespace.as_ref().clone()));
                policy.map_or_else(Vec::new, |policy| targets::of_policy(&policy.spec, home, all))
            }
        }
    }

    /// What else the requester of a request has.
    fn others(&self, request: &AccessRequest) -> Others {
        let requester = request.username();
        let requests = self
            .requests
            .state_filter(|other| other.username() == requester)
            .into_iter();
        let requests: Vec<_> = requests.map(|other| self.written_requests.of(other)).collect();
        let grants = self
            .grants
            .state_filter(|grant| Some(grant.spec.requester.username.as_str()) == requester);
        let grants: Vec<_> = grants.into_iter().map(|grant| self.written_grants.of(grant)).collect();
        Others::of(
            request,
            requests.iter().map(Arc::as_ref),
            grants.iter().map(Arc::as_ref),
        )
    }

    /// All that is known about a grant.
    pub fn about_grant(&self, grant: &AccessGrant) -> grant::Observed {
        let reference = &grant.spec.request;
        let seen = grant.spec.places().into_iter().map(|place| TargetSeen {
            namespace: place.namespace().and_then(|namespace| self.namespace(namespace)),
            binding: self.binding(grant, &place),
        });
        grant::Observed {
            grant: grant.clone(),
            request: self
                .request(&reference.namespace, &reference.name)
                .map(|request| request.as_ref().clone()),
            role: self.role(&grant.spec.role.reference(), grant.spec.role_namespace()),
            policy: self
                .policies
                .get(&ObjectRef::new(&grant.spec.policy.name))
                .map(|policy| policy.as_ref().clone()),
            targets: seen.collect(),
            anchor: (grant.spec.anchor.as_ref())
                .map(|anchor| self.anchors.seen(&anchor.name))
                .unwrap_or_default(),
            successor: self.successor(grant),
        }
    }

    /// The grant that has taken over from this one.
    fn successor(&self, grant: &AccessGrant) -> Option<AccessGrant> {
        // Few extend anything, and what they extend never changes: only of those it matters whether something newer is known.
        let grants = self.grants.state().into_iter();
        let mut extending = grants.filter(|other| extension::extends(other, grant));
        let successor = extending.find_map(|other| {
            let newest = self.written_grants.of(other);
            extension::has_taken_over(&newest, grant).then_some(newest)
        })?;
        Some(successor.as_ref().clone())
    }

    /// What has the name of the grant's binding there.
    pub fn binding(&self, grant: &AccessGrant, place: &Place) -> Option<RoleBinding> {
        let name = binding::name(&GrantUid::of(grant)?);
        self.binding_named(place.namespace(), &name)
    }

    /// What has that name there.
    pub fn binding_named(&self, namespace: Option<&str>, name: &str) -> Option<RoleBinding> {
        match namespace {
            Some(namespace) => {
                let found = self.bindings.get(&ObjectRef::new(name).within(namespace))?;
                Some(found.as_ref().clone())
            }
            None => {
                let found = self.cluster_bindings.get(&ObjectRef::new(name))?;
                Some(in_one_form(&found))
            }
        }
    }

    /// Whether this binding is still there.
    pub fn is_there(&self, binding: &RoleBinding) -> bool {
        let found = self.binding_named(binding.namespace().as_deref(), &binding.name_any());
        found.is_some_and(|found| found.uid() == binding.uid())
    }

    /// Whether what is overdue is there at all.
    pub fn has(&self, stuck: &Stuck) -> bool {
        match stuck {
            Stuck::Grant(name) => self.grants.get(&ObjectRef::new(name)).is_some(),
            Stuck::Binding { namespace, name } => self.binding_named(namespace.as_deref(), name).is_some(),
        }
    }

    /// Whether any grant that hasn't ended hangs on the anchor of that name.
    pub fn hangs_on(&self, anchor: &str) -> bool {
        let on_it = |grant: &AccessGrant| {
            (grant.spec.anchor.as_ref()).is_some_and(|hung| hung.name == anchor) && !grant::has_ended(grant)
        };
        self.grants.state().iter().any(|grant| on_it(grant))
    }

    /// The uids of what is to be gone and isn't, as far as is known: grants, and bindings that no grant explains.
    pub fn overdue(&self, now: DateTime<Utc>) -> Vec<String> {
        let grants = self.grants.state().into_iter().filter(|grant| {
            let grant = self.written_grants.of(Arc::clone(grant));
            !grant::has_ended(&grant) && grant::due(&grant, now).is_some()
        });
        let cluster_wide = self.cluster_bindings.state().into_iter();
        let cluster_wide = cluster_wide.map(|found| Arc::new(in_one_form(&found)));
        let bindings = self.bindings.state().into_iter().chain(cluster_wide).filter(|found| {
            binding::marked(found).is_some()
                && binding::sweep(self.explaining(found).as_deref(), found, now) == binding::Sweep::Remove
        });
        let uids = grants.map(|grant| grant.uid());
        uids.chain(bindings.map(|binding| binding.uid())).flatten().collect()
    }

    /// The grant whose binding this is, by the marks on it.
    pub fn explaining(&self, found: &RoleBinding) -> Option<Arc<AccessGrant>> {
        let uid = binding::marked(found);
        binding::grant_name(found)
            .and_then(|grant| self.grant(&grant))
            .filter(|known| GrantUid::of(known) == uid)
    }

    fn role(&self, reference: &RoleReference, namespace: &str) -> Option<RoleFacts> {
        match reference.kind {
            RoleKind::ClusterRole => self
                .cluster_roles
                .get(&ObjectRef::new(&reference.name))
                .map(|role| read::facts_of_cluster_role(role.as_ref().clone())),
            RoleKind::Role => self
                .roles
                .get(&ObjectRef::new(&reference.name).within(namespace))
                .map(|role| read::facts_of_role(role.as_ref().clone())),
        }
    }

    fn namespace(&self, name: &str) -> Option<NamespaceFacts> {
        self.namespaces
            .get(&ObjectRef::new(name))
            .map(|namespace| read::facts_of_namespace(namespace.as_ref().clone()))
    }
}
