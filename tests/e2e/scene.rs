//! A test's own people, namespace, roles and policy, and the steps that its story is told in.

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};

use curfew::api::{AccessGrant, AccessPolicy, AccessRequest, GrantPhase, RequestPhase};
use curfew_testbed::{Answer, AuditEvent, Cluster, User};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::tools::{eventually, watched};
use crate::world::World;

/// All that can be done with the objects of a kind.
pub const VERBS: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A test's own corner of a world. Names end in a number of their own, so that tests can run side by side.
pub struct Scene {
    /// The cluster and the product.
    pub world: &'static World,
    /// What the names of this scene end in.
    pub id: String,
    /// The namespace in which everything happens.
    pub namespace: String,
    /// The requester.
    pub alice: User,
    /// An approver, by group.
    pub bob: User,
    /// Another approver, by the same group.
    pub carol: User,
    /// An outsider who may write requests (create, patch, update, delete), and decide nothing.
    pub mallory: User,
}

/// What decides: the annotation where the API server stamps, the record itself where it doesn't.
pub struct Word<'a> {
    /// `approve`, `deny`, `revoke` or `review`, possibly with a code: `approve:3f9a2c1b`.
    pub word: &'a str,
    /// The comment, if any.
    pub comment: Option<&'a str>,
}

impl<'a> From<&'a str> for Word<'a> {
    fn from(word: &'a str) -> Self {
        Self { word, comment: None }
    }
}

impl Scene {
    /// A new one.
    pub async fn new(world: &'static World) -> Self {
        let id = format!("{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let namespace = format!("team-{id}");
        let user = async |name: &str, group: &str| {
            let built = world
                .cluster
                .user(&format!("{name}-{id}"))
                .uid(&format!("uid-{name}-{id}"))
                .group(group)
                .build()
                .await;
            built.unwrap_or_else(|error| panic!("{error}"))
        };
        let (dev, sre) = (format!("dev-{id}"), format!("sre-{id}"));
        let scene = Self {
            world,
            alice: user("alice", &dev).await,
            bob: user("bob", &sre).await,
            carol: user("carol", &sre).await,
            mallory: user("mallory", "outsiders").await,
            id,
            namespace,
        };
        scene.furnish(&dev, &sre).await;
        scene
    }

    async fn furnish(&self, dev: &str, sre: &str) {
        let group = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name});
        let requests = json!([{"apiGroups": ["curfew.dev"], "resources": ["accessrequests", "accessrequests/status"], "verbs": ["*"]}]);
        for object in [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": {"scene": self.id}}}),
            self.role(
                "reader",
                json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]),
            ),
            self.role("writes-requests", requests),
            self.binding("requesters", ("ClusterRole", "curfew-requester"), group(dev)),
            self.binding("approvers", ("ClusterRole", "curfew-approver"), group(sre)),
            self.binding("outsiders", ("Role", "writes-requests"), person(self.mallory.name())),
        ] {
            creates(self.cluster().admin(), &object).await.unwrap();
        }
    }

    /// A Role of this scene's namespace.
    pub fn role(&self, name: &str, rules: Value) -> Value {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name, "namespace": self.namespace}, "rules": rules})
    }

    /// A RoleBinding of this scene's namespace.
    pub fn binding(&self, name: &str, role: (&str, &str), subject: Value) -> Value {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": self.namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1}, "subjects": [subject],
        })
    }

    /// Makes mallory an admin of this scene's namespace, and nothing more.
    pub async fn namespace_admin(&self) {
        creates(
            self.cluster().admin(),
            &self.binding("admins", ("ClusterRole", "admin"), person(self.mallory.name())),
        )
        .await
        .unwrap();
        eventually("mallory is an admin of the namespace", async || {
            self.mallory
                .can("patch", "rolebindings.rbac.authorization.k8s.io", Some(&self.namespace))
                .await
                .unwrap()
        })
        .await;
    }

    /// Mallory makes something in this scene's namespace that names this as its owner, and goes only when she lets it.
    pub async fn mallory_holds(&self, (api_version, kind): (&str, &str), name: &str, uid: &str) {
        let owner =
            json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "blockOwnerDeletion": true});
        let held = json!(["e2e.example/held"]);
        let metadata = json!({"generateName": "holds-", "namespace": self.namespace, "finalizers": held, "ownerReferences": [owner]});
        let holds = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        creates(&self.mallory, &holds).await.unwrap();
    }

    /// The cluster.
    pub fn cluster(&self) -> &'static Cluster {
        &self.world.cluster
    }

    /// `kubectl apply -f -`, as `user`.
    pub async fn apply(&self, user: &User, object: &Value) -> Answer {
        user.kubectl_stdin(["apply", "-f", "-"], &object.to_string())
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// kubectl in this scene's namespace, as `user`.
    pub async fn kubectl(&self, user: &User, arguments: &[&str]) -> Answer {
        let all = ["--namespace", &self.namespace]
            .into_iter()
            .chain(arguments.iter().copied());
        user.kubectl(all).await.unwrap_or_else(|error| panic!("{error}"))
    }

    // ---- policies ----

    /// This scene's policy, named after it: alice may ask for `reader` here for an hour at most, and one of bob's group approves.
    pub fn policy(&self) -> Value {
        json!({
            "apiVersion": "curfew.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": format!("policy-{}", self.id)},
            "spec": {
                "requesters": {"users": [self.alice.name()]},
                "roles": [{"kind": "Role", "name": "reader"}, {"kind": "ClusterRole", "name": "e2e-reader"}],
                "namespaces": {"names": [self.namespace]},
                "maxDuration": "1h",
                "approval": {"stages": [{"name": "lead", "approvers": {"groups": [format!("sre-{}", self.id)]}}]},
            },
        })
    }

    /// This scene's policy, with these fields of its spec put in place of its own (`null` takes one out).
    pub fn policy_with(&self, fields: Value) -> Value {
        let mut policy = self.policy();
        merge(&mut policy["spec"], fields);
        policy
    }

    /// Applies a policy as admin and waits until the operator has said of it whether it is Ready.
    pub async fn has_policy(&self, policy: &Value) -> AccessPolicy {
        let as_admin = PatchParams::apply("e2e").force();
        let applied = self
            .policies()
            .patch(name(policy), &as_admin, &Patch::Apply(policy))
            .await;
        applied.unwrap();
        self.policy_looked_at(name(policy)).await
    }

    /// Waits until the operator has said of a policy whether it is Ready.
    pub async fn policy_looked_at(&self, name: &str) -> AccessPolicy {
        watched(
            self.policies(),
            name,
            "a policy that was looked at",
            |policy: Option<&AccessPolicy>| {
                policy.is_some_and(|policy| {
                    policy
                        .status
                        .as_ref()
                        .is_some_and(|status| status.observed_generation == policy.metadata.generation)
                })
            },
        )
        .await
        .unwrap()
    }

    // ---- requests ----

    /// A request for `reader` for five minutes.
    pub fn request(&self, name: &str) -> Value {
        json!({
            "apiVersion": "curfew.dev/v1alpha1", "kind": "AccessRequest", "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"role": {"kind": "Role", "name": "reader"}, "duration": "5m", "reason": "a test"},
        })
    }

    /// A request with these fields of its spec put in place of the usual ones (`null` takes one out).
    pub fn request_with(&self, name: &str, fields: Value) -> Value {
        let mut request = self.request(name);
        merge(&mut request["spec"], fields);
        request
    }

    /// What `user` applies: where the API server doesn't stamp, the requester is filled in as the plugin will.
    pub async fn asks(&self, user: &User, request: &Value) -> Answer {
        let mut request = request.clone();
        if !self.world.stamps() && request["spec"].get("requester").is_none() {
            request["spec"]["requester"] = self.identity(user).await;
        }
        self.apply(user, &request).await
    }

    /// Who `user` is to the API server.
    pub async fn identity(&self, user: &User) -> Value {
        let reviews = Api::<SelfSubjectReview>::all(user.client().unwrap());
        let review = reviews
            .create(&PostParams::default(), &SelfSubjectReview::default())
            .await
            .unwrap();
        let info = review.status.unwrap().user_info.unwrap();
        json!({"username": info.username, "uid": info.uid.unwrap_or_default(), "groups": info.groups.unwrap_or_default()})
    }

    /// `alice` asks, and there is an offer.
    pub async fn asked(&self, request: &Value) -> AccessRequest {
        self.asks(&self.alice, request)
            .await
            .ok()
            .unwrap_or_else(|error| panic!("{error}"));
        self.request_that(name(request), "an offer", |request| {
            request.status.as_ref().is_some_and(|status| status.offer.is_some())
        })
        .await
    }

    /// Waits for a request of which this is true.
    pub async fn request_that(&self, name: &str, what: &str, holds: impl Fn(&AccessRequest) -> bool) -> AccessRequest {
        watched(self.requests(), name, what, |request: Option<&AccessRequest>| {
            request.is_some_and(&holds)
        })
        .await
        .unwrap()
    }

    /// Waits for a request in this phase.
    pub async fn request_in(&self, name: &str, phase: RequestPhase) -> AccessRequest {
        self.request_that(name, &format!("phase {phase:?}"), |request| {
            request
                .status
                .as_ref()
                .is_some_and(|status| status.phase == Some(phase))
        })
        .await
    }

    /// Waits until what was said on a request, one word, was weighed.
    pub async fn weighed(&self, name: &str) -> AccessRequest {
        self.request_that(name, "the word was weighed", |request| {
            request
                .status
                .as_ref()
                .is_some_and(|status| status.decisions.len() == 1)
        })
        .await
    }

    /// Waits for a request whose Accepted condition has this reason, and gives its message.
    pub async fn request_blocked_by(&self, name: &str, reason: &str) -> String {
        let accepted = |request: &AccessRequest| {
            let status = request.status.clone().unwrap_or_default();
            curfew::api::condition::get(&status.conditions, curfew::api::condition::ACCEPTED).cloned()
        };
        let request = self
            .request_that(name, &format!("Accepted is {reason}"), |request| {
                accepted(request).is_some_and(|accepted| accepted.reason == reason)
            })
            .await;
        accepted(&request).unwrap().message
    }

    /// The request as it is now.
    pub async fn request_now(&self, name: &str) -> AccessRequest {
        self.requests().get(name).await.unwrap()
    }

    // ---- decisions ----

    /// `user` decides: by annotation where the API server stamps, by the record itself where it doesn't.
    pub async fn says(&self, user: &User, name: &str, word: impl Into<Word<'_>>) -> Answer {
        let Word { word, comment } = word.into();
        if self.world.stamps() {
            let decision = format!("curfew.dev/decision={word}");
            let comment = comment.map(|comment| format!("curfew.dev/comment={comment}"));
            let mut arguments = vec!["annotate", "accessrequest", name, &decision];
            arguments.extend(comment.as_deref());
            return self.kubectl(user, &arguments).await;
        }
        let record = self.record(user, name, word, comment).await;
        self.writes_record(user, name, &record).await
    }

    /// Appends a record of a decision to a request, as the plugin will.
    pub async fn writes_record(&self, user: &User, name: &str, record: &Value) -> Answer {
        let before = self.request_now(name).await.spec.decisions.len();
        let patch = match before {
            0 => json!([{"op": "add", "path": "/spec/decisions", "value": [record]}]),
            _ => json!([{"op": "add", "path": "/spec/decisions/-", "value": record}]),
        };
        self.kubectl(
            user,
            &["patch", "accessrequest", name, "--type=json", "-p", &patch.to_string()],
        )
        .await
    }

    /// The record that the API server would stamp, as the plugin will write it. `word` as in the annotation.
    pub async fn record(&self, user: &User, name: &str, word: &str, comment: Option<&str>) -> Value {
        let identity = self.identity(user).await;
        let request = self.request_now(name).await;
        let status = request.status.clone().unwrap_or_default();
        let (verdict, code) = match word.split_once(':') {
            Some((verdict, code)) => (verdict, Some(code)),
            None => (word, None),
        };
        let is_requester = request
            .spec
            .requester
            .as_ref()
            .is_some_and(|requester| identity["username"] == requester.username);
        let via = match verdict {
            "revoke" if is_requester => "requester".to_owned(),
            "approve" => self.entry(
                "lead",
                &identity,
                status.open.iter().map(|open| (&open.users, &open.groups)).next(),
            ),
            "review" => {
                let reviewers = status.reviewers.as_ref();
                let people = reviewers.map(|reviewers| (&reviewers.users, &reviewers.groups));
                self.entry("review", &identity, people)
            }
            _ => self.entry(
                "*",
                &identity,
                status
                    .revokers
                    .as_ref()
                    .map(|revokers| (&revokers.users, &revokers.groups)),
            ),
        };
        let mut record = json!({
            "verdict": match verdict { "approve" => "Approve", "deny" => "Deny", "revoke" => "Revoke", "review" => "Review", other => other },
            "username": identity["username"], "uid": identity["uid"], "via": [via],
            "offer": status.offer.map(|offer| offer.digest).unwrap_or_default(),
            "direct": true,
        });
        if let Some(code) = code {
            record["code"] = json!(code);
        }
        if let Some(comment) = comment {
            record["comment"] = json!(comment);
        }
        record
    }

    fn entry(&self, place: &str, identity: &Value, people: Option<(&Vec<String>, &Vec<String>)>) -> String {
        let username = identity["username"].as_str().unwrap();
        let Some((users, groups)) = people else {
            return format!("{place}/User:{username}");
        };
        let in_group = groups
            .iter()
            .find(|group| identity["groups"].as_array().unwrap().iter().any(|own| own == *group));
        match in_group {
            Some(group) if !users.iter().any(|user| user == username) => format!("{place}/Group:{group}"),
            _ => format!("{place}/User:{username}"),
        }
    }

    /// `user` decides, and the API server takes it.
    pub async fn said(&self, user: &User, name: &str, word: impl Into<Word<'_>>) {
        self.says(user, name, word)
            .await
            .ok()
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// `user` decides, and the API server refuses it for this reason.
    pub async fn refused(&self, user: &User, name: &str, word: impl Into<Word<'_>>, because: &str) {
        let refusal = self
            .says(user, name, word)
            .await
            .refused()
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(
            refusal.contains(because),
            "refused because {because:?}, but not so: {refusal}"
        );
    }

    // ---- access ----

    /// Alice asks, bob approves, and alice has access.
    pub async fn granted(&self, request: &Value) -> AccessGrant {
        self.asked(request).await;
        self.said(&self.bob, name(request), "approve").await;
        self.active(name(request)).await
    }

    /// Waits until access was given, and gives the grant. On a slow machine a short access may be over by then.
    pub async fn active(&self, name: &str) -> AccessGrant {
        let was_active = |request: &AccessRequest| {
            let status = request.status.as_ref();
            status.is_some_and(|status| {
                let is_over = status.phase == Some(RequestPhase::Expired) && status.grant.is_some();
                status.phase == Some(RequestPhase::Active) || is_over
            })
        };
        let request = self.request_that(name, "access given", was_active).await;
        let grant = self
            .grants()
            .get(&request.status.unwrap().grant.unwrap())
            .await
            .unwrap();
        let bindings = grant.status.as_ref().map_or(0, |status| status.bindings.len());
        assert_ne!(bindings, 0, "it was bound: {:#?}", grant.status);
        grant
    }

    /// Waits until the grant has ended.
    pub async fn grant_ended(&self, grant: &AccessGrant) -> AccessGrant {
        let ended = |grant: Option<&AccessGrant>| {
            grant.is_some_and(|grant| {
                grant
                    .status
                    .as_ref()
                    .is_some_and(|status| status.phase == Some(GrantPhase::Ended))
            })
        };
        watched(self.grants(), &grant.name_any(), "the grant ended", ended)
            .await
            .unwrap()
    }

    /// Whether the API server lets alice use the role, by a real call as alice.
    pub async fn alice_may(&self) -> bool {
        let config_maps = self.of::<ConfigMap>(&self.alice);
        config_maps.list(&ListParams::default().limit(1)).await.is_ok()
    }

    /// Alice has access: by a real call, and by exactly one binding.
    pub async fn has_access(&self) {
        assert!(self.alice_may().await, "alice may not");
        assert_eq!(self.bindings().await.len(), 1, "exactly one binding");
    }

    /// Alice has no access: by a real call, and by the absence of bindings.
    pub async fn has_no_access(&self) {
        assert!(!self.alice_may().await, "alice may");
        assert_eq!(self.bindings().await.len(), 0, "no binding");
    }

    /// Waits until alice has no access any more.
    pub async fn loses_access(&self) {
        eventually("alice has no access any more", async || {
            !self.alice_may().await && self.bindings().await.is_empty()
        })
        .await;
    }

    /// Curfew's bindings in this namespace: by their name, whatever became of their labels.
    pub async fn bindings(&self) -> Vec<RoleBinding> {
        let all = self.role_bindings().list(&ListParams::default()).await.unwrap().items;
        all.into_iter()
            .filter(|binding| binding.name_any().starts_with("curfew-"))
            .collect()
    }

    // ---- without kubectl, where it isn't the point ----

    /// This scene's objects of a kind, as `user`.
    pub fn of<K>(&self, user: &User) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(user.client().unwrap(), &self.namespace)
    }

    /// What there is of a kind in the operator's own namespace, as admin.
    pub fn at_home<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(
            self.cluster().admin().client().unwrap(),
            self.world.installation.namespace(),
        )
    }

    /// Admin deletes this scene's namespace. Gives where namespaces are looked for.
    pub async fn deletes_its_namespace(&self) -> Api<Namespace> {
        let namespaces = Api::<Namespace>::all(self.cluster().admin().client().unwrap());
        let deleted = namespaces.delete(&self.namespace, &DeleteParams::default()).await;
        deleted.unwrap();
        namespaces
    }

    /// As [`Scene::says`]: the request as it then is, or the refusal.
    pub async fn decides(&self, user: &User, name: &str, word: impl Into<Word<'_>>) -> Result<AccessRequest, String> {
        let Word { word, comment } = word.into();
        let patch = if self.world.stamps() {
            json!({"metadata": {"annotations": {"curfew.dev/decision": word, "curfew.dev/comment": comment}}})
        } else {
            let record = self.record(user, name, word, comment).await;
            json!({"spec": {"decisions": self.decisions_and(name, &[record]).await}})
        };
        merges(&self.of(user), name, patch).await
    }

    /// As [`Scene::asked`], where the API server stamps.
    pub async fn quickly_asked(&self, request: &Value) -> AccessRequest {
        creates(&self.alice, request).await.unwrap();
        self.request_that(name(request), "an offer", |request| {
            request.status.as_ref().is_some_and(|status| status.offer.is_some())
        })
        .await
    }

    /// As [`Scene::granted`], where the API server stamps.
    pub async fn quickly_granted(&self, request: &Value) -> AccessGrant {
        self.quickly_asked(request).await;
        self.decides(&self.bob, name(request), "approve").await.unwrap();
        self.active(name(request)).await
    }

    /// What stands in a request's list of decisions, and these records after it.
    pub async fn decisions_and(&self, name: &str, records: &[Value]) -> Value {
        let before = self.request_now(name).await.spec.decisions;
        before
            .iter()
            .map(|decision| serde_json::to_value(decision).unwrap())
            .chain(records.iter().cloned())
            .collect()
    }

    // ---- by the audit log ----

    /// What the operator wrote in this scene's namespace and to the grants of its requests, in order: what was refused too, events aside.
    pub fn operator_writes(&self) -> Vec<AuditEvent> {
        let operator = format!("system:serviceaccount:{}:curfew", self.world.installation.namespace());
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        let is_here = |event: &AuditEvent| {
            let requested_in = event.request.as_ref().map(|sent| &sent["spec"]["request"]["namespace"]);
            event.namespace == self.namespace
                || requested_in.is_some_and(|namespace| *namespace == self.namespace.as_str())
        };
        let log = self.cluster().audit_log().unwrap().into_iter();
        log.filter(|event| {
            event.user.username == operator
                && writes.contains(&event.verb.as_str())
                && event.resource != "events"
                && is_here(event)
        })
        .collect()
    }

    // ---- as admin ----

    /// This scene's requests, as admin.
    pub fn requests(&self) -> Api<AccessRequest> {
        Api::namespaced(self.cluster().admin().client().unwrap(), &self.namespace)
    }

    /// All grants, as admin.
    pub fn grants(&self) -> Api<AccessGrant> {
        Api::all(self.cluster().admin().client().unwrap())
    }

    /// All policies, as admin.
    pub fn policies(&self) -> Api<AccessPolicy> {
        Api::all(self.cluster().admin().client().unwrap())
    }

    /// This scene's RoleBindings, as admin.
    pub fn role_bindings(&self) -> Api<RoleBinding> {
        Api::namespaced(self.cluster().admin().client().unwrap(), &self.namespace)
    }
}

/// Whom a binding names by this.
pub fn person(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

/// `user` creates this: the object as stored, or the refusal.
pub async fn creates(user: &User, object: &Value) -> Result<DynamicObject, String> {
    creates_with(user, object, &PostParams::default()).await
}

/// `user` would create this: what the API server says to it, storing nothing.
pub async fn would_create(user: &User, object: &Value) -> Result<DynamicObject, String> {
    creates_with(
        user,
        object,
        &PostParams {
            dry_run: true,
            ..PostParams::default()
        },
    )
    .await
}

async fn creates_with(user: &User, object: &Value, parameters: &PostParams) -> Result<DynamicObject, String> {
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(object.types.clone().unwrap()).unwrap());
    let client = user.client().unwrap();
    let api = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    api.create(parameters, &object).await.map_err(refusal)
}

/// Merges this into an object: the object as it then is, or the refusal.
pub async fn merges<K>(api: &Api<K>, name: &str, patch: Value) -> Result<K, String>
where
    K: Clone + Debug + DeserializeOwned,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(refusal)
}

/// Merges this into an object's status: the object as it then is, or the refusal.
pub async fn merges_status<K>(api: &Api<K>, name: &str, patch: Value) -> Result<K, String>
where
    K: Clone + Debug + DeserializeOwned,
{
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(refusal)
}

/// What the API server said. That it said nothing is no refusal.
pub fn refusal(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => panic!("no answer: {other}"),
    }
}

/// The API server refused, and for this reason.
#[track_caller]
pub fn refused<T>(answer: Result<T, String>, because: &str) {
    match answer {
        Ok(_) => panic!("not refused because {because:?}, but accepted"),
        Err(refusal) => assert!(
            refusal.contains(because),
            "refused because {because:?}, but not so: {refusal}"
        ),
    }
}

/// The name of an object that is not stored yet.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// The reason and message of a policy's Ready condition.
pub fn readiness(policy: &AccessPolicy) -> (String, String) {
    let status = policy.status.clone().unwrap_or_default();
    let ready = curfew::api::condition::get(&status.conditions, curfew::api::condition::READY)
        .cloned()
        .unwrap();
    (ready.reason, ready.message)
}

pub fn merge(into: &mut Value, fields: Value) {
    for (field, value) in fields.as_object().unwrap().clone() {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(&field)),
            value => into[field] = value,
        }
    }
}
