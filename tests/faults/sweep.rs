//! The sweep: an undisturbed run that counts the calls, a choice of fault points, and a run with each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::Mutex;

use crate::auditor::{Evidence, Subject, audit};
use crate::call::{Call, SHARED, owner_of_shared};
use crate::fault::Fault;
use crate::history::now;
use crate::instance::{Instance, LIMIT};
use crate::proxy::{Armed, Came};
use crate::scenarios::{self, End, Scenario};
use crate::world::{PLACES, World};

/// How many fault points are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// So many.
    Some(usize),
    /// All of them, or one of so many equal parts: all take hours.
    Part { which: usize, of: usize },
    /// Those of which this is a part, as they are printed: for looking at one again.
    Like(String),
}

/// So many fault points are tried where nothing else is said.
pub const USUAL: Extent = Extent::Some(120);
/// Of ten of those so many are at calls that are shared.
const SHARED_OF_TEN: usize = 2;
/// One of so many takes longer than a call's time limit.
const TOO_LATE_OF: usize = 13;
/// An undisturbed scenario is played so often, to know which of its calls are always made.
const UNDISTURBED: usize = 3;

/// So long after the end the last of it may still have to be told.
const UNTOLD: Duration = Duration::from_secs(7);
/// So many instances share one start of the operator, each with a fault at another call that is shared.
const SHARING: usize = 8;

/// A fault at one call of one scenario.
#[derive(Clone, Debug)]
pub struct Point {
    /// The scenario, by its place in the list.
    scenario: usize,
    /// Whether the call is one that no instance has to itself.
    shared: bool,
    armed: Armed,
}

/// How one instance went.
pub struct Tried {
    pub told: String,
    pub reached: bool,
    /// What was wrong with how it ended.
    pub wrong: Option<String>,
}

/// How all went.
pub struct Outcome {
    pub points: usize,
    pub seed: u64,
    pub undisturbed: Vec<Tried>,
    pub tried: Vec<Tried>,
    pub findings: Vec<String>,
}

/// Where an instance is played.
struct Stage<'a> {
    world: &'a World,
    scenarios: &'a [Scenario],
    free: Mutex<Vec<usize>>,
    number: std::sync::atomic::AtomicUsize,
}

/// A played instance, for the auditor and the final look.
struct Played {
    instance: Instance,
    subject: Subject,
    tried: Tried,
    ends: Option<Vec<End>>,
    scenario: usize,
}

/// All of it.
pub async fn sweep(world: &World, seed: u64, extent: Extent) -> Outcome {
    let scenarios = scenarios::all();
    let stage = Stage {
        world,
        scenarios: &scenarios,
        free: Mutex::new((0..PLACES).collect()),
        number: std::sync::atomic::AtomicUsize::new(0),
    };
    let undisturbed: Vec<(usize, Option<Point>)> = (0..scenarios.len())
        .flat_map(|scenario| (0..UNDISTURBED).map(move |_| (scenario, None)))
        .collect();
    let undisturbed = stage.play_all(undisturbed, PLACES).await;
    let is_well = undisturbed.iter().all(|played| played.tried.wrong.is_none());
    let points = if is_well {
        points(world, &scenarios, &undisturbed)
    } else {
        vec![]
    };
    let chosen = match extent {
        Extent::Part { which, of } => {
            let is_in_it = |point: &&Point| part(&told(&scenarios, point), of) == which;
            in_any_order(points.iter().filter(is_in_it).cloned().collect(), seed)
        }
        Extent::Some(tried) => choose(&points, seed, tried),
        Extent::Like(text) => {
            let is_like = |point: &&Point| told(&scenarios, point).contains(&text);
            in_any_order(points.iter().filter(is_like).cloned().collect(), seed)
        }
    };
    println!(
        "{} fault points in {} scenarios; {} are tried (seed {seed})",
        points.len(),
        scenarios.len(),
        chosen.len(),
    );
    let (shared, own): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|point| point.shared);
    let own = own.into_iter().map(|point| (point.scenario, Some(point))).collect();
    let (mut played, more) = futures::join!(stage.play_all(own, PLACES - SHARING), stage.play_shared(shared));
    played.extend(more);
    for one in &mut played {
        one.look_again(world);
    }
    let (undisturbed, mut subjects) = parted(undisturbed);
    let (tried, more) = parted(played);
    subjects.extend(more);
    let log = world.cluster.audit_log().unwrap();
    let findings = world.history.look(|pages| {
        let evidence = Evidence {
            pages,
            log: &log,
            outages: &world.patient.outages(),
            said_of: &|id| world.patient.said_of(id),
            operator: &world.operator,
            namespace: &world.namespace,
        };
        audit(&evidence, &subjects)
    });
    Outcome {
        points: points.len(),
        seed,
        undisturbed,
        tried,
        findings,
    }
}

fn parted(played: Vec<Played>) -> (Vec<Tried>, Vec<Subject>) {
    played.into_iter().map(|played| (played.tried, played.subject)).unzip()
}

impl Stage<'_> {
    async fn play_all(&self, what: Vec<(usize, Option<Point>)>, at_once: usize) -> Vec<Played> {
        stream::iter(what)
            .map(|(scenario, point)| self.play(scenario, point))
            .buffer_unordered(at_once)
            .collect()
            .await
    }

    /// What is shared is done when the operator starts, and by whoever comes first: so several faults, each at another call, share a start.
    async fn play_shared(&self, mut points: Vec<Point>) -> Vec<Played> {
        let mut played = vec![];
        while !points.is_empty() {
            let (mut round, mut later): (Vec<Point>, Vec<Point>) = (vec![], vec![]);
            for point in points {
                let is_there = round.iter().any(|other| other.armed.call == point.armed.call);
                if is_there || round.len() == SHARING {
                    &mut later
                } else {
                    &mut round
                }
                .push(point);
            }
            points = later;
            self.world
                .proxy
                .arm_shared(round.iter().map(|point| point.armed.clone()));
            self.world.patient.kill_and_start();
            let round = round.into_iter().map(|point| self.play(point.scenario, Some(point)));
            played.extend(join_all(round).await);
        }
        played
    }

    /// Plays one instance with one fault.
    async fn play(&self, scenario: usize, point: Option<Point>) -> Played {
        let place = self.free.lock().await.pop().unwrap();
        let played = self.play_in(place, scenario, point).await;
        self.free.lock().await.push(place);
        played
    }

    async fn play_in(&self, place: usize, number: usize, point: Option<Point>) -> Played {
        let (world, scenario) = (self.world, &self.scenarios[number]);
        let id = self.number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let instance = Instance::new(world, scenario, id, place);
        world.proxy.open(instance.names());
        let own = point
            .as_ref()
            .filter(|point| !point.shared)
            .map(|point| point.armed.clone());
        if let Some(armed) = own {
            world.proxy.arm(&instance.id, armed);
        }
        instance.furnish().await;
        let before = instance.bystanders().await;
        let story = AssertUnwindSafe(async {
            instance.has_policy().await;
            (scenario.play)(&instance).await;
        });
        let begun = now();
        let told_to_the_end = story.catch_unwind().await;
        let owner = match &point {
            Some(point) if point.shared => owner_of_shared(&point.armed.call),
            _ => instance.id.clone(),
        };
        let mut settled = match told_to_the_end {
            Ok(()) => instance.settled().await,
            Err(stuck) => Err(stuck.downcast_ref::<String>().cloned().unwrap_or_default()),
        };
        // What is told of an end, such as its event, is told after it; and what takes effect late is to have taken it.
        self.has_come(&owner).await;
        let reached = point.is_none() || world.proxy.came(&owner) == Came::Over;
        if settled.is_ok() {
            settled = instance.settled().await;
        }
        let fault = point.as_ref().map(|point| point.armed.clone());
        let after = instance.bystanders_since(&before).await;
        instance.clear().await;
        let told = match &point {
            Some(point) => told(self.scenarios, point),
            None => format!("{:?}, undisturbed", scenario.name),
        };
        let killed = world.patient.outages().iter().any(|outage| outage.from >= begun);
        let wrong = wrong(scenario, fault.as_ref(), killed, &settled);
        let wrong = wrong.map(|wrong| {
            let log = world.patient.said_of(&instance.id);
            format!("{}: {wrong}\n{log}", instance.id)
        });
        Played {
            subject: Subject {
                id: instance.id.clone(),
                told: told.clone(),
                lasts: instance.lasts,
                approvals: scenario.terms.approvals,
                approvers: &["bob", "carol"],
                requester: instance.requester.clone(),
                role: (scenario.terms.role, instance.names().role),
                namespaces: instance.namespaces().len(),
                one_at_a_time: scenario.terms.one_at_a_time,
                bindings: fault.as_ref().map_or(1, |armed| armed.fault.bindings(&armed.call)),
                may_take_back: fault
                    .as_ref()
                    .is_some_and(|armed| armed.fault.may_take_back(&armed.call)),
                binding_may_come_late: fault
                    .as_ref()
                    .is_some_and(|armed| armed.fault.may_bind_late(&armed.call)),
                may_delay: fault.map_or(Duration::ZERO, |armed| armed.fault.may_delay()),
                before,
                after,
            },
            tried: Tried { told, reached, wrong },
            ends: settled.ok(),
            scenario: number,
            instance,
        }
    }

    /// Waits until a fault is over. One whose call isn't made is waited for only a little.
    async fn has_come(&self, owner: &str) {
        let came = async |awaited: &[Came]| {
            while awaited.contains(&self.world.proxy.came(owner)) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let _ = tokio::time::timeout(UNTOLD, came(&[Came::NotYet])).await;
        tokio::time::timeout(LIMIT, came(&[Came::UnderWay]))
            .await
            .expect("a fault ends");
    }
}

impl Played {
    /// At the end of all, it is still as it was.
    fn look_again(&mut self, world: &World) {
        let now = self.instance.ended_now(world);
        if self.tried.wrong.is_none() && now != self.ends {
            self.tried.wrong = Some(format!(
                "{}: it had ended with {:?}, and later it was {now:?}",
                self.instance.id, self.ends
            ));
        }
    }
}

/// How a fault point is printed.
fn told(scenarios: &[Scenario], point: &Point) -> String {
    format!("{:?}, {point}", scenarios[point.scenario].name)
}

/// What is wrong with how it ended.
fn wrong(
    scenario: &Scenario,
    fault: Option<&Armed>,
    killed: bool,
    settled: &Result<Vec<End>, String>,
) -> Option<String> {
    let ends = match settled {
        Err(how) => return Some(how.clone()),
        Ok(ends) => ends,
    };
    let is_excused = |undisturbed: End, end: End| {
        let excuses = |Armed { call, nth: _, fault }: &Armed| {
            fault.excuses(call, undisturbed, end) || killed && fault.excuses_if_killed(undisturbed, end)
        };
        fault.is_some_and(excuses)
    };
    let mut pairs = scenario.ends.iter().zip(ends);
    let each_is_well = pairs.all(|(undisturbed, end)| end == undisturbed || is_excused(*undisturbed, *end));
    // Who got nothing asks for nothing more.
    let none_is_missing = scenario.ends.len() == ends.len() || ends.last() != scenario.ends.get(ends.len() - 1);
    let ended_otherwise = matches!(ends.as_slice(), [end] if scenario.or.contains(end));
    let is_well = ended_otherwise || each_is_well && none_is_missing;
    (!is_well).then(|| format!("it ended with {ends:?} instead of {:?}", scenario.ends))
}

/// Every call that is always made, with everything that can befall it.
fn points(world: &World, scenarios: &[Scenario], undisturbed: &[Played]) -> Vec<Point> {
    let mut points = vec![];
    for scenario in 0..scenarios.len() {
        let runs = undisturbed.iter().filter(|played| played.scenario == scenario);
        let counts: Vec<BTreeMap<Call, usize>> = runs.map(|played| world.proxy.counted(&played.instance.id)).collect();
        for (call, most) in &counts[0] {
            let always = counts
                .iter()
                .map(|counted| counted.get(call).copied().unwrap_or_default())
                .min();
            for nth in 1..=always.unwrap_or_default().min(*most) {
                points.extend(befalling(scenario, false, call, nth));
            }
        }
    }
    for call in world.proxy.counted(SHARED).keys() {
        points.extend(befalling(0, true, call, 1));
    }
    points
}

fn befalling(scenario: usize, shared: bool, call: &Call, nth: usize) -> Vec<Point> {
    let faults = Fault::ALL.into_iter().filter(|fault| fault.befalls(call));
    faults
        .map(|fault| Point {
            scenario,
            shared,
            armed: Armed {
                call: call.clone(),
                nth,
                fault,
            },
        })
        .collect()
}

/// The part that a fault point is in: the same in each run, whatever other points that one has counted.
fn part(told: &str, of: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    told.hash(&mut hasher);
    usize::try_from(hasher.finish() % of as u64).map_or(1, |part| part + 1)
}

/// So that what one fault holds up for a while isn't what all the next ones wait for: events are written one after the other.
fn in_any_order(points: Vec<Point>, seed: u64) -> Vec<Point> {
    let mut chance = Chance(seed);
    let mut ordered: Vec<_> = points.into_iter().map(|point| (chance.next(), point)).collect();
    ordered.sort_by_key(|(order, _)| *order);
    ordered.into_iter().map(|(_, point)| point).collect()
}

/// Some of them, spread over all calls and kinds: whatever was chosen least is chosen next, and chance decides among equals.
fn choose(points: &[Point], seed: u64, tried: usize) -> Vec<Point> {
    let mut left = in_any_order(points.to_vec(), seed);
    let (mut calls, mut faults, mut scenarios) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let (mut chosen, mut too_late, mut shared) = (vec![], 0, 0);
    while chosen.len() < tried && !left.is_empty() {
        let count = |point: &Point| {
            let Armed { call, fault, nth: _ } = &point.armed;
            let told = |map: &BTreeMap<_, usize>, key| map.get(&key).copied().unwrap_or_default();
            told(&calls, (call.clone(), point.shared)) * 3
                + faults.get(fault).copied().unwrap_or(0usize)
                + scenarios.get(&point.scenario).copied().unwrap_or(0usize)
        };
        let next = (0..left.len()).min_by_key(|index| count(&left[*index])).unwrap();
        let point = left.swap_remove(next);
        let is_too_late = matches!(point.armed.fault, Fault::Slow | Fault::Late);
        if is_too_late && too_late >= tried / TOO_LATE_OF || point.shared && shared >= tried * SHARED_OF_TEN / 10 {
            continue;
        }
        shared += usize::from(point.shared);
        too_late += usize::from(is_too_late);
        *calls.entry((point.armed.call.clone(), point.shared)).or_default() += 1;
        *faults.entry(point.armed.fault).or_default() += 1;
        *scenarios.entry(point.scenario).or_default() += 1;
        chosen.push(point);
    }
    chosen
}

/// splitmix64: enough to be fair, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Armed { call, nth, fault } = &self.armed;
        let shared = if self.shared { "shared " } else { "" };
        write!(f, "{fault} at {shared}{call} #{nth}")
    }
}

impl Outcome {
    /// What was tried, for people.
    pub fn told(&self) -> String {
        let reached = self.tried.iter().filter(|tried| tried.reached).count();
        let kinds: BTreeSet<&str> = self
            .tried
            .iter()
            .filter_map(|tried| tried.told.rsplit(", ").next())
            .collect();
        let mut lines = vec![format!(
            "{} of {} fault points tried, {reached} reached, {} kinds of call and fault (seed {})",
            self.tried.len(),
            self.points,
            kinds.len(),
            self.seed
        )];
        let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
        for kind in self
            .tried
            .iter()
            .filter_map(|tried| tried.told.rsplit(", ").next()?.split(" at ").next())
        {
            *faults.entry(kind).or_default() += 1;
        }
        lines.push(format!("{faults:?}"));
        let missed = self.tried.iter().filter(|tried| !tried.reached);
        lines.extend(missed.map(|tried| format!("not reached: {}", tried.told)));
        lines.join("\n")
    }
}
