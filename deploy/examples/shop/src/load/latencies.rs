//! Latencies in bounded memory: counts in buckets that widen with the value. Pure.

use std::time::Duration;

/// Each doubling of the value is cut into 2^5 buckets: a quantile is off by at most 1/32, about
/// 3 %, whatever its size.
const BITS: u32 = 5;

/// Counts of latencies, in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
    slowest: Option<Duration>,
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        let index = bucket(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        self.total += 1;
        self.slowest = self.slowest.max(Some(latency));
    }

    /// Counts all of another's.
    pub fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.slowest = self.slowest.max(other.slowest);
    }

    /// Returns the slowest, exactly. `None` where none was counted.
    pub fn slowest(&self) -> Option<Duration> {
        self.slowest
    }

    /// Returns the latency that `per_mille` of a thousand don't exceed, rounded up to its bucket's
    /// end but not beyond the slowest. `None` where none was counted.
    pub fn quantile(&self, per_mille: u64) -> Option<Duration> {
        let slowest = self.slowest?;
        let rank = (self.total * per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros(bucket_end(index)).min(slowest))
    }
}

fn bucket(micros: u64) -> usize {
    let shift = (u64::BITS - micros.leading_zeros()).saturating_sub(BITS + 1);
    let index = (u64::from(shift) << BITS) + (micros >> shift);
    usize::try_from(index).expect("at most 60 doublings of 32 buckets")
}

/// The largest value of a bucket.
fn bucket_end(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index >> BITS).saturating_sub(1);
    let first = (index - (shift << BITS)) << shift;
    first + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_lies_in_its_bucket_and_buckets_are_narrow() {
        let values = (0..10_000).chain((0..64).map(|bit| 1_u64 << bit));
        for micros in values {
            let index = bucket(micros);
            let end = bucket_end(index);
            let before = index.checked_sub(1).map(bucket_end);
            assert!(micros <= end && before.is_none_or(|before| micros > before));
            assert!(end - micros <= micros / 32, "{micros} is shown as {end}");
        }
    }

    #[test]
    fn quantiles_of_a_known_sequence_come_back() {
        let mut latencies = Latencies::default();
        for millis in 1..=1_000 {
            latencies.record(Duration::from_millis(millis));
        }
        for (per_mille, exact) in [(500, 500), (990, 990), (999, 999)] {
            let shown = latencies.quantile(per_mille).unwrap();
            let exact = Duration::from_millis(exact);
            assert!(shown >= exact && shown <= exact + exact / 32);
        }
        assert_eq!(latencies.slowest(), Some(Duration::from_secs(1)));
        assert_eq!(latencies.quantile(1_000), Some(Duration::from_secs(1)));
    }

    #[test]
    fn two_halves_add_up_to_the_whole() {
        let (mut whole, mut low, mut high) = <(Latencies, Latencies, Latencies)>::default();
        for millis in 1..=100 {
            let latency = Duration::from_millis(millis);
            whole.record(latency);
            (if millis <= 50 { &mut low } else { &mut high }).record(latency);
        }
        low.add(&high);
        for per_mille in [1, 500, 990, 1_000] {
            assert_eq!(low.quantile(per_mille), whole.quantile(per_mille));
        }
    }

    #[test]
    fn nothing_counted_is_not_zero() {
        assert_eq!(Latencies::default().quantile(500), None);
        assert_eq!(Latencies::default().slowest(), None);
    }
}
