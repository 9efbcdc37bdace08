//! What a role allows beyond what its rules show at first sight. One list, here; the documentation shows it.
//!
//! Whether a hazard forbids granting is the policy's matter. Rules are read strictly: `resourceNames` narrow nothing here, and a wildcard means everything.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;

/// Something a role allows that people should know before they give it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hazard {
    /// Writes roles or bindings: can give itself or others access that no deadline ends.
    WritesRbac,
    /// Makes tokens of service accounts, also through secrets: tokens outlive the grant.
    MintsTokens,
    /// Acts as somebody else.
    Impersonates,
    /// Approves or signs certificates: they outlive the grant.
    ApprovesCertificates,
    /// Changes admission webhooks or policies, Curfew's guards among them.
    ChangesAdmission,
    /// Changes what APIs there are and who serves them, Curfew's definitions among them.
    ChangesApis,
    /// Writes AccessPolicies: can make itself a policy.
    WritesPolicies,
    /// Reads secrets, tokens among them.
    ReadsSecrets,
    /// Runs pods, under any service account of the namespace.
    RunsWorkloads,
    /// Runs commands in pods, or reaches into them; open streams outlive the grant.
    EntersPods,
    /// Reaches kubelets, and so every pod of a node, or a node's files through a PersistentVolume.
    ReachesNodes,
    /// Labels namespaces: brings them under policies that select by label, Curfew's among them, and loosens pod security.
    LabelsNamespaces,
}

/// All hazards, those that plant access first.
pub const ALL: [Hazard; 12] = [
    Hazard::WritesRbac,
    Hazard::MintsTokens,
    Hazard::Impersonates,
    Hazard::ApprovesCertificates,
    Hazard::ChangesAdmission,
    Hazard::ChangesApis,
    Hazard::WritesPolicies,
    Hazard::ReadsSecrets,
    Hazard::RunsWorkloads,
    Hazard::EntersPods,
    Hazard::ReachesNodes,
    Hazard::LabelsNamespaces,
];

const WRITE: &[&str] = &["create", "update", "patch"];
const CHANGE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
const READ: &[&str] = &["get", "list", "watch"];

impl Hazard {
    /// Whether a holder can plant access that no deadline ends, also in a namespace of no importance. Such a role needs the policy's `allowPersistence`. In
    /// the whole cluster every hazard does that, and so does a role that does more than read ([`only_reads`]).
    pub fn plants_access(self) -> bool {
        match self {
            Self::WritesRbac
            | Self::MintsTokens
            | Self::Impersonates
            | Self::ApprovesCertificates
            | Self::ChangesAdmission
            | Self::ChangesApis
            | Self::WritesPolicies => true,
            Self::ReadsSecrets
            | Self::RunsWorkloads
            | Self::EntersPods
            | Self::ReachesNodes
            | Self::LabelsNamespaces => false,
        }
    }

    /// The hazard's name in statuses and documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::WritesRbac => "WritesRbac",
            Self::MintsTokens => "MintsTokens",
            Self::Impersonates => "Impersonates",
            Self::ApprovesCertificates => "ApprovesCertificates",
            Self::ChangesAdmission => "ChangesAdmission",
            Self::ChangesApis => "ChangesApis",
            Self::WritesPolicies => "WritesPolicies",
            Self::ReadsSecrets => "ReadsSecrets",
            Self::RunsWorkloads => "RunsWorkloads",
            Self::EntersPods => "EntersPods",
            Self::ReachesNodes => "ReachesNodes",
            Self::LabelsNamespaces => "LabelsNamespaces",
        }
    }

    fn is_in(self, rules: &[PolicyRule]) -> bool {
        let any =
            |group, resources: &[&str], verbs: &[&str]| rules.iter().any(|rule| allows(rule, group, resources, verbs));
        match self {
            Self::WritesRbac => {
                let group = "rbac.authorization.k8s.io";
                any(
                    group,
                    &["rolebindings", "clusterrolebindings", "roles", "clusterroles"],
                    WRITE,
                ) || any(group, &["roles", "clusterroles"], &["bind", "escalate"])
            }
            // A secret of type kubernetes.io/service-account-token is filled with a token by Kubernetes; who may write and read secrets has it.
            Self::MintsTokens => {
                any("", &["serviceaccounts/token"], &["create"])
                    || (any("", &["secrets"], WRITE) && any("", &["secrets"], READ))
            }
            Self::Impersonates => rules.iter().any(|rule| {
                rule.verbs
                    .iter()
                    .any(|verb| verb == "*" || verb.starts_with("impersonate"))
                    && ["", "authentication.k8s.io"].iter().any(|group| has_group(rule, group))
                    && rule.resources.iter().flatten().any(|resource| {
                        resource == "*"
                            || ["users", "groups", "serviceaccounts", "uids", "nodes"].contains(&resource.as_str())
                            || resource.starts_with("userextras")
                            || resource.starts_with("*/")
                    })
            }),
            Self::ApprovesCertificates => {
                let group = "certificates.k8s.io";
                any(
                    group,
                    &[
                        "certificatesigningrequests/approval",
                        "certificatesigningrequests/status",
                    ],
                    &["update", "patch"],
                ) || any(group, &["signers"], &["approve", "sign", "attest"])
            }
            Self::ChangesAdmission => any(
                "admissionregistration.k8s.io",
                &[
                    "validatingadmissionpolicies",
                    "validatingadmissionpolicybindings",
                    "mutatingadmissionpolicies",
                    "mutatingadmissionpolicybindings",
                    "validatingwebhookconfigurations",
                    "mutatingwebhookconfigurations",
                ],
                CHANGE,
            ),
            Self::ChangesApis => {
                any("apiextensions.k8s.io", &["customresourcedefinitions"], CHANGE)
                    || any("apiregistration.k8s.io", &["apiservices"], CHANGE)
            }
            Self::WritesPolicies => any(crate::api::GROUP, &["accesspolicies"], WRITE),
            Self::ReadsSecrets => any("", &["secrets"], READ),
            Self::RunsWorkloads => {
                any(
                    "",
                    &[
                        "pods",
                        "replicationcontrollers",
                        "podtemplates",
                        "pods/ephemeralcontainers",
                    ],
                    WRITE,
                ) || any(
                    "apps",
                    &["deployments", "daemonsets", "statefulsets", "replicasets"],
                    WRITE,
                ) || any("batch", &["jobs", "cronjobs"], WRITE)
            }
            Self::EntersPods => any(
                "",
                &[
                    "pods/exec",
                    "pods/attach",
                    "pods/portforward",
                    "pods/proxy",
                    "services/proxy",
                ],
                &["get", "create", "update", "patch", "delete"],
            ),
            Self::ReachesNodes => {
                any(
                    "",
                    &["nodes/proxy", "nodes/exec", "nodes/run", "nodes/attach"],
                    &["get", "create", "update", "patch", "delete"],
                ) || any("", &["persistentvolumes"], WRITE)
            }
            Self::LabelsNamespaces => any("", &["namespaces"], WRITE),
        }
    }
}

/// The hazards of a role with these rules.
pub fn hazards(rules: &[PolicyRule]) -> BTreeSet<Hazard> {
    ALL.into_iter().filter(|hazard| hazard.is_in(rules)).collect()
}

/// Whether a role with these rules does nothing but read.
pub fn only_reads(rules: &[PolicyRule]) -> bool {
    let mut verbs = rules.iter().flat_map(|rule| &rule.verbs);
    verbs.all(|verb| READ.contains(&verb.as_str()))
}

/// Whether a role with these rules allows streams that Kubernetes doesn't cut when access ends: a watch, a followed log, or a way into a pod.
pub fn allows_streams(rules: &[PolicyRule]) -> bool {
    Hazard::EntersPods.is_in(rules)
        || rules.iter().any(|rule| {
            rule.resources.as_ref().is_some_and(|resources| !resources.is_empty()) && has_verb(rule, "watch")
        })
        || rules.iter().any(|rule| allows(rule, "", &["pods/log"], &["get"]))
}

fn allows(rule: &PolicyRule, group: &str, resources: &[&str], verbs: &[&str]) -> bool {
    has_group(rule, group)
        && resources.iter().any(|resource| has_resource(rule, resource))
        && verbs.iter().any(|verb| has_verb(rule, verb))
}

fn has_group(rule: &PolicyRule, group: &str) -> bool {
    rule.api_groups
        .iter()
        .flatten()
        .any(|named| named == "*" || named == group)
}

fn has_verb(rule: &PolicyRule, verb: &str) -> bool {
    rule.verbs.iter().any(|named| named == "*" || named == verb)
}

/// RBAC's own matching: the name, `*`, or `*/subresource`.
fn has_resource(rule: &PolicyRule, resource: &str) -> bool {
    let of_any = resource
        .split_once('/')
        .map(|(_, subresource)| format!("*/{subresource}"));
    rule.resources
        .iter()
        .flatten()
        .any(|named| named == "*" || named == resource || Some(named) == of_any.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        PolicyRule {
            api_groups: Some(vec![group.into()]),
            resources: Some(list(resources)),
            verbs: list(verbs),
            ..PolicyRule::default()
        }
    }

    fn names(rules: &[PolicyRule]) -> Vec<&'static str> {
        hazards(rules).into_iter().map(Hazard::name).collect()
    }

    #[test]
    fn reading_pods_is_harmless_but_for_its_streams() {
        let rules = [rule("", &["pods", "pods/log"], &["get", "list"])];
        assert_eq!(names(&rules), [""; 0]);
        assert!(allows_streams(&rules));
        assert!(!allows_streams(&[rule("", &["configmaps"], &["get", "list"])]));
        assert!(allows_streams(&[rule("", &["configmaps"], &["get", "watch"])]));
    }

    #[test]
    fn each_hazard_is_found_in_the_smallest_rule_that_has_it() {
        for (found, rules) in [
            (
                "WritesRbac",
                vec![rule("rbac.authorization.k8s.io", &["rolebindings"], &["create"])],
            ),
            (
                "WritesRbac",
                vec![rule("rbac.authorization.k8s.io", &["clusterroles"], &["bind"])],
            ),
            ("MintsTokens", vec![rule("", &["serviceaccounts/token"], &["create"])]),
            ("MintsTokens", vec![rule("", &["*/token"], &["create"])]),
            ("Impersonates", vec![rule("", &["serviceaccounts"], &["impersonate"])]),
            (
                "Impersonates",
                vec![rule("authentication.k8s.io", &["userextras/scopes"], &["impersonate"])],
            ),
            (
                "ApprovesCertificates",
                vec![rule(
                    "certificates.k8s.io",
                    &["certificatesigningrequests/approval"],
                    &["update"],
                )],
            ),
            (
                "ApprovesCertificates",
                vec![rule("certificates.k8s.io", &["signers"], &["sign"])],
            ),
            (
                "ChangesAdmission",
                vec![rule(
                    "admissionregistration.k8s.io",
                    &["validatingadmissionpolicybindings"],
                    &["delete"],
                )],
            ),
            (
                "ChangesApis",
                vec![rule("apiextensions.k8s.io", &["customresourcedefinitions"], &["patch"])],
            ),
            (
                "ChangesApis",
                vec![rule("apiregistration.k8s.io", &["apiservices"], &["create"])],
            ),
            (
                "WritesPolicies",
                vec![rule("curfew.dev", &["accesspolicies"], &["patch"])],
            ),
            ("ReadsSecrets", vec![rule("", &["secrets"], &["watch"])]),
            ("RunsWorkloads", vec![rule("batch", &["cronjobs"], &["create"])]),
            (
                "RunsWorkloads",
                vec![rule("", &["pods/ephemeralcontainers"], &["patch"])],
            ),
            ("EntersPods", vec![rule("", &["pods/exec"], &["get"])]),
            ("ReachesNodes", vec![rule("", &["nodes/proxy"], &["get"])]),
            ("ReachesNodes", vec![rule("", &["persistentvolumes"], &["create"])]),
            ("LabelsNamespaces", vec![rule("", &["namespaces"], &["patch"])]),
        ] {
            assert_eq!(names(&rules), [found], "{rules:?}");
        }
    }

    #[test]
    fn reading_is_to_get_list_and_watch_and_nothing_else() {
        let all = |verbs: &[&str]| only_reads(&[rule("", &["nodes"], &["get"]), rule("", &["leases"], verbs)]);
        assert!(all(&["get", "list", "watch"]) && all(&[]));
        for verb in ["create", "update", "patch", "delete", "*", "bind", "use", "impersonate"] {
            assert!(!all(&["get", verb]), "{verb}");
        }
    }

    #[test]
    fn a_resource_of_that_name_in_another_group_is_another() {
        for (group, resource, verb) in [
            ("example.com", "secrets", "get"),
            ("example.com", "pods", "create"),
            ("", "rolebindings", "create"),
        ] {
            assert_eq!(
                names(&[rule(group, &[resource], &[verb])]),
                [""; 0],
                "{group}/{resource}"
            );
        }
    }

    #[test]
    fn writing_and_reading_secrets_in_two_rules_mints_tokens() {
        let rules = [rule("", &["secrets"], &["create"]), rule("", &["secrets"], &["get"])];
        assert_eq!(names(&rules), ["MintsTokens", "ReadsSecrets"]);
    }

    #[test]
    fn a_wildcard_is_every_hazard() {
        assert_eq!(hazards(&[rule("*", &["*"], &["*"])]).len(), ALL.len());
    }

    #[test]
    fn non_resource_urls_are_no_hazard() {
        let rules = [PolicyRule {
            non_resource_urls: Some(vec!["*".into()]),
            verbs: vec!["*".into()],
            ..PolicyRule::default()
        }];
        assert_eq!(names(&rules), [""; 0]);
        assert!(!allows_streams(&rules));
    }
}
