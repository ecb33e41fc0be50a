//! A share of a sequence, spread evenly: 0.3 takes every third or fourth.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A part of one, from 0 (none) to 1 (all).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

/// A share that isn't between 0 and 1.
#[derive(Debug, thiserror::Error)]
#[error("a share is a number from 0 to 1, such as 0.3")]
pub struct ShareError;

impl TryFrom<f64> for Share {
    type Error = ShareError;

    fn try_from(part: f64) -> Result<Self, ShareError> {
        if (0.0..=1.0).contains(&part) { Ok(Self(part)) } else { Err(ShareError) }
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        Self::try_from(text.parse::<f64>().map_err(|_| ShareError)?)
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> f64 {
        share.0
    }
}

impl Share {
    /// Says whether the `n`th of a sequence (counted from 0) belongs to the share.
    ///
    /// Of the first n, the share holds n times its part, rounded down: it never runs ahead and
    /// never falls behind by more than one. Deliberately not random, so that a short run shows
    /// the share that was asked for.
    pub fn holds(self, n: u64) -> bool {
        self.of_first(n + 1) > self.of_first(n)
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count below 2^52, times at most one, rounded down, is such a count again"
    )]
    fn of_first(self, n: u64) -> u64 {
        (n as f64 * self.0).floor() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_kept_at_every_length() {
        for part in [0.0, 0.1, 0.3, 0.5, 0.999, 1.0] {
            let share = Share::try_from(part).unwrap();
            let mut held = 0;
            for n in 0..10_000_u32 {
                held += u32::from(share.holds(u64::from(n)));
                let exact = f64::from(n + 1) * part;
                assert!(f64::from(held) <= exact && f64::from(held) > exact - 1.0);
            }
        }
    }

    #[test]
    fn a_share_outside_of_zero_to_one_is_refused() {
        for text in ["-0.1", "1.1", "NaN", "all"] {
            assert!(text.parse::<Share>().is_err(), "{text} was accepted");
        }
    }
}
