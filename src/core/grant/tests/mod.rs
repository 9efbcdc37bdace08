mod deadline;
mod grounds;
mod holding;
mod properties;
mod request;
mod statuses;

use super::*;
use crate::api::{Requester, Revokers, RoleKind};
use crate::core::fixture::*;

type Change = fn(&mut Observed);

fn decided(mut observed: Observed, change: Change) -> Plan {
    change(&mut observed);
    decide(&observed)
}

fn ends(observed: Observed, change: Change) -> Option<EndReason> {
    match decided(observed, change) {
        Plan::End(Why { reason, message }) => {
            assert!(!message.is_empty());
            Some(reason)
        }
        Plan::AwaitSeal | Plan::Bind(_) | Plan::Hold => None,
    }
}

fn say(observed: &mut Observed, word: crate::api::Decision) {
    observed.request.as_mut().unwrap().spec.decisions.push(word);
}

fn status(observed: &mut Observed) -> &mut crate::api::AccessRequestStatus {
    observed.request.as_mut().unwrap().status.as_mut().unwrap()
}

fn unsealed(mut observed: Observed, phase: Option<RequestPhase>) -> Observed {
    status(&mut observed).seal = None;
    status(&mut observed).phase = phase;
    observed
}

fn found(observed: &mut Observed) -> &mut RoleBinding {
    observed.targets[0].binding.as_mut().unwrap()
}

fn revoking_on_change() -> Observed {
    let mut observed = bound();
    observed.grant.spec.policy.on_change = OnChange::Revoke;
    observed
}

fn keeping_on_role_change() -> Observed {
    let mut observed = bound();
    observed.grant.spec.role.on_change = OnChange::Keep;
    observed
}
