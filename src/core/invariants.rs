//! What must hold of the world, whatever happens: the invariants I1 to I6, stated once.
//!
//! A [`World`] is what the API server stores at one moment. [`violated`] holds of each world, [`violated_by`] of any two that follow each other, and
//! [`unfinished`] of one in which nothing is left to do. All are total, and look at what is stored only: they repeat no decision and trust none, so that
//! whoever checks the core with them doesn't ask the core. Of I6 the records of audit are missing: they aren't stored in the API server.

use chrono::{DateTime, Duration, Utc};
use k8s_openapi::api::rbac::v1::RoleBinding;

use super::grant::{self, GrantUid};
use super::{binding, identity, offer, policy};
use crate::api::{
    AccessGrant, AccessGrantSpec, AccessPolicy, AccessRequest, Decision, GrantPhase, RequestPhase, Reviewers, Revokers,
    Stage, Verdict, marks, time,
};

/// Within the second that the API server tells, nobody knows better than their own clock.
const CLOCKS_DIFFER: Duration = Duration::seconds(1);

/// What the API server stores at one moment.
#[derive(Clone, Debug)]
pub struct World {
    /// The moment.
    pub now: DateTime<Utc>,
    /// All requests.
    pub requests: Vec<AccessRequest>,
    /// All grants.
    pub grants: Vec<AccessGrant>,
    /// All bindings, other people's too. What has no namespace is a ClusterRoleBinding.
    pub bindings: Vec<RoleBinding>,
    /// All policies.
    pub policies: Vec<AccessPolicy>,
}

impl World {
    /// The bindings that bear Curfew's marks.
    fn managed(&self) -> impl Iterator<Item = (&RoleBinding, GrantUid)> {
        let marked = |found| binding::marked(found).map(|uid| (found, uid));
        self.bindings.iter().filter_map(marked)
    }

    fn grant(&self, uid: &GrantUid) -> Option<&AccessGrant> {
        self.grants
            .iter()
            .find(|grant| GrantUid::of(grant).as_ref() == Some(uid))
    }

    fn request(&self, uid: &str) -> Option<&AccessRequest> {
        self.requests
            .iter()
            .find(|request| request.metadata.uid.as_deref() == Some(uid))
    }

    /// The policy of a grant, while it is still the one under which it was granted.
    fn policy(&self, spec: &AccessGrantSpec) -> Option<&AccessPolicy> {
        self.policies.iter().find(|policy| {
            policy.metadata.uid.as_ref() == Some(&spec.policy.uid)
                && offer::policy_digest(&policy.spec) == spec.policy.digest
        })
    }

    /// A binding that gives what this grant granted: by its marks, or because it was recorded.
    fn binding_of(&self, grant: &AccessGrant) -> Option<&RoleBinding> {
        let uid = GrantUid::of(grant)?;
        let recorded = grant.status.iter().flat_map(|status| &status.bindings);
        let recorded: Vec<_> = recorded.map(|binding| &binding.uid).collect();
        let is_recorded = |found: &RoleBinding| found.metadata.uid.as_ref().is_some_and(|uid| recorded.contains(&uid));
        self.bindings
            .iter()
            .find(|found| is_recorded(found) || binding::marked(found).as_ref() == Some(&uid))
    }
}

/// What doesn't hold of one world, each in one sentence. `margin` is how long after its deadline a binding may still be on its way out.
pub fn violated(world: &World, margin: Duration) -> Vec<String> {
    let found = [
        outlived(world, margin),
        unapproved(world),
        not_sealed(world),
        too_soon(world),
        beyond_the_policy(world),
        extended_too_long(world),
        twice(world),
        false_deadline(world),
        untrue_review(world),
    ];
    found.into_iter().flatten().collect()
}

/// What doesn't hold of two worlds that follow each other, each in one sentence.
pub fn violated_by(before: &World, after: &World) -> Vec<String> {
    let found = [
        moved_deadline(before, after),
        lost_word(before, after),
        sealed_over_a_word(before, after),
        newly_sealed(before, after).find_map(|request| sealed_beyond_a_limit(after, request)),
        untrue_end(before, after),
        taken_back(before, after),
    ];
    found.into_iter().flatten().collect()
}

// ---- I1: no managed binding lives past its deadline ----------------------------------------------------------------

fn outlived(world: &World, margin: Duration) -> Option<String> {
    let (found, deadline) = world
        .managed()
        .map(|(found, uid)| {
            (
                found,
                world.grant(&uid).map_or_else(|| described(found), grant::deadline),
            )
        })
        .find(|(_, deadline)| {
            deadline
                .checked_add_signed(margin)
                .is_none_or(|latest| latest <= world.now)
        })?;
    Some(format!(
        "I1: the binding {} stands at {}, after its deadline {}",
        called(found),
        time::written(world.now),
        time::written(deadline)
    ))
}

/// The deadline that a binding bears itself. One that bears none should be gone.
fn described(found: &RoleBinding) -> DateTime<Utc> {
    let written = found
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(marks::DEADLINE));
    written
        .and_then(|written| DateTime::parse_from_rfc3339(written).ok())
        .map_or(DateTime::<Utc>::MIN_UTC, |deadline| deadline.to_utc())
}

/// That no grant moves its deadline, or anything else that was granted.
fn moved_deadline(before: &World, after: &World) -> Option<String> {
    let (was, is) = both(&before.grants, &after.grants, |grant| grant.metadata.uid.as_deref())
        .find(|(was, is)| grant::deadline(was) != grant::deadline(is) || was.spec != is.spec)?;
    Some(format!(
        "I1: the grant {} was for another access: until {}, and now until {}",
        name(is.metadata.name.as_ref()),
        time::written(grant::deadline(was)),
        time::written(grant::deadline(is))
    ))
}

// ---- I2: enough distinct, eligible decisions on one offer, none by the requester ---------------------------------------

fn unapproved(world: &World) -> Option<String> {
    world.grants.iter().find_map(|grant| {
        let how = uncarried(world, &grant.spec)?;
        Some(format!("I2: the grant {} {how}", name(grant.metadata.name.as_ref())))
    })
}

/// What is wrong with the words that carry a grant.
fn uncarried(world: &World, spec: &AccessGrantSpec) -> Option<String> {
    let mut people: Vec<_> = spec.decisions.iter().map(|word| &word.username).collect();
    people.sort_unstable();
    people.dedup();
    let policy = world.policy(spec);
    let stages = policy
        .and_then(|policy| policy.spec.approval.as_ref())
        .map(|approval| &approval.stages[..]);
    if spec.break_glass {
        return not_broken(policy, spec);
    }
    let required = stages.map_or(1, |stages| {
        stages
            .iter()
            .map(|stage| policy::required(stage).max(1))
            .sum::<i32>()
            .max(1)
    });
    if people.len() != spec.decisions.len() || i32::try_from(people.len()).is_ok_and(|people| people < required) {
        return Some(format!("rests on {} people, and takes {required}", people.len()));
    }
    let request = world.request(&spec.request.uid);
    let wrong = spec.decisions.iter().find_map(|word| {
        let who = &word.username;
        if word.verdict != Verdict::Approve || word.offer != spec.offer {
            Some(format!("rests on a word of {who:?} that approves something else"))
        } else if *who == spec.requester.username {
            Some(format!("rests on its requester's own word, {who:?}"))
        } else if request.is_some_and(|request| !request.spec.decisions.contains(word)) {
            Some(format!("rests on a word of {who:?} that isn't on its request"))
        } else if stages.is_some_and(|stages| !stages.iter().any(|stage| was_let_in(word, stage))) {
            Some(format!("rests on the word of {who:?}, who is no approver"))
        } else {
            None
        }
    });
    wrong.or_else(|| unmet(stages.unwrap_or_default(), &spec.decisions))
}

/// Why nobody may have access without anybody's word under this policy.
fn not_broken(policy: Option<&AccessPolicy>, spec: &AccessGrantSpec) -> Option<String> {
    let says_so = policy.is_none_or(|policy| {
        let approval = policy.spec.approval.as_ref();
        approval.is_some_and(|approval| approval.break_glass.is_some() && approval.stages.is_empty())
    });
    let has_reason = spec.reason.as_ref().is_some_and(|reason| !reason.trim().is_empty());
    match (says_so, has_reason, spec.decisions.is_empty()) {
        (true, true, true) => None,
        (false, _, _) => Some("rests on nobody's word, and its policy takes some".to_owned()),
        (true, false, _) => Some("rests on nobody's word, and on no reason".to_owned()),
        (true, true, false) => Some("is break-glass, and rests on words".to_owned()),
    }
}

/// Some stages for which there are not enough people: as many as are required for each set of stages means that all are met by different people.
fn unmet(stages: &[Stage], words: &[Decision]) -> Option<String> {
    let sets = (1_u64..1 << stages.len().min(policy::MOST_STAGES)).map(|choice| {
        let chosen = stages
            .iter()
            .enumerate()
            .filter(move |(place, _)| choice & (1 << place) != 0);
        chosen.map(|(_, stage)| stage).collect::<Vec<_>>()
    });
    sets.into_iter().find_map(|set| {
        let required: i32 = set.iter().map(|stage| policy::required(stage).max(1)).sum();
        let people = words
            .iter()
            .filter(|word| set.iter().any(|stage| may_count(word, stage)))
            .count();
        i32::try_from(people).is_ok_and(|people| people < required).then(|| {
            let names: Vec<_> = set.iter().map(|stage| format!("{:?}", stage.name)).collect();
            format!(
                "rests on {people} people in {}, which takes {required}",
                names.join(" and ")
            )
        })
    })
}

/// Whether a word was spoken in this stage by somebody of it, or of those it escalates to.
fn was_let_in(word: &Decision, stage: &Stage) -> bool {
    policy::everybody(stage).any(|people| lets_in(word, &stage.name, &people.usernames(), &people.groups))
}

/// Whether who spoke is one of this stage, wherever they spoke.
fn may_count(word: &Decision, stage: &Stage) -> bool {
    policy::everybody(stage).any(|people| identity::is_one_of(people, word))
}

fn lets_in(word: &Decision, place: &str, users: &[String], groups: &[String]) -> bool {
    let mut entries = word.via.iter();
    entries.any(|entry| identity::lets_in(entry, place, &word.username, users, groups))
}

/// That nothing is bound for a request that isn't sealed: a denial could still come.
fn not_sealed(world: &World) -> Option<String> {
    world.managed().find_map(|(found, uid)| {
        let request = world.request(&world.grant(&uid)?.spec.request.uid)?;
        let seal = request.status.as_ref().and_then(|status| status.seal.as_ref());
        let sealed = seal.is_some_and(|seal| GrantUid::new(&seal.uid) == uid);
        (!sealed).then(|| {
            format!(
                "I2: the binding {} stands for a request without its seal",
                called(found)
            )
        })
    })
}

/// That nothing is bound before it was to begin. Where a clock is believed that is a little ahead of the API server's, that is as much too soon.
fn too_soon(world: &World) -> Option<String> {
    world.managed().find_map(|(found, uid)| {
        let start = time::from_kubernetes(world.grant(&uid)?.spec.start_time.as_ref()?)?;
        (world.now + CLOCKS_DIFFER < start).then(|| {
            let (now, start) = (time::written(world.now), time::written(start));
            format!(
                "I2: the binding {} stands at {now}, and begins at {start}",
                called(found)
            )
        })
    })
}

/// That words are only ever added.
fn lost_word(before: &World, after: &World) -> Option<String> {
    let (_, is) = both(&before.requests, &after.requests, |request| {
        request.metadata.uid.as_deref()
    })
    .find(|(was, is)| !is.spec.decisions.starts_with(&was.spec.decisions))?;
    Some(format!(
        "I2: a word that was spoken on the request {} is gone",
        name(is.metadata.name.as_ref())
    ))
}

/// That a seal rests on approvals that were stored before it, and on no request that somebody had denied or revoked before it.
fn sealed_over_a_word(before: &World, after: &World) -> Option<String> {
    let requests = both(&before.requests, &after.requests, uid_of);
    requests
        .filter(|(was, is)| is_newly_sealed(was, is))
        .find_map(|(was, is)| {
            let seal = is.status.as_ref()?.seal.as_ref()?;
            let request = name(is.metadata.name.as_ref());
            // One that was deleted before the seal gives nobody anything: the request ends.
            let grant = after.grant(&GrantUid::new(&seal.uid))?;
            let words = &was.spec.decisions;
            if !grant.spec.decisions.iter().all(|word| words.contains(word)) {
                return Some(format!("I2: the request {request} was sealed before it was approved"));
            }
            let against = words.iter().find(|word| is_against(&grant.spec, word))?;
            Some(format!(
                "I2: the request {request} was sealed although {:?} had said {:?}",
                against.username, against.verdict
            ))
        })
}

fn uid_of(request: &AccessRequest) -> Option<&str> {
    request.metadata.uid.as_deref()
}

fn is_newly_sealed(was: &AccessRequest, is: &AccessRequest) -> bool {
    let has_seal = |request: &AccessRequest| request.status.as_ref().is_some_and(|status| status.seal.is_some());
    has_seal(is) && !has_seal(was)
}

fn newly_sealed<'a>(before: &'a World, after: &'a World) -> impl Iterator<Item = &'a AccessRequest> {
    let requests = both(&before.requests, &after.requests, uid_of);
    requests.filter(|(was, is)| is_newly_sealed(was, is)).map(|(_, is)| is)
}

/// Whether a word is the denial or revocation of somebody whose word it is.
fn is_against(spec: &AccessGrantSpec, word: &Decision) -> bool {
    let Revokers { users, groups } = &spec.revokers;
    let by_requester =
        word.username == spec.requester.username && word.via.iter().any(|via| via == marks::VIA_REQUESTER);
    let by_approver = lets_in(word, marks::VIA_ANY_STAGE, users, groups);
    match word.verdict {
        Verdict::Approve | Verdict::Review => false,
        Verdict::Deny => by_approver && word.username != spec.requester.username,
        Verdict::Revoke => by_requester || by_approver,
    }
}

// ---- I3: each binding is within a policy -------------------------------------------------------------------------------

/// That a request which was just sealed gave its requester no more accesses at once than the policy allows. `world` must have all that there are.
pub fn sealed_beyond_a_limit(world: &World, request: &AccessRequest) -> Option<String> {
    let seal = request.status.as_ref()?.seal.as_ref()?;
    let grant = world.grant(&GrantUid::new(&seal.uid))?;
    let limit = world.policy(&grant.spec)?.spec.limits.as_ref()?.active_per_requester?;
    // The one from which it takes over is about to end.
    let extends = grant.spec.extends.as_ref().map(|extended| &extended.uid);
    let is_theirs = |other: &&AccessGrant| {
        (extends.is_none() || extends != other.metadata.uid.as_ref())
            && other.spec.policy.uid == grant.spec.policy.uid
            && other.spec.requester.username == grant.spec.requester.username
            && !grant::has_ended(other)
    };
    let is_sealed = |grant: &&AccessGrant| {
        let request = world.request(&grant.spec.request.uid);
        request.is_some_and(|request| grant::is_sealed(grant, request))
    };
    let active = world.grants.iter().filter(is_theirs).filter(is_sealed).count();
    (i64::try_from(active).unwrap_or(i64::MAX) > i64::from(limit)).then(|| {
        let who = &grant.spec.requester.username;
        format!("I3: {who:?} has {active} accesses at once, and the policy allows {limit}")
    })
}

/// That grants are within the policy under which they were granted, and bindings within their grant. A binding that somebody else changed is found too.
fn beyond_the_policy(world: &World) -> Option<String> {
    let grant = world.grants.iter().find_map(|grant| {
        let policy = world.policy(&grant.spec)?;
        let what = outside(policy, &grant.spec)?;
        Some(format!(
            "I3: the grant {} is beyond its policy: {what}",
            name(grant.metadata.name.as_ref())
        ))
    });
    grant.or_else(|| {
        world.managed().find_map(|(found, uid)| {
            let grant = world.grant(&uid)?;
            let mut places = grant.spec.places().into_iter();
            let there = places.find(|place| place.namespace() == found.metadata.namespace.as_deref());
            let is_as_granted = there.is_some_and(|place| {
                let desired = binding::desired(grant, &uid, &place);
                desired.role_ref == found.role_ref && desired.subjects == found.subjects
            });
            (!is_as_granted).then(|| format!("I3: the binding {} is not what was granted", called(found)))
        })
    })
}

/// That no access is bound that lasts longer with those that it extends than the policy allows.
fn extended_too_long(world: &World) -> Option<String> {
    world.managed().find_map(|(found, uid)| {
        let grant = world.grant(&uid)?;
        let since = time::from_kubernetes(&grant.spec.extends.as_ref()?.since);
        let longest = world
            .policy(&grant.spec)?
            .spec
            .max_total_duration
            .as_ref()?
            .parse()
            .ok();
        let longest = longest.and_then(|longest| Duration::from_std(longest).ok());
        let last = since
            .zip(longest)
            .and_then(|(since, longest)| since.checked_add_signed(longest));
        last.is_none_or(|last| grant::deadline(grant) > last).then(|| {
            format!(
                "I3: the binding {} stands until {}, longer than its policy allows with all extensions",
                called(found),
                time::written(grant::deadline(grant))
            )
        })
    })
}

fn outside(policy: &AccessPolicy, granted: &AccessGrantSpec) -> Option<&'static str> {
    let spec = &policy.spec;
    let names = spec.namespaces.as_ref();
    // Which namespaces a selector found is not stored.
    let is_there = |namespace| {
        names.is_some_and(|namespaces| namespaces.selector.is_some() || namespaces.names.contains(namespace))
    };
    let longer = match (granted.duration.parse(), spec.max_duration.parse()) {
        (Ok(granted), Ok(longest)) => granted > longest,
        (Err(_), _) | (_, Err(_)) => true,
    };
    if !identity::includes(&spec.requesters, &granted.requester) {
        Some("who asked")
    } else if !spec.roles.contains(&granted.role.reference()) {
        Some("the role")
    } else if !granted.targets.iter().all(|target| is_there(&target.namespace)) {
        Some("the namespace")
    } else if granted.cluster_wide && !spec.cluster_wide {
        Some("the whole cluster")
    } else if longer {
        Some("the duration")
    } else {
        None
    }
}

// ---- I4: nothing unmanaged is changed or deleted -----------------------------------------------------------------------

/// What somebody else's is and was changed or deleted between two worlds, when all that happened between them was Curfew's doing.
pub fn touched(before: &World, after: &World) -> Option<String> {
    let recorded = before.grants.iter().flat_map(|grant| &grant.status);
    let recorded: Vec<_> = recorded.flat_map(|status| &status.bindings).collect();
    let is_ours = |found: &RoleBinding| {
        let by_record = |uid: &String| recorded.iter().any(|binding| binding.uid == *uid);
        binding::marked(found).is_some() || found.metadata.uid.as_ref().is_some_and(by_record)
    };
    let found = before
        .bindings
        .iter()
        .find(|found| !is_ours(found) && !after.bindings.contains(found))?;
    Some(format!(
        "I4: the binding {} is somebody else's and was touched",
        called(found)
    ))
}

// ---- I5: everything granted ends ---------------------------------------------------------------------------------------

/// What should be over in a world in which nothing is left to do: bindings that are due or that no grant explains, grants and requests that don't say so.
pub fn unfinished(world: &World) -> Vec<String> {
    let orphan = world.managed().find_map(|(found, uid)| {
        let explained = world.grant(&uid).is_some_and(|grant| !grant::has_ended(grant));
        (!explained).then(|| format!("I5: no grant explains the binding {}, and it stays", called(found)))
    });
    let grant = world.grants.iter().find_map(|grant| {
        let request = world.request(&grant.spec.request.uid);
        let over = grant::deadline(grant) <= world.now
            || request.is_none_or(|request| is_over(request, grant))
            || world.grants.iter().any(|other| has_taken_over(other, grant));
        (over && !grant::has_ended(grant)).then(|| {
            format!(
                "I5: the grant {} is over and doesn't end",
                name(grant.metadata.name.as_ref())
            )
        })
    });
    let request = world.requests.iter().find_map(|request| {
        let seal = request.status.as_ref()?.seal.as_ref()?;
        let ended = world.grant(&GrantUid::new(&seal.uid)).is_none_or(grant::has_ended);
        (ended && !has_ended(request)).then(|| {
            let request = name(request.metadata.name.as_ref());
            format!("I5: the grant of the request {request} has ended, and the request doesn't say so")
        })
    });
    let late = outlived(world, Duration::zero());
    [late, orphan, grant, request].into_iter().flatten().collect()
}

/// Whether another grant extends this one and is bound: then both give the same.
fn has_taken_over(other: &AccessGrant, grant: &AccessGrant) -> bool {
    let extends = other.spec.extends.as_ref();
    let phase = other.status.as_ref().and_then(|status| status.phase);
    extends.is_some_and(|extends| Some(&extends.uid) == grant.metadata.uid.as_ref())
        && phase == Some(GrantPhase::Active)
}

/// Whether a request calls for the end of its grant: by its own end, or by a revocation that counts.
fn is_over(request: &AccessRequest, grant: &AccessGrant) -> bool {
    let mut words = request.spec.decisions.iter();
    has_ended(request) || words.any(|word| word.verdict == Verdict::Revoke && is_against(&grant.spec, word))
}

// ---- I6: status tells the truth ----------------------------------------------------------------------------------------

/// That one request leads to one grant, and one grant to one binding in a namespace.
fn twice(world: &World) -> Option<String> {
    let requests = world.grants.iter().map(|grant| &grant.spec.request.uid);
    let bindings = world
        .managed()
        .map(|(found, uid)| (found.metadata.namespace.as_ref(), uid));
    if let Some(request) = repeated(requests) {
        return Some(format!("I6: there are two grants for the request with uid {request}"));
    }
    repeated(bindings).map(|(_, grant)| format!("I6: there are two bindings in one place for the grant {grant}"))
}

/// That the deadline which a status shows is the one that holds.
fn false_deadline(world: &World) -> Option<String> {
    world.grants.iter().find_map(|grant| {
        let shown = [
            grant.status.as_ref().and_then(|status| status.expires_at.as_ref()),
            world
                .request(&grant.spec.request.uid)
                .and_then(|request| request.status.as_ref()?.expires_at.as_ref()),
        ];
        let deadline = time::to_kubernetes(grant::deadline(grant));
        let lie = shown.into_iter().flatten().find(|shown| **shown != deadline)?;
        Some(format!(
            "I6: a status says that the grant {} ends at {}, and it ends at {}",
            name(grant.metadata.name.as_ref()),
            lie.0,
            deadline.0
        ))
    })
}

/// That an access which is said to have been reviewed was, by somebody else who is to. Of a request that is gone the record in the grant is all there is.
fn untrue_review(world: &World) -> Option<String> {
    world.grants.iter().find_map(|grant| {
        let review = grant.status.as_ref()?.review.as_ref()?;
        let is_a_reviewer = grant.spec.review.as_ref().is_some_and(|wanted| {
            let Reviewers { users, groups } = &wanted.reviewers;
            lets_in(review, marks::VIA_REVIEW, users, groups)
        });
        let request = world.request(&grant.spec.request.uid);
        let was_said = request.is_none_or(|request| request.spec.decisions.contains(review));
        let is_true = is_a_reviewer
            && was_said
            && review.verdict == Verdict::Review
            && review.username != grant.spec.requester.username;
        (!is_true).then(|| {
            let (grant, who) = (name(grant.metadata.name.as_ref()), &review.username);
            format!("I6: the grant {grant} says that {who:?} has reviewed it")
        })
    })
}

/// That nothing says "ended" while what it gave still stands.
fn untrue_end(before: &World, after: &World) -> Option<String> {
    let of_a_grant = after.grants.iter().find_map(|is| {
        let was = before.grants.iter().find(|was| was.metadata.uid == is.metadata.uid);
        let by_grant = grant::has_ended(is) && !was.is_some_and(grant::has_ended);
        let request = after.request(&is.spec.request.uid);
        let by_request = request.is_some_and(|request| has_just_ended(before, request));
        let found = after.binding_of(is).filter(|_| by_grant || by_request)?;
        Some((if by_grant { "grant" } else { "request" }, found))
    });
    let (who, found) = of_a_grant.or_else(|| Some(("request", left_behind(before, after)?)))?;
    Some(format!(
        "I6: the {who} says that it has ended while the binding {} stands",
        called(found)
    ))
}

/// A binding of a request that just said that it has ended, by its seal and the marks: when the grant is gone, that is all that is left to know it by.
fn left_behind<'a>(before: &World, after: &'a World) -> Option<&'a RoleBinding> {
    let mut ended = after.requests.iter().filter(|is| has_just_ended(before, is));
    ended.find_map(|request| {
        let sealed = GrantUid::new(&request.status.as_ref()?.seal.as_ref()?.uid);
        after
            .managed()
            .find_map(|(found, uid)| (uid == sealed).then_some(found))
    })
}

fn has_just_ended(before: &World, is: &AccessRequest) -> bool {
    let was = uid_of(is).and_then(|uid| before.request(uid));
    has_ended(is) && !was.is_some_and(has_ended)
}

/// That no seal and no end is ever taken back.
fn taken_back(before: &World, after: &World) -> Option<String> {
    let grant = both(&before.grants, &after.grants, |grant| grant.metadata.uid.as_deref())
        .find(|(was, is)| grant::has_ended(was) && !grant::has_ended(is))
        .map(|(_, is)| format!("I6: the grant {} had ended", name(is.metadata.name.as_ref())));
    grant.or_else(|| {
        let seal = |request: &AccessRequest| request.status.as_ref().and_then(|status| status.seal.clone());
        both(&before.requests, &after.requests, |request| {
            request.metadata.uid.as_deref()
        })
        .find(|(was, is)| (seal(was).is_some() && seal(was) != seal(is)) || (has_ended(was) && !has_ended(is)))
        .map(|(_, is)| {
            format!(
                "I6: the request {} had been sealed or had ended",
                name(is.metadata.name.as_ref())
            )
        })
    })
}

// ---- in all of them ----------------------------------------------------------------------------------------------------

fn has_ended(request: &AccessRequest) -> bool {
    let phase = request.status.as_ref().and_then(|status| status.phase);
    phase.is_some_and(RequestPhase::is_final)
}

/// Each object that is in both, as it was and as it is.
fn both<'a, K>(
    before: &'a [K],
    after: &'a [K],
    uid: impl Fn(&K) -> Option<&str> + Copy + 'a,
) -> impl Iterator<Item = (&'a K, &'a K)> {
    before
        .iter()
        .filter_map(move |was| Some((was, after.iter().find(|is| uid(is).is_some() && uid(is) == uid(was))?)))
}

fn repeated<T: PartialEq>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = vec![];
    for one in all {
        if seen.contains(&one) {
            return Some(one);
        }
        seen.push(one);
    }
    None
}

fn called(found: &RoleBinding) -> String {
    let namespace = found.metadata.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{}", found.metadata.name.as_deref().unwrap_or_default())
}

fn name(name: Option<&String>) -> &str {
    name.map(String::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
