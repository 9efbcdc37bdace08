//! The same promises on a kind cluster. Runs with `CURFEW_TESTBED=kind` only.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::time::Duration;

use curfew_testbed::{Capability, Cluster, Component, InstallOptions, Installation, Kind, Options};
use serde_json::{Value, json};

#[tokio::test]
async fn a_kind_cluster_knows_its_users_writes_down_what_they_do_and_runs_pods() {
    if Kind::from_env().unwrap() != Kind::Kind {
        eprintln!("skipped: CURFEW_TESTBED is not kind");
        return;
    }
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let alice = cluster
        .user("alice")
        .uid("a-1")
        .groups(["dev", "sre"])
        .valid_for(Duration::from_secs(300))
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
    assert!(info["groups"].as_array().unwrap().contains(&json!("sre")));

    alice.kubectl(["get", "pods"]).await.unwrap().refused().unwrap();
    let log = cluster.audit_log().unwrap();
    let refused = log
        .iter()
        .find(|event| event.user.username == "alice" && event.resource == "pods")
        .unwrap();
    assert_eq!((refused.code, refused.allowed()), (403, false));

    assert!(cluster.lacks(Capability::Pods).is_none());
    let why = cluster.stop_component(Component::Etcd).unwrap_err().to_string();
    assert!(why.contains("CURFEW_TESTBED=embedded"), "{why}");

    cluster.stop().await;
    assert!(!cluster.data_dir().exists());
}

#[tokio::test]
async fn the_product_runs_as_a_pod_of_its_own_chart() {
    if Kind::from_env().unwrap() != Kind::Kind {
        eprintln!("skipped: CURFEW_TESTBED is not kind");
        return;
    }
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let installation = Installation::install(&cluster, InstallOptions::default())
        .await
        .unwrap();
    let pods = [
        "get",
        "pods",
        "-n",
        installation.namespace(),
        "-o",
        "jsonpath={.items[*].status.phase}",
    ];
    let pods = cluster.admin().kubectl(pods).await.unwrap().ok().unwrap();
    assert!(pods.contains("Running"), "{pods}");
    assert!(installation.operator().is_err());
}
