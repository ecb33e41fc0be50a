//! The sessions of a verification, and snapshots shared among them.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{
    evidence::{BarrierSeen, StoreSeen},
    halt::Halt,
};
use crate::{
    api::Time,
    stores::postgres::{
        Postgres, Session,
        barrier::{self, Heartbeat, Missed, Snapshots, Trio},
        catalog,
        checksum::pin_settings,
    },
};

/// How long a reading may wait for a lock: only a change of the table's structure is in its way.
const READ_LOCK_WAIT: Duration = Duration::from_secs(5);

/// Two sessions that read the same portion, one on each side.
pub(super) struct Pair {
    pub from: Session,
    pub to: Session,
}

/// All sessions between two stores.
pub(super) struct Pool {
    lock: Session,
    from: Session,
    to: Session,
    /// Reads keys ahead on the old side.
    pub walker: Session,
    pub pairs: Vec<Pair>,
}

/// How sessions are opened.
#[derive(Clone, Copy)]
pub(super) struct Opening<'a> {
    pub statement_timeout: Duration,
    pub stop: &'a CancellationToken,
}

impl Opening<'_> {
    /// Opens a session whose settings are pinned.
    pub async fn pinned(&self, store: &Postgres) -> Result<Session, Halt> {
        let session = self.plain(store).await?;
        pin_settings(&session).await?;
        Ok(session)
    }

    /// Opens a session with bounded waits and the role's own settings otherwise.
    pub async fn plain(&self, store: &Postgres) -> Result<Session, Halt> {
        let session = store.connect(self.stop).await?;
        session.reset(READ_LOCK_WAIT, Some(self.statement_timeout)).await?;
        Ok(session)
    }
}

impl Pool {
    /// Opens all sessions.
    pub async fn open(opening: Opening<'_>, from: &Postgres, to: &Postgres, pairs: usize) -> Result<Self, Halt> {
        let mut open = Vec::with_capacity(pairs);
        for _ in 0..pairs {
            let (from, to) = tokio::try_join!(opening.pinned(from), opening.pinned(to))?;
            open.push(Pair { from, to });
        }
        let (lock, keeper, walker, to) =
            tokio::try_join!(opening.pinned(from), opening.pinned(from), opening.pinned(from), opening.pinned(to))?;
        Ok(Self { lock, from: keeper, to, walker, pairs: open })
    }

    /// The old side's session for questions between two portions.
    pub fn from(&self) -> &Session {
        &self.from
    }

    /// The new side's session for questions between two portions.
    pub fn to(&self) -> &Session {
        &self.to
    }

    /// The sessions of a barrier.
    pub fn trio(&self) -> Trio<'_> {
        Trio { lock: &self.lock, from: &self.from, to: &self.to }
    }

    /// Takes snapshots of one moment and lets these pairs see what they show, each in a transaction that is open
    /// afterwards. Without a heartbeat the stores are taken to be at rest.
    pub async fn snapshots(
        &self,
        table: &crate::stores::postgres::ident::QualifiedName,
        heartbeat: Option<&Heartbeat>,
        pairs: &[Pair],
    ) -> Result<Result<BarrierSeen, Missed>, Halt> {
        let Snapshots { from, to, cost } = match heartbeat {
            Some(heartbeat) => match barrier::snapshots(&self.trio(), table, heartbeat).await? {
                Ok(snapshots) => snapshots,
                Err(missed) => return Ok(Err(missed)),
            },
            None => barrier::snapshots_at_rest(&self.from, &self.to).await?,
        };
        let at = now();
        for pair in pairs {
            tokio::try_join!(barrier::import(&pair.from, &from), barrier::import(&pair.to, &to))?;
        }
        // Whoever has imported a snapshot keeps it by itself.
        tokio::try_join!(self.from.roll_back(), self.to.roll_back())?;
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Ok(Ok(BarrierSeen { at, from, to, lock_wait_us: us(cost.lock_wait), held_us: us(cost.held) }))
    }
}

impl Pair {
    /// Ends the transactions that a snapshot was imported into.
    pub async fn let_go(&self) -> Result<(), Halt> {
        tokio::try_join!(self.from.roll_back(), self.to.roll_back())?;
        Ok(())
    }
}

/// Who a store is.
pub(super) async fn store_seen(session: &Session, name: &str) -> Result<StoreSeen, Halt> {
    let row = catalog::identity(session).await?;
    let row = row.first().ok_or_else(|| Halt::Failed("The store doesn't say who it is.".to_owned()))?;
    Ok(StoreSeen {
        name: name.to_owned(),
        system_identifier: row.get("system_identifier"),
        database: row.get("database"),
        version: row.get("version"),
    })
}

/// The worker's clock.
pub(super) fn now() -> Time {
    Time(jiff::Timestamp::now().as_millisecond())
}
