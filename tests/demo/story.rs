//! The story itself.

use crate::audit::Account;
use crate::failure::Failure;
use crate::stage::Stage;
use crate::teller::Teller;

/// Tells it.
pub async fn tell(stage: &Stage, teller: &Teller) -> Result<(), Failure> {
    let Stage {
        cluster,
        admin,
        alice,
        bob,
        carol,
        ..
    } = stage;

    teller.chapter("A policy: developers may ask to read pods in team-a, and an SRE must agree")?;
    teller
        .answers(admin, "apply -f examples/policy.yaml", "created")
        .await?;
    teller
        .answers(
            admin,
            "wait --for=condition=Ready accesspolicy/read-pods",
            "condition met",
        )
        .await?;

    teller.chapter("Alice, a developer, may not read pods. She asks, for ten seconds")?;
    teller
        .is_refused(alice, "get pods -n team-a", "pods is forbidden")
        .await?;
    teller
        .answers(alice, "apply -f examples/request-brief.yaml", "created")
        .await?;
    teller
        .answers(
            alice,
            "wait --for=condition=Accepted accessrequest/look-briefly -n team-a",
            "condition met",
        )
        .await?;

    teller.chapter("She can't approve it herself, and neither can Carol, another developer")?;
    let approve = "annotate accessrequest look-briefly -n team-a curfew.dev/decision=approve";
    teller
        .is_refused(alice, approve, "you can't approve your own request")
        .await?;
    teller
        .is_refused(carol, approve, "you are not among those who may approve")
        .await?;

    teller.chapter("Bob, an SRE, looks and approves. Alice may read pods")?;
    teller.answers(bob, "get accessrequest -n team-a", "Pending").await?;
    teller.answers(bob, approve, "annotated").await?;
    teller
        .answers(
            alice,
            "wait --for='jsonpath={.status.phase}=Active' accessrequest/look-briefly -n team-a",
            "condition met",
        )
        .await?;
    teller.answers(alice, "get pods -n team-a", "web").await?;

    teller.chapter("Nobody stretches it, the cluster's admin included")?;
    teller
        .is_refused(
            alice,
            r#"patch accessrequest look-briefly -n team-a --type=merge -p '{"spec":{"duration":"8h"}}'"#,
            "duration can't be changed",
        )
        .await?;
    let binding = teller
        .answers(
            admin,
            "get rolebindings -n team-a -l curfew.dev/grant-uid -o name",
            "curfew-",
        )
        .await?;
    let binding = name(&binding);
    teller.is_refused(admin, &format!(r#"patch rolebinding {binding} -n team-a --type=merge -p '{{"metadata":{{"finalizers":["example.com/hold"]}}}}'"#), "are reserved for Curfew").await?;
    teller
        .is_refused(
            admin,
            "create rolebinding curfew-forever -n team-a --clusterrole=pod-reader --user=alice",
            "are reserved for Curfew",
        )
        .await?;
    let grant = teller.answers(admin, "get accessgrants -o name", "grant-").await?;
    let grant = name(&grant);
    teller
        .is_refused(
            admin,
            &format!(r#"patch accessgrant {grant} --type=merge -p '{{"spec":{{"duration":"8h"}}}}'"#),
            "a grant can't be changed",
        )
        .await?;

    teller.chapter("Time is up: the binding is gone, and Alice may not read pods")?;
    teller
        .answers(
            alice,
            "wait --for=condition=Ended accessrequest/look-briefly -n team-a",
            "condition met",
        )
        .await?;
    teller
        .is_refused(alice, "get pods -n team-a", "pods is forbidden")
        .await?;
    teller.answers(bob, "get accessgrants", "Expired").await?;

    teller.chapter("She asks again. Bob says no, and nothing is granted")?;
    teller
        .answers(alice, "apply -f examples/request.yaml", "created")
        .await?;
    teller
        .answers(
            alice,
            "wait --for=condition=Accepted accessrequest/look-at-pods -n team-a",
            "condition met",
        )
        .await?;
    teller.answers(bob, "annotate accessrequest look-at-pods -n team-a curfew.dev/decision=deny curfew.dev/comment='not during the release'", "annotated").await?;
    teller
        .answers(
            alice,
            "wait --for=condition=Ended accessrequest/look-at-pods -n team-a",
            "condition met",
        )
        .await?;
    teller
        .answers(
            alice,
            "get accessrequest -n team-a -o custom-columns=NAME:.metadata.name,PHASE:.status.phase,WHY:.status.message",
            "not during the release",
        )
        .await?;
    teller
        .is_refused(alice, "get pods -n team-a", "pods is forbidden")
        .await?;

    teller.chapter("What the API server wrote down of all this, in its audit log")?;
    for line in Account::read(&cluster.audit_log()?)?.lines() {
        teller.line(&line)?;
    }
    Ok(())
}

/// The name alone of what `kubectl get -o name` says.
fn name(said: &str) -> &str {
    said.trim().rsplit('/').next().unwrap_or_default()
}
