//! What runs in pods beside the data. One binary with the operator, other rights: a worker knows one store's Secret and
//! no Kubernetes.
//!
//! A worker reads a task from a file, does it, and reports a [`verdict::Verdict`] in its termination message. Its exit code
//! says the same in one number ([`verdict::Outcome`]). It logs what it does; what it reports is all that the operator
//! sees.

pub mod agent;
pub mod backfill;
pub mod ladder;
pub mod live;
pub mod progress;
pub mod replicate;
pub mod signed;
pub mod sql;
pub mod task;
pub mod verdict;
pub mod verify;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::{
    task::{Task, Told},
    verdict::{Outcome, Verdict},
    verify::task::VerifyTask,
};
use crate::stores::postgres::connect::chain;

/// Where Kubernetes reads a container's termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// The kinds of worker.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Runs the scripts of a `sql` phase against a store, or asks beforehand whether they can be run.
    ///
    /// Exit codes: 0 succeeded, 1 failed and may be tried again, 2 wrong arguments, 3 refused until somebody changes
    /// something, 4 stopped by a signal, 5 the store went away and what happened last isn't known.
    Sql(SqlArgs),
    /// Fills columns of a live table, takes that back, or asks beforehand whether it can be done.
    ///
    /// Exit codes as of `sql`.
    Backfill(backfill::Args),
    /// Proves that data is as it must be: each row of a table, or the rows of two stores.
    ///
    /// Exit codes: 0 it is, 1 it is not or could not be proven, 2 wrong arguments, 3 refused until somebody changes
    /// something, 4 stopped by a signal.
    Verify(VerifyArgs),
    /// Asks two stores whether a move between them can be made, makes it, or takes what it left out of them, as the task
    /// says.
    ///
    /// Exit codes as of `sql`. Told to conduct, it ends only when it is told to leave or to stop.
    Agent(AgentArgs),
}

/// Arguments of the agent.
#[derive(Debug, clap::Args)]
pub struct AgentArgs {
    /// File with the task.
    #[arg(long, value_name = "FILE", default_value = task::DEFAULT_PATH)]
    pub task: PathBuf,
    /// File to report to.
    #[arg(long, value_name = "FILE", default_value = TERMINATION_LOG)]
    pub termination_log: PathBuf,
}

/// Arguments of the `sql` worker.
#[derive(Debug, clap::Args)]
pub struct SqlArgs {
    /// File with the task.
    #[arg(long, value_name = "FILE", default_value = task::DEFAULT_PATH)]
    pub task: PathBuf,
    /// File to report to.
    #[arg(long, value_name = "FILE", default_value = TERMINATION_LOG)]
    pub termination_log: PathBuf,
}

/// Arguments of the `verify` worker.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// File with the task.
    #[arg(long, value_name = "FILE", default_value = verify::task::DEFAULT_PATH)]
    pub task: PathBuf,
    /// File to report to.
    #[arg(long, value_name = "FILE", default_value = TERMINATION_LOG)]
    pub termination_log: PathBuf,
}

/// Runs a worker to its end and reports. SIGTERM and SIGINT cancel what it does on the server; it then ends within
/// seconds.
pub async fn run(command: Command) -> ExitCode {
    let stop = CancellationToken::new();
    let signals = tokio::spawn(stop_on_signal(stop.clone()));
    let (verdict, termination_log) = match command {
        Command::Sql(SqlArgs { task, termination_log }) => (run_sql(&task, &stop).await, termination_log),
        Command::Backfill(backfill::Args { task, controls, termination_log }) => {
            (backfill::run_file(&task, controls, &stop).await, termination_log)
        }
        Command::Verify(VerifyArgs { task, termination_log }) => (run_verify(&task, &stop).await, termination_log),
        Command::Agent(AgentArgs { task, termination_log }) => (run_agent(&task, &stop).await, termination_log),
    };
    signals.abort();
    report(&verdict, &termination_log).await;
    verdict.outcome.into()
}

async fn run_sql(task: &Path, stop: &CancellationToken) -> Verdict {
    match Task::read(task).await {
        Ok(task) => sql::execute(&task, stop).await,
        Err(error) => Verdict::new(Outcome::Refused, format!("{}.", chain(&error))),
    }
}

async fn run_verify(task: &Path, stop: &CancellationToken) -> Verdict {
    match VerifyTask::read(task).await {
        Ok(task) => verify::run(&task, stop).await,
        Err(error) => Verdict::new(Outcome::Refused, format!("{}.", chain(&error))),
    }
}

async fn run_agent(task: &Path, stop: &CancellationToken) -> Verdict {
    match replicate::ReplicateTask::read(task).await {
        Ok(task) => agent::execute(&task, stop).await,
        Err(error) => Verdict::new(Outcome::Refused, format!("{}.", chain(&error))),
    }
}

async fn report(verdict: &Verdict, termination_log: &Path) {
    let json = verdict.to_json();
    match verdict.outcome {
        Outcome::Succeeded => tracing::info!(outcome = ?verdict.outcome, "{}", verdict.message),
        Outcome::Failed | Outcome::Refused | Outcome::Stopped | Outcome::Unknown => {
            tracing::error!(outcome = ?verdict.outcome, "{}", verdict.message);
        }
    }
    if let Err(error) = tokio::fs::write(termination_log, json).await {
        // The exit code and the log still tell.
        tracing::error!(%error, file = %termination_log.display(), "could not write the termination message");
    }
}

async fn stop_on_signal(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals can't be caught; SIGTERM ends the worker at once");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::warn!("told to stop");
    stop.cancel();
}
