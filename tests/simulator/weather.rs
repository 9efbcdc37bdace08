//! What is around the API server in a schedule: faults at calls and watches while the weather is bad, the guards, and the auditor.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::apiserver::{Call, Change, Fate, Kind, Refusal, Store, Surroundings, Telling, Time, Verb, Who};
use crate::auditor::{Auditor, delta};
use crate::chance::Chance;
use crate::guards::Guards;

/// A call is under way for so long when nothing is wrong.
const QUICK: Duration = Duration::from_millis(3);
/// Longer than a call may take.
const SLOW: Duration = Duration::from_secs(14);
/// Whoever a call failed for tries again after so long at most: the time limit of a call, the longest pause, and a bit.
const TRIES_AGAIN: Duration = Duration::from_secs(27);
/// A watch that tells nothing is opened again after so long.
const SILENCE: Duration = Duration::from_secs(70);
const REFUSALS: [u16; 5] = [500, 429, 503, 500, 403];

/// How bad it is: so many of a thousand calls and of a thousand things that watches tell go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Storm {
    pub calls: u32,
    pub watches: u32,
}

/// What becomes of somebody's next such call; of what a watch tells next, that it comes so late.
pub type Fault = (Who, Verb, Kind, Fate);

pub struct Weather {
    state: Mutex<State>,
    pub guards: Guards,
}

pub struct State {
    pub auditor: Auditor,
    pub storm: Storm,
    /// What goes wrong besides, in any weather.
    pub planned: Vec<Fault>,
    chance: Chance,
    time: Arc<Time>,
    trace: DefaultHasher,
    told: Option<Vec<String>>,
    /// How many faults there were, by what they were.
    pub faults: BTreeMap<&'static str, u64>,
    pub calls: u64,
}

impl Weather {
    pub fn new(time: Arc<Time>, chance: Chance, tells: bool) -> Self {
        let state = State {
            auditor: Auditor::new(time.now()),
            storm: Storm::default(),
            planned: vec![],
            chance,
            time,
            trace: DefaultHasher::new(),
            told: tells.then(Vec::new),
            faults: BTreeMap::new(),
            calls: 0,
        };
        Self {
            state: Mutex::new(state),
            guards: Guards::shipped(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        self.state().tell(what);
    }
}

impl State {
    fn tell(&mut self, what: impl FnOnce() -> String) {
        let (now, what) = (self.time.now(), what());
        (now.timestamp_micros(), &what).hash(&mut self.trace);
        if let Some(told) = &mut self.told {
            told.push(format!("{} {what}", now.format("%H:%M:%S%.3f")));
        }
    }

    /// All that happened, as a number.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    pub fn told(&self) -> &[String] {
        self.told.as_deref().unwrap_or_default()
    }

    fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// What was planned for what somebody does now.
    fn planned(&mut self, who: Who, verb: Verb, kind: Kind) -> Option<Fate> {
        let mut planned = self.planned.iter();
        let next = planned.position(|(for_whom, at, about, _)| (*for_whom, *at, *about) == (who, verb, kind))?;
        let (_, _, _, fate) = self.planned.remove(next);
        self.hinders(who, "planned", fate.there + fate.back + TRIES_AGAIN);
        Some(fate)
    }

    /// A fault for whoever calls, that lasts so long.
    fn hinders(&mut self, who: Who, fault: &'static str, lasts: Duration) {
        self.count(fault);
        let until = self.time.now() + delta(lasts);
        self.auditor.hinders(who, until);
        self.auditor.unsettles(until);
    }
}

impl Surroundings for Weather {
    fn fate(&self, call: &Call) -> Fate {
        let state = &mut *self.state();
        state.calls += 1;
        if let Some(planned) = state.planned(call.who, call.verb, call.key.kind) {
            return planned;
        }
        let mut fate = Fate {
            there: state.chance.up_to(QUICK),
            back: state.chance.up_to(QUICK),
            ..Fate::default()
        };
        if call.who == Who::Another || !state.chance.in_thousand(state.storm.calls) {
            return fate;
        }
        let fault = match state.chance.below(5) {
            0 | 1 => {
                fate.refused = state.chance.one_of(&REFUSALS).copied();
                "refused"
            }
            2 => {
                fate.lost = true;
                "answer lost"
            }
            3 => {
                fate.there = state.chance.mostly_short(SLOW);
                "effect late"
            }
            _ => {
                fate.back = state.chance.mostly_short(SLOW);
                "answer late"
            }
        };
        state.hinders(call.who, fault, fate.there + fate.back + TRIES_AGAIN);
        fate
    }

    fn telling(&self, who: Who, about: Kind) -> Telling {
        let state = &mut *self.state();
        if let Some(planned) = state.planned(who, Verb::Watch, about) {
            return Telling::After(planned.there);
        }
        let bad = who != Who::Another && state.chance.in_thousand(state.storm.watches);
        match state.chance.below(10) {
            0 if bad => {
                state.hinders(who, "watch silent", SILENCE);
                Telling::Never
            }
            1..=4 if bad => {
                state.hinders(who, "watch broken", TRIES_AGAIN);
                Telling::Broken
            }
            5.. if bad => {
                let lag = state.chance.mostly_short(SLOW);
                state.hinders(who, "watch late", lag);
                Telling::After(lag)
            }
            _ => Telling::After(state.chance.up_to(QUICK)),
        }
    }

    fn admits(&self, store: &Store, call: &Call, _: &Value) -> Result<(), Refusal> {
        self.guards.admit(store, call)
    }

    fn changed(&self, who: Who, change: &Change, under_way: Duration, now: DateTime<Utc>) {
        let state = &mut *self.state();
        state.auditor.changed(who, change, delta(under_way), now);
        // The names of events are made of the machine's time.
        if change.key.kind != Kind::Event {
            let Change {
                key,
                before,
                after,
                version,
            } = change;
            state.tell(|| {
                let what = match (before, after) {
                    (None, _) => "made",
                    (_, None) => "gone",
                    _ => "changed",
                };
                format!(
                    "#{version} {who:?}: {:?} {}/{} {what}",
                    key.kind, key.namespace, key.name
                )
            });
        }
    }

    fn answered(&self, call: &Call, code: u16) {
        let state = &mut *self.state();
        let Call {
            who,
            verb,
            key,
            dry_run: _,
        } = call;
        if key.kind != Kind::Event && (*verb != Verb::Get || code != 200) {
            state.tell(|| format!("{who:?} {verb:?} {:?} {}/{}: {code}", key.kind, key.namespace, key.name));
        }
    }
}
