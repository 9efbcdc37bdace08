//! The two steps from a decision to a grant: the anchor that it is to hang on, and its creation. The seal and the binding come after, elsewhere.

use std::time::Duration;

use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use super::Context;
use crate::api::{AccessGrant, AccessGrantSpec, DeadMansSwitch, marks};
use crate::cluster::anchor::NoAnchor;
use crate::cluster::call::{CallError, call};
use crate::core::anchor::Until;
use crate::core::facts::Brake;
use crate::core::grant;
use crate::core::limits::requester_digest;

/// What came of looking for an anchor.
pub enum Hung {
    /// The grant to create: it has an anchor, or may do without.
    Granted(Box<AccessGrantSpec>),
    /// There is none, and there must be one.
    Braked(Brake),
    /// An anchor has to be made first.
    Wanting(Until),
    /// It was made just now, and the watches haven't shown it yet.
    Unseen {
        /// For so long.
        since: Duration,
    },
}

/// Gives the grant the anchor that it is to hang on.
pub fn hung(spec: AccessGrantSpec, wanted: DeadMansSwitch, context: &Context) -> Hung {
    let now = context.now();
    let anchors = &context.known.anchors;
    let at_hand = match grant::deadline_if_created(&spec, now).and_then(Until::serving) {
        Some(until) => match anchors.at_hand(until, now) {
            Some(at_hand) => at_hand,
            None => {
                return anchors
                    .unseen(until)
                    .map_or(Hung::Wanting(until), |since| Hung::Unseen { since });
            }
        },
        None => Err(NoAnchor("no anchor reaches that far".into())),
    };
    match (at_hand, wanted) {
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
    }
}

/// Creates the grant. If it is there already, an operator stopped before it could seal: then that one counts, with its own creation time and terms. Or why the
/// API server goes on refusing it.
pub async fn create(context: &Context, spec: AccessGrantSpec) -> Result<Result<AccessGrant, Brake>, CallError> {
    let grants = Api::<AccessGrant>::all(context.client.clone());
    let name = grant::name(&spec.request.uid);
    let grant = AccessGrant {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some([(marks::REQUESTER.to_owned(), requester_digest(&spec.requester.username))].into()),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    };
    let created = context
        .leadership
        .granting(
            "creating the AccessGrant",
            grants.create(&PostParams::default(), &grant),
        )
        .await;
    let created = match created {
        Err(error) if error.is_already_exists() => call("reading the AccessGrant", grants.get(&name)).await,
        created => created,
    };
    match created {
        Err(error) if !error.may_pass() => {
            tracing::warn!(%error, "an AccessGrant can't be created and is tried again");
            context.metrics.trouble("request", error.kind());
            Ok(Err(refused(&error)))
        }
        created => created.map(Ok),
    }
}

fn refused(error: &CallError) -> Brake {
    Brake {
        reason: "GrantRefused",
        message: format!(
            "the API server refuses the AccessGrant ({}); ask the cluster's admins",
            error.quoted()
        ),
    }
}
