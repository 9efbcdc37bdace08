//! Against an API server of a few lines, for what a real one hardly ever does.

use axum::Router;
use axum::http::{Method, StatusCode, Uri, header};
use k8s_openapi::api::networking::v1::{IPAddressSpec, ParentReference};
use kube::core::ObjectMeta;
use kube::runtime::reflector::store;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::core::fixture::{anchor, anchor_seen, at, metadata};

const HOME: &str = "curfew-system";

/// The one of the fixture.
fn until() -> Until {
    Until::named(&anchor().name).unwrap()
}

/// Of an API server that answers so to a call, by its method and its path.
fn anchors(answer: fn(&Method, &str) -> (StatusCode, Value)) -> Anchors {
    let server = Router::new().fallback(async move |method: Method, uri: Uri| {
        let (code, body) = answer(&method, uri.path());
        (code, [(header::CONTENT_TYPE, "application/json")], body.to_string())
    });
    Anchors::new(Client::new(server, HOME), HOME.into(), store().0, store().0)
}

fn refused(code: StatusCode) -> (StatusCode, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16()});
    (code, status)
}

#[tokio::test]
async fn an_api_server_that_has_too_much_to_do_is_asked_again_at_once() {
    let anchors = anchors(|method, _| match *method {
        Method::GET => refused(StatusCode::NOT_FOUND),
        _ => refused(StatusCode::SERVICE_UNAVAILABLE),
    });
    let error = anchors.arm(until(), at(0)).await.unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(anchors.at_hand(until(), at(0)), None, "nobody waits for it");
}

#[tokio::test]
async fn an_anchor_whose_address_somebody_holds_is_not_trusted() {
    let anchors = anchors(|_, path| {
        let seen = anchor_seen();
        let found = match path.rsplit('/').nth(1) {
            Some("jobs") => serde_json::to_value(seen.job),
            Some("ipaddresses") => serde_json::to_value(held_address(&anchor().name)),
            _ => serde_json::to_value(seen.service),
        };
        (StatusCode::OK, found.unwrap())
    });
    anchors.arm(until(), at(0)).await.unwrap();
    let Some(Err(NoAnchor(why))) = anchors.at_hand(until(), at(0)) else {
        panic!("it is trusted");
    };
    assert!(why.ends_with("somebody put a finalizer on it"), "{why}");
}

#[tokio::test]
async fn for_ten_minutes_after_one_that_was_not_taken_away_no_anchor_is_trusted_however_well_armed() {
    let anchors = anchors(|_, _| refused(StatusCode::NOT_FOUND));
    anchors.distrust(until(), at(0));
    for (seconds, is_distrusted) in [(0, true), (599, true), (600, false)] {
        let at_hand = anchors.at_hand(until(), at(seconds));
        assert_eq!(matches!(at_hand, Some(Err(_))), is_distrusted, "after {seconds} s");
    }
}

fn held_address(service: &str) -> IPAddress {
    let mut address = IPAddress {
        metadata: metadata("10.0.0.7"),
        spec: Some(IPAddressSpec {
            parent_ref: ParentReference {
                group: None,
                name: service.into(),
                namespace: Some(HOME.into()),
                resource: "services".into(),
            },
        }),
    };
    address.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    address
}

#[tokio::test]
async fn what_is_only_made_ahead_takes_no_more_than_half_of_all_anchors() {
    let (jobs, mut writer) = store();
    let client = Client::new(Router::new(), HOME);
    let anchors = Anchors::new(client, HOME.into(), jobs, store().0);
    let until = |minute: usize| Until::serving(at(60 * i64::try_from(minute).unwrap())).unwrap();
    for minute in 0..LIMIT / 2 {
        assert!(anchors.have_room_ahead(until(minute)), "{minute}");
        let metadata = ObjectMeta {
            namespace: Some(HOME.into()),
            ..metadata(&until(minute).name())
        };
        writer.apply_watcher_event(&Event::Apply(Job {
            metadata,
            ..Job::default()
        }));
    }
    assert!(!anchors.have_room_ahead(until(LIMIT)));
    assert!(anchors.have_room_ahead(until(0)), "it is there");
}
