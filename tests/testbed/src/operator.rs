//! The operator as a local process, for clusters without nodes.
//!
//! It runs with the token of the chart's own service account and sees nothing else. Must never give it more rights
//! than the chart does.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Process, Program};
use crate::watchdog::Watchdog;
use crate::{Error, Result, clock, ports, probe};

/// How the operator is run.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// The program, `env!("CARGO_BIN_EXE_curfew")` in the product's tests.
    pub binary: PathBuf,
    /// What it is told, before `--kubeconfig PATH --listen 127.0.0.1:PORT`.
    pub arguments: Vec<OsString>,
    /// Its environment; nothing but PATH, HOME and RUST_LOG is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it is to find the API server, such as a proxy in between; without it, where the API server is.
    pub server: Option<String>,
    /// Where it finds its token, as in a pod, where it is renewed; without it the token stands in its kubeconfig.
    pub token_file: Option<PathBuf>,
    /// What it is called; without it a name that no other replica has.
    pub identity: Option<String>,
    /// By how many seconds its machine's clock is ahead, or behind if negative.
    pub clock_ahead: i64,
    /// How long it may take until `/readyz` says yes.
    pub ready_within: Duration,
}

impl OperatorOptions {
    /// The operator in `binary`, with no further arguments.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            server: None,
            token_file: None,
            identity: None,
            clock_ahead: 0,
            ready_within: Duration::from_secs(180),
        }
    }

    /// More arguments.
    pub fn arguments<I>(mut self, arguments: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Another way to the API server. The operator's token goes there.
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
        self
    }

    /// A file that holds its token, and another later.
    pub fn token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.token_file = Some(file.into());
        self
    }

    /// Another replica's name, perhaps.
    pub fn identity(mut self, identity: impl Into<String>) -> Self {
        self.identity = Some(identity.into());
        self
    }

    /// A machine whose clock is wrong by so many seconds: [`crate::Capability::WrongClock`].
    pub fn clock_ahead(mut self, seconds: i64) -> Self {
        self.clock_ahead = seconds;
        self
    }

    /// One more variable.
    pub fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }
}

/// One replica of the operator. Cheap to clone; it is killed when its last handle is gone, or the cluster ends.
#[derive(Clone, Debug)]
pub struct Operator {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: OperatorOptions,
    name: String,
    kubeconfig: PathBuf,
    log: PathBuf,
    watchdog: Arc<Watchdog>,
    running: Mutex<Option<Process>>,
    address: Mutex<Option<SocketAddr>>,
}

impl Operator {
    pub(crate) async fn run(
        watchdog: &Arc<Watchdog>,
        options: OperatorOptions,
        kubeconfig: &Path,
        number: usize,
        wait: bool,
    ) -> Result<Self> {
        let log = watchdog.data_dir().join(format!("operator-{number}.log"));
        let name = options.identity.clone().unwrap_or_else(|| format!("operator-{number}"));
        let inner = Inner {
            options,
            name,
            kubeconfig: kubeconfig.to_path_buf(),
            log,
            watchdog: Arc::clone(watchdog),
            running: Mutex::new(None),
            address: Mutex::new(None),
        };
        let operator = Self { inner: Arc::new(inner) };
        operator.spawn()?;
        if wait {
            operator.wait_until_ready().await?;
        }
        Ok(operator)
    }

    /// The program.
    pub(crate) fn binary(&self) -> PathBuf {
        self.inner.options.binary.clone()
    }

    /// Starts it again after [`Self::stop`] or [`Self::kill`], or after it ended by itself, and waits until it is
    /// ready. Its log goes on in the same file.
    pub async fn start(&self) -> Result<()> {
        self.spawn()?;
        self.wait_until_ready().await
    }

    /// The same, without waiting: for what must be seen while it is not ready.
    pub fn spawn(&self) -> Result<()> {
        let inner = &self.inner;
        let mut running = inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.as_mut().is_some_and(|process| process.ended().is_none()) {
            return Err(Error::State {
                name: inner.name.clone(),
                state: "running",
                hint: "stop or kill it first",
            });
        }
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
        let mut arguments = inner.options.arguments.clone();
        arguments.extend(["--kubeconfig".into(), inner.kubeconfig.clone().into_os_string()]);
        arguments.extend(["--listen".into(), address.to_string().into()]);
        let home = inner.watchdog.data_dir().join("home");
        let mut environment: Vec<(OsString, OsString)> = vec![("HOME".into(), home.into_os_string())];
        // The same at every start of this replica, and another for each, unless said: so a start after a kill takes over at once. In a pod it is said so too.
        environment.push(("CURFEW_IDENTITY".into(), inner.name.clone().into()));
        environment.extend(
            ["PATH", "RUST_LOG", "RUST_BACKTRACE"]
                .iter()
                .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?))),
        );
        environment.extend(inner.options.environment.iter().cloned());
        if inner.options.clock_ahead != 0 {
            environment.extend(clock::ahead(inner.watchdog.data_dir(), inner.options.clock_ahead)?);
        }
        let program = Program {
            name: inner.name.clone(),
            binary: inner.options.binary.clone(),
            arguments,
            environment,
            log: inner.log.clone(),
        };
        *running = Some(Process::spawn(&inner.watchdog, &program)?);
        *inner.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        Ok(())
    }

    /// Waits until `/readyz` says yes. If the process ends before that, the error shows the end of its log.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let inner = &self.inner;
        let alive = || probe::alive(&inner.running);
        probe::until(&inner.name, inner.options.ready_within, &inner.log, alive, async || {
            self.get("/readyz").await.map(|_| ()).map_err(|error| error.to_string())
        })
        .await
    }

    /// What it answers to a GET on its metrics address: `/metrics`, `/readyz`, `/healthz`. An error unless the status is 200.
    pub async fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}", self.address()?);
        let uri = url.parse().map_err(Error::parse(url.clone()))?;
        let mut config = kube::Config::new(uri);
        config.default_retry = false;
        probe::get(&config, path).await.map_err(|detail| Error::Parse {
            what: format!("the answer to GET {url}{path}"),
            detail,
        })
    }

    /// Where it serves metrics and readiness.
    pub fn address(&self) -> Result<SocketAddr> {
        let address = *self.inner.address.lock().unwrap_or_else(PoisonError::into_inner);
        address.ok_or_else(|| self.stopped())
    }

    /// What it is called in its log, in the Lease and in its user agent.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        running
            .as_mut()
            .and_then(|process| process.ended().is_none().then(|| process.pid()))
    }

    /// Everything it wrote so far, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.inner.log).unwrap_or_default()).into_owned()
    }

    /// Asks it to end (SIGTERM), and waits until it did: an error if it takes more than 30 s or ends with a failure.
    pub async fn stop(&self) -> Result<()> {
        let start = Instant::now();
        self.signal(Signal::TERM)?;
        loop {
            let mut process = self.take()?;
            match process.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(_) => return process.check(),
                None if start.elapsed() > Duration::from_secs(30) => {
                    return Err(Error::State {
                        name: self.inner.name.clone(),
                        state: "still running 30 s after SIGTERM",
                        hint: "look at its log for what it waits for",
                    });
                }
                None => {
                    *self.inner.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// Ends it without warning (SIGKILL), and returns when it is gone.
    pub fn kill(&self) -> Result<()> {
        self.take()?.kill().map(|_| ())
    }

    /// Freezes it (SIGSTOP).
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let mut running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_mut().ok_or_else(|| self.stopped())?.signal(signal)
    }

    fn take(&self) -> Result<Process> {
        self.inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| self.stopped())
    }

    fn stopped(&self) -> Error {
        Error::State {
            name: self.inner.name.clone(),
            state: "not running",
            hint: "start it first",
        }
    }
}
