//! Where no anchor can be had: what is approved waits and says why, nothing is bound, and it is granted when one can be had again.

use chrono::TimeDelta;
use curfew::api::{AccessRequest, EndReason, condition};
use curfew::cluster::anchor::LIMIT;
use curfew::core::anchor::{Until, job, service};
use curfew::core::grant::name as grant_name;
use curfew_testbed::User;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::scene::{Scene, creates, merges};
use crate::signs::{assert_on_time, now};
use crate::tools::eventually;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![
        Alone [AuditLog]:
            whatever_refuses_an_anchor_is_named_and_only_best_effort_is_granted,
            what_somebody_made_of_an_anchor_is_not_trusted;
    ]
}

/// So many calls are under way at once.
const AT_ONCE: usize = 24;
/// More than there are cluster IPs.
const SERVICES: usize = 260;

async fn whatever_refuses_an_anchor_is_named_and_only_best_effort_is_granted(scene: Scene) {
    let home = Home::of(&scene).await;
    scene.has_policy(&scene.policy()).await;
    for (what, hard) in [("jobs", "count/jobs.batch=0"), ("services", "services=0")] {
        home.has_a_quota(what, hard).await;
        waits(
            &scene,
            &format!("no-{what}"),
            &["exceeded quota", hard.trim_end_matches("=0")],
        )
        .await;
        if what == "services" {
            best_effort_is_granted_and_ends_on_time(&scene).await;
        }
        home.as_admin(&["delete", "quota", "none"]).await;
    }
    let rules = home.loses_the_right_to_make_jobs().await;
    waits(&scene, "no-right", &["jobs.batch is forbidden"]).await;
    merges(&home.roles, "curfew:operator", rules).await.unwrap();

    takes_all_addresses(&scene).await;
    waits(&scene, "no-address", &["failed to allocate a serviceIP"]).await;
    gives_all_addresses_back(&scene).await;

    let others = home.has_as_many_anchors_as_allowed().await;
    waits(&scene, "no-more", &[&format!("there are {LIMIT} anchors already")]).await;
    for anchor in others {
        home.jobs.delete(&anchor, &DeleteParams::background()).await.unwrap();
    }
    for name in ["no-jobs", "no-services", "no-right", "no-address", "no-more"] {
        assert!(scene.active(name).await.spec.anchor.is_some(), "{name}");
    }
}

/// One refused by Curfew's own guard, one read back and found to be another, one whose IPAddress is gone.
async fn what_somebody_made_of_an_anchor_is_not_trusted(scene: Scene) {
    let home = Home::of(&scene).await;
    scene.has_policy(&scene.policy()).await;
    let suspended = "Object{spec: Object.spec{suspend: true}}";
    home.changes_jobs(suspended).await;
    waits(&scene, "suspended", &["must run no pod"]).await;
    let prolonged = "Object{spec: Object.spec{activeDeadlineSeconds: object.spec.activeDeadlineSeconds + 3600}}";
    home.changes_jobs(prolonged).await;
    waits(&scene, "prolonged", &["its Job would end too late"]).await;
    home.leaves_jobs_alone().await;
    eventually("what can't be trusted has made way", async || {
        let jobs = home.jobs.list(&ListParams::default()).await.unwrap();
        let length = |job: &Job| job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        jobs.iter().all(|job| length(job) < Some(3600))
    })
    .await;
    assert!(scene.active("prolonged").await.spec.anchor.is_some());

    home.has_anchors_without_address(TimeDelta::minutes(50)).await;
    asks_for(&scene, "addressless", "50m").await;
    says_no_anchor(&scene, "addressless", &["there is no IPAddress of its cluster IP"]).await;
    assert!(scene.active("suspended").await.spec.anchor.is_some());
}

// ---- what people see -----------------------------------------------------------------------------------------------

/// Alice asks for an access that would end at a minute of its own, for what was found out of one minute isn't tried again at once. Bob approves.
async fn waits(scene: &Scene, name: &str, because: &[&str]) {
    let number = scene.requests().list(&ListParams::default()).await.unwrap().items.len();
    asks_for(scene, name, &format!("{}m", 10 + 3 * number)).await;
    says_no_anchor(scene, name, because).await;
}

async fn asks_for(scene: &Scene, name: &str, duration: &str) {
    let policy = scene.policy()["metadata"]["name"].clone();
    scene
        .asked(&scene.request_with(name, json!({"duration": duration, "policy": policy})))
        .await;
    scene.said(&scene.bob, name, "approve").await;
}

async fn says_no_anchor(scene: &Scene, name: &str, because: &[&str]) {
    let says = |request: &AccessRequest| {
        let status = request.status.clone().unwrap_or_default();
        let granted = condition::get(&status.conditions, condition::GRANTED);
        granted.is_some_and(|granted| {
            (granted.status.as_str(), granted.reason.as_str()) == ("False", "NoAnchor")
                && because.iter().all(|word| granted.message.contains(word))
        })
    };
    let waiting = scene
        .request_that(name, &format!("NoAnchor with {because:?}"), says)
        .await;
    // Those before it may be granted again by now.
    let grant = grant_name(&waiting.uid().unwrap());
    assert_eq!(scene.grants().get_opt(&grant).await.unwrap(), None);
}

async fn best_effort_is_granted_and_ends_on_time(scene: &Scene) {
    let mut policy = scene.policy_with(json!({"deadMansSwitch": "BestEffort"}));
    let name = format!("lenient-{}", scene.id);
    policy["metadata"]["name"] = json!(name);
    scene.has_policy(&policy).await;
    let grant = scene
        .granted(&scene.request_with("lenient", json!({"duration": "4s", "policy": name})))
        .await;
    assert_eq!(grant.spec.anchor, None);
    let conditions = grant.status.clone().unwrap().conditions;
    let switch = condition::get(&conditions, condition::DEAD_MANS_SWITCH).unwrap();
    assert_eq!((switch.status.as_str(), switch.reason.as_str()), ("False", "NoAnchor"));
    assert!(switch.message.contains("exceeded quota"), "{}", switch.message);
    let end = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Expired);
    assert_on_time(scene, &grant);
}

// ---- what stands in the way ----------------------------------------------------------------------------------------

/// The operator's own namespace, by the operator's credential where nothing else is said.
pub struct Home<'a> {
    scene: &'a Scene,
    namespace: &'static str,
    operator: User,
    jobs: Api<Job>,
    services: Api<Service>,
    /// As admin.
    roles: Api<Role>,
}

impl<'a> Home<'a> {
    pub async fn of(scene: &'a Scene) -> Self {
        let namespace = scene.world.installation.namespace();
        let operator = scene.world.installation.operator_user().await.unwrap();
        Self {
            scene,
            namespace,
            jobs: Api::namespaced(operator.client().unwrap(), namespace),
            services: Api::namespaced(operator.client().unwrap(), namespace),
            operator,
            roles: Api::namespaced(scene.cluster().admin().client().unwrap(), namespace),
        }
    }

    pub async fn as_admin(&self, arguments: &[&str]) {
        let here = ["--namespace", self.namespace].into_iter();
        let admin = self.scene.cluster().admin();
        let answer = admin.kubectl(here.chain(arguments.iter().copied())).await.unwrap();
        answer.ok().unwrap_or_else(|error| panic!("{error}"));
    }

    /// A quota named `none`.
    pub async fn has_a_quota(&self, what: &str, hard: &str) {
        self.as_admin(&["create", "quota", "none", &format!("--hard={hard}")])
            .await;
        let later = some_minute();
        eventually(&format!("no {what} can be made any more"), async || {
            let made = match what {
                "jobs" => self.jobs.create(&dry_run(), &job(later, now())).await.map(drop),
                _ => self.services.create(&dry_run(), &service(later, "uid")).await.map(drop),
            };
            made.is_err_and(|error| error.to_string().contains("exceeded quota"))
        })
        .await;
    }

    /// Gives the patch that gives it back.
    async fn loses_the_right_to_make_jobs(&self) -> Value {
        let before = self.roles.get("curfew:operator").await.unwrap().rules.unwrap();
        let mut rules = before.clone();
        for rule in &mut rules {
            if rule
                .resources
                .as_ref()
                .is_some_and(|resources| resources.contains(&"jobs".to_owned()))
            {
                rule.verbs.retain(|verb| verb != "create");
            }
        }
        merges(&self.roles, "curfew:operator", json!({"rules": rules}))
            .await
            .unwrap();
        eventually("the operator may make no Jobs", async || {
            !self
                .operator
                .can("create", "jobs.batch", Some(self.namespace))
                .await
                .unwrap()
        })
        .await;
        json!({"rules": before})
    }

    /// Gives their names. They are idle, and would be taken away after two minutes.
    async fn has_as_many_anchors_as_allowed(&self) -> Vec<String> {
        let there = self.jobs.list(&ListParams::default()).await.unwrap().items.len();
        let minutes =
            (0..i64::try_from(LIMIT - there).unwrap()).map(|minute| TimeDelta::hours(10) + TimeDelta::minutes(minute));
        let made = minutes.map(|after| {
            let anchor = job(Until::serving(now() + after).unwrap(), now());
            async move {
                self.jobs
                    .create(&PostParams::default(), &anchor)
                    .await
                    .map(|job| job.name_any())
            }
        });
        stream::iter(made)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
            .unwrap()
    }

    /// Somebody's policy changes every Job that is made here. It takes the place of the one before.
    async fn changes_jobs(&self, how: &str) {
        let group = "admissionregistration.k8s.io/v1";
        let (policy, binding) = (
            json!({
                "apiVersion": group, "kind": "MutatingAdmissionPolicy", "metadata": {"name": "somebodys"},
                "spec": {
                    "reinvocationPolicy": "Never", "failurePolicy": "Fail",
                    "matchConstraints": {"resourceRules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}]},
                    "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": how}}],
                },
            }),
            json!({
                "apiVersion": group, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": "somebodys"}, "spec": {"policyName": "somebodys"},
            }),
        );
        for object in [policy, binding] {
            self.scene
                .apply(self.scene.cluster().admin(), &object)
                .await
                .ok()
                .unwrap();
        }
        let is_changed = if how.contains("suspend") {
            "must run no pod"
        } else {
            "+3600"
        };
        eventually("Jobs are changed", async || {
            self.how_a_job_comes_out().await.contains(is_changed)
        })
        .await;
    }

    async fn leaves_jobs_alone(&self) {
        self.as_admin(&["delete", "mutatingadmissionpolicybinding", "somebodys"])
            .await;
        eventually("Jobs are as they are made", async || {
            self.how_a_job_comes_out().await == "+0"
        })
        .await;
    }

    /// By how much longer its deadline is, or why it is refused.
    async fn how_a_job_comes_out(&self) -> String {
        let deadline = |job: &Job| job.spec.as_ref().unwrap().active_deadline_seconds.unwrap();
        let made = job(some_minute(), now());
        match self.jobs.create(&dry_run(), &made).await {
            Ok(found) => format!("+{}", deadline(&found) - deadline(&made)),
            Err(error) => error.to_string(),
        }
    }

    /// The anchors that serve an access that is granted within the next minute are there, and their cluster IPs have no IPAddress any more.
    async fn has_anchors_without_address(&self, after: TimeDelta) {
        let addresses = Api::<IPAddress>::all(self.scene.cluster().admin().client().unwrap());
        for until in [after, after + TimeDelta::minutes(1)].map(|after| Until::serving(now() + after).unwrap()) {
            let made = self
                .jobs
                .create(&PostParams::default(), &job(until, now()))
                .await
                .unwrap();
            let service = service(until, &made.uid().unwrap());
            let made = self.services.create(&PostParams::default(), &service).await.unwrap();
            let address = made.spec.unwrap().cluster_ip.unwrap();
            // The API server makes it again when it hears of the Service only now.
            eventually("the IPAddress goes", async || {
                let _ = addresses.delete(&address, &DeleteParams::default()).await;
                addresses.get_opt(&address).await.unwrap().is_none()
            })
            .await;
        }
    }
}

/// Services in the scene's own namespace take what is left of the range.
async fn takes_all_addresses(scene: &Scene) {
    let services = scene.of::<Service>(scene.cluster().admin());
    let taking = (0..SERVICES).map(|number| {
        let taker = json!({"metadata": {"name": format!("taker-{number}")}, "spec": {"ports": [{"port": 1}]}});
        let (services, taker) = (services.clone(), serde_json::from_value(taker).unwrap());
        async move { services.create(&PostParams::default(), &taker).await.is_err() }
    });
    let refused = stream::iter(taking).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    assert!(refused.into_iter().any(|refused| refused), "there are more cluster IPs");
}

async fn gives_all_addresses_back(scene: &Scene) {
    let services = scene.of::<Service>(scene.cluster().admin());
    services
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    let probe = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "taker", "namespace": scene.namespace}, "spec": {"ports": [{"port": 1}]}});
    eventually("there is a cluster IP", async || {
        creates(scene.cluster().admin(), &probe).await.is_ok()
    })
    .await;
}

fn some_minute() -> Until {
    Until::serving(now() + TimeDelta::hours(20)).unwrap()
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}
