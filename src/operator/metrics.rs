//! The operator's own metrics.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// The operator's own metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Status writes that were sent.
    pub status_writes: Counter,
    /// Reconciles that ended with an error.
    pub errors: Counter,
    /// Writes that moved a Service's traffic back.
    pub ways_back: Counter,
    /// 1 on the replica that leads.
    pub leader: Gauge,
    /// Migrations that this release can't read, and leaves alone.
    pub unreadable: Gauge,
    /// How long reconciles take, in seconds.
    pub reconcile_seconds: Histogram,
}

impl Metrics {
    /// Makes the metrics known under the prefix `alongside`.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            status_writes: Counter::default(),
            errors: Counter::default(),
            ways_back: Counter::default(),
            leader: Gauge::default(),
            unreadable: Gauge::default(),
            // From a cache hit to a slow API server.
            reconcile_seconds: Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
        };
        registry.register("status_writes", "Status writes that were sent", metrics.status_writes.clone());
        registry.register("reconcile_errors", "Reconciles that ended with an error", metrics.errors.clone());
        registry.register("ways_back", "Writes that moved a Service's traffic back", metrics.ways_back.clone());
        registry.register("leader", "1 on the replica that leads", metrics.leader.clone());
        let unreadable = metrics.unreadable.clone();
        registry.register("unreadable_migrations", "Migrations that this release can't read", unreadable);
        registry.register("reconcile_seconds", "How long reconciles take", metrics.reconcile_seconds.clone());
        metrics
    }
}
