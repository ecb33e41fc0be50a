//! Measures Alongside, and Argo Rollouts beside it, on one cluster in one run. `docs/benchmarks.md` tells what each
//! measurement means, and what came of it.
//!
//! It runs inside the cluster's network (`tests/cluster/in NAME alongside-bench ...`), which `benches/bench.mk` sees to.
//! The cluster has no kubelet: what would be a node's part is done by [`node`], for a thousand guarded objects want more
//! pods than one small machine can run.

#![allow(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]

mod advance;
mod alongside;
mod argo;
mod breach;
mod figures;
mod idle;
mod kubernetes;
mod leader;
mod node;
mod process;
mod source;
mod wait;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::{breach::Plan, figures::Report, kubernetes::Kubernetes};

#[derive(Parser)]
struct Cli {
    /// The operator's program, a release build.
    #[arg(long)]
    operator: PathBuf,
    /// Folder of logs and results.
    #[arg(long)]
    out: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// From a breach being visible to the Service being patched.
    Breach {
        /// Argo Rollouts' controller. Without it there is one column.
        #[arg(long)]
        argo: Option<PathBuf>,
        /// Interval of guards and analyses, in milliseconds.
        #[arg(long, default_value_t = 1_000)]
        interval: u64,
        /// Other guarded objects of each kind.
        #[arg(long, default_value_t = 0)]
        beside: usize,
        /// Rollbacks of each kind.
        #[arg(long, default_value_t = 50)]
        rollbacks: usize,
        /// Objects that are prepared together and then breached one by one.
        #[arg(long, default_value_t = 1)]
        batch: usize,
        /// A Prometheus program, to be asked in place of the controlled source.
        #[arg(long)]
        prometheus: Option<PathBuf>,
    },
    /// From a breach that becomes visible in the moment of the leader's death to the Service being patched.
    Leader {
        /// Rollbacks.
        #[arg(long, default_value_t = 10)]
        rollbacks: usize,
    },
    /// What Migrations that wait cost.
    Idle {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        count: usize,
    },
    /// Many Migrations from their creation to their success.
    Advance {
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        count: usize,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    // A second call can't happen in a process that has just begun.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    std::fs::create_dir_all(&cli.out).expect("the folder for results can be made");
    let kubernetes = Kubernetes::connect().await;
    let report: Report = match cli.what {
        What::Breach { argo, interval, beside, rollbacks, batch, prometheus } => {
            let interval = Duration::from_millis(interval);
            let plan = Plan { interval, beside, rollbacks, batch };
            breach::measure(&kubernetes, &cli.operator, argo.as_deref(), prometheus.as_deref(), &cli.out, plan).await
        }
        What::Leader { rollbacks } => leader::measure(&kubernetes, &cli.operator, &cli.out, rollbacks).await,
        What::Idle { count } => idle::measure(&kubernetes, &cli.operator, &cli.out, count).await,
        What::Advance { count } => advance::measure(&kubernetes, &cli.operator, &cli.out, count).await,
    };
    report.publish(&cli.out);
    ExitCode::SUCCESS
}
