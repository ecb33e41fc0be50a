//! Why a verification stops before it is done, and waiting with growing delays.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{
    stores::postgres::{ConnectError, QueryError, connect::chain},
    worker::{
        ladder::{Climb, Ladder},
        verdict::Outcome,
    },
};

/// Why a verification stops before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// It can't be done as it stands.
    Refused(String),
    /// A try has failed.
    Failed(String),
    /// The worker was told to stop.
    Stopped,
    /// A session is gone, or something was in the way that passes. Not an end: what was under way is done anew.
    Lost(String),
}

impl Halt {
    /// The outcome and its message.
    pub fn into_outcome(self) -> (Outcome, String) {
        match self {
            Self::Refused(message) => (Outcome::Refused, message),
            Self::Failed(message) => (Outcome::Failed, message),
            Self::Stopped => (Outcome::Stopped, "Stopped before the end; nothing is proven.".to_owned()),
            // Nothing is in doubt: a verification that didn't come to its end has proven nothing, and a repair commits a
            // row together with its audit.
            Self::Lost(why) => (
                Outcome::Failed,
                format!("It could not be gone on with: {why}. Nothing is proven; another try begins anew."),
            ),
        }
    }
}

impl From<QueryError> for Halt {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Refused(refusal) if refusal.may_pass() => Self::Lost(refusal.to_string()),
            QueryError::Refused(refusal) if is_forbidden(&refusal.sqlstate) => {
                Self::Refused(format!("The role may not do what verifying takes: {refusal}."))
            }
            QueryError::Refused(refusal) => {
                Self::Failed(format!("The store refused a question of the worker: {refusal}."))
            }
            QueryError::Unexpected { .. } => Self::Failed(format!("{error}.")),
            QueryError::Lost { why } => Self::Lost(format!("the connection was lost: {why}")),
            QueryError::Stopped => Self::Stopped,
        }
    }
}

/// 42501 insufficient_privilege; so does row security answer where it would hide rows.
fn is_forbidden(sqlstate: &str) -> bool {
    sqlstate == "42501"
}

impl From<ConnectError> for Halt {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Stopped => Self::Stopped,
            ConnectError::Unreachable { .. } => Self::Lost(chain(&error)),
            ConnectError::Refused { .. }
            | ConnectError::ReadUri { .. }
            | ConnectError::Uri(_)
            | ConnectError::Tls(_) => Self::Failed(format!("{}.", chain(&error))),
        }
    }
}

/// One thing waited for, from the first try on.
pub(super) struct Patience<'a> {
    ladder: Ladder,
    climb: Climb,
    began: Instant,
    stop: &'a CancellationToken,
}

impl<'a> Patience<'a> {
    pub fn new(ladder: Ladder, stop: &'a CancellationToken) -> Self {
        Self { ladder, climb: ladder.climb(noise()), began: Instant::now(), stop }
    }

    /// Begins anew: something was got done.
    pub fn renew(&mut self) {
        *self = Self::new(self.ladder, self.stop);
    }

    /// Waits before another try; an end once it has been long enough. `why` goes to the log.
    pub async fn again(&mut self, why: &(impl Display + Sync + ?Sized)) -> Result<(), Halt> {
        let Some(delay) = self.climb.next(self.began.elapsed()) else {
            let spent = self.began.elapsed().as_secs();
            return Err(Halt::Failed(format!(
                "Given up after {} tries over {spent} s: {why}.",
                self.climb.tries() + 1
            )));
        };
        tracing::info!(%why, ?delay, "tries again");
        pause(delay, self.stop).await
    }
}

/// Waits, unless told to stop.
pub(super) async fn pause(delay: Duration, stop: &CancellationToken) -> Result<(), Halt> {
    tokio::select! {
        () = tokio::time::sleep(delay) => Ok(()),
        () = stop.cancelled() => Err(Halt::Stopped),
    }
}

/// Differs between workers and between waits.
pub(super) fn noise() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::from(since_epoch.subsec_nanos()) ^ (u64::from(std::process::id()) << 32) ^ since_epoch.as_secs()
}
