//! One request of an instance, and what people do with it. They try again what was refused, for a while, and approve again what was offered anew.

use chrono::{SecondsFormat, TimeDelta};
use curfew::api::{AccessGrant, AccessRequest, GrantPhase, RequestPhase, condition};
use kube::api::{Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::history::{Pages, Version, living, now};
use crate::instance::{Instance, LIMIT, is_managed, made};
use crate::scenarios::{End, Fate};

/// A request, by its name.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub instance: &'a Instance,
    pub name: &'static str,
}

impl Asked<'_> {
    /// Alice asks, and there is an offer, or an end.
    pub async fn asks(self) {
        self.asks_for(json!({})).await;
    }

    /// Alice asks for the access of another request for longer, if it has one. Whether she did.
    pub async fn asks_to_extend(self, other: Self) -> bool {
        let extended = self.instance.history.look(|pages| {
            let lasts = other.newest(pages).is_some_and(|request| !is_over(&request.object));
            let grants = other.grants(pages);
            grants.first().filter(|_| lasts).map(|grant| grant.object.name_any())
        });
        let Some(extended) = extended else {
            return false;
        };
        self.asks_for(json!({"extends": extended})).await;
        true
    }

    async fn asks_for(self, more: Value) {
        let Instance { terms, role, lasts, .. } = self.instance;
        // A number in a duration has five digits at most.
        let duration = match lasts.as_secs() {
            seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
            seconds => format!("{seconds}s"),
        };
        let mut spec = json!({"role": {"kind": terms.role, "name": role}, "duration": duration, "reason": "the sweep"});
        if terms.names_policy {
            spec["policy"] = json!(self.instance.id);
        }
        if terms.in_two {
            spec["namespaces"] = json!(self.instance.namespaces());
        }
        if terms.cluster_wide {
            spec["clusterWide"] = json!(true);
        }
        if let Some(seconds) = terms.begins {
            spec["startTime"] = json!((now() + TimeDelta::seconds(seconds)).to_rfc3339_opts(SecondsFormat::Secs, true));
        }
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        made(
            &self.instance.here::<AccessRequest>(&self.instance.alice),
            json!({"metadata": {"name": self.name}, "spec": spec}),
        )
        .await;
        self.sees("an offer", |request| offer(request).is_some() || is_over(request))
            .await;
    }

    /// As many as are needed approve, each offer anew, until it is granted or has ended.
    pub async fn is_approved(self) {
        let mut approved: Option<String> = None;
        loop {
            let request = self
                .sees("a decision, or another offer", |request| {
                    is_decided(request) || offer(request).is_some_and(|offer| Some(&offer) != approved.as_ref())
                })
                .await;
            if is_decided(&request) {
                return;
            }
            let approvers = [&self.instance.bob, &self.instance.carol];
            for client in approvers.into_iter().take(self.instance.terms.approvals) {
                self.says(client, "approve").await;
            }
            approved = offer(&request);
        }
    }

    /// Alice asks, and has access.
    pub async fn gets_access(self) {
        self.asks().await;
        self.is_approved().await;
        self.is_active().await;
    }

    /// Waits until there is a grant, or the request has ended otherwise.
    pub async fn has_a_grant(self) {
        self.awaits("a grant", |pages| {
            let is_over = self.newest(pages).is_some_and(|request| is_decided(&request.object));
            is_over || !self.grants(pages).is_empty()
        })
        .await;
    }

    /// Waits until the request is Active, or has ended otherwise.
    pub async fn is_active(self) {
        self.sees("access", |request| {
            phase(request).is_some_and(|phase| phase == RequestPhase::Active || phase.is_final())
        })
        .await;
    }

    /// Waits until this one or the other has ended.
    pub async fn or_the_other_is_over(self, other: Self) {
        self.awaits("an end of one of both", |pages| {
            let mut both = [self, other].into_iter();
            both.any(|one| one.newest(pages).is_none_or(|request| is_over(&request.object)))
        })
        .await;
    }

    /// Carol decides.
    pub async fn approver_says(self, word: &str) {
        self.says(&self.instance.carol, word).await;
    }

    /// Alice decides.
    pub async fn requester_says(self, word: &str) {
        self.says(&self.instance.alice, word).await;
    }

    /// Carol looks at access that nobody approved, once it has ended, and its grant says so. Only where nothing was ever bound there may be nothing to look at.
    pub async fn is_reviewed(self) {
        self.sees("an end", is_over).await;
        self.approver_says("review").await;
        self.awaits("its review", |pages| {
            let bindings = pages.bindings.get(&self.instance.id).into_iter().flatten();
            let was_bound = bindings.into_iter().any(|binding| is_managed(&binding.object));
            let mut grants = self.grants(pages).into_iter();
            grants.all(|grant| has_review(&grant.object) == Some(true) || !was_bound)
        })
        .await;
    }

    async fn says(self, client: &Client, word: &str) {
        let patch = json!({"metadata": {"annotations": {"curfew.dev/decision": word}}});
        let requests = self.instance.here::<AccessRequest>(client);
        let what = format!("{} {word}", self.name);
        self.instance
            .insists(&what, async || {
                if self.is_said_in_vain(word) {
                    return Ok(());
                }
                let said = requests
                    .patch(self.name, &PatchParams::default(), &Patch::Merge(&patch))
                    .await;
                match said {
                    // Said twice, because the offer changed and changed back; or granted in between.
                    Err(error) if word == "approve" && self.was_said_before(&error) => Ok(()),
                    said => said.map(drop),
                }
            })
            .await;
    }

    fn is_said_in_vain(self, word: &str) -> bool {
        if word == "review" {
            return self.instance.history.look(|pages| {
                let mut grants = self.grants(pages).into_iter();
                !grants.any(|grant| has_review(&grant.object) == Some(false))
            });
        }
        self.now().is_none_or(|request| is_over(&request))
    }

    fn was_said_before(self, error: &kube::Error) -> bool {
        self.now().is_some_and(|request| is_decided(&request)) || error.to_string().contains("already")
    }

    /// Alice deletes her request. The history has it too, so that what is seen from here on comes after it.
    pub async fn is_deleted(self) {
        let requests = self.instance.here::<AccessRequest>(&self.instance.alice);
        self.instance.deleted(&requests, self.name).await;
        self.awaits("its request goes", |pages| self.newest(pages).is_none())
            .await;
    }

    // ---- what is seen ----

    /// How it is now, if it is there.
    fn now(self) -> Option<AccessRequest> {
        self.instance
            .history
            .look(|pages| self.newest(pages).map(|version| version.object.clone()))
    }

    /// The newest version of what is there.
    fn newest(self, pages: &Pages) -> Option<&Version<AccessRequest>> {
        let living = living(&pages.requests, &self.instance.id);
        living
            .into_iter()
            .find(|version| version.object.name_any() == self.name)
    }

    /// Its grants that are there: one at most, if all is well.
    fn grants(self, pages: &Pages) -> Vec<&Version<AccessGrant>> {
        let living = living(&pages.grants, &self.instance.id).into_iter();
        living
            .filter(|grant| grant.object.spec.request.name == self.name)
            .collect()
    }

    /// How it has ended, if it has, with its grant.
    pub fn ended(self, pages: &Pages) -> Option<End> {
        let request = match self.newest(pages) {
            Some(request) => Some(phase(&request.object).filter(|phase| phase.is_final())?),
            None => None,
        };
        let mut grants = pages.grants.get(&self.instance.id).into_iter().flatten();
        let grant = match self.grants(pages).first() {
            Some(grant) => {
                let status = grant.object.status.as_ref()?;
                (status.phase == Some(GrantPhase::Ended)).then_some(())?;
                Fate::Ended(status.end.as_ref()?.reason)
            }
            None if grants.any(|grant| grant.object.spec.request.name == self.name) => Fate::Gone,
            None => Fate::Never,
        };
        Some(End { request, grant })
    }

    async fn awaits(self, what: &str, holds: impl Fn(&Pages) -> bool) {
        self.instance.awaits(&format!("{}: {what}", self.name), holds).await;
    }

    async fn sees(self, what: &str, holds: impl Fn(&AccessRequest) -> bool) -> AccessRequest {
        let found = |pages: &Pages| {
            let request = self.newest(pages).map(|version| version.object.clone());
            request.filter(|request| holds(request))
        };
        match self.instance.history.until(LIMIT, found).await {
            Some(request) => request,
            None => panic!(
                "{}, {}: not within {LIMIT:?}: {what}; it is {:#?}",
                self.instance.id,
                self.name,
                self.now()
            ),
        }
    }
}

fn phase(request: &AccessRequest) -> Option<RequestPhase> {
    request.status.as_ref()?.phase
}

fn is_over(request: &AccessRequest) -> bool {
    phase(request).is_some_and(RequestPhase::is_final)
}

fn offer(request: &AccessRequest) -> Option<String> {
    Some(request.status.as_ref()?.offer.as_ref()?.digest.clone())
}

fn is_decided(request: &AccessRequest) -> bool {
    request.status.as_ref().is_some_and(|status| status.seal.is_some()) || is_over(request)
}

/// Whether an access was reviewed, if it is to be.
fn has_review(grant: &AccessGrant) -> Option<bool> {
    let conditions = &grant.status.as_ref()?.conditions;
    condition::get(conditions, condition::REVIEWED).map(|reviewed| reviewed.status == "True")
}
