//! Makes anchors, reads them back, and takes them away. What an anchor must look like is the core's matter.
//!
//! An anchor that can't be had is an answer, not an error: the policy says what then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;
use kube::api::PostParams;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::call::{CallError, call, find, find_named, only_this};
use super::together::Together;
use crate::api::{GrantAnchor, time};
use crate::core::anchor::{self, JobState, Seen, Until, judge_address, judge_job, judge_service};

/// So many anchors are kept at once; each takes a cluster IP.
pub const LIMIT: usize = 120;
/// So long kube-controller-manager has to begin with a Job.
const START: Duration = Duration::from_secs(8);
/// The watches show what was made within so much at the soonest.
const SHOWN_SOON: Duration = Duration::from_millis(3);
/// What they haven't shown by then may have gone again.
const SHOWN_LATE: Duration = Duration::from_secs(1);
/// So long an anchor that couldn't be had is not tried again.
pub const AGAIN: chrono::Duration = chrono::Duration::seconds(10);
/// So long no anchor is trusted after one that kube-controller-manager didn't take away.
const DISTRUST: chrono::Duration = chrono::Duration::minutes(10);

/// Why no anchor can be had, in one phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnchor(pub String);

/// Anchors in the operator's own namespace.
#[derive(Clone)]
pub struct Anchors(Arc<Inner>);

struct Inner {
    client: Client,
    namespace: String,
    jobs: Store<Job>,
    services: Store<Service>,
    arming: Together<Until, Result<GrantAnchor, NoAnchor>>,
    memory: Mutex<Memory>,
}

/// How arming an anchor went.
#[derive(Clone)]
struct Tried {
    begun: DateTime<Utc>,
    done: Instant,
    armed: Result<GrantAnchor, NoAnchor>,
}

#[derive(Default)]
struct Memory {
    /// What arming led to.
    tried: HashMap<Until, Tried>,
    /// When something last hung on an anchor, or was about to.
    used: HashMap<Until, DateTime<Utc>>,
    /// Since when it is known that an anchor should be gone.
    overdue: HashMap<Until, DateTime<Utc>>,
    /// Since when no anchor is trusted, and why.
    distrust: Option<(DateTime<Utc>, NoAnchor)>,
}

impl Anchors {
    /// Anchors in `namespace`, of which the watches show `jobs` and `services`.
    pub fn new(client: Client, namespace: String, jobs: Store<Job>, services: Store<Service>) -> Self {
        Self(Arc::new(Inner {
            client,
            namespace,
            jobs,
            services,
            arming: Together::default(),
            memory: Mutex::default(),
        }))
    }

    fn memory<T>(&self, look: impl FnOnce(&mut Memory) -> T) -> T {
        look(&mut self.0.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The anchor until then if it was armed and is as it was, or why it can't be had if that was found out just now. `None`: it must be armed first.
    pub fn at_hand(&self, until: Until, now: DateTime<Utc>) -> Option<Result<GrantAnchor, NoAnchor>> {
        let tried = self.memory(|memory| {
            memory.used.insert(until, now);
            match &memory.distrust {
                Some((since, why)) if now < *since + DISTRUST => Some((now, Err(why.clone()))),
                _ => memory.tried.get(&until).map(|tried| (tried.begun, tried.armed.clone())),
            }
        });
        match tried? {
            (_, Ok(anchor)) => anchor::broken(&anchor, &self.seen(&anchor.name))
                .is_none()
                .then_some(Ok(anchor)),
            (at, Err(why)) => (now < at + AGAIN).then_some(Err(why)),
        }
    }

    /// Since when an anchor that was armed a moment ago has not been at hand, because the watches haven't shown it yet; never less than a moment.
    pub fn unseen(&self, until: Until) -> Option<Duration> {
        let tried = self.memory(|memory| memory.tried.get(&until).cloned())?;
        let since = tried.done.elapsed().max(SHOWN_SOON);
        (tried.armed.is_ok() && since < SHOWN_LATE).then_some(since)
    }

    /// What the watches show of the anchor of that name.
    pub fn seen(&self, name: &str) -> Seen {
        let Inner {
            namespace,
            jobs,
            services,
            ..
        } = &*self.0;
        Seen {
            job: jobs
                .get(&ObjectRef::new(name).within(namespace))
                .map(|job| job.as_ref().clone()),
            service: services
                .get(&ObjectRef::new(name).within(namespace))
                .map(|service| service.as_ref().clone()),
        }
    }

    /// The anchor of that name, read afresh.
    ///
    /// # Errors
    /// When it couldn't be read; that there is none is an answer.
    pub async fn read(&self, name: &str) -> Result<Seen, CallError> {
        let (jobs, services) = (self.jobs(), self.services());
        let (job, service) = futures::try_join!(
            find_named("reading an anchor's Job", &jobs, name),
            find_named("reading an anchor's Service", &services, name)
        )?;
        Ok(Seen { job, service })
    }

    /// Makes the anchor until then, if it isn't there, and reads it back; many who need the same share it. What came of it is at hand afterwards.
    ///
    /// # Errors
    /// When a call failed and trying again may help.
    pub async fn arm(&self, until: Until, now: DateTime<Utc>) -> Result<(), CallError> {
        let this = self.clone();
        self.0
            .arming
            .ask(until, async move {
                // Whoever asked while another armed it finds it armed.
                if let Some(Ok(anchor)) = this.at_hand(until, now) {
                    return Ok(Ok(anchor));
                }
                let armed = match this.make(until, now).await {
                    Err(error) if error.may_pass() => return Err(error),
                    Err(error) => Err(refusal(&error)),
                    Ok(armed) => armed,
                };
                if let Err(NoAnchor(why)) = &armed {
                    tracing::warn!(anchor = until.name(), "no anchor can be had: {why}");
                }
                this.memory(|memory| {
                    memory.tried.retain(|until, _| now < until.moment());
                    memory.used.retain(|until, _| now < until.moment());
                    let tried = Tried {
                        begun: now,
                        done: Instant::now(),
                        armed: armed.clone(),
                    };
                    memory.tried.insert(until, tried)
                });
                Ok(armed)
            })
            .await
            .map(drop)
    }

    /// An anchor is used only after it was read back, and when its clock runs.
    async fn make(&self, until: Until, now: DateTime<Utc>) -> Result<Result<GrantAnchor, NoAnchor>, CallError> {
        let Some(job) = self.job(until, now).await? else {
            return Ok(Err(NoAnchor(format!("there are {LIMIT} anchors already"))));
        };
        let broken = |how: &str| Ok(Err(NoAnchor(format!("{}: {how}", until.name()))));
        let job = match judge_job(&job, until) {
            JobState::Armed => job,
            JobState::Broken(how) => return broken(how),
            JobState::NotStarted => match self.started(until).await {
                Some(job) => job,
                None => return broken("kube-controller-manager doesn't begin with its Job"),
            },
        };
        match judge_job(&job, until) {
            JobState::Armed => {}
            JobState::NotStarted => return broken("its Job's clock was stopped"),
            JobState::Broken(how) => return broken(how),
        }
        let job_uid = job.uid().unwrap_or_default();
        let service = create(&self.services(), &anchor::service(until, &job_uid), "anchor's Service").await?;
        let address = match judge_service(&service, &job_uid) {
            Ok(address) => address,
            Err(how) => return broken(how),
        };
        let addresses = Api::<IPAddress>::all(self.0.client.clone());
        let Some(found) = find("reading an anchor's IPAddress", addresses.get(&address)).await? else {
            return broken("there is no IPAddress of its cluster IP, which Kubernetes has from 1.33 on");
        };
        if let Some(how) = judge_address(&found, &service) {
            return broken(how);
        }
        Ok(Ok(GrantAnchor {
            name: until.name(),
            job_uid,
            address,
            address_uid: found.uid().unwrap_or_default(),
            ends_at: time::to_kubernetes(until.moment()),
        }))
    }

    /// The Job until then; created, unless there are too many.
    async fn job(&self, until: Until, now: DateTime<Utc>) -> Result<Option<Job>, CallError> {
        let jobs = self.jobs();
        if let Some(job) = find("reading an anchor's Job", jobs.get(&until.name())).await? {
            return Ok(Some(job));
        }
        if self.count() >= LIMIT {
            return Ok(None);
        }
        create(&jobs, &anchor::job(until, now), "anchor's Job").await.map(Some)
    }

    /// The Job once its clock runs.
    async fn started(&self, until: Until) -> Option<Job> {
        let runs = |job: Option<&Job>| job.is_none_or(|job| judge_job(job, until) != JobState::NotStarted);
        let name = until.name();
        let waited = tokio::time::timeout(START, await_condition(self.jobs(), &name, runs)).await;
        waited.ok()?.ok()?
    }

    /// Something that hung on this anchor went before its time, perhaps with a part of it that no watch shows: whoever is next reads it back first.
    pub fn doubt(&self, until: Until) {
        self.memory(|memory| memory.tried.remove(&until));
    }

    /// From now on no anchor is trusted for a while: this one should be gone.
    pub fn distrust(&self, until: Until, now: DateTime<Utc>) {
        let why = format!(
            "kube-controller-manager didn't take {} away in time; its Job, TTL or garbage collection controller doesn't work",
            until.name()
        );
        self.memory(|memory| memory.distrust = Some((now, NoAnchor(why))));
    }

    /// Something hangs on this anchor now.
    pub fn in_use(&self, until: Until, now: DateTime<Utc>) {
        self.memory(|memory| memory.used.insert(until, now));
    }

    /// When something last hung on this anchor, or was about to.
    pub fn last_used(&self, until: Until) -> Option<DateTime<Utc>> {
        self.memory(|memory| memory.used.get(&until).copied())
    }

    /// This anchor should be gone, and is still there.
    pub fn is_overdue(&self, until: Until, now: DateTime<Utc>) {
        self.memory(|memory| {
            memory.overdue.retain(|_, since| now < *since + DISTRUST);
            memory.overdue.insert(until, now)
        });
    }

    /// Since when it is known that this anchor should be gone.
    pub fn overdue_since(&self, until: Until) -> Option<DateTime<Utc>> {
        self.memory(|memory| memory.overdue.get(&until).copied())
    }

    /// Whether this one may be made ahead: those never take more than half, however many requests begin at different minutes. One that is there takes no room.
    pub fn have_room_ahead(&self, until: Until) -> bool {
        self.count() < LIMIT / 2 || self.seen(&until.name()).job.is_some()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.jobs.state().len()
    }

    /// Takes exactly this anchor away; the garbage collector does the rest.
    ///
    /// # Errors
    /// When the API server couldn't be asked, or refused.
    pub async fn remove(&self, job: &Job, until: Until) -> Result<(), CallError> {
        self.memory(|memory| {
            // What was found out to be in vain isn't tried again any sooner.
            memory
                .tried
                .retain(|other, tried| *other != until || tried.armed.is_err());
            memory.used.remove(&until);
            memory.overdue.remove(&until);
        });
        match call(
            "deleting an anchor's Job",
            self.jobs().delete(&job.name_any(), &only_this(job.uid(), None)),
        )
        .await
        {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            answer => answer.map(drop),
        }
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.0.client.clone(), &self.0.namespace)
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.0.client.clone(), &self.0.namespace)
    }
}

/// Creates an object, or finds the one that is there; which of the two doesn't matter, for it is judged all the same.
async fn create<K>(api: &Api<K>, object: &K, what: &'static str) -> Result<K, CallError>
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    match call(what, api.create(&PostParams::default(), object)).await {
        Err(error) if error.is_already_exists() => call(what, api.get(&object.name_any())).await,
        created => created,
    }
}

fn refusal(error: &CallError) -> NoAnchor {
    NoAnchor(error.quoted())
}

#[cfg(test)]
mod tests;
