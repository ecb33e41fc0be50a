//! The kubectl plugin: `kubectl alongside`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // One provider for every TLS connection; a second call can't happen in a process that has just begun.
    let _ = rustls::crypto::ring::default_provider().install_default();
    alongside::cli::run().await
}
