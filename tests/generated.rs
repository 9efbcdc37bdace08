//! The committed files that are generated say what they are generated from says.
//!
//! `CURFEW_GENERATE=1 cargo test --test generated` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::Path;
use std::process::{Command, Output};

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

/// A failure mode whose test is gone, or was never there, is a promise that nobody keeps.
#[test]
fn every_test_that_the_failure_modes_name_is_where_they_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/failure-modes.md")).unwrap();
    // `name`, `name` (folder/file.rs, folder/file.rs)
    let named: Vec<(&str, &str)> = text.split('|').flat_map(tests_named_in).collect();
    let is_there = |(test, file): &(&str, &str)| {
        ["src", "tests"].iter().any(|folder| {
            let text = std::fs::read_to_string(root.join(folder).join(file)).unwrap_or_default();
            text.contains(&format!("fn {test}(")) || text.contains(&format!("\"{test}\""))
        })
    };
    let missing: Vec<_> = named.iter().filter(|named| !is_there(named)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(named.len() > 200, "{}", named.len());
}

/// Each with the first of its files.
fn tests_named_in(cell: &str) -> Vec<(&str, &str)> {
    let mut waiting = vec![];
    let mut found = vec![];
    for (number, part) in cell.split('`').enumerate() {
        if number % 2 == 1 {
            waiting.push(part);
        } else if let Some(file) = part.trim_start().strip_prefix('(') {
            let file = file.split([',', ')']).next().unwrap_or_default();
            found.extend(
                waiting
                    .drain(..)
                    .filter(|name| name.contains('_'))
                    .map(|name| (name, file)),
            );
        } else if part.trim() != "," {
            waiting.clear();
        }
    }
    found.retain(|(_, file)| file.ends_with(".rs"));
    found
}

/// What the chart makes of these options: all objects, hooks too.
fn rendered(options: &[&str]) -> Vec<Value> {
    let rendered = templates(options);
    assert!(
        rendered.status.success(),
        "{}",
        String::from_utf8_lossy(&rendered.stderr)
    );
    serde_saphyr::from_multiple(&String::from_utf8(rendered.stdout).unwrap()).unwrap()
}

fn templates(options: &[&str]) -> Output {
    let (release, namespace) = RELEASE;
    Command::new(curfew_testbed::helm().unwrap())
        .args(["template", release, "--namespace", namespace])
        .args([
            "--api-versions",
            "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy",
        ])
        .args(options)
        .arg("charts/curfew")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

#[test]
fn values_that_mean_nothing_are_refused_and_named() {
    for (wrong, named) in [
        ("clusterwide=true", "clusterwide"),
        ("image.tags=1", "tags"),
        ("clusterWide=yes", "clusterWide"),
        ("grantableRoles[0].kind=clusterrole", "kind"),
        ("grantableRoles[0].name=*", "name"),
        ("replicaCount=-1", "replicaCount"),
        ("logFormat=yaml", "logFormat"),
    ] {
        let whole = [
            "grantableRoles[0].kind=ClusterRole",
            "grantableRoles[0].name=view",
            wrong,
        ]
        .join(",");
        let refused = templates(&["--set", &whole]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains(named), "{wrong}: {said}");
    }
}

fn is_guard(object: &Value) -> bool {
    object["apiVersion"] == "admissionregistration.k8s.io/v1"
}

/// So that whoever changes rights, probes or the hook sees what comes of it, with every option too. Without it the tests see little of that: they run the
/// operator as a process, and the hook's arguments alone.
#[test]
fn what_the_chart_installs_besides_its_guards_is_what_was_looked_at() {
    let values = [
        "--values",
        "tests/chart/values.yaml",
        "--set",
        "endAccessOnUninstall=true",
    ];
    for (name, options) in [("default", &values[..0]), ("every-option", &values)] {
        let mut text =
            "# Generated from charts/curfew; to change it: CURFEW_GENERATE=1 cargo test --test generated\n".to_owned();
        for object in rendered(options).iter().filter(|object| !is_guard(object)) {
            text.push_str("---\n");
            text.push_str(&serde_saphyr::to_string(object).unwrap());
        }
        is_committed(&format!("tests/chart/{name}.yaml"), &text);
    }
}

#[test]
fn every_option_of_the_chart_is_tried() {
    let read = |path: &str| -> Value {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        serde_saphyr::from_str(&text).unwrap()
    };
    let (shipped, tried) = (read("charts/curfew/values.yaml"), read("tests/chart/values.yaml"));
    for (option, usual) in shipped.as_object().unwrap() {
        assert!(tried[option] != *usual && !tried[option].is_null(), "{option}");
    }
}

/// What the operator compares the API server's guards with.
#[test]
fn the_guards_that_the_operator_knows_are_those_of_the_chart() {
    let (release, namespace) = RELEASE;
    let mut guards: Vec<Value> = rendered(&[])
        .into_iter()
        .filter(is_guard)
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
