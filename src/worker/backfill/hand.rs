//! One connection that claims chunks and works through them.
//!
//! ```text
//!   claim ─▶ work ─▶ rest ─▶ work ... ─▶ end reached ─▶ settle ─▶ claim ...
//!              │
//!              ├─ the claim no longer stands: nothing was changed; claim another
//!              ├─ ran into a time limit: again, smaller after the third time
//!              └─ a row is refused: smaller and smaller, until it is the one row, which is named
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_postgres::Statement;
use tokio_util::sync::CancellationToken;

use super::{
    controls::Live,
    halt::Halt,
    size::ChunkSize,
    work::{Counters, Orders, Work},
};
use crate::stores::postgres::{
    QueryError, Session,
    chunks::{Chunk, Chunks},
    session::Refusal,
};

/// Wait after a time-out, before the same rows are tried again.
const AFTER_TIMEOUT: Duration = Duration::from_millis(200);
/// Time-outs on end with a single row in the chunk: something is wrong that no size mends.
const MOST_TIMEOUTS: u32 = 60;

/// A connection at work.
pub(super) struct Hand {
    pub work: Arc<Work>,
    pub number: u8,
    pub orders: watch::Receiver<Orders>,
    pub live: watch::Receiver<Live>,
    /// Cancelled by the first that finds no chunk to claim.
    pub nothing_left: CancellationToken,
    /// Ends the hand at the next chunk's boundary.
    pub stop: CancellationToken,
    /// Ends it in the middle of one.
    pub hard: CancellationToken,
}

struct Tools {
    session: Session,
    from_the_start: Statement,
    from_a_position: Statement,
}

/// How a turn at a chunk ended.
enum Turn {
    Next(Chunk),
    Over,
}

impl Hand {
    /// Works until no chunk is to be had.
    pub async fn run(mut self) -> Result<(), Halt> {
        let bounds = self.work.bounds(&self.live.borrow());
        let mut size = ChunkSize::new(bounds.first, bounds.most, bounds.target);
        let mut tools: Option<Tools> = None;
        let holder = format!("{}/{}", self.work.leader, self.number);
        loop {
            if !self.may_work().await? {
                return Ok(());
            }
            if tools.is_none() {
                tools = Some(self.tools(bounds.target).await?);
            }
            let Some(Tools { session, from_the_start, from_a_position }) = &tools else { continue };
            let chunks = Chunks::new(session, &self.work.scope);
            let Some(chunk) = chunks.claim(&holder, self.work.lease()).await? else {
                self.nothing_left.cancel();
                return Ok(());
            };
            tracing::debug!(chunk = chunk.number, epoch = chunk.epoch, holder, "claimed");
            let mut turn = Turn::Next(chunk);
            while let Turn::Next(chunk) = turn {
                if self.stop.is_cancelled() || !self.is_wanted() {
                    chunks.release(&chunk, &holder).await?;
                    break;
                }
                let statement = if chunk.position.is_some() { from_a_position } else { from_the_start };
                turn = self.one_turn(session, statement, chunk, &holder, &mut size).await?;
            }
        }
    }

    async fn tools(&self, target: Duration) -> Result<Tools, Halt> {
        let session = self.work.hand(target, &self.stop, &self.hard).await?;
        let from_the_start = session.prepare(&self.work.statements.work_from_the_start).await?;
        let from_a_position = session.prepare(&self.work.statements.work).await?;
        Ok(Tools { session, from_the_start, from_a_position })
    }

    fn is_wanted(&self) -> bool {
        let orders = self.orders.borrow();
        orders.paused.is_none() && self.number < orders.workers
    }

    /// Waits until this hand is wanted; false if there is nothing left to do.
    async fn may_work(&mut self) -> Result<bool, Halt> {
        while !self.is_wanted() {
            tokio::select! {
                changed = self.orders.changed() => changed.map_err(|_| Halt::Stopped)?,
                () = self.nothing_left.cancelled() => return Ok(false),
                () = self.stop.cancelled() => return Err(Halt::Stopped),
            }
        }
        if self.stop.is_cancelled() { Err(Halt::Stopped) } else { Ok(true) }
    }

    async fn one_turn(
        &self,
        session: &Session,
        statement: &Statement,
        mut chunk: Chunk,
        holder: &str,
        size: &mut ChunkSize,
    ) -> Result<Turn, Halt> {
        let chunks = Chunks::new(session, &self.work.scope);
        let bounds = self.work.bounds(&self.live.borrow());
        size.limit(bounds.most, bounds.target);
        let began = Instant::now();
        let worked = match chunks.work(statement, &chunk, holder, i64::from(size.rows()), self.work.lease()).await {
            Ok(Some(worked)) => worked,
            Ok(None) => {
                tracing::warn!(chunk = chunk.number, epoch = chunk.epoch, "the claim no longer stands");
                return Ok(Turn::Over);
            }
            Err(QueryError::Refused(refusal)) => {
                self.over_refusal(session, &chunk, refusal, size).await?;
                return Ok(Turn::Next(chunk));
            }
            Err(error) => return Err(error.into()),
        };
        let time = began.elapsed();
        let progress = &self.work.progress;
        Counters::add(&progress.scanned, worked.scanned);
        Counters::add(&progress.changed, worked.changed);
        if worked.at_end {
            chunks.settle(&chunk, holder).await?;
        } else {
            size.took(time);
        }
        let rest = self.orders.borrow().rest(time, worked.changed);
        if !rest.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.stop.cancelled() => {}
            }
        }
        if worked.at_end {
            return Ok(Turn::Over);
        }
        chunk.position = Some(worked.position);
        Ok(Turn::Next(chunk))
    }

    /// Makes the next try smaller, or says that none will help.
    async fn over_refusal(
        &self,
        session: &Session,
        chunk: &Chunk,
        refusal: Refusal,
        size: &mut ChunkSize,
    ) -> Result<(), Halt> {
        // 57014: cancelled, here by the statement timeout.
        if refusal.may_pass() || refusal.sqlstate == "57014" {
            let timeouts = &self.work.progress.timeouts;
            Counters::add(timeouts, 1);
            let split = size.timed_out();
            tracing::warn!(chunk = chunk.number, rows = size.rows(), split, %refusal, "a time limit");
            if size.rows() == 1 && Counters::get(timeouts) > i64::from(MOST_TIMEOUTS) {
                return Err(Halt::failed(format!("Even single rows run into time limits: {refusal}.")));
            }
            tokio::select! {
                () = tokio::time::sleep(AFTER_TIMEOUT) => {}
                () = self.stop.cancelled() => {}
            }
            return Ok(());
        }
        // 25006: the server has become a standby.
        if refusal.sqlstate == "25006" {
            return Err(Halt::Lost { why: refusal.to_string() });
        }
        // Classes 22 and 23, and what functions and triggers raise, are about a row; the rest is about the statement.
        let about_a_row = ["22", "23", "P0"].iter().any(|class| refusal.sqlstate.starts_with(class));
        if about_a_row && size.narrow() {
            return Ok(());
        }
        let place = if about_a_row { self.next_key(session, chunk).await? } else { String::new() };
        Err(Halt::Failed {
            message: format!("{}{place} is refused: {}.", self.work.of.table.name, refusal.message),
            sqlstate: Some(refusal.sqlstate),
        })
    }

    /// The first row that isn't done, as `(id)=(7)`.
    async fn next_key(&self, session: &Session, chunk: &Chunk) -> Result<String, Halt> {
        let key = &self.work.of.key;
        let names: Vec<_> = key.columns.iter().map(|column| column.name.to_string()).collect();
        let after = if chunk.position.is_some() { key.bound("$1") } else { String::new() };
        let condition =
            if after.is_empty() { "$1::text[] IS NULL".to_owned() } else { format!("{} > {after}", key.tuple()) };
        let sql = format!(
            "SELECT {} AS key FROM {} WHERE {condition} ORDER BY {} LIMIT 1",
            key.as_text(&names),
            self.work.of.table.name,
            key.columns(None)
        );
        let rows = session.rows(&sql, &[&chunk.position]).await?;
        let value = rows.first().map(|row| row.get::<_, Vec<String>>("key").join(", ")).unwrap_or_default();
        Ok(format!(" row ({})=({value})", names.join(", ")))
    }
}
