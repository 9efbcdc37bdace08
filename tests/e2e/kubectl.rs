//! What people see and type: kubectl's own verbs, the shipped roles, and the operator's command line.

use std::path::Path;
use std::process::Stdio;

use curfew::api::{EndReason, RequestPhase};
use curfew_testbed::{Answer, User};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::scene::{Scene, VERBS, creates, person};
use crate::tools::{LIMIT, eventually};
use crate::world::{Case, cases};

const OPERATOR: &str = env!("CARGO_BIN_EXE_curfew");

pub fn cases() -> Vec<Case> {
    cases![
        Shipped []:
            explain_reads_well,
            get_shows_what_people_look_for,
            one_word_gets_all_three_kinds,
            wait_returns_when_access_is_granted_and_when_it_ended,
            applying_the_same_manifest_again_changes_nothing,
            editing_a_request_is_refused_in_clear_words,
            the_requester_takes_a_pending_request_back_and_ends_an_active_one,
            shipped_roles_give_what_they_say_and_no_more,
            the_operator_explains_each_of_its_options,
            a_wrong_option_or_value_is_named_in_one_sentence,
            without_a_way_to_the_api_server_the_operator_ends_with_a_sentence,
            an_operator_that_cant_reach_its_api_server_goes_on_trying_and_ends_when_told;
        Older []:
            applying_the_same_manifest_again_changes_nothing,
            editing_a_request_is_refused_in_clear_words;
        Lent [OperatorProcess]:
            the_operator_ends_gracefully_and_its_log_holds_no_token;
    ]
}

// ---- reading ----

async fn explain_reads_well(scene: Scene) {
    let expected = [
        ("accessrequest", "asks for a role for a limited time"),
        (
            "accessrequest.spec.duration",
            "How long access shall last, counted from the moment it is granted",
        ),
        ("accessrequest.spec.decisions.via", "What let them speak"),
        ("accesspolicy.spec.approval", "what is missing never means \"granted\""),
        ("accessgrant.status.expiresAt", "When access ends"),
    ];
    for (field, sentence) in expected {
        let shown = scene.kubectl(&scene.alice, &["explain", field]).await.ok().unwrap();
        // Lines are wrapped to the terminal.
        let text = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("GROUP: curfew.dev") && text.contains(sentence), "{shown}");
        assert!(!shown.contains("<no description>"), "{shown}");
    }
    // No field is left without a description, and none is written for Rust's readers.
    for definition in curfew::api::definitions() {
        let kind = definition.spec.names.kind;
        let schema = definition.spec.versions[0]
            .schema
            .clone()
            .unwrap()
            .open_api_v3_schema
            .unwrap();
        described(&kind, &serde_json::to_value(schema).unwrap());
    }
}

fn described(path: &str, schema: &Value) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let description = field["description"].as_str().unwrap_or_default();
        let by_kubernetes =
            path.matches('.').count() == 1 && ["apiVersion", "kind", "metadata"].contains(&name.as_str());
        let shows_no_rust = !["[`", "::", "```", "`None`", "`Some`"]
            .iter()
            .any(|rust| description.contains(rust));
        assert!(
            by_kubernetes || (!description.is_empty() && shows_no_rust),
            "{path}: {description:?}"
        );
        described(&path, field);
    }
    if schema["items"].is_object() {
        described(path, &schema["items"]);
    }
}

async fn get_shows_what_people_look_for(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let offer = scene.asked(&scene.request("look")).await.status.unwrap().offer.unwrap();
    let (header, row) = table(&scene.kubectl(&scene.bob, &["get", "areq", "look"]).await.ok().unwrap());
    assert_eq!(
        header,
        [
            "NAME",
            "POLICY",
            "ROLE",
            "REQUESTER",
            "PHASE",
            "CODE",
            "ENDS",
            "REVIEW",
            "AGE"
        ]
    );
    let policy = format!("policy-{}", scene.id);
    assert_eq!(
        row[..6],
        ["look", &policy, "reader", scene.alice.name(), "Pending", &offer.code]
    );

    scene.decides(&scene.bob, "look", "approve").await.unwrap();
    let grant = scene.active("look").await;
    let shown = scene
        .kubectl(&scene.bob, &["get", "areq", "look", "-o", "wide"])
        .await
        .ok()
        .unwrap();
    let (header, row) = table(&shown);
    assert_eq!(header[7..], ["REVIEW", "AGE", "REASON", "GRANT", "MESSAGE"]);
    let ends = curfew::api::time::written(curfew::core::grant::deadline(&grant));
    assert_eq!((row[4].as_str(), row[6].as_str()), ("Active", ends.as_str()));
    assert!(
        shown.contains("a test") && shown.contains(&grant.metadata.name.unwrap()) && shown.contains("access until"),
        "{shown}"
    );

    let shown = scene
        .kubectl(scene.cluster().admin(), &["get", "apol", &policy, "-o", "wide"])
        .await
        .ok()
        .unwrap();
    let (header, row) = table(&shown);
    assert_eq!(header, ["NAME", "READY", "REASON", "MAX", "AGE", "MESSAGE"]);
    assert_eq!(row[..4], [policy.as_str(), "True", "Ready", "1h"]);
}

async fn one_word_gets_all_three_kinds(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await.metadata.name.unwrap();
    let shown = scene
        .kubectl(scene.cluster().admin(), &["get", "curfew", "-o", "name"])
        .await
        .ok()
        .unwrap();
    for name in [
        format!("accesspolicy.curfew.dev/policy-{}", scene.id),
        "accessrequest.curfew.dev/look".into(),
        format!("accessgrant.curfew.dev/{grant}"),
    ] {
        assert!(shown.lines().any(|line| line == name), "{name} is not in:\n{shown}");
    }
}

/// The header and the first row of what kubectl printed, in columns.
fn table(printed: &str) -> (Vec<String>, Vec<String>) {
    let mut lines = printed.lines();
    // Columns are set apart by three blanks; a cell may hold single ones.
    let mut cells = || -> Vec<String> {
        let line = lines.next().unwrap_or_else(|| panic!("a line is missing:\n{printed}"));
        line.split("   ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    (cells(), cells())
}

// ---- waiting and applying ----

async fn wait_returns_when_access_is_granted_and_when_it_ended(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    // Long enough for a kubectl that begins late to see it.
    scene
        .asked(&scene.request_with("look", json!({"duration": "15s"})))
        .await;
    let waits = async |condition: &str| {
        let condition = format!("--for=condition={condition}");
        scene
            .kubectl(
                &scene.alice,
                &["wait", "accessrequest/look", &condition, "--timeout=60s"],
            )
            .await
    };
    let (granted, ended, decided) = tokio::join!(
        waits("Granted"),
        waits("Ended"),
        scene.decides(&scene.bob, "look", "approve")
    );
    decided.unwrap();
    assert!(granted.ok().unwrap().contains("condition met") && ended.ok().unwrap().contains("condition met"));
    let request = scene.request_in("look", RequestPhase::Expired).await;
    let conditions = request.status.unwrap().conditions;
    let ended = curfew::api::condition::get(&conditions, "Ended").unwrap();
    assert_eq!(
        (ended.status.as_str(), ended.reason.as_str()),
        ("True", "DeadlineReached")
    );
}

async fn applying_the_same_manifest_again_changes_nothing(scene: Scene) {
    let mut policy = scene.policy();
    policy["spec"]["approval"]["stages"][0]["required"] = json!(2);
    scene.has_policy(&policy).await;
    for (name, how) in [
        ("here", ["apply", "-f", "-"].as_slice()),
        ("there", &["apply", "--server-side", "-f", "-"]),
    ] {
        let mut manifest = scene.request(name);
        if !scene.world.stamps() {
            manifest["spec"]["requester"] = scene.identity(&scene.alice).await;
        }
        let apply = async |how: &[&str]| {
            let answer = scene.alice.kubectl_stdin(how, &manifest.to_string()).await.unwrap();
            answer.ok().unwrap_or_else(|error| panic!("{error}"))
        };
        apply(how).await;
        scene
            .request_that(name, "an offer", |request| {
                request.status.as_ref().is_some_and(|status| status.offer.is_some())
            })
            .await;
        scene.decides(&scene.bob, name, "approve").await.unwrap();
        let before = scene.weighed(name).await;
        assert_eq!(before.spec.requester.as_ref().unwrap().username, scene.alice.name());
        assert_eq!(before.spec.decisions.len(), 1);
        let said = apply(how).await;
        assert!(how.len() > 3 || said.contains("unchanged"), "{said}");
        // And from one way of applying to the other.
        apply(&["apply", "--server-side", "-f", "-"]).await;
        let after = scene.request_now(name).await;
        assert_eq!(
            (after.spec, after.metadata.generation, after.status),
            (before.spec, before.metadata.generation, before.status)
        );
    }
}

async fn editing_a_request_is_refused_in_clear_words(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("look")).await;
    let because = "duration can't be changed; make a new request";
    let kubectl = scene.cluster().kubectl_path().to_str().unwrap();
    // The editor writes 8h over 5m; kubectl opens it again with the reason on top, and gives up when nothing more is changed.
    let scratch = format!("TMPDIR={}", scene.cluster().data_dir().display());
    let edit = [
        "KUBE_EDITOR=sed -i s/5m/8h/",
        &scratch,
        kubectl,
        "edit",
        "accessrequest",
        "look",
        "--namespace",
        &scene.namespace,
    ];
    let refusal = scene
        .alice
        .run_program(Path::new("/usr/bin/env"), edit)
        .await
        .unwrap()
        .refused()
        .unwrap();
    assert!(refusal.contains("no valid changes were saved"), "{refusal}");
    let edited = std::fs::read_to_string(refusal.split('"').find(|part| part.ends_with(".yaml")).unwrap()).unwrap();
    assert!(edited.contains(because), "{edited}");

    let mut manifest = scene.request_with("look", json!({"duration": "8h"}));
    manifest["spec"]["requester"] = scene.identity(&scene.alice).await;
    let refusal = scene.apply(&scene.alice, &manifest).await.refused().unwrap();
    assert!(refusal.contains(because), "{refusal}");
    assert_eq!(scene.request_now("look").await.spec.duration.unwrap().as_str(), "5m");
}

async fn the_requester_takes_a_pending_request_back_and_ends_an_active_one(scene: Scene) {
    scene.has_policy(&scene.policy()).await;
    scene.asked(&scene.request("pending")).await;
    scene.said(&scene.alice, "pending", "revoke").await;
    scene.request_in("pending", RequestPhase::Withdrawn).await;
    let grant = scene.granted(&scene.request("active")).await;
    scene.has_access().await;
    scene.said(&scene.alice, "active", "revoke").await;
    let end = scene.grant_ended(&grant).await.status.unwrap().end.unwrap();
    assert_eq!(end.reason, EndReason::Revoked);
    scene.request_in("active", RequestPhase::Revoked).await;
    scene.has_no_access().await;
}

// ---- the shipped roles ----

async fn shipped_roles_give_what_they_say_and_no_more(scene: Scene) {
    let [requests, policies, grants] = ["accessrequests", "accesspolicies", "accessgrants"];
    let asking: &[&str] = &["create", "get", "list", "watch", "patch"];
    let deciding: &[&str] = &["get", "list", "watch", "patch", "update"];
    let reading: &[&str] = &["get", "list", "watch"];
    // By a RoleBinding, which gives only what is in its namespace.
    may(&scene, &scene.alice, &[(requests, asking)]).await;
    may(&scene, &scene.bob, &[(requests, deciding)]).await;
    let roles: [(&str, Allowed<'_>); 3] = [
        ("requester", &[(requests, asking), (policies, &["get", "list"])]),
        (
            "approver",
            &[(requests, deciding), (policies, reading), (grants, reading)],
        ),
        ("viewer", &[(requests, reading), (policies, reading), (grants, reading)]),
    ];
    for (role, allowed) in roles {
        may(&scene, &everywhere(&scene, role).await, allowed).await;
    }
}

/// Somebody who has a shipped role in the whole cluster.
async fn everywhere(scene: &Scene, role: &str) -> User {
    let name = format!("{role}-{}", scene.id);
    let user = scene.cluster().user(&name).build().await.unwrap();
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": format!("e2e-{name}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("curfew-{role}")},
        "subjects": [person(user.name())],
    });
    creates(scene.cluster().admin(), &binding).await.unwrap();
    eventually("the right is there", async || {
        user.can("get", "accesspolicies.curfew.dev", None).await.unwrap()
    })
    .await;
    user
}

/// Kinds, and what may be done with each.
type Allowed<'a> = &'a [(&'a str, &'a [&'a str])];

/// Of all that can be done with Curfew's kinds, `user` may do this and nothing else.
async fn may(scene: &Scene, user: &User, allowed: Allowed<'_>) {
    for kind in ["accessrequests", "accesspolicies", "accessgrants"] {
        let namespace = (kind == "accessrequests").then_some(scene.namespace.as_str());
        for subresource in ["", "/status"] {
            let resource = format!("{kind}.curfew.dev{subresource}");
            for verb in VERBS {
                let expected = subresource.is_empty()
                    && allowed
                        .iter()
                        .any(|(allowed, verbs)| *allowed == kind && verbs.contains(&verb));
                let can = user.can(verb, &resource, namespace).await.unwrap();
                assert_eq!(can, expected, "whether {} may {verb} {resource}", user.name());
            }
        }
    }
}

// ---- the operator's command line ----

async fn the_operator_explains_each_of_its_options(scene: Scene) {
    let help = operator(&scene, &["--help"]).await.ok().unwrap();
    for option in [
        "--listen",
        "--log-format",
        "--log-level",
        "--kubeconfig",
        "--context",
        "--namespace",
        "--version",
    ] {
        assert!(help.contains(option), "{option} is not in:\n{help}");
    }
    let lines: Vec<&str> = help.lines().collect();
    for (number, line) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.trim_start().starts_with('-') && line.contains("--"))
    {
        assert!(
            lines[number + 1].trim().len() > 10,
            "{line} is not explained in:\n{help}"
        );
    }
    assert!(
        help.contains("[env: CURFEW_LISTEN") && help.contains("[default: "),
        "{help}"
    );
    let version = operator(&scene, &["--version"]).await.ok().unwrap();
    assert_eq!(version.trim(), format!("curfew {}", env!("CARGO_PKG_VERSION")));
}

async fn a_wrong_option_or_value_is_named_in_one_sentence(scene: Scene) {
    let wrong = [
        ("--nonsense", "unexpected argument '--nonsense'", ""),
        ("nonsense", "unrecognized subcommand 'nonsense'", ""),
        ("--listen=here", "invalid value 'here' for '--listen", ""),
        (
            "--log-format=xml",
            "invalid value 'xml' for '--log-format",
            "json, text",
        ),
        (
            "--log-level=a=b=c",
            "invalid value 'a=b=c' for '--log-level",
            "error, warn, info, debug, trace",
        ),
        ("--kubeconfig", "a value is required for '--kubeconfig", ""),
    ];
    for (argument, sentence, allowed) in wrong {
        let answer = operator(&scene, &[argument]).await;
        assert_eq!(answer.code, Some(2), "{argument}");
        let first = answer.stderr.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("error: ") && first.contains(sentence) && answer.stderr.contains(allowed),
            "{}",
            answer.stderr
        );
    }
}

async fn without_a_way_to_the_api_server_the_operator_ends_with_a_sentence(scene: Scene) {
    let listen = "--listen=127.0.0.1:0";
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = format!("--listen={}", taken.local_addr().unwrap());
    let attempts: [(&[&str], &[&str]); 4] = [
        (
            &[listen, "--kubeconfig=/nowhere/config"],
            &["the kubeconfig can't be used", "/nowhere/config"],
        ),
        (
            &[listen, "--context=nowhere"],
            &["the kubeconfig can't be used", "nowhere"],
        ),
        (&[&elsewhere], &["can't be listened on", "choose another with --listen"]),
        (&["-"], &["no way to the API server was found", "give --kubeconfig"]),
    ];
    for (arguments, sentence) in attempts {
        let answer = match arguments {
            ["-"] => {
                let bare = ["-u", "KUBECONFIG", "HOME=/nowhere", OPERATOR, listen];
                scene.alice.run_program(Path::new("/usr/bin/env"), bare).await.unwrap()
            }
            arguments => operator(&scene, arguments).await,
        };
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(
            sentence.iter().all(|part| answer.stderr.contains(part)),
            "{}",
            answer.stderr
        );
        assert!(!answer.stderr.contains("panicked"), "{}", answer.stderr);
    }
}

async fn an_operator_that_cant_reach_its_api_server_goes_on_trying_and_ends_when_told(scene: Scene) {
    // A port on which nobody listens any more.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("https://{}", silent.local_addr().unwrap());
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}], "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    let file = scene
        .cluster()
        .data_dir()
        .join(format!("unreachable-{}.kubeconfig", scene.id));
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    drop(silent);

    // In a container it may begin with few open files, and raises that.
    let few = ["-c", "ulimit -Sn 256; exec \"$@\"", "sh", OPERATOR];
    let mut command = tokio::process::Command::new("sh");
    command
        .args(few)
        .args(["--log-format=json", "--listen=127.0.0.1:0", "--kubeconfig"])
        .arg(&file)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = async |what: &str| {
        while let Some(line) = tokio::time::timeout(LIMIT, log.next_line()).await.unwrap().unwrap() {
            let line: Value = serde_json::from_str(&line).expect("each line is an object");
            assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
            if line["message"].as_str().is_some_and(|message| message.contains(what)) {
                return;
            }
        }
        panic!("it ended without saying {what:?}");
    };
    said("a watch broke and is opened again").await;
    let pid = child.id().unwrap().to_string();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let [soft, hard] = [0, 1].map(|which| files.and_then(|files| files.split_whitespace().nth(which)).unwrap());
    assert_eq!(soft, hard);
    let told = tokio::process::Command::new("kill").arg(&pid).status().await.unwrap();
    assert!(told.success());
    said("told to end").await;
    let status = tokio::time::timeout(LIMIT, child.wait())
        .await
        .expect("it ends soon after it was told")
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

/// Runs the operator to its end, with alice's kubeconfig in `KUBECONFIG`.
async fn operator(scene: &Scene, arguments: &[&str]) -> Answer {
    scene.alice.run_program(Path::new(OPERATOR), arguments).await.unwrap()
}

async fn the_operator_ends_gracefully_and_its_log_holds_no_token(scene: Scene) {
    let operator = scene.world.installation.operator().unwrap();
    scene.has_policy(&scene.policy()).await;
    let grant = scene.granted(&scene.request("look")).await;
    operator.stop().await.unwrap();
    let log = operator.log();
    assert!(log.contains("told to end") && log.contains("curfew ends"), "{log}");
    // What was granted stays, and is looked after again by the next start.
    scene.has_access().await;
    operator.start().await.unwrap();
    scene.decides(&scene.bob, "look", "revoke").await.unwrap();
    scene.grant_ended(&grant).await;
    scene.has_no_access().await;
    operator.stop().await.unwrap();
    // Every service account token is a JWT, and every JWT begins so.
    let log = operator.log();
    for secret in ["eyJ", "Bearer", "bearer", "PRIVATE KEY"] {
        assert!(!log.contains(secret), "{secret:?} is in the log");
    }
}
