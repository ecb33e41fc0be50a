//! What a guard was like just before the flip: a value and a spread, or the reason why there is none.

use super::{figure, limits::allowed_change};
use crate::api::{BaselineStatus, Guard, Span, Time};

/// Fewest samples that make a spread mean anything: a window of 5 min at the slowest usual scrape interval, 1 min.
pub const MIN_SAMPLES: usize = 5;

/// What one sample in the window said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When Prometheus took it.
    pub at: Time,
    /// The query's value on it; not a number where a division had nothing to divide.
    pub value: f64,
}

/// Why a window makes no baseline.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// No sample at all.
    #[error("the window of {window} before the flip holds no data")]
    NoData {
        /// Length of the window.
        window: Span,
    },
    /// Some samples have no finite value.
    #[error("{bad} of {samples} samples of the last {window} are not a number")]
    NotANumber {
        /// Samples without a finite value.
        bad: usize,
        /// Samples in all.
        samples: usize,
        /// Length of the window.
        window: Span,
    },
    /// Too few to know a spread.
    #[error(
        "the last {window} hold {samples} samples over {covered}; a baseline needs at least {MIN_SAMPLES}, over at least half the window"
    )]
    TooFew {
        /// Samples in the window.
        samples: usize,
        /// Time from the first to the last of them.
        covered: Span,
        /// Length of the window.
        window: Span,
    },
    /// A share of zero is zero.
    #[error(
        "the value was 0 over the last {window}, and a change in percent of 0 means nothing; write `max` or `min` instead"
    )]
    Zero {
        /// Length of the window.
        window: Span,
    },
    /// The limit would be exceeded by the old side's own ups and downs.
    #[error(
        "the limit is inside the baseline's own noise: over the last {window} the value was {} with samples up to {} away ({samples} samples), but the limit allows a change of only {}; raise the limit, `minDelta` or the query's own window",
        figure(*.value), figure(*.spread), figure(*.allowed)
    )]
    Noisy {
        /// Mean of the window.
        value: f64,
        /// Largest distance of a sample from it.
        spread: f64,
        /// Samples in the window.
        samples: usize,
        /// The change that the limit allows.
        allowed: f64,
        /// Length of the window.
        window: Span,
    },
}

/// Makes the baseline of `guard` from the samples of its window, each counted once, oldest first.
///
/// # Errors
/// No data, a value that is not a number, too few samples, a mean of zero, or a limit inside the window's own noise.
pub fn baseline(guard: &Guard, samples: &[Sample], taken_at: Time) -> Result<BaselineStatus, Refusal> {
    let window = guard.baseline_window.unwrap_or(Guard::DEFAULT_BASELINE_WINDOW);
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return Err(Refusal::NoData { window });
    };
    let count = samples.len();
    let bad = samples.iter().filter(|sample| !sample.value.is_finite()).count();
    if bad > 0 {
        return Err(Refusal::NotANumber { bad, samples: count, window });
    }
    let covered = last.at.since(first.at);
    if count < MIN_SAMPLES || covered.0 * 2 < window.0 {
        return Err(Refusal::TooFew { samples: count, covered, window });
    }
    // A running mean: that of equal samples is exactly their value, and no sum can overflow.
    let (mut value, mut seen) = (0.0, 0.0);
    for sample in samples {
        seen += 1.0;
        value += (sample.value - value) / seen;
    }
    let spread = samples.iter().map(|sample| (sample.value - value).abs()).fold(0.0, f64::max);
    if !spread.is_finite() {
        return Err(Refusal::NotANumber { bad: count, samples: count, window });
    }
    if value == 0.0 {
        return Err(Refusal::Zero { window });
    }
    let shares = [guard.max_increase, guard.max_decrease].into_iter().flatten();
    let allowed = shares.map(|share| allowed_change(guard, share, value)).fold(f64::INFINITY, f64::min);
    if spread > allowed {
        return Err(Refusal::Noisy { value, spread, samples: count, allowed, window });
    }
    let samples = u32::try_from(count).unwrap_or(u32::MAX);
    Ok(BaselineStatus { guard: guard.name.clone(), value, spread, samples, taken_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(min_delta: f64) -> Guard {
        let json = serde_json::json!({
            "name": "p99", "query": "q", "maxIncrease": "5%", "minDelta": min_delta, "baselineWindow": "27s",
        });
        serde_json::from_value(json).unwrap()
    }

    /// Samples 3 s apart.
    fn window(values: &[f64]) -> Vec<Sample> {
        values.iter().zip(0..).map(|(&value, index)| Sample { at: Time(index * 3_000), value }).collect()
    }

    /// Idle p99 over nine windows of 3 s, in milliseconds, as it was once measured.
    const IDLE_P99: [f64; 9] = [1.3, 2.1, 1.6, 3.7, 1.4, 1.9, 2.4, 1.5, 1.8];

    #[test]
    fn a_baseline_is_a_value_and_a_spread() {
        let made = baseline(&guard(2.0), &window(&IDLE_P99), Time(70)).unwrap();
        assert!((made.value - 1.966_7).abs() < 0.001, "{made:?}");
        assert!((made.spread - 1.733_3).abs() < 0.001, "{made:?}");
        assert_eq!((made.guard.as_str(), made.samples, made.taken_at), ("p99", 9, Time(70)));
    }

    #[test]
    fn a_limit_inside_the_noise_is_refused_with_the_figures() {
        let refused = baseline(&guard(0.5), &window(&IDLE_P99), Time(70)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the limit is inside the baseline's own noise: over the last 27s the value was 1.967 with samples up to 1.733 away (9 samples), but the limit allows a change of only 0.5; raise the limit, `minDelta` or the query's own window"
        );
    }

    #[test]
    fn a_window_of_zeros_is_refused() {
        assert_eq!(baseline(&guard(0.5), &window(&[0.0; 9]), Time(70)), Err(Refusal::Zero { window: Span::secs(27) }));
    }

    #[test]
    fn a_window_without_data_is_refused() {
        assert_eq!(baseline(&guard(0.5), &[], Time(70)), Err(Refusal::NoData { window: Span::secs(27) }));
    }

    #[test]
    fn few_samples_and_a_short_piece_of_the_window_are_refused() {
        let few = baseline(&guard(0.5), &window(&[1.0; 4]), Time(70)).unwrap_err();
        assert!(few.to_string().starts_with("the last 27s hold 4 samples over 9s; "), "{few}");
        let short: Vec<_> = (0..20).map(|index| Sample { at: Time(index * 200), value: 1.0 }).collect();
        assert!(matches!(baseline(&guard(0.5), &short, Time(70)), Err(Refusal::TooFew { samples: 20, .. })));
    }
}
