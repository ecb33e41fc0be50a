//! What an act comes to: the figures, and which promises they break. Pure.
//!
//! A failed request is **green's own** where green was told to fail so: an answer of the 5xx kind that green gave after
//! its errors began; or, after green's first crash, a connection that broke, could not be had or stayed silent, unless
//! blue had answered on it or it was opened after a new connection had been answered by blue again. Every other failure
//! counts as **caused by the move** of traffic, whatever it may really have been caused by, and none may happen.

use std::time::Duration;

use alongside::api::{MigrationStatus, RollbackReason, State, Time, TrafficStatus};
use serde::Deserialize;

use crate::{
    record::{Connection, Outcome, Record, Request, Side},
    script::Fault,
};

/// How many answers blue must have given since the end of a way back: a second's worth, for an act that ends in silence
/// shows nothing.
pub const ANSWERS_AFTERWARDS: usize = 500;

/// Within which time of a breach's being visible in Prometheus new connections must be back. The guards' interval is a
/// second, and the EndpointSlices take up to another; the rest is for a machine that runs a whole cluster on two cores.
pub const BACK_WITHIN: Duration = Duration::from_secs(5);

/// The load's account of a window.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Window {
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// Sums over all connections.
    pub total: Sums,
    /// The writes.
    pub takes: Takes,
}

/// Sums over all connections.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Sums {
    /// Good answers.
    pub ok: u64,
    /// Requests that were due and never sent, as the load could not keep up.
    pub missed: u64,
    /// Requests without an end so far.
    pub in_flight: u64,
    /// The slowest of 100 answers, from when its request was due.
    pub p99_ms: Option<f64>,
    /// The slowest answer of all.
    pub slowest_ms: Option<f64>,
}

/// Writes.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Takes {
    /// Sent.
    pub sent: u64,
    /// Answered well.
    pub acknowledged: u64,
}

/// The writes of a shop's whole life beside what its table holds. The load goes on meanwhile, so `acknowledged` was
/// read before the table, and `sent` after it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Books {
    /// Writes that were acknowledged, a moment before the table was read.
    pub acknowledged: u64,
    /// Writes in the table.
    pub written: u64,
    /// Writes that were sent, a moment after.
    pub sent: u64,
}

/// All that is known when an act is over.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What green was told to do wrong.
    pub fault: Fault,
    /// Every request since the act began.
    pub record: Record,
    /// The load's own account of the same.
    pub window: Window,
    /// The Migration's status at the end.
    pub status: MigrationStatus,
    /// Whom the Service's selector names at the end.
    pub selected: Option<Side>,
    /// From when on green misbehaves, as green itself says.
    pub fault_from: Option<Time>,
    /// When Prometheus first answered a guard's question with a breach.
    pub visible: Option<Time>,
    /// Writes.
    pub books: Books,
}

/// The figures of an act.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Requests that were sent and have ended.
    pub sent: usize,
    /// Those without a good answer.
    pub failed: usize,
    /// Those that green was told to fail.
    pub greens_own: usize,
    /// All other failures.
    pub by_the_move: Vec<Request>,
    /// Requests that were due and never sent.
    pub missed: u64,
    /// The slowest of 100 answers, in milliseconds.
    pub p99_ms: Option<f64>,
    /// The slowest answer, in milliseconds.
    pub slowest_ms: Option<f64>,
    /// When users first saw the fault.
    pub first_bad: Option<Time>,
    /// When new connections were answered by blue again.
    pub first_blue: Option<Time>,
    /// Good answers of blue on new connections since everything was taken back.
    pub blue_afterwards: usize,
}

impl Evidence {
    /// Counts.
    pub fn figures(&self) -> Figures {
        let requests = self.record.requests();
        let first_blue = self.fault_from.and_then(|from| self.record.first_new(Side::Blue, from));
        let failed = || requests.iter().filter(|request| !request.is_good());
        let is_greens_own = |request: &Request| self.is_greens_own(request, first_blue);
        let done = self.status.rollback.as_ref().and_then(|rollback| rollback.done);
        Figures {
            sent: requests.len(),
            failed: failed().count(),
            greens_own: failed().filter(|request| is_greens_own(request)).count(),
            by_the_move: failed().filter(|request| !is_greens_own(request)).copied().collect(),
            missed: self.window.total.missed,
            p99_ms: self.window.total.p99_ms,
            slowest_ms: self.window.total.slowest_ms,
            first_bad: failed().filter(|request| is_greens_own(request)).map(|request| request.ended).min(),
            first_blue,
            blue_afterwards: done.map_or(0, |done| {
                let later = |request: &&Request| request.sent >= done && request.connection == Connection::New;
                requests.iter().filter(later).filter(|r| r.is_good() && r.side == Some(Side::Blue)).count()
            }),
        }
    }

    fn is_greens_own(&self, request: &Request, first_blue: Option<Time>) -> bool {
        let Some(from) = self.fault_from else { return false };
        match self.fault {
            Fault::None => false,
            Fault::Errors => {
                request.outcome == Outcome::ServerError && request.side == Some(Side::Green) && request.ended >= from
            }
            Fault::Crash => {
                let broke = match request.outcome {
                    Outcome::Connect | Outcome::Reset | Outcome::Timeout => true,
                    Outcome::Good | Outcome::ServerError | Outcome::Unexpected => false,
                };
                let green_was_in_the_way = first_blue.is_none_or(|first_blue| request.sent <= first_blue);
                broke && request.side != Some(Side::Blue) && request.ended >= from && green_was_in_the_way
            }
        }
    }

    /// Each promise that is broken, in a sentence.
    pub fn broken(&self, figures: &Figures) -> Vec<String> {
        let mut broken = Vec::new();
        let mut must = |kept: bool, otherwise: String| {
            if !kept {
                broken.push(otherwise);
            }
        };
        let by_the_move = figures.by_the_move.len();
        must(by_the_move == 0, format!("{by_the_move} requests failed because of the move"));
        must(figures.sent > 0, "no request was sent".to_owned());
        let missed = figures.missed;
        must(missed == 0, format!("the load could not keep up: {missed} requests were due and never sent"));
        let Books { acknowledged, written, sent } = self.books;
        must(
            acknowledged <= written,
            format!("{acknowledged} writes were acknowledged and {written} are in the table"),
        );
        must(written <= sent, format!("{sent} writes were sent and {written} are in the table"));
        let (state, side) = match self.fault {
            Fault::None => (State::Succeeded, Side::Green),
            Fault::Errors | Fault::Crash => (State::RolledBack, Side::Blue),
        };
        let status = &self.status;
        must(status.state == state, format!("the Migration is {:?}, not {state:?}: {}", status.state, status.message));
        must(self.selected == Some(side), format!("the Service is not on {}", name(side)));
        for connection in [Connection::New, Connection::Kept] {
            let last = self.record.requests().iter().rev().find(|request| request.connection == connection);
            let last = last.and_then(|request| request.side);
            must(last == Some(side), format!("{} connections do not end on {}", kind(connection), name(side)));
        }
        match self.fault {
            Fault::None => must(self.record.last_answer(Side::Blue, Connection::New).is_some(), nothing_moved()),
            Fault::Errors | Fault::Crash => broken.extend(self.broken_on_the_way_back(figures)),
        }
        broken
    }

    fn broken_on_the_way_back(&self, figures: &Figures) -> Vec<String> {
        let mut broken = Vec::new();
        let mut must = |kept: bool, otherwise: &str| {
            if !kept {
                broken.push(otherwise.to_owned());
            }
        };
        must(self.fault_from.is_some(), "green never said when its fault begins");
        must(figures.first_bad.is_some(), "no user saw the fault, so nothing was shown");
        must(self.visible.is_some(), "Prometheus shows no breach");
        must(figures.first_blue.is_some(), "no new connection was answered by blue again");
        must(figures.blue_afterwards >= ANSWERS_AFTERWARDS, "blue hardly answers since everything was taken back");
        let Some(rollback) = &self.status.rollback else {
            must(false, "the status has no rollback");
            return broken;
        };
        if let Some((visible, restored)) = self.visible.zip(rollback.new_connections_restored) {
            let took = restored.0 - visible.0;
            let bound = BACK_WITHIN.as_millis();
            must(
                u128::try_from(took).unwrap_or_default() <= bound,
                &format!("new connections were back after {took} ms, promised are {bound}"),
            );
        }
        must(rollback.reason == RollbackReason::Breach, "the rollback's reason is not a breach");
        for (time, name) in [
            (rollback.sample_at, "sampleAt"),
            (rollback.new_connections_restored, "newConnectionsRestored"),
            (rollback.drained, "drained"),
            (rollback.done, "done"),
        ] {
            must(time.is_some(), &format!("status.rollback.{name} is empty"));
        }
        broken
    }

    /// The steps of the way back in the order in which they are told, each with its time where there is one.
    pub fn way_back(&self, figures: &Figures) -> Vec<(&'static str, Option<Time>)> {
        let rollback = self.status.rollback.as_ref();
        let back = self.status.traffic.first().and_then(|traffic: &TrafficStatus| traffic.back_at);
        let last = |connection| self.record.last_answer(Side::Green, connection);
        vec![
            ("users: first bad answer", figures.first_bad),
            ("Prometheus: a guard's query exceeds its limit", self.visible),
            ("operator: saw it", rollback.map(|rollback| rollback.seen_at)),
            ("operator: saw the Service back on blue", back),
            ("operator: new connections restored", rollback.and_then(|rollback| rollback.new_connections_restored)),
            ("users: last answer by green on a new connection", last(Connection::New)),
            ("users: first answer by blue on a new connection", figures.first_blue),
            ("users: last answer by green on a kept connection", last(Connection::Kept)),
            ("operator: green drained", rollback.and_then(|rollback| rollback.drained)),
            ("operator: everything taken back", rollback.and_then(|rollback| rollback.done)),
        ]
    }
}

fn nothing_moved() -> String {
    "blue never answered, so nothing moved".to_owned()
}

/// What a side is called.
pub fn name(side: Side) -> &'static str {
    match side {
        Side::Blue => "blue",
        Side::Green => "green",
    }
}

fn kind(connection: Connection) -> &'static str {
    match connection {
        Connection::New => "new",
        Connection::Kept => "kept",
    }
}

#[cfg(test)]
mod tests {
    use alongside::api::RollbackStatus;

    use super::*;

    const HEAD: &str = "sent_ms,ended_ms,connection,operation,version,outcome";

    /// Blue answers until 100, green from then on.
    fn forward(fault: Fault) -> Evidence {
        let lines = ["50,51,new", "60,61,keep-alive"].map(|line| format!("{line},take,v1,ok"));
        let green = ["110,111,new", "120,121,keep-alive"].map(|line| format!("{line},take,v2,ok"));
        Evidence {
            fault,
            record: Record::parse(&[&[HEAD.to_owned()][..], &lines, &green].concat().join("\n")).unwrap(),
            window: Window::default(),
            status: MigrationStatus { state: State::Succeeded, ..MigrationStatus::default() },
            selected: Some(Side::Green),
            fault_from: None,
            visible: None,
            books: Books::default(),
        }
    }

    /// As `forward`; then green misbehaves from 200 on, and from 300 on blue answers again.
    fn back(fault: Fault, between: &[&str]) -> Evidence {
        let mut lines = vec![HEAD.to_owned(), "50,51,new,take,v1,ok".to_owned(), "110,111,new,take,v2,ok".to_owned()];
        lines.extend(between.iter().map(ToString::to_string));
        lines.extend((0..600).map(|n| format!("{},{},new,take,v1,ok", 300 + n, 301 + n)));
        lines.push("910,911,keep-alive,read,v1,ok".to_owned());
        let rollback = RollbackStatus {
            sample_at: Some(Time(250)),
            new_connections_restored: Some(Time(280)),
            drained: Some(Time(290)),
            done: Some(Time(295)),
            ..RollbackStatus::default()
        };
        Evidence {
            record: Record::parse(&lines.join("\n")).unwrap(),
            status: MigrationStatus {
                state: State::RolledBack,
                rollback: Some(rollback),
                ..MigrationStatus::default()
            },
            selected: Some(Side::Blue),
            fault_from: Some(Time(200)),
            visible: Some(Time(249)),
            ..forward(fault)
        }
    }

    fn broken(evidence: &Evidence) -> Vec<String> {
        evidence.broken(&evidence.figures())
    }

    #[test]
    fn a_clean_way_forward_breaks_nothing() {
        assert_eq!(broken(&forward(Fault::None)), Vec::<String>::new());
    }

    #[test]
    fn a_clean_way_back_breaks_nothing_and_counts_greens_own_failures_apart() {
        let errors = back(Fault::Errors, &["210,211,new,take,v2,5xx", "220,221,keep-alive,read,v2,5xx"]);
        assert_eq!(broken(&errors), Vec::<String>::new());
        assert_eq!((errors.figures().failed, errors.figures().greens_own), (2, 2));
        let crash = back(
            Fault::Crash,
            &["199,201,keep-alive,take,v2,reset", "210,211,new,take,,connect", "220,2220,new,take,,timeout"],
        );
        assert_eq!(broken(&crash), Vec::<String>::new());
        assert_eq!((crash.figures().failed, crash.figures().greens_own), (3, 3));
    }

    #[test]
    fn a_way_back_that_takes_its_time_breaks_a_promise() {
        let mut late = back(Fault::Errors, &["210,211,new,take,v2,5xx"]);
        late.status.rollback.as_mut().unwrap().new_connections_restored = Some(Time(249 + 5_001));
        assert_eq!(broken(&late), ["new connections were back after 5001 ms, promised are 5000"]);
        late.status.rollback.as_mut().unwrap().new_connections_restored = Some(Time(249 + 5_000));
        assert_eq!(broken(&late), Vec::<String>::new());
    }

    #[test]
    fn whatever_green_was_not_told_to_do_is_caused_by_the_move() {
        let own = "210,211,new,take,v2,5xx";
        for other in [
            "210,211,new,take,v1,5xx",
            "210,211,new,take,v2,reset",
            "210,211,new,take,,connect",
            "210,211,new,take,v2,unexpected",
            "190,199,new,take,v2,5xx",
        ] {
            let evidence = back(Fault::Errors, &[own, other]);
            assert_eq!(evidence.figures().by_the_move.len(), 1, "{other}");
            assert_eq!(broken(&evidence), ["1 requests failed because of the move"], "{other}");
        }
        let own = "210,211,new,take,,connect";
        for other in [
            "210,211,keep-alive,take,v1,reset",
            "210,211,new,take,v2,5xx",
            "190,199,new,take,,connect",
            "302,303,new,take,,connect",
        ] {
            let evidence = back(Fault::Crash, &[own, other]);
            assert_eq!(evidence.figures().by_the_move.len(), 1, "{other}");
        }
    }

    #[test]
    fn a_failure_on_the_happy_way_is_never_greens_own() {
        let mut evidence = forward(Fault::None);
        evidence.fault_from = Some(Time(0));
        evidence.record = Record::parse(&format!("{HEAD}\n110,111,new,take,v2,5xx")).unwrap();
        assert_eq!(evidence.figures().by_the_move.len(), 1);
    }

    #[test]
    fn each_promise_can_be_broken() {
        type Break = fn(&mut Evidence);
        let own = ["210,211,new,take,v2,5xx"];
        let breaks: [(Break, &str); 12] = [
            (|e| e.window.total.missed = 3, "could not keep up"),
            (|e| e.books.acknowledged = 1, "1 writes were acknowledged and 0"),
            (|e| e.books = Books { acknowledged: 0, written: 2, sent: 1 }, "1 writes were sent and 2"),
            (|e| e.status.state = State::Stalled, "the Migration is Stalled"),
            (|e| e.selected = Some(Side::Green), "the Service is not on blue"),
            (|e| e.selected = None, "the Service is not on blue"),
            (|e| e.fault_from = None, "green never said"),
            (|e| e.visible = None, "Prometheus shows no breach"),
            (|e| e.status.rollback = None, "the status has no rollback"),
            (|e| e.status.rollback.as_mut().unwrap().sample_at = None, "sampleAt is empty"),
            (|e| e.status.rollback.as_mut().unwrap().reason = RollbackReason::Abort, "not a breach"),
            (|e| e.status.rollback.as_mut().unwrap().done = Some(Time(800)), "hardly answers"),
        ];
        for (break_it, sentence) in breaks {
            let mut evidence = back(Fault::Errors, &own);
            break_it(&mut evidence);
            let broken = broken(&evidence);
            assert!(broken.iter().any(|broken| broken.contains(sentence)), "{sentence}: {broken:?}");
        }
        let unseen = broken(&back(Fault::Errors, &[]));
        assert!(unseen.iter().any(|broken| broken.contains("no user saw the fault")), "{unseen:?}");
    }
}
