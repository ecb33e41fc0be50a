//! What a worker says and hears while it works: one exchange over HTTP that the operator asks for about once a second.
//!
//! The operator brings what only it knows, such as what a guard says, and takes the figures along; and, at the end, the whole
//! evidence of a verification, for which a termination message has no room. Nobody else is listened to
//! ([`super::signed`]). Nothing of the work depends on it: a worker that nobody asks goes on.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prometheus_client::{metrics::gauge::ConstGauge, registry::Registry};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::task::AbortOnDropHandle;

use super::{
    backfill::controls::Controls,
    progress::{Figures, Progress},
    signed::{PublicKey, Unsigned, Verifier, now},
};

/// Where the exchange is.
pub const EXCHANGE: &str = "/v1/exchange";
/// Where the evidence is.
pub const EVIDENCE: &str = "/v1/evidence";
/// The port that workers listen on.
pub const PORT: u16 = 8090;
/// How long a worker that has ended waits for its evidence to be fetched. The operator asks once a second; one that was
/// just replaced needs some seconds more.
const FETCH_PATIENCE: Duration = Duration::from_secs(20);

/// Listens on the port that the operator asks on, for requests about this Migration by whoever holds the key. Without a free
/// port the work is done all the same, and nobody sees how far it is.
pub async fn serve(uid: &str, key: PublicKey, progress: &Progress) -> Option<Live> {
    let address = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, PORT));
    let verifier = || Verifier { keys: vec![key], uid: uid.to_owned() };
    match Live::listen(address, verifier(), progress.clone()).await {
        Ok(live) => return Some(live),
        // A kernel without IPv6.
        Err(error) => tracing::debug!(%error, "no listening on IPv6"),
    }
    let address = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, PORT));
    match Live::listen(address, verifier(), progress.clone()).await {
        Ok(live) => Some(live),
        Err(error) => {
            tracing::warn!(%error, "live figures can't be served");
            None
        }
    }
}

/// What the operator brings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Signals {
    /// What a backfill goes by: its pace as the spec has it by now, and what the guard says that it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controls: Option<Controls>,
    /// The evidence that was fetched has been kept: the worker may end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub evidence_kept: bool,
}

/// What the worker answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Answer {
    /// How far it is.
    pub figures: Figures,
    /// Evidence waits to be fetched.
    pub evidence: bool,
}

/// A worker's side of the exchange.
pub struct Live {
    signals: watch::Receiver<Option<Signals>>,
    evidence: watch::Sender<Evidence>,
    _server: AbortOnDropHandle<()>,
}

#[derive(Clone, Debug, Default)]
enum Evidence {
    #[default]
    None,
    Offered(String),
    Kept,
}

struct Surface {
    verifier: Verifier,
    progress: Progress,
    signals: watch::Sender<Option<Signals>>,
    evidence: watch::Sender<Evidence>,
}

impl Live {
    /// Listens for the operator, and for whoever reads metrics.
    ///
    /// # Errors
    /// The address can't be listened on.
    pub async fn listen(address: SocketAddr, verifier: Verifier, progress: Progress) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (signals, heard) = watch::channel(None);
        let (evidence, _) = watch::channel(Evidence::None);
        let surface = Surface { verifier, progress, signals, evidence: evidence.clone() };
        let router = Router::new()
            .route(EXCHANGE, post(exchange))
            .route(EVIDENCE, get(fetch))
            .route("/metrics", get(metrics))
            .with_state(Arc::new(surface));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "live figures are not served any more");
            }
        });
        Ok(Self { signals: heard, evidence, _server: AbortOnDropHandle::new(server) })
    }

    /// What the operator brought last; absent until it has asked for the first time.
    pub fn signals(&self) -> watch::Receiver<Option<Signals>> {
        self.signals.clone()
    }

    /// Offers evidence, and waits a while for the operator to have fetched and kept it. Returns whether it has.
    pub async fn hand_over(&self, evidence: String) -> bool {
        self.evidence.send_replace(Evidence::Offered(evidence));
        let mut state = self.evidence.subscribe();
        let kept = state.wait_for(|state| matches!(state, Evidence::Kept));
        tokio::time::timeout(FETCH_PATIENCE, kept).await.is_ok_and(|kept| kept.is_ok())
    }
}

impl Surface {
    fn listens_to(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<(), Unsigned> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        self.verifier.check(method.as_str(), uri.path(), header, body, now())
    }
}

async fn exchange(
    State(surface): State<Arc<Surface>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refused) = surface.listens_to(&method, &uri, &headers, &body) {
        return (StatusCode::FORBIDDEN, format!("{refused}\n")).into_response();
    }
    let signals: Signals = match serde_json::from_slice(&body) {
        Ok(signals) => signals,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    if signals.evidence_kept {
        surface.evidence.send_if_modified(|evidence| match evidence {
            Evidence::Offered(_) => {
                *evidence = Evidence::Kept;
                true
            }
            Evidence::None | Evidence::Kept => false,
        });
    }
    surface.signals.send_replace(Some(signals));
    let evidence = matches!(&*surface.evidence.borrow(), Evidence::Offered(_));
    axum::Json(Answer { figures: surface.progress.figures(), evidence }).into_response()
}

async fn fetch(State(surface): State<Arc<Surface>>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if let Err(refused) = surface.listens_to(&method, &uri, &headers, b"") {
        return (StatusCode::FORBIDDEN, format!("{refused}\n")).into_response();
    }
    let offered = surface.evidence.borrow().clone();
    match offered {
        Evidence::Offered(text) => ([("content-type", "application/json")], text).into_response(),
        Evidence::None | Evidence::Kept => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn metrics(State(surface): State<Arc<Surface>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry(&surface.progress.figures())) {
        Ok(()) => {
            ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A worker's figures as metrics.
fn registry(figures: &Figures) -> Registry {
    let mut registry = Registry::with_prefix("alongside_worker");
    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows no other numbers")]
    let rows = |rows: u64| rows as f64;
    registry.register("rows_done", "Rows dealt with so far", ConstGauge::new(rows(figures.done)));
    if let Some(total) = figures.total {
        registry.register("rows_to_do", "Rows to deal with in all, as estimated", ConstGauge::new(rows(total)));
    }
    registry.register("rows_per_second", "Rows dealt with a second of late", ConstGauge::new(figures.rate));
    if let Some(lag) = figures.lag {
        registry.register("lag_seconds", "How far the new store is behind", ConstGauge::new(lag.0.as_secs_f64()));
    }
    let throttled = i64::from(figures.throttled.is_some());
    registry.register("throttled", "Whether it goes slower than it could, or has paused", ConstGauge::new(throttled));
    registry
}
