//! What the service answers.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use super::connections::Connections;
use super::faults::Faults;
use super::metrics::{CONTENT_TYPE, Metrics};
use crate::database::{Database, DatabaseError, Item, Taken, Totals, Version};

/// What the answers are made from.
pub struct Inventory {
    /// Which version this is.
    pub version: Version,
    /// The table.
    pub database: Database,
    /// How it misbehaves.
    pub faults: Arc<Faults>,
    /// What is counted.
    pub metrics: Metrics,
    /// What is open.
    pub connections: Arc<Connections>,
}

/// Says whether a request for this path is a client's, rather than a probe's, a scrape's or the
/// operator's.
pub fn is_traffic(path: &str) -> bool {
    path.starts_with("/items/")
}

/// Returns the routes. Faults and metrics concern only the requests of clients.
pub fn router(inventory: Arc<Inventory>) -> Router {
    Router::new()
        .route("/items/{id}", get(read))
        .route("/items/{id}/take", post(take))
        .route_layer(from_fn_with_state(Arc::clone(&inventory), as_traffic))
        .route("/totals", get(totals))
        .route("/healthz", get(async || "alive\n"))
        .route("/ready", get(ready))
        .route("/drain", get(drain).post(drain))
        .route("/metrics", get(metrics))
        .with_state(inventory)
}

async fn as_traffic(State(inventory): State<Arc<Inventory>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let sentence = inventory.faults.judge();
    if !sentence.wait.is_zero() {
        tokio::time::sleep(sentence.wait).await;
    }
    let response = if sentence.fails { Refusal::Fault.into_response() } else { next.run(request).await };
    inventory.metrics.answered(response.status(), began.elapsed());
    response
}

async fn read(State(inventory): State<Arc<Inventory>>, Path(id): Path<i64>) -> Result<Json<Item>, Refusal> {
    let item = inventory.database.get(id).await?;
    item.map(Json).ok_or(Refusal::NoSuchItem)
}

async fn take(State(inventory): State<Arc<Inventory>>, Path(id): Path<i64>) -> Result<Json<Item>, Refusal> {
    match inventory.database.take(id).await? {
        Taken::One(item) => Ok(Json(item)),
        Taken::NoneLeft => Err(Refusal::NoneLeft),
        Taken::NoSuchItem => Err(Refusal::NoSuchItem),
    }
}

async fn totals(State(inventory): State<Arc<Inventory>>) -> Result<Json<Totals>, Refusal> {
    Ok(Json(inventory.database.totals().await?))
}

/// Ready where a read with this version's columns works; else 503 with the reason.
async fn ready(State(inventory): State<Arc<Inventory>>) -> Result<String, Refusal> {
    if inventory.connections.is_stopping() {
        return Err(Refusal::Stopping);
    }
    // There is no item 0: what counts is that the statement runs.
    inventory.database.get(0).await?;
    Ok(format!("ready as {}\n", inventory.version.name()))
}

/// Asks the connections that exist now to close, and says how many of them carry traffic.
async fn drain(State(inventory): State<Arc<Inventory>>) -> Response {
    let connections = inventory.connections.drain();
    tracing::info!(connections, "asked to drain");
    Json(json!({ "connections": connections })).into_response()
}

async fn metrics(State(inventory): State<Arc<Inventory>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], inventory.metrics.text()).into_response()
}

/// Why a request wasn't served.
enum Refusal {
    Fault,
    NoSuchItem,
    NoneLeft,
    Stopping,
    Database(DatabaseError),
}

impl From<DatabaseError> for Refusal {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, reason) = match self {
            Self::Fault => (StatusCode::INTERNAL_SERVER_ERROR, "failed, as ordered".to_owned()),
            Self::NoSuchItem => (StatusCode::NOT_FOUND, "there is no such item".to_owned()),
            Self::NoneLeft => (StatusCode::CONFLICT, "there is none left".to_owned()),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping".to_owned()),
            Self::Database(error) => {
                tracing::warn!(error = &error as &dyn Error, "the database could not be asked");
                (StatusCode::SERVICE_UNAVAILABLE, crate::chain(&error))
            }
        };
        (status, Json(json!({ "reason": reason }))).into_response()
    }
}
