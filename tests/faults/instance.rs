//! One instance of a scenario: a namespace, a policy, a role and a request of its own, bystanders, and what people do.
//!
//! People try again what was refused, for a while. They never look at anything but the API.

use std::fmt::Debug;
use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta};
use curfew::api::{AccessGrant, AccessPolicy, AccessRequest, GrantPhase, RequestPhase, condition};
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

use crate::call::{Names, SECOND};
use crate::history::{History, Pages, living, now};
use crate::scenarios::{End, Fate, Lasts, Scenario, Terms};
use crate::world::World;

/// So long anything may take that is bound to happen, faults included.
pub const LIMIT: Duration = Duration::from_secs(60);
/// So long people wait before they try again.
const PAUSE: Duration = Duration::from_millis(300);

/// One instance.
pub struct Instance {
    /// Its name: also that of its namespace and of its policy.
    pub id: String,
    pub terms: Terms,
    role: String,
    lasts: Duration,
    admin: Client,
    alice: Client,
    bob: Client,
    carol: Client,
    anchors: String,
    history: History,
}

/// What is nobody's business: how it was, for looking again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bystanders(Vec<(String, Option<String>, Option<String>)>);

impl Instance {
    /// In this place of those that are used at the same time.
    pub fn new(world: &World, scenario: &Scenario, number: usize, place: usize) -> Self {
        let terms = scenario.terms;
        Self {
            id: format!("fault-{number}"),
            terms,
            role: format!("reader-{place}"),
            lasts: Duration::from_secs(match terms.lasts {
                Lasts::Seconds(seconds) => seconds,
                Lasts::Long => 3600,
                // Minutes apart, and far from the others.
                Lasts::LongAlone => 7200 + 240 * u64::try_from(number).unwrap(),
            }),
            admin: world.admin.clone(),
            alice: world.alice.clone(),
            bob: world.bob.clone(),
            carol: world.carol.clone(),
            anchors: world.namespace.clone(),
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

    /// How long its access lasts.
    pub fn lasts(&self) -> Duration {
        self.lasts
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
            "requesters": {"users": ["alice"]}, "roles": [{"kind": self.terms.role, "name": self.role}], "namespaces": {"names": self.namespaces()},
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

    /// What is no longer needed and would only be in the way.
    pub async fn clear(&self) {
        let policies = Api::<AccessPolicy>::all(self.admin.clone());
        let _ = policies.delete(&self.id, &DeleteParams::default()).await;
    }

    // ---- what people do ----

    /// Alice asks, and there is an offer.
    pub async fn asks(&self) {
        // A number in a duration has five digits at most.
        let duration = match self.lasts.as_secs() {
            seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
            seconds => format!("{seconds}s"),
        };
        let mut spec =
            json!({"role": {"kind": self.terms.role, "name": self.role}, "duration": duration, "reason": "the sweep"});
        if self.terms.names_policy {
            spec["policy"] = json!(self.id);
        }
        if self.terms.in_two {
            spec["namespaces"] = json!(self.namespaces());
        }
        if self.terms.cluster_wide {
            spec["clusterWide"] = json!(true);
        }
        if let Some(seconds) = self.terms.begins {
            spec["startTime"] = json!((now() + TimeDelta::seconds(seconds)).to_rfc3339_opts(SecondsFormat::Secs, true));
        }
        made(
            &self.here::<AccessRequest>(&self.alice),
            json!({"metadata": {"name": "access"}, "spec": spec}),
        )
        .await;
        self.sees("an offer", |request| {
            request.status.as_ref().is_some_and(|status| status.offer.is_some())
        })
        .await;
    }

    /// As many as are needed approve, each offer anew, until it is granted or has ended.
    pub async fn is_approved(&self) {
        let mut approved: Option<String> = None;
        loop {
            let request = self
                .sees("a decision, or another offer", |request| {
                    is_decided(request) || offer(request).is_some_and(|offer| Some(&offer) != approved.as_ref())
                })
                .await;
            if is_decided(&request) {
                return;
            }
            for client in [&self.bob, &self.carol].into_iter().take(self.terms.approvals) {
                self.says(client, "approve").await;
            }
            approved = offer(&request);
        }
    }

    /// Alice asks, and has access.
    pub async fn gets_access(&self) {
        self.asks().await;
        self.is_approved().await;
        self.is_active().await;
    }

    /// Waits until there is a grant, or the request has ended otherwise.
    pub async fn has_a_grant(&self) {
        self.awaits("a grant", |pages| {
            let living = living(&pages.requests, &self.id);
            let is_over = living.first().is_some_and(|request| is_decided(&request.object));
            is_over || pages.grants.contains_key(&self.id)
        })
        .await;
    }

    /// Waits until the request is Active, or has ended otherwise.
    async fn is_active(&self) {
        self.sees("access", |request| {
            phase(request).is_some_and(|phase| phase == RequestPhase::Active || phase.is_final())
        })
        .await;
    }

    /// Carol decides.
    pub async fn approver_says(&self, word: &str) {
        self.says(&self.carol, word).await;
    }

    /// Alice decides.
    pub async fn requester_says(&self, word: &str) {
        self.says(&self.alice, word).await;
    }

    /// Carol looks at access that nobody approved, once it has ended, and its grant says so. Only where nothing was ever bound there may be nothing to look at.
    pub async fn is_reviewed(&self) {
        self.sees("an end", is_over).await;
        self.says(&self.carol, "review").await;
        self.awaits("its review", |pages| {
            let bindings = pages.bindings.get(&self.id).into_iter().flatten();
            let was_bound = bindings.into_iter().any(|binding| is_managed(&binding.object));
            let mut grants = living(&pages.grants, &self.id).into_iter();
            grants.all(|grant| has_review(&grant.object) == Some(true) || !was_bound)
        })
        .await;
    }

    async fn says(&self, client: &Client, word: &str) {
        let patch = json!({"metadata": {"annotations": {"curfew.dev/decision": word}}});
        let requests = self.here::<AccessRequest>(client);
        self.insists(word, async || {
            let is_said_in_vain = match word {
                "review" => self.history.look(|pages| {
                    let mut grants = living(&pages.grants, &self.id).into_iter();
                    !grants.any(|grant| has_review(&grant.object) == Some(false))
                }),
                _ => self.now().is_none_or(|request| is_over(&request)),
            };
            if is_said_in_vain {
                return Ok(());
            }
            let said = requests
                .patch("access", &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            match said {
                // Said twice, because the offer changed and changed back; or granted in between.
                Err(error) if word == "approve" && self.was_said_before(&error) => Ok(()),
                said => said.map(drop),
            }
        })
        .await;
    }

    fn was_said_before(&self, error: &kube::Error) -> bool {
        self.now().is_some_and(|request| is_decided(&request)) || error.to_string().contains("already")
    }

    /// Alice deletes her request. The history has it too, so that what is seen from here on comes after it.
    pub async fn deletes_request(&self) {
        self.deleted(&self.here::<AccessRequest>(&self.alice), "access").await;
        self.awaits("its request goes", |pages| living(&pages.requests, &self.id).is_empty())
            .await;
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
        self.insists("grows", async || {
            roles
                .patch(&self.role, &PatchParams::default(), &Patch::Merge(&rules))
                .await
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
        let jobs = Api::<Job>::namespaced(self.admin.clone(), &self.anchors);
        let grants: Vec<AccessGrant> = self.history.look(|pages| {
            living(&pages.grants, &self.id)
                .into_iter()
                .map(|grant| grant.object.clone())
                .collect()
        });
        for anchor in grants.into_iter().filter_map(|grant| grant.spec.anchor) {
            self.deleted(&jobs, &anchor.name).await;
        }
    }

    async fn deleted<K>(&self, api: &Api<K>, name: &str)
    where
        K: Clone + Debug + DeserializeOwned,
    {
        self.insists("deletes", async || {
            match api.delete(name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                deleted => deleted.map(drop),
            }
        })
        .await;
    }

    async fn insists<T>(&self, what: &str, mut does: impl AsyncFnMut() -> kube::Result<T>) {
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

    fn now(&self) -> Option<AccessRequest> {
        self.history.look(|pages| {
            living(&pages.requests, &self.id)
                .first()
                .map(|version| version.object.clone())
        })
    }

    async fn awaits(&self, what: &str, holds: impl Fn(&Pages) -> bool) {
        let waited = self.history.until(LIMIT, |pages| holds(pages).then_some(())).await;
        assert!(waited.is_some(), "{}: not within {LIMIT:?}: {what}", self.id);
    }

    async fn sees(&self, what: &str, holds: impl Fn(&AccessRequest) -> bool) -> AccessRequest {
        let found = |pages: &Pages| {
            let living = living(&pages.requests, &self.id);
            let request = living.first().map(|version| version.object.clone());
            request.filter(|request| holds(request))
        };
        match self.history.until(LIMIT, found).await {
            Some(request) => request,
            None => panic!("{}: not within {LIMIT:?}: {what}; it is {:#?}", self.id, self.now()),
        }
    }

    /// Waits until all is over: the request final or gone, no grant under way, no binding. How it ended then.
    pub async fn settled(&self) -> Result<End, String> {
        match self.history.until(LIMIT, |pages| self.ended(pages)).await {
            Some(end) => Ok(end),
            None => Err(self.history.look(|pages| {
                let grants: Vec<_> = living(&pages.grants, &self.id)
                    .into_iter()
                    .map(|grant| grant.object.status.clone())
                    .collect();
                let bindings = names(living(&pages.bindings, &self.id));
                let status = living(&pages.requests, &self.id)
                    .first()
                    .map(|request| request.object.status.clone());
                format!("not settled within {LIMIT:?}: bindings {bindings:?}, grants {grants:?}, request {status:?}")
            })),
        }
    }

    /// How it has ended, if it has.
    pub fn ended_now(&self, world: &World) -> Option<End> {
        world.history.look(|pages| self.ended(pages))
    }

    fn ended(&self, pages: &Pages) -> Option<End> {
        let request = match living(&pages.requests, &self.id).first() {
            Some(request) => Some(phase(&request.object).filter(|phase| phase.is_final())?),
            None if pages.requests.contains_key(&self.id) => None,
            None => return None,
        };
        if living(&pages.bindings, &self.id)
            .iter()
            .any(|binding| is_managed(&binding.object))
        {
            return None;
        }
        let grant = match living(&pages.grants, &self.id).first() {
            Some(grant) => {
                let status = grant.object.status.as_ref()?;
                (status.phase == Some(GrantPhase::Ended)).then_some(())?;
                Fate::Ended(status.end.as_ref()?.reason)
            }
            None if pages.grants.contains_key(&self.id) => Fate::Gone,
            None => Fate::Never,
        };
        Some(End { request, grant })
    }

    fn here<K>(&self, client: &Client) -> Api<K>
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

fn phase(request: &AccessRequest) -> Option<RequestPhase> {
    request.status.as_ref()?.phase
}

fn is_over(request: &AccessRequest) -> bool {
    phase(request).is_some_and(RequestPhase::is_final)
}

/// Whether an access was reviewed, if it is to be.
fn has_review(grant: &AccessGrant) -> Option<bool> {
    let conditions = &grant.status.as_ref()?.conditions;
    condition::get(conditions, condition::REVIEWED).map(|reviewed| reviewed.status == "True")
}

fn offer(request: &AccessRequest) -> Option<String> {
    Some(request.status.as_ref()?.offer.as_ref()?.digest.clone())
}

fn is_decided(request: &AccessRequest) -> bool {
    request.status.as_ref().is_some_and(|status| status.seal.is_some()) || is_over(request)
}

async fn made<K>(api: &Api<K>, object: Value)
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
