//! The annotations, labels and name prefixes that Curfew reads or writes.
//!
//! The admission policies in the chart name the same strings; the tests install both and would notice a difference.

/// The names of all of Curfew's own annotations and labels begin so.
pub const DOMAIN: &str = "curfew.dev/";
/// Annotation by which an approver decides: `approve`, `approve:CODE`, `deny`, `revoke` or `review`. The API server turns it into a record.
pub const DECISION: &str = "curfew.dev/decision";
/// Annotation that may accompany [`DECISION`]: the approver's comment.
pub const COMMENT: &str = "curfew.dev/comment";
/// Label on every binding that Curfew made: the uid of its AccessGrant.
pub const GRANT_UID: &str = "curfew.dev/grant-uid";
/// Label on every AccessGrant: a digest of the requester's user name, by which grants of one requester are found.
pub const REQUESTER: &str = "curfew.dev/requester";
/// Annotation on every binding: the name of its AccessGrant.
pub const GRANT: &str = "curfew.dev/grant";
/// Annotation on every binding: the moment at which it must be gone, RFC 3339 in UTC.
pub const DEADLINE: &str = "curfew.dev/deadline";
/// Annotation on every binding: `namespace/name` of the request that led to it.
pub const REQUEST: &str = "curfew.dev/request";
/// Names of bindings that begin so are Curfew's alone: a guard in the API server reserves them.
pub const BINDING_PREFIX: &str = "curfew-";
/// Names of the Jobs and Services of anchors, in the operator's namespace, begin so.
pub const ANCHOR_PREFIX: &str = "curfew-until-";
/// Label on the Jobs and Services of anchors.
pub const ANCHOR: &str = "curfew.dev/anchor";
/// How the API server names the user of a service account: this, the namespace, a colon, the name.
pub const SERVICE_ACCOUNT_USER: &str = "system:serviceaccount:";
/// What an entry of a decision's `via` says when the requester speaks as such.
pub const VIA_REQUESTER: &str = "requester";
/// The place in an entry of a decision's `via` when it means "an approver of whatever stage": `*/User:bob`.
pub const VIA_ANY_STAGE: &str = "*";
/// The place in an entry of a review's `via`: `review/User:bob`.
pub const VIA_REVIEW: &str = "review";
