//! Every interleaving, small: two replicas, two approvers, one request, one fault, and a deadline that passes.
//!
//! A breadth-first search over all that can happen, with the real [`super::request::decide`], [`super::grant::decide`] and [`super::grant::due`], and the
//! invariants checked in each state. The order of calls is the model's own ([`model`]); it must follow the controllers, and shows nothing about them where
//! it doesn't. What each call does on a real API server is shown elsewhere, by a fault at every call.

mod asked;
mod model;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use self::asked::Asked;
use self::model::{State, Step};

/// After so many states it says how far it is.
const TOLD: usize = 100_000;

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// How many people must approve.
    required: i32,
    /// How many words are spoken at most.
    words: usize,
    /// How many calls may fail.
    faults: u8,
    /// What is wrong with the replicas.
    flaw: Flaw,
}

/// A mistake that could be made, to see that the search finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    SealsAtAnyVersion,
    BindsBeforeTheSeal,
    DeafToDenials,
    SaysEndedFirst,
    EndsWithItsGrant,
    NeverSweeps,
}

/// What was found.
#[derive(Debug)]
struct Found {
    states: usize,
    transitions: usize,
    rests: usize,
    /// What is wrong, and how it came to that.
    wrong: Option<String>,
}

/// All states in the order in which they were found, each with the step by which it was.
struct Search {
    numbers: HashMap<State, u32>,
    states: Vec<State>,
    from: Vec<(u32, Step)>,
    /// The steps that replicas take by themselves, without a fault: to, from.
    own: Vec<(u32, u32)>,
    transitions: usize,
}

impl Search {
    fn found(&mut self, state: State, from: u32, step: Step) -> u32 {
        let next = u32::try_from(self.states.len()).unwrap();
        match self.numbers.entry(state) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                new.insert(next);
                self.states.push(state);
                self.from.push((from, step));
                next
            }
        }
    }

    /// How it came to a state, in so many steps.
    fn story(&self, mut state: u32, last: &str) -> String {
        let mut steps = vec![last.to_owned()];
        while state != 0 {
            let (from, step) = self.from[state as usize];
            steps.push(format!("{step:?}"));
            state = from;
        }
        steps.reverse();
        steps.join("\n")
    }

    /// A state from which the replicas don't come to rest, whatever they do.
    fn restless(&self, rests: &[u32]) -> Option<u32> {
        let mut into = vec![vec![]; self.states.len()];
        for (to, from) in &self.own {
            into[*to as usize].push(*from);
        }
        let mut comes_to_rest = vec![false; self.states.len()];
        let mut open = rests.to_vec();
        while let Some(state) = open.pop() {
            if !std::mem::replace(&mut comes_to_rest[state as usize], true) {
                open.extend(&into[state as usize]);
            }
        }
        let place = comes_to_rest.iter().position(|comes| !comes)?;
        u32::try_from(place).ok()
    }
}

fn explore(scene: Scene) -> Found {
    let mut asked = Asked::new(scene);
    let mut search = Search {
        numbers: HashMap::new(),
        states: vec![],
        from: vec![],
        own: vec![],
        transitions: 0,
    };
    let first = State::first(&mut asked, scene);
    search.found(first, 0, Step::Time);
    let (mut rests, mut wrong, mut place) = (vec![], None, 0);
    while wrong.is_none() && place < search.states.len() {
        let here = u32::try_from(place).unwrap();
        wrong = visit(&mut search, &mut asked, scene, here, &mut rests);
        place += 1;
        if place % TOLD == 0 {
            println!("{place} states looked at, {} found", search.states.len());
        }
    }
    let restless = || {
        let state = search.restless(&rests)?;
        Some(search.story(state, "from here the replicas never come to rest"))
    };
    Found {
        wrong: wrong.or_else(restless),
        states: search.states.len(),
        transitions: search.transitions,
        rests: rests.len(),
    }
}

/// Finds what comes after one state. Answers with what is wrong.
fn visit(search: &mut Search, asked: &mut Asked, scene: Scene, here: u32, rests: &mut Vec<u32>) -> Option<String> {
    let state = search.states[here as usize];
    if let Some(wrong) = asked.wrong(state.stored, state.now) {
        return Some(search.story(here, &wrong));
    }
    for (step, next) in state.steps(asked, scene) {
        search.transitions += 1;
        if let Some(wrong) = asked.wrong_step(state.stored, next.stored, next.now) {
            return Some(search.story(here, &format!("{step:?}\n{wrong}")));
        }
        let next = search.found(next, here, step);
        if let Step::Replica(..) = step {
            search.own.push((next, here));
        }
    }
    if !state.is_at_rest(asked, scene) {
        return None;
    }
    rests.push(here);
    let wrong = asked.wrong_at_rest(state.stored, state.now)?;
    Some(search.story(here, &wrong))
}

#[cfg(test)]
mod tests;
