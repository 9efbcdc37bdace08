//! What the API server's audit log says of the story: a witness that knows nothing of Curfew.

use curfew_testbed::AuditEvent;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::failure::Failure;

const RBAC: &str = "rbac.authorization.k8s.io";
const OPERATOR: &str = "system:serviceaccount:curfew-system:curfew";

/// What was counted.
pub struct Account {
    /// By which binding Alice was let in, each time.
    let_in: Vec<String>,
    /// How often she was refused.
    refused: usize,
    /// From the deadline to the moment at which the binding's deletion was answered.
    late: SignedDuration,
}

impl Account {
    /// Reads the log, and insists on what was told: one binding, made and deleted by the operator, and no write to RBAC for the denied request.
    pub fn read(log: &[AuditEvent]) -> Result<Self, Failure> {
        let (first, second) = (asked(log, "look-briefly")?, asked(log, "look-at-pods")?);
        let writes = |from: Timestamp, to: Timestamp| {
            log.iter().filter(move |event| {
                event.group == RBAC
                    && event.code < 300
                    && !["get", "list", "watch"].contains(&event.verb.as_str())
                    && from <= event.received
                    && event.received < to
            })
        };
        let of_first: Vec<_> = writes(first, second).collect();
        let [made, deleted] = of_first.as_slice() else {
            return Err(Failure::NotAsTold(format!(
                "for the first request there were to be 2 writes to RBAC, and there were {}",
                of_first.len()
            )));
        };
        if (made.verb.as_str(), deleted.verb.as_str()) != ("create", "delete")
            || [made, deleted].iter().any(|event| event.user.username != OPERATOR)
        {
            return Err(Failure::NotAsTold(
                "the operator was to make a binding and to delete it".into(),
            ));
        }
        let of_second = writes(second, Timestamp::MAX).count();
        if of_second != 0 {
            return Err(Failure::NotAsTold(format!(
                "for the denied request there was to be no write to RBAC, and there were {of_second}"
            )));
        }
        let of_alice = || {
            log.iter()
                .filter(|event| event.actor().username == "alice" && event.resource == "pods")
        };
        Ok(Self {
            let_in: of_alice()
                .filter(|event| event.allowed())
                .map(|event| event.reason().to_owned())
                .collect(),
            refused: of_alice().filter(|event| !event.allowed()).count(),
            late: deleted.finished.duration_since(deadline(made)?),
        })
    }

    /// The account in a few lines.
    pub fn lines(&self) -> Vec<String> {
        let Self { let_in, refused, late } = self;
        let mut lines = vec![format!(
            "Alice's requests for pods: {} let in, {refused} refused. What let her in:",
            let_in.len()
        )];
        lines.extend(let_in.iter().map(|reason| format!("  {reason}")));
        lines.push(format!(
            "look-briefly: 1 RoleBinding made, 1 deleted; it was gone {} ms after its deadline.",
            late.as_millis()
        ));
        lines.push("look-at-pods: 0 writes to RBAC.".into());
        lines
    }
}

/// When the request was made.
fn asked(log: &[AuditEvent], name: &str) -> Result<Timestamp, Failure> {
    let made = log.iter().find(|event| {
        event.resource == "accessrequests" && event.verb == "create" && event.name == name && event.code == 201
    });
    made.map(|event| event.received)
        .ok_or_else(|| Failure::NotAsTold(format!("the audit log was to know when {name} was made")))
}

/// The deadline that is written on a binding.
fn deadline(made: &AuditEvent) -> Result<Timestamp, Failure> {
    let written = made
        .request
        .as_ref()
        .and_then(|binding| binding.pointer("/metadata/annotations/curfew.dev~1deadline")?.as_str());
    written
        .and_then(|written| written.parse().ok())
        .ok_or_else(|| Failure::NotAsTold("the binding was to carry its deadline".into()))
}
