//! Running the real kubectl and helm.
//!
//! They must see nothing of the settings of whoever runs the tests: no kubeconfig, no preferences, no caches, no
//! plugins of theirs. Only for an existing cluster their environment stays, because its credentials may need it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use crate::watchdog::Watchdog;
use crate::{Error, Kind, Result};

/// The programs, and where they may keep things.
#[derive(Debug)]
pub(crate) struct Tools {
    pub kubectl: PathBuf,
    pub helm: PathBuf,
    pub kind: Kind,
    pub watchdog: Arc<Watchdog>,
}

impl Tools {
    /// Variables for a child that is to see nothing of ours.
    pub(crate) fn environment(&self) -> Vec<(OsString, OsString)> {
        let home = self.watchdog.data_dir().join("home");
        let mut variables: Vec<(OsString, OsString)> = ["PATH", "TMPDIR", "LANG"]
            .iter()
            .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
            .collect();
        for (name, value) in [
            ("HOME", home.clone()),
            ("KUBECACHEDIR", home.join("kube-cache")),
            ("KUBERC", "off".into()),
            ("HELM_CACHE_HOME", home.join("helm/cache")),
            ("HELM_CONFIG_HOME", home.join("helm/config")),
            ("HELM_DATA_HOME", home.join("helm/data")),
        ] {
            variables.push((name.into(), value.into()));
        }
        variables
    }

    /// A command whose process ends with this one at the latest.
    pub(crate) fn command(&self, program: &OsStr, kubeconfig: &std::path::Path) -> std::process::Command {
        let mut command = self.watchdog.command(program);
        if self.kind == Kind::Existing {
            let home = std::env::var_os("HOME").unwrap_or_default();
            command.envs(self.environment()).env("HOME", home);
        } else {
            command.env_clear().envs(self.environment());
        }
        command
            .env("KUBECONFIG", kubeconfig)
            .current_dir(self.watchdog.data_dir());
        command
    }
}

/// What a program answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Answer {
    /// The command line, for messages.
    pub command: String,
    /// The exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Answer {
    /// What it printed; an error unless it succeeded.
    pub fn ok(self) -> Result<String> {
        match self.code {
            Some(0) => Ok(self.stdout),
            _ => Err(Error::Failed {
                status: self.code.map_or("a signal".to_owned(), |code| format!("status {code}")),
                stderr: if self.stderr.trim().is_empty() {
                    self.stdout
                } else {
                    self.stderr
                },
                command: self.command,
            }),
        }
    }

    /// What it complained of; an error if it succeeded.
    pub fn refused(self) -> Result<String> {
        match self.code {
            Some(0) => Err(Error::NotRefused {
                command: self.command,
                stdout: self.stdout,
            }),
            _ => Ok(self.stderr),
        }
    }

    /// Whether it succeeded.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

/// Runs a command to its end. Dropped before that, it is killed.
pub(crate) async fn run(
    watchdog: &Watchdog,
    command: std::process::Command,
    shown: String,
    stdin: Option<&str>,
) -> Result<Answer> {
    let mut command = tokio::process::Command::from(command);
    command
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(Error::file("run", "/bin/sh"))?;
    let pid = child.id();
    let pipe = child.stdin.take();
    let input = async {
        if let (Some(mut pipe), Some(text)) = (pipe, stdin) {
            // A program that ends without reading everything says why itself.
            let _ = pipe.write_all(text.as_bytes()).await;
        }
    };
    // Both at once, so that a full pipe on one side cannot stop the other.
    let (output, ()) = tokio::join!(child.wait_with_output(), input);
    if let Some(pid) = pid {
        watchdog.forget(pid);
    }
    let output = output.map_err(Error::file("wait for", &shown))?;
    Ok(Answer {
        command: shown,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A command line for messages.
pub(crate) fn shown(program: &str, arguments: &[OsString]) -> String {
    let words = arguments.iter().map(|argument| argument.to_string_lossy());
    std::iter::once(program.into())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}
