use super::*;
use crate::api::{LabelSelector, RoleKind, RoleReference};
use crate::core::fixture::*;
use crate::core::policy::tests::changed;

fn scope(policy: &AccessPolicySpec, spec: &AccessRequestSpec, who: &Requester, targets: &[NamespaceFacts]) -> String {
    let ask = Ask {
        spec,
        requester: who,
        targets,
    };
    out_of_scope(policy, ask)
        .map(|obstacle| obstacle.reason.to_owned())
        .unwrap_or_default()
}

#[test]
fn only_those_who_are_named_may_ask() {
    let table = [
        ("", requester("alice", &[])),
        ("", requester("zoe", &["dev"])),
        ("NotARequester", requester("zoe", &[])),
        ("NotARequester", requester("Alice", &["Dev", " dev", "alice"])),
        ("NotARequester", requester("dev", &["alice"])),
        ("NotARequester", requester("system:serviceaccount:ci:bot", &["dev"])),
    ];
    for (expected, who) in table {
        assert_eq!(
            scope(&policy_spec(), &request_spec(), &who, &[namespace("team-a")]),
            expected,
            "{who:?}"
        );
    }
}

#[test]
fn only_the_named_roles_may_be_asked_for() {
    let table = [
        ("", cluster_role("reader")),
        ("RoleNotInPolicy", cluster_role("reader2")),
        (
            "RoleNotInPolicy",
            RoleReference {
                kind: RoleKind::Role,
                name: "reader".into(),
            },
        ),
        ("RoleNotInPolicy", cluster_role("*")),
    ];
    for (expected, role) in table {
        let spec = AccessRequestSpec { role, ..request_spec() };
        let alice = requester("alice", &[]);
        assert_eq!(
            scope(&policy_spec(), &spec, &alice, &[namespace("team-a")]),
            expected,
            "{}",
            spec.role
        );
    }
}

#[test]
fn every_namespace_must_be_named_or_selected() {
    let named = policy_spec();
    let selected = changed(|spec| {
        let selector = LabelSelector {
            match_labels: labels(&[("team", "a")]),
            ..LabelSelector::default()
        };
        spec.namespaces = Some(Namespaces {
            names: vec![],
            selector: Some(selector),
        });
    });
    let nothing = changed(|spec| spec.namespaces = None);
    let unlabelled = |name| NamespaceFacts {
        labels: labels(&[]),
        ..namespace(name)
    };
    let table = [
        ("", &named, vec![unlabelled("team-a")]),
        ("NamespaceNotInPolicy", &named, vec![namespace("team-b")]),
        (
            "NamespaceNotInPolicy",
            &named,
            vec![namespace("team-a"), namespace("team-b")],
        ),
        ("", &selected, vec![namespace("team-b")]),
        ("NamespaceNotInPolicy", &selected, vec![unlabelled("team-a")]),
        ("NamespaceNotInPolicy", &nothing, vec![namespace("team-a")]),
    ];
    for (index, (expected, policy, targets)) in table.into_iter().enumerate() {
        assert_eq!(
            scope(policy, &request_spec(), &requester("alice", &[]), &targets),
            expected,
            "row {index}"
        );
    }
}

#[test]
fn a_duration_is_the_requests_or_the_policys_and_never_above_the_maximum() {
    type Row = (
        Result<&'static str, &'static str>,
        Option<&'static str>,
        Option<&'static str>,
        &'static str,
    );
    let table: &[Row] = &[
        (Ok("30m"), Some("30m"), Some("1h"), "4h"),
        (Ok("4h"), Some("4h"), None, "4h"),
        (Ok("240m"), Some("240m"), None, "4h"),
        (Ok("1h"), None, Some("1h"), "4h"),
        (Err("DurationTooLong"), Some("4h1s"), None, "4h"),
        (Err("DurationTooLong"), None, Some("5h"), "4h"),
        (Err("DurationMissing"), None, None, "4h"),
        (Err("InvalidDuration"), Some("0s"), None, "4h"),
        (Err("InvalidDuration"), Some("-1h"), None, "4h"),
        (Err("InvalidDuration"), Some("1h"), None, "for ever"),
    ];
    for (expected, asked, default, max) in table {
        let policy = AccessPolicySpec {
            max_duration: lasting(max),
            default_duration: default.map(lasting),
            ..policy_spec()
        };
        let spec = AccessRequestSpec {
            duration: asked.map(lasting),
            ..request_spec()
        };
        let got = duration(&policy, &spec)
            .map(GoDuration::as_str)
            .map_err(|obstacle| obstacle.reason);
        assert_eq!(got, *expected, "{asked:?} {default:?} {max}");
    }
}

#[test]
fn a_reason_is_asked_for_matched_and_hinted_at() {
    let table = [
        ("", false, None, None),
        ("ReasonMissing", true, None, None),
        ("ReasonMissing", true, None, Some("")),
        ("ReasonMissing", true, None, Some(" \n\t")),
        ("", true, None, Some("x")),
        ("ReasonMissing", false, Some("^OPS-[0-9]+$"), None),
        ("", false, Some("^OPS-[0-9]+$"), Some("OPS-1")),
        ("", false, Some("^OPS-[0-9]+$"), Some(" OPS-1\n")),
        ("", false, Some("OPS-[0-9]+"), Some("because of OPS-1, urgently")),
        ("ReasonMismatch", false, Some("^OPS-[0-9]+$"), Some("OPS-1\nand more")),
        ("ReasonMismatch", false, Some("^OPS-[0-9]+$"), Some("ops-1")),
        ("InvalidPattern", false, Some("["), Some("OPS-1")),
    ];
    for (expected, required, pattern, given) in table {
        let hint = Some("a ticket".to_owned());
        let rule = ReasonRule {
            required,
            pattern: pattern.map(str::to_owned),
            hint,
        };
        let policy = AccessPolicySpec {
            reason: Some(rule),
            ..policy_spec()
        };
        let spec = AccessRequestSpec {
            reason: given.map(str::to_owned),
            ..request_spec()
        };
        let obstacle = out_of_bounds(&policy, &spec);
        let reason = obstacle.as_ref().map(|obstacle| obstacle.reason).unwrap_or_default();
        assert_eq!(reason, expected, "{required} {pattern:?} {given:?}");
        if reason.starts_with("ReasonM") {
            assert!(obstacle.unwrap().message.contains("a ticket"));
        }
    }
}

#[test]
fn a_pattern_made_to_take_for_ever_does_not() {
    let rule = ReasonRule {
        pattern: Some("^(a+)+$".into()),
        ..ReasonRule::default()
    };
    let reason = "a".repeat(1023) + "b";
    assert_eq!(flaw_of_reason(&rule, Some(&reason)).unwrap().reason, "ReasonMismatch");
    let huge = ReasonRule {
        pattern: Some("(((a{1000}){1000}){1000})".into()),
        ..ReasonRule::default()
    };
    assert_eq!(flaw_of_reason(&huge, Some(&reason)).unwrap().reason, "InvalidPattern");
}

#[test]
fn kubernetes_and_curfew_themselves_are_out_of_reach() {
    let table = [
        ("", "alice", "team-a"),
        ("", "system:serviceaccount:ci:bot", "team-a"),
        ("ProtectedSubject", "system:admin", "team-a"),
        ("ProtectedSubject", "system:node:n1", "team-a"),
        ("ProtectedSubject", "", "team-a"),
        ("ProtectedSubject", "system:serviceaccount:kube-system:x", "team-a"),
        (
            "ProtectedSubject",
            "system:serviceaccount:curfew-system:operator",
            "team-a",
        ),
        ("ProtectedNamespace", "alice", "kube-system"),
        ("ProtectedNamespace", "alice", "kube-anything"),
        ("ProtectedNamespace", "alice", "curfew-system"),
        ("", "alice", "curfew-system-2"),
    ];
    for (expected, who, target) in table {
        let obstacle = protected(&observed().home, &requester(who, &[]), &[namespace(target)]);
        assert_eq!(
            obstacle.map(|obstacle| obstacle.reason).unwrap_or_default(),
            expected,
            "{who:?} {target}"
        );
    }
    let second = protected(
        &observed().home,
        &requester("alice", &[]),
        &[namespace("a"), namespace("kube-public")],
    );
    assert_eq!(second.unwrap().reason, "ProtectedNamespace");
}
