//! When each request is due, and which one it is. Pure.
//!
//! The schedule is open: it never waits for an answer, so a server that stalls meets all the
//! requests that its users would have sent meanwhile, and each is timed from when it was due.

use std::time::Duration;

use serde::Serialize;

use crate::share::Share;

/// Which kind of connection a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A connection of its own, opened for it and closed after it.
    New,
    /// One of the connections that are kept open.
    KeepAlive,
}

impl Kind {
    /// The name as labels show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::KeepAlive => "keep-alive",
        }
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads an item. May be repeated.
    Read,
    /// Takes a piece of an item. Must not be repeated unless it is certain that it wasn't sent.
    Take,
}

impl Operation {
    /// The name as the record shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Take => "take",
        }
    }
}

/// One request to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// When it is due, from the start of the schedule.
    pub due: Duration,
    /// On which kind of connection.
    pub kind: Kind,
    /// What it does.
    pub operation: Operation,
    /// To which item, from 1.
    pub item: u64,
}

/// How the requests are mixed.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Requests per second, over both kinds. Above 0.
    pub rate: f64,
    /// The share of requests that open a connection of their own.
    pub new: Share,
    /// The share of requests that take, within each kind.
    pub takes: Share,
    /// How many items there are. Above 0.
    pub items: u64,
}

/// The requests to come, without end.
#[derive(Clone, Debug)]
pub struct Schedule {
    mix: Mix,
    next: u64,
    of_new: u64,
    of_keep_alive: u64,
}

impl Schedule {
    /// Begins with a request that is due at once.
    pub fn new(mix: Mix) -> Self {
        Self { mix, next: 0, of_new: 0, of_keep_alive: 0 }
    }
}

impl Iterator for Schedule {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        let n = self.next;
        self.next += 1;
        let (kind, of_kind) = if self.mix.new.holds(n) {
            (Kind::New, &mut self.of_new)
        } else {
            (Kind::KeepAlive, &mut self.of_keep_alive)
        };
        // Counted within its kind: were both shares counted over all requests, then with halves of
        // each every new connection would take and every kept one would read.
        let takes = self.mix.takes.holds(*of_kind);
        *of_kind += 1;
        Some(Slot {
            due: due(n, self.mix.rate),
            kind,
            operation: if takes { Operation::Take } else { Operation::Read },
            item: scatter(n) % self.mix.items + 1,
        })
    }
}

/// From the number, not from the slot before: a schedule that adds up drifts.
#[expect(clippy::cast_precision_loss, reason = "a request's number stays below 2^52")]
fn due(n: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(n as f64 / rate)
}

/// Spreads neighbouring numbers over all items, the same way in each run (the finishing step of
/// the `SplitMix64` generator).
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: f64, new: f64, takes: f64) -> Schedule {
        Schedule::new(Mix {
            rate,
            new: Share::try_from(new).unwrap(),
            takes: Share::try_from(takes).unwrap(),
            items: 100,
        })
    }

    #[test]
    fn requests_are_due_at_an_even_rate_that_does_not_drift() {
        let slots = schedule(300.0, 0.5, 0.5).take(300_001);
        let last = slots.last().unwrap();
        assert_eq!(last.due, Duration::from_secs(1_000));
    }

    #[test]
    fn each_kind_of_connection_takes_and_reads_in_its_share() {
        let slots: Vec<_> = schedule(500.0, 0.5, 0.5).take(1_000).collect();
        for kind in [Kind::New, Kind::KeepAlive] {
            for operation in [Operation::Read, Operation::Take] {
                let count = slots.iter().filter(|slot| slot.kind == kind && slot.operation == operation).count();
                assert_eq!(count, 250, "{kind:?} {operation:?}");
            }
        }
    }

    #[test]
    fn all_items_are_asked_for_and_no_other() {
        let mut seen = [0_u32; 100];
        for slot in schedule(500.0, 0.5, 0.5).take(10_000) {
            seen[usize::try_from(slot.item - 1).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| *count > 0));
    }

    #[test]
    fn a_schedule_without_new_connections_has_none() {
        assert!(schedule(10.0, 0.0, 0.5).take(1_000).all(|slot| slot.kind == Kind::KeepAlive));
    }
}
