//! How fast Curfew is, as ratios to what the same API server takes for the same writes in the same run. Absolute times mean little on another machine.
//!
//! `cargo bench`. It prints, and asserts nothing: what is asserted is in the tests. Raw writes and the product take turns, so that both meet the same
//! machine; while raw writes are measured the operator is frozen.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use curfew::api::{AccessGrant, AccessPolicy, AccessRequest, AccessRequestStatus, RequestPhase, Seal, condition, time};
use curfew_testbed::{Cluster, InstallOptions, Installation, Operator, OperatorOptions, Options, User};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::IPAddress;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TEAM: &str = "team";
/// What marks the bindings that count.
const OURS: &str = "curfew.dev/grant-uid";
/// A request whose whole life has passed before anything is measured.
const SAMPLE: &str = "sample";
/// How many turns each takes.
const TURNS: usize = 5;
/// How many grants one after the other, in one turn.
const ALONE: usize = 20;
/// In how many turns many at once.
const TURNS_TOGETHER: usize = 5;
/// How many at once, and with how many connections they are approved.
const TOGETHER: usize = 200;
/// How long their access lasts.
const BRIEF: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 32;

#[tokio::main]
async fn main() -> Outcome<()> {
    let bench = Bench::start().await?;
    println!("{TURNS} turns of {ALONE}, one after the other:");
    let (mut raw, mut approval, mut lag) = (vec![], vec![], vec![]);
    for turn in 0..TURNS {
        raw.extend(bench.raw_alone(turn).await?);
        let (bound, ended) = bench.alone(turn).await?;
        approval.extend(bound);
        lag.extend(ended);
    }
    report("  raw: three writes (grant, seal, binding)", &raw, None);
    report("  approval answered → binding made", &approval, Some(&raw));
    report("  deadline → binding deleted", &lag, None);

    println!("{TURNS_TOGETHER} turns of {TOGETHER} at once:");
    let (mut raw, mut bound, mut lag) = (vec![], vec![], vec![]);
    let (mut raw_deletes, mut deletes) = (vec![], vec![]);
    for turn in 0..TURNS_TOGETHER {
        let (written, deleted) = bench.raw_together(turn).await?;
        raw.push(written);
        raw_deletes.push(deleted);
        let (took, ended) = bench.together(turn).await?;
        bound.push(took);
        lag.extend(ended);
        deletes.push(bench.overdue(turn).await?);
    }
    report(&format!("  raw: the three writes, {CONNECTIONS} at a time"), &raw, None);
    report(
        "  approved while the operator was frozen → all bound",
        &bound,
        Some(&raw),
    );
    report("  deadline → binding deleted", &lag, None);
    report("  raw: their bindings deleted, all at a time", &raw_deletes, None);
    report(
        "  all overdue when the operator goes on: its deletions",
        &deletes,
        Some(&raw_deletes),
    );
    bench.cluster.stop().await;
    Ok(())
}

struct Bench {
    cluster: Cluster,
    _installation: Installation,
    alice: User,
    bob: User,
    /// What writes as the operator.
    raw: Client,
    operator: Operator,
    /// What the operator writes into a request's status. The request itself isn't kept for long: alice makes too many.
    sample: AccessRequestStatus,
}

/// Where raw writes go, and what keeps their bindings.
struct Place {
    /// What the operator writes into a sealed request.
    sealed: AccessRequestStatus,
    namespace_uid: String,
    owner: IPAddress,
}

impl Bench {
    async fn start() -> Outcome<Self> {
        let cluster = Cluster::start(Options::default()).await?;
        let values = json!({"grantableRoles": [{"kind": "ClusterRole", "name": "bench-reader"}]});
        let installation = Installation::install(
            &cluster,
            InstallOptions {
                values,
                ..InstallOptions::default()
            },
        )
        .await?;
        let alice = cluster.user("alice").group("dev").build().await?;
        let bob = cluster.user("bob").group("sre").build().await?;
        let raw = installation.operator_user().await?.client()?;
        let options = OperatorOptions::new(env!("CARGO_BIN_EXE_curfew")).arguments(["--log-level", "warn"]);
        let operator = installation.spawn_operator(options).await?;
        operator.wait_until_ready().await?;
        let mut bench = Self {
            cluster,
            _installation: installation,
            alice,
            bob,
            raw,
            operator,
            sample: AccessRequestStatus::default(),
        };
        bench.furnish().await?;
        bench.requests_are_served().await?;
        bench.policy_is_ready().await?;
        bench.offered(SAMPLE, "1s").await?;
        bench.approve(&bench.bob.client()?, SAMPLE).await?;
        bench.all_in(RequestPhase::Expired, SAMPLE).await?;
        let sample = bench.requests()?.get(SAMPLE).await?.status;
        bench.sample = sample.ok_or("the sample has no status")?;
        Ok(bench)
    }

    async fn furnish(&self) -> Outcome<()> {
        let binding = |name: &str, role: &str, group: &str| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
            })
        };
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "bench-reader"},
             "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]},
            binding("requesters", "curfew-requester", "dev"),
            binding("approvers", "curfew-approver", "sre"),
            {"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessPolicy", "metadata": {"name": "bench"}, "spec": {
                "requesters": {"groups": ["dev"]}, "roles": [{"kind": "ClusterRole", "name": "bench-reader"}], "namespaces": {"names": [TEAM]},
                "maxDuration": "1h", "approval": {"stages": [{"name": "lead", "approvers": {"groups": ["sre"]}}]}}},
        ]});
        self.cluster
            .admin()
            .kubectl_stdin(["apply", "-f", "-"], &objects.to_string())
            .await?
            .ok()?;
        Ok(())
    }

    fn admin(&self) -> Outcome<Client> {
        Ok(self.cluster.admin().client()?)
    }

    /// A new kind is not served at once.
    async fn requests_are_served(&self) -> Outcome<()> {
        let requests = Api::<AccessRequest>::namespaced(self.alice.client()?, TEAM);
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let begun = Instant::now();
        while let Err(error) = requests.create(&dry_run, &ask("probe", "1h")?).await {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    async fn policy_is_ready(&self) -> Outcome<()> {
        let policies = Api::<AccessPolicy>::all(self.admin()?);
        let ready = |policy: Option<&AccessPolicy>| {
            policy
                .and_then(|policy| policy.status.as_ref())
                .is_some_and(|status| condition::is_true(&status.conditions, condition::READY))
        };
        tokio::time::timeout(Duration::from_secs(60), await_condition(policies, "bench", ready)).await??;
        Ok(())
    }

    // ---- raw ----

    async fn raw_alone(&self, turn: usize) -> Outcome<Vec<Duration>> {
        let place = self.place().await?;
        let requests = self.approved(&format!("raw-{turn}-"), ALONE).await?;
        let writes = stream::iter(requests).then(|request| self.three_writes(request, &place));
        let times = writes.try_collect().await?;
        self.operator.resume()?;
        self.raw_grants_are_over().await?;
        Ok(times)
    }

    /// How long many writes took together, and then the deletions of the bindings.
    async fn raw_together(&self, turn: usize) -> Outcome<(Duration, Duration)> {
        let place = self.place().await?;
        let requests = self.approved(&format!("raw-together-{turn}-"), TOGETHER).await?;
        let begun = Instant::now();
        let writes = stream::iter(requests).map(|request| self.three_writes(request, &place));
        let _times: Vec<Duration> = writes.buffer_unordered(CONNECTIONS).try_collect().await?;
        let written = begun.elapsed();
        let bindings = Api::<RoleBinding>::namespaced(self.raw.clone(), TEAM);
        let made = bindings.list(&ListParams::default().labels(OURS)).await?.items;
        let deletes = made.iter().map(|binding| {
            let only_this = DeleteParams::default().preconditions(Preconditions {
                uid: binding.uid(),
                resource_version: None,
            });
            let (bindings, name) = (&bindings, binding.name_any());
            async move { bindings.delete(&name, &only_this).await }
        });
        try_join_all(deletes).await?;
        self.operator.resume()?;
        self.raw_grants_are_over().await?;
        Ok((written, self.last_deletions()?))
    }

    /// The operator ends what was written in its name; that is not to be measured.
    async fn raw_grants_are_over(&self) -> Outcome<()> {
        let grants = Api::<AccessGrant>::all(self.admin()?);
        let begun = Instant::now();
        loop {
            let grants = grants.list(&ListParams::default()).await?.items;
            let requests = self.requests()?.list(&ListParams::default()).await?.items;
            let is_over = |request: &AccessRequest| phase(request).is_some_and(RequestPhase::is_final);
            if grants.iter().all(curfew::core::grant::has_ended) && requests.iter().all(is_over) {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(120) {
                return Err("the raw grants haven't ended after two minutes".into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Approved requests, on which the operator, frozen from here on, hasn't written its seal.
    async fn approved(&self, prefix: &str, count: usize) -> Outcome<Vec<AccessRequest>> {
        let names: Vec<String> = (0..count).map(|number| format!("{prefix}{number}")).collect();
        let offered = stream::iter(&names).map(|name| self.offered(name, "1h"));
        let _: Vec<()> = offered.buffer_unordered(CONNECTIONS).try_collect().await?;
        let bob = self.bob.client()?;
        self.operator.pause()?;
        let approvals = stream::iter(&names).map(|name| self.approve(&bob, name));
        let approved = approvals.buffer_unordered(CONNECTIONS).try_collect();
        approved.await
    }

    async fn place(&self) -> Outcome<Place> {
        let namespace = Api::<Namespace>::all(self.admin()?).get(TEAM).await?;
        let addresses = Api::<IPAddress>::all(self.admin()?)
            .list(&ListParams::default())
            .await?;
        Ok(Place {
            sealed: self.sample.clone(),
            namespace_uid: namespace.uid().unwrap_or_default(),
            owner: addresses.items.into_iter().next().ok_or("there is no IPAddress")?,
        })
    }

    /// A grant, a status and a binding as the operator writes them, and how long the three took.
    async fn three_writes(&self, mut request: AccessRequest, place: &Place) -> Outcome<Duration> {
        let name = request.name_any();
        let as_operator = Api::<AccessRequest>::namespaced(self.raw.clone(), TEAM);
        let grants = Api::<AccessGrant>::all(self.raw.clone());
        let bindings = Api::<RoleBinding>::namespaced(self.raw.clone(), TEAM);
        let grant = serde_json::from_value(raw_grant(&name, &place.namespace_uid))?;
        let offer = request.status.and_then(|status| status.offer);
        let mut status = AccessRequestStatus {
            offer,
            ..place.sealed.clone()
        };

        let begun = Instant::now();
        let grant = grants.create(&PostParams::default(), &grant).await?;
        status.seal = Some(Seal {
            grant: name.clone(),
            uid: grant.uid().unwrap_or_default(),
        });
        request.status = Some(status);
        as_operator
            .replace_status(&name, &PostParams::default(), &request)
            .await?;
        bindings
            .create(
                &PostParams::default(),
                &serde_json::from_value(raw_binding(&grant, &place.owner))?,
            )
            .await?;
        Ok(begun.elapsed())
    }

    // ---- the product ----

    /// Grants one after the other: approval to binding, and deadline to deletion.
    async fn alone(&self, turn: usize) -> Outcome<(Vec<Duration>, Vec<Duration>)> {
        let (prefix, mut times) = (format!("alone-{turn}-"), vec![]);
        for number in 0..ALONE {
            let name = format!("{prefix}{number}");
            // So long that none ends before the last has begun.
            self.offered(&name, "15s").await?;
            let mut bindings = Box::pin(self.bindings_that(true).await?);
            self.approve(&self.bob.client()?, &name).await?;
            let begun = Instant::now();
            bindings.next().await;
            times.push(begun.elapsed());
            // What is still to be told of one isn't part of the next.
            self.is_in(RequestPhase::Active, &name).await?;
        }
        self.all_in(RequestPhase::Expired, &prefix).await?;
        Ok((times, self.lags(&prefix).await?))
    }

    /// Many at once: until all are bound, and each one's deadline to deletion.
    async fn together(&self, turn: usize) -> Outcome<(Duration, Vec<Duration>)> {
        let prefix = format!("together-{turn}-");
        let took = self.bound_together(&prefix, BRIEF).await?;
        self.all_in(RequestPhase::Expired, &prefix).await?;
        Ok((took, self.lags(&prefix).await?))
    }

    /// Many that are overdue when the operator, frozen across their deadlines, goes on: from its first deletion to its last.
    async fn overdue(&self, turn: usize) -> Outcome<Duration> {
        let prefix = format!("overdue-{turn}-");
        self.bound_together(&prefix, 2 * BRIEF).await?;
        // What is still to be told of their beginning isn't part of their end.
        self.all_in(RequestPhase::Active, &prefix).await?;
        let mut deleted = Box::pin(self.bindings_that(false).await?);
        self.operator.pause()?;
        tokio::time::sleep(2 * BRIEF).await;
        self.operator.resume()?;
        for _ in 0..TOGETHER {
            deleted.next().await;
        }
        self.all_in(RequestPhase::Expired, &prefix).await?;
        self.last_deletions()
    }

    /// How long it took until many, approved while the operator was frozen, were bound.
    async fn bound_together(&self, prefix: &str, lasting: Duration) -> Outcome<Duration> {
        let names: Vec<String> = (0..TOGETHER).map(|number| format!("{prefix}{number}")).collect();
        let duration = format!("{}s", lasting.as_secs());
        let offered = stream::iter(&names).map(|name| self.offered(name, &duration));
        let _: Vec<()> = offered.buffer_unordered(CONNECTIONS).try_collect().await?;
        let bob = self.bob.client()?;
        // Frozen while all are approved: then it has all of them to do at once.
        self.operator.pause()?;
        let approvals = stream::iter(&names).map(|name| self.approve(&bob, name));
        let _: Vec<AccessRequest> = approvals.buffer_unordered(CONNECTIONS).try_collect().await?;
        let mut made = Box::pin(self.bindings_that(true).await?);
        self.operator.resume()?;
        let begun = Instant::now();
        for _ in 0..TOGETHER {
            made.next().await;
        }
        Ok(begun.elapsed())
    }

    async fn offered(&self, name: &str, duration: &str) -> Outcome<()> {
        Api::<AccessRequest>::namespaced(self.alice.client()?, TEAM)
            .create(&PostParams::default(), &ask(name, duration)?)
            .await?;
        let has_offer = |request: Option<&AccessRequest>| {
            request
                .and_then(|request| request.status.as_ref())
                .is_some_and(|status| status.offer.is_some())
        };
        tokio::time::timeout(
            Duration::from_secs(60),
            await_condition(self.requests()?, name, has_offer),
        )
        .await??;
        Ok(())
    }

    async fn approve(&self, bob: &Client, name: &str) -> Outcome<AccessRequest> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"curfew.dev/decision": "approve"}}}));
        let requests = Api::<AccessRequest>::namespaced(bob.clone(), TEAM);
        Ok(requests.patch(name, &PatchParams::default(), &patch).await?)
    }

    fn requests(&self) -> Outcome<Api<AccessRequest>> {
        Ok(Api::namespaced(self.admin()?, TEAM))
    }

    /// Bindings of Curfew that are made (or deleted) from now on.
    async fn bindings_that(&self, are_made: bool) -> Outcome<impl futures::Stream<Item = RoleBinding>> {
        let bindings = Api::<RoleBinding>::namespaced(self.admin()?, TEAM);
        let now = bindings
            .list_metadata(&ListParams::default().limit(1))
            .await?
            .metadata
            .resource_version
            .unwrap_or_default();
        let events = bindings.watch(&WatchParams::default().labels(OURS), &now).await?;
        Ok(events.filter_map(move |event| {
            std::future::ready(match event {
                Ok(WatchEvent::Added(binding)) if are_made => Some(binding),
                Ok(WatchEvent::Deleted(binding)) if !are_made => Some(binding),
                _ => None,
            })
        }))
    }

    async fn is_in(&self, phase: RequestPhase, name: &str) -> Outcome<()> {
        let is_there =
            |request: Option<&AccessRequest>| request.and_then(|request| request.status.as_ref()?.phase) == Some(phase);
        let waiting = await_condition(self.requests()?, name, is_there);
        tokio::time::timeout(Duration::from_secs(60), waiting).await??;
        Ok(())
    }

    async fn all_in(&self, phase: RequestPhase, prefix: &str) -> Outcome<()> {
        let requests = self.requests()?;
        let begun = Instant::now();
        loop {
            let all = requests.list(&ListParams::default()).await?.items;
            let waiting = all
                .iter()
                .filter(|request| request.name_any().starts_with(prefix) && self::phase(request) != Some(phase))
                .count();
            if waiting == 0 {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(120) {
                return Err(format!("{waiting} requests are not {phase:?} after two minutes").into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// How long the last so many deletions of bindings took together, by the API server's audit log.
    fn last_deletions(&self) -> Outcome<Duration> {
        let mut deletions: Vec<_> = self
            .cluster
            .audit_log()?
            .into_iter()
            .filter(|event| event.verb == "delete" && event.resource == "rolebindings" && event.code == 200)
            .collect();
        deletions.sort_by_key(|event| event.received);
        let last = deletions.iter().rev().take(TOGETHER);
        let (first, last) = (
            last.clone().map(|event| event.received).min(),
            last.map(|event| event.finished).max(),
        );
        let (first, last) = first.zip(last).ok_or("no binding was deleted")?;
        Ok(Duration::try_from(last - first)?)
    }

    /// From each deadline to the answer to the binding's DELETE, by the API server's audit log.
    async fn lags(&self, prefix: &str) -> Outcome<Vec<Duration>> {
        let grants = Api::<AccessGrant>::all(self.admin()?)
            .list(&ListParams::default())
            .await?
            .items;
        let deleted: HashMap<String, i64> = self
            .cluster
            .audit_log()?
            .into_iter()
            .filter(|event| event.verb == "delete" && event.resource == "rolebindings" && event.code == 200)
            .map(|event| (event.name, event.finished.as_millisecond()))
            .collect();
        let lags = grants
            .iter()
            .filter(|grant| grant.spec.request.name.starts_with(prefix))
            .filter_map(|grant| {
                let binding = grant.status.as_ref()?.bindings.first()?;
                let expires = time::from_kubernetes(grant.status.as_ref()?.expires_at.as_ref()?)?;
                Some(Duration::from_millis(
                    u64::try_from(deleted.get(&binding.name)? - expires.timestamp_millis()).unwrap_or(0),
                ))
            });
        Ok(lags.collect())
    }
}

fn phase(request: &AccessRequest) -> Option<RequestPhase> {
    request.status.as_ref().and_then(|status| status.phase)
}

fn ask(name: &str, duration: &str) -> Outcome<AccessRequest> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "curfew.dev/v1alpha1", "kind": "AccessRequest", "metadata": {"name": name, "namespace": TEAM},
        "spec": {"role": {"kind": "ClusterRole", "name": "bench-reader"}, "duration": duration, "reason": "a benchmark"},
    }))?)
}

fn raw_grant(name: &str, namespace_uid: &str) -> Value {
    let digest = "0".repeat(64);
    json!({
        "apiVersion": "curfew.dev/v1alpha1", "kind": "AccessGrant", "metadata": {"name": name},
        "spec": {
            "request": {"namespace": TEAM, "name": name, "uid": name}, "requester": {"username": "alice", "uid": "", "groups": ["dev", "system:authenticated"]},
            "subject": {"kind": "User", "name": "alice"}, "duration": "1h", "offer": digest, "revokers": {"groups": ["sre"]}, "reason": "a benchmark",
            "role": {"kind": "ClusterRole", "name": "bench-reader", "uid": name, "rulesDigest": digest, "onChange": "Revoke"},
            "targets": [{"namespace": TEAM, "uid": namespace_uid}], "policy": {"name": "bench", "uid": name, "digest": digest, "onChange": "Keep"},
            "decisions": [{"verdict": "Approve", "username": "bob", "uid": "", "via": ["lead/Group:sre"], "offer": digest, "direct": true}],
        },
    })
}

/// Owned as the operator's are: by an IPAddress. An owner of a kind that was just defined would keep the garbage collector busy.
fn raw_binding(grant: &AccessGrant, owner: &IPAddress) -> Value {
    let uid = grant.uid().unwrap_or_default();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {
            "name": format!("curfew-{uid}"), "namespace": TEAM, "labels": {"curfew.dev/grant-uid": uid},
            "ownerReferences": [{"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "name": owner.name_any(), "uid": owner.uid()}],
        },
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "bench-reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    })
}

fn report(what: &str, times: &[Duration], raw: Option<&[Duration]>) {
    let ratio = raw
        .map(|raw| {
            format!(
                ", p50 is {:.2} of raw",
                at(times, 50).as_secs_f64() / at(raw, 50).as_secs_f64()
            )
        })
        .unwrap_or_default();
    println!(
        "{what}: p50 {:.1} ms, p95 {:.1} ms, max {:.1} ms of {}{ratio}",
        millis(at(times, 50)),
        millis(at(times, 95)),
        millis(at(times, 100)),
        times.len()
    );
}

fn at(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted
        .get((sorted.len().saturating_sub(1)) * percent / 100)
        .copied()
        .unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
