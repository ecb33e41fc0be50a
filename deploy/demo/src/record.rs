//! The load's record of every request, and what it says about who answered when. Pure.

use alongside::api::Time;

/// Every request of an act that has ended, in the order in which they ended.
#[derive(Clone, Debug, Default)]
pub struct Record {
    requests: Vec<Request>,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it was sent: before its connection was opened, where it has one of its own.
    pub sent: Time,
    /// When its answer was complete, or the lack of one certain.
    pub ended: Time,
    /// On which kind of connection.
    pub connection: Connection,
    /// Who answered it, or the one before it on a connection that broke.
    pub side: Option<Side>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Kinds of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// One of its own, opened for it.
    New,
    /// One that is kept open.
    Kept,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first version.
    Blue,
    /// The second version.
    Green,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A good answer.
    Good,
    /// An answer of the 5xx kind.
    ServerError,
    /// Any other answer.
    Unexpected,
    /// No connection.
    Connect,
    /// The connection broke.
    Reset,
    /// No answer in time.
    Timeout,
}

/// A record that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the load's record is not as expected: {text}")]
pub struct Unreadable {
    line: usize,
    text: String,
}

const HEAD: &str = "sent_ms,ended_ms,connection,operation,version,outcome";

impl Request {
    /// Whether it was answered well.
    pub fn is_good(&self) -> bool {
        self.outcome == Outcome::Good
    }

    /// Whether there was an answer, good or not.
    pub fn is_answered(&self) -> bool {
        match self.outcome {
            Outcome::Good | Outcome::ServerError | Outcome::Unexpected => true,
            Outcome::Connect | Outcome::Reset | Outcome::Timeout => false,
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(',');
        let mut field = || fields.next();
        let sent = Time(field()?.parse().ok()?);
        let ended = Time(field()?.parse().ok()?);
        let connection = match field()? {
            "new" => Connection::New,
            "keep-alive" => Connection::Kept,
            _ => return None,
        };
        let _operation = field()?;
        let side = match field()? {
            "" => None,
            "v1" => Some(Side::Blue),
            "v2" => Some(Side::Green),
            _ => return None,
        };
        let outcome = match field()? {
            "ok" => Outcome::Good,
            "5xx" => Outcome::ServerError,
            "unexpected" => Outcome::Unexpected,
            "connect" => Outcome::Connect,
            "reset" => Outcome::Reset,
            "timeout" => Outcome::Timeout,
            _ => return None,
        };
        fields.next().is_none().then_some(Self { sent, ended, connection, side, outcome })
    }
}

impl Record {
    /// Reads the load's CSV.
    ///
    /// # Errors
    /// A line that is not as expected: guessing would make every figure a guess.
    pub fn parse(csv: &str) -> Result<Self, Unreadable> {
        let mut lines = csv.lines().enumerate();
        let unreadable = |(line, text): (usize, &str)| Unreadable { line: line + 1, text: text.to_owned() };
        match lines.next() {
            Some((_, HEAD)) => {}
            other => return Err(unreadable(other.unwrap_or_default())),
        }
        let requests = lines.map(|line| Request::parse(line.1).ok_or_else(|| unreadable(line)));
        Ok(Self { requests: requests.collect::<Result<_, _>>()? })
    }

    /// All requests, in the order in which they ended.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// The last answer of a side on a kind of connection, good or not.
    pub fn last_answer(&self, side: Side, connection: Connection) -> Option<Time> {
        let answers = self.requests.iter().filter(|request| {
            request.is_answered() && request.side == Some(side) && request.connection == connection
        });
        answers.map(|request| request.ended).max()
    }

    /// The first good answer of a side on a new connection that was opened at `from` or later.
    pub fn first_new(&self, side: Side, from: Time) -> Option<Time> {
        let answers = self.requests.iter().filter(|request| {
            request.is_good()
                && request.side == Some(side)
                && request.connection == Connection::New
                && request.sent >= from
        });
        answers.map(|request| request.ended).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(lines: &[&str]) -> Record {
        Record::parse(&format!("{HEAD}\n{}", lines.join("\n"))).unwrap()
    }

    #[test]
    fn a_line_reads_as_the_load_writes_it() {
        let record = record(&["997,1000,new,take,v2,5xx", "1997,2000,keep-alive,read,,connect"]);
        let first = Request {
            sent: Time(997),
            ended: Time(1000),
            connection: Connection::New,
            side: Some(Side::Green),
            outcome: Outcome::ServerError,
        };
        assert_eq!(record.requests()[0], first);
        assert_eq!(record.requests()[1].side, None);
    }

    #[test]
    fn what_is_not_as_expected_is_refused_with_its_line() {
        for line in ["1,2,new,take,v3,ok", "1,2,new,take,v1,fine", "1,2,new,take,v1", "1,2,old,take,v1,ok", "x"] {
            let refused = Record::parse(&format!("{HEAD}\n1,2,new,take,v1,ok\n{line}\n")).unwrap_err();
            assert_eq!(refused.to_string(), format!("line 3 of the load's record is not as expected: {line}"));
        }
        assert!(Record::parse("").is_err());
        assert!(Record::parse("sent,ended\n").is_err());
    }

    #[test]
    fn a_broken_connection_is_no_answer() {
        let record = record(&["1,2,new,take,v2,ok", "3,4,new,take,v2,5xx", "5,6,new,take,v2,reset"]);
        assert_eq!(record.last_answer(Side::Green, Connection::New), Some(Time(4)));
        assert_eq!(record.last_answer(Side::Green, Connection::Kept), None);
    }

    #[test]
    fn the_first_on_a_new_connection_is_one_that_was_opened_late_enough() {
        let record = record(&["1,9,new,take,v1,ok", "5,10,keep-alive,take,v1,ok", "7,11,new,take,v1,ok"]);
        assert_eq!(record.first_new(Side::Blue, Time(5)), Some(Time(11)));
        assert_eq!(record.first_new(Side::Blue, Time(12)), None);
    }
}
