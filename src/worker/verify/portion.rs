//! How large portions are, which of them a sample takes, and in what two lists of rows differ. Pure.

use std::{collections::BTreeMap, time::Duration};

use super::evidence::Kind;
use crate::stores::postgres::reading::{Digested, KeyValue};

/// How long one portion may take: short enough that its snapshot holds back no vacuum, long enough that the barrier before
/// it (some 10 ms) doesn't count.
pub(super) const TARGET: Duration = Duration::from_secs(1);
/// Rows of the first portion.
pub(super) const FIRST_SIZE: i64 = 20_000;
/// No portion is larger.
const LARGEST: i64 = 1_000_000;
/// Portions that a sample is drawn from, at least: fewer would leave its share to chance.
const SAMPLED_FROM: f64 = 400.0;

/// Rows of the next portion: aims at [`TARGET`]; at most twice `size`, a tenth once one took over five times the target.
pub(super) fn next_size(size: i64, took: Duration) -> i64 {
    let took = took.max(Duration::from_millis(1));
    if took > TARGET * 5 {
        return (size / 10).max(1);
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a size needn't be exact")]
    let aimed = (size as f64 * TARGET.as_secs_f64() / took.as_secs_f64()) as i64;
    aimed.clamp(1, size.saturating_mul(2)).min(LARGEST)
}

/// Which portions a sample takes: each with the same chance, from a seed.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    share: f64,
    state: u64,
    taken: bool,
}

impl Sample {
    /// Takes this share, from 0 to 1.
    pub fn new(share: f64, seed: u64) -> Self {
        Self { share, state: seed, taken: false }
    }

    /// Whether it is the whole.
    pub fn is_whole(&self) -> bool {
        self.share >= 1.0
    }

    /// Rows of a portion, so that there are enough of them to draw from.
    pub fn size(&self, estimate: i64, size: i64) -> i64 {
        if self.is_whole() {
            return size;
        }
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a size needn't be exact")]
        let fitting = (estimate.max(0) as f64 / SAMPLED_FROM) as i64;
        fitting.clamp(100, size.max(100))
    }

    /// Whether the next portion is taken. The last one is, if none before it was: a sample of nothing proves nothing.
    pub fn takes(&mut self, last: bool) -> bool {
        // SplitMix64, which needs no more state than a seed.
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits of chance are enough")]
        let chance = (z >> 11) as f64 / (1_u64 << 53) as f64;
        let takes = chance < self.share || (last && !self.taken);
        self.taken |= takes;
        takes
    }
}

/// A row that differs, with the digests of each side: of none, one, or several where a key is there more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub key: KeyValue,
    pub from: Vec<i64>,
    pub to: Vec<i64>,
}

impl Found {
    pub fn kind(&self) -> Kind {
        match self.from.len().cmp(&self.to.len()) {
            std::cmp::Ordering::Greater => Kind::Missing,
            std::cmp::Ordering::Less => Kind::Extra,
            std::cmp::Ordering::Equal => Kind::Different,
        }
    }
}

/// The rows in which two lists differ, by key.
pub(super) fn differences(from: Vec<Digested>, to: Vec<Digested>) -> Vec<Found> {
    let mut rows: BTreeMap<KeyValue, (Vec<i64>, Vec<i64>)> = BTreeMap::new();
    for row in from {
        rows.entry(row.key).or_default().0.push(row.digest);
    }
    for row in to {
        rows.entry(row.key).or_default().1.push(row.digest);
    }
    let differing = rows.into_iter().filter_map(|(key, (mut from, mut to))| {
        from.sort_unstable();
        to.sort_unstable();
        (from != to).then_some(Found { key, from, to })
    });
    differing.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(key: &str, digest: i64) -> Digested {
        Digested { key: vec![key.to_owned()], digest }
    }

    #[test]
    fn a_portion_grows_at_most_twofold_and_shrinks_at_once() {
        assert_eq!(next_size(1_000, Duration::from_millis(1)), 2_000);
        assert_eq!(next_size(1_000, TARGET), 1_000);
        assert_eq!(next_size(1_000, TARGET * 2), 500);
        assert_eq!(next_size(1_000, TARGET * 6), 100);
        assert_eq!((next_size(1, TARGET * 60), next_size(LARGEST, Duration::ZERO)), (1, LARGEST));
    }

    #[test]
    fn a_sample_takes_something_even_of_one_portion() {
        let mut sample = Sample::new(0.000_1, 7);
        assert!((0..100).all(|_| !sample.takes(false)));
        assert!(sample.takes(true));
        let mut whole = Sample::new(1.0, 7);
        assert!((0..100).all(|_| whole.takes(false)) && whole.is_whole());
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_does_not() {
        let draw = |seed| {
            let mut sample = Sample::new(0.3, seed);
            (0..1_000).map(|_| sample.takes(false)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let taken = draw(3).iter().filter(|taken| **taken).count();
        assert!((230..370).contains(&taken), "{taken}");
    }

    #[test]
    fn each_kind_of_difference_is_told_apart() {
        let from = vec![row("a", 1), row("b", 2), row("c", 3), row("d", 4), row("d", 4)];
        let to = vec![row("a", 1), row("b", 9), row("d", 4), row("e", 5)];
        let kinds: Vec<_> = differences(from, to).iter().map(|found| (found.key[0].clone(), found.kind())).collect();
        let expected = [("b", Kind::Different), ("c", Kind::Missing), ("d", Kind::Missing), ("e", Kind::Extra)];
        assert_eq!(kinds, expected.map(|(key, kind)| (key.to_owned(), kind)));
    }

    proptest! {
        #[test]
        fn what_was_changed_is_found_and_nothing_else(
            rows in proptest::collection::btree_map("[a-c]{1,3}", 0_i64..3, 0..30),
            changes in proptest::collection::btree_map("[a-c]{1,3}", proptest::option::of(0_i64..3), 0..10),
        ) {
            let list = |rows: &BTreeMap<String, i64>| rows.iter().map(|(key, digest)| row(key, *digest)).collect::<Vec<_>>();
            let mut after = rows.clone();
            for (key, change) in &changes {
                match change {
                    Some(digest) => after.insert(key.clone(), *digest),
                    None => after.remove(key),
                };
            }
            let found: Vec<_> = differences(list(&rows), list(&after)).into_iter().map(|found| found.key[0].clone()).collect();
            let keys: std::collections::BTreeSet<_> = rows.keys().chain(after.keys()).collect();
            let expected: Vec<_> = keys.into_iter().filter(|key| rows.get(*key) != after.get(*key)).cloned().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
