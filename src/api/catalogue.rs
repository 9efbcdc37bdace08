//! The catalogue of conditions and their reasons: all that there are, and what each means. `docs/reference/conditions.md` is generated from it.
//!
//! Nothing else in the project invents one: a condition with a reason that isn't here can't be set without a test noticing.

use std::fmt::Write;

/// When a condition has one of these reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The kind of object.
    pub kind: &'static str,
    /// The condition's type.
    pub condition: &'static str,
    /// Whether it is True then, or False.
    pub holds: bool,
    /// The reasons, each one CamelCase word.
    pub reasons: &'static [&'static str],
    /// What is the case then, in Markdown.
    pub when: &'static str,
}

const fn entry(
    kind: &'static str,
    condition: &'static str,
    holds: bool,
    reasons: &'static [&'static str],
    when: &'static str,
) -> Entry {
    Entry {
        kind,
        condition,
        holds,
        reasons,
        when,
    }
}

/// All of them, in the order in which they are told.
#[rustfmt::skip]
pub const CATALOGUE: &[Entry] = &[
    entry("AccessPolicy", "Ready", true, &["Ready"], "requests can be granted under it"),
    entry("AccessPolicy", "Ready", false, &["NothingMatches"], "no requesters, no roles, or no namespaces"),
    entry("AccessPolicy", "Ready", false, &["EmptySelector"], "`namespaces.selector` is there and says nothing"),
    entry("AccessPolicy", "Ready", false, &["InvalidSelector"], "a requirement of the selector is malformed"),
    entry("AccessPolicy", "Ready", false, &["InvalidDuration"], "a duration means nothing, or the default is longer than the maximum"),
    entry("AccessPolicy", "Ready", false, &["ApprovalMissing"], "neither approval stages nor break-glass"),
    entry("AccessPolicy", "Ready", false, &["ApprovalAmbiguous"], "both stages and break-glass"),
    entry("AccessPolicy", "Ready", false, &["NobodyApproves"], "a stage names no approvers, or requires none"),
    entry("AccessPolicy", "Ready", false, &["StageNamedTwice"], "two stages have one name"),
    entry("AccessPolicy", "Ready", false, &["TimeoutMissing"], "a stage says whom it escalates to and not when"),
    entry("AccessPolicy", "Ready", false, &["NeverMet"], "stages require more different people than they name"),
    entry("AccessPolicy", "Ready", false, &["TooManyApprovers"], "more users and service accounts may decide than a request has room for; groups are for that"),
    entry("AccessPolicy", "Ready", false, &["InvalidPattern"], "`reason.pattern` is no regular expression"),
    entry("AccessPolicy", "Ready", false, &["InvalidReview"], "`review` is there and names nobody, goes without break-glass, or would come after the records are gone"),
    entry("AccessPolicy", "Ready", false, &["NothingLimited"], "`limits` is there and says nothing"),
    entry("AccessPolicy", "Ready", false, &["RoleMissing"], "a ClusterRole doesn't exist"),
    entry("AccessPolicy", "Ready", false, &["RoleEmpty"], "a ClusterRole has no rules"),
    entry("AccessPolicy", "Ready", false, &["RolePlantsAccess"], "a holder could plant lasting access, as in the whole cluster sooner than in a namespace, and `allowPersistence` isn't true"),
    entry("AccessPolicy", "Ready", false, &["RoleNotGrantable"], "the operator may not bind it; see `grantableRoles`"),
    entry("AccessPolicy", "Ready", false, &["ClusterWideNotGrantable"], "it says `clusterWide`, and the operator may not create ClusterRoleBindings; see `clusterWide` in the chart's values"),
    entry("AccessPolicy", "Hazardous", true, &["RolesAllowMore"], "a role allows more than its rules show; the message lists [hazards](../security-model.md#hazards-of-roles)"),
    entry("AccessPolicy", "Hazardous", false, &["NothingFound"], "none is known to"),
    entry("AccessRequest", "Accepted", true, &["Offered"], "there is an offer to decide on"),
    entry("AccessRequest", "Accepted", false, &["RequesterMissing"], "nobody's name stands on it"),
    entry("AccessRequest", "Accepted", false, &["RoleOfOneNamespace"], "it asks for a Role in several namespaces, or in the whole cluster"),
    entry("AccessRequest", "Accepted", false, &["NamespaceMissing", "NamespaceTerminating"], "the namespace isn't there, or is being deleted"),
    entry("AccessRequest", "Accepted", false, &["TooManyNamespaces"], "it asks for all namespaces of its policy, and they are more than 32"),
    entry("AccessRequest", "Accepted", false, &["ProtectedSubject"], "Kubernetes' own accounts, or a service account of `kube-*` or of Curfew's namespace"),
    entry("AccessRequest", "Accepted", false, &["ProtectedNamespace"], "`kube-*`, or Curfew's namespace"),
    entry("AccessRequest", "Accepted", false, &["PolicyNotFound"], "the policy that it names isn't there"),
    entry("AccessRequest", "Accepted", false, &["NoPolicyFits", "SeveralPoliciesFit"], "it names no policy, and not exactly one fits"),
    entry("AccessRequest", "Accepted", false, &["PolicyNotReady"], "the policy can't be used, or is being checked"),
    entry("AccessRequest", "Accepted", false, &["NotARequester", "RoleNotInPolicy", "NamespaceNotInPolicy", "ClusterWideNotInPolicy"], "the policy doesn't offer this, here, to this requester"),
    entry("AccessRequest", "Accepted", false, &["DurationMissing", "DurationTooLong", "InvalidDuration"], "the duration isn't one, or none is named, or it is longer than `maxDuration`"),
    entry("AccessRequest", "Accepted", false, &["ReasonMissing", "ReasonMismatch", "InvalidPattern"], "the policy wants a reason, or one of another form; the message has its hint"),
    entry("AccessRequest", "Accepted", false, &["RoleMissing", "RoleEmpty", "RolePlantsAccess"], "as for policies"),
    entry("AccessRequest", "Accepted", false, &["ExtendsAnother"], "the grant that it extends has another requester, policy, role or namespaces"),
    entry("AccessRequest", "Accepted", false, &["ExtensionUnbounded"], "it extends break-glass access, and the policy has no `maxTotalDuration`"),
    entry("AccessRequest", "Accepted", false, &["NotAttested"], "it would break the glass, and was made before [a guard](../security-model.md#when-a-guard-is-away) that attests who asks was last written, or less than four seconds after"),
    entry("AccessRequest", "Accepted", false, &["TooManyPending"], "its requester has as many undecided requests as the policy takes"),
    entry("AccessRequest", "Accepted", false, &["GuardsUnknown", "GuardMissing", "GuardChanged", "GuardOvertaken", "GuardNotInForce"], "nothing is offered at present: [a guard](../security-model.md#when-a-guard-is-away) isn't as it must be, or it isn't known yet"),
    entry("AccessRequest", "Accepted", false, &["ClockSkew", "Uninstalling"], "the same, and that too is the case; see `Granted`"),
    entry("AccessRequest", "Approved", true, &["Approved"], "enough people approved"),
    entry("AccessRequest", "Approved", false, &["Waiting"], "the message says for whom"),
    entry("AccessRequest", "Approved", false, &["NotOffered"], "there is no offer to approve; see `Accepted`"),
    entry("AccessRequest", "Approved", false, &["Ended"], "it ended without enough approvals"),
    entry("AccessRequest", "BreakGlass", true, &["NobodyApproved"], "access was granted without anybody's approval; the message has the reason that was given"),
    entry("AccessRequest", "Reviewed", true, &["Reviewed"], "as for AccessGrant"),
    entry("AccessRequest", "Reviewed", false, &["Awaited", "Overdue"], "as for AccessGrant"),
    entry("AccessRequest", "Escalated", true, &["StageTimedOut"], "a stage wasn't decided in time and is open to those it escalates to; the message says which, since when"),
    entry("AccessRequest", "Granted", true, &["Bound"], "access was given. It stays True after the end"),
    entry("AccessRequest", "Granted", false, &["NotStarted"], "it is approved, and begins later"),
    entry("AccessRequest", "Granted", false, &["ClockSkew"], "the operator's clock and the API server's are too far apart; nothing is granted until they aren't"),
    entry("AccessRequest", "Granted", false, &["NoAnchor"], "it is approved, and waits: the policy requires a dead man's switch, and none can be had"),
    entry("AccessRequest", "Granted", false, &["GrantRefused"], "it is approved, and waits: the API server, or somebody's admission in it, doesn't let the operator create the AccessGrant; the message has its answer"),
    entry("AccessRequest", "Granted", false, &["TooManyActive"], "it is approved, and waits: its requester has as many accesses as the policy gives at a time"),
    entry("AccessRequest", "Granted", false, &["Uninstalling"], "it is approved, and Curfew is being uninstalled"),
    entry("AccessRequest", "Granted", false, &["GuardsUnknown", "GuardMissing", "GuardChanged", "GuardOvertaken", "GuardNotInForce"], "it is approved, and nothing is granted at present: a guard isn't as it must be, or it isn't known yet"),
    entry("AccessRequest", "Ended", true, &["Denied", "Withdrawn", "Revoked"], "somebody's word"),
    entry("AccessRequest", "Ended", true, &["RequestDeleted"], "it is being deleted"),
    entry("AccessRequest", "Ended", true, &["NotDecided"], "nobody decided within `requestTTL`"),
    entry("AccessRequest", "Ended", true, &["StageTimedOut"], "a stage wasn't decided in time, and escalates to nobody"),
    entry("AccessRequest", "Ended", true, &["StartMissed"], "it could not begin within `startTolerance` after its `startTime`"),
    entry("AccessRequest", "Ended", true, &["PolicyGone"], "its policy was deleted before it was granted"),
    entry("AccessRequest", "Ended", true, &["TargetGone"], "its namespace was replaced by another"),
    entry("AccessRequest", "Ended", true, &["NothingToExtend"], "the access that it was to extend isn't active, or no longer"),
    entry("AccessRequest", "Ended", true, &["TotalTooLong"], "with all its extensions the access would last longer than `maxTotalDuration`"),
    entry("AccessRequest", "Ended", true, &["TooManyActive"], "another access of its requester was being given at the same moment; nothing was bound"),
    entry("AccessRequest", "Ended", true, &["ChangedWhileGranting"], "what was approved changed at the last moment; nothing was bound"),
    entry("AccessRequest", "Ended", true, &["DeadlineReached", "GrantDeleted", "BindingDrifted", "RoleChanged", "PolicyChanged", "BindFailed", "AnchorBroken", "NotAsRequested", "Extended", "Uninstalled"], "it was granted, and that access ended: as for AccessGrant"),
    entry("AccessGrant", "Bound", true, &["Bound"], "every binding was made"),
    entry("AccessGrant", "Bound", false, &["Ended"], "every binding is gone"),
    entry("AccessGrant", "BreakGlass", true, &["NobodyApproved"], "granted at once, as its policy allows"),
    entry("AccessGrant", "Reviewed", true, &["Reviewed"], "one of the policy's reviewers has looked at it; the message says who, and what they had to say"),
    entry("AccessGrant", "Reviewed", false, &["Awaited"], "its policy wants it to be reviewed; the message says until when"),
    entry("AccessGrant", "Reviewed", false, &["Overdue"], "nobody has reviewed it in time. It still can be, while its request is there"),
    entry("AccessGrant", "DeadMansSwitch", true, &["Armed"], "kube-controller-manager ends this access too, at the moment that the message says"),
    entry("AccessGrant", "DeadMansSwitch", false, &["NoAnchor"], "the operator alone ends this access; the message says why, and the policy allows it"),
    entry("AccessGrant", "StreamsMayOutlive", true, &["RoleAllowsStreams"], "open streams go on after the end; see [limits](../limits.md)"),
    entry("AccessGrant", "Overdue", true, &["BindingNotDeleted"], "the message says what keeps it. Taken away when it is gone"),
    entry("AccessGrant", "Ended", true, &["DeadlineReached"], "the deadline; or it was made in what is the future now, so that nobody can tell when that is: the API server's clock was set back, or two clocks differ by more than a minute"),
    entry("AccessGrant", "Ended", true, &["Revoked"], "the requester or an approver revoked"),
    entry("AccessGrant", "Ended", true, &["Denied"], "a denial came before the seal; nothing was bound"),
    entry("AccessGrant", "Ended", true, &["RequestDeleted"], "the request was deleted"),
    entry("AccessGrant", "Ended", true, &["GrantDeleted"], "the AccessGrant was deleted"),
    entry("AccessGrant", "Ended", true, &["BindingDrifted"], "a binding was changed, replaced or deleted by somebody else"),
    entry("AccessGrant", "Ended", true, &["RoleChanged"], "the role has other rules, is another, or is gone"),
    entry("AccessGrant", "Ended", true, &["PolicyChanged"], "the policy changed and says `onPolicyChange: Revoke`"),
    entry("AccessGrant", "Ended", true, &["TargetGone"], "the namespace is gone, going, or another"),
    entry("AccessGrant", "Ended", true, &["BindFailed"], "a binding could not be made"),
    entry("AccessGrant", "Ended", true, &["AnchorBroken"], "what would end it without the operator was changed or deleted"),
    entry("AccessGrant", "Ended", true, &["NotAsRequested"], "it says otherwise than its request, or is bound although its request doesn't say that it was granted: who had the operator's token may have made it, or the request was changed while its definition had no rules"),
    entry("AccessGrant", "Ended", true, &["Extended"], "another grant has taken over"),
    entry("AccessGrant", "Ended", true, &["Uninstalled"], "Curfew was uninstalled"),
];

/// Whether a condition may have this reason, of whatever kind of object.
pub fn knows(condition: &str, holds: bool, reason: &str) -> bool {
    CATALOGUE
        .iter()
        .any(|entry| entry.condition == condition && entry.holds == holds && entry.reasons.contains(&reason))
}

/// The conditions of one kind of object, as a table in Markdown.
pub fn table(kind: &str) -> String {
    let mut text = "| condition | status | reason | when |\n|---|---|---|---|\n".to_owned();
    let mut before = "";
    for Entry {
        kind: _,
        condition,
        holds,
        reasons,
        when,
    } in CATALOGUE.iter().filter(|entry| entry.kind == kind)
    {
        let shown = if *condition == before {
            String::new()
        } else {
            format!("`{condition}` ")
        };
        let status = if *holds { "True" } else { "False" };
        let reasons: Vec<_> = reasons.iter().map(|reason| format!("`{reason}`")).collect();
        let _ = writeln!(text, "| {shown}| {status} | {} | {when} |", reasons.join(", "));
        before = condition;
    }
    text
}
