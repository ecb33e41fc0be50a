//! The HTTP surface: metrics and probes, and nothing else.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What readiness waits for, each by its name.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Vec<Awaited>>);

struct Awaited {
    name: &'static str,
    ready: AtomicBool,
    /// What interrupts it at present.
    trouble: Mutex<Option<String>>,
}

impl Readiness {
    /// Waits for these.
    pub fn of(names: &[&'static str]) -> Self {
        let awaited = |name: &&'static str| Awaited { name, ready: AtomicBool::new(false), trouble: Mutex::default() };
        Self(Arc::new(names.iter().map(awaited).collect()))
    }

    /// One of them has come.
    pub fn reached(&self, name: &str) {
        for awaited in self.named(name) {
            awaited.ready.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it has come.
    pub fn has_reached(&self, name: &str) -> bool {
        self.named(name).any(|awaited| awaited.ready.load(Ordering::Relaxed))
    }

    /// Something keeps one of them from coming, or from staying up to date. What has come stays ready: it may be old
    /// for a while, and a replica that is taken out of service would not mend that.
    pub fn is_interrupted(&self, name: &str, why: &str) {
        for awaited in self.named(name) {
            *awaited.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
        }
    }

    /// Nothing interrupts it any more.
    pub fn goes_on(&self, name: &str) {
        for awaited in self.named(name) {
            *awaited.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Awaited> {
        self.0.iter().filter(move |awaited| awaited.name == name)
    }

    fn report(&self) -> (bool, String) {
        let mut all = true;
        let mut text = String::new();
        for Awaited { name, ready, trouble } in self.0.iter() {
            let ready = ready.load(Ordering::Relaxed);
            all &= ready;
            let (sign, word) = if ready { ("+", "ok") } else { ("-", "not yet") };
            let trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
            let trouble = trouble.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            writeln!(text, "[{sign}] {name} {word}{trouble}").expect("writing to a String cannot fail");
        }
        (all, text)
    }
}

#[derive(Clone)]
struct Surface {
    readiness: Readiness,
    registry: Arc<Registry>,
}

/// Listens.
///
/// # Errors
/// The address can't be listened on.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `stop`.
///
/// # Errors
/// It can't go on listening.
pub async fn serve(
    listener: TcpListener,
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
