//! What an operator says of itself, and what the audit log says of it.

use chrono::{DateTime, TimeDelta, Utc};
use curfew::api::{AccessGrant, time};
use curfew::cluster::clock::Clock;
use curfew::core::grant::deadline;
use curfew_testbed::{AuditEvent, Operator};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::scene::Scene;
use crate::tools::eventually;

/// So late an access may end while the operator is at work.
pub const MARGIN: SignedDuration = SignedDuration::from_secs(5);

// ---- what an operator says -----------------------------------------------------------------------------------------

/// Why an operator is not ready; nothing if it is, or doesn't answer.
pub async fn not_ready(operator: &Operator) -> String {
    match operator.get("/readyz").await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// Waits until an operator isn't ready and says all of this.
pub async fn is_not_ready(operator: &Operator, because: &[&str]) {
    eventually(&format!("not ready because of {because:?}"), async || {
        let why = not_ready(operator).await;
        because.iter().all(|word| why.contains(word))
    })
    .await;
}

/// A metric's value, by its name with its labels.
pub async fn metric(operator: &Operator, name: &str) -> Option<f64> {
    let text = operator.get("/metrics").await.ok()?;
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Waits until a metric's value is as it should be.
pub async fn metric_is(operator: &Operator, name: &str, holds: impl Fn(f64) -> bool) {
    eventually(&format!("{name} as it should be"), async || {
        metric(operator, name).await.is_some_and(&holds)
    })
    .await;
}

/// Whether a replica says of itself that it grants.
pub async fn leads(operator: &Operator) -> bool {
    metric(operator, "curfew_leading").await.unwrap() > 0.0
}

// ---- what the audit log says ---------------------------------------------------------------------------------------

/// The name of a grant's one binding.
pub fn binding_of(grant: &AccessGrant) -> String {
    grant.status.as_ref().unwrap().bindings[0].name.clone()
}

/// What operators tried, whatever came of it.
pub fn tries(scene: &Scene, verb: &str, resource: &str) -> Vec<AuditEvent> {
    let log = scene.cluster().audit_log().unwrap().into_iter();
    log.filter(|event| {
        event.user.username.ends_with(":curfew") && (event.verb.as_str(), event.resource.as_str()) == (verb, resource)
    })
    .collect()
}

/// The deletion that ended a grant, whoever's it was.
pub fn deletion_of(scene: &Scene, grant: &AccessGrant) -> AuditEvent {
    logged_deletion(scene, grant).unwrap_or_else(|| panic!("nobody deleted {}", binding_of(grant)))
}

/// A watch tells of a deletion before the audit log does.
pub async fn deletion_is_logged(scene: &Scene, grant: &AccessGrant) {
    eventually("the deletion is in the audit log", async || {
        logged_deletion(scene, grant).is_some()
    })
    .await;
}

fn logged_deletion(scene: &Scene, grant: &AccessGrant) -> Option<AuditEvent> {
    let binding = binding_of(grant);
    scene.cluster().audit_log().unwrap().into_iter().find(|event| {
        event.verb == "delete" && event.resource == "rolebindings" && event.name == binding && event.code == 200
    })
}

/// The operator deleted it, not before its deadline and soon after.
pub fn assert_on_time(scene: &Scene, grant: &AccessGrant) {
    let gone = deletion_of(scene, grant);
    assert!(gone.user.username.ends_with(":curfew"), "not by {:?}", gone.user);
    assert_soon_after_deadline(grant, gone.finished);
}

/// That was not before a grant's deadline, and soon after.
#[track_caller]
pub fn assert_soon_after_deadline(grant: &AccessGrant, moment: Timestamp) {
    let late = after_deadline(grant, moment);
    assert!(
        late >= SignedDuration::ZERO && late <= MARGIN,
        "{late} after its deadline"
    );
}

/// Now, by this machine's clock, which the API server has too.
pub fn now() -> DateTime<Utc> {
    Clock::system().now()
}

/// How long after a grant's deadline this was.
pub fn after_deadline(grant: &AccessGrant, moment: Timestamp) -> SignedDuration {
    moment.duration_since(time::to_kubernetes(deadline(grant)).0)
}

/// Waits until a grant's deadline is over.
pub async fn passes(grant: &AccessGrant) {
    let over = deadline(grant) + TimeDelta::seconds(2);
    eventually("the deadline passes", async || now() > over).await;
}
