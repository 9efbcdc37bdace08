//! What the API server in memory and a real one have in common, as far as Curfew relies on it: each test is played on both.
//!
//! Each has a namespace of its own. Nothing here knows which of the two it is talking to.

use std::time::Duration;

use curfew::api::{AccessRequest, AccessRequestStatus, RequestPhase, marks};
use curfew::cluster::anchor::Anchors;
use curfew::core::anchor::{Until, owner_of_bindings};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::networking::v1::IPAddress;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams};
use kube::core::Status;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Error, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An API server, and a namespace in it.
pub struct There {
    pub client: Client,
    pub namespace: String,
    /// Makes the API server forget what was before, where that can be done.
    pub forget: Box<dyn Fn() + Send + Sync>,
}

pub type Contract = (&'static str, fn(There) -> BoxFuture<'static, ()>);

macro_rules! contracts {
    ($($name:ident),* $(,)?) => {
        /// All of them.
        pub fn all() -> Vec<Contract> {
            vec![$((stringify!($name), |there| $name(there).boxed())),*]
        }
    };
}

contracts![
    what_is_made_has_a_uid_a_version_and_the_second_in_which_it_was_made,
    a_name_is_given_once,
    what_isnt_there_is_not_found,
    a_write_at_an_old_version_is_a_conflict_and_changes_nothing,
    a_status_is_written_apart_from_the_rest,
    a_generation_counts_what_is_specified,
    what_is_written_as_it_was_stays_at_its_version,
    a_delete_of_another_uid_is_a_conflict,
    what_is_deleted_is_gone_at_once,
    a_finalizer_holds_what_is_deleted_until_it_is_taken_off,
    a_patch_at_another_version_is_a_conflict_and_of_another_uid_invalid,
    a_dry_run_stores_nothing,
    a_list_has_what_bears_the_label,
    a_watch_tells_what_happened_since_a_version_in_order,
    a_label_that_comes_or_goes_is_told_as_an_object_that_does,
    a_watch_for_a_name_tells_of_no_other,
    a_watch_ends_when_its_time_is_up,
    a_watch_from_before_what_is_remembered_is_told_so,
    nothing_is_made_in_a_namespace_that_isnt_there,
    metadata_alone_is_answered_when_asked_for,
    a_cluster_ip_is_an_object_that_goes_with_its_service,
    what_hangs_on_an_anchor_goes_when_its_jobs_time_is_up,
    what_has_no_owner_any_more_goes,
    a_namespace_that_is_deleted_takes_all_with_it,
];

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl There {
    fn requests(&self) -> Api<AccessRequest> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn bindings(&self) -> Api<RoleBinding> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

fn how() -> PostParams {
    PostParams::default()
}

fn read<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

fn request(name: &str) -> AccessRequest {
    read(json!({
        "apiVersion": "curfew.dev/v1alpha1", "kind": "AccessRequest", "metadata": {"name": name},
        "spec": {"role": {"kind": "Role", "name": "viewer"}, "requester": {"username": "alice"}},
    }))
}

fn binding(name: &str, labels: Value) -> RoleBinding {
    read(json!({
        "metadata": {"name": name, "labels": labels},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}, "subjects": [],
    }))
}

fn pending() -> AccessRequestStatus {
    AccessRequestStatus {
        phase: Some(RequestPhase::Pending),
        ..AccessRequestStatus::default()
    }
}

/// Why it was refused.
fn refused<T: std::fmt::Debug>(answer: kube::Result<T>) -> (u16, String) {
    match answer {
        Err(Error::Api(status)) => {
            let Status { code, reason, .. } = *status;
            (code, reason)
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn conflict() -> (u16, String) {
    (409, "Conflict".to_owned())
}

fn gone() -> (u16, String) {
    (404, "NotFound".to_owned())
}

fn version(object: &impl ResourceExt) -> u64 {
    object.resource_version().unwrap().parse().unwrap()
}

fn only(uid: Option<String>) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::background()
    }
}

/// Waits until an object is gone.
async fn goes<K>(api: &Api<K>, name: &str)
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    comes_to(api, name, |found| found.is_none()).await;
}

/// Waits until this is true of an object.
async fn comes_to<K>(api: &Api<K>, name: &str, condition: impl Fn(Option<&K>) -> bool)
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let waiting = tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, condition));
    waiting
        .await
        .unwrap_or_else(|_| panic!("{name} doesn't come to it"))
        .unwrap();
}

async fn what_is_made_has_a_uid_a_version_and_the_second_in_which_it_was_made(there: There) {
    let mut asked = request("one");
    asked.status = Some(pending());
    let made = there.requests().create(&how(), &asked).await.unwrap();
    assert!(made.uid().is_some_and(|uid| uid.len() == 36) && version(&made) > 0);
    assert_eq!(
        (made.metadata.generation, &made.status),
        (Some(1), &None),
        "no status is made"
    );
    let created = made.metadata.creation_timestamp.clone().unwrap();
    assert_eq!(created.0.subsec_nanosecond(), 0);
    assert_eq!(there.requests().get("one").await.unwrap(), made);
    let other = there.requests().create(&how(), &request("other")).await.unwrap();
    assert!(version(&other) > version(&made) && other.uid() != made.uid());
}

async fn a_name_is_given_once(there: There) {
    there
        .bindings()
        .create(&how(), &binding("one", json!({})))
        .await
        .unwrap();
    let again = there
        .bindings()
        .create(&how(), &binding("one", json!({"other": "one"})))
        .await;
    assert_eq!(refused(again), (409, "AlreadyExists".to_owned()));
}

async fn what_isnt_there_is_not_found(there: There) {
    let (requests, none) = (there.requests(), "none");
    let mut object = request(none);
    object.metadata.resource_version = Some("1".into());
    assert_eq!(refused(requests.get(none).await), gone());
    assert_eq!(refused(requests.replace(none, &how(), &object).await), gone());
    assert_eq!(refused(requests.replace_status(none, &how(), &object).await), gone());
    assert_eq!(refused(requests.delete(none, &only(None)).await), gone());
    let patched = requests
        .patch(
            none,
            &PatchParams::default(),
            &Patch::Merge(json!({"metadata": {"labels": {}}})),
        )
        .await;
    assert_eq!(refused(patched), gone());
}

async fn a_write_at_an_old_version_is_a_conflict_and_changes_nothing(there: There) {
    let requests = there.requests();
    let first = requests.create(&how(), &request("one")).await.unwrap();
    let mut next = first.clone();
    next.metadata.labels = Some([("by".to_owned(), "another".to_owned())].into());
    let second = requests.replace("one", &how(), &next).await.unwrap();
    let with_status = AccessRequest {
        status: Some(pending()),
        ..first.clone()
    };
    assert_eq!(refused(requests.replace("one", &how(), &first).await), conflict());
    assert_eq!(
        refused(requests.replace_status("one", &how(), &with_status).await),
        conflict()
    );
    assert_eq!(requests.get("one").await.unwrap(), second);
    let mut of_another = second.clone();
    of_another.metadata.uid = Some("00000000-0000-4000-8000-999999999999".into());
    assert_eq!(refused(requests.replace("one", &how(), &of_another).await), conflict());
}

async fn a_status_is_written_apart_from_the_rest(there: There) {
    let requests = there.requests();
    let first = requests.create(&how(), &request("one")).await.unwrap();
    let mut next = AccessRequest {
        status: Some(pending()),
        ..first.clone()
    };
    next.metadata.labels = Some([("with".to_owned(), "it".to_owned())].into());
    let written = requests.replace_status("one", &how(), &next).await.unwrap();
    assert_eq!((&written.status, &written.spec), (&Some(pending()), &first.spec));
    assert_eq!(
        (written.metadata.generation, &written.metadata.labels),
        (Some(1), &None)
    );
    assert!(version(&written) > version(&first));
    let mut without = AccessRequest {
        status: None,
        ..written.clone()
    };
    without.metadata.labels = Some([("with".to_owned(), "it".to_owned())].into());
    let written = requests.replace("one", &how(), &without).await.unwrap();
    assert_eq!(
        (written.status, written.metadata.labels),
        (Some(pending()), without.metadata.labels)
    );
}

async fn a_generation_counts_what_is_specified(there: There) {
    let policies = Api::<ValidatingAdmissionPolicy>::all(there.client.clone());
    let name = there.namespace.as_str();
    let policy: ValidatingAdmissionPolicy = read(json!({
        "metadata": {"name": name},
        "spec": {"failurePolicy": "Ignore", "validations": [{"expression": "true"}], "matchConstraints": {"resourceRules": [
            {"apiGroups": ["none.example.com"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["nothing"]},
        ]}},
    }));
    let first = policies.create(&how(), &policy).await.unwrap();
    let label = Patch::Merge(json!({"metadata": {"labels": {"some": "label"}}}));
    let labelled = policies.patch(name, &PatchParams::default(), &label).await.unwrap();
    let other = Patch::Merge(json!({"spec": {"validations": [{"expression": "1 == 1"}]}}));
    let changed = policies.patch(name, &PatchParams::default(), &other).await.unwrap();
    let generations = [first, labelled, changed].map(|policy| policy.metadata.generation);
    policies.delete(name, &only(None)).await.unwrap();
    assert_eq!(generations, [Some(1), Some(1), Some(2)]);
}

async fn what_is_written_as_it_was_stays_at_its_version(there: There) {
    let first = there.requests().create(&how(), &request("one")).await.unwrap();
    let next = AccessRequest {
        status: Some(pending()),
        ..first
    };
    let written = there.requests().replace_status("one", &how(), &next).await.unwrap();
    let again = there.requests().replace_status("one", &how(), &written).await.unwrap();
    assert_eq!(version(&written), version(&again));
}

async fn a_delete_of_another_uid_is_a_conflict(there: There) {
    let made = there
        .bindings()
        .create(&how(), &binding("one", json!({})))
        .await
        .unwrap();
    let another = Some("00000000-0000-4000-8000-999999999999".to_owned());
    assert_eq!(
        refused(there.bindings().delete("one", &only(another)).await),
        conflict()
    );
    assert_eq!(there.bindings().get("one").await.unwrap().uid(), made.uid());
}

async fn what_is_deleted_is_gone_at_once(there: There) {
    let made = there
        .bindings()
        .create(&how(), &binding("one", json!({})))
        .await
        .unwrap();
    let deleted = there.bindings().delete("one", &only(made.uid())).await.unwrap();
    assert!(deleted.is_right(), "{deleted:?}");
    assert_eq!(refused(there.bindings().delete("one", &only(made.uid())).await), gone());
    let again = there
        .bindings()
        .create(&how(), &binding("one", json!({})))
        .await
        .unwrap();
    assert_ne!(again.uid(), made.uid());
}

async fn a_finalizer_holds_what_is_deleted_until_it_is_taken_off(there: There) {
    let bindings = there.bindings();
    let mut held = binding("one", json!({}));
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    let made = bindings.create(&how(), &held).await.unwrap();
    let lingers = bindings.delete("one", &only(made.uid())).await.unwrap().left().unwrap();
    assert!(lingers.metadata.deletion_timestamp.is_some() && version(&lingers) > version(&made));
    let again = bindings.delete("one", &only(made.uid())).await.unwrap().left().unwrap();
    assert_eq!(again.metadata.deletion_timestamp, lingers.metadata.deletion_timestamp);
    let off = json!({"metadata": {"uid": made.uid(), "resourceVersion": again.resource_version(), "finalizers": null}});
    bindings
        .patch("one", &PatchParams::default(), &Patch::Merge(off))
        .await
        .unwrap();
    assert_eq!(refused(bindings.get("one").await), gone());
}

async fn a_patch_at_another_version_is_a_conflict_and_of_another_uid_invalid(there: There) {
    let made = there
        .bindings()
        .create(&how(), &binding("one", json!({})))
        .await
        .unwrap();
    let (old, another) = ("1", "00000000-0000-4000-8000-999999999999");
    let invalid = || (422, "Invalid".to_owned());
    for (metadata, answer) in [
        (json!({"resourceVersion": old}), conflict()),
        (json!({"uid": another}), invalid()),
        (json!({"resourceVersion": old, "uid": another}), conflict()),
    ] {
        let patch = Patch::Merge(json!({"metadata": metadata}));
        assert_eq!(
            refused(there.bindings().patch("one", &PatchParams::default(), &patch).await),
            answer
        );
    }
    assert_eq!(there.bindings().get("one").await.unwrap(), made);
}

async fn a_dry_run_stores_nothing(there: There) {
    let dry = PostParams { dry_run: true, ..how() };
    there.bindings().create(&dry, &binding("one", json!({}))).await.unwrap();
    assert_eq!(refused(there.bindings().get("one").await), gone());
}

async fn a_list_has_what_bears_the_label(there: There) {
    for (name, labels) in [
        ("b", json!({marks::ANCHOR: "true"})),
        ("a", json!({marks::ANCHOR: ""})),
        ("c", json!({"another": "true"})),
    ] {
        there.bindings().create(&how(), &binding(name, labels)).await.unwrap();
    }
    let found = there
        .bindings()
        .list(&ListParams::default().labels(marks::ANCHOR))
        .await
        .unwrap();
    let newest = there.bindings().get("c").await.unwrap();
    assert!(found.metadata.resource_version.unwrap().parse::<u64>().unwrap() >= version(&newest));
    let names = |found: &[RoleBinding]| found.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    assert_eq!(names(&found.items), ["a", "b"]);
    let with_value = ListParams::default().labels(&format!("{}=true", marks::ANCHOR));
    assert_eq!(names(&there.bindings().list(&with_value).await.unwrap().items), ["b"]);
}

/// What a watch tells, up to so many events: what, of which object, at which version.
async fn told<K>(api: &Api<K>, how: &WatchParams, from: &str, events: usize) -> Vec<(&'static str, String, u64)>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + 'static,
{
    let watched = api.watch(how, from).await.unwrap();
    let told = watched.map_ok(|event| match event {
        WatchEvent::Added(object) => ("added", object.name_any(), version(&object)),
        WatchEvent::Modified(object) => ("modified", object.name_any(), version(&object)),
        WatchEvent::Deleted(object) => ("deleted", object.name_any(), version(&object)),
        WatchEvent::Bookmark(_) => ("bookmark", String::new(), 0),
        WatchEvent::Error(error) => ("error", error.reason, u64::from(error.code)),
    });
    told.try_filter(|told| std::future::ready(told.0 != "bookmark"))
        .take(events)
        .try_collect()
        .await
        .unwrap()
}

async fn now(bindings: &Api<RoleBinding>) -> String {
    bindings
        .list(&ListParams::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap()
}

fn what<'a>(told: &'a [(&'static str, String, u64)]) -> Vec<(&'static str, &'a str)> {
    told.iter().map(|(what, name, _)| (*what, name.as_str())).collect()
}

async fn a_watch_tells_what_happened_since_a_version_in_order(there: There) {
    let bindings = there.bindings();
    bindings.create(&how(), &binding("before", json!({}))).await.unwrap();
    let from = now(&bindings).await;
    let one = bindings.create(&how(), &binding("one", json!({}))).await.unwrap();
    let label = Patch::Merge(json!({"metadata": {"labels": {"some": "label"}}}));
    let changed = bindings.patch("one", &PatchParams::default(), &label).await.unwrap();
    let seen = told(&bindings, &WatchParams::default(), &from, 2).await;
    assert_eq!(what(&seen), [("added", "one"), ("modified", "one")]);
    assert_eq!([seen[0].2, seen[1].2], [version(&one), version(&changed)]);
    let (later, from) = (bindings.clone(), changed.resource_version().unwrap());
    let watching = async { told(&later, &WatchParams::default(), &from, 2).await };
    let acting = async {
        bindings.delete("one", &only(None)).await.unwrap();
        bindings.create(&how(), &binding("two", json!({}))).await.unwrap()
    };
    let (seen, two) = futures::join!(watching, acting);
    assert_eq!(what(&seen), [("deleted", "one"), ("added", "two")]);
    assert!(version(&changed) < seen[0].2 && seen[0].2 < seen[1].2 && seen[1].2 == version(&two));
}

async fn a_label_that_comes_or_goes_is_told_as_an_object_that_does(there: There) {
    let bindings = there.bindings();
    let from = now(&bindings).await;
    bindings.create(&how(), &binding("one", json!({}))).await.unwrap();
    for label in [json!("true"), json!("still"), Value::Null] {
        let patch = Patch::Merge(json!({"metadata": {"labels": {marks::ANCHOR: label}}}));
        bindings.patch("one", &PatchParams::default(), &patch).await.unwrap();
    }
    let seen = told(&bindings, &WatchParams::default().labels(marks::ANCHOR), &from, 3).await;
    assert_eq!(what(&seen), [("added", "one"), ("modified", "one"), ("deleted", "one")]);
    let newest = bindings.get("one").await.unwrap();
    assert_eq!(seen[2].2, version(&newest));
}

async fn a_watch_for_a_name_tells_of_no_other(there: There) {
    let bindings = there.bindings();
    let from = now(&bindings).await;
    for name in ["other", "one"] {
        bindings.create(&how(), &binding(name, json!({}))).await.unwrap();
    }
    let seen = told(&bindings, &WatchParams::default().fields("metadata.name=one"), &from, 1).await;
    assert_eq!(what(&seen), [("added", "one")]);
}

async fn a_watch_ends_when_its_time_is_up(there: There) {
    let from = now(&there.bindings()).await;
    let (bindings, briefly) = (there.bindings(), WatchParams::default().timeout(1));
    let seen = tokio::time::timeout(PATIENCE, told(&bindings, &briefly, &from, 1))
        .await
        .unwrap();
    assert_eq!(seen, []);
}

async fn a_watch_from_before_what_is_remembered_is_told_so(there: There) {
    // A real one remembers nothing of before it knew the kind.
    there.requests().create(&how(), &request("one")).await.unwrap();
    (there.forget)();
    let seen = told(&there.requests(), &WatchParams::default(), "1", 1).await;
    assert_eq!(seen, [("error", "Expired".to_owned(), 410)]);
}

async fn nothing_is_made_in_a_namespace_that_isnt_there(there: There) {
    let nowhere = Api::<RoleBinding>::namespaced(there.client.clone(), "nowhere");
    assert_eq!(
        refused(nowhere.create(&how(), &binding("one", json!({}))).await),
        gone()
    );
}

async fn metadata_alone_is_answered_when_asked_for(there: There) {
    let made = there
        .bindings()
        .create(&how(), &binding("one", json!({})))
        .await
        .unwrap();
    let found = there.bindings().get_metadata("one").await.unwrap();
    assert_eq!(
        (found.metadata.uid, found.metadata.resource_version),
        (made.metadata.uid, made.metadata.resource_version)
    );
}

async fn a_cluster_ip_is_an_object_that_goes_with_its_service(there: There) {
    let services = Api::<Service>::namespaced(there.client.clone(), &there.namespace);
    let service: Service =
        read(json!({"metadata": {"name": "one"}, "spec": {"type": "ClusterIP", "ports": [{"port": 9}]}}));
    let made = services.create(&how(), &service).await.unwrap();
    let address = made.spec.unwrap().cluster_ip.unwrap();
    let addresses = Api::<IPAddress>::all(there.client.clone());
    let found = addresses.get(&address).await.unwrap();
    let parent = found.spec.unwrap().parent_ref;
    assert_eq!((parent.resource.as_str(), parent.name.as_str()), ("services", "one"));
    assert_eq!(parent.namespace, Some(there.namespace.clone()));
    services.delete("one", &only(None)).await.unwrap();
    goes(&addresses, &address).await;
}

async fn create<K>(api: &Api<K>, object: &K) -> K
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    api.create(&how(), object).await.unwrap()
}

async fn what_hangs_on_an_anchor_goes_when_its_jobs_time_is_up(there: There) {
    let jobs = Api::<Job>::namespaced(there.client.clone(), &there.namespace);
    let soon = Until::named("curfew-until-20270115t0800z").unwrap();
    let mut job = curfew::core::anchor::job(soon, soon.moment() - chrono::TimeDelta::seconds(3));
    job.metadata.name = Some("anchor".into());
    let job = create(&jobs, &job).await;
    let services = Api::<Service>::namespaced(there.client.clone(), &there.namespace);
    let mut service = curfew::core::anchor::service(soon, &job.uid().unwrap());
    service.metadata.name = Some("anchor".into());
    service.metadata.owner_references.as_mut().unwrap()[0].name = "anchor".into();
    let service = create(&services, &service).await;
    let anchors = Anchors::new(there.client.clone(), there.namespace.clone(), empty(), empty());
    let seen = anchors.read("anchor").await.unwrap();
    assert_eq!(seen.job.unwrap().uid(), job.uid());
    let address = service.spec.unwrap().cluster_ip.unwrap();
    let address = Api::<IPAddress>::all(there.client.clone()).get(&address).await.unwrap();
    let mut hung = binding("hung", json!({}));
    hung.metadata.owner_references = Some(vec![owner_of_bindings(&curfew::api::GrantAnchor {
        name: "anchor".into(),
        job_uid: job.uid().unwrap(),
        address: address.name_any(),
        address_uid: address.uid().unwrap(),
        ends_at: curfew::api::time::to_kubernetes(soon.moment()),
    })]);
    create(&there.bindings(), &hung).await;
    goes(&there.bindings(), "hung").await;
    assert_eq!(
        refused(jobs.get("anchor").await),
        gone(),
        "the Job goes before what hangs on it"
    );
}

fn empty<K: Resource<DynamicType = ()> + Clone + 'static>() -> kube::runtime::reflector::Store<K> {
    kube::runtime::reflector::store().0
}

async fn what_has_no_owner_any_more_goes(there: There) {
    let owner = there.requests().create(&how(), &request("owner")).await.unwrap();
    let mut owned = binding("owned", json!({}));
    owned.metadata.owner_references = Some(vec![owner.owner_ref(&()).unwrap()]);
    create(&there.bindings(), &owned).await;
    let mut of_another = binding("of-another", json!({}));
    let mut reference = owner.owner_ref(&()).unwrap();
    reference.uid = "00000000-0000-4000-8000-999999999999".into();
    of_another.metadata.owner_references = Some(vec![reference]);
    create(&there.bindings(), &of_another).await;
    goes(&there.bindings(), "of-another").await;
    assert!(
        there.bindings().get_opt("owned").await.unwrap().is_some(),
        "its owner is there"
    );
    there.requests().delete("owner", &only(None)).await.unwrap();
    goes(&there.bindings(), "owned").await;
}

async fn a_namespace_that_is_deleted_takes_all_with_it(there: There) {
    let namespaces = Api::<Namespace>::all(there.client.clone());
    let name = format!("{}-going", there.namespace);
    create(&namespaces, &read(json!({"metadata": {"name": name}}))).await;
    let requests = Api::<AccessRequest>::namespaced(there.client.clone(), &name);
    let mut held = request("held");
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    create(&requests, &held).await;
    namespaces.delete(&name, &only(None)).await.unwrap();
    let going = namespaces.get(&name).await.unwrap();
    assert!(going.metadata.deletion_timestamp.is_some());
    let bindings = Api::<RoleBinding>::namespaced(there.client.clone(), &name);
    assert_eq!(
        refused(bindings.create(&how(), &binding("late", json!({}))).await),
        (403, "Forbidden".to_owned())
    );
    comes_to(&requests, "held", |found| {
        found.is_some_and(|found| found.metadata.deletion_timestamp.is_some())
    })
    .await;
    let off = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    requests.patch("held", &PatchParams::default(), &off).await.unwrap();
    goes(&namespaces, &name).await;
}
