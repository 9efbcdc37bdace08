//! The scrutiny: each mutant of each guard is put in force in turn, and something of the table must come out otherwise.
//!
//! Guards of different matters are scrutinised side by side on one cluster; those of one matter one after the other.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use hyper::Method;
use serde_json::{Value, json};

use crate::attempt::{Server, Who, ask, collection, path};
use crate::mutant::{Mutant, marked, mutants, name};
use crate::states::{address, alice, binding, grant, job, owner, policy, request, with_metadata};
use crate::table::{MATTERS, Matter, about};
use crate::world::World;

/// How long the API server may take to heed a guard.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// So much of how something came out otherwise is told.
const TOLD: usize = 120;
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

static MARKS: AtomicUsize = AtomicUsize::new(0);

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Something came out otherwise.
    Noticed(String),
    /// Nothing did.
    Survived,
    /// The API server didn't store it: it doesn't compile.
    NotStored(String),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noticed(how) => write!(f, "noticed ({})", how.chars().take(TOLD).collect::<String>()),
            Self::Survived => f.write_str("SURVIVED"),
            Self::NotStored(_) => f.write_str("not stored"),
        }
    }
}

/// A mutant that was tried.
#[derive(Clone, Debug)]
pub struct Tried {
    pub id: String,
    pub fate: Fate,
}

/// All that were tried, and where a guard that was put back didn't do what it did before.
#[derive(Debug, Default)]
pub struct Scrutiny {
    pub tried: Vec<Tried>,
    pub spoilt: Vec<String>,
}

impl Scrutiny {
    pub fn survivors(&self) -> Vec<&str> {
        let survived = self.tried.iter().filter(|tried| tried.fate == Fate::Survived);
        survived.map(|tried| tried.id.as_str()).collect()
    }

    /// What another API server has noticed isn't a survivor any more.
    pub fn corrected_by(&mut self, other: Self) {
        self.spoilt.extend(other.spoilt);
        for later in other.tried {
            let noticed = matches!(later.fate, Fate::Noticed(_));
            for tried in self.tried.iter_mut().filter(|tried| noticed && tried.id == later.id) {
                tried.fate = later.fate.clone();
            }
        }
    }
}

impl fmt::Display for Scrutiny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not_stored = self
            .tried
            .iter()
            .filter(|tried| matches!(tried.fate, Fate::NotStored(_)))
            .count();
        writeln!(
            f,
            "{} mutants: {} noticed, {not_stored} that the API server doesn't store, {} survivors",
            self.tried.len(),
            self.tried.len() - not_stored - self.survivors().len(),
            self.survivors().len()
        )
    }
}

/// All guards on this cluster, as they are now.
pub async fn guards(world: &World) -> Vec<Value> {
    let admission = "/apis/admissionregistration.k8s.io/v1";
    let mut lists = vec![
        (
            format!("{admission}/validatingadmissionpolicies"),
            "ValidatingAdmissionPolicy",
        ),
        (
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions".to_owned(),
            "CustomResourceDefinition",
        ),
    ];
    if world.server == Server::Stamping {
        lists.push((
            format!("{admission}/mutatingadmissionpolicies"),
            "MutatingAdmissionPolicy",
        ));
    }
    let mut all = vec![];
    for (path, kind) in lists {
        let list = ask(&world.admin, &Who::admin(), &Method::GET, &path, JSON, &Value::Null)
            .await
            .unwrap();
        for item in list["items"].as_array().unwrap() {
            let named = json!({
                "apiVersion": list["apiVersion"], "kind": kind, "metadata": {"name": item["metadata"]["name"]}, "spec": item["spec"],
            });
            if name(&named).starts_with("curfew-") || name(&named).ends_with(".curfew.dev") {
                all.push(named);
            }
        }
    }
    all
}

/// Which attempts a guard's mutants are to be noticed by.
fn matter_of(guard: &str) -> Matter {
    match guard {
        "curfew-requests"
        | "curfew-decisions"
        | "curfew-stamp-requester"
        | "curfew-stamp-decision"
        | "accessrequests.curfew.dev" => Matter::Requests,
        "curfew-reserved" | "curfew-operator-bounds" => Matter::Bindings,
        "curfew-anchors" | "curfew-addresses" => Matter::Anchors,
        "curfew-status" | "curfew-evidence" | "accesspolicies.curfew.dev" | "accessgrants.curfew.dev" => {
            Matter::Records
        }
        other => panic!("no attempts are about the guard {other}: say in `matter_of` which are"),
    }
}

/// Tries every mutant that is wanted.
pub async fn scrutinise(world: &World, wanted: impl Fn(&str) -> bool) -> Scrutiny {
    println!();
    let all = guards(world).await;
    let lanes = MATTERS.map(|matter| {
        let guards = all.iter().filter(move |guard| matter_of(name(guard)) == matter);
        let wanted = &wanted;
        async move {
            let mut lane = Scrutiny::default();
            for guard in guards {
                let chosen: Vec<Mutant> = mutants(guard).into_iter().filter(|mutant| wanted(&mutant.id)).collect();
                if !chosen.is_empty() {
                    scrutinise_one(world, matter, guard, chosen, &mut lane).await;
                }
            }
            lane
        }
    });
    let mut scrutiny = Scrutiny::default();
    for lane in join_all(lanes).await {
        scrutiny.tried.extend(lane.tried);
        scrutiny.spoilt.extend(lane.spoilt);
    }
    scrutiny
}

async fn scrutinise_one(world: &World, matter: Matter, guard: &Value, chosen: Vec<Mutant>, lane: &mut Scrutiny) {
    let attempts = about(matter);
    for mutant in chosen {
        let fate = match put_in_force(world, &mutant.guard).await {
            Err(refusal) => Fate::NotStored(refusal),
            Ok(()) => match world.first_otherwise(&attempts).await {
                Some(how) => Fate::Noticed(how),
                None => Fate::Survived,
            },
        };
        println!("{fate}: {}", mutant.id);
        lane.tried.push(Tried { id: mutant.id, fate });
    }
    put_in_force(world, guard).await.unwrap();
    let spoilt = world.otherwise(&attempts).await;
    lane.spoilt.extend(
        spoilt
            .into_iter()
            .map(|how| format!("after {} was put back: {how}", name(guard))),
    );
}

/// Stores a guard, and returns once the API server heeds it. The error says why it isn't stored.
async fn put_in_force(world: &World, guard: &Value) -> Result<(), String> {
    let mark = format!("mark-{}", MARKS.fetch_add(1, Ordering::Relaxed));
    let heeded = format!("heeded: {mark}!");
    let marked = marked(guard, &mark, &heeded);
    let change = json!({"spec": marked["spec"]});
    ask(
        &world.admin,
        &Who::admin(),
        &Method::PATCH,
        &path(guard),
        MERGE,
        &change,
    )
    .await?;
    let (who, method, path, object) = probe(name(guard), &mark);
    let content = if method == Method::PATCH { MERGE } else { JSON };
    let begun = Instant::now();
    loop {
        let answer = ask(
            &world.admin,
            &who,
            &method,
            &format!("{path}?dryRun=All"),
            content,
            &object,
        )
        .await;
        let told = match &answer {
            Ok(object) => object["metadata"]["annotations"]["seen"].as_str().unwrap_or_default(),
            Err(refusal) => refusal,
        };
        if told.contains(&heeded) {
            return Ok(());
        }
        assert!(
            begun.elapsed() < LIMIT,
            "{} isn't heeded as {change}: {answer:?}",
            name(guard)
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// What this guard sees, with a mark on it, and no other guard refuses.
fn probe(guard: &str, mark: &str) -> (Who, Method, String, Value) {
    let with_mark = |object: Value| with_metadata(object, json!({"annotations": {"mark": mark}}));
    let made = |who: Who, object: Value| (who, Method::POST, collection(&object), object);
    match guard {
        "curfew-requests" | "curfew-stamp-requester" | "curfew-evidence" => {
            made(alice(), with_mark(request("probe", json!({}))))
        }
        "curfew-decisions" | "curfew-stamp-decision" => {
            let change = json!({"metadata": {"annotations": {"mark": mark}}});
            (alice(), Method::PATCH, path(&request("offered", json!({}))), change)
        }
        "curfew-reserved" => made(Who::admin(), with_mark(binding("probe"))),
        "curfew-operator-bounds" => {
            let fields = json!({"labels": {"curfew.dev/grant-uid": "x"}, "ownerReferences": [owner("curfew.dev/v1alpha1", "AccessGrant", "g", "x")]});
            made(
                Who::operator(),
                with_mark(with_metadata(binding("curfew-probe"), fields)),
            )
        }
        "curfew-anchors" => made(Who::admin(), with_mark(job("probe"))),
        "curfew-addresses" => {
            let change = json!({"metadata": {"annotations": {"mark": mark}}});
            (
                Who::admin(),
                Method::PATCH,
                path(&address("10.9.9.1", json!({}))),
                change,
            )
        }
        "curfew-status" => made(Who::operator(), with_mark(grant("probe"))),
        "accessrequests.curfew.dev" => made(alice(), request(mark, json!({}))),
        "accesspolicies.curfew.dev" => made(Who::admin(), policy(mark)),
        "accessgrants.curfew.dev" => made(Who::operator(), grant(mark)),
        other => panic!("nothing shows whether the guard {other} is heeded: say in `probe` what does"),
    }
}
