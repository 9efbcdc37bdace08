//! AccessRequest: one person's request, the words spoken on it, and what became of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{GoDuration, RoleReference, Target, time};

/// What is asked for. Nothing of it can be changed afterwards; decisions are added at the end by the API server.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "curfew.dev",
    version = "v1alpha1",
    kind = "AccessRequest",
    namespaced,
    status = "AccessRequestStatus",
    shortname = "areq",
    category = "curfew",
    derive = "PartialEq",
    doc = "An AccessRequest asks for a role for a limited time. Approvers decide by the annotation curfew.dev/decision=approve|deny|revoke (and review, of access that nobody approved); access begins when enough of them approved and ends at its deadline.",
    printcolumn = r#"{"name":"Policy","type":"string","jsonPath":".status.policy.name"}"#,
    printcolumn = r#"{"name":"Role","type":"string","jsonPath":".spec.role.name"}"#,
    printcolumn = r#"{"name":"Requester","type":"string","jsonPath":".spec.requester.username"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Code","type":"string","jsonPath":".status.offer.code"}"#,
    printcolumn = r#"{"name":"Ends","type":"string","jsonPath":".status.expiresAt"}"#,
    printcolumn = r#"{"name":"Review","type":"string","jsonPath":".status.conditions[?(@.type==\"Reviewed\")].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".spec.reason"}"#,
    printcolumn = r#"{"name":"Grant","type":"string","priority":1,"jsonPath":".status.grant"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.message"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.policy) == has(oldSelf.policy) && (!has(self.policy) || self.policy == oldSelf.policy)").message("policy can't be changed; make a new request"),
    validation = Rule::new("self.role == oldSelf.role").message("role can't be changed; make a new request"),
    validation = Rule::new("has(self.namespaces) == has(oldSelf.namespaces) && (!has(self.namespaces) || self.namespaces == oldSelf.namespaces)").message("namespaces can't be changed; make a new request"),
    validation = Rule::new("has(self.namespacesFromPolicy) == has(oldSelf.namespacesFromPolicy) && (!has(self.namespacesFromPolicy) || self.namespacesFromPolicy == oldSelf.namespacesFromPolicy)").message("namespacesFromPolicy can't be changed; make a new request"),
    validation = Rule::new("!has(self.namespacesFromPolicy) || !self.namespacesFromPolicy || (has(self.policy) && !has(self.namespaces))").message("namespacesFromPolicy goes with policy, and without namespaces"),
    validation = Rule::new("!has(self.clusterWide) || !self.clusterWide || (!has(self.namespaces) && !(has(self.namespacesFromPolicy) && self.namespacesFromPolicy))").message("clusterWide goes without namespaces and namespacesFromPolicy"),
    validation = Rule::new("!has(self.extends) || !has(self.startTime)").message("extends goes without startTime: an extension begins when it is approved"),
    validation = Rule::new("!has(self.startTime) || self.startTime < timestamp('9999-01-01T00:00:00Z')").message("startTime must be before the year 9999"),
    validation = Rule::new("has(self.clusterWide) == has(oldSelf.clusterWide) && (!has(self.clusterWide) || self.clusterWide == oldSelf.clusterWide)").message("clusterWide can't be changed; make a new request"),
    validation = Rule::new("has(self.duration) == has(oldSelf.duration) && (!has(self.duration) || self.duration == oldSelf.duration)").message("duration can't be changed; make a new request"),
    validation = Rule::new("has(self.startTime) == has(oldSelf.startTime) && (!has(self.startTime) || self.startTime == oldSelf.startTime)").message("startTime can't be changed; make a new request"),
    validation = Rule::new("has(self.extends) == has(oldSelf.extends) && (!has(self.extends) || self.extends == oldSelf.extends)").message("extends can't be changed; make a new request"),
    validation = Rule::new("has(self.reason) == has(oldSelf.reason) && (!has(self.reason) || self.reason == oldSelf.reason)").message("reason can't be changed; make a new request"),
    validation = Rule::new("has(self.requester) == has(oldSelf.requester) && (!has(self.requester) || self.requester == oldSelf.requester)").message("requester can't be changed"),
    validation = Rule::new("!has(oldSelf.decisions) || (has(self.decisions) && self.decisions.size() >= oldSelf.decisions.size() && oldSelf.decisions.all(i, d, self.decisions[i] == d))").message("decisions are only ever added at the end")
)]
pub struct AccessRequestSpec {
    /// The AccessPolicy to ask under. May be left out when exactly one policy fits; if two fit, the request says which, and waits for nothing: make a new one that names one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub policy: Option<String>,
    /// The role that is asked for. The policy must name it.
    pub role: RoleReference,
    /// The namespaces that access is asked for, each once. The request's own when nothing is said. It is given in all of them or in none, and ends in all
    /// of them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))
    )]
    #[x_kube(validation = Rule::new("self.all(name, self.exists_one(other, other == name))").message("each namespace is named once"))]
    pub namespaces: Option<Vec<String>>,
    /// Whether access is asked for in all namespaces that the policy lets in, by name or by its selector, at the moment of the first offer; at most 32. They
    /// are fixed then, by name and uid: one that is made later is not among them. Goes with `policy`, and without `namespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces_from_policy: Option<bool>,
    /// Whether access is asked for in the whole cluster at once: in every namespace, also one that is made later, and for what is in none. The policy must say
    /// `clusterWide`, the role be a ClusterRole. Goes without `namespaces` and `namespacesFromPolicy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_wide: Option<bool>,
    /// How long access shall last, counted from the moment it is granted or, where there is one, from `startTime`. The policy's `defaultDuration` when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<GoDuration>,
    /// When access shall begin, with its time zone (`2026-11-24T22:00:00+01:00`). Approvals are taken before; access ends at this moment plus the duration,
    /// whenever it was approved. A request that can't begin within the policy's `startTolerance` after it ends as Expired.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "time::written_by_people"
    )]
    pub start_time: Option<Time>,
    /// The AccessGrant that this request is to extend: an active one of the same requester, under the same policy, for the same role and namespaces. It is
    /// approved like any other request; when access is given, the new grant takes over from the old one without a gap. Goes without `startTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub extends: Option<String>,
    /// Why access is needed, for the approvers and for whoever looks later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// Who asks. The API server writes it (from Kubernetes 1.36 on; before, `kubectl curfew request` does) and lets nobody write another's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Requester>,
    /// What approvers and the requester have said, in the order in which the API server stored it. It is added to by the annotation
    /// `curfew.dev/decision`; nothing is ever removed. Approvals fill at most 48 places; the rest is kept for denials and revocations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub decisions: Vec<Decision>,
}

impl AccessRequest {
    /// The user name of who asks, where the API server's stamp isn't missing.
    pub fn username(&self) -> Option<&str> {
        let requester = self.spec.requester.as_ref()?;
        Some(requester.username.as_str())
    }
}

/// The authenticated user who created the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requester {
    /// The user name, as authenticated.
    #[schemars(length(min = 1, max = 256))]
    pub username: String,
    /// The user's uid, as authenticated; empty where the authenticator gives none.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub uid: String,
    /// The user's groups, as authenticated.
    #[serde(default)]
    #[schemars(length(max = 512), inner(length(max = 256)))]
    pub groups: Vec<String>,
}

/// One word spoken on a request, as the API server attests it. Whether it counts is the policy's matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// What was said.
    pub verdict: Verdict,
    /// Who said it, as authenticated.
    #[schemars(length(min = 1, max = 256))]
    pub username: String,
    /// Their uid, as authenticated; empty where the authenticator gives none, and under impersonation.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub uid: String,
    /// What let them speak: for an approval each open stage that names them (`lead/User:bob`, `security/Group:sre`); for a denial or a revocation
    /// `*/User:bob` or `*/Group:sre`, an approver of whatever stage; or `requester`; for a review `review/User:bob` or `review/Group:sre`.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 340)))]
    pub via: Vec<String>,
    /// What they had to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub comment: Option<String>,
    /// The digest of the offer that stood at that moment. Empty only for a revocation spoken before there was an offer.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub offer: String,
    /// The code that the approver named, if they named one: proof that they had seen this offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub code: Option<String>,
    /// Whether they presented a credential of their own. False under impersonation, and where the authenticator gives no credential id.
    #[serde(default)]
    pub direct: bool,
}

/// What was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Verdict {
    /// Yes to the offer that stands.
    Approve,
    /// No, finally.
    Deny,
    /// No longer: ends what is pending or active.
    Revoke,
    /// Seen: somebody has looked at access that was given without approval. Ends nothing.
    Review,
}

/// What became of a request. Written by the operator alone; it is there for people and for admission, and never read as authority to grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessRequestStatus {
    /// Where the request stands, in one word. The conditions are the truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RequestPhase>,
    /// What is to be known now, in one sentence: who is to act next, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `Accepted`: whether there is an offer to decide on, or why not and who could change that. `Approved`, `BreakGlass`, `Escalated`, `Granted`, `Ended`,
    /// `Reviewed` (where the policy wants that of access without approval).
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "time::if_legible"
    )]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The policy that the request is under. Chosen once, with the first offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyReference>,
    /// The namespaces that access is asked for; none where it is for the whole cluster. Chosen once, with the first offer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub targets: Vec<Target>,
    /// What approvers are asked to agree to. Absent while the request can't be decided; the message says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Offer>,
    /// The stages that wait now, and who may approve in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub open: Vec<OpenStage>,
    /// Who, besides the requester, may deny or revoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revokers: Option<Revokers>,
    /// Who may review the access, where the policy wants that. From when it was granted on, also after its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewers: Option<Reviewers>,
    /// What became of each decision, in the order of `spec.decisions`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub decisions: Vec<DecisionOutcome>,
    /// Set when the request was granted: from then on only a revocation or a review is taken. A veto, never a permission: a sealed request whose grant is gone has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// The AccessGrant that this request led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub grant: Option<String>,
    /// When access ends.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "time::if_legible"
    )]
    pub expires_at: Option<Time>,
    /// When what happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
}

impl AccessRequestStatus {
    /// Whether it is neither granted nor over.
    pub fn is_undecided(&self) -> bool {
        self.seal.is_none() && !self.phase.is_some_and(RequestPhase::is_final)
    }
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum RequestPhase {
    /// Not decided, or not decidable yet; the message says which.
    Pending,
    /// Approved and granted; the binding is being made.
    Approved,
    /// The requester has access.
    Active,
    /// An approver said no.
    Denied,
    /// The requester took it back before it was granted.
    Withdrawn,
    /// Access was ended before its deadline, or the request before it was granted.
    Revoked,
    /// Access ended at its deadline or went on under a request that extended it, or nobody decided in time.
    Expired,
    /// It could not be granted.
    Failed,
}

impl RequestPhase {
    /// Whether nothing will happen to a request in this phase any more.
    pub fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Approved | Self::Active => false,
            Self::Denied | Self::Withdrawn | Self::Revoked | Self::Expired | Self::Failed => true,
        }
    }
}

/// What approvers are asked to agree to, as a digest over all that it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// SHA-256, in hex, over the request, the policy, the role's rules and the target namespaces, uids included. If any of it changes, earlier approvals don't count.
    #[schemars(length(max = 64))]
    pub digest: String,
    /// The digest's first eight characters, for people: `kubectl annotate … curfew.dev/decision=approve:CODE` is refused when the offer is another by now.
    #[schemars(length(max = 8))]
    pub code: String,
    /// How long access will last.
    pub duration: GoDuration,
    /// Whether an approval must name the code.
    #[serde(default)]
    pub require_code: bool,
    /// Whether an approver must present a credential of their own.
    #[serde(default)]
    pub require_direct: bool,
    /// What the role allows beyond what its rules show at first sight, in the words of the documentation's list: `ReadsSecrets`, `RunsWorkloads` and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 64)))]
    pub hazards: Vec<String>,
}

/// A policy by name and uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReference {
    /// The policy's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The policy's uid.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// A stage that waits, and who may approve in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenStage {
    /// The stage's name.
    #[schemars(length(max = 63))]
    pub stage: String,
    /// How many different people must approve.
    #[serde(deserialize_with = "time::if_legible")]
    pub required: i32,
    /// For how many more it waits. 0 where it is met, and another approval in it would free somebody's for a stage that isn't.
    #[serde(deserialize_with = "time::if_legible")]
    pub missing: i32,
    /// Since when it waits.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "time::if_legible"
    )]
    pub since: Option<Time>,
    /// When it escalates or, where it escalates to nobody, ends the request.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "time::if_legible"
    )]
    pub until: Option<Time>,
    /// When it escalated, if it has: those it escalates to are among the users and groups from then on.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "time::if_legible"
    )]
    pub escalated: Option<Time>,
    /// User names that may approve, service accounts among them by their user names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 340)))]
    pub users: Vec<String>,
    /// Groups whose members may approve; service accounts never by a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 256)))]
    pub groups: Vec<String>,
}

/// So many users there is room for among those who may deny and revoke a request; see [`Revokers`].
pub const MOST_REVOKERS: usize = 1024;

/// Who, besides the requester, may deny and revoke: the approvers of all stages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revokers {
    /// User names, service accounts among them by their user names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_REVOKERS), inner(length(max = 340)))]
    pub users: Vec<String>,
    /// Groups; service accounts never by a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(max = 256)))]
    pub groups: Vec<String>,
}

/// Who may review access that was given without approval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reviewers {
    /// User names, service accounts among them by their user names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 340)))]
    pub users: Vec<String>,
    /// Groups; service accounts never by a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 256)))]
    pub groups: Vec<String>,
}

/// What became of one decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionOutcome {
    /// Who spoke.
    #[schemars(length(max = 256))]
    pub username: String,
    /// What was said.
    pub verdict: Verdict,
    /// Whether it counts.
    pub effect: DecisionEffect,
    /// Why it counts or doesn't, in one sentence.
    pub reason: String,
    /// When the operator first saw it.
    #[serde(deserialize_with = "time::in_any_case")]
    pub first_seen: Time,
}

/// Whether a decision counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DecisionEffect {
    /// It counts.
    Counts,
    /// It doesn't.
    NoEffect,
}

/// The mark that a request was granted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Seal {
    /// The AccessGrant.
    #[schemars(length(max = 253))]
    pub grant: String,
    /// The AccessGrant's uid.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// When what happened. The request's creation is in its metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// When the last offer was first made. Stages wait from then on, also when something was in the way for a moment and the same is offered again.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "time::if_legible"
    )]
    pub offered: Option<Time>,
    /// That offer's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub offer: Option<String>,
    /// When which stage escalated, of the offer that stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub escalations: Vec<Escalation>,
    /// When it was granted: the creation of the AccessGrant, from which the deadline counts.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "time::if_legible"
    )]
    pub granted: Option<Time>,
    /// When it ended.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "time::if_legible"
    )]
    pub ended: Option<Time>,
}

/// A stage that wasn't decided in time, and opened to those it escalates to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Escalation {
    /// The stage's name.
    #[schemars(length(max = 63))]
    pub stage: String,
    /// When its timeout was over; also when nothing ran at that moment.
    #[serde(deserialize_with = "time::in_any_case")]
    pub at: Time,
}
