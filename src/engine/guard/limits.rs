//! What a guard allows right now: its own limits, and those that the baseline makes.

use super::figure;
use crate::api::{BaselineStatus, Guard, Percent, Span, Time};

/// A guard together with what its limits depend on.
#[derive(Clone, Copy, Debug)]
pub struct Law<'a> {
    /// The guard as its author wrote it.
    pub guard: &'a Guard,
    /// Its window before the flip, once taken.
    pub baseline: Option<&'a BaselineStatus>,
    /// When traffic was seen on the new side.
    pub flipped_at: Option<Time>,
}

/// The bounds that a value must lie within; a value on a bound is inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Highest value allowed.
    pub upper: Option<f64>,
    /// Lowest value allowed.
    pub lower: Option<f64>,
}

impl Limits {
    /// Whether a value lies beyond a bound. NaN lies beyond every limit: nothing may pass because it can't be compared.
    pub fn exceeded_by(&self, value: f64) -> bool {
        value.is_nan() || self.upper.is_some_and(|upper| value > upper) || self.lower.is_some_and(|lower| value < lower)
    }
}

impl Law<'_> {
    /// The bounds in force. Before there is a baseline, only those that don't need one.
    pub fn limits(&self) -> Limits {
        let guard = self.guard;
        let increase = self.change(guard.max_increase).map(|(baseline, by)| baseline + by);
        let decrease = self.change(guard.max_decrease).map(|(baseline, by)| baseline - by);
        Limits { upper: tighter(guard.max, increase, f64::min), lower: tighter(guard.min, decrease, f64::max) }
    }

    /// Whether traffic has flipped and a limit that compares with before can't be known.
    pub fn lacks_its_baseline(&self) -> bool {
        self.flipped_at.is_some() && self.guard.needs_baseline() && self.baseline.is_none()
    }

    /// Whether a breach doesn't count yet at `at`, because windows still hold the old side's data.
    pub fn warming_up(&self, at: Time) -> bool {
        match (self.flipped_at, self.guard.warm_up) {
            (Some(flipped_at), Some(warm_up)) => at < flipped_at.after(warm_up),
            (None, _) | (_, None) => false,
        }
    }

    /// Oldest sample that counts.
    pub fn max_age(&self) -> Span {
        self.guard.max_age.unwrap_or(Guard::DEFAULT_MAX_AGE)
    }

    /// How often the guard is asked while nothing urgent is under way.
    pub fn interval(&self) -> Span {
        self.guard.interval.unwrap_or(Guard::DEFAULT_INTERVAL)
    }

    /// How long a view may go without any answer or failure before it says nothing: three missed polls, or one that hangs.
    pub fn view_expires_after(&self) -> Span {
        let interval = self.interval().0;
        let timeout = self.guard.timeout.unwrap_or(Guard::DEFAULT_TIMEOUT).0;
        Span((interval * 3).max(timeout + interval))
    }

    /// How long a silence is an ordinary wait.
    pub fn hold_budget(&self) -> Span {
        self.guard.hold_budget.unwrap_or(Guard::DEFAULT_HOLD_BUDGET)
    }

    /// The limits in words: `max 0.01`, `max 0.105 (baseline 0.1 + 5%)`, `min 5, max 9`.
    pub fn limits_in_words(&self) -> String {
        let guard = self.guard;
        let low = self.bound_in_words("min", guard.min, guard.max_decrease, '-');
        let high = self.bound_in_words("max", guard.max, guard.max_increase, '+');
        [low, high].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn bound_in_words(&self, word: &str, fixed: Option<f64>, share: Option<Percent>, sign: char) -> Option<String> {
        let relative = self.change(share).map(|(baseline, by)| if sign == '+' { baseline + by } else { baseline - by });
        let Some((share, baseline)) = share.zip(self.baseline.map(|baseline| baseline.value)) else {
            let pending = share.map(|share| format!("{word} baseline {sign} {share}, once taken"));
            let parts: Vec<_> =
                fixed.map(|limit| format!("{word} {}", figure(limit))).into_iter().chain(pending).collect();
            return (!parts.is_empty()).then(|| parts.join(", "));
        };
        let relative = relative?;
        let fixed_is_tighter =
            fixed.is_some_and(|fixed| if sign == '+' { fixed <= relative } else { fixed >= relative });
        if fixed_is_tighter {
            return fixed.map(|limit| format!("{word} {}", figure(limit)));
        }
        let least = self.guard.min_delta.unwrap_or(0.0);
        let by = if least > share.fraction() * baseline.abs() { figure(least) } else { share.to_string() };
        Some(format!("{word} {} (baseline {} {sign} {by})", figure(relative), figure(baseline)))
    }

    /// The baseline and the change from it that a share allows; the share of a tiny baseline is noise, hence `minDelta`.
    fn change(&self, share: Option<Percent>) -> Option<(f64, f64)> {
        let baseline = self.baseline?.value;
        Some((baseline, allowed_change(self.guard, share?, baseline)))
    }
}

/// The change from `baseline` that is still allowed, in the query's own unit.
pub(super) fn allowed_change(guard: &Guard, share: Percent, baseline: f64) -> f64 {
    (share.fraction() * baseline.abs()).max(guard.min_delta.unwrap_or(0.0))
}

fn tighter(fixed: Option<f64>, relative: Option<f64>, pick: fn(f64, f64) -> f64) -> Option<f64> {
    match (fixed, relative) {
        (Some(fixed), Some(relative)) => Some(pick(fixed, relative)),
        (one, other) => one.or(other),
    }
}
