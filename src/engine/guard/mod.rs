//! What a guard's readings mean: pure, from readings to a verdict.
//!
//! A verdict of [`Verdict::Pass`] needs a fresh value inside every limit. Nothing else passes: no data, NaN, a timeout
//! and an old sample each have a name of their own (design section 5).

mod baseline;
mod figure;
mod limits;
mod memory;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod sentences;
mod verdict;

use crate::api::{BaselineStatus, OnBreach, Span, Time};

pub use baseline::{MIN_SAMPLES, Refusal, Sample, baseline};
pub use figure::figure;
pub use limits::{Law, Limits};
pub use memory::GuardMemory;
pub use verdict::{BREACH_IS_KEPT, judge, observe, view};

/// What one poll of a guard's query brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// When the operator had the answer.
    pub seen_at: Time,
    /// When Prometheus took the newest sample behind it, by Prometheus's clock.
    pub sample_at: Option<Time>,
    /// The most that sample's age can have been at `seen_at`, measured on Prometheus's clock so that no skew enters.
    /// Without it a value isn't known to be fresh and never passes.
    pub age: Option<Span>,
    /// What it said.
    pub outcome: Outcome,
}

/// What an answer said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// A finite value on fresh data.
    Value(f64),
    /// An empty result.
    NoData,
    /// Data, but its newest sample is older than the guard allows.
    Stale {
        /// Age of the newest sample.
        age: Span,
    },
    /// NaN or an infinity.
    Nan,
    /// No answer in time, or an error.
    Unavailable,
    /// Too little traffic for a ratio to mean anything.
    LowTraffic {
        /// The total seen, in its own unit.
        total: f64,
    },
    /// More than one series, so that nobody knows which one counts.
    MultiSeries {
        /// How many.
        series: usize,
    },
}

/// Why a guard says nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Silence {
    /// Not asked yet since it was set up.
    NotAsked,
    /// An empty result.
    NoData,
    /// Its newest sample is too old.
    Stale {
        /// Age of the newest sample.
        age: Span,
    },
    /// NaN or an infinity.
    Nan,
    /// No answer in time, or an error.
    Unavailable,
    /// Too little traffic.
    LowTraffic {
        /// The total seen.
        total: f64,
    },
    /// More than one series.
    MultiSeries {
        /// How many.
        series: usize,
    },
    /// The limit is exceeded, but not yet for long enough, or still within the warm-up.
    Doubtful,
    /// Traffic has flipped, and the guard compares with a baseline that was never taken.
    NoBaseline,
}

/// What a guard says now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Fresh and inside every limit.
    Pass,
    /// Beyond a limit for as long as the guard demands.
    Breach {
        /// When Prometheus took the sample that completed the breach, if it is known.
        sample_at: Option<Time>,
        /// When the operator saw it.
        seen_at: Time,
    },
    /// Neither.
    Silent {
        /// Why.
        why: Silence,
        /// Since when it has said nothing without a break; one good reading resets it.
        since: Time,
        /// Past its budget: the migration is Paused rather than just waiting.
        over_budget: bool,
    },
}

/// A guard as a decision sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardView {
    /// Name of the guard.
    pub name: String,
    /// What a breach does.
    pub on_breach: OnBreach,
    /// It only reports.
    pub dry_run: bool,
    /// What it says now.
    pub verdict: Verdict,
    /// The last value, where there was one.
    pub value: Option<f64>,
    /// The limits in words, such as `max 0.01` or `max 0.105 (baseline 0.1 + 5%)`.
    pub limit: String,
    /// The highest value that is allowed now, where there is one.
    pub upper: Option<f64>,
    /// The lowest one.
    pub lower: Option<f64>,
    /// When the last value's sample was taken.
    pub sample_at: Option<Time>,
}

/// Whether a baseline can be had, for a guard that needs one.
#[derive(Clone, Debug, PartialEq)]
pub enum BaselineView {
    /// Not asked for, or not answered yet.
    NotYet,
    /// Here it is.
    Taken(BaselineStatus),
    /// It can't serve, with the reason: no data, zero, NaN, or noisier than the limit.
    Refused {
        /// Name of the guard.
        guard: String,
        /// Why, in a sentence.
        why: String,
    },
}

/// How long an observation's bound has held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ObservationView {
    /// Holds without a break since this time, on fresh samples, the last one recent.
    HoldsSince(Time),
    /// Doesn't hold, with the last value.
    Fails {
        /// The last value.
        value: f64,
    },
    /// Says nothing.
    Silent(Silence),
}
