//! Kubeconfigs: one file for each user, with all that is needed inside.
//!
//! They are written as JSON, which is YAML too. Must never touch anybody's own kubeconfig.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::ByteString;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::certificates::Pair;
use crate::{Error, Result};

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(180);

/// How to reach a cluster: the `cluster` entry of a kubeconfig.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint(pub Value);

impl Endpoint {
    pub(crate) fn new(server: &str, ca_pem: &str) -> Self {
        Self(json!({"server": server, "certificate-authority-data": ByteString(ca_pem.as_bytes().to_vec())}))
    }

    /// Its address.
    pub(crate) fn server(&self) -> &str {
        self.0.get("server").and_then(Value::as_str).unwrap_or_default()
    }
}

/// The `user` entry for a client certificate.
pub(crate) fn certificate_user(pair: &Pair) -> Value {
    json!({
        "client-certificate-data": ByteString(pair.certificate.as_bytes().to_vec()),
        "client-key-data": ByteString(pair.key.as_bytes().to_vec()),
    })
}

/// The `user` entry for a token.
pub(crate) fn token_user(token: &str) -> Value {
    json!({"token": token})
}

/// A whole kubeconfig. A service account's context is in its own namespace, as it would be in a pod.
pub(crate) fn kubeconfig(endpoint: &Endpoint, name: &str, user: &Value) -> Value {
    let mut context = json!({"cluster": "testbed", "user": name});
    if let Some((namespace, _)) = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
    {
        context["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{"name": "testbed", "cluster": endpoint.0}],
        "contexts": [{"name": "testbed", "context": context}],
        "users": [{"name": name, "user": user}],
    })
}

/// Writes a file for this user's eyes only.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .map_err(Error::file("write", path))
}

/// Writes a kubeconfig with the same user, for another way to the API server, or with the token in a file of its own.
pub(crate) fn changed(from: &Path, server: Option<&str>, token_file: Option<&Path>, to: &Path) -> Result<()> {
    let text = fs::read(from).map_err(Error::file("read", from))?;
    let mut config: Value = serde_json::from_slice(&text).map_err(Error::parse("the kubeconfig".to_owned()))?;
    let changes = [
        ("/clusters/0/cluster/server", server.map(|server| json!(server))),
        ("/users/0/user", token_file.map(|file| json!({"tokenFile": file}))),
    ];
    for (place, change) in changes {
        if let (Some(entry), Some(change)) = (config.pointer_mut(place), change) {
            *entry = change;
        }
    }
    write_private(to, config.to_string().as_bytes())
}

/// The configuration of a client that speaks with this kubeconfig: it goes straight there, and never retries.
pub(crate) async fn client_config(kubeconfig: &Value) -> Result<kube::Config> {
    let what = || "the kubeconfig".to_owned();
    let own_proxy = kubeconfig.pointer("/clusters/0/cluster/proxy-url").is_some();
    let parsed: Kubeconfig = serde_json::from_value(kubeconfig.clone()).map_err(Error::parse(what()))?;
    let mut config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .map_err(Error::parse(what()))?;
    config.default_retry = false;
    // On a machine with much else to do even a handshake takes its time.
    config.connect_timeout = Some(PATIENCE);
    if !own_proxy {
        config.proxy_url = None;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_holds_one_cluster_and_one_user() {
        let endpoint = Endpoint::new("https://127.0.0.1:1", "CA");
        let value = kubeconfig(&endpoint, "alice", &token_user("t"));
        assert_eq!(
            value.pointer("/clusters/0/cluster/server").unwrap(),
            "https://127.0.0.1:1"
        );
        assert_eq!(
            value.pointer("/clusters/0/cluster/certificate-authority-data").unwrap(),
            "Q0E="
        );
        assert_eq!(value.pointer("/users/0/user/token").unwrap(), "t");
        assert_eq!(value.pointer("/contexts/0/context/user").unwrap(), "alice");
    }

    #[test]
    fn a_service_account_is_at_home_in_its_namespace() {
        let endpoint = Endpoint::new("https://127.0.0.1:1", "CA");
        let value = kubeconfig(&endpoint, "system:serviceaccount:a:b", &token_user("t"));
        assert_eq!(value.pointer("/contexts/0/context/namespace").unwrap(), "a");
    }

    #[test]
    fn files_with_credentials_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        write_private(&path, b"x").unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
