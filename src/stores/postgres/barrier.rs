//! One point in time on two servers that logical replication joins (protocol P4).
//!
//! ```text
//!   lock          old: LOCK t IN SHARE MODE ──────────────────────────────┐ writers of t wait
//!   heartbeat     old: a row of a published table ──▶ new: it shows there │ so all that t's writers committed is there
//!   snapshots     old: exported                       new: exported       │
//!   release       old: ROLLBACK ──────────────────────────────────────────┘ writers go on
//! ```
//!
//! Once the lock is granted, every transaction that has written to the table is over. The heartbeat commits after them,
//! and is applied after them; so when it shows on the new side, that side holds the table as the old side does, and it
//! stays so until the lock is gone. Two snapshots taken in between show the same moment of the table.
//!
//! Who waits for how long is bounded on the server, also if this process is frozen at any step: the lock is waited for at
//! most [`LOCK_WAIT`] (as long as somebody waits for a lock, those behind wait, too), and a session that has it and says
//! nothing for [`LOCK_IDLE`] is ended. Here, the heartbeat is given [`HEARTBEAT_WAIT`] before everything is let go.
//!
//! What it doesn't protect against: somebody who writes into the table on the new side. The heartbeat's table must come by
//! the same subscription as the table, or it says nothing of it ([`links`]).

use std::time::{Duration, Instant};

use super::{
    ident::QualifiedName,
    session::{QueryError, Refusal, Session},
};

/// How long the lock is waited for. Writers that come meanwhile wait behind us. Design section 9.
pub const LOCK_WAIT: Duration = Duration::from_millis(200);
/// How long the heartbeat may take to show on the new side while writers wait.
pub const HEARTBEAT_WAIT: Duration = Duration::from_millis(300);
/// How far behind the new side may be before the lock is asked for at all. It leaves room in [`HEARTBEAT_WAIT`].
pub const NEAR_ENOUGH: Duration = Duration::from_millis(150);
/// How long the server keeps the lock for a worker that says nothing. Twice [`HEARTBEAT_WAIT`], and then some.
pub const LOCK_IDLE: Duration = Duration::from_secs(1);
/// The same while rows are repaired under the lock; see [`Hold::long`].
pub const REPAIR_IDLE: Duration = Duration::from_secs(3);
/// Between two looks at whether the heartbeat shows.
const LOOK: Duration = Duration::from_millis(1);

/// The sessions of a barrier. None of them reads the tables.
pub struct Trio<'a> {
    /// On the old side: takes the lock.
    pub lock: &'a Session,
    /// On the old side: beats, then keeps the snapshot.
    pub from: &'a Session,
    /// On the new side: watches for the beat, then keeps the snapshot.
    pub to: &'a Session,
}

/// Snapshots of two sides that show the same moment of a table. They last until the keepers' transactions end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshots {
    /// Name of the old side's.
    pub from: String,
    /// Name of the new side's.
    pub to: String,
    /// What it cost.
    pub cost: Cost,
}

/// What a barrier cost those who write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Until the lock was granted. Writers that came meanwhile waited behind it.
    pub lock_wait: Duration,
    /// From then until it was let go.
    pub held: Duration,
}

/// Why there was no barrier this time. Nobody waits any more; it may be tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missed {
    /// The lock wasn't granted in time.
    #[error("the lock on {table} was not to be had within {} ms{who}", LOCK_WAIT.as_millis())]
    Busy {
        /// The table.
        table: QualifiedName,
        /// Who has it, as far as the server says, in words that follow.
        who: String,
    },
    /// The new side is too far behind to let writers wait for it.
    #[error("the new side did not show the heartbeat within {} ms", waited.as_millis())]
    Behind {
        /// How long it was watched.
        waited: Duration,
    },
}

/// What comes of asking for a barrier.
pub type Asked<T> = Result<Result<T, Missed>, QueryError>;

/// The heartbeat's row: a table on both sides that comes by the same subscription, `(side text PRIMARY KEY, beat
/// bigint, at timestamptz)`. A verification has a row of its own in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    table: QualifiedName,
}

impl Heartbeat {
    /// In this table.
    pub fn new(table: QualifiedName) -> Self {
        Self { table }
    }

    /// Its table.
    pub fn table(&self) -> &QualifiedName {
        &self.table
    }

    /// Makes the row, unless it is there. Returns its beat.
    pub async fn prepare(&self, from: &Session) -> Result<i64, QueryError> {
        from.run(&format!(
            "INSERT INTO {} (side, beat, at) VALUES ('verify', 0, pg_catalog.now()) ON CONFLICT (side) DO NOTHING",
            self.table
        ))
        .await?;
        self.beat(from).await
    }

    async fn beat(&self, from: &Session) -> Result<i64, QueryError> {
        number(
            from,
            &format!(
                "UPDATE {} SET beat = beat + 1, at = pg_catalog.clock_timestamp() WHERE side = 'verify' RETURNING beat",
                self.table
            ),
        )
        .await
    }

    /// Waits until the new side shows this beat; how long it took, or none if it took longer than `most`.
    async fn shows(&self, to: &Session, beat: i64, most: Duration) -> Result<Option<Duration>, QueryError> {
        let look = format!("SELECT coalesce(pg_catalog.max(beat), -1) FROM {} WHERE side = 'verify'", self.table);
        let began = Instant::now();
        loop {
            if number(to, &look).await? >= beat {
                return Ok(Some(began.elapsed()));
            }
            if began.elapsed() > most {
                return Ok(None);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How far behind the new side is right now, without any lock; none if further than `most`.
    pub async fn lag(&self, from: &Session, to: &Session, most: Duration) -> Result<Option<Duration>, QueryError> {
        let beat = self.beat(from).await?;
        self.shows(to, beat, most).await
    }
}

/// A table locked against writers, with the new side in step. Dropping it without [`Hold::release`] leaves the lock to the
/// server's own deadline.
pub struct Hold<'a> {
    lock: &'a Session,
    asked: Instant,
    granted: Instant,
}

impl<'a> Hold<'a> {
    /// Takes the lock and waits until the new side has everything that was written before it.
    pub async fn take(trio: &Trio<'a>, table: &QualifiedName, heartbeat: &Heartbeat) -> Asked<Self> {
        Self::under(trio, table, heartbeat, LOCK_IDLE).await
    }

    /// The same for work under the lock that takes several statements.
    pub async fn long(trio: &Trio<'a>, table: &QualifiedName, heartbeat: &Heartbeat) -> Asked<Self> {
        Self::under(trio, table, heartbeat, REPAIR_IDLE).await
    }

    async fn under(trio: &Trio<'a>, table: &QualifiedName, heartbeat: &Heartbeat, idle: Duration) -> Asked<Self> {
        // Without the lock first: nobody is to wait for a stream that is behind anyway.
        if heartbeat.lag(trio.from, trio.to, NEAR_ENOUGH).await?.is_none() {
            return Ok(Err(Missed::Behind { waited: NEAR_ENOUGH }));
        }
        let asked = Instant::now();
        // A partitioned table is as many locks as partitions, and each would wait anew: so the statement is bounded, too.
        let lock = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {wait}; SET LOCAL statement_timeout = {wait}; \
             SET LOCAL idle_in_transaction_session_timeout = {idle}; LOCK TABLE {table} IN SHARE MODE",
            wait = LOCK_WAIT.as_millis(),
            idle = idle.as_millis()
        );
        match trio.lock.run(&lock).await {
            Ok(()) => {}
            Err(QueryError::Refused(refusal)) => {
                trio.lock.roll_back().await?;
                // 55P03 lock_not_available, 57014 the statement's time, 40P01 deadlock.
                if !refusal.may_pass() && refusal.sqlstate != "57014" {
                    return Err(QueryError::Refused(refusal));
                }
                let who = holder(trio.from, table).await?;
                return Ok(Err(Missed::Busy { table: table.clone(), who }));
            }
            Err(other) => return Err(other),
        }
        let hold = Self { lock: trio.lock, asked, granted: Instant::now() };
        let beat = match heartbeat.beat(trio.from).await {
            Ok(beat) => beat,
            Err(error) => return hold.let_go(error).await,
        };
        match heartbeat.shows(trio.to, beat, HEARTBEAT_WAIT).await {
            Ok(Some(_)) => Ok(Ok(hold)),
            Ok(None) => {
                hold.release().await?;
                Ok(Err(Missed::Behind { waited: HEARTBEAT_WAIT }))
            }
            Err(error) => hold.let_go(error).await,
        }
    }

    /// Whether the lock is still there, and makes the server's deadline begin anew.
    pub async fn still(&self) -> Result<(), QueryError> {
        self.lock.run("SELECT").await
    }

    /// Lets writers go on. An error means that the lock may have been gone before: what was read under it is void.
    pub async fn release(self) -> Result<Cost, QueryError> {
        let cost = |until: Instant| Cost { lock_wait: self.granted - self.asked, held: until - self.granted };
        // The server says no where it has ended the session, or where there is no transaction to end.
        self.lock.graceful("COMMIT").await?;
        Ok(cost(Instant::now()))
    }

    async fn let_go<T>(self, error: QueryError) -> Result<T, QueryError> {
        // The session's end lets go as well.
        let _ = self.lock.roll_back().await;
        Err(error)
    }
}

/// Takes snapshots that show the same moment of a table on both sides. The keepers' transactions are open afterwards, and
/// must be ended by [`Session::roll_back`] once the snapshots have been imported.
pub async fn snapshots(trio: &Trio<'_>, table: &QualifiedName, heartbeat: &Heartbeat) -> Asked<Snapshots> {
    let hold = match Hold::take(trio, table, heartbeat).await? {
        Ok(hold) => hold,
        Err(missed) => return Ok(Err(missed)),
    };
    let exported = tokio::try_join!(export(trio.from), export(trio.to));
    match exported {
        Ok((from, to)) => Ok(Ok(Snapshots { from, to, cost: hold.release().await? })),
        Err(error) => hold.let_go(error).await,
    }
}

/// Takes snapshots of two stores at rest. They show the same moment only as far as nobody writes.
pub async fn snapshots_at_rest(from: &Session, to: &Session) -> Result<Snapshots, QueryError> {
    let (from, to) = tokio::try_join!(export(from), export(to))?;
    Ok(Snapshots { from, to, cost: Cost::default() })
}

/// Opens a transaction and exports its snapshot, in one round trip.
async fn export(session: &Session) -> Result<String, QueryError> {
    session.text("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT pg_catalog.pg_export_snapshot()").await
}

/// Opens a transaction that sees what a snapshot shows.
pub async fn import(session: &Session, snapshot: &str) -> Result<(), QueryError> {
    // The server's own name for it: digits, letters and dashes.
    let name: String = snapshot.chars().filter(|char| char.is_ascii_alphanumeric() || *char == '-').collect();
    session.run(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT '{name}'")).await
}

async fn number(session: &Session, sql: &str) -> Result<i64, QueryError> {
    let text = session.text(sql).await?;
    text.parse().map_err(|_| QueryError::Unexpected { why: format!("{text:?} instead of a number") })
}

/// Who keeps us from the lock, as far as the server says.
async fn holder(session: &Session, table: &QualifiedName) -> Result<String, QueryError> {
    let rows = match session.rows(include_str!("sql/table_lock_holders.sql"), &[&table.to_string()]).await {
        Ok(rows) => rows,
        Err(QueryError::Refused(Refusal { .. })) => return Ok(String::new()),
        Err(other) => return Err(other),
    };
    let Some(row) = rows.first() else { return Ok(String::new()) };
    let (pid, application, seconds): (i32, String, i64) = (row.get("pid"), row.get("application"), row.get("seconds"));
    Ok(format!("; backend {pid} ({application}) has been writing to it for {seconds} s"))
}

/// How a table of the new side comes by a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The subscription's name.
    pub subscription: String,
    /// It is switched on.
    pub enabled: bool,
    /// The table, with all its partitions, is past its own initial copy and follows the stream.
    pub in_step: bool,
}

/// The subscriptions by which a table of the new side is fed.
pub async fn links(to: &Session, table: &QualifiedName) -> Result<Vec<Link>, QueryError> {
    let rows = to.rows(include_str!("sql/subscriptions_of_table.sql"), &[&table.to_string()]).await?;
    let read = |row: &tokio_postgres::Row| Link {
        subscription: row.get("subscription"),
        enabled: row.get("enabled"),
        in_step: row.get("in_step"),
    };
    Ok(rows.iter().map(read).collect())
}
