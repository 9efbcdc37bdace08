//! The control plane's programs, built once from their published Go modules and kept in a cache.
//!
//! The versions are those of `control-plane/go.mod`, which is part of the cache's key together with `go.sum` and the
//! build flags. Must be safe when several processes start at once, and must not leave half a program behind: one
//! process builds, the others wait, and a program appears under its name when it is complete.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result};

const GO_MOD: &str = include_str!("../control-plane/go.mod");
const GO_SUM: &str = include_str!("../control-plane/go.sum");

/// A program, its Go package, and how long its build takes on a machine with two cores and nothing cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Etcd,
    ApiServer,
    ControllerManager,
    Kubectl,
    Helm,
}

/// Everything for `embedded`, in the order in which it is built.
pub(crate) const ALL: [Tool; 5] = [
    Tool::Etcd,
    Tool::ApiServer,
    Tool::ControllerManager,
    Tool::Kubectl,
    Tool::Helm,
];

impl Tool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::ApiServer => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::ControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Helm => "helm.sh/helm/v4/cmd/helm",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Etcd | Self::Kubectl => "half a minute",
            Self::ApiServer => "4 minutes",
            Self::ControllerManager | Self::Helm => "2 minutes",
        }
    }

    /// What a directory of `setup-envtest` holds.
    fn in_assets(self) -> bool {
        matches!(self, Self::Etcd | Self::ApiServer | Self::Kubectl)
    }
}

/// Where each program is.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    cache: PathBuf,
    assets: Option<PathBuf>,
}

impl Binaries {
    pub(crate) fn path(&self, tool: Tool) -> PathBuf {
        self.assets
            .iter()
            .map(|assets| assets.join(tool.name()))
            .find(|path| tool.in_assets() && path.is_file())
            .unwrap_or_else(|| self.cache.join(tool.name()))
    }

    fn missing(&self, tools: &[Tool]) -> Vec<Tool> {
        tools
            .iter()
            .copied()
            .filter(|&tool| !self.path(tool).is_file())
            .collect()
    }
}

/// Builds what is missing of `tools`. Blocks, for minutes the first time.
pub(crate) fn ensure(tools: &[Tool]) -> Result<Binaries> {
    let root = cache_root()?;
    let binaries = Binaries {
        cache: root.join(key(GO_MOD, GO_SUM)),
        assets: std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from),
    };
    if binaries.missing(tools).is_empty() {
        return Ok(binaries);
    }
    let modules = binaries.cache.join("modules");
    fs::create_dir_all(&modules).map_err(Error::file("make", &modules))?;
    let lock_path = binaries.cache.join("lock");
    let lock = File::create(&lock_path).map_err(Error::file("write", &lock_path))?;
    if lock.try_lock().is_err() {
        eprintln!("curfew-testbed: waiting for another process that builds the control plane …");
        lock.lock().map_err(Error::file("lock", &lock_path))?;
    }
    let missing = binaries.missing(tools);
    if missing.is_empty() {
        return Ok(binaries);
    }
    for (name, content) in [("go.mod", GO_MOD), ("go.sum", GO_SUM)] {
        fs::write(modules.join(name), content).map_err(Error::file("write", modules.join(name)))?;
    }
    for (index, &tool) in missing.iter().enumerate() {
        eprintln!(
            "curfew-testbed: building {} ({} of {}; about {} on 2 cores, once) …",
            tool.name(),
            index + 1,
            missing.len(),
            tool.about()
        );
        build(tool, &modules, &binaries.cache)?;
    }
    Ok(binaries)
}

fn build(tool: Tool, modules: &Path, cache: &Path) -> Result<()> {
    let unfinished = cache.join(format!("{}.unfinished", tool.name()));
    let output = Command::new("go")
        .args(build_arguments(GO_MOD))
        .arg("-o")
        .arg(&unfinished)
        .arg(tool.package())
        .current_dir(modules)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .env_remove("GOOS")
        .env_remove("GOARCH")
        .output()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::Missing {
                program: "go",
                hint: "install Go 1.26 or later to build the control plane, or set CURFEW_TESTBED=kind or existing",
            },
            _ => Error::File {
                doing: "run",
                path: "go".into(),
                source: error,
            },
        })?;
    if !output.status.success() {
        let _ = fs::remove_file(&unfinished);
        return Err(explain(tool, modules, &String::from_utf8_lossy(&output.stderr)));
    }
    let finished = cache.join(tool.name());
    fs::rename(&unfinished, &finished).map_err(Error::file("write", finished))
}

/// What a failed build means.
fn explain(tool: Tool, modules: &Path, stderr: &str) -> Error {
    let package = tool.package().to_owned();
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let line_with = |words: &[&str]| {
        lines
            .iter()
            .find(|line| words.iter().any(|word| line.contains(word)))
            .map(|line| line.trim().to_owned())
    };
    if line_with(&["no space left on device", "disk quota exceeded"]).is_some() {
        Error::DiskFull { package }
    } else if let Some(line) = line_with(&["requires go >=", "requires go1.", "unknown directive: tool"]) {
        Error::GoTooOld(line)
    } else if let Some(detail) = line_with(&[
        "dial tcp",
        "proxyconnect",
        "no such host",
        "connection refused",
        "module lookup disabled",
        "TLS handshake",
    ]) {
        Error::Download { package, detail }
    } else {
        let last = lines.len().saturating_sub(5);
        Error::Build {
            package,
            directory: modules.to_path_buf(),
            detail: lines.get(last..).unwrap_or_default().join("; "),
        }
    }
}

/// The flags of `go build`: small programs, the same wherever they are built, that know their version.
fn build_arguments(go_mod: &str) -> Vec<String> {
    let version = kubernetes_version(go_mod);
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let variable = "-X k8s.io/component-base/version.";
    let ldflags = format!("-s -w {variable}gitVersion={version} {variable}gitMajor={major} {variable}gitMinor={minor}");
    [
        "build",
        "-buildvcs=false",
        "-mod=readonly",
        "-trimpath",
        "-ldflags",
        &ldflags,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The version of `k8s.io/kubernetes` in a go.mod, such as `v1.37.2`.
fn kubernetes_version(go_mod: &str) -> &str {
    go_mod
        .lines()
        .map(|line| line.trim().trim_start_matches("require "))
        .find_map(|line| line.strip_prefix("k8s.io/kubernetes "))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or("v0.0.0")
}

/// The cache directory's name: another one whenever the programs would differ.
fn key(go_mod: &str, go_sum: &str) -> String {
    let parts = [
        go_mod,
        go_sum,
        &build_arguments(go_mod).join(" "),
        std::env::consts::OS,
        std::env::consts::ARCH,
    ];
    // FNV-1a with 128 bits: the same with every compiler, and nobody attacks this cache with a collision.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in parts.join("\0").bytes() {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    format!("{hash:032x}")
}

fn cache_root() -> Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("CURFEW_TESTBED_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("curfew-testbed")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/curfew-testbed")))
        .ok_or(Error::Missing {
            program: "a home directory",
            hint: "set CURFEW_TESTBED_CACHE to a directory with 400 MB free",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_go_mod() {
        assert_eq!(
            kubernetes_version("require (\n\tk8s.io/kubernetes v1.2.3 // indirect\n)"),
            "v1.2.3"
        );
        assert!(kubernetes_version(GO_MOD).starts_with("v1."));
        assert!(
            build_arguments("\tk8s.io/kubernetes v1.2.3\n")
                .iter()
                .any(|flag| flag.contains("gitMinor=2"))
        );
    }

    #[test]
    fn the_key_changes_with_what_is_built() {
        assert_eq!(key("a", "b"), key("a", "b"));
        assert_ne!(key("a", "b"), key("a", "c"));
        assert_ne!(key("a", "b"), key("ab", ""));
    }

    #[test]
    fn failed_builds_are_explained() {
        let why = |stderr| explain(Tool::Etcd, Path::new("/m"), stderr).to_string();
        assert!(why("write /x: no space left on device").contains("disk is full"));
        assert!(why("go: go.mod requires go >= 1.26.0 (running go 1.21.0; GOTOOLCHAIN=local)").contains("too old"));
        assert!(why("go: x: Get \"https://proxy\": dial tcp: lookup proxy").contains("GOPROXY"));
        assert!(why("x.go:1: undefined: y").contains("undefined: y"));
    }
}
