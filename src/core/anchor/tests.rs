use serde_json::json;

use super::*;
use crate::core::fixture::{anchor, anchor_seen, at, metadata, written};

/// The one of the fixture, two hours away.
fn until() -> Until {
    Until::named(&anchor().name).unwrap()
}

#[test]
fn an_anchor_ends_at_the_end_of_a_minute_and_leaves_time_to_create_the_grant() {
    for (deadline, end) in [
        (0, 60),
        (1, 60),
        (54, 60),
        (55, 60),
        (56, 120),
        (60, 120),
        (115, 120),
        (116, 180),
    ] {
        assert_eq!(Until::serving(at(deadline)).unwrap().moment(), at(end), "{deadline}");
    }
    assert_eq!(Until::serving(DateTime::<Utc>::MAX_UTC), None);
}

#[test]
fn a_name_says_until_when_and_other_names_say_nothing() {
    let until = until();
    assert_eq!(until.name(), "curfew-until-20270115t0831z");
    assert_eq!(Until::named(&until.name()), Some(until));
    for other in [
        "curfew-until-",
        "curfew-until-20271315t0802z",
        "curfew-x",
        "until-20270115t0802z",
        "",
    ] {
        assert_eq!(Until::named(other), None, "{other}");
    }
}

#[test]
fn its_job_never_makes_a_pod_and_ends_at_the_end_of_its_minute() {
    let spec = job(until(), at(0)).spec.unwrap();
    assert_eq!((spec.parallelism, spec.ttl_seconds_after_finished), (Some(0), Some(0)));
    assert_eq!(spec.active_deadline_seconds, Some(1860));
    assert_eq!(job(until(), at(8000)).spec.unwrap().active_deadline_seconds, Some(1));
}

/// What admission lets the operator make, and nothing else: the policy `curfew-anchors` says the same.
#[test]
fn its_job_and_its_service_are_these_to_the_letter() {
    let marks = json!({
        "name": "curfew-until-20270115t0831z",
        "labels": {"curfew.dev/anchor": "true", "app.kubernetes.io/managed-by": "curfew"},
        "annotations": {"curfew.dev/deadline": "2027-01-15T08:31:00Z"},
    });
    let mut owned = marks.clone();
    owned["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "curfew-until-20270115t0831z", "uid": "uid-of-the-job"}]);
    assert_eq!(
        serde_json::to_value(job(until(), at(0))).unwrap(),
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": marks, "spec": {
            "parallelism": 0, "completions": 1, "backoffLimit": 0, "activeDeadlineSeconds": 1860, "ttlSecondsAfterFinished": 0,
            "template": {"spec": {
                "containers": [{"name": "never", "image": "never.invalid/run"}], "restartPolicy": "Never", "automountServiceAccountToken": false,
            }},
        }})
    );
    assert_eq!(
        serde_json::to_value(service(until(), "uid-of-the-job")).unwrap(),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": owned, "spec": {"type": "ClusterIP", "ports": [{"port": 9}]}})
    );
}

fn stored() -> Job {
    anchor_seen().job.unwrap()
}

#[test]
fn a_job_is_armed_when_its_clock_runs() {
    assert_eq!(judge_job(&stored(), until()), JobState::Armed);
    let waiting = Job {
        status: None,
        ..stored()
    };
    assert_eq!(judge_job(&waiting, until()), JobState::NotStarted);
}

/// A way to spoil an object.
type Spoil<K> = (&'static str, fn(&mut K));

#[test]
fn a_job_that_would_not_be_gone_in_time_is_broken_however_that_was_done() {
    let spoilt: [Spoil<Job>; 11] = [
        ("owned", |job| {
            job.metadata.owner_references = Some(vec![owner("v1", "ConfigMap", "x".into(), "uid-of-x")]);
        }),
        ("suspended", |job| job.spec.as_mut().unwrap().suspend = Some(true)),
        ("extended", |job| {
            job.spec.as_mut().unwrap().active_deadline_seconds = Some(8000)
        }),
        ("without a deadline", |job| {
            job.spec.as_mut().unwrap().active_deadline_seconds = None
        }),
        ("kept", |job| {
            job.spec.as_mut().unwrap().ttl_seconds_after_finished = Some(60)
        }),
        ("kept for ever", |job| {
            job.spec.as_mut().unwrap().ttl_seconds_after_finished = None
        }),
        ("running", |job| job.spec.as_mut().unwrap().parallelism = Some(1)),
        ("another's", |job| {
            job.spec.as_mut().unwrap().managed_by = Some("kueue".into())
        }),
        ("being orphaned", |job| {
            job.metadata.deletion_timestamp = Some(written(5))
        }),
        ("held", |job| job.metadata.finalizers = Some(vec!["x/y".into()])),
        ("started late", |job| {
            job.status.as_mut().unwrap().start_time = Some(written(6))
        }),
    ];
    for (how, spoil) in spoilt {
        let mut job = stored();
        spoil(&mut job);
        assert!(matches!(judge_job(&job, until()), JobState::Broken(_)), "{how}");
        let seen = Seen {
            job: Some(job),
            ..anchor_seen()
        };
        assert!(broken(&anchor(), &seen).is_some(), "{how}");
    }
}

#[test]
fn a_few_seconds_more_are_the_grace_and_a_few_less_end_no_access_sooner() {
    let started = |seconds: i64| {
        let mut job = stored();
        job.status.as_mut().unwrap().start_time = Some(written(seconds));
        judge_job(&job, until())
    };
    assert_eq!((started(5), started(-4)), (JobState::Armed, JobState::Armed));
    assert!(EARLY < MARGIN);
    assert!(matches!(
        (started(6), started(-5)),
        (JobState::Broken(_), JobState::Broken(_))
    ));
}

#[test]
fn a_service_that_would_not_go_with_its_job_is_broken() {
    let spoilt: [Spoil<Service>; 7] = [
        ("orphaned", |service| service.metadata.owner_references = None),
        ("another's", |service| {
            service.metadata.owner_references.as_mut().unwrap()[0].uid = "other".into()
        }),
        ("shared", |service| {
            let owners = service.metadata.owner_references.as_mut().unwrap();
            owners.push(owners[0].clone());
        }),
        ("held", |service| service.metadata.finalizers = Some(vec!["x/y".into()])),
        ("going", |service| {
            service.metadata.deletion_timestamp = Some(written(5))
        }),
        ("external", |service| {
            service.spec.as_mut().unwrap().type_ = Some("ExternalName".into())
        }),
        ("headless", |service| {
            service.spec.as_mut().unwrap().cluster_ip = Some("None".into())
        }),
    ];
    for (how, spoil) in spoilt {
        let mut service = anchor_seen().service.unwrap();
        spoil(&mut service);
        assert!(judge_service(&service, "uid-of-the-job").is_err(), "{how}");
        let seen = Seen {
            service: Some(service),
            ..anchor_seen()
        };
        assert!(broken(&anchor(), &seen).is_some(), "{how}");
    }
}

#[test]
fn an_anchor_is_whole_only_while_the_very_job_and_address_are_there() {
    assert_eq!(broken(&anchor(), &anchor_seen()), None);
    assert!(broken(&anchor(), &Seen::default()).is_some());
    let mut replaced = anchor_seen();
    replaced.job.as_mut().unwrap().metadata.uid = Some("another".into());
    assert!(broken(&anchor(), &replaced).is_some());
    let mut moved = anchor_seen();
    moved.service.as_mut().unwrap().spec.as_mut().unwrap().cluster_ip = Some("10.0.0.8".into());
    assert!(broken(&anchor(), &moved).is_some());
}

#[test]
fn an_anchor_did_its_part_when_its_service_is_gone_and_its_job_is_going() {
    let mut going = stored();
    going.metadata.deletion_timestamp = Some(written(1));
    let seen = |job, service| Seen { job, service };
    assert!(did_its_part(&seen(Some(going.clone()), None)));
    assert!(did_its_part(&seen(None, None)));
    assert!(!did_its_part(&seen(Some(stored()), None)), "nobody began with it");
    assert!(!did_its_part(&seen(Some(going), anchor_seen().service)));
}

#[test]
fn an_address_is_trusted_only_as_the_services_own() {
    let service = anchor_seen().service.unwrap();
    let address = |name: &str| IPAddress {
        metadata: metadata("10.0.0.7"),
        spec: Some(k8s_openapi::api::networking::v1::IPAddressSpec {
            parent_ref: k8s_openapi::api::networking::v1::ParentReference {
                group: None,
                name: name.into(),
                namespace: Some("curfew-system".into()),
                resource: "services".into(),
            },
        }),
    };
    let own = service.metadata.name.clone().unwrap();
    assert_eq!(judge_address(&address(&own), &service), None);
    assert!(judge_address(&address("another"), &service).is_some());
    let mut held = address(&own);
    held.metadata.finalizers = Some(vec!["x/y".into()]);
    assert!(judge_address(&held, &service).is_some());
}

#[test]
fn an_anchor_is_taken_away_when_nothing_has_hung_on_it_for_a_while_or_when_it_is_overdue() {
    let kept = |used, now| upkeep(&stored(), until(), false, used, None, at(now));
    assert_eq!(kept(None, 10), Upkeep::Keep { until: at(120) });
    assert_eq!(kept(None, 120), Upkeep::Idle);
    assert_eq!(kept(Some(at(100)), 120), Upkeep::Keep { until: at(220) });
    assert_eq!(kept(Some(at(1860)), 1889), Upkeep::Keep { until: at(1890) });
    assert_eq!(kept(Some(at(1890)), 1890), Upkeep::Overdue);
}

#[test]
fn an_anchor_on_which_nothing_can_hang_makes_way_for_another_at_once() {
    let mut late = stored();
    late.status.as_mut().unwrap().start_time = Some(written(6));
    assert!(matches!(judge_job(&late, until()), JobState::Broken(_)));
    let kept = |job: &Job, hangs, now| upkeep(job, until(), hangs, Some(at(now)), None, at(now));
    assert_eq!(kept(&late, false, 7), Upkeep::Unfit);
    assert_eq!(
        kept(&late, true, 7),
        Upkeep::Keep { until: at(127) },
        "that grant ends first"
    );
    assert_eq!(kept(&stored(), false, 7), Upkeep::Keep { until: at(127) });
    let mut going = stored();
    going.metadata.deletion_timestamp = Some(written(1856));
    assert_eq!(kept(&going, false, 1857), Upkeep::Keep { until: at(1890) });
    assert_eq!(
        kept(&late, false, 1860),
        Upkeep::Keep { until: at(1890) },
        "it goes by itself"
    );
}

#[test]
fn an_anchor_that_should_be_gone_is_given_as_long_again_from_when_that_was_noticed() {
    let far = Until::serving(at(3600)).unwrap();
    // Whoever was paused until then learns of it late.
    let kept = |now| upkeep(&stored(), far, false, Some(at(3600)), Some(at(4000)), at(now));
    assert_eq!(kept(4000), Upkeep::Keep { until: at(4030) });
    assert_eq!(kept(4029), Upkeep::Keep { until: at(4030) });
    assert_eq!(kept(4030), Upkeep::Stale);
}
