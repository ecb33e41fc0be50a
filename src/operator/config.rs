//! The operator's configuration: flags and the environment that the chart sets.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

/// Flags of `alongside operator`.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// The one namespace to look after. Default: all.
    #[arg(long)]
    pub namespace_scope: Option<String>,
    /// File that lists the metrics providers.
    #[arg(long)]
    pub providers: Option<PathBuf>,
    /// File with the Ed25519 key (PKCS#8, PEM) that all replicas sign their requests to workers with. Default: each makes one.
    #[arg(long)]
    pub signing_key: Option<PathBuf>,
    /// Namespace of the leader's lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "alongside-system")]
    pub lease_namespace: String,
    /// Name of the leader's lease.
    #[arg(long, default_value = "alongside")]
    pub lease_name: String,
    /// This replica's name in the lease.
    #[arg(long, env = "POD_NAME", default_value = "alongside")]
    pub identity: String,
    /// Address of metrics and probes.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub http: SocketAddr,
    /// Migrations reconciled at the same time.
    #[arg(long, default_value_t = 16)]
    pub workers: u16,
    /// Image for the operator's own Jobs: the operator's own.
    #[arg(long, env = "ALONGSIDE_IMAGE", default_value = "localhost/alongside:dev")]
    pub image: String,
    /// `text` or `json`.
    #[arg(long, default_value = "json")]
    pub log_format: LogFormat,
    /// Send traces to this OTLP endpoint.
    #[arg(long)]
    pub otlp_endpoint: Option<String>,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}
