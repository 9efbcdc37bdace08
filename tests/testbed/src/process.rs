//! One long-running child process: started under the watchdog, its output in a log file.
//!
//! Must not be tied to an async runtime: a cluster outlives the test in whose runtime it was started.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};

use crate::watchdog::Watchdog;
use crate::{Error, Result};

/// How much of a log is shown when something went wrong.
const TAIL_LINES: usize = 15;

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// What it is called in messages.
    pub name: String,
    pub binary: PathBuf,
    pub arguments: Vec<OsString>,
    /// All of its environment; nothing is inherited.
    pub environment: Vec<(OsString, OsString)>,
    pub log: PathBuf,
}

/// A running process. It is killed by the watchdog at the latest.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    watchdog: Arc<Watchdog>,
}

impl Process {
    pub(crate) fn spawn(watchdog: &Arc<Watchdog>, program: &Program) -> Result<Self> {
        let open = || fs::OpenOptions::new().create(true).append(true).open(&program.log);
        let out = open().map_err(Error::file("write", &program.log))?;
        let err = open().map_err(Error::file("write", &program.log))?;
        let child = watchdog
            .command(&program.binary)
            .args(&program.arguments)
            .env_clear()
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(watchdog.data_dir())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(Error::file("run", &program.binary))?;
        Ok(Self {
            name: program.name.clone(),
            log: program.log.clone(),
            child,
            watchdog: Arc::clone(watchdog),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        if status.is_some() {
            self.watchdog.forget(self.child.id());
        }
        status
    }

    /// An error with the end of the log, if it ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => Err(Error::Ended {
                name: self.name.clone(),
                status: status.to_string(),
                log: self.log.clone(),
                tail: tail(&self.log),
            }),
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        self.check()?;
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        match pid.map(|pid| kill_process(pid, signal)) {
            Some(Ok(())) => Ok(()),
            _ => Err(Error::State {
                name: self.name.clone(),
                state: "not to be reached by signals",
                hint: "see whether it still runs",
            }),
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Result<ExitStatus> {
        let _ = self.child.kill();
        let status = self.child.wait().map_err(Error::file("wait for", &self.name))?;
        self.watchdog.forget(self.child.id());
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.watchdog.forget(self.child.id());
        }
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
