//! The committed files that are generated say what they are generated from says.
//!
//! `CURFEW_GENERATE=1 cargo test --test generated` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::Path;
use std::process::Command;

use curfew::api;
use serde_json::{Value, json};

const HEADER: &str = "# Generated from src/api; to change it: CURFEW_GENERATE=1 cargo test --test generated\n";
/// Names for the release and its namespace that stand nowhere in the chart.
const RELEASE: (&str, &str) = ("the-release", "the-namespace");

fn is_committed(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("CURFEW_GENERATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "{path} is not what the code says; run CURFEW_GENERATE=1 cargo test --test generated, look at the difference and commit it"
    );
}

#[test]
fn the_committed_custom_resource_definitions_are_what_the_code_says() {
    for definition in api::definitions() {
        let text = format!("{HEADER}{}", serde_saphyr::to_string(&definition).unwrap());
        let name = definition.metadata.name.clone().unwrap();
        for folder in ["crds", "charts/curfew/crds"] {
            is_committed(&format!("{folder}/{name}.yaml"), &text);
        }
    }
}

#[test]
fn the_reference_of_conditions_is_the_catalogue() {
    let path = "docs/reference/conditions.md";
    let mut text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    for kind in ["AccessPolicy", "AccessRequest", "AccessGrant"] {
        let begin = format!("<!-- of {kind}, from src/api/catalogue.rs -->\n");
        let (before, rest) = text.split_once(&begin).unwrap();
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        text = format!("{before}{begin}{}<!-- end -->{after}", api::catalogue::table(kind));
    }
    is_committed(path, &text);
}

/// What the operator compares the API server's guards with.
#[test]
fn the_guards_that_the_operator_knows_are_those_of_the_chart() {
    let (release, namespace) = RELEASE;
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/curfew");
    let rendered = Command::new(curfew_testbed::helm().unwrap())
        .args(["template", release, "--namespace", namespace])
        .args([
            "--api-versions",
            "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy",
        ])
        .arg(chart)
        .output()
        .unwrap();
    assert!(
        rendered.status.success(),
        "{}",
        String::from_utf8_lossy(&rendered.stderr)
    );
    let objects: Vec<Value> = serde_saphyr::from_multiple(&String::from_utf8(rendered.stdout).unwrap()).unwrap();
    let mut guards: Vec<Value> = objects
        .into_iter()
        .filter(|object| object["apiVersion"] == "admissionregistration.k8s.io/v1")
        .map(|object| json!({"kind": object["kind"], "name": object["metadata"]["name"], "spec": object["spec"]}))
        .collect();
    guards.sort_by_key(|guard| guard["name"].to_string() + &guard["kind"].to_string());
    let operator = format!("system:serviceaccount:{namespace}:{release}");
    let text = format!("{}\n", serde_json::to_string_pretty(&guards).unwrap()).replace(&operator, "${operator}");
    assert!(
        ![release, namespace].iter().any(|name| text.contains(name)),
        "a guard takes something else from outside than the operator's user name: say it by the variable `home`, or teach core::guard"
    );
    is_committed("src/core/guards.json", &text);
}
