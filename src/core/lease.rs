//! Which replica grants: the one that holds the Lease, and only while it is sure to. Ending access asks nothing of this.
//!
//! A moment is how long a clock has run that belongs to this process alone and only goes forward. Moments of two replicas are never compared, and no time
//! that somebody wrote into the Lease is read: what counts is when this replica saw it change.
//!
//! Why two never grant at once: a holder counts from before it sent its last renewal, and stops after [`VALID`]. Everybody else counts from after they saw
//! that renewal, and waits for [`DURATION`], which is longer by more than clocks differ in speed. Whatever was written in between is a conflict.

use std::time::Duration;

/// How long a Lease must have been left unchanged before another takes it.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long its holder grants after it *began* to renew it for the last time.
pub const VALID: Duration = Duration::from_secs(10);
/// How long after the beginning of one renewal its holder renews it again.
pub const RENEW: Duration = Duration::from_secs(5);
/// How often the others look.
pub const LOOK: Duration = Duration::from_secs(2);
/// How long after a failed call the next one is made.
pub const RETRY: Duration = Duration::from_secs(1);

/// The holder of a Lease that was taken to end everything is called so, and something after it.
pub const UNINSTALLING: &str = "uninstalling-";
/// How long such a Lease is left to its holder by those who saw it take it: by then they are gone, or the uninstallation has failed.
pub const UNINSTALLED: Duration = Duration::from_secs(300);

/// How long this process has run.
pub type Moment = Duration;

/// What is to be done about the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before then.
    Wait(Moment),
    /// Read it.
    Look,
    /// Write oneself into it: at the version that was seen, or as a new one.
    Write {
        /// `None`: there is none.
        version: Option<String>,
    },
}

/// The Lease as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// `None`: there is none.
    version: Option<String>,
    /// `None`: it was given up.
    holder: Option<String>,
    /// Whether nobody can be granting under it: it was given up, or never seen. One that was deleted isn't free: its holder may not know yet.
    is_free: bool,
    /// Whether this replica saw it being taken to end everything. One that begins afterwards belongs to a new installation.
    is_uninstalling: bool,
    /// When it was first seen to be so. It may have been so for longer.
    since: Moment,
}

/// A replica that wants the Lease, and all that it knows of it.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: String,
    seen: Option<Seen>,
    look_at: Moment,
    not_before: Moment,
    /// When the last renewal that is known to have succeeded was begun.
    renewed: Option<Moment>,
    gave_up: bool,
    /// It takes the Lease from whoever holds it, and grants nothing by it: that keeps the others from granting.
    takes_over: bool,
}

impl Candidate {
    /// One that knows nothing yet. No other process that runs has the same identity.
    pub fn new(identity: String) -> Self {
        Self {
            identity,
            seen: None,
            look_at: Moment::ZERO,
            not_before: Moment::ZERO,
            renewed: None,
            gave_up: false,
            takes_over: false,
        }
    }

    /// One that takes the Lease at once, so that nobody grants any more. It must not grant either: the one before it may, for as long as [`VALID`].
    pub fn uninstalling(identity: &str) -> Self {
        Self {
            takes_over: true,
            ..Self::new(format!("{UNINSTALLING}{identity}"))
        }
    }

    /// What it is called.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether this replica may grant now.
    pub fn may_grant(&self, now: Moment) -> bool {
        self.grants_until().is_some_and(|until| now < until)
    }

    /// Until when it may, should no renewal succeed any more.
    pub fn grants_until(&self) -> Option<Moment> {
        self.renewed.filter(|_| !self.gave_up).map(|renewed| renewed + VALID)
    }

    /// Who else holds it, as far as is known.
    pub fn other_holder(&self) -> Option<&str> {
        let holder = self.seen.as_ref()?.holder.as_deref()?;
        (holder != self.identity).then_some(holder)
    }

    /// What is to be done now.
    pub fn step(&self, now: Moment) -> Step {
        if now < self.not_before {
            return Step::Wait(self.not_before);
        }
        let Some(seen) = &self.seen else { return Step::Look };
        let Seen {
            version,
            holder,
            is_free,
            is_uninstalling,
            since,
        } = seen;
        let is_mine = holder.as_ref() == Some(&self.identity);
        let write_from = if *is_free || (self.takes_over && !is_mine) {
            now
        } else if is_mine {
            self.renewed.map_or(now, |renewed| renewed + RENEW)
        } else if *is_uninstalling {
            *since + UNINSTALLED
        } else {
            *since + DURATION
        };
        if now >= self.look_at {
            Step::Look
        } else if now >= write_from {
            Step::Write {
                version: version.clone(),
            }
        } else {
            Step::Wait(write_from.min(self.look_at))
        }
    }

    /// A read has shown this Lease; `now` is after the answer. A change may be older than that, and is taken to be as young as it can be.
    pub fn saw(&mut self, version: String, holder: Option<String>, now: Moment) {
        let holder = holder.filter(|holder| !holder.is_empty());
        let is_mine = holder.as_ref() == Some(&self.identity);
        if !is_mine {
            self.renewed = None;
        }
        let version = Some(version);
        let unchanged = self.seen.as_ref().filter(|seen| seen.version == version);
        let since = unchanged.map_or(now, |seen| seen.since);
        let was_uninstalling = self.seen.as_ref().map(|seen| seen.is_uninstalling);
        let is_taken = holder.as_ref().is_some_and(|holder| holder.starts_with(UNINSTALLING));
        let was_another = self.seen.as_ref().is_some_and(|seen| seen.holder != holder);
        let is_uninstalling = is_taken && (was_another || was_uninstalling == Some(true));
        self.look_at = if is_mine { Moment::MAX } else { now + LOOK };
        self.seen = Some(Seen {
            version,
            is_free: holder.is_none(),
            is_uninstalling,
            holder,
            since,
        });
    }

    /// A read has shown that there is none.
    pub fn saw_none(&mut self, now: Moment) {
        self.renewed = None;
        let is_first = self.seen.is_none();
        let already = self.seen.take().filter(|seen| seen.version.is_none());
        self.seen = already.or(Some(Seen {
            version: None,
            holder: None,
            is_free: is_first,
            is_uninstalling: false,
            since: now,
        }));
        self.look_at = now + LOOK;
    }

    /// A write that began at `begun` has succeeded. One that left the version as it was has shown nobody that its holder lives, and so renews nothing.
    pub fn wrote(&mut self, version: String, begun: Moment, now: Moment) {
        let version = Some(version);
        if self.seen.as_ref().is_some_and(|seen| seen.version == version) {
            return self.failed(now);
        }
        self.seen = Some(Seen {
            version,
            holder: Some(self.identity.clone()),
            is_free: false,
            is_uninstalling: false,
            since: now,
        });
        self.renewed = Some(begun);
        self.look_at = Moment::MAX;
    }

    /// A write was refused because the Lease is another by now.
    pub fn was_overtaken(&mut self, now: Moment) {
        self.look_at = now;
    }

    /// A call failed. Whether it took effect doesn't matter: if so, the version is another, and that is a conflict.
    pub fn failed(&mut self, now: Moment) {
        self.not_before = now + RETRY;
    }

    /// From now on it grants nothing any more, and may tell the others. `true`: it holds the Lease, as far as it knows.
    pub fn give_up(&mut self) -> bool {
        self.gave_up = true;
        self.renewed = None;
        // Who took it so that nobody grants leaves it so.
        !self.takes_over
            && self
                .seen
                .as_ref()
                .is_some_and(|seen| seen.holder.as_ref() == Some(&self.identity))
    }
}

#[cfg(test)]
mod tests;
