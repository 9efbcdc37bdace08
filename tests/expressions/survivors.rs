//! The list of survivors, `survivors.md`: the mutants that nothing notices, each with the reason why it makes no difference.

use serde_json::Value;

use crate::mutant::mutants;
use crate::scrutiny::Scrutiny;

const LIST: &str = include_str!("survivors.md");

/// Those on the list, each with its reason: a line that begins with `- `, and what is indented below it.
fn listed() -> Vec<(&'static str, String)> {
    let mut all: Vec<(&str, String)> = vec![];
    for line in LIST.lines() {
        if let Some(id) = line.strip_prefix("- ") {
            all.push((id.trim(), String::new()));
        } else if let (Some((_, reason)), true) = (all.last_mut(), line.starts_with("  ")) {
            reason.push_str(line.trim());
        }
    }
    all
}

/// Where the list and the scrutiny differ, as far as mutants were wanted.
pub fn differences(scrutiny: &Scrutiny, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let (listed, survivors) = (listed(), scrutiny.survivors());
    let mut all: Vec<String> = vec![];
    for survivor in &survivors {
        if !listed.iter().any(|(id, _)| id == survivor) {
            all.push(format!("nothing notices, and survivors.md doesn't say why: {survivor}"));
        }
    }
    for (id, reason) in &listed {
        if is_wanted(id) && !survivors.contains(id) {
            all.push(format!("in survivors.md, and no survivor: {id}"));
        }
        if reason.is_empty() {
            all.push(format!("in survivors.md without a reason: {id}"));
        }
    }
    all
}

/// Those on the list that aren't even mutants of these guards: what they were about has gone, or says something else.
pub fn strangers(guards: &[Value]) -> Vec<String> {
    let mutants: Vec<String> = guards.iter().flat_map(mutants).map(|mutant| mutant.id).collect();
    let strangers = listed()
        .into_iter()
        .filter(|(id, _)| !mutants.iter().any(|mutant| mutant == id));
    strangers
        .map(|(id, _)| format!("in survivors.md, and no mutant any more: {id}"))
        .collect()
}
