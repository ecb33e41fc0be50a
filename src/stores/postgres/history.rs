//! What scripts have done to a store, kept in the store itself (schema `alongside`).
//!
//! A script is known by the migration's UID, its phase and its version. Its last row says where it stands ([`Entry`]).
//! A row changes in the same transaction as the schema, wherever PostgreSQL lets it: then the two never disagree. Around
//! a statement that runs outside any transaction, the row says before it that it is about to begin and after it that it
//! is done, so that a worker that finds `begun` knows to look before it does anything.
//!
//! Two workers of one phase are kept apart by an advisory lock of their session ([`History::try_lock`]), and a late one of
//! an older attempt by a claim ([`History::claim`]).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_postgres::types::ToSql;

use super::session::{QueryError, Session};

/// Steps that make our own tables. Each is one transaction, creates only what is absent, and is never changed once it
/// has been released: what comes later is a step of its own.
const LAYOUT: &[&str] = &[include_str!("sql/layout_1.sql")];

/// Which way a worker leads a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// Forward, by the up scripts.
    Up,
    /// Back, by the down scripts.
    Down,
}

impl Way {
    /// As it stands in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "Up",
            Self::Down => "Down",
        }
    }

    fn from_store(text: &str) -> Self {
        if text == "Down" { Self::Down } else { Self::Up }
    }
}

/// Whose history it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The migration's UID.
    pub uid: String,
    /// UIDs of earlier migrations whose history counts as this one's.
    pub adopt: Vec<String>,
    /// Namespace and name of the migration.
    pub migration: String,
    /// Name of the phase.
    pub phase: String,
}

/// Who works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Attempt of the migration, from 1.
    pub attempt: i32,
    /// Forward or back.
    pub way: Way,
    /// Try within the attempt and way, from 1.
    pub number: i32,
}

/// Where one script stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its row.
    pub id: i64,
    /// The script's version.
    pub version: String,
    /// The script's name when it ran.
    pub name: String,
    /// Which way it ran last.
    pub way: Way,
    /// Attempt that ran it.
    pub attempt: i32,
    /// Checksum of its text, as it ran.
    pub checksum: String,
    /// How far it got.
    pub progress: Progress,
    /// When it began: RFC 3339, UTC.
    pub started_at: String,
}

/// How far a script got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Statements in all.
    pub statements: i32,
    /// Statements from the first that have taken effect.
    pub done: i32,
    /// [`digest`] of those statements' text.
    pub done_checksum: String,
    /// The statement that was about to run outside a transaction, and of which nothing is known yet.
    pub begun: Option<i32>,
}

impl Progress {
    /// Whether all of it has taken effect.
    pub fn is_complete(&self) -> bool {
        self.done == self.statements
    }
}

/// History that another migration has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Its UID.
    pub uid: String,
    /// Its namespace and name.
    pub migration: String,
    /// The phase.
    pub phase: String,
    /// The script's name.
    pub name: String,
    /// It had this migration's namespace and name.
    pub same_name: bool,
}

/// Who holds the lock of a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its backend on the server.
    pub pid: i32,
    /// What it calls itself.
    pub application_name: String,
    /// When it connected: RFC 3339, UTC.
    pub since: String,
}

/// Whether our own tables are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Nothing yet.
    Absent,
    /// The schema only: an administrator has made it for us.
    SchemaOnly,
    /// Made up to this step; later steps may be due.
    At(i32),
    /// Made by a newer version, whose meaning isn't known here.
    Newer(i32),
}

/// The history of one phase, in one session.
pub struct History<'a> {
    session: &'a Session,
    scope: &'a Scope,
}

impl<'a> History<'a> {
    /// The history of `scope` in the store that `session` is connected to.
    pub fn new(session: &'a Session, scope: &'a Scope) -> Self {
        Self { session, scope }
    }

    /// Looks at our own tables.
    pub async fn layout(&self) -> Result<Layout, QueryError> {
        let rows = self.session.rows(include_str!("sql/layout_present.sql"), &[]).await?;
        let (has_schema, has_layout) = rows.first().map_or((false, false), |row| (row.get(0), row.get(1)));
        if !has_layout {
            return Ok(if has_schema { Layout::SchemaOnly } else { Layout::Absent });
        }
        let step: Option<i32> = self.session.value(include_str!("sql/layout_step.sql"), &[]).await?;
        let step = step.unwrap_or(0);
        let known = i32::try_from(LAYOUT.len()).expect("the steps of the layout are few");
        Ok(if step > known { Layout::Newer(step) } else { Layout::At(step) })
    }

    /// Makes what is absent of our own tables. Does nothing to a newer layout.
    pub async fn make_layout(&self) -> Result<Layout, QueryError> {
        for (step, sql) in (1_i32..).zip(LAYOUT) {
            match self.layout().await? {
                newer @ Layout::Newer(_) => return Ok(newer),
                Layout::At(made) if made >= step => {}
                Layout::Absent | Layout::SchemaOnly | Layout::At(_) => self.make_step(step, sql).await?,
            }
        }
        self.layout().await
    }

    async fn make_step(&self, step: i32, sql: &str) -> Result<(), QueryError> {
        self.session.begin().await?;
        let made = async {
            self.session.rows(include_str!("sql/layout_lock.sql"), &[]).await?;
            // CREATE SCHEMA IF NOT EXISTS asks for the right to create schemas even where it has nothing to do.
            if self.layout().await? == Layout::Absent {
                self.session.run("CREATE SCHEMA alongside").await?;
            }
            self.session.run(sql).await?;
            self.session.rows(include_str!("sql/layout_made.sql"), &[&step]).await
        };
        match made.await {
            Ok(_) => self.session.commit().await,
            Err(error) => {
                self.session.roll_back().await?;
                Err(error)
            }
        }
    }

    /// Tries to become the only worker of this phase; the lock goes with the session. Never waits.
    pub async fn try_lock(&self) -> Result<bool, QueryError> {
        self.session.value(include_str!("sql/try_lock.sql"), &[&self.lock_number()]).await
    }

    /// Who holds the lock, if it can be seen.
    pub async fn holder(&self) -> Result<Option<Holder>, QueryError> {
        let rows = self.session.rows(include_str!("sql/lock_holder.sql"), &[&self.lock_number()]).await?;
        Ok(rows.first().map(|row| Holder { pid: row.get(0), application_name: row.get(1), since: row.get(2) }))
    }

    /// Makes this turn the newest of its phase; otherwise returns the newer one that has been here.
    pub async fn claim(&self, turn: Turn) -> Result<Option<Turn>, QueryError> {
        let scope = self.scope;
        let way = turn.way.as_str();
        let values: [&(dyn ToSql + Sync); 5] = [&scope.uid, &scope.phase, &turn.attempt, &way, &turn.number];
        if !self.session.rows(include_str!("sql/claim_phase.sql"), &values).await?.is_empty() {
            return Ok(None);
        }
        let rows = self.session.rows(include_str!("sql/read_claim.sql"), &[&scope.uid, &scope.phase]).await?;
        Ok(rows.first().map(|row| Turn { attempt: row.get(0), way: Way::from_store(row.get(1)), number: row.get(2) }))
    }

    /// Where each script of the phase stands; a script without an entry has never run.
    pub async fn entries(&self) -> Result<Vec<Entry>, QueryError> {
        let uids = self.uids();
        let rows = self.session.rows(include_str!("sql/read_entries.sql"), &[&uids, &self.scope.phase]).await?;
        let entry = |row: &tokio_postgres::Row| Entry {
            id: row.get("id"),
            version: row.get("version"),
            name: row.get("name"),
            way: Way::from_store(row.get("role")),
            attempt: row.get("attempt"),
            checksum: row.get("checksum"),
            progress: Progress {
                statements: row.get("statements"),
                done: row.get("done"),
                done_checksum: row.get("done_checksum"),
                begun: row.get("begun"),
            },
            started_at: row.get("started_at"),
        };
        Ok(rows.iter().map(entry).collect())
    }

    /// What others have left that these scripts should know of.
    pub async fn foreign(&self, checksums: &[String]) -> Result<Vec<Foreign>, QueryError> {
        let values: [&(dyn ToSql + Sync); 3] = [&self.uids(), &self.scope.migration, &checksums];
        let rows = self.session.rows(include_str!("sql/foreign_entries.sql"), &values).await?;
        let foreign = |row: &tokio_postgres::Row| Foreign {
            uid: row.get("migration_uid"),
            migration: row.get("migration"),
            phase: row.get("phase"),
            name: row.get("name"),
            same_name: row.get("same_name"),
        };
        Ok(rows.iter().map(foreign).collect())
    }

    /// Writes how far a script is, in whatever transaction is open: a new row where `id` is `None`. Returns the row.
    pub async fn record(
        &self,
        id: Option<i64>,
        turn: Turn,
        script: &Recorded<'_>,
        progress: &Progress,
    ) -> Result<i64, QueryError> {
        let Progress { statements, done, done_checksum, begun } = progress;
        let checksum = &script.checksum;
        if let Some(id) = id {
            let values: [&(dyn ToSql + Sync); 8] =
                [&id, &turn.attempt, &turn.number, checksum, statements, done, done_checksum, begun];
            return self.session.value(include_str!("sql/advance_entry.sql"), &values).await;
        }
        let Scope { uid, adopt: _, migration, phase } = self.scope;
        let way = turn.way.as_str();
        let values: [&(dyn ToSql + Sync); 13] = [
            uid,
            migration,
            phase,
            &script.version,
            &script.name,
            &way,
            &turn.attempt,
            &turn.number,
            checksum,
            statements,
            done,
            done_checksum,
            begun,
        ];
        self.session.value(include_str!("sql/start_entry.sql"), &values).await
    }

    fn uids(&self) -> Vec<&str> {
        std::iter::once(&self.scope.uid).chain(&self.scope.adopt).map(String::as_str).collect()
    }

    /// The number of the phase's advisory lock. Other users of advisory locks share the space of 63 bits.
    fn lock_number(&self) -> i64 {
        let Scope { uid, adopt: _, migration: _, phase } = self.scope;
        let hash = Sha256::digest(format!("alongside/scripts\0{uid}\0{phase}"));
        let first: [u8; 8] = hash[..8].try_into().expect("a SHA-256 has 32 bytes");
        i64::from_be_bytes(first) & i64::MAX
    }
}

/// What a history row says of a script.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// The script's version.
    pub version: &'a str,
    /// The script's name.
    pub name: &'a str,
    /// Checksum of the text that runs.
    pub checksum: &'a str,
}

/// Hash of statements' text, by which a changed beginning is noticed: SHA-256 in hexadecimal.
pub fn digest(text: &str) -> String {
    crate::engine::scripts::checksum(text)
}
