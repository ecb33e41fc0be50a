//! `shop serve`: the service "inventory".
//!
//! ```text
//! SIGTERM -> not ready, each answer says `Connection: close`   (for the grace: traffic still comes)
//!         -> the listener closes, idle connections close       (until none is left, or the deadline)
//!         -> exit 0
//! ```

mod connections;
mod faults;
mod inventory;
mod metrics;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::database::{Database, Source, Version};
use crate::stop::Stop;
use crate::times::duration;
use connections::Connections;
use faults::Faults;
use inventory::Inventory;
use metrics::Metrics;

/// What `shop serve` is told.
#[derive(Args)]
pub struct Options {
    /// Which form of the table this is the service for.
    #[arg(long, env = "SHOP_VERSION", value_enum, default_value = "v1")]
    version: Version,
    /// Where the service listens.
    #[arg(long, env = "SHOP_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Where the fault switches listen.
    #[arg(long, env = "SHOP_ADMIN_LISTEN", default_value = "0.0.0.0:8081")]
    admin_listen: SocketAddr,
    /// The name that answers carry beside the version.
    #[arg(long, env = "POD_NAME", default_value = "local")]
    pod_name: String,
    #[command(flatten)]
    source: Source,
    /// How many connections to the database at most.
    #[arg(long, env = "SHOP_DATABASE_CONNECTIONS", default_value_t = 8)]
    database_connections: usize,
    /// How long a request may wait for the database. Below a client's own timeout (the load's is
    /// 2 s), so that a slow database shows as a 503 with a reason.
    #[arg(long, env = "SHOP_DATABASE_TIMEOUT", value_parser = duration, default_value = "1500ms")]
    database_timeout: Duration,
    /// How long an idle connection is kept once it is asked to close. A client that keeps
    /// connections for less than this without using them never meets a closing one.
    #[arg(long, env = "SHOP_DRAIN_IDLE", value_parser = duration, default_value = "2s")]
    drain_idle: Duration,
    /// How long new connections are accepted after SIGTERM, until every node knows that this pod
    /// is no endpoint any more.
    #[arg(long, env = "SHOP_GRACE", value_parser = duration, default_value = "5s")]
    grace: Duration,
    /// How long after the grace the last connections may take to close.
    #[arg(long, env = "SHOP_STOP_WITHIN", value_parser = duration, default_value = "10s")]
    stop_within: Duration,
    #[command(flatten)]
    faults: faults::Orders,
}

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port could not be had.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A signal could not be waited for.
    #[error("could not wait for signals")]
    Signals(#[source] io::Error),
    /// A crash was ordered for good, and has happened in an earlier life of this pod.
    #[error("crashed before, and told to stay so")]
    StaysCrashed,
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(options: Options) -> Result<(), ServeError> {
    let Options {
        version,
        listen,
        admin_listen,
        pod_name,
        source,
        database_connections,
        database_timeout,
        drain_idle,
        grace,
        stop_within,
        faults,
    } = options;
    let faults = Arc::new(Faults::new(faults));
    if faults.has_crashed_for_good() {
        return Err(ServeError::StaysCrashed);
    }
    let mut stop = Stop::new().map_err(ServeError::Signals)?;
    let connections = Connections::new(drain_idle);
    let inventory = Arc::new(Inventory {
        version,
        database: Database::new(source, version, database_connections, database_timeout),
        faults: Arc::clone(&faults),
        metrics: Metrics::new(version, Arc::clone(&connections)),
        connections: Arc::clone(&connections),
    });
    let listener = bind(listen).await?;
    let admin = bind(admin_listen).await?;
    tracing::info!(
        version = version.name(),
        address = %local(&listener),
        admin_address = %local(&admin),
        "listening"
    );
    tokio::spawn(async move { axum::serve(admin, faults::router(faults)).await });

    let acceptor = connections::Acceptor {
        listener,
        router: inventory::router(inventory),
        served_by: format!("{}/{pod_name}", version.name()),
        connections: Arc::clone(&connections),
    };
    tokio::select! {
        never = acceptor.accept_for_ever() => match never {},
        () = stop.asked() => (),
    }
    tracing::info!("asked to stop: still accepting for the grace");
    connections.ask_all_to_close();
    // An error means that the grace has passed, which is the only way out.
    drop(timeout(grace, acceptor.accept_for_ever()).await);
    acceptor.close().await;
    if let Ok(()) = timeout(stop_within, connections.all_closed()).await {
        tracing::info!("stopped: each connection was closed in order");
    } else {
        tracing::warn!(open = connections.open(), "stopped with connections open");
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

fn local(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("a bound listener has an address")
}
