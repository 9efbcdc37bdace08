//! The rounds of one controller: which object is looked at next, each by one at a time and in the order in which they were told of, and when again.
//!
//! kube's own `Controller` does the same by way of a queue of timers, which wakes a millisecond or two late. Access would wait for that twice, and in a
//! simulation the order of what is due at one moment would be another each time (docs/adr/0007).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::time::{Instant, sleep_until};

use super::watch::{Kind, Shown};

/// How many objects of one kind are looked at at once. Most of these looks wait for their turn; ends don't.
const AT_ONCE: usize = 256;

/// When an object is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// When there is a reason to.
    OnChange,
    /// After so long, or sooner when there is a reason to.
    After(Duration),
}

impl Again {
    /// Whichever comes first.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::OnChange, other) => other,
            (again, Self::OnChange) => again,
            (Self::After(one), Self::After(other)) => Self::After(one.min(other)),
        }
    }
}

/// Looks at whatever comes from `told`, once the store has `shown` what there is, until `stop` is done; then finishes what was begun.
pub async fn rounds<K: Kind, F: Future<Output = Again>>(
    store: Store<K>,
    shown: Shown,
    mut told: UnboundedReceiver<ObjectRef<K>>,
    look: impl Fn(Arc<K>) -> F,
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let mut agenda = Agenda::default();
    let mut looks = FuturesUnordered::new();
    tokio::select! {
        biased;
        () = &mut stop => return,
        () = shown.all() => {}
    }
    loop {
        // Looks that wait for nothing are many after a watch was opened again; whoever shares this task gets its turn in between.
        tokio::task::coop::consume_budget().await;
        while looks.len() < AT_ONCE
            && let Some(object) = agenda.begin(Instant::now())
        {
            match store.get(&object) {
                Some(found) => looks.push(look(found).map(|again| (object, again))),
                // It isn't there yet, or no longer: then there is nothing to look at.
                None => agenda.finish(object, Again::OnChange, Instant::now()),
            }
        }
        let next = agenda.next();
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(object) = told.next() => agenda.tell(object),
            Some((object, again)) = looks.next() => agenda.finish(object, again, Instant::now()),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() && looks.len() < AT_ONCE => {}
        }
    }
    while looks.next().await.is_some() {}
}

/// What is to be looked at, now and later. Knows no clock: whoever asks says what time it is.
struct Agenda<T> {
    /// Now, in this order.
    due: VecDeque<T>,
    /// The same, to find it.
    is_due: HashSet<T>,
    /// Later: by moment, and those of one moment by who came first.
    later: BTreeMap<(Instant, u64), T>,
    /// The same, to find it.
    appointments: HashMap<T, (Instant, u64)>,
    /// So many appointments were made.
    made: u64,
    /// Being looked at, and whether there was a reason meanwhile to look again.
    under_way: HashMap<T, bool>,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self {
            due: VecDeque::new(),
            is_due: HashSet::new(),
            later: BTreeMap::new(),
            appointments: HashMap::new(),
            made: 0,
            under_way: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Agenda<T> {
    /// There is a reason to look at this one.
    fn tell(&mut self, object: T) {
        if let Some(told) = self.under_way.get_mut(&object) {
            *told = true;
            return;
        }
        if let Some(appointment) = self.appointments.remove(&object) {
            self.later.remove(&appointment);
        }
        if self.is_due.insert(object.clone()) {
            self.due.push_back(object);
        }
    }

    /// The next to look at, which nobody is looking at.
    fn begin(&mut self, now: Instant) -> Option<T> {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let object = entry.remove();
            self.tell(object);
        }
        let object = self.due.pop_front()?;
        self.is_due.remove(&object);
        self.under_way.insert(object.clone(), false);
        Some(object)
    }

    /// It was looked at.
    fn finish(&mut self, object: T, again: Again, now: Instant) {
        let told = self.under_way.remove(&object).unwrap_or_default();
        match again {
            _ if told => self.tell(object),
            Again::OnChange => {}
            Again::After(Duration::ZERO) => self.tell(object),
            Again::After(pause) => {
                // So far away that it can't be said is as good as never.
                let Some(moment) = now.checked_add(pause) else { return };
                self.made += 1;
                self.later.insert((moment, self.made), object.clone());
                self.appointments.insert(object, (moment, self.made));
            }
        }
    }

    /// When the next appointment is, if none is due yet.
    fn next(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((moment, _), _)| *moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn all(agenda: &mut Agenda<&'static str>, now: Instant) -> Vec<&'static str> {
        std::iter::from_fn(|| agenda.begin(now)).collect()
    }

    #[test]
    fn objects_are_looked_at_in_the_order_in_which_they_were_told_of_each_once() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        for object in ["b", "a", "b", "c", "a"] {
            agenda.tell(object);
        }
        assert_eq!(all(&mut agenda, now), ["b", "a", "c"]);
    }

    #[test]
    fn nobody_looks_at_what_is_being_looked_at_but_a_reason_meanwhile_is_not_forgotten() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.tell("a");
        assert_eq!(agenda.begin(now), Some("a"));
        agenda.tell("a");
        agenda.tell("a");
        assert_eq!(agenda.begin(now), None);
        agenda.finish("a", Again::After(SECOND), now);
        assert_eq!(all(&mut agenda, now), ["a"]);
        agenda.finish("a", Again::OnChange, now);
        assert_eq!(all(&mut agenda, now + SECOND * 100), [""; 0]);
    }

    #[test]
    fn an_appointment_is_kept_at_its_moment_and_not_before() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        for (object, pause) in [("late", 2 * SECOND), ("soon", SECOND), ("soon too", SECOND)] {
            agenda.tell(object);
            agenda.begin(now);
            agenda.finish(object, Again::After(pause), now);
        }
        assert_eq!(agenda.next(), Some(now + SECOND));
        assert_eq!(agenda.begin(now + SECOND - Duration::from_nanos(1)), None);
        assert_eq!(all(&mut agenda, now + SECOND), ["soon", "soon too"]);
        assert_eq!(agenda.next(), Some(now + 2 * SECOND));
    }

    #[test]
    fn a_reason_comes_before_an_appointment_and_takes_its_place() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.tell("a");
        agenda.begin(now);
        agenda.finish("a", Again::After(SECOND), now);
        agenda.tell("a");
        assert_eq!(all(&mut agenda, now), ["a"]);
        agenda.finish("a", Again::OnChange, now);
        assert_eq!(agenda.next(), None);
        assert_eq!(agenda.begin(now + SECOND), None);
    }

    #[test]
    fn again_at_once_comes_after_what_has_waited_longer() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        agenda.tell("a");
        agenda.begin(now);
        agenda.tell("b");
        agenda.finish("a", Again::After(Duration::ZERO), now);
        assert_eq!(all(&mut agenda, now), ["b", "a"]);
    }
}
