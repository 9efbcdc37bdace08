//! What stops granting while it lasts: a guard that is away, a clock that can't be trusted. Nothing here is ever asked on the way to an end.

use std::collections::BTreeMap;

use tokio::sync::watch;

use crate::core::facts::Brake;

/// Who may pull a brake. Each holds its own, and only its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Puller {
    /// The watch over the admission policies and the CRDs.
    Guards,
    /// The comparison of the clocks.
    Clock,
    /// The end of the installation.
    Uninstall,
}

impl Puller {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Guards, Self::Clock, Self::Uninstall];

    /// For metrics: one word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Guards => "guards",
            Self::Clock => "clock",
            Self::Uninstall => "uninstall",
        }
    }
}

/// All brakes that are pulled now.
#[derive(Debug)]
pub struct Brakes(watch::Sender<BTreeMap<Puller, Brake>>);

impl Default for Brakes {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl Brakes {
    /// From now on nothing is granted, for this reason.
    pub fn pull(&self, by: Puller, brake: Brake) {
        if self.set(by, &brake) {
            tracing::error!(
                by = by.label(),
                reason = brake.reason,
                "nothing is granted: {}",
                brake.message
            );
        }
    }

    /// The same, where nothing is wrong: it is only not known yet that all is well.
    pub fn hold(&self, by: Puller, brake: Brake) {
        if self.set(by, &brake) {
            tracing::info!(
                by = by.label(),
                reason = brake.reason,
                "nothing is granted yet: {}",
                brake.message
            );
        }
    }

    /// Whether that is news.
    fn set(&self, by: Puller, brake: &Brake) -> bool {
        self.0
            .send_if_modified(|pulled| pulled.insert(by, brake.clone()).as_ref() != Some(brake))
    }

    /// This reason is gone.
    pub fn release(&self, by: Puller) {
        if self.0.send_if_modified(|pulled| pulled.remove(&by).is_some()) {
            tracing::info!(by = by.label(), "this no longer stops granting");
        }
    }

    /// Why nothing may be granted now, if so: the first of the reasons.
    pub fn pulled(&self) -> Option<Brake> {
        self.0.borrow().values().next().cloned()
    }

    /// Whether this one is pulled.
    pub fn is_pulled(&self, by: Puller) -> bool {
        self.0.borrow().contains_key(&by)
    }

    /// Tells of every change from now on.
    pub fn changes(&self) -> watch::Receiver<BTreeMap<Puller, Brake>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brake(message: &str) -> Brake {
        Brake {
            reason: "GuardMissing",
            message: message.into(),
        }
    }

    #[test]
    fn granting_goes_on_only_when_everybody_has_released_their_own_brake() {
        let brakes = Brakes::default();
        brakes.pull(Puller::Guards, brake("a guard is away"));
        brakes.pull(Puller::Clock, brake("the clock is wrong"));
        brakes.release(Puller::Guards);
        assert_eq!(brakes.pulled(), Some(brake("the clock is wrong")));
        brakes.release(Puller::Clock);
        assert_eq!(brakes.pulled(), None);
    }

    #[test]
    fn the_same_brake_pulled_again_is_no_news() {
        let brakes = Brakes::default();
        brakes.pull(Puller::Guards, brake("a guard is away"));
        let mut changes = brakes.changes();
        changes.mark_unchanged();
        brakes.pull(Puller::Guards, brake("a guard is away"));
        assert!(!changes.has_changed().unwrap());
        brakes.pull(Puller::Guards, brake("two guards are away"));
        assert!(changes.has_changed().unwrap());
    }
}
