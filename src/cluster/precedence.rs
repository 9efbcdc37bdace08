//! Who goes first: what takes access away, then what gives it. What only tells about it waits until none of that is under way, but never long.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// What tells waits at most so long, for under a load that never ends people still want to know.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many grants are given at once. More would only wait in the API server.
const GIVING: usize = 16;
/// How much is told at once.
const TELLING: usize = 16;

/// How much that goes first is under way.
#[derive(Debug)]
pub struct Precedence {
    under_way: watch::Sender<usize>,
    giving: Semaphore,
    telling: Semaphore,
}

impl Default for Precedence {
    fn default() -> Self {
        Self {
            under_way: watch::Sender::new(0),
            giving: Semaphore::new(GIVING),
            telling: Semaphore::new(TELLING),
        }
    }
}

/// Access is being given or taken away until this is dropped.
#[derive(Debug)]
pub struct First<'a> {
    precedence: &'a Precedence,
    _turn: Option<SemaphorePermit<'a>>,
}

impl Precedence {
    /// From now on access is being taken away. Waits for nothing.
    pub fn ending(&self) -> First<'_> {
        self.under_way.send_modify(|count| *count += 1);
        First {
            precedence: self,
            _turn: None,
        }
    }

    /// From now on access is being given; returns when it is this one's turn.
    pub async fn giving(&self) -> First<'_> {
        let mut first = self.ending();
        // Never closed; without a turn it would go on all the same.
        first._turn = self.giving.acquire().await.ok();
        first
    }

    /// Returns when something may be told: when nothing goes first, or when telling has become due.
    pub async fn telling(&self) -> Option<SemaphorePermit<'_>> {
        let mut under_way = self.under_way.subscribe();
        // Neither end matters: the sender lives as long as this does, and patience has an end.
        let _ = tokio::time::timeout(PATIENCE, under_way.wait_for(|count| *count == 0)).await;
        self.telling.acquire().await.ok()
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        self.precedence
            .under_way
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_tells_waits_for_the_last_of_those_that_go_first() {
        let precedence = Precedence::default();
        let (one, two) = (precedence.ending(), precedence.giving().await);
        let mut telling = Box::pin(precedence.telling());
        assert!(futures::poll!(&mut telling).is_pending());
        drop(one);
        assert!(futures::poll!(&mut telling).is_pending());
        drop(two);
        telling.await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_tells_does_not_wait_for_ever() {
        let precedence = Precedence::default();
        let _never_done = precedence.ending();
        precedence.telling().await;
    }

    #[tokio::test]
    async fn what_waits_for_its_turn_to_give_goes_before_what_tells_and_an_end_waits_for_nothing() {
        let precedence = Precedence::default();
        let mut given = vec![];
        for _ in 0..GIVING {
            given.push(precedence.giving().await);
        }
        let mut next = Box::pin(precedence.giving());
        assert!(futures::poll!(&mut next).is_pending());
        drop(precedence.ending());
        given.clear();
        let mut telling = Box::pin(precedence.telling());
        assert!(futures::poll!(&mut telling).is_pending());
        drop(next.await);
        telling.await;
    }
}
