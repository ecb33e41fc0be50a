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
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::task::AbortOnDropHandle;

use super::{
    progress::{Figures, Progress},
    signed::{HEADER, Refused, Verifier},
};
use crate::api::{Span, Time};

/// Where the exchange is.
pub const EXCHANGE: &str = "/v1/exchange";
/// Where the evidence is.
pub const EVIDENCE: &str = "/v1/evidence";
/// The port that workers listen on.
pub const PORT: u16 = 8090;
/// How long a worker that has ended waits for its evidence to be fetched. The operator asks once a second; one that was
/// just replaced needs some seconds more.
const FETCH_PATIENCE: Duration = Duration::from_secs(20);

/// What the operator brings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Signals {
    /// What the guard says that the phase's throttle names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardSignal>,
    /// The phase's action as the spec has it by now: its pace may be changed while it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<serde_json::Value>,
    /// The evidence that was fetched has been kept: the worker may end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub evidence_kept: bool,
}

/// What a guard says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardSignal {
    /// Name of the guard.
    pub name: String,
    /// What it measures; absent where it has no data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What it is held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// How old the sample is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<Span>,
    /// It passes.
    pub passes: bool,
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
    registry: Registry,
    signals: watch::Sender<Option<Signals>>,
    evidence: watch::Sender<Evidence>,
}

impl Live {
    /// Listens for the operator. `registry` holds the worker's own metrics, which anybody may read.
    ///
    /// # Errors
    /// The address can't be listened on.
    pub async fn listen(
        address: SocketAddr,
        verifier: Verifier,
        progress: Progress,
        registry: Registry,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (signals, heard) = watch::channel(None);
        let (evidence, _) = watch::channel(Evidence::None);
        let surface = Surface { verifier, progress, registry, signals, evidence: evidence.clone() };
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
    fn listens_to(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<(), Refused> {
        let header = headers.get(HEADER).and_then(|value| value.to_str().ok());
        let now = Time(jiff::Timestamp::now().as_millisecond());
        self.verifier.verify(method.as_str(), uri.path(), header, body, now)
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
    match prometheus_client::encoding::text::encode(&mut text, &surface.registry) {
        Ok(()) => {
            ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
