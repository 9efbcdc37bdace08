//! The guards: the admission policies and the CustomResourceDefinitions' rules that attest who speaks. Whether they are as shipped, and their epoch.
//!
//! What the API server has is compared with what the chart ships, field by field, not tried out: a condition that exempts one person passes every trial
//! that somebody else makes. Knows nothing of how guards are read, watched or tried.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Serialize, de};
use serde_json::{Map, Value, json};

use super::facts::Brake;
use super::offer::sha256;
use crate::api::{self, AccessGrant, AccessPolicy, AccessRequest};

mod foreign;

pub use foreign::overtaken;

/// The chart's guards, rendered, with a placeholder for the operator's user name. `tests/generated.rs` keeps them fresh.
const SHIPPED: &str = include_str!("guards.json");
/// The only thing in the guards that differs from cluster to cluster.
const OPERATOR: &str = "${operator}";
/// A path into a spec is told up to so many characters: keys of somebody's schema may be of any length.
const LONGEST_PATH: usize = 200;

/// The kinds that guards are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GuardKind {
    /// Checks.
    ValidatingAdmissionPolicy,
    /// Puts a checking policy in force.
    ValidatingAdmissionPolicyBinding,
    /// Stamps.
    MutatingAdmissionPolicy,
    /// Puts a stamping policy in force.
    MutatingAdmissionPolicyBinding,
    /// Keeps what was written as it was written.
    CustomResourceDefinition,
}

/// Which object a guard is, and how often its spec was changed. What it carries besides, such as labels, is not in here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mark {
    /// Its kind.
    pub kind: GuardKind,
    /// Its name.
    pub name: String,
    /// Its uid: another one when it was away and came back.
    pub uid: String,
    /// Counted up by the API server with every change of its spec, and by nobody else.
    pub generation: i64,
}

impl Mark {
    /// That of an object of this kind.
    pub fn of(kind: GuardKind, metadata: &ObjectMeta) -> Self {
        Self {
            kind,
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
        }
    }
}

/// A guard, or what could be in its way, as the API server has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Which it is.
    pub mark: Mark,
    /// What it says.
    pub spec: Value,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// A guard as it is shipped.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Shipped {
    /// Its kind.
    pub kind: GuardKind,
    /// Its name.
    pub name: String,
    /// What it is to say.
    pub spec: Value,
}

/// How the guards stand, as far as a decision needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which guards they are; `None` until all were seen.
    pub epoch: Option<String>,
    /// From when on who asks was surely attested; `None` until all were seen.
    pub since: Option<DateTime<Utc>>,
    /// Whether these very guards were found as shipped, and tried out.
    pub in_force: bool,
}

impl Standing {
    /// As long as nothing was seen.
    pub const UNSEEN: Self = Self {
        epoch: None,
        since: None,
        in_force: false,
    };
}

/// The guards that are to be there. `stamps`: the API server has stamping policies, in the version that the chart installs them in.
///
/// # Errors
/// When the binary doesn't know its own guards. Then nothing may be granted.
pub fn shipped(operator: &str, stamps: bool) -> Result<Vec<Shipped>, serde_json::Error> {
    let mut all: Vec<Shipped> = serde_json::from_str(SHIPPED)?;
    all.retain(|guard| match guard.kind {
        GuardKind::MutatingAdmissionPolicy | GuardKind::MutatingAdmissionPolicyBinding => stamps,
        GuardKind::ValidatingAdmissionPolicy
        | GuardKind::ValidatingAdmissionPolicyBinding
        | GuardKind::CustomResourceDefinition => true,
    });
    for guard in &mut all {
        name_operator(&mut guard.spec, operator);
    }
    for definition in &*DEFINITIONS {
        all.push(definition.as_ref().map_err(de::Error::custom)?.clone());
    }
    Ok(all)
}

/// Schemas take a while to make, and are always the same.
static DEFINITIONS: LazyLock<[serde_json::Result<Shipped>; 3]> = LazyLock::new(|| {
    api::definitions().map(|definition| {
        Ok(Shipped {
            kind: GuardKind::CustomResourceDefinition,
            name: definition.metadata.name.unwrap_or_default(),
            spec: serde_json::to_value(&definition.spec)?,
        })
    })
});

/// The names of Curfew's CustomResourceDefinitions.
pub fn definition_names() -> [String; 3] {
    [
        definition_name::<AccessPolicy>(),
        definition_name::<AccessRequest>(),
        definition_name::<AccessGrant>(),
    ]
}

/// The name of a kind's definition.
pub fn definition_name<K: Resource<DynamicType = ()>>() -> String {
    format!("{}.{}", K::plural(&()), K::group(&()))
}

fn name_operator(value: &mut Value, operator: &str) {
    match value {
        Value::String(text) => *text = text.replace(OPERATOR, operator),
        Value::Array(items) => items.iter_mut().for_each(|item| name_operator(item, operator)),
        Value::Object(fields) => fields.values_mut().for_each(|field| name_operator(field, operator)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The digest of which guards stand there. The same as long as none of them was changed, taken away, or replaced, also after the operator began anew.
pub fn epoch(marks: &[Mark]) -> String {
    sha256(&marks.iter().collect::<BTreeSet<_>>())
}

/// What is wrong with the guards, if something is: the first finding, and how many more there are.
pub fn flaw(shipped: &[Shipped], found: &[Found]) -> Option<Brake> {
    let own = shipped.iter().filter_map(|guard| wrong_with(guard, found));
    let mut all = own.chain(overtaken(shipped, found));
    let first = all.next()?;
    Some(match all.count() {
        0 => first,
        more => Brake {
            message: format!("{} ({more} more like this)", first.message),
            ..first
        },
    })
}

fn wrong_with(guard: &Shipped, found: &[Found]) -> Option<Brake> {
    let Shipped { kind, name, spec } = guard;
    let is_definition = *kind == GuardKind::CustomResourceDefinition;
    let brake = |reason, what: &str| {
        let repair = match reason {
            _ if is_definition => "apply the CustomResourceDefinitions of this version of Curfew",
            // Helm leaves alone what somebody else added to a field that the chart doesn't have.
            "GuardChanged" => "undo that, or delete it and run helm upgrade",
            _ => "run helm upgrade",
        };
        Some(Brake {
            reason,
            message: format!("the guard {kind:?} {name:?} {what}; a cluster admin must {repair}"),
        })
    };
    let Some(found) = found
        .iter()
        .find(|found| found.mark.kind == *kind && found.mark.name == *name)
    else {
        return brake("GuardMissing", "is missing");
    };
    if found.terminating {
        return brake("GuardMissing", "is being deleted");
    }
    if *spec == found.spec {
        return None;
    }
    let place = difference(&plain(*kind, spec), &plain(*kind, &found.spec), "spec".to_owned())?;
    let place: String = place.chars().take(LONGEST_PATH).collect();
    brake("GuardChanged", &format!("is not as it is shipped: {place} differs"))
}

/// Those marks that are of Curfew's own guards.
pub fn own(shipped: &[Shipped], marks: impl IntoIterator<Item = Mark>) -> Vec<Mark> {
    let is_ours = |mark: &Mark| {
        shipped
            .iter()
            .any(|guard| guard.kind == mark.kind && guard.name == mark.name)
    };
    marks.into_iter().filter(is_ours).collect()
}

/// Whether this refusal is the policy's of that name, and not somebody else's, such as RBAC's: those prove nothing of the policy.
pub fn is_refusal_of(policy: &str, message: &str) -> bool {
    message.contains(&format!(
        "ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request"
    ))
}

/// A spec without what the API server fills in by itself, so that the shipped one and the stored one are the same if they mean the same.
///
/// Not learnt from the API server by a dry-run, because the operator has no right to write guards, and not recorded when the files are generated, because
/// another version may fill in another field. A field that isn't in this short list and that we didn't ship may mean anything: it counts as a difference.
fn plain(kind: GuardKind, spec: &Value) -> Value {
    match kind {
        GuardKind::CustomResourceDefinition => plain_definition(spec),
        GuardKind::ValidatingAdmissionPolicy
        | GuardKind::ValidatingAdmissionPolicyBinding
        | GuardKind::MutatingAdmissionPolicy
        | GuardKind::MutatingAdmissionPolicyBinding => plain_policy(spec),
    }
}

fn plain_policy(value: &Value) -> Value {
    let is_filled_in = |key: &str, value: &Value| match key {
        "failurePolicy" => *value == json!("Fail"),
        "matchPolicy" => *value == json!("Equivalent"),
        "scope" => *value == json!("*"),
        "namespaceSelector" | "objectSelector" => *value == json!({}),
        _ => is_nothing(value),
    };
    match value {
        Value::Array(items) => items.iter().map(plain_policy).collect(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, value)| !is_filled_in(key, value))
            .map(|(key, value)| (key.clone(), plain_policy(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn plain_definition(spec: &Value) -> Value {
    let kind = spec.pointer("/names/kind").and_then(Value::as_str).unwrap_or_default();
    let (list, singular) = (json!(format!("{kind}List")), json!(kind.to_lowercase()));
    let Value::Object(mut fields) = spec.clone() else {
        return spec.clone();
    };
    if let Some(Value::Object(names)) = fields.get_mut("names") {
        names.retain(|key, value| match key.as_str() {
            "listKind" => *value != list,
            "singular" => *value != singular,
            _ => !is_nothing(value),
        });
    }
    fields.retain(|key, value| match key.as_str() {
        "conversion" => *value != json!({"strategy": "None"}),
        "preserveUnknownFields" => *value != json!(false),
        _ => !is_nothing(value),
    });
    fields.into()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => false,
    }
}

/// Where two values differ first, as a path.
fn difference(wanted: &Value, found: &Value, place: String) -> Option<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            let keys: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
            keys.into_iter().find_map(|key| {
                let place = format!("{place}.{key}");
                match (wanted.get(key), found.get(key)) {
                    (Some(wanted), Some(found)) => difference(wanted, found, place),
                    (None, None) => None,
                    (Some(_), None) | (None, Some(_)) => Some(place),
                }
            })
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => wanted
            .iter()
            .zip(found)
            .enumerate()
            .find_map(|(number, (wanted, found))| difference(wanted, found, format!("{place}[{number}]"))),
        // The API server writes 1 for 1.0.
        (Value::Number(wanted), Value::Number(found)) => (wanted.as_f64() != found.as_f64()).then_some(place),
        (wanted, found) => (wanted != found).then_some(place),
    }
}

#[cfg(test)]
mod tests;
