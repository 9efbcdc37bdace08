//! The offer: a digest of all that an approver agrees to.
//!
//! It is computed when a request is first looked at, whenever something changes, and again at the moment of granting. Whatever is not in here could change
//! between the approval and the grant without anybody noticing, so all of it is.

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::facts::{NamespaceFacts, RoleFacts};
use crate::api::{AccessPolicySpec, AccessRequestSpec, Target};

/// How many characters of a digest make an offer's code.
const CODE_LENGTH: usize = 8;

/// All that an offer rests on.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The request's uid and what it asks for.
    pub request: (&'a str, &'a AccessRequestSpec),
    /// The policy's uid and what it says.
    pub policy: (&'a str, &'a AccessPolicySpec),
    /// The role.
    pub role: &'a RoleFacts,
    /// The namespaces.
    pub targets: &'a [NamespaceFacts],
    /// The guards that attest who speaks: a word spoken while they were away is about another offer.
    pub guards: &'a str,
}

#[derive(Serialize)]
struct Written<'a> {
    request: (&'a str, AccessRequestSpec),
    policy: (&'a str, &'a AccessPolicySpec),
    role: (String, &'a str, &'a [PolicyRule]),
    targets: Vec<Target>,
    guards: &'a str,
}

/// The offer's digest: SHA-256, 64 hex characters.
pub fn digest(terms: Terms<'_>) -> String {
    let Terms {
        request: (request_uid, request),
        policy,
        role: RoleFacts { reference, uid, rules },
        targets,
        guards,
    } = terms;
    let request = AccessRequestSpec {
        decisions: vec![],
        ..request.clone()
    };
    sha256(&Written {
        request: (request_uid, request),
        policy,
        role: (reference.to_string(), uid, rules),
        targets: targets.iter().map(target).collect(),
        guards,
    })
}

/// The code that stands for a digest when people type it.
pub fn code(digest: &str) -> String {
    digest.chars().take(CODE_LENGTH).collect()
}

/// The digest of a role's rules.
pub fn rules_digest(rules: &[PolicyRule]) -> String {
    sha256(&rules)
}

/// The digest of a policy's spec.
pub fn policy_digest(spec: &AccessPolicySpec) -> String {
    sha256(spec)
}

/// A namespace as offers and grants name it.
pub fn target(namespace: &NamespaceFacts) -> Target {
    let NamespaceFacts {
        name,
        uid,
        labels: _,
        terminating: _,
    } = namespace;
    Target {
        namespace: name.clone(),
        uid: uid.clone(),
    }
}

/// Structs and maps of strings always serialise. If one didn't, the digest would be empty, and no approval counts for an empty digest.
pub(super) fn sha256(value: &impl Serialize) -> String {
    serde_json::to_vec(value)
        .map(|written| {
            Sha256::digest(&written)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
