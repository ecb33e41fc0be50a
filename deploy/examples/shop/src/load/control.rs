//! The load's own port: the account, a new window of it, and the end.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::sync::watch;

use super::account::Report;
use super::ledger::Ledger;
use super::{Stage, ask_to_stop};

#[derive(Clone)]
struct Control {
    ledger: Arc<Ledger>,
    stage: watch::Sender<Stage>,
}

/// `GET /stats[?window=x]`, `GET /requests[?since_ms=t]`, `POST /mark?name=x`, `POST /stop`, `GET /metrics`, `GET /healthz`.
pub fn router(ledger: Arc<Ledger>, stage: watch::Sender<Stage>) -> Router {
    Router::new()
        .route("/stats", get(stats))
        .route("/requests", get(requests))
        .route("/mark", post(mark))
        .route("/stop", post(stop))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "alive\n"))
        .with_state(Control { ledger, stage })
}

/// Returns an account as text: JSON, indented.
pub fn text(report: &Report) -> String {
    serde_json::to_string_pretty(report).expect("a report has only strings as keys")
}

fn told(report: &Report) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, text(report) + "\n").into_response()
}

#[derive(Deserialize)]
struct Which {
    window: Option<String>,
}

async fn stats(State(control): State<Control>, Query(which): Query<Which>) -> Response {
    match which.window {
        None => told(&control.ledger.report()),
        Some(name) => match control.ledger.report_of(&name) {
            Some(report) => told(&report),
            None => (StatusCode::NOT_FOUND, format!("there is no window {name}\n")).into_response(),
        },
    }
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since_ms: u64,
}

async fn requests(State(control): State<Control>, Query(Since { since_ms }): Query<Since>) -> Response {
    ([(header::CONTENT_TYPE, "text/csv")], control.ledger.requests(since_ms)).into_response()
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

async fn mark(State(control): State<Control>, Query(Name { name }): Query<Name>) -> Response {
    tracing::info!(window = name, "a new window");
    told(&control.ledger.mark(&name))
}

async fn stop(State(control): State<Control>) -> Response {
    ask_to_stop(&control.stage);
    let mut stage = control.stage.subscribe();
    drop(stage.wait_for(|stage| *stage == Stage::Done).await);
    told(&control.ledger.report())
}

async fn metrics(State(control): State<Control>) -> Response {
    const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], control.ledger.metrics()).into_response()
}
