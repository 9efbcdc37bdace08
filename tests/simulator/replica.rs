//! One replica of the operator: the real controllers, with a clock of their own that may be wrong. It can be killed, told to end, paused, and cut off.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use curfew::cluster::brakes::Brakes;
use curfew::cluster::clock::{Clock, Clocks};
use curfew::cluster::connection::client;
use curfew::cluster::lease::Leadership;
use curfew::controller::uninstall::nothing_left;
use curfew::controller::{self, Parts};
use curfew::core::facts::Home;
use curfew::observe::health::Health;
use curfew::observe::metrics::Metrics;
use futures::FutureExt;
use kube::client::ClientBuilder;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::apiserver::{Server, Who};

/// The operator's namespace.
pub const HOME: &str = "curfew-system";

/// One process of the operator, or a place where one was.
pub struct Replica {
    pub number: usize,
    server: Arc<Server>,
    /// How far its clock is ahead.
    skew: Arc<Mutex<TimeDelta>>,
    paused: watch::Sender<bool>,
    running: Option<Running>,
    begun: usize,
}

struct Running {
    task: JoinHandle<()>,
    /// Of one that uninstalls, what came of it.
    uninstalls: Option<JoinHandle<Result<(), String>>>,
    stop: watch::Sender<bool>,
    health: Arc<Health>,
}

impl Replica {
    pub fn new(number: usize, server: Arc<Server>) -> Self {
        Self {
            number,
            server,
            skew: Arc::default(),
            paused: watch::Sender::new(false),
            running: None,
            begun: 0,
        }
    }

    pub fn who(&self) -> Who {
        Who::Replica(self.number)
    }

    /// Starts a process. `anew`: under a name of its own, and not that of the one before.
    pub fn start(&mut self, anew: bool) {
        self.begun += usize::from(anew || self.begun == 0);
        self.paused.send_replace(false);
        let identity = format!("replica-{}-{}", self.number, self.begun);
        self.run(Leadership::new(identity), false);
    }

    /// Starts a process that ends all access because Curfew is being uninstalled.
    pub fn uninstall(&mut self) {
        self.begun += 1;
        let identity = format!("uninstaller-{}", self.begun);
        self.run(Leadership::uninstalling(&identity), true);
    }

    fn run(&mut self, leadership: Leadership, uninstalling: bool) {
        let (server, skew) = (Arc::clone(&self.server), Arc::clone(&self.skew));
        let own = Clock::new(move || server.now() + *skew.lock().unwrap_or_else(PoisonError::into_inner));
        let brakes = Arc::new(Brakes::default());
        let clocks = Clocks::new(own, Arc::clone(&brakes));
        let leadership = Arc::new(leadership);
        let health = Arc::new(Health::new(Arc::clone(&brakes)));
        let parts = Parts {
            client: client(ClientBuilder::new(self.server.connection(self.who()), HOME), &clocks),
            clock: clocks.corrected(),
            home: Home {
                namespace: HOME.to_owned(),
            },
            metrics: Arc::new(Metrics::new(Arc::clone(&brakes), Arc::clone(&leadership), clocks)),
            health: Arc::clone(&health),
            brakes,
            leadership,
            uninstalling,
        };
        let (client, home, leads) = (parts.client.clone(), parts.home.clone(), Arc::clone(&parts.leadership));
        let uninstalls = uninstalling.then(|| tokio::spawn(nothing_left(client, home, leads, UNINSTALLED)));
        let stop = watch::Sender::new(false);
        let mut told = stop.subscribe();
        let stopped = async move {
            let _ = told.wait_for(|told| *told).await;
        };
        let process = controller::run(parts, stopped.boxed().shared());
        let task = tokio::spawn(pausable(process, self.paused.subscribe()));
        self.running = Some(Running {
            task,
            uninstalls,
            stop,
            health,
        });
    }

    /// It is gone from one moment to the next.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.task.abort();
            running.uninstalls.inspect(JoinHandle::abort);
        }
    }

    /// What came of uninstalling, when that is over.
    pub async fn uninstalled(&mut self) -> Option<Result<(), String>> {
        let running = self.running.as_mut()?;
        let done = running.uninstalls.take_if(|uninstalls| uninstalls.is_finished())?;
        Some(done.await.unwrap_or_else(|error| Err(error.to_string())))
    }

    /// It is told to end, and may take its time.
    pub fn tell_to_end(&mut self) {
        if let Some(running) = &self.running {
            running.stop.send_replace(true);
        }
    }

    pub fn pause(&self, is_paused: bool) {
        self.paused.send_replace(is_paused);
    }

    pub fn set_clock(&self, ahead: TimeDelta) {
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner) = ahead;
    }

    pub fn is_there(&self) -> bool {
        self.running.is_some()
    }

    pub fn is_ready(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| running.health.ready().is_ok())
    }

    /// Ends by itself only when told to. What is wrong about it otherwise, in one sentence.
    pub async fn ended(&mut self) -> Option<String> {
        let running = self.running.take_if(|running| running.task.is_finished())?;
        let was_told = *running.stop.borrow();
        match running.task.await {
            Ok(()) if was_told => None,
            Ok(()) => Some(format!(
                "the controllers of replica {} ended by themselves",
                self.number
            )),
            Err(error) => Some(format!("replica {} panicked: {error}", self.number)),
        }
    }
}

/// As long as it is paused a process does nothing at all.
async fn pausable(process: impl Future<Output = ()>, mut paused: watch::Receiver<bool>) {
    let mut process = std::pin::pin!(process);
    loop {
        // The sender lives as long as the schedule does.
        let _ = paused.wait_for(|paused| !paused).await;
        tokio::select! {
            biased;
            _ = paused.wait_for(|paused| *paused) => {}
            () = &mut process => return,
        }
    }
}

/// Uninstalling takes no longer than this, if nothing hinders it.
const UNINSTALLED: Duration = Duration::from_secs(120);

/// A replica that starts has seen all and ended what is due after so long, if nothing hinders it.
pub const BEGINS: Duration = Duration::from_secs(5);
