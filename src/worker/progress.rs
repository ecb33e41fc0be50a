//! How far a worker is: figures that it keeps up to date while it works, for whoever asks.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::api::Span;

/// Over how long the rate is taken: long enough that a chunk more or less doesn't show, short enough to follow a throttle.
const RATE_WINDOW: Duration = Duration::from_secs(15);
/// How often at most a point of the rate's window is kept.
const RATE_GRAIN: Duration = Duration::from_millis(500);

/// How far a worker is, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Figures {
    /// What it does right now, in a word or two, such as `copying`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stage: String,
    /// Rows dealt with so far.
    pub done: u64,
    /// Rows to deal with in all, as estimated; absent while it isn't known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Rows a second of late.
    pub rate: f64,
    /// Time left at that rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<Span>,
    /// How far the new store is behind the old one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<Span>,
    /// Why it goes slower than it could, or has paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled: Option<String>,
}

/// A handle to a worker's figures. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    figures: Figures,
    /// When how much was done, oldest first.
    points: VecDeque<(Instant, u64)>,
}

impl Progress {
    /// Counts rows that have been dealt with and committed.
    pub fn advance(&self, rows: u64) {
        self.with(|kept| {
            kept.figures.done = kept.figures.done.saturating_add(rows);
            kept.note(Instant::now());
        });
    }

    /// Says how much has been dealt with and committed in all.
    pub fn reach(&self, done: u64) {
        self.with(|kept| {
            kept.figures.done = done;
            kept.note(Instant::now());
        });
    }

    /// Says how much an earlier run has done already. It counts as done, and not for the rate.
    pub fn resume(&self, done: u64) {
        self.with(|kept| {
            kept.figures.done = done;
            kept.points.clear();
            kept.note(Instant::now());
        });
    }

    /// Changes whatever else is known. The rate and the time left are worked out when somebody asks.
    pub fn set(&self, change: impl FnOnce(&mut Figures)) {
        self.with(|kept| change(&mut kept.figures));
    }

    /// The figures now.
    pub fn figures(&self) -> Figures {
        self.with(|kept| kept.at(Instant::now()))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn note(&mut self, now: Instant) {
        let fresh = self.points.back().is_some_and(|(at, _)| now.duration_since(*at) < RATE_GRAIN);
        if fresh && self.points.len() > 1 {
            return;
        }
        self.points.push_back((now, self.figures.done));
        // One point older than the window stays, so that the rate always spans all of it.
        while self.points.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= RATE_WINDOW) {
            self.points.pop_front();
        }
    }

    fn at(&self, now: Instant) -> Figures {
        let mut figures = self.figures.clone();
        let Some((since, before)) = self.points.front() else { return figures };
        let seconds = now.duration_since(*since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "rates and shares bear it")]
        if seconds > 0.0 {
            figures.rate = figures.done.saturating_sub(*before) as f64 / seconds;
            let left = figures.total.map(|total| total.saturating_sub(figures.done) as f64);
            // Slower than a row in ten minutes says nothing about the time left.
            figures.eta = left
                .filter(|_| figures.rate > 1.0 / 600.0)
                .and_then(|left| Duration::try_from_secs_f64((left / figures.rate).ceil()).ok())
                .map(Span);
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(points: &[(u64, u64)], total: Option<u64>) -> (Kept, Instant) {
        let began = Instant::now();
        let mut kept = Kept { figures: Figures { total, ..Figures::default() }, ..Kept::default() };
        for (seconds, done) in points {
            kept.figures.done = *done;
            kept.note(began + Duration::from_secs(*seconds));
        }
        (kept, began)
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds_and_not_of_the_whole_run() {
        let (kept, began) = kept(&[(0, 0), (10, 10_000), (100, 10_100), (110, 10_200), (120, 10_300)], None);
        let rate = kept.at(began + Duration::from_mins(2)).rate;
        assert!((9.0..11.0).contains(&rate), "{rate}");
    }

    #[test]
    fn the_time_left_is_what_the_rate_says() {
        let (kept, began) = kept(&[(0, 0), (10, 500)], Some(1_500));
        let figures = kept.at(began + Duration::from_secs(10));
        assert_eq!((figures.rate, figures.eta), (50.0, Some(Span::secs(20))));
    }

    #[test]
    fn nothing_done_of_late_has_no_time_left() {
        let (kept, began) = kept(&[(0, 500)], Some(1_500));
        let figures = kept.at(began + Duration::from_mins(1));
        assert_eq!((figures.rate, figures.eta), (0.0, None));
    }

    #[test]
    fn what_an_earlier_run_has_done_is_no_rate() {
        let progress = Progress::default();
        progress.resume(1_000_000);
        std::thread::sleep(Duration::from_millis(2));
        let figures = progress.figures();
        assert_eq!((figures.done, figures.rate), (1_000_000, 0.0));
    }
}
