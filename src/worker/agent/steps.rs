//! The steps, one function each: what [`super::course`] has decided, done on the two stores. Each can be done again.

use std::time::{Duration, Instant};

use super::{
    conductor::{Conductor, Marks, PREPARE_TIMEOUT, StepError},
    course::{Clients, Side, Step, source},
};
use crate::stores::postgres::{
    QueryError, Session,
    gate::{self, Fence},
    heartbeat,
    replication::{self, Names, Stream},
    sequence, slot,
};

/// How long putting the trigger on a table may make its writers wait; then it is tried again.
const GUARD_LOCK_TIMEOUT: &str = "300ms";
/// The same for anything else that needs a lock.
const LOCK_TIMEOUT: &str = "5s";
/// Between two looks for the heartbeat under the fence. Clients wait meanwhile.
const HEARTBEAT_POLL: Duration = Duration::from_millis(1);

impl Conductor {
    pub(super) async fn try_step(&mut self, step: Step) -> Result<(), StepError> {
        match step {
            Step::Guard(side) => self.guard(side).await,
            Step::Mend(side) => self.on(side, async |session, names| gate::mend(session, names).await).await,
            Step::Lift => self.lift().await,
            Step::Resume => self.resume().await,
            Step::Prepare(stream) => self.prepare(stream).await,
            Step::Drop(stream) => self.drop_stream(stream).await,
            Step::Enable(stream) => {
                let side = source(stream).other();
                self.on(side, async |session, names| replication::enable(session, names, stream).await).await
            }
            Step::Intend(term) => {
                let side = Side::serving(term).other();
                self.reach(side).await?;
                let changes = self.changes(side).await?;
                self.last_schema = Some((Instant::now(), !changes.is_empty()));
                if !changes.is_empty() {
                    return Err(StepError::Changed(changes.join(", ")));
                }
                self.on(side, async |session, names| gate::intend(session, names, term).await).await?;
                // Opened now, so that nobody waits for it later.
                self.spare = Some(self.open(side).await?);
                Ok(())
            }
            Step::Pause => self.pause().await,
            Step::Fence(term) => self.shut(term).await,
            Step::CatchUp => self.catch_up().await,
            Step::Sequences => self.raise_sequences().await,
            Step::Advance(stream) => self.advance(stream).await,
            Step::Commit(term) => self.commit(term).await,
            Step::Open(term) => {
                let side = Side::serving(term);
                self.on(side, async |session, names| gate::open(session, names, term, false).await).await
            }
            Step::Force(term) => self.force(term).await,
            Step::ShutLate(term) => {
                let side = Side::serving(term).other();
                self.on(side, async |session, names| gate::shut_late(session, names, term).await).await
            }
        }
    }

    async fn on(
        &mut self,
        side: Side,
        work: impl AsyncFnOnce(&Session, &Names) -> Result<(), QueryError>,
    ) -> Result<(), StepError> {
        self.reach(side).await?;
        let session = self.session(side)?;
        work(session, &self.names).await.map_err(|source| StepError::Query { side, source })
    }

    async fn guard(&mut self, side: Side) -> Result<(), StepError> {
        let tables = self.tables.of(side).clone();
        self.on(side, async |session, names| {
            session.set_lock_timeout(GUARD_LOCK_TIMEOUT).await?;
            let installed = gate::install(session, names, &tables).await;
            session.set_lock_timeout(LOCK_TIMEOUT).await?;
            installed
        })
        .await
    }

    pub(super) async fn lift(&mut self) -> Result<(), StepError> {
        self.marks = Marks::default();
        if let Some(fence) = self.fence.take() {
            // Its end lifts it, too: the answer only says that it is so by now.
            let _ = fence.lift().await;
        }
        Ok(())
    }

    pub(super) async fn resume(&mut self) -> Result<(), StepError> {
        if let Some(bouncers) = &self.bouncers {
            // Said first: a console that doesn't answer in time ends this midway.
            self.clients = Clients::Unreachable;
            bouncers.resume().await?;
            self.clients = Clients::Flowing;
        }
        Ok(())
    }

    async fn prepare(&mut self, stream: Stream) -> Result<(), StepError> {
        let (from, to) = (source(stream), source(stream).other());
        self.both().await?;
        let of_source = |source| StepError::Query { side: from, source };
        // A session of its own: it waits for transactions that are open, and ends with the stop.
        let making = self.doors.of(from).open(&self.stop).await;
        let making = making.map_err(|source| StepError::Door { side: from, source })?;
        making.reset(PREPARE_TIMEOUT, Some(PREPARE_TIMEOUT)).await.map_err(of_source)?;
        slot::create(&making, &self.names.stream(stream)).await.map_err(of_source)?;
        let target = self.session(to)?;
        replication::subscribe(target, &self.names, stream, &self.doors.of(from).postgres, false)
            .await
            .map_err(|source| StepError::Subscribe { side: to, source })
    }

    async fn drop_stream(&mut self, stream: Stream) -> Result<(), StepError> {
        let (from, to) = (source(stream), source(stream).other());
        // The subscription first: it would read from the slot again.
        self.on(to, async |session, names| replication::drop_subscription(session, names, stream).await).await?;
        let slot = self.names.stream(stream);
        self.on(from, async |session, _| slot::drop_slot(session, &slot).await).await
    }

    pub(super) fn left(&self) -> Result<Duration, StepError> {
        let held = self.held_since.map_or(Duration::ZERO, |since| since.elapsed());
        let left = self.deadline.checked_sub(held).filter(|left| !left.is_zero());
        left.ok_or(StepError::Deadline(held))
    }

    async fn pause(&mut self) -> Result<(), StepError> {
        self.held_since = Some(Instant::now());
        let limit = self.left()?;
        if let Some(bouncers) = &self.bouncers {
            self.clients = Clients::Unknown;
            bouncers.pause(limit).await?;
            self.clients = Clients::Paused;
        }
        Ok(())
    }

    async fn shut(&mut self, term: u32) -> Result<(), StepError> {
        let side = Side::serving(term).other();
        self.marks = Marks::default();
        let session = match self.spare.take() {
            Some(session) => session,
            None => self.open(side).await?,
        };
        self.held_since.get_or_insert_with(Instant::now);
        let left = self.left()?;
        let fence = Fence::shut(session, &self.names, term, left, left).await;
        self.fence = Some(fence.map_err(|source| StepError::Fence { side, source })?);
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), StepError> {
        let from = self.fenced_side()?;
        let stream = from.feeds();
        self.both().await?;
        let query = |side| move |source| StepError::Query { side, source };
        let beat = heartbeat::beat(self.session(from)?, &self.names, stream).await.map_err(query(from))?;
        let target = self.session(from.other())?;
        loop {
            self.left()?;
            let shown = heartbeat::shown(target, &self.names, stream).await.map_err(query(from.other()))?;
            if shown >= beat {
                break;
            }
            tokio::time::sleep(HEARTBEAT_POLL).await;
        }
        // What the apply worker has committed shows, but its commits may not be on disk yet.
        gate::flush(target, &self.names).await.map_err(query(from.other()))?;
        self.marks.caught_up = true;
        Ok(())
    }

    /// The side that the fence is on: the one that serves.
    fn fenced_side(&self) -> Result<Side, StepError> {
        if self.fence.is_none() {
            return Err(StepError::Unfenced);
        }
        Ok(Side::serving(self.known))
    }

    async fn raise_sequences(&mut self) -> Result<(), StepError> {
        let from = self.fenced_side()?;
        self.both().await?;
        let to = from.other();
        let oids = |side: Side| self.tables.of(side).iter().map(|table| table.oid).collect::<Vec<_>>();
        let query = |side| move |source| StepError::Query { side, source };
        let (from_oids, to_oids) = (oids(from), oids(to));
        let (source, target) = tokio::join!(
            sequence::read(self.session(from)?, &from_oids, &self.patterns),
            sequence::read(self.session(to)?, &to_oids, &self.patterns)
        );
        let raises = sequence::raises(&source.map_err(query(from))?, &target.map_err(query(to))?);
        sequence::set(self.session(to)?, &raises).await.map_err(query(to))?;
        self.marks.sequences = true;
        Ok(())
    }

    /// What came by replication must not go back where it came from.
    ///
    /// The slot is moved past it; the move commits; the slot's server crashes before a checkpoint, and the slot is where it
    /// was; the stream is enabled, and old values of rows are applied over new ones. So the reader is told where to begin,
    /// too, and its server has that on disk before the move can commit.
    async fn advance(&mut self, stream: Stream) -> Result<(), StepError> {
        let (from, to) = (source(stream), source(stream).other());
        self.both().await?;
        let query = |side| move |source| StepError::Query { side, source };
        let place = slot::advance(self.session(from)?, &self.names.stream(stream)).await.map_err(query(from))?;
        let target = self.session(to)?;
        replication::begin_after(target, &self.names, stream, &place).await.map_err(query(to))?;
        gate::flush(target, &self.names).await.map_err(query(to))?;
        self.marks.advanced = true;
        Ok(())
    }

    async fn commit(&mut self, term: u32) -> Result<(), StepError> {
        let side = Side::serving(term).other();
        let fence = self.fence.take().ok_or(StepError::Unfenced)?;
        self.marks = Marks::default();
        fence.commit(&self.names, term).await.map_err(|source| StepError::Query { side, source })?;
        self.known = term;
        self.last_lag = None;
        Ok(())
    }

    async fn force(&mut self, term: u32) -> Result<(), StepError> {
        let side = Side::serving(term);
        let stream = side.other().feeds();
        self.on(side, async |session, names| {
            // First: what comes from there later would meet rows that were written here since.
            if replication::subscription(session, names, stream).await?.is_some() {
                replication::disable(session, names, stream).await?;
            }
            gate::open(session, names, term, true).await
        })
        .await?;
        self.known = term;
        Ok(())
    }
}
