//! The operator: watches Migrations, decides by the engine, and does what was decided.

mod config;
mod context;
mod effects;
pub mod fault;
mod http;
mod lane1;
mod lease;
mod metrics;
mod observe;
mod plans;
mod reconcile;
mod record;
pub mod telemetry;
mod watches;

use std::{sync::Arc, time::Duration};

pub use config::{Config, LogFormat};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        Controller, WatchStreamExt,
        controller::Config as ControllerConfig,
        events::{Recorder, Reporter},
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{UnboundedReceiverStream, WatchStream};
use tokio_util::sync::CancellationToken;

use self::{
    context::{Context, Memories, Shared},
    http::Readiness,
    lease::Election,
    metrics::Metrics,
    watches::TrafficWatches,
};
use crate::{
    actions::drain::Drains,
    api::{Migration, NAME_LABEL, UID_LABEL},
    guards::{Board, Providers},
};

/// Why the operator could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No way to the API server.
    #[error("no way to the API server")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The metrics providers' file.
    #[error("the metrics providers could not be set up")]
    Providers(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The HTTP surface.
    #[error("could not serve metrics and probes")]
    Http(#[source] std::io::Error),
}

/// Runs the operator until `stop`, then hands over within a second.
///
/// # Errors
/// Only for what keeps it from starting, and for the HTTP surface.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), OperatorError> {
    let kubeconfig = kube::Config::infer().await.map_err(|error| OperatorError::Client(error.into()))?;
    let connect = || Client::try_from(kubeconfig.clone()).map_err(|error| OperatorError::Client(error.into()));
    let client = connect()?;
    let mut registry = Registry::with_prefix("alongside");
    let metrics = Metrics::new(&mut registry);
    let providers = match &config.providers {
        Some(path) => Providers::load(path).map_err(|error| OperatorError::Providers(error.into()))?,
        None => Providers::default(),
    };
    let (board, events) = Board::start(providers);
    board.register(&mut registry);
    let readiness = Readiness::of(&["migrations", "jobs"]);
    let http = tokio::spawn(http::serve(config.http, readiness.clone(), Arc::new(registry), stop.clone()));

    let (election, leadership) =
        Election::new(connect()?, &config.lease_namespace, &config.lease_name, &config.identity);
    let (wake, woken) = mpsc::unbounded_channel();
    let (jobs, job_watch) = watch_jobs(&client, &config, wake.clone(), readiness.clone());
    let (store, writer) = reflector::store();
    let changes = watcher(scoped::<Migration>(&client, &config), watcher::Config::default())
        .default_backoff()
        .modify(|migration| migration.managed_fields_mut().clear())
        .reflect(writer)
        .inspect_ok(tells_when_filled("migrations", readiness.clone()))
        .applied_objects();
    let controller = Controller::for_stream(changes, store.clone())
        .with_config(ControllerConfig::default().concurrency(config.workers))
        .reconcile_on(UnboundedReceiverStream::new(woken))
        .reconcile_all_on(WatchStream::from_changes(leadership.changes()).map(|_| ()))
        .graceful_shutdown_on(stop.clone().cancelled_owned());
    let ctx: Shared = Arc::new(Context {
        lane_1: connect()?,
        migrations: store.clone(),
        jobs,
        readiness: readiness.clone(),
        board,
        leadership: leadership.clone(),
        traffic: TrafficWatches::new(client.clone(), wake.clone()),
        drains: Drains::new(client.clone(), plain_http()),
        plans: plans::PlanStore::default(),
        recorder: Recorder::new(
            client.clone(),
            Reporter { controller: "alongside".to_owned(), instance: Some(config.identity.clone()) },
        ),
        metrics: metrics.clone(),
        wake,
        memories: Memories::default(),
        client,
        config,
    });
    let lane_1 = tokio::spawn(lane1::run(events, ctx.clone(), stop.clone()));
    let leads = tokio::spawn(show_standing(leadership.changes(), metrics));
    let reconciling =
        controller.run(reconcile::reconcile, reconcile::on_error, ctx).for_each(|_| std::future::ready(()));
    // The lease is given up only once no reconcile is in flight: a successor then finds nothing half done.
    let election_stop = CancellationToken::new();
    let election = tokio::spawn(election.run(election_stop.clone()));
    reconciling.await;
    lane_1.abort();
    election_stop.cancel();
    let _ = election.await;
    job_watch.abort();
    leads.abort();
    stop.cancel();
    match http.await {
        Ok(served) => served.map_err(OperatorError::Http),
        Err(_) => Ok(()),
    }
}

/// The objects in scope: those of one namespace, or all.
fn scoped<K>(client: &Client, config: &Config) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match &config.namespace_scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// A client for pods' hooks: no proxy, no redirects, nothing that could lead elsewhere.
fn plain_http() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(1))
        .build()
        .expect("a client without TLS options has nothing that could fail")
}

/// Watches the Jobs that carry our label, and wakes their Migrations.
fn watch_jobs(
    client: &Client,
    config: &Config,
    wake: mpsc::UnboundedSender<ObjectRef<Migration>>,
    readiness: Readiness,
) -> (Store<Job>, tokio::task::JoinHandle<()>) {
    let api = scoped::<Job>(client, config);
    let (store, writer) = reflector::store();
    let stream =
        watcher(api, watcher::Config::default().labels(UID_LABEL)).default_backoff().modify(|job: &mut Job| {
            job.managed_fields_mut().clear();
            // What the pods run is of no interest here, and takes most of the room.
            if let Some(spec) = &mut job.spec {
                spec.template = k8s_openapi::api::core::v1::PodTemplateSpec::default();
            }
        });
    let task = tokio::spawn(async move {
        let filled = tells_when_filled("jobs", readiness);
        let mut changes = std::pin::pin!(stream.reflect(writer).inspect_ok(filled).touched_objects());
        while let Some(change) = changes.next().await {
            let Ok(job) = change else { continue };
            let (Some(name), Some(namespace)) = (job.labels().get(NAME_LABEL), job.namespace()) else { continue };
            drop(wake.send(ObjectRef::new(name).within(&namespace)));
        }
    });
    (store, task)
}

/// Says when a cache has been filled for the first time. `Store::wait_until_ready` would not do: of those who wait for
/// one store, which the controller does too, only the last is woken.
fn tells_when_filled<K>(name: &'static str, readiness: Readiness) -> impl FnMut(&watcher::Event<K>) {
    move |event| match event {
        watcher::Event::InitDone => readiness.reached(name),
        watcher::Event::Init | watcher::Event::InitApply(_) | watcher::Event::Apply(_) | watcher::Event::Delete(_) => {}
    }
}

async fn show_standing(mut standing: tokio::sync::watch::Receiver<lease::Standing>, metrics: Metrics) {
    loop {
        let leads = matches!(*standing.borrow_and_update(), lease::Standing::Leader { .. });
        metrics.leader.set(i64::from(leads));
        if standing.changed().await.is_err() {
            return;
        }
    }
}
