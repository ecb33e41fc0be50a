//! What all connections of one run share.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    controls::Live,
    halt::{Halt, connect},
    task::Task,
};
use crate::stores::postgres::{
    Postgres, Session,
    assignments::Derivation,
    chunk_statements::Statements,
    chunks::{Need, settle_session},
    history::Scope,
};

/// Rows of the first chunk where there are limits to keep: little enough that nobody feels it.
const FIRST_THROTTLED: u32 = 100;
/// Rows of the first chunk where there are none.
const FIRST: u32 = 1_000;
/// Most rows of a chunk, where the spec doesn't say.
const MOST_ROWS: u32 = 10_000;
/// How long a chunk should take, where the spec doesn't say: its locks are held that long.
const TARGET: Duration = Duration::from_millis(50);
/// The same under limits.
const TARGET_THROTTLED: Duration = Duration::from_millis(10);
/// A statement of work that takes this many times its target is given up.
const TIMEOUT_FACTOR: u32 = 40;
/// But none is given up before this.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a lock. Half of the server's `deadlock_timeout` is another bound: whoever waits for us in a circle is
/// spared, because we let go first.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// One run of a phase in this process.
pub(super) struct Work {
    pub task: Task,
    pub scope: Scope,
    pub store: Postgres,
    pub of: Derivation,
    pub need: Need,
    pub statements: Statements,
    /// Tells this process's claims from any other's.
    pub leader: String,
    pub progress: Counters,
}

/// How the connections are to work, as the monitor says it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Orders {
    /// Why nothing is done.
    pub paused: Option<String>,
    /// Share of the time to work.
    pub duty: f64,
    /// Rows per second that each connection may change.
    pub rate: Option<f64>,
    /// Connections that are to work.
    pub workers: u8,
}

impl Orders {
    /// Nothing, until the monitor has looked.
    pub fn wait() -> Self {
        Self { paused: Some("nothing has been looked at yet".to_owned()), duty: 1.0, rate: None, workers: 1 }
    }

    /// How long to rest after work that took `time` and changed so many rows.
    pub fn rest(&self, time: Duration, changed: i64) -> Duration {
        let idle = time.mul_f64((1.0 - self.duty) / self.duty);
        #[expect(clippy::cast_precision_loss, reason = "a chunk has fewer rows than a double has digits")]
        let due = self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(changed as f64 / rate));
        idle.max(due.saturating_sub(time))
    }
}

/// Limits on one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkBounds {
    pub first: u32,
    pub most: u32,
    pub target: Duration,
}

/// What has been done so far, as far as this process knows.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub scanned: AtomicI64,
    pub changed: AtomicI64,
    pub swept: AtomicI64,
    pub timeouts: AtomicI64,
    paused: Mutex<Paused>,
}

/// Time spent in pauses.
#[derive(Debug, Default)]
struct Paused {
    since: Option<Instant>,
    before: Duration,
    because: Option<String>,
}

impl Counters {
    pub fn add(counter: &AtomicI64, number: i64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }

    pub fn get(counter: &AtomicI64) -> i64 {
        counter.load(Ordering::Relaxed)
    }

    /// Notes why nothing is done, or that something is. True if that is news.
    pub fn note_pause(&self, because: Option<&str>) -> bool {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let news = paused.because.as_deref() != because;
        match (because, paused.since) {
            (Some(_), None) => paused.since = Some(Instant::now()),
            (None, Some(since)) => {
                paused.before += since.elapsed();
                paused.since = None;
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        paused.because = because.map(str::to_owned);
        news
    }

    /// Time spent in pauses so far.
    pub fn paused_for(&self) -> Duration {
        let paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        paused.before + paused.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Work {
    /// Seconds for which a claim stands without a sign of life.
    pub fn lease(&self) -> f64 {
        self.task.lease.0.as_secs_f64()
    }

    pub fn bounds(&self, live: &Live) -> ChunkBounds {
        let throttled = live.limits(&self.task.action).follows_signals();
        let chunk = self.task.action.chunk.clone().unwrap_or_default();
        let (first, target) = if throttled { (FIRST_THROTTLED, TARGET_THROTTLED) } else { (FIRST, TARGET) };
        let most = chunk.rows.unwrap_or(MOST_ROWS);
        ChunkBounds { first: first.min(most), most, target: chunk.time.map_or(target, |span| span.0) }
    }

    /// A session for chunks: short waits, and indexes.
    pub async fn hand(
        &self,
        target: Duration,
        stop: &CancellationToken,
        hard: &CancellationToken,
    ) -> Result<Session, Halt> {
        let session = connect(&self.store, self.task.retry, stop, hard).await?;
        session.reset(LOCK_TIMEOUT, None).await?;
        let deadlock: i64 = session
            .value("SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'", &[])
            .await?;
        let deadlock = Duration::from_millis(u64::try_from(deadlock).unwrap_or(1_000));
        let statement = target.saturating_mul(TIMEOUT_FACTOR).max(SHORTEST_TIMEOUT).min(self.task.lease.0 / 2);
        settle_session(&session, LOCK_TIMEOUT.min(deadlock / 2), Some(statement), true).await?;
        Ok(session)
    }

    /// A session for questions over the whole table: no limit on their time, and whatever plan is best.
    pub async fn reader(&self, stop: &CancellationToken, hard: &CancellationToken) -> Result<Session, Halt> {
        let session = connect(&self.store, self.task.retry, stop, hard).await?;
        session.reset(LOCK_TIMEOUT, None).await?;
        settle_session(&session, LOCK_TIMEOUT, None, false).await?;
        session.run("SET plan_cache_mode = auto").await?;
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(duty: f64, rate: Option<f64>) -> Orders {
        Orders { paused: None, duty, rate, workers: 1 }
    }

    #[test]
    fn a_fifth_of_the_time_is_one_part_work_and_four_parts_rest() {
        assert_eq!(orders(0.2, None).rest(Duration::from_millis(10), 5).as_millis(), 40);
        assert_eq!(orders(1.0, None).rest(Duration::from_millis(10), 5), Duration::ZERO);
    }

    #[test]
    fn the_slower_of_duty_and_rate_counts() {
        let rest = |duty| orders(duty, Some(1_000.0)).rest(Duration::from_millis(10), 100).as_millis();
        assert_eq!((rest(1.0), rest(0.01)), (90, 990));
    }
}
