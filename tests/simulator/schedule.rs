//! One schedule: a cluster, its people, bad weather for a while, and then good. What is wrong at any moment ends it.

mod storm;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use curfew::api::Verdict;
use curfew::core::invariants::unfinished;
use curfew::core::{binding, grant};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::apiserver::{Key, Server, Time};
use crate::auditor::{Seen, delta};
use crate::chance::Chance;
use crate::kube_controllers;
use crate::people::People;
use crate::replica::{BEGINS, Replica};
use crate::scenes::Scene;
use crate::weather::{Storm, Weather};

/// How often it is looked whether something should have happened.
const TICK: Duration = Duration::from_millis(250);
/// More than there are replicas.
const UNINSTALLER: usize = 9;
/// All that was asked for has ended so long after the storm: no access and no waiting is longer.
const LONGEST: Duration = Duration::from_secs(8 * 60);
/// No call that was sent in the storm takes effect so long after it.
const UNDER_WAY: Duration = Duration::from_secs(15);

/// What came of a schedule.
pub struct Outcome {
    pub seed: u64,
    pub wrong: Vec<String>,
    /// All that happened, as a number: the same for the same seed.
    pub trace: u64,
    pub told: Vec<String>,
    pub seen: Seen,
    pub faults: Vec<(&'static str, u64)>,
    pub calls: u64,
    /// So long it lasted, in virtual time.
    pub lasted: Duration,
}

/// Plays the schedule of a seed.
pub fn play(seed: u64, tells: bool) -> Outcome {
    in_virtual_time(Schedule::play(seed, tells, None))
}

/// Plays a scene.
pub fn play_scene(scene: &Scene) -> Outcome {
    in_virtual_time(Schedule::play(0, true, Some(scene)))
}

fn in_virtual_time(schedule: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let outcome = runtime.block_on(schedule);
    // What is left of killed replicas waits for what won't come.
    runtime.shutdown_background();
    outcome
}

/// What is set right again later.
enum Undo {
    Start(usize, bool),
    Resume(usize),
    Reconnect(usize),
    Guards,
    Namespaces,
    Definitions,
    Uninstaller,
}

struct Schedule<'a> {
    server: &'a Arc<Server>,
    weather: &'a Weather,
    people: People<'a>,
    chance: Chance,
    replicas: Vec<Replica>,
    uninstaller: Replica,
    kube: watch::Sender<kube_controllers::State>,
    stalled_until: Instant,
    kube_ahead_until: Instant,
    undone: Vec<(Instant, Undo)>,
}

impl Schedule<'_> {
    async fn play(seed: u64, tells: bool, scene: Option<&Scene>) -> Outcome {
        let mut chance = Chance::new(seed);
        let begun = Instant::now();
        let base =
            DateTime::from_timestamp_millis(1_800_000_000_000 + i64::try_from(chance.between(0, 60_000)).unwrap())
                .unwrap();
        let time = Arc::new(Time::from(base));
        let weather = Arc::new(Weather::new(Arc::clone(&time), chance.fork(), tells));
        let server = Server::new(time, Arc::clone(&weather) as _);
        let kube = watch::Sender::default();
        let working = kube_controllers::work(Arc::clone(&server), kube.subscribe(), chance.fork());
        let working = tokio::spawn(working);
        let mut schedule = Schedule {
            people: People::new(&server, &weather, chance.fork()),
            server: &server,
            weather: &weather,
            replicas: (0..scene.map_or_else(|| 1 + chance.below(2), |scene| scene.replicas))
                .map(|number| Replica::new(number, Arc::clone(&server)))
                .collect(),
            uninstaller: Replica::new(UNINSTALLER, Arc::clone(&server)),
            chance,
            kube,
            stalled_until: begun,
            kube_ahead_until: begun,
            undone: vec![],
        };
        let done = match scene {
            None => schedule.all().await,
            Some(scene) => schedule.scene(scene).await,
        };
        working.abort();
        let state = &mut *weather.state();
        if let Err(wrong) = done {
            state.auditor.is_wrong(Some(wrong));
        }
        Outcome {
            seed,
            wrong: state.auditor.wrong().to_vec(),
            trace: state.trace(),
            told: state.told().to_vec(),
            seen: state.auditor.seen,
            faults: state.faults.iter().map(|(fault, times)| (*fault, *times)).collect(),
            calls: state.calls,
            lasted: begun.elapsed(),
        }
    }

    async fn all(&mut self) -> Result<(), String> {
        for replica in &mut self.replicas {
            replica.start(true);
            self.weather
                .state()
                .auditor
                .hinders(replica.who(), self.server.now() + delta(BEGINS));
        }
        self.passes(BEGINS).await?;
        self.storm().await?;
        self.clears().await?;
        self.everything_has_ended().await?;
        self.access_is_given_and_ends().await?;
        if self.chance.in_thousand(250) {
            self.is_uninstalled().await?;
        }
        self.ends().await
    }

    async fn scene(&mut self, scene: &Scene) -> Result<(), String> {
        for number in 0..self.replicas.len() {
            self.replicas[number].start(true);
            self.passes(BEGINS).await?;
        }
        let bound = {
            let state = &mut *self.weather.state();
            state.planned.clone_from(&scene.faults);
            state.auditor.seen.bound
        };
        self.people.prepares_last();
        let request = self.offered("scene", scene.duration).await?;
        if let Some(changes) = scene.changes {
            changes(&mut self.people);
        }
        self.approve(&request)?;
        self.until(&request, "/status/phase", Some(scene.phase), Duration::from_secs(90))
            .await?;
        let (bound, left) = {
            let state = &mut *self.weather.state();
            (state.auditor.seen.bound - bound, std::mem::take(&mut state.planned))
        };
        if bound != scene.bindings || !scene.has_come(&left) {
            return Err(format!(
                "{bound} bindings were made, and {} faults didn't come",
                left.len()
            ));
        }
        self.clears().await?;
        self.everything_has_ended().await?;
        self.ends().await
    }

    // ---- time passes ----------------------------------------------------------------------------------------------------

    /// So much time passes, and nobody does anything.
    async fn passes(&mut self, length: Duration) -> Result<(), String> {
        let until = Instant::now() + length;
        while Instant::now() < until {
            sleep(TICK.min(until - Instant::now())).await;
            self.looks().await?;
        }
        Ok(())
    }

    /// Looks whether all is as it should be.
    async fn looks(&mut self) -> Result<(), String> {
        let now = self.server.now();
        for replica in self.replicas.iter_mut().chain([&mut self.uninstaller]) {
            if let Some(wrong) = replica.ended().await {
                return Err(wrong);
            }
        }
        let auditor = &mut self.weather.state().auditor;
        auditor.look(now);
        match auditor.wrong().first() {
            // It is kept there.
            Some(_) => Err("so it was stopped".to_owned()),
            None => Ok(()),
        }
    }

    fn tell(&self, what: String) {
        self.weather.tell(|| what);
    }

    // ---- good weather --------------------------------------------------------------------------------------------------

    /// From now on nothing goes wrong, and nobody does anything that they aren't asked to.
    async fn clears(&mut self) -> Result<(), String> {
        self.tell("the weather clears".into());
        self.weather.state().storm = Storm::default();
        for (_, undo) in std::mem::take(&mut self.undone) {
            self.sets_right(undo);
        }
        self.kube.send_if_modified(|kube| kube.sets_right(true, true));
        self.people.restores_guards();
        self.people.lets_go();
        self.uninstaller.kill();
        for replica in &self.replicas {
            replica.set_clock(TimeDelta::zero());
        }
        self.weather
            .state()
            .auditor
            .unsettles(self.server.now() + delta(Duration::from_secs(75)));
        // What an uninstallation had sent when it was killed may yet take the Lease.
        self.passes(UNDER_WAY).await?;
        self.people.frees_lease();
        self.passes(Duration::from_secs(90) - UNDER_WAY).await?;
        let not_ready = self.replicas.iter().find(|replica| !replica.is_ready());
        match not_ready {
            Some(replica) => Err(format!("replica {} isn't ready although all is well", replica.number)),
            None => Ok(()),
        }
    }

    async fn everything_has_ended(&mut self) -> Result<(), String> {
        let until = Instant::now() + LONGEST;
        while Instant::now() < until && !self.is_over() {
            self.passes(Duration::from_secs(5)).await?;
        }
        let auditor = &mut self.weather.state().auditor;
        auditor.holds_of_all();
        let open = unfinished(auditor.world());
        if open.is_empty() { Ok(()) } else { Err(open.join("; ")) }
    }

    fn is_over(&self) -> bool {
        let state = self.weather.state();
        let world = state.auditor.world();
        let requests = world.requests.iter().all(|request| {
            let phase = request.status.as_ref().and_then(|status| status.phase);
            phase.is_some_and(curfew::api::RequestPhase::is_final)
        });
        requests && world.grants.iter().all(grant::has_ended)
    }

    /// After all that, Curfew does what it is for. The first access may hang on an anchor a part of which was taken away during the storm, which shows only when
    /// it is gone with it; the next one may not.
    async fn access_is_given_and_ends(&mut self) -> Result<(), String> {
        self.people.prepares_last();
        let first = self.access_is_given_and_ends_once("first").await;
        match first {
            Err(why) if why.contains("was deleted by somebody else") => {
                self.access_is_given_and_ends_once("second").await
            }
            done => done,
        }
    }

    async fn access_is_given_and_ends_once(&mut self, name: &str) -> Result<(), String> {
        let request = self.access_is_given(name).await?;
        self.until(&request, "/status/phase", Some("Expired"), Duration::from_secs(30))
            .await
    }

    async fn access_is_given(&mut self, name: &str) -> Result<Key, String> {
        let request = self.offered(name, "20s").await?;
        self.approve(&request)?;
        self.until(&request, "/status/phase", Some("Active"), Duration::from_secs(20))
            .await?;
        Ok(request)
    }

    /// A request that waits to be approved.
    async fn offered(&mut self, name: &str, duration: &str) -> Result<Key, String> {
        let request = self.people.asks_last(name, duration);
        self.until(&request, "/status/offer/digest", None, Duration::from_secs(10))
            .await?;
        Ok(request)
    }

    fn approve(&mut self, request: &Key) -> Result<(), String> {
        match self.people.says(request, "bob", Verdict::Approve) {
            true => Ok(()),
            false => Err(format!("the {} request can't be approved", request.name)),
        }
    }

    /// Until something stands there in an object.
    async fn until(&mut self, key: &Key, place: &str, text: Option<&str>, limit: Duration) -> Result<(), String> {
        let until = Instant::now() + limit;
        loop {
            let found = self.server.look(|store| store.get(key));
            let there = found
                .as_ref()
                .and_then(|object| object.pointer(place)?.as_str().map(str::to_owned));
            if there.is_some() && (text.is_none() || there.as_deref() == text) {
                return Ok(());
            }
            let has_ended = found
                .as_ref()
                .is_some_and(|object| !object["status"]["timeline"]["ended"].is_null());
            if has_ended || Instant::now() >= until {
                let status = found.map(|object| object["status"].to_string());
                return Err(format!(
                    "{place} of {} isn't {text:?} (within {limit:?}): {status:?}",
                    key.name
                ));
            }
            self.passes(TICK).await?;
        }
    }

    /// Somebody uninstalls Curfew while an access lasts: none is left, and it says so.
    async fn is_uninstalled(&mut self) -> Result<(), String> {
        self.access_is_given("last").await?;
        self.tell("it is uninstalled".into());
        self.uninstaller.uninstall();
        loop {
            self.passes(TICK).await?;
            if let Some(done) = self.uninstaller.uninstalled().await {
                done?;
                break;
            }
        }
        self.uninstaller.tell_to_end();
        if !self.is_over() {
            return Err("uninstalled, and something doesn't say that it has ended".into());
        }
        let state = self.weather.state();
        let mut bindings = state.auditor.world().bindings.iter();
        match bindings.find(|found| binding::marked(found).is_some()) {
            Some(left) => Err(format!("uninstalled, and {:?} is left", left.metadata.name)),
            None => Ok(()),
        }
    }

    /// All replicas end when they are told to.
    async fn ends(&mut self) -> Result<(), String> {
        self.replicas.iter_mut().for_each(Replica::tell_to_end);
        self.passes(Duration::from_secs(25)).await?;
        let mut all = self.replicas.iter().chain([&self.uninstaller]);
        match all.find(|replica| replica.is_there()) {
            Some(replica) => Err(format!("replica {} doesn't end", replica.number)),
            None => Ok(()),
        }
    }
}
