//! The first copy (design section 9, P3): a slot and the snapshot of the very point where it begins, N copiers that all
//! see that snapshot, then the subscription from that slot.
//!
//! ```text
//!  slot + snapshot ─▶ holder re-exports it ─▶ copiers, a journal row a part ─▶ subscription and "done", in one commit
//!        ▲                                            │
//!        └──── the holder is lost: all over again ◀───┘
//! ```
//!
//! The guarantee: once "done" is committed, the target is the source as of the slot's beginning, and the subscription
//! brings every later change, once. What it does not do: go on with a copy whose snapshot is gone. Then what was copied
//! is thrown away and everything is copied under a new slot; a store of many hours' copying is copied again from the
//! start.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

use super::door::{Door, DoorError};
use crate::{
    api::ReplicateAction,
    stores::postgres::{
        QueryError, Session, conductor,
        replication::{self, Kind, Names, Stream, SubscribeError, Table},
        slot::{self, SlotError},
        snapshot_copy::{self, CopyError, Part},
    },
};

/// Tries of one part before the copy as a whole has failed.
const PART_TRIES: u32 = 5;

/// How far the copy is.
#[derive(Debug, Default)]
pub struct CopyProgress {
    /// Bytes of the tables, as they lie on the source's disk.
    pub bytes_to_copy: AtomicU64,
    /// Bytes that went over, as COPY writes them; not the same measure.
    pub bytes_copied: AtomicU64,
    /// Parts in all.
    pub parts: AtomicU64,
    /// Parts committed.
    pub parts_done: AtomicU64,
    /// Rows committed.
    pub rows: AtomicU64,
    /// How often it began anew because the snapshot was lost.
    pub restarts: AtomicU64,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyHalt {
    /// It can't be done as it stands.
    #[error("{0}")]
    Refused(String),
    /// A store isn't reached.
    #[error("could not reach a store")]
    Door(#[from] DoorError),
    /// A store said no, or the connection was lost.
    #[error("could not prepare the copy")]
    Query(#[from] QueryError),
    /// No slot.
    #[error("could not begin the copy")]
    Slot(#[from] SlotError),
    /// A part failed.
    #[error("could not copy")]
    Copy(#[from] CopyError),
    /// No subscription.
    #[error("could not follow the copy up")]
    Subscribe(#[from] SubscribeError),
}

impl CopyHalt {
    /// Whether beginning anew may help.
    pub fn may_pass(&self) -> bool {
        let query = |error: &QueryError| match error {
            QueryError::Lost { .. } => true,
            QueryError::Refused(refusal) => refusal.may_pass() || refusal.sqlstate.starts_with("57"),
            QueryError::Unexpected { .. } | QueryError::Stopped => false,
        };
        match self {
            Self::Refused(_) => false,
            Self::Door(error) => error.may_pass(),
            Self::Query(error) | Self::Subscribe(SubscribeError::Query(error)) => query(error),
            Self::Slot(SlotError::Connect(error)) | Self::Subscribe(SubscribeError::Source(error)) => error.may_pass(),
            Self::Slot(SlotError::Create { .. } | SlotError::Late { .. }) => true,
            Self::Copy(error) => {
                // 22023: the snapshot is gone with its holder.
                let gone = |refusal: &crate::stores::postgres::session::Refusal| refusal.sqlstate == "22023";
                query(error.cause()) || matches!(error.cause(), QueryError::Refused(refusal) if gone(refusal))
            }
        }
    }
}

/// One migration's first copy.
pub struct Copy<'a> {
    /// The store that is copied.
    pub source: &'a Door,
    /// The copy.
    pub target: &'a Door,
    /// What our own objects are called.
    pub names: &'a Names,
    /// What the user wrote.
    pub action: &'a ReplicateAction,
    /// Ends it between two statements.
    pub stop: &'a CancellationToken,
    /// Hears how far it is.
    pub progress: &'a CopyProgress,
}

impl Copy<'_> {
    /// Sees that the copy is there and followed up: does nothing where it was done before, and begins anew where it was
    /// begun. One try; an error that [`CopyHalt::may_pass`] is worth another.
    pub async fn ensure(&self) -> Result<(), CopyHalt> {
        let source = self.source.open(self.stop).await?;
        let target = self.target.open(self.stop).await?;
        let begun = conductor::copy_done(&target, self.names).await?;
        if begun == Some(true) {
            return Ok(());
        }
        let tables = BothTables::read(&source, &target, &self.action.tables).await?;
        // An earlier beginning may have met other tables.
        replication::publish(&source, self.names, &tables.source).await?;
        replication::publish(&target, self.names, &tables.target).await?;
        match begun {
            Some(_) => {
                self.progress.restarts.fetch_add(1, Ordering::Relaxed);
                self.throw_away(&source, &target, &tables.target).await?;
            }
            None => self.refuse_rows(&target, &tables.target).await?,
        }
        // Before the slot: whoever comes after us must know that the target's rows are ours.
        self.begin(&target).await?;
        let fwd = self.names.stream(Stream::Forward);
        let exported = slot::create_exported(&self.source.postgres, &fwd).await?;
        tracing::info!(slot = fwd, at = exported.consistent_point, "copies as of this point");
        let holder = self.source.open(self.stop).await?;
        snapshot_copy::import(&holder, &exported.snapshot).await?;
        snapshot_copy::hold(&holder, &tables.source).await?;
        let snapshot = snapshot_copy::export(&holder).await?;
        drop(exported);
        self.copy_parts(&tables.source, &snapshot).await?;
        // The holder was there to the end, so every part saw the same.
        holder.roll_back().await?;
        target.run("BEGIN").await?;
        replication::subscribe(&target, self.names, Stream::Forward, &self.source.postgres, true).await?;
        target.run(&format!("UPDATE {}.copy SET done = true", self.names.schema())).await?;
        target.commit().await?;
        for table in &tables.target {
            target.run(&format!("ANALYZE {}", table.name)).await?;
        }
        Ok(())
    }

    async fn begin(&self, target: &Session) -> Result<(), CopyHalt> {
        let schema = self.names.schema();
        let sql = format!("INSERT INTO {schema}.copy (snapshot, done) VALUES ('', false) ON CONFLICT DO NOTHING");
        Ok(target.run(&sql).await?)
    }

    async fn refuse_rows(&self, target: &Session, tables: &[Table]) -> Result<(), CopyHalt> {
        for table in tables {
            let sql = format!("SELECT EXISTS (SELECT FROM {})", table.name);
            if target.value::<bool>(&sql, &[]).await? {
                return Err(CopyHalt::Refused(format!(
                    "The table {} of the new store has rows. Empty it, or leave it out of `tables`.",
                    table.name
                )));
            }
        }
        Ok(())
    }

    /// Takes back a copy that was begun and not done: every row in these tables is its.
    async fn throw_away(&self, source: &Session, target: &Session, tables: &[Table]) -> Result<(), CopyHalt> {
        replication::drop_subscription(target, self.names, Stream::Forward).await?;
        slot::drop_slot(source, &self.names.stream(Stream::Forward)).await?;
        let list = tables.iter().map(|table| table.name.to_string()).collect::<Vec<_>>().join(", ");
        let schema = self.names.schema();
        target.run("BEGIN; SET LOCAL session_replication_role = replica").await?;
        let sql = format!("TRUNCATE {list}; TRUNCATE {schema}.copied; COMMIT");
        if let Err(error) = target.run(&sql).await {
            let _ = target.roll_back().await;
            return Err(error.into());
        }
        Ok(())
    }

    async fn copy_parts(&self, tables: &[Table], snapshot: &str) -> Result<(), CopyHalt> {
        let plain: Vec<_> = tables.iter().filter(|table| table.kind == Kind::Plain).cloned().collect();
        let parts = snapshot_copy::parts(&plain);
        let pages: i64 = plain.iter().map(|table| table.pages).sum();
        let progress = self.progress;
        progress.bytes_to_copy.store(u64::try_from(pages).unwrap_or(0) * 8_192, Ordering::Relaxed);
        progress.bytes_copied.store(0, Ordering::Relaxed);
        progress.parts.store(parts.len() as u64, Ordering::Relaxed);
        progress.parts_done.store(0, Ordering::Relaxed);
        progress.rows.store(0, Ordering::Relaxed);
        let copiers = parts.len().min(self.action.copiers().into());
        let queue = Mutex::new(VecDeque::from(parts));
        try_join_all((0..copiers).map(|_| self.copy_from(&queue, snapshot))).await.map(|_| ())
    }

    /// One copier: takes parts until none is left.
    async fn copy_from(&self, queue: &Mutex<VecDeque<Part>>, snapshot: &str) -> Result<(), CopyHalt> {
        let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let mut sessions = None;
        while let Some(part) = take() {
            let mut tries = 0;
            loop {
                let (source, target) = match &sessions {
                    Some(both) => both,
                    None => sessions.insert(self.sessions_at(snapshot).await?),
                };
                let tell = |bytes| {
                    self.progress.bytes_copied.fetch_add(bytes, Ordering::Relaxed);
                };
                let error = match snapshot_copy::copy(source, target, self.names, snapshot, &part, tell).await {
                    Ok(rows) => {
                        self.progress.rows.fetch_add(rows, Ordering::Relaxed);
                        self.progress.parts_done.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Err(error) => error,
                };
                tries += 1;
                let may_pass = matches!(error.cause(), QueryError::Refused(refusal) if refusal.may_pass());
                if !may_pass || tries >= PART_TRIES {
                    return Err(error.into());
                }
                // The source's transaction may have failed with it; the snapshot is the holder's and still there.
                sessions = None;
            }
        }
        Ok(())
    }

    async fn sessions_at(&self, snapshot: &str) -> Result<(Session, Session), CopyHalt> {
        let source = self.source.open(self.stop).await?;
        snapshot_copy::import(&source, snapshot).await?;
        Ok((source, self.target.open(self.stop).await?))
    }
}

/// The same tables in either store.
#[derive(Clone, Debug)]
pub struct BothTables {
    /// In the one that is copied.
    pub source: Vec<Table>,
    /// In the copy.
    pub target: Vec<Table>,
}

impl BothTables {
    /// Reads them, and refuses what doesn't agree.
    pub async fn read(source: &Session, target: &Session, patterns: &[String]) -> Result<Self, CopyHalt> {
        let from = replication::tables(source, patterns).await?;
        let to = replication::tables(target, patterns).await?;
        if let Some(first) = differences(&from, &to).into_iter().next() {
            return Err(CopyHalt::Refused(first));
        }
        Ok(Self::shared(from, to))
    }

    /// Reads them as they are by now, long after the copy: what has become different is for the streams to say.
    pub async fn read_again(source: &Session, target: &Session, patterns: &[String]) -> Result<Self, CopyHalt> {
        let from = replication::tables(source, patterns).await?;
        let to = replication::tables(target, patterns).await?;
        Ok(Self::shared(from, to))
    }

    fn shared(from: Vec<Table>, to: Vec<Table>) -> Self {
        // The target may have tables that the source hasn't; they are nobody's business here.
        let of_source = |table: &Table| from.iter().any(|there| there.name == table.name);
        let target = to.into_iter().filter(of_source).collect();
        Self { source: from, target }
    }
}

/// What keeps rows of the source from being the target's, in sentences.
pub fn differences(source: &[Table], target: &[Table]) -> Vec<String> {
    if source.is_empty() {
        return vec!["No table of the old store has a name that `tables` lists.".to_owned()];
    }
    let mut found = Vec::new();
    for table in source {
        let Some(there) = target.iter().find(|there| there.name == table.name) else {
            found.push(format!("The new store has no table {}.", table.name));
            continue;
        };
        if there.kind != table.kind {
            found.push(format!("The table {} is partitioned in one store and not in the other.", table.name));
        }
        for column in &table.columns {
            match there.columns.iter().find(|other| other.name == column.name) {
                None => found.push(format!("The new store's table {} has no column {}.", table.name, column.name)),
                Some(other) if other.type_name != column.type_name => found.push(format!(
                    "The column {} of {} is {} in the old store and {} in the new.",
                    column.name, table.name, column.type_name, other.type_name
                )),
                Some(_) => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::postgres::{ident::QualifiedName, replication::Column};

    fn table(name: &str, columns: &[(&str, &str)]) -> Table {
        let column = |(name, kind): &(&str, &str)| Column { name: (*name).into(), type_name: (*kind).into() };
        Table {
            name: QualifiedName { schema: "public".into(), name: name.into() },
            oid: 1,
            kind: Kind::Plain,
            columns: columns.iter().map(column).collect(),
            owned: true,
            has_identity: true,
            pages: 0,
        }
    }

    #[test]
    fn tables_agree_whatever_the_order_of_their_columns() {
        let source = [table("orders", &[("id", "bigint"), ("note", "text")])];
        let target = [table("orders", &[("note", "text"), ("id", "bigint"), ("more", "text")]), table("own", &[])];
        assert_eq!(differences(&source, &target), [""; 0]);
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_named() {
        let source = [table("orders", &[("id", "bigint"), ("note", "text")]), table("gone", &[])];
        let target = [table("orders", &[("id", "integer")])];
        let found = differences(&source, &target);
        assert_eq!(found.len(), 3);
        assert!(found[0].contains("id of \"public\".\"orders\" is bigint in the old store and integer in the new"));
        assert!(found[1].contains("has no column note"));
        assert!(found[2].contains("no table \"public\".\"gone\""));
        assert!(differences(&[], &target)[0].contains("No table of the old store"));
    }
}
