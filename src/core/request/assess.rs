//! From a request to an offer: which policy it is under, and everything that stands in the way.

use chrono::{DateTime, Duration, Utc};

use super::Observed;
use super::targets::{self, Asked, asked};
use crate::api::condition;
use crate::api::{
    AccessPolicy, AccessRequest, GoDuration, GrantedSubject, Offer, PolicyReference, Requester, RoleKind, time,
};
use crate::core::extension::{self, Refusal};
use crate::core::facts::{NamespaceFacts, RoleFacts};
use crate::core::guard::Standing;
use crate::core::identity::Account;
use crate::core::policy::{self, Ask, Obstacle};
use crate::core::{hazard, limits, offer};

/// What stands between a request and an offer, or the offer.
pub(super) enum Assessment<'a> {
    /// It can't be offered any more.
    Over { reason: &'static str, message: String },
    /// It can't be offered now.
    Blocked {
        policy: Option<&'a AccessPolicy>,
        obstacle: Obstacle,
    },
    /// It can be decided.
    Offered(Box<Offered<'a>>),
}

impl<'a> Assessment<'a> {
    /// The policy that was found to be the one, if any.
    pub(super) fn policy(&self) -> Option<&'a AccessPolicy> {
        match self {
            Self::Over { .. } => None,
            Self::Blocked { policy, obstacle: _ } => *policy,
            Self::Offered(offered) => Some(offered.policy),
        }
    }

    /// The last moment at which an extension that is offered can be granted, if there is one.
    pub(super) fn latest(&self, observed: &Observed) -> Option<DateTime<Utc>> {
        let Self::Offered(offered) = self else { return None };
        let ask = Ask {
            spec: &observed.request.spec,
            requester: offered.requester,
            targets: &observed.targets,
        };
        let extended = observed.extended.as_ref().filter(|_| ask.spec.extends.is_some())?;
        let latest = extension::latest(offered.policy, ask, extended)?;
        // Until and with that moment it can.
        latest.checked_add_signed(Duration::milliseconds(1))
    }
}

/// An offer and all that it rests on.
pub(super) struct Offered<'a> {
    pub(super) policy: &'a AccessPolicy,
    pub(super) requester: &'a Requester,
    pub(super) subject: GrantedSubject,
    pub(super) role: &'a RoleFacts,
    pub(super) offer: Offer,
}

/// What stands between a request and an offer, or the offer.
pub(super) fn assess(observed: &Observed, now: DateTime<Utc>) -> Assessment<'_> {
    let Observed {
        request,
        policies,
        role,
        targets,
        others,
        extended,
        grant: _,
        left_behind: _,
        home,
        brake: _,
        guards,
    } = observed;
    let blocked = |policy, obstacle| Assessment::Blocked { policy, obstacle };
    let Some(requester) = &request.spec.requester else {
        return blocked(
            None,
            Obstacle::new(
                "RequesterMissing",
                "nobody's name stands on it; the API server's stamp is missing: ask the cluster's admins",
            ),
        );
    };
    let policies = &standing(policies);
    let first = role_of_one_namespace(request)
        .or_else(|| missing_target(request, targets))
        .or_else(|| policy::protected(home, requester, targets));
    if let Some(obstacle) = first {
        return blocked(None, obstacle);
    }
    let frozen = request
        .status
        .as_ref()
        .map(|status| status.targets.as_slice())
        .unwrap_or_default();
    if let Some((_, target)) = frozen.iter().zip(targets).find(|(before, now)| before.uid != now.uid) {
        return Assessment::Over {
            reason: "TargetGone",
            message: format!(
                "the namespace {:?} was replaced by another of the same name; make a new request",
                target.name
            ),
        };
    }
    let ask = Ask {
        spec: &request.spec,
        requester,
        targets,
    };
    let policy = match choose(policies, frozen_policy(request), ask) {
        Ok(policy) => policy,
        Err(Choice::Over(message)) => {
            return Assessment::Over {
                reason: "PolicyGone",
                message,
            };
        }
        Err(Choice::Blocked(obstacle)) => return blocked(None, obstacle),
    };
    let usable = not_ready(policy)
        .or_else(|| unselected(request, targets).map(|obstacle| about(policy, obstacle)))
        .or_else(|| policy::out_of_scope(&policy.spec, ask).map(|obstacle| about(policy, obstacle)))
        .or_else(|| policy::out_of_bounds(&policy.spec, &request.spec))
        .or_else(|| {
            policy::flaws(&policy.spec, &[])
                .into_iter()
                .next()
                .map(|flaw| unusable(policy, &flaw.message))
        });
    if let Some(obstacle) = usable.or_else(|| not_attested(policy, request, guards)) {
        return blocked(Some(policy), obstacle);
    }
    let namespace = targets.first().map(|target| target.name.as_str()).unwrap_or_default();
    if let Some(obstacle) = policy::obstacles_of_asked_role(&policy.spec, role.as_ref(), &request.spec.role, namespace)
        .into_iter()
        .next()
        .or_else(|| limits::too_many_waiting(policy, request, others))
    {
        return blocked(Some(policy), obstacle);
    }
    match extension::refusal(policy, ask, extended.as_ref(), now) {
        Some(Refusal::Over(Obstacle { reason, message })) => return Assessment::Over { reason, message },
        Some(Refusal::Blocked(obstacle)) => return blocked(Some(policy), obstacle),
        None => {}
    }
    match (
        role,
        policy::duration(&policy.spec, &request.spec),
        Account::of(&requester.username).subject(),
    ) {
        (Some(role), Ok(duration), Some(subject)) => {
            let epoch = guards.epoch.as_deref().unwrap_or_default();
            let offer = make_offer(request, policy, role, targets, epoch, duration.clone());
            Assessment::Offered(Box::new(Offered {
                policy,
                requester,
                subject,
                role,
                offer,
            }))
        }
        // Each of these was refused above with a reason of its own.
        (None, _, _) | (_, Err(_), _) | (_, _, None) => blocked(Some(policy), unusable(policy, "it doesn't fit")),
    }
}

/// Who asks is attested once, when a request is made. Where nobody approves, nobody would see that it was somebody else.
fn not_attested(policy: &AccessPolicy, request: &AccessRequest, guards: &Standing) -> Option<Obstacle> {
    policy
        .spec
        .approval
        .as_ref()
        .filter(|approval| policy::is_break_glass(approval))?;
    let created = request.metadata.creation_timestamp.as_ref();
    let created = created.and_then(time::from_kubernetes);
    let is_attested = created
        .zip(guards.since)
        .is_some_and(|(created, since)| since <= created);
    let message =
        "it was made before a guard that attests who asks was last written, or a moment after; make a new request";
    (!is_attested).then(|| Obstacle::new("NotAttested", message))
}

/// The policy that the request is under or names, whether it can be offered now or not: how long it waits and who may deny it are this policy's matter.
pub(super) fn policy_of(observed: &Observed) -> Option<&AccessPolicy> {
    let frozen = frozen_policy(&observed.request).map(|policy| &policy.uid);
    let named = observed.request.spec.policy.as_ref();
    standing(&observed.policies).into_iter().find(|policy| match frozen {
        Some(uid) => policy.metadata.uid.as_ref() == Some(uid),
        None => named.is_some() && policy.metadata.name.as_ref() == named,
    })
}

/// The choice that was made with the first offer. It is never another than the one that the request names.
fn frozen_policy(request: &AccessRequest) -> Option<&PolicyReference> {
    let chosen = request.status.as_ref()?.policy.as_ref()?;
    request
        .spec
        .policy
        .as_ref()
        .is_none_or(|named| *named == chosen.name)
        .then_some(chosen)
}

/// A policy that is being deleted is gone, whatever holds it.
fn standing(policies: &[AccessPolicy]) -> Vec<&AccessPolicy> {
    policies
        .iter()
        .filter(|policy| policy.metadata.deletion_timestamp.is_none())
        .collect()
}

fn make_offer(
    request: &AccessRequest,
    policy: &AccessPolicy,
    role: &RoleFacts,
    targets: &[NamespaceFacts],
    guards: &str,
    duration: GoDuration,
) -> Offer {
    let digest = offer::digest(offer::Terms {
        request: (request.metadata.uid.as_deref().unwrap_or_default(), &request.spec),
        policy: (policy.metadata.uid.as_deref().unwrap_or_default(), &policy.spec),
        role,
        targets,
        guards,
    });
    Offer {
        code: offer::code(&digest),
        digest,
        duration,
        require_code: policy.spec.require_code,
        require_direct: policy.spec.require_direct,
        hazards: hazard::hazards(&role.rules)
            .into_iter()
            .map(|hazard| hazard.name().to_owned())
            .collect(),
    }
}

/// A Role is one namespace's: under one name there may be another in each.
fn role_of_one_namespace(request: &AccessRequest) -> Option<Obstacle> {
    let several = match asked(request) {
        Asked::Named(names) if names.len() < 2 && request.spec.namespaces_from_policy != Some(true) => return None,
        Asked::Named(names) => format!("it asks for {}", names.len()),
        Asked::OfPolicy(_) => "it asks for all of its policy".to_owned(),
        Asked::Cluster => "it asks for the whole cluster".to_owned(),
    };
    (request.spec.role.kind == RoleKind::Role).then(|| {
        Obstacle::new(
            "RoleOfOneNamespace",
            format!(
                "{} belongs to one namespace, and {several}; make a new request for a ClusterRole, or one for each namespace",
                request.spec.role,
            ),
        )
    })
}

fn missing_target(request: &AccessRequest, targets: &[NamespaceFacts]) -> Option<Obstacle> {
    let Asked::Named(names) = asked(request) else {
        return None;
    };
    if names.is_empty() {
        return Some(Obstacle::new(
            "NamespaceMissing",
            "it names no namespace; make a new request",
        ));
    }
    if let Some(name) = names
        .iter()
        .find(|name| !targets.iter().any(|target| target.name == **name))
    {
        return Some(Obstacle::new(
            "NamespaceMissing",
            format!(
                "the namespace {name:?} doesn't exist; it goes on when somebody creates it, or make a new request for another"
            ),
        ));
    }
    let terminating = targets.iter().find(|target| target.terminating)?;
    Some(Obstacle::new(
        "NamespaceTerminating",
        format!(
            "the namespace {:?} is being deleted; make a new request for another",
            terminating.name
        ),
    ))
}

/// Why there is nothing to offer in the namespaces that a policy selects.
fn unselected(request: &AccessRequest, found: &[NamespaceFacts]) -> Option<Obstacle> {
    let Asked::OfPolicy(_) = asked(request) else {
        return None;
    };
    match found.len() {
        0 => Some(Obstacle::new(
            "NamespaceMissing",
            "there is no namespace that it lets in; it goes on when there is one",
        )),
        1..=targets::MOST => None,
        many => Some(Obstacle::new(
            "TooManyNamespaces",
            format!(
                "it lets in {many} namespaces, and a request can be for {} at most; make a new request that names some",
                targets::MOST
            ),
        )),
    }
}

enum Choice {
    Over(String),
    Blocked(Obstacle),
}

/// The policy that a request is under: the one chosen before, the one it names, or the only one that fits.
fn choose<'a>(
    policies: &[&'a AccessPolicy],
    frozen: Option<&PolicyReference>,
    ask: Ask<'_>,
) -> Result<&'a AccessPolicy, Choice> {
    if let Some(PolicyReference { name, uid }) = frozen {
        let same = policies
            .iter()
            .copied()
            .find(|policy| policy.metadata.uid.as_ref() == Some(uid));
        return same.ok_or_else(|| Choice::Over(format!("the policy {name:?} was deleted; make a new request")));
    }
    if let Some(name) = &ask.spec.policy {
        let named = policies
            .iter()
            .copied()
            .find(|policy| policy.metadata.name.as_ref() == Some(name));
        return named.ok_or_else(|| {
            Choice::Blocked(Obstacle::new(
                "PolicyNotFound",
                format!("there is no AccessPolicy {name:?}; kubectl get accesspolicies shows those that there are"),
            ))
        });
    }
    choose_unnamed(policies, ask).map_err(Choice::Blocked)
}

fn choose_unnamed<'a>(policies: &[&'a AccessPolicy], ask: Ask<'_>) -> Result<&'a AccessPolicy, Obstacle> {
    // Access without approval is never chosen for somebody who didn't ask for it by name.
    let in_scope: Vec<_> = policies
        .iter()
        .copied()
        .filter(|policy| {
            policy
                .spec
                .approval
                .as_ref()
                .is_none_or(|approval| approval.break_glass.is_none())
        })
        .filter(|policy| policy::out_of_scope(&policy.spec, ask).is_none())
        .collect();
    let fitting: Vec<_> = in_scope
        .iter()
        .copied()
        .filter(|policy| policy::out_of_bounds(&policy.spec, ask.spec).is_none())
        .collect();
    match (fitting.as_slice(), in_scope.as_slice()) {
        ([policy], _) | ([], [policy]) => Ok(policy),
        ([], []) => Err(Obstacle::new(
            "NoPolicyFits",
            format!(
                "no AccessPolicy lets you ask for {} there; whoever runs the cluster can add one",
                ask.spec.role
            ),
        )),
        ([], several) | (several, _) => {
            let mut names: Vec<_> = several.iter().map(|policy| format!("{:?}", name_of(policy))).collect();
            names.sort_unstable();
            Err(Obstacle::new(
                "SeveralPoliciesFit",
                format!(
                    "more than one AccessPolicy fits ({}); make a new request that names one in spec.policy",
                    names.join(", ")
                ),
            ))
        }
    }
}

/// A policy may be used only while its Ready condition says so of its present generation. That condition vetoes; what it rests on is checked here again.
fn not_ready(policy: &AccessPolicy) -> Option<Obstacle> {
    let name = name_of(policy);
    let conditions = policy
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    match condition::get(conditions, condition::READY) {
        Some(ready) if ready.observed_generation != policy.metadata.generation => Some(Obstacle::new(
            "PolicyNotReady",
            format!("the policy {name:?} is being checked"),
        )),
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(unusable(policy, &ready.message)),
        None => Some(Obstacle::new(
            "PolicyNotReady",
            format!("the policy {name:?} is being checked"),
        )),
    }
}

fn unusable(policy: &AccessPolicy, why: &str) -> Obstacle {
    let message = format!(
        "the policy {:?} can't be used, and whoever runs the cluster can change that: {why}",
        name_of(policy)
    );
    Obstacle::new("PolicyNotReady", message)
}

fn about(policy: &AccessPolicy, obstacle: Obstacle) -> Obstacle {
    Obstacle {
        message: format!("the policy {:?} doesn't fit: {}", name_of(policy), obstacle.message),
        ..obstacle
    }
}

pub(super) fn name_of(policy: &AccessPolicy) -> &str {
    policy.metadata.name.as_deref().unwrap_or_default()
}
