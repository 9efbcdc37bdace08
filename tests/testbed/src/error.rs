//! Everything that can go wrong, each in one sentence that says what to do next.
//!
//! Must not hide the cause: where a program failed, the end of what it said is part of the sentence.

use std::path::PathBuf;

use crate::{Capability, Kind};

/// Why the testbed could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `CURFEW_TESTBED` holds something else.
    #[error("CURFEW_TESTBED is {0:?}: set it to embedded, kind or existing, or unset it for embedded")]
    UnknownKind(String),
    /// This kind of cluster cannot do that.
    #[error("a cluster of kind {kind} has no {capability}: {instead}")]
    Lacking {
        /// The kind of cluster in use.
        kind: Kind,
        /// What it lacks.
        capability: Capability,
        /// What to do instead.
        instead: &'static str,
    },
    /// A file could not be read, written or run.
    #[error("cannot {doing} {path}: {source}; check that it exists, who may use it, and that the disk is not full")]
    File {
        /// What was being done, such as `write`.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program is not installed.
    #[error("{program} is not in PATH: {hint}")]
    Missing {
        /// The program.
        program: &'static str,
        /// How to get it, or do without.
        hint: &'static str,
    },
    /// The Go toolchain is too old for the pinned modules.
    #[error(
        "the Go toolchain is too old to build the control plane ({0}): install a newer one, or set GOTOOLCHAIN=auto"
    )]
    GoTooOld(String),
    /// No room for the build.
    #[error(
        "the disk is full while building {package}: make about 5 GB free, or move GOCACHE, GOMODCACHE and CURFEW_TESTBED_CACHE to a larger disk"
    )]
    DiskFull {
        /// What was being built.
        package: String,
    },
    /// Go modules cannot be had.
    #[error(
        "the Go modules for {package} cannot be downloaded: check the network and GOPROXY, then try again ({detail})"
    )]
    Download {
        /// What was being built.
        package: String,
        /// What Go said.
        detail: String,
    },
    /// The Go build failed for another reason.
    #[error(
        "building {package} failed: try the same by hand in {directory} to see more; go build ended with: {detail}"
    )]
    Build {
        /// What was being built.
        package: String,
        /// Where the go.mod in use is.
        directory: PathBuf,
        /// What Go said last.
        detail: String,
    },
    /// No free port was found.
    #[error("no free TCP port was found on 127.0.0.1 between {from} and {to}: stop what listens there")]
    NoPort {
        /// The lowest port tried.
        from: u16,
        /// The highest port tried.
        to: u16,
    },
    /// A process ended although it should run.
    #[error("{name} ended with {status}: see {log} (kept with CURFEW_TESTBED_KEEP=1); it ends with:\n{tail}")]
    Ended {
        /// Which process.
        name: String,
        /// Its exit status.
        status: String,
        /// Where its log is.
        log: PathBuf,
        /// The end of it.
        tail: String,
    },
    /// Something did not get ready in time.
    #[error(
        "{what} is not ready after {seconds} s: see {log} (kept with CURFEW_TESTBED_KEEP=1); last: {last}; it ends with:\n{tail}"
    )]
    NotReady {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// What the last attempt said.
        last: String,
        /// Where the log is.
        log: PathBuf,
        /// The end of it.
        tail: String,
    },
    /// A component is not in the state that was expected.
    #[error("{name} is {state}: {hint}")]
    State {
        /// Which one.
        name: String,
        /// The state it is in.
        state: &'static str,
        /// What to call first.
        hint: &'static str,
    },
    /// The API server did not do what was asked.
    #[error("cannot {doing}: {source}; check that the API server runs and what it allows")]
    Api {
        /// What was being done.
        doing: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// A program failed.
    #[error("`{command}` ended with {status}, and should have succeeded:\n{stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it said on stderr, or else on stdout.
        stderr: String,
    },
    /// A program succeeded where a refusal was expected.
    #[error("`{command}` succeeded, and should have been refused:\n{stdout}")]
    NotRefused {
        /// The command line.
        command: String,
        /// What it said on stdout.
        stdout: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for {name:?}: {detail}; check the name and the CA")]
    Certificate {
        /// For whom.
        name: String,
        /// Why.
        detail: String,
    },
    /// A certificate request was not answered.
    #[error(
        "the cluster issued no client certificate for {0:?}: it needs a signer for kubernetes.io/kube-apiserver-client; use embedded or kind"
    )]
    NotIssued(String),
    /// Something said a thing that was not understood.
    #[error("cannot understand {what}: {detail}; look at it by hand")]
    Parse {
        /// What was read.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }

    /// For `map_err` on requests to the API server.
    pub(crate) fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Api {
            doing,
            source: Box::new(source),
        }
    }

    /// For `map_err` on parsing.
    pub(crate) fn parse<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self::Parse {
            what,
            detail: error.to_string(),
        }
    }
}
