//! The record: each of the latest requests by itself, for who wants to count in another way than
//! the account does. Pure; times are milliseconds since 1970 and are passed in.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::account::Failure;
use super::schedule::{Kind, Operation};

/// How many requests are kept: four minutes at 500 a second, in some ten megabytes.
const KEPT: usize = 120_000;

/// The first line of [`Record::csv`].
const HEAD: &str = "sent_ms,ended_ms,connection,operation,version,outcome\n";

/// A request that has ended.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was sent: before its connection was opened, where it has one of its own.
    pub sent_ms: u64,
    /// When its answer was complete, or the lack of one certain.
    pub ended_ms: u64,
    /// On which kind of connection.
    pub kind: Kind,
    /// What it did.
    pub operation: Operation,
    /// Which version answered; for a connection that broke, which one had answered on it before.
    pub version: Option<String>,
    /// Whether it was good.
    pub result: Result<(), Failure>,
}

/// The latest requests, in the order in which they ended.
#[derive(Default)]
pub struct Record {
    lines: VecDeque<Line>,
}

impl Record {
    /// Adds a request, and forgets the oldest where there are too many.
    pub fn add(&mut self, line: Line) {
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Returns the requests that ended at `since_ms` or later, a line each. A request of which no
    /// version is known has that field empty.
    pub fn csv(&self, since_ms: u64) -> String {
        let mut text = HEAD.to_owned();
        for Line { sent_ms, ended_ms, kind, operation, version, result } in &self.lines {
            if *ended_ms < since_ms {
                continue;
            }
            let (kind, operation) = (kind.name(), operation.name());
            let version = version.as_deref().unwrap_or_default();
            let outcome = result.map_or_else(Failure::name, |()| "ok");
            writeln!(text, "{sent_ms},{ended_ms},{kind},{operation},{version},{outcome}")
                .expect("writing to a String can't fail");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ended_ms: u64, result: Result<(), Failure>) -> Line {
        let version = result.is_ok().then(|| "v1".to_owned());
        Line { sent_ms: ended_ms - 3, ended_ms, kind: Kind::New, operation: Operation::Take, version, result }
    }

    #[test]
    fn a_request_is_a_line() {
        let mut record = Record::default();
        record.add(line(1_000, Ok(())));
        record.add(line(2_000, Err(Failure::Connect)));
        assert_eq!(record.csv(0), format!("{HEAD}997,1000,new,take,v1,ok\n1997,2000,new,take,,connect\n"));
        assert_eq!(record.csv(1_001), format!("{HEAD}1997,2000,new,take,,connect\n"));
    }

    #[test]
    fn requests_do_not_pile_up() {
        let mut record = Record::default();
        for at in 0..=KEPT as u64 {
            record.add(line(10 + at, Ok(())));
        }
        assert_eq!(record.csv(0).lines().count(), KEPT + 1);
        assert!(!record.csv(0).contains("7,10,"), "the oldest is forgotten");
    }
}
