//! What a backfill comes to, in figures.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::work::Work;
use crate::{
    api::Span,
    stores::postgres::chunks::{Need, Tally},
};

/// What a backfill came to. In a verdict under `backfill`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Rows looked at by chunks, over all tries; a row that was swept twice counts twice.
    pub rows_scanned: i64,
    /// Rows changed by chunks, over all tries. Rows that the sync trigger filled aren't among them.
    pub rows_changed: i64,
    /// Rows that were in need after all chunks, in this try: somebody had them locked each time.
    pub rows_swept: i64,
    /// Chunks that the table was cut into.
    pub chunks: i64,
    /// Transactions that it took, over all tries.
    pub transactions: i64,
    /// How long this try took, pauses included.
    pub time: Span,
    /// Of this, pauses.
    pub paused: Span,
    /// Rows changed per second of this try, pauses apart.
    pub rate: f64,
    /// Rows were computed again where they differ, since an earlier backfill's values weren't kept in step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recomputed: bool,
}

impl Summary {
    pub(super) fn new(work: &Work, tally: Tally, swept: i64, time: Duration, paused: Duration) -> Self {
        let here = super::work::Counters::get(&work.progress.changed) + swept;
        #[expect(clippy::cast_precision_loss, reason = "a rate is read, not added up")]
        let rate = here as f64 / time.saturating_sub(paused).as_secs_f64().max(0.001);
        Self {
            rows_scanned: tally.scanned,
            rows_changed: tally.changed,
            rows_swept: swept,
            chunks: tally.chunks,
            transactions: tally.transactions,
            time: rounded(time),
            paused: rounded(paused),
            rate: rate.round(),
            recomputed: work.need == Need::Differing,
        }
    }

    /// The same in a sentence.
    pub fn sentence(&self, done: &str) -> String {
        let Self { rows_scanned, rows_changed, rows_swept, chunks, transactions, time, paused, rate, recomputed } =
            self;
        let swept = if *rows_swept > 0 { format!(", {rows_swept} of them in the last sweep") } else { String::new() };
        let paused = if paused.0.is_zero() { String::new() } else { format!(" ({paused} of it paused)") };
        let again = if *recomputed { " Values from before were computed again where they differ." } else { "" };
        format!(
            "{done} {} rows{swept}; looked at {rows_scanned} in {chunks} chunks and {transactions} transactions; this try \
             took {time}{paused} at {rate:.0} rows/s. No row is in need.{again}",
            rows_changed + rows_swept
        )
    }
}

fn rounded(time: Duration) -> Span {
    Span::millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
