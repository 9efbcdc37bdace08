use super::*;
use crate::api::GrantedReview;
use crate::core::fixture::*;

/// Alice's access as it stands a second after it was bound, next to a binding that is somebody else's.
fn world() -> World {
    let seen = bound();
    let mut other = stored_binding(&seen.grant);
    other.metadata.name = Some("of-somebody".into());
    other.metadata.uid = Some("uid-of-somebodys".into());
    World {
        now: at(1),
        requests: seen.request.into_iter().collect(),
        grants: vec![seen.grant],
        bindings: seen
            .targets
            .into_iter()
            .flat_map(|seen| seen.binding)
            .chain([other])
            .collect(),
        policies: vec![policy("standard")],
    }
}

fn changed(change: impl FnOnce(&mut World)) -> World {
    let mut world = world();
    change(&mut world);
    world
}

fn ended(world: &mut World) {
    let status = world.grants[0].status.as_mut().unwrap();
    status.phase = Some(crate::api::GrantPhase::Ended);
}

fn found(world: &World) -> String {
    violated(world, Duration::zero()).join("; ")
}

fn found_between(before: &World, after: &World) -> String {
    violated_by(before, after).join("; ")
}

fn unsealed(world: &mut World) {
    world.requests[0].status.as_mut().unwrap().seal = None;
}

#[test]
fn an_access_as_it_should_be_violates_nothing() {
    let world = world();
    assert_eq!(found(&world), "");
    assert_eq!(found_between(&world, &world), "");
    assert_eq!(unfinished(&world), Vec::<String>::new());
    assert_eq!(touched(&world, &world), None);
    assert_eq!(found_between(&changed(unsealed), &world), "");
}

#[test]
fn a_binding_after_its_deadline_is_found_with_its_grant_and_without() {
    let late = changed(|world| world.now = at(1800));
    assert!(found(&late).starts_with("I1"), "{}", found(&late));
    assert!(violated(&late, Duration::seconds(2)).is_empty());
    let orphan = changed(|world| {
        world.now = at(1800);
        world.grants.clear();
    });
    assert!(found(&orphan).starts_with("I1"), "{}", found(&orphan));
}

#[test]
fn a_deadline_that_moves_is_found() {
    let moved = changed(|world| world.grants[0].metadata.creation_timestamp = Some(written(1)));
    assert!(found_between(&world(), &moved).contains("I1"));
    assert!(found(&moved).contains("I6"), "what is shown is another");
}

#[test]
fn a_grant_on_words_that_dont_carry_it_is_found() {
    let on = |words: Vec<Decision>| {
        changed(|world| {
            world.requests[0].spec.decisions.extend(words.clone());
            world.grants[0].spec.decisions = words;
        })
    };
    let offer = world().grants[0].spec.offer.clone();
    for words in [
        vec![],
        vec![approve("alice", &offer)],
        vec![approve("bob", "another")],
        vec![approve("bob", &offer), approve("bob", &offer)],
        vec![word(Verdict::Approve, "mallory", &["lead/User:mallory"], &offer)],
        vec![deny("bob")],
    ] {
        let world = on(words);
        assert!(found(&world).contains("I2"), "{:?}", world.grants[0].spec.decisions);
    }
    let made_up = changed(|world| world.grants[0].spec.decisions = vec![approve("carol", &offer)]);
    assert!(found(&made_up).contains("isn't on its request"));
}

#[test]
fn a_binding_without_a_seal_is_found() {
    assert!(found(&changed(unsealed)).contains("I2"));
}

#[test]
fn a_seal_over_a_denial_is_found_and_one_before_it_is_not() {
    let said = |word: Decision| move |world: &mut World| world.requests[0].spec.decisions.push(word);
    for word in [deny("carol"), revoke("carol"), withdraw()] {
        let sealed = changed(said(word.clone()));
        let before = changed(|world| {
            unsealed(world);
            said(word)(world);
        });
        assert!(found_between(&before, &sealed).contains("I2"));
        assert_eq!(found_between(&world(), &sealed), "", "the word came after the seal");
    }
    let nobody = changed(|world| {
        unsealed(world);
        world.requests[0].spec.decisions.clear();
    });
    assert!(found_between(&nobody, &world()).contains("before it was approved"));
}

#[test]
fn access_beyond_the_policy_is_found() {
    let spec: [fn(&mut World); 6] = [
        |world| world.grants[0].spec.cluster_wide = true,
        |world| world.grants[0].spec.duration = lasting("5h"),
        |world| world.grants[0].spec.role.name = "writer".into(),
        |world| world.grants[0].spec.targets[0].namespace = "team-b".into(),
        |world| world.grants[0].spec.requester = requester("mallory", &[]),
        |world| world.bindings[0].role_ref.name = "writer".into(),
    ];
    for change in spec {
        let world = changed(change);
        assert!(found(&world).contains("I3"), "{}", found(&world));
    }
}

#[test]
fn a_hand_on_somebody_elses_binding_is_found() {
    let gone = changed(|world| drop(world.bindings.pop()));
    assert!(touched(&world(), &gone).unwrap().starts_with("I4"));
    let ours_gone = changed(|world| drop(world.bindings.remove(0)));
    assert_eq!(touched(&world(), &ours_gone), None);
}

#[test]
fn what_is_over_and_stays_is_found_once_nothing_is_left_to_do() {
    let cases: [fn(&mut World); 5] = [
        |world| world.now = at(1800),
        |world| world.grants.clear(),
        |world| world.requests.clear(),
        |world| world.requests[0].spec.decisions.push(revoke("carol")),
        ended,
    ];
    for change in cases {
        assert!(!unfinished(&changed(change)).is_empty());
    }
}

#[test]
fn an_end_that_is_said_too_early_or_taken_back_is_found() {
    let early = changed(ended);
    assert!(found_between(&world(), &early).contains("I6"));
    let request = changed(|world| {
        world.requests[0].status.as_mut().unwrap().phase = Some(RequestPhase::Revoked);
    });
    assert!(found_between(&world(), &request).contains("I6"));
    assert!(found_between(&early, &world()).contains("had ended"));
    assert!(found_between(&request, &world()).contains("had ended"));
}

#[test]
fn a_second_grant_and_a_second_binding_are_found() {
    let grants = changed(|world| {
        let mut second = world.grants[0].clone();
        second.metadata.uid = Some("another".into());
        world.grants.push(second);
    });
    assert!(found(&grants).contains("two grants"));
    let bindings = changed(|world| world.bindings.push(world.bindings[0].clone()));
    assert!(found(&bindings).contains("two bindings"));
}

#[test]
fn an_access_beyond_a_limit_is_found_when_it_is_sealed() {
    let two = |limit: i32| {
        changed(|world| {
            world.policies[0].spec.limits = Some(crate::api::Limits {
                active_per_requester: Some(limit),
                pending_per_requester: None,
            });
            let digest = offer::policy_digest(&world.policies[0].spec);
            world.grants[0].spec.policy.digest = digest;
            let (mut request, mut grant) = (world.requests[0].clone(), world.grants[0].clone());
            request.metadata.uid = Some("uid-of-another".into());
            grant.metadata.uid = Some("uid-of-anothers".into());
            grant.spec.request.uid = "uid-of-another".into();
            request.status.as_mut().unwrap().seal.as_mut().unwrap().uid = "uid-of-anothers".into();
            world.requests.push(request);
            world.grants.push(grant);
        })
    };
    let before = |mut world: World| {
        world.requests[1].status.as_mut().unwrap().seal = None;
        world
    };
    assert!(found_between(&before(two(1)), &two(1)).contains("I3"));
    assert_eq!(found_between(&before(two(2)), &two(2)), "");
    assert_eq!(found_between(&two(1), &two(1)), "", "it was lowered afterwards");
    let mut first_ended = two(1);
    ended(&mut first_ended);
    assert_eq!(found_between(&before(first_ended.clone()), &first_ended), "");

    let extending = |uid: &str| {
        let mut world = two(1);
        world.grants[1].spec.extends = Some(crate::api::Extended {
            name: "the-other".into(),
            uid: uid.into(),
            since: written(0),
        });
        world
    };
    let first = world().grants[0].metadata.uid.clone().unwrap();
    let takes_over = extending(&first);
    assert_eq!(
        found_between(&before(takes_over.clone()), &takes_over),
        "",
        "it takes over from the first"
    );
    let another = extending("uid-of-a-third");
    assert!(
        found_between(&before(another.clone()), &another).contains("I3"),
        "the first is one besides"
    );
}

#[test]
fn a_seal_is_as_old_as_it_is_whatever_becomes_of_another() {
    let denied_later = changed(|world| {
        world.requests[0].spec.decisions.push(deny("carol"));
        let mut another = world.requests[0].clone();
        another.metadata.uid = Some("uid-of-another".into());
        another.status = None;
        world.requests.insert(0, another);
    });
    assert_eq!(found_between(&denied_later, &denied_later), "");
}

/// The policy of the world is another, and the grant was made under it.
fn under(change: impl FnOnce(&mut crate::api::AccessPolicySpec)) -> World {
    changed(|world| {
        change(&mut world.policies[0].spec);
        world.grants[0].spec.policy.digest = offer::policy_digest(&world.policies[0].spec);
    })
}

/// The words of the grant are these, and they are on its request.
fn on_the_word_of(mut world: World, words: Vec<Decision>) -> World {
    world.requests[0].spec.decisions.clone_from(&words);
    world.grants[0].spec.decisions = words;
    world
}

#[test]
fn a_policy_that_changed_since_is_no_measure_of_what_was_granted() {
    let too_long = changed(|world| world.grants[0].spec.duration = lasting("5h"));
    assert!(found(&too_long).contains("I3"));
    let mut changed_since = too_long.clone();
    changed_since.policies[0].spec.max_duration = lasting("3h");
    assert!(!found(&changed_since).contains("I3"));
    let mut another = too_long;
    another.policies[0].metadata.uid = Some("another".into());
    assert!(!found(&another).contains("I3"));
}

#[test]
fn access_on_too_few_words_in_any_stage_is_found() {
    let offer = world().grants[0].spec.offer.clone();
    let two = || {
        under(|spec| {
            let stage = |name: &str, people: &[&str]| Stage {
                name: name.into(),
                approvers: users(people),
                ..Stage::default()
            };
            let stages = vec![stage("lead", &["bob", "eve"]), stage("security", &["carol"])];
            spec.approval.as_mut().unwrap().stages = stages;
        })
    };
    let said = |who: &str, stage: &str| word(Verdict::Approve, who, &[&format!("{stage}/User:{who}")], &offer);
    let (bob, carol, eve) = (said("bob", "lead"), said("carol", "security"), said("eve", "lead"));
    assert_eq!(found(&on_the_word_of(two(), vec![bob.clone(), carol.clone()])), "");
    let alone = found(&on_the_word_of(two(), vec![bob.clone()]));
    assert!(alone.contains("rests on 1 people, and takes 2"), "{alone}");
    let one_sided = found(&on_the_word_of(two(), vec![bob, eve]));
    assert!(one_sided.contains("rests on 0 people in \"security\""), "{one_sided}");
}

#[test]
fn a_broken_glass_is_found_where_the_policy_has_none_or_somebody_approved() {
    let broken = |mut world: World| {
        world.grants[0].spec.break_glass = true;
        on_the_word_of(world, vec![])
    };
    let glass = || {
        under(|spec| {
            spec.approval = Some(crate::api::Approval {
                break_glass: Some(crate::api::BreakGlass {}),
                ..crate::api::Approval::default()
            });
        })
    };
    assert_eq!(found(&broken(glass())), "");
    assert!(found(&broken(world())).contains("I2"));
    let offer = world().grants[0].spec.offer.clone();
    let mut approved = broken(glass());
    approved.grants[0].spec.decisions = vec![approve("bob", &offer)];
    assert!(found(&approved).contains("I2"));
    let mut no_reason = broken(glass());
    no_reason.grants[0].spec.reason = None;
    assert!(found(&no_reason).contains("I2"), "{}", found(&no_reason));
}

#[test]
fn an_end_is_said_too_early_while_any_binding_of_the_grant_stands() {
    let unmarked = |mut world: World| {
        world.bindings[0].metadata.labels = None;
        world
    };
    let found_early = |world: World| {
        let mut early = world.clone();
        ended(&mut early);
        found_between(&world, &early)
    };
    assert!(found_early(unmarked(world())).contains("I6"), "it was recorded");
    let mut unrecorded = world();
    unrecorded.grants[0].status.as_mut().unwrap().bindings.clear();
    assert!(found_early(unrecorded.clone()).contains("I6"), "it bears the marks");
    assert_eq!(found_early(unmarked(unrecorded)), "", "it is somebody else's");
    let gone = changed(|world| drop(world.bindings.remove(0)));
    assert_eq!(found_early(gone), "", "somebody else's stands");
}

#[test]
fn an_end_is_said_too_early_while_a_binding_stands_whose_grant_was_deleted() {
    let deleted = || changed(|world| world.grants.clear());
    let told = |mut world: World| {
        world.requests[0].status.as_mut().unwrap().phase = Some(RequestPhase::Revoked);
        world
    };
    assert!(found_between(&deleted(), &told(deleted())).contains("I6: the request says"));
    let before = told(deleted());
    assert_eq!(found_between(&before, &before), "", "it was said before");
    let mut gone = deleted();
    gone.bindings.remove(0);
    assert_eq!(found_between(&deleted(), &told(gone)), "", "somebody else's stands");
    let mut of_another = deleted();
    let status = of_another.requests[0].status.as_mut().unwrap();
    status.seal.as_mut().unwrap().uid = "uid-of-another".into();
    assert_eq!(found_between(&of_another, &told(of_another.clone())), "");
}

/// The access of the world extends one that began so many seconds before.
fn extending(since: i64) -> World {
    let mut world = under(|spec| spec.max_total_duration = Some(lasting("1h")));
    world.grants[0].spec.extends = Some(crate::api::Extended {
        name: "grant-first".into(),
        uid: "uid-of-first".into(),
        since: written(since),
    });
    world
}

#[test]
fn an_access_that_is_longer_with_its_extensions_than_its_policy_allows_is_found() {
    assert_eq!(found(&extending(-1800)), "");
    assert!(found(&extending(-1801)).contains("I3"));
    let mut unbound = extending(-1801);
    unbound.bindings.clear();
    assert!(!found(&unbound).contains("I3"), "nothing is given");
}

#[test]
fn what_was_extended_and_stays_is_found_once_nothing_is_left_to_do() {
    let mut both = extending(-10);
    let (mut request, mut first) = (both.requests[0].clone(), both.grants[0].clone());
    request.metadata.uid = Some("uid-of-the-first".into());
    first.metadata.uid = Some("uid-of-first".into());
    first.metadata.name = Some("grant-first".into());
    first.spec.request.uid = "uid-of-the-first".into();
    first.spec.extends = None;
    request.status.as_mut().unwrap().seal.as_mut().unwrap().uid = "uid-of-first".into();
    both.requests.push(request);
    both.grants.push(first);
    let stays = unfinished(&both).join("; ");
    let other = both.grants[0].metadata.name.clone().unwrap();
    assert!(stays.contains("grant-first") && !stays.contains(&other), "{stays}");
    both.grants[0].status.as_mut().unwrap().phase = None;
    assert_eq!(unfinished(&both), Vec::<String>::new(), "it isn't bound yet");
}

#[test]
fn a_binding_before_its_start_is_found_but_for_the_second_by_which_clocks_differ() {
    let starting = |seconds: i64| changed(|world| world.grants[0].spec.start_time = Some(written(seconds)));
    assert!(found(&starting(3)).contains("I2"));
    assert!(!found(&starting(2)).contains("I2"), "the world is at 1");
    assert!(!found(&starting(0)).contains("I2"));
}

#[test]
fn a_word_that_is_gone_is_found() {
    let without = changed(|world| world.requests[0].spec.decisions.clear());
    let wrong = found_between(&world(), &without);
    assert!(
        wrong.contains("I2: a word that was spoken on the request fix is gone"),
        "{wrong}"
    );
    let more = changed(|world| world.requests[0].spec.decisions.push(withdraw()));
    assert_eq!(found_between(&world(), &more), "");
}

#[test]
fn a_word_of_somebody_whose_word_it_isnt_is_against_nothing() {
    for word in [
        word(Verdict::Revoke, "mallory", &[marks::VIA_REQUESTER], ""),
        word(Verdict::Revoke, "alice", &["*/User:alice"], ""),
        word(Verdict::Deny, "alice", &["*/User:alice", "*/Group:sre"], ""),
        word(Verdict::Deny, "mallory", &["*/User:mallory"], ""),
    ] {
        let said = |world: &mut World| world.requests[0].spec.decisions.push(word.clone());
        let sealed = changed(said);
        let before = changed(|world| {
            unsealed(world);
            said(world);
        });
        assert_eq!(found_between(&before, &sealed), "", "{word:?}");
        assert_eq!(unfinished(&sealed), Vec::<String>::new(), "{word:?}");
    }
    // A denial after the seal is no reason to end.
    let denied = changed(|world| world.requests[0].spec.decisions.push(deny("carol")));
    assert_eq!(unfinished(&denied), Vec::<String>::new());
}

#[test]
fn what_is_exactly_as_long_as_the_policy_allows_is_within_it() {
    assert_eq!(found(&under(|spec| spec.max_duration = lasting("30m"))), "");
    assert!(found(&under(|spec| spec.max_duration = lasting("29m"))).contains("I3"));
}

#[test]
fn a_request_that_doesnt_say_that_its_grant_has_ended_is_found_once_nothing_is_left_to_do() {
    let silent = changed(|world| {
        ended(world);
        world.bindings.truncate(0);
    });
    assert_eq!(
        unfinished(&silent),
        ["I5: the grant of the request fix has ended, and the request doesn't say so"]
    );
    let told = changed(|world| {
        ended(world);
        world.bindings.clear();
        world.requests[0].status.as_mut().unwrap().phase = Some(RequestPhase::Expired);
    });
    assert_eq!(unfinished(&told), Vec::<String>::new());
}

#[test]
fn curfews_own_binding_may_be_deleted_by_its_marks_or_because_it_was_recorded() {
    let gone = |mut before: World| {
        let mut after = before.clone();
        after.bindings.remove(0);
        before.now = at(1);
        touched(&before, &after)
    };
    let mut unrecorded = world();
    unrecorded.grants[0].status.as_mut().unwrap().bindings.clear();
    assert_eq!(gone(unrecorded.clone()), None, "it bears the marks");
    let mut unmarked = world();
    unmarked.bindings[0].metadata.labels = None;
    assert_eq!(gone(unmarked), None, "it was recorded");
    unrecorded.bindings[0].metadata.labels = None;
    assert!(gone(unrecorded).is_some(), "neither");
}

#[test]
fn an_end_of_another_grant_says_nothing_of_this_one() {
    let mut before = world();
    let mut another = before.grants[0].clone();
    another.metadata.uid = Some("uid-of-another".into());
    another.spec.request.uid = "uid-of-anothers-request".into();
    another.status.as_mut().unwrap().bindings.clear();
    before.grants.insert(0, another);
    let mut after = before.clone();
    after.grants[0].status.as_mut().unwrap().phase = Some(GrantPhase::Ended);
    assert_eq!(found_between(&before, &after), "");
    assert_eq!(found_between(&after, &after), "");
}

#[test]
fn what_is_wrong_is_told_by_name() {
    let late = changed(|world| world.now = at(1800));
    assert!(
        found(&late).contains("team-a/curfew-uid-of-grant-uid-of-fix"),
        "{}",
        found(&late)
    );
    let grant = changed(|world| world.grants[0].spec.duration = lasting("5h"));
    assert!(
        found(&grant).contains("the grant grant-uid-of-fix is beyond"),
        "{}",
        found(&grant)
    );
}

#[test]
fn a_review_that_nobody_who_may_has_said_is_found() {
    let reviewed = |change: fn(&mut Decision)| {
        changed(|world| {
            let mut review = word(Verdict::Review, "dave", &["review/User:dave"], "");
            change(&mut review);
            world.requests[0].spec.decisions.push(review.clone());
            let grant = &mut world.grants[0];
            grant.spec.review = Some(GrantedReview {
                reviewers: Reviewers {
                    users: strings(&["dave", "alice"]),
                    groups: vec![],
                },
                within: lasting("1h"),
                require_direct: false,
            });
            grant.status.get_or_insert_default().review = Some(review);
        })
    };
    let well = reviewed(|_| {});
    assert_eq!(found(&well), "");
    let lies: [fn(&mut Decision); 4] = [
        |word| word.username = "mallory".into(),
        |word| word.verdict = Verdict::Approve,
        |word| word.via = strings(&["*/User:dave"]),
        |word| {
            word.username = "alice".into();
            word.via = strings(&["review/User:alice"]);
        },
    ];
    for lie in lies {
        assert!(found(&reviewed(lie)).contains("I6"));
    }
    let mut unsaid = well.clone();
    unsaid.requests[0].spec.decisions.pop();
    assert!(found(&unsaid).contains("I6"), "nobody has said it");
    unsaid.requests.clear();
    assert!(
        !found(&unsaid).contains("has reviewed it"),
        "the record outlives its request"
    );
}
