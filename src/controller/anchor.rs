//! The anchor controller: takes anchors away on which nothing hangs any more, and says when kube-controller-manager doesn't.
//!
//! Anchors are made where they are needed, by the request controller. Only the replica that grants takes them away: it knows which are about to be used.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use super::Context;
use super::rounds::Again;
use crate::cluster::call::CallError;
use crate::core::anchor::{GRACE, Until, Upkeep, did_its_part, upkeep};

/// How soon one that didn't go is looked at again.
const AGAIN: Duration = Duration::from_secs(10);

/// Looks at one anchor's Job.
///
/// # Errors
/// When a call failed; the Job is then looked at again.
pub async fn reconcile(job: Arc<Job>, context: Arc<Context>) -> Result<Again, CallError> {
    let (name, anchors, now) = (job.name_any(), &context.known.anchors, context.now());
    let Some(until) = Until::named(&name) else {
        return Ok(Again::OnChange);
    };
    // Before all grants were seen nothing is known of what hangs on it.
    context.known.all_grants.all().await;
    let hangs = context.known.hangs_on(&name);
    // Whatever this process sees for the first time may have been used a moment ago, by the one before it.
    if hangs || (anchors.last_used(until).is_none() && !context.uninstalling) {
        anchors.in_use(until, now);
    } else if context.uninstalling {
        anchors.remove(&job, until).await?;
        return Ok(Again::After(AGAIN));
    }
    let (used, overdue) = (anchors.last_used(until), anchors.overdue_since(until));
    match upkeep(&job, until, hangs, used, overdue, now) {
        Upkeep::Keep { until } => return Ok(context.at(until)),
        // Only the replica that grants knows what is about to hang on it; when another begins to grant, it looks at all.
        Upkeep::Idle | Upkeep::Unfit if !context.leadership.leads() => {
            return Ok(context.at(until.moment() + GRACE));
        }
        Upkeep::Unfit => tracing::debug!(anchor = name, "nothing can hang on this anchor; it is deleted"),
        Upkeep::Idle => tracing::debug!(anchor = name, "nothing hangs on this anchor any more; it is deleted"),
        Upkeep::Overdue => {
            anchors.is_overdue(until, now);
            return Ok(context.at(now + GRACE));
        }
        // Who can't tell trusts no anchor.
        Upkeep::Stale if anchors.read(&name).await.is_ok_and(|seen| did_its_part(&seen)) => {
            tracing::warn!(
                anchor = name,
                "this anchor did its part, and something holds its Job; it is deleted"
            );
        }
        Upkeep::Stale => {
            tracing::error!(
                anchor = name,
                "kube-controller-manager didn't take this anchor away in time"
            );
            context.metrics.trouble("anchor", "stale");
            anchors.distrust(until, now);
        }
    }
    anchors.remove(&job, until).await?;
    Ok(Again::After(AGAIN))
}
