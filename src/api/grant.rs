//! AccessGrant: the commit point and the evidence of one access.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{Decision, GoDuration, OnChange, Requester, Reviewers, Revokers, RoleKind, RoleReference, time};

/// One access as it was granted. Nothing of it ever changes.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "curfew.dev",
    version = "v1alpha1",
    kind = "AccessGrant",
    status = "AccessGrantStatus",
    shortname = "agrant",
    category = "curfew",
    derive = "PartialEq",
    doc = "An AccessGrant is the record of one access: its creation is the moment of granting, and its creation time (or its start time) plus its duration is the deadline. It is written by the operator alone, outlives its request, and tells who, what, when and by whose word. Deleting it ends the access.",
    printcolumn = r#"{"name":"Requester","type":"string","jsonPath":".spec.requester.username"}"#,
    printcolumn = r#"{"name":"Role","type":"string","jsonPath":".spec.role.name"}"#,
    printcolumn = r#"{"name":"Namespace","type":"string","jsonPath":".spec.targets[0].namespace"}"#,
    printcolumn = r#"{"name":"ClusterWide","type":"boolean","jsonPath":".spec.clusterWide"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Ends","type":"string","jsonPath":".status.expiresAt"}"#,
    printcolumn = r#"{"name":"Why","type":"string","jsonPath":".status.end.reason"}"#,
    printcolumn = r#"{"name":"BreakGlass","type":"boolean","jsonPath":".spec.breakGlass"}"#,
    printcolumn = r#"{"name":"Review","type":"string","jsonPath":".status.conditions[?(@.type==\"Reviewed\")].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Request","type":"string","priority":1,"jsonPath":".spec.request.name"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".spec.reason"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("a grant can't be changed"),
    validation = Rule::new("(has(self.targets) && self.targets.size() > 0) != (has(self.clusterWide) && self.clusterWide)").message("a grant is for namespaces, or for the whole cluster"),
    validation = Rule::new("(self.decisions.size() > 0) != (has(self.breakGlass) && self.breakGlass)").message("a grant rests on decisions, or is break-glass")
)]
pub struct AccessGrantSpec {
    /// The request that led to it.
    pub request: RequestReference,
    /// Who asked, as the API server authenticated them.
    pub requester: Requester,
    /// Who is bound.
    pub subject: GrantedSubject,
    /// The role, as it was when it was approved.
    pub role: GrantedRole,
    /// The namespaces in which it is bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub targets: Vec<Target>,
    /// Whether it is bound in the whole cluster instead, by a ClusterRoleBinding.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cluster_wide: bool,
    /// How long the access lasts, counted from this object's creation or from `startTime`.
    pub duration: GoDuration,
    /// When it was to begin, where the request said so. The deadline is this plus the duration; nothing is granted before.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "time::written_by_people"
    )]
    pub start_time: Option<Time>,
    /// The policy under which it was granted.
    pub policy: GrantedPolicy,
    /// The digest of the offer that was approved.
    #[schemars(length(max = 64))]
    pub offer: String,
    /// The decisions that carried it. None where the policy grants without, for emergencies.
    #[schemars(length(max = 64))]
    pub decisions: Vec<Decision>,
    /// Whether it was granted at once and without anybody's approval, because the policy says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// Who is to look at it afterwards, where it was given without approval and the policy wants that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<GrantedReview>,
    /// Who, besides the requester, may revoke it.
    pub revokers: Revokers,
    /// The requester's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// The access that this one takes over from, where it extends one. That one ends when this one's bindings are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<Extended>,
    /// How long this record is kept after the access has ended. 720h (30 days) when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<GoDuration>,
    /// What ends it without the operator. Absent where there is no such thing and the policy grants all the same (`deadMansSwitch: BestEffort`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<GrantAnchor>,
    /// Why nothing ends it but the operator, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub no_anchor: Option<String>,
    /// What the role allows beyond what its rules show at first sight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 64)))]
    pub hazards: Vec<String>,
    /// Whether the role allows streams that Kubernetes doesn't cut when access ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub streams_may_outlive: bool,
}

/// The look that is to be taken at an access afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantedReview {
    /// Whose look it takes; one of them is enough.
    pub reviewers: Reviewers,
    /// How soon after this object's creation.
    pub within: GoDuration,
    /// Whether a reviewer must present a credential of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_direct: bool,
}

/// An access that is extended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Extended {
    /// Its AccessGrant.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its AccessGrant's uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// When the first of all those that extend each other began. The policy's `maxTotalDuration` counts from then.
    #[serde(deserialize_with = "time::in_any_case")]
    pub since: Time,
}

/// A request by namespace, name and uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestReference {
    /// The request's namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The request's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The request's uid. A request made again under the same name is another one.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Who is bound: a user, or a service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantedSubject {
    /// `User` or `ServiceAccount`.
    #[schemars(length(max = 32))]
    pub kind: String,
    /// The name.
    #[schemars(length(max = 256))]
    pub name: String,
    /// The service account's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
}

/// A role as it was when it was approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantedRole {
    /// Its kind.
    pub kind: RoleKind,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// SHA-256, in hex, over its rules.
    #[schemars(length(max = 64))]
    pub rules_digest: String,
    /// What to do when the role's rules change.
    pub on_change: OnChange,
}

impl GrantedRole {
    /// Its kind and name.
    pub fn reference(&self) -> RoleReference {
        RoleReference {
            kind: self.kind,
            name: self.name.clone(),
        }
    }
}

/// Where a binding of a grant stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this namespace, as a RoleBinding.
    Namespace(Target),
    /// In the whole cluster, as a ClusterRoleBinding.
    Cluster,
}

impl Place {
    /// The namespace, if it is one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Namespace(Target { namespace, uid: _ }) => Some(namespace),
            Self::Cluster => None,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace() {
            Some(namespace) => write!(f, "in namespace {namespace:?}"),
            None => f.write_str("in the whole cluster"),
        }
    }
}

impl AccessGrantSpec {
    /// Everywhere that it is bound.
    pub fn places(&self) -> Vec<Place> {
        let namespaces = self.targets.iter().cloned().map(Place::Namespace);
        namespaces.chain(self.cluster_wide.then_some(Place::Cluster)).collect()
    }

    /// The namespace in which a Role of the granted name is the one that is meant.
    pub fn role_namespace(&self) -> &str {
        self.targets
            .first()
            .map(|target| target.namespace.as_str())
            .unwrap_or_default()
    }
}

/// What ends a grant without the operator: kube-controller-manager deletes the Job at its deadline, then the Service, then the IPAddress that every binding
/// of the grant names as its owner, then the bindings. Shared by all grants that end within the same minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantAnchor {
    /// The name of the Job and of the Service, in the operator's namespace.
    #[schemars(length(max = 63))]
    pub name: String,
    /// The Job's uid.
    #[schemars(length(max = 64))]
    pub job_uid: String,
    /// The Service's cluster IP, which is the IPAddress's name.
    #[schemars(length(max = 64))]
    pub address: String,
    /// The IPAddress's uid.
    #[schemars(length(max = 64))]
    pub address_uid: String,
    /// When it ends what hangs on it: at most a minute and a few seconds after the deadline.
    #[serde(deserialize_with = "time::in_any_case")]
    pub ends_at: Time,
}

/// A namespace by name and uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The namespace's name.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The namespace's uid. One made again under the same name is another one.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// A policy as it was when the access was granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantedPolicy {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// SHA-256, in hex, over its spec.
    #[schemars(length(max = 64))]
    pub digest: String,
    /// What to do when the policy is changed or deleted.
    pub on_change: OnChange,
}

/// What became of a grant. Written by the operator alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessGrantStatus {
    /// Where the grant stands, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<GrantPhase>,
    /// The bindings that were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub bindings: Vec<BoundBinding>,
    /// When access ends: this object's creation, or `startTime`, plus the duration. Shown here; derived anew wherever it matters.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "time::if_legible"
    )]
    pub expires_at: Option<Time>,
    /// Why and when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// The word by which it was reviewed, where that was to be done and somebody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Decision>,
    /// `Bound`, `Ended`, `BreakGlass` (granted without anybody's approval), `Reviewed` (whether somebody has looked at that), `DeadMansSwitch` (whether access would end without the operator), `StreamsMayOutlive` (whether the role allows streams that
    /// Kubernetes doesn't cut when access ends), `Overdue` (what keeps a binding from being deleted).
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "time::if_legible"
    )]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A binding that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoundBinding {
    /// The RoleBinding's namespace. Absent: it is a ClusterRoleBinding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// The binding's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The binding's uid.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Where a grant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum GrantPhase {
    /// Bound: the subject has access.
    Active,
    /// It is to end, and something keeps a binding alive; the `Overdue` condition says what.
    Ending,
    /// Every binding is gone.
    Ended,
}

/// Why and when a grant ended, or why it is to end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Why, in one word.
    pub reason: EndReason,
    /// Why, in one sentence.
    pub message: String,
    /// When every binding was gone. Absent while one isn't.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "time::if_legible"
    )]
    pub at: Option<Time>,
}

/// Why a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum EndReason {
    /// The deadline.
    Expired,
    /// The requester or an approver revoked it.
    Revoked,
    /// A denial was stored before the request was sealed; nothing was bound.
    Denied,
    /// The request was deleted.
    RequestDeleted,
    /// The AccessGrant is being deleted.
    GrantDeleted,
    /// A binding was changed, replaced or deleted by someone else.
    Drifted,
    /// The role's rules changed, or the role is another or gone.
    RoleChanged,
    /// The policy was changed or deleted, and says that this ends its grants.
    PolicyChanged,
    /// A target namespace is gone, going, or another one of the same name.
    TargetGone,
    /// A binding could not be made.
    BindFailed,
    /// What would end it without the operator was changed or deleted.
    AnchorBroken,
    /// It says otherwise than its request: the operator didn't make it, or the request is another by now.
    NotAsRequested,
    /// Another grant took over: it goes on, under that one's deadline.
    Extended,
    /// Curfew was uninstalled.
    Uninstalled,
}
