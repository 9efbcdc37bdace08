//! A real Kubernetes control plane for Curfew's tests, demo and benchmark.
//!
//! [`Cluster::start`] gives one of three kinds of cluster, as `CURFEW_TESTBED` says:
//!
//! * `embedded` (the default): etcd, kube-apiserver and kube-controller-manager, real and unmodified, as local
//!   processes. They are built once from their published Go modules, so a Go toolchain is all that is needed.
//! * `kind`: a cluster of its own in containers; needs `kind` and `docker`.
//! * `existing`: the cluster of the current kube context, or of the one that `CURFEW_CONTEXT` names.
//!
//! [`Installation`] installs the product there from its chart, with the real Helm, and runs the operator.
//! [`User`] is somebody with a credential and a kubeconfig of their own, who speaks through the real kubectl.
//!
//! ```no_run
//! # async fn example() -> Result<(), curfew_testbed::Error> {
//! use curfew_testbed::{Cluster, Options};
//!
//! let cluster = Cluster::start(Options::default()).await?;
//! let alice = cluster.user("alice").group("dev").uid("a-1").build().await?;
//! let refusal = alice.kubectl(["get", "pods"]).await?.refused()?;
//! assert!(refusal.contains("forbidden"));
//! cluster.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What is left behind
//!
//! Nothing, whatever way the process ends, a `static` cluster and SIGKILL included: a watchdog sees to it.
//!
//! # Environment
//!
//! | variable | meaning |
//! |---|---|
//! | `CURFEW_TESTBED` | `embedded`, `kind` or `existing` |
//! | `CURFEW_TESTBED_CACHE` | where built binaries are kept, instead of `~/.cache/curfew-testbed` |
//! | `CURFEW_TESTBED_KEEP` | `1` keeps the data directory (logs, audit log, kubeconfigs) for a look afterwards |
//! | `KUBEBUILDER_ASSETS` | a directory with etcd, kube-apiserver, kubectl: used where they are there |
//! | `KIND_NODE_IMAGE` | the node image for `kind` |
//! | `CURFEW_CONTEXT`, `CURFEW_IMAGE` | the context and the product's image for `existing` |

mod audit;
mod binaries;
mod certificates;
mod clock;
mod cluster;
mod embedded;
mod error;
mod existing;
mod install;
mod kind;
mod kubeconfig;
mod kubectl;
mod operator;
mod ports;
mod probe;
mod process;
mod user;
mod watchdog;

pub use audit::{AuditEvent, AuditUser};
pub use cluster::{Capability, Cluster, Kind, Options};
pub use embedded::Component;
pub use error::Error;
pub use install::{InstallOptions, Installation};
pub use kubectl::Answer;
pub use operator::{Operator, OperatorOptions};
pub use user::{User, UserBuilder};

/// Where the real Helm is, for what needs no cluster; built first where it is not there yet. Blocks.
pub fn helm() -> Result<std::path::PathBuf> {
    let helm = binaries::Tool::Helm;
    Ok(binaries::ensure(&[helm])?.path(helm))
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
