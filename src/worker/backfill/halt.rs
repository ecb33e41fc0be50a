//! Why a backfill stops before it is done, and waiting that a stop ends.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{
    stores::{
        Finding,
        postgres::{ConnectError, Postgres, QueryError, Session, connect::chain},
    },
    worker::{
        ladder::{Climb, Ladder},
        verdict::{Outcome, Verdict},
    },
};

/// Why a backfill stops before it is done.
#[derive(Clone, Debug)]
pub(super) enum Halt {
    /// It can't be done as it stands.
    Refused { message: String, findings: Vec<Finding> },
    /// A try has failed.
    Failed { message: String, sqlstate: Option<String> },
    /// The worker was told to stop.
    Stopped,
    /// A session is gone. Not an end: what the store remembers is where it goes on.
    Lost { why: String },
}

impl Halt {
    /// A refusal with a message alone.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), findings: Vec::new() }
    }

    /// A failure with a message alone.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), sqlstate: None }
    }

    /// A refusal for what was found, errors first. The first error speaks for all.
    pub fn by_findings(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| !finding.is_error());
        let errors: Vec<_> = findings.iter().filter(|finding| finding.is_error()).collect();
        let more = if errors.len() > 1 { format!(" (and {} more)", errors.len() - 1) } else { String::new() };
        let first = errors.first().map(|first| format!("{} {} [{}]", first.message, first.advice, first.rule));
        Self::Refused { message: format!("{}{more}", first.unwrap_or_default()), findings }
    }

    /// What is reported of it; `so_far` is a sentence about what is in effect.
    pub fn into_verdict(self, so_far: &str) -> Verdict {
        let say = |message: &str| format!("{message} {so_far}").trim().to_owned();
        match self {
            Self::Refused { message, findings } => {
                Verdict { findings, ..Verdict::new(Outcome::Refused, say(&message)) }
            }
            Self::Failed { message, sqlstate } => Verdict { sqlstate, ..Verdict::new(Outcome::Failed, say(&message)) },
            Self::Stopped => Verdict::new(Outcome::Stopped, say("Stopped between two chunks; nothing is under way.")),
            Self::Lost { why } => Verdict::new(
                Outcome::Unknown,
                say(&format!(
                    "The connection was lost and could not be had again: {}. The store remembers each chunk that is \
                     done; another try goes on from there.",
                    why.trim_end_matches('.')
                )),
            ),
        }
    }
}

impl From<QueryError> for Halt {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Refused(refusal) => Self::Failed {
                message: format!("The store refused a statement of the worker: {refusal}."),
                sqlstate: Some(refusal.sqlstate),
            },
            QueryError::Unexpected { .. } => Self::failed(format!("{error}.")),
            QueryError::Lost { why } => Self::Lost { why },
            QueryError::Stopped => Self::Stopped,
        }
    }
}

impl From<ConnectError> for Halt {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Stopped => Self::Stopped,
            ConnectError::Unreachable { .. }
            | ConnectError::Refused { .. }
            | ConnectError::ReadUri { .. }
            | ConnectError::Uri(_)
            | ConnectError::Tls(_) => Self::failed(format!("{}.", chain(&error))),
        }
    }
}

/// One thing waited for, with growing delays, from the first try on.
pub(super) struct Patience<'a> {
    climb: Climb,
    began: Instant,
    stop: &'a CancellationToken,
}

impl<'a> Patience<'a> {
    pub fn new(ladder: Ladder, stop: &'a CancellationToken) -> Self {
        Self { climb: ladder.climb(noise()), began: Instant::now(), stop }
    }

    /// The same with delays that stay short: for what may end at any moment.
    pub fn quick(ladder: Ladder, longest: Duration, stop: &'a CancellationToken) -> Self {
        let mut ladder = ladder;
        ladder.longest.0 = ladder.longest.0.min(longest);
        Self::new(ladder, stop)
    }

    /// Waits before another try; false if there is to be none. `why` goes to the log.
    pub async fn again(&mut self, why: &(impl Display + Sync + ?Sized)) -> Result<bool, Halt> {
        let Some(delay) = self.climb.next(self.began.elapsed()) else { return Ok(false) };
        tracing::info!(%why, ?delay, "tries again");
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(true),
            () = self.stop.cancelled() => Err(Halt::Stopped),
        }
    }

    /// What it has cost so far, in words.
    pub fn spent(&self) -> String {
        format!("{} tries over {} s", self.climb.tries() + 1, self.began.elapsed().as_secs())
    }
}

/// Connects, again and again while the store is away. `stop` ends the waiting, `hard` the connection's statements.
pub(super) async fn connect(
    store: &Postgres,
    ladder: Ladder,
    stop: &CancellationToken,
    hard: &CancellationToken,
) -> Result<Session, Halt> {
    let mut patience = Patience::new(ladder, stop);
    loop {
        if stop.is_cancelled() {
            return Err(Halt::Stopped);
        }
        let error = match store.connect(hard).await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        if !error.may_pass() || !patience.again(&error).await? {
            return Err(error.into());
        }
    }
}

/// Differs between workers and between waits.
fn noise() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::from(since_epoch.subsec_nanos()) ^ (u64::from(std::process::id()) << 32)
}
