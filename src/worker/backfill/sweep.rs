//! The end of a run: looks over the whole table for rows in need, and does those one by one until there is none.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    halt::{Halt, Patience},
    work::{Counters, Work},
};
use crate::{
    api::backfill::Sync,
    stores::postgres::{QueryError, Session, keys::KeyValue},
};

/// Rows that one look brings back.
const BATCH: i64 = 1_000;
/// Looks at the whole table. With a trigger the second is the last but for rows that are locked; without one, writes that
/// make rows in need faster than this are a reason to use one.
const MOST_LOOKS: u32 = 20;

/// Looks and does until no row is in need. Returns how many rows it did.
pub(super) async fn sweep(work: &Arc<Work>, stop: &CancellationToken, hard: &CancellationToken) -> Result<i64, Halt> {
    let reader = work.reader(stop, hard).await?;
    let bounds = work.bounds(&super::controls::Live::default());
    let writer = work.hand(bounds.target, stop, hard).await?;
    let mut done = 0;
    for look in 1..=MOST_LOOKS {
        if stop.is_cancelled() {
            return Err(Halt::Stopped);
        }
        let in_need = match rows_in_need(work, &reader).await {
            Ok(rows) => rows,
            // An expression that fails on a row fails the look, too; the row's key isn't told.
            Err(QueryError::Refused(refusal)) => {
                return Err(Halt::Failed {
                    message: format!("The last look over {} is refused: {}.", work.of.table.name, refusal.message),
                    sqlstate: Some(refusal.sqlstate),
                });
            }
            Err(error) => return Err(error.into()),
        };
        if in_need.is_empty() {
            tracing::info!(look, done, "no row is in need");
            return Ok(done);
        }
        tracing::info!(look, rows = in_need.len(), "rows are in need after all chunks");
        for key in &in_need {
            done += one_row(work, &writer, key, stop).await?;
        }
    }
    let advice = match work.task.action.sync {
        Sync::None => "Writes make them faster than they are swept: use `sync: Trigger`, or stop those writes.",
        Sync::Trigger => "Somebody writes them so on purpose: the columns are named by an UPDATE and satisfy `where`.",
    };
    Err(Halt::failed(format!(
        "After {MOST_LOOKS} looks over {} there still are rows in need. {advice}",
        work.of.table.name
    )))
}

/// Keys of some rows in need; none if there is none in the whole table at this moment.
async fn rows_in_need(work: &Work, reader: &Session) -> Result<Vec<KeyValue>, QueryError> {
    let rows = reader.rows(&work.statements.in_need, &[&BATCH]).await?;
    Ok(rows.iter().map(|row| row.get("key")).collect())
}

/// Does one row, however often somebody else has it locked. Returns 1 if it was still there and in need.
async fn one_row(work: &Work, writer: &Session, key: &KeyValue, stop: &CancellationToken) -> Result<i64, Halt> {
    let mut patience = Patience::quick(work.task.retry, std::time::Duration::from_secs(2), stop);
    loop {
        if stop.is_cancelled() {
            return Err(Halt::Stopped);
        }
        let refusal = match writer.rows(&work.statements.one_row, &[key]).await {
            Ok(rows) => {
                let done = i64::try_from(rows.len()).unwrap_or(0);
                Counters::add(&work.progress.swept, done);
                return Ok(done);
            }
            Err(QueryError::Refused(refusal)) => refusal,
            Err(error) => return Err(error.into()),
        };
        let row = || format!("{} row ({})", work.of.table.name, key.join(", "));
        if !refusal.may_pass() && refusal.sqlstate != "57014" {
            return Err(Halt::Failed {
                message: format!("{} is refused: {}.", row(), refusal.message),
                sqlstate: Some(refusal.sqlstate),
            });
        }
        if !patience.again(&refusal).await? {
            return Err(Halt::failed(format!(
                "{} is still to be done, but somebody keeps it locked: {}.",
                row(),
                patience.spent()
            )));
        }
    }
}
