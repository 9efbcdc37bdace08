//! The operator `curfew`: reads its options, connects, runs the controllers, and ends gracefully.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::USER_AGENT;
use clap::{Parser, Subcommand, ValueEnum};
use curfew::cluster::brakes::{Brakes, Puller};
use curfew::cluster::clock::{Clock, Clocks};
use curfew::cluster::connection::{bounded, client};
use curfew::cluster::lease::Leadership;
use curfew::controller::uninstall::nothing_left;
use curfew::controller::{self, Parts};
use curfew::core::facts::{Brake, Home};
use curfew::observe::health::{self, Health};
use curfew::observe::metrics::Metrics;
use futures::FutureExt;
use kube::Config;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The operator of Curfew: grants what was approved, and ends it on time.
///
/// In a cluster it needs no options. Outside one it uses the kubeconfig that --kubeconfig, KUBECONFIG or ~/.kube/config names.
#[derive(Debug, Parser)]
#[command(name = "curfew", version, max_term_width = 120)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where to serve /healthz, /readyz and /metrics; with port 0 a free one is chosen, and logged.
    #[arg(
        long,
        env = "CURFEW_LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS:PORT"
    )]
    listen: SocketAddr,
    /// How log lines are written.
    #[arg(long, env = "CURFEW_LOG_FORMAT", value_enum, default_value = "text", global = true)]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as "info,curfew=debug".
    #[arg(long, env = "CURFEW_LOG_LEVEL", default_value = "info", value_name = "LEVEL", value_parser = filter, global = true)]
    log_level: String,
    /// The kubeconfig to use. Without it: the pod's service account, or KUBECONFIG, or ~/.kube/config.
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context to use. Without it: the current one.
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    /// The namespace that the operator is installed in, in which it never grants anything. Without it: the pod's, or the context's.
    #[arg(long, short, env = "CURFEW_NAMESPACE", value_name = "NAME", global = true)]
    namespace: Option<String>,
    /// This replica's name: one of several is chosen to grant, all end access. Without it: another at every start.
    ///
    /// No two that run may have the same. One that begins takes over at once from an earlier process of the same name: so give one only where a process is
    /// started again after the one before it has ended, as the chart does with the pod's name and uid. Without it, the first to grant after a crash waits
    /// until it has seen for 15 s that nobody grants.
    #[arg(long, env = "CURFEW_IDENTITY", value_name = "NAME", value_parser = identity)]
    identity: Option<String>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// End every access, grant nothing more, and end when nothing of Curfew gives access any more. `helm uninstall` runs it before anything is deleted.
    ///
    /// Exit code 1 if something is left at the time limit; it is named then.
    Uninstall {
        /// How many seconds it may take.
        #[arg(long, default_value_t = 240, value_name = "SECONDS")]
        timeout: u64,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("{error}; allowed are error, warn, info, debug, trace or a filter"))
}

fn identity(text: &str) -> Result<String, String> {
    let is_fit = (1..=253).contains(&text.len()) && text.chars().all(|character| character.is_ascii_graphic());
    is_fit
        .then(|| text.to_owned())
        .ok_or_else(|| "it must be 1 to 253 visible ASCII characters without spaces".to_owned())
}

/// A name that no other process has: the machine's, and chance.
fn new_identity() -> String {
    let machine = std::env::var("HOSTNAME").ok().and_then(|name| identity(&name).ok());
    let chance = RandomState::new().hash_one(std::process::id());
    format!("{}_{chance:016x}", machine.as_deref().unwrap_or("curfew"))
}

/// What ends the operator with exit code 1.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the async runtime could not be started: {0}")]
    Runtime(std::io::Error),
    #[error("the kubeconfig can't be used: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("no way to the API server was found: {0}; run it in a pod with a service account, or give --kubeconfig")]
    NoCluster(#[from] kube::config::InferConfigError),
    #[error("the connection to the API server can't be set up: {0}")]
    Client(#[from] kube::Error),
    #[error("{0} can't be listened on: {1}; choose another with --listen")]
    Listen(SocketAddr, std::io::Error),
    #[error("signals can't be received: {0}")]
    Signals(std::io::Error),
    #[error("the controllers ended by themselves, which must not happen; restart it")]
    ControllersEnded,
    #[error("{0}")]
    Left(String),
}

fn main() -> ExitCode {
    let options = Options::parse();
    start_logging(&options);
    raise_limits();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime);
    match runtime.and_then(|runtime| runtime.block_on(run(options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// As many connections as it may have: when much ends at once there is one for each call, and a container may begin with as few as 1,024.
fn raise_limits() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn start_logging(options: &Options) {
    let filter = EnvFilter::try_new(&options.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => log.with_ansi(false).init(),
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    let identity = options.identity.clone().unwrap_or_else(new_identity);
    let mut config = connection(&options).await?;
    // So that the audit log tells replicas apart: they share a service account.
    if let Ok(agent) = HeaderValue::from_str(&format!("curfew/{} ({identity})", env!("CARGO_PKG_VERSION"))) {
        config.headers.push((USER_AGENT, agent));
    }
    let home = home(&options, &config);
    let brakes = Arc::new(Brakes::default());
    let clocks = Clocks::new(Clock::system(), Arc::clone(&brakes));
    let client = client(ClientBuilder::try_from(config)?, &clocks);
    let leadership = Arc::new(match options.command {
        None => Leadership::new(identity),
        Some(Command::Uninstall { timeout: _ }) => Leadership::uninstalling(&identity),
    });
    let parts = Parts {
        metrics: Arc::new(Metrics::new(
            Arc::clone(&brakes),
            Arc::clone(&leadership),
            clocks.clone(),
        )),
        health: Arc::new(Health::new(Arc::clone(&brakes))),
        client,
        clock: clocks.corrected(),
        home,
        brakes,
        leadership,
        uninstalling: options.command.is_some(),
    };
    match options.command {
        None => operate(parts, options.listen).await,
        Some(Command::Uninstall { timeout }) => uninstall(parts, Duration::from_secs(timeout)).await,
    }
}

/// Runs until it is told to end.
async fn operate(parts: Parts, listen: SocketAddr) -> Result<(), Failure> {
    let health = Arc::clone(&parts.health);
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::Listen(listen, error))?;
    let address = listener.local_addr().map_err(|error| Failure::Listen(listen, error))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace = parts.home.namespace, %address, "curfew begins");
    let serving = health::serve(listener, Arc::clone(&health), Arc::clone(&parts.metrics));

    let told = told_to_end()?;
    let stop = ending(told, health).boxed().shared();
    tokio::select! {
        () = controller::run(parts, stop.clone()) => match stop.peek() {
            Some(()) => { tracing::info!("curfew ends"); Ok(()) }
            None => Err(Failure::ControllersEnded),
        },
        never = serving => match never {},
    }
}

/// Ends every access, and itself when none is left.
async fn uninstall(parts: Parts, limit: Duration) -> Result<(), Failure> {
    tracing::info!(namespace = parts.home.namespace, "every access is to end");
    let brake = Brake {
        reason: "Uninstalling",
        message: "Curfew is being uninstalled".into(),
    };
    parts.brakes.pull(Puller::Uninstall, brake);
    let (client, home, leadership) = (parts.client.clone(), parts.home.clone(), Arc::clone(&parts.leadership));
    let told = told_to_end()?;
    let done = async move {
        tokio::select! {
            done = nothing_left(client, home, leadership, limit) => done,
            () = told => Err("it was told to end before everything had ended; try again".to_owned()),
        }
    }
    .boxed()
    .shared();
    controller::run(parts, done.clone().map(drop).boxed().shared()).await;
    match done.peek() {
        Some(done) => done.clone().map_err(Failure::Left),
        None => Err(Failure::ControllersEnded),
    }
}

fn told_to_end() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signals)?;
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    })
}

/// Once it is told to end it isn't ready any more.
async fn ending(told: impl Future<Output = ()>, health: Arc<Health>) {
    told.await;
    tracing::info!("told to end; what was begun is finished first");
    health.stopping();
}

/// Where it is installed.
fn home(options: &Options, config: &Config) -> Home {
    Home {
        namespace: options
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone()),
    }
}

/// Where the API server is.
async fn connection(options: &Options) -> Result<Config, Failure> {
    let choice = KubeConfigOptions {
        context: options.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = match (&options.kubeconfig, &options.context) {
        (Some(file), _) => Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &choice).await?,
        (None, Some(_)) => Config::from_kubeconfig(&choice).await?,
        (None, None) => Config::infer().await?,
    };
    Ok(bounded(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no options name is the pod's, or the context's.
    #[tokio::test]
    async fn its_connection_is_bounded_and_its_namespace_is_that_of_its_context() {
        let file = std::env::temp_dir().join(format!("curfew-connection-{}", std::process::id()));
        let kubeconfig = r#"{
            "apiVersion": "v1", "kind": "Config", "current-context": "here", "users": [{"name": "me", "user": {}}],
            "clusters": [{"name": "one", "cluster": {"server": "https://127.0.0.1:1"}}],
            "contexts": [{"name": "here", "context": {"cluster": "one", "user": "me", "namespace": "security"}}]
        }"#;
        std::fs::write(&file, kubeconfig).unwrap();
        let options = Options::parse_from(["curfew", "--kubeconfig", file.to_str().unwrap()]);
        let config = connection(&options).await.unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(config.read_timeout.is_some() && !config.default_retry);
        assert_eq!(home(&options, &config).namespace, "security");
        let elsewhere = Options::parse_from(["curfew", "--namespace", "elsewhere"]);
        assert_eq!(home(&elsewhere, &config).namespace, "elsewhere");
    }

    #[tokio::test]
    async fn once_it_is_told_to_end_it_says_so_instead_of_being_ready() {
        let health = Arc::new(Health::new(Arc::new(Brakes::default())));
        ending(std::future::ready(()), Arc::clone(&health)).await;
        assert_eq!(health.ready().unwrap_err(), "it is ending");
    }
}
