//! The board's own metrics. Their names begin with `guard_`; the registry gives the prefix.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};

use super::{
    events::EventQueue,
    prometheus::AskError,
    slot::Slot,
    watch::{WatchKey, WatchSet},
};
use crate::{
    api::{Span, Time},
    engine::guard::{Verdict, judge},
};

/// Upper bounds of the poll durations in seconds: a poll takes single milliseconds, a hanging one its 10 s timeout.
const DURATIONS: [f64; 10] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum PollOutcome {
    Answered,
    Credentials,
    Client,
    Connect,
    Timeout,
    Transport,
    Refused,
    Status,
    TooLong,
    NotPrometheus,
}

impl PollOutcome {
    pub fn of<T>(result: &Result<T, AskError>) -> Self {
        match result {
            Ok(_) => Self::Answered,
            Err(AskError::Credentials(_)) => Self::Credentials,
            Err(AskError::Client(_)) => Self::Client,
            Err(AskError::Connect(_)) => Self::Connect,
            Err(AskError::Timeout { .. }) => Self::Timeout,
            Err(AskError::Transport(_)) => Self::Transport,
            Err(AskError::Refused { .. }) => Self::Refused,
            Err(AskError::Status { .. }) => Self::Status,
            Err(AskError::TooLong) => Self::TooLong,
            Err(AskError::NotPrometheus(_)) => Self::NotPrometheus,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PollLabels {
    provider: String,
    outcome: PollOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: String,
}

/// As many series as guards are watched: they go when the guard does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GuardLabels {
    namespace: String,
    migration: String,
    guard: String,
}

type Live = Family<GuardLabels, Gauge<f64, AtomicU64>>;

#[derive(Debug)]
pub(super) struct GuardMetrics {
    polls: Family<PollLabels, Counter>,
    durations: Family<ProviderLabels, Histogram, fn() -> Histogram>,
    value: Live,
    upper: Live,
    lower: Live,
    verdict: Live,
}

impl Default for GuardMetrics {
    fn default() -> Self {
        let durations: fn() -> Histogram = || Histogram::new(DURATIONS);
        Self {
            polls: Family::default(),
            durations: Family::new_with_constructor(durations),
            value: Live::default(),
            upper: Live::default(),
            lower: Live::default(),
            verdict: Live::default(),
        }
    }
}

impl GuardMetrics {
    pub fn register(&self, registry: &mut Registry, events: &Arc<EventQueue>) {
        registry.register("guard_polls", "Polls of guards' queries, by how they ended", self.polls.clone());
        let durations = self.durations.clone();
        registry.register("guard_poll_duration_seconds", "Time from asking a provider to its answer", durations);
        registry.register("guard_value", "Last value of a guard; absent while it says nothing", self.value.clone());
        registry.register("guard_upper_limit", "Highest value that a guard allows", self.upper.clone());
        registry.register("guard_lower_limit", "Lowest value that a guard allows", self.lower.clone());
        let verdict = self.verdict.clone();
        registry.register("guard_verdict", "What a guard says: 1 pass, 0 nothing, -1 breach", verdict);
        registry.register_collector(Box::new(QueueDepth(Arc::clone(events))));
    }

    pub fn polled(&self, provider: &str, outcome: PollOutcome, took: Span) {
        let provider = provider.to_owned();
        self.durations.get_or_create(&ProviderLabels { provider: provider.clone() }).observe(took.0.as_secs_f64());
        self.polls.get_or_create(&PollLabels { provider, outcome }).inc();
    }

    /// Shows a guard as it is now. What isn't measured is absent rather than zero.
    pub fn show(&self, key: &WatchKey, slot: &Slot, set: &WatchSet, now: Time) {
        let labels = labels(key, &slot.guard.name);
        let law = slot.law(set);
        let (verdict, value) = match judge(&law, &slot.memory, now) {
            Verdict::Pass => (1.0, slot.memory.value()),
            Verdict::Breach { .. } => (-1.0, slot.memory.value()),
            Verdict::Silent { .. } => (0.0, slot.memory.value_now()),
        };
        self.verdict.get_or_create(&labels).set(verdict);
        let limits = law.limits();
        for (gauge, figure) in [(&self.value, value), (&self.upper, limits.upper), (&self.lower, limits.lower)] {
            match figure {
                Some(figure) => _ = gauge.get_or_create(&labels).set(figure),
                None => _ = gauge.remove(&labels),
            }
        }
    }

    pub fn forget(&self, key: &WatchKey, guard: &str) {
        let labels = labels(key, guard);
        for gauge in [&self.value, &self.upper, &self.lower, &self.verdict] {
            gauge.remove(&labels);
        }
    }
}

fn labels(key: &WatchKey, guard: &str) -> GuardLabels {
    GuardLabels { namespace: key.namespace.clone(), migration: key.name.clone(), guard: guard.to_owned() }
}

#[derive(Debug)]
struct QueueDepth(Arc<EventQueue>);

impl Collector for QueueDepth {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let depth = ConstGauge::new(i64::try_from(self.0.len()).unwrap_or(i64::MAX));
        let name = "guard_events_waiting";
        let metric = encoder.encode_descriptor(name, "Events that nobody has read yet", None, depth.metric_type())?;
        depth.encode(metric)
    }
}
