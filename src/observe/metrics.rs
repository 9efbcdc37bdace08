//! Metrics, in Prometheus' format. Every label has a few fixed values; none holds a name that a user chose.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::api::{AccessGrant, EndReason, RequestPhase};
use crate::cluster::brakes::{Brakes, Puller};
use crate::cluster::clock::Clocks;
use crate::cluster::lease::Leadership;

/// From a millisecond to two minutes: what is a few milliseconds on a good day, and must be noticed on a bad one.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0,
];

/// Why a grant ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    reason: String,
}

/// As what a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Closed {
    phase: String,
}

/// Where what went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Trouble {
    controller: &'static str,
    kind: &'static str,
}

/// What stops granting.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stopped {
    by: &'static str,
}

/// How far a review is that is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Unreviewed {
    state: &'static str,
}

/// What is to be gone and is still there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stuck {
    /// A grant, by its name, with its bindings.
    Grant(String),
    /// A binding of which no grant tells.
    Binding {
        /// `None`: it is a ClusterRoleBinding.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
}

impl Stuck {
    /// Of a grant.
    pub fn grant(grant: &AccessGrant) -> Self {
        Self::Grant(grant.name_any())
    }

    /// Of a binding of either kind.
    pub fn binding(binding: &impl ResourceExt) -> Self {
        Self::Binding {
            namespace: binding.namespace(),
            name: binding.name_any(),
        }
    }
}

/// All metrics.
pub struct Metrics {
    registry: Registry,
    granted: Counter,
    broken: Counter,
    ended: Family<Ended, Counter>,
    closed: Family<Closed, Counter>,
    bind_seconds: Histogram,
    revoke_lag_seconds: Histogram,
    overdue: Gauge<f64, AtomicU64>,
    /// What the gauge sums up.
    stuck: Mutex<HashMap<Stuck, usize>>,
    unreviewed: Family<Unreviewed, Gauge>,
    /// By grant; what the gauges count.
    to_review: Mutex<HashMap<String, &'static str>>,
    swept: Counter,
    anchors: Gauge,
    trouble: Family<Trouble, Counter>,
    brakes: Arc<Brakes>,
    stopped: Family<Stopped, Gauge>,
    leadership: Arc<Leadership>,
    leading: Gauge,
    clocks: Clocks,
    skew: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Of an operator that hasn't begun.
    pub fn new(brakes: Arc<Brakes>, leadership: Arc<Leadership>, clocks: Clocks) -> Self {
        let mut registry = Registry::with_prefix("curfew");
        let this = Self {
            granted: Counter::default(),
            broken: Counter::default(),
            ended: Family::default(),
            closed: Family::default(),
            bind_seconds: Histogram::new(SECONDS),
            revoke_lag_seconds: Histogram::new(SECONDS),
            overdue: Gauge::default(),
            stuck: Mutex::default(),
            unreviewed: Family::default(),
            to_review: Mutex::default(),
            swept: Counter::default(),
            anchors: Gauge::default(),
            trouble: Family::default(),
            brakes,
            stopped: Family::default(),
            leadership,
            leading: Gauge::default(),
            clocks,
            skew: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("grants", "Accesses given", this.granted.clone());
        registry.register(
            "break_glass_grants",
            "Accesses given without anybody's approval",
            this.broken.clone(),
        );
        registry.register("grants_ended", "Accesses ended, by reason", this.ended.clone());
        registry.register(
            "requests_ended",
            "Requests ended, by their last phase",
            this.closed.clone(),
        );
        registry.register_with_unit(
            "bind_delay",
            "From the creation of a grant (whole seconds) to its bindings",
            Unit::Seconds,
            this.bind_seconds.clone(),
        );
        registry.register_with_unit(
            "revoke_lag",
            "From a grant's deadline to its last binding's end",
            Unit::Seconds,
            this.revoke_lag_seconds.clone(),
        );
        registry.register(
            "overdue_bindings",
            "Bindings that are to be gone and are still there, at the last try",
            this.overdue.clone(),
        );
        registry.register(
            "break_glass_unreviewed",
            "Accesses given without anybody's approval that are to be reviewed and aren't yet, by whether that is overdue",
            this.unreviewed.clone(),
        );
        registry.register(
            "swept_bindings",
            "Bindings deleted because no grant explained them",
            this.swept.clone(),
        );
        registry.register(
            "anchors",
            "Anchors, each the dead man's switch of all grants that end within a minute",
            this.anchors.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Failed reconciles, by controller and kind of failure",
            this.trouble.clone(),
        );
        registry.register(
            "granting_stopped",
            "Whether nothing is granted, by what stops it",
            this.stopped.clone(),
        );
        registry.register_with_unit(
            "clock_skew",
            "How far the operator's clock is ahead of the API server's (behind it, if negative), beyond what can't be known",
            Unit::Seconds,
            this.skew.clone(),
        );
        registry.register(
            "leading",
            "Whether this replica is the one that grants; every replica ends access",
            this.leading.clone(),
        );
        Self { registry, ..this }
    }
}

impl Metrics {
    /// An access was given, so long after its grant was created.
    pub fn granted(&self, delay: chrono::Duration, break_glass: bool) {
        self.granted.inc();
        if break_glass {
            self.broken.inc();
        }
        self.bind_seconds.observe(seconds(delay));
    }

    /// An access ended.
    pub fn ended(&self, reason: EndReason, lag: Option<chrono::Duration>) {
        self.ended
            .get_or_create(&Ended {
                reason: format!("{reason:?}"),
            })
            .inc();
        if let Some(lag) = lag {
            self.revoke_lag_seconds.observe(seconds(lag));
        }
    }

    /// A request ended.
    pub fn closed(&self, phase: RequestPhase) {
        self.closed
            .get_or_create(&Closed {
                phase: format!("{phase:?}"),
            })
            .inc();
    }

    /// A binding that no grant explained was deleted.
    pub fn swept(&self) {
        self.swept.inc();
    }

    /// So many anchors there are.
    pub fn anchors(&self, count: usize) {
        self.anchors.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many bindings of this grant are to be gone and are still there, or this binding is, where no grant tells of it.
    pub fn overdue(&self, of: Stuck, bindings: usize) {
        self.stuck(|stuck| match bindings {
            0 => drop(stuck.remove(&of)),
            _ => drop(stuck.insert(of, bindings)),
        });
    }

    /// Of what is overdue only that is left which is there: what is gone is overdue no more, whoever took it away.
    pub fn overdue_only(&self, is_there: impl Fn(&Stuck) -> bool) {
        self.stuck(|stuck| stuck.retain(|of, _| is_there(of)));
    }

    fn stuck(&self, change: impl FnOnce(&mut HashMap<Stuck, usize>)) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut stuck);
        let all: usize = stuck.values().sum();
        self.overdue.set(u32::try_from(all).unwrap_or(u32::MAX).into());
    }

    /// How far the review of this grant is: `Awaited` or `Overdue`; nothing when it was reviewed, is gone, or needs none.
    pub fn unreviewed(&self, grant: &str, state: Option<&'static str>) {
        let mut to_review = self.to_review.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match state {
            Some(state) => to_review.insert(grant.to_owned(), state),
            None => to_review.remove(grant),
        };
        if before == state {
            return;
        }
        for state in [before, state].into_iter().flatten() {
            let count = to_review.values().filter(|other| **other == state).count();
            let gauge = self.unreviewed.get_or_create(&Unreviewed { state });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Of the reviews that are to be done only those of grants that are there are left.
    pub fn unreviewed_only(&self, is_there: impl Fn(&str) -> bool) {
        let to_review = self.to_review.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = to_review.keys().filter(|grant| !is_there(grant)).cloned().collect();
        drop(to_review);
        for grant in gone {
            self.unreviewed(&grant, None);
        }
    }

    /// A reconcile failed.
    pub fn trouble(&self, controller: &'static str, kind: &'static str) {
        self.trouble.get_or_create(&Trouble { controller, kind }).inc();
    }

    /// All of them, as text.
    ///
    /// # Errors
    /// When they can't be written, which the library has never been seen to do.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        for by in Puller::ALL {
            let stopped = self.stopped.get_or_create(&Stopped { by: by.label() });
            stopped.set(self.brakes.is_pulled(by).into());
        }
        self.skew.set(self.clocks.skew());
        self.leading.set(self.leadership.leads().into());
        let mut written = String::new();
        text::encode(&mut written, &self.registry)?;
        Ok(written)
    }
}

fn seconds(duration: chrono::Duration) -> f64 {
    duration.to_std().map(|duration| duration.as_secs_f64()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::clock::Clock;

    #[test]
    fn a_review_that_becomes_overdue_is_awaited_no_more() {
        let brakes = Arc::new(Brakes::default());
        let clocks = Clocks::new(Clock::system(), Arc::clone(&brakes));
        let metrics = Metrics::new(brakes, Arc::new(Leadership::new("replica".into())), clocks);
        for (state, awaited, overdue) in [("Awaited", 1, 0), ("Overdue", 0, 1)] {
            metrics.unreviewed("grant", Some(state));
            let text = metrics.text().unwrap();
            for (state, number) in [("Awaited", awaited), ("Overdue", overdue)] {
                let line = format!("curfew_break_glass_unreviewed{{state=\"{state}\"}} ");
                let shown = text.lines().find_map(|shown| shown.strip_prefix(&line)).unwrap_or("0");
                assert_eq!(shown, number.to_string(), "{state}");
            }
        }
    }
}
