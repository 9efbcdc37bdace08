//! The committed files that are generated from the code say what the code says.
//!
//! `CURFEW_GENERATE=1 cargo test --test generated` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::Path;

use curfew::api;

const HEADER: &str = "# Generated from src/api; to change it: CURFEW_GENERATE=1 cargo test --test generated\n";

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
