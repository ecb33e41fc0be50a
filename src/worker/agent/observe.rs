//! Looking: what is true of both stores, their streams, the Service and the clients. Changes nothing but the heartbeat.

use std::time::{Duration, Instant};

use super::{
    conductor::{Conductor, QUIET, SILENCE, StepError},
    course::{Pair, Seen, Side, StreamState, World, source},
    state::StreamReport,
};
use crate::stores::postgres::{
    gate, heartbeat,
    replication::{self, Stream, Table},
    slot,
};

/// Between two heartbeats.
const BEAT: Duration = Duration::from_millis(500);
/// Between two looks at the tables that there are.
const SCHEMA: Duration = Duration::from_secs(5);
/// How long a look waits for the heartbeat that it has sent.
const BEAT_WAIT: Duration = Duration::from_millis(100);
const BEAT_POLL: Duration = Duration::from_millis(2);
/// A transaction that has written and is open for longer than this, in seconds, would hold up a fence.
const LONG_WRITER: f64 = 2.0;
/// A stream that is ready but applies nothing keeps WAL: it is moved on once it keeps more than this, in bytes.
const IDLE_WAL: i64 = 16 * 1024 * 1024;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Sight {
    /// For the course.
    pub world: World,
    /// For the report.
    pub forward: StreamReport,
    /// Likewise.
    pub reverse: StreamReport,
    /// How far the side that doesn't serve is behind, at most.
    pub lag: Option<Duration>,
    /// Why a side wasn't seen.
    pub trouble: Option<Trouble>,
}

/// What kept a side from being seen, and whether it is for good.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// In words.
    pub text: String,
    /// Another process conducts.
    pub superseded: bool,
}

/// A slot without its WAL is of no use to anybody.
fn state_of(slot: Option<&slot::SlotState>, subscription: Option<&replication::Subscription>) -> StreamState {
    match (slot, subscription) {
        (None, None) => StreamState::Absent,
        (Some(slot), Some(subscription)) if slot.wal_status != "lost" => {
            if subscription.enabled {
                StreamState::Enabled
            } else {
                StreamState::Ready
            }
        }
        (Some(_) | None, Some(_) | None) => StreamState::Broken,
    }
}

impl Conductor {
    /// Looks. `max_lag`: how far behind the other side may be for a fence to be begun.
    pub async fn observe(&mut self, max_lag: Duration) -> Sight {
        let mut trouble = None;
        let mut sides = Pair { blue: None, green: None };
        for side in Side::ALL {
            match self.look_in_time(side).await {
                Ok(seen) => *sides.of_mut(side) = Some(seen),
                Err(error) => {
                    self.forget_lost(&error);
                    trouble = Some(told(&error));
                }
            }
        }
        if let (Some(blue), Some(green)) = (sides.blue, sides.green) {
            let (blue, green): (Seen, Seen) = (blue, green);
            self.known = self.known.max(blue.gate.term).max(green.gate.term);
        }
        let forward = self.stream_in_time(Stream::Forward).await;
        let reverse = self.stream_in_time(Stream::Reverse).await;
        let serving = Side::serving(self.known);
        let out = match serving.feeds() {
            Stream::Forward => &forward,
            Stream::Reverse => &reverse,
        };
        let fed = out.state == Some(StreamState::Enabled);
        let asking = async {
            let lag = if fed { self.lag(serving).await } else { None };
            (lag, self.is_busy(serving).await)
        };
        let asked = tokio::time::timeout(SILENCE, asking).await;
        let (lag, busy) = asked.unwrap_or_else(|_| {
            self.forget_both();
            (None, false)
        });
        let opened = sides.of(serving).is_some_and(|seen: Seen| seen.gate.open && seen.gate.term == self.known);
        let leads_to = if opened || self.known == 0 { Some(serving) } else { self.probe(serving).await };
        let world = World {
            sides,
            known: self.known,
            forward: forward.state,
            reverse: reverse.state,
            close: lag.is_some_and(|lag| lag <= max_lag),
            busy,
            changed: self.is_changed(serving).await,
            clients: self.clients,
            leads_to,
            fenced: self.is_fenced(),
            caught_up: self.marks.caught_up,
            sequences: self.marks.sequences,
            advanced: self.marks.advanced,
        };
        Sight { world, forward, reverse, lag, trouble }
    }

    /// Looks at a side, unless it is silent.
    async fn look_in_time(&mut self, side: Side) -> Result<Seen, StepError> {
        if self.silent.of(side).is_some_and(|since| since.elapsed() < QUIET) {
            return Err(StepError::Silent(SILENCE));
        }
        let Ok(seen) = tokio::time::timeout(SILENCE, self.look(side)).await else {
            *self.silent.of_mut(side) = Some(Instant::now());
            self.forget(side);
            return Err(StepError::Silent(SILENCE));
        };
        seen
    }

    async fn look(&mut self, side: Side) -> Result<Seen, StepError> {
        self.reach(side).await?;
        let session = self.session(side)?;
        let query = |source| StepError::Query { side, source };
        let gate = gate::read(session, self.names()).await.map_err(query)?;
        let guarded = gate::guarded(session, self.names()).await.map_err(query)?;
        let guarded = self.tables.of(side).iter().all(|table| guarded.contains(&table.name));
        Ok(Seen { gate, guarded })
    }

    async fn stream_in_time(&mut self, stream: Stream) -> StreamReport {
        tokio::time::timeout(SILENCE, self.stream(stream)).await.unwrap_or_else(|_| {
            // One of the two; the next look tells which.
            self.forget_both();
            StreamReport::default()
        })
    }

    async fn stream(&self, stream: Stream) -> StreamReport {
        let (from, to) = (source(stream), source(stream).other());
        let (Ok(source), Ok(target)) = (self.session(from), self.session(to)) else { return StreamReport::default() };
        let name = self.names().stream(stream);
        let (slot, subscription) =
            tokio::join!(slot::state(source, &name), replication::subscription(target, self.names(), stream));
        let (Ok(slot), Ok(subscription)) = (slot, subscription) else { return StreamReport::default() };
        let state = state_of(slot.as_ref(), subscription.as_ref());
        let retained = slot.as_ref().and_then(|slot| slot.retained_bytes);
        if state == StreamState::Ready && retained.is_some_and(|bytes| bytes > IDLE_WAL) {
            // Nothing of what it keeps is ever applied: the fence moves it past all there is before it is enabled.
            let _ = slot::advance(source, &name).await;
        }
        StreamReport {
            state: Some(state),
            retained_bytes: retained,
            errors: subscription.as_ref().map_or(0, |subscription| subscription.errors),
            applying: subscription.is_some_and(|subscription| subscription.worker.is_some()),
        }
    }

    /// The time that a heartbeat takes to show; while it doesn't, the age of the last that does.
    async fn lag(&mut self, serving: Side) -> Option<Duration> {
        if let Some((at, lag)) = self.last_lag
            && at.elapsed() < BEAT
        {
            return Some(lag);
        }
        let stream = serving.feeds();
        let (source, target) = (self.session(serving).ok()?, self.session(serving.other()).ok()?);
        let beat = heartbeat::beat(source, self.names(), stream).await.ok()?;
        let sent = Instant::now();
        let mut lag = None;
        while lag.is_none() && sent.elapsed() < BEAT_WAIT {
            let shown = heartbeat::shown(target, self.names(), stream).await.ok()?;
            lag = (shown >= beat).then(|| sent.elapsed());
            tokio::time::sleep(BEAT_POLL).await;
        }
        if lag.is_none() {
            let age = heartbeat::age(source, target, self.names(), stream).await.ok()??;
            lag = u64::try_from(age).ok().map(Duration::from_millis);
        }
        self.last_lag = lag.map(|lag| (Instant::now(), lag));
        lag
    }

    async fn is_busy(&self, serving: Side) -> bool {
        let Ok(session) = self.session(serving) else { return false };
        // Not being able to tell is no reason to hold: the fence has a deadline.
        replication::long_writers(session, LONG_WRITER).await.is_ok_and(|writers| !writers.is_empty())
    }

    /// Whether the serving side's tables differ from those that were copied. Looked at now and then; the beginning of a
    /// move looks again.
    async fn is_changed(&mut self, serving: Side) -> bool {
        if let Some((at, changed)) = self.last_schema
            && at.elapsed() < SCHEMA
        {
            return changed;
        }
        match tokio::time::timeout(SILENCE, self.changes(serving)).await {
            Ok(Ok(changes)) => {
                self.last_schema = Some((Instant::now(), !changes.is_empty()));
                !changes.is_empty()
            }
            // Not being able to look is said elsewhere.
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// What is different about the serving side's tables, in words.
    pub(super) async fn changes(&self, serving: Side) -> Result<Vec<String>, StepError> {
        let query = |source| StepError::Query { side: serving, source };
        let now = replication::tables(self.session(serving)?, self.patterns()).await.map_err(query)?;
        let copied = self.tables.of(serving);
        let of = |tables: &[Table], name| tables.iter().find(|table| table.name == name).cloned();
        let made = now.iter().filter(|table| of(copied, table.name.clone()).is_none());
        let mut changes: Vec<_> = made.map(|table| format!("{} is new", table.name)).collect();
        for table in copied {
            match of(&now, table.name.clone()) {
                None => changes.push(format!("{} is gone", table.name)),
                Some(there) if there.oid != table.oid => changes.push(format!("{} is another one", table.name)),
                Some(there) if there.columns != table.columns => {
                    changes.push(format!("{} has other columns", table.name));
                }
                Some(_) => {}
            }
        }
        Ok(changes)
    }

    /// Bytes of WAL on a side that its stream has not carried over, if it can be asked.
    pub(super) async fn not_carried(&self, from: Side) -> Option<i64> {
        let session = self.session(from).ok()?;
        let slot = self.names().stream(from.feeds());
        let asked = tokio::time::timeout(SILENCE, slot::state(session, &slot)).await.ok()?;
        asked.ok()??.behind_bytes
    }
}

fn told(error: &StepError) -> Trouble {
    use crate::{stores::postgres::connect::chain, worker::replicate::door::DoorError};
    let superseded = matches!(error, StepError::Door { source: DoorError::Superseded { .. }, .. });
    Trouble { text: chain(error), superseded }
}
