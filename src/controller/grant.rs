//! The grant controller: binds what is sealed, holds it, and ends it on time.
//!
//! Every replica ends; only the one that grants binds. What ends comes first, and waits for nothing that can fail but the delete itself.

use std::cmp::max;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join_all, ready, select, try_join_all};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::Context;
use super::binding::{Bound, bind, record, refusal};
use super::keep;
use super::rounds::Again;
use crate::api::{
    AccessGrant, AccessGrantStatus, AccessPolicy, AccessRequest, BoundBinding, EndReason, OnChange, Place,
    RequestReference, time,
};
use crate::cluster::call::{CallError, call, find, find_named};
use crate::cluster::revoke::{Revoked, revoke};
use crate::core::anchor::{Seen, Until};
use crate::core::binding::{is_of_grant, marked, name as binding_name};
use crate::core::grant::{
    GrantUid, Observed, Plan, TargetSeen, Why, active, by_request, created, deadline, decide, due, ended, ending,
    has_ended, never_sealed_yet_bound, retry_after, to_end, uninstalled,
};
use crate::core::review;
use crate::observe::metrics::Stuck;

/// What was there so long ago the watches have shown: one that tells nothing is taken for dead before that, and opened again.
const SHOWN_BY: chrono::Duration = chrono::Duration::seconds(90);

/// What some places couldn't be bound in for so long is ended in the others: access is given in all that were approved, or in none.
const GIVEN_UP: chrono::Duration = chrono::Duration::seconds(60);

/// Looks at one grant. Whatever is under way when the deadline comes is dropped for the end.
///
/// # Errors
/// When a call failed; the grant is then looked at again.
pub async fn reconcile(grant: Arc<AccessGrant>, context: Arc<Context>) -> Result<Again, CallError> {
    let grant = context.known.written_grants.of(grant);
    context
        .metrics
        .unreviewed(&grant.name_any(), review::outstanding(&grant));
    if has_ended(&grant) {
        // Another replica may have ended what this one couldn't.
        context.metrics.overdue(Stuck::grant(&grant), 0);
        if let Some(until) = doubtful(&grant) {
            context.known.anchors.doubt(until);
        }
        let again = tell_of_review(&grant, &context).await?;
        let grant = context.known.written_grants.of(grant);
        return Ok(again.or(keep::grant(&grant, &context)));
    }
    if let Some(why) = due(&grant, context.now()) {
        return end(&grant, why, &context).await;
    }
    if context.uninstalling {
        let grant = condemned(grant, &context).await;
        if has_ended(&grant) {
            // It had, and that is known only now.
            return Ok(Again::After(Duration::ZERO));
        }
        return end(&grant, uninstalled(), &context).await;
    }
    let remaining = (deadline(&grant) - context.now()).to_std().unwrap_or(Duration::ZERO);
    match tokio::time::timeout(remaining, hold(&grant, &context)).await {
        Ok(done) => done,
        Err(_) => Ok(Again::After(Duration::ZERO)),
    }
}

/// The anchor of a grant whose binding went before its time.
fn doubtful(grant: &AccessGrant) -> Option<Until> {
    let end = grant.status.as_ref()?.end.as_ref()?;
    let anchor = grant
        .spec
        .anchor
        .as_ref()
        .filter(|_| end.reason == EndReason::Drifted)?;
    Until::named(&anchor.name)
}

/// Says first why the grant ends: no other replica knows, and to them a binding that is gone would be a drift. Whatever comes of this, it ends.
async fn condemned(grant: Arc<AccessGrant>, context: &Context) -> Arc<AccessGrant> {
    if let Err(error) = publish(context, &grant, to_end(&grant, uninstalled())).await {
        tracing::debug!(%error, "why it ends could not be said before");
    }
    context.known.written_grants.of(grant)
}

/// Does what is to be done with a grant before its deadline.
async fn hold(grant: &AccessGrant, context: &Context) -> Result<Again, CallError> {
    // What is known is enough to rest. It is not enough to bind or to end anything.
    let known = context.known.about_grant(grant);
    let mut bound = known.targets.iter().filter_map(|target| target.binding.as_ref());
    let is_bound_somewhere = bound.clone().next().is_some();
    let is_ours_somewhere = bound.any(|binding| marked(binding) == GrantUid::of(grant));
    let mut plan = decide(&known);
    if let Plan::End(_) = plan {
        plan = decide(&observe(grant, known, context).await?);
        // One of the two is older than the other, and if it is what was read just now, no watch tells.
        if matches!(plan, Plan::Hold | Plan::AwaitSeal) {
            return Ok(context.at(deadline(grant).min(context.now() + super::RETRY)));
        }
    }
    match plan {
        Plan::AwaitSeal if is_ours_somewhere => bound_unsealed(grant, context).await,
        Plan::AwaitSeal => Ok(context.at(deadline(grant))),
        Plan::Hold => Ok(tell_of_review(grant, context).await?.or(context.at(deadline(grant)))),
        Plan::Bind(_) if !context.may_bind() && is_bound_somewhere => all_or_none(grant, context).await,
        // Sealed, but not to be bound now, or not by this replica; when that changes all grants are looked at.
        Plan::Bind(_) if !context.may_bind() => Ok(context.at(deadline(grant))),
        Plan::Bind(_) => bind_as_it_is(grant, context).await,
        Plan::End(why) => end(grant, why, context).await,
    }
}

/// What was bound in one place and not in another, and can't be now, or not by this replica, ends when it had its time. What is bound everywhere is only not
/// recorded yet.
async fn all_or_none(grant: &AccessGrant, context: &Context) -> Result<Again, CallError> {
    let until = created(grant) + GIVEN_UP;
    if context.now() < until {
        return Ok(context.at(until));
    }
    if !is_as_known(grant, context).await? {
        return Ok(Again::After(super::RETRY));
    }
    let places = grant.spec.places();
    let found = try_join_all(places.iter().map(|place| find_binding(grant, place, context))).await?;
    let found: Vec<_> = found.into_iter().flatten().collect();
    if found.is_empty() || found.len() == places.len() {
        return Ok(context.at(deadline(grant)));
    }
    // Another replica may be making the rest: it waited for longer, and began just now.
    let until = found
        .iter()
        .map(|binding| time::created(&binding.metadata) + GIVEN_UP)
        .fold(until, max);
    if context.now() < until {
        return Ok(context.at(until));
    }
    let why = Why {
        reason: EndReason::BindFailed,
        message: format!("it could not be bound everywhere within {} s", GIVEN_UP.num_seconds()),
    };
    end(grant, why, context).await
}

/// What the request doesn't bear the seal of was never bound by the operator: it seals first. Who had its token may have left that.
async fn bound_unsealed(grant: &AccessGrant, context: &Context) -> Result<Again, CallError> {
    let request = request(grant, context).await?;
    match by_request(grant, request.as_ref()) {
        // A seal is never taken off again, so what a watch had shown before that read was bound without.
        Some(Plan::AwaitSeal) => end(grant, never_sealed_yet_bound(), context).await,
        Some(Plan::End(why)) if request.is_some() => end(grant, why, context).await,
        // What was read is newer than what is known, and a watch will tell.
        Some(Plan::End(_) | Plan::Bind(_) | Plan::Hold) | None => Ok(Again::After(super::RETRY)),
    }
}

/// Binds what is sealed, once the grant was read again: another replica may have bound or ended it, or this one, and the answer was lost.
async fn bind_as_it_is(grant: &AccessGrant, context: &Context) -> Result<Again, CallError> {
    if !is_as_known(grant, context).await? {
        return Ok(Again::After(super::RETRY));
    }
    // That took its time: a guard may have gone meanwhile, or somebody have revoked it.
    match decide(&context.known.about_grant(grant)) {
        Plan::Bind(places) if context.may_bind() => bind_all(grant, &places, context).await,
        // What is known is older than what was read, and calls for it again until a watch has told.
        Plan::Bind(_) | Plan::AwaitSeal | Plan::Hold | Plan::End(_) => Ok(Again::After(super::RETRY)),
    }
}

/// Whether the grant, read afresh, is what it is known as. If it is another version, that is known from here on.
async fn is_as_known(grant: &AccessGrant, context: &Context) -> Result<bool, CallError> {
    let grants = Api::<AccessGrant>::all(context.client.clone());
    let known = &context.known.written_grants;
    let found = known.read_again("reading the AccessGrant", &grants, grant).await?;
    Ok(found.is_some_and(|found| found.resource_version() == grant.resource_version()))
}

/// Says whether an access that nobody approved was reviewed, before its end and after it. What the watches have shown is enough: nothing rests on it.
async fn tell_of_review(grant: &AccessGrant, context: &Context) -> Result<Again, CallError> {
    let Some(status) = reviewed(grant, context).filter(|_| context.leadership.leads()) else {
        return Ok(Again::OnChange);
    };
    let wake = review::wake(&status, grant, context.now());
    // It waits for no turn: meanwhile nobody would look whether the access is to end.
    publish(context, grant, status).await?;
    Ok(wake.map_or(Again::OnChange, |overdue| context.at(overdue)))
}

/// The grant's status with what is to be said of its review, if there is anything.
fn reviewed(grant: &AccessGrant, context: &Context) -> Option<AccessGrantStatus> {
    let RequestReference {
        namespace,
        name,
        uid: _,
    } = &grant.spec.request;
    let request = context.known.request(namespace, name);
    review::status(grant, request.as_deref(), context.now())
}

/// Reads what the decision needs, side by side. Where the API server doesn't let it be read, what is `known` counts, once all was shown: a right that was
/// taken away must hold up no end, and end nothing either.
async fn observe(grant: &AccessGrant, known: Observed, context: &Context) -> Result<Observed, CallError> {
    let role = grant.spec.role.reference();
    let places = grant.spec.places().into_iter().zip(known.targets.clone());
    let (known_request, known_successor) = (known.request.clone(), known.successor.clone());
    let others = async {
        futures::join!(
            context.reads.role(&role, grant.spec.role_namespace()),
            policy(grant, context),
            anchor(grant, context),
            successor(known_successor.as_ref(), context),
            try_join_all(places.map(|(place, known)| look_at(grant, place, known, context)))
        )
    };
    let request = async { or_known(grant, request(grant, context).await, known_request, context) };
    let (request, others) = (pin!(request), pin!(others));
    let (request, others) = match select(request, others).await {
        Either::Left((request, others)) => (request?, Either::Left(others)),
        Either::Right((others, request)) => (request.await?, Either::Right(ready(others))),
    };
    if let Some(Plan::End(_)) = by_request(grant, request.as_ref()) {
        // Then nothing else matters, and what can't be read of it, or takes long, holds up nothing.
        return Ok(Observed { request, ..known });
    }
    let (role, policy, anchor, successor, targets) = others.await;
    let whole = (known.anchor.job.is_some() && known.anchor.service.is_some()).then(|| known.anchor.clone());
    Ok(Observed {
        grant: grant.clone(),
        request,
        role: or_known(grant, role, known.role, context)?,
        policy: or_known(grant, policy, known.policy, context)?,
        targets: targets?,
        anchor: or_known(grant, anchor, whole, context)?.unwrap_or(known.anchor),
        successor: or_known(grant, successor, known.successor, context)?,
    })
}

/// What can't be read is as it is known. That it isn't known says nothing about what a young grant rests on: it may be there, and not have been shown yet.
fn or_known<T>(
    grant: &AccessGrant,
    read: Result<Option<T>, CallError>,
    known: Option<T>,
    context: &Context,
) -> Result<Option<T>, CallError> {
    let is_young = || context.now() - created(grant) < SHOWN_BY;
    match read {
        Err(error) if error.is_final() && context.known.is_whole() && !(known.is_none() && is_young()) => {
            tracing::warn!(%error, "what is known counts, for it can't be read");
            Ok(known)
        }
        read => read,
    }
}

/// The object that has the request's name.
async fn request(grant: &AccessGrant, context: &Context) -> Result<Option<AccessRequest>, CallError> {
    let RequestReference {
        namespace,
        name,
        uid: _,
    } = &grant.spec.request;
    let requests = Api::<AccessRequest>::namespaced(context.client.clone(), namespace);
    find_named("reading the AccessRequest", &requests, name).await
}

/// The policy, where its change would end the grant.
async fn policy(grant: &AccessGrant, context: &Context) -> Result<Option<AccessPolicy>, CallError> {
    match grant.spec.policy.on_change {
        OnChange::Keep => Ok(None),
        OnChange::Revoke => context.reads.policy(&grant.spec.policy.name).await,
    }
}

/// The grant that was seen to have taken over.
async fn successor(seen: Option<&AccessGrant>, context: &Context) -> Result<Option<AccessGrant>, CallError> {
    match seen {
        Some(seen) => {
            let grants = Api::<AccessGrant>::all(context.client.clone());
            find("reading the AccessGrant that extends it", grants.get(&seen.name_any())).await
        }
        None => Ok(None),
    }
}

/// The anchor, where there is one.
async fn anchor(grant: &AccessGrant, context: &Context) -> Result<Option<Seen>, CallError> {
    match &grant.spec.anchor {
        Some(anchor) => context.known.anchors.read(&anchor.name).await.map(Some),
        None => Ok(None),
    }
}

async fn look_at(
    grant: &AccessGrant,
    place: Place,
    known: TargetSeen,
    context: &Context,
) -> Result<TargetSeen, CallError> {
    // Before a grant is bound there is no binding to look at; should there be one all the same, making it shows that.
    let binding = async {
        if grant.status.is_some() {
            find_binding(grant, &place, context).await
        } else {
            Ok(None)
        }
    };
    let namespace = async {
        match place.namespace() {
            Some(namespace) => context.reads.namespace(namespace).await,
            None => Ok(None),
        }
    };
    let (namespace, binding) = futures::join!(namespace, binding);
    Ok(TargetSeen {
        namespace: or_known(grant, namespace, known.namespace, context)?,
        binding: or_known(grant, binding, known.binding, context)?,
    })
}

async fn find_binding(grant: &AccessGrant, place: &Place, context: &Context) -> Result<Option<RoleBinding>, CallError> {
    match GrantUid::of(grant) {
        Some(uid) => context.bindings.find(place.namespace(), &binding_name(&uid)).await,
        None => Ok(None),
    }
}

/// Makes all bindings or none, then says which. It doesn't wait long to say so: meanwhile nobody looks whether the access is to end.
async fn bind_all(grant: &AccessGrant, places: &[Place], context: &Context) -> Result<Again, CallError> {
    let Some(uid) = GrantUid::of(grant) else {
        return Ok(Again::OnChange);
    };
    let first = context.precedence.first();
    let (mut made, mut failure) = (vec![], None);
    let attempts = join_all(places.iter().map(|place| bind(context, grant, &uid, place))).await;
    for (place, attempt) in places.iter().zip(attempts) {
        match attempt {
            Ok(Bound::Made(binding)) => made.push(binding),
            Ok(Bound::Failed { left, message }) => {
                made.extend(left);
                failure.get_or_insert(message);
            }
            Err(error) if error.is_not_leading() || context.now() - created(grant) < GIVEN_UP => return Err(error),
            Err(error) => {
                failure.get_or_insert(refusal(grant, place, &error));
            }
        }
    }
    drop(first);
    let now = context.now();
    let status = active(grant, made, now);
    match failure {
        Some(message) => {
            end(
                &AccessGrant {
                    status: Some(status),
                    ..grant.clone()
                },
                Why {
                    reason: EndReason::BindFailed,
                    message,
                },
                context,
            )
            .await
        }
        None => {
            let _turn = context.precedence.telling_soon().await;
            publish(context, grant, status).await?;
            context.metrics.granted(now - created(grant), grant.spec.break_glass);
            Ok(context.at(deadline(grant)))
        }
    }
}

/// Deletes every binding of the grant; only when all are gone it says so.
async fn end(grant: &AccessGrant, why: Why, context: &Context) -> Result<Again, CallError> {
    let first = context.precedence.first();
    let places = grant.spec.places();
    let attempts = join_all(places.iter().map(|place| end_in(grant, place, context))).await;
    drop(first);
    context.overdue.tried(grant.uid());
    let now = context.now();
    let lag = now - deadline(grant);
    let stuck: Vec<String> = attempts
        .into_iter()
        .filter_map(|attempt| match attempt {
            Ok(Revoked::Gone) => None,
            Ok(Revoked::Replaced) => Some("it was made again meanwhile".to_owned()),
            Ok(Revoked::Lingers) => Some("somebody's finalizer holds it, and is being taken off".to_owned()),
            Err(error) => {
                context.metrics.trouble("grant", error.kind());
                Some(error.to_string())
            }
        })
        .collect();
    context.tells_overdue(Stuck::grant(grant), stuck.len());
    if stuck.is_empty() {
        let is_late = why.reason == EndReason::Expired;
        let reason = why.reason;
        // Not for long: others may wait for this look to be over.
        let _turn = context.precedence.telling_soon().await;
        publish(context, grant, ended(grant, why, now)).await?;
        context
            .metrics
            .ended(reason, is_late.then_some(lag.max(chrono::Duration::zero())));
        return Ok(Again::OnChange);
    }
    tracing::error!(
        grant = grant.name_any(),
        stuck = stuck.join("; "),
        "access is to end and its binding is still there"
    );
    let status = ending(grant, why, &stuck.join("; "), now);
    let stuck = AccessGrant {
        status: Some(status.clone()),
        ..grant.clone()
    };
    let status = reviewed(&stuck, context).unwrap_or(status);
    if let Err(error) = publish(context, grant, status).await {
        tracing::warn!(%error, "the AccessGrant's status could not be written");
    }
    Ok(Again::After(retry_after(grant, now)))
}

/// Deletes the grant's binding in one place: the one that was recorded, and what bears the grant's marks.
async fn end_in(grant: &AccessGrant, place: &Place, context: &Context) -> Result<Revoked, CallError> {
    let mut recorded = grant.status.iter().flat_map(|status| &status.bindings);
    let recorded = recorded.find(|binding| binding.namespace.as_deref() == place.namespace());
    if let (Some(recorded), Some(uid)) = (recorded, GrantUid::of(grant)) {
        // Its name is never another, whatever somebody has written in the record.
        let ours = BoundBinding {
            name: binding_name(&uid),
            ..recorded.clone()
        };
        let revoked = revoke(&context.client, &ours).await?;
        // A replica that hasn't seen the end yet may have made it again, which is as much to be ended.
        if revoked != Revoked::Replaced {
            return Ok(revoked);
        }
    }
    let found = or_known(
        grant,
        find_binding(grant, place, context).await,
        context.known.binding(grant, place),
        context,
    )?;
    match found {
        Some(found) if GrantUid::of(grant).is_some_and(|uid| is_of_grant(&uid, &[], &found)) => {
            revoke(&context.client, &record(&found)).await
        }
        _ => Ok(Revoked::Gone),
    }
}

/// Writes the status, if it is another, at the version that was decided on.
async fn publish(context: &Context, grant: &AccessGrant, status: AccessGrantStatus) -> Result<(), CallError> {
    if grant.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let grants = Api::<AccessGrant>::all(context.client.clone());
    let next = AccessGrant {
        status: Some(status),
        ..grant.clone()
    };
    match call(
        "writing the AccessGrant's status",
        grants.replace_status(&grant.name_any(), &PostParams::default(), &next),
    )
    .await
    {
        // It was deleted in between; its bindings are the sweep's.
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) if error.is_conflict() => {
            is_as_known(grant, context).await?;
            Err(error)
        }
        written => {
            context.known.written_grants.wrote(written?);
            Ok(())
        }
    }
}
