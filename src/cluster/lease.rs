//! The Lease that one replica holds, and whoever holds it grants. Asked before anything is given; never on the way to an end.
//!
//! What is to be done and who may grant is decided by `core::lease`; here it is carried out, by the monotonic clock. A Lease that can't be read or written
//! stops granting after a while, and nothing else. Between the last asking and the write itself a process can be stopped for any time, so this alone doesn't
//! keep two from writing: that an access is given once rests on names, uids and resource versions, as everything does.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::call::{CallError, call, call_within, find_within};
use super::clock::Clock;
use crate::api::time;
use crate::core::lease::{Candidate, DURATION, Moment, Step};

/// The Lease's name, in the operator's own namespace. The chart gives the right to write this one.
pub const NAME: &str = "curfew";
/// How long one call for it may take: a renewal must have time to fail and be tried again.
const LIMIT: Duration = Duration::from_secs(3);

/// Whether this replica is the one that grants.
#[derive(Debug)]
pub struct Leadership {
    identity: String,
    epoch: Instant,
    candidate: Mutex<Candidate>,
    /// Counts how often this replica began to grant.
    begun: watch::Sender<u64>,
}

impl Leadership {
    /// Of a replica that doesn't grant yet. No other process that runs has the same identity; an earlier one that has ended may have had it.
    pub fn new(identity: String) -> Self {
        Self {
            candidate: Mutex::new(Candidate::new(identity.clone())),
            identity,
            epoch: Instant::now(),
            begun: watch::Sender::new(0),
        }
    }

    /// Of a process that takes the Lease at once so that nobody grants any more, itself included.
    pub fn uninstalling(identity: &str) -> Self {
        let candidate = Candidate::uninstalling(identity);
        Self {
            identity: candidate.identity().to_owned(),
            candidate: Mutex::new(candidate),
            ..Self::new(String::new())
        }
    }

    /// Whether this replica may grant now.
    pub fn leads(&self) -> bool {
        self.candidate(|candidate, now| candidate.may_grant(now))
    }

    /// As [`call`], for what is part of granting: only if this replica may grant, and no longer than it may.
    ///
    /// # Errors
    /// [`CallError::NotLeading`] if it may not, or not long enough: then the call may have taken effect all the same. Otherwise as [`call`].
    pub async fn granting<T>(
        &self,
        what: &'static str,
        future: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, CallError> {
        let until = self.candidate(|candidate, now| candidate.grants_until().filter(|until| now < *until));
        let Some(until) = until else {
            return Err(CallError::NotLeading { what });
        };
        match timeout_at(self.epoch + until, call(what, future)).await {
            Ok(done) => done,
            Err(_) => Err(CallError::NotLeading { what }),
        }
    }

    /// Tells whenever this replica begins to grant.
    pub fn beginnings(&self) -> watch::Receiver<u64> {
        self.begun.subscribe()
    }

    fn candidate<T>(&self, with: impl FnOnce(&mut Candidate, Moment) -> T) -> T {
        let mut candidate = self.candidate.lock().unwrap_or_else(PoisonError::into_inner);
        with(&mut candidate, self.epoch.elapsed())
    }
}

/// One replica's part in the election.
pub struct Election<'a> {
    leadership: &'a Leadership,
    leases: Api<Lease>,
    clock: Clock,
    /// As it was seen last: what others have put on it is kept.
    lease: Lease,
    /// What was said last of who grants.
    said: Option<String>,
    /// Whether the last call failed: an outage is said once.
    is_out_of_reach: bool,
}

impl<'a> Election<'a> {
    /// In which `leadership` is sought, by way of the Lease in `leases`' namespace. The clock's time is written into it for people and read by nobody.
    pub fn new(leadership: &'a Leadership, leases: Api<Lease>, clock: Clock) -> Self {
        Self {
            leadership,
            leases,
            clock,
            lease: Lease::default(),
            said: None,
            is_out_of_reach: false,
        }
    }

    /// Takes part, for ever.
    pub async fn run(&mut self) -> &'static str {
        loop {
            match self.leadership.candidate(|candidate, now| candidate.step(now)) {
                Step::Wait(until) => sleep_until(self.leadership.epoch + until).await,
                Step::Look => self.look().await,
                Step::Write { version } => self.write(version).await,
            }
            self.say();
        }
    }

    /// Grants nothing from now on, and lets the next one grant at once. Only after what was begun is finished.
    pub async fn give_up(mut self) {
        if !self.leadership.candidate(|candidate, _| candidate.give_up()) {
            return;
        }
        // A renewal may have been under way, so that the version is another.
        for _ in 0..2 {
            let mut spec = self.lease.spec.clone().unwrap_or_default();
            spec.holder_identity = None;
            spec.renew_time = Some(self.now());
            match self.replace(spec).await {
                Err(error) if error.is_conflict() => self.look().await,
                Err(error) => {
                    return tracing::warn!(%error, "the Lease could not be given up; another replica waits for its end");
                }
                Ok(_) => return tracing::info!("the Lease is given up; another replica may grant"),
            }
            if self.holder() != Some(&self.leadership.identity) {
                return;
            }
        }
    }

    async fn look(&mut self) {
        match find_within(LIMIT, "reading the Lease", self.leases.get(NAME)).await {
            Ok(Some(lease)) => {
                self.is_out_of_reach = false;
                self.lease = lease;
                let (version, holder) = (self.version(), self.holder().map(str::to_owned));
                self.leadership
                    .candidate(|candidate, now| candidate.saw(version, holder, now));
            }
            Ok(None) => {
                self.is_out_of_reach = false;
                self.lease = Lease::default();
                self.leadership.candidate(Candidate::saw_none);
            }
            Err(error) => self.failed(&error),
        }
    }

    async fn write(&mut self, version: Option<String>) {
        let spec = self.spec();
        let (begun, was_there) = (self.leadership.epoch.elapsed(), version.is_some());
        let written = match version {
            Some(_) => self.replace(spec).await,
            None => self.create(spec).await,
        };
        match written {
            Ok(lease) => {
                self.is_out_of_reach = false;
                self.lease = lease;
                let version = self.version();
                let has_begun = self.leadership.candidate(|candidate, now| {
                    let did = candidate.may_grant(now);
                    candidate.wrote(version, begun, now);
                    !did && candidate.may_grant(now)
                });
                if has_begun {
                    self.leadership.begun.send_modify(|times| *times += 1);
                }
            }
            Err(error) if error.is_conflict() || error.is_already_exists() || (was_there && error.is_not_found()) => {
                self.leadership.candidate(Candidate::was_overtaken);
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &CallError) {
        if !std::mem::replace(&mut self.is_out_of_reach, true) {
            tracing::warn!(%error, "the Lease can't be reached, it is tried on; access goes on ending on time");
        }
        self.leadership.candidate(Candidate::failed);
    }

    async fn create(&self, spec: LeaseSpec) -> Result<Lease, CallError> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        let how = PostParams::default();
        call_within(LIMIT, "creating the Lease", self.leases.create(&how, &lease)).await
    }

    /// Always at the version that was seen: whatever was written in between is a conflict.
    async fn replace(&self, spec: LeaseSpec) -> Result<Lease, CallError> {
        let lease = Lease {
            spec: Some(spec),
            ..self.lease.clone()
        };
        let how = PostParams::default();
        call_within(LIMIT, "writing the Lease", self.leases.replace(NAME, &how, &lease)).await
    }

    /// The Lease with this replica as its holder, and what else people and tools expect to find there.
    fn spec(&self) -> LeaseSpec {
        let before = self.lease.spec.clone().unwrap_or_default();
        let now = self.now();
        let is_mine = self.holder() == Some(&self.leadership.identity);
        LeaseSpec {
            acquire_time: before.acquire_time.filter(|_| is_mine).or_else(|| Some(now.clone())),
            holder_identity: Some(self.leadership.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: Some(
                before
                    .lease_transitions
                    .map_or(0, |times| times.saturating_add(i32::from(!is_mine))),
            ),
            renew_time: Some(now),
            ..before
        }
    }

    fn now(&self) -> MicroTime {
        time::to_micro(self.clock.now())
    }

    fn version(&self) -> String {
        self.lease.resource_version().unwrap_or_default()
    }

    fn holder(&self) -> Option<&str> {
        self.lease
            .spec
            .as_ref()?
            .holder_identity
            .as_deref()
            .filter(|holder| !holder.is_empty())
    }

    /// Says who grants whenever that has changed.
    fn say(&mut self) {
        let (leads, other) = self
            .leadership
            .candidate(|candidate, now| (candidate.may_grant(now), candidate.other_holder().map(str::to_owned)));
        let now = match other {
            _ if leads => "this replica grants".to_owned(),
            Some(other) => format!("replica {other:?} grants, this one ends access only"),
            None => "no replica is known to grant; this one ends access only".to_owned(),
        };
        if self.said.as_ref() != Some(&now) {
            tracing::info!(identity = self.leadership.identity, "{now}");
            self.said = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    /// What is part of granting goes on for as long as the Lease is this replica's for certain, and then nothing more begins.
    #[tokio::test(start_paused = true)]
    async fn what_gives_access_is_dropped_when_the_lease_may_be_anothers_and_is_not_begun_after_that() {
        let leadership = Leadership::new("this".to_owned());
        let (begun, is_asked) = (Instant::now(), AtomicBool::new(false));
        let asking = async || {
            let asked = async {
                is_asked.store(true, Relaxed);
                std::future::pending::<kube::Result<()>>().await
            };
            let error = leadership.granting("giving", asked).await.unwrap_err();
            (
                error.is_not_leading(),
                is_asked.swap(false, Relaxed),
                begun.elapsed().as_secs(),
            )
        };
        assert_eq!(asking().await, (true, false, 0), "it never led");
        leadership.candidate(|candidate, now| {
            candidate.saw_none(now);
            candidate.wrote("1".to_owned(), now, now);
        });
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(asking().await, (true, true, 10));
        assert_eq!(asking().await, (true, false, 10));
    }
}
