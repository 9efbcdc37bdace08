//! In which stage each person's approval counts: in one of the whole chain, and so that as many stages as possible are met.
//!
//! This only counts. Who may count where, and when, is decided elsewhere; in which order people spoke never decides whether stages are met.

use std::collections::BTreeSet;

use crate::api::Order;
use crate::core::policy::MOST_STAGES;

/// How many people each stage takes, and in which stages each person may count, in the order in which they spoke.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    pub(super) required: Vec<usize>,
    pub(super) people: Vec<BTreeSet<usize>>,
    /// The stage in which each person counts, if in any.
    counted: Vec<Option<usize>>,
}

impl Chain {
    pub(super) fn new(required: Vec<usize>) -> Self {
        Self {
            required,
            ..Self::default()
        }
    }

    /// One more person, who may count in these stages. Counts all of them anew.
    pub(super) fn add(&mut self, may: BTreeSet<usize>, order: Order) {
        self.people.push(may);
        match order {
            Order::Sequential => self.count_in_sequence(),
            Order::Parallel => self.count_in_parallel(),
        }
    }

    /// The stage in which this person counts, if in any.
    pub(super) fn stage_of(&self, person: usize) -> Option<usize> {
        self.counted.get(person).copied().flatten()
    }

    /// How many people this stage still takes.
    pub(super) fn missing(&self, stage: usize) -> usize {
        let counted = self.counted.iter().filter(|counted| **counted == Some(stage)).count();
        self.required
            .get(stage)
            .map_or(0, |required| required.saturating_sub(counted))
    }

    /// Whether there are stages, and all of them are met.
    pub(super) fn is_met(&self) -> bool {
        !self.required.is_empty() && (0..self.required.len()).all(|stage| self.missing(stage) == 0)
    }

    /// The stages in which one more person would bring these stages on: themselves, and each one in which somebody counts who could count there instead.
    pub(super) fn bringing_on(&self, stages: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut all: BTreeSet<usize> = stages.into_iter().collect();
        loop {
            let more = self.counted.iter().zip(&self.people).find_map(|(counted, may)| {
                let stage = counted.filter(|stage| !all.contains(stage))?;
                (!may.is_disjoint(&all)).then_some(stage)
            });
            match more {
                Some(stage) => all.insert(stage),
                None => return all,
            };
        }
    }

    /// One stage after the other, as far as it goes.
    fn count_in_sequence(&mut self) {
        self.count_nobody();
        for stage in 0..self.required.len() {
            if !self.fill(stage) {
                return;
            }
        }
    }

    /// The most stages that can be met at once; of as many, those that come first. What is left over counts in the others.
    fn count_in_parallel(&mut self) {
        let stages = self.required.len();
        let mut choices: Vec<u64> = (0..1_u64 << stages.min(MOST_STAGES)).collect();
        choices.sort_by_key(|choice| (std::cmp::Reverse(choice.count_ones()), *choice));
        for choice in choices {
            self.count_nobody();
            let chosen = |stage: &usize| choice & (1 << stage) != 0;
            if (0..stages).filter(chosen).all(|stage| self.fill(stage)) {
                for stage in (0..stages).filter(|stage| !chosen(stage)) {
                    self.fill(stage);
                }
                return;
            }
        }
    }

    fn count_nobody(&mut self) {
        self.counted = vec![None; self.people.len()];
    }

    /// Counts as many people in this stage as it takes, or as there are; whether that is enough. No other stage gets fewer.
    fn fill(&mut self, stage: usize) -> bool {
        while self.missing(stage) > 0 {
            if !self.take(stage, &mut BTreeSet::from([stage])) {
                return false;
            }
        }
        true
    }

    /// Counts one more person in this stage: one who counts nowhere, or one whose place in another stage somebody else can take.
    fn take(&mut self, stage: usize, asked: &mut BTreeSet<usize>) -> bool {
        let may: Vec<usize> = (0..self.people.len())
            .filter(|person| self.people.get(*person).is_some_and(|may| may.contains(&stage)))
            .collect();
        if let Some(free) = may.iter().find(|person| self.stage_of(**person).is_none()) {
            self.put(*free, stage);
            return true;
        }
        for person in may {
            let Some(other) = self.stage_of(person) else { continue };
            if asked.insert(other) && self.take(other, asked) {
                self.put(person, stage);
                return true;
            }
        }
        false
    }

    fn put(&mut self, person: usize, stage: usize) {
        if let Some(place) = self.counted.get_mut(person) {
            *place = Some(stage);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chain(order: Order, required: &[usize], people: &[&[usize]]) -> Chain {
        let mut chain = Chain::new(required.to_vec());
        for may in people {
            chain.add(may.iter().copied().collect(), order);
        }
        chain
    }

    fn counted(chain: &Chain) -> Vec<Option<usize>> {
        (0..chain.people.len()).map(|person| chain.stage_of(person)).collect()
    }

    #[test]
    fn no_stages_are_never_met() {
        for order in [Order::Sequential, Order::Parallel] {
            assert!(!chain(order, &[], &[]).is_met());
            assert!(!chain(order, &[], &[&[0]]).is_met());
        }
    }

    #[test]
    fn who_may_count_in_two_stages_counts_in_the_one_that_nobody_else_can_meet() {
        for order in [Order::Sequential, Order::Parallel] {
            let both = chain(order, &[1, 1], &[&[0, 1], &[0]]);
            assert!(both.is_met());
            assert_eq!(counted(&both), [Some(1), Some(0)]);
            assert!(!chain(order, &[1, 1], &[&[0, 1]]).is_met(), "one person counts once");
        }
    }

    #[test]
    fn in_sequence_nobody_counts_in_a_stage_before_the_one_before_it_is_met() {
        let waiting = chain(Order::Sequential, &[2, 1], &[&[0], &[1]]);
        assert_eq!(counted(&waiting), [Some(0), None]);
        assert_eq!((waiting.missing(0), waiting.missing(1)), (1, 1));
    }

    #[test]
    fn side_by_side_two_stages_that_can_be_met_are_better_than_a_great_one() {
        let three = chain(Order::Parallel, &[2, 1, 1], &[&[0, 1], &[0, 2]]);
        assert_eq!(counted(&three), [Some(1), Some(2)]);
    }

    #[test]
    fn an_approval_brings_a_stage_on_where_it_frees_somebody_who_counts_elsewhere() {
        let stuck = chain(Order::Sequential, &[1, 1], &[&[0, 1]]);
        assert_eq!(stuck.bringing_on([1]), BTreeSet::from([0, 1]));
        let other = chain(Order::Sequential, &[1, 1], &[&[0]]);
        assert_eq!(other.bringing_on([1]), BTreeSet::from([1]));
    }

    /// Whether all stages can be met: as many people for each set of stages as it takes.
    fn can_be_met(required: &[usize], people: &[BTreeSet<usize>]) -> bool {
        (0..1_usize << required.len()).all(|choice| {
            let chosen = |stage: usize| choice & (1 << stage) != 0;
            let takes: usize = (0..required.len())
                .filter(|stage| chosen(*stage))
                .map(|stage| required[stage])
                .sum();
            takes
                <= people
                    .iter()
                    .filter(|may| may.iter().any(|stage| chosen(*stage)))
                    .count()
        })
    }

    proptest! {
        #[test]
        fn stages_are_met_whenever_they_can_be_whatever_the_order_of_arrival(
            required in prop::collection::vec(1_usize..3, 1..4),
            people in prop::collection::vec(prop::collection::btree_set(0_usize..4, 0..4), 0..7),
            sequential: bool,
        ) {
            let order = if sequential { Order::Sequential } else { Order::Parallel };
            let mut chain = Chain::new(required.clone());
            for may in &people {
                chain.add(may.clone(), order);
            }
            prop_assert_eq!(chain.is_met(), can_be_met(&required, &people));
            for (person, may) in people.iter().enumerate() {
                prop_assert!(chain.stage_of(person).is_none_or(|stage| may.contains(&stage)));
            }
            let met = (0..required.len()).filter(|stage| chain.missing(*stage) == 0);
            match order {
                // As long a beginning of the chain as can be met.
                Order::Sequential => {
                    let longest = (0..=required.len()).rev().find(|end| can_be_met(&required[..*end], &people));
                    prop_assert_eq!(met.count(), longest.unwrap());
                }
                Order::Parallel => {
                    let most = (0..1_usize << required.len()).filter(|choice| {
                        let only: Vec<_> = (0..required.len()).map(|stage| if choice & (1 << stage) != 0 { required[stage] } else { 0 }).collect();
                        can_be_met(&only, &people)
                    }).map(usize::count_ones).max();
                    prop_assert_eq!(u32::try_from(met.count()).unwrap(), most.unwrap());
                }
            }
        }
    }
}
