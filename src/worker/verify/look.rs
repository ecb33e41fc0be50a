//! Rows that differed are looked at again before anyone is alarmed (behaviour 39), and judged by what their values mean.
//!
//! Under a barrier a second look is certain: what differs, differs. Between stores that nothing keeps in step a row counts
//! only if it stands still: the same two contents at two looks. One that keeps changing is said to be unsettled, which is
//! no pass and no alarm.

use std::{collections::BTreeMap, time::Duration};

use super::{
    between::Context,
    evidence::{Kind, NAMED_ROWS, RowSeen},
    halt::{Halt, Patience, pause},
    pool::{Pair, Pool},
    portion::{Found, differences},
    table::{TableRun, digested},
};
use crate::{
    api::verify::Equal,
    stores::postgres::{
        QueryError, Session,
        checksum::{ComparedColumn, ValueKind},
        reading::{KeyValue, Reading},
    },
};

/// Keys that are looked up in one statement.
const BATCH: usize = 500;
/// Looks at rows between stores that nothing keeps in step, after the first.
const LOOKS: u32 = 4;
/// Before the first of them; each after it waits twice as long.
const BEFORE_LOOK: Duration = Duration::from_millis(250);

/// Looks at a table's suspects again.
pub(super) async fn again(
    run: &mut TableRun,
    ctx: &Context<'_>,
    pool: &Pool,
    patience: &mut Patience<'_>,
) -> Result<(), Halt> {
    let mut looks = 0;
    while !run.suspects.is_empty() {
        if ctx.heartbeat.is_none() {
            pause(BEFORE_LOOK * 2_u32.pow(looks), ctx.stop).await?;
        }
        looks += 1;
        let pairs = &pool.pairs[..1];
        let barrier = run.barrier(ctx, pool, pairs, patience).await?;
        pairs[0].hold_on().await?;
        let keys: Vec<KeyValue> = run.suspects.iter().map(|found| found.key.clone()).collect();
        let mut differing = BTreeMap::new();
        for batch in keys.chunks(BATCH) {
            let found = look(&pairs[0], &run.from, &run.to, batch).await?;
            differing.extend(found.into_iter().map(|found| (found.key.clone(), found)));
        }
        let (mut certain, mut moving, mut settled) = (Vec::new(), Vec::new(), 0);
        for before in &run.suspects {
            match differing.remove(&before.key) {
                None => settled += 1,
                Some(now) if ctx.heartbeat.is_some() || now == *before => certain.push(now),
                Some(now) => moving.push(now),
            }
        }
        let judged = judge(&pairs[0], run, ctx, certain).await?;
        pairs[0].let_go().await?;
        // Only now is it settled.
        run.seen.list_barrier(barrier);
        run.seen.settled += settled;
        run.seen.equal_by_value += judged.equal;
        for (found, row) in judged.different {
            run.seen.differing.add(row.kind);
            if run.seen.rows.len() < NAMED_ROWS {
                run.seen.rows.push(row);
            }
            run.confirmed.push(found);
        }
        run.suspects = moving;
        if looks > LOOKS {
            run.seen.unsettled += run.suspects.len() as u64;
            run.suspects.clear();
        }
    }
    Ok(())
}

/// Which of these keys' rows differ, under the pair's snapshots.
pub(super) async fn look(pair: &Pair, from: &Reading, to: &Reading, keys: &[KeyValue]) -> Result<Vec<Found>, Halt> {
    let (statement, other) = (from.list_keys(keys), to.list_keys(keys));
    let (from_rows, to_rows) = tokio::try_join!(statement.rows(&pair.from), other.rows(&pair.to))?;
    Ok(differences(digested(&from_rows), digested(&to_rows)))
}

/// Rows that differ, told apart by the spec's policy.
struct Judged {
    different: Vec<(Found, RowSeen)>,
    equal: u64,
}

/// Which columns differ in rows that do, and whether they are merely written differently.
async fn judge(pair: &Pair, run: &TableRun, ctx: &Context<'_>, rows: Vec<Found>) -> Result<Judged, Halt> {
    let mut judged = Judged { different: Vec::new(), equal: 0 };
    let columns = &run.comparison.columns;
    let by_value = |column: &ComparedColumn| ctx.equal(column.kind) == Equal::Value;
    let plain = |found: Found| (RowSeen { kind: found.kind(), key: found.key.clone(), columns: Vec::new() }, found);
    let (both, one): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|found| found.from.len() == 1 && found.to.len() == 1);
    judged.different.extend(one.into_iter().map(plain).map(|(row, found)| (found, row)));
    for batch in both.chunks(BATCH) {
        let keys: Vec<KeyValue> = batch.iter().map(|found| found.key.clone()).collect();
        let (statement, other) = (run.from.contents(&keys, by_value), run.to.contents(&keys, by_value));
        let (from_rows, to_rows) = tokio::try_join!(statement.rows(&pair.from), other.rows(&pair.to))?;
        let (from, to) = (contents(&from_rows), contents(&to_rows));
        // The columns that differ in each row, and of each column the values that its type is asked about.
        let mut differing: BTreeMap<&KeyValue, Vec<usize>> = BTreeMap::new();
        let mut asked: BTreeMap<usize, Vec<(&KeyValue, &str, &str)>> = BTreeMap::new();
        for key in &keys {
            let (Some(from), Some(to)) = (from.get(key), to.get(key)) else { continue };
            // Also a row none of whose columns differs: one whose value has two binary forms that are written alike, such
            // as NaN.
            differing.entry(key).or_default();
            for (at, (from, to)) in from.iter().zip(to).enumerate().filter(|(_, (from, to))| from != to) {
                differing.entry(key).or_default().push(at);
                if let (true, Some(from), Some(to)) = (by_value(&columns[at]), from, to) {
                    asked.entry(at).or_default().push((key, from, to));
                }
            }
        }
        for (at, values) in asked {
            let answers = equal_values(&pair.from, &columns[at], &values).await?;
            for ((key, _, _), _) in values.iter().zip(answers).filter(|(_, equal)| *equal) {
                if let Some(columns) = differing.get_mut(*key) {
                    columns.retain(|column| *column != at);
                }
            }
        }
        for found in batch {
            match differing.get(&found.key) {
                Some(left) if left.is_empty() => judged.equal += 1,
                left => {
                    let names = left.into_iter().flatten().map(|at| columns[*at].name.clone()).collect();
                    let row = RowSeen { kind: Kind::Different, key: found.key.clone(), columns: names };
                    judged.different.push((found.clone(), row));
                }
            }
        }
    }
    Ok(judged)
}

fn contents(rows: &[tokio_postgres::Row]) -> BTreeMap<KeyValue, Vec<Option<String>>> {
    rows.iter().map(|row| (row.get("key"), row.get("columns"))).collect()
}

/// Asks the column's own type whether values are equal.
async fn equal_values(
    session: &Session,
    column: &ComparedColumn,
    values: &[(&KeyValue, &str, &str)],
) -> Result<Vec<bool>, Halt> {
    if column.kind == ValueKind::None {
        return Ok(vec![false; values.len()]);
    }
    let (from, to): (Vec<&str>, Vec<&str>) = values.iter().map(|(_, from, to)| (*from, *to)).unzip();
    match session.rows(&column.equality(), &[&from, &to]).await {
        Ok(rows) => Ok(rows.iter().map(|row| row.get::<_, Option<bool>>(0).unwrap_or(false)).collect()),
        // A type without `=`, or a text that it doesn't take back: equal is what is written alike.
        Err(QueryError::Refused(_)) => {
            session.run("ROLLBACK TO SAVEPOINT portion").await?;
            Ok(vec![false; values.len()])
        }
        Err(error) => Err(error.into()),
    }
}
