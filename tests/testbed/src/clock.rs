//! A machine whose clock is wrong, for one process on it.
//!
//! Only the time of day is changed: monotonic clocks, timers and file times go on as they do on such a machine.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::kubeconfig::write_private;
use crate::{Error, Result};

const SOURCE: &str = include_str!("clock.c");

/// The environment of a process that is to see another time: a small library is loaded before libc. It is compiled with
/// the C compiler with which Rust links.
pub(crate) fn ahead(dir: &Path, seconds: i64) -> Result<[(OsString, OsString); 2]> {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    if !library.exists() {
        write_private(&source, SOURCE.as_bytes())?;
        let unfinished = dir.join("clock.unfinished");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&unfinished).arg(&source);
        let done = compiler.output().map_err(Error::file("compile", &source))?;
        if !done.status.success() {
            return Err(Error::Parse {
                what: source.display().to_string(),
                detail: String::from_utf8_lossy(&done.stderr).into_owned(),
            });
        }
        std::fs::rename(&unfinished, &library).map_err(Error::file("make", &library))?;
    }
    Ok([
        ("LD_PRELOAD".into(), library.into()),
        ("CLOCK_AHEAD".into(), seconds.to_string().into()),
    ])
}
