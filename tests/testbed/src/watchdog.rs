//! Ends everything that a cluster started, whatever way this process ends.
//!
//! A `/bin/sh` reads a pipe whose other end only this process has. At its end of file (this process stopped the
//! cluster, exited, panicked or was killed) it kills every process registered under `pids/`, runs the clean-up
//! commands in `at-end.sh`, and removes the data directory.
//!
//! Processes register themselves before they become what they are to be, and `pids/` is taken away in one rename, so
//! there is no moment at which a process could be missed: it registers in time, or it finds no place to register
//! and ends. Each is the leader of a process group, and all of that group is killed. So a terminal's Ctrl-C reaches
//! none of them before this process has ended.
//!
//! Must not depend on destructors or signal handlers of this process.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::{Error, Result};

/// Waits for the end of file, then cleans up. Arguments: the data directory, and whether to keep it.
const WATCH: &str = r#"
trap '' HUP INT QUIT TERM
cd /
while read -r _; do :; done
mv "$1/pids" "$1/dead"
for entry in "$1"/dead/*; do
    pid=${entry##*/}
    case $pid in *[!0-9]*) continue ;; esac
    kill -9 "-$pid" 2>/dev/null || kill -9 "$pid" 2>/dev/null
done
[ -f "$1/at-end.sh" ] && /bin/sh "$1/at-end.sh" >"$1/at-end.log" 2>&1
[ "$2" = keep ] && exit 0
tries=0
until rm -rf "$1" 2>/dev/null || [ "$tries" -ge 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
"#;

/// Registers itself and becomes the program. Arguments: the directory of pids, the program, its arguments.
const BECOME: &str = r#"pids=$1; shift; : >"$pids/$$" && exec "$@""#;

/// The data directory of a cluster and the process that cleans up after it.
#[derive(Debug)]
pub(crate) struct Watchdog {
    data_dir: PathBuf,
    running: Mutex<Option<(Child, ChildStdin)>>,
}

impl Watchdog {
    /// Makes a data directory for this user's eyes only, and starts the watchdog over it.
    pub(crate) fn start() -> Result<Self> {
        let temp = std::env::temp_dir();
        let data_dir = tempfile::Builder::new()
            .prefix("curfew-testbed-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(Error::file("make a directory in", &temp))?;
        let path = data_dir.path().to_path_buf();
        fs::create_dir(path.join("pids")).map_err(Error::file("make", path.join("pids")))?;
        let keep = std::env::var_os("CURFEW_TESTBED_KEEP").is_some_and(|value| !value.is_empty() && value != "0");
        let mut child = Command::new("/bin/sh")
            .args(["-c", WATCH, "curfew-testbed-watchdog"])
            .arg(&path)
            .arg(if keep { "keep" } else { "remove" })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::file("run", "/bin/sh"))?;
        let pipe = child.stdin.take();
        let running = Mutex::new(pipe.map(|pipe| (child, pipe)));
        if keep {
            eprintln!("curfew-testbed: keeping {} (CURFEW_TESTBED_KEEP)", path.display());
        }
        let _ = data_dir.keep(); // from here on it is the watchdog's
        Ok(Self {
            data_dir: path,
            running,
        })
    }

    /// Where everything of this cluster is.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A command to run `program` so that it ends with this process at the latest. Call [`Self::forget`] with its
    /// pid once it has been waited for.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", BECOME, "curfew-testbed"])
            .arg(self.data_dir.join("pids"))
            .arg(program)
            .process_group(0);
        command
    }

    /// Takes a process that has ended off the list.
    pub(crate) fn forget(&self, pid: u32) {
        let _ = fs::remove_file(self.data_dir.join("pids").join(pid.to_string()));
    }

    /// Has a command run at the end, after all processes were killed and while the data directory is still there.
    /// Commands run in the order in which they were given.
    pub(crate) fn at_end<I>(&self, command: I) -> Result<()>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let words: Vec<String> = command
            .into_iter()
            .map(|word| format!("'{}'", word.as_ref().replace('\'', r"'\''")))
            .collect();
        let path = self.data_dir.join("at-end.sh");
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{}", words.join(" ")))
            .map_err(Error::file("write", path))
    }

    /// Ends everything now, and returns when it is done. Further calls do nothing.
    pub(crate) fn end(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut child, pipe)) = running {
            drop(pipe);
            let _ = child.wait();
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.end();
    }
}
