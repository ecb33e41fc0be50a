//! The one binary: the operator, and the workers that run in pods beside the data.

use std::process::ExitCode;

use alongside::operator::{self, LogFormat, telemetry};
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

/// Carries a database or a service from its old form to its new one, and takes it back by itself.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the operator.
    Operator(Box<operator::Config>),
    /// Runs a worker, as the operator's own Jobs do.
    #[command(subcommand)]
    Worker(alongside::worker::Command),
}

#[tokio::main]
async fn main() -> ExitCode {
    // One provider for every TLS connection; a second call can't happen in a process that has just begun.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Cli::parse().command {
        Command::Operator(config) => {
            let telemetry = telemetry::install(config.log_format, config.otlp_endpoint.as_deref());
            match telemetry {
                Ok(_telemetry) => run_operator(*config).await,
                Err(error) => {
                    eprintln!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
                    ExitCode::FAILURE
                }
            }
        }
        Command::Worker(command) => {
            // A worker's last lines are its verdict's fallback: they stay readable.
            let _telemetry = telemetry::install(LogFormat::Json, None).unwrap_or_default();
            alongside::worker::run(command).await
        }
    }
}

async fn run_operator(config: operator::Config) -> ExitCode {
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    match operator::run(config, stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the operator ends");
            ExitCode::FAILURE
        }
    }
}

async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
}
