//! The HTTP surface: metrics and probes, and nothing else.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

/// What readiness waits for, each by its name.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Vec<(&'static str, AtomicBool)>>);

impl Readiness {
    /// Waits for these.
    pub fn of(names: &[&'static str]) -> Self {
        Self(Arc::new(names.iter().map(|name| (*name, AtomicBool::new(false))).collect()))
    }

    /// One of them has come.
    pub fn reached(&self, name: &str) {
        for (known, ready) in self.0.iter() {
            if *known == name {
                ready.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Whether it has come.
    pub fn has_reached(&self, name: &str) -> bool {
        self.0.iter().any(|(known, ready)| *known == name && ready.load(Ordering::Relaxed))
    }

    fn report(&self) -> (bool, String) {
        let mut all = true;
        let mut text = String::new();
        for (name, ready) in self.0.iter() {
            let ready = ready.load(Ordering::Relaxed);
            all &= ready;
            text.push_str(if ready { "[+] " } else { "[-] " });
            text.push_str(name);
            text.push_str(if ready { " ok\n" } else { " not yet\n" });
        }
        (all, text)
    }
}

#[derive(Clone)]
struct Surface {
    readiness: Readiness,
    registry: Arc<Registry>,
}

/// Serves until `stop`.
///
/// # Errors
/// The address can't be listened on.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    registry: Arc<Registry>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let surface = Surface { readiness, registry };
    // Liveness doesn't depend on anything outside: a restart would help nothing there.
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(surface);
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn readyz(State(surface): State<Surface>) -> impl IntoResponse {
    let (ready, text) = surface.readiness.report();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text)
}

async fn metrics(State(surface): State<Surface>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &surface.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [("content-type", kind)], text)
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, [("content-type", "text/plain")], text),
    }
}
