//! The `verify` action: what must be true of the data before anything moves to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::Percent;

/// Proves that data is as it must be: either each row of one table (`store`, `table`, `expect`), or that two stores hold the same rows (`from`, `to`, `tables`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifyAction {
    /// Within one store: its name, from `spec.stores`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub store: Option<String>,
    /// Within one store: the table. Written as in SQL: unquoted names are lower-cased. Example: `shop.customers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub table: Option<String>,
    /// Within one store: boolean SQL expressions that must be true for each row. A row for which one is NULL doesn't pass. Example: `[total >= 0]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 2048)))]
    pub expect: Vec<String>,
    /// Between stores: the store that is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub from: Option<String>,
    /// Between stores: the store that must hold the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub to: Option<String>,
    /// Between stores: the tables, by name or pattern. `*` stands for any characters; a quoted part is taken as it is. Example: `[public.*]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub tables: Vec<String>,
    /// Between stores: columns not to compare, by table and name, either with `*`. Example: `[public.orders.search]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub ignore: Vec<String>,
    /// Compares the number of rows of each table as a whole. `counts: true` without `checksum` compares nothing else. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<bool>,
    /// Compares what is in the rows. Default: every row, unless `counts: true` stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Whether rows that differ are only reported (`Report`, default), or also made right in the `to` store (`Fix`).
    #[serde(default)]
    pub repair: Repair,
    /// When two values that are written differently count as equal.
    #[serde(default)]
    pub equality: Equality,
    /// Whether a verification that found no row at all passes. Default: `Fail`, for it has proven nothing.
    #[serde(default)]
    pub empty: OnEmpty,
    /// Connections to each store. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub parallelism: Option<u8>,
    /// How many verifications' whole evidence is kept, the newest ones. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub keep_evidence: Option<u8>,
}

/// Which rows' contents are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checksum {
    /// Share of the rows to compare, in key ranges drawn at random; the evidence says which share it came to. Default: `100%`.
    #[serde(default = "everything")]
    pub sample: Percent,
}

fn everything() -> Percent {
    Percent(100.0)
}

impl Default for Checksum {
    fn default() -> Self {
        Self { sample: everything() }
    }
}

/// What is done about rows that differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Repair {
    /// They are reported, and the verification doesn't pass.
    #[default]
    Report,
    /// They are made equal in the `to` store, each in a transaction that looks again and writes down what it changed; then the verification passes. Of a table in which more than 1,000 rows differ none is changed: a person should look first.
    Fix,
}

/// What a verification that found no row at all has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnEmpty {
    /// It has proven nothing and doesn't pass.
    #[default]
    Fail,
    /// There is nothing to prove, and it passes.
    Pass,
}

/// When two values that are written differently count as equal, by type. A row that differs in nothing else is counted as equal, and the evidence says how many there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Equality {
    /// `numeric`: whether `1.0` equals `1.00`. Default: `Value`, it does.
    pub numeric: Equal,
    /// `real`, `double precision`: whether `-0` equals `0`. Default: `Value`, it does.
    pub float: Equal,
    /// `interval`: whether `1 day` equals `24 hours`. Default: `Value`, it does.
    pub interval: Equal,
    /// `jsonb`: whether the number `1.0` in it equals `1.00`. Default: `Value`, it does.
    pub jsonb: Equal,
    /// All other types, such as text in a case-insensitive collation or type. Default: `Text`, only what is written alike is equal.
    pub other: Equal,
}

impl Default for Equality {
    fn default() -> Self {
        let by_value = Equal::Value;
        Self { numeric: by_value, float: by_value, interval: by_value, jsonb: by_value, other: Equal::Text }
    }
}

/// By what two values are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Equal {
    /// By the type's own `=`.
    #[default]
    Value,
    /// Only if they are written alike.
    Text,
}

impl VerifyAction {
    /// Connections to each store where the spec doesn't say.
    pub const DEFAULT_PARALLELISM: u8 = 2;

    /// Which share of the rows' contents is compared; none where only rows are counted.
    pub fn sample(&self) -> Option<Percent> {
        match (&self.checksum, self.counts) {
            (Some(checksum), _) => Some(checksum.sample),
            (None, Some(true)) => None,
            (None, Some(false) | None) => Some(everything()),
        }
    }

    /// Whether each table's rows are counted as a whole.
    pub fn counts(&self) -> bool {
        self.counts.unwrap_or(true)
    }

    /// Connections to each store.
    pub fn connections(&self) -> usize {
        usize::from(self.parallelism.unwrap_or(Self::DEFAULT_PARALLELISM).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: serde_json::Value) -> VerifyAction {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn both_shapes_read_as_their_users_write_them() {
        let within = read(serde_json::json!({
            "store": "crm", "table": "customers", "expect": ["first_name = split_part(full_name, ' ', 1)"]
        }));
        assert_eq!((within.store.as_deref(), within.expect.len()), (Some("crm"), 1));
        let between = read(serde_json::json!({
            "from": "blue", "to": "green", "tables": ["public.*"], "counts": true,
            "checksum": {"sample": "100%"}
        }));
        assert_eq!((between.sample(), between.counts()), (Some(Percent(100.0)), true));
        assert_eq!((between.repair, between.empty), (Repair::Report, OnEmpty::Fail));
    }

    #[test]
    fn every_row_is_compared_unless_counts_stand_alone() {
        assert_eq!(read(serde_json::json!({"from": "a", "to": "b"})).sample(), Some(Percent(100.0)));
        assert_eq!(read(serde_json::json!({"from": "a", "to": "b", "counts": true})).sample(), None);
        assert_eq!(read(serde_json::json!({"from": "a", "to": "b", "checksum": {}})).sample(), Some(Percent(100.0)));
        assert_eq!(
            read(serde_json::json!({"from": "a", "to": "b", "counts": true, "checksum": {"sample": "5%"}})).sample(),
            Some(Percent(5.0))
        );
    }

    #[test]
    fn values_are_equal_by_their_types_own_word_where_that_is_the_custom() {
        let policies = read(serde_json::json!({"equality": {"jsonb": "Text"}})).equality;
        assert_eq!((policies.numeric, policies.jsonb, policies.other), (Equal::Value, Equal::Text, Equal::Text));
        let default = read(serde_json::json!({})).equality;
        assert_eq!((default.numeric, default.interval, default.other), (Equal::Value, Equal::Value, Equal::Text));
    }
}
