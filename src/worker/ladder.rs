//! Growing delays between tries: pure, so that tests drive it without waiting.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::Span;

/// How to try again: the first delay, doubled each time up to the longest, for as long as it is worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ladder {
    /// Delay after the first failed try.
    pub first: Span,
    /// No delay is longer.
    pub longest: Span,
    /// Time from the first try after which there is no other.
    pub give_up_after: Span,
}

impl Default for Ladder {
    /// A lock that is not to be had for ten minutes is held by something that a person should look at.
    fn default() -> Self {
        Self { first: Span::millis(500), longest: Span::secs(30), give_up_after: Span::secs(600) }
    }
}

impl Ladder {
    /// The delays, with jitter out of `seed`, so that several workers don't knock at the same moment.
    pub fn climb(self, seed: u64) -> Climb {
        Climb { ladder: self, tries: 0, noise: seed }
    }
}

/// A ladder being climbed.
#[derive(Clone, Debug)]
pub struct Climb {
    ladder: Ladder,
    tries: u32,
    noise: u64,
}

impl Climb {
    /// The next delay, if there is still time for a try. `elapsed` is the time since the first try. Between 75 % and
    /// 125 % of the plain doubling, never longer than `longest`, nor than what is left.
    pub fn next(&mut self, elapsed: Duration) -> Option<Duration> {
        let left = self.ladder.give_up_after.0.checked_sub(elapsed).filter(|left| !left.is_zero())?;
        let doubled = self.ladder.first.0.saturating_mul(2_u32.saturating_pow(self.tries));
        self.tries = self.tries.saturating_add(1);
        let eighths = 6 + u32::try_from(self.draw() % 5).expect("a remainder of five fits");
        let jittered = doubled.min(self.ladder.longest.0).saturating_mul(eighths) / 8;
        Some(jittered.min(self.ladder.longest.0).min(left))
    }

    /// Tries that have failed so far.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// SplitMix64, which needs no more state than a seed.
    fn draw(&mut self) -> u64 {
        self.noise = self.noise.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.noise;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LADDER: Ladder = Ladder { first: Span::secs(1), longest: Span::secs(10), give_up_after: Span::secs(60) };

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut climb = LADDER.climb(7);
        let delays: Vec<_> = (0..6).map(|_| climb.next(Duration::ZERO).unwrap().as_secs_f64()).collect();
        for (delay, plain) in delays.iter().zip([1.0, 2.0, 4.0, 8.0, 10.0, 10.0]) {
            assert!((plain * 0.75..=plain * 1.25).contains(delay) && *delay <= 10.0, "{delays:?}");
        }
        assert_eq!(climb.tries(), 6);
    }

    #[test]
    fn two_workers_knock_at_different_moments() {
        let delays = |seed| {
            let mut climb = LADDER.climb(seed);
            (0..8).map(|_| climb.next(Duration::ZERO)).collect::<Vec<_>>()
        };
        assert_ne!(delays(1), delays(2));
        assert_eq!(delays(1), delays(1));
    }

    #[test]
    fn nothing_is_tried_once_the_time_is_up() {
        let mut climb = LADDER.climb(0);
        assert_eq!(climb.next(Duration::from_mins(1)), None);
        assert_eq!(climb.next(Duration::from_millis(59_900)), Some(Duration::from_millis(100)));
    }

    proptest! {
        #[test]
        fn any_ladder_ends(first in 0_u64..5_000, longest in 0_u64..5_000, give_up in 0_u64..60_000, seed: u64) {
            let ladder = Ladder {
                first: Span::millis(first),
                longest: Span::millis(longest),
                give_up_after: Span::millis(give_up),
            };
            let mut climb = ladder.climb(seed);
            let mut elapsed = Duration::ZERO;
            // Each try takes at least a millisecond.
            for _ in 0..=give_up {
                let Some(delay) = climb.next(elapsed) else { return Ok(()) };
                prop_assert!(delay <= ladder.longest.0);
                prop_assert!(elapsed + delay <= ladder.give_up_after.0);
                elapsed += delay + Duration::from_millis(1);
            }
            prop_assert_eq!(climb.next(elapsed), None);
        }
    }
}
