//! The gate: the only write fence that is safe (design section 9, P2).
//!
//! ```text
//!            Fence::shut              Fence::commit
//!   open ──────────────────▶ fenced ────────────────▶ shut
//!    ▲                          │                        │
//!    └── the session ends ──────┘         open() ────────┘
//! ```
//!
//! A trigger on each table takes an advisory lock that writers share, and refuses the statement if the sequence
//! `gate_place` says that writes go elsewhere. The fence takes the same lock alone: it gets it once every transaction that
//! has written is over, and nobody writes after that. Its deadline is the server's `idle_in_transaction_session_timeout`:
//! a conductor that is frozen loses its fence whatever it does later.
//!
//! The sequence is there because a table's row is read under the transaction's snapshot: a REPEATABLE READ writer that
//! began before the move still sees "open" and commits on the old side. A sequence isn't versioned. It isn't
//! transactional either, so after a crash the committed row decides and the sequence is put right.

use std::time::Duration;

use super::{
    ident::QualifiedName,
    replication::{Names, Table},
    session::{QueryError, Session},
};

/// The value of the sequence that lets writers in.
const LETS_IN: i64 = 1;
/// The value that keeps them out.
const KEEPS_OUT: i64 = 2;

/// Where a gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// What was committed: writes belong here.
    pub open: bool,
    /// What the sequence tells writers.
    pub lets_in: bool,
    /// Which move, counted from 1, it was last opened or shut by; 0 before the first.
    pub term: u32,
    /// A move to this term was begun.
    pub intent: u32,
    /// Traffic was moved here without a fence.
    pub forced: bool,
}

/// The gate's own objects. `{open}` is the row's and the sequence's first state.
const MAKE: &str = "
CREATE TABLE IF NOT EXISTS {schema}.gate (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    open boolean NOT NULL,
    term integer NOT NULL,
    intent integer NOT NULL DEFAULT 0,
    forced boolean NOT NULL DEFAULT false,
    durable bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE SEQUENCE IF NOT EXISTS {schema}.gate_place START {place};
INSERT INTO {schema}.gate (open, term) VALUES ({open}, 0) ON CONFLICT DO NOTHING;
CREATE OR REPLACE FUNCTION {schema}.gate() RETURNS trigger
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $gate$
DECLARE
    place bigint;
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock_shared({key});
    SELECT last_value INTO place FROM {schema}.gate_place;
    IF place <> 1 THEN
        RAISE EXCEPTION USING
            ERRCODE = '25006',
            MESSAGE = 'writes to this table go to another server',
            HINT = 'Connect again and try again.';
    END IF;
    RETURN NULL;
END
$gate$";

const READ: &str = "
SELECT gate.open, place.last_value, gate.term, gate.intent, gate.forced
FROM {schema}.gate AS gate, {schema}.gate_place AS place";

/// Takes the lock alone, then looks whether there is something to fence.
const TAKE: &str = "SELECT pg_catalog.pg_advisory_xact_lock({key})";

/// Before the row: whoever waits for the lock finds the sequence changed once the transaction has ended, either way.
const COMMIT: &str = "
SELECT pg_catalog.setval('{schema}.gate_place', 2);
DO $move$
BEGIN
    UPDATE {schema}.gate SET open = false, term = {term}, forced = false, changed_at = now()
    WHERE open AND term = {term} - 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the gate is not open in term %', {term} - 1;
    END IF;
END
$move$;
COMMIT";

/// After the row: whoever gets in before the row is durable would write to a side that a crash makes the wrong one.
const OPEN: &str = "
BEGIN;
UPDATE {schema}.gate SET open = true, term = {term}, forced = {forced}, changed_at = now() WHERE term <= {term};
COMMIT;
SELECT pg_catalog.setval('{schema}.gate_place', 1)";

/// Puts the sequence right after a crash between it and the row. Under the lock, as no other may be at it.
const MEND: &str = "
BEGIN;
SELECT pg_catalog.pg_advisory_xact_lock({key});
SELECT pg_catalog.setval('{schema}.gate_place', CASE WHEN open THEN 1 ELSE 2 END) FROM {schema}.gate;
COMMIT";

/// Shuts a gate that traffic was moved away from by force.
const SHUT_LATE: &str = "
BEGIN;
SELECT pg_catalog.pg_advisory_xact_lock({key});
SELECT pg_catalog.setval('{schema}.gate_place', 2);
UPDATE {schema}.gate SET open = false, term = {term}, forced = true, changed_at = now() WHERE term < {term};
COMMIT";

/// Makes the gate's own objects in the transaction that is open; what is there stays as it is.
pub(super) async fn make(session: &Session, names: &Names, open: bool) -> Result<(), QueryError> {
    let place = if open { LETS_IN } else { KEEPS_OUT };
    let sql = MAKE.replace("{open}", &open.to_string()).replace("{place}", &place.to_string());
    session.run(&names.fill(&sql)).await?;
    if !open {
        // START counts for `last_value` too; said again for a sequence that is there already with nothing moved yet.
        let shut = "SELECT pg_catalog.setval('{schema}.gate_place', 2) FROM {schema}.gate WHERE NOT open AND term = 0";
        session.run(&names.fill(shut)).await?;
    }
    Ok(())
}

/// Puts the trigger on these tables, one by one; where it is, it stays. Needs a lock on the table that waits for its
/// writers, within the session's lock timeout.
pub async fn install(session: &Session, names: &Names, tables: &[Table]) -> Result<(), QueryError> {
    let guarded = guarded(session, names).await?;
    for table in tables.iter().filter(|table| !guarded.contains(&table.name)) {
        let sql = format!(
            "CREATE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION \
             {}.gate()",
            names.trigger(),
            table.name,
            names.schema()
        );
        session.run(&sql).await?;
    }
    Ok(())
}

/// Takes the trigger off every table that has it.
pub async fn remove(session: &Session, names: &Names) -> Result<(), QueryError> {
    for table in guarded(session, names).await? {
        session.run(&format!("DROP TRIGGER IF EXISTS {} ON {table}", names.trigger())).await?;
    }
    Ok(())
}

/// Tables that have the trigger, and have it switched on.
pub async fn guarded(session: &Session, names: &Names) -> Result<Vec<QualifiedName>, QueryError> {
    let rows = session.rows(include_str!("sql/gate_triggers.sql"), &[&names.trigger()]).await?;
    Ok(rows.iter().map(|row| QualifiedName { schema: row.get("schema"), name: row.get("name") }).collect())
}

/// Reads where the gate stands.
pub async fn read(session: &Session, names: &Names) -> Result<Gate, QueryError> {
    let rows = session.rows(&names.fill(READ), &[]).await?;
    let row = rows.first().ok_or_else(|| QueryError::Unexpected { why: "the gate's row is gone".into() })?;
    let count = |name: &str| u32::try_from(row.get::<_, i32>(name)).unwrap_or(0);
    Ok(Gate {
        open: row.get("open"),
        lets_in: row.get::<_, i64>("last_value") == LETS_IN,
        term: count("term"),
        intent: count("intent"),
        forced: row.get("forced"),
    })
}

/// Writes down that a move to this term begins.
pub async fn intend(session: &Session, names: &Names, term: u32) -> Result<(), QueryError> {
    session.run(&names.fill(&format!("UPDATE {{schema}}.gate SET intent = {term}"))).await
}

/// Opens the gate in this term: first for the record, then for writers. Opening it twice is opening it once.
pub async fn open(session: &Session, names: &Names, term: u32, forced: bool) -> Result<(), QueryError> {
    let sql = OPEN.replace("{term}", &term.to_string()).replace("{forced}", &forced.to_string());
    session.run(&names.fill(&sql)).await
}

/// Makes what writers are told agree with what was committed. Waits for the lock within the session's lock timeout.
pub async fn mend(session: &Session, names: &Names) -> Result<(), QueryError> {
    all_or_nothing(session, &names.fill(MEND)).await
}

/// Shuts the gate of a side that traffic was moved away from without a fence.
pub async fn shut_late(session: &Session, names: &Names, term: u32) -> Result<(), QueryError> {
    all_or_nothing(session, &names.fill(&SHUT_LATE.replace("{term}", &term.to_string()))).await
}

/// Commits something of no consequence, durably: with it goes to disk whatever was committed before, also what an
/// apply worker has committed with `synchronous_commit = off`.
pub async fn flush(session: &Session, names: &Names) -> Result<(), QueryError> {
    let sql = "BEGIN; SET LOCAL synchronous_commit = on; UPDATE {schema}.gate SET durable = durable + 1; COMMIT";
    all_or_nothing(session, &names.fill(sql)).await
}

/// Runs text with a transaction in it and leaves none open if it is refused.
async fn all_or_nothing(session: &Session, sql: &str) -> Result<(), QueryError> {
    let answer = session.run(sql).await;
    if matches!(answer, Err(QueryError::Refused(_))) {
        let _ = session.roll_back().await;
    }
    answer
}

/// Nobody but its holder writes to the gate's tables. Dropping it lets everybody in again, as does its deadline.
pub struct Fence {
    session: Session,
}

/// Why there is no fence.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The server says no, or can't be asked.
    #[error("could not take the fence")]
    Query(#[from] QueryError),
    /// A transaction that has written did not end in time.
    #[error("a transaction that has written did not end within {} ms", .0.as_millis())]
    Busy(Duration),
    /// The gate isn't open, or not in this term.
    #[error("the gate is not open in term {expected}: {found:?}")]
    NotOpen {
        /// The term before the move.
        expected: u32,
        /// What was found.
        found: Gate,
    },
}

impl Fence {
    /// Waits until every transaction that has written is over, at most `wait`, and lets nobody write from then on, for
    /// `deadline` at most. `term` is the one to move to. The session is the fence's from here on.
    pub async fn shut(
        session: Session,
        names: &Names,
        term: u32,
        wait: Duration,
        deadline: Duration,
    ) -> Result<Self, FenceError> {
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {}; SET LOCAL \
             idle_in_transaction_session_timeout = {}; SET LOCAL statement_timeout = 0",
            wait.as_millis().max(1),
            deadline.as_millis().max(1)
        );
        session.run(&begin).await?;
        match session.run(&names.fill(TAKE)).await {
            Ok(()) => {}
            Err(QueryError::Refused(refusal)) if refusal.may_pass() => return Err(FenceError::Busy(wait)),
            Err(error) => return Err(error.into()),
        }
        let found = read(&session, names).await?;
        let expected = term.saturating_sub(1);
        if !found.open || found.term != expected {
            return Err(FenceError::NotOpen { expected, found });
        }
        Ok(Self { session })
    }

    /// The commit point: from here on writes belong to the other side. An error other than a refusal means that the
    /// gate has to be read to know.
    pub async fn commit(self, names: &Names, term: u32) -> Result<(), QueryError> {
        let sql = names.fill(&COMMIT.replace("{term}", &term.to_string()));
        match self.session.graceful(&sql).await {
            Err(QueryError::Stopped) => Err(QueryError::Lost { why: "stopped before the move was answered".into() }),
            other => other,
        }
    }

    /// Lets everybody in again and waits until that is so.
    pub async fn lift(self) -> Result<(), QueryError> {
        self.session.roll_back().await
    }
}
