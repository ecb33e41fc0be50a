//! One range on both sides, under snapshots of one moment: its sums, and where they differ, the rows.
//!
//! A statement that runs out of time costs the range a cut in two, never the run: each is tried in a savepoint, which keeps
//! the snapshot. Only where not even one row can be read in time does the portion begin anew.

use std::time::{Duration, Instant};

use tokio_postgres::Row;

use super::{
    halt::Halt,
    pool::Pair,
    portion::{Found, differences},
    table::digested,
};
use crate::stores::postgres::{
    QueryError, Session,
    reading::{KeyRange, KeyValue, Portion, Reading, Statement, Sum},
};

/// Rows of a range that are fetched one by one rather than cut further. A row is some fifty bytes on the way.
const LISTED: i64 = 5_000;
/// Parts that a range that differs is cut into.
const PARTS: i64 = 32;

/// What came of a range.
#[derive(Clone, Debug)]
pub(super) struct Compared {
    pub range: KeyRange,
    pub from: Sum,
    pub to: Sum,
    pub found: Vec<Found>,
    /// Parts of it that differ and were not looked into.
    pub not_looked_into: u64,
    /// How long the sums took.
    pub took: Duration,
}

impl Compared {
    /// Rows on the side that has more.
    pub fn rows(&self) -> i64 {
        self.from.rows.max(self.to.rows)
    }
}

impl Pair {
    /// Makes errors from here on cost a statement instead of the transaction.
    pub async fn hold_on(&self) -> Result<(), Halt> {
        tokio::try_join!(self.from.run("SAVEPOINT portion"), self.to.run("SAVEPOINT portion"))?;
        Ok(())
    }

    /// Bounds each statement until the transaction ends.
    pub async fn limit_statements(&self, to: Duration) -> Result<(), Halt> {
        tokio::try_join!(self.from.limit_statements(to), self.to.limit_statements(to))?;
        Ok(())
    }
}

/// What a statement came to in its bounded time.
enum Timed<T> {
    Done(T),
    /// It ran out of time, and its session is ready for another.
    OutOfTime,
}

/// Compares a range. `room` bounds the rows that are looked up one by one; `size` is about how many rows it has.
pub(super) async fn compare_range(
    pair: &Pair,
    from: &Reading,
    to: &Reading,
    range: KeyRange,
    room: usize,
    size: i64,
) -> Result<Compared, Halt> {
    let mut whole = Compared {
        range: range.clone(),
        from: Sum { rows: 0, digests: String::new() },
        to: Sum { rows: 0, digests: String::new() },
        found: Vec::new(),
        not_looked_into: 0,
        took: Duration::ZERO,
    };
    // Parts still to be summed up, with about how many rows each has, and whether it counts: a part of what has been
    // counted already doesn't.
    let mut parts = vec![(range, size, true)];
    while let Some((part, size, counts)) = parts.pop() {
        let began = Instant::now();
        let (from_sum, to_sum) = match both(pair, &from.sum(&part), &to.sum(&part)).await? {
            Both::Done(from, to) => (sum(&from)?, sum(&to)?),
            Both::OutOfTime(slower) => {
                whole.took = whole.took.max(began.elapsed());
                let slow = slower.of(pair, from, to);
                parts.extend(halves(slow, part, size).await?.map(|(half, size)| (half, size, counts)));
                continue;
            }
        };
        if counts {
            whole.took = whole.took.max(began.elapsed());
            whole.from.add(&from_sum);
            whole.to.add(&to_sum);
        }
        if from_sum == to_sum {
            continue;
        }
        let rows = from_sum.rows.max(to_sum.rows);
        if whole.found.len() >= room {
            whole.not_looked_into += 1;
        } else if rows <= LISTED {
            let portion = Portion::Range(part.clone());
            match both(pair, &from.list(&portion), &to.list(&portion)).await? {
                Both::Done(from_rows, to_rows) => {
                    let found = differences(digested(&from_rows), digested(&to_rows));
                    if found.is_empty() {
                        return Err(Halt::Failed(format!(
                            "{}: two sums under one snapshot differ, but none of the rows does. An index may be corrupt; \
                             check it with amcheck.",
                            from.table()
                        )));
                    }
                    whole.found.extend(found);
                }
                Both::OutOfTime(slower) => {
                    let slow = slower.of(pair, from, to);
                    parts.extend(halves(slow, part, rows).await?.map(|(half, size)| (half, size, false)));
                }
            }
        } else {
            let larger = if from_sum.rows >= to_sum.rows { Slow::From } else { Slow::To };
            let (session, reading) = larger.of(pair, from, to);
            let nth = (rows / PARTS).max(1);
            match timed(session, &reading.split(&part, nth)).await? {
                Timed::Done(cuts) => {
                    let mut after = part.after;
                    for cut in cuts {
                        let upto: KeyValue = cut.get("key");
                        if Some(&upto) == part.upto.as_ref() {
                            continue;
                        }
                        parts.push((KeyRange { after: after.replace(upto.clone()), upto: Some(upto) }, nth, false));
                    }
                    parts.push((KeyRange { after, upto: part.upto }, nth, false));
                }
                Timed::OutOfTime => {
                    let halves = halves((session, reading), part, rows).await?;
                    parts.extend(halves.map(|(half, size)| (half, size, false)));
                }
            }
        }
    }
    Ok(whole)
}

/// What a statement on each side came to.
enum Both {
    Done(Vec<Row>, Vec<Row>),
    OutOfTime(Slow),
}

/// The side whose statement ran out of time.
#[derive(Clone, Copy)]
enum Slow {
    From,
    To,
}

impl Slow {
    fn of<'a>(self, pair: &'a Pair, from: &'a Reading, to: &'a Reading) -> (&'a Session, &'a Reading) {
        match self {
            Self::From => (&pair.from, from),
            Self::To => (&pair.to, to),
        }
    }
}

async fn both(pair: &Pair, from: &Statement, to: &Statement) -> Result<Both, Halt> {
    // Not `try_join`: a statement that is dropped midway leaves its session busy.
    let (from, to) = tokio::join!(timed(&pair.from, from), timed(&pair.to, to));
    Ok(match (from?, to?) {
        (Timed::Done(from), Timed::Done(to)) => Both::Done(from, to),
        (Timed::OutOfTime, _) => Both::OutOfTime(Slow::From),
        (Timed::Done(_), Timed::OutOfTime) => Both::OutOfTime(Slow::To),
    })
}

async fn timed(session: &Session, statement: &Statement) -> Result<Timed<Vec<Row>>, Halt> {
    match statement.rows(session).await {
        Ok(rows) => Ok(Timed::Done(rows)),
        Err(error) if ran_out_of_time(&error) => {
            session.run("ROLLBACK TO SAVEPOINT portion").await?;
            Ok(Timed::OutOfTime)
        }
        Err(error) => Err(error.into()),
    }
}

fn sum(rows: &[Row]) -> Result<Sum, Halt> {
    let row = rows.first().ok_or_else(|| Halt::Failed("A sum has no row.".to_owned()))?;
    Ok(Sum { rows: row.get("rows"), digests: row.get("digests") })
}

/// A range of about `size` rows in two, the later one first, each with about how many rows it has.
async fn halves(slow: (&Session, &Reading), range: KeyRange, size: i64) -> Result<[(KeyRange, i64); 2], Halt> {
    let middle = middle(slow, &range, size).await?;
    let half = (size / 2).max(1);
    let later = KeyRange { after: Some(middle.clone()), upto: range.upto };
    Ok([(later, half), (KeyRange { after: range.after, upto: Some(middle) }, half)])
}

/// A key within a range that leaves rows on both sides of it, on the side that was too slow.
async fn middle((session, reading): (&Session, &Reading), range: &KeyRange, size: i64) -> Result<KeyValue, Halt> {
    let mut rows = size / 2;
    while rows >= 1 {
        let found = match timed(session, &reading.walk(range, rows)).await? {
            Timed::Done(rows) => rows.first().map(|row| row.get::<_, KeyValue>(0)),
            Timed::OutOfTime => None,
        };
        match found {
            Some(key) if Some(&key) != range.upto.as_ref() => return Ok(key),
            Some(_) | None => rows /= 2,
        }
    }
    let place = range.upto.as_ref().map_or_else(|| "its end".to_owned(), |key| key.join(", "));
    // A server that stands still for a moment looks the same; so it is tried again for as long as anything that passes.
    Err(Halt::Lost(format!(
        "{}: not even one row up to {place} could be read within the time that a statement has",
        reading.table()
    )))
}

/// 57014 `query_canceled`, which a stop of ours isn't told by.
fn ran_out_of_time(error: &QueryError) -> bool {
    matches!(error, QueryError::Refused(refusal) if refusal.sqlstate == "57014")
}

impl Sum {
    /// Adds a neighbouring range's rows. Its digests are only compared, so they are put side by side.
    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        if !self.digests.is_empty() {
            self.digests.push('+');
        }
        self.digests.push_str(&other.digests);
    }
}
