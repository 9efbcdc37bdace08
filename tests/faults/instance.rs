//! One instance of a scenario: a namespace, a policy, a role and requests of its own, bystanders, and what admins do. What is done with a request is in
//! `asked.rs`.
//!
//! People try again what was refused, for a while. They never look at anything but the API.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use curfew::api::{AccessGrant, AccessPolicy};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::asked::Asked;
use crate::call::{Names, SECOND};
use crate::history::{History, Pages, living};
use crate::scenarios::{End, Lasts, Scenario, Terms};
use crate::world::World;

/// So long anything may take that is bound to happen, faults included.
pub const LIMIT: Duration = Duration::from_secs(180);
/// So long people wait before they try again.
const PAUSE: Duration = Duration::from_millis(300);

/// One instance.
pub struct Instance {
    /// Its name: also that of its namespace and of its policy.
    pub id: String,
    pub terms: Terms,
    pub role: String,
    /// How long its access lasts.
    pub lasts: Duration,
    admin: Client,
    /// The user name of alice, who is another in each instance.
    pub requester: String,
    pub alice: Client,
    pub bob: Client,
    pub carol: Client,
    operators_namespace: String,
    pub history: History,
}

/// What is nobody's business: how it was, for looking again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bystanders(Vec<(String, Option<String>, Option<String>)>);

impl Instance {
    /// In this place of those that are used at the same time.
    pub fn new(world: &World, scenario: &Scenario, number: usize, place: usize) -> Self {
        let terms = scenario.terms;
        let (id, requester) = (format!("fault-{number}"), format!("alice-{number}"));
        Self {
            id,
            terms,
            role: format!("reader-{place}"),
            lasts: Duration::from_secs(match terms.lasts {
                Lasts::Seconds(seconds) => seconds,
                Lasts::Long => 3600,
                // Minutes apart, and far from the others.
                Lasts::LongAlone => 7200 + 240 * u64::try_from(number).unwrap(),
            }),
            admin: world.admin.clone(),
            alice: world.requester(&requester),
            requester,
            bob: world.bob.clone(),
            carol: world.carol.clone(),
            operators_namespace: world.namespace.clone(),
            history: world.history.clone(),
        }
    }

    /// By what the proxy knows its calls.
    pub fn names(&self) -> Names {
        Names {
            instance: self.id.clone(),
            role: self.role.clone(),
            alone_for: (self.terms.lasts == Lasts::LongAlone).then_some(self.lasts),
        }
    }

    /// Where access is asked for.
    pub fn namespaces(&self) -> Vec<String> {
        let second = self.terms.in_two.then(|| format!("{}{SECOND}", self.id));
        std::iter::once(self.id.clone()).chain(second).collect()
    }

    // ---- what there is before anybody asks ----

    /// Namespace, role and bystanders.
    pub async fn furnish(&self) {
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        let rbac =
            |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        let labels = json!({"app.kubernetes.io/managed-by": "somebody-else"});
        for namespace in self.namespaces() {
            let namespaces = Api::<Namespace>::all(self.admin.clone());
            made(&namespaces, json!({"metadata": {"name": namespace}})).await;
        }
        if self.terms.role == "Role" {
            made(
                &self.here::<Role>(&self.admin),
                json!({"metadata": {"name": self.role}, "rules": rules}),
            )
            .await;
        } else {
            let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": self.role}, "rules": rules});
            let roles = Api::<ClusterRole>::all(self.admin.clone());
            roles
                .patch(&self.role, &PatchParams::apply("sweep").force(), &Patch::Apply(&role))
                .await
                .unwrap();
        }
        made(&self.here::<RoleBinding>(&self.admin), json!({
            "metadata": {"name": "bystander", "labels": labels}, "roleRef": rbac("ClusterRole", "view"), "subjects": [rbac("User", "somebody-else")],
        }))
        .await;
        // Left to a controller that isn't there: kube-controller-manager doesn't touch it either.
        made(&self.here::<Job>(&self.admin), json!({
            "metadata": {"name": "bystander", "labels": labels},
            "spec": {"parallelism": 0, "managedBy": "example.com/nobody", "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}}},
        }))
        .await;
        made(&self.here::<Service>(&self.admin), json!({
            "metadata": {"name": "bystander", "labels": labels}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]},
        }))
        .await;
    }

    /// The bystanders as they are now.
    pub async fn bystanders(&self) -> Bystanders {
        let (binding, job, service) = (
            self.here::<RoleBinding>(&self.admin),
            self.here::<Job>(&self.admin),
            self.here::<Service>(&self.admin),
        );
        Bystanders(vec![as_is(&binding).await, as_is(&job).await, as_is(&service).await])
    }

    /// The bystanders as they are now; `before`, if they went with their namespace.
    pub async fn bystanders_since(&self, before: &Bystanders) -> Bystanders {
        let namespace = Api::<Namespace>::all(self.admin.clone())
            .get_opt(&self.id)
            .await
            .unwrap();
        match namespace {
            Some(namespace) if namespace.metadata.deletion_timestamp.is_none() => self.bystanders().await,
            _ => before.clone(),
        }
    }

    /// A policy under which alice may ask, of which the operator has said whether it can be used.
    pub async fn has_policy(&self) {
        let mut spec = json!({
            "requesters": {"users": [self.requester]}, "roles": [{"kind": self.terms.role, "name": self.role}], "namespaces": {"names": self.namespaces()},
            "maxDuration": "8000h", "approval": {"stages": [{"name": "lead", "approvers": {"users": ["bob", "carol"]}, "required": self.terms.approvals}]},
        });
        for (field, value) in (self.terms.policy)().as_object().unwrap() {
            spec[field] = value.clone();
        }
        let policies = Api::<AccessPolicy>::all(self.admin.clone());
        made(&policies, json!({"metadata": {"name": self.id}, "spec": spec})).await;
        let looked_at = |policy: Option<&AccessPolicy>| policy.is_some_and(|policy| policy.status.is_some());
        let waited = tokio::time::timeout(LIMIT, await_condition(policies, &self.id, looked_at)).await;
        assert!(
            waited.is_ok_and(|seen| seen.is_ok()),
            "{}: nobody looks at the policy",
            self.id
        );
    }

    /// What is no longer needed and would only be in the way. There may be only so many anchors, and an operator that is killed again and again
    /// never finds one to be idle for long enough.
    pub async fn clear(&self) {
        let policies = Api::<AccessPolicy>::all(self.admin.clone());
        let _ = policies.delete(&self.id, &DeleteParams::default()).await;
        if self.terms.lasts == Lasts::LongAlone {
            let jobs = self.jobs();
            for anchor in self.anchors() {
                let _ = jobs.delete(&anchor, &DeleteParams::background()).await;
            }
        }
    }

    // ---- what people do ----

    /// The request that there is in every scenario.
    pub fn first(&self) -> Asked<'_> {
        Asked {
            instance: self,
            name: "access",
        }
    }

    /// The request that there is in some, besides.
    pub fn second(&self) -> Asked<'_> {
        Asked {
            instance: self,
            name: "another",
        }
    }

    /// An admin deletes the grant. The history has it too.
    pub async fn deletes_grant(&self) {
        let grants = Api::<AccessGrant>::all(self.admin.clone());
        for grant in self.history.look(|pages| names(living(&pages.grants, &self.id))) {
            self.deleted(&grants, &grant).await;
        }
        self.awaits("its grant goes", |pages| living(&pages.grants, &self.id).is_empty())
            .await;
    }

    /// Waits until nothing is left of request and grant, or the request has ended without one.
    pub async fn is_removed(&self) {
        self.awaits("its removal", |pages| {
            let was = pages.requests.contains_key(&self.id) && pages.grants.contains_key(&self.id);
            let left = living(&pages.requests, &self.id).len() + living(&pages.grants, &self.id).len();
            was && left == 0
        })
        .await;
    }

    /// An admin deletes the binding, or one of them.
    pub async fn deletes_binding(&self) {
        let managed = |pages: &mut Pages| {
            let mut living = living(&pages.bindings, &self.id).into_iter();
            let managed = living.find(|binding| is_managed(&binding.object));
            managed.map(|binding| {
                (
                    binding.object.namespace().unwrap_or_default(),
                    binding.object.name_any(),
                )
            })
        };
        if let Some((namespace, name)) = self.history.look(managed) {
            let bindings = Api::<RoleBinding>::namespaced(self.admin.clone(), &namespace);
            self.deleted(&bindings, &name).await;
        }
    }

    /// The role gets a rule more.
    pub async fn grows_role(&self) {
        let rules = json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "delete"]}]});
        let roles = self.here::<Role>(&self.admin);
        let cluster_roles = Api::<ClusterRole>::all(self.admin.clone());
        let (as_admin, more) = (PatchParams::default(), Patch::Merge(&rules));
        self.insists("grows", async || match self.terms.role {
            "Role" => roles.patch(&self.role, &as_admin, &more).await.map(drop),
            _ => cluster_roles.patch(&self.role, &as_admin, &more).await.map(drop),
        })
        .await;
    }

    /// The policy allows less.
    pub async fn changes_policy(&self) {
        let less = json!({"spec": {"maxDuration": "2h"}});
        let policies = Api::<AccessPolicy>::all(self.admin.clone());
        self.insists("changes", async || {
            policies
                .patch(&self.id, &PatchParams::default(), &Patch::Merge(&less))
                .await
        })
        .await;
    }

    /// An admin deletes the namespace in which everything is, and nothing holds it.
    pub async fn deletes_namespace(&self) {
        let namespaces = Api::<Namespace>::all(self.admin.clone());
        self.deleted(&namespaces, &self.id).await;
        let gone = |namespace: Option<&Namespace>| namespace.is_none();
        let waited = tokio::time::timeout(LIMIT, await_condition(namespaces, &self.id, gone)).await;
        assert!(
            waited.is_ok_and(|seen| seen.is_ok()),
            "{}: its namespace doesn't go",
            self.id
        );
        self.awaits("its request goes", |pages| living(&pages.requests, &self.id).is_empty())
            .await;
    }

    /// An admin deletes the Job of the grant's anchor.
    pub async fn deletes_anchor(&self) {
        let jobs = self.jobs();
        for anchor in self.anchors() {
            self.deleted(&jobs, &anchor).await;
        }
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.admin.clone(), &self.operators_namespace)
    }

    /// The names of all anchors that its grants have hung on.
    fn anchors(&self) -> BTreeSet<String> {
        self.history.look(|pages| {
            let grants = pages.grants.get(&self.id).into_iter().flatten();
            let anchors = grants.filter_map(|grant| grant.object.spec.anchor.as_ref());
            anchors.map(|anchor| anchor.name.clone()).collect()
        })
    }

    pub async fn deleted<K>(&self, api: &Api<K>, name: &str)
    where
        K: Clone + Debug + DeserializeOwned,
    {
        self.insists("deletes", async || {
            match api.delete(name, &DeleteParams::background()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                deleted => deleted.map(drop),
            }
        })
        .await;
    }

    pub async fn insists<T>(&self, what: &str, mut does: impl AsyncFnMut() -> kube::Result<T>) {
        let trying = async {
            loop {
                match does().await {
                    Ok(_) => return,
                    Err(error) => drop(error),
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        if tokio::time::timeout(LIMIT, trying).await.is_err() {
            panic!(
                "{}: not within {LIMIT:?}: {what}: {:?}",
                self.id,
                does().await.map(drop)
            );
        }
    }

    // ---- what is seen ----

    pub async fn awaits(&self, what: &str, holds: impl Fn(&Pages) -> bool) {
        let waited = self.history.until(LIMIT, |pages| holds(pages).then_some(())).await;
        assert!(waited.is_some(), "{}: not within {LIMIT:?}: {what}", self.id);
    }

    /// Waits until all is over: each request final or gone, no grant under way, no binding. How each ended then.
    pub async fn settled(&self) -> Result<Vec<End>, String> {
        match self.history.until(LIMIT, |pages| self.ended(pages)).await {
            Some(ends) => Ok(ends),
            None => Err(self.history.look(|pages| {
                let grants = living(&pages.grants, &self.id).into_iter();
                let grants: Vec<_> = grants.map(|grant| grant.object.status.clone()).collect();
                let bindings = names(living(&pages.bindings, &self.id));
                let requests = living(&pages.requests, &self.id).into_iter();
                let requests: Vec<_> = requests.map(|request| request.object.status.clone()).collect();
                format!("not settled within {LIMIT:?}: bindings {bindings:?}, grants {grants:?}, requests {requests:?}")
            })),
        }
    }

    /// How each of its requests has ended, if all have.
    pub fn ended_now(&self, world: &World) -> Option<Vec<End>> {
        world.history.look(|pages| self.ended(pages))
    }

    fn ended(&self, pages: &Pages) -> Option<Vec<End>> {
        let mut bindings = living(&pages.bindings, &self.id).into_iter();
        if bindings.any(|binding| is_managed(&binding.object)) {
            return None;
        }
        let was_made = |asked: &Asked<'_>| {
            let requests = pages.requests.get(&self.id).into_iter().flatten();
            requests
                .into_iter()
                .any(|request| request.object.name_any() == asked.name)
        };
        let asked: Vec<_> = [self.first(), self.second()].into_iter().filter(was_made).collect();
        (!asked.is_empty()).then_some(())?;
        asked.into_iter().map(|asked| asked.ended(pages)).collect()
    }

    pub fn here<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(client.clone(), &self.id)
    }
}

/// Whether a binding is one of Curfew's, by its name.
pub fn is_managed(binding: &RoleBinding) -> bool {
    binding.name_any().starts_with("curfew-")
}

fn names<K: Resource>(versions: Vec<&crate::history::Version<K>>) -> Vec<String> {
    versions.into_iter().map(|version| version.object.name_any()).collect()
}

/// Makes an object.
pub async fn made<K>(api: &Api<K>, object: Value)
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

async fn as_is<K>(api: &Api<K>) -> (String, Option<String>, Option<String>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let found = api.get_opt("bystander").await.unwrap();
    let metadata = found.map(|found| found.meta().clone()).unwrap_or_default();
    (K::kind(&()).into_owned(), metadata.uid, metadata.resource_version)
}
