//! An API server and two replicas, as small as they can be: what is stored, what each replica has seen of it, and what it is in the middle of.
//!
//! A replica's steps are those of `controller::{request, grant, sweep}`: decide on what the watches have shown, read afresh where the controller does, then
//! one write after the other. Both replicas believe at all times that they lead: one that doesn't is one that takes no step of a leader's, and not taking a
//! step is always possible.

use super::asked::{Asked, MOMENTS, OnGrant, OnRequest, WORDS};
use super::{Flaw, Scene};
use crate::core::grant::has_ended;

/// An object.
pub type Number = u16;
/// A binding's uid.
pub type Binding = u8;

/// What the API server stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stored {
    pub request: Number,
    pub grant: Option<Number>,
    pub binding: Option<Binding>,
    /// Whether the binding came when what was stored didn't call for it any more: it had been under way.
    pub late: bool,
    /// Whether somebody had looked for it in vain just before, and is about to write what comes of that to the request.
    pub missed: bool,
}

impl Stored {
    /// If it is this binding, it is gone, and nothing of it matters any more.
    fn delete(&mut self, binding: Binding) {
        self.binding = self.binding.filter(|stored| *stored != binding);
        self.late &= self.binding.is_some();
        self.missed &= self.binding.is_some();
    }
}

/// What was seen of an object, and whether it is still the version that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seen<T> {
    pub it: T,
    pub is_newest: bool,
}

impl<T> Seen<T> {
    fn newest(it: T) -> Self {
        Self { it, is_newest: true }
    }

    fn old(it: T) -> Self {
        Self { it, is_newest: false }
    }
}

/// What a replica is in the middle of: the next call is decided, and not made yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hands {
    Free,
    CreatingGrant {
        request: Seen<Number>,
        spec: Number,
    },
    WritingRequest {
        over: Seen<Number>,
        next: Number,
    },
    Binding {
        grant: Seen<Number>,
    },
    WritingGrant {
        over: Seen<Number>,
        next: Number,
        /// Whether it is dropped at the deadline, for the end.
        until_deadline: bool,
    },
    Deleting {
        grant: Seen<Number>,
        binding: Binding,
        why: Number,
    },
    Sweeping {
        binding: Binding,
    },
    /// It has stopped for good.
    Dead,
}

/// One replica: what its watches have shown, and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Replica {
    request: Seen<Number>,
    grant: Seen<Option<Number>>,
    binding: Option<Binding>,
    hands: Hands,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub now: u8,
    /// How many faults may still come.
    faults: u8,
    pub stored: Stored,
    replicas: [Replica; 2],
}

/// Who made a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Time,
    Word(&'static str, crate::api::Verdict),
    /// A replica, by its place before the step, and what it did.
    Replica(usize, &'static str),
    /// The same, with a fault.
    Fault(usize, &'static str),
}

/// How a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Answered,
    /// It failed before it took effect.
    Refused,
    /// It took effect, and the answer was lost.
    Lost,
}

impl State {
    /// Alice has asked, and nobody has looked yet.
    pub fn first(asked: &mut Asked, scene: Scene) -> Self {
        let request = asked.first_request();
        let replica = Replica {
            request: Seen::newest(request),
            grant: Seen::newest(None),
            binding: None,
            hands: Hands::Free,
        };
        Self {
            now: 0,
            faults: scene.faults,
            stored: Stored {
                request,
                grant: None,
                binding: None,
                late: false,
                missed: false,
            },
            replicas: [replica; 2],
        }
    }

    /// The same whichever replica comes first.
    fn in_order(mut self) -> Self {
        self.replicas.sort_unstable();
        self
    }

    /// All that can happen next.
    pub fn steps(&self, asked: &mut Asked, scene: Scene) -> Vec<(Step, Self)> {
        let mut next = vec![];
        if usize::from(self.now) + 1 < MOMENTS.len() {
            next.push((
                Step::Time,
                Self {
                    now: self.now + 1,
                    ..*self
                },
            ));
        }
        for (place, (who, verdict)) in WORDS.into_iter().enumerate() {
            if let Some(request) = asked.said(self.stored.request, place) {
                let mut said = *self;
                said.store_request(asked, request, scene);
                next.push((Step::Word(who, verdict), said));
            }
        }
        for which in [0, 1] {
            self.turn(which, asked, scene).steps(&mut next);
        }
        next.into_iter().map(|(step, state)| (step, state.in_order())).collect()
    }

    /// Whether no replica has anything to do.
    pub fn is_at_rest(&self, asked: &mut Asked, scene: Scene) -> bool {
        [0, 1]
            .into_iter()
            .all(|which| self.turn(which, asked, scene).is_at_rest())
    }

    fn turn<'a>(&'a self, which: usize, asked: &'a mut Asked, scene: Scene) -> Turn<'a> {
        Turn {
            before: self,
            which,
            me: self.replicas[which],
            asked,
            scene,
        }
    }

    /// Whoever was about to write it has a conflict from now on, and might as well have it at once.
    fn store_request(&mut self, asked: &mut Asked, request: Number, scene: Scene) {
        self.stored.request = request;
        // Whoever looks now sees the binding.
        self.stored.missed = false;
        for replica in &mut self.replicas {
            replica.request = Seen::old(asked.old_request(replica.request.it));
            match &mut replica.hands {
                Hands::WritingRequest { .. } if scene.flaw != Flaw::SealsAtAnyVersion => replica.hands = Hands::Free,
                Hands::CreatingGrant { request: seen, .. } | Hands::WritingRequest { over: seen, .. } => {
                    *seen = Seen::old(asked.old_request(seen.it));
                }
                Hands::Free
                | Hands::Binding { .. }
                | Hands::WritingGrant { .. }
                | Hands::Deleting { .. }
                | Hands::Sweeping { .. }
                | Hands::Dead => {}
            }
        }
    }

    fn store_grant(&mut self, asked: &mut Asked, grant: Number) {
        self.stored.grant = Some(grant);
        for replica in &mut self.replicas {
            replica.grant = Seen::old(replica.grant.it.map(|grant| asked.old_grant(grant)));
            match &mut replica.hands {
                Hands::WritingGrant { .. } => replica.hands = Hands::Free,
                Hands::Binding { grant: seen } | Hands::Deleting { grant: seen, .. } => {
                    *seen = Seen::old(asked.old_grant(seen.it));
                }
                Hands::Free
                | Hands::CreatingGrant { .. }
                | Hands::WritingRequest { .. }
                | Hands::Sweeping { .. }
                | Hands::Dead => {}
            }
        }
    }

    /// A uid that nobody knows of.
    fn new_binding(&self, asked: &Asked) -> Binding {
        let mut known: Vec<Binding> = self
            .stored
            .grant
            .and_then(|grant| asked.recorded(grant))
            .into_iter()
            .collect();
        for replica in &self.replicas {
            known.extend(replica.binding);
            known.extend(replica.grant.it.and_then(|grant| asked.recorded(grant)));
            match replica.hands {
                Hands::Deleting { binding, grant, .. } => {
                    known.extend([Some(binding), asked.recorded(grant.it)].into_iter().flatten())
                }
                Hands::Sweeping { binding } => known.push(binding),
                Hands::WritingGrant { over, next, .. } => {
                    known.extend([over.it, next].into_iter().filter_map(|grant| asked.recorded(grant)));
                }
                Hands::Binding { grant } => known.extend(asked.recorded(grant.it)),
                Hands::Free | Hands::CreatingGrant { .. } | Hands::WritingRequest { .. } | Hands::Dead => {}
            }
        }
        (0..Binding::MAX).find(|binding| !known.contains(binding)).unwrap()
    }
}

/// One replica's turn.
struct Turn<'a> {
    before: &'a State,
    which: usize,
    /// The replica, with what it has seen by now.
    me: Replica,
    asked: &'a mut Asked,
    scene: Scene,
}

impl Turn<'_> {
    fn with(&self, change: impl FnOnce(&mut Replica)) -> State {
        let mut state = *self.before;
        state.replicas[self.which] = self.me;
        change(&mut state.replicas[self.which]);
        state
    }

    fn steps(&mut self, next: &mut Vec<(Step, State)>) {
        let which = self.which;
        if self.me.hands == Hands::Dead {
            return;
        }
        if self.before.faults > 0 {
            self.stops(next);
        }
        if self.me.hands == Hands::Free {
            for seen in self.may_have_seen() {
                self.me = seen;
                let turns = self.turns();
                next.extend(turns.map(|(what, hands)| (Step::Replica(which, what), self.with(|me| me.hands = hands))));
            }
            return;
        }
        let what = self.doing();
        next.push((Step::Replica(which, what), self.call(Call::Answered)));
        if self.before.faults > 0 {
            for call in [Call::Refused, Call::Lost] {
                let mut failed = self.call(call);
                failed.faults -= 1;
                next.push((Step::Fault(which, what), failed));
            }
        }
        if self.is_dropped() {
            next.push((Step::Replica(which, "drops it"), self.with(|me| me.hands = Hands::Free)));
        }
    }

    /// It stops for good. One that starts again is one whose call was refused or lost, and that sees all afresh.
    fn stops(&self, next: &mut Vec<(Step, State)>) {
        let mut dead = self.with(|me| me.hands = Hands::Dead);
        dead.faults -= 1;
        // What it had seen is of no matter any more.
        dead.replicas[self.which].request = Seen {
            it: 0,
            is_newest: false,
        };
        dead.replicas[self.which].grant = Seen {
            it: None,
            is_newest: false,
        };
        dead.replicas[self.which].binding = None;
        next.push((Step::Fault(self.which, "stops for good"), dead));
    }

    /// What the watches may have shown it by now. Each of them runs by itself; the last is all that there is.
    fn may_have_seen(&self) -> Vec<Replica> {
        let stored = self.before.stored;
        let mut all = vec![self.me];
        let sees: [fn(&mut Replica, Stored); 3] = [
            |me, stored| me.request = Seen::newest(stored.request),
            |me, stored| me.grant = Seen::newest(stored.grant),
            |me, stored| me.binding = stored.binding,
        ];
        for sees in sees {
            for before in all.clone() {
                let mut after = before;
                sees(&mut after, stored);
                if after != before {
                    all.push(after);
                }
            }
        }
        all
    }

    /// What it would do first, by each of its controllers.
    fn turns(&mut self) -> impl Iterator<Item = (&'static str, Hands)> + use<> {
        let turns = [
            ("turns to the request", self.request()),
            ("turns to the grant", self.grant()),
            ("turns to the binding", self.sweep()),
        ];
        turns.into_iter().filter_map(|(what, hands)| Some((what, hands?)))
    }

    /// Whether it has nothing to do, having seen all.
    fn is_at_rest(&mut self) -> bool {
        match self.me.hands {
            Hands::Dead => true,
            Hands::Free => {
                self.me = self.may_have_seen().pop().unwrap_or(self.me);
                self.turns().next().is_none()
            }
            Hands::CreatingGrant { .. }
            | Hands::WritingRequest { .. }
            | Hands::Binding { .. }
            | Hands::WritingGrant { .. }
            | Hands::Deleting { .. }
            | Hands::Sweeping { .. } => false,
        }
    }

    /// `controller::request::reconcile`, up to the first write.
    fn request(&mut self) -> Option<Hands> {
        let Replica { request, grant, .. } = self.me;
        let now = self.before.now;
        let status = self.asked.request(request.it).status.clone().unwrap_or_default();
        let mut plan = self.asked.on_request(request.it, grant.it, false, now);
        if let (OnRequest::Write(next), Some(_)) = (plan, &status.seal) {
            // A sealed request only tells how its grant is doing; what would end it is read afresh, and whether a binding is left then.
            let phase = self.asked.request(next).status.as_ref().and_then(|status| status.phase);
            if phase.is_some_and(crate::api::RequestPhase::is_final) {
                let Stored { grant, binding, .. } = self.before.stored;
                let is_over = grant.is_none_or(|grant| has_ended(self.asked.grant(grant)));
                let is_left = is_over && binding.is_some() && self.scene.flaw != Flaw::EndsWithItsGrant;
                plan = self.asked.on_request(request.it, grant, is_left, now);
            }
        }
        match plan {
            OnRequest::Nothing => None,
            OnRequest::Grant(spec) => Some(Hands::CreatingGrant { request, spec }),
            OnRequest::Write(next) => self.writing_request(request, next),
        }
    }

    /// `controller::grant::reconcile`, up to the first write.
    fn grant(&mut self) -> Option<Hands> {
        let Replica {
            request,
            grant,
            binding,
            ..
        } = self.me;
        let State { now, stored, .. } = *self.before;
        let grant = Seen {
            it: grant.it?,
            is_newest: grant.is_newest,
        };
        if has_ended(self.asked.grant(grant.it)) {
            return None;
        }
        if let Some(why) = self.asked.due(grant.it, now) {
            return self.end(grant, why);
        }
        let mut plan = self.asked.on_grant(grant.it, request.it, binding, now);
        if let OnGrant::End(_) = plan {
            // Afresh. Before a grant is bound there is no binding to look at.
            let was_told = self.asked.grant(grant.it).status.is_some();
            let binding = stored.binding.filter(|_| was_told);
            plan = self.asked.on_grant(grant.it, stored.request, binding, now);
        }
        match plan {
            OnGrant::Nothing => None,
            // It is read again before: what isn't the newest isn't bound.
            OnGrant::Bind => grant.is_newest.then_some(Hands::Binding { grant }),
            OnGrant::End(why) => self.end(grant, why),
        }
    }

    /// `controller::grant::end`: the binding that was recorded, or the one that is there; without one, it only says so.
    fn end(&mut self, grant: Seen<Number>, why: Number) -> Option<Hands> {
        let recorded = self.asked.recorded(grant.it);
        match recorded.or(self.before.stored.binding) {
            Some(binding) if self.scene.flaw != Flaw::SaysEndedFirst => Some(Hands::Deleting { grant, binding, why }),
            _ => {
                let next = self.asked.ended(grant.it, why, self.before.now);
                self.writing_grant(grant, next, false)
            }
        }
    }

    /// Over an older version it would be a conflict, and nothing else.
    fn writing_request(&self, over: Seen<Number>, next: Number) -> Option<Hands> {
        let is_written = over.is_newest || (self.scene.flaw == Flaw::SealsAtAnyVersion && self.asked.is_sealed(next));
        is_written.then_some(Hands::WritingRequest { over, next })
    }

    /// The same for a grant.
    fn writing_grant(&self, over: Seen<Number>, next: Number, until_deadline: bool) -> Option<Hands> {
        (over.is_newest && over.it != next).then_some(Hands::WritingGrant {
            over,
            next,
            until_deadline,
        })
    }

    /// `controller::sweep::reconcile`, up to the delete.
    fn sweep(&mut self) -> Option<Hands> {
        let State { now, stored, .. } = *self.before;
        let Replica { grant, binding, .. } = self.me;
        binding?;
        let binding = stored.binding?;
        let is_to_go = self.asked.to_sweep(grant.it, now) && self.asked.to_sweep(stored.grant, now);
        (is_to_go && self.scene.flaw != Flaw::NeverSweeps).then_some(Hands::Sweeping { binding })
    }

    fn doing(&self) -> &'static str {
        match self.me.hands {
            Hands::Free | Hands::Dead => "",
            Hands::CreatingGrant { .. } => "creates the grant",
            Hands::WritingRequest { .. } => "writes the request's status",
            Hands::Binding { .. } => "creates the binding",
            Hands::WritingGrant { .. } => "writes the grant's status",
            Hands::Deleting { .. } => "deletes the binding",
            Hands::Sweeping { .. } => "sweeps the binding",
        }
    }

    /// Whether what it does is dropped for the end, for the deadline has come.
    fn is_dropped(&self) -> bool {
        let now = self.before.now;
        match self.me.hands {
            Hands::Binding { grant } => self.asked.past_deadline(grant.it, now),
            Hands::WritingGrant {
                over, until_deadline, ..
            } => until_deadline && self.asked.past_deadline(over.it, now),
            Hands::Free
            | Hands::Dead
            | Hands::CreatingGrant { .. }
            | Hands::WritingRequest { .. }
            | Hands::Deleting { .. }
            | Hands::Sweeping { .. } => false,
        }
    }

    /// The call that it is about to make.
    fn call(&mut self, how: Call) -> State {
        let mut state = self.with(|me| me.hands = Hands::Free);
        match self.me.hands {
            Hands::Free | Hands::Dead => {}
            Hands::CreatingGrant { request, spec } => self.create_grant(&mut state, request, spec, how),
            Hands::WritingRequest { over, next } => self.write_request(&mut state, over, next, how),
            Hands::Binding { grant } => self.bind(&mut state, grant, how),
            Hands::WritingGrant { over, next, .. } => {
                if over.is_newest && how != Call::Refused {
                    state.store_grant(self.asked, next);
                    if how == Call::Answered {
                        state.replicas[self.which].grant = Seen::newest(Some(next));
                    }
                }
            }
            Hands::Deleting { grant, binding, why } => self.delete(&mut state, grant, binding, why, how),
            Hands::Sweeping { binding } => {
                if how != Call::Refused {
                    state.stored.delete(binding);
                }
            }
        }
        state
    }

    /// If it is there already, that one counts. Then it is decided again, with the grant.
    fn create_grant(&mut self, state: &mut State, request: Seen<Number>, spec: Number, how: Call) {
        let now = state.now;
        if how == Call::Refused {
            return;
        }
        let grant = match state.stored.grant {
            Some(grant) => grant,
            None => {
                let created = self.asked.created(spec, now);
                state.store_grant(self.asked, created);
                created
            }
        };
        if how == Call::Answered
            && let OnRequest::Write(next) = self.asked.on_request(request.it, Some(grant), false, now)
            && let Some(hands) = self.writing_request(request, next)
        {
            state.replicas[self.which].hands = hands;
        }
    }

    /// At the version that was decided on.
    fn write_request(&mut self, state: &mut State, over: Seen<Number>, next: Number, how: Call) {
        if how == Call::Refused {
            return;
        }
        if over.is_newest {
            state.store_request(self.asked, next, self.scene);
        } else if self.scene.flaw == Flaw::SealsAtAnyVersion && self.asked.is_sealed(next) {
            let next = self.asked.put_over(state.stored.request, next);
            state.store_request(self.asked, next, self.scene);
        }
        if how == Call::Answered {
            // It is known without waiting for the watch.
            state.replicas[self.which].request = Seen::newest(state.stored.request);
        }
    }

    fn bind(&mut self, state: &mut State, grant: Seen<Number>, how: Call) {
        if how == Call::Refused {
            return;
        }
        let State { now, stored, .. } = *state;
        let made = stored.binding.unwrap_or_else(|| state.new_binding(self.asked));
        if stored.binding.is_none() {
            state.stored.binding = Some(made);
            let current = stored.grant.unwrap_or(grant.it);
            state.stored.late = self.asked.is_over(stored.request, current, now);
            let is_writing = |replica: &Replica| matches!(replica.hands, Hands::WritingRequest { .. });
            state.stored.missed = state.stored.late && state.replicas.iter().any(is_writing);
        }
        // Once the deadline has come nobody waits for the answer.
        if how == Call::Answered && !self.asked.past_deadline(grant.it, now) {
            let next = self.asked.active(grant.it, made, now);
            if let Some(hands) = self.writing_grant(grant, next, true) {
                state.replicas[self.which].hands = hands;
            }
        }
    }

    /// By its uid. Only when it is known to be gone the end is said.
    fn delete(&mut self, state: &mut State, grant: Seen<Number>, binding: Binding, why: Number, how: Call) {
        if how != Call::Refused {
            state.stored.delete(binding);
        }
        let next = match how {
            Call::Answered => self.asked.ended(grant.it, why, state.now),
            Call::Refused | Call::Lost => self.asked.ending(grant.it, why, state.now),
        };
        if let Some(hands) = self.writing_grant(grant, next, false) {
            state.replicas[self.which].hands = hands;
        }
    }
}
