//! The chunk table: which stretch of a table's key is whose, and how far it is.
//!
//! A chunk is claimed by a committed row with holder, epoch and lease, never by a row lock. The work itself is one
//! statement outside of any transaction block ([`super::chunk_statements`]): it locks the chunk's row if the claim still stands,
//! looks at the next rows, locks those in need that nobody else has locked, changes them and moves the position. So rows
//! and position commit together, a worker that is frozen holds no lock, and one whose chunk was stolen changes nothing.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::{
    assignments::Derivation,
    history::Scope,
    keys::KeyValue,
    session::{QueryError, Session},
};

/// Version of the chunk table's meaning. Workers of different versions don't share one.
pub const FORMAT_VERSION: i32 = 1;
/// Chunks that a table is cut into, at most. A chunk that is stolen or swept again is this part of the table.
const MOST_CHUNKS: i64 = 512;
/// Rows of a chunk at least: a claim costs two commits.
const FEWEST_ROWS: f64 = 10_000.0;
/// Pages that are looked at to find bounds for the chunks.
const SAMPLED_PAGES: f64 = 2000.0;
/// Bytes in a page, as compiled into nearly every server; only the size of a sample depends on it.
const PAGE_BYTES: f64 = 8192.0;
/// Times that a chunk is walked through before rows that somebody keeps locked are left to the last sweep.
const PASSES: i32 = 3;

/// How a row in need is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The user's condition holds, and a column differs from its expression.
    Marked,
    /// A column differs from its expression, and the user's condition would hold were the columns blank. For tables that
    /// were filled before and not kept in step since: a value that is there may be out of date.
    Differing,
}

impl Need {
    /// As it stands in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Marked => "Marked",
            Self::Differing => "Differing",
        }
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Under way, or interrupted.
    Running,
    /// No row is in need, and the trigger, if any, keeps it so.
    Done,
    /// The trigger was found gone or changed: writes may have been missed.
    SyncLost,
    /// Taken back.
    Undone,
    /// The trigger has been removed at the end of the migration.
    Finished,
}

impl RunState {
    /// As it stands in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Done => "Done",
            Self::SyncLost => "SyncLost",
            Self::Undone => "Undone",
            Self::Finished => "Finished",
        }
    }

    fn from_store(text: &str) -> Option<Self> {
        [Self::Running, Self::Done, Self::SyncLost, Self::Undone, Self::Finished]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A phase's run, as the store remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// [`FORMAT_VERSION`] of whoever began it.
    pub format_version: i32,
    /// Attempt that began it.
    pub attempt: i32,
    /// Checksum of what the user wrote.
    pub statement: String,
    /// The table.
    pub relation: u32,
    /// Numbers of the columns set.
    pub columns: Vec<i16>,
    /// How a row in need is told.
    pub need: Need,
    /// Where it stands.
    pub state: RunState,
    /// What the sync trigger was like when it was made.
    pub sync: Option<String>,
}

/// A run over the same columns, of this phase or another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// Its migration's UID.
    pub uid: String,
    /// Its migration's namespace and name.
    pub migration: String,
    /// Its phase.
    pub phase: String,
    /// Where it stands.
    pub state: RunState,
    /// It is this very phase's.
    pub is_ours: bool,
}

/// A claimed chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its number, in the order of the key.
    pub number: i32,
    /// The claim's epoch.
    pub epoch: i32,
    /// The last key that is done; `None` is before the first.
    pub position: Option<KeyValue>,
    /// The last key that belongs to it.
    pub upper: KeyValue,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Chunks in all.
    pub chunks: i64,
    /// Chunks that are done.
    pub done: i64,
    /// Rows looked at.
    pub scanned: i64,
    /// Rows changed.
    pub changed: i64,
    /// Transactions that this took.
    pub transactions: i64,
}

/// What one statement of work did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worked {
    /// Rows looked at.
    pub scanned: i64,
    /// Of these, rows in need.
    pub needed: i64,
    /// Of these, rows changed; the rest were locked by somebody, or changed under our eyes.
    pub changed: i64,
    /// The last key done.
    pub position: KeyValue,
    /// The chunk's end is reached.
    pub at_end: bool,
}

/// The chunk table of one phase.
#[derive(Clone, Copy)]
pub struct Chunks<'a> {
    session: &'a Session,
    scope: &'a Scope,
}

impl<'a> Chunks<'a> {
    /// Of `scope`'s phase, in the store that `session` is connected to.
    pub fn new(session: &'a Session, scope: &'a Scope) -> Self {
        Self { session, scope }
    }

    /// Makes our tables if they are absent. The schema is there.
    pub async fn make_layout(&self) -> Result<(), QueryError> {
        // Asking first: CREATE TABLE IF NOT EXISTS wants rights that a role may have lost since.
        if self.is_laid_out().await? {
            return Ok(());
        }
        self.session.begin().await?;
        let made = async {
            self.session.rows(include_str!("sql/layout_lock.sql"), &[]).await?;
            self.session.run(include_str!("sql/backfill_layout.sql")).await
        };
        match made.await {
            Ok(()) => self.session.commit().await,
            Err(error) => {
                self.session.roll_back().await?;
                Err(error)
            }
        }
    }

    /// Whether our tables are there.
    pub async fn is_laid_out(&self) -> Result<bool, QueryError> {
        self.session.value(include_str!("sql/relation_exists.sql"), &[&"alongside.backfill_chunk"]).await
    }

    /// The phase's run, if it has begun.
    pub async fn run(&self) -> Result<Option<Run>, QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        let rows = self.session.rows(include_str!("sql/backfill_read_run.sql"), &[uid, phase]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Run {
            format_version: row.get("format_version"),
            attempt: row.get("attempt"),
            statement: row.get("statement"),
            relation: row.get("relation"),
            columns: row.get("columns"),
            need: if row.get::<_, &str>("need") == "Marked" { Need::Marked } else { Need::Differing },
            state: state(row)?,
            sync: row.get("sync"),
        }))
    }

    /// Begins the run, in place of one that the store remembers, in the transaction that is open.
    pub async fn begin(&self, run: &Run) -> Result<(), QueryError> {
        let Scope { uid, phase, migration, adopt: _ } = self.scope;
        let Run { format_version, attempt, statement, relation, columns, need, state: _, sync } = run;
        let need = need.as_str();
        self.delete_chunks().await?;
        self.session
            .rows(
                include_str!("sql/backfill_write_run.sql"),
                &[uid, phase, migration, format_version, attempt, statement, relation, columns, &need, sync],
            )
            .await?;
        Ok(())
    }

    /// Runs over the same columns of the same table.
    pub async fn before(&self, relation: u32, columns: &[i16]) -> Result<Vec<Before>, QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        let sql = include_str!("sql/backfill_touched_before.sql");
        let rows = self.session.rows(sql, &[&relation, &columns, uid, phase]).await?;
        rows.iter()
            .map(|row| {
                Ok(Before {
                    uid: row.get("migration_uid"),
                    migration: row.get("migration"),
                    phase: row.get("phase"),
                    state: state(row)?,
                    is_ours: row.get("is_ours"),
                })
            })
            .collect()
    }

    /// Moves the run to another state, if there is one.
    pub async fn set_state(&self, state: RunState) -> Result<(), QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        self.session.rows(include_str!("sql/backfill_state.sql"), &[uid, phase, &state.as_str()]).await?;
        Ok(())
    }

    /// Deletes the phase's chunks.
    pub async fn delete_chunks(&self) -> Result<(), QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        let sql = "DELETE FROM alongside.backfill_chunk WHERE migration_uid = $1 AND phase = $2";
        self.session.rows(sql, &[uid, phase]).await?;
        Ok(())
    }

    /// Notes that `leader` leads the run, takes all chunks from whoever held them and ends their sessions. For whoever
    /// has the phase's lock.
    pub async fn lead(&self, leader: &str) -> Result<(), QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        self.session.rows(include_str!("sql/backfill_lead.sql"), &[uid, phase, &leader]).await?;
        self.session.rows(include_str!("sql/backfill_take_over.sql"), &[uid, phase]).await?;
        Ok(())
    }

    /// Gives a sign of life; false if somebody else leads.
    pub async fn beat(&self, leader: &str) -> Result<bool, QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        Ok(!self.session.rows(include_str!("sql/backfill_beat.sql"), &[uid, phase, &leader]).await?.is_empty())
    }

    /// Ends the session of a leader that has given no sign for `silence` seconds; whether there was one.
    pub async fn end_silent_leader(&self, silence: f64) -> Result<bool, QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        let rows = self.session.rows(include_str!("sql/backfill_end_leader.sql"), &[uid, phase, &silence]).await?;
        Ok(!rows.is_empty())
    }

    /// Cuts the table into chunks up to its highest key at this moment, unless that was done before. An empty table has
    /// none. What is written with a higher key is the sync trigger's, so this comes after its commit.
    pub async fn plan(&self, of: &Derivation) -> Result<(), QueryError> {
        if self.tally().await?.chunks > 0 {
            return Ok(());
        }
        let (columns, table) = (of.key.columns(None), &of.table.name);
        let names: Vec<_> = of.key.columns.iter().map(|column| column.name.to_string()).collect();
        let descending: Vec<_> = names.iter().map(|name| format!("{name} DESC")).collect();
        let value = of.key.as_text(&names);
        let sql = format!("SELECT {value} AS bound FROM {table} ORDER BY {} LIMIT 1", descending.join(", "));
        let rows = self.session.rows(&sql, &[]).await?;
        let Some(bound) = rows.first().map(|row| row.get::<_, KeyValue>("bound")) else { return Ok(()) };
        #[expect(clippy::cast_precision_loss, reason = "only the size of a sample depends on it")]
        let pages = (of.table.bytes as f64 / PAGE_BYTES).max(1.0);
        #[expect(clippy::cast_possible_truncation, reason = "a percentage needs no more digits")]
        let percent = (100.0 * SAMPLED_PAGES / pages).min(100.0) as f32;
        let sql = format!(
            "SELECT {value} AS upper
             FROM (
                 SELECT {columns}, row_number() OVER (ORDER BY {columns}) AS \"~place\", count(*) OVER () AS \"~count\"
                 FROM {table} TABLESAMPLE SYSTEM ($1::real)
             ) AS sample
             WHERE \"~place\" % greatest(\"~count\" / $2::bigint, $4::bigint) = 0
                 AND {tuple} < {bound}
             ORDER BY {columns}",
            tuple = of.key.tuple(),
            bound = of.key.bound("$3")
        );
        #[expect(clippy::cast_possible_truncation, reason = "far below what an integer holds")]
        let fewest = (FEWEST_ROWS * f64::from(percent) / 100.0).ceil() as i64;
        let rows = self.session.rows(&sql, &[&percent, &MOST_CHUNKS, &bound, &fewest]).await?;
        let mut uppers: Vec<KeyValue> = rows.iter().map(|row| row.get("upper")).collect();
        uppers.push(bound);
        self.session.begin().await?;
        let mut lower: Option<KeyValue> = None;
        let Scope { uid, phase, .. } = self.scope;
        for (number, upper) in (1_i32..).zip(uppers) {
            let sql = "INSERT INTO alongside.backfill_chunk (migration_uid, phase, number, lower, upper)
                       VALUES ($1, $2, $3, $4, $5)";
            self.session.rows(sql, &[uid, phase, &number, &lower, &upper]).await?;
            lower = Some(upper);
        }
        self.session.commit().await
    }

    /// How far the run is.
    pub async fn tally(&self) -> Result<Tally, QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        let rows = self.session.rows(include_str!("sql/backfill_tally.sql"), &[uid, phase]).await?;
        let tally = |row: &tokio_postgres::Row| Tally {
            chunks: row.get("chunks"),
            done: row.get("done"),
            scanned: row.get("scanned"),
            changed: row.get("changed"),
            transactions: row.get("transactions"),
        };
        Ok(rows.first().map(tally).unwrap_or_default())
    }

    /// Backends that work for the run: this one, and the holders of chunks.
    pub async fn backends(&self) -> Result<Vec<i32>, QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        let sql = "SELECT pg_catalog.pg_backend_pid() AS backend
                   UNION
                   SELECT backend FROM alongside.backfill_chunk
                   WHERE migration_uid = $1 AND phase = $2 AND backend IS NOT NULL";
        let rows = self.session.rows(sql, &[uid, phase]).await?;
        Ok(rows.iter().map(|row| row.get("backend")).collect())
    }

    /// Claims a chunk, if one is to be had.
    pub async fn claim(&self, holder: &str, lease: f64) -> Result<Option<Chunk>, QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        let rows = self.session.rows(include_str!("sql/backfill_claim.sql"), &[uid, phase, &holder, &lease]).await?;
        Ok(rows.first().map(|row| Chunk {
            number: row.get("number"),
            epoch: row.get("epoch"),
            position: row.get("position"),
            upper: row.get("upper"),
        }))
    }

    /// Ends the way through a chunk whose end is reached.
    pub async fn settle(&self, chunk: &Chunk, holder: &str) -> Result<(), QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        let sql = include_str!("sql/backfill_settle.sql");
        self.session.rows(sql, &[uid, phase, &chunk.number, &holder, &chunk.epoch, &PASSES]).await?;
        Ok(())
    }

    /// Lets go of a chunk where it is.
    pub async fn release(&self, chunk: &Chunk, holder: &str) -> Result<(), QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        let sql = include_str!("sql/backfill_release.sql");
        self.session.rows(sql, &[uid, phase, &chunk.number, &holder, &chunk.epoch]).await?;
        Ok(())
    }

    /// Runs one statement of work on a chunk that is held; `None` if the claim no longer stands. `statement` is
    /// the one from the start where the chunk has no position yet.
    pub async fn work(
        &self,
        statement: &tokio_postgres::Statement,
        chunk: &Chunk,
        holder: &str,
        rows: i64,
        lease: f64,
    ) -> Result<Option<Worked>, QueryError> {
        let Scope { uid, phase, .. } = self.scope;
        let Chunk { number, epoch, position, upper } = chunk;
        let answer =
            self.session.rows(statement, &[position, upper, &rows, uid, phase, number, &holder, epoch, &lease]).await?;
        Ok(answer.first().filter(|row| row.get("is_held")).map(|row| Worked {
            scanned: row.get("scanned"),
            needed: row.get("needed"),
            changed: row.get("changed"),
            position: row.get("position"),
            at_end: row.get("at_end"),
        }))
    }
}

fn state(row: &tokio_postgres::Row) -> Result<RunState, QueryError> {
    let text: &str = row.get("state");
    RunState::from_store(text).ok_or_else(|| QueryError::Unexpected { why: format!("a run is {text:?}") })
}

/// What users may feel of a backfill. See the file.
pub const SIGNALS: &str = include_str!("sql/backfill_signals.sql");

/// Transactions that have been open for long. See the file.
pub const LONG_TRANSACTIONS: &str = include_str!("sql/long_transactions.sql");

/// Pins what keys' text depends on, bounds the waits, and says whether the planner may do without indexes.
pub async fn settle_session(
    session: &Session,
    lock_timeout: Duration,
    statement_timeout: Option<Duration>,
    only_indexes: bool,
) -> Result<(), QueryError> {
    let milliseconds = |time: Duration| time.as_millis().max(1).to_string();
    let statement = statement_timeout.map_or_else(|| "0".to_owned(), milliseconds);
    let other_plans = if only_indexes { "off" } else { "on" };
    let values: [&(dyn ToSql + Sync); 3] = [&milliseconds(lock_timeout), &statement, &other_plans];
    session.rows(include_str!("sql/backfill_session.sql"), &values).await?;
    Ok(())
}
