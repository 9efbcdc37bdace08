//! Watches the guards: what stands in the API server is compared with what is shipped, whenever it changes, and then tried out; also when a watch broke,
//! for an API server may come back without the plugin that heeds them. Until they were seen in force the brake is on; once they were, when one is seen
//! not to be. Nothing polls while nothing changes, and nothing here is ever asked on the way to an end.
//!
//! Whether a guard is right is decided in [`crate::core::guard`].

mod shelf;
mod trial;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use futures::future::try_join_all;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client, CustomResourceExt};
use tokio::sync::watch;

use self::shelf::{Shelf, Told};
use self::trial::{Unproven, try_out};
use super::brakes::{Brakes, Puller};
use super::call::{CallError, call, find};
use super::clock::Clock;
use super::together::Together;
use super::watching::Reconnect;
use crate::api::AccessRequest;
use crate::core::facts::Brake;
use crate::core::guard::{self, Found, GuardKind, Mark, Shipped, Standing};

const GROUP: &str = "admissionregistration.k8s.io";
/// In which versions an API server may have stamping policies. The chart installs them in the first.
const STAMPING: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
/// An API server heeds a new or changed policy after about a second; another one behind the same address a little later.
const SETTLES: Duration = Duration::from_secs(4);
/// How long a trial may fail before it is said that it does. It is repeated all the same.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first and the longest pause between trials.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The version in which the API server has stamping policies, if it has.
type Stamping = Option<&'static str>;

/// Why the guards can't be watched.
#[derive(Debug, thiserror::Error)]
enum Unseen {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the operator doesn't know its own guards: {0}")]
    Binary(#[from] serde_json::Error),
}

/// All guards, as the watches have shown them.
pub struct Guards {
    client: Client,
    brakes: Arc<Brakes>,
    clock: Clock,
    seen: watch::Sender<Option<Seen>>,
    reads: Together<(), Vec<Mark>>,
}

/// What was seen, once all was.
#[derive(Clone)]
pub struct Seen {
    shipped: Arc<Vec<Shipped>>,
    marks: Vec<Mark>,
    epoch: String,
    since: DateTime<Utc>,
}

impl Seen {
    fn new(shipped: Arc<Vec<Shipped>>, marks: Vec<Mark>, since: DateTime<Utc>) -> Self {
        Self {
            epoch: guard::epoch(&marks),
            since,
            shipped,
            marks,
        }
    }
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.marks == other.marks
    }
}

impl Guards {
    /// Not seen yet, and so the brake is pulled.
    pub fn new(client: Client, brakes: Arc<Brakes>, clock: Clock) -> Self {
        brakes.hold(Puller::Guards, unknown("have not been seen yet"));
        Self {
            client,
            brakes,
            clock,
            seen: watch::Sender::new(None),
            reads: Together::default(),
        }
    }

    /// How they stand, as far as the watches have shown. The brake is looked at last: it is pulled before another guard is shown.
    pub fn standing(&self) -> Standing {
        let seen = self.seen.borrow();
        let (epoch, since) = seen.as_ref().map(|seen| (seen.epoch.clone(), seen.since)).unzip();
        let in_force = epoch.is_some() && !self.brakes.is_pulled(Puller::Guards);
        Standing { epoch, since, in_force }
    }

    /// How they stand now: those that attest words, and the rule that keeps words as they were written, are read afresh. Of the others it is enough that
    /// the watches show them: what they would let through is checked by these, or seen as a drift.
    ///
    /// # Errors
    /// When the read failed.
    pub async fn afresh(&self) -> Result<Standing, CallError> {
        let Some(Seen {
            shipped,
            marks,
            epoch: _,
            since,
        }) = self.seen.borrow().clone()
        else {
            return Ok(Standing::UNSEEN);
        };
        let read = self.reads.ask((), read(self.client.clone())).await?;
        let (_, others): (Vec<_>, Vec<_>) = marks.iter().cloned().partition(is_read_afresh);
        let mut now = [others, guard::own(&shipped, read)].concat();
        now.sort_unstable();
        let in_force = now == marks && !self.brakes.is_pulled(Puller::Guards);
        Ok(Standing {
            epoch: Some(guard::epoch(&now)),
            since: Some(since),
            in_force,
        })
    }

    /// Tells whenever a guard is another one.
    pub fn changes(&self) -> watch::Receiver<Option<Seen>> {
        self.seen.subscribe()
    }

    /// Watches, and never ends by itself.
    pub async fn watch(self: Arc<Self>) -> &'static str {
        for pause in Reconnect::default() {
            match self.watch_as_served().await {
                Ok(()) => {
                    let brake = unknown("are looked at anew, for the API server has other kinds of them");
                    self.brakes.hold(Puller::Guards, brake);
                }
                Err(error) => {
                    tracing::warn!(%error, "the guards can't be watched; it is tried again");
                    let message = format!("can't be watched: {error}");
                    self.brakes.pull(Puller::Guards, unknown(&message));
                }
            }
            tokio::time::sleep(pause).await;
        }
        "guards"
    }

    /// Watches until the API server serves other kinds of guards than it did.
    async fn watch_as_served(&self) -> Result<(), Unseen> {
        let (operator, stamping) = futures::try_join!(self.own_name(), self.stamping())?;
        let shipped = Arc::new(guard::shipped(&operator, stamping == STAMPING.first().copied())?);
        let sources = sources(stamping);
        let mut shelf = Shelf::new(&sources);
        let mut events = shelf::open(&self.client, &sources);
        let mut trial: Option<Trial<'_>> = None;
        let mut tried: Option<Vec<Mark>> = None;
        loop {
            tokio::select! {
                biased;
                Some((source, event)) = events.next() => {
                    if let Err(error) = &event && self.seen.borrow().is_none() {
                        let message = format!("can't be watched: {error}");
                        self.brakes.pull(Puller::Guards, unknown(&message));
                    }
                    let told = shelf.take(source, event);
                    match told {
                        Told::Nothing => continue,
                        Told::Change | Told::Broken => {}
                        // An API server that went away may come back in another version.
                        Told::SeenAgain if self.stamping().await? != stamping => return Ok(()),
                        Told::SeenAgain => {}
                    }
                    let found = shelf.found();
                    let mut marks = guard::own(&shipped, found.iter().map(|found| found.mark.clone()));
                    marks.sort_unstable();
                    if let Some(brake) = guard::flaw(&shipped, &found) {
                        (trial, tried) = (None, None);
                        self.brakes.pull(Puller::Guards, brake);
                    } else if tried.as_ref() != Some(&marks) {
                        self.brakes.hold(Puller::Guards, unknown("are as they are shipped, and are being tried out"));
                        let settles = self.settles(&shelf, &shipped);
                        trial = Some(Box::pin(self.prove(settles).map(|()| stamping)));
                        tried = Some(marks.clone());
                    } else if told != Told::Change && !self.brakes.is_pulled(Puller::Guards) {
                        // An API server that went away may come back and heed no guards, also without that any watch has to begin anew.
                        trial = Some(Box::pin(self.prove_again(stamping)));
                    }
                    let since = self.since(&marks, shelf.touched(&shipped, attests_requesters));
                    self.show(Seen::new(Arc::clone(&shipped), marks, since));
                }
                served = ended(&mut trial) => {
                    trial = None;
                    if served != stamping {
                        return Ok(());
                    }
                    self.brakes.release(Puller::Guards);
                }
            }
        }
    }

    /// From when on those who make requests are attested, when what attests them was last `touched`. Whoever can write guards can write when that was: what
    /// is seen to change has changed just now.
    fn since(&self, marks: &[Mark], touched: Option<DateTime<Utc>>) -> DateTime<Utc> {
        // As the API server writes when something is made, in whole seconds.
        let now = self.clock.now().trunc_subsecs(0);
        let touched = touched.unwrap_or(now) + SETTLES;
        match &*self.seen.borrow() {
            None => touched,
            Some(before) if before.marks == marks => touched.max(before.since),
            Some(_) => touched.max(now + SETTLES),
        }
    }

    fn show(&self, seen: Seen) {
        self.seen.send_if_modified(|before| {
            let is_other = before.as_ref() != Some(&seen);
            *before = Some(seen);
            is_other
        });
    }

    /// How long to wait before a trial says something also of those guards that it can't reach. At the start most of them have stood there for long.
    fn settles(&self, shelf: &Shelf, shipped: &[Shipped]) -> Duration {
        let is_first = self.seen.borrow().is_none();
        match shelf.touched(shipped, |_| true).filter(|_| is_first) {
            Some(touched) => SETTLES.saturating_sub((self.clock.now() - touched).to_std().unwrap_or_default()),
            None => SETTLES,
        }
    }

    /// Tries until every guard that can be tried was seen to refuse, and says so when that takes long.
    async fn prove(&self, settles: Duration) {
        tokio::time::sleep(settles).await;
        let begun = tokio::time::Instant::now();
        self.until_proven(|_| begun.elapsed() > PATIENCE).await;
    }

    /// The same for guards that were in force: they are until one lets through what it must refuse. Answers with what [`Self::stamping`] is then; whoever can't
    /// tell breaks a watch too.
    async fn prove_again(&self, stamping: Stamping) -> Stamping {
        self.until_proven(|unproven| unproven.is_let_through).await;
        self.stamping().await.unwrap_or(stamping)
    }

    async fn until_proven(&self, stops_granting: impl Fn(&Unproven) -> bool) {
        let (mut pause, longest) = PAUSES;
        while let Err(unproven) = try_out(&self.client).await {
            let why = &unproven.why;
            tracing::debug!(why, "a guard is tried again");
            if stops_granting(&unproven) {
                let message = format!("{why}; a cluster admin must find out why, or run helm upgrade");
                let reason = "GuardNotInForce";
                self.brakes.pull(Puller::Guards, Brake { reason, message });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// The user name that the guards are to know the operator by.
    async fn own_name(&self) -> Result<String, Unseen> {
        let reviews = Api::<SelfSubjectReview>::all(self.client.clone());
        let review = call(
            "asking who the operator is",
            reviews.create(&PostParams::default(), &SelfSubjectReview::default()),
        )
        .await?;
        let user = review.status.and_then(|status| status.user_info);
        Ok(user.and_then(|user| user.username).unwrap_or_default())
    }

    /// In which version the API server has stamping policies, if it has.
    async fn stamping(&self) -> Result<Stamping, Unseen> {
        let groups = call("asking for the API groups", self.client.list_api_groups()).await?;
        let group = groups.groups.into_iter().find(|group| group.name == GROUP);
        let served: Vec<String> = group
            .into_iter()
            .flat_map(|group| group.versions)
            .map(|version| version.version)
            .collect();
        for version in STAMPING {
            if !served.iter().any(|served| served == version) {
                continue;
            }
            let group_version = format!("{GROUP}/{version}");
            let kinds = call(
                "asking for the kinds of guards",
                self.client.list_api_group_resources(&group_version),
            )
            .await?;
            if kinds
                .resources
                .iter()
                .any(|kind| kind.name == "mutatingadmissionpolicies")
            {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }
}

/// A trial of the guards, and what [`Guards::stamping`] is after it.
type Trial<'a> = Pin<Box<dyn Future<Output = Stamping> + Send + 'a>>;

async fn ended(trial: &mut Option<Trial<'_>>) -> Stamping {
    match trial {
        Some(trial) => trial.await,
        None => std::future::pending().await,
    }
}

/// What sees to it that who made a request stands on it: the policy and its binding, and the definition, which lets nobody change that.
fn attests_requesters(name: &str) -> bool {
    name == "curfew-requests" || name == AccessRequest::crd_name()
}

fn unknown(how: &str) -> Brake {
    Brake {
        reason: "GuardsUnknown",
        message: format!("the guards that attest who speaks {how}"),
    }
}

/// What is watched as one.
#[derive(Clone)]
struct Source {
    kind: GuardKind,
    resource: ApiResource,
    /// One object only.
    name: Option<String>,
}

fn sources(stamping: Option<&str>) -> Vec<Source> {
    let all_of = |kind, version| Source {
        kind,
        resource: resource(kind, version),
        name: None,
    };
    let mut sources = vec![
        all_of(GuardKind::ValidatingAdmissionPolicy, "v1"),
        all_of(GuardKind::ValidatingAdmissionPolicyBinding, "v1"),
    ];
    if let Some(version) = stamping {
        sources.push(all_of(GuardKind::MutatingAdmissionPolicy, version));
        sources.push(all_of(GuardKind::MutatingAdmissionPolicyBinding, version));
    }
    let definition = |name| Source {
        kind: GuardKind::CustomResourceDefinition,
        resource: resource(GuardKind::CustomResourceDefinition, "v1"),
        name: Some(name),
    };
    sources.extend(guard::definition_names().into_iter().map(definition));
    sources
}

fn resource(kind: GuardKind, version: &str) -> ApiResource {
    let (group, kind, plural) = match kind {
        GuardKind::ValidatingAdmissionPolicy => (GROUP, "ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        GuardKind::ValidatingAdmissionPolicyBinding => (
            GROUP,
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
        ),
        GuardKind::MutatingAdmissionPolicy => (GROUP, "MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
        GuardKind::MutatingAdmissionPolicyBinding => (
            GROUP,
            "MutatingAdmissionPolicyBinding",
            "mutatingadmissionpolicybindings",
        ),
        GuardKind::CustomResourceDefinition => (
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            "customresourcedefinitions",
        ),
    };
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: format!("{group}/{version}"),
        kind: kind.into(),
        plural: plural.into(),
    }
}

fn is_read_afresh(mark: &Mark) -> bool {
    attesting().any(|(kind, name)| mark.kind == kind && mark.name == name)
}

/// The guards that words rest on: who made a request, who spoke, and that words are only added.
fn attesting() -> impl Iterator<Item = (GuardKind, String)> {
    let of_policies = [
        GuardKind::ValidatingAdmissionPolicy,
        GuardKind::ValidatingAdmissionPolicyBinding,
    ]
    .into_iter()
    .flat_map(|kind| ["curfew-requests", "curfew-decisions"].map(|name| (kind, name.to_owned())));
    of_policies.chain([(GuardKind::CustomResourceDefinition, requests_definition())])
}

fn requests_definition() -> String {
    guard::definition_name::<AccessRequest>()
}

/// The marks of what [`is_read_afresh`]. Each by its name: an API server answers a list from its cache, and waits until that is fresh. Metadata is enough.
async fn read(client: Client) -> Result<Vec<Mark>, CallError> {
    let reads = attesting().map(async |(kind, name)| {
        let objects = Api::<DynamicObject>::all_with(client.clone(), &resource(kind, "v1"));
        let found = find("reading a guard's metadata", objects.get_metadata(&name)).await?;
        Ok(found.map(|object| Mark::of(kind, &object.metadata)))
    });
    Ok(try_join_all(reads).await?.into_iter().flatten().collect())
}

/// A guard as it was stored.
fn found(kind: GuardKind, object: &DynamicObject) -> Found {
    Found {
        mark: Mark::of(kind, &object.metadata),
        spec: object.data.get("spec").cloned().unwrap_or_default(),
        terminating: object.metadata.deletion_timestamp.is_some(),
    }
}

#[cfg(test)]
mod tests;
