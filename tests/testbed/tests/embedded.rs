//! The embedded cluster does what its documentation says.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use curfew_testbed::{
    Capability, Cluster, Component, Error, InstallOptions, Installation, Kind, OperatorOptions, Options,
};
use serde_json::{Value, json};

/// Set for the copies of this test program that play a part in a test.
const PART: &str = "CURFEW_TESTBED_TEST_PART";

async fn cluster() -> Cluster {
    Cluster::start(embedded(Options::default())).await.unwrap()
}

fn embedded(mut options: Options) -> Options {
    options.kind = Some(Kind::Embedded);
    options
}

async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_cluster_knows_its_users_and_writes_down_what_they_do() {
    let start = Instant::now();
    let cluster = cluster().await;
    eprintln!("ready after {:?}", start.elapsed());
    let alice = cluster
        .user("alice")
        .uid("a-1")
        .group("dev")
        .groups(["sre"])
        .build()
        .await
        .unwrap();

    let who = alice
        .kubectl(["auth", "whoami", "-o", "json"])
        .await
        .unwrap()
        .ok()
        .unwrap();
    let who: Value = serde_json::from_str(&who).unwrap();
    let info = &who["status"]["userInfo"];
    assert_eq!((&info["username"], &info["uid"]), (&json!("alice"), &json!("a-1")));
    let groups = info["groups"].as_array().unwrap();
    for group in ["dev", "sre", "system:authenticated"] {
        assert!(groups.contains(&json!(group)), "{groups:?}");
    }

    let refusal = alice.kubectl(["get", "pods"]).await.unwrap().refused().unwrap();
    assert!(refusal.contains("forbidden"), "{refusal}");
    assert!(!alice.can("get", "pods", Some("default")).await.unwrap());
    let binding = [
        "create",
        "clusterrolebinding",
        "dev",
        "--clusterrole=view",
        "--group=dev",
    ];
    cluster.admin().kubectl(binding).await.unwrap().ok().unwrap();
    assert!(
        alice.can("get", "pods/log", Some("default")).await.unwrap(),
        "view has no rules"
    );
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}}).to_string();
    cluster
        .admin()
        .kubectl_stdin(["apply", "-f", "-"], &manifest)
        .await
        .unwrap()
        .ok()
        .unwrap();
    alice.kubectl(["get", "configmap", "made"]).await.unwrap().ok().unwrap();

    let account = cluster
        .service_account_user("default", "default", Duration::from_secs(600))
        .await
        .unwrap();
    let who = account
        .kubectl(["auth", "whoami", "-o", "json"])
        .await
        .unwrap()
        .ok()
        .unwrap();
    assert!(who.contains("system:serviceaccount:default:default"), "{who}");

    let log = cluster.audit_log().unwrap();
    let of_alice: Vec<_> = log.iter().filter(|event| event.user.username == "alice").collect();
    let refused = of_alice
        .iter()
        .find(|event| event.resource == "pods" && event.code == 403)
        .unwrap();
    assert_eq!(
        (refused.verb.as_str(), refused.user.uid.as_str(), refused.allowed()),
        ("list", "a-1", false)
    );
    let got = of_alice.iter().find(|event| event.name == "made").unwrap();
    assert!(got.reason().contains(r#"ClusterRoleBinding "dev""#), "{}", got.reason());
    let created = log
        .iter()
        .find(|event| event.resource == "clusterrolebindings" && event.name == "dev")
        .unwrap();
    assert_eq!(created.request.as_ref().unwrap()["roleRef"]["name"], "view");
    assert!(created.response.as_ref().unwrap()["metadata"]["uid"].is_string());

    assert!(cluster.lacks(Capability::AuditLog).is_none());
    assert!(cluster.lacks(Capability::Pods).is_some());
    cluster.stop().await;
    assert!(!cluster.data_dir().exists());
}

#[tokio::test]
async fn a_certificate_ends_when_it_says() {
    let cluster = cluster().await;
    let brief = cluster
        .user("brief")
        .valid_for(Duration::from_secs(3))
        .build()
        .await
        .unwrap();
    let until = Instant::now() + Duration::from_secs(3);
    brief.client().unwrap().apiserver_version().await.unwrap();
    let code = eventually("401", async || {
        match brief.client().unwrap().apiserver_version().await {
            Err(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    })
    .await;
    assert_eq!(code, 401);
    assert!(Instant::now() < until + Duration::from_secs(1));
}

#[tokio::test]
async fn two_clusters_at_once_are_strangers_and_one_may_be_older() {
    let (new, old) = tokio::join!(
        Cluster::start(embedded(Options::default())),
        Cluster::start(embedded(Options::emulating("1.34")))
    );
    let (new, old) = (new.unwrap(), old.unwrap());
    assert_ne!(new.server(), old.server());
    let served = async |cluster: &Cluster| {
        let arguments = [
            "api-resources",
            "--api-group=admissionregistration.k8s.io",
            "-o",
            "name",
        ];
        cluster.admin().kubectl(arguments).await.unwrap().ok().unwrap()
    };
    let (of_new, of_old) = (served(&new).await, served(&old).await);
    assert!(of_new.contains("mutatingadmissionpolicies"), "{of_new}");
    assert!(!of_old.contains("mutatingadmissionpolicies"), "{of_old}");
    assert!(of_old.contains("validatingadmissionpolicies"), "{of_old}");

    new.admin()
        .kubectl(["create", "namespace", "only-here"])
        .await
        .unwrap()
        .ok()
        .unwrap();
    old.admin()
        .kubectl(["get", "namespace", "only-here"])
        .await
        .unwrap()
        .refused()
        .unwrap();
}

#[tokio::test]
async fn parts_of_the_control_plane_can_be_killed_and_come_back() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    admin
        .kubectl(["create", "namespace", "stays"])
        .await
        .unwrap()
        .ok()
        .unwrap();
    for component in [Component::Etcd, Component::ApiServer, Component::ControllerManager] {
        let before = cluster.component_pid(component).unwrap().unwrap();
        cluster.stop_component(component).unwrap();
        assert_eq!(cluster.component_pid(component).unwrap(), None);
        assert!(matches!(cluster.stop_component(component), Err(Error::State { .. })));
        let start = Instant::now();
        cluster.start_component(component).await.unwrap();
        eprintln!("{component} is back after {:?}", start.elapsed());
        assert_ne!(cluster.component_pid(component).unwrap().unwrap(), before);
        admin
            .kubectl(["get", "namespace", "stays"])
            .await
            .unwrap()
            .ok()
            .unwrap();
    }
    // All of it works again: a new namespace gets its service account.
    admin
        .kubectl(["create", "namespace", "new"])
        .await
        .unwrap()
        .ok()
        .unwrap();
    eventually("a service account", async || {
        admin
            .kubectl(["get", "serviceaccount", "default", "-n", "new"])
            .await
            .unwrap()
            .ok()
            .ok()
    })
    .await;
}

#[tokio::test]
async fn a_chart_is_installed_and_its_operator_runs_with_its_own_service_account() {
    let cluster = cluster().await;
    let chart = chart(cluster.data_dir());
    let operator = OperatorOptions::new(std::env::current_exe().unwrap())
        .arguments(["--exact", "part_operator", "--nocapture", "--"])
        .environment(PART, "operator");
    let options = InstallOptions {
        chart,
        values: json!({"greeting": "hello"}),
        operator: Some(operator),
        ..InstallOptions::default()
    };
    let installation = Installation::install(&cluster, options).await.unwrap();
    let data = [
        "get",
        "configmap",
        "values",
        "-n",
        "curfew-system",
        "-o",
        "jsonpath={.data}",
    ];
    let data = cluster.admin().kubectl(data).await.unwrap().ok().unwrap();
    assert_eq!(data, r#"{"greeting":"hello","replicas":"0"}"#);

    let operator = installation.operator().unwrap();
    assert!(
        operator.log().contains("system:serviceaccount") || operator.log().contains("serving"),
        "{}",
        operator.log()
    );
    assert_eq!(operator.get("/readyz").await.unwrap(), "ok");
    let first = operator.pid().unwrap();
    operator.pause().unwrap();
    operator.resume().unwrap();
    operator.kill().unwrap();
    assert_eq!(operator.pid(), None);
    operator.start().await.unwrap();
    assert_ne!(operator.pid().unwrap(), first);
    let second = installation.start_operator().await.unwrap();
    assert_ne!(second.address().unwrap(), operator.address().unwrap());

    let broken = OperatorOptions::new("/bin/sh").arguments(["-c", "echo cannot start because of this >&2; exit 3"]);
    let broken = installation.spawn_operator(broken).await.unwrap();
    let message = broken.wait_until_ready().await.unwrap_err().to_string();
    assert!(
        message.contains("exit status: 3") && message.contains("because of this"),
        "{message}"
    );

    installation.uninstall().await.unwrap();
    cluster
        .admin()
        .kubectl(["get", "configmap", "values", "-n", "curfew-system"])
        .await
        .unwrap()
        .refused()
        .unwrap();
}

/// A chart with what the testbed relies on: a service account, and values.
fn chart(dir: &Path) -> PathBuf {
    let chart = dir.join("chart");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::write(
        chart.join("Chart.yaml"),
        "{apiVersion: v2, name: curfew, version: 0.0.1}\n",
    )
    .unwrap();
    std::fs::write(
        chart.join("templates/all.yaml"),
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: curfew}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: values}\n\
         data: {greeting: '{{ .Values.greeting }}', replicas: '{{ .Values.replicaCount }}'}\n",
    )
    .unwrap();
    chart
}

/// Not a test: the operator of the test above, which says that it is ready.
#[test]
fn part_operator() {
    if std::env::var(PART).is_err() {
        return;
    }
    let arguments: Vec<String> = std::env::args().collect();
    let address = &arguments[arguments.iter().position(|argument| argument == "--listen").unwrap() + 1];
    let listener = TcpListener::bind(address).unwrap();
    println!("serving on {address}");
    for connection in listener.incoming() {
        let mut connection = connection.unwrap();
        let _ = connection.read(&mut [0; 4096]);
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    }
}

/// Not a test: a process that holds a cluster in a static and waits to be killed.
#[tokio::test]
async fn part_holder() {
    if std::env::var(PART).is_err() {
        return;
    }
    static HELD: std::sync::OnceLock<Cluster> = std::sync::OnceLock::new();
    let cluster = HELD.get_or_init(|| {
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(cluster())
        })
        .join()
        .unwrap()
    });
    let pids: Vec<u32> = [Component::Etcd, Component::ApiServer, Component::ControllerManager]
        .into_iter()
        .map(|component| cluster.component_pid(component).unwrap().unwrap())
        .collect();
    let state = json!({"dir": cluster.data_dir(), "server": cluster.server(), "pids": pids});
    std::fs::write(std::env::var(PART).unwrap(), state.to_string()).unwrap();
    if std::env::var("CURFEW_TESTBED_TEST_END").unwrap() == "exit" {
        return;
    }
    std::thread::sleep(Duration::from_secs(60));
}

#[tokio::test]
async fn nothing_is_left_of_a_process_that_was_killed() {
    nothing_is_left("kill").await;
}

#[tokio::test]
async fn nothing_is_left_of_a_process_that_ended_with_a_cluster_in_a_static() {
    nothing_is_left("exit").await;
}

async fn nothing_is_left(end: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("state.json");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "part_holder"])
        .env(PART, &file)
        .env("CURFEW_TESTBED_TEST_END", end)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let state: Value = eventually("a cluster", async || {
        serde_json::from_slice(&std::fs::read(&file).ok()?).ok()
    })
    .await;
    if end == "kill" {
        holder.kill().unwrap();
    }
    holder.wait().unwrap();
    let ended = Instant::now();

    let dir = PathBuf::from(state["dir"].as_str().unwrap());
    let address = state["server"]
        .as_str()
        .unwrap()
        .trim_start_matches("https://")
        .to_owned();
    let pids: Vec<u64> = state["pids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pid| pid.as_u64().unwrap())
        .collect();
    assert_eq!(pids.len(), 3);
    eventually("everything gone", async || {
        let gone =
            !dir.exists() && TcpStream::connect(&address).is_err() && pids.iter().all(|&pid| ended_or_zombie(pid));
        gone.then_some(())
    })
    .await;
    eprintln!("everything gone {:?} after the end", ended.elapsed());
}

fn ended_or_zombie(pid: u64) -> bool {
    let state = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
    state.is_empty() || state.starts_with('Z')
}
