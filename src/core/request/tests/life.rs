use super::*;
use crate::api::{DeadMansSwitch, Decision, End, GoDuration, GrantAnchor, GrantedSubject, Verdict};
use crate::core::anchor::Until;
use crate::core::facts::Brake;

// ---- waiting -------------------------------------------------------------------------------------------------------

#[test]
fn a_new_request_is_offered_and_says_who_can_approve_and_how() {
    let status = published(&observed(), 1);
    let offer = status.offer.unwrap();
    assert_eq!(
        (status.phase, offer.duration.as_str()),
        (Some(RequestPhase::Pending), "30m")
    );
    assert_eq!(offer.digest[..8], offer.code);
    assert!(condition::is_true(&status.conditions, condition::ACCEPTED));
    assert!(!condition::is_true(&status.conditions, condition::APPROVED));
    let OpenStage {
        stage,
        required,
        missing,
        since,
        until,
        escalated,
        users,
        groups,
    } = &status.open[0];
    assert_eq!((since, until, escalated), (&Some(written(1)), &None, &None));
    assert_eq!((stage.as_str(), *required, *missing), ("lead", 1, 1));
    assert_eq!(*users, ["bob", "carol", "system:serviceaccount:ci:approver"]);
    assert_eq!(*groups, ["sre"]);
    let revokers = status.revokers.unwrap();
    assert_eq!((revokers.users.len(), revokers.groups), (3, strings(&["sre"])));
    let message = status.message.unwrap();
    assert!(
        message.contains("1 approval in stage \"lead\"") && message.contains(&offer.code),
        "{message}"
    );
    assert_eq!(
        status.targets,
        [Target {
            namespace: "team-a".into(),
            uid: "uid-of-team-a".into()
        }]
    );
    assert_eq!(status.timeline.unwrap().offered, Some(written(1)));
    assert!(status.seal.is_none() && status.grant.is_none() && status.expires_at.is_none());
}

#[test]
fn a_request_without_a_duration_is_offered_the_policys_default() {
    let mut observed = observed();
    observed.request.spec.duration = None;
    assert_eq!(published(&observed, 1).offer.unwrap().duration, GoDuration::new("1h"));
}

#[test]
fn looking_again_changes_nothing_while_nothing_happens() {
    let observed = stepped(observed(), 1);
    assert_eq!(Some(published(&observed, 100)), observed.request.status);
}

#[test]
fn a_long_list_of_approvers_leaves_the_message_readable() {
    let message = |number: usize| {
        let mut observed = observed();
        let names: Vec<_> = (0..number).map(|index| format!("approver-{index}")).collect();
        let stages = &mut observed.policies[0].spec.approval.as_mut().unwrap().stages;
        stages[0].approvers = crate::api::People {
            users: names,
            ..crate::api::People::default()
        };
        published(&observed, 1).message.unwrap()
    };
    for (number, more) in [(5, None), (6, Some("and 1 more")), (64, Some("and 59 more"))] {
        let message = message(number);
        assert_eq!(message.contains("more"), more.is_some(), "{message}");
        assert!(
            more.is_none_or(|more| message.contains(more)) && message.len() < 400,
            "{message}"
        );
    }
}

#[test]
fn each_word_is_answered_in_its_place_with_the_moment_it_was_first_seen() {
    let digest = offer(&observed());
    let first = stepped(said(stepped(observed(), 1), &[approve("mallory", &digest)]), 2);
    let status = published(&said(first, &[approve("alice", &digest)]), 9);
    let seen: Vec<_> = status
        .decisions
        .iter()
        .map(|decision| decision.first_seen.clone())
        .collect();
    assert_eq!(seen, [written(2), written(9)]);
    assert_eq!(status.decisions[1].username, "alice");
    assert!(
        status
            .decisions
            .iter()
            .all(|decision| decision.effect == DecisionEffect::NoEffect)
    );
}

#[test]
fn two_of_two_are_waited_for_one_after_the_other() {
    let mut observed = observed();
    observed.policies[0].spec.approval.as_mut().unwrap().stages[0].required = Some(2);
    let digest = offer(&observed);
    let once = stepped(said(stepped(observed, 1), &[approve("bob", &digest)]), 2);
    let waiting = once.request.status.clone().unwrap();
    assert_eq!((waiting.open[0].missing, waiting.open[0].required), (1, 2));
    assert_eq!(waiting.decisions[0].effect, DecisionEffect::Counts);
    let twice = said(once, &[approve("carol", &digest)]);
    assert!(matches!(decide(&twice, at(3)), Plan::Grant { .. }));
}

#[test]
fn a_request_that_nobody_decides_ends_when_its_policy_says() {
    assert_eq!(wake(&observed(), 1), Some(at(86_400)));
    let mut observed = observed();
    observed.policies[0].spec.request_ttl = Some(lasting("10m"));
    assert_eq!(wake(&observed, 599), Some(at(600)));
    assert_eq!(ended(&observed, 600), (RequestPhase::Expired, "NotDecided".into()));
    let late = said(stepped(observed.clone(), 1), &[approve("bob", &offer(&observed))]);
    assert!(matches!(decide(&late, at(599)), Plan::Grant { .. }));
    assert_eq!(
        ended(&late, 600),
        (RequestPhase::Expired, "NotDecided".into()),
        "an approval that is seen too late"
    );
}

#[test]
fn a_request_without_a_creation_time_never_lives() {
    let mut observed = approved();
    observed.request.metadata.creation_timestamp = None;
    assert_eq!(ended(&observed, 1).0, RequestPhase::Expired);
}

// ---- ending before it was granted ----------------------------------------------------------------------------------

#[test]
fn a_denial_is_final_after_enough_approvals_too() {
    let observed = said(approved(), &[approve("carol", &offer(&observed())), deny("carol")]);
    assert_eq!(ended(&observed, 2), (RequestPhase::Denied, "Denied".into()));
    let message = published(&observed, 2).message.unwrap();
    assert_eq!(message, "denied by \"carol\"");
    let over = said(stepped(observed, 2), &[approve("bob", "")]);
    assert_eq!(decide(&over, at(3)), Plan::Rest);
}

#[test]
fn a_denial_that_came_after_the_grant_was_made_and_before_the_seal_wins() {
    let mut observed = approved();
    observed.grant = Some(granted(&observed, 2));
    assert!(published(&observed, 3).seal.is_some());
    let denied = said(
        observed,
        &[Decision {
            comment: Some("not\ntoday".into()),
            ..deny("bob")
        }],
    );
    assert_eq!(ended(&denied, 3), (RequestPhase::Denied, "Denied".into()));
    assert_eq!(
        published(&denied, 3).message.unwrap(),
        "denied by \"bob\": \"not\\ntoday\""
    );
}

#[test]
fn a_request_ends_as_withdrawn_by_its_requester_and_as_revoked_by_an_approver() {
    let digest = offer(&observed());
    for (word, phase) in [
        (withdraw(), RequestPhase::Withdrawn),
        (revoke("bob"), RequestPhase::Revoked),
    ] {
        assert_eq!(ended(&said(observed(), std::slice::from_ref(&word)), 1).0, phase);
        assert_eq!(ended(&said(approved(), &[word, approve("carol", &digest)]), 1).0, phase);
    }
}

#[test]
fn words_without_weight_end_nothing() {
    let words = [
        deny("mallory"),
        deny("alice"),
        revoke("mallory"),
        word(Verdict::Revoke, "bob", &["requester"], ""),
    ];
    assert!(matches!(decide(&said(approved(), &words), at(2)), Plan::Grant { .. }));
}

#[test]
fn a_request_that_is_being_deleted_is_withdrawn_whatever_was_said() {
    let mut observed = approved();
    observed.request.metadata.deletion_timestamp = Some(written(2));
    assert_eq!(ended(&observed, 3), (RequestPhase::Withdrawn, "RequestDeleted".into()));
    observed.grant = Some(granted(&approved(), 2));
    assert_eq!(ended(&observed, 3), (RequestPhase::Withdrawn, "RequestDeleted".into()));
}

#[test]
fn a_namespace_made_again_under_the_same_name_is_another() {
    let mut observed = approved();
    observed.targets[0].uid = "made-again".into();
    assert_eq!(ended(&observed, 2), (RequestPhase::Failed, "TargetGone".into()));
}

#[test]
fn nothing_happens_to_a_request_that_has_ended() {
    for phase in [
        RequestPhase::Denied,
        RequestPhase::Withdrawn,
        RequestPhase::Revoked,
        RequestPhase::Expired,
        RequestPhase::Failed,
    ] {
        let mut observed = approved();
        observed.request.status.as_mut().unwrap().phase = Some(phase);
        assert_eq!(decide(&observed, at(2)), Plan::Rest, "{phase:?}");
    }
}

// ---- approving -----------------------------------------------------------------------------------------------------

#[test]
fn an_approval_leads_to_a_grant_that_tells_the_whole_story() {
    let Plan::Grant { spec, .. } = decide(&approved(), at(2)) else {
        panic!("not granted")
    };
    assert_eq!(spec.request.name, "fix");
    assert_eq!(
        (spec.request.namespace.as_str(), spec.request.uid.as_str()),
        ("team-a", "uid-of-fix")
    );
    assert_eq!(
        spec.subject,
        GrantedSubject {
            kind: "User".into(),
            name: "alice".into(),
            namespace: None
        }
    );
    assert_eq!(
        (spec.role.name.as_str(), spec.role.uid.as_str()),
        ("reader", "uid-of-reader")
    );
    assert_eq!(spec.role.rules_digest, offer::rules_digest(&role("reader").rules));
    assert_eq!(
        (spec.role.on_change, spec.policy.name.as_str()),
        (OnChange::Revoke, "standard")
    );
    assert_eq!(spec.policy.digest, offer::policy_digest(&policy_spec()));
    assert_eq!(
        (spec.duration.as_str(), spec.offer.as_str()),
        ("30m", offer(&observed()).as_str())
    );
    assert_eq!(spec.decisions, approved().request.spec.decisions);
    assert_eq!(
        spec.targets,
        [Target {
            namespace: "team-a".into(),
            uid: "uid-of-team-a".into()
        }]
    );
    assert_eq!(
        (spec.reason.as_deref(), spec.requester.username.as_str()),
        (Some("OPS-1"), "alice")
    );
    assert_eq!(spec.revokers, approval::revokers(&policy_spec()));
}

#[test]
fn a_service_account_that_asks_is_bound_as_one() {
    let mut observed = observed();
    observed.request.spec.requester = Some(requester("system:serviceaccount:ci:bot", &[]));
    observed.policies[0].spec.requesters.service_accounts = vec![crate::api::ServiceAccountReference {
        namespace: "ci".into(),
        name: "bot".into(),
    }];
    let digest = offer(&observed);
    let Plan::Grant { spec, .. } = decide(&said(stepped(observed, 1), &[approve("bob", &digest)]), at(2)) else {
        panic!("not granted")
    };
    assert_eq!(
        (spec.subject.kind.as_str(), spec.subject.namespace.as_deref()),
        ("ServiceAccount", Some("ci"))
    );
}

#[test]
fn an_approval_of_what_was_offered_before_does_not_count_for_what_is_offered_now() {
    let table: &[fn(&mut Observed)] = &[
        |observed| observed.request.metadata.uid = Some("made-again".into()),
        |observed| observed.request.spec.reason = Some("something else".into()),
        |observed| observed.request.spec.duration = Some(lasting("4h")),
        |observed| observed.policies[0].spec.on_role_change = Some(OnChange::Keep),
        |observed| {
            observed
                .role
                .as_mut()
                .unwrap()
                .rules
                .push(rule("", &["secrets"], &["get"]))
        },
        |observed| observed.role.as_mut().unwrap().uid = "made-again".into(),
    ];
    for (index, change) in table.iter().enumerate() {
        let mut observed = approved();
        change(&mut observed);
        let status = published(&observed, 2);
        assert_eq!(status.phase, Some(RequestPhase::Pending), "row {index}");
        assert!(status.decisions[0].reason.contains("has changed since"), "row {index}");
        let again = said(stepped(observed.clone(), 2), &[approve("bob", &offer(&observed))]);
        assert!(
            matches!(decide(&again, at(3)), Plan::Grant { .. }),
            "row {index}: a new word counts"
        );
    }
}

#[test]
fn an_offer_that_only_the_status_speaks_of_is_no_offer() {
    let mut observed = stepped(observed(), 1);
    let forged = "f".repeat(64);
    observed.request.status.as_mut().unwrap().offer.as_mut().unwrap().digest = forged.clone();
    assert!(!matches!(
        decide(&said(observed, &[approve("bob", &forged)]), at(2)),
        Plan::Grant { .. }
    ));
}

#[test]
fn the_open_stages_and_the_phase_in_the_status_are_no_authority() {
    let mut observed = stepped(observed(), 1);
    let status = observed.request.status.as_mut().unwrap();
    status.open[0].users.push("mallory".into());
    status.open[0].missing = 0;
    status.phase = Some(RequestPhase::Approved);
    let digest = offer(&observed);
    let status = published(&said(observed, &[approve("mallory", &digest)]), 2);
    assert_eq!((status.phase, status.open[0].missing), (Some(RequestPhase::Pending), 1));
    assert_eq!(status.open[0].users.len(), 3, "and are written anew");
}

#[test]
fn a_code_and_a_credential_of_their_own_are_asked_for_where_the_policy_wants_them() {
    let mut observed = observed();
    observed.policies[0].spec.require_code = true;
    observed.policies[0].spec.require_direct = true;
    let digest = offer(&observed);
    let offered = stepped(observed, 1);
    let shown = offered.request.status.clone().unwrap().offer.unwrap();
    assert!(shown.require_code && shown.require_direct);
    let plain = approve("bob", &digest);
    let code = Decision {
        code: Some(shown.code),
        ..plain.clone()
    };
    let direct = Decision {
        direct: true,
        ..plain.clone()
    };
    let both = Decision {
        direct: true,
        ..code.clone()
    };
    for (word, grants) in [(plain, false), (code, false), (direct, false), (both, true)] {
        let plan = decide(&said(offered.clone(), &[word]), at(2));
        assert_eq!(matches!(plan, Plan::Grant { .. }), grants);
    }
}

// ---- from the grant to the seal ------------------------------------------------------------------------------------

#[test]
fn a_request_whose_grant_is_there_is_sealed_with_it() {
    let mut observed = approved();
    observed.grant = Some(granted(&observed, 2));
    let status = published(&observed, 9);
    let (name, uid) = ("grant-uid-of-fix".to_owned(), "uid-of-grant-uid-of-fix".to_owned());
    assert_eq!(
        status.seal,
        Some(Seal {
            grant: name.clone(),
            uid
        })
    );
    assert_eq!((status.phase, status.grant), (Some(RequestPhase::Approved), Some(name)));
    assert_eq!(
        status.expires_at,
        Some(written(1802)),
        "it counts from the grant's creation"
    );
    assert_eq!(status.timeline.unwrap().granted, Some(written(2)));
    assert!(status.open.is_empty() && condition::is_true(&status.conditions, condition::APPROVED));
}

#[test]
fn a_grant_of_something_else_is_not_sealed_and_the_request_fails() {
    let mut observed = approved();
    observed.grant = Some(granted(&observed, 2));
    let table: &[fn(&mut Observed)] = &[
        |observed| {
            observed
                .role
                .as_mut()
                .unwrap()
                .rules
                .push(rule("", &["secrets"], &["get"]))
        },
        |observed| observed.role = None,
        |observed| observed.policies[0].spec.max_duration = lasting("5h"),
        |observed| observed.policies[0].status = None,
        |observed| observed.request.spec.decisions.clear(),
        |observed| observed.grant.as_mut().unwrap().spec.offer = "another".into(),
        |observed| observed.grant.as_mut().unwrap().metadata.deletion_timestamp = Some(written(3)),
        |observed| observed.grant.as_mut().unwrap().metadata.creation_timestamp = Some(written(-1800)),
    ];
    for (index, change) in table.iter().enumerate() {
        let mut observed = observed.clone();
        change(&mut observed);
        let (phase, reason) = ended(&observed, 3);
        assert_eq!(
            (phase, reason.as_str()),
            (RequestPhase::Failed, "ChangedWhileGranting"),
            "row {index}"
        );
        assert!(published(&observed, 3).seal.is_none());
    }
}

// ---- a sealed request follows its grant ----------------------------------------------------------------------------

fn with_grant_status(phase: Option<GrantPhase>, end: Option<End>) -> Observed {
    let mut observed = sealed();
    let grant = observed.grant.as_mut().unwrap();
    grant.status = Some(crate::api::AccessGrantStatus {
        phase,
        end,
        ..Default::default()
    });
    observed
}

fn end_of(reason: EndReason) -> Option<End> {
    Some(End {
        reason,
        message: "so it ended".into(),
        at: None,
    })
}

#[test]
fn a_sealed_request_shows_what_its_grant_says() {
    assert_eq!(published(&sealed(), 5), sealed().request.status.unwrap());
    let active = published(&with_grant_status(Some(GrantPhase::Active), None), 5);
    assert_eq!(active.phase, Some(RequestPhase::Active));
    assert_eq!(active.message.unwrap(), "access until 2027-01-15T08:30:00Z");
    assert!(condition::is_true(&active.conditions, condition::GRANTED));
    let ending = published(
        &with_grant_status(Some(GrantPhase::Ending), end_of(EndReason::Expired)),
        5,
    );
    assert!(
        !ending.phase.unwrap().is_final(),
        "it isn't over while the binding is there"
    );
    assert!(ending.message.unwrap().contains("so it ended"));
}

#[test]
fn a_request_ends_as_its_grant_did() {
    use EndReason::*;
    for (reason, phase) in [
        (Expired, RequestPhase::Expired),
        (Denied, RequestPhase::Denied),
        (RequestDeleted, RequestPhase::Withdrawn),
        (Revoked, RequestPhase::Revoked),
        (GrantDeleted, RequestPhase::Revoked),
        (Drifted, RequestPhase::Revoked),
        (RoleChanged, RequestPhase::Revoked),
        (PolicyChanged, RequestPhase::Revoked),
        (TargetGone, RequestPhase::Revoked),
        (BindFailed, RequestPhase::Failed),
    ] {
        let observed = with_grant_status(Some(GrantPhase::Ended), end_of(reason));
        assert_eq!(ended(&observed, 5), (phase, grant::ended_reason(reason).into()));
        assert_eq!(published(&observed, 5).message.as_deref(), Some("so it ended"));
    }
    let silent = with_grant_status(Some(GrantPhase::Ended), None);
    assert_eq!(ended(&silent, 5).0, RequestPhase::Revoked);
}

#[test]
fn a_sealed_request_whose_grant_is_gone_has_ended_and_is_never_granted_again() {
    let mut observed = Observed {
        grant: None,
        ..sealed()
    };
    assert_eq!(ended(&observed, 5), (RequestPhase::Revoked, "GrantDeleted".into()));
    observed.grant = Some(AccessGrant {
        metadata: kube::api::ObjectMeta {
            uid: Some("made-again".into()),
            ..metadata("grant-uid-of-fix")
        },
        ..sealed().grant.unwrap()
    });
    assert_eq!(
        ended(&observed, 5).0,
        RequestPhase::Revoked,
        "another grant of the same name is not its grant"
    );
    assert_eq!(decide(&stepped(observed, 5), at(6)), Plan::Rest);
}

#[test]
fn a_request_does_not_say_that_it_ended_while_a_binding_was_left_behind() {
    let expired = with_grant_status(Some(GrantPhase::Ended), end_of(EndReason::Expired));
    let deleted = Observed {
        grant: None,
        ..sealed()
    };
    for observed in [expired, deleted] {
        assert!(published(&observed, 5).phase.unwrap().is_final());
        let observed = Observed {
            left_behind: true,
            ..observed
        };
        assert!(!published(&observed, 5).phase.unwrap().is_final());
        assert_eq!(wake(&observed, 5), Some(at(6)));
        let says = published(&observed, 5)
            .message
            .is_some_and(|message| message.contains("is still there"));
        assert_eq!(says, observed.grant.is_some(), "one that isn't found may not be gone");
    }
}

#[test]
fn a_sealed_request_asks_for_nothing_but_its_grant() {
    let mut observed = Observed {
        policies: vec![],
        role: None,
        targets: vec![],
        ..sealed()
    };
    observed.request.spec.decisions.push(deny("bob"));
    assert_eq!(published(&observed, 5).phase, Some(RequestPhase::Approved));
    assert_eq!(
        published(&observed, 999_999).phase,
        Some(RequestPhase::Approved),
        "waiting is over for it"
    );
}

// ---- the brake -----------------------------------------------------------------------------------------------------

fn braked(mut observed: Observed) -> Observed {
    observed.brake = Some(Brake {
        reason: "GuardMissing",
        message: "a guard is away".into(),
    });
    observed
}

#[test]
fn while_a_brake_is_pulled_an_approved_request_waits_and_says_why_and_then_it_is_granted() {
    let waiting = stepped(braked(approved()), 3);
    let status = waiting.request.status.clone().unwrap();
    assert_eq!(status.phase, Some(RequestPhase::Approved));
    assert!(status.seal.is_none());
    assert!(status.message.unwrap().contains("a guard is away"));
    let granted = condition::get(&status.conditions, condition::GRANTED).unwrap();
    assert_eq!(
        (granted.status.as_str(), granted.reason.as_str()),
        ("False", "GuardMissing")
    );
    let released = Observed { brake: None, ..waiting };
    assert!(matches!(decide(&released, at(4)), Plan::Grant { .. }));
}

#[test]
fn while_a_brake_is_pulled_a_grant_that_was_made_is_not_sealed() {
    let mut observed = approved();
    observed.grant = Some(granted(&observed, 2));
    assert!(published(&braked(observed.clone()), 3).seal.is_none());
    assert!(published(&observed, 3).seal.is_some(), "without the brake it is");
}

#[test]
fn no_brake_holds_up_an_end() {
    assert_eq!(
        published(&braked(said(approved(), &[deny("carol")])), 3).phase,
        Some(RequestPhase::Denied)
    );
    let day = 24 * 60 * 60;
    assert_eq!(published(&braked(approved()), day).phase, Some(RequestPhase::Expired));
}

// ---- the anchor ----------------------------------------------------------------------------------------------------

/// Whether a grant that was created with this anchor (or without one) is sealed, under a policy that says this.
fn is_sealed_with(anchor: Option<GrantAnchor>, policy: Option<DeadMansSwitch>) -> bool {
    let mut observed = observed();
    observed.policies[0].spec.dead_mans_switch = policy;
    let offered = stepped(observed, 1);
    let digest = offer(&offered);
    let mut approved = said(offered, &[approve("bob", &digest)]);
    let mut grant = granted(&approved, 2);
    grant.spec.no_anchor = anchor.is_none().then(|| "no cluster IP is left".to_owned());
    grant.spec.anchor = anchor;
    approved.grant = Some(grant);
    published(&approved, 3).seal.is_some()
}

#[test]
fn a_grant_without_an_anchor_is_sealed_only_where_the_policy_says_that_it_may_do_without() {
    use DeadMansSwitch::{BestEffort, Required};
    assert!(!is_sealed_with(None, None), "strict is the default");
    assert!(!is_sealed_with(None, Some(Required)));
    assert!(is_sealed_with(None, Some(BestEffort)));
    for policy in [None, Some(Required), Some(BestEffort)] {
        assert!(is_sealed_with(Some(anchor()), policy));
    }
}

/// It was made by the operator, and a webhook of somebody's put another one in.
#[test]
fn a_grant_whose_anchor_would_end_it_before_its_deadline_or_long_after_or_says_otherwise_is_not_sealed() {
    let deadline = at(2 + 1800);
    let first = Until::serving(deadline).unwrap();
    let until =
        |minutes: i64| anchor_until(Until::serving(first.moment() + chrono::Duration::minutes(minutes - 1)).unwrap());
    assert!(is_sealed_with(Some(until(0)), None));
    for minutes in [-1, 2, 60] {
        assert!(!is_sealed_with(Some(until(minutes)), None), "{minutes}");
    }
    let says = |ends_at| GrantAnchor { ends_at, ..until(0) };
    assert!(!is_sealed_with(Some(says(until(60).ends_at)), None));
    let forged = GrantAnchor {
        ends_at: until(0).ends_at,
        ..until(60)
    };
    assert!(!is_sealed_with(Some(forged), None));
}

// ---- the guards ----------------------------------------------------------------------------------------------------

/// The same, under these guards.
fn guarded(observed: Observed, epoch: Option<&str>, in_force: bool) -> Observed {
    let guards = Standing {
        epoch: epoch.map(str::to_owned),
        since: epoch.map(|_| at(-3600)),
        in_force,
    };
    Observed { guards, ..observed }
}

#[test]
fn a_word_spoken_under_other_guards_is_about_another_offer_and_the_request_says_so() {
    let replaced = guarded(approved(), Some("another epoch"), true);
    let status = published(&replaced, 3);
    assert_eq!(status.phase, Some(RequestPhase::Pending));
    assert_eq!(status.decisions[0].effect, DecisionEffect::NoEffect);
    assert_eq!(status.open[0].missing, 1);
    let message = status.message.unwrap();
    assert!(message.contains("the offer is a new one"), "{message}");
    let digest = status.offer.unwrap().digest;
    assert_ne!(digest, offer(&observed()));
    // Spoken anew it counts.
    let anew = said(stepped(replaced, 3), &[approve("carol", &digest)]);
    assert!(matches!(decide(&anew, at(4)), Plan::Grant { .. }));
}

#[test]
fn a_grant_that_was_made_under_other_guards_is_not_sealed() {
    let mut observed = approved();
    observed.grant = Some(granted(&observed, 2));
    let replaced = guarded(observed, Some("another epoch"), true);
    assert_eq!(
        ended(&replaced, 3),
        (RequestPhase::Failed, "ChangedWhileGranting".into())
    );
}

#[test]
fn there_is_no_new_offer_before_the_guards_are_known_to_be_in_force() {
    let changed = braked(guarded(approved(), Some("another epoch"), false));
    assert_eq!(blocked(&changed), "GuardMissing");
    let message = published(&changed, 3).message.unwrap();
    assert!(message.contains("a guard is away"), "{message}");
    assert_eq!(blocked(&guarded(observed(), Some("epoch"), false)), "GuardsUnknown");
    // Somebody who guesses the next offer gains nothing by speaking of it early: there is none to carry out.
    let next = offer(&guarded(observed(), Some("another epoch"), true));
    let early = said(stepped(observed(), 1), &[approve("bob", &next)]);
    assert_eq!(blocked(&guarded(early, Some("another epoch"), false)), "GuardsUnknown");
}

#[test]
fn an_offer_that_stands_goes_on_standing_while_the_same_guards_are_tried_out_and_is_not_carried_out() {
    let offered = guarded(stepped(observed(), 1), Some("epoch"), false);
    assert_eq!(Some(published(&offered, 3)), offered.request.status);
    let unproven = guarded(approved(), Some("epoch"), false);
    let status = published(&unproven, 3);
    assert_eq!((status.phase, &status.seal), (Some(RequestPhase::Approved), &None));
    let granted = condition::get(&status.conditions, condition::GRANTED).unwrap();
    assert_eq!(
        (granted.status.as_str(), granted.reason.as_str()),
        ("False", "GuardsUnknown")
    );
    let mut made = unproven;
    made.grant = Some(granted_before());
    assert!(published(&made, 3).seal.is_none());
}

fn granted_before() -> AccessGrant {
    granted(&approved(), 2)
}

#[test]
fn until_the_guards_were_seen_nothing_is_changed_but_what_ends_ends() {
    for before in [
        observed(),
        stepped(observed(), 1),
        said(stepped(observed(), 1), &[approve("bob", "any")]),
    ] {
        let unseen = guarded(before, None, false);
        let status = unseen.request.status.clone().unwrap_or_default();
        assert_eq!(published(&unseen, 3), status);
    }
    let unseen = |words: &[Decision]| guarded(said(stepped(observed(), 1), words), None, false);
    assert_eq!(
        published(&unseen(&[deny("carol")]), 3).phase,
        Some(RequestPhase::Denied)
    );
    assert_eq!(
        published(&unseen(&[withdraw()]), 3).phase,
        Some(RequestPhase::Withdrawn)
    );
    let day = 24 * 60 * 60;
    assert_eq!(published(&unseen(&[]), day).phase, Some(RequestPhase::Expired));
}
