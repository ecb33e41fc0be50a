//! Walks a table's key ahead of those who read, and lays out ranges of it: one after the other, without a gap, from below
//! the first row to beyond the last.
//!
//! Where the bounds lie decides only how fast things go, so no snapshot is kept for it. A gap of a billion in the keys costs
//! nothing: bounds are keys that are there. A table into which rows keep coming ends at the key that was the highest when
//! the walk began; the last range takes in whatever lies beyond.

use std::{collections::VecDeque, time::Duration};

use super::{
    halt::Halt,
    portion::{FIRST_SIZE, Sample, next_size},
    table::count,
};
use crate::stores::postgres::{
    Session,
    reading::{KeyRange, KeyValue, Reading},
};

/// How far the ranges have got.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    after: Option<KeyValue>,
    last: Option<KeyValue>,
    sample: Sample,
    /// Rows of the next range.
    pub size: i64,
    /// There is no further range.
    pub ended: bool,
}

/// Ranges laid out ahead.
pub(super) struct LaidOut {
    /// Those to read.
    pub ranges: VecDeque<KeyRange>,
    /// Where the walk is after them.
    pub walk: Walk,
    /// Rows that the sample passes over.
    pub passed_over: u64,
}

impl Walk {
    pub fn new(sample: Sample) -> Self {
        Self { after: None, last: None, sample, size: FIRST_SIZE, ended: false }
    }

    /// Learns from a range: its rows, and how long they took.
    pub fn learn(&mut self, rows: i64, took: Duration) {
        self.size = next_size(rows.max(1), took);
    }

    /// Lays out the next ranges. The walk itself is where it was until the caller takes over the new one, so that ranges
    /// whose end was not seen are laid out anew.
    pub async fn lay_out(
        &self,
        reading: &Reading,
        session: &Session,
        wanted: usize,
        estimate: i64,
    ) -> Result<LaidOut, Halt> {
        let mut walk = self.clone();
        let key = |rows: Vec<tokio_postgres::Row>| rows.first().map(|row| row.get::<_, KeyValue>(0));
        if walk.last.is_none() && walk.after.is_none() {
            walk.last = key(reading.highest().rows(session).await?);
        }
        let (mut ranges, mut passed_over) = (VecDeque::new(), 0);
        let size = walk.sample.size(estimate, walk.size);
        while ranges.len() < wanted && !walk.ended {
            let upto = match &walk.last {
                None => None,
                Some(last) => {
                    let rest = KeyRange { after: walk.after.clone(), upto: Some(last.clone()) };
                    key(reading.walk(&rest, size).rows(session).await?)
                }
            };
            walk.ended = upto.is_none() || upto == walk.last;
            let range = KeyRange { after: walk.after.take(), upto: if walk.ended { None } else { upto.clone() } };
            walk.after = upto;
            if walk.sample.takes(walk.ended) {
                ranges.push_back(range);
            } else if walk.ended {
                let rows = reading.count_range(&range).rows(session).await?;
                passed_over += rows.first().map_or(0, |row| count(row.get("rows")));
            } else {
                passed_over += count(size);
            }
        }
        Ok(LaidOut { ranges, walk, passed_over })
    }
}
