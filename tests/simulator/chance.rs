//! Chance, by a seed: the same seed leads to the same choices.

use std::time::Duration;

use chrono::TimeDelta;

pub struct Chance(fastrand::Rng);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Another one, for somebody who chooses at moments of their own.
    pub fn fork(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// True in so many of a thousand times.
    pub fn in_thousand(&mut self, times: u32) -> bool {
        self.0.u32(0..1000) < times
    }

    /// From 0, below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.usize(0..bound)
    }

    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        self.0.u64(first..=last)
    }

    /// From `first` to `last` milliseconds.
    pub fn milliseconds(&mut self, first: i64, last: i64) -> TimeDelta {
        TimeDelta::milliseconds(first + i64::try_from(self.between(0, first.abs_diff(last))).unwrap_or_default())
    }

    /// In whole milliseconds, which is how fine time is.
    pub fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_millis(self.0.u64(0..=u64::try_from(longest.as_millis()).unwrap_or(u64::MAX)))
    }

    /// More often short than long.
    pub fn mostly_short(&mut self, longest: Duration) -> Duration {
        let upper = self.up_to(longest);
        self.up_to(upper)
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        (!all.is_empty()).then(|| &all[self.below(all.len())])
    }
}
