//! When to ask next. Pure: times in, a time out.
//!
//! Ordinarily every interval. After a flip, when the next sample is due: Prometheus scrapes at a steady rate, so two
//! samples tell when the third can be read, and a poll just after it sees it some milliseconds old instead of half an
//! interval. Never more often than every [`FLOOR`] on average, whatever is learned.

use std::collections::VecDeque;

use crate::api::{Span, Time};

/// Shortest time between polls of one query, on average: five a second is what a Prometheus bears from a thousand
/// guards for the minutes after their flips.
pub const FLOOR: Span = Span::millis(200);
/// How far polls may run ahead of the floor, so that a sample that is a little late is looked for again at once.
const AHEAD: Span = FLOOR;
/// How soon a sample that was due and isn't there is looked for again.
const LOOK_AGAIN: Span = Span::millis(25);
/// How long after its timestamp a sample is expected to be readable, at first: scraping and storing it takes a while.
const FIRST_SLACK: Span = Span::millis(10);
/// How much later the next samples are expected after one was missed.
const MORE_SLACK: Span = Span::millis(10);
/// Samples in a row that came in time, after which they are expected a millisecond earlier.
const TRUST: u32 = 64;
/// Distances between samples that are remembered. The least of them is the scrape interval: a missed scrape only makes
/// distances longer.
const REMEMBERED: usize = 8;
/// Distances that must be known before the next sample's time is.
const ENOUGH: usize = 2;

/// How a query is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How often, ordinarily; the shortest of all who want to know.
    pub interval: Span,
    /// Whether to ask whenever a new sample is due.
    pub hot: bool,
}

/// What is known of one query's rhythm.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Between 0 and 1: where in the interval this query's polls lie, so that not all are asked at once.
    phase: f64,
    asked: u32,
    asked_at: Option<Time>,
    /// When the floor's budget is used up to.
    spent_until: Time,
    last: Option<Known>,
    distances: VecDeque<Span>,
    slack: Span,
    in_time: u32,
    /// Polls in a row that brought no sample.
    in_vain: u32,
}

/// The newest sample, and when its query was evaluated, both by Prometheus's clock.
#[derive(Clone, Copy, Debug)]
struct Known {
    sample_at: Time,
    evaluated_at: Time,
    /// When that was asked, by ours.
    asked_at: Time,
}

impl Pace {
    /// The rhythm of a query that hasn't been asked; `seed` spreads the phases.
    pub fn new(seed: u64) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a phase needs no more than a few digits")]
        let phase = (seed % 1_000) as f64 / 1_000.0;
        Self {
            phase,
            asked: 0,
            asked_at: None,
            spent_until: Time(i64::MIN),
            last: None,
            distances: VecDeque::new(),
            slack: FIRST_SLACK,
            in_time: 0,
            in_vain: 0,
        }
    }

    /// When to ask next; the first time at once.
    pub fn next(&self, terms: Terms) -> Time {
        let Some(asked_at) = self.asked_at else { return Time(i64::MIN) };
        let earliest = Time(self.spent_until.0.saturating_sub(AHEAD.as_millis()));
        if !terms.hot {
            // The second poll finds the query's place in the interval, the others keep it.
            let wait = if self.asked == 1 { terms.interval.0.mul_f64(self.phase.max(0.1)) } else { terms.interval.0 };
            return asked_at.after(Span(wait)).max(earliest);
        }
        let latest = asked_at.after(terms.interval);
        let wanted = if self.in_vain > 0 {
            // One that is down, or has no data, is asked less and less often, but never less than ordinarily.
            asked_at.after(Span(FLOOR.0 * (1 << self.in_vain.min(10))))
        } else {
            self.next_sample_at().unwrap_or_else(|| asked_at.after(FLOOR))
        };
        wanted.max(asked_at.after(LOOK_AGAIN)).min(latest).max(earliest)
    }

    /// Takes note of a poll that was answered or failed: `sample` is the newest sample and the time of evaluation.
    pub fn note(&mut self, asked_at: Time, sample: Option<(Time, Time)>) {
        self.asked = self.asked.saturating_add(1);
        self.asked_at = Some(asked_at);
        self.spent_until = self.spent_until.max(asked_at).after(FLOOR);
        let Some((sample_at, evaluated_at)) = sample else {
            self.in_vain = self.in_vain.saturating_add(1);
            return;
        };
        self.in_vain = 0;
        let known = Known { sample_at, evaluated_at, asked_at };
        match self.last {
            Some(last) if sample_at > last.sample_at => {
                self.learn(sample_at.since(last.sample_at));
                self.in_time += 1;
                if self.in_time >= TRUST {
                    self.in_time = 0;
                    self.slack = Span(self.slack.0.saturating_sub(Span::millis(1).0)).max(FIRST_SLACK);
                }
            }
            Some(_) if self.was_due(evaluated_at) => {
                self.in_time = 0;
                self.slack = Span(self.slack.0 + MORE_SLACK.0).min(self.longest_slack());
            }
            Some(_) | None => {}
        }
        self.last = Some(known);
    }

    /// Forgets the rhythm: what slow polls teach is a multiple of it.
    pub fn unlearn(&mut self) {
        self.distances.clear();
        self.in_vain = 0;
    }

    fn learn(&mut self, distance: Span) {
        self.distances.push_back(distance);
        if self.distances.len() > REMEMBERED {
            self.distances.pop_front();
        }
    }

    /// The scrape interval, once enough samples were seen to know it.
    fn cadence(&self) -> Option<Span> {
        self.distances.iter().min().copied().filter(|_| self.distances.len() >= ENOUGH)
    }

    fn longest_slack(&self) -> Span {
        Span(self.cadence().unwrap_or_default().0 / 2).max(FIRST_SLACK)
    }

    fn was_due(&self, evaluated_at: Time) -> bool {
        self.last
            .zip(self.cadence())
            .is_some_and(|(last, cadence)| evaluated_at >= last.sample_at.after(cadence).after(self.slack))
    }

    /// When the next sample should be readable, by our clock.
    fn next_sample_at(&self) -> Option<Time> {
        let (known, cadence) = self.last.zip(self.cadence())?;
        let due = known.sample_at.after(cadence).after(self.slack);
        Some(known.asked_at.after(due.since(known.evaluated_at)))
    }
}
