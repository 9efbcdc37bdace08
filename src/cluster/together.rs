//! One call for all who ask the same at the same time. Nobody gets an answer to a call that began before they asked, so nothing that is read this way is
//! older than if everybody had called for themselves.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Mutex as Turn;

use super::call::CallError;

type Answer<V> = Shared<BoxFuture<'static, Result<V, CallError>>>;

/// So many turns are kept before those that nobody holds any more are forgotten.
const TURNS: usize = 256;

/// What is being asked, by what it is about.
pub struct Together<K, V>(Arc<Mutex<State<K, V>>>);

struct State<K, V> {
    /// Questions that have not begun, and that may still be joined.
    open: HashMap<K, Answer<V>>,
    /// Held by whoever calls; the next question about the same waits for it.
    turns: HashMap<K, Weak<Turn<()>>>,
}

impl<K, V> Default for Together<K, V> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            open: HashMap::new(),
            turns: HashMap::new(),
        })))
    }
}

impl<K, V> Together<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The answer to `read`, or to the same read by somebody else that begins after this was asked.
    ///
    /// # Errors
    /// Those of `read`.
    pub async fn ask(
        &self,
        about: K,
        read: impl Future<Output = Result<V, CallError>> + Send + 'static,
    ) -> Result<V, CallError> {
        let answer = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match state.open.get(&about) {
                Some(open) => open.clone(),
                None => {
                    let answer = self.question(about.clone(), state.turn(&about), read);
                    state.open.insert(about, answer.clone());
                    answer
                }
            }
        };
        answer.await
    }

    /// Waits for the turn, lets nobody join any more, and only then calls.
    fn question(
        &self,
        about: K,
        turn: Arc<Turn<()>>,
        read: impl Future<Output = Result<V, CallError>> + Send + 'static,
    ) -> Answer<V> {
        let state = Arc::clone(&self.0);
        async move {
            let _turn = turn.lock().await;
            state.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&about);
            read.await
        }
        .boxed()
        .shared()
    }
}

impl<K: Clone + Eq + Hash, V> State<K, V> {
    fn turn(&mut self, about: &K) -> Arc<Turn<()>> {
        if let Some(turn) = self.turns.get(about).and_then(Weak::upgrade) {
            return turn;
        }
        if self.turns.len() >= TURNS {
            self.turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(Turn::new(()));
        self.turns.insert(about.clone(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// A server whose state is a number, and that answers when it is let.
    #[derive(Clone)]
    struct Server {
        state: Arc<AtomicUsize>,
        calls: Arc<AtomicUsize>,
        lets: Arc<Semaphore>,
    }

    impl Server {
        fn new() -> Self {
            Self {
                state: Arc::default(),
                calls: Arc::default(),
                lets: Arc::new(Semaphore::new(0)),
            }
        }

        /// What it reads is what stood there when the call began.
        async fn read(self) -> Result<usize, CallError> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let found = self.state.load(Ordering::SeqCst);
            self.lets.acquire().await.unwrap().forget();
            Ok(found)
        }
    }

    #[tokio::test]
    async fn whoever_asks_while_a_call_is_under_way_shares_the_next_one_and_never_sees_the_older_state() {
        let (server, together) = (Server::new(), Arc::new(Together::default()));
        let ask = || {
            let (server, together) = (server.clone(), Arc::clone(&together));
            tokio::spawn(async move { together.ask("policy", server.read()).await.unwrap() })
        };
        let first = ask();
        while server.calls.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        server.state.store(1, Ordering::SeqCst);
        let later: Vec<_> = (0..20).map(|_| ask()).collect();
        server.lets.add_permits(2);
        assert_eq!(first.await.unwrap(), 0);
        for answer in join_all(later).await {
            assert_eq!(answer.unwrap(), 1, "asked after the change");
        }
        assert!(server.calls.load(Ordering::SeqCst) <= 3, "twenty askers share a call");
    }

    #[tokio::test]
    async fn an_asker_who_gives_up_leaves_the_others_their_answer() {
        let (server, together) = (Server::new(), Arc::new(Together::default()));
        let mut first = Box::pin(together.ask("role", server.clone().read()));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second = Box::pin(together.ask("role", server.clone().read()));
        let mut third = Box::pin(together.ask("role", server.clone().read()));
        assert!(futures::poll!(&mut second).is_pending());
        drop((first, second));
        server.lets.add_permits(1);
        assert_eq!(third.as_mut().await.unwrap(), 0);
        drop(third);
        server.lets.add_permits(1);
        assert_eq!(together.ask("role", server.clone().read()).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn other_questions_are_not_held_up_and_those_that_were_answered_are_forgotten() {
        let together = Together::default();
        let stuck = together.ask(0, std::future::pending::<Result<usize, CallError>>());
        let mut stuck = Box::pin(stuck);
        assert!(futures::poll!(&mut stuck).is_pending());
        for about in 1..=3 * TURNS {
            assert_eq!(together.ask(about, async move { Ok(about) }).await.unwrap(), about);
        }
        let state = together.0.lock().unwrap();
        assert!(state.open.is_empty());
        assert!(state.turns.len() <= TURNS);
    }
}
