//! What holds for all requests and all words, against a second and deliberately naive model of who may say what.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::RngSeed;

use super::*;
use crate::api::{Decision, GoDuration, People, ServiceAccountReference, Stage, Verdict};

/// The same cases on every run: what is found once is found again, and CI takes the same time every day.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(1800),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

const REQUESTER: &str = "alice";
const ACCOUNT: &str = "system:serviceaccount:ci:approver";
const SPEAKERS: &[&str] = &[
    REQUESTER,
    "bob",
    "carol",
    "erin",
    "mallory",
    "Bob",
    ACCOUNT,
    "system:serviceaccount:ci:bot",
    "system:admin",
];
const ENTRIES: &[&str] = &[
    "lead/User:alice",
    "lead/User:bob",
    "lead/User:carol",
    "lead/User:system:serviceaccount:ci:approver",
    "lead/Group:sre",
    "lead/Group:dev",
    "other/User:bob",
    "other/Group:sre",
    "*/User:bob",
    "*/User:alice",
    "*/Group:sre",
    "*/Group:dev",
    "requester",
    "lead",
    "/",
    "",
];

/// A policy's stage and what it asks of an approval. The requester may be among its approvers.
fn policies() -> impl Strategy<Value = AccessPolicy> {
    let users = subsequence(vec!["alice", "bob", "carol"], 0..=3);
    (users, any::<bool>(), any::<bool>(), 1..=3, any::<bool>(), any::<bool>())
        .prop_map(|(users, group, with_account, required, require_code, require_direct)| {
            let mut policy = policy("standard");
            let account = ServiceAccountReference {
                namespace: "ci".into(),
                name: "approver".into(),
            };
            let approvers = People {
                users: strings(&users),
                groups: group.then(|| "sre".to_owned()).into_iter().collect(),
                service_accounts: with_account.then_some(account).into_iter().collect(),
            };
            let stage = Stage {
                name: "lead".into(),
                approvers,
                required: Some(required),
                ..Stage::default()
            };
            policy.spec.approval.as_mut().unwrap().stages = vec![stage];
            // Seldom both: else hardly anything would ever be granted here.
            policy.spec.require_code = require_code && require_direct;
            policy.spec.require_direct = require_direct && group;
            policy
        })
        .prop_filter("it can be used", |policy| policy::flaws(&policy.spec, &[]).is_empty())
}

/// A word, most often one that could count. `OFFER` stands for the offer's digest until it is known.
fn words() -> impl Strategy<Value = Decision> {
    let verdict = prop_oneof![12 => Just(Verdict::Approve), 1 => Just(Verdict::Deny), 1 => Just(Verdict::Revoke)];
    let offer = prop_oneof![8 => Just("OFFER"), 1 => Just(""), 1 => Just("older")];
    let code = prop_oneof![6 => Just(Some("OFFER")), 1 => Just(None), 1 => Just(Some("")), 1 => Just(Some("00000000"))];
    let own = prop_oneof![3 => Just(true), 1 => Just(false)];
    let entries = subsequence(ENTRIES, 0..4);
    (
        verdict,
        select(SPEAKERS),
        own,
        entries,
        offer,
        code,
        prop::bool::weighted(0.8),
    )
        .prop_map(|(verdict, username, own, entries, offer, code, direct)| {
            let mut via = strings(&entries);
            if own {
                via.push(format!("lead/User:{username}"));
            }
            let code = code.map(str::to_owned);
            Decision {
                code,
                direct,
                via,
                ..word(verdict, username, &[], offer)
            }
        })
}

fn spoken(decisions: Vec<Decision>, digest: &str) -> Vec<Decision> {
    let real = |text: String, real: &str| if text == "OFFER" { real.to_owned() } else { text };
    let decisions = decisions.into_iter();
    decisions
        .map(|decision| Decision {
            offer: real(decision.offer, digest),
            code: decision.code.map(|code| real(code, &digest[..8])),
            ..decision
        })
        .collect()
}

/// The fixture's request under this policy, offered, and its offer.
fn offered(policy: AccessPolicy) -> (Observed, String) {
    let observed = Observed {
        policies: vec![policy],
        ..observed()
    };
    let digest = offer(&observed);
    (stepped(observed, 1), digest)
}

// ---- the naive model, from the design's words: whose word counts? --------------------------------------------------

/// An approval counts if it is for the offer that stands, with the code and a credential of one's own where the policy wants them, by somebody
/// whom the policy names in the stage, by their name or by a group; service accounts only by name; the requester never.
fn may_approve(policy: &AccessPolicy, digest: &str, said: &Decision) -> bool {
    let stage = &policy.spec.approval.as_ref().unwrap().stages[0].approvers;
    let is_account = said.username.starts_with("system:");
    let mut named = false;
    for user in &stage.users {
        named |= said.username == *user && said.via.contains(&format!("lead/User:{user}"));
    }
    for ServiceAccountReference { namespace, name } in &stage.service_accounts {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        named |= said.username == user && said.via.contains(&format!("lead/User:{user}"));
    }
    for group in &stage.groups {
        named |= !is_account && said.via.contains(&format!("lead/Group:{group}"));
    }
    let code_is_fine = !policy.spec.require_code || said.code.as_deref() == Some(&digest[..8]);
    let direct_is_fine = !policy.spec.require_direct || said.direct;
    named && said.username != REQUESTER && said.offer == digest && code_is_fine && direct_is_fine
}

/// An approver of the policy ends it by a denial or a revocation, the requester by a revocation.
fn may_end(policy: &AccessPolicy, said: &Decision) -> bool {
    let stage = &policy.spec.approval.as_ref().unwrap().stages[0].approvers;
    let is_named =
        stage.usernames().contains(&said.username) && said.via.contains(&format!("*/User:{}", said.username));
    let by_group = stage
        .groups
        .iter()
        .any(|group| said.via.contains(&format!("*/Group:{group}")));
    let as_approver = is_named || by_group && !said.username.starts_with("system:");
    match said.verdict {
        Verdict::Approve | Verdict::Review => false,
        Verdict::Deny => said.username != REQUESTER && as_approver,
        Verdict::Revoke => as_approver || said.username == REQUESTER && said.via.contains(&"requester".to_owned()),
    }
}

#[derive(Debug, PartialEq)]
enum Fate {
    Granted,
    Over,
    Waiting,
}

fn foretold(policy: &AccessPolicy, digest: &str, all: &[Decision]) -> Fate {
    let mut people = BTreeSet::new();
    for said in all {
        if may_end(policy, said) {
            return Fate::Over;
        }
    }
    for said in all {
        if said.verdict == Verdict::Approve && may_approve(policy, digest, said) {
            people.insert(said.username.clone());
        }
    }
    let required = policy.spec.approval.as_ref().unwrap().stages[0].required.unwrap();
    if people.len() as i32 >= required {
        Fate::Granted
    } else {
        Fate::Waiting
    }
}

fn fate(plan: &Plan) -> Fate {
    match plan {
        Plan::Grant { .. } => Fate::Granted,
        Plan::Publish { status, wake: _ } if status.phase.is_some_and(RequestPhase::is_final) => Fate::Over,
        Plan::Publish { .. } => Fate::Waiting,
        Plan::Rest => Fate::Over,
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_request_is_granted_exactly_when_the_naive_model_says_so(policy in policies(), all in prop::collection::vec(words(), 0..12)) {
        let (observed, digest) = offered(policy.clone());
        let all = spoken(all, &digest);
        let expected = foretold(&policy, &digest, &all);
        prop_assert_eq!(fate(&decide(&said(observed, &all), at(2))), expected);
    }

    #[test]
    fn the_decisions_of_a_grant_are_by_enough_different_people_who_may_and_never_by_the_requester(
        policy in policies(),
        all in prop::collection::vec(words().prop_filter("only approvals", |word| word.verdict == Verdict::Approve), 1..16),
    ) {
        let (observed, digest) = offered(policy.clone());
        let all = spoken(all, &digest);
        if let Plan::Grant { spec, .. } = decide(&said(observed, &all), at(2)) {
            let people: BTreeSet<_> = spec.decisions.iter().map(|said| said.username.as_str()).collect();
            let required = policy.spec.approval.as_ref().unwrap().stages[0].required.unwrap();
            prop_assert!(people.len() as i32 >= required && people.len() == spec.decisions.len());
            prop_assert!(!people.contains(REQUESTER));
            prop_assert!(spec.decisions.iter().all(|said| may_approve(&policy, &digest, said)));
            prop_assert!(spec.decisions.iter().all(|said| all.contains(said)), "none is made up");
            prop_assert_eq!(spec.offer, digest);
        }
    }

    #[test]
    fn no_number_of_words_by_those_who_may_not_ever_leads_to_a_grant(policy in policies(), all in prop::collection::vec(words(), 0..48)) {
        let (observed, digest) = offered(policy.clone());
        let all: Vec<_> = spoken(all, &digest).into_iter().filter(|said| !may_approve(&policy, &digest, said)).collect();
        prop_assert_ne!(fate(&decide(&said(observed, &all), at(2))), Fate::Granted);
    }

    #[test]
    fn one_person_counts_once_whatever_they_say_and_however_they_are_let_in(
        vias in prop::collection::vec(subsequence(vec!["lead/User:bob", "lead/Group:sre", "*/Group:none", "other/User:bob"], 0..=4), 1..24),
    ) {
        let mut policy = policy("standard");
        policy.spec.approval.as_mut().unwrap().stages[0].required = Some(2);
        let (observed, digest) = offered(policy);
        let all: Vec<_> = vias.iter().map(|via| word(Verdict::Approve, "bob", via, &digest)).collect();
        prop_assert_eq!(fate(&decide(&said(observed, &all), at(2))), Fate::Waiting);
    }

    #[test]
    fn the_order_in_which_the_same_words_arrive_never_changes_what_becomes_of_the_request(
        policy in policies(),
        (ordered, shuffled) in prop::collection::vec(words(), 0..12).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let (observed, digest) = offered(policy);
        let one = decide(&said(observed.clone(), &spoken(ordered, &digest)), at(2));
        let other = decide(&said(observed, &spoken(shuffled, &digest)), at(2));
        prop_assert_eq!(fate(&one), fate(&other));
        if let (Plan::Grant { spec: one, .. }, Plan::Grant { spec: other, .. }) = (one, other) {
            // Whoever comes first carries it; to whom, what and how long it gives is the same.
            prop_assert_eq!(one.decisions.len(), other.decisions.len());
            prop_assert_eq!(AccessGrantSpec { decisions: vec![], ..*one }, AccessGrantSpec { decisions: vec![], ..*other });
        }
    }

    #[test]
    fn one_word_more_never_turns_an_end_into_a_grant(policy in policies(), all in prop::collection::vec(words(), 0..12), more in words()) {
        let (observed, digest) = offered(policy);
        let (all, more) = (spoken(all, &digest), spoken(vec![more], &digest));
        let before = said(observed, &all);
        if fate(&decide(&before, at(2))) == Fate::Over {
            prop_assert_eq!(fate(&decide(&said(before, &more), at(2))), Fate::Over);
        }
    }
}

// ---- whatever is there, there is an answer -------------------------------------------------------------------------

type Mishap = fn(&mut Observed, i64);

/// Things that are not as they should be, whoever did it: users, other controllers, a restored backup, a forger.
const MISHAPS: &[Mishap] = &[
    |observed, _| observed.request.spec.requester = None,
    |observed, _| observed.request.spec.requester = Some(requester("", &[""])),
    |observed, _| observed.request.spec.requester = Some(requester("system:serviceaccount::", &["dev"])),
    |observed, n| observed.request.spec.namespaces = Some(vec!["team-a".into(); (n % 4) as usize]),
    |observed, n| observed.request.spec.duration = Some(GoDuration::new(format!("{n}h"))),
    |observed, _| observed.request.spec.duration = None,
    |observed, _| observed.request.spec.role.name.clear(),
    |observed, _| observed.request.spec.policy = Some(String::new()),
    |observed, n| observed.request.spec.reason = Some("é\u{0}\n".repeat((n % 9) as usize)),
    |observed, _| observed.request.spec.decisions.clear(),
    |observed, _| {
        observed
            .request
            .spec
            .decisions
            .push(word(Verdict::Approve, "", &["", "/"], ""))
    },
    |observed, _| observed.request.spec.decisions.push(deny("bob")),
    |observed, _| observed.request.spec.decisions.push(withdraw()),
    |observed, _| observed.request.metadata = Default::default(),
    |observed, n| observed.request.metadata.creation_timestamp = Some(written(n * 1_000)),
    |observed, _| observed.request.metadata.creation_timestamp = Some(time::to_kubernetes(DateTime::<Utc>::MIN_UTC)),
    |observed, n| observed.request.metadata.deletion_timestamp = Some(written(n)),
    |observed, _| observed.request.status = None,
    |observed, _| observed.request.status = Some(AccessRequestStatus::default()),
    |observed, _| observed.request.status.get_or_insert_default().policy = None,
    |observed, _| observed.request.status.get_or_insert_default().decisions.clear(),
    |observed, _| observed.request.status.get_or_insert_default().targets.clear(),
    |observed, _| observed.request.status.get_or_insert_default().offer = None,
    |observed, _| {
        observed.request.status.get_or_insert_default().seal = Some(Seal {
            grant: String::new(),
            uid: String::new(),
        });
    },
    |observed, n| {
        let phases = [
            RequestPhase::Pending,
            RequestPhase::Active,
            RequestPhase::Denied,
            RequestPhase::Failed,
        ];
        observed.request.status.get_or_insert_default().phase = phases.get((n % 5) as usize).copied();
    },
    |observed, _| observed.policies.clear(),
    |observed, _| observed.policies.push(policy("another")),
    |observed, _| {
        observed
            .policies
            .iter_mut()
            .for_each(|policy| policy.spec.approval = None)
    },
    |observed, _| {
        observed
            .policies
            .iter_mut()
            .for_each(|policy| policy.spec.max_duration = lasting(""))
    },
    |observed, _| {
        observed
            .policies
            .iter_mut()
            .for_each(|policy| policy.spec.namespaces = None)
    },
    |observed, _| {
        observed
            .policies
            .iter_mut()
            .for_each(|policy| policy.metadata = Default::default())
    },
    |observed, _| observed.policies.iter_mut().for_each(|policy| policy.status = None),
    |observed, n| {
        let stages = observed
            .policies
            .iter_mut()
            .flat_map(|policy| policy.spec.approval.as_mut());
        stages
            .flat_map(|approval| &mut approval.stages)
            .for_each(|stage| stage.required = Some(i32::MIN + n as i32));
    },
    |observed, n| {
        let ttls = ["", "1s", "8760h"];
        let ttl = ttls.get((n % 4) as usize).map(|ttl| lasting(ttl));
        observed
            .policies
            .iter_mut()
            .for_each(|policy| policy.spec.request_ttl = ttl.clone());
    },
    |observed, _| {
        let rule = crate::api::ReasonRule {
            pattern: Some("(?".into()),
            ..Default::default()
        };
        observed
            .policies
            .iter_mut()
            .for_each(|policy| policy.spec.reason = Some(rule.clone()));
    },
    |observed, _| observed.role = None,
    |observed, _| {
        observed
            .role
            .iter_mut()
            .for_each(|role| role.rules = vec![Default::default()])
    },
    |observed, _| observed.targets.clear(),
    |observed, _| observed.targets.push(namespace("kube-system")),
    |observed, _| observed.targets.iter_mut().for_each(|target| target.uid.clear()),
    |observed, _| observed.home.namespace.clear(),
    |observed, _| observed.left_behind = true,
    |observed, _| observed.grant = sealed().grant,
    |observed, _| {
        observed
            .grant
            .iter_mut()
            .for_each(|grant| grant.metadata = Default::default())
    },
    |observed, n| {
        let phases = [GrantPhase::Active, GrantPhase::Ending, GrantPhase::Ended];
        let status = crate::api::AccessGrantStatus {
            phase: phases.get((n % 4) as usize).copied(),
            ..Default::default()
        };
        observed
            .grant
            .iter_mut()
            .for_each(|grant| grant.status = Some(status.clone()));
    },
];

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn there_is_an_answer_to_everything_and_the_same_one_when_asked_again(
        sealed_before in any::<bool>(),
        mishaps in prop::collection::vec((select(MISHAPS), 0i64..10_000), 0..8),
        moment in prop_oneof![Just(2i64), -1_000_000_000i64..1_000_000_000, Just(-60_000_000_000), Just(250_000_000_000)],
    ) {
        let mut observed = if sealed_before { sealed() } else { approved() };
        for (mishap, number) in mishaps {
            mishap(&mut observed, number);
        }
        // What was written is looked at again. It comes to rest, and never permits what was not permitted before.
        let mut written_before = false;
        for _ in 0..4 {
            let plan = decide(&observed, at(moment));
            prop_assert_eq!(&plan, &decide(&observed, at(moment)));
            match plan {
                Plan::Rest => return Ok(()),
                Plan::Grant { .. } => prop_assert!(!written_before, "a status that was written led to a grant"),
                Plan::Publish { status, wake: _ } if observed.request.status.as_ref() == Some(&status) => return Ok(()),
                Plan::Publish { status, wake: _ } => {
                    observed.request.status = Some(*status);
                    written_before = true;
                }
            }
        }
        prop_assert!(!written_before, "it goes on and on");
    }
}
