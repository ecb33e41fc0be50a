//! Looks each second at what users may feel and at whether the sync trigger is still what it was, and gives the orders.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    controls::Live,
    halt::Halt,
    throttle::{Pace, Reading, Seen, Throttle},
    work::{Orders, Work},
};
use crate::{
    stores::postgres::{
        QueryError, Session,
        chunks::{Chunks, RunState, SIGNALS},
        sync::Sync,
    },
    worker::progress::Progress,
};

/// How often everything is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks until it is dropped, or until something is wrong.
pub(super) struct Monitor<'a> {
    pub work: &'a Arc<Work>,
    pub session: &'a Session,
    /// What the trigger was like when it was made; `None` without one.
    pub sync: Option<(&'a Sync, &'a str)>,
    pub live: watch::Receiver<Live>,
    /// For whoever asks how far it is.
    pub shown: Progress,
    pub orders: watch::Sender<Orders>,
    pub stop: &'a CancellationToken,
}

/// Readings of the store with their times.
#[derive(Default)]
struct Readings {
    lag: Option<(f64, Instant)>,
    lock_waits: Option<(u32, Instant)>,
    connections: Option<(u32, Instant)>,
    replicas: u32,
    most_replicas: u32,
}

impl Monitor<'_> {
    /// Looks and gives orders, again and again. Returns only with what is wrong.
    pub async fn watch(&mut self) -> Halt {
        match self.look_on().await {
            Ok(never) => match never {},
            Err(halt) => halt,
        }
    }

    async fn look_on(&mut self) -> Result<std::convert::Infallible, Halt> {
        let action = &self.work.task.action;
        let mut throttle = Throttle::new(&self.live.borrow().limits(action));
        let mut readings = Readings::default();
        let began = Instant::now();
        let chunks = Chunks::new(self.session, &self.work.scope);
        loop {
            if !chunks.beat(&self.work.leader).await? {
                return Err(Halt::failed("Another worker has taken this run over."));
            }
            check_sync(self.session, self.work, self.sync).await?;
            let live = self.live.borrow_and_update().clone();
            let limits = live.limits(action);
            if limits.follows_signals() {
                self.read(&mut readings).await?;
            }
            let mut seen = readings.seen();
            seen.guard = live.guard(limits.guard.as_deref());
            let pace = throttle.step(began.elapsed(), &limits, &seen);
            self.order(&live, pace);
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                // New orders shouldn't wait for a second; new readings of a guard count once each by themselves.
                changed = self.live.changed() => changed.map_err(|_| Halt::Stopped)?,
                () = self.stop.cancelled() => std::future::pending().await,
            }
        }
    }

    fn order(&self, live: &Live, pace: Pace) {
        let action = &self.work.task.action;
        let workers = live.workers(action);
        let (duty, mut paused, mut throttled) = match pace {
            Pace::Work { duty, because } => {
                if let Some(because) = &because {
                    tracing::debug!(duty, because, "held back");
                }
                (duty, None, because)
            }
            Pace::Paused { because } => (1.0, Some(because.join("; ")), None),
        };
        // What a person says stands before what signals say.
        if let Some(why) = live.pause() {
            paused = Some(why.to_owned());
        }
        if self.work.progress.note_pause(paused.as_deref()) {
            if let Some(because) = &paused {
                tracing::warn!(because, "pauses");
            } else {
                tracing::info!("goes on");
            }
        }
        if let Some(why) = &paused {
            throttled = Some(format!("paused: {why}"));
        }
        self.show(throttled);
        let rate = live.rate(action).map(|rate| f64::from(rate.max(1)) / f64::from(workers));
        let orders = Orders { paused, duty, rate, workers };
        self.orders.send_if_modified(|present| {
            let is_news = *present != orders;
            *present = orders;
            is_news
        });
        tracing::debug!(
            scanned = self.work.progress.scanned.load(Ordering::Relaxed),
            changed = self.work.progress.changed.load(Ordering::Relaxed),
            "progress"
        );
    }

    fn show(&self, throttled: Option<String>) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, and no negative one")]
        let estimated = self.work.of.table.rows_estimated as u64;
        let scanned = u64::try_from(self.work.progress.scanned.load(Ordering::Relaxed)).unwrap_or(0);
        self.shown.reach(scanned);
        self.shown.set(|figures| {
            // A table that has never been analysed has no estimate, and one that grows outruns it.
            figures.total = (estimated > 0).then_some(estimated.max(scanned));
            figures.throttled = throttled;
        });
    }

    async fn read(&self, readings: &mut Readings) -> Result<(), Halt> {
        let ours = Chunks::new(self.session, &self.work.scope).backends().await?;
        let signals = match self.session.rows(SIGNALS, &[&ours]).await {
            Ok(rows) => rows,
            // Readings that aren't to be had get old, and that pauses.
            Err(QueryError::Refused(refusal)) => {
                tracing::warn!(%refusal, "the store's signals can't be read");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let Some(row) = signals.first() else { return Ok(()) };
        let now = Instant::now();
        let count = |column: &str| u32::try_from(row.get::<_, i64>(column)).unwrap_or(u32::MAX);
        if let Some(lag) = row.get::<_, Option<f64>>("lag_seconds") {
            readings.lag = Some((lag, now));
        }
        readings.lock_waits = Some((count("lock_waits"), now));
        readings.connections = Some((count("connections"), now));
        readings.replicas = count("replicas");
        readings.most_replicas = readings.most_replicas.max(readings.replicas);
        Ok(())
    }
}

impl Readings {
    fn seen(&self) -> Seen {
        fn aged<T: Copy>(reading: Option<(T, Instant)>) -> Option<Reading<T>> {
            reading.map(|(value, at)| Reading { value, age: at.elapsed() })
        }
        Seen {
            lag: aged(self.lag),
            replicas_missing: self.most_replicas - self.replicas,
            lock_waits: aged(self.lock_waits),
            connections: aged(self.connections),
            guard: None,
        }
    }
}

/// Stops a run whose trigger was away, however short: a write that it missed can't be told from one of a new version.
pub(super) async fn check_sync(session: &Session, work: &Work, sync: Option<(&Sync, &str)>) -> Result<(), Halt> {
    let Some((sync, print)) = sync else { return Ok(()) };
    let found = sync.print(session, work.of.table.oid).await?;
    if found.as_deref() == Some(print) {
        return Ok(());
    }
    Chunks::new(session, &work.scope).set_state(RunState::SyncLost).await?;
    Err(sync_lost(&work.of.table.name.to_string(), found.is_some()))
}

/// What is said where the trigger isn't the one that was made.
pub(super) fn sync_lost(table: &str, is_another: bool) -> Halt {
    let what = if is_another { "was changed or made again" } else { "is gone or switched off" };
    Halt::refused(format!(
        "The sync trigger of {table} {what} since the backfill began: writes that it missed may have left columns out of \
         date. Find out who did that. Another try makes the trigger again, and computes every row again that differs."
    ))
}
