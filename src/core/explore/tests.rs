use super::*;

fn all_of(required: i32, words: usize, faults: u8) -> Found {
    let found = explore(Scene {
        required,
        words,
        faults,
        flaw: Flaw::None,
    });
    println!(
        "{required} of 2 must approve, at most {words} words, {faults} faults: {} states, {} transitions, at rest in {}",
        found.states, found.transitions, found.rests
    );
    if let Some(wrong) = &found.wrong {
        panic!("{wrong}");
    }
    found
}

fn found_with(flaw: Flaw) -> String {
    let scene = Scene {
        required: 1,
        words: 2,
        faults: 1,
        flaw,
    };
    explore(scene).wrong.expect("it is found")
}

#[test]
fn whoever_speaks_when_and_whoever_is_behind_access_is_as_approved_and_ends() {
    let found = all_of(1, 2, 0);
    assert!(found.states > 170_000 && found.transitions > 680_000, "{found:?}");
}

#[test]
fn whatever_call_fails_access_is_as_approved_and_ends() {
    let found = all_of(1, 1, 1);
    assert!(found.states > 40_000, "{found:?}");
}

#[test]
#[ignore = "half a minute: cargo test --lib explore -- --ignored --nocapture"]
fn where_two_must_approve_access_is_as_approved_and_ends() {
    all_of(2, 3, 0);
}

#[test]
#[ignore = "more than a million states, half a minute: cargo test --lib explore -- --ignored --nocapture"]
fn whoever_speaks_when_and_whatever_call_fails_access_is_as_approved_and_ends() {
    all_of(1, 2, 1);
}

#[test]
fn a_seal_that_asks_for_no_version_is_found() {
    let wrong = found_with(Flaw::SealsAtAnyVersion);
    assert!(wrong.contains("was sealed although"), "{wrong}");
}

#[test]
fn a_binding_before_the_seal_is_found() {
    let wrong = found_with(Flaw::BindsBeforeTheSeal);
    assert!(wrong.contains("without its seal"), "{wrong}");
}

#[test]
fn deafness_to_denials_is_found() {
    let wrong = found_with(Flaw::DeafToDenials);
    assert!(wrong.contains("was sealed although"), "{wrong}");
}

#[test]
fn an_end_that_is_said_before_the_binding_is_gone_is_found() {
    let wrong = found_with(Flaw::SaysEndedFirst);
    assert!(wrong.contains("while the binding"), "{wrong}");
}

#[test]
fn a_request_that_ends_with_its_grant_whatever_is_left_is_found() {
    let wrong = found_with(Flaw::EndsWithItsGrant);
    assert!(
        wrong.contains("the request says that it has ended while the binding"),
        "{wrong}"
    );
}

#[test]
fn a_binding_that_came_late_and_that_nobody_sweeps_is_found() {
    let wrong = found_with(Flaw::NeverSweeps);
    assert!(wrong.contains("I5"), "{wrong}");
}
