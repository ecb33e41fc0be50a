//! The windows of the account and the record, shared by all that send, and the counters that
//! Prometheus reads.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::account::{End, Report, Turn, Window};
use super::record::{Line, Record};
use super::schedule::{Kind, Operation};
use crate::times::unix_ms;

/// How many windows are kept, the current one included; the oldest is forgotten for a new one.
const WINDOWS_KEPT: usize = 64;

/// Upper bounds in seconds, from an undisturbed read to the client's patience.
const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRequest {
    connection: &'static str,
    outcome: &'static str,
    version: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfConnection {
    connection: &'static str,
}

type Seconds = Family<OfConnection, Histogram, fn() -> Histogram>;

/// All windows. At least one, and the last one is current.
pub struct Ledger {
    windows: Mutex<VecDeque<Arc<Mutex<Window>>>>,
    record: Mutex<Record>,
    registry: Registry,
    requests: Family<OfRequest, Counter<u64, AtomicU64>>,
    missed: Family<OfConnection, Counter<u64, AtomicU64>>,
    seconds: Seconds,
}

impl Ledger {
    /// Begins with one window.
    pub fn new(first: &str) -> Self {
        let mut registry = Registry::default();
        let requests = Family::<OfRequest, Counter>::default();
        registry.register("load_requests", "Requests that were sent and have ended", requests.clone());
        let missed = Family::<OfConnection, Counter>::default();
        registry.register(
            "load_requests_missed",
            "Requests that were due and never sent, since this side could not keep up",
            missed.clone(),
        );
        let seconds = Seconds::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register(
            "load_request_duration_seconds",
            "Time from when a request was due to the end of its answer",
            seconds.clone(),
        );
        let window = Window::new(first.to_owned(), unix_ms());
        Self {
            windows: Mutex::new(VecDeque::from([Arc::new(Mutex::new(window))])),
            record: Mutex::default(),
            registry,
            requests,
            missed,
            seconds,
        }
    }

    /// Closes the current window, begins another, and returns the account of the closed one.
    ///
    /// Requests that are in flight still end in the window in which they were due.
    pub fn mark(&self, name: &str) -> Report {
        let now = unix_ms();
        let next = Arc::new(Mutex::new(Window::new(name.to_owned(), now)));
        let closed = {
            let mut windows = lock(&self.windows);
            if windows.len() == WINDOWS_KEPT {
                windows.pop_front();
            }
            windows.push_back(next);
            Arc::clone(&windows[windows.len() - 2])
        };
        let mut closed = lock(&closed);
        closed.close(now);
        closed.report()
    }

    /// Returns the account of the current window.
    pub fn report(&self) -> Report {
        lock(&self.current()).report()
    }

    /// Returns the account of the latest window of that name.
    pub fn report_of(&self, name: &str) -> Option<Report> {
        let windows = lock(&self.windows);
        let found = windows.iter().rev().map(|window| lock(window));
        found.filter(|window| window.name() == name).map(|window| window.report()).next()
    }

    /// Returns all counters in the text format of `OpenMetrics`.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String can't fail");
        text
    }

    /// Returns the requests that ended at `since_ms` or later, as far as they are kept.
    pub fn requests(&self, since_ms: u64) -> String {
        lock(&self.record).csv(since_ms)
    }

    /// Enters a request that has become due.
    pub fn due(self: &Arc<Self>, kind: Kind, operation: Operation) -> Entry {
        let window = self.current();
        lock(&window).due(kind);
        Entry { ledger: Arc::clone(self), window, kind, operation }
    }

    fn current(&self) -> Arc<Mutex<Window>> {
        let windows = lock(&self.windows);
        Arc::clone(windows.back().expect("there is always a window"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request in the account: due, and then either missed or sent.
#[must_use]
pub struct Entry {
    ledger: Arc<Ledger>,
    window: Arc<Mutex<Window>>,
    kind: Kind,
    operation: Operation,
}

impl Entry {
    /// It is not sent.
    pub fn missed(self) {
        lock(&self.window).missed(self.kind);
        let connection = self.kind.name();
        self.ledger.missed.get_or_create(&OfConnection { connection }).inc();
    }

    /// It is sent.
    pub fn sent(self) -> Sent {
        lock(&self.window).sent(self.kind, self.operation);
        Sent { entry: self, sent_ms: unix_ms() }
    }
}

/// A request in the account that was sent.
#[must_use]
pub struct Sent {
    entry: Entry,
    sent_ms: u64,
}

impl Sent {
    /// Something has happened to a connection because of it.
    pub fn turned(&self, turn: Turn) {
        lock(&self.entry.window).turned(self.entry.kind, turn);
    }

    /// It has ended.
    pub fn ended(self, end: End) {
        let Self { entry: Entry { ledger, window, kind, operation }, sent_ms } = self;
        let ended_ms = unix_ms();
        let connection = kind.name();
        let labels = OfRequest {
            connection,
            outcome: match end.result {
                Ok(()) => "ok",
                Err(failure) => failure.name(),
            },
            version: end.version.clone().unwrap_or_else(|| "unknown".to_owned()),
        };
        ledger.requests.get_or_create(&labels).inc();
        if let Some(latency) = end.latency {
            ledger.seconds.get_or_create(&OfConnection { connection }).observe(latency.as_secs_f64());
        }
        let End { result, version, latency: _ } = end.clone();
        lock(&ledger.record).add(Line { sent_ms, ended_ms, kind, operation, version, result });
        lock(&window).ended(kind, operation, end, ended_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn json_of(report: &Report) -> Value {
        serde_json::to_value(report).unwrap()
    }

    #[test]
    fn a_request_ends_in_the_window_in_which_it_was_due() {
        let ledger = Arc::new(Ledger::new("before"));
        let sent = ledger.due(Kind::New, Operation::Read).sent();
        let before = json_of(&ledger.mark("after"));
        assert_eq!(before["total"]["in_flight"], json!(1));
        sent.ended(End { result: Ok(()), version: Some("v1".to_owned()), latency: None });
        let before = json_of(&ledger.report_of("before").unwrap());
        assert_eq!(before["total"]["ok"], json!(1));
        assert_eq!(before["total"]["in_flight"], json!(0));
        assert_eq!(json_of(&ledger.report())["total"]["due"], json!(0));
    }

    #[test]
    fn of_two_windows_of_one_name_the_later_one_is_told() {
        let ledger = Arc::new(Ledger::new("flip"));
        ledger.due(Kind::New, Operation::Read).missed();
        let _ = ledger.mark("flip");
        assert_eq!(json_of(&ledger.report_of("flip").unwrap())["total"]["missed"], json!(0));
        assert!(ledger.report_of("flop").is_none());
    }

    #[test]
    fn windows_do_not_pile_up() {
        let ledger = Ledger::new("first");
        for _ in 0..WINDOWS_KEPT {
            let _ = ledger.mark("next");
        }
        assert!(ledger.report_of("first").is_none());
    }
}
