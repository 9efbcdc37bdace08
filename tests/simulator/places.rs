//! Where contract tests are played: in memory, and on a real control plane that all of them share.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use chrono::DateTime;
use curfew_testbed::{Cluster, Options};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use libtest_mimic::Failed;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::apiserver::{Kind, Server, Time, Who};
use crate::chance::Chance;
use crate::contract::There;
use crate::guards::Guards;
use crate::kube_controllers;
use crate::weather::Weather;

type Play = fn(There) -> BoxFuture<'static, ()>;

/// Plays a test in memory.
pub fn in_memory(play: Play) -> Result<(), Failed> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let time = Arc::new(Time::from(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        let weather = Arc::new(Weather::new(Arc::clone(&time), Chance::new(0), false));
        let server = Server::new(time, weather);
        server.act(Who::Another, |store, now| {
            let definitions = Guards::shipped().all().iter();
            for (key, definition) in definitions.filter(|(key, _)| key.kind == Kind::Definition) {
                store.create(key, definition.clone(), now).unwrap();
            }
        });
        let always = watch::Sender::default();
        tokio::spawn(kube_controllers::work(
            Arc::clone(&server),
            always.subscribe(),
            Chance::new(1),
        ));
        let client = Client::new(server.connection(Who::Another), "default");
        let there = room(
            client,
            Box::new(move || server.act(Who::Another, |store, _| store.compact())),
        )
        .await;
        play(there).await;
    });
    runtime.shutdown_background();
    Ok(())
}

/// A namespace of one's own.
async fn room(client: Client, forget: Box<dyn Fn() + Send + Sync>) -> There {
    static ROOMS: Mutex<usize> = Mutex::new(0);
    let number = {
        let mut rooms = ROOMS.lock().unwrap_or_else(PoisonError::into_inner);
        *rooms += 1;
        *rooms
    };
    let namespace = format!("contract-{number}");
    let metadata = ObjectMeta {
        name: Some(namespace.clone()),
        ..ObjectMeta::default()
    };
    let object = Namespace {
        metadata,
        ..Namespace::default()
    };
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.create(&PostParams::default(), &object).await.unwrap();
    There {
        client,
        namespace,
        forget,
    }
}

/// Whether there is a control plane that may be changed at will.
pub fn has_a_real_one() -> bool {
    matches!(std::env::var("CURFEW_TESTBED").as_deref(), Err(_) | Ok("embedded"))
}

struct Real {
    runtime: Runtime,
    cluster: Cluster,
}

static REAL: OnceLock<Real> = OnceLock::new();

fn real() -> Real {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let cluster = runtime.block_on(async {
        let cluster = Cluster::start(Options::default())
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let definitions = Api::<CustomResourceDefinition>::all(cluster.admin().client().unwrap());
        for definition in curfew::api::definitions() {
            definitions.create(&PostParams::default(), &definition).await.unwrap();
            let name = definition.name_any();
            let established = await_condition(definitions.clone(), &name, is_crd_established());
            tokio::time::timeout(Duration::from_secs(60), established)
                .await
                .unwrap()
                .unwrap();
        }
        cluster
    });
    Real { runtime, cluster }
}

/// Plays a test on the real one.
pub fn on_a_real_one(play: Play) -> Result<(), Failed> {
    let Real { runtime, cluster } = REAL.get_or_init(real);
    runtime.block_on(async {
        // What is older than this was never watched, and so isn't remembered.
        let forget = Box::new(|| {});
        play(room(cluster.admin().client().unwrap(), forget).await).await;
    });
    Ok(())
}

/// Ends the control plane, if there is one.
pub fn stop() {
    if let Some(Real { runtime, cluster }) = REAL.get() {
        runtime.block_on(cluster.stop());
    }
}
