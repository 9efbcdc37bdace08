//! The request controller: offers, grants and seals; then shows in the request what became of the grant.
//!
//! It never touches a binding.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::try_join_all;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::Context;
use crate::api::{
    AccessGrant, AccessGrantSpec, AccessPolicy, AccessRequest, AccessRequestStatus, DeadMansSwitch, RequestPhase, Seal,
};
use crate::cluster::anchor::{AGAIN, NoAnchor};
use crate::cluster::call::{CallError, call, find};
use crate::core::anchor::Until;
use crate::core::binding;
use crate::core::facts::Brake;
use crate::core::grant::{self, GrantUid};
use crate::core::request::{Observed, Plan, decide, target_names};
use crate::observe::announce::announcements;

/// Looks at one request.
///
/// # Errors
/// When a call failed; the request is then looked at again.
pub async fn reconcile(request: Arc<AccessRequest>, context: Arc<Context>) -> Result<Action, CallError> {
    let request = context.known.written_requests.of(request);
    if phase(&request).is_some_and(RequestPhase::is_final) {
        return Ok(Action::await_change());
    }
    if let Some((status, wake)) = known_is_enough(&request, &context) {
        if request.status.as_ref() != Some(&status) {
            let _turn = context.precedence.telling().await;
            publish(&context, &request, status).await?;
        }
        return Ok(wake.map_or_else(Action::await_change, |moment| context.at(moment)));
    }
    let _first = context.precedence.giving().await;
    let Some(mut observed) = observe(&request, &context).await? else {
        // The watch will tell. Should what was read be older than what the watch has shown, it tells nothing: so not without a second look.
        return Ok(Action::requeue(super::RETRY));
    };
    let mut plan = decide(&observed, context.now());
    if let Plan::Grant { spec, dead_mans_switch } = plan {
        match hung(*spec, dead_mans_switch, &context).await? {
            Hung::Granted(spec) => observed.grant = Some(create(&context, *spec).await?),
            Hung::Braked(brake) => observed.brake = Some(brake),
            // That took its time: what was decided is read and decided again.
            Hung::Tried => return Ok(Action::requeue(Duration::ZERO)),
        }
        plan = decide(&observed, context.now());
    }
    let braked = observed.brake.is_some();
    match plan {
        Plan::Publish { status, wake } => {
            publish(&context, &observed.request, *status).await?;
            // No watch tells that an anchor can be had again.
            let wake = if braked {
                wake.min(Some(context.now() + AGAIN))
            } else {
                wake
            };
            Ok(wake.map_or_else(Action::await_change, |moment| context.at(moment)))
        }
        // A grant is never created twice in one go: whatever asks for it is looked at afresh.
        Plan::Rest | Plan::Grant { .. } => Ok(Action::await_change()),
    }
}

/// What came of looking for an anchor.
enum Hung {
    /// The grant to create: it has an anchor, or may do without.
    Granted(Box<AccessGrantSpec>),
    /// There is none, and there must be one.
    Braked(Brake),
    /// An anchor had to be made first.
    Tried,
}

/// Gives the grant the anchor that it is to hang on.
async fn hung(spec: AccessGrantSpec, wanted: DeadMansSwitch, context: &Context) -> Result<Hung, CallError> {
    let now = context.now();
    let anchors = &context.known.anchors;
    let at_hand = match grant::deadline_if_created(&spec, now).and_then(Until::serving) {
        Some(until) => match anchors.at_hand(until, now) {
            Some(at_hand) => at_hand,
            None => return anchors.arm(until, now).await.map(|()| Hung::Tried),
        },
        None => Err(NoAnchor("no anchor reaches that far".into())),
    };
    Ok(match (at_hand, wanted) {
        (Ok(anchor), _) => Hung::Granted(Box::new(AccessGrantSpec {
            anchor: Some(anchor),
            ..spec
        })),
        (Err(NoAnchor(why)), DeadMansSwitch::BestEffort) => Hung::Granted(Box::new(AccessGrantSpec {
            no_anchor: Some(why),
            ..spec
        })),
        (Err(NoAnchor(why)), DeadMansSwitch::Required) => Hung::Braked(Brake {
            reason: "NoAnchor",
            message: format!(
                "the policy requires a dead man's switch, and none can be had ({why}); ask the cluster's admins"
            ),
        }),
    })
}

/// What is known is enough to see that nothing has changed, and to tell how a granted access is doing. It is not enough to offer, grant or end anything.
fn known_is_enough(request: &AccessRequest, context: &Context) -> Option<(AccessRequestStatus, Option<DateTime<Utc>>)> {
    let Plan::Publish { status, wake } = decide(
        &context
            .known
            .about_request(request, &context.home, context.brakes.pulled()),
        context.now(),
    ) else {
        return None;
    };
    let is_told_already = request.status.as_ref() == Some(&status);
    let only_tells = request.status.as_ref().is_some_and(|before| before.seal.is_some())
        && !status.phase.is_some_and(RequestPhase::is_final);
    (is_told_already || only_tells).then_some((*status, wake))
}

fn phase(request: &AccessRequest) -> Option<RequestPhase> {
    request.status.as_ref().and_then(|status| status.phase)
}

/// Reads what the decision needs, side by side, the request itself included: a denial may have been stored since the watch showed it. `None`: it is gone,
/// or sealed meanwhile, and the watch will tell. A sealed request only follows its grant.
async fn observe(request: &AccessRequest, context: &Context) -> Result<Option<Observed>, CallError> {
    let mut observed = context
        .known
        .about_request(request, &context.home, context.brakes.pulled());
    if let Some(seal) = request.status.as_ref().and_then(|status| status.seal.as_ref()) {
        (observed.grant, observed.left_behind) = look_for_grant(request, seal, context).await?;
        return Ok(Some(observed));
    }
    let requests = Api::<AccessRequest>::namespaced(context.client.clone(), &request.namespace().unwrap_or_default());
    let names = target_names(request);
    let namespace = names.first().map(String::as_str).unwrap_or_default();
    let request_name = request.name_any();
    let (now, policies, role, targets) = futures::try_join!(
        find("reading the AccessRequest", requests.get(&request_name)),
        policies(request, context),
        context.reads.role(&request.spec.role, namespace),
        try_join_all(names.iter().map(|name| context.reads.namespace(name)))
    )?;
    let is_sealed = |request: &AccessRequest| request.status.as_ref().is_some_and(|status| status.seal.is_some());
    let Some(now) = now.filter(|now| now.uid() == request.uid() && !is_sealed(now)) else {
        return Ok(None);
    };
    let targets = targets.into_iter().flatten().collect();
    Ok(Some(Observed {
        request: now,
        policies,
        role,
        targets,
        // Again: a guard may have gone while the rest was read.
        brake: context.brakes.pulled(),
        ..observed
    }))
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

/// The grant of a sealed request, and if it is gone, whether its binding is still there. Afresh: what is known may be older.
async fn look_for_grant(
    request: &AccessRequest,
    seal: &Seal,
    context: &Context,
) -> Result<(Option<AccessGrant>, bool), CallError> {
    let Seal { grant, uid } = seal;
    let found = find(
        "reading the AccessGrant",
        Api::<AccessGrant>::all(context.client.clone()).get(grant),
    )
    .await?;
    if found.is_some() {
        return Ok((found, false));
    }
    let name = binding::name(&GrantUid::new(uid));
    let targets = request.status.iter().flat_map(|status| &status.targets);
    let bindings = targets.map(async |target| {
        find(
            "reading the RoleBinding",
            Api::<RoleBinding>::namespaced(context.client.clone(), &target.namespace).get(&name),
        )
        .await
    });
    let left_behind = try_join_all(bindings)
        .await?
        .iter()
        .flatten()
        .any(|found| binding::marked(found).is_some());
    Ok((None, left_behind))
}

/// Creates the grant. If it is there already, an operator stopped before it could seal: then that one counts, with its own creation time and terms.
async fn create(context: &Context, spec: AccessGrantSpec) -> Result<AccessGrant, CallError> {
    let grants = Api::<AccessGrant>::all(context.client.clone());
    let name = grant::name(&spec.request.uid);
    let grant = AccessGrant {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    };
    match call(
        "creating the AccessGrant",
        grants.create(&PostParams::default(), &grant),
    )
    .await
    {
        Err(error) if error.is_already_exists() => call("reading the AccessGrant", grants.get(&name)).await,
        created => created,
    }
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
    let written = call(
        "writing the AccessRequest's status",
        requests.replace_status(&request.name_any(), &PostParams::default(), &next),
    )
    .await;
    let written = match written {
        // It was deleted in between: there is nobody to tell any more.
        Err(error) if error.is_not_found() => return Ok(()),
        written => context.known.written_requests.wrote(written?),
    };
    if before.seal.is_none()
        && let Some(seal) = written.status.as_ref().and_then(|status| status.seal.as_ref())
    {
        // The watch will say so too, a moment later.
        context.desks.grants.0.look([ObjectRef::new(&seal.grant)]);
    }
    if let Some(phase) = phase(&written).filter(|phase| phase.is_final()) {
        context.metrics.closed(phase);
    }
    context.announcer.announce(
        &written,
        announcements(&before, &written.status.clone().unwrap_or_default()),
    );
    Ok(())
}
