//! How a chain of stages goes on: which stage is open since when, which has timed out, and who counts where.
//!
//! It is told what happened, in order, and when; it knows no clock. Told the same, it comes to the same, whenever it is asked and however often.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::chain::Chain;
use crate::api::{Approval, Order, Stage};
use crate::core::policy::{order, required, timeout};

/// A chain as it stands.
pub(super) struct Progress<'a> {
    stages: &'a [Stage],
    order: Order,
    /// Up to here time has passed.
    moment: DateTime<Utc>,
    stand: Vec<Stand>,
    chain: Chain,
    /// The place of each person's approval.
    places: Vec<usize>,
    timed_out: Option<TimedOut>,
}

/// How a stage stands.
#[derive(Clone, Copy, Debug, Default)]
struct Stand {
    /// Since when it waits or waited.
    since: Option<DateTime<Utc>>,
    /// It was met once; that it was in time stays so.
    was_met: bool,
    /// When it opened to those it escalates to.
    escalated: Option<DateTime<Utc>>,
}

/// A stage that nobody decided in time, and that escalates to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut {
    /// The stage, by its place.
    pub stage: usize,
    /// When.
    pub at: DateTime<Utc>,
}

/// A stage that waits for approvals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The stage, by its place.
    pub stage: usize,
    /// For how many more people. None when it is met, and another approval would free one for a stage that isn't.
    pub missing: usize,
    /// Since when.
    pub since: DateTime<Utc>,
    /// When it times out.
    pub until: Option<DateTime<Utc>>,
    /// When it escalated.
    pub escalated: Option<DateTime<Utc>>,
}

impl<'a> Progress<'a> {
    /// The chain of an offer that stands since then.
    pub(super) fn new(approval: &'a Approval, since: DateTime<Utc>) -> Self {
        let Approval {
            order: _,
            stages,
            break_glass: _,
        } = approval;
        let people = |stage| usize::try_from(required(stage).max(1)).unwrap_or(usize::MAX);
        let mut progress = Self {
            stages,
            order: order(approval),
            moment: since,
            stand: vec![Stand::default(); stages.len()],
            chain: Chain::new(stages.iter().map(people).collect()),
            places: vec![],
            timed_out: None,
        };
        progress.open_next();
        progress
    }

    /// Time passes until then; what times out meanwhile does so at its own moment.
    pub(super) fn pass(&mut self, until: DateTime<Utc>) {
        while self.timed_out.is_none()
            && let Some((at, stage)) = self.next_timeout().filter(|(at, _)| *at <= until)
        {
            let escalates = self.stages.get(stage).is_some_and(|stage| stage.escalate_to.is_some());
            match self.stand.get_mut(stage) {
                Some(stand) if escalates => stand.escalated = Some(at),
                Some(_) | None => self.timed_out = Some(TimedOut { stage, at }),
            }
        }
        self.moment = self.moment.max(until);
    }

    /// The next stage to time out, and when.
    pub(super) fn next_timeout(&self) -> Option<(DateTime<Utc>, usize)> {
        let all = 0..self.stages.len();
        all.filter_map(|stage| Some((self.times_out(stage)?, stage))).min()
    }

    fn times_out(&self, stage: usize) -> Option<DateTime<Utc>> {
        let Stand {
            since,
            was_met,
            escalated,
        } = self.stand.get(stage)?;
        let waits = !was_met && escalated.is_none();
        let timeout = timeout(self.stages.get(stage)?)?;
        since.filter(|_| waits)?.checked_add_signed(timeout)
    }

    /// Someone approves who may count in these stages.
    pub(super) fn approves(&mut self, place: usize, may: BTreeSet<usize>) {
        self.places.push(place);
        self.chain.add(may, self.order);
        self.open_next();
    }

    /// Opens what is to be open now. What was met stays met.
    fn open_next(&mut self) {
        for stage in 0..self.stages.len() {
            let is_met = self.chain.missing(stage) == 0;
            let Some(stand) = self.stand.get_mut(stage) else { return };
            stand.since.get_or_insert(self.moment);
            stand.was_met |= is_met;
            if !is_met && self.order == Order::Sequential {
                return;
            }
        }
    }

    /// Whether an approval in this stage may be spoken now.
    pub(super) fn is_open(&self, stage: usize) -> bool {
        self.stand.get(stage).is_some_and(|stand| stand.since.is_some())
    }

    /// Whether this stage has escalated.
    pub(super) fn has_escalated(&self, stage: usize) -> bool {
        self.stand.get(stage).is_some_and(|stand| stand.escalated.is_some())
    }

    pub(super) fn timed_out(&self) -> Option<TimedOut> {
        self.timed_out
    }

    /// Whether enough people approved.
    pub(super) fn is_met(&self) -> bool {
        self.timed_out.is_none() && self.chain.is_met()
    }

    /// The stage in which the approval in this place of the list counts, if in any.
    pub(super) fn counts_in(&self, place: usize) -> Option<&'a Stage> {
        let person = self.places.iter().position(|spoken| *spoken == place)?;
        self.stages.get(self.chain.stage_of(person)?)
    }

    /// The stages in which an approval would bring it on.
    pub(super) fn open(&self) -> Vec<Open> {
        let waiting = (0..self.stages.len()).filter(|stage| self.is_open(*stage) && self.chain.missing(*stage) > 0);
        let bringing_on = self.chain.bringing_on(waiting);
        let open = bringing_on.into_iter().filter_map(|stage| {
            let Stand {
                since,
                was_met: _,
                escalated,
            } = *self.stand.get(stage)?;
            Some(Open {
                stage,
                missing: self.chain.missing(stage),
                since: since?,
                until: self.times_out(stage),
                escalated,
            })
        });
        open.collect()
    }

    /// The stages that escalated, and when.
    pub(super) fn escalations(&self) -> Vec<(usize, DateTime<Utc>)> {
        let all = self.stand.iter().enumerate();
        all.filter_map(|(stage, stand)| Some((stage, stand.escalated?)))
            .collect()
    }
}
