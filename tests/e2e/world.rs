//! The clusters that tests share: each is started by the first test that needs it, and ended after the last.

use std::future::Future;
use std::pin::Pin;
use std::sync::{LazyLock, MutexGuard, PoisonError};

use curfew::core::guard::{Mark, epoch};
use curfew_testbed::{Capability, Cluster, InstallOptions, Installation, Kind, OperatorOptions, Options};
use libtest_mimic::Trial;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, OnceCell};

use crate::scene::{Scene, would_create};
use crate::signs::leads;

/// ClusterRoles that the operator may bind in every world. Those marked with rules exist from the start.
const CLUSTER_ROLES: &str = r#"
apiVersion: v1
kind: List
items:
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: e2e-reader}, rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list]}]}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: e2e-planter}, rules: [{apiGroups: [rbac.authorization.k8s.io], resources: [rolebindings], verbs: [create]}]}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: e2e-empty}, rules: []}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: e2e-debugger}, rules: [{apiGroups: [""], resources: [pods/exec], verbs: [create]}]}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: e2e-not-grantable}, rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]}
"#;

/// What the operator may bind: `reader` and `other` in each test's own namespace, and a few cluster roles. `e2e-missing` never exists.
fn values(setting: Setting) -> Value {
    let grantable = |kind: &str, name: &str| json!({"kind": kind, "name": name});
    // As shipped it isn't, and so it is tried too.
    let cluster_wide = !is_older(setting);
    json!({"clusterWide": cluster_wide, "grantableRoles": [
        grantable("Role", "reader"),
        grantable("Role", "other"),
        grantable("ClusterRole", "e2e-reader"),
        grantable("ClusterRole", "e2e-planter"),
        grantable("ClusterRole", "e2e-empty"),
        grantable("ClusterRole", "e2e-missing"),
        grantable("ClusterRole", "e2e-debugger"),
        // Those of the examples.
        grantable("ClusterRole", "pod-reader"),
        grantable("ClusterRole", "node-reader"),
    ]})
}

/// Which cluster a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// As shipped.
    Shipped,
    /// As shipped, on a server that serves the APIs of Kubernetes 1.34: it doesn't stamp, and records are written as the plugin will.
    Older,
    /// The same for a single test, which upgrades it.
    OlderAlone,
    /// As shipped, and one test at a time: each may change guards and take them away, and they are put back before the next.
    InTurn,
    /// A cluster that no other test uses meanwhile, and another may afterwards: what is done to operators and their Lease is undone; whatever else
    /// a test stops it starts again.
    Lent,
    /// A cluster for a single test, which may break what it likes.
    Alone,
}

fn is_older(setting: Setting) -> bool {
    matches!(setting, Setting::Older | Setting::OlderAlone)
}

/// A cluster with the product on it.
pub struct World {
    /// Which.
    pub setting: Setting,
    /// The cluster.
    pub cluster: Cluster,
    /// The product.
    pub installation: Installation,
    /// Its guards, as they were installed.
    guards: Vec<Value>,
}

impl World {
    /// Whether the API server turns the annotation into a record.
    pub fn stamps(&self) -> bool {
        !is_older(self.setting)
    }

    async fn start(setting: Setting) -> World {
        let options = match setting {
            Setting::Older | Setting::OlderAlone => Options::emulating("1.34"),
            Setting::Shipped | Setting::InTurn | Setting::Lent | Setting::Alone => Options::default(),
        };
        let cluster = Cluster::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        let roles = cluster
            .admin()
            .kubectl_stdin(["apply", "-f", "-"], CLUSTER_ROLES)
            .await
            .unwrap();
        roles.ok().unwrap_or_else(|error| panic!("{error}"));
        let operator = OperatorOptions::new(env!("CARGO_BIN_EXE_curfew")).arguments([
            "--namespace",
            "curfew-system",
            "--log-level",
            "info,curfew=debug",
        ]);
        let options = InstallOptions {
            values: values(setting),
            operator: Some(operator),
            ..InstallOptions::default()
        };
        let installation = Installation::install(&cluster, options)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let guards = guards(&cluster).await;
        let world = World {
            setting,
            cluster,
            installation,
            guards,
        };
        world.wait_for_guards().await;
        world
    }

    /// A new admission policy takes about a second until the API server heeds it. Its last one is in force when a forbidden write is refused by it.
    async fn wait_for_guards(&self) {
        crate::tools::eventually("every guard is in force", async || self.guards_are_in_force().await).await;
    }

    async fn guards_are_in_force(&self) -> bool {
        let admin = self.cluster.admin();
        let probes = [
            r#"{"apiVersion":"curfew.dev/v1alpha1","kind":"AccessRequest","metadata":{"name":"probe","namespace":"default"},"spec":{"role":{"kind":"Role","name":"x"},"requester":{"username":"somebody-else","uid":"","groups":[]}}}"#,
            r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"curfew-probe","namespace":"default"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"x"},"subjects":[]}"#,
            r#"{"apiVersion":"curfew.dev/v1alpha1","kind":"AccessGrant","metadata":{"name":"probe"},"spec":{"request":{"namespace":"x","name":"x","uid":"x"},"requester":{"username":"x"},"subject":{"kind":"User","name":"x"},"role":{"kind":"Role","name":"x","uid":"x","rulesDigest":"x","onChange":"Keep"},"targets":[{"namespace":"x","uid":"x"}],"duration":"1h","policy":{"name":"x","uid":"x","digest":"x","onChange":"Keep"},"offer":"x","decisions":[{"verdict":"Approve","username":"x","via":["x"]}],"revokers":{}}}"#,
        ];
        for probe in probes {
            let answer = would_create(admin, &serde_json::from_str(probe).unwrap()).await;
            if !answer.is_err_and(|refusal| refusal.contains("ValidatingAdmissionPolicy")) {
                return false;
            }
        }
        if !self.stamps() {
            return true;
        }
        let unnamed = r#"{"apiVersion":"curfew.dev/v1alpha1","kind":"AccessRequest","metadata":{"name":"probe","namespace":"default"},"spec":{"role":{"kind":"Role","name":"x"}}}"#;
        let unnamed = serde_json::from_str(unnamed).unwrap();
        would_create(admin, &unnamed).await.is_ok()
    }

    /// The epoch of the guards, as the operator computes it.
    pub async fn epoch(&self) -> String {
        let marks: Vec<Mark> = guards(&self.cluster)
            .await
            .iter()
            .map(|guard| Mark {
                kind: serde_json::from_value(guard["kind"].clone()).unwrap(),
                name: guard["metadata"]["name"].as_str().unwrap().into(),
                uid: guard["metadata"]["uid"].as_str().unwrap().into(),
                generation: guard["metadata"]["generation"].as_i64().unwrap(),
            })
            .collect();
        epoch(&marks)
    }

    /// A guard as it was installed, in the form in which it can be written again.
    pub fn guard(&self, kind: &str, name: &str) -> Value {
        let mut guards = self.guards.iter();
        let guard = guards.find(|guard| guard["kind"] == kind && guard["metadata"]["name"] == name);
        written(guard.unwrap_or_else(|| panic!("there is no {kind} {name}")))
    }

    /// Every guard is put back as it was installed, what tests put beside them goes, and access is granted again.
    pub async fn put_guards_back(&self) {
        let admin = self.cluster.admin();
        let now = guards(&self.cluster).await;
        for guard in &self.guards {
            let same = |other: &&Value| {
                other["kind"] == guard["kind"] && other["metadata"]["name"] == guard["metadata"]["name"]
            };
            let (verb, again) = match now.iter().find(same) {
                Some(now) if now["spec"] == guard["spec"] => continue,
                Some(now) => {
                    let mut again = written(guard);
                    again["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
                    ("replace", again)
                }
                None => ("create", written(guard)),
            };
            let answer = admin
                .kubectl_stdin([verb, "-f", "-"], &again.to_string())
                .await
                .unwrap();
            answer.ok().unwrap_or_else(|error| panic!("{error}"));
        }
        for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
            let delete = ["delete", kind, "--selector", "e2e=foreign"];
            admin.kubectl(delete).await.unwrap().ok().unwrap();
        }
        let operator = self.installation.operator().unwrap();
        operator
            .wait_until_ready()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// The operator begins anew, whatever became of it, and grants; it isn't to wait for the Lease of one that was killed.
    async fn operator_begins_anew(&self) {
        let operator = self.installation.operator().unwrap();
        if operator.pid().is_some() {
            operator.kill().unwrap();
        }
        let give_up = ["delete", "lease", "curfew", "--ignore-not-found", "--namespace"];
        let admin = self.cluster.admin();
        let given_up = admin
            .kubectl(give_up.into_iter().chain([self.installation.namespace()]))
            .await
            .unwrap();
        given_up.ok().unwrap_or_else(|error| panic!("{error}"));
        operator.start().await.unwrap_or_else(|error| panic!("{error}"));
        crate::tools::eventually("the operator grants", async || leads(operator).await).await;
    }

    /// Takes a guard's binding away and waits until the API server has stopped heeding it.
    pub async fn remove_guard(&self, name: &str) {
        let admin = self.cluster.admin();
        admin
            .kubectl(["delete", "validatingadmissionpolicybinding", name])
            .await
            .unwrap()
            .ok()
            .unwrap();
        let probe = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"curfew-probe","namespace":"default"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"x"},"subjects":[]}"#;
        if name == "curfew-reserved" {
            crate::tools::eventually("the guard is gone", async || {
                admin
                    .kubectl_stdin(["create", "--dry-run=server", "-f", "-"], probe)
                    .await
                    .unwrap()
                    .succeeded()
            })
            .await;
        }
    }
}

/// All guards that are there: Curfew's admission policies with their bindings, and its CustomResourceDefinitions.
async fn guards(cluster: &Cluster) -> Vec<Value> {
    let mut kinds = vec!["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
    let stamping = ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"];
    let served = [
        "api-resources",
        "--api-group=admissionregistration.k8s.io",
        "-o",
        "name",
    ];
    let served = cluster.admin().kubectl(served).await.unwrap().ok().unwrap();
    kinds.extend(stamping.iter().filter(|kind| served.contains(*kind)));
    kinds.push("customresourcedefinitions");
    let get = ["get", &kinds.join(","), "-o", "json"];
    let list: Value = serde_json::from_str(&cluster.admin().kubectl(get).await.unwrap().ok().unwrap()).unwrap();
    let is_ours = |object: &&Value| {
        let name = object["metadata"]["name"].as_str().unwrap();
        name.starts_with("curfew-") || name.ends_with(".curfew.dev")
    };
    let kept = |object: &Value| {
        let metadata = ["name", "labels", "uid", "generation", "resourceVersion"];
        let metadata: Map<String, Value> = metadata
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), object["metadata"].get(*key)?.clone())))
            .collect();
        json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": metadata, "spec": object["spec"]})
    };
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(is_ours)
        .map(kept)
        .collect()
}

/// An object without what the API server alone writes.
fn written(object: &Value) -> Value {
    let mut object = object.clone();
    for own in ["uid", "generation", "resourceVersion"] {
        object["metadata"].as_object_mut().unwrap().remove(own);
    }
    object
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
});
static SHIPPED: OnceCell<World> = OnceCell::const_new();
static OLDER: OnceCell<World> = OnceCell::const_new();
static IN_TURN: OnceCell<World> = OnceCell::const_new();
/// Held by the test whose turn it is.
static TURN: Mutex<()> = Mutex::const_new(());

/// Those that can be lent.
static IDLE: std::sync::Mutex<Vec<&'static World>> = std::sync::Mutex::new(vec![]);

type Run = fn(Scene) -> Pin<Box<dyn Future<Output = ()>>>;

/// One promise.
pub struct Case {
    /// The promise, as a name.
    pub name: &'static str,
    /// Where it is tried.
    pub setting: Setting,
    /// What a cluster must be able to do for it.
    pub needs: &'static [Capability],
    /// How it is tried.
    pub run: Run,
}

impl Case {
    /// As a test. What the chosen kind of cluster lacks is known before one is started.
    pub fn trial(self) -> Trial {
        let Case {
            name,
            setting,
            needs,
            run,
        } = self;
        let kind = Kind::from_env().unwrap_or_else(|error| panic!("{error}"));
        let lacking = needs.iter().any(|capability| !kind.can(*capability))
            || (setting != Setting::Shipped && kind != Kind::Embedded);
        let shown = match setting {
            Setting::Shipped => name.to_owned(),
            Setting::Lent => format!("{name} (on a cluster lent)"),
            Setting::Alone => format!("{name} (on a cluster of its own)"),
            Setting::Older => format!("{name} (on 1.34)"),
            Setting::OlderAlone => format!("{name} (on 1.34, on a cluster of its own)"),
            Setting::InTurn => format!("{name} (in turn)"),
        };
        let test = move || {
            RUNTIME.block_on(tried(setting, run));
            Ok(())
        };
        Trial::test(shown.trim_start_matches("e2e::"), test).with_ignored_flag(lacking)
    }
}

async fn tried(setting: Setting, run: Run) {
    let _turn = match setting {
        Setting::InTurn => Some(TURN.lock().await),
        Setting::Shipped | Setting::Older | Setting::OlderAlone | Setting::Lent | Setting::Alone => None,
    };
    let world = match setting {
        Setting::Shipped => SHIPPED.get_or_init(|| World::start(setting)).await,
        Setting::Older => OLDER.get_or_init(|| World::start(setting)).await,
        Setting::InTurn => IN_TURN.get_or_init(|| World::start(setting)).await,
        Setting::Lent => {
            let idle = idle().pop();
            match idle {
                Some(world) => {
                    world.operator_begins_anew().await;
                    world
                }
                None => leaked(World::start(setting).await),
            }
        }
        Setting::Alone | Setting::OlderAlone => leaked(World::start(setting).await),
    };
    if setting == Setting::InTurn {
        world.put_guards_back().await;
    }
    run(Scene::new(world).await).await;
    match setting {
        // One that a test failed on isn't lent again.
        Setting::Lent => idle().push(world),
        Setting::Alone | Setting::OlderAlone => world.cluster.stop().await,
        Setting::Shipped | Setting::Older | Setting::InTurn => {}
    }
}

/// So that a scene can hold it like the others; the testbed's watchdog ends it with this process at the latest.
fn leaked(world: World) -> &'static World {
    Box::leak(Box::new(world))
}

fn idle() -> MutexGuard<'static, Vec<&'static World>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all clusters.
pub fn end() {
    RUNTIME.block_on(async {
        let shared = [&SHIPPED, &OLDER, &IN_TURN].into_iter().filter_map(OnceCell::get);
        let lent = std::mem::take(&mut *idle());
        for world in shared.chain(lent) {
            world.cluster.stop().await;
        }
    });
}

/// Lists the cases of a file: `cases![Shipped [AuditLog]: one, two; Older []: one]`. In brackets stands what a cluster must be able to do.
macro_rules! cases {
    ($($setting:ident $needs:tt: $($name:ident),+ $(,)?);+ $(;)?) => {
        vec![$($($crate::world::Case {
            name: concat!(module_path!(), "::", stringify!($name)),
            setting: $crate::world::Setting::$setting,
            needs: $crate::world::cases!(@ $needs),
            run: |scene| Box::pin($name(scene)),
        }),+),+]
    };
    (@ [$($need:ident),*]) => { &[$(curfew_testbed::Capability::$need),*] };
}
pub(crate) use cases;

/// The same for promises that hold with the annotation, and again where the API server doesn't stamp.
macro_rules! cases_on_both {
    ($($name:ident),+ $(,)?) => { $crate::world::cases![Shipped []: $($name),+; Older []: $($name),+] };
}
pub(crate) use cases_on_both;
