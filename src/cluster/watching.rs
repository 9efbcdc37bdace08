//! How watches are held: how long one may tell nothing before it is taken for dead, and how long to wait before a broken one is opened again. Both are
//! short, because whatever is decided or deleted meanwhile is seen only then.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use kube::runtime::watcher;
use tokio::time::Instant;

/// The API server ends a watch after so many seconds, and it is opened again where it ended. One that hasn't ended 5 s later, and told nothing meanwhile, is
/// dead: a connection can break without either side being told.
const ENDS: u32 = 60;
/// On a connection that lives something comes sooner than this.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(75);

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);
/// A watch that broke again sooner than this was no success.
const SUCCESS: Duration = Duration::from_secs(10);

/// So many objects come in one answer to a list: whoever made them may have made each as large as etcd takes, a megabyte and a half.
const PAGE: u32 = 25;

/// A watch over all objects of a kind.
pub fn all() -> watcher::Config {
    watcher::Config::default().timeout(ENDS).page_size(PAGE)
}

/// Doubles from a tenth of a second to three seconds, and begins anew after a watch that lasted.
#[derive(Debug)]
pub struct Reconnect {
    next: Duration,
    last: Option<Instant>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            next: FIRST,
            last: None,
        }
    }
}

impl Iterator for Reconnect {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.last.is_some_and(|last| last.elapsed() > SUCCESS) {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        self.last = Some(Instant::now());
        Some(wait)
    }
}

impl Backoff for Reconnect {
    /// Not a success yet: a watch says that it begins before it knows whether it can.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_three_seconds_whatever_a_watch_says_as_it_begins() {
        let mut reconnect = Reconnect::default();
        let mut waits = vec![];
        for _ in 0..7 {
            waits.extend(reconnect.next().map(|wait| wait.as_millis()));
            reconnect.reset();
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3000, 3000]);
    }

    #[test]
    fn after_a_watch_that_lasted_waiting_begins_anew() {
        let mut reconnect = Reconnect::default();
        assert_eq!(reconnect.by_ref().take(5).count(), 5);
        reconnect.last = Instant::now().checked_sub(SUCCESS * 2);
        assert_eq!(reconnect.next(), Some(FIRST));
    }
}
