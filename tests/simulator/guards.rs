//! The guards as objects, and as much of what they do as the simulation needs: they refuse the operator's trials while they are as shipped.

use std::sync::LazyLock;

use curfew::core::guard::{GuardKind, Shipped, shipped};
use serde_json::{Value, json};

use crate::apiserver::{Call, Key, Kind, OPERATOR, Refusal, Store, Verb, refusal};

fn kind_of(kind: GuardKind) -> Kind {
    match kind {
        GuardKind::ValidatingAdmissionPolicy => Kind::ValidatingPolicy,
        GuardKind::ValidatingAdmissionPolicyBinding => Kind::ValidatingBinding,
        GuardKind::MutatingAdmissionPolicy => Kind::MutatingPolicy,
        GuardKind::MutatingAdmissionPolicyBinding => Kind::MutatingBinding,
        GuardKind::CustomResourceDefinition => Kind::Definition,
    }
}

/// All guards.
#[derive(Clone, Copy)]
pub struct Guards(&'static [(Key, Value)]);

/// Read once: there is a lot to read.
static SHIPPED: LazyLock<Vec<(Key, Value)>> = LazyLock::new(|| {
    let object = |guard: Shipped| {
        let key = Key::new(kind_of(guard.kind), "", &guard.name);
        (key, json!({"metadata": {"name": guard.name}, "spec": guard.spec}))
    };
    shipped(OPERATOR, true).unwrap().into_iter().map(object).collect()
});

impl Guards {
    pub fn shipped() -> Self {
        Self(&SHIPPED)
    }

    /// Each, and what it looks like.
    pub fn all(self) -> &'static [(Key, Value)] {
        self.0
    }

    /// Whether the API server holds everybody to this one.
    fn is_in_force(self, store: &Store, name: &str) -> bool {
        let parts = self.0.iter().filter(|(key, _)| key.name == name);
        parts.clone().count() > 0
            && parts.into_iter().all(|(key, shipped)| {
                store.get(key).is_some_and(|found| {
                    found["spec"] == shipped["spec"] && found["metadata"]["deletionTimestamp"].is_null()
                })
            })
    }

    /// Whether a word that is written now is attested: by whom it is, and by what right.
    pub fn attest(self, store: &Store) -> bool {
        ["curfew-decisions", "accessrequests.curfew.dev"]
            .into_iter()
            .all(|name| self.is_in_force(store, name))
    }

    /// What the operator tries out by dry-run is refused by the guard that it tries.
    pub fn admit(self, store: &Store, call: &Call) -> Result<(), Refusal> {
        let guard = match call.key.kind {
            Kind::AccessRequest => "curfew-requests",
            kind if kind.is_binding() => "curfew-operator-bounds",
            _ => return Ok(()),
        };
        if call.verb == Verb::Create && call.dry_run && self.is_in_force(store, guard) {
            let message = format!(
                "{:?} is forbidden: ValidatingAdmissionPolicy '{guard}' with binding '{guard}' denied request: no",
                call.key.name
            );
            return Err(refusal(422, "Invalid", message));
        }
        Ok(())
    }
}
