//! Makes rows of the new side equal to the old side's, where the spec asks for it.
//!
//! The story that this must not tell: 1. read a row here as v1; 2. a client makes it v2, and the stream brings v2 there;
//! 3. write v1 there. Or: 1. insert a row that is missing; 2. the stream, which had it under way, inserts it as well, fails
//! on its key, and stands still for ever.
//!
//! So a batch is repaired while the barrier is *held*: nobody writes to the table, nothing of it is under way, and both
//! sides are read again before anything is written. The batch is small, for writers wait. If this process freezes, the
//! server ends the repairing transaction (500 ms without a word) before it ends the lock's (3 s), so a late COMMIT finds no
//! transaction.

use std::{collections::BTreeMap, time::Duration};

use super::{
    between::Context,
    evidence::{Kind, Kinds},
    halt::{Halt, Patience},
    look::look,
    pool::Pool,
    portion::Found,
    table::TableRun,
};
use crate::stores::postgres::{
    QueryError, Session,
    barrier::Hold,
    reading::KeyValue,
    repair::{self, Audit, Contents},
};

/// Rows that are repaired while writers wait.
const BATCH: usize = 20;
/// Keys that are looked up in one statement.
const LOOKED_UP: usize = 500;
/// How long the repairing transaction may be silent, or one of its statements may take.
const SILENCE: Duration = Duration::from_millis(500);
/// Rows of a table beyond which nothing is repaired: this is no drift any more, and a person should look first.
const MOST: usize = 1_000;

/// Repairs a table's confirmed differences.
pub(super) async fn make_equal(
    run: &mut TableRun,
    ctx: &Context<'_>,
    pool: &Pool,
    patience: &mut Patience<'_>,
) -> Result<(), Halt> {
    if (run.confirmed.is_empty() && run.handled.is_empty())
        || run.confirmed.len() > MOST
        || run.seen.not_looked_into > 0
    {
        return Ok(());
    }
    let to = &pool.pairs[0].to;
    repair::make_audit(to).await.map_err(|error| refused(error, "keep the audit of a repair"))?;
    while !run.confirmed.is_empty() {
        let batch: Vec<Found> = run.confirmed.iter().take(BATCH).cloned().collect();
        let hold = match &ctx.heartbeat {
            None => None,
            Some(heartbeat) => match Hold::long(&pool.trio(), &run.comparison.name, heartbeat).await? {
                Ok(hold) => Some(hold),
                Err(missed) => {
                    run.seen.barriers_missed += 1;
                    run.seen.last_missed = Some(missed.to_string());
                    patience.again(&missed).await?;
                    continue;
                }
            },
        };
        let repaired = repair_batch(run, ctx, pool.from(), to, &batch, hold.as_ref()).await;
        if repaired.is_err() {
            // What was begun is void. Whatever fails here ends with the sessions.
            let _ = to.roll_back().await;
        }
        if let Some(hold) = hold {
            hold.release().await?;
        }
        for kind in repaired? {
            run.seen.repaired.add(kind);
        }
        run.handled.extend(run.confirmed.drain(..batch.len()).map(|found| found.key));
        patience.renew();
    }
    look_once_more(run, ctx, pool, patience).await
}

/// Repairs a batch in one transaction; what was done, by kind. A row that is equal by now is left alone.
async fn repair_batch(
    run: &TableRun,
    ctx: &Context<'_>,
    from: &Session,
    to: &Session,
    batch: &[Found],
    hold: Option<&Hold<'_>>,
) -> Result<Vec<Kind>, Halt> {
    let keys: Vec<KeyValue> = batch.iter().map(|found| found.key.clone()).collect();
    repair::begin(to, SILENCE.as_millis(), SILENCE.as_millis())
        .await
        .map_err(|error| refused(error, "write without firing triggers (session_replication_role)"))?;
    let there = rows(&run.to.whole(&keys, true).rows(to).await?);
    let here = rows(&run.from.whole(&keys, false).rows(from).await?);
    let columns: Vec<String> = run.comparison.columns.iter().map(|column| column.name.clone()).collect();
    let table = run.comparison.name.to_string();
    let (mut insert, mut update, mut delete, mut kinds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for key in &keys {
        let (kind, before, after) = match (here.get(key), there.get(key)) {
            (Some((digest, _)), Some((other, _))) if digest == other => continue,
            (None, None) => continue,
            (Some((_, contents)), None) => {
                insert.push(contents);
                (Kind::Missing, None, Some(contents))
            }
            (Some((_, contents)), Some((_, before))) => {
                update.push(contents);
                (Kind::Different, Some(before), Some(contents))
            }
            (None, Some((_, before))) => {
                delete.push(key.clone());
                (Kind::Extra, Some(before), None)
            }
        };
        kinds.push(kind);
        let audit = Audit {
            uid: &ctx.task.migration.uid,
            phase: &ctx.task.phase,
            attempt: i32::try_from(ctx.task.attempt).expect("checked when the task was read"),
            table: &table,
            columns: &columns,
            key,
            kind: match kind {
                Kind::Missing => "Missing",
                Kind::Extra => "Extra",
                Kind::Different => "Different",
            },
            before,
            after,
        };
        repair::write_down(to, &audit).await?;
    }
    // What is too much first: it may have a value that is to be unique.
    if !delete.is_empty() {
        run.to.delete(&delete).rows(to).await?;
    }
    if !update.is_empty() {
        repair::update(&run.to, &update).rows(to).await?;
    }
    if !insert.is_empty() {
        repair::insert(&run.to, &insert).rows(to).await?;
    }
    // The lock must outlive the transaction: it is seen here, and from here the server gives it longer than this one.
    if let Some(hold) = hold {
        hold.still().await?;
    }
    to.commit().await?;
    Ok(kinds)
}

/// Looks at everything that was repaired once more; what isn't equal is what differs now.
async fn look_once_more(
    run: &mut TableRun,
    ctx: &Context<'_>,
    pool: &Pool,
    patience: &mut Patience<'_>,
) -> Result<(), Halt> {
    let pairs = &pool.pairs[..1];
    let barrier = run.barrier(ctx, pool, pairs, patience).await?;
    let mut left = Kinds::default();
    for keys in run.handled.chunks(LOOKED_UP) {
        for found in look(&pairs[0], &run.from, &run.to, keys).await? {
            left.add(found.kind());
        }
    }
    pairs[0].let_go().await?;
    run.seen.list_barrier(barrier);
    run.seen.differing = left;
    Ok(())
}

type Rows = BTreeMap<KeyValue, (i64, Contents)>;

fn rows(rows: &[tokio_postgres::Row]) -> Rows {
    rows.iter().map(|row| (row.get("key"), (row.get("digest"), row.get("columns")))).collect()
}

fn refused(error: QueryError, what: &str) -> Halt {
    match error {
        QueryError::Refused(refusal) if refusal.sqlstate == "42501" => {
            Halt::Refused(format!("The role may not {what} in the store that is to be repaired: {refusal}."))
        }
        other => other.into(),
    }
}
