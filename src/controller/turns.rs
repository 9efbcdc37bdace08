//! Whose turn it is: what one requester has is counted and added to by one look after another. Nobody waits for anybody else's, however slow that one's
//! calls are, and a requester with a lot to be given takes up little room.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// So many looks of one requester wait for their turn at most.
const WAITING: usize = 8;

/// The turns of all requesters, by user name.
#[derive(Debug, Default)]
pub struct Turns(std::sync::Mutex<HashMap<String, Weak<Mutex<()>>>>);

/// It is this one's turn until this is dropped.
pub type Turn = OwnedMutexGuard<()>;

impl Turns {
    /// Returns when it is this one's turn among those of the same requester: first come, first served. `None`: too many wait already.
    pub async fn of(&self, requester: &str) -> Option<Turn> {
        let queue = self.queue(requester);
        // Whose turn it is holds it, each that waits, and this one.
        if Arc::strong_count(&queue) > WAITING + 1 {
            return None;
        }
        Some(queue.lock_owned().await)
    }

    fn queue(&self, requester: &str) -> Arc<Mutex<()>> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(requester).and_then(Weak::upgrade) {
            return queue;
        }
        // Whoever stands in a queue keeps it.
        queues.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::default();
        queues.insert(requester.to_owned(), Arc::downgrade(&queue));
        queue
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn one_look_of_a_requester_waits_for_another_and_nobody_elses_does() {
        let turns = Turns::default();
        let first = turns.of("alice").await;
        let mut second = Box::pin(turns.of("alice"));
        assert!(poll!(&mut second).is_pending());
        assert!(turns.of("bob").await.is_some());
        assert!(poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test]
    async fn only_so_many_wait_at_once() {
        let turns = Turns::default();
        let first = turns.of("alice").await;
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(turns.of("alice"))).collect();
        for look in &mut waiting {
            assert!(poll!(look).is_pending());
        }
        let one_more = Box::pin(turns.of("alice"));
        assert!(matches!(poll!(one_more), Poll::Ready(None)));
        assert!(turns.of("bob").await.is_some());
        drop(first);
        for look in waiting {
            assert!(look.await.is_some());
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_forgotten() {
        let turns = Turns::default();
        for requester in ["alice", "bob", "carol"] {
            turns.of(requester).await;
        }
        let _held = turns.of("dave").await;
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
