//! All that is watched, opened as one: what it shows is known to everybody, and its changes go to the desks.

use std::sync::Arc;

use futures::FutureExt;
use futures::channel::mpsc::UnboundedReceiver;
use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};

use super::Context;
use super::known::Known;
use super::trigger::{Desks, is_gone};
use super::watch::{Change, Kind, Shown, Watch, desk};
use crate::api::{AccessGrant, AccessPolicy, AccessRequest, marks};
use crate::cluster::anchor::Anchors;
use crate::cluster::newest::Newest;
use crate::cluster::watching::all;
use crate::core::facts::Home;
use crate::observe::health::Health;

/// One watch for each kind.
pub struct Watches {
    pub requests: Watch<AccessRequest>,
    pub grants: Watch<AccessGrant>,
    pub policies: Watch<AccessPolicy>,
    pub bindings: Watch<RoleBinding>,
    pub cluster_bindings: Watch<ClusterRoleBinding>,
    pub cluster_roles: Watch<ClusterRole>,
    pub roles: Watch<Role>,
    pub namespaces: Watch<Namespace>,
    pub jobs: Watch<Job>,
    pub services: Watch<Service>,
}

/// What the controllers are to look at.
pub struct Queues {
    pub requests: UnboundedReceiver<ObjectRef<AccessRequest>>,
    pub grants: UnboundedReceiver<ObjectRef<AccessGrant>>,
    pub policies: UnboundedReceiver<ObjectRef<AccessPolicy>>,
    pub bindings: UnboundedReceiver<ObjectRef<RoleBinding>>,
    pub cluster_bindings: UnboundedReceiver<ObjectRef<ClusterRoleBinding>>,
    pub anchors: UnboundedReceiver<ObjectRef<Job>>,
}

impl Watches {
    /// Opens all of them.
    pub fn open(client: &Client, home: &Home) -> Self {
        // Anchors are few, and all in one namespace.
        let of_anchors = || all().labels(marks::ANCHOR);
        let jobs = Api::<Job>::namespaced(client.clone(), &home.namespace);
        let services = Api::<Service>::namespaced(client.clone(), &home.namespace);
        Self {
            requests: Watch::open(Api::all(client.clone()), all()),
            grants: Watch::open(Api::all(client.clone()), all()),
            policies: Watch::open(Api::all(client.clone()), all()),
            bindings: Watch::open(Api::all(client.clone()), all().labels(marks::GRANT_UID)),
            cluster_bindings: Watch::open(Api::all(client.clone()), all().labels(marks::GRANT_UID)),
            cluster_roles: Watch::open(Api::all(client.clone()), all()),
            roles: Watch::open(Api::all(client.clone()), all()),
            namespaces: Watch::open(Api::all(client.clone()), all()),
            jobs: Watch::open(jobs, of_anchors()),
            services: Watch::open(services, of_anchors()),
        }
    }

    /// The desks, and what comes from them.
    pub fn desks(&self, home: Home) -> (Arc<Desks>, Queues) {
        let (to_requests, requests) = desk();
        let (to_grants, grants) = desk();
        let (to_policies, policies) = desk();
        let (to_bindings, bindings) = desk();
        let (to_cluster_bindings, cluster_bindings) = desk();
        let (to_anchors, anchors) = desk();
        let desks = Desks {
            requests: (to_requests, self.requests.store.clone()),
            grants: (to_grants, self.grants.store.clone()),
            policies: (to_policies, self.policies.store.clone()),
            bindings: (to_bindings, self.bindings.store.clone()),
            cluster_bindings: (to_cluster_bindings, self.cluster_bindings.store.clone()),
            anchors: (to_anchors, self.jobs.store.clone()),
            home,
        };
        let queues = Queues {
            requests,
            grants,
            policies,
            bindings,
            cluster_bindings,
            anchors,
        };
        (Arc::new(desks), queues)
    }

    /// What they have shown.
    pub fn known(&self, client: &Client, home: &Home) -> Known {
        Known {
            anchors: Anchors::new(
                client.clone(),
                home.namespace.clone(),
                self.jobs.store.clone(),
                self.services.store.clone(),
            ),
            requests: self.requests.store.clone(),
            grants: self.grants.store.clone(),
            policies: self.policies.store.clone(),
            bindings: self.bindings.store.clone(),
            cluster_bindings: self.cluster_bindings.store.clone(),
            all_grants: self.grants.shown.clone(),
            all_bindings: [self.bindings.shown.clone(), self.cluster_bindings.shown.clone()],
            shown: self.shown(),
            cluster_roles: self.cluster_roles.store.clone(),
            roles: self.roles.store.clone(),
            namespaces: self.namespaces.store.clone(),
            written_requests: Newest::default(),
            written_grants: Newest::default(),
        }
    }

    fn shown(&self) -> Vec<Shown> {
        let of_ours = [&self.requests.shown, &self.grants.shown, &self.policies.shown];
        let of_bindings = [&self.bindings.shown, &self.cluster_bindings.shown];
        let of_others = [
            &self.cluster_roles.shown,
            &self.roles.shown,
            &self.namespaces.shown,
            &self.jobs.shown,
            &self.services.shown,
        ];
        let all = of_ours.into_iter().chain(of_bindings).chain(of_others);
        all.cloned().collect()
    }

    /// Tells the desks of every change. None of these ends by itself.
    pub fn told(
        self,
        desks: &Arc<Desks>,
        health: &Arc<Health>,
        context: &Arc<Context>,
    ) -> Vec<BoxFuture<'static, &'static str>> {
        let [of_grants, of_bindings, of_cluster_wide, of_anchors] = std::array::from_fn(|_| Arc::clone(context));
        let anchors = self.jobs.store.clone();
        vec![
            told(self.requests, desks, health, Desks::request),
            told(self.grants, desks, health, move |desks, change| {
                if may_take_away(&change, &desks.grants.1) {
                    of_grants.forgets_what_is_gone();
                }
                desks.grant(change);
            }),
            told(self.policies, desks, health, Desks::policy),
            told(self.bindings, desks, health, move |desks, change| {
                if may_take_away(&change, &desks.bindings.1) {
                    of_bindings.forgets_what_is_gone();
                }
                desks.binding(change);
            }),
            told(self.cluster_bindings, desks, health, move |desks, change| {
                if may_take_away(&change, &desks.cluster_bindings.1) {
                    of_cluster_wide.forgets_what_is_gone();
                }
                desks.cluster_binding(change);
            }),
            told(self.cluster_roles, desks, health, Desks::cluster_role),
            told(self.roles, desks, health, Desks::role),
            told(self.namespaces, desks, health, Desks::namespace),
            told(self.jobs, desks, health, move |desks, change| {
                of_anchors.metrics.anchors(anchors.len());
                desks.job(change);
            }),
            told(self.services, desks, health, Desks::service),
        ]
    }
}

fn may_take_away<K: Kind>(change: &Change<K>, store: &Store<K>) -> bool {
    match change {
        Change::One(object) => is_gone(object, store),
        Change::All => true,
    }
}

/// A watch whose changes go to the desks. The operator is ready when all watches have shown what there is.
fn told<K: Kind>(
    watch: Watch<K>,
    desks: &Arc<Desks>,
    health: &Arc<Health>,
    look: impl Fn(&Desks, Change<K>) + Send + 'static,
) -> BoxFuture<'static, &'static str> {
    let (desks, seen) = (Arc::clone(desks), health.expects(K::kind(&()).into_owned()));
    watch
        .tell(move |change| {
            if matches!(change, Change::All) {
                seen();
            }
            look(&desks, change);
        })
        .boxed()
}
