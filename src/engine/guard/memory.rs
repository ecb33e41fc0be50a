//! What is remembered of a guard's readings: folded one by one, so that the same readings always end in the same memory.
//!
//! ```text
//!             measured within                     measured beyond, on a new sample
//! NotAsked ------------------> Within <-------------------------> Exceeding (run grows, then is complete: breach)
//!     |                          |   measured within, new sample      |
//!     +------ silence ------> Silent <----------- silence ------------+   (the run is kept: silence clears nobody)
//! ```
//!
//! A sample counts once, however often it is polled: only a newer sample extends a run or ends it. A sample that was
//! within and is beyond when polled again (a window has moved on) does start a run, since a breach must act at once.

use super::{Law, Outcome, Reading, Silence, Verdict, judge};
use crate::api::{HoldPolicy, Span, Time};

/// What the readings so far amount to, for one guard of one migration.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardMemory {
    pub(super) created_at: Time,
    pub(super) standing: Standing,
    /// When the last poll ended, well or not.
    pub(super) polled_at: Option<Time>,
    /// The last value that counted.
    pub(super) measured: Option<Measured>,
    /// The run of readings beyond the limit that is under way.
    pub(super) run: Option<Run>,
    /// The last run that was complete.
    pub(super) breached: Option<Completed>,
    /// Since when no good reading has come, while Prometheus does answer now and then.
    pub(super) silent_since: Option<Time>,
    /// Since when Prometheus hasn't answered at all: a budget of its own, reset by any answer.
    pub(super) unavailable_since: Option<Time>,
    passing_since: Option<Time>,
}

/// What the last reading that counted said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Standing {
    NotAsked,
    Within,
    Exceeding,
    Silent(Silence),
}

/// A finite value on a sample that was fresh when it was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    pub value: f64,
    pub sample_at: Option<Time>,
    pub seen_at: Time,
    pub age: Span,
}

/// Readings beyond the limit, one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub first: Moment,
    pub last: Moment,
    pub count: u32,
    pub completed: Option<Completed>,
}

/// When something was so: by Prometheus's clock where a sample says it, and by the operator's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moment {
    pub sample_at: Option<Time>,
    pub seen_at: Time,
}

/// The reading that made a run long enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Completed {
    pub sample_at: Option<Time>,
    pub seen_at: Time,
}

impl Moment {
    /// Time from `earlier` to here, by one clock: Prometheus's if both are samples.
    fn since(self, earlier: Moment) -> Span {
        match (self.sample_at, earlier.sample_at) {
            (Some(now), Some(then)) => now.since(then),
            (_, None) | (None, _) => self.seen_at.since(earlier.seen_at),
        }
    }
}

impl GuardMemory {
    /// The memory of a guard that was set up at `at` and hasn't been asked yet.
    pub fn new(at: Time) -> Self {
        Self {
            created_at: at,
            standing: Standing::NotAsked,
            polled_at: None,
            measured: None,
            run: None,
            breached: None,
            silent_since: None,
            unavailable_since: None,
            passing_since: None,
        }
    }

    /// The last value, where there was one, also while the guard says nothing now.
    pub fn value(&self) -> Option<f64> {
        self.measured.map(|measured| measured.value)
    }

    /// The last value if the last reading had one: what a dashboard shows, where silence is a gap and not an old value.
    pub fn value_now(&self) -> Option<f64> {
        match self.standing {
            Standing::Within | Standing::Exceeding => self.value(),
            Standing::NotAsked | Standing::Silent(_) => None,
        }
    }

    /// Since when every reading has passed, with no gap in which the guard would have gone silent. `None`: it doesn't pass.
    pub fn passing_since(&self) -> Option<Time> {
        self.passing_since
    }

    /// Takes in one reading.
    pub fn fold(&mut self, law: &Law, reading: &Reading) {
        let at = reading.seen_at;
        let was_passing = judge(law, self, at) == Verdict::Pass;
        match weigh(law, reading) {
            Weight::Measured(measured) => self.measure(law, measured),
            Weight::Silent { why, policy } => self.fall_silent(law, why, policy, at),
        }
        self.polled_at = Some(at);
        let passes = judge(law, self, at) == Verdict::Pass;
        self.passing_since = match (was_passing, passes) {
            (true, true) => self.passing_since.or(Some(at)),
            (false, true) => Some(at),
            (_, false) => None,
        };
    }

    fn measure(&mut self, law: &Law, measured: Measured) {
        self.silent_since = None;
        self.unavailable_since = None;
        let new = self.is_new_sample(law, measured.sample_at);
        let beyond = law.limits().exceeded_by(measured.value);
        let moment = Moment { sample_at: measured.sample_at, seen_at: measured.seen_at };
        match (beyond, new) {
            (true, _) if law.warming_up(measured.seen_at) => {
                self.run = None;
                self.standing = Standing::Exceeding;
            }
            (true, true) => self.extend_run(law, moment),
            (true, false) if self.run.is_none() => self.extend_run(law, moment),
            (true, false) => {
                self.standing = Standing::Exceeding;
                return;
            }
            // The sample has already counted as beyond; only a newer one can clear it.
            (false, false) if self.run.is_some() => {
                self.standing = Standing::Exceeding;
                return;
            }
            (false, false) if self.standing == Standing::Within => return,
            (false, _) => {
                self.run = None;
                self.standing = Standing::Within;
            }
        }
        let sample_at = if new { measured.sample_at } else { self.measured.and_then(|known| known.sample_at) };
        self.measured = Some(Measured { sample_at, ..measured });
    }

    fn fall_silent(&mut self, law: &Law, why: Silence, policy: HoldPolicy, at: Time) {
        if why == Silence::Unavailable {
            self.unavailable_since.get_or_insert(at);
        } else {
            self.unavailable_since = None;
            self.silent_since.get_or_insert(at);
        }
        if policy == HoldPolicy::Hold || law.warming_up(at) {
            self.standing = Standing::Silent(why);
            return;
        }
        // No sample tells one silent poll from the next, so one counts per interval.
        let counted_lately = self.run.is_some_and(|run| at.since(run.last.seen_at) < law.interval());
        if counted_lately {
            self.standing = Standing::Exceeding;
        } else {
            self.extend_run(law, Moment { sample_at: None, seen_at: at });
        }
    }

    fn extend_run(&mut self, law: &Law, moment: Moment) {
        // "All along" allows no hole in which the limit may have been kept.
        let unbroken = self.run.filter(|run| moment.since(run.last) <= law.max_age());
        let mut run = match unbroken {
            Some(run) => Run { last: moment, count: run.count.saturating_add(1), ..run },
            None => Run { first: moment, last: moment, count: 1, completed: None },
        };
        let long_enough = law.guard.for_.is_none_or(|least| moment.since(run.first) >= least);
        if run.completed.is_none() && long_enough && run.count >= law.guard.consecutive.unwrap_or(1) {
            let completed = Completed { sample_at: moment.sample_at, seen_at: moment.seen_at };
            run.completed = Some(completed);
            self.breached = Some(completed);
        }
        self.run = Some(run);
        self.standing = Standing::Exceeding;
    }

    /// Whether a sample is newer than the last that counted. One that is older by more than any sample may be means that
    /// Prometheus's clock was set back; one that is a little older comes from another replica and brings nothing new.
    fn is_new_sample(&self, law: &Law, sample_at: Option<Time>) -> bool {
        match (sample_at, self.measured.and_then(|last| last.sample_at)) {
            (Some(now), Some(last)) => now > last || last.since(now) > law.max_age(),
            (None, Some(_)) => false,
            (_, None) => true,
        }
    }
}

enum Weight {
    Measured(Measured),
    Silent { why: Silence, policy: HoldPolicy },
}

/// What a reading is worth to this guard: a value counts only if it is finite and its sample fresh.
fn weigh(law: &Law, reading: &Reading) -> Weight {
    let guard = law.guard;
    let (why, policy) = match reading.outcome {
        Outcome::Value(value) => match reading.age {
            _ if !value.is_finite() => (Silence::Nan, guard.nan),
            None => (Silence::NoData, guard.no_data),
            Some(age) if age > law.max_age() => (Silence::Stale { age }, guard.no_data),
            Some(age) => {
                let Reading { seen_at, sample_at, .. } = *reading;
                return Weight::Measured(Measured { value, sample_at, seen_at, age });
            }
        },
        Outcome::NoData => (Silence::NoData, guard.no_data),
        Outcome::Stale { age } => (Silence::Stale { age }, guard.no_data),
        Outcome::Nan => (Silence::Nan, guard.nan),
        Outcome::Unavailable => (Silence::Unavailable, guard.unavailable),
        Outcome::LowTraffic { total } => (Silence::LowTraffic { total }, guard.low_traffic),
        // No policy can make sense of several series: whichever counted would be chosen by chance.
        Outcome::MultiSeries { series } => (Silence::MultiSeries { series }, HoldPolicy::Hold),
    };
    Weight::Silent { why, policy }
}
