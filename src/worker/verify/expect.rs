//! Within one store: each row meets each expression.
//!
//! Rows are read range by range, each in one bounded statement and as of that statement's moment. A row whose key moves
//! from a range still to come into one that is done isn't seen; what keeps new rows true is the phase before this one.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

use super::{
    evidence::{Evidence, ExpectationSeen, NAMED_ROWS},
    halt::{Halt, Patience},
    pool::{Opening, store_seen},
    portion::Sample,
    table::count,
    task::{DEFAULT_STATEMENT_TIMEOUT, VerifyRole, VerifyTask},
    walk::Walk,
};
use crate::{
    stores::postgres::{
        Postgres, QueryError, Session,
        catalog::{self, RelationKind},
        checksum::key_columns,
        expectation::{self, Tally},
        reading::{KeyRange, KeyValue, Reading},
    },
    worker::task::StoreRef,
};

/// Ranges a connection, laid out at a time.
const PORTIONS: usize = 4;
/// Rows of which an expression raises an error that are found one by one. With more, the rest is not looked at.
const RAISING: usize = NAMED_ROWS;

/// How long a statement may take.
#[derive(Clone, Copy)]
struct Limits {
    /// One that reads a range, which is cut where it takes longer.
    range: Duration,
    /// Any other.
    other: Duration,
}

/// What one range came to, an entry an expression.
struct Seen {
    range: KeyRange,
    tallies: Vec<Tally>,
    offenders: Vec<Vec<KeyValue>>,
    raising: Vec<Vec<(KeyValue, String)>>,
    took: Duration,
}

/// Verifies. What was seen is in `evidence`, also when it ends early.
pub(super) async fn verify(
    task: &VerifyTask,
    store: &StoreRef,
    table: &str,
    stop: &CancellationToken,
    evidence: &Mutex<Evidence>,
) -> Result<(), Halt> {
    let expressions: Vec<&str> = task.action.expect.iter().map(String::as_str).collect();
    if expressions.is_empty() {
        return Err(Halt::Refused("The action expects nothing of the table; write `expect`.".to_owned()));
    }
    let postgres = Postgres::new(&store.uri_file, &task.application_name());
    // What can be cut into smaller pieces gets the task's own limit; a question of the catalog can't.
    let limits =
        Limits { range: task.statement_timeout.0, other: task.statement_timeout.0.max(DEFAULT_STATEMENT_TIMEOUT.0) };
    let opening = Opening { statement_timeout: limits.other, stop };
    let mut patience = Patience::new(task.retry, stop);
    let mut walk = Walk::new(Sample::new(1.0, 0));
    let mut prepared: Option<(Reading, i64)> = None;
    let connections = task.action.connections();
    loop {
        let attempt = async {
            let mut sessions = Vec::with_capacity(connections);
            for _ in 0..connections {
                let session = opening.plain(&postgres).await?;
                expectation::pin(&session).await?;
                sessions.push(session);
            }
            same_store(&sessions[0], &store.name, evidence).await?;
            if prepared.is_none() {
                prepared = Some(prepare(&sessions[0], table, &expressions, evidence).await?);
            }
            match task.role {
                VerifyRole::Preflight => return Ok(()),
                VerifyRole::Verify => {}
            }
            let (reading, estimate) = prepared.as_ref().expect("it was just prepared");
            while !walk.ended {
                let laid_out = walk.lay_out(reading, &sessions[0], connections * PORTIONS, *estimate).await?;
                let queue = Mutex::new(laid_out.ranges.into_iter().enumerate().collect::<VecDeque<_>>());
                let workers = sessions.iter().map(|session| work_off(session, reading, &expressions, &queue, limits));
                let mut seen: Vec<_> = try_join_all(workers).await?.into_iter().flatten().collect();
                // In the key's order, so that the rows that are named are the first.
                seen.sort_by_key(|(place, _)| *place);
                let size = walk.size;
                walk = laid_out.walk;
                walk.size = size;
                if let Some((_, slowest)) = seen.iter().max_by_key(|(_, seen)| seen.took) {
                    let rows = slowest.tallies.first().map_or(0, |tally| tally.holds + tally.fails + tally.is_null);
                    walk.learn(rows, slowest.took);
                }
                let enough = take_in(evidence, seen.into_iter().map(|(_, seen)| seen));
                patience.renew();
                if enough {
                    break;
                }
            }
            Ok(())
        };
        match attempt.await {
            Err(Halt::Lost(why)) => patience.again(&why).await?,
            end => return end,
        }
    }
}

async fn same_store(session: &Session, name: &str, evidence: &Mutex<Evidence>) -> Result<(), Halt> {
    let seen = vec![store_seen(session, name).await?];
    let mut evidence = evidence.lock().unwrap_or_else(PoisonError::into_inner);
    if !evidence.stores.is_empty() && evidence.stores != seen {
        return Err(Halt::Failed(
            "The store is another server than when the verification began, or has failed over since; it must begin anew."
                .to_owned(),
        ));
    }
    evidence.stores = seen;
    Ok(())
}

/// Finds the table and its key, and whether the server understands the expressions.
async fn prepare(
    session: &Session,
    table: &str,
    expressions: &[&str],
    evidence: &Mutex<Evidence>,
) -> Result<(Reading, i64), Halt> {
    let relations = catalog::relations(session).await?;
    let selection = catalog::select(&[table.to_owned()], &relations);
    let selection = selection.map_err(|error| Halt::Refused(format!("{error}.")))?;
    let tables = catalog::tables(session, &selection.tables).await?;
    let [table] = tables.as_slice() else {
        return Err(Halt::Refused(format!("{table} means {} tables; expectations are of one.", tables.len())));
    };
    let Some(key) = table.keys().next() else {
        let why = table.why_no_key();
        return Err(Halt::Refused(format!(
            "{} {why}, so nothing tells its rows apart; add a primary key, or a unique index on columns that are NOT NULL.",
            table.relation
        )));
    };
    let partitioned = table.relation.kind == RelationKind::Partitioned;
    let reading = Reading::keys_only(table.relation.name.clone(), partitioned, key_columns(table, key));
    for expression in expressions {
        match expectation::check(session, &reading, expression).await {
            Ok(()) => {}
            Err(QueryError::Refused(refusal)) if !refusal.may_pass() && refusal.sqlstate != "57014" => {
                return Err(Halt::Refused(format!("The store doesn't take `{expression}` as a condition: {refusal}.")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut evidence = evidence.lock().unwrap_or_else(PoisonError::into_inner);
    let new =
        |expression: &&str| ExpectationSeen { expression: (*expression).to_owned(), ..ExpectationSeen::default() };
    evidence.expectations = expressions.iter().map(new).collect();
    Ok((reading, table.relation.estimate))
}

/// Adds ranges to the evidence; whether so much is wrong that the rest needn't be looked at.
fn take_in(evidence: &Mutex<Evidence>, ranges: impl Iterator<Item = Seen>) -> bool {
    let mut evidence = evidence.lock().unwrap_or_else(PoisonError::into_inner);
    for seen in ranges {
        let parts = seen.tallies.into_iter().zip(seen.offenders).zip(seen.raising);
        for (expectation, ((tally, offenders), raising)) in evidence.expectations.iter_mut().zip(parts) {
            expectation.holds += count(tally.holds);
            expectation.fails += count(tally.fails);
            expectation.is_null += count(tally.is_null);
            expectation.raises += raising.len() as u64;
            let raising = raising.into_iter().map(|(key, error)| {
                expectation.error.get_or_insert(error);
                key
            });
            expectation.keys.extend(offenders.into_iter().chain(raising));
            expectation.keys.truncate(NAMED_ROWS);
        }
    }
    evidence.expectations.iter().any(|expectation| expectation.raises >= RAISING as u64)
}

async fn work_off(
    session: &Session,
    reading: &Reading,
    expressions: &[&str],
    queue: &Mutex<VecDeque<(usize, KeyRange)>>,
    limits: Limits,
) -> Result<Vec<(usize, Seen)>, Halt> {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let mut done = Vec::new();
    while let Some((place, range)) = next() {
        done.push((place, look(session, reading, expressions, range, limits).await?));
    }
    Ok(done)
}

/// What a part of a range came to.
enum Outcome {
    Counted(Vec<Tally>),
    /// It ran out of time, or a row of it makes an expression raise an error.
    Cut(Option<String>),
}

async fn look(
    session: &Session,
    reading: &Reading,
    expressions: &[&str],
    range: KeyRange,
    limits: Limits,
) -> Result<Seen, Halt> {
    let began = Instant::now();
    let mut seen = Seen {
        range: range.clone(),
        tallies: vec![Tally::default(); expressions.len()],
        offenders: vec![Vec::new(); expressions.len()],
        raising: vec![Vec::new(); expressions.len()],
        took: Duration::ZERO,
    };
    // All expressions in one reading; one by one only where one of them is in the way of the others.
    let all: Vec<usize> = (0..expressions.len()).collect();
    let mut parts = vec![(range, all)];
    while let Some((part, which)) = parts.pop() {
        let texts: Vec<&str> = which.iter().map(|at| expressions[*at]).collect();
        session.limit_statements(limits.range).await?;
        let outcome = tally(session, reading, &texts, &part).await?;
        session.limit_statements(limits.other).await?;
        match outcome {
            Outcome::Counted(tallies) => {
                for (at, tally) in which.into_iter().zip(tallies) {
                    let all = &mut seen.tallies[at];
                    all.holds += tally.holds;
                    all.fails += tally.fails;
                    all.is_null += tally.is_null;
                }
            }
            Outcome::Cut(Some(_)) if which.len() > 1 => {
                parts.extend(which.into_iter().map(|at| (part.clone(), vec![at])));
            }
            Outcome::Cut(why) => match middle(session, reading, &part).await? {
                Some(middle) => {
                    parts.push((KeyRange { after: Some(middle.clone()), upto: part.upto }, which.clone()));
                    parts.push((KeyRange { after: part.after, upto: Some(middle) }, which));
                }
                None => match why {
                    Some(error) => {
                        let key = reading.walk(&part, 1).rows(session).await?;
                        // It may have been deleted meanwhile.
                        let key = key.first().map(|row| row.get::<_, KeyValue>(0));
                        for at in which {
                            seen.raising[at].extend(key.clone().map(|key| (key, error.clone())));
                        }
                    }
                    None => {
                        // A server that stands still for a moment looks the same.
                        return Err(Halt::Lost(format!(
                            "{}: not even one row could be looked at within the time that a statement has",
                            reading.table()
                        )));
                    }
                },
            },
        }
        if seen.raising.iter().any(|rows| rows.len() >= RAISING) {
            break;
        }
    }
    seen.took = began.elapsed();
    for (at, expression) in expressions.iter().enumerate() {
        let wrong = seen.tallies[at].fails + seen.tallies[at].is_null;
        if wrong > 0 && seen.raising[at].is_empty() {
            let most = i64::try_from(NAMED_ROWS).unwrap_or(i64::MAX);
            let rows = expectation::offenders(reading, expression, &seen.range, most).rows(session).await?;
            seen.offenders[at] = rows.iter().map(|row| row.get("key")).collect();
        }
    }
    Ok(seen)
}

async fn tally(session: &Session, reading: &Reading, expressions: &[&str], range: &KeyRange) -> Result<Outcome, Halt> {
    match expectation::tally(reading, expressions, range).rows(session).await {
        Ok(rows) => {
            let row = rows.first().ok_or_else(|| Halt::Failed("A count has no row.".to_owned()))?;
            Ok(Outcome::Counted(expectation::read_tallies(row)))
        }
        Err(QueryError::Refused(refusal)) if refusal.sqlstate == "57014" => Ok(Outcome::Cut(None)),
        // What was understood beforehand is refused for a row's sake, unless the catalogue has changed.
        Err(QueryError::Refused(refusal)) if !refusal.may_pass() && !refusal.sqlstate.starts_with("42") => {
            Ok(Outcome::Cut(Some(refusal.to_string())))
        }
        Err(error) => Err(error.into()),
    }
}

/// A key in the middle of a range; none where it has one row at most.
async fn middle(session: &Session, reading: &Reading, range: &KeyRange) -> Result<Option<KeyValue>, Halt> {
    let rows = reading.count_range(range).rows(session).await?;
    let rows = rows.first().map_or(0, |row| row.get::<_, i64>("rows"));
    if rows < 2 {
        return Ok(None);
    }
    let found = reading.walk(range, rows / 2).rows(session).await?;
    Ok(found.first().map(|row| row.get::<_, KeyValue>(0)).filter(|key| Some(key) != range.upto.as_ref()))
}
