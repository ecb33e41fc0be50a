//! One table on two sides: portion by portion to its end, then the rows that differed once more.
//!
//! ```text
//!   count ─▶ compare portions ─▶ look again ─▶ repair, if asked for ─▶ duplicates ─▶ done
//!              ▲        │
//!              └────────┘ a round: one barrier, several portions, then the next
//! ```
//!
//! What is settled stays settled when a connection is lost: a round whose end was not seen is done anew as a whole, under
//! a new barrier.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant},
};

use futures::future::try_join_all;

use super::{
    between::Context,
    compare::{Compared, compare_range},
    evidence::{RangeSeen, TableSeen},
    halt::{Halt, Patience},
    look,
    pool::{Pair, Pool},
    portion::{Found, Sample, differences},
    repair,
    walk::{LaidOut, Walk},
};
use crate::stores::postgres::{
    checksum::{Comparison, Method, Portions},
    duplicates::Suspicion,
    reading::{Digested, KeyRange, KeyValue, Portion, Reading, Side, Sum},
};

/// Portions a connection, between two barriers.
const PORTIONS: usize = 4;
/// Rows that differ beyond which a table is not looked into further: its sums say enough.
pub(super) const MOST_FOUND: usize = 10_000;
/// Rows in a bucket, about: what is listed row by row where a bucket differs.
const BUCKET_ROWS: i64 = 1_000;

/// One table under way.
pub(super) struct TableRun {
    pub comparison: Comparison,
    pub from: Reading,
    pub to: Reading,
    pub seen: TableSeen,
    /// Rows that differed when they were first looked at.
    pub suspects: Vec<Found>,
    /// Rows that differed when they were looked at again.
    pub confirmed: Vec<Found>,
    /// Keys of rows that a repair has dealt with.
    pub handled: Vec<KeyValue>,
    suspicions: Vec<Suspicion>,
    stage: Stage,
    walk: Walk,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Count,
    Compare,
    LookAgain,
    Repair,
    Duplicates,
    Done,
}

impl TableRun {
    pub fn new(
        comparison: Comparison,
        method: Method,
        seed: i64,
        sample: Option<f64>,
        suspicions: Vec<Suspicion>,
    ) -> Self {
        let names =
            |all: &[crate::stores::postgres::checksum::KeyColumn]| all.iter().map(|key| key.name.clone()).collect();
        let table = TableSeen {
            name: comparison.name.to_string(),
            key: names(&comparison.keys.0),
            portions: match &comparison.portions {
                Portions::Ranges => "ranges".to_owned(),
                Portions::Buckets { because } => format!("buckets, since {because}"),
            },
            columns: comparison.columns.iter().map(|column| column.name.clone()).collect(),
            ignored: comparison.ignored.clone(),
            only_new: comparison.only_new.clone(),
            ..TableSeen::default()
        };
        // Another number than the digests', which the rows' keys have a part in.
        let draw = Sample::new(sample.unwrap_or(1.0), seed.cast_unsigned().rotate_left(32));
        Self {
            from: Reading::new(&comparison, Side::From, method, seed),
            to: Reading::new(&comparison, Side::To, method, seed),
            stage: Stage::Count,
            walk: Walk::new(draw),
            comparison,
            seen: table,
            suspects: Vec::new(),
            confirmed: Vec::new(),
            handled: Vec::new(),
            suspicions,
        }
    }

    /// Goes on until it is done. After [`Halt::Lost`] it can be called again with a new pool.
    pub async fn run(&mut self, ctx: &Context<'_>, pool: &Pool, patience: &mut Patience<'_>) -> Result<(), Halt> {
        while self.stage != Stage::Done {
            match self.stage {
                Stage::Count => self.count(ctx, pool, patience).await?,
                Stage::Compare => match self.comparison.portions {
                    Portions::Ranges => self.compare_ranges(ctx, pool, patience).await?,
                    Portions::Buckets { .. } => self.compare_buckets(ctx, pool, patience).await?,
                },
                Stage::LookAgain => {
                    look::again(self, ctx, pool, patience).await?;
                    self.stage = if ctx.repairs() { Stage::Repair } else { Stage::Duplicates };
                }
                Stage::Repair => {
                    repair::make_equal(self, ctx, pool, patience).await?;
                    self.stage = Stage::Duplicates;
                }
                Stage::Duplicates => {
                    self.seen.duplicates = self.duplicates(ctx, pool).await?;
                    self.stage = Stage::Done;
                }
                Stage::Done => {}
            }
            patience.renew();
        }
        self.seen.complete = true;
        Ok(())
    }

    /// Counts the whole table on both sides at one moment, where the portions don't do so anyway.
    async fn count(&mut self, ctx: &Context<'_>, pool: &Pool, patience: &mut Patience<'_>) -> Result<(), Halt> {
        let wanted = ctx.task.action.counts() && ctx.sample().is_none_or(|share| share < 1.0);
        if wanted {
            let pairs = &pool.pairs[..1];
            let barrier = self.barrier(ctx, pool, pairs, patience).await?;
            let Pair { from, to } = &pairs[0];
            ctx.without_limit(&[from, to]).await?;
            let (statement, other) = (self.from.count(), self.to.count());
            let (from_rows, to_rows) = tokio::try_join!(statement.rows(from), other.rows(to))?;
            let number = |rows: &[tokio_postgres::Row]| rows.first().map_or(0, |row| count(row.get("rows")));
            self.seen.counted = Some((number(&from_rows), number(&to_rows)));
            pairs[0].let_go().await?;
            self.seen.list_barrier(barrier);
        }
        self.stage = if ctx.sample().is_some() { Stage::Compare } else { Stage::Duplicates };
        Ok(())
    }

    /// Takes a barrier for these pairs, however often it must be asked for within reason.
    pub async fn barrier(
        &mut self,
        ctx: &Context<'_>,
        pool: &Pool,
        pairs: &[Pair],
        patience: &mut Patience<'_>,
    ) -> Result<super::evidence::BarrierSeen, Halt> {
        loop {
            let missed = match pool.snapshots(&self.comparison.name, ctx.heartbeat.as_ref(), pairs).await? {
                Ok(barrier) => return Ok(barrier),
                Err(missed) => missed.to_string(),
            };
            self.seen.barriers_missed += 1;
            self.seen.last_missed = Some(missed.clone());
            patience.again(&missed).await?;
        }
    }

    async fn compare_ranges(
        &mut self,
        ctx: &Context<'_>,
        pool: &Pool,
        patience: &mut Patience<'_>,
    ) -> Result<(), Halt> {
        let round = pool.pairs.len() * PORTIONS;
        let mut ahead = Some(self.lay_out(pool, round).await?);
        while let Some(LaidOut { ranges, walk, passed_over }) = ahead.take() {
            if !ranges.is_empty() {
                let barrier = self.barrier(ctx, pool, &pool.pairs, patience).await?;
                let room = MOST_FOUND.saturating_sub(self.suspects.len());
                let began = Instant::now();
                let queue = Mutex::new(ranges);
                let readings = (&self.from, &self.to);
                let limit = ctx.task.statement_timeout.0;
                let workers = pool.pairs.iter().map(|pair| work_off(pair, readings, &queue, room, walk.size, limit));
                let compared: Vec<Compared> = try_join_all(workers).await?.into_iter().flatten().collect();
                let (rows, portions) = (compared.iter().map(Compared::rows).sum::<i64>(), compared.len());
                self.take_in(compared);
                self.seen.list_barrier(barrier);
                tracing::info!(
                    table = %self.comparison.name,
                    rows,
                    portions,
                    took = ?began.elapsed(),
                    done = self.seen.rows_from,
                    of = self.comparison.estimate,
                    "compared"
                );
            }
            // Only now is the round settled.
            self.seen.passed_over += passed_over;
            let size = self.walk.size;
            self.walk = walk;
            self.walk.size = size;
            patience.renew();
            if !self.walk.ended {
                ahead = Some(self.lay_out(pool, round).await?);
            }
        }
        self.stage = Stage::LookAgain;
        Ok(())
    }

    async fn lay_out(&self, pool: &Pool, wanted: usize) -> Result<LaidOut, Halt> {
        self.walk.lay_out(&self.from, &pool.walker, wanted, self.comparison.estimate).await
    }

    fn take_in(&mut self, compared: Vec<Compared>) {
        if let Some(slowest) = compared.iter().max_by_key(|portion| portion.took) {
            self.walk.learn(slowest.rows(), slowest.took);
        }
        for portion in compared {
            self.seen.rows_from += count(portion.from.rows);
            self.seen.rows_to += count(portion.to.rows);
            self.seen.not_looked_into += portion.not_looked_into;
            self.seen.list_range(RangeSeen {
                after: portion.range.after,
                upto: portion.range.upto,
                rows_from: count(portion.from.rows),
                rows_to: count(portion.to.rows),
                equal: portion.from == portion.to,
            });
            self.suspects.extend(portion.found);
        }
    }

    /// Compares all rows at once, by buckets, where ranges of the key don't mean the same on both sides.
    async fn compare_buckets(
        &mut self,
        ctx: &Context<'_>,
        pool: &Pool,
        patience: &mut Patience<'_>,
    ) -> Result<(), Halt> {
        let pairs = &pool.pairs[..1];
        let barrier = self.barrier(ctx, pool, pairs, patience).await?;
        let Pair { from, to } = &pairs[0];
        // A whole scan takes what it takes; it can be cancelled.
        ctx.without_limit(&[from, to]).await?;
        let buckets = (self.comparison.estimate / BUCKET_ROWS).clamp(64, 65_536).cast_unsigned().next_power_of_two();
        let mask = buckets.cast_signed() - 1;
        let (statement, other) = (self.from.bucket_sums(mask), self.to.bucket_sums(mask));
        let (from_rows, to_rows) = tokio::try_join!(statement.rows(from), other.rows(to))?;
        let mut sums: std::collections::BTreeMap<i64, (Sum, Sum)> = std::collections::BTreeMap::new();
        let read = |row: &tokio_postgres::Row| Sum { rows: row.get("rows"), digests: row.get("digests") };
        for row in &from_rows {
            sums.entry(row.get("bucket")).or_default().0 = read(row);
        }
        for row in &to_rows {
            sums.entry(row.get("bucket")).or_default().1 = read(row);
        }
        let mut differing: Vec<i64> =
            sums.iter().filter(|(_, (from, to))| from != to).map(|(bucket, _)| *bucket).collect();
        let most = MOST_FOUND / usize::try_from(BUCKET_ROWS).unwrap_or(1) * 10;
        let not_looked_into = differing.len().saturating_sub(most);
        differing.truncate(most);
        let mut found = Vec::new();
        if !differing.is_empty() {
            let portion = Portion::Buckets { mask, buckets: differing };
            let (statement, other) = (self.from.list(&portion), self.to.list(&portion));
            let (from_rows, to_rows) = tokio::try_join!(statement.rows(from), other.rows(to))?;
            found = differences(digested(&from_rows), digested(&to_rows));
        }
        pairs[0].let_go().await?;
        let total = |side: fn(&(Sum, Sum)) -> i64| count(sums.values().map(side).sum());
        let (rows_from, rows_to) = (total(|sums| sums.0.rows), total(|sums| sums.1.rows));
        self.seen.rows_from += rows_from;
        self.seen.rows_to += rows_to;
        self.seen.not_looked_into += not_looked_into as u64;
        let equal = found.is_empty() && not_looked_into == 0;
        self.seen.list_range(RangeSeen { after: None, upto: None, rows_from, rows_to, equal });
        self.seen.list_barrier(barrier);
        self.suspects = found;
        self.stage = Stage::LookAgain;
        Ok(())
    }

    async fn duplicates(&self, ctx: &Context<'_>, pool: &Pool) -> Result<Vec<super::evidence::DuplicateSeen>, Halt> {
        let mut seen = Vec::new();
        for suspicion in &self.suspicions {
            seen.extend(super::doubled::look(suspicion, &self.from, &self.to, ctx, &pool.pairs[0]).await?);
        }
        Ok(seen)
    }
}

/// Compares ranges from the queue until it is empty, then ends the pair's transactions.
async fn work_off(
    pair: &Pair,
    (from, to): (&Reading, &Reading),
    queue: &Mutex<VecDeque<KeyRange>>,
    room: usize,
    size: i64,
    limit: Duration,
) -> Result<Vec<Compared>, Halt> {
    let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
    let mut done = Vec::new();
    pair.limit_statements(limit).await?;
    pair.hold_on().await?;
    while let Some(range) = next() {
        done.push(compare_range(pair, from, to, range, room, size).await?);
    }
    pair.let_go().await?;
    Ok(done)
}

/// Rows with their digests, as they were read.
pub(super) fn digested(rows: &[tokio_postgres::Row]) -> Vec<Digested> {
    rows.iter().map(|row| Digested { key: row.get("key"), digest: row.get("digest") }).collect()
}

/// The server's counts are never negative.
pub(super) fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}
