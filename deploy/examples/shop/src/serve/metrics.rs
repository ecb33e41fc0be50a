//! What Prometheus reads from the service.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hyper::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::connections::Connections;
use crate::database::Version;

/// The content type of what [`Metrics::text`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds: from a read of one row to well past a client's patience.
const BUCKETS: [f64; 13] = [0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    service: &'static str,
    version: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfCode {
    service: &'static str,
    version: &'static str,
    code: u16,
}

/// The service's counters.
pub struct Metrics {
    registry: Registry,
    of: Of,
    requests: Family<OfCode, Counter<u64, AtomicU64>>,
    seconds: Histogram,
    open: Gauge,
    connections: Arc<Connections>,
}

impl Metrics {
    /// Counters at zero. There is no series for a status code before its first answer, as is usual.
    pub fn new(version: Version, connections: Arc<Connections>) -> Self {
        let of = Of { service: "inventory", version: version.name() };
        let mut registry = Registry::default();
        let requests = Family::<OfCode, Counter>::default();
        registry.register("http_requests", "Requests of clients that were answered", requests.clone());
        let seconds = Family::<Of, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register(
            "http_request_duration_seconds",
            "Time from the head of a request to the head of its answer",
            seconds.clone(),
        );
        let open = Family::<Of, Gauge>::default();
        registry.register(
            "http_connections",
            "Connections that are open, those of probes and scrapes included",
            open.clone(),
        );
        Self {
            registry,
            requests,
            seconds: seconds.get_or_create_owned(&of),
            open: open.get_or_create_owned(&of),
            of,
            connections,
        }
    }

    /// Counts an answer.
    pub fn answered(&self, status: StatusCode, took: Duration) {
        let Of { service, version } = self.of;
        let code = status.as_u16();
        self.requests.get_or_create(&OfCode { service, version, code }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// Returns all counters in the text format of `OpenMetrics`.
    pub fn text(&self) -> String {
        self.open.set(i64::try_from(self.connections.open()).unwrap_or(i64::MAX));
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String can't fail");
        text
    }
}
