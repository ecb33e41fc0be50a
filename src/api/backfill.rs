//! The `backfill` action: what a table's rows are to hold, and how fast they may come to hold it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{Percent, Span};

/// Fills columns of a live table from other columns of the same row: in chunks, in parallel, throttled, resumable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackfillAction {
    /// Name of the store, from `spec.stores`.
    #[schemars(length(min = 1, max = 63))]
    pub store: String,
    /// The table, as SQL names it. Examples: `customers`, `crm.customers`.
    #[schemars(length(min = 1, max = 131))]
    pub table: String,
    /// What each column is to hold: an immutable SQL expression over the other columns of the same row. Example: `first_name: split_part(full_name, ' ', 1)`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 2048)))]
    pub set: BTreeMap<String, String>,
    /// Which rows still need it, as an SQL condition over the row. Example: `first_name IS NULL`. With `sync: Trigger` it tells what nobody has filled yet from what a new version has written, so it must name a column of `set`. Default: every row that holds something else than `set` says.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub filter: Option<String>,
    /// How writes meanwhile are kept up with. Default: `None`.
    #[serde(default)]
    pub sync: Sync,
    /// Goes as fast as these limits allow, and no faster. Default: no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// Connections that work at the same time. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub workers: Option<u8>,
    /// Highest number of rows changed per second, by all connections together. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub rate: Option<u32>,
    /// Bounds on one chunk, which is one transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<ChunkLimits>,
    /// What a rollback does with the values that were filled in (`Keep`, default, or `Delete`). The sync trigger goes either way.
    #[serde(default)]
    pub on_rollback: FilledValues,
    /// How long a change of the schema, such as making the sync trigger, may wait for a lock before it lets go and tries again later. Default: `2s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_timeout: Option<Span>,
}

/// How writes of the application are kept up with while a backfill runs and until the migration is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Sync {
    /// Not at all: the table is swept until no row is left in need. Fails where writes make new ones faster than that.
    #[default]
    None,
    /// A trigger fills the columns of new rows, and again when what they come from changes. A write that names one of the columns itself is left alone. It stays until the migration has succeeded or is rolled back.
    Trigger,
}

/// What a rollback does with values that were filled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FilledValues {
    /// They stay: the old side doesn't read them. Another attempt computes again what has changed since.
    #[default]
    Keep,
    /// The columns go back to their default in the rows that the backfill is about, at the same pace.
    Delete,
}

/// Limits that a backfill stays within. It finds the highest pace that does. A limit that can't be read pauses it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Throttle {
    /// Name of a guard whose limit isn't to be reached: the pace follows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub guard: Option<String>,
    /// Longest that a replica may lag behind. Example: `2s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<Span>,
    /// Most sessions of the database that may wait for a lock at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub max_lock_waits: Option<u32>,
    /// Most connections to the server, the backfill's own not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_connections: Option<u32>,
    /// Largest share of the time that each connection may work; it rests in between. Example: `20%`. Default: `100%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duty: Option<Percent>,
}

/// Bounds on one chunk. Within them its size follows the time that it takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChunkLimits {
    /// Most rows that one chunk looks at. Default: 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub rows: Option<u32>,
    /// How long one chunk should take: so long may a write of the application wait for it. Default: `50ms`, with `throttle` `10ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Span>,
}
