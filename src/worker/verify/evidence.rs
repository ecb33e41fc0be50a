//! What a verification has seen: the whole as JSON for whoever asks later, and the short of it for status.

use serde::{Deserialize, Serialize};

use crate::{api::Time, worker::task::MigrationRef};

/// Version of the evidence's meaning.
pub const FORMAT_VERSION: u32 = 1;
/// Rows whose keys are named, a table.
pub const NAMED_ROWS: usize = 20;
/// Ranges and barriers that are listed, a table. What is beyond is in the totals.
const LISTED: usize = 2_000;
/// Longest key in the short form, in bytes.
const MAX_KEY: usize = 100;
/// Most keys in the short form: twenty of a hundred bytes leave the message its place.
const SHORT_KEYS: usize = 20;

/// What came of a verification, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// Everything that was compared is as it must be, and it was not nothing.
    Equal,
    /// Rows differed and have been made equal.
    Repaired,
    /// Rows differ, or don't meet an expectation.
    Differs,
    /// No row was found to look at.
    ComparedNothing,
    /// It did not come to its end, or rows kept changing under its eyes: nothing is proven.
    #[default]
    Incomplete,
}

/// All that a verification has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What came of it.
    pub finding: Finding,
    /// The same as a sentence.
    pub message: String,
    /// For which migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationRef>,
    /// Name of the phase.
    pub phase: String,
    /// Attempt and try.
    pub attempt: (u32, u32),
    /// When it began, by the worker's clock.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// Seed of the digests and of the sample.
    pub seed: i64,
    /// How rows became numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The stores.
    pub stores: Vec<StoreSeen>,
    /// The tables that were compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableSeen>,
    /// What a pattern took in and was not compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// What each expression came to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<ExpectationSeen>,
}

/// A store, so that nobody takes this for evidence about another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreSeen {
    /// Its name in the spec.
    pub name: String,
    /// The server's own identity, which a copy of its files shares; absent where the role may not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    /// Its database.
    pub database: String,
    /// Its version.
    pub version: String,
}

/// Something that was not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// What was seen of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableSeen {
    /// Its name, quoted as SQL.
    pub name: String,
    /// It was looked at to the end.
    pub complete: bool,
    /// The key by which rows were found.
    pub key: Vec<String>,
    /// How it was cut into portions; why not into ranges, where it wasn't.
    pub portions: String,
    /// Columns that were compared.
    pub columns: Vec<String>,
    /// Columns that the spec leaves out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// Columns of the new side alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_new: Vec<String>,
    /// Rows compared on the old side.
    pub rows_from: u64,
    /// Rows compared on the new side.
    pub rows_to: u64,
    /// Rows that the sample passed over, as the old side's index counted them.
    pub passed_over: u64,
    /// Rows of the whole table on both sides at one moment, where they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<(u64, u64)>,
    /// Rows that differ, by kind.
    pub differing: Kinds,
    /// Rows that were equal when looked at again: they had been in flight.
    pub settled: u64,
    /// Rows that kept changing, so that nothing can be said of them.
    pub unsettled: u64,
    /// Rows that are written differently and equal by the spec's policy.
    pub equal_by_value: u64,
    /// Rows that were made equal.
    pub repaired: Kinds,
    /// Ranges that differ and were not looked into row by row, since so many rows differ already.
    pub not_looked_into: u64,
    /// The first of the rows that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<RowSeen>,
    /// Duplicates that would break a unique index of the other side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duplicates: Vec<DuplicateSeen>,
    /// The portions that were compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<RangeSeen>,
    /// The barriers under which that was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub barriers: Vec<BarrierSeen>,
    /// Barriers that were asked for and not had.
    pub barriers_missed: u64,
    /// Why the last of them was not had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_missed: Option<String>,
    /// Ranges and barriers that are not listed.
    pub unlisted: u64,
}

/// Rows by the kind of difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kinds {
    /// On the old side alone.
    pub missing: u64,
    /// On the new side alone.
    pub extra: u64,
    /// On both, with other contents.
    pub different: u64,
}

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// It is on the old side alone.
    Missing,
    /// It is on the new side alone.
    Extra,
    /// It is on both, with other contents.
    Different,
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RowSeen {
    /// How.
    pub kind: Kind,
    /// Its key.
    pub key: Vec<String>,
    /// The columns that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

/// Rows that a unique index of the other side would not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DuplicateSeen {
    /// The unique index, on the other side.
    pub index: String,
    /// The store that holds the rows.
    pub store: String,
    /// The values that they share.
    pub values: Vec<Option<String>>,
    /// How many they are.
    pub rows: u64,
    /// The keys of the first of them.
    pub keys: Vec<Vec<String>>,
}

/// A portion that was compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RangeSeen {
    /// Above this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<String>>,
    /// Up to and with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upto: Option<Vec<String>>,
    /// Rows on the old side.
    pub rows_from: u64,
    /// Rows on the new side.
    pub rows_to: u64,
    /// The sums of digests were the same at the first look.
    pub equal: bool,
}

/// A barrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BarrierSeen {
    /// When the snapshots were there, by the worker's clock.
    pub at: Time,
    /// The old side's snapshot.
    pub from: String,
    /// The new side's.
    pub to: String,
    /// Until the lock was granted, in microseconds.
    pub lock_wait_us: u64,
    /// From then until it was let go, in microseconds: what writers of the table waited at most, besides.
    pub held_us: u64,
}

/// What an expression came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExpectationSeen {
    /// The expression as the user wrote it.
    pub expression: String,
    /// Rows of which it is true.
    pub holds: u64,
    /// Rows of which it is false.
    pub fails: u64,
    /// Rows of which it is NULL; they don't pass.
    pub is_null: u64,
    /// Rows of which the server can't say, for it raises an error; they don't pass.
    pub raises: u64,
    /// The error that one of them raises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Keys of the first rows that don't pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Vec<String>>,
}

/// The short of it, small enough for a termination message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Verified {
    /// What came of it.
    pub finding: Finding,
    /// Tables compared.
    pub tables: u64,
    /// Rows compared, or looked at, on the old side or the only one.
    pub rows: u64,
    /// Share of the rows that were compared, as "100%".
    pub covered: String,
    /// Rows that differ at the end.
    pub differing: Kinds,
    /// Rows that don't meet an expectation.
    pub unmet: u64,
    /// Rows that were made equal.
    pub repaired: u64,
    /// Rows that had only been in flight.
    pub settled: u64,
    /// Rows that kept changing.
    pub unsettled: u64,
    /// Duplicates that would break a unique index of the other side.
    pub duplicates: u64,
    /// Barriers that were had.
    pub barriers: u64,
    /// The longest that writers were held up by one, in milliseconds: the wait for the lock, and the time it was held.
    pub longest_hold_ms: u64,
    /// The first rows that are wrong: the table, the kind and the key of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
}

impl Kinds {
    /// All of them.
    pub fn total(self) -> u64 {
        self.missing + self.extra + self.different
    }

    /// Counts one more.
    pub fn add(&mut self, kind: Kind) {
        match kind {
            Kind::Missing => self.missing += 1,
            Kind::Extra => self.extra += 1,
            Kind::Different => self.different += 1,
        }
    }
}

impl std::ops::AddAssign for Kinds {
    fn add_assign(&mut self, other: Self) {
        self.missing += other.missing;
        self.extra += other.extra;
        self.different += other.different;
    }
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Different => "different",
        }
    }
}

impl TableSeen {
    /// Lists a portion, while there is room.
    pub fn list_range(&mut self, range: RangeSeen) {
        if self.ranges.len() < LISTED { self.ranges.push(range) } else { self.unlisted += 1 }
    }

    /// Lists a barrier, while there is room; one that took longer than all before takes the last place.
    pub fn list_barrier(&mut self, barrier: BarrierSeen) {
        if self.barriers.len() >= LISTED {
            self.unlisted += 1;
            let longest = self.barriers.iter().map(BarrierSeen::hold_us).max().unwrap_or(0);
            if barrier.hold_us() <= longest {
                return;
            }
            self.barriers.pop();
        }
        self.barriers.push(barrier);
    }

    /// Something about it stands in the way of "equal".
    pub fn is_wrong(&self) -> bool {
        let counts_differ = self.counted.is_some_and(|(from, to)| from != to);
        self.differing.total() > 0 || counts_differ || !self.duplicates.is_empty() || self.not_looked_into > 0
    }

    /// It can be said of each row whether it differs.
    pub fn is_certain(&self) -> bool {
        self.complete && self.unsettled == 0
    }

    /// Rows that something was found out about.
    pub fn rows_seen(&self) -> u64 {
        let (from, to) = self.counted.unwrap_or_default();
        self.rows_from.max(self.rows_to).max(from).max(to)
    }
}

impl BarrierSeen {
    fn hold_us(&self) -> u64 {
        self.lock_wait_us + self.held_us
    }
}

impl Evidence {
    /// The share of the rows whose contents were compared, of those that the walk has counted.
    pub fn covered(&self) -> String {
        let compared: u64 = self.tables.iter().map(|table| table.rows_from).sum();
        let passed_over: u64 = self.tables.iter().map(|table| table.passed_over).sum();
        match (compared, passed_over) {
            (0, 0) if self.expectations.is_empty() => "0%".to_owned(),
            (_, 0) => "100%".to_owned(),
            // Rounded down, in hundredths of a percent: what is not whole must not read as if it were.
            (compared, passed_over) => {
                let hundredths = u128::from(compared) * 10_000 / (u128::from(compared) + u128::from(passed_over));
                format!("{}.{:02}%", hundredths / 100, hundredths % 100)
            }
        }
    }

    /// The short of it.
    pub fn short(&self) -> Verified {
        let mut short = Verified { finding: self.finding, covered: self.covered(), ..Verified::default() };
        for table in &self.tables {
            short.tables += 1;
            short.rows += table.rows_seen();
            short.differing += table.differing;
            short.repaired += table.repaired.total();
            short.settled += table.settled;
            short.unsettled += table.unsettled;
            short.duplicates += table.duplicates.iter().map(|duplicate| duplicate.rows).sum::<u64>();
            short.barriers += table.barriers.len() as u64;
            let longest = table.barriers.iter().map(BarrierSeen::hold_us).max().unwrap_or(0);
            short.longest_hold_ms = short.longest_hold_ms.max(longest.div_ceil(1_000));
            let named =
                table.rows.iter().map(|row| format!("{} {} ({})", table.name, row.kind.as_str(), row.key.join(", ")));
            short.first.extend(named.map(cut));
            let doubled = table.duplicates.iter().map(|duplicate| {
                let values: Vec<_> = duplicate.values.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
                format!("{} doubled for {} ({})", table.name, duplicate.index, values.join(", "))
            });
            short.first.extend(doubled.map(cut));
        }
        for expectation in &self.expectations {
            let ExpectationSeen { holds, fails, is_null, raises, keys, .. } = expectation;
            short.rows = short.rows.max(holds + fails + is_null + raises);
            short.unmet += fails + is_null + raises;
            short.first.extend(keys.iter().map(|key| cut(format!("({})", key.join(", ")))));
        }
        short.first.truncate(SHORT_KEYS);
        short
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_KEY {
        let mut end = MAX_KEY - "…".len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_whole_does_not_read_as_if_it_were() {
        let table = TableSeen { rows_from: 999_999, passed_over: 1, ..TableSeen::default() };
        let mut evidence = Evidence { tables: vec![table], ..Evidence::default() };
        assert_eq!(evidence.covered(), "99.99%");
        evidence.tables[0].passed_over = 0;
        assert_eq!(evidence.covered(), "100%");
        evidence.tables.clear();
        assert_eq!(evidence.covered(), "0%");
    }

    #[test]
    fn a_count_alone_can_be_wrong() {
        let table = |counted| TableSeen { counted, complete: true, ..TableSeen::default() };
        assert!(table(Some((3, 2))).is_wrong() && !table(Some((3, 3))).is_wrong() && !table(None).is_wrong());
        assert_eq!(table(Some((0, 2))).rows_seen(), 2);
    }

    #[test]
    fn the_short_form_names_the_first_rows_and_stays_short() {
        let row = |n: usize| RowSeen { kind: Kind::Missing, key: vec!["é".repeat(n)], columns: Vec::new() };
        let table = TableSeen { name: "t".into(), rows: (0..90).map(row).collect(), ..TableSeen::default() };
        let evidence = Evidence { tables: vec![table.clone(), table], ..Evidence::default() };
        let short = evidence.short();
        assert_eq!(short.first.len(), 20);
        assert_eq!(short.first[1], "t missing (é)");
        assert!(serde_json::to_string(&short).unwrap().len() < 3_000);
    }
}
