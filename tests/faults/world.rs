//! The cluster, the product on it with the proxy in between, and its people.

use curfew_testbed::{Cluster, InstallOptions, Installation, OperatorOptions, Options, User};
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::history::History;
use crate::instance::LIMIT;
use crate::patient::Patient;
use crate::proxy::Proxy;

/// So many instances live at the same time.
pub const PLACES: usize = 24;
const NAMESPACE: &str = "curfew-system";
/// The group of those who ask.
const REQUESTERS: &str = "requesters";

/// All that instances share.
pub struct World {
    pub cluster: Cluster,
    pub proxy: Proxy,
    pub patient: Patient,
    pub history: History,
    /// The operator's namespace, and its user name.
    pub namespace: String,
    pub operator: String,
    pub admin: Client,
    as_admin: Config,
    pub bob: Client,
    pub carol: Client,
}

impl World {
    pub async fn start() -> Self {
        let cluster = Cluster::start(Options::default())
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let roles: Vec<Value> = (0..PLACES)
            .flat_map(|place| {
                ["Role", "ClusterRole"].map(|kind| json!({"kind": kind, "name": format!("reader-{place}")}))
            })
            .collect();
        let options = InstallOptions {
            values: json!({"grantableRoles": roles, "clusterWide": true}),
            namespace: NAMESPACE.to_owned(),
            ..InstallOptions::default()
        };
        let installation = Installation::install(&cluster, options)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let people = people(&cluster).await;
        wait_for_guards(&people[0], cluster.admin()).await;

        let proxy = Proxy::start(&config_of(&installation.operator_user().await.unwrap()).await).await;
        let admin = cluster.admin().client().unwrap();
        let history = History::begin(&admin).await;
        let operator = OperatorOptions::new(env!("CARGO_BIN_EXE_curfew"))
            .arguments(["--namespace", NAMESPACE, "--log-level", "info,curfew=debug"])
            .server(proxy.server());
        let operator = installation.spawn_operator(operator).await.unwrap();
        operator
            .wait_until_ready()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let patient = Patient::new(operator);
        proxy.attach(patient.clone());
        let as_admin = config_of(cluster.admin()).await;
        let [_, bob, carol] = people.map(|person| person.client().unwrap());
        Self {
            cluster,
            proxy,
            patient,
            history,
            namespace: NAMESPACE.to_owned(),
            operator: format!("system:serviceaccount:{NAMESPACE}:curfew"),
            admin,
            as_admin,
            bob,
            carol,
        }
    }

    /// A requester of this name, whom an admin impersonates: what one has does not count against another.
    pub fn requester(&self, name: &str) -> Client {
        let mut config = self.as_admin.clone();
        config.auth_info.impersonate = Some(name.to_owned());
        config.auth_info.impersonate_groups = Some(vec![REQUESTERS.to_owned()]);
        Client::try_from(config).unwrap()
    }
}

/// The API server's address and certificate authority, as the operator knows them.
async fn config_of(user: &User) -> Config {
    let kubeconfig = kube::config::Kubeconfig::read_from(user.kubeconfig()).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
        .await
        .unwrap()
}

/// Alice, who may ask; bob and carol, who decide.
async fn people(cluster: &Cluster) -> [User; 3] {
    let bound = |name: &str, role: &str, kind: &str, people: &[&str]| {
        let subjects: Vec<Value> = people
            .iter()
            .map(|name| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}))
            .collect();
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}, "subjects": subjects,
        })
    };
    let deletes = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "deletes-requests"},
        "rules": [{"apiGroups": ["curfew.dev"], "resources": ["accessrequests"], "verbs": ["delete"]}],
    });
    let all = json!({"apiVersion": "v1", "kind": "List", "items": [
        bound("requesters", "curfew-requester", "Group", &[REQUESTERS]),
        bound("approvers", "curfew-approver", "User", &["bob", "carol"]),
        deletes,
        bound("deleters", "deletes-requests", "Group", &[REQUESTERS]),
    ]});
    let applied = cluster
        .admin()
        .kubectl_stdin(["apply", "-f", "-"], &all.to_string())
        .await
        .unwrap();
    applied.ok().unwrap_or_else(|error| panic!("{error}"));
    let person = async |name: &str, group: &str| {
        let built = cluster
            .user(name)
            .uid(&format!("uid-{name}"))
            .group(group)
            .build()
            .await;
        built.unwrap_or_else(|error| panic!("{error}"))
    };
    [
        person("alice", REQUESTERS).await,
        person("bob", "approvers").await,
        person("carol", "approvers").await,
    ]
}

/// A new admission policy takes about a second until the API server heeds it.
async fn wait_for_guards(alice: &User, admin: &User) {
    let request = json!({"apiVersion": "curfew.dev/v1alpha1", "kind": "AccessRequest", "metadata": {"name": "probe", "namespace": "default"},
        "spec": {"role": {"kind": "Role", "name": "x"}}});
    let mut forged = request.clone();
    forged["spec"]["requester"] = json!({"username": "somebody-else", "uid": "", "groups": []});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "curfew-probe", "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "x"}, "subjects": []});
    let in_force = async {
        while would(alice, &request).await.is_err()
            || would(alice, &forged).await.is_ok()
            || would(admin, &binding).await.is_ok()
        {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LIMIT, in_force)
        .await
        .expect("every guard is in force");
}

async fn would(user: &User, object: &Value) -> Result<(), kube::Error> {
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(object.types.clone().unwrap()).unwrap());
    let api: Api<DynamicObject> = Api::namespaced_with(user.client().unwrap(), "default", &resource);
    let only_asks = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&only_asks, &object).await.map(drop)
}
