//! How the service misbehaves when it is told to: by its environment, or on its admin port while
//! it runs. The law is pure and takes the time as a number; the router and the crash are around it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::share::Share;
use crate::times::{duration, millis, optional_duration, unix_ms};

/// The faults that the environment or the command line orders.
#[derive(Args, Clone, Debug, Default)]
pub struct Orders {
    /// The share of requests that are answered with 500, from 0 to 1.
    #[arg(long, env = "SHOP_ERRORS", default_value = "0")]
    errors: Share,
    /// How long after the first request the errors begin.
    #[arg(long, env = "SHOP_ERRORS_AFTER", value_parser = duration, default_value = "0s")]
    errors_after: Duration,
    /// How long after the first request the process exits with 1, in each of its lives.
    #[arg(long, env = "SHOP_CRASH_AFTER", value_parser = duration)]
    crash_after: Option<Duration>,
    /// A file that is written at the crash. Where it exists the service doesn't start: on a volume
    /// that outlives the container, a crash is for good.
    #[arg(long, env = "SHOP_CRASH_MARKER")]
    crash_marker: Option<PathBuf>,
    /// How long each request waits before it is served.
    #[arg(long, env = "SHOP_LATENCY", value_parser = duration, default_value = "0s")]
    latency: Duration,
}

/// A change of the faults while the service runs: what isn't named stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    errors: Option<Share>,
    #[serde(default, deserialize_with = "optional_duration")]
    errors_after: Option<Duration>,
    #[serde(default, deserialize_with = "optional_duration")]
    crash_after: Option<Duration>,
    #[serde(default, deserialize_with = "optional_duration")]
    latency: Option<Duration>,
}

/// The faults in force. Times are milliseconds since 1970.
#[derive(Clone, Debug, Serialize)]
struct Law {
    errors: Share,
    errors_after_ms: u64,
    crash_after_ms: Option<u64>,
    latency_ms: u64,
    /// When they were ordered.
    ordered_ms: u64,
    /// When the first request of a client came.
    first_request_ms: Option<u64>,
    /// How many requests have come since the errors began.
    requests_since: u64,
}

/// What a fault does to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// How long it waits first.
    pub wait: Duration,
    /// Whether it is answered with 500 then.
    pub fails: bool,
}

impl Law {
    fn new(orders: &Orders, now_ms: u64) -> Self {
        Self {
            errors: orders.errors,
            errors_after_ms: millis(orders.errors_after),
            crash_after_ms: orders.crash_after.map(millis),
            latency_ms: millis(orders.latency),
            ordered_ms: now_ms,
            first_request_ms: None,
            requests_since: 0,
        }
    }

    fn change(&mut self, change: &Change, now_ms: u64) {
        let Change { errors, errors_after, crash_after, latency } = change;
        self.errors = errors.unwrap_or(self.errors);
        self.errors_after_ms = errors_after.map_or(self.errors_after_ms, millis);
        self.crash_after_ms = crash_after.map(millis).or(self.crash_after_ms);
        self.latency_ms = latency.map_or(self.latency_ms, millis);
        self.ordered_ms = now_ms;
        self.requests_since = 0;
    }

    /// From when on the delays count: the first request, or the order if that came later.
    fn counts_from_ms(&self) -> Option<u64> {
        self.first_request_ms.map(|first| first.max(self.ordered_ms))
    }

    fn errors_from_ms(&self) -> Option<u64> {
        Some(self.counts_from_ms()? + self.errors_after_ms)
    }

    fn crash_at_ms(&self) -> Option<u64> {
        Some(self.counts_from_ms()? + self.crash_after_ms?)
    }

    fn judge(&mut self, now_ms: u64) -> Sentence {
        self.first_request_ms.get_or_insert(now_ms);
        let fails = self.errors_from_ms().is_some_and(|from| now_ms >= from) && {
            self.requests_since += 1;
            self.errors.holds(self.requests_since - 1)
        };
        Sentence { wait: Duration::from_millis(self.latency_ms), fails }
    }
}

/// The faults of this service.
pub struct Faults {
    law: Mutex<Law>,
    crash_may_have_moved: Notify,
    crash_marker: Option<PathBuf>,
}

impl Faults {
    /// The faults as ordered from the start.
    pub fn new(orders: Orders) -> Self {
        Self {
            law: Mutex::new(Law::new(&orders, unix_ms())),
            crash_may_have_moved: Notify::new(),
            crash_marker: orders.crash_marker,
        }
    }

    /// Says whether a crash for good has happened in an earlier life of this pod.
    pub fn has_crashed_for_good(&self) -> bool {
        self.crash_marker.as_ref().is_some_and(|file| file.exists())
    }

    /// Says what happens to the request that has just come.
    pub fn judge(&self) -> Sentence {
        let mut law = self.lock();
        let is_first = law.first_request_ms.is_none();
        let sentence = law.judge(unix_ms());
        if is_first {
            self.crash_may_have_moved.notify_one();
        }
        sentence
    }

    /// Waits for the crash that is ordered, if one is, and carries it out.
    async fn crash_when_due(&self) {
        loop {
            let moved = self.crash_may_have_moved.notified();
            let due = self.lock().crash_at_ms();
            match due.map(|due| due.saturating_sub(unix_ms())) {
                Some(0) => self.crash(),
                Some(rest) => {
                    // Either way the crash is due anew: it may have been moved while this slept.
                    drop(tokio::time::timeout(Duration::from_millis(rest), moved).await);
                }
                None => moved.await,
            }
        }
    }

    fn crash(&self) -> ! {
        tracing::error!("crashing, as ordered");
        if let Some(file) = &self.crash_marker
            && let Err(error) = std::fs::write(file, "")
        {
            tracing::error!(%error, "could not write the crash marker");
        }
        std::process::exit(1)
    }

    fn lock(&self) -> MutexGuard<'_, Law> {
        self.law.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The faults in force, with the times that they began or will begin at.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    law: Law,
    errors_from_ms: Option<u64>,
    crash_at_ms: Option<u64>,
}

/// The admin port: `GET /fault` shows what is in force, `POST /fault` changes it.
pub fn router(faults: Arc<Faults>) -> Router {
    let crash = Arc::clone(&faults);
    tokio::spawn(async move { crash.crash_when_due().await });
    Router::new().route("/fault", get(show).post(change)).with_state(faults)
}

async fn show(State(faults): State<Arc<Faults>>) -> Json<Report> {
    let law = faults.lock().clone();
    Json(Report { errors_from_ms: law.errors_from_ms(), crash_at_ms: law.crash_at_ms(), law })
}

async fn change(State(faults): State<Arc<Faults>>, Json(change): Json<Change>) -> Json<Report> {
    tracing::info!(?change, "told to misbehave");
    faults.lock().change(&change, unix_ms());
    faults.crash_may_have_moved.notify_one();
    show(State(faults)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(errors: f64, errors_after: u64, crash_after: Option<u64>) -> Law {
        Law::new(
            &Orders {
                errors: Share::try_from(errors).unwrap(),
                errors_after: Duration::from_millis(errors_after),
                crash_after: crash_after.map(Duration::from_millis),
                ..Orders::default()
            },
            1_000,
        )
    }

    #[test]
    fn errors_begin_after_their_delay_from_the_first_request() {
        let mut law = ordered(1.0, 500, None);
        assert!(!law.judge(9_000).fails, "the first request starts the delay");
        assert!(!law.judge(9_499).fails);
        assert!(law.judge(9_500).fails);
        assert_eq!(law.errors_from_ms(), Some(9_500));
    }

    #[test]
    fn errors_keep_to_their_share() {
        let mut law = ordered(0.3, 0, None);
        let failed = (0..1_000).filter(|_| law.judge(2_000).fails).count();
        assert_eq!(failed, 300);
    }

    #[test]
    fn an_order_that_came_after_the_first_request_counts_from_itself() {
        let mut law = ordered(0.0, 0, None);
        law.judge(2_000);
        let change: Change = serde_json::from_str(r#"{"errors": 1.0, "errors_after": "5s"}"#).unwrap();
        law.change(&change, 60_000);
        assert!(!law.judge(64_999).fails);
        assert!(law.judge(65_000).fails);
    }

    #[test]
    fn a_crash_waits_for_the_first_request() {
        let mut law = ordered(0.0, 0, Some(5_000));
        assert_eq!(law.crash_at_ms(), None);
        law.judge(20_000);
        assert_eq!(law.crash_at_ms(), Some(25_000));
    }

    #[test]
    fn a_change_leaves_alone_what_it_does_not_name() {
        let mut law = ordered(0.5, 700, Some(9_000));
        let change: Change = serde_json::from_str(r#"{"latency": "200ms"}"#).unwrap();
        law.change(&change, 2_000);
        assert_eq!(law.errors, Share::try_from(0.5).unwrap());
        assert_eq!(law.errors_after_ms, 700);
        assert_eq!(law.crash_after_ms, Some(9_000));
        assert_eq!(law.latency_ms, 200);
    }

    #[test]
    fn a_fault_that_is_misspelt_is_refused() {
        assert!(serde_json::from_str::<Change>(r#"{"error": 0.3}"#).is_err());
        assert!(serde_json::from_str::<Change>(r#"{"errors": 30}"#).is_err());
    }
}
