//! AccessPolicy: what may be asked for, by whom, and whose word it takes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{GoDuration, LabelSelector, People, time};

/// What may be asked for, by whom, and whose word it takes. Strict where nothing is said; whatever loosens is written out.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "curfew.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    status = "AccessPolicyStatus",
    shortname = "apol",
    category = "curfew",
    derive = "PartialEq",
    doc = "An AccessPolicy says what access may be asked for, by whom, for how long, and whose word it takes. Its Ready condition tells whether it can be used, or exactly why not.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Max","type":"string","jsonPath":".spec.maxDuration"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicySpec {
    /// Who may ask under this policy.
    pub requesters: People,
    /// The roles that may be asked for, each by name. There are no wildcards, and nobody can bring rules of their own.
    #[schemars(length(min = 1, max = 64))]
    pub roles: Vec<RoleReference>,
    /// The namespaces for which a role may be asked. At least one name or a selector that says something; may be left out with `clusterWide`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Namespaces>,
    /// Whether a role may be asked for in the whole cluster at once, by a ClusterRoleBinding: in all namespaces, those of Kubernetes and of Curfew among
    /// them, and for what is in no namespace. Needs `clusterWide` in the Helm chart's values. With access so wide, whoever reads secrets or does anything
    /// but read can plant access that no deadline ends: such a role takes `allowPersistence` too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cluster_wide: bool,
    /// The longest duration that may be asked for.
    pub max_duration: GoDuration,
    /// The duration of a request that names none. Without it, a request must name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_duration: Option<GoDuration>,
    /// How long a request may wait for a decision before it ends as Expired. 24h when nothing is said.
    #[serde(default, rename = "requestTTL", skip_serializing_if = "Option::is_none")]
    pub request_ttl: Option<GoDuration>,
    /// What a request's reason must be like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ReasonRule>,
    /// Whose word it takes. A policy without it is not Ready: what is missing never means "granted".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Whether an approval must name the offer's code (`curfew.dev/decision=approve:3f9a2c1b`), so that nobody approves what they haven't seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_code: bool,
    /// Whether an approver must present a credential of their own: an approval given under impersonation doesn't count, unless who impersonates may also
    /// make up the credential id (`impersonate` on `userextras/authentication.kubernetes.io/credential-id`). Needs an authenticator that gives a
    /// credential id; client certificates and service account tokens do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_direct: bool,
    /// How much one requester may have at once under this policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// How long ended requests and grants are kept, with the whole story in their status, before the operator removes them. 720h (30 days) when nothing is
    /// said, and for requests whose policy is gone. A grant is kept as long as was said when it was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<GoDuration>,
    /// Whether every grant must end even when the operator is gone for good. `Required` (what holds when nothing is said) grants nothing that only the
    /// operator would end: where no anchor can be had, an approved request waits and says why. `BestEffort` grants without that safety net then, and the grant
    /// says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_mans_switch: Option<DeadMansSwitch>,
    /// Whether roles are allowed by which a holder can plant access that no deadline ends: roles that write RBAC, mint tokens, impersonate, approve
    /// certificates, change admission or APIs; with `clusterWide` also those that read secrets or do anything but read. Without it a policy that names
    /// such a role is not Ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_persistence: bool,
    /// What becomes of active grants when this policy is changed or deleted: `Keep` (what holds when nothing is said) lets them run to their deadline, `Revoke` ends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_policy_change: Option<OnChange>,
    /// What becomes of active grants when their role's rules change or the role is replaced: `Revoke` (what holds when nothing is said) ends them, `Keep`
    /// lets them run. A role that is deleted ends them in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_role_change: Option<OnChange>,
    /// How late a request with a start time may still begin, because nobody approved it or nothing ran. Later it ends as Expired. 5m when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_tolerance: Option<GoDuration>,
    /// The longest that an access may last with all its extensions, counted from when the first of them began. Without it each extension takes only its own
    /// approval; break-glass, which takes none, can't be extended then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_total_duration: Option<GoDuration>,
    /// Who looks at break-glass access afterwards, by `curfew.dev/decision=review`, and how soon. Goes with `approval.breakGlass`. Reviewers may deny and
    /// revoke too, as approvers may elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
}

/// A role that exists, by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.name.contains('*')").message("a role is named in full; there are no wildcards"))]
pub struct RoleReference {
    /// `ClusterRole`, or `Role` for one in the namespace that access is asked for.
    pub kind: RoleKind,
    /// The role's name: letters, digits, and of other characters those that stand for themselves in a URL, such as `:`, `.` and `-`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9._~@!$&'()*+,;=:-]+$"))]
    pub name: String,
}

impl std::fmt::Display for RoleReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, name } = self;
        write!(f, "{kind:?} {name:?}")
    }
}

/// The kind of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub enum RoleKind {
    /// A cluster role, given in namespaces or, where the policy says `clusterWide`, in the whole cluster.
    ClusterRole,
    /// A role of the target namespace.
    Role,
}

/// Namespaces by name, by label, or both: either lets a namespace in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Namespaces {
    /// Namespaces by name, in full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    pub names: Vec<String>,
    /// Namespaces by label. A selector that is there but says nothing makes the policy not Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// What a request's reason must be like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReasonRule {
    /// Whether a reason must be given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// A regular expression (RE2 syntax, matched in linear time) that the reason must match somewhere; `^` and `$` anchor it. Implies `required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub pattern: Option<String>,
    /// What to tell a requester whose reason doesn't fit: "a ticket number such as OPS-1234".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub hint: Option<String>,
}

/// Whose word it takes: stages of approvers or, written out, break-glass. Exactly one of `stages` and `breakGlass`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.stages) || self.stages.all(stage, self.stages.exists_one(other, other.name == stage.name))").message("each stage needs a name of its own"))]
pub struct Approval {
    /// Whether the stages wait one after the other (`Sequential`, what holds when nothing is said) or all at once (`Parallel`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The stages, at most eight. One person counts once in the whole chain, however many stages name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub stages: Vec<Stage>,
    /// Access at once and without anybody's approval, for emergencies: `breakGlass: {}`. Only with a reason, only for a request that names this policy, and
    /// marked as such everywhere: the condition `BreakGlass`, a Warning event, a metric. `review` says who looks at it afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlass>,
}

/// How stages follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Order {
    /// A stage opens when the one before it is met.
    Sequential,
    /// All stages are open from the start.
    Parallel,
}

/// Approvers of whom so many must agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.escalateTo) || has(self.timeout)").message("escalateTo goes with a timeout: it says when"))]
pub struct Stage {
    /// The stage's name, a DNS label, different from the other stages' names.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Who may approve in this stage. The requester never may.
    pub approvers: People,
    /// How many different people must approve. 1 when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub required: Option<i32>,
    /// How long this stage may wait, from when it opens. Then it opens to `escalateTo` too, once; without `escalateTo` the request ends as Expired. What the
    /// operator sees only after the timeout came too late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// Who else may approve after the timeout. The stage's approvers go on being able to. From then on it waits as long as the request may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_to: Option<People>,
}

/// Access at once, without approval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakGlass {}

/// How much one requester may have at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// How many active grants. A request that is approved beyond that waits, as `Granted` False `TooManyActive`, until one of them ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub active_per_requester: Option<i32>,
    /// How many undecided requests. One beyond that isn't offered to approvers, as `Accepted` False `TooManyPending`, until one of them is decided, granted
    /// or withdrawn. What is approved and waits counts as undecided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub pending_per_requester: Option<i32>,
}

/// Whether access must end without the operator too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DeadMansSwitch {
    /// Nothing is granted that only the operator would end.
    Required,
    /// Access may be granted without a dead man's switch; the grant says so.
    BestEffort,
}

/// What becomes of active grants when something they rest on changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnChange {
    /// They end.
    Revoke,
    /// They run to their deadline.
    Keep,
}

/// A look at break-glass access afterwards. It ends nothing and allows nothing; access that nobody has looked at stands out until somebody does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// Who may review, one of them for each access. The requester never may.
    pub approvers: People,
    /// How soon after the grant, at most as long as records are kept (`retention`). 24h when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<GoDuration>,
}

/// What the operator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicyStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "time::if_legible"
    )]
    pub observed_generation: Option<i64>,
    /// `Ready`: whether requests can be granted under this policy, or everything that stands in the way. `Hazardous`: whether its roles allow more than their
    /// rules show at first sight (reading secrets, running pods, planting access).
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "time::if_legible"
    )]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
