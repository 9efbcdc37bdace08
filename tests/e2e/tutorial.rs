//! The tutorial works as it is written: its commands, in their order, typed into bash.

use std::path::Path;

use crate::scene::Scene;
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![Lent []: each_command_of_the_tutorial_does_what_it_says]
}

async fn each_command_of_the_tutorial_does_what_it_says(scene: Scene) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/tutorial.md")).unwrap();
    let mut commands = String::new();
    let mut is_command = false;
    for line in text.lines() {
        match line {
            "```sh" => is_command = true,
            "```" => is_command = false,
            command if is_command => commands += &format!("{command}\n"),
            _ => {}
        }
    }
    assert!(commands.lines().count() > 40, "{commands}");
    // What is written as `! …` is to fail; bash itself wouldn't mind if it didn't.
    let commands = commands.replace("\n! ", "\nfails ");
    // What people wait for takes longer on a machine with much else to do.
    let commands = commands.replace("kubectl wait ", "kubectl wait --timeout=180s ");
    let commands = commands.replace("--timeout=60s", "--timeout=180s");
    let commands = commands.replace("timeout: 15s", "timeout: 45s");
    let fails = r#"fails() { if "$@"; then echo "it was to fail: $*" >&2; exit 1; fi; }"#;
    let script = format!("set -euo pipefail\ncd '{}'\n{fails}\n{commands}", root.display());
    let admin = scene.cluster().admin();
    let typed = admin.run_program(Path::new("/bin/bash"), ["-c", &script]).await;
    let said = typed.unwrap().ok().unwrap_or_else(|error| panic!("{error}"));
    assert!(said.contains("alice, by lea as"), "{said}");
    assert!(said.contains("max as"), "{said}");
}
