//! The examples are true: a person applies them as they are, and they do what they say.

use std::path::{Path, PathBuf};

use curfew::api::{AccessPolicy, AccessRequest, RequestPhase, condition};
use kube::Api;
use serde_json::json;

use crate::scene::{Scene, creates};
use crate::tools::{eventually, watched};
use crate::world::{Case, cases};

pub fn cases() -> Vec<Case> {
    cases![Shipped []: each_example_is_applied_as_it_is_and_does_what_it_says]
}

/// The files of examples whose names begin so.
fn examples(prefix: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut named: Vec<_> = files
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
        .collect();
    named.sort_unstable();
    named
}

/// What an example's object is called.
fn name(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let name = text.lines().find_map(|line| line.strip_prefix("  name: "));
    name.unwrap_or_else(|| panic!("{}: no name", file.display())).to_owned()
}

async fn each_example_is_applied_as_it_is_and_does_what_it_says(scene: Scene) {
    let admin = scene.cluster().admin();
    let applied = async |user: &curfew_testbed::User, file: &Path| {
        let answer = user.kubectl(["apply", "-f", &file.to_string_lossy()]).await.unwrap();
        answer.ok().unwrap_or_else(|error| panic!("{error}"));
    };
    applied(admin, &examples("roles").remove(0)).await;
    let second = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-b"}});
    creates(admin, &second).await.unwrap();

    let policies = examples("policy");
    assert!(policies.len() > 1, "{policies:?}");
    for file in policies {
        applied(admin, &file).await;
        let all = Api::<AccessPolicy>::all(admin.client().unwrap());
        let ready = |policy: Option<&AccessPolicy>| {
            policy
                .and_then(|policy| policy.status.as_ref())
                .is_some_and(|status| condition::is_true(&status.conditions, condition::READY))
        };
        watched(all, &name(&file), "a policy that is Ready", ready).await;
    }

    let dana = scene.cluster().user("dana").group("developers").build().await.unwrap();
    eventually("dana may ask", async || {
        dana.can("create", "accessrequests.curfew.dev", Some("team-a"))
            .await
            .unwrap()
    })
    .await;
    let requests = Api::<AccessRequest>::namespaced(admin.client().unwrap(), "team-a");
    let offered = |request: Option<&AccessRequest>| {
        request
            .and_then(|request| request.status.as_ref())
            .is_some_and(|status| status.offer.is_some())
    };
    let (extensions, others): (Vec<_>, Vec<_>) = examples("request")
        .into_iter()
        .partition(|file| std::fs::read_to_string(file).unwrap().contains("extends:"));
    assert!(others.len() > 3 && !extensions.is_empty(), "{others:?} {extensions:?}");
    for file in others {
        applied(&dana, &file).await;
        watched(requests.clone(), &name(&file), "an offer, or access", offered).await;
    }

    let sam = scene.cluster().user("sam").group("sre").build().await.unwrap();
    let approves = [
        "annotate",
        "accessrequest/look-at-pods",
        "-n",
        "team-a",
        "curfew.dev/decision=approve",
    ];
    sam.kubectl(approves)
        .await
        .unwrap()
        .ok()
        .unwrap_or_else(|error| panic!("{error}"));
    let active = |request: Option<&AccessRequest>| {
        let status = request.and_then(|request| request.status.as_ref());
        status.is_some_and(|status| status.phase == Some(RequestPhase::Active))
    };
    let active = watched(requests.clone(), "look-at-pods", "access", active).await;
    let grant = active.unwrap().status.unwrap().grant.unwrap();
    for file in extensions {
        let filled_in = std::fs::read_to_string(&file).unwrap().replace("GRANT", &grant);
        let answer = dana.kubectl_stdin(["apply", "-f", "-"], &filled_in).await.unwrap();
        answer.ok().unwrap_or_else(|error| panic!("{error}"));
        watched(requests.clone(), &name(&file), "an offer", offered).await;
    }
}
