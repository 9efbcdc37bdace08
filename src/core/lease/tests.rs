use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

fn at(seconds: f64) -> Moment {
    Duration::from_secs_f64(seconds)
}

fn me() -> Candidate {
    Candidate::new("me".into())
}

fn write(version: &str) -> Step {
    Step::Write {
        version: Some(version.into()),
    }
}

fn holder(who: &str) -> Option<String> {
    Some(who.into())
}

/// One that wrote version 1, begun at 1.0 and answered at 1.5.
fn leading() -> Candidate {
    let mut candidate = me();
    candidate.saw_none(at(0.5));
    candidate.wrote("1".into(), at(1.0), at(1.5));
    candidate
}

#[test]
fn where_there_is_no_lease_the_first_makes_one_at_once() {
    let mut candidate = me();
    assert_eq!(candidate.step(at(0.0)), Step::Look);
    candidate.saw_none(at(0.1));
    assert_eq!(candidate.step(at(0.1)), Step::Write { version: None });
    assert!(!candidate.may_grant(at(0.1)), "not before it is stored");
    candidate.wrote("1".into(), at(0.1), at(0.2));
    assert!(candidate.may_grant(at(0.2)));
}

#[test]
fn a_holder_grants_from_the_answer_until_a_while_after_it_began_to_ask() {
    let candidate = leading();
    for (moment, may) in [(1.5, true), (10.9, true), (11.0, false), (100.0, false)] {
        assert_eq!(candidate.may_grant(at(moment)), may, "{moment}");
    }
}

#[test]
fn a_holder_renews_in_time_and_counts_from_the_renewal() {
    let mut candidate = leading();
    assert_eq!(candidate.step(at(5.9)), Step::Wait(at(6.0)));
    assert_eq!(candidate.step(at(6.0)), write("1"));
    candidate.wrote("2".into(), at(6.0), at(6.2));
    assert_eq!(candidate.grants_until(), Some(at(16.0)));
}

#[test]
fn a_renewal_that_fails_is_tried_again_soon_and_prolongs_nothing() {
    let mut candidate = leading();
    candidate.failed(at(9.0));
    assert_eq!(candidate.step(at(9.5)), Step::Wait(at(10.0)));
    assert_eq!(candidate.step(at(10.0)), write("1"));
    assert_eq!(candidate.grants_until(), Some(at(11.0)));
}

#[test]
fn a_write_that_changed_nothing_renews_nothing() {
    let mut candidate = leading();
    candidate.wrote("1".into(), at(6.0), at(6.1));
    assert_eq!(candidate.grants_until(), Some(at(11.0)));
}

#[test]
fn a_renewal_whose_answer_was_lost_is_found_by_its_conflict_and_renewed_again() {
    let mut candidate = leading();
    candidate.failed(at(9.0));
    candidate.was_overtaken(at(10.0));
    assert_eq!(candidate.step(at(10.0)), Step::Look);
    candidate.saw("2".into(), holder("me"), at(10.1));
    assert_eq!(candidate.step(at(10.1)), write("2"));
    assert_eq!(
        candidate.grants_until(),
        Some(at(11.0)),
        "what it read is older than it knows"
    );
}

#[test]
fn another_takes_it_only_after_it_saw_no_change_for_the_whole_time() {
    let mut candidate = me();
    candidate.saw("7".into(), holder("other"), at(3.0));
    assert_eq!(candidate.other_holder(), Some("other"));
    for second in [5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 17.0] {
        assert_eq!(candidate.step(at(second - 0.1)), Step::Wait(at(second)));
        assert_eq!(candidate.step(at(second)), Step::Look);
        candidate.saw("7".into(), holder("other"), at(second));
    }
    assert_eq!(candidate.step(at(17.5)), Step::Wait(at(18.0)));
    assert_eq!(candidate.step(at(18.0)), write("7"));
}

#[test]
fn a_change_begins_the_wait_anew_whoever_made_it() {
    let mut candidate = me();
    candidate.saw("7".into(), holder("other"), at(3.0));
    candidate.saw("8".into(), holder("other"), at(17.0));
    assert_eq!(candidate.step(at(18.9)), Step::Wait(at(19.0)));
    candidate.saw("9".into(), holder("stranger"), at(31.0));
    assert_eq!(candidate.step(at(32.9)), Step::Wait(at(33.0)));
}

#[test]
fn one_that_slept_looks_before_it_takes_anything() {
    let mut candidate = me();
    candidate.saw("7".into(), holder("other"), at(3.0));
    assert_eq!(candidate.step(at(100.0)), Step::Look);
    candidate.saw("8".into(), holder("other"), at(100.1));
    assert_eq!(candidate.step(at(100.2)), Step::Wait(at(102.1)));
}

#[test]
fn what_was_given_up_is_taken_at_once() {
    for given_up in [None, holder("")] {
        let mut candidate = me();
        candidate.saw("7".into(), holder("other"), at(3.0));
        candidate.saw("8".into(), given_up, at(5.0));
        assert_eq!(candidate.step(at(5.0)), write("8"));
    }
}

#[test]
fn what_an_earlier_process_of_the_same_identity_held_is_taken_at_once() {
    let mut candidate = me();
    candidate.saw("7".into(), holder("me"), at(0.1));
    assert!(
        !candidate.may_grant(at(0.1)),
        "what that process wrote says nothing of this one"
    );
    assert_eq!(candidate.step(at(0.1)), write("7"));
}

#[test]
fn a_lease_that_was_deleted_is_not_free_its_holder_may_not_know_yet() {
    let mut candidate = me();
    candidate.saw("7".into(), holder("other"), at(3.0));
    candidate.saw_none(at(5.0));
    candidate.saw_none(at(19.0));
    assert_eq!(candidate.step(at(19.9)), Step::Wait(at(20.0)));
    assert_eq!(candidate.step(at(20.0)), Step::Write { version: None });
}

#[test]
fn a_holder_that_sees_another_in_its_place_or_nothing_grants_nothing_from_then_on() {
    let mut candidate = leading();
    candidate.saw("2".into(), holder("other"), at(3.0));
    assert!(!candidate.may_grant(at(3.0)));
    let mut candidate = leading();
    candidate.saw_none(at(3.0));
    assert!(!candidate.may_grant(at(3.0)));
}

#[test]
fn whoever_gives_it_up_grants_nothing_any_more_whatever_comes() {
    let mut candidate = leading();
    assert!(candidate.give_up());
    assert!(!candidate.may_grant(at(1.6)));
    candidate.wrote("2".into(), at(1.7), at(1.8));
    assert!(!candidate.may_grant(at(1.9)));
    let mut follower = me();
    follower.saw("7".into(), holder("other"), at(3.0));
    assert!(!follower.give_up());
}

// ---- two that want it, whatever the network and the scheduler do ---------------------------------------------------

/// How one turn of a replica goes, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// It doesn't run for so long before it decides.
    sleeps: u64,
    /// It doesn't run for so long between deciding and sending.
    dawdles: u64,
    /// Until the call takes effect.
    there: u64,
    /// Until the answer is worked on: late where the replica doesn't run meanwhile. `None`: it is lost; the call takes effect all the same.
    back: Option<u64>,
}

#[derive(Clone, Debug)]
enum What {
    Decides,
    TakesEffect {
        step: Step,
        begun: Moment,
        back: Option<u64>,
    },
    Hears {
        result: Answer,
        begun: Moment,
    },
}

#[derive(Clone, Debug)]
enum Answer {
    Read(Option<(u64, String)>),
    Wrote(u64),
    Conflict,
    Lost,
}

/// So long a replica waits for an answer that is lost, in milliseconds.
const PATIENCE: u64 = 3_000;

struct World {
    lease: Option<(u64, String)>,
    versions: u64,
    replicas: Vec<Candidate>,
    turns: Vec<Vec<Turn>>,
    /// What is to come: by time, then by the order in which it came up.
    agenda: BTreeMap<(u64, u64), (usize, What)>,
    count: u64,
    led: Vec<bool>,
}

impl World {
    fn new(turns: Vec<Vec<Turn>>) -> Self {
        let mut world = Self {
            lease: None,
            versions: 0,
            replicas: (0..turns.len())
                .map(|number| Candidate::new(number.to_string()))
                .collect(),
            led: vec![false; turns.len()],
            turns,
            agenda: BTreeMap::new(),
            count: 0,
        };
        for number in 0..world.replicas.len() {
            world.later(0, number, What::Decides);
        }
        world
    }

    fn later(&mut self, time: u64, who: usize, what: What) {
        self.count += 1;
        self.agenda.insert((time, self.count), (who, what));
    }

    /// A clock that belongs to this replica: each began at another time, and one runs faster than the other.
    fn moment(who: usize, time: u64) -> Moment {
        Duration::from_millis((time + 7_000 * who as u64) * (100 + 5 * who as u64) / 100)
    }

    fn run(&mut self) {
        while let Some(((time, _), (who, what))) = self.agenda.pop_first() {
            match what {
                What::Decides => self.decides(time, who),
                What::TakesEffect { step, begun, back } => {
                    let result = self.takes_effect(who, &step);
                    if let Some(back) = back {
                        self.later(time + back, who, What::Hears { result, begun });
                    }
                }
                What::Hears { result, begun } => self.hears(time, who, result, begun),
            }
            let grants: Vec<_> = (0..self.replicas.len())
                .filter(|who| self.replicas[*who].may_grant(Self::moment(*who, time)))
                .collect();
            assert!(grants.len() <= 1, "at {time} ms these grant: {grants:?}");
            for who in grants {
                self.led[who] = true;
            }
        }
    }

    fn decides(&mut self, time: u64, who: usize) {
        let Some(Turn {
            sleeps,
            dawdles,
            there,
            back,
        }) = self.turns[who].pop()
        else {
            return;
        };
        let now = time + sleeps;
        let begun = Self::moment(who, now);
        match self.replicas[who].step(begun) {
            Step::Wait(_) => self.later(now + 500, who, What::Decides),
            step => {
                let sent = now + dawdles;
                self.later(sent + there, who, What::TakesEffect { step, begun, back });
                if back.is_none() {
                    let result = Answer::Lost;
                    self.later(sent + PATIENCE, who, What::Hears { result, begun });
                }
            }
        }
    }

    fn takes_effect(&mut self, who: usize, step: &Step) -> Answer {
        let Step::Write { version } = step else {
            return Answer::Read(self.lease.clone());
        };
        if self.lease.as_ref().map(|(version, _)| version.to_string()) != *version {
            return Answer::Conflict;
        }
        self.versions += 1;
        self.lease = Some((self.versions, who.to_string()));
        Answer::Wrote(self.versions)
    }

    fn hears(&mut self, time: u64, who: usize, result: Answer, begun: Moment) {
        let now = Self::moment(who, time);
        let replica = &mut self.replicas[who];
        match result {
            Answer::Read(Some((version, holder))) => replica.saw(version.to_string(), Some(holder), now),
            Answer::Read(None) => replica.saw_none(now),
            Answer::Wrote(version) => replica.wrote(version.to_string(), begun, now),
            Answer::Conflict => replica.was_overtaken(now),
            Answer::Lost => replica.failed(now),
        }
        self.later(time, who, What::Decides);
    }
}

fn turn() -> impl Strategy<Value = Turn> {
    let mostly = |usual: std::ops::Range<u64>, rare: std::ops::Range<u64>| prop_oneof![9 => usual, 1 => rare];
    let back = prop_oneof![8 => (1..400_u64).prop_map(Some), 1 => (1..40_000_u64).prop_map(Some), 1 => Just(None)];
    (
        mostly(0..50, 0..40_000),
        mostly(0..5, 0..40_000),
        mostly(1..300, 1..30_000),
        back,
    )
        .prop_map(|(sleeps, dawdles, there, back)| Turn {
            sleeps,
            dawdles,
            there,
            back,
        })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        rng_seed: RngSeed::Fixed(1800),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn two_never_grant_at_once_however_late_they_and_their_calls_are(turns in prop::collection::vec(prop::collection::vec(turn(), 150), 2..=3)) {
        World::new(turns).run();
    }
}

#[test]
fn where_nothing_goes_wrong_one_leads_all_the_time_and_the_next_leads_when_it_has_died() {
    let well = Turn {
        sleeps: 0,
        dawdles: 0,
        there: 1,
        back: Some(1),
    };
    let mut world = World::new(vec![vec![well; 200], vec![well; 400]]);
    world.run();
    assert_eq!(world.led, [true, true], "the first ends after half the time");
}

// ---- the end of an installation ------------------------------------------------------------------------------------

#[test]
fn whoever_uninstalls_takes_the_lease_at_once_from_whoever_holds_it_and_leaves_it_so() {
    let mut candidate = Candidate::uninstalling("one");
    candidate.saw("7".into(), holder("other"), at(0.1));
    assert_eq!(candidate.step(at(0.1)), write("7"));
    candidate.wrote("8".into(), at(0.1), at(0.2));
    assert_eq!(
        candidate.step(at(0.2)),
        Step::Wait(at(5.1)),
        "and renews it as any other"
    );
    assert!(!candidate.give_up(), "so that nobody grants when it is done");
}

#[test]
fn who_saw_the_lease_being_taken_to_end_everything_leaves_it_for_long_and_who_begins_anew_does_not() {
    let mut before = me();
    before.saw("7".into(), holder("other"), at(0.1));
    before.saw("8".into(), holder("uninstalling-one"), at(2.0));
    before.saw("9".into(), holder("uninstalling-one"), at(7.0));
    before.saw("9".into(), holder("uninstalling-one"), at(306.0));
    assert_eq!(before.step(at(306.9)), Step::Wait(at(307.0)));
    assert_eq!(before.step(at(307.0)), write("9"));

    // However often it looks.
    for looks in 1..4 {
        let mut anew = me();
        anew.saw("9".into(), holder("uninstalling-one"), at(0.1));
        (1..looks).for_each(|_| anew.saw("9".into(), holder("uninstalling-one"), at(14.9)));
        anew.look_at = Moment::MAX;
        assert_eq!(anew.step(at(15.0)), Step::Wait(at(15.1)), "{looks}");
        assert_eq!(anew.step(at(15.1)), write("9"), "{looks}");
    }
}

#[test]
fn who_uninstalls_is_called_so() {
    assert_eq!(me().identity(), "me");
    assert_eq!(Candidate::uninstalling("one").identity(), "uninstalling-one");
}
