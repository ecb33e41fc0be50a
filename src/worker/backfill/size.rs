//! How many rows the next chunk is to have: pure.
//!
//! A chunk's locks are held while it runs, so its size follows the time it takes. Growth is slow and shrinking is quick:
//! one chunk that is far too slow says more than ten that were fine.

use std::{collections::VecDeque, time::Duration};

/// Chunks that the size is judged by.
const WINDOW: usize = 10;
/// Growth from one judgement to the next, at most.
const GROWTH: f64 = 1.5;
/// A chunk that takes this many times the target divides the size by [`SHRINK`].
const FAR_OVER: u32 = 5;
/// See [`FAR_OVER`].
const SHRINK: u32 = 10;
/// Time-outs in a row after which a chunk is split.
const TIMEOUTS: u32 = 3;

/// Size of the next chunk, from the times of the last ones.
#[derive(Clone, Debug)]
pub struct ChunkSize {
    rows: u32,
    most: u32,
    target: Duration,
    times: VecDeque<Duration>,
    timeouts: u32,
}

impl ChunkSize {
    /// Begins with `first` rows, never has more than `most`, and aims at `target` for one chunk.
    pub fn new(first: u32, most: u32, target: Duration) -> Self {
        let most = most.max(1);
        Self { rows: first.clamp(1, most), most, target, times: VecDeque::with_capacity(WINDOW), timeouts: 0 }
    }

    /// Rows of the next chunk, from 1.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Learns from a chunk of full size. One that ended early says nothing about the size.
    pub fn took(&mut self, time: Duration) {
        self.timeouts = 0;
        if time > self.target.saturating_mul(FAR_OVER) {
            self.resize(self.rows / SHRINK);
            return;
        }
        if self.times.len() == WINDOW {
            self.times.pop_front();
        }
        self.times.push_back(time);
        // Down at once, up only on the word of several.
        let p90 = p90(&self.times);
        if p90 > self.target || self.times.len() >= WINDOW / 2 {
            let factor = (self.target.as_secs_f64() / p90.as_secs_f64().max(1e-6)).min(GROWTH);
            // Within a tenth of the target it is where it should be.
            if !(0.9..=1.1).contains(&factor) {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped right after")]
                let rows = (f64::from(self.rows) * factor) as u32;
                // A size of one would else never grow.
                let least = if factor > 1.0 { self.rows.saturating_add(1) } else { 1 };
                self.resize(rows.max(least));
            }
        }
    }

    /// Learns that a chunk ran into a time limit. True if that was the last try at this size: it has been split.
    pub fn timed_out(&mut self) -> bool {
        self.timeouts += 1;
        if self.timeouts < TIMEOUTS {
            return false;
        }
        self.resize(self.rows / 2);
        true
    }

    /// Goes down to find a single row that is refused; false once it is down to one.
    pub fn narrow(&mut self) -> bool {
        let narrower = self.rows > 1;
        self.resize(self.rows / SHRINK);
        narrower
    }

    /// Follows limits that were changed meanwhile.
    pub fn limit(&mut self, most: u32, target: Duration) {
        self.most = most.max(1);
        self.target = target;
        if self.rows > self.most {
            self.resize(self.most);
        }
    }

    fn resize(&mut self, rows: u32) {
        self.rows = rows.clamp(1, self.most);
        self.times.clear();
        self.timeouts = 0;
    }
}

fn p90(times: &VecDeque<Duration>) -> Duration {
    let mut sorted: Vec<_> = times.iter().copied().collect();
    sorted.sort_unstable();
    sorted[(sorted.len() * 9).div_ceil(10) - 1]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGET: Duration = Duration::from_millis(50);

    fn after(first: u32, chunks: usize, time_of: impl Fn(u32) -> Duration) -> ChunkSize {
        let mut size = ChunkSize::new(first, 100_000, TARGET);
        for _ in 0..chunks {
            size.took(time_of(size.rows()));
        }
        size
    }

    #[test]
    fn a_size_grows_until_a_chunk_takes_as_long_as_it_should() {
        let size = after(100, 200, |rows| Duration::from_micros(u64::from(rows) * 10));
        assert!((4_000..=5_500).contains(&size.rows()), "{}", size.rows());
    }

    #[test]
    fn a_chunk_five_times_over_its_target_divides_the_size_by_ten() {
        let mut size = ChunkSize::new(1_000, 10_000, TARGET);
        size.took(TARGET * 5);
        assert!(size.rows() > 100, "five times is not yet over five times");
        let mut size = ChunkSize::new(1_000, 10_000, TARGET);
        size.took(TARGET * 5 + Duration::from_nanos(1));
        assert_eq!(size.rows(), 100);
    }

    #[test]
    fn three_time_outs_in_a_row_split_a_chunk() {
        let mut size = ChunkSize::new(1_000, 10_000, TARGET);
        assert!(!size.timed_out() && !size.timed_out());
        size.took(TARGET);
        assert!(!size.timed_out() && !size.timed_out() && size.timed_out());
        assert_eq!(size.rows(), 500);
    }

    #[test]
    fn a_refused_row_is_narrowed_down_to() {
        let mut size = ChunkSize::new(1_000, 10_000, TARGET);
        let steps = std::iter::from_fn(|| size.narrow().then(|| size.rows())).collect::<Vec<_>>();
        assert_eq!(steps, [100, 10, 1]);
    }

    proptest! {
        #[test]
        fn no_size_is_nought_or_beyond_its_limit_or_grows_by_more_than_half(
            first in 0_u32..200_000, most in 1_u32..100_000, times in proptest::collection::vec(0_u64..2_000, 0..200),
        ) {
            let mut size = ChunkSize::new(first, most, TARGET);
            for time in times {
                let before = size.rows();
                size.took(Duration::from_millis(time));
                prop_assert!((1..=most).contains(&size.rows()));
                prop_assert!(f64::from(size.rows()) <= (f64::from(before) * GROWTH).max(f64::from(before) + 1.0));
            }
        }

        #[test]
        fn whatever_a_row_costs_the_size_finds_the_target(first in 1_u32..5_000, cost in 1_u64..500, fixed in 0_u64..2_000) {
            let time = |rows: u32| Duration::from_micros(fixed + u64::from(rows) * cost);
            let size = after(first, 300, time);
            let reached = time(size.rows());
            let at_a_limit = size.rows() == 100_000 || size.rows() == 1;
            prop_assert!(at_a_limit || (TARGET.mul_f64(0.6)..=TARGET.mul_f64(1.15)).contains(&reached), "{reached:?}");
        }
    }
}
