//! A label selector like Kubernetes' own, with bounds on everything.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Selects namespaces by label, as Kubernetes' own label selectors do. All that is said must hold. One that says nothing selects nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must have exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), inner(length(max = 63)))]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements on labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<SelectorRequirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectorRequirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the label's value relates to `values`.
    pub operator: SelectorOperator,
    /// For `In` and `NotIn` at least one value, for `Exists` and `DoesNotExist` none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a label's value relates to a requirement's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[allow(missing_docs, reason = "Kubernetes' own four operators, by their own names")]
pub enum SelectorOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    /// Whether nothing is said, which selects nothing.
    pub fn is_empty(&self) -> bool {
        let Self {
            match_labels,
            match_expressions,
        } = self;
        match_labels.is_empty() && match_expressions.is_empty()
    }

    /// Whether something with these labels is selected. An empty selector selects nothing, and one that is malformed neither.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let Self {
            match_labels,
            match_expressions,
        } = self;
        !self.is_empty()
            && match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && match_expressions.iter().all(|requirement| requirement.holds(labels))
    }

    /// What is wrong with the selector, if anything: an `In` without values and the like.
    pub fn flaw(&self) -> Option<String> {
        self.match_expressions.iter().find(|requirement| !requirement.is_well_formed()).map(|requirement| {
            let SelectorRequirement { key, operator, values } = requirement;
            format!("label {key:?}: {operator:?} with {} values; In and NotIn take at least one, Exists and DoesNotExist none", values.len())
        })
    }
}

impl SelectorRequirement {
    fn is_well_formed(&self) -> bool {
        match self.operator {
            SelectorOperator::In | SelectorOperator::NotIn => !self.values.is_empty(),
            SelectorOperator::Exists | SelectorOperator::DoesNotExist => self.values.is_empty(),
        }
    }

    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        self.is_well_formed()
            && match self.operator {
                SelectorOperator::In => value.is_some_and(|value| self.values.contains(value)),
                SelectorOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
                SelectorOperator::Exists => value.is_some(),
                SelectorOperator::DoesNotExist => value.is_none(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    fn requirement(key: &str, operator: SelectorOperator, values: &[&str]) -> LabelSelector {
        let values = values.iter().map(|value| (*value).into()).collect();
        LabelSelector {
            match_labels: BTreeMap::new(),
            match_expressions: vec![SelectorRequirement {
                key: key.into(),
                operator,
                values,
            }],
        }
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        assert!(!LabelSelector::default().selects(&labels(&[("a", "b")])));
    }

    #[test]
    fn selectors_select_as_in_kubernetes() {
        use SelectorOperator::{DoesNotExist, Exists, In, NotIn};
        let team = labels(&[("team", "a")]);
        for (selector, expected) in [
            (
                LabelSelector {
                    match_labels: team.clone(),
                    match_expressions: vec![],
                },
                true,
            ),
            (
                LabelSelector {
                    match_labels: labels(&[("team", "b")]),
                    match_expressions: vec![],
                },
                false,
            ),
            (requirement("team", In, &["a", "b"]), true),
            (requirement("team", In, &["b"]), false),
            (requirement("team", NotIn, &["b"]), true),
            (requirement("other", NotIn, &["b"]), true),
            (requirement("team", NotIn, &["a"]), false),
            (requirement("team", Exists, &[]), true),
            (requirement("other", Exists, &[]), false),
            (requirement("other", DoesNotExist, &[]), true),
            (requirement("team", In, &[]), false),
            (requirement("other", NotIn, &[]), false),
        ] {
            assert_eq!(selector.selects(&team), expected, "{selector:?}");
        }
    }
}
