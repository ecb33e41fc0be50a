//! The account of every request: what was due, what was sent, and how it ended. Pure; times are
//! milliseconds since 1970 and are passed in.
//!
//! Two laws hold at each moment, for each kind of connection:
//! `due = missed + waiting + sent` and `sent = ok + failed + in flight`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::latencies::Latencies;
use super::schedule::{Kind, Operation};

/// Why a request that was sent counts as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// An answer of the 5xx kind.
    ServerError,
    /// Any other answer that isn't 2xx.
    Unexpected,
    /// No connection could be opened.
    Connect,
    /// The connection broke before the answer was complete.
    Reset,
    /// No complete answer in time.
    Timeout,
}

impl Failure {
    /// The name as labels show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerError => "5xx",
            Self::Unexpected => "unexpected",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug)]
pub struct End {
    /// Whether it was good.
    pub result: Result<(), Failure>,
    /// Which version answered; for a connection that broke, which one had answered on it before.
    pub version: Option<String>,
    /// From when it was due to the end of its answer. `None` without an answer.
    pub latency: Option<Duration>,
}

/// What happens to connections. None of it is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// One was opened.
    Opened,
    /// The server announced that it would close one, or closed one between requests.
    ClosedByServer,
    /// One was given up here, because it had been idle for longer than servers keep them.
    GivenUpIdle,
    /// A read whose connection broke was sent once more.
    ReadRetried,
}

/// When things went wrong and when they were good again.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[expect(clippy::struct_field_names, reason = "these are the names in the JSON, where a unit belongs")]
struct Trouble {
    first_failure_ms: Option<u64>,
    last_failure_ms: Option<u64>,
    /// The first good answer after the last failure.
    first_good_after_failure_ms: Option<u64>,
}

impl Trouble {
    fn ended(&mut self, good: bool, at_ms: u64) {
        if good {
            if self.last_failure_ms.is_some() {
                self.first_good_after_failure_ms.get_or_insert(at_ms);
            }
        } else {
            self.first_failure_ms.get_or_insert(at_ms);
            self.last_failure_ms = Some(at_ms);
            self.first_good_after_failure_ms = None;
        }
    }
}

/// The account of one version's answers on one kind of connection.
#[derive(Clone, Debug, Default)]
struct OfVersion {
    ok: u64,
    failed: BTreeMap<Failure, u64>,
    latencies: Latencies,
    first_answer_ms: Option<u64>,
    last_answer_ms: Option<u64>,
}

/// The account of one kind of connection.
#[derive(Clone, Debug, Default)]
struct OfKind {
    due: u64,
    missed: u64,
    sent: u64,
    opened: u64,
    closed_by_server: u64,
    given_up_idle: u64,
    reads_retried: u64,
    trouble: Trouble,
    by_version: BTreeMap<Option<String>, OfVersion>,
}

/// The account of a span of time. A request belongs to the window in which it was due, however
/// late it ends.
#[derive(Clone, Debug)]
pub struct Window {
    name: String,
    began_ms: u64,
    ended_ms: Option<u64>,
    trouble: Trouble,
    takes_sent: u64,
    takes_ok: u64,
    new: OfKind,
    keep_alive: OfKind,
}

impl Window {
    /// An empty account.
    pub fn new(name: String, began_ms: u64) -> Self {
        Self {
            name,
            began_ms,
            ended_ms: None,
            trouble: Trouble::default(),
            takes_sent: 0,
            takes_ok: 0,
            new: OfKind::default(),
            keep_alive: OfKind::default(),
        }
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// No request becomes due in it any more.
    pub fn close(&mut self, at_ms: u64) {
        self.ended_ms.get_or_insert(at_ms);
    }

    /// A request has become due.
    pub fn due(&mut self, kind: Kind) {
        self.of(kind).due += 1;
    }

    /// A request that was due is not sent at all: this side could not keep up.
    pub fn missed(&mut self, kind: Kind) {
        self.of(kind).missed += 1;
    }

    /// A request that was due is sent.
    pub fn sent(&mut self, kind: Kind, operation: Operation) {
        self.of(kind).sent += 1;
        self.takes_sent += u64::from(operation == Operation::Take);
    }

    /// Something has happened to a connection.
    pub fn turned(&mut self, kind: Kind, turn: Turn) {
        let of_kind = self.of(kind);
        *match turn {
            Turn::Opened => &mut of_kind.opened,
            Turn::ClosedByServer => &mut of_kind.closed_by_server,
            Turn::GivenUpIdle => &mut of_kind.given_up_idle,
            Turn::ReadRetried => &mut of_kind.reads_retried,
        } += 1;
    }

    /// A request that was sent has ended.
    pub fn ended(&mut self, kind: Kind, operation: Operation, end: End, at_ms: u64) {
        let End { result, version, latency } = end;
        self.trouble.ended(result.is_ok(), at_ms);
        self.takes_ok += u64::from(operation == Operation::Take && result.is_ok());
        let of_kind = self.of(kind);
        of_kind.trouble.ended(result.is_ok(), at_ms);
        let of_version = of_kind.by_version.entry(version).or_default();
        match result {
            Ok(()) => of_version.ok += 1,
            Err(failure) => *of_version.failed.entry(failure).or_default() += 1,
        }
        if let Some(latency) = latency {
            of_version.latencies.record(latency);
            of_version.first_answer_ms.get_or_insert(at_ms);
            of_version.last_answer_ms = Some(at_ms);
        }
    }

    fn of(&mut self, kind: Kind) -> &mut OfKind {
        match kind {
            Kind::New => &mut self.new,
            Kind::KeepAlive => &mut self.keep_alive,
        }
    }

    /// Returns what there is to tell.
    pub fn report(&self) -> Report {
        let mut total = Sums::default();
        total.add_kind(&self.new);
        total.add_kind(&self.keep_alive);
        Report {
            window: self.name.clone(),
            began_ms: self.began_ms,
            ended_ms: self.ended_ms,
            total: total.told(self.trouble),
            takes: Takes { sent: self.takes_sent, acknowledged: self.takes_ok },
            connections: BTreeMap::from([(Kind::New, self.new.report()), (Kind::KeepAlive, self.keep_alive.report())]),
        }
    }
}

impl OfKind {
    fn report(&self) -> KindReport {
        let mut sums = Sums::default();
        sums.add_kind(self);
        KindReport {
            sums: sums.told(self.trouble),
            opened: self.opened,
            closed_by_server: self.closed_by_server,
            given_up_idle: self.given_up_idle,
            reads_retried: self.reads_retried,
            versions: self
                .by_version
                .iter()
                .map(|(version, of_version)| {
                    let name = version.clone().unwrap_or_else(|| "unknown".to_owned());
                    (name, of_version.report())
                })
                .collect(),
        }
    }
}

impl OfVersion {
    fn report(&self) -> VersionReport {
        VersionReport {
            ok: self.ok,
            failed: self.failed.values().sum(),
            failed_by: named(&self.failed),
            latency: LatencyReport::of(&self.latencies),
            first_answer_ms: self.first_answer_ms,
            last_answer_ms: self.last_answer_ms,
        }
    }
}

fn named(failed: &BTreeMap<Failure, u64>) -> BTreeMap<&'static str, u64> {
    failed.iter().map(|(failure, count)| (failure.name(), *count)).collect()
}

/// Adds up what is told of more than one version.
#[derive(Default)]
struct Sums {
    due: u64,
    missed: u64,
    sent: u64,
    ok: u64,
    failed: BTreeMap<Failure, u64>,
    latencies: Latencies,
}

impl Sums {
    fn add_kind(&mut self, of_kind: &OfKind) {
        self.due += of_kind.due;
        self.missed += of_kind.missed;
        self.sent += of_kind.sent;
        for of_version in of_kind.by_version.values() {
            self.ok += of_version.ok;
            for (failure, count) in &of_version.failed {
                *self.failed.entry(*failure).or_default() += count;
            }
            self.latencies.add(&of_version.latencies);
        }
    }

    fn told(self, trouble: Trouble) -> SumReport {
        let failed: u64 = self.failed.values().sum();
        SumReport {
            due: self.due,
            missed: self.missed,
            waiting: self.due - self.missed - self.sent,
            sent: self.sent,
            ok: self.ok,
            failed,
            in_flight: self.sent - self.ok - failed,
            failed_by: named(&self.failed),
            latency: LatencyReport::of(&self.latencies),
            trouble,
        }
    }
}

/// The account of a window as JSON.
#[derive(Debug, Serialize)]
pub struct Report {
    window: String,
    began_ms: u64,
    ended_ms: Option<u64>,
    total: SumReport,
    takes: Takes,
    connections: BTreeMap<Kind, KindReport>,
}

/// The writes. In the database, `taken` grows by at least `acknowledged` and at most `sent`.
#[derive(Debug, Serialize)]
struct Takes {
    sent: u64,
    acknowledged: u64,
}

#[derive(Debug, Serialize)]
struct SumReport {
    due: u64,
    missed: u64,
    waiting: u64,
    sent: u64,
    ok: u64,
    failed: u64,
    in_flight: u64,
    failed_by: BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    latency: LatencyReport,
    #[serde(flatten)]
    trouble: Trouble,
}

#[derive(Debug, Serialize)]
struct KindReport {
    #[serde(flatten)]
    sums: SumReport,
    opened: u64,
    closed_by_server: u64,
    given_up_idle: u64,
    reads_retried: u64,
    versions: BTreeMap<String, VersionReport>,
}

#[derive(Debug, Serialize)]
struct VersionReport {
    ok: u64,
    failed: u64,
    failed_by: BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    latency: LatencyReport,
    first_answer_ms: Option<u64>,
    last_answer_ms: Option<u64>,
}

/// Over all answers, good or not; `null` where there was none.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "these are the names in the JSON, where a unit belongs")]
struct LatencyReport {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    slowest_ms: Option<f64>,
}

impl LatencyReport {
    fn of(latencies: &Latencies) -> Self {
        // By whole microseconds, so that 1.791 doesn't show as 1.7910000000000001.
        let millis = |latency: Duration| f64::from(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX)) / 1e3;
        let shown = |latency: Option<Duration>| latency.map(millis);
        Self {
            p50_ms: shown(latencies.quantile(500)),
            p99_ms: shown(latencies.quantile(990)),
            slowest_ms: shown(latencies.slowest()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(version: &str, result: Result<(), Failure>) -> End {
        End { result, version: Some(version.to_owned()), latency: Some(Duration::from_millis(3)) }
    }

    fn window() -> Window {
        Window::new("test".to_owned(), 0)
    }

    fn send(window: &mut Window, kind: Kind, end: End, at_ms: u64) {
        window.due(kind);
        window.sent(kind, Operation::Read);
        window.ended(kind, Operation::Read, end, at_ms);
    }

    #[test]
    fn what_was_due_waits_is_missed_or_sent_and_what_was_sent_is_good_failed_or_in_flight() {
        let mut window = window();
        for _ in 0..5 {
            window.due(Kind::New);
        }
        window.missed(Kind::New);
        for _ in 0..3 {
            window.sent(Kind::New, Operation::Read);
        }
        window.ended(Kind::New, Operation::Read, answered("v1", Ok(())), 1);
        let failed = answered("v1", Err(Failure::ServerError));
        window.ended(Kind::New, Operation::Read, failed, 2);
        let total = window.report().total;
        assert_eq!((total.due, total.missed, total.waiting, total.sent), (5, 1, 1, 3));
        assert_eq!((total.ok, total.failed, total.in_flight), (1, 1, 1));
    }

    #[test]
    fn good_again_is_after_the_last_failure_not_the_first() {
        let mut window = window();
        for (result, at_ms) in [
            (Ok(()), 10),
            (Err(Failure::ServerError), 20),
            (Ok(()), 30),
            (Err(Failure::ServerError), 40),
            (Ok(()), 50),
            (Ok(()), 60),
        ] {
            send(&mut window, Kind::New, answered("v2", result), at_ms);
        }
        let trouble = window.report().total.trouble;
        assert_eq!(trouble.first_failure_ms, Some(20));
        assert_eq!(trouble.last_failure_ms, Some(40));
        assert_eq!(trouble.first_good_after_failure_ms, Some(50));
    }

    #[test]
    fn a_window_without_failures_was_never_good_again() {
        let mut window = window();
        send(&mut window, Kind::New, answered("v1", Ok(())), 10);
        let trouble = window.report().total.trouble;
        assert_eq!(trouble.first_failure_ms, None);
        assert_eq!(trouble.first_good_after_failure_ms, None);
    }

    #[test]
    fn each_kind_has_its_own_times_of_each_version() {
        let mut window = window();
        send(&mut window, Kind::New, answered("v1", Ok(())), 10);
        send(&mut window, Kind::New, answered("v2", Ok(())), 20);
        send(&mut window, Kind::KeepAlive, answered("v1", Ok(())), 30);
        let report = window.report();
        let v1 = |kind| &report.connections[&kind].versions["v1"];
        assert_eq!(v1(Kind::New).last_answer_ms, Some(10));
        assert_eq!(v1(Kind::KeepAlive).last_answer_ms, Some(30));
        assert_eq!(report.connections[&Kind::New].versions["v2"].first_answer_ms, Some(20));
    }

    #[test]
    fn a_broken_connection_is_no_answer() {
        let mut window = window();
        let end = End { result: Err(Failure::Reset), version: Some("v2".to_owned()), latency: None };
        send(&mut window, Kind::KeepAlive, end, 10);
        let report = window.report();
        let v2 = &report.connections[&Kind::KeepAlive].versions["v2"];
        assert_eq!((v2.failed, v2.failed_by["reset"]), (1, 1));
        assert_eq!(v2.last_answer_ms, None);
        assert_eq!(v2.latency.slowest_ms, None);
    }

    #[test]
    fn only_good_takes_are_acknowledged() {
        let mut window = window();
        for result in [Ok(()), Err(Failure::Timeout)] {
            window.due(Kind::New);
            window.sent(Kind::New, Operation::Take);
            window.ended(Kind::New, Operation::Take, answered("v1", result), 1);
        }
        let takes = window.report().takes;
        assert_eq!((takes.sent, takes.acknowledged), (2, 1));
    }
}
