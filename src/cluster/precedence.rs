//! Who goes first: what takes access away, then what gives it. What only tells about it waits until none of that is under way, but never long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// What tells waits at most so long, for under a load that never ends people still want to know.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who must not be busy for long waits at most so long to tell.
const SOON: Duration = Duration::from_secs(1);
/// So long it must have been quiet: between a seal and its binding nothing is under way for a moment.
const QUIET: Duration = Duration::from_millis(10);
/// How many requests are being granted at once. More would only wait in the API server.
const GIVING: usize = 32;
/// How much is told at once.
const TELLING: usize = 16;

/// How much that goes first is under way.
#[derive(Debug)]
pub struct Precedence {
    under_way: AtomicUsize,
    /// Tells when the first begins, and when the last is done. Who has waited longer is woken first.
    turned: Notify,
    giving: Semaphore,
    telling: Semaphore,
}

impl Default for Precedence {
    fn default() -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            turned: Notify::new(),
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
    /// From now on access is being taken away, or a sealed grant bound. Waits for nothing.
    pub fn first(&self) -> First<'_> {
        if self.under_way.fetch_add(1, Ordering::SeqCst) == 0 {
            self.turned.notify_waiters();
        }
        First {
            precedence: self,
            _turn: None,
        }
    }

    /// From now on it is being decided whether to give access; returns when it is this one's turn.
    pub async fn giving(&self) -> First<'_> {
        let mut first = self.first();
        // Never closed; without a turn it would go on all the same.
        first._turn = self.giving.acquire().await.ok();
        first
    }

    /// Returns when something may be told: when nothing goes first, or when telling has become due.
    pub async fn telling(&self) -> Option<SemaphorePermit<'_>> {
        self.telling_since(Instant::now()).await
    }

    /// The same for what has been waiting to be told since then.
    pub async fn telling_since(&self, since: Instant) -> Option<SemaphorePermit<'_>> {
        // Neither end matters: patience has one.
        let _ = tokio::time::timeout_at(since + PATIENCE, self.quiet()).await;
        self.telling.acquire().await.ok()
    }

    /// The same for one who is busy with nothing else until it has told: soon, whether or not it is its turn.
    pub async fn telling_soon(&self) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(SOON, self.telling()).await.ok().flatten()
    }

    /// Returns when nothing goes first, and after this time at the latest.
    pub async fn after_what_goes_first(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.until(|under_way| under_way == 0)).await;
    }

    async fn quiet(&self) {
        loop {
            self.until(|under_way| under_way == 0).await;
            let disturbed = tokio::time::timeout(QUIET, self.until(|under_way| under_way > 0));
            if disturbed.await.is_err() {
                return;
            }
        }
    }

    async fn until(&self, is_so: impl Fn(usize) -> bool) {
        loop {
            let mut turned = std::pin::pin!(self.turned.notified());
            // From here on no turn is missed.
            turned.as_mut().enable();
            if is_so(self.under_way.load(Ordering::SeqCst)) {
                return;
            }
            turned.await;
        }
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        if self.precedence.under_way.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.precedence.turned.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_tells_waits_for_the_last_of_those_that_go_first() {
        let precedence = Precedence::default();
        let (one, two) = (precedence.first(), precedence.giving().await);
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
        let _never_done = precedence.first();
        precedence.telling().await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_must_not_be_busy_for_long_tells_soon_though_others_tell_for_ever() {
        let precedence = Precedence::default();
        let begun = Instant::now();
        let mut telling = vec![];
        for _ in 0..TELLING {
            telling.push(precedence.telling().await);
        }
        assert_eq!(begun.elapsed().as_secs(), 0);
        assert!(precedence.telling_soon().await.is_none());
        assert_eq!(begun.elapsed().as_secs(), SOON.as_secs());
        telling.clear();
        assert!(precedence.telling_soon().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_waits_for_what_goes_first_and_not_for_ever() {
        let precedence = Precedence::default();
        let limit = Duration::from_secs(1);
        let first = precedence.first();
        let mut after = Box::pin(precedence.after_what_goes_first(limit));
        assert!(futures::poll!(&mut after).is_pending());
        drop(first);
        assert!(futures::poll!(&mut after).is_ready());
        let _never_done = precedence.first();
        let begun = Instant::now();
        precedence.after_what_goes_first(limit).await;
        assert_eq!(begun.elapsed(), limit);
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
        drop(precedence.first());
        given.clear();
        let mut telling = Box::pin(precedence.telling());
        assert!(futures::poll!(&mut telling).is_pending());
        drop(next.await);
        telling.await;
    }
}
