//! Waiting with growing delays, ended by a stop.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::halt::Halt;
use crate::{
    stores::postgres::{Postgres, Session},
    worker::ladder::{Climb, Ladder},
};

/// How waits go in one run.
pub(super) struct Waits<'a> {
    ladder: Ladder,
    pub stop: &'a CancellationToken,
}

/// One thing waited for, from the first try on.
pub(super) struct Patience<'a> {
    climb: Climb,
    began: Instant,
    stop: &'a CancellationToken,
}

impl<'a> Waits<'a> {
    pub fn new(ladder: Ladder, stop: &'a CancellationToken) -> Self {
        Self { ladder, stop }
    }

    /// Patience for one thing.
    pub fn patience(&self) -> Patience<'a> {
        Patience { climb: self.ladder.climb(noise()), began: Instant::now(), stop: self.stop }
    }

    /// The same with delays that stay short: for what may end at any moment.
    pub fn quick_patience(&self, longest: Duration) -> Patience<'a> {
        let mut ladder = self.ladder;
        ladder.longest.0 = ladder.longest.0.min(longest);
        Patience { climb: ladder.climb(noise()), ..self.patience() }
    }

    /// How long anything is waited for.
    pub fn limit(&self) -> Duration {
        self.ladder.give_up_after.0
    }

    /// Connects, again and again while the store is away.
    pub async fn connect(&self, store: &Postgres) -> Result<Session, Halt> {
        let mut patience = self.patience();
        loop {
            let error = match store.connect(self.stop).await {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            if !error.may_pass() || !patience.again(&error).await? {
                return Err(error.into());
            }
        }
    }
}

impl Patience<'_> {
    /// Waits before another try; false if there is to be none. `why` goes to the log.
    pub async fn again(&mut self, why: &(impl Display + Sync + ?Sized)) -> Result<bool, Halt> {
        let Some(delay) = self.climb.next(self.began.elapsed()) else { return Ok(false) };
        tracing::info!(%why, ?delay, "tries again");
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(true),
            () = self.stop.cancelled() => {
                Err(Halt::Stopped { message: "Stopped between two tries; nothing is under way.".to_owned() })
            }
        }
    }

    /// What it has cost so far, in words.
    pub fn spent(&self) -> String {
        format!("{} tries over {} s", self.climb.tries() + 1, self.began.elapsed().as_secs())
    }
}

/// Differs between workers and between waits.
fn noise() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::from(since_epoch.subsec_nanos()) ^ (u64::from(std::process::id()) << 32)
}
