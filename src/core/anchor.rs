//! The anchor: what kube-controller-manager alone takes away at the deadline, with every binding that hangs on it, operator or not.
//!
//! A Job that never runs a pod and fails at its deadline owns a Service; the Service's cluster IP is a cluster-scoped IPAddress, and that owns bindings in
//! any namespace. One anchor serves all grants that end within a minute. What an anchor must look like stands here, and whether one found may be trusted;
//! making and reading them is not this module's matter.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, NaiveDateTime, Utc};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::IPAddress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::{GrantAnchor, marks, time};

/// An anchor ends at least so long after the deadlines that hang on it: between choosing it and creating the grant some time passes.
const MARGIN: chrono::Duration = chrono::Duration::seconds(5);
/// By so much an anchor may end sooner than it should: less than [`MARGIN`], so that it ends no access before its deadline.
const EARLY: chrono::Duration = chrono::Duration::seconds(4);
/// By so much it may end later: the Job's clock starts when kube-controller-manager first sees it.
const LATE: chrono::Duration = chrono::Duration::seconds(5);
/// Everything of an anchor must be gone so long after its end; if it isn't, kube-controller-manager doesn't do its part, and no anchor is to be trusted.
pub const GRACE: chrono::Duration = chrono::Duration::seconds(30);

const FORMAT: &str = "%Y%m%dt%H%Mz";

/// The end of a minute: what names an anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Until(DateTime<Utc>);

impl Until {
    /// The first end of a minute that serves this deadline. `None` beyond the end of time.
    pub fn serving(deadline: DateTime<Utc>) -> Option<Self> {
        let minute = chrono::Duration::minutes(1);
        let soonest = deadline.checked_add_signed(MARGIN)?;
        let begun = soonest.duration_trunc(minute).ok()?;
        Some(Self(if begun < soonest {
            begun.checked_add_signed(minute)?
        } else {
            begun
        }))
    }

    /// The moment.
    pub fn moment(self) -> DateTime<Utc> {
        self.0
    }

    /// The name of its Job and its Service.
    pub fn name(self) -> String {
        format!("{}{}", marks::ANCHOR_PREFIX, self.0.format(FORMAT))
    }

    /// What an anchor of that name is until.
    pub fn named(name: &str) -> Option<Self> {
        let written = name.strip_prefix(marks::ANCHOR_PREFIX)?;
        Some(Self(NaiveDateTime::parse_from_str(written, FORMAT).ok()?.and_utc()))
    }
}

// ---- what it looks like --------------------------------------------------------------------------------------------

fn metadata(until: Until) -> ObjectMeta {
    ObjectMeta {
        name: Some(until.name()),
        labels: Some(BTreeMap::from([
            (marks::ANCHOR.to_owned(), "true".to_owned()),
            ("app.kubernetes.io/managed-by".to_owned(), "curfew".to_owned()),
        ])),
        annotations: Some(BTreeMap::from([(marks::DEADLINE.to_owned(), time::written(until.0))])),
        ..ObjectMeta::default()
    }
}

/// The Job, to be created now.
pub fn job(until: Until, now: DateTime<Utc>) -> Job {
    let never = Container {
        name: "never".into(),
        // No pod is ever made. Should somebody's admission change that, there is nothing to run.
        image: Some("never.invalid/run".into()),
        ..Container::default()
    };
    Job {
        metadata: metadata(until),
        spec: Some(JobSpec {
            parallelism: Some(0),
            completions: Some(1),
            backoff_limit: Some(0),
            active_deadline_seconds: Some((until.0 - now).num_seconds().max(1)),
            ttl_seconds_after_finished: Some(0),
            template: PodTemplateSpec {
                metadata: None,
                spec: Some(PodSpec {
                    containers: vec![never],
                    restart_policy: Some("Never".into()),
                    automount_service_account_token: Some(false),
                    ..PodSpec::default()
                }),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// The Service that such a Job owns.
pub fn service(until: Until, job_uid: &str) -> Service {
    Service {
        metadata: ObjectMeta {
            owner_references: Some(vec![owner("batch/v1", "Job", until.name(), job_uid)]),
            ..metadata(until)
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            ports: Some(vec![ServicePort {
                port: 9,
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// What a binding that hangs on `anchor` names as its one owner.
pub fn owner_of_bindings(anchor: &GrantAnchor) -> OwnerReference {
    owner(
        "networking.k8s.io/v1",
        "IPAddress",
        anchor.address.clone(),
        &anchor.address_uid,
    )
}

fn owner(api_version: &str, kind: &str, name: String, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: api_version.into(),
        kind: kind.into(),
        name,
        uid: uid.into(),
        ..OwnerReference::default()
    }
}

// ---- whether it may be trusted -------------------------------------------------------------------------------------

/// How a Job found stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// As it should be, and its clock doesn't run yet.
    NotStarted,
    /// As it should be, and its clock runs.
    Armed,
    /// It can't be trusted, in one phrase.
    Broken(&'static str),
}

/// Whether the Job will be gone when it should.
pub fn judge_job(job: &Job, until: Until) -> JobState {
    if let Some(held) = held(&job.metadata) {
        return JobState::Broken(held);
    }
    let Some(spec) = &job.spec else {
        return JobState::Broken("its Job has no spec");
    };
    if job
        .metadata
        .owner_references
        .as_ref()
        .is_some_and(|owners| !owners.is_empty())
    {
        return JobState::Broken("its Job was given an owner");
    }
    if spec.suspend == Some(true) {
        return JobState::Broken("its Job is suspended");
    }
    if spec.managed_by.is_some() {
        return JobState::Broken("its Job is left to another controller");
    }
    if spec.parallelism != Some(0) || spec.ttl_seconds_after_finished != Some(0) {
        return JobState::Broken("its Job was changed");
    }
    let Some(length) = spec.active_deadline_seconds.and_then(chrono::Duration::try_seconds) else {
        return JobState::Broken("its Job has no deadline");
    };
    let started = job.status.as_ref().and_then(|status| status.start_time.as_ref());
    let Some(started) = started.and_then(time::from_kubernetes) else {
        return JobState::NotStarted;
    };
    match started.checked_add_signed(length) {
        Some(end) if end < until.0 - EARLY => JobState::Broken("its Job would end too soon"),
        Some(end) if end <= until.0 + LATE => JobState::Armed,
        _ => JobState::Broken("its Job would end too late"),
    }
}

/// The cluster IP of a Service that will be gone when its Job is.
///
/// # Errors
/// Why it can't be trusted, in one phrase.
pub fn judge_service(service: &Service, job_uid: &str) -> Result<String, &'static str> {
    if let Some(held) = held(&service.metadata) {
        return Err(held);
    }
    let owned = service.metadata.owner_references.as_deref().unwrap_or_default();
    let [owner] = owned else {
        return Err("its Service has not exactly one owner");
    };
    if owner.uid != job_uid || owner.kind != "Job" {
        return Err("its Service belongs to another");
    }
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() != Some("ClusterIP") {
        return Err("its Service was changed");
    }
    match spec.cluster_ip {
        Some(address) if !address.is_empty() && address != "None" => Ok(address),
        _ => Err("its Service has no cluster IP"),
    }
}

/// Why an IPAddress can't be trusted to be gone when its Service is, in one phrase.
pub fn judge_address(address: &IPAddress, service: &Service) -> Option<&'static str> {
    if let Some(held) = held(&address.metadata) {
        return Some(held);
    }
    let parent = address.spec.as_ref().map(|spec| &spec.parent_ref);
    let is_of_service = parent.is_some_and(|parent| {
        parent.resource == "services"
            && Some(&parent.name) == service.metadata.name.as_ref()
            && parent.namespace == service.metadata.namespace
    });
    (!is_of_service).then_some("its IPAddress belongs to another")
}

/// What keeps an object from being taken away when it should, or is taking it away already.
fn held(metadata: &ObjectMeta) -> Option<&'static str> {
    if metadata.deletion_timestamp.is_some() {
        Some("it is being deleted")
    } else if metadata.finalizers.as_ref().is_some_and(|held| !held.is_empty()) {
        Some("somebody put a finalizer on it")
    } else {
        None
    }
}

/// Whether a grant with this deadline may hang on that anchor: it says when it ends, and that is not before the deadline, nor long after.
pub fn serves(anchor: &GrantAnchor, deadline: DateTime<Utc>) -> bool {
    let GrantAnchor {
        name,
        job_uid: _,
        address: _,
        address_uid: _,
        ends_at,
    } = anchor;
    // It was chosen a moment before the grant was created, and the two clocks may differ a little.
    let latest = deadline.checked_add_signed(chrono::Duration::minutes(1) + GRACE);
    Until::named(name).is_some_and(|until| {
        time::from_kubernetes(ends_at) == Some(until.0)
            && deadline <= until.0
            && latest.is_none_or(|latest| until.0 <= latest)
    })
}

/// An anchor as it is now, as far as it can change while grants hang on it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The Job of its name.
    pub job: Option<Job>,
    /// The Service of its name.
    pub service: Option<Service>,
}

/// Whether what hung on an anchor that is still there went in time, so that something only holds its Job: anybody's object can, by naming it as its owner.
pub fn did_its_part(seen: &Seen) -> bool {
    let Seen { job, service } = seen;
    let is_going = |job: &Job| job.metadata.deletion_timestamp.is_some();
    service.is_none() && job.as_ref().is_none_or(is_going)
}

/// Why the anchor of a grant no longer ends it, in one phrase.
pub fn broken(anchor: &GrantAnchor, seen: &Seen) -> Option<&'static str> {
    let GrantAnchor {
        name,
        job_uid,
        address,
        address_uid: _,
        ends_at: _,
    } = anchor;
    let Seen { job, service } = seen;
    let Some(until) = Until::named(name) else {
        return Some("its name says nothing");
    };
    let Some(job) = job.as_ref().filter(|job| job.metadata.uid.as_deref() == Some(job_uid)) else {
        return Some("its Job is gone");
    };
    match judge_job(job, until) {
        JobState::Armed => {}
        JobState::NotStarted => return Some("its Job's clock was stopped"),
        JobState::Broken(how) => return Some(how),
    }
    let Some(service) = service else {
        return Some("its Service is gone");
    };
    match judge_service(service, job_uid) {
        Ok(now) if now == *address => None,
        Ok(_) => Some("its Service has another cluster IP"),
        Err(how) => Some(how),
    }
}

// ---- how long it is kept -------------------------------------------------------------------------------------------

/// What is to be done with an anchor that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Leave it, and look again at this moment.
    Keep {
        /// When it is idle for long, or should be gone.
        until: DateTime<Utc>,
    },
    /// Nothing hangs on it, and has not for a while: take it away.
    Idle,
    /// Nothing hangs on it, and nothing ever will, for it can't be trusted: take it away, so that another can be made.
    Unfit,
    /// It should be gone by now, and this process learns so only now: it may have been paused or cut off, and so may kube-controller-manager. Look again
    /// after another [`GRACE`].
    Overdue,
    /// It is still there: kube-controller-manager doesn't do its part, unless something holds the Job alone. Take it away.
    Stale,
}

/// Nothing must have hung on an anchor for so long before it is taken away.
pub const IDLE: chrono::Duration = chrono::Duration::minutes(2);

/// What is to be done with the anchor of this Job. `hangs`: whether a grant that lasts hangs on it. `used`: when something last hung on it or was about to, if
/// anything ever did. `overdue`: since when this process knows that it should be gone.
pub fn upkeep(
    job: &Job,
    until: Until,
    hangs: bool,
    used: Option<DateTime<Utc>>,
    overdue: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Upkeep {
    if until.0 + GRACE <= now {
        return match overdue.map(|since| since + GRACE) {
            None => Upkeep::Overdue,
            Some(until) if now < until => Upkeep::Keep { until },
            Some(_) => Upkeep::Stale,
        };
    }
    // Past its end it is kube-controller-manager's to take away, which may come a few seconds sooner.
    let is_going = job.metadata.deletion_timestamp.is_some();
    if now < until.0 && !hangs && !is_going && matches!(judge_job(job, until), JobState::Broken(_)) {
        return Upkeep::Unfit;
    }
    let created = job.metadata.creation_timestamp.as_ref().and_then(time::from_kubernetes);
    let idle_at = used.max(created).unwrap_or(now) + IDLE;
    if idle_at <= now {
        Upkeep::Idle
    } else {
        Upkeep::Keep {
            until: idle_at.min(until.0 + GRACE),
        }
    }
}

#[cfg(test)]
mod tests;
