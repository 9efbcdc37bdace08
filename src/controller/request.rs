//! The request controller: offers, grants and seals; then shows in the request what became of the grant.
//!
//! It never touches a binding. Only the replica that grants looks at requests at all.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::{OptionFuture, try_join_all};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::PostParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::give::{Hung, create, hung};
use super::keep;
use super::rounds::Again;
use super::turns::Turn;
use super::{Context, RETRY};
use crate::api::{AccessGrant, AccessPolicy, AccessRequest, AccessRequestStatus, RequestPhase, Seal, condition};
use crate::cluster::anchor::AGAIN;
use crate::cluster::call::{CallError, find_named};
use crate::cluster::precedence::First;
use crate::core::anchor::Until;
use crate::core::binding;
use crate::core::facts::{Brake, NamespaceFacts};
use crate::core::grant::{GrantUid, has_ended};
use crate::core::limits::{Active, Others};
use crate::core::request::targets::{self, Asked, asked};
use crate::core::request::{Observed, Plan, decide, prepares};
use crate::observe::announce::announcements;

/// Looks at one request.
///
/// # Errors
/// When a call failed; the request is then looked at again.
pub async fn reconcile(request: Arc<AccessRequest>, context: Arc<Context>) -> Result<Again, CallError> {
    let request = context.known.written_requests.of(request);
    // When this replica begins to grant, it looks at all of them.
    if !context.leadership.leads() {
        return Ok(Again::OnChange);
    }
    if phase(&request).is_some_and(RequestPhase::is_final) {
        return after_its_end(&request, &context).await;
    }
    prepare(&request, &context).await;
    let wanting = match glance(&request, &context) {
        Glance::Enough { status, wake } => {
            if request.status.as_ref() != Some(&status) {
                let _turn = context.precedence.telling().await;
                publish(&context, &request, *status).await?;
            }
            return Ok(wake.map_or(Again::OnChange, |moment| context.at(moment)));
        }
        Glance::Wanting(wanting) => wanting,
    };
    let Some(decided) = in_turn(&request, wanting, &context).await? else {
        return Ok(Again::After(RETRY));
    };
    let Decided {
        mut observed,
        mut plan,
        turn,
        first,
    } = decided;
    // No watch tells that an anchor can be had again.
    let mut again = None;
    if let Plan::Grant { spec, dead_mans_switch } = plan {
        match hung(*spec, dead_mans_switch, &context) {
            Hung::Granted(spec) => match create(&context, *spec).await? {
                Ok(grant) => {
                    observed.grant = Some(grant);
                    // Who made another at the same moment, as another replica may, sees this one, or this one sees that.
                    if turn.is_some() {
                        observed.others.active = others_active(&request, &context).await?;
                    }
                }
                // What is said may be otherwise each time, and whatever is written is a reason to look again.
                Err(brake) if waits_because_of(&brake, &observed.request) => return Ok(Again::After(RETRY)),
                Err(brake) => {
                    observed.brake = Some(brake);
                    again = Some(context.now() + RETRY);
                }
            },
            Hung::Braked(brake) => {
                observed.brake = Some(brake);
                again = Some(context.now() + AGAIN);
            }
            Hung::Unseen { since } => return Ok(Again::After(since)),
            Hung::Wanting(until) => {
                // What kube-controller-manager takes for it holds up nobody who only tells.
                drop((first, turn));
                context.known.anchors.arm(until, context.now()).await?;
                // What was decided is read and decided again.
                return Ok(Again::After(Duration::ZERO));
            }
        }
        plan = decide(&observed, context.now());
    }
    match plan {
        Plan::Publish { status, wake } => {
            let ends = status.phase.is_some_and(RequestPhase::is_final);
            // What is known called for something, and what was read for nothing: one of the two is older, and if it is what was read, no watch tells.
            if observed.request.status.as_ref() == Some(&status) {
                again = again.or(Some(context.now() + RETRY));
            }
            publish(&context, &observed.request, *status).await?;
            if ends {
                // Nobody is left to be told if the controllers have ended.
                let _ = context
                    .ended
                    .send(observed.request.username().unwrap_or_default().to_owned());
            }
            let wake = [wake, again].into_iter().flatten().min();
            Ok(wake.map_or(Again::OnChange, |moment| context.at(moment)))
        }
        // A grant is never created twice in one go: whatever asks for it is looked at afresh.
        Plan::Rest | Plan::Grant { .. } => Ok(Again::OnChange),
    }
}

/// Whether a request already says that it isn't granted for this reason.
fn waits_because_of(brake: &Brake, request: &AccessRequest) -> bool {
    let status = request.status.as_ref();
    let granted = status.and_then(|status| condition::get(&status.conditions, condition::GRANTED));
    granted.is_some_and(|granted| granted.reason == brake.reason)
}

/// Tells what there is to tell of an ended request, and keeps it for its time. What is known is enough: nothing rests on it any more.
async fn after_its_end(request: &AccessRequest, context: &Context) -> Result<Again, CallError> {
    if let Plan::Publish { status, wake: _ } = decide(&known(request, context), context.now())
        && request.status.as_ref() != Some(&status)
    {
        let _turn = context.precedence.telling().await;
        publish(context, request, *status).await?;
        return Ok(Again::OnChange);
    }
    Ok(keep::request(request, context))
}

/// Makes the anchor of an access that begins within moments, so that it begins on time. Whether that was of use is seen then.
async fn prepare(request: &AccessRequest, context: &Context) {
    if context.uninstalling {
        return;
    }
    let now = context.now();
    let Some((start, until)) = prepares(request, now).and_then(|(start, ends)| Some((start, Until::serving(ends)?)))
    else {
        return;
    };
    if !context.known.anchors.have_room_ahead(until) {
        return;
    }
    let before_it_starts = (start - now).to_std().unwrap_or(Duration::ZERO);
    match tokio::time::timeout(before_it_starts, context.known.anchors.arm(until, now)).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::warn!(%error, "an anchor could not be made ahead"),
    }
}

/// What is to be done, and all that it rests on.
struct Decided<'a> {
    observed: Observed,
    plan: Plan,
    /// Held where its requester may have only so much: what they have is counted and added to by one look after another.
    turn: Option<Turn>,
    first: First<'a>,
}

/// What is to be done by what is read afresh. Whoever waits for a turn holds up nobody else's. `None`: too many of the same requester wait already.
async fn in_turn<'a>(
    request: &AccessRequest,
    wanting: Wanting,
    context: &'a Context,
) -> Result<Option<Decided<'a>>, CallError> {
    let Wanting { is_to_give, is_limited } = wanting;
    let (mut turn, mut needs_turn) = (None, is_limited);
    loop {
        if needs_turn {
            turn = context.turns.of(request.username().unwrap_or_default()).await;
            if turn.is_none() {
                return Ok(None);
            }
        }
        let first = context.precedence.giving().await;
        if let Some((observed, plan)) = decided_afresh(request, is_to_give, turn.is_some(), context).await? {
            return Ok(Some(Decided {
                observed,
                plan,
                turn,
                first,
            }));
        }
        needs_turn = true;
    }
}

/// What is to be done, and all that it rests on. The guards are read after the request's words were written: whichever word was written while a guard was
/// away, this guard is another one by now. `None`: it takes a turn, which this look doesn't have.
async fn decided_afresh(
    request: &AccessRequest,
    is_to_give: bool,
    has_turn: bool,
    context: &Context,
) -> Result<Option<(Observed, Plan)>, CallError> {
    let guards = OptionFuture::from(is_to_give.then(|| context.guards.afresh()));
    let (mut observed, guards) = futures::try_join!(observe(request, context), guards.map(Option::transpose))?;
    let plan = decide(&observed, context.now());
    if !gives(&plan, &observed) {
        return Ok(Some((observed, plan)));
    }
    if is_limited(&plan, &observed) && !has_turn {
        return Ok(None);
    }
    if has_turn {
        observed.others.active = others_active(request, context).await?;
    }
    observed.guards = match guards {
        Some(guards) => guards,
        None => context.guards.afresh().await?,
    };
    observed.brake = context.brakes.pulled();
    let plan = decide(&observed, context.now());
    Ok(Some((observed, plan)))
}

/// The other grants of a request's requester, read afresh.
async fn others_active(request: &AccessRequest, context: &Context) -> Result<Vec<Active>, CallError> {
    let grants = context.reads.grants_of(request.username().unwrap_or_default()).await?;
    Ok(Others::active(request, &grants))
}

/// Whether it leads to access: by a grant, or by the seal of one that was made before.
fn gives(plan: &Plan, observed: &Observed) -> bool {
    match plan {
        Plan::Rest => false,
        Plan::Grant { .. } => true,
        Plan::Publish { status, wake: _ } => {
            let before = observed.request.status.as_ref();
            status.seal.is_some() && before.is_none_or(|before| before.seal.is_none())
        }
    }
}

/// Whether the policy under which access is given says how much of it one requester may have.
fn is_limited(plan: &Plan, observed: &Observed) -> bool {
    let under = match plan {
        Plan::Grant { spec, .. } => Some(&spec.policy.name),
        Plan::Publish { .. } | Plan::Rest => observed.grant.as_ref().map(|grant| &grant.spec.policy.name),
    };
    let is_it = |policy: &AccessPolicy| under.is_none_or(|under| policy.metadata.name.as_ref() == Some(under));
    observed
        .policies
        .iter()
        .any(|policy| is_it(policy) && Others::matter(policy))
}

/// What a look at what is known is good for.
enum Glance {
    /// To see that nothing has changed, or to tell how a granted access is doing.
    Enough {
        status: Box<AccessRequestStatus>,
        wake: Option<DateTime<Utc>>,
    },
    /// Not enough: nothing is offered, granted or ended by it.
    Wanting(Wanting),
}

/// What it looks as if were to be done.
struct Wanting {
    /// Whether access is to be given.
    is_to_give: bool,
    /// Whether its requester may have only so much of it.
    is_limited: bool,
}

fn glance(request: &AccessRequest, context: &Context) -> Glance {
    let known = known(request, context);
    let plan = decide(&known, context.now());
    let is_to_give = gives(&plan, &known);
    let wanting = Wanting {
        is_to_give,
        is_limited: is_to_give && is_limited(&plan, &known),
    };
    let Plan::Publish { status, wake } = plan else {
        return Glance::Wanting(wanting);
    };
    let is_told_already = request.status.as_ref() == Some(&status);
    let only_tells = request.status.as_ref().is_some_and(|before| before.seal.is_some())
        && !status.phase.is_some_and(RequestPhase::is_final);
    if is_told_already || only_tells {
        Glance::Enough { status, wake }
    } else {
        Glance::Wanting(wanting)
    }
}

fn known(request: &AccessRequest, context: &Context) -> Observed {
    let (guards, brake) = (context.guards.standing(), context.brakes.pulled());
    context.known.about_request(request, &context.home, brake, guards)
}

fn phase(request: &AccessRequest) -> Option<RequestPhase> {
    request.status.as_ref().and_then(|status| status.phase)
}

/// Reads what the decision needs, side by side. Not the request: whatever is decided is written at the version that was decided on, and a word that was
/// stored since is a conflict. A sealed request only follows its grant.
async fn observe(request: &AccessRequest, context: &Context) -> Result<Observed, CallError> {
    let mut observed = known(request, context);
    if let Some(seal) = request.status.as_ref().and_then(|status| status.seal.as_ref()) {
        (observed.grant, observed.left_behind) = look_for_grant(request, seal, context).await?;
        return Ok(observed);
    }
    let asked = asked(request);
    let (extended, policies, role, targets) = futures::try_join!(
        extended(request, context),
        policies(request, context),
        context.reads.role(&request.spec.role, asked.first()),
        namespaces(&asked, context)
    )?;
    Ok(Observed {
        extended,
        policies,
        role,
        targets,
        // Again: a guard may have gone while the rest was read.
        guards: context.guards.standing(),
        brake: context.brakes.pulled(),
        ..observed
    })
}

/// The grant that is to be extended.
async fn extended(request: &AccessRequest, context: &Context) -> Result<Option<AccessGrant>, CallError> {
    match &request.spec.extends {
        Some(name) => {
            let grants = Api::<AccessGrant>::all(context.client.clone());
            find_named("reading the AccessGrant to extend", &grants, name).await
        }
        None => Ok(None),
    }
}

/// The namespaces that are asked for, as far as they exist.
async fn namespaces(asked: &Asked, context: &Context) -> Result<Vec<NamespaceFacts>, CallError> {
    match asked {
        Asked::Cluster => Ok(vec![]),
        Asked::Named(names) => {
            let found = try_join_all(names.iter().map(|name| context.reads.namespace(name))).await?;
            Ok(found.into_iter().flatten().collect())
        }
        Asked::OfPolicy(policy) => {
            let (policy, all) = futures::try_join!(context.reads.policy(policy), context.reads.namespaces())?;
            Ok(policy.map_or_else(Vec::new, |policy| targets::of_policy(&policy.spec, &context.home, all)))
        }
    }
}

/// The policy that the request is under, or all: which one fits depends on the others.
async fn policies(request: &AccessRequest, context: &Context) -> Result<Vec<AccessPolicy>, CallError> {
    let chosen = request
        .status
        .as_ref()
        .and_then(|status| status.policy.as_ref())
        .map(|policy| &policy.name);
    match request.spec.policy.as_ref().or(chosen) {
        Some(name) => Ok(context.reads.policy(name).await?.into_iter().collect()),
        None => context.reads.policies().await,
    }
}

/// The grant of a sealed request, and whether a binding is there after its end. Afresh: what is known may be older.
async fn look_for_grant(
    request: &AccessRequest,
    seal: &Seal,
    context: &Context,
) -> Result<(Option<AccessGrant>, bool), CallError> {
    let grants = Api::<AccessGrant>::all(context.client.clone());
    let found = find_named("reading the AccessGrant", &grants, &seal.grant).await?;
    let found = found.filter(|found| found.metadata.uid.as_ref() == Some(&seal.uid));
    let is_left_behind = match &found {
        Some(grant) => has_ended(grant) && is_bound(request, seal, context).await?,
        // One answer alone ends nothing: what the watch shows may be bound already, and before it has shown all, so may what it doesn't.
        None => !context.known.lacks(&seal.grant, &seal.uid) || is_bound(request, seal, context).await?,
    };
    Ok((found, is_left_behind))
}

/// Whether any binding of a sealed request is there. Who ended its grant may not have seen one that a call still under way made at that moment.
async fn is_bound(request: &AccessRequest, seal: &Seal, context: &Context) -> Result<bool, CallError> {
    let name = binding::name(&GrantUid::new(&seal.uid));
    let targets = request.status.iter().flat_map(|status| &status.targets);
    let namespaces = targets.map(|target| Some(target.namespace.as_str()));
    let places: Vec<_> = namespaces
        .chain(targets::is_cluster_wide(&request.spec).then_some(None))
        .collect();
    let is_marked = |found: Option<RoleBinding>| found.is_some_and(|found| binding::marked(&found).is_some());
    // Nothing is read for as long as a watch shows one.
    let mut known = places.iter().map(|place| context.known.binding_named(*place, &name));
    if known.any(is_marked) {
        return Ok(true);
    }
    let read = places
        .iter()
        .map(async |place| match context.bindings.find(*place, &name).await {
            // A right that was taken away keeps no request open: then what is known counts.
            Err(error) if error.is_final() && context.known.is_whole() => Ok(None),
            read => read,
        });
    Ok(try_join_all(read).await?.into_iter().any(is_marked))
}

/// Writes the status, if it is another, at the version that was decided on: whatever was stored in between is a conflict, and is decided on first.
async fn publish(context: &Context, request: &AccessRequest, status: AccessRequestStatus) -> Result<(), CallError> {
    let before = request.status.clone().unwrap_or_default();
    if before == status {
        return Ok(());
    }
    let requests = Api::<AccessRequest>::namespaced(context.client.clone(), &request.namespace().unwrap_or_default());
    let next = AccessRequest {
        status: Some(status),
        ..request.clone()
    };
    let written = context
        .leadership
        .granting(
            "writing the AccessRequest's status",
            requests.replace_status(&request.name_any(), &PostParams::default(), &next),
        )
        .await;
    let written = match written {
        // It was deleted in between: there is nobody to tell any more.
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) if error.is_conflict() => {
            let known = &context.known.written_requests;
            return match known
                .read_again("reading the AccessRequest", &requests, request)
                .await?
            {
                Some(_) => Err(error),
                None => Ok(()),
            };
        }
        written => context.known.written_requests.wrote(written?),
    };
    if before.seal.is_none()
        && let Some(seal) = written.status.as_ref().and_then(|status| status.seal.as_ref())
    {
        // The watch will say so too, a moment later.
        context.desks.grants.0.look([ObjectRef::new(&seal.grant)]);
    }
    if let Some(phase) = phase(&written).filter(|phase| phase.is_final() && before.phase != Some(*phase)) {
        context.metrics.closed(phase);
    }
    context.announcer.announce(
        &written,
        announcements(&before, &written.status.clone().unwrap_or_default()),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::*;

    /// Before either, the guards are read once more.
    #[test]
    fn access_is_given_by_a_grant_and_by_the_seal_of_one_that_was_made_and_by_nothing_else() {
        let given = |observed: &Observed| gives(&decide(observed, at(60)), observed);
        let made = Observed {
            grant: Some(granted(&approved(), 60)),
            ..approved()
        };
        assert!(given(&approved()) && given(&made));
        assert!(!given(&observed()) && !given(&sealed()));
        assert!(!gives(&Plan::Rest, &approved()));
    }
}
