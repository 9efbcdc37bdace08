//! What users write and read: the three kinds of `curfew.dev/v1alpha1`.
//!
//! The doc comments of the fields are the API's specification; `kubectl explain` shows them.
//! This module holds data and its schema only: no decisions (those are in [`crate::core`]) and no I/O.
//! Whatever of Kubernetes' own types has another shape than the core's is converted here, in one place.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub mod catalogue;
pub mod condition;
mod duration;
mod grant;
mod label_selector;
pub mod marks;
mod people;
mod policy;
mod request;
pub mod time;

pub use duration::{GoDuration, InvalidDuration, LONGEST};
pub use grant::{
    AccessGrant, AccessGrantSpec, AccessGrantStatus, BoundBinding, End, EndReason, Extended, GrantAnchor, GrantPhase,
    GrantedPolicy, GrantedReview, GrantedRole, GrantedSubject, Place, RequestReference, Target,
};
pub use label_selector::{LabelSelector, SelectorOperator, SelectorRequirement};
pub use people::{People, ServiceAccountReference};
pub use policy::{
    AccessPolicy, AccessPolicySpec, AccessPolicyStatus, Approval, BreakGlass, DeadMansSwitch, Limits, Namespaces,
    OnChange, Order, ReasonRule, Review, RoleKind, RoleReference, Stage,
};
pub use request::{
    AccessRequest, AccessRequestSpec, AccessRequestStatus, Decision, DecisionEffect, DecisionOutcome, Escalation,
    MOST_REVOKERS, Offer, OpenStage, PolicyReference, RequestPhase, Requester, Reviewers, Revokers, Seal, Timeline,
    Verdict,
};

/// The API group of Curfew's kinds.
pub const GROUP: &str = "curfew.dev";
/// The version of Curfew's kinds.
pub const VERSION: &str = "v1alpha1";

/// The definitions of all three kinds, as they are committed in `crds/` and shipped in the chart.
pub fn definitions() -> [CustomResourceDefinition; 3] {
    [AccessPolicy::crd(), AccessRequest::crd(), AccessGrant::crd()]
}
