//! How much of its time a backfill may work: the highest share at which every signal stays inside its limit. Pure.
//!
//! ```text
//!              pressure = the worst of signal / limit
//!   over 1          back off: the share falls by how far it is over; what broke the limit is remembered as a ceiling
//!   0.9 to 1        hold: this is the place
//!   under 0.9       climb: a fifth of the way to the ceiling; at the ceiling probe beyond it, little by little
//!   not known       pause, and say which signal and since when; nothing else may speed up or slow down
//! ```
//!
//! Additive increase alone would take minutes to come back from each breach, and a plain halving would sit far below the
//! limit most of the time. Remembering what broke, as TCP CUBIC does, spends most time just below it, and still finds more
//! when the load falls. Rest after work, not pauses between bursts: users feel the longest burst, not the average.
//! A share at the floor that still breaks a limit is a pause.

use std::time::Duration;

/// Lowest share that is worked at; below it, not at all.
pub const FLOOR: f64 = 0.01;
/// Share to begin with under limits: at a fifth, chunks of 100 rows left the p99 as it is when idle.
pub const CAREFUL: f64 = 0.2;
/// Above this part of its limit a signal no longer lets the pace grow.
const COMFORTABLE: f64 = 0.9;
/// A ceiling is this part of the share that broke a limit.
const BELOW_THE_BREACH: f64 = 0.9;
/// Part of the way to the ceiling that one step goes.
const CLIMB: f64 = 0.2;
/// What a step at the ceiling adds, in parts of the ceiling.
const PROBE: f64 = 0.03;
/// Reading of the store older than this is none. It is taken each second.
const OLDEST_READING: Duration = Duration::from_secs(10);
/// Reading of a guard older than this is none, where it doesn't say otherwise.
pub const OLDEST_GUARD: Duration = Duration::from_secs(30);
/// How long the effect of a slower pace may take to show in the store's own signals.
const STORE_REACTS: Duration = Duration::from_secs(2);
/// The same for a guard, whose query looks back over a window.
const GUARD_REACTS: Duration = Duration::from_secs(15);

/// Limits on what users may feel. `None` is no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Replication lag.
    pub lag: Option<Duration>,
    /// Sessions that wait for a lock.
    pub lock_waits: Option<u32>,
    /// Connections of others.
    pub connections: Option<u32>,
    /// Name of the guard to follow.
    pub guard: Option<String>,
    /// Share of the time that may be worked at most, from [`FLOOR`] to 1.
    pub duty: f64,
}

impl Limits {
    /// Whether there is anything to follow.
    pub fn follows_signals(&self) -> bool {
        let Self { lag, lock_waits, connections, guard, duty: _ } = self;
        lag.is_some() || lock_waits.is_some() || connections.is_some() || guard.is_some()
    }
}

/// What a signal showed, and how long ago.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading<T> {
    /// The value.
    pub value: T,
    /// Time since it was taken.
    pub age: Duration,
}

/// A guard's last value and its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuardValue {
    /// What it showed.
    pub value: f64,
    /// Its limit.
    pub limit: f64,
    /// The limit is a lowest value.
    pub is_lowest: bool,
    /// Age from which it counts as none.
    pub oldest: Duration,
}

/// What is known of the signals. `None` was not to be had, which is never the same as zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The worst replication lag, in seconds.
    pub lag: Option<Reading<f64>>,
    /// Replicas that were there before and are not now: theirs is a lag that nobody can tell.
    pub replicas_missing: u32,
    /// Sessions that wait for a lock.
    pub lock_waits: Option<Reading<u32>>,
    /// Connections of others.
    pub connections: Option<Reading<u32>>,
    /// The guard.
    pub guard: Option<Reading<GuardValue>>,
}

/// How to go on.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// Work this share of the time.
    Work {
        /// From [`FLOOR`] to 1.
        duty: f64,
        /// What holds it below its limit, if anything does.
        because: Option<String>,
    },
    /// Don't work.
    Paused {
        /// Each signal that holds it, as `<signal> <seen> > <limit>` or why it isn't known.
        because: Vec<String>,
    },
}

struct Pressure {
    parts: f64,
    text: String,
    reacts: Duration,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct Throttle {
    duty: f64,
    ceiling: f64,
    backed_off: Option<(Duration, f64)>,
}

impl Throttle {
    /// Begins carefully where there are signals to follow, else at the share that is allowed.
    pub fn new(limits: &Limits) -> Self {
        let duty = if limits.follows_signals() { CAREFUL.min(limits.duty) } else { limits.duty };
        Self { duty, ceiling: limits.duty, backed_off: None }
    }

    /// Takes one look and decides. `now` is time since any fixed moment.
    pub fn step(&mut self, now: Duration, limits: &Limits, seen: &Seen) -> Pace {
        let (pressures, unknown) = pressures(limits, seen);
        if !unknown.is_empty() {
            return Pace::Paused { because: unknown };
        }
        self.duty = self.duty.min(limits.duty);
        let Some(worst) = pressures.iter().max_by(|one, other| one.parts.total_cmp(&other.parts)) else {
            self.duty = limits.duty;
            return Pace::Work { duty: self.duty, because: None };
        };
        if worst.parts > 1.0 {
            self.back_off(now, worst);
            if self.duty < FLOOR {
                self.duty = 0.0;
                let over = pressures.iter().filter(|pressure| pressure.parts > 1.0);
                return Pace::Paused { because: over.map(|pressure| pressure.text.clone()).collect() };
            }
        } else if worst.parts < COMFORTABLE {
            self.climb(limits);
        } else if self.duty < FLOOR {
            return Pace::Paused { because: vec![worst.text.clone()] };
        }
        let held = self.duty < limits.duty && worst.parts >= COMFORTABLE;
        Pace::Work { duty: self.duty, because: held.then(|| worst.text.clone()) }
    }

    fn back_off(&mut self, now: Duration, worst: &Pressure) {
        if let Some((since, parts)) = self.backed_off {
            // What is seen may still be the pace before. Only if it gets worse was it not enough.
            if now.saturating_sub(since) < worst.reacts && worst.parts < parts * 1.1 {
                return;
            }
        }
        self.backed_off = Some((now, worst.parts));
        if self.duty >= FLOOR {
            self.ceiling = (self.duty * BELOW_THE_BREACH).max(FLOOR);
        }
        self.duty *= (0.8 / worst.parts).clamp(0.25, 0.8);
    }

    fn climb(&mut self, limits: &Limits) {
        self.backed_off = None;
        if self.duty < self.ceiling * 0.98 {
            self.duty = (self.duty + (self.ceiling - self.duty) * CLIMB).max(FLOOR);
        } else {
            self.ceiling = (self.ceiling * (1.0 + PROBE)).clamp(FLOOR, limits.duty);
            self.duty = self.ceiling;
        }
        self.duty = self.duty.min(limits.duty);
    }
}

fn pressures(limits: &Limits, seen: &Seen) -> (Vec<Pressure>, Vec<String>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    let stale = |name: &str, age: Duration| format!("{name}: the last reading is {} s old", age.as_secs());
    if let Some(limit) = limits.lag {
        match seen.lag {
            _ if seen.replicas_missing > 0 => {
                unknown.push(format!("replication lag: {} replica(s) are gone", seen.replicas_missing));
            }
            None => unknown.push("replication lag: not known".to_owned()),
            Some(lag) if lag.age > OLDEST_READING => unknown.push(stale("replication lag", lag.age)),
            Some(lag) => known.push(Pressure {
                parts: part_of(lag.value, limit.as_secs_f64()),
                text: format!("replication lag {:.1}s > {:.1}s", lag.value, limit.as_secs_f64()),
                reacts: STORE_REACTS,
            }),
        }
    }
    let counts =
        [("lock waits", limits.lock_waits, seen.lock_waits), ("connections", limits.connections, seen.connections)];
    for (name, limit, reading) in counts {
        let Some(limit) = limit else { continue };
        match reading {
            None => unknown.push(format!("{name}: not known")),
            Some(reading) if reading.age > OLDEST_READING => unknown.push(stale(name, reading.age)),
            Some(reading) => known.push(Pressure {
                parts: part_of(f64::from(reading.value), f64::from(limit)),
                text: format!("{name} {} > {limit}", reading.value),
                reacts: STORE_REACTS,
            }),
        }
    }
    if let Some(name) = &limits.guard {
        match seen.guard {
            None => unknown.push(format!("guard {name}: no reading yet")),
            Some(reading) if reading.age > reading.value.oldest => {
                unknown.push(stale(&format!("guard {name}"), reading.age));
            }
            Some(Reading { value: GuardValue { value, limit, .. }, .. })
                if !value.is_finite() || !limit.is_finite() =>
            {
                unknown.push(format!("guard {name}: its value is no number"));
            }
            Some(Reading { value: GuardValue { value, limit, is_lowest, .. }, .. }) => known.push(Pressure {
                parts: if is_lowest { part_of(limit, value) } else { part_of(value, limit) },
                text: format!("guard {name} {value} {} {limit}", if is_lowest { "<" } else { ">" }),
                reacts: GUARD_REACTS,
            }),
        }
    }
    (known, unknown)
}

/// Value in parts of its limit. A limit of zero is broken by anything above.
fn part_of(value: f64, limit: f64) -> f64 {
    if limit > 0.0 {
        value / limit
    } else if value > limit {
        2.0
    } else {
        0.0
    }
}

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod tests;
