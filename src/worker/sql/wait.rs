//! Waiting with growing delays, ended by a stop.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::halt::Halt;
use crate::{
    stores::postgres::{ConnectError, Postgres, QueryError, Session},
    worker::ladder::{Climb, Ladder},
};

/// How waits go in one run.
pub(super) struct Waits<'a> {
    ladder: Ladder,
    pub stop: &'a CancellationToken,
}

impl<'a> Waits<'a> {
    pub fn new(ladder: Ladder, stop: &'a CancellationToken) -> Self {
        Self { ladder, stop }
    }

    /// A fresh ladder, with noise of its own.
    pub fn climb(&self) -> Climb {
        self.ladder.climb(noise())
    }

    /// A fresh ladder whose delays stay short: for what ends at once when it ends.
    pub fn quick_climb(&self, longest: Duration) -> Climb {
        let mut ladder = self.ladder;
        ladder.longest.0 = ladder.longest.0.min(longest);
        ladder.climb(noise())
    }

    /// How long a wait is worth it.
    pub fn patience(&self) -> Duration {
        self.ladder.give_up_after.0
    }

    /// Waits, unless told to stop.
    pub async fn pause(&self, delay: Duration) -> Result<(), Halt> {
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(()),
            () = self.stop.cancelled() => {
                Err(Halt::Stopped { message: "Stopped between two tries; nothing is under way.".to_owned() })
            }
        }
    }

    /// Connects, again and again while the store is away.
    pub async fn connect(&self, store: &Postgres) -> Result<Session, Halt> {
        let (mut climb, began) = (self.climb(), Instant::now());
        loop {
            let error: ConnectError = match store.connect(self.stop).await {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            match climb.next(began.elapsed()).filter(|_| error.may_pass()) {
                Some(delay) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, ?delay, "the store can't be reached yet");
                    self.pause(delay).await?;
                }
                None => return Err(error.into()),
            }
        }
    }

    /// Does something again and again while locks stand in its way. It has to be whole: done, or not at all.
    pub async fn through_locks<T>(&self, mut act: impl AsyncFnMut() -> Result<T, QueryError>) -> Result<T, QueryError> {
        let (mut climb, began) = (self.climb(), Instant::now());
        loop {
            let refusal = match act().await {
                Err(QueryError::Refused(refusal)) if refusal.may_pass() => refusal,
                other => return other,
            };
            let Some(delay) = climb.next(began.elapsed()) else { return Err(QueryError::Refused(refusal)) };
            tracing::info!(%refusal, ?delay, "a lock stands in the way");
            if self.pause(delay).await.is_err() {
                return Err(QueryError::Stopped);
            }
        }
    }
}

/// Differs between workers and between waits.
fn noise() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::from(since_epoch.subsec_nanos()) ^ (u64::from(std::process::id()) << 32)
}
