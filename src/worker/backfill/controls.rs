//! What can be changed while a backfill runs: pace, limits, connections, a pause, and the guard's readings.
//!
//! They come as one JSON document through a channel. A file is one source of it, looked at each second; whoever serves
//! HTTP can feed the same channel.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::throttle::{GuardValue, Limits, OLDEST_GUARD, Reading};
use crate::api::{BackfillAction, Percent, Span, backfill::Throttle};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Connections where the spec doesn't say.
const WORKERS: u8 = 1;

/// What the operator says while the worker runs. What is absent is as the task has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Controls {
    /// Why nothing is to be done for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<String>,
    /// Rows changed per second, by all connections together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Connections that work, up to those that the task began with or [`MOST_WORKERS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u8>,
    /// Limits in place of the task's, as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// The last reading of the guard that the pace follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardReading>,
}

/// Connections of one worker at most.
pub const MOST_WORKERS: u8 = 32;

/// A guard's reading, as the operator passes it on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardReading {
    /// Name of the guard.
    pub name: String,
    /// What it showed.
    pub value: f64,
    /// Its limit, computed from the baseline where it is a relative one.
    pub limit: f64,
    /// The limit is a lowest value.
    #[serde(default)]
    pub is_lowest: bool,
    /// Changes with each new sample, and only then: a reading that is repeated gets old. The sample's time will do.
    pub sample: String,
    /// Age from which it counts as none. Default: 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
}

/// Controls as they last came, with the time at which the guard's sample was first seen.
#[derive(Clone, Debug, Default)]
pub struct Live {
    controls: Controls,
    guard_since: Option<Instant>,
}

impl Live {
    /// Takes in what has come. A guard's sample that was known stays as old as it is.
    #[must_use]
    pub fn with(&self, controls: Controls) -> Self {
        let sample =
            |controls: &Controls| controls.guard.as_ref().map(|guard| (guard.name.clone(), guard.sample.clone()));
        let is_new = sample(&controls) != sample(&self.controls);
        let guard_since = if is_new { controls.guard.as_ref().map(|_| Instant::now()) } else { self.guard_since };
        Self { controls, guard_since }
    }

    /// Why nothing is to be done for now, if somebody says so.
    pub fn pause(&self) -> Option<&str> {
        self.controls.pause.as_deref()
    }

    /// Rows changed per second at most.
    pub fn rate(&self, action: &BackfillAction) -> Option<u32> {
        self.controls.rate.or(action.rate)
    }

    /// Connections that are to work.
    pub fn workers(&self, action: &BackfillAction) -> u8 {
        self.controls.workers.or(action.workers).unwrap_or(WORKERS).clamp(1, MOST_WORKERS)
    }

    /// Limits on what users may feel.
    pub fn limits(&self, action: &BackfillAction) -> Limits {
        let throttle = self.controls.throttle.as_ref().or(action.throttle.as_ref());
        let Throttle { guard, max_lag, max_lock_waits, max_connections, duty } = throttle.cloned().unwrap_or_default();
        Limits {
            lag: max_lag.map(|span| span.0),
            lock_waits: max_lock_waits,
            connections: max_connections,
            guard,
            duty: duty.map_or(1.0, Percent::fraction).clamp(super::throttle::FLOOR, 1.0),
        }
    }

    /// The guard's reading with its age, if it is the one that is followed.
    pub fn guard(&self, followed: Option<&str>) -> Option<Reading<GuardValue>> {
        let guard = self.controls.guard.as_ref().filter(|guard| Some(guard.name.as_str()) == followed)?;
        let GuardReading { name: _, value, limit, is_lowest, sample: _, max_age } = guard;
        let oldest = max_age.map_or(OLDEST_GUARD, |span| span.0);
        let value = GuardValue { value: *value, limit: *limit, is_lowest: *is_lowest, oldest };
        Some(Reading { value, age: self.guard_since?.elapsed() })
    }
}

/// Feeds a channel from a file until `stop`. An absent file says nothing; one that can't be read changes nothing.
pub async fn follow_file(file: PathBuf, feed: watch::Sender<Live>, stop: CancellationToken) {
    let mut complained = false;
    loop {
        match read(&file).await {
            Ok(Some(controls)) => {
                complained = false;
                let live = feed.borrow().with(controls);
                feed.send_replace(live);
            }
            Ok(None) => {}
            Err(why) if complained => tracing::debug!(%why, "the controls still can't be read"),
            Err(why) => {
                tracing::warn!(%why, file = %file.display(), "the controls can't be read; they stay as they were");
                complained = true;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Feeds a channel from what the operator brings, until `stop`.
pub async fn follow_operator(served: &crate::worker::live::Live, feed: watch::Sender<Live>, stop: CancellationToken) {
    let mut signals = served.signals();
    loop {
        tokio::select! {
            changed = signals.changed() => {
                if changed.is_err() {
                    stop.cancelled().await;
                    return;
                }
                let controls = signals.borrow_and_update().as_ref().and_then(|signals| signals.controls.clone());
                if let Some(controls) = controls {
                    let live = feed.borrow().with(controls);
                    feed.send_replace(live);
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

async fn read(file: &Path) -> Result<Option<Controls>, String> {
    match tokio::fs::read(file).await {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controls(sample: &str) -> Controls {
        let guard = GuardReading {
            name: "p99".into(),
            value: 1.0,
            limit: 2.0,
            is_lowest: false,
            sample: sample.into(),
            max_age: None,
        };
        Controls { guard: Some(guard), ..Controls::default() }
    }

    #[test]
    fn a_sample_that_is_repeated_gets_no_younger() {
        let first = Live::default().with(controls("a"));
        let repeated = first.with(controls("a"));
        assert_eq!(repeated.guard_since, first.guard_since);
        let second = repeated.with(controls("b"));
        assert!(second.guard_since > first.guard_since);
    }

    #[test]
    fn only_the_guard_that_is_followed_counts() {
        let live = Live::default().with(controls("a"));
        assert!(live.guard(Some("p99")).is_some());
        assert!(live.guard(Some("errors")).is_none() && live.guard(None).is_none());
    }
}
