//! The operator: watches Migrations, decides by the engine, and does what was decided.

mod agents;
mod caches;
mod caller;
mod config;
mod context;
mod effects;
pub mod fault;
mod fleet;
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
mod workers;

use std::{sync::Arc, time::Duration};

pub use config::{Config, LogFormat};
use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Client,
    runtime::{
        Controller, WatchStreamExt,
        controller::Config as ControllerConfig,
        events::{Recorder, Reporter},
        reflector,
    },
};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{UnboundedReceiverStream, WatchStream};
use tokio_util::sync::CancellationToken;

use self::{
    agents::Agents,
    caller::Caller,
    context::{Context, Memories, Shared},
    http::Readiness,
    lease::Election,
    metrics::Metrics,
    watches::TrafficWatches,
    workers::Workers,
};
use crate::{
    actions::drain::Drains,
    guards::{Board, Providers},
    worker::signed::Signer,
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
    /// The key that requests to workers are signed with.
    #[error("the signing key could not be set up")]
    SigningKey(#[source] Box<dyn std::error::Error + Send + Sync>),
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
    let connect = |config: kube::Config| Client::try_from(config).map_err(|error| OperatorError::Client(error.into()));
    let client = connect(kubeconfig.clone())?;
    let mut registry = Registry::with_prefix("alongside");
    let metrics = Metrics::new(&mut registry);
    let providers = match &config.providers {
        Some(path) => Providers::load(path).map_err(|error| OperatorError::Providers(error.into()))?,
        None => Providers::default(),
    };
    let signer = signer(&config).await?;
    let (board, events) = Board::start(providers);
    board.register(&mut registry);
    let (store, writer) = reflector::store();
    registry.register_collector(Box::new(fleet::Fleet::of(store.clone())));
    let readiness = Readiness::of(&["migrations", "jobs"]);
    // One that can't be probed or scraped had better not lead.
    let listener = http::listen(config.http).await.map_err(OperatorError::Http)?;
    let http = tokio::spawn(http::serve(listener, readiness.clone(), Arc::new(registry), stop.clone()));

    let (election, leadership) =
        Election::new(connect(kubeconfig.clone())?, &config.lease_namespace, &config.lease_name, &config.identity);
    #[expect(clippy::disallowed_methods, reason = "the controller reads it at once, and keeps each object once")]
    let (wake, woken) = mpsc::unbounded_channel();
    let (jobs, job_watch) = caches::jobs(scoped(&client, &config), wake.clone(), readiness.clone());
    let caller = Caller::new(client.clone(), plain_http(), signer);
    let ctx: Shared = Arc::new(Context {
        lane_1: connect(in_haste(kubeconfig))?,
        migrations: store.clone(),
        jobs,
        readiness: readiness.clone(),
        board,
        leadership: leadership.clone(),
        traffic: TrafficWatches::new(client.clone(), wake.clone()),
        drains: Drains::new(client.clone(), plain_http()),
        workers: Workers::new(caller.clone()),
        agents: Agents::new(caller.clone()),
        caller,
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
    let cached = ctx.clone();
    let migrations = scoped(&ctx.client, &ctx.config);
    let changes = caches::migrations(migrations, writer, readiness, metrics.unreadable.clone())
        .inspect_ok(move |event| cached.forget_the_gone(event))
        .applied_objects();
    let controller = Controller::for_stream(changes, store.clone())
        .with_config(ControllerConfig::default().concurrency(ctx.config.workers))
        .reconcile_on(UnboundedReceiverStream::new(woken))
        .reconcile_all_on(WatchStream::from_changes(leadership.changes()).map(|_| ()))
        .graceful_shutdown_on(stop.clone().cancelled_owned());
    let lane_1 = tokio::spawn(lane1::run(events, ctx.clone(), stop.clone()));
    let leads = tokio::spawn(show_standing(leadership.changes(), metrics));
    // Each outcome has been told where it arose: of a watch, of a reconcile.
    let reconciling =
        controller.run(reconcile::reconcile, reconcile::on_error, ctx).for_each(|_| std::future::ready(()));
    // The lease is given up only once nothing is in flight, of a reconcile or of lane 1: a successor then finds nothing
    // half done.
    let election_stop = CancellationToken::new();
    let election = tokio::spawn(election.run(election_stop.clone()));
    reconciling.await;
    stop.cancel();
    let _ = lane_1.await;
    election_stop.cancel();
    let _ = election.await;
    job_watch.abort();
    leads.abort();
    match http.await {
        Ok(served) => served.map_err(OperatorError::Http),
        Err(_) => Ok(()),
    }
}

/// What requests to workers are signed with. Without a key of the installation's own, a replica makes one for itself, and
/// workers that another one has launched don't listen to it.
async fn signer(config: &Config) -> Result<Signer, OperatorError> {
    let signer = match &config.signing_key {
        Some(path) => {
            let text = tokio::fs::read(path).await.map_err(|error| OperatorError::SigningKey(error.into()))?;
            Signer::from_pem(&text)
        }
        None => Signer::generate().and_then(|key| Signer::from_pkcs8(&key)),
    };
    signer.map_err(|error| OperatorError::SigningKey(error.into()))
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

/// Lane 1's connection: it repeats nothing by itself. A write that was refused or lost is decided anew, on a new look.
fn in_haste(mut config: kube::Config) -> kube::Config {
    config.default_retry = false;
    config
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

async fn show_standing(mut standing: tokio::sync::watch::Receiver<lease::Standing>, metrics: Metrics) {
    loop {
        let leads = matches!(*standing.borrow_and_update(), lease::Standing::Leader { .. });
        metrics.leader.set(i64::from(leads));
        if standing.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use k8s_openapi::api::core::v1::Service;

    use super::*;

    #[tokio::test]
    async fn lane_1_decides_anew_and_repeats_nothing_by_itself() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let overloaded = axum::Router::new().fallback(move || async move {
            count.fetch_add(1, Ordering::Relaxed);
            axum::http::StatusCode::SERVICE_UNAVAILABLE
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = tokio::spawn(async move { axum::serve(listener, overloaded).await });
        let config = kube::Config::new(format!("http://{address}").parse().expect("a URL"));
        let services: Api<Service> = Api::namespaced(Client::try_from(in_haste(config)).expect("a client"), "shop");
        let answer = tokio::time::timeout(Duration::from_secs(10), services.get("stock")).await;
        assert!(answer.expect("the answer comes at once").is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        server.abort();
    }
}
